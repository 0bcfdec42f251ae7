//! What an XPUB's application has not seen yet: changes of subscriptions, and the messages that XSUBs sent, in the
//! order in which they came from all peers.
//!
//! A subscription is applied when it is read, and the application may never receive, so changes cannot wait in the link
//! for it. Up to the mark each change has an entry of its own. From then on, until all of those are seen, a topic has
//! one entry, which shows its newest state. A topic that is as the application knows it has none, as it came and went,
//! or went and came again: an application that counts would count such a subscription twice. Where every subscription
//! is shown, so is this one. So the entries beyond the mark are bounded by the subscriptions that peers have and by
//! those that the application has seen.
//!
//! No step takes longer than its topic is long, however many there are: the gate is held meanwhile. So the newest
//! states of each peer's topics have a queue of their own, which goes with the peer, and no receive has to step over
//! what is left of it.

use super::credit::Marks;
use super::numbers::Numbers;
use crate::message::Message;
use crate::peer::PeerId;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, btree_map};
use std::hash::BuildHasher;
use std::ops::ControlFlow;

/// See the module.
#[derive(Default)]
pub(crate) struct Unseen {
    /// Messages, and the changes that have an entry each, by number. Entries of all sorts are shown in the order of
    /// their numbers.
    entries: BTreeMap<u64, Entry>,
    next: u64,
    /// The changes among these.
    each: Marks,
    /// The entries that show the newest state of a topic: of the topic as such, and of it for one peer.
    topics: HashMap<Option<PeerId>, Topics>,
    newest: usize,
    /// The number of the first entry of each of these.
    firsts: BTreeMap<u64, Option<PeerId>>,
    /// Those of peers that have left, which are shown no more.
    left: HashMap<PeerId, btree_map::IntoValues<u64, Newest>>,
    /// What the entries of all changes cost, those that are shown no more as well.
    octets: usize,
    hasher: RandomState,
}

/// What a change costs beside the octets of its topic, at most: its entry, and its place in the maps.
const ENTRY: usize = 200;

/// The newest states of topics.
#[derive(Default)]
struct Topics {
    /// By number.
    entries: BTreeMap<u64, Newest>,
    /// The numbers, by the hashes of the topics.
    numbers: Numbers,
    /// How long the topics are together.
    octets: usize,
}

/// Which changes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// The first subscription of a topic and the end of the last one.
    Edges,
    /// Every subscription, and the end of the last one: `verbose`.
    Subscriptions,
    /// Every subscription and every cancellation: `verboser`.
    All,
}

/// A subscription or a cancellation of one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    pub(crate) peer: PeerId,
    /// The peer has said it itself; a cancellation that follows from its loss names nobody.
    pub(crate) is_said: bool,
    pub(crate) topic: &'a [u8],
    pub(crate) subscribe: bool,
    /// No peer had the topic before, or none has it any more.
    pub(crate) is_edge: bool,
    /// This peer had the topic before.
    pub(crate) had: bool,
}

/// What the application sees next.
pub(crate) enum Seen {
    /// What a peer sent.
    Message(Message),
    /// A change of subscriptions.
    Change(Message),
}

/// Small, as there may be very many topics.
enum Entry {
    Message(Box<Message>),
    /// A topic, whether it is wanted, and the peer that said so, if one did.
    Each(Box<[u8]>, bool, Option<PeerId>),
}

/// The newest state of a topic.
struct Newest {
    topic: Box<[u8]>,
    /// Who changed it last, if that peer said so itself.
    by: Option<PeerId>,
    /// What the application takes the state for until it sees this.
    was: bool,
    is: bool,
}

impl Change<'_> {
    fn is_shown(&self, detail: Detail) -> bool {
        match detail {
            Detail::All => true,
            // As libzmq, a cancellation of what the peer never had is shown.
            Detail::Subscriptions => self.is_edge || self.subscribe || !self.had,
            Detail::Edges => self.is_edge || !(self.subscribe || self.had),
        }
    }
}

impl Unseen {
    /// How many changes wait to be shown.
    pub(crate) fn changes(&self) -> usize {
        self.each.messages + self.newest
    }

    /// How much memory the changes take, about.
    pub(crate) fn octets(&self) -> usize {
        self.octets
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.firsts.is_empty()
    }

