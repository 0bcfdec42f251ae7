//! A message of more frames than its peer accepts: as with one of too many octets, the peer is not sent it, and what
//! becomes of it is counted and told.

use crate::order::greet;
use crate::support::raw::{Raw, command, property};
use crate::support::{Over, PATIENCE, eventually};
use std::io::Read;
use std::time::Duration;
use wiremesh::{
    AnySocket, Context, Dealer, EventKind, Message, Pub, Pull, Push, Refusal, Rep, Req, RequestError, SendFailure,
    Setting, SocketKind, Sub,
};

const MOST: u32 = 10;

/// A message of so many frames.
fn frames(count: usize) -> Message {
    (0..count).map(|number| [number as u8; 3]).collect()
}

fn too_many(reason: SendFailure, wanted: usize) -> bool {
    matches!(reason, SendFailure::TooManyFrames { frames, limit } if frames == wanted as u64 && limit == u64::from(MOST))
}

/// Contexts of two sockets that are to meet.
fn contexts(over: Over) -> (Context, Context) {
    let context = Context::new();
    let other = if over == Over::Inproc { context.clone() } else { Context::new() };
    (context, other)
}

/// A socket that takes messages of [`MOST`] frames at most.
fn limited(kind: SocketKind, context: &Context) -> AnySocket {
    AnySocket::builder(kind).context(context).max_message_frames(MOST).build().expect("good options")
}

// ----- between our own ends -----

#[test]
fn what_has_more_frames_than_its_only_peer_accepts_is_refused_and_what_is_behind_goes_on() {
    for over in Over::ALL {
        for (sender, receiver) in [
            (SocketKind::Push, SocketKind::Pull),
            (SocketKind::Dealer, SocketKind::Dealer),
            (SocketKind::Pair, SocketKind::Pair),
        ] {
            let (context, other) = contexts(over);
            let (sender, receiver) = (AnySocket::in_context(sender, &context), limited(receiver, &other));
            sender.connect(receiver.bind(over.wildcard()).expect("bound")).expect("a good endpoint");
            sender.wait_for_peers(1, PATIENCE).expect("the peer");
            for count in [11, 1000] {
                let refused = sender.send(frames(count)).expect_err("more than the peer accepts");
                assert!(too_many(refused.reason, count) && refused.message == frames(count), "{:?}", refused.reason);
                assert!(too_many(sender.try_send(frames(count)).expect_err("likewise").reason, count));
                sender.send("behind it").expect("accepted");
                assert_eq!(receiver.recv_timeout(PATIENCE).expect("what is behind it"), "behind it");
            }
            // Longer than 32 KiB, such as its sender writes itself.
            let mut long = frames(10);
            long.push_back(vec![7; 100_000]);
            assert!(too_many(sender.send(long.clone()).expect_err("likewise").reason, 11));
            long.pop_front();
            for most in [frames(10), long] {
                sender.send(most.clone()).expect("as many as it accepts");
                assert_eq!(receiver.recv_timeout(PATIENCE).expect("the largest"), most);
            }
            assert_eq!((sender.stats().reconnects, sender.stats().dropped.total()), (0, 0), "{over:?}");
        }
    }
}

#[test]
fn peers_that_accept_fewer_frames_are_passed_over() {
    for over in [Over::Tcp, Over::Inproc] {
        for (sender, receiver) in [(SocketKind::Push, SocketKind::Pull), (SocketKind::Dealer, SocketKind::Dealer)] {
            let (context, other) = contexts(over);
            let sender = AnySocket::in_context(sender, &context);
            let (few, many) = (limited(receiver, &other), AnySocket::in_context(receiver, &other));
            let endpoint = sender.bind(over.wildcard()).expect("bound");
            few.connect(&endpoint).expect("good");
            many.connect(&endpoint).expect("good");
            sender.wait_for_peers(2, PATIENCE).expect("both");
            for _ in 0..4 {
                sender.send(frames(11)).expect("one accepts it");
            }
            for _ in 0..4 {
                assert_eq!(many.recv_timeout(PATIENCE).expect("a message").frame_count(), 11);
            }
            sender.send_many([frames(10), frames(10)]).expect("accepted");
            for socket in [&few, &many] {
                socket.recv_timeout(PATIENCE).expect("both have their turns");
            }
            drop(many);
            eventually(PATIENCE, "one is left", || sender.stats().connections == 1);
            assert!(too_many(sender.try_send(frames(11)).expect_err("all accept fewer").reason, 11));
        }
    }
}

