//! A peer that does not read, filled up.

use wiremesh::{SendError, SendFailure};

/// Sends until nothing fits and goes on not to fit: how many messages went, and what came of the last one. A full tcp
/// connection takes a little more when one of the kernel's timers fires, so one that times out says nothing yet.
pub(crate) fn fill(mut send: impl FnMut() -> Result<(), SendError>) -> (usize, SendError) {
    let (mut sent, mut refused) = (0, 0);
    loop {
        match send() {
            Ok(()) => (sent, refused) = (sent + 1, 0),
            Err(error) => {
                assert_eq!(error.reason, SendFailure::TimedOut);
                refused += 1;
                if refused == 3 {
                    return (sent, error);
                }
            }
        }
    }
}
