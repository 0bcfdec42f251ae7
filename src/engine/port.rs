//! A socket's door to its reactor: commands go in, rings wake whoever drives, and a waiting caller takes the driver's
//! seat.

use super::answers::Answers;
use super::contain::contain;
use super::inside;
use super::lease::{Check, Lease, NEVER, Surroundings};
use super::listener::SharedListener;
use super::reactor::{Linger, Reactor, Sources, Stint, Turns, WAKER, look_up};
use super::shortage::Promise;
use super::thread::Engine;
use super::{EndpointId, Host, Settings};
use crate::event::Cause;
use crate::peer::PeerId;
use crate::slab::Key;
use mio::{Poll, Waker};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};
use wiremesh_transports::sys::Nest;
use wiremesh_transports::{Listener, Transport};

/// What a reactor can be told.
pub(crate) enum Command {
    /// Accept connections on a listener.
    Listen { id: EndpointId, endpoint: Arc<str>, listener: Arc<SharedListener>, settings: Arc<Settings> },
    /// Keep a connection to an address.
    Dial {
        id: EndpointId,
        endpoint: Arc<str>,
        address: Arc<str>,
        transport: Arc<dyn Transport>,
        settings: Arc<Settings>,
        peer: Option<PeerId>,
        /// The endpoint of that name and token that was closed.
        before: Option<EndpointId>,
    },
    /// A name was looked up.
    Resolved { dialer: Key, addresses: io::Result<Vec<String>> },
    /// The gate of a peer was opened, because the application has caught up with it: read from it again.
    Resume(PeerId),
    /// The context's budget has room again: connections within a long message may be read again.
    GoOn,
    /// Close the connection of a peer.
    Drop { peer: PeerId, cause: Cause },
    /// Close an endpoint, or all of them, once its messages are written or it has lingered long enough.
    End { scope: Option<EndpointId>, linger: Linger },
    /// Descriptors are short: attempts of endpoints that are being closed make way. Whoever needs one waits for the
    /// promise.
    MakeWay(Promise),
    /// Code that ran for the socket outside of a round panicked.
    Fail(Arc<str>),
}

/// One per socket.
pub(crate) struct Port {
    engine: Arc<Engine>,
    /// Which engine threads may drive, a bit each; 0 is all.
    affinity: u64,
    lease: Lease,
    /// What the reactor has been told and has not done; `None` once there is no reactor any more.
    commands: Mutex<Option<Vec<Command>>>,
    /// Made with the first stream or listener: a socket that has neither has no descriptor.
    seat: OnceLock<Seat>,
    /// Serialises the making of the seat.
    making: Mutex<()>,
}

/// The driver's seat and what is needed to call somebody to it.
struct Seat {
    reactor: Mutex<Option<Reactor>>,
    /// The reactor has a poll of its own, so that callers may drive it.
    nested: AtomicBool,
    /// Wakes that poll, and through the nest the engine if nobody drives.
    waker: RwLock<Option<Waker>>,
    nest: Mutex<Option<Nest>>,
    /// The socket is closed, and will give its descriptors back.
    returns: Mutex<Option<Promise>>,
    /// The socket's number in the engine.
    number: usize,
}

impl Seat {
    fn new(reactor: Reactor, waker: Option<Waker>, nest: Option<Nest>, number: usize) -> Seat {
        Seat {
            reactor: Mutex::new(Some(reactor)),
            nested: AtomicBool::new(waker.is_some()),
            waker: RwLock::new(waker),
            nest: Mutex::new(nest),
            returns: Mutex::new(None),
            number,
        }
    }
}

/// How regularly callers take the seat.
pub(crate) struct Habit {
    last: Option<Instant>,
    streak: u32,
    polled: Option<Instant>,
    answers: Answers,
}

impl Habit {
    pub(crate) fn new() -> Habit {
        Habit { last: None, streak: 0, polled: None, answers: Answers::new() }
    }

    /// Somebody takes the seat.
    fn note(&mut self, now: Instant) {
        let quick = self.last.is_some_and(|last| now.saturating_duration_since(last) < Habit::QUICK);
        self.streak = if quick { self.streak.saturating_add(1) } else { 0 };
        self.last = Some(now);
    }

    /// Whether the next visit is likely to come before the engine would have done anything.
    fn is_regular(&self) -> bool {
        self.streak >= 16
    }

