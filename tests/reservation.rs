//! Reservations: room is found first, the message made later; what holds until then, and what when the peer is gone by
//! then.

#[macro_use]
mod common;

use std::io;
use std::mem;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{LONG, Net, until};
use wiremesh::{
    AnySocket, Dealer, Message, Pair, PeerId, Pub, Pull, Push, RecvError, Rep, Req, Reservation, Router, SendFailure,
    Setting, SocketKind, Sub, XPub,
};

over!([tcp ipc inproc]:
    reserved_room_counts_against_the_mark
    a_dropped_reservation_gives_its_room_back
    a_dropped_reservation_wakes_a_blocked_sender
    a_blocked_reserve_wakes_when_there_is_room
    a_blocked_reserve_ends_in_time_and_with_the_socket
    each_reservation_goes_to_the_peer_it_names
    what_was_reserved_with_a_peer_that_is_gone_goes_to_another
    without_another_peer_the_message_is_handed_back
    where_the_other_peers_have_no_room_the_message_is_handed_back
    a_reservation_with_a_peer_that_is_gone_is_nothing_to_the_one_in_its_place
    a_disconnected_endpoint_gets_nothing_that_was_reserved_for_it
    the_byte_mark_is_looked_at_when_room_is_reserved
    a_reservation_of_a_closed_socket_hands_the_message_back
    a_conflating_socket_keeps_the_newest_of_the_messages_that_were_reserved_for
    leaked_and_long_held_reservations_take_their_places_and_no_more
    a_raised_mark_makes_room_beside_reservations
    a_pair_and_a_dealer_reserve_as_a_push_does
    threads_may_hold_pass_on_and_drop_reservations_under_load
    a_router_reserves_by_routing_id
    a_router_drops_and_counts_what_it_had_no_peer_for
    a_router_drops_and_counts_what_it_had_no_room_for
    under_mandatory_a_router_waits_for_room_and_hands_back_what_is_unroutable
    a_newcomer_with_the_id_gets_what_was_reserved_for_it
    whoever_takes_an_id_over_gets_what_was_reserved_for_it
    reserving_asks_nothing_of_a_req_and_the_first_send_wins
    a_request_into_reserved_room_gets_its_reply_and_no_older_one
    whoever_subscribes_later_is_not_in_the_match_set
    a_subscriber_that_has_left_is_skipped
    a_subscriber_at_its_mark_misses_the_message_which_is_counted_when_it_is_sent
    under_nodrop_a_reservation_waits_for_a_full_subscriber
    many_subscribers_get_what_was_reserved_for
    a_message_too_long_for_a_subscriber_gives_its_room_back
    whoever_takes_an_id_over_gets_nothing_that_was_reserved_with_the_peer_before
    a_reserve_that_waits_for_a_peer_ends_when_another_one_has_its_id
);

over!([tcp ipc]:
    a_message_refused_for_its_size_gives_its_room_back
    a_reservation_outlives_the_connection_of_its_peer
);

/// All the room there is.
fn all_room(push: &Push) -> Vec<Reservation<'_>> {
    let room = std::iter::from_fn(|| push.try_reserve().ok()).take(1000).collect::<Vec<_>>();
    assert!(room.len() < 1000, "the mark holds");
    room
}

fn push(net: &Net, mark: u32) -> Push {
    Push::builder().context(&net.context).send_mark(mark).build().unwrap()
}

/// A PUSH with that mark that has somebody to wait for, and where.
fn lonely(net: &Net, mark: u32) -> (Push, String) {
    let (push, endpoint) = (push(net, mark), net.fresh());
    push.connect(&endpoint).unwrap();
    (push, endpoint)
}

/// A PULL that adds one place to an inproc peer's mark.
fn pull(net: &Net) -> Pull {
    Pull::builder().context(&net.context).receive_mark(1u32).build().unwrap()
}

fn reserved_room_counts_against_the_mark(net: &Net) {
    let (push, endpoint) = lonely(net, 1);
    let room = push.reserve().unwrap();
    assert_eq!(push.try_send("no room").unwrap_err().reason, SendFailure::WouldBlock);
    assert_eq!(push.try_reserve().unwrap_err(), SendFailure::WouldBlock);
    assert_eq!((push.stats().accepted, push.stats().queued), (0, 0), "it is no message yet");
    room.send("kept").unwrap();
    assert_eq!(push.try_send("no room").unwrap_err().reason, SendFailure::WouldBlock);
    assert_eq!((push.stats().accepted, push.stats().queued), (1, 1));
    let pull = Pull::in_context(&net.context);
    pull.bind(&endpoint).unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "kept");
}

