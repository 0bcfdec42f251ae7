//! A connecting endpoint: attempts over all addresses of a name, with full-jitter backoff between rounds.

use super::{EndpointId, Settings};
use crate::peer::PeerId;
use crate::slab::Key;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wiremesh_transports::Transport;

/// One `connect` of a socket.
pub(crate) struct Dialer {
    pub(crate) id: EndpointId,
    pub(crate) endpoint: Arc<str>,
    /// The endpoint without its scheme, as given: resolved again for each round of attempts.
    pub(crate) address: Arc<str>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) settings: Arc<Settings>,
    /// The peer whose outbox fills before a connection exists; `None` under `immediate`.
    pub(crate) peer: Option<PeerId>,
    pub(crate) state: Dialing,
    /// Addresses of this round that have not been tried.
    pub(crate) candidates: Vec<String>,
    /// Rounds that failed since the last good connection.
    pub(crate) failures: u32,
    /// Whether a connection has ever been up.
    pub(crate) was_up: bool,
    /// The endpoint was closed; it goes on only to deliver what is queued.
    pub(crate) closing: bool,
}

/// What a dialer is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialing {
    /// Waits for the name to be looked up.
    Resolving,
    /// Has a connection, or an attempt under way.
    Linked(Key),
    /// Waits for the next round.
    Waiting(Instant),
}

impl Dialer {
    /// How long to wait before the next round; `None` when there is to be none. `random` is any number.
    ///
    /// The first retry comes after the interval itself; later ones double it up to the cap, and are spread over the whole
    /// span (full jitter), so that a thousand clients of a restarted server do not come back at once.
    pub(crate) fn backoff(&mut self, random: u64) -> Option<Duration> {
        let interval = self.settings.reconnect_interval?.clamp(FLOOR, CEILING);
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            return Some(interval);
        }
        let doubled = interval.saturating_mul(1u32 << (self.failures - 1).min(20));
        let span = doubled.min(self.settings.reconnect_max.clamp(interval, CEILING)) - interval;
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        Some(interval + span.mul_f64(share))
    }

    /// A connection proved good: the next loss starts from the interval again.
    pub(crate) fn proved(&mut self) {
        self.failures = 0;
    }
}

/// However short the interval is set, attempts do not become a busy loop.
const FLOOR: Duration = Duration::from_millis(1);
/// No wait is longer than what the clock can say: a century is one.
const CEILING: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A small generator for jitter: nothing depends on its quality.
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new() -> Jitter {
        use std::hash::{BuildHasher, Hasher};
        Jitter(std::collections::hash_map::RandomState::new().build_hasher().finish() | 1)
    }

    /// xorshift64* (Vigna 2016).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::SocketKind;
    use crate::protocol::Config;
    use wiremesh_transports::{LinkOptions, Registry};

    fn dialer(interval: Option<Duration>, max: Duration) -> Dialer {
        Dialer {
            id: EndpointId(1),
            endpoint: "tcp://127.0.0.1:1".into(),
            address: "127.0.0.1:1".into(),
            transport: Registry::builtin().get("tcp").expect("built in"),
            settings: Arc::new(Settings {
                link: LinkOptions::default(),
                protocol: Arc::new(Config::new(SocketKind::Push)),
                reconnect_interval: interval,
                reconnect_max: max,
                connect_timeout: None,
                stop_on_refused: false,
                stop_on_handshake_failure: false,
                half_open: 1,
            }),
            peer: None,
            state: Dialing::Resolving,
            candidates: Vec::new(),
            failures: 0,
            was_up: false,
            closing: false,
        }
    }

    #[test]
    fn ten_thousand_failures_stay_between_the_interval_and_the_cap() {
        let (interval, cap) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut dialer = dialer(Some(interval), cap);
        let mut jitter = Jitter::new();
        assert_eq!(dialer.backoff(jitter.next()), Some(interval));
        let waits: Vec<Duration> = (0..10_000).filter_map(|_| dialer.backoff(jitter.next())).collect();
        assert_eq!(waits.len(), 10_000);
        assert!(waits.iter().all(|wait| (interval..=cap).contains(wait)));
        assert!(waits.iter().any(|wait| *wait > cap / 2) && waits.iter().any(|wait| *wait < cap / 2));
    }

    #[test]
    fn a_zero_interval_is_no_busy_loop_and_none_never_retries() {
        let mut jitter = Jitter::new();
        assert_eq!(dialer(Some(Duration::ZERO), Duration::ZERO).backoff(jitter.next()), Some(FLOOR));
        assert_eq!(dialer(None, Duration::ZERO).backoff(jitter.next()), None);
    }
}
