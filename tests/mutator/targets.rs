//! The fuzz targets. The seeded mutator of `tests/mutator.rs` and the libFuzzer programs of `fuzz/` call these same
//! functions.
//!
//! Each takes any octets, panics if a promise is broken and otherwise says whether the input got beyond the handshake.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use wiremesh::SocketKind;
use wiremesh::protocol::command::{self, Command};
use wiremesh::protocol::decoder::{Decoded, Decoder};
use wiremesh::protocol::greeting::{self, Greeting};
use wiremesh::protocol::{
    Config, Connection, Event, Heartbeat, ProtocolError, cancel_command, metadata, subscribe_command,
};

use crate::random::Random;

/// A greeting decides at one octet and sticks to it; a connection agrees with it, however it is fed.
pub(crate) fn greeting(data: &[u8]) -> bool {
    let verdict = Greeting::read(data);
    let mut decided = None;
    for cut in 0..=data.len().min(greeting::SIZE + 1) {
        let so_far = Greeting::read(&data[..cut]);
        match &decided {
            None if so_far != Ok(None) => decided = Some(so_far),
            None => {}
            Some(decided) => assert_eq!(decided, &so_far, "another verdict at octet {cut}"),
        }
    }
    assert_eq!(decided.unwrap_or(Ok(None)), verdict);
    if let Ok(Some(read)) = &verdict {
        let written = greeting::write(read.mechanism);
        assert_eq!(Greeting::read(&written).map(|again| again.map(|again| again.mechanism)), Ok(Some(read.mechanism)));
    }
    let whole = Run::new(&[data], Config::new(SocketKind::Pull), 0).trace;
    let octets: Vec<_> = data.chunks(1).collect();
    assert_eq!(Run::new(&octets, Config::new(SocketKind::Pull), 0).trace, whole);
    matches!(verdict, Ok(Some(_)))
}

/// The frame decoder gives the same frames and faults for any cut, within the limits that the first octet chooses.
pub(crate) fn frame(data: &[u8]) -> bool {
    let Some((&choice, stream)) = data.split_first() else { return false };
    let config = limits(choice, SocketKind::Pull);
    let whole = frames(&config, &[stream]);
    assert_eq!(frames(&config, &chunks(stream)), whole, "another result when cut");
    !whole.0.is_empty()
}

/// A command and metadata are understood or refused; what is understood can be written again.
pub(crate) fn command(data: &[u8]) -> bool {
    let body = Bytes::copy_from_slice(data);
    if let Ok(properties) = metadata::read(body.clone()) {
        let mut written = Vec::new();
        properties.iter().for_each(|(name, value)| metadata::write(&mut written, name, value));
        assert!(written.len() <= data.len(), "what is passed over is left out");
        assert_eq!(metadata::read(written.into()), Ok(properties.clone()));
        assert!(metadata::find(&properties, metadata::IDENTITY).is_none_or(|id| metadata::check_identity(id).is_ok()));
    }
    let written = match Command::read(body) {
        Err(error) => {
            assert!(matches!(error, ProtocolError::MalformedCommand { .. }));
            return false;
        }
        Ok(Command::Ready(properties)) => command::ready(&properties),
        Ok(Command::Error(reason)) => {
            assert!(reason.len() <= 255);
            return true;
        }
        Ok(Command::Ping { ttl, context }) => {
            assert!(context.len() <= 16 && ttl <= Duration::from_millis(6_553_500));
            let written = command::ping(ttl);
            let read = [&written[2..], &context[..]].concat();
            assert!(data == read || (read.len() == 23 && data.starts_with(&read)));
            return true;
        }
        Ok(Command::Subscribe(topic)) => subscribe_command(&topic),
        Ok(Command::Cancel(topic)) => cancel_command(&topic),
        Ok(Command::Pong) => command::pong(&data[5..]),
        Ok(Command::Other(name)) => {
            assert!(!name.is_empty() && name.iter().all(u8::is_ascii_alphabetic));
            return true;
        }
    };
    let size = if written[0] & 2 == 0 { 2 } else { 9 };
    assert_eq!(&written[size..], data);
    true
}

