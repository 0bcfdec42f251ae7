//! The sending half of a socket: its peers with their outboxes, and the routing that chooses among them.
//!
//! One lock guards all of it, so that a send takes one lock, whatever the pattern; a flusher takes it once per batch.

use super::core::{Core, Next};
use super::draining::Draining;
use super::endpoints::accepted_frames;
use super::names::Names;
use super::patience::Trust;
use super::seat::Seat;
use super::tempo::Tempo;
use super::tokens::Role;
use crate::budget::{Account, Charge, Standing};
use crate::engine::EndpointId;
use crate::error::SendFailure;
use crate::kind::SocketKind;
use crate::message::size::Size;
use crate::message::{Message, wire};
use crate::options::Options;
use crate::patterns::balance::Balance;
use crate::patterns::reqrep::{Replies, Requests, UNANSWERED};
use crate::patterns::router::Routes;
use crate::patterns::subscriptions::Subscriptions;
use crate::peer::PeerId;
use crate::queue::chunk::Appender;
use crate::queue::credit::Credit;
pub(super) use crate::queue::credit::Marks;
use crate::queue::gate::Pass;
use crate::queue::outbox::{Outbox, Pool, Settled};
use crate::queue::search::Search;
use crate::queue::{COPY_LIMIT, PIECE};
use crate::slab::Slab;
use crate::stats::{Dropped, PeerStats, Reason, Unsent};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use wiremesh_transports::Stream;

/// Everything a send needs.
pub(crate) struct SendSide {
    pub(super) peers: Slab<Peer>,
    /// The peer of each endpoint that connects, the last one where there was another before. It is found without a walk
    /// over all peers, of which very many may be left of endpoints that were closed.
    pub(super) dialed: HashMap<EndpointId, PeerId>,
    /// The peers of each endpoint that is bound.
    pub(super) accepted: BTreeSet<(EndpointId, PeerId)>,
    /// Endpoints connected over inproc that have lost their peers, until one of that name is connected again. Some may
    /// be none any more: no more than have been there at a time.
    pub(super) left: Names,
    pub(super) routing: Routing,
    pub(super) pool: Pool,
    /// Peers with something to flush that nobody is flushing.
    pub(super) dirty: Vec<PeerId>,
    pub(super) tempo: Tempo,
    pub(super) marks: Marks,
    /// What all of it holds.
    pub(super) account: Arc<Account>,
    /// The account of what is received: of what peers have sent that stays as long as they do.
    received: Arc<Account>,
    /// The largest message that may be sent.
    pub(super) largest: Size,
    pub(super) counts: Counts,
    pub(super) closed: bool,
    /// Of a PAIR: whom its seat is kept for.
    pub(super) seat: Seat,
    /// A sender found no room and waits, or tries again later.
    pub(super) hungry: bool,
    /// Peers that are gone, for questions that come late.
    pub(super) departed: VecDeque<crate::PeerInfo>,
    pub(super) draining: Draining,
    pub(super) connections: u64,
    pub(super) reconnects: u64,
    /// What monitors have been told of what was given up.
    pub(super) told: Unsent,
    /// The socket is done but for what flushers have in hand.
    pub(super) finishing: bool,
}

/// The socket's share of the accounting law.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) written: u64,
    pub(super) written_bytes: u64,
    pub(super) dropped: Dropped,
    /// The octets of what was dropped for lingering too long.
    pub(super) lingered_bytes: u64,
    pub(super) refused_subscriptions: u64,
}

/// Which peers a message goes to.
pub(super) enum Routing {
    /// PULL sends nothing.
    Nowhere,
    /// PUSH, DEALER, PAIR: the next peer with room.
    Balance(Balance),
    /// REQ: as those, in lockstep.
    Request(Balance, Requests<PeerId>),
    /// REP: back to where the request came from.
    Reply(Replies<PeerId>),
    /// ROUTER: by routing id.
    Router(Routes),
    /// PUB, XPUB: to every matching subscriber.
    Publish(Box<Publisher>),
    /// SUB, XSUB: upstream, to every publisher.
    Upstream,
}

pub(super) struct Publisher {
    pub(super) subscriptions: Subscriptions,
    appender: Appender,
    /// Encodes a message of several frames before it is appended.
    scratch: Vec<u8>,
    /// The slots of those who get the message in hand.
    pub(super) matched: Vec<u32>,
    /// Under `manual`: whose subscription the application read last.
    pub(super) last: Option<PeerId>,
    /// Under `manual_last_value`: the one peer the next message goes to.
    pub(super) only: Option<PeerId>,
}

/// One peer of a socket.
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) outbox: Outbox,
    pub(super) wire: Wire,
    /// The routing id it is known by.
    pub(super) routing_id: Bytes,
    pub(super) credit: Credit,
    /// The largest message it has said that it accepts.
    pub(super) largest: Size,
    /// What is held for it, as the context's budget counts it.
    charge: Charge,
    /// Its metadata and subscriptions, as the context's budget counts them.
    standing: Standing,
    /// It is on the dirty list.
    pub(super) dirty: bool,
    /// No driver was rung for it, because a caller is expected.
    pub(super) deferred: bool,
    /// Its endpoint is being closed: it gets nothing new.
    pub(super) retired: bool,
    /// It is gone, and stays only until a flusher has settled what it has in hand and its topics are taken from it.
    pub(super) condemned: bool,
    /// Its linger time has run out: what it loses from now on is lost to that.
    pub(super) lingered: bool,
    /// The minor version of its protocol: which form of subscription it is sent.
    pub(super) minor: u8,
    /// Messages that count against its mark beside those that wait: for inproc, what the receiver has in hand and its
    /// application has not read; and the places that are reserved.
    pub(super) beside: usize,
    /// How many of these are reserved.
    pub(super) reserved: usize,
    /// For inproc: the octets of what the receiver's application has not read.
    pub(super) unread_bytes: usize,
    /// For inproc: what the receiver's mark adds to ours; 0 is no limit at all, `None` while nobody is there.
    pub(super) added: Option<Marks>,
    pub(super) about: Box<About>,
    pub(super) counts: PeerStats,
}

