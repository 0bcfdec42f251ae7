//! One message that the peer will not take: it stops nothing else, and what becomes of it is counted and told.

use crate::support::raw::{Raw, command, greeting, ready};
use crate::support::{Over, PATIENCE, eventually, is_full};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use wiremesh::{
    AnySocket, Context, Dealer, EventKind, Message, Monitor, Pub, Pull, Push, Refusal, Rep, Req, Router, SendFailure,
    SocketKind, Stats, Sub,
};

const MIB: usize = 1 << 20;

fn limited_pull(context: &Context) -> Pull {
    Pull::builder().context(context).max_message_size(MIB as u64).build().expect("good options")
}

fn too_large(reason: SendFailure, wanted: usize) -> bool {
    matches!(reason, SendFailure::TooLarge { size, limit } if size == wanted as u64 && limit == MIB as u64)
}

// ----- between our own ends -----

#[test]
fn a_push_refuses_what_its_peer_has_announced_not_to_accept_and_goes_on() {
    for over in Over::STREAMS {
        let (context, other) = (Context::new(), Context::new());
        let (push, pull) = (Push::in_context(&context), limited_pull(&other));
        push.connect(pull.bind(over.wildcard()).expect("bound")).expect("a good endpoint");
        push.wait_for_peers(1, PATIENCE).expect("the peer");
        for size in [20 * MIB, 2 * MIB, MIB + 1] {
            let borrowed = push.send(&vec![1; size][..]).expect_err("more than the peer accepts");
            assert!(too_large(borrowed.reason, size) && borrowed.message.byte_len() == size, "{:?}", borrowed.reason);
            assert!(too_large(push.try_send(vec![1; size]).expect_err("likewise").reason, size));
            push.send("behind it").expect("accepted");
            assert_eq!(pull.recv_timeout(PATIENCE).expect("what stands behind it"), "behind it");
        }
        push.send(vec![2; MIB]).expect("as much as it accepts");
        assert_eq!(pull.recv_timeout(PATIENCE).expect("the largest").byte_len(), MIB);
        assert_eq!(push.stats().reconnects, 0);
    }
}

#[test]
fn dealers_and_pushes_pass_over_peers_that_accept_less() {
    for (sender, receiver) in [(SocketKind::Push, SocketKind::Pull), (SocketKind::Dealer, SocketKind::Dealer)] {
        let (context, other) = (Context::new(), Context::new());
        let sender = AnySocket::in_context(sender, &context);
        let small = AnySocket::builder(receiver).context(&other).max_message_size(MIB as u64).build().expect("good");
        let large = AnySocket::in_context(receiver, &other);
        let endpoint = sender.bind("tcp://127.0.0.1:*").expect("bound");
        small.connect(&endpoint).expect("good");
        large.connect(&endpoint).expect("good");
        sender.wait_for_peers(2, PATIENCE).expect("both");
        for _ in 0..4 {
            sender.send(vec![1; 2 * MIB]).expect("one accepts it");
        }
        for _ in 0..4 {
            assert_eq!(large.recv_timeout(PATIENCE).expect("a message").byte_len(), 2 * MIB);
        }
        sender.send_many(["a", "b", "c", "d"]).expect("accepted");
        for socket in [&small, &large] {
            for _ in 0..2 {
                socket.recv_timeout(PATIENCE).expect("both have their turns");
            }
        }
        drop(large);
        eventually(PATIENCE, "one is left", || sender.stats().connections == 1);
        assert!(too_large(sender.try_send(vec![1; 2 * MIB]).expect_err("all accept less").reason, 2 * MIB));
    }
}

