//! XPUB and XSUB (RFC 29): what the application sees of subscriptions, and what it may decide about them.

#[macro_use]
mod common;
#[path = "common/full.rs"]
mod full;
#[path = "common/raw.rs"]
mod raw;

use std::net::TcpListener;
use std::time::Duration;

use common::{LONG, Net, until};
use full::fill;
use raw::Raw;
use wiremesh::{
    AnySocket, BudgetHalf, Context, Error, Message, Profile, Pub, RecvError, SendFailure, Setting, SocketKind, Sub,
    XPub, XSub,
};

over!([tcp ipc inproc]:
    the_first_subscription_and_the_last_cancellation_of_a_topic_are_shown
    verbose_shows_every_subscription
    verboser_shows_every_cancellation_too
    upstream_messages_that_were_read_leave_the_byte_budget
    what_a_lost_subscriber_wanted_is_shown_as_cancelled
    under_verboser_every_topic_of_a_lost_subscriber_is_shown
    a_shown_subscription_says_whose_it_is
    a_cancellation_of_an_unknown_topic_is_harmless
    other_upstream_messages_reach_the_application
    a_pub_ignores_other_upstream_messages
    an_xsub_subscribes_by_messages_and_by_calls
    an_xsub_does_not_filter
    an_xsub_sends_upstream_to_every_publisher
    an_xsub_without_a_publisher_drops_what_it_sends_upstream
    an_xsub_forwards_the_last_cancellation_only
    under_verbose_unsubscribe_every_cancellation_goes_up
    an_untyped_xsub_has_the_same_verbs
    the_publisher_keeps_one_subscription_per_peer_and_topic
    a_message_stays_whole_whatever_its_later_frames_begin_with
    a_message_that_begins_with_a_subscription_may_have_more
    libzmq_examines_every_frame_of_an_upstream_message
    under_only_first_subscribe_the_first_frame_decides
    under_manual_the_application_decides_what_is_subscribed
    under_manual_a_request_of_a_lost_peer_cannot_be_granted
    manual_calls_without_the_option_are_an_error
    under_manual_last_value_one_message_goes_to_the_newest_subscriber
    a_new_subscriber_is_welcomed_before_anything_else
    an_xpub_under_nodrop_waits_for_a_full_subscriber
    inverted_matching_works_for_xpub
    a_forwarder_of_subscriptions_and_messages_can_be_built
    topics_are_counted_once
);

fn xpub(net: &Net) -> XPub {
    XPub::in_context(&net.context)
}

fn sub(net: &Net) -> Sub {
    Sub::in_context(&net.context)
}

fn shown(xpub: &XPub, wanted: &[u8]) -> Message {
    let message = xpub.recv_timeout(LONG).unwrap();
    assert_eq!(message, wanted);
    message
}

fn the_first_subscription_and_the_last_cancellation_of_a_topic_are_shown(net: &Net) {
    let xpub = xpub(net);
    let (left, right) = (sub(net), sub(net));
    net.join(&xpub, &[&left, &right]);
    left.subscribe("a").unwrap();
    shown(&xpub, b"\x01a");
    right.subscribe("a").unwrap();
    right.subscribe("b").unwrap();
    shown(&xpub, b"\x01b");
    left.unsubscribe("a").unwrap();
    left.subscribe("").unwrap();
    shown(&xpub, b"\x01");
    right.unsubscribe("a").unwrap();
    shown(&xpub, b"\x00a");
    assert_eq!(xpub.topic_count(), 2);
}

fn verbose_shows_every_subscription(net: &Net) {
    let xpub = XPub::builder().context(&net.context).verbose(true).build().unwrap();
    let (left, right) = (sub(net), sub(net));
    net.join(&xpub, &[&left, &right]);
    for subscriber in [&left, &right, &left] {
        subscriber.subscribe("a").unwrap();
        shown(&xpub, b"\x01a");
    }
    right.unsubscribe("a").unwrap();
    right.subscribe("b").unwrap();
    shown(&xpub, b"\x01b");
}

