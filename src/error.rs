//! What can go wrong, said once for every socket. Each error names the culprit and, where the caller can fix it, the
//! fix.

use crate::kind::SocketKind;
use crate::message::Message;
use std::borrow::Cow;
use std::{fmt, io};
use thiserror::Error as ThisError;

/// Why a call other than send and receive failed.
///
/// # Those of every call
/// Each call of a socket that returns an `Error` may return these three, whatever it does. `# Errors` sections refer to
/// them as those of every call:
/// * [`Closed`](Error::Closed): the socket or its context has been closed, before the call or while it waited;
/// * [`Failed`](Error::Failed): code that ran for the socket has panicked, which has closed it;
/// * [`Forked`](Error::Forked): this is a forked child, and the socket is its parent's.
///
/// None of them passes: the call will not succeed later. [`SendFailure`] and [`RecvError`] have the same three. What
/// cannot fail ([`stats`](crate::Socket::stats), [`options`](crate::Socket::options) and the like) answers on a closed
/// socket as well, and in a forked child that there is nothing. [`Builder::build`](crate::Builder::build) fails with
/// [`Error::Option`] alone.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The endpoint's text is not of the form its transport asks for.
    #[doc(alias = "EINVAL")]
    #[error("endpoint `{}` is not valid: {reason}", shortened(.endpoint))]
    InvalidEndpoint {
        /// The text given.
        endpoint: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// No transport is registered for the endpoint's scheme.
    #[doc(alias = "EPROTONOSUPPORT")]
    #[error("no transport is registered for `{}`; there are {known}", shortened(.endpoint))]
    UnknownScheme {
        /// The endpoint given.
        endpoint: String,
        /// The schemes that are known, separated by commas.
        known: String,
    },
    /// Somebody is bound there already.
    #[doc(alias = "EADDRINUSE")]
    #[error("`{}` is in use already", shortened(.endpoint))]
    AddressInUse {
        /// The endpoint given.
        endpoint: String,
    },
    /// The socket has no such endpoint.
    #[doc(alias = "ENOENT")]
    #[error("the socket is not {verb} `{}`; it has {known}", shortened(.endpoint))]
    NoSuchEndpoint {
        /// The endpoint given.
        endpoint: String,
        /// `bound to` or `connected to`.
        verb: &'static str,
        /// The endpoints it does have, or `none`.
        known: String,
    },
    /// The system refused.
    #[error("{action} `{}` failed: {source}", shortened(.subject))]
    System {
        /// What was tried, such as `binding`.
        action: &'static str,
        /// What it was tried on.
        subject: String,
        /// What the system said. It stands in the text, and so not behind [`source`](std::error::Error::source).
        r#source: io::Error,
    },
    /// An option's value or its moment is not allowed.
    #[error("option `{option}`: {reason}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// The socket's kind has no such operation.
    #[doc(alias = "ENOTSUP")]
    #[error("{kind} sockets do not {operation}")]
    NotSupported {
        /// The kind of the socket.
        kind: SocketKind,
        /// What they do not do.
        operation: &'static str,
    },
    /// The time given ran out.
    #[error("timed out: {waiting_for}")]
    TimedOut {
        /// What did not happen in time.
        waiting_for: String,
    },
    /// The socket or its context has been closed.
    #[doc(alias = "ETERM")]
    #[doc(alias = "ENOTSOCK")]
    #[error("the socket or its context is closed")]
    Closed,
    /// Code that ran for the socket panicked: that of a registered transport, or the library's own. The socket is
    /// closed and stays so; others go on. The monitor tells what the panic said.
    #[error("the socket has failed: code that ran for it panicked")]
    Failed,
    /// The socket was made before a fork and is used in the child; make a new context there.
    #[error("sockets of the parent process cannot be used in a forked child; create a new context there")]
    Forked,
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match &error {
            Error::InvalidEndpoint { .. } | Error::Option { .. } => io::ErrorKind::InvalidInput,
            Error::UnknownScheme { .. } | Error::NotSupported { .. } => io::ErrorKind::Unsupported,
            Error::AddressInUse { .. } => io::ErrorKind::AddrInUse,
            Error::NoSuchEndpoint { .. } => io::ErrorKind::NotFound,
            Error::System { source, .. } => source.kind(),
            Error::TimedOut { .. } => io::ErrorKind::TimedOut,
            Error::Closed => io::ErrorKind::NotConnected,
            Error::Failed | Error::Forked => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// How an error names an endpoint, or a part of one, without repeating four kilobytes of it. A control character, such
/// as the end of a line of a file, is escaped, because it would be seen as anything but a part of the endpoint.
pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    const SHOWN: usize = 128;
    let cut = text.char_indices().nth(SHOWN).and_then(|(cut, _)| text.get(..cut));
    let shown = cut.unwrap_or(text);
    if cut.is_none() && !shown.contains(char::is_control) {
        return text.into();
    }
    let mut named = String::new();
    for c in shown.chars() {
        if c.is_control() { named.extend(c.escape_default()) } else { named.push(c) }
    }
    if cut.is_some() {
        named.push('…');
    }
    named.into()
}

/// A message that was not sent, and why. The message is handed back.
#[derive(Debug, ThisError)]
#[error("message not sent: {}", self.why())]
#[non_exhaustive]
pub struct SendError {
    /// Why it was not sent.
    pub reason: SendFailure,
    /// The message, as it was given.
    pub message: Message,
    /// What was missing, where it was not room at a peer alone. If no peer was there in time, how many there are and
    /// what keeps the others away, such as `0 of 1 peers: connection refused by 127.0.0.1:1, 14 attempts`, which
    /// `try_send` and its relatives say only of a socket that has no endpoint. If the context's
    /// [`byte_budget`](crate::ContextBuilder::byte_budget) is used up, that. If a `request` waited for one of another
    /// thread, that. With `Unroutable` the routing id.
    pub missing: Option<Missing>,
}

impl SendError {
    /// The reason, and what was missing.
    pub(crate) fn why(&self) -> impl fmt::Display + '_ {
        Why(self.reason, self.missing.as_ref())
    }
}

