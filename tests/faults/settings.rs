//! Options that threads change at once: what is in force is what was set last.

use crate::support::{PATIENCE, times, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use wiremesh::{Context, Pair, Push, RecvError, SendFailure, Setting};

/// Two threads set something at the same moment, again and again; in between `check` looks at what is in force.
/// `disturb` holds them up.
fn at_once(
    one: impl Fn() + Send + Sync,
    other: impl Fn() + Send + Sync,
    disturb: impl Fn() + Send + Sync,
    mut check: impl FnMut(usize),
) {
    let rounds = times(2_000);
    let over = AtomicBool::new(false);
    let (turn, ready) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let set = |work: &(dyn Fn() + Sync)| {
            for round in 0..rounds {
                while turn.load(Ordering::SeqCst) <= round {
                    thread::yield_now();
                }
                (0..20).for_each(|_| work());
                ready.fetch_add(1, Ordering::SeqCst);
            }
        };
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                disturb();
            }
        });
        scope.spawn(move || set(&one));
        scope.spawn(move || set(&other));
        for round in 0..rounds {
            turn.store(round + 1, Ordering::SeqCst);
            while ready.load(Ordering::SeqCst) < 2 * (round + 1) {
                thread::yield_now();
            }
            check(round);
        }
        over.store(true, Ordering::SeqCst);
    });
}

const SOON: Option<Duration> = Some(Duration::ZERO);

#[test]
fn two_options_that_are_set_at_once_are_both_in_force() {
    within(PATIENCE, "one is not", || {
        let pair = Arc::new(Pair::in_context(&Context::new()));
        let check = |_| {
            assert_eq!(pair.recv(), Err(RecvError::TimedOut));
            assert_eq!(pair.send("x").expect_err("to nobody").reason, SendFailure::TimedOut);
            pair.set(Setting::ReceiveTimeout(None)).expect("a good value");
            pair.set(Setting::SendTimeout(None)).expect("a good value");
        };
        at_once(
            || pair.set(Setting::ReceiveTimeout(SOON)).expect("a good value"),
            || pair.set(Setting::SendTimeout(SOON)).expect("a good value"),
            thread::yield_now,
            check,
        );
    });
}

/// A PUSH that has taken all it has room for, though its peer is not there.
fn full(push: &Push) -> u64 {
    while push.try_send("x").is_ok() {}
    push.stats().queued
}

fn push() -> Push {
    let context = Context::builder().drop_wait(SOON).build();
    let push = Push::builder().context(&context).linger(Duration::ZERO).build().expect("good options");
    push.connect("tcp://127.0.0.1:1").expect("a good endpoint");
    push
}

#[test]
fn of_two_values_of_an_option_the_one_it_shows_is_in_force() {
    let (push, next) = (push(), AtomicU32::new(0));
    let set = || push.set(Setting::SendMark(next.fetch_add(1, Ordering::SeqCst) + 1)).expect("a good value");
    let disturb = || assert!(push.stats().is_balanced());
    at_once(set, set, disturb, |round| {
        assert_eq!(full(&push), push.options().send_mark.into(), "round {round}");
    });
}

#[test]
fn a_switch_and_a_mark_that_are_set_at_once_are_both_in_force() {
    let (push, mark) = (push(), AtomicU32::new(0));
    at_once(
        || push.set(Setting::SendMark(mark.fetch_add(1, Ordering::SeqCst) + 1)).expect("a good value"),
        || push.set(Setting::AdaptiveSpin(false)).expect("a good value"),
        || assert!(push.stats().is_balanced()),
        |round| assert_eq!(full(&push), mark.load(Ordering::SeqCst).into(), "round {round}"),
    );
}
