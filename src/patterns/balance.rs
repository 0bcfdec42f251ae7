//! Load balancing (RFC 28 and 30): whole messages in turn to every peer that has room. PUSH, DEALER and REQ send this
//! way, and PAIR with its one peer.

/// The peers in turn.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    peers: Vec<u32>,
    next: usize,
}

impl Balance {
    pub(crate) fn attach(&mut self, peer: u32) {
        if !self.peers.contains(&peer) {
            self.peers.push(peer);
        }
    }

    pub(crate) fn detach(&mut self, peer: u32) {
        if let Some(place) = self.peers.iter().position(|known| *known == peer) {
            self.peers.remove(place);
            if place < self.next {
                self.next -= 1;
            }
            // It is the first one's turn, whoever comes now: one that goes and comes back each time it had its turn
            // would have all of them.
            if self.next >= self.peers.len() {
                self.next = 0;
            }
        }
    }

    /// The peer whose turn it is among those with room; the turn passes on.
    #[inline(always)]
    pub(crate) fn choose(&mut self, has_room: impl FnMut(u32) -> bool) -> Option<u32> {
        let (peer, next) = self.find(has_room)?;
        self.next = next;
        Some(peer)
    }

    /// The same, without passing the turn on.
    pub(crate) fn candidate(&self, has_room: impl FnMut(u32) -> bool) -> Option<u32> {
        self.find(has_room).map(|(peer, _)| peer)
    }

    /// The peer whose turn it is among those with room, and the place behind it.
    #[inline(always)]
    fn find(&self, mut has_room: impl FnMut(u32) -> bool) -> Option<(u32, usize)> {
        let count = self.peers.len();
        let mut place = self.next;
        for _ in 0..count {
            if place >= count {
                place = 0;
            }
            let peer = self.peers[place];
            place += 1;
            if has_room(peer) {
                return Some((peer, place));
            }
        }
        None
    }

    /// The peer whose turn it is, with room or without.
    pub(crate) fn first(&self) -> Option<u32> {
        self.peers.get(self.next).or(self.peers.first()).copied()
    }

    pub(crate) fn peers(&self) -> &[u32] {
        &self.peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_leaves_after_its_turn_and_comes_back_has_its_turn_behind_the_others() {
        let mut balance = Balance::default();
        for peer in [4, 5] {
            balance.attach(peer);
        }
        for turn in 0..6 {
            let chosen = balance.choose(|_| true).expect("somebody has room");
            assert_eq!(chosen, 4 + turn % 2);
            balance.detach(chosen);
            balance.attach(chosen);
        }
    }

    #[test]
    fn peers_take_turns_and_full_ones_are_passed_over() {
        let mut balance = Balance::default();
        for peer in [4, 5, 6] {
            balance.attach(peer);
        }
        let turns: Vec<_> = (0..4).filter_map(|_| balance.choose(|_| true)).collect();
        assert_eq!(turns, [4, 5, 6, 4]);
        assert_eq!(balance.candidate(|peer| peer != 5), Some(6));
        assert_eq!(balance.choose(|peer| peer == 4), Some(4));
        assert_eq!(balance.choose(|_| false), None);
    }

    #[test]
    fn a_leaving_peer_does_not_cost_another_its_turn() {
        let mut balance = Balance::default();
        for peer in [1, 2, 3] {
            balance.attach(peer);
        }
        assert_eq!(balance.choose(|_| true), Some(1));
        balance.detach(1);
        assert_eq!(balance.choose(|_| true), Some(2));
        balance.detach(3);
        assert_eq!(balance.choose(|_| true), Some(2));
        balance.detach(2);
        assert_eq!((balance.choose(|_| true), balance.first()), (None, None));
    }
}
