//! Who drives a reactor, who is called when nobody does, and what a driver that leaves owes to the next one.
//!
//! A reactor's seat is in one of four states. In `ENGINE` the engine's poll reports the reactor's, and the engine
//! drives. In `CALLER` a caller drives and the report is off. In `LEASED` the report stays off although nobody drives,
//! because a caller is expected back within microseconds: senders may leave a flush to it, and the engine checks every
//! millisecond that it does come back. The fourth is a caller in a leased seat. Only whoever holds the reactor changes
//! the state.
//!
//! Each way out of a lease goes through [`end`](Lease::end), which tells what senders have left to it meanwhile.
//!
//! Like the hand-over word, this file is explored as it is by `tests/model/loom.rs`, and again with single lines of it
//! changed, each of which must fail there (`tests/model/loom/mutants.txt`).

use super::signal::Signal;
use super::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What a seat stands in.
pub(crate) trait Surroundings {
    /// Lets the engine's poll report the reactor's: at once if something is ready there.
    fn arm(&self);
    /// Stops that.
    fn disarm(&self);
    /// Asks the engine for a turn.
    fn call(&self);
    /// Asks the engine to [`check`](Lease::check) the lease from now on.
    fn watch(&self);
    /// Returns true if threads wait on the socket without driving.
    fn has_waiters(&self) -> bool;
    /// Returns true if something is to be flushed.
    fn has_dirty(&self) -> bool;
    /// Returns true if a caller is likely to drive soon.
    fn will_return(&self) -> bool;
}

const ENGINE: u32 = 0;
const CALLER: u32 = 1;
const LEASED: u32 = 2;

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;

/// See the module.
pub(crate) struct Lease {
    signal: Signal,
    state: AtomicU32,
    /// The engine checks the lease.
    watched: AtomicBool,
    /// How often callers have left, and how often they had at the engine's last check.
    visits: AtomicU64,
    seen: AtomicU64,
    /// One check has found no visit.
    late: AtomicBool,
    /// Nobody came: the engine does a whole turn before it leases the seat again.
    overdue: AtomicBool,
    /// The deadline that the engine knows of, in its own count of nanoseconds.
    published: AtomicU64,
}

/// What an engine's turn came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// The seat is leased: the engine is to check it.
    pub(crate) leased: bool,
    /// There is more to do at once.
    pub(crate) again: bool,
}

/// What a check of a lease came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// The seat is used: check again.
    Again,
    /// There is no lease any more.
    Over,
    /// The caller did not come back: the engine drives again.
    TakeOver,
}

impl Default for Lease {
    fn default() -> Lease {
        Lease {
            signal: Signal::default(),
            state: AtomicU32::new(ENGINE),
            watched: AtomicBool::new(false),
            visits: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            late: AtomicBool::new(false),
            overdue: AtomicBool::new(false),
            published: AtomicU64::new(NEVER),
        }
    }
}

/// What everybody may ask.
impl Lease {
    /// Says that work was published. If `true`, wake the reactor's poll, or [`call`](Surroundings::call) if the seat
    /// [is left to a caller](Lease::is_left_to_a_caller).
    #[inline(always)]
    #[must_use = "a true answer obliges the caller to wake somebody"]
    pub(crate) fn ring(&self) -> bool {
        self.signal.ring()
    }

    /// Returns true if nobody drives and nobody sleeps in the reactor's poll, whose report is off.
    pub(crate) fn is_left_to_a_caller(&self) -> bool {
        self.state.load(Ordering::SeqCst) == LEASED
    }

    /// Returns true if no caller has the seat, so that a wake of the reactor's poll is a call for the engine.
    pub(crate) fn is_left_to_the_engine(&self) -> bool {
        self.state.load(Ordering::SeqCst) == ENGINE
    }

