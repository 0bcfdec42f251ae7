//! The typed sockets: thin faces over [`Socket`] with only the verbs their pattern has.

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
use crate::error::{Error, RecvError, ReserveError, SendError};
use crate::kind::SocketKind;
use crate::message::{IntoMessage, Message};
use std::ops::Deref;
use std::time::Duration;

/// What every typed socket has besides its verbs.
macro_rules! face {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name(Socket);

        impl $name {
            /// A socket with default options in the shared context.
            pub fn new() -> $name {
                $name::builder().open()
            }

            /// A socket with default options in that context.
            pub fn in_context(context: &Context) -> $name {
                $name::builder().context(context).open()
            }

            /// A builder, to set options first.
            pub fn builder() -> Builder<$name> {
                Builder::new(())
            }
        }

        impl Default for $name {
            fn default() -> $name {
                $name::new()
            }
        }

        impl Deref for $name {
            type Target = Socket;

            fn deref(&self) -> &Socket {
                &self.0
            }
        }

        impl sealed::Sealed for $name {}

        impl Face for $name {
            type Choice = ();

            fn kind_of(_: &()) -> SocketKind {
                SocketKind::$name
            }

            fn from_socket(socket: Socket) -> $name {
                $name(socket)
            }
        }
    };
}

/// The verbs of a socket that sends to whom its pattern chooses.
macro_rules! sends {
    ($name:ident, $blocks:literal) => {
        impl $name {
            /// Sends a message.
            ///
            #[doc = $blocks]
            ///
            /// # Errors
            /// [`SendFailure`](crate::SendFailure) says why; the message is handed back.
            #[doc(alias("zmq_send", "zmq_msg_send", "zmq_sendmsg", "zmq_send_const", "zmq_sendiov"))]
            #[inline]
            pub fn send(&self, message: impl IntoMessage) -> Result<(), SendError> {
                self.0.core.send(message, Recipient::Pattern, Wait::Option)
            }

            /// Sends a message if that is possible without waiting.
            ///
            /// # Errors
            /// [`WouldBlock`](crate::SendFailure::WouldBlock) where `send` would wait; otherwise as `send`.
            #[doc(alias("ZMQ_DONTWAIT", "ZMQ_NOBLOCK"))]
            #[inline]
            pub fn try_send(&self, message: impl IntoMessage) -> Result<(), SendError> {
                self.0.core.send(message, Recipient::Pattern, Wait::Never)
            }

            /// Sends a message, waiting at most `timeout`.
            ///
            /// # Errors
            /// [`TimedOut`](crate::SendFailure::TimedOut) when there was no room in time; otherwise as `send`.
            pub fn send_timeout(&self, message: impl IntoMessage, timeout: Duration) -> Result<(), SendError> {
                self.0.core.send(message, Recipient::Pattern, Wait::For(timeout))
            }

            /// Sends messages in order and says how many; waits as `send` does.
            ///
            /// # Errors
            /// The first failure, with its message; those before it were sent. Pass `iterator.by_ref()` to keep those
            /// after it.
            pub fn send_many<M: IntoMessage>(&self, messages: impl IntoIterator<Item = M>) -> Result<usize, SendError> {
                let mut sent = 0;
                for message in messages {
                    self.send(message)?;
                    sent += 1;
                }
                Ok(sent)
            }
        }
    };
}

/// The verbs of a socket that can find the next peer with room before there is a message.
macro_rules! reserves {
    ($name:ident, $other:ident $(, $state:literal)?) => {
        impl $name {
            /// Reserves room for one message, waiting for it as `send` does; [`Reservation::send`] fills it.
            ///
            $(#[doc = $state]
            #[doc = ""])?
            /// # Errors
            /// As `send`.
            ///
            /// # Examples
            /// ```
            /// let context = wiremesh::Context::new();
            #[doc = concat!("let here = wiremesh::", stringify!($name), "::in_context(&context);")]
            #[doc = concat!("let there = wiremesh::", stringify!($other), "::in_context(&context);")]
            /// there.bind("inproc://there")?;
            /// here.connect("inproc://there")?;
            /// let room = here.reserve()?;
            /// let report = format!("made once there was room with {:?}", room.peer());
            /// room.send(&report)?;
            /// assert_eq!(there.recv()?, report.as_str());
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn reserve(&self) -> Result<Reservation<'_>, ReserveError> {
                self.0.core.reserve(None, Wait::Option)
            }

            /// Reserves room for one message if there is some.
            ///
            /// # Errors
            /// [`WouldBlock`](crate::SendFailure::WouldBlock) where `reserve` would wait; otherwise as there.
            pub fn try_reserve(&self) -> Result<Reservation<'_>, ReserveError> {
                self.0.core.reserve(None, Wait::Never)
            }

            /// Reserves room for one message, waiting at most `timeout`.
            ///
            /// # Errors
            /// [`TimedOut`](crate::SendFailure::TimedOut) when there was none in time; otherwise as `reserve`.
            pub fn reserve_timeout(&self, timeout: Duration) -> Result<Reservation<'_>, ReserveError> {
                self.0.core.reserve(None, Wait::For(timeout))
            }
        }
    };
}

