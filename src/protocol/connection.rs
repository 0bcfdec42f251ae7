//! One connection: greeting, handshake, traffic, and failure, which is for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;

use super::announcement::{self, Announcement};
use super::command::{self, Command};
use super::config::Config;
use super::decoder::{Decoded, Decoder};
use super::error::{CommandName, ProtocolError};
use super::greeting::{self, Greeting};
use super::heartbeat::Heartbeats;
use super::mechanism::{Mechanism, Progress};
use super::metadata;
use super::outgoing::Outgoing;
use super::peer::PeerDescription;
use crate::kind::SocketKind;
use crate::message::wire::Header;

/// The ZMTP side of one byte stream.
///
/// Whoever drives it
/// - writes what [`transmit`](Connection::transmit) gives before any message, and asks again after every other call;
/// - appends what it reads to one `BytesMut` and calls [`received`](Connection::received) until that returns
///   `Ok(None)`, or reads into [`body_slot`](Connection::body_slot) while there is one and then calls `received`
///   likewise;
/// - calls [`handle_timeout`](Connection::handle_timeout) when [`poll_timeout`](Connection::poll_timeout) has passed;
/// - sends messages once [`is_ready`](Connection::is_ready), in wire form, whole;
/// - calls [`ended`](Connection::ended) when the stream has ended;
/// - on an [accepted](Connection::accepted) stream, once it is told that the peer is ready, or that it seems to
///   [wait](Connection::drained) for our READY, calls [`admit`](Connection::admit) if the peer has a place.
///
/// After an error it is frozen: every later call says the same error, and only `transmit` still gives what is left to
/// say.
#[derive(Debug)]
pub struct Connection {
    config: Arc<Config>,
    state: State,
    outgoing: Outgoing,
    /// Our READY, kept back until the peer is admitted.
    held_back: Option<Box<HeldBack>>,
    /// How many octets of the stream were held, in the caller's buffer and in ours, when `received` last returned. More
    /// than that is a sign of life.
    held: usize,
    /// How many of them were in the caller's buffer.
    unread: usize,
}

/// What a connection has to tell.
#[derive(Debug)]
pub enum Event {
    /// The handshake is over; messages may be sent.
    Ready(PeerDescription),
    /// Whole messages.
    Messages {
        /// The messages in wire form, back to back, with no command between or in them; shares the memory of the read
        /// buffer.
        wire: Bytes,
        /// How many messages there are, at least one.
        count: u32,
    },
    /// One whole message in wire form, in pieces, because it came in many reads. A large body that was read into its
    /// own buffer is a piece, and the piece before it ends with its header; every other frame is whole within a piece.
    /// (A large body that is all in the read buffer already comes with [`Event::Messages`], uncopied.)
    Message(SmallVec<[Bytes; 4]>),
    /// The peer subscribes to this topic with a command. (The older form is a message.) Only kinds that publish are
    /// told. The topic shares the memory of the read buffer; copy it to keep it.
    Subscribe(Bytes),
    /// The peer cancels its subscription to this topic, likewise.
    Cancel(Bytes),
    /// As many answers to PINGs wait as may: those to further ones are given up, as long as these are not
    /// [transmitted](Connection::transmit).
    Answers,
    /// The peer said something that has no place in the protocol and does no harm; the connection goes on. Told once of
    /// each sort.
    Oddity(ProtocolError),
}

/// Where to read a large body to.
#[derive(Debug)]
pub struct BodySlot<'a> {
    /// The buffer; it has room for at least one octet beyond what it holds.
    pub buffer: &'a mut BytesMut,
    /// How many octets are missing; no more than this may be added.
    pub wanted: usize,
}

/// The states of a connection. Those before traffic consume themselves at each step.
#[derive(Debug)]
enum State {
    Greeting(ExpectGreeting),
    Handshake(ExpectReady),
    Traffic(Traffic),
    Failed(ProtocolError),
}

/// Nothing but the start of a greeting has come.
#[derive(Debug)]
struct ExpectGreeting {
    deadline: Option<Instant>,
}

/// The greeting has come; the mechanism talks.
#[derive(Debug)]
struct ExpectReady {
    deadline: Option<Instant>,
    minor: u8,
    mechanism: Mechanism,
    /// How many octets the peer has sent so far.
    spent: u64,
}

