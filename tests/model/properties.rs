//! The property tests of the library, which stand beside the code they are about, in files called `properties.rs`.
//!
//! The pure layers are the shipped ones, included here as they are; a new module of the vocabulary gets its line below.
//! So this shows as well that they do without the engine. Their other tests come along and are filtered out: `cargo
//! test --package wiremesh-model --test properties tests::properties`.

#![expect(dead_code, reason = "the engine and the sockets, which use what tests do not, are left out")]

#[path = "../../src/budget.rs"]
pub mod budget;
#[path = "../../src/endpoint.rs"]
pub mod endpoint;
#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/event.rs"]
pub mod event;
#[path = "../../src/kind.rs"]
pub mod kind;
#[path = "../../src/message/mod.rs"]
pub mod message;
#[path = "../../src/patterns/mod.rs"]
pub mod patterns;
#[path = "../../src/peer.rs"]
pub mod peer;
#[path = "../../src/profile.rs"]
pub mod profile;
#[path = "../../src/protocol/mod.rs"]
pub mod protocol;
#[path = "../../src/queue/mod.rs"]
pub mod queue;
#[path = "../../src/slab.rs"]
pub mod slab;
#[path = "../../src/stats.rs"]
pub mod stats;
#[path = "../../src/sync.rs"]
pub mod sync;

pub use kind::SocketKind;