#[test]
fn what_was_queued_before_the_peer_said_what_it_accepts_is_counted_and_told() {
    let (context, other) = (Context::new(), Context::new());
    let pull = limited_pull(&other);
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    let push = Push::in_context(&context);
    let monitor = push.monitor();
    // Queued on the one connection that there may be later.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let relay = format!("tcp://{}", taken.local_addr().expect("bound"));
    push.connect(&relay).expect("a good endpoint");
    for message in [&vec![1; 10][..], &vec![2; 20 * MIB], &[3; 20], &vec![4; MIB + 1], &vec![5; MIB]] {
        push.send(message).expect("accepted");
    }
    relay_once(&taken, &endpoint.as_str()["tcp://".len()..]);
    let sizes: Vec<usize> = (0..3).map(|_| pull.recv_timeout(PATIENCE).expect("a message").byte_len()).collect();
    assert_eq!(sizes, [10, 20, MIB]);
    // The receiver may have it before the sender has counted it.
    eventually(PATIENCE, "all is counted", || push.stats().queued == 0);
    let stats = push.stats();
    assert_eq!((stats.dropped.too_large, stats.dropped.total(), stats.written), (2, 2, 3));
    assert!(stats.is_balanced(), "{stats:?}");
    let told: Vec<u64> = (0..)
        .map_while(|_| monitor.try_recv())
        .filter_map(|event| match event.kind {
            EventKind::GivenUp { octets, refusal: Refusal::Announced { limit } } if limit == MIB as u64 => Some(octets),
            _ => None,
        })
        .collect();
    assert_eq!(told, [20 * MIB as u64, MIB as u64 + 1]);
}

/// Passes everything on, both ways, for one connection.
fn relay_once(listener: &TcpListener, to: &str) {
    let (near, _) = listener.accept().expect("a connection");
    let far = TcpStream::connect(to).expect("a listener");
    for (mut from, mut to) in [(near.try_clone(), far.try_clone()), (far.try_clone(), near.try_clone())]
        .map(|(from, to)| (from.expect("a handle"), to.expect("a handle")))
    {
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    }
}

#[test]
fn a_publisher_drops_for_the_peer_that_accepts_less_and_for_no_other() {
    for nodrop in [false, true] {
        let (context, other) = (Context::new(), Context::new());
        let publisher = Pub::builder().context(&context).nodrop(nodrop).build().expect("good options");
        let endpoint = publisher.bind("tcp://127.0.0.1:*").expect("bound");
        let subs: Vec<Sub> = (0..4)
            .map(|number| {
                let limit = if number == 0 { MIB } else { 64 * MIB };
                let sub = Sub::builder().context(&other).max_message_size(limit as u64).build().expect("good");
                sub.subscribe("").expect("open");
                sub.connect(&endpoint).expect("good");
                sub
            })
            .collect();
        publisher.wait_for_subscribers(4, PATIENCE).expect("all");
        publisher.send_timeout(vec![1; 2 * MIB], PATIENCE).expect("accepted");
        publisher.send("behind it").expect("accepted");
        for (number, sub) in subs.iter().enumerate() {
            if number > 0 {
                assert_eq!(sub.recv_timeout(PATIENCE).expect("the large one").byte_len(), 2 * MIB);
            }
            assert_eq!(sub.recv_timeout(PATIENCE).expect("the small one"), "behind it");
        }
        let stats = publisher.stats();
        assert_eq!((stats.accepted, stats.dropped.too_large, stats.dropped.total()), (8, 1, 1), "{stats:?}");
        assert!(stats.is_balanced());
    }
}

#[test]
fn routers_and_reps_drop_what_the_addressee_does_not_accept_or_refuse_it_where_they_are_to() {
    let (context, other) = (Context::new(), Context::new());
    for mandatory in [false, true] {
        let router = Router::builder().context(&context).mandatory(mandatory).build().expect("good");
        let dealer =
            Dealer::builder().context(&other).routing_id("D").max_message_size(MIB as u64).build().expect("good");
        dealer.connect(router.bind("tcp://127.0.0.1:*").expect("bound")).expect("good");
        router.wait_for_peers(1, PATIENCE).expect("the peer");
        let sent = router.send_to("D", vec![1; 2 * MIB]);
        match (mandatory, sent) {
            (true, Err(error)) => assert!(too_large(error.reason, 2 * MIB), "{:?}", error.reason),
            (false, Ok(())) => assert_eq!(router.stats().dropped.too_large, 1),
            (_, other) => panic!("{other:?}"),
        }
        router.send_to("D", "behind it").expect("accepted");
        assert_eq!(dealer.recv_timeout(PATIENCE).expect("a message"), "behind it");
        assert!(router.stats().is_balanced());
    }
    let rep = Rep::in_context(&context);
    let req = Req::builder().context(&other).max_message_size(MIB as u64).build().expect("good");
    req.connect(rep.bind("tcp://127.0.0.1:*").expect("bound")).expect("good");
    req.send("much, please").expect("accepted");
    rep.recv_timeout(PATIENCE).expect("the request");
    rep.send(vec![1; 2 * MIB]).expect("a REP never waits for its peer");
    assert_eq!(rep.stats().dropped.too_large, 1);
}

