//! Whole exchanges of a REQ, with a time limit and retries (the lazy-pirate pattern), and an XSUB's send.

use super::core::{Core, Wait};
use super::sending::{DELIMITER, NUMBER_AND_DELIMITER, Payload, Peer, Recipient, Routing, Wire};
use crate::engine::port::Command;
use crate::engine::waiters::Interest;
use crate::error::{Missing, RecvError, SendError, SendFailure};
use crate::event::Cause;
use crate::kind::SocketKind;
use crate::message::Message;
use crate::message::size::Size;
use crate::patterns::reqrep::UNANSWERED;
use crate::peer::PeerId;
use crate::queue::outbox::Lost;
use crate::queue::outbox::Settled;
use std::time::{Duration, Instant};

/// Why a request brought no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The request could not be sent, not once; it is handed back.
    #[error("the request was not sent: {}", .0.why())]
    Send(SendError),
    /// No reply came.
    #[error("no reply: {0}")]
    Receive(RecvError),
    /// The request was sent, no reply came in time, and no peer is connected any more: how many there are and what
    /// keeps them away.
    #[error("no reply in time: {0}")]
    ServerGone(Box<str>),
    /// A reply came that does not carry the number of the request, though the server ought to send back what stands
    /// before the empty frame (RFC 28): whose it is cannot be known. Such a server can be asked with `send` and `recv`.
    #[error("the peer's reply does not carry the number of the request")]
    Unnumbered,
}

// The causes stand in the texts, and so not behind `source`: whoever prints the whole chain would read them twice.
impl From<SendError> for RequestError {
    fn from(error: SendError) -> RequestError {
        RequestError::Send(error)
    }
}

impl From<RecvError> for RequestError {
    fn from(error: RecvError) -> RequestError {
        RequestError::Receive(error)
    }
}

impl From<RequestError> for std::io::Error {
    fn from(error: RequestError) -> std::io::Error {
        match error {
            RequestError::Send(error) => error.into(),
            RequestError::Receive(error) => error.into(),
            RequestError::ServerGone(_) => std::io::Error::new(std::io::ErrorKind::TimedOut, error),
            RequestError::Unnumbered => std::io::Error::new(std::io::ErrorKind::InvalidData, error),
        }
    }
}

impl RequestError {
    /// Whether the time was over before there was a reply: nobody was there to be asked, or whoever was asked did not
    /// answer.
    pub fn is_timed_out(&self) -> bool {
        match self {
            RequestError::Send(error) => error.reason == SendFailure::TimedOut,
            RequestError::Receive(error) => *error == RecvError::TimedOut,
            RequestError::ServerGone(_) => true,
            RequestError::Unnumbered => false,
        }
    }
}

impl Core {
    pub(super) fn request(&self, message: Message, timeout: Duration, retries: u32) -> Result<Message, RequestError> {
        // Before the line, whose lock a thread of the parent may hold for ever.
        if self.is_forked() {
            return Err(RequestError::Send(SendError { reason: SendFailure::Forked, message, missing: None }));
        }
        let place = self.exchanges.join();
        let (mut left, mut again) = (retries, false);
        let outcome = loop {
            let mut deadline = Instant::now().checked_add(timeout);
            let outcome = if place.await_turn(&mut deadline) {
                let rest = || deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
                self.ask_once(&message, rest, &mut again)
            } else {
                let (message, missing) = (message.clone(), Some(Missing::turn()));
                Err(RequestError::Send(SendError { reason: SendFailure::TimedOut, message, missing }))
            };
            if left == 0 || !outcome.as_ref().is_err_and(RequestError::is_timed_out) {
                break outcome;
            }
            left -= 1;
        };
        if again && (left < retries || outcome.is_err()) {
            self.end_exchange(outcome.is_err());
        }
        outcome
    }

    /// The question is over. Of several who were asked all but one may still reply: to those whose replies have no
    /// number the connection is replaced.
    fn end_exchange(&self, in_vain: bool) {
        let owing = match &mut self.lock_send().routing {
            Routing::Request(_, requests) => {
                if in_vain {
                    requests.abandon();
                }
                requests.take_owing()
            }
            _ => return,
        };
        owing.into_iter().for_each(|peer| self.renew(peer));
    }

    /// Asks once, within a time of which `rest` says what is left. `again` says whether the question was asked before.
    fn ask_once(
        &self,
        message: &Message,
        rest: impl Fn() -> Duration,
        again: &mut bool,
    ) -> Result<Message, RequestError> {
        if !*again {
            self.forget_replies();
        }
        let asked = self.await_room(Wait::For(rest()), || self.ask(message, *again));
        asked.map_err(|reason| match (reason, self.what_is_missing(reason, None)) {
            // It was sent before: what cannot be repeated may have been done. The connection may be gone only because
            // it was replaced.
            (SendFailure::TimedOut, Some(why)) if *again && self.is_refused() => RequestError::ServerGone(why.into()),
            (SendFailure::TimedOut, _) if *again => RequestError::Receive(RecvError::TimedOut),
            (reason, missing) => RequestError::Send(SendError { reason, message: message.clone(), missing }),
        })?;
        *again = true;
        let reply = self.recv_slowly(Wait::For(rest()), |reader| match self.take(reader) {
            None => self.is_unnumbered().then_some(None),
            reply => Some(reply),
        });
        if reply == Err(RecvError::TimedOut) {
            // Asked first, because giving up may replace the connection.
            let gone = if self.connections() == 0 { self.why_no_peer() } else { None };
            self.give_up();
            if let Some(why) = gone {
                return Err(RequestError::ServerGone(why.into()));
            }
        }
        reply?.ok_or(RequestError::Unnumbered)
    }

