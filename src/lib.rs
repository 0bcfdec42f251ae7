//! Brokerless messaging in the spirit of ZeroMQ.

#![deny(unsafe_code)]

mod budget;
mod context;
mod endpoint;
mod engine;
mod error;
mod event;
mod kind;
mod message;
pub mod options;
#[doc(hidden)]
pub mod patterns;
mod peer;
#[doc(hidden)]
pub mod protocol;
mod queue;
mod slab;
mod socket;
mod stats;

pub use context::{Context, ContextBuilder, Unsent};
pub use endpoint::Endpoint;
pub use error::{Error, RecvError, SendError, SendFailure};
pub use event::{Cause, Event, EventKind};
pub use kind::SocketKind;
pub use message::{Frame, IntoMessage, Message};
pub use options::{Options, Setting};
pub use peer::{PeerId, PeerInfo};
pub use socket::{
    AnySocket, Builder, Dealer, Face, Monitor, Pair, Pub, Pull, Push, Rep, Req, RequestError, Router, RoutingId,
    Socket, Sub, XPub, XSub,
};
pub use stats::{Dropped, PeerStats, Stats};
pub use wiremesh_transports as transports;
