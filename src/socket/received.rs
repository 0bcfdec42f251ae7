//! The messages of a socket as an iterator.

use super::Socket;
use crate::error::RecvError;
use crate::message::Message;
use std::fmt;
use std::iter::FusedIterator;

/// What a socket receives, as it comes: what `iter` of a socket returns, and `for message in &socket` goes through.
///
/// Each step receives as `recv` does and yields what that says, errors included: a `receive_timeout` that runs out, or
/// a state of the pattern in which nothing can be received, is an item. It ends only when nothing will ever be received
/// any more: the socket is [`Closed`](RecvError::Closed), has [`Failed`](RecvError::Failed) or was
/// [`Forked`](RecvError::Forked), or it does not receive at all, which is said once.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use wiremesh::{Pull, RecvError};
///
/// let pull = Pull::builder().receive_timeout(Duration::from_millis(1)).build()?;
/// let mut messages = pull.iter();
/// assert_eq!(messages.next(), Some(Err(RecvError::TimedOut)));
/// assert_eq!(messages.next(), Some(Err(RecvError::TimedOut))); // and goes on
/// pull.close();
/// assert_eq!(messages.next(), None);
/// # Ok::<(), wiremesh::Error>(())
/// ```
#[must_use = "an iterator receives nothing until it is asked"]
pub struct Received<'a, T = Message> {
    socket: &'a Socket,
    receive: fn(&Socket) -> Result<T, RecvError>,
    ended: bool,
}

impl<'a, T> Received<'a, T> {
    pub(super) fn new(socket: &'a Socket, receive: fn(&Socket) -> Result<T, RecvError>) -> Received<'a, T> {
        Received { socket, receive, ended: false }
    }
}

impl<T> Iterator for Received<'_, T> {
    type Item = Result<T, RecvError>;

    fn next(&mut self) -> Option<Result<T, RecvError>> {
        if self.ended {
            return None;
        }
        let received = (self.receive)(self.socket);
        let is_over = matches!(received, Err(RecvError::Closed | RecvError::Failed | RecvError::Forked));
        self.ended = is_over || received.as_ref().is_err_and(|error| matches!(error, RecvError::NotSupported { .. }));
        (!is_over).then_some(received)
    }
}

impl<T> FusedIterator for Received<'_, T> {}

impl<T> fmt::Debug for Received<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("socket", self.socket).field("ended", &self.ended).finish()
    }
}
