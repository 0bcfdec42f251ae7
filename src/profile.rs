//! The rules that a peer or a libzmq program could notice, each read from here.

use std::time::Duration;

/// By whose habits a socket behaves where ours and libzmq's differ in a way that a peer or a program could notice.
///
/// Each method is one such rule. Nothing else in the library asks which profile a socket has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// What suits programs best.
    #[default]
    Wiremesh,
    /// What libzmq does, for programs and peers that count on it.
    Libzmq,
}

impl Profile {
    /// Whether the socket says more about itself in its READY command than the RFC asks for (the property
    /// `X-Wiremesh`), and takes notice of what peers say there. Without it every peer is treated by the RFC alone.
    pub const fn announces(self) -> bool {
        matches!(self, Profile::Wiremesh)
    }

    /// Whether an accepted connection keeps its READY back until its peer is ready and has a place. A peer that has our
    /// READY sends, and what it sends is lost if it is turned away. libzmq says its READY at once; then each connection
    /// has a place, or is refused, from the moment in which it is accepted, and one that announces a routing id in use
    /// is refused when it does. (In libzmq it is connected and never heard.)
    pub const fn holds_ready_back(self) -> bool {
        matches!(self, Profile::Wiremesh)
    }

    /// Whether a message above the socket's own `max_message_size` or `max_message_frames` is refused when it is sent.
    /// In libzmq the first is a limit for what comes.
    pub const fn limits_sends(self) -> bool {
        matches!(self, Profile::Wiremesh)
    }

    /// Whether a message is given up that its peer never takes: it ends one connection after the other while that
    /// message is being written. libzmq sends it again for ever, and all behind it waits.
    pub const fn gives_messages_up(self) -> bool {
        matches!(self, Profile::Wiremesh)
    }

    /// Whether a ROUTER that has connected takes a server that announces another routing id for another peer, which
    /// gets nothing of what waits for the first. libzmq goes on under the first id.
    pub const fn new_identity_is_new_peer(self) -> bool {
        matches!(self, Profile::Wiremesh)
    }

    /// Whether kinds that connect only once to an endpoint do so over inproc as well. In libzmq they connect again.
    pub const fn deduplicates_inproc(self) -> bool {
        matches!(self, Profile::Wiremesh)
    }

    /// Whether a connecting endpoint scatters its attempts, so that the peers of a restarted server come back soon and
    /// not all at once. libzmq waits an interval plus a random part of one, or without chance twice as long each time
    /// where `reconnect_max` is above the interval.
    pub const fn scatters_attempts(self) -> bool {
        matches!(self, Profile::Wiremesh)
    }

    /// How long a closed socket goes on that gets nothing on its way, if the option `linger_patience` says `set`.
    /// libzmq knows no such limit: without a linger time it goes on for ever.
    pub const fn linger_patience(self, set: Option<Duration>) -> Option<Duration> {
        match self {
            Profile::Wiremesh => set,
            Profile::Libzmq => None,
        }
    }

    /// Whether an XPUB looks for subscriptions in every frame of a message that comes upstream, unless
    /// `only_first_subscribe` is set. Without it only a message that begins with a subscription has any, and all others
    /// stay whole.
    pub const fn examines_every_frame(self) -> bool {
        matches!(self, Profile::Libzmq)
    }
}