fn a_dropped_reservation_gives_its_room_back(net: &Net) {
    let (push, _) = lonely(net, 3);
    push.try_send("one").unwrap();
    push.try_send("two").unwrap();
    let room = push.try_reserve().unwrap();
    assert_eq!(push.try_send("no room").unwrap_err().reason, SendFailure::WouldBlock);
    drop(room);
    push.try_send("three").unwrap();
    assert_eq!(push.try_send("no room").unwrap_err().reason, SendFailure::WouldBlock);
    assert_eq!(push.stats().queued, 3);
}

fn a_message_refused_for_its_size_gives_its_room_back(net: &Net) {
    let push = push(net, 1);
    let pull = Pull::builder().context(&net.context).receive_mark(1u32).max_message_size(1000u64).build().unwrap();
    net.join(&pull, &[&push]);
    push.wait_for_peers(1, LONG).unwrap();
    for _ in 0..3 {
        let refused = push.reserve_timeout(LONG).unwrap().send(vec![0; 2000]).unwrap_err();
        assert!(matches!(refused.reason, SendFailure::TooLarge { .. }), "{}", refused.reason);
    }
    push.send_timeout("small", LONG).unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "small");
}

fn a_dropped_reservation_wakes_a_blocked_sender(net: &Net) {
    let (push, _) = lonely(net, 1);
    let room = push.reserve().unwrap();
    thread::scope(|scope| {
        let (found_none, wait) = mpsc::channel();
        let push = &push;
        let sender = scope.spawn(move || {
            assert_eq!(push.try_send("later").unwrap_err().reason, SendFailure::WouldBlock);
            found_none.send(()).unwrap();
            push.send_timeout("later", LONG)
        });
        wait.recv().unwrap();
        drop(room);
        sender.join().unwrap().unwrap();
    });
    assert_eq!(push.stats().queued, 1);
}

fn a_blocked_reserve_wakes_when_there_is_room(net: &Net) {
    let (push, endpoint) = lonely(net, 1);
    push.send("first").unwrap();
    thread::scope(|scope| {
        let reserving = scope.spawn(|| push.reserve_timeout(LONG).unwrap().send("second"));
        let pull = pull(net);
        pull.bind(&endpoint).unwrap();
        assert_eq!(pull.recv_timeout(LONG).unwrap(), "first");
        assert_eq!(pull.recv_timeout(LONG).unwrap(), "second");
        reserving.join().unwrap().unwrap();
    });
}

fn a_blocked_reserve_ends_in_time_and_with_the_socket(net: &Net) {
    let (push, _) = lonely(net, 1);
    let room = push.reserve().unwrap();
    assert_eq!(push.reserve_timeout(Duration::from_millis(20)).unwrap_err(), SendFailure::TimedOut);
    push.set(Setting::SendTimeout(Some(Duration::from_millis(20)))).unwrap();
    assert_eq!(push.reserve().unwrap_err(), SendFailure::TimedOut);
    thread::scope(|scope| {
        let reserving = scope.spawn(|| push.reserve_timeout(LONG).map(drop));
        push.close();
        assert_eq!(reserving.join().unwrap().unwrap_err(), SendFailure::Closed);
    });
    drop(room);
}

fn each_reservation_goes_to_the_peer_it_names(net: &Net) {
    let push = push(net, 10);
    let workers = [(); 2].map(|()| Pull::in_context(&net.context));
    net.join(&push, &[&workers[0], &workers[1]]);
    let (first, second) = (push.reserve().unwrap(), push.reserve().unwrap());
    let ids = [first.peer().unwrap(), second.peer().unwrap()];
    assert_ne!(ids[0], ids[1], "peers take turns");
    let accepted = || ids.map(|id| push.peer(id).unwrap().stats.accepted);
    second.send("second").unwrap();
    assert_eq!(accepted(), [0, 1]);
    first.send("first").unwrap();
    assert_eq!(accepted(), [1, 1]);
    let mut got = workers.map(|worker| worker.recv_timeout(LONG).unwrap().to_str().unwrap().to_owned());
    got.sort_unstable();
    assert_eq!(got, ["first", "second"]);
}

/// Reserves room with the one peer of a PUSH, which is gone then.
fn reserve_with_one_that_goes<'a>(net: &Net, push: &'a Push) -> (Reservation<'a>, String) {
    let pull = pull(net);
    let endpoint = net.join(push, &[&pull]);
    let room = push.reserve().unwrap();
    let peer = room.peer().unwrap();
    drop(pull);
    until("the peer is gone", || !push.peers().iter().any(|there| there.id == peer));
    (room, endpoint)
}

