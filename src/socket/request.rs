//! Whole exchanges of a REQ, with a time limit and retries (the lazy-pirate pattern), and an XSUB's send.

use super::core::{Core, Wait};
use super::sending::{Recipient, Routing, Wire};
use crate::engine::Host;
use crate::engine::port::Command;
use crate::engine::waiters::Interest;
use crate::error::{RecvError, SendError, SendFailure};
use crate::event::Cause;
use crate::message::Message;
use crate::peer::PeerId;
use crate::queue::outbox::Settled;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Why a request brought no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The request could not be sent; it is handed back.
    #[error("the request was not sent: {0}")]
    Send(#[from] SendError),
    /// No reply came.
    #[error("no reply: {0}")]
    Receive(#[from] RecvError),
}

impl From<RequestError> for std::io::Error {
    fn from(error: RequestError) -> std::io::Error {
        match error {
            RequestError::Send(error) => error.into(),
            RequestError::Receive(error) => error.into(),
        }
    }
}

impl Core {
    pub(super) fn request(&self, message: Message, timeout: Duration, retries: u32) -> Result<Message, RequestError> {
        let _turn = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = retries;
        loop {
            let start = Instant::now();
            match self.send(message.clone(), Recipient::Pattern, Wait::For(timeout)) {
                Err(SendError { reason: SendFailure::TimedOut, .. }) if left > 0 => {
                    left -= 1;
                    continue;
                }
                sent => sent?,
            }
            let rest = timeout.saturating_sub(start.elapsed());
            match self.recv(Wait::For(rest)) {
                Err(RecvError::TimedOut) => self.give_up(),
                outcome => return Ok(outcome?),
            }
            if left == 0 {
                return Err(RequestError::Receive(RecvError::TimedOut));
            }
            left -= 1;
        }
    }

    /// Forgets the request that was not answered. Unless replies carry its number, its connection is replaced: a late reply
    /// must not pass for the next one's.
    fn give_up(&self) {
        let peer = {
            let mut side = self.lock_send();
            let asked = match &mut side.routing {
                Routing::Request(_, requests) => requests.abandon(),
                _ => None,
            };
            asked.and_then(|slot| side.peers.at(slot).map(|peer| peer.id))
        };
        if let Some(peer) = peer {
            let replaced = !self.correlate && self.reconnect_inproc(peer);
            if !self.correlate && !replaced && self.port.is_open() {
                // At once, so that the next request does not go out over the connection that is to go.
                self.mute(peer, true);
                self.detach(peer, true);
                self.port.submit(Command::Drop { peer, cause: Cause::Local });
            }
            self.take_back(peer);
        }
        self.discard_all();
    }

    /// Drops what waits for a peer: a request that is given up must not be sent later.
    fn take_back(&self, peer: PeerId) {
        let released = {
            let mut side = self.lock_send();
            let side = &mut *side;
            let Some(entry) = side.peers.get_mut(peer.key()) else { return };
            let settled = match &entry.wire {
                // Under `correlate` the connection stays, and what is partly written has to be finished.
                Wire::Stream(_) => Settled { dropped: entry.outbox.conflate(), ..Settled::default() },
                Wire::None | Wire::Inproc { .. } => entry.outbox.clear(),
            };
            entry.settle(settled, &mut side.counts);
            let released = entry.uncharge();
            side.gave_room(peer.slot());
            released
        };
        self.context.release(released);
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
            SendError { reason, message }
        };
        let change = match (message.len(), message.as_bytes().split_first()) {
            (1, Some((1, topic))) => self.subscribe(topic),
            (1, Some((0, topic))) => self.unsubscribe(topic, self.switch().verbose_unsubscribe).map(|_| ()),
            _ => return self.send(message, Recipient::Pattern, Wait::Never),
        };
        change.map_err(|error| failed(message, error))
    }
}
