//! Who is a peer: a newcomer's place in the pattern, and every ending of a peer.

use super::core::Core;
use super::patience::Trust;
use super::sending::{About, Peer, Routing, SendSide, Wire};
use super::slice::Slice;
use super::tokens::Role;
use crate::engine::port::Command;
use crate::engine::waiters::Interest;
use crate::engine::{EndpointId, Host, Joined, Newcomer, OUSTED, PAIR_TAKEN, Reserved};
use crate::event::{Cause, Event, EventKind, Refusal};
use crate::kind::SocketKind;
use crate::message::size::Size;
use crate::patterns::router::{Claim, Routes};
use crate::peer::PeerId;
use crate::protocol::{self, Announcement};
use crate::queue::outbox::Lost;
use crate::queue::replay::LeftOut;
use crate::queue::search::Search;
use crate::queue::unseen::Change;
use crate::stats::Reason;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Why a newcomer is refused. The first reason passes.
pub(super) const ID_TAKEN: &str = "the routing id is in use";
pub(super) const TOO_MUCH_TO_KEEP: &str =
    "metadata and subscriptions of peers have a quarter of the context's `byte_budget`";
const ENDPOINT_CLOSED: &str = "the endpoint is closed";
/// What is told of a peer that is not refused, as it knows that we are ready.
const OTHER_ID: &str = "the routing id is in use, and the peer gets a generated one";
const METADATA_LEFT: &str =
    "the peer's metadata, as metadata and subscriptions of peers have a quarter of the context's `byte_budget`";

/// What becomes of a newcomer that wants a routing id which is in use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum IfTaken {
    /// It is refused.
    Refuse,
    /// It gets a generated one: it knows that we are ready, and what it has sent since would be lost.
    Generate,
}

/// The place of a newcomer in the pattern.
#[derive(Default)]
pub(super) struct Placed {
    /// The peer that had its routing id before.
    pub(super) replaced: Option<PeerId>,
    /// It has another routing id than the one it announced.
    has_other_id: bool,
}

impl SendSide {
    /// Keeps the seat of a PAIR for a peer that is about to be told that we are ready.
    pub(super) fn keep_seat(&mut self) -> Result<Reserved, &'static str> {
        let is_taken = matches!(&self.routing, Routing::Balance(balance) if !balance.peers().is_empty());
        let kept = if is_taken { None } else { self.seat.keep(Instant::now()) };
        kept.ok_or(PAIR_TAKEN)
    }
}

impl About {
    /// A peer of that endpoint, of which nothing else is known.
    pub(super) fn new(endpoint_id: EndpointId, endpoint: Arc<str>, assigned_id: Bytes) -> About {
        About {
            endpoint_id,
            endpoint,
            address: "".into(),
            kind: None,
            properties: Vec::new(),
            metadata: 0,
            credentials: None,
            assigned_id,
            announced_id: None,
            immediate: false,
            greeted: None,
            written_before: (0, 0),
            trust: Trust::default(),
            search: Search::default(),
            untold: BTreeSet::new(),
        }
    }
}

impl Peer {
    /// How many octets a subscription takes where the peer does not accept so long a topic. A command may be as long as
    /// any topic in it; a topic that travels in a message counts against the peer's limit on messages. Over inproc
    /// nothing travels.
    pub(super) fn refused_size(&self, topic: &[u8]) -> Option<usize> {
        if topic.len() < self.largest.octets || !matches!(self.wire, Wire::Stream(_)) {
            return None;
        }
        protocol::told_in_message(self.minor, topic)
    }

    /// What is told of subscriptions that the peer does not accept.
    pub(super) fn refuses(&self, LeftOut { count, longest }: LeftOut) -> Event {
        let refusal = Refusal::Announced { limit: self.largest.octets as u64 };
        self.tells(EventKind::SubscriptionsGivenUp { count, octets: longest as u64, refusal })
    }

    /// Something is not sent to this peer.
    pub(super) fn tells(&self, kind: EventKind) -> Event {
        Event {
            kind,
            endpoint: Arc::clone(&self.about.endpoint),
            address: Some(Arc::clone(&self.about.address)).filter(|address| !address.is_empty()),
            peer: Some(self.id),
        }
    }
}

