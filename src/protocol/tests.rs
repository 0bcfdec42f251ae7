//! Whole connections, by example; by property in `tests/properties.rs`. Limits, framing and single commands are tested
//! where they live; long random runs are in `tests/simulation.rs`, hostile octets in `tests/mutator.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::*;
use crate::kind::SocketKind;
use crate::message::wire::{self, Header};
use crate::profile::Profile;

#[cfg(feature = "properties")]
mod properties;

const SECOND: Duration = Duration::from_secs(1);

/// A connection and its read buffer, fed by hand.
struct Fed {
    connection: Connection,
    input: BytesMut,
    now: Instant,
}

/// An event, independent of how the stream was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Ready(PeerDescription),
    Message(Vec<Vec<u8>>),
    Subscribe(Bytes),
    Cancel(Bytes),
    Oddity(ProtocolError),
    Error(ProtocolError),
}

impl Fed {
    fn new(config: Config) -> Fed {
        let now = Instant::now();
        Fed { connection: Connection::new(Arc::new(config), now), input: BytesMut::new(), now }
    }

    /// One that has finished its handshake and said all it had to.
    fn ready(config: Config) -> Fed {
        let peer =
            SocketKind::ALL.into_iter().find(|&kind| config.kind.accepts(kind)).expect("every kind has a partner");
        let mut fed = Fed::new(config);
        let seen = fed.feed(&handshake(peer.name()));
        assert!(matches!(seen[..], [Seen::Ready(_)]), "{seen:?}");
        assert!(fed.connection.transmit().is_some());
        fed
    }

    /// One over a stream that was accepted.
    fn accepted(config: Config) -> Fed {
        let now = Instant::now();
        Fed { connection: Connection::accepted(Arc::new(config), now), input: BytesMut::new(), now }
    }

    fn feed(&mut self, octets: &[u8]) -> Vec<Seen> {
        self.input.extend_from_slice(octets);
        let mut seen = Vec::new();
        loop {
            match self.connection.received(&mut self.input, self.now) {
                Ok(Some(Event::Ready(peer))) => seen.push(Seen::Ready(peer)),
                Ok(Some(Event::Messages { wire, count })) => {
                    let messages = messages(&wire);
                    assert_eq!(messages.len(), count as usize);
                    seen.extend(messages.into_iter().map(Seen::Message));
                }
                Ok(Some(Event::Message(pieces))) => {
                    let messages = messages(&pieces.concat());
                    assert_eq!(messages.len(), 1);
                    seen.extend(messages.into_iter().map(Seen::Message));
                }
                Ok(Some(Event::Subscribe(topic))) => seen.push(Seen::Subscribe(topic)),
                Ok(Some(Event::Cancel(topic))) => seen.push(Seen::Cancel(topic)),
                Ok(Some(Event::Answers)) => {}
                Ok(Some(Event::Oddity(error))) => seen.push(Seen::Oddity(error)),
                Ok(None) => return seen,
                Err(error) => {
                    seen.push(Seen::Error(error));
                    return seen;
                }
            }
        }
    }

    fn said(&mut self) -> Bytes {
        self.connection.transmit().unwrap_or_default()
    }

    fn error(&mut self, octets: &[u8]) -> ProtocolError {
        match self.feed(octets).pop() {
            Some(Seen::Error(error)) => error,
            other => panic!("{other:?}"),
        }
    }
}

/// Takes wire form apart; it must hold whole messages only.
fn messages(wire: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let (mut rest, mut messages, mut frames) = (wire, Vec::new(), Vec::new());
    while !rest.is_empty() {
        let header = Header::read(rest).expect("a whole header");
        assert!(!header.command());
        let (frame, behind) = rest.split_at(header.size + header.body as usize);
        frames.push(frame[header.size..].to_vec());
        rest = behind;
        if !header.more() {
            messages.push(std::mem::take(&mut frames));
        }
    }
    assert!(frames.is_empty(), "an unfinished message");
    messages
}

fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let (head, size) = wire::header(flags, body.len());
    [&head[..size], body].concat()
}

fn command(body: &[u8]) -> Vec<u8> {
    frame(wire::COMMAND, body)
}

