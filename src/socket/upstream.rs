//! What an inproc peer sends upstream to a publisher. Nobody may ever receive there, so it is applied by a thread that
//! sends: the one that finds that no other is at it. It stays at it until nothing is left, or, when it has done its
//! share, until another one sends; that one goes on in its place. So no call lasts for as long as others send, and none
//! of it needs an engine thread.
//!
//! What was fetched and is not applied yet lies in the peer's inbox, and a part of it is taken out and applied within
//! one hold of the reader gate. So the thread that ends the link finds there what comes before the rest, and no other
//! thread holds any of it.

use super::core::Core;
use super::receiving::{Fellow, HandedOver, Reader};
use super::sending::{Marks, Notice, Wire};
use super::slice::Slice;
use crate::engine::reactor::Stint;
use crate::engine::waiters::Interest;
use crate::message::Frame;
use crate::peer::PeerId;
use crate::queue::inbox::Inbox;
use crate::queue::let_go;
use smallvec::SmallVec;
use std::sync::Arc;

/// How many messages are applied at a time.
const FEW: usize = 32;

/// What became of messages that came upstream.
#[derive(Default)]
pub(super) struct Applied {
    /// What waits for the application.
    pub(super) kept: Marks,
    /// What does not: to be let go with no gate held, as bodies may be the application's own.
    pub(super) spent: SmallVec<[Frame; 2]>,
}

impl Core {
    /// A publisher takes what an inproc peer sent upstream.
    pub(super) fn absorb(&self, peer: PeerId) {
        let mut stint = Stint::default();
        let mut next = Notice::Given;
        while let Some((from, there)) = self.absorb_some(peer, next) {
            if stint.is_over() {
                if from.is_relieved(there, next) {
                    return;
                }
                next = Notice::Wanted;
            }
            while !self.recv.let_in() {}
        }
    }

    /// Applies some of what a peer has sent, and says where it came from; `None` if nothing is there. `next` is how the
    /// next message is heard of.
    fn absorb_some(&self, peer: PeerId, next: Notice) -> Option<(Arc<Core>, PeerId)> {
        let mut reader = self.lock_recv();
        let source = reader.known_source(peer)?;
        let fellow = source.inproc.as_deref_mut()?;
        let (from, there) = (fellow.core.upgrade()?, fellow.there);
        if source.inbox.is_empty() {
            let HandedOver { pieces, messages, bytes } = from.hand_over(there, 0, 0, None, next);
            if pieces.is_empty() {
                return None;
            }
            fellow.owed = Marks { messages, bytes };
            source.inbox = Inbox::copying();
            pieces.into_iter().for_each(|piece| source.inbox.push(piece));
        }
        let (spent, owed) = self.apply_some(&mut reader, peer);
        drop(reader);
        if owed.messages + owed.bytes > 0 {
            from.credit(there, owed.messages, owed.bytes);
        }
        self.show_applied(spent);
        Some((from, there))
    }

    /// Applies some of what was fetched from a peer. Returns what of that is to be let go, and the credit that is due
    /// with the last of it: for all but what waits for the application, which the sender's marks bound.
    fn apply_some(&self, reader: &mut Reader, peer: PeerId) -> (Vec<Frame>, Marks) {
        let Some(source) = reader.known_source(peer) else { return Default::default() };
        let (mut spent, mut kept, mut slice) = (Vec::new(), Marks::default(), Slice::begin());
        for _ in 0..FEW {
            let Some(message) = source.inbox.next(Some(peer)) else { break };
            let octets = message.byte_len();
            let applied = self.upstream_message(peer, message);
            kept.messages += applied.kept.messages;
            kept.bytes += applied.kept.bytes;
            spent.extend(applied.spent);
            if slice.step(octets).is_break() {
                break;
            }
        }
        // It is not what the sender counts, as changes of subscriptions are exempt from its marks.
        (source.inbox.taken, source.inbox.taken_bytes) = (0, 0);
        let Some(Fellow { owed, .. }) = source.inproc.as_deref_mut() else { return (spent, Marks::default()) };
        owed.messages = owed.messages.saturating_sub(kept.messages);
        owed.bytes = owed.bytes.saturating_sub(kept.bytes);
        let due = if source.inbox.is_empty() { std::mem::take(owed) } else { Marks::default() };
        (spent, due)
    }

    fn show_applied(&self, spent: Vec<Frame>) {
        self.announce();
        self.wake_driver(Interest::MESSAGE);
        spent.into_iter().for_each(let_go);
    }

