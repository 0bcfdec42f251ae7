//! The byte transports under wiremesh, and the contract by which others are added.
//!
//! This crate moves bytes between processes and knows nothing of ZeroMQ: no greeting, no frame, no message. Above it
//! sits an engine that polls; below it the operating system.
//!
//! # A tour
//!
//! * [`Transport`] is a scheme such as `tcp`. It checks an address, resolves it, binds it to a [`Listener`] and
//!   connects it to a [`Stream`].
//! * [`Registry`] maps scheme names to transports. [`Registry::builtin`] knows [`tcp`](Tcp) and, on Unix,
//!   [`ipc`](Ipc).
//! * [`LinkOptions`] are the knobs of a link: keepalive, buffer sizes and the like.
//! * [`adopt_tcp`] and [`adopt_unix`] turn a listening socket that somebody else bound into a [`Listener`].
//! * [`directory`] pairs two ends *inside* one process by name. It is not a byte transport.
//! * [`sys`] holds the few things that need `unsafe` (uninitialised read buffers, nested polls, thread parking, fork
//!   detection), each behind a safe type.
//!
//! ```
//! use std::io::IoSlice;
//! use wiremesh_transports::{LinkOptions, Registry, read_into};
//!
//! # fn main() -> std::io::Result<()> {
//! let registry = Registry::builtin();
//! let tcp = registry.get("tcp").expect("tcp is built in");
//! let options = LinkOptions::default();
//!
//! let listener = tcp.bind("127.0.0.1:*", &options)?;
//! let address = tcp.resolve(&listener.local_address(), &options)?.remove(0);
//! let client = tcp.connect(&address, &options)?;
//! // A real program waits for readiness with `mio`; a few tries do for an example.
//! let server = loop {
//!     match listener.accept() {
//!         Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => std::thread::yield_now(),
//!         other => break other?,
//!     }
//! };
//! while !client.connected()? {}
//! assert_eq!(client.write_vectored(&[IoSlice::new(b"hel"), IoSlice::new(b"lo")])?, 5);
//!
//! let mut buffer = bytes::BytesMut::with_capacity(64);
//! while buffer.len() < 5 {
//!     match read_into(&*server, &mut buffer, 64) {
//!         Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => std::thread::yield_now(),
//!         other => drop(other?),
//!     }
//! }
//! assert_eq!(&buffer[..], b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! # The contract, for those who write a transport
//!
//! 1. **Nothing blocks**, except look-ups: [`Transport::resolve`] may ask a name server and is called on a thread that
//!    may wait; [`Transport::bind`] may look up a name or an interface and, for `ipc`, wait a moment for its turn.
//! 2. **No threads are started** and no global state is kept that a second context would share.
//! 3. **Readiness is edge-triggered.** A stream stays ready from its edge until a call returns
//!    [`WouldBlock`](std::io::ErrorKind::WouldBlock); the engine relies on exactly that. `Interrupted` is retried
//!    inside the transport and never returned.
//! 4. **Two threads may use the two directions of a stream at once**: every method takes `&self`. The engine never
//!    has two readers or two writers on one stream.
//! 5. **Every descriptor is close-on-exec and non-blocking.** No write raises a signal.
//! 6. **A drop only closes.** Dropping a stream or a listener must not touch a poll (the process may be a forked child
//!    whose poll is shared with its parent); the owner deregisters first.
//! 7. **Any error is this link's error**: the engine drops the link or tries again later, and never aborts.
//!    [`Listener::accept`] passes on the system's own error number when descriptors run out.
//! 8. **Nothing a peer sends can panic, hang or grow memory without bound.**
//!
//! The feature `conformance` adds a suite that checks what can be checked of this from outside; a transport stamps it
//! into its own tests with `conformance_tests!`.
//!
//! # Platforms
//!
//! Linux is tested. Other Unix systems share the code, without nested polls and with what their kernels have of the
//! options. On other systems there is `tcp` alone.

#![warn(clippy::unwrap_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may panic"))]

mod address;
mod contract;
pub mod directory;
#[cfg(unix)]
mod ipc;
mod options;
mod registry;
mod socket;
pub mod sys;
mod tcp;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub use address::AddressError;
pub use contract::{Credentials, Datagram, Listener, Purpose, Stream, Transport};
#[cfg(unix)]
pub use ipc::{Ipc, adopt_unix};
pub use options::LinkOptions;
pub use registry::Registry;
pub use sys::{ReadBuf, Spare, read_into};
pub use tcp::{Tcp, adopt_tcp};

/// The poll library whose types stand in the contract: a transport registers its sources with this version of it.
pub use mio;
