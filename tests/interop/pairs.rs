//! Every legal pair of kinds, each once ours and once theirs, both roles, tcp and ipc.

use super::body::{Body, assortment, given, made_up};
use super::ends::{End, Ours, Theirs};
use super::peer::Peer;
use wiremesh::Context;
use wiremesh::SocketKind::{self, *};

macro_rules! pairs {
    ($($name:ident: $ours:ident, $theirs:ident;)*) => {
        $(#[test]
        fn $name() {
            marry($ours, $theirs);
        })*

        #[test]
        fn every_legal_pair_is_in_the_table() {
            let tested = [$(($ours, $theirs)),*];
            for ours in SocketKind::ALL {
                for theirs in SocketKind::ALL {
                    assert_eq!(tested.contains(&(ours, theirs)), ours.accepts(theirs), "our {ours} with their {theirs}");
                }
            }
        }
    };
}

pairs! {
    our_push_feeds_their_pull: Push, Pull;
    our_pull_is_fed_by_their_push: Pull, Push;
    our_pub_reaches_their_sub: Pub, Sub;
    our_pub_reaches_their_xsub: Pub, XSub;
    our_xpub_reaches_their_sub: XPub, Sub;
    our_xpub_reaches_their_xsub: XPub, XSub;
    our_sub_hears_their_pub: Sub, Pub;
    our_sub_hears_their_xpub: Sub, XPub;
    our_xsub_hears_their_pub: XSub, Pub;
    our_xsub_hears_their_xpub: XSub, XPub;
    our_req_asks_their_rep: Req, Rep;
    our_req_asks_their_router: Req, Router;
    our_rep_answers_their_req: Rep, Req;
    our_rep_answers_their_dealer: Rep, Dealer;
    our_dealer_asks_their_rep: Dealer, Rep;
    our_dealer_talks_with_their_dealer: Dealer, Dealer;
    our_dealer_talks_with_their_router: Dealer, Router;
    our_router_answers_their_req: Router, Req;
    our_router_talks_with_their_dealer: Router, Dealer;
    our_router_talks_with_their_router: Router, Router;
    our_pair_talks_with_their_pair: Pair, Pair;
}

/// Connects a fresh pair of sockets for each role and transport and has them talk. Our waiting threads drive our side,
/// or the engine alone does, as on platforms without nested polls. We say what we are in READY, or do not.
fn marry(ours: SocketKind, theirs: SocketKind) {
    let Some(peer) = Peer::start() else { return };
    for (engine_only, announce) in [(false, true), (true, true), (false, false)] {
        for endpoint in ["tcp://127.0.0.1:*", "ipc://*"] {
            for we_bind in [true, false] {
                let binder = if we_bind { "we" } else { "they" };
                let way = format!("engine only: {engine_only}, announcing: {announce}");
                println!("our {ours}, their {theirs}, {binder} bind {endpoint}, {way}");
                let context = Context::builder().engine_only(engine_only).build();
                let us = Ours::within(&context, ours, |builder| match ours {
                    Router => builder.announce(announce).routing_id("us").mandatory(true),
                    _ => builder.announce(announce),
                });
                let them = Theirs::new(&peer, "them", theirs);
                if theirs == Router {
                    them.set("ROUTING_ID", Body::from("them"));
                    them.set("ROUTER_MANDATORY", 1);
                }
                if we_bind {
                    them.connect(&us.bind(endpoint));
                } else {
                    us.connect(&them.bind(endpoint));
                }
                converse((&us, "us"), (&them, "them"));
            }
        }
    }
}

/// Has two connected ends say what their kinds can say. Each comes with the routing id it has if it is a ROUTER.
fn converse(one: (&dyn End, &str), other: (&dyn End, &str)) {
    let ((left, left_id), (right, right_id)) = (one, other);
    match (left.kind(), right.kind()) {
        (Push, Pull) => one_way(left, right),
        (Pair, Pair) | (Dealer, Dealer) => {
            one_way(left, right);
            one_way(right, left);
        }
        (Pub | XPub, Sub | XSub) => publish(left, right),
        (Req, Rep) => exchange(left, right, &[], &[]),
        (Dealer, Rep) => exchange(left, right, &[""], &[]),
        (Req, Router) => with_router(left, right, &[""]),
        (Dealer, Router) => with_router(left, right, &[]),
        (Router, Router) => between_routers(left, left_id, right, right_id),
        (Pull | Sub | XSub | Rep | Router, _) => converse(other, one),
        (left, right) => unreachable!("{left} and {right} do not talk"),
    }
}