fn verboser_shows_every_cancellation_too(net: &Net) {
    let xpub = XPub::builder().context(&net.context).verboser(true).build().unwrap();
    let (left, right) = (sub(net), sub(net));
    net.join(&xpub, &[&left, &right]);
    for subscriber in [&left, &right] {
        subscriber.subscribe("a").unwrap();
        shown(&xpub, b"\x01a");
    }
    for subscriber in [&left, &right] {
        subscriber.unsubscribe("a").unwrap();
        shown(&xpub, b"\x00a");
    }
    // Without the option the next cancellation is shown only if it is the last.
    xpub.set(Setting::Verboser(false)).unwrap();
    for subscriber in [&left, &right] {
        subscriber.subscribe("b").unwrap();
    }
    xpub.wait_for_subscribers(2, LONG).unwrap();
    left.unsubscribe("b").unwrap();
    left.subscribe("end").unwrap();
    shown(&xpub, b"\x01b");
    shown(&xpub, b"\x01end");
}

fn what_a_lost_subscriber_wanted_is_shown_as_cancelled(net: &Net) {
    let xpub = xpub(net);
    let (left, right) = (sub(net), sub(net));
    net.join(&xpub, &[&left, &right]);
    left.subscribe("only left").unwrap();
    left.subscribe("both").unwrap();
    shown(&xpub, b"\x01only left");
    shown(&xpub, b"\x01both");
    right.subscribe("both").unwrap();
    xpub.wait_for_subscribers(2, LONG).unwrap();
    drop(left);
    shown(&xpub, b"\x00only left");
    drop(right);
    shown(&xpub, b"\x00both");
    assert_eq!(xpub.topic_count(), 0);
}

fn under_verboser_every_topic_of_a_lost_subscriber_is_shown(net: &Net) {
    let xpub = XPub::builder().context(&net.context).verboser(true).build().unwrap();
    let (left, right) = (sub(net), sub(net));
    net.join(&xpub, &[&left, &right]);
    for subscriber in [&left, &right] {
        subscriber.subscribe("both").unwrap();
        shown(&xpub, b"\x01both");
    }
    drop(left);
    shown(&xpub, b"\x00both");
    assert_eq!(xpub.topic_count(), 1);
}

fn a_shown_subscription_says_whose_it_is(net: &Net) {
    let xpub = xpub(net);
    let (left, right) = (sub(net), sub(net));
    net.join(&xpub, &[&left, &right]);
    left.subscribe("left").unwrap();
    let first = shown(&xpub, b"\x01left").peer().unwrap();
    right.subscribe("right").unwrap();
    let second = shown(&xpub, b"\x01right").peer().unwrap();
    assert_ne!(first, second);
    left.unsubscribe("left").unwrap();
    assert_eq!(shown(&xpub, b"\x00left").peer(), Some(first));
    assert!(xpub.peer(first).unwrap().connected);
}

fn a_cancellation_of_an_unknown_topic_is_harmless(net: &Net) {
    let (xpub, xsub) = (xpub(net), XSub::in_context(&net.context));
    net.join(&xpub, &[&xsub]);
    assert!(!xsub.unsubscribe("unknown").unwrap());
    xsub.send(b"\x00unknown too").unwrap();
    xsub.subscribe("known").unwrap();
    let message = xpub.recv_timeout(LONG).unwrap();
    assert_eq!(message, b"\x01known");
    xpub.send("known").unwrap();
    assert_eq!(xsub.recv_timeout(LONG).unwrap(), "known");
}

