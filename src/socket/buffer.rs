//! Receiving into memory of the caller's: a receive as any other, and one copy. What cannot be copied is handed back.

use super::core::{Core, Wait};
use super::routing_id::RoutingId;
use crate::error::RecvError;
use crate::message::Message;
use crate::queue::COPY_LIMIT;
use std::fmt::Debug;
use std::io;

/// Why a receive into a buffer has not filled it.
///
/// A message that cannot be copied is neither cut nor lost: it is handed back as `recv` would have returned it, with
/// the routing id beside it from a [`Router`](crate::Router), and the buffer is as it was. It counts as received: the
/// next call receives the next one.
///
/// # Examples
/// ```
/// use wiremesh::{Context, Pull, Push, RecvIntoError};
///
/// let context = Context::new();
/// let (push, pull) = (Push::in_context(&context), Pull::in_context(&context));
/// pull.bind("inproc://samples")?;
/// push.connect("inproc://samples")?;
/// push.send_many(["short", "too long for that"])?;
///
/// let mut buffer = [0; 8];
/// let length = pull.recv_into(&mut buffer)?;
/// assert_eq!(&buffer[..length], b"short");
/// match pull.recv_into(&mut buffer) {
///     Ok(length) => println!("{:?}", &buffer[..length]),
///     Err(RecvIntoError::TooLong { message, octets: 17, room: 8 }) => assert_eq!(message, "too long for that"),
///     Err(other) => return Err(other.into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvIntoError<M = Message> {
    /// No message was received.
    #[error("nothing was received: {0}")]
    Receive(RecvError),
    /// The message has more octets than the buffer.
    #[error("the message has {octets} octets, and the buffer {room}; `into_message` returns it")]
    TooLong {
        /// The message.
        message: M,
        /// How many octets it has.
        octets: usize,
        /// How many the buffer has.
        room: usize,
    },
    /// The message has several frames. In one buffer nothing would tell where each of them ends.
    #[error("the message has several frames, which one buffer would not keep apart; `into_message` returns it")]
    SeveralFrames(M),
}

impl<M> From<RecvError> for RecvIntoError<M> {
    fn from(error: RecvError) -> RecvIntoError<M> {
        RecvIntoError::Receive(error)
    }
}

impl<M> RecvIntoError<M> {
    /// The message that was not copied, if one was received.
    pub fn into_message(self) -> Option<M> {
        match self {
            RecvIntoError::Receive(_) => None,
            RecvIntoError::TooLong { message, .. } | RecvIntoError::SeveralFrames(message) => Some(message),
        }
    }
}

/// A message that was not copied is of the kind `InvalidData`; it is still within the error.
impl<M: Debug + Send + Sync + 'static> From<RecvIntoError<M>> for io::Error {
    fn from(error: RecvIntoError<M>) -> io::Error {
        match error {
            RecvIntoError::Receive(error) => error.into(),
            misfit => io::Error::new(io::ErrorKind::InvalidData, misfit),
        }
    }
}

impl Core {
    pub(super) fn recv_into(&self, buffer: &mut [u8], wait: Wait) -> Result<usize, RecvIntoError> {
        let message = match self.copy_quick(buffer) {
            Some(Ok(length)) => return Ok(length),
            Some(Err(message)) => message,
            None => self.recv(wait)?,
        };
        copy(&message, buffer).map_err(|misfit| misfit.hand_back(message))
    }

    /// What [`Core::recv`] tries first, without a message in between, which doubles the time of a short one. `Err` is a
    /// message that has been taken and is not for the quick way.
    #[inline(always)]
    fn copy_quick(&self, buffer: &mut [u8]) -> Option<Result<usize, Message>> {
        if self.is_forked() || self.is_closed() || self.stepwise {
            return None;
        }
        let mut reader = self.lock_recv();
        let (message, peer) = self.take_quick(&mut reader)?;
        let body = message.body();
        // Nobody is to wait at the gate for more than that to be copied, here as in a send.
        match buffer.get_mut(..body.len()) {
            Some(room) if body.len() <= COPY_LIMIT => {
                room.copy_from_slice(body);
                Some(Ok(room.len()))
            }
            Some(_) | None => Some(Err(message.into_message(peer))),
        }
    }

    /// As [`Core::recv_into`], for a ROUTER.
    pub(super) fn recv_routed_into(
        &self,
        buffer: &mut [u8],
        wait: Wait,
    ) -> Result<(RoutingId, usize), RecvIntoError<(RoutingId, Message)>> {
        let (id, message) = self.recv_routed(wait)?;
        match copy(&message, buffer) {
            Ok(length) => Ok((id, length)),
            Err(misfit) => Err(misfit.hand_back((id, message))),
        }
    }
}

/// Why a message is not copied.
enum Misfit {
    TooLong { octets: usize, room: usize },
    SeveralFrames,
}

impl Misfit {
    #[cold]
    fn hand_back<M>(self, message: M) -> RecvIntoError<M> {
        match self {
            Misfit::TooLong { octets, room } => RecvIntoError::TooLong { message, octets, room },
            Misfit::SeveralFrames => RecvIntoError::SeveralFrames(message),
        }
    }
}

/// Copies the only frame of a message, if there is one only and it fits; says how long it is.
#[inline(always)]
fn copy(message: &Message, buffer: &mut [u8]) -> Result<usize, Misfit> {
    let body = message.only().ok_or(Misfit::SeveralFrames)?.as_bytes();
    let (octets, room) = (body.len(), buffer.len());
    buffer.get_mut(..octets).ok_or(Misfit::TooLong { octets, room })?.copy_from_slice(body);
    Ok(octets)
}
