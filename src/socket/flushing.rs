//! Writing what waits for a peer: on the sending thread, by whoever drives, or by a sender that found no room.

use super::core::Core;
use super::patience::Patience;
use super::sending::{Peer, Routing, SendSide, Wire};
use crate::engine::Flush;
use crate::engine::contain::contain;
use crate::engine::port::Command;
use crate::engine::waiters::Interest;
use crate::peer::PeerId;
use crate::queue::gate::Pass;
use crate::queue::outbox::Batch;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wiremesh_transports::Stream;

/// A driver called to a burst looks after this time whether it has grown, so many times at most, and not if there is enough to write.
const SETTLE: Duration = Duration::from_micros(2);
const SETTLE_ROUNDS: usize = 5;
const ENOUGH: usize = 256;
/// A driver that does not get its processor back within this time has lost it to others than the sender.
const LOST: Duration = Duration::from_millis(1);
/// How many octets a sending caller writes itself before it leaves the rest to whoever drives.
const INLINE_BUDGET: usize = 64 * 1024;
/// How many octets one flush of a driver writes before other peers get their turn.
pub(super) const FLUSH_BUDGET: usize = 1024 * 1024;

impl Core {
    /// Writes a little of what waits for a peer, on the sending thread.
    #[inline(never)]
    pub(super) fn flush_inline(&self, peer: PeerId) {
        let flushed = self.write_out(peer, INLINE_BUDGET, true, None);
        self.leave_rest(peer, flushed);
    }

    /// Leaves to a driver what a caller's flush has not written.
    pub(super) fn leave_rest(&self, peer: PeerId, flushed: Flush) {
        if matches!(flushed, Flush::Blocked | Flush::Again | Flush::Failed) && self.lock_send().mark_dirty(peer) {
            self.port.ring();
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
            let flushed = self.write_out(peer, FLUSH_BUDGET, false, None);
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

    /// Writes what waits for a peer, up to `budget` octets; where the stream would block, as long as there is patience.
    pub(super) fn write_out(
        &self,
        id: PeerId,
        budget: usize,
        stamp: bool,
        mut patience: Option<&mut Patience>,
    ) -> Flush {
        let mut left = budget;
        let mut guard = self.lock_send();
        loop {
            let side = &mut *guard;
            let Some(peer) = side.peers.get_mut(id.key()) else { return Flush::Busy };
            (peer.dirty, peer.deferred) = (false, false);
            let Wire::Stream(stream) = &peer.wire else { return Flush::Busy };
            let stream = Arc::clone(stream);
            let Some(mut batch) = peer.outbox.begin() else {
                return if peer.outbox.is_idle() { Flush::Done } else { Flush::Busy };
            };
            let room = side.gave_room(id.slot());
            let released = side.peers.get_mut(id.key()).map_or(0, Peer::uncharge);
            drop(guard);
            self.context.release(released);
            if room {
                self.tell_waiters(Interest::ROOM);
            }
            // Outside of a round, so whoever drives next is told. The batch is settled in any case.
            let outcome = contain(|| write_batch(&*stream, &mut batch, &mut left, patience.as_deref_mut()))
                .unwrap_or_else(|panic| {
                    self.port.submit(Command::Fail(panic));
                    Flush::Busy
                });
            guard = match self.bring_back(id, batch, outcome, stamp) {
                Ok(guard) => guard,
                Err(flushed) => return flushed,
            };
        }
    }

    /// Brings back the batch a flusher had, after a write that came to `outcome`. The gate comes with it if there is more to
    /// write by now, else how the flush ended.
    pub(super) fn bring_back(
        &self,
        id: PeerId,
        batch: Batch,
        outcome: Flush,
        stamp: bool,
    ) -> Result<Pass<'_, SendSide>, Flush> {
        let mut guard = self.lock_send();
        let side = &mut *guard;
        if stamp {
            side.tempo.go_on();
        }
        // A peer that goes meanwhile stays in the table until its batch is settled here.
        let Some(peer) = side.peers.get_mut(id.key()) else { return Err(Flush::Busy) };
        let settled = peer.outbox.finish(batch, &mut side.pool);
        peer.settle(settled, &mut side.counts);
        if peer.condemned {
            side.remove(id);
            let finished = side.finishing && !side.is_settling();
            drop(guard);
            if finished {
                self.context.finished(self);
            }
            return Err(Flush::Busy);
        }
        if outcome != Flush::Done {
            return Err(outcome);
        }
        if peer.outbox.has_work() {
            return Ok(guard);
        }
        let ends = peer.retired || side.closed;
        drop(guard);
        self.tell_waiters(Interest::CHANGE);
        if ends {
            // An endpoint that ends waits for this, and the reactor has not seen it.
            self.port.ring();
        }
        Err(Flush::Done)
    }
}

/// Writes a batch until it is done, the stream blocks, or the budget is used up.
fn write_batch(stream: &dyn Stream, batch: &mut Batch, left: &mut usize, mut patience: Option<&mut Patience>) -> Flush {
    loop {
        match batch.write(|slices| stream.write_vectored(slices)) {
            Ok(0) => return if batch.is_empty() { Flush::Done } else { Flush::Failed },
            Ok(written) => {
                *left = left.saturating_sub(written);
                if let Some(patience) = &mut patience {
                    patience.note(written);
                }
                if batch.is_empty() {
                    return Flush::Done;
                }
                if *left == 0 {
                    return Flush::Again;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !patience.as_ref().is_some_and(|patience| patience.lasts(Instant::now())) {
                    return Flush::Blocked;
                }
                std::thread::yield_now();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Flush::Failed,
        }
    }
}
