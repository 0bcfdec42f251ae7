//! The numbers of a socket and of a peer. The accounting law holds whenever they are read:
//! accepted = written + queued + dropped.

use std::fmt;

/// How many messages were dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// The peer they were for was at its high-water mark: of PUB, XPUB, ROUTER, REP, or upstream of XSUB.
    pub high_water_mark: u64,
    /// They were queued for a peer that is gone.
    pub disconnect: u64,
    /// Nobody had that routing id, nobody had subscribed, or nobody was there.
    pub unroutable: u64,
    /// The linger time of a closed socket ran out.
    pub linger: u64,
    /// A newer message replaced them.
    pub conflate: u64,
    /// The [byte budget](crate::ContextBuilder::byte_budget) of the context was used up, by whichever sockets, when the
    /// peer they were for was below its own mark.
    pub limit: u64,
    /// The peer they were for has announced that it accepts no message of their size or of so many frames
    /// ([`max_message_size`](crate::Options::max_message_size),
    /// [`max_message_frames`](crate::Options::max_message_frames)): of PUB, XPUB, ROUTER, REP, or upstream of XSUB; of
    /// the others those that were queued before it said so.
    pub too_large: u64,
    /// The peer they were for has ended one connection after the other while they were being written
    /// ([`give_up_after`](crate::Options::give_up_after)).
    pub given_up: u64,
}

/// Why a message is dropped, where that depends on its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    HighWaterMark,
    Disconnect,
    Linger,
    Limit,
    TooLarge,
    GivenUp,
}

impl Dropped {
    pub(crate) fn add(&mut self, reason: Reason, messages: usize) {
        let count = match reason {
            Reason::HighWaterMark => &mut self.high_water_mark,
            Reason::Disconnect => &mut self.disconnect,
            Reason::Linger => &mut self.linger,
            Reason::Limit => &mut self.limit,
            Reason::TooLarge => &mut self.too_large,
            Reason::GivenUp => &mut self.given_up,
        };
        *count += messages as u64;
    }

    fn by_reason(&self) -> [(u64, &'static str); 8] {
        let Dropped { high_water_mark, disconnect, unroutable, linger, conflate, limit, too_large, given_up } = *self;
        [
            (high_water_mark, "high-water mark"),
            (disconnect, "disconnect"),
            (unroutable, "unroutable"),
            (linger, "linger"),
            (conflate, "conflate"),
            (limit, "byte budget"),
            (too_large, "too large"),
            (given_up, "given up"),
        ]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_reason().into_iter().map(|(count, _)| count).sum()
    }
}

/// The total, and what it is made of: `3 (2 high-water mark, 1 linger)`.
impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.total())?;
        let mut separator = " (";
        for (count, reason) in self.by_reason().into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{separator}{count} {reason}")?;
            separator = ", ";
        }
        f.write_str(if self.total() > 0 { ")" } else { "" })
    }
}

/// What was accepted and could not be delivered in the time that a closed socket or context has for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsent {
    /// Messages that were accepted and will not be delivered.
    pub messages: u64,
    /// Their octets on the wire.
    pub bytes: u64,
}

impl Unsent {
    pub(crate) fn new(messages: u64, bytes: u64) -> Unsent {
        Unsent { messages, bytes }
    }

    pub(crate) fn add(&mut self, other: Unsent) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.messages == 1 { "" } else { "s" };
        write!(f, "{} message{plural} ({} octets on the wire)", self.messages, self.bytes)
    }
}

