//! A peer comes back while its old connection is still here, with messages that nobody has read yet.
//!
//! Its token tells that it is the same. The new link waits, without our READY and so without a message, until the old
//! one is read to its end. If that does not come, because only the way in between was lost, the old link is read until
//! it has no more, and asked whether its peer is still there. Without an answer it is closed. With one, or where more
//! comes past its mark than systems hold of a lost connection, they are two peers of one token, as after a virtual
//! machine was cloned, and both stay. An old link that is not read any more, because its endpoint was closed, lets the
//! new one in at once: what has come over it is all that comes.

use super::{FULL, Loss, Reactor, SPARE};
use crate::engine::link::{LastWords, Link, Origin, State};
use crate::engine::listener::Binding;
use crate::engine::{Departure, Host, OUSTED, PAIR_TAKEN};
use crate::event::Cause;
use crate::protocol::PeerDescription;
use crate::slab::Key;
use std::time::{Duration, Instant};

impl Reactor {
    /// The peer of an accepted link is ready. Returns true if it has to wait, because another link of the same peer is
    /// still here.
    pub(super) fn meets_itself(&mut self, host: &dyn Host, key: Key, peer: &PeerDescription) -> bool {
        let Some(announced) = peer.announced else { return false };
        let Some(old) = self.by_token.get(&announced.token).copied() else { return false };
        if self.leave_if_drained(host, old) {
            if let Some(outdated) = self.links.get_mut(old).and_then(|link| link.successor.take()) {
                self.lose(host, outdated, Loss::Local(RETURNED));
            }
            return false;
        }
        let Some(link) = self.links.get_mut(old).filter(|link| matches!(link.state, State::Up) && !link.deaf) else {
            return false;
        };
        // Of several that wait the newest is meant.
        let outdated = link.successor.replace(key);
        if link.last_words == LastWords::Paced && !host.account().is_stopped() {
            link.last_words = LastWords::Hurried;
        }
        link.readable = true;
        if let Some(link) = self.links.get_mut(key) {
            link.predecessor = Some(old);
        }
        if let Some(outdated) = outdated {
            self.lose(host, outdated, Loss::Local(RETURNED));
        }
        self.list(old);
        true
    }

    /// A link whose endpoint was closed has written all there was, and is not read any more: its peer leaves the
    /// socket, so that what came over the link is read before what comes over the next one. The link itself stays until
    /// the peer's system has taken everything. The newcomer may be a clone of that peer, which is still to get it.
    /// Returns true if it is such a link.
    fn leave_if_drained(&mut self, host: &dyn Host, key: Key) -> bool {
        let Some(link) = self.links.get_mut(key).filter(|link| matches!(link.state, State::Draining)) else {
            return false;
        };
        if std::mem::take(&mut link.admitted) {
            // Its place is free for the newcomer.
            self.admitted -= 1;
            if let Some(peer) = link.peer {
                self.detach(host, peer, None, Departure::Drains);
            }
        }
        true
    }

    /// A link was served: if another of its peer waits, and nothing more is to be read here, says what becomes of it.
    pub(super) fn settle_return(&mut self, host: &dyn Host, key: Key, read: usize) {
        let Some(link) = self.links.get_mut(key) else { return };
        let is_endless = link.is_endless(read);
        if link.successor.is_none() {
            return;
        }
        // Else it would be read past its mark for as long as its peer likes.
        if is_endless || self.leave_if_drained(host, key) {
            self.let_successor_in(host, key);
            return;
        }
        let Some(link) = self.links.get_mut(key) else { return };
        if link.last_words == LastWords::Hurried && host.account().is_stopped() {
            link.last_words = LastWords::Paced;
        }
        if link.readable || link.is_kept() {
            return;
        }
        let (now, pongs) = (Instant::now(), link.machine.pongs());
        match link.last_words {
            LastWords::Paced | LastWords::Hurried => {
                link.last_words = LastWords::Asked(now + ANSWER, pongs);
                link.machine.ask();
                self.converse(host, key, now);
            }
            LastWords::Asked(_, before) if before != pongs => self.let_successor_in(host, key),
            LastWords::Asked(until, _) if until <= now => self.lose(host, key, Loss::Local(RETURNED)),
            LastWords::Asked(..) => {}
        }
    }

