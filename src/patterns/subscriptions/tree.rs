//! A radix tree over octet strings: the one structure under both [sets](super). Its depth and the cost of every
//! operation are bounded by the length of the text in hand, whatever else peers put in, and nothing hashes what a peer
//! chose.
//!
//! Nodes live in an [arena](super::arena) and name each other by number. So nothing recurses over a topic of 16 MiB,
//! the drop included, and a topic's text needs no second copy: it is read off the labels on the way up from its node.

use super::arena::Arena;
use super::children::{Children, NONE};
use super::label::{LONGEST, Label};
use std::ops::ControlFlow;

/// The node of the empty text. It always exists.
const ROOT: u32 = 0;

/// Below this many nodes an arena is not worth compacting.
const SMALL: u32 = 64;
/// How many places one step of compacting looks at. There are at most four for each node in use when it begins, so it
/// has ended before a fraction of these are cleared.
const STEP: usize = 32;
/// How many places are looked at for one that is free while compacting.
const LOOKS: usize = 16;

/// What a node holds. A vacant node exists only to hold the tree together.
pub(super) trait Value: Default {
    /// Whether the text that ends here is not in the set.
    fn is_vacant(&self) -> bool;
}

/// Text → value, for the texts whose value is not vacant.
#[derive(Debug)]
pub(super) struct Tree<V> {
    nodes: Arena<Node<V>>,
    /// Head of the list of released nodes, linked through `parent`. While compacting, only those before the hole are in
    /// it.
    released: u32,
    released_count: u32,
    compaction: Option<Compaction>,
}

/// How far the nodes at the end of the arena have been moved to free places at its beginning.
#[derive(Clone, Copy, Debug)]
struct Compaction {
    /// All places before this are in use, or in the list of those released.
    hole: u32,
    /// All places from this on are free.
    end: u32,
}

#[derive(Debug)]
struct Node<V> {
    /// Never empty, save in the root and in released nodes.
    label: Label,
    children: Children,
    value: V,
    parent: u32,
}

impl<V: Value> Tree<V> {
    pub(super) fn new() -> Tree<V> {
        let root = Node { parent: NONE, ..Node::default() };
        Tree { nodes: Arena::new(root), released: NONE, released_count: 0, compaction: None }
    }

    /// All there is, to be let go part by part.
    pub(super) fn into_parts(self) -> impl Iterator<Item = ()> {
        self.nodes.into_chunks().flatten().map(drop)
    }

    /// The node for `text`, made if need be. A node that was made, or was vacant, must be given a value before anything
    /// else happens to the tree.
    pub(super) fn make(&mut self, text: &[u8]) -> u32 {
        let mut at = ROOT;
        let mut rest = text;
        loop {
            let Some(&octet) = rest.first() else { return at };
            let Some(child) = self.nodes.get(at).children.get(octet) else { return self.grow(at, rest) };
            let label = self.nodes.get(child).label.text();
            let common = common_prefix(label, rest);
            at = if common < label.len() { self.split(child, common) } else { child };
            rest = &rest[common..];
        }
    }

    /// Takes a node whose value has become vacant out of the tree, with what it alone kept there. The numbers of other
    /// nodes stay as they are.
    pub(super) fn clear(&mut self, node: u32) {
        let mut at = node;
        while at != ROOT && self.nodes.get(at).value.is_vacant() {
            if self.nodes.get(at).children.len() > 0 {
                self.join(at);
                return;
            }
            let parent = self.nodes.get(at).parent;
            if let Some(octet) = self.first_octet(at) {
                self.nodes.get_mut(parent).children.remove(octet);
            }
            self.release(at);
            at = parent;
        }
    }

    /// Gives memory back, a little at each call, when most of it is unused; `moved` hears the value and the new number
    /// of each node that had to move.
    ///
    /// At least three nodes are released for each one moved, so this adds a constant to the cost of
    /// [`clear`](Self::clear), also for a node that many peers point to. As it goes on over many calls, none of them
    /// takes long.
    pub(super) fn compact(&mut self, mut moved: impl FnMut(&V, u32)) {
        let len = self.nodes.len();
        if len > SMALL && len - self.released_count == 1 {
            // Only the root is in use: there may be no later call.
            self.nodes.truncate(ROOT + 1);
            (self.released, self.released_count, self.compaction) = (NONE, 0, None);
            return;
        }
        if self.compaction.is_none() {
            if len <= SMALL || len - self.released_count > len / 4 {
                return;
            }
            // The list would lead to places that go. Those that stay are found on the way.
            self.released = NONE;
            self.compaction = Some(Compaction { hole: ROOT + 1, end: len });
        }
        for _ in 0..STEP {
            if self.compact_one(&mut moved).is_break() {
                return;
            }
        }
    }

    pub(super) fn is_compacting(&self) -> bool {
        self.compaction.is_some()
    }

