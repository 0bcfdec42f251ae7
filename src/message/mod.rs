//! A message: one or more frames that travel whole or not at all (RFC 23).

/// Lets octets and text on the left be compared with this, as in `assert_eq!("expected", received)`.
macro_rules! equal_from_the_left {
    ($type:ty: $(($($generics:tt)*) $other:ty),* $(,)?) => {$(
        impl $($generics)* PartialEq<$type> for $other {
            fn eq(&self, other: &$type) -> bool {
                other == self
            }
        }
    )*};
    ($type:ty) => {
        equal_from_the_left! {
            $type:
            () [u8],
            () &[u8],
            (<const N: usize>) [u8; N],
            (<const N: usize>) &[u8; N],
            () Vec<u8>,
            () Bytes,
            () String,
            () str,
            () &str,
        }
    };
}

pub(crate) mod convert;
pub(crate) mod frame;
mod shape;
pub(crate) mod size;
mod storage;
pub(crate) mod wire;

pub use convert::{IntoFrame, IntoMessage};
pub use frame::Frame;
pub use shape::{FrameCountError, MessageError};

use crate::peer::PeerId;
use bytes::Bytes;
use size::Size;
use std::collections::VecDeque;
use std::fmt;

/// One or more frames, delivered whole or not at all.
///
/// A short body (up to 64 octets) lies inside the value; a longer one is shared by reference count, so a clone never
/// copies it. A message always has at least one frame, which may be empty.
///
/// A frame of more than 256 octets that was received shares the memory of what arrived with it, up to 256 KiB. All that
/// messages share in this way together is bounded by an eighth of the context's
/// [`byte_budget`](crate::ContextBuilder::byte_budget); whoever keeps a few messages of many and wants less than that
/// [`detach`](Message::detach)es them.
///
/// # Examples
/// ```
/// use wiremesh::Message;
///
/// let hello = Message::from("hello");
/// assert_eq!(hello, "hello");
///
/// let mut envelope: Message = ["topic", "body"].into_iter().collect();
/// envelope.push_front("first");
/// assert_eq!(envelope.frame_count(), 3);
/// assert_eq!(envelope[2], "body");
/// assert_eq!(envelope.pop_front().unwrap(), "first");
/// let [topic, body] = envelope.as_array()?;
/// assert_eq!((topic.to_str()?, body.to_str()?), ("topic", "body"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("zmq_msg_t", "zmq_msg_init", "zmq_msg_init_size", "zmq_msg_init_data", "zmq_msg_init_buffer"))]
#[doc(alias("zmq_msg_close", "zmq_msg_copy", "zmq_msg_move"))]
#[derive(Clone)]
#[repr(C)]
pub struct Message {
    /// The only frame, or several, but never none.
    frames: Frame,
    peer: Option<PeerId>,
}

impl Message {
    /// A message of one empty frame.
    pub const fn new() -> Message {
        Message { frames: Frame::empty(), peer: None }
    }

    /// A message of one frame.
    pub fn single(frame: impl Into<Frame>) -> Message {
        Message { frames: frame.into(), peer: None }
    }

    /// Appends a frame.
    #[doc(alias = "ZMQ_SNDMORE")]
    pub fn push_back(&mut self, frame: impl Into<Frame>) {
        self.many().push_back(frame.into());
    }

    /// Puts a frame before all others, as an envelope does.
    pub fn push_front(&mut self, frame: impl Into<Frame>) {
        self.many().push_front(frame.into());
    }

    /// Takes the first frame off; `None` when it is the only one, since a message has at least one.
    pub fn pop_front(&mut self) -> Option<Frame> {
        self.pop(VecDeque::pop_front)
    }

    /// Takes the last frame off; `None` when it is the only one, since a message has at least one.
    pub fn pop_back(&mut self) -> Option<Frame> {
        self.pop(VecDeque::pop_back)
    }

    /// How many frames there are: at least 1.
    #[doc(alias("ZMQ_RCVMORE", "ZMQ_MORE", "zmq_msg_more", "zmq_msg_get"))]
    pub fn frame_count(&self) -> usize {
        self.len()
    }

    /// The same as [`frame_count`](Message::frame_count); octets are counted by [`byte_len`](Message::byte_len).
    #[expect(clippy::len_without_is_empty, reason = "a message has at least one frame")]
    pub fn len(&self) -> usize {
        self.frames.as_several().map_or(1, VecDeque::len)
    }

    /// How many octets all bodies have together.
    #[doc(alias = "zmq_msg_size")]
    pub fn byte_len(&self) -> usize {
        self.iter().map(<[u8]>::len).sum()
    }

    #[inline]
    pub(crate) fn size(&self) -> Size {
        match self.frames.as_several() {
            None => Size::of_frame(self.frames.len()),
            Some(frames) => Size { octets: frames.iter().map(|frame| frame.len()).sum(), frames: frames.len() },
        }
    }