fn other_upstream_messages_reach_the_application(net: &Net) {
    let (xpub, xsub) = (xpub(net), XSub::in_context(&net.context));
    net.join(&xpub, &[&xsub]);
    for message in [Message::from("\x02not a subscription"), Message::new(), Message::from_iter(["x", "y", ""])] {
        xsub.send(message.clone()).unwrap();
        let got = xpub.recv_timeout(LONG).unwrap();
        assert_eq!(got, message);
        assert!(got.peer().is_some());
    }
    let large = vec![9; 100_000];
    xsub.send(large.as_slice()).unwrap();
    assert_eq!(xpub.recv_timeout(LONG).unwrap(), large.as_slice());
    assert_eq!(xpub.topic_count(), 0);
}

fn a_pub_ignores_other_upstream_messages(net: &Net) {
    let (publisher, xsub) = (Pub::in_context(&net.context), XSub::in_context(&net.context));
    net.join(&publisher, &[&xsub]);
    xsub.send("ignored").unwrap();
    xsub.send(Message::from_iter(["ignored", "too"])).unwrap();
    xsub.subscribe("a").unwrap();
    publisher.wait_for_subscribers(1, LONG).unwrap();
    publisher.send("a").unwrap();
    assert_eq!(xsub.recv_timeout(LONG).unwrap(), "a");
}

fn an_xsub_subscribes_by_messages_and_by_calls(net: &Net) {
    let (xpub, xsub) = (xpub(net), XSub::in_context(&net.context));
    net.join(&xpub, &[&xsub]);
    xsub.send(b"\x01message").unwrap();
    shown(&xpub, b"\x01message");
    xsub.subscribe("call").unwrap();
    shown(&xpub, b"\x01call");
    assert_eq!(xsub.topic_count(), 2);
    // Either takes back what the other did.
    assert!(xsub.unsubscribe("message").unwrap());
    shown(&xpub, b"\x00message");
    xsub.send(b"\x00call").unwrap();
    shown(&xpub, b"\x00call");
    assert_eq!(xsub.topic_count(), 0);
}

fn an_xsub_does_not_filter(net: &Net) {
    let (publisher, xsub) = (Pub::in_context(&net.context), XSub::in_context(&net.context));
    net.join(&publisher, &[&xsub]);
    xsub.subscribe("a").unwrap();
    publisher.wait_for_subscribers(1, LONG).unwrap();
    publisher.send("a").unwrap();
    until("it has arrived", || !net.is_stream() || xsub.stats().unread == 1);
    xsub.unsubscribe("a").unwrap();
    assert_eq!(xsub.recv_timeout(LONG).unwrap(), "a");
}

fn an_xsub_sends_upstream_to_every_publisher(net: &Net) {
    let xsub = XSub::in_context(&net.context);
    let publishers = [xpub(net), xpub(net)];
    net.join(&xsub, &[&publishers[0], &publishers[1]]);
    xsub.send("to all").unwrap();
    xsub.subscribe("a").unwrap();
    for publisher in &publishers {
        shown(publisher, b"to all");
        shown(publisher, b"\x01a");
    }
}

fn an_xsub_without_a_publisher_drops_what_it_sends_upstream(net: &Net) {
    let xsub = XSub::in_context(&net.context);
    xsub.bind(net.fresh()).unwrap();
    xsub.send("to nobody").unwrap();
    let stats = xsub.stats();
    assert_eq!((stats.accepted, stats.dropped.unroutable), (1, 1));
}

fn an_xsub_forwards_the_last_cancellation_only(net: &Net) {
    let xpub = XPub::builder().context(&net.context).verboser(true).build().unwrap();
    let xsub = XSub::in_context(&net.context);
    net.join(&xpub, &[&xsub]);
    for _ in 0..2 {
        xsub.send(b"\x01a").unwrap();
        shown(&xpub, b"\x01a");
    }
    for _ in 0..2 {
        xsub.send(b"\x00a").unwrap();
    }
    shown(&xpub, b"\x00a");
    xsub.send(b"\x01b").unwrap();
    shown(&xpub, b"\x01b");
}

