//! Messages: what can be sent, what is received, and what a received message says about its sender.

#[macro_use]
mod common;

use std::thread;

use common::{LONG, Net, until};
use wiremesh::transports::Credentials;
use wiremesh::{Dealer, Frame, IntoMessage, Message, MessageError, PeerId, Pull, Push, Rep, Req, Router, SocketKind};

over!([tcp ipc inproc]:
    whatever_can_be_sent_arrives_as_the_same_octets
    a_message_of_many_frames_arrives_whole
    empty_frames_are_kept
    large_messages_arrive_intact
    a_large_message_between_small_ones_keeps_its_place
    a_clone_outlives_the_socket_it_came_from
    a_message_says_which_peer_sent_it
    a_peer_is_known_by_what_it_announced
    a_peer_handle_is_never_given_to_another_peer
    an_iterator_yields_the_messages_as_they_come
);

over!([tcp ipc]:
    a_peer_has_an_address_and_the_properties_of_its_ready_command
    the_handle_of_a_connecting_endpoint_stays_across_reconnects
);

fn pipe(net: &Net) -> (Push, Pull) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    net.join(&pull, &[&push]);
    (push, pull)
}

fn whatever_can_be_sent_arrives_as_the_same_octets(net: &Net) {
    let (push, pull) = pipe(net);
    let bytes = bytes::Bytes::from_static(b"octets");
    push.send("octets").unwrap();
    push.send(String::from("octets")).unwrap();
    push.send(&b"octets"[..]).unwrap();
    push.send(b"octets").unwrap();
    push.send(*b"octets").unwrap();
    push.send(b"octets".to_vec()).unwrap();
    push.send(bytes.clone()).unwrap();
    push.send(Frame::from("octets")).unwrap();
    push.send(Message::from("octets")).unwrap();
    push.send(Message::from_iter(["octets"])).unwrap();
    push.send(Message::from(bytes)).unwrap();
    for _ in 0..11 {
        let message = pull.recv_timeout(LONG).unwrap();
        assert_eq!(message, "octets");
        assert_eq!(message.len(), 1);
    }
    push.send(["several", "frames"]).unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), Message::from_iter(["several", "frames"]));
}

fn a_message_of_many_frames_arrives_whole(net: &Net) {
    let (push, pull) = pipe(net);
    let message: Message = (0..10_000u32).map(|number| vec![number as u8; (number % 300) as usize]).collect();
    let sender = thread::spawn({
        let message = message.clone();
        move || {
            push.send(message).unwrap();
            push.send("behind").unwrap();
            push
        }
    });
    assert_eq!(pull.recv_timeout(LONG).unwrap(), message);
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "behind");
    sender.join().unwrap();
}

fn empty_frames_are_kept(net: &Net) {
    let (push, pull) = pipe(net);
    for message in [Message::new(), Message::from_iter(["", ""]), Message::from_iter(["", "x", ""])] {
        push.send(message.clone()).unwrap();
        assert_eq!(pull.recv_timeout(LONG).unwrap(), message);
    }
}

/// Octets of which no two neighbourhoods look alike.
fn pattern(size: usize) -> Vec<u8> {
    let mut state = size as u32 | 1;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(size)
    .collect()
}

fn large_messages_arrive_intact(net: &Net) {
    let (push, pull) = pipe(net);
    for size in [70 << 10, 1 << 20, 20 << 20] {
        let body = pattern(size);
        thread::scope(|scope| {
            scope.spawn(|| push.send(Message::from_iter([&b"head"[..], &body, b"tail"])).unwrap());
            let message = pull.recv_timeout(LONG).unwrap();
            assert_eq!(
                (message.len(), message.frame(0), message.frame(2)),
                (3, Some(&b"head"[..]), Some(&b"tail"[..]))
            );
            assert!(message.frame(1).unwrap() == body, "{size} octets differ");
        });
    }
}

fn a_large_message_between_small_ones_keeps_its_place(net: &Net) {
    let (push, pull) = pipe(net);
    let sizes = [5, 70 << 10, 3, 1 << 20, 0, 8192, 65_536, 1, 200_000, 70];
    let sender = thread::spawn(move || {
        for size in sizes.into_iter().cycle().take(100) {
            push.send(pattern(size)).unwrap();
        }
        push
    });
    for size in sizes.into_iter().cycle().take(100) {
        assert!(pull.recv_timeout(LONG).unwrap().first() == pattern(size), "{size} octets differ");
    }
    sender.join().unwrap();
}

