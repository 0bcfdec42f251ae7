//! A socket of a kind chosen at run time has what the typed ones have, and says of the rest that its kind does not do
//! it.

#[macro_use]
mod common;

use std::thread;
use std::time::Duration;

use common::{LONG, Net};
use wiremesh::{
    AnySocket, Builder, Dealer, Error, Message, RecvError, RecvIntoError, RequestError, ReserveError, Router,
    SendFailure, SocketKind, Sub, XPub,
};

over!([tcp ipc inproc]:
    a_request_gets_its_reply
    a_request_without_an_answer_is_given_up
    a_request_is_repeated_until_it_is_answered
    a_router_sends_to_a_routing_id_beside_the_message
    a_mandatory_router_fails_without_such_a_peer
    a_mandatory_router_waits_for_room_as_long_as_it_is_told
    under_manual_the_application_grants_and_ends_subscriptions
    topics_are_counted_at_both_ends
    a_message_is_received_into_a_buffer
    a_router_receives_nothing_into_a_buffer_and_keeps_the_message
);

fn any(net: &Net, kind: SocketKind) -> AnySocket {
    AnySocket::in_context(kind, &net.context)
}

fn builder(net: &Net, kind: SocketKind) -> Builder<AnySocket> {
    AnySocket::builder(kind).context(&net.context)
}

fn a_request_gets_its_reply(net: &Net) {
    let (req, rep) = (any(net, SocketKind::Req), any(net, SocketKind::Rep));
    net.join(&rep, &[&req]);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2 {
                let question = rep.recv_timeout(LONG).unwrap();
                rep.send(question).unwrap();
            }
        });
        assert_eq!(req.request("question", LONG).unwrap(), "question");
        assert_eq!(req.request_with_retries(["two", "frames"], LONG, 3).unwrap().len(), 2);
    });
}

fn a_request_without_an_answer_is_given_up(net: &Net) {
    let (req, router) = (any(net, SocketKind::Req), any(net, SocketKind::Router));
    net.join(&router, &[&req]);
    let error = req.request("lost", Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, RequestError::Receive(RecvError::TimedOut)), "{error:?}");
    // It may ask again.
    req.send_timeout("another", LONG).unwrap();
}

fn a_request_is_repeated_until_it_is_answered(net: &Net) {
    let (req, router) = (any(net, SocketKind::Req), any(net, SocketKind::Router));
    net.join(&router, &[&req]);
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            // The first one is not answered; those that follow are, until the client is content.
            router.recv_timeout(LONG).unwrap();
            loop {
                let request = router.recv_timeout(LONG).unwrap();
                if request.frame(2) == Some(b"end") {
                    return;
                }
                router.send(request).unwrap();
            }
        });
        assert_eq!(req.request_with_retries("question", Duration::from_millis(200), 50).unwrap(), "question");
        req.send("end").unwrap();
        server.join().unwrap();
    });
}

fn a_router_sends_to_a_routing_id_beside_the_message(net: &Net) {
    let router = any(net, SocketKind::Router);
    let dealer = Dealer::builder().context(&net.context).routing_id("dealer").build().unwrap();
    net.join(&router, &[&dealer]);
    router.send_to("dealer", "one").unwrap();
    router.try_send_to("dealer", ["two", "frames"]).unwrap();
    router.send_to_timeout("dealer", "three", LONG).unwrap();
    assert_eq!(dealer.recv_timeout(LONG).unwrap(), "one");
    assert_eq!(dealer.recv_timeout(LONG).unwrap(), Message::from_iter(["two", "frames"]));
    assert_eq!(dealer.recv_timeout(LONG).unwrap(), "three");
    router.send_to("nobody", "lost").unwrap();
    assert_eq!(router.stats().dropped.unroutable, 1);
}

fn a_mandatory_router_fails_without_such_a_peer(net: &Net) {
    let router = builder(net, SocketKind::Router).mandatory(true).build().unwrap();
    let error = router.send_to("nobody", "back").unwrap_err();
    assert_eq!((error.reason, error.message), (SendFailure::Unroutable, "back".into()));
}

fn a_mandatory_router_waits_for_room_as_long_as_it_is_told(net: &Net) {
    let router = builder(net, SocketKind::Router).mandatory(true).send_mark(1u32).connect_routing_id("peer");
    let router = router.build().unwrap();
    // Nobody is there yet.
    router.connect(net.fresh()).unwrap();
    router.send_to("peer", "fills the queue").unwrap();
    assert_eq!(router.try_send_to("peer", "x").unwrap_err().reason, SendFailure::WouldBlock);
    let error = router.send_to_timeout("peer", "x", Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.reason, SendFailure::TimedOut);
}

