//! A socket's reactor: its sources, its ready list, its timers, and one round of driving them.
//!
//! Streams are edge-triggered. A stream stays *ready* from its edge until it would block, and the ready list lives here and
//! not in whoever drives, so a driver may leave at any point.

use super::contain::contain;
use super::dialer::{Dialer, Dialing, Jitter};
use super::link::{Link, Origin, Standstill, State};
use super::listener::Binding;
use super::port::{Command, Habit};
use super::{EndpointId, Flush, Host, Incoming, Newcomer, Settings};
use crate::budget::Budget;
use crate::event::{Cause, Event, EventKind};
use crate::peer::PeerId;
use crate::protocol::{self, Connection};
use crate::slab::{Key, Slab};
use bytes::{Bytes, BytesMut};
use mio::{Interest, Poll, Registry, Token};
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::Shutdown;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wiremesh_transports::{Listener, Spare, Stream, Transport, read_into};

pub(crate) struct Reactor {
    /// Its own poll; `None` where engine threads always drive and their poll holds the sources.
    poll: Option<Poll>,
    registry: Registry,
    /// What tells this reactor's tokens from others in a shared poll.
    prefix: usize,
    events: mio::Events,
    links: Slab<Link>,
    dialers: Slab<Dialer>,
    bindings: Slab<Binding>,
    /// The link of each peer, by the peer's slot.
    by_slot: Vec<Option<Key>>,
    ready: VecDeque<Ready>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    /// Peers whose outboxes have more to write than one turn may.
    stalled: Vec<PeerId>,
    dirty: Vec<PeerId>,
    /// Endpoints being closed, and until when they may go on.
    endings: Vec<Ending>,
    /// When they are looked at again if there are many connections, and whether a timer says so.
    next_sweep: Option<Instant>,
    sweep_put_off: bool,
    /// How many links the context's budget counts unfinished messages for, and whether a look at them is due.
    holders: usize,
    watched: bool,
    /// The one of them that is read although the budget is over.
    favourite: Option<Key>,
    /// Kept for the moment when descriptors run out.
    spare: Option<Spare>,
    jitter: Jitter,
    /// How regularly callers drive it.
    pub(crate) habit: Habit,
    /// The socket was closed and everything is gone.
    pub(crate) finished: bool,
    /// Code that ran for the socket outside of a round panicked with this.
    pub(crate) panicked: Option<Arc<str>>,
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
    Ending,
    Holders,
}

#[derive(Clone, Copy)]
struct Ending {
    /// `None` for the whole socket.
    scope: Option<EndpointId>,
    deadline: Option<Instant>,
}

/// How much one round may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turns {
    /// Ready sources.
    pub(crate) sources: usize,
    /// Octets read, give or take one buffer.
    pub(crate) octets: usize,
}

impl Turns {
    /// A caller serves few sources before it looks whether it was served itself, and reads no more than what the second-level
    /// cache still holds when it gets to it.
    pub(crate) const CALLER: Turns = Turns { sources: 8, octets: READ_BUFFER };
    /// An engine thread serves everybody.
    pub(crate) const ENGINE: Turns = Turns { sources: 64, octets: usize::MAX };
    /// The sources wait for somebody else.
    pub(crate) const NONE: Turns = Turns { sources: 0, octets: 0 };
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

/// The token of the waker in a reactor's own poll.
pub(crate) const WAKER: Token = Token(usize::MAX);

/// How many octets one turn reads from one connection, so that a busy peer does not starve the others.
const READ_BUDGET: usize = 1024 * 1024;
/// The size of a read buffer. Larger ones leave the second-level cache before the application gets to them.
const READ_BUFFER: usize = 256 * 1024;
/// A rest of a message up to this size is put aside by copying; a longer one keeps its buffer.
const SMALL_REST: usize = 16 * 1024;
/// A rest up to this size does not keep its buffer while nothing comes.
const MIDDLING_REST: usize = READ_BUFFER / 2;
/// How often links within a long message are looked at, whether the context's budget can bear them.
const HOLDERS_LOOK: Duration = Duration::from_millis(100);
/// After how many looks in a shortage a link goes that has brought less than a step meanwhile, …
const IDLE_LOOKS: u8 = 10;
/// … or less than this part of what it holds, if that is more. A shortage then lasts minutes, not hours, although each
/// brings a little.
const SHARE: usize = 64;
/// A sweep over so few connections costs nothing; after one over more, so many times as long passes before the next.
const FEW_LINKS: usize = 64;
const SWEEPS_APART: u32 = 32;
/// So few stale timers are not worth a look.
const FEW_TIMERS: usize = 64;
/// Bodies of such lengths leave their buffers to later ones, and this many of them are remembered.
const REUSED_BODIES: RangeInclusive<usize> = 128 * 1024..=2 * 1024 * 1024;
const KEPT_BODIES: usize = 2;
/// How much is read at once where a large body is about to begin.
const LARGE_START: usize = 16 * 1024;
/// How many connections one turn accepts on one listener.
const ACCEPT_BUDGET: usize = 64;

thread_local! {
    /// Read buffers belong to the driver: a connection that is quiet has none.
    static BUFFER: Cell<BytesMut> = Cell::new(BytesMut::new());
    /// The large bodies it read last, whose buffers it uses again once nobody else does.
    static BODIES: RefCell<VecDeque<Bytes>> = const { RefCell::new(VecDeque::new()) };
}

impl Reactor {
    /// A reactor over its own poll, or over the shared one of an engine thread.
    pub(crate) fn new(poll: Option<Poll>, registry: Registry, prefix: usize) -> Reactor {
        Reactor {
            events: mio::Events::with_capacity(if poll.is_some() { 256 } else { 1 }),
            poll,
            registry,
            prefix,
            links: Slab::new(),
            dialers: Slab::new(),
            bindings: Slab::new(),
            by_slot: Vec::new(),
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
            stalled: Vec::new(),
            dirty: Vec::new(),
            endings: Vec::new(),
            next_sweep: None,
            sweep_put_off: false,
            holders: 0,
            watched: false,
            favourite: None,
            spare: None,
            jitter: Jitter::new(),
            habit: Habit::default(),
            finished: false,
            panicked: None,
        }
    }

