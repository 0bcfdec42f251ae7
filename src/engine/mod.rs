//! The engine: whoever waits does the work.
//!
//! Each socket has a [`reactor`]: its own poll with listeners, streams and timers. Whoever holds it is the driver: a
//! thread that blocks in a call of the socket, else an [engine thread](thread). This folder is the only code that
//! polls.
//!
//! | file | idea |
//! |---|---|
//! | `port.rs` | a socket's door to its reactor: commands, rings, taking the driver's seat |
//! | `lease.rs` | who drives a reactor, and what a driver that leaves owes to the next |
//! | `signal.rs` | the hand-over word, so that no wake is lost |
//! | `reactor.rs` | one round of driving: commands, dirty outboxes, timers, ready streams |
//! | `reactor/connecting.rs` | the way of a connecting endpoint |
//! | `reactor/reading.rs` | what a readable link does |
//! | `reactor/returning.rs` | a peer that comes back while its old connection is still here |
//! | `reactor/departing.rs` | what is left of subscribers that are gone |
//! | `reactor/holders.rs` | who holds how much of unfinished messages, and who too much |
//! | `reactor/closing.rs` | the end of an endpoint or of the socket |
//! | `link.rs` | one connection: a stream and its protocol machine |
//! | `dialer.rs`, `listener.rs` | connecting with backoff; accepting with limits |
//! | `line.rs` | uses of one endpoint in a row: who waits for whom |
//! | `unheard.rs` | peers that close without a word |
//! | `resolver.rs` | names are looked up elsewhere |
//! | `shortage.rs` | descriptors run short: whoever needs one waits for those that closed sockets give back |
//! | `thread.rs` | the engine threads |
//! | `contain.rs` | a panic ends one socket and no other |
//! | `waiters.rs` | who waits on a socket, and for what |

mod answers;
pub(crate) mod contain;
pub(crate) mod dialer;
pub(crate) mod inside;
pub(crate) mod lease;
mod line;
pub(crate) mod link;
pub(crate) mod listener;
pub(crate) mod port;
pub(crate) mod reactor;
pub(crate) mod resolver;
mod shortage;
pub(crate) mod signal;
mod spares;
pub(crate) mod thread;
mod unheard;
pub(crate) mod waiters;

use crate::budget::Account;
use crate::event::{Cause, Event};
use crate::peer::PeerId;
use crate::protocol::{Config, PeerDescription, Token};
use crate::queue::intake::ReadGate;
use crate::queue::outbox::Lost;
use crate::stats::Unsent;
use bytes::Bytes;
use port::Port;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wiremesh_transports::{LinkOptions, Stream, sys as parker};

/// What the hand-over word, the lease and the waiter list are made of. They name it by this way, so that
/// `tests/model/loom.rs` can take the same files and put models of these in their place.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
    pub(super) use std::sync::{Arc, Mutex};
    pub(super) use std::thread_local;
}

/// What the engine needs to know to make connections for a socket; a snapshot taken at `bind` or `connect`.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) link: LinkOptions,
    pub(crate) protocol: Arc<Config>,
    /// The first wait before a new attempt; `None` never tries again.
    pub(crate) reconnect_interval: Option<Duration>,
    /// The longest wait the backoff grows to.
    pub(crate) reconnect_max: Duration,
    /// How long one attempt may take; `None` leaves it to the system.
    pub(crate) connect_timeout: Option<Duration>,
    /// Whether a refused connection ends the endpoint.
    pub(crate) stop_on_refused: bool,
    /// Whether a failed handshake ends the endpoint.
    pub(crate) stop_on_handshake_failure: bool,
    /// How many connections of one listener may be without a finished handshake.
    pub(crate) half_open: usize,
    /// How many connections past their handshake the socket's listeners may have together.
    pub(crate) max_connections: usize,
}

/// Very many things that are let go one by one: each has gone when `next` returns.
pub(crate) type Parts = Box<dyn Iterator<Item = ()> + Send>;