    /// The link to an inproc peer ends: applies all that it has sent. What that sends from now on stays where it is.
    pub(super) fn absorb_last(&self, peer: PeerId) {
        {
            let mut reader = self.lock_recv();
            let Some(source) = reader.known_source(peer) else { return };
            let fellow = source.inproc.take();
            let from = fellow.and_then(|fellow| Some((fellow.core.upgrade()?, fellow.there)));
            let rest = from.map(|(from, there)| from.hand_over(there, 0, 0, None, Notice::Given).pieces);
            if source.inbox.is_empty() {
                source.inbox = Inbox::copying();
            }
            rest.into_iter().flatten().for_each(|piece| source.inbox.push(piece));
        }
        loop {
            let mut reader = self.lock_recv();
            if reader.known_source(peer).is_none_or(|source| source.inbox.is_empty()) {
                return;
            }
            let (spent, _) = self.apply_some(&mut reader, peer);
            drop(reader);
            self.show_applied(spent);
            while !self.recv.let_in() {}
        }
    }

    /// A thread that takes what is sent to a peer here has done its share. Returns true if it may go: the link has
    /// ended, or it has said before that it is to be relieved, and one that has sent since comes. Else that is `Wanted`
    /// from now on.
    fn is_relieved(&self, to: PeerId, said: Notice) -> bool {
        let mut side = self.lock_send();
        let Some(Wire::Inproc { notice, .. }) = side.peer_mut(to).map(|peer| &mut peer.wire) else { return true };
        if said == Notice::Wanted && *notice == Notice::Given {
            return true;
        }
        *notice = Notice::Wanted;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnySocket, Context, SocketKind, XPub};
    use bytes::Bytes;

    /// An XSUB, an XPUB it is connected to, and what the XPUB knows it by. Nothing is absorbed yet of what is sent from
    /// now on.
    fn pair(context: &Context) -> (AnySocket, XPub, PeerId) {
        let publisher = XPub::in_context(context);
        publisher.bind("inproc://upstream").expect("bound");
        let subscriber = AnySocket::in_context(SocketKind::XSub, context);
        subscriber.connect("inproc://upstream").expect("bound");
        let mut known = None;
        for (_, peer) in subscriber.core.lock_send().peers.iter_mut() {
            let Wire::Inproc { notice, there, .. } = &mut peer.wire else { panic!("it is connected") };
            (*notice, known) = (Notice::Given, Some(*there));
        }
        (subscriber, publisher, known.expect("a peer"))
    }

    #[test]
    fn what_is_fetched_and_not_applied_when_the_link_ends_comes_before_what_is_not_fetched() {
        let context = Context::new();
        for is_closed in [false, true] {
            let (subscriber, publisher, peer) = pair(&context);
            let numbers = 3 * FEW;
            (0..numbers).for_each(|number| subscriber.send(format!("{number}")).expect("there is room"));
            let _ = publisher.core.absorb_some(peer, Notice::Given);
            assert_eq!(publisher.stats().unread, FEW as u64);
            (numbers..2 * numbers).for_each(|number| subscriber.send(format!("{number}")).expect("there is room"));
            match is_closed {
                true => subscriber.close(),
                false => subscriber.disconnect("inproc://upstream").expect("connected"),
            }
            for number in 0..2 * numbers {
                assert_eq!(publisher.try_recv().expect("it is there"), format!("{number}").as_str());
            }
            assert!(publisher.try_recv().is_err());
        }
    }

    /// A body that panics when it is let go, and is too long to be copied.
    struct Touchy([u8; 100_000]);

    impl AsRef<[u8]> for Touchy {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Touchy {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }

    #[test]
    fn bodies_that_panic_when_they_are_let_go_take_nothing_else_along() {
        let context = Context::new();
        let (subscriber, publisher, peer) = pair(&context);
        for number in 0..3 {
            let touchy = Bytes::from_owner(Touchy([1; 100_000]));
            // A subscription in the second frame is none, unless the first is one.
            subscriber.send([Bytes::from_static(b"\x01first"), touchy]).expect("there is room");
            subscriber.send(format!("{number}")).expect("there is room");
        }
        publisher.core.absorb(peer);
        let received = std::iter::from_fn(|| publisher.try_recv().ok()).filter(|message| message.first()[0] > 1);
        assert!(received.eq(["0", "1", "2"]));
    }
}
