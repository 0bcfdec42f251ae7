//! The octets all sockets of a context may hold together, in queues and of messages that are not whole yet: the last bound on
//! memory, behind the marks of each peer.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// Counted in steps, so that no message pays for it.
pub(crate) struct Budget {
    /// 0 is no limit.
    limit: i64,
    used: AtomicI64,
    /// More than the limit is in use; until a quarter of it is free again.
    over: AtomicBool,
    /// What of it belongs to unfinished messages, and how many connections have such; those with less than a step do not count.
    unfinished: AtomicI64,
    holders: AtomicI64,
}

/// What the connections of one socket are counted for together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    octets: usize,
    holders: usize,
}

impl Held {
    /// One connection is counted for `now` octets, not `before`.
    pub(crate) fn hold(&mut self, before: usize, now: usize) {
        self.octets = (self.octets + now).saturating_sub(before);
        self.holders = (self.holders + usize::from(now > 0)).saturating_sub(usize::from(before > 0));
    }
}

/// The octets of an unfinished message are counted in such steps; fewer are free.
pub(crate) const STEP: usize = 64 * 1024;

impl Budget {
    pub(crate) fn new(limit: Option<u64>) -> Budget {
        let limit = limit.map_or(0, |limit| i64::try_from(limit.max(1)).unwrap_or(i64::MAX));
        Budget {
            limit,
            used: AtomicI64::new(0),
            over: AtomicBool::new(false),
            unfinished: AtomicI64::new(0),
            holders: AtomicI64::new(0),
        }
    }

    /// Whether there is a limit at all.
    pub(crate) fn is_limited(&self) -> bool {
        self.limit != 0
    }

    /// Whether nothing more is to be queued where something waits already.
    #[inline(always)]
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Counts octets that are queued now.
    pub(crate) fn charge(&self, octets: usize) {
        let octets = i64::try_from(octets).unwrap_or(i64::MAX);
        let used = self.used.fetch_add(octets, Ordering::Relaxed).saturating_add(octets);
        if self.limit != 0 && used > self.limit {
            self.over.store(true, Ordering::Relaxed);
        }
    }

    /// Counts octets that are queued no longer. `true` when that ended a shortage: then those who were stopped go on.
    #[must_use = "whoever was stopped by the budget must be told"]
    pub(crate) fn release(&self, octets: usize) -> bool {
        let octets = i64::try_from(octets).unwrap_or(i64::MAX);
        let used = self.used.fetch_sub(octets, Ordering::Relaxed).saturating_sub(octets);
        self.is_over() && used <= self.limit / 4 * 3 && self.over.swap(false, Ordering::Relaxed)
    }
}

/// Messages that are not whole yet. Nobody can take them out by reading, so they may not fill the budget for good.
impl Budget {
    /// What is counted for a connection that holds `held` octets and is counted for `counted`.
    pub(crate) fn steps(counted: usize, held: usize) -> usize {
        if held <= STEP {
            0
        } else if held.abs_diff(counted) < STEP {
            counted
        } else {
            held
        }
    }

    /// Counts `now` octets, not `before`, for a connection. `true` when that ended a shortage, as for [`release`](Budget::release).
    #[must_use = "whoever was stopped by the budget must be told"]
    pub(crate) fn hold(&self, before: usize, now: usize) -> bool {
        self.holders.fetch_add(i64::from(now > 0) - i64::from(before > 0), Ordering::Relaxed);
        if now > before {
            self.unfinished.fetch_add(octets(now - before), Ordering::Relaxed);
            self.charge(now - before);
            return false;
        }
        self.unfinished.fetch_sub(octets(before - now), Ordering::Relaxed);
        self.release(before - now)
    }

    /// Counts nothing any more for connections that are gone without a word, and were counted for so much together. `true` as for
    /// [`release`](Budget::release).
    #[must_use = "whoever was stopped by the budget must be told"]
    pub(crate) fn forget(&self, held: Held) -> bool {
        self.holders.fetch_sub(octets(held.holders), Ordering::Relaxed);
        self.unfinished.fetch_sub(octets(held.octets), Ordering::Relaxed);
        self.release(held.octets)
    }

