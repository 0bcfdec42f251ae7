//! What came from one peer and waits for the application: checked wire form, sliced into messages by whoever receives.

use super::PIECE;
use crate::message::Message;
use crate::message::frame::{COPIED, Frame, INLINE};
use crate::message::wire::{Header, MORE};
use crate::peer::PeerId;
use bytes::Bytes;
use std::collections::VecDeque;

/// The received messages of one peer.
#[derive(Default)]
pub(crate) struct Inbox {
    /// The piece being read, and how much of it is read.
    current: Bytes,
    at: usize,
    rest: VecDeque<Bytes>,
    /// A piece that is read, whose buffer may be used again.
    spent: Bytes,
    /// Whether somebody wants it.
    pub(crate) recycles: bool,
    /// Messages and octets handed out and not yet reported for credit.
    pub(crate) taken: usize,
    pub(crate) taken_bytes: usize,
}

/// A message of one frame, before it is put together.
pub(crate) enum Quick<'a> {
    /// The first so many octets of a window.
    Short(&'a [u8; INLINE], u8),
    /// Octets that are worth a copy, so that the message keeps nothing else.
    Middling(&'a [u8]),
    /// A part of what was read, which it shares.
    Long(Bytes),
}

impl Quick<'_> {
    #[inline(always)]
    pub(crate) fn body(&self) -> &[u8] {
        match self {
            Quick::Short(window, len) => &window[..usize::from(*len).min(INLINE)],
            Quick::Middling(body) => body,
            Quick::Long(body) => body,
        }
    }

    /// The message, in the place the caller has for it.
    #[inline(always)]
    pub(crate) fn into_message(self, peer: PeerId) -> Message {
        match self {
            Quick::Short(window, len) => Message::from_frame(Frame::short(window, len), Some(peer)),
            Quick::Middling(body) => Message::from_frame(Frame::copied(body), Some(peer)),
            Quick::Long(body) => Message::from_frame(Frame::shared(body), Some(peer)),
        }
    }
}

