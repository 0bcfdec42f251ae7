//! What moves on the way to peers, which says how long an end goes on. Peers count as well that have left the socket
//! while their systems still take what was written.

use super::core::Core;
use super::sending::{Peer, SendSide, Wire};
use crate::engine::contain::contain;
use crate::engine::inside;
use crate::engine::port::Command;
use crate::peer::PeerId;
use crate::queue::let_go;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use wiremesh_transports::Stream;

/// Streams of peers that have left the socket, and which go once all is taken.
pub(super) type Draining = HashMap<PeerId, Weak<dyn Stream>>;

/// How far deliveries have come, as far as the send gate tells it: what is written less what waits, and the streams
/// that say how much of that their peers' systems have still to take.
pub(crate) struct Progress {
    taken: u64,
    streams: Vec<Arc<dyn Stream>>,
}

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

    /// A number that changes while something gets on its way.
    pub(super) fn number_of(&self, progress: Progress) -> u64 {
        progress.taken.wrapping_sub(self.untaken(progress.streams))
    }

    /// How much of what was written to these streams their peers' systems have not taken. No gate may be held: each
    /// stream makes a system call for that, or is code of the application, which may use the socket or panic.
    pub(super) fn untaken(&self, streams: Vec<Arc<dyn Stream>>) -> u64 {
        let _stay = inside::stay();
        let mut untaken = 0u64;
        for stream in streams {
            match contain(|| stream.unsent()) {
                // A transport may say any number.
                Ok(octets) => untaken = untaken.wrapping_add(octets as u64),
                Err(panic) => drop(self.port.submit(Command::Fail(panic))),
            }
            let_go(stream);
        }
        untaken
    }

    /// The streams of all peers. Whoever has them sees to it that none of them goes while a gate is held.
    pub(super) fn streams(&self) -> Vec<Arc<dyn Stream>> {
        self.lock_send().peers.iter().filter_map(|(_, peer)| peer.stream()).collect()
    }
}

impl Peer {
    pub(super) fn stream(&self) -> Option<Arc<dyn Stream>> {
        match &self.wire {
            Wire::Stream(stream) => Some(Arc::clone(stream)),
            Wire::None | Wire::Inproc { .. } => None,
        }
    }
}

impl SendSide {
    /// Of all peers.
    pub(super) fn progress(&self) -> Progress {
        let waits: u64 = self.peers.iter().map(|(_, peer)| peer.outbox.pending() as u64).sum();
        let streams = self.peers.iter().filter_map(|(_, peer)| peer.stream());
        Progress {
            taken: self.counts.written.wrapping_sub(waits),
            streams: streams.chain(self.draining.values().filter_map(Weak::upgrade)).collect(),
        }
    }

    /// Of that peer.
    pub(super) fn progress_of(&self, peer: PeerId) -> Progress {
        let entry = self.peer(peer);
        let draining = self.draining.get(&peer).and_then(Weak::upgrade);
        Progress {
            taken: entry.map_or(0, |entry| entry.counts.written.wrapping_sub(entry.outbox.pending() as u64)),
            streams: entry.and_then(Peer::stream).into_iter().chain(draining).collect(),
        }
    }
}
