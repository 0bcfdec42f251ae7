//! Messages that never end, on many connections: what is held of them is in the context's budget, and is given back.

use crate::support::child::Process;
use crate::support::raw::{self, Raw};
use crate::support::{PATIENCE, alone, eventually, measure, within};
use std::io::{ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{BudgetHalf, Cause, Context, Dealer, EventKind, Message, Pull, Push, Router};

const MIB: usize = 1 << 20;

/// A stranger that has sent the start of a message: `octets` in frames of 8 KiB, as far as they are taken.
fn begin(endpoint: &str, octets: usize) -> Raw {
    let mut raw = Raw::connect(endpoint).expect("accepted");
    raw.shake_hands("DEALER").expect("a socket");
    raw.set_write_timeout(Duration::from_millis(100));
    let part = raw::frame(true, &[7; 8192]);
    let octets = part.repeat(octets / part.len());
    let (mut taken, mut refused) = (0, 0);
    // Who is closed, or no longer read, stops; who is not read for once, as on a busy machine, goes on.
    while taken < octets.len() && refused < 3 {
        match raw.write(&octets[taken..]) {
            Ok(count) => (taken, refused) = (taken + count, 0),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => refused += 1,
            Err(_) => break,
        }
    }
    raw
}

/// What has been received is above its half of a budget.
fn is_over(context: &Context, budget: usize) -> bool {
    context.bytes_held(BudgetHalf::Receiving) > budget as u64 / 2
}

/// A shortage ends where a quarter is free.
fn has_room(context: &Context, budget: usize) -> bool {
    context.bytes_held(BudgetHalf::Receiving) <= budget as u64 / 8 * 3
}

fn is_free(context: &Context) -> bool {
    context.bytes_held(BudgetHalf::Receiving) == 0
}

#[test]
fn many_unfinished_messages_stay_in_the_budget_and_a_good_client_gets_through() {
    let _turn = alone();
    within(PATIENCE * 4, "the unfinished messages", || {
        let budget = 16 * MIB;
        let mut server = Process::start("server", &[&budget]);
        let endpoint = server.hear();
        let context = Context::new();
        let client = Dealer::builder().context(&context).reconnect_interval(Duration::from_millis(10));
        let client = client.build().expect("good options");
        client.connect(&endpoint).expect("a good endpoint");
        let exchange = |number: u64| {
            client.send(number.to_le_bytes()).expect("accepted");
            assert_eq!(client.recv_timeout(PATIENCE).expect("an answer"), &number.to_le_bytes());
        };
        exchange(0);
        let memory = measure::resident(server.id());
        let mut largest = memory;
        let mut strangers = Vec::new();
        for number in 1..=100 {
            strangers.push(begin(&endpoint, MIB));
            exchange(number);
            largest = largest.max(measure::resident(server.id()));
        }
        let growth = (largest - memory) as usize;
        println!("memory grew by {} KiB with a budget of {} KiB", growth >> 10, budget >> 10);
        // Beside the budget there are the first 64 KiB of each, and the longest message.
        assert!(growth <= 2 * budget + 8 * MIB, "memory grew by {} MiB", growth / MIB);
        drop(strangers);
        exchange(101);
        server.finish();
    });
}

#[test]
fn the_budget_is_given_back_when_a_stranger_goes() {
    within(PATIENCE, "the budget", || {
        let context = Context::builder().byte_budget(Some(4 << 20)).build();
        let router = Router::in_context(&context);
        let endpoint = router.bind("tcp://127.0.0.1:*").expect("bound");
        for _ in 0..3 {
            let stranger = begin(endpoint.as_str(), 6 * MIB);
            eventually(PATIENCE, "an unfinished message fills the budget", || is_over(&context, 4 << 20));
            drop(stranger);
            eventually(PATIENCE, "the budget is free again", || is_free(&context));
        }
    });
}

#[test]
fn the_budget_is_given_back_when_a_long_message_is_whole_and_read() {
    within(PATIENCE, "the budget", || {
        let context = Context::builder().byte_budget(Some(4 << 20)).build();
        let pull = Pull::in_context(&context);
        let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
        let frames = [raw::frame(true, &[7; 8192]).repeat(700), raw::frame(false, b"end")].concat();
        let body = [&raw::long_header(false, 6 << 20)[..], &vec![8; 6 << 20]].concat();
        for octets in [frames, body] {
            let mut peer = Raw::connect(endpoint.as_str()).expect("accepted");
            peer.shake_hands("PUSH").expect("a socket");
            let (most, rest) = octets.split_at(octets.len() - 5);
            peer.write_all(most).expect("one message is always let in");
            eventually(PATIENCE, "an unfinished message fills the budget", || is_over(&context, 4 << 20));
            peer.write_all(rest).expect("one message is always let in");
            let message = pull.recv_timeout(PATIENCE).expect("the message");
            assert!(message.byte_len() > 5 * MIB);
            // Its frames share what they were read into, which counts as long as it is there.
            drop(message);
            // Credit goes back with the next call that finds nothing.
            assert!(pull.try_recv().is_err());
            eventually(PATIENCE, "the budget is free again", || is_free(&context));
        }
    });
}

/// Nobody else could end such a shortage: unfinished messages cannot be read by the application.
#[test]
fn an_unfinished_message_that_fills_the_budget_and_stands_still_is_closed_with_an_event_that_says_why() {
    within(PATIENCE, "the shortage", || {
        let context = Context::builder().byte_budget(Some(4 << 20)).build();
        let router = Router::in_context(&context);
        let monitor = router.monitor();
        let endpoint = router.bind("tcp://127.0.0.1:*").expect("bound");
        let modest = begin(endpoint.as_str(), MIB / 2);
        let mut greedy = begin(endpoint.as_str(), 8 * MIB);
        let cause = loop {
            match monitor.recv_timeout(PATIENCE).expect("an event").kind {
                EventKind::Disconnected(cause) => break cause,
                _ => continue,
            }
        };
        assert!(matches!(cause, Cause::Limit(_)), "{cause:?}");
        assert!(cause.to_string().contains("byte_budget"), "{cause}");
        assert!(greedy.is_closed_within(PATIENCE));
        assert_eq!(router.stats().connections, 1, "the modest one stays");
        eventually(PATIENCE, "the shortage is over", || has_room(&context, 4 << 20));
        drop(modest);
    });
}

/// Two that hold the budget together and bring just a little: neither may keep the others out for hours.
#[test]
fn who_holds_much_of_the_budget_and_drips_is_closed() {
    within(PATIENCE, "the shortage", || {
        let context = Context::builder().byte_budget(Some(32 << 20)).build();
        let router = Router::in_context(&context);
        let monitor = router.monitor();
        let endpoint = router.bind("tcp://127.0.0.1:*").expect("bound");
        let mut drippers = [20 * MIB, 20 * MIB].map(|octets| begin(endpoint.as_str(), octets));
        eventually(PATIENCE, "unfinished messages fill the budget", || is_over(&context, 32 << 20));
        let part = raw::frame(true, &[7; 8192]);
        let cause = loop {
            // About 160 KiB a second, and more than a step: 16 MiB are asked for 256 KiB.
            match monitor.recv_timeout(Duration::from_millis(50)).map(|event| event.kind) {
                Some(EventKind::Disconnected(cause)) => break cause,
                Some(_) => {}
                None => drippers.iter_mut().for_each(|dripper| drop(dripper.write_all(&part))),
            }
        };
        assert!(matches!(cause, Cause::Limit(_)), "{cause:?}");
        // The other, which is alone now, may bring its message.
        eventually(PATIENCE, "the budget holds one message at most", || {
            context.bytes_held(BudgetHalf::Receiving) <= 21 << 20
        });
    });
}

#[test]
fn a_message_larger_than_the_budget_gets_through_alone() {
    within(PATIENCE, "the message", || {
        let context = Context::builder().byte_budget(Some(1 << 20)).build();
        let pull = Pull::in_context(&context);
        let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
        let push = Push::in_context(&Context::new());
        push.connect(&endpoint).expect("a good endpoint");
        for message in [Message::from(vec![1; 8 * MIB]), vec![vec![2; 5000]; 1500].into_iter().collect()] {
            let expected = message.byte_len();
            push.send(message).expect("accepted");
            assert_eq!(pull.recv_timeout(PATIENCE).expect("the message").byte_len(), expected);
        }
    });
}

#[test]
fn large_messages_of_honest_peers_that_do_not_fit_in_together_all_arrive() {
    within(PATIENCE * 2, "the messages", || {
        let context = Context::builder().byte_budget(Some(8 << 20)).build();
        let pull = Pull::in_context(&context);
        let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
        let outside = Context::new();
        let pushes: Vec<Push> = (0..4)
            .map(|_| {
                let interval = Duration::from_millis(10);
                let push = Push::builder().context(&outside).reconnect_interval(interval).reconnect_max(interval * 10);
                let push = push.build().expect("good options");
                push.connect(&endpoint).expect("a good endpoint");
                for number in 0..5u8 {
                    push.send(vec![number; 5 * MIB]).expect("within the marks");
                }
                push
            })
            .collect();
        let begin = Instant::now();
        for _ in 0..pushes.len() * 5 {
            assert_eq!(pull.recv_timeout(PATIENCE).expect("a message").byte_len(), 5 * MIB);
        }
        println!("100 MiB in {:?}", begin.elapsed());
    });
}

/// What a connection that failed had sent behind its fault is thrown away with it, and does not turn up elsewhere.
#[test]
fn octets_behind_a_fault_reach_nobody_elses_message() {
    within(PATIENCE, "the message", || {
        for engine_only in [false, true] {
            let context = Context::builder().engine_only(engine_only).build();
            let pull = Pull::in_context(&context);
            let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
            let message = [&raw::long_header(false, 4 << 20)[..], &vec![7; 4 << 20]].concat();
            let (first, second) = message.split_at(3 << 20);
            let mut good = Raw::connect(endpoint.as_str()).expect("accepted");
            good.shake_hands("PUSH").expect("a socket");
            good.write_all(first).expect("it is read");
            let receiver = thread::spawn(move || pull.recv_timeout(PATIENCE));
            for _ in 0..20 {
                let mut bad = Raw::connect(endpoint.as_str()).expect("accepted");
                bad.shake_hands("PUSH").expect("a socket");
                let fault = [&raw::long_header(false, 1 << 62)[..], &[0xee; 1000]].concat();
                bad.write_all(&fault).expect("it is read");
                assert!(bad.is_closed_within(PATIENCE));
            }
            good.write_all(second).expect("it is read");
            let received = receiver.join().expect("no panic").expect("the message");
            assert!(received.first() == vec![7; 4 << 20], "not a foreign octet");
        }
    });
}
