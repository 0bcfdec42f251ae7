//! Who does not read is not dead, and who is dead is noticed also where the network takes nothing any more.

use crate::order::{greet, hear_ready, ready_with_token};
use crate::support::child::{self, Process};
use crate::support::measure::Lateness;
use crate::support::raw::{Raw, command, frame};
use crate::support::{Over, PATIENCE, alone, eventually, is_full};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Builder, Context, Dealer, Event, EventKind, Face, Message, Monitor, Pull, Push, SendFailure};

const BEAT: Duration = Duration::from_millis(200);

/// Asks every 200 ms and gives up after 400.
fn beating<S: Face>(builder: Builder<S>) -> Builder<S> {
    builder.heartbeat_interval(BEAT).heartbeat_timeout(2 * BEAT)
}

fn lost(monitor: &Monitor) -> Option<Event> {
    std::iter::from_fn(|| monitor.try_recv()).find(|event| matches!(event.kind, EventKind::Disconnected(_)))
}

/// A receiver stands at its mark for several time limits: before it has seen a second PING, with an empty send buffer
/// behind it.
#[test]
fn a_peer_of_ours_at_its_mark_is_alive() {
    for over in Over::STREAMS {
        let (context, other) = (Context::new(), Context::new());
        let push = beating(Push::builder().context(&context)).build().unwrap();
        let pull = Pull::builder().context(&other).receive_mark(10u32).build().unwrap();
        let monitor = push.monitor();
        push.connect(pull.bind(over.wildcard()).unwrap().as_str()).unwrap();
        for number in 0..2_000u32 {
            push.send(number.to_le_bytes()).unwrap();
        }
        let begin = Instant::now();
        while begin.elapsed() < 7 * BEAT {
            assert!(lost(&monitor).is_none(), "{over:?}: lost after {:?}", begin.elapsed());
            thread::sleep(BEAT / 20);
        }
        for number in 0..2_000u32 {
            assert_eq!(pull.recv_timeout(PATIENCE).unwrap(), &number.to_le_bytes()[..]);
        }
        assert_eq!((push.stats().reconnects, push.stats().dropped.total()), (0, 0));
        let _ = lost(&monitor).map(|event| panic!("{over:?}: {event}"));
    }
}

/// The same for long, with a full send buffer: it was read from before, and knows how often it is asked.
#[test]
fn a_peer_of_ours_that_stops_reading_later_is_alive() {
    for over in Over::STREAMS {
        let (context, other) = (Context::new(), Context::new());
        let push = beating(Push::builder().context(&context)).send_byte_mark(1u64 << 20).build().unwrap();
        let pull = Pull::builder().context(&other).receive_byte_mark(1u64 << 16).build().unwrap();
        let monitor = push.monitor();
        push.connect(pull.bind(over.wildcard()).unwrap().as_str()).unwrap();
        let begin = Instant::now();
        while begin.elapsed() < 3 * BEAT {
            push.send("steady").unwrap();
            assert_eq!(pull.recv_timeout(PATIENCE).unwrap(), "steady");
            thread::sleep(BEAT / 20);
        }
        let mut sent = 0;
        while push.send_timeout(vec![1; 10_000], 5 * BEAT).is_ok() {
            sent += 1;
        }
        let _ = lost(&monitor).map(|event| panic!("{over:?}: {event}"));
        for _ in 0..sent {
            assert_eq!(pull.recv_timeout(PATIENCE).unwrap().byte_len(), 10_000);
        }
        assert_eq!((push.stats().reconnects, push.stats().dropped.total()), (0, 0));
    }
}

/// A receiver that reads now and then sees PINGs further apart than they were sent: what it makes of that is not how
/// often it is asked.
#[test]
fn a_peer_of_ours_that_reads_now_and_then_is_alive() {
    thread::scope(|scope| {
        for over in Over::STREAMS {
            scope.spawn(move || reads_now_and_then(over));
        }
    });
}

fn reads_now_and_then(over: Over) {
    // As long as the peer may be silent, so that who gives signs of life half as often as it seems to be asked gives
    // too few.
    let beat = 3 * BEAT;
    let (context, other) = (Context::new(), Context::new());
    let push = Push::builder().context(&context).heartbeat_interval(beat).heartbeat_timeout(beat);
    let push = push.send_buffer(4096usize).build().unwrap();
    let pull = Pull::builder().context(&other).receive_mark(1u32).receive_buffer(4096usize).build().unwrap();
    let monitor = push.monitor();
    push.connect(pull.bind(over.wildcard()).unwrap().as_str()).unwrap();
    let mut sent = 0u32;
    for _ in 0..5 {
        let pause = Instant::now();
        while pause.elapsed() < 5 * beat / 2 {
            while push.stats().queued < 100 {
                push.send(number(sent)).unwrap();
                sent += 1;
            }
            let _ = lost(&monitor).map(|event| panic!("{over:?}: {event}"));
            thread::sleep(BEAT / 20);
        }
        // As many as lay in the way, so that the PINGs among them are seen at once.
        let unsent = sent - push.stats().queued as u32;
        while number_of(&pull.recv_timeout(PATIENCE).unwrap()) < unsent {}
    }
    assert_eq!((push.stats().reconnects, push.stats().dropped.total()), (0, 0));
}

