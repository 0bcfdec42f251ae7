//! Either side goes away and comes back at the same endpoint: connecting sockets find it again without help.

use super::body::given;
use super::ends::{End, LONG, Ours, Theirs, expect_event};
use super::peer::{Folder, Peer};
use std::time::{Duration, Instant};
use wiremesh::SocketKind::*;
use wiremesh::{AnySocket, Builder, Error, EventKind};

const TCP: &str = "tcp://127.0.0.1:*";

#[test]
fn their_push_finds_us_again_after_our_restart() {
    let Some(peer) = Peer::start() else { return };
    let folder = Folder::new();
    for endpoint in endpoints(&folder) {
        let us = Ours::new(Pull);
        let endpoint = us.bind(&endpoint);
        let them = Theirs::new(&peer, "push", Push);
        quick(&them);
        them.tell("watch", "");
        them.connect(&endpoint);
        them.send(&given(["before"]));
        us.expect(&given(["before"]));
        drop(us);
        them.tell("event", "DISCONNECTED");
        let us = Ours::new(Pull);
        bind_again(&us, &endpoint);
        them.send(&given(["after"]));
        us.expect(&given(["after"]));
    }
}

#[test]
fn their_sub_hears_again_after_our_restart() {
    let Some(peer) = Peer::start() else { return };
    let folder = Folder::new();
    for endpoint in endpoints(&folder) {
        let us = Ours::new(XPub);
        let endpoint = us.bind(&endpoint);
        let them = Theirs::new(&peer, "sub", Sub);
        quick(&them);
        them.subscribe("weather");
        them.connect(&endpoint);
        us.expect(&given(["\x01weather"]));
        us.send(&given(["weather: rain"]));
        them.expect(&given(["weather: rain"]));
        drop(us);
        let us = Ours::new(XPub);
        bind_again(&us, &endpoint);
        us.expect(&given(["\x01weather"]));
        us.send(&given(["weather: sun"]));
        them.expect(&given(["weather: sun"]));
    }
}

#[test]
fn our_push_finds_their_next_process() {
    let folder = Folder::new();
    for endpoint in endpoints(&folder) {
        let Some(first) = Peer::start() else { return };
        let them = Theirs::new(&first, "pull", Pull);
        let endpoint = them.bind(&endpoint);
        let us = Ours::with(Push, soon);
        let monitor = us.monitor();
        us.connect(&endpoint);
        us.send(&given(["before"]));
        them.expect(&given(["before"]));
        first.kill();
        expect_event(&monitor, "the loss", |kind| matches!(kind, EventKind::Disconnected(_)));
        let Some(second) = Peer::start() else { return };
        let them = Theirs::new(&second, "pull", Pull);
        them.bind(&endpoint);
        us.send(&given(["after"]));
        them.expect(&given(["after"]));
    }
}

#[test]
fn our_sub_and_xsub_subscribe_again_at_their_next_process() {
    for kind in [Sub, XSub] {
        let folder = Folder::new();
        for endpoint in endpoints(&folder) {
            let Some(first) = Peer::start() else { return };
            let them = Theirs::new(&first, "pub", XPub);
            let endpoint = them.bind(&endpoint);
            let us = Ours::with(kind, soon);
            us.subscribe("kept");
            us.subscribe("left");
            us.connect(&endpoint);
            let mut seen = [them.receive(), them.receive()].concat();
            seen.sort();
            assert_eq!(seen, [b"\x01kept", b"\x01left"]);
            us.unsubscribe("left");
            them.expect(&given(["\0left"]));
            first.kill();
            let Some(second) = Peer::start() else { return };
            let them = Theirs::new(&second, "pub", XPub);
            them.bind(&endpoint);
            them.expect(&given(["\x01kept"]));
            them.send(&given(["kept"]));
            us.expect(&given(["kept"]));
            assert!(!them.has_message(), "{kind} announced a subscription twice, or one it has given up");
        }
    }
}

#[test]
fn our_dealer_keeps_its_routing_id_through_their_restart() {
    let Some(first) = Peer::start() else { return };
    let them = Theirs::new(&first, "router", Router);
    let endpoint = them.bind(TCP);
    let us = Ours::with(Dealer, |builder| soon(builder).routing_id("worker"));
    us.connect(&endpoint);
    us.send(&given(["ready"]));
    them.expect(&given(["worker", "ready"]));
    first.kill();
    let Some(second) = Peer::start() else { return };
    let them = Theirs::new(&second, "router", Router);
    them.set("ROUTER_MANDATORY", 1);
    them.bind(&endpoint);
    them.send_when_known(&given(["worker", "job"]));
    us.expect(&given(["job"]));
}

#[test]
fn our_request_is_answered_by_their_next_process() {
    let Some(first) = Peer::start() else { return };
    let them = Theirs::new(&first, "rep", Rep);
    let endpoint = them.bind(TCP);
    let us = wiremesh::Req::builder().reconnect_interval(Duration::from_millis(20)).build().expect("good options");
    us.connect(&endpoint).expect("connecting");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| us.request_with_retries("question", Duration::from_millis(500), 40));
        them.expect(&given(["question"]));
        // It dies with the question unanswered.
        first.kill();
        let Some(second) = Peer::start() else { return };
        let them = Theirs::new(&second, "rep", Rep);
        them.bind(&endpoint);
        them.expect(&given(["question"]));
        them.send(&given(["answer"]));
        assert_eq!(asking.join().expect("no panic").expect("an answer"), "answer");
    });
}

#[test]
fn a_peer_that_falls_silent_is_given_up() {
    let Some(peer) = Peer::start() else { return };
    let them = Theirs::new(&peer, "pull", Pull);
    let us = Ours::with(Push, |builder| {
        builder.heartbeat_interval(Duration::from_millis(50)).heartbeat_timeout(Duration::from_millis(300))
    });
    let monitor = us.monitor();
    us.connect(&them.bind(TCP));
    us.wait_for_peers(1, LONG).expect("connected");
    peer.signal("STOP");
    expect_event(&monitor, "the loss", |kind| matches!(kind, EventKind::Disconnected(_)));
    peer.signal("CONT");
    expect_event(&monitor, "the return", |kind| matches!(kind, EventKind::HandshakeSucceeded));
    us.send(&given(["well?"]));
    them.expect(&given(["well?"]));
}

/// A free port, and a socket file in that folder.
fn endpoints(folder: &Folder) -> [String; 2] {
    [TCP.to_owned(), format!("ipc://{}", folder.path().join("socket").display())]
}

/// Binds where a socket that was just closed may still be letting go.
fn bind_again(us: &Ours, endpoint: &str) {
    let start = Instant::now();
    while let Err(error) = us.socket().bind(endpoint) {
        assert!(matches!(error, Error::AddressInUse { .. }) && start.elapsed() < LONG, "binding again: {error}");
        std::thread::yield_now();
    }
}

fn quick(them: &Theirs<'_>) {
    them.set("RECONNECT_IVL", 20);
}

fn soon(builder: Builder<AnySocket>) -> Builder<AnySocket> {
    builder.reconnect_interval(Duration::from_millis(20)).reconnect_max(Duration::from_millis(100))
}
