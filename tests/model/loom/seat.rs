//! What stands around the shipped lease of the driver's seat: a try-lock, a nested poll, a caller and an engine thread.
//! Steps that touch shared state come in the order they have in `engine/port.rs` and `engine/thread.rs`.

use crate::parker::Parker;
use crate::sync::{AtomicBool, AtomicU32, Mutex, Ordering, fence};

/// The shipped lease, or one with a line changed.
pub(crate) trait AnyLease: Default + Send + Sync + 'static {
    fn ring(&self) -> bool;
    fn is_left_to_a_caller(&self) -> bool;
    fn deadline_while_held(&self, now: u64) -> u64;
    fn start(&self);
    fn rest(&self) -> bool;
    fn enter(&self, around: &World<Self>);
    fn leave<G>(&self, around: &World<Self>, guard: G, regular: bool, busy: bool, deadline: u64);
    fn hold<G>(&self, try_lock: impl Fn() -> Option<G>) -> Option<G>;
    fn begin_turn(&self, around: &World<Self>) -> bool;
    fn rounds(&self, lending: bool, round: impl FnMut() -> (bool, bool)) -> bool;
    /// Whether the seat is leased, and whether there is more to do at once.
    fn end_turn<G>(&self, around: &World<Self>, guard: G, lending: bool, busy: bool, deadline: u64) -> (bool, bool);
    /// Whether to check again, and whether to take over.
    fn check<G>(&self, around: &World<Self>, try_lock: impl Fn() -> Option<G>) -> (bool, bool);
}

/// Puts the lease of a module into the model.
macro_rules! lease {
    ($($module:ident)::+) => {
        impl<L: $crate::seat::AnyLease> $($module)::+::Surroundings for $crate::seat::World<L> {
            fn arm(&self) {
                self.kernel.arm();
            }
            fn disarm(&self) {
                self.kernel.disarm();
            }
            fn call(&self) {
                self.kernel.call();
            }
            fn watch(&self) {
                self.watch_lease();
            }
            fn has_waiters(&self) -> bool {
                self.waits()
            }
            fn has_dirty(&self) -> bool {
                self.is_dirty()
            }
            fn will_return(&self) -> bool {
                self.is_expected()
            }
        }

        impl $crate::seat::AnyLease for $($module)::+::Lease {
            fn ring(&self) -> bool {
                self.ring()
            }
            fn is_left_to_a_caller(&self) -> bool {
                self.is_left_to_a_caller()
            }
            fn deadline_while_held(&self, now: u64) -> u64 {
                self.deadline_while_held(now)
            }
            fn start(&self) {
                self.start();
            }
            fn rest(&self) -> bool {
                self.rest()
            }
            fn enter(&self, around: &$crate::seat::World<Self>) {
                self.enter(around);
            }
            fn leave<G>(&self, around: &$crate::seat::World<Self>, guard: G, regular: bool, busy: bool, deadline: u64) {
                self.leave(around, guard, regular, busy, deadline);
            }
            fn hold<G>(&self, try_lock: impl Fn() -> Option<G>) -> Option<G> {
                self.hold(try_lock)
            }
            fn begin_turn(&self, around: &$crate::seat::World<Self>) -> bool {
                self.begin_turn(around, true)
            }
            fn rounds(&self, lending: bool, round: impl FnMut() -> (bool, bool)) -> bool {
                self.rounds(lending, round)
            }
            fn end_turn<G>(
                &self,
                around: &$crate::seat::World<Self>,
                guard: G,
                lending: bool,
                busy: bool,
                deadline: u64,
            ) -> (bool, bool) {
                let outcome = self.end_turn(around, guard, lending, busy, false, deadline);
                (outcome.leased, outcome.again)
            }
            fn check<G>(&self, around: &$crate::seat::World<Self>, try_lock: impl Fn() -> Option<G>) -> (bool, bool) {
                use $($module)::+::Check;
                let check = self.check(around, try_lock);
                (check == Check::Again, check == Check::TakeOver)
            }
        }
    };
}
pub(crate) use lease;

lease!(crate::lease);
lease!(crate::unordered::lease);

/// What those around the lease do wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// A driver says that it looks after it has looked.
    StartsTooLate,
    /// The engine does not look after a seat that it has leased.
    LeasesUnseen,
    /// The engine does not do at once what was left when it leased the seat.
    LeasesSilently,
    /// A caller that joins those who wait does not ask whether the seat is leased.
    WaitsUnattended,
}

