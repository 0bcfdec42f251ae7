//! The name of a peer.

use bytes::Bytes;
use smallvec::SmallVec;
use std::fmt;

/// What a ROUTER knows a peer by: 1 to 255 octets, chosen by the peer, or generated (then five octets, the first zero).
///
/// Up to 16 octets are kept in place: a clone of such an id, which comes with each message, touches nothing that is shared.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoutingId(SmallVec<[u8; 16]>);

impl RoutingId {
    pub(super) fn new(id: &[u8]) -> RoutingId {
        RoutingId(SmallVec::from_slice(id))
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The octets, in memory that can be shared.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from(self.0.into_vec())
    }
}

impl AsRef<[u8]> for RoutingId {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<RoutingId> for crate::Frame {
    fn from(id: RoutingId) -> crate::Frame {
        crate::Frame::from(id.as_bytes())
    }
}

impl PartialEq<[u8]> for RoutingId {
    fn eq(&self, other: &[u8]) -> bool {
        self.as_bytes() == other
    }
}

impl PartialEq<&str> for RoutingId {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl From<RoutingId> for Bytes {
    fn from(id: RoutingId) -> Bytes {
        id.into_bytes()
    }
}

impl fmt::Debug for RoutingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoutingId(b\"{}\")", self.0.escape_ascii())
    }
}
