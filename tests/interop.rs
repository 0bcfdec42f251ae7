//! Real libzmq as a peer: every legal pair of kinds in both roles over tcp and ipc, options that show on the wire,
//! reconnects.
//!
//! The peers are processes with a pinned pyzmq, whose interpreter `WIREMESH_PYTHON` names: `cargo xtask test --only
//! interop` sees to that. `WIREMESH_NO_INTEROP=1` leaves these tests out, loudly.

#[path = "interop/body.rs"]
mod body;
#[path = "interop/ends.rs"]
mod ends;
#[path = "interop/options.rs"]
mod options;
#[path = "interop/pairs.rs"]
mod pairs;
#[path = "interop/peer.rs"]
mod peer;
#[path = "interop/raw.rs"]
mod raw;
#[path = "interop/refusals.rs"]
mod refusals;
#[path = "interop/requests.rs"]
mod requests;
#[path = "interop/restarts.rs"]
mod restarts;
#[path = "interop/streams.rs"]
mod streams;
#[path = "interop/untold.rs"]
mod untold;
