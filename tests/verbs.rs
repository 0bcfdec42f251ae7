//! The verbs of the kinds side by side: whoever sends or receives has every form of it, and each says when its socket
//! is closed.

#[macro_use]
mod common;

use std::time::Duration;

use common::{LONG, Net, until};
use wiremesh::{
    AnySocket, Dealer, Error, Pair, Pub, Pull, Push, RecvError, RecvIntoError, Rep, Req, Router, SendFailure,
    SocketKind, Sub, XPub, XSub,
};

over!([tcp ipc inproc]:
    an_xsub_subscribes_by_every_form_of_send
    an_xsub_sends_upstream_by_every_form_of_send
    an_xsub_at_its_mark_waits_in_no_form_of_send
);

/// Calls everything that sends to whom the pattern chooses, and expects it to be refused.
macro_rules! sends {
    ($socket:expr) => {{
        let socket = $socket;
        assert_eq!(socket.send("x").unwrap_err().reason, SendFailure::Closed);
        assert_eq!(socket.try_send("x").unwrap_err().reason, SendFailure::Closed);
        assert_eq!(socket.send_timeout("x", LONG).unwrap_err().reason, SendFailure::Closed);
        assert_eq!(socket.send_many(["x", "y"]).unwrap_err().message, "x");
    }};
}

macro_rules! reserves {
    ($socket:expr $(, $name:literal)?) => {{
        let socket = $socket;
        assert_eq!(socket.reserve($($name)?).unwrap_err(), SendFailure::Closed);
        assert_eq!(socket.try_reserve($($name)?).unwrap_err(), SendFailure::Closed);
        assert_eq!(socket.reserve_timeout($($name,)? LONG).unwrap_err(), SendFailure::Closed);
    }};
}

macro_rules! receives {
    ($socket:expr) => {{
        let (socket, mut buffer) = ($socket, [0; 8]);
        assert_eq!(socket.recv().unwrap_err(), RecvError::Closed);
        assert_eq!(socket.try_recv().unwrap_err(), RecvError::Closed);
        assert_eq!(socket.recv_timeout(LONG).unwrap_err(), RecvError::Closed);
        assert_eq!(socket.recv_many(9).unwrap_err(), RecvError::Closed);
        assert!(socket.iter().next().is_none());
        assert_eq!(socket.recv_into(&mut buffer), Err(RecvIntoError::Receive(RecvError::Closed)));
        assert_eq!(socket.try_recv_into(&mut buffer), Err(RecvIntoError::Receive(RecvError::Closed)));
        assert_eq!(socket.recv_into_timeout(&mut buffer, LONG), Err(RecvIntoError::Receive(RecvError::Closed)));
    }};
}

/// A socket that is closed.
macro_rules! closed {
    ($face:ident of $net:expr) => {{
        let socket = $face::in_context(&$net.context);
        socket.close();
        socket
    }};
}

#[test]
fn every_kind_that_sends_has_every_form_of_it() {
    let net = Net::new("inproc");
    sends!(closed!(Pair of net));
    sends!(closed!(Pub of net));
    sends!(closed!(Req of net));
    sends!(closed!(Rep of net));
    sends!(closed!(Dealer of net));
    sends!(closed!(Push of net));
    sends!(closed!(XPub of net));
    sends!(closed!(XSub of net));
}

#[test]
fn a_router_has_every_form_of_sending_to_a_routing_id() {
    let net = Net::new("inproc");
    let router = closed!(Router of net);
    let any = AnySocket::in_context(SocketKind::Router, &net.context);
    any.close();
    for error in [
        router.send_to("id", "x").unwrap_err(),
        router.try_send_to("id", "x").unwrap_err(),
        router.send_to_timeout("id", "x", LONG).unwrap_err(),
        router.send_many([("id", "x"), ("id", "y")]).unwrap_err(),
        any.send_to("id", "x").unwrap_err(),
        any.try_send_to("id", "x").unwrap_err(),
        any.send_to_timeout("id", "x", LONG).unwrap_err(),
    ] {
        assert_eq!((error.reason, error.message), (SendFailure::Closed, "x".into()));
    }
}

#[test]
fn every_kind_that_can_wait_for_room_reserves_it_in_every_form() {
    let net = Net::new("inproc");
    reserves!(closed!(Pair of net));
    reserves!(closed!(Req of net));
    reserves!(closed!(Dealer of net));
    reserves!(closed!(Push of net));
    reserves!(closed!(Pub of net), "topic");
    reserves!(closed!(XPub of net), "topic");
    let router = closed!(Router of net);
    assert_eq!(router.reserve_to("id").unwrap_err(), SendFailure::Closed);
    assert_eq!(router.try_reserve_to("id").unwrap_err(), SendFailure::Closed);
    assert_eq!(router.reserve_to_timeout("id", LONG).unwrap_err(), SendFailure::Closed);
}

