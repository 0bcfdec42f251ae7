//! Who holds a routing id: one peer at a time, over whatever transport, and the one that announces it. How often a peer
//! is there.

use crate::crowds::{ready_with_id, refusal, waiting};
use crate::support::raw::{Raw, command, frame, greeting, property};
use crate::support::{PATIENCE, eventually, holds_within};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Barrier;
use std::time::Duration;
use wiremesh::{AnySocket, Context, Dealer, Error, Profile, Pub, Router, SendFailure, SocketKind, Sub, XPub};

/// A READY with a routing id.
fn ready_as(kind: &str, id: &str) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    property(&mut body, "Socket-Type", kind.as_bytes());
    property(&mut body, "Identity", id.as_bytes());
    command(&body)
}

/// A DEALER made of bytes that announces an id, with the handshake done.
fn raw_dealer(endpoint: &str, id: &str) -> Raw {
    let mut raw = Raw::connect(endpoint).expect("a listener");
    raw.write_all(&greeting()).expect("open");
    raw.write_all(&ready_as("DEALER", id)).expect("open");
    read_handshake(&mut raw);
    raw
}

/// Reads greeting and READY of the other side.
fn read_handshake(raw: &mut Raw) {
    let mut theirs = [0; 66];
    raw.read_exact(&mut theirs).expect("a greeting and a header");
    let mut body = vec![0; theirs[65].into()];
    raw.read_exact(&mut body).expect("a READY");
}

fn handover_router(context: &Context) -> Router {
    Router::builder().context(context).handover(true).mandatory(true).build().expect("good options")
}

#[test]
fn an_inproc_peer_takes_an_id_over_from_a_tcp_peer_whose_connection_ends() {
    let context = Context::new();
    let router = handover_router(&context);
    let tcp = router.bind("tcp://127.0.0.1:*").expect("bound");
    router.bind("inproc://taken-over").expect("bound");
    let mut old = raw_dealer(tcp.as_str(), "A");
    router.wait_for_peers(1, PATIENCE).expect("the first");
    let new = Dealer::builder().context(&context).routing_id("A").build().expect("a good id");
    new.connect("inproc://taken-over").expect("bound");
    assert!(old.is_closed_within(PATIENCE), "the peer that lost its id keeps its connection");
    eventually(PATIENCE, "one peer is left", || router.stats().connections == 1);
    router.send_to("A", "to the new one").expect("routable");
    assert_eq!(new.recv_timeout(PATIENCE).expect("a message"), "to the new one");
}

#[test]
fn a_tcp_peer_takes_an_id_over_from_an_inproc_peer_which_parts() {
    let context = Context::new();
    let router = handover_router(&context);
    let tcp = router.bind("tcp://127.0.0.1:*").expect("bound");
    router.bind("inproc://given-up").expect("bound");
    let old = Dealer::builder().context(&context).routing_id("A").build().expect("a good id");
    old.connect("inproc://given-up").expect("bound");
    old.send("before").expect("accepted");
    assert_eq!(router.recv_timeout(PATIENCE).expect("a message").1, "before");
    let mut new = raw_dealer(tcp.as_str(), "A");
    eventually(PATIENCE, "the old peer parts", || old.stats().connections == 0 && router.stats().connections == 1);
    router.send_to("A", "hello").expect("routable");
    let mut message = [0; 7];
    new.read_exact(&mut message).expect("the message");
    assert_eq!(&message[..], frame(false, b"hello"));
    assert_eq!(old.try_send("lost").expect_err("nobody is there").reason, SendFailure::WouldBlock);
}

#[test]
fn an_ipc_peer_takes_an_id_over_from_an_inproc_peer_whose_unread_messages_stay() {
    let context = Context::new();
    let router = handover_router(&context);
    let ipc = router.bind("ipc://*").expect("bound");
    router.bind("inproc://unread").expect("bound");
    let old = Dealer::builder().context(&context).routing_id("A").build().expect("a good id");
    old.connect("inproc://unread").expect("bound");
    old.send("unread").expect("accepted");
    let _new = raw_dealer(ipc.as_str(), "A");
    eventually(PATIENCE, "the old peer parts", || old.stats().connections == 0 && router.peers().len() == 1);
    let (id, message) = router.recv_timeout(PATIENCE).expect("what it sent before stays readable");
    assert_eq!(message, "unread");
    assert_ne!(id, b"A"[..], "it leads to nobody else");
    assert_eq!(router.send_to(&id, "answer").expect_err("nobody").reason, SendFailure::Unroutable);
}

