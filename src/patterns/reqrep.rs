//! The lockstep of REQ and REP, and their envelopes (RFC 28).

use crate::message::{Frame, Message};
use bytes::Bytes;
use smallvec::SmallVec;

/// What a REQ is doing.
#[derive(Debug)]
pub(crate) struct Requests {
    /// The number of the latest request; sent under `correlate`.
    number: u32,
    awaiting: Option<Awaiting>,
}

#[derive(Debug)]
struct Awaiting {
    /// Whom the request went to; `None` once that peer is gone, and then a reply from anybody will do.
    peer: Option<u32>,
}

/// The frames before a message.
pub(crate) type Envelope = SmallVec<[Bytes; 2]>;

impl Requests {
    pub(crate) fn new(seed: u32) -> Requests {
        Requests { number: seed, awaiting: None }
    }

    /// Whether a request may be sent now.
    pub(crate) fn may_send(&self, relaxed: bool) -> bool {
        relaxed || self.awaiting.is_none()
    }

    pub(crate) fn may_receive(&self) -> bool {
        self.awaiting.is_some()
    }

    /// The envelope of the next request. The number counts on even if the send then fails.
    pub(crate) fn envelope(&mut self, correlate: bool) -> Envelope {
        let mut envelope = Envelope::new();
        if correlate {
            self.number = self.number.wrapping_add(1);
            envelope.push(Bytes::copy_from_slice(&self.number.to_ne_bytes()));
        }
        envelope.push(Bytes::new());
        envelope
    }

    /// A request went to that peer.
    pub(crate) fn sent(&mut self, peer: u32) {
        self.awaiting = Some(Awaiting { peer: Some(peer) });
    }

    /// The request is given up; whom it went to.
    pub(crate) fn abandon(&mut self) -> Option<u32> {
        self.awaiting.take().and_then(|awaiting| awaiting.peer)
    }

    /// That peer is gone.
    pub(crate) fn detach(&mut self, peer: u32) {
        if let Some(awaiting) = &mut self.awaiting {
            if awaiting.peer == Some(peer) {
                awaiting.peer = None;
            }
        }
    }

    /// The reply inside `message`, if it is one to the latest request; then the next request may be sent.
    pub(crate) fn accept(&mut self, peer: u32, mut message: Message, correlate: bool) -> Option<Message> {
        let awaiting = self.awaiting.as_ref()?;
        if awaiting.peer.is_some_and(|asked| asked != peer) {
            return None;
        }
        if correlate && message.pop_front()? != self.number.to_ne_bytes()[..] {
            return None;
        }
        if !message.pop_front()?.is_empty() {
            return None;
        }
        self.awaiting = None;
        Some(message)
    }
}

/// What a REP is doing.
#[derive(Debug)]
pub(crate) struct Replies<P> {
    pending: Option<(P, Envelope)>,
}

impl<P> Default for Replies<P> {
    fn default() -> Replies<P> {
        Replies { pending: None }
    }
}

impl<P> Replies<P> {
    pub(crate) fn may_receive(&self) -> bool {
        self.pending.is_none()
    }

    /// Whom to answer, and with which envelope; then the next request may be received.
    pub(crate) fn take(&mut self) -> Option<(P, Envelope)> {
        self.pending.take()
    }

    /// The request inside `message`, whose envelope is kept for the reply; `None` when it has no empty delimiter, or nothing
    /// behind it.
    pub(crate) fn accept(&mut self, peer: P, mut message: Message) -> Option<Message> {
        let mut envelope = Envelope::new();
        loop {
            let frame: Frame = message.pop_front()?;
            let delimiter = frame.is_empty();
            envelope.push(frame.into_bytes());
            if delimiter {
                break;
            }
        }
        self.pending = Some((peer, envelope));
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "properties")]
    mod properties;

    fn message(frames: &[&str]) -> Message {
        frames.iter().copied().collect()
    }

    #[test]
    fn a_request_waits_for_the_reply_of_the_peer_it_asked() {
        let mut requests = Requests::new(9);
        assert!(requests.may_send(false) && !requests.may_receive());
        requests.sent(1);
        assert!(!requests.may_send(false) && requests.may_send(true));
        assert_eq!(requests.accept(2, message(&["", "late"]), false), None);
        assert_eq!(requests.accept(1, message(&["x", "bad"]), false), None);
        assert_eq!(requests.accept(1, message(&["", "yes"]), false), Some(message(&["yes"])));
        assert!(requests.may_send(false));
    }

    #[test]
    fn once_the_asked_peer_is_gone_anybody_may_answer() {
        let mut requests = Requests::new(9);
        requests.sent(1);
        requests.detach(1);
        assert_eq!(requests.accept(2, message(&["", "yes"]), false), Some(message(&["yes"])));
    }

    #[test]
    fn a_correlated_reply_carries_the_number_of_the_latest_request() {
        let mut requests = Requests::new(9);
        let old = requests.envelope(true);
        requests.sent(1);
        let new = requests.envelope(true);
        requests.sent(1);
        let reply = |envelope: &Envelope| Message::from_iter(envelope.iter().cloned().chain([Bytes::from("ok")]));
        assert_eq!(requests.accept(1, reply(&old), true), None);
        assert_eq!(requests.accept(1, reply(&new), true), Some(message(&["ok"])));
    }
}