/// The peer is ready.
#[derive(Debug)]
struct Traffic {
    decoder: Decoder,
    heartbeats: Heartbeats,
    signs: Signs,
    pongs: u32,
    /// Which sorts of oddities were told.
    told: u8,
    /// The peer has sent an ERROR, and nothing since.
    refusal: Option<Box<ProtocolError>>,
}

/// Whether the peer gives signs of life and waits for ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signs {
    /// It is not one of our own ends.
    Unknown,
    /// It waits for ours and gives none.
    Awaited,
    /// It gives them too.
    Mutual,
}

impl Signs {
    fn of(peer: &PeerDescription) -> Signs {
        match &peer.announced {
            None => Signs::Unknown,
            Some(announced) if announced.life_signs => Signs::Mutual,
            Some(_) => Signs::Awaited,
        }
    }
}

/// What a peer may say that has no place in the protocol and does no harm.
#[derive(Clone, Copy)]
enum Oddity {
    Malformed,
    Unknown,
    Ready,
    Error,
}

/// A READY that waits for a word about the peer: whoever has ours may send, and what it sends to a side that has no
/// place for it is lost.
#[derive(Debug, Default)]
struct HeldBack {
    ready: Outgoing,
    /// When it goes out all the same: the peer may be one that waits for ours before it sends its own.
    until: Option<Instant>,
}

/// What one step of a state came to.
enum Step {
    /// More octets are needed.
    Wait(State),
    /// Try again in this state.
    Go(State),
    /// The handshake is over.
    Ready(Traffic, PeerDescription),
}

impl Connection {
    /// A connection over a stream that is just open. Its greeting waits to be transmitted, and the peer's time starts
    /// to run.
    pub fn new(config: Arc<Config>, now: Instant) -> Connection {
        let mut outgoing = Outgoing::default();
        outgoing.push(&greeting::write(Mechanism::new(&config).padded()));
        let deadline = config.handshake_timeout.and_then(|limit| now.checked_add(limit));
        let state = State::Greeting(ExpectGreeting { deadline });
        Connection { config, state, outgoing, held_back: None, held: 0, unread: 0 }
    }

    /// As [`new`](Connection::new), over a stream that was accepted. Its READY is kept back until the
    /// peer's is there and [`admit`](Connection::admit) is called.
    pub fn accepted(config: Arc<Config>, now: Instant) -> Connection {
        let held_back = config.profile.holds_ready_back().then(Box::default);
        Connection { held_back, ..Connection::new(config, now) }
    }

    /// The peer has a place: our READY goes out, if it was kept back.
    pub fn admit(&mut self) {
        if let Some(ready) = self.held_back.take().and_then(|mut held_back| held_back.ready.take()) {
            self.outgoing.push(&ready);
        }
    }

    /// All that the peer has sent so far was given to `received`. Returns true if the peer may be one that waits for
    /// our READY: it is not ready, and it was not 300 ms ago, when this was called as well. It gets our READY with
    /// [`admit`](Connection::admit), once it has a place; else the 300 ms begin anew with the next call.
    pub fn drained(&mut self, now: Instant) -> bool {
        let (State::Handshake(_), Some(held_back)) = (&self.state, &mut self.held_back) else { return false };
        let until = *held_back.until.get_or_insert(now + HELD_BACK);
        let waits = now >= until;
        if waits {
            held_back.until = None;
        }
        waits
    }

    /// Asks the peer for a sign of life beside the heartbeats; [`pongs`](Connection::pongs) tells when it comes.
    pub fn ask(&mut self) {
        self.outgoing.ping(&command::ping(Duration::ZERO));
    }

    /// How many PONGs have come.
    pub fn pongs(&self) -> u32 {
        match &self.state {
            State::Traffic(traffic) => traffic.pongs,
            State::Greeting(_) | State::Handshake(_) | State::Failed(_) => 0,
        }
    }

    /// The next control octets to write, before any message and between two of them: greeting, READY, ERROR, PING,
    /// PONG. Whoever asks has written what it was given before.
    pub fn transmit(&mut self) -> Option<Bytes> {
        self.outgoing.take()
    }

