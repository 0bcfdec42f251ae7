//! No work is lost between those who have it, a caller in the driver's seat and the engine.

use crate::explore::{STUCK, breaks, holds};
use crate::lease::Lease as Shipped;
use crate::mutants;
use crate::seat::{AnyLease, Fault, Visit, World};
use crate::unordered;
use loom::thread;
use std::sync::Arc;

/// What there is to do, once: a command, of which a ring tells, or something on a stream, of which only the poll does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Command,
    Stream,
    /// A message, whose sender may leave the flush to a caller that is awaited.
    Message,
    /// A command that sets a timer, and the moment for which it is set.
    Timer,
}

/// How a caller visits the seat: how often, in which way, and whether it is expected back so soon that it keeps the
/// seat on loan meanwhile.
#[derive(Clone, Copy)]
struct Caller {
    visits: usize,
    visit: Visit,
    regular: bool,
}

const SHORT: Caller = Caller { visits: 1, visit: Visit::Short, regular: false };
const DISTURBED: Caller = Caller { visits: 1, visit: Visit::Disturbed, regular: false };
const PATIENT: Caller = Caller { visits: 1, visit: Visit::Patient, regular: false };
const REGULAR: Caller = Caller { visits: 2, visit: Visit::Short, regular: true };
const ABSENT: Caller = Caller { visits: 0, ..SHORT };

/// The work comes up while the caller visits, and then the caller stays away. One of the two or the engine does it.
fn run<L: AnyLease>(work: Work, caller: Caller, fault: Fault) {
    run_in(world::<L>(work, fault), work, |world| {
        for _ in 0..caller.visits {
            world.drive(caller.visit, caller.regular);
        }
    });
}

fn world<L: AnyLease>(work: Work, fault: Fault) -> World<L> {
    match work {
        Work::Command => World::new(fault, 1, false),
        Work::Stream => World::new(fault, 0, true),
        Work::Message => World::sending(fault),
        Work::Timer => World::timed(fault),
    }
}

/// The engine expects a caller, and leaves the reading to it, so many times before it finds that nobody comes.
fn run_lending<L: AnyLease>(work: Work, caller: Caller, returns: u32, fault: Fault) {
    run_in(world::<L>(work, fault).expecting(returns), work, |world| {
        for _ in 0..caller.visits {
            world.drive(caller.visit, caller.regular);
        }
    });
}

/// A caller comes that drives or, where the seat is taken, waits among others. Patrols do not help it.
fn run_waiting<L: AnyLease>(work: Work, returns: u32, fault: Fault) {
    run_in(world::<L>(work, fault).expecting(returns).without_checks(), work, |world| world.drive_or_wait());
}

/// The same while another caller makes a visit, after which it is expected back.
fn run_waiting_beside<L: AnyLease>(work: Work, fault: Fault) {
    run_in(world::<L>(work, fault).without_checks(), work, |world| {
        let other = thread::spawn({
            let world = Arc::clone(world);
            move || {
                world.drive(Visit::Short, true);
            }
        });
        world.drive_or_wait();
        other.join().expect("no panic");
    });
}

/// Two commands come up, of which the first makes the engine lend the seat. No caller comes, and patrols do not help.
fn run_two_commands<L: AnyLease>(fault: Fault) {
    let world = World::<L>::new(fault, 2, false).expecting(u32::MAX).without_checks();
    run_in(world, Work::Command, |world| world.submit(1));
}

/// A message is sent while a caller keeps the seat leased, comes back, and stays away from then on: with the seat
/// leased once more, or given up.
fn run_sending<L: AnyLease>(stays_regular: bool, fault: Fault) {
    run_in(World::<L>::sending(fault), Work::Message, move |world| {
        world.drive(Visit::Short, true);
        world.drive(Visit::Short, stays_regular);
    });
}

fn run_in<L: AnyLease>(world: World<L>, work: Work, call: impl FnOnce(&Arc<World<L>>)) {
    let world = Arc::new(world);
    let engine = thread::spawn({
        let world = Arc::clone(&world);
        move || world.engine()
    });
    let worker = thread::spawn({
        let world = Arc::clone(&world);
        move || match work {
            Work::Command => world.submit(0),
            Work::Stream => world.receive(),
            Work::Message => world.send(),
            Work::Timer => {
                world.submit(0);
                world.strike();
            }
        }
    });
    call(&world);
    world.finished.park(None);
    world.stop();
    engine.join().expect("no panic");
    worker.join().expect("no panic");
}

fn holds_for(name: &str, preemptions: usize, work: Work, caller: Caller) {
    holds(name, preemptions, move || run::<Shipped>(work, caller, Fault::None));
}

#[test]
fn a_command_survives_a_short_visit() {
    holds_for("command, short visit", 4, Work::Command, SHORT);
}

#[test]
fn a_command_survives_a_visit_that_is_disturbed() {
    holds_for("command, disturbed visit", 3, Work::Command, DISTURBED);
}

#[test]
fn a_command_wakes_the_caller_that_sleeps_in_the_seat() {
    holds_for("command, patient visit", 4, Work::Command, PATIENT);
}