/// What is known of a peer, off the hot path.
pub(super) struct About {
    pub(super) endpoint_id: EndpointId,
    pub(super) endpoint: Arc<str>,
    pub(super) address: Arc<str>,
    pub(super) kind: Option<SocketKind>,
    pub(super) properties: Vec<(String, Bytes)>,
    /// How many octets these have.
    pub(super) metadata: usize,
    pub(super) credentials: Option<wiremesh_transports::Credentials>,
    /// It was given this routing id when it was connected.
    pub(super) assigned_id: Bytes,
    /// The routing id it announced last that was not empty; `None` before its first handshake.
    pub(super) announced_id: Option<Bytes>,
    /// Its endpoint connects again as another peer when the connection is lost.
    pub(super) immediate: bool,
    /// How many messages were written or dropped when it was greeted last.
    pub(super) greeted: Option<u64>,
    /// How many messages and octets had been written when its connection came up.
    pub(super) written_before: (u64, u64),
    /// Whether senders of long messages wait for it.
    pub(super) trust: Trust,
    /// Which of our subscriptions it ends its connections over, and those that were given up for that.
    pub(super) search: Search,
    pub(super) untold: BTreeSet<Vec<u8>>,
}

/// Where an outbox leads.
pub(super) enum Wire {
    /// No connection at the moment.
    None,
    Stream(Arc<dyn Stream>),
    /// Another socket of the same context, and who we are to it.
    Inproc {
        core: Weak<Core>,
        there: PeerId,
        notice: Notice,
    },
}

/// How the other end of an inproc link hears of the next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// It is to be told.
    Due,
    /// It has been told that something waits, and looks again before it leaves.
    Given,
    /// So it has. But whoever comes for that has done its share, and goes when the thread that sends next comes in its
    /// place.
    Wanted,
}

impl Notice {
    /// Something waits. Returns true if the other end is to be told.
    #[inline(always)]
    pub(super) fn give(&mut self) -> bool {
        std::mem::replace(self, Notice::Given) != Notice::Given
    }
}

/// What is to be done once the lock is released.
pub(super) enum After {
    Nothing,
    Ring,
    Inline(PeerId),
    Notice(Weak<Core>, PeerId),
}

/// What is to be done once the lock is released, for a message that goes to several peers.
#[derive(Default)]
struct FollowUp {
    inline: Option<PeerId>,
    ring: bool,
    notices: smallvec::SmallVec<[(Weak<Core>, PeerId); 4]>,
}

/// A message to be queued, as cheaply as it came.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    /// One frame, short enough to be copied.
    Body(&'a [u8]),
    Message(&'a Message),
}

/// To whom a message goes.
#[derive(Clone, Copy)]
pub(crate) enum Recipient<'a> {
    /// Whom the pattern chooses.
    Pattern,
    /// The peer with that routing id.
    RoutingId(&'a [u8]),
    /// That peer.
    Peer(PeerId),
}

impl<'a> Recipient<'a> {
    /// The slot of the peer that a ROUTER's message goes to; `None` if there is no such peer. A peer named by its
    /// handle is found under the routing id it has now.
    pub(super) fn find(self, routes: &Routes, peers: &Slab<Peer>) -> Option<u32> {
        match self {
            Recipient::Pattern => None,
            Recipient::RoutingId(id) => routes.find(id),
            Recipient::Peer(id) => {
                let known = peers.get(id.key()).and_then(|peer| routes.find(&peer.routing_id));
                known.filter(|slot| *slot == id.slot())
            }
        }
    }

    /// The routing id that an error names.
    pub(super) fn routing_id(self) -> Option<&'a [u8]> {
        match self {
            Recipient::RoutingId(id) => Some(id),
            Recipient::Pattern | Recipient::Peer(_) => None,
        }
    }
}

/// So many messages, or octets, that wait for the caller's next visit are worth a write of their own: their receiver is
/// to have work, too.
const HANDFUL: usize = 128;
const HANDFUL_BYTES: usize = 32 * 1024;
/// Steps in which the octets held for a peer are counted, so that not every small message pays for it: so many at
/// least, or this share of what is counted.
const CHARGE: usize = 16 * 1024;
const CHARGE_SHARE: usize = 64;
/// What a REQ puts in front: an empty frame, and before it the request number if there is one.
pub(super) const DELIMITER: Size = Size { octets: 0, frames: 1 };
pub(super) const NUMBER_AND_DELIMITER: Size = Size { octets: 4, frames: 2 };
/// How many peers are remembered after they are gone.
const DEPARTED: usize = 256;

impl SendSide {
    pub(super) fn new(
        kind: SocketKind,
        options: &Options,
        [account, received]: [&Arc<Account>; 2],
        seed: u32,
    ) -> SendSide {
        let routing = match kind {
            SocketKind::Pull => Routing::Nowhere,
            SocketKind::Push | SocketKind::Dealer | SocketKind::Pair => Routing::Balance(Balance::default()),
            SocketKind::Req => Routing::Request(Balance::default(), Requests::new(seed)),
            SocketKind::Rep => Routing::Reply(Replies::default()),
            SocketKind::Router => Routing::Router(Routes::new(seed)),
            SocketKind::Pub | SocketKind::XPub => Routing::Publish(Box::new(Publisher {
                subscriptions: Subscriptions::new(),
                appender: Appender::new(),
                scratch: Vec::new(),
                matched: Vec::new(),
                last: None,
                only: None,
            })),
            SocketKind::Sub | SocketKind::XSub => Routing::Upstream,
        };
        SendSide {
            peers: Slab::new(),
            dialed: HashMap::new(),
            accepted: BTreeSet::new(),
            left: Names::default(),
            routing,
            pool: Pool::new(),
            dirty: Vec::new(),
            tempo: Tempo::new(),
            marks: Marks::of(options),
            account: Arc::clone(account),
            received: Arc::clone(received),
            largest: own_limit(options),
            counts: Counts::default(),
            closed: false,
            seat: Seat::default(),
            hungry: false,
            departed: VecDeque::new(),
            draining: Draining::new(),
            connections: 0,
            reconnects: 0,
            told: Unsent::default(),
            finishing: false,
        }
    }

