//! The way of a connecting endpoint: its name is looked up, the addresses are tried, and after a failure or a loss it waits for the
//! next round.

use super::closing::{Linger, Lingering};
use super::{Loss, Reactor, Ready, Timer, token};
use crate::engine::dialer::{Before, Dialer, Dialing, Turn};
use crate::engine::link::{Link, Origin, State};
use crate::engine::{Course, Departure, EndpointId, Host};
use crate::event::{Cause, Event, EventKind};
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
    /// The dialer behind which a new one with the same token has to wait, if the endpoint it is used after has one still. If that went
    /// before its own turn came, the one it waited for may be there yet.
    pub(super) fn predecessor(&self, key: Key, before: EndpointId) -> Option<Key> {
        if let Some(Origin::Dialer(first)) = self.endpoints.get(&before) {
            return Some(*first);
        }
        let token = self.dialers.get(key)?.token()?;
        let is_last = |dialer: &Dialer| dialer.turn.next.is_none() && dialer.token() == Some(token);
        self.dialers.iter().find(|(other, dialer)| *other != key && is_last(dialer)).map(|(other, _)| other)
    }

    /// An endpoint is connected again while a connection of its last use may still deliver: it waits for that.
    pub(super) fn queue_up(&mut self, host: &dyn Host, key: Key, before: Key) {
        let token = match self.dialers.get_mut(before) {
            Some(first) => {
                first.turn.next = Some(key);
                first.token()
            }
            None => {
                self.resolve(host, key);
                return;
            }
        };
        if let Some(token) = token {
            // That one may have got another since it was closed.
            self.give_token(key, token);
        }
        if let Some(dialer) = self.dialers.get_mut(key) {
            dialer.turn.before = Some(Before { key: before, patience: None });
            host.course(dialer.id, Course::Waiting);
        }
        if self.has_turn(host, key, Instant::now()) {
            self.resolve(host, key);
        } else {
            self.hurry(host, before);
        }
    }

    /// The application connects again and so wants an attempt now. It is the turn of the first in the line, which does not wait for its next round, nor
    /// for an answer to an old attempt.
    fn hurry(&mut self, host: &dyn Host, key: Key) {
        let first = self.head_of(key);
        let is_old = |link: &Link| matches!(link.state, State::Connecting { .. }) && link.opened.elapsed() >= LASTS;
        if let Some(Dialing::Linked(link)) = self.dialers.get(first).map(|dialer| dialer.state) {
            if self.links.get(link).is_some_and(is_old) {
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
            self.resolve(host, first);
        }
    }

    /// The first in the line in which a dialer waits, which is itself if it does not.
    fn head_of(&self, key: Key) -> Key {
        let mut first = key;
        while let Some(before) = self.dialers.get(first).and_then(|dialer| dialer.turn.before.as_ref()) {
            first = before.key;
        }
        first
    }

    /// The dialer for which an endpoint waits in the end.
    pub(super) fn first_in_line(&self, id: EndpointId) -> Option<&Dialer> {
        let Origin::Dialer(key) = *self.endpoints.get(&id)? else { return None };
        self.dialers.get(self.head_of(key))
    }

    /// A look at the endpoint that one waits for, if any: whether it may begin. It does not as long as that one waits itself, as nobody is
    /// at its address, and as it gets something delivered to one of our ends.
    pub(super) fn has_turn(&mut self, host: &dyn Host, key: Key, now: Instant) -> bool {
        let Some(dialer) = self.dialers.get(key) else { return false };
        let Some(before) = dialer.turn.before.as_ref().map(|before| before.key) else { return true };
        let is_foreign = self.link_of_dialer(before).is_some_and(|link| link.is_up() && link.token.is_none());
        let may_begin = match self.dialers.get(before) {
            Some(first) if !is_foreign => {
                // One that is reached in another way may find somebody where the first never will.
                let delivers = first.answered || first.settings.link != dialer.settings.link;
                let runs = delivers && first.turn.before.is_none();
                let delivered = runs.then(|| self.delivered_by(host, before));
                self.is_patience_over(key, now, delivered)
            }
            // A peer that does not know us by our token need not see one end before the other begins.
            Some(_) | None => true,
        };
        if may_begin {
            self.leave_line(host, key);
        }
        may_begin
    }

    /// Whether an endpoint that waits has waited long enough while the number did not change that says what the one before delivers;
    /// `None` if that cannot yet. If not, it is looked at again.
    fn is_patience_over(&mut self, key: Key, now: Instant, delivered: Option<u64>) -> bool {
        let Some(dialer) = self.dialers.get_mut(key) else { return false };
        let Some(before) = &mut dialer.turn.before else { return true };
        let Some(delivered) = delivered else {
            (before.patience, dialer.state) = (None, Dialing::InLine);
            return false;
        };
        let patience = before.patience.get_or_insert_with(|| Lingering::new(Linger::Patience(PATIENCE), now));
        let is_over = patience.is_over(now, delivered);
        match patience.due.filter(|_| !is_over) {
            Some(due) => self.look_at_turn(key, due),
            None => return true,
        }
        false
    }

    /// An endpoint begins beside the one it waited for: so both are there at a time, and have a token each.
    fn leave_line(&mut self, host: &dyn Host, key: Key) {
        let Some(dialer) = self.dialers.get_mut(key) else { return };
        let before = dialer.turn.before.take();
        if let Some(token) = dialer.token() {
            self.give_token(key, host.another_token(token));
        }
        if let Some(first) = before.and_then(|before| self.dialers.get_mut(before.key)) {
            first.turn.next = None;
        }
    }

    /// An attempt failed for all that wait for their turn. The last of them is the one that the application has.
    fn tell_line(&self, host: &dyn Host, key: Key, cause: &Cause) {
        let mut last = key;
        while let Some(next) = self.dialers.get(last).and_then(|dialer| dialer.turn.next) {
            last = next;
        }
        if let Some(dialer) = self.dialers.get(last).filter(|_| last != key) {
            host.course(dialer.id, Course::Failed { cause, address: None });
        }
    }

    /// Has an endpoint that waits for its turn look at that moment whether it has come, by a timer, so that a row of them takes no stack.
    fn look_at_turn(&mut self, key: Key, at: Instant) {
        let Some(dialer) = self.dialers.get_mut(key) else { return };
        dialer.state = Dialing::Waiting(at);
        self.timers.push(Reverse((at, Timer::Dialer(key))));
        self.forget_stale_timers();
    }

    /// A peer answered at the address of an endpoint: from now on the patience runs of the endpoint that waits for it.
    fn note_answer(&mut self, key: Key, now: Instant) {
        let Some(dialer) = self.dialers.get_mut(key) else { return };
        dialer.answered = true;
        let next = dialer.turn.next;
        let waits = |next: &Key| self.dialers.get(*next).is_some_and(|next| next.state == Dialing::InLine);
        if let Some(next) = next.filter(waits) {
            self.look_at_turn(next, now);
        }
    }

    /// The peer of an endpoint is none of ours. It does not know us by our token, and need not see one end before the other begins.
    pub(super) fn let_next_begin(&mut self, host: &dyn Host, key: Key, now: Instant) {
        if let Some(next) = self.dialers.get(key).and_then(|dialer| dialer.turn.next) {
            self.leave_line(host, next);
            self.look_at_turn(next, now);
        }
    }

    /// An endpoint, and all that wait for it, announce that token from now on.
    fn give_token(&mut self, key: Key, token: Token) {
        let mut next = Some(key);
        while let Some(dialer) = next.and_then(|key| self.dialers.get_mut(key)) {
            let settings = Arc::make_mut(&mut dialer.settings);
            if let Some(announcement) = &mut Arc::make_mut(&mut settings.protocol).announcement {
                announcement.token = token;
            }
            next = dialer.turn.next;
        }
    }

    /// An endpoint is gone: the one that waited for it is next, or waits as it did.
    fn pass_turn(&mut self, gone: Turn) {
        let before = gone.before.filter(|before| self.dialers.get(before.key).is_some());
        if let Some(first) = before.as_ref().and_then(|before| self.dialers.get_mut(before.key)) {
            first.turn.next = gone.next;
        }
        let Some(key) = gone.next else { return };
        let Some(next) = self.dialers.get_mut(key) else { return };
        next.turn.before = before;
        self.look_at_turn(key, Instant::now());
    }

    fn link_of_dialer(&self, key: Key) -> Option<&Link> {
        match self.dialers.get(key)?.state {
            Dialing::Linked(link) => self.links.get(link),
            Dialing::Resolving | Dialing::Waiting(_) | Dialing::InLine => None,
        }
    }

    /// A number that changes while the peer of an endpoint takes something.
    fn delivered_by(&self, host: &dyn Host, key: Key) -> u64 {
        let link = self.link_of_dialer(key);
        let peer = self.dialers.get(key).and_then(|dialer| dialer.peer).or_else(|| link?.peer);
        let written = peer.map_or(0, |peer| host.progress_of(Some(peer)));
        written.wrapping_sub(link.map_or(0, |link| link.stream.unsent() as u64))
    }

    pub(super) fn resolve(&mut self, host: &dyn Host, key: Key) {
        let Some(dialer) = self.dialers.get_mut(key) else { return };
        dialer.state = Dialing::Resolving;
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
        match addresses {
            Ok(mut addresses) => {
                addresses.reverse();
                dialer.candidates = addresses;
                self.attempt(host, key, None);
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

    /// Tries the next address of this round; without one, the round has failed.
    pub(super) fn attempt(&mut self, host: &dyn Host, key: Key, mut last: Option<Cause>) {
        let now = Instant::now();
        loop {
            let Some(dialer) = self.dialers.get_mut(key) else { return };
            let Some(address) = dialer.candidates.pop() else {
                let cause = last.unwrap_or_else(|| {
                    let cause = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address").into();
                    self.tell_failure(host, key, &cause, None);
                    cause
                });
                self.retry(host, key, cause);
                return;
            };
            let (endpoint, settings) = (Arc::clone(&dialer.endpoint), Arc::clone(&dialer.settings));
            let stream: Arc<dyn Stream> = match dialer.transport.connect(&address, &settings.link) {
                Ok(stream) => Arc::from(stream),
                Err(error) => {
                    let cause = error.into();
                    self.tell_failure(host, key, &cause, Some(address.into()));
                    last = Some(cause);
                    continue;
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
                last = Some(cause);
                continue;
            }
            let Some(dialer) = self.dialers.get_mut(key) else { return };
            dialer.state = Dialing::Linked(link_key);
            self.retime(link_key);
            // A local connection may be up already; then no round is spent on waiting for it.
            self.check_connected(host, link_key);
            return;
        }
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
                    Ok(()) => self.converse(host, key, now),
                    Err(error) => self.lose(host, key, Loss::Link(error.into())),
                }
            }
            Err(error) => self.lose(host, key, Loss::Link(error.into())),
        }
    }

    /// The round of attempts failed, or the connection was lost: waits for the next round. `false` if there is none, and the endpoint is
    /// given up.
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
            self.pass_turn(dialer.turn);
            if let Some(peer) = dialer.peer {
                self.detach(host, peer, Departure::Gone);
            }
            if unasked {
                host.endpoint_ended(dialer.id);
            }
        }
    }
}

/// How long an endpoint that is connected again waits for its last use to get anything delivered.
const PATIENCE: Duration = Duration::from_secs(5);
