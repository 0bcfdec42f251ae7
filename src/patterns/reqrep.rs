//! The lockstep of REQ and REP, and their envelopes (RFC 28).

use crate::message::{Frame, Message};
use bytes::Bytes;
use smallvec::SmallVec;

/// What a REQ is told that asks again too early, and what helps.
pub(crate) const UNANSWERED: &str = "the reply to the last request has not been received \
    (receive it, set the option `relaxed`, or always ask by `request`, which gives a late reply up)";

/// What a REQ is doing.
#[derive(Debug)]
pub(crate) struct Requests<P> {
    /// The number of the latest question that had one.
    number: u32,
    awaiting: Option<Awaiting<P>>,
    /// A request without a number was given up: its reply may still come, and has none either.
    gave_up_bare: bool,
    /// Who was sent the last question without a number and has not replied, though somebody else has, or it was
    /// given up.
    owing: SmallVec<[P; 1]>,
}

/// A question that was asked once or several times.
#[derive(Debug)]
struct Awaiting<P> {
    /// Whom it was put to and may still have the reply of, the latest last.
    asked: SmallVec<[Asked<P>; 1]>,
    /// The latest of them is gone: then a reply from anybody will do.
    is_orphaned: bool,
    /// One of them was sent a number and replied without it.
    is_unnumbered: bool,
}

#[derive(Clone, Copy, Debug)]
struct Asked<P> {
    peer: P,
    /// The request carried the number, and so must the reply.
    is_numbered: bool,
}

/// The frames before a message.
pub(crate) type Envelope = SmallVec<[Bytes; 2]>;

impl<P: Copy + Eq> Requests<P> {
    pub(crate) fn new(seed: u32) -> Requests<P> {
        Requests { number: seed, awaiting: None, gave_up_bare: false, owing: SmallVec::new() }
    }

    /// Whether a request may be sent now.
    pub(crate) fn may_send(&self, relaxed: bool) -> bool {
        relaxed || self.awaiting.is_none()
    }

    pub(crate) fn may_receive(&self) -> bool {
        self.awaiting.is_some()
    }

    /// A question goes to that peer, in this envelope. One that has no reply yet is given up.
    pub(crate) fn ask(&mut self, peer: P, is_numbered: bool) -> Envelope {
        self.abandon();
        self.owing.clear();
        if is_numbered {
            self.number = self.number.wrapping_add(1);
        }
        self.ask_again(peer, is_numbered)
    }

    /// The same question goes to that peer, under the same number: the reply to an earlier attempt will do as well.
    pub(crate) fn ask_again(&mut self, peer: P, is_numbered: bool) -> Envelope {
        let awaiting = self.awaiting.get_or_insert_with(|| Awaiting {
            asked: SmallVec::new(),
            is_orphaned: false,
            is_unnumbered: false,
        });
        awaiting.is_orphaned = false;
        awaiting.asked.retain(|asked| asked.peer != peer);
        awaiting.asked.push(Asked { peer, is_numbered });
        let mut envelope = Envelope::new();
        if is_numbered {
            envelope.push(Bytes::copy_from_slice(&self.number.to_ne_bytes()));
        }
        envelope.push(Bytes::new());
        envelope
    }

    /// Whom the question was put to last, and whether under a number. A reply without one is not waited for any more:
    /// nothing tells it from the reply to another question.
    pub(crate) fn give_up_attempt(&mut self) -> Option<(P, bool)> {
        let awaiting = self.awaiting.as_mut()?;
        let Asked { peer, is_numbered } = *awaiting.asked.last()?;
        if !is_numbered {
            self.gave_up_bare = true;
            awaiting.asked.pop();
        }
        Some((peer, is_numbered))
    }

    /// The question is given up.
    pub(crate) fn abandon(&mut self) {
        if let Some(awaiting) = self.awaiting.take() {
            self.owing = awaiting.owing().collect();
            self.gave_up_bare |= !self.owing.is_empty();
        }
    }

    /// Who may still reply to the last question, which is over, without a number: nothing would tell that reply from
    /// one to the next.
    pub(crate) fn take_owing(&mut self) -> SmallVec<[P; 1]> {
        std::mem::take(&mut self.owing)
    }

    /// The connection to that peer is gone.
    pub(crate) fn detach(&mut self, peer: P) {
        if let Some(awaiting) = &mut self.awaiting {
            awaiting.is_orphaned |= awaiting.asked.last().is_some_and(|asked| asked.peer == peer);
        }
    }

