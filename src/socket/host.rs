//! What a socket is to the engine that drives it.

use super::core::Core;
use super::flushing::Effort;
use super::membership::{ID_TAKEN, TOO_MUCH_TO_KEEP, memory_of};
use super::sending::{Peer, Routing};
use crate::budget::Account;
use crate::engine::contain::contain;
use crate::engine::port::Port;
use crate::engine::waiters::Interest;
use crate::engine::{
    Course, Departure, EndpointId, Flush, Host, Incoming, Joined, Newcomer, Parts, Reserved, SeatTicket,
};
use crate::event::{Cause, Event, EventKind};
use crate::kind::SocketKind;
use crate::peer::PeerId;
use crate::protocol::{self, Token};
use crate::queue::intake::ReadGate;
use crate::queue::let_go;
use crate::stats::Unsent;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Host for Core {
    fn port(&self) -> &Port {
        &self.port
    }

    fn bar(&self) {
        Core::bar(self);
    }

    fn close(&self) {
        Core::close(self);
    }

    fn reserve(&self) -> Result<Option<Reserved>, &'static str> {
        if self.kind == SocketKind::Pair { self.lock_send().keep_seat().map(Some) } else { Ok(None) }
    }

    fn unreserve(&self, ticket: SeatTicket) {
        self.lock_send().seat.give_back(ticket);
    }

    fn admits(&self, newcomer: &protocol::PeerDescription) -> Result<(), &'static str> {
        if !self.received.has_room_to_stand(memory_of(&newcomer.properties)) {
            return Err(TOO_MUCH_TO_KEEP);
        }
        let handover = self.switch().handover;
        // Only `place`, under the gate, gives an id away. Of two that announce one at once the second one is told that
        // we are ready as well, if our word to the first was not written at once, and gets another id.
        match &self.lock_send().routing {
            Routing::Router(routes) => {
                let id = &newcomer.identity;
                let keeps = !handover || routes.is_generated(id);
                if keeps && routes.find(id).is_some() { Err(ID_TAKEN) } else { Ok(()) }
            }
            Routing::Balance(_)
            | Routing::Request(..)
            | Routing::Nowhere
            | Routing::Reply(_)
            | Routing::Publish(_)
            | Routing::Upstream => Ok(()),
        }
    }

    fn ousted_by(&self, newcomer: &protocol::PeerDescription) -> Option<PeerId> {
        let side = self.lock_send();
        let Routing::Router(routes) = &side.routing else { return None };
        let holder = routes.find(&newcomer.identity).filter(|_| !newcomer.identity.is_empty());
        holder.and_then(|slot| side.peers.at(slot)).map(|peer| peer.id)
    }

    fn rename(&self, peer: PeerId) {
        let side = &mut *self.lock_send();
        let Routing::Router(routes) = &mut side.routing else { return };
        if let Some(entry) = side.peers.get_mut(peer.key()) {
            self.give_other_id(routes, entry);
        }
    }

    fn attach(&self, newcomer: Newcomer) -> Result<Joined, &'static str> {
        self.join(newcomer)
    }

    fn detach(&self, peer: PeerId, departure: Departure) -> bool {
        match departure {
            Departure::Returns(lost) => self.await_return(peer, lost),
            Departure::Gone => self.begin_dismissal(peer, self.is_closed()),
            Departure::Drains => {
                self.begin_draining(peer);
                self.begin_dismissal(peer, self.is_closed())
            }
            Departure::Drained => {
                self.end_draining(peer);
                false
            }
        }
    }

    fn withdraw(&self, peer: PeerId) -> bool {
        self.send.let_in() && Core::withdraw(self, peer)
    }

    fn end_steps(&self, peer: PeerId) -> bool {
        self.lock_send().peer_mut(peer).is_some_and(Peer::end_steps)
    }

    fn replay(&self, peer: PeerId) -> bool {
        self.recv.let_in() && self.send.let_in() && Core::replay(self, peer)
    }

    fn attempt_failed(&self, peer: PeerId) {
        if let Some(entry) = self.lock_send().peer_mut(peer) {
            entry.outbox.forget_doubt();
            entry.forget_search();
        }
    }

    fn release(&self, peer: PeerId) -> bool {
        let written = {
            let mut side = self.lock_send();
            let Some(entry) = side.peer_mut(peer) else { return false };
            entry.outbox.release();
            entry.written_step()
        };
        // No other thread begins a step, so that what is written stays all that was told.
        let is_taken = written.is_some_and(|stream| self.untaken(vec![stream]) == 0);
        self.lock_send().peer_mut(peer).is_some_and(|entry| entry.go_on_searching(is_taken))
    }

    fn has_taken(&self, peer: PeerId, missing: usize) -> bool {
        let side = self.lock_send();
        let Some(peer) = side.peer(peer) else { return false };
        let (messages, octets) = peer.about.written_before;
        peer.counts.written > messages && peer.counts.written_bytes > octets + missing as u64
    }

    fn read_gate(&self, peer: PeerId) -> Option<Arc<ReadGate>> {
        self.gate_of(peer)
    }

    fn deliver(&self, peer: PeerId, incoming: Incoming) {
        self.arrive(peer, incoming);
    }

    fn keeps_wire(&self) -> bool {
        // A publisher looks for subscriptions, and `conflate` for the newest message.
        !self.kind.publishes() && !self.conflate
    }

    fn delivered(&self) {
        self.announce();
    }

    fn account(&self) -> &Arc<Account> {
        &self.received
    }

    fn attend(&self) {
        self.context.attend();
        self.context.tell_shortages();
    }

    fn urgent(&self, peer: PeerId, next: &mut dyn FnMut() -> Option<Bytes>) {
        if let Some(entry) = self.lock_send().peer_mut(peer) {
            entry.outbox.push_urgent(next);
        }
    }

    fn take_dirty(&self, peers: &mut Vec<PeerId>) {
        peers.append(&mut self.lock_send().dirty);
    }

    fn await_burst(&self) {
        Core::await_burst(self);
    }

    fn flush(&self, peer: PeerId) -> Flush {
        self.write_out(peer, &mut Effort::driver())
    }

    fn is_flushed(&self, peer: PeerId) -> bool {
        self.lock_send().peer(peer).is_none_or(|peer| !peer.outbox.has_work() && peer.outbox.queued() == 0)
    }

    fn pending(&self, peer: PeerId) -> usize {
        self.lock_send().peer(peer).map_or(0, |peer| peer.outbox.pending())
    }

    fn progress_of(&self, peer: Option<PeerId>) -> u64 {
        let Some(peer) = peer else { return self.progress() };
        let progress = self.lock_send().progress_of(peer);
        self.number_of(progress)
    }

    fn abandon(&self, peer: PeerId) -> Unsent {
        let mut guard = self.lock_send();
        let side = &mut *guard;
        let Some(entry) = side.peers.get_mut(peer.key()) else { return Unsent::default() };
        entry.lingered = true;
        let settled = entry.outbox.clear(&mut side.pool);
        entry.settle(settled, &mut side.counts);
        entry.recharge();
        drop(guard);
        self.context.attend();
        Unsent::new(settled.dropped as u64, settled.dropped_bytes as u64)
    }

    fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }

    fn has_dirty(&self) -> bool {
        !self.lock_send().dirty.is_empty()
    }

    fn will_return(&self) -> bool {
        self.is_at_it()
    }

    fn event(&self, event: Event) {
        #[cfg(feature = "tracing")]
        {
            let listens = || self.lock_endpoints().bound.has(&event.endpoint);
            // Events are told in the middle of what has to be done to its end, so that a subscriber that panics is left
            // behind by that.
            let _ = contain(|| self.told.tell(&event, listens));
        }
        self.note_newcomer(&event);
        if let EventKind::Unsent(unsent) = event.kind {
            self.lock_send().told.add(unsent);
        }
        self.feed.push(event);
    }

    fn course(&self, endpoint: EndpointId, course: Course<'_>) {
        self.note_course(endpoint, course);
    }

    fn endpoint_ended(&self, endpoint: EndpointId) {
        let forgotten = self.lock_endpoints().give_up(endpoint, None);
        // Its listener goes with no lock held.
        drop(forgotten);
    }

    fn another_token(&self, token: Token) -> Token {
        self.lock_endpoints().tokens.replace(token)
    }

    fn leave_unread(&self) -> Parts {
        Core::leave_unread(self)
    }

    fn finished(&self) {
        for peer in self.all_peers() {
            self.dismiss(peer, true);
        }
        let (unsent, told) = (self.unsent(), self.lock_send().told);
        if unsent.messages > told.messages {
            let unsent = Unsent::new(unsent.messages - told.messages, unsent.bytes.saturating_sub(told.bytes));
            self.event(Event { kind: EventKind::Unsent(unsent), endpoint: Arc::from(""), address: None, peer: None });
        }
        // The engine has let it go before, if there was much.
        self.leave_unread().for_each(drop);
        self.context.attend();
        let endpoint: Arc<str> = Arc::from("");
        self.feed.push(Event { kind: EventKind::MonitorStopped, endpoint, address: None, peer: None });
        self.feed.stop();
        let settling = {
            let mut side = self.lock_send();
            side.finishing = true;
            side.is_settling()
        };
        // Else the last flusher that comes back says so: what it has in hand may yet be written.
        if !settling {
            self.context.finished(self);
        }
    }

    fn failed(&self, panic: &Arc<str>) {
        let streams = self.streams();
        self.failed.store(true, Ordering::Release);
        self.bar();
        self.parted.store(true, Ordering::Release);
        self.tell_waiters(Interest::ALL);
        // Its connections are gone, and what they held with them.
        self.context.attend();
        // The panic may have left anything half changed, so that each of these steps may panic in its turn.
        let _ = contain(|| self.leave_inproc());
        let endpoints = std::mem::take(&mut *self.lock_endpoints());
        for (_, endpoint) in endpoints.bound.iter().chain(endpoints.connected.iter()) {
            let kind = EventKind::Closed(Cause::Failed(Arc::clone(panic)));
            self.event(Event { kind, endpoint: Arc::clone(endpoint), address: None, peer: None });
        }
        for peer in self.all_peers() {
            let _ = contain(|| self.dismiss(peer, true));
        }
        let _ = contain(|| self.finished());
        streams.into_iter().for_each(let_go);
        self.feed.stop();
        self.context.finished(self);
    }
}

impl Core {
    /// All peers, those that are gone and not settled yet included.
    fn all_peers(&self) -> Vec<PeerId> {
        self.lock_send().peers.iter().map(|(_, peer)| peer.id).collect()
    }
}
