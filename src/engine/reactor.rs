//! A socket's reactor: its sources, its ready list, its timers, and one round of driving them.
//!
//! Streams are edge-triggered. A stream stays *ready* from its edge until it would block, and the ready list lives here
//! and not in whoever drives, so a driver may leave at any point.

mod closing;
mod connecting;
mod departing;
mod holders;
mod reading;
mod replaying;
mod returning;

use super::dialer::{Dialer, Dialing, Jitter};
use super::line::Lines;
use super::link::{Link, Origin, State};
use super::listener::{Binding, HalfOpen, SharedListener};
use super::port::{Command, Habit};
use super::unheard::Unheard;
use super::{Course, Departure, EndpointId, Flush, Host, Joined, Newcomer, Settings};
use crate::event::{Cause, Event, EventKind};
use crate::peer::PeerId;
use crate::protocol;
use crate::queue::READ_BUFFER;
use crate::queue::doubt::LASTS;
use crate::slab::{Key, Slab};
use closing::Ending;
pub(crate) use closing::{Linger, Lingering};
use mio::{Interest, Poll, Registry, Token};
pub(crate) use reading::Gulp;
use reading::READ_BUDGET;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wiremesh_transports::sys::sleep_precisely;
use wiremesh_transports::{Stream, Transport};

pub(crate) struct Reactor {
    sources: Sources,
    /// What tells this reactor's tokens from others in a shared poll.
    prefix: usize,
    events: mio::Events,
    /// The last look at the poll fetched as many events as it could: there may be more, of which the engine's poll does
    /// not speak again.
    more: bool,
    links: Slab<Link>,
    dialers: Slab<Dialer>,
    /// Which of them wait for which.
    lines: Lines,
    bindings: Slab<Binding>,
    /// How many of the links were accepted and are past their handshake.
    admitted: usize,
    /// Where each endpoint is among the dialers or the bindings.
    endpoints: HashMap<EndpointId, Origin>,
    /// The link of each peer, by the peer's slot.
    by_slot: Vec<Option<Key>>,
    /// The link of each peer that can be recognised when it comes back.
    by_token: HashMap<protocol::Token, Key>,
    ready: VecDeque<Ready>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    /// Peers that have something to write: the socket's dirty ones, and those that have more than one turn may write.
    unflushed: VecDeque<PeerId>,
    /// Where the dirty ones are taken to.
    dirty: Vec<PeerId>,
    /// Commands that one turn had no time for.
    commands: VecDeque<Command>,
    /// The socket is closed, and goes on only to deliver what is queued, so long at most.
    lingering: Option<Lingering>,
    /// Peers that are gone and have topics left, each with the dialer for which it comes back.
    departing: BTreeMap<PeerId, Option<Key>>,
    /// Peers that have not been told all subscriptions yet.
    replaying: VecDeque<PeerId>,
    /// Ends of endpoints, or of the socket, that have begun, in this order.
    ending: VecDeque<Ending>,
    /// How many links the context's budget counts unfinished messages for, and whether a look at them is due.
    holders: usize,
    watched: bool,
    /// The one of them that is read although the budget is over.
    favourite: Option<Key>,
    jitter: Jitter,
    /// When the kernel was last asked, where that is not done here.
    pub(crate) looked: Option<Instant>,
    /// Until when the peers have time after the process was stopped.
    granted: Option<Instant>,
    /// How regularly callers drive it.
    pub(crate) habit: Habit,
    /// The socket was closed and everything is gone.
    pub(crate) finished: bool,
    /// Code that ran for the socket outside of a round panicked with this.
    pub(crate) panicked: Option<Arc<str>>,
}

/// The poll that holds a reactor's sources.
pub(crate) enum Sources {
    /// Its own.
    Own(Poll),
    /// That of an engine thread, where engine threads always drive.
    Shared(Arc<Registry>),
}

impl Sources {
    fn registry(&self) -> &Registry {
        match self {
            Sources::Own(poll) => poll.registry(),
            Sources::Shared(registry) => registry,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ready {
    Link(Key),
    Binding(Key),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Link(Key),
    Dialer(Key),
    Binding(Key),
    /// Of an endpoint that is closed, or of the socket.
    Linger(Option<EndpointId>),
    Holders,
}

/// How much one round may do, beside what its [`Stint`] allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turns {
    /// Ready sources.
    pub(crate) sources: usize,
    /// Octets read, give or take one buffer.
    pub(crate) octets: usize,
}

impl Turns {
    /// A caller serves few sources before it looks whether it was served itself, and reads no more than what the
    /// second-level cache still holds when it gets to it.
    pub(crate) const CALLER: Turns = Turns { sources: 8, octets: READ_BUFFER };
    /// An engine thread serves everybody.
    pub(crate) const ENGINE: Turns = Turns { sources: 64, octets: usize::MAX };
    /// The sources wait for somebody else.
    pub(crate) const NONE: Turns = Turns { sources: 0, octets: 0 };
}

/// The time of one turn: whoever drives stops once it is used up, so that no socket, and no peer of one, keeps others
/// waiting.
#[derive(Debug, Default)]
pub(crate) struct Stint<'a> {
    /// When its end was first asked for. A turn that does one thing does not look at the clock.
    begun: Option<Instant>,
    /// Somebody has called for the thread, most likely to another socket: it looks there first.
    called: Option<&'a AtomicBool>,
}

impl<'a> Stint<'a> {
    /// Less than a scheduler gives to one of several threads at a time.
    pub(crate) const LENGTH: Duration = Duration::from_millis(1);
    /// Where somebody calls for the thread it is as long as this all the same: what takes no longer is done in one
    /// turn.
    const SHORT: Duration = Duration::from_micros(20);