fn a_clone_outlives_the_socket_it_came_from(net: &Net) {
    let (push, pull) = pipe(net);
    push.send(pattern(100_000)).unwrap();
    push.send(pattern(1000)).unwrap();
    let [large, small] = [(); 2].map(|()| pull.recv_timeout(LONG).unwrap().clone());
    drop((push, pull));
    assert!(large.first() == pattern(100_000));
    assert!(small.into_bytes().unwrap() == pattern(1000));
}

fn a_message_says_which_peer_sent_it(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let pushes = [(); 2].map(|()| Push::in_context(&net.context));
    net.join(&pull, &[&pushes[0], &pushes[1]]);
    let senders = pushes.each_ref().map(|push| {
        let [first, second] = [(); 2].map(|()| {
            push.send(Message::from_iter(["any", "number of frames"])).unwrap();
            pull.recv_timeout(LONG).unwrap().peer().unwrap()
        });
        assert_eq!(first, second);
        first
    });
    assert_ne!(senders[0], senders[1]);
    assert_eq!(Message::from("made here").peer(), None);
}

fn a_peer_is_known_by_what_it_announced(net: &Net) {
    let router = Router::in_context(&net.context);
    let dealer = Dealer::builder().context(&net.context).routing_id("worker").build().unwrap();
    let endpoint = net.join(&router, &[&dealer]);
    dealer.send("hello").unwrap();
    let (id, message) = router.recv_timeout(LONG).unwrap();
    let info = router.peer(message.peer().unwrap()).unwrap();
    assert_eq!(info.routing_id, id.as_bytes());
    assert_eq!((info.kind, info.connected), (Some(SocketKind::Dealer), true));
    assert_eq!(info.endpoint, endpoint);
    assert_eq!(Some(info.id), message.peer());
}

fn a_peer_handle_is_never_given_to_another_peer(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let endpoint = net.fresh();
    pull.bind(&endpoint).unwrap();
    let mut handles: Vec<PeerId> = Vec::new();
    for _ in 0..50 {
        let push = Push::in_context(&net.context);
        push.connect(&endpoint).unwrap();
        push.send("x").unwrap();
        let handle = pull.recv_timeout(LONG).unwrap().peer().unwrap();
        assert!(!handles.contains(&handle));
        handles.push(handle);
        drop(push);
        until("it is gone", || pull.stats().connections == 0);
    }
    assert!(handles.iter().all(|handle| pull.peer(*handle).is_some_and(|info| !info.connected)));
}

fn an_iterator_yields_the_messages_as_they_come(net: &Net) {
    let (push, pull) = pipe(net);
    push.send_many(["a", "b", "c"]).unwrap();
    let mut messages = pull.iter();
    for wanted in ["a", "b", "c"] {
        assert_eq!(messages.next().unwrap().unwrap(), wanted);
    }
}

fn a_peer_has_an_address_and_the_properties_of_its_ready_command(net: &Net) {
    let push = Push::builder()
        .context(&net.context)
        .metadata(vec![("X-Site".to_owned(), "Oslo".into()), ("X-empty".to_owned(), "".into())])
        .build()
        .unwrap();
    let pull = Pull::in_context(&net.context);
    net.join(&pull, &[&push]);
    push.send("hello").unwrap();
    let info = pull.peer(pull.recv_timeout(LONG).unwrap().peer().unwrap()).unwrap();
    let property = |name: &str| info.properties.iter().find(|(known, _)| known == name).map(|(_, value)| &value[..]);
    assert_eq!(property("X-Site"), Some(&b"Oslo"[..]));
    assert_eq!(property("X-empty"), Some(&b""[..]));
    assert_eq!(property("Socket-Type"), Some(&b"PUSH"[..]));
    let to_us = &push.peers()[0];
    let address = to_us.endpoint.split_once("://").unwrap().1;
    assert_eq!(to_us.address, address);
    if address.starts_with('/') {
        let ours = Credentials { pid: Some(std::process::id()), ..info.credentials.unwrap() };
        assert_eq!(info.credentials, Some(ours));
    } else {
        assert!(info.address.parse::<std::net::SocketAddr>().is_ok(), "{}", info.address);
        assert_eq!(info.credentials, None);
    }
}

fn the_handle_of_a_connecting_endpoint_stays_across_reconnects(net: &Net) {
    let req = Req::in_context(&net.context);
    let rep = Rep::in_context(&net.context);
    let endpoint = net.join(&rep, &[&req]);
    let before = req.peers()[0].id;
    drop(rep);
    until("it is gone", || req.stats().connections == 0);
    assert!(!req.peer(before).unwrap().connected);
    let rep = Rep::in_context(&net.context);
    until("the address is free", || rep.bind(&endpoint).is_ok());
    req.wait_for_peers(1, LONG).unwrap();
    let info = req.peer(before).unwrap();
    assert!(info.connected);
    assert_eq!(info.stats.reconnects, 1);
    assert_eq!(req.peers().len(), 1);
}

