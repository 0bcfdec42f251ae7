//! What every socket does once: its state, its options, and waiting.

use super::line::Line;
use super::long::Long;
use super::monitor::Feed;
use super::names::Names;
use super::outlook::Outlook;
use super::receiving::{Arrivals, MOST_REFUSED, Reader};
use super::routing_id;
use super::sending::{After, Marks, Payload, Peer, Recipient, Routing, SendSide, Wire, own_limit};
use super::slice::Slice;
use super::tokens::Tokens;
use crate::budget::{Account, BudgetHalf};
use crate::context::Inner;
use crate::endpoint::EndpointInfo;
use crate::engine::listener::SharedListener;
use crate::engine::port::{Command, Drive, Pace, Port};
use crate::engine::reactor::Linger;
use crate::engine::waiters::{Drivers, Interest, Waiters};
use crate::engine::{EndpointId, Host};
use crate::error::{Error, Missing, RecvError, SendError, SendFailure};
use crate::event::{Event, EventKind, Shortage};
use crate::kind::SocketKind;
use crate::message::{IntoMessage, Message};
use crate::options::{Effect, Options, Setting, default_options};
use crate::peer::{PeerId, PeerInfo};
use crate::profile::Profile;
use crate::protocol;
use crate::queue::changes::{Change, ChangeKind};
use crate::queue::gate::Gate;
use crate::queue::replay::{LeftOut, Replay};
use crate::queue::{BORROWED_COPY_LIMIT, COPY_LIMIT};
use crate::stats::{Stats, Unsent};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use wiremesh_transports::directory::Ticket;
use wiremesh_transports::sys::fork_generation;

/// The state of one socket, shared by its handles, the engine and inproc peers.
pub(crate) struct Core {
    pub(super) me: Weak<Core>,
    pub(crate) kind: SocketKind,
    pub(super) context: Arc<Inner>,
    pub(super) port: Port,
    pub(super) send: Gate<SendSide>,
    pub(super) recv: Gate<Reader>,
    pub(super) arrivals: Mutex<Arrivals>,
    /// Something is among the arrivals.
    pub(super) arrived: AtomicBool,
    /// A [`Next`].
    pub(super) next: AtomicU8,
    pub(super) waiters: Waiters,
    pub(super) options: Mutex<Options>,
    pub(super) endpoints: Mutex<Endpoints>,
    pub(super) feed: Feed,
    #[cfg(feature = "tracing")]
    pub(super) told: super::trace::Told,
    closed: AtomicBool,
    /// Code that ran for the socket panicked; it is closed as well then.
    pub(super) failed: AtomicBool,
    /// The close is under way.
    pub(super) parted: AtomicBool,
    /// Callers that drive, or are about to: what their poll does not see must ring for them.
    pub(super) drivers: Drivers,
    /// What waits to be sent, as the context's budget counts it, and what has been received.
    pub(super) queued: Arc<Account>,
    pub(super) received: Arc<Account>,
    /// How often a peer's routing id was set, under the send gate.
    pub(super) renamings: AtomicU64,
    /// Changes of options, one at a time: what hot paths read is copied from a snapshot, of which the newest must come
    /// last.
    setting: Mutex<()>,
    /// Whole exchanges of `request`, one at a time.
    pub(super) exchanges: Line,
    generation: u32,

    // Options that a hot path reads, as they are fixed before the first endpoint …
    pub(super) conflate: bool,
    pub(super) correlate: bool,
    pub(super) invert: bool,
    pub(super) manual: bool,
    pub(super) manual_last_value: bool,
    pub(super) profile: Profile,
    /// Whether and how a message may be taken the quick way.
    pub(super) quick: Quickness,
    /// Whether the pattern has a state that decides about receives.
    pub(super) stepwise: bool,
    // … and those that change while it works.
    switches: AtomicU32,
    receive_mark: AtomicUsize,
    receive_byte_mark: AtomicUsize,
    pub(super) max_subscriptions: AtomicU32,
    spin: AtomicU64,
    send_timeout: AtomicU64,
    receive_timeout: AtomicU64,
}

/// The endpoints of a socket by what they were bound or connected to.
#[derive(Default)]
pub(super) struct Endpoints {
    next: u64,
    pub(super) bound: Names,
    pub(super) connected: Names,
    /// What was given to `bind`, where a wildcard may have become something else.
    pub(super) given: Names,
    /// The routing id a ROUTER gives the peers of a connecting endpoint that is `immediate`, and so has none in
    /// advance.
    pub(super) assigned: BTreeMap<EndpointId, Bytes>,
    pub(super) tokens: Tokens,
    /// Whoever unbinds or closes also closes these.
    pub(super) listeners: BTreeMap<EndpointId, Arc<SharedListener>>,
    /// How those have fared that connect.
    pub(super) outlook: BTreeMap<EndpointId, Outlook>,
    /// By which those are taken back that wait for the binder of their inproc name. It may have come since.
    pub(super) awaiting: BTreeMap<EndpointId, Ticket>,
    /// The last one that connected and was given up, with the cause.
    pub(super) given_up: Option<EndpointInfo>,
}

impl Endpoints {
    pub(super) fn allot(&mut self) -> EndpointId {
        self.next += 1;
        EndpointId(self.next)
    }

