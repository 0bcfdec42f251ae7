//! What is to be sent to one peer: the queue a sender fills, and the batch a flusher is writing.

use super::append::append;
use super::changes::{Change, ChangeKind, Changes, Load};
use super::chunk::{Extent, Mark};
use super::doubt::{Doubt, Ending};
use super::piece::{self, Piece, Walk};
use super::replay::Replay;
use super::sent::{KEPT, Sent};
use super::sift::{Sifted, sift};
use super::{BATCH, COPY_LIMIT, PIECE, push_sparing};
use crate::message::size::Size;
use crate::message::wire;
use crate::message::{Frame, Message};
use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// Buffers of full size that have been written and wait to be filled again; shared by the outboxes of a socket.
pub(crate) struct Pool {
    buffers: Vec<Vec<u8>>,
    /// Bodies taken out of the outboxes, to go once no lock is held: see [`Guarded`](super::gate::Guarded).
    remains: Vec<Bytes>,
}

impl Pool {
    /// At most a mebibyte rests here.
    const KEPT: usize = 16;

    pub(crate) const fn new() -> Pool {
        Pool { buffers: Vec::new(), remains: Vec::new() }
    }

    /// Whether a buffer is of a size that is worth keeping.
    fn wants(buffer: &Vec<u8>) -> bool {
        (PIECE..=2 * PIECE).contains(&buffer.capacity())
    }

    pub(crate) fn put(&mut self, mut buffer: Vec<u8>) {
        if Pool::wants(&buffer) && self.buffers.len() < Pool::KEPT {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    /// These pieces are about to be taken out: their bodies stay until the remains go.
    pub(super) fn hold<'a>(&mut self, pieces: impl Iterator<Item = &'a Piece>) {
        self.remains.extend(pieces.filter_map(Piece::body).cloned());
    }

    /// Bodies that were received and are needed no longer. Shorter ones were copied on their way here.
    pub(crate) fn lay_aside(&mut self, bodies: impl IntoIterator<Item = Bytes>) {
        self.remains.extend(bodies.into_iter().filter(|body| body.len() > COPY_LIMIT));
    }

    #[inline(always)]
    pub(crate) fn has_remains(&self) -> bool {
        !self.remains.is_empty()
    }

    pub(crate) fn take_remains(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.remains)
    }

    fn take(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }
}

/// The queue of one peer, in wire form. Whole messages only; nothing here knows sockets.
#[derive(Default)]
pub(crate) struct Outbox {
    sealed: VecDeque<Piece>,
    /// The buffer that is being filled, behind everything sealed.
    tail: Vec<u8>,
    tail_messages: u32,
    /// Messages and octets in `sealed` and `tail`.
    messages: usize,
    bytes: usize,
    /// What changes of subscriptions take, their octets being among these, and above how much they are condensed.
    changes: Load,
    change_limit: usize,
    /// What the connection is still to be told of all subscriptions, while there is a barrier.
    replay: Option<Box<Replay>>,
    /// How many of them were put in front: what a new connection is sent before anything else.
    greetings: usize,
    /// How much was in the latest buffers when they were taken: what the next one had better hold at once.
    habit: usize,
    /// Where the last extent pushed here ended, whether it was kept as an extent or copied.
    last: Mark,
    /// Taken by a flusher and not yet written whole, and the octets of that when it was last here.
    batch: Batch,
    batch_bytes: usize,
    /// A flusher is writing the batch at this moment.
    flushing: bool,
    /// Messages handed to a flusher that are not settled yet: the batch's, while it is out.
    in_flight: usize,
    /// The frames of one message are being appended: what is sealed now does not end a message.
    open: bool,
    /// What happened to the connection while a flusher had the batch.
    verdict: Verdict,
    /// Whether long messages are kept until the peer's system has acknowledged them, and those that are.
    keeps_sent: bool,
    sent: Sent,
    /// A doubtful message is in front, and waits: only commands and greetings leave.
    held: bool,
    urgent: Urgent,
}

/// What the connection itself has said last.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Urgent {
    /// It is written.
    #[default]
    Written,
    /// It is queued, or taken by a flusher.
    Waits,
    /// So it is, and the connection has more to say.
    Awaited,
}

/// A connection is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) ending: Ending,
    /// How many of the octets written its peer's system had not acknowledged.
    pub(crate) unacknowledged: usize,
}

/// What is to become of a batch that is out when its connection goes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Verdict {
    /// Nothing happened.
    #[default]
    Keep,
    /// The connection was lost and will come back: what is not written waits again.
    Rewind(Lost),
    /// The peer is gone: what is not written is dropped.
    Drop,
}

/// What became of the messages a flusher had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Written whole: the kernel has them.
    pub(crate) written: usize,
    /// Octets of messages, whole or not, that the kernel has.
    pub(crate) written_bytes: usize,
    /// Dropped, because their peer went while they were being written.
    pub(crate) dropped: usize,
    /// The octets dropped.
    pub(crate) dropped_bytes: usize,
    /// Counted as written before, and waiting again: the kernel had them, and the peer never read them.
    pub(crate) recalled: usize,
    /// A batch came back whose connection had been lost: what was not written waits again.
    pub(crate) rewound: bool,
}

impl Outbox {
    /// Whether nothing is queued, taken or being written: the next message may go out at once.
    #[inline(always)]
    pub(crate) fn is_idle(&self) -> bool {
        self.messages == 0 && !self.flushing && self.tail.is_empty() && self.sealed.is_empty() && self.batch.is_empty()
    }

    /// Whether a flusher has something in hand.
    pub(crate) fn is_flushing(&self) -> bool {
        self.flushing
    }

    /// Whether there is anything to write.
    pub(crate) fn has_work(&self) -> bool {
        !self.tail.is_empty() || !self.sealed.is_empty() || !self.batch.is_empty()
    }

    /// Messages waiting, without those a flusher took.
    #[inline(always)]
    pub(crate) fn waiting(&self) -> usize {
        self.messages
    }