/// A topic of more than a mebibyte travels in a message, which the publisher would refuse with the connection, again
/// and again.
#[test]
fn a_topic_above_what_the_publisher_accepts_is_told_and_keeps_no_other_from_it() {
    let long = vec![b'l'; 2 * MIB];
    for (subscriber, publisher, subscriber_binds) in [
        (SocketKind::Sub, SocketKind::Pub, false),
        (SocketKind::Sub, SocketKind::XPub, true),
        (SocketKind::XSub, SocketKind::XPub, false),
    ] {
        let (context, other) = (Context::new(), Context::new());
        let publisher =
            AnySocket::builder(publisher).context(&context).max_message_size(1000u64).build().expect("good");
        let subscriber = AnySocket::in_context(subscriber, &other);
        let monitor = subscriber.monitor();
        subscriber.subscribe(&long).expect("open");
        subscriber.subscribe("short").expect("open");
        let (binder, connector) = if subscriber_binds { (&subscriber, &publisher) } else { (&publisher, &subscriber) };
        connector.connect(binder.bind("tcp://127.0.0.1:*").expect("bound")).expect("good");
        publisher.wait_for_subscribers_to("short", 1, PATIENCE).expect("the short topic");
        // So it is with one that is asked for, or taken back, while the connection is up.
        subscriber.subscribe([&long[..], b"er"].concat()).expect("open");
        assert!(subscriber.unsubscribe(&long).expect("open"));
        subscriber.subscribe("later").expect("open");
        publisher.wait_for_subscribers_to("later", 1, PATIENCE).expect("the later topic");
        publisher.send("short and good").expect("accepted");
        assert_eq!(subscriber.recv_timeout(PATIENCE).expect("a message"), "short and good");
        assert_eq!(subscriber.stats().reconnects + publisher.stats().reconnects, 0);
        assert_eq!(subscriptions_given_up(&monitor), [(1, 2 * MIB + 1), (1, 2 * MIB + 3)]);
    }
}

/// How many subscriptions each event tells of, and how many octets the longest has; no message was given up.
fn subscriptions_given_up(monitor: &Monitor) -> Vec<(u64, usize)> {
    let told = std::iter::from_fn(|| monitor.try_recv()).filter_map(|event| match event.kind {
        EventKind::SubscriptionsGivenUp { count, octets, refusal: Refusal::Announced { limit: 1000 } } => {
            Some((count, octets as usize))
        }
        EventKind::SubscriptionsGivenUp { .. } | EventKind::GivenUp { .. } => panic!("{event}"),
        _ => None,
    });
    told.collect()
}

/// So many octets are told over several turns.
#[test]
fn of_all_topics_above_what_the_publisher_accepts_each_connection_is_told_by_one_event() {
    let (context, other) = (Context::new(), Context::new());
    let subscriber = Sub::builder().context(&other).reconnect_interval(Duration::from_millis(5)).build().expect("good");
    let monitor = subscriber.monitor();
    for more in 1..=20 {
        subscriber.subscribe(vec![b'l'; MIB + more]).expect("open");
    }
    subscriber.subscribe("short").expect("open");
    let mut endpoint = "tcp://127.0.0.1:*".to_owned();
    for life in 1..=3 {
        let publisher = Pub::builder().context(&context).max_message_size(1000u64).build().expect("good");
        endpoint = publisher.bind(&endpoint).expect("bound").to_string();
        if life == 1 {
            subscriber.connect(&endpoint).expect("good");
        }
        publisher.wait_for_subscribers_to("short", 1, PATIENCE).expect("the short topic");
        assert_eq!(publisher.topic_count(), 1);
        assert_eq!(subscriptions_given_up(&monitor), [(20, MIB + 21)], "life {life}");
    }
}