/// Accepts as a DEALER of that id, and says what was there before the handshake was read.
fn serve_as(listener: &TcpListener, id: &str) -> Raw {
    let mut raw = Raw::accepted(listener.accept().expect("a connection").0);
    raw.write_all(&greeting()).expect("open");
    raw.write_all(&ready_as("DEALER", id)).expect("open");
    read_handshake(&mut raw);
    raw
}

fn connecting_router(context: &Context, listener: &TcpListener) -> (Router, String) {
    let router = Router::builder()
        .context(context)
        .mandatory(true)
        .reconnect_interval(Duration::from_millis(10))
        .build()
        .expect("good options");
    let endpoint = format!("tcp://{}", listener.local_addr().expect("bound"));
    router.connect(&endpoint).expect("a good endpoint");
    (router, endpoint)
}

#[test]
fn another_server_at_the_address_is_another_peer_and_gets_nothing_of_the_first() {
    let context = Context::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (router, _) = connecting_router(&context, &listener);
    let first = serve_as(&listener, "A");
    router.wait_for_peers(1, PATIENCE).expect("the first server");
    drop(first);
    eventually(PATIENCE, "the loss is seen", || router.stats().connections == 0);
    router.send_to("A", "for A alone").expect("it may come back");
    let mut second = serve_as(&listener, "B");
    eventually(PATIENCE, "the other is known", || router.try_send_to("B", "for B").is_ok());
    let mut message = [0; 7];
    second.read_exact(&mut message).expect("a message");
    assert_eq!(&message[..], frame(false, b"for B"));
    assert_eq!(router.send_to("A", "gone").expect_err("nobody").reason, SendFailure::Unroutable);
    let stats = router.stats();
    assert_eq!(stats.dropped.disconnect, 1, "what waited for A is counted");
    assert!(stats.is_balanced(), "{stats:?}");
}

#[test]
fn a_server_that_comes_back_under_its_id_or_under_none_is_the_peer_it_was() {
    let context = Context::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (router, _) = connecting_router(&context, &listener);
    let mut server = serve_as(&listener, "A");
    router.wait_for_peers(1, PATIENCE).expect("a server");
    for id in ["A", "", "A"] {
        drop(server);
        eventually(PATIENCE, "the loss is seen", || router.stats().connections == 0);
        router.send_to("A", "waits").expect("it may come back");
        server = serve_as(&listener, id);
        let mut message = [0; 7];
        server.read_exact(&mut message).expect("what waited");
        assert_eq!(&message[..], frame(false, b"waits"));
    }
    assert_eq!(router.stats().dropped.total(), 0);
}

#[test]
fn a_dealer_keeps_its_queue_whatever_the_servers_at_the_address_are_called() {
    let context = Context::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let dealer = Dealer::builder()
        .context(&context)
        .reconnect_interval(Duration::from_millis(10))
        .build()
        .expect("good options");
    dealer.connect(format!("tcp://{}", listener.local_addr().expect("bound"))).expect("a good endpoint");
    let first = serve_as(&listener, "A");
    dealer.wait_for_peers(1, PATIENCE).expect("the first server");
    drop(first);
    eventually(PATIENCE, "the loss is seen", || dealer.stats().connections == 0);
    dealer.send("waits").expect("accepted");
    let mut second = serve_as(&listener, "B");
    let mut message = [0; 7];
    second.read_exact(&mut message).expect("what waited");
    assert_eq!(&message[..], frame(false, b"waits"));
}

