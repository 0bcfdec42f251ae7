//! The receiving half of a socket: what drivers bring lands among the arrivals; whoever receives collects it into
//! inboxes and takes whole messages from them in turn (fair queueing, RFC 28 and 30).

use super::core::{Core, Next, Quickness};
use super::routing_id::RoutingId;
use super::sending::{Counts, Notice, Peer, Routing, Wire};
use super::upstream::Applied;
use crate::budget::{Account, Charge};
use crate::engine::Incoming;
use crate::engine::port::Command;
use crate::engine::waiters::Interest;
use crate::error::RecvError;
use crate::kind::SocketKind;
use crate::message::Message;
use crate::patterns::subscriptions::{PrefixSet, TOPIC};
use crate::peer::PeerId;
use crate::protocol::Token;
use crate::queue::SHARED_READ;
use crate::queue::credit::Marks;
use crate::queue::gate::Pass;
use crate::queue::inbox::{Inbox, Quick};
use crate::queue::intake::{Intake, ReadGate};
use crate::queue::unseen::{Change, Detail, Seen, Unseen};
use crate::slab::{Key, Slab};
use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// What drivers and other sockets of the process have brought and nobody has collected yet.
pub(crate) struct Arrivals {
    items: Vec<Arrival>,
    /// An XPUB's.
    unseen: Unseen,
    /// What the context's budget counts of the changes in that.
    shown: Charge,
    /// What each peer has here or in its inbox.
    flows: HashMap<PeerId, Flow>,
    /// Messages brought since waiting receivers were told.
    fresh: usize,
    /// Messages brought in all.
    brought: u64,
    /// Subscriptions changed since then.
    resubscribed: bool,
    /// Messages that came to a kind on which nobody receives.
    discarded: u64,
    /// Octets received from peers that have no flow any more.
    past_bytes: u64,
}

/// Something for the receiving half.
enum Arrival {
    /// Whole messages in wire form.
    Wire(PeerId, Bytes),
    /// Whole messages with large bodies as pieces of their own.
    Pieces(PeerId, SmallVec<[Bytes; 4]>),
    /// The newest message of a conflated peer.
    Newest(PeerId, Newest),
    /// An inproc peer has something in its outbox.
    Notice(PeerId),
}

impl Arrival {
    fn into_pieces(self) -> SmallVec<[Bytes; 4]> {
        match self {
            Arrival::Wire(_, piece) => SmallVec::from_iter([piece]),
            Arrival::Pieces(_, pieces) => pieces,
            Arrival::Newest(..) | Arrival::Notice(_) => SmallVec::new(),
        }
    }
}

/// The newest message of a conflated peer, and what the context's budget counts of it. That stops no link, as another
/// message only replaces it.
struct Newest {
    message: Message,
    charge: Charge,
}

impl Newest {
    /// One that was read together with others has memory of its own from here on.
    fn new(message: Message, account: &Arc<Account>) -> Newest {
        let message = if Newest::is_detached(&message) { message.detach() } else { message };
        Newest::counted(message, account)
    }

    /// As [`new`](Newest::new), with the gate held: what the message shared until now is laid aside.
    fn laying_aside(message: Message, account: &Arc<Account>, remains: &mut Vec<Bytes>) -> Newest {
        if !Newest::is_detached(&message) {
            return Newest::counted(message, account);
        }
        let own = message.clone().detach();
        remains.extend(message.into_shared());
        Newest::counted(own, account)
    }

    fn is_detached(message: &Message) -> bool {
        message.byte_len() <= LONGEST_DETACHED
    }

    fn counted(message: Message, account: &Arc<Account>) -> Newest {
        let mut charge = Charge::new(account);
        charge.set(message.byte_len());
        Newest { message, charge }
    }
}

/// What comes from a peer. Made when it is attached, and gone once it is dismissed and all of it is read.
struct Flow {
    intake: Intake,
    /// What the context's budget counts of it. What comes from an inproc peer is counted there, as long as that is.
    charge: Charge,
    is_counted_by_sender: bool,
    state: FlowState,
    received: u64,
    received_bytes: u64,
    /// Under `conflate`: where the newest message is among the arrivals, if it is there.
    newest: usize,
}

/// What becomes of what comes from a peer.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum FlowState {
    /// It waits for the application.
    #[default]
    Open,
    /// It is thrown away: the connection is being replaced.
    Muted,
    /// It is thrown away: the peer is gone.
    Ended,
}

impl Flow {
    fn new(account: &Arc<Account>) -> Flow {
        Flow {
            intake: Intake::default(),
            charge: Charge::new(account),
            is_counted_by_sender: false,
            state: FlowState::Open,
            received: 0,
            received_bytes: 0,
            newest: 0,
        }
    }

    /// An XPUB's peer is gone, and all it sent is read.
    fn is_left(&self) -> bool {
        self.state == FlowState::Ended && self.intake.waiting().messages == 0
    }

    /// The application has read so much.
    fn settle(&mut self, read: usize, bytes: usize) {
        self.intake.settle(read, bytes);
        self.charge.limit_to(self.intake.waiting().bytes);
    }
}

/// What an inproc sender had in its outbox.
#[derive(Default)]
pub(super) struct HandedOver {
    pub(super) pieces: Vec<Bytes>,
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// What receivers share.
pub(crate) struct Reader {
    sources: Slab<Source>,
    /// Where each peer's source is: asked once per arrival, not per message.
    places: HashMap<PeerId, Key>,
    /// The latest peer of each token.
    by_token: HashMap<Token, PeerId>,
    /// Sources with messages, in turn, and whose turn it is.
    ring: Vec<u32>,
    turn: usize,
    scratch: Vec<Arrival>,
    /// Where it is counted what messages pin.
    account: Arc<Account>,
    /// What a SUB wants; what an XSUB has asked for.
    pub(super) filter: PrefixSet,
    pub(super) received: u64,
    pub(super) discarded: u64,
    /// Half of the receive mark: credit goes back in such steps.
    pub(super) step: usize,
    pub(super) step_bytes: usize,
    appetite: Appetite,
    /// It has, or had, a peer in this process.
    has_inproc: bool,
    /// The last look for a message ended among messages that the pattern refuses: behind them there may be one.
    pub(super) is_cut_short: bool,
    /// Bodies taken out, to go once the gate is open: see [`Guarded`](crate::queue::gate::Guarded).
    pub(super) remains: Vec<Bytes>,
}

/// How fast the application takes messages, as the engine saw it when it last looked.
struct Appetite {
    at: Instant,
    taken: u64,
    per_milli: u64,
}

impl Appetite {
    /// Looks closer together than this say nothing.
    const LOOK: Duration = Duration::from_micros(200);
    /// An application slower than this is better served by the engine.
    const QUICK: u64 = 4;

    fn note(&mut self, taken: u64) {
        let now = Instant::now();
        let past = now.saturating_duration_since(self.at);
        if past >= Appetite::LOOK {
            let micros = u64::try_from(past.as_micros()).unwrap_or(u64::MAX);
            self.per_milli = (taken - self.taken).saturating_mul(1000) / micros;
            (self.at, self.taken) = (now, taken);
        }
    }
}

/// A peer of this process.
pub(super) struct Fellow {
    /// Its socket, and who we are to that.
    pub(super) core: Weak<Core>,
    pub(super) there: PeerId,
    /// A publisher owes it credit for so much, once all that was fetched is applied.
    pub(super) owed: Marks,
}

/// What came from one peer.
pub(super) struct Source {
    peer: PeerId,
    /// What waits for the application, or, with a publisher, to be applied.
    pub(super) inbox: Inbox,
    /// Under `conflate`: the newest message.
    newest: Option<Box<Newest>>,
    /// Whether it is in the ring.
    active: bool,
    /// The peer is gone, and this was its routing id: the source goes once it is read.
    gone: Option<Bytes>,
    /// The peer was another one before, of which something is unread: it comes first. And those that wait for this.
    behind: Option<PeerId>,
    next: Vec<PeerId>,
    token: Option<Token>,
    /// Where to fetch from, if the peer is one of this process.
    pub(super) inproc: Option<Box<Fellow>>,
    /// For a ROUTER: the routing id the peer had after so many renamings.
    known: Option<(u64, RoutingId)>,
}

impl Reader {
    pub(super) fn new(account: &Arc<Account>) -> Reader {
        Reader {
            sources: Slab::new(),
            places: HashMap::new(),
            by_token: HashMap::new(),
            ring: Vec::new(),
            turn: 0,
            scratch: Vec::new(),
            account: Arc::clone(account),
            filter: PrefixSet::new(),
            received: 0,
            discarded: 0,
            step: 1,
            step_bytes: 1,
            has_inproc: false,
            is_cut_short: false,
            remains: Vec::new(),
            appetite: Appetite { at: Instant::now(), taken: 0, per_milli: 0 },
        }
    }

