//! A global that a forked child does not share: it begins anew there, whatever other threads of the parent were doing
//! with it when the child was made.

use super::{fork_generation, watch_forks};
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A value for each process that uses it, made where it is first asked for.
///
/// The values are for statics and are never dropped: a process leaves one behind for each fork between it and the
/// first.
#[derive(Debug)]
pub struct PerProcess<T: Send + Sync + 'static> {
    current: AtomicPtr<Value<T>>,
    owns: PhantomData<T>,
}

#[derive(Debug)]
struct Value<T> {
    generation: u32,
    value: T,
}

impl<T: Send + Sync + 'static> PerProcess<T> {
    /// Makes one without a value.
    pub const fn new() -> PerProcess<T> {
        PerProcess { current: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    /// The value of this process. When several threads ask first, `make` may run in each, and one result is kept.
    pub fn get(&self, make: impl FnOnce() -> T) -> &'static T {
        let found = self.current.load(Ordering::Acquire);
        if let Some(value) = Self::of_this_process(found) {
            return value;
        }
        // Forks that nobody counts cannot be told apart; that is no reason to do without a value.
        let _ = watch_forks();
        let made = Box::into_raw(Box::new(Value { generation: fork_generation(), value: make() }));
        match self.current.compare_exchange(found, made, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: `made` comes from a box, and what is published is never freed.
            Ok(_) => unsafe { &(*made).value },
            Err(theirs) => {
                // SAFETY: `made` comes from a box and was not published: nobody else has it.
                drop(unsafe { Box::from_raw(made) });
                // SAFETY: whatever is published is not null, comes from a box and is never freed. It was made by
                // another thread of this process a moment ago, as a fork cannot happen between our two looks and leave
                // that thread alive.
                unsafe { &(*theirs).value }
            }
        }
    }

    /// The value of this process, if it has been made. Makes nothing and takes no lock.
    pub fn peek(&self) -> Option<&'static T> {
        Self::of_this_process(self.current.load(Ordering::Acquire))
    }

    fn of_this_process(found: *mut Value<T>) -> Option<&'static T> {
        // SAFETY: it is null, or published: then it comes from a box and is never freed.
        let found: &'static Value<T> = unsafe { found.as_ref() }?;
        (found.generation == fork_generation()).then_some(&found.value)
    }
}

impl<T: Send + Sync + 'static> Default for PerProcess<T> {
    fn default() -> PerProcess<T> {
        PerProcess::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_makes_its_value_once() {
        static NUMBER: PerProcess<u32> = PerProcess::new();
        assert_eq!(NUMBER.peek(), None);
        assert_eq!((NUMBER.get(|| 1), NUMBER.get(|| 2)), (&1, &1));
        assert_eq!(NUMBER.peek(), Some(&1));
    }

    #[cfg(unix)]
    #[test]
    fn a_child_is_not_stopped_by_a_lock_that_a_thread_of_its_parent_held() {
        use std::sync::{Mutex, mpsc};
        static LOCK: PerProcess<Mutex<()>> = PerProcess::new();
        watch_forks().unwrap();
        let (held, is_held) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let holder = std::thread::spawn(move || {
            let _guard = LOCK.get(|| Mutex::new(())).lock();
            held.send(()).unwrap();
            let _ = released.recv();
        });
        is_held.recv().unwrap();
        // SAFETY: the child has this one thread; it allocates, which the C library allows there, and ends by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let free = LOCK.get(|| Mutex::new(())).try_lock().is_ok();
            // SAFETY: `_exit` ends the child at once.
            unsafe { libc::_exit(i32::from(!free)) };
        }
        assert!(child > 0);
        let mut status = 0;
        // SAFETY: `status` is a live integer and `child` is our own child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
        drop(release);
        holder.join().unwrap();
    }
}
