//! The end of an endpoint or of the socket: what has been accepted still goes out within the linger time, and each
//! connection stays until its peer's system has taken everything.

use super::{Loss, Reactor, Stint, Timer};
use crate::engine::contain::contain;
use crate::engine::dialer::Dialing;
use crate::engine::link::{Origin, Standstill, State};
use crate::engine::listener::Binding;
use crate::engine::shortage::Promise;
use crate::engine::{EndpointId, Host, Parts};
use crate::event::{Cause, Event, EventKind};
use crate::slab::Key;
use crate::stats::Unsent;
use std::cmp::Reverse;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec;

impl Reactor {
    /// Closes an endpoint, or all of them: what waits for their peers still goes out, as long as `linger` allows. Each
    /// connection and each dialer is looked at once, when this round has read what has come, or in a later turn if they
    /// are many. From then on only those are looked at that something happens to.
    pub(super) fn end(&mut self, host: &dyn Host, scope: Option<EndpointId>, linger: Linger) {
        let lingering = Lingering::new(linger, Instant::now());
        match scope.map(|id| self.endpoints.get(&id).copied()) {
            None => {
                for key in self.bindings.keys() {
                    self.stop_listening(host, key);
                }
                for (_, dialer) in self.dialers.iter_mut() {
                    (dialer.closing, dialer.lingering) = (true, None);
                }
                for (_, binding) in self.bindings.iter_mut() {
                    binding.lingering = None;
                }
                self.lingering = Some(lingering);
            }
            // It has ended by itself.
            Some(None) => return,
            Some(Some(Origin::Dialer(key))) => {
                let Some(dialer) = self.dialers.get_mut(key) else { return };
                (dialer.closing, dialer.lingering) = (true, self.lingering.is_none().then_some(lingering));
            }
            Some(Some(Origin::Listener(key))) => {
                self.stop_listening(host, key);
                let Some(binding) = self.bindings.get_mut(key) else { return };
                binding.lingering = self.lingering.is_none().then_some(lingering);
            }
        }
        self.ending.push_back(Ending { scope, stage: Stage::Begun });
    }

    /// Goes on with the ends that have begun, as far as the time of the turn allows.
    pub(super) fn go_on_ending(&mut self, host: &dyn Host, stint: &mut Stint) {
        while let Some(mut ending) = self.ending.pop_front() {
            if self.end_step(host, &mut ending) {
                self.ending.push_front(ending);
            }
            if self.ending.is_empty() || stint.is_over() {
                return;
            }
        }
    }

    /// One step of an end: one connection or one dialer. Returns true if there is more of it to do.
    fn end_step(&mut self, host: &dyn Host, Ending { scope, stage }: &mut Ending) -> bool {
        let now = Instant::now();
        match stage {
            Stage::Begun => {
                let Some(parts) = self.parts_of(*scope) else { return false };
                *stage = Stage::Settling(parts);
            }
            Stage::Settling(parts) => {
                if let Some(key) = parts.links.next() {
                    self.end_link(host, key, now);
                } else if let Some(key) = parts.dialers.next() {
                    self.settle_dialer(host, key);
                } else {
                    if let Some(Origin::Listener(key)) = scope.and_then(|id| self.endpoints.get(&id).copied()) {
                        self.forget_binding(key);
                    }
                    self.look_at_linger(host, *scope, now);
                    return false;
                }
            }
            Stage::Expired => {
                let Some(parts) = self.parts_of(*scope) else { return false };
                *stage = Stage::GivingUp(parts, GivenUp { unsent: Unsent::default(), endpoint: Arc::from("") });
            }
            Stage::GivingUp(parts, given_up) => {
                if let Some(key) = parts.links.next() {
                    self.give_up_link(host, key, given_up);
                } else if let Some(key) = parts.dialers.next() {
                    self.give_up_dialer(host, key, given_up);
                } else {
                    let unsent = given_up.unsent;
                    if unsent.messages > 0 {
                        let endpoint = if scope.is_some() { Arc::clone(&given_up.endpoint) } else { Arc::from("") };
                        host.event(Event { kind: EventKind::Unsent(unsent), endpoint, address: None, peer: None });
                    }
                    return false;
                }
            }
            Stage::MakingWay { links, promise } => {
                if links.next().is_some_and(|key| self.make_way_step(host, key)) {
                    promise.keep();
                }
                // The promise goes with the step that gives the last one back, as a thread that waits for it would else
                // wait for another turn.
                return links.len() > 0;
            }
            Stage::Leaving(unread) => {
                self.finished = unread.next().is_none();
                return !self.finished;
            }
        }
        true
    }

