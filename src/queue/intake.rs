//! What waits of one peer for the application, and whether its link is read because of it: one owner for both.
//!
//! The owner is guarded by the lock under which messages land. Drivers ask the [`ReadGate`] it shares with them before
//! each read, so there is no second copy of the fact that could miss a change. Its tests are models, in
//! `tests/loom.rs`.

use super::credit::Marks;
use super::sync::{Arc, AtomicBool, Ordering};

/// What a driver asks before it reads a link. Only the [`Intake`] changes it.
#[derive(Default)]
pub(crate) struct ReadGate {
    closed: AtomicBool,
}

impl ReadGate {
    /// Returns true while the link is not to be read.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Intake {
    waiting: Marks,
    gate: Arc<ReadGate>,
}

impl Intake {
    /// What waits.
    pub(crate) fn waiting(&self) -> Marks {
        self.waiting
    }

    /// What a driver asks.
    pub(crate) fn gate(&self) -> &Arc<ReadGate> {
        &self.gate
    }

    /// Messages are here that did not come from a link, or do not stop it.
    pub(crate) fn add(&mut self, messages: usize, bytes: usize) {
        self.waiting.messages += messages;
        self.waiting.bytes += bytes;
    }

    /// A driver brought messages from the link. At a mark, or where memory is `short`, the gate closes. It does not
    /// open here: what one read brings lands in several steps, between which the application may catch up for a moment.
    pub(crate) fn land(&mut self, messages: usize, bytes: usize, marks: Marks, short: bool) {
        self.add(messages, bytes);
        if marks.are_reached_by(self.waiting) || short {
            self.gate.closed.store(true, Ordering::Release);
        }
    }

    /// The application has read so much.
    pub(crate) fn settle(&mut self, messages: usize, bytes: usize) {
        self.waiting.messages = self.waiting.messages.saturating_sub(messages);
        self.waiting.bytes = self.waiting.bytes.saturating_sub(bytes);
    }

    /// Opens the gate once half of each mark is free, if memory is not `short` or nothing waits. Returns true if that
    /// opened it: a driver must then be told, because the link's readiness is remembered and not announced again.
    #[must_use = "nobody reads the link again unless a driver is told"]
    pub(crate) fn reopen(&mut self, marks: Marks, short: bool) -> bool {
        let Marks { messages, bytes } = self.waiting;
        let room = (marks.messages == 0 || messages <= marks.messages / 2)
            && (marks.bytes == 0 || bytes <= marks.bytes / 2)
            && (!short || messages == 0);
        room && self.gate.closed.load(Ordering::Relaxed) && {
            self.gate.closed.store(false, Ordering::Release);
            true
        }
    }
}
