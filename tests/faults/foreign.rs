//! Peers that are not ours, and a little odd: what does no harm costs them nothing.

use crate::support::raw::{Raw, command, frame, greeting};
use crate::support::{PATIENCE, holds_within, is_full};
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use wiremesh::{Context, Dealer, EventKind, Pull, Push, Router};

/// A READY command with these properties, in the long form.
fn ready(properties: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    for (name, value) in properties {
        body.push(name.len() as u8);
        body.extend_from_slice(name);
        body.extend_from_slice(&(value.len() as u32).to_be_bytes());
        body.extend_from_slice(value);
    }
    let mut frame = vec![6];
    frame.extend_from_slice(&(body.len() as u64).to_be_bytes());
    frame.extend_from_slice(&body);
    frame
}

/// Whether the other side says that before it ends or falls silent.
fn hears(raw: &mut Raw, wanted: &[u8]) -> bool {
    let (mut said, mut some) = (Vec::new(), [0; 4096]);
    while !said.windows(wanted.len()).any(|window| window == wanted) {
        match raw.read(&mut some) {
            Ok(0) | Err(_) => return false,
            Ok(size) => said.extend_from_slice(&some[..size]),
        }
    }
    true
}

/// Sends a message behind a READY with these properties, and says which of them the application sees of its sender.
fn seen_of(properties: &[(&[u8], &[u8])]) -> Option<Vec<(String, Vec<u8>)>> {
    let pull = Pull::in_context(&Context::new());
    let monitor = pull.monitor();
    let mut raw = Raw::connect(pull.bind("tcp://127.0.0.1:*").unwrap().as_str()).unwrap();
    raw.write_all(&[&greeting()[..], &ready(properties), &frame(false, b"hello")].concat()).unwrap();
    // Whoever is refused sees its connection end.
    let refused = || monitor.try_recv().is_some_and(|event| matches!(event.kind, EventKind::Disconnected(_)));
    let mut came = None;
    assert!(holds_within(PATIENCE, || {
        came = pull.try_recv().ok();
        came.is_some() || refused()
    }));
    let message = came?;
    assert_eq!(message, "hello");
    let peer = pull.peer(message.peer().unwrap()).unwrap();
    Some(peer.properties.into_iter().map(|(name, value)| (name, value.to_vec())).collect())
}

#[test]
fn names_that_the_rfc_does_not_allow_cost_only_themselves() {
    for strange in ["X-my key", "X-ä", "", "X/Y", "\0", "X-\u{1F980}"] {
        let seen = seen_of(&[(b"Socket-Type", b"PUSH"), (strange.as_bytes(), b"value"), (b"X-good", b"kept")]);
        let names: Vec<_> = seen.expect("taken").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Socket-Type", "X-good"], "{strange:?}");
    }
    assert!(seen_of(&[(b"Socket-Type", b"PUSH"), (b"\xFF\xFE", b"")]).is_some(), "no text at all");
}

#[test]
fn as_many_properties_are_read_as_a_handshake_has_room_for() {
    let names: Vec<String> = (0..3000).map(|number| format!("X-{number}")).collect();
    let mut properties: Vec<(&[u8], &[u8])> = vec![(b"Socket-Type", b"PUSH")];
    properties.extend(names.iter().map(|name| (name.as_bytes(), &b"v"[..])));
    assert_eq!(seen_of(&properties).expect("taken").len(), 3001);
}

#[test]
fn the_first_of_doubled_properties_counts_unless_it_says_who_the_peer_is() {
    let seen = seen_of(&[(b"Socket-Type", b"PUSH"), (b"X-a", b"1"), (b"x-A", b"2"), (b"SOCKET-TYPE", b"PUSH")]);
    let first = [("Socket-Type".to_owned(), b"PUSH".to_vec()), ("X-a".to_owned(), b"1".to_vec())];
    assert_eq!(seen.expect("taken"), first);
    assert_eq!(seen_of(&[(b"Socket-Type", b"PUSH"), (b"Socket-Type", b"PAIR")]), None);
    assert_eq!(seen_of(&[(b"Socket-Type", b"PUSH"), (b"Identity", b"a"), (b"identity", b"b")]), None);
}