/// The counters of a socket since it was made.
///
/// Sent messages are counted once per peer they are queued for: a publisher with three matching subscribers accepts
/// three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages taken from the application, once per peer they were meant for; a message nobody gets counts once.
    pub accepted: u64,
    /// Messages that are wholly in the kernel, or for inproc in the hands of the receiving socket.
    pub written: u64,
    /// Octets of messages, their headers included, that went there. A message that a lost connection cut counts with
    /// what was written of it, and again when it goes out whole.
    pub written_bytes: u64,
    /// Messages waiting to be written now, those being written included.
    pub queued: u64,
    /// Octets waiting to be written now, without those being written.
    pub queued_bytes: u64,
    /// Messages that will never be written, by reason.
    pub dropped: Dropped,
    /// Messages the application has received.
    pub received: u64,
    /// Octets of the messages that have come from peers, their headers included, read by the application or not.
    pub received_bytes: u64,
    /// Received messages that wait for the application now.
    pub unread: u64,
    /// Received messages that the pattern discarded: malformed envelopes, late replies, topics no longer subscribed,
    /// and whatever came to a PUSH or PUB, on which nobody receives.
    pub discarded: u64,
    /// Subscriptions of peers that a publisher ignored, because they were too many or too long together.
    pub refused_subscriptions: u64,
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

/// One line: what was sent and what became of it, what was received, and what else is not zero.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats { accepted, written, written_bytes, queued, queued_bytes, dropped, .. } = self;
        write!(
            f,
            "accepted {accepted}: written {written} ({written_bytes} bytes), queued {queued} ({queued_bytes} bytes), dropped {dropped}; "
        )?;
        write!(f, "received {} ({} bytes)", self.received, self.received_bytes)?;
        let others = [
            (self.unread, "unread"),
            (self.discarded, "discarded"),
            (self.refused_subscriptions, "subscriptions refused"),
            (self.reconnects, "reconnects"),
            (self.events_lost, "events lost"),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        write!(f, "; connections {}", self.connections)
    }
}

/// The counters of one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStats {
    /// Messages taken from the application for this peer.
    pub accepted: u64,
    /// Messages that are wholly in the kernel, or for inproc in the hands of the receiving socket.
    pub written: u64,
    /// Octets of messages that went there; see [`Stats::written_bytes`].
    pub written_bytes: u64,
    /// Messages waiting to be written.
    pub queued: u64,
    /// Octets waiting to be written.
    pub queued_bytes: u64,
    /// Messages for this peer that will never be written, by reason.
    pub dropped: Dropped,
    /// Messages that came from this peer.
    pub received: u64,
    /// Octets of those messages, their headers included.
    pub received_bytes: u64,
    /// Subscriptions of this peer that were ignored, because they were too many or too long together.
    pub refused_subscriptions: u64,
    /// How often its connection was lost and established again.
    pub reconnects: u64,
}

impl PeerStats {
    /// Whether the accounting law holds: it always does.
    pub fn is_balanced(&self) -> bool {
        self.accepted == self.written + self.queued + self.dropped.total()
    }
}

/// One line, as that of [`Stats`].
impl fmt::Display for PeerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PeerStats { accepted, written, written_bytes, queued, queued_bytes, dropped, .. } = self;
        write!(
            f,
            "accepted {accepted}: written {written} ({written_bytes} bytes), queued {queued} ({queued_bytes} bytes), dropped {dropped}; "
        )?;
        write!(f, "received {} ({} bytes)", self.received, self.received_bytes)?;
        let others = [(self.refused_subscriptions, "subscriptions refused"), (self.reconnects, "reconnects")];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_print_themselves_on_one_line() {
        let dropped = Dropped { high_water_mark: 2, linger: 1, ..Dropped::default() };
        assert_eq!(Dropped::default().to_string(), "0");
        assert_eq!(dropped.to_string(), "3 (2 high-water mark, 1 linger)");
        let stats = Stats { accepted: 5, written: 1, queued: 1, dropped, received: 7, unread: 4, ..Stats::default() };
        assert!(stats.is_balanced());
        assert_eq!(
            stats.to_string(),
            "accepted 5: written 1 (0 bytes), queued 1 (0 bytes), dropped 3 (2 high-water mark, 1 linger); \
             received 7 (0 bytes), 4 unread; connections 0"
        );
        let peer = PeerStats { reconnects: 2, ..PeerStats::default() };
        assert_eq!(
            peer.to_string(),
            "accepted 0: written 0 (0 bytes), queued 0 (0 bytes), dropped 0; received 0 (0 bytes), 2 reconnects"
        );
    }
}