/// A further peer of a PUSH, and all the room it has.
fn another_without_room<'a>(net: &Net, push: &'a Push, endpoint: &str) -> (Pull, Vec<Reservation<'a>>) {
    let next = pull(net);
    next.connect(endpoint).unwrap();
    push.wait_for_peers(1, LONG).unwrap();
    (next, all_room(push))
}

fn what_was_reserved_with_a_peer_that_is_gone_goes_to_another(net: &Net) {
    let push = push(net, 2);
    let (room, endpoint) = reserve_with_one_that_goes(net, &push);
    let other = Pull::in_context(&net.context);
    other.connect(&endpoint).unwrap();
    push.wait_for_peers(1, LONG).unwrap();
    room.send("for whoever is there").unwrap();
    assert_eq!(other.recv_timeout(LONG).unwrap(), "for whoever is there");
    until("it is written", || push.stats().written == 1);
    assert!(push.stats().is_balanced());
}

fn without_another_peer_the_message_is_handed_back(net: &Net) {
    let push = push(net, 1);
    let (room, _) = reserve_with_one_that_goes(net, &push);
    let error = room.send(["two", "frames"]).unwrap_err();
    assert_eq!((error.reason, error.message), (SendFailure::WouldBlock, Message::from(["two", "frames"])));
    assert_eq!(push.stats().accepted, 0);
}

fn a_reservation_with_a_peer_that_is_gone_is_nothing_to_the_one_in_its_place(net: &Net) {
    let push = push(net, 1);
    let (room, endpoint) = reserve_with_one_that_goes(net, &push);
    let (_next, all) = another_without_room(net, &push, &endpoint);
    assert!(!all.is_empty());
    drop(room);
    assert_eq!(push.try_send("no room").unwrap_err().reason, SendFailure::WouldBlock);
    drop(all);
    push.try_send("room").unwrap();
}

fn where_the_other_peers_have_no_room_the_message_is_handed_back(net: &Net) {
    let push = push(net, 1);
    let (room, endpoint) = reserve_with_one_that_goes(net, &push);
    let (_next, all) = another_without_room(net, &push, &endpoint);
    let error = room.send("back").unwrap_err();
    assert_eq!((error.reason, error.message), (SendFailure::WouldBlock, "back".into()));
    drop(all);
    assert_eq!(push.stats().accepted, 0);
}

fn a_disconnected_endpoint_gets_nothing_that_was_reserved_for_it(net: &Net) {
    let push = push(net, 2);
    let (left, right) = (pull(net), pull(net));
    let endpoint = net.join(&left, &[&push]);
    let room = push.reserve().unwrap();
    let peer = room.peer().unwrap();
    net.join(&right, &[&push]);
    push.disconnect(&endpoint).unwrap();
    room.send("to the other").unwrap();
    assert_eq!(right.recv_timeout(LONG).unwrap(), "to the other");
    assert_eq!(push.peer(peer).unwrap().stats.accepted, 0);
}

fn the_byte_mark_is_looked_at_when_room_is_reserved(net: &Net) {
    let push = Push::builder().context(&net.context).send_byte_mark(1000u64).build().unwrap();
    push.connect(net.fresh()).unwrap();
    let (first, second) = (push.try_reserve().unwrap(), push.try_reserve().unwrap());
    first.send(vec![1; 5000]).unwrap();
    assert_eq!(push.try_reserve().unwrap_err(), SendFailure::WouldBlock);
    second.send(vec![2; 5000]).unwrap();
    assert_eq!(push.stats().queued, 2);
}

fn a_reservation_of_a_closed_socket_hands_the_message_back(net: &Net) {
    let (push, pull) = (push(net, 4), Pull::in_context(&net.context));
    net.join(&pull, &[&push]);
    let (used, dropped) = (push.reserve().unwrap(), push.reserve().unwrap());
    push.close();
    let error = used.send("too late").unwrap_err();
    assert_eq!((error.reason, error.message), (SendFailure::Closed, "too late".into()));
    drop(dropped);
    assert_eq!(push.try_reserve().unwrap_err(), SendFailure::Closed);
    assert_eq!(push.stats().accepted, 0);
}

fn a_conflating_socket_keeps_the_newest_of_the_messages_that_were_reserved_for(net: &Net) {
    let push = Push::builder().context(&net.context).conflate(true).send_mark(1u32).build().unwrap();
    let endpoint = net.fresh();
    push.connect(&endpoint).unwrap();
    let (first, second) = (push.try_reserve().unwrap(), push.try_reserve().unwrap());
    second.send("old").unwrap();
    first.send("new").unwrap();
    let pull = Pull::in_context(&net.context);
    pull.bind(&endpoint).unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "new");
    until("all is written", || push.stats().queued == 0);
    let stats = push.stats();
    assert_eq!((stats.accepted, stats.written, stats.dropped.conflate), (2, 1, 1));
}

