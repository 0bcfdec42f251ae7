//! Changes of subscriptions that wait to be sent upstream, with no message among them.
//!
//! A subscription that was not sent yet and its cancellation take each other out. So a topic that is subscribed to and
//! cancelled again and again costs nothing while the publisher does not read. The reverse pair stays, because a
//! publisher that keeps last values answers a new subscription with one.

use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::BuildHasher;

/// One change of a subscription, in wire form.
#[derive(Clone)]
pub(crate) struct Change {
    command: Bytes,
    /// How many octets at its end are the topic.
    topic: usize,
    kind: ChangeKind,
}

/// What a change means to a publisher, which knows each topic of a peer once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    /// A subscription to a topic that the publisher does not know, or is told to forget before it gets here.
    First,
    /// A further subscription to a topic that it knows.
    Again,
    /// A cancellation of a topic that it shall not know any more.
    Last,
    /// A cancellation that is told (`verbose_unsubscribe`) although the topic is still wanted, or never was.
    Told,
}

impl Change {
    pub(crate) fn new(command: Bytes, topic: usize, kind: ChangeKind) -> Change {
        Change { topic: topic.min(command.len()), command, kind }
    }

    fn topic(&self) -> &[u8] {
        self.command.get(self.command.len() - self.topic..).unwrap_or_default()
    }
}

impl ChangeKind {
    pub(crate) fn subscribes(self) -> bool {
        matches!(self, ChangeKind::First | ChangeKind::Again)
    }
}

/// Changes in the order in which they go out.
#[derive(Default)]
pub(crate) struct Changes {
    /// `None` where a change was taken out. Where messages come between changes there is one as a rule.
    list: SmallVec<[Option<Change>; 1]>,
    /// The octets and number of those that are left.
    bytes: usize,
    left: usize,
    /// Where the changes of each topic are that begin with an unsent [`First`](ChangeKind::First), by the topic's hash.
    /// Made with the first cancellation, as most programs only subscribe.
    unsent: Option<Unsent>,
}

/// What changes take while they wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Their octets on the wire.
    pub(crate) bytes: usize,
    /// What they take in memory beside these, about.
    pub(crate) beside: usize,
}

impl Load {
    pub(crate) fn total(self) -> usize {
        self.bytes + self.beside
    }

    pub(crate) fn add(&mut self, other: Load) {
        self.bytes += other.bytes;
        self.beside += other.beside;
    }

    pub(crate) fn subtract(&mut self, other: Load) {
        self.bytes -= other.bytes.min(self.bytes);
        self.beside -= other.beside.min(self.beside);
    }
}

impl Changes {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn load(&self) -> Load {
        let places = self.unsent.as_ref().map_or(0, |unsent| unsent.0.len());
        Load { bytes: self.bytes, beside: size_of::<Changes>() + self.list.len() * CHANGE + places * PLACE }
    }

    /// Adds a change behind the others, or takes out what it takes back.
    pub(crate) fn push(&mut self, change: Change) {
        if change.kind == ChangeKind::Last && self.take_back(change.topic()) {
            return;
        }
        if let Some(unsent) = &mut self.unsent {
            unsent.note(&change, self.list.len());
        }
        self.bytes += change.command.len();
        self.left += 1;
        self.list.push(Some(change));
    }

    /// Takes the unsent subscription to a topic out, with all that followed it for this topic; returns whether there is
    /// one.
    fn take_back(&mut self, topic: &[u8]) -> bool {
        let unsent = match &mut self.unsent {
            Some(unsent) => unsent,
            none => none.insert(Unsent::of(&self.list)),
        };
        let places = unsent.take(topic);
        let of_topic = |place: &usize| {
            let change = self.list.get(*place).and_then(Option::as_ref);
            change.is_some_and(|change| change.topic() == topic)
        };
        // Another topic may have the same hash: then both stay, as they do no harm.
        if places.is_empty() || !places.iter().all(of_topic) {
            return false;
        }
        for place in places {
            if let Some(change) = self.list.get_mut(place).and_then(Option::take) {
                self.bytes -= change.command.len();
                self.left -= 1;
            }
        }
        while self.list.last().is_some_and(Option::is_none) {
            self.list.pop();
        }
        self.close_gaps();
        true
    }

    /// Gaps cost memory as well: they go once there are more of them than changes.
    fn close_gaps(&mut self) {
        if self.list.len() > 2 * self.left + FEW {
            self.list.retain(|change| change.is_some());
            self.unsent = None;
        }
    }

    /// All changes, in wire form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(self.bytes);
        self.list.iter().flatten().for_each(|change| octets.extend_from_slice(&change.command));
        octets
    }

    /// The fewest changes that leave a publisher with the same subscriptions as those of `runs`, one after the other. A
    /// topic that was cancelled and subscribed to again stays so.
    pub(crate) fn condense(runs: impl Iterator<Item = Changes>) -> Changes {
        let all: Vec<Change> = runs.flat_map(|run| run.list).flatten().collect();
        let mut ends: HashMap<&[u8], End> = HashMap::new();
        for (place, change) in all.iter().enumerate() {
            let end = ends.entry(change.topic()).or_insert(End { first: place, cancelled: None, last: place });
            end.last = place;
            if !change.kind.subscribes() {
                end.cancelled = Some(place);
            }
        }
        let mut kept = vec![false; all.len()];
        for end in ends.values() {
            let [first, last] = [end.first, end.last].map(|place| all.get(place).map(|change| change.kind));
            let unknown = first == Some(ChangeKind::First);
            let subscribed = last.is_some_and(ChangeKind::subscribes);
            let before = end.cancelled.filter(|_| subscribed && !unknown);
            let place = Some(end.last).filter(|_| subscribed || !unknown);
            for place in before.into_iter().chain(place) {
                kept[place] = true;
            }
        }
        drop(ends);
        let mut condensed = Changes::default();
        for (change, kept) in all.into_iter().zip(kept) {
            if kept {
                condensed.bytes += change.command.len();
                condensed.left += 1;
                condensed.list.push(Some(change));
            }
        }
        condensed
    }
}