/// The verbs of a socket that receives messages as they are.
macro_rules! receives {
    ($name:ident) => {
        impl $name {
            /// Receives the next message, waiting for one (at most the option `receive_timeout`).
            ///
            /// # Errors
            /// [`RecvError`] says why there is none.
            #[doc(alias("zmq_recv", "zmq_msg_recv", "zmq_recvmsg", "zmq_recviov"))]
            #[inline]
            pub fn recv(&self) -> Result<Message, RecvError> {
                self.0.core.recv(Wait::Option)
            }

            /// Receives a message if one is there.
            ///
            /// # Errors
            /// [`WouldBlock`](RecvError::WouldBlock) when none is; otherwise as `recv`.
            #[doc(alias("ZMQ_DONTWAIT", "ZMQ_NOBLOCK"))]
            #[inline]
            pub fn try_recv(&self) -> Result<Message, RecvError> {
                self.0.core.recv(Wait::Never)
            }

            /// Receives the next message, waiting at most `timeout`.
            ///
            /// # Errors
            /// [`TimedOut`](RecvError::TimedOut) when none came in time; otherwise as `recv`.
            pub fn recv_timeout(&self, timeout: Duration) -> Result<Message, RecvError> {
                self.0.core.recv(Wait::For(timeout))
            }

            /// Receives the next message into `buffer` and says how many octets it has, waiting for one (at most the
            /// option `receive_timeout`). What the buffer has beyond that stays as it is.
            ///
            /// It is for messages of one frame that fit. Another one is handed back whole by the error, and the buffer
            /// stays as it is. Who wants to know the sender as well takes [`recv`](Self::recv), which allocates nothing
            /// for a short message either.
            ///
            /// # Errors
            /// [`TooLong`](RecvIntoError::TooLong) and [`SeveralFrames`](RecvIntoError::SeveralFrames) hand the message
            /// back; [`Receive`](RecvIntoError::Receive) says why there is none.
            #[inline]
            pub fn recv_into(&self, buffer: &mut [u8]) -> Result<usize, RecvIntoError> {
                self.0.core.recv_into(buffer, Wait::Option)
            }

            /// As [`recv_into`](Self::recv_into), if a message is there.
            ///
            /// # Errors
            /// [`WouldBlock`](RecvError::WouldBlock) when none is; otherwise as `recv_into`.
            #[inline]
            pub fn try_recv_into(&self, buffer: &mut [u8]) -> Result<usize, RecvIntoError> {
                self.0.core.recv_into(buffer, Wait::Never)
            }

            /// As [`recv_into`](Self::recv_into), waiting at most `timeout`.
            ///
            /// # Errors
            /// [`TimedOut`](RecvError::TimedOut) when none came in time; otherwise as `recv_into`.
            pub fn recv_into_timeout(&self, buffer: &mut [u8], timeout: Duration) -> Result<usize, RecvIntoError> {
                self.0.core.recv_into(buffer, Wait::For(timeout))
            }

            /// Receives at least one message and at most `max`: waits for the first as `recv` does, and takes along
            /// what else is there. With a `max` of 0 it returns none, at once.
            ///
            /// # Errors
            /// As `recv`.
            pub fn recv_many(&self, max: usize) -> Result<Vec<Message>, RecvError> {
                self.0.core.recv_many(max, Wait::Option)
            }

            /// The messages as they come, each a `Result`: an error ends it only where nothing will ever come any more.
            /// See [`Received`].
            pub fn iter(&self) -> Received<'_> {
                Received::new(&self.0, |socket| socket.core.recv(Wait::Option))
            }
        }

        impl<'a> IntoIterator for &'a $name {
            type Item = Result<Message, RecvError>;
            type IntoIter = Received<'a>;

            fn into_iter(self) -> Received<'a> {
                self.iter()
            }
        }
    };
}

