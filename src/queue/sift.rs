//! Takes out of a queue the messages that are too large for the peer it turned out to be.

use super::piece::{Piece, Walk};
use crate::message::size::Size;
use bytes::Bytes;
use std::collections::VecDeque;

/// What is left of a queue, and the sizes of the messages that were taken out.
pub(super) struct Sifted {
    pub(super) pieces: VecDeque<Piece>,
    pub(super) dropped: Vec<Size>,
    /// How many of these stood among the first `ahead` messages.
    pub(super) dropped_ahead: usize,
}

/// Takes out each message that is not within the limit. Whole messages only.
pub(super) fn sift(mut queue: VecDeque<Piece>, limit: Size, mut ahead: usize) -> Sifted {
    let mut sifted = Sifted { pieces: VecDeque::new(), dropped: Vec::new(), dropped_ahead: 0 };
    while !queue.is_empty() {
        // Pieces up to one that ends with a message.
        let end = queue.iter().position(|piece| piece.ends).map_or(queue.len(), |place| place + 1);
        let group: Vec<Piece> = queue.drain(..end).collect();
        let messages: usize = group.iter().map(|piece| piece.messages as usize).sum();
        let octets: usize = group.iter().map(Piece::len).sum();
        let control = group.iter().all(|piece| piece.is_control());
        if control || limit.admits_all_of(octets) {
            sifted.pieces.extend(group);
        } else {
            sift_group(group, limit, ahead, &mut sifted);
        }
        ahead -= messages.min(ahead);
    }
    sifted
}

fn sift_group(group: Vec<Piece>, limit: Size, ahead: usize, sifted: &mut Sifted) {
    let mut walk = Walk::new();
    let mut index = 0;
    let group: Vec<Bytes> = group.into_iter().map(Piece::into_bytes).collect();
    loop {
        let (from, start) = (walk.piece, walk.offset);
        if walk.advance(|index| group.get(index).map(|piece| &piece[..]), (group.len(), 0)).is_none() {
            return;
        }
        let mut parts: Vec<Bytes> = Vec::new();
        for (place, piece) in group.iter().enumerate().take(walk.piece + 1).skip(from) {
            let start = if place == from { start } else { 0 };
            let end = if place == walk.piece { walk.offset } else { piece.len() };
            if start < end {
                parts.push(piece.slice(start..end));
            }
        }
        if !walk.size.is_within(limit) {
            sifted.dropped.push(walk.size);
            sifted.dropped_ahead += usize::from(index < ahead);
        } else {
            let last = parts.len().saturating_sub(1);
            let whole = parts.into_iter().enumerate();
            sifted
                .pieces
                .extend(whole.map(|(place, part)| Piece::shared(part, u32::from(place == last), place == last)));
        }
        index += 1;
    }
}