    /// A message of a peer waits.
    pub(crate) fn push(&mut self, message: Message) {
        self.add(Entry::Message(Box::new(message)));
    }

    /// A subscription has changed. At a mark, and where memory is `short`, it is merged with what is unseen of its
    /// topic.
    pub(crate) fn change(&mut self, change: &Change<'_>, detail: Detail, marks: Marks, short: bool) {
        if short || self.newest > 0 || marks.are_reached_by(self.each) {
            return self.merge_change(change, detail);
        }
        if !change.is_shown(detail) {
            return;
        }
        let Change { peer, is_said, topic, subscribe, .. } = *change;
        self.each.messages += 1;
        self.each.bytes += 1 + topic.len();
        self.octets += ENTRY + topic.len();
        self.add(Entry::Each(topic.into(), subscribe, is_said.then_some(peer)));
    }

    /// Returns true if so much waits of this peer that no other topic of it can be added.
    pub(crate) fn is_crowded(&self, peer: PeerId, topic: &[u8], limit: Marks) -> bool {
        self.topics.get(&Some(peer)).is_some_and(|of_peer| {
            let many = limit.messages != 0 && of_peer.entries.len() >= limit.messages;
            (many || of_peer.octets + topic.len() > limit.bytes)
                && self.find(Some(peer), topic, self.hasher.hash_one(topic)).is_none()
        })
    }

    /// A peer is gone, and nobody is to hear what it still wanted. Returns how many changes that were.
    pub(crate) fn hide(&mut self, peer: PeerId) -> usize {
        let Some(topics) = self.topics.remove(&Some(peer)) else { return 0 };
        give_back(&mut self.topics);
        if let Some((first, _)) = topics.entries.first_key_value() {
            self.firsts.remove(first);
        }
        let hidden = topics.entries.len();
        self.newest -= hidden;
        self.left.insert(peer, topics.entries.into_values());
        hidden
    }

    /// Lets go what is hidden of a peer, as long as `goes_on` says so after each. Returns true if nothing is left.
    pub(crate) fn drop_hidden(&mut self, peer: PeerId, mut goes_on: impl FnMut() -> ControlFlow<()>) -> bool {
        let Some(hidden) = self.left.get_mut(&peer) else { return true };
        for newest in hidden {
            self.octets -= ENTRY + newest.topic.len();
            if goes_on().is_break() {
                return false;
            }
        }
        self.left.remove(&peer);
        give_back(&mut self.left);
        true
    }

    /// What is to be shown next.
    pub(crate) fn pop(&mut self) -> Option<Seen> {
        let first = self.entries.first_key_value().map(|(number, _)| *number);
        let newest = self.firsts.first_key_value().map(|(number, of)| (*number, *of));
        if let Some((number, of)) = newest.filter(|(number, _)| first.is_none_or(|first| *number < first)) {
            let Newest { topic, by, is, .. } = self.remove(of, number)?;
            return Some(Seen::Change(event_message(is, &topic, by)));
        }
        Some(match self.entries.pop_first()?.1 {
            Entry::Message(message) => Seen::Message(*message),
            Entry::Each(topic, subscribe, by) => {
                self.each.messages -= 1;
                self.each.bytes -= 1 + topic.len();
                self.octets -= ENTRY + topic.len();
                Seen::Change(event_message(subscribe, &topic, by))
            }
        })
    }

    /// All there is, to be let go part by part, each body by itself.
    pub(crate) fn into_parts(self) -> impl Iterator<Item = ()> {
        let entries = self.entries.into_values().flat_map(|entry| {
            let message = match entry {
                Entry::Message(message) => Some(message.into_frames()),
                Entry::Each(..) => None,
            };
            message.into_iter().flatten().map(drop).chain([()])
        });
        let newest = self.topics.into_values().flat_map(|topics| topics.entries.into_values());
        entries.chain(newest.chain(self.left.into_values().flatten()).map(drop))
    }

    fn add(&mut self, entry: Entry) {
        let number = self.number();
        self.entries.insert(number, entry);
    }

