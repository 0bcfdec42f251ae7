//! The children of one node of the [tree](super::tree), found by the first octet of their label. Four sizes of table
//! keep a node with two children small and a node with two hundred quick.

/// Stands for no node in a [`Full`] table and at the ends of the tree's lists.
pub(super) const NONE: u32 = u32::MAX;

/// First octet → node.
#[derive(Debug, Default)]
pub(super) enum Children {
    #[default]
    None,
    One(u8, u32),
    UpTo4(Box<Table<4>>),
    UpTo16(Box<Table<16>>),
    UpTo64(Box<Table<64>>),
    Any(Box<Full>),
}

impl Children {
    /// An empty table with room for `count` children.
    fn with_room(count: usize) -> Children {
        match count {
            0..=1 => Children::None,
            2..=4 => Children::UpTo4(Box::new(Table::new())),
            5..=16 => Children::UpTo16(Box::new(Table::new())),
            17..=64 => Children::UpTo64(Box::new(Table::new())),
            _ => Children::Any(Box::new(Full { len: 0, nodes: [NONE; 256] })),
        }
    }

    /// Adds a child, or puts `node` in the place of the child that has this octet.
    pub(super) fn insert(&mut self, octet: u8, node: u32) {
        if let Some(place) = self.place(octet) {
            *place = node;
            return;
        }
        let len = self.len();
        if len == self.room() {
            self.rebuild(len + 1);
        }
        self.add(octet, node);
    }

    /// Takes out the child with this octet, if there is one.
    pub(super) fn remove(&mut self, octet: u8) {
        match self {
            Children::None => {}
            Children::One(key, _) => {
                if *key == octet {
                    *self = Children::None;
                }
            }
            Children::UpTo4(table) => table.remove(octet),
            Children::UpTo16(table) => table.remove(octet),
            Children::UpTo64(table) => table.remove(octet),
            Children::Any(full) => full.remove(octet),
        }
        if self.len() <= self.too_few() {
            self.rebuild(self.len());
        }
    }

    /// The child with this octet.
    #[inline(always)]
    pub(super) fn get(&self, octet: u8) -> Option<u32> {
        match self {
            Children::None => None,
            Children::One(key, node) => (*key == octet).then_some(*node),
            Children::UpTo4(table) => table.get(octet),
            Children::UpTo16(table) => table.get(octet),
            Children::UpTo64(table) => table.get(octet),
            Children::Any(full) => full.get(octet),
        }
    }

    /// The child, if there is exactly one.
    pub(super) fn only(&self) -> Option<u32> {
        match self {
            Children::One(_, node) => Some(*node),
            Children::None | Children::UpTo4(_) | Children::UpTo16(_) | Children::UpTo64(_) | Children::Any(_) => None,
        }
    }

    /// How many children there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Children::None => 0,
            Children::One(..) => 1,
            Children::UpTo4(table) => usize::from(table.len),
            Children::UpTo16(table) => usize::from(table.len),
            Children::UpTo64(table) => usize::from(table.len),
            Children::Any(full) => usize::from(full.len),
        }
    }

    /// Calls `visit` with each child's octet and node, in the order of the octets.
    pub(super) fn each(&self, mut visit: impl FnMut(u8, u32)) {
        match self {
            Children::None => {}
            Children::One(octet, node) => visit(*octet, *node),
            Children::UpTo4(table) => table.each(visit),
            Children::UpTo16(table) => table.each(visit),
            Children::UpTo64(table) => table.each(visit),
            Children::Any(full) => full.each(visit),
        }
    }

    fn place(&mut self, octet: u8) -> Option<&mut u32> {
        match self {
            Children::None => None,
            Children::One(key, node) => (*key == octet).then_some(node),
            Children::UpTo4(table) => table.place(octet),
            Children::UpTo16(table) => table.place(octet),
            Children::UpTo64(table) => table.place(octet),
            Children::Any(full) => full.place(octet),
        }
    }

    /// Adds a child whose octet is new, where there is room.
    fn add(&mut self, octet: u8, node: u32) {
        match self {
            Children::None | Children::One(..) => *self = Children::One(octet, node),
            Children::UpTo4(table) => table.add(octet, node),
            Children::UpTo16(table) => table.add(octet, node),
            Children::UpTo64(table) => table.add(octet, node),
            Children::Any(full) => full.add(octet, node),
        }
    }

    /// Moves the children into the smallest table with room for `count`.
    fn rebuild(&mut self, count: usize) {
        let mut other = Children::with_room(count);
        self.each(|octet, node| other.add(octet, node));
        *self = other;
    }

    fn room(&self) -> usize {
        match self {
            Children::None | Children::One(..) => 1,
            Children::UpTo4(_) => 4,
            Children::UpTo16(_) => 16,
            Children::UpTo64(_) => 64,
            Children::Any(_) => 256,
        }
    }

    /// At this many children a smaller table takes over. Well below that table's room, so that a peer adding and
    /// removing one child does not make us rebuild each time; only a single child always leaves its table, because
    /// [`only`](Self::only) asks for that.
    fn too_few(&self) -> usize {
        match self {
            Children::None | Children::One(..) => 0,
            Children::UpTo4(_) => 1,
            Children::UpTo16(_) => 3,
            Children::UpTo64(_) => 12,
            Children::Any(_) => 48,
        }
    }
}