    /// Whether a peer that was sent a number has replied without it.
    pub(crate) fn is_unnumbered(&self) -> bool {
        self.awaiting.as_ref().is_some_and(|awaiting| awaiting.is_unnumbered)
    }

    /// The reply inside `message`, if it is one to the latest question; then the next one may be asked.
    ///
    /// # Errors
    /// What is none is handed back whole, as its bodies are not to be let go here.
    pub(crate) fn accept(&mut self, peer: P, mut message: Message) -> Result<Message, Message> {
        let Some(awaiting) = self.awaiting.as_mut() else { return Err(message) };
        let mut asked = awaiting.asked.iter().copied();
        let was_asked = asked.clone().any(|asked| asked.peer == peer);
        let Some(asked) = asked.rfind(|asked| asked.peer == peer || awaiting.is_orphaned) else { return Err(message) };
        if asked.is_numbered {
            let has_number = message.len() > 2 && message.first().len() == 4 && message.frame(1) == Some(&[]);
            if !has_number {
                // Where a request without a number was given up this may be the reply to that one.
                awaiting.is_unnumbered |= was_asked && !self.gave_up_bare;
                return Err(message);
            }
            if message.first() != self.number.to_ne_bytes() {
                return Err(message);
            }
            message.pop_front();
        }
        if message.len() < 2 || !message.first().is_empty() {
            return Err(message);
        }
        message.pop_front();
        if awaiting.asked.len() > 1 {
            self.owing = awaiting.owing().filter(|other| *other != peer).collect();
            self.gave_up_bare |= !self.owing.is_empty();
        }
        self.awaiting = None;
        Ok(message)
    }
}

impl<P: Copy> Awaiting<P> {
    /// Who was asked without a number.
    fn owing(&self) -> impl Iterator<Item = P> + '_ {
        self.asked.iter().filter(|asked| !asked.is_numbered).map(|asked| asked.peer)
    }
}

/// What a REP is doing.
#[derive(Debug)]
pub(crate) struct Replies<P> {
    pending: Option<Pending<P>>,
}

/// A request that has no reply yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pending<P> {
    pub(crate) peer: P,
    pub(crate) envelope: Envelope,
    /// The connection it came over is gone.
    pub(crate) is_cut: bool,
}

impl<P> Pending<P> {
    /// Whether there is more in front of the delimiter: from a REQ that is its number.
    pub(crate) fn is_numbered(&self) -> bool {
        self.envelope.len() > 1
    }
}

impl<P> Default for Replies<P> {
    fn default() -> Replies<P> {
        Replies { pending: None }
    }
}

impl<P: Eq> Replies<P> {
    pub(crate) fn may_receive(&self) -> bool {
        self.pending.is_none()
    }

    /// Whom to answer, and with which envelope; then the next request may be received.
    pub(crate) fn take(&mut self) -> Option<Pending<P>> {
        self.pending.take()
    }

    /// The connection to that peer is gone, and will be made again.
    pub(crate) fn detach(&mut self, peer: P) {
        if let Some(pending) = self.pending.as_mut().filter(|pending| pending.peer == peer) {
            pending.is_cut = true;
        }
    }

