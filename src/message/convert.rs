//! What can be sent as a message. The trait is sealed: it exists so that a send of a plain byte slice is encoded straight
//! into the queue, without a message in between, while an error still hands the message back.

use super::{Frame, Message};
use bytes::Bytes;

/// Whatever a socket can send: a [`Message`], or a single frame given as `&str`, `String`, `&[u8]`, `Vec<u8>`, [`Bytes`]
/// or an array of
/// octets; or several frames given as an array of texts, slices or [`Frame`]s, or collected with [`Message::from_iter`].
pub trait IntoMessage: sealed::Sealed + Sized {
    /// The message that is sent.
    fn into_message(self) -> Message;

    /// The body, when the message has one frame.
    #[doc(hidden)]
    fn only_body(&self) -> Option<&[u8]>;

    /// Whether a longer body is copied in any case, because it belongs to somebody else.
    #[doc(hidden)]
    const BORROWED: bool = false;
}

mod sealed {
    pub trait Sealed {}
}

impl sealed::Sealed for Message {}

impl IntoMessage for Message {
    fn into_message(self) -> Message {
        self
    }

    #[inline(always)]
    fn only_body(&self) -> Option<&[u8]> {
        self.only().map(Frame::as_bytes)
    }
}

macro_rules! single_frame {
    ($(($($generics:tt)*) $type:ty $(, borrowed: $borrowed:literal)?);* $(;)?) => {$(
        impl $($generics)* sealed::Sealed for $type {}

        impl $($generics)* IntoMessage for $type {
            $(const BORROWED: bool = $borrowed;)?

            fn into_message(self) -> Message {
                Message::single(self)
            }

            #[inline(always)]
            fn only_body(&self) -> Option<&[u8]> {
                Some(self.as_ref())
            }
        }

        impl $($generics)* From<$type> for Message {
            fn from(body: $type) -> Message {
                Message::single(body)
            }
        }
    )*};
}

single_frame! {
    () Frame;
    () &Frame;
    () &[u8], borrowed: true;
    () &Vec<u8>, borrowed: true;
    () &str, borrowed: true;
    () &String, borrowed: true;
    () String;
    () Vec<u8>;
    () Bytes;
    (<const N: usize>) [u8; N], borrowed: true;
    (<const N: usize>) &[u8; N], borrowed: true;
}

impl sealed::Sealed for &Message {}

/// A clone of the message, which copies no long body.
impl IntoMessage for &Message {
    fn into_message(self) -> Message {
        self.clone()
    }

    #[inline(always)]
    fn only_body(&self) -> Option<&[u8]> {
        self.only().map(Frame::as_bytes)
    }
}

macro_rules! several_frames {
    ($(($($generics:tt)*) $type:ty),* $(,)?) => {$(
        impl $($generics)* sealed::Sealed for $type {}

        /// One frame for each element.
        impl $($generics)* IntoMessage for $type {
            fn into_message(self) -> Message {
                self.into_iter().collect()
            }

            fn only_body(&self) -> Option<&[u8]> {
                None
            }
        }

        impl $($generics)* From<$type> for Message {
            fn from(frames: $type) -> Message {
                frames.into_iter().collect()
            }
        }
    )*};
}

several_frames! {
    (<const N: usize>) [&str; N],
    (<const N: usize>) [&[u8]; N],
    (<const N: usize>) [String; N],
    (<const N: usize>) [Frame; N],
    () Vec<Frame>,
}

/// Collects frames into a message; no frames make one empty frame.
impl<F: Into<Frame>> FromIterator<F> for Message {
    fn from_iter<I: IntoIterator<Item = F>>(frames: I) -> Message {
        Message::from_frames(frames.into_iter().map(Into::into).collect(), None)
    }
}
