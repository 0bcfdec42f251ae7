//! Peers that libzmq cannot play: octets over a plain socket, as the RFCs write them. They need no python.

use super::body::given;
use super::ends::{End, LONG, Ours};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use wiremesh::Profile;
use wiremesh::SocketKind::{self, *};

#[test]
fn our_greeting_and_our_ready_are_those_of_version_3_1() {
    for profile in [Profile::Wiremesh, Profile::Libzmq] {
        let us = Ours::with(Dealer, |builder| builder.profile(profile).routing_id("us"));
        let mut raw = Raw::connect(&us.bind(TCP));
        raw.write(&greeting(1));
        assert_eq!(raw.read(64), greeting(1));
        raw.write(&ready(Router));
        let frame = raw.frame();
        assert_eq!((frame[0], &frame[2..8]), (4, &b"\x05READY"[..]));
        let mut properties: Vec<_> = properties(&frame[8..]);
        properties.sort();
        if profile == Profile::Wiremesh {
            assert_eq!(properties.pop().map(|(name, value)| (name, value.len())), Some((&b"X-Wiremesh"[..], 30)));
        }
        assert_eq!(properties, [(&b"Identity"[..], &b"us"[..]), (b"Socket-Type", b"DEALER")]);
    }
}

#[test]
fn our_publisher_takes_subscriptions_of_either_form_whatever_the_version() {
    for minor in [0, 1] {
        let us = Ours::new(XPub);
        let mut raw = Raw::connect(&us.bind(TCP));
        raw.greet(minor, Sub);
        for (subscribe, cancel) in [
            (b"\0\x03\x01ab".to_vec(), b"\0\x03\0ab".to_vec()),
            (command(b"SUBSCRIBE", b"ab"), command(b"CANCEL", b"ab")),
        ] {
            raw.write(&subscribe);
            us.expect(&given(["\x01ab"]));
            us.send(&given(["not for them"]));
            us.send(&given(["abc", ""]));
            assert_eq!(raw.read(7), b"\x01\x03abc\0\0");
            raw.write(&cancel);
            us.expect(&given(["\0ab"]));
            us.send(&given(["abc"]));
        }
    }
}

#[test]
fn our_subscriber_uses_the_form_of_its_publishers_version() {
    for (minor, subscribe, cancel) in [
        (0, b"\0\x03\x01ab".to_vec(), b"\0\x03\0ab".to_vec()),
        (1, command(b"SUBSCRIBE", b"ab"), command(b"CANCEL", b"ab")),
    ] {
        let us = Ours::new(Sub);
        us.subscribe("ab");
        let mut raw = Raw::accept(&us);
        raw.greet(minor, Pub);
        assert_eq!(raw.frame(), subscribe);
        raw.write(b"\0\x02xx\0\x03abc");
        us.expect(&given(["abc"]));
        us.unsubscribe("ab");
        assert_eq!(raw.frame(), cancel);
    }
}

#[test]
fn a_ping_is_answered_with_its_context() {
    let us = Ours::new(Pull);
    let mut raw = Raw::connect(&us.bind(TCP));
    raw.greet(1, Push);
    // No word on how long we may be silent, then four octets that must come back.
    raw.write(&command(b"PING", b"\0\0four"));
    assert_eq!(raw.frame(), command(b"PONG", b"four"));
    raw.write(&command(b"PING", b"\0\0"));
    assert_eq!(raw.frame(), command(b"PONG", b""));
}

#[test]
fn we_ping_a_peer_that_is_silent() {
    let us = Ours::with(Pull, |builder| {
        builder
            .heartbeat_interval(Duration::from_millis(20))
            .heartbeat_timeout(LONG)
            .heartbeat_ttl(Duration::from_secs(1))
    });
    let mut raw = Raw::connect(&us.bind(TCP));
    raw.greet(1, Push);
    let ping = raw.frame();
    // The time is in tenths of a second.
    assert!(ping.starts_with(b"\x04") && ping[2..].starts_with(b"\x04PING\0\x0A"), "{}", ping.escape_ascii());
    raw.write(&command(b"PONG", &ping[9..]));
    raw.write(b"\0\x05there");
    us.expect(&given(["there"]));
}