/// One peer accepts few frames, the other few octets: neither accepts a message that has many of both.
#[test]
fn what_each_peer_refuses_for_another_reason_is_refused_at_once() {
    for over in [Over::Tcp, Over::Inproc] {
        let (context, other) = contexts(over);
        let push = Push::in_context(&context);
        let few = limited(SocketKind::Pull, &other);
        let small = Pull::builder().context(&other).max_message_size(100u64).build().expect("good");
        let endpoint = push.bind(over.wildcard()).expect("bound");
        few.connect(&endpoint).expect("good");
        small.connect(&endpoint).expect("good");
        push.wait_for_peers(2, PATIENCE).expect("both");
        assert!(too_many(push.send(frames(34)).expect_err("102 octets in 34 frames").reason, 34));
        push.send(frames(33)).expect("one accepts 99 octets");
        assert_eq!(small.recv_timeout(PATIENCE).expect("a message"), frames(33));
        push.send(vec![1; 101]).expect("one accepts one frame");
        assert_eq!(few.recv_timeout(PATIENCE).expect("a message").byte_len(), 101);
    }
}

#[test]
fn frames_queued_before_their_peer_is_there_are_counted_and_told_if_they_are_too_many() {
    for over in [Over::Tcp, Over::Ipc, Over::Inproc] {
        let (context, other) = contexts(over);
        let push =
            Push::builder().context(&context).reconnect_interval(Duration::from_millis(5)).build().expect("good");
        let monitor = push.monitor();
        let endpoint = match over {
            // Somebody else had it first.
            Over::Tcp | Over::Ipc => {
                let before = Pull::in_context(&other);
                let endpoint = before.bind(over.fixed()).expect("bound");
                before.close();
                endpoint.to_string()
            }
            Over::Inproc => over.wildcard(),
        };
        push.connect(&endpoint).expect("good");
        let sent = [frames(1), frames(11), frames(10), frames(300), "behind".into()];
        for message in &sent {
            push.send(message.clone()).expect("nobody has refused it yet");
        }
        let pull = limited(SocketKind::Pull, &other);
        pull.bind(&endpoint).expect("bound");
        for message in [&sent[0], &sent[2], &sent[4]] {
            assert_eq!(pull.recv_timeout(PATIENCE).expect("a message"), *message);
        }
        eventually(PATIENCE, "all is settled", || push.stats().queued == 0);
        let stats = push.stats();
        assert_eq!((stats.dropped.too_large, stats.dropped.total(), stats.written), (2, 2, 3), "{over:?}");
        assert!(stats.is_balanced(), "{stats:?}");
        let told = std::iter::from_fn(|| monitor.try_recv()).filter_map(|event| match event.kind {
            EventKind::GivenUp { octets, refusal } => Some((octets, refusal)),
            _ => None,
        });
        let refusal = |frames| Refusal::TooManyFrames { frames, limit: u64::from(MOST) };
        assert_eq!(told.collect::<Vec<_>>(), [(33, refusal(11)), (900, refusal(300))], "{over:?}");
    }
}