    /// The source of a peer, which is made if it has none.
    fn source(&mut self, peer: PeerId) -> &mut Source {
        let (sources, account) = (&mut self.sources, &self.account);
        let key = *self.places.entry(peer).or_insert_with(|| {
            sources.insert(Source {
                peer,
                inbox: Inbox::counted(account),
                newest: None,
                active: false,
                gone: None,
                behind: None,
                next: Vec::new(),
                token: None,
                inproc: None,
                known: None,
            })
        });
        sources.get_mut(key).expect("a place is forgotten together with its source")
    }

    /// Puts a peer that has something at the end of the round.
    fn activate(&mut self, peer: PeerId) {
        let source = self.source(peer);
        if source.behind.is_none() && !std::mem::replace(&mut source.active, true) {
            if let Some(key) = self.places.get(&peer) {
                self.ring.push(key.index);
            }
        }
    }

    /// Whose turn it is.
    #[inline(always)]
    fn current(&mut self) -> Option<&mut Source> {
        Some(self.current_and_remains()?.0)
    }

    /// Whose turn it is, and where bodies are laid aside.
    #[inline(always)]
    fn current_and_remains(&mut self) -> Option<(&mut Source, &mut Vec<Bytes>)> {
        let place = *self.ring.get(self.turn)?;
        Some((self.sources.at_mut(place)?, &mut self.remains))
    }

    /// A message goes to nobody: its bodies go once the gate is open. An owner of the application's own have only those
    /// that come from a socket of this process.
    fn lay_aside(&mut self, message: Message) {
        if self.has_inproc {
            self.remains.extend(message.into_shared());
        }
    }

    /// Passes the turn on.
    #[inline(always)]
    fn pass(&mut self) {
        self.turn += 1;
        if self.turn >= self.ring.len() {
            self.turn = 0;
        }
    }

    /// Takes the source whose turn it is out of the ring, because it is read. Says whose it was, if that peer is gone.
    fn rest(&mut self) -> Option<PeerId> {
        let place = self.leave_ring(self.turn);
        let source = self.sources.at_mut(place)?;
        source.active = false;
        let gone = source.peer;
        source.gone.as_ref()?;
        self.forget(gone);
        Some(gone)
    }

    fn forget(&mut self, peer: PeerId) {
        let Some(source) = self.places.remove(&peer).and_then(|key| self.sources.remove(key)) else { return };
        source.inbox.note_keeping();
        let (behind, next) = (source.behind, source.next);
        if let Some(token) = source.token {
            self.give_back(peer, token, behind);
        }
        if let Some(before) = behind.and_then(|before| self.known_source(before)) {
            before.next.retain(|other| *other != peer);
            before.next.extend(&next);
        }
        for next in next {
            let Some(source) = self.known_source(next) else { continue };
            source.behind = behind;
            if behind.is_none() && !(source.inbox.is_empty() && source.newest.is_none()) {
                self.activate(next);
            }
        }
    }

    /// A peer that had that token has it no longer: whoever had it before, and comes before this one, is found by it
    /// again.
    fn give_back(&mut self, peer: PeerId, token: Token, behind: Option<PeerId>) {
        if self.by_token.get(&token) != Some(&peer) {
            return;
        }
        let has_it = |before: &PeerId| {
            let source = self.places.get(before).and_then(|key| self.sources.get(*key));
            source.is_some_and(|source| source.token == Some(token))
        };
        match behind.filter(has_it) {
            Some(before) => self.by_token.insert(token, before),
            None => self.by_token.remove(&token),
        };
    }

    /// A peer has that token. If it has not had it before, and one that is gone had, it has come back: what that one
    /// left unread comes before what this one sends.
    pub(super) fn recognise(&mut self, peer: PeerId, token: Token) {
        let source = self.source(peer);
        let (behind, active) = (source.behind, source.active);
        match source.token.replace(token) {
            Some(before) if before == token => return,
            Some(before) => self.give_back(peer, before, behind),
            None => {}
        }
        let old = self.by_token.insert(token, peer);
        // Of one that came before under another token something may be unread, which has its place already.
        if behind.is_some() || active {
            return;
        }
        let left = old.and_then(|old| self.sources.get_mut(*self.places.get(&old)?)).filter(|left| left.gone.is_some());
        if let Some(left) = left {
            left.next.push(peer);
            let old = left.peer;
            self.source(peer).behind = Some(old);
        }
    }

    /// An inproc peer: where to fetch from, and to whom credit goes back.
    pub(super) fn link_inproc(&mut self, peer: PeerId, core: Weak<Core>, there: PeerId) {
        // What comes from it needs no visit of the seat.
        self.has_inproc = true;
        let source = self.source(peer);
        source.inbox.recycles = true;
        source.inproc = Some(Box::new(Fellow { core, there, owed: Marks::default() }));
    }

    /// The source of a peer, if it has one.
    pub(super) fn known_source(&mut self, peer: PeerId) -> Option<&mut Source> {
        self.sources.get_mut(*self.places.get(&peer)?)
    }

    /// Whose turn it is, and what a ROUTER knows them by if that is remembered.
    pub(super) fn known(&mut self, renamings: u64) -> Option<(PeerId, RoutingId)> {
        let source = self.current()?;
        let (_, id) = source.known.as_ref().filter(|(at, _)| *at == renamings)?;
        Some((source.peer, id.clone()))
    }

    /// Remembers what a ROUTER knows a peer by, if there is anything of it left to be read.
    pub(super) fn remember(&mut self, peer: PeerId, renamings: u64, id: &RoutingId) {
        if let Some(source) = self.known_source(peer) {
            source.known = Some((renamings, id.clone()));
        }
    }

    /// The routing id of a peer that is gone and has left something unread.
    pub(super) fn left_id(&self, peer: PeerId) -> Option<Bytes> {
        self.sources.get(*self.places.get(&peer)?)?.gone.clone()
    }

    /// A peer is gone: its source goes now if it is read, else once it is. Whether it is gone.
    ///
    /// One that has nothing unread goes also where it would wait for another one's messages: nobody may ever read
    /// those.
    fn bury(&mut self, peer: PeerId, routing_id: Bytes) -> bool {
        let Some(key) = self.places.get(&peer).copied() else { return true };
        let Some(source) = self.sources.get_mut(key) else { return true };
        source.gone = Some(routing_id);
        // What it has accepted since it drops itself.
        source.inproc = None;
        if !(source.inbox.is_empty() && source.newest.is_none()) {
            return false;
        }
        if source.active {
            if let Some(place) = self.ring.iter().position(|index| *index == key.index) {
                self.leave_ring(place);
            }
        }
        self.forget(peer);
        true
    }

    /// Takes a source out of the round; whoever comes behind it gets its turn.
    fn leave_ring(&mut self, place: usize) -> u32 {
        let index = self.ring.remove(place);
        if place < self.turn {
            self.turn -= 1;
        }
        if self.turn >= self.ring.len() {
            self.turn = 0;
        }
        index
    }

