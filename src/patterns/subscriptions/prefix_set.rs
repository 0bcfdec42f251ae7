//! What a subscriber asked for: prefixes, each with the number of times it was asked for (SUB and XSUB). Says what to send
//! upstream, what to replay after a reconnect and whether a received message is wanted.

use super::tree::{Tree, Value};
use std::ops::ControlFlow;

/// A set of prefixes that counts how often each was inserted.
#[derive(Debug)]
pub struct PrefixSet {
    pub(super) tree: Tree<Count>,
    len: usize,
}

/// What [`PrefixSet::remove`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// The prefix was not in the set.
    Unknown,
    /// The prefix was inserted more often than removed and is still in the set.
    Still,
    /// The prefix is no longer in the set.
    Last,
}

impl PrefixSet {
    /// An empty set, which matches nothing.
    pub fn new() -> PrefixSet {
        PrefixSet { tree: Tree::new(), len: 0 }
    }

    /// Inserts a prefix once more and returns whether it is new to the set.
    pub fn insert(&mut self, topic: &[u8]) -> bool {
        let node = self.tree.make(topic);
        let Count(count) = self.tree.value_mut(node);
        *count += 1;
        let first = *count == 1;
        self.len += usize::from(first);
        first
    }

    /// Takes back one [`insert`](Self::insert) of a prefix.
    pub fn remove(&mut self, topic: &[u8]) -> Removed {
        let Some(node) = self.tree.find(topic) else { return Removed::Unknown };
        let Count(count) = self.tree.value_mut(node);
        *count -= 1;
        if *count > 0 {
            return Removed::Still;
        }
        self.tree.clear(node);
        self.tree.compact(|_, _| {});
        self.len -= 1;
        Removed::Last
    }

    /// Whether `topic` starts with a prefix of the set. Costs at most the length of `topic`.
    #[inline]
    pub fn matches(&self, topic: &[u8]) -> bool {
        self.tree.prefixes(topic, |_| ControlFlow::Break(())).is_break()
    }

    /// Calls `visit` with each prefix once, in no particular order.
    pub fn for_each(&self, mut visit: impl FnMut(&[u8])) {
        let mut text = Vec::new();
        self.tree.each(|node| {
            self.tree.read(node, &mut text);
            visit(&text);
        });
    }

    /// How many prefixes there are, however often each was inserted.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no prefix, so that nothing matches.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Default for PrefixSet {
    fn default() -> PrefixSet {
        PrefixSet::new()
    }
}

/// How often a prefix was inserted and not yet removed.
#[derive(Debug, Default)]
pub(super) struct Count(u64);

impl Value for Count {
    #[inline(always)]
    fn is_vacant(&self) -> bool {
        self.0 == 0
    }
}
