//! What moves on the way to peers, which says how long an end goes on. Peers count as well that have left the socket
//! while their systems still take what was written.

use super::core::Core;
use super::sending::{SendSide, Wire};
use crate::peer::PeerId;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use wiremesh_transports::Stream;

/// Streams of peers that have left the socket, and which go once all is taken.
pub(super) type Draining = HashMap<PeerId, Weak<dyn Stream>>;

impl Core {
    /// A peer is about to leave the socket, and its stream stays until all is taken.
    pub(super) fn begin_draining(&self, peer: PeerId) {
        let mut side = self.lock_send();
        let Some(Wire::Stream(stream)) = side.peer(peer).map(|entry| &entry.wire) else { return };
        let stream = Arc::downgrade(stream);
        side.draining.insert(peer, stream);
    }

    /// The stream of such a peer is gone.
    pub(super) fn end_draining(&self, peer: PeerId) {
        self.lock_send().draining.remove(&peer);
    }
}

impl SendSide {
    /// A number that changes while something gets on its way to any peer.
    pub(super) fn progress(&self) -> u64 {
        let left: u64 = self.peers.iter().map(|(_, peer)| peer.left()).sum();
        let draining: u64 = self.draining.values().map(unsent).sum();
        self.counts.written.wrapping_sub(left).wrapping_sub(draining)
    }

    /// A number that changes while something gets on its way to that peer.
    pub(super) fn progress_of(&self, peer: PeerId) -> u64 {
        let written = self.peer(peer).map_or(0, |peer| peer.counts.written.wrapping_sub(peer.left()));
        written.wrapping_sub(self.draining.get(&peer).map_or(0, unsent))
    }
}

fn unsent(stream: &Weak<dyn Stream>) -> u64 {
    stream.upgrade().map_or(0, |stream| stream.unsent() as u64)
}