    /// Whether a driver that does not sleep asks the poll this time.
    fn is_poll_due(&mut self, now: Instant) -> bool {
        let due = self.polled.is_none_or(|last| now.saturating_duration_since(last) > Habit::POLL);
        if due {
            self.polled = Some(now);
        }
        due
    }

    /// Visits that follow each other within this time are regular.
    const QUICK: Duration = Duration::from_micros(200);
    /// How often a driver that does not sleep asks the poll beside its streams.
    const POLL: Duration = Duration::from_micros(16);
}

/// How a caller drives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Looks once at what the kernel has, without waiting.
    Look,
    /// Sleeps until something happens.
    Sleep,
    /// Waits for the answer to what was sent: looks for it a moment before it sleeps, where that has lately paid.
    Expect,
    /// Polls without sleeping for that long first.
    Spin(Duration),
}

/// How a drive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drive {
    /// What was waited for is there.
    Done,
    /// Somebody else drives, or callers cannot drive here.
    Taken,
    /// The deadline passed.
    TimedOut,
    /// A signal came.
    Interrupted,
}

impl Port {
    pub(crate) fn new(engine: Arc<Engine>, affinity: u64) -> Port {
        Port {
            engine,
            affinity,
            lease: Lease::default(),
            commands: Mutex::new(Some(Vec::new())),
            seat: OnceLock::new(),
            making: Mutex::new(()),
        }
    }

