//! Whether whoever waits for an answer should look for it a moment before it sleeps.
//!
//! A sleep and the wake after it take longer than a peer that is awake needs to answer, and cost both sides more of a
//! processor. So where answers have lately come quickly they are looked for, and where that was in vain it is not done
//! again for a while.

use std::time::Duration;

/// How quickly the answers to what was sent have come.
#[derive(Debug)]
pub(super) struct Answers {
    /// How long the last was waited for.
    last: Duration,
    /// How many waits the looking is left out of.
    pause: u32,
    /// How often on end it was in vain.
    failures: u32,
}

impl Answers {
    /// How long an answer is looked for: about twice what waking the peer takes.
    const LOOK: Duration = Duration::from_micros(50);
    /// An answer that took longer, with the sleep and the wake of both sides, is not near.
    const NEAR: Duration = Duration::from_micros(150);
    /// For so many waits the looking pauses when it was in vain, and for twice as many with each further failure, so
    /// many times.
    const PAUSE: u32 = 8;
    const DOUBLINGS: u32 = 5;

    pub(super) const fn new() -> Answers {
        Answers { last: Duration::MAX, pause: 0, failures: 0 }
    }

    /// An answer is waited for: how long to look for it before sleeping.
    pub(super) fn look(&mut self) -> Duration {
        if self.last > Answers::NEAR {
            return Duration::ZERO;
        }
        match self.pause.checked_sub(1) {
            Some(left) => {
                self.pause = left;
                Duration::ZERO
            }
            None => Answers::LOOK,
        }
    }

    /// The wait is over: how long it was, and if it was looked for the answer, whether it came before the sleep.
    pub(super) fn note(&mut self, waited: Duration, found: Option<bool>) {
        self.last = waited;
        match found {
            Some(true) => self.failures = 0,
            Some(false) => {
                self.pause = Answers::PAUSE << self.failures.min(Answers::DOUBLINGS);
                self.failures += 1;
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(6);
    const SLEPT: Duration = Duration::from_micros(90);

    /// So many waits that find nothing before the sleep; in how many of them it was looked.
    fn vain(answers: &mut Answers, waits: u32) -> u32 {
        let looks = (0..waits).filter(|_| {
            let looks = !answers.look().is_zero();
            answers.note(SLEPT, looks.then_some(false));
            looks
        });
        looks.count() as u32
    }

    #[test]
    fn an_answer_is_looked_for_once_one_was_near() {
        let mut answers = Answers::new();
        assert_eq!(answers.look(), Duration::ZERO);
        answers.note(SLEPT, None);
        for _ in 0..100 {
            assert_eq!(answers.look(), Answers::LOOK);
            answers.note(QUICK, Some(true));
        }
        answers.note(Answers::NEAR * 2, None);
        assert_eq!(answers.look(), Duration::ZERO);
    }

    #[test]
    fn looking_in_vain_makes_it_rarer() {
        let mut answers = Answers::new();
        answers.note(SLEPT, None);
        let (first, later) = (vain(&mut answers, 1000), vain(&mut answers, 10_000));
        assert!((5..20).contains(&first) && (35..45).contains(&later), "{first} of 1,000, {later} of 10,000");
    }

    #[test]
    fn one_answer_in_time_restores_the_trust() {
        let mut answers = Answers::new();
        answers.note(SLEPT, None);
        vain(&mut answers, 2000);
        while answers.look().is_zero() {}
        answers.note(QUICK, Some(true));
        assert_eq!(answers.look(), Answers::LOOK);
        answers.note(SLEPT, Some(false));
        assert_eq!((0..=Answers::PAUSE).filter(|_| answers.look().is_zero()).count(), Answers::PAUSE as usize);
    }
}
