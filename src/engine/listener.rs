//! A binding endpoint: accepts with limits, and pauses instead of spinning when descriptors run out.

use super::link::{Link, State};
use super::reactor::Lingering;
use super::unheard::Unheard;
use super::{EndpointId, Settings, inside};
use crate::slab::{Key, Slab};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use wiremesh_transports::Listener;
use wiremesh_transports::sys::thread_number;

/// A listener that whoever unbinds or closes can close at once, also while a driver sits in the seat: the address is
/// free when the call returns.
pub(crate) struct SharedListener {
    listener: Mutex<Option<Box<dyn Listener>>>,
    /// The [`thread_number`] of the thread that uses it, with the lock held; 0 if there is none.
    user: AtomicU64,
    /// Its user closes it, from within a call of the listener.
    ends: AtomicBool,
}

impl SharedListener {
    pub(crate) fn new(listener: Box<dyn Listener>) -> Arc<SharedListener> {
        let (user, ends) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(SharedListener { listener: Mutex::new(Some(listener)), user, ends })
    }

    /// Does something with it; `None` if it is closed, already or by the work itself. A close on another thread waits
    /// meanwhile.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&dyn Listener) -> T) -> Option<T> {
        let mut listener = self.lock();
        let done = {
            let used = listener.as_deref()?;
            self.user.store(thread_number(), Ordering::Relaxed);
            let _leave = Leave(&self.user);
            inside::call(|| work(used))
        };
        if self.ends.load(Ordering::Relaxed) {
            let listener = listener.take();
            listener.into_iter().for_each(Listener::close);
            return None;
        }
        Some(done)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<dyn Listener>>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes it, unless that has happened. Whoever does not drive has no registry: the descriptor leaves the poll by
    /// being closed then. A copy of it that a forked child holds stays registered, under a token that finds no binding
    /// any more. A call from within the listener itself, whose thread holds the lock, takes effect when that returns.
    pub(crate) fn close(&self, registry: Option<&mio::Registry>) {
        // No other thread stores the number of this one.
        if self.user.load(Ordering::Relaxed) == thread_number() {
            self.ends.store(true, Ordering::Relaxed);
            return;
        }
        let listener = self.lock().take();
        if let Some(listener) = listener {
            if let Some(registry) = registry {
                let _ = listener.deregister(registry);
            }
            listener.close();
        }
    }
}

/// Nobody uses the listener any more, even if the use panicked.
struct Leave<'a>(&'a AtomicU64);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// One `bind` of a socket.
pub(crate) struct Binding {
    pub(crate) id: EndpointId,
    pub(crate) endpoint: Arc<str>,
    /// `None` once unbound, while its connections linger.
    pub(crate) listener: Option<Arc<SharedListener>>,
    pub(crate) settings: Arc<Settings>,
    /// How many connections it has, those without a handshake included.
    pub(crate) links: usize,
    /// How long these may go on to deliver what is queued, if it is unbound and the socket is not closed.
    pub(crate) lingering: Option<Lingering>,
    /// Connections whose handshake is not done; may hold keys of links that are gone.
    pub(crate) half_open: Vec<Key>,
    /// Connections that a peer closed without a word, one after the other.
    pub(crate) unheard: Unheard,
    /// It is on the ready list.
    pub(crate) listed: bool,
    /// Accepting goes on at this moment.
    pub(crate) paused: Option<Instant>,
    /// How long the next pause is.
    pub(crate) pause: Duration,
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
        let waits = self.is_crowded(links) && !self.half_open.iter().any(|key| is_due(links, *key, now));
        waits.then(|| now + Binding::LOOK)
    }

    /// Takes one out at random of those that are not safe, if there is no place for another. `random` is any number.
    pub(crate) fn evict(&mut self, links: &Slab<Link>, random: u64, now: Instant) -> Option<Key> {
        if !self.is_crowded(links) {
            return None;
        }
        let mut due = self.half_open.iter().enumerate().filter(|(_, key)| is_due(links, **key, now));
        let count = due.clone().count();
        let (unlucky, _) = due.nth((random >> 33) as usize % count.max(1))?;
        Some(self.half_open.swap_remove(unlucky))
    }

    /// Whether there is no place for another connection without a handshake.
    fn is_crowded(&mut self, links: &Slab<Link>) -> bool {
        if self.half_open.len() < self.settings.half_open {
            return false;
        }
        // One that is ready has, or will soon have, our READY: what it has sent since must not be lost.
        let evictable = |link: &Link| matches!(link.state, State::Handshaking);
        self.half_open.retain(|link| links.get(*link).is_some_and(evictable));
        self.half_open.len() >= self.settings.half_open.max(1)
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