    /// An endpoint is none any more; `None` if it was none.
    pub(super) fn forget(&mut self, id: EndpointId) -> Option<Forgotten> {
        let name = self.bound.remove(id).or_else(|| self.connected.remove(id))?;
        self.given.remove(id);
        self.assigned.remove(&id);
        self.outlook.remove(&id);
        self.tokens.leave(id);
        Some(Forgotten { name, listener: self.listeners.remove(&id), ticket: self.awaiting.remove(&id) })
    }
}

/// What is left of an endpoint that is none any more.
pub(super) struct Forgotten {
    pub(super) name: Arc<str>,
    pub(super) listener: Option<Arc<SharedListener>>,
    pub(super) ticket: Option<Ticket>,
}

/// What the application is likely to do next, by what it received last.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Next {
    Unknown,
    /// It has received all there is: what it sends is likely the answer, and goes out at once.
    Answer,
    /// More waits: it will come back for it.
    Receive,
}

/// What a pattern does with a received message of one frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Quickness {
    /// It looks at the message, or at what came before.
    None,
    /// It passes it on as it is.
    Plain,
    /// It asks whether it was subscribed to.
    Filtered,
}

/// Options that change while the socket works and are read at each send or receive.
#[derive(Clone, Copy)]
pub(super) struct Switches {
    pub(super) mandatory: bool,
    pub(super) handover: bool,
    pub(super) relaxed: bool,
    pub(super) verbose: bool,
    pub(super) verboser: bool,
    pub(super) nodrop: bool,
    pub(super) only_first_subscribe: bool,
    pub(super) verbose_unsubscribe: bool,
    pub(super) adaptive_spin: bool,
}

/// How long a call may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    /// Not at all.
    Never,
    /// As the socket's option says.
    Option,
    /// This long.
    For(Duration),
}

const FOREVER: u64 = u64::MAX;
/// How many messages are taken with the reader gate held.
const PART: usize = 4096;
/// After so many octets read they are given back at the latest: what the application has is to stop nobody.
const PROMPT: usize = 64 * 1024;

impl Core {
    pub(crate) fn new(kind: SocketKind, context: Arc<Inner>, options: Options) -> Arc<Core> {
        let seed = context.random();
        let queued = Account::new(&context.budget, BudgetHalf::Sending);
        let received = Account::new(&context.budget, BudgetHalf::Receiving);
        let core = Arc::new_cyclic(|me| Core {
            me: Weak::clone(me),
            kind,
            port: Port::new(Arc::clone(&context.engine), options.affinity),
            generation: context.generation(),
            send: Gate::new(SendSide::new(kind, &options, [&queued, &received], seed)),
            recv: Gate::new(Reader::new(&received)),
            arrivals: Mutex::new(Arrivals::new(&received)),
            arrived: AtomicBool::new(false),
            next: AtomicU8::new(Next::Unknown as u8),
            waiters: Waiters::default(),
            endpoints: Mutex::new(Endpoints::default()),
            feed: Feed::default(),
            #[cfg(feature = "tracing")]
            told: super::trace::Told::default(),
            closed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            parted: AtomicBool::new(false),
            drivers: Drivers::default(),
            received,
            queued,
            renamings: AtomicU64::new(0),
            setting: Mutex::new(()),
            exchanges: Line::default(),
            conflate: options.conflate,
            correlate: options.correlate,
            invert: options.invert_matching,
            manual: options.manual || options.manual_last_value,
            manual_last_value: options.manual_last_value,
            profile: options.profile,
            quick: match kind {
                _ if options.conflate => Quickness::None,
                SocketKind::Pull | SocketKind::Dealer | SocketKind::Pair | SocketKind::XSub => Quickness::Plain,
                SocketKind::Sub => Quickness::Filtered,
                SocketKind::Pub
                | SocketKind::XPub
                | SocketKind::Push
                | SocketKind::Req
                | SocketKind::Rep
                | SocketKind::Router => Quickness::None,
            },
            stepwise: matches!(kind, SocketKind::Req | SocketKind::Rep),
            switches: AtomicU32::new(0),
            receive_mark: AtomicUsize::new(0),
            receive_byte_mark: AtomicUsize::new(0),
            max_subscriptions: AtomicU32::new(0),
            spin: AtomicU64::new(0),
            send_timeout: AtomicU64::new(FOREVER),
            receive_timeout: AtomicU64::new(FOREVER),
            context,
            options: Mutex::new(options),
        });
        core.load_options();
        core.context.register(&core);
        core
    }

    // ----- options -----

