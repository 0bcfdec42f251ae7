//! What a ROUTER receives: a message and who sent it.

use super::core::{Core, Wait};
use super::receiving::Reader;
use super::routing_id::RoutingId;
use crate::error::RecvError;
use crate::message::Message;
use crate::peer::PeerId;
use std::sync::atomic::Ordering;

impl Core {
    /// A ROUTER's receive: the message and who sent it.
    pub(super) fn recv_routed(&self, wait: Wait) -> Result<(RoutingId, Message), RecvError> {
        if !self.is_forked() && !self.is_closed() {
            if let Some(routed) = self.take_routed_quick(&mut self.lock_recv()) {
                return Ok(routed);
            }
        }
        self.recv_slowly(wait, |reader| self.take_routed(reader))
    }

    pub(super) fn recv_many_routed(&self, max: usize, wait: Wait) -> Result<Vec<(RoutingId, Message)>, RecvError> {
        let mut messages = Vec::new();
        if max == 0 {
            return Ok(messages);
        }
        messages.push(self.recv_routed(wait)?);
        self.take_along(&mut messages, max, |reader| self.take_routed(reader));
        Ok(messages)
    }

    /// The next message and who sent it. Asked in one go: what is known of a peer that is gone may be forgotten with
    /// the next take.
    fn take_routed(&self, reader: &mut Reader) -> Option<(RoutingId, Message)> {
        let routed = self.take_routed_quick(reader);
        if routed.is_some() {
            return routed;
        }
        // Read before the id: if that changes in between, what is remembered is out of date at once.
        let renamings = self.renamings.load(Ordering::Acquire);
        let likely = reader.known(renamings);
        let message = self.take(reader)?;
        // Each message that is received has one; it is no reason to lose a message that has none.
        let Some(peer) = message.peer() else { return Some((RoutingId::new(&[]), message)) };
        let id = match likely {
            Some((known, id)) if known == peer => id,
            Some(_) | None => {
                let id = self.routing_id_of(reader, peer);
                reader.remember(peer, renamings, &id);
                id
            }
        };
        Some((id, message))
    }

    /// The routing id of a peer that is here, has left something unread, or was here lately.
    fn routing_id_of(&self, reader: &Reader, id: PeerId) -> RoutingId {
        let side = self.lock_send();
        if let Some(peer) = side.peer(id) {
            return RoutingId::new(&peer.routing_id);
        }
        let left = reader.left_id(id).or_else(|| side.routing_id_of(id));
        RoutingId::new(&left.unwrap_or_default())
    }
}
