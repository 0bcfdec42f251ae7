//! Which subscription it is that a peer ends its connections over.
//!
//! A new connection is told of all subscriptions. A publisher that ends it because of one of them would be told of that
//! one after each reconnect again, and have the others for a moment only. Subscriptions are short: the peer's system
//! has all of them before the peer has read the first, and so nothing tells which one it was. It is found by halving.
//! Once two connections in a row ended before they had lasted, the next ones are told in steps, each only when the
//! connection has lasted since the one before. What a connection ended over is among what its last step told: the next
//! connection is told at once what stands before that, and then half of it. What is left in the end, told alone on
//! connections that had lasted and ended over it again and again, is given up.

use super::doubt::Ending;

/// See the module.
#[derive(Default)]
pub(crate) struct Search {
    /// How many connections in a row the peer ended before they had lasted, all being told at once.
    cuts: u8,
    halving: Option<Box<Halving>>,
}

struct Halving {
    /// It is among the subscriptions at these places. Without an end nothing speaks against any of them.
    from: u32,
    to: Option<u32>,
    /// Those below this are told, over the present connection, …
    told: u32,
    /// … and it has lasted since those below this were.
    lasted: u32,
    /// Whether there was a step before the last one, so that the connection had lasted when that was told.
    has_lasted: bool,
    /// How many subscriptions the last step told, and the first of them.
    count: usize,
    suspect: Vec<u8>,
    /// How many connections in a row ended over that one, told alone, and which that was.
    ends: u32,
    ended_over: Vec<u8>,
    /// While this is kept, places stay what they are.
    _still: Box<dyn Send>,
}

/// From so many connections on that ended before they had lasted the subscription is looked for.
const CUTS: u8 = 2;

impl Search {
    /// A connection is up, and subscriptions at so many places are to be told. Returns how many of these are told at
    /// once.
    pub(crate) fn begin<S: Send + 'static>(&mut self, places: u32, still: impl FnOnce() -> S) -> u32 {
        if self.halving.is_none() && self.cuts >= CUTS {
            self.halving = Some(Box::new(Halving {
                from: 0,
                to: Some(places),
                told: 0,
                lasted: 0,
                has_lasted: false,
                count: 0,
                suspect: Vec::new(),
                ends: 0,
                ended_over: Vec::new(),
                _still: Box::new(still()),
            }));
        }
        let Some(halving) = &mut self.halving else { return places };
        (halving.lasted, halving.has_lasted) = (0, false);
        halving.step_to(halving.from.min(places))
    }

    /// Returns true if subscriptions are told in steps.
    pub(crate) fn is_on(&self) -> bool {
        self.halving.is_some()
    }

    /// The present step tells of that topic.
    pub(crate) fn note(&mut self, topic: &[u8]) {
        if let Some(halving) = &mut self.halving {
            halving.count += 1;
            if halving.count == 1 {
                halving.suspect = topic.to_vec();
            }
        }
    }

    /// Returns true if the present step told nothing, so that nothing has to be waited for.
    pub(crate) fn is_empty_step(&self) -> bool {
        self.halving.as_ref().is_some_and(|halving| halving.count == 0 && halving.has_lasted)
    }

    /// The connection has lasted since the last step. Returns up to where the next one tells, of so many places; `None`
    /// if all was told, and nothing is looked for any more.
    pub(crate) fn step(&mut self, places: u32) -> Option<u32> {
        let halving = self.halving.as_mut()?;
        if halving.told >= places {
            *self = Search::default();
            return None;
        }
        (halving.lasted, halving.has_lasted) = (halving.told, true);
        let left = halving.to.map_or(0, |to| to.min(places).saturating_sub(halving.told));
        // Where the connection has outlived all that was suspected, the rest is told.
        Some(halving.step_to(if left == 0 { places } else { halving.told + left.div_ceil(2) }))
    }

    /// The connection has ended; `settled` says whether the peer's system had all that was told of. Returns the topic
    /// to give up if there is one, over which at least so many connections ended in a row, and how many they were.
    pub(crate) fn end(&mut self, ending: Ending, settled: bool, limit: u32) -> Option<(Vec<u8>, u32)> {
        let Ending::ByPeer { lasted } = ending else {
            self.reset();
            return None;
        };
        let Some(halving) = &mut self.halving else {
            self.cuts = if lasted && settled { 0 } else { self.cuts.saturating_add(1) };
            return None;
        };
        if halving.told == halving.lasted {
            // It was not over what it was told.
            self.reset();
            return None;
        }
        (halving.from, halving.to) = (halving.lasted, Some(halving.told));
        if halving.count != 1 || !halving.has_lasted {
            halving.ends = 0;
            return None;
        }
        halving.ends = if halving.ends > 0 && halving.suspect == halving.ended_over { halving.ends + 1 } else { 1 };
        halving.ended_over.clone_from(&halving.suspect);
        if halving.ends < limit {
            return None;
        }
        // Nothing speaks against those behind it.
        (halving.from, halving.to) = (halving.told, None);
        Some((std::mem::take(&mut halving.suspect), std::mem::take(&mut halving.ends)))
    }

    /// An attempt to connect failed, or the connection ended by other means: that tells nothing of what was told.
    pub(crate) fn reset(&mut self) {
        *self = Search::default();
    }
}

