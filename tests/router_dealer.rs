//! ROUTER and DEALER (RFC 28): routing ids, who may have them, and what becomes of messages for nobody.

#[macro_use]
mod common;
#[path = "common/full.rs"]
mod full;

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use common::{LONG, Net, until};
use full::fill;
use wiremesh::options::RouterNotify;
use wiremesh::{
    AnySocket, Cause, Dealer, Error, EventKind, Message, Monitor, RecvError, Req, Router, RoutingId, SendFailure,
    Setting, SocketKind,
};

over!([tcp ipc inproc]:
    a_router_knows_a_peer_by_the_id_it_chose
    a_peer_without_an_id_gets_five_octets_of_which_the_first_is_zero
    a_generated_id_stays_while_the_peer_is_there
    a_router_adds_and_takes_nothing_from_a_message
    an_untyped_router_has_the_id_in_the_first_frame
    an_untyped_router_needs_an_id_in_front
    a_message_for_an_unknown_id_is_dropped_and_counted
    under_mandatory_an_unknown_id_is_an_error
    the_id_of_a_peer_that_is_gone_is_unknown
    the_id_of_a_sender_that_is_gone_is_still_told
    many_at_once_come_with_their_ids_when_all_their_senders_are_gone
    a_message_for_a_full_peer_is_dropped_and_counted
    under_mandatory_a_full_peer_is_waited_for
    a_full_peer_costs_the_others_nothing
    a_second_peer_with_the_same_id_is_refused
    under_handover_a_second_peer_takes_the_id
    an_id_is_free_again_when_its_peer_is_gone
    a_probe_comes_before_everything_else
    a_router_that_probes_is_known_to_the_other
    a_router_may_name_the_peer_it_connects_to
    a_name_for_a_peer_serves_one_connection_only
    a_name_for_a_peer_that_is_taken_is_an_error
    a_router_that_connects_can_be_answered_at_once
    routers_talk_to_each_other_by_their_ids
    a_dealer_deals_to_each_peer_in_turn
    a_dealer_takes_from_each_peer_in_turn
    dealers_talk_to_each_other
    a_dealer_without_a_peer_waits
    a_router_takes_from_each_peer_in_turn
    many_dealers_get_their_own_replies
    a_hello_message_is_the_first_that_a_peer_receives
    a_router_is_told_when_a_peer_comes_and_when_it_goes
    a_router_is_told_of_what_it_asked_for_and_nothing_else
    a_disconnect_message_is_the_last_that_comes_from_a_peer
    the_ids_of_all_who_left_are_told_however_many_they_are
    a_router_answers_many_messages_at_once
    an_untyped_router_sends_and_receives_many_at_once
);

over!([tcp ipc]:
    a_newcomer_whose_id_is_taken_gets_in_once_the_holder_is_gone
    a_newcomer_whose_id_stays_taken_comes_ever_less_often
    a_router_that_connects_to_a_taken_id_tries_again
    an_id_stays_across_a_reconnect
    each_new_connection_begins_with_the_hello_message
    a_dealer_is_told_of_a_connection_that_will_be_made_again
    a_connection_that_a_dealer_ends_itself_is_no_hiccup
    a_router_that_connects_is_told_of_each_loss
);

fn router(net: &Net) -> Router {
    Router::in_context(&net.context)
}

fn dealer(net: &Net, id: &str) -> Dealer {
    Dealer::builder().context(&net.context).routing_id(id).build().unwrap()
}

/// The first event of which `wanted` says something.
fn event<T>(monitor: &Monitor, wanted: impl Fn(EventKind) -> Option<T>) -> T {
    loop {
        let event = monitor.recv_timeout(LONG).expect("the event comes");
        if let Some(found) = wanted(event.kind) {
            return found;
        }
    }
}

fn a_router_knows_a_peer_by_the_id_it_chose(net: &Net) {
    let router = router(net);
    let long = "x".repeat(255);
    let dealers = ["a", "worker-2", long.as_str()].map(|id| (id, dealer(net, id)));
    net.join(&router, &[&dealers[0].1, &dealers[1].1, &dealers[2].1]);
    for (id, dealer) in &dealers {
        dealer.send(*id).unwrap();
        let (from, message) = router.recv_timeout(LONG).unwrap();
        assert_eq!((from.as_bytes(), message), (id.as_bytes(), (*id).into()));
        router.send_to(id, *id).unwrap();
        assert_eq!(dealer.recv_timeout(LONG).unwrap(), *id);
    }
}

fn a_peer_without_an_id_gets_five_octets_of_which_the_first_is_zero(net: &Net) {
    let router = router(net);
    let dealers = [(); 5].map(|()| Dealer::in_context(&net.context));
    net.join(&router, &[&dealers[0], &dealers[1], &dealers[2], &dealers[3], &dealers[4]]);
    let mut ids = HashSet::new();
    for dealer in &dealers {
        dealer.send("who am I?").unwrap();
        let (id, _) = router.recv_timeout(LONG).unwrap();
        assert_eq!((id.as_bytes().len(), id.as_bytes()[0]), (5, 0), "{id:?}");
        assert!(ids.insert(id), "the id was given before");
    }
}

