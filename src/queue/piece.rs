//! A piece of a queue: contiguous wire form, or one large body.

use super::changes::{Changes, Load};
use super::chunk::Extent;
use super::doubt::Doubt;
use super::{PIECE, let_go};
use crate::message::size::Size;
use crate::message::wire::Header;
use bytes::Bytes;

/// A run of octets in a queue, with what is needed to count messages and to cut only between them.
pub(crate) struct Piece {
    data: Data,
    /// Where the part that still counts begins.
    start: usize,
    /// How many messages end in this piece.
    pub(crate) messages: u32,
    /// Whether a message ends where this piece ends, so that a batch may stop here.
    pub(crate) ends: bool,
    /// What is doubtful of the message that begins this piece.
    pub(crate) doubt: Doubt,
    holds: Holds,
}

/// What a piece is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Messages,
    /// Commands only: they are exempt from marks and not carried over to the next connection.
    Commands,
    /// Commands of the connection's own, which go before all else.
    Urgent,
    /// Nothing, and what is behind it does not leave yet.
    Barrier,
}

enum Data {
    Owned(Vec<u8>),
    Shared(Bytes),
    Extent(Extent),
    /// Changes of subscriptions, which are written once a flusher takes them.
    Changes(Box<Changes>),
}

impl Piece {
    fn new(data: Data, messages: u32, ends: bool) -> Piece {
        Piece { data, start: 0, messages, ends, holds: Holds::Messages, doubt: Doubt::default() }
    }

    pub(crate) fn owned(bytes: Vec<u8>, messages: u32, ends: bool) -> Piece {
        Piece::new(Data::Owned(bytes), messages, ends)
    }

    pub(crate) fn shared(bytes: Bytes, messages: u32, ends: bool) -> Piece {
        Piece::new(Data::Shared(bytes), messages, ends)
    }

    pub(crate) fn extent(extent: Extent) -> Piece {
        Piece::new(Data::Extent(extent), 1, true)
    }

    pub(crate) fn commands(bytes: Vec<u8>) -> Piece {
        Piece { holds: Holds::Commands, ..Piece::new(Data::Owned(bytes), 0, true) }
    }

    pub(crate) fn urgent(bytes: Vec<u8>) -> Piece {
        Piece { holds: Holds::Urgent, ..Piece::commands(bytes) }
    }

    pub(crate) fn barrier() -> Piece {
        Piece { holds: Holds::Barrier, ..Piece::commands(Vec::new()) }
    }

    pub(crate) fn changes(changes: Changes) -> Piece {
        Piece { data: Data::Changes(Box::new(changes)), ..Piece::commands(Vec::new()) }
    }

    /// Whether it holds no message.
    pub(crate) fn is_control(&self) -> bool {
        self.holds != Holds::Messages
    }

    pub(crate) fn is_urgent(&self) -> bool {
        self.holds == Holds::Urgent
    }

    pub(crate) fn is_barrier(&self) -> bool {
        self.holds == Holds::Barrier
    }

    /// The octets that count. Those of [`Changes`] do not exist before [`encode`](Piece::encode).
    pub(crate) fn as_slice(&self) -> &[u8] {
        let all = match &self.data {
            Data::Changes(_) => &[],
            Data::Owned(bytes) => bytes.as_slice(),
            Data::Shared(bytes) => bytes,
            Data::Extent(extent) => extent.as_slice(),
        };
        all.get(self.start..).unwrap_or(&[])
    }

    pub(crate) fn len(&self) -> usize {
        let all = match &self.data {
            Data::Owned(bytes) => bytes.len(),
            Data::Shared(bytes) => bytes.len(),
            Data::Extent(extent) => extent.len(),
            Data::Changes(changes) => changes.bytes(),
        };
        all.saturating_sub(self.start)
    }

    /// Takes one more message's extent in when it lies right behind this one's.
    pub(crate) fn merge(&mut self, next: &Extent) -> bool {
        let merged = match &mut self.data {
            Data::Extent(extent) => extent.merge(next),
            Data::Owned(_) | Data::Shared(_) | Data::Changes(_) => false,
        };
        self.messages += u32::from(merged);
        merged
    }

    /// The buffer behind a piece of commands, to append more of them.
    pub(crate) fn commands_mut(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.data {
            Data::Owned(bytes) if self.holds == Holds::Commands => Some(bytes),
            Data::Owned(_) | Data::Shared(_) | Data::Extent(_) | Data::Changes(_) => None,
        }
    }

    /// The changes in this piece, to add to them.
    pub(crate) fn changes_mut(&mut self) -> Option<&mut Changes> {
        match &mut self.data {
            Data::Changes(changes) => Some(changes),
            Data::Owned(_) | Data::Shared(_) | Data::Extent(_) => None,
        }
    }

    /// What the changes in this piece take, with the piece itself and that which messages before it had to become.
    pub(crate) fn change_load(&self) -> Option<Load> {
        match &self.data {
            Data::Changes(changes) => {
                let Load { bytes, beside } = changes.load();
                Some(Load { bytes, beside: beside + PARTED })
            }
            Data::Owned(_) | Data::Shared(_) | Data::Extent(_) => None,
        }
    }

    /// Takes whole messages in behind its own, if these were copied and there is room.
    pub(crate) fn join(&mut self, octets: &[u8], messages: u32) -> bool {
        match &mut self.data {
            Data::Owned(bytes) if self.holds == Holds::Messages && self.ends && bytes.len() + octets.len() <= PIECE => {
                bytes.extend_from_slice(octets);
                self.messages += messages;
                true
            }
            Data::Owned(_) | Data::Shared(_) | Data::Extent(_) | Data::Changes(_) => false,
        }
    }