    /// Sees to it that there is a reactor.
    ///
    /// # Errors
    /// What the system said: a poll and a waker need two descriptors, the engine's first thread needs more.
    pub(crate) fn open(&self, host: &Arc<dyn Host>) -> io::Result<()> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if self.seat.get().is_some() {
            return Ok(());
        }
        let seat = self.engine.with_descriptors(|| self.make_seat(host))?;
        let number = seat.number;
        // Nobody else can have set it: `making` is held.
        let _ = self.seat.set(seat);
        // A ring that found no seat woke nobody, and silences those after it until a driver has looked.
        self.engine.call(number);
        Ok(())
    }

    fn make_seat(&self, host: &Arc<dyn Host>) -> io::Result<Seat> {
        self.engine.start()?;
        let seat = if self.engine.nests() {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), WAKER)?;
            let number = self.engine.adopt(Arc::clone(host), self.affinity);
            match self.engine.nest(&poll, number) {
                Ok(nest) => Seat::new(Reactor::new(Sources::Own(poll), 0), Some(waker), Some(nest), number),
                Err(error) => {
                    self.engine.release(number);
                    return Err(error);
                }
            }
        } else {
            let number = self.engine.adopt(Arc::clone(host), self.affinity);
            match self.engine.registry(number) {
                Ok((registry, prefix)) => {
                    Seat::new(Reactor::new(Sources::Shared(registry), prefix), None, None, number)
                }
                Err(error) => {
                    self.engine.release(number);
                    return Err(error);
                }
            }
        };
        Ok(seat)
    }

    /// Whether there is a reactor.
    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        self.seat.get().is_some()
    }

    /// Has the reactor of a closed socket deliver what is queued, and then end.
    pub(crate) fn close(&self, linger: Linger) {
        if let Some(seat) = self.seat.get().filter(|seat| seat.nested.load(Ordering::SeqCst)) {
            *seat.lock_returns() = Some(self.engine.promise());
        }
        if !self.submit(Command::End { scope: None, linger }) {
            self.keep_promise();
        }
    }

    /// The descriptors of a closed socket are free again.
    fn keep_promise(&self) {
        if let Some(promise) = self.seat.get().and_then(|seat| seat.lock_returns().take()) {
            promise.keep();
        }
    }

    /// Whether the reactor has no poll of its own: the socket is closed and lives with the engine, or only engine
    /// threads drive.
    pub(crate) fn lives_with_engine(&self) -> bool {
        self.seat.get().is_some_and(|seat| !seat.nested.load(Ordering::SeqCst))
    }

    /// Makes something that needs descriptors; see [`Engine::with_descriptors`].
    pub(crate) fn with_descriptors<T>(&self, make: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.engine.with_descriptors(make)
    }

    /// Gives the reactor a command; whether there is one. One that is gone does nothing any more.
    pub(crate) fn submit(&self, command: Command) -> bool {
        let refused = match &mut *self.lock_commands() {
            Some(commands) => {
                commands.push(command);
                None
            }
            None => Some(command),
        };
        match refused {
            None => {
                self.ring();
                true
            }
            Some(command) => {
                forget(command);
                false
            }
        }
    }

    fn lock_commands(&self) -> MutexGuard<'_, Option<Vec<Command>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a caller has left the seat and is expected back so soon that what there is to do may wait for it. The
    /// engine sees to it if the caller stays away.
    pub(crate) fn awaits_caller(&self) -> bool {
        self.lease.is_left_to_a_caller()
    }

    /// Says that there is work for whoever drives; wakes somebody if nobody is awake, and says whether it had to.
    #[inline(always)]
    pub(crate) fn ring(&self) -> bool {
        let asleep = self.lease.ring();
        if asleep {
            self.wake();
        }
        asleep
    }

    #[inline(never)]
    fn wake(&self) {
        let Some(seat) = self.seat.get() else { return };
        match &*seat.waker.read().unwrap_or_else(PoisonError::into_inner) {
            // Nobody sleeps in the poll, and the nest that would call the engine is disarmed.
            Some(_) if self.lease.is_left_to_a_caller() => self.engine.call(seat.number),
            // Fails only if the descriptor is bad, which it is not; a saturated counter is a wake as well.
            Some(waker) => {
                if self.lease.is_left_to_the_engine() {
                    self.engine.note_call(seat.number);
                }
                let _ = waker.wake();
            }
            None => self.engine.call(seat.number),
        }
    }

    /// Moves what the reactor was told behind what it has not done yet.
    pub(crate) fn take_commands(&self, commands: &mut VecDeque<Command>) {
        if let Some(told) = self.lock_commands().as_mut() {
            commands.extend(told.drain(..));
        }
    }

    /// Sees to it that there is a descriptor in reserve for the moment when they run out, if that can be.
    pub(crate) fn hold_reserve(&self) {
        self.engine.hold_reserve();
    }

    /// Descriptors have run out: turns the connection away that waits at a listener, with the one in reserve.
    pub(crate) fn turn_away(&self, listener: &dyn Listener) {
        self.engine.turn_away(listener);
    }

    /// This thread keeps memory for its next read: an engine thread is to free it if that does not come soon.
    #[inline]
    pub(crate) fn see_to_spares(&self) {
        self.engine.see_to_spares();
    }

    /// Looks a name up elsewhere; the answer comes back as a command.
    pub(crate) fn resolve(
        &self,
        dialer: Key,
        transport: Arc<dyn Transport>,
        address: Arc<str>,
        settings: Arc<Settings>,
    ) {
        let Some(host) = self.seat.get().and_then(|seat| self.engine.host(seat.number)) else { return };
        // A look-up may take longer than the socket lives.
        let host = Arc::downgrade(&host);
        let name = format!("{}://{address} {:?}", transport.scheme(), settings.link).into();
        let look_up = move || {
            // A panic is a look-up that failed; the helper thread is needed for others.
            let addresses = contain(|| look_up(&*transport, &address, &settings));
            addresses.unwrap_or_else(|panic| Err(io::Error::other(format!("the transport panicked: {panic}"))))
        };
        self.engine.resolver().submit(name, look_up, move |addresses| {
            if let Some(host) = host.upgrade() {
                host.port().submit(Command::Resolved { dialer, addresses });
            }
        });
    }

    /// Takes the driver's seat and drives until `done`, the deadline, or a signal.
    ///
    /// `done` is asked after every round; it must not block.
    pub(crate) fn drive(
        &self,
        host: &dyn Host,
        deadline: Option<Instant>,
        pace: Pace,
        mut done: impl FnMut() -> bool,
    ) -> Drive {
        let nested = |seat: &&Seat| seat.nested.load(Ordering::Relaxed);
        let Some(seat) = self.seat.get().filter(nested) else { return Drive::Taken };
        let Some(mut guard) = seat.try_lock() else { return Drive::Taken };
        // It may have moved in with the engine at this moment.
        let Some(reactor) = guard.as_mut().filter(|reactor| reactor.has_own_poll()) else { return Drive::Taken };
        self.lease.enter(&self.around(seat, host));
        let begun = Instant::now();
        reactor.habit.note(begun);
        let look = match pace {
            Pace::Expect => reactor.habit.answers.look(),
            Pace::Spin(spin) => spin,
            Pace::Look | Pace::Sleep => Duration::ZERO,
        };
        let mut look_until = None;
        let mut looked = false;
        let mut looked_in_time = deadline.is_none();
        let mut slept = false;
        let _stay = inside::stay();
        let outcome = contain(|| {
            // A visit that finds what it came for among what is known to be ready never sleeps in the poll: others may
            // have become ready.
            if reactor.is_busy() && reactor.habit.is_poll_due(begun) {
                let _ = reactor.wait(Some(Duration::ZERO));
            }
            loop {
                self.lease.start();
                reactor.round(host, Turns::CALLER, &mut Stint::default());
                if let Some(panic) = reactor.panicked.take() {
                    break Err(panic);
                }
                if done() {
                    break Ok(Drive::Done);
                }
                let is_over = deadline.is_some_and(|deadline| deadline <= Instant::now());
                if is_over && looked_in_time {
                    break Ok(Drive::TimedOut);
                }
                let timeout = match pace {
                    // A process that was stopped looks at what came before it says that nothing did.
                    _ if is_over => {
                        looked_in_time = true;
                        Some(Duration::ZERO)
                    }
                    Pace::Look if looked => break Ok(Drive::TimedOut),
                    Pace::Look => {
                        looked = true;
                        Some(Duration::ZERO)
                    }
                    Pace::Sleep | Pace::Spin(_) | Pace::Expect if reactor.is_busy() => Some(Duration::ZERO),
                    Pace::Sleep | Pace::Spin(_) | Pace::Expect if look.is_zero() => self.sleep_time(reactor, deadline),
                    Pace::Sleep | Pace::Spin(_) | Pace::Expect => {
                        let now = Instant::now();
                        if now >= *look_until.get_or_insert_with(|| now + look) {
                            slept = true;
                            self.sleep_time(reactor, deadline)
                        } else {
                            reactor.probe();
                            match pace {
                                // A peer on the same processor answers only if it gets it.
                                Pace::Expect => std::thread::yield_now(),
                                Pace::Spin(_) | Pace::Sleep | Pace::Look => std::hint::spin_loop(),
                            }
                            // The poll itself is asked now and then: writability, newcomers and rings come through it.
                            if reactor.is_busy() && !self.lease.has_work() && !reactor.habit.is_poll_due(now) {
                                continue;
                            }
                            Some(Duration::ZERO)
                        }
                    }
                };
                if timeout != Some(Duration::ZERO) && !self.lease.rest() {
                    continue;
                }
                match reactor.wait(timeout) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => break Ok(Drive::Interrupted),
                    // A poll that fails has nobody who could help; the deadline or a ring ends the wait.
                    Err(_) => std::thread::yield_now(),
                }
            }
        });
        if let (Pace::Expect, Ok(Ok(Drive::Done | Drive::TimedOut))) = (pace, &outcome) {
            let found = matches!(outcome, Ok(Ok(Drive::Done))) && !slept;
            reactor.habit.answers.note(begun.elapsed(), (!look.is_zero()).then_some(found));
        }
        match outcome.unwrap_or_else(Err) {
            Ok(drive) => {
                self.leave(seat, guard, host);
                drive
            }
            Err(panic) => {
                self.fail(seat, guard, host, &panic);
                Drive::Taken
            }
        }
    }

    fn sleep_time(&self, reactor: &Reactor, deadline: Option<Instant>) -> Option<Duration> {
        let until = super::earlier(reactor.deadline(), deadline)?;
        Some(until.saturating_duration_since(Instant::now()).max(Duration::from_micros(1)))
    }

    /// Notes an event of a reactor without a poll of its own, which only its engine thread drives.
    pub(crate) fn note(&self, event: &mio::event::Event) {
        let Some(seat) = self.seat.get() else { return };
        if let Some(reactor) = seat.reactor.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            reactor.note(event);
        }
    }

    /// One turn of an engine thread. Says when the next one is due whatever happens, or that the reactor was held.
    /// `looked` is a moment after which the engine thread has asked its poll.
    pub(crate) fn engine_turn(&self, host: &dyn Host, looked: Instant) -> Turn {
        let Some(seat) = self.seat.get() else { return Turn::Idle(None) };
        let Some(mut guard) = self.lease.hold(|| seat.try_lock_as_engine()) else {
            let deadline = self.lease.deadline_while_held(self.engine.nanos(Instant::now()));
            return Turn::Idle(self.engine.instant(deadline));
        };
        let Some(reactor) = guard.as_mut() else { return Turn::Idle(None) };
        let around = self.around(seat, host);
        reactor.looked = Some(looked);
        let outcome = contain(|| {
            let lending = self.lease.begin_turn(&around, seat.nested.load(Ordering::Relaxed));
            let turns = if lending { Turns::NONE } else { Turns::ENGINE };
            let mut stint = Stint::until_called(self.engine.called(seat.number));
            host.await_burst();
            let busy = self.lease.rounds(lending, || {
                // Fails only for a signal, which concerns nobody here.
                let _ = reactor.wait(Some(Duration::ZERO));
                reactor.round(host, turns, &mut stint);
                (reactor.is_busy(), reactor.finished || reactor.panicked.is_some() || stint.is_over())
            });
            if let Some(panic) = reactor.panicked.take() {
                return Err(panic);
            }
            if reactor.may_move_in() && !reactor.finished && self.move_in(seat, reactor, host) {
                return Ok((true, false));
            }
            Ok((busy, lending))
        });
        let (busy, lending) = match outcome.unwrap_or_else(Err) {
            Ok(outcome) => outcome,
            Err(panic) => {
                self.fail(seat, guard, host, &panic);
                return Turn::Idle(None);
            }
        };
        if reactor.finished {
            self.finish(seat, guard);
            host.finished();
            return Turn::Idle(None);
        }
        let (deadline, backlog) = (reactor.deadline(), reactor.has_backlog());
        let outcome = self.lease.end_turn(&around, guard, lending, busy, backlog, self.nanos(deadline));
        match outcome.leased {
            true => Turn::Leased { deadline, again: outcome.again },
            false if outcome.again => Turn::Again(deadline),
            false => Turn::Idle(deadline),
        }
    }

    /// Leaves the seat: hands everything that is left to the engine, or keeps it for the next visit if that is near.
    fn leave(&self, seat: &Seat, guard: MutexGuard<'_, Option<Reactor>>, host: &dyn Host) {
        let Some(reactor) = guard.as_ref() else { return };
        if reactor.finished {
            self.finish(seat, guard);
            host.finished();
            return;
        }
        let (regular, busy, deadline) = (reactor.habit.is_regular(), reactor.is_busy(), self.nanos(reactor.deadline()));
        let may_move_in = reactor.may_move_in();
        self.lease.leave(&self.around(seat, host), guard, regular, busy, deadline);
        if may_move_in {
            // Only the engine can let it.
            self.engine.call(seat.number);
        }
    }

    fn nanos(&self, deadline: Option<Instant>) -> u64 {
        deadline.map_or(NEVER, |deadline| self.engine.nanos(deadline))
    }

    fn around<'a>(&'a self, seat: &'a Seat, host: &'a dyn Host) -> Around<'a> {
        Around { seat, engine: &self.engine, host }
    }

    /// Called by whoever has joined those who wait: a seat on loan that nobody sits in is no good to them, so the
    /// engine drives again.
    pub(crate) fn attend(&self) {
        let Some(seat) = self.seat.get() else { return };
        if self.lease.is_left_to_a_caller() {
            self.engine.call(seat.number);
        }
    }

    /// The engine looks whether a caller that has the seat on lease still comes back.
    pub(crate) fn check_lease(&self, host: &dyn Host) -> Check {
        let Some(seat) = self.seat.get() else { return Check::Over };
        self.lease.check(&self.around(seat, host), || seat.try_lock())
    }

    /// A closed socket needs no poll of its own: nobody will drive it but an engine thread, in whose poll its
    /// connections have room. So where it waits for a peer that is not there, it holds no descriptor.
    fn move_in(&self, seat: &Seat, reactor: &mut Reactor, host: &dyn Host) -> bool {
        let Ok((registry, prefix)) = self.engine.registry(seat.number) else { return false };
        if let Some(nest) = seat.nest.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The inner poll is dropped right after; a failure leaves nothing behind.
            let _ = nest.detach();
        }
        self.lease.forget_callers();
        seat.nested.store(false, Ordering::SeqCst);
        // A ring that finds no waker calls the engine; one that found it has set WORK, for which this turn looks when
        // it leaves.
        *seat.waker.write().unwrap_or_else(PoisonError::into_inner) = None;
        reactor.move_in(host, registry, prefix);
        self.keep_promise();
        true
    }

    /// The socket is closed and nothing is left: gives the descriptors back.
    fn finish(&self, seat: &Seat, guard: MutexGuard<'_, Option<Reactor>>) {
        self.lease.abandon();
        drop(self.dismantle(seat, guard));
        seat.waker.write().unwrap_or_else(PoisonError::into_inner).take();
        self.keep_promise();
        self.engine.release(seat.number);
    }

    /// Code that ran for the socket panicked: nothing here is to be trusted any more.
    fn fail(&self, seat: &Seat, guard: MutexGuard<'_, Option<Reactor>>, host: &dyn Host, panic: &Arc<str>) {
        self.lease.abandon();
        let reactor = self.dismantle(seat, guard);
        if let Some(reactor) = reactor {
            reactor.demolish();
        }
        self.keep_promise();
        host.failed(panic);
        self.engine.release(seat.number);
    }

    /// Takes the reactor off the engine and out of the seat.
    fn dismantle(&self, seat: &Seat, mut guard: MutexGuard<'_, Option<Reactor>>) -> Option<Reactor> {
        let nest = seat.nest.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(nest) = nest {
            // The inner poll is dropped right after; a failure leaves nothing behind.
            let _ = nest.detach();
        }
        let reactor = guard.take();
        let left = self.lock_commands().take();
        left.into_iter().flatten().for_each(forget);
        reactor
    }
}

