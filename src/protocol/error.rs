//! Everything that ends a connection below the application, named so that one sees who is to blame.

use std::time::Duration;

use super::metadata::MetadataError;
use crate::kind::SocketKind;

/// Why a connection cannot go on. Unless a variant says otherwise the peer, or whatever it is that connected, is to
/// blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The peer's first octets are not those of ZMTP 3.0 or later.
    #[error("the peer is not a ZMTP 3 peer ({})", old_version(*.revision))]
    OldVersion {
        /// The revision octet of its greeting, if it got that far.
        revision: Option<u8>,
    },
    /// The peer wants another security mechanism than ours. Either side may be set up wrongly.
    #[error("the peer's security mechanism is {theirs:?}, ours is {ours}")]
    MechanismMismatch {
        /// The mechanism we are set up for.
        ours: &'static str,
        /// What the peer's greeting names.
        theirs: String,
    },
    /// The peer sent, or announced, more than it may before it is ready.
    #[error("the peer's handshake needs {announced} octets, the limit is {limit}")]
    HandshakeTooLarge {
        /// What it sent so far and what it announced on top.
        announced: u64,
        /// How much we take.
        limit: u64,
    },
    /// The peer sent a command that has no place where it was sent.
    #[error("the peer sent the command {name:?} out of turn")]
    UnexpectedCommand {
        /// The command's name.
        name: String,
    },
    /// A command is not built as the protocol wants it.
    #[error("the peer sent a malformed {command} command: {fault}")]
    MalformedCommand {
        /// Which command, as far as that could be told.
        command: CommandName,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A command is longer than we take.
    #[error("the peer sent a command of {announced} octets, the limit is {limit}")]
    CommandTooLarge {
        /// The length in its header.
        announced: u64,
        /// How much we take.
        limit: u64,
    },
    /// The properties in the peer's READY break a rule.
    #[error("the peer's metadata is invalid: {0}")]
    InvalidMetadata(MetadataError),
    /// The peer is of a kind ours cannot talk to. Either side may be connected wrongly.
    #[error("a {ours} socket cannot talk to a {} socket", printable(.theirs))]
    IncompatibleSocket {
        /// Our kind.
        ours: SocketKind,
        /// The kind the peer announced.
        theirs: String,
    },
    /// The peer refused us with an ERROR command. Trying again will not help before somebody changes something, unless
    /// the reason begins with `try again: `, as that of our own ends does where it passes: a second peer of a PAIR, a
    /// routing id that is in use, or another kind of socket that may be bound there later.
    #[error("the peer refused the connection{}", refusal(.reason))]
    Refused {
        /// What it gave as its reason, at most 255 octets.
        reason: String,
    },
    /// We refused the peer with an ERROR command, for a reason outside the protocol.
    #[error("we refused the peer: {reason}")]
    Dismissed {
        /// What we told it.
        reason: String,
    },
    /// The bodies of one message have more octets than the limit.
    #[error("the peer sent a message of at least {announced} octets, the limit is {limit} (option `max_message_size`)")]
    MessageTooLarge {
        /// How many octets the frames announced so far add up to.
        announced: u64,
        /// How many we take.
        limit: u64,
    },
    /// One message has more frames than the limit.
    #[error("the peer sent a message of more than {limit} frames (the limit, option `max_message_frames`)")]
    TooManyFrames {
        /// How many we take.
        limit: u32,
    },
    /// The peer was not ready in time.
    #[error("the peer did not finish its handshake within {limit:?}")]
    HandshakeTimeout {
        /// How much time it had.
        limit: Duration,
    },
    /// The peer stayed silent after a PING of ours.
    #[error("the peer has been silent for {limit:?} after a PING")]
    HeartbeatTimeout {
        /// How long it may be silent.
        limit: Duration,
    },
    /// The peer stayed silent for longer than its own PING said it ever would.
    #[error("the peer has been silent for longer than the {limit:?} it announced")]
    TtlExpired {
        /// The time to live in its PING.
        limit: Duration,
    },
    /// The stream ended before the peer was ready.
    #[error("the connection ended within the handshake")]
    HandshakeCut,
    /// The peer took our greeting and closed the stream without having sent an octet. Peers that speak only ZMTP 1.0 or
    /// 2.0 do that, each time.
    #[error("the peer closed the connection without a word after our greeting{}", unheard(*.times))]
    ClosedUnheard {
        /// How often in a row that has happened at this endpoint.
        times: u32,
    },
    /// The stream ended within a frame, or between two frames of one message.
    #[error("the connection ended within a message")]
    MessageCut,
    /// There is no memory for a body that is within the limits. Nobody's fault but the limits'.
    #[error("no memory for {octets} more octets of a message")]
    OutOfMemory {
        /// How much could not be had.
        octets: usize,
    },
}

/// What a peer said, without what could begin a line of its own or move a cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

impl From<MetadataError> for ProtocolError {
    fn from(error: MetadataError) -> ProtocolError {
        ProtocolError::InvalidMetadata(error)
    }
}

impl ProtocolError {
    /// How the reason of an ERROR begins that passes.
    pub(super) const PASSES: &str = "try again: ";

    /// The peer's ERROR command with this reason. The text is the peer's: whoever shows it must not trust it.
    pub(super) fn refused(reason: &[u8]) -> ProtocolError {
        ProtocolError::Refused { reason: String::from_utf8_lossy(reason).into_owned() }
    }

