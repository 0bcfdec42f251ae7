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
use crate::slab::Key;
use std::time::Instant;

impl Reactor {
    /// The connection of a peer is gone. It comes back for `dialer`, if at all.
    pub(super) fn detach(&mut self, host: &dyn Host, peer: PeerId, dialer: Option<Key>, departure: Departure) {
        if host.detach(peer, departure) {
            self.departing.insert(peer, dialer);
        }
    }

    /// Takes topics from peers that are gone, as far as the time of the turn allows.
    pub(super) fn withdraw(&mut self, host: &dyn Host, stint: &mut Stint) {
        while let Some((peer, dialer)) = self.departing.first_key_value().map(|(peer, dialer)| (*peer, *dialer)) {
            if host.withdraw(peer) {
                self.departing.remove(&peer);
                self.welcome_back(host, peer, dialer);
            }
            if stint.is_over() {
                return;
            }
        }
    }

    /// A peer has no topics any more: if it is back already, it is heard from now on.
    fn welcome_back(&mut self, host: &dyn Host, peer: PeerId, dialer: Option<Key>) {
        let dialer = dialer.and_then(|key| self.dialers.get(key)).filter(|dialer| dialer.peer == Some(peer));
        let Some(Dialing::Linked(key)) = dialer.map(|dialer| dialer.state) else { return };
        if self.links.get(key).is_some_and(|link| matches!(link.state, State::Settling(_))) {
            self.converse(host, key, Instant::now());
        }
    }
}
