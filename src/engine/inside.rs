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

/// Returns true on a thread of an engine, and on one that [stays](stay).
pub(crate) fn is_inside() -> bool {
    INSIDE.get()
}

/// A thread of a caller does the engine's work until this is dropped: it drives, or writes.
pub(crate) fn stay() -> Stay {
    Stay { before: INSIDE.replace(true) }
}

/// See [`stay`].
pub(crate) struct Stay {
    before: bool,
}

impl Drop for Stay {
    fn drop(&mut self) {
        INSIDE.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::contain::contain;

    #[test]
    fn a_caller_is_inside_as_long_as_it_stays_even_if_that_ends_with_a_panic_or_begins_again_within() {
        assert!(!is_inside());
        {
            let _outer = stay();
            drop(stay());
            assert!(is_inside());
        }
        assert!(!is_inside());
        let panics = || {
            let _stay = stay();
            panic!("on purpose");
        };
        assert!(contain(panics).is_err());
        assert!(!is_inside());
    }

    #[test]
    fn a_thread_of_the_engine_stays_inside() {
        let stays = std::thread::spawn(|| {
            enter();
            drop(stay());
            is_inside()
        });
        assert!(stays.join().expect("no panic"));
    }
}
