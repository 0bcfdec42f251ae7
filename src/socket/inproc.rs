//! Links between sockets of one context: two outboxes that each end fetches from, without descriptors or system calls.
//!
//! Each step finishes with the locks of one socket before it touches the other, with one exception: a thread that
//! fetches holds the reader gate of its socket while it takes the send gate of the other, so that what one end counts
//! as written has come to the other, whichever ends first.

use super::core::Core;
use super::endpoints::INPROC;
use super::membership::{IfTaken, Placed};
use super::sending::{About, After, Marks, Notice, SendSide, Wire, own_limit};
use super::tokens::Role;
use crate::endpoint::Endpoint;
use crate::engine::waiters::Interest;
use crate::engine::{Course, EndpointId};
use crate::error::Error;
use crate::event::{Cause, Event, EventKind};
use crate::peer::PeerId;
use crate::protocol::Token;
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::{Arc, Weak};
use wiremesh_transports::directory::{Meeting, Ticket, check_name};

impl Core {
    pub(super) fn bind_inproc(self: &Arc<Core>, endpoint: Endpoint) -> Result<Endpoint, Error> {
        check_inproc(&endpoint)?;
        let waiting = self
            .context
            .directory
            .bind(endpoint.address(), Weak::clone(&self.me))
            .map_err(|_| Error::AddressInUse { endpoint: endpoint.to_string() })?;
        let id = {
            let mut endpoints = self.lock_endpoints();
            let id = endpoints.allot();
            endpoints.bound.insert(id, endpoint.as_str().into());
            endpoints.tokens.take(id, Role::Bound, endpoint.as_str());
            id
        };
        self.tell(EventKind::Listening, &endpoint, None);
        for (connector, peer) in waiting {
            if let Some(connector) = connector.upgrade() {
                // A connector that does not fit is told by an event of its own, and is no peer.
                if let Err(reason) = join(&connector, peer, self, id, &endpoint) {
                    connector.drop_endpoint_of(peer, reason);
                }
            }
        }
        Ok(endpoint)
    }

    pub(super) fn connect_inproc(
        self: &Arc<Core>,
        endpoint: Endpoint,
        given: Option<Bytes>,
    ) -> Result<Endpoint, Error> {
        check_inproc(&endpoint)?;
        let (id, peer) = {
            let mut side = self.lock_send();
            let Some(id) = self.allot_inproc(&mut side, &endpoint) else { return Ok(endpoint) };
            let (immediate, assigned_id) = self.next_routing_id(given);
            let peer = side.insert(about(id, &endpoint, assigned_id.clone()), Role::Connected);
            // A ROUTER cannot address a peer whose id it does not know, nor a socket under `immediate` a peer that is
            // not there yet.
            let waits = immediate || (self.kind == crate::SocketKind::Router && assigned_id.is_empty());
            let placed =
                if waits { Ok(Placed::default()) } else { self.place(&mut side, peer, &assigned_id, IfTaken::Refuse) };
            if let Err(reason) = placed {
                side.condemn(peer);
                drop(side);
                self.forget_endpoint(id);
                return Err(Error::InvalidEndpoint { endpoint: endpoint.to_string(), reason: reason.to_owned() });
            }
            (id, peer)
        };
        let me = (Weak::clone(&self.me), peer);
        let refused = match self.context.directory.connect(endpoint.address(), me) {
            Meeting::Queued(ticket) => {
                self.await_binder(id, &endpoint, ticket);
                return Ok(endpoint);
            }
            Meeting::Found(binder, _) => match binder.upgrade() {
                Some(binder) => match join(self, peer, &binder, binder.endpoint_of(&endpoint), &endpoint) {
                    Ok(()) => return Ok(endpoint),
                    Err(reason) => reason,
                },
                None => "the socket bound there is being closed".into(),
            },
            Meeting::Full(_) => "too many sockets wait for that name to be bound".into(),
        };
        self.forget_endpoint(id);
        self.dismiss(peer, false);
        if self.context.is_shut() {
            return Err(Error::Closed);
        }
        Err(Error::InvalidEndpoint { endpoint: endpoint.to_string(), reason: refused.into_owned() })
    }