#[test]
fn a_connecting_router_gives_its_peer_a_routing_id_under_immediate_as_well() {
    let (context, other) = (Context::new(), Context::new());
    let dealer = Dealer::in_context(&other);
    let endpoint = dealer.bind("tcp://127.0.0.1:*").expect("bound");
    for by_option in [true, false] {
        let router = Router::builder().context(&context).immediate(true).mandatory(true);
        let router = if by_option { router.connect_routing_id("boss") } else { router };
        let router = router.build().expect("good options");
        if by_option { router.connect(&endpoint) } else { router.connect_as(&endpoint, "boss") }.expect("good");
        router.wait_for_peers(1, PATIENCE).expect("the dealer");
        router.send_to("boss", "hello").expect("routable");
        assert_eq!(dealer.recv_timeout(PATIENCE).expect("a message"), "hello");
    }
}

#[test]
fn connect_as_names_the_peer_of_its_own_endpoint_whoever_connects_meanwhile() {
    let context = Context::new();
    let dealers: Vec<Dealer> = (0..8).map(|_| Dealer::in_context(&context)).collect();
    let router = Router::builder().context(&context).mandatory(true).build().expect("good options");
    let start = Barrier::new(dealers.len());
    std::thread::scope(|scope| {
        for (number, dealer) in dealers.iter().enumerate() {
            let (router, start) = (&router, &start);
            scope.spawn(move || {
                let endpoint = dealer.bind("tcp://127.0.0.1:*").expect("bound");
                start.wait();
                router.connect_as(&endpoint, format!("dealer {number}")).expect("a good endpoint");
            });
        }
    });
    for (number, dealer) in dealers.iter().enumerate() {
        router.send_to(format!("dealer {number}"), number.to_string()).expect("routable at once");
        assert_eq!(dealer.recv_timeout(PATIENCE).expect("a message"), number.to_string().as_str());
    }
}

#[test]
fn connect_as_refuses_what_is_no_routing_id_and_leaves_the_option_alone() {
    let context = Context::new();
    let router = Router::builder().context(&context).connect_routing_id("kept").build().expect("good options");
    for bad in [&[0, 1][..], &[7; 256]] {
        let refused = router.connect_as("inproc://anybody", bad);
        assert!(matches!(refused, Err(Error::Option { option: "connect_routing_id", .. })), "{refused:?}");
    }
    router.connect_as("inproc://anybody", "A").expect("good");
    assert_eq!(router.options().connect_routing_id, "kept");
    let taken = router.connect_as("inproc://anybody", "A");
    assert!(matches!(taken, Err(Error::InvalidEndpoint { .. })), "{taken:?}");
    let dealer = AnySocket::in_context(SocketKind::Dealer, &context);
    assert!(dealer.connect_as("inproc://anybody", "A").is_err(), "a DEALER knows its peers by no id");
}

#[test]
fn a_subscription_that_comes_after_unbind_is_not_accepted() {
    let context = Context::new();
    // What is queued for it keeps the connection of a retired peer up.
    let xpub = XPub::builder().context(&context).send_buffer(4096).build().expect("good options");
    let endpoint = xpub.bind("tcp://127.0.0.1:*").expect("bound");
    let mut sub = Raw::connect(endpoint.as_str()).expect("a listener");
    sub.shake_hands("SUB").expect("good");
    sub.write_all(&command(b"\x09SUBSCRIBEa")).expect("open");
    assert_eq!(xpub.recv_timeout(PATIENCE).expect("the subscription"), b"\x01a");
    eventually(PATIENCE, "more is queued than the kernel takes", || {
        xpub.send(vec![b'a'; 1 << 20]).expect("a publisher never waits");
        xpub.stats().queued > 4
    });
    xpub.unbind(&endpoint).expect("bound there");
    assert_eq!(xpub.recv_timeout(PATIENCE).expect("the end of the subscription"), b"\x00a");
    for late in [&b"\x09SUBSCRIBEb"[..], b"\x09SUBSCRIBEa"] {
        sub.write_all(&command(late)).expect("still open");
    }
    sub.write_all(&frame(false, b"\x01c")).expect("still open");
    // What follows on the same connection is shown once the three before it have been looked at.
    sub.write_all(&frame(false, b"marker")).expect("still open");
    assert_eq!(xpub.recv_timeout(PATIENCE).expect("the marker"), b"marker");
    assert_eq!(xpub.topic_count(), 0);
    assert!(xpub.stats().queued > 0, "the connection is still there");
}

