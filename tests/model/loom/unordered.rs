//! The shipped hand-over word and waiter list over primitives that order nothing.

/// As `sync`, but every operation of the word is relaxed, whatever it asks for, and a fence is nothing.
pub(crate) mod sync {
    pub(crate) use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, thread_local};

    pub(crate) struct AtomicU32(loom::sync::atomic::AtomicU32);

    impl AtomicU32 {
        pub(crate) fn new(value: u32) -> AtomicU32 {
            AtomicU32(loom::sync::atomic::AtomicU32::new(value))
        }

        pub(crate) fn store(&self, value: u32, _: Ordering) {
            self.0.store(value, Ordering::Relaxed);
        }

        pub(crate) fn load(&self, _: Ordering) -> u32 {
            self.0.load(Ordering::Relaxed)
        }

        pub(crate) fn fetch_or(&self, bits: u32, _: Ordering) -> u32 {
            self.0.fetch_or(bits, Ordering::Relaxed)
        }

        pub(crate) fn fetch_and(&self, bits: u32, _: Ordering) -> u32 {
            self.0.fetch_and(bits, Ordering::Relaxed)
        }

        pub(crate) fn compare_exchange_weak(
            &self,
            current: u32,
            new: u32,
            _: Ordering,
            _: Ordering,
        ) -> Result<u32, u32> {
            self.0.compare_exchange_weak(current, new, Ordering::Relaxed, Ordering::Relaxed)
        }
    }

    impl std::fmt::Debug for AtomicU32 {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.fmt(f)
        }
    }

    pub(crate) fn fence(_: Ordering) {}
}

pub(crate) use crate::parker;

#[path = "../../../src/engine/lease.rs"]
#[expect(clippy::duplicate_mod, reason = "the same file over other primitives")]
#[allow(dead_code, reason = "the models use what they need of it")]
pub(crate) mod lease;
#[path = "../../../src/engine/signal.rs"]
#[expect(clippy::duplicate_mod, reason = "the same file over other primitives")]
pub(crate) mod signal;
#[path = "../../../src/engine/waiters.rs"]
#[expect(clippy::duplicate_mod, dead_code, reason = "the same file over other primitives")]
pub(crate) mod waiters;