    /// Octets waiting, without those a flusher took.
    #[inline(always)]
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.bytes
    }

    /// Octets that are held here: those that wait, and what a flusher had or has in hand, as it was when it took that.
    /// Changes of subscriptions count with what they take in memory, which is a multiple of their octets.
    #[inline(always)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes + self.batch_bytes + self.changes.beside
    }

    /// Octets waiting or taken and not written, as far as no flusher has them in hand.
    pub(crate) fn pending(&self) -> usize {
        self.bytes + self.batch.remaining()
    }

    /// Messages waiting or taken and not yet written whole.
    pub(crate) fn queued(&self) -> usize {
        self.messages + self.in_flight
    }

    /// Appends a message of one short frame.
    #[inline(always)]
    pub(crate) fn push_body(&mut self, body: &[u8], pool: &mut Pool) {
        self.frame(body, 0, pool);
        self.tail_messages += 1;
        self.messages += 1;
    }

    /// Appends a message behind the frames of `envelope`, all as one message.
    pub(crate) fn push(&mut self, envelope: &[Bytes], message: &Message, pool: &mut Pool) {
        for frame in envelope {
            self.frame_of(frame, || frame.clone(), wire::MORE, pool);
            self.open = true;
        }
        let last = message.len() - 1;
        for (index, frame) in message.frames().enumerate() {
            let flags = if index < last { wire::MORE } else { 0 };
            self.frame_of(frame, || Frame::clone(frame).into_bytes(), flags, pool);
            self.open = true;
        }
        self.open = false;
        self.messages += 1;
        match self.sealed.back_mut() {
            Some(body) if self.tail.is_empty() => {
                body.messages += 1;
                body.ends = true;
            }
            Some(_) | None => self.tail_messages += 1,
        }
    }

    /// Puts a message before all that waits: the first on a new connection.
    pub(crate) fn push_first(&mut self, message: &Message, pool: &mut Pool) {
        let mut alone = Outbox::default();
        alone.push(&[], message, pool);
        let Taken { pieces, messages, bytes } = alone.take_all();
        for piece in pieces.into_iter().rev() {
            self.sealed.push_front(piece);
        }
        self.messages += messages;
        self.bytes += bytes;
        self.greetings += messages;
    }

    /// Whether what was put in front for a new connection still waits there.
    pub(crate) fn is_greeting(&self) -> bool {
        self.greetings > 0
    }

    /// Appends a message that a publisher encoded once for many: as an extent where its neighbour was queued too, else
    /// as a copy, because a hundred tiny extents cost more to write than they save.
    pub(crate) fn push_extent(&mut self, extent: &Extent, pool: &mut Pool) {
        let adjacent = self.last.precedes(extent);
        self.last = extent.mark();
        let empty = self.tail.is_empty();
        if empty && self.sealed.back_mut().is_some_and(|piece| piece.merge(extent)) {
            // Taken in by its neighbour.
        } else if adjacent || (empty && self.sealed.is_empty()) || extent.len() > 1024 {
            self.seal();
            push_sparing(&mut self.sealed, Piece::extent(extent.clone()));
        } else {
            self.room(extent.len(), pool);
            self.tail.extend_from_slice(extent.as_slice());
            self.tail_messages += 1;
        }
        self.messages += 1;
        self.bytes += extent.len();
    }

    /// Queues commands that tell a new connection of subscriptions, exempt from marks. Where `rest` is left of the
    /// replay, or was left before, they come before all that was queued since it began, and that does not leave before
    /// the last step.
    pub(crate) fn push_replay(&mut self, commands: &[u8], rest: Option<Replay>) {
        self.seal();
        self.bytes += commands.len();
        let barrier = self.barrier();
        let place = barrier.unwrap_or(self.sealed.len());
        match (barrier, rest.is_some()) {
            (None, true) => self.sealed.push_back(Piece::barrier()),
            (Some(place), false) => drop(self.sealed.remove(place)),
            (None, false) | (Some(_), true) => {}
        }
        self.replay = rest.map(Box::new);
        let before = place.checked_sub(1).and_then(|before| self.sealed.get_mut(before));
        match before.and_then(Piece::commands_mut).filter(|buffer| buffer.len() + commands.len() <= PIECE) {
            Some(buffer) => buffer.extend_from_slice(commands),
            None if commands.is_empty() => {}
            None => self.sealed.insert(place, Piece::commands(commands.to_vec())),
        }
    }

    /// What is left of a replay. It must be given back with what is told next.
    pub(crate) fn take_replay(&mut self) -> Option<Replay> {
        self.replay.take().map(|replay| *replay)
    }

    pub(crate) fn is_replaying(&self) -> bool {
        self.replay.is_some()
    }

    /// The replay under way, if all that it has told by now is written.
    pub(crate) fn written_replay(&mut self) -> Option<&mut Replay> {
        let is_written = !self.flushing && self.batch.is_empty() && self.is_at_barrier();
        self.replay.as_deref_mut().filter(|_| is_written)
    }

    /// The subscription at a place changes, and [`push_change`](Outbox::push_change) is next. Returns true if it
    /// belongs to the replay under way and would not be found by it any more, so that it is to be told at once.
    pub(crate) fn owes(&mut self, place: Option<u32>, kind: ChangeKind) -> bool {
        self.replay.as_mut().zip(place).is_some_and(|(replay, place)| replay.note(place, kind))
    }

    /// Nothing more comes of a replay: what was queued since it began may leave.
    pub(crate) fn end_replay(&mut self) {
        self.push_replay(&[], None);
    }

    fn barrier(&self) -> Option<usize> {
        self.sealed.iter().position(|piece| piece.is_barrier())
    }

    #[cfg(test)]
    fn push_command(&mut self, command: &[u8]) {
        self.push_replay(command, None);
    }

    /// Appends a change of a subscription, in order with the messages and exempt from marks. What it takes back of
    /// those behind the last message goes. Where all changes together are many, they give up their order among the
    /// messages, and only as many are kept as lead to the same subscriptions.
    pub(crate) fn push_change(&mut self, change: Change) {
        self.part();
        let before = self.sealed.back().and_then(Piece::change_load);
        if before.is_none() {
            self.sealed.push_back(Piece::changes(Changes::default()));
        }
        let Some(piece) = self.sealed.back_mut() else { return };
        if let Some(changes) = piece.changes_mut() {
            changes.push(change);
        }
        let mut now = piece.change_load().unwrap_or_default();
        if now.bytes == 0 {
            self.sealed.pop_back();
            now = Load::default();
        }
        let before = before.unwrap_or_default();
        self.bytes = self.bytes + now.bytes - before.bytes;
        self.changes.add(now);
        self.changes.subtract(before);
        if self.changes.total() > self.change_limit.max(MANY_CHANGES) {
            self.condense();
        }
    }

    #[cold]
    fn condense(&mut self) {
        let mut runs = Vec::new();
        for piece in std::mem::take(&mut self.sealed) {
            match piece.into_changes() {
                Ok(changes) => runs.push(changes),
                Err(piece) => self.append(piece),
            }
        }
        let condensed = Changes::condense(runs.into_iter());
        self.bytes = self.bytes + condensed.bytes() - self.changes.bytes;
        self.changes = Load::default();
        if condensed.bytes() > 0 {
            let piece = Piece::changes(condensed);
            self.changes.add(piece.change_load().unwrap_or_default());
            self.append(piece);
        }
        self.change_limit = 2 * self.changes.total();
    }

    /// Puts a piece behind the others. A few messages join those before them. What was put in front for a new
    /// connection is counted by pieces, and stays by itself.
    fn append(&mut self, piece: Piece) {
        let back = self.sealed.back_mut().filter(|_| self.greetings == 0 && piece.may_join());
        match back.is_some_and(|back| back.join(piece.as_slice(), piece.messages)) {
            true => {}
            false => self.sealed.push_back(piece),
        }
    }

    /// Seals the tail for a change that is to follow. Where changes stand between all messages, each message would have
    /// a piece, and a buffer that is mostly empty, for itself: a few are copied, and join those before them if nothing
    /// is left in between.
    fn part(&mut self) {
        if self.tail.len() > piece::FEW {
            self.seal();
        } else if !self.tail.is_empty() {
            let messages = std::mem::take(&mut self.tail_messages);
            self.append(Piece::owned(self.tail.to_vec(), messages, true));
            self.tail.clear();
        }
    }

    /// Puts what `next` gives, which is the connection's own, before all that waits: answers to a PING do not queue
    /// behind data. There is one such piece at a time. Until it is written `next` is not asked, and
    /// [`take_call`](Outbox::take_call) says so after.
    pub(crate) fn push_urgent(&mut self, next: &mut dyn FnMut() -> Option<Bytes>) {
        if self.is_urgent_unsent() {
            self.urgent = Urgent::Awaited;
            return;
        }
        self.urgent = Urgent::Written;
        let mut octets = Vec::new();
        while let Some(some) = next() {
            octets.extend_from_slice(&some);
        }
        if !octets.is_empty() {
            self.urgent = Urgent::Waits;
            self.bytes += octets.len();
            self.sealed.push_front(Piece::urgent(octets));
        }
    }

    /// Whether the connection has more to say and what it said last is written now.
    pub(crate) fn take_call(&mut self) -> bool {
        !self.is_urgent_unsent() && std::mem::take(&mut self.urgent) == Urgent::Awaited
    }

    /// Whether what the connection said last may be unwritten: a flusher that is out may have it.
    fn is_urgent_unsent(&self) -> bool {
        let queued = || self.sealed.iter().any(|piece| piece.is_urgent()) || self.batch.has_urgent();
        self.urgent != Urgent::Written && (self.flushing || queued())
    }

    /// Hands up to one batch to a flusher, which must bring it back with [`finish`](Outbox::finish). `None` when there
    /// is nothing to write or someone is writing already.
    pub(crate) fn begin(&mut self) -> Option<Batch> {
        if self.flushing || !self.has_work() || (self.held && !self.may_pass_held()) {
            return None;
        }
        if self.batch.is_empty() && self.is_at_barrier() {
            return None;
        }
        let mut batch = std::mem::take(&mut self.batch);
        batch.keeps = self.keeps();
        let mut size = batch.remaining();
        if size < BATCH && !self.tail.is_empty() && self.sealed.is_empty() {
            self.seal();
        }
        while (size < BATCH && batch.pieces.len() < PIECES) || !batch.pieces.back().is_none_or(|piece| piece.ends) {
            if self.sealed.is_empty() {
                self.seal();
            }
            if (self.held && !self.may_pass_held()) || self.is_at_barrier() {
                break;
            }
            let Some(mut piece) = self.sealed.pop_front() else { break };
            if let Some(load) = piece.change_load() {
                self.changes.subtract(load);
                piece.encode();
            }
            size += piece.len();
            self.bytes -= piece.len().min(self.bytes);
            let messages = piece.messages as usize;
            self.messages -= messages.min(self.messages);
            self.greetings -= messages.min(self.greetings);
            self.in_flight += messages;
            push_sparing(&mut batch.pieces, piece);
        }
        self.flushing = true;
        self.batch_bytes = size;
        Some(batch)
    }

    /// A message bypasses the queue, which must be idle: its sender writes it from where it is. The batch comes back
    /// with [`finish`](Outbox::finish) as well, after [`note_bypass`](Batch::note_bypass).
    pub(crate) fn bypass(&mut self) -> Batch {
        self.flushing = true;
        self.in_flight += 1;
        let mut batch = std::mem::take(&mut self.batch);
        batch.keeps = self.keeps();
        batch
    }

    /// Takes the batch back and says what became of its messages since it was handed out.
    pub(crate) fn finish(&mut self, mut batch: Batch, pool: &mut Pool) -> Settled {
        for buffer in batch.spent.drain(..) {
            pool.put(buffer);
        }
        let mut settled = Settled {
            written: std::mem::take(&mut batch.written),
            written_bytes: std::mem::take(&mut batch.written_bytes),
            ..Settled::default()
        };
        self.in_flight -= settled.written.min(self.in_flight);
        self.sent.push(std::mem::take(&mut batch.sent));
        let missing = batch.missing.take();
        self.batch_bytes = batch.remaining();
        self.batch = batch;
        self.flushing = false;
        match std::mem::take(&mut self.verdict) {
            Verdict::Keep => {
                if let Some(missing) = missing {
                    self.sent.acknowledge(self.batch.begun(), missing, pool);
                }
            }
            Verdict::Rewind(lost) => {
                settled.rewound = true;
                let (written, recalled) = self.requeue(lost, pool);
                settled.written += written;
                settled.recalled = recalled;
            }
            Verdict::Drop => {
                self.hold_bodies(pool);
                let Rewound { messages: written, .. } = self.batch.rewind();
                settled.written += written;
                settled.dropped = self.in_flight - written.min(self.in_flight);
                settled.dropped_bytes = self.batch.remaining();
                self.in_flight = 0;
                (self.batch, self.batch_bytes) = (Batch::default(), 0);
            }
        }
        settled
    }

    /// Forgets the connection: commands and what the kernel took whole are gone; a message that was not written whole
    /// goes to the front again. Says how many messages had been written without being counted yet, and how many had
    /// been counted that the peer never read. What a flusher has out takes its place when it comes back.
    pub(crate) fn lose(&mut self, lost: Lost, pool: &mut Pool) -> Settled {
        self.held = false;
        self.seal();
        for piece in std::mem::take(&mut self.sealed) {
            match piece.is_control() {
                true => self.bytes -= piece.len().min(self.bytes),
                false => self.append(piece),
            }
        }
        self.changes = Load::default();
        self.replay = None;
        if self.flushing {
            // What was given up before stays so.
            if self.verdict == Verdict::Keep {
                self.verdict = Verdict::Rewind(lost);
            }
            return Settled::default();
        }
        let (written, recalled) = self.requeue(lost, pool);
        Settled { written, recalled, rewound: true, ..Settled::default() }
    }

    #[cfg(test)]
    fn rewind(&mut self) -> usize {
        self.lose(Lost::default(), &mut Pool::new()).written
    }

    /// Puts what was not written whole of the batch back in front, behind what the next connection is sent first and
    /// the commands before that, which may be there already. Says how many messages were written and not counted, and
    /// how many counted as written were not read.
    fn requeue(&mut self, lost: Lost, pool: &mut Pool) -> (usize, usize) {
        pool.hold(self.batch.pieces.iter().chain(self.sent.pieces()));
        let recalled = self.sent.recall(self.batch.begun(), lost.unacknowledged, &mut self.batch);
        // A long subscription may be what the peer did not read, and then nothing is doubtful of the messages behind
        // it.
        let begins_with_message = self.batch.pieces.front().is_some_and(|piece| !piece.is_control());
        let Rewound { messages: written, begun } = self.batch.rewind();
        let first = self.batch.pieces.iter_mut().find(|piece| !piece.is_control());
        if let Some(first) = first {
            first.doubt = first.doubt.after(lost.ending, begun || (recalled > 0 && begins_with_message));
        } else if let Some(waiting) = self.front_mut() {
            waiting.doubt = Doubt::default();
        }
        (self.in_flight, self.batch_bytes) = (0, 0);
        let mut greetings = self.greetings;
        let ahead = self.sealed.iter().take_while(|piece| {
            let first = piece.is_control() || greetings > 0;
            greetings -= greetings.min(piece.messages as usize);
            first
        });
        let behind = self.sealed.split_off(ahead.count());
        for piece in std::mem::take(&mut self.batch).pieces.into_iter().filter(|piece| !piece.is_control()) {
            self.messages += piece.messages as usize;
            self.bytes += piece.len();
            self.sealed.push_back(piece);
        }
        self.sealed.extend(behind);
        (written, recalled)
    }

    /// The piece that begins with the first message behind commands and greetings, as far as it is sealed.
    fn front_mut(&mut self) -> Option<&mut Piece> {
        let place = self.front()?;
        self.sealed.get_mut(place)
    }

    fn front(&self) -> Option<usize> {
        let mut greetings = self.greetings;
        self.sealed.iter().position(|piece| {
            let ahead = piece.is_control() || greetings > 0;
            greetings -= greetings.min(piece.messages as usize);
            !ahead
        })
    }

    /// What is doubtful of the message in front.
    pub(crate) fn doubt(&self) -> Doubt {
        self.front().and_then(|place| self.sealed.get(place)).map_or(Doubt::default(), |piece| piece.doubt)
    }

    /// A connection attempt failed: that the peer was gone tells nothing of the message it was sent last.
    pub(crate) fn forget_doubt(&mut self) {
        if let Some(front) = self.front_mut() {
            front.doubt = Doubt::default();
        }
    }

    /// Gives the message in front up, which no flusher has; says how many octets its bodies have.
    pub(crate) fn drop_front(&mut self, pool: &mut Pool) -> Option<usize> {
        let place = self.front()?;
        let mut walk = Walk::new();
        let behind = self.sealed.split_off(place);
        walk.advance(|index| behind.get(index).map(Piece::as_slice), (behind.len(), 0))?;
        let mut behind = behind;
        let before: usize = behind.iter().map(Piece::len).sum();
        pool.hold(behind.range(..=walk.piece.min(behind.len() - 1)));
        behind.drain(..walk.piece);
        if let Some(front) = behind.front_mut() {
            front.trim(walk.offset, walk.ended_here);
        }
        behind.retain(|piece| piece.len() > 0 || piece.is_barrier());
        self.bytes -= before - behind.iter().map(Piece::len).sum::<usize>();
        self.messages -= 1;
        self.sealed.extend(behind);
        Some(walk.size.octets)
    }

    /// Drops the messages that wait and are not within the limit; returns the size of each.
    pub(crate) fn drop_larger(&mut self, limit: Size, pool: &mut Pool) -> Vec<Size> {
        if limit.admits_all_of(self.bytes) {
            return Vec::new();
        }
        self.seal();
        pool.hold(self.sealed.iter());
        let Sifted { pieces, dropped, dropped_ahead } = sift(std::mem::take(&mut self.sealed), limit, self.greetings);
        self.sealed = pieces;
        self.messages -= dropped.len();
        self.greetings -= dropped_ahead;
        self.bytes = self.sealed.iter().map(Piece::len).sum();
        dropped
    }

    /// Whether long messages are kept until the peer's system has acknowledged them.
    pub(crate) fn keep_sent(&mut self, keeps: bool) {
        self.keeps_sent = keeps;
    }

    /// Holds messages back until [`release`](Outbox::release).
    pub(crate) fn hold(&mut self) {
        self.held = true;
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    pub(crate) fn release(&mut self) {
        self.held = false;
    }

    /// Whether what is first may leave although messages are held back.
    fn may_pass_held(&self) -> bool {
        self.batch.pieces.front().is_some_and(|piece| piece.is_control())
            || self.sealed.front().is_some_and(|piece| piece.is_control() || self.greetings > 0)
    }

    fn is_at_barrier(&self) -> bool {
        self.sealed.front().is_some_and(|piece| piece.is_barrier())
    }

    fn keeps(&self) -> Keeps {
        match (self.keeps_sent, self.sent.is_empty()) {
            (false, _) => Keeps::Nothing,
            (true, true) => Keeps::Long,
            (true, false) => Keeps::All,
        }
    }

    /// Drops everything, for good. What a flusher has out is settled when it comes back.
    pub(crate) fn clear(&mut self, pool: &mut Pool) -> Settled {
        self.hold_bodies(pool);
        let mut settled = Settled { dropped: self.messages, dropped_bytes: self.bytes, ..Settled::default() };
        let (mut in_flight, mut batch_bytes) = (0, 0);
        if self.flushing {
            (in_flight, batch_bytes) = (self.in_flight, self.batch_bytes);
        } else {
            settled.written = self.batch.rewind().messages;
            settled.dropped += self.in_flight - settled.written.min(self.in_flight);
            settled.dropped_bytes += self.batch.remaining();
        }
        let (flushing, verdict) = (self.flushing, if self.flushing { Verdict::Drop } else { Verdict::Keep });
        *self = Outbox { flushing, verdict, in_flight, batch_bytes, ..Outbox::default() };
        settled
    }

    /// All that is here is about to go, but for what a flusher has out.
    fn hold_bodies(&self, pool: &mut Pool) {
        pool.hold(self.sealed.iter().chain(&self.batch.pieces).chain(self.sent.pieces()));
    }

    /// Drops the messages that wait, without touching what a flusher took; for the conflate flavour, where the newest
    /// message replaces them. What is in front for a new connection stays. Says how many were dropped.
    pub(crate) fn conflate(&mut self, pool: &mut Pool) -> usize {
        let dropped = self.messages - self.greetings;
        let mut spared = self.greetings;
        self.sealed.retain(|piece| {
            let keep = piece.is_control() || spared > 0;
            spared -= (piece.messages as usize).min(spared);
            if !keep {
                pool.hold(std::iter::once(piece));
            }
            keep
        });
        self.tail.clear();
        self.tail_messages = 0;
        self.messages = self.greetings;
        self.bytes = self.sealed.iter().map(Piece::len).sum();
        dropped
    }

    /// Hands everything that waits, and may leave, to a reader in the same process.
    pub(crate) fn take_all(&mut self) -> Taken {
        self.seal();
        let messages = std::mem::take(&mut self.messages);
        let bytes = std::mem::take(&mut self.bytes);
        self.greetings = 0;
        self.changes = Load::default();
        let mut taken = Taken { pieces: std::mem::take(&mut self.sealed), messages, bytes };
        if self.replay.is_some() {
            self.keep_behind_barrier(&mut taken);
        }
        taken
    }

    /// What is behind the barrier stays.
    #[cold]
    fn keep_behind_barrier(&mut self, taken: &mut Taken) {
        let Some(barrier) = taken.pieces.iter().position(|piece| piece.is_barrier()) else { return };
        self.sealed = taken.pieces.split_off(barrier);
        self.messages = self.sealed.iter().map(|piece| piece.messages as usize).sum();
        self.bytes = self.sealed.iter().map(Piece::len).sum();
        self.sealed.iter().filter_map(Piece::change_load).for_each(|load| self.changes.add(load));
        (taken.messages, taken.bytes) = (taken.messages - self.messages, taken.bytes - self.bytes);
    }

    fn frame_of(&mut self, body: &[u8], share: impl FnOnce() -> Bytes, flags: u8, pool: &mut Pool) {
        if body.len() <= COPY_LIMIT {
            self.frame(body, flags, pool);
            return;
        }
        let (header, size) = wire::header(flags, body.len());
        self.room(size, pool);
        self.tail.extend_from_slice(&header[..size]);
        self.seal_as(false);
        self.sealed.push_back(Piece::shared(share(), 0, false));
        self.bytes += size + body.len();
    }

    #[inline(always)]
    fn frame(&mut self, body: &[u8], flags: u8, pool: &mut Pool) {
        let before = self.tail.len();
        if append(&mut self.tail, flags, body) {
            self.bytes += self.tail.len() - before;
        } else {
            self.frame_in_new_room(body, flags, pool);
        }
    }

    #[cold]
    fn frame_in_new_room(&mut self, body: &[u8], flags: u8, pool: &mut Pool) {
        let (header, size) = wire::header(flags, body.len());
        self.room(size + body.len(), pool);
        self.tail.extend_from_slice(&header[..size]);
        self.tail.extend_from_slice(body);
        self.bytes += size + body.len();
    }

    /// Makes room for `octets` more in the tail: an outbox that is rarely used starts small, one that is filled faster
    /// than flushed gets full-size buffers.
    #[cold]
    fn room(&mut self, octets: usize, pool: &mut Pool) {
        if self.tail.len() + octets > PIECE && !self.tail.is_empty() {
            // A header is never parted from a short body, but a piece may end between two frames of a message.
            self.seal_as(!self.open);
        }
        if self.tail.capacity() == 0 {
            self.tail = pool.take();
        }
        if octets > self.tail.capacity() - self.tail.len() {
            let habit = if self.habit >= PIECE / 8 { PIECE } else { self.habit };
            let wanted = (self.tail.capacity() * 4).max(habit).clamp(256, PIECE);
            self.tail.reserve_exact(octets.max(wanted.saturating_sub(self.tail.len())));
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.seal_as(true);
        }
    }

    fn seal_as(&mut self, ends: bool) {
        let messages = std::mem::take(&mut self.tail_messages);
        self.habit = self.tail.len().max(self.habit / 2);
        push_sparing(&mut self.sealed, Piece::owned(std::mem::take(&mut self.tail), messages, ends));
    }
}

