//! Long messages are written by whoever sends them, from where they are. One that the caller keeps is not copied then
//! unless its peer falls behind; and no driver is called, whose caches would be cold.

use super::core::{Core, Deadline, Wait};
use super::flushing::{Effort, note_missing};
use super::patience::Patience;
use super::sending::{Payload, Routing, SendSide, Wire};
use crate::engine::Flush;
use crate::kind::SocketKind;
use crate::message::size::Size;
use crate::message::{Message, wire};
use crate::peer::PeerId;
use crate::queue::BORROWED_COPY_LIMIT;
use crate::queue::outbox::Batch;
use std::io::IoSlice;
use std::ops::ControlFlow;
use std::sync::Arc;
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
    /// It bypasses the queue of its peer; the batch brings it back.
    Bypass { peer: PeerId, stream: Arc<dyn Stream>, batch: Batch, body: &'a [u8] },
    /// It is in the queue of that peer, and alone there.
    Alone(PeerId),
    /// Something waits for that peer, and nobody writes it now.
    Behind(PeerId),
    /// It is better queued like any other.
    Elsewhere,
}

/// How many octets of a body one write is given, so that there is time to look at the clock in between.
const PART: usize = 1024 * 1024;

impl Core {
    /// Sends a long message on this thread if its peer is likely to take it quickly. If not, says how long may still be
    /// waited for room in the queue.
    #[inline(never)]
    pub(super) fn send_long(&self, message: Long<'_>, wait: Wait) -> Result<(), Wait> {
        if message.size().octets <= BORROWED_COPY_LIMIT || !self.writes_long() {
            return Err(wait);
        }
        let deadline = match self.send_deadline(wait) {
            Deadline::Now => return Err(wait),
            Deadline::At(at) => Some(at),
            Deadline::Never => None,
        };
        let mut effort = Effort::patient(Patience::new(Instant::now(), deadline));
        loop {
            match self.place_long(message) {
                Place::Bypass { peer, stream, batch, body } => {
                    self.write_from_there(peer, stream, batch, body, &mut effort);
                    return Ok(());
                }
                Place::Alone(peer) => {
                    let flushed = self.write_out(peer, &mut effort);
                    self.conclude(peer, flushed, &effort);
                    return Ok(());
                }
                Place::Behind(peer) => {
                    let flushed = self.write_out(peer, &mut effort);
                    if flushed != Flush::Done || effort.is_spent() {
                        self.conclude(peer, flushed, &effort);
                        break;
                    }
                }
                Place::Elsewhere => break,
            }
        }
        Err(match deadline {
            Some(at) => Wait::For(at.saturating_duration_since(Instant::now())),
            None => wait,
        })
    }

    /// Whether the sender may write at all: others than these send to whom a message names, or must not wait.
    fn writes_long(&self) -> bool {
        matches!(self.kind, SocketKind::Push | SocketKind::Dealer | SocketKind::Pair)
            && !self.conflate
            && !self.is_forked()
            && self.switch().adaptive_spin
    }