#[test]
fn a_readable_stream_survives_a_short_visit() {
    holds_for("stream, short visit", 4, Work::Stream, SHORT);
}

#[test]
fn a_readable_stream_survives_a_visit_that_ends_with_it_in_hand() {
    holds_for("stream, disturbed visit", 4, Work::Stream, DISTURBED);
}

#[test]
fn a_readable_stream_wakes_the_caller_that_sleeps_in_the_seat() {
    holds_for("stream, patient visit", 4, Work::Stream, PATIENT);
}

#[test]
fn a_command_survives_a_regular_caller_that_does_not_come_back() {
    holds_for("command, seat leased", 2, Work::Command, REGULAR);
}

#[test]
fn a_readable_stream_survives_a_regular_caller_that_does_not_come_back() {
    holds_for("stream, seat leased", 3, Work::Stream, REGULAR);
}

#[test]
fn a_stream_in_the_hands_of_a_regular_caller_that_does_not_come_back_is_read() {
    holds_for("stream in hand, seat leased", 3, Work::Stream, Caller { visit: Visit::Disturbed, ..REGULAR });
}

// ----- the engine leaves the reading to a caller -----

#[test]
fn a_stream_that_the_engine_left_to_a_caller_who_never_comes_is_read() {
    holds("stream, lent, nobody comes", 3, || run_lending::<Shipped>(Work::Stream, ABSENT, 2, Fault::None));
}

#[test]
fn work_that_comes_up_around_a_loan_of_the_engine_is_done_whether_the_caller_returns_or_not() {
    for (work, caller) in [(Work::Command, SHORT), (Work::Stream, SHORT), (Work::Stream, REGULAR)] {
        holds("lent, then a visit", 2, move || run_lending::<Shipped>(work, caller, 1, Fault::None));
    }
}

#[test]
fn a_command_that_comes_up_during_a_loan_of_the_engine_waits_for_no_check() {
    holds("command, lent", 3, || run_waiting::<Shipped>(Work::Command, u32::MAX, Fault::None));
    holds("two commands, lent", 3, || run_two_commands::<Shipped>(Fault::None));
}

#[test]
fn a_caller_that_finds_the_seat_taken_by_an_engine_that_lends_it_waits_for_no_check() {
    holds("stream, lent, a waiter", 3, || run_waiting::<Shipped>(Work::Stream, u32::MAX, Fault::None));
}

#[test]
fn a_caller_that_finds_the_seat_taken_by_one_that_keeps_it_on_loan_waits_for_no_check() {
    for work in [Work::Command, Work::Stream] {
        holds("leased, a waiter", 2, move || run_waiting_beside::<Shipped>(work, Fault::None));
    }
}

// ----- a sender leaves the flush to a caller -----

#[test]
fn a_message_left_to_a_caller_that_never_comes_back_is_flushed() {
    holds("message, seat leased", 2, || run_sending::<Shipped>(true, Fault::None));
}

#[test]
fn a_message_left_to_a_caller_that_gives_the_seat_up_just_then_is_flushed() {
    holds("message, loan given up", 2, || run_sending::<Shipped>(false, Fault::None));
}

#[test]
fn a_message_that_is_sent_around_a_loan_of_the_engine_is_flushed() {
    holds("message, lent", 2, || {
        run_in(World::<Shipped>::sending(Fault::None).expecting(2), Work::Message, |world| {
            world.drive(Visit::Short, false);
        });
    });
}

/// A caller leases the seat, the engine comes, leaves the seat to the caller once more, and thinks better of it: what a
/// sender left to the lease in between is the engine's to flush.
fn run_recalled<L: AnyLease>(fault: Fault) {
    run_in(World::<L>::sending(fault).expecting(1), Work::Message, |world| {
        world.drive(Visit::Short, true);
        world.kernel.call();
    });
}

#[test]
fn a_message_left_to_a_lease_that_the_engine_ends_is_flushed() {
    holds("message, recalled", 3, || run_recalled::<Shipped>(Fault::None));
}

#[test]
fn ending_a_lease_at_the_end_of_a_turn_without_asking_what_was_left_to_it_loses_a_message() {
    breaks("recalls unflushed", STUCK, 3, || {
        run_recalled::<mutants::recalls_unflushed::lease::Lease>(Fault::None);
    });
}

#[test]
fn asking_what_was_left_to_a_lease_before_it_ends_loses_a_message() {
    breaks("arms first", STUCK, 3, || run_recalled::<mutants::arms_first::lease::Lease>(Fault::None));
}

// ----- deadlines -----

#[test]
fn a_deadline_that_a_visit_leaves_behind_is_kept() {
    holds_for("timer, short visit", 3, Work::Timer, SHORT);
    holds_for("timer, seat leased", 2, Work::Timer, REGULAR);
}

#[test]
fn a_deadline_is_kept_around_a_loan_of_the_engine() {
    for caller in [ABSENT, SHORT, REGULAR] {
        holds("timer, lent", 2, move || run_lending::<Shipped>(Work::Timer, caller, 1, Fault::None));
    }
}

