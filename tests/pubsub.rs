//! PUB and SUB (RFC 29): who gets what, and what happens to slow and to returning subscribers.

#[macro_use]
mod common;
#[path = "common/full.rs"]
mod full;

use std::time::Duration;

use common::{LONG, Net, until};
use full::fill;
use wiremesh::{Error, EventKind, Message, Pub, RecvError, SendFailure, Setting, Sub, XSub};

over!([tcp ipc inproc]:
    a_subscriber_gets_what_begins_with_its_topic
    the_empty_topic_is_a_prefix_of_everything
    without_a_subscription_nothing_is_received
    the_first_frame_alone_is_compared
    topics_may_hold_any_octets_and_be_long
    a_message_that_matches_twice_comes_once
    subscriptions_count
    taking_back_an_unknown_subscription_says_so
    each_subscriber_of_a_prefix_is_one_of_a_set
    a_subscriber_hears_all_its_publishers
    a_subscriber_may_bind_and_publishers_connect
    subscriptions_made_before_and_after_connecting_both_count
    what_was_on_its_way_is_filtered_after_unsubscribing
    waiting_for_subscribers_says_how_many_there_are
    topics_go_with_their_subscriber
    disconnecting_takes_the_subscriptions_along
    a_message_counts_once_per_subscriber_and_once_if_nobody_wants_it
    a_slow_subscriber_misses_messages_which_is_counted
    a_slow_subscriber_costs_the_others_nothing
    under_nodrop_a_full_subscriber_is_waited_for
    under_nodrop_other_topics_still_go
    a_conflating_subscriber_gets_the_newest_message
    inverted_matching_delivers_the_rest
    subscriptions_beyond_the_limit_are_ignored
    messages_of_every_size_reach_many_subscribers
);

over!([tcp ipc]:
    subscriptions_are_made_again_when_the_publisher_returns
    a_conflating_publisher_sends_the_newest_message
);

fn publisher(net: &Net) -> Pub {
    Pub::in_context(&net.context)
}

fn subscriber(net: &Net, topics: &[&str]) -> Sub {
    let subscriber = Sub::in_context(&net.context);
    for topic in topics {
        subscriber.subscribe(topic).unwrap();
    }
    subscriber
}

/// Waits until the publisher has learned of so many topics.
fn learned(publisher: &Pub, topics: usize) {
    until("the publisher knows the topics", || publisher.topic_count() == topics);
}

fn a_subscriber_gets_what_begins_with_its_topic(net: &Net) {
    let publisher = publisher(net);
    let subscriber = subscriber(net, &["ab", "x"]);
    net.join(&publisher, &[&subscriber]);
    learned(&publisher, 2);
    publisher.send_many(["a", "ab", "abc", "b", "", "x", "yx", "AB", "xylophone"]).unwrap();
    for wanted in ["ab", "abc", "x", "xylophone"] {
        assert_eq!(subscriber.recv_timeout(LONG).unwrap(), wanted);
    }
    assert_eq!(subscriber.try_recv().unwrap_err(), RecvError::WouldBlock);
    assert_eq!(publisher.stats().dropped.unroutable, 5);
}

fn the_empty_topic_is_a_prefix_of_everything(net: &Net) {
    let publisher = publisher(net);
    let subscriber = subscriber(net, &[""]);
    net.join(&publisher, &[&subscriber]);
    publisher.wait_for_subscribers(1, LONG).unwrap();
    for message in ["", "a", "anything"] {
        publisher.send(message).unwrap();
        assert_eq!(subscriber.recv_timeout(LONG).unwrap(), message);
    }
}

fn without_a_subscription_nothing_is_received(net: &Net) {
    let publisher = publisher(net);
    let subscriber = subscriber(net, &[]);
    net.join(&publisher, &[&subscriber]);
    publisher.send("unheard").unwrap();
    subscriber.subscribe("").unwrap();
    publisher.wait_for_subscribers(1, LONG).unwrap();
    publisher.send("heard").unwrap();
    assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "heard");
    assert_eq!(subscriber.stats().received, 1);
}

fn the_first_frame_alone_is_compared(net: &Net) {
    let publisher = publisher(net);
    let subscriber = subscriber(net, &["b"]);
    net.join(&publisher, &[&subscriber]);
    publisher.wait_for_subscribers(1, LONG).unwrap();
    publisher.send(Message::from_iter(["a", "b"])).unwrap();
    publisher.send(Message::from_iter(["b", "a", ""])).unwrap();
    assert_eq!(subscriber.recv_timeout(LONG).unwrap(), Message::from_iter(["b", "a", ""]));
}