    /// One of a thread that may be called away.
    pub(crate) fn until_called(called: Option<&'a AtomicBool>) -> Stint<'a> {
        Stint { begun: None, called }
    }

    /// Whether the time is used up, or somebody else wants it. To be asked after each step that may take long, if
    /// another one would follow.
    pub(crate) fn is_over(&mut self) -> bool {
        let now = Instant::now();
        let lasted = now.saturating_duration_since(*self.begun.get_or_insert(now));
        let is_called = || self.called.is_some_and(|called| called.load(Ordering::Relaxed));
        lasted >= Stint::LENGTH || (lasted >= Stint::SHORT && is_called())
    }
}

/// Why a connection goes, as far as it matters for what follows.
enum Loss {
    /// The system or the peer ended it.
    Link(Cause),
    /// The peer broke the protocol, refused us or was silent.
    Protocol(protocol::ProtocolError),
    /// We end it.
    Local(Cause),
}

/// Why a newcomer is refused that would be one too many.
const FULL: &str = "the socket has as many connections as `max_connections` allows";
/// How long a newcomer may take to say who it is where it would be one too many, or has a place already.
pub(crate) const SPARE: Duration = Duration::from_secs(2);

/// The token of the waker in a reactor's own poll.
pub(crate) const WAKER: Token = Token(usize::MAX);

/// A timer that is found due so late says that the process was stopped, …
const STOPPED: Duration = Duration::from_millis(250);
/// … and then nobody is judged by time before this has passed.
const GRACE: Duration = Duration::from_secs(1);
/// When a link is judged that has something unread now.
const UNREAD: Duration = Duration::from_millis(1);
/// How many events one look at the poll fetches.
const EVENTS: usize = 256;
/// So few stale timers are not worth a look.
const FEW_TIMERS: usize = 64;
/// How many connections move from a poll to another in one turn.
const MOVED: usize = 128;
/// How many connections one turn accepts on one listener.
const ACCEPT_BUDGET: usize = 64;

impl Reactor {
    pub(crate) fn new(sources: Sources, prefix: usize) -> Reactor {
        Reactor {
            events: mio::Events::with_capacity(if matches!(sources, Sources::Own(_)) { EVENTS } else { 1 }),
            sources,
            prefix,
            links: Slab::new(),
            dialers: Slab::new(),
            lines: Lines::new(),
            bindings: Slab::new(),
            admitted: 0,
            endpoints: HashMap::new(),
            by_slot: Vec::new(),
            by_token: HashMap::new(),
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
            unflushed: VecDeque::new(),
            dirty: Vec::new(),
            commands: VecDeque::new(),
            lingering: None,
            departing: BTreeMap::new(),
            replaying: VecDeque::new(),
            ending: VecDeque::new(),
            holders: 0,
            watched: false,
            favourite: None,
            jitter: Jitter::new(),
            more: false,
            looked: None,
            granted: None,
            habit: Habit::new(),
            finished: false,
            panicked: None,
        }
    }

    /// Waits for events of its own poll, at most `timeout`.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let Sources::Own(poll) = &mut self.sources else { return Ok(()) };
        let slept = match timeout {
            Some(limit) if !limit.is_zero() => sleep_precisely(poll, limit)?,
            Some(_) | None => false,
        };
        let timeout = if slept { Some(Duration::ZERO) } else { timeout };
        let mut events = std::mem::replace(&mut self.events, mio::Events::with_capacity(0));
        let result = poll.poll(&mut events, timeout);
        let mut fetched = 0;
        for event in &events {
            fetched += 1;
            self.note(event);
        }
        self.more = fetched >= EVENTS;
        self.events = events;
        result
    }

    /// Takes note of an event of one of its sources.
    pub(crate) fn note(&mut self, event: &mio::event::Event) {
        let token = event.token();
        if token == WAKER {
            return;
        }
        match self.source(token) {
            None => {}
            Some(Ready::Link(key)) => {
                let Some(link) = self.links.get_mut(key) else { return };
                link.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                link.ended |= event.is_read_closed() || event.is_error();
                if event.is_writable() {
                    link.readable |= std::mem::take(&mut link.read_wants_write);
                }
                if event.is_readable() && link.write_wants_read {
                    self.unflushed.extend(link.peer);
                }
                if event.is_writable() || event.is_error() || event.is_write_closed() {
                    match (&link.state, link.peer) {
                        (State::Up, Some(peer)) => self.unflushed.push_back(peer),
                        (State::Up, None)
                        | (State::Connecting { .. } | State::Handshaking | State::Settling(_) | State::Draining, _) => {
                            (link.readable, link.writable) = (true, true);
                        }
                    }
                }
                self.list(key);
            }
            Some(Ready::Binding(key)) => self.list_binding(key),
        }
    }

    /// Whose token that is; `None` if it is gone.
    fn source(&self, token: Token) -> Option<Ready> {
        let index = (token.0 & ((1 << INDEX_BITS) - 1)) as u32;
        let generation = (token.0 >> INDEX_BITS & GENERATIONS) as u32;
        let is_it = |key: &Key| key.generation & GENERATIONS as u32 == generation;
        if token.0 & BINDING == 0 {
            self.links.key_at(index).filter(is_it).map(Ready::Link)
        } else {
            self.bindings.key_at(index).filter(is_it).map(Ready::Binding)
        }
    }

    /// One round: commands, dirty outboxes, due timers, and as many ready sources, topics of peers that are gone or
    /// have come, and connections that end, as `turns` and `stint` allow.
    ///
    /// What is due is judged last, by a moment before the kernel was asked: a process that was stopped finds there what
    /// peers did meanwhile.
    pub(crate) fn round(&mut self, host: &dyn Host, turns: Turns, stint: &mut Stint) {
        // Ends that have begun go on first, so that connections which bring much do not draw them out.
        self.go_on_ending(host, stint);
        self.obey(host, stint);
        let due = if self.timers.is_empty() { None } else { self.look_if_due() };
        self.flush_dirty(host, stint);
        let mut delivered = false;
        let mut octets = turns.octets;
        for served in 0..turns.sources.min(self.ready.len()) {
            if octets == 0 || (served > 0 && stint.is_over()) {
                break;
            }
            match self.ready.pop_front() {
                Some(Ready::Link(key)) => {
                    delivered = true;
                    let read = self.turn_link(host, key, octets.min(READ_BUDGET), stint);
                    octets = octets.saturating_sub(read);
                }
                Some(Ready::Binding(key)) => self.turn_binding(host, key, stint),
                None => break,
            }
        }
        if let Some(looked) = due {
            self.expire(host, looked, stint);
        }
        if delivered {
            host.delivered();
        }
        self.withdraw(host, stint);
        self.replay(host, stint);
        self.go_on_ending(host, stint);
        if self.is_over() && !self.finished {
            self.leave_unread(host, stint);
        }
    }