    /// Finds out where a long message stands, and takes it if it is first with the peer whose turn it is.
    fn place_long<'a>(&self, message: Long<'a>) -> Place<'a> {
        let mut guard = self.lock_send();
        let side = &mut *guard;
        let SendSide { routing: Routing::Balance(balance), peers, marks, largest, closed: false, .. } = side else {
            return Place::Elsewhere;
        };
        if !message.size().is_within(*largest) {
            return Place::Elsewhere;
        }
        let has_room = |slot| peers.at(slot).is_some_and(|peer| peer.has_room(message.size(), *marks, self));
        let Some(slot) = balance.candidate(has_room) else { return Place::Elsewhere };
        let Some(peer) = peers.at_mut(slot) else { return Place::Elsewhere };
        let Wire::Stream(stream) = &peer.wire else { return Place::Elsewhere };
        if !peer.about.trust.holds(peer.counts.written_bytes) {
            return Place::Elsewhere;
        }
        if !peer.outbox.is_idle() {
            return if peer.outbox.is_flushing() { Place::Elsewhere } else { Place::Behind(peer.id) };
        }
        let (id, stream) = (peer.id, Arc::clone(stream));
        balance.choose(|chosen| chosen == slot);
        let place = match message {
            Long::Borrowed(body) => {
                side.counts.accepted += 1;
                peer.counts.accepted += 1;
                Place::Bypass { peer: id, stream, batch: peer.outbox.bypass(), body }
            }
            Long::Shared(message) => {
                side.enqueue(slot, &[], Payload::Message(message), self, true);
                Place::Alone(id)
            }
        };
        side.tempo.is_lone(side.counts.accepted);
        self.note_answered();
        place
    }

    /// Writes a body from where it is. What its peer does not take in time waits in the queue.
    fn write_from_there(
        &self,
        id: PeerId,
        stream: Arc<dyn Stream>,
        mut batch: Batch,
        body: &[u8],
        effort: &mut Effort,
    ) {
        let (header, size) = wire::header(0, body.len());
        let (header, whole) = (&header[..size], size + body.len());
        let mut written = 0;
        let outcome = self.with_stream(stream, |stream| {
            let outcome = effort.spend(|| {
                let head = header.get(written..).unwrap_or_default();
                let rest = body.get(written.saturating_sub(size)..).unwrap_or_default();
                let octets =
                    stream.write_vectored(&[IoSlice::new(head), IoSlice::new(rest.get(..PART).unwrap_or(rest))])?;
                written += octets;
                Ok((octets, written >= whole))
            });
            note_missing(stream, &mut batch, body.len());
            outcome
        });
        batch.note_bypass(header, body, written);
        let rest = self.bring_back(id, batch, outcome, effort);
        if let ControlFlow::Continue(guard) = rest {
            // What others have queued meanwhile is not this sender's, and says nothing of the peer.
            drop(guard);
            self.conclude(id, Flush::Done, effort);
            self.flush_inline(id);
        } else if let ControlFlow::Break(flushed) = rest {
            self.conclude(id, flushed, effort);
        }
    }

    /// Remembers how the peer did, and leaves to a driver what is left.
    fn conclude(&self, id: PeerId, flushed: Flush, effort: &Effort) {
        if let Some(peer) = self.lock_send().peer_mut(id) {
            let taken = peer.counts.written_bytes;
            match flushed {
                Flush::Done => peer.about.trust.prove(),
                Flush::Blocked | Flush::Again if effort.is_wasted() => peer.about.trust.lose(taken),
                Flush::Blocked | Flush::Again | Flush::Busy | Flush::Failed => {}
            }
        }
        self.leave_rest(id, flushed);
        self.after_flush(id);
    }
}

impl Long<'_> {
    fn size(&self) -> Size {
        match self {
            Long::Borrowed(body) => Size::of_frame(body.len()),
            Long::Shared(message) => message.size(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Context, Pull, Push};
    use std::time::Duration;

    #[test]
    fn what_is_written_at_once_leaves_nothing_for_a_driver_to_do() {
        let (context, other) = (Context::new(), Context::new());
        let (pull, push) = (Pull::in_context(&other), Push::in_context(&context));
        push.connect(pull.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
        push.wait_for_peers(1, Duration::from_secs(10)).expect("a peer");
        for round in 0..200 {
            push.send(vec![7; 40_000]).expect("accepted");
            push.send(&[7; 40_000][..]).expect("accepted");
            let dirty = push.core.lock_send().dirty.len();
            assert!(dirty <= 1, "{dirty} entries after {round} rounds");
            for _ in 0..2 {
                assert_eq!(pull.recv_timeout(Duration::from_secs(10)).expect("a message"), &[7; 40_000]);
            }
        }
    }
}