/// What PUB and XPUB have in common.
macro_rules! publishes {
    ($name:ident) => {
        impl $name {
            /// Waits until at least `count` peers have subscribed to something: then the first message is not lost on
            /// them. A peer that subscribes to several topics may still be on its way with the others.
            ///
            /// # Errors
            /// [`Error::TimedOut`] says how many there are; [those of every call](Error#those-of-every-call).
            pub fn wait_for_subscribers(&self, count: usize, timeout: Duration) -> Result<(), Error> {
                self.0.core.wait_for_subscribers(count, timeout)
            }

            /// Waits until at least `count` peers would get a message on `topic`, at most `timeout`: then it is not
            /// lost on them.
            ///
            /// # Errors
            /// [`Error::TimedOut`] says how many there are; [those of every call](Error#those-of-every-call).
            ///
            /// # Examples
            /// ```
            /// use std::time::Duration;
            ///
            /// let context = wiremesh::Context::new();
            #[doc = concat!("let publisher = wiremesh::", stringify!($name), "::in_context(&context);")]
            /// let subscriber = wiremesh::Sub::in_context(&context);
            /// let endpoint = publisher.bind("tcp://127.0.0.1:*")?;
            /// subscriber.connect(&endpoint)?;
            /// subscriber.subscribe("sports.")?;
            /// subscriber.subscribe("weather.")?;
            /// publisher.wait_for_subscribers_to("weather.rome", 1, Duration::from_secs(5))?;
            /// publisher.send("weather.rome: sunny")?;
            /// assert_eq!(subscriber.recv()?, "weather.rome: sunny");
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn wait_for_subscribers_to(
                &self,
                topic: impl AsRef<[u8]>,
                count: usize,
                timeout: Duration,
            ) -> Result<(), Error> {
                self.0.core.wait_for_subscribers_to(topic.as_ref(), count, timeout)
            }

            /// How many different topics are subscribed to; 0 in a forked child. (libzmq: `ZMQ_TOPICS_COUNT`.)
            #[doc(alias = "ZMQ_TOPICS_COUNT")]
            pub fn topic_count(&self) -> usize {
                self.0.core.topic_count()
            }

            /// Reserves room with everybody who gets a message on that topic, for one that is not made yet;
            /// [`Reservation::send`] sends it to them.
            ///
            /// Who gets it is decided now: not whoever subscribes later, and, as with `send`, not who is at its mark
            /// now; that is counted when the message is sent. With the option `nodrop` it waits for those (at most the
            /// option `send_timeout`).
            ///
            /// # Errors
            /// As `send`.
            ///
            /// # Examples
            /// ```
            /// use std::time::Duration;
            ///
            /// let context = wiremesh::Context::new();
            #[doc = concat!("let publisher = wiremesh::", stringify!($name), "::in_context(&context);")]
            /// let subscriber = wiremesh::Sub::in_context(&context);
            /// publisher.bind("inproc://news")?;
            /// subscriber.connect("inproc://news")?;
            /// subscriber.subscribe("weather")?;
            /// publisher.wait_for_subscribers(1, Duration::from_secs(5))?;
            /// let room = publisher.reserve("weather")?;
            /// room.send(["weather", "sunny"])?;
            /// assert_eq!(subscriber.recv()?.frame(1), Some(&b"sunny"[..]));
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn reserve(&self, topic: impl AsRef<[u8]>) -> Result<Reservation<'_>, ReserveError> {
                self.0.core.reserve(Some(topic.as_ref()), Wait::Option)
            }

            /// As `reserve`, if that is possible without waiting.
            ///
            /// # Errors
            /// [`WouldBlock`](crate::SendFailure::WouldBlock) where `reserve` would wait; otherwise as there.
            pub fn try_reserve(&self, topic: impl AsRef<[u8]>) -> Result<Reservation<'_>, ReserveError> {
                self.0.core.reserve(Some(topic.as_ref()), Wait::Never)
            }

            /// As `reserve`, waiting at most `timeout`.
            ///
            /// # Errors
            /// [`TimedOut`](crate::SendFailure::TimedOut) when there was no room in time; otherwise as `reserve`.
            pub fn reserve_timeout(
                &self,
                topic: impl AsRef<[u8]>,
                timeout: Duration,
            ) -> Result<Reservation<'_>, ReserveError> {
                self.0.core.reserve(Some(topic.as_ref()), Wait::For(timeout))
            }
        }
    };
}

face! {
    /// One peer, both directions (RFC 31). A second peer is refused, with an event. A peer that waits to be told that
    /// the socket is ready before it says who it is has the seat from when it is told; if it says nothing for two
    /// seconds, another may get the seat, also one that the socket itself connects to.
    ///
    /// # Examples
    /// ```
    /// let context = wiremesh::Context::new();
    /// let (left, right) = (wiremesh::Pair::in_context(&context), wiremesh::Pair::in_context(&context));
    /// left.bind("inproc://pair")?;
    /// right.connect("inproc://pair")?;
    /// left.send("ping")?;
    /// assert_eq!(right.recv()?, "ping");
    /// right.send("pong")?;
    /// assert_eq!(left.recv()?, "pong");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "ZMQ_PAIR")]
    Pair
}
sends!(Pair, "Waits while there is no peer, or it is at its mark (at most the option `send_timeout`).");
reserves!(Pair, Pair);
receives!(Pair);

face! {
    /// Publishes to whoever has subscribed to a prefix of the first frame (RFC 29). Never blocks: a subscriber at its
    /// mark misses messages, which is counted, unless the option `nodrop` is on.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let context = wiremesh::Context::new();
    /// let publisher = wiremesh::Pub::in_context(&context);
    /// let subscriber = wiremesh::Sub::in_context(&context);
    /// let endpoint = publisher.bind("tcp://127.0.0.1:*")?;
    /// subscriber.subscribe("weather.")?;
    /// subscriber.connect(&endpoint)?;
    /// publisher.wait_for_subscribers(1, Duration::from_secs(5))?;
    /// publisher.send("sports: nothing")?;
    /// publisher.send("weather.rome: sunny")?;
    /// assert_eq!(subscriber.recv()?, "weather.rome: sunny");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "ZMQ_PUB")]
    Pub
}
sends!(Pub, "Never waits, unless the option `nodrop` is on and a subscriber is at its mark.");
publishes!(Pub);

face! {
    /// Receives what matches one of its subscriptions (RFC 29). Without any it receives nothing.
    ///
    /// Subscriptions are sent again after every reconnect and are never dropped.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let context = wiremesh::Context::new();
    /// let (publisher, subscriber) = (wiremesh::Pub::in_context(&context), wiremesh::Sub::in_context(&context));
    /// let endpoint = publisher.bind("tcp://127.0.0.1:*")?;
    /// subscriber.connect(&endpoint)?;
    /// subscriber.subscribe("news.")?;
    /// publisher.wait_for_subscribers(1, Duration::from_secs(5))?;
    /// publisher.send(["sports.1", "not wanted"])?;
    /// publisher.send(["news.1", "wanted"])?;
    /// assert_eq!(subscriber.recv()?.frame(1), Some(&b"wanted"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "ZMQ_SUB")]
    Sub
}
receives!(Sub);

