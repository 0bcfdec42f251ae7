//! What a monitor sees: the life of a socket's endpoints and connections, with causes.

use crate::budget::BudgetHalf;
use crate::kind::SocketKind;
use crate::peer::PeerId;
use crate::protocol::ProtocolError;
use crate::stats::Unsent;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened to an endpoint or a connection of a socket.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The endpoint of ours it concerns, as given to `bind` or `connect`, with a wildcard resolved.
    pub endpoint: Arc<str>,
    /// The address of the other side, if known, without scheme.
    pub address: Option<Arc<str>>,
    /// The peer, once its handshake has succeeded.
    pub peer: Option<PeerId>,
}

/// What happened. The names follow libzmq's monitor events.
#[doc(alias(
    "zmq_socket_monitor",
    "zmq_socket_monitor_versioned",
    "ZMQ_EVENT_ALL",
    "ZMQ_EVENT_ALL_V1",
    "ZMQ_EVENT_ALL_V2"
))]
#[doc(alias("ZMQ_CURRENT_EVENT_VERSION", "ZMQ_CURRENT_EVENT_VERSION_DRAFT"))]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// A listener is open. Told before `bind` returns.
    #[doc(alias = "ZMQ_EVENT_LISTENING")]
    Listening,
    /// A listener could not be opened: the address is in use, or the system refused. `bind` has returned that as an
    /// error. If the poll refused it later, this follows `Listening`.
    #[doc(alias = "ZMQ_EVENT_BIND_FAILED")]
    BindFailed(Cause),
    /// A connection was accepted; its handshake follows.
    #[doc(alias = "ZMQ_EVENT_ACCEPTED")]
    Accepted,
    /// A connection could not be accepted; accepting pauses and goes on by itself.
    #[doc(alias = "ZMQ_EVENT_ACCEPT_FAILED")]
    AcceptFailed(Cause),
    /// A connection attempt is under way, and did not succeed at once.
    #[doc(alias = "ZMQ_EVENT_CONNECT_DELAYED")]
    ConnectDelayed,
    /// A connection of ours is up; its handshake follows.
    #[doc(alias = "ZMQ_EVENT_CONNECTED")]
    Connected,
    /// A connection attempt failed or a connection was lost; the next attempt comes after this time.
    #[doc(alias = "ZMQ_EVENT_CONNECT_RETRIED")]
    ConnectRetried(Duration),
    /// The handshake is complete: messages flow.
    #[doc(alias = "ZMQ_EVENT_HANDSHAKE_SUCCEEDED")]
    HandshakeSucceeded,
    /// The handshake failed.
    #[doc(alias = "ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL")]
    #[doc(alias = "ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL")]
    #[doc(alias = "ZMQ_EVENT_HANDSHAKE_FAILED_AUTH")]
    HandshakeFailed(Cause),
    /// The peer said something that has no place in the protocol and does no harm, such as a second READY or a command
    /// nobody knows, or something that would have been a reason to refuse it if it had not been told before that the
    /// socket is ready: a routing id that is in use ([`handover`](crate::Options::handover)), or metadata for which
    /// there is no room. The connection goes on. Told once of each sort and connection.
    Oddity(Cause),
    /// An established or half-open connection is gone.
    #[doc(alias = "ZMQ_EVENT_DISCONNECTED")]
    Disconnected(Cause),
    /// A listener, or a connection attempt, was closed.
    #[doc(alias("ZMQ_EVENT_CLOSED", "ZMQ_EVENT_CLOSE_FAILED"))]
    Closed(Cause),
    /// What was closed, an endpoint or, where none is named, the socket, has lingered long enough: these messages are
    /// given up.
    Unsent(Unsent),
    /// A message was given up, because its peer does not take it. Those behind it go on.
    GivenUp {
        /// How many octets its frames have together.
        octets: u64,
        /// What the peer did.
        refusal: Refusal,
    },
    /// A publisher is not told of subscriptions any more, because it does not take them: a topic of more than 1 MiB
    /// travels in a message, and the peer has announced that it accepts none so long, or a peer that announces nothing
    /// ends its connections over one ([`give_up_after`](crate::Options::give_up_after)). Told once for all that a new
    /// connection is not told because they are too long, and for each that is asked for while there is one. The others
    /// go on; `Stats` do not count these.
    SubscriptionsGivenUp {
        /// How many there are.
        count: u64,
        /// How many octets the longest of them would take.
        octets: u64,
        /// What the peer did.
        refusal: Refusal,
    },
    /// One of the two halves of the context's [`byte_budget`](crate::ContextBuilder::byte_budget) is used up. Until a
    /// quarter of that half is free again, sockets that hold much of it take no second message for a peer, or read none
    /// from it. Told to every socket of the context.
    BudgetReached(Shortage),
    /// The last event of a monitor: the socket was closed.
    #[doc(alias = "ZMQ_EVENT_MONITOR_STOPPED")]
    MonitorStopped,
}

