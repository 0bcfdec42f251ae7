//! What came from one peer and waits for the application: checked wire form, sliced into messages by whoever receives.

use super::COPY_LIMIT;
use crate::message::Message;
use crate::message::frame::{Frame, INLINE};
use crate::message::wire::{Header, MORE};
use crate::peer::PeerId;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;

/// The received messages of one peer.
#[derive(Default)]
pub(crate) struct Inbox {
    /// The piece being read.
    current: Bytes,
    rest: VecDeque<Bytes>,
    /// Messages and octets handed out and not yet reported for credit.
    pub(crate) taken: usize,
    pub(crate) taken_bytes: usize,
}

impl Inbox {
    /// Appends wire form in which every message is whole by the time the next one is asked for.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if self.is_empty() {
            self.current = piece;
        } else {
            self.rest.push_back(piece);
        }
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.current.is_empty() && self.rest.is_empty()
    }

    /// The next message.
    #[inline(always)]
    pub(crate) fn next(&mut self, peer: Option<PeerId>) -> Option<Message> {
        // The common case: a short frame, alone in its message, with enough behind it for a copy of fixed size.
        if let Some(&[flags, short]) = self.current.first_chunk::<2>() {
            let body = usize::from(short);
            if flags == 0 && body <= INLINE && self.current.len() >= 2 + INLINE {
                self.current.advance(2);
                let frame = Frame::from_front(&self.current, body);
                self.current.advance(body);
                self.taken += 1;
                self.taken_bytes += 2 + body;
                return Some(Message::from_frame(frame, peer));
            }
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
        self.settle();
        let Header { flags, size, body } = Header::read(&self.current)?;
        let body = usize::try_from(body).ok()?;
        self.taken_bytes += size + body;
        self.current.advance(size);
        if self.current.is_empty() && body > 0 {
            // A large body is a piece of its own: handed over as it is.
            return self.rest.pop_front().map(|body| (Frame::from(body), flags));
        }
        let frame = if body > COPY_LIMIT && body == self.current.len() {
            Frame::from(std::mem::take(&mut self.current))
        } else if body <= self.current.len() {
            let frame = Frame::from_front(&self.current, body);
            self.current.advance(body);
            frame
        } else {
            return None;
        };
        Some((frame, flags))
    }

    /// Moves on to the next piece when the current one is read; a piece is let go as soon as possible.
    #[inline(always)]
    fn settle(&mut self) {
        while self.current.is_empty() {
            match self.rest.pop_front() {
                Some(piece) => self.current = piece,
                None => {
                    self.current = Bytes::new();
                    return;
                }
            }
        }
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
