//! A connecting endpoint: attempts over all addresses of a name, with full-jitter backoff between rounds.

use super::reactor::Lingering;
use super::unheard::Unheard;
use super::{EndpointId, Settings};
use crate::peer::PeerId;
use crate::protocol::Token;
use crate::slab::Key;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wiremesh_transports::Transport;
use wiremesh_transports::sys::random_octets;

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
    /// Connections that the peer closed without a word, one after the other.
    pub(crate) unheard: Unheard,
    /// Whether a connection has ever been up.
    pub(crate) was_up: bool,
    /// When the look-up, or the attempt at an address, began that is under way or was the last.
    pub(crate) begun: Instant,
    /// The last attempt that ended was answered at its address.
    pub(crate) answered: bool,
    /// The endpoint was closed; it goes on only to deliver what is queued.
    pub(crate) closing: bool,
    /// How long it may do so, unless the whole socket is closed.
    pub(crate) lingering: Option<Lingering>,
}

/// What a dialer is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialing {
    /// Waits for the name to be looked up.
    Resolving,
    /// Has a connection, or an attempt under way.
    Linked(Key),
    /// Waits for the next round or the next address, or looks then whether its turn has come.
    Waiting(Instant),
    /// Waits for its turn, and is told.
    InLine,
}

impl Dialer {
    /// The token its connections announce, if they announce anything.
    pub(crate) fn token(&self) -> Option<Token> {
        Some(self.settings.protocol.announcement.as_ref()?.token)
    }

    /// Has its connections announce that token from now on, if they announce anything.
    pub(crate) fn announce(&mut self, token: Option<Token>) {
        let Some(token) = token.filter(|token| self.token().is_some_and(|ours| ours != *token)) else { return };
        let settings = Arc::make_mut(&mut self.settings);
        if let Some(announcement) = &mut Arc::make_mut(&mut settings.protocol).announcement {
            announcement.token = token;
        }
    }

    /// Whether its connections may take another way than those of another endpoint of the same name, and so find
    /// somebody where those never will. Linux routes by the type of service too. A source address is part of the name,
    /// and no other option has a say in where a connection goes.
    pub(crate) fn takes_another_way(&self, other: &Dialer) -> bool {
        let (link, other) = (&self.settings.link, &other.settings.link);
        link.bind_to_device != other.bind_to_device
            || link.type_of_service != other.type_of_service
            || link.ipv6 != other.ipv6
    }

    /// How long to wait before the next round; `None` when there is to be none. `random` is any number.
    pub(crate) fn backoff(&mut self, random: u64) -> Option<Duration> {
        let interval = self.settings.reconnect_interval?.clamp(FLOOR, CEILING);
        let longest = self.settings.reconnect_max.clamp(interval, CEILING);
        self.failures = self.failures.saturating_add(1);
        let share = share(random);
        Some(match self.settings.protocol.profile.scatters_attempts() {
            true => wait(interval, longest, Round::of(self.failures, self.was_up), share),
            false if longest == interval => interval + interval.mul_f64(share),
            false => interval.saturating_mul(1 << (self.failures - 1).min(20)).min(longest),
        })
    }

    /// How long to wait before a connection that we ended ourselves is replaced; `None` when it is not to be. Its peer
    /// was not lost, so nobody else comes back at this moment, and it counts as no failure.
    pub(crate) fn replacement(&self) -> Option<Duration> {
        Some(self.settings.reconnect_interval?.clamp(FLOOR, CEILING))
    }

    /// A connection proved good: the next loss starts from the interval again.
    pub(crate) fn proved(&mut self) {
        self.failures = 0;
    }
}

/// Which round of attempts a wait precedes, as far as the wait depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// The first after an endpoint that was never up found nobody. Clients and servers are often started together.
    Soon,
    /// The first after a connection was lost, perhaps with a thousand others at this moment.
    Scatter,
    /// A later one, after so many doublings.
    Later(u32),
}

impl Round {
    fn of(failures: u32, was_up: bool) -> Round {
        let scattered = if was_up { 1 } else { 2 };
        if failures < scattered {
            Round::Soon
        } else if failures == scattered {
            Round::Scatter
        } else {
            Round::Later((failures - scattered).saturating_sub(STEADY))
        }
    }
}

/// The wait before a round, between the interval and the longest; `share` is from 0 to below 1.
///
/// Waits are drawn from 4 to 10 intervals, so that peers that come back after a second are found within a second, all
/// connections of a process among them. The first wait after a loss is an interval and the *rest* of such a wait, as
/// seen by somebody who looks in at any time. So clients that lost their server at the same moment are as scattered
/// from the first wait on as if they had tried for ever: with the default interval less than 15 % of them come within
/// 100 ms, however long the outage lasts. Only after an outage that long that [`STEADY`] waits have passed the span
/// doubles with each failure.
fn wait(interval: Duration, longest: Duration, round: Round, share: f64) -> Duration {
    let doublings = match round {
        Round::Soon => return interval,
        Round::Scatter => 0,
        Round::Later(doublings) => doublings.min(20),
    };
    let high = interval.saturating_mul(10 << doublings).min(longest);
    let low = high.mul_f64(0.4).max(interval);
    if round != Round::Scatter {
        return low + (high - low).mul_f64(share);
    }
    // The rest of a wait W that began at a random time has the density P(W > x) / E(W): even up to `low`, then falling
    // to 0.
    let (low, high) = (low.as_secs_f64(), high.as_secs_f64());
    let mean = (low + high) / 2.0;
    let rest =
        if share * mean <= low { share * mean } else { high - (2.0 * (1.0 - share) * (high - low) * mean).sqrt() };
    let rest = Duration::try_from_secs_f64(rest).unwrap_or(longest);
    interval.saturating_add(rest).min(longest)
}

