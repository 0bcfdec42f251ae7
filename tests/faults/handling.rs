//! What a newcomer does with messages, frames, ids and peers, and met refusals or somebody else's values.

use crate::support::PATIENCE;
use std::borrow::Cow;
use std::collections::HashSet;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;
use wiremesh::{
    AnySocket, Context, Dealer, Endpoint, EventKind, Frame, IntoMessage, Message, MessageError, PeerId, Pull, Push,
    Router, RoutingId, SendFailure, Setting, SocketKind,
};

#[test]
fn whatever_is_several_frames_is_a_message() {
    let text = "text".to_owned();
    let octets = vec![1, 2];
    let frames = |message: &dyn Fn() -> Message| message().into_frames().collect::<Vec<Frame>>();
    let two: Vec<Frame> = vec!["text".into(), [1, 2].into()];
    fn of(message: impl IntoMessage) -> Message {
        message.into_message()
    }
    assert_eq!(frames(&|| of(("text", [1, 2]))), two);
    assert_eq!(frames(&|| of((text.clone(), octets.clone()))), two);
    assert_eq!(frames(&|| of((&text, &octets))), two);
    assert_eq!(frames(&|| of((Frame::from("text"), bytes::Bytes::from(octets.clone())))), two);
    assert_eq!(frames(&|| of((Cow::from("text"), &octets[..]))), two);
    assert_eq!(frames(&|| of([b"text".to_vec(), octets.clone()])), two);
    assert_eq!(frames(&|| of([text.as_bytes(), &octets])), two);
    assert_eq!(frames(&|| of(vec![b"text".to_vec(), octets.clone()])), two);
    assert_eq!(frames(&|| of(vec![text.as_bytes(), &octets])), two);
    assert_eq!(frames(&|| of(&[b"text".to_vec(), octets.clone()])), two);
    let kept = vec![b"text".to_vec(), octets.clone()];
    assert_eq!(frames(&|| of(&kept)), two);
    assert_eq!(frames(&|| of([bytes::Bytes::from("text"), bytes::Bytes::from(octets.clone())])), two);
    assert_eq!(of([[1, 2], [3, 4]]).frame_count(), 2);
    assert_eq!(of([&text, &text]).frame_count(), 2);
    assert_eq!(of(vec![text.clone(), text.clone(), text.clone()]).frame_count(), 3);
    assert_eq!(of(&["a", "b"][..]).frame_count(), 2);
    assert_eq!(of(("alone",)).frame_count(), 1);
    assert_eq!(of(("a", "b", "c", "d", "e", "f", "g", 8_u64.to_le_bytes())).frame_count(), 8);
    assert_eq!(of(Vec::<String>::new()).frame_count(), 1, "there is no message without a frame");
    assert_eq!(of([1, 2, 3]), [1, 2, 3], "octets are one frame");
    assert_eq!(of(Cow::from("one")), "one");
}

#[test]
fn messages_of_mixed_frames_travel_and_are_taken_apart() {
    let context = Context::new();
    let (push, pull) = (Push::in_context(&context), Pull::in_context(&context));
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    push.connect(&endpoint).expect("connected");
    push.send(("topic", vec![7; 100_000], String::new())).expect("accepted");
    let message = pull.recv_timeout(PATIENCE).expect("it comes");
    let [topic, body, end] = message.as_array().expect("three frames");
    assert_eq!((topic.to_str(), body.len(), end.len()), (Ok("topic"), 100_000, 0));
    assert_eq!(message[1].len(), 100_000);
    assert_eq!(message.frame_count(), 3);
    let mut lengths = Vec::new();
    for frame in &message {
        lengths.push(frame.len());
    }
    assert_eq!(lengths, [5, 100_000, 0]);
    assert_eq!(message.to_str(), Err(MessageError::FrameCount { there: 3, wanted: 1 }));
    let [topic, _, _] = message.into_array().expect("three frames");
    assert_eq!(topic, "topic");
}

#[test]
fn a_routing_id_is_compared_with_whatever_is_octets() {
    let id = RoutingId::from("C");
    assert!(id == *b"C" && id == b"C" && id == "C" && id == *"C" && id == b"C"[..] && id == b"C".to_vec());
    let (text, frame, octets) = ("C".to_owned(), Frame::from("C"), bytes::Bytes::from("C"));
    assert!(id == text && id == frame && id == octets);
    assert!(*b"C" == id && "C" == id && *b"D" != id);
    assert_eq!((id.to_string(), RoutingId::from([0, 1, b'x']).to_string()), ("C".into(), r"\x00\x01x".into()));
    let known = HashSet::from([id]);
    assert!(known.contains(&b"C"[..]));
}

