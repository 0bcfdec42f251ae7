//! Connections without bound: `max_connections`.

use crate::order::{Relay, greet, hear_ready, ready_with_token};
use crate::support::raw::{Raw, command, frame, greeting, property, ready};
use crate::support::{Over, PATIENCE, eventually};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wiremesh::{AnySocket, Cause, Context, EventKind, Monitor, Profile, Pull, Push, Router, SocketKind};

pub(crate) fn refusal(monitor: &Monitor) -> String {
    loop {
        let event = monitor.recv_timeout(PATIENCE).expect("it is told");
        if let EventKind::HandshakeFailed(cause @ Cause::Refused(_)) = event.kind {
            return cause.to_string();
        }
    }
}

/// A peer of that kind.
fn partner(kind: SocketKind) -> SocketKind {
    match kind {
        SocketKind::Pub => SocketKind::Sub,
        SocketKind::Pull => SocketKind::Push,
        _ => SocketKind::Dealer,
    }
}

#[test]
fn newcomers_beyond_the_limit_are_refused_with_an_event_and_come_in_once_there_is_a_place() {
    for (over, kind) in Over::STREAMS.into_iter().flat_map(|over| {
        [SocketKind::Pull, SocketKind::Pub, SocketKind::Router, SocketKind::Rep].map(|kind| (over, kind))
    }) {
        let server = AnySocket::builder(kind).context(&Context::new()).max_connections(2u32).build().unwrap();
        let monitor = server.monitor();
        let endpoint = server.bind(over.wildcard()).unwrap();
        let clients = Context::new();
        let mut first: Vec<AnySocket> = (0..3)
            .map(|number| {
                let client = AnySocket::builder(partner(kind)).context(&clients).linger(Duration::ZERO);
                let client = client.reconnect_interval(Duration::from_millis(5)).build().unwrap();
                client.connect(&endpoint).unwrap();
                if number < 2 {
                    client.wait_for_peers(1, PATIENCE).unwrap();
                    server.wait_for_peers(number + 1, PATIENCE).unwrap();
                }
                client
            })
            .collect();
        let text = refusal(&monitor);
        assert!(text.contains("max_connections"), "{over:?} {kind}: {text}");
        assert_eq!(server.stats().connections, 2, "{over:?} {kind}");
        drop(first.remove(0));
        first[1].wait_for_peers(1, PATIENCE).expect("there is a place");
        eventually(PATIENCE, "two are there", || server.stats().connections == 2);
    }
}

#[test]
fn the_limit_counts_over_all_listeners_and_not_what_the_socket_connects_itself() {
    let server = Push::builder().context(&Context::new()).max_connections(2u32).build().unwrap();
    let monitor = server.monitor();
    let (one, other) = (server.bind("tcp://127.0.0.1:*").unwrap(), server.bind("ipc://*").unwrap());
    let pull = Pull::in_context(&Context::new());
    server.connect(pull.bind("tcp://127.0.0.1:*").unwrap()).unwrap();
    server.wait_for_peers(1, PATIENCE).unwrap();
    let mut peers = Vec::new();
    for (number, endpoint) in [&one, &other].into_iter().enumerate() {
        let mut raw = Raw::connect(endpoint.as_str()).unwrap();
        raw.shake_hands("PULL").unwrap();
        server.wait_for_peers(number + 2, PATIENCE).unwrap();
        peers.push(raw);
    }
    let mut third = Raw::connect(one.as_str()).unwrap();
    assert!(third.is_closed_within(PATIENCE), "it is refused at once");
    refusal(&monitor);
    assert_eq!(server.stats().connections, 3);
}

/// A crowd that comes at once does not get in beyond the limit, whatever the order of their handshakes.
#[test]
fn a_crowd_that_comes_at_once_stays_within_the_limit() {
    let server = Pull::builder().context(&Context::new()).max_connections(5u32).build().unwrap();
    let endpoint = server.bind("tcp://127.0.0.1:*").unwrap();
    // All are accepted before the first handshake is done.
    let mut crowd: Vec<Raw> = (0..20).map(|_| Raw::connect(endpoint.as_str()).unwrap()).collect();
    let good = crowd.iter_mut().filter_map(|raw| raw.shake_hands("PUSH").ok()).count();
    assert!(good >= 5, "{good}");
    eventually(PATIENCE, "five are in", || server.stats().connections == 5);
    drop(crowd);
}