#[test]
fn a_publisher_drops_for_the_subscriber_that_accepts_fewer_frames_and_for_no_other() {
    for (over, nodrop) in [(Over::Tcp, false), (Over::Tcp, true), (Over::Inproc, false), (Over::Inproc, true)] {
        let (context, other) = contexts(over);
        let publisher = Pub::builder().context(&context).nodrop(nodrop).build().expect("good options");
        let endpoint = publisher.bind(over.wildcard()).expect("bound");
        // More than two, so that they share what is encoded once.
        let subs: Vec<Sub> = [MOST, 1000, 1000, 1000]
            .into_iter()
            .map(|most| {
                let sub = Sub::builder().context(&other).max_message_frames(most).build().expect("good");
                sub.subscribe("").expect("open");
                sub.connect(&endpoint).expect("good");
                sub
            })
            .collect();
        publisher.wait_for_subscribers(4, PATIENCE).expect("all");
        publisher.send_timeout(frames(11), PATIENCE).expect("accepted");
        publisher.send("behind it").expect("accepted");
        for (number, sub) in subs.iter().enumerate() {
            if number > 0 {
                assert_eq!(sub.recv_timeout(PATIENCE).expect("that of many frames").frame_count(), 11);
            }
            assert_eq!(sub.recv_timeout(PATIENCE).expect("that of one"), "behind it");
        }
        let stats = publisher.stats();
        assert_eq!((stats.accepted, stats.dropped.too_large, stats.dropped.total()), (8, 1, 1), "{stats:?}");
        assert!(stats.is_balanced() && stats.reconnects == 0);
    }
}

#[test]
fn an_xsub_drops_for_the_publisher_that_accepts_fewer_frames() {
    for over in [Over::Tcp, Over::Inproc] {
        let (context, other) = contexts(over);
        let subscriber = AnySocket::in_context(SocketKind::XSub, &context);
        let publisher = limited(SocketKind::XPub, &other);
        subscriber.connect(publisher.bind(over.wildcard()).expect("bound")).expect("good");
        subscriber.wait_for_peers(1, PATIENCE).expect("the peer");
        subscriber.send(frames(11)).expect("an XSUB never waits for its peer");
        subscriber.send("behind it").expect("accepted");
        assert_eq!(publisher.recv_timeout(PATIENCE).expect("what is behind"), "behind it");
        assert_eq!((subscriber.stats().dropped.too_large, subscriber.stats().dropped.total()), (1, 1), "{over:?}");
    }
}

#[test]
fn a_router_drops_frames_that_are_too_many_or_refuses_them_where_it_is_to() {
    for (over, mandatory) in [(Over::Tcp, false), (Over::Tcp, true), (Over::Inproc, false), (Over::Inproc, true)] {
        let (context, other) = contexts(over);
        let router =
            AnySocket::builder(SocketKind::Router).context(&context).mandatory(mandatory).build().expect("good");
        let dealer = Dealer::builder().context(&other).routing_id("D").max_message_frames(MOST).build().expect("good");
        dealer.connect(router.bind(over.wildcard()).expect("bound")).expect("good");
        router.wait_for_peers(1, PATIENCE).expect("the peer");
        match (mandatory, router.send_to("D", frames(11))) {
            (true, Err(error)) => assert!(too_many(error.reason, 11), "{:?}", error.reason),
            (false, Ok(())) => assert_eq!(router.stats().dropped.too_large, 1),
            (_, other) => panic!("{other:?}"),
        }
        // The routing id in front is no frame that the peer gets.
        let mut most = frames(10);
        most.push_front("D");
        router.send(most).expect("accepted");
        assert_eq!(dealer.recv_timeout(PATIENCE).expect("as many as it accepts"), frames(10));
        assert!(router.stats().is_balanced());
    }
}