#[test]
fn frames_are_added_and_taken_at_both_ends() {
    let mut message = Message::from("b");
    message.push_back("c");
    message.push_front("a");
    message.push_back(vec![b'd']);
    assert_eq!(message, Message::from_iter(["a", "b", "c", "d"]));
    assert_eq!((message.len(), message.byte_len()), (4, 4));
    assert_eq!(message.pop_front().unwrap(), "a");
    assert_eq!(message.pop_back().unwrap(), "d");
    assert_eq!(message.pop_back().unwrap(), "c");
    assert_eq!(message, "b");
    assert!(message.pop_front().is_none() && message.pop_back().is_none(), "a message has at least one frame");
    assert_eq!(message, "b");
}

#[test]
fn frames_are_looked_at_in_order_from_both_ends() {
    let message = Message::from_iter(["a", "bb", "ccc"]);
    assert_eq!(message.iter().map(<[u8]>::len).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(message.iter().rev().map(<[u8]>::len).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(message.frames().next_back().unwrap(), "ccc");
    assert_eq!((message.frame(1), message.frame(3)), (Some(&b"bb"[..]), None));
    assert_eq!(message.first(), b"a");
    assert_eq!(message.to_str().unwrap_err(), MessageError::FrameCount { there: 3, wanted: 1 });
    assert_eq!(message.clone().into_bytes().unwrap_err().message, message);
    let frames: Vec<Frame> = message.into_frames().collect();
    assert_eq!(frames, ["a", "bb", "ccc"].map(Frame::from));
    assert!(Message::from(b"\xff").to_str().is_err());
}

#[test]
fn no_frames_make_one_empty_frame() {
    let message: Message = std::iter::empty::<Frame>().collect();
    assert_eq!(message.len(), 1);
    assert_eq!(message, Message::new());
    assert_eq!(message, Message::default());
    assert_eq!((message, Message::new().byte_len()), ("".into(), 0));
}

#[test]
fn a_body_is_copied_into_a_buffer_and_tells_its_length() {
    let message = Message::from("hello");
    let mut buffer = [0; 8];
    assert_eq!(message.copy_to(&mut buffer).unwrap(), 5);
    assert_eq!(&buffer, b"hello\0\0\0");
    let mut short = [0; 2];
    assert_eq!(message.copy_to(&mut short).unwrap(), 5, "what does not fit shows in the result");
    assert_eq!(&short, b"he");
    assert_eq!(message.copy_to(&mut []).unwrap(), 5);
    assert!(Message::from_iter(["hello", "second"]).copy_to(&mut buffer).is_err(), "what assumes one frame says so");
}

#[test]
fn a_message_is_compared_with_text_and_octets() {
    let message = Message::from("text");
    assert_eq!(message, "text");
    assert_eq!(message, *"text");
    assert_eq!(message, &b"text"[..]);
    assert_eq!(message, b"text"[..]);
    assert_eq!(message, b"text");
    assert_eq!(message, Message::from(b"text".to_vec()));
    assert_ne!(message, "tex");
    assert_ne!(message, Message::from_iter(["text", ""]), "two frames are not one");
    assert_ne!(Message::from_iter(["te", "xt"]), "text");
}

#[test]
fn large_bodies_are_shared_and_not_copied() {
    let body = bytes::Bytes::from(vec![1; 10_000]);
    let message = body.clone().into_message();
    assert_eq!(message.first().as_ptr(), body.as_ptr());
    assert_eq!(message.clone().first().as_ptr(), body.as_ptr());
    assert_eq!(message.into_bytes().unwrap().as_ptr(), body.as_ptr());
    let vector = vec![2; 10_000];
    let place = vector.as_ptr();
    assert_eq!(Message::from(vector).first().as_ptr(), place);
}

#[test]
fn a_large_body_crosses_an_inproc_link_without_a_copy() {
    let net = Net::new("inproc");
    let (push, pull) = pipe(&net);
    let body = bytes::Bytes::from(vec![1; 1 << 20]);
    push.send(body.clone()).unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap().first().as_ptr(), body.as_ptr());
}

#[test]
fn printing_a_message_shows_its_frames_and_no_megabytes() {
    assert_eq!(format!("{:?}", Message::from_iter([&b"a\n"[..], b"\xff"])), r#"[b"a\n", b"\xff"]"#);
    let text = format!("{:?}", Message::from(vec![b'x'; 1 << 20]));
    assert!(text.len() < 300 && text.contains("1048576"), "{text}");
}