    /// Whether a further round would find something to do at once.
    pub(crate) fn is_busy(&self) -> bool {
        !self.ready.is_empty() || self.has_backlog() || self.more
    }

    /// Whether a turn left something to do besides reading: what peers have to write, commands, topics of peers that
    /// are gone or have come, or ends.
    pub(crate) fn has_backlog(&self) -> bool {
        let is_done = self.unflushed.is_empty() && self.commands.is_empty() && self.ending.is_empty();
        !(is_done && self.departing.is_empty() && self.replaying.is_empty())
    }

    /// When it must be driven even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Reads the sockets of few connections without asking the poll first: what a spinning driver does.
    pub(crate) fn probe(&mut self) {
        if self.links.len() <= 4 {
            for (key, link) in self.links.iter_mut() {
                if matches!(link.state, State::Up) && !link.is_kept() && !link.listed {
                    link.readable = true;
                    link.listed = true;
                    self.ready.push_back(Ready::Link(key));
                }
            }
        }
    }

    /// Carries out what the reactor was told, in its order.
    fn obey(&mut self, host: &dyn Host, stint: &mut Stint) {
        host.port().take_commands(&mut self.commands);
        while let Some(command) = self.commands.pop_front() {
            self.execute(host, command);
            if !self.commands.is_empty() && stint.is_over() {
                return;
            }
        }
    }

    fn execute(&mut self, host: &dyn Host, command: Command) {
        match command {
            Command::Listen { id, endpoint, listener, settings } => self.listen(host, id, endpoint, listener, settings),
            Command::Dial { id, endpoint, address, transport, settings, peer, before } => {
                let dialer = Dialer {
                    id,
                    endpoint,
                    address,
                    transport,
                    settings,
                    peer,
                    state: Dialing::Resolving,
                    candidates: Vec::new(),
                    failures: 0,
                    was_up: false,
                    begun: Instant::now(),
                    answered: false,
                    closing: false,
                    lingering: None,
                    unheard: Unheard::default(),
                };
                self.dial(host, dialer, before);
            }
            Command::Resolved { dialer, addresses } => self.resolved(host, dialer, addresses),
            Command::Resume(peer) => {
                if let Some(key) = self.link_of(peer) {
                    self.list(key);
                }
            }
            Command::GoOn => self.feed_starved(host),
            Command::Drop { peer, cause } => {
                if let Some(key) = self.link_of(peer) {
                    self.lose(host, key, Loss::Local(cause));
                }
            }
            Command::End { scope, linger } => self.end(host, scope, linger),
            Command::MakeWay(promise) => self.make_way(promise),
            Command::Fail(panic) => self.panicked = Some(panic),
        }
    }

    // ----- binding -----

    fn listen(
        &mut self,
        host: &dyn Host,
        id: EndpointId,
        endpoint: Arc<str>,
        listener: Arc<SharedListener>,
        settings: Arc<Settings>,
    ) {
        let (prefix, registry) = (self.prefix, self.sources.registry());
        let mut failed = None;
        let key = self.bindings.insert_with(|key| {
            let token = token(prefix, Ready::Binding(key));
            failed =
                listener.with(|listener| listener.register(registry, token, Interest::READABLE)).and_then(Result::err);
            Binding {
                id,
                endpoint: Arc::clone(&endpoint),
                listener: Some(listener),
                settings,
                links: BTreeSet::new(),
                lingering: None,
                half_open: HalfOpen::default(),
                unheard: Unheard::default(),
                aborted: 0,
                listed: false,
                paused: None,
                pause: Binding::SHORTEST_PAUSE,
            }
        });
        host.port().hold_reserve();
        match failed {
            None => {
                self.endpoints.insert(id, Origin::Listener(key));
            }
            Some(error) => {
                self.bindings.remove(key);
                host.endpoint_ended(id);
                let kind = EventKind::BindFailed(error.into());
                host.event(Event { kind, endpoint, address: None, peer: None });
            }
        }
        self.list_binding(key);
    }

    fn turn_binding(&mut self, host: &dyn Host, key: Key, stint: &mut Stint) {
        let now = Instant::now();
        for accepted in 0..ACCEPT_BUDGET {
            if accepted > 0 && stint.is_over() {
                break;
            }
            let Some(binding) = self.bindings.get_mut(key) else { return };
            binding.listed = false;
            if binding.paused.is_some() || binding.listener.is_none() {
                return;
            }
            if let Some(until) = binding.waits_for_room(&self.links, now) {
                binding.paused = Some(until);
                self.timers.push(Reverse((until, Timer::Binding(key))));
                return;
            }
            let Some(listener) = &binding.listener else { return };
            let Some(accepted) = listener.with(|listener| listener.accept()) else { return };
            match accepted {
                Ok(stream) => {
                    (binding.pause, binding.aborted) = (Binding::SHORTEST_PAUSE, 0);
                    self.accepted(host, key, stream, now);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        binding.aborted = 0;
                        return;
                    }
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionAborted if binding.aborted < ACCEPT_BUDGET => binding.aborted += 1,
                    io::ErrorKind::ConnectionAborted => {
                        // Where each accept is forbidden they are said to be gone for ever. Peers that come and go may
                        // not make the pauses grow for others.
                        (binding.pause, binding.aborted) = (Binding::SHORTEST_PAUSE, 0);
                        self.accept_failed(host, key, error, now);
                        return;
                    }
                    _ => {
                        self.accept_failed(host, key, error, now);
                        return;
                    }
                },
            }
        }
        self.list_binding(key);
    }