#[test]
fn a_thousand_pings_in_one_segment_get_a_thousand_answers() {
    let pull = Pull::in_context(&Context::new());
    let mut raw = Raw::connect(pull.bind("tcp://127.0.0.1:*").unwrap().as_str()).unwrap();
    raw.shake_hands("PUSH").unwrap();
    let ping = |number: u32| command(&[b"\x04PING\0\0", &number.to_be_bytes()[..]].concat());
    let pong = |number: u32| command(&[b"\x04PONG", &number.to_be_bytes()[..]].concat());
    let pings: Vec<u8> = (0..1000).flat_map(ping).collect();
    raw.write_all(&pings).unwrap();
    let wanted: Vec<u8> = (0..1000).flat_map(pong).collect();
    let mut answers = vec![0; wanted.len()];
    raw.read_exact(&mut answers).unwrap();
    assert!(answers == wanted);
}

#[test]
fn whoever_floods_with_pings_and_does_not_read_gets_the_newest_answer_and_is_read_on() {
    let pull = Pull::in_context(&Context::new());
    let mut raw = Raw::connect(pull.bind("tcp://127.0.0.1:*").unwrap().as_str()).unwrap();
    raw.shake_hands("PUSH").unwrap();
    // More answers than the system's buffers take.
    let count: u32 = if is_full() { 3_000_000 } else { 400_000 };
    for chunk in 0..count / 1000 {
        let ping = |number: u32| {
            command(&[b"\x04PING\0\0", &number.to_be_bytes()[..], b"and more of it"[..12].as_ref()].concat())
        };
        let pings: Vec<u8> = (chunk * 1000..chunk * 1000 + 1000).flat_map(ping).collect();
        raw.write_all(&pings).unwrap();
    }
    raw.write_all(&frame(false, b"last")).unwrap();
    assert_eq!(pull.recv_timeout(PATIENCE).unwrap(), "last", "answers that cannot be written stop no reading");
    let mut answers = 0;
    loop {
        let mut pong = [0; 2 + 5 + 16];
        raw.read_exact(&mut pong).unwrap();
        assert_eq!(pong[..7], *b"\x04\x15\x04PONG");
        answers += 1;
        if pong[7..11] == (count - 1).to_be_bytes() {
            break;
        }
    }
    assert!((64..=count).contains(&answers));
}

#[test]
fn a_context_that_is_too_long_is_cut() {
    let pull = Pull::in_context(&Context::new());
    let mut raw = Raw::connect(pull.bind("tcp://127.0.0.1:*").unwrap().as_str()).unwrap();
    raw.shake_hands("PUSH").unwrap();
    raw.write_all(&command(b"\x04PING\0\x000123456789abcdefg")).unwrap();
    let mut pong = [0; 2 + 5 + 16];
    raw.read_exact(&mut pong).unwrap();
    assert_eq!(pong[..], command(b"\x04PONG0123456789abcdef"));
}

#[test]
fn what_has_no_place_and_does_no_harm_is_passed_over_with_an_event() {
    for odd in [&b""[..], b"\0", b"\x05HELLO", b"\x09READYREADY", b"\x05READY", b"\x05ERROR\x03400", b"\x05ERROR\xFFx"]
    {
        let pull = Pull::in_context(&Context::new());
        let monitor = pull.monitor();
        let mut raw = Raw::connect(pull.bind("tcp://127.0.0.1:*").unwrap().as_str()).unwrap();
        raw.shake_hands("PUSH").unwrap();
        raw.write_all(&[command(odd), frame(false, b"first"), command(odd), frame(false, b"second")].concat()).unwrap();
        assert_eq!(pull.recv_timeout(PATIENCE).unwrap(), "first", "{odd:?}");
        assert_eq!(pull.recv_timeout(PATIENCE).unwrap(), "second", "{odd:?}");
        let mut oddities = 0;
        while let Some(event) = monitor.try_recv() {
            oddities += u32::from(matches!(event.kind, EventKind::Oddity(_)));
        }
        assert_eq!(oddities, 1, "{odd:?}");
    }
}

#[test]
fn an_error_that_the_end_follows_still_ends_the_endpoint() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let push = Push::builder().reconnect_interval(Duration::from_millis(1)).build().unwrap();
    let monitor = push.monitor();
    push.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let mut raw = Raw::accepted(listener.accept().unwrap().0);
    raw.shake_hands("PULL").unwrap();
    raw.write_all(&command(b"\x05ERROR\x03no!")).unwrap();
    drop(raw);
    let refused = || {
        let event = monitor.recv_timeout(PATIENCE).unwrap();
        matches!(&event.kind, EventKind::Disconnected(cause) if cause.to_string().contains("no!"))
    };
    assert!(holds_within(PATIENCE, refused));
    assert!(holds_within(PATIENCE, || push.stats().connections == 0));
    let no_more = holds_within(Duration::from_millis(200), || push.stats().reconnects > 0);
    assert!(!no_more, "it does not come back");
}