    /// Takes the next event off the front of `input`. After `Ok(None)` what is left stays in `input`; the caller
    /// appends what it reads and calls again. Every octet is looked at once, however the stream was cut.
    ///
    /// # Errors
    /// The peer broke the protocol or a limit, or refused us.
    pub fn received(&mut self, input: &mut BytesMut, now: Instant) -> Result<Option<Event>, ProtocolError> {
        let outcome = self.next(input, now);
        self.unread = input.len();
        self.held = input.len().saturating_add(self.assembled());
        outcome.map_err(|error| self.fail(error))
    }

    /// How many octets of what is not whole yet are held, in the caller's buffer and here, since `received` last
    /// returned.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Where to read to while a large body is on its way: add at most [`BodySlot::wanted`] octets, then call `received`
    /// with an empty input. Octets handed to `received` the ordinary way are taken as well.
    pub fn body_slot(&mut self) -> Option<BodySlot<'_>> {
        let State::Traffic(traffic) = &mut self.state else { return None };
        traffic.decoder.body().map(|(buffer, wanted)| BodySlot { buffer, wanted })
    }

    /// Notes a sign of life that `received` cannot see, such as octets that wait unread because our receiver is behind.
    /// (Octets given to `received` count by themselves.)
    pub fn traffic(&mut self) {
        if let State::Traffic(traffic) = &mut self.state {
            traffic.heartbeats.alive();
        }
    }

    /// Passes no verdict on the peer for what it did not say before `until`: we were not there to hear it.
    pub fn grant(&mut self, until: Instant) {
        match &mut self.state {
            State::Greeting(ExpectGreeting { deadline }) | State::Handshake(ExpectReady { deadline, .. }) => {
                *deadline = deadline.map(|deadline| deadline.max(until));
            }
            State::Traffic(traffic) => traffic.heartbeats.alive(),
            State::Failed(_) => {}
        }
    }

    /// The stream has ended, and all that was read was given to `received`.
    ///
    /// # Errors
    /// It ended within the handshake or within a message.
    pub fn ended(&mut self) -> Result<(), ProtocolError> {
        let error = match &self.state {
            _ if self.is_unheard() => ProtocolError::ClosedUnheard { times: 1 },
            State::Greeting(_) | State::Handshake(_) => ProtocolError::HandshakeCut,
            // An ERROR that the peer's end follows was meant.
            State::Traffic(Traffic { refusal: Some(refusal), .. }) => ProtocolError::clone(refusal),
            State::Traffic(traffic) if traffic.decoder.between_messages() && self.unread == 0 => return Ok(()),
            State::Traffic(_) => ProtocolError::MessageCut,
            State::Failed(error) => error.clone(),
        };
        Err(self.fail(error))
    }

    /// Returns true if the peer has not sent an octet.
    pub fn is_unheard(&self) -> bool {
        matches!(self.state, State::Greeting(_)) && self.unread == 0
    }

    /// Refuses the peer, which is one of our own ends, for a reason that passes: it is told, and comes back.
    pub fn refuse_for_now(&mut self, reason: &str) {
        self.refuse(&format!("{}{reason}", ProtocolError::PASSES));
    }

    /// Refuses the peer for a reason outside the protocol, such as a routing id that is taken: an ERROR with the reason
    /// waits to be transmitted, and the connection is frozen. For a reason that passes, letting the stream go is
    /// better: peers do not come back after an ERROR.
    pub fn refuse(&mut self, reason: &str) {
        if !matches!(self.state, State::Failed(_)) {
            self.outgoing.push(&command::error(reason));
            self.fail(ProtocolError::Dismissed { reason: reason.to_owned() });
        }
    }

    /// Acts on the deadlines that have passed: may queue a PING.
    ///
    /// # Errors
    /// The peer was not ready in time or has been silent for too long.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ProtocolError> {
        let outcome = match &mut self.state {
            State::Greeting(ExpectGreeting { deadline }) | State::Handshake(ExpectReady { deadline, .. }) => {
                if deadline.is_some_and(|deadline| now >= deadline) {
                    Err(ProtocolError::HandshakeTimeout { limit: self.config.handshake_timeout.unwrap_or_default() })
                } else {
                    Ok(None)
                }
            }
            State::Traffic(traffic) => traffic.heartbeats.expire(self.config.heartbeat, now),
            State::Failed(error) => Err(error.clone()),
        };
        match outcome {
            Ok(Some(ttl)) => self.outgoing.ping(&command::ping(ttl)),
            Ok(None) => {}
            Err(error) => return Err(self.fail(error)),
        }
        Ok(())
    }

    /// When to call [`handle_timeout`](Connection::handle_timeout), unless something else happens first.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Greeting(ExpectGreeting { deadline }) => *deadline,
            State::Handshake(ExpectReady { deadline, .. }) => match (*deadline, self.held_until()) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            },
            State::Traffic(traffic) => traffic.heartbeats.deadline(),
            State::Failed(_) => None,
        }
    }

    /// When a peer that is not ready by then seems to wait for the READY that is kept back.
    fn held_until(&self) -> Option<Instant> {
        self.held_back.as_ref().and_then(|held_back| held_back.until)
    }

    /// Whether the handshake is over and nothing has gone wrong since.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Traffic(_))
    }

    /// How many PINGs went unanswered because the peer sends them faster than it reads.
    pub fn dropped_pongs(&self) -> u64 {
        self.outgoing.given_up()
    }

    /// Whether this peer's silence alone means that it is gone: it gives signs of life whether or not it reads, and has
    /// seen that we ask.
    pub fn is_judged_by_silence(&self) -> bool {
        match &self.state {
            State::Traffic(Traffic { heartbeats, signs, .. }) => *signs == Signs::Mutual && heartbeats.has_answered(),
            State::Greeting(_) | State::Handshake(_) | State::Failed(_) => false,
        }
    }

    /// When to give the peer a sign of life, for a driver that reads from it or does not; `None` if it does not wait
    /// for any.
    pub fn life_sign_due(&self, reads: bool) -> Option<Instant> {
        match &self.state {
            State::Traffic(Traffic { heartbeats, signs, .. })
                if self.gives_life_signs() && *signs != Signs::Unknown =>
            {
                heartbeats.sign_due(reads)
            }
            State::Traffic(_) | State::Greeting(_) | State::Handshake(_) | State::Failed(_) => None,
        }
    }

    /// Gives the peer a sign of life if one is due: an empty PONG.
    pub fn give_life_sign(&mut self, reads: bool, now: Instant) {
        if self.life_sign_due(reads).is_none_or(|due| now < due) {
            return;
        }
        if let State::Traffic(traffic) = &mut self.state {
            traffic.heartbeats.gave_sign(reads, now);
            // What waits is as good.
            if self.outgoing.is_empty() {
                self.outgoing.pong(&command::pong(b""));
            }
        }
    }

    fn gives_life_signs(&self) -> bool {
        self.config.announcement.is_some_and(|ours| ours.life_signs)
    }

    /// Whether [`transmit`](Connection::transmit) has something to give.
    pub fn has_control(&self) -> bool {
        !self.outgoing.is_empty()
    }

    fn next(&mut self, input: &mut BytesMut, now: Instant) -> Result<Option<Event>, ProtocolError> {
        loop {
            if let State::Traffic(traffic) = &mut self.state {
                if input.len().saturating_add(traffic.decoder.held()) > self.held {
                    traffic.heartbeats.heard();
                }
                return traffic.next(input, &self.config, &mut self.outgoing, now);
            }
            // A state that is being handled stands for a failure, so that leaving early by `?` cannot bring it back.
            let step = match std::mem::replace(&mut self.state, State::Failed(ProtocolError::HandshakeCut)) {
                State::Greeting(state) => match &mut self.held_back {
                    None => state.step(input, &self.config, &mut self.outgoing)?,
                    Some(held_back) => state.step(input, &self.config, &mut held_back.ready)?,
                },
                State::Handshake(state) => {
                    let is_held_back = self.held_back.is_some();
                    state.step(input, &self.config, is_held_back, &mut self.outgoing, now)?
                }
                State::Traffic(traffic) => Step::Wait(State::Traffic(traffic)),
                State::Failed(error) => return Err(error),
            };
            match step {
                Step::Go(state) => self.state = state,
                Step::Wait(state) => {
                    self.state = state;
                    return Ok(None);
                }
                Step::Ready(mut traffic, peer) => {
                    if self.gives_life_signs() && traffic.signs == Signs::Mutual {
                        traffic.heartbeats.ask_now(now);
                    }
                    self.state = State::Traffic(traffic);
                    return Ok(Some(Event::Ready(peer)));
                }
            }
        }
    }

    /// How many octets of an unfinished message are in our buffers.
    fn assembled(&self) -> usize {
        match &self.state {
            State::Traffic(traffic) => traffic.decoder.held(),
            State::Greeting(_) | State::Handshake(_) | State::Failed(_) => 0,
        }
    }

    /// Freezes the connection and drops all it held.
    fn fail(&mut self, error: ProtocolError) -> ProtocolError {
        self.state = State::Failed(error.clone());
        self.held_back = None;
        error
    }
}