fn topics_may_hold_any_octets_and_be_long(net: &Net) {
    let publisher = publisher(net);
    let subscriber = Sub::in_context(&net.context);
    net.join(&publisher, &[&subscriber]);
    // On both sides of the lengths at which frames and commands change their form.
    let topics: Vec<Vec<u8>> = [1, 245, 246, 248, 249, 255, 256, 5000]
        .into_iter()
        .zip(0u8..)
        .map(|(length, index): (usize, u8)| (0..length).map(|place| [index, 0, 1, 255][place % 4]).collect())
        .collect();
    for topic in &topics {
        subscriber.subscribe(topic).unwrap();
    }
    learned(&publisher, topics.len());
    for topic in &topics {
        publisher.send(topic.as_slice()).unwrap();
        publisher.send(&topic[..topic.len() - 1]).unwrap();
    }
    assert_eq!(publisher.stats().dropped.unroutable, topics.len() as u64);
    for topic in &topics {
        assert_eq!(subscriber.recv_timeout(LONG).unwrap(), topic.as_slice());
    }
    for topic in &topics {
        assert!(subscriber.unsubscribe(topic).unwrap());
    }
    learned(&publisher, 0);
}

fn a_message_that_matches_twice_comes_once(net: &Net) {
    let publisher = publisher(net);
    let subscriber = subscriber(net, &["", "a", "ab", "ab"]);
    net.join(&publisher, &[&subscriber]);
    learned(&publisher, 3);
    publisher.send_many(["abc", "end"]).unwrap();
    assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "abc");
    assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "end");
    assert_eq!(publisher.stats().accepted, 2);
}

fn subscriptions_count(net: &Net) {
    let publisher = publisher(net);
    let subscriber = subscriber(net, &["a", "a"]);
    net.join(&publisher, &[&subscriber]);
    learned(&publisher, 1);
    assert_eq!(subscriber.topic_count(), 1);
    assert!(subscriber.unsubscribe("a").unwrap());
    publisher.send("a1").unwrap();
    assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "a1");
    assert!(subscriber.unsubscribe("a").unwrap());
    learned(&publisher, 0);
    assert_eq!(subscriber.topic_count(), 0);
}

fn taking_back_an_unknown_subscription_says_so(net: &Net) {
    let publisher = publisher(net);
    let subscriber = subscriber(net, &["ab"]);
    net.join(&publisher, &[&subscriber]);
    for unknown in ["", "a", "abc", "b"] {
        assert!(!subscriber.unsubscribe(unknown).unwrap());
    }
    publisher.wait_for_subscribers(1, LONG).unwrap();
    publisher.send("ab").unwrap();
    assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "ab");
}

fn each_subscriber_of_a_prefix_is_one_of_a_set(net: &Net) {
    let publisher = publisher(net);
    let (left, right) = (subscriber(net, &["a", "l"]), subscriber(net, &["a", "r"]));
    net.join(&publisher, &[&left, &right]);
    learned(&publisher, 3);
    publisher.send("a1").unwrap();
    for each in [&left, &right] {
        assert_eq!(each.recv_timeout(LONG).unwrap(), "a1");
    }
    left.unsubscribe("a").unwrap();
    left.unsubscribe("l").unwrap();
    learned(&publisher, 2);
    publisher.send("a2").unwrap();
    assert_eq!(right.recv_timeout(LONG).unwrap(), "a2");
    left.subscribe("end").unwrap();
    learned(&publisher, 3);
    publisher.send("end").unwrap();
    assert_eq!(left.recv_timeout(LONG).unwrap(), "end");
}

fn a_subscriber_hears_all_its_publishers(net: &Net) {
    let subscriber = subscriber(net, &[""]);
    let publishers = [(); 3].map(|()| publisher(net));
    for publisher in &publishers {
        net.join(publisher, &[&subscriber]);
        publisher.wait_for_subscribers(1, LONG).unwrap();
    }
    for (number, publisher) in publishers.iter().enumerate() {
        publisher.send([number as u8]).unwrap();
    }
    let mut heard: Vec<u8> = (0..3).map(|_| subscriber.recv_timeout(LONG).unwrap().first()[0]).collect();
    heard.sort_unstable();
    assert_eq!(heard, [0, 1, 2]);
}

fn a_subscriber_may_bind_and_publishers_connect(net: &Net) {
    let subscriber = subscriber(net, &["a"]);
    let publishers = [publisher(net), publisher(net)];
    net.join(&subscriber, &[&publishers[0], &publishers[1]]);
    for publisher in &publishers {
        publisher.wait_for_subscribers(1, LONG).unwrap();
        publisher.send("a").unwrap();
        assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "a");
    }
}

