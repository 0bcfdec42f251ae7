//! Writing what waits for a peer: on the sending thread, by whoever drives, or by a sender that found no room.

use super::core::Core;
use super::patience::Patience;
use super::sending::{Routing, SendSide, Wire};
use crate::engine::Flush;
use crate::engine::contain::contain;
use crate::engine::inside;
use crate::engine::port::Command;
use crate::engine::waiters::Interest;
use crate::peer::PeerId;
use crate::queue::gate::Pass;
use crate::queue::let_go;
use crate::queue::outbox::Batch;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wiremesh_transports::Stream;

/// A driver called to a burst looks after this time whether it has grown, so many times at most, and not if there is
/// enough to write.
const SETTLE: Duration = Duration::from_micros(2);
const SETTLE_ROUNDS: usize = 5;
const ENOUGH: usize = 256;
/// A driver that does not get its processor back within this time has lost it to others than the sender.
const LOST: Duration = Duration::from_millis(1);
/// How many octets a sending caller writes itself before it leaves the rest to whoever drives.
const INLINE_BUDGET: usize = 64 * 1024;
/// How many octets one flush of a driver writes before other peers get their turn.
const FLUSH_BUDGET: usize = 1024 * 1024;
/// From so many octets a message on a stream that blocks may be widened. Of 8 octets a receiver takes fewer a second
/// out of a wider one.
const WORTH_WIDENING: usize = 32;

impl Core {
    /// Writes a little of what waits for a peer, on the sending thread.
    #[inline(never)]
    pub(super) fn flush_inline(&self, peer: PeerId) {
        let flushed = self.write_out(peer, &mut Effort::inline());
        self.leave_rest(peer, flushed);
    }

    /// Leaves to a driver what a caller's flush has not written.
    pub(super) fn leave_rest(&self, peer: PeerId, flushed: Flush) {
        if matches!(flushed, Flush::Blocked | Flush::Again | Flush::Failed) && self.lock_send().mark_dirty(peer) {
            self.port.ring();
        }
    }

    /// What was written is held no longer. In a shortage senders may wait for that: the marks do not tell them, as they
    /// were told when the batch was taken.
    pub(super) fn after_flush(&self, peer: PeerId) {
        self.context.attend();
        if !self.queued.is_strained() {
            return;
        }
        let room = {
            let mut side = self.lock_send();
            side.hungry && side.gave_room(peer.slot())
        };
        if room {
            self.tell_waiters(Interest::ROOM);
        }
    }

    /// A sender at the mark helps itself before it sleeps; whether that made room.
    pub(super) fn relieve(&self) {
        let first = match &self.lock_send().routing {
            Routing::Balance(balance) | Routing::Request(balance, _) => balance.first(),
            Routing::Nowhere | Routing::Reply(_) | Routing::Router(_) | Routing::Publish(_) | Routing::Upstream => None,
        };
        let peer = first.and_then(|slot| self.lock_send().peers.at(slot).map(|peer| peer.id));
        if let Some(peer) = peer {
            let flushed = self.write_out(peer, &mut Effort::driver());
            self.leave_rest(peer, flushed);
        }
    }

    /// Lets the rest of a burst that has just begun come, a few microseconds at most, so that it is written whole.
    pub(super) fn await_burst(&self) {
        let mut before = None;
        for _ in 0..SETTLE_ROUNDS {
            let side = self.lock_send();
            let first = side.dirty.first().and_then(|id| side.peer(*id));
            let accepted = Some(side.counts.accepted);
            let enough = first.is_none_or(|peer| peer.outbox.waiting() >= ENOUGH);
            let settled = enough || accepted == before || !side.tempo.may_grow();
            drop(side);
            if settled {
                return;
            }
            before = accepted;
            let begin = Instant::now();
            while begin.elapsed() < SETTLE {
                // The sender may have been put aside on this very processor for the driver it woke.
                std::thread::yield_now();
            }
            if begin.elapsed() >= LOST {
                self.lock_send().tempo.note_crowd();
            }
        }
    }

