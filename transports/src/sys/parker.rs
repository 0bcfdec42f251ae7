//! Putting one thread to sleep until another one wakes it, a deadline passes or a signal comes.
//!
//! `std::thread::park` retries when a signal interrupts it, and a condition variable does too; a C program that waits
//! in a blocking call must get its signal reported. On Linux this is one futex word; elsewhere it is a lock and a
//! condition variable, which do not report signals.

#[cfg(all(any(target_os = "linux", target_os = "android"), target_pointer_width = "64"))]
pub use futex::Parker;
#[cfg(not(all(any(target_os = "linux", target_os = "android"), target_pointer_width = "64")))]
pub use portable::Parker;

/// Why [`Parker::park`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parked {
    /// Somebody called [`Parker::notify`], before or while the thread slept. The notification is used up.
    Notified,
    /// The deadline passed.
    TimedOut,
    /// A signal handler ran on this thread while it slept. Reported on 64-bit Linux only; elsewhere the sleep goes on.
    Interrupted,
}

#[cfg(all(any(target_os = "linux", target_os = "android"), target_pointer_width = "64"))]
mod futex {
    use std::io;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
    use std::time::{Duration, Instant};

    use super::Parked;

    /// A place where one thread sleeps and any thread wakes it.
    ///
    /// Notifications do not add up: several before a park make one park return at once. What was written before
    /// [`notify`](Self::notify) is visible to the thread whose park it ends. At most one thread may park at a time; a
    /// second one would be safe but might miss its wake-up.
    #[derive(Debug, Default)]
    pub struct Parker {
        state: AtomicU32,
    }

    const EMPTY: u32 = 0;
    const NOTIFIED: u32 = 1;
    const SLEEPING: u32 = 2;

    impl Parker {
        /// Makes a parker without a notification.
        pub const fn new() -> Self {
            Self { state: AtomicU32::new(EMPTY) }
        }

        /// Sleeps until notified, until `deadline` passes (`None`: for ever) or until a signal comes. Returns at once
        /// if a notification is there already, even if the deadline has passed.
        pub fn park(&self, deadline: Option<Instant>) -> Parked {
            if self.take_notification() {
                return Parked::Notified;
            }
            if self.state.compare_exchange(EMPTY, SLEEPING, Relaxed, Relaxed).is_err() {
                // A notification has come since.
                self.state.swap(EMPTY, Acquire);
                return Parked::Notified;
            }
            let woken = loop {
                let patience = match deadline {
                    None => LONGEST,
                    Some(deadline) => deadline.saturating_duration_since(Instant::now()).min(LONGEST),
                };
                if patience.is_zero() {
                    break Parked::TimedOut;
                }
                let interrupted = wait(&self.state, SLEEPING, patience);
                if self.state.load(Relaxed) != SLEEPING {
                    break Parked::Notified;
                }
                if interrupted {
                    break Parked::Interrupted;
                }
            };
            // A notification that comes in the last moment wins over the deadline and the signal; else it were lost.
            if self.state.swap(EMPTY, Acquire) == NOTIFIED { Parked::Notified } else { woken }
        }

        /// Ends the park of the thread that sleeps here, or the next one.
        pub fn notify(&self) {
            if self.state.swap(NOTIFIED, AcqRel) == SLEEPING {
                wake_one(&self.state);
            }
        }

        fn take_notification(&self) -> bool {
            // The load spares an atomic write where there is nothing to take.
            self.state.load(Relaxed) == NOTIFIED
                && self.state.compare_exchange(NOTIFIED, EMPTY, Acquire, Relaxed).is_ok()
        }
    }

    /// Sleeps while `word` holds `expected`, at most for `patience`; tells whether a signal ended it.
    fn wait(word: &AtomicU32, expected: u32, patience: Duration) -> bool {
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(patience.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        // A timeout is always given, for two reasons: the kernel counts it on the monotonic clock, and a wait without
        // one would be restarted silently after a handler that was installed with SA_RESTART.
        //
        // SAFETY: `word` and `timeout` live through the call and are only read; a private futex word is found by its
        // address, which the reference keeps valid.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                expected,
                &raw const timeout,
            )
        };
        result < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    }

    fn wake_one(word: &AtomicU32) {
        // SAFETY: the kernel uses the address only to find sleepers and does not touch the memory.
        unsafe {
            libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1_u32);
        }
    }

    /// One nap of an endless sleep. Some systems refuse very long timeouts.
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
}

#[cfg(any(test, not(all(any(target_os = "linux", target_os = "android"), target_pointer_width = "64"))))]
mod portable {
    use std::sync::{Condvar, Mutex, PoisonError};
    use std::time::Instant;

    use super::Parked;

    /// A place where one thread sleeps and any thread wakes it.
    ///
    /// Notifications do not add up: several before a park make one park return at once. What was written before
    /// [`notify`](Self::notify) is visible to the thread whose park it ends. At most one thread may park at a time; a
    /// second one would be safe but might miss its wake-up.
    #[derive(Debug, Default)]
    pub struct Parker {
        notified: Mutex<bool>,
        changed: Condvar,
    }