    /// Whether attempts to connect have failed since the last connection.
    fn is_refused(&self) -> bool {
        self.endpoint_infos().iter().any(|endpoint| endpoint.attempts > 0)
    }

    /// Tries once to queue a request for a peer that is connected: what such a peer is decides how its reply is known.
    fn ask(&self, message: &Message, again: bool) -> Result<(), SendFailure> {
        let mut guard = self.lock_send();
        let side = &mut *guard;
        if side.closed {
            return Err(SendFailure::Closed);
        }
        let Routing::Request(balance, requests) = &mut side.routing else { return Err(self.does_not("send requests")) };
        if !again && !requests.may_send(self.switch().relaxed) {
            return Err(SendFailure::WrongState(UNANSWERED));
        }
        let size = message.size();
        if let Some(refused) = Size::refused_by_all([(size, side.largest)].into_iter()) {
            return Err(refused);
        }
        // A REP sends back what stands before the delimiter. Servers behind a ROUTER unpack what they know, and it is
        // left as it is.
        let is_numbered = |peer: &Peer| self.correlate || peer.about.kind == Some(SocketKind::Rep);
        // What stands in front of the request counts against the peer's limit as well.
        let size = |peer: &Peer| size.behind(if is_numbered(peer) { NUMBER_AND_DELIMITER } else { DELIMITER });
        let (peers, marks) = (&side.peers, side.marks);
        let is_up = |peer: &Peer| !matches!(peer.wire, Wire::None);
        let room = |slot| peers.at(slot).is_some_and(|peer| is_up(peer) && peer.has_room(size(peer), marks, self));
        let chosen = balance.choose(room).and_then(|slot| Some((slot, peers.at(slot)?)));
        let Some((slot, peer)) = chosen else { return Err(side.no_room(size)) };
        let is_numbered = is_numbered(peer);
        let envelope =
            if again { requests.ask_again(peer.id, is_numbered) } else { requests.ask(peer.id, is_numbered) };
        let after = side.push(slot, &envelope, Payload::Message(message), self);
        drop(guard);
        self.follow(after);
        Ok(())
    }

    fn is_unnumbered(&self) -> bool {
        match &self.lock_send().routing {
            Routing::Request(_, requests) => requests.is_unnumbered(),
            _ => false,
        }
    }

    /// Gives up an attempt that was not answered: what is unsent of it is not sent later. Unless the reply carries a
    /// number the connection is replaced, because a late reply must not pass for the next one's.
    fn give_up(&self) {
        let asked = match &mut self.lock_send().routing {
            Routing::Request(_, requests) => requests.give_up_attempt(),
            _ => None,
        };
        let Some((peer, is_numbered)) = asked else { return };
        if is_numbered {
            self.take_back(peer);
            return;
        }
        self.renew(peer);
    }

    /// Replaces the connection to a peer that has not replied, so that what it still says goes to nobody.
    fn renew(&self, peer: PeerId) {
        if !self.reconnect_inproc(peer) && self.port.is_open() {
            // At once, so that the next request does not go out over the connection that is to go.
            self.mute_flow(peer);
            self.await_return(peer, Lost::default());
            self.port.submit(Command::Drop { peer, cause: Cause::Local });
        }
        self.take_back(peer);
        self.discard_all();
    }

    /// Drops what waits for a peer: a request that is given up must not be sent later.
    fn take_back(&self, peer: PeerId) {
        {
            let mut side = self.lock_send();
            let side = &mut *side;
            let Some(entry) = side.peers.get_mut(peer.key()) else { return };
            let settled = match &entry.wire {
                // Where the reply has a number the connection stays, and what is partly written has to be finished.
                Wire::Stream(_) => Settled { dropped: entry.outbox.conflate(&mut side.pool), ..Settled::default() },
                Wire::None | Wire::Inproc { .. } => entry.outbox.clear(&mut side.pool),
            };
            entry.settle(settled, &mut side.counts);
            entry.recharge();
            side.gave_room(peer.slot());
        }
        self.context.attend();
        self.tell_waiters(Interest::ROOM);
    }

    /// An XSUB's send: subscriptions are known by their first octet.
    pub(super) fn send_upstream(&self, message: Message) -> Result<(), SendError> {
        let failed = |message, error| {
            let reason = match error {
                crate::Error::Forked => SendFailure::Forked,
                crate::Error::Failed => SendFailure::Failed,
                _ => SendFailure::Closed,
            };
            SendError { reason, message, missing: None }
        };
        let change = match (message.len(), message.first().split_first()) {
            (1, Some((1, topic))) => self.subscribe(topic),
            (1, Some((0, topic))) => self.unsubscribe(topic, self.switch().verbose_unsubscribe).map(|_| ()),
            _ => return self.send(message, Recipient::Pattern, Wait::Never),
        };
        change.map_err(|error| failed(message, error))
    }
}