#[test]
fn the_frames_of_an_envelope_count_for_the_peer_that_gets_them() {
    for over in [Over::Tcp, Over::Inproc] {
        let (context, other) = contexts(over);
        // A request has an empty frame in front, and under `request` its number before that.
        let (req, rep) = (Req::in_context(&context), limited(SocketKind::Rep, &other));
        req.connect(rep.bind(over.wildcard()).expect("bound")).expect("good");
        req.wait_for_peers(1, PATIENCE).expect("the peer");
        assert!(too_many(req.send(frames(10)).expect_err("11 with the empty frame").reason, 11));
        match req.request(frames(9), PATIENCE) {
            Err(RequestError::Send(error)) => assert!(too_many(error.reason, 11), "{:?}", error.reason),
            other => panic!("{other:?}"),
        }
        let reserved = req.reserve_timeout(PATIENCE).expect("room").send(frames(10));
        assert!(too_many(reserved.expect_err("likewise").reason, 11));
        req.send(frames(9)).expect("10 with the empty frame");
        assert_eq!(rep.recv_timeout(PATIENCE).expect("the request"), frames(9));
        rep.send("answer").expect("accepted");
        assert_eq!(req.recv_timeout(PATIENCE).expect("the answer"), "answer");
        // So has a reply, which is dropped.
        let (req, rep) = (limited(SocketKind::Req, &context), Rep::in_context(&other));
        req.connect(rep.bind(over.wildcard()).expect("bound")).expect("good");
        req.send("much, please").expect("accepted");
        rep.recv_timeout(PATIENCE).expect("the request");
        rep.send(frames(10)).expect("a REP never waits for its peer");
        assert_eq!((rep.stats().dropped.too_large, rep.stats().dropped.total()), (1, 1), "{over:?}");
    }
}

/// A server behind a ROUTER gets no number, so that one frame more is left for the request.
#[test]
fn a_request_to_a_router_has_one_frame_in_front() {
    let (context, other) = (Context::new(), Context::new());
    let (req, router) = (Req::in_context(&context), limited(SocketKind::Router, &other));
    req.connect(router.bind("tcp://127.0.0.1:*").expect("bound")).expect("good");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut asked = router.recv_timeout(PATIENCE).expect("a request of 10 frames");
            while asked.frame_count() > 3 {
                asked.pop_back();
            }
            router.send(asked).expect("routable");
        });
        let reply = req.request(frames(9), PATIENCE).expect("it has as many frames as its peer accepts");
        assert_eq!(reply, frames(1));
    });
}

#[test]
fn room_reserved_with_a_peer_that_accepts_fewer_frames_is_given_back() {
    for over in [Over::Tcp, Over::Inproc] {
        let (context, other) = contexts(over);
        let push = Push::builder().context(&context).send_mark(1u32).build().expect("good");
        let pull = Pull::builder().context(&other).receive_mark(1u32).max_message_frames(MOST).build().expect("good");
        push.connect(pull.bind(over.wildcard()).expect("bound")).expect("good");
        push.wait_for_peers(1, PATIENCE).expect("the peer");
        for _ in 0..3 {
            let refused = push.reserve_timeout(PATIENCE).expect("room").send(frames(11)).expect_err("too many");
            assert!(too_many(refused.reason, 11), "{:?}", refused.reason);
        }
        push.send_timeout("small", PATIENCE).expect("accepted");
        assert_eq!(pull.recv_timeout(PATIENCE).expect("a message"), "small");
    }
}

#[test]
fn no_kind_sends_more_frames_than_its_own_limit() {
    let context = Context::new();
    for kind in SocketKind::ALL {
        if matches!(kind, SocketKind::Pull | SocketKind::Sub) {
            continue;
        }
        let socket = limited(kind, &context);
        // The routing id in front of a ROUTER's is none of them.
        let more = usize::from(kind == SocketKind::Router);
        assert!(too_many(socket.try_send(frames(11 + more)).expect_err("too many").reason, 11), "{kind}");
        let most = socket.try_send(frames(10 + more)).err().map(|error| error.reason);
        assert!(!matches!(most, Some(SendFailure::TooManyFrames { .. })), "{kind}: {most:?}");
        socket.set(Setting::MaxMessageFrames(11)).expect("it may change");
        let more = socket.try_send(frames(11 + more)).err().map(|error| error.reason);
        assert!(!matches!(more, Some(SendFailure::TooManyFrames { .. })), "{kind}: {more:?}");
    }
}

// ----- older and later ones -----

