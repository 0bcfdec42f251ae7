//! The hand-over word between whoever drives a reactor and whoever has work for it. It is what keeps a wake from being
//! lost, so it stands alone; its tests are models of every interleaving, in `tests/model/loom.rs`.
//!
//! Rules: work is published first (a command list, a dirty list), then [`ring`](Signal::ring) is called. A driver looks
//! at the lists after each [`start`](Signal::start) and goes to sleep, or leaves, only if [`rest`](Signal::rest)
//! agrees.

use super::sync::{AtomicU32, Ordering};

/// Work is waiting that no driver has looked at yet.
const WORK: u32 = 1;
/// A driver is awake and will look again before it sleeps.
const AWAKE: u32 = 2;
/// The engine wanted the reactor while somebody else held it.
const MISSED: u32 = 4;

/// See the module.
#[derive(Debug)]
pub(crate) struct Signal(AtomicU32);

impl Default for Signal {
    fn default() -> Signal {
        Signal(AtomicU32::new(0))
    }
}

impl Signal {
    /// Says that there is work; whether the caller has to wake a sleeping driver (or, if there is none, the engine).
    #[must_use = "a true answer obliges the caller to wake somebody"]
    pub(crate) fn ring(&self) -> bool {
        // SeqCst orders the caller's publication before the driver's look: both sides read-modify-write this one word,
        // so either the driver's `rest` sees WORK or this sees that the driver sleeps.
        self.0.fetch_or(WORK, Ordering::SeqCst) & (WORK | AWAKE) == 0
    }

    /// A driver begins a round: what is published before a later `ring` will be seen in a later round.
    pub(crate) fn start(&self) {
        self.0.fetch_or(AWAKE, Ordering::SeqCst);
        self.0.fetch_and(!WORK, Ordering::SeqCst);
    }

    /// Whether work arrived since the last [`start`](Signal::start).
    pub(crate) fn has_work(&self) -> bool {
        self.0.load(Ordering::SeqCst) & WORK != 0
    }

    /// The driver wants to sleep or leave; `false` when work has come, and then it is still the driver's to do.
    #[must_use = "false means that there is work to do first"]
    pub(crate) fn rest(&self) -> bool {
        let mut now = self.0.load(Ordering::SeqCst);
        loop {
            if now & WORK != 0 {
                return false;
            }
            match self.0.compare_exchange_weak(now, now & !AWAKE, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(seen) => now = seen,
            }
        }
    }

    /// The driver leaves whatever there is; whether the caller has to wake the engine because work was left.
    #[must_use = "a true answer obliges the caller to wake the engine"]
    pub(crate) fn leave(&self) -> bool {
        self.0.fetch_and(!AWAKE, Ordering::SeqCst) & WORK != 0
    }

    /// The engine could not take the reactor. It must try once more after this.
    pub(crate) fn miss(&self) {
        self.0.fetch_or(MISSED, Ordering::SeqCst);
    }

    /// Whoever unlocked the reactor asks this after unlocking; whether the engine missed it meanwhile.
    #[must_use = "a true answer obliges the caller to wake the engine"]
    pub(crate) fn missed(&self) -> bool {
        // Not a load, though mostly there is nothing to take: only this write, after the unlock, and that of `miss`,
        // before the second try, have an order that both sides see. Whichever comes second finds the other's work done.
        self.0.fetch_and(!MISSED, Ordering::SeqCst) & MISSED != 0
    }
}