/// What a socket is to the engine. No method blocks.
pub(crate) trait Host: Send + Sync + 'static {
    /// The socket's own door.
    fn port(&self) -> &Port;

    /// Lets no further call in.
    fn bar(&self);

    /// Closes the socket; what was accepted is still delivered.
    fn close(&self);

    /// Keeps the socket's only seat for a newcomer, where there is only one; called before the newcomer is told that we
    /// are ready, so that it is not turned away afterwards.
    fn reserve(&self) -> Result<Option<Reserved>, &'static str>;

    /// The newcomer for which the seat was kept is gone, and was not [attached](Host::attach).
    fn unreserve(&self, ticket: SeatTicket);

    /// Whether a newcomer that was accepted and says who it is may come in; asked before it is told that we are ready.
    fn admits(&self, newcomer: &PeerDescription) -> Result<(), &'static str>;

    /// The peer whose routing id a newcomer that was admitted takes over, and whose connection ends for that.
    fn ousted_by(&self, newcomer: &PeerDescription) -> Option<PeerId>;

    /// That peer is about to go, so that another may have its routing id: it gets one that nobody knows.
    fn rename(&self, peer: PeerId);

    /// A connection finished its handshake. The socket answers with the peer it belongs to, or refuses it: where the
    /// endpoint was closed meanwhile, and where a ROUTER has connected to a peer whose routing id is in use. One that
    /// was accepted is not refused for anything else, as its peer knows that we are ready.
    fn attach(&self, newcomer: Newcomer) -> Result<Joined, &'static str>;

    /// The connection of a peer is gone. Returns true if the peer has topics left: it gets nothing more, but is not to
    /// come back before [`withdraw`](Host::withdraw) has taken them from it.
    fn detach(&self, peer: PeerId, departure: Departure) -> bool;

    /// Takes topics from a peer that is gone, for a fraction of a turn. Returns true if none is left.
    fn withdraw(&self, peer: PeerId) -> bool;

    /// The endpoint of a peer ends: subscriptions that it would be told in steps hold nothing back any more. Returns
    /// true if something may be written for that.
    fn end_steps(&self, peer: PeerId) -> bool;

    /// Tells a peer more of the subscriptions that a new connection is to be told, for a fraction of a turn. Returns
    /// true if none is left for now.
    fn replay(&self, peer: PeerId) -> bool;

    /// An attempt to connect to a peer again failed, or the handshake did.
    fn attempt_failed(&self, peer: PeerId);

    /// The connection of a peer has lasted: what was held back until then may be written now. Returns true if it is to
    /// last once more, because the peer is told its subscriptions in steps, the next of them by
    /// [`replay`](Host::replay).
    fn release(&self, peer: PeerId) -> bool;

    /// Whether a message was written whole over the present connection of a peer, all but the last `missing` octets of
    /// which its system has.
    fn has_taken(&self, peer: PeerId, missing: usize) -> bool;

    /// What a driver asks before it reads from an attached peer.
    fn read_gate(&self, peer: PeerId) -> Option<Arc<ReadGate>>;

    /// Something came from a peer. Its gate may be closed afterwards.
    fn deliver(&self, peer: PeerId, incoming: Incoming);

    /// Returns true if what comes is kept in wire form until it is received, so that bringing it takes no longer for
    /// many messages than for one.
    fn keeps_wire(&self) -> bool;

    /// All that one turn delivers has been delivered: wake whoever waits for it.
    fn delivered(&self);

    /// What the socket holds of what is received, as the context's budget counts it.
    fn account(&self) -> &Arc<Account>;

    /// Tells others what follows for them from what is held here now: a shortage in the context's budget may have begun
    /// or ended.
    fn attend(&self);

    /// Has `next` give what the protocol has to say to a peer, and puts that before all that waits, unless what it said
    /// last is not written yet; then the peer is flushed again once it is.
    fn urgent(&self, peer: PeerId, next: &mut dyn FnMut() -> Option<Bytes>);

    /// Moves the list of peers that have something to flush into `peers`.
    fn take_dirty(&self, peers: &mut Vec<PeerId>);

    /// An engine thread was called, perhaps to a burst of messages of which the first is there: returns, a few
    /// microseconds later at most, when no more come.
    fn await_burst(&self);

    /// Writes what waits for a peer, as far as the stream takes it.
    fn flush(&self, peer: PeerId) -> Flush;

    /// Whether nothing waits for that peer any more.
    fn is_flushed(&self, peer: PeerId) -> bool;

    /// How many octets wait for that peer, or were taken to be written and are not.
    fn pending(&self, peer: PeerId) -> usize;

    /// A number that changes while something of what waits for that peer, or for all, gets on its way.
    fn progress_of(&self, peer: Option<PeerId>) -> u64;

    /// Gives up what waits for a peer of an endpoint that was closed; says what that was.
    fn abandon(&self, peer: PeerId) -> Unsent;

    /// Whether somebody waits on the socket without driving.
    fn has_waiters(&self) -> bool;

    /// Whether a peer is on the list of those that have something to flush, whether a driver was rung for it or a
    /// caller is expected.
    fn has_dirty(&self) -> bool;

    /// Whether a caller is likely to drive within two milliseconds.
    fn will_return(&self) -> bool;

    /// Tells the monitor.
    fn event(&self, event: Event);

    /// What became of a connecting endpoint.
    fn course(&self, endpoint: EndpointId, course: Course<'_>);

    /// An endpoint is gone for good, without the caller having asked for it.
    fn endpoint_ended(&self, endpoint: EndpointId);

    /// A token that no connection of the socket has announced, for all endpoints that are not closed and have the one
    /// given.
    fn another_token(&self, token: Token) -> Token;

    /// Takes what a closed socket has no use for any more out of it, to be let go: what nobody will receive, and what
    /// it wanted. Letting go does not panic.
    fn leave_unread(&self) -> Parts;

    /// A closed socket has nothing left to do in the engine.
    fn finished(&self);

    /// Code that ran for the socket panicked. Its reactor is gone, and all of its calls are to say so.
    fn failed(&self, panic: &Arc<str>);
}

