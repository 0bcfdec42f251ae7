//! What is left of a socket that is done. There may be very much of it, and the engine thread that lets it go has other
//! sockets to serve, so it goes in parts.

use super::core::Core;
use super::receiving::Reader;
use super::sending::{Routing, SendSide};
use super::slice::Slice;
use crate::engine::Parts;
use crate::engine::contain::contain;
use crate::queue::gate::Guarded;
use bytes::Bytes;
use std::sync::Weak;

/// After so many parts the heap is tidied, which takes the longer the more of them were freed since.
const TIDY: usize = 1024;

impl Guarded for SendSide {
    #[inline(always)]
    fn has_remains(&self) -> bool {
        self.pool.has_remains()
    }

    fn take_remains(&mut self) -> Vec<Bytes> {
        self.pool.take_remains()
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
}

impl Core {
    /// What nobody will receive or answer any more, and what the socket wanted, taken out of it. Other handles of the
    /// socket may be kept for long.
    pub(super) fn leave_unread(&self) -> Parts {
        let (unread, filter) = {
            let mut reader = self.lock_recv();
            (reader.take_unread(), std::mem::take(&mut reader.filter))
        };
        let request = match &mut self.lock_send().routing {
            Routing::Reply(replies) => replies.take(),
            Routing::Nowhere
            | Routing::Balance(_)
            | Routing::Request(..)
            | Routing::Router(_)
            | Routing::Publish(_)
            | Routing::Upstream => None,
        };
        let envelope = request.into_iter().flat_map(|request| request.envelope).map(drop);
        let (arrived, flows) = self.lock_arrivals().take_all();
        let me = Weak::clone(&self.me);
        let flows = flows.map(move |(peer, messages, bytes)| {
            // Handles that are left may ask for what came from each peer.
            if let Some(core) = me.upgrade() {
                core.lock_send().note_received(peer, messages, bytes);
            }
        });
        let unread = flows.chain(unread).chain(arrived);
        let mut parts = unread.chain(filter.into_parts()).chain(envelope);
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
