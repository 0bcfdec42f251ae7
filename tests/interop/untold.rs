//! A subscription that libzmq's publisher refuses is given up, and no other one, whatever the publisher does besides.

use super::body::given;
use super::ends::{End, LONG, Ours, Theirs};
use super::peer::Peer;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use wiremesh::SocketKind::*;
use wiremesh::{AnySocket, Builder, EventKind, Monitor, Refusal};

const TCP: &str = "tcp://127.0.0.1:*";
/// The octets of a message that libzmq takes, and so of a subscription.
const LIMIT: u32 = 200;

fn soon(builder: Builder<AnySocket>) -> Builder<AnySocket> {
    builder.reconnect_interval(Duration::from_millis(20)).reconnect_max(Duration::from_millis(100))
}

fn topics() -> BTreeSet<String> {
    (10..30).map(|number| format!("topic {number}")).collect()
}

/// What events have said since this was asked last of subscriptions that were given up: how many, the largest, and why.
fn given_up(monitor: &Monitor) -> Vec<(u64, u64, Refusal)> {
    let told = std::iter::from_fn(|| monitor.try_recv()).filter_map(|event| match event.kind {
        EventKind::SubscriptionsGivenUp { count, octets, refusal } => Some((count, octets, refusal)),
        _ => None,
    });
    told.collect()
}

/// Publishes something under each topic until all of it comes at once, and nothing else.
fn await_all(us: &Ours, them: &Theirs<'_>, topics: &BTreeSet<String>) {
    let begin = Instant::now();
    let mut found = BTreeSet::new();
    while found != *topics {
        assert!(begin.elapsed() < 2 * LONG, "there are {found:?} of {topics:?}");
        topics.iter().for_each(|topic| them.send(&given([topic.as_str()])));
        found = BTreeSet::new();
        while us.has_message() {
            let message = us.receive().concat();
            found.insert(String::from_utf8(message).expect("a topic"));
        }
    }
}

#[test]
fn a_subscription_longer_than_their_publisher_takes_is_given_up_and_the_others_work() {
    std::thread::scope(|scope| {
        for (ours, theirs) in [(Sub, Pub), (XSub, XPub)] {
            scope.spawn(move || {
                let Some(peer) = Peer::start() else { return };
                let them = Theirs::new(&peer, "publisher", theirs);
                them.set("MAXMSGSIZE", LIMIT);
                let us = Ours::with(ours, |builder| soon(builder).give_up_after(2u32));
                let monitor = us.monitor();
                let (good, long) = (topics(), "x".repeat(300));
                good.iter().take(13).for_each(|topic| us.subscribe(topic));
                us.subscribe(&long);
                good.iter().skip(13).for_each(|topic| us.subscribe(topic));
                us.connect(&them.bind(TCP));
                let mut told = Vec::new();
                let begin = Instant::now();
                while told.is_empty() {
                    assert!(begin.elapsed() < 3 * LONG, "{ours}: nothing is given up");
                    std::thread::yield_now();
                    told = given_up(&monitor);
                }
                // The command has a name in ZMTP 3.1, before the topic, and one octet there in 3.0.
                let octets = told[0].1;
                assert!(octets == 301 || octets == 310, "{ours}: {octets}");
                assert_eq!(told, [(1, octets, Refusal::Closed { times: 2 })], "{ours}");
                await_all(&us, &them, &good);
                let lost = us.stats().reconnects;
                // A new one is told over the same connection.
                us.subscribe("later");
                await_all(&us, &them, &good.into_iter().chain(["later".to_owned()]).collect());
                assert_eq!((given_up(&monitor), us.stats().reconnects), (vec![], lost), "{ours}");
            });
        }
    });
}

#[test]
fn no_subscription_is_given_up_where_their_publisher_is_gone_and_comes_back_again_and_again() {
    let us = Ours::with(Sub, |builder| soon(builder).give_up_after(1u32));
    let monitor = us.monitor();
    topics().iter().for_each(|topic| us.subscribe(topic));
    let mut endpoint = TCP.to_owned();
    for round in 0..4 {
        let Some(peer) = Peer::start() else { return };
        let them = Theirs::new(&peer, "publisher", XPub);
        let bound = them.bind(&endpoint);
        if round == 0 {
            us.connect(&bound);
        }
        endpoint = bound;
        let told: BTreeSet<String> = (0..topics().len())
            .map(|_| {
                let change = them.receive().concat();
                assert_eq!(change[0], 1, "a subscription");
                String::from_utf8(change[1..].to_vec()).expect("a topic")
            })
            .collect();
        assert_eq!(told, topics(), "round {round}");
        if round == 3 {
            await_all(&us, &them, &topics());
        }
        // It ends right after it was told, and the next one as well. That it was gone in between is known once an
        // attempt has failed.
        peer.kill();
        let begin = Instant::now();
        while us.socket().endpoints()[0].attempts == 0 {
            assert!(begin.elapsed() < LONG, "no attempt failed");
            std::thread::yield_now();
        }
    }
    assert_eq!(given_up(&monitor), []);
}