    fn accepted(&mut self, host: &dyn Host, key: Key, stream: Box<dyn Stream>, now: Instant) {
        let Some(binding) = self.bindings.get(key) else { return };
        let (endpoint, settings, id) = (Arc::clone(&binding.endpoint), Arc::clone(&binding.settings), binding.id);
        let (most, holds_ready_back) = (settings.max_connections, settings.protocol.profile.holds_ready_back());
        let stream: Arc<dyn Stream> = Arc::from(stream);
        let link = Link::new(
            stream,
            State::Handshaking,
            Origin::Listener(key),
            id,
            Arc::clone(&endpoint),
            settings,
            None,
            now,
        );
        let address = Some(Arc::clone(&link.address));
        let (prefix, registry) = (self.prefix, self.sources.registry());
        let mut failed = None;
        let link_key = self.links.insert_with(|key| {
            failed = link.stream.register(registry, token(prefix, Ready::Link(key)), Interest::READABLE).err();
            link
        });
        if let Some(binding) = self.bindings.get_mut(key) {
            binding.links.insert(link_key);
        }
        host.event(Event { kind: EventKind::Accepted, endpoint, address, peer: None });
        if let Some(error) = failed {
            self.lose(host, link_key, Loss::Link(error.into()));
            return;
        }
        let is_full = self.admitted >= most;
        // Our READY may go out from now on.
        let placed = if holds_ready_back { Ok(()) } else { self.take_place(host, link_key, None) };
        let Some(link) = self.links.get_mut(link_key) else { return };
        if let Err(reason) = placed {
            // What it wrote upon our READY would be lost. Our greeting goes first, without which the peer would take us
            // for one that does not speak its version.
            link.collect_control();
            self.lose(host, link_key, Loss::Local(Cause::Refused(reason.into())));
            return;
        }
        if is_full || !holds_ready_back {
            // If it has no place its READY tells whether one is its own; if it has one, it may lose that after this.
            link.spare = now.checked_add(SPARE);
        }
        self.make_room(host, key, link_key, now);
        self.converse(host, link_key, now);
    }

    /// Keeps the number of half-open connections within the limit by evicting one at random of those that have had
    /// their time: a flood then cannot keep others out, as it could if newcomers were refused.
    fn make_room(&mut self, host: &dyn Host, key: Key, newcomer: Key, now: Instant) {
        let Some(binding) = self.bindings.get_mut(key) else { return };
        let unlucky = binding.evict(&self.links, self.jitter.next(), now);
        binding.half_open.note(newcomer, |key| Binding::is_half_open(&self.links, key));
        if let Some(evicted) = unlucky {
            let cause = Cause::Replaced("the listener has too many unfinished handshakes");
            self.lose(host, evicted, Loss::Local(cause));
        }
    }

    /// The system has no descriptor or memory for another connection: the waiting one is turned away with the spare
    /// descriptor, and accepting pauses instead of spinning.
    fn accept_failed(&mut self, host: &dyn Host, key: Key, error: io::Error, now: Instant) {
        let Some(binding) = self.bindings.get_mut(key) else { return };
        if let Some(listener) = &binding.listener {
            listener.with(|listener| host.port().turn_away(listener));
        }
        let until = binding.pause(now);
        let endpoint = Arc::clone(&binding.endpoint);
        self.timers.push(Reverse((until, Timer::Binding(key))));
        host.event(Event { kind: EventKind::AcceptFailed(error.into()), endpoint, address: None, peer: None });
    }

    // ----- connections -----

    /// Serves a ready link; says how many octets that read.
    fn turn_link(&mut self, host: &dyn Host, key: Key, budget: usize, stint: &mut Stint) -> usize {
        let unattended = self.is_unattended();
        let Some(link) = self.links.get_mut(key) else { return 0 };
        link.listed = false;
        link.writable = false;
        let mut read = 0;
        match link.state {
            State::Connecting { .. } => {
                link.readable = false;
                self.check_connected(host, key);
            }
            State::Draining => self.drain(host, key),
            // What it sent last is for nobody, and nothing that is still to be written reaches it.
            State::Up if unattended && link.has_ended_unread() => {
                self.lose(host, key, Loss::Link(Cause::Peer));
                return 0;
            }
            State::Up if link.deaf => {
                if self.discard(host, key) {
                    self.lose(host, key, Loss::Link(Cause::Peer));
                    return 0;
                }
            }
            State::Handshaking | State::Settling(_) | State::Up => {
                let now = Instant::now();
                if !link.control_written() {
                    self.converse(host, key, now);
                }
                read = self.read(host, key, now, budget, stint);
                if let Some(link) = self.links.get(key).filter(|link| link.write_wants_read && read > 0) {
                    self.unflushed.extend(link.peer);
                }
                if self.links.get(key).is_some_and(|link| link.broken && !link.readable) {
                    let error = io::Error::new(io::ErrorKind::BrokenPipe, "the stream takes no more octets");
                    self.lose(host, key, Loss::Link(error.into()));
                }
            }
        }
        self.settle_return(host, key, read);
        self.list(key);
        self.retime(key);
        read
    }

    /// Writes what the machine has to say, and lets messages flow once the handshake is written too.
    fn converse(&mut self, host: &dyn Host, key: Key, now: Instant) {
        let Some(link) = self.links.get_mut(key) else { return };
        if let (State::Up, Some(peer)) = (&link.state, link.peer) {
            if link.machine.has_control() {
                self.flush_peer(host, peer);
            }
            return;
        }
        link.collect_control();
        match link.write_control() {
            Ok(written) => {
                if let Err(error) =
                    link.want_write(self.sources.registry(), token(self.prefix, Ready::Link(key)), !written)
                {
                    self.lose(host, key, Loss::Link(error.into()));
                    return;
                }
                let waits =
                    link.predecessor.is_some() || link.peer.is_some_and(|peer| self.departing.contains_key(&peer));
                if written && !waits && matches!(link.state, State::Settling(_)) {
                    self.come_up(host, key, now);
                    return;
                }
            }
            // The peer is ready and does not know that we are, so that it has sent nothing that could be read yet.
            Err(error) if matches!(link.state, State::Settling(_)) => {
                self.lose(host, key, Loss::Link(error.into()));
                return;
            }
            // What there is to read has been asked for already: to ask again each time would never end.
            Err(_) if link.broken => {}
            // The read side tells why; nothing that arrived before is lost.
            Err(_) => (link.broken, link.readable) = (true, true),
        }
        self.retime(key);
        self.list(key);
    }