    /// What belongs to an endpoint, or to the socket; `None` if the endpoint has ended by itself. A connection that a
    /// dialer makes later is born closing.
    fn parts_of(&self, scope: Option<EndpointId>) -> Option<Members> {
        let origin = scope.map(|id| self.endpoints.get(&id).copied());
        let (links, dialers) = match origin {
            None => (self.links.keys(), self.dialers.keys()),
            Some(None) => return None,
            Some(Some(Origin::Listener(key))) => (self.links_of(key).collect(), Vec::new()),
            Some(Some(Origin::Dialer(key))) => (self.link_under(key).into_iter().collect(), vec![key]),
        };
        Some(Members { links: links.into_iter(), dialers: dialers.into_iter() })
    }

    /// The link that a dialer has.
    fn link_under(&self, dialer: Key) -> Option<Key> {
        match self.dialers.get(dialer)?.state {
            Dialing::Linked(link) => Some(link),
            Dialing::Resolving | Dialing::Waiting(_) | Dialing::InLine => None,
        }
    }

    fn stop_listening(&mut self, host: &dyn Host, key: Key) {
        let Some(binding) = self.bindings.get_mut(key) else { return };
        let Some(listener) = binding.listener.take() else { return };
        listener.close(Some(self.sources.registry()));
        let endpoint = Arc::clone(&binding.endpoint);
        host.event(Event { kind: EventKind::Closed(Cause::Local), endpoint, address: None, peer: None });
    }

    /// A listener that is closed goes with its last connection.
    pub(super) fn forget_binding(&mut self, key: Key) {
        let over = |binding: &&mut Binding| binding.listener.is_none() && binding.links.is_empty();
        if let Some(id) = self.bindings.get_mut(key).filter(over).map(|binding| binding.id) {
            self.bindings.remove(key);
            self.endpoints.remove(&id);
        }
    }

    pub(super) fn end_link(&mut self, host: &dyn Host, key: Key, now: Instant) {
        let Some(link) = self.links.get_mut(key) else { return };
        link.closing = true;
        self.settle_link(host, key, now);
        self.list(key);
    }

