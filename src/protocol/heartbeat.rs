//! Signs of life (RFC 37): when to send PING and when silence has lasted too long. Any octet from the peer ends its silence, so a
//! slow large message never looks like death.

use std::time::{Duration, Instant};

use super::config::Heartbeat;
use super::error::ProtocolError;

/// The timers of a connection that finished its handshake.
#[derive(Debug)]
pub(super) struct Heartbeats {
    config: Option<Heartbeat>,
    ping: Option<Instant>,
    silence: Option<Instant>,
    /// Set by the latest PING of the peer, together with the time to live it named.
    expiry: Option<(Instant, Duration)>,
}

impl Heartbeats {
    /// Starts counting the interval.
    pub(super) fn new(config: Option<Heartbeat>, now: Instant) -> Heartbeats {
        let config = config.filter(|heartbeat| !heartbeat.interval.is_zero());
        let ping = config.and_then(|heartbeat| now.checked_add(heartbeat.interval));
        Heartbeats { config, ping, silence: None, expiry: None }
    }

    /// The peer said something.
    #[inline]
    pub(super) fn alive(&mut self) {
        (self.silence, self.expiry) = (None, None);
    }

    /// The peer sent a PING that announces how long its silence may last, and nothing after it yet.
    pub(super) fn promised(&mut self, ttl: Duration, now: Instant) {
        self.expiry = if ttl.is_zero() { None } else { now.checked_add(ttl).map(|expiry| (expiry, ttl)) };
    }

    /// When to call [`Heartbeats::expire`] next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.ping, self.silence, self.expiry.map(|(expiry, _)| expiry)].into_iter().flatten().min()
    }

    /// Acts on the deadlines that have passed; returns the time to live for the PING to send now, if one is due.
    pub(super) fn expire(&mut self, now: Instant) -> Result<Option<Duration>, ProtocolError> {
        if let Some((_, ttl)) = self.expiry.filter(|&(expiry, _)| now >= expiry) {
            return Err(ProtocolError::TtlExpired { limit: ttl });
        }
        let Some(heartbeat) = self.config else { return Ok(None) };
        if self.silence.is_some_and(|silence| now >= silence) {
            return Err(ProtocolError::HeartbeatTimeout { limit: heartbeat.timeout });
        }
        if self.ping.is_none_or(|ping| now < ping) {
            return Ok(None);
        }
        self.ping = now.checked_add(heartbeat.interval);
        if self.silence.is_none() && !heartbeat.timeout.is_zero() {
            self.silence = now.checked_add(heartbeat.timeout);
        }
        Ok(Some(heartbeat.ttl))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn beating(now: Instant) -> Heartbeats {
        let config = Heartbeat { interval: SECOND, timeout: 3 * SECOND, ttl: 5 * SECOND };
        Heartbeats::new(Some(config), now)
    }

    #[test]
    fn a_ping_is_due_at_every_interval() {
        let start = Instant::now();
        let mut beats = beating(start);
        assert_eq!(beats.deadline(), Some(start + SECOND));
        assert_eq!(beats.expire(start), Ok(None));
        assert_eq!(beats.expire(start + SECOND), Ok(Some(5 * SECOND)));
        beats.alive();
        assert_eq!(beats.deadline(), Some(start + 2 * SECOND));
        assert_eq!(beats.expire(start + SECOND), Ok(None));
        assert_eq!(beats.expire(start + 2 * SECOND), Ok(Some(5 * SECOND)));
    }

    #[test]
    fn silence_counts_from_the_first_ping_that_nobody_answered() {
        let start = Instant::now();
        let mut beats = beating(start);
        for second in 1..4 {
            assert_eq!(beats.expire(start + second * SECOND), Ok(Some(5 * SECOND)));
        }
        assert_eq!(beats.expire(start + 4 * SECOND), Err(ProtocolError::HeartbeatTimeout { limit: 3 * SECOND }));
    }

    #[test]
    fn a_sign_of_life_ends_both_silences() {
        let start = Instant::now();
        let mut beats = beating(start);
        assert!(beats.expire(start + SECOND).is_ok());
        beats.promised(SECOND, start + SECOND);
        beats.alive();
        assert!(beats.expire(start + 9 * SECOND).is_ok());
    }

    #[test]
    fn a_promise_of_the_peer_binds_it_without_heartbeats_of_ours() {
        let start = Instant::now();
        let mut beats = Heartbeats::new(None, start);
        assert_eq!(beats.deadline(), None);
        beats.promised(SECOND, start);
        assert_eq!(beats.deadline(), Some(start + SECOND));
        assert_eq!(beats.expire(start + SECOND), Err(ProtocolError::TtlExpired { limit: SECOND }));
        beats.promised(Duration::ZERO, start);
        assert_eq!(beats.deadline(), None);
    }

    #[test]
    fn times_beyond_the_clock_never_come() {
        let start = Instant::now();
        let config = Heartbeat { interval: Duration::MAX, timeout: Duration::MAX, ttl: Duration::MAX };
        assert_eq!(Heartbeats::new(Some(config), start).deadline(), None);
        let config = Heartbeat { interval: Duration::ZERO, ..config };
        assert_eq!(Heartbeats::new(Some(config), start).deadline(), None);
    }
}
