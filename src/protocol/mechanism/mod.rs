//! Security mechanisms: what happens between the greeting and the first message. A closed set; one file each.
//!
//! A mechanism is given one handshake command after the other and consumes itself at each: it either stays in the
//! handshake in its next state or ends with the peer's metadata.

mod null;

use bytes::Bytes;

use self::null::Null;
use super::command::Command;
use super::config::Config;
use super::error::ProtocolError;
use super::outgoing::Outgoing;

/// A mechanism in the midst of a handshake.
#[derive(Debug)]
pub enum Mechanism {
    /// No security: each side sends READY (RFC 37).
    Null(Null),
}

impl Mechanism {
    /// The mechanism this configuration asks for.
    pub(super) fn new(_config: &Config) -> Mechanism {
        Mechanism::Null(Null)
    }

    /// The name, for people.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Mechanism::Null(_) => "NULL",
        }
    }

    /// The name as greetings carry it.
    pub(super) fn padded(&self) -> [u8; 20] {
        let mut padded = [0; 20];
        for (octet, letter) in padded.iter_mut().zip(self.name().bytes()) {
            *octet = letter;
        }
        padded
    }

    /// The peer's greeting is there and names the same mechanism: says what this side says first.
    pub(super) fn begin(&mut self, config: &Config, out: &mut Outgoing) {
        match self {
            Mechanism::Null(null) => null.begin(config, out),
        }
    }

    /// Takes the peer's next handshake command.
    pub(super) fn command(self, command: Command) -> Result<Progress, ProtocolError> {
        match self {
            Mechanism::Null(null) => null.command(command),
        }
    }
}

/// Where a command has brought a handshake.
pub(super) enum Progress {
    /// Both sides are ready; this is the peer's metadata.
    Ready(Bytes),
}
