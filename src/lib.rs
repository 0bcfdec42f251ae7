//! Brokerless messaging in the spirit of ZeroMQ: sockets that carry whole messages between threads, processes and
//! machines, by eleven kinds of sockets in six patterns, with ZMTP 3.1 on the wire. ZeroMQ programs in other languages
//! are peers.
//!
//! There is no broker to run. A program opens sockets, binds or connects them, and sends. The library makes the
//! connections and keeps them, queues and takes turns.
//!
//! This page is a tour. The [guide] goes deeper, one subject a page.
//!
//! # A first program
//! ```
//! use wiremesh::{Pull, Push};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let sink = Pull::new();
//!     let endpoint = sink.bind("tcp://127.0.0.1:*")?; // a free port; `endpoint` says which
//!     let source = Push::new();
//!     source.connect(&endpoint)?;
//!     source.send("hello")?;
//!     assert_eq!(sink.recv()?, "hello");
//!     Ok(())
//! }
//! ```
//!
//! # The patterns
//! Each kind of socket is a type with the verbs it has and no others: a [`Push`] has no `recv`.
//!
//! | sockets | what they do |
//! |---|---|
//! | [`Push`] → [`Pull`] | work is dealt out in turn, results are collected |
//! | [`Pub`] → [`Sub`] | messages go to all who subscribed to a prefix of them |
//! | [`XPub`], [`XSub`] | the same, where the program sees and makes the subscriptions itself: for proxies |
//! | [`Req`] – [`Rep`] | one question, one answer, in lockstep |
//! | [`Dealer`] – [`Router`] | the same without lockstep: many questions under way, answers by routing id |
//! | [`Pair`] – [`Pair`] | two ends, both directions |
//! | [`AnySocket`] | any of them, chosen at run time |
//!
//! REQ also talks to ROUTER, DEALER to REP and DEALER, ROUTER to ROUTER, and the X kinds to the plain ones
//! ([`SocketKind::accepts`]). What they all do stands at [`Socket`], to which every type dereferences.
//!
//! # Messages
//! A [`Message`] has one or more frames and travels whole or not at all. Sends take whatever can be one: text, slices,
//! vectors, [`Bytes`](https://docs.rs/bytes), arrays of frames. Short bodies lie inside the value. Long ones are
//! shared, and not copied on the way out; on the way in they share what one read brought ([keeping
//! messages](guide::queues#keeping-messages)), and very long ones have memory of their own.
//!
//! ```
//! use wiremesh::{Context, Message, Pull, Push};
//!
//! let context = Context::new();
//! let (push, pull) = (Push::in_context(&context), Pull::in_context(&context));
//! pull.bind("inproc://parcels")?;
//! push.connect("inproc://parcels")?;
//!
//! push.send("a text")?;
//! push.send(vec![7; 1_000_000])?;
//! push.send(["an address", "a body"])?;
//! let mut parcel: Message = ["frames", "from", "any", "iterator"].into_iter().collect();
//! parcel.push_front("first");
//! push.send(parcel)?;
//!
//! assert_eq!(pull.recv()?.to_str()?, "a text");
//! assert_eq!(pull.recv()?.byte_len(), 1_000_000);
//! assert_eq!(pull.recv()?.frame(1), Some(&b"a body"[..]));
//! assert_eq!(pull.recv()?.len(), 5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Endpoints
//! | | |
//! |---|---|
//! | `tcp://host:port` | between machines; `*` stands for every address and for a free port |
//! | `ipc:///path`, `ipc://@name`, `ipc://*` | between processes of one machine (Unix) |
//! | `inproc://name` | between sockets of one [`Context`], without system calls while both are busy |
//!
//! Bind and connect in any order, as often as you like, with mixed transports. More in
//! [transports](guide::transports), also on how to add one.
//!
//! # Calls
//! | | waits | limited by | never waits |
//! |---|---|---|---|
//! | one message | `send`, `recv` | `send_timeout`, `recv_timeout` | `try_send`, `try_recv` |
//! | one, into a buffer of the caller's ([`RecvIntoError`]) | `recv_into` | `recv_into_timeout` | `try_recv_into` |
//! | many | `send_many`, `recv_many`, `iter` (as [`Received`]) | | |
//! | room for one to be made later ([`Reservation`]) | `reserve` | `reserve_timeout` | `try_reserve` |
//!
//! Every method takes `&self`, every socket is `Send + Sync`: see [threads](guide::threads). A failed send hands its
//! message back. All errors convert to [`std::io::Error`].
//!
//! # Options
//! Options are set on a builder, and most can be changed later. [`Options`] lists them with unit, range, default and
//! libzmq's name; [`options::table`] has the same as data.
//!
//! ```
//! use std::time::Duration;
//! use wiremesh::{Dealer, Setting};
//!
//! let dealer = Dealer::builder().routing_id("worker-7").send_timeout(Duration::from_secs(1)).build()?;
//! dealer.set(Setting::SendMark(100))?;
//! assert_eq!(dealer.options().send_mark, 100);
//! # Ok::<(), wiremesh::Error>(())
//! ```
//!
//! # What to know before relying on it
//! * **Nothing waits without a bound, nothing is lost in silence.** Queues have marks. At the mark a sender waits or a
//!   message is dropped, by kind; each drop is counted by reason: [queues](guide::queues).
//! * **Closing does not wait, the end of `main` does**: as long as messages still move, then at most five seconds:
//!   [life cycle](guide::life_cycle).
//! * **Connections heal.** Over tcp and ipc connecting endpoints connect again and keep their queue; messages are never
//!   cut and never doubled: [failures](guide::failures), with the limits that keep hostile peers at bay.
//! * **Requests can have time limits and retries**, and `request` never gets stuck: [requests](guide::requests).
//! * **You can look inside**: events with causes, counters per socket and per peer: [watching](guide::watching).
//! * **There is no encryption and no authentication yet.**
//!
//! If you know ZeroMQ, read [coming from libzmq](guide::from_libzmq) next.
//!
//! # Platforms
//! Linux on 64-bit processors is tested. macOS and the BSDs share its code, except that engine threads always do the
//! work there; so it is on Windows, which has no ipc. Neither has been tested.

