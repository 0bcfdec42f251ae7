//! The control octets that wait to be written: greeting, READY, ERROR, PING, PONG. Bounded whatever the peer does.

use bytes::{Bytes, BytesMut};
use std::fmt;
use std::ops::Range;

/// What the connection itself has to say, as opposed to the application's messages.
#[derive(Default)]
pub(super) struct Outgoing {
    octets: BytesMut,
    /// Of the peer's PINGs; most peers send none.
    answers: Option<Box<Answers>>,
    ping: bool,
    /// What was handed over last had a PING in it, and is not known to be written.
    ping_on_its_way: bool,
}

/// The PONGs among what waits.
#[derive(Default)]
struct Answers {
    pongs: usize,
    /// Where the latest one stands.
    latest: Range<usize>,
    given_up: u64,
}

/// How much waits, but not what: our token is in READY.
impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("octets", &self.octets.len())
            .field("pongs", &self.answers.as_ref().map_or(0, |answers| answers.pongs))
            .finish_non_exhaustive()
    }
}

impl Outgoing {
    /// Queues octets that are said once in the life of a connection.
    pub(super) fn push(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// Queues a PING unless one is unsent: a second would tell the peer nothing new.
    pub(super) fn ping(&mut self, ping: &[u8]) {
        if !self.ping && !self.ping_on_its_way {
            self.ping = true;
            self.octets.extend_from_slice(ping);
        }
    }

    /// Queues a PONG. Where the peer asks faster than it reads the newest takes the place of the one before. Returns
    /// true when the last place has just been taken.
    pub(super) fn pong(&mut self, pong: &[u8]) -> bool {
        let answers = self.answers.get_or_insert_default();
        let new = answers.pongs < MAX_PONGS;
        let start = if new { self.octets.len() } else { answers.latest.start };
        // A PING may stand behind the latest one; nothing else is said that late.
        let behind = if new { Vec::new() } else { self.octets.get(answers.latest.end..).unwrap_or_default().to_vec() };
        self.octets.truncate(start);
        self.octets.extend_from_slice(pong);
        answers.latest = start..self.octets.len();
        self.octets.extend_from_slice(&behind);
        if new {
            answers.pongs += 1;
            return answers.pongs == MAX_PONGS;
        }
        answers.given_up = answers.given_up.saturating_add(1);
        false
    }

    /// Hands over all that waits. What was handed over before is written.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.ping_on_its_way = std::mem::take(&mut self.ping);
        if self.octets.is_empty() {
            return None;
        }
        if let Some(answers) = &mut self.answers {
            answers.pongs = 0;
        }
        Some(std::mem::take(&mut self.octets).freeze())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// How many PINGs will not be answered by a PONG of their own.
    pub(super) fn given_up(&self) -> u64 {
        self.answers.as_ref().map_or(0, |answers| answers.given_up)
    }
}

/// A peer that does not read can make us hold this many answers, no more.
pub(super) const MAX_PONGS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_pings_leaves_the_first_answers_the_newest_and_a_count() {
        let mut outgoing = Outgoing::default();
        for number in 0..1_000_000 {
            assert_eq!(outgoing.pong(format!("<{number}>").as_bytes()), number == 63);
            if number == 70 {
                outgoing.ping(b"ping");
            }
        }
        let first: String = (0..63).map(|number| format!("<{number}>")).collect();
        let said = format!("{first}<999999>ping");
        assert_eq!(outgoing.take().as_deref(), Some(said.as_bytes()));
        assert_eq!(outgoing.given_up(), 1_000_000 - 64);
        outgoing.pong(b"pong");
        assert_eq!(outgoing.take().as_deref(), Some(&b"pong"[..]));
        assert_eq!(outgoing.take(), None);
    }

    #[test]
    fn a_second_ping_waits_for_the_first_to_be_written() {
        let mut outgoing = Outgoing::default();
        outgoing.ping(b"a");
        outgoing.ping(b"b");
        assert_eq!(outgoing.take().as_deref(), Some(&b"a"[..]));
        outgoing.ping(b"c");
        assert_eq!(outgoing.take(), None);
        outgoing.ping(b"d");
        assert_eq!(outgoing.take().as_deref(), Some(&b"d"[..]));
    }
}