#[test]
fn octets_that_come_one_by_one_make_the_same_messages() {
    let us = Ours::new(Pull);
    let mut raw = Raw::connect(&us.bind(TCP));
    let stream = [
        &greeting(1)[..],
        &ready(Push),
        b"\x01\x03one\0\0",
        &command(b"PING", b"\0\0"),
        // A long frame where a short one would do.
        b"\x02\0\0\0\0\0\0\0\x03two",
    ]
    .concat();
    stream.chunks(1).for_each(|octet| raw.write(octet));
    us.expect(&given(["one", ""]));
    us.expect(&given(["two"]));
}

#[test]
fn commands_nobody_knows_are_passed_over() {
    let us = Ours::new(Pull);
    let mut raw = Raw::connect(&us.bind(TCP));
    raw.greet(1, Push);
    raw.write(&command(b"JOIN", b"group"));
    raw.write(&command(b"SUBSCRIBE", b"to what?"));
    raw.write(b"\0\x04next");
    us.expect(&given(["next"]));
}

const TCP: &str = "tcp://127.0.0.1:*";

/// The other end of a connection, as octets.
struct Raw(TcpStream);

impl Raw {
    fn connect(endpoint: &str) -> Raw {
        let address = endpoint.strip_prefix("tcp://").expect("a tcp endpoint");
        Raw::of(TcpStream::connect(address).expect("connected"))
    }

    /// Has our socket connect and takes that connection.
    fn accept(us: &Ours) -> Raw {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        us.connect(&format!("tcp://{}", listener.local_addr().expect("an address")));
        Raw::of(listener.accept().expect("accepted").0)
    }

    fn of(stream: TcpStream) -> Raw {
        stream.set_nodelay(true).expect("set");
        stream.set_read_timeout(Some(LONG)).expect("set");
        Raw(stream)
    }

    /// Goes through the handshake as a peer of that minor version and kind.
    fn greet(&mut self, minor: u8, kind: SocketKind) {
        self.write(&greeting(minor));
        self.write(&ready(kind));
        self.read(64);
        assert_eq!(&self.frame()[2..8], b"\x05READY");
    }

    #[track_caller]
    fn write(&mut self, octets: &[u8]) {
        self.0.write_all(octets).expect("written");
    }

    #[track_caller]
    fn read(&mut self, count: usize) -> Vec<u8> {
        let mut octets = vec![0; count];
        self.0.read_exact(&mut octets).expect("octets in time");
        octets
    }

    /// The next frame, header included. Long ones do not occur here.
    #[track_caller]
    fn frame(&mut self) -> Vec<u8> {
        let mut frame = self.read(2);
        assert_eq!(frame[0] & 2, 0, "a short frame");
        frame.extend(self.read(usize::from(frame[1])));
        frame
    }
}

/// RFC 37: signature, version, mechanism, as-server, filler.
fn greeting(minor: u8) -> Vec<u8> {
    let mut octets = b"\xFF\0\0\0\0\0\0\0\0\x7F\x03".to_vec();
    octets.push(minor);
    octets.extend(b"NULL");
    octets.resize(64, 0);
    // libzmq puts a 1 where the 64-bit length of version 1.0 ends: so do we, for peers of that version.
    octets[8] = 1;
    octets
}

fn ready(kind: SocketKind) -> Vec<u8> {
    let name = kind.name().as_bytes();
    let mut properties = b"\x0BSocket-Type".to_vec();
    properties.extend((name.len() as u32).to_be_bytes());
    properties.extend(name);
    command(b"READY", &properties)
}

fn command(name: &[u8], body: &[u8]) -> Vec<u8> {
    let size = u8::try_from(1 + name.len() + body.len()).expect("a short command");
    [&[4, size, name.len() as u8], name, body].concat()
}

/// The names and values of a READY's body.
fn properties(mut octets: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut properties = Vec::new();
    while let Some((size, rest)) = octets.split_first() {
        let (name, rest) = rest.split_at(usize::from(*size));
        let (size, rest) = rest.split_first_chunk().expect("a length");
        let (value, rest) = rest.split_at(u32::from_be_bytes(*size) as usize);
        properties.push((name, value));
        octets = rest;
    }
    properties
}
