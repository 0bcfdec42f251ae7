//! A chunk that grows at its end while its written part is read: how a publisher encodes a message once for all of its
//! subscribers. Each outbox holds an [`Extent`] of it; ten thousand slow subscribers share one body.
#![expect(unsafe_code, reason = "readers look at the written part while the writer appends behind it")]

use super::PIECE;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// The only writer of a chunk.
pub(crate) struct Appender {
    chunk: Arc<Chunk>,
    /// Octets written so far; everything below is initialised and never changes again.
    len: usize,
}

struct Chunk {
    bytes: Box<[UnsafeCell<MaybeUninit<u8>>]>,
}

// SAFETY: octets are written once, by the single `Appender`, before any `Extent` covers them, and never again after.
// Whoever holds an `Extent` got it from that writer through a synchronising hand-over (a mutex), so the write happened
// before every read. Reads and writes never touch the same octet at the same time.
unsafe impl Sync for Chunk {}

impl Appender {
    pub(crate) fn new() -> Appender {
        Appender { chunk: Arc::new(Chunk::new()), len: 0 }
    }

    /// Appends `parts` one after the other and returns where they lie; starts a fresh chunk when this one is full.
    /// `None` when they would not fit an empty chunk either.
    pub(crate) fn append(&mut self, parts: &[&[u8]]) -> Option<Extent> {
        let total = parts.iter().try_fold(0usize, |sum, part| sum.checked_add(part.len()))?;
        if total > PIECE {
            return None;
        }
        if total > PIECE - self.len {
            self.renew();
        }
        let start = self.len;
        for part in parts {
            // SAFETY: `self.len + part.len() <= start + total <= PIECE`, the length of the chunk, so the destination
            // lies inside it. It lies behind `self.len`, where no `Extent` reaches and no one else writes: `self` is
            // the only appender. A fresh source slice cannot overlap it.
            unsafe {
                let at = self.chunk.bytes.as_ptr().add(self.len).cast::<u8>().cast_mut();
                std::ptr::copy_nonoverlapping(part.as_ptr(), at, part.len());
            }
            self.len += part.len();
        }
        Some(Extent { chunk: Arc::clone(&self.chunk), start, end: self.len })
    }

    /// Goes on at the start again when nobody reads the chunk any more, else with a new chunk.
    fn renew(&mut self) {
        if Arc::get_mut(&mut self.chunk).is_none() {
            self.chunk = Arc::new(Chunk::new());
        }
        self.len = 0;
    }
}

impl Chunk {
    fn new() -> Chunk {
        Chunk { bytes: (0..PIECE).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect() }
    }
}

/// A run of octets in a chunk that never change.
#[derive(Clone)]
pub(crate) struct Extent {
    chunk: Arc<Chunk>,
    start: usize,
    end: usize,
}

impl Extent {
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: an extent only ever covers octets that `append` wrote before it was made (`start <= end <= len`
        // there), and those are never written again while an extent keeps the chunk alive: `renew` goes back to the
        // start only when no extent is left.
        unsafe {
            std::slice::from_raw_parts(self.chunk.bytes.as_ptr().add(self.start).cast::<u8>(), self.end - self.start)
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Takes `next` in when it lies right behind in the same chunk.
    pub(crate) fn merge(&mut self, next: &Extent) -> bool {
        let adjacent = self.precedes(next);
        if adjacent {
            self.end = next.end;
        }
        adjacent
    }

    fn precedes(&self, next: &Extent) -> bool {
        self.end == next.start && Arc::ptr_eq(&self.chunk, &next.chunk)
    }

    /// The place right behind, for a later [`follows`](Mark::precedes): no reference is held.
    pub(crate) fn mark(&self) -> Mark {
        Mark { chunk: Arc::as_ptr(&self.chunk) as usize, end: self.end }
    }
}

/// A remembered end of an extent. A stale one may coincide with another chunk's address: it only steers a heuristic.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    chunk: usize,
    end: usize,
}

impl Mark {
    pub(crate) fn precedes(self, next: &Extent) -> bool {
        self.end == next.start && self.chunk == Arc::as_ptr(&next.chunk) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_merge_and_strangers_do_not() {
        let mut writer = Appender::new();
        let mut first = writer.append(&[b"ab", b"c"]).expect("fits");
        let second = writer.append(&[b"def"]).expect("fits");
        let third = writer.append(&[b"ghi"]).expect("fits");
        assert!(!first.clone().merge(&third));
        assert!(first.mark().precedes(&second));
        assert!(first.merge(&second));
        assert_eq!(first.as_slice(), b"abcdef");
    }

    #[test]
    fn a_full_chunk_is_left_to_its_readers_and_reused_without_any() {
        let mut writer = Appender::new();
        let body = vec![1; PIECE / 2];
        let held = writer.append(&[&body]).expect("fits");
        let _ = writer.append(&[&body]).expect("fits");
        let fresh = writer.append(&[&[2; 9]]).expect("fits");
        assert_eq!(held.as_slice(), &body[..]);
        assert!(!held.clone().merge(&fresh));
        drop((held, fresh));
        let address = Arc::as_ptr(&writer.chunk);
        assert_eq!(writer.append(&[&vec![3; PIECE]]).expect("fits").as_slice()[0], 3);
        assert_eq!(Arc::as_ptr(&writer.chunk), address);
        assert!(writer.append(&[&vec![3; PIECE + 1]]).is_none());
    }
}
