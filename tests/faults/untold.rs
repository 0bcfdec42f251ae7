//! A subscription that a publisher of another library never takes: it ends each connection over it, and the others go
//! with that.

use crate::support::raw::Raw;
use crate::support::{PATIENCE, eventually};
use std::io::Read;
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use wiremesh::{AnySocket, Context, EventKind, Monitor, Refusal, SocketKind};

/// What a publisher made of bytes sees.
#[derive(Debug, PartialEq)]
enum Seen {
    Up,
    Topic(Vec<u8>),
    Cancel(Vec<u8>),
    /// It ended the connection, which was so old.
    Ended(Duration),
}

/// A publisher that ends the connection when it is told of a topic that it does not take, or before it reads any.
struct Publisher {
    seen: Receiver<Seen>,
    endpoint: String,
}

impl Publisher {
    fn start(takes: impl Fn(&[u8]) -> bool + Send + 'static) -> Publisher {
        Publisher::at(TcpListener::bind("127.0.0.1:0").expect("a port"), 0, takes)
    }

    /// The first `mute` connections are ended at once.
    fn at(listener: TcpListener, mute: usize, takes: impl Fn(&[u8]) -> bool + Send + 'static) -> Publisher {
        let endpoint = format!("tcp://{}", listener.local_addr().expect("bound"));
        let (tell, seen) = channel();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let mut raw = Raw::accepted(stream);
                if raw.shake_hands("PUB").is_err() || tell.send(Seen::Up).is_err() {
                    continue;
                }
                let up = Instant::now();
                while let Some(body) = if number < mute { None } else { command(&mut raw) } {
                    let seen = match body.strip_prefix(b"\x09SUBSCRIBE") {
                        Some(topic) if !takes(topic) => break,
                        Some(topic) => Seen::Topic(topic.to_vec()),
                        None => Seen::Cancel(body.strip_prefix(b"\x06CANCEL").expect("a cancellation").to_vec()),
                    };
                    if tell.send(seen).is_err() {
                        return;
                    }
                }
                let age = up.elapsed();
                drop(raw);
                if tell.send(Seen::Ended(age)).is_err() {
                    return;
                }
            }
        });
        Publisher { seen, endpoint }
    }

    fn sees(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).expect("something is to be seen")
    }

    /// Waits until one connection was told of so many topics. Returns these, and how old each connection was that ended
    /// before.
    fn await_topics(&self, count: usize) -> (Vec<Vec<u8>>, Vec<Duration>) {
        let (mut topics, mut ended) = (Vec::new(), Vec::new());
        let begin = Instant::now();
        while topics.len() < count {
            assert!(begin.elapsed() < 2 * PATIENCE, "no connection was told of {count}; {} ended", ended.len());
            match self.sees() {
                Seen::Up => topics.clear(),
                Seen::Topic(topic) => topics.push(topic),
                Seen::Ended(age) => ended.push(age),
                Seen::Cancel(topic) => panic!("{topic:?} is cancelled"),
            }
        }
        topics.sort();
        (topics, ended)
    }
}

/// The body of the next command; `None` at the end.
fn command(raw: &mut Raw) -> Option<Vec<u8>> {
    let mut head = [0; 2];
    raw.read_exact(&mut head).ok()?;
    let mut size = u64::from(head[1]);
    if head[0] & 2 != 0 {
        let mut rest = [0; 8];
        rest[0] = head[1];
        raw.read_exact(&mut rest[1..]).ok()?;
        size = u64::from_be_bytes(rest);
    }
    let mut body = vec![0; size as usize];
    raw.read_exact(&mut body).ok()?;
    Some(body)
}

fn subscriber(kind: SocketKind, give_up_after: u32) -> AnySocket {
    subscriber_with_linger(kind, give_up_after, Duration::ZERO)
}

fn subscriber_with_linger(kind: SocketKind, give_up_after: u32, linger: Duration) -> AnySocket {
    let quick = AnySocket::builder(kind).context(&Context::new()).reconnect_interval(Duration::from_millis(5));
    let quick = quick.reconnect_max(Duration::from_millis(20)).linger(linger);
    quick.give_up_after(give_up_after).build().expect("good options")
}