    /// The request inside `message`, whose envelope is kept for the reply. There is none that waits for its own.
    ///
    /// # Errors
    /// It has no empty delimiter, or nothing behind it, and is handed back whole, as its bodies are not to be let go
    /// here.
    pub(crate) fn accept(&mut self, peer: P, mut message: Message) -> Result<Message, Message> {
        let delimiter = message.iter().position(<[u8]>::is_empty).filter(|place| place + 1 < message.len());
        let Some(delimiter) = delimiter else { return Err(message) };
        let frames = std::iter::from_fn(|| message.pop_front().map(Frame::into_bytes));
        let envelope = frames.take(delimiter + 1).collect();
        self.pending = Some(Pending { peer, envelope, is_cut: false });
        Ok(message)
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

    fn reply(envelope: &Envelope, body: &'static str) -> Message {
        envelope.iter().cloned().chain([Bytes::from(body)]).collect()
    }

    #[test]
    fn a_request_waits_for_the_reply_of_the_peer_it_asked() {
        let mut requests = Requests::new(9);
        assert!(requests.may_send(false) && !requests.may_receive());
        assert_eq!(requests.ask(1, false)[..], [Bytes::new()]);
        assert!(!requests.may_send(false) && requests.may_send(true));
        assert!(requests.accept(2, message(&["", "late"])).is_err());
        assert!(requests.accept(1, message(&["x", "bad"])).is_err());
        assert_eq!(requests.accept(1, message(&["", "yes"])), Ok(message(&["yes"])));
        assert!(requests.may_send(false));
    }

    #[test]
    fn once_the_asked_peer_is_gone_anybody_may_answer() {
        let mut requests = Requests::new(9);
        requests.ask(1, false);
        requests.detach(1);
        assert_eq!(requests.accept(2, message(&["", "yes"])), Ok(message(&["yes"])));
        let envelope = requests.ask(1, true);
        requests.detach(1);
        assert!(requests.accept(2, message(&["", "no"])).is_err());
        assert!(!requests.is_unnumbered(), "it was not asked");
        assert_eq!(requests.accept(2, reply(&envelope, "yes")), Ok(message(&["yes"])));
    }

    #[test]
    fn a_numbered_reply_carries_the_number_of_the_latest_question() {
        let mut requests = Requests::new(9);
        let old = requests.ask(1, true);
        let new = requests.ask(1, true);
        assert!(requests.accept(1, reply(&old, "no")).is_err());
        assert!(!requests.is_unnumbered());
        assert_eq!(requests.accept(1, reply(&new, "ok")), Ok(message(&["ok"])));
    }

    #[test]
    fn whoever_was_sent_a_number_and_replies_without_it_is_noticed() {
        for without in [&["", "no"][..], &["no"], &["", ""], &["long number", "", "no"], &["four", "no"]] {
            let mut requests = Requests::new(9);
            requests.ask(1, true);
            assert!(requests.accept(2, message(without)).is_err());
            assert!(!requests.is_unnumbered(), "it was not asked");
            assert!(requests.accept(1, message(without)).is_err());
            assert!(requests.is_unnumbered(), "{without:?}");
            requests.ask(1, true);
            assert!(!requests.is_unnumbered(), "of another question");
        }
    }

    #[test]
    fn a_reply_to_a_bare_request_that_was_given_up_is_no_fault_of_the_next() {
        let mut requests = Requests::new(9);
        requests.ask(1, false);
        let envelope = requests.ask(1, true);
        assert!(requests.accept(1, message(&["", "late"])).is_err());
        assert!(!requests.is_unnumbered());
        assert_eq!(requests.accept(1, reply(&envelope, "yes")), Ok(message(&["yes"])));
    }

    #[test]
    fn the_reply_to_an_earlier_attempt_counts_if_it_has_the_number() {
        let mut requests = Requests::new(9);
        let envelope = requests.ask(1, true);
        assert_eq!(requests.give_up_attempt(), Some((1, true)));
        assert_eq!(requests.ask_again(2, true), envelope);
        assert!(requests.accept(3, reply(&envelope, "no")).is_err());
        assert_eq!(requests.accept(1, reply(&envelope, "yes")), Ok(message(&["yes"])));
        requests.ask(1, false);
        assert_eq!(requests.give_up_attempt(), Some((1, false)));
        requests.ask_again(2, false);
        assert!(requests.accept(1, message(&["", "no"])).is_err());
        assert_eq!(requests.accept(2, message(&["", "yes"])), Ok(message(&["yes"])));
    }

    #[test]
    fn who_was_asked_without_a_number_and_is_not_the_one_who_replies_is_known() {
        let mut requests = Requests::new(9);
        let envelope = requests.ask(1, true);
        requests.ask_again(2, false);
        requests.ask_again(3, false);
        assert_eq!(requests.accept(1, reply(&envelope, "yes")), Ok(message(&["yes"])));
        assert_eq!(requests.take_owing()[..], [2, 3]);
        requests.ask(1, true);
        requests.ask_again(2, false);
        assert_eq!(requests.accept(2, message(&["", "yes"])), Ok(message(&["yes"])));
        assert!(requests.take_owing().is_empty(), "the other's reply would have a number");
        requests.ask(2, false);
        requests.abandon();
        assert_eq!(requests.take_owing()[..], [2]);
    }

    #[test]
    fn a_rep_knows_whether_the_connection_of_a_request_is_gone() {
        let mut replies = Replies::default();
        for (gone, is_cut) in [(2, false), (1, true)] {
            assert!(replies.accept(1, message(&["", "question"])).is_ok());
            replies.detach(gone);
            let pending = replies.take().expect("a request");
            assert_eq!((pending.is_cut, pending.is_numbered()), (is_cut, false));
        }
        assert!(replies.accept(1, message(&["1234", "", "question"])).is_ok());
        assert!(replies.take().expect("a request").is_numbered());
    }
}
