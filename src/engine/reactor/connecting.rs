//! The way of a connecting endpoint: its name is looked up, the addresses are tried, and after a failure or a loss it
//! waits for the next round.

use super::closing::{Linger, Lingering};
use super::{Loss, Reactor, Ready, Timer, token};
use crate::engine::dialer::{Dialer, Dialing};
use crate::engine::link::{Link, Origin, State};
use crate::engine::{Course, Departure, EndpointId, Host};
use crate::event::{Cause, Event, EventKind};
use crate::peer::PeerId;
use crate::protocol::{Connection, Token};
use crate::queue::doubt::LASTS;
use crate::slab::Key;
use mio::Interest;
use std::cmp::Reverse;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wiremesh_transports::Stream;

impl Reactor {
    /// Takes up a new endpoint; `before` is the last one with its token.
    pub(super) fn dial(&mut self, host: &dyn Host, dialer: Dialer, before: Option<EndpointId>) {
        let (id, token) = (dialer.id, dialer.token());
        let key = self.dialers.insert(dialer);
        let before = before.and_then(|before| self.predecessor(before, token));
        self.endpoints.insert(id, Origin::Dialer(key));
        self.lines.join(key, token, before);
        match before {
            Some(_) => self.queue_up(host, key),
            None => self.resolve(host, key),
        }
    }

    /// The dialer behind which a new one with that token has to wait, if the endpoint it is used after has one still.
    /// If that went before its own turn came, the one it waited for may be there yet.
    fn predecessor(&self, before: EndpointId, token: Option<Token>) -> Option<Key> {
        match self.endpoints.get(&before) {
            Some(Origin::Dialer(key)) => Some(*key),
            Some(Origin::Listener(_)) | None => self.lines.last_with(token?),
        }
    }

    /// An endpoint is connected again while a connection of its last use may still deliver: it waits for that.
    fn queue_up(&mut self, host: &dyn Host, key: Key) {
        if let Some(dialer) = self.dialers.get(key) {
            host.course(dialer.id, Course::Waiting);
        }
        if self.has_turn(host, key, Instant::now()) {
            self.resolve(host, key);
        } else if let Some(first) = self.lines.first(key) {
            self.hurry(host, first);
        }
    }

    /// The application connects again and so wants an attempt now. It is the turn of the first in the line, which does
    /// not wait for its next round, nor for an answer to an old attempt, if it would make another one.
    fn hurry(&mut self, host: &dyn Host, first: Key) {
        let Some(dialer) = self.dialers.get(first) else { return };
        if let (Dialing::Linked(link), Some(_)) = (dialer.state, dialer.settings.reconnect_interval) {
            if self.hangs(first, Instant::now()) {
                let error = io::Error::other("the attempt made way for a new one, as the endpoint was connected again");
                self.lose(host, link, Loss::Link(error.into()));
            }
        }
        let Some(dialer) = self.dialers.get_mut(first).filter(|dialer| matches!(dialer.state, Dialing::Waiting(_)))
        else {
            return;
        };
        // As of a new endpoint.
        dialer.failures = 0;
        if !self.settle_dialer(host, first) {
            self.go_on_dialing(host, first);
        }
    }

    /// Since when an endpoint is not late that waits for another one: as long as the one whose turn it is gets
    /// something delivered, those behind it are not, whatever its own linger says. `None` if it waits for nobody.
    pub(super) fn moved_in_line(&mut self, host: &dyn Host, id: EndpointId, now: Instant) -> Option<Instant> {
        let Origin::Dialer(key) = *self.endpoints.get(&id)? else { return None };
        let first = self.lines.first(key).filter(|first| *first != key)?;
        let progress = self.peer_of_dialer(first).map_or(0, |peer| host.progress_of(Some(peer)));
        let lingering = self.dialers.get_mut(first)?.lingering.as_mut()?;
        lingering.note(now, progress);
        Some(lingering.since)
    }

    /// A look at the endpoint that one waits for, if any: whether it may begin. It does not as long as that one waits
    /// itself, as nobody is at its address, and as it gets something delivered to one of our ends.
    pub(super) fn has_turn(&mut self, host: &dyn Host, key: Key, now: Instant) -> bool {
        let Some(before) = self.lines.before(key) else { return true };
        // A peer that does not know us by our token need not see one end before the other begins.
        let is_foreign = self.link_of_dialer(before).is_some_and(|link| link.is_up() && link.token.is_none());
        let may_begin = is_foreign || self.is_patience_over(host, before, key, now);
        if may_begin {
            self.begin_beside(host, key, now);
        }
        may_begin
    }