#[test]
fn who_is_refused_for_the_limit_does_not_take_the_server_for_an_old_one() {
    for over in Over::STREAMS {
        let server = Pull::builder().context(&Context::new()).max_connections(1u32).build().unwrap();
        let endpoint = server.bind(over.wildcard()).unwrap();
        let clients = Context::new();
        let first = Push::in_context(&clients);
        first.connect(&endpoint).unwrap();
        server.wait_for_peers(1, PATIENCE).unwrap();
        let second = Push::builder().context(&clients).reconnect_interval(Duration::from_millis(5)).build().unwrap();
        let monitor = second.monitor();
        second.connect(&endpoint).unwrap();
        eventually(PATIENCE, "it is refused again and again", || second.endpoints()[0].attempts >= 5);
        while let Some(event) = monitor.try_recv() {
            let text = event.to_string();
            assert!(!text.contains("ZMTP 1.0") && !text.contains("without a word"), "{over:?}: {text}");
        }
    }
}

// ----- who comes back -----

/// A socket that has a place for one connection.
fn place_for_one(half_open: u32) -> (Pull, String) {
    let options = Pull::builder().context(&Context::new()).max_connections(1u32).half_open_limit(half_open);
    let pull = options.handshake_timeout(None).build().unwrap();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    (pull, endpoint.to_string())
}

#[test]
fn a_peer_that_comes_back_takes_its_own_place_once_its_old_connection_does_not_answer() {
    for over in Over::STREAMS {
        let pull = Pull::builder().context(&Context::new()).max_connections(1u32).build().unwrap();
        let endpoint = pull.bind(over.wildcard()).unwrap();
        let mut old = greet(endpoint.as_str(), &ready_with_token("PUSH", 7));
        hear_ready(&mut old);
        old.write_all(&frame(false, b"old")).unwrap();
        let mut new = greet(endpoint.as_str(), &ready_with_token("PUSH", 7));
        hear_ready(&mut new);
        new.write_all(&frame(false, b"new")).unwrap();
        for wanted in ["old", "new"] {
            assert_eq!(pull.recv_timeout(PATIENCE).unwrap(), wanted, "{over:?}");
        }
        assert!(old.is_closed_within(PATIENCE), "{over:?}");
        assert_eq!(pull.stats().connections, 1, "{over:?}");
    }
}

#[test]
fn while_the_old_connection_answers_a_second_one_of_the_same_token_is_refused_for_the_limit() {
    let (pull, endpoint) = place_for_one(1024);
    let mut old = greet(&endpoint, &ready_with_token("PUSH", 7));
    hear_ready(&mut old);
    let mut new = greet(&endpoint, &ready_with_token("PUSH", 7));
    let mut ping = [0; 9];
    old.read_exact(&mut ping).expect("it is asked");
    assert_eq!(&ping, b"\x04\x07\x04PING\x00\x00");
    old.write_all(&command(b"\x04PONG")).unwrap();
    let mut told = Vec::new();
    new.read_to_end(&mut told).expect("it is told, and closed");
    let text = String::from_utf8_lossy(&told);
    assert!(text.contains("ERROR") && text.contains("max_connections"), "{text}");
    old.write_all(&frame(false, b"still here")).unwrap();
    assert_eq!(pull.recv_timeout(PATIENCE).unwrap(), "still here");
}

/// A READY of a DEALER with that routing id.
pub(crate) fn ready_with_id(id: &str) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    property(&mut body, "Socket-Type", b"DEALER");
    property(&mut body, "Identity", id.as_bytes());
    command(&body)
}

#[test]
fn who_takes_over_a_routing_id_takes_the_place_of_the_one_who_had_it() {
    let options = Router::builder().context(&Context::new()).max_connections(2u32).handover(true);
    let router = options.mandatory(true).build().unwrap();
    let endpoint = router.bind("tcp://127.0.0.1:*").unwrap();
    let mut come = |id: &str| greet(endpoint.as_str(), &ready_with_id(id));
    let [mut other, mut old] = ["other", "D"].map(&mut come);
    for raw in [&mut other, &mut old] {
        hear_ready(raw);
    }
    for _ in 0..3 {
        let mut new = come("D");
        hear_ready(&mut new);
        assert!(old.is_closed_within(PATIENCE), "it has lost its place");
        new.write_all(&frame(false, b"message")).unwrap();
        let (id, message) = router.recv_timeout(PATIENCE).unwrap();
        assert!(id == *b"D" && message == "message");
        router.send_to("D", "answer").unwrap();
        assert_eq!(router.stats().connections, 2);
        old = new;
    }
    // Nobody has that id.
    assert!(come("E").is_closed_within(PATIENCE), "it is one too many");
    other.write_all(&frame(false, b"still here")).unwrap();
    assert_eq!(router.recv_timeout(PATIENCE).unwrap().1, "still here");
}