    /// Waits for events of its own poll, at most `timeout`.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let Some(poll) = &mut self.poll else { return Ok(()) };
        let mut events = std::mem::replace(&mut self.events, mio::Events::with_capacity(0));
        let result = poll.poll(&mut events, timeout);
        for event in &events {
            self.note(event);
        }
        self.events = events;
        result
    }

    /// Takes note of an event of one of its sources.
    pub(crate) fn note(&mut self, event: &mio::event::Event) {
        let token = event.token();
        if token == WAKER {
            return;
        }
        match source(token) {
            Ready::Link(key) => {
                let Some(link) = self.links.get_mut(key) else { return };
                link.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                link.ended |= event.is_read_closed() || event.is_error();
                if event.is_writable() {
                    link.readable |= std::mem::take(&mut link.read_wants_write);
                }
                if event.is_readable() && link.write_wants_read {
                    self.stalled.extend(link.peer);
                }
                if event.is_writable() || event.is_error() || event.is_write_closed() {
                    match (&link.state, link.peer) {
                        (State::Up, Some(peer)) => self.stalled.push(peer),
                        _ => (link.readable, link.writable) = (true, true),
                    }
                }
                self.list(key);
            }
            Ready::Binding(key) => self.list_binding(key),
        }
    }

    /// One round: commands, dirty outboxes, due timers, and as many ready sources as `turns` allows.
    pub(crate) fn round(&mut self, host: &dyn Host, turns: Turns) {
        host.port().take_commands(|command| self.execute(host, command));
        self.flush_dirty(host);
        if !self.timers.is_empty() {
            self.expire(host, Instant::now());
        }
        let mut delivered = false;
        let mut octets = turns.octets;
        for _ in 0..turns.sources.min(self.ready.len()) {
            if octets == 0 {
                break;
            }
            match self.ready.pop_front() {
                Some(Ready::Link(key)) => {
                    delivered = true;
                    let read = self.turn_link(host, key, octets.min(READ_BUDGET));
                    octets = octets.saturating_sub(read);
                }
                Some(Ready::Binding(key)) => self.turn_binding(host, key),
                None => break,
            }
        }
        if delivered {
            host.delivered();
        }
        if !self.endings.is_empty() {
            self.sweep_in_turn(host);
        }
    }

    /// Whether a further round would find something to do at once.
    pub(crate) fn is_busy(&self) -> bool {
        !self.ready.is_empty() || !self.stalled.is_empty()
    }

    /// Whether a peer has more to write than its last turn allowed.
    pub(crate) fn has_stalled(&self) -> bool {
        !self.stalled.is_empty()
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

    fn execute(&mut self, host: &dyn Host, command: Command) {
        match command {
            Command::Listen { id, endpoint, listener, settings } => self.listen(host, id, endpoint, listener, settings),
            Command::Dial { id, endpoint, address, transport, settings, peer } => {
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
                    closing: false,
                };
                let key = self.dialers.insert(dialer);
                self.resolve(host, key);
            }
            Command::Resolved { dialer, addresses } => self.resolved(host, dialer, addresses),
            Command::Resume(peer) => {
                if let Some(key) = self.link_of(peer) {
                    if let Some(link) = self.links.get_mut(key) {
                        link.paused = false;
                    }
                    self.list(key);
                }
            }
            Command::GoOn => self.feed_starved(host),
            Command::Drop { peer, cause } => {
                if let Some(key) = self.link_of(peer) {
                    self.lose(host, key, Loss::Local(cause));
                }
            }
            Command::End { scope, deadline } => self.end(host, scope, deadline),
            Command::Fail(panic) => self.panicked = Some(panic),
        }
    }

    // ----- binding -----

    fn listen(
        &mut self,
        host: &dyn Host,
        id: EndpointId,
        endpoint: Arc<str>,
        listener: Box<dyn Listener>,
        settings: Arc<Settings>,
    ) {
        let (prefix, registry) = (self.prefix, &self.registry);
        let mut failed = None;
        let key = self.bindings.insert_with(|key| {
            if let Err(error) = listener.register(registry, token(prefix, Ready::Binding(key)), Interest::READABLE) {
                failed = Some(error);
            }
            Binding {
                id,
                endpoint: Arc::clone(&endpoint),
                listener: Some(listener),
                settings,
                half_open: Vec::new(),
                listed: false,
                paused: None,
                pause: Binding::SHORTEST_PAUSE,
            }
        });
        let kind = match failed {
            None => EventKind::Listening,
            Some(error) => {
                self.bindings.remove(key);
                host.endpoint_ended(id);
                EventKind::BindFailed(error.into())
            }
        };
        host.event(Event { kind, endpoint, address: None, peer: None });
        if self.spare.is_none() {
            self.spare = Spare::new().ok();
        }
        self.list_binding(key);
    }

