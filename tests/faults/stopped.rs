//! A process is stopped, as by `docker pause` or the lid of a laptop, and runs again: it looks at what came meanwhile
//! before it judges anybody by time.

use crate::support::child::{self, Process};
use crate::support::raw::{Raw, greeting, ready};
use crate::support::{Blocked, PATIENCE, is_full};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use wiremesh::{EventKind, Pull, Push, Rep, Req};

/// Several times as long as anything here may take.
fn a_while() -> Duration {
    Duration::from_millis(if is_full() { 4000 } else { 1000 })
}

const SHORT: Duration = Duration::from_millis(300);

/// The pause is what the test is about, not a synchronisation.
fn stop_for_a_while(process: &Process, meanwhile: impl FnOnce()) {
    process.pause();
    meanwhile();
    thread::sleep(a_while());
    process.resume();
}

/// Binds and receives, itself or with engine threads alone, in time limits of which none is longer than `SHORT`.
pub(crate) fn receiver(arguments: &[&str]) {
    let context = wiremesh::Context::builder().engine_only(arguments[0] == "engine").build();
    let pull = Pull::builder().context(&context).handshake_timeout(SHORT).heartbeat_interval(SHORT / 6);
    let pull = pull.heartbeat_timeout(SHORT).build().expect("good options");
    let monitor = pull.monitor();
    child::tell(pull.bind("tcp://127.0.0.1:*").expect("bound"));
    while pull.recv().expect("a message") != "end" {}
    let ends = std::iter::from_fn(|| monitor.try_recv());
    let ends: Vec<_> = ends
        .filter(|event| matches!(event.kind, EventKind::Disconnected(_) | EventKind::HandshakeFailed(_)))
        .map(|event| format!("{:?}", event.kind))
        .collect();
    child::tell(format!("{ends:?}"));
}

const DRIVERS: [&str; 2] = ["caller", "engine"];

#[test]
fn a_process_that_was_stopped_keeps_the_connection_of_a_peer_that_goes_on() {
    for driver in DRIVERS {
        let mut process = Process::start("stopped-receiver", &[&driver]);
        // It names a time to live, within which it beats.
        let push = Push::builder().heartbeat_interval(SHORT / 6).heartbeat_ttl(SHORT);
        let push = push.heartbeat_timeout(PATIENCE).build().expect("good options");
        push.connect(process.hear()).expect("a good endpoint");
        push.send("x").expect("there is room");
        push.flush(PATIENCE).expect("it is written");
        stop_for_a_while(&process, || {
            (0..100).for_each(|_| push.send("x").expect("there is room"));
        });
        push.send("end").expect("there is room");
        assert_eq!(process.hear(), "[]", "{driver}");
        assert_eq!(push.stats().reconnects, 0, "{driver}");
        process.finish();
    }
}

#[test]
fn nor_does_it_drop_a_peer_whose_handshake_came_meanwhile() {
    for driver in DRIVERS {
        let mut process = Process::start("stopped-receiver", &[&driver]);
        let mut peer = Raw::connect(&process.hear()).expect("it listens");
        let [first, second] = [&greeting()[..11], &greeting()[11..]].map(<[u8]>::to_vec);
        peer.write_all(&first).expect("it fits");
        peer.read_exact(&mut [0; 64]).expect("its greeting");
        stop_for_a_while(&process, || {
            peer.write_all(&[&second[..], &ready("PUSH")].concat()).expect("it fits");
        });
        peer.write_all(b"\0\x03end").expect("it is connected");
        assert_eq!(process.hear(), "[]", "{driver}");
        process.finish();
    }
}

/// What it needs for the handshake is still on its way: the peer was stopped as well.
#[test]
fn nor_one_that_was_stopped_as_well_and_answers_a_moment_later() {
    let mut process = Process::start("stopped-receiver", &[&"caller"]);
    let mut peer = Raw::connect(&process.hear()).expect("it listens");
    peer.read_exact(&mut [0; 64]).expect("its greeting");
    stop_for_a_while(&process, || ());
    thread::sleep(Duration::from_millis(50));
    peer.write_all(&[&greeting()[..], &ready("PUSH"), b"\0\x03end"].concat()).expect("it is connected");
    assert_eq!(process.hear(), "[]");
    process.finish();
}

/// Receives once with a time limit.
pub(crate) fn patient(_: &[&str]) {
    let pull = Pull::new();
    child::tell(pull.bind("tcp://127.0.0.1:*").expect("bound"));
    pull.wait_for_peers(1, PATIENCE).expect("it comes");
    child::tell("waits");
    child::tell(pull.recv_timeout(SHORT).map_or_else(|error| error.to_string(), |message| message.to_string()));
}

