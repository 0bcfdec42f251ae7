//! A message as what it is expected to be: one frame, one text, or so many frames.

use super::{Frame, Message};
use bytes::Bytes;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Index;
use std::str::Utf8Error;

/// Why a message is not what it was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// It has another number of frames.
    #[error("the message has {}, not {wanted}; `frames`, `frame` and indexing take any number", count(*.there))]
    FrameCount {
        /// How many frames it has.
        there: usize,
        /// How many were expected.
        wanted: usize,
    },
    /// It has one frame, which is not valid UTF-8.
    #[error("the message is not text: {0}")]
    NotText(Utf8Error),
}

fn count(frames: usize) -> String {
    format!("{frames} {}", if frames == 1 { "frame" } else { "frames" })
}

/// A message that was to be taken apart and has another number of frames. It is handed back.
#[derive(Debug, thiserror::Error)]
#[error("{}", message.has_not(*wanted))]
#[non_exhaustive]
pub struct FrameCountError {
    /// The message, as it was.
    pub message: Message,
    /// How many frames were expected.
    pub wanted: usize,
}

impl From<Utf8Error> for MessageError {
    fn from(error: Utf8Error) -> MessageError {
        MessageError::NotText(error)
    }
}

impl From<MessageError> for std::io::Error {
    fn from(error: MessageError) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

impl From<FrameCountError> for std::io::Error {
    fn from(error: FrameCountError) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

impl Message {
    /// The body of the message, which has one frame.
    ///
    /// # Errors
    /// [`FrameCount`](MessageError::FrameCount) if it has several: [`first`](Message::first) is the body of the first
    /// all the same.
    pub fn as_bytes(&self) -> Result<&[u8], MessageError> {
        self.only().map(Frame::as_bytes).ok_or_else(|| self.has_not(1))
    }

    /// The body of the message as text, which has one frame.
    ///
    /// # Errors
    /// [`FrameCount`](MessageError::FrameCount) if it has several, [`NotText`](MessageError::NotText) if it is not
    /// valid UTF-8.
    ///
    /// # Examples
    /// ```
    /// use wiremesh::{Message, MessageError};
    ///
    /// assert_eq!(Message::from("hello").to_str()?, "hello");
    /// let two = Message::from(["topic", "body"]);
    /// assert_eq!(two.to_str(), Err(MessageError::FrameCount { there: 2, wanted: 1 }));
    /// assert_eq!(two[1].to_str()?, "body");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_str(&self) -> Result<&str, MessageError> {
        Ok(std::str::from_utf8(self.as_bytes()?)?)
    }

    /// The body of the message, which has one frame, as shared [`Bytes`]: without a copy unless it is short.
    ///
    /// # Errors
    /// [`FrameCountError`] hands the message back if it has several.
    pub fn into_bytes(self) -> Result<Bytes, FrameCountError> {
        let [frame] = self.into_array()?;
        Ok(frame.into_bytes())
    }

    /// Copies the body of the message, which has one frame, into `buffer` and says how long the body is; what does not
    /// fit is left out, which the caller sees by the result exceeding `buffer.len()`. A receive straight into a buffer
    /// is `recv_into`, such as [`Pull::recv_into`](crate::Pull::recv_into), which cuts nothing.
    ///
    /// # Errors
    /// [`FrameCount`](MessageError::FrameCount) if it has several; nothing is copied then.
    pub fn copy_to(&self, buffer: &mut [u8]) -> Result<usize, MessageError> {
        let body = self.as_bytes()?;
        let fits = body.len().min(buffer.len());
        buffer[..fits].copy_from_slice(&body[..fits]);
        Ok(body.len())
    }

