//! Subscriptions that change all the time while the publisher does not read.

use crate::support::child::{self, Process};
use crate::support::measure::resident;
use crate::support::raw::Raw;
use crate::support::{PATIENCE, eventually, is_full};
use std::ffi::OsStr;
use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;
use wiremesh::{BudgetHalf, Context, Sub, XPub, XSub};

/// A publisher made of bytes that has shaken hands and reads nothing more.
fn deaf_publisher(connect: impl FnOnce(&str)) -> Raw {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    connect(&format!("tcp://{}", listener.local_addr().unwrap()));
    let mut raw = Raw::accepted(listener.accept().unwrap().0);
    raw.shake_hands("XPUB").expect("a handshake");
    raw
}

fn rounds() -> usize {
    if is_full() { 5_000_000 } else { 200_000 }
}

/// The most octets that may wait for a publisher that does not read.
const FEW: u64 = 1 << 20;

#[test]
fn a_topic_that_is_toggled_costs_nothing_while_the_publisher_does_not_read() {
    let context = Context::new();
    let sub = Sub::in_context(&context);
    let _raw = deaf_publisher(|endpoint| drop(sub.connect(endpoint).unwrap()));
    sub.wait_for_peers(1, PATIENCE).unwrap();
    for _ in 0..rounds() {
        sub.subscribe("a topic of some length").unwrap();
        sub.unsubscribe("a topic of some length").unwrap();
    }
    assert!(sub.stats().queued_bytes < FEW, "{}", sub.stats());
}

#[test]
fn a_topic_asked_for_again_and_again_costs_nothing_either() {
    let context = Context::new();
    let xsub = XSub::builder().context(&context).verbose_unsubscribe(true).build().unwrap();
    let _raw = deaf_publisher(|endpoint| drop(xsub.connect(endpoint).unwrap()));
    xsub.wait_for_peers(1, PATIENCE).unwrap();
    for _ in 0..rounds() {
        xsub.subscribe("a topic of some length").unwrap();
    }
    for _ in 0..rounds() {
        xsub.unsubscribe("a topic of some length").unwrap();
        xsub.unsubscribe("a topic that nobody wants").unwrap();
    }
    assert!(xsub.stats().queued_bytes < FEW, "{}", xsub.stats());
}

/// A forwarder passes on what a peer far away does: events of its XPUB go out of its XSUB.
#[test]
fn a_remote_subscriber_cannot_fill_a_forwarder() {
    let context = Context::new();
    let (front, back) = (XPub::in_context(&context), XSub::in_context(&context));
    let _raw = deaf_publisher(|endpoint| drop(back.connect(endpoint).unwrap()));
    back.wait_for_peers(1, PATIENCE).unwrap();
    let sub = Sub::in_context(&context);
    sub.connect(front.bind("tcp://127.0.0.1:*").unwrap()).unwrap();
    sub.wait_for_peers(1, PATIENCE).unwrap();
    for round in 0..rounds() / 10 {
        let topic = format!("topic {}", round % 100);
        sub.subscribe(&topic).unwrap();
        let event = front.recv_timeout(PATIENCE).unwrap();
        assert_eq!(event.first()[0], 1);
        back.send(event).unwrap();
        sub.unsubscribe(&topic).unwrap();
        back.send(front.recv_timeout(PATIENCE).unwrap()).unwrap();
    }
    assert!(back.stats().queued_bytes < FEW, "{}", back.stats());
    assert_eq!(back.topic_count(), 0);
}

/// Whatever was taken back on the way, the publisher ends with the subscriptions that are wanted.
#[test]
fn the_publisher_ends_with_what_is_wanted() {
    let context = Context::new();
    let xsub = XSub::in_context(&context);
    let mut raw = deaf_publisher(|endpoint| drop(xsub.connect(endpoint).unwrap()));
    xsub.wait_for_peers(1, PATIENCE).unwrap();
    for round in 0..30_000 {
        let topic = format!("{:05}", round * 7919 % 30_000);
        xsub.subscribe(&topic).unwrap();
        if round % 1_000 == 0 {
            xsub.send(["a message", "upstream"]).unwrap();
        }
        if round % 3 > 0 {
            xsub.unsubscribe(&topic).unwrap();
        }
    }
    let mut known = std::collections::HashSet::new();
    let mut octets = Vec::new();
    let mut buffer = [0; 65536];
    eventually(PATIENCE, "all subscriptions", || {
        let got = raw.read(&mut buffer).expect("reads");
        octets.extend_from_slice(&buffer[..got]);
        let mut used = 0;
        while let Some([flags, size]) = octets.get(used..used + 2) {
            let Some(body) = octets.get(used + 2..used + 2 + *size as usize) else { break };
            match (flags, body.strip_prefix(b"\x09SUBSCRIBE"), body.strip_prefix(b"\x06CANCEL")) {
                (4, Some(topic), _) => assert!(known.insert(topic.to_vec()), "once"),
                (4, _, Some(topic)) => assert!(known.remove(topic), "known"),
                _ => {}
            }
            used += 2 + body.len();
        }
        octets.drain(..used);
        known.len() == 10_000
    });
    assert_eq!(xsub.topic_count(), 10_000);
}

const BUDGET: u64 = 16 << 20;

/// Toggles topics between messages to a publisher that does not read, until the budget has no room for more of them,
/// and says how much its memory has grown by that and how much of the budget is taken.
pub(crate) fn toggler(arguments: &[&str]) {
    let context =
        Context::builder().byte_budget(Some(BUDGET)).drop_wait(Some(Duration::ZERO)).report_unsent(false).build();
    let xsub = XSub::builder().context(&context).send_mark(0u32).build().expect("good options");
    let _raw = deaf_publisher(|endpoint| drop(xsub.connect(endpoint).expect("a good endpoint")));
    xsub.wait_for_peers(1, PATIENCE).expect("it is there");
    let before = resident("self");
    for round in 0_u32.. {
        if xsub.stats().dropped.limit > 0 {
            break;
        }
        let topic = match arguments[0] {
            "one topic" | "at once" => "a topic".to_owned(),
            _ => format!("topic {round}"),
        };
        for _ in 0..100 {
            xsub.subscribe(&topic).expect("open");
            if arguments[0] != "at once" {
                xsub.send("message").expect("accepted");
            }
            xsub.unsubscribe(&topic).expect("open");
            xsub.send("message").expect("accepted");
        }
    }
    child::tell(resident("self").saturating_sub(before));
    child::tell(context.bytes_held(BudgetHalf::Sending));
}

#[test]
fn topics_that_are_toggled_between_messages_take_no_more_memory_than_the_budget_counts() {
    for way in ["one topic", "many topics", "at once"] {
        // Otherwise glibc raises the threshold, and keeps what a list has outgrown in one run and not in another.
        let environment = [("MALLOC_MMAP_THRESHOLD_", OsStr::new("65536"))];
        let mut toggler = Process::start_in("toggler", &[&way], &environment);
        let [growth, held] = [(); 2].map(|()| toggler.hear_within(PATIENCE * 2).parse::<u64>().expect("a number"));
        println!("{way}: {growth} octets more, {held} are counted");
        // A list that grows by doubling is there twice for a moment.
        assert!(growth < held + held / 2 + (2 << 20), "{way}: {growth} octets more, {held} are counted");
    }
}