#![deny(unsafe_code, missing_docs)]

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
mod profile;
#[doc(hidden)]
pub mod protocol;
mod queue;
mod slab;
mod socket;
mod stats;
mod sync;

pub use budget::BudgetHalf;
pub use context::{Context, ContextBuilder};
pub use endpoint::{Endpoint, EndpointInfo, EndpointState};
pub use error::{Error, Missing, RecvError, ReserveError, SendError, SendFailure};
pub use event::{Cause, Event, EventKind, Refusal, Shortage};
pub use kind::SocketKind;
pub use message::{Frame, FrameCountError, IntoFrame, IntoMessage, Message, MessageError};
pub use options::{Options, Setting};
pub use peer::{PeerId, PeerInfo};
pub use profile::Profile;
pub use socket::{
    Addressee, AnySocket, Builder, Closer, Dealer, Events, Face, Monitor, Pair, Pub, Pull, Push, Received,
    RecvIntoError, Rep, Req, RequestError, Reservation, Router, RoutingId, Socket, Sub, XPub, XSub,
};
pub use stats::{Dropped, PeerStats, Stats, Unsent};
pub use wiremesh_transports as transports;

/// The guide: one subject a page. The crate's front page is the tour.
pub mod guide {
    #[doc = include_str!("guide/life_cycle.md")]
    pub mod life_cycle {}

    #[doc = include_str!("guide/ending_well.md")]
    pub mod ending_well {}

    #[doc = include_str!("guide/queues.md")]
    pub mod queues {}

    #[doc = include_str!("guide/failures.md")]
    pub mod failures {}

    #[doc = include_str!("guide/threads.md")]
    pub mod threads {}

    #[doc = include_str!("guide/requests.md")]
    pub mod requests {}

    #[doc = include_str!("guide/watching.md")]
    pub mod watching {}

    #[doc = include_str!("guide/transports.md")]
    pub mod transports {}

    pub mod from_libzmq;
}

/// The README's examples are tested like all others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
