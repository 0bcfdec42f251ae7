//! The way of working without nested polls: engine threads drive always, callers never. The patterns must not know.

use crate::closing::SOON;
use crate::support::measure::{Lateness, Stopwatch};
use crate::support::{Blocked, Over, PATIENCE, alone, eventually, holds_within, is_full, within};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use wiremesh::{
    Context, Dealer, Error, Pair, Pub, Pull, Push, RecvError, Rep, Req, Router, SendFailure, Sub, XPub, XSub,
};

fn context(threads: usize) -> Context {
    Context::builder().engine_only(true).engine_threads(threads).build()
}

/// Every transport, with one engine thread and with three.
fn everywhere(what: &'static str, story: fn(&Context, Over)) {
    let _turn = alone();
    for over in Over::ALL {
        for threads in [1, 3] {
            within(PATIENCE * 2, what, move || story(&context(threads), over));
        }
    }
}

#[test]
fn push_and_pull_work() {
    everywhere("a pipeline", |context, over| {
        let (push, pull) = (Push::in_context(context), Pull::in_context(context));
        let endpoint = pull.bind(over.wildcard()).expect("bound");
        push.connect(&endpoint).expect("a good endpoint");
        let messages = if is_full() { 500_000u64 } else { 50_000 };
        let sender = thread::spawn(move || {
            for number in 0..messages {
                push.send(number.to_le_bytes()).expect("accepted");
            }
        });
        for number in 0..messages {
            assert_eq!(pull.recv_timeout(PATIENCE).expect("a message"), &number.to_le_bytes(), "{over:?}");
        }
        sender.join().expect("no panic");
    });
}

#[test]
fn requests_are_answered() {
    everywhere("requests", |context, over| {
        let (req, rep) = (Req::in_context(context), Rep::in_context(context));
        let endpoint = rep.bind(over.wildcard()).expect("bound");
        let server = thread::spawn(move || {
            while let Ok(question) = rep.recv() {
                if rep.send(question).is_err() {
                    return;
                }
            }
        });
        req.connect(&endpoint).expect("a good endpoint");
        for number in 0..1000 {
            let question = format!("question {number}");
            assert_eq!(req.request(question.as_str(), PATIENCE).expect("an answer"), question.as_str(), "{over:?}");
        }
        context.shutdown();
        server.join().expect("no panic");
    });
}

#[test]
fn subscribers_hear_what_they_want() {
    everywhere("topics", |context, over| {
        let (publisher, sub, xsub) = (XPub::in_context(context), Sub::in_context(context), XSub::in_context(context));
        let endpoint = publisher.bind(over.wildcard()).expect("bound");
        sub.subscribe("a").expect("subscribed");
        xsub.subscribe("b").expect("subscribed");
        sub.connect(&endpoint).expect("a good endpoint");
        xsub.connect(&endpoint).expect("a good endpoint");
        publisher.wait_for_subscribers(2, PATIENCE).expect("they come");
        for number in 0..1000 {
            publisher.send(format!("a{number}")).expect("never waits");
            publisher.send(format!("b{number}")).expect("never waits");
            assert_eq!(sub.recv_timeout(PATIENCE).expect("mine"), format!("a{number}").as_str(), "{over:?}");
            assert_eq!(xsub.recv_timeout(PATIENCE).expect("mine"), format!("b{number}").as_str(), "{over:?}");
        }
        sub.unsubscribe("a").expect("subscribed");
        let plain = Pub::in_context(context);
        let endpoint = plain.bind(over.wildcard()).expect("bound");
        sub.connect(&endpoint).expect("a good endpoint");
        sub.subscribe("late").expect("subscribed");
        plain.wait_for_subscribers(1, PATIENCE).expect("it subscribes");
        plain.send("late news").expect("never waits");
        assert_eq!(sub.recv_timeout(PATIENCE).expect("news"), "late news");
    });
}

#[test]
fn routers_dealers_and_pairs_talk_both_ways() {
    everywhere("conversations", |context, over| {
        let router = Router::in_context(context);
        let endpoint = router.bind(over.wildcard()).expect("bound");
        let dealers: Vec<Dealer> = (0..3)
            .map(|number| {
                let dealer = Dealer::builder().context(context).routing_id(format!("dealer-{number}"));
                let dealer = dealer.build().expect("good options");
                dealer.connect(&endpoint).expect("a good endpoint");
                dealer
            })
            .collect();
        for round in 0..200 {
            dealers.iter().for_each(|dealer| dealer.send(format!("{round}")).expect("accepted"));
            for _ in &dealers {
                let (id, message) = router.recv_timeout(PATIENCE).expect("a message");
                assert_eq!(message, format!("{round}").as_str(), "{over:?}");
                router.send_to(&id, id.as_bytes()).expect("a ROUTER never waits");
            }
            for (number, dealer) in dealers.iter().enumerate() {
                let answer = dealer.recv_timeout(PATIENCE).expect("an answer");
                assert_eq!(answer, format!("dealer-{number}").as_str(), "{over:?}");
            }
        }
        let (left, right) = (Pair::in_context(context), Pair::in_context(context));
        let endpoint = left.bind(over.wildcard()).expect("bound");
        right.connect(&endpoint).expect("a good endpoint");
        for _ in 0..200 {
            left.send("ping").expect("accepted");
            assert_eq!(right.recv_timeout(PATIENCE).expect("ping"), "ping");
            right.send("pong").expect("accepted");
            assert_eq!(left.recv_timeout(PATIENCE).expect("pong"), "pong");
        }
    });
}

