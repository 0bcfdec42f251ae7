//! PAIR (RFC 31): one peer at a time, both directions, nothing lost.

#[macro_use]
mod common;

use std::thread;
use std::time::Duration;

use common::{LONG, Net, until};
use wiremesh::{Cause, Error, EventKind, Message, Pair, SendFailure};

over!([tcp ipc inproc]:
    both_send_and_receive
    messages_of_several_frames_pass
    a_second_peer_is_refused_and_the_first_stays
    a_socket_that_connects_twice_has_one_peer
    the_next_peer_may_come_when_the_first_is_gone
    a_pair_without_a_peer_waits
    a_pair_at_its_mark_waits
    both_directions_are_busy_at_once
    what_was_received_before_the_peer_went_can_be_read
);

over!([tcp ipc]:
    a_connecting_pair_keeps_its_messages_for_the_return_of_its_peer
    a_second_peer_gets_in_once_the_first_is_gone
);

fn both_send_and_receive(net: &Net) {
    let [left, right] = [(); 2].map(|()| Pair::in_context(&net.context));
    net.join(&left, &[&right]);
    for number in 0..50u8 {
        left.send([number]).unwrap();
        right.send([number, number]).unwrap();
    }
    for number in 0..50u8 {
        assert_eq!(right.recv_timeout(LONG).unwrap(), [number]);
        assert_eq!(left.recv_timeout(LONG).unwrap(), [number, number]);
    }
}

fn messages_of_several_frames_pass(net: &Net) {
    let [left, right] = [(); 2].map(|()| Pair::in_context(&net.context));
    net.join(&left, &[&right]);
    let message = Message::from_iter(["", "a", ""]);
    left.send(message.clone()).unwrap();
    assert_eq!(right.recv_timeout(LONG).unwrap(), message);
}

fn a_second_peer_is_refused_and_the_first_stays(net: &Net) {
    let [bound, first, second] = [(); 3].map(|()| Pair::in_context(&net.context));
    let endpoint = net.join(&bound, &[&first]);
    let monitor = if net.is_stream() { bound.monitor() } else { second.monitor() };
    let outcome = second.connect(&endpoint);
    if net.is_stream() {
        outcome.unwrap();
    } else {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::InvalidEndpoint { .. }), "{error:?}");
        assert!(error.to_string().contains("peer already"), "{error}");
    }
    while !matches!(monitor.recv_timeout(LONG).unwrap().kind, EventKind::HandshakeFailed(Cause::Refused(_))) {}
    // Within the process the call has told; else it goes on trying, for the place may be free soon.
    assert_eq!(second.connected().is_empty(), !net.is_stream());
    bound.send("for the first").unwrap();
    first.send("from the first").unwrap();
    assert_eq!(first.recv_timeout(LONG).unwrap(), "for the first");
    assert_eq!(bound.recv_timeout(LONG).unwrap(), "from the first");
    assert_eq!(bound.stats().connections, 1);
}

fn a_second_peer_gets_in_once_the_first_is_gone(net: &Net) {
    let [bound, first, second] = [(); 3].map(|()| Pair::in_context(&net.context));
    let endpoint = net.join(&bound, &[&first]);
    let monitor = bound.monitor();
    second.connect(&endpoint).unwrap();
    second.send("kept").unwrap();
    while !matches!(monitor.recv_timeout(LONG).unwrap().kind, EventKind::HandshakeFailed(Cause::Refused(_))) {}
    drop(first);
    assert_eq!(bound.recv_timeout(LONG).unwrap(), "kept");
    bound.send("welcome").unwrap();
    assert_eq!(second.recv_timeout(LONG).unwrap(), "welcome");
}

fn a_socket_that_connects_twice_has_one_peer(net: &Net) {
    let [left, right, connector] = [(); 3].map(|()| Pair::in_context(&net.context));
    net.join(&left, &[&connector]);
    let endpoint = net.fresh();
    right.bind(&endpoint).unwrap();
    // A call that cannot come to anything says so.
    assert!(connector.connect(&endpoint).is_err());
    connector.send("for the left").unwrap();
    assert_eq!(left.recv_timeout(LONG).unwrap(), "for the left");
    assert_eq!(right.stats().connections, 0);
}