fn leaked_and_long_held_reservations_take_their_places_and_no_more(net: &Net) {
    let (push, pull) = (push(net, 6), pull(net));
    net.join(&pull, &[&push]);
    let mut held = all_room(&push);
    drop(held.pop());
    for leaked in held.drain(..2) {
        mem::forget(leaked);
    }
    // One place is left, and it is free again each time its message has been taken.
    thread::scope(|scope| {
        scope.spawn(|| (0..100u8).for_each(|number| push.send_timeout([number], LONG).unwrap()));
        for number in 0..100u8 {
            assert_eq!(pull.recv_timeout(LONG).unwrap().first(), [number]);
        }
    });
    let room = push.reserve_timeout(LONG).unwrap();
    assert_eq!(push.try_reserve().unwrap_err(), SendFailure::WouldBlock);
    drop(held);
    assert_eq!(all_room(&push).len(), if net.is_stream() { 3 } else { 4 });
    drop(room);
    let peer = push.peers()[0].id;
    drop(pull);
    until("the peer has gone", || push.peer(peer).is_none_or(|peer| !peer.connected));
}

fn a_raised_mark_makes_room_beside_reservations(net: &Net) {
    let (push, _) = lonely(net, 2);
    let held = all_room(&push);
    push.set(Setting::SendMark(3)).unwrap();
    push.try_send("a third").unwrap();
    push.set(Setting::SendMark(1)).unwrap();
    drop(held);
    assert_eq!(push.try_send("one waits").unwrap_err().reason, SendFailure::WouldBlock);
    push.set(Setting::SendMark(0)).unwrap();
    let all: Vec<_> = (0..100).map(|_| push.try_reserve().unwrap()).collect();
    drop(all);
}

fn a_pair_and_a_dealer_reserve_as_a_push_does(net: &Net) {
    let (left, right) = (Pair::in_context(&net.context), Pair::in_context(&net.context));
    assert_eq!(left.try_reserve().unwrap_err(), SendFailure::WouldBlock);
    net.join(&left, &[&right]);
    left.reserve().unwrap().send("to the right").unwrap();
    assert_eq!(right.recv_timeout(LONG).unwrap(), "to the right");
    let (dealer, rep) = (Dealer::in_context(&net.context), Rep::in_context(&net.context));
    net.join(&rep, &[&dealer]);
    dealer.reserve_timeout(LONG).unwrap().send(["", "question"]).unwrap();
    assert_eq!(rep.recv_timeout(LONG).unwrap(), "question");
}

fn threads_may_hold_pass_on_and_drop_reservations_under_load(net: &Net) {
    const EACH: u32 = 3000;
    let (push, pull) = (push(net, 8), pull(net));
    net.join(&pull, &[&push]);
    let mut got = thread::scope(|scope| {
        for sender in 0..4u32 {
            let push = &push;
            scope.spawn(move || {
                for number in (sender * EACH)..(sender + 1) * EACH {
                    let body = number.to_le_bytes();
                    match number % 4 {
                        0 => push.send(body).unwrap(),
                        1 => {
                            drop(push.reserve().unwrap());
                            push.reserve().unwrap().send(body).unwrap();
                        }
                        2 => {
                            let another = push.try_reserve();
                            let room = another.or_else(|_| push.reserve()).unwrap();
                            drop(push.try_reserve());
                            room.send(&body[..]).unwrap();
                        }
                        _ => {
                            let room = push.reserve().unwrap();
                            thread::scope(|scope| scope.spawn(|| room.send(body)).join().unwrap()).unwrap();
                        }
                    }
                    assert!(push.stats().is_balanced());
                }
            });
        }
        let next = || pull.recv_timeout(LONG).unwrap().first().try_into().map(u32::from_le_bytes).unwrap();
        (0..4 * EACH).map(|_| next()).collect::<Vec<_>>()
    });
    got.sort_unstable();
    assert!(got.into_iter().eq(0..4 * EACH), "each came once");
    until("all is written", || push.stats().queued == 0);
    let stats = push.stats();
    assert_eq!((stats.accepted, stats.written, stats.dropped.total()), ((4 * EACH).into(), (4 * EACH).into(), 0));
    assert!(all_room(&push).len() >= 8, "all room has come back");
}

