//! One connection: a stream, its protocol machine, and what is pending on it.

use super::reactor::Gulp;
use super::{EndpointId, SeatTicket, Settings};
use crate::budget::Unfinished;
use crate::event::Cause;
use crate::peer::PeerId;
use crate::protocol::{self, Connection, PeerDescription};
use crate::queue::doubt::{Ending, LASTS};
use crate::queue::intake::ReadGate;
use crate::queue::outbox::Lost;
use crate::slab::Key;
use bytes::{Buf, Bytes, BytesMut};
use mio::{Interest, Registry, Token};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wiremesh_transports::Stream;

/// One connection of a reactor.
pub(crate) struct Link {
    pub(crate) stream: Arc<dyn Stream>,
    pub(crate) machine: Connection,
    pub(crate) state: State,
    pub(crate) origin: Origin,
    pub(crate) endpoint_id: EndpointId,
    pub(crate) endpoint: Arc<str>,
    pub(crate) address: Arc<str>,
    pub(crate) settings: Arc<Settings>,
    /// Set once the handshake is done; for connecting endpoints the peer may exist before.
    pub(crate) peer: Option<PeerId>,
    /// The rest of the last read: less than a message.
    pub(crate) input: BytesMut,
    /// What it holds of an unfinished message, as the context's budget counts it.
    pub(crate) unfinished: Unfinished,
    /// How many that were at the last look, and how many looks in a shortage have found no more.
    pub(crate) looked: usize,
    pub(crate) idle: u8,
    /// It is not read until the context's budget has room for the rest of its message.
    pub(crate) starved: bool,
    /// The rest holds whole events that were put off until the handshake is written.
    pub(crate) undigested: bool,
    /// The last message had a large body.
    pub(crate) large: bool,
    /// How much is read at once.
    pub(crate) gulp: Gulp,
    /// Until when it is not read, because what came last was much and no message.
    pub(crate) rests: Option<Instant>,
    /// A read waits until the stream is writable, and a write until it is readable: streams with a state of their own,
    /// such as TLS, may want that.
    pub(crate) read_wants_write: bool,
    pub(crate) write_wants_read: bool,
    /// Handshake octets that the stream has not taken yet; no memory is kept for them once it has.
    control: Bytes,
    /// The stream may have something to read.
    pub(crate) readable: bool,
    /// The stream may take octets of the handshake again.
    pub(crate) writable: bool,
    /// The stream has ended on the peer's side; what it holds is still read first.
    pub(crate) ended: bool,
    /// Writing failed. What can still be read comes first, and may tell why.
    pub(crate) broken: bool,
    /// Tells whether the application has caught up with its peer. Set once messages flow.
    pub(crate) gate: Option<Arc<ReadGate>>,
    /// What came has been thrown away unread, because nobody receives any more and the peer waited for us: the machine
    /// reads no further, and more is thrown away only while the peer waits.
    pub(crate) deaf: bool,
    /// It was accepted, and has its place: one of those that `max_connections` allows, and the seat of a socket that
    /// has only one. Nobody gets our READY without.
    pub(crate) admitted: bool,
    /// The socket keeps its only seat for the peer until that is attached.
    pub(crate) seat: Option<SeatTicket>,
    /// It was accepted although there was no place for it, or has one before it is ready: until when it may take to
    /// become ready. After that the one is refused, and the other one's place may go to a peer that is ready.
    pub(crate) spare: Option<Instant>,
    /// Its endpoint is closed: it goes once all is written.
    pub(crate) closing: bool,
    /// Since when its system does not answer ours, as far as somebody looked.
    unanswered: Option<Instant>,
    /// Set once it ends.
    pub(crate) standstill: Option<Box<Standstill>>,
    /// It is on the ready list.
    pub(crate) listed: bool,
    /// Writable interest is registered.
    wants_write: bool,
    /// When its entry in the timer queue is due.
    pub(crate) timer: Option<Instant>,
    pub(crate) opened: Instant,
    /// No verdict by time is passed before this.
    granted: Option<Instant>,
    /// Until when a message is held back that the last connections ended in.
    pub(crate) held_until: Option<Instant>,
    /// The same peer has another link here, which came before: this one is ready and waits until that is read to its
    /// end.
    pub(crate) predecessor: Option<Key>,
    /// The link of the same peer that waits for this one, and what is left of this one meanwhile.
    pub(crate) successor: Option<Key>,
    pub(crate) last_words: LastWords,
    /// So many octets of it were read past its mark since the application had last caught up.
    past_mark: usize,
    /// By what its peer is recognised, if that is one of our ends.
    pub(crate) token: Option<protocol::Token>,
}