    /// A command that may not come now.
    pub(super) fn unexpected(name: &[u8]) -> ProtocolError {
        ProtocolError::UnexpectedCommand { name: String::from_utf8_lossy(name).into_owned() }
    }

    /// Whether the peer said in so many words that it does not want us: connecting again unchanged is pointless.
    pub fn is_refusal(&self) -> bool {
        matches!(self, ProtocolError::Refused { reason } if !reason.starts_with(ProtocolError::PASSES))
    }

    /// Whether time ran out, rather than a rule being broken. Connecting again is sensible.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            ProtocolError::HandshakeTimeout { .. }
                | ProtocolError::HeartbeatTimeout { .. }
                | ProtocolError::TtlExpired { .. }
        )
    }

    /// Whether the stream ended where it should not have. Connecting again is sensible.
    pub fn is_cut(&self) -> bool {
        matches!(self, ProtocolError::HandshakeCut | ProtocolError::ClosedUnheard { .. } | ProtocolError::MessageCut)
    }

    /// The number libzmq's monitor gives for this (`ZMQ_PROTOCOL_ERROR_ZMTP_…`); the nearest one where it has none.
    pub fn code(&self) -> u32 {
        match self {
            ProtocolError::UnexpectedCommand { .. } => 0x1000_0001,
            ProtocolError::MalformedCommand { command, .. } => match command {
                CommandName::Error => 0x1000_0015,
                CommandName::Ready => 0x1000_0016,
                CommandName::Ping | CommandName::Unknown => 0x1000_0011,
            },
            ProtocolError::InvalidMetadata(_) | ProtocolError::IncompatibleSocket { .. } => 0x1000_0018,
            ProtocolError::MechanismMismatch { .. } => 0x1100_0002,
            ProtocolError::OldVersion { .. }
            | ProtocolError::HandshakeTooLarge { .. }
            | ProtocolError::CommandTooLarge { .. }
            | ProtocolError::Refused { .. }
            | ProtocolError::Dismissed { .. }
            | ProtocolError::MessageTooLarge { .. }
            | ProtocolError::TooManyFrames { .. }
            | ProtocolError::HandshakeTimeout { .. }
            | ProtocolError::HeartbeatTimeout { .. }
            | ProtocolError::TtlExpired { .. }
            | ProtocolError::HandshakeCut
            | ProtocolError::ClosedUnheard { .. }
            | ProtocolError::MessageCut
            | ProtocolError::OutOfMemory { .. } => 0x1000_0000,
        }
    }
}

/// Which command a fault was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandName {
    /// The command that refuses a peer.
    Error,
    /// The command that asks for a sign of life.
    Ping,
    /// The command that ends a handshake.
    Ready,
    /// One without a readable name, or one we do not know.
    Unknown,
}

impl std::fmt::Display for CommandName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            CommandName::Error => "ERROR",
            CommandName::Ping => "PING",
            CommandName::Ready => "READY",
            CommandName::Unknown => "nameless or unknown",
        })
    }
}

/// The reason without its beginning that says that it passes: that is for programs.
fn refusal(reason: &str) -> String {
    match reason.strip_prefix(ProtocolError::PASSES) {
        Some(reason) => format!(" for now: {}", printable(reason)),
        None => format!(": {}", printable(reason)),
    }
}

fn old_version(revision: Option<u8>) -> String {
    match revision {
        None => "it sent no ZMTP signature, or that of version 1.0".to_owned(),
        Some(revision) => format!("its greeting has the revision {revision} of version 2.0 or older"),
    }
}

fn unheard(times: u32) -> String {
    match times {
        0 | 1 => String::new(),
        times => format!(
            ", {times} times in a row: it probably speaks only ZMTP 1.0 or 2.0, of libzmq 3 or older, is no ZeroMQ peer, or takes no more connections"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_name_their_number_and_their_option() {
        let error = ProtocolError::MessageTooLarge { announced: 1000, limit: 64 };
        let text = "the peer sent a message of at least 1000 octets, the limit is 64 (option `max_message_size`)";
        assert_eq!(error.to_string(), text);
        let error = ProtocolError::TooManyFrames { limit: 64 };
        let text = "the peer sent a message of more than 64 frames (the limit, option `max_message_frames`)";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn only_the_peers_error_command_is_a_refusal() {
        assert!(ProtocolError::Refused { reason: "400".to_owned() }.is_refusal());
        assert!(!ProtocolError::Refused { reason: "try again: taken".to_owned() }.is_refusal());
        assert!(!ProtocolError::Dismissed { reason: "taken".to_owned() }.is_refusal());
        assert!(!ProtocolError::HandshakeCut.is_refusal());
    }

    #[test]
    fn codes_are_those_of_libzmq() {
        let mismatch = ProtocolError::MechanismMismatch { ours: "NULL", theirs: "CURVE".to_owned() };
        assert_eq!(mismatch.code(), 0x1100_0002);
        assert_eq!(ProtocolError::UnexpectedCommand { name: "HELLO".to_owned() }.code(), 0x1000_0001);
        let fault = "cut";
        for (command, code) in [(CommandName::Unknown, 0x11), (CommandName::Error, 0x15), (CommandName::Ready, 0x16)] {
            assert_eq!(ProtocolError::MalformedCommand { command, fault }.code(), 0x1000_0000 + code);
        }
        assert_eq!(ProtocolError::InvalidMetadata(MetadataError::Truncated).code(), 0x1000_0018);
        assert_eq!(ProtocolError::MessageCut.code(), 0x1000_0000);
    }
}
