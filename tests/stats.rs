//! The accounting law: accepted = written + queued + dropped, for the socket and for each peer, against what receivers
//! count.

#[macro_use]
mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::{LONG, Net, until};
use wiremesh::{Context, Dealer, Dropped, Message, PeerStats, Pub, Pull, Push, Router, Stats, Sub, XPub};

over!([tcp ipc inproc]:
    a_new_socket_has_counted_nothing
    what_is_sent_is_counted_as_it_goes
    what_is_received_is_counted_in_messages_and_octets
    each_peer_has_its_own_numbers
    what_waits_to_be_read_is_counted
    what_a_sender_that_is_gone_left_unread_is_still_counted
    a_refused_send_is_not_counted
    every_reason_for_a_drop_has_its_own_number
    what_waits_for_a_peer_that_is_gone_is_dropped_and_counted
    the_law_holds_in_every_snapshot_under_stress
    receivers_count_what_the_sender_says_was_written
);

over!([tcp ipc]:
    reconnects_are_counted
    the_numbers_of_a_peer_that_is_gone_can_still_be_asked_for
);

fn check(stats: Stats) -> Stats {
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!(stats.accepted, stats.written + stats.queued + stats.dropped.total());
    stats
}

fn a_new_socket_has_counted_nothing(net: &Net) {
    let push = Push::in_context(&net.context);
    assert_eq!(push.stats(), Stats::default());
    push.bind(net.fresh()).unwrap();
    push.connect(net.fresh()).unwrap();
    assert_eq!(push.stats(), Stats::default());
    assert_eq!(push.peers()[0].stats, PeerStats::default());
}

fn what_is_sent_is_counted_as_it_goes(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    let endpoint = net.fresh();
    push.connect(&endpoint).unwrap();
    push.send("12345").unwrap();
    push.send(Message::from_iter(["123", "45"])).unwrap();
    let stats = check(push.stats());
    assert_eq!((stats.accepted, stats.queued, stats.written), (2, 2, 0));
    // Ten octets of bodies and a header of two for each frame.
    assert_eq!(stats.queued_bytes, 16);
    pull.bind(&endpoint).unwrap();
    for _ in 0..2 {
        pull.recv_timeout(LONG).unwrap();
    }
    until("all is written", || push.stats().queued == 0);
    let stats = check(push.stats());
    assert_eq!((stats.accepted, stats.queued_bytes, stats.written, stats.connections), (2, 0, 2, 1));
    let peer = push.peers()[0].stats;
    assert_eq!((peer.accepted, peer.written, peer.queued, peer.queued_bytes), (2, 2, 0, 0));
    assert_eq!((peer.dropped, peer.is_balanced()), (Dropped::default(), true));
    // As many octets as the other end says have come.
    assert_eq!((stats.written_bytes, peer.written_bytes, pull.stats().received_bytes), (16, 16, 16));
}

fn what_is_received_is_counted_in_messages_and_octets(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    net.join(&pull, &[&push]);
    push.send("12345").unwrap();
    push.send(Message::from_iter(["", "1"])).unwrap();
    push.send(vec![0; 1000]).unwrap();
    push.send(vec![0; 100_000]).unwrap();
    for _ in 0..4 {
        pull.recv_timeout(LONG).unwrap();
    }
    let octets = (2 + 5) + (2 + 2 + 1) + (9 + 1000) + (9 + 100_000);
    let stats = pull.stats();
    assert_eq!((stats.received, stats.unread), (4, 0));
    let peer = pull.peers()[0].stats;
    assert_eq!((peer.received, peer.received_bytes, stats.received_bytes), (4, octets, octets));
    until("all is counted as written", || push.stats().written == 4);
    assert_eq!(push.stats().written_bytes, octets);
}

fn each_peer_has_its_own_numbers(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let pushes = [(); 3].map(|()| Push::in_context(&net.context));
    net.join(&pull, &[&pushes[0], &pushes[1], &pushes[2]]);
    for (index, push) in pushes.iter().enumerate() {
        push.send_many(vec!["x"; index + 1]).unwrap();
    }
    for _ in 0..6 {
        pull.recv_timeout(LONG).unwrap();
    }
    let mut received: Vec<u64> = pull.peers().iter().map(|peer| peer.stats.received).collect();
    received.sort_unstable();
    assert_eq!(received, [1, 2, 3]);
}

