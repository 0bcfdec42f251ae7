//! Subscriptions that a peer does not take: it ends one connection after the other over them (`queue/search.rs`).

use super::core::Core;
use super::sending::{Peer, SendSide};
use crate::event::{Event, EventKind, Refusal};
use crate::peer::PeerId;
use crate::protocol;
use crate::queue::doubt::Ending;
use std::sync::Arc;
use wiremesh_transports::Stream;

impl Core {
    /// The connection of a peer has ended; `was_told` says whether everything had been told. Gives up the subscription
    /// over which the peer ends its connections, if it is known by now.
    pub(super) fn judge_subscriptions(
        &self,
        side: &mut SendSide,
        peer: PeerId,
        ending: Ending,
        was_told: bool,
    ) -> Option<Event> {
        if !self.kind.subscribes() {
            return None;
        }
        let entry = side.peer_mut(peer)?;
        let Some(limit) = self.gives_up_after() else {
            entry.about.search.reset();
            return None;
        };
        let (topic, times) = entry.about.search.end(ending, was_told, limit)?;
        let octets = protocol::subscription_octets(entry.minor, &topic) as u64;
        entry.about.untold.insert(topic);
        Some(entry.tells(EventKind::SubscriptionsGivenUp { count: 1, octets, refusal: Refusal::Closed { times } }))
    }
}

impl Peer {
    /// The stream over which the last step was written whole, if subscriptions are told in steps.
    pub(super) fn written_step(&mut self) -> Option<Arc<dyn Stream>> {
        let is_written = self.about.search.is_on() && self.outbox.written_replay().is_some();
        if is_written { self.stream() } else { None }
    }

    /// The connection has lasted, and the peer's system has taken the last step if that `is_taken`. Returns true if
    /// that is to be asked again, as something is told only then.
    pub(super) fn go_on_searching(&mut self, is_taken: bool) -> bool {
        if !self.about.search.is_on() {
            return false;
        }
        if !self.outbox.is_replaying() {
            // It has outlived all that it was told. What was cancelled meanwhile may leave its place now.
            self.about.search.reset();
            return true;
        }
        if let Some(replay) = self.outbox.written_replay().filter(|_| is_taken) {
            if let Some(place) = self.about.search.step(replay.places()) {
                replay.pause_at(place);
            }
        }
        true
    }

    /// The endpoint ends, and the rest of the subscriptions is of no use any more. Returns true if it was to be told in
    /// steps, each when the connection has lasted: what waited for that may leave now.
    pub(super) fn end_steps(&mut self) -> bool {
        let ends = self.about.search.is_on() && self.outbox.is_replaying();
        if ends {
            self.outbox.end_replay();
        }
        ends
    }

    /// Nobody was there when we tried to connect. It may be another one that comes back, and so all is told anew.
    pub(super) fn forget_search(&mut self) {
        self.about.search.reset();
        self.about.untold.clear();
    }
}