    /// A link is gone: the one that waited for it comes next. The socket reads what this one has left first.
    pub(super) fn pass_on(&mut self, host: &dyn Host, key: Key, gone: &Link) {
        if let Some(waited) = gone.predecessor.and_then(|old| self.links.get_mut(old)) {
            if waited.successor == Some(key) {
                waited.successor = None;
                waited.last_words = LastWords::Paced;
            }
        }
        if let Some(next) = gone.successor {
            self.let_in(host, next);
        }
    }

    /// A link stays, and the one that waited for it need not wait any longer.
    fn let_successor_in(&mut self, host: &dyn Host, key: Key) {
        let Some(link) = self.links.get_mut(key) else { return };
        link.last_words = LastWords::Paced;
        if let Some(other) = link.successor.take() {
            self.let_in(host, other);
        }
    }

    /// A link need not wait any longer: finds its peer a place.
    fn let_in(&mut self, host: &dyn Host, key: Key) {
        let Some(link) = self.links.get_mut(key) else { return };
        link.predecessor = None;
        let State::Settling(description) = &link.state else { return };
        let description = description.clone();
        match self.admit(host, key, &description) {
            Ok(()) => {
                self.converse(host, key, Instant::now());
                self.list(key);
            }
            Err(loss) => self.lose(host, key, loss),
        }
    }

    /// Finds the peer of an accepted link a place, and says READY to it. It is refused without a word: after an ERROR
    /// it would not come back, and the place may be free soon. Only our own ends know an ERROR that passes. A peer that
    /// was told before that we are ready has its place, and is not refused: what it has sent since would be lost.
    pub(super) fn admit(&mut self, host: &dyn Host, key: Key, peer: &PeerDescription) -> Result<(), Loss> {
        if self.has_ended(key) {
            return Err(Loss::Local(Cause::Local));
        }
        let Some(link) = self.links.get(key) else { return Ok(()) };
        if link.admitted {
            return Ok(());
        }
        let outcome = host.admits(peer).and_then(|()| self.take_place(host, key, Some(peer)));
        let Some(link) = self.links.get_mut(key) else { return Ok(()) };
        if let Err(reason) = outcome {
            if peer.announced.is_some() {
                link.machine.refuse_for_now(reason);
                link.collect_control();
            }
            return Err(Loss::Local(Cause::Refused(reason.into())));
        }
        Ok(())
    }