    /// Notes an endpoint that is being connected, with the gate held over its peer as well; `None` if once is enough,
    /// and the peer of an earlier call is there, or waits for its binder.
    fn allot_inproc(&self, side: &mut SendSide, endpoint: &Endpoint) -> Option<EndpointId> {
        let mut endpoints = self.lock_endpoints();
        let lives = || endpoints.connected.named(endpoint.as_str()).any(|id| side.dialed.contains_key(&id));
        if self.connects_once() && self.profile.deduplicates_inproc() && lives() {
            return None;
        }
        endpoints.forget_ended(endpoint.as_str(), &mut side.left);
        let id = endpoints.allot();
        endpoints.connected.insert(id, endpoint.as_str().into());
        // Its last use has handed over all it had when it was closed: nothing is to be waited for.
        endpoints.tokens.take(id, Role::Connected, endpoint.as_str());
        Some(id)
    }

    /// Nobody has bound the name of an endpoint yet. It waits, unless it was taken back meanwhile.
    fn await_binder(&self, id: EndpointId, endpoint: &Endpoint, ticket: Ticket) {
        let mut endpoints = self.lock_endpoints();
        // A close after that takes the lock as well, and finds the ticket.
        if endpoints.connected.contains(id) && !self.is_closed() {
            endpoints.awaiting.insert(id, ticket);
            return;
        }
        drop(endpoints);
        self.context.directory.take_back(endpoint.address(), ticket);
    }

    /// A connecting endpoint is none any more; returns true if it was one.
    fn forget_endpoint(&self, id: EndpointId) -> bool {
        self.lock_endpoints().forget(id).is_some()
    }

    /// The endpoint of a peer cannot work: it ends.
    fn drop_endpoint_of(&self, peer: PeerId, reason: Cow<'static, str>) {
        let id = self.lock_send().peer(peer).map(|peer| peer.about.endpoint_id);
        if let Some(id) = id {
            self.lock_endpoints().give_up(id, Some(Cause::Refused(reason)));
        }
        self.dismiss(peer, false);
    }

    /// What the endpoint of a peer announces, by which the other end recognises it when it comes back.
    fn token_of_peer(&self, peer: PeerId) -> Option<Token> {
        let id = self.lock_send().peer(peer)?.about.endpoint_id;
        self.lock_endpoints().tokens.of(id)
    }

    fn endpoint_of(&self, endpoint: &Endpoint) -> EndpointId {
        let found = self.lock_endpoints().bound.named(endpoint.as_str()).next();
        found.unwrap_or(EndpointId(0))
    }

    /// Stops an inproc endpoint: a binder takes no newcomers any more and keeps its peers, a connector parts.
    pub(super) fn undo_inproc(&self, endpoint: &Endpoint, id: EndpointId, role: Role, ticket: Option<Ticket>) {
        if role == Role::Bound {
            self.context.directory.unbind_if(endpoint.address(), |binder| Weak::ptr_eq(binder, &self.me));
            self.tell(EventKind::Closed(Cause::Local), endpoint, None);
            return;
        }
        if let Some(ticket) = ticket {
            self.context.directory.take_back(endpoint.address(), ticket);
        }
        let peers = self.lock_send().peers_of(id, Role::Connected);
        // What another thread sends meanwhile is not for them: it would be dropped with them.
        self.retire(&peers);
        for peer in peers {
            self.part(peer);
        }
    }

    /// The socket is closing: gives up its names, hands its last messages over and says goodbye.
    pub(super) fn leave_inproc(&self) {
        let (names, waiting): (Vec<Endpoint>, Vec<(Endpoint, Ticket)>) = {
            let mut endpoints = self.lock_endpoints();
            let awaiting = std::mem::take(&mut endpoints.awaiting);
            let waiting = |(id, ticket)| Some((endpoints.connected.get(id)?.parse().ok()?, ticket));
            let names = endpoints.bound.iter().filter_map(|(_, name)| name.parse().ok()).collect();
            (names, awaiting.into_iter().filter_map(waiting).collect())
        };
        for endpoint in names.iter().filter(|endpoint| endpoint.scheme() == INPROC) {
            self.context.directory.unbind_if(endpoint.address(), |binder| Weak::ptr_eq(binder, &self.me));
        }
        for (endpoint, ticket) in waiting {
            self.context.directory.take_back(endpoint.address(), ticket);
        }
        let peers: Vec<PeerId> = {
            let side = self.lock_send();
            let inproc = side.peers.iter().filter(|(_, peer)| peer.about.endpoint.starts_with("inproc://"));
            inproc.map(|(_, peer)| peer.id).collect()
        };
        for peer in peers {
            self.part(peer);
        }
    }

