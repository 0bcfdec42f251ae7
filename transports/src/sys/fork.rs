//! Noticing that this process is a forked child.
//!
//! After `fork` the child shares the parent's polls and sockets: taking a descriptor out of a poll, shutting a stream
//! down or removing a socket file would hit the parent. So whatever holds such things remembers the generation it was
//! made in and compares.

use std::io;
#[cfg(unix)]
use std::sync::OnceLock;
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
    static INSTALLED: OnceLock<i32> = OnceLock::new();

    extern "C" fn in_the_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }

    // SAFETY: the handler is a plain function that lives as long as the program, and all it does in the child is one
    // atomic addition, which is allowed there.
    let result = *INSTALLED.get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(in_the_child)) });
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
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