    /// The deadline the engine keeps although somebody else drives, at the moment `now`. One that has passed is for
    /// whoever drives, who publishes the next when leaving.
    pub(crate) fn deadline_while_held(&self, now: u64) -> u64 {
        let deadline = self.published.load(Ordering::SeqCst);
        if deadline <= now {
            self.published.store(NEVER, Ordering::SeqCst);
            return NEVER;
        }
        deadline
    }
}

/// What a driver says within its turn.
impl Lease {
    /// A round begins: what is published before a later ring will be seen in a later round.
    pub(crate) fn start(&self) {
        self.signal.start();
    }

    /// Returns true if work was published since the last [`start`](Lease::start).
    pub(crate) fn has_work(&self) -> bool {
        self.signal.has_work()
    }

    /// The driver wants to sleep in the poll; `false` if work has come, which is then still the driver's to do.
    #[must_use = "false means that there is work to do first"]
    pub(crate) fn rest(&self) -> bool {
        self.signal.rest()
    }
}

/// For callers that hold the reactor.
impl Lease {
    /// A caller begins to drive.
    pub(crate) fn enter(&self, around: &impl Surroundings) {
        let leased = self.state.load(Ordering::Relaxed) & LEASED;
        self.state.store(leased | CALLER, Ordering::SeqCst);
        if leased == 0 {
            around.disarm();
        }
    }

    /// A caller leaves, and with `regular` it is expected back. `busy` says that there is something to do at once;
    /// `deadline` is when the reactor is due whatever happens. `guard` is what the reactor is held with.
    pub(crate) fn leave<G>(&self, around: &impl Surroundings, guard: G, regular: bool, busy: bool, deadline: u64) {
        self.visits.fetch_add(1, Ordering::Relaxed);
        let mut regular = regular || (self.state.load(Ordering::Relaxed) & LEASED != 0 && around.will_return());
        let mut left = false;
        if regular {
            // Known before anybody can find the driver asleep: who rings then calls the engine, as no poll is asked.
            self.state.store(LEASED, Ordering::SeqCst);
            left |= self.signal.leave();
            // Threads that wait need somebody to drive meanwhile. Asked after the lease is known: who joins them asks
            // for the lease after that, so one of the two sees the other.
            regular = !around.has_waiters();
        } else {
            left |= self.signal.leave();
        }
        if deadline < self.published.load(Ordering::SeqCst) {
            self.published.store(deadline, Ordering::SeqCst);
            around.call();
        }
        if !regular {
            left |= self.end(around);
            left |= busy;
        }
        drop(guard);
        if regular && !self.watched.swap(true, Ordering::SeqCst) {
            around.watch();
        }
        // While leased, the next check replaces a turn that the engine missed: a call would come at such a time again,
        // and so after each visit. But the engine may have come for a thread that joined those who wait after the look
        // at them.
        let missed = self.signal.missed() && (!regular || around.has_waiters());
        if missed || left {
            // A call rather than a ring: what is left may be on lists of the reactor's own, which a ring does not speak
            // of.
            around.call();
        }
    }

    /// A driver leaves a reactor that is about to go.
    pub(crate) fn abandon(&self) {
        self.state.store(ENGINE, Ordering::SeqCst);
        // Nobody drives any more, so what was left to do is nobody's.
        let _ = self.signal.leave();
    }
}

/// For the engine.
impl Lease {
    /// Takes hold of the reactor by `try_lock`, which must not wait. If it is held, its holder learns that the engine
    /// was there.
    pub(crate) fn hold<G>(&self, try_lock: impl Fn() -> Option<G>) -> Option<G> {
        try_lock().or_else(|| {
            // The holder asks for misses after unlocking: one of the two sees the other.
            self.signal.miss();
            try_lock()
        })
    }

    /// A turn of the engine begins; returns true if it is to leave the reading to a caller, where the seat
    /// `may_be_leased` at all.
    pub(crate) fn begin_turn(&self, around: &impl Surroundings, may_be_leased: bool) -> bool {
        let waited = around.has_waiters();
        if waited && self.state.load(Ordering::Relaxed) == LEASED {
            // Threads that wait hear of the next arrival only if the engine's poll does. This turn flushes what was
            // left to the lease.
            let _ = self.end(around);
        }
        let overdue = self.overdue.swap(false, Ordering::SeqCst);
        may_be_leased && !waited && !overdue && around.will_return()
    }