    /// Looks at one place more; breaks if that was the last.
    fn compact_one(&mut self, moved: &mut impl FnMut(&V, u32)) -> ControlFlow<()> {
        let Some(Compaction { hole, end }) = self.compaction else { return ControlFlow::Break(()) };
        if hole >= end {
            self.released_count -= self.nodes.len() - end;
            self.nodes.truncate(end);
            self.compaction = None;
            return ControlFlow::Break(());
        }
        let last = end - 1;
        let (mut next_hole, mut next_end) = (hole, last);
        if !self.is_released(last) {
            match self.take_listed() {
                Some(free) => self.relocate(last, free, moved),
                None => {
                    next_hole += 1;
                    if self.is_released(hole) {
                        self.released_count -= 1;
                        self.relocate(last, hole, moved);
                    } else {
                        next_end = end;
                    }
                }
            }
        }
        self.compaction = Some(Compaction { hole: next_hole, end: next_end });
        let before = self.nodes.len();
        self.nodes.truncate_roughly(next_end);
        self.released_count -= before - self.nodes.len();
        ControlFlow::Continue(())
    }

    /// Moves a node to a place that is free and is not counted as such any more.
    fn relocate(&mut self, from: u32, to: u32, moved: &mut impl FnMut(&V, u32)) {
        let node = std::mem::take(self.nodes.get_mut(from));
        self.released_count += 1;
        if let Some(&octet) = node.label.text().first() {
            self.nodes.get_mut(node.parent).children.insert(octet, to);
        }
        node.children.each(|_, child| self.nodes.get_mut(child).parent = to);
        moved(&node.value, to);
        *self.nodes.get_mut(to) = node;
    }

    pub(super) fn value_mut(&mut self, node: u32) -> &mut V {
        &mut self.nodes.get_mut(node).value
    }

    /// The node whose text is exactly `text`.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        let mut at = ROOT;
        let mut rest = text;
        while let Some(&octet) = rest.first() {
            at = self.nodes.get(at).children.get(octet)?;
            rest = rest.strip_prefix(self.nodes.get(at).label.text())?;
        }
        (!self.nodes.get(at).value.is_vacant()).then_some(at)
    }

    /// Calls `visit` with the value of each prefix of `text` in the tree, shortest first, until it breaks.
    #[inline(always)]
    pub(super) fn prefixes(&self, text: &[u8], mut visit: impl FnMut(&V) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut node = self.nodes.get(ROOT);
        let mut rest = text;
        loop {
            if !node.value.is_vacant() {
                visit(&node.value)?;
            }
            let Some(&octet) = rest.first() else { return ControlFlow::Continue(()) };
            let Some(child) = node.children.get(octet) else { return ControlFlow::Continue(()) };
            node = self.nodes.get(child);
            let Some(after) = rest.strip_prefix(node.label.text()) else { return ControlFlow::Continue(()) };
            rest = after;
        }
    }

    /// Writes the text of `node` into `text`, in the place of what was there.
    pub(super) fn read(&self, node: u32, text: &mut Vec<u8>) {
        let mut len = 0;
        self.upwards(node, |label| len += label.len());
        text.clear();
        text.resize(len, 0);
        self.upwards(node, |label| {
            let start = len - label.len();
            text[start..len].copy_from_slice(label);
            len = start;
        });
    }

    /// All nodes have numbers below this one.
    pub(super) fn places(&self) -> u32 {
        self.nodes.len()
    }

    /// Calls `visit` with the number of each node from one on and whether it is a text in the tree, until it breaks.
    pub(super) fn each_from(&self, first: u32, mut visit: impl FnMut(u32, bool) -> ControlFlow<()>) {
        for node in first..self.nodes.len() {
            if visit(node, !self.nodes.get(node).value.is_vacant()).is_break() {
                return;
            }
        }
    }

    /// Hangs `text` below `at`, which has no child with its first octet, and returns the last node of it.
    fn grow(&mut self, at: u32, text: &[u8]) -> u32 {
        let mut parent = at;
        for piece in text.chunks(LONGEST) {
            let node =
                self.hire(Node { label: Label::new(piece), parent, value: V::default(), children: Children::None });
            self.nodes.get_mut(parent).children.insert(piece[0], node);
            parent = node;
        }
        parent
    }

    /// Puts a vacant node in the middle of a node's label, after `head` octets, and returns it.
    fn split(&mut self, node: u32, head: usize) -> u32 {
        let old = self.nodes.get_mut(node);
        let label = std::mem::take(&mut old.label);
        let (head, tail) = label.text().split_at(head);
        old.label = Label::new(tail);
        let parent = old.parent;
        let mut children = Children::None;
        children.insert(tail[0], node);
        let middle = self.hire(Node { label: Label::new(head), children, value: V::default(), parent });
        self.nodes.get_mut(node).parent = middle;
        self.nodes.get_mut(parent).children.insert(head[0], middle);
        // Each may fit together with its child now: one label became shorter in each pair.
        self.join(node);
        self.join(parent);
        middle
    }

    /// Merges a vacant node with its only child, which keeps its number, if their labels fit into one.
    ///
    /// Called wherever a node may have come to need it, so a vacant node and its only child always have more than
    /// [`LONGEST`] octets together. Otherwise a peer could leave us with a node for each octet of a long topic.
    fn join(&mut self, node: u32) {
        let upper = self.nodes.get(node);
        if node == ROOT || !upper.value.is_vacant() {
            return;
        }
        let Some(child) = upper.children.only() else { return };
        let (head, tail) = (upper.label.text(), self.nodes.get(child).label.text());
        if head.len() + tail.len() > LONGEST {
            return;
        }
        let (octet, parent) = (head[0], upper.parent);
        let label = Label::joined(head, tail);
        let lower = self.nodes.get_mut(child);
        lower.label = label;
        lower.parent = parent;
        self.nodes.get_mut(parent).children.insert(octet, child);
        self.release(node);
    }

    /// Takes a released node, or a new one.
    fn hire(&mut self, node: Node<V>) -> u32 {
        let Some(number) = self.take_released() else { return self.nodes.push(node) };
        *self.nodes.get_mut(number) = node;
        number
    }

    fn take_released(&mut self) -> Option<u32> {
        if let Some(number) = self.take_listed() {
            return Some(number);
        }
        let Compaction { mut hole, end } = self.compaction?;
        let until = end.min(hole + LOOKS as u32);
        let found = (hole..until).find(|number| self.is_released(*number));
        hole = found.map_or(until, |number| number + 1);
        let number = found.unwrap_or(end);
        self.compaction = Some(Compaction { hole, end: end.max(number + 1) });
        // The place behind the last one may have been given back.
        let is_there = number < self.nodes.len();
        self.released_count -= u32::from(is_there);
        is_there.then_some(number)
    }

    /// Takes the first node of the list of released ones.
    fn take_listed(&mut self) -> Option<u32> {
        let number = self.released;
        if number == NONE {
            return None;
        }
        self.released = self.nodes.get(number).parent;
        self.released_count -= 1;
        Some(number)
    }

    fn release(&mut self, node: u32) {
        let is_found_later = self.compaction.as_ref().is_some_and(|compaction| node >= compaction.hole);
        let next = if is_found_later { NONE } else { std::mem::replace(&mut self.released, node) };
        *self.nodes.get_mut(node) = Node { parent: next, ..Node::default() };
        self.released_count += 1;
    }

    fn is_released(&self, node: u32) -> bool {
        node != ROOT && self.first_octet(node).is_none()
    }

    fn first_octet(&self, node: u32) -> Option<u8> {
        self.nodes.get(node).label.text().first().copied()
    }

    /// Calls `visit` with each label from `node` up to the root.
    fn upwards<'tree>(&'tree self, node: u32, mut visit: impl FnMut(&'tree [u8])) {
        let mut at = node;
        while at != ROOT {
            let node = self.nodes.get(at);
            visit(node.label.text());
            at = node.parent;
        }
    }
}

