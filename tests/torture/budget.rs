//! Whether a context's budget is back at zero, as can be seen from outside: as much can be queued as in a context just made.

use crate::part::context_of;
use crate::support::holds_within;
use std::time::Duration;
use wiremesh::{Context, Pull, Push};

/// Queued messages are counted in steps, so the two differ by some of them.
const SLACK: usize = 3 << 16;
const MESSAGE: usize = 4096;

/// What is missing of the budget, if something is.
pub(crate) fn leak(context: &Context, budget: u64) -> Option<String> {
    if budget == 0 {
        return None;
    }
    let most = 2 * budget as usize;
    let whole = capacity(&context_of(1, false, budget), most);
    let mut found = 0;
    // What was closed a moment ago is given back by other threads.
    let is_whole = holds_within(Duration::from_secs(10), || {
        found = capacity(context, most);
        found + SLACK >= whole
    });
    (!is_whole)
        .then(|| format!("of a budget of {budget} octets {found} can be used and in a context just made {whole}"))
}

/// How much a PUSH can queue for a PULL that does not read.
fn capacity(context: &Context, most: usize) -> usize {
    let push = Push::builder().context(context).send_mark(0u32).send_byte_mark(0u64).build().expect("good options");
    let pull =
        Pull::builder().context(context).receive_mark(0u32).receive_byte_mark(0u64).build().expect("good options");
    let name = "inproc://torture-budget";
    if pull.bind(name).is_err() || push.connect(name).is_err() {
        return 0;
    }
    let body = vec![1; MESSAGE];
    let mut queued = 0;
    while queued < most && push.try_send(&body[..]).is_ok() {
        queued += MESSAGE;
    }
    while pull.try_recv().is_ok() {}
    queued
}
