//! An XPUB whose application does not receive hears of subscriptions all the same, and what it has to show stays
//! bounded.

use crate::support::child::{self, Process};
use crate::support::raw::{self, Raw};
use crate::support::{Over, PATIENCE, eventually, is_full, measure, times};
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use wiremesh::{BudgetHalf, Context, Sub, XPub, XSub};

const MARK: u32 = 10;

/// The most that may be unread where nobody receives.
const FEW: u64 = 1000;

fn xpub(context: &Context) -> XPub {
    XPub::builder().context(context).receive_mark(MARK).build().unwrap()
}

/// An XPUB at its mark, with the topics 0 to 9 unseen, and the XSUB that has them.
fn at_its_mark(over: Over, xpub: &XPub, context: &Context) -> XSub {
    let xsub = XSub::in_context(context);
    xsub.connect(xpub.bind(over.wildcard()).unwrap()).unwrap();
    xsub.wait_for_peers(1, PATIENCE).unwrap();
    for topic in 0..MARK {
        xsub.subscribe(topic.to_string()).unwrap();
    }
    hears(xpub, &xsub, "heard");
    xsub.unsubscribe("heard").unwrap();
    xsub
}

/// Returns once the publisher has read all that the subscriber has said.
fn hears(xpub: &XPub, xsub: &XSub, last: &str) {
    xsub.subscribe(last).unwrap();
    xpub.wait_for_subscribers_to(last, 1, PATIENCE).unwrap();
}

/// What the application sees up to this.
fn seen(xpub: &XPub, last: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|message| message != last) {
        let message = xpub.recv_timeout(PATIENCE).unwrap();
        let text = |frame: &[u8]| String::from_utf8_lossy(frame).into_owned();
        seen.push(match message.first().split_first() {
            Some((1, topic)) => format!("+{}", text(topic)),
            Some((0, topic)) => format!("-{}", text(topic)),
            _ => text(message.first()),
        });
    }
    seen
}

#[test]
fn an_xpub_nobody_receives_from_applies_every_topic_of_a_subscriber_with_very_many() {
    let count = if is_full() { 1_000_000 } else { 200_000 };
    for over in Over::ALL {
        let context = Context::new();
        let (xpub, sub) = (XPub::in_context(&context), Sub::in_context(&context));
        sub.connect(xpub.bind(over.wildcard()).unwrap()).unwrap();
        for topic in 0..count {
            sub.subscribe(format!("topic {topic}.")).unwrap();
        }
        let last = format!("topic {}.", count - 1);
        xpub.wait_for_subscribers_to(&last, 1, PATIENCE).unwrap();
        assert_eq!(xpub.topic_count(), count, "{over:?}");
        xpub.send(last.as_str()).unwrap();
        assert_eq!(sub.recv_timeout(PATIENCE).unwrap(), last.as_str(), "{over:?}");
        // And all of it can still be read.
        for topic in 0..count {
            let body = [b"\x01", format!("topic {topic}.").as_bytes()].concat();
            assert_eq!(xpub.recv_timeout(PATIENCE).unwrap(), body, "{over:?}");
        }
    }
}

#[test]
fn beyond_the_mark_a_topic_is_shown_in_its_newest_state() {
    for over in Over::ALL {
        let context = Context::new();
        let xpub = xpub(&context);
        let xsub = at_its_mark(over, &xpub, &context);
        for (topic, subscribes) in
            [("a", true), ("b", true), ("a", false), ("0", false), ("1", false), ("0", true), ("b", false), ("b", true)]
        {
            if subscribes { xsub.subscribe(topic).unwrap() } else { assert!(xsub.unsubscribe(topic).is_ok()) }
        }
        hears(&xpub, &xsub, "end");
        let all: Vec<String> = (0..MARK).map(|topic| format!("+{topic}")).collect();
        assert_eq!(seen(&xpub, "+end"), [&all[..], &["-1", "+b", "+end"].map(str::to_owned)].concat(), "{over:?}");
        // Now that all is seen, each change is shown again.
        for _ in 0..2 {
            hears(&xpub, &xsub, "c");
            let before = xpub.topic_count();
            xsub.unsubscribe("c").unwrap();
            eventually(PATIENCE, "it is taken back", || xpub.topic_count() < before);
        }
        hears(&xpub, &xsub, "end again");
        assert_eq!(seen(&xpub, "+end again"), ["+c", "-c", "+c", "-c", "+end again"], "{over:?}");
    }
}

