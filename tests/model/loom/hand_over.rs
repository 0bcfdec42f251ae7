//! No work is lost between those who have it, a caller in the driver's seat and the engine.

use crate::explore::{STUCK, breaks, holds};
use crate::seat::{self, Fault, Visit, Weakened, Word, World};
use crate::signal::Signal;
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

/// How a caller visits the seat: how often, in which way, and whether it is expected back so soon that it keeps the seat on
/// loan meanwhile.
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
fn run<W: Word>(work: Work, caller: Caller, fault: Fault) {
    run_in(world::<W>(work, fault), work, |world| {
        for _ in 0..caller.visits {
            world.drive(caller.visit, caller.regular);
        }
    });
}

fn world<W: Word>(work: Work, fault: Fault) -> World<W> {
    match work {
        Work::Command => World::new(fault, 1, false),
        Work::Stream => World::new(fault, 0, true),
        Work::Message => World::sending(fault),
        Work::Timer => World::timed(fault),
    }
}

/// The engine expects a caller, and leaves the reading to it, so many times before it finds that nobody comes.
fn run_lending(work: Work, caller: Caller, returns: u32, fault: Fault) {
    run_in(world::<Signal>(work, fault).expecting(returns), work, |world| {
        for _ in 0..caller.visits {
            world.drive(caller.visit, caller.regular);
        }
    });
}

/// A caller comes that drives or, where the seat is taken, waits among others. Patrols do not help it.
fn run_waiting(work: Work, returns: u32, fault: Fault) {
    run_in(world::<Signal>(work, fault).expecting(returns).without_patrols(), work, |world| world.drive_or_wait());
}