impl ExpectGreeting {
    fn step(self, input: &mut BytesMut, config: &Config, outgoing: &mut Outgoing) -> Result<Step, ProtocolError> {
        let Some(greeting) = Greeting::read(input)? else { return Ok(Step::Wait(State::Greeting(self))) };
        input.advance(greeting::SIZE);
        let mut mechanism = Mechanism::new(config);
        if greeting.mechanism != mechanism.padded() {
            let theirs = greeting.mechanism.split(|&octet| octet == 0).next().unwrap_or_default();
            let theirs = String::from_utf8_lossy(theirs).into_owned();
            return Err(ProtocolError::MechanismMismatch { ours: mechanism.name(), theirs });
        }
        mechanism.begin(config, outgoing);
        let (deadline, minor, spent) = (self.deadline, greeting.minor, greeting::SIZE as u64);
        Ok(Step::Go(State::Handshake(ExpectReady { deadline, minor, mechanism, spent })))
    }
}

impl ExpectReady {
    fn step(
        mut self,
        input: &mut BytesMut,
        config: &Config,
        is_held_back: bool,
        outgoing: &mut Outgoing,
        now: Instant,
    ) -> Result<Step, ProtocolError> {
        let Some(body) = self.frame(input, config)? else { return Ok(Step::Wait(State::Handshake(self))) };
        let ExpectReady { minor, mechanism, .. } = self;
        let Progress::Ready(properties) = mechanism.command(Command::read(body)?)?;
        match describe(properties, minor, config) {
            Ok(peer) => {
                let heartbeats = Heartbeats::new(config.heartbeat, now);
                let (decoder, signs) = (Decoder::new(config), Signs::of(&peer));
                Ok(Step::Ready(Traffic { decoder, heartbeats, signs, pongs: 0, told: 0, refusal: None }, peer))
            }
            Err(error) => {
                // Told to the peer, because it is the one that has to change something. A peer of another kind that has
                // our READY finds that out by itself and goes on trying; one that has not must be told to.
                let passes = is_held_back && matches!(error, ProtocolError::IncompatibleSocket { .. });
                let prefix = if passes { ProtocolError::PASSES } else { "" };
                outgoing.push(&command::error(&format!("{prefix}{error}")));
                Err(error)
            }
        }
    }