/// Changes that take more memory than this, and than twice what they were condensed to, are condensed.
const MANY_CHANGES: usize = 1024 * 1024;
/// How many pieces a flusher takes at once. Where changes stand between messages each has a few octets.
const PIECES: usize = 1024;

/// What one flusher writes: whole messages, and the rest of one of which a part is written already.
#[derive(Default)]
pub(crate) struct Batch {
    pieces: VecDeque<Piece>,
    /// The piece being written; those before it are written but belong to a message that is not.
    index: usize,
    /// Octets of that piece which are written.
    offset: usize,
    /// Messages written whole since the batch was handed out, and all octets of messages.
    written: usize,
    written_bytes: usize,
    /// Buffers that are written and worth keeping; the others are freed at once.
    spent: Vec<Vec<u8>>,
    /// What of it is kept once it is written, and what was.
    keeps: Keeps,
    sent: Vec<Piece>,
    /// How much of what was written by the end of the last write the peer's system lacked, if that was asked.
    missing: Option<usize>,
}

/// What is kept of what is written.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Keeps {
    #[default]
    Nothing,
    /// Long messages, and all behind them.
    Long,
    /// All, because something before it is kept.
    All,
}

/// What became of a batch whose connection was lost.
struct Rewound {
    /// Messages written whole and not counted yet.
    messages: usize,
    /// Whether something of the first message that is left was written.
    begun: bool,
}

