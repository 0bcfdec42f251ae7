//! Signs of life (RFC 37): when to send PING and when silence has lasted too long. Any octet from the peer ends its
//! silence, so a slow large message never looks like death.
//!
//! Whoever does not read sees no PING and answers none. Between our own ends, which announce it, such a side gives
//! signs of life unasked: empty PONGs, twice as often as the other asked when it asked most often. So it does while
//! something comes that may keep a PING behind it from coming: on a slow way, or to one who reads slowly, that takes
//! longer than any time limit. Once nothing comes any more these signs come ever later, so that who says a word and goes
//! silent is not written to without end. So that it knows that the other asks, the first PING goes out with READY there.

use std::time::{Duration, Instant};

use super::config::Heartbeat;
use super::error::ProtocolError;

/// The timers of a connection that finished its handshake.
#[derive(Debug)]
pub(super) struct Heartbeats {
    ping: Option<Instant>,
    silence: Option<Instant>,
    /// Of the peer's PINGs; most peers send none.
    asked: Option<Box<Asked>>,
    /// Something has come since its last PING or PONG, so that the next PING may be on its way behind more of it.
    hidden: bool,
    /// How many signs of life it was given unasked since it said something, while it was read.
    signs: u32,
    /// The peer has answered: it sees what we ask.
    answered: bool,
}

/// What the PINGs of a peer say, and which signs of life it was given for them.
#[derive(Debug)]
struct Asked {
    /// When the peer asked last, the shortest time that it has let pass since it had asked before, and whether more
    /// than one such time is known. Times in which signs of life were due do not count: what is read late seems to be
    /// asked less often than it is.
    at: Instant,
    gap: Option<Duration>,
    is_sure: bool,
    /// Set by the latest PING, together with the time to live it named, until something else comes.
    expiry: Option<(Instant, Duration)>,
    /// When the peer was last given a sign of life, asked for or not, and whether one was given unasked since it asked.
    given: Instant,
    was_late: bool,
}

impl Heartbeats {
    /// Starts counting the interval.
    pub(super) fn new(config: Option<Heartbeat>, now: Instant) -> Heartbeats {
        let config = config.filter(|heartbeat| !heartbeat.interval.is_zero());
        let ping = config.and_then(|heartbeat| now.checked_add(heartbeat.interval));
        Heartbeats { ping, silence: None, asked: None, hidden: false, signs: 0, answered: false }
    }

    /// Lets the first PING be due at once.
    pub(super) fn ask_now(&mut self, now: Instant) {
        self.ping = self.ping.map(|_| now);
    }

    /// The peer sent a PING, and is about to be answered; `more` came behind it.
    pub(super) fn asked(&mut self, more: bool, now: Instant) {
        self.hidden = more;
        match &mut self.asked {
            Some(asked) => asked.again(now),
            None => self.asked = Some(Box::new(Asked::first(now))),
        }
    }

    /// The peer sent a PONG; `more` came behind it.
    pub(super) fn answered(&mut self, more: bool) {
        (self.hidden, self.answered) = (more, true);
    }

    pub(super) fn has_answered(&self) -> bool {
        self.answered
    }

    /// When the peer is to be given a sign of life; `None` if it never asked, or if we read what it sends and would see
    /// it ask. While we read and nothing comes, the pauses grow with the silence, to a quarter of it or so: a way that
    /// stands still is borne for several times as long as the peer lets us be silent.
    pub(super) fn sign_due(&self, reads: bool) -> Option<Instant> {
        let asked = self.asked.as_ref()?;
        if !reads {
            return asked.given.checked_add(asked.pause());
        }
        let longer = 1u32.checked_shl(self.signs / SIGNS_AT_A_PACE)?;
        let due = asked.pause().checked_mul(longer).and_then(|pause| asked.given.checked_add(pause));
        due.filter(|_| self.hidden)
    }

    /// It is given one unasked, and read meanwhile or not.
    pub(super) fn gave_sign(&mut self, reads: bool, now: Instant) {
        self.signs = self.signs.saturating_add(u32::from(reads));
        if let Some(asked) = &mut self.asked {
            (asked.given, asked.was_late) = (now, true);
        }
    }

    /// Octets of the peer were read.
    #[inline]
    pub(super) fn heard(&mut self) {
        (self.hidden, self.signs) = (true, 0);
        self.alive();
    }

    /// The peer said something.
    #[inline]
    pub(super) fn alive(&mut self) {
        self.silence = None;
        if let Some(asked) = &mut self.asked {
            asked.expiry = None;
        }
    }

