//! Keeps a panic within the socket it belongs to: an engine thread serves others too, and a thread that died would
//! leave all of them in silence.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Runs code of which some may be a transport's of somebody else.
///
/// # Errors
/// What it panicked with. Whatever it was changing is not to be used any more: that is why nothing here asks for unwind
/// safety.
pub(crate) fn contain<T>(work: impl FnOnce() -> T) -> Result<T, Arc<str>> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| text(&*panic))
}

fn text(panic: &(dyn Any + Send)) -> Arc<str> {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a text").into()
}