#[test]
fn a_peer_of_another_socket_is_nobody() {
    let context = Context::new();
    let (left, right) = (Pull::in_context(&context), Pull::in_context(&context));
    let (push, other) = (Push::in_context(&context), Push::in_context(&context));
    left.bind("inproc://left").expect("bound");
    right.bind("inproc://right").expect("bound");
    push.connect("inproc://left").expect("connected");
    other.connect("inproc://right").expect("connected");
    push.send("hello").expect("accepted");
    other.send("hello").expect("accepted");
    let [of_left, of_right] = [&left, &right].map(|pull| pull.recv_timeout(PATIENCE).expect("it comes"));
    let [of_left, of_right] = [of_left, of_right].map(|message| message.peer().expect("it has a sender"));
    assert_ne!(of_left, of_right);
    assert!(left.peer(of_left).is_some() && right.peer(of_right).is_some());
    assert!(left.peer(of_right).is_none() && right.peer(of_left).is_none());
    assert!(push.peer(of_left).is_none() && push.peer(of_right).is_none());
    // Nor is one that is gone.
    drop(push);
    assert!(right.peer(of_left).is_none());
}

/// A ROUTER with two dealers that have said their names, and whom they are.
fn router(context: &Context, over: &str) -> (Router, [Dealer; 2], [PeerId; 2]) {
    let router = Router::builder().context(context).mandatory(true).build().expect("good options");
    let endpoint = router.bind(over).expect("bound");
    let dealers = ["a", "b"].map(|name| {
        let dealer = Dealer::builder().context(context).routing_id(name).build().expect("good options");
        dealer.connect(&endpoint).expect("connected");
        dealer.send(name).expect("accepted");
        dealer
    });
    let mut peers = [None; 2];
    for _ in 0..2 {
        let (id, message) = router.recv_timeout(PATIENCE).expect("it comes");
        peers[usize::from(id == *b"b")] = message.peer();
    }
    (router, dealers, peers.map(|peer| peer.expect("both have come")))
}

#[test]
fn a_router_sends_to_the_peer_that_a_message_came_from() {
    let context = Context::new();
    for over in ["tcp://127.0.0.1:*", "inproc://by-peer"] {
        let (router, dealers, peers) = router(&context, over);
        for (dealer, peer) in dealers.iter().zip(peers) {
            let name = dealer.options().routing_id;
            router.send_to(peer, name.clone()).expect("it is there");
            router.try_send_to(peer, name.clone()).expect("it is there");
            router.send_to_timeout(peer, name.clone(), PATIENCE).expect("it is there");
            router.send_many([(peer, name.clone())]).expect("it is there");
            router.reserve_to(peer).expect("it has room").send(name.clone()).expect("it is there");
            for _ in 0..5 {
                assert_eq!(dealer.recv_timeout(PATIENCE).expect("it comes"), name);
            }
        }
    }
}

#[test]
fn a_router_sends_nothing_to_a_peer_of_another_socket_or_one_that_is_gone() {
    let context = Context::new();
    let (near, dealers, peers) = router(&context, "inproc://near");
    let (_far, _, others) = router(&context, "inproc://far");
    for stranger in others {
        let error = near.send_to(stranger, "lost").expect_err("it is the peer of another socket");
        assert_eq!((error.reason, error.message), (SendFailure::Unroutable, "lost".into()));
        assert_eq!(near.reserve_to(stranger).expect_err("a stranger"), SendFailure::Unroutable);
    }
    let [a, b] = dealers;
    drop(a);
    crate::support::eventually(PATIENCE, "the peer is gone", || near.send_to(peers[0], "late").is_err());
    near.send_to(peers[1], "still there").expect("it is there");
    assert_eq!(b.recv_timeout(PATIENCE).expect("it comes"), "still there");
    // Whoever has that routing id next is somebody else.
    let again = Dealer::builder().context(&context).routing_id("a").build().expect("good options");
    again.connect("inproc://near").expect("connected");
    near.send_to("a", "by name").expect("it is there");
    assert_eq!(near.send_to(peers[0], "by peer").expect_err("gone").reason, SendFailure::Unroutable);
    assert_eq!(again.recv_timeout(PATIENCE).expect("it comes"), "by name");
    assert!(again.try_recv().is_err());
    let any = AnySocket::in_context(SocketKind::Dealer, &context);
    let refused = any.send_to(peers[0], "no").expect_err("a DEALER");
    assert!(matches!(refused.reason, SendFailure::NotSupported { .. }), "{refused}");
}

