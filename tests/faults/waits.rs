//! Waits that are too long, and wakes that nobody needs.

use crate::support::raw::{Raw, frame};
use crate::support::{Blocked, PATIENCE, alone, eventually, median};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{AnySocket, Context, Dealer, EventKind, Pull, Push, RecvError, SendFailure, SocketKind, Sub};

/// Whether the median of several waits for `time` is at most that and `SLACK`, in one of a few tries. Programs beside
/// this one make all waits longer: a plain sleep for the same time, before each of them, tells by how much.
fn is_short(time: Duration, mut wait: impl FnMut()) -> bool {
    let mut attempt = || {
        let (mut sleeps, mut waits) = (Vec::new(), Vec::new());
        for _ in 0..51 {
            let begin = Instant::now();
            thread::sleep(time);
            sleeps.push(begin.elapsed());
            let begin = Instant::now();
            wait();
            waits.push(begin.elapsed());
        }
        let (sleep, wait) = (median(&sleeps), median(&waits));
        println!("waits for {time:?} take {wait:?}, sleeps {sleep:?}");
        wait <= time + SLACK || wait <= sleep + WAKE
    };
    (0..10).any(|_| attempt())
}

const SHORT: Duration = Duration::from_micros(50);
/// What a wait may take beyond its time, with the slack of the system's timers and the wake.
const SLACK: Duration = Duration::from_micros(250);
/// What it may take beyond a sleep, which has that slack and that wake as well.
const WAKE: Duration = Duration::from_micros(100);

#[test]
fn a_receive_that_may_wait_fifty_microseconds_does_not_wait_a_millisecond() {
    let _turn = alone();
    let pull = Pull::in_context(&Context::new());
    pull.bind("tcp://127.0.0.1:*").expect("bound");
    assert!(is_short(SHORT, || assert_eq!(pull.recv_timeout(SHORT), Err(RecvError::TimedOut))));
}

#[test]
fn nor_does_a_send_at_the_mark() {
    let _turn = alone();
    let context = Context::builder().drop_wait(Some(Duration::ZERO)).build();
    let push = Push::builder().context(&context).send_mark(1u32).build().expect("good options");
    push.connect("tcp://127.0.0.1:1").expect("a good endpoint");
    push.send("x").expect("there is room");
    assert!(is_short(SHORT, || {
        assert_eq!(push.send_timeout("x", SHORT).expect_err("no room").reason, SendFailure::TimedOut);
    }));
}

#[test]
fn nor_does_one_of_more_than_a_millisecond_take_one_more() {
    let _turn = alone();
    let pull = Pull::in_context(&Context::new());
    pull.bind("ipc://*").expect("bound");
    let limit = Duration::from_micros(1100);
    assert!(is_short(limit, || assert_eq!(pull.recv_timeout(limit), Err(RecvError::TimedOut))));
}

/// How often a thread of this process has gone to sleep.
fn sleeps(thread: u64) -> u64 {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/status")).expect("a thread");
    let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).expect("a count");
    line.trim().parse().expect("a number")
}

/// How often a thread that receives on `dealer` is woken while `work` sends on it.
fn wakes(dealer: Arc<Dealer>, work: impl FnOnce()) -> u64 {
    let receiver = Blocked::start({
        let dealer = Arc::clone(&dealer);
        move || dealer.recv()
    });
    receiver.settle();
    let before = sleeps(receiver.thread_id());
    work();
    let woken = sleeps(receiver.thread_id()) - before;
    assert!(!receiver.is_done(), "nothing came");
    dealer.close();
    assert!(receiver.outcome(PATIENCE).is_some(), "it ends with the socket");
    woken
}

/// A peer of another context that reads all there is.
fn reader(dealer: &Dealer, endpoint: &str) -> Blocked<usize> {
    let reader = Dealer::in_context(&Context::new());
    dealer.connect(reader.bind(endpoint).expect("bound")).expect("a good endpoint");
    dealer.wait_for_peers(1, PATIENCE).expect("it comes");
    Blocked::start(move || (0..SENDS).take_while(|_| reader.recv_timeout(PATIENCE).is_ok()).count())
}

/// Long enough for a thread that is woken to go back to sleep.
fn pause() {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_micros(50) {
        std::hint::spin_loop();
    }
}

const SENDS: usize = 1000;

#[test]
fn a_send_does_not_wake_a_thread_that_receives_on_the_same_socket() {
    let _turn = alone();
    for endpoint in ["tcp://127.0.0.1:*", "ipc://*"] {
        let dealer = Arc::new(Dealer::in_context(&Context::new()));
        let reader = reader(&dealer, endpoint);
        let woken = wakes(Arc::clone(&dealer), || {
            for _ in 0..SENDS {
                dealer.send("x").expect("there is room");
                // A message by itself, which its sender writes.
                pause();
            }
            assert_eq!(reader.outcome(PATIENCE).expect("all is read").0, SENDS);
        });
        println!("{woken} wakes");
        assert!(woken <= SENDS as u64 / 10, "{endpoint}: {woken} wakes for {SENDS} sends");
    }
}

