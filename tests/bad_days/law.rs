//! The accounting law, accepted = written + queued + dropped, in every snapshot and against the receivers' own counts.

use crate::support::random::Random;
use crate::support::{Over, PATIENCE, alone, eventually, is_full, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use wiremesh::{
    Context, Dealer, Pair, Pub, Pull, Push, RecvError, Router, SendFailure, Socket, Stats, Sub, XPub, XSub,
};

/// How many messages each sender sends.
fn share() -> u64 {
    if is_full() { 200_000 } else { 20_000 }
}

/// Looks at the counters of sockets as often as it can, from outside, until stopped.
struct Auditor {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Auditor {
    fn of<S>(sockets: Vec<Arc<S>>) -> Auditor
    where
        S: std::ops::Deref<Target = Socket> + Send + Sync + 'static,
    {
        let (stop, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = thread::spawn({
            let (stop, looks) = (Arc::clone(&stop), Arc::clone(&looks));
            move || {
                loop {
                    for socket in &sockets {
                        balanced(socket.stats());
                    }
                    looks.fetch_add(1, Ordering::Relaxed);
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    thread::yield_now();
                }
            }
        });
        Auditor { stop, looks, thread: Some(thread) }
    }

    fn done(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("once").join().expect("every snapshot is balanced");
        assert!(self.looks.load(Ordering::Relaxed) > 0);
    }
}

fn balanced(stats: Stats) {
    assert!(stats.is_balanced(), "accepted is not written + queued + dropped: {stats:?}");
}

#[test]
fn push_and_pull_agree_on_every_message() {
    let _turn = alone();
    for over in Over::ALL {
        within(PATIENCE * 2, over.name(), move || many_to_many(over));
    }
}

/// Two PUSHes, two threads each, to three PULLs: what is written is received, by number and by sum.
fn many_to_many(over: Over) {
    let context = Context::new();
    let pulls: Vec<Arc<Pull>> = (0..3).map(|_| Arc::new(Pull::in_context(&context))).collect();
    let small = |push: wiremesh::Builder<Push>| push.context(&context).send_mark(64u32).build().expect("good options");
    let pushes: Vec<Arc<Push>> = (0..2).map(|_| Arc::new(small(Push::builder()))).collect();
    for pull in &pulls {
        let endpoint = pull.bind(over.wildcard()).expect("bound");
        pushes.iter().for_each(|push| drop(push.connect(&endpoint).expect("a good endpoint")));
    }
    let auditor = Auditor::of(pushes.clone());
    let sum = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = pulls
        .iter()
        .map(|pull| {
            let (pull, sum) = (Arc::clone(pull), Arc::clone(&sum));
            thread::spawn(move || {
                let mut count = 0u64;
                while let Ok(message) = pull.recv() {
                    let number = u64::from_le_bytes(*message.first().first_chunk::<8>().expect("a number"));
                    sum.fetch_add(number, Ordering::Relaxed);
                    count += 1;
                }
                count
            })
        })
        .collect();
    let senders: Vec<_> = pushes
        .iter()
        .flat_map(|push| [Arc::clone(push), Arc::clone(push)])
        .map(|push| {
            thread::spawn(move || {
                for number in 0..share() {
                    let mut body = vec![0; 8 + (number % 300) as usize];
                    body[..8].copy_from_slice(&number.to_le_bytes());
                    push.send(body).expect("accepted");
                }
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().expect("no panic"));
    let sent = share() * 4;
    pushes.iter().for_each(|push| push.flush(PATIENCE).expect("the PULLs read"));
    eventually(PATIENCE, "all of it is received", || received(&pulls) == sent);
    auditor.done();
    for push in &pushes {
        let stats = push.stats();
        balanced(stats);
        assert_eq!((stats.accepted, stats.written, stats.queued), (sent / 2, sent / 2, 0), "{over:?}: {stats:?}");
        let peers: u64 = push.peers().iter().map(|peer| peer.stats.written).sum();
        assert_eq!(peers, stats.written, "{over:?}: the peers' counters add up");
    }
    pulls.iter().for_each(|pull| pull.close());
    let counted: u64 = readers.into_iter().map(|reader| reader.join().expect("no panic")).sum();
    assert_eq!(counted, sent, "{over:?}");
    assert_eq!(sum.load(Ordering::Relaxed), 4 * (share() * (share() - 1) / 2), "{over:?}: each number four times");
}

fn received<S: std::ops::Deref<Target = Socket>>(sockets: &[Arc<S>]) -> u64 {
    sockets.iter().map(|socket| socket.stats().received).sum()
}

/// A publisher drops for a slow subscriber and for nobody else; what it says it wrote is what each of them gets.
#[test]
fn a_publisher_and_each_of_its_subscribers_agree_on_what_was_dropped() {
    let _turn = alone();
    for over in Over::ALL {
        within(PATIENCE * 2, over.name(), move || slow_subscribers(over));
    }
}

fn slow_subscribers(over: Over) {
    let context = Context::new();
    let publisher = Arc::new(Pub::builder().context(&context).send_mark(32u32).build().expect("good options"));
    let endpoint = publisher.bind(over.wildcard()).expect("bound");
    let subscribers: Vec<Arc<Sub>> = ["even", "odd", "", "nothing"]
        .into_iter()
        .map(|topic| {
            let sub = Sub::builder().context(&context).receive_mark(32u32).receive_buffer(8usize << 10);
            let sub = sub.build().expect("good options");
            sub.subscribe(topic).expect("subscribed");
            sub.connect(&endpoint).expect("a good endpoint");
            Arc::new(sub)
        })
        .collect();
    publisher.wait_for_subscribers(4, PATIENCE).expect("they come");
    let auditor = Auditor::of(vec![Arc::clone(&publisher)]);
    let readers: Vec<_> = subscribers
        .iter()
        .enumerate()
        .map(|(place, sub)| {
            let sub = Arc::clone(sub);
            thread::spawn(move || {
                let mut last = None;
                let mut count = 0u64;
                loop {
                    // All that ever came is there once the publisher is gone.
                    let is_all = sub.stats().connections == 0;
                    match sub.recv_timeout(Duration::from_millis(20)) {
                        Ok(message) => {
                            let number = number_of(message.first());
                            assert!(last.is_none_or(|last| number > last), "in order and never twice");
                            last = Some(number);
                            count += 1;
                            // The first subscriber is slow, and so it is dropped for.
                            if place == 0 && count % 8 == 0 {
                                thread::sleep(Duration::from_micros(500));
                            }
                        }
                        Err(RecvError::TimedOut) if is_all => return count,
                        Err(RecvError::TimedOut) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for number in 0..share() {
        let topic = if number % 2 == 0 { "even" } else { "odd" };
        publisher.send(format!("{topic} {number} {}", "-".repeat((number % 64) as usize * 8))).expect("never waits");
    }
    publisher.flush(PATIENCE).expect("all is written or dropped");
    auditor.done();
    let (stats, peers) = (publisher.stats(), publisher.peers());
    publisher.close();
    let counts: Vec<u64> = readers.into_iter().map(|reader| reader.join().expect("no panic")).collect();
    balanced(stats);
    assert_eq!(stats.accepted, share() * 2, "{over:?}: half to one, half to another, all to the third: {stats:?}");
    assert_eq!(stats.written, counts.iter().sum::<u64>(), "{over:?}: {counts:?}, {stats:?}");
    assert_eq!(stats.dropped.total(), stats.dropped.high_water_mark, "{over:?}: {stats:?}");
    assert_eq!(counts[3], 0, "{over:?}");
    let mut by_peer: Vec<u64> = peers.iter().map(|peer| peer.stats.written).collect();
    let mut counted = counts;
    by_peer.sort_unstable();
    counted.sort_unstable();
    assert_eq!(by_peer, counted, "{over:?}: peer by peer");
}

fn number_of(text: &[u8]) -> u64 {
    let text = std::str::from_utf8(text).expect("text");
    text.split(' ').nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// A ROUTER drops what it cannot route, and counts it; DEALERs get the rest, and their echoes come back.
#[test]
fn routers_and_dealers_agree_on_every_message() {
    let _turn = alone();
    for over in Over::ALL {
        within(PATIENCE * 2, over.name(), move || echoes(over));
    }
}

fn echoes(over: Over) {
    let context = Context::new();
    let router = Arc::new(Router::in_context(&context));
    let endpoint = router.bind(over.wildcard()).expect("bound");
    let dealers: Vec<Arc<Dealer>> = (0..3)
        .map(|number| {
            let dealer = Dealer::builder().context(&context).routing_id(format!("dealer-{number}"));
            let dealer = dealer.build().expect("good options");
            dealer.connect(&endpoint).expect("a good endpoint");
            Arc::new(dealer)
        })
        .collect();
    router.wait_for_peers(3, PATIENCE).expect("they come");
    let auditors = (Auditor::of(vec![Arc::clone(&router)]), Auditor::of(dealers.clone()));
    let echoer = {
        let router = Arc::clone(&router);
        thread::spawn(move || {
            let mut strays = 0u64;
            while let Ok((id, message)) = router.recv() {
                if strays * 10 < router_seen(&message) {
                    router.send_to("nobody", "lost").expect("a ROUTER never waits");
                    strays += 1;
                }
                router.send_to(&id, message).expect("a ROUTER never waits");
            }
            strays
        })
    };
    let clients: Vec<_> = dealers
        .iter()
        .map(|dealer| {
            let dealer = Arc::clone(dealer);
            thread::spawn(move || {
                let (mut sent, mut back) = (0, 0);
                // A window, as a client would have: the ROUTER's marks are never reached.
                while back < share() {
                    if sent < share() && sent - back < 256 {
                        dealer.send(format!("echo {sent}")).expect("accepted");
                        sent += 1;
                        continue;
                    }
                    let message = dealer.recv_timeout(PATIENCE).expect("an echo");
                    assert_eq!(number_of(message.first()), back, "in order");
                    back += 1;
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("no panic"));
    router.flush(PATIENCE).expect("all is written");
    let stats = router.stats();
    balanced(stats);
    assert_eq!(stats.received, 3 * share(), "{over:?}");
    assert_eq!(stats.written, 3 * share(), "{over:?}: {stats:?}");
    assert_eq!(stats.dropped.total(), stats.dropped.unroutable, "{over:?}: {stats:?}");
    for dealer in &dealers {
        let stats = dealer.stats();
        assert_eq!((stats.accepted, stats.written, stats.received), (share(), share(), share()), "{over:?}: {stats:?}");
        balanced(stats);
    }
    auditors.0.done();
    auditors.1.done();
    router.close();
    let strays = echoer.join().expect("no panic");
    assert!(strays > 0);
    assert_eq!(router.stats().dropped.unroutable, strays, "{over:?}");
}

fn router_seen(message: &wiremesh::Message) -> u64 {
    number_of(message.first())
}

/// Without `mandatory` a ROUTER drops for a peer that does not read, and for that one only.
#[test]
fn a_router_counts_what_it_drops_for_a_full_peer() {
    let _turn = alone();
    for over in Over::ALL {
        within(PATIENCE, over.name(), move || full_dealer(over));
    }
}

fn full_dealer(over: Over) {
    let context = Context::new();
    let router = Router::builder().context(&context).send_mark(16u32).send_buffer(16usize << 10);
    let router = Arc::new(router.build().expect("good options"));
    let endpoint = router.bind(over.wildcard()).expect("bound");
    let dealers = ["idle", "busy"].map(|id| {
        let dealer = Dealer::builder().context(&context).routing_id(id).receive_mark(16u32);
        let dealer = dealer.receive_buffer(16usize << 10).build().expect("good options");
        dealer.connect(&endpoint).expect("a good endpoint");
        dealer
    });
    router.wait_for_peers(2, PATIENCE).expect("they come");
    let auditor = Auditor::of(vec![Arc::clone(&router)]);
    let messages = share() / 20;
    for number in 0..messages {
        let body = format!("to {number} {}", "-".repeat(1000));
        router.send_to("idle", body.as_str()).expect("a ROUTER never waits");
        router.send_to("busy", body.as_str()).expect("a ROUTER never waits");
        let message = dealers[1].recv_timeout(PATIENCE).expect("it reads, so nothing is dropped for it");
        assert_eq!(number_of(message.first()), number, "{over:?}");
    }
    let mut last = None;
    let mut got = 0;
    eventually(PATIENCE, "the idle one gets all that was written to it", || {
        while let Ok(message) = dealers[0].try_recv() {
            let number = number_of(message.first());
            assert!(last.is_none_or(|last| number > last), "{over:?}: in order, never twice");
            last = Some(number);
            got += 1;
        }
        let stats = router.stats();
        stats.queued == 0 && stats.written == messages + got
    });
    auditor.done();
    let stats = router.stats();
    balanced(stats);
    assert_eq!(stats.accepted, 2 * messages, "{over:?}: {stats:?}");
    assert_eq!((stats.written, stats.queued), (messages + got, 0), "{over:?}: {stats:?}");
    assert_eq!(dealers[0].try_recv(), Err(RecvError::WouldBlock), "{over:?}: and nothing else");
    assert_eq!(stats.dropped.total(), stats.dropped.high_water_mark, "{over:?}: {stats:?}");
    assert!(stats.dropped.high_water_mark > 0, "{over:?}: {stats:?}");
}

/// Receivers come and go under load: nothing is counted twice and nothing goes uncounted.
#[test]
fn the_law_holds_while_peers_come_and_go() {
    let _turn = alone();
    for over in Over::ALL {
        within(PATIENCE * 2, over.name(), move || coming_and_going(over));
    }
}

fn coming_and_going(over: Over) {
    let context = Context::new();
    let push = Arc::new(Push::builder().context(&context).send_mark(128u32).build().expect("good options"));
    let endpoint = push.bind(over.wildcard()).expect("bound");
    let auditor = Auditor::of(vec![Arc::clone(&push)]);
    let stop = Arc::new(AtomicBool::new(false));
    let sender = {
        let (push, stop) = (Arc::clone(&push), Arc::clone(&stop));
        thread::spawn(move || {
            let mut accepted = 0u64;
            while !stop.load(Ordering::Relaxed) {
                match push.send_timeout(vec![1; (accepted % 3000) as usize], Duration::from_millis(20)) {
                    Ok(()) => accepted += 1,
                    Err(error) => assert_eq!(error.reason, SendFailure::TimedOut),
                }
            }
            accepted
        })
    };
    let mut random = Random::new(1);
    let mut seen = 0;
    for _ in 0..if is_full() { 500 } else { 50 } {
        let pull = Pull::builder().context(&context).receive_mark(64u32).build().expect("good options");
        pull.connect(&endpoint).expect("a good endpoint");
        for _ in 0..random.below(400) {
            seen += u64::from(pull.recv_timeout(Duration::from_millis(50)).is_ok());
        }
    }
    stop.store(true, Ordering::Relaxed);
    let accepted = sender.join().expect("no panic");
    eventually(PATIENCE, "the peers are gone", || push.stats().connections == 0);
    auditor.done();
    let stats = push.stats();
    balanced(stats);
    assert_eq!(stats.accepted, accepted, "{over:?}: {stats:?}");
    assert_eq!(stats.queued, 0, "{over:?}: nobody is there: {stats:?}");
    assert!(seen <= stats.written, "{over:?}: {seen} seen, {stats:?}");
    assert_eq!(stats.dropped.total(), stats.dropped.disconnect, "{over:?}: {stats:?}");
}

/// Under `conflate` what is not the newest is dropped and counted.
#[test]
fn the_law_holds_under_conflate() {
    let _turn = alone();
    for over in Over::ALL {
        let context = Context::new();
        let push = Push::builder().context(&context).conflate(true).build().expect("good options");
        let push = Arc::new(push);
        let pull = Pull::builder().context(&context).conflate(true).build().expect("good options");
        let endpoint = pull.bind(over.wildcard()).expect("bound");
        push.connect(&endpoint).expect("a good endpoint");
        let auditor = Auditor::of(vec![Arc::clone(&push)]);
        let mut last = 0;
        for number in 1..=share() {
            push.send(number.to_le_bytes()).expect("always accepted");
            if number % 1000 == 0 {
                if let Ok(message) = pull.try_recv() {
                    let got = u64::from_le_bytes(*message.first().first_chunk::<8>().expect("a number"));
                    assert!(got > last && got <= number, "{over:?}: {got} after {last}");
                    last = got;
                }
            }
        }
        push.flush(PATIENCE).expect("the newest is written");
        while last != share() {
            let message = pull.recv_timeout(PATIENCE).expect("the newest arrives");
            last = u64::from_le_bytes(*message.first().first_chunk::<8>().expect("a number"));
        }
        auditor.done();
        let stats = push.stats();
        balanced(stats);
        assert_eq!(stats.accepted, share(), "{over:?}");
        assert_eq!(stats.dropped.total(), stats.dropped.conflate, "{over:?}: {stats:?}");
        assert!(pull.stats().received <= stats.written, "{over:?}: {stats:?}");
    }
}

/// Closing without linger drops what is queued: what the receiver has is what was written.
#[test]
fn the_law_holds_after_a_close_without_linger() {
    let _turn = alone();
    for over in Over::STREAMS {
        for round in 0..if is_full() { 200 } else { 20 } {
            let theirs = Context::new();
            let pull = Pull::in_context(&theirs);
            let endpoint = pull.bind(over.wildcard()).expect("bound");
            let context = Context::new();
            let push = Push::builder().context(&context).linger(Duration::ZERO).send_mark(0u32);
            let push = push.build().expect("good options");
            push.connect(&endpoint).expect("a good endpoint");
            push.wait_for_peers(1, PATIENCE).expect("the PULL is there");
            for number in 0..5000u32 {
                push.send(vec![number as u8; (number % 2000) as usize]).expect("accepted");
            }
            push.close();
            let unsent = context.close(PATIENCE);
            let stats = push.stats();
            balanced(stats);
            assert_eq!(stats.queued, 0, "{over:?}, round {round}: {stats:?}");
            assert_eq!(unsent.messages, stats.dropped.total(), "{over:?}, round {round}: {unsent:?}, {stats:?}");
            let mut got = 0;
            while got < stats.written {
                match pull.recv_timeout(PATIENCE / 10) {
                    Ok(_) => got += 1,
                    Err(error) => panic!("{over:?}, round {round}: {error} after {got} messages; {stats:?}"),
                }
            }
            eventually(PATIENCE, "the PUSH is gone", || pull.stats().connections == 0);
            assert_eq!(pull.try_recv(), Err(RecvError::WouldBlock), "{over:?}: nothing else: {stats:?}");
        }
    }
}

/// Upstream messages, subscriptions, welcome messages and replies follow the law as well.
#[test]
fn the_law_holds_for_the_rarer_ways_of_sending() {
    let _turn = alone();
    for over in Over::ALL {
        let context = Context::new();
        let publisher = XPub::builder().context(&context).welcome_message("topic welcome").build();
        let publisher = publisher.expect("good options");
        let endpoint = publisher.bind(over.wildcard()).expect("bound");
        let subscriber = XSub::in_context(&context);
        subscriber.connect(&endpoint).expect("a good endpoint");
        subscriber.send(b"\x01topic").expect("a subscription");
        assert_eq!(publisher.recv_timeout(PATIENCE).expect("it is shown"), b"\x01topic");
        for number in 0..100 {
            subscriber.send(format!("up {number}")).expect("never waits");
            assert_eq!(publisher.recv_timeout(PATIENCE).expect("upstream"), format!("up {number}").as_str());
            publisher.send(format!("topic {number}")).expect("never waits");
        }
        let mut got = 0;
        while got < publisher.stats().accepted {
            subscriber.recv_timeout(PATIENCE).expect("downstream");
            got += 1;
        }
        for stats in [publisher.stats(), subscriber.stats()] {
            balanced(stats);
            assert_eq!(stats.written + stats.dropped.total(), stats.accepted, "{over:?}: {stats:?}");
            assert!(stats.accepted >= 100, "{over:?}: {stats:?}");
        }

        let (left, right) = (Pair::in_context(&context), Pair::in_context(&context));
        let endpoint = left.bind(over.wildcard()).expect("bound");
        right.connect(&endpoint).expect("a good endpoint");
        for _ in 0..100 {
            left.send("ping").expect("accepted");
            assert_eq!(right.recv_timeout(PATIENCE).expect("ping"), "ping");
            right.send(vec![7; 100_000]).expect("accepted");
            assert_eq!(left.recv_timeout(PATIENCE).expect("pong"), vec![7; 100_000]);
        }
        for side in [&left, &right] {
            // What is received may not be counted as written yet: the writer does that when its call returns.
            side.flush(PATIENCE).expect("all is written");
            let stats = side.stats();
            balanced(stats);
            assert_eq!((stats.accepted, stats.written, stats.received), (100, 100, 100), "{over:?}: {stats:?}");
        }
        let octets: u64 = left.peers().iter().map(|peer| peer.stats.received_bytes).sum();
        assert!(over == Over::Inproc || octets >= 100 * 100_000, "{over:?}: {octets}");
    }
}