fn a_generated_id_stays_while_the_peer_is_there(net: &Net) {
    let (router, dealer) = (router(net), Dealer::in_context(&net.context));
    net.join(&dealer, &[&router]);
    dealer.send_many(["one", "two"]).unwrap();
    let (first, _) = router.recv_timeout(LONG).unwrap();
    let (second, _) = router.recv_timeout(LONG).unwrap();
    assert_eq!(first, second);
    router.send_to(&first, "answer").unwrap();
    assert_eq!(dealer.recv_timeout(LONG).unwrap(), "answer");
}

fn a_router_adds_and_takes_nothing_from_a_message(net: &Net) {
    let (router, dealer) = (router(net), dealer(net, "d"));
    net.join(&router, &[&dealer]);
    for message in [
        Message::new(),
        Message::from_iter(["", ""]),
        Message::from_iter(["a", "", "b"]),
        Message::from_iter(["d", "not the id"]),
        Message::from(vec![5; 100_000]),
    ] {
        dealer.send(message.clone()).unwrap();
        assert_eq!(router.recv_timeout(LONG).unwrap().1, message);
        router.send_to("d", message.clone()).unwrap();
        assert_eq!(dealer.recv_timeout(LONG).unwrap(), message);
    }
}

fn an_untyped_router_has_the_id_in_the_first_frame(net: &Net) {
    let (router, dealer) = (AnySocket::in_context(SocketKind::Router, &net.context), dealer(net, "d"));
    net.join(&router, &[&dealer]);
    dealer.send(Message::from_iter(["one", "two"])).unwrap();
    let message = router.recv_timeout(LONG).unwrap();
    assert_eq!(message, Message::from_iter(["d", "one", "two"]));
    router.send(message).unwrap();
    assert_eq!(dealer.recv_timeout(LONG).unwrap(), Message::from_iter(["one", "two"]));
}

fn an_untyped_router_needs_an_id_in_front(net: &Net) {
    let (router, dealer) = (AnySocket::in_context(SocketKind::Router, &net.context), dealer(net, "d"));
    net.join(&router, &[&dealer]);
    let error = router.send("d").unwrap_err();
    assert!(matches!(error.reason, SendFailure::Unacceptable(_)), "{error}");
    assert_eq!(error.message, "d");
}

fn a_message_for_an_unknown_id_is_dropped_and_counted(net: &Net) {
    let (router, dealer) = (router(net), dealer(net, "d"));
    net.join(&router, &[&dealer]);
    for id in [&b"unknown"[..], b"", b"dd", &[0, 0, 0, 0, 0], &[1; 300]] {
        router.send_to(id, "lost").unwrap();
    }
    router.send_to("d", "kept").unwrap();
    assert_eq!(dealer.recv_timeout(LONG).unwrap(), "kept");
    let stats = router.stats();
    assert_eq!((stats.accepted, stats.dropped.unroutable), (6, 5));
}

fn under_mandatory_an_unknown_id_is_an_error(net: &Net) {
    let router = Router::builder().context(&net.context).mandatory(true).build().unwrap();
    let dealer = dealer(net, "d");
    net.join(&router, &[&dealer]);
    for error in [
        router.send_to("unknown", "handed back").unwrap_err(),
        router.try_send_to("unknown", "handed back").unwrap_err(),
        router.send_to_timeout("unknown", "handed back", LONG).unwrap_err(),
    ] {
        assert_eq!((error.reason, error.message), (SendFailure::Unroutable, "handed back".into()));
    }
    assert_eq!(router.stats().accepted, 0);
    router.set(Setting::Mandatory(false)).unwrap();
    router.send_to("unknown", "dropped").unwrap();
}

fn the_id_of_a_peer_that_is_gone_is_unknown(net: &Net) {
    let router = Router::builder().context(&net.context).mandatory(true).build().unwrap();
    let dealer = dealer(net, "d");
    net.join(&router, &[&dealer]);
    router.send_to("d", "here").unwrap();
    drop(dealer);
    until("the peer is gone", || router.stats().connections == 0);
    assert_eq!(router.send_to("d", "gone").unwrap_err().reason, SendFailure::Unroutable);
}

fn the_id_of_a_sender_that_is_gone_is_still_told(net: &Net) {
    let (router, dealer) = (router(net), dealer(net, "d"));
    net.join(&router, &[&dealer]);
    dealer.send("last words").unwrap();
    drop(dealer);
    until("the peer is gone", || router.stats().connections == 0);
    let (id, message) = router.recv_timeout(LONG).unwrap();
    assert_eq!((id.as_bytes(), message), (&b"d"[..], "last words".into()));
}

