//! A link that stopped being read because its receiver was behind is read again once the receiver has caught up,
//! however the two interleave, and whatever stopped it.

use crate::support::raw::{self, Raw};
use crate::support::{PATIENCE, eventually, holds_within, times, within};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use wiremesh::{Context, Dealer, Pull, Push, XPub};

/// A message with an empty PING behind it: two events of what one read brings.
fn with_ping(body: &[u8]) -> Vec<u8> {
    [raw::frame(false, body), raw::command(b"\x04PING\x00\x00")].concat()
}

/// Has bursts sent that go far beyond a mark, each once the one before is received, while receivers run beside.
fn bursts(rounds: usize, burst: usize, received: &AtomicUsize, mut send: impl FnMut(usize)) {
    let mut sent = 0;
    for round in 0..rounds {
        send(burst);
        sent += burst;
        let all = || received.load(Ordering::SeqCst) >= sent;
        assert!(holds_within(PATIENCE / 2, all), "round {round}: {} of {sent}", received.load(Ordering::SeqCst));
    }
}

/// Two threads that receive until the socket is closed.
fn receivers<S: Send + Sync + 'static>(
    socket: &Arc<S>,
    receive: fn(&S) -> bool,
) -> (Arc<AtomicUsize>, Vec<thread::JoinHandle<()>>) {
    let received = Arc::new(AtomicUsize::new(0));
    let threads = (0..2).map(|_| {
        let (socket, received) = (Arc::clone(socket), Arc::clone(&received));
        thread::spawn(move || {
            while receive(&socket) {
                received.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    let threads = threads.collect();
    (received, threads)
}

#[test]
fn two_receivers_at_the_mark_of_a_peer_that_pings_between_messages_get_all_of_them() {
    within(PATIENCE * 2, "the messages", || {
        let pull = Pull::builder().context(&Context::new()).receive_mark(100).build().expect("good options");
        let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
        let mut peer = Raw::connect(endpoint.as_str()).expect("accepted");
        peer.shake_hands("PUSH").expect("a socket");
        let pull = Arc::new(pull);
        let (received, threads) = receivers(&pull, |pull| pull.recv().is_ok());
        let one = with_ping(b"message");
        bursts(times(300), 20_000, &received, |burst| peer.write_all(&one.repeat(burst)).expect("it is read"));
        pull.close();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

#[test]
fn a_mark_in_octets_stops_a_peer_that_pings_between_messages_no_longer_than_it_is_reached() {
    within(PATIENCE * 2, "the messages", || {
        let builder = Dealer::builder().context(&Context::new()).receive_mark(0).receive_byte_mark(1000);
        let dealer = Arc::new(builder.build().expect("good options"));
        let endpoint = dealer.bind("tcp://127.0.0.1:*").expect("bound");
        let mut peer = Raw::connect(endpoint.as_str()).expect("accepted");
        peer.shake_hands("DEALER").expect("a socket");
        let (received, threads) = receivers(&dealer, |dealer| dealer.recv().is_ok());
        let one = with_ping(b"8 octets");
        bursts(times(300), 20_000, &received, |burst| peer.write_all(&one.repeat(burst)).expect("it is read"));
        dealer.close();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

#[test]
fn an_xpub_read_by_other_threads_hears_of_every_topic_of_a_subscriber_with_very_many() {
    within(PATIENCE * 2, "the subscriptions", || {
        let xpub = XPub::builder().context(&Context::new()).receive_mark(100).build().expect("good options");
        let endpoint = xpub.bind("tcp://127.0.0.1:*").expect("bound");
        let xpub = Arc::new(xpub);
        let (received, threads) = receivers(&xpub, |xpub| xpub.recv().is_ok());
        let mut peer = Raw::connect(endpoint.as_str()).expect("accepted");
        peer.shake_hands("SUB").expect("a socket");
        let mut topics = 0u32..;
        let mut subscribe =
            || raw::command(&[&b"\x09SUBSCRIBE"[..], &topics.next().unwrap_or(0).to_le_bytes()].concat());
        bursts(times(300), 20_000, &received, |burst| {
            let commands: Vec<u8> = (0..burst).flat_map(|_| subscribe()).collect();
            peer.write_all(&commands).expect("it is read");
        });
        xpub.close();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

#[test]
fn a_raised_mark_lets_a_stopped_link_be_read_without_a_receive() {
    within(PATIENCE, "the messages", || {
        let pull = Pull::builder().context(&Context::new()).receive_mark(10).build().expect("good options");
        let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
        let push = Push::in_context(&Context::new());
        push.connect(&endpoint).expect("a good endpoint");
        // More than one read brings, so that the mark has stopped it before they are all there.
        for _ in 0..64 {
            push.send([1; 60_000]).expect("within the marks");
        }
        eventually(PATIENCE, "the mark is reached", || pull.stats().unread >= 10);
        pull.set(wiremesh::Setting::ReceiveMark(0)).expect("it may change");
        eventually(PATIENCE, "all is read from the link", || pull.stats().unread == 64);
    });
}
