//! Sends in two steps: room for a message is reserved, and the message is made once there is some.
//!
//! It stands beside the one-lock path of a plain send, which knows nothing of it: a reserved place counts against its
//! peer's mark like a message that waits.

use super::core::{Core, Wait};
use super::sending::{DELIMITER, Marks, NUMBER_AND_DELIMITER, Payload, Peer, Recipient, Routing, SendSide};
use crate::engine::waiters::Interest;
use crate::error::{ReserveError, SendError, SendFailure};
use crate::kind::SocketKind;
use crate::message::size::Size;
use crate::message::{IntoMessage, Message};
use crate::patterns::reqrep::{Envelope, UNANSWERED};
use crate::peer::PeerId;
use crate::queue::gate::Pass;
use crate::stats::Reason;
use bytes::Bytes;
use smallvec::SmallVec;
use std::fmt;

/// Room for one message, reserved before there is one: made by the `reserve` methods, such as
/// [`Push::reserve`](crate::Push::reserve).
///
/// It counts against the high-water mark of its peer for everybody else, as one message. Dropping it gives the room
/// back, and wakes whoever waits for some. One that is leaked takes its one place until its peer is gone. It is not a
/// message: [`stats`](crate::Socket::stats) does not count it, and `close` does not wait for it.
///
/// A thread may hold several, and pass them to others. One that holds all the room there is and then calls `send` or
/// `reserve` waits for itself.
///
/// The octets of a message are not known beforehand and not reserved. The marks in octets and the context's budget were
/// looked at when the room was reserved, and each message sent into such room may exceed them by its own size.
///
/// # Examples
/// The next job is taken only once there is room to send it:
/// ```
/// # use std::collections::VecDeque;
/// use wiremesh::{Context, Pull, Push, SendFailure};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let context = Context::new();
/// let push = Push::builder().context(&context).send_mark(1).build()?;
/// let worker = Pull::builder().context(&context).receive_mark(1).build()?;
/// worker.bind("inproc://jobs")?;
/// push.connect("inproc://jobs")?;
///
/// # let mut database = VecDeque::from(["one", "two", "three"]);
/// while let Ok(room) = push.try_reserve() {
///     match database.pop_front() {
///         Some(job) => room.send(job)?,
///         None => break, // the room is given back
///     }
/// }
/// assert_eq!(push.try_reserve().unwrap_err(), SendFailure::WouldBlock);
/// assert_eq!(database, ["three"], "what there was no room for stays where it is safe");
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it gives the room back"]
pub struct Reservation<'a> {
    core: &'a Core,
    claim: Claim,
}

/// What is reserved.
#[derive(Default)]
struct Claim {
    /// With whom: one peer, or every subscriber that matched. With nobody where the message is to be dropped and
    /// counted.
    places: SmallVec<[Place; 1]>,
    /// To whom it goes without the room.
    to: Goal,
}

/// A [`Recipient`] that is kept.
#[derive(Default)]
enum Goal {
    #[default]
    Pattern,
    RoutingId(Bytes),
    Peer(PeerId),
}

impl Goal {
    fn recipient(&self) -> Recipient<'_> {
        match self {
            Goal::Pattern => Recipient::Pattern,
            Goal::RoutingId(id) => Recipient::RoutingId(id),
            Goal::Peer(peer) => Recipient::Peer(*peer),
        }
    }
}

/// What one peer has for the message.
struct Place {
    peer: PeerId,
    /// There is none, and the peer misses the message for this reason.
    missed: Option<Reason>,
}

/// What the least message takes.
const LEAST: Size = Size { octets: 1, frames: 1 };