    /// Takes out all that is unread, to be let go part by part.
    pub(super) fn take_unread(&mut self) -> impl Iterator<Item = ()> + Send + use<> {
        let sources = std::mem::replace(&mut self.sources, Slab::new());
        self.places = HashMap::new();
        self.by_token = HashMap::new();
        self.ring.clear();
        self.turn = 0;
        let newest = |newest: Box<Newest>| newest.message.into_shared();
        let unread = move |source: Source| source.inbox.into_pieces().chain(source.newest.into_iter().flat_map(newest));
        sources.into_tenants().flat_map(unread).map(drop)
    }
}

impl Arrivals {
    pub(super) fn new(account: &Arc<Account>) -> Arrivals {
        Arrivals {
            items: Vec::new(),
            unseen: Unseen::default(),
            shown: Charge::new(account),
            flows: HashMap::new(),
            fresh: 0,
            brought: 0,
            resubscribed: false,
            discarded: 0,
            past_bytes: 0,
        }
    }

    pub(super) fn unread(&self) -> usize {
        self.unseen.changes() + self.flows.values().map(|flow| flow.intake.waiting().messages).sum::<usize>()
    }

    /// The messages and octets that came from a peer, as long as something of it may be unread.
    pub(super) fn received(&self, peer: PeerId) -> Option<(u64, u64)> {
        self.flows.get(&peer).map(|flow| (flow.received, flow.received_bytes))
    }

    /// The octets that came from all peers.
    pub(super) fn received_bytes(&self) -> u64 {
        self.past_bytes + self.flows.values().map(|flow| flow.received_bytes).sum::<u64>()
    }

    /// Takes out everything, to be let go part by part, and what is known of each peer as the peer and the messages and
    /// octets that came from it.
    pub(super) fn take_all(
        &mut self,
    ) -> (impl Iterator<Item = ()> + Send + use<>, impl Iterator<Item = (PeerId, u64, u64)> + Send + use<>) {
        self.past_bytes = self.received_bytes();
        self.shown.set(0);
        let items = std::mem::take(&mut self.items).into_iter().flat_map(Arrival::into_pieces).map(drop);
        let (unseen, flows) = (std::mem::take(&mut self.unseen), std::mem::take(&mut self.flows));
        let flows = flows.into_iter().map(|(peer, flow)| (peer, flow.received, flow.received_bytes));
        (items.chain(unseen.into_parts()), flows)
    }
}

impl Core {
    /// Whether messages may lie in the inboxes.
    pub(super) fn has_unread(&self) -> bool {
        !self.lock_recv().ring.is_empty() || (self.kind == SocketKind::XPub && !self.lock_arrivals().unseen.is_empty())
    }

    /// What was received and discarded, what waits to be read, and the octets that came.
    pub(super) fn receive_counts(&self) -> (u64, u64, u64, u64) {
        let mut reader = self.lock_recv();
        if self.arrived.load(Ordering::Acquire) {
            self.collect(&mut reader);
        }
        let (brought, bytes, discarded) = {
            let arrivals = self.lock_arrivals();
            (arrivals.unread(), arrivals.received_bytes(), arrivals.discarded + reader.discarded)
        };
        let taken: usize = reader.sources.iter().map(|(_, source)| source.inbox.taken).sum();
        (reader.received, discarded, brought.saturating_sub(taken) as u64, bytes)
    }

    /// How many messages have been brought and not been taken.
    pub(super) fn unread(&self, reader: &Reader) -> usize {
        let taken = reader.received + reader.discarded;
        usize::try_from(self.lock_arrivals().brought.saturating_sub(taken)).unwrap_or(usize::MAX)
    }

    pub(super) fn lock_recv(&self) -> Pass<'_, Reader> {
        self.recv.lock()
    }

    pub(super) fn lock_arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the application takes messages at such a pace that it will be back for more, and read them itself,
    /// within two milliseconds. The caches are warm then where the messages are used, and a thread is saved.
    pub(super) fn is_at_it(&self) -> bool {
        if !self.kind.receives() {
            return false;
        }
        let (unread, pace, inproc) = {
            let mut reader = self.lock_recv();
            let taken = reader.received + reader.discarded;
            reader.appetite.note(taken);
            (self.unread(&reader) as u64, reader.appetite.per_milli, reader.has_inproc)
        };
        !inproc && pace >= Appetite::QUICK && unread <= 2 * pace && !self.is_closed() && {
            // What a flusher left may wait for the kernel to take it, and only a driver would hear of that. What is new
            // is written at the next visit.
            let side = self.lock_send();
            let Counts { accepted, written, dropped, .. } = side.counts;
            let new = side.dirty.iter().filter_map(|id| side.peer(*id)).filter(|peer| peer.dirty);
            let new = new.map(|peer| peer.outbox.queued() as u64);
            accepted == written + dropped.total() + new.sum::<u64>()
        }
    }

    /// A driver brings something from a peer.
    pub(super) fn arrive(&self, peer: PeerId, incoming: Incoming) {
        if self.kind.publishes() {
            self.arrive_upstream(peer, incoming);
            return;
        }
        let (item, messages, bytes) = match incoming {
            // The machine drops them for kinds that do not publish.
            Incoming::Subscribe(_) | Incoming::Cancel(_) => return,
            Incoming::Messages(wire, count) => {
                let bytes = wire.len();
                if self.conflate && self.kind.receives() {
                    return self.arrive_newest(peer, [wire]);
                }
                (Arrival::Wire(peer, fit(wire)), count as usize, bytes)
            }
            Incoming::Message(pieces) => {
                let bytes = pieces.iter().map(Bytes::len).sum();
                if self.conflate && self.kind.receives() {
                    return self.arrive_newest(peer, pieces);
                }
                (Arrival::Pieces(peer, pieces), 1, bytes)
            }
        };
        self.land(peer, messages, bytes, |arrivals| arrivals.items.push(item));
    }

    /// Adds to the arrivals. What comes from a peer that is gone, or whose connection is being replaced, is thrown
    /// away; so is what comes to a kind on which nobody receives. Returns true if it was added.
    fn land(&self, peer: PeerId, messages: usize, bytes: usize, add: impl FnOnce(&mut Arrivals)) -> bool {
        let marks = self.receive_marks();
        let mut arrivals = self.lock_arrivals();
        let Some(flow) = arrivals.flows.get_mut(&peer).filter(|flow| flow.state == FlowState::Open) else {
            return false;
        };
        flow.received += messages as u64;
        flow.received_bytes += bytes as u64;
        if !self.kind.receives() {
            arrivals.discarded += messages as u64;
            return false;
        }
        if !flow.is_counted_by_sender {
            flow.charge.add(bytes);
        }
        flow.intake.land(messages, bytes, marks, self.received.is_stopped());
        arrivals.fresh += messages;
        arrivals.brought += messages as u64;
        add(&mut arrivals);
        // Published while the lock is held, so that a collector that sees it finds the item.
        self.arrived.store(true, Ordering::Release);
        true
    }

    /// Under `conflate`: keeps the newest message of a peer, and of it alone.
    fn arrive_newest(&self, peer: PeerId, pieces: impl IntoIterator<Item = Bytes>) {
        let mut inbox = Inbox::default();
        for piece in pieces {
            inbox.push(piece);
        }
        let newest = std::iter::from_fn(|| inbox.next(Some(peer))).last();
        let (messages, bytes) = (inbox.taken, inbox.taken_bytes);
        let Some(newest) = newest.map(|message| Newest::new(message, &self.received)) else { return };
        let mut arrivals = self.lock_arrivals();
        let Arrivals { items, flows, fresh, .. } = &mut *arrivals;
        let Some(flow) = flows.get_mut(&peer).filter(|flow| flow.state == FlowState::Open) else { return };
        flow.received += messages as u64;
        flow.received_bytes += bytes as u64;
        let replaced = match items.get_mut(flow.newest) {
            Some(Arrival::Newest(from, old)) if *from == peer => Some(std::mem::replace(old, newest)),
            Some(_) | None => {
                flow.newest = items.len();
                items.push(Arrival::Newest(peer, newest));
                None
            }
        };
        *fresh += 1;
        self.arrived.store(true, Ordering::Release);
        drop(arrivals);
        drop(replaced);
        // It may take less than the one it replaces.
        self.context.attend();
    }

