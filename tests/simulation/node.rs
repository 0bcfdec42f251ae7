//! One end of a simulated connection: the shipped state machine, a script of what its application sends, and the truth
//! about what the other end has to see.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use wiremesh::protocol::{Config, Connection, Event, PeerDescription, ProtocolError, command, subscription};

use crate::random::Random;

/// A message: the bodies of its frames.
pub(crate) type Message = Vec<Vec<u8>>;

/// One thing that an application, or a peer that is not ours, puts on the wire after its handshake.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A message; the second part says whether commands come between its frames.
    Send(Message, bool),
    Subscribe(Vec<u8>),
    Cancel(Vec<u8>),
    /// A command that means nothing to anybody.
    Noise,
    /// Octets that break the protocol, and the error they must cause.
    Break(Vec<u8>, ProtocolError),
    /// Refuse the peer.
    Refuse(&'static str),
}

/// What must be seen at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    Message(Message),
    Subscribe(Vec<u8>),
    Cancel(Vec<u8>),
}

/// One end.
pub(crate) struct Node {
    pub(crate) config: Arc<Config>,
    pub(crate) connection: Connection,
    pub(crate) input: BytesMut,
    pub(crate) script: VecDeque<Action>,
    /// Written by us, not yet taken by the link.
    pub(crate) unsent: BytesMut,
    /// How many octets were ever put into `unsent`.
    pub(crate) put: u64,
    /// Where the handshake ends in our stream, once we have said READY.
    pub(crate) greeted: Option<u64>,
    /// What the other end must see, with the place in our stream at which it can.
    pub(crate) truth: Vec<(u64, Sight)>,
    /// The places in our stream that are between two messages.
    pub(crate) boundaries: Vec<u64>,
    /// The error our stream must cause, once the place is reached.
    pub(crate) breaks: Option<(u64, ProtocolError)>,
    pub(crate) seen: Vec<Sight>,
    /// What the peer told about itself, from the end of the handshake on.
    pub(crate) ready: Option<PeerDescription>,
    pub(crate) failure: Option<ProtocolError>,
    pub(crate) ended: bool,
    pub(crate) refused: bool,
}

impl Node {
    pub(crate) fn new(config: Config, script: VecDeque<Action>, now: Instant) -> Node {
        let config = Arc::new(config);
        Node {
            connection: Connection::new(Arc::clone(&config), now),
            config,
            input: BytesMut::new(),
            script,
            unsent: BytesMut::new(),
            put: 0,
            greeted: None,
            truth: Vec::new(),
            boundaries: Vec::new(),
            breaks: None,
            seen: Vec::new(),
            ready: None,
            failure: None,
            ended: false,
            refused: false,
        }
    }

    /// Whether there is nothing left to say and nobody to say it to.
    pub(crate) fn is_over(&self) -> bool {
        self.failure.is_some() || self.ended
    }

    /// Fills `unsent` with the next thing to say, control octets first.
    pub(crate) fn speak(&mut self, peer: &Config, random: &mut Random) {
        if let Some(octets) = self.connection.transmit() {
            self.put(&octets);
            if self.greeted.is_none() && self.put > 64 {
                self.greeted = Some(self.put);
            }
            self.boundaries.push(self.put);
        } else if self.ready.is_some() && !self.is_over() && self.breaks.is_none() {
            let Some(action) = self.script.pop_front() else { return };
            self.act(action, peer, random);
        }
    }

    fn act(&mut self, action: Action, peer: &Config, random: &mut Random) {
        let minor = self.ready.as_ref().expect("ready").minor;
        match action {
            Action::Send(message, interrupted) => {
                let last = message.len() - 1;
                for (at, body) in message.iter().enumerate() {
                    self.put(&frame(u8::from(at < last), body));
                    if interrupted && at < last {
                        self.put(&noise(random));
                        if peer.kind.publishes() && random.chance(30) {
                            self.put(&command::subscribe_command(b"within"));
                            self.truth.push((self.put, Sight::Subscribe(b"within".to_vec())));
                        }
                    }
                }
                self.truth.push((self.put, Sight::Message(message)));
            }
            Action::Subscribe(topic) => self.subscription(minor, true, topic, peer),
            Action::Cancel(topic) => self.subscription(minor, false, topic, peer),
            Action::Noise => {
                let noise = noise(random);
                self.put(&noise);
            }
            Action::Break(octets, error) => {
                self.put(&octets);
                self.breaks = Some((self.put, error));
                return;
            }
            Action::Refuse(reason) => {
                self.connection.refuse(reason);
                self.refused = true;
                self.failure = Some(ProtocolError::Dismissed { reason: reason.to_owned() });
                let octets = self.connection.transmit().expect("an ERROR command");
                self.put(&octets);
                return;
            }
        }
        self.boundaries.push(self.put);
    }

    fn subscription(&mut self, minor: u8, subscribe: bool, topic: Vec<u8>, peer: &Config) {
        self.put(&subscription(minor, subscribe, &topic));
        if minor == 0 {
            self.truth.push((self.put, Sight::Message(vec![[vec![u8::from(subscribe)], topic].concat()])));
        } else if peer.kind.publishes() {
            self.truth.push((self.put, if subscribe { Sight::Subscribe(topic) } else { Sight::Cancel(topic) }));
        }
    }

