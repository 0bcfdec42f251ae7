//! A binding endpoint: accepts with limits, and pauses instead of spinning when descriptors run out.

use super::contain::contain;
use super::link::{Link, State};
use super::reactor::Lingering;
use super::unheard::Unheard;
use super::{EndpointId, Settings, inside};
use crate::slab::{Key, Slab};
use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use wiremesh_transports::Listener;

/// A listener that whoever unbinds or closes can close at once, also while a driver sits in the seat: the address is
/// free when the call returns.
pub(crate) struct SharedListener {
    slot: Mutex<Slot>,
    /// It is not used any more.
    idle: Condvar,
}

/// Where the listener is.
enum Slot {
    Idle(Box<dyn Listener>),
    /// A thread has taken it out, to use or to close it.
    Used {
        /// It is to be closed after the use.
        ends: bool,
    },
    Closed,
}

impl SharedListener {
    pub(crate) fn new(listener: Box<dyn Listener>) -> Arc<SharedListener> {
        Arc::new(SharedListener { slot: Mutex::new(Slot::Idle(listener)), idle: Condvar::new() })
    }

    /// Does something with it; `None` if it is closed, already or by the work itself.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&dyn Listener) -> T) -> Option<T> {
        let mut used = self.take(false)?;
        let done = used.listener.as_deref().map(work);
        if used.give_back() { done } else { None }
    }

    /// Closes it, unless that has happened. Whoever does not drive has no registry: the descriptor leaves the poll by
    /// being closed then. A copy of it that a forked child holds stays registered, under a token that finds no binding
    /// any more.
    ///
    /// Waits while another thread uses it, except in the middle of what an engine does, as in code of the listener
    /// itself: it is closed after that use then.
    pub(crate) fn close(&self, registry: Option<&mio::Registry>) {
        let Some(mut used) = self.take(true) else { return };
        if let (Some(listener), Some(registry)) = (used.listener.as_deref(), registry) {
            let _ = listener.deregister(registry);
        }
        used.give_back();
    }

    /// Takes the listener out, to be closed after that if it `ends`; `None` if another thread closes it or has done so.
    fn take(&self, ends: bool) -> Option<Use<'_>> {
        let mut slot = self.lock();
        loop {
            match std::mem::replace(&mut *slot, Slot::Used { ends }) {
                Slot::Idle(listener) => return Some(Use { shared: self, listener: Some(listener) }),
                Slot::Used { ends: ended } => {
                    *slot = Slot::Used { ends: ended || ends };
                    if inside::is_inside() {
                        return None;
                    }
                }
                Slot::Closed => {
                    *slot = Slot::Closed;
                    return None;
                }
            }
            slot = self.idle.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The listener while it is out of its slot: it goes back, or is closed, when this is dropped, even by a panic.
struct Use<'a> {
    shared: &'a SharedListener,
    listener: Option<Box<dyn Listener>>,
}

impl Use<'_> {
    /// Returns false if the listener is closed instead.
    fn give_back(&mut self) -> bool {
        let Some(listener) = self.listener.take() else { return false };
        let mut slot = self.shared.lock();
        if matches!(*slot, Slot::Used { ends: false }) {
            *slot = Slot::Idle(listener);
            self.shared.idle.notify_one();
            return true;
        }
        drop(slot);
        // Code of a transport runs without the lock, and threads that wait go on when the address is free.
        let _closes = Closes(self.shared);
        listener.close();
        false
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        // Not given back yet only where a panic is under way already.
        let _ = contain(|| self.give_back());
    }
}

/// The listener is closed when this is dropped, even by a panic.
struct Closes<'a>(&'a SharedListener);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        *self.0.lock() = Slot::Closed;
        self.0.idle.notify_all();
    }
}

/// One `bind` of a socket.
pub(crate) struct Binding {
    pub(crate) id: EndpointId,
    pub(crate) endpoint: Arc<str>,
    /// `None` once unbound, while its connections linger.
    pub(crate) listener: Option<Arc<SharedListener>>,
    pub(crate) settings: Arc<Settings>,
    /// Its connections, those without a handshake included.
    pub(crate) links: BTreeSet<Key>,
    /// How long these may go on to deliver what is queued, if it is unbound and the socket is not closed.
    pub(crate) lingering: Option<Lingering>,
    pub(crate) half_open: HalfOpen,
    /// Connections that a peer closed without a word, one after the other.
    pub(crate) unheard: Unheard,
    /// How many newcomers in a row were gone when they were to be accepted.
    pub(crate) aborted: usize,
    /// It is on the ready list.
    pub(crate) listed: bool,
    /// Accepting goes on at this moment.
    pub(crate) paused: Option<Instant>,
    /// How long the next pause is.
    pub(crate) pause: Duration,
}

