//! A new connection is told of all subscriptions in steps, as they may be very many, in the order of the places in
//! which they are kept.
//!
//! What changes between the steps is queued behind all of them, as if they had been one. So a step leaves out what was
//! subscribed to since the first one, and what is cancelled before its turn is told at once, before its cancellation.

use super::changes::ChangeKind;
use std::collections::HashSet;

/// How far that has come.
pub(crate) struct Replay {
    /// The place whose turn is next.
    next: u32,
    /// No place from here on was in use at the first step.
    end: u32,
    /// It is not to go on from here for now.
    pause: u32,
    /// Places between these with what was subscribed to since then.
    newer: HashSet<u32>,
    left_out: LeftOut,
    _still: Box<dyn Send>,
}

/// What the peer does not accept of what it is told.
#[derive(Clone, Copy, Default)]
pub(crate) struct LeftOut {
    pub(crate) count: u64,
    /// The octets of the longest command.
    pub(crate) longest: usize,
}

impl Replay {
    /// All below place `end` are to be told. As long as `still` is kept none of them moves.
    pub(crate) fn new(end: u32, still: impl Send + 'static) -> Replay {
        Replay {
            next: 0,
            end,
            pause: end,
            newer: HashSet::new(),
            left_out: LeftOut::default(),
            _still: Box::new(still),
        }
    }

    /// How many places there were at the first step.
    pub(crate) fn places(&self) -> u32 {
        self.end
    }

    /// Goes on up to that place for now.
    pub(crate) fn pause_at(&mut self, place: u32) {
        self.pause = place.min(self.end);
    }

    /// The place whose turn is next; `None` if all have had theirs, or it pauses.
    pub(crate) fn next(&self) -> Option<u32> {
        (self.next < self.pause).then_some(self.next)
    }

    /// Returns true if all places have had their turn.
    pub(crate) fn is_over(&self) -> bool {
        self.next >= self.end
    }

    /// It is the turn of that place. Returns true if what is there is to be told.
    pub(crate) fn takes(&mut self, place: u32) -> bool {
        self.next = place + 1;
        place < self.end && !self.newer.remove(&place)
    }

    /// A subscription is left out, which would have taken so many octets.
    pub(crate) fn leave_out(&mut self, octets: usize) {
        self.left_out.count += 1;
        self.left_out.longest = self.left_out.longest.max(octets);
    }