    /// A publisher takes subscriptions out of what comes; an XPUB shows them, and the rest, to the application.
    fn arrive_upstream(&self, peer: PeerId, incoming: Incoming) {
        match incoming {
            Incoming::Subscribe(topic) => self.subscribed(peer, true, &topic),
            Incoming::Cancel(topic) => self.subscribed(peer, false, &topic),
            Incoming::Messages(wire, _) => self.upstream_messages(peer, [wire]),
            Incoming::Message(pieces) => self.upstream_messages(peer, pieces),
        }
    }

    fn upstream_messages(&self, peer: PeerId, pieces: impl IntoIterator<Item = Bytes>) {
        let mut inbox = Inbox::copying();
        for piece in pieces {
            inbox.push(piece);
        }
        while let Some(message) = inbox.next(Some(peer)) {
            drop(self.upstream_message(peer, message));
        }
    }

    /// Applies a message that came upstream.
    pub(super) fn upstream_message(&self, peer: PeerId, message: Message) -> Applied {
        let mut applied = Applied::default();
        let every_frame = self.profile.examines_every_frame() && !self.switch().only_first_subscribe;
        let mut rest: Vec<crate::Frame> = Vec::new();
        let mut first_is_subscription = false;
        for (index, frame) in message.into_frames().enumerate() {
            let examined = index == 0 || every_frame || first_is_subscription;
            match frame.split_first() {
                Some((mark @ (0 | 1), topic)) if examined => {
                    first_is_subscription |= index == 0;
                    self.subscribed(peer, *mark == 1, topic);
                    applied.spent.push(frame);
                }
                _ => rest.push(frame),
            }
        }
        if !rest.is_empty() {
            let mut message: Message = rest.into_iter().collect();
            message.set_peer(Some(peer));
            let bytes = message.byte_len();
            let mut message = Some(message);
            let add = |arrivals: &mut Arrivals| message.take().into_iter().for_each(|it| arrivals.unseen.push(it));
            if self.land(peer, 1, bytes, add) {
                applied.kept = Marks { messages: 1, bytes };
            }
            applied.spent.extend(message.into_iter().flat_map(Message::into_frames));
        }
        applied
    }

    /// One subscription or cancellation of a peer, by whatever form it came.
    fn subscribed(&self, peer: PeerId, subscribe: bool, topic: &[u8]) {
        {
            let mut side = self.lock_send();
            // One of an endpoint that is being closed gets nothing new, so that its wishes are no longer heard.
            if !side.peer(peer).is_some_and(Peer::is_open) {
                return;
            }
            let Routing::Publish(publisher) = &mut side.routing else { return };
            let subscriptions = &mut publisher.subscriptions;
            if subscriptions.is_leaving(peer.slot()) {
                return;
            }
            let limit = self.max_subscriptions.load(Ordering::Relaxed) as usize;
            let limit = Marks { messages: limit, bytes: TOPIC_OCTETS };
            let refused = if self.manual {
                self.lock_arrivals().unseen.is_crowded(peer, topic, limit)
            } else {
                let many = limit.messages != 0 && subscriptions.count_of(peer.slot()) >= limit.messages;
                let long = subscriptions.bytes_of(peer.slot()) + topic.len() > limit.bytes;
                subscribe && (many || long || !self.received.has_room_to_stand(topic.len() + TOPIC))
            };
            if refused {
                side.counts.refused_subscriptions += 1;
                if let Some(peer) = side.peer_mut(peer) {
                    peer.counts.refused_subscriptions += 1;
                }
                return;
            }
            let (is_edge, had) = if self.manual {
                // Nothing is applied here: each is a request, and a cancellation may concern what was granted before.
                (true, true)
            } else if subscribe {
                let change = subscriptions.subscribe(peer.slot(), topic);
                (change.first, !change.new)
            } else {
                let change = subscriptions.cancel(peer.slot(), topic);
                (change.last, change.removed)
            };
            side.note_standing(peer);
            let mut shows = self.shows();
            shows.arrivals.resubscribed = true;
            shows.show(&Change { peer, is_said: true, topic, subscribe, is_edge, had });
        }
    }