/// The receiver of an inproc peer that fetches messages tells their sender, whose receiving thread it does not concern.
#[test]
fn nor_does_a_peer_in_this_process_that_reads() {
    let _turn = alone();
    let context = Context::new();
    let (dealer, peer) = (Arc::new(Dealer::in_context(&context)), Dealer::in_context(&context));
    // It has a poll to sleep in.
    dealer.bind("tcp://127.0.0.1:*").expect("bound");
    dealer.bind("inproc://wakes").expect("bound");
    peer.connect("inproc://wakes").expect("it is there");
    let woken = wakes(Arc::clone(&dealer), || {
        for _ in 0..SENDS {
            dealer.send("x").expect("there is room");
            peer.recv_timeout(PATIENCE).expect("it comes");
            pause();
        }
    });
    println!("{woken} wakes");
    assert!(woken <= SENDS as u64 / 10, "{woken} wakes for {SENDS} sends");
}

/// Long messages are written by their senders as well.
#[test]
fn nor_does_a_long_message() {
    let _turn = alone();
    let dealer = Arc::new(Dealer::in_context(&Context::new()));
    let reader = reader(&dealer, "tcp://127.0.0.1:*");
    let body = vec![7; 40_000];
    let woken = wakes(Arc::clone(&dealer), || {
        for _ in 0..SENDS {
            dealer.send(&body[..]).expect("there is room");
        }
        assert_eq!(reader.outcome(PATIENCE).expect("all is read").0, SENDS);
    });
    println!("{woken} wakes");
    assert!(woken <= SENDS as u64 / 2, "{woken} wakes for {SENDS} sends");
}

// ----- messages that nobody wants -----

/// A publisher that sends what it was not asked for. What is not wanted is in the queue before what is.
#[test]
fn one_look_for_a_message_steps_over_a_bounded_number_of_those_that_nobody_wants() {
    const UNWANTED: usize = 200_000;
    for engine_only in [false, true] {
        let context = Context::builder().engine_only(engine_only).build();
        let sub = Sub::builder().context(&context).receive_mark(0u32).build().expect("good options");
        sub.subscribe("wanted").expect("open");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        sub.connect(format!("tcp://{}", listener.local_addr().expect("bound"))).expect("a good endpoint");
        let mut publisher = Raw::accepted(listener.accept().expect("it connects").0);
        publisher.shake_hands("XPUB").expect("a handshake");
        let messages = [frame(false, b"other").repeat(UNWANTED), frame(false, b"wanted")].concat();
        publisher.write_all(&messages).expect("all is taken");
        eventually(PATIENCE, "all is there", || sub.stats().unread == UNWANTED as u64 + 1);
        for _ in 0..3 {
            let before = sub.stats().discarded;
            assert_eq!(sub.try_recv(), Err(RecvError::WouldBlock), "the rest is for another look");
            let passed = sub.stats().discarded - before;
            assert!((1..UNWANTED as u64 / 5).contains(&passed), "{passed}");
        }
        assert_eq!(sub.recv_timeout(PATIENCE).expect("nothing more comes, and it is there"), "wanted");
        assert_eq!(sub.stats().discarded, UNWANTED as u64);
    }
}

// ----- a ring that nobody can hear -----

/// More than a socket refuses in the looks of one call.
const REFUSED: usize = 10_000;

/// A socket of that kind with a peer in its process alone, and so without a reactor. It has refused so much in one look
/// that whoever drives was rung for another one.
fn rung(kind: SocketKind) -> (AnySocket, AnySocket) {
    let context = Context::new();
    let make = |kind| AnySocket::builder(kind).context(&context).build();
    let peer = make(if kind == SocketKind::Sub { SocketKind::Pub } else { SocketKind::Dealer }).expect("good options");
    let socket = make(kind).expect("good options");
    peer.bind("inproc://rung").expect("a free name");
    socket.connect("inproc://rung").expect("it is there");
    if kind == SocketKind::Sub {
        socket.subscribe("").expect("open");
        peer.wait_for_subscribers(1, PATIENCE).expect("it has subscribed");
    }
    // To a REP a request without an empty frame is none.
    peer.send_many(vec!["unwanted"; REFUSED]).expect("there is room");
    if kind == SocketKind::Sub {
        socket.unsubscribe("").expect("it has subscribed");
    }
    assert_eq!(socket.try_recv(), Err(RecvError::WouldBlock), "the rest is for another look");
    assert!((1..REFUSED as u64).contains(&socket.stats().discarded), "{}", socket.stats());
    (socket, peer)
}

#[test]
fn a_socket_that_was_rung_before_it_had_a_reactor_connects_and_comes_to_its_end() {
    for kind in [SocketKind::Sub, SocketKind::Rep] {
        let (socket, _peer) = rung(kind);
        let monitor = socket.monitor();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("it can");
        socket.connect(format!("tcp://{}", listener.local_addr().expect("bound"))).expect("a good endpoint");
        eventually(PATIENCE, "it connects", || listener.accept().is_ok());
        socket.close();
        eventually(PATIENCE, "the end", || {
            monitor.try_recv().is_some_and(|event| matches!(event.kind, EventKind::MonitorStopped))
        });
    }
}

#[test]
fn a_socket_that_was_rung_before_it_had_a_reactor_accepts() {
    for kind in [SocketKind::Sub, SocketKind::Rep] {
        let (socket, _peer) = rung(kind);
        let endpoint = socket.bind("tcp://127.0.0.1:*").expect("a port");
        let mut peer = Raw::connect(endpoint.as_str()).expect("it listens");
        peer.shake_hands(if kind == SocketKind::Sub { "PUB" } else { "REQ" }).expect("it is accepted");
    }
}
