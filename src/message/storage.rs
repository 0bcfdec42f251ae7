//! Where the octets of a frame are: up to 64 in the value itself, else shared; or, in a message, several frames.
//!
//! A message is moved a few times between the socket and the caller's variable. An enum with a tag in front is moved
//! octet by octet from behind its tag on, so the processor has to wait for every store before it can load again:
//! measured, over a third of what a small receive costs. Here the octets come first and the tag last, all at whole
//! words.
#![expect(unsafe_code, reason = "the three forms share their room, as in an enum, but with the tag behind")]

use super::Frame;
use bytes::Bytes;
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::num::NonZeroU64;

/// The largest body kept inside the value itself. With it a [`Message`](super::Message) has 80 octets, and the body
/// sizes that small-message systems use (8, 32, 64) need no allocation on either side.
pub(crate) const INLINE: usize = 64;

#[repr(C)]
pub(super) struct Storage {
    room: Room,
    tag: Tag,
}

/// Which field is alive, the tag says.
#[repr(C, align(8))]
union Room {
    octets: [u8; INLINE],
    shared: ManuallyDrop<Bytes>,
    several: ManuallyDrop<VecDeque<Frame>>,
}

/// 1 + the length of a body that lies in the room, or one of the two values below.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Tag(NonZeroU64);

impl Tag {
    const EMPTY: Tag = Tag(NonZeroU64::MIN);
    const SHARED: Tag = Tag(NonZeroU64::MIN.saturating_add(INLINE as u64 + 1));
    const SEVERAL: Tag = Tag(NonZeroU64::MIN.saturating_add(INLINE as u64 + 2));

    #[inline(always)]
    fn of_length(len: u8) -> Tag {
        Tag(NonZeroU64::MIN.saturating_add(u64::from(len).min(INLINE as u64)))
    }

    /// How many octets lie in the room; `None` if something else does.
    #[inline(always)]
    fn length(self) -> Option<usize> {
        let length = (self.0.get() - 1) as usize;
        (length <= INLINE).then_some(length)
    }
}

impl Storage {
    pub(super) const fn empty() -> Storage {
        Storage { room: Room { octets: [0; INLINE] }, tag: Tag::EMPTY }
    }

    /// The first `len` octets of `window`: one copy of a fixed size.
    #[inline(always)]
    pub(super) fn short(window: &[u8; INLINE], len: u8) -> Storage {
        Storage { room: Room { octets: *window }, tag: Tag::of_length(len) }
    }

    /// A copy of `bytes`, if they fit.
    #[inline(always)]
    pub(super) fn inline(bytes: &[u8]) -> Option<Storage> {
        let len = u8::try_from(bytes.len()).ok().filter(|len| usize::from(*len) <= INLINE)?;
        let mut octets = [0; INLINE];
        octets[..bytes.len()].copy_from_slice(bytes);
        Some(Storage { room: Room { octets }, tag: Tag::of_length(len) })
    }

    #[inline(always)]
    pub(super) fn shared(bytes: Bytes) -> Storage {
        Storage { room: Room { shared: ManuallyDrop::new(bytes) }, tag: Tag::SHARED }
    }

    pub(super) fn several(frames: VecDeque<Frame>) -> Storage {
        Storage { room: Room { several: ManuallyDrop::new(frames) }, tag: Tag::SEVERAL }
    }