/// How far a link is read for which another of the same peer waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LastWords {
    /// As its receive mark allows: nobody waits, or memory is short.
    #[default]
    Paced,
    /// To its end at once.
    Hurried,
    /// It had nothing more to say, and was asked whether it is still there: until when that may be answered, and how
    /// often it had answered something before.
    Asked(Instant, u32),
}

/// How far a connection has come.
pub(crate) enum State {
    /// The stream is not connected yet.
    Connecting {
        /// When the attempt is given up.
        deadline: Option<Instant>,
    },
    /// Greeting and mechanism.
    Handshaking,
    /// The handshake is done, but not all of our octets of it are written.
    Settling(Box<PeerDescription>),
    /// Messages flow.
    Up,
    /// All is written and our side is shut down; the peer's end, or that its system has taken everything, closes it.
    /// Closing at once could destroy what the kernel still holds for the peer.
    Draining,
}

/// Whether the peer of a connection that ends takes anything of what is still to be delivered, looked at now and then.
pub(crate) struct Standstill {
    /// When it is looked at again, and how long the wait until then is.
    next: Instant,
    pause: Duration,
    /// What was not written at the last look, and what was written and the peer's system had not taken.
    left: (usize, usize),
    /// Nothing was taken between the last looks: the peer may itself be waiting until we take something.
    stuck: bool,
}

impl Standstill {
    /// The first look comes soon, later ones ever later.
    const FIRST: Duration = Duration::from_millis(1);
    const LAST: Duration = Duration::from_millis(250);
    /// A peer that takes nothing for this long stands still.
    const SHORTEST: Duration = Duration::from_millis(64);

    pub(crate) fn new(now: Instant, left: (usize, usize)) -> Box<Standstill> {
        Box::new(Standstill { next: now + Standstill::FIRST, pause: Standstill::FIRST, left, stuck: false })
    }

    /// Whether the peer stands still: it did at the last look and has taken nothing since.
    fn lasts(&mut self, left: (usize, usize)) -> bool {
        self.stuck &= std::mem::replace(&mut self.left, left) == left;
        self.stuck
    }

    /// A look that was due.
    fn look(&mut self, now: Instant, left: (usize, usize)) {
        let same = std::mem::replace(&mut self.left, left) == left;
        self.stuck = same && self.pause >= Standstill::SHORTEST;
        self.pause = (self.pause * 2).min(Standstill::LAST);
        self.next = now + self.pause;
    }
}

/// More than the systems of both ends hold of a connection together: each has a few mebibytes for it unless it is tuned.
const MOST_LEFT: usize = 64 * 1024 * 1024;

/// Which endpoint a connection belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Dialer(Key),
    Listener(Key),
}

impl Link {
    #[expect(clippy::too_many_arguments, reason = "made in two places, each with all of it at hand")]
    pub(crate) fn new(
        stream: Arc<dyn Stream>,
        state: State,
        origin: Origin,
        endpoint_id: EndpointId,
        endpoint: Arc<str>,
        settings: Arc<Settings>,
        peer: Option<PeerId>,
        now: Instant,
    ) -> Link {
        let config = Arc::clone(&settings.protocol);
        Link {
            address: stream.peer_address().into(),
            machine: match origin {
                Origin::Dialer(_) => Connection::new(config, now),
                Origin::Listener(_) => Connection::accepted(config, now),
            },
            stream,
            state,
            origin,
            endpoint_id,
            endpoint,
            settings,
            peer,
            input: BytesMut::new(),
            unfinished: Unfinished::default(),
            looked: 0,
            idle: 0,
            starved: false,
            undigested: false,
            large: false,
            gulp: Gulp::new(),
            rests: None,
            read_wants_write: false,
            write_wants_read: false,
            control: Bytes::new(),
            readable: false,
            writable: false,
            ended: false,
            broken: false,
            gate: None,
            deaf: false,
            admitted: false,
            seat: None,
            spare: None,
            closing: false,
            standstill: None,
            unanswered: None,
            listed: false,
            wants_write: false,
            timer: None,
            opened: now,
            granted: None,
            held_until: None,
            predecessor: None,
            successor: None,
            last_words: LastWords::default(),
            past_mark: 0,
            token: None,
        }
    }