#[test]
fn who_counts_the_subscriptions_of_a_topic_that_went_and_came_again_unseen_counts_it_once() {
    for over in Over::ALL {
        let context = Context::new();
        let xpub = XPub::builder().context(&context).receive_mark(2).build().unwrap();
        let (sub, upstream) = (Sub::in_context(&context), XSub::in_context(&context));
        sub.connect(xpub.bind(over.wildcard()).unwrap()).unwrap();
        // As a proxy that is made by hand.
        let is_forwarded = || xpub.try_recv().is_ok_and(|change| upstream.send(change).is_ok());
        sub.subscribe("seen").unwrap();
        eventually(PATIENCE, "it is seen", is_forwarded);
        for topic in ["1", "2", "3"] {
            sub.subscribe(topic).unwrap();
        }
        xpub.wait_for_subscribers_to("3", 1, PATIENCE).unwrap();
        sub.unsubscribe("seen").unwrap();
        sub.subscribe("seen").unwrap();
        sub.subscribe("end").unwrap();
        xpub.wait_for_subscribers_to("end", 1, PATIENCE).unwrap();
        while is_forwarded() {}
        assert_eq!(upstream.topic_count(), 5, "{over:?}");
        drop(sub);
        eventually(PATIENCE, "nobody wants anything", || xpub.topic_count() == 0);
        eventually(PATIENCE, "it is told upstream", || {
            while is_forwarded() {}
            upstream.topic_count() == 0
        });
    }
}

#[test]
fn what_another_peer_still_wants_is_not_shown_as_cancelled() {
    for over in Over::ALL {
        let context = Context::new();
        let xpub = xpub(&context);
        let left = at_its_mark(over, &xpub, &context);
        let right = XSub::in_context(&context);
        right.connect(xpub.endpoints()[0].endpoint.as_str()).unwrap();
        for topic in ["both", "5"] {
            hears(&xpub, &left, topic);
            right.subscribe(topic).unwrap();
            xpub.wait_for_subscribers_to(topic.as_bytes(), 2, PATIENCE).unwrap();
        }
        left.close();
        eventually(PATIENCE, "only one is left", || xpub.topic_count() == 2);
        hears(&xpub, &right, "end");
        let seen = seen(&xpub, "+end");
        assert!(seen.contains(&"+both".to_owned()) && !seen.contains(&"-both".to_owned()), "{over:?}: {seen:?}");
        assert!(seen.contains(&"-4".to_owned()) && !seen.contains(&"-5".to_owned()), "{over:?}: {seen:?}");
    }
}

#[test]
fn a_message_from_upstream_stays_behind_the_changes_before_it() {
    for over in Over::ALL {
        let context = Context::new();
        let xpub = xpub(&context);
        let xsub = at_its_mark(over, &xpub, &context);
        for number in 0..5 {
            xsub.subscribe(format!("before {number}")).unwrap();
            xsub.send(format!("message {number}")).unwrap();
        }
        hears(&xpub, &xsub, "end");
        let seen = seen(&xpub, "+end");
        let expected = (0..5).flat_map(|number| [format!("+before {number}"), format!("message {number}")]);
        assert_eq!(seen[MARK as usize..seen.len() - 1], expected.collect::<Vec<_>>(), "{over:?}");
    }
}