fn under_verbose_unsubscribe_every_cancellation_goes_up(net: &Net) {
    let xpub = XPub::builder().context(&net.context).verboser(true).build().unwrap();
    let xsub = XSub::builder().context(&net.context).verbose_unsubscribe(true).build().unwrap();
    net.join(&xpub, &[&xsub]);
    for message in [b"\x01a", b"\x01a", b"\x00a", b"\x00a"] {
        xsub.send(message).unwrap();
        shown(&xpub, message);
    }
}

fn an_untyped_xsub_has_the_same_verbs(net: &Net) {
    let xpub = XPub::builder().context(&net.context).verboser(true).build().unwrap();
    let xsub = AnySocket::builder(SocketKind::XSub).context(&net.context).verbose_unsubscribe(true).build().unwrap();
    net.join(&xpub, &[&xsub]);
    for _ in 0..2 {
        xsub.subscribe("a").unwrap();
        shown(&xpub, b"\x01a");
    }
    for _ in 0..2 {
        assert!(xsub.unsubscribe("a").unwrap());
        shown(&xpub, b"\x00a");
    }
    assert_eq!(xsub.send_many(["\x01b", "\x01c", "other"]).unwrap(), 3);
    let typed = XSub::in_context(&net.context);
    net.join(&xpub, &[&typed]);
    assert_eq!(typed.send_many(["\x01d", "\x01e"]).unwrap(), 2);
    let shown: Vec<Message> = (0..5).map(|_| xpub.recv_timeout(LONG).unwrap()).collect();
    for wanted in ["\x01b", "\x01c", "other", "\x01d", "\x01e"] {
        assert!(shown.contains(&Message::from(wanted)), "{shown:?}");
    }
}

fn the_publisher_keeps_one_subscription_per_peer_and_topic(net: &Net) {
    let xpub = XPub::builder().context(&net.context).verboser(true).build().unwrap();
    let xsub = XSub::builder().context(&net.context).verbose_unsubscribe(true).build().unwrap();
    net.join(&xpub, &[&xsub]);
    xsub.subscribe("a").unwrap();
    xsub.subscribe("a").unwrap();
    xsub.unsubscribe("a").unwrap();
    for wanted in [b"\x01a", b"\x01a", b"\x00a"] {
        shown(&xpub, wanted);
    }
    assert_eq!(xpub.topic_count(), 0);
}

fn a_message_stays_whole_whatever_its_later_frames_begin_with(net: &Net) {
    let (xpub, xsub) = (xpub(net), XSub::in_context(&net.context));
    net.join(&xpub, &[&xsub]);
    let large = vec![1; 100_000];
    for message in [
        Message::from_iter([&b"data"[..], b"\x01a", b"more", b"\x00b"]),
        Message::from_iter([&b""[..], b"\x01"]),
        Message::from_iter([&b"\x02"[..], b"\x00", &large]),
    ] {
        xsub.send(message.clone()).unwrap();
        assert_eq!(xpub.recv_timeout(LONG).unwrap(), message);
    }
    assert_eq!(xpub.topic_count(), 0);
}

fn a_message_that_begins_with_a_subscription_may_have_more(net: &Net) {
    let (xpub, xsub) = (xpub(net), XSub::in_context(&net.context));
    net.join(&xpub, &[&xsub]);
    xsub.send(Message::from_iter([&b"\x01a"[..], b"\x01b"])).unwrap();
    shown(&xpub, b"\x01a");
    shown(&xpub, b"\x01b");
    assert_eq!(xpub.topic_count(), 2);
}

fn libzmq_examines_every_frame_of_an_upstream_message(net: &Net) {
    let xpub = XPub::builder().context(&net.context).profile(Profile::Libzmq).build().unwrap();
    let xsub = XSub::in_context(&net.context);
    net.join(&xpub, &[&xsub]);
    xsub.send(Message::from_iter([&b"data"[..], b"\x01a", b"more", b"\x01b"])).unwrap();
    let got: Vec<Message> = (0..3).map(|_| xpub.recv_timeout(LONG).unwrap()).collect();
    assert!(got.contains(&Message::from(b"\x01a")) && got.contains(&Message::from(b"\x01b")), "{got:?}");
    assert!(got.contains(&Message::from_iter(["data", "more"])), "{got:?}");
}