    /// Whether an endpoint has waited long enough while the one before it delivered nothing. If not, it is looked at
    /// again, or told.
    fn is_patience_over(&mut self, host: &dyn Host, before: Key, key: Key, now: Instant) -> bool {
        let is_second = self.lines.before(before).is_none();
        let runs = is_second && self.may_find_somebody(before, key, now);
        let delivered = if runs { self.delivered_by(host, before) } else { 0 };
        let Some(patience) = self.lines.patience(key) else { return false };
        if !runs {
            patience.take_if(|_| is_second);
            if let Some(dialer) = self.dialers.get_mut(key) {
                dialer.state = Dialing::InLine;
            }
            return false;
        }
        let patience = patience.get_or_insert_with(|| Lingering::new(Linger::Patience(PATIENCE), now));
        let is_over = patience.is_over(now, delivered);
        match patience.due.filter(|_| !is_over) {
            Some(due) => self.wake_dialer(key, due),
            None => return true,
        }
        false
    }

    /// Whether the second in a line may find somebody if it begins: somebody is at the address of the first, or it is
    /// reached in another way.
    fn may_find_somebody(&self, first: Key, second: Key, now: Instant) -> bool {
        let (Some(before), Some(dialer)) = (self.dialers.get(first), self.dialers.get(second)) else { return true };
        before.answered && !self.hangs(first, now) || dialer.takes_another_way(before)
    }

    /// Whether nobody has answered for long what an endpoint asks now: a look-up, or an attempt at an address.
    fn hangs(&self, key: Key, now: Instant) -> bool {
        let Some(dialer) = self.dialers.get(key) else { return false };
        let is_asking = match dialer.state {
            Dialing::Resolving => true,
            Dialing::Linked(link) => {
                self.links.get(link).is_some_and(|link| matches!(link.state, State::Connecting { .. }))
            }
            Dialing::Waiting(_) | Dialing::InLine => false,
        };
        is_asking && now.saturating_duration_since(dialer.begun) >= LASTS
    }

    /// An endpoint begins beside the one it waited for.
    fn begin_beside(&mut self, host: &dyn Host, key: Key, now: Instant) {
        self.lines.part_from_first(key, |token| host.another_token(token));
        self.tell_next(key, now);
    }

    /// An attempt failed for all that wait for their turn. The last of them is the one that the application has.
    fn tell_line(&self, host: &dyn Host, key: Key, cause: &Cause) {
        let last = self.lines.last(key).filter(|last| *last != key);
        if let Some(dialer) = last.and_then(|last| self.dialers.get(last)) {
            host.course(dialer.id, Course::Failed { cause, address: None });
        }
    }

    /// Has an endpoint that waits for its turn look at that moment whether it has come, or one with addresses left go on
    /// then, by a timer, so that a row of them takes no stack.
    fn wake_dialer(&mut self, key: Key, at: Instant) {
        let Some(dialer) = self.dialers.get_mut(key) else { return };
        dialer.state = Dialing::Waiting(at);
        self.timers.push(Reverse((at, Timer::Dialer(key))));
        self.forget_stale_timers();
    }

    /// Something happened to an endpoint that the one that waits for it is to know: that may be second now, or its
    /// patience may run.
    fn tell_next(&mut self, key: Key, now: Instant) {
        let waits = |next: &Key| self.dialers.get(*next).is_some_and(|next| next.state == Dialing::InLine);
        if let Some(next) = self.lines.next(key).filter(waits) {
            self.wake_dialer(next, now);
        }
    }

    /// A peer answered at the address of an endpoint: from now on the patience runs of the endpoint that waits for it.
    fn note_answer(&mut self, key: Key, now: Instant) {
        if let Some(dialer) = self.dialers.get_mut(key) {
            dialer.answered = true;
            self.tell_next(key, now);
        }
    }

    /// The peer of an endpoint is none of ours. It does not know us by our token, and need not see one end before the
    /// other begins.
    pub(super) fn let_next_begin(&mut self, host: &dyn Host, key: Key, now: Instant) {
        if let Some(next) = self.lines.next(key) {
            self.begin_beside(host, next, now);
            self.wake_dialer(next, now);
        }
    }

    /// An endpoint is gone: the one that waited for it is next, or waits as it did.
    fn pass_turn(&mut self, gone: Key) {
        let now = Instant::now();
        let Some(next) = self.lines.leave(gone) else { return };
        self.wake_dialer(next, now);
        if self.lines.before(next).is_none() {
            self.tell_next(next, now);
        }
    }

