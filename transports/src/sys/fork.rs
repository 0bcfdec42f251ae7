//! Noticing that this process is a forked child.
//!
//! After `fork` the child shares the parent's polls and sockets: taking a descriptor out of a poll, shutting a stream
//! down or removing a socket file would hit the parent. So whatever holds such things remembers the generation it was
//! made in and compares.

use std::io;
#[cfg(unix)]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts the forks between the first process and this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Returns the fork generation of this process: a number that is different in a forked child from what it was in the
/// parent. One relaxed load.
///
/// It counts only forks made through the C library, after [`watch_forks`]: a bare `clone` system call goes unnoticed.
#[inline]
pub fn fork_generation() -> u32 {
    // Relaxed is enough: the child starts with one thread, and that thread has made the change itself.
    GENERATION.load(Ordering::Relaxed)
}

/// Begins to count forks. Only the first call does anything.
///
/// # Errors
///
/// If the C library has no room for the handler.
#[cfg(unix)]
pub fn watch_forks() -> io::Result<()> {
    // Not a `OnceLock`: a child that is forked while a thread of its parent is within that would wait for the thread.
    // So several threads may install the handlers at once, and a child may do so again; run twice, they count once.
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    /// The generation of the children of this process.
    static NEXT: AtomicU32 = AtomicU32::new(1);

    extern "C" fn before_a_fork() {
        NEXT.store(fork_generation().wrapping_add(1), Ordering::Relaxed);
    }

    extern "C" fn in_the_child() {
        GENERATION.store(NEXT.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    if INSTALLED.load(Ordering::Acquire) {
        return Ok(());
    }
    // SAFETY: the handlers are plain functions that live as long as the program, and all they do is to load and to store
    // an atomic number, which is allowed in a child.
    match unsafe { libc::pthread_atfork(Some(before_a_fork), None, Some(in_the_child)) } {
        0 => {
            INSTALLED.store(true, Ordering::Release);
            Ok(())
        }
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Begins to count forks. This system has none, so nothing is done.
///
/// # Errors
///
/// Never.
#[cfg(not(unix))]
pub fn watch_forks() -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_child_has_another_generation_and_the_parent_keeps_its_own() {
        watch_forks().unwrap();
        watch_forks().unwrap();
        let before = fork_generation();
        // SAFETY: the child makes no call but the two atomic loads and `_exit`, which are safe after a fork.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let changed = fork_generation() == before + 1;
            // SAFETY: `_exit` ends the child at once.
            unsafe { libc::_exit(i32::from(!changed)) };
        }
        assert!(child > 0);
        let mut status = 0;
        // SAFETY: `status` is a live integer and `child` is our own child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
        assert_eq!(fork_generation(), before);
    }
}