    /// Ends the link to one inproc peer, which may end it at the same moment. Either end fetches what the other has
    /// accepted for it, as long as it has not buried the other. What is not fetched is dropped, and counted, by the end
    /// that has accepted it.
    fn part(&self, peer: PeerId) {
        if !self.is_closed() {
            self.fetch_last(peer);
        }
        let link = self.lock_send().peer_mut(peer).and_then(|entry| match &entry.wire {
            Wire::Inproc { core, there, .. } => {
                // What is behind a replay is not lost, though the rest of that is.
                entry.outbox.end_replay();
                Some((core.upgrade()?, *there))
            }
            Wire::None | Wire::Stream(_) => None,
        });
        if let Some((core, there)) = link {
            core.fetch_last(there);
            core.orphan(there);
        }
        self.dismiss(peer, self.is_closed());
    }

    /// Ends the link to a peer if it is one of this process.
    pub(super) fn part_inproc(&self, peer: PeerId, cause: Cause) -> bool {
        let (id, endpoint) = match self.lock_send().peer(peer).map(|entry| (&entry.wire, &entry.about)) {
            Some((Wire::Inproc { .. }, about)) => (about.endpoint_id, Arc::clone(&about.endpoint)),
            Some((Wire::None | Wire::Stream(_), _)) | None => return false,
        };
        self.note_course(id, Course::Lost { cause: &cause });
        self.part(peer);
        use crate::engine::Host;
        self.event(Event { kind: EventKind::Disconnected(cause), endpoint, address: None, peer: Some(peer) });
        true
    }

    /// Replaces the link to an inproc peer we connected to by a new one; `false` if it is not such a peer.
    pub(super) fn reconnect_inproc(&self, peer: PeerId) -> bool {
        let (id, endpoint) = {
            let side = self.lock_send();
            match side.peer(peer).map(|entry| (&entry.wire, &entry.about)) {
                Some((Wire::Inproc { .. }, about)) => (about.endpoint_id, about.endpoint.parse::<Endpoint>()),
                Some((Wire::None | Wire::Stream(_), _)) | None => return false,
            }
        };
        let (Ok(endpoint), Some(me)) = (endpoint, self.me.upgrade()) else { return false };
        if !self.forget_endpoint(id) {
            return false;
        }
        self.part(peer);
        // That the binder is gone by now is no surprise to whoever gave up on it.
        let _ = me.connect_inproc(endpoint, None);
        true
    }

    /// An inproc peer has gone: what it sent stays readable.
    fn orphan(&self, peer: PeerId) {
        let about = self.lock_send().peer(peer).map(|peer| (peer.about.endpoint_id, Arc::clone(&peer.about.endpoint)));
        if let Some((id, _)) = about {
            self.note_course(id, Course::Lost { cause: &Cause::Peer });
        }
        self.dismiss(peer, false);
        if let Some(endpoint) = about.and_then(|(_, endpoint)| endpoint.parse().ok()) {
            self.tell(EventKind::Disconnected(Cause::Peer), &endpoint, Some(peer));
        }
        self.wake_driver(Interest::MESSAGE);
    }

    /// Tells the other ends of inproc links that our receive marks have changed.
    pub(super) fn tell_marks(&self, peer: PeerId) {
        let marks = self.receive_marks();
        let link = match self.lock_send().peer(peer).map(|peer| &peer.wire) {
            Some(Wire::Inproc { core, there, .. }) => Some((Weak::clone(core), *there)),
            Some(Wire::None | Wire::Stream(_)) | None => None,
        };
        if let Some((core, there)) = link.and_then(|(core, there)| Some((core.upgrade()?, there))) {
            {
                let mut side = core.lock_send();
                if let Some(entry) = side.peer_mut(there) {
                    entry.added = Some(marks);
                }
                side.marks_changed(there);
            }
            core.tell_waiters(Interest::ROOM);
        }
    }