/// More of them than are remembered after they are gone.
fn many_at_once_come_with_their_ids_when_all_their_senders_are_gone(net: &Net) {
    let router = router(net);
    let endpoint = net.join(&router, &[]);
    let names: HashSet<String> = (0..300).map(|number| format!("d{number}")).collect();
    for name in &names {
        let dealer = dealer(net, name);
        dealer.connect(&endpoint).unwrap();
        dealer.send("last words").unwrap();
        if net.is_stream() {
            dealer.flush(LONG).unwrap();
        }
    }
    until("all are gone", || router.stats().unread == 300 && router.stats().connections == 0);
    let mut told = HashSet::new();
    while told.len() < names.len() {
        for (id, _) in router.recv_many(1000).unwrap() {
            assert!(told.insert(String::from_utf8(id.as_bytes().to_vec()).unwrap()));
        }
    }
    assert_eq!(told, names);
}

/// A router and a dealer `d` with room for few large messages, in the kernel too.
fn narrow(net: &Net, mandatory: bool) -> (Router, Dealer) {
    let router = Router::builder().context(&net.context).send_mark(4u32).send_buffer(4096usize).mandatory(mandatory);
    let dealer = Dealer::builder().context(&net.context).routing_id("d").receive_mark(4u32).receive_buffer(4096usize);
    (router.build().unwrap(), dealer.build().unwrap())
}

const BULK: usize = 20_000;

fn a_message_for_a_full_peer_is_dropped_and_counted(net: &Net) {
    let (router, dealer) = narrow(net, false);
    net.join(&router, &[&dealer]);
    for number in 0..300u32 {
        let mut body = vec![0; BULK];
        body[..4].copy_from_slice(&number.to_le_bytes());
        router.send_to("d", body).unwrap();
    }
    let dropped = router.stats().dropped.high_water_mark;
    assert!(dropped > 0);
    let mut last = None;
    for _ in 0..300 - dropped {
        let message = dealer.recv_timeout(LONG).unwrap();
        let number = u32::from_le_bytes(message.first()[..4].try_into().unwrap());
        assert!(last < Some(number));
        last = Some(number);
    }
    assert_eq!(dealer.try_recv().unwrap_err(), RecvError::WouldBlock);
}

fn under_mandatory_a_full_peer_is_waited_for(net: &Net) {
    let (router, dealer) = narrow(net, true);
    net.join(&router, &[&dealer]);
    let (sent, error) = fill(|| router.send_to_timeout("d", vec![0; BULK], Duration::from_millis(50)));
    assert_eq!(error.message.first().len(), BULK);
    assert_eq!(router.try_send_to("d", error.message).unwrap_err().reason, SendFailure::WouldBlock);
    thread::scope(|scope| {
        let sender = scope.spawn(|| router.send_to("d", "last"));
        for _ in 0..sent {
            assert_eq!(dealer.recv_timeout(LONG).unwrap().first().len(), BULK);
        }
        sender.join().unwrap().unwrap();
    });
    assert_eq!(dealer.recv_timeout(LONG).unwrap(), "last");
    assert_eq!(router.stats().dropped.total(), 0);
}

fn a_full_peer_costs_the_others_nothing(net: &Net) {
    let (router, full) = narrow(net, true);
    let other = dealer(net, "other");
    net.join(&router, &[&full, &other]);
    while router.send_to_timeout("d", vec![0; BULK], Duration::from_millis(50)).is_ok() {}
    for number in 0..100u8 {
        router.try_send_to("other", [number]).unwrap();
        assert_eq!(other.recv_timeout(LONG).unwrap().first(), [number]);
    }
}

fn a_second_peer_with_the_same_id_is_refused(net: &Net) {
    let (router, first, second) = (router(net), dealer(net, "same"), dealer(net, "same"));
    let endpoint = net.join(&router, &[&first]);
    let monitor = if net.is_stream() { router.monitor() } else { second.monitor() };
    let connected = second.connect(&endpoint);
    // Within one process the connecting call can tell; else an event does.
    assert_eq!(connected.is_ok(), net.is_stream(), "{connected:?}");
    event(&monitor, |kind| matches!(kind, EventKind::HandshakeFailed(Cause::Refused(_))).then_some(()));
    router.send_to("same", "for the first").unwrap();
    assert_eq!(first.recv_timeout(LONG).unwrap(), "for the first");
    assert_eq!(router.stats().connections, 1);
}