    /// Takes a place for the peer of an accepted link, which is told then that we are ready. Where there is none, that
    /// of a peer may be taken that was told so before and has not said who it is.
    pub(super) fn take_place(
        &mut self,
        host: &dyn Host,
        key: Key,
        newcomer: Option<&PeerDescription>,
    ) -> Result<(), &'static str> {
        let Some(most) = self.links.get(key).map(|link| link.settings.max_connections) else { return Ok(()) };
        self.make_place(host, newcomer, most)?;
        self.reserve(host, key)?;
        self.note_place(key);
        Ok(())
    }

    /// Keeps the socket's only seat, if it has only one, for the peer of a link that is about to be told that we are
    /// ready. The peer of an endpoint that waits for no connection has that seat already. A peer that has had it for too
    /// long, and has sent nothing that has come, loses its connection with it.
    pub(super) fn reserve(&mut self, host: &dyn Host, key: Key) -> Result<(), &'static str> {
        let Some(link) = self.links.get_mut(key).filter(|link| link.peer.is_none() && link.seat.is_none()) else {
            return Ok(());
        };
        let Some(reserved) = host.reserve()? else { return Ok(()) };
        link.seat = Some(reserved.ticket);
        let Some(before) = reserved.taken_from else { return Ok(()) };
        let Some((late, link)) = self.links.iter().find(|(_, link)| link.seat == Some(before)) else { return Ok(()) };
        if !link.readable && matches!(link.state, State::Handshaking) {
            self.lose(host, late, Loss::Local(UNREADY));
            return Ok(());
        }
        // It has said something after all, which is read in its turn: it finds the seat free.
        if let Some(link) = self.links.get_mut(key) {
            link.seat = None;
        }
        host.unreserve(reserved.ticket);
        Err(PAIR_TAKEN)
    }

    /// An accepted link has its place: its peer is told that we are ready.
    fn note_place(&mut self, key: Key) {
        if let Some(link) = self.links.get_mut(key) {
            link.machine.admit();
            link.admitted = true;
            self.admitted += 1;
        }
    }

    /// The peer of an accepted link seems to wait for our READY, which it gets if there is a place: this is taken at
    /// once, as the peer sends from then on. Otherwise it has to say first who it is, within its time.
    pub(super) fn admit_unready(&mut self, host: &dyn Host, key: Key, now: Instant) {
        if self.has_ended(key) {
            return;
        }
        let Some(link) = self.links.get_mut(key) else { return };
        link.spare = now.checked_add(SPARE);
        if self.admitted < link.settings.max_connections && self.reserve(host, key).is_ok() {
            self.note_place(key);
        }
    }

    /// Closes a link that has a place because its peer waited for our READY, and whose peer has not become ready in the
    /// time for that: else peers could keep places by silence. Such a peer was told that we are ready, and has sent
    /// nothing that has come: messages follow its own READY. Returns true if there was one.
    pub(super) fn oust_unready(&mut self, host: &dyn Host) -> bool {
        let is_late = |link: &Link| {
            link.admitted && link.spare.is_none() && !link.readable && matches!(link.state, State::Handshaking)
        };
        let half_open = |binding: &Binding| {
            binding.half_open.keys().iter().copied().find(|key| self.links.get(*key).is_some_and(is_late))
        };
        let late = self.bindings.iter().find_map(|(_, binding)| half_open(binding));
        if let Some(late) = late {
            self.lose(host, late, Loss::Local(UNREADY));
        }
        late.is_some()
    }

    /// Sees to a place among at most `most` connections. Where there is none, a newcomer that takes over the routing id
    /// of an accepted peer takes the place of that as well.
    fn make_place(
        &mut self,
        host: &dyn Host,
        newcomer: Option<&PeerDescription>,
        most: usize,
    ) -> Result<(), &'static str> {
        if self.admitted < most {
            return Ok(());
        }
        let old = newcomer.and_then(|newcomer| host.ousted_by(newcomer));
        let old = old.filter(|_| self.admitted == most).and_then(|old| self.link_of(old));
        let old = old.filter(|old| self.links.get(*old).is_some_and(|link| link.admitted));
        if let Some(old) = old {
            // What it sent is read later, perhaps when the newcomer has its id: an answer to that must not go there.
            if let Some(peer) = self.links.get(old).and_then(|link| link.peer) {
                host.rename(peer);
            }
            self.lose(host, old, Loss::Local(OUSTED));
        }
        // Another of the peer that went may have waited for its place.
        if self.admitted < most || self.oust_unready(host) { Ok(()) } else { Err(FULL) }
    }

    /// Whether the endpoint of a link is closed, or the socket. An end looks at one link after the other, so that its
    /// step for this one may be still to come. What a peer sent that is told meanwhile that we are ready would reach
    /// nobody.
    pub(super) fn has_ended(&self, key: Key) -> bool {
        let is_closed = |link: &Link| match link.origin {
            Origin::Dialer(dialer) => self.dialers.get(dialer).is_none_or(|dialer| dialer.closing),
            Origin::Listener(binding) => self.bindings.get(binding).is_none_or(|binding| binding.listener.is_none()),
        };
        self.is_unattended() || self.links.get(key).is_some_and(is_closed)
    }

    /// A link is gone: its peer is not to be found by it any more.
    pub(super) fn forget_token(&mut self, key: Key, link: &Link) {
        if let Some(token) = link.token.filter(|token| self.by_token.get(token) == Some(&key)) {
            self.by_token.remove(&token);
        }
    }
}

/// Why an old link goes, or one that waited for it.
const RETURNED: Cause = Cause::Replaced("the same peer has connected again");
const UNREADY: Cause = Cause::Replaced("the peer did not become ready, and another one needs its place");
/// How long a peer may take to answer over its old link.
const ANSWER: Duration = Duration::from_secs(1);
