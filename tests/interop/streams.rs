//! Many small messages with low marks: nothing is lost, nothing overtakes. And closing right after sending loses
//! nothing.

use super::body::numbered;
use super::ends::{End, Ours, Theirs};
use super::peer::Peer;
use wiremesh::SocketKind::*;
use wiremesh::{AnySocket, Builder, Message, RecvError, SendFailure, Setting, SocketKind};

const COUNT: usize = 100_000;
const SIZE: usize = 16;
const TRANSPORTS: [&str; 2] = ["tcp://127.0.0.1:*", "ipc://*"];

#[test]
fn a_long_stream_to_their_pull_arrives_whole_and_in_order() {
    let Some(peer) = Peer::start() else { return };
    for endpoint in TRANSPORTS {
        let them = Theirs::new(&peer, "pull", Pull);
        them.set("RCVHWM", 100);
        let us = Ours::with(Push, |builder| low_marks(Push, builder));
        us.connect(&them.bind(endpoint));
        them.begin("sink", &format!("{COUNT} {SIZE}"));
        (0..COUNT).for_each(|number| us.socket().send(numbered(number, SIZE)).expect("sent"));
        peer.end();
    }
}

#[test]
fn a_long_stream_from_their_push_arrives_whole_and_in_order() {
    let Some(peer) = Peer::start() else { return };
    for endpoint in TRANSPORTS {
        let us = Ours::with(Pull, |builder| low_marks(Pull, builder));
        let them = Theirs::new(&peer, "push", Push);
        them.set("SNDHWM", 100);
        them.connect(&us.bind(endpoint));
        them.begin("stream", &format!("{COUNT} {SIZE}"));
        (0..COUNT).for_each(|number| assert_eq!(us.socket().recv().expect("received"), numbered(number, SIZE)));
        peer.end();
    }
}

#[test]
fn long_streams_both_ways_at_once_arrive_whole_and_in_order() {
    let Some(peer) = Peer::start() else { return };
    for (kind, endpoint) in [(Dealer, TRANSPORTS[0]), (Pair, TRANSPORTS[1])] {
        let them = Theirs::new(&peer, "both", kind);
        them.set("RCVHWM", 100);
        them.set("SNDHWM", 100);
        let us = Ours::with(kind, |builder| low_marks(kind, builder));
        us.connect(&them.bind(endpoint));
        them.begin("duplex", &format!("{COUNT} {SIZE}"));
        let socket = us.socket();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..COUNT).for_each(|number| socket.send(numbered(number, SIZE)).expect("sent")));
            (0..COUNT).for_each(|number| assert_eq!(socket.recv().expect("received"), numbered(number, SIZE)));
        });
        peer.end();
    }
}

#[test]
fn one_thread_alone_can_feed_both_directions() {
    let Some(peer) = Peer::start() else { return };
    let them = Theirs::new(&peer, "both", Dealer);
    them.set("RCVHWM", 100);
    them.set("SNDHWM", 100);
    let us = Ours::with(Dealer, |builder| low_marks(Dealer, builder));
    us.connect(&them.bind(TRANSPORTS[0]));
    let count = COUNT / 10;
    them.begin("duplex", &format!("{count} {SIZE}"));
    let (mut sent, mut received) = (0, 0);
    while sent < count || received < count {
        if sent < count {
            match us.socket().try_send(numbered(sent, SIZE)) {
                Ok(()) => sent += 1,
                Err(error) => assert_eq!(error.reason, SendFailure::WouldBlock),
            }
        }
        if received < count {
            match us.socket().try_recv() {
                Ok(message) => {
                    assert_eq!(message, numbered(received, SIZE));
                    received += 1;
                }
                Err(error) => assert_eq!(error, RecvError::WouldBlock),
            }
        }
    }
    peer.end();
}

