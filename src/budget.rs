//! The octets all sockets of a context may hold in queues together: the last bound on memory, behind the marks of each peer.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// Counted in steps, so that no message pays for it.
pub(crate) struct Budget {
    /// 0 is no limit.
    limit: i64,
    used: AtomicI64,
    /// More than the limit is in use; until a quarter of it is free again.
    over: AtomicBool,
}

impl Budget {
    pub(crate) fn new(limit: Option<u64>) -> Budget {
        let limit = limit.map_or(0, |limit| i64::try_from(limit.max(1)).unwrap_or(i64::MAX));
        Budget { limit, used: AtomicI64::new(0), over: AtomicBool::new(false) }
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
    fn without_a_limit_nothing_is_ever_over() {
        let budget = Budget::new(None);
        budget.charge(usize::MAX / 2);
        assert!(!budget.is_over());
        assert!(!budget.release(1));
    }
}