fn number(number: u32) -> [u8; 64] {
    std::array::from_fn(|at| number.to_le_bytes()[at % 4])
}

fn number_of(message: &Message) -> u32 {
    u32::from_le_bytes(*message.first().first_chunk().unwrap())
}

/// Both send and neither reads: no answer gets through, and both stay.
#[test]
fn two_that_send_and_do_not_read_do_not_give_each_other_up() {
    let _turn = alone();
    // One whose thread does not get to run for as long as it may be silent is silent.
    assert!((0..5).any(|_| both_stay()));
}

fn both_stay() -> bool {
    let lateness = Lateness::watch();
    let (context, other) = (Context::new(), Context::new());
    let make = |context: &Context| {
        let builder = Dealer::builder().context(context).send_byte_mark(1u64 << 20).receive_byte_mark(1u64 << 20);
        builder.heartbeat_interval(BEAT / 4).heartbeat_timeout(BEAT).build().unwrap()
    };
    let (left, right) = (make(&context), make(&other));
    let monitors = [left.monitor(), right.monitor()];
    right.connect(left.bind("tcp://127.0.0.1:*").unwrap().as_str()).unwrap();
    left.wait_for_peers(1, PATIENCE).unwrap();
    let limit = Duration::from_secs(if is_full() { 60 } else { 2 });
    let begin = Instant::now();
    let mut sent = [0; 2];
    while begin.elapsed() < limit {
        let mut is_full = true;
        for (dealer, sent) in [&left, &right].into_iter().zip(&mut sent) {
            match dealer.try_send(vec![2; 10_000]) {
                Ok(()) => (*sent, is_full) = (*sent + 1, false),
                Err(error) => assert_eq!(error.reason, SendFailure::WouldBlock),
            }
        }
        if is_full {
            // It must not be this thread that keeps the others from running.
            thread::sleep(BEAT / 200);
        }
    }
    for monitor in &monitors {
        if let Some(event) = lost(monitor) {
            println!("{event}; a sleeper was {:?} late", lateness.worst());
            return false;
        }
    }
    for (dealer, sent) in [&right, &left].into_iter().zip(sent) {
        for _ in 0..sent {
            assert_eq!(dealer.recv_timeout(PATIENCE).unwrap().byte_len(), 10_000);
        }
    }
    assert_eq!((left.stats().dropped.total(), right.stats().reconnects), (0, 0));
    true
}

/// A peer that is not ours answers no PING that it does not read. While its system takes part it is not given up.
#[test]
fn a_foreign_peer_that_does_not_read_is_alive_as_long_as_its_system_is() {
    for over in Over::STREAMS {
        let push = beating(Push::builder().context(&Context::new())).send_byte_mark(1u64 << 20).build().unwrap();
        let monitor = push.monitor();
        let mut raw = Raw::connect(push.bind(over.wildcard()).unwrap().as_str()).unwrap();
        raw.shake_hands("PULL").unwrap();
        push.wait_for_peers(1, PATIENCE).unwrap();
        let mut sent = 0;
        while push.send_timeout(vec![3; 1_000], 5 * BEAT).is_ok() {
            sent += 1;
        }
        let _ = lost(&monitor).map(|event| panic!("{over:?}: {event}"));
        let mut came = 0;
        let mut writer = 0;
        while came < sent {
            let mut head = [0; 2];
            raw.read_exact(&mut head).unwrap();
            if head[0] == 4 {
                raw.read_exact(&mut vec![0; head[1].into()]).unwrap();
                raw.write_all(&command(b"\x04PONG")).unwrap();
                writer += 1;
            } else {
                raw.read_exact(&mut vec![0; 7 + 1_000]).unwrap();
                came += 1;
            }
        }
        assert!(writer > 0, "it was asked");
        assert_eq!(push.stats().dropped.total(), 0);
    }
}