    fn turn_binding(&mut self, host: &dyn Host, key: Key) {
        let now = Instant::now();
        for _ in 0..ACCEPT_BUDGET {
            let Some(binding) = self.bindings.get_mut(key) else { return };
            binding.listed = false;
            let Some(listener) = binding.listener.as_ref().filter(|_| binding.paused.is_none()) else { return };
            match listener.accept() {
                Ok(stream) => {
                    binding.pause = Binding::SHORTEST_PAUSE;
                    self.accepted(host, key, stream, now);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
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
        let (prefix, registry) = (self.prefix, &self.registry);
        let mut failed = None;
        let link_key = self.links.insert_with(|key| {
            failed = link.stream.register(registry, token(prefix, Ready::Link(key)), Interest::READABLE).err();
            link
        });
        host.event(Event { kind: EventKind::Accepted, endpoint, address, peer: None });
        if let Some(error) = failed {
            self.lose(host, link_key, Loss::Link(error.into()));
            return;
        }
        self.make_room(host, key, link_key);
        self.converse(host, link_key, now);
    }

    /// Keeps the number of half-open connections within the limit by evicting one at random: a flood then cannot keep others
    /// out, as it could if newcomers were refused.
    fn make_room(&mut self, host: &dyn Host, key: Key, newcomer: Key) {
        let links = &self.links;
        let Some(binding) = self.bindings.get_mut(key) else { return };
        if binding.half_open.len() >= binding.settings.half_open {
            binding.half_open.retain(|link| links.get(*link).is_some_and(|link| !link.is_up()));
        }
        let full = binding.half_open.len() >= binding.settings.half_open.max(1);
        binding.half_open.push(newcomer);
        if full {
            let unlucky = (self.jitter.next() >> 33) as usize % (binding.half_open.len() - 1).max(1);
            let evicted = binding.half_open.swap_remove(unlucky);
            let cause = Cause::Replaced("the listener has too many unfinished handshakes");
            self.lose(host, evicted, Loss::Local(cause));
        }
    }

    /// The system has no descriptor or memory for another connection: the waiting one is turned away with the spare descriptor,
    /// and accepting pauses instead of spinning.
    fn accept_failed(&mut self, host: &dyn Host, key: Key, error: io::Error, now: Instant) {
        let Some(binding) = self.bindings.get_mut(key) else { return };
        if let (Some(spare), Some(listener)) = (&mut self.spare, &binding.listener) {
            // Whether it could be turned away or not: accepting goes on after the pause.
            let _ = spare.turn_away(&**listener);
        }
        let until = binding.pause(now);
        let endpoint = Arc::clone(&binding.endpoint);
        self.timers.push(Reverse((until, Timer::Binding(key))));
        host.event(Event { kind: EventKind::AcceptFailed(error.into()), endpoint, address: None, peer: None });
    }

    // ----- connecting -----

    fn resolve(&mut self, host: &dyn Host, key: Key) {
        let Some(dialer) = self.dialers.get_mut(key) else { return };
        dialer.state = Dialing::Resolving;
        let (transport, settings) = (Arc::clone(&dialer.transport), Arc::clone(&dialer.settings));
        let address = Arc::clone(&dialer.address);
        if let Some(addresses) = transport.resolve_now(&address) {
            self.resolved(host, key, Ok(addresses));
            return;
        }
        host.port().resolve(key, transport, address, settings);
    }

    fn resolved(&mut self, host: &dyn Host, key: Key, addresses: io::Result<Vec<String>>) {
        let Some(dialer) = self.dialers.get_mut(key) else { return };
        match addresses {
            Ok(mut addresses) => {
                addresses.reverse();
                dialer.candidates = addresses;
                self.attempt(host, key, None);
            }
            Err(error) => self.retry(host, key, error.into()),
        }
    }

    /// Tries the next address of this round; without one, the round has failed.
    fn attempt(&mut self, host: &dyn Host, key: Key, mut last: Option<Cause>) {
        let now = Instant::now();
        loop {
            let Some(dialer) = self.dialers.get_mut(key) else { return };
            let Some(address) = dialer.candidates.pop() else {
                let cause = last.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable).into());
                self.retry(host, key, cause);
                return;
            };
            let (endpoint, settings) = (Arc::clone(&dialer.endpoint), Arc::clone(&dialer.settings));
            let stream: Arc<dyn Stream> = match dialer.transport.connect(&address, &settings.link) {
                Ok(stream) => Arc::from(stream),
                Err(error) => {
                    last = Some(error.into());
                    continue;
                }
            };
            let deadline = settings.connect_timeout.map(|timeout| now + timeout);
            let mut link = Link::new(
                stream,
                State::Connecting { deadline },
                Origin::Dialer(key),
                dialer.id,
                Arc::clone(&endpoint),
                settings,
                dialer.peer,
                now,
            );
            link.address = address.into();
            let (prefix, registry) = (self.prefix, &self.registry);
            let mut failed = None;
            let link_key = self.links.insert_with(|key| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                failed = link.stream.register(registry, token(prefix, Ready::Link(key)), interest).err();
                link.registered_for_write();
                link
            });
            if let Some(error) = failed {
                self.links.remove(link_key);
                last = Some(error.into());
                continue;
            }
            dialer.state = Dialing::Linked(link_key);
            self.retime(link_key);
            // A local connection may be up already; then no round is spent on waiting for it.
            self.check_connected(host, link_key);
            return;
        }
    }

    fn check_connected(&mut self, host: &dyn Host, key: Key) {
        let Some(link) = self.links.get_mut(key) else { return };
        match link.stream.connected() {
            Ok(false) => {
                let (endpoint, address) = (Arc::clone(&link.endpoint), Some(Arc::clone(&link.address)));
                host.event(Event { kind: EventKind::ConnectDelayed, endpoint, address, peer: link.peer });
            }
            Ok(true) => {
                let now = Instant::now();
                link.state = State::Handshaking;
                link.opened = now;
                // The time allowed for the handshake runs from here.
                link.machine = Connection::new(Arc::clone(&link.settings.protocol), now);
                let (endpoint, address) = (Arc::clone(&link.endpoint), Some(Arc::clone(&link.address)));
                host.event(Event { kind: EventKind::Connected, endpoint, address, peer: link.peer });
                let wanted = link.want_write(&self.registry, token(self.prefix, Ready::Link(key)), false);
                match wanted {
                    Ok(()) => self.converse(host, key, now),
                    Err(error) => self.lose(host, key, Loss::Link(error.into())),
                }
            }
            Err(error) => self.lose(host, key, Loss::Link(error.into())),
        }
    }

    /// The round of attempts failed, or the connection was lost: waits for the next round.
    fn retry(&mut self, host: &dyn Host, key: Key, cause: Cause) {
        let random = self.jitter.next();
        let Some(dialer) = self.dialers.get_mut(key) else { return };
        let endpoint = Arc::clone(&dialer.endpoint);
        let refused = matches!(&cause, Cause::System(error) if error.kind() == io::ErrorKind::ConnectionRefused);
        let wait = if refused && dialer.settings.stop_on_refused { None } else { dialer.backoff(random) };
        let peer = dialer.peer;
        match wait {
            Some(wait) => {
                let at = Instant::now() + wait;
                dialer.state = Dialing::Waiting(at);
                dialer.candidates.clear();
                self.timers.push(Reverse((at, Timer::Dialer(key))));
                host.event(Event { kind: EventKind::ConnectRetried(wait), endpoint, address: None, peer });
            }
            None => {
                host.event(Event { kind: EventKind::Closed(cause), endpoint, address: None, peer });
                self.remove_dialer(host, key, true);
            }
        }
    }