#[test]
fn what_is_told_of_subscriptions_does_not_speak_of_messages() {
    let refusal = Refusal::Announced { limit: 1000 };
    let told = |count, octets| EventKind::SubscriptionsGivenUp { count, octets, refusal }.to_string();
    assert_eq!(told(1, 2000), "a subscription of 2000 octets was given up: the peer accepts no more than 1000 octets");
    assert_eq!(
        told(3, 2000),
        "3 subscriptions of up to 2000 octets were given up: the peer accepts no more than 1000 octets"
    );
}

#[test]
fn over_inproc_a_message_above_what_the_receiver_accepts_is_not_delivered_either() {
    let context = Context::new();
    for binds in [true, false] {
        let (push, pull) = (Push::in_context(&context), limited_pull(&context));
        let monitor = push.monitor();
        let name = Over::Inproc.wildcard();
        if binds {
            push.bind(&name).expect("bound");
            pull.connect(&name).expect("good");
        } else {
            // What waits before anybody is bound is dropped, counted and told.
            push.connect(&name).expect("good");
            push.send(vec![1; 2 * MIB]).expect("nobody has refused it yet");
            pull.bind(&name).expect("bound");
            assert_eq!(push.stats().dropped.too_large, 1);
            let given_up = |event: wiremesh::Event| {
                matches!(event.kind, EventKind::GivenUp { refusal: Refusal::Announced { .. }, .. })
            };
            assert!(std::iter::from_fn(|| monitor.try_recv()).any(given_up));
        }
        let refused = push.send_timeout(vec![1; MIB + 1], PATIENCE).expect_err("more than the peer accepts");
        assert!(too_large(refused.reason, MIB + 1));
        push.send(vec![2; MIB]).expect("as much as it accepts");
        assert_eq!(pull.recv_timeout(PATIENCE).expect("the largest").byte_len(), MIB);
        assert!(push.stats().is_balanced());
    }
}

#[test]
fn over_inproc_a_publisher_drops_for_the_peer_that_accepts_less_and_dealers_pass_over_it() {
    let context = Context::new();
    for (sender, receiver) in [(SocketKind::Pub, SocketKind::Sub), (SocketKind::Dealer, SocketKind::Dealer)] {
        let sender = AnySocket::in_context(sender, &context);
        let small = AnySocket::builder(receiver).context(&context).max_message_size(MIB as u64).build().expect("good");
        let large = AnySocket::in_context(receiver, &context);
        let endpoint = sender.bind(Over::Inproc.wildcard()).expect("bound");
        for receiver in [&small, &large] {
            if receiver.kind() == SocketKind::Sub {
                receiver.subscribe("").expect("open");
            }
            receiver.connect(&endpoint).expect("good");
        }
        if sender.kind() == SocketKind::Pub {
            sender.wait_for_subscribers(2, PATIENCE).expect("both");
        }
        sender.send(vec![1; 2 * MIB]).expect("one accepts it");
        assert_eq!(large.recv_timeout(PATIENCE).expect("the large one").byte_len(), 2 * MIB);
        assert!(small.try_recv().is_err());
        let dropped = u64::from(sender.kind() == SocketKind::Pub);
        assert_eq!((sender.stats().dropped.too_large, sender.stats().dropped.total()), (dropped, dropped));
    }
}

#[test]
fn where_only_the_newest_message_waits_it_is_refused_all_the_same_if_it_is_above_what_the_peer_accepts() {
    for (over, sender, receiver) in [
        (Over::Tcp, SocketKind::Push, SocketKind::Pull),
        (Over::Tcp, SocketKind::Dealer, SocketKind::Dealer),
        (Over::Inproc, SocketKind::Push, SocketKind::Pull),
    ] {
        let (context, other) = (Context::new(), Context::new());
        let other = if over == Over::Inproc { &context } else { &other };
        let sender = AnySocket::builder(sender).context(&context).conflate(true).build().expect("good options");
        let receiver = AnySocket::builder(receiver).context(other).max_message_size(1000u64).build().expect("good");
        sender.connect(receiver.bind(over.wildcard()).expect("bound")).expect("a good endpoint");
        sender.wait_for_peers(1, PATIENCE).expect("the peer");
        let refused = sender.send(vec![1; 1001]).expect_err("more than the peer accepts").reason;
        assert_eq!(refused, SendFailure::TooLarge { size: 1001, limit: 1000 }, "{over:?}");
        sender.send("newest").expect("accepted");
        assert_eq!(receiver.recv_timeout(PATIENCE).expect("a message"), "newest");
        assert_eq!(sender.stats().reconnects, 0);
    }
}

