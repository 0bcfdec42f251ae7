//! What a subscriber asked for: prefixes, each with the number of times it was asked for (SUB and XSUB). Says what to
//! send upstream, what to replay after a reconnect and whether a received message is wanted.

use super::tree::{Tree, Value};
use std::ops::ControlFlow;
use std::sync::{Arc, Weak};

/// A set of prefixes that counts how often each was inserted.
#[derive(Debug)]
pub struct PrefixSet {
    pub(super) tree: Tree<Count>,
    len: usize,
    still: Weak<()>,
}

/// As long as this is kept no prefix of its set moves to another place.
#[derive(Debug)]
pub struct Still {
    _kept: Arc<()>,
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
        PrefixSet { tree: Tree::new(), len: 0, still: Weak::new() }
    }

    /// All there is, to be let go part by part.
    pub fn into_parts(self) -> impl Iterator<Item = ()> {
        self.tree.into_parts()
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
        if !self.is_still() {
            self.tree.compact(|_, _| {});
        }
        self.len -= 1;
        Removed::Last
    }

    /// Whether `topic` starts with a prefix of the set. Costs at most the length of `topic`.
    #[inline]
    pub fn matches(&self, topic: &[u8]) -> bool {
        self.tree.prefixes(topic, |_| ControlFlow::Break(())).is_break()
    }

    /// Gives back a little of the memory that was not while prefixes were kept in their places. Returns true if nothing
    /// of it is left, or they are kept again.
    pub fn tidy(&mut self) -> bool {
        if self.is_still() {
            return true;
        }
        self.tree.compact(|_, _| {});
        !self.tree.is_compacting()
    }

    /// Keeps prefixes in their places. What is removed meanwhile leaves its memory to others, which is given back with
    /// later removals, or by [`tidy`](Self::tidy).
    pub fn hold_still(&mut self) -> Still {
        let kept = self.still.upgrade().unwrap_or_default();
        self.still = Arc::downgrade(&kept);
        Still { _kept: kept }
    }

    fn is_still(&self) -> bool {
        self.still.strong_count() > 0
    }

    /// The place of a prefix, while places are kept.
    pub fn place_of(&self, topic: &[u8]) -> Option<u32> {
        if self.is_still() { self.tree.find(topic) } else { None }
    }

    /// How many places there are.
    pub fn places(&self) -> u32 {
        self.tree.places()
    }

    /// Calls `visit` with each place from one on and the prefix there, if there is one, until it breaks. Where none was
    /// removed the prefixes are in the order in which they were inserted.
    pub fn for_each_from(&self, place: u32, mut visit: impl FnMut(u32, Option<&[u8]>) -> ControlFlow<()>) {
        let mut text = Vec::new();
        self.tree.each_from(place, |place, is_there| {
            if is_there {
                self.tree.read(place, &mut text);
            }
            visit(place, is_there.then_some(&text[..]))
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