#[test]
fn messages_from_upstream_still_stop_the_link_and_all_of_them_come_in_the_end() {
    const COUNT: u32 = 2000;
    let context = Context::new();
    let xpub = xpub(&context);
    let mut peer = Raw::connect(xpub.bind("tcp://127.0.0.1:*").unwrap().as_str()).unwrap();
    peer.shake_hands("XSUB").unwrap();
    let subscribe = |n: u32| raw::command(&[b"\x09SUBSCRIBE", &n.to_le_bytes()[..]].concat());
    let message = |n: u32| raw::frame(false, &[&b"message"[..], &n.to_le_bytes(), &[5; 20_000]].concat());
    let all: Vec<u8> = (0..100).flat_map(subscribe).chain((0..COUNT).flat_map(message)).collect();
    let blocked = Arc::new(AtomicBool::new(false));
    let writer = thread::spawn({
        let blocked = Arc::clone(&blocked);
        move || {
            peer.set_write_timeout(Duration::from_millis(200));
            let mut rest = &all[..];
            while !rest.is_empty() {
                match peer.write(rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => blocked.store(true, Ordering::SeqCst),
                    Err(error) => panic!("{error}"),
                }
            }
            peer
        }
    });
    eventually(PATIENCE, "the peer cannot write", || blocked.load(Ordering::SeqCst));
    assert!(xpub.stats().unread < 100 + u64::from(COUNT) / 2, "{}", xpub.stats());
    for _ in 0..100 {
        assert_eq!(xpub.recv_timeout(PATIENCE).unwrap().first()[0], 1);
    }
    for number in 0..COUNT {
        assert!(xpub.recv_timeout(PATIENCE).unwrap().first()[7..].starts_with(&number.to_le_bytes()));
    }
    writer.join().unwrap();
}

#[test]
fn topics_that_come_and_go_unseen_leave_nothing() {
    for over in Over::ALL {
        let context = Context::new();
        let xpub = xpub(&context);
        let xsub = at_its_mark(over, &xpub, &context);
        for topic in 0..times(1_000_000) {
            xsub.subscribe(format!("came and went {topic}")).unwrap();
            xsub.unsubscribe(format!("came and went {topic}")).unwrap();
        }
        hears(&xpub, &xsub, "end");
        assert_eq!(xpub.stats().unread, u64::from(MARK) + 1, "{over:?}");
    }
}

#[test]
fn cancellations_of_what_nobody_had_are_bounded_by_the_mark() {
    let xpub = xpub(&Context::new());
    let mut peer = Raw::connect(xpub.bind("tcp://127.0.0.1:*").unwrap().as_str()).unwrap();
    peer.shake_hands("SUB").unwrap();
    for number in 0..times(1_000_000) as u32 {
        peer.write_all(&raw::command(&[&b"\x06CANCEL"[..], &number.to_le_bytes()].concat())).unwrap();
    }
    peer.write_all(&raw::command(b"\x09SUBSCRIBEend")).unwrap();
    xpub.wait_for_subscribers_to("end", 1, PATIENCE).unwrap();
    assert_eq!(xpub.stats().unread, u64::from(MARK) + 1);
}

#[test]
fn subscribers_that_come_and_go_while_nobody_receives_leave_nothing() {
    for over in Over::ALL {
        let context = Context::new();
        let xpub = xpub(&context);
        let endpoint = xpub.bind(over.wildcard()).unwrap();
        for number in 0..times(1000) {
            let sub = Sub::in_context(&context);
            sub.subscribe(format!("topic {number}")).unwrap();
            sub.connect(&endpoint).unwrap();
            xpub.wait_for_subscribers_to(format!("topic {number}"), 1, PATIENCE).unwrap();
            sub.close();
            eventually(PATIENCE, "it is gone", || xpub.topic_count() == 0);
        }
        assert!(xpub.stats().unread <= u64::from(MARK), "{over:?}: {}", xpub.stats());
    }
}

