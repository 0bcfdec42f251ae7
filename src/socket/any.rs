//! A socket whose kind is chosen at run time: all verbs, of which some fail.

use super::core::Wait;
use super::faces::RoutingId;
use super::reservation::Reservation;
use super::sending::Recipient;
use super::{Builder, Face, Socket, sealed};
use crate::context::Context;
use crate::error::{Error, RecvError, SendError, SendFailure};
use crate::kind::SocketKind;
use crate::message::{IntoMessage, Message};
use std::ops::Deref;
use std::time::Duration;

/// A socket of a kind known at run time only. Verbs that its kind lacks fail with `NotSupported`.
///
/// A ROUTER of this type receives the sender's routing id as the first frame, and sends to the routing id that stands there.
///
/// # Examples
/// ```
/// use wiremesh::{AnySocket, SocketKind};
///
/// let context = wiremesh::Context::new();
/// let pull = AnySocket::in_context(SocketKind::Pull, &context);
/// let push = AnySocket::in_context(SocketKind::Push, &context);
/// pull.bind("inproc://any")?;
/// push.connect("inproc://any")?;
/// push.send("hello")?;
/// assert_eq!(pull.recv()?, "hello");
/// assert!(pull.send("no").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AnySocket(Socket);

impl AnySocket {
    /// A socket of that kind with default options in the shared context.
    pub fn new(kind: SocketKind) -> AnySocket {
        AnySocket::builder(kind).open()
    }

    /// A socket of that kind with default options in that context.
    pub fn in_context(kind: SocketKind, context: &Context) -> AnySocket {
        AnySocket::builder(kind).context(context).open()
    }

    /// A builder, to set options first.
    pub fn builder(kind: SocketKind) -> Builder<AnySocket> {
        Builder::new(kind)
    }

    /// Sends a message, waiting as the kind does.
    ///
    /// # Errors
    /// [`SendFailure`] says why; the message is handed back.
    pub fn send(&self, message: impl IntoMessage) -> Result<(), SendError> {
        self.send_by(message, Wait::Option)
    }

    /// Sends a message if that is possible without waiting.
    ///
    /// # Errors
    /// [`SendFailure::WouldBlock`] where `send` would wait; otherwise as `send`.
    pub fn try_send(&self, message: impl IntoMessage) -> Result<(), SendError> {
        self.send_by(message, Wait::Never)
    }

    /// Sends a message, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`SendFailure::TimedOut`] when there was no room in time; otherwise as `send`.
    pub fn send_timeout(&self, message: impl IntoMessage, timeout: Duration) -> Result<(), SendError> {
        self.send_by(message, Wait::For(timeout))
    }

    /// Sends messages in order and says how many; waits as `send` does.
    ///
    /// # Errors
    /// The first failure, with its message; those before it were sent. Pass `iterator.by_ref()` to keep those after it.
    pub fn send_many<M: IntoMessage>(&self, messages: impl IntoIterator<Item = M>) -> Result<usize, SendError> {
        let mut sent = 0;
        for message in messages {
            self.send(message)?;
            sent += 1;
        }
        Ok(sent)
    }