    fn come_up(&mut self, host: &dyn Host, key: Key, now: Instant) {
        if self.has_ended(key) {
            self.end_link(host, key, now);
        }
        let Some(link) = self.links.get_mut(key) else { return };
        let State::Settling(description) = std::mem::replace(&mut link.state, State::Handshaking) else { return };
        let reconnected = match link.origin {
            Origin::Dialer(dialer) => self.dialers.get(dialer).is_some_and(|dialer| dialer.was_up),
            Origin::Listener(_) => false,
        };
        let token = description.announced.map(|announced| announced.token);
        let newcomer = Newcomer {
            peer: link.peer,
            endpoint_id: link.endpoint_id,
            endpoint: Arc::clone(&link.endpoint),
            stream: Arc::clone(&link.stream),
            description: *description,
            address: Arc::clone(&link.address),
            reconnected,
            is_accepted: matches!(link.origin, Origin::Listener(_)),
            seat: link.seat.take(),
        };
        match host.attach(newcomer) {
            Ok(Joined { peer, held, replays }) => {
                self.replaying.extend(replays.then_some(peer));
                link.state = State::Up;
                link.peer = Some(peer);
                link.gate = host.read_gate(peer);
                link.readable |= link.undigested;
                link.opened = now;
                link.held_until = held.then(|| now + LASTS);
                let slot = peer.slot() as usize;
                if self.by_slot.len() <= slot {
                    self.by_slot.resize(slot + 1, None);
                }
                self.by_slot[slot] = Some(key);
                link.token = token;
                if let (Some(token), Origin::Listener(_)) = (token, link.origin) {
                    self.by_token.insert(token, key);
                }
                let (endpoint, address) = (Arc::clone(&link.endpoint), Some(Arc::clone(&link.address)));
                match link.origin {
                    Origin::Dialer(dialer) => {
                        if let Some(dialer) = self.dialers.get_mut(dialer) {
                            dialer.was_up = true;
                            host.course(dialer.id, Course::Up);
                            // It may be another peer now.
                            dialer.peer = dialer.peer.map(|_| peer);
                            dialer.unheard.forget(&link.address);
                        }
                    }
                    Origin::Listener(binding) => {
                        if let Some(binding) = self.bindings.get_mut(binding) {
                            binding.unheard.forget(&link.address);
                        }
                    }
                }
                let origin = link.origin;
                host.event(Event { kind: EventKind::HandshakeSucceeded, endpoint, address, peer: Some(peer) });
                if let (Origin::Dialer(dialer), None) = (origin, token) {
                    self.let_next_begin(host, dialer, now);
                }
                self.flush_peer(host, peer);
                if self.links.get(key).is_some_and(|link| link.closing) {
                    self.settle_link(host, key, now);
                }
                self.list(key);
                self.retime(key);
            }
            Err(reason) => self.lose(host, key, Loss::Local(Cause::Refused(reason.into()))),
        }
    }

    /// A connection is gone, for whatever reason: tells, and prepares what comes next.
    fn lose(&mut self, host: &dyn Host, key: Key, loss: Loss) {
        let Some(mut link) = self.links.remove(key) else { return };
        self.admitted -= usize::from(link.admitted);
        if let Some(ticket) = link.seat {
            host.unreserve(ticket);
        }
        // The stream may live on in an outbox for a moment; the poll must not speak of it any more.
        let _ = link.stream.deregister(self.sources.registry());
        let _ = link.write_control();
        self.uncount(host, key, std::mem::take(&mut link.unfinished));
        let lost = link.lost(match &loss {
            Loss::Link(cause) => Some(cause),
            Loss::Protocol(_) | Loss::Local(_) => None,
        });
        let (cause, refusal, local) = match loss {
            Loss::Link(cause) => (cause, false, false),
            Loss::Protocol(error) => {
                let error = self.count_unheard(&link, error);
                let refusal = error.is_refusal();
                (Cause::Protocol(error), refusal, false)
            }
            Loss::Local(cause) => (cause, false, true),
        };
        let (endpoint, address) = (Arc::clone(&link.endpoint), Some(Arc::clone(&link.address)));
        let up = link.is_up();
        let connecting = matches!(link.state, State::Connecting { .. });
        self.forget_token(key, &link);
        if let Some(slot) = link.peer.map(|peer| peer.slot() as usize) {
            if let Some(place) = self.by_slot.get_mut(slot).filter(|place| **place == Some(key)) {
                *place = None;
            }
        }
        // The socket is told first, so that whoever hears of it finds the peer gone.
        let tell = |host: &dyn Host| {
            let kind = match (connecting, up) {
                (true, _) => EventKind::Closed(cause.clone()),
                (false, false) => EventKind::HandshakeFailed(cause.clone()),
                (false, true) => EventKind::Disconnected(cause.clone()),
            };
            host.event(Event { kind, endpoint: Arc::clone(&endpoint), address: address.clone(), peer: link.peer });
            if !connecting && !up {
                let kind = EventKind::Disconnected(cause.clone());
                host.event(Event { kind, endpoint: Arc::clone(&endpoint), address: address.clone(), peer: link.peer });
            }
        };
        match link.origin {
            Origin::Listener(binding) => {
                if let Some(peer) = link.peer {
                    self.detach(host, peer, None, if link.admitted { Departure::Gone } else { Departure::Drained });
                }
                tell(host);
                self.pass_on(host, key, &link);
                if let Some(binding) = self.bindings.get_mut(binding) {
                    binding.links.remove(&key);
                }
                self.forget_binding(binding);
            }
            Origin::Dialer(dialer_key) => {
                let Some(dialer) = self.dialers.get_mut(dialer_key) else {
                    tell(host);
                    return;
                };
                dialer.answered &= !connecting;
                // A connection that lasted proves the way good, and so does a message that the peer has read: it
                // closed, and left nothing unread of what its system had, else it would be a reset.
                let lasted = link.opened.elapsed() >= LASTS;
                let closed = matches!(cause, Cause::Peer) && !link.broken;
                let taken = |peer| host.has_taken(peer, link.stream.unsent());
                if up && (lasted || (closed && link.peer.is_some_and(taken))) {
                    dialer.proved();
                }
                let stop = refusal
                    || (!up && !connecting && dialer.settings.stop_on_handshake_failure)
                    || (local && dialer.closing);
                // Under `immediate` each connection is a peer of its own; else the endpoint's peer stays and its
                // messages wait.
                match (link.peer, dialer.peer) {
                    (Some(peer), None) => self.detach(host, peer, None, Departure::Gone),
                    (Some(peer), Some(_)) if !stop && up => {
                        self.detach(host, peer, Some(dialer_key), Departure::Returns(lost));
                    }
                    (Some(peer), Some(_)) if !up => host.attempt_failed(peer),
                    (Some(_), Some(_)) | (None, _) => {}
                }
                host.course(
                    link.endpoint_id,
                    match up {
                        true => Course::Lost { cause: &cause },
                        false => Course::Failed { cause: &cause, address: Some(&link.address) },
                    },
                );
                tell(host);
                if stop {
                    self.remove_dialer(host, dialer_key, !(local && dialer_closing(&self.dialers, dialer_key)));
                } else if connecting {
                    self.next_address(host, dialer_key, cause);
                } else {
                    let kind = EventKind::Closed(cause.clone());
                    if !self.retry(host, dialer_key, cause) {
                        host.event(Event { kind, endpoint, address: None, peer: link.peer });
                    }
                }
            }
        }
    }

