//! One endpoint connected very many times by one socket: no step takes longer because there are many.

use crate::support::measure::Stopwatch;
use crate::support::{Nobody, Over, alone};
use std::time::Duration;
use wiremesh::{Context, Pull, Push};

pub(crate) const FEW: u32 = 1000;
pub(crate) const MANY: u32 = 8 * FEW;
/// How much longer the many may take: 8 times as long is linear, 64 times quadratic.
pub(crate) const MOST: u32 = 24;

/// How long a socket takes to connect so many times, and to disconnect all of them. `None` once that is too long.
fn time_of(uses: u32, limit: Duration, endpoint: &str, binder: Option<&Context>) -> Option<Duration> {
    let own = Context::builder().report_unsent(false).build();
    let push = Push::builder().context(binder.unwrap_or(&own)).linger(Duration::ZERO).build().expect("good options");
    let watch = Stopwatch::start();
    let is_late = |done: u32| done % 100 == 0 && watch.elapsed() > limit;
    for done in 0..uses {
        push.connect(endpoint).expect("good");
        if is_late(done) {
            return None;
        }
    }
    for done in 0..uses {
        push.disconnect(endpoint).expect("connected");
        if is_late(done) {
            return None;
        }
    }
    Some(watch.elapsed())
}

fn is_linear(endpoint: &str, binder: Option<&Context>) {
    let uses = |uses, limit| time_of(uses, limit, endpoint, binder);
    takes_no_longer(&format!("uses of {endpoint}"), [FEW, MANY], MOST, uses);
}

/// Many of something take at most so many times as long as few. `time_of` says how long so many take, or `None` once
/// that is too long. Measured up to three times, because a pause of the machine may fall upon one.
pub(crate) fn takes_no_longer(
    what: &str,
    [few, many]: [u32; 2],
    most: u32,
    time_of: impl Fn(u32, Duration) -> Option<Duration>,
) {
    let _turn = alone();
    let mut all = Vec::new();
    for _ in 0..3 {
        let base = time_of(few, Duration::MAX).expect("there is no limit");
        let took = time_of(many, base * most);
        if took.is_some_and(|took| took <= base * most) {
            return;
        }
        all.push((base, took));
    }
    panic!("{few} and {many} {what} took {all:?}");
}

#[test]
fn eight_thousand_uses_of_a_tcp_endpoint_where_nobody_is_take_no_longer_each_than_a_thousand() {
    is_linear(&Nobody::new().endpoint, None);
}

#[test]
fn eight_thousand_uses_of_an_ipc_path_where_nobody_is_take_no_longer_each_than_a_thousand() {
    is_linear("ipc:///tmp/wiremesh-nobody-is-there", None);
}

#[test]
fn eight_thousand_uses_of_an_inproc_name_that_nobody_has_bound_take_no_longer_each_than_a_thousand() {
    is_linear("inproc://nobody", None);
}

#[test]
fn eight_thousand_uses_of_an_inproc_name_take_no_longer_each_than_a_thousand() {
    let context = Context::new();
    let pull = Pull::in_context(&context);
    let bound = pull.bind(Over::Inproc.wildcard()).expect("a new name");
    is_linear(bound.as_str(), Some(&context));
}