/// No room was reserved, and why. It can be compared with a [`SendFailure`], which is its reason.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("no room was reserved: {}", Why(self.reason, self.missing.as_ref()))]
#[non_exhaustive]
pub struct ReserveError {
    /// Why not.
    pub reason: SendFailure,
    /// What was missing, as in a [`SendError`].
    pub missing: Option<Missing>,
}

impl PartialEq<SendFailure> for ReserveError {
    fn eq(&self, reason: &SendFailure) -> bool {
        self.reason == *reason
    }
}

/// What kept a message from being sent, or room from being reserved, as text for people.
#[derive(Clone, PartialEq, Eq)]
pub struct Missing(Box<Lack>);

#[derive(Clone, PartialEq, Eq)]
struct Lack {
    what: What,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// All peers, of whom nobody is there.
    EveryPeer,
    /// The turn of this thread's request.
    Turn,
    /// Something else, such as some of the peers.
    Other,
}

impl Missing {
    pub(crate) fn new(text: impl Into<String>) -> Missing {
        Missing(Box::new(Lack { what: What::Other, text: text.into() }))
    }

    /// Peers: how many of how many are there, and why not all of them.
    pub(crate) fn peers(there: usize, wanted: usize, why: &str) -> Missing {
        let text = format!("{there} of {wanted} peers: {why}");
        Missing(Box::new(Lack { what: if there == 0 { What::EveryPeer } else { What::Other }, text }))
    }

    /// It was the turn of another thread all the time.
    pub(crate) fn turn() -> Missing {
        let text = "another request of this socket was under way all the time".to_owned();
        Missing(Box::new(Lack { what: What::Turn, text }))
    }

    /// That, and something else.
    pub(crate) fn and(mut self, other: &str) -> Missing {
        self.0.text.push_str("; ");
        self.0.text.push_str(other);
        self
    }

    /// Whether nobody was there to be sent anything, rather than that those who were there had no room.
    pub fn is_every_peer(&self) -> bool {
        self.0.what == What::EveryPeer
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }
}

