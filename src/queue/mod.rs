//! The one queue. Outbox, inbox and inproc are all this: a list of pieces that hold frames exactly as ZMTP 2.0 and 3.x
//! write them, so that a flush is one `writev` and a receive is a slice.
//!
//! A frame's header always lies whole in one piece. Its body either follows in the same piece or, when it is large, is
//! the next piece as a whole: then it was never copied.

mod append;
pub(crate) mod changes;
pub(crate) mod chunk;
pub(crate) mod credit;
pub(crate) mod doubt;
pub(crate) mod gate;
pub(crate) mod inbox;
pub(crate) mod intake;
mod numbers;
pub(crate) mod outbox;
pub(crate) mod piece;
pub(crate) mod replay;
pub(crate) mod search;
mod sent;
mod sift;
pub(crate) mod unseen;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What the intake is made of. It names it by this way, so that `tests/loom.rs` can put models of these in their place.
mod sync {
    pub(super) use std::sync::Arc;
    pub(super) use std::sync::atomic::{AtomicBool, Ordering};
}

/// Bodies up to this size are copied beside their header; longer ones are kept as shared pieces. Measured: below it a
/// copy costs less than another reference count and iovec, above it the copy shows.
pub(crate) const COPY_LIMIT: usize = 8 * 1024;

/// Bodies that have to be copied anyway, because the caller keeps them, go beside their header up to this size.
pub(crate) const BORROWED_COPY_LIMIT: usize = 32 * 1024;

/// The size of a full piece: large enough for one system call to carry a thousand small messages, small enough to stay
/// in the second-level cache until it is written.
pub(crate) const PIECE: usize = 64 * 1024;

/// The size of a read buffer. Larger ones leave the second-level cache before the application gets to them.
pub(crate) const READ_BUFFER: usize = 256 * 1024;

/// What one read brought is copied out of its read buffer if it is shorter, so that it does not pin the whole buffer
/// while it waits.
pub(crate) const SHARED_READ: usize = 32 * 1024;

/// How many octets a flusher takes at once. They count as queued until they are written.
pub(crate) const BATCH: usize = 256 * 1024;

/// Lets go what may be a body of the application's own. If that panics, it has gone all the same, and the thread that
/// happens to do it is not to blame. Bodies go one at a time: a second panic while others are unwound aborts.
pub(crate) fn let_go<T>(part: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(part)));
}

/// Appends to a list of which most connections use one place at a time. Its first memory holds one item where
/// `push_back` would take room for four, because thousands of connections that are mostly quiet keep it; from there it
/// grows as ever.
#[inline]
fn push_sparing<T>(list: &mut VecDeque<T>, item: T) {
    if list.capacity() == 0 {
        list.reserve_exact(1);
    }
    list.push_back(item);
}
