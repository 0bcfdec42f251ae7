//! The eleven socket kinds of ZeroMQ: their names on the wire, their numbers in libzmq and who may talk to whom
//! (RFC 23, RFC 28 to 31). A row here is the first step of adding a pattern.

use std::fmt;

/// The kind of a socket: which pattern it speaks.
#[doc(alias = "ZMQ_TYPE")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SocketKind {
    /// One peer, both directions (RFC 31).
    #[doc(alias = "ZMQ_PAIR")]
    Pair,
    /// Publishes by topic, never blocks (RFC 29).
    #[doc(alias = "ZMQ_PUB")]
    Pub,
    /// Subscribes by topic prefix (RFC 29).
    #[doc(alias = "ZMQ_SUB")]
    Sub,
    /// Asks one question at a time (RFC 28).
    #[doc(alias = "ZMQ_REQ")]
    Req,
    /// Answers one question at a time (RFC 28).
    #[doc(alias = "ZMQ_REP")]
    Rep,
    /// Asynchronous REQ: load-balanced out, fair-queued in (RFC 28).
    #[doc(alias("ZMQ_DEALER", "ZMQ_XREQ"))]
    Dealer,
    /// Asynchronous REP: addresses each peer by routing id (RFC 28).
    #[doc(alias("ZMQ_ROUTER", "ZMQ_XREP"))]
    Router,
    /// Receives work, fair-queued (RFC 30).
    #[doc(alias = "ZMQ_PULL")]
    Pull,
    /// Distributes work, load-balanced (RFC 30).
    #[doc(alias = "ZMQ_PUSH")]
    Push,
    /// PUB that lets the application see subscriptions (RFC 29).
    #[doc(alias = "ZMQ_XPUB")]
    XPub,
    /// SUB whose subscriptions are messages (RFC 29).
    #[doc(alias = "ZMQ_XSUB")]
    XSub,
}

impl SocketKind {
    /// Every kind, in the order of libzmq's numbers.
    pub const ALL: [SocketKind; 11] = [
        SocketKind::Pair,
        SocketKind::Pub,
        SocketKind::Sub,
        SocketKind::Req,
        SocketKind::Rep,
        SocketKind::Dealer,
        SocketKind::Router,
        SocketKind::Pull,
        SocketKind::Push,
        SocketKind::XPub,
        SocketKind::XSub,
    ];

    /// The name in the `Socket-Type` property of a READY command, such as `"DEALER"`.
    pub const fn name(self) -> &'static str {
        match self {
            SocketKind::Pair => "PAIR",
            SocketKind::Pub => "PUB",
            SocketKind::Sub => "SUB",
            SocketKind::Req => "REQ",
            SocketKind::Rep => "REP",
            SocketKind::Dealer => "DEALER",
            SocketKind::Router => "ROUTER",
            SocketKind::Pull => "PULL",
            SocketKind::Push => "PUSH",
            SocketKind::XPub => "XPUB",
            SocketKind::XSub => "XSUB",
        }
    }

    /// The kind with that `Socket-Type` name, or `None`; names are upper case.
    pub fn from_name(name: &[u8]) -> Option<SocketKind> {
        Self::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)
    }

    /// libzmq's number of this kind (`ZMQ_PAIR` is 0).
    pub const fn number(self) -> u8 {
        match self {
            SocketKind::Pair => 0,
            SocketKind::Pub => 1,
            SocketKind::Sub => 2,
            SocketKind::Req => 3,
            SocketKind::Rep => 4,
            SocketKind::Dealer => 5,
            SocketKind::Router => 6,
            SocketKind::Pull => 7,
            SocketKind::Push => 8,
            SocketKind::XPub => 9,
            SocketKind::XSub => 10,
        }
    }

    /// Whether a socket of this kind may talk to one of kind `peer` (the matrix of RFC 37; it is symmetric).
    pub const fn accepts(self, peer: SocketKind) -> bool {
        use SocketKind::*;
        matches!(
            (self, peer),
            (Pair, Pair)
                | (Pub | XPub, Sub | XSub)
                | (Sub | XSub, Pub | XPub)
                | (Req, Rep | Router)
                | (Rep, Req | Dealer)
                | (Dealer, Rep | Dealer | Router)
                | (Router, Req | Dealer | Router)
                | (Push, Pull)
                | (Pull, Push)
        )
    }

    /// Whether the peer's routing id is worth sending and keeping: REQ, DEALER and ROUTER announce one.
    pub const fn announces_identity(self) -> bool {
        matches!(self, SocketKind::Req | SocketKind::Dealer | SocketKind::Router)
    }

    /// Whether the application ever sends on this kind. A SUB tells its subscriptions all the same.
    pub(crate) const fn sends(self) -> bool {
        !matches!(self, SocketKind::Pull | SocketKind::Sub)
    }

    /// Whether the application ever receives on this kind. A PUB takes subscriptions all the same.
    pub(crate) const fn receives(self) -> bool {
        !matches!(self, SocketKind::Push | SocketKind::Pub)
    }

    /// Whether subscriptions travel upstream from this kind.
    pub const fn subscribes(self) -> bool {
        matches!(self, SocketKind::Sub | SocketKind::XSub)
    }

    /// Whether this kind takes subscriptions from its peers.
    pub const fn publishes(self) -> bool {
        matches!(self, SocketKind::Pub | SocketKind::XPub)
    }
}

impl fmt::Display for SocketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_again_and_nothing_else_is() {
        for kind in SocketKind::ALL {
            assert_eq!(SocketKind::from_name(kind.name().as_bytes()), Some(kind));
        }
        assert_eq!(SocketKind::from_name(b"push"), None);
        assert_eq!(SocketKind::from_name(b""), None);
    }

    #[test]
    fn the_matrix_of_rfc_37_is_symmetric_and_has_its_21_pairs() {
        let mut pairs = 0;
        for left in SocketKind::ALL {
            for right in SocketKind::ALL {
                assert_eq!(left.accepts(right), right.accepts(left), "{left} and {right}");
                pairs += usize::from(left.accepts(right));
            }
        }
        // PAIR 1; PUB and XPUB with SUB and XSUB 8; REQ with REP and ROUTER 4; DEALER with REP 2, DEALER 1, ROUTER 2;
        // ROUTER with ROUTER 1; PUSH with PULL 2.
        assert_eq!(pairs, 1 + 8 + 4 + 2 + 1 + 2 + 1 + 2);
    }

    #[test]
    fn numbers_are_those_of_libzmq() {
        for (number, kind) in SocketKind::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(kind.number()), number);
        }
    }
}