#[test]
fn builders_and_settings_take_whatever_is_text_or_octets() {
    let (name, octets) = ("worker".to_owned(), b"worker".to_vec());
    let context = Context::new();
    let id_of =
        |builder: wiremesh::Builder<Dealer>| builder.context(&context).build().expect("good").options().routing_id;
    assert_eq!(id_of(Dealer::builder().routing_id(&name)), "worker");
    assert_eq!(id_of(Dealer::builder().routing_id(name.clone())), "worker");
    assert_eq!(id_of(Dealer::builder().routing_id(b"worker")), "worker");
    assert_eq!(id_of(Dealer::builder().routing_id(*b"worker")), "worker");
    assert_eq!(id_of(Dealer::builder().routing_id(&octets)), "worker");
    let id = RoutingId::from("worker");
    assert_eq!(id_of(Dealer::builder().routing_id(&id)), "worker");
    assert_eq!(id_of(Dealer::builder().routing_id(id)), "worker");
    assert_eq!(id_of(Dealer::builder().set(Setting::routing_id(&name))), "worker");
    assert_eq!(id_of(Dealer::builder().set(Setting::routing_id(*b"worker"))), "worker");
    let pull = Pull::builder().context(&context).metadata([("X-Rack", "12"), ("X-Row", "b")]).build().expect("good");
    assert_eq!(pull.options().metadata, [("X-Rack".to_owned(), "12".into()), ("X-Row".to_owned(), "b".into())]);
    pull.set(Setting::metadata(vec![("X-Rack", "13")])).expect("good");
    pull.set(Setting::receive_timeout(Duration::from_secs(1))).expect("good");
    pull.set(Setting::receive_mark(7)).expect("good");
    let algorithm = "reno".to_owned();
    pull.set(Setting::tcp_congestion_control(&algorithm)).expect("good");
    assert_eq!(algorithm, "reno", "it is still ours");
    let options = pull.options();
    assert_eq!((options.metadata.len(), options.receive_mark), (1, 7));
    assert_eq!(options.receive_timeout, Some(Duration::from_secs(1)));
    assert_eq!(options.tcp_congestion_control.as_deref(), Some("reno"));
}

#[test]
fn metadata_is_given_as_whatever_lists_or_maps_names_and_values() {
    let context = Context::new();
    let (rack, row) = ("X-Rack".to_owned(), "X-Row".to_owned());
    let wanted = vec![(rack.clone(), bytes::Bytes::from("12")), (row.clone(), "b".into())];
    let of = |builder: wiremesh::Builder<Pull>| builder.context(&context).build().expect("good").options().metadata;
    let as_read = vec![(rack.clone(), "12".to_owned()), (row.clone(), "b".to_owned())];
    assert_eq!(of(Pull::builder().metadata(&as_read)), wanted);
    assert_eq!(of(Pull::builder().metadata(&as_read[..])), wanted);
    assert_eq!(of(Pull::builder().metadata(&[("X-Rack", "12"), ("X-Row", "b")][..])), wanted);
    let sorted: std::collections::BTreeMap<_, _> = as_read.iter().cloned().collect();
    assert_eq!(of(Pull::builder().metadata(sorted)), wanted);
    let map: std::collections::HashMap<_, _> = as_read.into_iter().collect();
    assert_eq!(of(Pull::builder().metadata(map)).len(), 2);
    let cow = String::from_utf8_lossy(b"worker");
    let dealer = Dealer::builder().context(&context).routing_id(cow).build().expect("good");
    assert_eq!(dealer.options().routing_id, "worker");
}

#[test]
fn every_monitor_is_told_everything_from_when_it_was_made() {
    let context = Context::new();
    let pull = Pull::in_context(&context);
    let early = [pull.monitor(), pull.monitor()];
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    assert!(endpoint.port().is_some_and(|port| port > 0));
    assert_eq!(endpoint.to_string(), format!("tcp://127.0.0.1:{}", endpoint.port().expect("it has one")));
    for monitor in &early {
        let event = monitor.recv_timeout(PATIENCE).expect("it is told");
        assert!(matches!(event.kind, EventKind::Listening), "{event}");
    }
    let late = pull.monitor();
    let push = Push::in_context(&context);
    push.connect(&endpoint).expect("connected");
    pull.wait_for_peers(1, PATIENCE).expect("it comes");
    drop(pull);
    let stories =
        early.iter().chain([&late]).map(|monitor| monitor.iter().map(|event| event.kind.to_string()).collect());
    let stories: Vec<Vec<String>> = stories.collect();
    assert!(stories[0].contains(&"handshake succeeded".to_owned()), "{stories:?}");
    assert!(stories.iter().all(|story| *story == stories[0]), "{stories:?}");
    assert_eq!(stories[0].last().map(String::as_str), Some("monitor stopped"));
}