#[test]
fn a_sender_at_the_mark_blocks_and_goes_on() {
    everywhere("the mark", |context, over| {
        let push = Push::builder().context(context).send_mark(4u32).send_buffer(16usize << 10);
        let push = Arc::new(push.build().expect("good options"));
        let pull = Pull::builder().context(context).receive_mark(4u32).receive_buffer(16usize << 10);
        let pull = pull.build().expect("good options");
        let endpoint = pull.bind(over.wildcard()).expect("bound");
        push.connect(&endpoint).expect("a good endpoint");
        let (mut sent, mut refused) = (0, 0);
        // A full tcp connection takes a little more when a delayed acknowledgement comes, after 40 ms or so.
        while refused < 3 {
            match push.send_timeout(vec![7; 64 << 10], Duration::from_millis(50)) {
                Ok(()) => (sent, refused) = (sent + 1, 0),
                Err(error) => {
                    assert_eq!(error.reason, SendFailure::TimedOut);
                    refused += 1;
                }
            }
        }
        let blocked = Blocked::start({
            let push = Arc::clone(&push);
            move || push.send("the one that waited")
        });
        blocked.settle();
        // One of the kernel's timers may make a full tcp connection take a little more.
        assert!(over == Over::Tcp || !blocked.is_done(), "{over:?}: there is no room");
        for _ in 0..sent {
            assert_eq!(pull.recv_timeout(PATIENCE).expect("queued").byte_len(), 64 << 10, "{over:?}");
        }
        assert_eq!(pull.recv_timeout(PATIENCE).expect("it went on"), "the one that waited", "{over:?}");
        blocked.outcome(PATIENCE).expect("it returns").0.expect("accepted");
        assert_eq!(pull.try_recv(), Err(RecvError::WouldBlock));
    });
}

#[test]
fn a_close_delivers_and_ends_blocked_calls() {
    let _turn = alone();
    for over in Over::STREAMS {
        within(PATIENCE, "closing", move || {
            let theirs = context(1);
            let pull = Arc::new(Pull::in_context(&theirs));
            let endpoint = pull.bind(over.wildcard()).expect("bound");
            let mine = context(1);
            let push = Push::in_context(&mine);
            push.connect(&endpoint).expect("a good endpoint");
            for number in 0..10_000u64 {
                push.send(number.to_le_bytes()).expect("accepted");
            }
            drop(push);
            let unsent = mine.close(PATIENCE);
            assert_eq!(unsent.messages, 0, "{over:?}");
            for number in 0..10_000u64 {
                assert_eq!(pull.recv_timeout(PATIENCE).expect("delivered"), &number.to_le_bytes(), "{over:?}");
            }
            let calls: Vec<_> = (0..3)
                .map(|_| {
                    let pull = Arc::clone(&pull);
                    Blocked::start(move || {
                        let watch = Stopwatch::start();
                        (pull.recv(), watch.kept())
                    })
                })
                .collect();
            calls.iter().for_each(Blocked::settle);
            let (lateness, watch) = (Lateness::watch(), Stopwatch::start());
            theirs.shutdown();
            let kept = watch.kept();
            for call in calls {
                let ((outcome, waited), at) = call.outcome(PATIENCE).expect("it returns");
                assert_eq!(outcome, Err(RecvError::Closed), "{over:?}");
                let took = at.saturating_duration_since(watch.begin).saturating_sub(kept + waited);
                let late = lateness.since(watch.begin);
                assert!(took <= SOON + late, "{over:?}: {took:?}, {late:?} late");
            }
        });
    }
}

#[test]
fn a_lost_peer_is_found_again() {
    let _turn = alone();
    for over in Over::STREAMS {
        within(PATIENCE, "a restart", move || {
            let mine = context(1);
            let push = Push::builder().context(&mine).reconnect_interval(Duration::from_millis(10));
            let push = push.build().expect("good options");
            let mut endpoint = over.fixed();
            for life in 0..5 {
                let theirs = context(1);
                let pull = Pull::in_context(&theirs);
                let mut bound = Err(Error::Closed);
                // The kernel may need a moment to let go of the name.
                if !holds_within(PATIENCE / 3, || {
                    bound = pull.bind(&endpoint);
                    bound.is_ok()
                }) {
                    panic!("life {life}: {bound:?}");
                }
                if life == 0 {
                    endpoint = bound.expect("bound").as_str().to_owned();
                    push.connect(&endpoint).expect("a good endpoint");
                }
                push.wait_for_peers(1, PATIENCE).expect("it comes back by itself");
                push.send(format!("life {life}")).expect("accepted");
                assert_eq!(pull.recv_timeout(PATIENCE).expect("delivered"), format!("life {life}").as_str());
                drop(pull);
                theirs.close(PATIENCE);
                eventually(PATIENCE, "the loss is noticed", || push.stats().connections == 0);
            }
        });
    }
}

/// The same context may serve both ways of working: with threads of its own it is the marks that must agree, not the
/// ways.
#[test]
fn both_ways_of_working_understand_each_other() {
    let _turn = alone();
    for over in Over::STREAMS {
        let (nested, plain) = (Context::new(), context(2));
        for (sender, receiver) in [(&nested, &plain), (&plain, &nested)] {
            let (push, pull) = (Push::in_context(sender), Pull::in_context(receiver));
            let endpoint = pull.bind(over.wildcard()).expect("bound");
            push.connect(&endpoint).expect("a good endpoint");
            for number in 0..5000u32 {
                push.send(number.to_le_bytes()).expect("accepted");
            }
            for number in 0..5000u32 {
                assert_eq!(pull.recv_timeout(PATIENCE).expect("a message"), &number.to_le_bytes(), "{over:?}");
            }
        }
    }
}