/// A process that was stopped says nothing, whatever it announced.
#[test]
fn a_frozen_process_is_noticed() {
    let _turn = alone();
    for over in Over::STREAMS {
        let push = beating(Push::builder().context(&Context::new())).send_byte_mark(1u64 << 20).build().unwrap();
        let monitor = push.monitor();
        let mut reader = Process::start("reader", &[&push.bind(over.wildcard()).unwrap()]);
        push.wait_for_peers(1, PATIENCE).unwrap();
        push.send("go").unwrap();
        assert_eq!(reader.hear(), "reading");
        reader.pause();
        // With a full send buffer: what it does not take is no excuse for one that gives life signs.
        while push.try_send(vec![4; 100_000]).is_ok() {}
        let begin = Instant::now();
        eventually(PATIENCE, "the silence is noticed", || lost(&monitor).is_some());
        assert!(begin.elapsed() < PATIENCE / 3);
        reader.resume();
        reader.kill();
    }
}

/// Receives without end.
pub(crate) fn reader(arguments: &[&str]) {
    let pull = Pull::new();
    pull.connect(arguments[0]).expect("a good endpoint");
    while let Ok(message) = pull.recv() {
        if message == "go" {
            child::tell("reading");
        }
    }
}

/// The network is cut while the send buffer is full: the system finds that nothing answers any more.
#[test]
#[cfg(target_os = "linux")]
fn a_dead_network_is_noticed_behind_a_full_send_buffer() {
    // A thread has a namespace of its own, and what it starts is in it.
    let done = thread::spawn(|| {
        // SAFETY: takes a flag and changes nothing but the calling thread.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            eprintln!("SKIPPED: no right to make a network namespace ({})", std::io::Error::last_os_error());
            return;
        }
        set_loopback(true);
        for ours in [false, true].into_iter().take(if is_full() { 2 } else { 1 }) {
            let context = Context::new();
            let push = beating(Push::builder().context(&context)).send_byte_mark(1u64 << 20).build().unwrap();
            let monitor = push.monitor();
            let endpoint = push.bind("tcp://127.0.0.1:*").unwrap();
            let other = Context::new();
            let pull = Pull::builder().context(&other).receive_mark(1u32).build().unwrap();
            let mut raw = Raw::connect(endpoint.as_str()).unwrap();
            if ours {
                drop(raw);
                pull.connect(&endpoint).unwrap();
            } else {
                raw.shake_hands("PULL").unwrap();
            }
            push.wait_for_peers(1, PATIENCE).unwrap();
            while push.send_timeout(vec![5; 10_000], 5 * BEAT).is_ok() {}
            let _ = lost(&monitor).filter(|event| event.peer.is_some()).map(|event| panic!("ours {ours}: {event}"));
            set_loopback(false);
            eventually(PATIENCE, "the cut is noticed", || lost(&monitor).is_some());
            set_loopback(true);
        }
    });
    done.join().unwrap();
}

/// Turns the loopback device of the calling thread's namespace on or off.
#[cfg(target_os = "linux")]
fn set_loopback(up: bool) {
    // SAFETY: a plain socket, an all-zero request is valid, and the ioctls read and write that one request.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        assert!(socket >= 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        for (place, letter) in request.ifr_name.iter_mut().zip(b"lo") {
            *place = *letter as libc::c_char;
        }
        assert_eq!(libc::ioctl(socket, libc::SIOCGIFFLAGS, &raw mut request), 0);
        let flag = libc::IFF_UP as libc::c_short;
        let flags = request.ifr_ifru.ifru_flags;
        request.ifr_ifru.ifru_flags = if up { flags | flag } else { flags & !flag };
        assert_eq!(libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw mut request), 0);
        libc::close(socket);
    }
}

/// Whoever does not announce that it gives life signs is given none, and none goes to whoever did not ask.
#[test]
fn life_signs_go_to_those_who_asked_and_announced() {
    let pull = Pull::builder().context(&Context::new()).receive_mark(1u32).build().unwrap();
    let mut raw = Raw::connect(pull.bind("tcp://127.0.0.1:*").unwrap().as_str()).unwrap();
    raw.shake_hands("PUSH").unwrap();
    raw.write_all(&command(b"\x04PING\0\0")).unwrap();
    raw.read_exact(&mut [0; 2 + 5]).unwrap();
    for _ in 0..100 {
        raw.write_all(&frame(false, b"more than the mark")).unwrap();
    }
    eventually(PATIENCE, "it stands at its mark", || pull.stats().unread > 0);
    raw.set_read_timeout(2 * BEAT);
    assert!(raw.read(&mut [0; 1]).is_err(), "nothing comes unasked");
}

