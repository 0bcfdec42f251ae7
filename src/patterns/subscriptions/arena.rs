//! A growable array that never moves what it holds to grow, so that the millionth topic costs no more than the first,
//! and no more than one chunk of it is ever unused.

/// Items in one chunk. Only a first chunk may be smaller, so that a set with one subscription stays small.
const CHUNK: usize = 1024;

/// Items found by number.
#[derive(Debug)]
pub(super) struct Arena<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Arena<T> {
    /// An arena that holds `first` as number 0.
    pub(super) fn new(first: T) -> Arena<T> {
        Arena { chunks: vec![vec![first]] }
    }

    /// Adds an item and returns its number.
    pub(super) fn push(&mut self, item: T) -> u32 {
        let number = self.len();
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => {
                if chunk.len() == chunk.capacity() {
                    chunk.reserve_exact(chunk.len().clamp(1, CHUNK - chunk.len()));
                }
                chunk.push(item);
            }
            Some(_) | None => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(item);
                self.chunks.push(chunk);
            }
        }
        number
    }

    /// Drops the items from number `len` on and gives their memory back.
    pub(super) fn truncate(&mut self, len: u32) {
        let len = len as usize;
        self.chunks.truncate(len.div_ceil(CHUNK));
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.truncate(len - len.saturating_sub(1) / CHUNK * CHUNK);
            chunk.shrink_to_fit();
        }
        self.chunks.shrink_to_fit();
    }

    /// Drops the chunks that hold no item before number `len`: as [`truncate`](Self::truncate), but for the rest of one
    /// chunk, and quick.
    pub(super) fn truncate_roughly(&mut self, len: u32) {
        self.chunks.truncate((len as usize).div_ceil(CHUNK));
    }

    /// All items, a chunk at a time.
    pub(super) fn into_chunks(self) -> impl Iterator<Item = Vec<T>> {
        self.chunks.into_iter()
    }

    /// How many items there are.
    pub(super) fn len(&self) -> u32 {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        let len = full + self.chunks.last().map_or(0, Vec::len);
        u32::try_from(len).expect("memory ends long before four thousand million nodes")
    }

    /// The item with this number.
    #[inline(always)]
    pub(super) fn get(&self, number: u32) -> &T {
        &self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    /// The item with this number.
    #[inline(always)]
    pub(super) fn get_mut(&mut self, number: u32) -> &mut T {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_valid_through_growth_and_truncation() {
        let mut arena = Arena::new(0);
        for round in [3, CHUNK as u32, 3 * CHUNK as u32 + 1, 2 * CHUNK as u32] {
            for number in arena.len()..round {
                assert_eq!(arena.push(number), number);
            }
            arena.truncate(round);
            assert_eq!(arena.len(), round);
            arena.truncate_roughly(round - 1);
            assert_eq!(arena.len(), (round - 1).next_multiple_of(CHUNK as u32).min(round));
            (arena.len()..round).for_each(|number| assert_eq!(arena.push(number), number));
            assert!((0..round).all(|number| *arena.get(number) == number));
        }
    }
}