/// The same while another caller makes a visit, after which it is expected back.
fn run_waiting_beside(work: Work, fault: Fault) {
    run_in(world::<Signal>(work, fault).without_patrols(), work, |world| {
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
fn run_two_commands(fault: Fault) {
    let world = World::<Signal>::new(fault, 2, false).expecting(u32::MAX).without_patrols();
    run_in(world, Work::Command, |world| world.submit(1));
}

/// A message is sent while a caller keeps the seat on loan, comes back, and stays away from then on: with the seat on loan once
/// more, or given up.
fn run_sending(stays_regular: bool, fault: Fault) {
    run_in(World::<Signal>::sending(fault), Work::Message, move |world| {
        world.drive(Visit::Short, true);
        world.drive(Visit::Short, stays_regular);
    });
}

fn run_in<W: Word>(world: World<W>, work: Work, call: impl FnOnce(&Arc<World<W>>)) {
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
    holds(name, preemptions, move || run::<Signal>(work, caller, Fault::None));
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
    holds_for("command, seat on loan", 2, Work::Command, REGULAR);
}

#[test]
fn a_readable_stream_survives_a_regular_caller_that_does_not_come_back() {
    holds_for("stream, seat on loan", 3, Work::Stream, REGULAR);
}

#[test]
fn a_stream_in_the_hands_of_a_regular_caller_that_does_not_come_back_is_read() {
    holds_for("stream in hand, seat on loan", 3, Work::Stream, Caller { visit: Visit::Disturbed, ..REGULAR });
}

// ----- the engine leaves the reading to a caller -----

#[test]
fn a_stream_that_the_engine_left_to_a_caller_who_never_comes_is_read() {
    holds("stream, lent, nobody comes", 3, || run_lending(Work::Stream, ABSENT, 2, Fault::None));
}

#[test]
fn work_that_comes_up_around_a_loan_of_the_engine_is_done_whether_the_caller_returns_or_not() {
    for (work, caller) in [(Work::Command, SHORT), (Work::Stream, SHORT), (Work::Stream, REGULAR)] {
        holds("lent, then a visit", 2, move || run_lending(work, caller, 1, Fault::None));
    }
}

#[test]
fn a_command_that_comes_up_during_a_loan_of_the_engine_waits_for_no_patrol() {
    holds("command, lent", 3, || run_waiting(Work::Command, u32::MAX, Fault::None));
    holds("two commands, lent", 3, || run_two_commands(Fault::None));
}

#[test]
fn a_caller_that_finds_the_seat_taken_by_an_engine_that_lends_it_waits_for_no_patrol() {
    holds("stream, lent, a waiter", 3, || run_waiting(Work::Stream, u32::MAX, Fault::None));
}

#[test]
fn a_caller_that_finds_the_seat_taken_by_one_that_keeps_it_on_loan_waits_for_no_patrol() {
    for work in [Work::Command, Work::Stream] {
        holds("on loan, a waiter", 2, move || run_waiting_beside(work, Fault::None));
    }
}

// ----- a sender leaves the flush to a caller -----

#[test]
fn a_message_left_to_a_caller_that_never_comes_back_is_flushed() {
    holds("message, seat on loan", 2, || run_sending(true, Fault::None));
}

#[test]
fn a_message_left_to_a_caller_that_gives_the_seat_up_just_then_is_flushed() {
    holds("message, loan given up", 2, || run_sending(false, Fault::None));
}

#[test]
fn a_message_that_is_sent_around_a_loan_of_the_engine_is_flushed() {
    holds("message, lent", 2, || {
        run_in(World::<Signal>::sending(Fault::None).expecting(2), Work::Message, |world| {
            world.drive(Visit::Short, false);
        });
    });
}

// ----- deadlines -----

#[test]
fn a_deadline_that_a_visit_leaves_behind_is_kept() {
    holds_for("timer, short visit", 3, Work::Timer, SHORT);
    holds_for("timer, seat on loan", 2, Work::Timer, REGULAR);
}

#[test]
fn a_deadline_is_kept_around_a_loan_of_the_engine() {
    for caller in [ABSENT, SHORT, REGULAR] {
        holds("timer, lent", 2, move || run_lending(Work::Timer, caller, 1, Fault::None));
    }
}

// ----- mutants of the word -----

#[test]
fn a_word_that_orders_nothing_loses_a_command() {
    breaks("unordered", STUCK, 3, || run::<unordered::signal::Signal>(Work::Command, SHORT, Fault::None));
}

#[test]
fn going_to_sleep_in_two_steps_loses_a_command() {
    breaks("two steps", STUCK, 3, || {
        run::<Weakened<{ seat::RESTS_IN_TWO_STEPS }>>(Work::Command, PATIENT, Fault::None)
    });
}

#[test]
fn leaving_without_a_word_loses_a_command() {
    breaks("leaves silently", STUCK, 3, || {
        run::<Weakened<{ seat::LEAVES_SILENTLY }>>(Work::Command, SHORT, Fault::None)
    });
}

#[test]
fn a_miss_that_nobody_learns_of_loses_work() {
    for work in [Work::Command, Work::Stream] {
        breaks("no miss", STUCK, 3, move || run::<Weakened<{ seat::TELLS_OF_NO_MISS }>>(work, SHORT, Fault::None));
    }
}

#[test]
fn asking_for_a_miss_with_a_load_loses_work() {
    for work in [Work::Command, Work::Stream] {
        breaks("asks with a load", STUCK, 3, move || {
            run::<Weakened<{ seat::ASKS_WITH_A_LOAD }>>(work, SHORT, Fault::None)
        });
    }
}

// ----- mutants of the seat -----

#[test]
fn a_miss_without_a_second_try_loses_work() {
    for work in [Work::Command, Work::Stream] {
        breaks("no second try", STUCK, 3, move || run::<Signal>(work, SHORT, Fault::NoSecondTry));
    }
}

#[test]
fn asking_for_a_miss_before_unlocking_loses_work() {
    for work in [Work::Command, Work::Stream] {
        breaks("asks too early", STUCK, 3, move || run::<Signal>(work, SHORT, Fault::AsksBeforeUnlocking));
    }
}

#[test]
fn looking_before_saying_so_loses_a_command() {
    breaks("starts too late", STUCK, 3, || run::<Signal>(Work::Command, PATIENT, Fault::StartsTooLate));
}

#[test]
fn giving_up_a_patrol_after_the_look_loses_a_stream() {
    breaks("gives up too late", STUCK, 3, || run::<Signal>(Work::Stream, REGULAR, Fault::GivesUpTooLate));
}

#[test]
fn lending_without_asking_what_was_left_loses_a_command() {
    breaks("lends silently", STUCK, 3, || run_two_commands(Fault::LendsSilently));
}

#[test]
fn lending_without_looking_after_it_loses_a_stream() {
    breaks("lends unseen", STUCK, 3, || run_lending(Work::Stream, ABSENT, 2, Fault::LendsUnseen));
}

#[test]
fn asking_for_those_who_wait_before_lending_lets_them_wait() {
    breaks("asks before lending", STUCK, 3, || run_waiting(Work::Stream, u32::MAX, Fault::AsksBeforeLending));
    breaks("asks before leaving", STUCK, 2, || run_waiting_beside(Work::Stream, Fault::AsksBeforeLending));
}

#[test]
fn waiting_without_asking_for_a_loan_is_waiting_for_a_patrol() {
    breaks("waits unattended", STUCK, 3, || run_waiting(Work::Stream, u32::MAX, Fault::WaitsUnattended));
    breaks("waits unattended", STUCK, 2, || run_waiting_beside(Work::Stream, Fault::WaitsUnattended));
}

#[test]
fn ending_a_loan_without_asking_what_was_left_to_it_loses_a_message() {
    breaks("leaves unflushed", STUCK, 2, || run_sending(false, Fault::LeavesUnflushed));
}

#[test]
fn a_loan_that_nobody_looks_after_loses_a_message() {
    breaks("leaves unseen", STUCK, 2, || run_sending(true, Fault::LeavesUnseen));
}

#[test]
fn keeping_a_loan_without_asking_whom_a_miss_is_about_is_waiting_for_a_patrol() {
    breaks("misses waiters", STUCK, 3, || run_waiting_beside(Work::Stream, Fault::MissesWaiters));
}

#[test]
fn leaving_without_telling_of_a_deadline_forgets_it() {
    breaks("keeps its deadline", STUCK, 3, || run::<Signal>(Work::Timer, SHORT, Fault::KeepsDeadline));
}

#[test]
fn finding_the_seat_held_when_a_deadline_has_passed_and_telling_nobody_forgets_it() {
    breaks("no miss", STUCK, 3, || run::<Weakened<{ seat::TELLS_OF_NO_MISS }>>(Work::Timer, SHORT, Fault::None));
    breaks("leaves unseen", STUCK, 3, || run::<Signal>(Work::Timer, REGULAR, Fault::LeavesUnseen));
}