    /// Begins to show changes of subscriptions. The send gate is held, so that changes are shown in the order in which
    /// they were applied.
    pub(super) fn shows(&self) -> Shows<'_> {
        let (marks, short) = (self.receive_marks(), self.received.is_stopped());
        Shows { core: self, arrivals: self.lock_arrivals(), marks, short }
    }

    /// A peer has left the pattern. Under `manual` it has no use for what it still asked for.
    pub(super) fn hide_requests(&self, peer: PeerId) {
        if self.manual {
            let mut arrivals = self.lock_arrivals();
            let hidden = arrivals.unseen.hide(peer);
            arrivals.brought = arrivals.brought.saturating_sub(hidden as u64);
        }
    }

    /// What followed from the loss of a peer is shown: wakes whoever waits for it.
    pub(super) fn reveal(&self) {
        if self.kind == SocketKind::XPub {
            self.announce();
            self.wake_driver(Interest::MESSAGE);
        }
    }

    /// All that one turn brought is there: wakes as many receivers as messages came, and whoever waits for subscribers.
    pub(super) fn announce(&self) {
        let (fresh, resubscribed) = {
            let mut arrivals = self.lock_arrivals();
            (std::mem::take(&mut arrivals.fresh), std::mem::take(&mut arrivals.resubscribed))
        };
        if fresh > 0 {
            self.waiters.notify(Interest::MESSAGE, fresh);
        }
        if resubscribed {
            self.tell_waiters(Interest::CHANGE);
        }
        self.context.tell_shortages();
    }

    /// Another socket of the process says that something of it waits for us.
    pub(crate) fn notice(self: &Arc<Core>, peer: PeerId) {
        if self.kind.publishes() {
            // Nobody may ever receive here: what comes upstream is taken at once.
            self.absorb(peer);
            return;
        }
        {
            let mut arrivals = self.lock_arrivals();
            arrivals.items.push(Arrival::Notice(peer));
            self.arrived.store(true, Ordering::Release);
        }
        self.waiters.notify(Interest::MESSAGE, 1);
        self.wake_driver(Interest::MESSAGE);
    }

    /// Takes all that waits in the outbox of an inproc peer of another socket, and gives it credit for what was read.
    ///
    /// If nothing waits, or if `notice` is `Due` because the caller does not come back, the caller is told of the next
    /// message. Otherwise `notice` becomes the state of that link, unless a notice is out already. `spent` is a buffer
    /// that can be filled again.
    pub(super) fn hand_over(
        &self,
        to: PeerId,
        read: usize,
        read_bytes: usize,
        spent: Option<Vec<u8>>,
        notice: Notice,
    ) -> HandedOver {
        let (taken, room) = {
            let mut side = self.lock_send();
            let side = &mut *side;
            let Some(peer) = side.peers.get_mut(to.key()) else { return HandedOver::default() };
            let taken = peer.outbox.take_all();
            if let Wire::Inproc { notice: now, .. } = &mut peer.wire {
                *now = match (taken.pieces.is_empty(), notice, *now) {
                    (true, _, _) | (false, Notice::Due, _) => Notice::Due,
                    (false, _, Notice::Due) => notice,
                    (false, _, Notice::Given | Notice::Wanted) => *now,
                };
            }
            if let Some(spent) = spent {
                side.pool.put(spent);
            }
            peer.beside = (peer.beside + taken.messages).saturating_sub(read);
            peer.unread_bytes = (peer.unread_bytes + taken.bytes).saturating_sub(read_bytes);
            peer.settle(taken.settled(), &mut side.counts);
            peer.recharge();
            (taken, (read > 0 || side.hungry) && side.gave_room(to.slot()))
        };
        self.context.attend();
        if room {
            self.tell_waiters(Interest::ROOM);
        }
        self.tell_waiters(Interest::CHANGE);
        HandedOver {
            messages: taken.messages,
            bytes: taken.bytes,
            pieces: taken.pieces.into_iter().map(crate::queue::piece::Piece::into_bytes).collect(),
        }
    }

    /// Gives credit for messages an inproc peer's application has read.
    pub(super) fn credit(&self, to: PeerId, read: usize, read_bytes: usize) {
        let room = {
            let mut side = self.lock_send();
            if let Some(peer) = side.peer_mut(to) {
                peer.beside = peer.beside.saturating_sub(read);
                peer.unread_bytes = peer.unread_bytes.saturating_sub(read_bytes);
                peer.recharge();
            }
            side.gave_room(to.slot())
        };
        self.context.attend();
        if room {
            self.tell_waiters(Interest::ROOM);
        }
    }

    /// Moves the arrivals into the inboxes.
    #[inline(never)]
    fn collect(&self, reader: &mut Reader) {
        let mut items = std::mem::take(&mut reader.scratch);
        {
            let mut arrivals = self.lock_arrivals();
            self.arrived.store(false, Ordering::Relaxed);
            std::mem::swap(&mut arrivals.items, &mut items);
        }
        let mut replaces = false;
        let mut remains = std::mem::take(&mut reader.remains);
        for item in items.drain(..) {
            let peer = match item {
                Arrival::Wire(peer, wire) => {
                    reader.source(peer).inbox.push(wire);
                    peer
                }
                Arrival::Pieces(peer, pieces) => {
                    let source = reader.source(peer);
                    for piece in pieces {
                        source.inbox.push(piece);
                    }
                    peer
                }
                Arrival::Newest(peer, newest) => {
                    replaces |= reader.source(peer).newest.replace(Box::new(newest)).is_some();
                    peer
                }
                Arrival::Notice(peer) => {
                    // One from a peer that is gone may come late.
                    if !reader.places.contains_key(&peer) {
                        continue;
                    }
                    self.fetch(reader.source(peer), Notice::Given, &mut remains);
                    peer
                }
            };
            reader.activate(peer);
        }
        reader.remains = remains;
        if items.capacity() <= 4096 {
            reader.scratch = items;
        }
        if replaces {
            // What was replaced counts no more.
            self.context.attend();
        }
    }

    /// Fetches what an inproc peer has for us before the link to it ends.
    pub(super) fn fetch_last(&self, peer: PeerId) {
        if self.kind.publishes() {
            return self.absorb_last(peer);
        }
        let mut reader = self.lock_recv();
        self.collect(&mut reader);
        if !reader.places.contains_key(&peer) {
            return;
        }
        let mut remains = std::mem::take(&mut reader.remains);
        if self.fetch(reader.source(peer), Notice::Given, &mut remains) {
            reader.activate(peer);
        }
        reader.remains = remains;
        drop(reader);
        self.wake_driver(Interest::MESSAGE);
    }

    /// Fetches what an inproc peer has for us; whether that was something. As long as it is, the peer need not tell us
    /// of more where somebody comes back, and `notice` is `Given`. What is conflated is laid aside.
    fn fetch(&self, source: &mut Source, notice: Notice, remains: &mut Vec<Bytes>) -> bool {
        let peer = source.peer;
        let Some(Fellow { core, there, .. }) = source.inproc.as_deref() else { return false };
        let (Some(core), there) = (core.upgrade(), *there) else { return false };
        let (read, read_bytes) =
            (std::mem::take(&mut source.inbox.taken), std::mem::take(&mut source.inbox.taken_bytes));
        let HandedOver { pieces, messages, bytes } =
            core.hand_over(there, read, read_bytes, source.inbox.spent(), notice);
        let some = !pieces.is_empty();
        if some || read > 0 {
            {
                let mut arrivals = self.lock_arrivals();
                arrivals.brought += messages as u64;
                if let Some(flow) = arrivals.flows.get_mut(&peer) {
                    // Under `conflate` all of it is credited below, and no message waits longer than until the next.
                    if !self.conflate {
                        flow.intake.add(messages, bytes);
                    }
                    flow.received += messages as u64;
                    flow.received_bytes += bytes as u64;
                    flow.settle(read, read_bytes);
                }
            }
            self.context.attend();
        }
        if some && !self.waiters.is_empty() {
            // One message is for the caller, who may never come back: one of those who wait is to come back instead.
            // Whoever joins them from now on asks for the gate that is held here, and finds the peer in the ring.
            self.waiters.notify(Interest::MESSAGE, messages);
        }
        if self.conflate {
            let mut inbox = Inbox::default();
            for piece in pieces {
                inbox.push(piece);
            }
            let mut newest = inbox.next(Some(peer));
            while let Some(next) = inbox.next(Some(peer)) {
                remains.extend(newest.replace(next).into_iter().flat_map(Message::into_shared));
            }
            if let Some(newest) = newest {
                let newest = Newest::laying_aside(newest, &self.received, remains);
                let before = source.newest.replace(Box::new(newest));
                remains.extend(before.into_iter().flat_map(|before| before.message.into_shared()));
                core.credit(there, inbox.taken, inbox.taken_bytes);
            }
            return some;
        }
        for piece in pieces {
            source.inbox.push(piece);
        }
        some
    }

    /// The inbox of an inproc peer is read: looks whether the peer has put something in its outbox since. A moment's
    /// patience lets a busy sender gather a batch, instead of both of us going through the gate for every message.
    #[inline(never)]
    fn refill(&self, source: &mut Source, remains: &mut Vec<Bytes>) -> bool {
        if source.inproc.is_none() {
            return false;
        }
        for _ in 0..GATHER {
            std::hint::spin_loop();
        }
        self.fetch(source, Notice::Given, remains)
    }

    /// The next message if it is of one frame, nothing has arrived since the last look, no credit is due, and the
    /// pattern takes it as it is or filters it: what most receives are. It comes as its parts, so that it is put
    /// together where the caller wants it: every move of a message costs as much as all of this.
    #[inline(always)]
    pub(super) fn take_quick<'r>(&self, reader: &'r mut Reader) -> Option<(Quick<'r>, PeerId)> {
        if self.quick == Quickness::None {
            return None;
        }
        let (message, peer, ()) = self.take_quick_if(reader, |_| Some(()))?;
        Some((message, peer))
    }

    /// As [`take_quick`](Core::take_quick), for a ROUTER, if it remembers the routing id.
    #[inline(always)]
    pub(super) fn take_routed_quick(&self, reader: &mut Reader) -> Option<(RoutingId, Message)> {
        let renamings = self.renamings.load(Ordering::Acquire);
        let (message, peer, id) = self.take_quick_if(reader, |source| match &source.known {
            Some((at, id)) if *at == renamings => Some(id.clone()),
            Some(_) | None => None,
        })?;
        Some((id, message.into_message(peer)))
    }

    /// Takes a message the quick way if `known` is there for its source.
    #[inline(always)]
    fn take_quick_if<'r, T>(
        &self,
        reader: &'r mut Reader,
        known: impl FnOnce(&Source) -> Option<T>,
    ) -> Option<(Quick<'r>, PeerId, T)> {
        if self.arrived.load(Ordering::Acquire) {
            return None;
        }
        let Reader { sources, ring, turn, filter, received, discarded, step, step_bytes, .. } = reader;
        let sources: &'r mut Slab<Source> = sources;
        let place = *ring.get(*turn)?;
        let source = sources.at_mut(place)?;
        let peer = source.peer;
        if source.inbox.taken + 1 >= *step || source.inbox.taken_bytes >= *step_bytes {
            return None;
        }
        let known = known(source)?;
        let message = source.inbox.next_quick()?;
        if ring.len() > 1 {
            *turn += 1;
            if *turn >= ring.len() {
                *turn = 0;
            }
        }
        if self.quick == Quickness::Filtered && filter.matches(message.body()) == self.invert {
            *discarded += 1;
            return None;
        }
        *received += 1;
        Some((message, peer, known))
    }

    /// The next message the pattern lets through, if one is there. Of those that it refuses one look steps over so many
    /// at most: a peer that sends such without end keeps nobody here.
    pub(super) fn take(&self, reader: &mut Reader) -> Option<Message> {
        let mut refused = 0;
        loop {
            if self.arrived.load(Ordering::Acquire) {
                self.collect(reader);
            }
            let (step, step_bytes, alone) = (reader.step, reader.step_bytes, reader.ring.len() == 1);
            let Some((source, remains)) = reader.current_and_remains() else { return self.take_unseen(reader) };
            let message = match source.inbox.next(Some(source.peer)) {
                Some(message) => message,
                None => match source.newest.take() {
                    Some(newest) => {
                        let Newest { message, charge } = *newest;
                        drop(charge);
                        self.context.attend();
                        message
                    }
                    None => {
                        if self.refill(source, remains) {
                            continue;
                        }
                        self.give_credit(source);
                        self.rest(reader);
                        continue;
                    }
                },
            };
            let read_up = source.inbox.is_empty() && source.newest.is_none();
            let next = if read_up && alone { Next::Answer } else { Next::Receive };
            if source.inbox.taken >= step || source.inbox.taken_bytes >= step_bytes || self.received.is_strained() {
                self.give_credit(source);
            }
            let Some(message) = self.admit(reader, message) else {
                reader.discarded += 1;
                reader.pass();
                refused += 1;
                if refused == MOST_REFUSED {
                    reader.is_cut_short = true;
                    return None;
                }
                continue;
            };
            reader.received += 1;
            self.next.store(next as u8, Ordering::Relaxed);
            reader.pass();
            return Some(message);
        }
    }

    /// The next message of an XPUB: whatever peers it comes from, it has one queue.
    fn take_unseen(&self, reader: &mut Reader) -> Option<Message> {
        if self.kind != SocketKind::XPub {
            return None;
        }
        let (mut credited, mut resume, mut gone) = (None, None, None);
        let (message, next) = {
            let mut arrivals = self.lock_arrivals();
            let Arrivals { unseen, shown, flows, .. } = &mut *arrivals;
            let message = match unseen.pop()? {
                Seen::Change(message) => {
                    shown.set(unseen.octets());
                    message
                }
                Seen::Message(message) => {
                    if let Some((peer, flow)) = message.peer().and_then(|peer| Some((peer, flows.get_mut(&peer)?))) {
                        credited = Some(peer);
                        flow.settle(1, message.byte_len());
                        let reopened = flow.intake.reopen(self.receive_marks(), self.received.is_stopped());
                        resume = reopened.then_some(peer);
                        gone = flow.is_left().then_some(peer);
                    }
                    message
                }
            };
            (message, if unseen.is_empty() { Next::Answer } else { Next::Receive })
        };
        self.context.attend();
        let fellow = credited.and_then(|peer| reader.known_source(peer)?.inproc.as_deref());
        if let Some((core, there)) = fellow.and_then(|fellow| Some((fellow.core.upgrade()?, fellow.there))) {
            core.credit(there, 1, message.byte_len());
        }
        if let Some(peer) = resume {
            self.resume(peer);
        }
        if let Some(peer) = gone {
            self.forget_flow(peer);
        }
        self.note_last(&message);
        reader.received += 1;
        self.next.store(next as u8, Ordering::Relaxed);
        Some(message)
    }

    #[inline(never)]
    fn give_credit(&self, source: &mut Source) {
        let (read, bytes) = (std::mem::take(&mut source.inbox.taken), std::mem::take(&mut source.inbox.taken_bytes));
        if read == 0 {
            return;
        }
        if let Some(Fellow { core, there, .. }) = source.inproc.as_deref() {
            if let Some(flow) = self.lock_arrivals().flows.get_mut(&source.peer) {
                flow.settle(read, bytes);
            }
            self.context.attend();
            if let Some(core) = core.upgrade() {
                core.credit(*there, read, bytes);
            }
            return;
        }
        let resume = {
            let mut arrivals = self.lock_arrivals();
            let Some(flow) = arrivals.flows.get_mut(&source.peer) else { return };
            flow.settle(read, bytes);
            flow.intake.reopen(self.receive_marks(), self.received.is_stopped())
        };
        self.context.attend();
        if resume {
            self.resume(source.peer);
        }
    }

    /// The link of a peer is read on. A peer of this process has none, and perhaps nobody drives the socket.
    fn resume(&self, peer: PeerId) {
        if self.port.is_open() {
            self.port.submit(Command::Resume(peer));
        }
    }

    /// Marks have changed, or memory is there again: links that were stopped are read on where there is room now.
    pub(super) fn reopen_links(&self) {
        let (marks, short) = (self.receive_marks(), self.received.is_stopped());
        let mut opened = Vec::new();
        for (peer, flow) in &mut self.lock_arrivals().flows {
            if flow.intake.reopen(marks, short) {
                opened.push(*peer);
            }
        }
        for peer in opened {
            self.resume(peer);
        }
    }

    /// The context's budget has room again: what was stopped by it goes on.
    pub(crate) fn go_on(&self) {
        if self.received.take_stopped() {
            self.reopen_links();
            if self.port.is_open() {
                self.port.submit(Command::GoOn);
            }
        }
        if self.queued.take_stopped() {
            self.tell_waiters(Interest::ROOM);
        }
    }

    /// What came from a peer does not wait any more.
    fn forget_flow(&self, peer: PeerId) {
        let flow = {
            let mut arrivals = self.lock_arrivals();
            let Some(flow) = arrivals.flows.remove(&peer) else { return };
            arrivals.past_bytes += flow.received_bytes;
            flow
        };
        self.lock_send().note_received(peer, flow.received, flow.received_bytes);
        drop(flow);
        self.context.attend();
    }

    /// What the pattern makes of a received message; `None` discards it, and then it is laid aside.
    #[inline(always)]
    fn admit(&self, reader: &mut Reader, message: Message) -> Option<Message> {
        use SocketKind::*;
        match self.kind {
            Pull | Dealer | Pair | XSub | Router | XPub => Some(message),
            Sub if reader.filter.matches(message.first()) != self.invert => Some(message),
            Sub => {
                reader.lay_aside(message);
                None
            }
            Req | Rep | Pub | Push => self.admit_step(reader, message),
        }
    }

    #[inline(never)]
    fn admit_step(&self, reader: &mut Reader, message: Message) -> Option<Message> {
        let peer = message.peer()?;
        let accepted = match &mut self.lock_send().routing {
            Routing::Request(_, requests) => requests.accept(peer, message),
            Routing::Reply(replies) => replies.accept(peer, message),
            Routing::Nowhere | Routing::Balance(_) | Routing::Router(_) | Routing::Publish(_) | Routing::Upstream => {
                Err(message)
            }
        };
        match accepted {
            Ok(mut accepted) => {
                accepted.set_peer(Some(peer));
                Some(accepted)
            }
            Err(refused) => {
                reader.lay_aside(refused);
                None
            }
        }
    }

    /// Whether the pattern allows a receive now.
    #[inline(always)]
    pub(super) fn may_receive(&self) -> Result<(), RecvError> {
        if self.stepwise {
            match &self.lock_send().routing {
                Routing::Request(_, requests) if !requests.may_receive() => {
                    return Err(RecvError::WrongState("no request has been sent"));
                }
                Routing::Reply(replies) if !replies.may_receive() => {
                    return Err(RecvError::WrongState("the last request has not been answered"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A peer is gone for good: what it sent stays readable.
    pub(super) fn bury(&self, peer: PeerId) {
        let mut reader = self.lock_recv();
        // Nothing lands from here on, and what has landed is collected now: nothing comes for a source that is gone.
        if let Some(flow) = self.lock_arrivals().flows.get_mut(&peer) {
            flow.state = FlowState::Ended;
            // If it was one of this process, nobody else counts what it has left.
            flow.is_counted_by_sender = false;
            flow.charge.set(flow.intake.waiting().bytes);
        }
        if self.arrived.load(Ordering::Acquire) {
            self.collect(&mut reader);
        }
        let routing_id = self.lock_send().routing_id_of(peer).unwrap_or_default();
        let mut read = reader.bury(peer, routing_id);
        if self.kind == SocketKind::XPub {
            read = self.lock_arrivals().flows.get(&peer).is_some_and(Flow::is_left);
        }
        if !read {
            if let Some(flow) = self.lock_arrivals().flows.get_mut(&peer) {
                flow.charge.add(LEFT);
            }
        }
        drop(reader);
        if read {
            self.forget_flow(peer);
        }
    }

    /// The source whose turn it is has been read.
    fn rest(&self, reader: &mut Reader) {
        if let Some(gone) = reader.rest() {
            self.forget_flow(gone);
        }
    }

    /// An inproc peer is attached. What comes from it is counted in the context's budget where it came from, until the
    /// peer is gone.
    pub(super) fn open_inproc_flow(&self, peer: PeerId) {
        self.open_flow(peer);
        if let Some(flow) = self.lock_arrivals().flows.get_mut(&peer) {
            flow.is_counted_by_sender = true;
        }
    }

    /// A peer is attached: what comes from it lands.
    pub(super) fn open_flow(&self, peer: PeerId) {
        let flow = || Flow::new(&self.received);
        self.lock_arrivals().flows.entry(peer).or_insert_with(flow).state = FlowState::Open;
    }

    /// What still comes over the present connection of a peer is not wanted; its next connection is.
    pub(super) fn mute_flow(&self, peer: PeerId) {
        if let Some(flow) = self.lock_arrivals().flows.get_mut(&peer).filter(|flow| flow.state == FlowState::Open) {
            flow.state = FlowState::Muted;
        }
    }

    /// What a driver asks before it reads from a peer.
    pub(super) fn gate_of(&self, peer: PeerId) -> Option<Arc<ReadGate>> {
        self.lock_arrivals().flows.get(&peer).map(|flow| Arc::clone(flow.intake.gate()))
    }

    /// Throws away all that is unread. What an inproc peer sends meanwhile is not waited for: it tells us of that.
    pub(super) fn discard_all(&self) {
        let mut reader = self.lock_recv();
        self.collect(&mut reader);
        while let Some((source, remains)) = reader.current_and_remains() {
            let mut discarded = 0;
            let mut is_fetched = false;
            loop {
                if let Some(message) = source.inbox.next(None) {
                    remains.extend(message.into_shared());
                } else if let Some(newest) = source.newest.take() {
                    remains.extend(newest.message.into_shared());
                } else if !std::mem::replace(&mut is_fetched, true) && self.fetch(source, Notice::Due, remains) {
                    continue;
                } else {
                    break;
                }
                discarded += 1;
            }
            self.give_credit(source);
            reader.discarded += discarded;
            self.rest(&mut reader);
        }
        drop(reader);
        self.context.attend();
    }
}

/// Shows an XPUB's application changes of subscriptions, and counts them once it goes. Other publishers show nothing.
pub(super) struct Shows<'a> {
    core: &'a Core,
    arrivals: MutexGuard<'a, Arrivals>,
    marks: Marks,
    short: bool,
}

impl Shows<'_> {
    pub(super) fn show(&mut self, change: &Change<'_>) {
        let core = self.core;
        if core.kind != SocketKind::XPub {
            return;
        }
        let switch = core.switch();
        let detail = match () {
            () if switch.verboser || (core.manual && change.is_said) => Detail::All,
            () if switch.verbose => Detail::Subscriptions,
            () => Detail::Edges,
        };
        let Arrivals { unseen, flows, fresh, brought, .. } = &mut *self.arrivals;
        let before = unseen.changes();
        unseen.change(change, detail, self.marks, self.short);
        let after = unseen.changes();
        *brought = (*brought + after as u64).saturating_sub(before as u64);
        if after > before {
            *fresh += 1;
            if let Some(flow) = flows.get_mut(&change.peer) {
                flow.received += 1;
                flow.received_bytes += 1 + change.topic.len() as u64;
            }
            core.arrived.store(true, Ordering::Release);
        }
    }

    /// Lets what is hidden of a peer that has left go, as long as `goes_on` says so after each. Returns true if nothing
    /// is left.
    pub(super) fn drop_hidden(&mut self, peer: PeerId, goes_on: impl FnMut() -> ControlFlow<()>) -> bool {
        self.arrivals.unseen.drop_hidden(peer, goes_on)
    }
}

impl Drop for Shows<'_> {
    fn drop(&mut self) {
        let Arrivals { unseen, shown, .. } = &mut *self.arrivals;
        if shown.octets() != unseen.octets() {
            shown.set(unseen.octets());
        }
    }
}

/// How many octets the topics of one subscriber may have together.
const TOPIC_OCTETS: usize = 64 << 20;
/// What a peer that is gone takes beside what it has left unread, about. Any number of peers may come one after the
/// other, leave an octet and go.
const LEFT: usize = 1024;
/// One look for a message skips at most this many that the pattern refuses. A call that does not wait looks four times,
/// which takes about a millisecond.
pub(super) const MOST_REFUSED: u32 = 4 * 1024;
/// How many pauses of the processor a receiver gives an inproc sender to gather more: about a microsecond.
const GATHER: usize = 20;

/// The newest message up to this size is given memory of its own. A longer one has it, or fills much of what it was
/// read into.
const LONGEST_DETACHED: usize = 64 * 1024;

/// A chunk that fills little of its read buffer is copied to size, so that it does not pin the whole buffer while it
/// waits.
fn fit(wire: Bytes) -> Bytes {
    if wire.len() < SHARED_READ { Bytes::copy_from_slice(&wire) } else { wire }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Budget, BudgetHalf};
    use crate::{AnySocket, Context, Pull, Sub, XPub};

    const LONG: Duration = Duration::from_secs(10);

    fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + LONG;
        while !condition() {
            assert!(Instant::now() < end, "{what}");
            std::thread::yield_now();
        }
    }

    /// How many flows, sources and tokens there are.
    fn kept(core: &Core) -> (usize, usize, usize) {
        let flows = core.lock_arrivals().flows.len();
        let reader = core.lock_recv();
        assert_eq!(reader.sources.len(), reader.places.len());
        (flows, reader.sources.len(), reader.by_token.len())
    }

    #[test]
    fn nothing_is_kept_of_subscribers_that_are_gone() {
        let (context, other) = (Context::new(), Context::new());
        let xpub = XPub::in_context(&context);
        let endpoint = xpub.bind("tcp://127.0.0.1:*").expect("bound");
        for _ in 0..20 {
            let sub = Sub::in_context(&other);
            sub.subscribe("topic").expect("open");
            sub.connect(&endpoint).expect("a good endpoint");
            assert_eq!(xpub.recv_timeout(LONG).expect("the subscription"), b"\x01topic");
            drop(sub);
            assert_eq!(xpub.recv_timeout(LONG).expect("the cancellation"), b"\x00topic");
        }
        assert!(xpub.try_recv().is_err());
        eventually("nothing is kept", || kept(&xpub.core) == (0, 0, 0));
    }

    #[test]
    fn nothing_is_kept_of_a_thousand_peers_that_are_gone_where_nobody_receives() {
        use SocketKind::*;
        for over in ["tcp://127.0.0.1:*", "inproc://nobody-receives"] {
            for (kind, other) in [(Push, Pull), (XPub, Sub), (Pub, Sub), (Req, Rep), (Dealer, Dealer), (Router, Dealer)]
            {
                let context = Context::new();
                let here = AnySocket::in_context(kind, &context);
                let endpoint = here.bind(over).expect("bound");
                for number in 0..1000u32 {
                    let there = AnySocket::in_context(other, &context);
                    if other == Sub {
                        there.subscribe(number.to_le_bytes()).expect("a SUB");
                    }
                    there.connect(&endpoint).expect("a good endpoint");
                    here.wait_for_peers(1, LONG).expect("it comes");
                    there.close();
                    eventually("it goes", || here.stats().connections == 0);
                }
                eventually(&format!("{kind} keeps nothing over {over}"), || kept(&here.core) == (0, 0, 0));
            }
        }
    }

    /// A long message of which no other has a part.
    fn long_message(octets: usize) -> Incoming {
        let header = [&[2][..], &(octets as u64).to_be_bytes()].concat();
        Incoming::Message([header, vec![7; octets]].map(Bytes::from).into_iter().collect())
    }

    #[test]
    fn a_socket_that_waits_for_the_room_of_a_newest_message_goes_on_when_that_is_replaced_or_thrown_away() {
        let acts: [fn(&Core); 2] = [
            |core| {
                core.arrive(peer(0), long_message(1000));
                core.collect(&mut core.lock_recv());
            },
            Core::discard_all,
        ];
        for act in acts {
            let context = Context::builder().byte_budget(Some(2 << 20)).build();
            let conflated = Pull::builder().context(&context).conflate(true).build().expect("good options");
            let stopped = Pull::in_context(&context);
            let (conflated, stopped) = (&conflated.core, &stopped.core);
            conflated.open_flow(peer(0));
            conflated.arrive(peer(0), long_message(2 << 20));
            conflated.collect(&mut conflated.lock_recv());
            stopped.open_flow(peer(0));
            stopped.arrive(peer(0), long_message(100_000));
            let gate = stopped.gate_of(peer(0)).expect("its flow");
            assert!(gate.is_closed(), "the budget is used up");
            act(conflated);
            assert!(!gate.is_closed(), "there is room again");
        }
    }

    fn new_reader() -> Reader {
        Reader::new(&Account::new(&Budget::new(None), BudgetHalf::Receiving))
    }

    fn peer(index: u32) -> PeerId {
        PeerId::new(Key { index, generation: 0 })
    }

    /// A peer comes, and leaves such messages.
    fn comes(reader: &mut Reader, index: u32, messages: &'static [u8]) {
        reader.recognise(peer(index), Token([7; 16]));
        if !messages.is_empty() {
            reader.source(peer(index)).inbox.push(Bytes::from_static(messages));
            reader.activate(peer(index));
        }
    }

    #[test]
    fn a_peer_that_comes_back_without_a_message_leaves_nothing_behind_what_it_left_before() {
        let mut reader = new_reader();
        comes(&mut reader, 0, b"\x00\x051st..");
        assert!(!reader.bury(peer(0), Bytes::new()));
        for index in 1..1000 {
            comes(&mut reader, index, b"");
            assert!(reader.bury(peer(index), Bytes::new()));
        }
        assert_eq!((reader.sources.len(), reader.by_token.len(), reader.ring.len()), (1, 1, 1));
        comes(&mut reader, 1000, b"\x00\x052nd..");
        assert_eq!(reader.ring.len(), 1, "the one before is read first");
        for first in ["1st..", "2nd.."] {
            let source = reader.current().expect("its turn");
            assert_eq!(source.inbox.next(None).expect("a message"), first);
            reader.rest();
        }
        assert!(reader.bury(peer(1000), Bytes::new()));
        assert_eq!((reader.sources.len(), reader.by_token.len()), (0, 0));
    }

    /// A peer that has a source says something.
    fn says(reader: &mut Reader, index: u32, messages: &'static [u8]) {
        reader.source(peer(index)).inbox.push(Bytes::from_static(messages));
        reader.activate(peer(index));
    }

    #[test]
    fn all_that_come_behind_one_that_is_gone_are_read_after_it() {
        let mut reader = new_reader();
        comes(&mut reader, 0, b"\x00\x01A");
        assert!(!reader.bury(peer(0), Bytes::new()));
        // It comes back and has another token soon, and a second one comes back.
        comes(&mut reader, 1, b"");
        reader.recognise(peer(1), Token([8; 16]));
        says(&mut reader, 1, b"\x00\x01B");
        comes(&mut reader, 2, b"\x00\x01C");
        let read = std::iter::from_fn(|| {
            let message = reader.current()?.inbox.next(None)?;
            reader.rest();
            Some(message)
        });
        assert_eq!(read.collect::<Vec<_>>(), ["A", "B", "C"]);
        says(&mut reader, 1, b"\x00\x01D");
        assert_eq!(reader.ring.len(), 1);
        assert_eq!((reader.sources.len(), reader.by_token.len()), (2, 2));
    }

    #[test]
    fn whoever_comes_behind_one_that_goes_unread_comes_behind_the_one_before_that() {
        let mut reader = new_reader();
        comes(&mut reader, 0, b"\x00\x01A");
        assert!(!reader.bury(peer(0), Bytes::new()));
        comes(&mut reader, 1, b"");
        reader.recognise(peer(1), Token([8; 16]));
        comes(&mut reader, 2, b"\x00\x01C");
        assert!(reader.bury(peer(1), Bytes::new()));
        assert_eq!(reader.ring.len(), 1);
        for wanted in ["A", "C"] {
            assert_eq!(reader.current().expect("its turn").inbox.next(None).expect("a message"), wanted);
            reader.rest();
        }
        assert!(reader.bury(peer(2), Bytes::new()));
        assert_eq!((reader.sources.len(), reader.by_token.len()), (0, 0));
    }

    #[test]
    fn a_conflated_message_takes_no_longer_among_those_of_many_peers() {
        let time = |peers: u32| {
            let context = Context::new();
            let conflated = Pull::builder().context(&context).conflate(true).build().expect("good options");
            (0..peers).for_each(|index| conflated.core.open_flow(peer(index)));
            let begin = Instant::now();
            for _ in 0..2 {
                for index in 0..peers {
                    conflated.core.arrive(peer(index), Incoming::Messages(Bytes::from_static(b"\x00\x03new"), 1));
                }
            }
            let taken = begin.elapsed();
            let read = std::iter::from_fn(|| conflated.try_recv().ok()).take_while(|message| *message == "new");
            assert_eq!(read.count(), peers as usize);
            taken
        };
        let least = |peers| (0..5).map(|_| time(peers)).min();
        assert!(least(16_000) < least(4_000).map(|few| 9 * few), "four times as many take nine times as long");
    }

    #[test]
    fn a_peer_that_goes_when_all_it_sent_is_read_leaves_the_round() {
        let mut reader = new_reader();
        for index in 0..4 {
            reader.source(peer(index)).inbox.push(Bytes::from_static(b"\x00\x04text"));
            reader.activate(peer(index));
        }
        for _ in 0..2 {
            assert!(reader.current().expect("its turn").inbox.next(None).is_some());
            reader.pass();
        }
        assert!(reader.bury(peer(1), Bytes::new()));
        assert_eq!(reader.current().expect("its turn").peer, peer(2));
        assert!(reader.bury(peer(0), Bytes::new()));
        assert_eq!(reader.current().expect("its turn").peer, peer(2));
        assert!(!reader.bury(peer(3), Bytes::new()), "of that something is unread");
        assert_eq!(reader.ring.len(), 2);
    }
}