fn a_newcomer_whose_id_is_taken_gets_in_once_the_holder_is_gone(net: &Net) {
    let (router, first, second) = (router(net), dealer(net, "same"), dealer(net, "same"));
    let endpoint = net.join(&router, &[&first]);
    let (refusing, refused) = (router.monitor(), second.monitor());
    second.send_timeout("no peer yet", Duration::ZERO).unwrap_err();
    second.connect(&endpoint).unwrap();
    second.send("kept").unwrap();
    event(&refused, |kind| matches!(kind, EventKind::HandshakeFailed(_)).then_some(()));
    event(&refused, |kind| matches!(kind, EventKind::ConnectRetried(_)).then_some(()));
    let cause = event(&refusing, |kind| match kind {
        EventKind::HandshakeFailed(cause) => Some(cause),
        _ => None,
    });
    assert!(cause.to_string().contains("routing id is in use"), "{cause}");
    assert_eq!(second.connected().len(), 1, "its endpoint goes on");
    assert_eq!(second.stats().queued, 1, "it was never told that it may send");
    drop(first);
    let (id, message) = router.recv_timeout(LONG).unwrap();
    assert_eq!((id.as_bytes(), message), (&b"same"[..], "kept".into()));
    router.send_to("same", "welcome").unwrap();
    assert_eq!(second.recv_timeout(LONG).unwrap(), "welcome");
}

fn a_newcomer_whose_id_stays_taken_comes_ever_less_often(net: &Net) {
    let (router, first) = (router(net), dealer(net, "same"));
    let interval = Duration::from_millis(2);
    let second = Dealer::builder().context(&net.context).routing_id("same").reconnect_interval(interval);
    let second = second.build().unwrap();
    let endpoint = net.join(&router, &[&first]);
    let monitor = second.monitor();
    second.connect(&endpoint).unwrap();
    let mut wait = Duration::ZERO;
    // Each is drawn from a span that doubles: that ten in a row stay short has a chance of one in billions.
    for _ in 0..10 {
        wait = wait.max(event(&monitor, |kind| match kind {
            EventKind::ConnectRetried(wait) => Some(wait),
            _ => None,
        }));
        if wait > interval * 8 {
            return;
        }
    }
    panic!("it waited {wait:?} at most");
}

fn a_router_that_connects_to_a_taken_id_tries_again(net: &Net) {
    let (router, first, second) = (router(net), dealer(net, "same"), dealer(net, "same"));
    let (one, other) = (net.fresh(), net.fresh());
    first.bind(&one).unwrap();
    second.bind(&other).unwrap();
    router.connect(&one).unwrap();
    router.wait_for_peers(1, LONG).unwrap();
    let monitor = router.monitor();
    router.connect(&other).unwrap();
    event(&monitor, |kind| matches!(kind, EventKind::HandshakeFailed(Cause::Refused(_))).then_some(()));
    event(&monitor, |kind| matches!(kind, EventKind::ConnectRetried(_)).then_some(()));
    router.disconnect(&one).unwrap();
    drop(first);
    event(&monitor, |kind| matches!(kind, EventKind::HandshakeSucceeded).then_some(()));
    // It was connected each time until it was refused: what it had sent would have gone with that connection.
    until("the connections that were refused are gone", || second.stats().connections == 1);
    second.send("at last").unwrap();
    let (id, message) = router.recv_timeout(LONG).unwrap();
    assert_eq!((id.as_bytes(), message), (&b"same"[..], "at last".into()));
}

fn under_handover_a_second_peer_takes_the_id(net: &Net) {
    let router = Router::builder().context(&net.context).handover(true).build().unwrap();
    let first = Dealer::builder().context(&net.context).routing_id("same").reconnect_interval(None).build().unwrap();
    let second = dealer(net, "same");
    let endpoint = net.join(&router, &[&first]);
    first.send("from the first").unwrap();
    until("it has arrived", || !net.is_stream() || router.stats().unread == 1);
    let monitor = router.monitor();
    second.connect(&endpoint).unwrap();
    second.send("from the second").unwrap();
    let (mut up, mut replaced) = (false, false);
    while !(up && replaced) {
        match monitor.recv_timeout(LONG).expect("the event comes").kind {
            EventKind::HandshakeSucceeded => up = true,
            EventKind::Disconnected(Cause::Replaced(_)) => replaced = true,
            _ => {}
        }
    }
    for _ in 0..2 {
        let (id, message) = router.recv_timeout(LONG).unwrap();
        if message == "from the second" {
            assert_eq!(id.as_bytes(), b"same");
        } else {
            // An answer to it must not reach the second: it goes by a generated id now.
            assert_eq!(message, "from the first");
            assert_eq!((id.as_bytes().len(), id.as_bytes().first()), (5, Some(&0)), "{id:?}");
        }
    }
    router.send_to("same", "answer").unwrap();
    assert_eq!(second.recv_timeout(LONG).unwrap(), "answer");
    until("the first is gone", || router.stats().connections == 1);
}

fn an_id_is_free_again_when_its_peer_is_gone(net: &Net) {
    let (router, first, second) = (router(net), dealer(net, "same"), dealer(net, "same"));
    let endpoint = net.join(&router, &[&first]);
    drop(first);
    until("the first is gone", || router.stats().connections == 0);
    second.connect(&endpoint).unwrap();
    router.wait_for_peers(1, LONG).unwrap();
    router.send_to("same", "for the second").unwrap();
    assert_eq!(second.recv_timeout(LONG).unwrap(), "for the second");
}