    pub(super) fn peer_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(id.key())
    }

    pub(super) fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(id.key())
    }

    /// Makes a peer that has no connection yet.
    pub(super) fn insert(&mut self, about: About, role: Role) -> PeerId {
        let (account, received) = (&self.account, &self.received);
        let endpoint = about.endpoint_id;
        let key = self.peers.insert_as(PeerId::next_generation(), |key| Peer {
            id: PeerId::new(key),
            outbox: Outbox::default(),
            wire: Wire::None,
            routing_id: Bytes::new(),
            credit: Credit::default(),
            largest: Size::UNLIMITED,
            charge: Charge::new(account),
            standing: Standing::new(received),
            dirty: false,
            deferred: false,
            retired: false,
            condemned: false,
            lingered: false,
            minor: 1,
            beside: 0,
            reserved: 0,
            unread_bytes: 0,
            added: None,
            about: Box::new(about),
            counts: PeerStats::default(),
        });
        let peer = PeerId::new(key);
        match role {
            Role::Connected => drop(self.dialed.insert(endpoint, peer)),
            Role::Bound => drop(self.accepted.insert((endpoint, peer))),
        }
        peer
    }

    /// A peer is gone for good: drops what waits for it.
    pub(super) fn condemn(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id.key()) else { return };
        let settled = peer.outbox.clear(&mut self.pool);
        peer.recharge();
        peer.wire = Wire::None;
        peer.settle(settled, &mut self.counts);
        peer.condemned = true;
        self.remove_settled(id);
    }

    /// Removes a peer that is gone, unless something of it is left to be settled. Returns true if it is gone.
    pub(super) fn remove_settled(&mut self, id: PeerId) -> bool {
        let Some(peer) = self.peer(id).filter(|peer| peer.condemned) else { return false };
        if peer.outbox.queued() == 0 && !self.is_leaving(id) {
            self.remove(id);
        }
        true
    }

    /// Returns true if a peer has left a publisher and may have topics left, which are being taken from it.
    pub(super) fn is_leaving(&self, id: PeerId) -> bool {
        match &self.routing {
            Routing::Publish(publisher) => self.peer(id).is_some() && publisher.subscriptions.is_leaving(id.slot()),
            Routing::Nowhere
            | Routing::Balance(_)
            | Routing::Request(..)
            | Routing::Reply(_)
            | Routing::Router(_)
            | Routing::Upstream => false,
        }
    }

    /// Whether flushers still have something in hand for peers that are gone.
    pub(super) fn is_settling(&self) -> bool {
        self.peers.iter().any(|(_, peer)| peer.condemned)
    }

    /// Removes a peer from the table and keeps a note of it.
    fn remove(&mut self, id: PeerId) -> Option<Peer> {
        let peer = self.peers.remove(id.key())?;
        let endpoint = peer.about.endpoint_id;
        self.accepted.remove(&(endpoint, id));
        if self.dialed.get(&endpoint) == Some(&id) {
            self.dialed.remove(&endpoint);
            // Over any other transport an endpoint looks for another peer.
            if peer.about.endpoint.starts_with("inproc://") {
                self.left.insert(endpoint, Arc::clone(&peer.about.endpoint));
            }
        }
        if self.departed.len() >= DEPARTED {
            self.departed.pop_front();
        }
        let mut info = peer.info();
        info.connected = false;
        self.departed.push_back(info);
        Some(peer)
    }

    /// The routing id of a peer that is here, or was lately.
    pub(super) fn routing_id_of(&self, id: PeerId) -> Option<Bytes> {
        let departed = || self.departed.iter().rev().find(|info| info.id == id).map(|info| info.routing_id.clone());
        self.peer(id).map(|peer| peer.routing_id.clone()).or_else(departed)
    }

    /// What came from a peer, to be known when nothing of it is unread any more.
    pub(super) fn note_received(&mut self, id: PeerId, messages: u64, bytes: u64) {
        let stats = match self.peers.get_mut(id.key()) {
            Some(peer) => Some(&mut peer.counts),
            None => self.departed.iter_mut().rev().find(|info| info.id == id).map(|info| &mut info.stats),
        };
        if let Some(stats) = stats {
            (stats.received, stats.received_bytes) = (messages, bytes);
        }
    }

    /// Queues a message for a peer and says what is to follow.
    #[inline(always)]
    pub(super) fn push(&mut self, slot: u32, envelope: &[Bytes], payload: Payload<'_>, core: &Core) -> After {
        self.enqueue(slot, envelope, payload, core, false)
    }

    /// Queues a message for a peer. What is to follow is up to the caller if it is `attended`.
    #[inline(always)]
    pub(super) fn enqueue(
        &mut self,
        slot: u32,
        envelope: &[Bytes],
        payload: Payload<'_>,
        core: &Core,
        attended: bool,
    ) -> After {
        let marks = self.marks;
        let Some(peer) = self.peers.at_mut(slot) else { return After::Nothing };
        let idle = peer.outbox.is_idle();
        let mut replaced = 0;
        if core.conflate {
            replaced = peer.outbox.conflate(&mut self.pool);
            self.counts.dropped.conflate += replaced as u64;
            peer.counts.dropped.conflate += replaced as u64;
        }
        match payload {
            Payload::Body(body) if envelope.is_empty() => peer.outbox.push_body(body, &mut self.pool),
            Payload::Body(body) => peer.outbox.push(envelope, &Message::from(body), &mut self.pool),
            Payload::Message(message) => peer.outbox.push(envelope, message, &mut self.pool),
        }
        self.counts.accepted += 1;
        peer.counts.accepted += 1;
        peer.note_fill(marks);
        if replaced > 0 {
            peer.recharge();
        } else if peer.charge() && matches!(self.routing, Routing::Balance(_)) {
            peer.deepen();
        }
        if attended {
            return After::Nothing;
        }
        let lone = || self.tempo.is_lone(self.counts.accepted);
        peer.after_push(idle && replaced == 0, true, lone, &mut self.dirty, core)
    }

    /// Counts what a peer's metadata and subscriptions have become.
    pub(super) fn note_standing(&mut self, id: PeerId) {
        let topics = match &self.routing {
            Routing::Publish(publisher) => publisher.subscriptions.memory_of(id.slot()),
            Routing::Nowhere
            | Routing::Balance(_)
            | Routing::Request(..)
            | Routing::Reply(_)
            | Routing::Router(_)
            | Routing::Upstream => 0,
        };
        if let Some(peer) = self.peers.get_mut(id.key()) {
            peer.standing.set(topics + peer.about.metadata);
        }
    }

    /// A peer gave room: whether senders are to be told.
    pub(super) fn gave_room(&mut self, slot: u32) -> bool {
        let marks = self.marks;
        let Some(peer) = self.peers.at_mut(slot) else { return false };
        let Some((load, limits)) = peer.unreserved(marks) else { return false };
        let was_deep = peer.credit.is_deep();
        let room = peer.credit.drain(load, limits, &mut self.hungry);
        if was_deep && !peer.credit.is_deep() {
            peer.about.trust.prove();
        }
        room
    }

    /// The marks in force for a peer are others now.
    pub(super) fn marks_changed(&mut self, id: PeerId) {
        let marks = self.marks;
        if let Some(peer) = self.peer_mut(id) {
            peer.credit.fill(peer.load().messages, peer.limits(marks).messages);
        }
    }

    /// Puts a peer on the dirty list; whether somebody has to be rung.
    pub(super) fn mark_dirty(&mut self, id: PeerId) -> bool {
        match self.peers.get_mut(id.key()) {
            Some(peer) if !peer.dirty && matches!(peer.wire, Wire::Stream(_)) => {
                peer.dirty = true;
                self.dirty.push(id);
                true
            }
            Some(_) | None => false,
        }
    }

    /// How many messages and octets wait, those being written included.
    pub(super) fn queued(&self) -> (u64, u64) {
        self.peers.iter().fold((0, 0), |(messages, bytes), (_, peer)| {
            (messages + peer.outbox.queued() as u64, bytes + peer.outbox.waiting_bytes() as u64)
        })
    }

    /// Why nobody among these peers can be sent a message now, which has that size for each.
    #[cold]
    pub(super) fn no_room(&mut self, size: impl Fn(&Peer) -> Size) -> SendFailure {
        let peers = match &self.routing {
            Routing::Balance(balance) | Routing::Request(balance, _) => balance.peers(),
            Routing::Nowhere | Routing::Reply(_) | Routing::Router(_) | Routing::Publish(_) | Routing::Upstream => &[],
        };
        let peers = peers.iter().filter_map(|slot| self.peers.at(*slot));
        let refused = Size::refused_by_all(peers.map(|peer| (size(peer), peer.largest)));
        refused.unwrap_or_else(|| {
            self.hungry = true;
            SendFailure::WouldBlock
        })
    }

    /// Counts a message that a peer has no room for.
    #[cold]
    fn refuse(&mut self, slot: u32, size: Size) {
        let marks = self.marks;
        let Some(peer) = self.peers.at_mut(slot) else { return };
        peer.refuse(size, marks, &mut self.counts);
    }

    #[inline(always)]
    fn size_of(payload: Payload<'_>) -> Size {
        match payload {
            Payload::Body(body) => Size::of_frame(body.len()),
            Payload::Message(message) => message.size(),
        }
    }
}