impl Sub {
    /// Wants messages whose first frame begins with `topic`; the empty topic is a prefix of all. Subscriptions count:
    /// each needs its own [`unsubscribe`](Sub::unsubscribe). Does not wait for publishers to learn of it.
    ///
    /// # Errors
    /// [Those of every call](Error#those-of-every-call).
    #[doc(alias = "ZMQ_SUBSCRIBE")]
    pub fn subscribe(&self, topic: impl AsRef<[u8]>) -> Result<(), Error> {
        self.0.core.subscribe(topic.as_ref())
    }

    /// Takes one subscription back; whether there was one.
    ///
    /// # Errors
    /// [Those of every call](Error#those-of-every-call).
    #[doc(alias = "ZMQ_UNSUBSCRIBE")]
    pub fn unsubscribe(&self, topic: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.0.core.unsubscribe(topic.as_ref(), false)
    }

    /// How many different topics it is subscribed to; 0 in a forked child. (libzmq: `ZMQ_TOPICS_COUNT`.)
    #[doc(alias = "ZMQ_TOPICS_COUNT")]
    pub fn topic_count(&self) -> usize {
        self.0.core.topic_count()
    }
}

face! {
    /// Asks one question at a time and waits for its answer (RFC 28).
    ///
    /// `send` and `recv` alternate strictly; [`request`](Req::request) does both. Threads may share a REQ: whole
    /// exchanges of `request` take turns. Plain `send` and `recv` of several threads see one lockstep: a send while a
    /// reply is outstanding fails with [`WrongState`](crate::SendFailure::WrongState), and so does a receive with
    /// nothing asked.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let context = wiremesh::Context::new();
    /// let server = wiremesh::Rep::in_context(&context);
    /// let endpoint = server.bind("tcp://127.0.0.1:*")?;
    /// std::thread::spawn(move || {
    ///     while let Ok(question) = server.recv() {
    ///         server.send(question).unwrap();
    ///     }
    /// });
    /// let client = wiremesh::Req::in_context(&context);
    /// client.connect(&endpoint)?;
    /// let answer = client.request("echo?", Duration::from_secs(5))?;
    /// assert_eq!(answer, "echo?");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "ZMQ_REQ")]
    Req
}
sends!(Req, "Waits while there is no peer with room (at most the option `send_timeout`).");
reserves!(
    Req,
    Rep,
    "It does not begin a request. Several threads may reserve; the first that sends has asked, and the others fail with [`WrongState`](crate::SendFailure::WrongState) unless the option `relaxed` is on."
);
receives!(Req);

impl Req {
    /// Sends a request and waits for its reply, at most `timeout` for both, a handshake that is not done yet included.
    /// When that runs out the request is given up and the socket is ready for the next one.
    ///
    /// A reply that comes too late is not taken for that of a later request: a REP is sent a number that it returns,
    /// and to any other server the connection is replaced. A REQ with a `routing_id` of its own, or one that ROUTERs
    /// connect to, wants the option `correlate` for that; see the guide on [requests](crate::guide::requests).
    ///
    /// Calls of several threads take turns, in the order in which they came. Waiting for one's turn counts against the
    /// time: where it is over before that, the error is [`RequestError::Send`] with `TimedOut`, and says that another
    /// request is under way.
    ///
    /// # Errors
    /// [`RequestError`] says how far it came.
    pub fn request(&self, message: impl IntoMessage, timeout: Duration) -> Result<Message, RequestError> {
        self.0.core.request(message.into_message(), timeout, 0)
    }

    /// As [`request`](Req::request), trying again up to `retries` times, each with a `timeout` of its own (the
    /// lazy-pirate pattern), where no answer came or the request could not be sent in time. The server may see the
    /// request more than once; the reply to an earlier attempt counts where it carries the number.
    ///
    /// # Errors
    /// [`RequestError`] of the last attempt.
    pub fn request_with_retries(
        &self,
        message: impl IntoMessage,
        timeout: Duration,
        retries: u32,
    ) -> Result<Message, RequestError> {
        self.0.core.request(message.into_message(), timeout, retries)
    }
}

face! {
    /// Answers one question at a time (RFC 28).
    ///
    /// `recv` and `send` alternate strictly. Threads that share a REP see one lockstep: a receive before the last
    /// request is answered fails with [`WrongState`](RecvError::WrongState), whoever received that request; several
    /// workers want a [`Router`] instead. A reply to a peer that is gone is dropped and counted.
    ///
    /// # Examples
    /// ```
    /// let context = wiremesh::Context::new();
    /// let (client, server) = (wiremesh::Req::in_context(&context), wiremesh::Rep::in_context(&context));
    /// server.bind("inproc://sums")?;
    /// client.connect("inproc://sums")?;
    /// client.send("1+1")?;
    /// let question = server.recv()?;
    /// assert!(server.try_recv().is_err(), "it answers first");
    /// server.send(if question == "1+1" { "2" } else { "?" })?;
    /// assert_eq!(client.recv()?, "2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "ZMQ_REP")]
    Rep
}
sends!(Rep, "Never waits: a reply to a peer that is gone or full is dropped and counted.");
receives!(Rep);

face! {
    /// Load-balanced out, fair-queued in, without lockstep (RFC 28).
    ///
    /// # Examples
    /// ```
    /// let context = wiremesh::Context::new();
    /// let (dealer, router) = (wiremesh::Dealer::in_context(&context), wiremesh::Router::in_context(&context));
    /// router.bind("inproc://tasks")?;
    /// dealer.connect("inproc://tasks")?;
    /// dealer.send_many(["first", "second"])?; // without waiting for answers
    /// for answer in ["one", "two"] {
    ///     let (id, _) = router.recv()?;
    ///     router.send_to(&id, answer)?;
    /// }
    /// assert_eq!(dealer.recv()?, "one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("ZMQ_DEALER", "ZMQ_XREQ"))]
    Dealer
}
sends!(Dealer, "Waits while there is no peer with room (at most the option `send_timeout`).");
reserves!(Dealer, Dealer);
receives!(Dealer);