    /// The frames, if there are exactly `N`; a pattern on the left says how many are expected.
    ///
    /// # Errors
    /// [`FrameCount`](MessageError::FrameCount) if there are more or fewer.
    ///
    /// # Examples
    /// ```
    /// use wiremesh::Message;
    ///
    /// let message = Message::from(("weather", "sunny"));
    /// let [topic, body] = message.as_array()?;
    /// assert_eq!((topic.to_str()?, body.to_str()?), ("weather", "sunny"));
    /// assert!(message.as_array::<3>().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_array<const N: usize>(&self) -> Result<[&Frame; N], MessageError> {
        // The peer says how many frames there are: those of a message that does not fit are not looked at.
        let frames: Vec<&Frame> = if self.frame_count() == N { self.frames().collect() } else { Vec::new() };
        frames.try_into().map_err(|_| self.has_not(N))
    }

    /// Takes the message apart into exactly `N` frames; a pattern on the left says how many are expected.
    ///
    /// # Errors
    /// [`FrameCountError`] hands the message back if there are more or fewer.
    ///
    /// # Examples
    /// ```
    /// use wiremesh::Message;
    ///
    /// let [topic, body] = Message::from(("weather", "sunny")).into_array()?;
    /// assert_eq!((topic, body), ("weather".into(), "sunny".into()));
    /// let error = Message::from("alone").into_array::<2>().unwrap_err();
    /// assert_eq!(error.message, "alone");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_array<const N: usize>(self) -> Result<[Frame; N], FrameCountError> {
        if self.frame_count() != N {
            return Err(FrameCountError { message: self, wanted: N });
        }
        let frames: Vec<Frame> = self.into_frames().collect();
        frames.try_into().map_err(|frames: Vec<Frame>| FrameCountError { message: frames.into(), wanted: N })
    }

    fn has_not(&self, wanted: usize) -> MessageError {
        MessageError::FrameCount { there: self.frame_count(), wanted }
    }
}

/// The frame with that number, counted from 0.
///
/// # Panics
/// There is none: the sender decides how many there are. [`Message::frame`] returns an `Option`, [`Message::as_array`]
/// a `Result`.
impl Index<usize> for Message {
    type Output = Frame;

    #[track_caller]
    fn index(&self, index: usize) -> &Frame {
        match self.frames().nth(index) {
            Some(frame) => frame,
            None => panic!("there is no frame {index}: the message has {}", count(self.frame_count())),
        }
    }
}

impl<'a> IntoIterator for &'a Message {
    type Item = &'a Frame;
    type IntoIter = Frames<'a>;

    fn into_iter(self) -> Frames<'a> {
        match self.frames.as_several() {
            Some(frames) => Frames { only: None, several: frames.iter() },
            None => Frames { only: Some(&self.frames), several: NONE.iter() },
        }
    }
}

impl IntoIterator for Message {
    type Item = Frame;
    type IntoIter = IntoFrames;

    fn into_iter(mut self) -> IntoFrames {
        match self.frames.as_several_mut().map(std::mem::take) {
            Some(frames) => IntoFrames(frames.into_iter()),
            None => IntoFrames(VecDeque::from([self.frames]).into_iter()),
        }
    }
}

static NONE: VecDeque<Frame> = VecDeque::new();

/// The frames of a message in order.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    only: Option<&'a Frame>,
    several: std::collections::vec_deque::Iter<'a, Frame>,
}

/// The frames of a message in order, by value.
#[derive(Clone, Debug)]
pub struct IntoFrames(std::collections::vec_deque::IntoIter<Frame>);

impl<'a> Iterator for Frames<'a> {
    type Item = &'a Frame;

    fn next(&mut self) -> Option<&'a Frame> {
        self.only.take().or_else(|| self.several.next())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.only.is_some()) + self.several.len();
        (left, Some(left))
    }
}

impl DoubleEndedIterator for Frames<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.several.next_back().or_else(|| self.only.take())
    }
}

impl ExactSizeIterator for Frames<'_> {}

impl Iterator for IntoFrames {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for IntoFrames {
    fn next_back(&mut self) -> Option<Frame> {
        self.0.next_back()
    }
}

impl ExactSizeIterator for IntoFrames {}

impl<const N: usize> TryFrom<Message> for [Frame; N] {
    type Error = FrameCountError;