impl Reservation<'_> {
    /// Whom the room is with. `None` for a publisher, whose message may go to many, and for a ROUTER without the option
    /// `mandatory` that knows no such peer or has no room for it: the message will be dropped and counted, unless that
    /// has changed by then.
    pub fn peer(&self) -> Option<PeerId> {
        let only = self.claim.places.first().filter(|_| !self.core.kind.publishes());
        only.map(|place| place.peer)
    }

    /// Sends a message into the reserved room. Never waits.
    ///
    /// If the peer has gone meanwhile, the message is sent as by `try_send`: a PUSH, DEALER, PAIR or REQ sends it to
    /// another peer, and a ROUTER to the peer that has the routing id by now. Room that was reserved by [`PeerId`] is
    /// for that peer only. A publisher's subscribers are those of the moment of the reservation, less those that have
    /// left, whatever the message begins with.
    ///
    /// # Errors
    /// [`Closed`](SendFailure::Closed) if the socket is. If the peer has gone, [`WouldBlock`](SendFailure::WouldBlock)
    /// where no other has room, and [`Unroutable`](SendFailure::Unroutable) from a `mandatory` ROUTER. A REQ that has
    /// asked something since: [`WrongState`](SendFailure::WrongState). [`TooLarge`](SendFailure::TooLarge) and
    /// [`TooManyFrames`](SendFailure::TooManyFrames) where neither the peer nor another accepts such a message. The
    /// message is handed back; the reservation is used up.
    pub fn send(mut self, message: impl IntoMessage) -> Result<(), SendError> {
        let message = message.into_message();
        let claim = &mut self.claim;
        self.core.commit(claim, &message).map_err(|reason| {
            let missing = self.core.what_is_missing(reason, claim.to.recipient().routing_id());
            SendError { reason, message, missing }
        })
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.core.give_back(&mut self.claim);
    }
}

impl fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("kind", &self.core.kind).field("peer", &self.peer()).finish()
    }
}