#[test]
fn a_monitor_that_nobody_reads_costs_the_others_nothing() {
    let context = Context::new();
    let pull = Pull::in_context(&context);
    let (unread, read) = (pull.monitor(), pull.monitor());
    let name = crate::support::Over::Inproc.wildcard();
    for _ in 0..700 {
        pull.bind(&name).expect("bound");
        pull.unbind(&name).expect("it is bound");
        assert!(read.try_recv().is_some() && read.try_recv().is_some());
    }
    assert_eq!((read.lost(), unread.lost()), (0, 1400 - 1024));
    assert_eq!(pull.stats().events_lost, 1400 - 1024);
}

#[test]
fn counters_print_themselves() {
    let context = Context::new();
    let publisher = wiremesh::Pub::in_context(&context);
    publisher.send("to nobody").expect("a publisher never waits");
    let stats = publisher.stats().to_string();
    assert!(stats.contains("accepted 1") && stats.contains("dropped 1 (1 unroutable)"), "{stats}");
    assert!(!stats.contains('\n') && !stats.contains('{'), "{stats}");
    assert_eq!(publisher.stats().dropped.to_string(), "1 (1 unroutable)");
    assert!(wiremesh::PeerStats::default().to_string().contains("dropped 0"));
}

#[test]
fn sockets_go_through_catch_unwind() {
    fn is_safe<T: UnwindSafe + RefUnwindSafe + Send + Sync>() {}
    is_safe::<Push>();
    is_safe::<Pull>();
    is_safe::<wiremesh::Pub>();
    is_safe::<wiremesh::Sub>();
    is_safe::<wiremesh::Req>();
    is_safe::<wiremesh::Rep>();
    is_safe::<Dealer>();
    is_safe::<Router>();
    is_safe::<wiremesh::Pair>();
    is_safe::<wiremesh::XPub>();
    is_safe::<wiremesh::XSub>();
    is_safe::<AnySocket>();
    is_safe::<Context>();
    is_safe::<wiremesh::Monitor>();
    is_safe::<wiremesh::Closer>();
    is_safe::<wiremesh::Reservation<'_>>();
    is_safe::<Message>();
    let push = Push::in_context(&Context::new());
    let caught = std::panic::catch_unwind(|| {
        push.connect("inproc://later").expect("connected");
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(caught.is_err());
    push.send("it goes on").expect("accepted");
}

/// What the compiler says names the cure.
#[test]
fn what_is_not_a_message_is_refused_with_a_text_that_names_the_cure() {
    let said = refusal("let n = 17_u32; push.send(n)");
    assert!(
        said.contains("`u32` is not a message") && said.contains("to_le_bytes") && said.contains("to_string"),
        "{said}"
    );
    let said = refusal("push.send((\"topic\", 17_u32))");
    assert!(said.contains("`u32` is not a frame") && said.contains("to_le_bytes"), "{said}");
    let said = refusal("struct Job; push.send(Job)");
    assert!(said.contains("`Job` is not a message") && said.contains("serializer"), "{said}");
    let said = refusal("push.send([\"a\", \"b\"].into_iter())");
    assert!(said.contains("is not a message") && said.contains("collected from an iterator"), "{said}");
}

#[test]
fn who_sends_to_what_message_peer_returns_is_told_to_look_into_the_option() {
    let said = refusal("|router: &wiremesh::Router, message: wiremesh::Message| router.send_to(message.peer(), \"x\")");
    assert!(said.contains("names no peer") && said.contains("in the `Option` that `Message::peer` returns"), "{said}");
}

#[test]
fn what_is_no_value_of_an_option_is_refused_with_a_text_that_names_the_cure() {
    let said = refusal("wiremesh::Push::builder().send_timeout(5)");
    assert!(said.contains("is no value for an option") && said.contains("Duration::from_millis(100)"), "{said}");
    let said = refusal("wiremesh::Push::builder().send_mark(\"5\")");
    assert!(said.contains("is no value for an option") && said.contains("text.parse::<u32>()?"), "{said}");
    let said = refusal("|message: wiremesh::Message| push.send((message, \"x\"))");
    assert!(said.contains("`Message` is not a frame") && said.contains("`push_front` and `push_back`"), "{said}");
}

/// What the compiler says to a call that it must refuse.
fn refusal(call: &str) -> String {
    use std::process::Command;
    let deps = std::env::current_exe().expect("a test binary").parent().expect("in a folder").to_owned();
    let newest = |extension: &str| {
        let files = std::fs::read_dir(&deps).expect("it is readable").filter_map(Result::ok).map(|entry| entry.path());
        let named = |path: &std::path::PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("libwiremesh-") && name.ends_with(extension)
        };
        files.filter(named).max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok())
    };
    let library = newest(".rlib").expect("the library has been built");
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let source = std::env::temp_dir().join(format!("wiremesh-refusal-{}-{number}.rs", std::process::id()));
    std::fs::write(&source, format!("pub fn f(push: &wiremesh::Push) {{ let _ = {{ {call} }}; }}")).expect("written");
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "-o", "/dev/null"])
        .arg("-L")
        .arg(format!("dependency={}", deps.display()))
        .arg("--extern")
        .arg(format!("wiremesh={}", library.display()))
        .arg(&source)
        .output()
        .expect("a compiler");
    let _ = std::fs::remove_file(&source);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it was accepted: {call}");
    said
}