    /// Says of a peer that closed without a word how often in a row it did so.
    fn count_unheard(&mut self, link: &Link, error: protocol::ProtocolError) -> protocol::ProtocolError {
        let unheard = match link.origin {
            Origin::Listener(key) => self.bindings.get_mut(key).map(|binding| &mut binding.unheard),
            Origin::Dialer(key) => self.dialers.get_mut(key).map(|dialer| &mut dialer.unheard),
        };
        match (unheard, error) {
            (Some(unheard), protocol::ProtocolError::ClosedUnheard { .. }) => {
                protocol::ProtocolError::ClosedUnheard { times: unheard.note(&link.address) }
            }
            (_, error) => error,
        }
    }

    // ----- writing -----

    /// Flushes each peer that had something to write when the round began; those that have more then come after all
    /// others.
    fn flush_dirty(&mut self, host: &dyn Host, stint: &mut Stint) {
        host.take_dirty(&mut self.dirty);
        self.unflushed.extend(self.dirty.drain(..));
        for flushed in 0..self.unflushed.len() {
            if flushed > 0 && stint.is_over() {
                return;
            }
            let Some(peer) = self.unflushed.pop_front() else { return };
            self.flush_peer(host, peer);
        }
    }

    fn flush_peer(&mut self, host: &dyn Host, peer: PeerId) {
        if let Some(link) = self.link_of(peer).and_then(|key| self.links.get_mut(key)) {
            if link.machine.has_control() {
                host.urgent(peer, &mut || link.machine.transmit());
            }
        }
        let flushed = host.flush(peer);
        let Some(key) = self.link_of(peer) else { return };
        let Some(link) = self.links.get_mut(key) else { return };
        let token = token(self.prefix, Ready::Link(key));
        let done = flushed == Flush::Done && link.closing;
        let wanted = match flushed {
            Flush::Done => {
                link.write_wants_read = false;
                link.want_write(self.sources.registry(), token, false)
            }
            Flush::Blocked => {
                link.write_wants_read = link.stream.wants().is_some_and(Interest::is_readable);
                let wants_write = !link.write_wants_read;
                link.want_write(self.sources.registry(), token, wants_write)
            }
            Flush::Again => {
                self.unflushed.push_back(peer);
                Ok(())
            }
            Flush::Busy => Ok(()),
            Flush::Failed => {
                (link.broken, link.readable) = (true, true);
                self.list(key);
                Ok(())
            }
        };
        if let Err(error) = wanted {
            self.lose(host, key, Loss::Link(error.into()));
        } else if done {
            self.settle_link(host, key, Instant::now());
        }
    }

    // ----- timers and lists -----

    /// If a timer is due, asks the kernel what has happened; the moment before that, up to which timers may be judged.
    fn look_if_due(&mut self) -> Option<Instant> {
        let looked = match (&self.sources, self.looked) {
            (Sources::Shared(_), Some(looked)) => looked,
            (Sources::Shared(_), None) | (Sources::Own(_), _) => Instant::now(),
        };
        let late = looked.checked_duration_since(self.deadline()?)?;
        // Fails only for a signal, after which nothing has been asked.
        self.wait(Some(Duration::ZERO)).ok()?;
        self.note_lateness(late, looked);
        Some(looked)
    }

    /// The first timer is found due so late. If that is much, the process was stopped, and perhaps its peers with it:
    /// each gets some time before it is judged, once for each stop.
    fn note_lateness(&mut self, late: Duration, now: Instant) {
        let is_new = self.granted.is_none_or(|granted| now - late > granted);
        if late < STOPPED || !is_new {
            return;
        }
        let until = now + GRACE;
        self.granted = Some(until);
        self.links.iter_mut().for_each(|(_, link)| link.grant(until));
        self.lingering.iter_mut().for_each(|lingering| lingering.grant(until));
        self.dialers.iter_mut().filter_map(|(_, dialer)| dialer.lingering.as_mut()).for_each(|end| end.grant(until));
        self.bindings.iter_mut().filter_map(|(_, binding)| binding.lingering.as_mut()).for_each(|end| end.grant(until));
    }

