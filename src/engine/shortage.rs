//! Descriptors run short while closed sockets still hold some: whoever needs one waits a moment for those that come
//! back.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What is about to come back, and how often something has.
#[derive(Default)]
pub(crate) struct Returns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    promised: usize,
    returned: u64,
}

/// Says that descriptors are about to come back. Its drop says that no more will.
pub(crate) struct Promise(Arc<Returns>);

impl Promise {
    pub(crate) fn new(returns: &Arc<Returns>) -> Promise {
        returns.lock().promised += 1;
        Promise(Arc::clone(returns))
    }

    /// Some have come back, and more may follow.
    pub(crate) fn keep(&self) {
        self.0.lock().returned += 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.lock().promised -= 1;
        self.0.changed.notify_all();
    }
}

impl Returns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often something has come back.
    pub(crate) fn count(&self) -> u64 {
        self.lock().returned
    }

    pub(crate) fn are_promised(&self) -> bool {
        self.lock().promised > 0
    }

    /// Waits until something has come back since the count was `seen`. `false` if the time is over, whatever has come,
    /// or if nothing is to come.
    pub(crate) fn await_one(&self, seen: u64, until: Instant) -> bool {
        let mut state = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            if state.returned != seen {
                return true;
            }
            if state.promised == 0 {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Whether the process, or the system, has no descriptor left.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| code == libc::EMFILE || code == libc::ENFILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn whoever_needs_a_descriptor_waits_for_what_is_promised_and_for_nothing_else() {
        let returns = Arc::new(Returns::default());
        let long = Instant::now() + Duration::from_secs(30);
        assert!(!returns.await_one(returns.count(), long), "nothing is promised");
        let promise = Promise::new(&returns);
        assert!(!returns.await_one(returns.count(), Instant::now()), "it has not come in time");
        let seen = returns.count();
        thread::scope(|scope| {
            scope.spawn(|| {
                promise.keep();
                drop(promise);
            });
            assert!(returns.await_one(seen, long));
        });
        assert!(!returns.are_promised());
        let (promise, seen) = (Promise::new(&returns), returns.count());
        promise.keep();
        assert!(returns.await_one(seen, long) && returns.are_promised(), "one is there, and more is to come");
        drop(promise);
        assert!(returns.await_one(seen, long), "it came before the wait began");
    }

    #[test]
    fn a_promise_of_which_nothing_comes_is_no_return_and_ends_the_wait() {
        let returns = Arc::new(Returns::default());
        let (promise, seen) = (Promise::new(&returns), returns.count());
        thread::scope(|scope| {
            scope.spawn(|| drop(promise));
            assert!(!returns.await_one(seen, Instant::now() + Duration::from_secs(30)));
        });
    }

    #[test]
    fn once_the_time_is_over_nothing_that_comes_back_makes_it_longer() {
        let returns = Arc::new(Returns::default());
        let (promise, seen) = (Promise::new(&returns), returns.count());
        promise.keep();
        assert!(!returns.await_one(seen, Instant::now()));
    }
}