    fn put(&mut self, octets: &[u8]) {
        self.unsent.extend_from_slice(octets);
        self.put += octets.len() as u64;
    }

    /// Takes what the link delivers, by either way in, and all events that come of it.
    pub(crate) fn hear(&mut self, mut octets: &[u8], now: Instant, random: &mut Random) {
        while self.failure.is_none() && !octets.is_empty() {
            let by_slot = random.chance(70);
            let mut size = octets.len();
            match self.connection.body_slot() {
                Some(slot) if by_slot && self.input.is_empty() => {
                    let (length, room) = (slot.buffer.len() + slot.wanted, slot.buffer.capacity() - slot.buffer.len());
                    assert!(room > 0 && slot.wanted > 0, "a slot without room");
                    assert!(slot.buffer.capacity() <= length, "reserved beyond the announced length");
                    assert!(
                        slot.buffer.capacity()
                            <= (16 * slot.buffer.len()).clamp(64 << 10, 1 << 20).max(2 * slot.buffer.len()),
                        "reserved out of proportion"
                    );
                    size = size.min(slot.wanted).min(room);
                    slot.buffer.extend_from_slice(&octets[..size]);
                }
                Some(_) | None => self.input.extend_from_slice(octets),
            }
            octets = &octets[size..];
            self.pump(now);
        }
    }

    /// Takes all events there are, checking that every step makes progress.
    pub(crate) fn pump(&mut self, now: Instant) {
        loop {
            let before = self.input.len();
            match self.connection.received(&mut self.input, now) {
                Ok(Some(event)) => {
                    assert!(self.input.len() < before || before == 0, "an event out of nothing");
                    self.see(event);
                }
                Ok(None) => break,
                Err(error) => {
                    self.failure = Some(error);
                    return;
                }
            }
        }
        let rest = self.input.clone();
        assert!(matches!(self.connection.received(&mut self.input, now), Ok(None)), "something out of nothing");
        assert_eq!(self.input, rest, "what is left must stay as it is");
        let frames = u64::from(self.config.max_frames) * 9;
        let most = self.config.max_message.saturating_add(frames).max(command::MAX_COMMAND as u64 + 9);
        assert!(self.input.len() as u64 <= most, "{} octets gathered", self.input.len());
    }

    fn see(&mut self, event: Event) {
        assert!(
            self.ready.is_some() || matches!(event, Event::Ready(_)),
            "something before the handshake is over: {event:?}"
        );
        match event {
            Event::Ready(peer) => {
                assert!(self.ready.replace(peer).is_none(), "ready twice");
            }
            Event::Messages { wire, count } => {
                let before = self.seen.len();
                self.see_messages(&wire);
                assert_eq!(self.seen.len() - before, count as usize);
            }
            Event::Message(pieces) => {
                assert!(pieces.iter().all(|piece| !piece.is_empty()));
                let before = self.seen.len();
                self.see_messages(&Bytes::from(pieces.concat()));
                assert_eq!(self.seen.len() - before, 1);
            }
            Event::Subscribe(topic) => self.seen.push(Sight::Subscribe(topic.to_vec())),
            Event::Cancel(topic) => self.seen.push(Sight::Cancel(topic.to_vec())),
            Event::Answers | Event::Oddity(_) => {}
        }
    }

    fn see_messages(&mut self, mut wire: &[u8]) {
        let mut message = Message::new();
        while !wire.is_empty() {
            let long = wire[0] & 2 != 0;
            assert_eq!(wire[0] & 4, 0, "a command among messages");
            let (head, size) =
                if long { (9, u64::from_be_bytes(wire[1..9].try_into().unwrap())) } else { (2, u64::from(wire[1])) };
            let end = head + usize::try_from(size).unwrap();
            message.push(wire[head..end].to_vec());
            if wire[0] & 1 == 0 {
                let octets: u64 = message.iter().map(|body| body.len() as u64).sum();
                assert!(octets <= self.config.max_message && message.len() <= self.config.max_frames as usize);
                self.seen.push(Sight::Message(std::mem::take(&mut message)));
            }
            wire = &wire[end..];
        }
        assert!(message.is_empty(), "half a message");
    }
}

/// A frame, encoded by other means than the library's.
pub(crate) fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    match u8::try_from(body.len()) {
        Ok(size) => [&[flags, size], body].concat(),
        Err(_) => [&[flags | 2][..], &(body.len() as u64).to_be_bytes(), body].concat(),
    }
}

/// A legal command that the receiver deals with alone.
fn noise(random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => frame(4, b"\x04PING\0\0"),
        // A promise to speak again within 300 s.
        1 => frame(4, b"\x04PING\x0B\xB8context"),
        2 => frame(4, b"\x04PONG"),
        _ => frame(4, &[b"\x07UNKNOWN", &random.octets(30)[..]].concat()),
    }
}