    /// The PING that the peer sent last announces how long its silence may last, and nothing came after it yet.
    pub(super) fn promised(&mut self, ttl: Duration, now: Instant) {
        if let Some(asked) = &mut self.asked {
            asked.expiry = if ttl.is_zero() { None } else { now.checked_add(ttl).map(|expiry| (expiry, ttl)) };
        }
    }

    /// When to call [`Heartbeats::expire`] next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let expiry = self.asked.as_ref().and_then(|asked| asked.expiry);
        [self.ping, self.silence, expiry.map(|(expiry, _)| expiry)].into_iter().flatten().min()
    }

    /// Acts on the deadlines that have passed; returns the time to live for the PING to send now, if one is due. The
    /// configuration is that of [`new`](Heartbeats::new), which is kept once for all connections.
    pub(super) fn expire(
        &mut self,
        config: Option<Heartbeat>,
        now: Instant,
    ) -> Result<Option<Duration>, ProtocolError> {
        let expiry = self.asked.as_ref().and_then(|asked| asked.expiry);
        if let Some((_, ttl)) = expiry.filter(|&(expiry, _)| now >= expiry) {
            return Err(ProtocolError::TtlExpired { limit: ttl });
        }
        let Some(heartbeat) = config else { return Ok(None) };
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

impl Asked {
    /// The peer sent its first PING, and is about to be answered.
    fn first(now: Instant) -> Asked {
        Asked { at: now, gap: None, is_sure: false, expiry: None, given: now, was_late: false }
    }

    /// It sent another one.
    fn again(&mut self, now: Instant) {
        let was_late = std::mem::take(&mut self.was_late);
        let before = std::mem::replace(&mut self.at, now);
        // PINGs that are read together were sent apart, at what distance cannot be known.
        let gap = now.saturating_duration_since(before);
        if gap >= LEAST_GAP && !was_late {
            self.is_sure = self.gap.is_some();
            self.gap = Some(self.gap.map_or(gap, |known| known.min(gap)));
        }
        self.given = now;
    }

    /// How long after one sign of life the next one is due.
    fn pause(&self) -> Duration {
        // One time alone may have a pause of the peer's process in it.
        let gap = self.gap.map_or(UNKNOWN_GAP, |gap| if self.is_sure { gap } else { gap.min(UNKNOWN_GAP) });
        gap / 2
    }
}

/// PINGs closer together are one read's.
const LEAST_GAP: Duration = Duration::from_millis(4);
/// How often a peer is taken to ask that has asked once or twice.
const UNKNOWN_GAP: Duration = Duration::from_millis(40);
/// After so many signs of life in one silence of a peer that is read, the pause doubles.
const SIGNS_AT_A_PACE: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    const BEAT: Option<Heartbeat> =
        Some(Heartbeat { interval: SECOND, timeout: Duration::from_secs(3), ttl: Duration::from_secs(5) });

    fn beating(now: Instant) -> Heartbeats {
        Heartbeats::new(BEAT, now)
    }

    #[test]
    fn a_ping_is_due_at_every_interval() {
        let start = Instant::now();
        let mut beats = beating(start);
        assert_eq!(beats.deadline(), Some(start + SECOND));
        assert_eq!(beats.expire(BEAT, start), Ok(None));
        assert_eq!(beats.expire(BEAT, start + SECOND), Ok(Some(5 * SECOND)));
        beats.alive();
        assert_eq!(beats.deadline(), Some(start + 2 * SECOND));
        assert_eq!(beats.expire(BEAT, start + SECOND), Ok(None));
        assert_eq!(beats.expire(BEAT, start + 2 * SECOND), Ok(Some(5 * SECOND)));
    }

    #[test]
    fn silence_counts_from_the_first_ping_that_nobody_answered() {
        let start = Instant::now();
        let mut beats = beating(start);
        for second in 1..4 {
            assert_eq!(beats.expire(BEAT, start + second * SECOND), Ok(Some(5 * SECOND)));
        }
        assert_eq!(beats.expire(BEAT, start + 4 * SECOND), Err(ProtocolError::HeartbeatTimeout { limit: 3 * SECOND }));
    }

    #[test]
    fn a_sign_of_life_ends_both_silences() {
        let start = Instant::now();
        let mut beats = beating(start);
        assert!(beats.expire(BEAT, start + SECOND).is_ok());
        beats.asked(false, start + SECOND);
        beats.promised(SECOND, start + SECOND);
        beats.alive();
        assert!(beats.expire(BEAT, start + 9 * SECOND).is_ok());
    }

    #[test]
    fn a_promise_of_the_peer_binds_it_without_heartbeats_of_ours() {
        let start = Instant::now();
        let mut beats = Heartbeats::new(None, start);
        assert_eq!(beats.deadline(), None);
        beats.asked(false, start);
        beats.promised(SECOND, start);
        assert_eq!(beats.deadline(), Some(start + SECOND));
        assert_eq!(beats.expire(None, start + SECOND), Err(ProtocolError::TtlExpired { limit: SECOND }));
        beats.promised(Duration::ZERO, start);
        assert_eq!(beats.deadline(), None);
    }

    #[test]
    fn signs_of_life_come_twice_as_often_as_the_peer_asked() {
        let start = Instant::now();
        let mut beats = Heartbeats::new(None, start);
        assert_eq!(beats.sign_due(false), None);
        beats.asked(false, start + SECOND);
        assert_eq!(beats.sign_due(false), Some(start + SECOND + UNKNOWN_GAP / 2));
        beats.asked(false, start + SECOND);
        assert_eq!(beats.sign_due(false), Some(start + SECOND + UNKNOWN_GAP / 2), "read together");
        beats.asked(false, start + 9 * SECOND);
        assert_eq!(
            beats.sign_due(false),
            Some(start + 9 * SECOND + UNKNOWN_GAP / 2),
            "it may have been stopped meanwhile"
        );
        beats.asked(false, start + 11 * SECOND);
        assert_eq!(beats.sign_due(false), Some(start + 12 * SECOND));
        beats.gave_sign(false, start + 12 * SECOND);
        assert_eq!(beats.sign_due(false), Some(start + 13 * SECOND));
        beats.asked(false, start + 19 * SECOND);
        assert_eq!(beats.sign_due(false), Some(start + 20 * SECOND), "the shortest gap counts");
    }

    #[test]
    fn what_is_read_late_does_not_tell_how_often_it_is_asked() {
        let start = Instant::now();
        let mut beats = Heartbeats::new(None, start);
        for second in 1..6 {
            beats.asked(true, start + second * SECOND);
            beats.gave_sign(false, start + second * SECOND + UNKNOWN_GAP / 2);
            assert_eq!(beats.sign_due(false), Some(start + second * SECOND + UNKNOWN_GAP));
        }
        for second in 6..9 {
            beats.asked(false, start + second * SECOND);
        }
        assert_eq!(beats.sign_due(false), Some(start + 8 * SECOND + SECOND / 2), "it has kept up since");
    }

    #[test]
    fn signs_of_life_are_given_while_something_comes_behind_which_a_ping_may_be() {
        let start = Instant::now();
        let mut beats = Heartbeats::new(None, start);
        beats.heard();
        assert_eq!(beats.sign_due(true), None, "it never asked");
        for second in 1..4 {
            beats.asked(false, start + second * SECOND);
        }
        assert_eq!(beats.sign_due(true), None, "it would be seen to ask");
        beats.heard();
        assert_eq!(beats.sign_due(true), Some(start + 3 * SECOND + SECOND / 2));
        beats.gave_sign(true, start + 4 * SECOND);
        assert_eq!(beats.sign_due(true), Some(start + 4 * SECOND + SECOND / 2), "until it is seen to ask");
        beats.asked(true, start + 5 * SECOND);
        assert_eq!(beats.sign_due(true), Some(start + 5 * SECOND + SECOND / 2), "more came behind");
        beats.answered(false);
        assert_eq!(beats.sign_due(true), None, "what it says of itself is not answered without end");
    }

    #[test]
    fn signs_of_life_for_a_peer_that_is_read_come_ever_later_until_it_says_something() {
        let start = Instant::now();
        let mut beats = Heartbeats::new(None, start);
        (1..4).for_each(|second| beats.asked(true, start + second * SECOND));
        let mut now = start + 3 * SECOND;
        let mut pauses = (0..200).map_while(|_| {
            let due = beats.sign_due(true)?;
            let pause = due - std::mem::replace(&mut now, due);
            beats.gave_sign(true, now);
            Some(pause)
        });
        let first: Vec<Duration> = pauses.by_ref().take(9).collect();
        let expected = [1, 1, 1, 1, 2, 2, 2, 2, 4].map(|halves| halves * SECOND / 2);
        assert_eq!(first, expected);
        assert!(pauses.count() < 150, "they end");
        assert_eq!(beats.sign_due(false), Some(now + SECOND / 2), "who does not read may not see it ask");
        beats.heard();
        assert_eq!(beats.sign_due(true), Some(now + SECOND / 2));
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
