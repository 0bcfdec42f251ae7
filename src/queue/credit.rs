//! A peer's credit: whether one more message may be queued for it, and when those who wait are told that there is room.
//!
//! What is queued is counted by the caller, under the lock that guards this. Its tests are models, in
//! `tests/model/loom.rs`.

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
    state: State,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// It reached its mark, and is full until half of that is free.
    Full,
    /// So much waits that it is written from memory instead of a cache: who can wait does so until half of that is
    /// taken.
    Deep,
}

/// How many octets wait in a deep queue: more than this does not stay in the second-level cache from the sender to the
/// flusher. A queue of messages of 256 octets reaches a default mark in messages first, where its sender has to wait
/// anyway.
pub(crate) const DEPTH: usize = 4 * 1024 * 1024 + 256 * 1024;

impl Credit {
    /// Returns true if nothing more is to be queued now.
    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.state != State::Open
    }

    /// A message was queued, or the mark is another: `waiting` are queued now.
    #[inline(always)]
    pub(crate) fn fill(&mut self, waiting: usize, mark: usize) {
        self.state = if mark != 0 && waiting >= mark { State::Full } else { State::Open };
    }

    /// `bytes` wait below the marks for a peer that is likely to take them soon.
    pub(crate) fn deepen(&mut self, bytes: usize) {
        if bytes >= DEPTH && self.state == State::Open {
            self.state = State::Deep;
        }
    }

    /// Returns true if it is full only because it is deep.
    pub(crate) fn is_deep(&self) -> bool {
        self.state == State::Deep
    }

    /// That it is deep is no reason to wait any longer.
    pub(crate) fn pass_depth(&mut self) {
        if self.state == State::Deep {
            self.state = State::Open;
        }
    }

    /// Some were taken; whether those who wait are to be told: freed credit is announced in steps of half the mark, or
    /// of half the depth.
    ///
    /// `hungry` says that somebody waits. It is used up by a true answer, so whoever finds no room again sets it again.
    pub(crate) fn drain(&mut self, queued: Marks, marks: Marks, hungry: &mut bool) -> bool {
        let free = match self.state {
            State::Deep => queued.bytes <= DEPTH / 2,
            State::Open | State::Full => {
                (marks.messages == 0 || queued.messages <= marks.messages / 2)
                    && (marks.bytes == 0 || queued.bytes <= marks.bytes / 2)
            }
        };
        if free || (marks.messages == 0 && self.state == State::Full) {
            self.state = State::Open;
        }
        // A peer that was not full by number may have been by size.
        free && std::mem::take(hungry)
    }
}
