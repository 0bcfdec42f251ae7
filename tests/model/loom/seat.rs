//! The driver's seat of `engine/port.rs` around the shipped hand-over word: a try-lock, a nested poll, a caller and an engine
//! thread. Steps that touch shared state come in the order they have there.

use crate::parker::Parker;
use crate::signal::Signal;
use crate::sync::{AtomicU32, Mutex, MutexGuard, Ordering, fence};
use loom::sync::atomic::AtomicBool;

/// The hand-over word, or a weakened one.
pub(crate) trait Word: Default + Send + Sync + 'static {
    fn ring(&self) -> bool;
    fn start(&self);
    fn has_work(&self) -> bool;
    fn rest(&self) -> bool;
    fn leave(&self) -> bool;
    fn miss(&self);
    fn missed(&self) -> bool;
}

macro_rules! word {
    ($signal:ty) => {
        impl Word for $signal {
            fn ring(&self) -> bool {
                self.ring()
            }
            fn start(&self) {
                self.start();
            }
            fn has_work(&self) -> bool {
                self.has_work()
            }
            fn rest(&self) -> bool {
                self.rest()
            }
            fn leave(&self) -> bool {
                self.leave()
            }
            fn miss(&self) {
                self.miss();
            }
            fn missed(&self) -> bool {
                self.missed()
            }
        }
    };
}

word!(Signal);
word!(crate::unordered::signal::Signal);

/// The word with one thing done wrong.
#[derive(Default)]
pub(crate) struct Weakened<const FLAW: u8> {
    word: Signal,
    missed: AtomicBool,
}

/// It sees that there is no work and says that it sleeps, in two steps.
pub(crate) const RESTS_IN_TWO_STEPS: u8 = 0;
/// Whoever leaves does not learn that work was left.
pub(crate) const LEAVES_SILENTLY: u8 = 1;
/// Nothing tells that the engine found the seat held.
pub(crate) const TELLS_OF_NO_MISS: u8 = 2;
/// Whether there was a miss is asked with a load, to save the write.
pub(crate) const ASKS_WITH_A_LOAD: u8 = 3;

impl<const FLAW: u8> Word for Weakened<FLAW> {
    fn ring(&self) -> bool {
        self.word.ring()
    }

    fn start(&self) {
        self.word.start();
    }

    fn has_work(&self) -> bool {
        self.word.has_work()
    }

    fn rest(&self) -> bool {
        if FLAW != RESTS_IN_TWO_STEPS {
            return self.word.rest();
        }
        let rests = !self.word.has_work();
        if rests {
            let _ = self.word.leave();
        }
        rests
    }

    fn leave(&self) -> bool {
        self.word.leave() && FLAW != LEAVES_SILENTLY
    }

    fn miss(&self) {
        match FLAW {
            TELLS_OF_NO_MISS => {}
            ASKS_WITH_A_LOAD => drop(self.missed.swap(true, Ordering::SeqCst)),
            _ => self.word.miss(),
        }
    }

    fn missed(&self) -> bool {
        if FLAW == ASKS_WITH_A_LOAD {
            return self.missed.load(Ordering::SeqCst) && self.missed.swap(false, Ordering::SeqCst);
        }
        self.word.missed()
    }
}