    pub(crate) fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// The subscription at a place changes. Returns true if it was there at the first step and will not be there when
    /// its turn comes.
    pub(super) fn note(&mut self, place: u32, kind: ChangeKind) -> bool {
        if !(self.next..self.end).contains(&place) {
            return false;
        }
        match kind {
            ChangeKind::First => {
                self.newer.insert(place);
                false
            }
            ChangeKind::Last => !self.newer.remove(&place),
            // It stays what it is: wanted or not.
            ChangeKind::Again | ChangeKind::Told => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::changes::Change;
    use super::super::outbox::{Outbox, Pool};
    use super::*;
    use std::collections::BTreeSet;

    fn command(topic: &[u8], kind: ChangeKind) -> Vec<u8> {
        let sign: &[u8] = if kind.subscribes() { b"+" } else { b"-" };
        [sign, topic, b";"].concat()
    }

    fn flush(outbox: &mut Outbox, wire: &mut Vec<u8>) {
        while let Some(mut batch) = outbox.begin() {
            while !batch.is_empty() {
                let written = batch.write(|slices| {
                    slices.iter().for_each(|slice| wire.extend_from_slice(slice));
                    Ok(slices.iter().map(|slice| slice.len()).sum())
                });
                written.expect("no error");
            }
            outbox.finish(batch, &mut Pool::new());
        }
    }

    /// A subscriber that tells a new peer what it wants, in steps, and an outbox that is given only what changes since
    /// the first of them.
    struct World {
        /// By place. One that is free is taken again before there is another one.
        wanted: Vec<Option<Vec<u8>>>,
        outbox: Outbox,
        since: Outbox,
    }

    impl World {
        fn place_of(&self, topic: &[u8]) -> Option<usize> {
            self.wanted.iter().position(|wanted| wanted.as_deref() == Some(topic))
        }

        /// Returns true if that was the last step.
        fn step(&mut self, places: usize, mut replay: Replay) -> bool {
            let mut commands = Vec::new();
            for _ in 0..places {
                let Some(place) = replay.next() else { break };
                match &self.wanted[place as usize] {
                    Some(topic) if replay.takes(place) => commands.extend(command(topic, ChangeKind::First)),
                    Some(_) => {}
                    None => assert!(replay.takes(place), "it is free"),
                }
            }
            let is_done = replay.next().is_none();
            self.outbox.push_replay(&commands, (!is_done).then_some(replay));
            is_done
        }

        fn change(&mut self, topic: &[u8], kind: ChangeKind) {
            let mut place = self.place_of(topic);
            match kind {
                ChangeKind::First => {
                    let free = self.wanted.iter().position(Option::is_none).unwrap_or(self.wanted.len());
                    self.wanted.resize(self.wanted.len().max(free + 1), None);
                    self.wanted[free] = Some(topic.to_vec());
                    place = Some(free);
                }
                ChangeKind::Last => self.wanted[place.expect("it is wanted")] = None,
                ChangeKind::Again | ChangeKind::Told => {}
            }
            let change = Change::new(command(topic, kind).into(), topic.len(), kind);
            if self.outbox.owes(place.map(|place| place as u32), kind) {
                let rest = self.outbox.take_replay();
                self.outbox.push_replay(&command(topic, ChangeKind::First), rest);
            }
            self.outbox.push_change(change.clone());
            self.since.push_change(change);
        }
    }

    #[test]
    fn what_changes_between_the_steps_comes_behind_all_of_them_as_if_they_were_one() {
        let mut state = 11u64;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % limit) as usize
        };
        let mut steps = 0;
        for _ in 0..3000 {
            let topics: Vec<Vec<u8>> = (b'a'..b'm').map(|letter| vec![letter; below(3)]).collect();
            let topics: Vec<Vec<u8>> = BTreeSet::from_iter(topics).into_iter().collect();
            let wanted: Vec<_> = topics.iter().map(|topic| (below(2) == 0).then(|| topic.clone())).collect();
            let mut before: Vec<Vec<u8>> =
                wanted.iter().flatten().map(|topic| command(topic, ChangeKind::First)).collect();
            let mut replay = Replay::new(wanted.len() as u32, ());
            let mut world = World { wanted, outbox: Outbox::default(), since: Outbox::default() };
            let (mut wire, mut since, mut pool) = (Vec::new(), Vec::new(), Pool::new());
            // What the peer was to be sent before it came back.
            let ahead = below(2) == 0;
            if ahead {
                world.outbox.push_body(b"ahead", &mut pool);
            }
            while !world.step(1 + below(4), replay) {
                steps += 1;
                for _ in 0..below(8) {
                    let topic = &topics[below(topics.len() as u64)];
                    let is_wanted = world.place_of(topic).is_some();
                    match (below(8), is_wanted) {
                        (0, _) => flush(&mut world.outbox, &mut wire),
                        (1, _) => {
                            world.outbox.push_body(b"between", &mut pool);
                            world.since.push_body(b"between", &mut pool);
                        }
                        (2, _) => world.change(topic, ChangeKind::Told),
                        (3, true) => world.change(topic, ChangeKind::Again),
                        (_, true) => world.change(topic, ChangeKind::Last),
                        (_, false) => world.change(topic, ChangeKind::First),
                    }
                }
                replay = world.outbox.take_replay().expect("some is left");
            }
            flush(&mut world.outbox, &mut wire);
            flush(&mut world.since, &mut since);
            if ahead {
                assert!(wire.starts_with(b"\0\x05ahead"));
                wire.drain(..7);
            }
            assert!(wire.ends_with(&since), "{wire:?} ends with {since:?}");
            wire.truncate(wire.len() - since.len());
            let mut told: Vec<Vec<u8>> = wire.split_inclusive(|octet| *octet == b';').map(<[u8]>::to_vec).collect();
            told.sort();
            before.sort();
            assert_eq!(told, before);
            assert!(world.outbox.is_idle() && world.outbox.waiting_bytes() == 0);
        }
        assert!(steps > 1000, "{steps}");
    }

    #[test]
    fn a_connection_that_is_lost_within_a_replay_leaves_nothing_of_it() {
        let mut outbox = Outbox::default();
        outbox.push_replay(b"+a;", Some(Replay::new(1, ())));
        outbox.push_body(b"message", &mut Pool::new());
        outbox.lose(Default::default(), &mut Pool::new());
        assert!(outbox.take_replay().is_none());
        let mut wire = Vec::new();
        flush(&mut outbox, &mut wire);
        assert_eq!(wire, b"\0\x07message");
    }

    #[test]
    fn a_reader_in_the_same_process_gets_what_is_before_the_end_of_a_replay_first() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
        outbox.push_body(b"ahead", &mut pool);
        outbox.push_replay(b"+a;", Some(Replay::new(1, ())));
        outbox.push_body(b"behind", &mut pool);
        let change = Change::new(b"+b;".to_vec().into(), 1, ChangeKind::First);
        outbox.push_change(change);
        let taken = outbox.take_all();
        assert_eq!((taken.messages, taken.bytes, taken.pieces.len()), (1, 10, 2));
        assert_eq!((outbox.waiting(), outbox.waiting_bytes()), (1, 11));
        let taken = outbox.take_all();
        assert_eq!((taken.messages, taken.bytes), (0, 0));
        outbox.end_replay();
        let taken = outbox.take_all();
        assert_eq!((taken.messages, taken.bytes), (1, 11));
        assert!(outbox.is_idle() && outbox.waiting_bytes() == 0);
    }
}