fn message(frames: &[Vec<u8>]) -> Vec<u8> {
    let last = frames.len() - 1;
    frames.iter().enumerate().flat_map(|(at, body)| frame(if at < last { wire::MORE } else { 0 }, body)).collect()
}

fn properties(properties: &[(&str, &[u8])]) -> Vec<u8> {
    let mut octets = Vec::new();
    for (name, value) in properties {
        octets.push(name.len() as u8);
        octets.extend_from_slice(name.as_bytes());
        octets.extend_from_slice(&(value.len() as u32).to_be_bytes());
        octets.extend_from_slice(value);
    }
    octets
}

fn ready_command(list: &[(&str, &[u8])]) -> Vec<u8> {
    command(&[b"\x05READY", &properties(list)[..]].concat())
}

fn peer_greeting(minor: u8) -> Vec<u8> {
    let mut octets = vec![0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3, minor, b'N', b'U', b'L', b'L'];
    octets.resize(64, 0);
    octets
}

fn handshake(kind: &str) -> Vec<u8> {
    [peer_greeting(1), ready_command(&[("Socket-Type", kind.as_bytes())])].concat()
}

#[test]
fn the_greeting_is_said_at_once_and_ready_after_the_peers_greeting() {
    let mut config = Config::new(SocketKind::Dealer);
    config.identity = "X".into();
    config.properties = vec![("X-a".to_owned(), "1".into())];
    let mut fed = Fed::new(config);
    assert_eq!(fed.said(), peer_greeting(1));
    assert!(fed.feed(&peer_greeting(1)[..63]).is_empty());
    assert_eq!(fed.said(), "");
    assert!(fed.feed(&[0]).is_empty());
    let ready = ready_command(&[("Socket-Type", b"DEALER"), ("Identity", b"X"), ("X-a", b"1")]);
    assert_eq!(fed.said(), ready);
    assert!(!fed.connection.is_ready());
}

#[test]
fn only_kinds_that_route_announce_an_identity() {
    for kind in SocketKind::ALL {
        let mut fed = Fed::new(Config::new(kind));
        fed.feed(&peer_greeting(1));
        let announced = fed.said().windows(8).any(|window| window == b"Identity");
        assert_eq!(announced, kind.announces_identity(), "{kind}");
    }
}

#[test]
fn what_cannot_be_announced_is_found_by_validate_and_left_out() {
    let mut config = Config::new(SocketKind::Dealer);
    assert_eq!(config.validate(), Ok(()));
    config.properties.push(("bad name".to_owned(), Bytes::new()));
    assert_eq!(config.validate(), Err(MetadataError::BadName));
    config.identity = "\0".into();
    assert_eq!(config.validate(), Err(MetadataError::IdentityReserved));
    let mut fed = Fed::new(config);
    fed.feed(&peer_greeting(1));
    assert!(fed.said().ends_with(&ready_command(&[("Socket-Type", b"DEALER")])));
}