face! {
    /// Knows each peer by a routing id: receives with it and sends to it (RFC 28).
    ///
    /// # Examples
    /// ```
    /// let context = wiremesh::Context::new();
    /// let router = wiremesh::Router::in_context(&context);
    /// let dealer = wiremesh::Dealer::builder().context(&context).routing_id("worker-1").build()?;
    /// let endpoint = router.bind("tcp://127.0.0.1:*")?;
    /// dealer.connect(&endpoint)?;
    /// dealer.send("ready")?;
    /// let (id, message) = router.recv()?;
    /// assert!(id == "worker-1" && message == "ready");
    /// router.send_to(&id, "job")?;
    /// assert_eq!(dealer.recv()?, "job");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("ZMQ_ROUTER", "ZMQ_XREP"))]
    Router
}

impl Router {
    /// Connects to an endpoint whose peer is known here by `id`, whatever it announces: it can be sent to at once. The
    /// option [`connect_routing_id`](crate::Options::connect_routing_id) does the same for whichever `connect` comes
    /// next; this names the endpoint. An empty id leaves it to the peer.
    ///
    /// Returns at once, as [`connect`](Socket::connect) does.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) for an id of more than 255 octets or one that begins with a zero octet;
    /// [`Error::InvalidEndpoint`](crate::Error::InvalidEndpoint) for an id in use as well; otherwise as `connect`.
    ///
    /// # Examples
    /// ```
    /// let context = wiremesh::Context::new();
    /// let (router, dealer) = (wiremesh::Router::in_context(&context), wiremesh::Dealer::in_context(&context));
    /// dealer.bind("inproc://worker")?;
    /// router.connect_as("inproc://worker", "first")?;
    /// router.send_to("first", "one job")?;
    /// assert_eq!(dealer.recv()?, "one job");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn connect_as(&self, endpoint: impl AsRef<str>, id: impl AsRef<[u8]>) -> Result<Endpoint, Error> {
        self.0.core.connect_as(endpoint.as_ref(), id.as_ref())
    }

    /// Sends a message to a peer, named by its routing id or by the [`PeerId`](crate::PeerId) that its messages carry.
    ///
    /// Without the option `mandatory` it never waits: a message for an unknown id or a full peer is dropped and
    /// counted. With it, an unknown id fails and a full peer is waited for (at most the option `send_timeout`).
    ///
    /// # Errors
    /// [`Unroutable`](crate::SendFailure::Unroutable) with `mandatory`; [`SendFailure`](crate::SendFailure) says what
    /// else.
    ///
    /// # Examples
    /// ```
    /// let context = wiremesh::Context::new();
    /// let (dealer, router) = (wiremesh::Dealer::in_context(&context), wiremesh::Router::in_context(&context));
    /// router.bind("inproc://echo")?;
    /// dealer.connect("inproc://echo")?;
    /// dealer.send("hello")?;
    /// let (id, hello) = router.recv()?;
    /// router.send_to(&id, "by routing id")?;
    /// let peer = hello.peer().expect("a received message has a sender");
    /// router.send_to(peer, "by peer")?;
    /// assert_eq!(dealer.recv()?, "by routing id");
    /// assert_eq!(dealer.recv()?, "by peer");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn send_to(&self, id: impl Addressee, message: impl IntoMessage) -> Result<(), SendError> {
        self.0.core.send(message, id.recipient().0, Wait::Option)
    }

    /// As [`send_to`](Router::send_to), if that is possible without waiting.
    ///
    /// # Errors
    /// [`WouldBlock`](crate::SendFailure::WouldBlock) where `send_to` would wait; otherwise as there.
    #[inline]
    pub fn try_send_to(&self, id: impl Addressee, message: impl IntoMessage) -> Result<(), SendError> {
        self.0.core.send(message, id.recipient().0, Wait::Never)
    }

    /// As [`send_to`](Router::send_to), waiting at most `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`](crate::SendFailure::TimedOut) when there was no room in time; otherwise as `send_to`.
    pub fn send_to_timeout(
        &self,
        id: impl Addressee,
        message: impl IntoMessage,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.0.core.send(message, id.recipient().0, Wait::For(timeout))
    }

    /// Sends messages, each to the peer named beside it, in order; says how many. Waits as `send_to` does.
    ///
    /// # Errors
    /// The first failure, with its message; those before it were sent. Pass `iterator.by_ref()` to keep those after it.
    ///
    /// # Examples
    /// ```
    /// let context = wiremesh::Context::new();
    /// let (dealer, router) = (wiremesh::Dealer::in_context(&context), wiremesh::Router::in_context(&context));
    /// router.bind("inproc://echo")?;
    /// dealer.connect("inproc://echo")?;
    /// dealer.send_many(["one", "two", "three"])?;
    /// let mut echoed = 0;
    /// while echoed < 3 {
    ///     echoed += router.send_many(router.recv_many(10)?)?;
    /// }
    /// assert_eq!(dealer.recv()?, "one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_many<I: Addressee, M: IntoMessage>(
        &self,
        messages: impl IntoIterator<Item = (I, M)>,
    ) -> Result<usize, SendError> {
        let mut sent = 0;
        for (id, message) in messages {
            self.send_to(id, message)?;
            sent += 1;
        }
        Ok(sent)
    }

    /// Reserves room for one message with a peer, named as to [`send_to`](Router::send_to); [`Reservation::send`] fills
    /// it.
    ///
    /// With the option `mandatory` it waits for room (at most the option `send_timeout`). Without, it never waits:
    /// where there is no such peer, or no room, [`Reservation::peer`] is `None`, and the message will be dropped and
    /// counted.
    ///
    /// # Errors
    /// As [`send_to`](Router::send_to).
    ///
    /// # Examples
    /// ```
    /// let context = wiremesh::Context::new();
    /// let router = wiremesh::Router::in_context(&context);
    /// let dealer = wiremesh::Dealer::builder().context(&context).routing_id("worker-1").build()?;
    /// router.bind("inproc://workers")?;
    /// dealer.connect("inproc://workers")?;
    /// assert!(router.reserve_to("worker-2")?.peer().is_none());
    /// router.reserve_to("worker-1")?.send("a job")?;
    /// assert_eq!(dealer.recv()?, "a job");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve_to(&self, id: impl Addressee) -> Result<Reservation<'_>, ReserveError> {
        self.0.core.reserve_to(id.recipient().0, Wait::Option)
    }

    /// As [`reserve_to`](Router::reserve_to), if that is possible without waiting.
    ///
    /// # Errors
    /// [`WouldBlock`](crate::SendFailure::WouldBlock) where `reserve_to` would wait; otherwise as there.
    pub fn try_reserve_to(&self, id: impl Addressee) -> Result<Reservation<'_>, ReserveError> {
        self.0.core.reserve_to(id.recipient().0, Wait::Never)
    }

    /// As [`reserve_to`](Router::reserve_to), waiting at most `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`](crate::SendFailure::TimedOut) when there was no room in time; otherwise as `reserve_to`.
    pub fn reserve_to_timeout(&self, id: impl Addressee, timeout: Duration) -> Result<Reservation<'_>, ReserveError> {
        self.0.core.reserve_to(id.recipient().0, Wait::For(timeout))
    }

    /// Receives the next message and the routing id of its sender, waiting for one (at most the option
    /// `receive_timeout`).
    ///
    /// # Errors
    /// [`RecvError`] says why there is none.
    #[doc(alias("zmq_recv", "zmq_msg_recv", "zmq_recvmsg", "zmq_recviov"))]
    pub fn recv(&self) -> Result<(RoutingId, Message), RecvError> {
        self.0.core.recv_routed(Wait::Option)
    }

    /// Receives a message if one is there.
    ///
    /// # Errors
    /// [`WouldBlock`](RecvError::WouldBlock) when none is; otherwise as `recv`.
    #[doc(alias("ZMQ_DONTWAIT", "ZMQ_NOBLOCK"))]
    pub fn try_recv(&self) -> Result<(RoutingId, Message), RecvError> {
        self.0.core.recv_routed(Wait::Never)
    }

    /// Receives the next message, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`](RecvError::TimedOut) when none came in time; otherwise as `recv`.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<(RoutingId, Message), RecvError> {
        self.0.core.recv_routed(Wait::For(timeout))
    }

    /// Receives the next message into `buffer`, and says who sent it and how many octets it has; waits for one (at most
    /// the option `receive_timeout`). What the buffer has beyond that stays as it is.
    ///
    /// It is for messages of one frame that fit. Another one is handed back whole by the error, with the routing id of
    /// its sender, and the buffer stays as it is. The routing id is not in the buffer. What a REQ sends begins with an
    /// empty frame and so has two.
    ///
    /// # Errors
    /// [`TooLong`](RecvIntoError::TooLong) and [`SeveralFrames`](RecvIntoError::SeveralFrames) hand the message back;
    /// [`Receive`](RecvIntoError::Receive) says why there is none.
    ///
    /// # Examples
    /// ```
    /// let context = wiremesh::Context::new();
    /// let (dealer, router) = (wiremesh::Dealer::in_context(&context), wiremesh::Router::in_context(&context));
    /// router.bind("inproc://echo")?;
    /// dealer.connect("inproc://echo")?;
    /// dealer.send("hello")?;
    /// let mut buffer = [0; 1024];
    /// let (id, length) = router.recv_into(&mut buffer)?;
    /// router.send_to(id, &buffer[..length])?;
    /// assert_eq!(dealer.recv()?, "hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_into(&self, buffer: &mut [u8]) -> Result<(RoutingId, usize), RecvIntoError<(RoutingId, Message)>> {
        self.0.core.recv_routed_into(buffer, Wait::Option)
    }

    /// As [`recv_into`](Router::recv_into), if a message is there.
    ///
    /// # Errors
    /// [`WouldBlock`](RecvError::WouldBlock) when none is; otherwise as `recv_into`.
    pub fn try_recv_into(&self, buffer: &mut [u8]) -> Result<(RoutingId, usize), RecvIntoError<(RoutingId, Message)>> {
        self.0.core.recv_routed_into(buffer, Wait::Never)
    }

    /// As [`recv_into`](Router::recv_into), waiting at most `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`](RecvError::TimedOut) when none came in time; otherwise as `recv_into`.
    pub fn recv_into_timeout(
        &self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> Result<(RoutingId, usize), RecvIntoError<(RoutingId, Message)>> {
        self.0.core.recv_routed_into(buffer, Wait::For(timeout))
    }

    /// Receives at least one message and at most `max`: waits for the first as `recv` does, and takes along what else
    /// is there. With a `max` of 0 it returns none, at once.
    ///
    /// # Errors
    /// As `recv`.
    pub fn recv_many(&self, max: usize) -> Result<Vec<(RoutingId, Message)>, RecvError> {
        self.0.core.recv_many_routed(max, Wait::Option)
    }

    /// The messages as they come, each a `Result`: an error ends it only where nothing will ever come any more. See
    /// [`Received`].
    pub fn iter(&self) -> Received<'_, (RoutingId, Message)> {
        Received::new(&self.0, |socket| socket.core.recv_routed(Wait::Option))
    }
}