/// A number as a share from 0 to below 1.
fn share(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

/// So many waits do not grow.
const STEADY: u32 = 3;
/// However short the interval is set, attempts do not become a busy loop.
const FLOOR: Duration = Duration::from_millis(1);
/// No wait is longer than what the clock can say: a century is one.
const CEILING: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A small generator for jitter: nothing depends on its quality.
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new() -> Jitter {
        // The keys of hash maps are the same in all children of a process, which would come back at the same moments.
        Jitter(u128::from_ne_bytes(random_octets()) as u64 | 1)
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
                max_connections: usize::MAX,
            }),
            peer: None,
            state: Dialing::Resolving,
            candidates: Vec::new(),
            failures: 0,
            was_up: false,
            begun: Instant::now(),
            answered: false,
            closing: false,
            lingering: None,
            unheard: Unheard::default(),
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

    #[test]
    fn no_span_of_times_panics() {
        let spans = [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(7), Duration::MAX];
        for (interval, longest) in spans.into_iter().flat_map(|interval| spans.map(|longest| (interval, longest))) {
            for (was_up, random) in [(false, 0), (false, u64::MAX), (true, 0), (true, u64::MAX)] {
                let mut dialer = dialer(Some(interval), longest);
                dialer.was_up = was_up;
                for _ in 0..100 {
                    let wait = dialer.backoff(random).expect("it tries again");
                    assert!((FLOOR..=CEILING).contains(&wait), "{interval:?} to {longest:?}: {wait:?}");
                }
            }
        }
    }

    /// When the clients of a server that was gone for `outage` are back after it, in order.
    fn back_after(outage: Duration, was_up: bool, jitter: &mut Jitter) -> Vec<Duration> {
        let mut back: Vec<Duration> = (0..1000)
            .map(|_| {
                let mut dialer = dialer(Some(Duration::from_millis(100)), Duration::from_secs(5));
                dialer.was_up = was_up;
                let mut at = Duration::ZERO;
                while at < outage {
                    at += dialer.backoff(jitter.next()).expect("it tries again");
                }
                at - outage
            })
            .collect();
        back.sort_unstable();
        back
    }

    /// The most clients that come within 100 ms.
    fn crowd(back: &[Duration]) -> usize {
        let window = Duration::from_millis(100);
        let within = |first: &Duration| back.iter().filter(|at| (*first..*first + window).contains(at)).count();
        back.iter().map(within).max().unwrap_or(0)
    }

    #[test]
    fn after_an_outage_of_a_second_half_the_clients_are_back_within_500_ms_and_all_within_1500() {
        let mut jitter = Jitter::new();
        for was_up in [true, false] {
            let back = back_after(Duration::from_secs(1), was_up, &mut jitter);
            assert!(back[500] < Duration::from_millis(450), "the median is {:?}", back[500]);
            assert!(back[999] < Duration::from_millis(1200), "the last is {:?}", back[999]);
        }
    }

    #[test]
    fn of_a_thousand_clients_no_more_than_a_fifth_come_back_within_100_ms_however_long_the_outage() {
        let mut jitter = Jitter::new();
        for outage in [1, 50, 100, 250, 500, 750, 1000, 1250, 1500, 2000, 3000, 10_000] {
            let crowd = crowd(&back_after(Duration::from_millis(outage), true, &mut jitter));
            assert!(crowd <= 200, "{crowd} come together after {outage} ms");
        }
        let crowd = crowd(&back_after(Duration::from_secs(1), false, &mut jitter));
        assert!(crowd <= 200, "{crowd} that have never been up come together");
    }

    #[test]
    fn the_profile_of_libzmq_waits_as_libzmq_does() {
        let interval = Duration::from_millis(100);
        let with = |longest| {
            let mut dialer = dialer(Some(interval), longest);
            let mut protocol = Config::new(SocketKind::Push);
            protocol.profile = crate::Profile::Libzmq;
            dialer.settings = Arc::new(Settings { protocol: Arc::new(protocol), ..(*dialer.settings).clone() });
            [(); 5].map(|()| dialer.backoff(u64::MAX / 2).expect("it tries again").as_millis())
        };
        assert_eq!(with(Duration::from_millis(500)), [100, 200, 400, 500, 500]);
        assert!(with(Duration::ZERO).iter().all(|wait| (149..=150).contains(wait)));
    }

    #[test]
    fn a_connection_that_proved_good_starts_the_backoff_anew() {
        let mut dialer = dialer(Some(Duration::from_millis(100)), Duration::from_secs(5));
        dialer.was_up = true;
        for _ in 0..20 {
            dialer.backoff(u64::MAX);
        }
        assert!(dialer.backoff(u64::MAX) > Some(Duration::from_secs(4)));
        dialer.proved();
        assert!(dialer.backoff(u64::MAX) < Some(Duration::from_millis(1200)));
    }
}
