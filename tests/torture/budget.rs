//! Whether a context's budget is back at zero.

use crate::support::holds_within;
use std::time::Duration;
use wiremesh::{BudgetHalf, Context};

/// What is still held of the budget, if something is.
pub(crate) fn leak(context: &Context) -> Option<String> {
    let halves = [BudgetHalf::Sending, BudgetHalf::Receiving];
    // What was closed a moment ago is given back by other threads.
    let is_whole = holds_within(Duration::from_secs(10), || halves.iter().all(|half| context.bytes_held(*half) == 0));
    let held = halves.map(|half| format!("{} of the {half} half", context.bytes_held(half)));
    (!is_whole).then(|| format!("octets are held when all sockets are closed: {}", held.join(", ")))
}