    /// Closes a connection of an endpoint that ends if all is written. Asked when the end begins, when the connection
    /// comes up and whenever its outbox has become empty.
    pub(super) fn settle_link(&mut self, host: &dyn Host, key: Key, now: Instant) {
        let unattended = self.is_unattended();
        let Some(link) = self.links.get_mut(key) else { return };
        if matches!(link.state, State::Up) {
            // Nobody waits for what subscriptions bring, but for the messages behind them.
            self.unflushed.extend(link.peer.filter(|peer| host.end_steps(*peer)));
        }
        let flushed = link.peer.is_none_or(|peer| host.is_flushed(peer));
        let dialed = matches!(link.origin, Origin::Dialer(_));
        match link.state {
            State::Draining => {}
            State::Up if flushed => {
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
            State::Up => {
                if let (None, Some(peer), true) = (&link.standstill, link.peer, unattended) {
                    link.standstill = Some(Standstill::new(now, (host.pending(peer), link.stream.unsent())));
                    self.retime(key);
                }
            }
            State::Connecting { .. } | State::Handshaking | State::Settling(_) if dialed && !flushed => {}
            State::Connecting { .. } | State::Handshaking | State::Settling(_) => {
                if let Some(peer) = link.peer {
                    host.abandon(peer);
                }
                self.lose(host, key, Loss::Local(Cause::Local));
            }
        }
    }

    /// Ends a dialer that is being closed and has nothing left to deliver; whether it is gone.
    pub(super) fn settle_dialer(&mut self, host: &dyn Host, key: Key) -> bool {
        let Some(dialer) = self.dialers.get(key) else { return true };
        let linked = matches!(dialer.state, Dialing::Linked(_));
        if !dialer.closing || linked || !dialer.peer.is_none_or(|peer| host.is_flushed(peer)) {
            return false;
        }
        self.remove_dialer(host, key, false);
        true
    }

    fn links_of(&self, binding: Key) -> impl Iterator<Item = Key> {
        self.bindings.get(binding).into_iter().flat_map(|binding| binding.links.iter().copied())
    }

    /// A look at what has been delivered of an endpoint that ends, or of the socket: gives up if it has lingered long
    /// enough, else says when to look again.
    pub(super) fn look_at_linger(&mut self, host: &dyn Host, scope: Option<EndpointId>, now: Instant) {
        let progress = match scope.map(|id| self.endpoints.get(&id).copied()) {
            None => host.progress_of(None),
            Some(Some(Origin::Dialer(key))) => self.peer_of_dialer(key).map_or(0, |peer| host.progress_of(Some(peer))),
            Some(Some(Origin::Listener(key))) => {
                let peers = self.links_of(key).filter_map(|link| self.links.get(link)?.peer);
                peers.fold(0u64, |sum, peer| sum.wrapping_add(host.progress_of(Some(peer))))
            }
            Some(None) => return,
        };
        let moved = scope.and_then(|id| self.moved_in_line(host, id, now));
        let Some(lingering) = self.lingering_of(scope) else { return };
        lingering.since = moved.map_or(lingering.since, |moved| moved.max(lingering.since));
        if lingering.is_over(now, progress) {
            self.ending.push_back(Ending { scope, stage: Stage::Expired });
        } else if let Some(due) = lingering.due {
            self.timers.push(Reverse((due, Timer::Linger(scope))));
            self.forget_stale_timers();
        }
    }

    /// The clock of an endpoint that ends, or of the socket.
    pub(super) fn lingering_of(&mut self, scope: Option<EndpointId>) -> Option<&mut Lingering> {
        match scope {
            None => self.lingering.as_mut(),
            Some(id) => match *self.endpoints.get(&id)? {
                Origin::Dialer(key) => self.dialers.get_mut(key)?.lingering.as_mut(),
                Origin::Listener(key) => self.bindings.get_mut(key)?.lingering.as_mut(),
            },
        }
    }

    /// An endpoint, or the socket, has lingered long enough: what is left of a connection is dropped, counted and told.
    fn give_up_link(&mut self, host: &dyn Host, key: Key, given_up: &mut GivenUp) {
        let Some(link) = self.links.get(key) else { return };
        given_up.endpoint = Arc::clone(&link.endpoint);
        if let Some(peer) = link.peer.filter(|_| !matches!(link.state, State::Draining)) {
            given_up.unsent.add(host.abandon(peer));
        }
        self.lose(host, key, Loss::Local(Cause::Local));
    }

    fn give_up_dialer(&mut self, host: &dyn Host, key: Key, given_up: &mut GivenUp) {
        // It may have begun another attempt since the end did.
        if let Some(link) = self.link_under(key) {
            self.give_up_link(host, link, given_up);
        }
        let Some(dialer) = self.dialers.get(key) else { return };
        given_up.endpoint = Arc::clone(&dialer.endpoint);
        if let Some(peer) = dialer.peer {
            given_up.unsent.add(host.abandon(peer));
        }
        self.remove_dialer(host, key, false);
    }

    /// Whether the socket is closed and nothing is left of it.
    pub(super) fn is_over(&self) -> bool {
        let is_empty = self.links.len() == 0 && self.dialers.len() == 0;
        self.lingering.is_some() && is_empty && self.departing.is_empty() && self.ending.is_empty()
    }

    /// The socket has nobody left to deliver to: it is done once all that is unread is let go.
    pub(super) fn leave_unread(&mut self, host: &dyn Host, stint: &mut Stint) {
        self.ending.push_back(Ending { scope: None, stage: Stage::Leaving(host.leave_unread()) });
        self.go_on_ending(host, stint);
    }

    /// Attempts of endpoints that end make way while descriptors are short: their messages stay, and they try again.
    pub(super) fn make_way(&mut self, promise: Promise) {
        let stage = Stage::MakingWay { links: self.links.keys().into_iter(), promise };
        self.ending.push_back(Ending { scope: None, stage });
    }

    /// Returns true if it was an attempt, and has made way.
    fn make_way_step(&mut self, host: &dyn Host, key: Key) -> bool {
        let Some(link) = self.links.get(key) else { return false };
        let attempt = matches!(link.state, State::Connecting { .. } | State::Handshaking);
        let makes_way = attempt && link.closing && matches!(link.origin, Origin::Dialer(_));
        if makes_way {
            let error = io::Error::other("the attempt made way, as descriptors are short");
            self.lose(host, key, Loss::Link(error.into()));
        }
        makes_way
    }

    /// Our side is shut down: the connection goes once the peer's system has taken everything, or the peer has gone.
    /// What the peer sends stays with it meanwhile, unless it takes nothing either: it may be waiting for us.
    pub(super) fn drain(&mut self, host: &dyn Host, key: Key) {
        let Some(link) = self.links.get_mut(key) else { return };
        let over = link.ended || link.stream.unsent() == 0;
        if over || self.discard(host, key) {
            self.lose(host, key, Loss::Local(Cause::Local));
        }
    }

    /// Whether nobody receives any more who could let a paused link go on.
    pub(super) fn is_unattended(&self) -> bool {
        self.lingering.is_some()
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

/// The end of an endpoint, or of the socket, or of the attempts of those that end, as far as it has come. It takes a
/// step for each connection, and so many turns where there are many.
pub(super) struct Ending {
    /// `None` is the socket's.
    scope: Option<EndpointId>,
    stage: Stage,
}

enum Stage {
    /// Nothing has been looked at.
    Begun,
    /// These are still to be looked at: they close as soon as all is delivered.
    Settling(Members),
    /// It has lingered long enough.
    Expired,
    /// These are still to be given up.
    GivingUp(Members, GivenUp),
    /// Of these connections the attempts are still to make way; the promise is kept with the last one.
    MakingWay { links: vec::IntoIter<Key>, promise: Promise },
    /// The socket has nobody left to deliver to, and still lets go what nobody will receive.
    Leaving(Parts),
}

/// Connections and dialers. Those that are gone when their step comes are left out.
struct Members {
    links: vec::IntoIter<Key>,
    dialers: vec::IntoIter<Key>,
}

/// What was dropped because an endpoint, or the socket, has lingered long enough.
struct GivenUp {
    unsent: Unsent,
    endpoint: Arc<str>,
}

/// How long an endpoint or socket that is closed goes on delivering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linger {
    /// Until a moment, whatever moves.
    Until(Instant),
    /// As long as something moves within each such time.
    Patience(Duration),
    /// Until everything is delivered.
    Forever,
}

/// The clock of an endpoint that ends, or of the socket.
#[derive(Debug)]
pub(crate) struct Lingering {
    linger: Linger,
    /// A number that changes while something moves, and since when it has not.
    progress: Option<u64>,
    pub(super) since: Instant,
    /// When it is looked at again.
    pub(super) due: Option<Instant>,
}

impl Lingering {
    /// A patient end is looked at so often while it waits in vain.
    const LOOKS: u32 = 8;

    pub(crate) fn new(linger: Linger, now: Instant) -> Lingering {
        Lingering { linger, progress: None, since: now, due: None }
    }

    /// The process was stopped: what it could not write meanwhile still gets its time.
    pub(super) fn grant(&mut self, until: Instant) {
        if let Linger::Until(end) = &mut self.linger {
            *end = (*end).max(until);
        }
    }

    /// Takes note of what moves.
    pub(super) fn note(&mut self, now: Instant, progress: u64) {
        if self.progress.replace(progress) != Some(progress) {
            self.since = now;
        }
    }

    /// A look: whether it has lingered long enough.
    pub(super) fn is_over(&mut self, now: Instant, progress: u64) -> bool {
        self.note(now, progress);
        let patience = match self.linger {
            Linger::Forever => return false,
            Linger::Until(end) => {
                self.due = Some(end);
                return end <= now;
            }
            Linger::Patience(patience) => patience,
        };
        let step = (patience / Lingering::LOOKS).max(Duration::from_millis(1));
        // A process that was stopped could not have written anything: only the time in which it ran counts.
        let stopped = self.due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due).saturating_sub(step));
        self.since = (self.since + stopped).min(now);
        let end = self.since.checked_add(patience);
        self.due = end.map(|end| end.min(now + step));
        end.is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(8);

    /// When it gives up, if the number is `progress` of the time that has passed.
    fn lasts(progress: impl Fn(Duration) -> u64) -> Duration {
        let begin = Instant::now();
        let mut lingering = Lingering::new(Linger::Patience(PATIENCE), begin);
        let mut now = begin;
        while !lingering.is_over(now, progress(now - begin)) {
            now = lingering.due.expect("it looks again");
            assert!(now - begin < PATIENCE * 100, "it ends");
        }
        now - begin
    }

    #[test]
    fn who_waits_in_vain_is_given_up_when_the_patience_is_over_and_not_before() {
        assert_eq!(lasts(|_| 7), PATIENCE);
    }

    #[test]
    fn each_step_forward_begins_the_patience_anew() {
        // The last message leaves after twenty seconds.
        let took = lasts(|at| at.as_secs().min(20));
        assert!((PATIENCE + Duration::from_secs(20)..=PATIENCE + Duration::from_secs(21)).contains(&took), "{took:?}");
    }

    #[test]
    fn a_total_time_ends_whatever_moves_and_for_ever_never() {
        let begin = Instant::now();
        let mut total = Lingering::new(Linger::Until(begin + PATIENCE), begin);
        assert!(!total.is_over(begin, 1) && total.due == Some(begin + PATIENCE));
        assert!(total.is_over(begin + PATIENCE, 2));
        let mut forever = Lingering::new(Linger::Forever, begin);
        assert!(!forever.is_over(begin + PATIENCE * 1000, 1) && forever.due.is_none());
        let mut none = Lingering::new(Linger::Patience(Duration::ZERO), begin);
        assert!(none.is_over(begin, 1));
    }

    #[test]
    fn time_in_which_the_process_was_stopped_does_not_count() {
        let begin = Instant::now();
        let mut lingering = Lingering::new(Linger::Patience(PATIENCE), begin);
        assert!(!lingering.is_over(begin, 1));
        let woken = begin + PATIENCE * 10;
        assert!(!lingering.is_over(woken, 1), "it has had no time yet");
        assert!(lingering.due.is_some_and(|due| due > woken && due <= woken + PATIENCE));
    }
}
