//! Faults that a review from outside found. Each was seen with a program against the public API before it was mended, and stands
//! here beside two relatives of its kind.
//!
//! | file | kind of fault |
//! |---|---|
//! | `announced.rs` | no fault: what the cures tell each other on the wire |

mod support;

#[path = "faults/announced.rs"]
mod announced;