/// Lets a command go that nobody will carry out: a listener in it is closed.
fn forget(command: Command) {
    let _ = contain(|| drop(command));
}

/// What an engine thread's turn came to.
pub(crate) enum Turn {
    /// Nothing more to do until the deadline; or a caller drives, who publishes an earlier one when it leaves.
    Idle(Option<Instant>),
    /// There is more to do at once.
    Again(Option<Instant>),
    /// A caller is expected back: check the lease from now on. The socket may want another turn all the same.
    Leased { deadline: Option<Instant>, again: bool },
}

/// A seat with what it stands in.
struct Around<'a> {
    seat: &'a Seat,
    engine: &'a Engine,
    host: &'a dyn Host,
}

impl Surroundings for Around<'_> {
    fn arm(&self) {
        self.seat.arm();
    }

    fn disarm(&self) {
        self.seat.disarm();
    }

    fn call(&self) {
        self.engine.call(self.seat.number);
    }

    fn watch(&self) {
        self.engine.watch(self.seat.number);
    }

    fn has_waiters(&self) -> bool {
        self.host.has_waiters()
    }

    fn has_dirty(&self) -> bool {
        self.host.has_dirty()
    }

    fn will_return(&self) -> bool {
        self.host.will_return()
    }
}

impl Seat {
    fn lock_returns(&self) -> MutexGuard<'_, Option<Promise>> {
        self.returns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an engine thread takes hold by: where only the engine drives, it waits for a caller that came late, sees
    /// that, and goes.
    fn try_lock_as_engine(&self) -> Option<MutexGuard<'_, Option<Reactor>>> {
        self.try_lock().or_else(|| {
            let alone = !self.nested.load(Ordering::SeqCst);
            alone.then(|| self.reactor.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Option<Reactor>>> {
        match self.reactor.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn arm(&self) {
        if let Some(nest) = &*self.nest.lock().unwrap_or_else(PoisonError::into_inner) {
            // Cannot fail while both polls live, which the seat sees to.
            let _ = nest.arm();
        }
    }

    fn disarm(&self) {
        if let Some(nest) = &*self.nest.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = nest.disarm();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::thread::EngineOptions;

    struct Nothing;

    impl Surroundings for Nothing {
        fn arm(&self) {}

        fn disarm(&self) {}

        fn call(&self) {}

        fn watch(&self) {}

        fn has_waiters(&self) -> bool {
            false
        }

        fn has_dirty(&self) -> bool {
            false
        }

        fn will_return(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_ring_calls_no_engine_thread_where_a_caller_has_the_seat_or_is_expected() {
        let lease = Lease::default();
        assert!(lease.is_left_to_the_engine());
        for is_regular in [false, true] {
            lease.enter(&Nothing);
            assert!(!lease.is_left_to_the_engine());
            lease.leave(&Nothing, (), is_regular, false, NEVER);
            assert_eq!(lease.is_left_to_the_engine(), !is_regular);
        }
    }

    #[test]
    fn a_command_for_a_reactor_that_is_gone_is_let_go() {
        let options = EngineOptions { threads: 1, name: String::new(), affinity: Vec::new(), engine_only: false };
        let port = Port::new(Engine::new(options), 0);
        let panic: Arc<str> = "told".into();
        port.submit(Command::Fail(Arc::clone(&panic)));
        assert_eq!(Arc::strong_count(&panic), 2, "the first reactor will hear of it");
        port.lock_commands().take().into_iter().flatten().for_each(forget);
        port.submit(Command::Fail(Arc::clone(&panic)));
        assert_eq!(Arc::strong_count(&panic), 1);
    }
}