#[test]
fn every_kind_that_receives_has_every_form_of_it() {
    let net = Net::new("inproc");
    receives!(closed!(Pair of net));
    receives!(closed!(Sub of net));
    receives!(closed!(Req of net));
    receives!(closed!(Rep of net));
    receives!(closed!(Dealer of net));
    receives!(closed!(Pull of net));
    receives!(closed!(XPub of net));
    receives!(closed!(XSub of net));
    let (router, mut buffer) = (closed!(Router of net), [0; 8]);
    assert_eq!(router.recv().unwrap_err(), RecvError::Closed);
    assert_eq!(router.try_recv().unwrap_err(), RecvError::Closed);
    assert_eq!(router.recv_timeout(LONG).unwrap_err(), RecvError::Closed);
    assert_eq!(router.recv_many(9).unwrap_err(), RecvError::Closed);
    assert!(router.iter().next().is_none());
    let ended = || Err(RecvIntoError::Receive(RecvError::Closed));
    assert_eq!(router.recv_into(&mut buffer), ended());
    assert_eq!(router.try_recv_into(&mut buffer), ended());
    assert_eq!(router.recv_into_timeout(&mut buffer, LONG), ended());
}

#[test]
fn whoever_knows_topics_counts_them() {
    let net = Net::new("inproc");
    let (sub, xsub) = (Sub::in_context(&net.context), XSub::in_context(&net.context));
    let (publisher, xpub) = (Pub::in_context(&net.context), XPub::in_context(&net.context));
    net.join(&publisher, &[&sub]);
    net.join(&xpub, &[&xsub]);
    for topic in ["a", "b", "a"] {
        sub.subscribe(topic).unwrap();
        xsub.subscribe(topic).unwrap();
    }
    assert_eq!((sub.topic_count(), xsub.topic_count()), (2, 2));
    assert_eq!((publisher.topic_count(), xpub.topic_count()), (2, 2));
}

/// The errors of any call: the same three for all of them, here that of a closed socket.
#[test]
fn what_every_call_may_return_it_does() {
    let net = Net::new("inproc");
    let xsub = closed!(XSub of net);
    assert!(matches!(xsub.subscribe("x"), Err(Error::Closed)));
    assert!(matches!(xsub.unsubscribe("x"), Err(Error::Closed)));
    let xpub = closed!(XPub of net);
    assert!(matches!(xpub.subscribe_last("x"), Err(Error::Closed)));
    assert!(matches!(xpub.unsubscribe_last("x"), Err(Error::Closed)));
    assert!(matches!(xpub.wait_for_subscribers(1, LONG), Err(Error::Closed)));
}

fn an_xsub_subscribes_by_every_form_of_send(net: &Net) {
    let (xpub, xsub) = (XPub::in_context(&net.context), XSub::in_context(&net.context));
    net.join(&xpub, &[&xsub]);
    xsub.send(b"\x01a").unwrap();
    // What was not sent yet would be taken back by the last of these.
    assert_eq!(xpub.recv_timeout(LONG).unwrap(), b"\x01a");
    xsub.try_send(b"\x01b").unwrap();
    xsub.send_timeout(b"\x01c", LONG).unwrap();
    xsub.send_many([b"\x01d", b"\x00a"]).unwrap();
    for wanted in [b"\x01b", b"\x01c", b"\x01d", b"\x00a"] {
        assert_eq!(xpub.recv_timeout(LONG).unwrap(), wanted);
    }
    assert_eq!(xsub.topic_count(), 3);
}

fn an_xsub_sends_upstream_by_every_form_of_send(net: &Net) {
    let (xpub, xsub) = (XPub::in_context(&net.context), XSub::in_context(&net.context));
    net.join(&xpub, &[&xsub]);
    xsub.send("one").unwrap();
    xsub.try_send("two").unwrap();
    xsub.send_timeout("three", LONG).unwrap();
    xsub.send_many(["four", "five"]).unwrap();
    for wanted in ["one", "two", "three", "four", "five"] {
        assert_eq!(xpub.recv_timeout(LONG).unwrap(), wanted);
    }
}

fn an_xsub_at_its_mark_waits_in_no_form_of_send(net: &Net) {
    let xsub = XSub::builder().context(&net.context).send_mark(1u32).build().unwrap();
    // Nobody is there yet.
    xsub.connect(net.fresh()).unwrap();
    xsub.try_send("first").unwrap();
    xsub.try_send("second").unwrap();
    xsub.send_timeout("third", LONG * 2).unwrap();
    xsub.send_timeout("fourth", Duration::ZERO).unwrap();
    until("all are accounted for", || xsub.stats().accepted == 4);
    let stats = xsub.stats();
    assert!(stats.is_balanced() && stats.dropped.total() >= 3, "{stats:?}");
}
