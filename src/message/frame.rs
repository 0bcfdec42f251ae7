//! One frame of a message: a short body lies inside the value, a longer one is shared by reference count.

use super::storage::Storage;
use bytes::Bytes;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;

pub(crate) use super::storage::INLINE;

/// A received body up to this size is copied, so that keeping it does not keep the read buffer it came in. The largest
/// for which a copy costs a receiver no more than sharing: at 512 octets it takes 2 to 8 % more of its processor.
pub(crate) const COPIED: usize = 256;

/// One frame: a run of bytes, cheap to clone whatever its size.
#[derive(Clone)]
#[repr(transparent)]
pub struct Frame(Storage);

impl Frame {
    /// An empty frame.
    pub const fn empty() -> Frame {
        Frame(Storage::empty())
    }

    /// A frame with a copy of `bytes`; up to 64 octets without allocating.
    pub fn copy_from(bytes: &[u8]) -> Frame {
        Frame(Storage::inline(bytes).unwrap_or_else(|| Storage::shared(Bytes::copy_from_slice(bytes))))
    }

    /// The body.
    #[inline(always)]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The body as text.
    ///
    /// # Errors
    /// It is not valid UTF-8.
    pub fn to_str(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(self)
    }

    /// The body as shared [`Bytes`]: without a copy unless it is short.
    pub fn into_bytes(self) -> Bytes {
        self.0.into_bytes()
    }

    /// The frame with memory of its own for exactly its body, which is copied if it was shared: for frames that are
    /// kept, as said under [`Message::detach`](crate::Message::detach).
    #[must_use = "the frame it was called on is gone"]
    pub fn detach(mut self) -> Frame {
        self.detach_in_place();
        self
    }

    pub(super) fn detach_in_place(&mut self) {
        if self.0.is_shared() {
            *self = Frame::copy_from(self);
        }
    }

    /// A frame whose body is the first `len` octets of `window`: one copy of a fixed size.
    #[inline(always)]
    pub(crate) fn short(window: &[u8; INLINE], len: u8) -> Frame {
        Frame(Storage::short(window, len))
    }

    /// A frame with a copy of a body that does not fit into the value.
    #[inline(always)]
    pub(crate) fn copied(body: &[u8]) -> Frame {
        Frame(Storage::shared(Bytes::copy_from_slice(body)))
    }

    /// A frame that shares its body whatever its length.
    #[inline(always)]
    pub(crate) fn shared(body: Bytes) -> Frame {
        Frame(Storage::shared(body))
    }

    /// A frame whose body is `len` octets of `chunk` from `start` on: a copy up to `copied` octets, else shared.
    pub(crate) fn part_of(chunk: &Bytes, start: usize, len: usize, copied: usize) -> Frame {
        match chunk.get(start..).and_then(|rest| rest.get(..len)) {
            Some(body) if len <= copied => Frame::copy_from(body),
            Some(body) => Frame::shared(chunk.slice_ref(body)),
            None => Frame::empty(),
        }
    }

    /// Not a frame but several: only inside a message.
    pub(super) fn several(frames: VecDeque<Frame>) -> Frame {
        Frame(Storage::several(frames))
    }

    /// Whether its body lies in memory that others may share.
    pub(super) fn is_shared(&self) -> bool {
        self.0.is_shared()
    }

    #[inline(always)]
    pub(super) fn is_several(&self) -> bool {
        self.0.is_several()
    }

    pub(super) fn as_several(&self) -> Option<&VecDeque<Frame>> {
        self.0.as_several()
    }

    pub(super) fn as_several_mut(&mut self) -> Option<&mut VecDeque<Frame>> {
        self.0.as_several_mut()
    }
}

impl Deref for Frame {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        let shown = self.get(..SHOWN).unwrap_or(self);
        write!(f, "b\"{}\"", shown.escape_ascii())?;
        if shown.len() < self.len() {
            write!(f, "… ({} bytes)", self.len())?;
        }
        Ok(())
    }
}

/// The body as text, if it is text; other octets are escaped as in `\x00`.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Text(self), f)
    }
}

/// Shows octets as text, and those that are none escaped.
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(text) = std::str::from_utf8(self.0) {
            return f.pad(text);
        }
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Frame) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Frame {}

impl PartialEq<[u8]> for Frame {
    fn eq(&self, other: &[u8]) -> bool {
        self.as_bytes() == other
    }
}

impl PartialEq<&[u8]> for Frame {
    fn eq(&self, other: &&[u8]) -> bool {
        self.as_bytes() == *other
    }
}

impl<const N: usize> PartialEq<[u8; N]> for Frame {
    fn eq(&self, other: &[u8; N]) -> bool {
        self.as_bytes() == other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Frame {
    fn eq(&self, other: &&[u8; N]) -> bool {
        self.as_bytes() == *other
    }
}

impl PartialEq<Vec<u8>> for Frame {
    fn eq(&self, other: &Vec<u8>) -> bool {
        self.as_bytes() == other
    }
}

impl PartialEq<Bytes> for Frame {
    fn eq(&self, other: &Bytes) -> bool {
        self.as_bytes() == other
    }
}

impl PartialEq<String> for Frame {
    fn eq(&self, other: &String) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<str> for Frame {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Frame {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

equal_from_the_left!(Frame);

/// As the elements of a slice of texts are.
impl From<&&str> for Frame {
    fn from(text: &&str) -> Frame {
        Frame::from(*text)
    }
}

impl From<&&[u8]> for Frame {
    fn from(octets: &&[u8]) -> Frame {
        Frame::from(*octets)
    }
}

impl From<&Frame> for Frame {
    fn from(frame: &Frame) -> Frame {
        frame.clone()
    }
}

impl From<&Bytes> for Frame {
    fn from(bytes: &Bytes) -> Frame {
        Frame::from(bytes.clone())
    }
}

impl From<Cow<'_, str>> for Frame {
    fn from(text: Cow<'_, str>) -> Frame {
        Frame::copy_from(text.as_bytes())
    }
}

impl From<Cow<'_, [u8]>> for Frame {
    fn from(bytes: Cow<'_, [u8]>) -> Frame {
        Frame::copy_from(&bytes)
    }
}

impl From<&Vec<u8>> for Frame {
    fn from(bytes: &Vec<u8>) -> Frame {
        Frame::copy_from(bytes)
    }
}

impl From<&String> for Frame {
    fn from(text: &String) -> Frame {
        Frame::copy_from(text.as_bytes())
    }
}

impl From<Bytes> for Frame {
    fn from(bytes: Bytes) -> Frame {
        Frame(Storage::inline(&bytes).unwrap_or_else(|| Storage::shared(bytes)))
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Frame {
        Frame(Storage::inline(&bytes).unwrap_or_else(|| Storage::shared(Bytes::from(bytes))))
    }
}

impl From<String> for Frame {
    fn from(text: String) -> Frame {
        Frame::from(text.into_bytes())
    }
}

impl From<&[u8]> for Frame {
    fn from(bytes: &[u8]) -> Frame {
        Frame::copy_from(bytes)
    }
}

impl From<&str> for Frame {
    fn from(text: &str) -> Frame {
        Frame::copy_from(text.as_bytes())
    }
}

impl<const N: usize> From<[u8; N]> for Frame {
    fn from(bytes: [u8; N]) -> Frame {
        Frame::copy_from(&bytes)
    }
}

impl<const N: usize> From<&[u8; N]> for Frame {
    fn from(bytes: &[u8; N]) -> Frame {
        Frame::copy_from(bytes)
    }
}