/// What events say of subscriptions that were given up.
fn given_up(monitor: &Monitor) -> Vec<(u64, u64, Refusal)> {
    let told = std::iter::from_fn(|| monitor.try_recv()).filter_map(|event| match event.kind {
        EventKind::SubscriptionsGivenUp { count, octets, refusal } => Some((count, octets, refusal)),
        _ => None,
    });
    told.collect()
}

/// Twenty topics, of which one has more octets than the publisher takes.
fn topics() -> Vec<Vec<u8>> {
    let mut topics: Vec<Vec<u8>> = (10..30).map(|number| format!("topic {number}").into_bytes()).collect();
    topics[13].resize(300, b'x');
    topics
}

fn is_short(topic: &[u8]) -> bool {
    topic.len() < 256
}

#[test]
fn a_subscription_that_another_publisher_never_takes_is_found_and_given_up_and_the_others_stay() {
    std::thread::scope(|scope| {
        for kind in [SocketKind::Sub, SocketKind::XSub] {
            scope.spawn(move || {
                let publisher = Publisher::start(is_short);
                let subscriber = subscriber(kind, 3);
                let monitor = subscriber.monitor();
                topics().iter().for_each(|topic| subscriber.subscribe(topic).expect("open"));
                subscriber.connect(&publisher.endpoint).expect("good");
                let (told, ended) = publisher.await_topics(19);
                let good: Vec<Vec<u8>> = topics().into_iter().filter(|topic| is_short(topic)).collect();
                assert_eq!(told, good);
                assert_eq!(given_up(&monitor), [(1, 310, Refusal::Closed { times: 3 })]);
                let last: Vec<_> = ended.iter().rev().take(3).collect();
                assert!(last.iter().all(|age| **age >= Duration::from_millis(990)), "{ended:?}");
                // That connection stays.
                subscriber.subscribe("later").expect("open");
                assert_eq!(publisher.sees(), Seen::Topic(b"later".to_vec()));
            });
        }
    });
}

#[test]
fn each_of_several_subscriptions_that_are_not_taken_is_given_up() {
    let publisher = Publisher::start(|topic| !matches!(topic, b"topic 10" | b"topic 20" | b"topic 29"));
    let subscriber = subscriber(SocketKind::Sub, 1);
    let monitor = subscriber.monitor();
    (10..30).for_each(|number| subscriber.subscribe(format!("topic {number}")).expect("open"));
    subscriber.connect(&publisher.endpoint).expect("good");
    let mut told = Vec::new();
    eventually(PATIENCE, "all three are given up", || {
        told.extend(given_up(&monitor));
        told.len() >= 3
    });
    assert_eq!(told, [(1, 18, Refusal::Closed { times: 1 }); 3]);
    subscriber.subscribe("later").expect("open");
    publisher.await_topics(18);
}

#[test]
fn subscriptions_are_never_given_up_where_that_is_switched_off() {
    let publisher = Publisher::start(is_short);
    let subscriber = subscriber(SocketKind::Sub, 0);
    let monitor = subscriber.monitor();
    topics().iter().for_each(|topic| subscriber.subscribe(topic).expect("open"));
    subscriber.connect(&publisher.endpoint).expect("good");
    for _ in 0..8 {
        assert_eq!(publisher.sees(), Seen::Up);
        for topic in topics().into_iter().take(13) {
            assert_eq!(publisher.sees(), Seen::Topic(topic), "all are told at once");
        }
        assert!(matches!(publisher.sees(), Seen::Ended(_)));
    }
    assert_eq!(given_up(&monitor), []);
}

