//! What can be set about a connection. One `Config` serves all connections of a socket.

use std::time::Duration;

use bytes::Bytes;

use super::announcement::Announcement;
use super::metadata::{self, MetadataError};
use crate::kind::SocketKind;
use crate::profile::Profile;

/// The settings shared by all connections of a socket.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our socket kind, announced as `Socket-Type`.
    pub kind: SocketKind,
    /// Our routing id, 0 to 255 octets and not starting with a zero octet; announced by kinds that announce one.
    pub identity: Bytes,
    /// Application metadata for READY, usually with names that start with `X-`.
    pub properties: Vec<(String, Bytes)>,
    /// By whose habits we speak.
    pub profile: Profile,
    /// What we announce beyond the RFC, if anything.
    pub announcement: Option<Announcement>,
    /// How many octets the bodies of one whole message may have together; `u64::MAX` lifts the limit.
    pub max_message: u64,
    /// How many frames one message may have.
    pub max_frames: u32,
    /// How long the peer may take from the first moment to its READY; `None` waits for ever.
    pub handshake_timeout: Option<Duration>,
    /// How many octets a peer may send before it is ready, greeting included. No budget counts them: with the limits on
    /// half-open connections and on their time, this is what strangers can make us hold.
    pub max_handshake: usize,
    /// Whether and how to find out that a silent peer is gone.
    pub heartbeat: Option<Heartbeat>,
    /// A body above this many octets that is not yet wholly there is read into a buffer of its own.
    pub large_body: usize,
}

impl Config {
    /// The default settings for a socket of this kind.
    pub fn new(kind: SocketKind) -> Config {
        Config {
            kind,
            identity: Bytes::new(),
            properties: Vec::new(),
            profile: Profile::default(),
            announcement: None,
            max_message: 1 << 30,
            max_frames: 65_536,
            handshake_timeout: Some(Duration::from_secs(30)),
            max_handshake: 64 * 1024,
            heartbeat: None,
            large_body: 64 * 1024,
        }
    }

    /// Checks that identity and properties can be announced. Whatever could not is left out of READY, so a caller that
    /// wants to hear about it asks here first.
    ///
    /// # Errors
    /// The first rule of RFC 37 that is broken.
    pub fn validate(&self) -> Result<(), MetadataError> {
        metadata::check_identity(&self.identity)?;
        self.properties.iter().try_for_each(|(name, value)| metadata::check_application(name.as_bytes(), value.len()))
    }
}

/// When to ask a peer for a sign of life, and when to give it up. Any octet from the peer is a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// How often to send PING; zero sends none.
    pub interval: Duration,
    /// How long a peer may stay silent after a PING; zero waits for ever.
    pub timeout: Duration,
    /// How long the peer should wait for us after a PING, told to it in tenths of a second, at most 6,553.5 s; zero
    /// tells it nothing.
    pub ttl: Duration,
}