fn a_reservation_outlives_the_connection_of_its_peer(net: &Net) {
    let (push, endpoint) = lonely(net, 1);
    let pull = Pull::in_context(&net.context);
    pull.bind(&endpoint).unwrap();
    push.wait_for_peers(1, LONG).unwrap();
    let room = push.reserve().unwrap();
    let peer = room.peer().unwrap();
    drop(pull);
    until("the connection is lost", || push.stats().connections == 0);
    assert_eq!(push.try_send("no room").unwrap_err().reason, SendFailure::WouldBlock);
    room.send("for the one that returns").unwrap();
    assert_eq!(push.peer(peer).unwrap().stats.queued, 1);
    let back = Pull::in_context(&net.context);
    until("the endpoint is free", || back.bind(&endpoint).is_ok());
    assert_eq!(back.recv_timeout(LONG).unwrap(), "for the one that returns");
}

fn router(net: &Net, mandatory: bool) -> Router {
    Router::builder().context(&net.context).send_mark(1u32).mandatory(mandatory).build().unwrap()
}

fn dealer(net: &Net, id: &'static str) -> Dealer {
    Dealer::builder().context(&net.context).routing_id(id).receive_mark(1u32).build().unwrap()
}

/// All the room a ROUTER has with a peer.
fn all_room_with<'a>(router: &'a Router, id: &str) -> Vec<Reservation<'a>> {
    let room = || router.try_reserve_to(id).ok().filter(|room| room.peer().is_some());
    let room = std::iter::from_fn(room).take(1000).collect::<Vec<_>>();
    assert!(!room.is_empty() && room.len() < 1000);
    room
}

fn a_router_reserves_by_routing_id(net: &Net) {
    let router = router(net, true);
    let dealers = [dealer(net, "a"), dealer(net, "b")];
    net.join(&router, &[&dealers[0], &dealers[1]]);
    let (to_b, to_a) = (router.reserve_to("b").unwrap(), router.reserve_to("a").unwrap());
    assert_eq!(router.peer(to_a.peer().unwrap()).unwrap().routing_id, "a");
    to_a.send("to a").unwrap();
    to_b.send(["to", "b"]).unwrap();
    assert_eq!(dealers[0].recv_timeout(LONG).unwrap(), "to a");
    assert_eq!(dealers[1].recv_timeout(LONG).unwrap(), Message::from(["to", "b"]));
}

fn a_router_drops_and_counts_what_it_had_no_peer_for(net: &Net) {
    let router = router(net, false);
    let dealer = dealer(net, "d");
    net.join(&router, &[&dealer]);
    let (unknown, known) = (router.reserve_to("unknown").unwrap(), router.reserve_to("d").unwrap());
    assert!(unknown.peer().is_none());
    let peer = known.peer().unwrap();
    drop(dealer);
    until("the peer is gone", || !router.peers().iter().any(|there| there.id == peer));
    drop(router.reserve_to("unknown").unwrap());
    assert_eq!(router.stats().accepted, 0, "what is not sent is not dropped");
    unknown.send("dropped").unwrap();
    known.send("dropped").unwrap();
    let stats = router.stats();
    assert_eq!((stats.accepted, stats.dropped.unroutable, stats.dropped.total()), (2, 2, 2));
}

fn a_router_drops_and_counts_what_it_had_no_room_for(net: &Net) {
    let router = router(net, false);
    let dealer = dealer(net, "d");
    net.join(&router, &[&dealer]);
    let all = all_room_with(&router, "d");
    let none = router.reserve_to("d").unwrap();
    assert!(none.peer().is_none());
    none.send("dropped").unwrap();
    drop(all);
    assert_eq!((router.stats().accepted, router.stats().dropped.high_water_mark), (1, 1));
    router.send_to("d", "room again").unwrap();
    assert_eq!(dealer.recv_timeout(LONG).unwrap(), "room again");
}

fn under_mandatory_a_router_waits_for_room_and_hands_back_what_is_unroutable(net: &Net) {
    let router = router(net, true);
    let dealer = dealer(net, "d");
    net.join(&router, &[&dealer]);
    assert_eq!(router.reserve_to("unknown").unwrap_err(), SendFailure::Unroutable);
    let all = all_room_with(&router, "d");
    assert_eq!(router.try_send_to("d", "x").unwrap_err().reason, SendFailure::WouldBlock);
    assert_eq!(router.reserve_to_timeout("d", Duration::from_millis(20)).unwrap_err(), SendFailure::TimedOut);
    let room = thread::scope(|scope| {
        let waiting = scope.spawn(|| router.reserve_to_timeout("d", LONG));
        drop(all);
        waiting.join().unwrap().unwrap()
    });
    let peer = room.peer().unwrap();
    drop(dealer);
    until("the peer is gone", || !router.peers().iter().any(|there| there.id == peer));
    let error = room.send("handed back").unwrap_err();
    assert_eq!((error.reason, error.message), (SendFailure::Unroutable, "handed back".into()));
    assert_eq!(router.stats().accepted, 0);
}

