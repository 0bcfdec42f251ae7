//! Peers of a publisher that are gone: from the moment they are, nothing is sent to them, but they may have very many
//! topics, which are taken from them a few at a time, turn by turn. So neither senders nor other sockets wait for that.
//!
//! A peer that comes back meanwhile is not heard before that is done: what it wants now would be mixed up with what it
//! wanted then.

use super::{Reactor, Stint};
use crate::engine::dialer::Dialing;
use crate::engine::link::State;
use crate::engine::{Departure, Host};
use crate::peer::PeerId;
use std::time::Instant;

impl Reactor {
    /// The connection of a peer is gone.
    pub(super) fn detach(&mut self, host: &dyn Host, peer: PeerId, departure: Departure) {
        if host.detach(peer, departure) {
            self.departing.push_back(peer);
        }
    }

    /// Takes topics from peers that are gone, as far as the time of the turn allows.
    pub(super) fn withdraw(&mut self, host: &dyn Host, stint: &mut Stint) {
        while let Some(peer) = self.departing.front().copied() {
            if host.withdraw(peer) {
                self.departing.pop_front();
                self.welcome_back(host, peer);
            }
            if stint.is_over() {
                return;
            }
        }
    }

    /// A peer has no topics any more: if it is back already, it is heard from now on.
    fn welcome_back(&mut self, host: &dyn Host, peer: PeerId) {
        let dialer = self.dialers.iter().find(|(_, dialer)| dialer.peer == Some(peer)).map(|(_, dialer)| dialer.state);
        let Some(Dialing::Linked(key)) = dialer else { return };
        if self.links.get(key).is_some_and(|link| matches!(link.state, State::Settling(_))) {
            self.converse(host, key, Instant::now());
        }
    }
}
