//! Nothing turns in circles, and nothing sleeps with work left: what peers do at the worst moment must not keep a
//! connection, or a closing socket, for ever.

use crate::support::measure::{Lateness, Stopwatch};
use crate::support::raw::{Raw, frame, greeting, ready};
use crate::support::{Blocked, Over, PATIENCE, eventually};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wiremesh::{Context, Dealer, EventKind, Pull, RecvError, Router, SendFailure};

/// It is gone when our side of the handshake is to be written, with its own side complete.
#[test]
fn a_peer_that_is_gone_before_it_has_our_ready_is_forgotten() {
    for over in Over::STREAMS {
        let pull = Pull::in_context(&Context::new());
        let monitor = pull.monitor();
        let endpoint = pull.bind(over.wildcard()).expect("bound");
        let octets = [&greeting()[..], &ready("PUSH"), &frame(false, b"too early")].concat();
        for _ in 0..200 {
            let mut peer = Raw::connect(endpoint.as_str()).expect("it listens");
            peer.write_all(&octets).expect("they fit the buffers");
        }
        let (mut accepted, mut gone) = (0, 0);
        eventually(PATIENCE, "every connection is gone", || {
            while let Some(event) = monitor.try_recv() {
                accepted += usize::from(matches!(event.kind, EventKind::Accepted));
                gone += usize::from(matches!(event.kind, EventKind::Disconnected(_)));
            }
            (accepted, gone) == (200, 200)
        });
    }
}

/// Nobody receives any more, so the mark must not keep the closing socket from noticing that its peer has died.
#[test]
fn a_closing_socket_at_its_receive_mark_notices_that_its_peer_is_gone() {
    for over in Over::STREAMS {
        let context = Context::new();
        let dealer = Dealer::builder().context(&context).receive_mark(1).send_mark(10).build().expect("good options");
        let endpoint = dealer.bind(over.wildcard()).expect("bound");
        let mut peer = Raw::connect(endpoint.as_str()).expect("it listens");
        peer.shake_hands("DEALER").expect("a handshake");
        dealer.wait_for_peers(1, PATIENCE).expect("a peer");
        for _ in 0..5 {
            peer.write_all(&frame(false, b"x")).expect("it fits the buffers");
        }
        eventually(PATIENCE, "the mark is reached", || dealer.stats().unread >= 1);
        let body = vec![0; 1 << 20];
        eventually(PATIENCE, "its peer takes no more", || {
            dealer.try_send(body.clone()).is_err_and(|error| error.reason == SendFailure::WouldBlock)
        });
        dealer.close();
        let closed = Instant::now();
        drop(peer);
        let unsent = context.close(PATIENCE);
        assert!(closed.elapsed() < PATIENCE, "{over:?}: nobody is there to wait for");
        assert!(unsent.messages > 0, "{over:?}: they are reported");
    }
}

/// Each has filled the other up, and the one that stays cannot receive before its send is done. Whoever closes reads on
/// for it then, and delivers all it has accepted.
#[test]
fn a_closing_socket_at_its_receive_mark_lets_a_peer_go_on_that_waits_for_it() {
    for over in Over::STREAMS {
        let router = Router::builder().context(&Context::new()).mandatory(true).receive_mark(10).send_mark(10);
        let router = Arc::new(router.build().expect("good options"));
        let endpoint = router.bind(over.wildcard()).expect("bound");
        let context = Context::new();
        let dealer = Dealer::builder().context(&context).routing_id("dealer").receive_mark(1).send_mark(10);
        let dealer = dealer.build().expect("good options");
        dealer.connect(&endpoint).expect("a good endpoint");
        router.wait_for_peers(1, PATIENCE).expect("it comes");
        let body = vec![7; 100_000];
        let sends = Blocked::start({
            let (router, body) = (Arc::clone(&router), body.clone());
            // More than all queues and kernels on the way hold.
            move || (0..500).take_while(|_| router.send_to("dealer", body.clone()).is_ok()).count()
        });
        let (mut accepted, mut refused) = (0, 0);
        // A full tcp connection takes a little more now and then, when one of the kernel's timers fires.
        while refused < 3 {
            match dealer.send_timeout(body.clone(), Duration::from_millis(200)) {
                Ok(()) => (accepted, refused) = (accepted + 1, 0),
                Err(_) => refused += 1,
            }
        }
        sends.settle();
        dealer.close();
        let receives = Blocked::start(move || {
            let (sent, _) = sends.outcome(PATIENCE).expect("the sends are done");
            (sent, received_to_the_end(&router))
        });
        let closed = Instant::now();
        let unsent = context.close(PATIENCE);
        assert_eq!(unsent.messages, 0, "{over:?}: all it has accepted is delivered, after {:?}", closed.elapsed());
        let ((sent, received), _) = receives.outcome(PATIENCE).expect("the peer goes on");
        assert_eq!((sent, received), (500, accepted), "{over:?}");
    }
}

/// How many messages come until the only peer is gone.
fn received_to_the_end(router: &Router) -> usize {
    let mut received = 0;
    loop {
        // All that ever came is there once it is.
        let is_all = router.stats().connections == 0;
        match router.recv_timeout(Duration::from_millis(20)) {
            Ok(_) => received += 1,
            Err(_) if is_all => return received,
            Err(error) => assert_eq!(error, RecvError::TimedOut),
        }
    }
}

/// A closing socket with many connections does not look at all of them each time something happens, and is done all the
/// same as soon as the last one is.
#[test]
fn the_last_of_many_connections_ends_a_close() {
    for over in Over::STREAMS {
        let context = Context::new();
        let dealer = Dealer::builder().context(&context).send_mark(1000).build().expect("good options");
        let endpoint = dealer.bind(over.wildcard()).expect("bound");
        let mut peers: Vec<Raw> = (0..100)
            .map(|_| {
                let mut peer = Raw::connect(endpoint.as_str()).expect("it listens");
                peer.shake_hands("DEALER").expect("a handshake");
                peer
            })
            .collect();
        dealer.wait_for_peers(peers.len(), PATIENCE).expect("they come");
        for _ in 0..1000 {
            dealer.send(vec![0; 100_000]).expect("there is room");
        }
        dealer.close();
        let closes = Blocked::start(move || {
            let watch = Stopwatch::start();
            (context.close(PATIENCE), watch.kept())
        });
        closes.settle();
        let mut buffer = vec![0; 1 << 16];
        for peer in &mut peers {
            while peer.read(&mut buffer).is_ok_and(|got| got > 0) {}
        }
        let (lateness, read) = (Lateness::watch(), Instant::now());
        let ((unsent, kept), at) = closes.outcome(PATIENCE).expect("it is done");
        assert_eq!(unsent.messages, 0, "{over:?}");
        let (took, late) = (at.saturating_duration_since(read).saturating_sub(kept), lateness.since(read));
        assert!(took < Duration::from_secs(1) + late, "{over:?}: nobody is left to wait for: {took:?}, {late:?} late");
    }
}
