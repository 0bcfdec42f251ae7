//! What a peer told about itself in its greeting and READY.

use bytes::Bytes;

use super::announcement::Announcement;
use super::metadata;
use crate::kind::SocketKind;

/// A peer that finished its handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerDescription {
    /// Its socket kind, if it named one; it fits ours then.
    pub kind: Option<SocketKind>,
    /// The routing id it claims, 0 to 255 octets.
    pub identity: Bytes,
    /// The minor version both sides speak: 0 for ZMTP 3.0, 1 for ZMTP 3.1.
    pub minor: u8,
    /// What it told about itself beyond the RFC: it is one of our own ends then.
    pub announced: Option<Announcement>,
    /// Every other property it sent, in its order, `Socket-Type` and `Identity` included, names as it wrote them.
    pub properties: Vec<(String, Bytes)>,
}

impl PeerDescription {
    /// The value of the first property with this name; upper and lower case are the same.
    pub fn property(&self, name: &str) -> Option<&Bytes> {
        metadata::find(&self.properties, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_found_whatever_their_case() {
        let peer = PeerDescription {
            kind: None,
            identity: Bytes::new(),
            minor: 1,
            announced: None,
            properties: vec![("X-Colour".to_owned(), "red".into()), ("x-colour".to_owned(), "blue".into())],
        };
        assert_eq!(peer.property("x-COLOUR"), Some(&Bytes::from("red")));
        assert_eq!(peer.property("x-color"), None);
    }
}
