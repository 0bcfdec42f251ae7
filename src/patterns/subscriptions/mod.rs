//! Who subscribed to what (RFC 29; the "set of pipes" of libzmq rather than the counting of RFC 37): [`Subscriptions`]
//! on the publishing side, [`PrefixSet`] on the subscribing side. Pure data: what to send, to whom and under which
//! limits is the caller's business.
//!
//! Topics are chosen by peers, so every cost here is bounded by the text in hand: matching by the length of the topic
//! and the number of matching peers, a change by the length of its topic (amortised), the loss of a peer by that peer's
//! own topics. A million topics like `sensor/<n>/temp` cost less than 100 octets each beyond their text, their place in
//! the peer's own list included (`tests/subscription_memory.rs`).

mod arena;
mod children;
mod label;
mod members;
mod prefix_set;
#[cfg(test)]
mod tests;
mod tree;

pub use prefix_set::{PrefixSet, Removed, Still};

use members::Members;
use std::ops::ControlFlow;
use tree::{Tree, Value};

/// What a topic of a peer takes in memory beside its octets, about: its nodes in the tree, and its place in the peer's
/// list. Of several peers with the same topic each is taken to have its own.
pub const TOPIC: usize = 96;

/// The subscriptions a publisher knows: for each exact prefix, the set of peers that asked for it.
///
/// A peer is a small number given by the caller, such as its slot in a slab. The memory kept for peers grows with the
/// largest number ever used, and a number may be used again after [`remove_peer`](Self::remove_peer).
#[derive(Debug)]
pub struct Subscriptions {
    tree: Tree<Members>,
    len: usize,
    peers: Vec<Peer>,
    /// How many peers have a topic, and how many of these are being removed.
    subscribed: usize,
    leaving: usize,
    /// For each peer, the last `round` that found it. It makes each peer come once, without sorting or clearing
    /// anything.
    found: Vec<u32>,
    round: u32,
}

/// What [`Subscriptions::subscribe`] changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// No peer had this prefix before.
    pub first: bool,
    /// This peer did not have this prefix before.
    pub new: bool,
}

/// What [`Subscriptions::cancel`] changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled {
    /// This peer was the last one with this prefix.
    pub last: bool,
    /// This peer had this prefix.
    pub removed: bool,
}

/// One peer's own topics: what its loss costs.
#[derive(Debug, Default)]
struct Peer {
    /// Nodes of the tree. The [`Members`] of each know the place in this list.
    topics: Vec<u32>,
    /// Length of all its topics together.
    bytes: usize,
    /// It is being removed, and matches nothing any more.
    is_leaving: bool,
}

impl Subscriptions {
    /// No subscriptions.
    pub fn new() -> Subscriptions {
        Subscriptions {
            tree: Tree::new(),
            len: 0,
            peers: Vec::new(),
            subscribed: 0,
            leaving: 0,
            found: Vec::new(),
            round: 0,
        }
    }

    /// Adds `peer` to the peers of the prefix `topic`. Doing so again changes nothing.
    pub fn subscribe(&mut self, peer: u32, topic: &[u8]) -> Subscribed {
        self.make_room_for(peer);
        let own = &mut self.peers[peer as usize];
        let place = u32::try_from(own.topics.len()).expect("a peer has at most as many topics as there are nodes");
        let node = self.tree.make(topic);
        let members = self.tree.value_mut(node);
        let first = members.is_vacant();
        let new = members.insert(peer, place);
        if new {
            if own.topics.is_empty() {
                self.subscribed += 1;
                self.leaving += usize::from(own.is_leaving);
            }
            own.topics.push(node);
            own.bytes += topic.len();
        }
        self.len += usize::from(first);
        Subscribed { first, new }
    }

    /// Takes `peer` from the peers of the prefix `topic`. Harmless if it is not one of them.
    pub fn cancel(&mut self, peer: u32, topic: &[u8]) -> Cancelled {
        let unknown = Cancelled { last: false, removed: false };
        let Some(node) = self.tree.find(topic) else { return unknown };
        let Some(place) = self.tree.value_mut(node).remove(peer) else { return unknown };
        let own = &mut self.peers[peer as usize];
        own.topics.swap_remove(place as usize);
        own.bytes -= topic.len();
        if let Some(&moved) = own.topics.get(place as usize) {
            self.tree.value_mut(moved).set_place(peer, place);
        }
        if own.topics.len() < own.topics.capacity() / 4 {
            own.topics.shrink_to(own.topics.len() * 2);
        }
        if own.topics.is_empty() {
            self.subscribed -= 1;
            self.leaving -= usize::from(own.is_leaving);
        }
        Cancelled { last: self.tidy(node), removed: true }
    }

    /// Takes `peer` from all its prefixes and calls `emptied` with each one that has no peer left.
    pub fn remove_peer(&mut self, peer: u32, mut emptied: impl FnMut(&[u8])) {
        self.remove_peer_while(peer, |topic, last| {
            if last {
                emptied(topic);
            }
            ControlFlow::Continue(())
        });
    }

    /// From now on `peer` matches nothing and is not counted, until [`end_removal`](Self::end_removal). Returns true if
    /// that is new.
    pub fn begin_removal(&mut self, peer: u32) -> bool {
        self.make_room_for(peer);
        let own = &mut self.peers[peer as usize];
        let new = !std::mem::replace(&mut own.is_leaving, true);
        self.leaving += usize::from(new && !own.topics.is_empty());
        new
    }