    fn expire(&mut self, host: &dyn Host, now: Instant, stint: &mut Stint) {
        let mut first = true;
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now || (!std::mem::take(&mut first) && stint.is_over()) {
                return;
            }
            self.timers.pop();
            match timer {
                Timer::Link(key) => self.expire_link(host, key, at, now),
                Timer::Dialer(key) => {
                    let due = self.dialers.get(key).is_some_and(|dialer| dialer.state == Dialing::Waiting(at));
                    if due && !self.settle_dialer(host, key) && self.has_turn(host, key, now) {
                        self.go_on_dialing(host, key);
                    }
                }
                Timer::Binding(key) => {
                    if let Some(binding) = self.bindings.get_mut(key).filter(|binding| binding.paused == Some(at)) {
                        binding.paused = None;
                        host.port().hold_reserve();
                        self.list_binding(key);
                    }
                }
                Timer::Holders => self.relieve(host, now),
                Timer::Linger(scope) => {
                    if self.lingering_of(scope).is_some_and(|lingering| lingering.due == Some(at)) {
                        self.look_at_linger(host, scope, now);
                    }
                }
            }
        }
    }

    fn expire_link(&mut self, host: &dyn Host, key: Key, at: Instant, now: Instant) {
        let Some(link) = self.links.get_mut(key).filter(|link| link.timer == Some(at)) else { return };
        if link.listed && !link.is_up() {
            // What came, or that the stream is connected, is still to be looked at.
            let soon = now + UNREAD;
            link.timer = Some(soon);
            self.timers.push(Reverse((soon, Timer::Link(key))));
            return;
        }
        link.timer = None;
        link.rests = link.rests.filter(|until| *until > now);
        link.look_at_peer(now, |peer| host.pending(peer));
        if let Some(peer) = link.release(now) {
            if host.release(peer) {
                link.held_until = Some(now + LASTS);
                self.replaying.push_back(peer);
            }
            self.flush_peer(host, peer);
        }
        let Some(link) = self.links.get_mut(key) else { return };
        let connecting = matches!(link.state, State::Connecting { .. });
        if !connecting && link.stream.deadline().is_some_and(|deadline| deadline <= now) {
            link.stream.on_deadline(now);
            link.readable = true;
        }
        let is_one_too_many =
            link.is_spare_over(now) && !link.admitted && self.admitted >= link.settings.max_connections;
        match link.state {
            State::Connecting { deadline } => {
                if deadline.is_some_and(|deadline| deadline <= now) {
                    let error = io::Error::from(io::ErrorKind::TimedOut);
                    self.lose(host, key, Loss::Link(error.into()));
                }
            }
            // The turn that follows sees whether it is over.
            State::Draining => self.list(key),
            State::Settling(_) if link.settling_deadline().is_some_and(|deadline| deadline <= now) => {
                let limit = link.settings.protocol.handshake_timeout.unwrap_or_default();
                self.lose(host, key, Loss::Protocol(protocol::ProtocolError::HandshakeTimeout { limit }));
            }
            State::Handshaking if is_one_too_many => {
                self.lose(host, key, Loss::Local(Cause::Refused(FULL.into())));
            }
            // It has nothing to say until the other link of its peer is read.
            State::Settling(_) if link.predecessor.is_some() => {}
            State::Handshaking | State::Settling(_) | State::Up => {
                if matches!(link.state, State::Handshaking) || link.is_asked_in_vain(now) {
                    // What has come meanwhile is looked at before the time counts.
                    link.readable = true;
                }
                // What the peer has sent waits in the kernel because we do not read: it is not silent.
                if link.readable || link.is_kept() || link.excuses_silence(now) {
                    link.machine.traffic();
                }
                if let (State::Up, Some(peer)) = (&link.state, link.peer) {
                    // So that the machine knows whether its last PING is written.
                    host.urgent(peer, &mut || link.machine.transmit());
                }
                // After that: what the machine has to say now is flushed below.
                if matches!(link.state, State::Up) {
                    link.machine.give_life_sign(!link.is_kept(), now);
                }
                match link.machine.handle_timeout(now) {
                    Ok(()) => self.converse(host, key, now),
                    Err(error) => self.lose(host, key, Loss::Protocol(error)),
                }
                self.list(key);
            }
        }
        self.retime(key);
    }

    /// Sees to it that the timer queue knows the next deadline of a link. Deadlines only move later as a rule, so an
    /// entry that turns out early is simply put back.
    fn retime(&mut self, key: Key) {
        let Some(link) = self.links.get_mut(key) else { return };
        if let Some(deadline) = link.deadline() {
            if link.timer.is_none_or(|timer| deadline < timer) {
                link.timer = Some(deadline);
                self.timers.push(Reverse((deadline, Timer::Link(key))));
                self.forget_stale_timers();
            }
        }
    }

    /// Entries stay in the timer queue until they are due, half a minute for those of a handshake. They are thrown out
    /// before once more than half of them can be stale, so that connections that come and go fast do not fill it.
    fn forget_stale_timers(&mut self) {
        let most = self.links.len() + 2 * self.dialers.len() + 2 * self.bindings.len() + 1;
        if self.timers.len() <= 2 * most + FEW_TIMERS {
            return;
        }
        let (links, dialers, bindings) = (&self.links, &self.dialers, &self.bindings);
        let (endpoints, socket, watched) = (&self.endpoints, &self.lingering, self.watched);
        let due = |scope: Option<EndpointId>| {
            let lingering = match scope.map(|id| endpoints.get(&id)) {
                None => socket.as_ref(),
                Some(Some(Origin::Dialer(key))) => dialers.get(*key)?.lingering.as_ref(),
                Some(Some(Origin::Listener(key))) => bindings.get(*key)?.lingering.as_ref(),
                Some(None) => None,
            };
            lingering?.due
        };
        self.timers.retain(|Reverse((at, timer))| match timer {
            Timer::Link(key) => links.get(*key).is_some_and(|link| link.timer == Some(*at)),
            Timer::Dialer(key) => dialers.get(*key).is_some_and(|dialer| dialer.state == Dialing::Waiting(*at)),
            Timer::Binding(key) => bindings.get(*key).is_some_and(|binding| binding.paused == Some(*at)),
            Timer::Linger(scope) => due(*scope) == Some(*at),
            Timer::Holders => watched,
        });
    }

    fn list(&mut self, key: Key) {
        let unattended = self.is_unattended();
        let ready = |link: &&mut Link| link.is_ready() || (unattended && link.has_ended_unread());
        if let Some(link) = self.links.get_mut(key).filter(|link| !link.listed).filter(ready) {
            link.listed = true;
            self.ready.push_back(Ready::Link(key));
        }
    }

    fn list_binding(&mut self, key: Key) {
        if let Some(binding) = self.bindings.get_mut(key).filter(|binding| !binding.listed && binding.paused.is_none())
        {
            binding.listed = true;
            self.ready.push_back(Ready::Binding(key));
        }
    }

    /// Whether it belongs to a closed socket, which no caller will drive any more, and has a poll of its own all the
    /// same. With very many connections it keeps that until most of them are gone: to move all would take long, for two
    /// descriptors among as many.
    pub(crate) fn may_move_in(&self) -> bool {
        self.lingering.is_some() && self.has_own_poll() && self.links.len() <= MOVED
    }

    pub(crate) fn has_own_poll(&self) -> bool {
        matches!(self.sources, Sources::Own(_))
    }

    /// Gives its own poll back and registers what it has with that of an engine thread.
    pub(crate) fn move_in(&mut self, host: &dyn Host, registry: Arc<Registry>, prefix: usize) {
        let own = self.give_up_poll(registry, prefix);
        for key in self.links.keys() {
            let Some(link) = self.links.get(key) else { continue };
            let _ = link.stream.deregister(own.registry());
            let registered =
                link.stream.register(self.sources.registry(), token(prefix, Ready::Link(key)), link.interest());
            if let Err(error) = registered {
                self.lose(host, key, Loss::Link(error.into()));
            }
        }
    }

    /// From now on it has no poll of its own, and forgets that this had more events to tell. The other poll reports what
    /// is registered there.
    fn give_up_poll(&mut self, registry: Arc<Registry>, prefix: usize) -> Sources {
        self.prefix = prefix;
        self.events = mio::Events::with_capacity(1);
        self.more = false;
        std::mem::replace(&mut self.sources, Sources::Shared(registry))
    }

    fn link_of(&self, peer: PeerId) -> Option<Key> {
        let key = (*self.by_slot.get(peer.slot() as usize)?)?;
        self.links.get(key).filter(|link| link.peer == Some(peer)).map(|_| key)
    }
}

