//! Peers that are told that the socket is ready before they say who they are: they have their place from then on. Those
//! of `max_connections` are in `crowds.rs`.

use crate::crowds::{ready_with_id, refusal, waiting};
use crate::order::hear_ready;
use crate::support::raw::{Raw, frame, greeting, long_header, property, ready};
use crate::support::{PATIENCE, eventually};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};
use wiremesh::{Context, Dealer, EventKind, Pair, Profile, Router};

const PROFILES: [Profile; 2] = [Profile::Wiremesh, Profile::Libzmq];

/// A PAIR that listens, and where.
fn bound_pair(profile: Profile) -> (Pair, String) {
    let pair = Pair::builder().context(&Context::new()).profile(profile).handshake_timeout(None).build().unwrap();
    let endpoint = pair.bind("tcp://127.0.0.1:*").unwrap();
    (pair, endpoint.to_string())
}

/// A PAIR that connects, and has sent that.
fn sender(endpoint: &str, message: &str) -> Pair {
    let pair = Pair::builder().context(&Context::new()).linger(Duration::ZERO);
    let pair = pair.reconnect_interval(Duration::from_millis(10)).reconnect_max(Duration::from_millis(50));
    let pair = pair.build().unwrap();
    pair.connect(endpoint).unwrap();
    pair.send(message).unwrap();
    pair
}

#[test]
fn a_pair_keeps_its_seat_for_a_peer_that_it_has_told_that_it_is_ready() {
    for profile in PROFILES {
        let (pair, endpoint) = bound_pair(profile);
        let monitor = pair.monitor();
        let mut first = waiting(&endpoint);
        let second = sender(&endpoint, "second");
        let text = refusal(&monitor);
        assert!(text.contains("has a peer already"), "{profile:?}: {text}");
        first.write_all(&[&ready("PAIR")[..], &frame(false, b"first")].concat()).unwrap();
        assert_eq!(pair.recv_timeout(PATIENCE).unwrap(), "first", "{profile:?}");
        assert_eq!(second.stats().queued, 1, "{profile:?}: it was never told that it may send");
        drop(first);
        assert_eq!(pair.recv_timeout(PATIENCE).unwrap(), "second", "{profile:?}");
    }
}

#[test]
fn a_peer_that_waits_is_not_told_that_a_pair_is_ready_while_that_has_another() {
    let (pair, endpoint) = bound_pair(Profile::Wiremesh);
    let first = sender(&endpoint, "first");
    assert_eq!(pair.recv_timeout(PATIENCE).unwrap(), "first");
    let mut second = Raw::connect(&endpoint).unwrap();
    second.write_all(&greeting()).unwrap();
    second.read_exact(&mut [0; 64]).expect("a greeting");
    second.set_read_timeout(Duration::from_millis(900));
    let told = second.read(&mut [0; 64]);
    assert!(told.is_err(), "{told:?}");
    drop(first);
    second.set_read_timeout(PATIENCE);
    let mut header = [0; 2];
    second.read_exact(&mut header).expect("a READY");
    second.write_all(&[&ready("PAIR")[..], &frame(false, b"second")].concat()).unwrap();
    assert_eq!(pair.recv_timeout(PATIENCE).unwrap(), "second");
}

#[test]
fn who_has_the_seat_of_a_pair_and_says_nothing_loses_it_to_a_peer_that_is_ready() {
    for profile in PROFILES {
        let (pair, endpoint) = bound_pair(profile);
        let mut silent = waiting(&endpoint);
        let _ready = sender(&endpoint, "message");
        assert_eq!(pair.recv_timeout(PATIENCE).unwrap(), "message", "{profile:?}");
        assert!(silent.is_closed_within(PATIENCE), "{profile:?}");
    }
}

#[test]
fn a_peer_that_goes_without_a_word_leaves_the_seat_of_a_pair_free() {
    for profile in PROFILES {
        let (pair, endpoint) = bound_pair(profile);
        let peer = waiting(&endpoint);
        // The seat is asked for by a call that is refused where it is not free.
        let is_free = || pair.connect("tcp://127.0.0.1:1").is_ok();
        assert!(!is_free(), "{profile:?}");
        let begin = Instant::now();
        drop(peer);
        eventually(PATIENCE, "the seat is free", is_free);
        assert!(begin.elapsed() < Duration::from_secs(1), "{profile:?}: not because it was kept too long");
    }
}

#[test]
fn what_has_the_seat_of_a_pair_and_says_nothing_loses_it_to_what_the_pair_connects_to() {
    for profile in PROFILES {
        for other in ["tcp://127.0.0.1:1", "inproc://other"] {
            let (pair, endpoint) = bound_pair(profile);
            let theirs = Pair::in_context(pair.context());
            theirs.bind("inproc://other").unwrap();
            let mut silent = waiting(&endpoint);
            eventually(PATIENCE, "the seat is free", || pair.connect(other).is_ok());
            // It comes too late.
            let _ = silent.write_all(&ready("PAIR"));
            assert!(silent.is_closed_within(PATIENCE), "{profile:?}");
        }
    }
}

