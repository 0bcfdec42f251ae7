//! The suite every transport has to pass at the level of sockets: stamped for tcp, ipc, inproc, for a scheme registered
//! by a third party, and for each of the byte transports with engine threads alone driving.

#[macro_use]
mod common;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::{LONG, Net, until};
use wiremesh::transports::{AddressError, LinkOptions, Listener, Purpose, Stream, Tcp, Transport};
use wiremesh::{
    AnySocket, Context, Dealer, Error, Message, Pair, Pub, Pull, Push, RecvError, Rep, Req, Router, SendFailure,
    Socket, SocketKind, Sub,
};

/// A transport of somebody else: tcp under another name.
struct Guest;

impl Transport for Guest {
    fn scheme(&self) -> &str {
        "guest"
    }

    fn check(&self, address: &str, purpose: Purpose) -> Result<(), AddressError> {
        Tcp.check(address, purpose)
    }

    fn resolve(&self, address: &str, options: &LinkOptions) -> io::Result<Vec<String>> {
        Tcp.resolve(address, options)
    }

    fn bind(&self, address: &str, options: &LinkOptions) -> io::Result<Box<dyn Listener>> {
        Tcp.bind(address, options)
    }

    fn connect(&self, resolved: &str, options: &LinkOptions) -> io::Result<Box<dyn Stream>> {
        Tcp.connect(resolved, options)
    }
}

/// A context in which the guest is known, driven as the name says.
fn net(name: &'static str) -> Net {
    let engine_only = name.starts_with("engine_");
    let context = Context::builder().drop_wait(Some(Duration::from_millis(100))).engine_only(engine_only).build();
    context.register_transport(Arc::new(Guest)).unwrap();
    // The addresses of the guest are those of tcp.
    Net::with(name.trim_start_matches("engine_"), context)
}

over!(crate::net => [tcp ipc inproc guest engine_tcp engine_ipc engine_guest]:
    every_pair_of_kinds_that_may_talk_does
    kinds_that_may_not_talk_do_not
    messages_of_every_size_arrive_whole_and_in_order
    bodies_around_the_buffer_sizes_arrive
    either_side_may_come_first
    a_full_peer_stops_the_sender_and_nobody_else
    a_peer_that_goes_is_noticed_and_what_it_sent_stays
    a_peer_that_comes_back_is_served_again
    an_endpoint_is_given_back_on_unbind_and_on_close
    an_endpoint_in_use_is_refused
    both_ends_know_each_other
    many_connections_to_one_endpoint
    a_publisher_reaches_each_subscriber_once
    conversations_do_not_disturb_each_other
    close_ends_what_waits
    what_was_accepted_is_delivered_after_close
    the_numbers_add_up
);

fn pipe(net: &Net) -> (Push, Pull, String) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    let endpoint = net.join(&pull, &[&push]);
    (push, pull, endpoint)
}

fn every_pair_of_kinds_that_may_talk_does(net: &Net) {
    for left in SocketKind::ALL {
        for right in SocketKind::ALL.into_iter().filter(|right| left.accepts(*right)) {
            let named = |kind: SocketKind, id: &str| {
                let builder = AnySocket::builder(kind).context(&net.context);
                if kind.announces_identity() { builder.routing_id(id).build() } else { builder.build() }
            };
            let (one, other) = (named(left, "one").unwrap(), named(right, "other").unwrap());
            net.join(&one, &[&other]);
            let message = match (left, right) {
                (SocketKind::Pub | SocketKind::XPub, _) => {
                    other.subscribe("").unwrap();
                    one.wait_for_subscribers(1, LONG).unwrap();
                    Message::from("news")
                }
                // These only listen to `one`; their turn comes with the sides swapped.
                (SocketKind::Pull | SocketKind::Sub | SocketKind::XSub | SocketKind::Rep, _) => continue,
                (SocketKind::Router, SocketKind::Req) => continue,
                (SocketKind::Router, _) => Message::from_iter(["other", "hello"]),
                (SocketKind::Dealer, SocketKind::Rep) => Message::from_iter(["", "hello"]),
                (SocketKind::Pair | SocketKind::Req | SocketKind::Dealer | SocketKind::Push, _) => {
                    Message::from("hello")
                }
            };
            one.send(message).unwrap();
            let got = other.recv_timeout(LONG).unwrap();
            assert!(got.iter().any(|frame| frame == b"hello" || frame == b"news"), "{left} to {right}: {got:?}");
        }
    }
}

