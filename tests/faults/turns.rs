//! Sockets that share an engine thread: whatever one of them is busy with, the others get their turn.

use crate::support::child::{self, Process};
use crate::support::measure::limit_descriptors;
use crate::support::raw::{Raw, command};
use crate::support::{Over, PATIENCE, alone, eventually, median};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{AnySocket, BudgetHalf, Context, Endpoint, EventKind, Pub, Pull, Push, Socket, SocketKind};

const ROUNDS: usize = 150;

/// Another socket of a context sends to a reader of its own.
struct Beside {
    push: Push,
    reader: Pull,
}

impl Beside {
    fn of(context: &Context) -> Beside {
        let reader = Pull::in_context(&Context::new());
        let push = Push::in_context(context);
        push.connect(reader.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
        push.wait_for_peers(1, PATIENCE).expect("it is there");
        Beside { push, reader }
    }

    /// How long a flush takes. A burst is not written by its sender, who then does not wait for it in a call of the socket: the engine
    /// flushes.
    fn flush(&self) -> Duration {
        thread::sleep(Duration::from_millis(1));
        for _ in 0..20 {
            self.push.send([0; 100]).expect("there is room");
        }
        let begin = Instant::now();
        for _ in 0..20 {
            self.reader.recv_timeout(PATIENCE).expect("it is written");
        }
        begin.elapsed()
    }
}

/// How long a flush of another socket of the flooded context takes.
fn flushes(context: &Context) -> Duration {
    let beside = Beside::of(context);
    let waits: Vec<_> = (0..ROUNDS).map(|_| beside.flush()).collect();
    median(&waits)
}

/// Sends what it is told to, again and again, as fast as it is read; reads nothing but the handshake.
pub(crate) fn flooder(arguments: &[&str]) {
    let mut peer = Raw::connect(arguments[0]).expect("it listens");
    let (kind, unit) = match arguments[1] {
        "pings" => ("PUSH", command(b"\x04PING\0\0")),
        "subscriptions" => ("SUB", [command(b"\x09SUBSCRIBEx"), command(b"\x06CANCELx")].concat()),
        _ => panic!("what?"),
    };
    peer.shake_hands(kind).expect("a handshake");
    let octets = unit.repeat((1 << 18) / unit.len());
    child::tell("begins");
    while peer.write_all(&octets).is_ok() {}
}

/// Burns a processor and does nothing else.
pub(crate) fn burner(_: &[&str]) {
    child::tell("begins");
    loop {
        std::hint::spin_loop();
    }
}

fn start(role: &str, arguments: &[&dyn ToString]) -> Vec<Process> {
    let mut processes: Vec<_> = (0..4).map(|_| Process::start(role, arguments)).collect();
    processes.iter_mut().for_each(|process| assert_eq!(process.hear(), "begins"));
    processes
}

/// Whether a socket's flush waits no more than three times as long beside four hostile processes as beside four that compute.
fn is_fair(context: &Context, endpoint: &Endpoint, flood: &str) -> bool {
    let burners = start("burner", &[]);
    let beside_burners = flushes(context);
    drop(burners);
    let alone = flushes(context);
    let flooders = start("flooder", &[endpoint, &flood]);
    let beside_flooders = flushes(context);
    drop(flooders);
    println!(
        "{flood}: a flush takes {alone:?} alone, {beside_burners:?} beside burners, {beside_flooders:?} beside flooders"
    );
    // Whoever wakes on an idle processor does so later than on one that computes.
    beside_flooders <= 3 * beside_burners.max(alone) + TURN
}

fn holds_for(context: &Context, flooded: &Socket, flood: &str) {
    let _turn = alone();
    let endpoint = flooded.bind("tcp://127.0.0.1:*").expect("bound");
    assert!((0..5).any(|_| is_fair(context, &endpoint, flood)), "a flood of {flood} keeps others waiting");
}

fn context(engine_only: bool) -> Context {
    Context::builder().engine_only(engine_only).drop_wait(Some(Duration::ZERO)).build()
}

#[test]
fn a_flood_of_pings_keeps_no_other_socket_waiting() {
    let context = context(false);
    holds_for(&context, &Pull::in_context(&context), "pings");
}

#[test]
fn nor_does_it_where_engine_threads_drive_alone() {
    let context = context(true);
    holds_for(&context, &Pull::in_context(&context), "pings");
}

#[test]
fn nor_does_a_flood_of_subscriptions() {
    let context = context(false);
    holds_for(&context, &Pub::in_context(&context), "subscriptions");
}

/// Each message goes to all of them, which is many writes.
#[test]
fn nor_does_a_flush_over_many_peers() {
    let _turn = alone();
    limit_descriptors(3 * MANY as u64);
    let context = context(false);
    let publisher = Pub::builder().context(&context).send_mark(0u32).build().expect("good options");
    let endpoint = publisher.bind(Over::Ipc.wildcard()).expect("bound");
    let _peers: Vec<Raw> = (0..MANY)
        .map(|_| {
            let mut peer = Raw::connect(endpoint.as_str()).expect("it listens");
            peer.shake_hands("SUB").expect("a handshake");
            peer.write_all(&command(b"\x09SUBSCRIBE")).expect("it fits");
            peer
        })
        .collect();
    publisher.wait_for_subscribers(MANY, PATIENCE).expect("they come");
    let is_fair = || {
        let alone = flushes(&context);
        let over = AtomicBool::new(false);
        let beside = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // One that nobody reads, and which waits for its turn in a queue.
                    publisher.send([0; 8]).expect("never waits");
                    thread::sleep(Duration::from_micros(500));
                }
            });
            let beside = flushes(&context);
            over.store(true, Ordering::Relaxed);
            beside
        });
        println!("a flush takes {alone:?} alone, {beside:?} beside one to {MANY} peers");
        beside <= alone + 2 * TURN
    };
    assert!((0..5).any(|_| is_fair()), "a flush over many peers keeps others waiting");
}

