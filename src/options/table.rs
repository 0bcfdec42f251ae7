//! The table itself, and the macro that unfolds it.

use super::{Effect, IntoValue, OptionRow};
use crate::error::Error;
use crate::kind::SocketKind::{self, *};
use crate::profile::Profile;
use crate::protocol::metadata::check_application;
use bytes::Bytes;
use std::time::Duration;

const ALL: &[SocketKind] = &SocketKind::ALL;
const SENDERS: &[SocketKind] = &[Pair, Pub, Req, Rep, Dealer, Router, Push, XPub, XSub];
const TELLERS: &[SocketKind] = &[Pair, Pub, Sub, Req, Rep, Dealer, Router, Push, XPub, XSub];
const RECEIVERS: &[SocketKind] = &[Pair, Sub, Req, Rep, Dealer, Router, Pull, XPub, XSub];
const PUBLISHERS: &[SocketKind] = &[Pub, XPub];
const BY_TOPIC: &[SocketKind] = &[Pub, Sub, XPub, XSub];
const CONFLATING: &[SocketKind] = &[Push, Pull, Pub, Sub, Dealer];
const IDENTIFIED: &[SocketKind] = &[Req, Dealer, Router];
const ROUTERS: &[SocketKind] = &[Router];
const DEALERS: &[SocketKind] = &[Dealer];
const GREETERS: &[SocketKind] = &[Dealer, Router];
const REQUESTERS: &[SocketKind] = &[Req];
const XPUBS: &[SocketKind] = &[XPub];
const XSUBS: &[SocketKind] = &[XSub];

/// What the documentation says of when a change takes effect.
macro_rules! effect {
    (Live) => {
        "at once"
    };
    (NewEndpoints) => {
        "for endpoints bound or connected later"
    };
    (WhenMade) => {
        "when the socket is made: only the builder sets it"
    };
}

/// What the documentation says of whom an option is for.
macro_rules! kinds {
    (ALL) => {
        "all kinds"
    };
    (SENDERS) => {
        "all kinds that send"
    };
    (TELLERS) => {
        "all kinds that send, and SUB"
    };
    (RECEIVERS) => {
        "all kinds that receive"
    };
    (PUBLISHERS) => {
        "PUB and XPUB"
    };
    (BY_TOPIC) => {
        "PUB, SUB, XPUB and XSUB"
    };
    (CONFLATING) => {
        "PUSH, PULL, PUB, SUB and DEALER"
    };
    (IDENTIFIED) => {
        "REQ, DEALER and ROUTER"
    };
    (ROUTERS) => {
        "ROUTER"
    };
    (DEALERS) => {
        "DEALER"
    };
    (GREETERS) => {
        "DEALER and ROUTER"
    };
    (REQUESTERS) => {
        "REQ"
    };
    (XPUBS) => {
        "XPUB"
    };
    (XSUBS) => {
        "XSUB"
    };
}

