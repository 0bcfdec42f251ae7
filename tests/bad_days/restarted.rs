//! The binding side comes back again and again, under load: those that connect lose at most what the dead process or
//! its kernel held, keep order, never duplicate, and subscribers hear again without help.

use crate::support::child::{self, Process};
use crate::support::random::Random;
use crate::support::{Over, PATIENCE, alone, eventually, is_full, times, within};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Context, Dealer, Pub, Pull, Push, RecvError, Router, SendFailure, Stats, Sub};

/// Octets of a message with its header.
const SIZE: u64 = 100;
const MARK: u32 = 200;
/// What a kernel holds at most for a connection, with the buffers set as here; the kernel doubles what is asked for.
const BUFFER: usize = 64 << 10;
/// How many messages a dead process can take along: its mark, what one read brings beyond it, and both kernels'
/// buffers.
const HELD: u64 = MARK as u64 + (256 << 10) / SIZE + 4 * BUFFER as u64 / SIZE + 64;

#[test]
fn those_who_connect_over_tcp_survive_restarts_of_the_binding_side() {
    survive(Over::Tcp);
}

#[test]
fn those_who_connect_over_ipc_survive_restarts_of_the_binding_side() {
    survive(Over::Ipc);
}

/// What the binding side saw of one stream: kept in a file, because the process is killed.
///
/// Each life of each stream has a row of three numbers: the first message and the last one it received, both plus one,
/// and how many were out of order.
struct Ledger(File);

const STREAMS: [&str; 2] = ["push", "dealer"];

impl Ledger {
    fn row(life: u64, stream: usize) -> u64 {
        (life * STREAMS.len() as u64 + stream as u64) * 24
    }

    fn write(&self, life: u64, stream: usize, row: [u64; 3]) {
        let bytes: Vec<u8> = row.iter().flat_map(|cell| cell.to_le_bytes()).collect();
        self.0.write_all_at(&bytes, Ledger::row(life, stream)).expect("a file");
    }

    fn read(&self, life: u64, stream: usize) -> [u64; 3] {
        let mut bytes = [0; 24];
        // A life that received nothing may have left no row.
        let _ = self.0.read_exact_at(&mut bytes, Ledger::row(life, stream));
        [0, 8, 16].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight octets")))
    }
}

fn survive(over: Over) {
    let _turn = alone();
    let restarts = times(50) as u64;
    within(PATIENCE + Duration::from_secs(2 * restarts), "the restarts", move || restart(over, restarts));
}

