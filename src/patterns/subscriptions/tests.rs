//! Both sets against plain models, on topics over so small an alphabet that they share, split and rejoin nodes all the
//! time.

use super::prefix_set::Count;
use super::{Cancelled, PrefixSet, Removed, Subscribed, Subscriptions};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

#[cfg(feature = "properties")]
mod properties;

type Model = BTreeMap<Vec<u8>, BTreeSet<u32>>;

#[derive(Clone, Debug)]
enum Step {
    Subscribe(u32, Vec<u8>),
    Cancel(u32, Vec<u8>),
    Remove(u32),
    RemoveVisitingAll(u32),
    Publish(Vec<u8>),
}

fn model_matches(model: &Model, topic: &[u8]) -> Vec<u32> {
    let matching = model.iter().filter(|(prefix, _)| topic.starts_with(prefix));
    let peers: BTreeSet<u32> = matching.flat_map(|(_, peers)| peers.iter().copied()).collect();
    peers.into_iter().collect()
}

fn model_topics(model: &Model, peer: u32) -> Vec<Vec<u8>> {
    model.iter().filter(|(_, peers)| peers.contains(&peer)).map(|(topic, _)| topic.clone()).collect()
}

fn model_remove(model: &mut Model, peer: u32) -> Vec<(Vec<u8>, bool)> {
    let mut visited = Vec::new();
    for (topic, peers) in &mut *model {
        if peers.remove(&peer) {
            visited.push((topic.clone(), peers.is_empty()));
        }
    }
    model.retain(|_, peers| !peers.is_empty());
    visited
}

fn matches(subscriptions: &mut Subscriptions, topic: &[u8]) -> Vec<u32> {
    let mut out = vec![77];
    subscriptions.matches(topic, &mut out);
    let len = out.len();
    out.sort_unstable();
    out.dedup();
    assert_eq!(out.len(), len, "each peer once");
    out
}

fn topics_of(subscriptions: &Subscriptions, peer: u32) -> Vec<Vec<u8>> {
    let mut topics = Vec::new();
    subscriptions.topics_of(peer, |topic| topics.push(topic.to_vec()));
    topics.sort();
    topics
}

fn run(subscriptions: &mut Subscriptions, model: &mut Model, step: Step) {
    match step {
        Step::Subscribe(peer, topic) => {
            let peers = model.entry(topic.clone()).or_default();
            let expected = Subscribed { first: peers.is_empty(), new: peers.insert(peer) };
            assert_eq!(subscriptions.subscribe(peer, &topic), expected);
        }
        Step::Cancel(peer, topic) => {
            let removed = model.get_mut(&topic).is_some_and(|peers| peers.remove(&peer));
            let last = removed && model[&topic].is_empty();
            if last {
                model.remove(&topic);
            }
            assert_eq!(subscriptions.cancel(peer, &topic), Cancelled { last, removed });
        }
        Step::Remove(peer) => {
            let mut emptied = Vec::new();
            subscriptions.remove_peer(peer, |topic| emptied.push(topic.to_vec()));
            emptied.sort();
            let expected = model_remove(model, peer).into_iter().filter_map(|(topic, last)| last.then_some(topic));
            assert!(emptied.into_iter().eq(expected));
        }
        Step::RemoveVisitingAll(peer) => {
            let mut visited = Vec::new();
            subscriptions.remove_peer_while(peer, |topic, last| {
                visited.push((topic.to_vec(), last));
                ControlFlow::Continue(())
            });
            visited.sort();
            assert_eq!(visited, model_remove(model, peer));
        }
        Step::Publish(topic) => {
            let expected = model_matches(model, &topic);
            assert_eq!(subscriptions.has_match(&topic), !expected.is_empty());
            assert_eq!(matches(subscriptions, &topic), expected);
        }
    }
}

fn expect_same(subscriptions: &mut Subscriptions, model: &Model) {
    subscriptions.tree.expect_sound();
    assert_eq!(subscriptions.len(), model.len());
    assert_eq!(subscriptions.is_empty(), model.is_empty());
    let everyone: BTreeSet<u32> = model.values().flatten().copied().collect();
    assert_eq!(subscriptions.peers(), everyone.len());
    for peer in 0..7 {
        let expected = model_topics(model, peer);
        assert_eq!(subscriptions.count_of(peer), expected.len());
        assert_eq!(subscriptions.bytes_of(peer), expected.iter().map(Vec::len).sum::<usize>());
        assert_eq!(topics_of(subscriptions, peer), expected);
    }
    for topic in model.keys() {
        let longer = [topic, &b"ab"[..]].concat();
        assert_eq!(matches(subscriptions, topic), model_matches(model, topic));
        assert_eq!(matches(subscriptions, &longer), model_matches(model, &longer));
    }
}

/// Numbers that look random and are the same on every run.
fn scattered(seed: u64) -> impl FnMut(u32) -> u32 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % below
    }
}