/// A whole connection: the first two octets choose kind, limits and whether a good handshake comes first; the rest is
/// what the peer sends. The same events and faults come of it for any cut; every step makes progress; a fault is for
/// ever; what the connection has to say stays bounded.
pub(crate) fn connection(data: &[u8]) -> bool {
    let [choice, kind, stream @ ..] = data else { return false };
    let ours = SocketKind::ALL[usize::from(kind & 0x7F) % SocketKind::ALL.len()];
    let hello = handshake(ours);
    let stream = if kind & 0x80 == 0 { [&hello, stream].concat() } else { stream.to_vec() };
    let chunks = chunks(&stream);
    let whole = Run::new(&[&stream], limits(*choice, ours), 0);
    for ticking in [0, 1] {
        let cut = Run::new(&chunks, limits(*choice, ours), ticking);
        assert_eq!(cut.trace, whole.trace, "another result when cut");
        assert_eq!(cut.end, whole.end, "another end when cut");
    }
    whole.ready
}

/// A good peer's first octets to a socket of this kind.
pub(crate) fn handshake(ours: SocketKind) -> Vec<u8> {
    let theirs = SocketKind::ALL.into_iter().find(|&kind| ours.accepts(kind)).expect("every kind has a partner");
    let mut properties = Vec::new();
    metadata::write(&mut properties, metadata::SOCKET_TYPE, theirs.name().as_bytes());
    [&greeting::write(*b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")[..], &command::ready(&properties)].concat()
}

/// A greeting, READY, PING, 64 PONGs with contexts, and an ERROR: more than this never waits to be said.
const MOST_SAID: usize = greeting::SIZE + 48 + 9 + 64 * 23 + 264;

/// A connection that was fed to its end.
struct Run {
    /// All events, and the fault if there was one.
    trace: Vec<Vec<u8>>,
    end: Result<(), ProtocolError>,
    ready: bool,
}

impl Run {
    /// Feeds the chunks one by one; with `ticking`, an hour passes between them and deadlines are looked at, though
    /// none can expire.
    fn new(chunks: &[&[u8]], config: Config, ticking: u32) -> Run {
        let mut now = Instant::now();
        let most_input = config.max_handshake;
        let mut connection = Connection::new(Arc::new(config), now);
        let mut run = Run { trace: Vec::new(), end: Ok(()), ready: false };
        let mut input = BytesMut::new();
        let mut failure = None;
        for &chunk in chunks {
            now += Duration::from_secs(3600) * ticking;
            let mut rest = chunk;
            while failure.is_none() && !rest.is_empty() {
                rest = place(&mut connection, &mut input, rest);
                failure = run.pump(&mut connection, &mut input, now);
            }
            let said = connection.transmit().unwrap_or_default();
            assert!(said.len() <= MOST_SAID, "{} octets to say", said.len());
            assert!(run.ready || failure.is_some() || input.len() <= most_input, "a handshake without a limit");
            if ticking > 0 && failure.is_none() && connection.is_ready() {
                // Heartbeats of ours ask, and any octet answers.
                connection.traffic();
                assert_eq!(connection.handle_timeout(now), Ok(()));
            }
        }
        run.end = connection.ended();
        if let Some(error) = failure {
            assert_eq!(run.end, Err(error.clone()));
            input.extend_from_slice(&handshake(SocketKind::Pull));
            for _ in 0..2 {
                assert_eq!(connection.received(&mut input, now).map(|_| ()), Err(error.clone()));
                assert_eq!(connection.handle_timeout(now), Err(error.clone()));
            }
            assert!(!connection.is_ready() && connection.body_slot().is_none() && connection.poll_timeout().is_none());
            connection.transmit();
            assert_eq!(connection.transmit(), None);
            run.trace.push(format!("{error:?}").into_bytes());
        }
        run
    }

    fn pump(&mut self, connection: &mut Connection, input: &mut BytesMut, now: Instant) -> Option<ProtocolError> {
        loop {
            let before = input.len();
            match connection.received(input, now) {
                Ok(Some(event)) => {
                    assert!(input.len() < before || before == 0, "an event out of nothing");
                    self.note(event, connection);
                }
                Ok(None) => {
                    let rest = input.len();
                    assert!(matches!(connection.received(input, now), Ok(None)), "something out of nothing");
                    assert_eq!(input.len(), rest);
                    return None;
                }
                Err(error) => return Some(error),
            }
        }
    }

    fn note(&mut self, event: Event, connection: &Connection) {
        match event {
            Event::Ready(peer) => {
                assert!(!self.ready);
                self.ready = true;
                self.trace.push(format!("{peer:?}").into_bytes());
            }
            Event::Messages { wire, count } => {
                let before = self.trace.len();
                note_messages(&wire, &mut self.trace);
                assert_eq!(self.trace.len() - before, count as usize);
            }
            Event::Message(pieces) => {
                let before = self.trace.len();
                note_messages(&pieces.concat(), &mut self.trace);
                assert_eq!(self.trace.len() - before, 1);
            }
            Event::Subscribe(topic) => self.trace.push([b"subscribe ", &topic[..]].concat()),
            Event::Cancel(topic) => self.trace.push([b"cancel ", &topic[..]].concat()),
            Event::Answers => {}
            Event::Oddity(error) => self.trace.push(format!("odd: {error:?}").into_bytes()),
        }
        assert!(self.ready && connection.is_ready());
    }
}

/// Puts octets where the connection wants them; returns what is left.
fn place<'a>(connection: &mut Connection, input: &mut BytesMut, octets: &'a [u8]) -> &'a [u8] {
    match connection.body_slot() {
        Some(slot) if input.is_empty() => {
            let room = slot.buffer.capacity() - slot.buffer.len();
            assert!(room > 0 && slot.wanted > 0);
            let (now, later) = octets.split_at(octets.len().min(slot.wanted).min(room));
            slot.buffer.extend_from_slice(now);
            later
        }
        Some(_) | None => {
            input.extend_from_slice(octets);
            &[]
        }
    }
}

