//! One frame of a message: a short body lies inside the value, a longer one is shared by reference count.

use bytes::Bytes;
use std::fmt;
use std::ops::Deref;

/// The largest body kept inside the value itself. With it a [`Message`](super::Message) has 80 octets, and the body
/// sizes that small-message systems use (8, 32, 64) need no allocation on either side.
pub(crate) const INLINE: usize = 64;

/// Aligned, so that the copies of a value move whole words that were written as whole words.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Room([u8; INLINE]);

/// One frame: a run of bytes, cheap to clone whatever its size.
#[derive(Clone)]
pub struct Frame(Body);

#[derive(Clone)]
enum Body {
    Inline { len: u8, data: Room },
    Shared(Bytes),
}

impl Frame {
    /// An empty frame.
    pub const fn empty() -> Frame {
        Frame(Body::Inline { len: 0, data: Room([0; INLINE]) })
    }

    /// A frame with a copy of `bytes`; up to 64 octets without allocating.
    pub fn copy_from(bytes: &[u8]) -> Frame {
        match Frame::inline(bytes) {
            Some(frame) => frame,
            None => Frame(Body::Shared(Bytes::copy_from_slice(bytes))),
        }
    }

    /// The body.
    #[inline(always)]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Body::Inline { len, data } => &data.0[..usize::from(*len).min(INLINE)],
            Body::Shared(bytes) => bytes,
        }
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
        match self.0 {
            Body::Inline { .. } => Bytes::copy_from_slice(self.as_bytes()),
            Body::Shared(bytes) => bytes,
        }
    }

    #[inline(always)]
    fn inline(bytes: &[u8]) -> Option<Frame> {
        let len = u8::try_from(bytes.len()).ok().filter(|len| usize::from(*len) <= INLINE)?;
        let mut data = [0; INLINE];
        data[..bytes.len()].copy_from_slice(bytes);
        Some(Frame(Body::Inline { len, data: Room(data) }))
    }

    /// A frame whose body is the first `len` octets of `window`: one copy of a fixed size.
    #[inline(always)]
    pub(crate) fn short(window: &[u8; INLINE], len: u8) -> Frame {
        Frame(Body::Inline { len, data: Room(*window) })
    }

    /// A frame whose body is `len` octets of `chunk` from `start` on: a copy if it is short, else shared.
    pub(crate) fn part_of(chunk: &Bytes, start: usize, len: usize) -> Frame {
        match chunk.get(start..).and_then(|rest| rest.get(..len)) {
            Some(body) => Frame::inline(body).unwrap_or_else(|| Frame(Body::Shared(chunk.slice_ref(body)))),
            None => Frame::empty(),
        }
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

impl From<&Frame> for Frame {
    fn from(frame: &Frame) -> Frame {
        frame.clone()
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
        Frame::inline(&bytes).unwrap_or(Frame(Body::Shared(bytes)))
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Frame {
        Frame::inline(&bytes).unwrap_or_else(|| Frame(Body::Shared(Bytes::from(bytes))))
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
