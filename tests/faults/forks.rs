//! Processes that are forked from one that has used neither sockets nor random numbers yet.

use crate::support::child::{self, Process};
use crate::support::{PATIENCE, alone};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use wiremesh::Pull;

/// More than the names that are tried for one folder.
const WORKERS: usize = 24;

/// What a child has of the keys of hash maps is its parent's.
#[test]
fn workers_that_are_forked_get_different_names_for_a_star() {
    let _turn = alone();
    let mut process = Process::start("fork-binders", &[]);
    assert_eq!(process.hear(), "y".repeat(WORKERS));
    process.finish();
}

/// Forks workers that bind each for itself, and says how each fared.
pub(crate) fn binders(_: &[&str]) {
    // From now on there are keys.
    let _map: std::collections::HashMap<u8, u8> = [(1, 1)].into();
    let ((mut results, result), (hold, held)) =
        (UnixStream::pair().expect("a pair"), UnixStream::pair().expect("a pair"));
    let mut children = Vec::new();
    for _ in 0..WORKERS {
        // SAFETY: the child has this one thread, which uses the allocator, as the C library allows there, and ends by
        // `_exit`.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "fork");
        if child == 0 {
            drop(held);
            let verdict = std::panic::catch_unwind(|| {
                let pull = Pull::new();
                let outcome = if pull.bind("ipc://*").is_ok() { b"y" } else { b"n" };
                let _ = (&result).write_all(outcome);
                // Until all have tried.
                let _ = (&hold).read(&mut [0]);
            });
            // SAFETY: ends the process; nothing of the parent's is flushed or joined.
            unsafe { libc::_exit(i32::from(verdict.is_err())) };
        }
        children.push(child);
    }
    let mut fared = [0; WORKERS];
    results.read_exact(&mut fared).expect("each says something");
    drop(held);
    let begin = std::time::Instant::now();
    for child in children {
        let mut status = 0;
        // SAFETY: `status` is a live integer and `child` is our own child.
        while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
            assert!(begin.elapsed() < PATIENCE, "a child hangs");
            std::thread::yield_now();
        }
    }
    child::tell(String::from_utf8_lossy(&fared));
}
