//! Numbers that are found by the hash of what they stand for, as a table that never takes long for one of them, however
//! many there are: it is whole only as long as it is small, and then in many parts, each of which grows by itself.

use std::collections::{BTreeSet, HashMap, hash_map};
use std::hash::{BuildHasherDefault, Hasher};

/// See the module.
#[derive(Default)]
pub(crate) struct Numbers {
    /// The first number with each hash, by a part of the hash: one table, or [`PARTS`].
    parts: Vec<Table>,
    /// The others with their hashes; hardly ever there is one.
    others: BTreeSet<(u64, u64)>,
    len: usize,
}

type Table = HashMap<u64, u64, BuildHasherDefault<Given>>;

/// So many in one table are spread over several.
const WHOLE: usize = 1024;
const PARTS: usize = 64;
/// Which bits of a hash say in which part it is. A table uses those above and below.
const PART_SHIFT: u32 = 40;

impl Numbers {
    /// Adds a number that is not there.
    pub(crate) fn insert(&mut self, hash: u64, number: u64) {
        self.len += 1;
        if self.parts.is_empty() {
            self.parts.push(Table::default());
        } else if self.parts.len() == 1 && self.len > WHOLE {
            let whole = std::mem::take(&mut self.parts);
            self.parts.resize_with(PARTS, Table::default);
            for (hash, number) in whole.into_iter().flatten() {
                self.part(hash).insert(hash, number);
            }
        }
        match self.part(hash).entry(hash) {
            hash_map::Entry::Vacant(place) => drop(place.insert(number)),
            hash_map::Entry::Occupied(_) => drop(self.others.insert((hash, number))),
        }
    }

    /// Takes a number out; returns true if it was there.
    pub(crate) fn remove(&mut self, hash: u64, number: u64) -> bool {
        if self.parts.is_empty() {
            return false;
        }
        let part = self.part(hash);
        let found = match part.get(&hash) {
            Some(first) if *first == number => part.remove(&hash).is_some(),
            Some(_) | None => self.others.remove(&(hash, number)),
        };
        self.len -= usize::from(found);
        if self.len == 0 {
            *self = Numbers::default();
        }
        found
    }

    /// The numbers with a hash.
    pub(crate) fn with_hash(&self, hash: u64) -> impl Iterator<Item = u64> {
        let part = self.parts.get(place(hash, self.parts.len()));
        let others = (!self.others.is_empty()).then(|| self.others.range((hash, 0)..=(hash, u64::MAX)));
        let first = part.and_then(|part| part.get(&hash)).copied();
        first.into_iter().chain(others.into_iter().flatten().map(|(_, number)| *number))
    }

    /// How many numbers each table has and has room for.
    #[cfg(test)]
    pub(super) fn tables(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.parts.iter().map(|table| (table.len(), table.capacity()))
    }

    fn part(&mut self, hash: u64) -> &mut Table {
        let place = place(hash, self.parts.len());
        &mut self.parts[place]
    }
}

fn place(hash: u64, parts: usize) -> usize {
    if parts == PARTS { (hash >> PART_SHIFT) as usize % PARTS } else { 0 }
}

/// What is a hash already.
#[derive(Default)]
struct Given(u64);

impl Hasher for Given {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_hashes_also_if_these_are_the_same() {
        for hashes in [3, 5000] {
            let hash = |number: u64| (number % hashes).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut numbers = Numbers::default();
            (0..6000).for_each(|number| numbers.insert(hash(number), number));
            assert_eq!(numbers.len, 6000);
            for number in 0..6000 {
                assert_eq!(numbers.with_hash(hash(number)).filter(|found| *found == number).count(), 1);
                assert!(!numbers.remove(hash(number) + 1, number));
            }
            for number in (0..6000).filter(|number| number % 3 > 0) {
                assert!(numbers.remove(hash(number), number) && !numbers.remove(hash(number), number));
            }
            for number in 0..6000 {
                let found = numbers.with_hash(hash(number)).any(|found| found == number);
                assert_eq!(found, number % 3 == 0);
            }
            (0..6000).filter(|number| number % 3 > 0).for_each(|number| numbers.insert(hash(number), number));
            let is_there = |number: &u64| numbers.with_hash(hash(*number)).any(|found| found == *number);
            assert!((0..6000).all(|number| is_there(&number)) && numbers.len == 6000);
        }
    }

    #[test]
    fn nothing_is_kept_when_all_are_gone() {
        let mut numbers = Numbers::default();
        (0..10_000).for_each(|number| numbers.insert(number, number));
        assert!((0..10_000).all(|number| numbers.remove(number, number)));
        assert!(numbers.len == 0 && numbers.parts.is_empty() && numbers.with_hash(7).next().is_none());
    }
}