#[test]
fn a_peer_that_does_not_read_finds_one_ping_and_not_all_that_were_due() {
    const BEAT: Duration = Duration::from_millis(10);
    let push = Push::builder()
        .heartbeat_interval(BEAT)
        .heartbeat_timeout(Duration::ZERO)
        .send_byte_mark(4u64 << 20)
        .build()
        .unwrap();
    let mut raw = Raw::connect(push.bind("tcp://127.0.0.1:*").unwrap().as_str()).unwrap();
    raw.shake_hands("PULL").unwrap();
    push.wait_for_peers(1, PATIENCE).unwrap();
    let start = Instant::now();
    let body = vec![7; 1000];
    let mut count = 0;
    while push.send_timeout(&body[..], 20 * BEAT).is_ok() {
        count += 1;
    }
    let filled = start.elapsed();
    let (mut pings, mut messages) = (0, 0);
    while messages < count {
        let mut head = [0; 2];
        raw.read_exact(&mut head).unwrap();
        if head[0] == 4 {
            raw.read_exact(&mut vec![0; head[1].into()]).unwrap();
            pings += 1;
        } else {
            assert_eq!(head[0], 2);
            raw.read_exact(&mut vec![0; 7 + 1000]).unwrap();
            messages += 1;
        }
    }
    let beats = (start.elapsed() - filled + filled.saturating_sub(20 * BEAT)).as_millis() / BEAT.as_millis();
    assert!(pings as u128 <= beats + 3, "{pings} PINGs in {beats} beats that could be written");
}

#[test]
fn a_routing_id_that_begins_with_a_zero_octet_is_taken_as_libzmq_takes_it() {
    for id in [&b"\0abc"[..], b"\0\0\0\0\x01", b"\0"] {
        let router = Router::in_context(&Context::new());
        let mut raw = Raw::connect(router.bind("tcp://127.0.0.1:*").unwrap().as_str()).unwrap();
        let properties: [(&[u8], &[u8]); 2] = [(b"Socket-Type", b"DEALER"), (b"Identity", id)];
        raw.write_all(&[&greeting()[..], &ready(&properties), &frame(false, b"hello")].concat()).unwrap();
        let (from, message) = router.recv_timeout(PATIENCE).expect("it is not refused");
        assert_eq!((from.as_bytes(), message), (id, "hello".into()));
        router.send_to(&from, "back").unwrap();
        assert!(hears(&mut raw, b"\x00\x04back"));
    }
    let seen = seen_of(&[(b"Socket-Type", b"PUSH"), (b"Identity", b"\0abc")]);
    assert!(seen.is_some(), "where nobody is addressed by it as well");
}

#[test]
fn a_generated_routing_id_is_not_handed_over_to_a_peer_that_claims_it() {
    let router = Router::builder().context(&Context::new()).handover(true).build().unwrap();
    let monitor = router.monitor();
    let endpoint = router.bind("tcp://127.0.0.1:*").unwrap();
    let first = Dealer::in_context(&Context::new());
    first.connect(&endpoint).unwrap();
    first.send("hello").unwrap();
    let (id, _) = router.recv_timeout(PATIENCE).unwrap();
    let mut raw = Raw::connect(endpoint.as_str()).unwrap();
    let properties: [(&[u8], &[u8]); 2] = [(b"Socket-Type", b"DEALER"), (b"Identity", id.as_bytes())];
    raw.write_all(&[&greeting()[..], &ready(&properties)].concat()).unwrap();
    let refused = || monitor.try_recv().is_some_and(|event| matches!(event.kind, EventKind::HandshakeFailed(_)));
    assert!(holds_within(PATIENCE, refused), "it gets in");
    router.send_to(&id, "still you").unwrap();
    assert_eq!(first.recv_timeout(PATIENCE).unwrap(), "still you");
}

#[test]
fn no_property_is_announced_twice() {
    let twice = Push::builder().metadata([("X-Rack", "1"), ("x-rack", "2")]).build();
    let text = twice.expect_err("a peer would read the first alone").to_string();
    assert!(text.contains("`metadata`") && text.contains("each once"), "{text}");
}