fn kinds_that_may_not_talk_do_not(net: &Net) {
    for (left, right) in [
        (SocketKind::Push, SocketKind::Push),
        (SocketKind::Pub, SocketKind::Pull),
        (SocketKind::Req, SocketKind::Dealer),
        (SocketKind::Pair, SocketKind::Dealer),
        (SocketKind::Rep, SocketKind::Router),
    ] {
        let one = AnySocket::in_context(left, &net.context);
        let other = AnySocket::in_context(right, &net.context);
        let endpoint = net.fresh();
        one.bind(&endpoint).unwrap();
        if net.is_stream() {
            let monitor = one.monitor();
            other.connect(&endpoint).unwrap();
            while monitor.recv_timeout(LONG).unwrap().kind.number() & 0x6800 == 0 {}
        } else {
            other.connect(&endpoint).unwrap_err();
        }
        assert_eq!((one.stats().connections, other.stats().connections), (0, 0), "{left} and {right}");
    }
}

fn messages_of_every_size_arrive_whole_and_in_order(net: &Net) {
    let (push, pull, _) = pipe(net);
    let sizes: Vec<usize> = (0..17).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            for (number, size) in sizes.iter().enumerate() {
                let frames = [number.to_le_bytes().to_vec(), vec![number as u8; *size]];
                push.send(Message::from_iter(frames)).unwrap();
            }
        });
        for (number, size) in sizes.iter().enumerate() {
            let message = pull.recv_timeout(LONG).unwrap();
            assert_eq!(message.first(), number.to_le_bytes());
            let body = message.frame(1).unwrap();
            assert!(body.len() == *size && body.iter().all(|octet| *octet == number as u8));
        }
    });
}

fn bodies_around_the_buffer_sizes_arrive(net: &Net) {
    let (push, pull, _) = pipe(net);
    for size in [65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 3 << 20] {
        thread::scope(|scope| {
            scope.spawn(|| push.send(vec![0x5a; size]).unwrap());
            assert!(pull.recv_timeout(LONG).unwrap().first() == vec![0x5a; size], "{size}");
        });
    }
}

fn either_side_may_come_first(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    let endpoint = net.fresh();
    push.connect(&endpoint).unwrap();
    push.send("queued").unwrap();
    pull.bind(&endpoint).unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "queued");
}

fn a_full_peer_stops_the_sender_and_nobody_else(net: &Net) {
    let push = Push::builder().context(&net.context).send_mark(3u32).send_buffer(4096usize).build().unwrap();
    let [full, free] = [(); 2]
        .map(|()| Pull::builder().context(&net.context).receive_mark(3u32).receive_buffer(4096usize).build().unwrap());
    net.join(&push, &[&full, &free]);
    thread::scope(|scope| {
        // One reads what it gets until the other, who reads nothing, is all that is left.
        let reader = scope.spawn(|| {
            let mut count = 0;
            loop {
                match free.recv_timeout(LONG).unwrap() {
                    end if end == "end" => return count,
                    _ => count += 1,
                }
            }
        });
        for _ in 0..200 {
            push.send_timeout(vec![0; 10_000], LONG).unwrap();
        }
        let slow = push.peers().iter().map(|peer| peer.stats.accepted).min().unwrap();
        // The end goes to whoever has room; the full one gets room by being read in the end.
        let mut ends = 0;
        while !reader.is_finished() {
            if push.send_timeout("end", Duration::from_millis(20)).is_ok() {
                ends += 1;
            }
        }
        let quick = reader.join().unwrap();
        assert!(quick > 100, "the free one got {quick} of 200, the full one {slow}");
        let mut rest = 0;
        while rest + quick < 200 {
            if full.recv_timeout(LONG).unwrap() != "end" {
                rest += 1;
            }
        }
        assert!(ends >= 1);
    });
}