fn subscriptions_made_before_and_after_connecting_both_count(net: &Net) {
    let publisher = publisher(net);
    let subscriber = subscriber(net, &["before"]);
    let endpoint = net.fresh();
    subscriber.connect(&endpoint).unwrap();
    subscriber.subscribe("between").unwrap();
    publisher.bind(&endpoint).unwrap();
    subscriber.wait_for_peers(1, LONG).unwrap();
    subscriber.subscribe("after").unwrap();
    learned(&publisher, 3);
    for topic in ["before", "between", "after"] {
        publisher.send(topic).unwrap();
        assert_eq!(subscriber.recv_timeout(LONG).unwrap(), topic);
    }
}

fn what_was_on_its_way_is_filtered_after_unsubscribing(net: &Net) {
    let publisher = publisher(net);
    let subscriber = subscriber(net, &["old", "new"]);
    net.join(&publisher, &[&subscriber]);
    learned(&publisher, 2);
    publisher.send_many(["old 1", "old 2", "new"]).unwrap();
    until("all have arrived", || !net.is_stream() || subscriber.stats().unread == 3);
    subscriber.unsubscribe("old").unwrap();
    assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "new");
    let stats = subscriber.stats();
    assert_eq!((stats.received, stats.discarded), (1, 2));
}

fn waiting_for_subscribers_says_how_many_there_are(net: &Net) {
    let publisher = publisher(net);
    let (one, other) = (subscriber(net, &["a"]), subscriber(net, &[]));
    net.join(&publisher, &[&one, &other]);
    publisher.wait_for_subscribers(1, LONG).unwrap();
    let error = publisher.wait_for_subscribers(2, Duration::from_millis(10)).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(error.to_string().contains("1 of 2 subscribers"), "{error}");
    other.subscribe("b").unwrap();
    publisher.wait_for_subscribers(2, LONG).unwrap();
}

fn topics_go_with_their_subscriber(net: &Net) {
    let publisher = publisher(net);
    let (left, right) = (subscriber(net, &["a", "b"]), subscriber(net, &["b", "c"]));
    net.join(&publisher, &[&left, &right]);
    learned(&publisher, 3);
    drop(left);
    learned(&publisher, 2);
    publisher.send_many(["a", "b"]).unwrap();
    assert_eq!(right.recv_timeout(LONG).unwrap(), "b");
    assert_eq!(publisher.stats().dropped.unroutable, 1);
    drop(right);
    learned(&publisher, 0);
}

fn disconnecting_takes_the_subscriptions_along(net: &Net) {
    let publishers = [publisher(net), publisher(net)];
    let subscriber = subscriber(net, &["a"]);
    let endpoints = [net.join(&publishers[0], &[&subscriber]), net.join(&publishers[1], &[&subscriber])];
    for publisher in &publishers {
        publisher.wait_for_subscribers(1, LONG).unwrap();
    }
    subscriber.disconnect(&endpoints[0]).unwrap();
    learned(&publishers[0], 0);
    publishers[1].send("a").unwrap();
    assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "a");
}

fn a_message_counts_once_per_subscriber_and_once_if_nobody_wants_it(net: &Net) {
    let publisher = publisher(net);
    publisher.bind(net.fresh()).unwrap();
    publisher.send("nobody is there").unwrap();
    let (left, right) = (subscriber(net, &["a"]), subscriber(net, &["a"]));
    net.join(&publisher, &[&left, &right]);
    publisher.wait_for_subscribers(2, LONG).unwrap();
    publisher.send_many(["a", "b"]).unwrap();
    for each in [&left, &right] {
        assert_eq!(each.recv_timeout(LONG).unwrap(), "a");
    }
    until("all is written", || publisher.stats().queued == 0);
    let stats = publisher.stats();
    assert_eq!((stats.accepted, stats.written, stats.dropped.unroutable), (4, 2, 2));
}

/// A publisher and a subscriber with room for few messages of this size, in the kernel too.
fn narrow(net: &Net, nodrop: bool) -> (Pub, Sub) {
    let publisher = Pub::builder().context(&net.context).send_mark(4u32).send_buffer(4096usize).nodrop(nodrop).build();
    let subscriber = Sub::builder().context(&net.context).receive_mark(4u32).receive_buffer(4096usize).build();
    (publisher.unwrap(), subscriber.unwrap())
}

const BULK: usize = 20_000;