/// Which half of the context's budget is used up, and who holds it. What sockets hold is told in full, with the 64 KiB
/// of each that are not counted against the budget, and that [`bytes_held`](crate::Context::bytes_held) leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortage {
    /// Which half.
    pub half: BudgetHalf,
    /// How many octets that half has.
    pub limit: u64,
    /// How many the socket has that this is told to.
    pub own: u64,
    /// How many the socket has that holds most, …
    pub largest: u64,
    /// … what kind it is …
    pub kind: SocketKind,
    /// … and the first of its endpoints; empty if it has none any more.
    pub endpoint: Arc<str>,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shortage { half, limit, own, largest, kind, endpoint } = self;
        write!(f, "the {half} half of `byte_budget`, {limit} octets, is used up: a {kind}")?;
        if !endpoint.is_empty() {
            write!(f, " at {endpoint}")?;
        }
        write!(f, " holds {largest}, this socket {own}")
    }
}

/// How a peer shows that it does not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It has announced that it accepts no more than this.
    Announced {
        /// Its `max_message_size` in octets.
        limit: u64,
    },
    /// It has announced that it accepts fewer frames in one message.
    TooManyFrames {
        /// How many the message has.
        frames: u64,
        /// Its `max_message_frames`.
        limit: u64,
    },
    /// It ended so many connections in a row, each after a second or more, while what was given up was being written.
    Closed {
        /// How many.
        times: u32,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Announced { limit } => write!(f, "the peer accepts no more than {limit} octets"),
            Refusal::TooManyFrames { frames, limit } => {
                write!(f, "it has {frames} frames, and the peer accepts no more than {limit}")
            }
            Refusal::Closed { times } => {
                write!(f, "the peer closed the connection {times} times in a row while it was being written")
            }
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.endpoint.is_empty() {
            write!(f, "{}: ", self.endpoint)?;
        }
        fmt::Display::fmt(&self.kind, f)?;
        // The ends of ipc and inproc links may have no name.
        match self.address.as_deref().filter(|address| !address.is_empty()) {
            Some(address) => write!(f, " ({address})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventKind::Listening => f.write_str("listening"),
            EventKind::BindFailed(cause) => write!(f, "bind failed: {cause}"),
            EventKind::Accepted => f.write_str("accepted"),
            EventKind::AcceptFailed(cause) => write!(f, "accept failed: {cause}"),
            EventKind::ConnectDelayed => f.write_str("connecting"),
            EventKind::Connected => f.write_str("connected"),
            EventKind::ConnectRetried(wait) => write!(f, "next attempt in {:?}", rounded(*wait)),
            EventKind::HandshakeSucceeded => f.write_str("handshake succeeded"),
            EventKind::HandshakeFailed(cause) => write!(f, "handshake failed: {cause}"),
            EventKind::Oddity(cause) => write!(f, "ignored: {cause}"),
            EventKind::Disconnected(cause) => write!(f, "disconnected: {cause}"),
            EventKind::Closed(cause) => write!(f, "closed: {cause}"),
            EventKind::Unsent(unsent) => write!(f, "given up: {unsent}"),
            EventKind::GivenUp { octets, refusal } => write!(f, "a message of {octets} octets was given up: {refusal}"),
            EventKind::SubscriptionsGivenUp { count: 1, octets, refusal } => {
                write!(f, "a subscription of {octets} octets was given up: {refusal}")
            }
            EventKind::SubscriptionsGivenUp { count, octets, refusal } => {
                write!(f, "{count} subscriptions of up to {octets} octets were given up: {refusal}")
            }
            EventKind::BudgetReached(shortage) => fmt::Display::fmt(shortage, f),
            EventKind::MonitorStopped => f.write_str("monitor stopped"),
        }
    }
}

