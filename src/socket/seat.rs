//! The only seat of a PAIR while it is kept for a peer that knows that we are ready, and has not said who it is. Such a
//! peer is not to be turned away once it has, as it sends from then on; but it may say nothing for ever.

use crate::engine::reactor::SPARE;
use crate::engine::{Reserved, SeatTicket};
use std::time::Instant;

/// The ticket by which the seat is kept, if it is.
#[derive(Default)]
pub(super) struct Seat {
    kept: Option<(SeatTicket, Instant)>,
    given: u64,
}

impl Seat {
    /// Returns true if it is kept, and has not been for so long that it is anybody's.
    pub(super) fn is_kept(&self, now: Instant) -> bool {
        self.kept.is_some_and(|(_, since)| now.saturating_duration_since(since) < SPARE)
    }

    /// Keeps it from now on; `None` if it is kept for another.
    pub(super) fn keep(&mut self, now: Instant) -> Option<Reserved> {
        if self.is_kept(now) {
            return None;
        }
        self.given += 1;
        let ticket = SeatTicket(self.given);
        let before = self.kept.replace((ticket, now));
        Some(Reserved { ticket, taken_from: before.map(|(ticket, _)| ticket) })
    }

    /// Frees the seat if it is kept by this ticket: its peer is attached, or gone.
    pub(super) fn give_back(&mut self, ticket: SeatTicket) {
        self.kept.take_if(|(kept, _)| *kept == ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_that_is_kept_for_too_long_goes_to_the_next_and_is_not_given_back_by_the_one_before() {
        let (mut seat, now) = (Seat::default(), Instant::now());
        let first = seat.keep(now).expect("it is free");
        assert!(first.taken_from.is_none() && seat.is_kept(now) && seat.keep(now).is_none());
        let second = seat.keep(now + SPARE).expect("the first has had its time");
        assert_eq!(second.taken_from, Some(first.ticket));
        seat.give_back(first.ticket);
        assert!(seat.is_kept(now + SPARE) && !seat.is_kept(now + 2 * SPARE));
        seat.give_back(second.ticket);
        assert!(!seat.is_kept(now + SPARE));
    }
}