fn under_manual_the_application_grants_and_ends_subscriptions(net: &Net) {
    let publisher = builder(net, SocketKind::XPub).manual(true).build().unwrap();
    let subscriber = Sub::in_context(&net.context);
    net.join(&publisher, &[&subscriber]);
    subscriber.subscribe("").unwrap();
    assert_eq!(publisher.recv_timeout(LONG).unwrap(), b"\x01");
    assert!(publisher.subscribe_last("granted").unwrap());
    publisher.send("not granted").unwrap();
    publisher.send("granted 1").unwrap();
    assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "granted 1");
    assert!(publisher.unsubscribe_last("granted").unwrap());
    assert!(publisher.subscribe_last("end").unwrap());
    publisher.send("granted 2").unwrap();
    publisher.send("end").unwrap();
    assert_eq!(subscriber.recv_timeout(LONG).unwrap(), "end");
}

fn topics_are_counted_at_both_ends(net: &Net) {
    for (up, down) in [(SocketKind::Pub, SocketKind::Sub), (SocketKind::XPub, SocketKind::XSub)] {
        let (publisher, subscriber) = (any(net, up), any(net, down));
        for topic in ["a", "b", "a"] {
            subscriber.subscribe(topic).unwrap();
        }
        net.join(&publisher, &[&subscriber]);
        common::until("both topics are known", || publisher.topic_count().unwrap() == 2);
        assert_eq!(subscriber.topic_count().unwrap(), 2);
    }
}

fn a_message_is_received_into_a_buffer(net: &Net) {
    let (left, right) = (any(net, SocketKind::Pair), any(net, SocketKind::Pair));
    net.join(&left, &[&right]);
    left.send_many(["one", "two", "three"]).unwrap();
    let mut buffer = [0; 3];
    assert_eq!(right.recv_into_timeout(&mut buffer, LONG).unwrap(), 3);
    assert_eq!(&buffer, b"one");
    assert_eq!(right.recv_into(&mut buffer).unwrap(), 3);
    assert_eq!(&buffer, b"two");
    let message = right.recv_into(&mut buffer).unwrap_err().into_message().unwrap();
    assert_eq!(message, "three");
    assert_eq!(right.try_recv_into(&mut buffer), Err(RecvIntoError::Receive(RecvError::WouldBlock)));
}

fn a_router_receives_nothing_into_a_buffer_and_keeps_the_message(net: &Net) {
    let (router, dealer) = (any(net, SocketKind::Router), any(net, SocketKind::Dealer));
    net.join(&router, &[&dealer]);
    dealer.send("hello").unwrap();
    let refused = router.recv_into_timeout(&mut [0; 100], LONG);
    assert!(matches!(refused, Err(RecvIntoError::Receive(RecvError::NotSupported { .. }))));
    assert_eq!(router.recv_timeout(LONG).unwrap().frame(1), Some(&b"hello"[..]));
}

