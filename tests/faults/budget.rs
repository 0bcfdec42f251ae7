//! The octets a context may hold, and sockets that stop each other by what they hold of them.

use crate::support::raw::Raw;
use crate::support::{Blocked, Nobody, Over, PATIENCE, eventually, within};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{
    BudgetHalf, Context, Event, EventKind, Monitor, Pair, Pub, Pull, Push, Rep, Req, SendFailure, Shortage, SocketKind,
    Sub, XPub, XSub,
};

const MIB: usize = 1 << 20;

fn context_with(budget: usize) -> Context {
    Context::builder().byte_budget(Some(budget as u64)).drop_wait(Some(Duration::ZERO)).report_unsent(false).build()
}

/// A socket of the context that has queued as much as it may for a peer that does not read.
fn stalled(context: &Context, size: usize) -> (Push, Raw) {
    let push = Push::builder().context(context).linger(Duration::ZERO).send_mark(0u32).build().expect("good options");
    let endpoint = push.bind("tcp://127.0.0.1:*").expect("bound");
    let mut peer = Raw::connect(endpoint.as_str()).expect("accepted");
    peer.shake_hands("PULL").expect("a socket");
    push.wait_for_peers(1, PATIENCE).expect("a peer");
    while push.try_send(vec![1; size]).is_ok() {}
    (push, peer)
}

// ----- nothing stands still -----

/// What the first of them is to hold uses the budget up: the others had room as well when the message was taken.
#[test]
fn a_message_that_a_publisher_with_nodrop_takes_goes_to_all_its_subscribers() {
    let (context, others) = (context_with(2 * MIB), Context::new());
    let publisher =
        Pub::builder().context(&context).nodrop(true).send_mark(0u32).linger(Duration::ZERO).build().expect("good");
    let endpoint = publisher.bind("tcp://127.0.0.1:*").expect("bound");
    let subscribers: Vec<Sub> = (0..8)
        .map(|_| {
            let sub = Sub::builder().context(&others).receive_mark(1u32).build().expect("good options");
            sub.subscribe("").expect("open");
            sub.connect(&endpoint).expect("a good endpoint");
            sub
        })
        .collect();
    publisher.wait_for_subscribers_to("", subscribers.len(), PATIENCE).expect("all are there");
    let mut sent = 0;
    while publisher.send_timeout(vec![7; 20_000], Duration::from_millis(100)).is_ok() {
        sent += 1;
    }
    assert!(context.bytes_held(BudgetHalf::Sending) > 0, "the budget stops it, after {sent} messages");
    assert_eq!(publisher.stats().dropped.total(), 0, "of {sent} messages");
}

#[test]
fn subscribers_that_paused_in_the_context_of_their_publisher_go_on_when_they_read_again() {
    within(PATIENCE * 2, "the subscribers", || {
        let context = context_with(8 * MIB);
        let publisher = Pub::in_context(&context);
        let endpoint = publisher.bind("tcp://127.0.0.1:*").expect("bound");
        let subscribers: Vec<Sub> = (0..24)
            .map(|_| {
                let sub = Sub::in_context(&context);
                sub.subscribe("").expect("open");
                sub.connect(&endpoint).expect("a good endpoint");
                sub
            })
            .collect();
        publisher.wait_for_subscribers_to("", 24, PATIENCE).expect("all are there");
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    publisher.send(vec![7; 300_000]).expect("accepted");
                    // Who publishes as fast as it can leaves no processor to those who read.
                    thread::yield_now();
                }
            });
            eventually(PATIENCE, "the budget is used up", || publisher.stats().dropped.limit > 100);
            let readers: Vec<_> = subscribers
                .iter()
                .map(|sub| scope.spawn(|| (0..20).all(|_| sub.recv_timeout(PATIENCE).is_ok())))
                .collect();
            let all = readers.into_iter().all(|reader| reader.join().expect("no panic"));
            done.store(true, Ordering::Relaxed);
            assert!(all, "a subscriber got no more");
        });
    });
}