    /// The body of the first frame, whether there are others or not.
    #[doc(alias = "zmq_msg_data")]
    #[inline(always)]
    pub fn first(&self) -> &[u8] {
        match self.frames.is_several() {
            false => self.frames.as_bytes(),
            true => self.frames().next().map_or(&[], Frame::as_bytes),
        }
    }

    /// The body of frame `index`, counted from 0; [indexing](#impl-Index%3Cusize%3E-for-Message) does the same and
    /// panics where there is none.
    pub fn frame(&self, index: usize) -> Option<&[u8]> {
        self.frames().nth(index).map(Frame::as_bytes)
    }

    /// The bodies in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.frames().map(Frame::as_bytes)
    }

    /// The frames in order.
    pub fn frames(&self) -> impl DoubleEndedIterator<Item = &Frame> {
        let several = self.frames.as_several();
        let (one, many) = (several.is_none().then_some(&self.frames), several.map(VecDeque::iter));
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// Takes the message apart.
    pub fn into_frames(mut self) -> impl DoubleEndedIterator<Item = Frame> {
        let several = self.frames.as_several_mut().map(std::mem::take);
        let (one, many) = (several.is_none().then_some(self.frames), several.map(VecDeque::into_iter));
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// The bodies that lie in memory which others may share, as those do that have an owner of the application's own.
    pub(crate) fn into_shared(self) -> impl Iterator<Item = Bytes> {
        self.into_frames().filter(Frame::is_shared).map(Frame::into_bytes)
    }

    /// The message with memory of its own for exactly its bodies: those that are shared are copied. For messages that
    /// are kept for long while others that came with them are not. A received frame of more than 256 octets shares the
    /// memory of up to 256 KiB that were read at once, which is free only when all messages in it are dropped.
    ///
    /// Without it nothing grows without bound: once messages share an eighth of the context's
    /// [`byte_budget`](crate::ContextBuilder::byte_budget), sockets copy what they receive until some of it is free.
    /// But until then a message of 300 octets may hold the memory of a thousand.
    ///
    /// # Examples
    /// ```
    /// use wiremesh::{Context, Message, Pull, Push};
    ///
    /// let context = Context::new();
    /// let (pull, push) = (Pull::in_context(&context), Push::in_context(&context));
    /// push.connect(pull.bind("tcp://127.0.0.1:*")?)?;
    /// for number in 0..100 {
    ///     push.send(vec![number; 1000])?;
    /// }
    /// // The last of each ten is kept.
    /// let mut kept: Vec<Message> = Vec::new();
    /// for number in 0..100 {
    ///     let message = pull.recv()?;
    ///     if number % 10 == 9 {
    ///         kept.push(message.detach());
    ///     }
    /// }
    /// assert_eq!(kept[9], vec![99; 1000]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the message it was called on is gone"]
    pub fn detach(mut self) -> Message {
        match self.frames.as_several_mut() {
            Some(frames) => frames.iter_mut().for_each(Frame::detach_in_place),
            None => self.frames.detach_in_place(),
        }
        self
    }

    /// Who sent this message: set on received messages. The socket's
    /// [`peer`](crate::Socket::peer) tells address, routing id and properties.
    #[doc(alias = "zmq_msg_gets")]
    pub fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    #[inline(always)]
    pub(crate) fn from_frame(frame: Frame, peer: Option<PeerId>) -> Message {
        Message { frames: frame, peer }
    }

    pub(crate) fn from_frames(frames: VecDeque<Frame>, peer: Option<PeerId>) -> Message {
        let mut message = match frames.len() {
            0 => Message::new(),
            _ => Message { frames: Frame::several(frames), peer },
        };
        message.settle();
        message
    }

    /// The only frame, if there is one only.
    #[inline(always)]
    pub(crate) fn only(&self) -> Option<&Frame> {
        (!self.frames.is_several()).then_some(&self.frames)
    }

    pub(crate) fn set_peer(&mut self, peer: Option<PeerId>) {
        self.peer = peer;
    }

    fn many(&mut self) -> &mut VecDeque<Frame> {
        if !self.frames.is_several() {
            let frame = std::mem::replace(&mut self.frames, Frame::empty());
            self.frames = Frame::several(VecDeque::from([frame]));
        }
        self.frames.as_several_mut().expect("made several just above")
    }

    fn pop(&mut self, take: impl FnOnce(&mut VecDeque<Frame>) -> Option<Frame>) -> Option<Frame> {
        let frame = self.frames.as_several_mut().filter(|frames| frames.len() > 1).and_then(take);
        self.settle();
        frame
    }

    /// A message of one frame is kept in the small form.
    fn settle(&mut self) {
        let only = self.frames.as_several_mut().filter(|frames| frames.len() == 1).and_then(VecDeque::pop_front);
        if let Some(frame) = only {
            self.frames = frame;
        }
    }
}

impl Default for Message {
    fn default() -> Message {
        Message::new()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.frames()).finish()
    }
}