#[test]
fn no_kind_sends_what_is_above_its_own_limit() {
    let context = Context::new();
    for kind in SocketKind::ALL {
        if matches!(kind, SocketKind::Pull | SocketKind::Sub) {
            continue;
        }
        let socket = AnySocket::builder(kind).context(&context).max_message_size(100_u64).build().expect("good");
        let sent = if kind == SocketKind::Router {
            socket.try_send(Message::from_iter([vec![1; 50], vec![2; 101]]))
        } else {
            socket.try_send(vec![2; 101])
        };
        let reason = sent.expect_err("too large").reason;
        assert_eq!(reason, SendFailure::TooLarge { size: 101, limit: 100 }, "{kind}");
        socket.set(wiremesh::Setting::MaxMessageSize(101)).expect("it may change");
        let sent = socket.try_send(vec![2; 101]).err().map(|error| error.reason);
        assert!(!matches!(sent, Some(SendFailure::TooLarge { .. })), "{kind}: {sent:?}");
    }
}

#[test]
fn messages_of_a_hundred_thousand_frames_are_delivered() {
    for over in Over::ALL {
        let (context, other) = (Context::new(), Context::new());
        let other = if over == Over::Inproc { &context } else { &other };
        let (push, pull) = (Push::in_context(&context), Pull::in_context(other));
        push.connect(pull.bind(over.wildcard()).expect("bound")).expect("good");
        let message: Message = (0..100_000_u32).map(|number| number.to_be_bytes().to_vec()).collect();
        push.send(message.clone()).expect("accepted");
        push.send("behind it").expect("accepted");
        assert!(pull.recv_timeout(PATIENCE).expect("a message") == message, "{over:?}");
        assert_eq!(pull.recv_timeout(PATIENCE).expect("a message"), "behind it");
    }
}

// ----- against others -----

/// A peer that ends the connection as soon as it sees the header of a frame above a mebibyte, and passes on all others.
struct Picky {
    taken: Receiver<Vec<u8>>,
    /// When it ended a connection.
    closed: Receiver<Instant>,
    /// It ends no connection while somebody has this.
    patient: Arc<Mutex<()>>,
    endpoint: String,
}

impl Picky {
    fn start(kind: &'static str) -> Picky {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        // Its system takes no message whole that it does not read, however busy the machine is: that could not be told
        // from one it has read.
        socket2::SockRef::from(&listener).set_recv_buffer_size(64 * 1024).expect("a size");
        let endpoint = format!("tcp://{}", listener.local_addr().expect("bound"));
        let ((to_taken, taken), (to_closed, closed)) = (channel(), channel());
        let patient = Arc::new(Mutex::new(()));
        let is_patient = Arc::clone(&patient);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut raw = Raw::accepted(stream);
                let wanted = match kind {
                    "SUB" => b"\x00\x01\x01".to_vec(),
                    // As many questions as are to be answered, each behind an empty frame.
                    "REQ" => b"\x01\x00\x00\x01?".repeat(6),
                    _ => Vec::new(),
                };
                if raw.shake_hands(kind).and_then(|()| raw.write_all(&wanted)).is_err() {
                    continue;
                }
                while let Ok(body) = frame(&mut raw) {
                    if to_taken.send(body).is_err() {
                        return;
                    }
                }
                drop(is_patient.lock());
                drop(raw);
                if to_closed.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
        Picky { taken, closed, patient, endpoint }
    }

    fn takes(&self) -> Vec<u8> {
        self.taken.recv_timeout(PATIENCE).expect("it takes a message")
    }
}