    fn link_of_dialer(&self, key: Key) -> Option<&Link> {
        match self.dialers.get(key)?.state {
            Dialing::Linked(link) => self.links.get(link),
            Dialing::Resolving | Dialing::Waiting(_) | Dialing::InLine => None,
        }
    }

    /// The peer of an endpoint; under `immediate` there is one only while it is connected.
    pub(super) fn peer_of_dialer(&self, key: Key) -> Option<PeerId> {
        self.dialers.get(key)?.peer.or_else(|| self.link_of_dialer(key)?.peer)
    }

    /// A number that changes while the peer of an endpoint takes something.
    fn delivered_by(&self, host: &dyn Host, key: Key) -> u64 {
        let link = self.link_of_dialer(key);
        let written = self.peer_of_dialer(key).map_or(0, |peer| host.progress_of(Some(peer)));
        written.wrapping_sub(link.map_or(0, |link| link.stream.unsent() as u64))
    }

    pub(super) fn resolve(&mut self, host: &dyn Host, key: Key) {
        let token = self.lines.token(key);
        let Some(dialer) = self.dialers.get_mut(key) else { return };
        dialer.announce(token);
        (dialer.state, dialer.begun) = (Dialing::Resolving, Instant::now());
        host.course(dialer.id, Course::Trying);
        let (transport, settings) = (Arc::clone(&dialer.transport), Arc::clone(&dialer.settings));
        let address = Arc::clone(&dialer.address);
        if let Some(addresses) = transport.resolve_now(&address) {
            self.resolved(host, key, Ok(addresses));
            return;
        }
        host.port().resolve(key, transport, address, settings);
    }

    pub(super) fn resolved(&mut self, host: &dyn Host, key: Key, addresses: io::Result<Vec<String>>) {
        let Some(dialer) = self.dialers.get_mut(key) else { return };
        let none = || io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
        match addresses.and_then(|found| if found.is_empty() { Err(none()) } else { Ok(found) }) {
            Ok(mut addresses) => {
                addresses.reverse();
                dialer.candidates = addresses;
                self.go_on_dialing(host, key);
            }
            Err(error) => {
                let cause = error.into();
                self.tell_failure(host, key, &cause, None);
                self.retry(host, key, cause);
            }
        }
    }

    /// An attempt failed: tells why, before the next one follows.
    fn tell_failure(&mut self, host: &dyn Host, key: Key, cause: &Cause, address: Option<Arc<str>>) {
        let Some(dialer) = self.dialers.get_mut(key) else { return };
        dialer.answered = false;
        if let Some(peer) = dialer.peer {
            host.attempt_failed(peer);
        }
        host.course(dialer.id, Course::Failed { cause, address: address.as_ref() });
        let (kind, endpoint) = (EventKind::Closed(cause.clone()), Arc::clone(&dialer.endpoint));
        host.event(Event { kind, endpoint, address, peer: dialer.peer });
    }

    /// Goes on with this round where it has addresses left, else begins another one.
    pub(super) fn go_on_dialing(&mut self, host: &dyn Host, key: Key) {
        let address = self.dialers.get_mut(key).and_then(|dialer| dialer.candidates.pop());
        match address {
            Some(address) => self.attempt(host, key, address),
            None => self.resolve(host, key),
        }
    }

    /// The attempt at an address failed, which has been told. The next address of the round follows in a step of its
    /// own, so that a name with very many takes neither the stack nor the time of one; without one the round has
    /// failed.
    pub(super) fn next_address(&mut self, host: &dyn Host, key: Key, cause: Cause) {
        match self.dialers.get(key) {
            Some(dialer) if !dialer.candidates.is_empty() => self.wake_dialer(key, Instant::now()),
            Some(_) | None => drop(self.retry(host, key, cause)),
        }
    }