fn a_probe_comes_before_everything_else(net: &Net) {
    let router = router(net);
    let endpoint = net.fresh();
    let dealer = Dealer::builder().context(&net.context).routing_id("d").probe_router(true).build().unwrap();
    dealer.connect(&endpoint).unwrap();
    dealer.send("queued early").unwrap();
    router.bind(&endpoint).unwrap();
    let (id, probe) = router.recv_timeout(LONG).unwrap();
    assert_eq!((id.as_bytes(), probe), (&b"d"[..], Message::new()));
    assert_eq!(router.recv_timeout(LONG).unwrap().1, "queued early");
    let req = Req::builder().context(&net.context).routing_id("r").probe_router(true).build().unwrap();
    req.connect(&endpoint).unwrap();
    let (id, probe) = router.recv_timeout(LONG).unwrap();
    assert_eq!((id.as_bytes(), probe), (&b"r"[..], Message::new()));
}

fn a_router_that_probes_is_known_to_the_other(net: &Net) {
    let left = Router::builder().context(&net.context).routing_id("left").probe_router(true).build().unwrap();
    let right = Router::builder().context(&net.context).routing_id("right").build().unwrap();
    net.join(&right, &[&left]);
    let (id, probe) = right.recv_timeout(LONG).unwrap();
    assert_eq!((id.as_bytes(), probe), (&b"left"[..], Message::new()));
    right.send_to(id, "hello").unwrap();
    let (id, message) = left.recv_timeout(LONG).unwrap();
    assert_eq!((id.as_bytes(), message), (&b"right"[..], "hello".into()));
}

fn a_router_may_name_the_peer_it_connects_to(net: &Net) {
    let router = router(net);
    let dealer = dealer(net, "what it calls itself");
    let endpoint = net.fresh();
    router.set(Setting::ConnectRoutingId("peer".into())).unwrap();
    router.connect(&endpoint).unwrap();
    // It can be addressed before it is there.
    router.send_to("peer", "early").unwrap();
    dealer.bind(&endpoint).unwrap();
    assert_eq!(dealer.recv_timeout(LONG).unwrap(), "early");
    dealer.send("answer").unwrap();
    let (id, message) = router.recv_timeout(LONG).unwrap();
    assert_eq!((id.as_bytes(), message), (&b"peer"[..], "answer".into()));
}

fn a_name_for_a_peer_serves_one_connection_only(net: &Net) {
    let router = Router::builder().context(&net.context).connect_routing_id("named").build().unwrap();
    let dealers = [dealer(net, "one"), dealer(net, "two")];
    for dealer in &dealers {
        net.join(dealer, &[&router]);
        dealer.send("hello").unwrap();
    }
    let mut ids: Vec<RoutingId> = (0..2).map(|_| router.recv_timeout(LONG).unwrap().0).collect();
    ids.sort_unstable();
    assert_eq!(ids.iter().map(RoutingId::as_bytes).collect::<Vec<_>>(), [&b"named"[..], b"two"]);
}

fn a_name_for_a_peer_that_is_taken_is_an_error(net: &Net) {
    let (router, dealer) = (router(net), dealer(net, "taken"));
    net.join(&router, &[&dealer]);
    router.set(Setting::ConnectRoutingId("taken".into())).unwrap();
    let endpoint = net.fresh();
    let error = router.connect(&endpoint).unwrap_err();
    assert!(matches!(error, Error::InvalidEndpoint { .. }), "{error:?}");
    assert!(error.to_string().contains("routing id is in use"), "{error}");
    assert!(router.connected().is_empty());
    // Its name was for that call alone.
    router.connect(&endpoint).unwrap();
}

fn a_router_that_connects_can_be_answered_at_once(net: &Net) {
    let router = Router::builder().context(&net.context).routing_id("r").build().unwrap();
    let other = Router::builder().context(&net.context).mandatory(true).build().unwrap();
    net.join(&other, &[&router]);
    other.send_to("r", "hello").unwrap();
    assert_eq!(router.recv_timeout(LONG).unwrap().1, "hello");
}

fn routers_talk_to_each_other_by_their_ids(net: &Net) {
    let [a, b, c] = ["a", "b", "c"].map(|id| Router::builder().context(&net.context).routing_id(id).build().unwrap());
    net.join(&a, &[&b, &c]);
    net.join(&b, &[&c]);
    for (from, to, name) in [(&a, &b, "b"), (&b, &c, "c"), (&c, &a, "a"), (&b, &a, "a")] {
        from.send_to(name, "hello").unwrap();
        let (id, message) = to.recv_timeout(LONG).unwrap();
        assert_eq!(message, "hello");
        to.send_to(id, "back").unwrap();
        assert_eq!(from.recv_timeout(LONG).unwrap().1, "back");
    }
}