impl Batch {
    /// How many slices one system call gets at most.
    const SLICES: usize = 64;

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether something of the connection's own is still to be written.
    fn has_urgent(&self) -> bool {
        self.pieces.iter().skip(self.index).any(|piece| piece.is_urgent())
    }

    /// Whether something that is written is kept until the peer's system has acknowledged it, or a body of so many
    /// octets would be that bypasses the queue.
    pub(crate) fn keeps_sent(&self, bypassed: usize) -> bool {
        match self.keeps {
            Keeps::Nothing => false,
            Keeps::Long => bypassed >= KEPT,
            Keeps::All => true,
        }
    }

    /// The peer's system lacks the last `missing` octets that were written.
    pub(crate) fn note_missing(&mut self, missing: usize) {
        self.missing = Some(missing);
    }

    /// Octets for each message of the piece being written; 0 if no message ends there.
    pub(crate) fn octets_a_message(&self) -> usize {
        self.pieces.get(self.index).map_or(0, |piece| piece.len().checked_div(piece.messages as usize).unwrap_or(0))
    }

    /// Octets still to be written.
    pub(crate) fn remaining(&self) -> usize {
        let left: usize = self.pieces.iter().skip(self.index).map(Piece::len).sum();
        left - self.offset.min(left)
    }

