//! What is left of a socket that is done. There may be very much of it, and the engine thread that lets it go has other
//! sockets to serve, so it goes in parts.

use super::core::Core;
use super::receiving::Reader;
use super::sending::SendSide;
use super::slice::Slice;
use crate::engine::Parts;
use crate::engine::contain::contain;
use crate::queue::gate::Guarded;
use bytes::Bytes;

/// After so many parts the heap is tidied, which takes the longer the more of them were freed since.
const TIDY: usize = 1024;

/// Lets go what may be a body of the application's own. If that panics, it has gone all the same, and the thread that
/// happens to do it is not to blame.
pub(super) fn let_go<T>(part: T) {
    let _ = contain(|| drop(part));
}

impl Guarded for SendSide {
    #[inline(always)]
    fn has_remains(&self) -> bool {
        self.pool.has_remains()
    }

    fn take_remains(&mut self) -> Vec<Bytes> {
        self.pool.take_remains()
    }

    fn let_go(remains: Vec<Bytes>) {
        remains.into_iter().for_each(let_go);
    }
}

impl Guarded for Reader {
    #[inline(always)]
    fn has_remains(&self) -> bool {
        !self.remains.is_empty()
    }

    fn take_remains(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.remains)
    }

    fn let_go(remains: Vec<Bytes>) {
        remains.into_iter().for_each(let_go);
    }
}

impl Core {
    /// What nobody will receive any more, and what the socket wanted, taken out of it. Other handles of the socket may
    /// be kept for long.
    pub(super) fn leave_unread(&self) -> Parts {
        let (unread, filter) = {
            let mut reader = self.lock_recv();
            (reader.take_unread(), std::mem::take(&mut reader.filter))
        };
        let mut parts = unread.chain(self.lock_arrivals().take_all()).chain(filter.into_parts());
        // One that panics has gone all the same.
        let next = move || contain(|| parts.next()).unwrap_or(Some(()));
        Box::new(std::iter::from_fn(next).enumerate().map(|(number, ())| {
            if number % TIDY == TIDY - 1 {
                Slice::tidy_heap();
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Context, Sub};

    #[test]
    fn what_a_closed_subscriber_wanted_goes_in_as_many_parts_as_there_are() {
        let subscriber = Sub::in_context(&Context::new());
        for number in 0..1000 {
            subscriber.subscribe(format!("{number}")).expect("wanted");
        }
        assert!(subscriber.core.leave_unread().count() >= 1000);
        assert_eq!(subscriber.core.lock_recv().filter.len(), 0);
    }
}