/// What the seat does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The engine says that it missed the seat and does not try again.
    NoSecondTry,
    /// Whoever leaves asks for a miss while still holding the seat.
    AsksBeforeUnlocking,
    /// A driver says that it looks after it has looked.
    StartsTooLate,
    /// The engine gives up its patrol of a seat on loan after it found it held, not before it looked.
    GivesUpTooLate,
    /// The engine does not ask what was left when it lends the seat.
    LendsSilently,
    /// The engine does not look after a seat that it has lent.
    LendsUnseen,
    /// Whoever lends the seat, or keeps it on loan, asks whether others wait before the loan is known, and not after.
    AsksBeforeLending,
    /// A caller that joins those who wait does not ask whether the seat is on loan.
    WaitsUnattended,
    /// Whoever ends a loan does not ask what senders have left to the caller meanwhile.
    LeavesUnflushed,
    /// Whoever keeps the seat on loan does not have the engine look after it.
    LeavesUnseen,
    /// Whoever keeps the seat on loan takes no miss for that of somebody who waits.
    MissesWaiters,
    /// Whoever leaves does not tell the engine of an earlier deadline than it knows of.
    KeepsDeadline,
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
pub(crate) struct World<W> {
    word: W,
    fault: Fault,
    seat: Mutex<Reactor>,
    kernel: Kernel,
    /// The command list. Only the word orders it, as only the word tells when to look.
    commands: Vec<AtomicBool>,
    occupied: AtomicBool,
    lent: AtomicBool,
    patrolled: AtomicBool,
    visits: AtomicU32,
    /// How often callers had left when the engine last looked.
    seen: AtomicU32,
    /// How many are on the list of those who wait.
    waiting: AtomicU32,
    /// How often the engine still hears that a caller will return. Not part of the model: it may be right or wrong at any time.
    returns: std::sync::atomic::AtomicU32,
    /// Whether the engine looks after seats on loan; without it, what must not wait for a patrol is found.
    patrols: bool,
    /// The send gate: what is queued, and whether its sender relies on a caller for the flush, is one step.
    gate: Mutex<()>,
    /// The first command is a message: it is looked for in every round under the gate, rung or not.
    sends: bool,
    /// The engine has been told of the timer's deadline.
    published: AtomicBool,
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

impl<W: Word> World<W> {
    /// A world with so many commands to come, and with a stream that will become readable or without one.
    pub(crate) fn new(fault: Fault, commands: usize, stream: bool) -> World<W> {
        World {
            word: W::default(),
            fault,
            seat: Mutex::new(Reactor { ready: false, commands: vec![false; commands], stream: !stream, timer: false }),
            kernel: Kernel::new(),
            commands: (0..commands).map(|_| AtomicBool::new(false)).collect(),
            occupied: AtomicBool::new(false),
            lent: AtomicBool::new(false),
            patrolled: AtomicBool::new(false),
            visits: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            returns: std::sync::atomic::AtomicU32::new(0),
            patrols: true,
            gate: Mutex::new(()),
            sends: false,
            published: AtomicBool::new(false),
            finished: Parker::new(),
        }
    }

    /// The same world, whose engine hears so often that a caller will return.
    pub(crate) fn expecting(self, returns: u32) -> World<W> {
        World { returns: std::sync::atomic::AtomicU32::new(returns), ..self }
    }

    /// The same world, in which a patrol has been asked for before and comes later than anybody can wait.
    pub(crate) fn without_patrols(self) -> World<W> {
        World { patrols: false, patrolled: AtomicBool::new(true), ..self }
    }

    /// A world with a message to be sent.
    pub(crate) fn sending(fault: Fault) -> World<W> {
        World { sends: true, ..World::new(fault, 1, false) }
    }

    /// A world with a command that sets a timer.
    pub(crate) fn timed(fault: Fault) -> World<W> {
        let mut world = World::new(fault, 1, false);
        world.seat = Mutex::new(Reactor { ready: false, commands: vec![false], stream: true, timer: true });
        world
    }

    fn will_return(&self) -> bool {
        let left = self.returns.load(Ordering::Relaxed);
        self.returns.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }

    fn has_waiters(&self) -> bool {
        // Loom takes sequentially consistent accesses for weaker ones; the fence says what they are.
        fence(Ordering::SeqCst);
        self.waiting.load(Ordering::SeqCst) > 0
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
            self.lent.load(Ordering::SeqCst) && !self.occupied.load(Ordering::SeqCst)
        };
        if !deferred {
            self.ring();
        }
    }

