//! What a peer sends where nobody receives, or ever may, is not kept without bound.

use crate::support::raw::{self, Raw};
use crate::support::{Over, PATIENCE, eventually, times};
use std::io::Write;
use wiremesh::{Context, Pub, Pull, Push, Stats, Sub, XPub, XSub};

/// A context that could not hold what is sent here.
fn small() -> Context {
    Context::builder().byte_budget(Some(1 << 20)).build()
}

/// A peer of that kind sends so many messages of 10,000 octets in two frames, and 10 large ones. Returns it, and how
/// many messages that were.
fn flood(endpoint: &str, kind: &str) -> (Raw, u64) {
    let mut peer = Raw::connect(endpoint).unwrap();
    peer.shake_hands(kind).unwrap();
    let count = times(10_000);
    let one = [raw::frame(true, b"first"), raw::frame(false, &[5; 10_000])].concat();
    for _ in 0..count {
        peer.write_all(&one).unwrap();
    }
    let mut large = raw::long_header(false, 100_000).to_vec();
    large.extend([5; 100_000]);
    for _ in 0..10 {
        peer.write_all(&large).unwrap();
    }
    (peer, count as u64 + 10)
}

fn all_is_discarded(stats: impl Fn() -> Stats, count: u64) {
    eventually(PATIENCE, "all is read and counted", || stats().discarded == count);
    let Stats { unread, received, received_bytes, .. } = stats();
    assert_eq!((unread, received), (0, 0));
    assert!(received_bytes > count * 10_000, "what came is counted as such");
}

#[test]
fn a_push_discards_what_a_stranger_sends_and_counts_it() {
    let context = small();
    let push = Push::in_context(&context);
    let endpoint = push.bind("tcp://127.0.0.1:*").unwrap();
    let (stranger, count) = flood(endpoint.as_str(), "PULL");
    all_is_discarded(|| push.stats(), count);
    drop(stranger);
    eventually(PATIENCE, "the stranger is gone", || push.stats().connections == 0);
    let pull = Pull::in_context(&context);
    pull.connect(&endpoint).unwrap();
    push.send("message").unwrap();
    assert_eq!(pull.recv_timeout(PATIENCE).unwrap(), "message");
}

#[test]
fn a_conflating_push_discards_it_as_well() {
    let push = Push::builder().context(&small()).conflate(true).build().unwrap();
    let (_stranger, count) = flood(push.bind("tcp://127.0.0.1:*").unwrap().as_str(), "PULL");
    all_is_discarded(|| push.stats(), count);
}

#[test]
fn a_pub_counts_the_messages_it_discards() {
    let context = small();
    let publisher = Pub::in_context(&context);
    let endpoint = publisher.bind("tcp://127.0.0.1:*").unwrap();
    let (_stranger, count) = flood(endpoint.as_str(), "XSUB");
    all_is_discarded(|| publisher.stats(), count);
    let sub = Sub::in_context(&context);
    sub.subscribe("").unwrap();
    sub.connect(&endpoint).unwrap();
    publisher.wait_for_subscribers(1, PATIENCE).unwrap();
    publisher.send("message").unwrap();
    assert_eq!(sub.recv_timeout(PATIENCE).unwrap(), "message");
}

#[test]
fn the_marks_bound_what_waits_at_an_xpub_of_the_same_process_nobody_receives_from() {
    let context = Context::new();
    let xpub = XPub::builder().context(&context).receive_mark(10).build().unwrap();
    let xsub = XSub::builder().context(&context).send_mark(10).build().unwrap();
    xsub.connect(xpub.bind(Over::Inproc.wildcard()).unwrap()).unwrap();
    let count = times(100_000) as u64;
    for number in 0..count {
        xsub.send(format!("message {number}")).unwrap();
    }
    let unread = xpub.stats().unread;
    assert!(unread <= 20, "{}", xpub.stats());
    assert_eq!(xsub.stats().dropped.high_water_mark, count - unread, "{}", xsub.stats());
    // Subscriptions are heard all the same, and reading makes room.
    xsub.subscribe("topic").unwrap();
    xpub.wait_for_subscribers_to("topic", 1, PATIENCE).unwrap();
    for round in 0..5 {
        while xpub.stats().unread > 0 {
            assert!(xpub.recv_timeout(PATIENCE).is_ok());
        }
        for number in 0..10 {
            xsub.send(format!("round {round}, message {number}")).unwrap();
        }
        assert_eq!(xpub.stats().unread, 10, "round {round}");
    }
}