    /// The number of a new entry, which is shown behind all others.
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn merge_change(&mut self, change: &Change<'_>, detail: Detail) {
        let Change { peer, topic, subscribe, is_edge, had, .. } = *change;
        if detail == Detail::All {
            return self.merge(Some(peer), had, change, detail);
        }
        // A repeated subscription is not shown once its peer has taken it back.
        if !subscribe && self.topics.contains_key(&Some(peer)) {
            if let Some(number) = self.find(Some(peer), topic, self.hasher.hash_one(topic)) {
                self.remove(Some(peer), number);
            }
        }
        if is_edge {
            self.merge(None, !subscribe, change, detail);
        } else if subscribe && detail == Detail::Subscriptions {
            self.merge(Some(peer), had, change, detail);
        }
    }

    /// Takes a change into the entry of its topic; `was` is the state before it.
    fn merge(&mut self, of: Option<PeerId>, was: bool, change: &Change<'_>, detail: Detail) {
        let Change { peer, is_said, topic, subscribe, .. } = *change;
        let by = is_said.then_some(peer);
        let hash = self.hasher.hash_one(topic);
        if let Some(number) = self.find(of, topic, hash) {
            let newest = self.topics.get_mut(&of).and_then(|topics| topics.entries.get_mut(&number));
            let is_news_anyway = subscribe && detail != Detail::Edges;
            match newest {
                // What is again as the application knows it is nothing to it.
                Some(Newest { was, .. }) if *was == subscribe && !is_news_anyway => drop(self.remove(of, number)),
                Some(newest) => (newest.by, newest.is) = (by, subscribe),
                None => {}
            }
        } else if was || subscribe {
            let number = self.number();
            self.newest += 1;
            self.octets += ENTRY + topic.len();
            let topics = self.topics.entry(of).or_default();
            if topics.entries.is_empty() {
                self.firsts.insert(number, of);
            }
            topics.octets += topic.len();
            topics.numbers.insert(hash, number);
            topics.entries.insert(number, Newest { topic: topic.into(), by, was, is: subscribe });
        }
    }

    /// The number of the entry of a topic with that hash.
    fn find(&self, of: Option<PeerId>, topic: &[u8], hash: u64) -> Option<u64> {
        let Topics { entries, numbers, .. } = self.topics.get(&of)?;
        let is_of = |number: &u64| entries.get(number).is_some_and(|newest| *newest.topic == *topic);
        numbers.with_hash(hash).find(is_of)
    }

    /// Takes out the entry of a topic, which has that number.
    fn remove(&mut self, of: Option<PeerId>, number: u64) -> Option<Newest> {
        let topics = self.topics.get_mut(&of)?;
        let newest = topics.entries.remove(&number)?;
        topics.numbers.remove(self.hasher.hash_one(&*newest.topic), number);
        topics.octets -= newest.topic.len();
        let next = topics.entries.first_key_value().map(|(number, _)| *number);
        if self.firsts.remove(&number).is_some() {
            self.firsts.extend(next.map(|next| (next, of)));
        }
        if next.is_none() {
            self.topics.remove(&of);
            give_back(&mut self.topics);
        }
        self.newest -= 1;
        self.octets -= ENTRY + newest.topic.len();
        Some(newest)
    }
}

/// An empty map that was large keeps no memory.
fn give_back<K, V>(map: &mut HashMap<K, V>) {
    if map.is_empty() && map.capacity() > 1024 {
        *map = HashMap::new();
    }
}