// ----- mutants of the word -----

#[test]
fn a_word_that_orders_nothing_loses_a_command() {
    breaks("unordered", STUCK, 3, || run::<unordered::lease::Lease>(Work::Command, SHORT, Fault::None));
}

#[test]
fn going_to_sleep_in_two_steps_loses_a_command() {
    breaks("two steps", STUCK, 3, || {
        run::<mutants::rests_in_two_steps::lease::Lease>(Work::Command, PATIENT, Fault::None)
    });
}

#[test]
fn leaving_without_a_word_loses_a_command() {
    breaks("leaves silently", STUCK, 3, || {
        run::<mutants::leaves_silently::lease::Lease>(Work::Command, SHORT, Fault::None)
    });
}

#[test]
fn a_miss_that_nobody_learns_of_loses_work() {
    for work in [Work::Command, Work::Stream] {
        breaks("no miss", STUCK, 3, move || run::<mutants::tells_of_no_miss::lease::Lease>(work, SHORT, Fault::None));
    }
}

// ----- mutants of the seat -----

#[test]
fn a_miss_without_a_second_try_loses_work() {
    for work in [Work::Command, Work::Stream] {
        breaks("no second try", STUCK, 3, move || {
            run::<mutants::no_second_try::lease::Lease>(work, SHORT, Fault::None)
        });
    }
}

#[test]
fn asking_for_a_miss_before_unlocking_loses_work() {
    for work in [Work::Command, Work::Stream] {
        breaks("asks too early", STUCK, 3, move || {
            run::<mutants::asks_before_unlocking::lease::Lease>(work, SHORT, Fault::None)
        });
    }
}

#[test]
fn looking_before_saying_so_loses_a_command() {
    breaks("starts too late", STUCK, 3, || run::<Shipped>(Work::Command, PATIENT, Fault::StartsTooLate));
}

#[test]
fn giving_up_a_check_after_the_look_loses_a_stream() {
    breaks("gives up too late", STUCK, 3, || {
        run::<mutants::gives_up_too_late::lease::Lease>(Work::Stream, REGULAR, Fault::None)
    });
}

#[test]
fn lending_without_asking_what_was_left_loses_a_command() {
    breaks("lends silently", STUCK, 3, || run_two_commands::<Shipped>(Fault::LeasesSilently));
}

#[test]
fn lending_without_looking_after_it_loses_a_stream() {
    breaks("lends unseen", STUCK, 3, || run_lending::<Shipped>(Work::Stream, ABSENT, 2, Fault::LeasesUnseen));
}

#[test]
fn asking_for_those_who_wait_before_lending_lets_them_wait() {
    breaks("asks before lending", STUCK, 3, || {
        run_waiting::<mutants::asks_before_lending::lease::Lease>(Work::Stream, u32::MAX, Fault::None)
    });
    breaks("asks before leaving", STUCK, 2, || {
        run_waiting_beside::<mutants::asks_before_leasing::lease::Lease>(Work::Stream, Fault::None)
    });
}

#[test]
fn waiting_without_asking_for_a_loan_is_waiting_for_a_check() {
    breaks("waits unattended", STUCK, 3, || run_waiting::<Shipped>(Work::Stream, u32::MAX, Fault::WaitsUnattended));
    breaks("waits unattended", STUCK, 2, || run_waiting_beside::<Shipped>(Work::Stream, Fault::WaitsUnattended));
}

#[test]
fn ending_a_lease_for_a_thread_that_waits_without_asking_what_was_left_to_it_loses_a_message() {
    holds("message, leased, a waiter", 2, || run_waiting_beside::<Shipped>(Work::Message, Fault::None));
    breaks("leaves unflushed", STUCK, 2, || {
        run_waiting_beside::<mutants::leaves_unflushed::lease::Lease>(Work::Message, Fault::None);
    });
}

#[test]
fn a_loan_that_nobody_looks_after_loses_a_message() {
    breaks("leaves unseen", STUCK, 2, || run_sending::<mutants::leaves_unwatched::lease::Lease>(true, Fault::None));
}

#[test]
fn keeping_a_loan_without_asking_whom_a_miss_is_about_is_waiting_for_a_check() {
    breaks("misses waiters", STUCK, 3, || {
        run_waiting_beside::<mutants::misses_waiters::lease::Lease>(Work::Stream, Fault::None)
    });
}

#[test]
fn leaving_without_telling_of_a_deadline_forgets_it() {
    breaks("keeps its deadline", STUCK, 3, || {
        run::<mutants::keeps_its_deadline::lease::Lease>(Work::Timer, SHORT, Fault::None)
    });
}

#[test]
fn finding_the_seat_held_when_a_deadline_has_passed_and_telling_nobody_forgets_it() {
    breaks("no miss", STUCK, 3, || run::<mutants::tells_of_no_miss::lease::Lease>(Work::Timer, SHORT, Fault::None));
    breaks("leaves unseen", STUCK, 3, || {
        run::<mutants::leaves_unwatched::lease::Lease>(Work::Timer, REGULAR, Fault::None)
    });
}