/// A subscriber of that many topics, all of which the publisher knows.
fn crowded(publisher: &AnySocket, topics: usize) -> Raw {
    let mut peer = Raw::connect(publisher.bind("tcp://127.0.0.1:*").expect("bound").as_str()).expect("it listens");
    peer.shake_hands("SUB").expect("a handshake");
    want_all(&mut peer, topics);
    eventually(PATIENCE, "all of them", || count(publisher) == topics);
    peer
}

fn want_all(peer: &mut Raw, topics: usize) {
    for number in 0..topics {
        peer.write_all(&command(format!("\x09SUBSCRIBE{number:064}").as_bytes())).expect("it is read");
    }
}

fn count(publisher: &AnySocket) -> usize {
    publisher.topic_count().expect("a publisher")
}

/// Does something again and again while a subscriber with very many topics leaves: the longest that takes, and how long the departure
/// takes in all.
fn departure(publisher: &AnySocket, topics: usize, mut once: impl FnMut() -> Duration) -> (Duration, Duration) {
    let peer = crowded(publisher, topics);
    let mut worst = Duration::ZERO;
    drop(peer);
    let begin = Instant::now();
    while count(publisher) > 0 {
        worst = worst.max(once());
    }
    (worst, begin.elapsed())
}

/// Whether in one of a few departures nothing took more than so small a part of the whole. A departure that is one step takes
/// what is beside it as long as it takes itself.
fn is_in_steps(what: &str, part: u32, mut departure: impl FnMut() -> (Duration, Duration)) {
    let mut is_fair = || {
        let (worst, whole) = departure();
        println!("{what} waits {worst:?} at most of {whole:?}");
        worst <= whole / part
    };
    assert!((0..5).any(|_| is_fair()), "{what} waits for a departure");
}

#[test]
fn a_subscriber_with_very_many_topics_that_leaves_does_not_keep_senders_waiting() {
    let _turn = alone();
    let context = context(false);
    for kind in [SocketKind::Pub, SocketKind::XPub] {
        is_in_steps(&format!("a sender of a {kind}"), 4, || {
            let publisher = AnySocket::in_context(kind, &context);
            departure(&publisher, 200_000, || {
                let before = Instant::now();
                publisher.send([b'x'; 8]).expect("never waits");
                before.elapsed()
            })
        });
    }
}

#[test]
fn nor_does_it_keep_other_sockets_waiting() {
    let _turn = alone();
    for engine_only in [false, true] {
        let context = context(engine_only);
        let beside = Beside::of(&context);
        for kind in [SocketKind::Pub, SocketKind::XPub] {
            is_in_steps(&format!("a socket beside a {kind}"), 4, || {
                let publisher = AnySocket::in_context(kind, &context);
                departure(&publisher, 200_000, || beside.flush())
            });
        }
    }
}