    /// So many octets are written of the message that bypassed the queue. Unless that is all, it waits here from now
    /// on, whole, as it may have to go out again.
    pub(crate) fn note_bypass(&mut self, header: &[u8], body: &[u8], written: usize) {
        if written >= header.len() + body.len() {
            self.written += 1;
            self.written_bytes += written;
            if self.keeps_sent(body.len()) {
                self.keeps = Keeps::All;
                self.sent.push(Piece::owned(header.to_vec(), 0, false));
                self.sent.push(Piece::shared(Bytes::copy_from_slice(body), 1, true));
            }
            return;
        }
        self.pieces.push_back(Piece::owned(header.to_vec(), 0, false));
        self.pieces.push_back(Piece::shared(Bytes::copy_from_slice(body), 1, true));
        self.advance(written);
    }

    /// Writes once. `Ok(0)` when there was nothing to write.
    pub(crate) fn write(&mut self, mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<usize> {
        let mut slices: SmallVec<[IoSlice<'_>; 16]> = SmallVec::new();
        for (index, piece) in self.pieces.iter().enumerate().skip(self.index).take(Batch::SLICES) {
            let from = if index == self.index { self.offset } else { 0 };
            slices.push(IoSlice::new(piece.as_slice().get(from..).unwrap_or(&[])));
        }
        if slices.is_empty() {
            return Ok(0);
        }
        let written = write(&slices)?;
        drop(slices);
        self.advance(written);
        Ok(written)
    }

    fn advance(&mut self, mut octets: usize) {
        while let Some(piece) = self.pieces.get(self.index) {
            let left = piece.len() - self.offset;
            if !piece.is_control() {
                self.written_bytes += octets.min(left);
            }
            if octets < left {
                self.offset += octets;
                return;
            }
            octets -= left;
            self.written += piece.messages as usize;
            let ends = piece.ends;
            self.index += 1;
            self.offset = 0;
            if ends {
                if self.keeps != Keeps::Nothing && self.is_kept() {
                    self.keeps = Keeps::All;
                    self.sent.extend(self.pieces.drain(..self.index));
                } else {
                    for piece in self.pieces.drain(..self.index) {
                        self.spent.extend(piece.into_buffer().filter(Pool::wants));
                    }
                }
                self.index = 0;
            }
        }
    }

    /// Whether what was written just now is kept.
    fn is_kept(&self) -> bool {
        let mut message = 0;
        let is_long = |piece: &Piece| {
            message += piece.len();
            let is_long = message >= KEPT;
            if piece.messages > 0 {
                message = 0;
            }
            is_long
        };
        self.keeps == Keeps::All || self.pieces.iter().take(self.index).any(is_long)
    }

    /// Octets of it that are written and not yet settled.
    fn begun(&self) -> usize {
        self.pieces.iter().take(self.index).map(Piece::len).sum::<usize>() + self.offset
    }

    /// Messages that were written before are to be written again, before all of this, of which nothing counts as
    /// written any more.
    pub(super) fn put_in_front(&mut self, mut pieces: VecDeque<Piece>) {
        pieces.append(&mut self.pieces);
        self.pieces = pieces;
        (self.index, self.offset) = (0, 0);
    }

    /// Goes back to the start of the first message that is not written whole; says how many messages before it were
    /// written and not counted by [`advance`](Batch::advance).
    fn rewind(&mut self) -> Rewound {
        let limit = (self.index, self.offset);
        let mut walk = Walk::new();
        let mut messages = 0usize;
        loop {
            let pieces = &self.pieces;
            match walk.advance(|index| pieces.get(index).map(Piece::as_slice), limit) {
                // A subscription in the old form is a message to the peer, and a command to us.
                Some(message) => {
                    messages += usize::from(message && !pieces.get(walk.piece).is_some_and(|piece| piece.is_control()))
                }
                None => break,
            }
        }
        let whole: usize = self.pieces.iter().take(walk.piece).map(Piece::len).sum::<usize>() + walk.offset;
        let begun = self.begun() > whole;
        // Of the pieces before `index`, the messages that ended in them were counted when they were written.
        let counted: usize = self.pieces.iter().take(self.index).map(|piece| piece.messages as usize).sum();
        self.pieces.drain(..walk.piece.min(self.pieces.len()));
        if let Some(piece) = self.pieces.front_mut() {
            piece.trim(walk.offset, walk.ended_here);
        }
        self.pieces.retain(|piece| piece.len() > 0);
        (self.index, self.offset) = (0, 0);
        Rewound { messages: messages.saturating_sub(counted), begun }
    }
}

/// All that waited for a reader in the same process.
pub(crate) struct Taken {
    pub(crate) pieces: VecDeque<Piece>,
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Taken {
    /// What became of it: it is with the reader.
    pub(crate) fn settled(&self) -> Settled {
        let of_messages = self.pieces.iter().filter(|piece| !piece.is_control());
        Settled { written: self.messages, written_bytes: of_messages.map(Piece::len).sum(), ..Settled::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::inbox::Inbox;
    use super::*;
    use crate::queue::changes::ChangeKind;

    #[cfg(feature = "properties")]
    mod properties;

    fn drain(bytes: Vec<Bytes>) -> Vec<Message> {
        let mut inbox = Inbox::default();
        for piece in bytes {
            inbox.push(piece);
        }
        std::iter::from_fn(|| inbox.next(None)).collect()
    }

    /// Writes at most `limit` octets, in calls of at most `call`.
    fn write(outbox: &mut Outbox, pool: &mut Pool, wire: &mut Vec<u8>, limit: usize, call: usize) -> usize {
        let mut left = limit;
        let mut written = 0;
        while let Some(mut batch) = outbox.begin() {
            while left > 0 && !batch.is_empty() {
                let done = batch.write(|slices| {
                    let mut done = 0;
                    for slice in slices {
                        let n = slice.len().min(left.min(call) - done);
                        wire.extend_from_slice(&slice[..n]);
                        done += n;
                    }
                    Ok(done)
                });
                left -= done.expect("no error");
            }
            written += outbox.finish(batch, pool).written;
            if left == 0 {
                break;
            }
        }
        written
    }

    fn change(kind: ChangeKind, topic: u32) -> Change {
        let command = if kind.subscribes() { b"\x04\x05\x01+" } else { b"\x04\x05\x01-" };
        Change::new([&command[..], &topic.to_be_bytes()].concat().into(), 4, kind)
    }

    fn taken(outbox: &mut Outbox) -> Vec<u8> {
        outbox.take_all().pieces.into_iter().flat_map(Piece::into_bytes).collect()
    }

    #[test]
    fn changes_take_each_other_back_but_never_across_a_message() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
        outbox.push_change(change(ChangeKind::First, 1));
        outbox.push_change(change(ChangeKind::Last, 1));
        assert!(!outbox.has_work() && outbox.is_idle());
        outbox.push_change(change(ChangeKind::First, 1));
        outbox.push(&[], &Message::from("between"), &mut pool);
        outbox.push_change(change(ChangeKind::Last, 1));
        let batch = outbox.begin().expect("work");
        let octets: Vec<u8> = batch.pieces.iter().flat_map(|piece| piece.as_slice().to_vec()).collect();
        assert_eq!(octets, b"\x04\x05\x01+\0\0\0\x01\0\x07between\x04\x05\x01-\0\0\0\x01");
        assert_eq!((outbox.bytes, outbox.changes), (0, Load::default()));
    }

    #[test]
    fn a_change_that_a_flusher_took_is_not_taken_back() {
        let mut outbox = Outbox::default();
        outbox.push_change(change(ChangeKind::First, 1));
        let batch = outbox.begin().expect("work");
        outbox.push_change(change(ChangeKind::Last, 1));
        outbox.push_change(change(ChangeKind::First, 1));
        outbox.push_change(change(ChangeKind::Last, 1));
        outbox.finish(batch, &mut Pool::new());
        assert_eq!(taken(&mut outbox), b"\x04\x05\x01-\0\0\0\x01");
    }

    #[test]
    fn changes_between_messages_are_condensed_above_a_bound() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
        for round in 0..200_000 {
            outbox.push_change(change(ChangeKind::Last, round % 100));
            outbox.push_change(change(ChangeKind::First, round % 100));
            if round % 1000 == 0 {
                outbox.push(&[], &Message::from("between"), &mut pool);
            }
            assert!(outbox.changes.total() <= MANY_CHANGES);
            assert!(outbox.waiting_bytes() < 2 * MANY_CHANGES);
        }
        assert_eq!(outbox.waiting(), 200);
        let octets = taken(&mut outbox);
        assert_eq!(octets.windows(7).filter(|octets| octets == b"between").count(), 200);
        assert_eq!((outbox.bytes, outbox.changes), (0, Load::default()));
    }

    /// How many octets of memory the pieces of a queue have, without what a list or the allocator adds.
    fn memory(outbox: &Outbox) -> usize {
        outbox.sealed.capacity() * size_of::<Piece>() + outbox.sealed.iter().map(Piece::len).sum::<usize>()
    }

    #[test]
    fn changes_between_messages_count_with_what_they_and_the_messages_take() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
        for topic in 0..1000 {
            outbox.push_body(b"message", &mut pool);
            outbox.push_change(change(ChangeKind::First, topic));
        }
        assert_eq!(outbox.sealed.len(), 2000);
        assert!(outbox.held_bytes() > memory(&outbox), "{} of {}", outbox.held_bytes(), memory(&outbox));
        assert_eq!(outbox.waiting_bytes(), 1000 * 17, "what counts against the marks is as before");
        while let Some(batch) = outbox.begin() {
            assert!(batch.pieces.len() <= PIECES);
            outbox.finish(Batch::default(), &mut pool);
        }
        assert_eq!(outbox.changes, Load::default());
    }

    #[test]
    fn messages_that_nothing_parts_any_more_lie_together() {
        for is_lost in [false, true] {
            let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
            for round in 0..10_000 {
                outbox.push_body(b"message", &mut pool);
                outbox.push_change(change(ChangeKind::First, 1));
                match round % 1000 {
                    // Now and then it is told; else nothing is left between two messages.
                    0 => outbox.push_body(b"message", &mut pool),
                    _ => outbox.push_change(change(ChangeKind::Last, 1)),
                }
            }
            if is_lost {
                outbox.lose(Lost::default(), &mut Pool::new());
                assert!(outbox.sealed.len() < 20, "{}", outbox.sealed.len());
            }
            assert!(outbox.sealed.len() < 50, "{}", outbox.sealed.len());
            assert_eq!(outbox.waiting(), 10_010);
            let octets = taken(&mut outbox);
            assert_eq!(octets.windows(9).filter(|octets| octets == b"\0\x07message").count(), 10_010);
        }
    }

    #[test]
    fn conflating_keeps_commands_and_drops_messages() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
        outbox.push_body(b"old", &mut pool);
        outbox.push_command(b"\x04\x02\x01X");
        assert_eq!(outbox.conflate(&mut Pool::new()), 1);
        outbox.push_body(b"new", &mut pool);
        let mut wire = Vec::new();
        assert_eq!(write(&mut outbox, &mut pool, &mut wire, usize::MAX, 99), 1);
        assert_eq!(wire, b"\x04\x02\x01X\x00\x03new");
    }

    #[test]
    fn conflating_keeps_what_a_new_connection_is_sent_first() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
        outbox.push_body(b"old", &mut pool);
        outbox.push_first(&Message::from("hello"), &mut pool);
        for _ in 0..2 {
            assert_eq!(outbox.conflate(&mut Pool::new()), 1);
            outbox.push_body(b"new", &mut pool);
        }
        assert!(outbox.is_greeting());
        let mut wire = Vec::new();
        assert_eq!(write(&mut outbox, &mut pool, &mut wire, usize::MAX, 99), 2);
        assert_eq!(wire, b"\x00\x05hello\x00\x03new");
        assert!(!outbox.is_greeting());
        outbox.push_body(b"newer", &mut pool);
        assert_eq!(outbox.conflate(&mut Pool::new()), 1);
    }