impl<V: Value> Default for Node<V> {
    fn default() -> Node<V> {
        Node { label: Label::default(), children: Children::None, value: V::default(), parent: NONE }
    }
}

/// How many octets `one` and `other` have in common at their start.
fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    if other.starts_with(one) {
        return one.len();
    }
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
impl<V: Value> Tree<V> {
    /// How many nodes are in use.
    pub(super) fn used(&self) -> u32 {
        self.nodes.len() - self.released_count
    }

    /// Checks what the rest of this file relies on.
    pub(super) fn expect_sound(&self) {
        let mut reached = 0;
        let mut pending = vec![ROOT];
        while let Some(number) = pending.pop() {
            reached += 1;
            let node = self.nodes.get(number);
            let length = node.label.text().len();
            assert_eq!(length == 0, number == ROOT);
            assert!(length <= LONGEST);
            if node.value.is_vacant() && number != ROOT {
                assert!(node.children.len() > 0, "a vacant leaf");
                let joined = node.children.only().map(|child| length + self.nodes.get(child).label.text().len());
                assert!(joined.is_none_or(|joined| joined > LONGEST), "a vacant node and its child left apart");
            }
            node.children.each(|octet, child| {
                assert_eq!(self.nodes.get(child).parent, number);
                assert_eq!(self.first_octet(child), Some(octet));
                pending.push(child);
            });
        }
        assert_eq!(reached, self.used());
        let released = (0..self.nodes.len()).filter(|&node| self.is_released(node)).count();
        assert_eq!(released, self.released_count as usize);
        let is_compact = self.nodes.len() <= SMALL || self.used() > self.nodes.len() / 4;
        assert!(is_compact || self.compaction.is_some(), "memory not given back");
        if let Some(Compaction { hole, end }) = self.compaction {
            assert!(end <= self.nodes.len() && (end..self.nodes.len()).all(|node| self.is_released(node)));
            let unlisted = (ROOT + 1..hole).filter(|node| self.is_released(*node)).count();
            let mut listed = 0;
            let mut at = self.released;
            while at != NONE {
                assert!(at < hole && self.is_released(at));
                listed += 1;
                at = self.nodes.get(at).parent;
            }
            assert_eq!(listed, unlisted);
        }
    }
}