    /// Whether it is no more than a few whole messages that were copied, of which nothing is doubtful.
    pub(crate) fn may_join(&self) -> bool {
        let is_plain = matches!(self.data, Data::Owned(_)) && !self.is_control() && self.ends;
        is_plain && self.len() <= FEW && self.doubt == Doubt::default()
    }

    /// The changes in this piece, taken out of the queue; another piece comes back.
    pub(crate) fn into_changes(self) -> Result<Changes, Piece> {
        match self.data {
            Data::Changes(changes) => Ok(*changes),
            Data::Owned(_) | Data::Shared(_) | Data::Extent(_) => Err(self),
        }
    }

    /// Writes changes down: from here on they are octets like all others.
    pub(crate) fn encode(&mut self) {
        if let Data::Changes(changes) = &self.data {
            self.data = Data::Owned(changes.encode());
        }
    }

    /// Forgets the first `octets`, in which `messages` messages ended.
    pub(crate) fn trim(&mut self, octets: usize, messages: u32) {
        if octets > 0 {
            self.doubt = Doubt::default();
        }
        self.start += octets;
        self.messages = self.messages.saturating_sub(messages);
    }

    /// The octets as shared bytes, for a reader; short extents are copied so that they do not pin their chunk, and so
    /// is what fills little of a large buffer.
    pub(crate) fn into_bytes(self) -> Bytes {
        let all = match self.data {
            Data::Owned(bytes) if bytes.capacity() > PIECE / 8 && bytes.len() < bytes.capacity() / 8 => {
                Bytes::copy_from_slice(&bytes)
            }
            Data::Owned(bytes) => Bytes::from(bytes),
            Data::Shared(bytes) => bytes,
            Data::Extent(extent) => Bytes::copy_from_slice(extent.as_slice()),
            Data::Changes(changes) => Bytes::from(changes.encode()),
        };
        if self.start == 0 { all } else { all.slice(self.start..) }
    }

    /// The body that it shares with whoever sent it. Its owner may be one of the application's.
    pub(crate) fn body(&self) -> Option<&Bytes> {
        match &self.data {
            Data::Shared(bytes) => Some(bytes),
            Data::Owned(_) | Data::Extent(_) | Data::Changes(_) => None,
        }
    }

    /// It is written: the buffer itself, to be filled again. Whoever wrote it holds no gate, and lets a body go here.
    pub(crate) fn into_buffer(self) -> Option<Vec<u8>> {
        match self.data {
            Data::Owned(bytes) => Some(bytes),
            Data::Shared(body) => {
                let_go(body);
                None
            }
            Data::Extent(_) | Data::Changes(_) => None,
        }
    }
}

/// Messages of so many octets together are copied rather than kept apart.
pub(crate) const FEW: usize = 4 * 1024;
/// What a run of changes takes as a piece between two others, in a list that grows by doubling, with what the allocator
/// adds to each.
const PARTED: usize = 4 * size_of::<Piece>() + 64;

/// Walks whole messages over pieces. The pieces hold well-formed wire form: they were made or checked here.
pub(crate) struct Walk {
    /// The piece and the octet in it where the next message begins.
    pub(crate) piece: usize,
    pub(crate) offset: usize,
    /// How many messages ended in `piece` before `offset`.
    pub(crate) ended_here: u32,
    /// The size of the last message, or of the body of the last command.
    pub(crate) size: Size,
}

impl Walk {
    pub(crate) fn new() -> Walk {
        Walk { piece: 0, offset: 0, ended_here: 0, size: Size { octets: 0, frames: 0 } }
    }

    /// Goes behind the next message or command if it ends at or before octet `limit.1` of piece `limit.0`; says whether
    /// it was a message, or `None` when it does not end there.
    pub(crate) fn advance<'a>(
        &mut self,
        piece: impl Fn(usize) -> Option<&'a [u8]>,
        limit: (usize, usize),
    ) -> Option<bool> {
        let (mut at, mut offset) = (self.piece, self.offset);
        let mut size = Size { octets: 0, frames: 0 };
        let command = loop {
            let mut bytes = piece(at)?;
            while offset == bytes.len() {
                at += 1;
                offset = 0;
                bytes = piece(at)?;
            }
            let header = Header::read(bytes.get(offset..)?)?;
            offset += header.size;
            let body = usize::try_from(header.body).ok()?;
            size.octets = size.octets.saturating_add(body);
            size.frames += 1;
            if offset == bytes.len() && body > 0 {
                at += 1;
                offset = body;
            } else {
                offset = offset.checked_add(body)?;
            }
            if (at, offset) > limit {
                return None;
            }
            if !header.more() {
                break header.command();
            }
        };
        if at != self.piece {
            self.ended_here = 0;
        }
        (self.piece, self.offset, self.size) = (at, offset, size);
        self.ended_here += u32::from(!command);
        Some(!command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fills_little_of_a_large_buffer_is_copied_to_size() {
        let capacity = |octets: usize| {
            let mut buffer = Vec::with_capacity(PIECE);
            buffer.resize(octets, 7);
            let bytes = Piece::owned(buffer, 1, true).into_bytes();
            assert_eq!(bytes, vec![7; octets]);
            Vec::from(bytes).capacity()
        };
        assert_eq!(capacity(300), 300);
        assert_eq!(capacity(PIECE / 2), PIECE);
    }
}