/// The largest message the socket sends.
pub(super) fn own_limit(options: &Options) -> Size {
    if !options.profile.limits_sends() {
        return Size::UNLIMITED;
    }
    let octets = Some(options.max_message_size).filter(|size| *size != 0);
    Size::limit(octets, Some(accepted_frames(options)))
}

impl Marks {
    pub(super) fn of(options: &Options) -> Marks {
        Marks {
            messages: options.send_mark as usize,
            bytes: usize::try_from(options.send_byte_mark).unwrap_or(usize::MAX),
        }
    }
}

impl Publisher {
    /// Finds who gets a message on that topic.
    #[inline(always)]
    pub(super) fn find(&mut self, topic: &[u8], peers: &Slab<Peer>, invert: bool) {
        let Publisher { subscriptions, matched, only, .. } = self;
        subscriptions.matches(topic, matched);
        if invert {
            let mut hit = std::mem::take(matched);
            hit.sort_unstable();
            let mut hit = hit.into_iter().peekable();
            // Peers come in the order of their slots.
            let open = peers.iter().filter(|(_, peer)| peer.is_open()).map(|(key, _)| key.index);
            let mut is_missed = |slot: &u32| {
                while hit.next_if(|earlier| earlier < slot).is_some() {}
                hit.peek() != Some(slot)
            };
            matched.extend(open.filter(|slot| is_missed(slot) && !subscriptions.is_leaving(*slot)));
        }
        if let Some(only) = *only {
            matched.retain(|slot| *slot == only.slot());
        }
    }
}

impl Peer {
    /// Whether it may be sent something new: it is not gone, and its endpoint is not being closed.
    pub(super) fn is_open(&self) -> bool {
        !(self.condemned || self.retired)
    }

    /// The marks in force for this peer: for inproc the receiver's are added, and no limit on either side is no limit.
    pub(super) fn limits(&self, own: Marks) -> Marks {
        let sum = |a: usize, b: usize| if a == 0 || b == 0 { 0 } else { a.saturating_add(b) };
        match self.added {
            None => own,
            Some(added) => Marks { messages: sum(own.messages, added.messages), bytes: sum(own.bytes, added.bytes) },
        }
    }

    #[inline(always)]
    pub(super) fn has_room(&self, size: Size, own: Marks, core: &Core) -> bool {
        let bytes = self.outbox.waiting_bytes() + self.unread_bytes;
        if self.credit.is_full() || !size.is_within(self.largest) || (core.queued.is_stopped() && self.held() > 0) {
            return false;
        }
        own.admit(bytes, size.octets) || self.fits_added(bytes, size.octets, own)
    }

    /// Counts a message there is no room for, by what stands in its way.
    #[cold]
    fn refuse(&mut self, size: Size, own: Marks, counts: &mut Counts) {
        self.count_refused(self.obstacle(size, own), counts);
    }

    /// What stands in the way of a message there is no room for.
    pub(super) fn obstacle(&self, size: Size, own: Marks) -> Reason {
        if !size.is_within(self.largest) {
            return Reason::TooLarge;
        }
        let bytes = self.outbox.waiting_bytes() + self.unread_bytes;
        let at_mark = self.credit.is_full() || !self.fits_added(bytes, size.octets, own);
        if at_mark { Reason::HighWaterMark } else { Reason::Limit }
    }

    /// Counts a message that was taken and dropped at once.
    pub(super) fn count_refused(&mut self, reason: Reason, counts: &mut Counts) {
        for (accepted, dropped) in
            [(&mut counts.accepted, &mut counts.dropped), (&mut self.counts.accepted, &mut self.counts.dropped)]
        {
            *accepted += 1;
            dropped.add(reason, 1);
        }
    }

