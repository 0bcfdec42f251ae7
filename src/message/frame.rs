//! One frame of a message: a short body lies inside the value, a longer one is shared by reference count.

use bytes::Bytes;
use std::fmt;
use std::ops::Deref;

/// The largest body kept inside the value itself. With it a [`Message`](super::Message) has 80 octets, and the body
/// sizes that small-message systems use (8, 32, 64) need no allocation on either side.
pub(crate) const INLINE: usize = 70;

/// One frame: a run of bytes, cheap to clone whatever its size.
#[derive(Clone)]
pub struct Frame(Body);

#[derive(Clone)]
enum Body {
    Inline { len: u8, data: [u8; INLINE] },
    Shared(Bytes),
}

impl Frame {
    /// An empty frame.
    pub const fn empty() -> Frame {
        Frame(Body::Inline { len: 0, data: [0; INLINE] })
    }

    /// A frame with a copy of `bytes`; up to 70 octets without allocating.
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
            Body::Inline { len, data } => &data[..usize::from(*len).min(INLINE)],
            Body::Shared(bytes) => bytes,
        }
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
        Some(Frame(Body::Inline { len, data }))
    }

    /// The frame whose body is the first `len` octets of `chunk`, which stays as it is. Short bodies are copied with one
    /// copy of a fixed size where the chunk is long enough: that is what a receive of a small message costs.
    #[inline(always)]
    pub(crate) fn from_front(chunk: &Bytes, len: usize) -> Frame {
        if len <= INLINE {
            if let Some(window) = chunk.first_chunk::<INLINE>() {
                return Frame(Body::Inline { len: len as u8, data: *window });
            }
        }
        Frame::from_front_slow(chunk, len)
    }

    fn from_front_slow(chunk: &Bytes, len: usize) -> Frame {
        let body = chunk.slice(..len.min(chunk.len()));
        Frame::inline(&body).unwrap_or(Frame(Body::Shared(body)))
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