    /// Whether messages flow, or have flowed, on this connection.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Up | State::Draining)
    }

    /// Whether there is something to do for it without another event.
    pub(crate) fn is_ready(&self) -> bool {
        match self.state {
            // Nothing is read until our part of the handshake is written.
            State::Settling(_) => self.writable && self.predecessor.is_none(),
            State::Draining => self.readable,
            State::Up if self.deaf => self.readable && self.is_stuck(),
            State::Connecting { .. } | State::Handshaking | State::Up => self.readable && !self.is_kept(),
        }
    }

    /// Whether what its peer sends is not to be read now.
    pub(crate) fn is_kept(&self) -> bool {
        let hurried = self.last_words != LastWords::Paced;
        let paused = || !hurried && self.gate.as_ref().is_some_and(|gate| gate.is_closed());
        self.starved || self.deaf || self.rests.is_some() || paused()
    }

    /// So many octets of it were read. Returns true if more were read past its mark than systems hold of a connection
    /// that is lost, so that its peer is there and goes on.
    pub(crate) fn is_endless(&mut self, read: usize) -> bool {
        let is_paced = self.last_words == LastWords::Paced;
        let is_past = !is_paced && self.gate.as_ref().is_some_and(|gate| gate.is_closed());
        match (is_past, is_paced && read == 0) {
            (true, _) => self.past_mark += read,
            // It has not been read, and may be where it was.
            (false, true) => {}
            (false, false) => self.past_mark = 0,
        }
        is_past && self.past_mark > MOST_LEFT
    }

    /// Whether the peer's silence says nothing: it takes nothing of what is to be written before the question. Where
    /// its system has not answered ours for as long as the peer may be silent, it says what it seems to say.
    pub(crate) fn excuses_silence(&mut self, now: Instant) -> bool {
        let Some(heartbeat) = self.settings.protocol.heartbeat else { return false };
        if !self.wants_write || self.machine.is_judged_by_silence() {
            self.unanswered = None;
            return false;
        }
        if !self.stream.is_unanswered() {
            self.unanswered = None;
            return true;
        }
        let since = *self.unanswered.get_or_insert(now);
        now.saturating_duration_since(since) < heartbeat.timeout
    }

    /// Looks, when it is time, whether its peer takes anything of what is still to be delivered; `pending` is what is
    /// not written.
    pub(crate) fn look_at_peer(&mut self, now: Instant, pending: impl FnOnce(PeerId) -> usize) {
        let Some(standstill) = self.standstill.as_mut().filter(|standstill| standstill.next <= now) else { return };
        standstill.look(now, (self.peer.map_or(0, pending), self.stream.unsent()));
        let drains = matches!(self.state, State::Draining);
        self.deaf |= standstill.stuck && (drains || self.is_kept());
        self.readable |= self.deaf || drains;
    }

    /// Whether what the peer sends is to be thrown away now, so that it can take what is still to be delivered.
    pub(crate) fn throws_away(&mut self, pending: impl FnOnce(PeerId) -> usize) -> bool {
        let left = (self.peer.map_or(0, pending), self.stream.unsent());
        self.deaf && self.standstill.as_mut().is_some_and(|standstill| standstill.lasts(left))
    }

    /// Whether it ends and its peer takes nothing of what is still to be delivered.
    fn is_stuck(&self) -> bool {
        self.standstill.as_ref().is_some_and(|standstill| standstill.stuck)
    }

    /// Whether the connection is over while what the peer sent is not to be read now.
    pub(crate) fn has_ended_unread(&self) -> bool {
        matches!(self.state, State::Up) && (self.ended || self.broken) && self.is_kept()
    }

    /// When it wants to be looked at whatever happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Connecting { deadline } => return *deadline,
            State::Draining => None,
            State::Settling(_) if self.predecessor.is_some() => self.settling_deadline(),
            State::Settling(_) => super::earlier(self.settling_deadline(), self.machine.poll_timeout()),
            State::Handshaking | State::Up => self.machine.poll_timeout(),
        };
        let look = self.standstill.as_ref().map(|standstill| standstill.next);
        let is_up = matches!(self.state, State::Up);
        let sign = if is_up { self.machine.life_sign_due(!self.is_kept()) } else { None };
        let answer = match self.last_words {
            LastWords::Asked(until, _) => Some(until),
            LastWords::Paced | LastWords::Hurried => None,
        };
        let spare = self.spare.filter(|_| matches!(self.state, State::Handshaking));
        let others = [self.rests, look, sign, answer, self.held_until, spare, self.stream.deadline()];
        others.into_iter().fold(own, super::earlier)
    }

    /// Returns true once when it had such a time to become ready, and that is over.
    pub(crate) fn is_spare_over(&mut self, now: Instant) -> bool {
        self.spare.take_if(|until| *until <= now).is_some()
    }

    /// Whether it was asked whether it is still there, and has had its time to answer.
    pub(crate) fn is_asked_in_vain(&self, now: Instant) -> bool {
        matches!(self.last_words, LastWords::Asked(until, _) if until <= now)
    }

    /// Whose messages are not to be held back any longer.
    pub(crate) fn release(&mut self, now: Instant) -> Option<PeerId> {
        self.held_until.take_if(|until| *until <= now).and(self.peer)
    }

    /// What its end says of the messages written to it: whether the peer made it, and what that peer has certainly not
    /// read. It has read no more only if it reset the connection; one that has closed its own side may still read.
    pub(crate) fn lost(&self, cause: Option<&Cause>) -> Lost {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        let lasted = self.opened.elapsed() >= LASTS;
        let reset = self.broken
            || matches!(cause, Some(Cause::System(error)) if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset));
        if !reset && !matches!(cause, Some(Cause::Peer)) {
            return Lost::default();
        }
        Lost { ending: Ending::ByPeer { lasted }, unacknowledged: if reset { self.stream.unsent() } else { 0 } }
    }

    /// Passes no verdict by time before `until`: we were not there to see what the peer did.
    pub(crate) fn grant(&mut self, until: Instant) {
        if let State::Connecting { deadline } = &mut self.state {
            *deadline = deadline.map(|deadline| deadline.max(until));
        }
        self.machine.grant(until);
        self.spare = self.spare.map(|spare| spare.max(until));
        self.granted = Some(until);
    }

    /// Until when our part of the handshake must be written. The machine's own limit ends with the peer's part.
    pub(crate) fn settling_deadline(&self) -> Option<Instant> {
        let deadline = self.settings.protocol.handshake_timeout.and_then(|limit| self.opened.checked_add(limit));
        deadline.map(|deadline| self.granted.map_or(deadline, |granted| deadline.max(granted)))
    }

    /// Collects what the machine wants to say before messages flow.
    pub(crate) fn collect_control(&mut self) {
        while let Some(bytes) = self.machine.transmit() {
            self.control = match self.control.is_empty() {
                true => bytes,
                false => [&*self.control, &*bytes].concat().into(),
            };
        }
    }

    /// Whether all control octets are written.
    pub(crate) fn control_written(&self) -> bool {
        self.control.is_empty()
    }

    /// Writes control octets; `Ok(false)` when the stream takes no more now.
    pub(crate) fn write_control(&mut self) -> io::Result<bool> {
        while !self.control.is_empty() {
            match self.stream.write_vectored(&[IoSlice::new(&self.control)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.control.advance(written.min(self.control.len())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
        }
        self.control = Bytes::new();
        Ok(true)
    }

    /// Asks to be told when the stream takes octets again, or no longer.
    pub(crate) fn want_write(&mut self, registry: &Registry, token: Token, want: bool) -> io::Result<()> {
        let want = want || self.read_wants_write;
        if want || self.wants_write {
            let interest = if want { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            self.stream.reregister(registry, token, interest)?;
            self.wants_write = want;
        }
        Ok(())
    }

    /// What it is to be told by a poll it is registered with.
    pub(crate) fn interest(&self) -> Interest {
        if self.wants_write { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
    }

    /// A new connection attempt waits for writability first.
    pub(crate) fn registered_for_write(&mut self) {
        self.wants_write = true;
    }
}
