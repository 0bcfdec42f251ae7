//! Threads that want a REQ for a whole exchange stand in a line: one at a time has its turn, in the order in which they
//! came.

use super::core::{GRACE, is_stopped};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// See the module. A forked child must not touch it, because a thread of the parent may hold its lock.
#[derive(Default)]
pub(super) struct Line {
    standing: Mutex<Standing>,
    moved: Condvar,
}

#[derive(Default)]
struct Standing {
    /// The number of each thread; the first has its turn.
    numbers: VecDeque<u64>,
    last: u64,
}

/// The place of a thread in the line, which it leaves by dropping this.
pub(super) struct Place<'a> {
    line: &'a Line,
    number: u64,
}

impl Line {
    /// Goes to the end of the line.
    pub(super) fn join(&self) -> Place<'_> {
        let mut standing = self.lock();
        standing.last += 1;
        let number = standing.last;
        standing.numbers.push_back(number);
        Place { line: self, number }
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Waits until it is the turn of this thread, or the deadline has passed. Returns true if it is; a turn that comes
    /// after the deadline is none, because a request that goes out with no time left is one that nobody waits for. In
    /// vain the place is kept.
    ///
    /// If the process did not run when the time was over, the deadline is moved on, once: whoever has its turn takes
    /// the answer that came meanwhile and goes, and this thread then has the rest of that time for its own exchange.
    pub(super) fn await_turn(&self, deadline: &mut Option<Instant>) -> bool {
        let mut standing = self.line.lock();
        let (mut has_waited, mut is_granted) = (false, false);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let is_over = left.is_some_and(|left| left.is_zero());
            if standing.numbers.front() == Some(&self.number) && (!has_waited || !is_over) {
                return true;
            }
            if is_over {
                if is_granted || !is_stopped(*deadline) {
                    return false;
                }
                is_granted = true;
                *deadline = Instant::now().checked_add(GRACE);
                continue;
            }
            has_waited = true;
            standing = match left {
                Some(left) => self.line.moved.wait_timeout(standing, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.line.moved.wait(standing).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut standing = self.line.lock();
        standing.numbers.retain(|number| *number != self.number);
        let is_empty = standing.numbers.is_empty();
        drop(standing);
        if !is_empty {
            self.line.moved.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn turns_are_taken_in_the_order_in_which_threads_came_and_those_that_left_are_passed_over() {
        let line = Line::default();
        let [first, second, third, fourth] = [(); 4].map(|()| line.join());
        let is_turn_of = |place: &Place<'_>| place.await_turn(&mut Some(Instant::now()));
        assert!(is_turn_of(&first) && !is_turn_of(&second) && !is_turn_of(&fourth));
        drop(second);
        drop(first);
        assert!(is_turn_of(&third) && !is_turn_of(&fourth));
        drop(third);
        assert!(is_turn_of(&fourth));
    }

    #[test]
    fn a_turn_that_comes_after_the_deadline_is_none() {
        let line = Line::default();
        let (first, second) = (line.join(), line.join());
        let deadline = Instant::now() + Duration::from_millis(20);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| second.await_turn(&mut Some(deadline)));
            let held = loop {
                let standing = line.lock();
                if Instant::now() >= deadline {
                    break standing;
                }
                drop(standing);
                std::thread::yield_now();
            };
            let mut standing = held;
            standing.numbers.pop_front();
            drop(standing);
            assert!(!waiting.join().expect("no panic"));
        });
        drop(first);
    }

    #[test]
    fn a_deadline_that_passed_while_the_process_did_not_run_is_moved_on_once() {
        let line = Line::default();
        let (first, second) = (line.join(), line.join());
        let mut deadline = Instant::now().checked_sub(2 * GRACE.max(Duration::from_secs(1)));
        let before = deadline;
        assert!(deadline.is_some() && !second.await_turn(&mut deadline), "it is not its turn");
        assert!(deadline > before && deadline <= Some(Instant::now()), "it has waited that long");
        drop(first);
        let mut deadline = before;
        assert!(second.await_turn(&mut deadline), "it does not have to wait");
        assert_eq!(deadline, before);
    }

    #[test]
    fn who_waits_is_called_when_its_turn_comes() {
        let line = Line::default();
        let first = line.join();
        std::thread::scope(|scope| {
            let others: Vec<_> = (0..4)
                .map(|number| {
                    let place = line.join();
                    let deadline = Instant::now() + Duration::from_secs(30);
                    scope.spawn(move || place.await_turn(&mut (number % 2 == 0).then_some(deadline)))
                })
                .collect();
            drop(first);
            assert!(others.into_iter().all(|other| other.join().expect("no panic")));
        });
    }
}
