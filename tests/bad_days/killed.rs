//! Peers that die in the middle of a message: no part of it is ever seen, and nobody else notices.

use crate::support::child::{self, Process};
use crate::support::random::Random;
use crate::support::raw::{self, Raw};
use crate::support::{Over, PATIENCE, alone, times, within};
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Context, Message, Pull, Push, RecvError};

/// Ten parts of a mebibyte.
const PARTS: usize = 10;
const PART: usize = 1 << 20;
/// How many messages of the steady senders come between two deaths, at least.
const BETWEEN: u64 = 20;

#[test]
fn senders_killed_in_the_middle_of_a_message_are_never_seen_in_part() {
    let _turn = alone();
    let deaths = times(200);
    within(PATIENCE + Duration::from_secs(deaths as u64), "the deaths", move || {
        for over in Over::STREAMS {
            die_again_and_again(over, deaths / 2);
        }
    });
}

fn die_again_and_again(over: Over, deaths: usize) {
    let context = Context::new();
    let pull = Pull::in_context(&context);
    let endpoint = pull.bind(over.wildcard()).expect("bound");
    let mut steady: Vec<Process> = (0..2).map(|who| Process::start("steady", &[&endpoint, &who])).collect();
    let mut next = [0u64; 2];
    let mut whole = 0;
    let mut random = Random::new(7);
    for death in 0..deaths {
        // Half of them are sockets of ours, cut off at some moment; half are cut off at a known place in the message.
        let known = death % 2 == 0;
        let role = if known { "half" } else { "huge" };
        let cut = random.below(PARTS * PART);
        let mut doomed = Process::start(role, &[&endpoint, &cut]);
        // One that stops at a known place dies there; the others at any moment.
        let delay = Duration::from_millis(if known { 0 } else { random.below(20) as u64 });
        let goal = next.map(|next| next + BETWEEN);
        let mut began = None;
        let mut is_dead = false;
        while !is_dead || next.iter().zip(&goal).any(|(next, goal)| next < goal) {
            if began.is_none() && doomed.try_hear(Duration::ZERO).is_some() {
                began = Some(Instant::now());
            }
            if !is_dead && began.is_some_and(|began| began.elapsed() >= delay) {
                doomed.kill();
                is_dead = true;
            }
            match pull.recv_timeout(PATIENCE) {
                Ok(message) => note(&message, &mut next, &mut whole),
                Err(error) => panic!("{over:?}, death {death}: {error}"),
            }
        }
    }
    // The steady ones stop: all that they sent is here.
    let mut sent = [0u64; 2];
    for (who, process) in steady.iter_mut().enumerate() {
        process.say("stop");
        // Somebody has to read what they are at.
        sent[who] = loop {
            if let Some(line) = process.try_hear(Duration::ZERO) {
                break line.parse().expect("a number");
            }
            if let Ok(message) = pull.recv_timeout(Duration::from_millis(1)) {
                note(&message, &mut next, &mut whole);
            }
        };
    }
    while next != sent {
        match pull.recv_timeout(PATIENCE) {
            Ok(message) => note(&message, &mut next, &mut whole),
            Err(error) => panic!("{over:?}: {error}; {next:?} of {sent:?}"),
        }
    }
    assert_eq!(pull.recv_timeout(Duration::from_millis(20)), Err(RecvError::TimedOut), "{over:?}: nothing twice");
    steady.into_iter().for_each(Process::finish);
    println!("{over:?}: {deaths} deaths, {sent:?} steady messages, {whole} huge ones came whole");
}

/// Checks a message of whomever: steady ones are in order, huge ones are whole.
fn note(message: &Message, next: &mut [u64; 2], whole: &mut u64) {
    if message.len() == 2 {
        let who = usize::from(message.frame(0).expect("two frames")[0]);
        let number = u64::from_le_bytes(message.frame(1).expect("two frames")[..8].try_into().expect("eight octets"));
        assert_eq!(number, next[who], "steady sender {who}: in order, none missing");
        next[who] += 1;
        return;
    }
    assert_eq!(message.len(), PARTS, "a huge message has all of its parts");
    for (part, frame) in message.iter().enumerate() {
        assert_eq!(frame.len(), PART, "part {part} is whole");
        assert!(frame.iter().all(|octet| usize::from(*octet) == part), "part {part} is in its place");
    }
    *whole += 1;
}

fn huge() -> Message {
    Message::from_iter((0..PARTS).map(|part| vec![part as u8; PART]))
}

/// Sends numbered messages of two frames until told to stop, then says how many.
pub(crate) fn steady(arguments: &[&str]) {
    let [endpoint, who] = arguments else { panic!("endpoint, who") };
    let who: u8 = who.parse().expect("a number");
    let push = Push::new();
    push.connect(endpoint).expect("a good endpoint");
    let stop = thread::spawn(child::listen);
    let mut number = 0u64;
    while !stop.is_finished() {
        let mut body = vec![0; 8 + (number % 500) as usize];
        body[..8].copy_from_slice(&number.to_le_bytes());
        push.send(Message::from_iter([vec![who], body])).expect("accepted");
        number += 1;
        // Steady rather than fast: the story is about the others.
        thread::sleep(Duration::from_micros(200));
    }
    child::tell(number);
}

