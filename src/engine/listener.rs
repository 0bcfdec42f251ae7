//! A binding endpoint: accepts with limits, and pauses instead of spinning when descriptors run out.

use super::reactor::Lingering;
use super::unheard::Unheard;
use super::{EndpointId, Settings};
use crate::slab::Key;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use wiremesh_transports::Listener;

/// A listener that whoever unbinds or closes can close at once, also while a driver sits in the seat: the address is free when the
/// call returns.
pub(crate) struct SharedListener(Mutex<Option<Box<dyn Listener>>>);

impl SharedListener {
    pub(crate) fn new(listener: Box<dyn Listener>) -> Arc<SharedListener> {
        Arc::new(SharedListener(Mutex::new(Some(listener))))
    }

    /// Does something with it; `None` if it is closed already. A close waits meanwhile.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&dyn Listener) -> T) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_deref().map(work)
    }

    /// Closes it, unless that has happened. Whoever does not drive has no registry: the descriptor leaves the poll by being closed
    /// then. A copy of it that a forked child holds stays registered, under a token that finds no binding any more.
    pub(crate) fn close(&self, registry: Option<&mio::Registry>) {
        let listener = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listener) = listener {
            if let Some(registry) = registry {
                let _ = listener.deregister(registry);
            }
            listener.close();
        }
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
    /// Connections whose handshake is not done, oldest first; may hold keys of links that are gone.
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

    /// Stops accepting for a while; when it goes on.
    pub(crate) fn pause(&mut self, now: Instant) -> Instant {
        let until = now + self.pause;
        self.pause = (self.pause * 2).min(Binding::LONGEST_PAUSE / 2);
        self.paused = Some(until);
        until
    }
}