    /// Whether a connection that is counted for `own` octets is to wait: there is too much, and not by its message alone, since one
    /// message is let through whatever its size.
    pub(crate) fn is_crowded_beside(&self, own: usize) -> bool {
        self.is_over() && self.used.load(Ordering::Relaxed) > octets(own)
    }

    /// Whether it waits because of unfinished messages: they have more than half of the budget.
    pub(crate) fn is_hogged_beside(&self, own: usize) -> bool {
        self.is_crowded_beside(own) && self.unfinished.load(Ordering::Relaxed) > self.limit / 2
    }

    /// Whether that connection has no less than the average of those that have unfinished messages, as the largest has.
    pub(crate) fn is_most(&self, own: usize) -> bool {
        octets(own).saturating_mul(self.holders.load(Ordering::Relaxed)) >= self.unfinished.load(Ordering::Relaxed)
    }
}

fn octets(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_ends_once_and_with_a_quarter_free() {
        let budget = Budget::new(Some(1000));
        budget.charge(1000);
        assert!(!budget.is_over());
        budget.charge(1);
        assert!(budget.is_over());
        assert!(!budget.release(200));
        assert!(budget.is_over());
        assert!(budget.release(100));
        assert!(!budget.is_over());
        assert!(!budget.release(1));
    }

    #[test]
    fn unfinished_messages_are_counted_in_steps() {
        assert_eq!(Budget::steps(0, STEP), 0);
        assert_eq!(Budget::steps(0, STEP + 1), STEP + 1);
        assert_eq!(Budget::steps(STEP + 1, 2 * STEP), STEP + 1);
        assert_eq!(Budget::steps(STEP + 1, 2 * STEP + 1), 2 * STEP + 1);
        assert_eq!(Budget::steps(9 * STEP, STEP + 1), STEP + 1);
        assert_eq!(Budget::steps(9 * STEP, 7), 0);
    }

    #[test]
    fn one_message_alone_may_be_larger_than_the_budget() {
        let budget = Budget::new(Some(1000));
        assert!(!budget.hold(0, 5000));
        assert!(budget.is_over());
        assert!(!budget.is_crowded_beside(5000) && !budget.is_hogged_beside(5000));
        budget.charge(1);
        assert!(budget.is_crowded_beside(5000) && budget.is_hogged_beside(5000));
        assert!(budget.hold(5000, 0));
        assert!(!budget.is_over());
    }

    #[test]
    fn what_connections_held_that_are_gone_at_once_is_counted_no_longer() {
        let budget = Budget::new(Some(1000));
        let mut held = Held::default();
        for (before, now) in [(0, 700), (0, 500), (500, 0), (0, 600)] {
            assert!(!budget.hold(before, now) || before > 0);
            held.hold(before, now);
        }
        assert!(budget.is_over());
        assert!(budget.forget(held));
        assert!(!budget.hold(0, 1001));
        assert!(!budget.is_crowded_beside(1001) && budget.is_most(1001));
    }

    #[test]
    fn who_holds_less_than_the_average_is_not_the_largest() {
        let budget = Budget::new(Some(1000));
        for octets in [100, 400, 600] {
            assert!(!budget.hold(0, octets));
        }
        assert!(!budget.is_most(100));
        assert!(budget.is_most(400) && budget.is_most(600));
        assert!(budget.is_hogged_beside(400));
        assert!(budget.hold(600, 0));
        assert!(!budget.is_hogged_beside(400), "the shortage is over");
    }

    #[test]
    fn what_fills_queues_is_no_fault_of_unfinished_messages() {
        let budget = Budget::new(Some(1000));
        budget.charge(800);
        assert!(!budget.hold(0, 300));
        assert!(budget.is_crowded_beside(300));
        assert!(!budget.is_hogged_beside(300));
    }

    #[test]
    fn without_a_limit_nothing_is_ever_over() {
        let budget = Budget::new(None);
        budget.charge(usize::MAX / 2);
        assert!(!budget.is_over());
        assert!(!budget.release(1));
    }
}
