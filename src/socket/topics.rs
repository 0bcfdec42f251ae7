//! What a socket does with topics: the subscriptions of SUB and XSUB, and the manual ones of XPUB (RFC 29).

use super::core::Core;
use super::sending::{Peer, Routing};
use crate::engine::waiters::Interest;
use crate::error::Error;
use crate::message::Message;
use crate::patterns::subscriptions::Removed;
use crate::queue::changes::ChangeKind;
use std::time::Duration;

/// How much of a topic stands in an error.
const SHOWN: usize = 64;

/// The reason in the error of a call that needs the option `manual`.
const MANUAL: &str = "it must be on for `subscribe_last` and `unsubscribe_last`; set it on the builder";

impl Core {
    /// SUB: wants a prefix, or one more time.
    pub(super) fn subscribe(&self, topic: &[u8]) -> Result<(), Error> {
        self.check()?;
        let mut reader = self.lock_recv();
        let kind = if reader.filter.insert(topic) { ChangeKind::First } else { ChangeKind::Again };
        let place = reader.filter.place_of(topic);
        let (after, unfit) = self.tell_upstream(&mut self.lock_send(), topic, place, kind);
        drop(reader);
        for after in after {
            self.follow(after);
        }
        self.tell_given_up(unfit);
        self.context.attend();
        Ok(())
    }

    /// SUB: no longer wants a prefix, as often as it was asked for. Whether it was wanted.
    pub(super) fn unsubscribe(&self, topic: &[u8], always_tell: bool) -> Result<bool, Error> {
        self.check()?;
        let mut reader = self.lock_recv();
        let place = reader.filter.place_of(topic);
        let removed = reader.filter.remove(topic);
        let kind = match removed {
            Removed::Last => Some(ChangeKind::Last),
            Removed::Still | Removed::Unknown => always_tell.then_some(ChangeKind::Told),
        };
        let told = kind.map(|kind| self.tell_upstream(&mut self.lock_send(), topic, place, kind));
        // No peer is asked to accept a cancellation of what it was not told.
        let (after, _) = told.unwrap_or_default();
        drop(reader);
        for after in after {
            self.follow(after);
        }
        self.context.attend();
        Ok(!matches!(removed, Removed::Unknown))
    }

    /// XPUB under `manual`: makes or ends a subscription of the peer whose request was read last.
    pub(super) fn subscribe_last(&self, topic: &[u8], subscribe: bool) -> Result<bool, Error> {
        self.check()?;
        if !self.manual {
            return Err(Error::Option { option: "manual", reason: MANUAL.to_owned() });
        }
        let mut side = self.lock_send();
        let Routing::Publish(publisher) = &mut side.routing else { return Ok(false) };
        let Some(peer) = publisher.last else { return Ok(false) };
        if subscribe {
            publisher.subscriptions.subscribe(peer.slot(), topic);
            if self.manual_last_value {
                publisher.only = Some(peer);
            }
        } else {
            publisher.subscriptions.cancel(peer.slot(), topic);
        }
        side.note_standing(peer);
        drop(side);
        self.tell_waiters(Interest::CHANGE);
        Ok(true)
    }

    /// PUB and XPUB: waits until so many peers have subscribed to something.
    pub(super) fn wait_for_subscribers(&self, count: usize, limit: Duration) -> Result<(), Error> {
        self.wait_for("subscribers", limit, || self.subscribers(), count)
            .map_err(|error| self.and_who_has_not(error, self.subscribers()))
    }

    /// PUB and XPUB: waits until so many peers would get a message on that topic.
    pub(super) fn wait_for_subscribers_to(&self, topic: &[u8], count: usize, limit: Duration) -> Result<(), Error> {
        let what = format!("subscribers to \"{}\"", topic.get(..SHOWN).unwrap_or(topic).escape_ascii());
        let waited = self.wait_for(&what, limit, || self.subscribers_to(topic), count);
        waited.map_err(|error| self.and_who_has_not(error, self.subscribers_to(topic)))
    }

    /// Adds to what a publisher has waited for in vain that peers are connected which have not subscribed to it.
    fn and_who_has_not(&self, error: Error, subscribers: usize) -> Error {
        match (error, self.connections().saturating_sub(subscribers)) {
            (Error::TimedOut { waiting_for }, 1) => {
                Error::TimedOut { waiting_for: waiting_for + "; 1 peer is connected and has not subscribed to that" }
            }
            (Error::TimedOut { waiting_for }, peers @ 2..) => Error::TimedOut {
                waiting_for: format!("{waiting_for}; {peers} peers are connected and have not subscribed to that"),
            },
            (error, _) => error,
        }
    }

    fn subscribers_to(&self, topic: &[u8]) -> usize {
        let side = &mut *self.lock_send();
        let Routing::Publish(publisher) = &mut side.routing else { return 0 };
        // Whom `manual_last_value` has chosen for the next message is no matter here.
        let only = publisher.only.take();
        publisher.find(topic, &side.peers, self.invert);
        publisher.only = only;
        publisher.matched.drain(..).count()
    }

    /// How many distinct topics a publisher has, or a subscriber wants.
    pub(super) fn topic_count(&self) -> usize {
        if self.is_forked() {
            return 0;
        }
        if self.kind.subscribes() {
            return self.lock_recv().filter.len();
        }
        match &self.lock_send().routing {
            Routing::Publish(publisher) => publisher.subscriptions.len(),
            _ => 0,
        }
    }

    /// The subscription an XPUB's message shows, for `manual`.
    pub(super) fn note_last(&self, message: &Message) {
        if self.manual && matches!(message.first().first(), Some(0 | 1)) {
            let mut side = self.lock_send();
            let known = message.peer().filter(|peer| side.peer(*peer).is_some_and(Peer::is_open));
            if let Routing::Publish(publisher) = &mut side.routing {
                publisher.last = known;
                if self.manual_last_value && message.first().first() == Some(&1) {
                    publisher.only = known;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::peer::PeerId;
    use crate::slab::Key;
    use crate::{Context, Sub};

    #[test]
    fn topics_that_are_cancelled_while_a_peer_is_told_of_them_leave_no_memory_behind() {
        let sub = Sub::in_context(&Context::new());
        let topics: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
        topics.iter().for_each(|topic| sub.subscribe(topic).expect("open"));
        let replay = sub.core.lock_recv().filter.hold_still();
        topics.iter().skip(1).for_each(|topic| assert!(sub.unsubscribe(topic).expect("open")));
        let places = || sub.core.lock_recv().filter.places();
        assert!(places() > 10_000, "they are kept in their places");
        drop(replay);
        // Another turn of the engine, at the end of a replay.
        sub.core.replay_all(PeerId::new(Key { index: 0, generation: 0 }));
        assert!(places() < 100, "{} places", places());
        assert_eq!(sub.topic_count(), 1);
    }
}