    /// The body; nothing for several frames.
    #[inline(always)]
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self.tag.length() {
            // SAFETY: the tag says that the octets are alive; every constructor that sets such a tag wrote all 64.
            Some(length) => unsafe { &self.room.octets[..length] },
            // SAFETY: the tag says that the shared bytes are alive.
            None if self.tag == Tag::SHARED => unsafe { &self.room.shared },
            None => &[],
        }
    }

    #[inline(always)]
    pub(super) fn is_several(&self) -> bool {
        self.tag == Tag::SEVERAL
    }

    #[inline(always)]
    pub(super) fn is_shared(&self) -> bool {
        self.tag == Tag::SHARED
    }

    pub(super) fn as_several(&self) -> Option<&VecDeque<Frame>> {
        // SAFETY: the tag says that the frames are alive.
        self.is_several().then(|| unsafe { &*self.room.several })
    }

    pub(super) fn as_several_mut(&mut self) -> Option<&mut VecDeque<Frame>> {
        // SAFETY: the tag says that the frames are alive, and no other field is touched through this reference.
        self.is_several().then(|| unsafe { &mut *self.room.several })
    }

    /// The body, without a copy unless it lies in the room.
    pub(super) fn into_bytes(self) -> Bytes {
        if self.tag != Tag::SHARED {
            return Bytes::copy_from_slice(self.as_bytes());
        }
        let mut this = ManuallyDrop::new(self);
        // SAFETY: the tag says that the shared bytes are alive; `this` is never used or dropped again.
        unsafe { ManuallyDrop::take(&mut this.room.shared) }
    }
}

impl Clone for Storage {
    #[inline]
    fn clone(&self) -> Storage {
        match (self.tag.length(), self.as_several()) {
            // SAFETY: the tag says that the octets are alive.
            (Some(_), _) => Storage { room: Room { octets: unsafe { self.room.octets } }, tag: self.tag },
            (None, Some(frames)) => Storage::several(frames.clone()),
            // SAFETY: with the other two excluded, the tag says that the shared bytes are alive.
            (None, None) => Storage::shared(Bytes::clone(unsafe { &self.room.shared })),
        }
    }
}

impl Drop for Storage {
    #[inline(always)]
    fn drop(&mut self) {
        if self.tag.length().is_none() {
            self.release();
        }
    }
}

impl Storage {
    fn release(&mut self) {
        if self.tag == Tag::SHARED {
            // SAFETY: the tag says that the shared bytes are alive; this is the drop, so nothing uses them afterwards.
            unsafe { ManuallyDrop::drop(&mut self.room.shared) }
        } else if self.tag == Tag::SEVERAL {
            // SAFETY: as above, for the frames.
            unsafe { ManuallyDrop::drop(&mut self.room.several) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_gives_back_what_it_was_given() {
        for length in 0..=INLINE {
            let body: Vec<u8> = (0..length as u8).collect();
            let stored = Storage::inline(&body).expect("it fits");
            assert_eq!(stored.as_bytes(), body);
            assert_eq!(stored.clone().as_bytes(), body);
            assert_eq!(stored.into_bytes(), body);
        }
        assert!(Storage::inline(&[0; INLINE + 1]).is_none());
        assert_eq!(Storage::short(&[7; INLINE], 3).as_bytes(), [7; 3]);
        assert_eq!(Storage::empty().as_bytes(), []);
        let mut several = Storage::several(VecDeque::from([Frame::from("a"), Frame::from(vec![1; 100])]));
        assert_eq!(several.clone().as_several().map(VecDeque::len), Some(2));
        assert_eq!(several.as_several_mut().and_then(VecDeque::pop_front), Some(Frame::from("a")));
        assert_eq!(several.as_bytes(), []);
        assert_eq!(several.into_bytes(), Bytes::new());
    }

    #[test]
    fn shared_bodies_are_let_go_once_and_never_copied() {
        let bytes = Bytes::from(vec![1; 1000]);
        let stored = Storage::shared(bytes.clone());
        assert_eq!(stored.as_bytes().as_ptr(), bytes.as_ptr());
        let copy = stored.clone();
        drop(stored);
        assert!(!bytes.is_unique());
        let back = copy.into_bytes();
        assert_eq!(back.as_ptr(), bytes.as_ptr());
        drop(back);
        assert!(bytes.is_unique());
        drop(Storage::several(VecDeque::from([Frame::from(bytes.clone())])));
        assert!(bytes.is_unique());
    }

    #[test]
    fn the_tag_leaves_room_for_a_result_around_it() {
        assert_eq!(size_of::<Option<Storage>>(), size_of::<Storage>());
    }
}