/// Each sign goes out when it is given, not with the one after it: a peer that may be silent for as long as it lets
/// pass between two PINGs would be given up.
#[test]
fn life_signs_come_twice_in_the_time_between_two_questions() {
    let pull = Pull::builder().context(&Context::new()).receive_mark(1u32).build().unwrap();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let mut raw = greet(endpoint.as_str(), &ready_with_token("PUSH", 3));
    hear_ready(&mut raw);
    let hear_pong = |raw: &mut Raw| raw.read_exact(&mut [0; 2 + 5]).unwrap();
    for _ in 0..3 {
        raw.write_all(&command(b"\x04PING\0\0")).unwrap();
        hear_pong(&mut raw);
        thread::sleep(2 * BEAT);
    }
    for _ in 0..100 {
        raw.write_all(&frame(false, b"more than the mark")).unwrap();
    }
    hear_pong(&mut raw);
    let gaps = (0..6).map(|_| {
        let begin = Instant::now();
        hear_pong(&mut raw);
        begin.elapsed()
    });
    let gaps: Vec<Duration> = gaps.collect();
    let fitting = gaps.iter().filter(|gap| (BEAT / 2..BEAT * 3 / 2).contains(gap)).count();
    assert!(fitting >= 4, "{gaps:?}");
}

/// A PING comes behind what was sent before it, which may take longer than any time limit.
#[test]
fn life_signs_are_given_while_a_long_message_comes_slowly() {
    let pull = Pull::builder().context(&Context::new()).build().unwrap();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let mut raw = greet(endpoint.as_str(), &ready_with_token("PUSH", 3));
    hear_ready(&mut raw);
    let hear_pong = |raw: &mut Raw| raw.read_exact(&mut [0; 2 + 5]);
    raw.write_all(&command(b"\x04PING\0\0")).unwrap();
    hear_pong(&mut raw).expect("an answer");
    raw.set_read_timeout(2 * BEAT);
    let message = frame(false, &[5; 250]);
    let (begun, rest) = message.split_at(10);
    raw.write_all(begun).unwrap();
    for _ in 0..5 {
        hear_pong(&mut raw).expect("a sign of life");
    }
    raw.write_all(rest).unwrap();
    assert_eq!(pull.recv_timeout(PATIENCE).unwrap().byte_len(), 250);
    // It would see a PING now, and is silent again once it has seen one.
    raw.write_all(&command(b"\x04PING\0\0")).unwrap();
    let mut signs = 0;
    while hear_pong(&mut raw).is_ok() {
        signs += 1;
        assert!(signs < 100, "it is not asked any more");
    }
}

/// What the peer said last hides no PING, and yet it might.
#[test]
fn life_signs_for_a_peer_that_has_gone_silent_come_ever_later() {
    let pull = Pull::builder().context(&Context::new()).build().unwrap();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let mut raw = greet(endpoint.as_str(), &ready_with_token("PUSH", 3));
    hear_ready(&mut raw);
    let hear_pong = |raw: &mut Raw| raw.read_exact(&mut [0; 2 + 5]);
    for _ in 0..2 {
        raw.write_all(&command(b"\x04PING\0\0")).unwrap();
        hear_pong(&mut raw).expect("an answer");
        thread::sleep(BEAT / 40);
    }
    raw.write_all(&frame(false, b"the last")).unwrap();
    assert_eq!(pull.recv_timeout(PATIENCE).unwrap(), "the last");
    raw.set_read_timeout(2 * BEAT);
    let mut signs = 0;
    while hear_pong(&mut raw).is_ok() {
        signs += 1;
        assert!(signs < 100, "it has asked twice");
    }
    assert!(signs >= 4, "{signs}: a PING might be on its way");
}

#[test]
fn a_peer_of_ours_to_which_the_way_is_slow_is_alive() {
    let (context, other) = (Context::new(), Context::new());
    let push = beating(Push::builder().context(&context)).build().unwrap();
    let pull = Pull::builder().context(&other).build().unwrap();
    let monitor = push.monitor();
    let bound = pull.bind("tcp://127.0.0.1:*").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    push.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let mut near = listener.accept().unwrap().0;
    let mut far = TcpStream::connect(bound.as_str().trim_start_matches("tcp://")).unwrap();
    let (mut back_from, mut back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
    let back = thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
    push.send(vec![1; 1_000_000]).unwrap();
    // It all is on its way before the next PING, and takes seven time limits.
    let slow = thread::spawn(move || {
        let mut octets = [0; 10_000];
        while let Ok(got @ 1..) = near.read(&mut octets) {
            if far.write_all(&octets[..got]).is_err() {
                return;
            }
            thread::sleep(BEAT / 7);
        }
        let _ = far.shutdown(Shutdown::Both);
    });
    assert_eq!(pull.recv_timeout(PATIENCE).unwrap().byte_len(), 1_000_000);
    let _ = lost(&monitor).map(|event| panic!("{event}"));
    assert_eq!(push.stats().reconnects, 0);
    drop((push, pull));
    slow.join().unwrap();
    let _ = back.join().unwrap();
}
