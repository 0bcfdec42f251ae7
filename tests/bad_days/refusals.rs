//! Bad endpoints, bad options, calls in the wrong state: the error names the value and says what is allowed.

use crate::support::{Nobody, Over, PATIENCE, eventually};
use std::time::Duration;
use wiremesh::{
    AnySocket, Builder, Context, Dealer, Error, Event, EventKind, Message, Pub, Pull, Push, RecvError, Rep, Req,
    RequestError, Router, SendFailure, Setting, SocketKind, Sub, XPub,
};

/// What to do with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Bind,
    Connect,
}
use Verb::{Bind, Connect};

const BOTH: &[Verb] = &[Bind, Connect];

/// Endpoints that are not, and what the error says of them beside the endpoint itself.
const BAD_ENDPOINTS: &[(&str, &[Verb], &str)] = &[
    ("", BOTH, "tcp://host:port"),
    ("tcp", BOTH, "tcp://host:port"),
    ("tcp:", BOTH, "tcp://host:port"),
    ("tcp:/127.0.0.1:1", BOTH, "tcp://host:port"),
    ("127.0.0.1:5555", BOTH, "tcp://host:port"),
    ("tcp://", BOTH, "host:port"),
    ("ipc://", BOTH, "path"),
    ("inproc://", BOTH, "name"),
    ("://x", BOTH, "letters, digits"),
    ("t cp://127.0.0.1:1", BOTH, "letters, digits"),
    ("tcp://:", BOTH, "host is missing"),
    ("tcp://:5555", BOTH, "host is missing"),
    ("tcp://127.0.0.1", BOTH, "port is missing"),
    ("tcp://127.0.0.1:", BOTH, "0 to 65535"),
    ("tcp://127.0.0.1:x", BOTH, "0 to 65535"),
    ("tcp://127.0.0.1:65536", BOTH, "0 to 65535"),
    ("tcp://127.0.0.1:-1", BOTH, "0 to 65535"),
    ("tcp://127.0.0.1:+1", BOTH, "0 to 65535"),
    ("tcp://127.0.0.1: 1", BOTH, "0 to 65535"),
    ("tcp://127.0.0.1:99999999999999999999", BOTH, "0 to 65535"),
    ("tcp://127.0.0.1:5555/path", BOTH, "0 to 65535"),
    ("tcp://127.0.0.1:0", &[Connect], "1 to 65535"),
    ("tcp://127.0.0.1:*", &[Connect], "to connect"),
    ("tcp://*:5555", &[Connect], "to connect"),
    ("tcp://127.0.0.1:0;127.0.0.1:1", &[Bind], "for connecting"),
    ("tcp://::1:5555", BOTH, "in brackets"),
    ("tcp://[::1:5555", BOTH, "closing ']'"),
    ("tcp://[::1]", BOTH, "port is missing"),
    ("tcp://[zz]:5", BOTH, "not an IPv6 address"),
    ("tcp://256.1.1.1:1", BOTH, "0 to 255"),
    ("tcp://a b:1", BOTH, "cannot stand in a host"),
    ("ipc://@", BOTH, "name after '@'"),
    ("ipc://a\0b", BOTH, "NUL"),
    ("ipc://*", &[Connect], "to connect"),
    ("udp://127.0.0.1:1", BOTH, "ipc, tcp, inproc"),
    ("TCP://127.0.0.1:1", BOTH, "ipc, tcp, inproc"),
    ("x-y.z+1://z", BOTH, "ipc, tcp, inproc"),
];

