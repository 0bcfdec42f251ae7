//! The control octets that wait to be written: greeting, READY, ERROR, PING, PONG. Bounded whatever the peer does.

use bytes::{Bytes, BytesMut};
use std::fmt;

/// What the connection itself has to say, as opposed to the application's messages.
#[derive(Default)]
pub(super) struct Outgoing {
    octets: BytesMut,
    pongs: u8,
    ping: bool,
    dropped: u64,
}

/// How much waits, but not what: our token is in READY.
impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("octets", &self.octets.len())
            .field("pongs", &self.pongs)
            .finish_non_exhaustive()
    }
}

impl Outgoing {
    /// Queues octets that are said once in the life of a connection.
    pub(super) fn push(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// Queues a PING unless one still waits: a second would tell the peer nothing new.
    pub(super) fn ping(&mut self, ping: &[u8]) {
        if !self.ping {
            self.ping = true;
            self.octets.extend_from_slice(ping);
        }
    }

    /// Queues a PONG, or drops it when the peer asks faster than it reads: any traffic of ours answers a PING as well.
    pub(super) fn pong(&mut self, pong: &[u8]) {
        if self.pongs < MAX_PONGS {
            self.pongs += 1;
            self.octets.extend_from_slice(pong);
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Hands over all that waits.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if self.octets.is_empty() {
            return None;
        }
        (self.pongs, self.ping) = (0, false);
        Some(std::mem::take(&mut self.octets).freeze())
    }

    /// How many PONGs were dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// A peer that does not read can make us hold this many answers, no more.
const MAX_PONGS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_pings_leaves_four_pongs_and_a_count() {
        let mut outgoing = Outgoing::default();
        for _ in 0..1_000_000 {
            outgoing.pong(b"pong");
        }
        assert_eq!(outgoing.take().as_deref(), Some(&b"pongpongpongpong"[..]));
        assert_eq!(outgoing.dropped(), 999_996);
        outgoing.pong(b"pong");
        assert_eq!(outgoing.take().as_deref(), Some(&b"pong"[..]));
        assert_eq!(outgoing.take(), None);
    }

    #[test]
    fn a_second_ping_waits_for_the_first_to_leave() {
        let mut outgoing = Outgoing::default();
        outgoing.ping(b"a");
        outgoing.ping(b"b");
        assert_eq!(outgoing.take().as_deref(), Some(&b"a"[..]));
        outgoing.ping(b"c");
        assert_eq!(outgoing.take().as_deref(), Some(&b"c"[..]));
    }
}
