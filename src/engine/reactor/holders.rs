//! Links within a long message: what they hold of it counts in the context's budget. In a shortage one of them is read
//! on, so that its message is once whole, the others wait, and those that hold too much for too long go.

use super::{Loss, Reactor, Timer};
use crate::budget::Unfinished;
use crate::engine::Host;
use crate::engine::link::Link;
use crate::event::Cause;
use crate::slab::Key;
use std::cmp::Reverse;
use std::time::{Duration, Instant};

impl Reactor {
    /// Tells the context's budget what a link holds of an unfinished message, in steps.
    pub(super) fn count(&mut self, host: &dyn Host, key: Key, now: Instant) {
        let Some(link) = self.links.get_mut(key) else { return };
        let (before, counted) = (link.unfinished.octets(), link.unfinished.steps(link.machine.held()));
        if counted == before {
            return;
        }
        link.unfinished.set(host.account(), counted);
        self.holders = (self.holders + usize::from(before == 0)).saturating_sub(usize::from(counted == 0));
        if counted == 0 {
            link.looked = 0;
            self.pass_favour(host, key);
        }
        host.attend();
        if self.holders > 0 && !self.watched && host.account().has_limit() {
            self.watched = true;
            self.timers.push(Reverse((now + HOLDERS_LOOK, Timer::Holders)));
        }
    }

    /// A link is gone with what it held.
    pub(super) fn uncount(&mut self, host: &dyn Host, key: Key, unfinished: Unfinished) {
        if unfinished.octets() == 0 {
            return;
        }
        self.holders = self.holders.saturating_sub(1);
        drop(unfinished);
        self.pass_favour(host, key);
        host.attend();
    }

    /// A look at links within a long message. Nobody can take an unfinished message out of the budget by reading it, so
    /// a shortage that such messages make would never end. Therefore those that bring nothing, although they are not
    /// kept from it, go, the largest first. While what has been received and not read makes the shortage, none goes,
    /// and another is read on instead.
    pub(super) fn relieve(&mut self, host: &dyn Host, now: Instant) {
        self.watched = self.holders > 0;
        if !self.watched {
            self.favourite = None;
            return;
        }
        self.timers.push(Reverse((now + HOLDERS_LOOK, Timer::Holders)));
        let over = host.account().is_stopped();
        let mut idle = Vec::new();
        for (key, link) in self.links.iter_mut().filter(|(_, link)| link.unfinished.octets() > 0) {
            let counted = link.unfinished.octets();
            let due = (link.looked / SHARE).max(1);
            if !over || link.is_kept() || counted.saturating_sub(link.looked) >= due {
                (link.looked, link.idle) = (counted, 0);
            } else {
                link.idle = link.idle.saturating_add(1);
            }
            if link.idle >= IDLE_LOOKS {
                idle.push((counted, key));
            }
        }
        idle.sort_unstable_by(|a, b| b.cmp(a));
        for (counted, key) in idle {
            if host.account().is_hogged_beside(counted) && host.account().is_most(counted) {
                let cause = Cause::Limit("its message stood still while unfinished ones took most of `byte_budget`");
                self.lose(host, key, Loss::Local(cause));
            }
        }
        let serves = |link: &Link| !link.is_kept() && link.idle < IDLE_LOOKS;
        if !over || !self.favourite.and_then(|key| self.links.get(key)).is_some_and(serves) {
            self.favourite = None;
        }
        self.feed_starved(host);
    }

    /// The link that is read on in a shortage needs that no longer: the next one is.
    fn pass_favour(&mut self, host: &dyn Host, key: Key) {
        if self.favourite == Some(key) {
            self.favourite = None;
            self.feed_starved(host);
        }
    }

    /// Lets links be read again for which the budget has room, and one in any case: the one that holds most, as it is
    /// likely to be whole first.
    pub(super) fn feed_starved(&mut self, host: &dyn Host) {
        if self.holders == 0 {
            return;
        }
        let starved = self.links.iter_mut().filter(|(_, link)| link.starved);
        let largest = starved.map(|(key, link)| (link.unfinished.octets(), key)).max();
        let Some((_, largest)) = largest else { return };
        let favourite = *self.favourite.get_or_insert(largest);
        let may = |key, counted| favourite == key || !host.account().is_crowded_beside(counted);
        let fed: Vec<Key> = (self.links.iter_mut())
            .filter(|(key, link)| link.starved && may(*key, link.unfinished.octets()))
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

/// Returns true if a link that is about to be read is to wait instead. The first such link is read on, as no other is.
pub(super) fn is_starved(favourite: &mut Option<Key>, host: &dyn Host, key: Key, link: &Link) -> bool {
    host.account().is_crowded_beside(link.unfinished.octets()) && *favourite.get_or_insert(key) != key
}

/// How often links within a long message are looked at, whether the context's budget can bear them.
const HOLDERS_LOOK: Duration = Duration::from_millis(100);
/// After how many looks in a shortage a link goes that has brought less than a step meanwhile, …
const IDLE_LOOKS: u8 = 10;
/// … or less than this part of what it holds, if that is more. A shortage then lasts minutes, not hours, although each
/// brings a little.
const SHARE: usize = 64;