impl std::ops::Deref for Missing {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl From<Missing> for Box<str> {
    fn from(missing: Missing) -> Box<str> {
        missing.0.text.into()
    }
}

/// A reason, and what was missing.
struct Why<'a>(SendFailure, Option<&'a Missing>);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Why(reason, missing) = self;
        match missing {
            // It was named by a `PeerId`, which says nothing to people.
            None if *reason == SendFailure::Unroutable => {
                f.write_str("the peer of that `PeerId` is gone, or is one of another socket")
            }
            None => write!(f, "{reason}"),
            // Who waits for its turn has not looked for room.
            Some(missing) if missing.0.what == What::Turn => write!(f, "{missing}"),
            // Without a peer there is none that could have room.
            Some(missing) if *reason == SendFailure::TimedOut && missing.is_every_peer() => {
                write!(f, "no peer was there in time ({missing})")
            }
            // A call that does not wait says so only where waiting would not help either.
            Some(missing) if *reason == SendFailure::WouldBlock && missing.is_every_peer() => {
                write!(f, "no peer can be there before `bind` or `connect` is called ({missing})")
            }
            Some(missing) => write!(f, "{reason} ({missing})"),
        }
    }
}

/// Why a message was not sent, or no room reserved for one.
///
/// *Relatives* of `send` and `reserve` are those with a routing id, a peer or a topic (`send_to`, `reserve_to`, a
/// publisher's `reserve`), and `try_` and `_timeout` of each. `send_many` sends as `send` does,
/// [`Reservation::send`](crate::Reservation::send) as `try_send`, and a REQ's `request` as `send_timeout`.
///
/// Any of them may end with [`Closed`](SendFailure::Closed), [`Failed`](SendFailure::Failed) or
/// [`Forked`](SendFailure::Forked); which of the others are possible depends on the kind of the socket and the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum SendFailure {
    /// `try_send`, `try_reserve` and their relatives: every peer is at its high-water mark, or one that the message has
    /// to reach is (of a ROUTER with the option `mandatory`, or a publisher with `nodrop`), or there is no peer, or the
    /// context's [`byte_budget`](crate::ContextBuilder::byte_budget) is used up; [`SendError::missing`] and
    /// [`ReserveError::missing`] tell the last.
    #[doc(alias = "EAGAIN")]
    #[error("no peer has room now, or there is none")]
    WouldBlock,
    /// `send_timeout`, `reserve_timeout` and their relatives, or `send` and `reserve` with the option `send_timeout`:
    /// there was no room in time, where `try_send` would find none. [`SendError::missing`] and
    /// [`ReserveError::missing`] tell of missing peers and of a budget that is used up.
    #[doc(alias = "EAGAIN")]
    #[error("no peer had room in time")]
    TimedOut,
    /// The socket or its context has been closed.
    #[doc(alias = "ETERM")]
    #[doc(alias = "ENOTSOCK")]
    #[error("the socket or its context is closed")]
    Closed,
    /// The pattern does not allow a send or a reservation now: a REQ waits for its reply (receive it, set the option
    /// `relaxed`, or always ask by [`request`](crate::Req::request)), or has asked something since the room was
    /// reserved; a REP has no request to answer.
    #[doc(alias = "EFSM")]
    #[error("the pattern does not allow a send now: {0}")]
    WrongState(&'static str),
    /// The socket has failed; see [`Error::Failed`].
    #[error("the socket has failed: code that ran for it panicked")]
    Failed,
    /// ROUTER with the option `mandatory`: no peer has that routing id, which [`SendError::missing`] and
    /// [`ReserveError::missing`] name, or that [`PeerId`](crate::PeerId).
    #[doc(alias = "EHOSTUNREACH")]
    #[error("no peer has that routing id")]
    Unroutable,
    /// The message has a form the pattern has no use for: a ROUTER's that begins with no routing id.
    #[error("the message is not acceptable: {0}")]
    Unacceptable(&'static str),
    /// The message is larger than what the socket sends (its option `max_message_size`), than what any of its peers
    /// accepts, or of a ROUTER with the option `mandatory` the one addressed: those of this library announce theirs. No
    /// reservation ends so, but a message sent into one may.
    #[error(
        "the message has {size} octets, and no more than {limit} are accepted (option `max_message_size`, ours or the peer's)"
    )]
    TooLarge {
        /// How many octets its frames have together.
        size: u64,
        /// How many are accepted.
        limit: u64,
    },
    /// As [`TooLarge`](SendFailure::TooLarge), of frames (option `max_message_frames`): where some peers refuse the
    /// octets of the message, it is the frames that the others refuse. What a REQ puts in front of a request, one or
    /// two frames, counts for a peer.
    #[error(
        "the message has {frames} frames, and no more than {limit} are accepted (option `max_message_frames`, ours or the peer's)"
    )]
    TooManyFrames {
        /// How many frames it has.
        frames: u64,
        /// How many are accepted.
        limit: u64,
    },
    /// An [`AnySocket`](crate::AnySocket) of a kind that does not send in this way: at all, by routing id, as a
    /// request, or into room reserved like that. PUB, XPUB and ROUTER reserve by
    /// [`reserve_to`](crate::AnySocket::reserve_to), PUSH, DEALER, PAIR and REQ by
    /// [`reserve`](crate::AnySocket::reserve), the others not at all.
    #[error("{kind} sockets do not {operation}")]
    NotSupported {
        /// The kind of the socket.
        kind: SocketKind,
        /// What they do not do.
        operation: &'static str,
    },
    /// The socket was made before a fork and is used in the child.
    #[error("sockets of the parent process cannot be used in a forked child")]
    Forked,
}