#[test]
fn long_messages_between_sockets_of_one_context_arrive_though_their_queue_fills_the_budget() {
    within(PATIENCE, "the messages", || {
        for over in Over::STREAMS {
            let context = context_with(4 * MIB);
            let (push, pull) = (Push::in_context(&context), Pull::in_context(&context));
            push.connect(pull.bind(over.wildcard()).expect("bound")).expect("a good endpoint");
            thread::scope(|scope| {
                scope.spawn(|| (0..40).for_each(|_| push.send_timeout(vec![7; MIB], PATIENCE).expect("it goes on")));
                for number in 0..40 {
                    assert_eq!(pull.recv_timeout(PATIENCE).expect("a message").byte_len(), MIB, "{number}");
                }
            });
        }
    });
}

fn serves_long_requests(context: &Context) {
    let rep = Rep::in_context(context);
    let endpoint = rep.bind("tcp://127.0.0.1:*").expect("bound");
    let req = Req::in_context(&Context::new());
    req.connect(&endpoint).expect("a good endpoint");
    for _ in 0..10 {
        req.send(vec![7; 2 * MIB]).expect("accepted");
        let request = rep.recv_timeout(PATIENCE / 3).expect("a request");
        assert_eq!(request.byte_len(), 2 * MIB);
        rep.send(request).expect("accepted");
        assert_eq!(req.recv_timeout(PATIENCE / 3).expect("the answer").byte_len(), 2 * MIB);
    }
}

#[test]
fn peers_that_do_not_read_do_not_keep_another_socket_from_long_requests() {
    within(PATIENCE * 2, "the requests", || {
        let context = context_with(16 * MIB);
        let _stalled: Vec<(Push, Raw)> = (0..20).map(|_| stalled(&context, MIB)).collect();
        serves_long_requests(&context);
    });
}

