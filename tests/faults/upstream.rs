//! What several threads send upstream over inproc: one of them applies at the publisher what all of them send, and that
//! must not cost another its order, its messages or its time.

use crate::support::{PATIENCE, eventually};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use wiremesh::{AnySocket, Context, Pub, Pull, Push, SocketKind, Sub, XPub};

const MESSAGES: usize = 300;
const ROUNDS: usize = 20;

/// A publisher and an XSUB of the same process, of which one binds.
fn pair(context: &Context, publisher_binds: bool) -> (XPub, AnySocket) {
    let publisher = XPub::builder().context(context).receive_mark(0u32).build().expect("good options");
    let subscriber = AnySocket::builder(SocketKind::XSub).context(context).send_mark(0u32);
    let subscriber = subscriber.build().expect("good options");
    if publisher_binds {
        publisher.bind("inproc://upstream").expect("bound");
        subscriber.connect("inproc://upstream").expect("bound");
    } else {
        subscriber.bind("inproc://upstream").expect("bound");
        publisher.connect("inproc://upstream").expect("bound");
    }
    (publisher, subscriber)
}

/// Subscribes to one topic after the other, which takes the publisher longer than us, as long as that can be done.
fn keep_busy(subscriber: &AnySocket, over: &AtomicBool) {
    for number in 0.. {
        if over.load(Ordering::Relaxed) || subscriber.subscribe(format!("{number:0200}")).is_err() {
            return;
        }
    }
}

/// One thread keeps the publisher busy, another one sends numbers and ends the link: they arrive, each once.
fn arrives_whole(publisher_binds: bool, end: impl Fn(&XPub, &AnySocket) + Sync) {
    for round in 0..ROUNDS {
        let context = Context::new();
        let (publisher, subscriber) = pair(&context, publisher_binds);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let busy = scope.spawn(|| keep_busy(&subscriber, &over));
            eventually(PATIENCE, "the publisher is busy", || publisher.topic_count() > 0);
            for number in 0..MESSAGES {
                subscriber.send(format!("{number}")).expect("there is room");
                if number % 16 == 0 {
                    thread::sleep(Duration::from_micros(50));
                }
            }
            end(&publisher, &subscriber);
            over.store(true, Ordering::Relaxed);
            busy.join().expect("no panic");
        });
        let mut numbers = 0;
        while let Ok(message) = publisher.try_recv() {
            if message.first()[0] > 1 {
                assert_eq!(message, format!("{numbers}").as_str(), "in round {round}");
                numbers += 1;
            }
        }
        assert_eq!(numbers, MESSAGES, "in round {round}");
    }
}

#[test]
fn what_is_sent_upstream_within_a_process_arrives_once_and_in_order_though_the_sender_disconnects_at_once() {
    arrives_whole(true, |_, subscriber| subscriber.disconnect("inproc://upstream").expect("connected"));
}

#[test]
fn so_it_does_though_the_sender_is_closed_at_once() {
    arrives_whole(true, |_, subscriber| subscriber.closer().close());
}

#[test]
fn so_it_does_though_the_publisher_disconnects_at_once() {
    arrives_whole(false, |publisher, _| publisher.disconnect("inproc://upstream").expect("connected"));
}

/// What a publisher that is closed has not applied is lost with it, and neither end waits for the other.
#[test]
fn a_publisher_that_is_closed_while_threads_send_upstream_leaves_each_of_them_in_peace() {
    for _ in 0..ROUNDS {
        let context = Context::new();
        let (publisher, subscriber) = pair(&context, true);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    subscriber.send("to whoever is there").expect("open");
                }
            });
            let busy = scope.spawn(|| keep_busy(&subscriber, &over));
            eventually(PATIENCE, "the publisher is busy", || publisher.topic_count() > 0);
            drop(publisher);
            eventually(PATIENCE, "its peer has gone", || subscriber.stats().connections == 0);
            over.store(true, Ordering::Relaxed);
            for thread in [sender, busy] {
                thread.join().expect("no panic");
            }
        });
        let stats = subscriber.stats();
        assert_eq!(stats.accepted, stats.written + stats.dropped.total() + stats.queued, "all is accounted for");
    }
}

/// A body that panics when it is let go, and is too long to be copied.
struct Touchy([u8; 100_000]);

impl AsRef<[u8]> for Touchy {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Touchy {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[test]
fn a_body_that_panics_when_a_closed_socket_lets_it_go_leaves_the_engine_to_others() {
    let context = Context::new();
    let pull = Pull::in_context(&context);
    pull.bind("tcp://127.0.0.1:*").expect("bound");
    pull.bind("inproc://unread").expect("bound");
    let push = Push::in_context(&context);
    push.connect("inproc://unread").expect("bound");
    push.send(Bytes::from_owner(Touchy([b'x'; 100_000]))).expect("there is room");
    push.close();
    eventually(PATIENCE, "it is handed over", || pull.stats().unread == 1);
    drop(pull);
    // Nobody drives this one but the engine.
    let publisher = Pub::in_context(&context);
    let endpoint = publisher.bind("tcp://127.0.0.1:*").expect("bound");
    let subscriber = Sub::in_context(&Context::new());
    for number in 0..10 {
        subscriber.subscribe(format!("{number}")).expect("wanted");
        subscriber.connect(&endpoint).expect("a good endpoint");
        eventually(PATIENCE, "the engine sees to it", || publisher.topic_count() == number + 1);
    }
}
