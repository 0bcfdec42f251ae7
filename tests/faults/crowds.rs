//! Connections without bound: `max_connections`.

use crate::support::raw::Raw;
use crate::support::{Over, PATIENCE, eventually};
use std::time::Duration;
use wiremesh::{AnySocket, Cause, Context, EventKind, Monitor, Push, SocketKind};

fn refusal(monitor: &Monitor) -> String {
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
    let pull = wiremesh::Pull::in_context(&Context::new());
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
    let server = wiremesh::Pull::builder().context(&Context::new()).max_connections(5u32).build().unwrap();
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
        let server = wiremesh::Pull::builder().context(&Context::new()).max_connections(1u32).build().unwrap();
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
