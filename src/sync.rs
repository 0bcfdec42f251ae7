//! What the budget is made of. It names it by this way, so that `tests/model/loom.rs` can put models of these in their
//! place.

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