impl Core {
    /// Reserves room for a message: a ROUTER's with the peer of that name, a publisher's with those who want that
    /// topic, others' with whom the pattern chooses.
    pub(super) fn reserve(&self, name: Option<&[u8]>, wait: Wait) -> Result<Reservation<'_>, ReserveError> {
        self.reserve_to(name.map_or(Recipient::Pattern, Recipient::RoutingId), wait)
    }

    /// As [`reserve`](Core::reserve), for a ROUTER.
    pub(super) fn reserve_to(&self, to: Recipient<'_>, wait: Wait) -> Result<Reservation<'_>, ReserveError> {
        // The guard is made at once, so that no way out of the wait loses the room.
        let reserved = self.await_room(wait, || Ok(Reservation { core: self, claim: self.claim(to)? }));
        let missing = |reason| self.what_is_missing(reason, to.routing_id());
        reserved.map_err(|reason| ReserveError { reason, missing: missing(reason) })
    }

    /// Tries once to reserve room. A publisher's topic comes as a routing id.
    fn claim(&self, to: Recipient<'_>) -> Result<Claim, SendFailure> {
        let mut guard = self.lock_send();
        let SendSide { peers, routing, marks, closed, .. } = &mut *guard;
        if *closed {
            return Err(SendFailure::Closed);
        }
        let marks = *marks;
        let has_room = |peer: &Peer| self.conflate || peer.has_room(LEAST, marks, self);
        let mut claim = Claim::default();
        match (routing, to) {
            (Routing::Request(_, requests), Recipient::Pattern) if !requests.may_send(self.switch().relaxed) => {
                return Err(SendFailure::WrongState(UNANSWERED));
            }
            (Routing::Balance(balance) | Routing::Request(balance, _), Recipient::Pattern) => {
                let chosen = balance.choose(|slot| peers.at(slot).is_some_and(has_room));
                let Some(peer) = chosen.and_then(|slot| peers.at_mut(slot)) else { return Err(self.hold_up(guard)) };
                claim.places.push(peer.reserve(marks));
            }
            (Routing::Router(routes), Recipient::RoutingId(_) | Recipient::Peer(_)) => {
                let mandatory = self.switch().mandatory;
                match to.find(routes, peers).and_then(|slot| peers.at_mut(slot)) {
                    Some(peer) if has_room(peer) => claim.places.push(peer.reserve(marks)),
                    Some(_) if mandatory => return Err(self.hold_up(guard)),
                    None if mandatory => return Err(SendFailure::Unroutable),
                    Some(_) | None => {}
                }
                claim.to = match to {
                    Recipient::Pattern => Goal::Pattern,
                    Recipient::RoutingId(id) => Goal::RoutingId(Bytes::copy_from_slice(id)),
                    Recipient::Peer(peer) => Goal::Peer(peer),
                };
            }
            (Routing::Publish(publisher), Recipient::RoutingId(topic)) => {
                publisher.find(topic, peers, self.invert);
                let is_full = |slot: &u32| peers.at(*slot).is_some_and(|peer| !has_room(peer));
                let nodrop = self.switch().nodrop;
                if nodrop && publisher.matched.iter().any(is_full) {
                    return Err(self.hold_up(guard));
                }
                // The one message that goes to one peer only is this.
                publisher.only = None;
                for slot in publisher.matched.drain(..) {
                    let Some(peer) = peers.at_mut(slot) else { continue };
                    // That all had room was found out above, and other sockets may use the budget up meanwhile.
                    claim.places.push(if nodrop || has_room(peer) {
                        peer.reserve(marks)
                    } else {
                        Place { peer: peer.id, missed: Some(peer.obstacle(LEAST, marks)) }
                    });
                }
            }
            (Routing::Balance(_) | Routing::Request(..), Recipient::RoutingId(_) | Recipient::Peer(_)) => {
                return Err(self.does_not("reserve room by routing id or topic"));
            }
            (Routing::Router(_), Recipient::Pattern)
            | (Routing::Publish(_), Recipient::Pattern | Recipient::Peer(_)) => {
                return Err(self.does_not("reserve room without a routing id or a topic"));
            }
            (Routing::Nowhere | Routing::Reply(_) | Routing::Upstream, _) => {
                return Err(self.does_not("reserve room"));
            }
        }
        Ok(claim)
    }

    /// Sends a message into the room reserved for it. What it leaves in the claim has still to be given back.
    fn commit(&self, claim: &mut Claim, message: &Message) -> Result<(), SendFailure> {
        if self.is_forked() {
            return Err(SendFailure::Forked);
        }
        if self.kind == SocketKind::Req {
            self.forget_replies();
        }
        let mut guard = self.lock_send();
        let side = &mut *guard;
        if side.closed {
            return Err(self.why_unsent(SendFailure::Closed));
        }
        let size = message.size();
        if let Some(refused) = Size::refused_by_all([(size, side.largest)].into_iter()) {
            return Err(refused);
        }
        let relaxed = self.switch().relaxed;
        match &side.routing {
            Routing::Publish(_) => return self.commit_to_all(guard, claim, message),
            Routing::Request(_, requests) if !requests.may_send(relaxed) => {
                return Err(SendFailure::WrongState("another request has been sent meanwhile"));
            }
            Routing::Balance(_)
            | Routing::Request(..)
            | Routing::Router(_)
            | Routing::Nowhere
            | Routing::Reply(_)
            | Routing::Upstream => {}
        }
        // Where the id leads to another peer by now, the room is left in the claim, and given back with it.
        let to = claim.to.recipient();
        let leads_there = |place: &Place| match &side.routing {
            Routing::Router(routes) => to.find(routes, &side.peers) == Some(place.peer.slot()),
            Routing::Balance(_)
            | Routing::Request(..)
            | Routing::Publish(_)
            | Routing::Nowhere
            | Routing::Reply(_)
            | Routing::Upstream => true,
        };
        // Nor is the room used where the peer turned out not to accept so much, with what the pattern puts in front.
        let size = match &side.routing {
            Routing::Request(..) => size.behind(if self.correlate { NUMBER_AND_DELIMITER } else { DELIMITER }),
            Routing::Balance(_)
            | Routing::Router(_)
            | Routing::Publish(_)
            | Routing::Nowhere
            | Routing::Reply(_)
            | Routing::Upstream => size,
        };
        let fits = |place: &Place| side.peers.get(place.peer.key()).is_none_or(|peer| size.is_within(peer.largest));
        let is_good = claim.places.last().is_some_and(|place| leads_there(place) && fits(place));
        let place = if is_good { claim.places.pop() } else { None };
        let kept = place.and_then(|place| side.peer_mut(place.peer)?.vacate());
        let (peer, envelope) = match (&mut side.routing, kept) {
            (Routing::Balance(_) | Routing::Router(_), Some(peer)) => (peer, Envelope::new()),
            (Routing::Request(_, requests), Some(peer)) => (peer, requests.ask(peer, self.correlate)),
            (Routing::Balance(_) | Routing::Request(..) | Routing::Router(_), None)
            | (Routing::Publish(_) | Routing::Nowhere | Routing::Reply(_) | Routing::Upstream, _) => {
                // Whom it was for is gone.
                drop(guard);
                let to = claim.to.recipient();
                return self.offer(Payload::Message(message), to).map_err(|reason| self.why_unsent(reason));
            }
        };
        let after = side.push(peer.slot(), &envelope, Payload::Message(message), self);
        drop(guard);
        self.follow(after);
        Ok(())
    }

    /// PUB and XPUB: sends a message to those who wanted it when the room was reserved, and are still there. The room
    /// of those that turned out not to accept so much is left in the claim, and given back with it.
    fn commit_to_all(
        &self,
        mut guard: Pass<'_, SendSide>,
        claim: &mut Claim,
        message: &Message,
    ) -> Result<(), SendFailure> {
        let SendSide { peers, routing, counts, .. } = &mut *guard;
        let Routing::Publish(publisher) = routing else { return Err(self.does_not("publish")) };
        publisher.matched.clear();
        let (mut missed, size) = (false, message.size());
        claim.places.retain(|place| {
            let Some(peer) = peers.get_mut(place.peer.key()) else { return false };
            let too_large = (!size.is_within(peer.largest)).then_some(Reason::TooLarge);
            match place.missed.or(too_large) {
                None => publisher.matched.extend(peer.vacate().map(PeerId::slot)),
                Some(reason) if peer.is_open() => {
                    peer.count_refused(reason, counts);
                    missed = true;
                    return true;
                }
                Some(_) => return true,
            }
            false
        });
        if publisher.matched.is_empty() {
            if !missed {
                counts.accepted += 1;
                counts.dropped.unroutable += 1;
            }
            return Ok(());
        }
        self.distribute(guard, Payload::Message(message), true)
    }

    /// Gives back what is reserved, and tells those who wait for room.
    fn give_back(&self, claim: &mut Claim) {
        if claim.places.is_empty() || self.is_forked() {
            return;
        }
        let mut room = false;
        {
            let mut guard = self.lock_send();
            let side = &mut *guard;
            let marks = side.marks;
            for place in claim.places.drain(..).filter(|place| place.missed.is_none()) {
                let Some(peer) = side.peers.get_mut(place.peer.key()) else { continue };
                peer.vacate();
                // The place is free at once: only what a flusher takes is told in steps.
                let limits = peer.limits(marks);
                peer.credit.fill(peer.load().messages, limits.messages);
                room |= !peer.credit.is_full();
            }
            room = room && std::mem::take(&mut side.hungry);
        }
        if room {
            self.tell_waiters(Interest::ROOM);
        }
    }
}

impl Peer {
    /// Takes one place below the mark.
    fn reserve(&mut self, own: Marks) -> Place {
        self.beside += 1;
        self.reserved += 1;
        self.note_fill(own);
        Place { peer: self.id, missed: None }
    }

    /// Ends a reservation; who it is, if it may still be sent something.
    fn vacate(&mut self) -> Option<PeerId> {
        self.beside = self.beside.saturating_sub(1);
        self.reserved = self.reserved.saturating_sub(1);
        self.is_open().then_some(self.id)
    }

    /// What waits and what it is measured by, reserved places left out of both: those that stay reserved must not keep
    /// the others full. `None` when all places are reserved.
    pub(super) fn unreserved(&self, own: Marks) -> Option<(Marks, Marks)> {
        let (mut load, mut limits) = (self.load(), self.limits(own));
        load.messages = load.messages.saturating_sub(self.reserved);
        if limits.messages != 0 {
            limits.messages = limits.messages.checked_sub(self.reserved).filter(|left| *left > 0)?;
        }
        Some((load, limits))
    }
}