    #[test]
    fn a_subscription_in_the_old_form_is_not_counted_as_a_written_message() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
        // Two of them in one piece, of which the second is cut.
        outbox.push_command(b"\x00\x02\x01a");
        outbox.push_command(b"\x00\x02\x01b");
        outbox.push_body(b"message", &mut pool);
        let mut wire = Vec::new();
        let counted = write(&mut outbox, &mut pool, &mut wire, 6, 6);
        assert_eq!((counted, outbox.rewind(), outbox.queued()), (0, 0, 1));
        outbox.push_command(b"\x00\x02\x01a");
        assert_eq!(write(&mut outbox, &mut pool, &mut wire, 9, 9), 1);
    }

    #[test]
    fn written_octets_are_those_of_messages_alone() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
        outbox.push_command(b"\x04\x02\x01X");
        outbox.push_body(b"12345", &mut pool);
        let mut batch = outbox.begin().expect("something to write");
        batch.write(|_| Ok(6)).expect("no error");
        assert_eq!(outbox.finish(batch, &mut pool).written_bytes, 2);
        let mut batch = outbox.begin().expect("the rest");
        batch.write(|_| Ok(5)).expect("no error");
        let settled = outbox.finish(batch, &mut pool);
        assert_eq!((settled.written, settled.written_bytes), (1, 5));
    }

    /// A message of that body bypasses the queue, and so many octets of it are written.
    fn pass(
        outbox: &mut Outbox,
        pool: &mut Pool,
        body: &[u8],
        written: usize,
        meanwhile: impl FnOnce(&mut Outbox),
    ) -> Settled {
        let (header, size) = wire::header(0, body.len());
        let mut batch = outbox.bypass();
        meanwhile(outbox);
        batch.note_bypass(&header[..size], body, written);
        outbox.finish(batch, pool)
    }

    #[test]
    fn what_bypasses_the_queue_is_counted_as_if_it_had_waited() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
        let body = [1; 1000];
        let settled = pass(&mut outbox, &mut pool, &body, 1009, |outbox| {
            assert!(!outbox.is_idle() && outbox.begin().is_none());
            assert_eq!((outbox.queued(), outbox.waiting()), (1, 0));
        });
        assert_eq!(settled, Settled { written: 1, written_bytes: 1009, ..Settled::default() });
        assert!(outbox.is_idle() && outbox.queued() == 0);
    }

    #[test]
    fn the_rest_of_what_bypasses_the_queue_is_written_before_what_was_queued_meanwhile() {
        for written in [0, 5, 9, 10, 500, 1008] {
            let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
            let body = [1; 1000];
            let settled =
                pass(&mut outbox, &mut pool, &body, written, |outbox| outbox.push_body(b"next", &mut Pool::new()));
            assert_eq!((settled.written, settled.written_bytes, outbox.queued()), (0, written, 2));
            let (header, size) = wire::header(0, body.len());
            let mut wire = [&header[..size], &body].concat()[..written].to_vec();
            assert_eq!(write(&mut outbox, &mut pool, &mut wire, usize::MAX, 99), 2);
            assert_eq!(drain(vec![Bytes::from(wire)]), [Message::from(&body), Message::from("next")]);
        }
    }

    #[test]
    fn what_bypasses_the_queue_while_the_connection_goes_is_written_whole_to_the_next_or_dropped() {
        for written in [0, 9, 500, 1009] {
            let whole = usize::from(written == 1009);
            let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
            let settled = pass(&mut outbox, &mut pool, &[1; 1000], written, |outbox| assert_eq!(outbox.rewind(), 0));
            assert_eq!((settled.written, outbox.queued()), (whole, 1 - whole));
            let mut wire = Vec::new();
            assert_eq!(write(&mut outbox, &mut pool, &mut wire, usize::MAX, 99), 1 - whole);
            assert_eq!(drain(vec![Bytes::from(wire)]).len(), 1 - whole);
            let settled = pass(&mut outbox, &mut pool, &[1; 1000], written, |outbox| {
                outbox.clear(&mut Pool::new());
            });
            assert_eq!((settled.written, settled.dropped), (whole, 1 - whole));
            assert!(outbox.is_idle() && outbox.queued() == 0);
        }
    }

    #[test]
    fn what_comes_back_late_goes_behind_what_the_next_connection_is_sent_first() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
        let settled = pass(&mut outbox, &mut pool, b"cut", 3, |outbox| {
            outbox.push_command(b"\x04\x02\x01O");
            outbox.rewind();
            outbox.push_body(b"next", &mut Pool::new());
            outbox.push_first(&Message::from("hello"), &mut Pool::new());
            outbox.push_urgent(&mut {
                let mut once = Some(Bytes::from_static(b"\x04\x02\x01U"));
                move || once.take()
            });
        });
        assert_eq!((settled.written, outbox.queued()), (0, 3));
        let mut wire = Vec::new();
        assert_eq!(write(&mut outbox, &mut pool, &mut wire, usize::MAX, 99), 3);
        assert_eq!(wire, b"\x04\x02\x01U\x00\x05hello\x00\x03cut\x00\x04next");
        assert_eq!(outbox.waiting_bytes(), 0);
    }

    #[test]
    fn written_buffers_are_filled_again() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
        for _ in 0..3 * PIECE / 66 {
            outbox.push_body(&[1; 64], &mut pool);
        }
        let mut wire = Vec::new();
        write(&mut outbox, &mut pool, &mut wire, usize::MAX, usize::MAX);
        assert!(!pool.buffers.is_empty());
    }
}