/// Where changes are that begin with an unsent subscription, by the hash of their topic.
#[derive(Default)]
struct Unsent(HashMap<u64, SmallVec<[usize; 2]>>);

impl Unsent {
    fn of(list: &[Option<Change>]) -> Unsent {
        let mut unsent = Unsent::default();
        for (place, change) in list.iter().enumerate() {
            change.iter().for_each(|change| unsent.note(change, place));
        }
        unsent
    }

    fn note(&mut self, change: &Change, place: usize) {
        let hash = self.0.hasher().hash_one(change.topic());
        if change.kind == ChangeKind::First {
            self.0.insert(hash, SmallVec::from_slice(&[place]));
        } else if let Some(places) = self.0.get_mut(&hash) {
            places.push(place);
        }
    }

    fn take(&mut self, topic: &[u8]) -> SmallVec<[usize; 2]> {
        let hash = self.0.hasher().hash_one(topic);
        self.0.remove(&hash).unwrap_or_default()
    }
}

/// Where the changes of one topic stand.
struct End {
    first: usize,
    /// The last cancellation.
    cancelled: Option<usize>,
    last: usize,
}

/// So few gaps are not worth closing.
const FEW: usize = 64;
/// What a change takes beside its octets: its place in a list that grows by doubling, and what the allocator adds to a
/// text.
const CHANGE: usize = 2 * size_of::<Option<Change>>() + 16;
/// What is known of where the changes of a topic are.
const PLACE: usize = 2 * size_of::<(u64, SmallVec<[usize; 2]>)>();

#[cfg(test)]
mod tests {
    use super::*;
    use ChangeKind::{Again, First, Last, Told};

    fn change(kind: ChangeKind, topic: &str) -> Change {
        let sign = if matches!(kind, First | Again) { "+" } else { "-" };
        Change::new(format!("{sign}{topic}").into(), topic.len(), kind)
    }

    fn changes(list: &[(ChangeKind, &str)]) -> Changes {
        let mut changes = Changes::default();
        list.iter().for_each(|(kind, topic)| changes.push(change(*kind, topic)));
        changes
    }

    fn encoded(list: &[(ChangeKind, &str)]) -> String {
        let changes = changes(list);
        let octets = changes.encode();
        assert_eq!(octets.len(), changes.bytes());
        String::from_utf8(octets).expect("text")
    }

    #[test]
    fn an_unsent_subscription_and_its_cancellation_take_each_other_out() {
        assert_eq!(encoded(&[(First, "a"), (Last, "a")]), "");
        assert_eq!(encoded(&[(First, "a"), (First, "b"), (Again, "a"), (Last, "a")]), "+b");
        assert_eq!(encoded(&[(First, ""), (First, "b"), (Last, "b"), (First, "b"), (Last, "")]), "+b");
        assert_eq!(encoded(&[(First, "a"), (Last, "a"), (First, "a"), (Last, "a"), (First, "a")]), "+a");
    }

    #[test]
    fn a_topic_that_the_publisher_knows_is_cancelled_and_may_come_back() {
        assert_eq!(encoded(&[(Last, "a"), (First, "a")]), "-a+a");
        assert_eq!(encoded(&[(Last, "a"), (First, "a"), (Last, "a"), (First, "a")]), "-a+a");
        assert_eq!(encoded(&[(Again, "a"), (Last, "a")]), "+a-a");
        assert_eq!(encoded(&[(First, "a"), (Told, "a"), (Told, "b")]), "+a-a-b");
    }

    #[test]
    fn many_topics_are_taken_back_in_any_order() {
        let topics: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
        let mut all = Changes::default();
        topics.iter().for_each(|topic| all.push(change(First, topic)));
        topics.iter().for_each(|topic| all.push(change(Last, topic)));
        assert_eq!((all.left, all.bytes(), all.list.len()), (0, 0, 0));
    }

    #[test]
    fn toggling_leaves_nothing_behind() {
        let mut toggled = changes(&[(First, "kept")]);
        for round in 0..10_000 {
            let topic = format!("topic {}", round % 7);
            toggled.push(change(First, &topic));
            toggled.push(change(Last, &topic));
            assert!(toggled.list.len() <= 2 * toggled.left + FEW + 1);
        }
        assert_eq!(toggled.encode(), b"+kept");
    }

    #[test]
    fn condensed_runs_leave_the_same_subscriptions() {
        let runs = [
            changes(&[(First, "new"), (First, "gone"), (Again, "known"), (Last, "old")]),
            changes(&[(Last, "gone"), (First, "old"), (Told, "nobody's"), (Told, "nobody's")]),
            changes(&[(Again, "new"), (Again, "known")]),
        ];
        let condensed = Changes::condense(runs.into_iter());
        assert_eq!(String::from_utf8(condensed.encode()).expect("text"), "-old+old-nobody's+new+known");
        assert_eq!((condensed.left, condensed.bytes()), (5, condensed.encode().len()));
    }
}