    /// Writes what waits for a peer.
    pub(super) fn write_out(&self, id: PeerId, effort: &mut Effort) -> Flush {
        let mut guard = self.lock_send();
        loop {
            let side = &mut *guard;
            let Some(peer) = side.peers.get_mut(id.key()) else { return Flush::Busy };
            peer.deferred = false;
            if std::mem::take(&mut peer.dirty) && effort.by_sender {
                // A driver has taken the list; here the peer is still on it, and would be there twice.
                side.dirty.retain(|other| *other != id);
            }
            let Wire::Stream(stream) = &peer.wire else { return Flush::Busy };
            let stream = Arc::clone(stream);
            let Some(mut batch) = peer.outbox.begin() else {
                let flushed = if peer.outbox.is_idle() { Flush::Done } else { Flush::Busy };
                drop(guard);
                self.after_flush(id);
                return flushed;
            };
            let room = side.gave_room(id.slot());
            drop(guard);
            self.context.attend();
            if room {
                self.tell_waiters(Interest::ROOM);
            }
            let outcome = self.with_stream(stream, |stream| {
                let outcome = effort.spend(|| {
                    let octets = batch.write(|slices| stream.write_vectored(slices))?;
                    Ok((octets, batch.is_empty()))
                });
                if outcome == Flush::Blocked && batch.octets_a_message() >= WORTH_WIDENING {
                    stream.widen();
                }
                note_missing(stream, &mut batch, 0);
                outcome
            });
            guard = match self.bring_back(id, batch, outcome, effort) {
                ControlFlow::Continue(guard) => guard,
                ControlFlow::Break(flushed) => {
                    self.after_flush(id);
                    return flushed;
                }
            };
        }
    }

    /// Lets a stream be written to, with no gate held: it may be code of the application, which may use the socket, or
    /// panic. If the connection goes meanwhile the stream goes here.
    pub(super) fn with_stream(&self, stream: Arc<dyn Stream>, write: impl FnOnce(&dyn Stream) -> Flush) -> Flush {
        let _stay = inside::stay();
        let mut stream = Some(stream);
        let outcome = contain(|| {
            let outcome = stream.as_deref().map_or(Flush::Busy, write);
            stream = None;
            outcome
        });
        // Outside of a round, so whoever drives next is told. The batch is settled in any case.
        outcome.unwrap_or_else(|panic| {
            let_go(stream);
            self.port.submit(Command::Fail(panic));
            Flush::Busy
        })
    }

    /// Brings back the batch a flusher had, after writes that came to `outcome`. The gate comes with it if there is
    /// more to write, and effort left for it, else how the flush ended.
    pub(super) fn bring_back(
        &self,
        id: PeerId,
        batch: Batch,
        outcome: Flush,
        effort: &Effort,
    ) -> ControlFlow<Flush, Pass<'_, SendSide>> {
        let mut guard = self.lock_send();
        let side = &mut *guard;
        if effort.by_sender {
            side.tempo.go_on();
        }
        // A peer that goes meanwhile stays in the table until its batch is settled here.
        let Some(peer) = side.peers.get_mut(id.key()) else { return ControlFlow::Break(Flush::Busy) };
        let settled = peer.outbox.finish(batch, &mut side.pool);
        // What comes back after the connection was lost counts against the mark again.
        peer.note_fill(side.marks);
        peer.settle(settled, &mut side.counts);
        peer.recharge();
        if settled.rewound && !peer.condemned {
            let given_up = self.judge(side, id);
            drop(guard);
            self.tell_given_up(given_up);
            // What was lost waits for the next connection, which may be there already.
            return ControlFlow::Break(Flush::Again);
        }
        if peer.condemned {
            side.remove_settled(id);
            let finished = side.finishing && !side.is_settling();
            drop(guard);
            self.tell_waiters(Interest::CHANGE);
            if finished {
                self.context.finished(self);
            }
            return ControlFlow::Break(Flush::Busy);
        }
        if outcome != Flush::Done {
            return ControlFlow::Break(outcome);
        }
        if peer.outbox.has_work() {
            let spent = effort.is_spent();
            return if spent { ControlFlow::Break(Flush::Again) } else { ControlFlow::Continue(guard) };
        }
        // An endpoint that ends waits for this, and the reactor may not have seen it; so may the connection, which has
        // more to say.
        let calls = peer.retired || peer.outbox.take_call() || side.closed;
        let ends = calls && side.mark_dirty(id);
        drop(guard);
        self.tell_waiters(Interest::CHANGE);
        if ends {
            self.port.ring();
        }
        ControlFlow::Break(Flush::Done)
    }
}