/// A time as people read it: in whole milliseconds, unless it is shorter.
fn rounded(time: Duration) -> Duration {
    match time.as_millis() {
        0 => time,
        millis => u64::try_from(millis).map_or(time, Duration::from_millis),
    }
}

/// Why.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// We closed it: `close`, `unbind`, `disconnect`, or the context was shut down.
    #[error("closed by us")]
    Local,
    /// The peer closed the connection.
    #[error("closed by the peer")]
    Peer,
    /// The system reported an error.
    #[error("{0}")]
    System(Arc<io::Error>),
    /// The peer broke the protocol, refused us or was silent for too long.
    #[doc(alias("ZMQ_PROTOCOL_ERROR_ZMTP_UNSPECIFIED", "ZMQ_PROTOCOL_ERROR_ZMTP_UNEXPECTED_COMMAND"))]
    #[doc(alias("ZMQ_PROTOCOL_ERROR_ZMTP_INVALID_SEQUENCE", "ZMQ_PROTOCOL_ERROR_ZMTP_KEY_EXCHANGE"))]
    #[doc(alias(
        "ZMQ_PROTOCOL_ERROR_ZMTP_MALFORMED_COMMAND_UNSPECIFIED",
        "ZMQ_PROTOCOL_ERROR_ZMTP_MALFORMED_COMMAND_MESSAGE"
    ))]
    #[doc(alias(
        "ZMQ_PROTOCOL_ERROR_ZMTP_MALFORMED_COMMAND_HELLO",
        "ZMQ_PROTOCOL_ERROR_ZMTP_MALFORMED_COMMAND_INITIATE"
    ))]
    #[doc(alias("ZMQ_PROTOCOL_ERROR_ZMTP_MALFORMED_COMMAND_ERROR", "ZMQ_PROTOCOL_ERROR_ZMTP_MALFORMED_COMMAND_READY"))]
    #[doc(alias("ZMQ_PROTOCOL_ERROR_ZMTP_MALFORMED_COMMAND_WELCOME", "ZMQ_PROTOCOL_ERROR_ZMTP_INVALID_METADATA"))]
    #[doc(alias("ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC", "ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH"))]
    #[error("{0}")]
    Protocol(ProtocolError),
    /// There is no place for this peer now: a second peer of a PAIR, a routing id that is taken, or more connections
    /// than the option `max_connections` allows. The peer sees its connection end within the handshake, and tries
    /// again.
    #[error("refused: {0}")]
    Refused(Cow<'static, str>),
    /// A newcomer took its place: another peer with the same routing id under `handover`, or a half-open connection
    /// evicted because the listener had too many.
    #[error("replaced: {0}")]
    Replaced(&'static str),
    /// Code that ran for the socket panicked with this text: the socket has failed, and all its endpoints with it.
    #[error("the socket has failed: {0}")]
    Failed(Arc<str>),
    /// Its message was not whole and stood still while such messages took most of the context's
    /// [`byte_budget`](crate::ContextBuilder::byte_budget).
    #[error("over a limit: {0}")]
    Limit(&'static str),
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Cause {
        Cause::System(Arc::new(error))
    }
}

impl EventKind {
    /// libzmq's bit for this event (`ZMQ_EVENT_CONNECTED` is 0x0001); 0 for those that libzmq does not have.
    pub fn number(&self) -> u16 {
        match self {
            EventKind::Connected => 0x0001,
            EventKind::ConnectDelayed => 0x0002,
            EventKind::ConnectRetried(_) => 0x0004,
            EventKind::Listening => 0x0008,
            EventKind::BindFailed(_) => 0x0010,
            EventKind::Accepted => 0x0020,
            EventKind::AcceptFailed(_) => 0x0040,
            EventKind::Closed(_) => 0x0080,
            EventKind::Disconnected(_) => 0x0200,
            EventKind::Oddity(_) => 0,
            EventKind::MonitorStopped => 0x0400,
            EventKind::Unsent(_) => 0,
            EventKind::HandshakeFailed(Cause::Protocol(error)) if error.is_refusal() => 0x4000,
            EventKind::HandshakeFailed(Cause::Protocol(_)) => 0x2000,
            EventKind::HandshakeFailed(_) => 0x0800,
            EventKind::HandshakeSucceeded => 0x1000,
            // libzmq has no such event.
            EventKind::GivenUp { .. } | EventKind::SubscriptionsGivenUp { .. } | EventKind::BudgetReached(_) => 0,
        }
    }
}