#[test]
fn a_ready_peer_is_described() {
    let mut fed = Fed::new(Config::new(SocketKind::Router));
    let list: [(&str, &[u8]); 3] = [("socket-TYPE", b"DEALER"), ("X-Colour", b"red"), ("IDENTITY", b"me")];
    let seen = fed.feed(&[peer_greeting(0), ready_command(&list)].concat());
    let [Seen::Ready(peer)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((peer.kind, peer.identity.as_ref(), peer.minor), (Some(SocketKind::Dealer), &b"me"[..], 0));
    assert_eq!(peer.properties.len(), 3);
    assert_eq!(peer.property("x-colour"), Some(&"red".into()));
    assert!(fed.connection.is_ready());
}

#[test]
fn kinds_meet_as_rfc_37_says_and_the_refused_peer_learns_why() {
    for ours in SocketKind::ALL {
        for theirs in SocketKind::ALL {
            let mut fed = Fed::new(Config::new(ours));
            let seen = fed.feed(&handshake(theirs.name()));
            if ours.accepts(theirs) {
                assert!(matches!(seen[..], [Seen::Ready(_)]));
            } else {
                let error = ProtocolError::IncompatibleSocket { ours, theirs: theirs.to_string() };
                assert_eq!(seen, [Seen::Error(error.clone())]);
                let reason = error.to_string();
                let refusal = command(&[b"\x05ERROR", &[reason.len() as u8][..], reason.as_bytes()].concat());
                assert!(fed.said().ends_with(&refusal));
            }
        }
    }
}

#[test]
fn a_peer_without_a_socket_type_is_accepted_and_one_with_an_unknown_type_is_not() {
    let mut fed = Fed::new(Config::new(SocketKind::Pull));
    let seen = fed.feed(&[peer_greeting(1), ready_command(&[])].concat());
    assert!(matches!(&seen[..], [Seen::Ready(peer)] if peer.kind.is_none()));
    let mut fed = Fed::new(Config::new(SocketKind::Pull));
    match fed.error(&handshake(&"Z".repeat(1000))) {
        ProtocolError::IncompatibleSocket { theirs, .. } => assert_eq!(theirs, "Z".repeat(32)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_identity_that_begins_with_zero_is_taken_and_one_that_is_too_long_refused_with_a_reason() {
    let claim = |id: &[u8]| [peer_greeting(1), ready_command(&[("Socket-Type", b"DEALER"), ("Identity", id)])].concat();
    let mut fed = Fed::new(Config::new(SocketKind::Router));
    let seen = fed.feed(&claim(b"\0\x01\x02\x03\x04"));
    assert!(matches!(&seen[..], [Seen::Ready(peer)] if *peer.identity == *b"\0\x01\x02\x03\x04"), "{seen:?}");
    let mut fed = Fed::new(Config::new(SocketKind::Router));
    let error = fed.error(&claim(&[1; 256]));
    assert_eq!(error, ProtocolError::InvalidMetadata(MetadataError::IdentityTooLong { octets: 256 }));
    assert!(fed.said().windows(6).any(|window| window == b"\x05ERROR"));
}

#[test]
fn another_mechanism_is_a_mismatch_to_the_last_octet() {
    for (at, octet) in [(12, b'n'), (16, b'X'), (31, 1)] {
        let mut octets = peer_greeting(1);
        octets[at] = octet;
        let error = Fed::new(Config::new(SocketKind::Pull)).error(&octets);
        assert!(matches!(error, ProtocolError::MechanismMismatch { ours: "NULL", .. }), "{error}");
    }
}

#[test]
fn an_error_command_is_a_refusal_before_ready_and_at_the_end() {
    let refusal = command(b"\x05ERROR\x03400");
    let refused = ProtocolError::Refused { reason: "400".to_owned() };
    let mut fed = Fed::new(Config::new(SocketKind::Pull));
    assert_eq!(fed.error(&[peer_greeting(1), refusal.clone()].concat()), refused);
    let mut fed = Fed::ready(Config::new(SocketKind::Pull));
    assert_eq!(fed.feed(&refusal), [Seen::Oddity(refused.clone())]);
    assert_eq!(fed.connection.ended(), Err(refused.clone()));
    assert!(refused.is_refusal());
}

#[test]
fn ready_comes_once_and_first() {
    for early in [&b"\x04PING\0\0"[..], b"\x04PONG", b"\x09SUBSCRIBE", b"\x06CANCEL", b"\x05HELLO"] {
        let error = Fed::new(Config::new(SocketKind::Pub)).error(&[peer_greeting(1), command(early)].concat());
        assert!(matches!(error, ProtocolError::UnexpectedCommand { .. }), "{error}");
    }
    let mut fed = Fed::ready(Config::new(SocketKind::Pull));
    let second = ready_command(&[("Socket-Type", b"PULL"), ("Identity", b"other")]);
    let odd = ProtocolError::UnexpectedCommand { name: "READY".to_owned() };
    assert_eq!(fed.feed(&second), [Seen::Oddity(odd)]);
    assert!(fed.connection.is_ready());
}

#[test]
fn an_accepted_connection_of_any_kind_is_ready_when_it_admits_the_peer() {
    for kind in SocketKind::ALL {
        let peer = SocketKind::ALL.into_iter().find(|&peer| kind.accepts(peer)).expect("every kind has a partner");
        let mut fed = Fed::accepted(Config::new(kind));
        assert_eq!(fed.said().len(), 64, "the greeting");
        assert!(matches!(fed.feed(&handshake(peer.name()))[..], [Seen::Ready(_)]), "{kind}");
        assert_eq!(fed.said(), "", "{kind}");
        fed.connection.admit();
        assert!(fed.said().starts_with(b"\x04"), "{kind}");
    }
    let mut config = Config::new(SocketKind::Router);
    config.profile = Profile::Libzmq;
    let mut fed = Fed::accepted(config);
    fed.feed(&peer_greeting(1));
    assert!(fed.said().len() > 64, "libzmq says READY at once");
}

#[test]
fn a_ready_is_not_kept_back_for_long_from_a_peer_that_waits_for_it() {
    let mut fed = Fed::accepted(Config::new(SocketKind::Router));
    assert_eq!(fed.said().len(), 64, "the greeting");
    assert!(fed.feed(&peer_greeting(1)).is_empty());
    assert_eq!(fed.said(), "");
    let limit = fed.connection.poll_timeout().expect("a deadline");
    assert!(limit > fed.now + SECOND, "more of it may be on its way to us");
    assert!(!fed.connection.drained(fed.now));
    let until = fed.connection.poll_timeout().expect("a deadline");
    assert!(until <= fed.now + SECOND);
    fed.now = until;
    assert_eq!(fed.connection.handle_timeout(fed.now), Ok(()));
    assert_eq!(fed.said(), "", "what has come meanwhile is read first");
    assert!(fed.connection.drained(fed.now));
    assert_eq!(fed.said(), "", "there may be no place for it");
    assert!(fed.connection.poll_timeout().is_some_and(|limit| limit > until), "nothing is due now");
    fed.connection.admit();
    assert!(!fed.said().is_empty());
    assert!(!fed.connection.drained(fed.now + SECOND));
    assert!(fed.connection.poll_timeout().is_some_and(|limit| limit > until), "what is left is the handshake's limit");
    assert!(matches!(fed.feed(&ready_command(&[("Socket-Type", b"DEALER")]))[..], [Seen::Ready(_)]));
    fed.connection.admit();
    assert_eq!(fed.said(), "");
}

#[test]
fn a_peer_that_fails_is_told_no_ready_that_was_kept_back() {
    let mut fed = Fed::accepted(Config::new(SocketKind::Pair));
    assert_eq!(fed.said().len(), 64, "the greeting");
    let error = fed.error(&handshake("PUB"));
    assert!(matches!(error, ProtocolError::IncompatibleSocket { .. }));
    let said = fed.said();
    assert!(said[2..].starts_with(b"\x05ERROR"), "{said:?}");
    assert!(said[9..].starts_with(b"try again: "), "{said:?}");
    assert!(fed.connection.handle_timeout(fed.now + SECOND).is_err());
    fed.connection.admit();
    assert_eq!(fed.said(), "");
}

#[test]
fn handshake_frames_may_lack_the_command_bit_but_not_end() {
    let mut ready = handshake("PUSH");
    ready[64] = 0;
    assert!(matches!(Fed::new(Config::new(SocketKind::Pull)).feed(&ready)[..], [Seen::Ready(_)]));
    ready[64] = wire::COMMAND | wire::MORE;
    let error = Fed::new(Config::new(SocketKind::Pull)).error(&ready);
    assert!(matches!(error, ProtocolError::MalformedCommand { .. }));
}

#[test]
fn a_handshake_is_limited_by_what_it_announces() {
    for length in [65_536, 1 << 32, 1 << 62, u64::MAX - 8, u64::MAX] {
        let header = [&[wire::COMMAND | wire::LONG][..], &length.to_be_bytes()].concat();
        let mut fed = Fed::new(Config::new(SocketKind::Pull));
        let announced = 73u64.saturating_add(length);
        let error = ProtocolError::HandshakeTooLarge { announced, limit: 65_536 };
        assert_eq!(fed.error(&[peer_greeting(1), header].concat()), error);
    }
    let whole = handshake("PUSH");
    for (limit, good) in [(whole.len(), true), (whole.len() - 1, false)] {
        let mut config = Config::new(SocketKind::Pull);
        config.max_handshake = limit;
        assert_eq!(matches!(Fed::new(config).feed(&whole)[..], [Seen::Ready(_)]), good);
    }
}

#[test]
fn no_command_reaches_the_application_but_subscriptions_at_publishers() {
    let bodies: [&[u8]; 8] = [
        b"\x04PING\0\0",
        b"\x04PONG",
        b"\x09SUBSCRIBEA",
        b"\x06CANCELA",
        b"\x04JOINA",
        b"\x05LEAVEA",
        b"\x07MESSAGE",
        b"\x05HELLO",
    ];
    for kind in SocketKind::ALL {
        for body in bodies {
            let expected = match (kind.publishes(), body) {
                (true, b"\x09SUBSCRIBEA") => vec![Seen::Subscribe("A".into())],
                (true, b"\x06CANCELA") => vec![Seen::Cancel("A".into())],
                (_, [size, name @ ..])
                    if ["JOINA", "LEAVEA", "MESSAGE", "HELLO"].map(str::as_bytes).contains(&name) =>
                {
                    vec![Seen::Oddity(ProtocolError::unexpected(&name[..usize::from(*size)]))]
                }
                _ => vec![],
            };
            let mut fed = Fed::ready(Config::new(kind));
            assert_eq!(fed.feed(&command(body)), expected);
            assert_eq!(fed.feed(&frame(0, b"next")), [Seen::Message(vec![b"next".to_vec()])]);
        }
    }
}

#[test]
fn a_ping_is_answered_with_its_context() {
    let mut fed = Fed::ready(Config::new(SocketKind::Pull));
    for size in 0..=16 {
        let context = &b"0123456789abcdef"[..size];
        assert!(fed.feed(&command(&[b"\x04PING\0\0", context].concat())).is_empty());
        assert_eq!(fed.said(), command(&[b"\x04PONG", context].concat()));
    }
    for size in 17..30 {
        let context = vec![b'x'; size];
        assert!(fed.feed(&command(&[b"\x04PING\0\0", &context[..]].concat())).is_empty());
        assert_eq!(fed.said(), command(&[b"\x04PONG", &context[..16]].concat()));
    }
    for size in 5..7 {
        let mut body = b"\x04PING\0\0".to_vec();
        body.resize(size, b'x');
        assert!(matches!(
            Fed::ready(Config::new(SocketKind::Pull)).error(&command(&body)),
            ProtocolError::MalformedCommand { .. }
        ));
    }
}

#[test]
fn a_million_pings_leave_64_pongs() {
    let mut fed = Fed::ready(Config::new(SocketKind::Pull));
    let pings = command(b"\x04PING\0\0").repeat(1000);
    for _ in 0..1000 {
        assert!(fed.feed(&pings).is_empty());
    }
    assert_eq!(fed.said(), command(b"\x04PONG").repeat(64));
    assert_eq!(fed.connection.dropped_pongs(), 1_000_000 - 64);
}

#[test]
fn what_has_no_place_and_does_no_harm_is_told_once_and_passed_over() {
    let malformed = |command, fault| ProtocolError::MalformedCommand { command, fault };
    let odd: [(&[u8], ProtocolError); 7] = [
        (b"", malformed(CommandName::Unknown, "it is empty")),
        (b"\0", malformed(CommandName::Unknown, "its name is not made of letters")),
        (b"\xFFPING", malformed(CommandName::Unknown, "its name is longer than itself")),
        (b"\x05ERROR\x09short", malformed(CommandName::Error, "its reason is longer than itself")),
        (b"\x05READY", ProtocolError::unexpected(b"READY")),
        (b"\x05HELLO", ProtocolError::unexpected(b"HELLO")),
        (b"\x05ERROR\x03400", ProtocolError::refused(b"400")),
    ];
    for (body, error) in odd {
        let mut fed = Fed::ready(Config::new(SocketKind::Pull));
        assert_eq!(fed.feed(&command(body)), [Seen::Oddity(error)]);
        for _ in 0..3 {
            let next = [command(body), frame(0, b"next")].concat();
            assert_eq!(fed.feed(&next), [Seen::Message(vec![b"next".to_vec()])]);
        }
        assert_eq!(fed.connection.ended(), Ok(()), "{body:?}");
    }
}

#[test]
fn after_an_error_the_connection_stays_as_it_is() {
    let mut fed = Fed::ready(Config::new(SocketKind::Pull));
    let error = fed.error(&command(b"\x04PING"));
    let reserve = (Err(error.clone()), Some(Seen::Error(error.clone())));
    for _ in 0..3 {
        assert_eq!(fed.feed(&frame(0, b"late")).pop(), reserve.1);
        assert_eq!(fed.connection.handle_timeout(fed.now + 99 * SECOND), reserve.0);
        assert_eq!(fed.connection.ended(), reserve.0);
    }
    fed.connection.refuse("too late");
    assert_eq!(fed.said(), "");
    assert!(!fed.connection.is_ready());
    assert!(fed.connection.poll_timeout().is_none());
    assert!(fed.connection.body_slot().is_none());
}

#[test]
fn a_refused_peer_reads_our_reason() {
    let mut fed = Fed::ready(Config::new(SocketKind::Router));
    fed.connection.refuse("this routing id is taken");
    let said = fed.said();
    let reason = "this routing id is taken".to_owned();
    let refusal = ProtocolError::Refused { reason: reason.clone() };
    let mut refused = Fed::ready(Config::new(SocketKind::Dealer));
    assert_eq!(refused.feed(&said), [Seen::Oddity(refusal.clone())]);
    assert_eq!(refused.connection.ended(), Err(refusal), "it was meant: the end follows");
    assert_eq!(fed.error(b""), ProtocolError::Dismissed { reason });
}

#[test]
fn the_end_is_clean_only_between_messages() {
    let stream = [handshake("PUSH"), message(&[b"a".to_vec(), vec![1; 70_000]]), frame(0, b"b")].concat();
    let hello = handshake("PUSH").len();
    let first = stream.len() - 3;
    for cut in (0..hello + 20).chain(first - 2..=stream.len()) {
        for size in [1, 4096] {
            if cut > 1000 && size == 1 {
                continue;
            }
            let mut fed = Fed::new(Config::new(SocketKind::Pull));
            for chunk in stream[..cut].chunks(size) {
                fed.feed(chunk);
            }
            let expected = match cut {
                0 => Err(ProtocolError::ClosedUnheard { times: 1 }),
                _ if cut < hello => Err(ProtocolError::HandshakeCut),
                _ if cut == hello || cut == first || cut == stream.len() => Ok(()),
                _ => Err(ProtocolError::MessageCut),
            };
            assert_eq!(fed.connection.ended(), expected, "cut at {cut}");
        }
    }
}

#[test]
fn the_handshake_has_one_deadline_however_it_trickles() {
    let mut fed = Fed::new(Config::new(SocketKind::Pull));
    let start = fed.now;
    let error = ProtocolError::HandshakeTimeout { limit: 30 * SECOND };
    for (second, octet) in handshake("PUSH").into_iter().enumerate().take(29) {
        fed.now = start + SECOND * second as u32;
        assert!(fed.feed(&[octet]).is_empty());
        assert_eq!(fed.connection.poll_timeout(), Some(start + 30 * SECOND));
        assert_eq!(fed.connection.handle_timeout(fed.now), Ok(()));
    }
    assert_eq!(fed.connection.handle_timeout(start + 30 * SECOND), Err(error));
}

#[test]
fn readiness_ends_the_handshakes_deadline() {
    let mut fed = Fed::ready(Config::new(SocketKind::Pull));
    assert_eq!(fed.connection.poll_timeout(), None);
    assert_eq!(fed.connection.handle_timeout(fed.now + 3600 * SECOND), Ok(()));
}

fn beating() -> Config {
    let mut config = Config::new(SocketKind::Pull);
    config.heartbeat = Some(Heartbeat { interval: SECOND, timeout: 3 * SECOND, ttl: 5 * SECOND });
    config
}

#[test]
fn a_silent_peer_is_given_up() {
    let mut fed = Fed::ready(beating());
    let start = fed.now;
    assert_eq!(fed.connection.poll_timeout(), Some(start + SECOND));
    assert_eq!(fed.connection.handle_timeout(start + SECOND), Ok(()));
    assert_eq!(fed.said(), command(b"\x04PING\0\x32"));
    let error = ProtocolError::HeartbeatTimeout { limit: 3 * SECOND };
    assert_eq!(fed.connection.handle_timeout(start + 4 * SECOND), Err(error));
}

#[test]
fn one_octet_of_a_slow_frame_is_a_sign_of_life() {
    for (small, by_slot) in [(true, false), (false, false), (false, true)] {
        let mut fed = Fed::ready(beating());
        let length: u64 = if small { 250 } else { 1 << 20 };
        fed.feed(&[&[wire::LONG][..], &length.to_be_bytes()].concat());
        for _ in 0..100 {
            fed.now += SECOND;
            assert_eq!(fed.connection.handle_timeout(fed.now), Ok(()));
            if by_slot {
                fed.connection.body_slot().expect("a large body").buffer.extend_from_slice(b"x");
                fed.feed(b"");
            } else {
                fed.feed(b"x");
            }
        }
        let error = ProtocolError::HeartbeatTimeout { limit: 3 * SECOND };
        assert_eq!(fed.connection.handle_timeout(fed.now + SECOND), Ok(()));
        assert_eq!(fed.connection.handle_timeout(fed.now + 4 * SECOND), Err(error));
    }
}

#[test]
fn being_asked_again_with_nothing_new_is_no_sign_of_life() {
    let mut fed = Fed::ready(beating());
    fed.feed(&[0, 9, 1]);
    fed.now += SECOND;
    assert_eq!(fed.connection.handle_timeout(fed.now), Ok(()));
    fed.feed(b"");
    assert_eq!(fed.connection.poll_timeout(), Some(fed.now + SECOND));
    assert!(fed.connection.handle_timeout(fed.now + 3 * SECOND).is_err());
    let mut fed = Fed::ready(beating());
    fed.now += SECOND;
    assert_eq!(fed.connection.handle_timeout(fed.now), Ok(()));
    fed.connection.traffic();
    assert!(fed.connection.handle_timeout(fed.now + 3 * SECOND).is_ok());
}

#[test]
fn a_peers_time_to_live_runs_until_it_says_more() {
    let promise = command(b"\x04PING\x03\xE8");
    let limit = Duration::from_secs(100);
    let mut fed = Fed::ready(Config::new(SocketKind::Pull));
    fed.feed(&promise);
    assert_eq!(fed.connection.poll_timeout(), Some(fed.now + limit));
    assert_eq!(fed.connection.handle_timeout(fed.now + limit), Err(ProtocolError::TtlExpired { limit }));
    for more in [frame(0, b"message"), vec![0]] {
        let mut fed = Fed::ready(Config::new(SocketKind::Pull));
        fed.feed(&promise);
        fed.feed(&more);
        assert_eq!(fed.connection.poll_timeout(), None);
        let mut fed = Fed::ready(Config::new(SocketKind::Pull));
        fed.feed(&[promise.clone(), more].concat());
        assert_eq!(fed.connection.poll_timeout(), None);
    }
}

#[test]
fn two_of_ours_make_friends() {
    for ours in SocketKind::ALL {
        for theirs in SocketKind::ALL.into_iter().filter(|&theirs| ours.accepts(theirs)) {
            let (mut left, mut right) = (Fed::new(Config::new(ours)), Fed::new(Config::new(theirs)));
            let (mut heard, mut told) = (Vec::new(), Vec::new());
            for _ in 0..2 {
                told.extend(right.feed(&left.said()));
                heard.extend(left.feed(&right.said()));
            }
            let is_a = |seen: &[Seen], kind| matches!(seen, [Seen::Ready(peer)] if peer.kind == Some(kind));
            assert!(is_a(&heard, theirs) && is_a(&told, ours), "{heard:?}, {told:?}");
        }
    }
}