    /// Takes the body of the next frame off the front of `input`, once it is all there. The COMMAND bit is not asked
    /// for: libzmq does not, and there is nothing else a frame can be here.
    fn frame(&mut self, input: &mut BytesMut, config: &Config) -> Result<Option<Bytes>, ProtocolError> {
        let limit = config.max_handshake as u64;
        let Some(header) = Header::read(input) else { return Ok(None) };
        if header.more() {
            let (command, fault) = (CommandName::Unknown, "its frame says that more follow");
            return Err(ProtocolError::MalformedCommand { command, fault });
        }
        let announced = (self.spent + header.size as u64).saturating_add(header.body);
        let size = usize::try_from(header.body).ok().filter(|_| announced <= limit);
        let size = size.ok_or(ProtocolError::HandshakeTooLarge { announced, limit })?;
        let Some(body) = input.get(header.size..).and_then(|rest| rest.get(..size)) else { return Ok(None) };
        // Copied, because the metadata lives as long as the connection and the read buffer should not.
        let body = Bytes::copy_from_slice(body);
        input.advance(header.size + size);
        self.spent = announced;
        Ok(Some(body))
    }
}

impl Traffic {
    fn next(
        &mut self,
        input: &mut BytesMut,
        config: &Config,
        outgoing: &mut Outgoing,
        now: Instant,
    ) -> Result<Option<Event>, ProtocolError> {
        loop {
            let command = match self.decoder.decode(input)? {
                None => return Ok(None),
                Some(Decoded::Messages { wire, count }) => {
                    self.refusal = None;
                    return Ok(Some(Event::Messages { wire, count }));
                }
                Some(Decoded::Message(pieces)) => {
                    self.refusal = None;
                    return Ok(Some(Event::Message(pieces)));
                }
                Some(Decoded::Command(body)) => Command::read(body),
            };
            self.refusal = None;
            let (sort, error) = match command {
                Ok(command) => match command {
                    Command::Subscribe(topic) if config.kind.publishes() => return Ok(Some(Event::Subscribe(topic))),
                    Command::Cancel(topic) if config.kind.publishes() => return Ok(Some(Event::Cancel(topic))),
                    Command::Ping { ttl, context } => {
                        // Octets behind the PING are the sign of life it asks us to wait for.
                        self.heartbeats.asked(!input.is_empty(), now);
                        self.heartbeats.promised(if input.is_empty() { ttl } else { Duration::ZERO }, now);
                        if outgoing.pong(&command::pong(&context)) {
                            return Ok(Some(Event::Answers));
                        }
                        continue;
                    }
                    // A peer may refuse us after its READY, when it has looked at ours. Then it goes.
                    Command::Error(reason) => {
                        let refusal = ProtocolError::refused(&reason);
                        self.refusal = Some(Box::new(refusal.clone()));
                        (Oddity::Error, refusal)
                    }
                    Command::Ready(_) => (Oddity::Ready, ProtocolError::unexpected(b"READY")),
                    Command::Other(name) => (Oddity::Unknown, ProtocolError::unexpected(&name)),
                    Command::Pong => {
                        self.heartbeats.answered(!input.is_empty());
                        self.pongs = self.pongs.wrapping_add(1);
                        continue;
                    }
                    // Nothing to a kind that does not publish.
                    Command::Subscribe(_) | Command::Cancel(_) => continue,
                },
                // What it says is lost; where the next frame begins is not.
                Err(
                    error @ ProtocolError::MalformedCommand {
                        command: CommandName::Unknown | CommandName::Error, ..
                    },
                ) => (Oddity::Malformed, error),
                Err(error) => return Err(error),
            };
            if self.told & 1 << sort as u8 == 0 {
                self.told |= 1 << sort as u8;
                return Ok(Some(Event::Oddity(error)));
            }
        }
    }
}

