//! What holds for any stream of octets, however it is cut. `tests/model` runs it.

use super::*;
use proptest::prelude::*;

/// What a stream may hold after the handshake.
#[derive(Clone, Debug)]
enum Part {
    Message(Vec<Vec<u8>>),
    Subscribe(Vec<u8>),
    Ping,
    Raw(Vec<u8>),
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..40),
        2 => (250usize..270).prop_map(|size| vec![0xA5; size]),
        1 => (300usize..3000).prop_map(|size| vec![0x5A; size]),
    ]
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let part = prop_oneof![
        8 => prop::collection::vec(bodies(), 1..5).prop_map(Part::Message),
        1 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Part::Subscribe),
        1 => Just(Part::Ping),
    ];
    prop::collection::vec(part, 0..30)
}

/// As `parts`, with the chance of something that breaks the protocol.
fn doubtful_parts() -> impl Strategy<Value = Vec<Part>> {
    (parts(), prop::option::weighted(0.5, prop::collection::vec(any::<u8>(), 1..20)), parts()).prop_map(
        |(mut all, raw, rest)| {
            all.extend(raw.map(Part::Raw));
            all.extend(rest);
            all
        },
    )
}

/// The stream of a peer, and whether PINGs are to come between the frames of messages as well.
fn stream(parts: &[Part], interleaved: bool) -> Vec<u8> {
    let ping = command(b"\x04PING\0\0ctx");
    let mut octets = handshake("SUB");
    for part in parts {
        match part {
            Part::Message(frames) if interleaved => {
                let last = frames.len() - 1;
                for (at, body) in frames.iter().enumerate() {
                    octets.extend(frame(if at < last { wire::MORE } else { 0 }, body));
                    octets.extend(&ping);
                }
            }
            Part::Message(frames) => octets.extend(message(frames)),
            Part::Subscribe(topic) => octets.extend_from_slice(&subscribe_command(topic)),
            Part::Ping => octets.extend(&ping),
            Part::Raw(raw) => octets.extend(raw),
        }
    }
    octets
}

/// A publisher with limits small enough to be met.
fn limited() -> Fed {
    let mut config = Config::new(SocketKind::XPub);
    config.max_message = 20_000;
    config.max_frames = 50;
    config.large_body = 500;
    Fed::new(config)
}

fn seen_in_chunks(octets: &[u8], cuts: &[usize]) -> Vec<Seen> {
    let (mut fed, mut seen, mut rest) = (limited(), Vec::new(), octets);
    for cut in cuts.iter().copied().chain([octets.len()]) {
        let (chunk, behind) = rest.split_at(cut.min(rest.len()));
        seen.extend(fed.feed(chunk));
        rest = behind;
    }
    if let Err(error) = fed.connection.ended() {
        seen.push(Seen::Error(error));
    }
    // A frozen connection says the same at every chunk; once is enough to compare.
    seen.dedup_by(|next, last| matches!(next, Seen::Error(_)) && next == last);
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_the_stream_gives_the_same_events(
        parts in doubtful_parts(),
        interleaved: bool,
        cuts in prop::collection::vec(0usize..400, 0..60),
    ) {
        let octets = stream(&parts, interleaved);
        let whole = seen_in_chunks(&octets, &[]);
        prop_assert_eq!(&seen_in_chunks(&octets, &cuts), &whole);
        prop_assert_eq!(&seen_in_chunks(&octets, &vec![1; octets.len()]), &whole);
    }

    #[test]
    fn encode_then_decode_is_identity(parts in parts(), interleaved: bool, chunk in 1usize..5000) {
        let mut expected = Vec::new();
        for part in &parts {
            match part {
                Part::Message(frames) => expected.push(Seen::Message(frames.clone())),
                Part::Subscribe(topic) => expected.push(Seen::Subscribe(topic.clone().into())),
                Part::Ping | Part::Raw(_) => {}
            }
        }
        let octets = stream(&parts, interleaved);
        let seen = seen_in_chunks(&octets, &vec![chunk; octets.len() / chunk]);
        prop_assert!(matches!(seen[0], Seen::Ready(_)));
        prop_assert_eq!(&seen[1..], &expected[..]);
    }

    #[test]
    fn any_identity_and_metadata_arrive_as_they_were(
        identity in prop::collection::vec(any::<u8>(), 0..=255).prop_filter("reserved", |id| id.first() != Some(&0)),
        list in prop::collection::vec(("X-[A-Za-z0-9_.+-]{0,20}", prop::collection::vec(any::<u8>(), 0..300)), 0..20),
    ) {
        let mut config = Config::new(SocketKind::Dealer);
        config.identity = identity.clone().into();
        let mut known = std::collections::BTreeSet::new();
        let list: Vec<_> = list.into_iter().filter(|(name, _)| known.insert(name.to_ascii_lowercase())).collect();
        config.properties = list.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        prop_assert_eq!(config.validate(), Ok(()));
        let (mut left, mut right) = (Fed::new(config), Fed::new(Config::new(SocketKind::Router)));
        left.feed(&right.said());
        let seen = right.feed(&left.said());
        let [Seen::Ready(peer)] = &seen[..] else { panic!("{seen:?}") };
        prop_assert_eq!(&peer.identity, &identity);
        let received: Vec<_> = peer.properties[2..].iter().map(|(name, value)| (name.clone(), value.to_vec())).collect();
        prop_assert_eq!(received, list);
    }

    #[test]
    fn any_octets_at_all_end_in_silence_or_one_error(octets in prop::collection::vec(any::<u8>(), 0..400), after_ready: bool) {
        let octets = if after_ready { [handshake("SUB"), octets].concat() } else { octets };
        let whole = seen_in_chunks(&octets, &[]);
        prop_assert_eq!(&seen_in_chunks(&octets, &vec![1; octets.len()]), &whole);
    }
}
