//! A binding endpoint: accepts with limits, and pauses instead of spinning when descriptors run out.

use super::{EndpointId, Settings};
use crate::slab::Key;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One `bind` of a socket.
pub(crate) struct Binding {
    pub(crate) id: EndpointId,
    pub(crate) endpoint: Arc<str>,
    /// `None` once unbound, while its connections linger.
    pub(crate) listener: Option<Box<dyn wiremesh_transports::Listener>>,
    pub(crate) settings: Arc<Settings>,
    /// Connections whose handshake is not done, oldest first; may hold keys of links that are gone.
    pub(crate) half_open: Vec<Key>,
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