/// How a caller drives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    /// Its deadline passes after one round.
    Short,
    /// It is served, or disturbed, in the middle: it leaves with a ready stream in hand.
    Disturbed,
    /// It sleeps in the poll until everything is done.
    Patient,
}

/// One socket, its engine thread, and the work it is there for.
pub(crate) struct World<L> {
    lease: L,
    fault: Fault,
    seat: Mutex<Reactor>,
    pub(crate) kernel: Kernel,
    /// The command list. Only the word orders it, as only the word tells when to look.
    commands: Vec<AtomicBool>,
    /// How many are on the list of those who wait.
    waiting: AtomicU32,
    /// How often the engine still hears that a caller will return. Not part of the model: it may be right or wrong at
    /// any time.
    returns: std::sync::atomic::AtomicU32,
    /// Whether the engine checks leases; without it, what must not wait for a check is found.
    checks: bool,
    /// The send gate: what is queued, and whether its sender relies on a caller for the flush, is one step.
    gate: Mutex<()>,
    /// The first command is a message: it is looked for in every round under the gate, rung or not.
    sends: bool,
    /// It is to be flushed. Guarded by the gate.
    dirty: AtomicBool,
    pub(crate) finished: Parker,
}

/// What only the driver touches.
struct Reactor {
    /// The stream is readable.
    ready: bool,
    /// Which commands are carried out, and whether the stream has been read.
    commands: Vec<bool>,
    stream: bool,
    /// The timer that a command sets has not been seen to.
    timer: bool,
}

/// When the timer is due, and a moment before.
const DUE: u64 = 2;
const BEFORE: u64 = 1;
const NEVER: u64 = u64::MAX;

impl<L: AnyLease> World<L> {
    /// A world with so many commands to come, and with a stream that will become readable or without one.
    pub(crate) fn new(fault: Fault, commands: usize, stream: bool) -> World<L> {
        World {
            lease: L::default(),
            fault,
            seat: Mutex::new(Reactor { ready: false, commands: vec![false; commands], stream: !stream, timer: false }),
            kernel: Kernel::new(),
            commands: (0..commands).map(|_| AtomicBool::new(false)).collect(),
            waiting: AtomicU32::new(0),
            returns: std::sync::atomic::AtomicU32::new(0),
            checks: true,
            gate: Mutex::new(()),
            sends: false,
            dirty: AtomicBool::new(false),
            finished: Parker::new(),
        }
    }

    /// The same world, whose engine hears so often that a caller will return.
    pub(crate) fn expecting(self, returns: u32) -> World<L> {
        World { returns: std::sync::atomic::AtomicU32::new(returns), ..self }
    }

    /// The same world, in which the next check comes later than anybody can wait.
    pub(crate) fn without_checks(self) -> World<L> {
        World { checks: false, ..self }
    }

    /// A world with a message to be sent.
    pub(crate) fn sending(fault: Fault) -> World<L> {
        World { sends: true, ..World::new(fault, 1, false) }
    }

    /// A world with a command that sets a timer.
    pub(crate) fn timed(fault: Fault) -> World<L> {
        let mut world = World::new(fault, 1, false);
        world.seat = Mutex::new(Reactor { ready: false, commands: vec![false], stream: true, timer: true });
        world
    }

    pub(crate) fn is_expected(&self) -> bool {
        let left = self.returns.load(Ordering::Relaxed);
        self.returns.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }

    pub(crate) fn watch_lease(&self) {
        if self.checks {
            self.kernel.watch();
        }
    }

    pub(crate) fn waits(&self) -> bool {
        // Loom takes sequentially consistent accesses for weaker ones; the fence says what they are.
        fence(Ordering::SeqCst);
        self.waiting.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.sends && {
            let _gate = self.gate.lock();
            self.dirty.load(Ordering::Relaxed)
        }
    }

    // ----- those who have work -----

    pub(crate) fn submit(&self, command: usize) {
        self.commands[command].store(true, Ordering::Relaxed);
        self.ring();
    }

    /// A sender, who leaves the flush to a caller that is expected back.
    pub(crate) fn send(&self) {
        let deferred = {
            let _gate = self.gate.lock();
            self.commands[0].store(true, Ordering::Relaxed);
            self.dirty.store(true, Ordering::Relaxed);
            self.lease.is_left_to_a_caller()
        };
        if !deferred {
            self.ring();
        }
    }