#[test]
fn a_server_that_a_pair_has_connected_to_and_that_says_nothing_does_not_keep_its_seat() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (pair, endpoint) = bound_pair(Profile::Wiremesh);
    pair.set(wiremesh::Setting::Immediate(true)).unwrap();
    let monitor = pair.monitor();
    pair.connect(format!("tcp://{}", silent.local_addr().unwrap())).unwrap();
    monitor.iter().find(|event| matches!(event.kind, EventKind::Connected)).unwrap();
    let _ready = sender(&endpoint, "message");
    assert_eq!(pair.recv_timeout(PATIENCE).unwrap(), "message");
}

#[test]
fn a_pair_that_connects_without_a_seat_does_not_say_that_it_is_ready() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (pair, endpoint) = bound_pair(Profile::Wiremesh);
    let monitor = pair.monitor();
    pair.set(wiremesh::Setting::Immediate(true)).unwrap();
    pair.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let mut server = Raw::accepted(listener.accept().unwrap().0);
    server.write_all(&greeting()).unwrap();
    hear_ready(&mut server);
    let _second = sender(&endpoint, "second");
    let text = refusal(&monitor);
    assert!(text.contains("has a peer already"), "{text}");
    server.write_all(&[&ready("PAIR")[..], &frame(false, b"first")].concat()).unwrap();
    assert_eq!(pair.recv_timeout(PATIENCE).unwrap(), "first");
    drop(server);
    drop(listener);
    assert_eq!(pair.recv_timeout(PATIENCE).unwrap(), "second");
}

#[test]
fn a_peer_that_was_told_first_and_announces_a_routing_id_in_use_is_heard_under_another() {
    let context = Context::new();
    let router = Router::builder().context(&context).build().unwrap();
    let endpoint = router.bind("tcp://127.0.0.1:*").unwrap();
    let holder = Dealer::builder().context(&Context::new()).routing_id("same").build().unwrap();
    holder.connect(&endpoint).unwrap();
    router.wait_for_peers(1, PATIENCE).unwrap();
    let monitor = router.monitor();
    let mut second = waiting(endpoint.as_str());
    second.write_all(&[&ready_with_id("same")[..], &frame(false, b"message")].concat()).unwrap();
    let (id, message) = router.recv_timeout(PATIENCE).unwrap();
    assert_eq!(message, "message");
    assert_ne!(id, *b"same");
    let odd = monitor.iter().find(|event| matches!(event.kind, EventKind::Oddity(_))).unwrap().to_string();
    assert!(odd.contains("the routing id is in use"), "{odd}");
    router.send_to(&id, "answer").unwrap();
    let mut answer = [0; 8];
    second.read_exact(&mut answer).unwrap();
    assert_eq!(answer[2..], *b"answer");
    router.send_to("same", "for the holder").unwrap();
    assert_eq!(holder.recv_timeout(PATIENCE).unwrap(), "for the holder");
}

#[test]
fn a_peer_that_was_told_first_and_announces_more_than_there_is_room_for_comes_in_without_its_metadata() {
    let (context, others) = (Context::builder().byte_budget(Some(4 << 20)).build(), Context::new());
    let router = Router::in_context(&context);
    let endpoint = router.bind("tcp://127.0.0.1:*").unwrap();
    let _dealers = [(); 39].map(|()| {
        let dealer = Dealer::builder().context(&others).linger(Duration::ZERO);
        let dealer = dealer.metadata([("X-Large", vec![7; 26_000])]).build().unwrap();
        dealer.connect(&endpoint).unwrap();
        dealer
    });
    router.wait_for_peers(39, PATIENCE).expect("there is room for them");
    let monitor = router.monitor();
    let mut late = waiting(endpoint.as_str());
    let mut ready = ready_with_id("late")[2..].to_vec();
    property(&mut ready, "X-Large", &[7; 26_000]);
    let mut command = long_header(false, ready.len() as u64).to_vec();
    command[0] |= 4;
    late.write_all(&[&command[..], &ready, &frame(false, b"message")].concat()).unwrap();
    let (id, message) = router.recv_timeout(PATIENCE).unwrap();
    assert!(id == *b"late" && message == "message", "{id:?} {message:?}");
    let odd = monitor.iter().find(|event| matches!(event.kind, EventKind::Oddity(_))).unwrap();
    assert!(odd.to_string().contains("byte_budget"), "{odd}");
    let held = router.peer(odd.peer.unwrap()).unwrap();
    assert!(held.properties.iter().all(|(name, _)| name != "X-Large"), "{held:?}");
}