fn a_dealer_deals_to_each_peer_in_turn(net: &Net) {
    let dealer = Dealer::in_context(&net.context);
    let routers = [(); 3].map(|()| router(net));
    for router in &routers {
        net.join(router, &[&dealer]);
    }
    for number in 0..9u8 {
        dealer.send(Message::from_iter([[number], [number]])).unwrap();
    }
    for router in &routers {
        let got: Vec<u8> = (0..3).map(|_| router.recv_timeout(LONG).unwrap().1.first()[0]).collect();
        assert_eq!(got, [got[0], got[0] + 3, got[0] + 6]);
    }
}

fn a_dealer_takes_from_each_peer_in_turn(net: &Net) {
    let taker = Dealer::in_context(&net.context);
    let dealers = [dealer(net, "x"), dealer(net, "y")];
    net.join(&taker, &[&dealers[0], &dealers[1]]);
    for (dealer, name) in dealers.iter().zip(["x", "y"]) {
        dealer.send_many([name; 10]).unwrap();
    }
    until("all have arrived", || !net.is_stream() || taker.stats().unread == 20);
    let got: Vec<Message> = (0..20).map(|_| taker.recv_timeout(LONG).unwrap()).collect();
    assert!(got.windows(2).all(|two| two[0] != two[1]), "{got:?}");
}

fn dealers_talk_to_each_other(net: &Net) {
    let [left, right] = [(); 2].map(|()| Dealer::in_context(&net.context));
    net.join(&left, &[&right]);
    left.send("one").unwrap();
    left.send("two").unwrap();
    right.send("three").unwrap();
    assert_eq!(right.recv_timeout(LONG).unwrap(), "one");
    assert_eq!(right.recv_timeout(LONG).unwrap(), "two");
    assert_eq!(left.recv_timeout(LONG).unwrap(), "three");
}

fn a_dealer_without_a_peer_waits(net: &Net) {
    let dealer = Dealer::in_context(&net.context);
    dealer.bind(net.fresh()).unwrap();
    assert_eq!(dealer.try_send("x").unwrap_err().reason, SendFailure::WouldBlock);
    assert_eq!(dealer.send_timeout("x", Duration::from_millis(20)).unwrap_err().reason, SendFailure::TimedOut);
}

fn a_router_takes_from_each_peer_in_turn(net: &Net) {
    let router = router(net);
    let dealers = [dealer(net, "x"), dealer(net, "y")];
    net.join(&router, &[&dealers[0], &dealers[1]]);
    for dealer in &dealers {
        dealer.send_many(["job"; 10]).unwrap();
    }
    until("all have arrived", || !net.is_stream() || router.stats().unread == 20);
    let got: Vec<RoutingId> = (0..20).map(|_| router.recv_timeout(LONG).unwrap().0).collect();
    assert!(got.windows(2).all(|two| two[0] != two[1]), "{got:?}");
}

fn many_dealers_get_their_own_replies(net: &Net) {
    let router = router(net);
    let endpoint = net.fresh();
    router.bind(&endpoint).unwrap();
    thread::scope(|scope| {
        for number in 0..8u8 {
            let endpoint = &endpoint;
            scope.spawn(move || {
                let dealer = Dealer::in_context(&net.context);
                dealer.connect(endpoint).unwrap();
                for round in 0..50u8 {
                    dealer.send([number, round]).unwrap();
                }
                for round in 0..50u8 {
                    assert_eq!(dealer.recv_timeout(LONG).unwrap(), &[number, round]);
                }
            });
        }
        for _ in 0..400 {
            let (id, message) = router.recv_timeout(LONG).unwrap();
            router.send_to(id, message).unwrap();
        }
    });
}

fn an_id_stays_across_a_reconnect(net: &Net) {
    let router = Router::builder().context(&net.context).connect_routing_id("peer").build().unwrap();
    let dealer = Dealer::in_context(&net.context);
    let endpoint = net.join(&dealer, &[&router]);
    router.send_to("peer", "before").unwrap();
    assert_eq!(dealer.recv_timeout(LONG).unwrap(), "before");
    drop(dealer);
    until("the loss is noticed", || router.stats().connections == 0);
    router.send_to("peer", "meanwhile").unwrap();
    let dealer = Dealer::in_context(&net.context);
    until("the address is free again", || dealer.bind(&endpoint).is_ok());
    assert_eq!(dealer.recv_timeout(LONG).unwrap(), "meanwhile");
}

/// What the next message of a ROUTER is: whose, and its first frame.
fn next(router: &Router) -> (String, String) {
    let (id, message) = router.recv_timeout(LONG).unwrap();
    assert_eq!(message.len(), 1);
    (String::from_utf8_lossy(id.as_bytes()).into_owned(), message.to_str().unwrap().to_owned())
}