/// Reads the metadata of a READY and checks that its sender fits a socket of our kind.
fn describe(properties: Bytes, minor: u8, config: &Config) -> Result<PeerDescription, ProtocolError> {
    let ours = config.kind;
    let mut properties = metadata::read(properties)?;
    let kind = match metadata::find(&properties, metadata::SOCKET_TYPE) {
        None => None,
        Some(name) => match SocketKind::from_name(name).filter(|&theirs| ours.accepts(theirs)) {
            Some(kind) => Some(kind),
            None => {
                let theirs = String::from_utf8_lossy(name.get(..MAX_SHOWN).unwrap_or(name)).into_owned();
                return Err(ProtocolError::IncompatibleSocket { ours, theirs });
            }
        },
    };
    let identity = metadata::find(&properties, metadata::IDENTITY).cloned().unwrap_or_default();
    let announced = metadata::find(&properties, announcement::NAME).and_then(|value| Announcement::read(value));
    let announced = announced.filter(|_| config.profile.announces());
    // The token is for the engine alone.
    properties.retain(|(name, _)| !name.eq_ignore_ascii_case(announcement::NAME));
    // They are kept for as long as the peer is there.
    properties.shrink_to_fit();
    Ok(PeerDescription { kind, identity, minor, announced, properties })
}

/// How long a READY is kept back for the peer's: more than that takes over most ways, as it is on its way already.
const HELD_BACK: Duration = Duration::from_millis(300);

/// How much of an unknown socket kind is shown.
const MAX_SHOWN: usize = 32;