impl Core {
    // ----- joining -----

    /// A connection finished its handshake: the peer it belongs to, or why there is no place for it.
    pub(super) fn join(&self, newcomer: Newcomer) -> Result<Joined, &'static str> {
        // Code of a transport runs before the gates are taken.
        let credentials = newcomer.stream.credentials();
        let mut reader = self.lock_recv();
        let mut side = self.lock_send();
        if let Some(ticket) = newcomer.seat {
            side.seat.give_back(ticket);
        }
        let known = newcomer.peer.filter(|peer| side.peer(*peer).is_some());
        let stranger = known.filter(|peer| self.is_stranger(&side, *peer, &newcomer.description.identity));
        let peer = match known.filter(|_| stranger.is_none()) {
            Some(peer) => peer,
            None => {
                let (about, role) = self.about_newcomer(&newcomer)?;
                let peer = side.insert(about, role);
                let retired = stranger.and_then(|old| side.peer(old)).is_some_and(|old| old.retired);
                if let Some(entry) = side.peer_mut(peer) {
                    entry.retired = retired;
                }
                peer
            }
        };
        let is_accepted = newcomer.is_accepted;
        // Under libzmq's profile all know at once that we are ready. One that is refused comes back, and gets its id
        // when that is free.
        let keeps = is_accepted && self.profile.holds_ready_back();
        let if_taken = if keeps { IfTaken::Generate } else { IfTaken::Refuse };
        let placed = match self.place(&mut side, peer, &newcomer.description.identity, if_taken) {
            Ok(placed) => placed,
            Err(reason) => {
                if known != Some(peer) {
                    side.condemn(peer);
                }
                // The one that was there before is the endpoint's again.
                if let Some(old) = stranger {
                    side.dialed.insert(newcomer.endpoint_id, old);
                }
                return Err(reason);
            }
        };
        let mut properties = newcomer.description.properties;
        // Before it was told that we are ready there was room, or nobody knew what it would say.
        let leaves_metadata = is_accepted && !self.received.has_room_to_stand(memory_of(&properties));
        if leaves_metadata {
            properties.clear();
        }
        if let Some(entry) = side.peer_mut(peer) {
            entry.minor = newcomer.description.minor;
            entry.about.kind = newcomer.description.kind;
            let identity = newcomer.description.identity;
            if entry.about.announced_id.is_none() || !identity.is_empty() {
                entry.about.announced_id = Some(identity);
            }
            entry.about.metadata = memory_of(&properties);
            entry.about.properties = properties;
            entry.about.address = newcomer.address;
            entry.about.credentials = credentials;
            entry.about.trust = Trust::default();
            entry.about.written_before = (entry.counts.written, entry.counts.written_bytes);
            entry.counts.reconnects += u64::from(newcomer.reconnected);
            entry.wire = Wire::Stream(newcomer.stream);
        }
        side.note_standing(peer);
        let announced = newcomer.description.announced.filter(|_| self.profile.announces());
        if let Some(announced) = announced {
            reader.recognise(peer, announced.token);
        }
        self.open_flow(peer);
        side.connections += 1;
        side.reconnects += u64::from(newcomer.reconnected);
        self.greet(&mut side, peer);
        let mut unfit = self.note_limit(&mut side, peer, announced);
        for (_, reason) in
            [(placed.has_other_id, OTHER_ID), (leaves_metadata, METADATA_LEFT)].into_iter().filter(|(is_so, _)| *is_so)
        {
            let odd = EventKind::Oddity(Cause::Refused(reason.into()));
            unfit.extend(side.peer(peer).map(|entry| entry.tells(odd)));
        }
        // What ours accept is known.
        let is_foreign = announced.is_none();
        let replays = self.kind.subscribes() && self.begin_replay(&mut reader, &mut side, peer, is_foreign, &mut unfit);
        let held = side.peer(peer).is_some_and(|entry| entry.outbox.is_held() || entry.about.search.is_on());
        self.note_up(peer);
        // What is laid aside goes when both are open.
        reader.remains.append(&mut side.pool.take_remains());
        drop(side);
        drop(reader);
        self.announce();
        self.tell_given_up(unfit);
        if let Some(old) = placed.replaced {
            self.oust(old);
        }
        if let Some(old) = stranger {
            self.dismiss(old, false);
        }
        self.tell_waiters(Interest::CHANGE);
        self.tell_waiters(Interest::ROOM);
        Ok(Joined { peer, held, replays })
    }

    /// What is known of a newcomer that has no peer yet, and of its endpoint, unless that has been closed meanwhile.
    fn about_newcomer(&self, newcomer: &Newcomer) -> Result<(About, Role), &'static str> {
        let endpoints = self.lock_endpoints();
        let id = newcomer.endpoint_id;
        let connected = endpoints.connected.contains(id);
        if !connected && !endpoints.bound.contains(id) && newcomer.peer.is_none() {
            return Err(ENDPOINT_CLOSED);
        }
        let assigned_id = endpoints.assigned.get(&id).cloned().unwrap_or_default();
        drop(endpoints);
        let immediate = connected && newcomer.peer.is_none();
        let role = if connected { Role::Connected } else { Role::Bound };
        Ok((About { immediate, ..About::new(id, Arc::clone(&newcomer.endpoint), assigned_id) }, role))
    }

    /// Returns true if another server answers at the address a ROUTER has connected to: it announces another routing
    /// id, so what waits for the one before is not for it.
    fn is_stranger(&self, side: &SendSide, peer: PeerId, identity: &Bytes) -> bool {
        self.kind == SocketKind::Router
            && self.profile.new_identity_is_new_peer()
            && !identity.is_empty()
            && side.peer(peer).is_some_and(|peer| {
                let About { assigned_id, announced_id, .. } = &*peer.about;
                assigned_id.is_empty() && announced_id.as_ref().is_some_and(|before| before != identity)
            })
    }

    /// Finds a newcomer its place in the pattern, with the lock held; a reason refuses it. The seat of a PAIR that is
    /// kept is not for it, unless it has been kept too long.
    pub(super) fn place(
        &self,
        side: &mut SendSide,
        peer: PeerId,
        identity: &Bytes,
        if_taken: IfTaken,
    ) -> Result<Placed, &'static str> {
        let handover = self.switch().handover;
        let mut placed = Placed::default();
        let SendSide { routing, peers, seat, .. } = side;
        let slot = peer.slot();
        if peers.get(peer.key()).is_some_and(|peer| peer.retired) {
            return Ok(placed);
        }
        match routing {
            Routing::Balance(balance) => {
                let is_pair = self.kind == SocketKind::Pair;
                if is_pair && (balance.peers().iter().any(|other| *other != slot) || seat.is_kept(Instant::now())) {
                    return Err(PAIR_TAKEN);
                }
                balance.attach(slot);
            }
            Routing::Request(balance, _) => balance.attach(slot),
            Routing::Router(routes) => {
                let Some(entry) = peers.get_mut(peer.key()) else { return Err("the peer is gone") };
                if !entry.routing_id.is_empty() {
                    return Ok(placed);
                }
                let wanted = if entry.about.assigned_id.is_empty() { identity } else { &entry.about.assigned_id };
                let wanted = wanted.clone();
                let handover = handover && !routes.is_generated(&wanted);
                let claim = match routes.claim(slot, &wanted, handover) {
                    Claim::Refused if if_taken == IfTaken::Generate => {
                        placed.has_other_id = true;
                        routes.await_id(slot, &wanted);
                        routes.claim(slot, &Bytes::new(), false)
                    }
                    claim => claim,
                };
                let granted = match claim {
                    Claim::Granted(id) => id,
                    Claim::TakenFrom(other, id) => {
                        placed.replaced = peers.at(other).map(|peer| peer.id);
                        id
                    }
                    Claim::Refused => return Err(ID_TAKEN),
                };
                if let Some(old) = placed.replaced.and_then(|old| peers.get_mut(old.key())) {
                    self.give_other_id(routes, old);
                }
                if let Some(entry) = peers.get_mut(peer.key()) {
                    entry.routing_id = granted;
                }
                self.renamings.fetch_add(1, Ordering::Release);
            }
            Routing::Nowhere | Routing::Reply(_) | Routing::Publish(_) | Routing::Upstream => {
                if let Some(entry) = peers.get_mut(peer.key()) {
                    entry.routing_id = identity.clone();
                }
            }
        }
        Ok(placed)
    }

    /// Another peer is to have the routing id of this one: what it sent before stays readable, under an id that leads
    /// nowhere else.
    pub(super) fn give_other_id(&self, routes: &mut Routes, old: &mut Peer) {
        let slot = old.id.slot();
        routes.release(slot, &old.routing_id);
        if let Claim::Granted(id) = routes.claim(slot, &Bytes::new(), false) {
            old.routing_id = id;
            self.renamings.fetch_add(1, Ordering::Release);
        }
    }

    /// A routing id is free: the earliest of the peers that have announced it and got a generated one gets it. What was
    /// read from that peer before keeps the generated one.
    fn pass_id_on(&self, side: &mut SendSide, free: &Bytes) {
        let SendSide { routing: Routing::Router(routes), peers, .. } = side else { return };
        let Some(heir) = routes.heir_of(free) else { return };
        let Some(id) = peers.at(heir).map(|entry| entry.id) else { return };
        let Some(entry) = peers.get_mut(id.key()) else { return };
        routes.release(heir, &entry.routing_id);
        if let Claim::Granted(granted) = routes.claim(heir, free, false) {
            entry.routing_id = granted;
            self.renamings.fetch_add(1, Ordering::Release);
        }
    }

    /// Ends the connection of a peer whose routing id another one took, over whatever transport.
    pub(super) fn oust(&self, old: PeerId) {
        if !self.part_inproc(old, OUSTED) {
            self.port.submit(Command::Drop { peer: old, cause: OUSTED });
        }
    }

    // ----- messages that a peer does not take -----

    /// Remembers the largest message a peer accepts, by what it has announced, and drops what waits for it in vain. A
    /// message that its last connections were cut in is held back for a while.
    fn note_limit(&self, side: &mut SendSide, peer: PeerId, announced: Option<Announcement>) -> Vec<Event> {
        let gives_up = self.gives_up_after().is_some();
        let SendSide { peers, dialed, .. } = &mut *side;
        let Some(entry) = peers.get_mut(peer.key()) else { return Vec::new() };
        entry.largest =
            announced.map_or(Size::UNLIMITED, |announced| Size::limit(announced.max_message, announced.max_frames));
        if gives_up && entry.outbox.doubt().holds_back() {
            entry.outbox.hold();
        }
        // What ours accept is known before it is sent. A greeting would go out twice. An accepted peer never returns as
        // the same one.
        let returns = dialed.get(&entry.about.endpoint_id) == Some(&peer) && !entry.about.immediate;
        let keeps = gives_up && announced.is_none() && !self.conflate && !entry.outbox.is_greeting();
        entry.outbox.keep_sent(keeps && returns && self.kind.sends());
        self.drop_unfit(side, peer)
    }

    /// Drops what waits for a peer that does not accept so much.
    pub(super) fn drop_unfit(&self, side: &mut SendSide, peer: PeerId) -> Vec<Event> {
        let Some(entry) = side.peers.get_mut(peer.key()) else { return Vec::new() };
        let limit = entry.largest;
        let sizes = entry.outbox.drop_larger(limit, &mut side.pool);
        for counted in [&mut entry.counts.dropped, &mut side.counts.dropped] {
            counted.add(Reason::TooLarge, sizes.len());
        }
        let dropped = sizes.into_iter().map(|size| (size.octets, limit.refusal_of(size))).collect();
        self.after_drop(side, peer, dropped)
    }

    /// What waited for a peer whose connection was lost is in its queue again: gives up what that peer never takes.
    pub(super) fn judge(&self, side: &mut SendSide, peer: PeerId) -> Vec<Event> {
        let unfit = self.drop_unfit(side, peer);
        let Some(entry) = side.peers.get_mut(peer.key()) else { return unfit };
        let closings = u32::from(entry.outbox.doubt().lasted());
        if self.gives_up_after().is_none_or(|limit| closings < limit) {
            return unfit;
        }
        let Some(size) = entry.outbox.drop_front(&mut side.pool) else { return unfit };
        for counted in [&mut entry.counts.dropped, &mut side.counts.dropped] {
            counted.add(Reason::GivenUp, 1);
        }
        let mut events = self.after_drop(side, peer, vec![(size, Refusal::Closed { times: closings })]);
        events.extend(unfit);
        events
    }

    /// Messages of so many octets were taken out of a peer's queue, for these reasons: what is told of that.
    fn after_drop(&self, side: &mut SendSide, peer: PeerId, dropped: Vec<(usize, Refusal)>) -> Vec<Event> {
        let Some(entry) = side.peers.get_mut(peer.key()).filter(|_| !dropped.is_empty()) else { return Vec::new() };
        entry.recharge();
        let given_up = |(size, refusal)| entry.tells(EventKind::GivenUp { octets: size as u64, refusal });
        let events = dropped.into_iter().map(given_up).collect();
        side.marks_changed(peer);
        events
    }

    /// Tells of messages that were given up, with no gate held.
    pub(super) fn tell_given_up(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        events.into_iter().for_each(|event| self.event(event));
        self.tell_waiters(Interest::ROOM);
        self.tell_waiters(Interest::CHANGE);
    }

    /// After how many connections that the peer ended in the middle of a message that is given up.
    pub(super) fn gives_up_after(&self) -> Option<u32> {
        let limit = self.lock_options().give_up_after;
        Some(limit).filter(|limit| *limit > 0 && self.profile.gives_messages_up())
    }

    // ----- leaving -----

    /// The connection of a peer is gone, and its endpoint will connect again: what waits for it stays. Returns true if
    /// it has topics left, which [`withdraw`](Core::withdraw) is to take from it before it is back.
    pub(super) fn await_return(&self, peer: PeerId, lost: Lost) -> bool {
        let (was_up, given_up, has_topics) = {
            let mut side = self.lock_send();
            let side = &mut *side;
            let Some(entry) = side.peers.get_mut(peer.key()) else { return false };
            let was_up = !matches!(entry.wire, Wire::None);
            entry.wire = Wire::None;
            let was_told = !entry.outbox.is_replaying() && lost.unacknowledged == 0;
            let settled = entry.outbox.lose(lost, &mut side.pool);
            entry.settle(settled, &mut side.counts);
            entry.recharge();
            let mut given_up = if settled.rewound { self.judge(side, peer) } else { Vec::new() };
            given_up.extend(self.judge_subscriptions(side, peer, lost.ending, was_told));
            side.marks_changed(peer);
            side.connections -= u64::from(was_up);
            let mut has_topics = false;
            match &mut side.routing {
                Routing::Publish(_) => has_topics = self.unplace(side, peer),
                Routing::Request(_, requests) => requests.detach(peer),
                Routing::Reply(replies) => replies.detach(peer),
                Routing::Nowhere | Routing::Balance(_) | Routing::Router(_) | Routing::Upstream => {}
            }
            (was_up, given_up, has_topics)
        };
        self.tell_given_up(given_up);
        if was_up {
            self.note_down(peer, true);
        }
        self.reveal();
        self.tell_waiters(Interest::CHANGE);
        self.context.attend();
        has_topics
    }

    /// Takes a peer out of the pattern, with the lock held: it gets nothing new. Returns true if it has topics left,
    /// which [`withdraw`](Core::withdraw) is to take from it. Until then it is not heard.
    pub(super) fn unplace(&self, side: &mut SendSide, peer: PeerId) -> bool {
        let slot = peer.slot();
        let SendSide { routing, peers, .. } = &mut *side;
        match routing {
            Routing::Balance(balance) => balance.detach(slot),
            Routing::Request(balance, requests) => {
                balance.detach(slot);
                requests.detach(peer);
            }
            Routing::Router(routes) => {
                if let Some(entry) = peers.get(peer.key()) {
                    let free = entry.routing_id.clone();
                    routes.release(slot, &free);
                    self.pass_id_on(side, &free);
                }
            }
            Routing::Publish(publisher) => {
                publisher.subscriptions.begin_removal(slot);
                for chosen in [&mut publisher.last, &mut publisher.only] {
                    chosen.take_if(|chosen| *chosen == peer);
                }
                self.hide_requests(peer);
                return !self.take_topics(side, peer);
            }
            Routing::Nowhere | Routing::Reply(_) | Routing::Upstream => {}
        }
        false
    }

    /// Takes topics from a peer that has left the pattern, for a moment; an XPUB shows what follows from that. Returns
    /// true if none is left, and then the peer may be heard again.
    fn take_topics(&self, side: &mut SendSide, peer: PeerId) -> bool {
        let Routing::Publish(publisher) = &mut side.routing else { return true };
        let mut slice = Slice::begin();
        let mut shows = self.shows();
        let done = publisher.subscriptions.remove_peer_while(peer.slot(), |topic, is_edge| {
            shows.show(&Change { peer, is_said: false, topic, subscribe: false, is_edge, had: true });
            slice.step(topic.len())
        });
        let done = done && shows.drop_hidden(peer, || slice.step(0));
        drop(shows);
        if done {
            publisher.subscriptions.end_removal(peer.slot());
        }
        side.note_standing(peer);
        done
    }

    /// Takes more topics from a peer that has left the pattern, for a moment. Returns true if none is left. A peer may
    /// have very many, and whoever sends waits for the gate, so this is called again and again until then.
    pub(super) fn withdraw(&self, peer: PeerId) -> bool {
        let mut side = self.lock_send();
        if !side.is_leaving(peer) {
            return true;
        }
        let done = self.take_topics(&mut side, peer);
        let is_dismissed = done && side.remove_settled(peer);
        drop(side);
        self.reveal();
        if is_dismissed {
            self.bury(peer);
        }
        if done {
            self.tell_waiters(Interest::CHANGE);
        }
        self.context.attend();
        Slice::tidy_heap();
        done
    }

    /// A peer is gone for good, with all its topics.
    pub(super) fn dismiss(&self, peer: PeerId, linger: bool) {
        if self.begin_dismissal(peer, linger) {
            self.withdraw_all(peer);
        }
    }

    /// Takes its topics from a peer that has left the pattern, on a thread that has nothing else to do.
    pub(super) fn withdraw_all(&self, peer: PeerId) {
        while !self.withdraw(peer) {
            while !self.send.let_in() {}
        }
    }

    /// A peer is gone for good. Returns true if it has topics left, which [`withdraw`](Core::withdraw) is to take from
    /// it.
    pub(super) fn begin_dismissal(&self, peer: PeerId, linger: bool) -> bool {
        let (was_up, again, has_topics) = {
            let mut side = self.lock_send();
            let Some(entry) = side.peer(peer) else { return false };
            let was_up = !matches!(entry.wire, Wire::None);
            let again = entry.about.immediate.then_some(entry.about.endpoint_id);
            let has_topics = self.unplace(&mut side, peer);
            if let Some(entry) = side.peer_mut(peer) {
                entry.lingered |= linger;
            }
            side.condemn(peer);
            side.connections -= u64::from(was_up);
            (was_up, again, has_topics)
        };
        if was_up {
            let returns = again.is_some_and(|endpoint| self.lock_endpoints().connected.contains(endpoint));
            self.note_down(peer, returns);
        }
        self.reveal();
        if !has_topics {
            // All that is to come from the peer has come when it is buried: what came later would have a source that
            // never goes.
            self.bury(peer);
        }
        self.tell_waiters(Interest::CHANGE);
        // Nobody has room any more, perhaps: those who wait look again.
        self.tell_waiters(Interest::ROOM);
        self.context.attend();
        has_topics
    }
}

/// How much memory a peer's metadata takes, about.
pub(super) fn memory_of(properties: &[(String, Bytes)]) -> usize {
    properties.iter().map(|(name, value)| PROPERTY + name.len() + value.len()).sum()
}

/// What a property takes beside the octets of its name and its value: its place in the list, and the name's in the
/// heap.
const PROPERTY: usize = size_of::<(String, Bytes)>() + 16;
