//! What can be sent as a message. The trait is sealed: it exists so that a send of a plain byte slice is encoded
//! straight into the queue, without a message in between, while an error still hands the message back.

use super::{Frame, Message};
use bytes::Bytes;
use std::borrow::Cow;

/// Whatever a socket can send: a [`Message`]; a single frame, given as text (`&str`, `String`), octets (`&[u8]`,
/// `Vec<u8>`, `[u8; N]`, [`Bytes`]) or a [`Frame`]; or several frames, given as a tuple, an array, a `Vec` or a slice
/// of these. Any iterator of frames can be collected into a message.
///
/// # Examples
/// ```
/// let context = wiremesh::Context::new();
/// let (push, pull) = (wiremesh::Push::in_context(&context), wiremesh::Pull::in_context(&context));
/// pull.bind("inproc://parts")?;
/// push.connect("inproc://parts")?;
/// let reading = 17_u32;
/// push.send(("temperature", reading.to_le_bytes(), vec![1, 2, 3]))?; // frames of different types
/// push.send(["left", "right"])?;
/// push.send(vec![vec![1], vec![2, 3]])?;
/// push.send([1, 2, 3])?; // one frame: an array of octets is octets
/// assert_eq!(pull.recv()?[0], "temperature");
/// assert_eq!(pull.recv()?[1], "right");
/// assert_eq!(pull.recv()?[1], [2, 3]);
/// assert_eq!(pull.recv()?.frame_count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message",
    label = "neither a frame nor several frames",
    note = "one frame: `&str`, `String`, `&[u8]`, `Vec<u8>`, `[u8; N]`, `Bytes` or `Frame`",
    note = "several frames: a tuple of these if they differ, as in `(\"topic\", body)`, an array, a `Vec` or a slice of them if they do not, or a `Message` collected from an iterator",
    note = "a number: `number.to_string()` or `number.to_le_bytes()`; a structure: what your serializer makes of it"
)]
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

pub(crate) mod sealed {
    pub trait Sealed {}

    /// What is a frame.
    pub trait Part {}
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
    () &Bytes;
    () Cow<'_, [u8]>, borrowed: true;
    (<const N: usize>) [u8; N], borrowed: true;
    (<const N: usize>) &[u8; N], borrowed: true;
}

impl sealed::Sealed for Cow<'_, str> {}

impl IntoMessage for Cow<'_, str> {
    const BORROWED: bool = true;

    fn into_message(self) -> Message {
        Message::single(self)
    }

    fn only_body(&self) -> Option<&[u8]> {
        Some(self.as_bytes())
    }
}

impl From<Cow<'_, str>> for Message {
    fn from(text: Cow<'_, str>) -> Message {
        Message::single(text)
    }
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

/// What can be one of several frames.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a frame",
    label = "cannot be one of several frames",
    note = "a frame is `&str`, `String`, `&[u8]`, `Vec<u8>`, `[u8; N]`, `Bytes`, `Frame` or `RoutingId`",
    note = "a `Message` is sent by itself; its `push_front` and `push_back` put frames around it",
    note = "a number: `number.to_string()` or `number.to_le_bytes()`; a structure: what your serializer makes of it"
)]
pub trait IntoFrame: sealed::Part {
    /// The frame.
    fn into_frame(self) -> Frame;
}

macro_rules! frames {
    ($(($($generics:tt)*) $type:ty),* $(,)?) => {$(
        impl $($generics)* sealed::Part for $type {}

        impl $($generics)* IntoFrame for $type {
            fn into_frame(self) -> Frame {
                Frame::from(self)
            }
        }
    )*};
}

frames! {
    () Frame,
    () &Frame,
    () &[u8],
    () &Vec<u8>,
    () &str,
    () &String,
    () String,
    () Vec<u8>,
    () Bytes,
    () &Bytes,
    () Cow<'_, str>,
    () Cow<'_, [u8]>,
    (<const N: usize>) [u8; N],
    (<const N: usize>) &[u8; N],
}

/// What is `&T`, as the elements of a slice of references are.
impl sealed::Part for &&str {}

impl IntoFrame for &&str {
    fn into_frame(self) -> Frame {
        Frame::from(*self)
    }
}

impl sealed::Part for &&[u8] {}

impl IntoFrame for &&[u8] {
    fn into_frame(self) -> Frame {
        Frame::from(*self)
    }
}

macro_rules! several_frames {
    ($([$($generics:tt)*] $type:ty where $element:ty);* $(;)?) => {$(
        impl<$($generics)*> sealed::Sealed for $type where $element: IntoFrame {}

        /// One frame for each element; none make one empty frame.
        impl<$($generics)*> IntoMessage for $type where $element: IntoFrame {
            fn into_message(self) -> Message {
                Message::from(self)
            }

            fn only_body(&self) -> Option<&[u8]> {
                None
            }
        }

        impl<$($generics)*> From<$type> for Message where $element: IntoFrame {
            fn from(frames: $type) -> Message {
                Message::from_frames(frames.into_iter().map(IntoFrame::into_frame).collect(), None)
            }
        }
    )*};
}

several_frames! {
    [T, const N: usize] [T; N] where T;
    [T] Vec<T> where T;
    ['a, T] &'a [T] where &'a T;
    ['a, T] &'a Vec<T> where &'a T;
    ['a, T, const N: usize] &'a [T; N] where &'a T;
}

macro_rules! tuples {
    ($($first:ident $($rest:ident)*;)*) => {$(
        impl<$first: IntoFrame $(, $rest: IntoFrame)*> sealed::Sealed for ($first, $($rest,)*) {}

        /// One frame for each element.
        impl<$first: IntoFrame $(, $rest: IntoFrame)*> IntoMessage for ($first, $($rest,)*) {
            fn into_message(self) -> Message {
                Message::from(self)
            }

            fn only_body(&self) -> Option<&[u8]> {
                None
            }
        }

        impl<$first: IntoFrame $(, $rest: IntoFrame)*> From<($first, $($rest,)*)> for Message {
            fn from(frames: ($first, $($rest,)*)) -> Message {
                #[expect(non_snake_case, reason = "named as their types")]
                let ($first, $($rest,)*) = frames;
                Message::from_frames([$first.into_frame() $(, $rest.into_frame())*].into(), None)
            }
        }
    )*};
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
}

/// Collects frames into a message; no frames make one empty frame.
impl<F: Into<Frame>> FromIterator<F> for Message {
    fn from_iter<I: IntoIterator<Item = F>>(frames: I) -> Message {
        Message::from_frames(frames.into_iter().map(Into::into).collect(), None)
    }
}
