//! Whether the calling thread is in the middle of what an engine does. Code of the application runs there as well:
//! transports that it registered, `Drop` of message bodies, subscribers of `tracing`. If it ends a context, that must
//! not wait for the engine, because the engine waits for it.

use std::cell::Cell;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The calling thread is the engine's: it counts as inside from now on.
pub(crate) fn enter() {
    INSIDE.set(true);
}

/// Returns true on a thread of an engine, and within [`call`] on any thread.
pub(crate) fn is_inside() -> bool {
    INSIDE.get()
}

/// Calls a transport with the driver's seat taken: a caller's thread may be the one that drives.
pub(crate) fn call<T>(work: impl FnOnce() -> T) -> T {
    struct Leave(bool);
    impl Drop for Leave {
        fn drop(&mut self) {
            INSIDE.set(self.0);
        }
    }
    let _leave = Leave(INSIDE.replace(true));
    work()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::contain::contain;

    #[test]
    fn a_caller_is_inside_for_the_time_of_a_call_even_if_that_panics_or_calls_again() {
        assert!(!is_inside());
        assert!(call(|| call(is_inside) && is_inside()));
        assert!(!is_inside());
        assert!(contain(|| call(|| panic!("on purpose"))).is_err());
        assert!(!is_inside());
    }

    #[test]
    fn a_thread_of_the_engine_stays_inside() {
        let stays = std::thread::spawn(|| {
            enter();
            call(|| ());
            is_inside()
        });
        assert!(stays.join().expect("no panic"));
    }
}