#[test]
fn a_publisher_without_drops_delivers_all_to_their_slow_subscriber() {
    let Some(peer) = Peer::start() else { return };
    let them = Theirs::new(&peer, "sub", Sub);
    them.set("RCVHWM", 100);
    them.subscribe("");
    let us = Ours::with(XPub, |builder| builder.nodrop(true).send_mark(100));
    them.connect(&us.bind(TRANSPORTS[0]));
    assert_eq!(us.receive(), [b"\x01"]);
    them.begin("sink", &format!("{COUNT} {SIZE}"));
    (0..COUNT).for_each(|number| us.socket().send(numbered(number, SIZE)).expect("sent"));
    peer.end();
}

#[test]
fn what_was_sent_before_our_close_still_reaches_them() {
    let Some(peer) = Peer::start() else { return };
    for endpoint in TRANSPORTS {
        let them = Theirs::new(&peer, "pull", Pull);
        them.set("RCVHWM", 100);
        let endpoint = them.bind(endpoint);
        let us = Ours::new(Push);
        us.connect(&endpoint);
        let count = 10_000;
        (0..count).for_each(|number| us.socket().send(numbered(number, 1000)).expect("sent"));
        // Nobody receives yet. The drop waits while data moves, so it has to be another thread's.
        let dropping = std::thread::spawn(move || drop(us));
        them.tell("sink", &format!("{count} 1000"));
        dropping.join().expect("dropped");
    }
}

#[test]
fn what_they_sent_before_their_close_still_reaches_us() {
    let Some(peer) = Peer::start() else { return };
    for endpoint in TRANSPORTS {
        let us = Ours::with(Pull, |builder| low_marks(Pull, builder));
        let them = Theirs::new(&peer, "push", Push);
        them.set("SNDHWM", 0);
        them.connect(&us.bind(endpoint));
        let count = 10_000;
        them.tell("stream", &format!("{count} 1000"));
        drop(them);
        (0..count).for_each(|number| assert_eq!(us.socket().recv().expect("received"), numbered(number, 1000)));
    }
}

#[test]
fn a_conflated_receiver_gets_rising_numbers_up_to_the_last() {
    let Some(peer) = Peer::start() else { return };
    let count = 20_000;
    for we_conflate in [true, false] {
        let us = Ours::with(Push, |builder| builder.conflate(we_conflate));
        let them = Theirs::new(&peer, "pull", Pull);
        them.set("CONFLATE", u8::from(!we_conflate));
        us.connect(&them.bind(TRANSPORTS[0]));
        us.wait_for_peers(1, super::ends::LONG).expect("connected");
        them.begin("conflated", &format!("{} {SIZE}", count - 1));
        (0..count).for_each(|number| us.socket().send(numbered(number, SIZE)).expect("sent"));
        peer.end();
    }
}

#[test]
fn our_conflated_receiver_ends_with_their_last() {
    let Some(peer) = Peer::start() else { return };
    let count = 20_000;
    let us = Ours::with(Pull, |builder| builder.conflate(true));
    let them = Theirs::new(&peer, "push", Push);
    them.connect(&us.bind(TRANSPORTS[0]));
    them.tell("stream", &format!("{count} {SIZE}"));
    let mut before = None;
    loop {
        let message = us.socket().recv().expect("the last number comes");
        let number = number_of(&message);
        assert!(before < Some(number), "{number} after {before:?}");
        if number == count - 1 {
            break;
        }
        before = Some(number);
    }
    assert_eq!(us.socket().try_recv().map(|message| number_of(&message)), Err(RecvError::WouldBlock));
}

fn low_marks(kind: SocketKind, builder: Builder<AnySocket>) -> Builder<AnySocket> {
    let marks = [Setting::SendMark(100), Setting::ReceiveMark(100)];
    let fitting = marks.into_iter().filter(|setting| setting.row().kinds.contains(&kind));
    fitting.fold(builder, |builder, setting| builder.set(setting))
}

fn number_of(message: &Message) -> usize {
    let number = message.first().first_chunk().expect("a numbered message");
    u64::from_be_bytes(*number) as usize
}
