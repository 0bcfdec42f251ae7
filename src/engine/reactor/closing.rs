//! The end of an endpoint or of the socket: what has been accepted still goes out within the linger time, and each connection stays
//! until its peer's system has taken everything.

use super::{Ending, Loss, Reactor, Timer};
use crate::engine::contain::contain;
use crate::engine::dialer::Dialing;
use crate::engine::link::{Origin, Standstill, State};
use crate::engine::{EndpointId, Host};
use crate::event::{Cause, Event, EventKind};
use crate::peer::PeerId;
use crate::slab::Key;
use std::cmp::Reverse;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Reactor {
    pub(super) fn end(&mut self, host: &dyn Host, scope: Option<EndpointId>, deadline: Option<Instant>) {
        let concerns = |id: EndpointId| scope.is_none_or(|scope| scope == id);
        for (_, binding) in self.bindings.iter_mut().filter(|(_, binding)| concerns(binding.id)) {
            if let Some(listener) = binding.listener.take() {
                listener.close(Some(self.sources.registry()));
                let endpoint = Arc::clone(&binding.endpoint);
                host.event(Event { kind: EventKind::Closed(Cause::Local), endpoint, address: None, peer: None });
            }
        }
        for (_, dialer) in self.dialers.iter_mut().filter(|(_, dialer)| concerns(dialer.id)) {
            dialer.closing = true;
        }
        if let Some(deadline) = deadline {
            self.timers.push(Reverse((deadline, Timer::Ending)));
        }
        // The newest word counts.
        self.endings.retain(|ending| scope.is_some() && ending.scope != scope);
        self.endings.push(Ending { scope, deadline });
        for key in self.links.keys() {
            self.list(key);
        }
    }

    /// A sweep looks at all connections. Where they are many, not every round has one.
    pub(super) fn sweep_in_turn(&mut self, host: &dyn Host) {
        let begin = Instant::now();
        let many = self.links.len() + self.dialers.len() > FEW_LINKS;
        if let Some(next) = self.next_sweep.filter(|next| many && begin < *next) {
            if !std::mem::replace(&mut self.sweep_put_off, true) {
                self.timers.push(Reverse((next, Timer::Ending)));
            }
            return;
        }
        self.sweep(host, begin);
        self.sweep_put_off = false;
        self.next_sweep = Some(begin + SWEEPS_APART);
    }

    /// Looks what is left of the endpoints being closed, and closes what is done or out of time.
    fn sweep(&mut self, host: &dyn Host, now: Instant) {
        // They stay where they are meanwhile: whoever clears up among the timers asks for their deadlines.
        let mut next = 0;
        while let Some(ending) = self.endings.get(next).copied() {
            let concerns = |id: EndpointId| ending.scope.is_none_or(|scope| scope == id);
            let expired = ending.deadline.is_some_and(|deadline| deadline <= now);
            for key in self.links.keys() {
                let Some(link) = self.links.get(key).filter(|link| concerns(link.endpoint_id)) else { continue };
                self.sweep_link(host, key, link.peer, expired, now);
            }
            for key in self.dialers.keys() {
                let Some(dialer) = self.dialers.get(key).filter(|dialer| concerns(dialer.id)) else { continue };
                let flushed = dialer.peer.is_none_or(|peer| host.is_flushed(peer));
                if matches!(dialer.state, Dialing::Linked(_)) {
                    continue;
                }
                if flushed || expired {
                    if let Some(peer) = dialer.peer {
                        host.abandon(peer);
                    }
                    self.remove_dialer(host, key, false);
                }
            }
            let left = self.links.iter().any(|(_, link)| concerns(link.endpoint_id))
                || self.dialers.iter().any(|(_, dialer)| concerns(dialer.id));
            if left {
                next += 1;
                continue;
            }
            self.endings.remove(next);
            for key in self.bindings.keys() {
                if self.bindings.get(key).is_some_and(|binding| concerns(binding.id)) {
                    self.bindings.remove(key);
                }
            }
            self.finished |= ending.scope.is_none();
        }
    }

    fn sweep_link(&mut self, host: &dyn Host, key: Key, peer: Option<PeerId>, expired: bool, now: Instant) {
        let unattended = self.is_unattended();
        let Some(link) = self.links.get_mut(key) else { return };
        let flushed = peer.is_none_or(|peer| host.is_flushed(peer));
        let dialed = matches!(link.origin, Origin::Dialer(_));
        match link.state {
            State::Draining if !expired => {}
            State::Draining => self.lose(host, key, Loss::Local(Cause::Local)),
            State::Up if flushed && !expired => {
                if link.stream.shutdown(Shutdown::Write).is_err() || link.stream.unsent() == 0 {
                    self.lose(host, key, Loss::Local(Cause::Local));
                    return;
                }
                link.state = State::Draining;
                link.standstill = Some(Standstill::new(now, (0, link.stream.unsent())));
                link.readable = true;
                self.list(key);
                self.retime(key);
            }
            State::Connecting { .. } | State::Handshaking | State::Settling(_) if dialed && !flushed && !expired => {}
            State::Up if !expired => {
                if let (None, Some(peer), true) = (&link.standstill, peer, unattended) {
                    link.standstill = Some(Standstill::new(now, (host.pending(peer), link.stream.unsent())));
                    self.retime(key);
                }
            }
            State::Up | State::Connecting { .. } | State::Handshaking | State::Settling(_) => {
                if let Some(peer) = peer {
                    host.abandon(peer);
                }
                self.lose(host, key, Loss::Local(Cause::Local));
            }
        }
    }

    /// Our side is shut down: the connection goes once the peer's system has taken everything, or the peer has gone. What the
    /// peer sends stays with it meanwhile, unless it takes nothing either: it may be waiting for us.
    pub(super) fn drain(&mut self, host: &dyn Host, key: Key) {
        let Some(link) = self.links.get_mut(key) else { return };
        let over = link.ended || link.stream.unsent() == 0;
        if over || self.discard(host, key) {
            self.lose(host, key, Loss::Local(Cause::Local));
        }
    }

    /// Whether nobody receives any more who could let a paused link go on.
    pub(super) fn is_unattended(&self) -> bool {
        // The end of the socket stands alone, or before the endpoint that somebody gave up at the same moment.
        self.endings.first().is_some_and(|ending| ending.scope.is_none())
    }

    /// Lets everything go after a panic. A stream or listener that panics once more keeps no other from being closed.
    pub(crate) fn demolish(mut self) {
        for key in self.links.keys() {
            if let Some(link) = self.links.remove(key) {
                let _ = contain(|| link.stream.deregister(self.sources.registry()));
                let _ = contain(|| drop(link));
            }
        }
        for key in self.bindings.keys() {
            if let Some(listener) = self.bindings.remove(key).and_then(|binding| binding.listener) {
                let _ = contain(|| listener.close(Some(self.sources.registry())));
            }
        }
        let _ = contain(|| drop(self));
    }
}

/// A sweep over so few connections costs nothing; those over more are so far apart.
const FEW_LINKS: usize = 64;
const SWEEPS_APART: Duration = Duration::from_millis(20);
