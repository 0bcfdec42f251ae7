//! Running a model, and expecting one to fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs `model` in every interleaving with up to that many preemptions. A thread that waits for ever is a failure.
pub(crate) fn holds(name: &str, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let interleavings = Arc::new(AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    let started = std::time::Instant::now();
    builder.check({
        let interleavings = Arc::clone(&interleavings);
        move || {
            interleavings.fetch_add(1, Ordering::Relaxed);
            model();
        }
    });
    println!("{name}: {} interleavings, {:?}", interleavings.load(Ordering::Relaxed), started.elapsed());
}

/// Runs a weakened model and expects an interleaving to fail with a message that has `how` in it.
pub(crate) fn breaks(name: &str, how: &str, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let outcome = catch_unwind(AssertUnwindSafe(|| holds(name, preemptions, model)));
    let failure = outcome.expect_err("the mutant is noticed");
    let message = match (failure.downcast_ref::<String>(), failure.downcast_ref::<&str>()) {
        (Some(message), _) => message.as_str(),
        (None, Some(message)) => message,
        (None, None) => "",
    };
    assert!(message.contains(how), "{name} fails in another way: {message}");
    println!("{name}: noticed, {how}");
}

/// How loom says that every thread waits.
pub(crate) const STUCK: &str = "deadlock";
