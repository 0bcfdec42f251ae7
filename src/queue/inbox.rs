//! What came from one peer and waits for the application: checked wire form, sliced into messages by whoever receives.
//!
//! A message shares the piece it is sliced from, and may be kept for as long as the application likes. So each piece is
//! counted as [`Pinned`] from its first message on until its last is gone, or, where there is too much of that already,
//! all its messages are copied. Both are decided once for a piece. Not counted are short pieces and those that inproc
//! senders fill again, until the application is seen to keep a message of one.

use super::{PIECE, READ_BUFFER, SHARED_READ, push_sparing};
use crate::budget::{Account, Pinned};
use crate::message::Message;
use crate::message::frame::{COPIED, Frame, INLINE};
use crate::message::wire::{Header, MORE};
use crate::peer::PeerId;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// The received messages of one peer.
pub(crate) struct Inbox {
    /// The piece being read, and how much of it is read.
    current: Bytes,
    at: usize,
    /// Bodies in it up to this size are copied, longer ones share it.
    copied: usize,
    /// Whether it is counted as pinned.
    is_counted: bool,
    rest: VecDeque<Bytes>,
    /// Where what messages pin is counted; none where they are counted by whoever makes them wait, or are not kept.
    account: Option<Arc<Account>>,
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

/// A piece that is counted.
struct Counted {
    octets: Bytes,
    /// Given back with it.
    _pinned: Pinned,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

/// Its messages share what they came in, up to [`COPIED`] octets excepted, and nobody counts that.
impl Default for Inbox {
    fn default() -> Inbox {
        Inbox {
            current: Bytes::new(),
            at: 0,
            copied: COPIED,
            is_counted: false,
            rest: VecDeque::new(),
            account: None,
            spent: Bytes::new(),
            recycles: false,
            taken: 0,
            taken_bytes: 0,
        }
    }
}

impl Inbox {
    /// What its messages pin is counted there.
    pub(crate) fn counted(account: &Arc<Account>) -> Inbox {
        Inbox { account: Some(Arc::clone(account)), ..Inbox::default() }
    }

    /// Its messages share nothing but large bodies, which lie in memory of their own.
    pub(crate) fn copying() -> Inbox {
        Inbox { copied: usize::MAX, ..Inbox::default() }
    }

    /// Appends wire form in which every message is whole by the time the next one is asked for.
    pub(crate) fn push(&mut self, piece: Bytes) {
        push_sparing(&mut self.rest, piece);
    }

    /// What is unread, piece by piece.
    pub(crate) fn into_pieces(self) -> impl Iterator<Item = Bytes> {
        [self.current].into_iter().chain(self.rest)
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
            _ if len <= self.copied => Some(Quick::Middling(self.current.get(start..start + len)?)),
            _ => Some(Quick::Long(self.current.slice(start..start + len))),
        }
    }

    /// The next message if it is one short frame, with enough behind it for a copy of fixed size. What is returned is
    /// the start of its body and its length.
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
        let message = if flags & MORE == 0 {
            Message::from_frame(frame, peer)
        } else {
            let mut frames = VecDeque::from([frame]);
            while let Some((frame, flags)) = self.frame() {
                frames.push_back(frame);
                if flags & MORE == 0 {
                    break;
                }
            }
            Message::from_frames(frames, peer)
        };
        if self.is_counted && self.at == self.current.len() {
            // From here on its messages alone keep it.
            self.leave();
        }
        Some(message)
    }