fn under_only_first_subscribe_the_first_frame_decides(net: &Net) {
    let builder = XPub::builder().context(&net.context).profile(Profile::Libzmq);
    let xpub = builder.only_first_subscribe(true).build().unwrap();
    let xsub = XSub::in_context(&net.context);
    net.join(&xpub, &[&xsub]);
    let message = Message::from_iter([&b"data"[..], b"\x01a", b"\x00b"]);
    xsub.send(message.clone()).unwrap();
    assert_eq!(xpub.recv_timeout(LONG).unwrap(), message);
    assert_eq!(xpub.topic_count(), 0);
    xsub.send(b"\x01a").unwrap();
    shown(&xpub, b"\x01a");
}

fn under_manual_the_application_decides_what_is_subscribed(net: &Net) {
    let xpub = XPub::builder().context(&net.context).manual(true).build().unwrap();
    let sub = sub(net);
    net.join(&xpub, &[&sub]);
    sub.subscribe("asked").unwrap();
    sub.subscribe("").unwrap();
    shown(&xpub, b"\x01asked");
    assert_eq!(xpub.topic_count(), 0);
    assert!(xpub.subscribe_last("granted").unwrap());
    assert_eq!(xpub.topic_count(), 1);
    shown(&xpub, b"\x01");
    xpub.send_many(["asked", "granted 1"]).unwrap();
    assert_eq!(sub.recv_timeout(LONG).unwrap(), "granted 1");
    // Cancellations are shown, whatever was granted, and not applied either.
    sub.unsubscribe("asked").unwrap();
    shown(&xpub, b"\x00asked");
    xpub.send("granted 2").unwrap();
    assert_eq!(sub.recv_timeout(LONG).unwrap(), "granted 2");
    assert!(xpub.unsubscribe_last("granted").unwrap());
    assert_eq!(xpub.topic_count(), 0);
    xpub.send("granted 3").unwrap();
    assert_eq!(xpub.stats().dropped.unroutable, 2);
    // What was granted by hand is shown as cancelled when the peer goes.
    assert!(xpub.subscribe_last("granted").unwrap());
    drop(sub);
    shown(&xpub, b"\x00granted");
}

fn under_manual_a_request_of_a_lost_peer_cannot_be_granted(net: &Net) {
    let xpub = XPub::builder().context(&net.context).manual(true).build().unwrap();
    let sub = sub(net);
    net.join(&xpub, &[&sub]);
    assert!(!xpub.subscribe_last("nobody asked").unwrap());
    sub.subscribe("asked").unwrap();
    shown(&xpub, b"\x01asked");
    drop(sub);
    until("it is gone", || xpub.stats().connections == 0);
    assert!(!xpub.subscribe_last("asked").unwrap());
    assert_eq!(xpub.topic_count(), 0);
}

fn manual_calls_without_the_option_are_an_error(net: &Net) {
    let xpub = xpub(net);
    for outcome in [xpub.subscribe_last("a"), xpub.unsubscribe_last("a")] {
        assert!(matches!(outcome, Err(Error::Option { option: "manual", .. })), "{outcome:?}");
    }
}

