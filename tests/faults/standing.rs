//! What is held for as long as peers are there, subscriptions and metadata, and was in no budget.

use crate::support::{PATIENCE, eventually};
use std::time::Duration;
use wiremesh::{BudgetHalf, Cause, Context, Dealer, EventKind, Pub, Pull, Push, Router, Sub};

const BUDGET: u64 = 4 << 20;
/// Half of the receiving half, and what a socket may hold beside.
const MOST: u64 = BUDGET / 4 + (64 << 10);
/// How many peers with metadata of 26,000 octets have room.
const PLACES: usize = 39;

#[test]
fn topics_of_all_subscribers_together_are_bounded_by_the_budget() {
    let (context, others) = (Context::builder().byte_budget(Some(BUDGET)).build(), Context::new());
    let publisher = Pub::in_context(&context);
    let endpoint = publisher.bind("tcp://127.0.0.1:*").expect("bound");
    let subscribers: Vec<Sub> = (0..8u32)
        .map(|number| {
            let subscriber = Sub::in_context(&others);
            subscriber.connect(&endpoint).expect("a good endpoint");
            for topic in 0..1000u32 {
                let topic = [vec![7; 1000], [number, topic].map(u32::to_le_bytes).concat()].concat();
                subscriber.subscribe(&topic).expect("a topic");
            }
            subscriber
        })
        .collect();
    let refused = || publisher.stats().refused_subscriptions;
    // What is being read counts as well, until all have come.
    eventually(PATIENCE, "all have come", || publisher.topic_count() as u64 + refused() == 8 * 1000);
    assert!(refused() > 6000, "{} are refused", refused());
    let held = context.bytes_held(BudgetHalf::Receiving);
    assert!((MOST / 2..=MOST).contains(&held), "{held} octets are held");
    // Others of the context receive all the same.
    let pull = Pull::in_context(&context);
    let push = Push::in_context(&others);
    push.connect(pull.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
    push.send(vec![7; 1 << 20]).expect("accepted");
    assert_eq!(pull.recv_timeout(PATIENCE).expect("it comes").byte_len(), 1 << 20);
    drop((push, pull, subscribers));
    eventually(PATIENCE, "nothing is held for peers that are gone", || context.bytes_held(BudgetHalf::Receiving) == 0);
}

#[test]
fn topics_that_are_cancelled_make_room_for_others() {
    let (context, others) = (Context::builder().byte_budget(Some(BUDGET)).build(), Context::new());
    let publisher = Pub::in_context(&context);
    let subscriber = Sub::in_context(&others);
    subscriber.connect(publisher.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
    let topic = |number: u32| [vec![7; 1000], number.to_le_bytes().to_vec()].concat();
    for number in 0..5000u32 {
        if number >= 500 {
            subscriber.unsubscribe(topic(number - 500)).expect("it was subscribed to");
        }
        subscriber.subscribe(topic(number)).expect("a topic");
    }
    publisher.wait_for_subscribers_to(topic(4999), 1, PATIENCE).expect("the last of them");
    assert_eq!(publisher.stats().refused_subscriptions, 0);
    let held = context.bytes_held(BudgetHalf::Receiving);
    assert!((1..MOST).contains(&held), "{held} octets are held");
}

#[test]
fn short_topics_count_with_what_they_take_in_memory() {
    const TOPICS: u32 = 100_000;
    let (context, others) = (Context::builder().byte_budget(Some(4 * BUDGET)).build(), Context::new());
    let publisher = Pub::in_context(&context);
    let subscriber = Sub::in_context(&others);
    subscriber.connect(publisher.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
    (0..TOPICS).for_each(|number| subscriber.subscribe(format!("{number:06}")).expect("a topic"));
    let refused = || publisher.stats().refused_subscriptions;
    eventually(PATIENCE, "all have come", || publisher.topic_count() as u64 + refused() == u64::from(TOPICS));
    let (topics, held) = (publisher.topic_count() as u64, context.bytes_held(BudgetHalf::Receiving));
    assert!(refused() > 0, "{topics} topics are counted as {held} octets");
    assert!((MOST * 2..=MOST * 4).contains(&held), "{held} octets are held");
    assert!((70 * topics..140 * topics).contains(&held), "{topics} topics are counted as {held} octets");
    drop(subscriber);
    eventually(PATIENCE, "nothing is held for peers that are gone", || context.bytes_held(BudgetHalf::Receiving) == 0);
}

#[test]
fn short_properties_count_with_what_they_take_in_memory() {
    let (context, others) = (Context::builder().byte_budget(Some(BUDGET)).build(), Context::new());
    let pull = Pull::in_context(&context);
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    let pushes: Vec<Push> = (0..10)
        .map(|_| {
            let properties: Vec<_> = (0..200).map(|number| (format!("X-{number}"), "v".into())).collect();
            let push = Push::builder().context(&others).metadata(properties).build().expect("good options");
            push.connect(&endpoint).expect("a good endpoint");
            push
        })
        .collect();
    pull.wait_for_peers(10, PATIENCE).expect("there is room for them");
    let held = context.bytes_held(BudgetHalf::Receiving);
    assert!(held > 2000 * 50 - (64 << 10), "{held} octets are held");
    drop(pushes);
    eventually(PATIENCE, "nothing is held for peers that are gone", || context.bytes_held(BudgetHalf::Receiving) == 0);
}

#[test]
fn metadata_of_all_peers_together_is_bounded_and_newcomers_come_in_once_others_are_gone() {
    let (context, others) = (Context::builder().byte_budget(Some(BUDGET)).build(), Context::new());
    let router = Router::in_context(&context);
    let monitor = router.monitor();
    let endpoint = router.bind("tcp://127.0.0.1:*").expect("bound");
    let dealer = || {
        let builder = Dealer::builder().context(&others).linger(Duration::ZERO);
        let dealer = builder.metadata([("X-Large", vec![7; 26_000])]).build().expect("good options");
        dealer.connect(&endpoint).expect("a good endpoint");
        dealer
    };
    let mut dealers: Vec<_> = (0..PLACES).map(|_| dealer()).collect();
    router.wait_for_peers(PLACES, PATIENCE).expect("there is room for them");
    let late: Vec<_> = (0..PLACES).map(|_| dealer()).collect();
    let refused = |cause: &Cause| cause.to_string().contains("byte_budget");
    let is_refusal = |kind: &EventKind| matches!(kind, EventKind::HandshakeFailed(cause) if refused(cause));
    for _ in 0..PLACES {
        while !is_refusal(&monitor.recv_timeout(PATIENCE).expect("it is told").kind) {}
    }
    assert!(context.bytes_held(BudgetHalf::Receiving) <= MOST);
    assert_eq!(router.stats().connections, PLACES as u64);
    dealers.clear();
    eventually(PATIENCE, "the others come in", || late.iter().all(|dealer| dealer.stats().connections == 1));
}