impl Halving {
    fn step_to(&mut self, told: u32) -> u32 {
        (self.told, self.count) = (told, 0);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: Ending = Ending::ByPeer { lasted: false };
    const LATE: Ending = Ending::ByPeer { lasted: true };

    /// Connections to a peer that ends them as soon as it is told of one of `refused`, until one stays. `topics` are by
    /// place; where there is none, nothing is. Returns what was given up, and how many connections that took.
    fn run(topics: &[Option<&str>], refused: &[&str]) -> (Vec<String>, usize) {
        let (mut search, mut given_up) = (Search::default(), Vec::new());
        for connection in 1..1000 {
            let mut told = 0;
            let mut until = search.begin(topics.len() as u32, || ());
            let mut waited = false;
            let ended = loop {
                let step = topics[told as usize..until as usize].iter().flatten();
                let step: Vec<&str> = step.copied().filter(|topic| !given_up.contains(&(*topic).to_owned())).collect();
                step.iter().for_each(|topic| search.note(topic.as_bytes()));
                told = until;
                if step.iter().any(|topic| refused.contains(topic)) {
                    break true;
                }
                waited |= !search.is_empty_step();
                match search.step(topics.len() as u32) {
                    Some(next) => until = next,
                    None => break false,
                }
            };
            if !ended {
                assert!(!search.is_on());
                return (given_up, connection);
            }
            if let Some((topic, ends)) = search.end(if waited { LATE } else { EARLY }, true, 3) {
                assert_eq!(ends, 3);
                given_up.push(String::from_utf8(topic).expect("text"));
            }
        }
        panic!("it goes on for ever: {given_up:?}");
    }

    #[test]
    fn each_topic_over_which_connections_end_is_found_and_no_other() {
        let names: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        for size in [1, 2, 3, 7, 64, 1000] {
            for free in [0, 1, 3] {
                let topics: Vec<Option<&str>> = names[..size]
                    .iter()
                    .flat_map(|name| std::iter::repeat_n(None, free).chain([Some(name.as_str())]))
                    .collect();
                for refused in [vec![0], vec![size - 1], vec![size / 2], vec![0, size / 3, size - 1]] {
                    let mut refused: Vec<&str> = refused.iter().map(|place| names[*place].as_str()).collect();
                    refused.dedup();
                    let (given_up, connections) = run(&topics, &refused);
                    assert_eq!(given_up, refused, "{size} topics");
                    let halvings = topics.len().next_power_of_two().ilog2() as usize + 4;
                    assert!(connections <= 3 + refused.len() * halvings, "{connections} for {size} topics");
                }
            }
        }
    }

    #[test]
    fn a_peer_that_takes_all_is_told_all_at_once() {
        assert_eq!(run(&[Some("a"), Some("b")], &[]), (vec![], 1));
        let mut search = Search::default();
        for ending in [EARLY, LATE, EARLY, Ending::Other, EARLY, LATE] {
            assert_eq!(search.begin(7, || ()), 7);
            assert_eq!(search.end(ending, true, 1), None);
        }
        // A connection that lasted, while much was still to be read, is no proof.
        for _ in 0..2 {
            assert_eq!(search.begin(7, || ()), 7);
            assert_eq!(search.end(LATE, false, 1), None);
        }
        assert_eq!(search.begin(7, || ()), 0);
    }

    fn searching() -> Search {
        let mut search = Search::default();
        for _ in 0..2 {
            assert_eq!(search.begin(1, || ()), 1);
            assert_eq!(search.end(EARLY, true, 3), None);
        }
        assert_eq!(search.begin(1, || ()), 0);
        search
    }

    #[test]
    fn a_connection_that_ends_over_nothing_speaks_for_what_it_was_not_told() {
        let mut search = searching();
        assert_eq!(search.end(EARLY, true, 3), None);
        assert!(!search.is_on());
        assert_eq!(search.begin(1, || ()), 1);
    }

    #[test]
    fn only_ends_in_a_row_by_the_peer_give_a_topic_up() {
        for other in [Some(Ending::Other), None] {
            let mut search = searching();
            for _ in 0..2 {
                assert_eq!(search.step(1), Some(1));
                search.note(b"a");
                assert_eq!(search.end(LATE, true, 3), None);
                assert_eq!(search.begin(1, || ()), 0);
            }
            match other {
                Some(other) => assert_eq!(search.end(other, true, 3), None),
                None => search.reset(),
            }
            assert!(!search.is_on());
        }
        // Nor if another topic was told in between.
        let mut search = searching();
        for topic in [b"a", b"a", b"b", b"a", b"a"] {
            assert_eq!(search.step(1), Some(1));
            search.note(topic);
            assert_eq!(search.end(LATE, true, 3), None);
            assert_eq!(search.begin(1, || ()), 0);
        }
    }
}