macro_rules! options {
    ($(
        $(#[$doc:meta])*
        $name:ident $variant:ident: $type:ty = $default:expr, $shown:literal;
        $zmq:literal $number:literal, $unit:literal, $range:literal, $effect:ident, $kinds:ident
        $(, check $check:expr)?;
    )*) => {
        /// The options of a socket. Set them through a [`Builder`](crate::Builder) or, where a change can take effect,
        /// through [`Socket::set`](crate::Socket::set).
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub struct Options {
            $(
                $(#[$doc])*
                ///
                #[doc(alias = $zmq)]
                #[doc = concat!("Unit: ", $unit, ". Allowed: ", $range, ". Default: ", $shown, ". For: ", kinds!($kinds), ". Takes effect: ", effect!($effect), ". libzmq: `", $zmq, "`.")]
                pub $name: $type,
            )*
        }

        /// One option and its value.
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub enum Setting {
            $(
                $(#[$doc])*
                ///
                #[doc(alias = $zmq)]
                #[doc = concat!("Unit: ", $unit, ". Allowed: ", $range, ". Default: ", $shown, ". For: ", kinds!($kinds), ". Takes effect: ", effect!($effect), ". libzmq: `", $zmq, "`.")]
                $variant($type),
            )*
        }

        /// Each option as a function that takes what the builder method of the same name takes.
        impl Setting {
            $(
                #[doc = concat!("[`Setting::", stringify!($variant), "`] of whatever the builder's `", stringify!($name), "` takes.")]
                pub fn $name(value: impl IntoValue<$type>) -> Setting {
                    Setting::$variant(value.into_value())
                }
            )*
        }

        impl Setting {
            /// The option's row in the [table](super::table).
            pub fn row(&self) -> &'static OptionRow {
                let name = match self {
                    $(Setting::$variant(_) => stringify!($name),)*
                };
                ROWS.iter().find(|row| row.name == name).unwrap_or(&ROWS[0])
            }

            /// Checks that the value is allowed.
            ///
            /// # Errors
            /// [`Error::Option`] says what is.
            pub fn check(&self) -> Result<(), Error> {
                match self {
                    $(Setting::$variant(_value) => {
                        $(
                            let check: fn(&$type) -> bool = $check;
                            if !check(_value) {
                                return Err(Error::Option {
                                    option: stringify!($name),
                                    reason: format!(concat!("{} is not allowed; allowed: ", $range), shorten(_value)),
                                });
                            }
                        )?
                        Ok(())
                    })*
                }
            }

            pub(crate) fn apply(self, options: &mut Options) {
                match self {
                    $(Setting::$variant(value) => options.$name = value,)*
                }
            }
        }

        pub(super) static ROWS: &[OptionRow] = &[$(
            OptionRow {
                name: stringify!($name),
                zmq_name: if $number == 0 { "" } else { $zmq },
                zmq_number: $number,
                unit: $unit,
                range: $range,
                default: $shown,
                effect: Effect::$effect,
                kinds: $kinds,
            },
        )*];

        /// The defaults of the Rust API.
        pub(crate) fn default_options() -> Options {
            Options { $($name: $default,)* }
        }

        impl<S: crate::socket::Face> crate::Builder<S> {
            $(
                $(#[$doc])*
                ///
                #[doc(alias = $zmq)]
                #[doc = concat!("Unit: ", $unit, ". Allowed: ", $range, ". Default: ", $shown, ". For: ", kinds!($kinds), ". Takes effect: ", effect!($effect), ". libzmq: `", $zmq, "`.")]
                pub fn $name(self, value: impl IntoValue<$type>) -> Self {
                    self.set(Setting::$variant(value.into_value()))
                }
            )*
        }
    };
}

options! {
    // Queues.

    /// How many messages may wait for one peer before it counts as full. Too small costs throughput, too large costs
    /// memory behind a slow peer. For inproc the sender's and the receiver's marks add up.
    send_mark SendMark: u32 = 16_384, "16384";
    "ZMQ_SNDHWM" 23, "messages", "0 (no limit) or more", Live, SENDERS;

    /// How many octets may wait for one peer before it counts as full. One message is always admitted.
    send_byte_mark SendByteMark: u64 = 64 << 20, "64 MiB";
    "none" 0, "octets", "0 (no limit) or more", Live, SENDERS;

    /// How many received messages of one peer may wait for the application before that peer is no longer read. The mark
    /// may be exceeded by what one read brings. An XPUB applies subscriptions as they come. It shows each change of
    /// them until so many changes are unread, whichever peers they came from; from then on, until all of these are
    /// read, each topic in its newest state: what came and went unread is not shown, and what went and came again only
    /// with `verbose`. Under `verboser`, this is the newest state for each peer.
    receive_mark ReceiveMark: u32 = 16_384, "16384";
    "ZMQ_RCVHWM" 24, "messages", "0 (no limit) or more", Live, RECEIVERS;

    /// How many received octets of one peer may wait for the application before that peer is no longer read.
    receive_byte_mark ReceiveByteMark: u64 = 64 << 20, "64 MiB";
    "none" 0, "octets", "0 (no limit) or more", Live, RECEIVERS;

    /// The largest message a peer may send, and the largest that may be sent. A larger one of a peer closes its
    /// connection before anything is allocated for it; a send of one fails with
    /// [`TooLarge`](crate::SendFailure::TooLarge), at once after a change. Peers of this library are told, over inproc
    /// as well, and do not send more.
    #[doc(alias = "ZMQ_MAX_MSGSZ")]
    max_message_size MaxMessageSize: u64 = 1 << 30, "1 GiB";
    "ZMQ_MAXMSGSIZE" 22, "octets of all frames of a message", "0 (no limit) or more", NewEndpoints, ALL;

    /// The largest number of frames of one message a peer may send, and the largest that may be sent. It guards memory:
    /// a frame takes 64 octets beside its body. So no more are allowed than a 64th of `max_message_size`, or 262,144 if
    /// that is more. A message of more closes the connection it comes over; a send of one fails with
    /// [`TooManyFrames`](crate::SendFailure::TooManyFrames), at once after a change. Peers of this library are told,
    /// over inproc as well, and do not send more.
    max_message_frames MaxMessageFrames: u32 = 16_777_216, "16777216";
    "none" 0, "frames", "1 or more", NewEndpoints, ALL, check |frames| *frames > 0;

    /// After how many connections in a row that the peer ended while the same message was being written to it, each a
    /// second or more after its handshake, that message is given up: it is dropped, counted
    /// ([`Dropped::given_up`](crate::Dropped::given_up)) and told by an event ([`GivenUp`](crate::EventKind::GivenUp)),
    /// and what waits behind it goes on. A refused attempt to connect, another end of a connection, or another message
    /// that was taken starts the count anew. Peers of this library announce what they accept, so that it does not come
    /// to this with them.
    ///
    /// The same holds for a subscription, at an endpoint of ours that connects to a publisher of another library. All
    /// subscriptions are with the publisher's system before it has read the first, so nothing shows which one it ends
    /// its connections over. Once it has ended two in a row that had lasted less than a second each, it is told the
    /// subscriptions in steps, each a second after the one before: the half of those in question, then half of the
    /// rest. The one that is left, told alone, is given up
    /// ([`SubscriptionsGivenUp`](crate::EventKind::SubscriptionsGivenUp)) and not told that peer any more until it is
    /// asked for anew, or an attempt to connect is refused, since what comes back may be another server. With a million
    /// subscriptions the search takes some 25 seconds. What an XSUB sends that peer itself waits meanwhile; where the
    /// endpoint or the socket is closed, the search ends.
    give_up_after GiveUpAfter: u32 = 3, "3";
    "none" 0, "connections", "0 (never) or more", Live, TELLERS;

    /// How many subscriptions one peer may have at a publisher; further ones are ignored and counted. Under
    /// [`manual`](Options::manual) that is how many topics a peer may have asked for or taken back beyond the [receive
    /// mark](Options::receive_mark) that the application has not read of yet; of a peer that is gone there are none.
    max_subscriptions MaxSubscriptions: u32 = 1_000_000, "1000000";
    "none" 0, "subscriptions", "0 (no limit) or more", Live, PUBLISHERS;

    /// Keeps the newest message only, for each peer and direction; marks do not apply. For single-frame messages.
    conflate Conflate: bool = false, "false";
    "ZMQ_CONFLATE" 54, "switch", "true or false", WhenMade, CONFLATING;

    /// Which engine threads of the context may drive the socket: bit 0 stands for the first one, bit 63 for the 64th.
    /// Further ones, which a context may have, cannot be named; sockets that leave the choice open share them all.
    affinity Affinity: u64 = 0, "0";
    "ZMQ_AFFINITY" 4, "a bit for each engine thread", "0 (all), or a number with the bit of one that is there", WhenMade, ALL;

    /// By whose habits the socket behaves where ours and libzmq's differ in a way that a peer or a program could
    /// notice.
    profile Profile: Profile = Profile::Wiremesh, "wiremesh";
    "none" 0, "habits", "a Profile", WhenMade, ALL;

    // Waiting.

    /// How long `send` waits for room. `None` waits for ever.
    send_timeout SendTimeout: Option<Duration> = None, "none";
    "ZMQ_SNDTIMEO" 28, "time", "any, or none for no end", Live, SENDERS;

    /// How long `recv` waits for a message. `None` waits for ever.
    receive_timeout ReceiveTimeout: Option<Duration> = None, "none";
    "ZMQ_RCVTIMEO" 27, "time", "any, or none for no end", Live, RECEIVERS;

    /// How long a waiting call polls without sleeping before it sleeps: a processor for microseconds of latency.
    spin Spin: Duration = Duration::ZERO, "0";
    "none" 0, "time", "up to 1 s", Live, ALL, check |spin| *spin <= Duration::from_secs(1);

    /// Whether a waiting call may look again for some microseconds before it sleeps where that has lately paid: for the
    /// answer to what it sent, up to 50 µs, while answers come that quickly; and in PUSH, DEALER and PAIR over tcp and
    /// ipc for a peer to take the rest of a message above 32 KiB, as long as it takes a gigabyte a second and for 20 ms
    /// at most. Without it such messages are copied and queued. Where it is in vain it is left out for a while. See the
    /// guide on [threads](crate::guide::threads).
    adaptive_spin AdaptiveSpin: bool = true, "true";
    "none" 0, "switch", "true or false", Live, ALL;

    /// How long in all a closed socket or endpoint goes on delivering what it has accepted, in the background. Zero
    /// gives everything up at once. `None` goes on as long as `linger_patience` says. What is given up is counted, told
    /// by the event [`Unsent`](crate::EventKind::Unsent) and by [`Context::close`](crate::Context::close).
    linger Linger: Option<Duration> = None, "none (zero for SUB and XSUB)";
    "ZMQ_LINGER" 17, "time", "any, or none for as long as something moves", Live, ALL;

    /// How long a closed socket or endpoint whose `linger` is none goes on without getting anything on its way, as when
    /// its peer is down. With `None` it waits for ever.
    linger_patience LingerPatience: Option<Duration> = Some(Duration::from_secs(30)), "30 s";
    "none" 0, "time", "any, or none for ever", Live, ALL;

    // Connecting.

    /// The shortest wait before a new attempt, and the first one where nobody was there from the start. After a
    /// connection was lost waits are drawn from up to ten times this, so that the peers of a restarted server come back
    /// soon and not all at once. Less than a millisecond is taken as one. `None` never tries again.
    reconnect_interval ReconnectInterval: Option<Duration> = Some(Duration::from_millis(100)), "100 ms";
    "ZMQ_RECONNECT_IVL" 18, "time", "any, or none for never", NewEndpoints, ALL;

    /// The longest wait between attempts: after the first four each failure doubles the span from which the wait is
    /// drawn, up to this.
    reconnect_max ReconnectMax: Duration = Duration::from_secs(5), "5 s";
    "ZMQ_RECONNECT_IVL_MAX" 21, "time", "any; below the interval it has no effect", NewEndpoints, ALL;

    /// Ends the endpoint when a connection is refused, or when a handshake fails.
    reconnect_stop ReconnectStop: ReconnectStop = ReconnectStop::Never, "never";
    "ZMQ_RECONNECT_STOP" 109, "condition", "a ReconnectStop", NewEndpoints, ALL;

    /// How long one attempt may take. `None` leaves it to the system.
    connect_timeout ConnectTimeout: Option<Duration> = None, "none";
    "ZMQ_CONNECT_TIMEOUT" 79, "time", "any, or none for the system's", NewEndpoints, ALL;

    /// Counts a connecting endpoint as a peer only while it is connected: nothing is queued for it before, and what is
    /// queued when its connection is lost is dropped and counted.
    #[doc(alias = "ZMQ_DELAY_ATTACH_ON_CONNECT")]
    immediate Immediate: bool = false, "false";
    "ZMQ_IMMEDIATE" 39, "switch", "true or false", NewEndpoints, ALL;

    // Handshake and life signs.

    /// How long a peer may take from the first moment to the end of its handshake. `None` waits for ever, and so does
    /// zero.
    handshake_timeout HandshakeTimeout: Option<Duration> = Some(Duration::from_secs(30)), "30 s";
    "ZMQ_HANDSHAKE_IVL" 66, "time", "any, or zero or none for no limit", NewEndpoints, ALL;

    /// How many connections a socket may have that were accepted and are past their handshake, over all its listeners.
    /// A newcomer beyond this limit is refused, with an event, and tries again. A peer that comes back takes its own
    /// place: one of this library, as soon as its old connection was read to the end and does not answer any more; and
    /// at a ROUTER with [`handover`](Options::handover) a peer that takes over the routing id of another. Only the
    /// handshake tells who a newcomer is. A listener therefore accepts up to
    /// [`half_open_limit`](Options::half_open_limit) connections beyond the limit, and closes one that has no place
    /// after two seconds; for each connection one more of the same peer may wait until the old one was read. A peer
    /// that waits to be told first that the socket is ready is told if there is a place, which it has from then on; if
    /// it says nothing for two seconds, a peer that is ready may get that. So there are at most twice `max_connections`
    /// descriptors, and `half_open_limit` for each listener; a connection in its handshake, or one that waits, holds
    /// 320 KiB at most. Over inproc there is no limit.
    max_connections MaxConnections: u32 = 0, "0";
    "none" 0, "connections", "0 (no limit) or more", NewEndpoints, ALL;

    /// How many connections of one listener may be without a finished handshake; one more evicts one of them at random,
    /// once that has had 50 ms.
    half_open_limit HalfOpenLimit: u32 = 1024, "1024";
    "none" 0, "connections", "1 or more", NewEndpoints, ALL, check |limit| *limit > 0;

    /// How often to ask a silent peer for a sign of life (PING). Zero never asks.
    heartbeat_interval HeartbeatInterval: Duration = Duration::ZERO, "0";
    "ZMQ_HEARTBEAT_IVL" 75, "time", "0 (never), or 1 ms or more", NewEndpoints, ALL,
    check |interval| interval.is_zero() || *interval >= Duration::from_millis(1);

    /// How long a peer may stay silent after a PING before its connection is closed. `None` is the interval; zero never
    /// closes it. A peer that merely does not read is not silent: peers of this library say so by themselves, and
    /// others are not judged while a write to them is blocked, over tcp only as long as their system answers.
    heartbeat_timeout HeartbeatTimeout: Option<Duration> = None, "none";
    "ZMQ_HEARTBEAT_TIMEOUT" 77, "time", "any, zero for no limit, or none for the interval", NewEndpoints, ALL;

    /// How long the peer should wait for us after a PING of ours; told to it in tenths of a second. Zero tells it
    /// nothing.
    heartbeat_ttl HeartbeatTtl: Duration = Duration::ZERO, "0";
    "ZMQ_HEARTBEAT_TTL" 76, "time", "up to 6553.5 s", NewEndpoints, ALL, check |ttl| ttl.as_millis() <= 6_553_599;

    /// Whether to tell peers of this library in READY what helps them: how large a message is accepted, in octets and
    /// in frames, by what they recognise this socket when it connects again, and that it gives signs of life. One
    /// property, `X-Wiremesh`, which others ignore; never sent under [`Profile::Libzmq`].
    announce Announce: bool = true, "true";
    "none" 0, "switch", "true or false", NewEndpoints, ALL;

    /// Properties to announce in READY, for the application at the other end.
    metadata Metadata: Vec<(String, Bytes)> = Vec::new(), "none";
    "ZMQ_METADATA" 95, "names and values", "names that start with X-, except X-Wiremesh, of letters, digits and - _ . +, up to 255 of them, each once whatever its case; 32 KiB in all", NewEndpoints, ALL,
    check |properties| good_metadata(properties);

    /// The routing id this socket announces: what a ROUTER knows it by. Empty lets the ROUTER choose.
    #[doc(alias = "ZMQ_IDENTITY")]
    routing_id RoutingId: Bytes = Bytes::new(), "empty";
    "ZMQ_ROUTING_ID" 5, "octets", "up to 255 octets, the first not zero", NewEndpoints, IDENTIFIED,
    check |id| id.len() <= 255 && id.first() != Some(&0);

    // Patterns.

    /// Makes a send to an unknown routing id fail, and one to a full peer wait, instead of dropping the message.
    #[doc(alias("ZMQ_ROUTER_BEHAVIOR", "ZMQ_FAIL_UNROUTABLE"))]
    mandatory Mandatory: bool = false, "false";
    "ZMQ_ROUTER_MANDATORY" 33, "switch", "true or false", Live, ROUTERS;

    /// What a ROUTER is told of its peers: an empty message that seems to come from the peer when its connection is up,
    /// before anything else it sends, or when the connection is gone, or both.
    router_notify RouterNotify: RouterNotify = RouterNotify::Nothing, "nothing";
    "ZMQ_ROUTER_NOTIFY" 97, "occasion", "a RouterNotify", Live, ROUTERS;

    /// A message that each new connection is sent before any other.
    hello_message HelloMessage: Bytes = Bytes::new(), "empty, which sends none";
    "ZMQ_HELLO_MSG" 110, "octets", "any", Live, GREETERS;

    /// A message that a ROUTER receives when the connection of a peer is gone, as if the peer had sent it last.
    disconnect_message DisconnectMessage: Bytes = Bytes::new(), "empty, which delivers none";
    "ZMQ_DISCONNECT_MSG" 111, "octets", "any", Live, ROUTERS;

    /// A message that a DEALER receives when the connection of a connecting endpoint is lost and will be made again, as
    /// if the peer had sent it last: what was under way may have to be asked for again.
    hiccup_message HiccupMessage: Bytes = Bytes::new(), "empty, which delivers none";
    "ZMQ_HICCUP_MSG" 114, "octets", "any", Live, DEALERS;

    /// Lets a newcomer take a routing id that is in use; the peer that had it is disconnected. An id that the ROUTER
    /// generated stays with its peer. Without this the newcomer is refused before it is told that the ROUTER is ready,
    /// so that it has sent nothing, and tries again. A peer that waits to be told first may have sent messages with its
    /// id. It is not refused, so that none of these is lost, but known by a generated id, with an event
    /// ([`EventKind::Oddity`](crate::EventKind::Oddity)), until the peer that has its id is gone: then the earliest of
    /// those that wait for that id gets it. Where the ROUTER connects to a server whose id is in use, and under
    /// [`Profile::Libzmq`], where every peer is told at once, it refuses the peer, which tries again, and what the peer
    /// had sent by then is lost with the connection.
    handover Handover: bool = false, "false";
    "ZMQ_ROUTER_HANDOVER" 56, "switch", "true or false", Live, ROUTERS;

    /// The routing id under which a ROUTER knows the next peer it connects to, whatever that peer announces.
    #[doc(alias = "ZMQ_CONNECT_RID")]
    connect_routing_id ConnectRoutingId: Bytes = Bytes::new(), "empty";
    "ZMQ_CONNECT_ROUTING_ID" 61, "octets", "up to 255 octets, the first not zero", NewEndpoints, ROUTERS,
    check |id| id.len() <= 255 && id.first() != Some(&0);

    /// Sends an empty message on each new connection, so that a ROUTER learns of us.
    probe_router ProbeRouter: bool = false, "false";
    "ZMQ_PROBE_ROUTER" 51, "switch", "true or false", Live, IDENTIFIED;

    /// Puts a request number before each request and accepts only replies that carry it. (`request` does so to a REP in
    /// any case; see the guide on [requests](crate::guide::requests).)
    correlate Correlate: bool = false, "false";
    "ZMQ_REQ_CORRELATE" 52, "switch", "true or false", WhenMade, REQUESTERS;

    /// Lets a REQ send again without having received a reply; the earlier request is abandoned. Without
    /// [`correlate`](Options::correlate) nothing tells the replies apart: one to the earlier request that comes after
    /// the next was sent is received as the reply to that. So switch both on, or use [`request`](crate::Req::request).
    relaxed Relaxed: bool = false, "false";
    "ZMQ_REQ_RELAXED" 53, "switch", "true or false", Live, REQUESTERS;

    /// Shows the application every subscription, not only the first of each topic; beyond the
    /// [receive mark](Options::receive_mark) once for each peer that has it.
    verbose Verbose: bool = false, "false";
    "ZMQ_XPUB_VERBOSE" 40, "switch", "true or false", Live, XPUBS;

    /// Shows the application every subscription and every cancellation; beyond the [receive
    /// mark](Options::receive_mark) the newest state of each peer and topic.
    verboser Verboser: bool = false, "false";
    "ZMQ_XPUB_VERBOSER" 78, "switch", "true or false", Live, XPUBS;

    /// Makes a publisher wait for full subscribers instead of dropping for them.
    nodrop Nodrop: bool = false, "false";
    "ZMQ_XPUB_NODROP" 69, "switch", "true or false", Live, PUBLISHERS;

    /// Leaves it to the application which subscriptions are made: see
    /// [`XPub::subscribe_last`](crate::XPub::subscribe_last).
    manual Manual: bool = false, "false";
    "ZMQ_XPUB_MANUAL" 71, "switch", "true or false", WhenMade, XPUBS;

    /// As `manual`; besides, the message sent after reading a subscription goes to that subscriber alone.
    manual_last_value ManualLastValue: bool = false, "false";
    "ZMQ_XPUB_MANUAL_LAST_VALUE" 98, "switch", "true or false", WhenMade, XPUBS;

    /// A message for each new subscriber, before anything else. It must match one of its subscriptions.
    welcome_message WelcomeMessage: Bytes = Bytes::new(), "empty, which sends none";
    "ZMQ_XPUB_WELCOME_MSG" 72, "octets", "any", Live, PUBLISHERS;

    /// Delivers what does *not* match. Both ends must set it.
    invert_matching InvertMatching: bool = false, "false";
    "ZMQ_INVERT_MATCHING" 74, "switch", "true or false", WhenMade, BY_TOPIC;

    /// Under [`Profile::Libzmq`]: takes frames of an upstream message for subscriptions only if its first frame is one.
    /// Otherwise that is so in any case.
    only_first_subscribe OnlyFirstSubscribe: bool = false, "false";
    "ZMQ_ONLY_FIRST_SUBSCRIBE" 108, "switch", "true or false", Live, PUBLISHERS;

    /// Sends every cancellation upstream, not only the last of each topic.
    verbose_unsubscribe VerboseUnsubscribe: bool = false, "false";
    "ZMQ_XSUB_VERBOSE_UNSUBSCRIBE" 115, "switch", "true or false", Live, XSUBS;

    // Links.

    /// Whether the kernel probes silent tcp connections. `None` leaves the system's default.
    tcp_keepalive TcpKeepalive: Option<bool> = None, "none";
    "ZMQ_TCP_KEEPALIVE" 34, "switch", "true, false or none", NewEndpoints, ALL;

    /// How many unanswered probes end a tcp connection.
    tcp_keepalive_count TcpKeepaliveCount: Option<u32> = None, "none";
    "ZMQ_TCP_KEEPALIVE_CNT" 35, "probes", "any, or none for the system's", NewEndpoints, ALL;

    /// How long a tcp connection is silent before the first probe.
    tcp_keepalive_idle TcpKeepaliveIdle: Option<Duration> = None, "none";
    "ZMQ_TCP_KEEPALIVE_IDLE" 36, "time, in seconds", "any, or none for the system's", NewEndpoints, ALL;

    /// How long the kernel waits between probes.
    tcp_keepalive_interval TcpKeepaliveInterval: Option<Duration> = None, "none";
    "ZMQ_TCP_KEEPALIVE_INTVL" 37, "time, in seconds", "any, or none for the system's", NewEndpoints, ALL;

    /// How long unacknowledged data keeps a tcp connection alive.
    tcp_max_retransmit TcpMaxRetransmit: Option<Duration> = None, "none";
    "ZMQ_TCP_MAXRT" 80, "time, in milliseconds", "any, or none for the system's", NewEndpoints, ALL;

    /// The congestion control algorithm of tcp connections, which the system must have and allow (TCP_CONGESTION; Linux
    /// and FreeBSD). None is the system's choice, except within the host, where nothing is congested: there it is one
    /// that does not pace what it sends, because pacing costs a third of the throughput.
    tcp_congestion_control TcpCongestionControl: Option<String> = None, "none";
    "none" 0, "name", "an algorithm of the system, or none", NewEndpoints, ALL;

    /// The kernel's send buffer. Setting it turns off the kernel's own tuning, and that of ipc connections on Linux,
    /// which get twice the system's default when messages of more than a few octets wait for a peer.
    send_buffer SendBuffer: Option<usize> = None, "none";
    "ZMQ_SNDBUF" 11, "octets", "any, or none for the system's", NewEndpoints, ALL;

    /// The kernel's receive buffer. Setting it turns off the kernel's own tuning.
    receive_buffer ReceiveBuffer: Option<usize> = None, "none";
    "ZMQ_RCVBUF" 12, "octets", "any, or none for the system's", NewEndpoints, ALL;

    /// The type-of-service field of outgoing packets (IP_TOS, IPV6_TCLASS).
    type_of_service TypeOfService: Option<u8> = None, "none";
    "ZMQ_TOS" 57, "the octet", "0 to 255, or none", NewEndpoints, ALL;

    /// The priority of outgoing packets (SO_PRIORITY).
    priority Priority: Option<u32> = None, "none";
    "ZMQ_PRIORITY" 112, "the priority", "any, or none", NewEndpoints, ALL;

    /// How long the kernel busy-polls the device for this socket (SO_BUSY_POLL).
    busy_poll BusyPoll: Option<Duration> = None, "none";
    "ZMQ_BUSY_POLL" 113, "time, in microseconds", "any, or none", NewEndpoints, ALL;

    /// The network device to use (SO_BINDTODEVICE).
    bind_to_device BindToDevice: Option<String> = None, "none";
    "ZMQ_BINDTODEVICE" 92, "name", "a device name, or none", NewEndpoints, ALL;

    /// How many connections may wait to be accepted.
    backlog Backlog: u32 = 1024, "1024";
    "ZMQ_BACKLOG" 19, "connections", "1 or more; the system may allow fewer", NewEndpoints, ALL, check |backlog| *backlog > 0;

    /// Whether IPv6 is used beside IPv4. Without it `bind` to an IPv6 address fails, and so does each attempt to
    /// connect to one.
    #[doc(alias = "ZMQ_IPV4ONLY")]
    ipv6 Ipv6: bool = true, "true";
    "ZMQ_IPV6" 42, "switch", "true or false", NewEndpoints, ALL;
}

/// A value for an error message, which names the culprit without repeating all of it.
fn shorten<T: std::fmt::Debug + 'static>(value: &T) -> String {
    const SHOWN: usize = 48;
    if let Some(octets) = (value as &dyn std::any::Any).downcast_ref::<Bytes>().filter(|octets| octets.len() > SHOWN) {
        return format!("{:?}… ({} octets)", octets.slice(..SHOWN / 2), octets.len());
    }
    let mut text = format!("{value:?}");
    if let Some((cut, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// Whether properties can be announced: every peer would refuse more than 64 KiB before the handshake is done.
fn good_metadata(properties: &[(String, Bytes)]) -> bool {
    let good = |name: &str| {
        name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("X-"))
            && check_application(name.as_bytes(), 0).is_ok()
    };
    let total: usize = properties.iter().map(|(name, value)| name.len() + value.len() + 5).sum();
    // Peers read the first of those with one name alone.
    let mut names: Vec<String> = properties.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort_unstable();
    let is_doubled = names.windows(2).any(|pair| pair[0] == pair[1]);
    total <= 32 * 1024 && !is_doubled && properties.iter().all(|(name, _)| good(name))
}

/// When a ROUTER is told of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouterNotify {
    /// Never.
    #[default]
    Nothing,
    /// When its connection is up.
    #[doc(alias = "ZMQ_NOTIFY_CONNECT")]
    Connect,
    /// When its connection is gone.
    #[doc(alias = "ZMQ_NOTIFY_DISCONNECT")]
    Disconnect,
    /// Both.
    Both,
}

impl RouterNotify {
    pub(crate) fn on_connect(self) -> bool {
        match self {
            RouterNotify::Connect | RouterNotify::Both => true,
            RouterNotify::Nothing | RouterNotify::Disconnect => false,
        }
    }

    pub(crate) fn on_disconnect(self) -> bool {
        match self {
            RouterNotify::Disconnect | RouterNotify::Both => true,
            RouterNotify::Nothing | RouterNotify::Connect => false,
        }
    }
}

/// What ends a connecting endpoint for good, besides an ERROR from the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReconnectStop {
    /// Nothing.
    #[default]
    Never,
    /// A refused connection.
    #[doc(alias = "ZMQ_RECONNECT_STOP_CONN_REFUSED")]
    Refused,
    /// A failed handshake.
    #[doc(alias = "ZMQ_RECONNECT_STOP_HANDSHAKE_FAILED")]
    HandshakeFailed,
    /// Either.
    Either,
}