/// A change as an XPUB shows it: one octet, 1 or 0, and the topic.
fn event_message(subscribe: bool, topic: &[u8], peer: Option<PeerId>) -> Message {
    let mut body = Vec::with_capacity(1 + topic.len());
    body.push(u8::from(subscribe));
    body.extend_from_slice(topic);
    let mut message = Message::from(body);
    message.set_peer(peer);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Key;
    use std::collections::{BTreeMap, BTreeSet};

    const MARKS: Marks = Marks { messages: 4, bytes: 0 };

    fn peer(index: u32) -> PeerId {
        PeerId::new(Key { index, generation: 0 })
    }

    /// A publisher: who wants what, what waits, and what the application knows by what it has seen.
    #[derive(Default)]
    struct World {
        wanted: BTreeMap<u8, BTreeSet<u32>>,
        unseen: Unseen,
        known: BTreeSet<(u8, Option<PeerId>)>,
    }

    impl World {
        fn change(&mut self, of: u32, topic: u8, subscribe: bool, detail: Detail) {
            let peers = self.wanted.entry(topic).or_default();
            let before = peers.len();
            let had = if subscribe { !peers.insert(of) } else { peers.remove(&of) };
            let is_edge = (before == 0) != peers.is_empty();
            let change = Change { peer: peer(of), is_said: true, topic: &[topic], subscribe, is_edge, had };
            // A cancellation of what the peer never had misleads those who see only edges, as in libzmq.
            if subscribe || had {
                self.unseen.change(&change, detail, MARKS, false);
            }
        }

        /// The application receives. By what is shown of each peer it knows who wants what, else what anybody wants.
        fn see(&mut self, detail: Detail) -> bool {
            let Some(Seen::Change(message)) = self.unseen.pop() else { return false };
            let [mark, topic] = *message.first() else { panic!("of another form") };
            let of = message.peer().filter(|_| detail == Detail::All);
            let is_news = match mark {
                1 => self.known.insert((topic, of)),
                _ => self.known.remove(&(topic, of)),
            };
            assert!(is_news || detail != Detail::Edges, "{mark} of {topic} is known");
            true
        }
    }

    #[test]
    fn whoever_sees_all_of_it_knows_what_is_wanted_whatever_was_merged() {
        let mut state = 7u64;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        for round in 0..600 {
            let detail = [Detail::Edges, Detail::Subscriptions, Detail::All][round % 3];
            let mut world = World::default();
            let reads = below(4);
            for _ in 0..below(300) {
                world.change(below(3) as u32, below(12) as u8, below(2) == 0, detail);
                if below(8) < reads {
                    world.see(detail);
                }
            }
            while world.see(detail) {}
            let of = |of: u32| (detail == Detail::All).then_some(peer(of));
            let wanted = world.wanted.iter().flat_map(|(topic, peers)| peers.iter().map(|peer| (*topic, of(*peer))));
            assert_eq!(world.known, wanted.collect(), "round {round}, {detail:?}");
            let Unseen { entries, each, topics, firsts, newest, octets, .. } = &world.unseen;
            assert_eq!((entries.len(), each.messages, each.bytes, *octets), (0, 0, 0, 0));
            assert_eq!((topics.len(), firsts.len(), *newest), (0, 0, 0));
        }
    }

    #[test]
    fn what_came_and_went_unseen_takes_no_room() {
        for detail in [Detail::Edges, Detail::Subscriptions, Detail::All] {
            let mut world = World::default();
            for topic in 0..4 {
                world.change(0, topic, true, detail);
            }
            for topic in 10..200 {
                world.change(1, topic, true, detail);
                world.change(2, topic, true, detail);
                world.change(1, topic, false, detail);
                world.change(2, topic, false, detail);
            }
            // Below the mark the application sees what the peer never had.
            for topic in [&b"never"[..], b"had"] {
                let change =
                    Change { peer: peer(0), is_said: true, topic, subscribe: false, is_edge: false, had: false };
                world.unseen.change(&change, detail, MARKS, false);
            }
            assert_eq!(world.unseen.changes(), 4, "{detail:?}");
        }
    }

    #[test]
    fn what_went_and_came_again_unseen_is_shown_again_only_where_every_subscription_is() {
        for (detail, shown) in [(Detail::Edges, 4), (Detail::Subscriptions, 5), (Detail::All, 5)] {
            let mut world = World::default();
            for topic in 0..4 {
                world.change(0, topic, true, detail);
            }
            world.change(0, 0, false, detail);
            world.change(0, 0, true, detail);
            let bodies = std::iter::from_fn(|| match world.unseen.pop()? {
                Seen::Change(message) | Seen::Message(message) => Some(message.first().to_vec()),
            });
            let bodies: Vec<_> = bodies.collect();
            assert_eq!(bodies.len(), shown, "{detail:?}");
            assert_eq!(bodies[4..], vec![[1, 0]; shown - 4], "{detail:?}");
            assert!(world.unseen.is_empty() && world.unseen.octets() == 0, "{detail:?}");
        }
    }

    #[test]
    fn requests_of_one_peer_are_bounded_and_go_with_it() {
        let mut unseen = Unseen::default();
        let limit = Marks { messages: 10, bytes: 1 << 20 };
        let request = |of: u32, topic: &[u8], unseen: &mut Unseen| {
            let change = Change { peer: peer(of), is_said: true, topic, subscribe: true, is_edge: true, had: true };
            let refused = unseen.is_crowded(peer(of), topic, limit);
            if !refused {
                unseen.change(&change, Detail::All, MARKS, false);
            }
            refused
        };
        let refused = (0..100u8).filter(|topic| request(1, &[*topic], &mut unseen)).count();
        assert_eq!(refused, 100 - MARKS.messages - limit.messages);
        assert!(!request(1, &[5], &mut unseen) && !request(2, &[5], &mut unseen));
        assert_eq!(unseen.hide(peer(1)), limit.messages);
        assert_eq!(unseen.changes(), MARKS.messages + 1);
        while !unseen.drop_hidden(peer(1), || ControlFlow::Break(())) {}
        assert_eq!(unseen.octets(), (MARKS.messages + 1) * (ENTRY + 1));
    }

    #[test]
    fn what_is_hidden_is_not_shown_however_much_of_it_is_let_go_by_then() {
        for dropped in 0..6 {
            let mut world = World::default();
            let mut left = dropped;
            for topic in 0..4 {
                world.change(0, topic, true, Detail::All);
            }
            for topic in 4..9 {
                world.change(1, topic, true, Detail::All);
            }
            assert_eq!(world.unseen.hide(peer(1)), 5);
            let goes_on = || {
                left -= 1;
                if left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            let done = dropped > 0 && world.unseen.drop_hidden(peer(1), goes_on);
            assert_eq!((done, world.unseen.is_empty(), world.unseen.changes()), (false, false, 4));
            let seen: Vec<_> = std::iter::from_fn(|| world.unseen.pop()).collect();
            let shown = seen.iter().filter(|seen| matches!(seen, Seen::Change(_))).count();
            assert_eq!((shown, seen.len()), (4, 4));
            assert!(world.unseen.is_empty() && world.unseen.drop_hidden(peer(1), || ControlFlow::Continue(())));
            let Unseen { entries, left, octets, .. } = &world.unseen;
            assert_eq!((entries.len(), left.len(), *octets), (0, 0, 0));
        }
    }

    #[test]
    fn what_is_next_is_found_at_once_however_much_is_hidden_before_it() {
        let mut world = World::default();
        for topic in 0..4 {
            world.change(0, topic, true, Detail::All);
        }
        for topic in 4..200 {
            world.change(1, topic, true, Detail::All);
            world.change(2, topic, true, Detail::All);
        }
        for leaver in [1, 2] {
            world.unseen.hide(peer(leaver));
        }
        world.change(3, 200, true, Detail::All);
        for topic in [0, 1, 2, 3, 200] {
            let Some(Seen::Change(message)) = world.unseen.pop() else { panic!("{topic} is next") };
            assert_eq!(message.first(), [1, topic]);
        }
        assert!(world.unseen.pop().is_none(), "and nothing else is shown");
    }

    /// A table that is made anew, with all that is in it, keeps whoever waits for the gate waiting meanwhile.
    #[test]
    fn no_change_takes_long_however_many_wait() {
        const CHANGES: usize = 130_000;
        let mut unseen = Unseen::default();
        let (mut before, mut most) = (Vec::new(), 0);
        for number in 0..CHANGES {
            let topic = &number.to_le_bytes()[..];
            let change = Change { peer: peer(1), is_said: true, topic, subscribe: true, is_edge: true, had: false };
            unseen.change(&change, Detail::Edges, MARKS, false);
            let Some(topics) = unseen.topics.get(&None) else { continue };
            let after: Vec<(usize, usize)> = topics.numbers.tables().collect();
            let moved = if before.len() == after.len() {
                let both = before.iter().zip(&after);
                both.map(|((len, room), (_, now))| if room == now { 0 } else { *len }).sum()
            } else {
                topics.entries.len()
            };
            most = most.max(moved);
            before = after;
        }
        assert_eq!(unseen.changes(), CHANGES);
        assert!((1..=CHANGES / 50).contains(&most), "{most} of {CHANGES} numbers are moved at once");
    }
}