    /// Takes `peer` from its prefixes and calls `visit` with each one and whether it has no peer left, until `peer` has
    /// none or `visit` breaks. Returns true if `peer` has none. Each step takes as long as its prefix is long, whatever
    /// else there is.
    pub fn remove_peer_while(&mut self, peer: u32, mut visit: impl FnMut(&[u8], bool) -> ControlFlow<()>) -> bool {
        let mut text = Vec::new();
        while let Some(node) = self.take_topic(peer, &mut text) {
            let last = self.tidy(node);
            if visit(&text, last).is_break() {
                break;
            }
        }
        self.count_of(peer) == 0
    }

    /// The number of `peer` may be used again.
    pub fn end_removal(&mut self, peer: u32) {
        let Some(own) = self.peers.get_mut(peer as usize) else { return };
        let was = std::mem::replace(&mut own.is_leaving, false);
        self.leaving -= usize::from(was && !own.topics.is_empty());
    }

    /// Returns true if `peer` is being removed.
    pub fn is_leaving(&self, peer: u32) -> bool {
        self.peers.get(peer as usize).is_some_and(|own| own.is_leaving)
    }

    /// Puts every peer that has a prefix of `topic` into `out`, each once, in the place of what was there.
    pub fn matches(&mut self, topic: &[u8], out: &mut Vec<u32>) {
        out.clear();
        let Subscriptions { tree, peers, subscribed, leaving, found, round, .. } = self;
        let mut prefixes = 0;
        // Nearly always one prefix matches, and its peers are already distinct: marks start with the second.
        let _ = tree.prefixes(topic, |members| {
            match prefixes {
                0 => members.append_to(out),
                1 => {
                    next_round(round, found);
                    for &peer in &*out {
                        found[peer as usize] = *round;
                    }
                    append_new(members, *round, found, out);
                }
                _ => append_new(members, *round, found, out),
            }
            prefixes += 1;
            if out.len() == *subscribed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if *leaving > 0 {
            out.retain(|peer| !peers[*peer as usize].is_leaving);
        }
    }

    /// Whether any peer has a prefix of `topic`.
    pub fn has_match(&self, topic: &[u8]) -> bool {
        let matching = |members: &Members| {
            let mut stays = self.leaving == 0;
            if !stays {
                members.each(|peer, _| stays |= !self.is_leaving(peer));
            }
            if stays { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        self.tree.prefixes(topic, matching).is_break()
    }

    /// Calls `visit` with each prefix of `peer`, in no particular order.
    pub fn topics_of(&self, peer: u32, mut visit: impl FnMut(&[u8])) {
        let mut text = Vec::new();
        for &node in self.peers.get(peer as usize).into_iter().flat_map(|own| &own.topics) {
            self.tree.read(node, &mut text);
            visit(&text);
        }
    }

    /// How many prefixes `peer` has.
    pub fn count_of(&self, peer: u32) -> usize {
        self.peers.get(peer as usize).map_or(0, |own| own.topics.len())
    }

    /// How long the prefixes of `peer` are, all together.
    pub fn bytes_of(&self, peer: u32) -> usize {
        self.peers.get(peer as usize).map_or(0, |own| own.bytes)
    }

    /// How much memory the prefixes of `peer` take, about: [`TOPIC`] octets each beside their length.
    pub fn memory_of(&self, peer: u32) -> usize {
        self.bytes_of(peer) + self.count_of(peer) * TOPIC
    }

    /// How many peers have at least one prefix.
    pub fn peers(&self) -> usize {
        self.subscribed - self.leaving
    }

    /// How many distinct prefixes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no prefix, so that nothing matches.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn make_room_for(&mut self, peer: u32) {
        let index = peer as usize;
        if index >= self.peers.len() {
            self.peers.resize_with(index + 1, Peer::default);
            self.found.resize(index + 1, 0);
        }
    }

    /// Takes `peer` from one of its prefixes, writes that into `text` and returns the node, which wants
    /// [`tidy`](Self::tidy) if it is vacant now.
    fn take_topic(&mut self, peer: u32, text: &mut Vec<u8>) -> Option<u32> {
        let own = self.peers.get_mut(peer as usize)?;
        let node = own.topics.pop()?;
        self.tree.read(node, text);
        self.tree.value_mut(node).remove(peer);
        own.bytes -= text.len();
        if own.topics.is_empty() {
            own.topics = Vec::new();
            self.subscribed -= 1;
            self.leaving -= usize::from(own.is_leaving);
        }
        Some(node)
    }

    /// Takes the node of a prefix out of the tree if no peer is left there, and returns whether that was so.
    fn tidy(&mut self, node: u32) -> bool {
        if !self.tree.value_mut(node).is_vacant() {
            return false;
        }
        self.len -= 1;
        self.tree.clear(node);
        let peers = &mut self.peers;
        self.tree.compact(|members, node| {
            members.each(|peer, place| peers[peer as usize].topics[place as usize] = node);
        });
        true
    }
}

impl Default for Subscriptions {
    fn default() -> Subscriptions {
        Subscriptions::new()
    }
}

/// Starts a round in which no peer has been found.
fn next_round(round: &mut u32, found: &mut [u32]) {
    *round = round.wrapping_add(1);
    if *round == 0 {
        found.fill(0);
        *round = 1;
    }
}

/// Appends the peers that this round has not found yet.
fn append_new(members: &Members, round: u32, found: &mut [u32], out: &mut Vec<u32>) {
    members.each(|peer, _| {
        let mark = &mut found[peer as usize];
        if *mark != round {
            *mark = round;
            out.push(peer);
        }
    });
}
