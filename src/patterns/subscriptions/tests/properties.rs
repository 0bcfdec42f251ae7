//! What holds for any topics and steps. `tests/model` runs it.

use super::*;
use proptest::prelude::*;

/// Short ones of two letters; runs longer than one label with something short behind; wide fan-out at one place.
fn topics() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::collection::vec(b'a'..=b'b', 0..7),
        1 => (prop::sample::select(vec![20_usize, 23, 4095, 4096, 4097, 8192, 8200]), prop::collection::vec(b'a'..=b'b', 0..3))
            .prop_map(|(run, tail)| [vec![b'a'; run], tail].concat()),
        2 => (any::<u8>(), prop::collection::vec(b'a'..=b'b', 0..2)).prop_map(|(wide, tail)| [vec![b'b', wide], tail].concat()),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..6_u32, topics()).prop_map(|(peer, topic)| Step::Subscribe(peer, topic)),
        5 => (0..6_u32, topics()).prop_map(|(peer, topic)| Step::Cancel(peer, topic)),
        1 => (0..6_u32).prop_map(Step::Remove),
        1 => (0..6_u32).prop_map(Step::RemoveVisitingAll),
        4 => topics().prop_map(Step::Publish),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #[test]
    fn subscriptions_do_what_a_map_of_sets_does(steps in steps()) {
        let (mut subscriptions, mut model) = (Subscriptions::new(), Model::new());
        for (number, step) in steps.into_iter().enumerate() {
            run(&mut subscriptions, &mut model, step);
            if number % 16 == 0 {
                expect_same(&mut subscriptions, &model);
            }
        }
        expect_same(&mut subscriptions, &model);
    }

    #[test]
    fn a_prefix_set_does_what_a_map_of_counts_does(
        steps in prop::collection::vec((any::<bool>(), topics()), 0..300),
        published in prop::collection::vec(topics(), 20),
    ) {
        let (mut set, mut model) = (PrefixSet::new(), BTreeMap::<Vec<u8>, u32>::new());
        for (insert, topic) in steps {
            if insert {
                let count = model.entry(topic.clone()).or_default();
                *count += 1;
                prop_assert_eq!(set.insert(&topic), *count == 1);
            } else {
                let expected = match model.get_mut(&topic) {
                    None => Removed::Unknown,
                    Some(1) => Removed::Last,
                    Some(count) => {
                        *count -= 1;
                        Removed::Still
                    }
                };
                if expected == Removed::Last {
                    model.remove(&topic);
                }
                prop_assert_eq!(set.remove(&topic), expected);
            }
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(set.is_empty(), model.is_empty());
        }
        set.tree.expect_sound();
        for topic in published.iter().chain(model.keys()) {
            prop_assert_eq!(set.matches(topic), model.keys().any(|prefix| topic.starts_with(prefix)));
        }
        let mut visited = Vec::new();
        set.for_each_from(0, |_, topic| {
            visited.extend(topic.map(<[u8]>::to_vec));
            ControlFlow::Continue(())
        });
        visited.sort();
        prop_assert!(visited.iter().eq(model.keys()));
    }
}
