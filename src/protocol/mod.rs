//! ZMTP 3.1 (RFC 37; 3.0 with 3.0 peers, RFC 23) as a pure state machine: octets and time go in, events and octets come
//! out.
//!
//! Nothing in here opens a socket, reads a clock, starts a thread, takes a lock or draws a random number. The engine,
//! the simulator and the fuzzers drive the same [`Connection`], so the machine that ships is the machine that was
//! tested.
//!
//! What is deliberately outside: which peer a message goes to (the patterns), how messages are queued and written (the
//! queue and the engine), and when to connect again. Versions 1.0 and 2.0 of the protocol are refused.
//!
//! | file | holds |
//! |---|---|
//! | `connection.rs` | the machine: greeting, handshake, traffic, failure; timers |
//! | `greeting.rs` | the first 64 octets |
//! | `mechanism/` | one file per security mechanism; what happens between the greeting and the first message |
//! | `metadata.rs` | properties inside READY |
//! | `announcement.rs` | the one property that is our own |
//! | `command.rs` | command frames: reading and writing them, both forms of a subscription |
//! | `decoder.rs` | the hot path: finds whole messages in a read buffer, fills large bodies |
//! | `heartbeat.rs` | PING intervals and the deadlines of silence |
//! | `outgoing.rs` | the control octets that wait to be written |
//! | `peer.rs` | what a peer told about itself |
//! | `config.rs`, `error.rs` | what may be set, what may go wrong |
//! | `tests.rs` | whole connections, by example and by property |

pub mod command;
pub mod decoder;
pub mod greeting;
pub mod metadata;

mod announcement;
mod config;
mod connection;
mod error;
mod heartbeat;
mod mechanism;
mod outgoing;
mod peer;
#[cfg(test)]
mod tests;

pub use announcement::{Announcement, Token};
pub use command::{cancel_command, subscribe_command, subscription, subscription_octets, told_in_message};
pub use config::{Config, Heartbeat};
pub use connection::{BodySlot, Connection, Event};
pub use error::{CommandName, ProtocolError};
pub use mechanism::Mechanism;
pub use metadata::MetadataError;
pub use peer::PeerDescription;