#[test]
fn what_is_expected_may_stand_on_either_side_of_a_comparison() {
    let (message, frame) = (Message::from("hello"), Frame::from("hello"));
    let (text, octets) = ("hello".to_owned(), bytes::Bytes::from("hello"));
    assert!("hello" == message && *"hello" == message && text == message && *b"hello" == message);
    assert!(b"hello" == message && b"hello"[..] == message && b"hello".to_vec() == message);
    assert!("hello" == frame && b"hello" == frame && octets == frame && "other" != frame);
    assert_eq!("hello", message);
}

#[test]
fn a_message_of_several_frames_is_compared_with_an_array() {
    let message = Message::from(("topic", b"body"));
    assert_eq!(message, ["topic", "body"]);
    assert_eq!(message, [&b"topic"[..], b"body"]);
    assert_eq!(message, ["topic".to_owned(), "body".to_owned()]);
    assert!(message != ["topic"] && message != ["topic", "body", ""] && message != ["topic", "other"]);
    let one = Message::from([1, 2, 3]);
    assert!(one == [1, 2, 3] && one == [[1, 2, 3]] && one != [[1], [2], [3]], "octets are one frame");
    assert!(message != *b"topic", "octets are one frame");
}

#[test]
fn a_message_of_one_frame_becomes_text_or_octets() {
    assert_eq!(String::try_from(Message::from("hello")).expect("text"), "hello");
    assert_eq!(Vec::try_from(Message::from("hello")).expect("one frame"), b"hello");
    assert!(String::try_from(Message::from([0xff])).is_err() && String::try_from(Message::from(["a", "b"])).is_err());
    let error = Vec::<u8>::try_from(Message::from(["a", "b"])).expect_err("two frames");
    assert_eq!(error.message, ["a", "b"]);
}

#[test]
fn an_envelope_with_a_routing_id_is_a_message() {
    let id = RoutingId::from("client");
    assert_eq!(Message::from((&id, "", "body")), Message::from(["client", "", "body"]));
    assert_eq!(Message::from((id, vec![1])).frame_count(), 2);
    let words: Message = ["one", "two"].iter().collect();
    assert_eq!(words[1], "two");
}

#[test]
fn an_endpoint_is_compared_with_text_and_made_from_it() {
    let endpoint = Endpoint::try_from("tcp://127.0.0.1:5").unwrap();
    let text = "tcp://127.0.0.1:5".to_owned();
    assert!(endpoint == "tcp://127.0.0.1:5" && text == endpoint && endpoint != *"tcp://");
    assert_eq!(String::from(endpoint), "tcp://127.0.0.1:5");
}

#[test]
fn events_are_iterated_over_as_messages_are() {
    let pull = Pull::in_context(&Context::new());
    let monitor = pull.monitor();
    pull.bind("inproc://events").unwrap();
    drop(pull);
    let mut told = 0;
    for event in &monitor {
        told += usize::from(matches!(event.kind, EventKind::Listening | EventKind::MonitorStopped));
    }
    assert_eq!(told, 2);
}
