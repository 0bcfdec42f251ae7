//! A socket's door to its reactor: commands go in, rings wake whoever drives, and a waiting caller takes the driver's seat.

use super::answers::Answers;
use super::contain::contain;
use super::listener::SharedListener;
use super::reactor::{Linger, Reactor, Sources, Stint, Turns, WAKER, look_up};
use super::shortage::Promise;
use super::signal::Signal;
use super::thread::Engine;
use super::{EndpointId, Host, Settings};
use crate::event::Cause;
use crate::peer::PeerId;
use crate::slab::Key;
use mio::{Poll, Waker};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    },
    /// A name was looked up.
    Resolved { dialer: Key, addresses: io::Result<Vec<String>> },
    /// The application has caught up with a peer: read from it again.
    Resume(PeerId),
    /// The context's budget has room again: connections within a long message may be read again.
    GoOn,
    /// Close the connection of a peer.
    Drop { peer: PeerId, cause: Cause },
    /// Close an endpoint, or all of them, once its messages are written or it has lingered long enough.
    End { scope: Option<EndpointId>, linger: Linger },
    /// Descriptors are short: attempts of endpoints that are being closed make way. Whoever needs one waits for the promise.
    MakeWay(Promise),
    /// Code that ran for the socket outside of a round panicked.
    Fail(Arc<str>),
}