#[test]
fn many_topics_of_many_peers_stay_right_while_the_arena_grows_and_is_compacted() {
    let (mut subscriptions, mut model, mut below) = (Subscriptions::new(), Model::new(), scattered(1));
    for wave in 0..6 {
        for _ in 0..3000 {
            let topic = format!("sensor/{}/temp", below(2000)).into_bytes();
            run(&mut subscriptions, &mut model, Step::Subscribe(below(6), topic));
        }
        expect_same(&mut subscriptions, &model);
        for peer in 0..6 {
            if peer != wave {
                run(&mut subscriptions, &mut model, Step::RemoveVisitingAll(peer));
            }
        }
        let kept: Vec<_> = model.keys().cloned().collect();
        for topic in kept.into_iter().filter(|_| below(10) > 0) {
            run(&mut subscriptions, &mut model, Step::Cancel(wave, topic));
        }
        expect_same(&mut subscriptions, &model);
    }
}

#[test]
fn topics_that_come_while_memory_is_given_back_stay_right() {
    let (mut subscriptions, mut model, mut below) = (Subscriptions::new(), Model::new(), scattered(5));
    let topic = |number: u32| format!("{}/sensor/{number}", number % 7).into_bytes();
    for number in 0..6000 {
        run(&mut subscriptions, &mut model, Step::Subscribe(below(4), topic(number)));
    }
    // Nine of ten steps take something away, so that few are left in the end, and the others come in between.
    for step in 0..9000 {
        let number = if below(10) == 0 { 10_000 + below(3000) } else { below(6000) };
        let peer = below(4);
        if number < 6000 {
            (0..4).for_each(|peer| run(&mut subscriptions, &mut model, Step::Cancel(peer, topic(number))));
        } else {
            run(&mut subscriptions, &mut model, Step::Subscribe(peer, topic(number)));
        }
        if step % 97 == 0 {
            subscriptions.tree.expect_sound();
        }
    }
    expect_same(&mut subscriptions, &model);
}

/// One removal among very many must take no longer than one among few: a lock is held meanwhile.
#[test]
fn no_removal_moves_more_than_a_few_nodes() {
    let topic = |number: usize| format!("sensor/{number}/temp").into_bytes();
    let mut set = PrefixSet::new();
    (0..100_000).for_each(|number| assert!(set.insert(&topic(number))));
    let (mut most, mut all) = (0, 0);
    for number in 0..100_000 {
        let node = set.tree.find(&topic(number)).expect("it is there");
        *set.tree.value_mut(node) = Count::default();
        set.tree.clear(node);
        let mut moved = 0;
        set.tree.compact(|_, _| moved += 1);
        (most, all) = (most.max(moved), all + moved);
    }
    set.tree.expect_sound();
    assert!(all > 10_000, "{all} nodes are moved");
    assert!(most <= 64, "{most} nodes are moved at once");
}

/// libzmq once crashed under this (its issue 2942).
#[test]
fn eight_peers_that_subscribe_and_cancel_at_random_two_hundred_thousand_times_agree_with_the_model() {
    let (mut subscriptions, mut model, mut below) = (Subscriptions::new(), Model::new(), scattered(3));
    for step in 0..400_000 {
        let (peer, topic) = (below(8), format!("{}/{}", below(40), below(1000)).into_bytes());
        if step % 4096 == 0 {
            run(&mut subscriptions, &mut model, Step::Publish(topic.clone()));
        }
        let step = if step % 2 == 0 { Step::Subscribe(peer, topic) } else { Step::Cancel(peer, topic) };
        run(&mut subscriptions, &mut model, step);
    }
    subscriptions.tree.expect_sound();
    for peer in 0..8 {
        assert_eq!(topics_of(&subscriptions, peer), model_topics(&model, peer));
        run(&mut subscriptions, &mut model, Step::Remove(peer));
    }
    assert!(subscriptions.is_empty());
}

#[test]
fn a_prefix_of_ten_thousand_peers_keeps_them_apart() {
    let (mut subscriptions, mut below) = (Subscriptions::new(), scattered(2));
    let mut model: BTreeSet<u32> = BTreeSet::new();
    for bound in [10_000_u32, 10_000, 300] {
        for _ in 0..bound * 2 {
            let peer = below(bound);
            assert_eq!(subscriptions.subscribe(peer, b"x").new, model.insert(peer));
            subscriptions.subscribe(peer, b"");
        }
        assert!(matches(&mut subscriptions, b"xy").iter().eq(&model));
        let leaving: Vec<u32> = model.iter().copied().filter(|_| below(50) > 0).collect();
        for peer in leaving {
            assert!(model.remove(&peer));
            if below(2) == 0 {
                assert!(subscriptions.cancel(peer, b"x").removed);
                assert!(subscriptions.cancel(peer, b"").removed);
            } else {
                subscriptions.remove_peer(peer, |_| ());
            }
        }
        assert!(matches(&mut subscriptions, b"xy").iter().eq(&model));
        assert_eq!(subscriptions.peers(), model.len());
    }
}

