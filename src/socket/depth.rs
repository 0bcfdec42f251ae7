//! A sender that is far ahead of a peer which takes what is written waits for it a moment, although its marks would
//! allow more: a queue that stays in the processor's cache is written twice as fast as one that does not. Who does not
//! wait, or has waited in vain or for something else before, fills the queue to its marks.

use super::core::Core;
use super::sending::{Peer, Routing};
use std::time::{Duration, Instant};

/// The longest such wait. A peer that takes less than half a gigabyte a second does not end it in time, and is filled
/// up for a while.
const PATIENCE: Duration = Duration::from_millis(4);

impl Core {
    /// Until when to wait because queues are deep; `None` where that is not what is in the way.
    pub(super) fn depth_deadline(&self, deadline: Option<Instant>) -> Option<Instant> {
        let mut is_deep = false;
        self.visit_deep(|_| is_deep = true);
        let patience = is_deep.then(|| Instant::now() + PATIENCE)?;
        Some(deadline.map_or(patience, |deadline| deadline.min(patience)))
    }

    /// Queues are filled to their marks from now on although they are deep. Returns true if that makes room. Peers that
    /// were waited for `in_vain` are not waited for again before they have taken much.
    pub(super) fn pass_depth(&self, in_vain: bool) -> bool {
        let mut any = false;
        self.visit_deep(|peer| {
            peer.credit.pass_depth();
            if in_vain {
                peer.about.trust.lose(peer.counts.written_bytes);
            }
            any = true;
        });
        any
    }

    fn visit_deep(&self, mut visit: impl FnMut(&mut Peer)) {
        let mut guard = self.lock_send();
        let side = &mut *guard;
        let Routing::Balance(balance) = &side.routing else { return };
        for slot in balance.peers() {
            if let Some(peer) = side.peers.at_mut(*slot).filter(|peer| peer.credit.is_deep()) {
                visit(peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::waiters::Interest;
    use crate::queue::credit::{Credit, DEPTH};
    use crate::{Context, Pull, Push};

    const LIMIT: Duration = Duration::from_secs(10);
    const BUFFER: usize = 64 * 1024;
    const BODY: [u8; 16 * 1024] = [7; 16 * 1024];

    /// A sender whose peer reads nothing, as its receive mark is reached, and whose system takes little.
    fn beside_a_peer_that_reads_nothing(test: impl FnOnce(&Push)) {
        let (context, other) = (Context::new(), Context::new());
        let pull =
            Pull::builder().context(&other).receive_mark(1).receive_buffer(Some(BUFFER)).build().expect("a PULL");
        let push = Push::builder()
            .context(&context)
            .linger(Some(Duration::ZERO))
            .send_buffer(Some(BUFFER))
            .build()
            .expect("a PUSH");
        push.connect(pull.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
        push.wait_for_peers(1, LIMIT).expect("a peer");
        test(&push);
    }

    fn is_deep(push: &Push) -> bool {
        let mut any = false;
        push.core.visit_deep(|_| any = true);
        any
    }

    fn queued(push: &Push) -> usize {
        push.stats().queued_bytes as usize
    }

    #[test]
    fn a_sender_waits_a_moment_for_a_deep_queue_and_fills_it_to_the_mark_if_that_was_in_vain() {
        beside_a_peer_that_reads_nothing(|push| {
            while !is_deep(push) {
                push.send(&BODY[..]).expect("accepted");
            }
            assert!((DEPTH..2 * DEPTH).contains(&queued(push)), "{} octets", queued(push));
            let begin = Instant::now();
            push.send(&BODY[..]).expect("accepted below the mark");
            assert!(begin.elapsed() >= PATIENCE, "it waited {:?}", begin.elapsed());
            while queued(push) < 8 * DEPTH {
                assert!(!is_deep(push), "it is not waited for again");
                push.send(&BODY[..]).expect("accepted below the mark");
            }
        });
    }

    #[test]
    fn a_send_that_does_not_wait_is_accepted_whatever_the_depth() {
        beside_a_peer_that_reads_nothing(|push| {
            while queued(push) < 8 * DEPTH {
                push.try_send(&BODY[..]).expect("accepted below the mark");
            }
            push.set(crate::Setting::SendTimeout(Some(Duration::from_nanos(1)))).expect("an option");
            while queued(push) < 10 * DEPTH {
                push.send(&BODY[..]).expect("accepted below the mark");
            }
        });
    }

    #[test]
    fn a_sender_that_waits_for_a_mark_already_does_not_wait_for_a_deep_queue_as_well() {
        beside_a_peer_that_reads_nothing(|push| {
            push.set(crate::Setting::SendTimeout(Some(LIMIT))).expect("an option");
            credit(push, |credit| credit.fill(1, 1));
            std::thread::scope(|scope| {
                let sender = scope.spawn(|| push.send(&BODY[..]));
                while push.core.waiters.is_empty() && !push.core.drivers.wait_for(Interest::ROOM) {
                    std::thread::yield_now();
                }
                // Others filled it again before this one got there.
                credit(push, |credit| {
                    credit.fill(0, 1);
                    credit.deepen(DEPTH);
                    assert!(credit.is_deep());
                });
                push.core.tell_waiters(Interest::ROOM);
                sender.join().expect("no panic").expect("accepted below the mark");
            });
        });
    }

    /// Does something with the credit of the only peer.
    fn credit(push: &Push, act: impl FnOnce(&mut Credit)) {
        let mut guard = push.core.lock_send();
        let side = &mut *guard;
        let Routing::Balance(balance) = &side.routing else { return };
        act(&mut side.peers.at_mut(balance.peers()[0]).expect("the peer").credit);
    }
}