impl<'a> IntoIterator for &'a Router {
    type Item = Result<(RoutingId, Message), RecvError>;
    type IntoIter = Received<'a, (RoutingId, Message)>;

    fn into_iter(self) -> Received<'a, (RoutingId, Message)> {
        self.iter()
    }
}

face! {
    /// Distributes messages to its peers in turn (RFC 30). Never drops: it waits when every peer is at its mark.
    ///
    /// # Who gets how much
    /// Messages are dealt out as they are sent, to the peers that are there at that moment and below their marks. So
    /// **the first worker to come takes all** that is sent before the second one, and **a slow worker gets as much as a
    /// quick one**, until it is at its mark (the option `send_mark`, 16,384 messages, and what the kernel and its own
    /// `receive_mark` hold). libzmq does the same. A worker for which 4 MiB wait is passed over while others have
    /// fewer.
    /// * [`wait_for_peers`](Socket::wait_for_peers) waits until the workers are there, as below.
    /// * Low marks at both ends keep less work with slow workers, and cost throughput.
    /// * Work that shall go to whoever is idle is not dealt out but asked for: with ROUTER and DEALER, as
    ///   [`examples/idle_workers.rs`](https://github.com/wiremesh/wiremesh/blob/main/examples/idle_workers.rs) shows in
    ///   under 60 lines.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use wiremesh::{Context, Pull, Push};
    ///
    /// let context = Context::new();
    /// let tasks = Push::in_context(&context);
    /// tasks.bind("inproc://tasks")?;
    /// let workers = [(); 3].map(|()| Pull::in_context(&context));
    /// for worker in &workers {
    ///     worker.connect("inproc://tasks")?;
    /// }
    /// tasks.wait_for_peers(workers.len(), Duration::from_secs(5))?; // else the first might get them all
    /// tasks.send_many(["one", "two", "three"])?;
    /// for worker in &workers {
    ///     worker.recv()?; // each has one
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    /// ```
    /// let context = wiremesh::Context::new();
    /// let (push, pull) = (wiremesh::Push::in_context(&context), wiremesh::Pull::in_context(&context));
    /// let endpoint = pull.bind("tcp://127.0.0.1:*")?;
    /// push.connect(&endpoint)?;
    /// push.send_many(["one", "two"])?;
    /// assert_eq!(pull.recv()?, "one");
    /// assert_eq!(pull.recv()?, "two");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "ZMQ_PUSH")]
    Push
}
sends!(Push, "Waits while there is no peer with room (at most the option `send_timeout`).");
reserves!(Push, Pull);