fn a_peer_that_goes_is_noticed_and_what_it_sent_stays(net: &Net) {
    let (push, pull, _) = pipe(net);
    let monitor = pull.monitor();
    push.send_many((0..200u32).map(u32::to_le_bytes)).unwrap();
    drop(push);
    while monitor.recv_timeout(LONG).unwrap().kind.number() != 0x0200 {}
    assert_eq!(pull.stats().connections, 0);
    for number in 0..200u32 {
        assert_eq!(pull.recv_timeout(LONG).unwrap(), number.to_le_bytes());
    }
}

fn a_peer_that_comes_back_is_served_again(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let endpoint = net.fresh();
    pull.bind(&endpoint).unwrap();
    for round in 0..20u8 {
        let push = Push::in_context(&net.context);
        push.connect(&endpoint).unwrap();
        push.send([round]).unwrap();
        assert_eq!(pull.recv_timeout(LONG).unwrap(), [round]);
    }
}

/// Binds as soon as the endpoint is free.
fn bind_when_free(socket: &Socket, endpoint: &str) {
    until("the endpoint is free", || match socket.bind(endpoint) {
        Ok(_) => true,
        Err(error) => {
            assert!(matches!(error, Error::AddressInUse { .. }), "{error}");
            false
        }
    });
}

fn an_endpoint_is_given_back_on_unbind_and_on_close(net: &Net) {
    let endpoint = net.fresh();
    for unbind in [true, false, true] {
        let pull = Pull::in_context(&net.context);
        bind_when_free(&pull, &endpoint);
        if unbind {
            pull.unbind(&endpoint).unwrap();
        }
    }
    bind_when_free(&Pull::in_context(&net.context), &endpoint);
}

fn an_endpoint_in_use_is_refused(net: &Net) {
    let (first, second) = (Pull::in_context(&net.context), Pull::in_context(&net.context));
    let endpoint = net.fresh();
    first.bind(&endpoint).unwrap();
    assert!(matches!(second.bind(&endpoint), Err(Error::AddressInUse { .. })));
}

fn both_ends_know_each_other(net: &Net) {
    let router = Router::in_context(&net.context);
    let dealer = Dealer::builder().context(&net.context).routing_id("dealer").build().unwrap();
    let endpoint = net.join(&router, &[&dealer]);
    let (at_router, at_dealer) = (&router.peers()[0], &dealer.peers()[0]);
    assert_eq!((at_router.kind, at_dealer.kind), (Some(SocketKind::Dealer), Some(SocketKind::Router)));
    assert_eq!((&at_router.endpoint, &at_dealer.endpoint), (&endpoint, &endpoint));
    assert_eq!(at_router.routing_id, "dealer");
    assert!(at_router.connected && at_dealer.connected);
    assert_eq!(at_dealer.address.is_empty(), !net.is_stream());
}

fn many_connections_to_one_endpoint(net: &Net) {
    let router = Router::in_context(&net.context);
    let dealers: Vec<Dealer> = (0..64).map(|_| Dealer::in_context(&net.context)).collect();
    let sockets: Vec<&Socket> = dealers.iter().map(|dealer| &**dealer).collect();
    net.join(&router, &sockets);
    for (number, dealer) in dealers.iter().enumerate() {
        dealer.send(number.to_le_bytes()).unwrap();
    }
    for _ in &dealers {
        let (id, message) = router.recv_timeout(LONG).unwrap();
        router.send_to(id, message).unwrap();
    }
    for (number, dealer) in dealers.iter().enumerate() {
        assert_eq!(dealer.recv_timeout(LONG).unwrap(), number.to_le_bytes());
    }
}

fn a_publisher_reaches_each_subscriber_once(net: &Net) {
    let publisher = Pub::in_context(&net.context);
    let subscribers = ["a", "b", "", "ab"].map(|topic| {
        let subscriber = Sub::in_context(&net.context);
        subscriber.subscribe(topic).unwrap();
        subscriber
    });
    net.join(&publisher, &[&subscribers[0], &subscribers[1], &subscribers[2], &subscribers[3]]);
    publisher.wait_for_subscribers(4, LONG).unwrap();
    publisher.send_many(["abc", "b", "a", "ab"]).unwrap();
    let heard: [&[&str]; 4] = [&["abc", "a", "ab"], &["b"], &["abc", "b", "a", "ab"], &["abc", "ab"]];
    for (subscriber, heard) in subscribers.iter().zip(heard) {
        for wanted in heard {
            assert_eq!(subscriber.recv_timeout(LONG).unwrap(), *wanted);
        }
        assert_eq!(subscriber.try_recv().unwrap_err(), RecvError::WouldBlock);
    }
}