    fn tell(&self, kind: EventKind, endpoint: &Endpoint, peer: Option<PeerId>) {
        use crate::engine::Host;
        self.event(Event { kind, endpoint: endpoint.as_str().into(), address: None, peer });
    }

    /// Our end of a new inproc link.
    fn link(
        self: &Arc<Core>,
        peer: PeerId,
        other: &Arc<Core>,
        there: PeerId,
        identity: &Bytes,
        token: Option<Token>,
        marks: Marks,
    ) -> Result<Linked, &'static str> {
        // As it would be announced over a stream.
        let accepted = own_limit(&other.lock_options());
        let mut reader = self.lock_recv();
        let mut side = self.lock_send();
        if side.closed {
            return Err("the socket is being closed");
        }
        let replaced = self.place(&mut side, peer, identity, IfTaken::Refuse)?.replaced;
        self.open_inproc_flow(peer);
        reader.link_inproc(peer, Arc::downgrade(other), there);
        if let Some(token) = token {
            reader.recognise(peer, token);
        }
        let Some(entry) = side.peer_mut(peer) else { return Err("the peer is gone") };
        // Until both ends stand there is nobody to be told.
        entry.wire = Wire::Inproc { core: Arc::downgrade(other), there, notice: Notice::Given };
        entry.added = Some(marks);
        entry.largest = accepted;
        entry.about.kind = Some(other.kind);
        side.connections += 1;
        side.marks_changed(peer);
        self.greet(&mut side, peer);
        let mut unfit = self.drop_unfit(&mut side, peer);
        let replays = self.kind.subscribes() && self.begin_replay(&mut reader, &mut side, peer, false, &mut unfit);
        self.note_up(peer);
        // What is laid aside goes when both are open.
        reader.remains.append(&mut side.pool.take_remains());
        drop(side);
        drop(reader);
        Ok(Linked { peer, unfit, replaced, replays })
    }

    /// What follows a new link once both ends stand: a peer whose routing id was taken goes, and what waited is
    /// fetched.
    fn settle(&self, linked: Linked) {
        if let Some(old) = linked.replaced {
            self.oust(old);
        }
        if linked.replays {
            self.replay_all(linked.peer);
        }
        self.begin_notices(linked.peer);
        self.tell_given_up(linked.unfit);
    }

    /// Both ends of an inproc link stand. From now on the other end is told of what waits for it, and at once if
    /// something does already.
    fn begin_notices(&self, peer: PeerId) {
        let mut after = After::Nothing;
        if let Some(entry) = self.lock_send().peer_mut(peer) {
            let waits = entry.outbox.has_work();
            if let Wire::Inproc { core, there, notice } = &mut entry.wire {
                *notice = if waits { Notice::Given } else { Notice::Due };
                if waits {
                    after = After::Notice(Weak::clone(core), *there);
                }
            }
        }
        self.follow(after);
    }
}

/// What is left to do for one end of a new link.
struct Linked {
    peer: PeerId,
    /// What is told of messages that the other end does not accept.
    unfit: Vec<Event>,
    /// The peer that had the routing id before.
    replaced: Option<PeerId>,
    /// It has not been told all subscriptions yet.
    replays: bool,
}