#[test]
fn a_bad_endpoint_is_named_with_what_is_allowed() {
    let context = Context::new();
    let mut wrong = Vec::new();
    for kind in [SocketKind::Pull, SocketKind::Router, SocketKind::Sub] {
        let socket = AnySocket::in_context(kind, &context);
        for (endpoint, verbs, allowed) in BAD_ENDPOINTS {
            for verb in *verbs {
                match apply(&socket, *verb, endpoint) {
                    Err(error @ (Error::InvalidEndpoint { .. } | Error::UnknownScheme { .. })) => {
                        let text = error.to_string();
                        // It is named as it was given, but for what cannot be seen.
                        let shown = endpoint.replace('\0', "\\u{0}");
                        if !text.contains(&shown) || !text.contains(allowed) {
                            wrong.push(format!("{kind} {verb:?}: `{text}` does not say `{allowed}`"));
                        }
                    }
                    other => wrong.push(format!("{kind} {verb:?} {endpoint:?}: {other:?}")),
                }
            }
        }
        assert!(socket.bound().is_empty() && socket.connected().is_empty(), "nothing came of it");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn apply(socket: &AnySocket, verb: Verb, endpoint: &str) -> Result<wiremesh::Endpoint, Error> {
    match verb {
        Bind => socket.bind(endpoint),
        Connect => socket.connect(endpoint),
    }
}

#[test]
fn an_endpoint_beyond_every_limit_is_an_error_too() {
    let context = Context::new();
    let pull = AnySocket::in_context(SocketKind::Pull, &context);
    for (endpoint, allowed) in [
        (format!("ipc:///tmp/{}", "x".repeat(200)), "are allowed"),
        (format!("ipc://@{}", "x".repeat(200)), "are allowed"),
        (format!("tcp://{}:1", "x".repeat(70_000)), "4096"),
        (format!("inproc://{}", "x".repeat(70_000)), "4096"),
        (format!("{}://x", "x".repeat(70_000)), "4096"),
    ] {
        for verb in BOTH {
            let text = apply(&pull, *verb, &endpoint).expect_err("too long").to_string();
            assert!(text.contains(allowed), "{verb:?}: {}", &text[text.len().saturating_sub(200)..]);
        }
    }
}

#[test]
fn what_the_system_refuses_names_the_endpoint_and_the_cause() {
    let context = Context::new();
    let pull = Pull::in_context(&context);
    for endpoint in
        ["ipc:///no/such/folder/at/all", "tcp://203.0.113.1:0", "tcp://no-such-name.invalid:0", "ipc:///dev/null"]
    {
        let error = pull.bind(endpoint).expect_err(endpoint);
        assert!(matches!(error, Error::System { .. } | Error::AddressInUse { .. }), "{endpoint}: {error:?}");
        assert!(error.to_string().contains(endpoint), "{endpoint}: {error}");
    }
    for over in Over::ALL {
        let bound = pull.bind(over.wildcard()).expect("bound");
        let other = Pull::in_context(&context);
        let error = other.bind(&bound).expect_err("in use");
        assert!(matches!(error, Error::AddressInUse { .. }), "{over:?}: {error:?}");
        assert!(error.to_string().contains(bound.as_str()), "{error}");
    }
    let file = std::env::temp_dir().join(format!("no-socket-{}", std::process::id()));
    std::fs::write(&file, "precious").expect("a file");
    let error = pull.bind(format!("ipc://{}", file.display())).expect_err("a file that is no socket");
    assert_eq!(std::fs::read_to_string(&file).expect("it is still there"), "precious", "{error}");
    std::fs::remove_file(&file).expect("ours");
}

#[test]
fn endpoints_a_socket_does_not_have_are_named_beside_those_it_has() {
    let context = Context::new();
    let pull = Pull::in_context(&context);
    let bound = pull.bind("tcp://127.0.0.1:*").expect("bound");
    let nobody = Nobody::new();
    pull.connect(&nobody.endpoint).expect("a good endpoint");
    let text = pull.unbind("tcp://127.0.0.1:1").expect_err("not bound there").to_string();
    assert!(text.contains("tcp://127.0.0.1:1") && text.contains(bound.as_str()), "{text}");
    let text = pull.disconnect("tcp://127.0.0.1:1").expect_err("not connected there").to_string();
    assert!(text.contains("tcp://127.0.0.1:1") && text.contains(&nobody.endpoint), "{text}");
    pull.unbind(&bound).expect("once");
    let text = pull.unbind(&bound).expect_err("not twice").to_string();
    assert!(text.contains("none"), "{text}");
}

/// A builder that cannot build, and what the error says.
fn refused<S: wiremesh::Face>(builder: Builder<S>, option: &str, value: &str, allowed: &str) {
    let Err(error) = builder.build() else { panic!("`{option}` = {value} is taken") };
    let text = error.to_string();
    assert!(matches!(error, Error::Option { option: named, .. } if named == option), "{text}");
    assert!(text.contains(value), "`{option}`: `{text}` does not name {value}");
    assert!(text.contains(allowed), "`{option}`: `{text}` does not say `{allowed}`");
}

#[test]
fn a_bad_option_is_named_with_what_is_allowed() {
    let second = Duration::from_secs(1);
    refused(Push::builder().half_open_limit(0u32), "half_open_limit", "0", "1 or more");
    refused(Push::builder().backlog(0u32), "backlog", "0", "1 or more");
    refused(Push::builder().max_message_frames(0u32), "max_message_frames", "0", "1 or more");
    refused(Push::builder().spin(second * 2), "spin", "2s", "up to 1 s");
    refused(Push::builder().heartbeat_ttl(second * 7000), "heartbeat_ttl", "7000s", "up to 6553.5 s");
    refused(Dealer::builder().routing_id("\0one"), "routing_id", "\\0one", "up to 255 octets, the first not zero");
    refused(Dealer::builder().routing_id("x".repeat(256)), "routing_id", "xxx", "up to 255 octets, the first not zero");
    refused(Router::builder().connect_routing_id("\0"), "connect_routing_id", "\\0", "up to 255 octets");
    let named = |name: &str| Push::builder().metadata(vec![(name.to_owned(), bytes::Bytes::new())]);
    refused(named("X-Bad Name"), "metadata", "X-Bad Name", "letters, digits and - _ . +");
    refused(named(""), "metadata", "", "letters, digits and - _ . +");
    refused(named("Identity"), "metadata", "Identity", "start with X-");
    // The first one counts.
    refused(Push::builder().backlog(0u32).half_open_limit(0u32), "backlog", "0", "1 or more");
}

/// READY is sent before authentication, where a peer takes 64 KiB and no more.
#[test]
fn metadata_that_no_peer_would_accept_is_refused() {
    let large = vec![("X-Large".to_owned(), bytes::Bytes::from(vec![0; 70_000]))];
    let Err(error) = Push::builder().metadata(large).build() else { panic!("taken") };
    assert!(error.to_string().contains("metadata"), "{error}");
}

#[test]
fn an_option_of_a_live_socket_is_checked_as_in_the_builder() {
    let context = Context::new();
    let push = Push::in_context(&context);
    let error = push.set(Setting::HalfOpenLimit(0)).expect_err("not allowed").to_string();
    assert!(error.contains("half_open_limit") && error.contains("1 or more"), "{error}");
    let error = push.set(Setting::Conflate(true)).expect_err("too late").to_string();
    assert!(error.contains("conflate") && error.contains("builder"), "{error}");
    let bad = vec![("X-Bad Name".to_owned(), bytes::Bytes::new())];
    assert!(push.set(Setting::Metadata(bad)).is_err(), "a property that cannot be sent");
    assert_eq!(push.options().half_open_limit, 1024, "nothing has changed");
    push.set(Setting::SendMark(5)).expect("live");
    assert_eq!(push.options().send_mark, 5);
}

#[test]
fn calls_in_the_wrong_state_say_which_call_is_due() {
    let context = Context::new();
    let (req, rep) = (Req::in_context(&context), Rep::in_context(&context));
    rep.bind("inproc://lockstep").expect("bound");
    req.connect("inproc://lockstep").expect("a good endpoint");
    let state = |error: RecvError| match error {
        RecvError::WrongState(text) => text,
        other => panic!("{other}"),
    };
    assert!(state(req.recv().expect_err("nothing asked")).contains("no request"));
    let error = rep.send("answer").expect_err("nothing asked");
    assert!(matches!(error.reason, SendFailure::WrongState(text) if text.contains("no request")), "{error}");
    assert_eq!(error.message, "answer", "the message comes back");
    req.send("question").expect("the REP is there");
    let error = req.send("another").expect_err("one at a time");
    assert!(matches!(error.reason, SendFailure::WrongState(text) if text.contains("reply")), "{error}");
    assert_eq!(error.message, "another");
    rep.recv_timeout(PATIENCE).expect("the question");
    assert!(state(rep.recv().expect_err("answer first")).contains("not been answered"));
    rep.send("answer").expect("it was asked");
    assert_eq!(req.recv_timeout(PATIENCE).expect("the answer"), "answer");
    assert!(state(req.recv().expect_err("once")).contains("no request"));
    let alone = Req::in_context(&context);
    match alone.request("anybody?", Duration::from_millis(1)) {
        Err(RequestError::Send(error)) => assert_eq!(error.message, "anybody?"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn verbs_a_kind_lacks_are_refused_by_name() {
    let context = Context::new();
    for kind in SocketKind::ALL {
        let socket = AnySocket::in_context(kind, &context);
        let sends = !matches!(kind, SocketKind::Pull | SocketKind::Sub);
        let receives = !matches!(kind, SocketKind::Push | SocketKind::Pub);
        let refused = socket
            .try_send("x")
            .is_err_and(|error| matches!(error.reason, SendFailure::NotSupported { kind: named, .. } if named == kind));
        assert_eq!(refused, !sends, "{kind} sends");
        let refused = matches!(socket.try_recv(), Err(RecvError::NotSupported { kind: named, .. }) if named == kind);
        assert_eq!(refused, !receives, "{kind} receives");
        for (outcome, supported) in [
            (socket.subscribe("x"), kind.subscribes()),
            (socket.unsubscribe("x").map(|_| ()), kind.subscribes()),
            (socket.wait_for_subscribers(0, Duration::ZERO), kind.publishes()),
        ] {
            match outcome {
                Ok(()) => assert!(supported, "{kind}"),
                Err(Error::NotSupported { kind: named, .. }) => assert!(named == kind && !supported, "{kind}"),
                Err(error) => panic!("{kind}: {error}"),
            }
        }
    }
    let publisher = XPub::in_context(&context);
    let error = publisher.subscribe_last("x").expect_err("not manual").to_string();
    assert!(error.contains("manual"), "{error}");
}

#[test]
fn what_a_router_cannot_send_comes_back() {
    let context = Context::new();
    let router = Router::builder().context(&context).mandatory(true).build().expect("good options");
    router.bind("inproc://router").expect("bound");
    let error = router.send_to("nobody", "lost").expect_err("nobody there");
    assert_eq!((error.reason, &error.message), (SendFailure::Unroutable, &Message::from("lost")));
    let any = AnySocket::in_context(SocketKind::Router, &context);
    let error = any.try_send("no routing id").expect_err("one frame");
    assert!(matches!(error.reason, SendFailure::Unacceptable(text) if text.contains("routing id")), "{error}");
}

#[test]
fn nothing_is_waited_for_that_is_not_waited_for() {
    let context = Context::new();
    let push = Push::in_context(&context);
    assert_eq!(push.try_send("x").expect_err("nobody").reason, SendFailure::WouldBlock);
    assert_eq!(push.send_timeout("x", Duration::ZERO).expect_err("nobody").reason, SendFailure::TimedOut);
    let pull = Pull::in_context(&context);
    assert_eq!(pull.try_recv(), Err(RecvError::WouldBlock));
    assert_eq!(pull.recv_timeout(Duration::from_millis(1)), Err(RecvError::TimedOut));
    let error = pull.wait_for_peers(5, Duration::from_millis(1)).expect_err("nobody").to_string();
    assert!(error.contains("0 of 5 peers"), "{error}");
    let publisher = Pub::in_context(&context);
    let error = publisher.wait_for_subscribers(2, Duration::from_millis(1)).expect_err("nobody").to_string();
    assert!(error.contains("0 of 2 subscribers"), "{error}");
    publisher.send("to nobody").expect("a PUB never waits");
    let sub = Sub::in_context(&context);
    assert!(!sub.unsubscribe("never").expect("no error"));
    // No limit that the clock can say is as good as none, and not an error.
    let long = Duration::MAX;
    push.connect("inproc://there").expect("either side first");
    push.send_timeout("x", long).expect("queued");
    pull.bind("inproc://there").expect("bound");
    assert_eq!(pull.recv_timeout(long).expect("it is there"), "x");
}

#[test]
fn a_connecting_endpoint_waits_however_long_it_is_told_to() {
    let long = Duration::MAX;
    for (interval, most) in [(Duration::from_millis(1), long), (long, long), (long, Duration::ZERO)] {
        let settings = [
            Setting::ConnectTimeout(Some(long)),
            Setting::ReconnectInterval(Some(interval)),
            Setting::ReconnectMax(most),
        ];
        let push = Push::in_context(&Context::new());
        for setting in settings {
            push.set(setting).expect("any time");
        }
        let monitor = push.monitor();
        let nobody = Nobody::new();
        push.connect(&nobody.endpoint).expect("a good endpoint");
        let retries = |event: Event| matches!(event.kind, EventKind::ConnectRetried(_));
        eventually(PATIENCE, "nobody is there", || monitor.try_recv().is_some_and(retries));
        push.try_send("waits").expect("the socket lives");
        push.set(Setting::Linger(Some(Duration::ZERO))).expect("any time");
    }
}
