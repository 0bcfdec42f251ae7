//! Very many endpoints of different names, and very many peers: none takes longer to come or go because of the others.

use crate::support::measure::Stopwatch;
use crate::uses::{FEW, MANY, MOST, takes_no_longer};
use std::time::Duration;
use wiremesh::{Context, Pub, Pull, Push, Sub};

/// How long steps take that are measured, those together of which each is one endpoint's.
struct Steps {
    watch: Stopwatch,
    limit: Duration,
}

impl Steps {
    fn begin(limit: Duration) -> Steps {
        Steps { watch: Stopwatch::start(), limit }
    }

    /// Takes a step for each number; `None` once that is too long.
    fn each(&self, numbers: impl Iterator<Item = u32>, mut step: impl FnMut(u32)) -> Option<Duration> {
        for (done, number) in numbers.enumerate() {
            step(number);
            if done % 100 == 0 && self.watch.elapsed() > self.limit {
                return None;
            }
        }
        Some(self.watch.elapsed())
    }
}

fn context() -> Context {
    Context::builder().report_unsent(false).build()
}

fn name(number: u32) -> String {
    format!("inproc://{number}")
}

#[test]
fn an_endpoint_is_unbound_as_fast_beside_sixteen_thousand_peers_as_beside_a_thousand() {
    const UNBOUND: u32 = 100;
    takes_no_longer("peers, and unbinding beside them", [FEW, 16 * FEW], 4, |peers, limit| {
        let push = Push::in_context(&context());
        // Peers that wait for the binder of a name need no descriptors.
        (0..peers).for_each(|number| drop(push.connect(name(number)).expect("good")));
        let bound: Vec<_> = (0..UNBOUND).map(|_| push.bind("tcp://127.0.0.1:*").expect("a free port")).collect();
        Steps::begin(limit).each(0..UNBOUND, |number| push.unbind(&bound[number as usize]).expect("bound"))
    });
}

#[test]
fn eight_thousand_inproc_names_are_bound_and_unbound_as_fast_as_a_thousand_the_last_one_first() {
    takes_no_longer("inproc names", [FEW, MANY], MOST, |names, limit| {
        let pull = Pull::in_context(&context());
        let steps = Steps::begin(limit);
        steps.each(0..names, |number| drop(pull.bind(name(number)).expect("a new name")))?;
        steps.each((0..names).rev(), |number| pull.unbind(name(number)).expect("bound"))
    });
}

#[test]
fn peers_meet_at_the_last_of_eight_thousand_inproc_names_as_fast_as_at_the_last_of_a_thousand() {
    takes_no_longer("inproc names with a peer", [FEW, MANY], MOST, |names, limit| {
        let context = context();
        let (pull, push) = (Pull::in_context(&context), Push::in_context(&context));
        (0..names).for_each(|number| drop(pull.bind(name(number)).expect("a new name")));
        let steps = Steps::begin(limit);
        steps.each(0..names, |number| drop(push.connect(name(number)).expect("bound")))?;
        steps.each((0..names).rev(), |number| push.disconnect(name(number)).expect("connected"))
    });
}

/// A kind that connects once connects different endpoints where nobody is, and disconnects them, the last one first.
fn connect_once(scheme: &str) {
    takes_no_longer("endpoints where nobody is", [FEW, MANY], MOST, |endpoints, limit| {
        let sub = Sub::in_context(&context());
        let endpoint = |number| format!("{scheme}wiremesh-nobody-is-there-{number}");
        let steps = Steps::begin(limit);
        steps.each(0..endpoints, |number| drop(sub.connect(endpoint(number)).expect("good")))?;
        steps.each((0..endpoints).rev(), |number| sub.disconnect(endpoint(number)).expect("connected"))
    });
}

#[test]
fn eight_thousand_inproc_names_are_connected_once_and_disconnected_as_fast_as_a_thousand() {
    connect_once("inproc://");
}

#[test]
fn eight_thousand_ipc_paths_are_connected_once_and_disconnected_as_fast_as_a_thousand() {
    connect_once("ipc:///tmp/");
}

#[test]
fn connecting_takes_no_longer_because_thousands_of_inproc_endpoints_have_lost_their_binder() {
    takes_no_longer("endpoints that have lost their binder", [FEW, MANY], MOST, |endpoints, limit| {
        let context = context();
        let (publisher, sub) = (Pub::in_context(&context), Sub::in_context(&context));
        (0..endpoints).for_each(|number| {
            publisher.bind(name(number)).expect("a new name");
            sub.connect(name(number)).expect("bound");
        });
        publisher.close();
        Steps::begin(limit).each(endpoints..2 * endpoints, |number| drop(sub.connect(name(number)).expect("good")))
    });
}

#[test]
fn a_socket_that_waits_for_the_binder_of_its_inproc_name_closes_as_fast_beside_thousands_of_others() {
    for rank in [|number: u32| number, |_| 0] {
        takes_no_longer("sockets that wait for a binder", [FEW, MANY], MOST, |sockets, limit| {
            let context = context();
            let waiting: Vec<Push> = (0..sockets)
                .map(|number| {
                    let push = Push::in_context(&context);
                    push.connect(name(rank(number))).expect("good");
                    push
                })
                .collect();
            Steps::begin(limit).each((0..sockets).rev(), |number| waiting[number as usize].close())
        });
    }
}