#[test]
fn a_subscriber_that_has_left_is_none_any_more_however_many_topics_it_leaves() {
    let _turn = alone();
    for kind in [SocketKind::Pub, SocketKind::XPub] {
        let context = context(false);
        let publisher = AnySocket::in_context(kind, &context);
        let monitor = publisher.monitor();
        let peer = crowded(&publisher, 50_000);
        drop(peer);
        while !matches!(monitor.recv_timeout(PATIENCE).expect("an event").kind, EventKind::Disconnected(_)) {}
        let topics: Vec<String> = (0..50_000).step_by(997).map(|number| format!("{number:064}")).collect();
        loop {
            let left = count(&publisher);
            assert!(publisher.wait_for_subscribers(1, Duration::ZERO).is_err());
            assert_eq!((publisher.stats().connections, publisher.peers().len()), (0, 0));
            for topic in &topics {
                publisher.send(topic.as_str()).expect("never waits");
            }
            let stats = publisher.stats();
            assert_eq!(stats.accepted, stats.dropped.unroutable, "nobody is sent anything");
            if left == 0 {
                break;
            }
        }
        // An XPUB has counted what its application has not seen.
        while publisher.recv_timeout(Duration::ZERO).is_ok() {}
        assert_eq!(context.bytes_held(BudgetHalf::Receiving), 0);
    }
}

#[test]
fn a_topic_that_somebody_else_wants_meanwhile_stays() {
    const TOPICS: usize = 50_000;
    let _turn = alone();
    let publisher = AnySocket::in_context(SocketKind::XPub, &context(false));
    let peer = crowded(&publisher, TOPICS);
    let mut other = Raw::connect(publisher.endpoints()[0].endpoint.as_str()).expect("it listens");
    other.shake_hands("SUB").expect("a handshake");
    publisher.wait_for_peers(2, PATIENCE).expect("both are there");
    drop(peer);
    let wanted: Vec<String> = (0..TOPICS).step_by(100).map(|number| format!("{number:064}")).collect();
    for topic in &wanted {
        other.write_all(&command(format!("\x09SUBSCRIBE{topic}").as_bytes())).expect("it is read");
    }
    for topic in &wanted {
        publisher.wait_for_subscribers_to(topic, 1, PATIENCE).expect("the other one");
    }
    eventually(PATIENCE, "all others are gone", || count(&publisher) == wanted.len());
    // Who follows what is shown knows the same, whatever the order in which they came and went.
    let mut known = BTreeSet::new();
    while let Ok(message) = publisher.recv_timeout(Duration::ZERO) {
        let topic = String::from_utf8(message.first()[1..].to_vec()).expect("letters");
        match message.first()[0] {
            1 => known.insert(topic),
            _ => known.remove(&topic),
        };
    }
    assert!(known.iter().eq(&wanted));
}

#[test]
fn a_subscriber_that_is_back_before_its_topics_are_gone_is_heard() {
    let _turn = alone();
    let context = context(false);
    for kind in [SocketKind::Pub, SocketKind::XPub] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let accept = || {
            let mut peer = Raw::accepted(listener.accept().expect("it connects").0);
            peer.shake_hands("SUB").expect("a handshake");
            peer
        };
        let publisher = AnySocket::builder(kind).context(&context).reconnect_interval(Duration::from_millis(1));
        let publisher = publisher.build().expect("good options");
        publisher.connect(format!("tcp://{}", listener.local_addr().expect("bound"))).expect("a good endpoint");
        let mut peer = accept();
        want_all(&mut peer, 100_000);
        eventually(PATIENCE, "all of them", || count(&publisher) == 100_000);
        drop(peer);
        let mut peer = accept();
        for topic in ["back", "and here"] {
            peer.write_all(&command(format!("\x09SUBSCRIBE{topic}").as_bytes())).expect("it is read");
        }
        for topic in ["back", "and here"] {
            publisher.wait_for_subscribers_to(topic, 1, PATIENCE).expect("it is heard");
        }
        assert_eq!(count(&publisher), 2);
        publisher.send("back again").expect("never waits");
        let mut message = [0; 12];
        peer.read_exact(&mut message).expect("it comes");
        assert_eq!(message, *b"\x00\x0aback again");
    }
}

#[test]
fn a_publisher_that_closes_while_a_subscriber_leaves_holds_nothing_any_more() {
    let _turn = alone();
    for kind in [SocketKind::Pub, SocketKind::XPub] {
        let context = context(false);
        let publisher = AnySocket::in_context(kind, &context);
        let monitor = publisher.monitor();
        drop(crowded(&publisher, 50_000));
        while !matches!(monitor.recv_timeout(PATIENCE).expect("an event").kind, EventKind::Disconnected(_)) {}
        drop(publisher);
        eventually(PATIENCE, "nothing is held", || context.bytes_held(BudgetHalf::Receiving) == 0);
        while monitor.recv_timeout(PATIENCE).is_some() {}
        assert!(monitor.is_stopped(), "the socket is done");
    }
}

/// What a turn of another socket may take, which other programs can make the rule.
const TURN: Duration = Duration::from_millis(1);
/// How many peers one socket has to write to.
const MANY: usize = 3000;