fn a_newcomer_with_the_id_gets_what_was_reserved_for_it(net: &Net) {
    let router = router(net, true);
    let old = dealer(net, "d");
    let endpoint = net.join(&router, &[&old]);
    let room = router.reserve_to("d").unwrap();
    let peer = room.peer().unwrap();
    drop(old);
    until("the peer is gone", || !router.peers().iter().any(|there| there.id == peer));
    let new = dealer(net, "d");
    new.connect(&endpoint).unwrap();
    router.wait_for_peers(1, LONG).unwrap();
    room.send("by id").unwrap();
    assert_eq!(new.recv_timeout(LONG).unwrap(), "by id");
}

fn whoever_takes_an_id_over_gets_what_was_reserved_for_it(net: &Net) {
    let router = Router::builder().context(&net.context).handover(true).build().unwrap();
    let (old, new) = (dealer(net, "d"), dealer(net, "d"));
    let endpoint = net.join(&router, &[&old]);
    let room = router.reserve_to("d").unwrap();
    new.connect(&endpoint).unwrap();
    new.send("it is me now").unwrap();
    assert_eq!(router.recv_timeout(LONG).unwrap().0, "d");
    room.send("by id").unwrap();
    assert_eq!(new.recv_timeout(LONG).unwrap(), "by id");
}

/// A ROUTER at which a peer can take over the id of another, with a DEALER that does not come back soon.
fn router_with_handover(net: &Net) -> (Router, Dealer, PeerId, String) {
    let router = Router::builder().context(&net.context).send_mark(1u32).handover(true).mandatory(true);
    let router = router.build().unwrap();
    let old = Dealer::builder().context(&net.context).routing_id("d").receive_mark(1u32).reconnect_interval(LONG);
    let old = old.build().unwrap();
    let endpoint = net.join(&router, &[&old]);
    let peer = router.peers()[0].id;
    (router, old, peer, endpoint)
}

fn whoever_takes_an_id_over_gets_nothing_that_was_reserved_with_the_peer_before(net: &Net) {
    let (router, _old, peer, endpoint) = router_with_handover(net);
    let room = router.reserve_to(peer).unwrap();
    assert_eq!(room.peer(), Some(peer));
    let new = dealer(net, "d");
    new.connect(&endpoint).unwrap();
    until("the one before is gone", || !router.peers().iter().any(|there| there.id == peer));
    let error = room.send("for the one before").unwrap_err();
    assert_eq!((error.reason, error.message), (SendFailure::Unroutable, "for the one before".into()));
    router.send_to("d", "by id").unwrap();
    assert_eq!(new.recv_timeout(LONG).unwrap(), "by id");
}

fn a_reserve_that_waits_for_a_peer_ends_when_another_one_has_its_id(net: &Net) {
    let (router, _old, peer, endpoint) = router_with_handover(net);
    let all = all_room_with(&router, "d");
    thread::scope(|scope| {
        let (found_none, wait) = mpsc::channel();
        let router = &router;
        let waiting = scope.spawn(move || {
            assert_eq!(router.try_reserve_to(peer).unwrap_err(), SendFailure::WouldBlock);
            found_none.send(()).unwrap();
            router.reserve_to_timeout(peer, LONG).map(|room| room.peer())
        });
        wait.recv().unwrap();
        let new = dealer(net, "d");
        new.connect(&endpoint).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap_err(), SendFailure::Unroutable);
    });
    drop(all);
}

fn reserving_asks_nothing_of_a_req_and_the_first_send_wins(net: &Net) {
    let (req, rep) = (Req::in_context(&net.context), Rep::in_context(&net.context));
    net.join(&rep, &[&req]);
    let (first, second) = (req.reserve().unwrap(), req.reserve().unwrap());
    assert!(matches!(req.try_recv().unwrap_err(), RecvError::WrongState(_)));
    thread::scope(|scope| scope.spawn(|| second.send("asked")).join().unwrap()).unwrap();
    let error = first.send("not asked").unwrap_err();
    assert!(matches!(error.reason, SendFailure::WrongState(_)), "{error}");
    assert_eq!(error.message, "not asked");
    assert!(matches!(req.reserve().unwrap_err().reason, SendFailure::WrongState(_)));
    assert_eq!(rep.recv_timeout(LONG).unwrap(), "asked");
    rep.send("answered").unwrap();
    assert_eq!(req.recv_timeout(LONG).unwrap(), "answered");
    req.reserve().unwrap().send("asked again").unwrap();
    assert_eq!(rep.recv_timeout(LONG).unwrap(), "asked again");
}