fn what_waits_to_be_read_is_counted(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    net.join(&pull, &[&push]);
    push.send_many(["x"; 10]).unwrap();
    if !net.is_stream() {
        // What no receiver has fetched is still the sender's.
        pull.recv_timeout(LONG).unwrap();
        push.send("x").unwrap();
    }
    until("all have arrived", || pull.stats().unread + push.stats().queued == 10 && push.stats().queued <= 1);
    for _ in 0..10 {
        pull.recv_timeout(LONG).unwrap();
    }
    assert_eq!(pull.stats().unread, 0);
}

fn what_a_sender_that_is_gone_left_unread_is_still_counted(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    net.join(&pull, &[&push]);
    push.send_many(["x"; 10]).unwrap();
    drop(push);
    until("it is gone", || pull.stats().connections == 0);
    assert_eq!(pull.stats().unread, 10);
    for left in (0..10).rev() {
        pull.recv_timeout(LONG).unwrap();
        // Credit goes back in steps, and with it the number; at the end it is exact.
        assert!(pull.stats().unread >= left);
    }
    assert!(pull.try_recv().is_err());
    assert_eq!((pull.stats().unread, pull.stats().received), (0, 10));
}

fn a_refused_send_is_not_counted(net: &Net) {
    let push = Push::builder().context(&net.context).send_mark(2u32).build().unwrap();
    push.connect(net.fresh()).unwrap();
    for _ in 0..10 {
        let _ = push.try_send("x");
    }
    let stats = check(push.stats());
    assert_eq!((stats.accepted, stats.queued, stats.dropped), (2, 2, Dropped::default()));
}

fn every_reason_for_a_drop_has_its_own_number(net: &Net) {
    let nobody = Pub::in_context(&net.context);
    nobody.send("unroutable").unwrap();
    let router = Router::in_context(&net.context);
    router.send_to("unknown", "unroutable").unwrap();
    let conflating = Push::builder().context(&net.context).conflate(true).build().unwrap();
    conflating.connect(net.fresh()).unwrap();
    conflating.send_many(["replaced", "kept"]).unwrap();
    let named = Router::builder().context(&net.context).connect_routing_id("peer").send_mark(1u32).build().unwrap();
    named.connect(net.fresh()).unwrap();
    named.send_to("peer", "queued").unwrap();
    named.send_to("peer", "at the mark").unwrap();
    let impatient = Push::builder().context(&net.context).linger(Duration::ZERO).build().unwrap();
    impatient.connect(net.fresh()).unwrap();
    impatient.send("given up").unwrap();
    impatient.close();
    until("it is given up", || impatient.stats().queued == 0);
    for (stats, number) in [
        (nobody.stats(), (|dropped| dropped.unroutable) as fn(Dropped) -> u64),
        (router.stats(), |dropped| dropped.unroutable),
        (conflating.stats(), |dropped| dropped.conflate),
        (named.stats(), |dropped| dropped.high_water_mark),
        (impatient.stats(), |dropped| dropped.linger),
    ] {
        let dropped = check(stats).dropped;
        assert_eq!((number(dropped), dropped.total()), (1, 1), "{stats:?}");
    }
}

fn what_waits_for_a_peer_that_is_gone_is_dropped_and_counted(net: &Net) {
    let dealer = Dealer::builder().context(&net.context).send_mark(0u32).send_buffer(4096usize).build().unwrap();
    let gone = Dealer::builder().context(&net.context).receive_mark(1u32).receive_buffer(4096usize).build().unwrap();
    net.join(&dealer, &[&gone]);
    for _ in 0..100 {
        dealer.send(vec![0; 50_000]).unwrap();
    }
    drop(gone);
    until("it is gone", || dealer.stats().connections == 0);
    let stats = check(dealer.stats());
    assert_eq!((stats.accepted, stats.queued), (100, 0));
    assert!(stats.dropped.disconnect > 0 && stats.dropped.total() == stats.dropped.disconnect, "{stats:?}");
}