    /// Counts what became of messages that waited for this peer or were being written.
    pub(super) fn settle(&mut self, settled: Settled, counts: &mut Counts) {
        let reason = if self.lingered { Reason::Linger } else { Reason::Disconnect };
        self.counts.written += settled.written as u64;
        self.counts.written -= (settled.recalled as u64).min(self.counts.written);
        self.counts.written_bytes += settled.written_bytes as u64;
        self.counts.dropped.add(reason, settled.dropped);
        counts.written += settled.written as u64;
        counts.written -= (settled.recalled as u64).min(counts.written);
        counts.written_bytes += settled.written_bytes as u64;
        counts.dropped.add(reason, settled.dropped);
        if self.lingered {
            counts.lingered_bytes += settled.dropped_bytes as u64;
        }
    }

    #[cold]
    fn fits_added(&self, bytes: usize, size: usize, own: Marks) -> bool {
        self.limits(own).admit(bytes, size)
    }

    /// The octets held for it: what waits or is being written, and what an inproc receiver has fetched and not read.
    #[inline(always)]
    fn held(&self) -> usize {
        self.outbox.held_bytes() + self.unread_bytes
    }

    /// Counts what is held now, in steps. Returns true if that was one.
    #[inline(always)]
    fn charge(&mut self) -> bool {
        let held = self.held();
        let counted = self.charge.octets();
        let is_step = held > counted + CHARGE.max(counted / CHARGE_SHARE);
        if is_step {
            self.charge.set(held);
        }
        is_step
    }

    /// So much may wait for it that more is better queued later, if it is likely to take that soon.
    #[cold]
    fn deepen(&mut self) {
        if matches!(self.wire, Wire::Stream(_)) && self.about.trust.holds(self.counts.written_bytes) {
            self.credit.deepen(self.outbox.waiting_bytes());
        }
    }

    /// As [`charge`](Peer::charge), where it may be less. Others may go on because of that: the context is to be
    /// attended to once no lock is held.
    #[inline(always)]
    pub(super) fn recharge(&mut self) {
        let held = self.held();
        if held < self.charge.octets() {
            self.charge.set(held);
        } else {
            self.charge();
        }
    }

    #[inline(always)]
    pub(super) fn note_fill(&mut self, own: Marks) {
        let waiting = self.outbox.waiting() + self.beside;
        if own.messages != 0 && waiting >= own.messages {
            self.credit.fill(waiting, self.limits(own).messages);
        }
    }

    /// What counts against the marks.
    pub(super) fn load(&self) -> Marks {
        Marks { messages: self.outbox.waiting() + self.beside, bytes: self.outbox.waiting_bytes() + self.unread_bytes }
    }

    /// What is to follow a push: nothing while somebody flushes, else an inline write, a ring or a notice.
    #[inline(always)]
    fn after_push(
        &mut self,
        was_idle: bool,
        may_inline: bool,
        is_lone: impl FnOnce() -> bool,
        dirty: &mut Vec<PeerId>,
        core: &Core,
    ) -> After {
        if !was_idle {
            return match &mut self.wire {
                Wire::Stream(_) if self.deferred => {
                    let last = core.next.load(Ordering::Relaxed) == Next::Answer as u8;
                    let many = self.outbox.waiting() >= HANDFUL || self.outbox.waiting_bytes() >= HANDFUL_BYTES;
                    if last || many { After::Inline(self.id) } else { After::Nothing }
                }
                Wire::Inproc { notice: Notice::Given, .. } | Wire::Stream(_) | Wire::None => After::Nothing,
                Wire::Inproc { core, there, notice } => {
                    *notice = Notice::Given;
                    After::Notice(Weak::clone(core), *there)
                }
            };
        }
        match &mut self.wire {
            Wire::None => After::Nothing,
            Wire::Stream(_) => {
                let (lone, next) = (is_lone(), core.next.load(Ordering::Relaxed));
                if may_inline && (next == Next::Answer as u8 || (lone && next != Next::Receive as u8)) {
                    return After::Inline(self.id);
                }
                if std::mem::replace(&mut self.dirty, true) {
                    return After::Nothing;
                }
                dirty.push(self.id);
                // A caller that comes back for what it has not received yet flushes what it has sent by then, all at
                // once.
                let few = self.outbox.waiting_bytes() < HANDFUL_BYTES;
                self.deferred = few && next == Next::Receive as u8 && core.port.awaits_caller();
                if self.deferred { After::Nothing } else { After::Ring }
            }
            Wire::Inproc { core, there, notice } => {
                if notice.give() {
                    After::Notice(Weak::clone(core), *there)
                } else {
                    After::Nothing
                }
            }
        }
    }

    /// Leaves what waits to whoever drives, to be written at once rather than at a caller's next visit; somebody is to
    /// be rung for it.
    fn leave_to_driver(&mut self, dirty: &mut Vec<PeerId>) {
        self.deferred = false;
        if !std::mem::replace(&mut self.dirty, true) {
            dirty.push(self.id);
        }
    }

    pub(super) fn info(&self) -> crate::PeerInfo {
        let mut stats = self.counts;
        stats.queued = self.outbox.queued() as u64;
        stats.queued_bytes = self.outbox.waiting_bytes() as u64;
        crate::PeerInfo {
            id: self.id,
            endpoint: self.about.endpoint.to_string(),
            address: self.about.address.to_string(),
            kind: self.about.kind,
            routing_id: self.routing_id.clone(),
            properties: self.about.properties.clone(),
            credentials: self.about.credentials,
            connected: !matches!(self.wire, Wire::None),
            attempts: 0,
            last_error: None,
            stats,
        }
    }
}