#[test]
fn a_subscription_that_was_given_up_is_told_again_once_it_is_asked_for_anew() {
    let publisher = Publisher::start(is_short);
    let subscriber = subscriber(SocketKind::Sub, 1);
    let long = vec![b'l'; 300];
    for topic in [&b"short"[..], &long] {
        subscriber.subscribe(topic).expect("open");
    }
    let monitor = subscriber.monitor();
    subscriber.connect(&publisher.endpoint).expect("good");
    let mut told = Vec::new();
    eventually(PATIENCE, "it is given up", || {
        told.extend(given_up(&monitor));
        !told.is_empty()
    });
    // One more time changes nothing, and what was not told is not cancelled.
    subscriber.subscribe(&long).expect("open");
    assert!(subscriber.unsubscribe(&long).expect("open") && subscriber.unsubscribe(&long).expect("open"));
    subscriber.subscribe("between").expect("open");
    publisher.await_topics(2);
    subscriber.subscribe(&long).expect("open");
    assert!(matches!(publisher.sees(), Seen::Ended(_)), "it is told again");
}

#[test]
fn a_subscription_that_was_given_up_is_told_to_whoever_is_there_after_an_attempt_was_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let subscriber = subscriber(SocketKind::Sub, 1);
    topics().iter().for_each(|topic| subscriber.subscribe(topic).expect("open"));
    let monitor = subscriber.monitor();
    // Serves until the topic is given up.
    subscriber.connect(format!("tcp://{address}")).expect("good");
    let mut told = Vec::new();
    let begin = Instant::now();
    while told.is_empty() {
        assert!(begin.elapsed() < 2 * PATIENCE, "nothing is given up");
        let mut raw = Raw::accepted(listener.accept().expect("a connection").0);
        raw.shake_hands("PUB").expect("good");
        while command(&mut raw).is_some_and(|body| body.len() < 266) {}
        drop(raw);
        eventually(PATIENCE, "the end is seen", || subscriber.stats().connections == 0);
        told.extend(given_up(&monitor));
    }
    drop(listener);
    eventually(PATIENCE, "an attempt is refused", || {
        std::iter::from_fn(|| monitor.try_recv()).any(|event| matches!(event.kind, EventKind::Closed(_)))
    });
    let mut again = None;
    eventually(PATIENCE, "the port is free", || {
        again = TcpListener::bind(address).ok();
        again.is_some()
    });
    let publisher = Publisher::at(again.expect("bound"), 0, |_| true);
    assert_eq!(publisher.await_topics(20).0.len(), 20);
}

#[test]
fn who_is_closed_or_disconnected_while_a_subscription_is_looked_for_does_not_wait_for_the_end_of_that() {
    std::thread::scope(|scope| {
        for (kind, closes) in [(SocketKind::Sub, true), (SocketKind::Sub, false), (SocketKind::XSub, true)] {
            scope.spawn(move || {
                let publisher = Publisher::at(TcpListener::bind("127.0.0.1:0").expect("a port"), 2, |_| true);
                let subscriber = subscriber_with_linger(kind, 3, PATIENCE);
                topics().iter().for_each(|topic| subscriber.subscribe(topic).expect("open"));
                subscriber.connect(&publisher.endpoint).expect("good");
                // The first step of the third connection tells nothing, the second one half.
                publisher.await_topics(10);
                let subscriber = if closes {
                    drop(subscriber);
                    None
                } else {
                    subscriber.disconnect(&publisher.endpoint).expect("connected");
                    Some(subscriber)
                };
                let mut told = 10;
                while let Seen::Topic(_) = publisher.sees() {
                    told += 1;
                }
                assert!(told < 20, "{kind}: it went on with the search to its end");
                drop(subscriber);
            });
        }
    });
}

/// It says nothing of subscriptions.
#[test]
fn a_publisher_that_ends_connections_whatever_it_is_told_is_told_of_all_in_the_end() {
    let publisher = Publisher::at(TcpListener::bind("127.0.0.1:0").expect("a port"), 9, |_| true);
    let subscriber = subscriber(SocketKind::Sub, 1);
    let monitor = subscriber.monitor();
    topics().iter().for_each(|topic| subscriber.subscribe(topic).expect("open"));
    subscriber.connect(&publisher.endpoint).expect("good");
    let (told, ended) = publisher.await_topics(20);
    assert_eq!((told, ended.len()), (topics(), 9));
    assert_eq!(given_up(&monitor), []);
}
