//! What `engine/mod.rs` calls `sync`, over loom.

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use loom::thread_local;
/// Reference counts are not what is modelled: the real ones spare interleavings.
pub(crate) use std::sync::Arc;

use loom::thread::Thread;
use std::ops::{Deref, DerefMut};
use std::sync::LockResult;

/// A lock that orders no more than it must. Loom's own is a full fence at each end, which would hide a missing one.
#[derive(Default)]
pub(crate) struct Mutex<T> {
    held: AtomicBool,
    /// Those who sleep until it is let go. Not part of the model: nobody is preempted between a failed try and the
    /// sleep.
    queue: std::sync::Mutex<Vec<Thread>>,
    /// Never contended: `held` admits one at a time.
    value: std::sync::Mutex<T>,
}

pub(crate) struct MutexGuard<'a, T> {
    lock: &'a Mutex<T>,
    value: Option<std::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        Mutex { held: AtomicBool::new(false), queue: std::sync::Mutex::default(), value: std::sync::Mutex::new(value) }
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        loop {
            if let Some(guard) = self.try_lock() {
                return Ok(guard);
            }
            self.queue.lock().expect("no panic").push(loom::thread::current());
            loom::thread::park();
        }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(MutexGuard { lock: self, value: Some(self.value.try_lock().expect("one at a time")) })
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("until dropped")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("until dropped")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        // A model that has failed is being taken down, and loom is no longer there.
        if !std::thread::panicking() {
            self.lock.held.store(false, Ordering::Release);
            self.lock.queue.lock().expect("no panic").drain(..).for_each(|sleeper| sleeper.unpark());
        }
    }
}