    fn ring(&self) {
        if self.lease.ring() {
            if self.lease.is_left_to_a_caller() {
                self.kernel.call();
            } else {
                self.kernel.ready();
            }
        }
    }

    /// Something arrives on the stream.
    pub(crate) fn receive(&self) {
        self.kernel.readable();
    }

    /// The time of the deadline comes.
    pub(crate) fn strike(&self) {
        self.kernel.strike();
    }

    // ----- a caller -----

    /// Whether it got the seat. `regular` is whether it is expected back soon.
    pub(crate) fn drive(&self, visit: Visit, regular: bool) -> bool {
        let Some(mut reactor) = self.seat.try_lock() else { return false };
        self.lease.enter(self);
        loop {
            if self.fault == Fault::StartsTooLate {
                self.round(&mut reactor);
                self.lease.start();
            } else {
                self.lease.start();
                self.round(&mut reactor);
            }
            match visit {
                Visit::Short => break,
                Visit::Disturbed => {
                    reactor.ready |= self.kernel.poll();
                    break;
                }
                Visit::Patient if reactor.is_done() => break,
                Visit::Patient => {}
            }
            if self.lease.rest() {
                reactor.ready |= self.kernel.sleep();
            }
        }
        let (busy, deadline) = (reactor.ready, reactor.deadline());
        self.lease.leave(self, reactor, regular, busy, deadline);
        true
    }

    /// Drives until everything is done, or joins those who wait if somebody else drives: the caller parks then.
    pub(crate) fn drive_or_wait(&self) {
        if self.drive(Visit::Patient, false) {
            return;
        }
        self.waiting.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.fault != Fault::WaitsUnattended && self.lease.is_left_to_a_caller() {
            self.kernel.call();
        }
    }

    // ----- the engine thread -----

    /// Runs until [`stop`](World::stop).
    pub(crate) fn engine(&self) {
        let (mut leased, mut deadline) = (false, false);
        loop {
            let event = self.kernel.next(leased && self.checks, deadline);
            leased |= event & WATCH != 0;
            if event & STOP != 0 {
                return;
            }
            if event & EXPIRED != 0 {
                deadline = false;
            }
            if event & (TURN | EXPIRED) != 0 {
                leased |= self.turns(&mut deadline);
            }
            if leased && self.checks {
                let (again, take_over) = self.lease.check(self, || self.seat.try_lock());
                leased = again || (take_over && self.turns(&mut deadline));
            }
        }
    }

    /// Turns until there is no more to do at once; whether the seat is leased then.
    fn turns(&self, deadline: &mut bool) -> bool {
        let mut leased = false;
        loop {
            let (lent, again) = self.engine_turn(deadline);
            leased |= lent && self.fault != Fault::LeasesUnseen;
            if !again || (lent && self.fault == Fault::LeasesSilently) {
                return leased;
            }
        }
    }

    /// Whether the seat is leased after it, and whether there is more to do at once.
    fn engine_turn(&self, deadline: &mut bool) -> (bool, bool) {
        let Some(mut reactor) = self.lease.hold(|| self.seat.try_lock()) else {
            let now = if self.kernel.has_struck() { DUE } else { BEFORE };
            *deadline = self.lease.deadline_while_held(now) != NEVER;
            return (false, false);
        };
        let lending = self.lease.begin_turn(self);
        let mut rounds = 0;
        let busy = self.lease.rounds(lending, || {
            rounds += 1;
            reactor.ready |= self.kernel.poll();
            if lending {
                self.obey(&mut reactor);
            } else {
                self.round(&mut reactor);
            }
            (reactor.ready, rounds == 2)
        });
        let due = reactor.deadline();
        *deadline = due != NEVER;
        self.lease.end_turn(self, reactor, lending, busy, due)
    }

    pub(crate) fn stop(&self) {
        self.kernel.tell(STOP);
    }

    // ----- what a driver does -----

    /// A round that leaves what there is to read to others.
    fn obey(&self, reactor: &mut Reactor) {
        let finished = reactor.is_done();
        let _gate = self.sends.then(|| self.gate.lock());
        for (published, done) in self.commands.iter().zip(&mut reactor.commands) {
            *done = *done || published.load(Ordering::Relaxed);
        }
        if self.sends {
            self.dirty.store(false, Ordering::Relaxed);
        }
        if reactor.has_deadline() && self.kernel.has_struck() {
            reactor.timer = false;
        }
        if reactor.is_done() && !finished {
            self.finished.notify();
        }
    }