#[test]
fn under_verboser_a_peers_topics_are_shown_as_that_peer_left_them() {
    for over in Over::ALL {
        let context = Context::new();
        let xpub = XPub::builder().context(&context).receive_mark(MARK).verboser(true).build().unwrap();
        let left = at_its_mark(over, &xpub, &context);
        let right = XSub::in_context(&context);
        right.connect(xpub.endpoints()[0].endpoint.as_str()).unwrap();
        for topic in ["both", "one", "5"] {
            hears(&xpub, &left, topic);
            right.subscribe(topic).unwrap();
            xpub.wait_for_subscribers_to(topic.as_bytes(), 2, PATIENCE).unwrap();
        }
        right.unsubscribe("one").unwrap();
        right.unsubscribe("5").unwrap();
        hears(&xpub, &right, "right");
        for _ in 0..2 {
            left.unsubscribe("5").unwrap();
        }
        hears(&xpub, &left, "end");
        let mut seen = seen(&xpub, "+end").split_off(MARK as usize);
        // The left peer's second subscription of "5" may come after the right peer's words, and its entry with it.
        seen.sort_unstable();
        assert_eq!(seen, ["+both", "+both", "+end", "+one", "+right", "-5"], "{over:?}");
    }
}

#[test]
fn under_manual_the_requests_of_a_peer_that_nobody_sees_are_bounded_and_counted() {
    for over in Over::ALL {
        let context = Context::new();
        let builder = XPub::builder().context(&context).manual(true);
        let xpub = builder.receive_mark(MARK).max_subscriptions(100).build().unwrap();
        let xsub = XSub::in_context(&context);
        xsub.connect(xpub.bind(over.wildcard()).unwrap()).unwrap();
        xsub.wait_for_peers(1, PATIENCE).unwrap();
        for topic in 0..times(1_000_000) {
            xsub.subscribe(format!("topic {topic}")).unwrap();
        }
        xsub.send("end").unwrap();
        eventually(PATIENCE, "all is read", || {
            let stats = xpub.stats();
            stats.refused_subscriptions == times(1_000_000) as u64 - 100 - u64::from(MARK) && stats.unread < FEW
        });
        assert_eq!(seen(&xpub, "end").len(), 100 + MARK as usize + 1, "{over:?}");
        assert!(xpub.stats().is_balanced());
    }
}

#[test]
fn under_manual_the_requests_of_peers_that_are_gone_are_bounded_by_the_mark() {
    for over in Over::ALL {
        let context = Context::new();
        let xpub = XPub::builder().context(&context).manual(true).receive_mark(MARK).build().unwrap();
        let endpoint = xpub.bind(over.wildcard()).unwrap();
        for number in 0..times(1000) {
            let sub = Sub::in_context(&context);
            sub.connect(&endpoint).unwrap();
            xpub.wait_for_peers(1, PATIENCE).unwrap();
            let before = xpub.stats().unread;
            sub.subscribe(format!("topic {number}")).unwrap();
            eventually(PATIENCE, "it is read", || xpub.stats().unread > before);
            sub.close();
            eventually(PATIENCE, "it is gone", || xpub.stats().connections == 0);
        }
        eventually(PATIENCE, "nobody asks any more", || xpub.stats().unread == u64::from(MARK));
    }
}

#[test]
fn messages_of_peers_in_the_process_leave_nothing_behind_once_they_are_received() {
    let mut process = Process::start("upstream", &[]);
    let growth: u64 = process.hear().parse().expect("a number");
    // What was left behind was 78 octets of each.
    assert!(growth < 4 << 20, "{} KiB more", growth >> 10);
    process.finish();
}