fn restart(over: Over, restarts: u64) {
    let path = std::env::temp_dir().join(format!("restarts-{}-{}", over.name(), std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).expect("a file");
    let ledger = Ledger(file);
    let mut endpoints: Vec<String> = vec![over.fixed(), over.fixed(), over.fixed()];
    let mut binder = start(&path.display().to_string(), 0, &mut endpoints);

    let context = Context::new();
    let (interval, longest) = (Duration::from_millis(10), Duration::from_millis(100));
    let push = Push::builder().context(&context).send_mark(MARK).send_buffer(BUFFER);
    let push = Arc::new(push.reconnect_interval(interval).reconnect_max(longest).build().expect("good options"));
    let dealer = Dealer::builder().context(&context).send_mark(MARK).send_buffer(BUFFER).routing_id("dealer");
    let dealer = Arc::new(dealer.reconnect_interval(interval).reconnect_max(longest).build().expect("good options"));
    let sub = Sub::builder().context(&context).reconnect_interval(interval).reconnect_max(longest);
    let sub = sub.build().expect("good options");
    sub.subscribe("tick").expect("subscribed");
    push.connect(&endpoints[0]).expect("a good endpoint");
    dealer.connect(&endpoints[1]).expect("a good endpoint");
    sub.connect(&endpoints[2]).expect("a good endpoint");

    let stop = Arc::new(AtomicBool::new(false));
    let heard = Arc::new(AtomicU64::new(0));
    let pusher = thread::spawn({
        let (push, stop) = (Arc::clone(&push), Arc::clone(&stop));
        move || load(&stop, |body| push.send_timeout(body, Duration::from_millis(50)).map_err(|error| error.reason))
    });
    let asker = thread::spawn({
        let (dealer, stop) = (Arc::clone(&dealer), Arc::clone(&stop));
        move || load(&stop, |body| dealer.send_timeout(body, Duration::from_millis(50)).map_err(|error| error.reason))
    });
    let answers = thread::spawn({
        let dealer = Arc::clone(&dealer);
        move || check_answers(&dealer)
    });
    let listener = thread::spawn({
        let heard = Arc::clone(&heard);
        move || check_ticks(&sub, &heard)
    });

    let mut random = Random::new(3);
    for life in 0..restarts {
        eventually(PATIENCE, "both streams reach the new process", || {
            (0..STREAMS.len()).all(|stream| ledger.read(life, stream)[1] > 0)
        });
        eventually(PATIENCE, "the SUB hears it without help", || heard.load(Ordering::SeqCst) == life + 1);
        let end = Instant::now() + Duration::from_millis(random.below(60) as u64);
        eventually(PATIENCE, "a moment of load", || Instant::now() >= end);
        if life % 3 == 2 {
            // An orderly end now and then: unread messages are discarded as well.
            binder.say("stop");
            binder.finish();
        } else {
            binder.kill();
        }
        binder = start(&path.display().to_string(), life + 1, &mut endpoints);
    }
    eventually(PATIENCE, "the last one is reached", || {
        (0..STREAMS.len()).all(|stream| ledger.read(restarts, stream)[1] > 0)
    });
    stop.store(true, Ordering::SeqCst);
    let sent = [pusher.join().expect("no panic"), asker.join().expect("no panic")];
    for (stream, sent) in sent.into_iter().enumerate() {
        eventually(PATIENCE, "the last message arrives", || ledger.read(restarts, stream)[1] == sent);
    }
    push.flush(PATIENCE).expect("the PULL reads");
    dealer.flush(PATIENCE).expect("the ROUTER reads");
    let stats = [push.stats(), dealer.stats()];
    for (stream, (sent, stats)) in sent.into_iter().zip(stats).enumerate() {
        check_stream(&ledger, over, stream, restarts, sent, stats);
    }
    context.shutdown();
    answers.join().expect("answers are in order");
    listener.join().expect("ticks are in order");
    binder.kill();
    std::fs::remove_file(&path).expect("ours");
}

fn check_stream(ledger: &Ledger, over: Over, stream: usize, restarts: u64, sent: u64, stats: Stats) {
    let name = format!("{} over {}", STREAMS[stream], over.name());
    let mut next = 0;
    let mut lost = 0;
    let mut worst = 0;
    for life in 0..=restarts {
        let [first, last, disorder] = ledger.read(life, stream);
        assert_eq!(disorder, 0, "{name}, life {life}: a message is out of order or missing within one connection");
        let first = first.checked_sub(1).expect("each life receives something");
        assert!(first >= next, "{name}, life {life}: {first} comes again, {next} is next");
        let gap = first - next;
        assert!(gap <= HELD, "{name}, life {life}: {gap} messages are lost; the dead process held {HELD} at most");
        worst = worst.max(gap);
        lost += gap;
        next = last;
    }
    assert_eq!(next, sent, "{name}: the last message arrives");
    assert!(stats.is_balanced(), "{name}: {stats:?}");
    assert_eq!((stats.accepted, stats.written, stats.dropped.total()), (sent, sent, 0), "{name}: {stats:?}");
    assert!(stats.reconnects >= restarts, "{name}: {stats:?}");
    println!("{name}: {restarts} restarts, {sent} sent, {lost} lost with the dead, {worst} at worst");
}

/// Starts the binding side and learns its endpoints.
fn start(path: &str, life: u64, endpoints: &mut [String]) -> Process {
    let mut binder = Process::start("binder", &[&path, &life, &endpoints[0], &endpoints[1], &endpoints[2]]);
    for endpoint in endpoints {
        *endpoint = binder.hear();
    }
    binder
}

/// Sends numbered messages until stopped; says how many.
fn load(stop: &AtomicBool, mut send: impl FnMut([u8; SIZE as usize - 2]) -> Result<(), SendFailure>) -> u64 {
    let mut number = 0u64;
    let mut body = [0; SIZE as usize - 2];
    while !stop.load(Ordering::SeqCst) {
        body[..8].copy_from_slice(&number.to_le_bytes());
        match send(body) {
            Ok(()) => number += 1,
            Err(SendFailure::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
    }
    number
}

/// Answers may be lost with the dead; those that come are in order, and none comes twice.
fn check_answers(dealer: &Dealer) {
    let mut last = None;
    loop {
        match dealer.recv() {
            Ok(message) => {
                let number = number(message.first());
                assert!(last.is_none_or(|last| number > last), "{number} after {last:?}");
                last = Some(number);
            }
            Err(RecvError::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Ticks of one life follow each other without a gap; `heard` says whose were heard last, counted from one.
fn check_ticks(sub: &Sub, heard: &AtomicU64) {
    let mut last: Option<(u64, u64)> = None;
    loop {
        match sub.recv() {
            Ok(message) => {
                let text = message.to_str().expect("text");
                let mut words = text.split(' ').skip(1).map(|word| word.parse::<u64>().expect("a number"));
                let (life, tick) = (words.next().expect("a life"), words.next().expect("a tick"));
                match last {
                    Some((same, before)) if same == life => assert_eq!(tick, before + 1, "life {life}"),
                    Some((former, _)) => assert!(life > former, "{life} after {former}"),
                    None => {}
                }
                last = Some((life, tick));
                heard.store(life + 1, Ordering::SeqCst);
            }
            Err(RecvError::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn number(body: &[u8]) -> u64 {
    u64::from_le_bytes(*body.first_chunk::<8>().expect("a numbered message"))
}

/// Subscriptions know no mark: however many there are, each is made again with every new publisher.
#[test]
fn no_subscription_is_lost_in_restarts_of_the_publisher() {
    let _turn = alone();
    for over in Over::STREAMS {
        within(PATIENCE * 4, "the restarts", move || resubscribe(over));
    }
}

fn resubscribe(over: Over) {
    let topics = if is_full() { 200_000 } else { 20_000 };
    let context = Context::new();
    let sub = Sub::builder().context(&context).receive_mark(1u32).reconnect_interval(Duration::from_millis(10));
    let sub = sub.reconnect_max(Duration::from_millis(50)).build().expect("good options");
    for topic in 0..topics {
        sub.subscribe(format!("topic/{topic}/")).expect("subscribed");
    }
    let mut endpoint = over.fixed();
    for life in 0..if is_full() { 20 } else { 4 } {
        let mut publisher = Process::start("publisher", &[&endpoint, &topics]);
        endpoint = publisher.hear();
        if life == 0 {
            sub.connect(&endpoint).expect("a good endpoint");
        }
        assert_eq!(publisher.hear(), topics.to_string(), "{over:?}, life {life}: all topics are known");
        publisher.say("publish");
        for topic in (0..topics).step_by(997) {
            let message = sub.recv_timeout(PATIENCE).expect("it is subscribed");
            assert_eq!(message, format!("topic/{topic}/").as_str(), "{over:?}, life {life}");
        }
        publisher.kill();
    }
}

/// Binds, waits until that many topics are subscribed to, and publishes on some of them when told.
pub(crate) fn publisher(arguments: &[&str]) {
    let [endpoint, topics] = arguments else { panic!("endpoint, topics") };
    let topics: usize = topics.parse().expect("a number");
    let publisher = Pub::new();
    child::tell(publisher.bind(endpoint).expect("bound"));
    eventually(PATIENCE, "all topics are known", || publisher.topic_count() == topics);
    child::tell(publisher.topic_count());
    child::listen();
    for topic in (0..topics).step_by(997) {
        publisher.send(format!("topic/{topic}/")).expect("never waits");
        publisher.send(format!("topic/{topics}/{topic}")).expect("never waits");
    }
    child::listen();
}

/// The binding side: receives, keeps the ledger, answers and ticks, until killed or told to stop.
pub(crate) fn binder(arguments: &[&str]) {
    let [path, life, pull_at, router_at, pub_at] = arguments else { panic!("path, life, three endpoints") };
    let life: u64 = life.parse().expect("a number");
    let ledger = Arc::new(Ledger(OpenOptions::new().read(true).write(true).open(path).expect("the parent made it")));
    let context = Context::new();
    let pull = Pull::builder().context(&context).receive_mark(MARK).receive_buffer(BUFFER);
    let pull = pull.build().expect("good options");
    let router = Router::builder().context(&context).receive_mark(MARK).receive_buffer(BUFFER);
    let router = router.build().expect("good options");
    let publisher = Pub::in_context(&context);
    let bind = |socket: &wiremesh::Socket, endpoint: &str| {
        // The kernel may need a moment to let go of the name.
        let mut bound = None;
        eventually(PATIENCE, "the endpoint is free", || {
            bound = socket.bind(endpoint).ok();
            bound.is_some()
        });
        child::tell(bound.expect("bound"));
    };
    bind(&pull, pull_at);
    bind(&router, router_at);
    bind(&publisher, pub_at);
    let puller = thread::spawn({
        let ledger = Arc::clone(&ledger);
        move || {
            let mut row = [0; 3];
            while let Ok(message) = pull.recv() {
                keep(&mut row, number(message.first()));
                ledger.write(life, 0, row);
            }
        }
    });
    let answerer = thread::spawn(move || {
        let mut row = [0; 3];
        while let Ok((id, message)) = router.recv() {
            let number = number(message.first());
            keep(&mut row, number);
            ledger.write(life, 1, row);
            // It never waits; it fails once the context is shut down.
            if number % 16 == 0 && router.send_to(&id, number.to_le_bytes()).is_err() {
                return;
            }
        }
    });
    let ticker = thread::spawn(move || {
        for tick in 0u64.. {
            if publisher.send(format!("tick {life} {tick}")).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    child::listen();
    context.shutdown();
    for thread in [puller, answerer, ticker] {
        thread.join().expect("no panic");
    }
}

/// Notes a message: within one life each follows the one before.
fn keep(row: &mut [u64; 3], number: u64) {
    let [first, last, disorder] = row;
    if *first == 0 {
        *first = number + 1;
    } else if number != *last {
        *disorder += 1;
    }
    *last = number + 1;
}