    pub(super) fn lock_options(&self) -> MutexGuard<'_, Options> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn options(&self) -> Options {
        if self.is_forked() {
            return default_options();
        }
        self.lock_options().clone()
    }

    pub(super) fn list_endpoints(&self, of: impl Fn(&Endpoints) -> &Names) -> Vec<String> {
        if self.is_forked() {
            return Vec::new();
        }
        of(&self.lock_endpoints()).iter().map(|(_, name)| name.to_string()).collect()
    }

    pub(super) fn lock_endpoints(&self) -> MutexGuard<'_, Endpoints> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes an option.
    pub(super) fn set(&self, setting: Setting) -> Result<(), Error> {
        self.check()?;
        let row = setting.row();
        row.check_kind(self.kind)?;
        setting.check()?;
        if row.effect == Effect::WhenMade {
            return Err(Error::Option {
                option: row.name,
                reason: "it is fixed when the socket is made; set it on the builder".to_owned(),
            });
        }
        let _turn = self.setting.lock().unwrap_or_else(PoisonError::into_inner);
        setting.apply(&mut self.lock_options());
        self.load_options();
        Ok(())
    }

    /// Copies the options that hot paths read to where they read them.
    fn load_options(&self) {
        let options = self.lock_options().clone();
        let switches = [
            options.mandatory,
            options.handover,
            options.relaxed,
            options.verbose,
            options.verboser,
            options.nodrop,
            options.only_first_subscribe,
            options.verbose_unsubscribe,
            options.adaptive_spin,
        ];
        let bits = switches.into_iter().enumerate().fold(0, |bits, (place, on)| bits | u32::from(on) << place);
        self.switches.store(bits, Ordering::Relaxed);
        let receive_mark = options.receive_mark as usize;
        self.receive_mark.store(receive_mark, Ordering::Relaxed);
        let bytes = usize::try_from(options.receive_byte_mark).unwrap_or(usize::MAX);
        self.receive_byte_mark.store(bytes, Ordering::Relaxed);
        self.max_subscriptions.store(options.max_subscriptions, Ordering::Relaxed);
        self.spin.store(nanos(Some(options.spin)), Ordering::Relaxed);
        self.send_timeout.store(nanos(options.send_timeout), Ordering::Relaxed);
        self.receive_timeout.store(nanos(options.receive_timeout), Ordering::Relaxed);
        {
            let mut reader = self.lock_recv();
            reader.step = if receive_mark == 0 { 8192 } else { receive_mark.div_ceil(2) };
            reader.step_bytes = if bytes == 0 { PROMPT } else { bytes.div_ceil(2).min(PROMPT) };
        }
        let peers: Vec<PeerId> = {
            let mut side = self.lock_send();
            side.marks = Marks::of(&options);
            side.largest = own_limit(&options);
            side.peers.iter().map(|(_, peer)| peer.id).collect()
        };
        // A raised mark makes room at once, here and at the other end of inproc peers.
        for peer in peers {
            self.lock_send().marks_changed(peer);
            self.tell_marks(peer);
        }
        self.reopen_links();
        self.tell_waiters(Interest::ROOM);
    }

    pub(super) fn switch(&self) -> Switches {
        let bits = self.switches.load(Ordering::Relaxed);
        let on = |place: u32| bits >> place & 1 != 0;
        Switches {
            mandatory: on(0),
            handover: on(1),
            relaxed: on(2),
            verbose: on(3),
            verboser: on(4),
            nodrop: on(5),
            only_first_subscribe: on(6),
            verbose_unsubscribe: on(7),
            adaptive_spin: on(8),
        }
    }

    /// The receive mark in messages and octets; 0 is none.
    pub(super) fn receive_marks(&self) -> Marks {
        Marks {
            messages: self.receive_mark.load(Ordering::Relaxed),
            bytes: self.receive_byte_mark.load(Ordering::Relaxed),
        }
    }

    // ----- state -----

    /// Whether calls are allowed.
    #[inline(always)]
    pub(super) fn check(&self) -> Result<(), Error> {
        if fork_generation() != self.generation {
            return Err(Error::Forked);
        }
        if self.is_closed() {
            return Err(if self.is_failed() { Error::Failed } else { Error::Closed });
        }
        Ok(())
    }

    fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// What a send is told that was refused for this reason.
    pub(super) fn why_unsent(&self, reason: SendFailure) -> SendFailure {
        if reason == SendFailure::Closed && self.is_failed() { SendFailure::Failed } else { reason }
    }

    /// What a receive from a closed socket is told.
    fn why_ended(&self) -> RecvError {
        if self.is_failed() { RecvError::Failed } else { RecvError::Closed }
    }

    #[inline(always)]
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn is_forked(&self) -> bool {
        fork_generation() != self.generation
    }

    /// Tells everybody who waits for something that it may be there: those on the list, and one that waits in the
    /// driver's seat.
    pub(super) fn tell_waiters(&self, interest: Interest) {
        self.waiters.notify(interest, usize::MAX);
        self.wake_driver(interest);
    }

    /// How many octets the socket holds of a half of the context's budget.
    pub(crate) fn held_of(&self, half: BudgetHalf) -> u64 {
        match half {
            BudgetHalf::Sending => self.queued.held(),
            BudgetHalf::Receiving => self.received.held(),
        }
    }

    /// The first endpoint of those the socket was bound to, or else connected to.
    pub(crate) fn first_endpoint(&self) -> Arc<str> {
        let endpoints = self.lock_endpoints();
        let first = endpoints.bound.iter().chain(endpoints.connected.iter()).next();
        first.map_or_else(|| Arc::from(""), |(_, name)| Arc::clone(name))
    }

    /// The context's budget binds.
    pub(crate) fn tell_shortage(&self, shortage: Shortage) {
        use crate::engine::Host;
        self.event(Event { kind: EventKind::BudgetReached(shortage), endpoint: "".into(), address: None, peer: None });
    }

    /// Rings for a caller that drives and waits for that: something came that its poll does not see.
    pub(super) fn wake_driver(&self, interest: Interest) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.drivers.wait_for(interest) {
            self.port.ring();
        }
    }

    // ----- waiting -----

    /// Waits until `done`, driving the reactor where possible. `false` when the deadline passed first.
    pub(super) fn wait(&self, interest: Interest, deadline: Option<Instant>, mut done: impl FnMut() -> bool) -> bool {
        let mut deadline = deadline;
        let mut granted = false;
        let pace = match self.spin.load(Ordering::Relaxed) {
            0 if interest == Interest::MESSAGE && self.expects_answer() => Pace::Expect,
            0 => Pace::Sleep,
            spin => Pace::Spin(Duration::from_nanos(spin)),
        };
        loop {
            if done() {
                return true;
            }
            if self.port.is_open() {
                self.drivers.enter(interest);
                let drive = self.port.drive(self, deadline, pace, &mut done);
                self.drivers.leave(interest);
                match drive {
                    Drive::Done => return true,
                    Drive::TimedOut if granted || !is_stopped(deadline) => return done(),
                    Drive::TimedOut => {}
                    Drive::Interrupted => continue,
                    Drive::Taken => {}
                }
            } else if self.spin_for_inproc(interest) {
                continue;
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                if granted || !is_stopped(deadline) {
                    return done();
                }
                // The process did not run when the time was over: whoever drives looks first at what came meanwhile.
                granted = true;
                deadline = Instant::now().checked_add(GRACE);
                continue;
            }
            if interest == Interest::MESSAGE {
                // Somebody else may have collected what arrived, and left the most of it.
                self.waiters.wait(interest, deadline, || {
                    let there = self.is_closed() || self.arrived.load(Ordering::SeqCst) || self.has_unread();
                    if !there {
                        self.port.attend();
                    }
                    there
                });
                continue;
            }
            // What else is waited for can be known only by asking, and asking may be what does it: never twice.
            let mut hit = false;
            self.waiters.wait(interest, deadline, || {
                hit = done();
                if !hit {
                    self.port.attend();
                }
                hit
            });
            if hit {
                return true;
            }
        }
    }

    /// Whether what is waited for is the answer to what was sent last, as far as that can be told, and may be looked
    /// for.
    fn expects_answer(&self) -> bool {
        self.next.load(Ordering::Relaxed) == Next::Unknown as u8 && self.switch().adaptive_spin
    }

    /// While both sides of an inproc link are busy a message is never far: a little patience saves two system calls.
    fn spin_for_inproc(&self, interest: Interest) -> bool {
        if interest != Interest::MESSAGE {
            return false;
        }
        for _ in 0..LOOKS {
            if self.arrived.load(Ordering::Acquire) {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    fn deadline(&self, wait: Wait, option: &AtomicU64) -> Deadline {
        let limit = match wait {
            Wait::Never => return Deadline::Now,
            Wait::For(limit) => Some(limit),
            Wait::Option => match option.load(Ordering::Relaxed) {
                FOREVER => None,
                nanos => Some(Duration::from_nanos(nanos)),
            },
        };
        match limit {
            // A limit beyond what the clock can say is no limit.
            Some(limit) => Instant::now().checked_add(limit).map_or(Deadline::Never, Deadline::At),
            None => Deadline::Never,
        }
    }

    /// Until when a send may wait.
    pub(super) fn send_deadline(&self, wait: Wait) -> Deadline {
        self.deadline(wait, &self.send_timeout)
    }

    // ----- send and receive -----

    #[inline(always)]
    pub(crate) fn send<M: IntoMessage>(&self, message: M, to: Recipient<'_>, wait: Wait) -> Result<(), SendError> {
        if fork_generation() == self.generation {
            if self.kind == SocketKind::Req {
                self.forget_replies();
            }
            let limit = if M::BORROWED { BORROWED_COPY_LIMIT } else { COPY_LIMIT };
            if let Some(body) = message.only_body().filter(|body| body.len() <= limit) {
                if let Ok(()) = self.offer(Payload::Body(body), to) {
                    return Ok(());
                }
            }
        }
        self.send_otherwise(message, to, wait)
    }

    /// Sends what is long, or found no room at once.
    #[inline(never)]
    fn send_otherwise<M: IntoMessage>(&self, message: M, to: Recipient<'_>, wait: Wait) -> Result<(), SendError> {
        let borrowed = message.only_body().filter(|_| M::BORROWED);
        let wait = match borrowed.map_or(Err(wait), |body| self.send_long(Long::Borrowed(body), wait)) {
            Ok(()) => return Ok(()),
            Err(wait) => wait,
        };
        let message = message.into_message();
        let wait = match if M::BORROWED { Err(wait) } else { self.send_long(Long::Shared(&message), wait) } {
            Ok(()) => return Ok(()),
            Err(wait) => wait,
        };
        self.send_slowly(message, to, wait)
    }

    /// What came before a request cannot be its reply.
    pub(super) fn forget_replies(&self) {
        let relaxed = self.switch().relaxed;
        let may_send = match &self.lock_send().routing {
            Routing::Request(_, requests) => requests.may_send(relaxed),
            _ => false,
        };
        if may_send {
            self.discard_all();
        }
    }

    #[inline(never)]
    fn send_slowly(&self, message: Message, to: Recipient<'_>, wait: Wait) -> Result<(), SendError> {
        let sent = self.await_room(wait, || self.offer(Payload::Message(&message), to));
        sent.map_err(|reason| {
            let id = match to {
                Recipient::Pattern => Some(message.first()),
                Recipient::RoutingId(_) | Recipient::Peer(_) => to.routing_id(),
            };
            let missing = self.what_is_missing(reason, id);
            SendError { reason, message, missing }
        })
    }

    /// What an error names beside the reason: the routing id that no peer has, or why there was no room, or no peer in
    /// time.
    pub(super) fn what_is_missing(&self, reason: SendFailure, id: Option<&[u8]>) -> Option<Missing> {
        match reason {
            SendFailure::TimedOut => self.why_no_room(true),
            SendFailure::WouldBlock => self.why_no_room(false),
            SendFailure::Unroutable => id.map(|id| Missing::new(routing_id::named(id))),
            _ => None,
        }
    }

    /// Attempts something that needs room until there is some, or `wait` is over.
    pub(super) fn await_room<T>(
        &self,
        wait: Wait,
        mut attempt: impl FnMut() -> Result<T, SendFailure>,
    ) -> Result<T, SendFailure> {
        if self.is_forked() {
            return Err(SendFailure::Forked);
        }
        let mut outcome = attempt();
        if !matches!(outcome, Err(SendFailure::WouldBlock)) {
            return outcome.map_err(|reason| self.why_unsent(reason));
        }
        let deadline = match self.send_deadline(wait) {
            Deadline::Now => {
                let outcome = if self.pass_depth(false) { attempt() } else { outcome };
                return outcome.map_err(|reason| self.why_unsent(reason));
            }
            Deadline::At(at) => Some(at),
            Deadline::Never => None,
        };
        self.relieve();
        let mut is_over = || {
            outcome = attempt();
            !matches!(outcome, Err(SendFailure::WouldBlock))
        };
        let in_time = match self.depth_deadline(deadline) {
            Some(soon) => {
                // A send that could not wait long enough says nothing of the peer.
                let in_vain = deadline.is_none_or(|deadline| soon < deadline);
                self.wait(Interest::ROOM, Some(soon), &mut is_over) || (self.pass_depth(in_vain) && is_over())
            }
            None => false,
        };
        // A queue that becomes deep from here on is not waited for: no deadline of its own would end that.
        let mut is_over_at_any_depth = || is_over() || (self.pass_depth(false) && is_over());
        let in_time = in_time || self.wait(Interest::ROOM, deadline, &mut is_over_at_any_depth);
        outcome = match outcome {
            Err(_) if self.is_closed() => Err(SendFailure::Closed),
            Err(SendFailure::WouldBlock) if !in_time => Err(SendFailure::TimedOut),
            other => other,
        };
        outcome.map_err(|reason| self.why_unsent(reason))
    }

    #[inline(always)]
    pub(crate) fn recv(&self, wait: Wait) -> Result<Message, RecvError> {
        if fork_generation() == self.generation && !self.is_closed() && !self.stepwise {
            let mut reader = self.lock_recv();
            if let Some((message, peer)) = self.take_quick(&mut reader) {
                return Ok(message.into_message(peer));
            }
            if let Some(message) = self.take(&mut reader) {
                return Ok(message);
            }
        }
        self.recv_slowly(wait, |reader| self.take(reader))
    }

    /// Receives by `take`, which takes one message or several, or what belongs to them, if they are there.
    #[inline(never)]
    pub(super) fn recv_slowly<T: PartialEq>(
        &self,
        wait: Wait,
        mut take: impl FnMut(&mut Reader) -> Option<T>,
    ) -> Result<T, RecvError> {
        let mut outcome = self.try_take(&mut take);
        if outcome != Err(RecvError::WouldBlock) {
            return outcome;
        }
        let deadline = match self.deadline(wait, &self.receive_timeout) {
            Deadline::Now => return self.recv_now(take),
            Deadline::At(at) if at <= Instant::now() => {
                return self.recv_now(take).map_err(|error| match error {
                    RecvError::WouldBlock => RecvError::TimedOut,
                    other => other,
                });
            }
            Deadline::At(at) => Some(at),
            Deadline::Never => None,
        };
        let in_time = self.wait(Interest::MESSAGE, deadline, || {
            outcome = self.try_take(&mut take);
            outcome != Err(RecvError::WouldBlock)
        });
        match outcome {
            Err(RecvError::WouldBlock) if self.is_closed() => Err(self.why_ended()),
            Err(RecvError::WouldBlock) if !in_time => Err(RecvError::TimedOut),
            outcome => outcome,
        }
    }

    /// A receive that must not wait still looks at what the kernel has: a caller that only ever tries drives as well.
    fn recv_now<T: PartialEq>(&self, mut take: impl FnMut(&mut Reader) -> Option<T>) -> Result<T, RecvError> {
        let mut outcome = Err(RecvError::WouldBlock);
        if self.port.is_open() {
            self.port.drive(self, None, Pace::Look, || {
                outcome = self.try_take(&mut take);
                outcome != Err(RecvError::WouldBlock)
            });
            if outcome == Err(RecvError::WouldBlock) && self.is_closed() {
                return Err(self.why_ended());
            }
        }
        outcome
    }

    fn try_take<T>(&self, take: impl FnOnce(&mut Reader) -> Option<T>) -> Result<T, RecvError> {
        if self.is_forked() {
            return Err(RecvError::Forked);
        }
        if self.is_closed() {
            return Err(self.why_ended());
        }
        let mut reader = self.lock_recv();
        // Asked with the gate held: of two threads that receive at once the other one may have taken a request by now.
        self.may_receive()?;
        let taken = take(&mut reader);
        if taken.is_none() && std::mem::take(&mut reader.is_cut_short) {
            drop(reader);
            // Whoever drives does not sleep before it has looked again.
            self.port.ring();
        }
        taken.ok_or(RecvError::WouldBlock)
    }

    pub(crate) fn recv_many(&self, max: usize, wait: Wait) -> Result<Vec<Message>, RecvError> {
        let mut messages = Vec::new();
        if max == 0 {
            return Ok(messages);
        }
        messages.push(self.recv(wait)?);
        if !self.stepwise {
            self.take_along(&mut messages, max, |reader| self.take(reader));
        }
        Ok(messages)
    }

    /// Takes what else is there until there are `max`. After the first part of it, what comes meanwhile is left to the
    /// next call, so that peers which send without end keep nobody here. Between parts others get the reader gate.
    pub(super) fn take_along<T>(
        &self,
        messages: &mut Vec<T>,
        max: usize,
        mut take: impl FnMut(&mut Reader) -> Option<T>,
    ) {
        let mut limit = None;
        loop {
            let mut reader = self.lock_recv();
            let end = limit.unwrap_or(max).min(messages.len() + PART);
            let discarded = reader.discarded;
            // Those that the pattern refuses do not hold the gate for longer than in one look.
            while messages.len() < end && reader.discarded - discarded < u64::from(MOST_REFUSED) {
                match take(&mut reader) {
                    Some(message) => messages.push(message),
                    None => return,
                }
            }
            if messages.len() < end || messages.len() == limit.unwrap_or(max) {
                return;
            }
            limit = limit.or_else(|| Some(max.min(messages.len() + self.unread(&reader))));
            drop(reader);
            while !self.recv.let_in() {}
        }
    }

    // ----- questions -----

    pub(super) fn peer_info(&self, id: PeerId) -> Option<PeerInfo> {
        if self.is_forked() {
            return None;
        }
        let (mut info, endpoint) = {
            let side = self.lock_send();
            match side.peer(id) {
                Some(peer) => (peer.info(), Some(peer.about.endpoint_id)),
                None => (side.departed.iter().rev().find(|info| info.id == id)?.clone(), None),
            }
        };
        if let Some(endpoint) = endpoint {
            (info.attempts, info.last_error) = self.last_error_of(endpoint);
        }
        if let Some(received) = self.lock_arrivals().received(id) {
            (info.stats.received, info.stats.received_bytes) = received;
        }
        Some(info)
    }

    pub(super) fn peer_ids(&self) -> Vec<PeerId> {
        if self.is_forked() {
            return Vec::new();
        }
        // Those that are gone are settled, and are no peers any more.
        self.lock_send().peers.iter().filter(|(_, peer)| !peer.condemned).map(|(_, peer)| peer.id).collect()
    }

    pub(super) fn stats(&self) -> Stats {
        if self.is_forked() {
            return Stats::default();
        }
        let (received, discarded, unread, received_bytes) = self.receive_counts();
        let side = self.lock_send();
        let (queued, queued_bytes) = side.queued();
        Stats {
            accepted: side.counts.accepted,
            written: side.counts.written,
            written_bytes: side.counts.written_bytes,
            queued,
            queued_bytes,
            dropped: side.counts.dropped,
            received,
            received_bytes,
            unread,
            discarded,
            refused_subscriptions: side.counts.refused_subscriptions,
            connections: side.connections,
            reconnects: side.reconnects,
            events_lost: self.feed.lost(),
        }
    }

    pub(super) fn connections(&self) -> usize {
        usize::try_from(self.lock_send().connections).unwrap_or(usize::MAX)
    }

    pub(super) fn subscribers(&self) -> usize {
        match &self.lock_send().routing {
            Routing::Publish(publisher) => publisher.subscriptions.peers(),
            _ => 0,
        }
    }

    /// Waits until everything accepted is in the kernel, or in the hands of inproc receivers.
    pub(super) fn flush_all(&self, limit: Duration) -> Result<(), Error> {
        self.check()?;
        let deadline = Instant::now().checked_add(limit);
        let flushed = self.wait(Interest::CHANGE, deadline, || self.is_closed() || self.lock_send().queued().0 == 0);
        self.check()?;
        if flushed {
            return Ok(());
        }
        let (messages, bytes) = self.lock_send().queued();
        let verb = if messages == 1 { "is" } else { "are" };
        let why = self.why_no_peer().map(|why| format!(": {why}")).unwrap_or_default();
        Err(Error::TimedOut { waiting_for: format!("{} {verb} still queued{why}", Unsent::new(messages, bytes)) })
    }

    pub(super) fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        count: impl Fn() -> usize,
        wanted: usize,
    ) -> Result<(), Error> {
        self.check()?;
        let deadline = Instant::now().checked_add(limit);
        let there = self.wait(Interest::CHANGE, deadline, || self.is_closed() || count() >= wanted);
        self.check()?;
        if there {
            return Ok(());
        }
        let why = self.why_missing().map_or_else(|| " are there".to_owned(), |why| format!(": {why}"));
        Err(Error::TimedOut { waiting_for: format!("{} of {wanted} {what}{why}", count()) })
    }

    // ----- closing -----

    /// Lets no further call in. All sockets of a context are barred before the first one parts from its peers, so that
    /// none sees another go.
    pub(crate) fn bar(&self) {
        if !self.is_forked() && !self.closed.swap(true, Ordering::AcqRel) {
            self.lock_send().closed = true;
        }
    }

    /// Closes the socket: returns at once, what was accepted is delivered in the background within the linger time.
    pub(crate) fn close(&self) {
        self.bar();
        if self.is_forked() || self.parted.swap(true, Ordering::AcqRel) {
            return;
        }
        self.tell_waiters(Interest::ALL);
        self.leave_inproc();
        self.close_listeners();
        if self.port.is_open() {
            self.port.close(self.linger());
        } else {
            self.finished();
        }
    }

    /// Gives up lingering at once.
    pub(crate) fn cut_linger(&self) {
        if self.port.is_open() {
            self.port.submit(Command::End { scope: None, linger: Linger::Until(Instant::now()) });
        }
    }

    /// How long what is closed now goes on delivering.
    pub(super) fn linger(&self) -> Linger {
        let options = self.lock_options();
        match (options.linger, options.profile.linger_patience(options.linger_patience)) {
            (Some(total), _) => Instant::now().checked_add(total).map_or(Linger::Forever, Linger::Until),
            (None, Some(patience)) => Linger::Patience(patience),
            (None, None) => Linger::Forever,
        }
    }

    /// What waits to be written, by endpoint.
    pub(crate) fn undelivered(&self) -> Vec<(Arc<str>, Unsent)> {
        undelivered_of(&self.lock_send())
    }

    /// As [`undelivered`](Core::undelivered), without waiting for a lock.
    pub(crate) fn try_undelivered(&self) -> Option<Vec<(Arc<str>, Unsent)>> {
        self.send.try_lock().map(|side| undelivered_of(&side))
    }

    /// Whether it may have something on its way to another process.
    pub(crate) fn is_on_wire(&self) -> bool {
        self.port.is_open()
    }

    /// As [`progress`](Core::progress), without waiting for a lock.
    pub(crate) fn try_progress(&self) -> Option<u64> {
        let progress = self.send.try_lock().map(|side| side.progress());
        progress.map(|progress| self.number_of(progress))
    }

    /// A number that changes while a closed socket still gets something delivered.
    pub(crate) fn progress(&self) -> u64 {
        let progress = self.lock_send().progress();
        self.number_of(progress)
    }

    /// How many messages and octets were dropped because the linger time ran out.
    pub(crate) fn unsent(&self) -> Unsent {
        let side = self.lock_send();
        Unsent::new(side.counts.dropped.linger, side.counts.lingered_bytes)
    }

    // ----- subscriptions upstream -----

    /// Begins to tell all subscriptions to a peer that is new or back, with both locks held in their order. Returns
    /// true if some are left for now, which [`replay`](Core::replay) is to tell it. Those that the peer does not accept
    /// are left out, with one event for all of them in `unfit` at the end: the peer would end the connection over each,
    /// again and again. Where it is not known what the peer accepts (`is_foreign`), one over which it does so is looked
    /// for.
    pub(super) fn begin_replay(
        &self,
        reader: &mut Reader,
        side: &mut SendSide,
        peer: PeerId,
        is_foreign: bool,
        unfit: &mut Vec<Event>,
    ) -> bool {
        let Some(entry) = side.peer_mut(peer) else { return false };
        let mut replay = Replay::new(reader.filter.places(), reader.filter.hold_still());
        if is_foreign {
            let search = &mut entry.about.search;
            replay.pause_at(search.begin(replay.places(), || reader.filter.hold_still()));
        }
        !go_on_replaying(reader, side, peer, replay, unfit)
    }

    /// Tells a peer more of the subscriptions that it has not been told yet, for a moment. Returns true if none is left
    /// for now, and the memory of those that were cancelled meanwhile is given back.
    pub(super) fn replay(&self, peer: PeerId) -> bool {
        let mut unfit = Vec::new();
        let mut reader = self.lock_recv();
        let mut side = self.lock_send();
        let left = side.peer_mut(peer).and_then(|entry| entry.outbox.take_replay());
        let mut is_done = left.is_none_or(|left| go_on_replaying(&reader, &mut side, peer, left, &mut unfit));
        drop(side);
        let mut slice = Slice::begin();
        while is_done && !reader.filter.tidy() {
            is_done = slice.step(0).is_continue();
        }
        drop(reader);
        self.tell_given_up(unfit);
        is_done
    }

    /// Tells a peer all that is left, on a thread that has nothing else to do.
    pub(super) fn replay_all(&self, peer: PeerId) {
        while !self.replay(peer) {
            while !(self.recv.let_in() && self.send.let_in()) {}
        }
    }

    /// Has everybody upstream told of a change of our subscriptions. `place` is where the topic is, or was until now.
    /// Returns an event for each peer that does not accept so long a topic.
    pub(super) fn tell_upstream(
        &self,
        side: &mut SendSide,
        topic: &[u8],
        place: Option<u32>,
        kind: ChangeKind,
    ) -> (Vec<After>, Vec<Event>) {
        let mut after = Vec::new();
        let mut unfit = Vec::new();
        let mut dirty = Vec::new();
        for (_, peer) in side.peers.iter_mut() {
            let was_given_up = peer.about.untold.contains(topic);
            if was_given_up && kind == ChangeKind::Last {
                peer.about.untold.remove(topic);
            }
            let Some(minor) = form(peer) else { continue };
            // A replay under way is to know of the change, whether the peer is told of it or not.
            let owes = peer.outbox.owes(place, kind);
            if was_given_up {
                continue;
            }
            if let Some(longest) = peer.refused_size(topic) {
                // It was not told of the subscription either.
                unfit.extend(kind.subscribes().then(|| peer.refuses(LeftOut { count: 1, longest })));
                continue;
            }
            if owes {
                let rest = peer.outbox.take_replay();
                peer.outbox.push_replay(&protocol::subscription(minor, true, topic), rest);
            }
            peer.outbox.push_change(change(minor, topic, kind));
            peer.recharge();
            match &mut peer.wire {
                Wire::Inproc { core, there, notice } => {
                    if notice.give() {
                        after.push(After::Notice(Weak::clone(core), *there));
                    }
                }
                Wire::Stream(_) => dirty.push(peer.id),
                Wire::None => {}
            }
        }
        let mut ring = false;
        for peer in dirty {
            ring |= side.mark_dirty(peer);
        }
        if ring {
            after.push(After::Ring);
        }
        (after, unfit)
    }
}

/// Which form of subscription a peer is sent; `None` while it has no connection.
fn form(peer: &Peer) -> Option<u8> {
    match &peer.wire {
        Wire::None => None,
        Wire::Stream(_) => Some(peer.minor),
        Wire::Inproc { .. } => Some(0),
    }
}

/// Tells a peer what is left of a replay, for a moment. Returns true if that was all, or all for now. What the peer
/// does not accept is left out, and told of in `unfit` then.
fn go_on_replaying(
    reader: &Reader,
    side: &mut SendSide,
    peer: PeerId,
    mut left: Replay,
    unfit: &mut Vec<Event>,
) -> bool {
    let Some(entry) = side.peer_mut(peer) else { return true };
    let Some(minor) = form(entry) else { return true };
    let (mut slice, mut commands) = (Slice::begin(), Vec::new());
    let mut search = std::mem::take(&mut entry.about.search);
    while let Some(next) = left.next() {
        reader.filter.for_each_from(next, |place, topic| {
            let is_told = left.takes(place);
            if let Some(topic) = topic.filter(|topic| is_told && !entry.about.untold.contains(*topic)) {
                match entry.refused_size(topic) {
                    None => {
                        search.note(topic);
                        commands.extend_from_slice(&protocol::subscription(minor, true, topic));
                    }
                    Some(octets) => left.leave_out(octets),
                }
            }
            if left.next().is_none() {
                return ControlFlow::Break(());
            }
            slice.step(topic.map_or(0, <[u8]>::len))
        });
        if left.next().is_some() || left.is_over() || !search.is_empty_step() {
            break;
        }
        if let Some(place) = search.step(left.places()) {
            left.pause_at(place);
        }
    }
    entry.about.search = search;
    if left.is_over() && left.left_out().count > 0 {
        unfit.push(entry.refuses(left.left_out()));
    }
    let is_done = left.next().is_none();
    entry.outbox.push_replay(&commands, (!left.is_over()).then_some(left));
    is_done
}

/// A change of a subscription in the form that a peer of that version understands.
fn change(minor: u8, topic: &[u8], kind: ChangeKind) -> Change {
    Change::new(protocol::subscription(minor, kind.subscribes(), topic), topic.len(), kind)
}

/// When a wait is over.
pub(super) enum Deadline {
    Now,
    At(Instant),
    Never,
}

fn undelivered_of(side: &SendSide) -> Vec<(Arc<str>, Unsent)> {
    let left = |peer: &Peer| Unsent::new(peer.outbox.queued() as u64, peer.outbox.waiting_bytes() as u64);
    side.peers.iter().map(|(_, peer)| (Arc::clone(&peer.about.endpoint), left(peer))).collect()
}

/// How often a receiver looks again before it sleeps when all its peers are in this process: a few microseconds.
const LOOKS: usize = 200;

fn nanos(duration: Option<Duration>) -> u64 {
    duration.map_or(FOREVER, |duration| u64::try_from(duration.as_nanos()).unwrap_or(FOREVER))
}

/// Returns true if a deadline has passed so long ago that the process cannot have run meanwhile.
pub(super) fn is_stopped(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now().saturating_duration_since(deadline) >= STOPPED)
}

/// A wait that ends so much too late says that the process was stopped, …
const STOPPED: Duration = Duration::from_millis(250);
/// … and goes on for so long, once.
pub(super) const GRACE: Duration = Duration::from_millis(100);