/// One per socket.
pub(crate) struct Port {
    engine: Arc<Engine>,
    /// Which engine threads may drive, a bit each; 0 is all.
    affinity: u64,
    signal: Signal,
    /// What the reactor has been told and has not done; `None` once there is no reactor any more.
    commands: Mutex<Option<Vec<Command>>>,
    /// Made with the first stream or listener: a socket that has neither has no descriptor.
    seat: OnceLock<Seat>,
    /// Serialises the making of the seat.
    making: Mutex<()>,
    /// The deadline the engine knows of, in nanoseconds since its start.
    published: AtomicU64,
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
    /// A caller keeps coming back so quickly that the nest stays disarmed meanwhile; the engine looks in now and then. Changed
    /// only by whoever holds the reactor.
    lent: AtomicBool,
    /// The engine has it on its list of seats on loan.
    patrolled: AtomicBool,
    /// A caller drives.
    occupied: AtomicBool,
    /// How often callers have left, and how often they had when the engine last looked.
    visits: AtomicU64,
    seen: AtomicU64,
    /// The engine has looked once since the last visit.
    late: AtomicBool,
    /// Nobody came: the engine does a whole turn before it lends the seat again.
    overdue: AtomicBool,
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
            lent: AtomicBool::new(false),
            patrolled: AtomicBool::new(false),
            occupied: AtomicBool::new(false),
            visits: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            late: AtomicBool::new(false),
            overdue: AtomicBool::new(false),
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

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;

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
            signal: Signal::default(),
            commands: Mutex::new(Some(Vec::new())),
            seat: OnceLock::new(),
            making: Mutex::new(()),
            published: AtomicU64::new(NEVER),
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
        // Nobody else can have set it: `making` is held.
        let _ = self.seat.set(seat);
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
        let promise = self.seat.get().and_then(|seat| seat.lock_returns().take());
        drop(promise);
    }

    /// Whether the socket is closed and lives with the engine.
    pub(crate) fn has_moved_in(&self) -> bool {
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

    /// Whether a caller has left the seat and is expected back so soon that what there is to do may wait for it. The engine sees
    /// to it if the caller stays away.
    pub(crate) fn awaits_caller(&self) -> bool {
        let seat = self.seat.get();
        seat.is_some_and(|seat| seat.lent.load(Ordering::SeqCst) && !seat.occupied.load(Ordering::SeqCst))
    }

    /// Says that there is work for whoever drives; wakes somebody if nobody is awake, and says whether it had to.
    #[inline(always)]
    pub(crate) fn ring(&self) -> bool {
        let asleep = self.signal.ring();
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
            Some(_) if seat.lent.load(Ordering::SeqCst) && !seat.occupied.load(Ordering::SeqCst) => {
                self.engine.call(seat.number);
            }
            // Fails only if the descriptor is bad, which it is not; a saturated counter is a wake as well.
            Some(waker) => {
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
        let mut guard = match seat.reactor.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Drive::Taken,
        };
        // It may have moved in with the engine at this moment.
        let Some(reactor) = guard.as_mut().filter(|reactor| reactor.has_own_poll()) else { return Drive::Taken };
        seat.occupied.store(true, Ordering::SeqCst);
        let begun = Instant::now();
        reactor.habit.note(begun);
        let look = match pace {
            Pace::Expect => reactor.habit.answers.look(),
            Pace::Spin(spin) => spin,
            Pace::Look | Pace::Sleep => Duration::ZERO,
        };
        if !seat.lent.load(Ordering::SeqCst) {
            seat.disarm();
        }
        let mut look_until = None;
        let mut looked = false;
        let mut slept = false;
        let outcome = contain(|| {
            // A visit that finds what it came for among what is known to be ready never sleeps in the poll: others may have become ready.
            if reactor.is_busy() && reactor.habit.is_poll_due(begun) {
                let _ = reactor.wait(Some(Duration::ZERO));
            }
            loop {
                self.signal.start();
                reactor.round(host, Turns::CALLER, &mut Stint::default());
                if let Some(panic) = reactor.panicked.take() {
                    break Err(panic);
                }
                if done() {
                    break Ok(Drive::Done);
                }
                if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    break Ok(Drive::TimedOut);
                }
                let timeout = match pace {
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
                            if reactor.is_busy() && !self.signal.has_work() && !reactor.habit.is_poll_due(now) {
                                continue;
                            }
                            Some(Duration::ZERO)
                        }
                    }
                };
                if timeout != Some(Duration::ZERO) && !self.signal.rest() {
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
    pub(crate) fn engine_turn(&self, host: &dyn Host) -> Turn {
        let Some(seat) = self.seat.get() else { return Turn::Idle(None) };
        let mut guard = match seat.reactor.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Only the engine drives. A caller that came late sees that and goes.
            Err(TryLockError::WouldBlock) if !seat.nested.load(Ordering::SeqCst) => {
                seat.reactor.lock().unwrap_or_else(PoisonError::into_inner)
            }
            Err(TryLockError::WouldBlock) => {
                // Whoever holds it asks for misses after unlocking: one of the two sees the other.
                self.signal.miss();
                match seat.reactor.try_lock() {
                    Ok(guard) => guard,
                    Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                    Err(TryLockError::WouldBlock) => {
                        let mut deadline = self.published.load(Ordering::SeqCst);
                        // One that has passed is for whoever drives, who publishes the next when leaving.
                        if deadline <= self.engine.nanos(Instant::now()) {
                            deadline = NEVER;
                            self.published.store(NEVER, Ordering::SeqCst);
                        }
                        return Turn::Held(self.engine.instant(deadline));
                    }
                }
            }
        };
        let Some(reactor) = guard.as_mut() else { return Turn::Idle(None) };
        let outcome = contain(|| {
            let waited = host.has_waiters();
            if waited && seat.lent.load(Ordering::SeqCst) {
                // Whoever waits on the list hears of the next arrival only if the nest does.
                seat.take_back();
            }
            let overdue = seat.overdue.swap(false, Ordering::SeqCst);
            let lending = seat.nested.load(Ordering::Relaxed) && !waited && !overdue && host.will_return();
            let turns = if lending { Turns::NONE } else { Turns::ENGINE };
            let mut stint = Stint::default();
            host.await_burst();
            let busy = loop {
                self.signal.start();
                // Fails only for a signal, which concerns nobody here.
                let _ = reactor.wait(Some(Duration::ZERO));
                reactor.round(host, turns, &mut stint);
                if let Some(panic) = reactor.panicked.take() {
                    return Err(panic);
                }
                let busy = reactor.is_busy();
                if reactor.finished || lending || (!busy && self.signal.rest()) {
                    break busy;
                }
                if stint.is_over() {
                    break true;
                }
            };
            // What the flush could not write waits for the kernel, and only who asks the poll hears of that.
            let returns = lending && host.will_return();
            if lending && !returns {
                seat.take_back();
            }
            if reactor.may_move_in() && !reactor.finished && self.move_in(seat, reactor, host) {
                return Ok((true, false));
            }
            Ok((busy, returns))
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
        let deadline = reactor.deadline();
        self.published.store(deadline.map_or(NEVER, |deadline| self.engine.nanos(deadline)), Ordering::SeqCst);
        if lending {
            return self.lend(seat, guard, host, deadline);
        }
        let left = self.signal.leave() | busy;
        drop(guard);
        // Read in any case, so that a miss is not left standing.
        let missed = self.signal.missed();
        if left || missed { Turn::Again(deadline) } else { Turn::Idle(deadline) }
    }

    /// The engine leaves what there is to read to a caller that is about to come for it, and looks again later.
    fn lend(
        &self,
        seat: &Seat,
        guard: MutexGuard<'_, Option<Reactor>>,
        host: &dyn Host,
        deadline: Option<Instant>,
    ) -> Turn {
        if !seat.lent.swap(true, Ordering::SeqCst) {
            seat.disarm();
        }
        seat.seen.store(seat.visits.load(Ordering::Relaxed), Ordering::Relaxed);
        seat.late.store(false, Ordering::Relaxed);
        // Asked after the loan is known: who joins those who wait asks for the loan after that, so one of us sees the other.
        let waited = host.has_waiters();
        if waited {
            seat.take_back();
        }
        // A ring before the loan was known went to a poll nobody asks any more; one after it calls the engine.
        let left = self.signal.leave() | guard.as_ref().is_some_and(Reactor::has_backlog);
        drop(guard);
        let missed = self.signal.missed();
        if waited {
            return Turn::Again(deadline);
        }
        seat.patrolled.store(true, Ordering::SeqCst);
        Turn::Lent { deadline, again: left || missed }
    }

    /// Leaves the seat: hands everything that is left to the engine, or keeps it for the next visit if that is near.
    fn leave(&self, seat: &Seat, guard: MutexGuard<'_, Option<Reactor>>, host: &dyn Host) {
        let mut regular = false;
        seat.visits.fetch_add(1, Ordering::Relaxed);
        seat.occupied.store(false, Ordering::SeqCst);
        let mut left = self.signal.leave();
        if let Some(reactor) = guard.as_ref() {
            if reactor.finished {
                self.finish(seat, guard);
                host.finished();
                return;
            }
            // Only the engine can let it move in.
            left |= reactor.may_move_in();
            if reactor.habit.is_regular() || (seat.lent.load(Ordering::SeqCst) && host.will_return()) {
                let first = !seat.lent.swap(true, Ordering::SeqCst);
                // A ring in between went to a poll nobody asks any more.
                left |= first && self.signal.has_work();
                // Others who wait need somebody to drive while this caller is away. As in `lend`, asked after the loan is known.
                regular = !host.has_waiters();
            }
            left |= reactor.is_busy() && !regular;
            let deadline = reactor.deadline().map_or(NEVER, |deadline| self.engine.nanos(deadline));
            if deadline < self.published.load(Ordering::SeqCst) {
                self.published.store(deadline, Ordering::SeqCst);
                self.engine.call(seat.number);
            }
        }
        if !regular {
            seat.take_back();
            // As long as the loan was known, senders may have left something to the next visit.
            left |= host.has_dirty();
        }
        drop(guard);
        if regular && !seat.patrolled.swap(true, Ordering::SeqCst) {
            self.engine.patrol(seat.number);
        }
        // While the seat is on loan, the patrol is turn enough for an engine that came while it was taken: a call would come at such a
        // time again, and so after each visit. But it may have come for somebody who waits, and joined those after the look at them.
        let missed = self.signal.missed() && (!regular || host.has_waiters());
        if missed || left {
            // A call rather than a ring: the list that is left is the reactor's own, which a ring does not speak of.
            self.engine.call(seat.number);
        }
    }

    /// Called by whoever has joined those who wait: a seat on loan that nobody sits in is no good to them, so the engine drives again.
    pub(crate) fn attend(&self) {
        let Some(seat) = self.seat.get() else { return };
        if seat.lent.load(Ordering::SeqCst) && !seat.occupied.load(Ordering::SeqCst) {
            self.engine.call(seat.number);
        }
    }

    /// The engine looks whether a caller that has the seat on loan still comes back; whether to look again.
    pub(crate) fn patrol(&self, host: &dyn Host) -> Patrol {
        let Some(seat) = self.seat.get() else { return Patrol::Over };
        let visits = seat.visits.load(Ordering::Relaxed);
        let came = seat.seen.swap(visits, Ordering::Relaxed) != visits;
        // A pace that promises a visit is believed for one round: what the application takes may come from elsewhere.
        let expected = || !seat.late.load(Ordering::Relaxed) && !host.has_dirty() && host.will_return();
        if seat.lent.load(Ordering::SeqCst) && !host.has_waiters() && (came || expected()) {
            seat.late.store(!came, Ordering::Relaxed);
            return Patrol::Again;
        }
        // Taken away before the look at the seat: whoever is inside registers again after leaving it, so one of us sees the other.
        seat.patrolled.swap(false, Ordering::SeqCst);
        match seat.reactor.try_lock() {
            Ok(_) | Err(TryLockError::Poisoned(_)) if seat.lent.swap(false, Ordering::SeqCst) => {
                seat.overdue.store(true, Ordering::SeqCst);
                seat.arm();
                Patrol::TakeOver
            }
            Ok(_) | Err(_) => Patrol::Over,
        }
    }

    /// A closed socket needs no poll of its own: nobody will drive it but an engine thread, in whose poll its connections have room.
    /// So where it waits for a peer that is not there, it holds no descriptor.
    fn move_in(&self, seat: &Seat, reactor: &mut Reactor, host: &dyn Host) -> bool {
        let Ok((registry, prefix)) = self.engine.registry(seat.number) else { return false };
        if let Some(nest) = seat.nest.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The inner poll is dropped right after; a failure leaves nothing behind.
            let _ = nest.detach();
        }
        seat.lent.store(false, Ordering::SeqCst);
        seat.nested.store(false, Ordering::SeqCst);
        // A ring that finds no waker calls the engine; one that found it has set WORK, for which this turn looks when it leaves.
        *seat.waker.write().unwrap_or_else(PoisonError::into_inner) = None;
        reactor.move_in(host, registry, prefix);
        self.keep_promise();
        true
    }

    /// The socket is closed and nothing is left: gives the descriptors back.
    fn finish(&self, seat: &Seat, guard: MutexGuard<'_, Option<Reactor>>) {
        drop(self.dismantle(seat, guard));
        seat.waker.write().unwrap_or_else(PoisonError::into_inner).take();
        self.keep_promise();
        self.engine.release(seat.number);
    }

    /// Code that ran for the socket panicked: nothing here is to be trusted any more.
    fn fail(&self, seat: &Seat, guard: MutexGuard<'_, Option<Reactor>>, host: &dyn Host, panic: &Arc<str>) {
        seat.occupied.store(false, Ordering::SeqCst);
        seat.lent.store(false, Ordering::SeqCst);
        let reactor = self.dismantle(seat, guard);
        // Nobody drives any more, so what was left to do is nobody's.
        let _ = self.signal.leave();
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

/// What became of a seat on loan.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patrol {
    /// It is used: look again.
    Again,
    /// It is not on loan any more.
    Over,
    /// The caller did not come back: the engine drives again.
    TakeOver,
}

/// What an engine thread's turn came to.
pub(crate) enum Turn {
    /// Nothing more to do until the deadline.
    Idle(Option<Instant>),
    /// There is more to do at once.
    Again(Option<Instant>),
    /// A caller drives. It publishes an earlier deadline than this when it leaves.
    Held(Option<Instant>),
    /// A caller is expected back: look after the socket as one on loan. It may want another turn all the same.
    Lent { deadline: Option<Instant>, again: bool },
}

impl Seat {
    fn lock_returns(&self) -> MutexGuard<'_, Option<Promise>> {
        self.returns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a loan, or sees to it that there is none. Only for whoever holds the reactor.
    fn take_back(&self) {
        self.lent.store(false, Ordering::SeqCst);
        self.arm();
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