    /// The rounds of a turn. `round` says whether there is something to do at once, and whether the turn is over all
    /// the same.
    pub(crate) fn rounds(&self, lending: bool, mut round: impl FnMut() -> (bool, bool)) -> bool {
        loop {
            self.signal.start();
            let (busy, over) = round();
            if lending || (!busy && self.signal.rest()) {
                return busy;
            }
            if over {
                return true;
            }
        }
    }

    /// No caller will drive any more, and this turn does not end before all is seen to.
    pub(crate) fn forget_callers(&self) {
        self.state.store(ENGINE, Ordering::SeqCst);
    }

    /// A turn ends. `busy` and `deadline` are as for [`leave`](Lease::leave); `backlog` says that of what is to be done
    /// at once some is not reading.
    pub(crate) fn end_turn<G>(
        &self,
        around: &impl Surroundings,
        guard: G,
        lending: bool,
        busy: bool,
        backlog: bool,
        deadline: u64,
    ) -> Outcome {
        self.published.store(deadline, Ordering::SeqCst);
        let mut left = false;
        // What the flush could not write waits for the kernel, and only who asks the poll hears of that.
        let mut leased = lending && around.will_return();
        if leased {
            if self.state.load(Ordering::Relaxed) != LEASED {
                self.state.store(LEASED, Ordering::SeqCst);
                around.disarm();
            }
            self.seen.store(self.visits.load(Ordering::Relaxed), Ordering::Relaxed);
            self.late.store(false, Ordering::Relaxed);
            // As in `leave`, asked after the lease is known.
            leased = !around.has_waiters();
        }
        if lending && !leased {
            left |= self.end(around);
        }
        // A ring before the lease was known went to a poll that nobody asks any more; one after it calls the engine.
        left |= self.signal.leave();
        left |= if leased { backlog } else { busy };
        drop(guard);
        // Read in any case, so that a miss is not left standing.
        let missed = self.signal.missed();
        if leased {
            self.watched.store(true, Ordering::SeqCst);
        }
        Outcome { leased, again: left || missed }
    }

    /// Ends a lease, or sees to it that there is none; returns true if something is to be flushed that may have been
    /// left to it.
    #[must_use = "senders rely on a flush while the seat is leased"]
    fn end(&self, around: &impl Surroundings) -> bool {
        self.state.store(ENGINE, Ordering::SeqCst);
        around.arm();
        around.has_dirty()
    }

    /// The engine looks whether the caller still comes back.
    pub(crate) fn check<G>(&self, around: &impl Surroundings, try_lock: impl Fn() -> Option<G>) -> Check {
        let visits = self.visits.load(Ordering::Relaxed);
        let came = self.seen.swap(visits, Ordering::Relaxed) != visits;
        // A pace that promises a visit is believed for one check: what the application takes may come from elsewhere.
        let expected = || !self.late.load(Ordering::Relaxed) && !around.has_dirty() && around.will_return();
        if self.state.load(Ordering::SeqCst) & LEASED != 0 && !around.has_waiters() && (came || expected()) {
            self.late.store(!came, Ordering::Relaxed);
            return Check::Again;
        }
        // Before the look at the seat: a caller inside asks to be watched again after leaving it, so one of the two
        // sees the other.
        self.watched.swap(false, Ordering::SeqCst);
        let Some(guard) = try_lock() else { return Check::Over };
        if self.state.load(Ordering::Relaxed) != LEASED {
            return Check::Over;
        }
        self.overdue.store(true, Ordering::SeqCst);
        // The turn that follows flushes.
        let _ = self.end(around);
        drop(guard);
        Check::TakeOver
    }
}
