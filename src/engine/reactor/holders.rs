//! Links within a long message: what they hold of it counts in the context's budget, they are not read while that has no room, and
//! in a shortage those that hold too much for too long go.

use super::{Loss, Reactor, Timer};
use crate::budget::Budget;
use crate::engine::Host;
use crate::event::Cause;
use crate::slab::Key;
use std::cmp::Reverse;
use std::time::{Duration, Instant};

impl Reactor {
    /// Tells the context's budget what a link holds of an unfinished message, in steps.
    pub(super) fn count(&mut self, host: &dyn Host, key: Key, now: Instant) {
        let Some(link) = self.links.get_mut(key) else { return };
        let counted = Budget::steps(link.counted, link.machine.held());
        if counted == link.counted {
            return;
        }
        let before = std::mem::replace(&mut link.counted, counted);
        if counted == 0 {
            link.looked = 0;
            self.favourite = self.favourite.filter(|favourite| *favourite != key);
        }
        self.recount(host, before, counted);
        if self.holders > 0 && !self.watched && host.budget().is_limited() {
            self.watched = true;
            self.timers.push(Reverse((now + HOLDERS_LOOK, Timer::Holders)));
        }
    }

    pub(super) fn recount(&mut self, host: &dyn Host, before: usize, now: usize) {
        self.holders = (self.holders + usize::from(now > 0)).saturating_sub(usize::from(before > 0));
        host.hold(before, now);
    }

    /// A look at links within a long message. Nobody can take an unfinished message out of the budget by reading it, so a shortage
    /// that such messages make would never end. Therefore the one that holds most is read on, and those that bring nothing, although
    /// they are not kept from it, go, the largest first.
    pub(super) fn relieve(&mut self, host: &dyn Host, now: Instant) {
        self.watched = self.holders > 0;
        if !self.watched {
            self.favourite = None;
            return;
        }
        self.timers.push(Reverse((now + HOLDERS_LOOK, Timer::Holders)));
        let over = host.budget().is_over();
        let (mut idle, mut waiting) = (Vec::new(), None);
        for (key, link) in self.links.iter_mut().filter(|(_, link)| link.counted > 0) {
            let due = (link.looked / SHARE).max(1);
            if !over || link.starved || link.counted.saturating_sub(link.looked) >= due {
                (link.looked, link.idle) = (link.counted, 0);
            } else {
                link.idle = link.idle.saturating_add(1);
            }
            if link.idle >= IDLE_LOOKS {
                idle.push((link.counted, key));
            }
            if link.starved {
                waiting = waiting.max(Some((link.counted, key)));
            }
        }
        idle.sort_unstable_by(|a, b| b.cmp(a));
        for (counted, key) in idle {
            if host.budget().is_hogged_beside(counted) && host.budget().is_most(counted) {
                let cause = Cause::Limit("its message stood still while unfinished ones took most of `byte_budget`");
                self.lose(host, key, Loss::Local(cause));
            }
        }
        if !over || self.favourite.is_some_and(|key| self.links.get(key).is_none()) {
            self.favourite = None;
        }
        if let (None, Some((counted, key))) = (self.favourite, waiting) {
            if host.budget().is_hogged_beside(counted) && host.budget().is_most(counted) {
                self.favourite = Some(key);
            }
        }
        self.feed_starved(host);
    }

    /// Lets links be read again for which the budget has room.
    pub(super) fn feed_starved(&mut self, host: &dyn Host) {
        if self.holders == 0 {
            return;
        }
        let favourite = self.favourite;
        let may = |key, counted| favourite == Some(key) || !host.budget().is_crowded_beside(counted);
        let fed: Vec<Key> = (self.links.iter_mut())
            .filter(|(key, link)| link.starved && may(*key, link.counted))
            .map(|(key, link)| {
                link.starved = false;
                key
            })
            .collect();
        for key in fed {
            self.list(key);
        }
    }
}

/// How often links within a long message are looked at, whether the context's budget can bear them.
const HOLDERS_LOOK: Duration = Duration::from_millis(100);
/// After how many looks in a shortage a link goes that has brought less than a step meanwhile, …
const IDLE_LOOKS: u8 = 10;
/// … or less than this part of what it holds, if that is more. A shortage then lasts minutes, not hours, although each
/// brings a little.
const SHARE: usize = 64;