    /// PUSH, DEALER, PAIR and REQ: reserves room for one message, waiting as `send` does.
    ///
    /// # Errors
    /// [`SendFailure::NotSupported`] for other kinds; otherwise as `send`.
    pub fn reserve(&self) -> Result<Reservation<'_>, SendFailure> {
        self.0.core.reserve(None, Wait::Option)
    }

    /// As [`reserve`](AnySocket::reserve), if that is possible without waiting.
    ///
    /// # Errors
    /// [`SendFailure::WouldBlock`] where `reserve` would wait; otherwise as there.
    pub fn try_reserve(&self) -> Result<Reservation<'_>, SendFailure> {
        self.0.core.reserve(None, Wait::Never)
    }

    /// As [`reserve`](AnySocket::reserve), waiting at most `timeout`.
    ///
    /// # Errors
    /// [`SendFailure::TimedOut`] when there was no room in time; otherwise as `reserve`.
    pub fn reserve_timeout(&self, timeout: Duration) -> Result<Reservation<'_>, SendFailure> {
        self.0.core.reserve(None, Wait::For(timeout))
    }

    /// ROUTER, PUB and XPUB: reserves room for one message with the peer of that routing id, or with everybody who gets a message
    /// on that topic. A routing id is not repeated in front of the message then.
    ///
    /// # Errors
    /// [`SendFailure::NotSupported`] for other kinds; otherwise as `send`.
    pub fn reserve_to(&self, name: impl AsRef<[u8]>) -> Result<Reservation<'_>, SendFailure> {
        self.0.core.reserve(Some(name.as_ref()), Wait::Option)
    }

    /// As [`reserve_to`](AnySocket::reserve_to), if that is possible without waiting.
    ///
    /// # Errors
    /// [`SendFailure::WouldBlock`] where `reserve_to` would wait; otherwise as there.
    pub fn try_reserve_to(&self, name: impl AsRef<[u8]>) -> Result<Reservation<'_>, SendFailure> {
        self.0.core.reserve(Some(name.as_ref()), Wait::Never)
    }

    /// As [`reserve_to`](AnySocket::reserve_to), waiting at most `timeout`.
    ///
    /// # Errors
    /// [`SendFailure::TimedOut`] when there was no room in time; otherwise as `reserve_to`.
    pub fn reserve_to_timeout(
        &self,
        name: impl AsRef<[u8]>,
        timeout: Duration,
    ) -> Result<Reservation<'_>, SendFailure> {
        self.0.core.reserve(Some(name.as_ref()), Wait::For(timeout))
    }

    /// Receives the next message, waiting for one.
    ///
    /// # Errors
    /// [`RecvError`] says why there is none.
    pub fn recv(&self) -> Result<Message, RecvError> {
        self.recv_by(Wait::Option)
    }

    /// Receives a message if one is there.
    ///
    /// # Errors
    /// [`RecvError::WouldBlock`] when none is; otherwise as `recv`.
    pub fn try_recv(&self) -> Result<Message, RecvError> {
        self.recv_by(Wait::Never)
    }

    /// Receives the next message, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`] when none came in time; otherwise as `recv`.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Message, RecvError> {
        self.recv_by(Wait::For(timeout))
    }

    /// Receives at least one message and at most `max`: waits for the first as `recv` does, and takes along what else is there.
    ///
    /// # Errors
    /// As `recv`.
    pub fn recv_many(&self, max: usize) -> Result<Vec<Message>, RecvError> {
        match self.kind() {
            SocketKind::Push | SocketKind::Pub => Err(RecvError::NotSupported),
            SocketKind::Router => {
                let messages = self.0.core.recv_many_routed(max, Wait::Option)?;
                Ok(messages.into_iter().map(with_id).collect())
            }
            _ => self.0.core.recv_many(max, Wait::Option),
        }
    }

    /// The messages as they come. Ends when the socket is closed, or when a receive fails otherwise.
    pub fn iter(&self) -> impl Iterator<Item = Message> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// SUB and XSUB: subscribes to a topic.
    ///
    /// # Errors
    /// [`Error::NotSupported`] for other kinds; [`Error::Closed`].
    pub fn subscribe(&self, topic: impl AsRef<[u8]>) -> Result<(), Error> {
        self.needs(self.kind().subscribes(), "subscribe")?;
        self.0.core.subscribe(topic.as_ref())
    }

    /// SUB and XSUB: takes one subscription back; whether there was one.
    ///
    /// # Errors
    /// [`Error::NotSupported`] for other kinds; [`Error::Closed`].
    pub fn unsubscribe(&self, topic: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.needs(self.kind().subscribes(), "unsubscribe")?;
        self.0.core.unsubscribe(topic.as_ref(), self.0.core.switch().verbose_unsubscribe)
    }

    /// PUB and XPUB: waits until at least `count` peers have subscribed to something.
    ///
    /// # Errors
    /// [`Error::NotSupported`] for other kinds; [`Error::TimedOut`]; [`Error::Closed`].
    pub fn wait_for_subscribers(&self, count: usize, timeout: Duration) -> Result<(), Error> {
        self.needs(self.kind().publishes(), "have subscribers")?;
        self.0.core.wait_for("subscribers", timeout, || self.0.core.subscribers(), count)
    }

    fn needs(&self, supported: bool, operation: &'static str) -> Result<(), Error> {
        if supported { Ok(()) } else { Err(Error::NotSupported { kind: self.kind(), operation }) }
    }

    fn send_by(&self, message: impl IntoMessage, wait: Wait) -> Result<(), SendError> {
        match self.kind() {
            SocketKind::Pull | SocketKind::Sub => {
                Err(SendError { reason: SendFailure::NotSupported, message: message.into_message() })
            }
            SocketKind::XSub => self.0.core.send_upstream(message.into_message()),
            _ => self.0.core.send(message, Recipient::Pattern, wait),
        }
    }

    fn recv_by(&self, wait: Wait) -> Result<Message, RecvError> {
        match self.kind() {
            SocketKind::Push | SocketKind::Pub => Err(RecvError::NotSupported),
            SocketKind::Router => self.0.core.recv_routed(wait).map(with_id),
            _ => self.0.core.recv(wait),
        }
    }
}

/// What a ROUTER receives as one message.
fn with_id((id, mut message): (RoutingId, Message)) -> Message {
    message.push_front(id.into_bytes());
    message
}

impl Deref for AnySocket {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.0
    }
}

impl sealed::Sealed for AnySocket {}

impl Face for AnySocket {
    type Choice = SocketKind;

    fn kind_of(choice: &SocketKind) -> SocketKind {
        *choice
    }

    fn from_socket(socket: Socket) -> AnySocket {
        AnySocket(socket)
    }
}
