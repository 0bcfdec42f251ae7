//! A sender that the budget stopped goes on, although what ended the shortage was given back while the shortage was being noted.

use crate::explore::{STUCK, breaks, holds};
use crate::parker::Parker;
use crate::sync::Arc;
use loom::thread;

/// A socket takes an octet more than there are, while another gives back all it holds, with the budget of that module.
macro_rules! run {
    ($($module:ident)::+) => {{
        use $($module)::+::{Account, ALLOWANCE, Budget, BudgetHalf, Charge};
        let free = usize::try_from(ALLOWANCE).expect("a number of octets");
        let budget = Budget::new(Some(8));
        let [one, other] = [(); 2].map(|()| Account::new(&budget, BudgetHalf::Sending));
        let mut much = Charge::new(&other);
        much.set(free + 4);
        let sleeper = Arc::new(Parker::new());
        let giver = thread::spawn({
            let (budget, sleeper) = (Arc::clone(&budget), Arc::clone(&sleeper));
            move || {
                drop(much);
                if budget.take_ended() {
                    sleeper.notify();
                }
            }
        });
        let mut little = Charge::new(&one);
        little.set(free + 1);
        while one.is_stopped() {
            sleeper.park(None);
        }
        giver.join().expect("no panic");
        drop(little);
        assert_eq!(budget.used(BudgetHalf::Sending), 0, "all is given back");
    }};
}

#[test]
fn a_shortage_that_ends_while_it_begins_stops_nobody_for_good() {
    holds("shortage", 3, || run!(crate::budget));
}

#[test]
fn who_notes_a_shortage_without_a_second_look_sleeps_on() {
    breaks("no second look", STUCK, 3, || run!(crate::mutants::looks_once::budget));
}

#[test]
fn who_looks_a_second_time_at_what_it_saw_before_sleeps_on() {
    breaks("a load", STUCK, 3, || run!(crate::mutants::looks_without_a_change::budget));
}