face! {
    /// Receives from its peers in turn (RFC 30).
    ///
    /// # Examples
    /// ```
    /// let context = wiremesh::Context::new();
    /// let sink = wiremesh::Pull::in_context(&context);
    /// let (left, right) = (wiremesh::Push::in_context(&context), wiremesh::Push::in_context(&context));
    /// sink.bind("inproc://results")?;
    /// left.connect("inproc://results")?;
    /// right.connect("inproc://results")?;
    /// left.send_many(["l1", "l2"])?;
    /// right.send_many(["r1", "r2"])?;
    /// let results = sink.iter().take(4).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(results[0], "l1"); // each peer's messages keep their order, peers take turns
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "ZMQ_PULL")]
    Pull
}
receives!(Pull);

face! {
    /// A PUB that shows its application the subscriptions, and what else subscribers send upstream (RFC 29).
    ///
    /// A received message whose first octet is 1 is a subscription to the topic that follows, one with 0 a
    /// cancellation. By default only the first subscription of each topic is shown, and its last cancellation: a second
    /// subscriber to the same topic brings no message. These options show more, or leave more to the application:
    ///
    /// | option | what it does |
    /// |---|---|
    /// | [`verbose`](crate::Options::verbose) | shows every subscription; what is sent then still goes to all who subscribed |
    /// | [`verboser`](crate::Options::verboser) | shows every cancellation as well |
    /// | [`manual`](crate::Options::manual) | shows every request, and none has an effect but by [`subscribe_last`](XPub::subscribe_last) and [`unsubscribe_last`](XPub::unsubscribe_last) |
    /// | [`manual_last_value`](crate::Options::manual_last_value) | as `manual`, and the message sent after a subscription was read goes to that subscriber alone |
    ///
    /// The last makes a cache, which tells each newcomer the last value of its topic, and nobody else:
    ///
    /// ```
    /// use wiremesh::{Context, Sub, XPub};
    ///
    /// let context = Context::new();
    /// let publisher = XPub::builder().context(&context).manual_last_value(true).build()?;
    /// publisher.bind("inproc://values")?;
    /// let last_value = "news: none";
    /// let subscribers = [Sub::in_context(&context), Sub::in_context(&context)];
    /// for subscriber in &subscribers {
    ///     subscriber.subscribe("news")?;
    ///     subscriber.connect("inproc://values")?;
    ///     let request = publisher.recv()?;
    ///     if let Some((1, topic)) = request.first().split_first() {
    ///         publisher.subscribe_last(topic)?;
    ///         publisher.send(last_value)?; // to this subscriber alone
    ///     }
    ///     assert_eq!(subscriber.recv()?, last_value);
    /// }
    /// publisher.send("news: some")?; // to all
    /// for subscriber in &subscribers {
    ///     assert_eq!(subscriber.recv()?, "news: some");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Examples
    /// ```
    /// let context = wiremesh::Context::new();
    /// let (publisher, subscriber) = (wiremesh::XPub::in_context(&context), wiremesh::Sub::in_context(&context));
    /// let endpoint = publisher.bind("tcp://127.0.0.1:*")?;
    /// subscriber.connect(&endpoint)?;
    /// subscriber.subscribe("news")?;
    /// assert_eq!(publisher.recv()?, b"\x01news");
    /// publisher.send("news: none")?;
    /// assert_eq!(subscriber.recv()?, "news: none");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "ZMQ_XPUB")]
    XPub
}
sends!(XPub, "Never waits, unless the option `nodrop` is on and a subscriber is at its mark.");
receives!(XPub);
publishes!(XPub);