    impl Parker {
        /// Makes a parker without a notification.
        pub const fn new() -> Self {
            Self { notified: Mutex::new(false), changed: Condvar::new() }
        }

        /// Sleeps until notified or until `deadline` passes (`None`: for ever). Returns at once if a notification is
        /// there already, even if the deadline has passed.
        pub fn park(&self, deadline: Option<Instant>) -> Parked {
            let mut notified = self.notified.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                if std::mem::take(&mut *notified) {
                    return Parked::Notified;
                }
                notified = match deadline {
                    None => self.changed.wait(notified).unwrap_or_else(PoisonError::into_inner),
                    Some(deadline) => {
                        let patience = deadline.saturating_duration_since(Instant::now());
                        if patience.is_zero() {
                            return Parked::TimedOut;
                        }
                        self.changed.wait_timeout(notified, patience).unwrap_or_else(PoisonError::into_inner).0
                    }
                };
            }
        }

        /// Ends the park of the thread that sleeps here, or the next one.
        pub fn notify(&self) {
            *self.notified.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::time::{Duration, Instant};

    use super::Parked;

    /// The behaviour both flavours share.
    macro_rules! behaviour {
        ($flavour:ident) => {
            mod $flavour {
                use super::super::$flavour::Parker;
                use super::*;

                #[test]
                fn a_notification_before_the_park_ends_it_at_once() {
                    let parker = Parker::new();
                    parker.notify();
                    parker.notify();
                    assert_eq!(parker.park(None), Parked::Notified);
                    assert_eq!(parker.park(Some(Instant::now())), Parked::TimedOut, "it was used up");
                }

                #[test]
                fn a_notification_beats_a_deadline_that_has_passed() {
                    let parker = Parker::new();
                    parker.notify();
                    assert_eq!(parker.park(Some(Instant::now())), Parked::Notified);
                }

                #[test]
                fn the_deadline_ends_the_park_and_not_sooner() {
                    let parker = Parker::new();
                    let deadline = Instant::now() + Duration::from_millis(20);
                    assert_eq!(parker.park(Some(deadline)), Parked::TimedOut);
                    assert!(Instant::now() >= deadline);
                }

                #[test]
                fn two_threads_hand_over_to_each_other_without_losing_a_wake_up() {
                    let (ping, pong) = (Parker::new(), Parker::new());
                    let count = AtomicU64::new(0);
                    std::thread::scope(|scope| {
                        scope.spawn(|| {
                            for turn in 0..2000 {
                                assert_eq!(ping.park(None), Parked::Notified);
                                assert_eq!(count.swap(2 * turn + 2, Relaxed), 2 * turn + 1);
                                pong.notify();
                            }
                        });
                        for turn in 0..2000 {
                            count.store(2 * turn + 1, Relaxed);
                            ping.notify();
                            assert_eq!(pong.park(Some(Instant::now() + Duration::from_secs(60))), Parked::Notified);
                            assert_eq!(count.load(Relaxed), 2 * turn + 2);
                        }
                    });
                }
            }
        };
    }

    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    behaviour!(futex);
    behaviour!(portable);

    #[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
    mod signals {
        use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
        use std::sync::mpsc;
        use std::time::{Duration, Instant};

        use super::super::{Parked, Parker};

        extern "C" fn do_nothing(_: libc::c_int) {}

        fn handle(signal: libc::c_int, flags: libc::c_int) {
            // SAFETY: all zeroes is a valid `sigaction`: no flags, an empty mask.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = do_nothing as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = flags;
            // SAFETY: `action` lives through the call and its handler does nothing.
            assert_eq!(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }, 0);
        }

        /// Parks a thread, sends it signals until it says that it is done, and returns what the park said.
        fn interrupt(signal: libc::c_int, deadline: Option<Instant>) -> Parked {
            let done = AtomicBool::new(false);
            let thread_id = AtomicU64::new(0);
            let (started, start) = mpsc::channel();
            std::thread::scope(|scope| {
                let sleeper = scope.spawn(|| {
                    // SAFETY: the call has no preconditions.
                    thread_id.store(unsafe { libc::pthread_self() }, SeqCst);
                    started.send(()).unwrap();
                    let parked = Parker::new().park(deadline);
                    done.store(true, SeqCst);
                    parked
                });
                start.recv().unwrap();
                while !done.load(SeqCst) {
                    // SAFETY: the thread is not joined yet, so its id is valid, ended or not.
                    unsafe { libc::pthread_kill(thread_id.load(SeqCst), signal) };
                    std::thread::yield_now();
                }
                sleeper.join().unwrap()
            })
        }

        #[test]
        fn a_signal_interrupts_the_park() {
            handle(libc::SIGUSR1, 0);
            assert_eq!(interrupt(libc::SIGUSR1, None), Parked::Interrupted);
            let deadline = Instant::now() + Duration::from_secs(60);
            assert_eq!(interrupt(libc::SIGUSR1, Some(deadline)), Parked::Interrupted);
        }

        #[test]
        fn a_signal_whose_handler_restarts_calls_interrupts_too() {
            handle(libc::SIGUSR2, libc::SA_RESTART);
            assert_eq!(interrupt(libc::SIGUSR2, None), Parked::Interrupted);
        }
    }
}