#[test]
fn the_round_that_marks_peers_may_wrap() {
    let mut subscriptions = Subscriptions::new();
    for peer in 0..3 {
        subscriptions.subscribe(peer, b"a");
        subscriptions.subscribe(peer, b"ab");
    }
    subscriptions.subscribe(3, b"ab");
    subscriptions.subscribe(4, b"c");
    // The second call comes to the same round as the first, four thousand million rounds later.
    for _ in 0..2 {
        assert_eq!(matches(&mut subscriptions, b"abc"), [0, 1, 2, 3]);
        assert_eq!(subscriptions.round, 1);
        subscriptions.round = u32::MAX;
    }
}

#[test]
fn subscribing_twice_is_undone_by_one_cancel() {
    let mut subscriptions = Subscriptions::new();
    assert_eq!(subscriptions.subscribe(3, b"news"), Subscribed { first: true, new: true });
    assert_eq!(subscriptions.subscribe(3, b"news"), Subscribed { first: false, new: false });
    assert_eq!(subscriptions.cancel(3, b"news"), Cancelled { last: true, removed: true });
    assert_eq!(subscriptions.cancel(3, b"news"), Cancelled { last: false, removed: false });
    assert!(!subscriptions.has_match(b"news"));
}

#[test]
fn prefixes_keep_their_places_while_that_is_asked_for() {
    let topic = |number: usize| number.to_string().into_bytes();
    let mut set = PrefixSet::new();
    (0..10_000).for_each(|number| assert!(set.insert(&topic(number))));
    assert_eq!(set.place_of(&topic(9999)), None);
    let still = set.hold_still();
    let places: Vec<_> = (0..10_000).map(|number| set.place_of(&topic(number)).expect("it is there")).collect();
    let (kept, removed): (Vec<_>, Vec<_>) = (0..10_000).partition(|number| number % 10 == 9);
    removed.iter().for_each(|number| assert_eq!(set.remove(&topic(*number)), Removed::Last));
    kept.iter().for_each(|number| assert_eq!(set.place_of(&topic(*number)), Some(places[*number])));
    let mut found = Vec::new();
    set.for_each_from(places[4999], |place, topic| {
        found.extend(topic.map(|topic| (place, topic.to_vec())));
        ControlFlow::Continue(())
    });
    let behind = kept.iter().filter(|number| places[**number] >= places[4999]);
    let mut expected: Vec<_> = behind.map(|number| (places[*number], topic(*number))).collect();
    expected.sort();
    assert_eq!(found, expected);
    drop(still);
    let before = set.places();
    kept[..500].iter().for_each(|number| assert_eq!(set.remove(&topic(*number)), Removed::Last));
    assert!(set.places() < before / 4, "memory is given back again");
    set.tree.expect_sound();
}

#[test]
fn a_long_topic_split_at_every_place_comes_back_to_few_nodes() {
    // Each new topic branches off just behind the place where the one before did, and then replaces it.
    let mut set = PrefixSet::new();
    let mut topic = vec![b'a'; 20_000];
    set.insert(&topic);
    for place in 4000..5000 {
        let old = topic.clone();
        topic[place] = b'b';
        set.insert(&topic);
        assert_eq!(set.remove(&old), Removed::Last);
    }
    set.tree.expect_sound();
    assert!(set.tree.used() <= 2 * topic.len() as u32 / 4096 + 2, "{} nodes", set.tree.used());
}

#[test]
fn a_peer_that_is_being_removed_matches_nothing_while_it_still_has_prefixes() {
    let mut subscriptions = Subscriptions::new();
    let mut out = Vec::new();
    for peer in [0, 1] {
        for topic in [&b"a"[..], b"ab", b"b"] {
            subscriptions.subscribe(peer, topic);
        }
    }
    assert!(subscriptions.begin_removal(0) && !subscriptions.begin_removal(0));
    let mut taken = Vec::new();
    assert!(!subscriptions.remove_peer_while(0, |topic, last| {
        taken.push((topic.to_vec(), last));
        ControlFlow::Break(())
    }));
    assert_eq!(taken, [(b"b".to_vec(), false)]);
    assert_eq!((subscriptions.count_of(0), subscriptions.peers()), (2, 1));
    for topic in [&b"abc"[..], b"b"] {
        subscriptions.matches(topic, &mut out);
        assert_eq!(out, [1]);
    }
    subscriptions.remove_peer(1, |_| ());
    subscriptions.matches(b"abc", &mut out);
    assert!(out.is_empty() && !subscriptions.has_match(b"abc") && subscriptions.peers() == 0);
    assert!(subscriptions.remove_peer_while(0, |_, _| ControlFlow::Continue(())));
    subscriptions.end_removal(0);
    subscriptions.subscribe(0, b"a");
    subscriptions.matches(b"abc", &mut out);
    assert_eq!((&out[..], subscriptions.peers()), (&[0][..], 1));
}