#[test]
fn a_receive_whose_time_is_over_when_its_process_runs_again_takes_what_came_in_time() {
    let mut process = Process::start("stopped-patient", &[]);
    let push = Push::new();
    push.connect(process.hear()).expect("a good endpoint");
    assert_eq!(process.hear(), "waits");
    stop_for_a_while(&process, || push.send("in time").expect("there is room"));
    assert_eq!(process.hear(), "in time");
    process.finish();
}

/// Asks in two threads, of which the second has to wait until the first has its answer. Says how the second fared.
pub(crate) fn askers(arguments: &[&str]) {
    let req = Arc::new(Req::new());
    req.connect(arguments[0]).expect("a good endpoint");
    let ask = |question: &'static str, limit| {
        let req = Arc::clone(&req);
        let asking = Blocked::start(move || req.request(question, limit));
        asking.settle();
        asking
    };
    let _first = ask("first", PATIENCE);
    assert_eq!(child::listen().expect("a line"), "it has come");
    let second = ask("second", 2 * SHORT);
    child::tell("waits");
    let (outcome, _) = second.outcome(PATIENCE).expect("it has a limit");
    child::tell(outcome.map_or_else(|error| error.to_string(), |answer| answer.to_string()));
}

#[test]
fn a_request_whose_time_in_the_line_is_over_when_its_process_runs_again_has_its_turn_if_that_came_in_time() {
    let rep = Rep::new();
    let endpoint = rep.bind("tcp://127.0.0.1:*").expect("bound");
    let mut process = Process::start("stopped-askers", &[&endpoint]);
    let first = rep.recv_timeout(PATIENCE).expect("it asks");
    assert_eq!(first, "first");
    process.say("it has come");
    assert_eq!(process.hear(), "waits");
    stop_for_a_while(&process, || rep.send(first).expect("it asked"));
    let second = rep.recv_timeout(PATIENCE).expect("the other one asks as well");
    assert_eq!(second, "second");
    rep.send("in time").expect("it asked");
    assert_eq!(process.hear(), "in time");
    process.hang_up();
    process.finish();
}

/// Connects within a time limit, and says what came of the first attempt.
pub(crate) fn caller(arguments: &[&str]) {
    let push = Push::builder().connect_timeout(2 * SHORT).build().expect("good options");
    let monitor = push.monitor();
    push.connect(arguments[0]).expect("a good endpoint");
    loop {
        let event = monitor.recv_timeout(PATIENCE).expect("something happens");
        match event.kind {
            EventKind::ConnectDelayed => child::tell("delayed"),
            EventKind::Connected => break child::tell("connected"),
            kind => break child::tell(format!("{kind:?}")),
        }
    }
}

/// The listener's queue is full until the process is stopped, so that the connection is made while nobody looks.
#[test]
fn a_connection_that_was_made_while_the_process_was_stopped_is_used() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    listener.listen(0).expect("it listens");
    let address = listener.local_addr().expect("bound").as_socket().expect("an address");
    let _fills = std::net::TcpStream::connect(address).expect("there is room for one");
    let mut process = Process::start("stopped-caller", &[&format!("tcp://{address}")]);
    assert_eq!(process.hear(), "delayed");
    process.pause();
    let _accepted = listener.accept().expect("the first");
    // The system asks again a second after its first attempt.
    let (_second, _) = listener.accept().expect("the connection is made");
    thread::sleep(SHORT);
    process.resume();
    assert_eq!(process.hear(), "connected");
    process.finish();
}

/// Binds a PULL at the mark of whose peers nothing is read, and receives nothing.
pub(crate) fn crowded(_: &[&str]) {
    let pull = Pull::builder().receive_mark(1u32).build().expect("good options");
    child::tell(pull.bind("tcp://127.0.0.1:*").expect("bound"));
    while child::listen().is_some() {
        child::tell(pull.stats().unread);
    }
}

/// More happens at once than one look at the poll fetches, and none of what it fetches is to be read now.
#[test]
fn a_newcomer_behind_many_events_is_served_when_the_process_runs_again() {
    const PEERS: usize = 400;
    let mut process = Process::start("stopped-crowded", &[]);
    let endpoint = process.hear();
    let mut peers: Vec<Raw> = (0..PEERS)
        .map(|_| {
            let mut peer = Raw::connect(&endpoint).expect("it listens");
            peer.shake_hands("PUSH").expect("a handshake");
            peer.write_all(b"\0\x01x").expect("it fits");
            peer
        })
        .collect();
    let mut unread = String::new();
    while unread != PEERS.to_string() {
        process.say("how many?");
        unread = process.hear();
    }
    process.pause();
    peers.iter_mut().for_each(|peer| peer.write_all(b"\0\x01x").expect("it fits"));
    let mut newcomer = Raw::connect(&endpoint).expect("the system listens");
    process.resume();
    newcomer.read_exact(&mut [0; 64]).expect("its greeting");
    process.hang_up();
    process.finish();
}