fn one_way(sender: &dyn End, receiver: &dyn End) {
    // First all of them, then all answers: several are under way at once, in order.
    for message in messages() {
        sender.send(&message);
    }
    for message in messages() {
        receiver.expect(&message);
    }
}

/// Request and reply in turn. Each side may have to add frames before its own.
fn exchange(asker: &dyn End, answerer: &dyn End, before_question: &[&str], before_answer: &[&str]) {
    for (number, question) in messages().into_iter().enumerate() {
        let answer = made_up(number + 1000, &[number, 300]);
        asker.send(&behind(before_question, &question));
        answerer.expect(&question);
        answerer.send(&behind(before_answer, &answer));
        asker.expect(&behind(before_question, &answer));
    }
}

/// A REQ or DEALER with a ROUTER, which learns an id and sees `delimiter` before the body.
fn with_router(asker: &dyn End, router: &dyn End, delimiter: &[&str]) {
    asker.send(&given(["who am I?"]));
    let mut frames = router.receive();
    let id = frames.remove(0);
    assert_eq!((id.len(), id[0]), (5, 0), "a generated routing id");
    assert_eq!(frames.concat(), b"who am I?");
    let with_id = |message: &[Body]| {
        let mut frames = vec![Body::Given(id.clone())];
        frames.extend(behind(delimiter, message));
        frames
    };
    router.send(&with_id(&given(["you"])));
    asker.expect(&given(["you"]));
    if asker.kind() == Dealer {
        messages().iter().for_each(|message| asker.send(message));
        messages().iter().for_each(|message| router.expect(&with_id(message)));
        messages().iter().for_each(|message| router.send(&with_id(message)));
        messages().iter().for_each(|message| asker.expect(message));
        return;
    }
    for message in messages() {
        asker.send(&message);
        router.expect(&with_id(&message));
        router.send(&with_id(&message));
        asker.expect(&message);
    }
}

fn between_routers(left: &dyn End, left_id: &str, right: &dyn End, right_id: &str) {
    left.send_when_known(&given([right_id, "hello"]));
    right.send_when_known(&given([left_id, "hello"]));
    left.expect(&given([right_id, "hello"]));
    right.expect(&given([left_id, "hello"]));
    for message in messages() {
        left.send(&behind(&[right_id], &message));
        right.expect(&behind(&[left_id], &message));
        right.send(&behind(&[left_id], &message));
        left.expect(&behind(&[right_id], &message));
    }
}

fn publish(publisher: &dyn End, subscriber: &dyn End) {
    subscriber.subscribe("topic.");
    if publisher.kind() == XPub {
        publisher.expect(&given(["\x01topic."]));
    }
    await_subscription(publisher, subscriber, "topic.sync");
    for number in 0..20 {
        publisher.send(&behind(&["other"], &made_up(number, &[number])));
        publisher.send(&behind(&["topic.a"], &made_up(number, &[number])));
        subscriber.expect(&behind(&["topic.a"], &made_up(number, &[number])));
    }
    // To everything: now an empty frame matches as well.
    subscriber.subscribe("");
    if publisher.kind() == XPub {
        publisher.expect(&given(["\x01"]));
    }
    await_subscription(publisher, subscriber, "sync");
    one_way(publisher, subscriber);
    if publisher.kind() == XPub {
        subscriber.unsubscribe("");
        publisher.expect(&given(["\0"]));
        if subscriber.kind() == XSub {
            subscriber.send(&given(["upstream"]));
            publisher.expect(&given(["upstream"]));
        }
    }
}

/// Publishes until the first message gets through, and takes away those that did. A PUB cannot see its subscribers from
/// outside.
fn await_subscription(publisher: &dyn End, subscriber: &dyn End, message: &str) {
    let mut sent = 0;
    loop {
        publisher.send(&given([message]));
        sent += 1;
        if subscriber.has_message() {
            break;
        }
        assert!(sent < 500, "the subscription to {message:?} did not arrive");
    }
    // What comes through comes in order: all up to this one.
    publisher.send(&given([&format!("{message}.last")]));
    while subscriber.receive() != [format!("{message}.last").into_bytes()] {}
}

fn behind(frames: &[&str], message: &[Body]) -> Vec<Body> {
    frames.iter().copied().map(Body::from).chain(message.iter().cloned()).collect()
}

/// The assortment and, with WIREMESH_FULL=1, many more between its sizes.
fn messages() -> Vec<Vec<Body>> {
    let mut messages = assortment();
    if std::env::var_os("WIREMESH_FULL").is_some_and(|value| value == "1") {
        messages.extend((0..1000).map(|seed| made_up(seed, &[seed * 7 % 1500, seed % 3])));
    }
    messages
}
