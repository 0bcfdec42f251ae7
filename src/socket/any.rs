//! A socket whose kind is chosen at run time: all verbs, of which some fail.

use super::buffer::RecvIntoError;
use super::core::Wait;
use super::received::Received;
use super::request::RequestError;
use super::reservation::Reservation;
use super::routing_id::{Addressee, RoutingId};
use super::sending::Recipient;
use super::{Builder, Face, Socket, sealed};
use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::error::{Error, RecvError, ReserveError, SendError, SendFailure};
use crate::kind::SocketKind;
use crate::message::{IntoMessage, Message};
use std::ops::Deref;
use std::time::Duration;

/// A socket of a kind known at run time only. It has the verbs of all kinds; those that its kind lacks fail with
/// `NotSupported`, before they do or take anything.
///
/// It differs from the typed sockets in this:
/// * A ROUTER receives the sender's routing id as the first frame of the message, and `send` sends to the routing id
///   that stands there. So one frame alone is [`Unacceptable`](SendFailure::Unacceptable) to `send`, and
///   [`recv_into`](AnySocket::recv_into) is not for it. [`send_to`](AnySocket::send_to) and
///   [`reserve_to`](AnySocket::reserve_to) name the peer beside the message, as [`Router`](crate::Router) does.
/// * A publisher reserves room for a topic by `reserve_to`, which is `reserve` of [`Pub`](crate::Pub) and
///   [`XPub`](crate::XPub).
/// * [`topic_count`](AnySocket::topic_count) returns a `Result`, to say `NotSupported`.
///
/// # Examples
/// ```
/// use wiremesh::{AnySocket, SendFailure, SocketKind};
///
/// let context = wiremesh::Context::new();
/// let pull = AnySocket::in_context(SocketKind::Pull, &context);
/// let push = AnySocket::in_context(SocketKind::Push, &context);
/// pull.bind("inproc://any")?;
/// push.connect("inproc://any")?;
/// push.send("hello")?;
/// assert_eq!(pull.recv()?, "hello");
/// assert!(pull.send("no").is_err_and(|error| matches!(error.reason, SendFailure::NotSupported { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "zmq_socket")]
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

    /// Sends a message, waiting as the kind does (at most the option `send_timeout`).
    ///
    /// # Errors
    /// [`SendFailure`] says why; the message is handed back. [`SendFailure::NotSupported`]: PULL and SUB do not send.
    #[doc(alias("zmq_send", "zmq_msg_send", "zmq_sendmsg", "zmq_send_const", "zmq_sendiov"))]
    pub fn send(&self, message: impl IntoMessage) -> Result<(), SendError> {
        self.send_by(message, Wait::Option)
    }

    /// Sends a message if that is possible without waiting.
    ///
    /// # Errors
    /// [`SendFailure::WouldBlock`] where `send` would wait; otherwise as `send`.
    #[doc(alias("ZMQ_DONTWAIT", "ZMQ_NOBLOCK"))]
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

    /// ROUTER: connects to an endpoint whose peer is known here by `id`; see
    /// [`Router::connect_as`](crate::Router::connect_as).
    ///
    /// # Errors
    /// [`Error::NotSupported`] for other kinds; otherwise as there.
    pub fn connect_as(&self, endpoint: impl AsRef<str>, id: impl AsRef<[u8]>) -> Result<Endpoint, Error> {
        self.0.core.connect_as(endpoint.as_ref(), id.as_ref())
    }

    /// ROUTER: sends a message to a peer, named by its routing id or its [`PeerId`](crate::PeerId), which does not
    /// stand in front of the message then. Waits as [`Router::send_to`](crate::Router::send_to) does.
    ///
    /// # Errors
    /// [`SendFailure::NotSupported`] for other kinds; otherwise as there. The message is handed back.
    ///
    /// # Examples
    /// ```
    /// use wiremesh::{AnySocket, Dealer, SocketKind};
    ///
    /// let context = wiremesh::Context::new();
    /// let router = AnySocket::in_context(SocketKind::Router, &context);
    /// let dealer = Dealer::builder().context(&context).routing_id("worker").build()?;
    /// router.bind("inproc://workers")?;
    /// dealer.connect("inproc://workers")?;
    /// router.send_to("worker", "one job")?;
    /// router.send(["worker", "another"])?;
    /// assert_eq!(dealer.recv()?, "one job");
    /// assert_eq!(dealer.recv()?, "another");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_to(&self, id: impl Addressee, message: impl IntoMessage) -> Result<(), SendError> {
        self.send_to_by(id.recipient().0, message, Wait::Option)
    }

    /// As [`send_to`](AnySocket::send_to), if that is possible without waiting.
    ///
    /// # Errors
    /// [`SendFailure::WouldBlock`] where `send_to` would wait; otherwise as there.
    pub fn try_send_to(&self, id: impl Addressee, message: impl IntoMessage) -> Result<(), SendError> {
        self.send_to_by(id.recipient().0, message, Wait::Never)
    }

    /// As [`send_to`](AnySocket::send_to), waiting at most `timeout`.
    ///
    /// # Errors
    /// [`SendFailure::TimedOut`] when there was no room in time; otherwise as `send_to`.
    pub fn send_to_timeout(
        &self,
        id: impl Addressee,
        message: impl IntoMessage,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.send_to_by(id.recipient().0, message, Wait::For(timeout))
    }

    /// PUSH, DEALER, PAIR and REQ: reserves room for one message, waiting as `send` does.
    ///
    /// # Errors
    /// [`SendFailure::NotSupported`] for other kinds; otherwise as `send`.
    pub fn reserve(&self) -> Result<Reservation<'_>, ReserveError> {
        self.0.core.reserve(None, Wait::Option)
    }

    /// As [`reserve`](AnySocket::reserve), if that is possible without waiting.
    ///
    /// # Errors
    /// [`SendFailure::WouldBlock`] where `reserve` would wait; otherwise as there.
    pub fn try_reserve(&self) -> Result<Reservation<'_>, ReserveError> {
        self.0.core.reserve(None, Wait::Never)
    }

    /// As [`reserve`](AnySocket::reserve), waiting at most `timeout`.
    ///
    /// # Errors
    /// [`SendFailure::TimedOut`] when there was no room in time; otherwise as `reserve`.
    pub fn reserve_timeout(&self, timeout: Duration) -> Result<Reservation<'_>, ReserveError> {
        self.0.core.reserve(None, Wait::For(timeout))
    }

    /// ROUTER, PUB and XPUB: reserves room for one message with the peer of that routing id, or with everybody who gets
    /// a message on that topic. A routing id is not repeated in front of the message then.
    ///
    /// # Errors
    /// [`SendFailure::NotSupported`] for other kinds; otherwise as `send`.
    pub fn reserve_to(&self, name: impl AsRef<[u8]>) -> Result<Reservation<'_>, ReserveError> {
        self.0.core.reserve(Some(name.as_ref()), Wait::Option)
    }

    /// As [`reserve_to`](AnySocket::reserve_to), if that is possible without waiting.
    ///
    /// # Errors
    /// [`SendFailure::WouldBlock`] where `reserve_to` would wait; otherwise as there.
    pub fn try_reserve_to(&self, name: impl AsRef<[u8]>) -> Result<Reservation<'_>, ReserveError> {
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
    ) -> Result<Reservation<'_>, ReserveError> {
        self.0.core.reserve(Some(name.as_ref()), Wait::For(timeout))
    }

    /// Receives the next message, waiting for one (at most the option `receive_timeout`).
    ///
    /// # Errors
    /// [`RecvError`] says why there is none. [`RecvError::NotSupported`]: PUSH and PUB do not receive.
    #[doc(alias("zmq_recv", "zmq_msg_recv", "zmq_recvmsg", "zmq_recviov"))]
    pub fn recv(&self) -> Result<Message, RecvError> {
        self.recv_by(Wait::Option)
    }

    /// Receives a message if one is there.
    ///
    /// # Errors
    /// [`RecvError::WouldBlock`] when none is; otherwise as `recv`.
    #[doc(alias("ZMQ_DONTWAIT", "ZMQ_NOBLOCK"))]
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

    /// Receives the next message into `buffer` and says how many octets it has, waiting for one (at most the option
    /// `receive_timeout`). What the buffer has beyond that stays as it is.
    ///
    /// It is for messages of one frame that fit. Another one is handed back whole by the error, and the buffer stays as
    /// it is.
    ///
    /// # Errors
    /// [`TooLong`](RecvIntoError::TooLong) and [`SeveralFrames`](RecvIntoError::SeveralFrames) hand the message back;
    /// [`Receive`](RecvIntoError::Receive) says why there is none. [`RecvError::NotSupported`]: PUSH and PUB do not
    /// receive, and a ROUTER receives nothing in this way, as the routing id makes its messages ones of several frames.
    pub fn recv_into(&self, buffer: &mut [u8]) -> Result<usize, RecvIntoError> {
        self.recv_into_by(buffer, Wait::Option)
    }

    /// As [`recv_into`](AnySocket::recv_into), if a message is there.
    ///
    /// # Errors
    /// [`RecvError::WouldBlock`] when none is; otherwise as `recv_into`.
    pub fn try_recv_into(&self, buffer: &mut [u8]) -> Result<usize, RecvIntoError> {
        self.recv_into_by(buffer, Wait::Never)
    }

    /// As [`recv_into`](AnySocket::recv_into), waiting at most `timeout`.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`] when none came in time; otherwise as `recv_into`.
    pub fn recv_into_timeout(&self, buffer: &mut [u8], timeout: Duration) -> Result<usize, RecvIntoError> {
        self.recv_into_by(buffer, Wait::For(timeout))
    }

    /// Receives at least one message and at most `max`: waits for the first as `recv` does, and takes along what else
    /// is there. With a `max` of 0 it returns none, at once.
    ///
    /// # Errors
    /// As `recv`.
    pub fn recv_many(&self, max: usize) -> Result<Vec<Message>, RecvError> {
        match self.kind() {
            kind @ (SocketKind::Push | SocketKind::Pub) => Err(does_not_receive(kind)),
            SocketKind::Router => {
                let messages = self.0.core.recv_many_routed(max, Wait::Option)?;
                Ok(messages.into_iter().map(with_id).collect())
            }
            _ => self.0.core.recv_many(max, Wait::Option),
        }
    }

    /// The messages as they come, each a `Result`: an error ends it only where nothing will ever come any more. See
    /// [`Received`].
    pub fn iter(&self) -> Received<'_> {
        Received::new(&self.0, |socket| recv_by(socket, Wait::Option))
    }

    /// REQ: sends a request and waits for its reply, at most `timeout` for both; see
    /// [`Req::request`](crate::Req::request).
    ///
    /// # Errors
    /// [`RequestError`] says how far it came. Other kinds send nothing: [`RequestError::Send`] with
    /// [`SendFailure::NotSupported`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use wiremesh::{AnySocket, SocketKind};
    ///
    /// let context = wiremesh::Context::new();
    /// let server = AnySocket::in_context(SocketKind::Rep, &context);
    /// let client = AnySocket::in_context(SocketKind::Req, &context);
    /// server.bind("inproc://echo")?;
    /// client.connect("inproc://echo")?;
    /// std::thread::spawn(move || {
    ///     for question in &server {
    ///         server.send(question.unwrap()).unwrap();
    ///     }
    /// });
    /// assert_eq!(client.request("echo?", Duration::from_secs(5))?, "echo?");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn request(&self, message: impl IntoMessage, timeout: Duration) -> Result<Message, RequestError> {
        self.request_with_retries(message, timeout, 0)
    }

    /// As [`request`](AnySocket::request), sending the request again up to `retries` times, each with a `timeout` of
    /// its own; see [`Req::request_with_retries`](crate::Req::request_with_retries).
    ///
    /// # Errors
    /// [`RequestError`] of the last attempt; otherwise as `request`.
    pub fn request_with_retries(
        &self,
        message: impl IntoMessage,
        timeout: Duration,
        retries: u32,
    ) -> Result<Message, RequestError> {
        if self.kind() == SocketKind::Req {
            self.0.core.request(message.into_message(), timeout, retries)
        } else {
            Err(not_supported(self.kind(), "send requests", message).into())
        }
    }

    /// SUB and XSUB: subscribes to a topic.
    ///
    /// # Errors
    /// [`Error::NotSupported`] for other kinds; [those of every call](Error#those-of-every-call).
    pub fn subscribe(&self, topic: impl AsRef<[u8]>) -> Result<(), Error> {
        self.needs(self.kind().subscribes(), "subscribe")?;
        self.0.core.subscribe(topic.as_ref())
    }

    /// SUB and XSUB: takes one subscription back; whether there was one.
    ///
    /// # Errors
    /// [`Error::NotSupported`] for other kinds; [those of every call](Error#those-of-every-call).
    pub fn unsubscribe(&self, topic: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.needs(self.kind().subscribes(), "unsubscribe")?;
        self.0.core.unsubscribe(topic.as_ref(), self.0.core.switch().verbose_unsubscribe)
    }

    /// XPUB with the option `manual`: subscribes the peer whose request was received last to `topic`. `false` if that
    /// peer is gone.
    ///
    /// # Errors
    /// [`Error::NotSupported`] for other kinds; [`Error::Option`] without `manual`;
    /// [those of every call](Error#those-of-every-call).
    pub fn subscribe_last(&self, topic: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.needs(self.kind() == SocketKind::XPub, "subscribe their peers")?;
        self.0.core.subscribe_last(topic.as_ref(), true)
    }

    /// XPUB with the option `manual`: ends a subscription of the peer whose request was received last. `false` if that
    /// peer is gone.
    ///
    /// # Errors
    /// [`Error::NotSupported`] for other kinds; [`Error::Option`] without `manual`;
    /// [those of every call](Error#those-of-every-call).
    pub fn unsubscribe_last(&self, topic: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.needs(self.kind() == SocketKind::XPub, "unsubscribe their peers")?;
        self.0.core.subscribe_last(topic.as_ref(), false)
    }

    /// SUB and XSUB: how many different topics it is subscribed to. PUB and XPUB: how many are subscribed to. 0 in a
    /// forked child. (libzmq: `ZMQ_TOPICS_COUNT`.)
    ///
    /// # Errors
    /// [`Error::NotSupported`] for other kinds.
    pub fn topic_count(&self) -> Result<usize, Error> {
        self.needs(self.kind().subscribes() || self.kind().publishes(), "have topics")?;
        Ok(self.0.core.topic_count())
    }

    /// PUB and XPUB: waits until at least `count` peers have subscribed to something.
    ///
    /// # Errors
    /// [`Error::NotSupported`] for other kinds; [`Error::TimedOut`] says how many there are;
    /// [those of every call](Error#those-of-every-call).
    pub fn wait_for_subscribers(&self, count: usize, timeout: Duration) -> Result<(), Error> {
        self.needs(self.kind().publishes(), "have subscribers")?;
        self.0.core.wait_for_subscribers(count, timeout)
    }

    /// PUB and XPUB: waits until at least `count` peers would get a message on `topic`.
    ///
    /// # Errors
    /// As [`wait_for_subscribers`](AnySocket::wait_for_subscribers).
    pub fn wait_for_subscribers_to(
        &self,
        topic: impl AsRef<[u8]>,
        count: usize,
        timeout: Duration,
    ) -> Result<(), Error> {
        self.needs(self.kind().publishes(), "have subscribers")?;
        self.0.core.wait_for_subscribers_to(topic.as_ref(), count, timeout)
    }

    fn needs(&self, supported: bool, operation: &'static str) -> Result<(), Error> {
        if supported { Ok(()) } else { Err(Error::NotSupported { kind: self.kind(), operation }) }
    }

    fn send_by(&self, message: impl IntoMessage, wait: Wait) -> Result<(), SendError> {
        match self.kind() {
            kind @ (SocketKind::Pull | SocketKind::Sub) => Err(not_supported(kind, "send", message)),
            SocketKind::XSub => self.0.core.send_upstream(message.into_message()),
            _ => self.0.core.send(message, Recipient::Pattern, wait),
        }
    }

    fn send_to_by(&self, to: Recipient<'_>, message: impl IntoMessage, wait: Wait) -> Result<(), SendError> {
        if self.kind() == SocketKind::Router {
            self.0.core.send(message, to, wait)
        } else {
            Err(not_supported(self.kind(), "send by routing id", message))
        }
    }

    fn recv_into_by(&self, buffer: &mut [u8], wait: Wait) -> Result<usize, RecvIntoError> {
        match self.kind() {
            kind @ (SocketKind::Push | SocketKind::Pub) => Err(does_not_receive(kind).into()),
            kind @ SocketKind::Router => Err(RecvError::NotSupported {
                kind,
                operation: "receive into a buffer, where the routing id has no place",
            }
            .into()),
            _ => self.0.core.recv_into(buffer, wait),
        }
    }

    fn recv_by(&self, wait: Wait) -> Result<Message, RecvError> {
        recv_by(&self.0, wait)
    }
}

fn recv_by(socket: &Socket, wait: Wait) -> Result<Message, RecvError> {
    match socket.kind() {
        kind @ (SocketKind::Push | SocketKind::Pub) => Err(does_not_receive(kind)),
        SocketKind::Router => socket.core.recv_routed(wait).map(with_id),
        _ => socket.core.recv(wait),
    }
}

impl<'a> IntoIterator for &'a AnySocket {
    type Item = Result<Message, RecvError>;
    type IntoIter = Received<'a>;

    fn into_iter(self) -> Received<'a> {
        self.iter()
    }
}

fn not_supported(kind: SocketKind, operation: &'static str, message: impl IntoMessage) -> SendError {
    let reason = SendFailure::NotSupported { kind, operation };
    SendError { reason, message: message.into_message(), missing: None }
}

fn does_not_receive(kind: SocketKind) -> RecvError {
    RecvError::NotSupported { kind, operation: "receive" }
}

/// What a ROUTER receives as one message.
fn with_id((id, mut message): (RoutingId, Message)) -> Message {
    message.push_front(id);
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