/// Takes wire form apart into whole messages, noting the wire form of each.
fn note_messages(mut wire: &[u8], trace: &mut Vec<Vec<u8>>) {
    let mut message = Vec::new();
    while wire.has_remaining() {
        let flags = wire[0];
        assert_eq!(flags & 4, 0, "a command among messages");
        let size = if flags & 2 == 0 {
            2 + usize::from(wire[1])
        } else {
            9 + usize::try_from(u64::from_be_bytes(wire[1..9].try_into().unwrap())).unwrap()
        };
        message.extend_from_slice(&wire[..size]);
        wire.advance(size);
        if flags & 1 == 0 {
            trace.push(std::mem::take(&mut message));
        }
    }
    assert!(message.is_empty(), "half a message");
}

/// What the frame decoder makes of a stream: messages and commands, the fault, and what it left.
fn frames(config: &Config, chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Option<ProtocolError>) {
    let (mut decoder, mut input, mut found) = (Decoder::new(config), BytesMut::new(), Vec::new());
    for chunk in chunks {
        input.extend_from_slice(chunk);
        loop {
            let before = input.len();
            match decoder.decode(&mut input) {
                Ok(Some(Decoded::Messages { wire, count })) => {
                    let known = found.len();
                    note_messages(&wire, &mut found);
                    assert_eq!(found.len() - known, count as usize);
                }
                Ok(Some(Decoded::Message(pieces))) => note_messages(&pieces.concat(), &mut found),
                Ok(Some(Decoded::Command(body))) => found.push([b"command ", &body[..]].concat()),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
            assert!(input.len() < before, "an event out of nothing");
        }
    }
    (found, None)
}

/// Limits, some of them so small that they are met.
fn limits(choice: u8, kind: SocketKind) -> Config {
    let mut config = Config::new(kind);
    config.handshake_timeout = None;
    if choice & 1 != 0 {
        (config.max_message, config.max_frames) = (300, 4);
    }
    if choice & 2 != 0 {
        config.large_body = 16;
    }
    if choice & 4 != 0 {
        config.max_handshake = 256;
    }
    if choice & 8 != 0 {
        config.max_message = u64::MAX;
    }
    if choice & 16 != 0 {
        let interval = Duration::from_secs(1);
        config.heartbeat = Some(Heartbeat { interval, timeout: Duration::from_secs(1 << 40), ttl: interval });
    }
    config
}

/// Cuts a stream in a way that depends on nothing but its octets.
fn chunks(stream: &[u8]) -> Vec<&[u8]> {
    let seed =
        stream.iter().fold(stream.len() as u64, |seed, &octet| seed.wrapping_mul(31).wrapping_add(u64::from(octet)));
    let mut random = Random::new(seed);
    let most = random.pick(&[1, 3, 12, 200]);
    let (mut rest, mut chunks) = (stream, Vec::new());
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(random.between(1, most).min(rest.len()));
        chunks.push(chunk);
        rest = behind;
    }
    chunks
}