fn under_manual_last_value_one_message_goes_to_the_newest_subscriber(net: &Net) {
    let xpub = XPub::builder().context(&net.context).manual_last_value(true).build().unwrap();
    let (early, late) = (sub(net), sub(net));
    net.join(&xpub, &[&early, &late]);
    early.subscribe("a").unwrap();
    shown(&xpub, b"\x01a");
    assert!(xpub.subscribe_last("a").unwrap());
    xpub.send("a: first value").unwrap();
    assert_eq!(early.recv_timeout(LONG).unwrap(), "a: first value");
    late.subscribe("a").unwrap();
    shown(&xpub, b"\x01a");
    assert!(xpub.subscribe_last("a").unwrap());
    xpub.send("a: last value").unwrap();
    assert_eq!(late.recv_timeout(LONG).unwrap(), "a: last value");
    xpub.send("a: for all").unwrap();
    assert_eq!(late.recv_timeout(LONG).unwrap(), "a: for all");
    assert_eq!(early.recv_timeout(LONG).unwrap(), "a: for all");
}

fn a_new_subscriber_is_welcomed_before_anything_else(net: &Net) {
    let xpub = XPub::builder().context(&net.context).welcome_message("welcome").build().unwrap();
    let endpoint = net.fresh();
    xpub.bind(&endpoint).unwrap();
    let (deaf, xsub) = (sub(net), XSub::in_context(&net.context));
    let heard = sub(net);
    heard.subscribe("").unwrap();
    deaf.subscribe("other").unwrap();
    for socket in [&*heard, &*deaf, &*xsub] {
        socket.connect(&endpoint).unwrap();
    }
    xpub.wait_for_subscribers(2, LONG).unwrap();
    xpub.send("other").unwrap();
    assert_eq!(heard.recv_timeout(LONG).unwrap(), "welcome");
    assert_eq!(heard.recv_timeout(LONG).unwrap(), "other");
    // A SUB hears it only if it asked for it; an XSUB does not filter.
    assert_eq!(deaf.recv_timeout(LONG).unwrap(), "other");
    assert_eq!(xsub.recv_timeout(LONG).unwrap(), "welcome");
    xpub.set(Setting::WelcomeMessage("".into())).unwrap();
    let late = XSub::in_context(&net.context);
    late.subscribe("end").unwrap();
    late.connect(&endpoint).unwrap();
    until("the late one is known", || xpub.topic_count() == 3);
    xpub.send("end").unwrap();
    assert_eq!(late.recv_timeout(LONG).unwrap(), "end");
}

fn an_xpub_under_nodrop_waits_for_a_full_subscriber(net: &Net) {
    let xpub =
        XPub::builder().context(&net.context).nodrop(true).send_mark(2u32).send_buffer(4096usize).build().unwrap();
    let sub = Sub::builder().context(&net.context).receive_mark(2u32).receive_buffer(4096usize).build().unwrap();
    sub.subscribe("").unwrap();
    net.join(&xpub, &[&sub]);
    xpub.wait_for_subscribers(1, LONG).unwrap();
    let (sent, error) = fill(|| xpub.send_timeout(vec![0; 20_000], Duration::from_millis(50)));
    assert_eq!(xpub.try_send(error.message).unwrap_err().reason, SendFailure::WouldBlock);
    for _ in 0..sent {
        sub.recv_timeout(LONG).unwrap();
    }
    xpub.send_timeout("end", LONG).unwrap();
    assert_eq!(sub.recv_timeout(LONG).unwrap(), "end");
    assert_eq!(xpub.stats().dropped.total(), 0);
}

fn inverted_matching_works_for_xpub(net: &Net) {
    let xpub = XPub::builder().context(&net.context).invert_matching(true).build().unwrap();
    let sub = Sub::builder().context(&net.context).invert_matching(true).build().unwrap();
    sub.subscribe("a").unwrap();
    net.join(&xpub, &[&sub]);
    shown(&xpub, b"\x01a");
    xpub.send_many(["a", "ab", "b"]).unwrap();
    assert_eq!(sub.recv_timeout(LONG).unwrap(), "b");
}