/// Whether the dialer is being closed.
fn dialer_closing(dialers: &Slab<Dialer>, key: Key) -> bool {
    dialers.get(key).is_some_and(|dialer| dialer.closing)
}

/// Where a token's bits are: the place below, the lower part of its generation above, then which kind of source it is.
/// A report is late by a turn at most, in which no place changes hands so often that the same part comes again.
const INDEX_BITS: u32 = 22;
const GENERATION_BITS: u32 = 16;
const GENERATIONS: usize = (1 << GENERATION_BITS) - 1;
const BINDING: usize = 1 << (INDEX_BITS + GENERATION_BITS);
/// Tokens of different reactors in a shared poll differ from here up.
pub(crate) const PREFIX_SHIFT: u32 = INDEX_BITS + GENERATION_BITS + 1;

const _: () = assert!(usize::BITS >= 64, "wiremesh needs a 64-bit target: tokens hold a place and a generation");

fn token(prefix: usize, source: Ready) -> Token {
    let (key, kind) = match source {
        Ready::Link(key) => (key, 0),
        Ready::Binding(key) => (key, BINDING),
    };
    Token(prefix | kind | (key.generation as usize & GENERATIONS) << INDEX_BITS | key.index as usize)
}

/// Resolving needs the pieces of a dialer on another thread.
pub(crate) fn look_up(transport: &dyn Transport, address: &str, settings: &Settings) -> io::Result<Vec<String>> {
    transport.resolve(address, &settings.link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_over_once_somebody_calls_for_the_thread() {
        let called = AtomicBool::new(false);
        let mut stint = Stint::until_called(Some(&called));
        assert!(!stint.is_over(), "it has just begun");
        called.store(true, Ordering::Relaxed);
        std::thread::sleep(Stint::SHORT);
        assert!(stint.is_over());
    }

    #[test]
    fn what_the_own_poll_had_left_is_nothing_to_do_once_another_poll_has_the_sources() {
        let (own, shared) = (Poll::new().expect("a poll"), Poll::new().expect("a poll"));
        let mut reactor = Reactor::new(Sources::Own(own), 0);
        reactor.more = true;
        let registry = Arc::new(shared.registry().try_clone().expect("a descriptor"));
        reactor.give_up_poll(registry, 0);
        assert!(!reactor.is_busy(), "nobody would look there again");
    }

    #[test]
    fn timers_of_links_that_are_gone_do_not_gather() {
        let poll = Poll::new().expect("a poll");
        let mut reactor = Reactor::new(Sources::Own(poll), 0);
        let later = Instant::now() + Duration::from_secs(30);
        reactor.watched = true;
        reactor.timers.push(Reverse((later, Timer::Holders)));
        for generation in 0..10_000 {
            reactor.timers.push(Reverse((later, Timer::Link(Key { index: 0, generation }))));
            reactor.forget_stale_timers();
            assert!(reactor.timers.len() <= FEW_TIMERS + 3);
        }
        assert!(reactor.timers.iter().any(|Reverse((_, timer))| *timer == Timer::Holders), "what is live stays");
    }
}
