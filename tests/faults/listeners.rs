//! What an application hears of a socket within the calls of others: a listener that panics harms nothing else.
#![cfg(feature = "tracing")]

use crate::support::PATIENCE;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use wiremesh::{AnySocket, Context, SocketKind, Sub, XPub};

/// Panics at each event, and notes that.
struct Touchy(Arc<AtomicBool>);

impl Subscriber for Touchy {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.0.store(true, Ordering::Relaxed);
        panic!("on purpose");
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// What a call comes to on a thread whose listener panics. The panic may come out of it, or not.
fn beside_a_panic(work: impl FnOnce() + Send) {
    let panicked = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let panics = || tracing::subscriber::with_default(Touchy(Arc::clone(&panicked)), work);
        let _ = scope.spawn(panics).join();
    });
    assert!(panicked.load(Ordering::Relaxed), "an event was told");
}

#[test]
fn a_listener_that_panics_while_something_is_sent_upstream_within_a_process_does_not_mute_the_link() {
    let context = Context::builder().byte_budget(Some(100_000)).build();
    let publisher = XPub::builder().context(&context).receive_mark(0u32).build().expect("good options");
    publisher.bind("inproc://touchy").expect("bound");
    let subscriber = AnySocket::builder(SocketKind::XSub).context(&context).send_mark(0u32);
    let subscriber = subscriber.build().expect("good options");
    subscriber.connect("inproc://touchy").expect("bound");
    // The thread that sends tells that the budget is used up.
    beside_a_panic(|| (0..4).for_each(|_| drop(subscriber.try_send(vec![b'x'; 40_000]))));
    while publisher.recv_timeout(Duration::from_millis(200)).is_ok() {}
    subscriber.send("behind it").expect("there is room");
    assert_eq!(publisher.recv_timeout(PATIENCE).expect("the link is not mute"), "behind it");
}

#[test]
fn a_listener_that_panics_while_a_link_within_a_process_is_made_leaves_it_whole() {
    let context = Context::new();
    let publisher = XPub::in_context(&context);
    publisher.bind("inproc://begun").expect("bound");
    let subscriber = Sub::in_context(&context);
    beside_a_panic(|| drop(subscriber.connect("inproc://begun")));
    subscriber.subscribe("topic").expect("wanted");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the publisher hears of it");
    publisher.send("topic").expect("accepted");
    assert_eq!(subscriber.recv_timeout(PATIENCE).expect("it is linked"), "topic");
}
