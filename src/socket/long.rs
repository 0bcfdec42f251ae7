//! Long messages are written by whoever sends them, from where they are. One that the caller keeps is not copied then unless its
//! peer falls behind; and no driver is called, whose caches would be cold.

use super::core::{Core, Deadline, Next, Wait};
use super::flushing::FLUSH_BUDGET;
use super::patience::Patience;
use super::sending::{Payload, Routing, Wire};
use crate::engine::Flush;
use crate::engine::contain::contain;
use crate::engine::port::Command;
use crate::message::{Message, wire};
use crate::peer::PeerId;
use crate::queue::BORROWED_COPY_LIMIT;
use crate::queue::outbox::Batch;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use wiremesh_transports::Stream;

/// A long message: too long to be copied beside its header, and worth a write of its own.
#[derive(Clone, Copy)]
pub(super) enum Long<'a> {
    /// One frame that the caller keeps.
    Borrowed(&'a [u8]),
    /// One that is shared with the queue.
    Shared(&'a Message),
}

/// What is to be done with a long message now.
enum Place<'a> {
    /// It passes by the queue of that peer; the batch brings it back.
    Here(PeerId, Arc<dyn Stream>, Batch, &'a [u8]),
    /// It is in the queue of that peer, and alone there.
    Queued(PeerId),
    /// Something else waits for that peer, or is being written.
    Behind(PeerId),
    /// It is better queued like any other.
    Elsewhere,
}

impl Core {
    /// Sends a long message on this thread if its peer is likely to take it quickly; `false` where it is to be queued instead.
    #[inline(never)]
    pub(super) fn send_long(&self, message: Long<'_>, wait: Wait) -> bool {
        if message.size() <= BORROWED_COPY_LIMIT || self.is_forked() || !self.switch().adaptive_spin {
            return false;
        }
        let deadline = match self.send_deadline(wait) {
            Deadline::Now => return false,
            Deadline::At(at) => Some(at),
            Deadline::Never => None,
        };
        let mut patience = Patience::new(Instant::now(), deadline);
        loop {
            let peer = match self.place_long(message) {
                Place::Here(peer, stream, batch, body) => {
                    let flushed = self.write_here(peer, &*stream, batch, body, &mut patience);
                    self.conclude(peer, flushed, &patience);
                    return true;
                }
                Place::Queued(peer) => {
                    let flushed = self.write_out(peer, FLUSH_BUDGET, true, Some(&mut patience));
                    self.conclude(peer, flushed, &patience);
                    return true;
                }
                Place::Behind(peer) => peer,
                Place::Elsewhere => return false,
            };
            let flushed = self.write_out(peer, FLUSH_BUDGET, true, Some(&mut patience));
            let go_on = match flushed {
                Flush::Done => true,
                Flush::Busy | Flush::Again => patience.lasts(Instant::now()) && !self.is_closed(),
                Flush::Blocked | Flush::Failed => false,
            };
            if !go_on {
                self.conclude(peer, flushed, &patience);
                return false;
            }
            if flushed == Flush::Busy {
                std::thread::yield_now();
            }
        }
    }

    /// Finds out where a long message stands, and takes it if it is first with the peer whose turn it is.
    fn place_long<'a>(&self, message: Long<'a>) -> Place<'a> {
        let mut guard = self.lock_send();
        let side = &mut *guard;
        let Routing::Balance(balance) = &mut side.routing else { return Place::Elsewhere };
        let Some(slot) = balance.first() else { return Place::Elsewhere };
        let Some(peer) = side.peers.at_mut(slot) else { return Place::Elsewhere };
        let Wire::Stream(stream) = &peer.wire else { return Place::Elsewhere };
        if side.closed || self.conflate || !peer.trust.holds(peer.counts.written_bytes) {
            return Place::Elsewhere;
        }
        if !peer.outbox.is_idle() {
            return Place::Behind(peer.id);
        }
        if !peer.has_room(message.size(), side.marks, self) {
            return Place::Elsewhere;
        }
        let (id, stream) = (peer.id, Arc::clone(stream));
        balance.choose(|chosen| chosen == slot);
        // What may have been the answer is on its way.
        let _ =
            self.next.compare_exchange(Next::Answer as u8, Next::Unknown as u8, Ordering::Relaxed, Ordering::Relaxed);
        match message {
            Long::Borrowed(body) => {
                side.counts.accepted += 1;
                peer.counts.accepted += 1;
                Place::Here(id, stream, peer.outbox.pass_by(), body)
            }
            Long::Shared(message) => {
                // What it asks to be done follows at once.
                let _ = side.push(slot, &[], Payload::Message(message), self);
                Place::Queued(id)
            }
        }
    }

    /// Writes a message from where it is. What its peer does not take in time waits in the queue.
    fn write_here(
        &self,
        id: PeerId,
        stream: &dyn Stream,
        mut batch: Batch,
        body: &[u8],
        patience: &mut Patience,
    ) -> Flush {
        let (header, size) = wire::header(0, body.len());
        let header = &header[..size];
        let mut written = 0;
        // Outside of a round, so whoever drives next is told. The batch is settled in any case.
        let outcome = contain(|| write_message(stream, header, body, &mut written, patience)).unwrap_or_else(|panic| {
            self.port.submit(Command::Fail(panic));
            Flush::Busy
        });
        batch.passed_by(header, body, written);
        match self.bring_back(id, batch, outcome, true) {
            // Others have queued something meanwhile.
            Ok(guard) => {
                drop(guard);
                self.write_out(id, FLUSH_BUDGET, true, Some(patience))
            }
            Err(flushed) => flushed,
        }
    }

    /// Remembers how the peer did, and leaves to a driver what is left.
    fn conclude(&self, id: PeerId, flushed: Flush, patience: &Patience) {
        if let Some(peer) = self.lock_send().peer_mut(id) {
            let taken = peer.counts.written_bytes;
            match flushed {
                Flush::Done => peer.trust.prove(),
                Flush::Blocked if !patience.is_earned(Instant::now()) => peer.trust.lose(taken),
                Flush::Blocked | Flush::Again | Flush::Busy | Flush::Failed => {}
            }
        }
        self.leave_rest(id, flushed);
    }
}

impl Long<'_> {
    fn size(&self) -> usize {
        match self {
            Long::Borrowed(body) => body.len(),
            Long::Shared(message) => message.byte_len(),
        }
    }
}

/// Writes a message until it is done or its peer has exhausted the patience.
fn write_message(
    stream: &dyn Stream,
    header: &[u8],
    body: &[u8],
    written: &mut usize,
    patience: &mut Patience,
) -> Flush {
    loop {
        let rest = [
            IoSlice::new(header.get(*written..).unwrap_or_default()),
            IoSlice::new(body.get(written.saturating_sub(header.len())..).unwrap_or_default()),
        ];
        match stream.write_vectored(&rest) {
            Ok(0) => return Flush::Failed,
            Ok(octets) => {
                *written += octets;
                patience.note(octets);
                if *written >= header.len() + body.len() {
                    return Flush::Done;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !patience.lasts(Instant::now()) {
                    return Flush::Blocked;
                }
                std::thread::yield_now();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Flush::Failed,
        }
    }
}