fn a_forwarder_of_subscriptions_and_messages_can_be_built(net: &Net) {
    let (publisher, front, back, sub) =
        (Pub::in_context(&net.context), XSub::in_context(&net.context), xpub(net), sub(net));
    net.join(&publisher, &[&front]);
    net.join(&back, &[&sub]);
    sub.subscribe("a").unwrap();
    front.send(back.recv_timeout(LONG).unwrap()).unwrap();
    publisher.wait_for_subscribers(1, LONG).unwrap();
    publisher.send(Message::from_iter(["a", "through two sockets"])).unwrap();
    back.send(front.recv_timeout(LONG).unwrap()).unwrap();
    assert_eq!(sub.recv_timeout(LONG).unwrap(), Message::from_iter(["a", "through two sockets"]));
    sub.unsubscribe("a").unwrap();
    front.send(back.recv_timeout(LONG).unwrap()).unwrap();
    until("the cancellation is through", || publisher.topic_count() == 0);
}

fn topics_are_counted_once(net: &Net) {
    let xpub = xpub(net);
    let (left, right) = (sub(net), sub(net));
    net.join(&xpub, &[&left, &right]);
    for topic in ["a", "ab", "abc", "a"] {
        left.subscribe(topic).unwrap();
        right.subscribe(topic).unwrap();
    }
    right.subscribe("end").unwrap();
    until("all are known", || xpub.topic_count() == 4);
    assert_eq!((left.topic_count(), right.topic_count()), (3, 4));
}

#[test]
fn a_peer_of_3_1_gets_commands_and_one_of_3_0_gets_messages() {
    for (minor, wanted) in [(1, [&b"\x09SUBSCRIBEa"[..], b"\x06CANCELa"]), (0, [b"\x01a", b"\x00a"])] {
        let net = Net::new("tcp");
        let sub = sub(&net);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        sub.subscribe("a").unwrap();
        sub.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
        let mut peer = Raw::accept(&listener);
        peer.shake_hands(minor, "PUB");
        let command = if minor == 1 { 0x04 } else { 0 };
        assert_eq!(peer.read_frame(), (command, wanted[0].to_vec()));
        sub.unsubscribe("a").unwrap();
        assert_eq!(peer.read_frame(), (command, wanted[1].to_vec()));
    }
}

#[test]
fn a_publisher_takes_both_forms_of_subscription_from_anybody() {
    let net = Net::new("tcp");
    let xpub = xpub(&net);
    let endpoint = xpub.bind("tcp://127.0.0.1:*").unwrap();
    let mut peers = Vec::new();
    for minor in [0, 1] {
        let mut peer = Raw::connect(endpoint.address());
        peer.shake_hands(minor, "SUB");
        for (flags, body) in [(0, &b"\x01a"[..]), (0, b"\x00a"), (0x04, b"\x09SUBSCRIBEa"), (0x04, b"\x06CANCELa")] {
            peer.write_frame(flags, body);
            let wanted = if body.starts_with(b"\x01") || body.starts_with(b"\x09") { b"\x01a" } else { b"\x00a" };
            shown(&xpub, wanted);
        }
        peers.push(peer);
    }
    assert_eq!(xpub.try_recv().unwrap_err(), RecvError::WouldBlock);
    drop(xpub);
    peers.iter_mut().for_each(|peer| drop(peer.read_to_end()));
}

fn upstream_messages_that_were_read_leave_the_byte_budget(net: &Net) {
    let context = Context::builder().byte_budget(Some(1 << 20)).drop_wait(Some(Duration::ZERO)).build();
    let (xpub, xsub) = (XPub::in_context(&context), XSub::in_context(&context));
    net.join(&xpub, &[&xsub]);
    for _ in 0..300 {
        let message: Message = [b"up".to_vec(), vec![7; 10_000]].into_iter().collect();
        xsub.send(message).unwrap();
        assert_eq!(xpub.recv_timeout(LONG).unwrap().len(), 2);
    }
    // Credit goes back with the call that finds nothing.
    assert!(xpub.try_recv().is_err());
    for half in [BudgetHalf::Sending, BudgetHalf::Receiving] {
        until("all is given back", || context.bytes_held(half) == 0);
    }
}