    fn frame(&mut self) -> Option<(Frame, u8)> {
        while self.at == self.current.len() {
            self.note_keeping();
            self.advance()?;
            self.share_or_copy();
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
        Some((Frame::part_of(&self.current, start, body, self.copied), flags))
    }

    /// Moves on to the next piece.
    fn advance(&mut self) -> Option<()> {
        self.leave();
        self.current = self.rest.pop_front()?;
        Some(())
    }

    /// Lets go of the piece that is read.
    fn leave(&mut self) {
        self.at = 0;
        let read = std::mem::take(&mut self.current);
        if !std::mem::take(&mut self.is_counted) && self.recycles && read.len() >= PIECE / 8 {
            self.spent = read;
        }
    }

    /// Looks whether the application still has a message of the piece that is read, if that is not counted. From the
    /// first time on all are.
    pub(crate) fn note_keeping(&self) {
        let Some(account) = &self.account else { return };
        let could_pin = self.current.len() >= WORTH_COUNTING && !self.is_counted && self.copied == COPIED;
        if could_pin && !self.current.is_unique() {
            account.note_keeping();
        }
    }

    /// Decides for all frames of the piece that is about to be read whether they share it.
    fn share_or_copy(&mut self) {
        let Some(account) = &self.account else { return };
        self.copied = COPIED;
        let size = self.current.len();
        // A read buffer is shared by what several reads brought, which pin the whole of it each.
        let pins = if size >= SHARED_READ && !self.recycles {
            READ_BUFFER.max(size)
        } else if !account.keeps() || size < WORTH_COUNTING {
            return;
        } else if self.recycles {
            PIECE.max(size)
        } else if Header::read(&self.current).is_some_and(|header| header.size as u64 + header.body >= size as u64) {
            // The only message pins nothing but itself.
            return;
        } else {
            size
        };
        let counted = if size >= CHEAPLY_COPIED { Pinned::new(account, pins) } else { None };
        let Some(pinned) = counted else {
            self.copied = usize::MAX;
            return;
        };
        let octets = std::mem::take(&mut self.current);
        self.current = Bytes::from_owner(Counted { octets, _pinned: pinned });
        self.is_counted = true;
    }

    /// The buffer of the piece just read, if nobody else holds a part of it.
    pub(crate) fn spent(&mut self) -> Option<Vec<u8>> {
        let spent = std::mem::take(&mut self.spent);
        (!spent.is_empty() && spent.is_unique()).then(|| Vec::from(spent))
    }
}

/// Messages of shorter pieces pin little.
const WORTH_COUNTING: usize = 1024;
/// To copy all messages of a shorter piece costs no more than to count it.
const CHEAPLY_COPIED: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Budget, BudgetHalf};
    use crate::slab::Key;

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

    /// What of a budget with halves of `half` octets is in use after it was done with an inbox.
    fn within(half: usize, act: impl FnOnce(&mut Inbox, &dyn Fn() -> usize)) {
        let budget = Budget::new(Some(2 * half as u64));
        let account = Account::new(&budget, BudgetHalf::Receiving);
        act(&mut Inbox::counted(&account), &|| budget.used(BudgetHalf::Receiving) as usize);
        assert_eq!(budget.used(BudgetHalf::Receiving), 0);
    }

    /// A piece of so many messages of 1000 octets.
    fn piece(messages: usize) -> Bytes {
        [&b"\x02\0\0\0\0\0\0\x03\xe8"[..], &[7; 1000]].concat().repeat(messages).into()
    }

    fn read(inbox: &mut Inbox, messages: usize) -> Vec<Message> {
        (0..messages)
            .map(|_| {
                inbox
                    .next_quick()
                    .map(|quick| quick.into_message(peer()))
                    .or_else(|| inbox.next(None))
                    .expect("a message")
            })
            .collect()
    }

    fn peer() -> PeerId {
        PeerId::new(Key { index: 0, generation: 0 })
    }

    #[test]
    fn a_read_buffer_is_counted_from_its_first_message_until_the_last_of_them_is_gone() {
        within(4 * READ_BUFFER, |inbox, used| {
            inbox.push(piece(100));
            assert_eq!(used(), 0);
            let mut messages = read(inbox, 100);
            assert_eq!(used(), READ_BUFFER);
            let last = messages.pop();
            drop(messages);
            assert_eq!(used(), READ_BUFFER, "one pins it all");
            drop(last);
            assert_eq!(used(), 0);
        });
    }

    #[test]
    fn where_too_much_is_pinned_messages_are_copied_until_some_of_it_is_free() {
        within(8 * READ_BUFFER, |inbox, used| {
            (0..5).for_each(|_| inbox.push(piece(50)));
            let mut kept: Vec<Vec<Message>> = (0..3).map(|_| read(inbox, 50)).collect();
            assert_eq!(used(), 2 * READ_BUFFER, "there is room for two");
            kept.swap_remove(0);
            assert_eq!(used(), READ_BUFFER);
            kept.push(read(inbox, 50));
            assert_eq!(used(), 2 * READ_BUFFER, "and for another one now");
            assert!(kept.iter().flatten().all(|message| *message == vec![7; 1000]));
        });
    }

    #[test]
    fn a_piece_that_is_read_up_without_a_message_kept_is_counted_no_longer() {
        within(4 * READ_BUFFER, |inbox, used| {
            inbox.push(piece(100));
            drop(read(inbox, 99));
            assert_eq!(used(), READ_BUFFER);
            drop(read(inbox, 1));
            assert_eq!(used(), 0);
        });
    }

    #[test]
    fn short_pieces_are_counted_once_a_message_of_one_was_kept() {
        within(4 * READ_BUFFER, |inbox, used| {
            (0..5).for_each(|_| inbox.push(piece(20)));
            for _ in 0..2 {
                drop(read(inbox, 20));
            }
            let mut kept = read(inbox, 21);
            assert_eq!(used(), piece(20).len());
            kept.extend(read(inbox, 39));
            assert_eq!(used(), 2 * piece(20).len());
            inbox.push(piece(1));
            inbox.push(piece(2));
            kept.extend(read(inbox, 3));
            assert_eq!(used(), 2 * piece(20).len(), "what pins nothing else, or little, is not counted");
        });
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