fn a_slow_subscriber_misses_messages_which_is_counted(net: &Net) {
    let (publisher, subscriber) = narrow(net, false);
    subscriber.subscribe("").unwrap();
    net.join(&publisher, &[&subscriber]);
    publisher.wait_for_subscribers(1, LONG).unwrap();
    for number in 0..500u32 {
        let mut body = vec![0; BULK];
        body[..4].copy_from_slice(&number.to_le_bytes());
        publisher.send(body).unwrap();
    }
    let dropped = publisher.stats().dropped.high_water_mark;
    assert!(dropped > 0, "{:?}", publisher.stats());
    let mut numbers = Vec::new();
    while (numbers.len() as u64) < 500 - dropped {
        let message = subscriber.recv_timeout(LONG).unwrap();
        numbers.push(u32::from_le_bytes(message.first()[..4].try_into().unwrap()));
    }
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert_eq!(subscriber.try_recv().unwrap_err(), RecvError::WouldBlock);
    until("all is written", || publisher.stats().queued == 0);
    let stats = publisher.stats();
    assert_eq!((stats.accepted, stats.written), (500, 500 - dropped), "{stats:?}");
    assert_eq!(publisher.peers()[0].stats.dropped.total(), dropped);
    if !net.is_stream() {
        assert_eq!(numbers, (0..8).collect::<Vec<_>>(), "both marks together");
    }
}

fn a_slow_subscriber_costs_the_others_nothing(net: &Net) {
    let (publisher, slow) = narrow(net, false);
    slow.subscribe("").unwrap();
    let quick = subscriber(net, &[""]);
    net.join(&publisher, &[&slow, &quick]);
    publisher.wait_for_subscribers(2, LONG).unwrap();
    for number in 0..300u32 {
        let mut body = vec![0; BULK];
        body[..4].copy_from_slice(&number.to_le_bytes());
        publisher.send(body).unwrap();
        let message = quick.recv_timeout(LONG).unwrap();
        assert_eq!(message.first()[..4], number.to_le_bytes());
    }
    assert!(publisher.stats().dropped.high_water_mark > 0);
}

fn under_nodrop_a_full_subscriber_is_waited_for(net: &Net) {
    let (publisher, subscriber) = narrow(net, true);
    subscriber.subscribe("").unwrap();
    net.join(&publisher, &[&subscriber]);
    publisher.wait_for_subscribers(1, LONG).unwrap();
    let (sent, error) = fill(|| publisher.send_timeout(vec![7; BULK], Duration::from_millis(50)));
    assert_eq!(error.message.first().len(), BULK);
    assert_eq!(publisher.try_send(error.message).unwrap_err().reason, SendFailure::WouldBlock);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| publisher.send_timeout("last", LONG));
        for _ in 0..sent {
            assert_eq!(subscriber.recv_timeout(LONG).unwrap().first().len(), BULK);
        }
        sender.join().unwrap().unwrap();
    });
    assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "last");
    assert_eq!(publisher.stats().dropped.total(), 0);
}

fn under_nodrop_other_topics_still_go(net: &Net) {
    let (publisher, full) = narrow(net, true);
    full.subscribe("full").unwrap();
    let other = subscriber(net, &["other"]);
    net.join(&publisher, &[&full, &other]);
    learned(&publisher, 2);
    let mut body = b"full".to_vec();
    body.resize(BULK, 0);
    while publisher.send_timeout(body.as_slice(), Duration::from_millis(50)).is_ok() {}
    publisher.try_send("other").unwrap();
    assert_eq!(other.recv_timeout(LONG).unwrap(), "other");
    publisher.set(Setting::Nodrop(false)).unwrap();
    until("a message is dropped", || {
        publisher.try_send(body.as_slice()).unwrap();
        publisher.stats().dropped.high_water_mark == 1
    });
}

fn a_conflating_subscriber_gets_the_newest_message(net: &Net) {
    let publisher = publisher(net);
    let subscriber = Sub::builder().context(&net.context).conflate(true).build().unwrap();
    subscriber.subscribe("").unwrap();
    net.join(&publisher, &[&subscriber]);
    publisher.wait_for_subscribers(1, LONG).unwrap();
    for number in 0..100u8 {
        publisher.send([number]).unwrap();
    }
    until("all have arrived", || !net.is_stream() || subscriber.peers()[0].stats.received == 100);
    assert_eq!(subscriber.recv_timeout(LONG).unwrap().first(), [99]);
    assert_eq!(subscriber.try_recv().unwrap_err(), RecvError::WouldBlock);
}