impl Inbox {
    /// Appends wire form in which every message is whole by the time the next one is asked for.
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.rest.push_back(piece);
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.current.len() && self.rest.is_empty()
    }

    /// The next message if it is of the common sort: one frame, and not the last octets that are there.
    #[inline(always)]
    pub(crate) fn next_quick(&mut self) -> Option<Quick<'_>> {
        let left = self.current.get(self.at..)?;
        let Header { flags, size, body } = Header::read(left)?;
        if flags & MORE != 0 || body >= (left.len() - size) as u64 {
            return None;
        }
        let (start, len) = (self.at + size, body as usize);
        let short = u8::try_from(len).ok().filter(|_| len <= INLINE);
        if short.is_some() && left.len() - size < INLINE {
            return None;
        }
        self.at = start + len;
        self.taken += 1;
        self.taken_bytes += size + len;
        match (short, self.current.get(start..)?.first_chunk::<INLINE>()) {
            (Some(len), Some(window)) => Some(Quick::Short(window, len)),
            _ if len <= COPIED => Some(Quick::Middling(self.current.get(start..start + len)?)),
            _ => Some(Quick::Long(self.current.slice(start..start + len))),
        }
    }

    /// The next message if it is one short frame, with enough behind it for a copy of fixed size. What is returned is the start
    /// of its body and its length.
    #[inline(always)]
    fn next_short(&mut self) -> Option<(&[u8; INLINE], u8)> {
        let &[flags, len] = self.current.get(self.at..)?.first_chunk::<2>()?;
        if flags != 0 || usize::from(len) > INLINE {
            return None;
        }
        let body = self.at + 2;
        let window = self.current.get(body..)?.first_chunk::<INLINE>()?;
        self.at = body + usize::from(len);
        self.taken += 1;
        self.taken_bytes += 2 + usize::from(len);
        Some((window, len))
    }

    /// The next message.
    #[inline(always)]
    pub(crate) fn next(&mut self, peer: Option<PeerId>) -> Option<Message> {
        if let Some((window, len)) = self.next_short() {
            return Some(Message::from_frame(Frame::short(window, len), peer));
        }
        self.next_slow(peer)
    }

    #[inline(never)]
    fn next_slow(&mut self, peer: Option<PeerId>) -> Option<Message> {
        let (frame, flags) = self.frame()?;
        self.taken += 1;
        if flags & MORE == 0 {
            return Some(Message::from_frame(frame, peer));
        }
        let mut frames = VecDeque::from([frame]);
        while let Some((frame, flags)) = self.frame() {
            frames.push_back(frame);
            if flags & MORE == 0 {
                break;
            }
        }
        Some(Message::from_frames(frames, peer))
    }

    fn frame(&mut self) -> Option<(Frame, u8)> {
        while self.at == self.current.len() {
            self.advance()?;
        }
        let Header { flags, size, body } = Header::read(self.current.get(self.at..)?)?;
        let body = usize::try_from(body).ok()?;
        self.taken_bytes += size + body;
        self.at += size;
        if self.at == self.current.len() && body > 0 {
            // A large body is a piece of its own: handed over as it is.
            self.advance()?;
            return Some((Frame::from(std::mem::take(&mut self.current)), flags));
        }
        let start = self.at;
        self.at = start.checked_add(body).filter(|end| *end <= self.current.len())?;
        Some((Frame::part_of(&self.current, start, body), flags))
    }

    /// Moves on to the next piece; the one that is read is let go.
    fn advance(&mut self) -> Option<()> {
        self.at = 0;
        let read = std::mem::take(&mut self.current);
        if self.recycles && read.len() >= PIECE / 8 {
            self.spent = read;
        }
        self.current = self.rest.pop_front()?;
        Some(())
    }

    /// The buffer of the piece just read, if nobody else holds a part of it.
    pub(crate) fn spent(&mut self) -> Option<Vec<u8>> {
        let spent = std::mem::take(&mut self.spent);
        (!spent.is_empty() && spent.is_unique()).then(|| Vec::from(spent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_is_handed_over_without_a_copy() {
        let body = Bytes::from(vec![5; 100_000]);
        let mut inbox = Inbox::default();
        inbox.push(Bytes::from_static(b"\x01\x01a\x02\x00\x00\x00\x00\x00\x01\x86\xa0"));
        inbox.push(body.clone());
        inbox.push(Bytes::from_static(b"\x00\x03end"));
        let message = inbox.next(None).expect("whole message");
        assert_eq!(message.len(), 2);
        assert_eq!(message.frame(1).expect("two frames").as_ptr(), body.as_ptr());
        assert_eq!(inbox.next(None).expect("whole message"), "end");
        assert!(inbox.next(None).is_none());
        assert_eq!((inbox.taken, inbox.taken_bytes), (2, 100_012 + 5));
    }

    #[test]
    fn what_arrives_while_the_current_piece_is_read_up_stays_behind_what_waits() {
        let mut inbox = Inbox::default();
        for piece in [&b"\x00\x011"[..], b"\x00\x012"] {
            inbox.push(Bytes::from_static(piece));
        }
        assert_eq!(inbox.next(None).expect("whole message"), "1");
        inbox.push(Bytes::from_static(b"\x00\x013"));
        assert_eq!(inbox.next(None).expect("whole message"), "2");
        assert_eq!(inbox.next(None).expect("whole message"), "3");
    }

    #[test]
    fn empty_frames_are_messages_too() {
        let mut inbox = Inbox::default();
        inbox.push(Bytes::from_static(b"\x00\x00\x01\x00\x00\x00"));
        assert_eq!(inbox.next(None).expect("whole message"), "");
        assert_eq!(inbox.next(None).expect("whole message").len(), 2);
        assert!(inbox.is_empty());
    }
}