/// What each kind says to a verb, and whether it should have it.
fn outcomes(socket: &AnySocket) -> Vec<(&'static str, bool, bool)> {
    use SocketKind::*;
    let kind = socket.kind();
    let refused = |error: &Error| match error {
        Error::NotSupported { kind: named, .. } => {
            assert_eq!(*named, kind);
            true
        }
        _ => false,
    };
    let unsent = |error: wiremesh::SendError| {
        assert_eq!(error.message, "x", "{kind}: the message is handed back");
        matches!(error.reason, SendFailure::NotSupported { kind: named, .. } if named == kind)
    };
    let unasked = |error| match error {
        RequestError::Send(error) => unsent(error),
        _ => false,
    };
    let is_refusal = |error: &RecvError| matches!(error, RecvError::NotSupported { kind: named, .. } if *named == kind);
    let unreceived = |error: RecvIntoError| matches!(error, RecvIntoError::Receive(error) if is_refusal(&error));
    let unreserved =
        |error: ReserveError| matches!(error.reason, SendFailure::NotSupported { kind: named, .. } if named == kind);
    let briefly = Duration::from_millis(1);
    let sends = !matches!(kind, Pull | Sub);
    let receives = !matches!(kind, Push | Pub);
    let routes = kind == Router;
    let topics = kind.subscribes() || kind.publishes();
    let waits = matches!(kind, Push | Dealer | Pair | Req);
    let named = kind.publishes() || routes;
    vec![
        ("try_send", sends, !socket.try_send("x").is_err_and(unsent)),
        ("send_timeout", sends, !socket.send_timeout("x", briefly).is_err_and(unsent)),
        ("send_to", routes, !socket.send_to("x", "x").is_err_and(unsent)),
        ("try_send_to", routes, !socket.try_send_to("x", "x").is_err_and(unsent)),
        ("send_to_timeout", routes, !socket.send_to_timeout("x", "x", briefly).is_err_and(unsent)),
        ("request", kind == Req, !socket.request("x", briefly).is_err_and(unasked)),
        ("request_with_retries", kind == Req, !socket.request_with_retries("x", briefly, 1).is_err_and(unasked)),
        ("try_reserve", waits, !socket.try_reserve().is_err_and(unreserved)),
        ("reserve_timeout", waits, !socket.reserve_timeout(briefly).is_err_and(unreserved)),
        ("reserve_to", named, !socket.reserve_to("x").is_err_and(unreserved)),
        ("try_reserve_to", named, !socket.try_reserve_to("x").is_err_and(unreserved)),
        ("reserve_to_timeout", named, !socket.reserve_to_timeout("x", briefly).is_err_and(unreserved)),
        ("try_recv", receives, !socket.try_recv().is_err_and(|error| is_refusal(&error))),
        ("recv_timeout", receives, !socket.recv_timeout(briefly).is_err_and(|error| is_refusal(&error))),
        ("try_recv_into", receives && !routes, !socket.try_recv_into(&mut []).is_err_and(unreceived)),
        ("recv_into_timeout", receives && !routes, !socket.recv_into_timeout(&mut [], briefly).is_err_and(unreceived)),
        ("subscribe", kind.subscribes(), !socket.subscribe("x").is_err_and(|error| refused(&error))),
        ("unsubscribe", kind.subscribes(), !socket.unsubscribe("x").is_err_and(|error| refused(&error))),
        ("subscribe_last", kind == XPub, !socket.subscribe_last("x").is_err_and(|error| refused(&error))),
        ("unsubscribe_last", kind == XPub, !socket.unsubscribe_last("x").is_err_and(|error| refused(&error))),
        ("topic_count", topics, !socket.topic_count().is_err_and(|error| refused(&error))),
        (
            "wait_for_subscribers",
            kind.publishes(),
            !socket.wait_for_subscribers(0, briefly).is_err_and(|error| refused(&error)),
        ),
    ]
}

#[test]
fn each_kind_has_its_verbs_and_refuses_the_others() {
    let net = Net::new("inproc");
    for kind in SocketKind::ALL {
        for (verb, wanted, found) in outcomes(&any(&net, kind)) {
            assert_eq!(found, wanted, "{kind}: `{verb}`");
        }
    }
}

#[test]
fn what_is_refused_says_what_the_kind_does_not_do() {
    let net = Net::new("inproc");
    let pull = any(&net, SocketKind::Pull);
    let text = pull.topic_count().unwrap_err().to_string();
    assert_eq!(text, "PULL sockets do not have topics");
    let text = pull.subscribe_last("x").unwrap_err().to_string();
    assert_eq!(text, "PULL sockets do not subscribe their peers");
}

#[test]
fn manual_verbs_without_the_option_are_refused_as_by_the_typed_socket() {
    let net = Net::new("inproc");
    let typed = XPub::in_context(&net.context).subscribe_last("x").unwrap_err().to_string();
    let untyped = any(&net, SocketKind::XPub).subscribe_last("x").unwrap_err().to_string();
    assert_eq!(typed, untyped);
}

#[test]
fn a_routing_id_beside_the_message_and_one_in_front_lead_to_the_same_peer() {
    let net = Net::new("inproc");
    let (router, typed) = (any(&net, SocketKind::Router), Router::in_context(&net.context));
    let dealers = ["a", "b"].map(|id| Dealer::builder().context(&net.context).routing_id(id).build().unwrap());
    net.join(&router, &[&dealers[0]]);
    net.join(&typed, &[&dealers[1]]);
    router.send(["a", "in front"]).unwrap();
    router.send_to("a", "beside").unwrap();
    typed.send_to("b", "beside").unwrap();
    assert_eq!(dealers[0].recv_timeout(LONG).unwrap(), "in front");
    assert_eq!(dealers[0].recv_timeout(LONG).unwrap(), "beside");
    assert_eq!(dealers[1].recv_timeout(LONG).unwrap(), "beside");
}