#[test]
fn what_one_had_sent_whose_routing_id_and_place_went_to_another_is_not_answered_to_that_one() {
    let options = Router::builder().context(&Context::new()).max_connections(1u32).handover(true);
    let router = options.mandatory(true).build().unwrap();
    let endpoint = router.bind("tcp://127.0.0.1:*").unwrap();
    let mut old = greet(endpoint.as_str(), &ready_with_id("D"));
    hear_ready(&mut old);
    old.write_all(&frame(false, b"request")).unwrap();
    eventually(PATIENCE, "the request has come", || router.stats().unread == 1);
    let mut new = greet(endpoint.as_str(), &ready_with_id("D"));
    hear_ready(&mut new);
    assert!(old.is_closed_within(PATIENCE), "it has lost its place");
    eventually(PATIENCE, "the newcomer is there", || router.send_to("D", "first").is_ok());
    let (id, message) = router.recv_timeout(PATIENCE).unwrap();
    assert_eq!(message, "request");
    assert!(id != *b"D", "that id leads to the newcomer");
    assert!(router.send_to(id, "answer").is_err(), "nobody is there to get it");
    router.send_to("D", "second").unwrap();
    for wanted in [&b"first"[..], b"second"] {
        let mut got = vec![0; wanted.len() + 2];
        new.read_exact(&mut got).unwrap();
        assert_eq!(got, frame(false, wanted));
    }
}

#[test]
fn a_newcomer_that_does_not_say_who_it_is_is_refused_and_never_told_that_the_socket_is_ready() {
    let (pull, endpoint) = place_for_one(1024);
    let monitor = pull.monitor();
    let mut first = greet(&endpoint, &ready_with_token("PUSH", 7));
    hear_ready(&mut first);
    let mut silent = Raw::connect(&endpoint).unwrap();
    // This one waits for the other side's READY before it says its own.
    let mut waiting = Raw::connect(&endpoint).unwrap();
    waiting.write_all(&greeting()).unwrap();
    for raw in [&mut silent, &mut waiting] {
        let mut told = Vec::new();
        raw.read_to_end(&mut told).expect("it is closed");
        assert_eq!(told.len(), greeting().len(), "a greeting and no more");
        assert!(refusal(&monitor).contains("max_connections"));
    }
    assert_eq!(pull.stats().connections, 1);
}

#[test]
fn a_socket_that_does_not_hold_its_ready_back_refuses_whoever_comes_beyond_the_limit_before_it() {
    let options = Pull::builder().context(&Context::new()).profile(Profile::Libzmq).max_connections(1u32);
    let pull = options.build().unwrap();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let mut first = greet(endpoint.as_str(), &ready("PUSH"));
    hear_ready(&mut first);
    eventually(PATIENCE, "the first has its place", || pull.stats().connections == 1);
    let mut second = Raw::connect(endpoint.as_str()).unwrap();
    second.write_all(&greeting()).unwrap();
    let mut told = Vec::new();
    // Its greeting was not read, so the connection may end with a reset.
    let ended = second.read_to_end(&mut told).err().map(|error| error.kind());
    assert!(matches!(ended, None | Some(ErrorKind::ConnectionReset)), "{ended:?}");
    assert!(told.len() <= greeting().len(), "a greeting and no more: {told:?}");
}

/// A peer that waits for the other side's READY before it says its own; it has that of the socket when this returns.
pub(crate) fn waiting(endpoint: &str) -> Raw {
    let mut raw = Raw::connect(endpoint).unwrap();
    raw.write_all(&greeting()).unwrap();
    hear_ready(&mut raw);
    raw
}

#[test]
fn a_peer_that_waits_for_our_ready_gets_it_with_a_place_and_keeps_that() {
    let (pull, endpoint) = place_for_one(1024);
    let mut waiting = waiting(&endpoint);
    let mut second = greet(&endpoint, &ready_with_token("PUSH", 7));
    let mut told = Vec::new();
    second.read_to_end(&mut told).expect("it is refused");
    assert!(String::from_utf8_lossy(&told).contains("max_connections"), "{told:?}");
    waiting.write_all(&[&ready("PUSH")[..], &frame(false, b"message")].concat()).unwrap();
    assert_eq!(pull.recv_timeout(PATIENCE).unwrap(), "message");
    assert_eq!(pull.stats().connections, 1);
}