impl Core {
    pub(super) fn lock_send(&self) -> Pass<'_, SendSide> {
        self.send.lock()
    }

    /// Tries once to queue a message.
    #[inline(always)]
    pub(super) fn offer(&self, payload: Payload<'_>, to: Recipient<'_>) -> Result<(), SendFailure> {
        let mut guard = self.lock_send();
        let side = &mut *guard;
        if side.closed {
            return Err(SendFailure::Closed);
        }
        let size = SendSide::size_of(payload);
        if !size.is_within(side.largest) {
            return self.refuse_large(guard, payload, to, size);
        }
        let after = match &mut side.routing {
            Routing::Balance(balance) => {
                let (peers, marks) = (&side.peers, side.marks);
                let has_room = |peer: &Peer| match self.conflate {
                    true => size.is_within(peer.largest),
                    false => peer.has_room(size, marks, self),
                };
                let room = |slot| peers.at(slot).is_some_and(has_room);
                match balance.choose(room) {
                    Some(slot) => side.push(slot, &[], payload, self),
                    None => return Err(self.find_no_room(guard, size)),
                }
            }
            Routing::Nowhere
            | Routing::Request(..)
            | Routing::Reply(_)
            | Routing::Router(_)
            | Routing::Publish(_)
            | Routing::Upstream => return self.offer_otherwise(guard, payload, to),
        };
        drop(guard);
        self.follow(after);
        Ok(())
    }

    /// Nobody has room. That a shortage has begun is told here at the latest, as whoever is stopped by it asks why.
    #[cold]
    fn find_no_room(&self, mut guard: Pass<'_, SendSide>, size: Size) -> SendFailure {
        let failure = guard.no_room(|_| size);
        self.note_stop(guard);
        failure
    }

    /// A sender is to wait, because a peer that its message has to reach has no room.
    #[cold]
    pub(super) fn hold_up(&self, mut guard: Pass<'_, SendSide>) -> SendFailure {
        guard.hungry = true;
        self.note_stop(guard);
        SendFailure::WouldBlock
    }

    /// The kind of the socket has no such operation.
    #[cold]
    pub(super) fn does_not(&self, operation: &'static str) -> SendFailure {
        SendFailure::NotSupported { kind: self.kind, operation }
    }

    fn note_stop(&self, guard: Pass<'_, SendSide>) {
        drop(guard);
        self.context.attend();
        self.context.tell_shortages();
    }

    /// Refuses a message above the socket's own limit. The routing id in front of a ROUTER's does not count.
    #[cold]
    fn refuse_large(
        &self,
        guard: Pass<'_, SendSide>,
        payload: Payload<'_>,
        to: Recipient<'_>,
        size: Size,
    ) -> Result<(), SendFailure> {
        let size = match (payload, to) {
            (Payload::Message(message), Recipient::Pattern) if self.kind == SocketKind::Router => {
                Size { octets: size.octets - message.first().len(), frames: size.frames - 1 }
            }
            (Payload::Message(_) | Payload::Body(_), _) => size,
        };
        match Size::refused_by_all([(size, guard.largest)].into_iter()) {
            Some(refused) => Err(refused),
            None => self.offer_otherwise(guard, payload, to),
        }
    }

    #[inline(never)]
    fn offer_otherwise(
        &self,
        mut guard: Pass<'_, SendSide>,
        payload: Payload<'_>,
        to: Recipient<'_>,
    ) -> Result<(), SendFailure> {
        let side = &mut *guard;
        let size = SendSide::size_of(payload);
        let marks = side.marks;
        let after = match &mut side.routing {
            Routing::Nowhere | Routing::Balance(_) => return Err(self.does_not("send")),
            Routing::Request(balance, requests) => {
                if !requests.may_send(self.switch().relaxed) {
                    return Err(SendFailure::WrongState(UNANSWERED));
                }
                let peers = &side.peers;
                // What stands in front of the request counts against the peer's limit as well.
                let size = size.behind(if self.correlate { NUMBER_AND_DELIMITER } else { DELIMITER });
                let room = |slot| peers.at(slot).is_some_and(|peer| peer.has_room(size, marks, self));
                let Some(slot) = balance.choose(room) else { return Err(self.find_no_room(guard, size)) };
                let Some(peer) = peers.at(slot) else { return Err(SendFailure::WouldBlock) };
                let envelope = requests.ask(peer.id, self.correlate);
                side.push(slot, &envelope, payload, self)
            }
            Routing::Reply(replies) => {
                let Some(request) = replies.take() else {
                    return Err(SendFailure::WrongState("there is no request to answer"));
                };
                let asker = request.peer;
                let octets = request.envelope.iter().map(Bytes::len).sum();
                let size = size.behind(Size { octets, frames: request.envelope.len() });
                let after = match side.peers.get_mut(asker.key()).filter(|peer| !peer.condemned) {
                    // A REQ that counts its requests asks again by itself. Another can only wait for what its new
                    // connection brings.
                    Some(peer)
                        if request.is_cut && request.is_numbered() && peer.about.kind == Some(SocketKind::Req) =>
                    {
                        peer.count_refused(Reason::Disconnect, &mut side.counts);
                        After::Nothing
                    }
                    Some(peer) if peer.has_room(size, marks, self) => {
                        side.push(asker.slot(), &request.envelope, payload, self)
                    }
                    Some(_) => {
                        side.refuse(asker.slot(), size);
                        After::Nothing
                    }
                    None => {
                        side.counts.accepted += 1;
                        side.counts.dropped.disconnect += 1;
                        After::Nothing
                    }
                };
                side.pool.lay_aside(request.envelope);
                after
            }
            Routing::Router(routes) => {
                let (stripped, front);
                let (slot, payload) = match (to, payload) {
                    (Recipient::RoutingId(_) | Recipient::Peer(_), payload) => (to.find(routes, &side.peers), payload),
                    (Recipient::Pattern, Payload::Message(message)) if message.len() > 1 => {
                        let mut rest = message.clone();
                        front = rest.pop_front().unwrap_or(crate::Frame::empty());
                        stripped = rest;
                        (routes.find(&front), Payload::Message(&stripped))
                    }
                    (Recipient::Pattern, _) => {
                        return Err(SendFailure::Unacceptable("a ROUTER needs a routing id in front of the message"));
                    }
                };
                let mandatory = self.switch().mandatory;
                let size = SendSide::size_of(payload);
                let slot = slot.filter(|slot| side.peers.at(*slot).is_some());
                let peer = slot.and_then(|slot| side.peers.at(slot));
                let refused = Size::refused_by_all(peer.map(|peer| (size, peer.largest)).into_iter());
                if let Some(refused) = refused.filter(|_| mandatory) {
                    return Err(refused);
                }
                match slot {
                    Some(slot) if side.peers.at(slot).is_some_and(|peer| peer.has_room(size, marks, self)) => {
                        side.push(slot, &[], payload, self)
                    }
                    Some(_) if mandatory => return Err(self.hold_up(guard)),
                    None if mandatory => return Err(SendFailure::Unroutable),
                    Some(full) => {
                        side.refuse(full, size);
                        After::Nothing
                    }
                    None => {
                        side.counts.accepted += 1;
                        side.counts.dropped.unroutable += 1;
                        After::Nothing
                    }
                }
            }
            Routing::Publish(_) => return self.publish(guard, payload),
            Routing::Upstream => return self.offer_upstream(guard, payload),
        };
        drop(guard);
        self.follow(after);
        Ok(())
    }

    /// PUB and XPUB: encodes the message once and queues it for every matching subscriber that has room.
    fn publish(&self, mut guard: Pass<'_, SendSide>, payload: Payload<'_>) -> Result<(), SendFailure> {
        let SendSide { peers, routing, marks, counts, .. } = &mut *guard;
        let Routing::Publish(publisher) = routing else { return Err(self.does_not("publish")) };
        let topic = match payload {
            Payload::Body(body) => body,
            Payload::Message(message) => message.first(),
        };
        publisher.find(topic, peers, self.invert);
        let nodrop = self.switch().nodrop;
        if nodrop {
            let size = SendSide::size_of(payload);
            // There is no use in waiting for one that does not accept so much.
            let waits =
                |peer: &Peer| !self.conflate && size.is_within(peer.largest) && !peer.has_room(size, *marks, self);
            let full = |slot: &u32| peers.at(*slot).is_some_and(waits);
            if publisher.matched.iter().any(full) {
                return Err(self.hold_up(guard));
            }
        }
        publisher.only = None;
        if publisher.matched.is_empty() {
            counts.accepted += 1;
            counts.dropped.unroutable += 1;
            return Ok(());
        }
        // All of them had room. What the first of them holds now must not cost the others the message.
        self.distribute(guard, payload, nodrop)
    }

    /// Encodes a message once and queues it for everybody `matched`; who has no room misses it, unless it is
    /// `reserved`.
    #[inline(always)]
    pub(super) fn distribute(
        &self,
        mut guard: Pass<'_, SendSide>,
        payload: Payload<'_>,
        reserved: bool,
    ) -> Result<(), SendFailure> {
        let SendSide { peers, routing, pool, dirty, tempo, marks, counts, .. } = &mut *guard;
        let Routing::Publish(publisher) = routing else { return Err(self.does_not("publish")) };
        let Publisher { appender, scratch, matched, .. } = &mut **publisher;
        let size = SendSide::size_of(payload);
        let shared = if matched.len() > 2 && size.octets <= PIECE / 2 && !self.conflate {
            encode(appender, scratch, payload)
        } else {
            None
        };
        let alone = matched.len() == 1;
        let mut follow_up = FollowUp::default();
        for slot in matched.drain(..) {
            let Some(peer) = peers.at_mut(slot) else { continue };
            let full = !reserved && !self.conflate && !peer.has_room(size, *marks, self);
            if full || !size.is_within(peer.largest) {
                peer.refuse(size, *marks, counts);
                continue;
            }
            counts.accepted += 1;
            peer.counts.accepted += 1;
            let mut idle = peer.outbox.is_idle();
            if self.conflate {
                let replaced = peer.outbox.conflate(pool) as u64;
                counts.dropped.conflate += replaced;
                peer.counts.dropped.conflate += replaced;
                idle &= replaced == 0;
            }
            match (&shared, payload) {
                (Some(extent), _) => peer.outbox.push_extent(extent, pool),
                (None, Payload::Body(body)) => peer.outbox.push_body(body, pool),
                (None, Payload::Message(message)) => peer.outbox.push(&[], message, pool),
            }
            peer.note_fill(*marks);
            if self.conflate {
                peer.recharge();
            } else {
                peer.charge();
            }
            let after = peer.after_push(idle, alone, || tempo.is_lone(counts.accepted), dirty, self);
            follow_up.add(after, peer, dirty);
        }
        drop(guard);
        self.follow_all(follow_up);
        self.context.attend();
        self.context.tell_shortages();
        Ok(())
    }

    /// SUB and XSUB: to every publisher that has room.
    fn offer_upstream(&self, mut guard: Pass<'_, SendSide>, payload: Payload<'_>) -> Result<(), SendFailure> {
        let side = &mut *guard;
        let (size, marks) = (SendSide::size_of(payload), side.marks);
        let open = side.peers.iter().filter(|(_, peer)| peer.is_open());
        let slots: Vec<u32> = open.map(|(key, _)| key.index).collect();
        let mut follow_up = FollowUp::default();
        for slot in &slots {
            if side.peers.at(*slot).is_some_and(|peer| peer.has_room(size, marks, self)) {
                let after = side.push(*slot, &[], payload, self);
                if let Some(peer) = side.peers.at_mut(*slot) {
                    follow_up.add(after, peer, &mut side.dirty);
                }
            } else {
                side.refuse(*slot, size);
            }
        }
        if slots.is_empty() {
            side.counts.accepted += 1;
            side.counts.dropped.unroutable += 1;
        }
        drop(guard);
        self.follow_all(follow_up);
        Ok(())
    }

    /// Does what a push asked for, with no lock held.
    #[inline(always)]
    pub(super) fn follow(&self, after: After) {
        match after {
            After::Nothing => {}
            // Waking somebody takes longer than the pause that ends a burst.
            After::Ring if self.port.ring() => self.lock_send().tempo.go_on(),
            After::Ring => {}
            After::Inline(peer) => {
                self.note_answered();
                self.flush_inline(peer);
            }
            After::Notice(core, there) => {
                if let Some(core) = core.upgrade() {
                    core.notice(there);
                }
            }
        }
    }

    /// Does what the pushes of one message asked for, with no lock held.
    #[inline(always)]
    fn follow_all(&self, follow_up: FollowUp) {
        self.follow(follow_up.inline.map_or(After::Nothing, After::Inline));
        for (core, there) in follow_up.notices {
            self.follow(After::Notice(core, there));
        }
        self.follow(if follow_up.ring { After::Ring } else { After::Nothing });
    }

    /// What may have been the answer is on its way: the next message is none. Known once all peers of one message have
    /// been asked.
    pub(super) fn note_answered(&self) {
        if self.next.load(Ordering::Relaxed) == Next::Answer as u8 {
            self.next.store(Next::Unknown as u8, Ordering::Relaxed);
        }
    }
}