fn conversations_do_not_disturb_each_other(net: &Net) {
    let endpoints: Vec<(Rep, String)> = (0..4)
        .map(|_| {
            let rep = Rep::in_context(&net.context);
            let endpoint = net.fresh();
            rep.bind(&endpoint).unwrap();
            (rep, endpoint)
        })
        .collect();
    let context = &net.context;
    thread::scope(|scope| {
        for (number, (rep, endpoint)) in endpoints.iter().enumerate() {
            scope.spawn(move || {
                for _ in 0..200 {
                    let request = rep.recv_timeout(LONG).unwrap();
                    rep.send(request).unwrap();
                }
            });
            scope.spawn(move || {
                let req = Req::in_context(context);
                req.connect(endpoint).unwrap();
                for round in 0..200usize {
                    let question = [number.to_le_bytes(), round.to_le_bytes()].concat();
                    assert_eq!(req.request(question.as_slice(), LONG).unwrap(), question);
                }
            });
        }
    });
}

fn close_ends_what_waits(net: &Net) {
    let (push, pull, _) = pipe(net);
    let full = Push::builder().context(&net.context).send_mark(1u32).build().unwrap();
    full.connect(net.fresh()).unwrap();
    full.send("fills the queue").unwrap();
    thread::scope(|scope| {
        let receiver = scope.spawn(|| pull.recv());
        let sender = scope.spawn(|| full.send("waits"));
        pull.close();
        full.close();
        assert_eq!(receiver.join().unwrap().unwrap_err(), RecvError::Closed);
        assert_eq!(sender.join().unwrap().unwrap_err().reason, SendFailure::Closed);
    });
    drop(push);
}

fn what_was_accepted_is_delivered_after_close(net: &Net) {
    let (push, pull, _) = pipe(net);
    push.send_many((0..3000u32).map(|number| vec![number as u8; 700])).unwrap();
    drop(push);
    for number in 0..3000u32 {
        assert_eq!(pull.recv_timeout(LONG).unwrap(), vec![number as u8; 700]);
    }
}

fn the_numbers_add_up(net: &Net) {
    let [left, right] = [(); 2].map(|()| Pair::in_context(&net.context));
    net.join(&left, &[&right]);
    for number in 0..100usize {
        left.send(vec![0; number]).unwrap();
    }
    for _ in 0..100 {
        right.recv_timeout(LONG).unwrap();
    }
    left.flush(LONG).unwrap();
    let (sent, received) = (left.stats(), right.stats());
    assert!(sent.is_balanced());
    assert_eq!((sent.accepted, sent.written, received.received, received.unread), (100, 100, 100, 0));
}

#[test]
fn a_guest_may_not_take_a_scheme_that_is_there() {
    struct Thief(&'static str);

    impl Transport for Thief {
        fn scheme(&self) -> &str {
            self.0
        }

        fn check(&self, _: &str, _: Purpose) -> Result<(), AddressError> {
            Ok(())
        }

        fn resolve(&self, _: &str, _: &LinkOptions) -> io::Result<Vec<String>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn bind(&self, _: &str, _: &LinkOptions) -> io::Result<Box<dyn Listener>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn connect(&self, _: &str, _: &LinkOptions) -> io::Result<Box<dyn Stream>> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    let context = Net::new("guest").context;
    for scheme in ["tcp", "ipc", "inproc", "", "Upper", "1st", "with space"] {
        let error = context.register_transport(Arc::new(Thief(scheme))).unwrap_err();
        assert!(error.to_string().contains(scheme), "{error}");
    }
    context.register_transport(Arc::new(Thief("thief"))).unwrap();
    assert!(context.register_transport(Arc::new(Thief("thief"))).is_err());
    let pull = Pull::in_context(&context);
    assert!(matches!(pull.bind("thief://x"), Err(Error::System { .. })));
    // A scheme belongs to the context it was registered with.
    assert!(matches!(Pull::new().bind("thief://x"), Err(Error::UnknownScheme { .. })));
}