#[test]
fn a_handshake_that_ends_after_unbind_makes_no_peer() {
    let context = Context::new();
    let publisher = Pub::in_context(&context);
    let endpoint = publisher.bind("tcp://127.0.0.1:*").expect("bound");
    let other = publisher.bind("tcp://127.0.0.1:*").expect("bound");
    let mut late = Raw::connect(endpoint.as_str()).expect("a listener");
    late.write_all(&greeting()).expect("open");
    let mut theirs = [0; 64];
    late.read_exact(&mut theirs).expect("a greeting");
    publisher.unbind(&endpoint).expect("bound there");
    // The peer may be gone by now, and that is just as well.
    let _ = late.write_all(&ready_as("SUB", ""));
    let _ = late.write_all(&command(b"\x09SUBSCRIBE"));
    assert!(late.is_closed_within(PATIENCE));
    assert_eq!((publisher.topic_count(), publisher.stats().connections), (0, 0));
    let sub = Sub::in_context(&context);
    sub.subscribe("").expect("open");
    sub.connect(&other).expect("a good endpoint");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the other endpoint works on");
}

/// Connects from two threads at once.
fn connect_twice(socket: &wiremesh::Socket, endpoint: &str) {
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                start.wait();
                socket.connect(endpoint).expect("a good endpoint");
            });
        }
    });
}

#[test]
fn two_threads_that_connect_one_sub_to_one_endpoint_connect_it_once() {
    let (context, other) = (Context::new(), Context::new());
    let publisher = Pub::in_context(&other);
    let endpoint = publisher.bind("tcp://127.0.0.1:*").expect("bound");
    for _ in 0..100 {
        let sub = Sub::in_context(&context);
        connect_twice(&sub, endpoint.as_str());
        assert_eq!(sub.connected().len(), 1);
    }
}

#[test]
fn kinds_that_connect_once_do_so_over_inproc_as_well() {
    for kind in [SocketKind::Sub, SocketKind::Dealer, SocketKind::Req, SocketKind::Pub] {
        for binder_first in [true, false] {
            let context = Context::new();
            let name = "inproc://once";
            let binder = AnySocket::in_context(
                match kind {
                    SocketKind::Sub => SocketKind::XPub,
                    SocketKind::Pub => SocketKind::XSub,
                    _ => SocketKind::Router,
                },
                &context,
            );
            let socket = AnySocket::in_context(kind, &context);
            if binder_first {
                binder.bind(name).expect("bound");
            }
            connect_twice(&socket, name);
            socket.connect(name).expect("connected already");
            if !binder_first {
                binder.bind(name).expect("bound");
            }
            eventually(PATIENCE, "a peer", || binder.stats().connections > 0);
            assert!(
                !holds_within(Duration::from_millis(20), || binder.stats().connections > 1),
                "{kind}, {binder_first}"
            );
            assert_eq!(socket.connected().len(), 1, "{kind}, {binder_first}");
        }
    }
}

#[test]
fn an_inproc_endpoint_whose_binder_has_gone_can_be_connected_anew() {
    let context = Context::new();
    let sub = Sub::in_context(&context);
    sub.subscribe("").expect("open");
    for round in 0..3 {
        let publisher = Pub::in_context(&context);
        publisher.bind("inproc://comes-and-goes").expect("free");
        sub.connect("inproc://comes-and-goes").expect("bound");
        publisher.wait_for_subscribers(1, PATIENCE).expect("it is back");
        publisher.send(round.to_string()).expect("open");
        assert_eq!(sub.recv_timeout(PATIENCE).expect("a message"), round.to_string().as_str());
        publisher.close();
        eventually(PATIENCE, "it is gone", || sub.stats().connections == 0);
    }
}

/// A DEALER of that id that tries again soon.
fn eager_dealer(id: &str) -> Dealer {
    let dealer = Dealer::builder().context(&Context::new()).routing_id(id).linger(Duration::ZERO);
    let dealer = dealer.reconnect_interval(Duration::from_millis(10)).reconnect_max(Duration::from_millis(50));
    dealer.build().expect("good options")
}

