//! Sockets that share an engine thread: whatever one of them is busy with, the others get their turn.

use crate::support::child::{self, Process};
use crate::support::measure::limit_descriptors;
use crate::support::raw::{Raw, command};
use crate::support::{Over, PATIENCE, alone, eventually, median};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{AnySocket, Context, Endpoint, Pub, Pull, Push, Socket, SocketKind};

const ROUNDS: usize = 150;

/// Another socket of the flooded context sends to a reader of its own: how long a flush takes.
fn flushes(context: &Context) -> Duration {
    let reader = Pull::in_context(&Context::new());
    let push = Push::in_context(context);
    push.connect(reader.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
    push.wait_for_peers(1, PATIENCE).expect("it is there");
    // A burst, which is not written by its sender, who then does not wait for it in a call of the socket: the engine flushes.
    let waits: Vec<_> = (0..ROUNDS)
        .map(|_| {
            thread::sleep(Duration::from_millis(1));
            for _ in 0..20 {
                push.send([0; 100]).expect("there is room");
            }
            let begin = Instant::now();
            for _ in 0..20 {
                reader.recv_timeout(PATIENCE).expect("it is written");
            }
            begin.elapsed()
        })
        .collect();
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

/// How long a send and a question wait at most while a subscriber with very many topics leaves, and how long that takes.
fn departure(publisher: &AnySocket) -> (Duration, Duration) {
    const TOPICS: usize = 100_000;
    let topics = || publisher.topic_count().expect("a publisher");
    let mut peer = Raw::connect(publisher.bind("tcp://127.0.0.1:*").expect("bound").as_str()).expect("it listens");
    peer.shake_hands("SUB").expect("a handshake");
    let topic = |number: usize| command(format!("\x09SUBSCRIBE{number:064}").as_bytes());
    peer.write_all(&(0..TOPICS).flat_map(topic).collect::<Vec<_>>()).expect("it is read");
    eventually(PATIENCE, "all of them", || topics() == TOPICS);
    drop(peer);
    let (mut begin, mut worst) = (Instant::now(), Duration::ZERO);
    loop {
        let before = Instant::now();
        publisher.send([b'x'; 8]).expect("never waits");
        let left = topics();
        worst = worst.max(before.elapsed());
        match left {
            0 => return (worst, begin.elapsed()),
            TOPICS => begin = before,
            _ => {}
        }
    }
}

#[test]
fn a_subscriber_with_very_many_topics_that_leaves_does_not_keep_senders_waiting() {
    let _turn = alone();
    let is_fair = |publisher: &AnySocket| {
        let (worst, whole) = departure(publisher);
        println!("a {}: a send waits {worst:?} at most of {whole:?}", publisher.kind());
        worst <= whole / 2
    };
    let context = context(false);
    for kind in [SocketKind::Pub, SocketKind::XPub] {
        let is_fair = || is_fair(&AnySocket::in_context(kind, &context));
        assert!((0..5).any(|_| is_fair()), "a {kind} keeps senders waiting");
    }
}

/// What a turn of another socket may take, which other programs can make the rule.
const TURN: Duration = Duration::from_millis(1);
/// How many peers one socket has to write to.
const MANY: usize = 3000;