    fn remove_dialer(&mut self, host: &dyn Host, key: Key, unasked: bool) {
        if let Some(dialer) = self.dialers.remove(key) {
            if let Some(peer) = dialer.peer {
                host.detach(peer, false);
            }
            if unasked {
                host.endpoint_ended(dialer.id);
            }
        }
    }

    // ----- connections -----

    /// Serves a ready link; says how many octets that read.
    fn turn_link(&mut self, host: &dyn Host, key: Key, budget: usize) -> usize {
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
                read = self.read(host, key, now, budget);
                if let Some(link) = self.links.get(key).filter(|link| link.write_wants_read && read > 0) {
                    self.stalled.extend(link.peer);
                }
                if self.links.get(key).is_some_and(|link| link.broken && !link.readable) {
                    let error = io::Error::new(io::ErrorKind::BrokenPipe, "the stream takes no more octets");
                    self.lose(host, key, Loss::Link(error.into()));
                }
            }
        }
        self.list(key);
        self.retime(key);
        read
    }

    /// Writes what the machine has to say, and lets messages flow once the handshake is written too.
    fn converse(&mut self, host: &dyn Host, key: Key, now: Instant) {
        let Some(link) = self.links.get_mut(key) else { return };
        if let (State::Up, Some(peer)) = (&link.state, link.peer) {
            let mut spoke = false;
            while let Some(control) = link.machine.transmit() {
                host.urgent(peer, &control);
                spoke = true;
            }
            if spoke {
                self.flush_peer(host, peer);
            }
            return;
        }
        link.collect_control();
        match link.write_control() {
            Ok(written) => {
                if let Err(error) = link.want_write(&self.registry, token(self.prefix, Ready::Link(key)), !written) {
                    self.lose(host, key, Loss::Link(error.into()));
                    return;
                }
                if written && matches!(link.state, State::Settling(_)) {
                    self.come_up(host, key, now);
                    return;
                }
            }
            // The peer is ready and does not know that we are, so that it has sent nothing that could be read yet.
            Err(error) if matches!(link.state, State::Settling(_)) => {
                self.lose(host, key, Loss::Link(error.into()));
                return;
            }
            // The read side tells why; nothing that arrived before is lost.
            Err(_) => (link.broken, link.readable) = (true, true),
        }
        self.retime(key);
        self.list(key);
    }

    fn come_up(&mut self, host: &dyn Host, key: Key, now: Instant) {
        let Some(link) = self.links.get_mut(key) else { return };
        let State::Settling(description) = std::mem::replace(&mut link.state, State::Handshaking) else { return };
        let reconnected = match link.origin {
            Origin::Dialer(dialer) => self.dialers.get(dialer).is_some_and(|dialer| dialer.was_up),
            Origin::Listener(_) => false,
        };
        let newcomer = Newcomer {
            peer: link.peer,
            endpoint_id: link.endpoint_id,
            endpoint: Arc::clone(&link.endpoint),
            stream: Arc::clone(&link.stream),
            description: *description,
            address: Arc::clone(&link.address),
            reconnected,
        };
        match host.attach(newcomer) {
            Ok(peer) => {
                link.state = State::Up;
                link.peer = Some(peer);
                link.readable |= link.undigested;
                link.opened = now;
                let slot = peer.slot() as usize;
                if self.by_slot.len() <= slot {
                    self.by_slot.resize(slot + 1, None);
                }
                self.by_slot[slot] = Some(key);
                let (endpoint, address) = (Arc::clone(&link.endpoint), Some(Arc::clone(&link.address)));
                if let Origin::Dialer(dialer) = link.origin {
                    if let Some(dialer) = self.dialers.get_mut(dialer) {
                        dialer.was_up = true;
                    }
                }
                host.event(Event { kind: EventKind::HandshakeSucceeded, endpoint, address, peer: Some(peer) });
                self.flush_peer(host, peer);
                self.list(key);
            }
            Err(reason) => self.lose(host, key, Loss::Local(Cause::Refused(reason))),
        }
    }

    /// Reads and delivers until the stream would block, the receive mark is reached or the budget of this turn is used up.
    fn read(&mut self, host: &dyn Host, key: Key, now: Instant, budget: usize) -> usize {
        let mut octets = 0;
        let mut buffer = BUFFER.take();
        if let Some(link) = self.links.get_mut(key) {
            unpack(&mut link.input, &mut buffer);
        }
        let outcome = loop {
            let Some(link) = self.links.get_mut(key) else { break Ok(()) };
            if link.counted > 0 {
                link.starved = self.favourite != Some(key) && host.budget().is_crowded_beside(link.counted);
            }
            if !link.is_ready() || matches!(link.state, State::Settling(_)) {
                break Ok(());
            }
            if std::mem::take(&mut link.undigested) {
                buffer = std::mem::take(&mut link.input);
                if let Err(loss) = self.digest(host, key, &mut buffer, now) {
                    break Err(loss);
                }
                self.count(host, key, now);
                if let Some(link) = self.links.get_mut(key) {
                    set_aside(&mut link.input, &mut buffer);
                }
                continue;
            }
            let asked;
            let result = if let Some(slot) = link.machine.body_slot() {
                reuse_body(slot.buffer, slot.wanted);
                asked = slot.wanted.min(slot.buffer.capacity() - slot.buffer.len());
                read_into(&*link.stream, slot.buffer, asked)
            } else {
                buffer.clear();
                if link.input.len() > SMALL_REST {
                    buffer = std::mem::take(&mut link.input);
                } else if !link.input.is_empty() {
                    reserve(&mut buffer, READ_BUFFER);
                    buffer.extend_from_slice(&link.input);
                    link.input = BytesMut::new();
                }
                reserve(&mut buffer, READ_BUFFER);
                // Where large bodies follow each other, little of the next is read before it has a buffer of its own.
                let wanted = if link.large { LARGE_START } else { READ_BUFFER };
                asked = wanted.min(buffer.capacity() - buffer.len());
                read_into(&*link.stream, &mut buffer, asked)
            };
            let got = match result {
                Ok(got) => got,
                Err(error) => {
                    set_aside(&mut link.input, &mut buffer);
                    match error.kind() {
                        io::ErrorKind::WouldBlock => {
                            link.readable = link.stream.has_buffered();
                            link.read_wants_write = link.stream.wants().is_some_and(Interest::is_writable);
                            if !link.read_wants_write {
                                break Ok(());
                            }
                            let token = token(self.prefix, Ready::Link(key));
                            break link
                                .want_write(&self.registry, token, true)
                                .map_err(|error| Loss::Link(error.into()));
                        }
                        io::ErrorKind::Interrupted => continue,
                        _ => break Err(Loss::Link(error.into())),
                    }
                }
            };
            octets += got;
            if got == 0 {
                break match link.machine.ended() {
                    Err(error) if !link.is_up() || !error.is_cut() => Err(Loss::Protocol(error)),
                    _ => Err(Loss::Link(Cause::Peer)),
                };
            }
            link.machine.traffic();
            if let Err(loss) = self.digest(host, key, &mut buffer, now) {
                break Err(loss);
            }
            self.count(host, key, now);
            let Some(link) = self.links.get_mut(key) else { break Ok(()) };
            set_aside(&mut link.input, &mut buffer);
            // A short read of a stream says that it is empty, and saves the read that would say so; not at its end, which
            // would then be waited for in vain.
            if got < asked && !link.ended && !link.stream.has_buffered() {
                link.readable = false;
                break Ok(());
            }
            if octets >= budget {
                break Ok(());
            }
        };
        if let Some(link) = self.links.get_mut(key) {
            pack(&mut link.input, &mut buffer);
        }
        // What a connection that failed has left in it is nobody else's.
        buffer.clear();
        if buffer.capacity() <= 2 * READ_BUFFER {
            BUFFER.set(buffer);
        }
        // What the machine answers goes out even if it is an ERROR, and the last word.
        self.converse(host, key, now);
        if let Err(loss) = outcome {
            self.lose(host, key, loss);
        }
        octets
    }

    /// Lets the machine read `input` and hands on what it finds.
    fn digest(&mut self, host: &dyn Host, key: Key, input: &mut BytesMut, now: Instant) -> Result<(), Loss> {
        loop {
            let Some(link) = self.links.get_mut(key) else { return Ok(()) };
            let event = link.machine.received(input, now).map_err(Loss::Protocol)?;
            let incoming = match event {
                None => return Ok(()),
                Some(protocol::Event::Ready(description)) => {
                    if let Origin::Listener(_) = link.origin {
                        // Refused without a word: after an ERROR it would not come back, and the place may be free soon.
                        host.admits(&description).map_err(|reason| Loss::Local(Cause::Refused(reason)))?;
                        link.machine.admit();
                    }
                    link.state = State::Settling(Box::new(description));
                    self.converse(host, key, now);
                    match self.links.get_mut(key) {
                        // Our part of the handshake must be written before messages flow; the rest of the input waits.
                        Some(link) if !link.is_up() => {
                            link.undigested = !input.is_empty();
                            return Ok(());
                        }
                        Some(_) => continue,
                        None => return Ok(()),
                    }
                }
                Some(protocol::Event::Messages { wire, count }) => {
                    link.large = false;
                    Incoming::Messages(wire, count)
                }
                Some(protocol::Event::Message(pieces)) => {
                    link.large = pieces.iter().any(remember_body);
                    Incoming::Message(pieces)
                }
                Some(protocol::Event::Subscribe(topic)) => Incoming::Subscribe(topic),
                Some(protocol::Event::Cancel(topic)) => Incoming::Cancel(topic),
            };
            // The machine gives nothing else before it is ready.
            let (State::Up, Some(peer)) = (&link.state, link.peer) else { continue };
            let origin = link.origin;
            if link.counted > 0 {
                // What was counted here is whole now and counted where it waits.
                self.count(host, key, now);
            }
            if !host.deliver(peer, incoming) {
                if let Some(link) = self.links.get_mut(key) {
                    link.paused = true;
                }
            }
            if let Origin::Dialer(dialer) = origin {
                if let Some(dialer) = self.dialers.get_mut(dialer) {
                    dialer.proved();
                }
            }
        }
    }

    /// Tells the context's budget what a link holds of an unfinished message, in steps.
    fn count(&mut self, host: &dyn Host, key: Key, now: Instant) {
        let Some(link) = self.links.get_mut(key) else { return };
        let counted = Budget::steps(link.counted, link.machine.held());
        if counted == link.counted {
            return;
        }
        let before = std::mem::replace(&mut link.counted, counted);
        if counted == 0 {
            link.looked = 0;
            self.favourite = self.favourite.filter(|favourite| *favourite != key);
        }
        self.recount(host, before, counted);
        if self.holders > 0 && !self.watched && host.budget().is_limited() {
            self.watched = true;
            self.timers.push(Reverse((now + HOLDERS_LOOK, Timer::Holders)));
        }
    }

    fn recount(&mut self, host: &dyn Host, before: usize, now: usize) {
        self.holders = (self.holders + usize::from(now > 0)).saturating_sub(usize::from(before > 0));
        host.hold(before, now);
    }

    /// A look at links within a long message. Nobody can take an unfinished message out of the budget by reading it, so a shortage
    /// that such messages make would never end. Therefore the one that holds most is read on, and those that bring nothing, although
    /// they are not kept from it, go, the largest first.
    fn relieve(&mut self, host: &dyn Host, now: Instant) {
        self.watched = self.holders > 0;
        if !self.watched {
            self.favourite = None;
            return;
        }
        self.timers.push(Reverse((now + HOLDERS_LOOK, Timer::Holders)));
        let over = host.budget().is_over();
        let (mut idle, mut waiting) = (Vec::new(), None);
        for (key, link) in self.links.iter_mut().filter(|(_, link)| link.counted > 0) {
            let due = (link.looked / SHARE).max(1);
            if !over || link.starved || link.counted.saturating_sub(link.looked) >= due {
                (link.looked, link.idle) = (link.counted, 0);
            } else {
                link.idle = link.idle.saturating_add(1);
            }
            if link.idle >= IDLE_LOOKS {
                idle.push((link.counted, key));
            }
            if link.starved {
                waiting = waiting.max(Some((link.counted, key)));
            }
        }
        idle.sort_unstable_by(|a, b| b.cmp(a));
        for (counted, key) in idle {
            if host.budget().is_hogged_beside(counted) && host.budget().is_most(counted) {
                let cause = Cause::Limit("its message stood still while unfinished ones took most of `byte_budget`");
                self.lose(host, key, Loss::Local(cause));
            }
        }
        if !over || self.favourite.is_some_and(|key| self.links.get(key).is_none()) {
            self.favourite = None;
        }
        if let (None, Some((counted, key))) = (self.favourite, waiting) {
            if host.budget().is_hogged_beside(counted) && host.budget().is_most(counted) {
                self.favourite = Some(key);
            }
        }
        self.feed_starved(host);
    }

    /// Lets links be read again for which the budget has room.
    fn feed_starved(&mut self, host: &dyn Host) {
        if self.holders == 0 {
            return;
        }
        let favourite = self.favourite;
        let may = |key, counted| favourite == Some(key) || !host.budget().is_crowded_beside(counted);
        let fed: Vec<Key> = (self.links.iter_mut())
            .filter(|(key, link)| link.starved && may(*key, link.counted))
            .map(|(key, link)| {
                link.starved = false;
                key
            })
            .collect();
        for key in fed {
            self.list(key);
        }
    }

    /// Our side is shut down: the connection goes once the peer's system has taken everything, or the peer has gone. What the
    /// peer sends stays with it meanwhile, unless it takes nothing either: it may be waiting for us.
    fn drain(&mut self, host: &dyn Host, key: Key) {
        let Some(link) = self.links.get_mut(key) else { return };
        let over = link.ended || link.stream.unsent() == 0;
        if over || self.discard(host, key) {
            self.lose(host, key, Loss::Local(Cause::Local));
        }
    }

    /// Throws away what the peer of a link that ends has sent, up to a budget, if it waits for that; whether the stream is over.
    fn discard(&mut self, host: &dyn Host, key: Key) -> bool {
        let Some(link) = self.links.get_mut(key) else { return false };
        link.readable = false;
        if !link.throws_away(|peer| host.pending(peer)) {
            return false;
        }
        let mut buffer = BUFFER.take();
        reserve(&mut buffer, READ_BUFFER);
        let mut octets = 0;
        let over = loop {
            buffer.clear();
            match read_into(&*link.stream, &mut buffer, READ_BUFFER) {
                Ok(0) => break true,
                Ok(got) => octets += got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
            link.readable = octets >= READ_BUDGET;
            if link.readable {
                break false;
            }
        };
        BUFFER.set(buffer);
        over
    }

    /// A connection is gone, for whatever reason: tells, and prepares what comes next.
    fn lose(&mut self, host: &dyn Host, key: Key, loss: Loss) {
        let Some(mut link) = self.links.remove(key) else { return };
        // The stream may live on in an outbox for a moment; the poll must not speak of it any more.
        let _ = link.stream.deregister(&self.registry);
        let _ = link.write_control();
        if link.counted > 0 {
            self.recount(host, link.counted, 0);
        }
        let (cause, refusal, local) = match loss {
            Loss::Link(cause) => (cause, false, false),
            Loss::Protocol(error) => {
                let refusal = error.is_refusal();
                (Cause::Protocol(error), refusal, false)
            }
            Loss::Local(cause) => (cause, false, true),
        };
        let (endpoint, address) = (Arc::clone(&link.endpoint), Some(Arc::clone(&link.address)));
        let up = link.is_up();
        let connecting = matches!(link.state, State::Connecting { .. });
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
            Origin::Listener(_) => {
                if let Some(peer) = link.peer {
                    host.detach(peer, false);
                }
                tell(host);
            }
            Origin::Dialer(dialer_key) => {
                let Some(dialer) = self.dialers.get_mut(dialer_key) else {
                    tell(host);
                    return;
                };
                // A connection that lasted proves the way good, whatever came over it.
                if up && link.opened.elapsed() >= Duration::from_secs(1) {
                    dialer.proved();
                }
                let stop = refusal
                    || (!up && !connecting && dialer.settings.stop_on_handshake_failure)
                    || (local && dialer.closing);
                // Under `immediate` each connection is a peer of its own; else the endpoint's peer stays and its messages wait.
                match (link.peer, dialer.peer) {
                    (Some(peer), None) => host.detach(peer, false),
                    (Some(peer), Some(_)) if !stop && up => host.detach(peer, true),
                    _ => {}
                }
                tell(host);
                if stop {
                    self.remove_dialer(host, dialer_key, !(local && dialer_closing(&self.dialers, dialer_key)));
                } else if connecting && !dialer.candidates.is_empty() {
                    self.attempt(host, dialer_key, Some(cause));
                } else {
                    self.retry(host, dialer_key, cause);
                }
            }
        }
    }

    // ----- writing -----

    fn flush_dirty(&mut self, host: &dyn Host) {
        let mut dirty = std::mem::take(&mut self.dirty);
        host.take_dirty(&mut dirty);
        dirty.append(&mut self.stalled);
        for peer in dirty.drain(..) {
            self.flush_peer(host, peer);
        }
        self.dirty = dirty;
    }

    fn flush_peer(&mut self, host: &dyn Host, peer: PeerId) {
        let flushed = host.flush(peer);
        let Some(key) = self.link_of(peer) else { return };
        let Some(link) = self.links.get_mut(key) else { return };
        let token = token(self.prefix, Ready::Link(key));
        let wanted = match flushed {
            Flush::Done => {
                link.write_wants_read = false;
                link.want_write(&self.registry, token, false)
            }
            Flush::Blocked => {
                link.write_wants_read = link.stream.wants().is_some_and(Interest::is_readable);
                let wants_write = !link.write_wants_read;
                link.want_write(&self.registry, token, wants_write)
            }
            Flush::Again => {
                self.stalled.push(peer);
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
        }
    }

    // ----- closing -----

    fn end(&mut self, host: &dyn Host, scope: Option<EndpointId>, deadline: Option<Instant>) {
        let concerns = |id: EndpointId| scope.is_none_or(|scope| scope == id);
        for (_, binding) in self.bindings.iter_mut().filter(|(_, binding)| concerns(binding.id)) {
            if let Some(listener) = binding.listener.take() {
                let _ = listener.deregister(&self.registry);
                listener.close();
                let endpoint = Arc::clone(&binding.endpoint);
                host.event(Event { kind: EventKind::Closed(Cause::Local), endpoint, address: None, peer: None });
            }
        }
        for (_, dialer) in self.dialers.iter_mut().filter(|(_, dialer)| concerns(dialer.id)) {
            dialer.closing = true;
        }
        if let Some(deadline) = deadline {
            self.timers.push(Reverse((deadline, Timer::Ending)));
        }
        // The newest word counts.
        self.endings.retain(|ending| scope.is_some() && ending.scope != scope);
        self.endings.push(Ending { scope, deadline });
        for key in self.links.keys() {
            self.list(key);
        }
    }

    /// A sweep looks at all connections. Where they are many it takes a small part of the time, however many rounds there are.
    fn sweep_in_turn(&mut self, host: &dyn Host) {
        let begin = Instant::now();
        let many = self.links.len() + self.dialers.len() > FEW_LINKS;
        if let Some(next) = self.next_sweep.filter(|next| many && begin < *next) {
            if !std::mem::replace(&mut self.sweep_put_off, true) {
                self.timers.push(Reverse((next, Timer::Ending)));
            }
            return;
        }
        self.sweep(host, begin);
        self.sweep_put_off = false;
        self.next_sweep = Some(begin + begin.elapsed() * SWEEPS_APART);
    }

    /// Looks what is left of the endpoints being closed, and closes what is done or out of time.
    fn sweep(&mut self, host: &dyn Host, now: Instant) {
        // They stay where they are meanwhile: whoever clears up among the timers asks for their deadlines.
        let mut next = 0;
        while let Some(ending) = self.endings.get(next).copied() {
            let concerns = |id: EndpointId| ending.scope.is_none_or(|scope| scope == id);
            let expired = ending.deadline.is_some_and(|deadline| deadline <= now);
            for key in self.links.keys() {
                let Some(link) = self.links.get(key).filter(|link| concerns(link.endpoint_id)) else { continue };
                self.sweep_link(host, key, link.peer, expired, now);
            }
            for key in self.dialers.keys() {
                let Some(dialer) = self.dialers.get(key).filter(|dialer| concerns(dialer.id)) else { continue };
                let flushed = dialer.peer.is_none_or(|peer| host.is_flushed(peer));
                if matches!(dialer.state, Dialing::Linked(_)) {
                    continue;
                }
                if flushed || expired {
                    if let Some(peer) = dialer.peer {
                        host.abandon(peer);
                    }
                    self.remove_dialer(host, key, false);
                }
            }
            let left = self.links.iter().any(|(_, link)| concerns(link.endpoint_id))
                || self.dialers.iter().any(|(_, dialer)| concerns(dialer.id));
            if left {
                next += 1;
                continue;
            }
            self.endings.remove(next);
            for key in self.bindings.keys() {
                if self.bindings.get(key).is_some_and(|binding| concerns(binding.id)) {
                    self.bindings.remove(key);
                }
            }
            self.finished |= ending.scope.is_none();
        }
    }

    fn sweep_link(&mut self, host: &dyn Host, key: Key, peer: Option<PeerId>, expired: bool, now: Instant) {
        let unattended = self.is_unattended();
        let Some(link) = self.links.get_mut(key) else { return };
        let flushed = peer.is_none_or(|peer| host.is_flushed(peer));
        let dialed = matches!(link.origin, Origin::Dialer(_));
        match link.state {
            State::Draining if !expired => {}
            State::Draining => self.lose(host, key, Loss::Local(Cause::Local)),
            State::Up if flushed && !expired => {
                if link.stream.shutdown(Shutdown::Write).is_err() || link.stream.unsent() == 0 {
                    self.lose(host, key, Loss::Local(Cause::Local));
                    return;
                }
                link.state = State::Draining;
                link.standstill = Some(Standstill::new(now, (0, link.stream.unsent())));
                link.readable = true;
                self.list(key);
                self.retime(key);
            }
            State::Connecting { .. } | State::Handshaking | State::Settling(_) if dialed && !flushed && !expired => {}
            State::Up if !expired => {
                if let (None, Some(peer), true) = (&link.standstill, peer, unattended) {
                    link.standstill = Some(Standstill::new(now, (host.pending(peer), link.stream.unsent())));
                    self.retime(key);
                }
            }
            State::Up | State::Connecting { .. } | State::Handshaking | State::Settling(_) => {
                if let Some(peer) = peer {
                    host.abandon(peer);
                }
                self.lose(host, key, Loss::Local(Cause::Local));
            }
        }
    }

    /// Lets everything go after a panic. A stream or listener that panics once more keeps no other from being closed.
    pub(crate) fn demolish(mut self) {
        for key in self.links.keys() {
            if let Some(link) = self.links.remove(key) {
                let _ = contain(|| link.stream.deregister(&self.registry));
                let _ = contain(|| drop(link));
            }
        }
        for key in self.bindings.keys() {
            if let Some(listener) = self.bindings.remove(key).and_then(|binding| binding.listener) {
                let _ = contain(|| listener.deregister(&self.registry));
                let _ = contain(|| listener.close());
            }
        }
        let _ = contain(|| drop(self));
    }

    // ----- timers and lists -----

    fn expire(&mut self, host: &dyn Host, now: Instant) {
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            match timer {
                Timer::Link(key) => self.expire_link(host, key, at, now),
                Timer::Dialer(key) => {
                    if self.dialers.get(key).is_some_and(|dialer| dialer.state == Dialing::Waiting(at)) {
                        self.resolve(host, key);
                    }
                }
                Timer::Binding(key) => {
                    if let Some(binding) = self.bindings.get_mut(key).filter(|binding| binding.paused == Some(at)) {
                        binding.paused = None;
                        if let Some(spare) = &mut self.spare {
                            let _ = spare.refill();
                        }
                        self.list_binding(key);
                    }
                }
                Timer::Holders => self.relieve(host, now),
                // The sweep at the end of the round looks at the clock itself.
                Timer::Ending => {}
            }
        }
    }

    fn expire_link(&mut self, host: &dyn Host, key: Key, at: Instant, now: Instant) {
        let Some(link) = self.links.get_mut(key).filter(|link| link.timer == Some(at)) else { return };
        link.timer = None;
        link.look_at_peer(now, |peer| host.pending(peer));
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
            State::Handshaking | State::Settling(_) | State::Up => {
                if link.stream.deadline().is_some_and(|deadline| deadline <= now) {
                    link.stream.on_deadline(now);
                    link.readable = true;
                }
                if link.readable || link.is_kept() {
                    // What the peer has sent waits in the kernel because we do not read: it is not silent.
                    link.machine.traffic();
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

    /// Sees to it that the timer queue knows the next deadline of a link. Deadlines only move later as a rule, so an entry
    /// that turns out early is simply put back.
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

    /// Entries stay in the timer queue until they are due, half a minute for those of a handshake. They are thrown out before once
    /// more than half of them can be stale, so that connections that come and go fast do not fill it.
    fn forget_stale_timers(&mut self) {
        let most = self.links.len() + self.dialers.len() + self.bindings.len() + self.endings.len() + 1;
        if self.timers.len() <= 2 * most + FEW_TIMERS {
            return;
        }
        let (links, dialers, bindings) = (&self.links, &self.dialers, &self.bindings);
        let (endings, next_sweep, watched) = (&self.endings, self.next_sweep, self.watched);
        self.timers.retain(|Reverse((at, timer))| match timer {
            Timer::Link(key) => links.get(*key).is_some_and(|link| link.timer == Some(*at)),
            Timer::Dialer(key) => dialers.get(*key).is_some_and(|dialer| dialer.state == Dialing::Waiting(*at)),
            Timer::Binding(key) => bindings.get(*key).is_some_and(|binding| binding.paused == Some(*at)),
            Timer::Ending => next_sweep == Some(*at) || endings.iter().any(|ending| ending.deadline == Some(*at)),
            Timer::Holders => watched,
        });
    }

    /// Whether nobody receives any more who could let a paused link go on.
    fn is_unattended(&self) -> bool {
        // The end of the socket stands alone, or before the endpoint that somebody gave up at the same moment.
        self.endings.first().is_some_and(|ending| ending.scope.is_none())
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

    fn link_of(&self, peer: PeerId) -> Option<Key> {
        let key = (*self.by_slot.get(peer.slot() as usize)?)?;
        self.links.get(key).filter(|link| link.peer == Some(peer)).map(|_| key)
    }
}

/// Whether the dialer is being closed.
fn dialer_closing(dialers: &Slab<Dialer>, key: Key) -> bool {
    dialers.get(key).is_some_and(|dialer| dialer.closing)
}

/// Remembers the buffer of a large body until the application has let go of it; whether it is one.
fn remember_body(body: &Bytes) -> bool {
    let large = REUSED_BODIES.contains(&body.len());
    if large {
        BODIES.with_borrow_mut(|bodies| {
            bodies.truncate(KEPT_BODIES - 1);
            bodies.push_front(body.clone());
        });
    }
    large
}

/// Gives a large body that has just begun the buffer of an earlier one: fresh memory costs more than what is read into it.
fn reuse_body(buffer: &mut BytesMut, wanted: usize) {
    let room = buffer.len() + wanted;
    if buffer.capacity() >= room || buffer.len() > READ_BUFFER || !REUSED_BODIES.contains(&room) {
        return;
    }
    let free = BODIES.with_borrow_mut(|bodies| {
        let place = bodies.iter().position(Bytes::is_unique)?;
        bodies.remove(place)?.try_into_mut().ok()
    });
    if let Some(mut free) = free.filter(|free| free.capacity() >= room) {
        free.clear();
        free.extend_from_slice(buffer);
        *buffer = free;
    }
}

/// Makes room without letting the buffer grow beyond twice its size for ever.
fn reserve(buffer: &mut BytesMut, octets: usize) {
    if buffer.capacity() - buffer.len() < octets / 4 {
        buffer.reserve(octets);
    }
}

/// Puts the rest of a message aside until more of it arrives.
fn set_aside(input: &mut BytesMut, buffer: &mut BytesMut) {
    if buffer.is_empty() {
        return;
    }
    if buffer.len() <= SMALL_REST {
        input.extend_from_slice(buffer);
        buffer.clear();
    } else {
        *input = std::mem::take(buffer);
    }
}

/// A rest that was copied to size goes back into a read buffer, to grow there.
fn unpack(input: &mut BytesMut, buffer: &mut BytesMut) {
    if (SMALL_REST + 1..=MIDDLING_REST).contains(&input.len()) {
        buffer.clear();
        reserve(buffer, READ_BUFFER);
        buffer.extend_from_slice(input);
        *input = std::mem::take(buffer);
    }
}

/// Copies a rest that fills little of its read buffer, which goes back to the driver.
fn pack(input: &mut BytesMut, buffer: &mut BytesMut) {
    if (SMALL_REST + 1..=MIDDLING_REST).contains(&input.len()) {
        let rest = BytesMut::from(&input[..]);
        *buffer = std::mem::replace(input, rest);
    }
}

/// Where a token's bits are: the place below, its generation above, then which kind of source it is.
const INDEX_BITS: u32 = 24;
const BINDING: usize = 1 << (2 * INDEX_BITS);
/// Tokens of different reactors in a shared poll differ from here up.
pub(crate) const PREFIX_SHIFT: u32 = 2 * INDEX_BITS + 1;

const _: () = assert!(usize::BITS >= 64, "wiremesh needs a 64-bit target: tokens hold a place and a generation");

fn token(prefix: usize, source: Ready) -> Token {
    let (key, kind) = match source {
        Ready::Link(key) => (key, 0),
        Ready::Binding(key) => (key, BINDING),
    };
    Token(prefix | kind | (key.generation as usize) << INDEX_BITS | key.index as usize)
}

fn source(token: Token) -> Ready {
    const MASK: usize = (1 << INDEX_BITS) - 1;
    let key = Key { index: (token.0 & MASK) as u32, generation: (token.0 >> INDEX_BITS & MASK) as u32 };
    if token.0 & BINDING == 0 { Ready::Link(key) } else { Ready::Binding(key) }
}

/// Resolving needs the pieces of a dialer on another thread.
pub(crate) fn look_up(transport: &dyn Transport, address: &str, settings: &Settings) -> io::Result<Vec<String>> {
    transport.resolve(address, &settings.link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_of_links_that_are_gone_do_not_gather() {
        let poll = Poll::new().expect("a poll");
        let registry = poll.registry().try_clone().expect("a registry");
        let mut reactor = Reactor::new(Some(poll), registry, 0);
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