fn a_request_into_reserved_room_gets_its_reply_and_no_older_one(net: &Net) {
    let req = Req::builder().context(&net.context).relaxed(true).correlate(true).build().unwrap();
    let rep = Rep::in_context(&net.context);
    net.join(&rep, &[&req]);
    let (first, second) = (req.reserve().unwrap(), req.reserve().unwrap());
    first.send("first").unwrap();
    assert_eq!(rep.recv_timeout(LONG).unwrap(), "first");
    rep.send("to the first").unwrap();
    second.send("second").unwrap();
    assert_eq!(rep.recv_timeout(LONG).unwrap(), "second");
    rep.send("to the second").unwrap();
    assert_eq!(req.recv_timeout(LONG).unwrap(), "to the second");
}

fn publisher(net: &Net, nodrop: bool) -> Pub {
    Pub::builder().context(&net.context).send_mark(1u32).nodrop(nodrop).build().unwrap()
}

fn subscriber(net: &Net, topic: &str) -> Sub {
    let subscriber = Sub::builder().context(&net.context).receive_mark(1u32).build().unwrap();
    subscriber.subscribe(topic).unwrap();
    subscriber
}

/// How many places a subscriber has: the marks of both ends add up within the process.
fn places(net: &Net) -> usize {
    if net.is_stream() { 1 } else { 2 }
}

fn whoever_subscribes_later_is_not_in_the_match_set(net: &Net) {
    let publisher = Pub::in_context(&net.context);
    let (early, late) = (subscriber(net, "news"), subscriber(net, "news"));
    let endpoint = net.join(&publisher, &[&early]);
    publisher.wait_for_subscribers(1, LONG).unwrap();
    let (room, none) = (publisher.reserve("news.1").unwrap(), publisher.reserve("weather").unwrap());
    assert!(room.peer().is_none());
    late.connect(&endpoint).unwrap();
    late.subscribe("weather").unwrap();
    publisher.wait_for_subscribers(2, LONG).unwrap();
    until("all topics are known", || publisher.topic_count() == 2);
    room.send("news.1").unwrap();
    none.send("weather").unwrap();
    publisher.send("news.2").unwrap();
    assert_eq!(early.recv_timeout(LONG).unwrap(), "news.1");
    assert_eq!(early.recv_timeout(LONG).unwrap(), "news.2");
    assert_eq!(late.recv_timeout(LONG).unwrap(), "news.2");
    assert_eq!((publisher.stats().accepted, publisher.stats().dropped.unroutable), (4, 1));
}

fn a_subscriber_that_has_left_is_skipped(net: &Net) {
    let publisher = publisher(net, false);
    let (stays, leaves) = (subscriber(net, ""), subscriber(net, ""));
    net.join(&publisher, &[&stays, &leaves]);
    publisher.wait_for_subscribers(2, LONG).unwrap();
    let room = publisher.reserve("x").unwrap();
    drop(leaves);
    until("one is gone", || publisher.peers().len() == 1);
    room.send("x").unwrap();
    assert_eq!(stays.recv_timeout(LONG).unwrap(), "x");
    assert_eq!(publisher.stats().accepted, 1);
    let room = publisher.reserve("x").unwrap();
    drop(stays);
    until("both are gone", || publisher.peers().is_empty());
    room.send("x").unwrap();
    let stats = publisher.stats();
    assert_eq!((stats.accepted, stats.dropped.unroutable), (2, 1));
    assert!(stats.is_balanced());
}

fn a_subscriber_at_its_mark_misses_the_message_which_is_counted_when_it_is_sent(net: &Net) {
    let publisher = publisher(net, false);
    let subscriber = subscriber(net, "");
    net.join(&publisher, &[&subscriber]);
    publisher.wait_for_subscribers(1, LONG).unwrap();
    let mut all: Vec<_> = (0..places(net)).map(|_| publisher.reserve("x").unwrap()).collect();
    let (missed, given_up) = (publisher.reserve("x").unwrap(), publisher.reserve("x").unwrap());
    drop(given_up);
    let first = all.pop().unwrap();
    drop(all);
    assert_eq!(publisher.stats().dropped.total(), 0, "what is not sent is not missed");
    missed.send("missed").unwrap();
    let peer = publisher.peers()[0].clone();
    assert_eq!((peer.stats.accepted, peer.stats.dropped.high_water_mark), (1, 1));
    first.send("got").unwrap();
    assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "got");
    let stats = publisher.stats();
    assert_eq!((stats.accepted, stats.dropped.high_water_mark, stats.dropped.total()), (2, 1, 1));
}