fn pair(id: &str, body: &str) -> (String, String) {
    (id.to_owned(), body.to_owned())
}

fn a_hello_message_is_the_first_that_a_peer_receives(net: &Net) {
    let router = Router::builder().context(&net.context).hello_message("welcome").build().unwrap();
    let dealer = Dealer::builder().context(&net.context).routing_id("d").hello_message("good day").build().unwrap();
    let endpoint = net.fresh();
    dealer.connect(&endpoint).unwrap();
    dealer.send("queued early").unwrap();
    router.bind(&endpoint).unwrap();
    assert_eq!(next(&router), pair("d", "good day"));
    assert_eq!(next(&router), pair("d", "queued early"));
    assert_eq!(dealer.recv_timeout(LONG).unwrap(), "welcome");
    let stats = dealer.stats();
    assert!(stats.accepted == 2 && stats.is_balanced(), "{stats:?}");
    drop(dealer);
    router.set(Setting::HelloMessage("".into())).unwrap();
    let dealer = Dealer::builder().context(&net.context).hello_message("good day").build().unwrap();
    dealer.set(Setting::HelloMessage("".into())).unwrap();
    dealer.connect(&endpoint).unwrap();
    dealer.send("no greeting").unwrap();
    assert_eq!(next(&router).1, "no greeting");
}

fn each_new_connection_begins_with_the_hello_message(net: &Net) {
    let dealer = Dealer::builder().context(&net.context).hello_message("hello").build().unwrap();
    let endpoint = net.fresh();
    dealer.connect(&endpoint).unwrap();
    for _ in 0..3 {
        let router = router(net);
        until("the address is free", || router.bind(&endpoint).is_ok());
        assert_eq!(next(&router).1, "hello");
        drop(router);
        until("the loss is noticed", || dealer.stats().connections == 0);
    }
}

fn a_router_is_told_when_a_peer_comes_and_when_it_goes(net: &Net) {
    let router = Router::builder().context(&net.context).router_notify(RouterNotify::Both).build().unwrap();
    let endpoint = net.fresh();
    router.bind(&endpoint).unwrap();
    let dealer = dealer(net, "d");
    dealer.connect(&endpoint).unwrap();
    assert_eq!(next(&router), pair("d", ""));
    dealer.send("one").unwrap();
    dealer.send("two").unwrap();
    // It may be addressed as soon as it is there.
    router.send_to("d", "hello").unwrap();
    assert_eq!(dealer.recv_timeout(LONG).unwrap(), "hello");
    drop(dealer);
    assert_eq!([next(&router), next(&router), next(&router)], [pair("d", "one"), pair("d", "two"), pair("d", "")]);
    assert_eq!(router.recv_timeout(Duration::from_millis(20)).unwrap_err(), RecvError::TimedOut);
}

fn a_router_is_told_of_what_it_asked_for_and_nothing_else(net: &Net) {
    let router = router(net);
    let endpoint = net.fresh();
    router.bind(&endpoint).unwrap();
    for (notify, told) in [
        (RouterNotify::Nothing, &["x"][..]),
        (RouterNotify::Connect, &["", "x"]),
        (RouterNotify::Disconnect, &["x", ""]),
        (RouterNotify::Both, &["", "x", ""]),
    ] {
        router.set(Setting::RouterNotify(notify)).unwrap();
        let dealer = dealer(net, "d");
        dealer.connect(&endpoint).unwrap();
        dealer.send("x").unwrap();
        drop(dealer);
        for body in told {
            assert_eq!(next(&router), pair("d", body), "{notify:?}");
        }
        until("it is gone", || router.peers().is_empty());
        assert_eq!(router.try_recv().unwrap_err(), RecvError::WouldBlock, "{notify:?}");
    }
}

fn a_disconnect_message_is_the_last_that_comes_from_a_peer(net: &Net) {
    let router = Router::builder().context(&net.context).disconnect_message("gone").build().unwrap();
    let (stays, goes) = (dealer(net, "stays"), dealer(net, "goes"));
    net.join(&router, &[&stays, &goes]);
    goes.send("last words").unwrap();
    drop(goes);
    assert_eq!([next(&router), next(&router)], [pair("goes", "last words"), pair("goes", "gone")]);
    router.send_to("stays", "hello").unwrap();
    assert_eq!(stays.recv_timeout(LONG).unwrap(), "hello");
    assert_eq!(router.try_recv().unwrap_err(), RecvError::WouldBlock);
}

fn the_ids_of_all_who_left_are_told_however_many_they_are(net: &Net) {
    let router = Router::builder().context(&net.context).disconnect_message("gone").build().unwrap();
    let ids: Vec<String> = (0..400).map(|number| format!("d-{number}")).collect();
    let dealers: Vec<Dealer> = ids.iter().map(|id| dealer(net, id)).collect();
    net.join(&router, &dealers.iter().map(|dealer| &**dealer).collect::<Vec<_>>());
    drop(dealers);
    until("they are gone", || router.peers().is_empty());
    let told: HashSet<String> = (0..400).map(|_| next(&router).0).collect();
    assert_eq!(told, ids.into_iter().collect());
}

