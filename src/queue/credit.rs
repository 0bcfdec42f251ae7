//! A peer's credit: whether one more message may be queued for it, and when those who wait are told that there is room.
//!
//! What is queued is counted by the caller, under the lock that guards this. Its tests are models, in `tests/model/loom.rs`.

/// The limits of a queue, or what is in it; a limit of 0 is none.
#[derive(Clone, Copy, Default)]
pub(crate) struct Marks {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Marks {
    /// Whether `size` octets more fit where `bytes` wait. One message is always admitted, whatever its size.
    #[inline(always)]
    pub(crate) fn admit(self, bytes: usize, size: usize) -> bool {
        bytes == 0 || self.bytes == 0 || bytes.saturating_add(size) <= self.bytes
    }

    /// Whether so much is no less than one of these limits.
    pub(crate) fn are_reached_by(self, waiting: Marks) -> bool {
        (self.messages != 0 && waiting.messages >= self.messages) || (self.bytes != 0 && waiting.bytes >= self.bytes)
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Credit {
    /// It reached its mark and is full until half of that is free.
    full: bool,
}

impl Credit {
    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// A message was queued, or the mark is another: `waiting` are queued now.
    #[inline(always)]
    pub(crate) fn fill(&mut self, waiting: usize, mark: usize) {
        self.full = mark != 0 && waiting >= mark;
    }

    /// Some were taken; whether those who wait are to be told: freed credit is announced in steps of half the mark.
    ///
    /// `hungry` says that somebody waits. It is used up by a true answer, so whoever finds no room again sets it again.
    pub(crate) fn drain(&mut self, queued: Marks, marks: Marks, hungry: &mut bool) -> bool {
        let free = (marks.messages == 0 || queued.messages <= marks.messages / 2)
            && (marks.bytes == 0 || queued.bytes <= marks.bytes / 2);
        if free || marks.messages == 0 {
            self.full = false;
        }
        // A peer that was not full by number may have been by size.
        free && std::mem::take(hungry)
    }
}