impl SendFailure {
    fn kind(self) -> io::ErrorKind {
        match self {
            SendFailure::WouldBlock => io::ErrorKind::WouldBlock,
            SendFailure::TimedOut => io::ErrorKind::TimedOut,
            SendFailure::Closed => io::ErrorKind::NotConnected,
            SendFailure::WrongState(_) | SendFailure::Failed | SendFailure::Forked => io::ErrorKind::Other,
            SendFailure::Unroutable => io::ErrorKind::HostUnreachable,
            SendFailure::Unacceptable(_) | SendFailure::TooLarge { .. } | SendFailure::TooManyFrames { .. } => {
                io::ErrorKind::InvalidInput
            }
            SendFailure::NotSupported { .. } => io::ErrorKind::Unsupported,
        }
    }
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> io::Error {
        io::Error::new(error.reason.kind(), error)
    }
}

impl From<ReserveError> for SendFailure {
    fn from(error: ReserveError) -> SendFailure {
        error.reason
    }
}

impl From<ReserveError> for io::Error {
    fn from(error: ReserveError) -> io::Error {
        io::Error::new(error.reason.kind(), error)
    }
}

impl From<SendFailure> for io::Error {
    fn from(reason: SendFailure) -> io::Error {
        io::Error::new(reason.kind(), reason)
    }
}

/// Why no message was received.
///
/// Any receive may end with [`Closed`](RecvError::Closed), [`Failed`](RecvError::Failed) or
/// [`Forked`](RecvError::Forked); which of the others are possible depends on the kind of the socket and the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum RecvError {
    /// `try_recv`: nothing is there now.
    #[doc(alias = "EAGAIN")]
    #[error("no message is there now")]
    WouldBlock,
    /// `recv_timeout`, or the option `receive_timeout`: nothing came in time. Where nothing ever comes, the reason may
    /// be a SUB that has not subscribed, or peers that are not there: [`endpoints`](crate::Socket::endpoints) says why
    /// not, and so does [`wait_for_peers`](crate::Socket::wait_for_peers).
    #[doc(alias = "EAGAIN")]
    #[error("no message came in time")]
    TimedOut,
    /// The socket or its context has been closed.
    #[doc(alias = "ETERM")]
    #[doc(alias = "ENOTSOCK")]
    #[error("the socket or its context is closed")]
    Closed,
    /// The socket has failed; see [`Error::Failed`].
    #[error("the socket has failed: code that ran for it panicked")]
    Failed,
    /// The pattern does not allow a receive now: a REQ has asked nothing, a REP has not answered yet.
    #[doc(alias = "EFSM")]
    #[error("the pattern does not allow a receive now: {0}")]
    WrongState(&'static str),
    /// An [`AnySocket`](crate::AnySocket) of a kind that does not receive, or not in this way.
    #[error("{kind} sockets do not {operation}")]
    NotSupported {
        /// The kind of the socket.
        kind: SocketKind,
        /// What they do not do.
        operation: &'static str,
    },
    /// The socket was made before a fork and is used in the child.
    #[error("sockets of the parent process cannot be used in a forked child")]
    Forked,
}

impl From<RecvError> for io::Error {
    fn from(error: RecvError) -> io::Error {
        let kind = match error {
            RecvError::WouldBlock => io::ErrorKind::WouldBlock,
            RecvError::TimedOut => io::ErrorKind::TimedOut,
            RecvError::Closed => io::ErrorKind::NotConnected,
            RecvError::WrongState(_) | RecvError::Failed | RecvError::Forked => io::ErrorKind::Other,
            RecvError::NotSupported { .. } => io::ErrorKind::Unsupported,
        };
        io::Error::new(kind, error)
    }
}