fn under_nodrop_a_reservation_waits_for_a_full_subscriber(net: &Net) {
    let publisher = publisher(net, true);
    let (subscriber, other) = (subscriber(net, "a"), subscriber(net, "b"));
    net.join(&publisher, &[&subscriber, &other]);
    until("both are known", || publisher.topic_count() == 2);
    let all: Vec<_> = (0..places(net)).map(|_| publisher.try_reserve("a").unwrap()).collect();
    assert_eq!(publisher.try_reserve("a").unwrap_err(), SendFailure::WouldBlock);
    assert_eq!(publisher.try_send("a").unwrap_err().reason, SendFailure::WouldBlock);
    assert_eq!(publisher.reserve_timeout("a", Duration::from_millis(20)).unwrap_err(), SendFailure::TimedOut);
    publisher.try_send("b").unwrap();
    assert_eq!(other.recv_timeout(LONG).unwrap(), "b");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| publisher.reserve_timeout("a", LONG).unwrap().send("a"));
        drop(all);
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "a");
    assert_eq!(publisher.stats().dropped.total(), 0);
}

fn many_subscribers_get_what_was_reserved_for(net: &Net) {
    let publisher = XPub::in_context(&net.context);
    let subscribers: Vec<_> = (0..5).map(|_| subscriber(net, "t")).collect();
    net.join(&publisher, &subscribers.iter().map(|subscriber| &**subscriber).collect::<Vec<_>>());
    publisher.wait_for_subscribers(5, LONG).unwrap();
    for body in [vec![b't'; 10], vec![b't'; 100_000]] {
        publisher.reserve_timeout("topic", LONG).unwrap().send(&body).unwrap();
        for subscriber in &subscribers {
            assert_eq!(subscriber.recv_timeout(LONG).unwrap().first(), body);
        }
    }
    assert_eq!(publisher.stats().accepted, 10);
}

fn a_message_too_long_for_a_subscriber_gives_its_room_back(net: &Net) {
    for nodrop in [false, true] {
        let publisher = publisher(net, nodrop);
        let subscriber = Sub::builder().context(&net.context).receive_mark(1u32).max_message_size(1000u64);
        let subscriber = subscriber.build().unwrap();
        subscriber.subscribe("").unwrap();
        net.join(&publisher, &[&subscriber]);
        publisher.wait_for_subscribers(1, LONG).unwrap();
        let all = || (0..places(net)).map(|_| publisher.try_reserve("").unwrap()).collect::<Vec<_>>();
        for room in all() {
            room.send(vec![0; 2000]).unwrap();
        }
        publisher.try_send("small").unwrap();
        assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "small");
        until("its room is free again", || publisher.try_reserve("").is_ok());
        let mut all = all();
        if nodrop {
            assert_eq!(publisher.try_send("waits").unwrap_err().reason, SendFailure::WouldBlock);
            thread::scope(|scope| {
                let waiting = scope.spawn(|| publisher.send_timeout("waits", LONG));
                all.remove(0).send(vec![0; 2000]).unwrap();
                waiting.join().unwrap().unwrap();
            });
            assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "waits");
        }
        let dropped = publisher.stats().dropped;
        let too_large = places(net) + usize::from(nodrop);
        assert_eq!((dropped.too_large, dropped.total()), (too_large as u64, too_large as u64));
    }
}

#[test]
fn a_socket_of_any_kind_reserves_where_its_kind_can() {
    let net = Net::new("inproc");
    for kind in SocketKind::ALL {
        let socket = AnySocket::in_context(kind, &net.context);
        let none = |operation| Err(SendFailure::NotSupported { kind, operation });
        let wanted = match kind {
            SocketKind::Push | SocketKind::Dealer | SocketKind::Pair | SocketKind::Req => {
                (Err(SendFailure::WouldBlock), none("reserve room by routing id or topic"))
            }
            SocketKind::Router | SocketKind::Pub | SocketKind::XPub => {
                (none("reserve room without a routing id or a topic"), Ok(()))
            }
            SocketKind::Pull | SocketKind::Sub | SocketKind::XSub | SocketKind::Rep => {
                (none("reserve room"), none("reserve room"))
            }
        };
        let both = [socket.try_reserve(), socket.try_reserve_to("x")];
        let [by_turn, to_one] = both.map(|reserved| reserved.map(drop).map_err(|error| error.reason));
        assert_eq!((by_turn, to_one), wanted, "{kind:?}");
    }
}

#[test]
fn a_failed_reservation_is_an_io_error_of_the_same_kind_as_a_failed_send() {
    let push = Push::in_context(&Net::new("inproc").context);
    let (reserved, sent) = (push.try_reserve().unwrap_err(), push.try_send("x").unwrap_err());
    assert_eq!(io::Error::from(reserved).kind(), io::ErrorKind::WouldBlock);
    assert_eq!(io::Error::from(sent).kind(), io::ErrorKind::WouldBlock);
}