#[test]
fn a_peer_in_its_handshake_when_the_places_run_out_is_not_told_that_the_socket_is_ready() {
    let (pull, endpoint) = place_for_one(1024);
    // When this one was accepted there was a place.
    let mut waiting = Raw::connect(&endpoint).unwrap();
    waiting.write_all(&greeting()).unwrap();
    waiting.read_exact(&mut [0; 64]).expect("a greeting");
    let mut first = greet(&endpoint, &ready_with_token("PUSH", 7));
    hear_ready(&mut first);
    let mut told = Vec::new();
    waiting.read_to_end(&mut told).expect("it is refused");
    assert_eq!(told, [], "a greeting and no more");
    assert_eq!(pull.stats().connections, 1);
}

#[test]
fn a_socket_that_does_not_hold_its_ready_back_has_a_place_for_whoever_got_it() {
    let options = Pull::builder().context(&Context::new()).profile(Profile::Libzmq).max_connections(1u32);
    let pull = options.build().unwrap();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let mut first = waiting(endpoint.as_str());
    let mut second = Raw::connect(endpoint.as_str()).unwrap();
    let _ = second.write_all(&[&greeting()[..], &ready("PUSH")].concat());
    let mut told = Vec::new();
    let _ = second.read_to_end(&mut told);
    assert!(told.len() <= greeting().len(), "a greeting and no more: {told:?}");
    first.write_all(&[&ready("PUSH")[..], &frame(false, b"message")].concat()).unwrap();
    assert_eq!(pull.recv_timeout(PATIENCE).unwrap(), "message");
}

#[test]
fn who_has_our_ready_and_says_nothing_loses_its_place_to_a_peer_that_is_ready() {
    for profile in [Profile::Wiremesh, Profile::Libzmq] {
        let options = Pull::builder().context(&Context::new()).profile(profile).max_connections(1u32);
        let pull = options.handshake_timeout(None).build().unwrap();
        let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
        let mut silent = waiting(endpoint.as_str());
        let push = Push::builder().context(&Context::new()).reconnect_interval(Duration::from_millis(10));
        let push = push.reconnect_max(Duration::from_millis(50)).build().unwrap();
        push.connect(&endpoint).unwrap();
        push.send("message").unwrap();
        assert_eq!(pull.recv_timeout(PATIENCE).unwrap(), "message", "{profile:?}");
        assert!(silent.is_closed_within(PATIENCE), "{profile:?}");
    }
}

#[test]
fn a_flood_of_strangers_does_not_keep_a_peer_from_coming_back() {
    let (pull, endpoint) = place_for_one(8);
    let mut old = greet(&endpoint, &ready_with_token("PUSH", 7));
    hear_ready(&mut old);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Five times as many as have a place for their handshake, and always new ones.
            let mut strangers = VecDeque::new();
            while !over.load(Ordering::SeqCst) {
                strangers.extend(Raw::connect(&endpoint));
                if strangers.len() > 40 {
                    strangers.pop_front();
                }
            }
        });
        let comes_back = || {
            let mut new = greet(&endpoint, &ready_with_token("PUSH", 7));
            let mut theirs = [0; 66];
            new.read_exact(&mut theirs).is_ok().then_some(new)
        };
        let mut new = None;
        eventually(PATIENCE, "it is back", || {
            new = comes_back();
            new.is_some()
        });
        over.store(true, Ordering::SeqCst);
        let mut new = new.expect("it is back");
        let mut rest = [0; 64];
        let _ = new.read(&mut rest).expect("the body of a READY");
        new.write_all(&frame(false, b"back")).unwrap();
        assert_eq!(pull.recv_timeout(PATIENCE).unwrap(), "back");
    });
}

/// As the others, with a peer that is one of ours on both sides of the loss.
#[test]
fn a_socket_that_connects_again_gets_its_place_and_its_queue_through() {
    let pull = Pull::builder().context(&Context::new()).max_connections(1u32).build().unwrap();
    let relay = Relay::to(pull.bind("tcp://127.0.0.1:*").unwrap().as_str());
    let push = Push::builder().context(&Context::new()).reconnect_interval(Duration::from_millis(10)).build().unwrap();
    push.connect(relay.endpoint()).unwrap();
    let mut kept = Vec::new();
    for round in 1..=3 {
        push.send("before").unwrap();
        assert_eq!(pull.recv_timeout(PATIENCE).unwrap(), "before");
        kept.extend(relay.cut(true));
        eventually(PATIENCE, "it is back", || push.stats().reconnects == round && pull.stats().connections == 1);
        push.send("after").unwrap();
        assert_eq!(pull.recv_timeout(PATIENCE).unwrap(), "after");
    }
}