    /// Tries an address.
    fn attempt(&mut self, host: &dyn Host, key: Key, address: String) {
        let now = Instant::now();
        let Some(dialer) = self.dialers.get_mut(key) else { return };
        let (endpoint, settings) = (Arc::clone(&dialer.endpoint), Arc::clone(&dialer.settings));
        let stream: Arc<dyn Stream> = match dialer.transport.connect(&address, &settings.link) {
            Ok(stream) => Arc::from(stream),
            Err(error) => {
                let cause = error.into();
                self.tell_failure(host, key, &cause, Some(address.into()));
                self.next_address(host, key, cause);
                return;
            }
        };
        let deadline = settings.connect_timeout.and_then(|timeout| now.checked_add(timeout));
        let mut link = Link::new(
            stream,
            State::Connecting { deadline },
            Origin::Dialer(key),
            dialer.id,
            Arc::clone(&endpoint),
            settings,
            dialer.peer,
            now,
        );
        link.address = address.into();
        link.closing = dialer.closing;
        let (prefix, registry) = (self.prefix, self.sources.registry());
        let mut failed = None;
        let link_key = self.links.insert_with(|key| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            failed = link.stream.register(registry, token(prefix, Ready::Link(key)), interest).err();
            link.registered_for_write();
            link
        });
        if let Some(error) = failed {
            let address = self.links.remove(link_key).map(|link| link.address);
            let cause = error.into();
            self.tell_failure(host, key, &cause, address);
            self.next_address(host, key, cause);
            return;
        }
        let Some(dialer) = self.dialers.get_mut(key) else { return };
        (dialer.state, dialer.begun) = (Dialing::Linked(link_key), now);
        self.retime(link_key);
        // A local connection may be up already; then no round is spent on waiting for it.
        self.check_connected(host, link_key);
    }

    pub(super) fn check_connected(&mut self, host: &dyn Host, key: Key) {
        let Some(link) = self.links.get_mut(key) else { return };
        match link.stream.connected() {
            Ok(false) => {
                let (endpoint, address) = (Arc::clone(&link.endpoint), Some(Arc::clone(&link.address)));
                host.event(Event { kind: EventKind::ConnectDelayed, endpoint, address, peer: link.peer });
            }
            Ok(true) => {
                let now = Instant::now();
                let origin = link.origin;
                link.state = State::Handshaking;
                link.opened = now;
                // The time allowed for the handshake runs from here.
                link.machine = Connection::new(Arc::clone(&link.settings.protocol), now);
                let (endpoint, address) = (Arc::clone(&link.endpoint), Some(Arc::clone(&link.address)));
                host.event(Event { kind: EventKind::Connected, endpoint, address, peer: link.peer });
                let wanted = link.want_write(self.sources.registry(), token(self.prefix, Ready::Link(key)), false);
                if let Origin::Dialer(dialer) = origin {
                    self.note_answer(dialer, now);
                }
                match wanted {
                    // It tells its peer soon that we are ready.
                    Ok(()) => match self.reserve(host, key) {
                        Ok(()) => self.converse(host, key, now),
                        Err(reason) => self.lose(host, key, Loss::Local(Cause::Refused(reason.into()))),
                    },
                    Err(error) => self.lose(host, key, Loss::Link(error.into())),
                }
            }
            Err(error) => self.lose(host, key, Loss::Link(error.into())),
        }
    }

    /// The round of attempts failed, or the connection was lost: waits for the next round. `false` if there is none,
    /// and the endpoint is given up.
    pub(super) fn retry(&mut self, host: &dyn Host, key: Key, cause: Cause) -> bool {
        let random = self.jitter.next();
        let Some(dialer) = self.dialers.get_mut(key) else { return true };
        let endpoint = Arc::clone(&dialer.endpoint);
        let refused = matches!(&cause, Cause::System(error) if error.kind() == io::ErrorKind::ConnectionRefused);
        let wait = match cause {
            _ if refused && dialer.settings.stop_on_refused => None,
            Cause::Local => dialer.replacement(),
            _ => dialer.backoff(random),
        };
        let (id, peer) = (dialer.id, dialer.peer);
        match wait {
            Some(wait) => {
                let at = Instant::now() + wait;
                dialer.state = Dialing::Waiting(at);
                dialer.candidates.clear();
                if self.settle_dialer(host, key) {
                    return true;
                }
                self.timers.push(Reverse((at, Timer::Dialer(key))));
                host.course(id, Course::Waiting);
                host.event(Event { kind: EventKind::ConnectRetried(wait), endpoint, address: None, peer });
                self.tell_line(host, key, &cause);
            }
            None => self.remove_dialer(host, key, true),
        }
        wait.is_some()
    }

    pub(super) fn remove_dialer(&mut self, host: &dyn Host, key: Key, unasked: bool) {
        if let Some(dialer) = self.dialers.remove(key) {
            self.endpoints.remove(&dialer.id);
            self.pass_turn(key);
            if let Some(peer) = dialer.peer {
                self.detach(host, peer, None, Departure::Gone);
            }
            if unasked {
                host.endpoint_ended(dialer.id);
            }
        }
    }
}

/// How long an endpoint that is connected again waits for its last use to get anything delivered.
const PATIENCE: Duration = Duration::from_secs(5);
