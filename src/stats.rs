//! The numbers of a socket and of a peer. The accounting law holds whenever they are read:
//! accepted = written + queued + dropped.

/// How many messages were dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// A publisher's or router's peer was at its high-water mark.
    pub high_water_mark: u64,
    /// They were queued for a peer that is gone.
    pub disconnect: u64,
    /// Nobody had that routing id, nobody had subscribed, or nobody was there.
    pub unroutable: u64,
    /// The linger time of a closed socket ran out.
    pub linger: u64,
    /// A newer message replaced them.
    pub conflate: u64,
    /// They exceeded a limit.
    pub limit: u64,
}

impl Dropped {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.high_water_mark + self.disconnect + self.unroutable + self.linger + self.conflate + self.limit
    }
}

/// The counters of a socket since it was made.
///
/// Sent messages are counted once per peer they are queued for: a publisher with three matching subscribers accepts three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages taken from the application, once per peer they were meant for; a message nobody gets counts once.
    pub accepted: u64,
    /// Messages that are wholly in the kernel, or for inproc in the hands of the receiving socket.
    pub written: u64,
    /// Messages waiting to be written now, those being written included.
    pub queued: u64,
    /// Octets waiting to be written now, without those being written.
    pub queued_bytes: u64,
    /// Messages that will never be written, by reason.
    pub dropped: Dropped,
    /// Messages the application has received.
    pub received: u64,
    /// Received messages that wait for the application now.
    pub unread: u64,
    /// Received messages that the pattern discarded: malformed envelopes, late replies, topics no longer subscribed.
    pub discarded: u64,
    /// Connections that are up now.
    pub connections: u64,
    /// Connections of connecting endpoints that were lost and established again.
    pub reconnects: u64,
    /// Events the monitor lost because it was not read.
    pub events_lost: u64,
}

impl Stats {
    /// Whether the accounting law holds: it always does.
    pub fn is_balanced(&self) -> bool {
        self.accepted == self.written + self.queued + self.dropped.total()
    }
}

/// The counters of one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStats {
    /// Messages taken from the application for this peer.
    pub accepted: u64,
    /// Messages that are wholly in the kernel.
    pub written: u64,
    /// Messages waiting to be written.
    pub queued: u64,
    /// Octets waiting to be written.
    pub queued_bytes: u64,
    /// Messages dropped for this peer, for whatever reason.
    pub dropped: u64,
    /// Messages that came from this peer.
    pub received: u64,
    /// Octets of those messages.
    pub received_bytes: u64,
    /// How often its connection was lost and established again.
    pub reconnects: u64,
}
