//! Peers of a subscriber that are new or back are told all its subscriptions. There may be very many, so that this goes
//! on turn by turn, and neither callers nor other sockets wait for it.

use super::{Reactor, Stint};
use crate::engine::Host;

impl Reactor {
    /// Goes on telling peers of the subscriptions, as far as the time of the turn allows.
    pub(super) fn replay(&mut self, host: &dyn Host, stint: &mut Stint) {
        while let Some(peer) = self.replaying.pop_front() {
            if !host.replay(peer) {
                self.replaying.push_front(peer);
            }
            if self.unflushed.back() != Some(&peer) {
                self.unflushed.push_back(peer);
            }
            if self.replaying.is_empty() || stint.is_over() {
                return;
            }
        }
    }
}