/// The body of the next frame, unless it is too long.
fn frame(raw: &mut Raw) -> std::io::Result<Vec<u8>> {
    let mut head = [0; 2];
    raw.read_exact(&mut head)?;
    let mut size = u64::from(head[1]);
    if head[0] & 2 != 0 {
        let mut rest = [0; 8];
        rest[0] = head[1];
        raw.read_exact(&mut rest[1..])?;
        size = u64::from_be_bytes(rest);
    }
    if size > MIB as u64 {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; size as usize];
    raw.read_exact(&mut body)?;
    Ok(body)
}

fn quick(builder: wiremesh::Builder<Push>, context: &Context) -> wiremesh::Builder<Push> {
    builder.context(context).reconnect_interval(Duration::from_millis(10))
}

/// A PUSH sends a message of that size to a peer that never takes it, and a small one behind it.
fn against_picky(size: usize, borrowed: bool) -> (Stats, Vec<Instant>) {
    let context = Context::new();
    let picky = Picky::start("PULL");
    let push = quick(Push::builder(), &context).build().expect("good options");
    let monitor = push.monitor();
    push.connect(&picky.endpoint).expect("good");
    push.send("first").expect("accepted");
    assert_eq!(picky.takes(), b"first");
    if borrowed { push.send(&vec![7; size][..]) } else { push.send(vec![7; size]) }.expect("accepted");
    push.send("behind it").expect("accepted");
    assert_eq!(picky.takes(), b"behind it");
    push.flush(PATIENCE).expect("nothing is left");
    let stats = push.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!(
        (stats.accepted, stats.written, stats.dropped.given_up, stats.dropped.total()),
        (3, 2, 1, 1),
        "{stats:?}"
    );
    let told: Vec<_> = (0..)
        .map_while(|_| monitor.try_recv())
        .filter_map(|event| match event.kind {
            EventKind::GivenUp { octets, refusal } => Some((octets, refusal)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(size as u64, Refusal::Closed { times: 3 })]);
    (stats, picky.closed.try_iter().collect())
}

#[test]
fn a_message_that_a_foreign_peer_never_takes_is_given_up_after_three_closings_of_good_connections() {
    for borrowed in [true, false].into_iter().take(if is_full() { 2 } else { 1 }) {
        let (_, closed) = against_picky(20 * MIB, borrowed);
        // The last three connections were let live for a second first.
        let apart: Vec<Duration> = closed.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(closed.len() >= 4, "{apart:?}");
        assert!(apart.iter().rev().take(3).all(|apart| *apart >= Duration::from_millis(990)), "{apart:?}");
    }
}

#[test]
fn a_message_that_fits_into_the_send_buffer_takes_nothing_along_that_stands_behind_it() {
    std::thread::scope(|scope| {
        for borrowed in [true, false] {
            scope.spawn(move || against_picky(2 * MIB, borrowed));
        }
    });
}

#[test]
fn a_dealer_gives_up_as_a_push_does_and_keeps_all_that_is_behind() {
    let context = Context::new();
    let picky = Picky::start("ROUTER");
    let dealer = Dealer::builder()
        .context(&context)
        .reconnect_interval(Duration::from_millis(10))
        .give_up_after(1_u32)
        .build()
        .expect("good options");
    dealer.connect(&picky.endpoint).expect("good");
    dealer.send(Message::from_iter([vec![1; 10], vec![2; 9 * MIB], vec![3; 10]])).expect("accepted");
    for number in 0..1000_u32 {
        dealer.send(number.to_be_bytes().to_vec()).expect("accepted");
    }
    // Its first frame is read again and again.
    let mut next = 0_u32;
    while next < 1000 {
        let body = picky.takes();
        if body != [1; 10] {
            assert_eq!(body, next.to_be_bytes());
            next += 1;
        }
    }
    assert_eq!(dealer.stats().dropped.given_up, 1);
}

/// A socket of that kind sends two messages to a peer that takes neither, one that fits into the send buffer and one
/// that does not, and small ones behind them.
fn sends_behind_it(kind: SocketKind, peer: &'static str) {
    let context = Context::new();
    let picky = Picky::start(peer);
    let socket = AnySocket::builder(kind)
        .context(&context)
        .reconnect_interval(Duration::from_millis(10))
        .give_up_after(1_u32)
        .build()
        .expect("good options");
    match kind {
        SocketKind::Router => socket.connect_as(&picky.endpoint, "peer").expect("a good endpoint"),
        _ => socket.connect(&picky.endpoint).expect("a good endpoint"),
    };
    match kind.publishes() {
        true => socket.wait_for_subscribers(1, PATIENCE).expect("the peer"),
        false => socket.wait_for_peers(1, PATIENCE).expect("the peer"),
    }
    let monitor = socket.monitor();
    let send = |body: Vec<u8>| match kind {
        SocketKind::Router => socket.send_to("peer", body).expect("accepted"),
        SocketKind::Rep => {
            socket.recv_timeout(PATIENCE).expect("a question");
            socket.send(body).expect("accepted");
        }
        _ => socket.send(body).expect("accepted"),
    };
    // Nobody publishes to a subscriber that is away.
    let patient = picky.patient.lock().expect("nobody panics");
    for body in [b"a".to_vec(), vec![7; 20 * MIB], b"b".to_vec(), vec![8; 2 * MIB], b"c".to_vec(), b"d".to_vec()] {
        send(body);
    }
    drop(patient);
    for body in [b"a", b"b", b"c", b"d"] {
        // The empty frame before an answer that is refused is taken each time.
        let taken = std::iter::repeat_with(|| picky.takes()).find(|taken| !taken.is_empty());
        assert_eq!(taken.expect("a message"), body, "{kind}");
    }
    socket.flush(PATIENCE).expect("nothing is left");
    let stats = socket.stats();
    assert_eq!((stats.accepted, stats.written, stats.dropped.given_up, stats.dropped.total()), (6, 4, 2, 2), "{kind}");
    assert!(stats.is_balanced(), "{stats:?}");
    let told: Vec<_> = std::iter::from_fn(|| monitor.try_recv())
        .filter_map(|event| if let EventKind::GivenUp { octets, .. } = event.kind { Some(octets) } else { None })
        .collect();
    assert_eq!(told, [20 * MIB as u64, 2 * MIB as u64], "{kind}");
}

#[test]
fn every_kind_that_connects_and_sends_keeps_what_is_behind_a_message_that_fits_into_the_send_buffer() {
    std::thread::scope(|scope| {
        for (kind, peer) in [
            (SocketKind::Router, "DEALER"),
            (SocketKind::Pub, "SUB"),
            (SocketKind::XPub, "SUB"),
            (SocketKind::XSub, "XPUB"),
            (SocketKind::Pair, "PAIR"),
            (SocketKind::Rep, "REQ"),
        ] {
            scope.spawn(move || sends_behind_it(kind, peer));
        }
    });
}

#[test]
fn a_message_is_never_given_up_where_that_is_switched_off() {
    let context = Context::new();
    let picky = Picky::start("PULL");
    let push = quick(Push::builder(), &context).give_up_after(0_u32).build().expect("good options");
    push.connect(&picky.endpoint).expect("good");
    push.send(vec![7; 20 * MIB]).expect("accepted");
    push.send("behind it").expect("accepted");
    for _ in 0..6 {
        picky.closed.recv_timeout(PATIENCE).expect("it is tried again");
    }
    let stats = push.stats();
    assert_eq!((stats.queued, stats.dropped.total()), (2, 0), "{stats:?}");
}

#[test]
fn a_server_that_is_restarted_in_the_middle_of_a_message_again_and_again_loses_nothing() {
    let context = Context::new();
    let push = quick(Push::builder(), &context).build().expect("good options");
    let port = {
        // A port that is free between the lives of the server.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound")
    };
    push.connect(format!("tcp://{port}")).expect("good");
    push.send(vec![7; 20 * MIB]).expect("accepted");
    push.send("behind it").expect("accepted");
    for _ in 0..3 {
        let listener = listen_again(port);
        let mut raw = Raw::accepted(listener.accept().expect("a connection").0);
        raw.shake_hands("PULL").expect("good");
        // In the middle of the message, on a connection that is a second old, …
        let begin = Instant::now();
        let mut some = vec![0; 65536];
        let mut got = 0;
        while got < 4 * MIB || begin.elapsed() < Duration::from_millis(1050) {
            got += raw.read(&mut some[..if got < 4 * MIB { 65536 } else { 64 }]).expect("it goes on");
            if got >= 4 * MIB {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        // … it dies, and for a while nobody listens.
        let refused = push.monitor();
        drop((raw, listener));
        eventually(PATIENCE, "an attempt is refused", || {
            std::iter::from_fn(|| refused.try_recv()).any(|event| matches!(event.kind, EventKind::Closed(_)))
        });
    }
    let listener = listen_again(port);
    let mut raw = Raw::accepted(listener.accept().expect("a connection").0);
    raw.shake_hands("PULL").expect("good");
    let mut message = vec![0; 9 + 20 * MIB + 2 + 9];
    raw.read_exact(&mut message).expect("all of it");
    assert!(message[9..][..20 * MIB].iter().all(|octet| *octet == 7) && message.ends_with(b"behind it"));
    assert_eq!(push.stats().dropped.total(), 0);
}

fn listen_again(address: std::net::SocketAddr) -> TcpListener {
    let mut listener = None;
    eventually(PATIENCE, "the port is free", || {
        listener = TcpListener::bind(address).ok();
        listener.is_some()
    });
    listener.expect("bound")
}

// ----- the wait before a new attempt -----

/// The waits that a socket announces before its attempts, while its peer lets `serve` do something with each of several
/// connections, and closes it.
fn waits(kind: SocketKind, serve: impl Fn(&mut Raw)) -> Vec<Duration> {
    const CONNECTIONS: usize = 9;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let socket = AnySocket::builder(kind)
        .context(&Context::new())
        .reconnect_interval(Duration::from_millis(2))
        .reconnect_max(Duration::from_secs(60))
        .build()
        .expect("good options");
    let monitor = socket.monitor();
    socket.connect(format!("tcp://{}", listener.local_addr().expect("bound"))).expect("good");
    for _ in 0..CONNECTIONS {
        let mut raw = Raw::accepted(listener.accept().expect("it connects").0);
        if kind == SocketKind::Push {
            // There is always something to take.
            let _ = socket.try_send("message");
        }
        serve(&mut raw);
    }
    let told = std::iter::from_fn(|| monitor.try_recv());
    told.filter_map(|event| if let EventKind::ConnectRetried(wait) = event.kind { Some(wait) } else { None }).collect()
}

/// As a socket of that kind, with what it says besides in the same breath.
fn greet(raw: &mut Raw, kind: &str, more: &[u8]) {
    raw.write_all(&[&greeting()[..], &ready(kind), more].concat()).expect("open");
    let mut theirs = [0; 66];
    raw.read_exact(&mut theirs).expect("a greeting");
    let mut body = vec![0; theirs[65].into()];
    raw.read_exact(&mut body).expect("a READY");
}

#[test]
fn what_proves_nothing_of_a_peer_lets_the_waits_for_it_grow_and_a_message_that_it_has_taken_does_not() {
    let subscribes = waits(SocketKind::Pub, |raw| greet(raw, "SUB", &command(b"\x09SUBSCRIBEtopic")));
    let takes_half = waits(SocketKind::Push, |raw| {
        greet(raw, "PULL", &[]);
        let _ = raw.read(&mut [0]);
    });
    let takes = waits(SocketKind::Push, |raw| {
        greet(raw, "PULL", &[]);
        let _ = raw.read_exact(&mut [0; 9]);
        // What else has come is read as well, so that its end is not a reset.
        raw.set_read_timeout(Duration::from_millis(1));
        while raw.read(&mut [0; 4096]).is_ok_and(|got| got > 0) {}
    });
    let sends = waits(SocketKind::Pull, |raw| greet(raw, "PUSH", b"\x00\x01m"));
    println!("{subscribes:?}\n{takes_half:?}\n{takes:?}\n{sends:?}");
    // Waits of 2 to 22 ms, or such that double with each from the fourth on.
    let longest = |waits: &[Duration]| waits.iter().max().copied().unwrap_or_default();
    for (grown, name) in [(subscribes, "subscribes"), (takes_half, "takes half a message")] {
        assert!(longest(&grown) >= Duration::from_millis(100), "{name}: {grown:?}");
    }
    for (steady, name) in [(takes, "takes"), (sends, "sends")] {
        assert!(longest(&steady) <= Duration::from_millis(22), "{name}: {steady:?}");
    }
}