/// Up to `N` children, sorted by octet. Octets past `len` are 255, so that [`rank`](Self::rank) may look at all `N`: a
/// loop of fixed length without branches, which the compiler turns into vector instructions.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    len: u8,
    octets: [u8; N],
    nodes: [u32; N],
}

impl<const N: usize> Table<N> {
    fn new() -> Table<N> {
        Table { len: 0, octets: [u8::MAX; N], nodes: [NONE; N] }
    }

    fn add(&mut self, octet: u8, node: u32) {
        let (at, len) = (self.rank(octet), usize::from(self.len));
        self.octets.copy_within(at..len, at + 1);
        self.nodes.copy_within(at..len, at + 1);
        self.octets[at] = octet;
        self.nodes[at] = node;
        self.len += 1;
    }

    fn remove(&mut self, octet: u8) {
        let Some(at) = self.find(octet) else { return };
        let len = usize::from(self.len);
        self.octets.copy_within(at + 1..len, at);
        self.nodes.copy_within(at + 1..len, at);
        self.octets[len - 1] = u8::MAX;
        self.len -= 1;
    }

    #[inline(always)]
    fn get(&self, octet: u8) -> Option<u32> {
        self.find(octet).map(|at| self.nodes[at])
    }

    fn place(&mut self, octet: u8) -> Option<&mut u32> {
        self.find(octet).map(|at| &mut self.nodes[at])
    }

    #[inline(always)]
    fn find(&self, octet: u8) -> Option<usize> {
        let at = self.rank(octet);
        (at < usize::from(self.len) && self.octets[at] == octet).then_some(at)
    }

    /// How many octets are smaller.
    #[inline(always)]
    fn rank(&self, octet: u8) -> usize {
        let smaller: u8 = self.octets.iter().map(|&key| u8::from(key < octet)).sum();
        usize::from(smaller)
    }

    fn each(&self, mut visit: impl FnMut(u8, u32)) {
        for (&octet, &node) in self.octets.iter().zip(&self.nodes).take(usize::from(self.len)) {
            visit(octet, node);
        }
    }
}

/// A place for each octet.
#[derive(Debug)]
pub(super) struct Full {
    len: u16,
    nodes: [u32; 256],
}

impl Full {
    fn add(&mut self, octet: u8, node: u32) {
        self.nodes[usize::from(octet)] = node;
        self.len += 1;
    }

    fn remove(&mut self, octet: u8) {
        if let Some(place) = self.place(octet) {
            *place = NONE;
            self.len -= 1;
        }
    }

    #[inline(always)]
    fn get(&self, octet: u8) -> Option<u32> {
        let node = self.nodes[usize::from(octet)];
        (node != NONE).then_some(node)
    }

    fn place(&mut self, octet: u8) -> Option<&mut u32> {
        let node = &mut self.nodes[usize::from(octet)];
        (*node != NONE).then_some(node)
    }

    fn each(&self, mut visit: impl FnMut(u8, u32)) {
        for (octet, &node) in (0..=u8::MAX).zip(&self.nodes) {
            if node != NONE {
                visit(octet, node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn expect_same(children: &Children, model: &BTreeMap<u8, u32>) {
        let mut seen = Vec::new();
        children.each(|octet, node| seen.push((octet, node)));
        assert!(seen.iter().copied().eq(model.iter().map(|(&octet, &node)| (octet, node))));
        assert_eq!(children.len(), model.len());
        assert_eq!(children.only().is_some(), model.len() == 1);
        for octet in 0..=u8::MAX {
            assert_eq!(children.get(octet), model.get(&octet).copied());
        }
    }

    #[test]
    fn every_table_size_finds_its_children_while_growing_and_shrinking() {
        let mut children = Children::default();
        let mut model = BTreeMap::new();
        // 167 is odd, so every octet comes once, in a scattered order.
        let order: Vec<u8> = (0..=u8::MAX).map(|step| step.wrapping_mul(167)).collect();
        for &octet in &order {
            children.insert(octet, u32::from(octet) + 1000);
            model.insert(octet, u32::from(octet) + 1000);
            expect_same(&children, &model);
        }
        for &octet in &order {
            children.insert(octet, u32::from(octet));
            model.insert(octet, u32::from(octet));
        }
        expect_same(&children, &model);
        for &octet in &order {
            children.remove(octet);
            children.remove(octet);
            model.remove(&octet);
            expect_same(&children, &model);
        }
    }

    #[test]
    fn a_table_fits_the_sixteen_octets_a_node_has_for_it() {
        assert_eq!(size_of::<Children>(), 16);
    }
}
