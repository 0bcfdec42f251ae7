//! Peers that close without a word after our greeting, as those of ZMTP 1.0 and 2.0 do: the event says what they
//! probably are.

use crate::support::raw::Raw;
use crate::support::{Over, PATIENCE};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};
use wiremesh::{Cause, Context, EventKind, Monitor, Pull, Push};

/// What the next failed handshakes give as their cause.
fn causes(monitor: &Monitor, count: usize) -> Vec<String> {
    let end = Instant::now() + PATIENCE;
    let mut causes = Vec::new();
    while causes.len() < count {
        let event = monitor.recv_timeout(end.saturating_duration_since(Instant::now())).expect("a failed handshake");
        if let EventKind::HandshakeFailed(cause) = event.kind {
            assert!(matches!(cause, Cause::Protocol(_)), "{cause:?}");
            causes.push(cause.to_string());
        }
    }
    causes
}

fn assert_says_old_from_the_second_on(causes: &[String]) {
    assert!(!causes[0].contains("ZMTP 1.0 or 2.0"), "{causes:?}");
    assert!(causes[0].contains("without a word"), "{causes:?}");
    assert!(causes[1..].iter().all(|cause| cause.contains("ZMTP 1.0 or 2.0")), "{causes:?}");
}

fn push(context: &Context) -> (Push, Monitor) {
    let push = Push::builder().context(context).reconnect_interval(Duration::from_millis(1)).build().unwrap();
    let monitor = push.monitor();
    (push, monitor)
}

#[test]
fn a_server_that_reads_our_greeting_and_closes_twice_is_called_old() {
    let context = Context::new();
    let (push, monitor) = push(&context);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    push.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    for _ in 0..3 {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 64]).expect("a greeting");
    }
    assert_says_old_from_the_second_on(&causes(&monitor, 3));
}

/// The system answers the close of a stream with unread octets by a reset.
#[test]
fn a_server_that_closes_with_our_greeting_unread_is_called_old_too() {
    let context = Context::new();
    let (push, monitor) = push(&context);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    push.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    for _ in 0..2 {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 11]).expect("the greeting's begin");
    }
    assert_says_old_from_the_second_on(&causes(&monitor, 2));
}

#[test]
fn a_server_over_ipc_and_a_client_are_called_old_as_well() {
    let context = Context::new();
    let (push, monitor) = push(&context);
    let endpoint = Over::Ipc.fixed();
    let path = endpoint.strip_prefix("ipc://").unwrap();
    let listener = UnixListener::bind(path).unwrap();
    push.connect(&endpoint).unwrap();
    for _ in 0..2 {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 64]).expect("a greeting");
    }
    assert_says_old_from_the_second_on(&causes(&monitor, 2));
    drop(push);
    std::fs::remove_file(path).unwrap();

    let pull = Pull::in_context(&context);
    let monitor = pull.monitor();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    for _ in 0..2 {
        Raw::connect(endpoint.as_str()).unwrap().read_exact(&mut [0; 64]).expect("a greeting");
    }
    assert_says_old_from_the_second_on(&causes(&monitor, 2));
}

#[test]
fn a_peer_that_spoke_in_between_is_not_called_old() {
    let context = Context::new();
    let (push, monitor) = push(&context);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    push.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    for good in [false, true, false] {
        let (stream, _) = listener.accept().unwrap();
        let mut raw = Raw::accepted(stream);
        match good {
            true => raw.shake_hands("PULL").expect("a handshake"),
            false => raw.read_exact(&mut [0; 64]).expect("a greeting"),
        }
    }
    let causes = causes(&monitor, 2);
    assert!(causes.iter().all(|cause| !cause.contains("ZMTP 1.0 or 2.0")), "{causes:?}");
}