    fn try_from(message: Message) -> Result<[Frame; N], FrameCountError> {
        message.into_array()
    }
}

/// The text of a message of one frame; [`Message::to_str`] copies nothing.
impl TryFrom<Message> for String {
    type Error = MessageError;

    fn try_from(message: Message) -> Result<String, MessageError> {
        message.to_str().map(str::to_owned)
    }
}

/// The octets of a message of one frame; [`Message::into_bytes`] copies no long body.
impl TryFrom<Message> for Vec<u8> {
    type Error = FrameCountError;

    fn try_from(message: Message) -> Result<Vec<u8>, FrameCountError> {
        message.into_bytes().map(Vec::from)
    }
}

impl<'a, const N: usize> TryFrom<&'a Message> for [&'a Frame; N] {
    type Error = MessageError;

    fn try_from(message: &'a Message) -> Result<[&'a Frame; N], MessageError> {
        message.as_array()
    }
}

/// One frame as itself, several in brackets with commas between them: as text where they are text, other octets escaped
/// as in `\x00`.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(frame) = self.only() {
            return fmt::Display::fmt(frame, f);
        }
        let mut separator = "[";
        for frame in self {
            write!(f, "{separator}{frame}")?;
            separator = ", ";
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_assumes_one_frame_says_so_where_there_are_several() {
        let two = Message::from(["a", "b"]);
        let wrong = MessageError::FrameCount { there: 2, wanted: 1 };
        assert_eq!(two.as_bytes(), Err(wrong));
        assert_eq!(two.to_str(), Err(wrong));
        assert_eq!(two.copy_to(&mut [0; 8]), Err(wrong));
        let error = two.into_bytes().expect_err("two frames");
        assert_eq!((error.to_string(), error.message), (wrong.to_string(), Message::from(["a", "b"])));
        assert!(wrong.to_string().starts_with("the message has 2 frames, not 1;"), "{wrong}");
        let one = Message::from(vec![0xff]);
        assert_eq!(one.as_bytes(), Ok(&[0xff][..]));
        assert!(matches!(one.to_str(), Err(MessageError::NotText(_))));
    }

    #[test]
    fn a_body_that_does_not_fit_the_buffer_tells_its_length() {
        let mut buffer = [0; 3];
        assert_eq!(Message::from("hello").copy_to(&mut buffer), Ok(5));
        assert_eq!(&buffer, b"hel");
    }

    #[test]
    fn frames_are_reached_by_number_by_pattern_and_in_order_from_both_ends() {
        for frames in [&["only"][..], &["a", "b"], &["a", "", "c"]] {
            let message = Message::from(frames);
            assert_eq!((message.frame_count(), message.len()), (frames.len(), frames.len()));
            for (number, frame) in frames.iter().enumerate() {
                assert_eq!(message[number], *frame);
            }
            assert!((&message).into_iter().eq(frames.iter().copied()));
            assert_eq!((&message).into_iter().len(), frames.len());
            assert!((&message).into_iter().rev().eq(frames.iter().rev().copied()));
            assert!(message.clone().into_iter().rev().eq(frames.iter().rev().copied()));
            assert!(message.into_iter().eq(frames.iter().copied()));
        }
        let [a, b] = <[Frame; 2]>::try_from(Message::from(("a", [7]))).expect("two frames");
        assert_eq!((a, b), (Frame::from("a"), Frame::from([7])));
        let message = Message::from("alone");
        let [alone] = <[&Frame; 1]>::try_from(&message).expect("one frame");
        assert_eq!(alone, "alone");
        assert!(<[&Frame; 2]>::try_from(&message).is_err());
    }

    #[test]
    fn a_message_shows_its_text_and_escapes_the_rest() {
        assert_eq!(Message::from("grüße").to_string(), "grüße");
        assert_eq!(Message::new().to_string(), "");
        assert_eq!(Message::from([b'a', 0xff, 0]).to_string(), "a\\xff\0");
        assert_eq!(Message::from(("topic", b"body", [0xff])).to_string(), r"[topic, body, \xff]");
        assert_eq!(format!("<{:>5}>", Frame::from("a")), "<    a>");
    }
}