fn a_dealer_is_told_of_a_connection_that_will_be_made_again(net: &Net) {
    for immediate in [false, true] {
        let dealer = Dealer::builder().context(&net.context).hiccup_message("hiccup").immediate(immediate);
        let dealer = dealer.build().unwrap();
        let endpoint = net.fresh();
        dealer.connect(&endpoint).unwrap();
        for _ in 0..2 {
            let router = router(net);
            until("the address is free", || router.bind(&endpoint).is_ok());
            dealer.send("question").unwrap();
            let (id, _) = router.recv_timeout(LONG).unwrap();
            router.send_to(id, "answer").unwrap();
            router.flush(LONG).unwrap();
            drop(router);
            assert_eq!(dealer.recv_timeout(LONG).unwrap(), "answer");
            assert_eq!(dealer.recv_timeout(LONG).unwrap(), "hiccup");
        }
    }
}

fn a_connection_that_a_dealer_ends_itself_is_no_hiccup(net: &Net) {
    for immediate in [false, true] {
        let dealer = Dealer::builder().context(&net.context).hiccup_message("hiccup").immediate(immediate);
        let dealer = dealer.build().unwrap();
        let router = router(net);
        let endpoint = net.join(&router, &[&dealer]);
        dealer.disconnect(&endpoint).unwrap();
        until("it is gone", || dealer.peers().is_empty());
        assert_eq!(dealer.try_recv().unwrap_err(), RecvError::WouldBlock);
    }
}

fn a_router_that_connects_is_told_of_each_loss(net: &Net) {
    let router = Router::builder().context(&net.context).router_notify(RouterNotify::Both).build().unwrap();
    let endpoint = net.fresh();
    router.connect(&endpoint).unwrap();
    for _ in 0..2 {
        let dealer = dealer(net, "d");
        until("the address is free", || dealer.bind(&endpoint).is_ok());
        assert_eq!(next(&router), pair("d", ""));
        drop(dealer);
        assert_eq!(next(&router), pair("d", ""));
        until("the loss is noticed", || router.stats().connections == 0);
    }
}

fn a_router_answers_many_messages_at_once(net: &Net) {
    let router = router(net);
    let dealers = ["a", "b"].map(|id| dealer(net, id));
    net.join(&router, &[&dealers[0], &dealers[1]]);
    for dealer in &dealers {
        dealer.send_many((0..50u8).map(|number| [number])).unwrap();
    }
    let mut answered = 0;
    while answered < 100 {
        let messages = router.recv_many(30).unwrap();
        assert!((1..=30).contains(&messages.len()));
        answered += router.send_many(messages).unwrap();
    }
    assert_eq!(answered, 100);
    for dealer in &dealers {
        for number in 0..50u8 {
            assert_eq!(dealer.recv_timeout(LONG).unwrap().first(), [number]);
        }
    }
    router.set(Setting::Mandatory(true)).unwrap();
    let mut messages = [("a", "first"), ("nobody", "second"), ("b", "third")].into_iter();
    let error = router.send_many(messages.by_ref()).unwrap_err();
    assert_eq!((error.reason, error.message), (SendFailure::Unroutable, "second".into()));
    assert_eq!(messages.next(), Some(("b", "third")));
    assert_eq!(dealers[0].recv_timeout(LONG).unwrap(), "first");
    assert_eq!(router.recv_many(0).unwrap(), []);
}

fn an_untyped_router_sends_and_receives_many_at_once(net: &Net) {
    let router = AnySocket::in_context(SocketKind::Router, &net.context);
    let dealer = AnySocket::builder(SocketKind::Dealer).context(&net.context).routing_id("d").build().unwrap();
    net.join(&router, &[&dealer]);
    assert_eq!(dealer.send_many(["1", "2", "3"]).unwrap(), 3);
    let mut got = Vec::new();
    while got.len() < 3 {
        got.extend(router.recv_many(10).unwrap());
    }
    assert_eq!(got, [["d", "1"], ["d", "2"], ["d", "3"]].map(Message::from_iter));
    assert_eq!(router.send_many(got).unwrap(), 3);
    assert_eq!(dealer.iter().take(3).collect::<Result<Vec<_>, _>>().unwrap(), ["1", "2", "3"].map(Message::from));
    let push = AnySocket::in_context(SocketKind::Push, &net.context);
    assert!(matches!(push.recv_many(1), Err(RecvError::NotSupported { .. })));
    let pull = AnySocket::in_context(SocketKind::Pull, &net.context);
    assert!(matches!(pull.send_many(["x"]).unwrap_err().reason, SendFailure::NotSupported { .. }));
}