/// A PULL made of bytes that has announced this, and a message of 1,000 frames of one octet that was sent to it or not.
fn push_to(announced: &[u8]) -> (Raw, Result<(), SendFailure>) {
    let push = Push::in_context(&Context::new());
    let mut ready = b"\x05READY".to_vec();
    property(&mut ready, "Socket-Type", b"PULL");
    property(&mut ready, "X-Wiremesh", announced);
    let mut raw = greet(push.bind("tcp://127.0.0.1:*").expect("bound").as_str(), &command(&ready));
    push.wait_for_peers(1, PATIENCE).expect("the peer");
    let message: Message = (0..1000).map(|_| [7]).collect();
    let sent = push.send_timeout(message, PATIENCE).map_err(|error| error.reason);
    if sent.is_ok() {
        push.flush(PATIENCE).expect("written");
    }
    let mut theirs = [0; 66];
    raw.read_exact(&mut theirs).expect("a greeting and a header");
    raw.read_exact(&mut vec![0; theirs[65].into()]).expect("a READY");
    (raw, sent)
}

fn announcement(version: u8, most: &[u8]) -> Vec<u8> {
    [&[version, 0], &[0xff; 8][..], &[9; 16], most].concat()
}

#[test]
fn a_peer_of_the_version_before_is_sent_any_number_of_frames() {
    for announced in [announcement(1, &[]), announcement(2, &[0xff; 4])] {
        let (mut raw, sent) = push_to(&announced);
        assert_eq!(sent, Ok(()));
        let mut message = vec![0; 3000];
        raw.read_exact(&mut message).expect("all of it");
        assert!(message.chunks(3).all(|frame| frame[1..] == [1, 7]));
    }
}

#[test]
fn what_a_later_version_adds_takes_nothing_from_what_we_know() {
    for (version, more) in [(2, &[][..]), (3, &[0xff; 10]), (200, &[0; 100])] {
        let announced = announcement(version, &[&999u32.to_be_bytes()[..], more].concat());
        let (_, sent) = push_to(&announced);
        assert_eq!(sent, Err(SendFailure::TooManyFrames { frames: 1000, limit: 999 }), "version {version}");
    }
}

// ----- against others -----

/// One of ours that announces nothing is what a foreign peer is: it ends the connection over so many frames.
fn against_one_that_says_nothing(count: usize) {
    let (context, other) = (Context::new(), Context::new());
    let pull = Pull::builder()
        .context(&other)
        .announce(false)
        .max_message_frames(1000u32)
        // Its system takes no message whole that it does not read.
        .receive_buffer(64 << 10)
        .build()
        .expect("good");
    let push = Push::builder().context(&context).reconnect_interval(Duration::from_millis(10)).build().expect("good");
    let monitor = push.monitor();
    push.connect(pull.bind("tcp://127.0.0.1:*").expect("bound")).expect("good");
    push.send("first").expect("accepted");
    assert_eq!(pull.recv_timeout(PATIENCE).expect("a message"), "first");
    let many: Message = (0..count).map(|_| [7; 20]).collect();
    push.send(many).expect("accepted");
    push.send("behind it").expect("accepted");
    assert_eq!(pull.recv_timeout(PATIENCE).expect("what is behind it"), "behind it");
    push.flush(PATIENCE).expect("nothing is left");
    let stats = push.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!((stats.written, stats.dropped.given_up, stats.dropped.total()), (2, 1, 1), "{stats:?}");
    let told = std::iter::from_fn(|| monitor.try_recv()).filter_map(|event| match event.kind {
        EventKind::GivenUp { octets, refusal } => Some((octets, refusal)),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [(20 * count as u64, Refusal::Closed { times: 3 })]);
}

#[test]
fn frames_that_another_peer_never_takes_are_given_up_after_three_closings() {
    against_one_that_says_nothing(1_000_000);
}

/// All of it fits into what the system keeps to be sent.
#[test]
fn frames_that_fit_into_the_send_buffer_take_nothing_along_that_stands_behind_them() {
    against_one_that_says_nothing(100_000);
}
