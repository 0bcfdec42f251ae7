//! What was written to a stream last, kept while the peer's system may not have it.
//!
//! A long message fits into the system's send buffer although the peer refuses it. When the peer then ends the
//! connection, the message has been counted as written, and what was written behind it is gone with it. The system says
//! how many of the octets written it has had no acknowledgement for: a message that lacks many of them was not read by
//! the peer, so it can go out again without being received twice.

use super::outbox::{Batch, Pool};
use super::piece::{Piece, Walk};
use std::collections::VecDeque;

/// Messages from about this size on are kept, in one frame or many, and what is written behind them.
pub(crate) const KEPT: usize = 512 * 1024;
/// A message of which this many octets are not acknowledged was not read: systems put acknowledgements off, but by a
/// few segments at most once their application has read what came.
const MARGIN: usize = 256 * 1024;

/// See the module. It holds no more than the system's send buffer does.
#[derive(Default)]
pub(crate) struct Sent(Option<Box<Kept>>);

/// What is kept, at least one piece: as a rule nothing is.
#[derive(Default)]
struct Kept {
    /// Whole messages, and commands between them.
    pieces: VecDeque<Piece>,
    octets: usize,
}

impl Sent {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Keeps what is written whole now.
    pub(crate) fn push(&mut self, pieces: impl IntoIterator<Item = Piece>) {
        for piece in pieces {
            let kept = self.0.get_or_insert_default();
            kept.octets += piece.len();
            kept.pieces.push_back(piece);
        }
    }

    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.0.iter().flat_map(|kept| &kept.pieces)
    }

    /// The peer's system lacks the last `missing` octets of these and `begun` more: forgets what it has.
    pub(crate) fn acknowledge(&mut self, begun: usize, missing: usize, pool: &mut Pool) {
        let Some(kept) = &mut self.0 else { return };
        let mut acknowledged = (kept.octets + begun).saturating_sub(missing);
        while let Some(ends) = kept.pieces.iter().position(|piece| piece.ends) {
            let group: usize = kept.pieces.iter().take(ends + 1).map(Piece::len).sum();
            if group > acknowledged {
                return;
            }
            acknowledged -= group;
            kept.octets -= group;
            pool.hold(kept.pieces.range(..=ends));
            kept.pieces.drain(..=ends);
        }
        if kept.pieces.is_empty() {
            self.0 = None;
        }
    }

    /// The connection is gone, and the peer's system lacked the last `missing` octets of these and `begun` more. Puts
    /// what was not read, from the first such message on, in front of what is to be written; how many messages those
    /// were.
    pub(crate) fn recall(&mut self, begun: usize, missing: usize, batch: &mut Batch) -> usize {
        let Some(kept) = self.0.take() else { return 0 };
        let Kept { mut pieces, octets } = *kept;
        let acknowledged = (octets + begun).saturating_sub(missing);
        let mut walk = Walk::new();
        let mut position = 0;
        loop {
            let (piece, offset, ended) = (walk.piece, walk.offset, walk.ended_here);
            let start = position;
            let last = (pieces.len(), 0);
            if walk.advance(|index| pieces.get(index).map(Piece::as_slice), last).is_none() {
                return 0;
            }
            let before: usize = pieces.iter().take(walk.piece).map(Piece::len).sum();
            position = before + walk.offset;
            if position - start.max(acknowledged).min(position) > MARGIN {
                // `offset` may stand at the end of a piece: then the message begins with the next one.
                pieces.drain(..piece);
                if let Some(front) = pieces.front_mut() {
                    front.trim(offset, ended);
                }
                pieces.retain(|piece| piece.len() > 0);
                let messages = pieces.iter().map(|piece| piece.messages as usize).sum();
                batch.put_in_front(pieces);
                return messages;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::doubt::{Doubt, Ending};
    use super::super::outbox::{Lost, Outbox, Pool};
    use super::*;

    /// What was written, and its connection lost with nothing acknowledged.
    fn lose_unread(outbox: &mut Outbox) -> usize {
        let mut unacknowledged = 0;
        while let Some(mut batch) = outbox.begin() {
            while !batch.is_empty() {
                let written = batch.write(|slices| Ok(slices.iter().map(|slice| slice.len()).sum()));
                unacknowledged += written.expect("no error");
            }
            outbox.finish(batch, &mut Pool::new());
        }
        outbox.lose(Lost { ending: Ending::ByPeer { lasted: true }, unacknowledged }, &mut Pool::new()).recalled
    }

    #[test]
    fn only_a_message_that_was_not_read_itself_is_doubtful_not_one_behind_a_long_subscription() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
        outbox.keep_sent(true);
        let command = [&[6][..], &(KEPT as u64).to_be_bytes(), &[b's'; KEPT]].concat();
        outbox.push_replay(&command, None);
        outbox.push_body(b"behind", &mut pool);
        assert_eq!((lose_unread(&mut outbox), outbox.queued()), (1, 1));
        assert_eq!(outbox.doubt(), Doubt::default());
        outbox.push_body(&[7; KEPT], &mut pool);
        outbox.push_body(b"behind", &mut pool);
        assert_eq!((lose_unread(&mut outbox), outbox.queued()), (2, 2));
        assert_eq!(outbox.doubt().lasted(), 1);
    }
}