/// Joins a connector's peer with a binder.
fn join(
    connector: &Arc<Core>,
    peer: PeerId,
    binder: &Arc<Core>,
    bound: EndpointId,
    endpoint: &Endpoint,
) -> Result<(), Cow<'static, str>> {
    if !connector.kind.accepts(binder.kind) {
        let here = format!("a {} came, a kind that does not talk to a {}", connector.kind, binder.kind);
        binder.tell(EventKind::HandshakeFailed(Cause::Refused(here.into())), endpoint, None);
        let there =
            format!("the socket bound there is a {}, a kind that does not talk to a {}", binder.kind, connector.kind);
        connector.tell(EventKind::HandshakeFailed(Cause::Refused(there.clone().into())), endpoint, Some(peer));
        return Err(there.into());
    }
    let identity = |core: &Core| {
        if core.kind.announces_identity() { core.lock_options().routing_id.clone() } else { Bytes::new() }
    };
    let marks = Core::receive_marks;
    let (from, to) = (connector.token_of_peer(peer), binder.lock_endpoints().tokens.of(bound));
    let there = binder.lock_send().insert(about(bound, endpoint, Bytes::new()), Role::Bound);
    let linked = binder.link(there, connector, peer, &identity(connector), from, marks(connector)).and_then(|linked| {
        match connector.link(peer, binder, there, &identity(binder), to, marks(binder)) {
            Ok(ours) => Ok((ours, linked)),
            Err(reason) => {
                binder.dismiss(there, false);
                Err(reason)
            }
        }
    });
    let (ours, theirs) = match linked {
        Ok(after) => after,
        Err(reason) => {
            binder.dismiss(there, false);
            connector.tell(EventKind::HandshakeFailed(Cause::Refused(reason.into())), endpoint, Some(peer));
            return Err(reason.into());
        }
    };
    for (core, peer) in [(connector, peer), (binder, there)] {
        core.tell(EventKind::HandshakeSucceeded, endpoint, Some(peer));
        core.announce();
        core.tell_waiters(Interest::CHANGE);
        core.tell_waiters(Interest::ROOM);
    }
    // Whoever changed its marks meanwhile may not have known of the link.
    connector.tell_marks(peer);
    binder.tell_marks(there);
    connector.settle(ours);
    binder.settle(theirs);
    Ok(())
}

fn about(id: EndpointId, endpoint: &Endpoint, assigned_id: Bytes) -> About {
    About::new(id, endpoint.as_str().into(), assigned_id)
}

fn check_inproc(endpoint: &Endpoint) -> Result<(), Error> {
    check_name(endpoint.address())
        .map_err(|error| Error::InvalidEndpoint { endpoint: endpoint.to_string(), reason: error.problem().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnySocket, Context, SocketKind};

    /// Of what a socket sends that is bound: one piece when its own end of a link stands and the other end does not,
    /// and one when both do. `arrives` is asked for each.
    fn all_reaches_the_other_end(
        kinds: (SocketKind, SocketKind),
        send: fn(&AnySocket, usize),
        arrives: fn(&AnySocket, usize) -> bool,
    ) {
        let context = Context::new();
        let [binder, connector] = [kinds.0, kinds.1].map(|kind| AnySocket::in_context(kind, &context));
        let endpoint: Endpoint = "inproc://between".parse().expect("an endpoint");
        let insert = |socket: &AnySocket, role| {
            socket.core.lock_send().insert(about(EndpointId(0), &endpoint, Bytes::new()), role)
        };
        let (here, there) = (insert(&binder, Role::Bound), insert(&connector, Role::Connected));
        let link = |from: &AnySocket, peer, to: &AnySocket, other| {
            from.core.link(peer, &to.core, other, &Bytes::new(), None, to.core.receive_marks()).expect("a link")
        };
        let ours = link(&binder, here, &connector, there);
        send(&binder, 1);
        let theirs = link(&connector, there, &binder, here);
        connector.core.settle(theirs);
        binder.core.settle(ours);
        assert!(arrives(&connector, 1), "{kinds:?}: what was sent in between");
        send(&binder, 2);
        assert!(arrives(&connector, 2), "{kinds:?}: what was sent after that");
    }

    #[test]
    fn what_is_sent_while_a_link_is_made_is_told_when_both_ends_stand_and_so_is_what_follows() {
        let subscribe = |socket: &AnySocket, number| socket.subscribe(format!("{number}")).expect("wanted");
        let knows = |socket: &AnySocket, number| socket.topic_count().is_ok_and(|count| count == number);
        for publisher in [SocketKind::Pub, SocketKind::XPub] {
            all_reaches_the_other_end((SocketKind::Sub, publisher), subscribe, knows);
        }
        let send = |socket: &AnySocket, number| socket.try_send(format!("{number}")).expect("there is room");
        let receives =
            |socket: &AnySocket, number| socket.try_recv().is_ok_and(|message| message == format!("{number}").as_str());
        all_reaches_the_other_end((SocketKind::Push, SocketKind::Pull), send, receives);
    }
}
