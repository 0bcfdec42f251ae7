//! Doubt whether the peer will ever take the message that its connections were cut in.
//!
//! A peer that closes whenever it sees a certain message, because that is too large for it, would be sent it again
//! after each reconnect, and all behind it would wait for ever. A peer that was restarted looks the same once. So a
//! message is in doubt only while connections end one after the other by the peer's own doing, each while that message
//! was being written. From the second such end on it is held back until the connection has lasted a while: then its end
//! tells of the message, not of a busy start.

/// How a connection ended, as far as the messages written to it are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By us, by the network, or because the peer was silent.
    #[default]
    Other,
    /// The peer closed or reset it.
    ByPeer {
        /// It had lasted for [`LASTS`].
        lasted: bool,
    },
}

/// From this age on a connection's end counts against the message that was being written.
pub(crate) const LASTS: std::time::Duration = std::time::Duration::from_secs(1);

/// What the ends of connections say of the message at the front of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// Ends in a row by the peer while it was being written, …
    cuts: u8,
    /// … and how many of the last of these ended connections that had lasted.
    lasted: u8,
}

impl Doubt {
    /// A connection ended: `begun` says whether the message was being written then.
    #[must_use]
    pub(crate) fn after(self, ending: Ending, begun: bool) -> Doubt {
        match ending {
            Ending::ByPeer { lasted } if begun => Doubt {
                cuts: self.cuts.saturating_add(1),
                lasted: if lasted { self.lasted.saturating_add(1) } else { 0 },
            },
            Ending::ByPeer { .. } | Ending::Other => Doubt::default(),
        }
    }

    /// Returns true if the message is to wait until its connection has lasted.
    pub(crate) fn holds_back(self) -> bool {
        self.cuts >= 2
    }

    /// How many connections in a row, each of which had lasted, the peer ended while the message was being written.
    pub(crate) fn lasted(self) -> u8 {
        self.lasted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Ending = Ending::ByPeer { lasted: true };
    const EARLY: Ending = Ending::ByPeer { lasted: false };

    #[test]
    fn only_ends_in_a_row_by_the_peer_on_connections_that_lasted_count() {
        let doubt =
            |ends: &[(Ending, bool)]| ends.iter().fold(Doubt::default(), |doubt, (e, begun)| doubt.after(*e, *begun));
        assert_eq!(doubt(&[(LATE, true), (LATE, true), (LATE, true)]).lasted(), 3);
        assert_eq!(doubt(&[(LATE, true), (LATE, true), (EARLY, true)]).lasted(), 0);
        assert_eq!(doubt(&[(LATE, true), (EARLY, true), (LATE, true), (LATE, true)]).lasted(), 2);
        for other in [(Ending::Other, true), (Ending::Other, false), (LATE, false), (EARLY, false)] {
            assert_eq!(doubt(&[(LATE, true), (LATE, true), other]), Doubt::default());
        }
    }

    #[test]
    fn a_message_is_held_back_from_the_second_end_on() {
        let mut doubt = Doubt::default();
        for (ending, held) in [(EARLY, false), (EARLY, true), (LATE, true), (Ending::Other, false)] {
            doubt = doubt.after(ending, true);
            assert_eq!(doubt.holds_back(), held);
        }
    }
}