fn a_conflating_publisher_sends_the_newest_message(net: &Net) {
    let publisher = Pub::builder().context(&net.context).conflate(true).send_buffer(4096usize).build().unwrap();
    let subscriber = Sub::builder().context(&net.context).receive_mark(1u32).receive_buffer(4096usize).build().unwrap();
    subscriber.subscribe("").unwrap();
    net.join(&publisher, &[&subscriber]);
    publisher.wait_for_subscribers(1, LONG).unwrap();
    for number in 0..200u8 {
        let mut body = vec![0; BULK];
        body[0] = number;
        publisher.send(body).unwrap();
    }
    let replaced = publisher.stats().dropped.conflate;
    assert!(replaced > 0, "{:?}", publisher.stats());
    let numbers: Vec<u8> = (0..200 - replaced).map(|_| subscriber.recv_timeout(LONG).unwrap().first()[0]).collect();
    assert!(numbers.is_sorted() && numbers.last() == Some(&199), "{numbers:?}");
    assert_eq!(publisher.stats().dropped.total(), replaced);
}

fn inverted_matching_delivers_the_rest(net: &Net) {
    let publisher = Pub::builder().context(&net.context).invert_matching(true).build().unwrap();
    let subscriber = Sub::builder().context(&net.context).invert_matching(true).build().unwrap();
    subscriber.subscribe("a").unwrap();
    net.join(&publisher, &[&subscriber]);
    publisher.wait_for_subscribers(1, LONG).unwrap();
    publisher.send_many(["a", "b", "abc", "", "end"]).unwrap();
    for wanted in ["b", "", "end"] {
        assert_eq!(subscriber.recv_timeout(LONG).unwrap(), wanted);
    }
}

fn subscriptions_beyond_the_limit_are_ignored(net: &Net) {
    let publisher = Pub::builder().context(&net.context).max_subscriptions(2u32).build().unwrap();
    let subscriber = subscriber(net, &[]);
    net.join(&publisher, &[&subscriber]);
    for topic in ["a", "b", "c", "d"] {
        subscriber.subscribe(topic).unwrap();
    }
    learned(&publisher, 2);
    subscriber.unsubscribe("b").unwrap();
    learned(&publisher, 1);
    subscriber.subscribe("e").unwrap();
    learned(&publisher, 2);
    publisher.send_many(["a", "b", "c", "d", "e"]).unwrap();
    assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "a");
    assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "e");
}

fn messages_of_every_size_reach_many_subscribers(net: &Net) {
    let publisher = publisher(net);
    // XSUBs do not filter, so what comes is what was sent to them.
    let subscribers: Vec<XSub> = (0..5).map(|_| XSub::in_context(&net.context)).collect();
    for subscriber in &subscribers {
        subscriber.subscribe("even").unwrap();
    }
    let sockets: Vec<&wiremesh::Socket> = subscribers.iter().map(|subscriber| &**subscriber).collect();
    net.join(&publisher, &sockets);
    publisher.wait_for_subscribers(5, LONG).unwrap();
    let sizes = [0, 60, 70, 71, 300, 8192, 8193, 20_000, 70_000, 300_000];
    for size in sizes {
        publisher.send(Message::from_iter([&b"odd"[..], &vec![1; size]])).unwrap();
        publisher.send(Message::from_iter([&b"even"[..], &vec![2; size]])).unwrap();
        publisher.send([b"even".as_slice(), &vec![3; size]].concat()).unwrap();
    }
    for subscriber in &subscribers {
        for size in sizes {
            let message = subscriber.recv_timeout(LONG).unwrap();
            assert_eq!(message, Message::from_iter([&b"even"[..], &vec![2; size]]));
            let message = subscriber.recv_timeout(LONG).unwrap();
            assert_eq!(message.first(), [b"even".as_slice(), &vec![3; size]].concat());
        }
    }
}

fn subscriptions_are_made_again_when_the_publisher_returns(net: &Net) {
    let first = publisher(net);
    let subscriber = subscriber(net, &["kept", "twice", "twice", "dropped"]);
    let endpoint = net.join(&first, &[&subscriber]);
    learned(&first, 3);
    let monitor = subscriber.monitor();
    drop(first);
    while !matches!(monitor.recv_timeout(LONG).unwrap().kind, EventKind::Disconnected(_)) {}
    subscriber.unsubscribe("dropped").unwrap();
    subscriber.unsubscribe("twice").unwrap();
    subscriber.subscribe("added").unwrap();
    let second = publisher(net);
    until("the address is free again", || second.bind(&endpoint).is_ok());
    learned(&second, 3);
    second.send_many(["dropped", "kept", "twice", "added"]).unwrap();
    for wanted in ["kept", "twice", "added"] {
        assert_eq!(subscriber.recv_timeout(LONG).unwrap(), wanted);
    }
    assert_eq!(second.stats().dropped.unroutable, 1);
}