/// Where what was written is kept until the peer's system has it, asks how much of it that lacks. Nobody else writes to
/// the stream before the batch is back. `bypassed` is the length of a body that does not come from the batch.
pub(super) fn note_missing(stream: &dyn Stream, batch: &mut Batch, bypassed: usize) {
    if batch.keeps_sent(bypassed) {
        batch.note_missing(stream.unsent());
    }
}

/// How far a flush goes before other peers, or the caller, get their turn.
pub(super) struct Effort {
    /// Octets it may still write.
    left: usize,
    /// The sender itself writes: the time that takes is no pause between its messages.
    by_sender: bool,
    /// How long it stays with a stream that blocks.
    patience: Option<Patience>,
}

impl Effort {
    /// A sending caller that leaves most to whoever drives.
    pub(super) fn inline() -> Effort {
        Effort { left: INLINE_BUDGET, by_sender: true, patience: None }
    }

    /// A driver, or a sender that would have to wait.
    pub(super) fn driver() -> Effort {
        Effort { left: FLUSH_BUDGET, by_sender: false, patience: None }
    }

    /// A sender that stays as long as its peer takes what it writes quickly.
    pub(super) fn patient(patience: Patience) -> Effort {
        Effort { left: usize::MAX, by_sender: true, patience: Some(patience) }
    }

    /// Calls a writer, which says how many octets it wrote and whether that was all, until that is all, its stream
    /// blocks or the effort is spent.
    pub(super) fn spend(&mut self, mut write: impl FnMut() -> io::Result<(usize, bool)>) -> Flush {
        loop {
            match write() {
                Ok((octets, all)) => {
                    self.note(octets);
                    if all {
                        return Flush::Done;
                    }
                    if octets == 0 {
                        return Flush::Failed;
                    }
                    if self.is_spent() {
                        return Flush::Again;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.waits() {
                        return Flush::Blocked;
                    }
                    std::thread::yield_now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Flush::Failed,
            }
        }
    }

    fn note(&mut self, octets: usize) {
        self.left = self.left.saturating_sub(octets);
        if let Some(patience) = &mut self.patience {
            patience.note(octets);
        }
    }

    /// Whether it is over, though the stream may take more.
    pub(super) fn is_spent(&self) -> bool {
        self.left == 0 || self.patience.as_ref().is_some_and(|patience| !patience.lasts(Instant::now()))
    }

    /// Whether it stays with a stream that blocks.
    fn waits(&self) -> bool {
        self.patience.as_ref().is_some_and(|patience| patience.lasts(Instant::now()))
    }

    /// Whether the peer was too slow.
    pub(super) fn is_wasted(&self) -> bool {
        self.patience.as_ref().is_some_and(|patience| !patience.is_earned(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effort_is_spent_by_what_is_written_in_one_call_as_well() {
        for (mut effort, budget) in [(Effort::inline(), INLINE_BUDGET), (Effort::driver(), FLUSH_BUDGET)] {
            let mut written = 0;
            while !effort.is_spent() {
                // A batch that the stream takes whole.
                assert_eq!(effort.spend(|| Ok((1000, true))), Flush::Done);
                written += 1000;
            }
            assert_eq!(written, budget.div_ceil(1000) * 1000);
            assert_eq!(effort.spend(|| Ok((1, false))), Flush::Again);
        }
    }
}
