//! A lock for critical sections of nanoseconds that is taken once per message. Against `std::sync::Mutex` it saves one
//! of two locked instructions, and a waiter a system call: measured, a third of what a small send or receive costs.
#![expect(unsafe_code, reason = "a lock hands out access to what it guards")]

use super::let_go;
use bytes::Bytes;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Guards a value. Waiters spin, then yield, then sleep: nobody holds it across a wait or a system call of its own.
pub(crate) struct Gate<T> {
    held: AtomicBool,
    /// Somebody has waited long: whoever comes now lets it go first, for a moment.
    claimed: AtomicBool,
    /// How many have waited long and do so still, and how many have got it after that.
    waiting: AtomicU32,
    passed: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a `Pass`, of which there is one at a time, so sharing the gate between
// threads moves exclusive access to the value between them: `T: Send` is what that takes.
unsafe impl<T: Send> Sync for Gate<T> {}

/// What a [`Gate`] guards. A body may have an owner of the application's own, whose drop may use the socket, or take a
/// lock that a thread holds which waits for this gate. So bodies that are taken out of the value are laid aside in it,
/// and go once the gate is open.
pub(crate) trait Guarded {
    /// Whether something is laid aside: asked each time the gate is let go.
    fn has_remains(&self) -> bool {
        false
    }

    fn take_remains(&mut self) -> Vec<Bytes> {
        Vec::new()
    }
}

/// Exclusive access to the value of a [`Gate`], until dropped. What was laid aside meanwhile goes after that.
pub(crate) struct Pass<'a, T: Guarded> {
    gate: &'a Gate<T>,
    /// Shared between threads it shares the value: no more may be done with it than with such a reference.
    exclusive: PhantomData<&'a mut T>,
}

impl<T: Guarded> Gate<T> {
    pub(crate) const fn new(value: T) -> Gate<T> {
        Gate {
            held: AtomicBool::new(false),
            claimed: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            passed: AtomicU32::new(0),
            value: UnsafeCell::new(value),
        }
    }

    #[inline(always)]
    pub(crate) fn lock(&self) -> Pass<'_, T> {
        if self.claimed.load(Ordering::Relaxed) {
            self.give_way();
        }
        if self.held.swap(true, Ordering::Acquire) {
            self.wait();
        }
        Pass { gate: self, exclusive: PhantomData }
    }

    /// Takes the gate if it is free, without waiting.
    pub(crate) fn try_lock(&self) -> Option<Pass<'_, T>> {
        let free = !self.held.swap(true, Ordering::Acquire);
        free.then(|| Pass { gate: self, exclusive: PhantomData })
    }

    /// Called where the gate was let go by whoever takes it again and again, for long each time. Returns true if nobody
    /// has waited long, or one that had has got it within a moment, most of which the caller sleeps; else the gate is
    /// to be left alone for now. The one that waits may sleep by now, or have lost its processor.
    pub(crate) fn let_in(&self) -> bool {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return true;
        }
        let before = self.passed.load(Ordering::Relaxed);
        let is_in = || self.waiting.load(Ordering::Relaxed) == 0 || self.passed.load(Ordering::Relaxed) != before;
        for _ in 0..LOOKS {
            if is_in() {
                return true;
            }
            std::hint::spin_loop();
        }
        std::thread::sleep(Duration::from_micros(50));
        is_in()
    }

    #[cold]
    fn wait(&self) {
        if self.takes_within(LOOKS) {
            return;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.wait_long();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.passed.fetch_add(1, Ordering::Relaxed);
    }

    fn wait_long(&self) {
        for round in 0u32.. {
            // Who lets the gate go and takes it again in a tight loop would win it every time.
            self.claimed.store(true, Ordering::Relaxed);
            if self.takes_within(LOOKS) {
                self.claimed.store(false, Ordering::Relaxed);
                return;
            }
            // The holder was interrupted, or has much to do: it needs the processor more than this thread does.
            match round {
                0..CLAIMS => {}
                CLAIMS..YIELDS => std::thread::yield_now(),
                YIELDS.. => std::thread::sleep(Duration::from_micros(50)),
            }
        }
    }

    /// Looks so many times whether the gate is free; whether it was, and is ours.
    fn takes_within(&self, looks: u32) -> bool {
        for _ in 0..looks {
            if !self.held.load(Ordering::Relaxed) && !self.held.swap(true, Ordering::Acquire) {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Lets the one go first that has waited long. It may have been interrupted, and then its claim is void.
    #[cold]
    fn give_way(&self) {
        for _ in 0..COURTESY {
            if !self.claimed.load(Ordering::Relaxed) {
                return;
            }
            std::hint::spin_loop();
        }
        self.claimed.store(false, Ordering::Relaxed);
    }
}

/// How often a waiter looks before it claims the gate, and after each claim.
const LOOKS: u32 = 128;
/// After so many claims in vain it gives the processor away each time, and after so many it sleeps.
const CLAIMS: u32 = 16;
const YIELDS: u32 = 32;
/// How often others look whether the one that claims the gate has it.
const COURTESY: u32 = 32;

impl<T: Guarded> Deref for Pass<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: this pass holds the gate: `lock` returned it after winning `held`, and nobody else wins it before the
        // drop.
        unsafe { &*self.gate.value.get() }
    }
}

impl<T: Guarded> DerefMut for Pass<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`; `&mut self` makes it the only reference through this pass.
        unsafe { &mut *self.gate.value.get() }
    }
}

impl<T: Guarded> Drop for Pass<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.has_remains() {
            return self.open_and_let_go();
        }
        self.gate.held.store(false, Ordering::Release);
    }
}

impl<T: Guarded> Pass<'_, T> {
    #[cold]
    fn open_and_let_go(&mut self) {
        let remains = self.take_remains();
        self.gate.held.store(false, Ordering::Release);
        remains.into_iter().for_each(let_go);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    impl Guarded for u64 {}
    impl Guarded for i32 {}
    impl Guarded for &str {}
    impl Guarded for () {}

    #[test]
    fn no_increment_is_lost_among_threads() {
        let gate = Arc::new(Gate::new(0u64));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let gate = Arc::clone(&gate);
                std::thread::spawn(move || (0..20_000).for_each(|_| *gate.lock() += 1))
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(*gate.lock(), 80_000);
    }

    #[test]
    fn a_held_gate_is_not_tried_in_vain() {
        let gate = Gate::new(1);
        let pass = gate.lock();
        assert!(gate.try_lock().is_none());
        drop(pass);
        assert_eq!(gate.try_lock().map(|pass| *pass), Some(1));
        drop(gate.lock());
    }

    #[test]
    fn one_that_waits_is_let_in_however_late_it_gets_a_processor() {
        for _ in 0..20 {
            let gate = Gate::new("held");
            std::thread::scope(|scope| {
                let pass = gate.lock();
                assert!(gate.let_in(), "nobody waits");
                scope.spawn(|| *gate.lock() = "let in");
                while gate.waiting.load(Ordering::Relaxed) == 0 {
                    std::thread::yield_now();
                }
                assert!(!gate.let_in(), "it is still held");
                drop(pass);
                while !gate.let_in() {}
                assert_eq!(*gate.lock(), "let in");
            });
        }
    }

    #[test]
    fn a_panic_inside_opens_the_gate() {
        let gate = Arc::new(Gate::new(()));
        let inside = Arc::clone(&gate);
        let panicked = std::thread::spawn(move || {
            let _pass = inside.lock();
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        drop(gate.lock());
    }
}