#[test]
fn sockets_that_nobody_reads_do_not_keep_another_from_long_requests() {
    within(PATIENCE * 2, "the requests", || {
        let context = context_with(16 * MIB);
        let outside = Context::builder().drop_wait(Some(Duration::ZERO)).report_unsent(false).build();
        let unread: Vec<(Push, Pull)> = (0..5)
            .map(|_| {
                let (push, pull) = (Push::in_context(&outside), Pull::in_context(&context));
                push.connect(pull.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
                (0..12).for_each(|_| push.send_timeout(vec![1; MIB], PATIENCE).expect("accepted"));
                (push, pull)
            })
            .collect();
        eventually(PATIENCE, "the budget is used up", || context.bytes_held(BudgetHalf::Receiving) > 8 * MIB as u64);
        serves_long_requests(&context);
        drop(unread);
    });
}

#[test]
fn a_socket_that_holds_little_queues_on_while_another_holds_much() {
    let context = context_with(4 * MIB);
    let (hog, _peer) = stalled(&context, MIB);
    assert!(hog.try_send(vec![1; MIB]).is_err(), "it has its share");
    let (push, nobody) = (Push::builder().context(&context).linger(Duration::ZERO).build().unwrap(), Nobody::new());
    push.connect(&nobody.endpoint).expect("nobody is there, which is no error");
    for number in 0..64 {
        push.try_send(vec![2; 1000]).unwrap_or_else(|error| panic!("message {number}: {error}"));
    }
}

#[test]
fn one_link_is_read_on_whatever_others_hold_and_another_when_it_stands_still() {
    within(PATIENCE, "the messages", || {
        let context = context_with(4 * MIB);
        let pull = Pull::in_context(&context);
        let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
        let outside = Context::builder().drop_wait(Some(Duration::ZERO)).report_unsent(false).build();
        let hog = Pull::in_context(&context);
        let filler = Push::in_context(&outside);
        filler.connect(hog.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
        (0..8).for_each(|_| filler.send_timeout(vec![1; MIB], PATIENCE).expect("accepted"));
        eventually(PATIENCE, "the budget is used up", || context.bytes_held(BudgetHalf::Receiving) > 2 * MIB as u64);
        let mut halves: Vec<Raw> = (0..3)
            .map(|_| {
                let mut raw = Raw::connect(endpoint.as_str()).expect("accepted");
                raw.shake_hands("PUSH").expect("a socket");
                raw.set_write_timeout(Duration::from_millis(50));
                let message = [&crate::support::raw::long_header(false, MIB as u64)[..], &vec![3; MIB / 2]].concat();
                // What the system does not take now is not needed: it is half of a message in any case.
                let _ = std::io::Write::write_all(&mut raw, &message);
                raw
            })
            .collect();
        let push = Push::in_context(&outside);
        push.connect(&endpoint).expect("a good endpoint");
        for _ in 0..5 {
            push.send_timeout(vec![4; MIB], PATIENCE).expect("accepted");
            assert_eq!(pull.recv_timeout(PATIENCE).expect("a message").byte_len(), MIB);
        }
        halves.clear();
    });
}

// ----- nothing leaks -----

fn is_given_back(context: &Context) {
    for half in [BudgetHalf::Sending, BudgetHalf::Receiving] {
        eventually(PATIENCE, "all is given back", || context.bytes_held(half) == 0);
    }
}

#[test]
fn both_ends_of_a_link_that_close_at_once_leave_nothing_in_the_budget() {
    for over in Over::ALL {
        let context = context_with(8 * MIB);
        for round in 0..40 {
            let ends = [0, 1].map(|_| {
                Pair::builder().context(&context).linger(Duration::ZERO).send_mark(0u32).build().expect("good options")
            });
            let [one, other] = &ends;
            other.connect(one.bind(over.fixed()).expect("bound")).expect("a good endpoint");
            let barrier = Barrier::new(4);
            thread::scope(|scope| {
                for end in &ends {
                    scope.spawn(|| {
                        barrier.wait();
                        while end.try_send(vec![1; 50_000]).is_ok() {}
                    });
                    scope.spawn(|| {
                        barrier.wait();
                        for _ in 0..round {
                            let _ = end.recv_timeout(Duration::from_millis(1));
                        }
                        end.close();
                    });
                }
            });
        }
        is_given_back(&context);
    }
}

#[test]
fn what_a_departed_sender_left_unread_over_inproc_is_counted_until_it_is_read() {
    let context = context_with(8 * MIB);
    let pull = Pull::in_context(&context);
    let endpoint = pull.bind("inproc://left-unread").expect("bound");
    let push = Push::in_context(&context);
    push.connect(&endpoint).expect("a good endpoint");
    (0..30).for_each(|_| push.send(vec![1; 50_000]).expect("accepted"));
    assert_eq!(pull.recv().expect("a message").byte_len(), 50_000);
    let held = context.bytes_held(BudgetHalf::Sending);
    assert!(held > 1_300_000, "what is fetched and not read is the sender's: {held}");
    (0..5).for_each(|_| push.send(vec![1; 50_000]).expect("accepted"));
    drop(push);
    eventually(PATIENCE, "the sender is gone", || context.bytes_held(BudgetHalf::Sending) == 0);
    let held = context.bytes_held(BudgetHalf::Receiving);
    assert!(held > 1_500_000, "what it left is the receiver's: {held}");
    (0..34).for_each(|_| assert_eq!(pull.recv().expect("a message").byte_len(), 50_000));
    assert!(pull.try_recv().is_err());
    is_given_back(&context);
}

#[test]
fn a_message_that_is_being_written_counts_until_its_peer_has_it() {
    let context = context_with(64 * MIB);
    let (push, _peer) = stalled(&context_with(MIB), 10);
    drop(push);
    let push = Push::builder().context(&context).linger(Duration::ZERO).build().expect("good options");
    let endpoint = push.bind("tcp://127.0.0.1:*").expect("bound");
    let mut peer = Raw::connect(endpoint.as_str()).expect("accepted");
    peer.shake_hands("PULL").expect("a socket");
    push.wait_for_peers(1, PATIENCE).expect("a peer");
    push.send(vec![1; 20 * MIB]).expect("accepted");
    let held = context.bytes_held(BudgetHalf::Sending) as usize;
    assert!(held > 8 * MIB, "of 20 MiB {held} are counted, more than the system can have taken");
    let mut rest = vec![0; 20 * MIB + 9];
    std::io::Read::read_exact(&mut peer, &mut rest).expect("the message");
    is_given_back(&context);
}

#[test]
fn what_was_read_is_given_back_without_another_receive() {
    for over in Over::ALL {
        let (context, outside) = (context_with(64 * MIB), Context::new());
        let pull = Pull::in_context(&context);
        let push = Push::in_context(if over == Over::Inproc { &context } else { &outside });
        push.connect(pull.bind(over.wildcard()).expect("bound")).expect("a good endpoint");
        for _ in 0..3 {
            push.send(vec![1; 6 * MIB]).expect("accepted");
            assert_eq!(pull.recv_timeout(PATIENCE).expect("a message").byte_len(), 6 * MIB);
        }
        is_given_back(&context);
    }
}

#[test]
fn who_reads_each_message_over_inproc_misses_none_while_another_socket_fills_the_budget() {
    let context = context_with(4 * MIB);
    let (_hog, _peer) = stalled(&context, MIB);
    let (publisher, sub) = (Pub::in_context(&context), Sub::in_context(&context));
    sub.subscribe("").expect("open");
    sub.connect(publisher.bind("inproc://each-is-read").expect("bound")).expect("a good endpoint");
    publisher.wait_for_subscribers_to("", 1, PATIENCE).expect("it is there");
    for number in 0..50 {
        publisher.send(vec![1; 700_000]).expect("accepted");
        sub.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("message {number}: {error}"));
    }
    assert_eq!(publisher.stats().dropped.total(), 0);
}

#[test]
fn a_borrowed_message_counts_like_any_other() {
    let context = context_with(64 * MIB);
    let push = Push::builder().context(&context).linger(Duration::ZERO).build().expect("good options");
    let endpoint = push.bind("tcp://127.0.0.1:*").expect("bound");
    let mut peer = Raw::connect(endpoint.as_str()).expect("accepted");
    peer.shake_hands("PULL").expect("a socket");
    push.wait_for_peers(1, PATIENCE).expect("a peer");
    let body = vec![1; 30 * MIB];
    push.send(&body[..]).expect("accepted");
    let held = context.bytes_held(BudgetHalf::Sending) as usize;
    assert!(held > 8 * MIB, "of 30 MiB {held} are counted, more than the system can have taken");
    drop(push);
    is_given_back(&context);
}

#[test]
fn what_goes_upstream_over_inproc_counts_once() {
    let context = context_with(64 * MIB);
    let (xpub, xsub) = (XPub::in_context(&context), XSub::in_context(&context));
    xsub.connect(xpub.bind("inproc://upstream-counts").expect("bound")).expect("a good endpoint");
    (0..50).for_each(|_| xsub.send(vec![2; 100_000]).expect("accepted"));
    assert!(context.bytes_held(BudgetHalf::Sending) > 4_800_000);
    assert_eq!(context.bytes_held(BudgetHalf::Receiving), 0);
    (0..50).for_each(|_| assert_eq!(xpub.recv_timeout(PATIENCE).expect("a message").byte_len(), 100_000));
    is_given_back(&context);
}

#[test]
fn a_replaced_message_counts_no_longer() {
    let context = context_with(64 * MIB);
    let push = Push::builder().context(&context).linger(Duration::ZERO).conflate(true).build().expect("good options");
    let nobody = Nobody::new();
    push.connect(&nobody.endpoint).expect("nobody is there, which is no error");
    push.send(vec![1; 20 * MIB]).expect("accepted");
    assert!(context.bytes_held(BudgetHalf::Sending) > 19 * MIB as u64);
    push.send("newest").expect("accepted");
    is_given_back(&context);
}

// ----- it is told -----

fn shortage(monitor: &Monitor) -> Shortage {
    loop {
        if let EventKind::BudgetReached(shortage) = monitor.recv_timeout(PATIENCE).expect("it is told").kind {
            return shortage;
        }
    }
}

#[test]
fn every_socket_is_told_once_that_the_budget_is_used_up_and_who_holds_most() {
    let context = context_with(4 * MIB);
    let bystander = Pull::in_context(&context);
    let monitor = bystander.monitor();
    let (hog, nobody) = (Push::builder().context(&context).linger(Duration::ZERO).build().unwrap(), Nobody::new());
    hog.connect(&nobody.endpoint).expect("nobody is there, which is no error");
    let own = hog.monitor();
    while hog.try_send(vec![1; 100_000]).is_ok() {}
    for (monitor, is_hog) in [(&monitor, false), (&own, true)] {
        let told = shortage(monitor);
        assert_eq!((told.half, told.limit, told.kind), (BudgetHalf::Sending, 2 * MIB as u64, SocketKind::Push));
        assert_eq!(*told.endpoint, *nobody.endpoint);
        assert!(told.largest > told.limit && told.own == if is_hog { told.largest } else { 0 }, "{told:?}");
        let text = told.to_string();
        assert!(text.contains("byte_budget") && text.contains(&nobody.endpoint), "{text}");
    }
    assert!(hog.try_send(vec![1; 100_000]).is_err());
    let again = |event: &Event| matches!(event.kind, EventKind::BudgetReached(_));
    assert!(!std::iter::from_fn(|| monitor.try_recv()).any(|event| again(&event)), "it is told once");
}

#[test]
fn a_reservation_that_the_budget_stops_tells_of_the_shortage() {
    let context = context_with(4 * MIB);
    let bystander = Pull::in_context(&context);
    let monitor = bystander.monitor();
    let (push, nobody) = (Push::builder().context(&context).linger(Duration::ZERO).build().unwrap(), Nobody::new());
    push.connect(&nobody.endpoint).expect("nobody is there, which is no error");
    push.send(vec![1; 3 * MIB]).expect("one message is always let in");
    assert_eq!(push.try_reserve().expect_err("the budget is used up"), SendFailure::WouldBlock);
    let told = std::iter::from_fn(|| monitor.try_recv());
    assert_eq!(told.filter(|event| matches!(event.kind, EventKind::BudgetReached(_))).count(), 1);
}

#[test]
fn a_sender_that_the_budget_stopped_goes_on_as_soon_as_its_peer_reads() {
    within(PATIENCE, "the sender", || {
        for over in Over::ALL {
            let (context, outside) = (context_with(2 * MIB), Context::new());
            let pull = Pull::builder().context(if over == Over::Inproc { &context } else { &outside });
            let pull = pull.receive_mark(1u32).build().expect("good options");
            let push = Push::builder().context(&context).send_mark(0u32).build().expect("good options");
            push.connect(pull.bind(over.wildcard()).expect("bound")).expect("a good endpoint");
            let mut sent = 0;
            thread::scope(|scope| {
                let sender = scope.spawn(|| {
                    (0..100).for_each(|_| push.send_timeout(vec![1; 200_000], PATIENCE).expect("it goes on"))
                });
                let begin = Instant::now();
                while sent < 100 {
                    assert_eq!(pull.recv_timeout(PATIENCE).expect("a message").byte_len(), 200_000);
                    sent += 1;
                }
                sender.join().expect("no panic");
                println!("{over:?}: {:?}", begin.elapsed());
            });
        }
    });
}

#[test]
fn a_sender_that_holds_little_goes_on_as_soon_as_there_is_a_part_for_it_again() {
    within(PATIENCE, "the sender", || {
        let context = context_with(8 * MIB);
        let nobody = Nobody::new();
        let [first, second, little] = [5 * MIB, 4 * MIB, 100_000].map(|octets| {
            let push = Push::builder().context(&context).linger(Duration::ZERO).build().expect("good options");
            push.connect(&nobody.endpoint).expect("nobody is there, which is no error");
            push.send(vec![1; octets]).expect("one message is always let in");
            push
        });
        assert!(little.try_send(vec![1; 100_000]).is_err(), "nothing is left for it");
        let little = std::sync::Arc::new(little);
        let sender = std::sync::Arc::clone(&little);
        let sent = Blocked::start(move || sender.send_timeout(vec![1; 100_000], PATIENCE));
        sent.settle();
        drop(first);
        let outcome = sent.outcome(PATIENCE / 2).expect("it is told");
        outcome.0.expect("there is a part for it");
        assert!(context.bytes_held(BudgetHalf::Sending) > 3 * MIB as u64, "the shortage lasts");
        drop(second);
    });
}

#[test]
fn a_shortage_that_comes_and_goes_with_each_message_is_told_now_and_then() {
    let context = context_with(MIB);
    let bystander = Pull::in_context(&context);
    let monitor = bystander.monitor();
    let (push, pull) = (Push::in_context(&context), Pull::in_context(&context));
    push.connect(pull.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
    let begin = Instant::now();
    for _ in 0..100 {
        push.send(vec![1; 900_000]).expect("accepted");
        assert_eq!(pull.recv_timeout(PATIENCE).expect("a message").byte_len(), 900_000);
    }
    let told = std::iter::from_fn(|| monitor.try_recv())
        .filter(|event| matches!(event.kind, EventKind::BudgetReached(_)))
        .count() as u64;
    assert!((1..=2 * (begin.elapsed().as_secs() + 1)).contains(&told), "{told} times in {:?}", begin.elapsed());
}