impl FollowUp {
    /// Adds what is to follow the push to one more peer. The sender writes to the first that asks for it; for the
    /// others it would be too long a wait in a row, and a driver is rung.
    #[inline(always)]
    fn add(&mut self, after: After, peer: &mut Peer, dirty: &mut Vec<PeerId>) {
        match after {
            After::Nothing => {}
            After::Ring => self.ring = true,
            After::Inline(id) if self.inline.is_none() => self.inline = Some(id),
            After::Inline(_) => {
                peer.leave_to_driver(dirty);
                self.ring = true;
            }
            After::Notice(core, there) => self.notices.push((core, there)),
        }
    }
}

/// Encodes a message in the publisher's chunk; `None` when it is better queued for each peer by itself.
fn encode(appender: &mut Appender, scratch: &mut Vec<u8>, payload: Payload<'_>) -> Option<crate::queue::chunk::Extent> {
    match payload {
        Payload::Body(body) => {
            let (header, size) = wire::header(0, body.len());
            appender.append(&[&header[..size], body])
        }
        Payload::Message(message) => {
            if message.iter().any(|frame| frame.len() > COPY_LIMIT) {
                return None;
            }
            scratch.clear();
            let last = message.len() - 1;
            for (index, frame) in message.iter().enumerate() {
                let (header, size) = wire::header(if index < last { wire::MORE } else { 0 }, frame.len());
                scratch.extend_from_slice(&header[..size]);
                scratch.extend_from_slice(frame);
            }
            appender.append(&[scratch])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Budget, BudgetHalf};
    use crate::options::default_options;
    use crate::{Context, Sub, XPub, XSub};
    use std::time::{Duration, Instant};

    const LIMIT: Duration = Duration::from_secs(10);
    /// In the first round a driver may be busy with the connections, and see what nobody called it for.
    const ROUNDS: usize = 10;

    /// Queues a message for every peer as a sender does that is expected to receive again, so that no driver is called
    /// for it.
    fn defer(core: &Core, body: &[u8]) {
        let mut guard = core.lock_send();
        let side = &mut *guard;
        let slots: Vec<u32> = side.peers.iter().map(|(key, _)| key.index).collect();
        for slot in slots {
            side.enqueue(slot, &[], Payload::Body(body), core, true);
            let Some(peer) = side.peers.at_mut(slot) else { continue };
            (peer.dirty, peer.deferred) = (true, true);
            side.dirty.push(peer.id);
        }
    }

    fn publisher_with_three_subscribers(context: &Context) -> (XPub, Vec<Sub>) {
        let publisher = XPub::in_context(context);
        let endpoint = publisher.bind("tcp://127.0.0.1:*").expect("bound");
        let others = Context::new();
        let subscribers: Vec<Sub> = (0..3)
            .map(|_| {
                let subscriber = Sub::in_context(&others);
                subscriber.subscribe("").expect("a topic");
                subscriber.connect(&endpoint).expect("a good endpoint");
                subscriber
            })
            .collect();
        publisher.wait_for_subscribers_to("", 3, LIMIT).expect("three subscribers");
        await_rest(&publisher.core);
        (publisher, subscribers)
    }

    /// Waits until nothing is left to be written.
    fn await_rest(core: &Core) {
        let begin = Instant::now();
        loop {
            let side = core.lock_send();
            if side.dirty.is_empty() && side.peers.iter().all(|(_, peer)| peer.outbox.is_idle()) {
                return;
            }
            drop(side);
            assert!(begin.elapsed() < LIMIT, "something is never written");
            std::thread::yield_now();
        }
    }

    #[test]
    fn those_that_do_not_match_are_found_in_time_among_many() {
        let account = Account::new(&Budget::new(None), BudgetHalf::Sending);
        let time = |peers: usize| {
            let mut side = SendSide::new(SocketKind::Pub, &default_options(), [&account, &account], 0);
            let about = || About::new(EndpointId(0), "".into(), Bytes::new());
            let slots: Vec<u32> = (0..peers).map(|_| side.insert(about(), Role::Bound).slot()).collect();
            let SendSide { routing: Routing::Publish(publisher), peers, .. } = &mut side else { panic!("a PUB") };
            // Of all but the first and the last one.
            for slot in &slots[1..slots.len() - 1] {
                publisher.subscriptions.subscribe(*slot, b"topic");
            }
            let begin = Instant::now();
            publisher.find(b"topic", peers, true);
            let taken = begin.elapsed();
            assert_eq!(publisher.matched, [slots[0], slots[slots.len() - 1]]);
            taken
        };
        // What the caches hold makes some difference; a walk for each would take 256 times as long.
        let least = |peers| (0..3).map(|_| time(peers)).min();
        assert!(
            least(64_000) < least(4_000).map(|few| 100 * few),
            "sixteen times as many take a hundred times as long"
        );
    }

    #[test]
    fn an_answer_to_several_subscribers_takes_along_what_waits_for_each_of_them() {
        let (publisher, subscribers) = publisher_with_three_subscribers(&Context::new());
        for _ in 0..ROUNDS {
            defer(&publisher.core, b"deferred");
            publisher.core.next.store(Next::Answer as u8, Ordering::Relaxed);
            publisher.send("answer").expect("accepted");
            for subscriber in &subscribers {
                assert_eq!(subscriber.recv_timeout(LIMIT).expect("what was deferred"), b"deferred");
                assert_eq!(subscriber.recv_timeout(LIMIT).expect("the answer"), b"answer");
            }
        }
    }

    #[test]
    fn a_handful_for_several_subscribers_is_written_to_each_of_them() {
        let (publisher, subscribers) = publisher_with_three_subscribers(&Context::new());
        for _ in 0..ROUNDS {
            defer(&publisher.core, b"deferred");
            publisher.core.next.store(Next::Receive as u8, Ordering::Relaxed);
            for _ in 1..HANDFUL {
                publisher.send("more").expect("accepted");
            }
            for subscriber in &subscribers {
                for _ in 0..HANDFUL {
                    subscriber.recv_timeout(LIMIT).expect("one of a handful");
                }
            }
        }
    }

    #[test]
    fn an_answer_upstream_takes_along_what_waits_for_each_publisher() {
        let (context, others) = (Context::new(), Context::new());
        let subscriber = XSub::in_context(&context);
        let publishers: Vec<XPub> = (0..3)
            .map(|_| {
                let publisher = XPub::in_context(&others);
                subscriber.connect(publisher.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
                publisher
            })
            .collect();
        subscriber.wait_for_peers(3, LIMIT).expect("three publishers");
        await_rest(&subscriber.core);
        for _ in 0..ROUNDS {
            defer(&subscriber.core, b"deferred");
            subscriber.core.next.store(Next::Answer as u8, Ordering::Relaxed);
            subscriber.send("answer").expect("accepted");
            for publisher in &publishers {
                assert_eq!(publisher.recv_timeout(LIMIT).expect("what was deferred"), b"deferred");
                assert_eq!(publisher.recv_timeout(LIMIT).expect("the answer"), b"answer");
            }
        }
    }
}