/// Two messages are equal when their frames are; who sent them does not matter.
impl PartialEq for Message {
    fn eq(&self, other: &Message) -> bool {
        self.frames().eq(other.frames())
    }
}

impl Eq for Message {}

impl PartialEq<[u8]> for Message {
    fn eq(&self, other: &[u8]) -> bool {
        self.only().is_some_and(|frame| frame == other)
    }
}

impl PartialEq<&[u8]> for Message {
    fn eq(&self, other: &&[u8]) -> bool {
        *self == **other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Message {
    fn eq(&self, other: &&[u8; N]) -> bool {
        *self == other[..]
    }
}

impl<const N: usize> PartialEq<[u8; N]> for Message {
    fn eq(&self, other: &[u8; N]) -> bool {
        *self == other[..]
    }
}

impl PartialEq<Vec<u8>> for Message {
    fn eq(&self, other: &Vec<u8>) -> bool {
        *self == other[..]
    }
}

impl PartialEq<Bytes> for Message {
    fn eq(&self, other: &Bytes) -> bool {
        *self == other[..]
    }
}

impl PartialEq<String> for Message {
    fn eq(&self, other: &String) -> bool {
        *self == *other.as_bytes()
    }
}

impl PartialEq<str> for Message {
    fn eq(&self, other: &str) -> bool {
        *self == *other.as_bytes()
    }
}

impl PartialEq<&str> for Message {
    fn eq(&self, other: &&str) -> bool {
        *self == *other.as_bytes()
    }
}

equal_from_the_left!(Message);

/// As several frames. An array of octets is one frame.
impl<T, const N: usize> PartialEq<[T; N]> for Message
where
    Frame: PartialEq<T>,
{
    fn eq(&self, other: &[T; N]) -> bool {
        self.frame_count() == N && self.frames().zip(other).all(|(frame, other)| frame == other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_small_as_the_receive_path_needs() {
        assert_eq!(size_of::<Message>(), 80);
    }

    #[test]
    fn a_message_never_runs_out_of_frames() {
        let mut message = Message::from("only");
        assert!(message.pop_front().is_none());
        assert!(message.pop_back().is_none());
        message.push_back("second");
        assert_eq!(message.pop_front().expect("two frames"), "only");
        assert_eq!(message, "second");
    }

    #[test]
    fn long_bodies_are_shared_and_short_ones_lie_inside() {
        let long = Bytes::from(vec![7; INLINE_LIMIT + 1]);
        let message = Message::from(long.clone());
        assert_eq!(message.first().as_ptr(), long.as_ptr());
        let short = Bytes::from(vec![7; INLINE_LIMIT]);
        assert_ne!(Message::from(short.clone()).first().as_ptr(), short.as_ptr());
    }

    #[test]
    fn equality_looks_at_every_frame() {
        let two: Message = ["a", "b"].into_iter().collect();
        assert_ne!(two, "a");
        assert_eq!(two.clone(), two);
        assert_eq!(format!("{two:?}"), r#"[b"a", b"b"]"#);
    }

    /// The peer says how many frames there are.
    #[test]
    fn frames_of_a_long_message_are_found_by_their_number_without_a_walk() {
        const FRAMES: usize = 100_000;
        let message: Message = (0..FRAMES).map(|number| number.to_le_bytes()).collect();
        let begin = std::time::Instant::now();
        for number in 0..FRAMES {
            assert_eq!(message.frame(number), Some(&number.to_le_bytes()[..]));
            assert!(message.as_array::<2>().is_err());
            assert!(begin.elapsed().as_secs() < 5, "at frame {number}");
        }
        assert_eq!(message.frame(FRAMES), None);
    }

    #[test]
    fn a_detached_message_shares_nothing_and_says_who_sent_it() {
        let chunk = Bytes::from(vec![7; 100_000]);
        let mut message: Message = [chunk.slice(..1000), chunk.slice(..80), chunk.slice(..8)].into_iter().collect();
        let peer = Some(PeerId::new(crate::slab::Key { index: 1, generation: 2 }));
        message.set_peer(peer);
        assert!(!chunk.is_unique());
        let single = Message::from(chunk.slice(1000..2000)).detach();
        let message = message.detach();
        assert!(chunk.is_unique());
        assert_eq!(message.iter().map(<[u8]>::len).collect::<Vec<_>>(), [1000, 80, 8]);
        assert_eq!((single.first(), message.peer()), (&[7; 1000][..], peer));
    }

    const INLINE_LIMIT: usize = frame::INLINE;
}