fn the_law_holds_in_every_snapshot_under_stress(net: &Net) {
    let publisher = Pub::builder().context(&net.context).send_mark(50u32).build().unwrap();
    let endpoint = net.fresh();
    publisher.bind(&endpoint).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Subscribers come, read a while and go.
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let subscriber = Sub::builder().context(&net.context).receive_mark(10u32).build().unwrap();
                    subscriber.subscribe("").unwrap();
                    subscriber.connect(&endpoint).unwrap();
                    for _ in 0..200 {
                        if subscriber.recv_timeout(Duration::from_millis(20)).is_err() {
                            break;
                        }
                    }
                }
            });
        }
        let senders = [(); 2].map(|()| {
            scope.spawn(|| {
                for size in (0..10_000).map(|number| number % 500) {
                    publisher.send(&[1; 500][..size]).unwrap();
                }
            })
        });
        let mut last = 0;
        while !senders.iter().all(|sender| sender.is_finished()) {
            let stats = check(publisher.stats());
            assert!(stats.accepted >= last);
            last = stats.accepted;
        }
        over.store(true, Ordering::Relaxed);
    });
    until("everybody is gone", || publisher.stats().connections == 0);
    let stats = check(publisher.stats());
    assert_eq!(stats.queued, 0);
}

fn receivers_count_what_the_sender_says_was_written(net: &Net) {
    let publisher = Pub::builder().context(&net.context).send_mark(20u32).build().unwrap();
    let subscribers = [(); 3].map(|()| {
        let subscriber = Sub::builder().context(&net.context).receive_mark(20u32).build().unwrap();
        subscriber.subscribe("a").unwrap();
        subscriber
    });
    net.join(&publisher, &[&subscribers[0], &subscribers[1], &subscribers[2]]);
    publisher.wait_for_subscribers(3, LONG).unwrap();
    let heard = AtomicU64::new(0);
    thread::scope(|scope| {
        for subscriber in &subscribers {
            let heard = &heard;
            scope.spawn(move || {
                let mut last = None;
                while let Ok(message) = subscriber.recv_timeout(LONG) {
                    if message == "a: end" {
                        break;
                    }
                    let number: Option<u32> = Some(u32::from_le_bytes(message.frame(1).unwrap().try_into().unwrap()));
                    assert!(last < number, "{last:?} {number:?}");
                    last = number;
                    heard.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for number in 0..20_000u32 {
            let topic = if number % 10 == 0 { "b" } else { "a" };
            publisher.send(Message::from_iter([topic.as_bytes(), &number.to_le_bytes()])).unwrap();
        }
        // The end must not be dropped: it waits for room.
        publisher.set(wiremesh::Setting::Nodrop(true)).unwrap();
        publisher.send_timeout("a: end", LONG).unwrap();
        publisher.flush(LONG).unwrap();
    });
    let stats = check(publisher.stats());
    assert_eq!(stats.accepted, 18_000 * 3 + 2000 + 3);
    assert_eq!((stats.dropped.unroutable, stats.queued), (2000, 0));
    assert_eq!(stats.written, heard.load(Ordering::Relaxed) + 3);
    assert_eq!(stats.dropped.total(), 2000 + stats.dropped.high_water_mark);
    let received: u64 = subscribers.iter().map(|subscriber| subscriber.stats().received).sum();
    assert_eq!(received, stats.written);
}

fn reconnects_are_counted(net: &Net) {
    let push = Push::in_context(&net.context);
    let endpoint = net.fresh();
    push.connect(&endpoint).unwrap();
    for round in 0..4u8 {
        let pull = Pull::in_context(&net.context);
        until("the address is free", || pull.bind(&endpoint).is_ok());
        push.send([round]).unwrap();
        assert_eq!(pull.recv_timeout(LONG).unwrap().first(), [round]);
        let stats = check(push.stats());
        assert_eq!((stats.connections, stats.reconnects), (1, round.into()));
        assert_eq!(push.peers()[0].stats.reconnects, round.into());
        drop(pull);
        until("the loss is noticed", || push.stats().connections == 0);
    }
}

fn the_numbers_of_a_peer_that_is_gone_can_still_be_asked_for(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    net.join(&pull, &[&push]);
    push.send_many(["x"; 3]).unwrap();
    let message = pull.recv_timeout(LONG).unwrap();
    let peer = message.peer().unwrap();
    drop(push);
    until("it is gone", || pull.stats().connections == 0);
    assert!(pull.peers().is_empty());
    let info = pull.peer(peer).unwrap();
    assert!(!info.connected);
    assert_eq!(info.stats.received, 3);
    for _ in 0..2 {
        pull.recv_timeout(LONG).unwrap();
    }
    // Nothing of it is left, and its numbers still are.
    assert!(pull.try_recv().is_err());
    let stats = pull.peer(peer).unwrap().stats;
    assert_eq!((stats.received, stats.received_bytes, pull.stats().received_bytes), (3, 9, 9));
}

#[test]
fn a_peer_knows_what_was_dropped_for_it_and_why() {
    let net = Net::new("inproc");
    let named = Router::builder().context(&net.context).connect_routing_id("peer").send_mark(1u32).build().unwrap();
    named.connect(net.fresh()).unwrap();
    let conflating = Push::builder().context(&net.context).conflate(true).build().unwrap();
    conflating.connect(net.fresh()).unwrap();
    let publisher = XPub::builder().context(&net.context).send_mark(1u32).build().unwrap();
    let subscriber = Sub::builder().context(&net.context).receive_mark(1u32).build().unwrap();
    net.join(&publisher, &[&subscriber]);
    subscriber.subscribe("").unwrap();
    publisher.wait_for_subscribers(1, LONG).unwrap();
    for _ in 0..3 {
        named.send_to("peer", "x").unwrap();
        conflating.send("x").unwrap();
        publisher.send("x").unwrap();
    }
    for (socket, number, dropped) in [
        (&*named, (|dropped| dropped.high_water_mark) as fn(Dropped) -> u64, 2),
        (&*conflating, |dropped| dropped.conflate, 2),
        (&*publisher, |dropped| dropped.high_water_mark, 1),
    ] {
        let stats = socket.peers()[0].stats;
        assert!(stats.is_balanced(), "{stats:?}");
        assert_eq!((stats.accepted, number(stats.dropped), stats.dropped.total()), (3, dropped, dropped), "{stats:?}");
        assert_eq!(stats.dropped, check(socket.stats()).dropped);
    }
}

#[test]
fn what_the_byte_budget_has_no_room_for_is_dropped_for_the_limit() {
    let context = Context::builder().byte_budget(Some(100_000)).drop_wait(Some(Duration::ZERO)).build();
    let router = Router::builder().context(&context).connect_routing_id("peer").build().unwrap();
    router.connect("inproc://nobody").unwrap();
    for _ in 0..5 {
        router.send_to("peer", vec![0; 60_000]).unwrap();
    }
    let stats = check(router.stats());
    assert!(stats.queued > 0 && stats.dropped.limit > 0, "{stats:?}");
    assert_eq!(stats.dropped.limit, stats.dropped.total());
    assert_eq!(router.peers()[0].stats.dropped, stats.dropped);
}

#[test]
fn subscriptions_beyond_the_limit_are_counted() {
    let net = Net::new("tcp");
    let publisher = Pub::builder().context(&net.context).max_subscriptions(2u32).build().unwrap();
    let subscriber = Sub::in_context(&net.context);
    net.join(&publisher, &[&subscriber]);
    for topic in ["a", "b", "c", "d", "e"] {
        subscriber.subscribe(topic).unwrap();
    }
    until("all have come", || publisher.stats().refused_subscriptions == 3);
    assert_eq!((publisher.topic_count(), publisher.peers()[0].stats.refused_subscriptions), (2, 3));
}
