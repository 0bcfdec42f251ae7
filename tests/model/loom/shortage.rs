//! A sender that the budget stopped goes on, although what ended the shortage was given back while the shortage was
//! being noted.

use crate::explore::{STUCK, breaks, holds};
use crate::parker::Parker;
use crate::sync::Arc;
use loom::thread;

/// One socket takes an octet more than there are, while another gives back all it holds and a third waits for room,
/// with the budget of that module.
macro_rules! run {
    ($($module:ident)::+) => {{
        use $($module)::+::{Account, ALLOWANCE, Budget, BudgetHalf, Charge};
        let free = usize::try_from(ALLOWANCE).expect("a number of octets");
        let budget = Budget::new(Some(8));
        let [waiting, giving, taking] = [(); 3].map(|()| Account::new(&budget, BudgetHalf::Sending));
        fn charge(account: &Arc<Account>, octets: usize) -> Charge {
            let mut charge = Charge::new(account);
            charge.set(octets);
            charge
        }
        let held = charge(&waiting, free + 1);
        let much = charge(&giving, free + 3);
        let sleeper = Arc::new(Parker::new());
        let attend = {
            let (budget, waiting, sleeper) = (Arc::clone(&budget), Arc::clone(&waiting), Arc::clone(&sleeper));
            move || {
                if budget.take_ended() && waiting.take_stopped() {
                    sleeper.notify();
                }
            }
        };
        let giver = thread::spawn({
            let attend = attend.clone();
            move || {
                drop(much);
                attend();
            }
        });
        let taker = thread::spawn(move || {
            let taken = charge(&taking, free + 1);
            attend();
            taken
        });
        let waiter = thread::spawn(move || {
            while waiting.is_stopped() {
                sleeper.park(None);
            }
        });
        giver.join().expect("no panic");
        waiter.join().expect("no panic");
        drop((taker.join().expect("no panic"), held));
        assert_eq!(budget.used(BudgetHalf::Sending), 0, "all is given back");
    }};
}

#[test]
fn a_shortage_that_ends_while_it_begins_stops_nobody_for_good() {
    holds("shortage", 3, || run!(crate::budget));
}

#[test]
fn who_notes_a_shortage_without_a_second_look_sleeps_on() {
    breaks("no second look", STUCK, 4, || run!(crate::mutants::looks_once::budget));
}

#[test]
fn who_looks_a_second_time_at_what_it_saw_before_sleeps_on() {
    breaks("a load", STUCK, 4, || run!(crate::mutants::looks_without_a_change::budget));
}

#[test]
fn who_does_not_look_again_after_it_has_noted_that_it_waits_sleeps_on() {
    breaks("unseen", STUCK, 4, || run!(crate::mutants::waits_unseen::budget));
}