impl XPub {
    /// With the option `manual`: subscribes the peer whose request was received last to `topic`. `false` if that peer
    /// is gone.
    ///
    /// # Errors
    /// [`Error::Option`] without `manual`; [those of every call](Error#those-of-every-call).
    pub fn subscribe_last(&self, topic: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.0.core.subscribe_last(topic.as_ref(), true)
    }

    /// With the option `manual`: ends a subscription of the peer whose request was received last. `false` if that peer
    /// is gone.
    ///
    /// # Errors
    /// [`Error::Option`] without `manual`; [those of every call](Error#those-of-every-call).
    pub fn unsubscribe_last(&self, topic: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.0.core.subscribe_last(topic.as_ref(), false)
    }
}

face! {
    /// A SUB whose subscriptions are messages, and which may send others upstream (RFC 29).
    ///
    /// Sending a message whose first octet is 1 subscribes to the topic that follows, one with 0 takes that back. It
    /// does not filter what it receives: publishers do.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let context = wiremesh::Context::new();
    /// let (publisher, subscriber) = (wiremesh::Pub::in_context(&context), wiremesh::XSub::in_context(&context));
    /// let endpoint = publisher.bind("tcp://127.0.0.1:*")?;
    /// subscriber.connect(&endpoint)?;
    /// subscriber.send(b"\x01news")?;
    /// publisher.wait_for_subscribers(1, Duration::from_secs(5))?;
    /// publisher.send("news: none")?;
    /// assert_eq!(subscriber.recv()?, "news: none");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "ZMQ_XSUB")]
    XSub
}
receives!(XSub);

impl XSub {
    /// Sends a message upstream: a subscription if its first octet is 1, a cancellation if it is 0, anything else for
    /// XPUBs to receive. Never waits: what a publisher has no room for is dropped and counted, subscriptions excepted.
    ///
    /// # Errors
    /// [`SendFailure`](crate::SendFailure) says why; the message is handed back.
    #[doc(alias("zmq_send", "zmq_msg_send", "zmq_sendmsg", "zmq_send_const", "zmq_sendiov"))]
    pub fn send(&self, message: impl IntoMessage) -> Result<(), SendError> {
        self.0.core.send_upstream(message.into_message())
    }

    /// The same as [`send`](XSub::send), which never waits.
    ///
    /// # Errors
    /// As `send`.
    #[doc(alias("ZMQ_DONTWAIT", "ZMQ_NOBLOCK"))]
    pub fn try_send(&self, message: impl IntoMessage) -> Result<(), SendError> {
        self.send(message)
    }

    /// The same as [`send`](XSub::send), which never waits, whatever the `timeout`.
    ///
    /// # Errors
    /// As `send`.
    pub fn send_timeout(&self, message: impl IntoMessage, timeout: Duration) -> Result<(), SendError> {
        // It is there because all who send have it.
        let _ = timeout;
        self.send(message)
    }

    /// Sends messages upstream in order and says how many.
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

    /// Subscribes to a topic: the same as sending it behind an octet 1.
    ///
    /// # Errors
    /// [Those of every call](Error#those-of-every-call).
    #[doc(alias = "ZMQ_SUBSCRIBE")]
    pub fn subscribe(&self, topic: impl AsRef<[u8]>) -> Result<(), Error> {
        self.0.core.subscribe(topic.as_ref())
    }

    /// Takes a subscription back: the same as sending it behind an octet 0. Whether there was one.
    ///
    /// # Errors
    /// [Those of every call](Error#those-of-every-call).
    #[doc(alias = "ZMQ_UNSUBSCRIBE")]
    pub fn unsubscribe(&self, topic: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.0.core.unsubscribe(topic.as_ref(), self.0.core.switch().verbose_unsubscribe)
    }

    /// How many different topics it is subscribed to; 0 in a forked child. (libzmq: `ZMQ_TOPICS_COUNT`.)
    #[doc(alias = "ZMQ_TOPICS_COUNT")]
    pub fn topic_count(&self) -> usize {
        self.0.core.topic_count()
    }
}