    fn round(&self, reactor: &mut Reactor) {
        self.obey(reactor);
        let finished = reactor.is_done();
        if std::mem::take(&mut reactor.ready) && self.kernel.read() {
            reactor.stream = true;
        }
        if reactor.is_done() && !finished {
            self.finished.notify();
        }
    }
}

impl Reactor {
    fn is_done(&self) -> bool {
        self.stream && !self.timer && self.commands.iter().all(|done| *done)
    }

    /// Whether the timer runs.
    fn has_deadline(&self) -> bool {
        self.timer && self.commands.iter().all(|done| *done)
    }

    fn deadline(&self) -> u64 {
        if self.has_deadline() { DUE } else { NEVER }
    }
}

/// The reactor's poll, its waker, the nest in the engine's poll and the engine's waker: each call one step, as the
/// system's are.
pub(crate) struct Kernel {
    state: AtomicU32,
    engine: Parker,
    caller: Parker,
}

/// Something in the reactor's poll is ready.
const READY: u32 = 1;
/// The stream holds something.
const DATA: u32 = 2;
/// The nest is armed.
const ARMED: u32 = 4;
/// The nest has not reported since the last edge.
const EDGE: u32 = 8;
/// The engine was called.
const CALL: u32 = 16;
/// The engine was asked to check the lease from now on.
const WATCH: u32 = 32;
const STOP: u32 = 64;
/// The deadline has passed.
const STRUCK: u32 = 128;
/// In an answer: the deadline that the engine knows of has passed.
const EXPIRED: u32 = STRUCK;
/// In an answer: the engine is to give the socket a turn.
const TURN: u32 = CALL;

impl Kernel {
    fn new() -> Kernel {
        Kernel { state: AtomicU32::new(ARMED), engine: Parker::new(), caller: Parker::new() }
    }

    /// The reactor's poll becomes ready: whoever sleeps in it wakes, and the engine if the nest is armed.
    fn ready(&self) {
        self.edge(READY | EDGE);
    }

    fn readable(&self) {
        self.edge(READY | EDGE | DATA);
    }

    fn edge(&self, bits: u32) {
        if self.state.fetch_or(bits, Ordering::AcqRel) & ARMED != 0 {
            self.engine.notify();
        }
        self.caller.notify();
    }

    fn strike(&self) {
        self.tell(STRUCK);
    }

    fn has_struck(&self) -> bool {
        self.state.load(Ordering::Acquire) & STRUCK != 0
    }

    /// Reads the stream empty.
    fn read(&self) -> bool {
        self.state.fetch_and(!DATA, Ordering::AcqRel) & DATA != 0
    }

    /// Polls without sleeping.
    fn poll(&self) -> bool {
        self.state.fetch_and(!READY, Ordering::AcqRel) & READY != 0
    }

    /// Polls until something is ready.
    fn sleep(&self) -> bool {
        while !self.poll() {
            self.caller.park(None);
        }
        true
    }

    pub(crate) fn arm(&self) {
        if self.state.fetch_or(ARMED | EDGE, Ordering::AcqRel) & READY != 0 {
            self.engine.notify();
        }
    }

    pub(crate) fn disarm(&self) {
        self.state.fetch_and(!ARMED, Ordering::AcqRel);
    }

    pub(crate) fn call(&self) {
        self.tell(CALL);
    }

    pub(crate) fn watch(&self) {
        self.tell(WATCH | CALL);
    }

    fn tell(&self, bits: u32) {
        self.state.fetch_or(bits, Ordering::AcqRel);
        self.engine.notify();
    }

    /// The engine's poll: sleeps until there is something, or until the deadline, or, with a lease to check, for a
    /// moment.
    fn next(&self, check: bool, deadline: bool) -> u32 {
        loop {
            let state = self.state.fetch_and(!(CALL | WATCH | EDGE), Ordering::AcqRel);
            let nest = READY | ARMED | EDGE;
            let turn = if state & nest == nest { TURN } else { 0 };
            let expired = if deadline { state & STRUCK } else { 0 };
            let events = state & (CALL | WATCH | STOP) | turn | expired;
            if events != 0 {
                return events;
            }
            if check {
                loom::thread::yield_now();
                return events;
            }
            self.engine.park(None);
        }
    }
}