/// Connections whose handshake is not done, and at most as many again, or `FEW`, whose is, or that are gone.
#[derive(Default)]
pub(crate) struct HalfOpen {
    keys: Vec<Key>,
    /// How many were left when it was last looked who of them still is.
    left: usize,
}

impl HalfOpen {
    /// So few are not worth a look.
    const FEW: usize = 64;

    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// A newcomer's handshake begins; `is_half_open` says of the others whose is not done.
    pub(crate) fn note(&mut self, newcomer: Key, is_half_open: impl Fn(Key) -> bool) {
        if self.keys.len() >= 2 * self.left + HalfOpen::FEW {
            self.purge(is_half_open);
        }
        self.keys.push(newcomer);
    }

    fn purge(&mut self, is_half_open: impl Fn(Key) -> bool) {
        self.keys.retain(|key| is_half_open(*key));
        self.left = self.keys.len();
    }
}

impl Binding {
    /// The first pause after descriptors ran out; it doubles up to [`LONGEST_PAUSE`].
    pub(crate) const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);

    /// So long a handshake may last before its connection is evicted. Where newcomers evicted those before them at
    /// once, a crowd of peers that come again and again would let none of its own be done.
    const SAFE: Duration = Duration::from_millis(50);
    /// How long it waits for a handshake to be done.
    const LOOK: Duration = Duration::from_millis(1);

    /// Until when to leave newcomers in the system's queue, if every place is taken by a handshake that is still safe.
    pub(crate) fn waits_for_room(&mut self, links: &Slab<Link>, now: Instant) -> Option<Instant> {
        let waits = self.is_crowded(links) && !self.half_open.keys().iter().any(|key| is_due(links, *key, now));
        waits.then(|| now + Binding::LOOK)
    }

    /// Takes one out at random of those that are not safe, if there is no place for another. `random` is any number.
    pub(crate) fn evict(&mut self, links: &Slab<Link>, random: u64, now: Instant) -> Option<Key> {
        if !self.is_crowded(links) {
            return None;
        }
        let mut due = self.half_open.keys().iter().enumerate().filter(|(_, key)| is_due(links, **key, now));
        let count = due.clone().count();
        let (unlucky, _) = due.nth((random >> 33) as usize % count.max(1))?;
        Some(self.half_open.keys.swap_remove(unlucky))
    }

    /// Whether there is no place for another connection without a handshake.
    fn is_crowded(&mut self, links: &Slab<Link>) -> bool {
        if self.half_open.keys.len() < self.settings.half_open {
            return false;
        }
        self.half_open.purge(|key| Binding::is_half_open(links, key));
        self.half_open.keys.len() >= self.settings.half_open.max(1)
    }

    /// Whether its handshake is not done. One that is ready has, or will soon have, our READY: what it has sent since
    /// must not be lost.
    pub(crate) fn is_half_open(links: &Slab<Link>, key: Key) -> bool {
        links.get(key).is_some_and(|link| matches!(link.state, State::Handshaking))
    }

    /// Stops accepting for a while; when it goes on.
    pub(crate) fn pause(&mut self, now: Instant) -> Instant {
        let until = now + self.pause;
        self.pause = (self.pause * 2).min(Binding::LONGEST_PAUSE / 2);
        self.paused = Some(until);
        until
    }
}

fn is_due(links: &Slab<Link>, key: Key, now: Instant) -> bool {
    links.get(key).is_none_or(|link| now.saturating_duration_since(link.opened) >= Binding::SAFE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn connections_that_are_done_do_not_gather_among_those_that_are_not_and_are_seldom_looked_for() {
        let mut half_open = HalfOpen::default();
        let looks = Cell::new(0);
        for index in 0..100_000 {
            let newcomer = Key { index, generation: 0 };
            half_open.note(newcomer, |key| {
                looks.set(looks.get() + 1);
                key.index % 1000 == 0
            });
            assert!(half_open.keys().len() <= 2 * (index as usize / 1000 + 1) + HalfOpen::FEW + 1);
        }
        assert!(looks.get() < 400_000, "{} looks", looks.get());
        assert!((0..100).all(|index| half_open.keys().contains(&Key { index: index * 1000, generation: 0 })));
    }
}