#[test]
fn under_libzmqs_profile_a_peer_whose_id_is_in_use_is_refused_and_gets_it_once_it_is_free() {
    let router = Router::builder().context(&Context::new()).profile(Profile::Libzmq);
    let router = router.build().expect("good options");
    let endpoint = router.bind("tcp://127.0.0.1:*").expect("bound");
    let holder = raw_dealer(endpoint.as_str(), "A");
    router.wait_for_peers(1, PATIENCE).expect("the holder");
    let monitor = router.monitor();
    let second = eager_dealer("A");
    second.connect(&endpoint).expect("a good endpoint");
    assert!(refusal(&monitor).contains("the routing id is in use"));
    drop(holder);
    eventually(PATIENCE, "the second one has the id", || {
        let _ = router.try_send_to("A", "for A");
        second.recv_timeout(Duration::from_millis(10)).is_ok()
    });
}

#[test]
fn a_peer_that_was_told_first_gets_the_id_it_announces_once_the_holder_is_gone() {
    let router = Router::builder().context(&Context::new()).mandatory(true).build().expect("good options");
    let endpoint = router.bind("tcp://127.0.0.1:*").expect("bound");
    let holder = raw_dealer(endpoint.as_str(), "A");
    router.wait_for_peers(1, PATIENCE).expect("the holder");
    let mut second = waiting(endpoint.as_str());
    second.write_all(&[&ready_with_id("A")[..], &frame(false, b"early")].concat()).expect("open");
    let (id, message) = router.recv_timeout(PATIENCE).expect("a message");
    assert!(id != *b"A" && message == "early", "{id:?} {message:?}");
    drop(holder);
    eventually(PATIENCE, "one peer is left", || router.stats().connections == 1);
    router.send_to("A", "for A").expect("routable");
    let mut answer = [0; 7];
    second.read_exact(&mut answer).expect("the message");
    assert_eq!(&answer[..], frame(false, b"for A"));
    second.write_all(&frame(false, b"late")).expect("open");
    let (id, message) = router.recv_timeout(PATIENCE).expect("a message");
    assert!(id == *b"A" && message == "late", "{id:?} {message:?}");
}

#[test]
fn what_is_reserved_with_a_peer_reaches_it_under_the_id_it_gets_meanwhile() {
    let router = Router::builder().context(&Context::new()).mandatory(true).build().expect("good options");
    let endpoint = router.bind("tcp://127.0.0.1:*").expect("bound");
    let holder = raw_dealer(endpoint.as_str(), "A");
    router.wait_for_peers(1, PATIENCE).expect("the holder");
    let mut second = waiting(endpoint.as_str());
    second.write_all(&[&ready_with_id("A")[..], &frame(false, b"early")].concat()).expect("open");
    let (_, message) = router.recv_timeout(PATIENCE).expect("a message");
    let room = router.reserve_to(message.peer().expect("it came from a peer")).expect("it has room");
    drop(holder);
    eventually(PATIENCE, "one peer is left", || router.stats().connections == 1);
    room.send("reserved").expect("it is there");
    let mut sent = [0; 10];
    second.read_exact(&mut sent).expect("the message");
    assert_eq!(&sent[..], frame(false, b"reserved"));
}

#[test]
fn a_router_that_refused_a_stranger_at_an_endpoint_can_disconnect_the_peer_it_had_there() {
    let context = Context::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (router, endpoint) = connecting_router(&context, &listener);
    let bound = router.bind("tcp://127.0.0.1:*").expect("bound");
    let _holder = raw_dealer(bound.as_str(), "taken");
    router.wait_for_peers(1, PATIENCE).expect("the holder");
    let first = serve_as(&listener, "first");
    router.wait_for_peers(2, PATIENCE).expect("the first server");
    let monitor = router.monitor();
    drop(first);
    let _stranger = serve_as(&listener, "taken");
    assert!(refusal(&monitor).contains("the routing id is in use"));
    router.disconnect(&endpoint).expect("connected");
    let gone = router.send_to("first", "too late").expect_err("it gets nothing new");
    assert_eq!(gone.reason, SendFailure::Unroutable);
    eventually(PATIENCE, "the first one is gone", || router.peers().len() == 1);
}