fn the_next_peer_may_come_when_the_first_is_gone(net: &Net) {
    let bound = Pair::in_context(&net.context);
    let endpoint = net.fresh();
    bound.bind(&endpoint).unwrap();
    for round in 0..5u8 {
        let peer = Pair::in_context(&net.context);
        peer.connect(&endpoint).unwrap();
        peer.send([round]).unwrap();
        assert_eq!(bound.recv_timeout(LONG).unwrap(), [round]);
        bound.send([round]).unwrap();
        assert_eq!(peer.recv_timeout(LONG).unwrap(), [round]);
        drop(peer);
        until("it is gone", || bound.stats().connections == 0);
    }
}

fn a_pair_without_a_peer_waits(net: &Net) {
    let pair = Pair::in_context(&net.context);
    let endpoint = net.fresh();
    pair.bind(&endpoint).unwrap();
    assert_eq!(pair.try_send("x").unwrap_err().reason, SendFailure::WouldBlock);
    assert_eq!(pair.send_timeout("x", Duration::from_millis(20)).unwrap_err().reason, SendFailure::TimedOut);
    thread::scope(|scope| {
        let sender = scope.spawn(|| pair.send_timeout("x", LONG));
        let peer = Pair::in_context(&net.context);
        peer.connect(&endpoint).unwrap();
        assert_eq!(peer.recv_timeout(LONG).unwrap(), "x");
        sender.join().unwrap().unwrap();
    });
}

fn a_pair_at_its_mark_waits(net: &Net) {
    let left = Pair::builder().context(&net.context).send_mark(3u32).build().unwrap();
    let endpoint = net.fresh();
    left.connect(&endpoint).unwrap();
    for _ in 0..3 {
        left.try_send("x").unwrap();
    }
    assert_eq!(left.try_send("x").unwrap_err().reason, SendFailure::WouldBlock);
    let right = Pair::in_context(&net.context);
    right.bind(&endpoint).unwrap();
    left.send_timeout("last", LONG).unwrap();
    for wanted in ["x", "x", "x", "last"] {
        assert_eq!(right.recv_timeout(LONG).unwrap(), wanted);
    }
}

fn both_directions_are_busy_at_once(net: &Net) {
    let [left, right] =
        [(); 2].map(|()| Pair::builder().context(&net.context).send_mark(10u32).receive_mark(10u32).build().unwrap());
    net.join(&left, &[&right]);
    thread::scope(|scope| {
        for (from, to) in [(&left, &right), (&right, &left)] {
            scope.spawn(move || {
                for number in 0..5000u32 {
                    from.send(number.to_le_bytes()).unwrap();
                }
            });
            scope.spawn(move || {
                for number in 0..5000u32 {
                    assert_eq!(to.recv_timeout(LONG).unwrap(), number.to_le_bytes());
                }
            });
        }
    });
}

fn what_was_received_before_the_peer_went_can_be_read(net: &Net) {
    let [left, right] = [(); 2].map(|()| Pair::in_context(&net.context));
    net.join(&left, &[&right]);
    right.send_many(["one", "two"]).unwrap();
    drop(right);
    until("it is gone", || left.stats().connections == 0);
    assert_eq!(left.recv_timeout(LONG).unwrap(), "one");
    assert_eq!(left.recv_timeout(LONG).unwrap(), "two");
}

fn a_connecting_pair_keeps_its_messages_for_the_return_of_its_peer(net: &Net) {
    let [bound, connector] = [(); 2].map(|()| Pair::in_context(&net.context));
    let endpoint = net.join(&bound, &[&connector]);
    drop(bound);
    until("it is gone", || connector.stats().connections == 0);
    connector.send("kept").unwrap();
    let bound = Pair::in_context(&net.context);
    until("the address is free", || bound.bind(&endpoint).is_ok());
    assert_eq!(bound.recv_timeout(LONG).unwrap(), "kept");
}