/// A number for each bind and each connect of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EndpointId(pub(crate) u64);

/// A connection that finished its handshake.
pub(crate) struct Newcomer {
    /// The peer of a connecting endpoint, where the socket made one in advance.
    pub(crate) peer: Option<PeerId>,
    pub(crate) endpoint_id: EndpointId,
    pub(crate) endpoint: Arc<str>,
    pub(crate) stream: Arc<dyn Stream>,
    pub(crate) description: PeerDescription,
    pub(crate) address: Arc<str>,
    pub(crate) reconnected: bool,
    /// It was accepted, and did not answer at an endpoint that connects.
    pub(crate) is_accepted: bool,
    /// The socket's only seat is kept for it ([`Host::reserve`]).
    pub(crate) seat: Option<SeatTicket>,
}

/// Why a newcomer is refused whose socket has only one seat.
pub(crate) const PAIR_TAKEN: &str = "the PAIR has a peer already";

/// Whom the only seat of a socket is kept for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SeatTicket(pub(crate) u64);

/// The only seat of a socket is kept for a newcomer.
pub(crate) struct Reserved {
    pub(crate) ticket: SeatTicket,
    /// Who had it, and did not say who it is in the time for that.
    pub(crate) taken_from: Option<SeatTicket>,
}

/// Why the connection of a peer ends whose routing id a newcomer has taken over.
pub(crate) const OUSTED: Cause = Cause::Replaced("another peer took its routing id");

/// The place of a newcomer.
pub(crate) struct Joined {
    pub(crate) peer: PeerId,
    /// What waits for it is held back until its connection has lasted: its last connections ended in the middle of it,
    /// or over what they were told of subscriptions.
    pub(crate) held: bool,
    /// It is told all subscriptions, and has not been told all of them yet: [`replay`](Host::replay) tells it the
    /// others.
    pub(crate) replays: bool,
}

/// What becomes of a peer whose connection is gone, or is not read any more.
pub(crate) enum Departure {
    /// It is no peer any more.
    Gone,
    /// It is no peer any more, though its connection stays until its system has taken everything.
    Drains,
    /// The connection of such a one is gone as well.
    Drained,
    /// Its endpoint will connect again.
    Returns(Lost),
}

/// What can come from a peer.
pub(crate) enum Incoming {
    /// Whole messages in wire form, contiguous.
    Messages(Bytes, u32),
    /// One whole message with large bodies as pieces of their own.
    Message(SmallVec<[Bytes; 4]>),
    /// A subscription command.
    Subscribe(Bytes),
    /// A cancellation.
    Cancel(Bytes),
}

/// A step of a connecting endpoint on its way.
#[derive(Clone, Copy)]
pub(crate) enum Course<'a> {
    /// A round of attempts begins.
    Trying,
    /// An attempt failed; where it came to no address, the look-up did.
    Failed { cause: &'a Cause, address: Option<&'a Arc<str>> },
    /// The next round follows.
    Waiting,
    /// The handshake is done.
    Up,
    /// The connection was lost.
    Lost { cause: &'a Cause },
}

/// How far a flush got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Nothing is left.
    Done,
    /// The stream takes no more now.
    Blocked,
    /// More is left and the stream may take it: the budget of this turn is used up.
    Again,
    /// Somebody else is writing, or there is no connection.
    Busy,
    /// The stream has failed; reading will tell why.
    Failed,
}

/// The earlier of two moments that may not be set.
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
