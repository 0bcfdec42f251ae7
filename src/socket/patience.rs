//! How long the sender of a long message stays with it: as long as the peer takes it quickly, and no longer.

use std::time::{Duration, Instant};

/// What one call of a sender puts up with while it writes. The wait is one that gives its processor away again and
/// again and does not sleep: a sleep and the wake after it cost more than a peer needs that reads at such a pace.
pub(super) struct Patience {
    begun: Instant,
    /// Whatever happens, it is over then.
    end: Instant,
    /// Octets the peer has taken.
    taken: usize,
}

impl Patience {
    /// What a peer that reads may stand still in all, beyond what its octets are given.
    const SLACK: Duration = Duration::from_micros(200);
    /// What each octet is given: who takes less than a gigabyte a second is not waited for.
    const PER_OCTET: Duration = Duration::from_nanos(1);
    /// The longest a call stays, so that it notices a close in time.
    const LONGEST: Duration = Duration::from_millis(20);

    pub(super) fn new(now: Instant, deadline: Option<Instant>) -> Patience {
        let end = now + Patience::LONGEST;
        Patience { begun: now, end: deadline.map_or(end, |deadline| deadline.min(end)), taken: 0 }
    }

    /// The peer has taken so many octets.
    pub(super) fn note(&mut self, octets: usize) {
        self.taken += octets;
    }

    /// Whether to go on.
    pub(super) fn lasts(&self, now: Instant) -> bool {
        now < self.end && self.is_earned(now)
    }

    /// Whether the peer was quick enough so far.
    pub(super) fn is_earned(&self, now: Instant) -> bool {
        let octets = u32::try_from(self.taken).unwrap_or(u32::MAX);
        now.saturating_duration_since(self.begun) <= Patience::SLACK + Patience::PER_OCTET * octets
    }
}

/// Whether it has paid to be patient with a peer.
#[derive(Clone, Copy, Default)]
pub(super) struct Trust {
    /// It is mistrusted until it has taken so many octets in all.
    from: u64,
    failures: u32,
}

impl Trust {
    /// What a peer must take before a sender is patient with it again; doubled with each failure on end, so many times.
    const STEP: u64 = 1 << 20;
    const DOUBLINGS: u32 = 6;

    /// Whether to be patient with a peer that has taken so many octets in all.
    pub(super) fn holds(self, taken: u64) -> bool {
        taken >= self.from
    }

    /// The peer was quick.
    pub(super) fn prove(&mut self) {
        self.failures = 0;
    }

    /// It was not.
    pub(super) fn lose(&mut self, taken: u64) {
        self.from = taken + (Trust::STEP << self.failures.min(Trust::DOUBLINGS));
        self.failures += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_earned_by_the_octets_a_peer_takes() {
        let begin = Instant::now();
        let mut patience = Patience::new(begin, None);
        assert!(patience.lasts(begin + Patience::SLACK));
        assert!(!patience.lasts(begin + Patience::SLACK * 2));
        patience.note(1 << 20);
        assert!(patience.lasts(begin + Duration::from_millis(1)));
        assert!(!patience.lasts(begin + Duration::from_millis(2)));
    }

    #[test]
    fn patience_ends_with_the_deadline_and_never_lasts_long() {
        let begin = Instant::now();
        let mut patience = Patience::new(begin, Some(begin + Duration::from_micros(50)));
        assert!(patience.lasts(begin + Duration::from_micros(49)));
        assert!(!patience.lasts(begin + Duration::from_micros(50)));
        patience = Patience::new(begin, None);
        patience.note(usize::MAX);
        assert!(patience.lasts(begin + Patience::LONGEST / 2));
        assert!(!patience.lasts(begin + Patience::LONGEST) && patience.is_earned(begin + Patience::LONGEST));
    }

    #[test]
    fn a_slow_peer_is_trusted_again_after_what_doubles_each_time_it_fails() {
        let mut trust = Trust::default();
        assert!(trust.holds(0));
        trust.lose(100);
        assert!(!trust.holds(100 + Trust::STEP - 1) && trust.holds(100 + Trust::STEP));
        trust.lose(0);
        assert!(!trust.holds(2 * Trust::STEP - 1) && trust.holds(2 * Trust::STEP));
        (0..100).for_each(|_| trust.lose(0));
        assert!(trust.holds(Trust::STEP << Trust::DOUBLINGS));
        trust.prove();
        trust.lose(0);
        assert!(trust.holds(Trust::STEP));
    }
}