/// Sends huge messages until killed.
pub(crate) fn send_huge(arguments: &[&str]) {
    let push = Push::new();
    push.connect(arguments[0]).expect("a good endpoint");
    push.wait_for_peers(1, PATIENCE).expect("the PULL is there");
    child::tell("sending");
    loop {
        push.send(huge()).expect("accepted");
    }
}

/// Writes a huge message up to a certain octet, by hand, and waits to be killed.
pub(crate) fn send_half(arguments: &[&str]) {
    let [endpoint, cut] = arguments else { panic!("endpoint, cut") };
    let cut: usize = cut.parse().expect("a number");
    let mut raw = Raw::connect(endpoint).expect("the PULL is there");
    raw.shake_hands("PUSH").expect("a socket");
    let mut wire = Vec::new();
    for part in 0..PARTS {
        wire.extend_from_slice(&raw::frame(part + 1 < PARTS, &vec![part as u8; PART]));
    }
    raw.write_all(&wire[..cut]).expect("the PULL reads");
    child::tell("half");
    child::listen();
}

/// The receiver dies instead: a sender that connects sends what was not taken whole to the next one, whole.
#[test]
fn a_message_cut_by_the_death_of_its_receiver_goes_to_the_next_one_whole() {
    let _turn = alone();
    for over in Over::STREAMS {
        let deaths = times(50);
        within(PATIENCE * 4, "the deaths", move || receivers_die(over, deaths));
    }
}

fn receivers_die(over: Over, deaths: usize) {
    let context = Context::new();
    let mut random = Random::new(11);
    // Two messages at a time: the mark keeps the rest with the sender.
    let push = Push::builder().context(&context).send_mark(2u32).reconnect_interval(Duration::from_millis(5));
    let push = push.reconnect_max(Duration::from_millis(20)).build().expect("good options");
    let mut first = Process::start("huge-reader", &[&over.wildcard()]);
    let endpoint = first.hear();
    push.connect(&endpoint).expect("a good endpoint");
    let sender = thread::spawn(move || {
        for number in 0.. {
            let frames = (0..PARTS).map(|part| {
                let mut frame = vec![part as u8; PART];
                frame[..8].copy_from_slice(&u64::to_le_bytes(number));
                frame
            });
            if push.send(Message::from_iter(frames)).is_err() {
                return push;
            }
        }
        push
    });
    let mut last: Option<u64> = None;
    let mut lost = 0;
    let mut reader = first;
    for death in 0..deaths {
        let mut before = Vec::new();
        // At least one comes through; then at any moment.
        before.push(reader.hear());
        let end = Instant::now() + Duration::from_millis(random.below(15) as u64);
        while Instant::now() < end {
            before.extend(reader.try_hear(Duration::from_millis(1)));
        }
        reader.kill();
        before.extend(reader.rest());
        for line in before {
            let number: u64 = line.parse().unwrap_or_else(|_| panic!("{over:?}, death {death}: {line}"));
            assert!(last.is_none_or(|last| number > last), "{over:?}: {number} after {last:?}: in order, never twice");
            let gap = number - last.map_or(0, |last| last + 1);
            // What the dead process had received, with its mark of two, and what its kernel had whole.
            assert!(gap <= 4, "{over:?}: {gap} messages before {number} are lost");
            lost += gap;
            last = Some(number);
        }
        reader = Process::start("huge-reader", &[&endpoint]);
        assert_eq!(reader.hear(), endpoint.as_str());
    }
    reader.hear();
    context.close(Duration::ZERO);
    let push = sender.join().expect("no panic");
    assert!(push.stats().is_balanced());
    assert_eq!(push.stats().dropped.disconnect, 0, "{over:?}: nothing is dropped for a connecting endpoint");
    println!("{over:?}: {deaths} deaths, {} messages of 10 MiB, {lost} lost with the dead", last.unwrap_or(0));
}

/// Binds, says where, and says the number of each huge message it receives.
pub(crate) fn huge_reader(arguments: &[&str]) {
    let pull = Pull::builder().receive_mark(2u32).build().expect("good options");
    child::tell(pull.bind(arguments[0]).expect("bound"));
    while let Ok(message) = pull.recv() {
        let number = u64::from_le_bytes(message.first()[..8].try_into().expect("eight octets"));
        let is_whole = message.len() == PARTS
            && message.iter().enumerate().all(|(part, frame)| {
                frame.len() == PART
                    && frame[..8] == number.to_le_bytes()
                    && frame[8..].iter().all(|octet| usize::from(*octet) == part)
            });
        child::tell(if is_whole { number.to_string() } else { format!("message {number} is not whole") });
    }
}
