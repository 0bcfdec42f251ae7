//! Takes out of a queue the messages that are too large for the peer it turned out to be.

use super::doubt::Doubt;
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

/// Most pieces have no message to take out, though their octets leave room for one: these stay as they are.
fn sift_group(group: Vec<Piece>, limit: Size, ahead: usize, sifted: &mut Sifted) {
    let mut walk = Walk::new();
    while walk.advance(|index| group.get(index).map(Piece::as_slice), (group.len(), 0)).is_some() {
        if !walk.size.is_within(limit) {
            return cut_group(group, limit, ahead, sifted);
        }
    }
    sifted.pieces.extend(group);
}

/// Takes messages out of pieces that have some to take out. Those between two of these stay together.
fn cut_group(group: Vec<Piece>, limit: Size, ahead: usize, sifted: &mut Sifted) {
    let mut walk = Walk::new();
    let mut index = 0;
    let group: Vec<(Doubt, Bytes)> = group.into_iter().map(|piece| (piece.doubt, piece.into_bytes())).collect();
    let mut run: Vec<Part> = Vec::new();
    loop {
        let (from, start) = (walk.piece, walk.offset);
        if walk.advance(|index| group.get(index).map(|(_, piece)| &piece[..]), (group.len(), 0)).is_none() {
            break;
        }
        if walk.size.is_within(limit) {
            for (place, (_, piece)) in group.iter().enumerate().take(walk.piece + 1).skip(from) {
                let start = if place == from { start } else { 0 };
                let ends = place == walk.piece;
                let end = if ends { walk.offset } else { piece.len() };
                let messages = u32::from(ends);
                match run.last_mut() {
                    Some(last) if last.place == place => {
                        (last.end, last.messages, last.ends) = (end, last.messages + messages, ends);
                    }
                    _ if start < end => run.push(Part { place, start, end, messages, ends }),
                    _ => {}
                }
            }
        } else {
            sifted.pieces.extend(run.drain(..).map(|part| part.cut(&group)));
            sifted.dropped.push(walk.size);
            sifted.dropped_ahead += usize::from(index < ahead);
        }
        index += 1;
    }
    sifted.pieces.extend(run.into_iter().map(|part| part.cut(&group)));
}

/// Messages that stay, as far as they are in one piece.
struct Part {
    place: usize,
    start: usize,
    end: usize,
    /// How many of them end in it, and whether one does where it ends.
    messages: u32,
    ends: bool,
}

impl Part {
    fn cut(self, group: &[(Doubt, Bytes)]) -> Piece {
        let Some((doubt, piece)) = group.get(self.place) else { return Piece::owned(Vec::new(), 0, true) };
        let mut cut = Piece::shared(piece.slice(self.start..self.end), self.messages, self.ends);
        if self.start == 0 {
            cut.doubt = *doubt;
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::super::doubt::Ending;
    use super::*;

    /// So many messages of one octet, each in so many frames.
    fn messages(count: usize, frames: usize) -> Vec<u8> {
        let message = [[1, 1, 7].repeat(frames - 1), vec![0, 1, 7]].concat();
        message.repeat(count)
    }

    /// What is in the pieces: octets, messages and whether a message ends there.
    fn content(pieces: &VecDeque<Piece>) -> Vec<(Vec<u8>, u32, bool)> {
        pieces.iter().map(|piece| (piece.as_slice().to_vec(), piece.messages, piece.ends)).collect()
    }

    fn doubted(octets: Vec<u8>, messages: u32, ends: bool) -> Piece {
        let mut piece = Piece::owned(octets, messages, ends);
        piece.doubt = Doubt::default().after(Ending::ByPeer { lasted: true }, true);
        piece
    }

    const TEN_FRAMES: Size = Size { octets: usize::MAX, frames: 10 };

    #[test]
    fn a_piece_of_which_all_messages_are_within_the_limit_stays_as_it_is() {
        let octets = messages(1000, 2);
        let sifted = sift([doubted(octets.clone(), 1000, true)].into(), TEN_FRAMES, 0);
        assert_eq!(content(&sifted.pieces), [(octets, 1000, true)]);
        assert_eq!((sifted.dropped, sifted.pieces[0].doubt.lasted()), (vec![], 1));
    }

    #[test]
    fn messages_beside_one_that_is_taken_out_stay_together() {
        // The body of the last message is a piece of its own.
        let large = vec![9; 70];
        let head = [messages(300, 1), messages(1, 11), messages(200, 2), vec![0, 70]].concat();
        let queue = [doubted(head, 501, false), Piece::shared(Bytes::from(large.clone()), 1, true)];
        let sifted = sift(queue.into(), TEN_FRAMES, 301);
        let behind = [messages(200, 2), vec![0, 70]].concat();
        assert_eq!(content(&sifted.pieces), [(messages(300, 1), 300, true), (behind, 200, false), (large, 1, true)]);
        assert_eq!((sifted.dropped, sifted.dropped_ahead), (vec![Size { octets: 11, frames: 11 }], 1));
        let doubts: Vec<u8> = sifted.pieces.iter().map(|piece| piece.doubt.lasted()).collect();
        assert_eq!(doubts, [1, 0, 0]);
    }
}
