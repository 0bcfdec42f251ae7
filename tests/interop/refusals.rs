//! Peers that do not fit each other say so in their events and do no harm.

use super::body::{Body, given};
use super::ends::{End, Ours, Theirs, expect_event};
use super::peer::Peer;
use wiremesh::EventKind;
use wiremesh::SocketKind::*;

const TCP: &str = "tcp://127.0.0.1:*";

#[test]
fn kinds_that_do_not_fit_fail_their_handshake_and_do_not_disturb_others() {
    let Some(peer) = Peer::start() else { return };
    let us = Ours::new(Pull);
    let endpoint = us.bind(TCP);
    let monitor = us.monitor();
    let good = Theirs::new(&peer, "push", Push);
    good.connect(&endpoint);
    good.send(&given(["before"]));
    us.expect(&given(["before"]));
    let strange = Theirs::new(&peer, "pub", Pub);
    strange.connect(&endpoint);
    expect_failed_handshake(&monitor);
    good.send(&given(["after"]));
    us.expect(&given(["after"]));
}

#[test]
fn our_connection_to_a_kind_that_does_not_fit_fails() {
    let Some(peer) = Peer::start() else { return };
    let them = Theirs::new(&peer, "pub", Pub);
    let us = Ours::new(Pull);
    let monitor = us.monitor();
    us.connect(&them.bind(TCP));
    expect_failed_handshake(&monitor);
}

#[test]
fn mechanisms_that_differ_fail_the_handshake() {
    let Some(peer) = Peer::start() else { return };
    let us = Ours::new(Pull);
    let endpoint = us.bind(TCP);
    let monitor = us.monitor();
    let plain = Theirs::new(&peer, "plain", Push);
    plain.set("PLAIN_USERNAME", Body::from("somebody"));
    plain.set("PLAIN_PASSWORD", Body::from("secret"));
    plain.connect(&endpoint);
    expect_failed_handshake(&monitor);
    let server = Theirs::new(&peer, "server", Pull);
    server.set("PLAIN_SERVER", 1);
    let us = Ours::new(Push);
    let monitor = us.monitor();
    us.connect(&server.bind(TCP));
    expect_failed_handshake(&monitor);
}

#[test]
fn a_message_above_our_limit_ends_the_connection_and_is_not_delivered() {
    let Some(peer) = Peer::start() else { return };
    let us = Ours::with(Pull, |builder| builder.max_message_size(1000));
    let endpoint = us.bind(TCP);
    let them = Theirs::new(&peer, "push", Push);
    them.tell("watch", "");
    them.connect(&endpoint);
    them.send(&[Body::MadeUp { size: 1000, seed: 1 }]);
    us.expect(&[Body::MadeUp { size: 1000, seed: 1 }]);
    them.send(&[Body::MadeUp { size: 1001, seed: 1 }]);
    them.tell("event", "DISCONNECTED");
    let next = Theirs::new(&peer, "next", Push);
    next.connect(&endpoint);
    next.send(&given(["fits"]));
    us.expect(&given(["fits"]));
}

#[test]
fn a_second_peer_of_our_pair_is_refused_until_the_first_is_gone() {
    let Some(peer) = Peer::start() else { return };
    let us = Ours::new(Pair);
    let endpoint = us.bind(TCP);
    let first = Theirs::new(&peer, "first", Pair);
    first.connect(&endpoint);
    first.send(&given(["one"]));
    us.expect(&given(["one"]));
    let second = Theirs::new(&peer, "second", Pair);
    second.tell("watch", "");
    second.connect(&endpoint);
    second.send(&given(["kept"]));
    second.tell("event", "HANDSHAKE_FAILED_NO_DETAIL");
    us.send(&given(["for the first"]));
    first.expect(&given(["for the first"]));
    drop(first);
    us.expect(&given(["kept"]));
    us.send(&given(["welcome"]));
    second.expect(&given(["welcome"]));
}

fn expect_failed_handshake(monitor: &wiremesh::Monitor) {
    expect_event(monitor, "a failed handshake", |kind| matches!(kind, EventKind::HandshakeFailed(_)));
}
