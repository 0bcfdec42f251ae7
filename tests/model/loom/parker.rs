//! What `engine/mod.rs` calls `parker`: the states of `transports/src/sys/parker.rs` over loom, with time that has run
//! out.

use crate::sync::{AtomicU32, Ordering};
use loom::thread::Thread;
use std::sync::Mutex;
use std::time::Instant;

/// Why a park ended. A signal is to the models what a deadline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parked {
    Notified,
    TimedOut,
}

pub(crate) struct Parker {
    state: AtomicU32,
    sleeper: Mutex<Option<Thread>>,
}

const EMPTY: u32 = 0;
const NOTIFIED: u32 = 1;
const SLEEPING: u32 = 2;

impl Parker {
    pub(crate) fn new() -> Parker {
        Parker { state: AtomicU32::new(EMPTY), sleeper: Mutex::new(None) }
    }

    /// A deadline has always passed: that a thread is preempted before it stands for all the time it might have slept.
    pub(crate) fn park(&self, deadline: Option<Instant>) -> Parked {
        if deadline.is_some() {
            let notified = self.state.swap(EMPTY, Ordering::Acquire) == NOTIFIED;
            return if notified { Parked::Notified } else { Parked::TimedOut };
        }
        *self.sleeper.lock().expect("no panic") = Some(loom::thread::current());
        if self.state.compare_exchange(EMPTY, SLEEPING, Ordering::Acquire, Ordering::Acquire).is_ok() {
            loom::thread::park();
        }
        assert_eq!(self.state.swap(EMPTY, Ordering::Acquire), NOTIFIED, "only a notification ends a park");
        Parked::Notified
    }

    pub(crate) fn notify(&self) {
        if self.state.swap(NOTIFIED, Ordering::AcqRel) == SLEEPING {
            if let Some(sleeper) = self.sleeper.lock().expect("no panic").take() {
                sleeper.unpark();
            }
        }
    }
}
