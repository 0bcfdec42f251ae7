//! Who is at the other end of a connection.

use crate::kind::SocketKind;
use crate::slab::Key;
use crate::stats::PeerStats;
use bytes::Bytes;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU32, Ordering};

/// A handle of one peer of one socket. It stays the same while the peer is connected, and across the reconnects of a
/// connecting endpoint. It is never given to another peer, of this socket or another one of the process: other sockets
/// do not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(NonZeroU64);

impl PeerId {
    /// No other handle comes before it.
    pub(crate) const FIRST: PeerId = PeerId(NonZeroU64::MIN);

    /// A number for each peer of any socket of the process, which tells the tenants of a place apart, and sockets as
    /// well.
    pub(crate) fn next_generation() -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// The handle of the peer with that key.
    pub(crate) fn new(key: Key) -> PeerId {
        let bits = (u64::from(key.generation) << 32 | u64::from(key.index)).saturating_add(1);
        PeerId(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }

    /// The place and generation of this peer in its socket's table.
    pub(crate) fn key(self) -> Key {
        Key { index: self.slot(), generation: ((self.0.get() - 1) >> 32) as u32 }
    }

    /// Where the socket keeps this peer.
    #[inline(always)]
    pub(crate) fn slot(self) -> u32 {
        (self.0.get() - 1) as u32
    }
}

/// What is known of a peer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerInfo {
    /// The handle.
    pub id: PeerId,
    /// Our endpoint it belongs to, as given to `bind` or `connect`.
    pub endpoint: String,
    /// The peer's address without scheme, such as `127.0.0.1:40312`; empty while not connected and for inproc.
    #[doc(alias = "ZMQ_MSG_PROPERTY_PEER_ADDRESS")]
    pub address: String,
    /// The kind it announced; `None` before its handshake and when it announced none.
    #[doc(alias = "ZMQ_MSG_PROPERTY_SOCKET_TYPE")]
    pub kind: Option<SocketKind>,
    /// The routing id it announced, or the one a ROUTER generated for it; empty if none.
    #[doc(alias = "ZMQ_MSG_PROPERTY_ROUTING_ID")]
    pub routing_id: Bytes,
    /// The properties of its READY command, names as received (RFC 37).
    pub properties: Vec<(String, Bytes)>,
    /// User, group and process of an ipc peer.
    pub credentials: Option<wiremesh_transports::Credentials>,
    /// Whether a connection is up now.
    pub connected: bool,
    /// Attempts to connect that have failed since the last connection, where we connect.
    pub attempts: u32,
    /// Why the last attempt failed or the connection was lost, where we connect and are not connected.
    pub last_error: Option<crate::event::Cause>,
    /// Its counters.
    pub stats: PeerStats,
}
