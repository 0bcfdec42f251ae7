//! What a socket is told of its peers in messages that seem to come from them: that one is there, that one is gone,
//! that a connection was lost and will be made again. Each is an option.

use super::core::Core;
use super::sending::{Peer, SendSide};
use crate::engine::Incoming;
use crate::engine::waiters::Interest;
use crate::kind::SocketKind;
use crate::message::{Message, wire};
use crate::peer::PeerId;
use bytes::Bytes;

/// An empty message in wire form.
const EMPTY: Bytes = Bytes::from_static(b"\x00\x00");

impl Core {
    /// A connection is up: what the application is told before anything comes over it. Both gates may be held.
    pub(super) fn note_up(&self, peer: PeerId) {
        if self.kind == SocketKind::Router && self.lock_options().router_notify.on_connect() {
            self.arrive(peer, Incoming::Messages(EMPTY, 1));
        }
    }

    /// A connection is gone: what the application is told behind all that came over it. `returns` says that its
    /// endpoint will connect again.
    pub(super) fn note_down(&self, peer: PeerId, returns: bool) {
        if self.is_closed() || !matches!(self.kind, SocketKind::Router | SocketKind::Dealer) {
            return;
        }
        let (body, notify) = {
            let options = self.lock_options();
            match self.kind {
                SocketKind::Dealer if returns => (options.hiccup_message.clone(), false),
                SocketKind::Dealer => (Bytes::new(), false),
                _ => (options.disconnect_message.clone(), options.router_notify.on_disconnect()),
            }
        };
        if !body.is_empty() {
            let (header, size) = wire::header(0, body.len());
            let message = [&header[..size], &body].concat();
            self.arrive(peer, Incoming::Messages(message.into(), 1));
        }
        if notify {
            self.arrive(peer, Incoming::Messages(EMPTY, 1));
        }
        self.announce();
        self.wake_driver(Interest::MESSAGE);
    }

    /// What a new connection is sent before anything else, with the lock held.
    pub(super) fn greet(&self, side: &mut SendSide, peer: PeerId) {
        let (probe, greeting) = {
            let options = self.lock_options();
            let greeting = if self.kind.publishes() { &options.welcome_message } else { &options.hello_message };
            (options.probe_router, greeting.clone())
        };
        let SendSide { peers, pool, counts, .. } = side;
        let Some(entry) = peers.get_mut(peer.key()) else { return };
        let settled = entry.counts.written + entry.counts.dropped.total();
        if entry.is_greeted(settled) {
            return;
        }
        entry.about.greeted = Some(settled);
        // The last one pushed is the first to go.
        let probe = probe.then(Message::new);
        let greeting = (!greeting.is_empty()).then(|| Message::from(greeting));
        for message in probe.into_iter().chain(greeting) {
            entry.outbox.push_first(&message, pool);
            entry.counts.accepted += 1;
            counts.accepted += 1;
        }
    }
}

impl Peer {
    /// Whether the greeting of the last connection still waits in front, because nothing has been written since. A peer
    /// that comes and goes must not make it pile up.
    fn is_greeted(&self, settled: u64) -> bool {
        // One that a flusher had taken and has brought back is not known as such, but then nothing was settled either.
        let came_back = || {
            self.about.greeted == Some(settled)
                && self.outbox.waiting() > 0
                && self.outbox.queued() == self.outbox.waiting()
        };
        self.outbox.is_greeting() || came_back()
    }
}
