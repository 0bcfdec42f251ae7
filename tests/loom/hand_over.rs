//! No work is lost between those who have it, a caller in the driver's seat and the engine.

use crate::explore::{STUCK, breaks, holds};
use crate::seat::{Fault, Visit, Word, World};
use crate::signal::Signal;
use loom::thread;
use std::sync::Arc;

/// A command is submitted while a caller pays the seat a visit. It is carried out whatever happens, by one or the other.
fn submit_during<W: Word>(visit: Visit, fault: Fault) {
    run(World::<W>::new(fault, 1, false), |world| world.submit(0), move |world| {
        world.drive(visit, false);
    });
}

/// The same for a stream that becomes readable, of which only the poll speaks.
fn receive_during<W: Word>(visit: Visit, fault: Fault) {
    run(World::<W>::new(fault, 0, true), |world| world.receive(), move |world| {
        world.drive(visit, false);
    });
}

fn run<W: Word>(
    world: World<W>,
    work: impl FnOnce(&World<W>) + Send + 'static,
    caller: impl FnOnce(&World<W>),
) {
    let world = Arc::new(world);
    let engine = thread::spawn({
        let world = Arc::clone(&world);
        move || world.engine()
    });
    let worker = thread::spawn({
        let world = Arc::clone(&world);
        move || work(&world)
    });
    caller(&world);
    world.finished.park(None);
    world.stop();
    engine.join().expect("no panic");
    worker.join().expect("no panic");
}

#[test]
fn a_command_survives_a_short_visit() {
    holds("command, short visit", 3, || submit_during::<Signal>(Visit::Short, Fault::None));
}

#[test]
fn a_command_wakes_the_caller_that_sleeps_in_the_seat() {
    holds("command, patient visit", 3, || submit_during::<Signal>(Visit::Patient, Fault::None));
}

#[test]
fn a_readable_stream_survives_a_short_visit() {
    holds("stream, short visit", 3, || receive_during::<Signal>(Visit::Short, Fault::None));
}

#[test]
fn a_readable_stream_survives_a_visit_that_ends_with_it_in_hand() {
    holds("stream, disturbed visit", 3, || receive_during::<Signal>(Visit::Disturbed, Fault::None));
}
#[test]
fn a_readable_stream_wakes_the_caller_that_sleeps_in_the_seat() {
    holds("stream, patient visit", 3, || receive_during::<Signal>(Visit::Patient, Fault::None));
}


fn all<W: Word>(name: &str, fault: Fault) {
    for n in [1, 2] {
    for regular in [false, true] {
    for v in [Visit::Short, Visit::Disturbed, Visit::Patient] {
        for s in [false, true] {
        let r = std::panic::catch_unwind(|| holds("-", 2, move || run(World::<W>::new(fault, !s as usize, s), move |world| if s {world.receive() } else {world.submit(0)}, move |world| {
            for _ in 0..n { world.drive(v, regular); }
        })));
        println!("== {name} n{n} regular {regular} {} stream {s}: {}", ["short","disturbed","patient"][v as usize], match r { Ok(_) => "ok", Err(e) if e.downcast_ref::<String>().is_some_and(|e| e.contains(STUCK)) => "STUCK", Err(_) => "other" });
        }
    }}}
}
#[test]
fn z_all() {
    use crate::seat::*;
    all::<Signal>("real", Fault::None);
    all::<Signal>("nosecond", Fault::NoSecondTry);
    all::<Signal>("asksbefore", Fault::AsksBeforeUnlocking);
    all::<Signal>("startslate", Fault::StartsTooLate);
    all::<Signal>("forgets", Fault::ForgetsTheLoan);
    all::<crate::unordered::signal::Signal>("unordered", Fault::None);
    all::<Weakened<0>>("two steps", Fault::None);
    all::<Weakened<1>>("silently", Fault::None);
    all::<Weakened<2>>("no miss", Fault::None);
    all::<Weakened<3>>("load", Fault::None);
}
