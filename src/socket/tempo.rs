//! How the messages of a socket follow each other: alone, or in bursts.

use std::time::{Duration, Instant};

/// A socket that has sent nothing for this long writes at once instead of leaving it to whoever drives.
const QUIET: Duration = Duration::from_micros(10);
/// So many messages that follow each other without a pause are a burst, and the first of the next run is not written
/// alone.
const BURST: u64 = 8;
/// On a busy machine no driver waits for the rest of bursts for so long.
const CROWDED: Duration = Duration::from_secs(1);

/// How messages follow each other.
pub(super) struct Tempo {
    /// The last time a message found an empty outbox, or an inline write returned.
    quiet_since: Instant,
    /// How many messages there had been when the present run of them began, and whether the one before it was a burst.
    began: u64,
    bursts: bool,
    /// Until when no driver waits for the rest of a burst, as others need the processors.
    crowded_until: Option<Instant>,
}

impl Tempo {
    pub(super) fn new() -> Tempo {
        Tempo { quiet_since: Instant::now(), began: 0, bursts: false, crowded_until: None }
    }

    /// Something other than the sender took time: it does not count as a pause.
    pub(super) fn go_on(&mut self) {
        self.quiet_since = Instant::now();
    }

    /// A driver that waited for the rest of a burst lost its processor, and would again: none does so for a while.
    pub(super) fn note_crowd(&mut self) {
        self.crowded_until = Some(Instant::now() + CROWDED);
    }

    /// A message meets an empty outbox: whether it is likely to stay alone for a while, and is better written at once.
    pub(super) fn is_lone(&mut self, accepted: u64) -> bool {
        let now = Instant::now();
        let quiet = now.saturating_duration_since(self.quiet_since) >= QUIET;
        self.quiet_since = now;
        if quiet {
            self.bursts = accepted - self.began >= BURST;
            self.began = accepted;
        }
        quiet && !self.bursts
    }

    /// Whether what waits of a burst may soon be more.
    pub(super) fn may_grow(&self) -> bool {
        self.bursts && self.crowded_until.is_none_or(|until| until <= Instant::now())
    }
}
