//! The one list of those who wait on a socket: for a message, for room, or for the driver's seat.
//!
//! Its tests are models of every interleaving, in `tests/model/loom.rs`.

use super::parker::{Parked, Parker};
use super::sync::{Arc, AtomicUsize, Mutex, Ordering, fence, thread_local};
use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Instant;

/// What somebody waits for. Several at once may be of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest(u8);

impl Interest {
    /// A message has arrived.
    pub(crate) const MESSAGE: Interest = Interest(1);
    /// A peer has room again, or is there.
    pub(crate) const ROOM: Interest = Interest(2);
    /// Something else changed: peers, subscriptions, everything flushed.
    pub(crate) const CHANGE: Interest = Interest(4);
    /// All of them: the socket was closed.
    pub(crate) const ALL: Interest = Interest(7);

    #[inline(always)]
    fn meets(self, other: Interest) -> bool {
        self.0 & other.0 != 0
    }
}

/// How many threads drive, or are about to, for each interest: whoever publishes something wakes a driver only if it
/// waits for that.
#[derive(Default)]
pub(crate) struct Drivers {
    message: AtomicUsize,
    room: AtomicUsize,
    change: AtomicUsize,
}

impl Drivers {
    /// A thread is about to drive for `interest`. It looks at what is published after this.
    pub(crate) fn enter(&self, interest: Interest) {
        for count in self.of(interest) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(crate) fn leave(&self, interest: Interest) {
        for count in self.of(interest) {
            count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Returns true if a thread drives for `interest`. To be asked after a fence behind what was published.
    #[inline(always)]
    pub(crate) fn wait_for(&self, interest: Interest) -> bool {
        self.of(interest).any(|count| count.load(Ordering::SeqCst) > 0)
    }

    #[inline(always)]
    fn of(&self, interest: Interest) -> impl Iterator<Item = &AtomicUsize> {
        let all = [(Interest::MESSAGE, &self.message), (Interest::ROOM, &self.room), (Interest::CHANGE, &self.change)];
        all.into_iter().filter(move |(one, _)| one.meets(interest)).map(|(_, count)| count)
    }
}

/// Who waits on a socket.
#[derive(Default)]
pub(crate) struct Waiters {
    list: Mutex<VecDeque<(Interest, Arc<Parker>)>>,
    /// How many there are, so that notifying nobody costs one load.
    count: AtomicUsize,
}

thread_local! {
    static PARKER: Arc<Parker> = Arc::new(Parker::new());
}

impl Waiters {
    /// Waits until notified of `interest`, unless `ready` already holds once this thread is on the list.
    pub(crate) fn wait(&self, interest: Interest, deadline: Option<Instant>, ready: impl FnOnce() -> bool) -> Parked {
        // A thread that ends may wait once more in a destructor that comes after that of its parker.
        let parker = PARKER.try_with(Arc::clone).unwrap_or_else(|_| Arc::new(Parker::new()));
        // A notification left over from an earlier wait would only cost a round.
        self.enlist(interest, &parker);
        let parked = if ready() { Parked::Notified } else { parker.park(deadline) };
        let served = !self.delist(&parker);
        if served && parked != Parked::Notified {
            // It was taken off the list and leaves for another reason: what it was told goes on to the next.
            self.notify(interest, 1);
        }
        parked
    }

    fn enlist(&self, interest: Interest, parker: &Arc<Parker>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push_back((interest, Arc::clone(parker)));
        self.count.store(list.len(), Ordering::SeqCst);
        // Whoever publishes something looks at the count after it; this thread looks at what is published after this.
        fence(Ordering::SeqCst);
    }

    /// Takes this thread off; `false` when a notification had done so.
    fn delist(&self, parker: &Arc<Parker>) -> bool {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let before = list.len();
        list.retain(|(_, waiting)| !Arc::ptr_eq(waiting, parker));
        self.count.store(list.len(), Ordering::SeqCst);
        list.len() < before
    }

    /// Whether anybody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Wakes up to `many` of those who wait for `interest`, the longest waiting first. What they wait for has been
    /// published before.
    #[inline(always)]
    pub(crate) fn notify(&self, interest: Interest, many: usize) {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) > 0 {
            self.notify_slow(interest, many);
        }
    }

    #[cold]
    fn notify_slow(&self, interest: Interest, many: usize) {
        let mut woken: Vec<Arc<Parker>> = Vec::new();
        {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            list.retain(|(waits_for, parker)| {
                let wake = woken.len() < many && waits_for.meets(interest);
                if wake {
                    woken.push(Arc::clone(parker));
                }
                !wake
            });
            self.count.store(list.len(), Ordering::SeqCst);
        }
        // Wakes happen outside the lock, so that the woken do not run into it.
        for parker in woken {
            parker.notify();
        }
    }
}
