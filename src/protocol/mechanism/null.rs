//! NULL (RFC 37): no security. Each side sends READY once it has seen the other's greeting and is ready once it has the
//! other's.

use super::Progress;
use crate::protocol::announcement;
use crate::protocol::command::{self, Command};
use crate::protocol::config::Config;
use crate::protocol::error::ProtocolError;
use crate::protocol::metadata;
use crate::protocol::outgoing::Outgoing;

/// Waits for the peer's READY.
#[derive(Debug)]
pub struct Null;

impl Null {
    pub(super) fn begin(&mut self, config: &Config, out: &mut Outgoing) {
        let mut properties = Vec::new();
        metadata::write(&mut properties, metadata::SOCKET_TYPE, config.kind.name().as_bytes());
        if config.kind.announces_identity() && metadata::check_identity(&config.identity).is_ok() {
            metadata::write(&mut properties, metadata::IDENTITY, &config.identity);
        }
        if let Some(announcement) = &config.announcement {
            metadata::write(&mut properties, announcement::NAME, &announcement.write());
        }
        for (name, value) in &config.properties {
            if metadata::check_application(name.as_bytes(), value.len()).is_ok() {
                metadata::write(&mut properties, name, value);
            }
        }
        out.push(&command::ready(&properties));
    }

    pub(super) fn command(self, command: Command) -> Result<Progress, ProtocolError> {
        match command {
            Command::Ready(metadata) => Ok(Progress::Ready(metadata)),
            Command::Error(reason) => Err(ProtocolError::refused(&reason)),
            Command::Ping { .. } => Err(ProtocolError::unexpected(b"PING")),
            Command::Pong => Err(ProtocolError::unexpected(b"PONG")),
            Command::Subscribe(_) => Err(ProtocolError::unexpected(b"SUBSCRIBE")),
            Command::Cancel(_) => Err(ProtocolError::unexpected(b"CANCEL")),
            Command::Other(name) => Err(ProtocolError::unexpected(&name)),
        }
    }
}
