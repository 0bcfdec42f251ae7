//! Sleeping in a poll for less than a millisecond.

use std::io;
use std::time::Duration;

use mio::Poll;

/// A timeout from this on may be rounded up to whole milliseconds, as [`Poll::poll`] does.
const COARSE: Duration = Duration::from_millis(20);

/// Sleeps until something in a poll is ready, or for a short `timeout`, to the microsecond. Fetches nothing: ask the
/// poll afterwards, without waiting. Returns `false` at once, without having slept, if the timeout is so long that the
/// poll itself is precise enough, or on systems where sleeping is less precise than that; then let the poll wait.
///
/// # Errors
///
/// [`Interrupted`](io::ErrorKind::Interrupted) if a signal came.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn sleep_precisely(poll: &Poll, timeout: Duration) -> io::Result<bool> {
    use std::os::fd::AsRawFd;

    if timeout >= COARSE || timeout.subsec_nanos() % 1_000_000 == 0 {
        return Ok(false);
    }
    let mut poll = libc::pollfd { fd: poll.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = libc::timespec { tv_sec: 0, tv_nsec: timeout.subsec_nanos() as libc::c_long };
    // Not `epoll_pwait2`: that would take the edges of the streams out of the poll, is missing before Linux 5.11, and
    // this is a system call more only where a wait is short.
    //
    // SAFETY: both pointers are to live values, of which the call writes `revents`; without a signal mask the last one
    // is not looked at.
    let result = unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(true) }
}

/// Says that the poll itself is to wait.
///
/// # Errors
///
/// Never.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn sleep_precisely(_poll: &Poll, _timeout: Duration) -> io::Result<bool> {
    Ok(false)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use mio::{Token, Waker};
    use std::time::Instant;

    #[test]
    fn a_short_sleep_is_short() {
        let poll = Poll::new().unwrap();
        let mut took: Vec<_> = (0..101)
            .map(|_| {
                let begin = Instant::now();
                assert!(sleep_precisely(&poll, Duration::from_micros(50)).unwrap());
                begin.elapsed()
            })
            .collect();
        took.sort_unstable();
        assert!(took[0] >= Duration::from_micros(50), "{took:?}");
        assert!(took[10] < Duration::from_millis(1), "{took:?}");
    }

    #[test]
    fn what_becomes_ready_ends_a_sleep_and_stays_in_the_poll() {
        let mut poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(7)).unwrap();
        waker.wake().unwrap();
        // A busy machine may keep the thread for longer than it would have slept, now and then.
        let ends_early = |_| {
            let begin = Instant::now();
            assert!(sleep_precisely(&poll, COARSE - Duration::from_micros(1)).unwrap());
            begin.elapsed() < COARSE / 2
        };
        assert!((0..50).any(ends_early));
        let mut events = mio::Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert_eq!(events.iter().map(|event| event.token()).collect::<Vec<_>>(), [Token(7)]);
    }

    #[test]
    fn a_long_sleep_is_left_to_the_poll() {
        let poll = Poll::new().unwrap();
        assert!(!sleep_precisely(&poll, COARSE).unwrap());
        assert!(!sleep_precisely(&poll, Duration::ZERO).unwrap());
    }
}