    fn ring(&self) {
        if self.word.ring() {
            if self.lent.load(Ordering::SeqCst) && !self.occupied.load(Ordering::SeqCst) {
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
        self.occupied.store(true, Ordering::SeqCst);
        if !self.lent.load(Ordering::SeqCst) {
            self.kernel.disarm();
        }
        loop {
            self.start_and(|| self.round(&mut reactor));
            match visit {
                Visit::Short => break,
                Visit::Disturbed => {
                    reactor.ready |= self.kernel.poll();
                    break;
                }
                Visit::Patient if reactor.is_done() => break,
                Visit::Patient => {}
            }
            if self.word.rest() {
                reactor.ready |= self.kernel.sleep();
            }
        }
        self.leave(reactor, regular);
        true
    }

    /// Drives until everything is done, or joins those who wait if somebody else drives: the caller parks then.
    pub(crate) fn drive_or_wait(&self) {
        if self.drive(Visit::Patient, false) {
            return;
        }
        self.waiting.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.fault != Fault::WaitsUnattended {
            self.attend();
        }
    }

    fn attend(&self) {
        if self.lent.load(Ordering::SeqCst) && !self.occupied.load(Ordering::SeqCst) {
            self.kernel.call();
        }
    }

    fn leave(&self, reactor: MutexGuard<'_, Reactor>, expected: bool) {
        self.visits.fetch_add(1, Ordering::Relaxed);
        self.occupied.store(false, Ordering::SeqCst);
        let mut left = self.word.leave();
        let mut regular = expected || (self.lent.load(Ordering::SeqCst) && self.will_return());
        if self.fault == Fault::AsksBeforeLending {
            regular &= !self.has_waiters();
        }
        if regular {
            let first = !self.lent.swap(true, Ordering::SeqCst);
            left |= first && self.word.has_work();
            regular = self.fault == Fault::AsksBeforeLending || !self.has_waiters();
        }
        if self.fault != Fault::KeepsDeadline && reactor.has_deadline() && !self.published.load(Ordering::SeqCst) {
            self.published.store(true, Ordering::SeqCst);
            self.kernel.call();
        }
        if !regular {
            self.take_back();
            left |= reactor.ready;
            left |= self.fault != Fault::LeavesUnflushed && self.has_unsent(&reactor);
        }
        let early = self.fault == Fault::AsksBeforeUnlocking && self.word.missed();
        drop(reactor);
        if regular && self.fault != Fault::LeavesUnseen && !self.patrolled.swap(true, Ordering::SeqCst) {
            self.kernel.patrol();
        }
        let missed = if self.fault == Fault::AsksBeforeUnlocking { early } else { self.word.missed() };
        let missed = missed && (!regular || (self.fault != Fault::MissesWaiters && self.has_waiters()));
        if missed || left {
            self.kernel.call();
        }
    }

    fn has_unsent(&self, reactor: &Reactor) -> bool {
        self.sends && {
            let _gate = self.gate.lock();
            self.commands[0].load(Ordering::Relaxed) && !reactor.commands[0]
        }
    }

    fn take_back(&self) {
        self.lent.store(false, Ordering::SeqCst);
        self.kernel.arm();
    }

    // ----- the engine thread -----

    /// Runs until [`stop`](World::stop).
    pub(crate) fn engine(&self) {
        let (mut lent, mut deadline) = (false, false);
        loop {
            let event = self.kernel.next(lent && self.patrols, deadline);
            lent |= event & PATROL != 0;
            if event & STOP != 0 {
                return;
            }
            if event & EXPIRED != 0 {
                deadline = false;
            }
            if event & (TURN | EXPIRED) != 0 {
                lent |= self.turns(&mut deadline);
            }
            if lent && self.patrols {
                lent = self.look_after(&mut deadline);
            }
        }
    }

    /// Turns until there is no more to do at once; whether the seat is on loan then.
    fn turns(&self, deadline: &mut bool) -> bool {
        let mut lent = false;
        loop {
            let turn = self.engine_turn();
            *deadline = turn.deadline;
            lent |= turn.lent && self.fault != Fault::LendsUnseen;
            if !turn.again {
                return lent;
            }
        }
    }

    fn engine_turn(&self) -> Turn {
        let held = || Turn { again: false, lent: false, deadline: self.deadline_while_held() };
        let mut reactor = match self.seat.try_lock() {
            Some(reactor) => reactor,
            None => {
                self.word.miss();
                if self.fault == Fault::NoSecondTry {
                    return held();
                }
                match self.seat.try_lock() {
                    Some(reactor) => reactor,
                    None => return held(),
                }
            }
        };
        let waited = self.has_waiters();
        if waited && self.lent.load(Ordering::SeqCst) {
            self.take_back();
        }
        let lending = !waited && self.will_return();
        let mut busy = true;
        for _ in 0..2 {
            self.start_and(|| {
                reactor.ready |= self.kernel.poll();
                if lending {
                    self.obey(&mut reactor);
                } else {
                    self.round(&mut reactor);
                }
            });
            busy = reactor.ready;
            if lending || (!busy && self.word.rest()) {
                break;
            }
            busy = true;
        }
        let deadline = reactor.has_deadline();
        self.published.store(deadline, Ordering::SeqCst);
        let lent = lending && self.lend();
        let left = self.word.leave() | (busy && !lent);
        drop(reactor);
        let missed = self.word.missed();
        if lent {
            self.patrolled.store(true, Ordering::SeqCst);
        }
        Turn { again: (left && !(lent && self.fault == Fault::LendsSilently)) || missed, lent, deadline }
    }

    /// The deadline that the engine keeps although somebody else drives.
    fn deadline_while_held(&self) -> bool {
        let mut deadline = self.published.load(Ordering::SeqCst);
        if deadline && self.kernel.has_struck() {
            deadline = false;
            self.published.store(false, Ordering::SeqCst);
        }
        deadline
    }

    /// Whether the seat is on loan now.
    fn lend(&self) -> bool {
        if !self.lent.swap(true, Ordering::SeqCst) {
            self.kernel.disarm();
        }
        self.seen.store(self.visits.load(Ordering::Relaxed), Ordering::Relaxed);
        if self.fault != Fault::AsksBeforeLending && self.has_waiters() {
            self.take_back();
            return false;
        }
        true
    }

    /// `patrol` of the port and of the engine; whether to look again.
    fn look_after(&self, deadline: &mut bool) -> bool {
        let visits = self.visits.load(Ordering::Relaxed);
        let came = self.seen.swap(visits, Ordering::Relaxed) != visits;
        if self.lent.load(Ordering::SeqCst) && !self.has_waiters() && (came || self.will_return()) {
            return true;
        }
        if self.fault != Fault::GivesUpTooLate {
            self.patrolled.swap(false, Ordering::SeqCst);
        }
        let reactor = self.seat.try_lock();
        if self.fault == Fault::GivesUpTooLate {
            self.patrolled.swap(false, Ordering::SeqCst);
        }
        if reactor.is_some() && self.lent.swap(false, Ordering::SeqCst) {
            self.kernel.arm();
            drop(reactor);
            return self.turns(deadline);
        }
        false
    }

    pub(crate) fn stop(&self) {
        self.kernel.tell(STOP);
    }

    // ----- what a driver does -----

    fn start_and(&self, look: impl FnOnce()) {
        if self.fault == Fault::StartsTooLate {
            look();
            self.word.start();
        } else {
            self.word.start();
            look();
        }
    }

    /// A round that leaves what there is to read to others.
    fn obey(&self, reactor: &mut Reactor) {
        let finished = reactor.is_done();
        let _gate = self.sends.then(|| self.gate.lock());
        for (published, done) in self.commands.iter().zip(&mut reactor.commands) {
            *done = *done || published.load(Ordering::Relaxed);
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

/// What an engine's turn came to.
struct Turn {
    /// There is more to do at once.
    again: bool,
    /// The seat was lent.
    lent: bool,
    /// It is due whatever happens once the clock strikes.
    deadline: bool,
}

impl Reactor {
    fn is_done(&self) -> bool {
        self.stream && !self.timer && self.commands.iter().all(|done| *done)
    }

    /// Whether the timer runs.
    fn has_deadline(&self) -> bool {
        self.timer && self.commands.iter().all(|done| *done)
    }
}

/// The reactor's poll, its waker, the nest in the engine's poll and the engine's waker: each call one step, as the system's
/// are.
struct Kernel {
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
/// The engine was asked to look after a seat on loan.
const PATROL: u32 = 32;
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

    fn arm(&self) {
        if self.state.fetch_or(ARMED | EDGE, Ordering::AcqRel) & READY != 0 {
            self.engine.notify();
        }
    }

    fn disarm(&self) {
        self.state.fetch_and(!ARMED, Ordering::AcqRel);
    }

    fn call(&self) {
        self.tell(CALL);
    }

    fn patrol(&self) {
        self.tell(PATROL | CALL);
    }

    fn tell(&self, bits: u32) {
        self.state.fetch_or(bits, Ordering::AcqRel);
        self.engine.notify();
    }

    /// The engine's poll: sleeps until there is something, or until the deadline, or, with a patrol to make, for a moment.
    fn next(&self, patrol: bool, deadline: bool) -> u32 {
        loop {
            let state = self.state.fetch_and(!(CALL | PATROL | EDGE), Ordering::AcqRel);
            let nest = READY | ARMED | EDGE;
            let turn = if state & nest == nest { TURN } else { 0 };
            let expired = if deadline { state & STRUCK } else { 0 };
            let events = state & (CALL | PATROL | STOP) | turn | expired;
            if events != 0 {
                return events;
            }
            if patrol {
                loom::thread::yield_now();
                return events;
            }
            self.engine.park(None);
        }
    }
}