/// Says by how much the process has grown while many messages went upstream.
pub(crate) fn upstream(_: &[&str]) {
    let context = Context::new();
    let xpub = XPub::builder().context(&context).receive_mark(1u32).build().unwrap();
    let xsub = XSub::in_context(&context);
    xsub.connect(xpub.bind(Over::Inproc.wildcard()).unwrap()).unwrap();
    let exchange = |times: usize| {
        for _ in 0..times {
            xsub.send("\u{2}up").unwrap();
            xpub.recv_timeout(PATIENCE).unwrap();
        }
    };
    exchange(1000);
    let before = measure::resident("self");
    exchange(300_000);
    child::tell(measure::resident("self").saturating_sub(before));
}

#[test]
fn a_message_that_was_for_a_new_subscriber_alone_goes_to_all_if_that_one_has_left() {
    for over in Over::STREAMS {
        let (context, outside) = (Context::new(), Context::new());
        let xpub = XPub::builder().context(&context).manual(true).manual_last_value(true).build().unwrap();
        let endpoint = xpub.bind(over.wildcard()).unwrap();
        let join = || {
            let sub = Sub::in_context(&outside);
            sub.subscribe("t").unwrap();
            sub.connect(&endpoint).unwrap();
            assert_eq!(xpub.recv_timeout(PATIENCE).unwrap(), "\u{1}t");
            xpub.subscribe_last("t").unwrap();
            sub
        };
        let stays = join();
        xpub.send("t for the first alone").unwrap();
        assert_eq!(stays.recv_timeout(PATIENCE).unwrap(), "t for the first alone");
        drop(join());
        eventually(PATIENCE, "the second has left", || xpub.peers().len() == 1);
        xpub.send("t for all").unwrap();
        assert_eq!(stays.recv_timeout(PATIENCE).unwrap(), "t for all", "{over:?}");
    }
}

#[test]
fn what_waits_to_be_shown_counts_in_the_budget_with_all_it_takes() {
    const CHANGES: usize = 20_000;
    let context = Context::new();
    let xpub = XPub::builder().context(&context).receive_mark(0u32).receive_byte_mark(0u64).build().unwrap();
    let mut peer = Raw::connect(xpub.bind("tcp://127.0.0.1:*").unwrap().as_str()).unwrap();
    peer.shake_hands("SUB").unwrap();
    let toggle = [raw::command(b"\x09SUBSCRIBE"), raw::command(b"\x06CANCEL")].concat();
    peer.write_all(&toggle.repeat(CHANGES / 2)).unwrap();
    eventually(PATIENCE, "all is read", || xpub.stats().unread == CHANGES as u64);
    // No change takes less, whatever its topic: its entry alone has as much.
    assert!(
        context.bytes_held(BudgetHalf::Receiving) > 100 * CHANGES as u64,
        "{} octets",
        context.bytes_held(BudgetHalf::Receiving)
    );
    while xpub.try_recv().is_ok() {}
    assert_eq!(context.bytes_held(BudgetHalf::Receiving), 0);
}

#[test]
fn what_waits_to_be_shown_is_bounded_by_the_budget_where_no_mark_is() {
    const BUDGET: u64 = 4 << 20;
    let context = Context::builder().byte_budget(Some(BUDGET)).build();
    let xpub = XPub::builder().context(&context).receive_mark(0u32).receive_byte_mark(0u64).build().unwrap();
    let mut peer = Raw::connect(xpub.bind("tcp://127.0.0.1:*").unwrap().as_str()).unwrap();
    peer.shake_hands("SUB").unwrap();
    let toggle = [raw::command(b"\x09SUBSCRIBE"), raw::command(b"\x06CANCEL")].concat();
    for _ in 0..50 {
        peer.write_all(&toggle.repeat(1000)).unwrap();
    }
    peer.write_all(&[raw::command(b"\x09SUBSCRIBElast"), raw::command(b"\x09SUBSCRIBEend")].concat()).unwrap();
    eventually(PATIENCE, "all is read", || xpub.topic_count() == 2);
    let unread = xpub.stats().unread;
    assert!(unread * 100 < BUDGET / 2, "{unread} changes");
    assert_eq!(seen(&xpub, "+end").last().unwrap(), "+end");
}
