//! What a monitor sees: the life of endpoints and connections in order, with causes, and never at the engine's expense.

#[macro_use]
mod common;
#[path = "common/raw.rs"]
mod raw;

use std::io;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use common::{LONG, Net, until};
use raw::Raw;
use wiremesh::{Cause, Dealer, Error, Event, EventKind, Monitor, Pair, Pub, Pull, Push, Rep, Sub};

over!([tcp ipc]:
    a_binder_sees_a_peer_come_and_go
    a_connector_sees_its_peer_come_go_and_come_again
    a_connector_to_nobody_sees_each_retry
    the_wait_between_retries_grows_to_its_cap
    a_connector_that_may_not_retry_sees_its_endpoint_closed
    a_peer_of_the_wrong_kind_fails_the_handshake_at_both_ends
    an_event_names_the_endpoint_the_address_and_the_peer
    disconnecting_is_seen_at_both_ends
    unbinding_closes_the_listener
    a_second_peer_of_a_pair_is_refused_with_the_reason
);

over!([tcp ipc inproc]:
    a_listener_that_cannot_be_opened_is_an_error_of_the_call_and_an_event
);

over!([tcp ipc inproc]:
    the_last_event_is_that_the_monitor_stopped
    a_monitor_sees_what_comes_after_it_was_made
    each_monitor_of_a_socket_sees_all_of_its_events
    an_unread_monitor_drops_the_oldest_events_and_counts_them
    a_monitor_that_is_not_read_never_stalls_the_socket
    waiting_for_an_event_ends_with_its_time
    a_name_that_is_met_within_the_process_is_seen
);

fn next(monitor: &Monitor) -> Event {
    monitor.recv_timeout(LONG).expect("an event")
}

/// The kind of an event, without what it carries.
fn name(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Listening => "listening",
        EventKind::BindFailed(_) => "bind failed",
        EventKind::Accepted => "accepted",
        EventKind::AcceptFailed(_) => "accept failed",
        EventKind::ConnectDelayed => "delayed",
        EventKind::Connected => "connected",
        EventKind::ConnectRetried(_) => "retried",
        EventKind::HandshakeSucceeded => "up",
        EventKind::HandshakeFailed(_) => "failed",
        EventKind::Disconnected(_) => "disconnected",
        EventKind::Closed(_) => "closed",
        EventKind::Oddity(_) => "odd",
        EventKind::MonitorStopped => "stopped",
        _ => "other",
    }
}

/// The next events are these; whether an attempt takes a moment (`delayed`) depends on the system.
fn expect(monitor: &Monitor, wanted: &[&str]) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < wanted.len() {
        let event = next(monitor);
        if !matches!(event.kind, EventKind::ConnectDelayed) {
            assert_eq!(name(&event.kind), wanted[events.len()], "{event:?} after {events:?}");
            events.push(event);
        }
    }
    events
}

fn a_binder_sees_a_peer_come_and_go(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    let endpoint = net.fresh();
    let monitor = pull.monitor();
    pull.bind(&endpoint).unwrap();
    expect(&monitor, &["listening"]);
    for _ in 0..2 {
        push.connect(&endpoint).unwrap();
        let events = expect(&monitor, &["accepted", "up"]);
        assert!(events[0].peer.is_none() && events[1].peer.is_some());
        // It has read our READY, too: else its end would be a reset.
        push.wait_for_peers(1, Duration::from_secs(30)).unwrap();
        push.disconnect(&endpoint).unwrap();
        let events = expect(&monitor, &["disconnected"]);
        assert!(matches!(events[0].kind, EventKind::Disconnected(Cause::Peer)), "{events:?}");
    }
}

fn a_connector_sees_its_peer_come_go_and_come_again(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    let endpoint = net.fresh();
    let monitor = push.monitor();
    pull.bind(&endpoint).unwrap();
    push.connect(&endpoint).unwrap();
    let first = expect(&monitor, &["connected", "up"])[1].peer;
    drop(pull);
    let events = expect(&monitor, &["disconnected", "retried"]);
    assert!(matches!(events[0].kind, EventKind::Disconnected(Cause::Peer)), "{events:?}");
    let drawn = Duration::from_millis(100)..=Duration::from_millis(1100);
    assert!(matches!(events[1].kind, EventKind::ConnectRetried(wait) if drawn.contains(&wait)), "{events:?}");
    let pull = Pull::in_context(&net.context);
    until("the address is free", || pull.bind(&endpoint).is_ok());
    let up = loop {
        let event = next(&monitor);
        if matches!(event.kind, EventKind::HandshakeSucceeded) {
            break event;
        }
    };
    assert_eq!(up.peer, first, "it is the same peer to us");
    assert!(first.is_some());
}

fn a_connector_to_nobody_sees_each_retry(net: &Net) {
    let push = Push::builder()
        .context(&net.context)
        .reconnect_interval(Duration::from_millis(1))
        .reconnect_max(Duration::from_millis(1))
        .build()
        .unwrap();
    let monitor = push.monitor();
    push.connect(net.fresh()).unwrap();
    let mut retries = 0;
    while retries < 5 {
        match next(&monitor).kind {
            EventKind::ConnectRetried(_) => retries += 1,
            EventKind::ConnectDelayed => {}
            EventKind::Closed(cause) => assert!(matches!(cause, Cause::System(_)), "{cause:?}"),
            other => panic!("{other:?}"),
        }
    }
}

fn the_wait_between_retries_grows_to_its_cap(net: &Net) {
    let (interval, cap) = (Duration::from_millis(2), Duration::from_millis(8));
    let push = Push::builder().context(&net.context).reconnect_interval(interval).reconnect_max(cap).build().unwrap();
    let monitor = push.monitor();
    push.connect(net.fresh()).unwrap();
    let mut waits = Vec::new();
    while waits.len() < 40 {
        if let EventKind::ConnectRetried(wait) = next(&monitor).kind {
            waits.push(wait);
        }
    }
    assert_eq!(waits[0], interval);
    assert!(waits.iter().all(|wait| (interval..=cap).contains(wait)), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait > interval * 2), "{waits:?}");
}

fn a_connector_that_may_not_retry_sees_its_endpoint_closed(net: &Net) {
    let push = Push::builder().context(&net.context).reconnect_interval(None).build().unwrap();
    let monitor = push.monitor();
    push.connect(net.fresh()).unwrap();
    loop {
        match next(&monitor).kind {
            EventKind::Closed(Cause::System(_)) => break,
            EventKind::ConnectDelayed => {}
            other => panic!("{other:?}"),
        }
    }
    until("the endpoint is gone", || push.connected().is_empty());
}

fn a_peer_of_the_wrong_kind_fails_the_handshake_at_both_ends(net: &Net) {
    let (dealer, publisher) = (Dealer::in_context(&net.context), Pub::in_context(&net.context));
    let endpoint = net.fresh();
    let monitors = [dealer.monitor(), publisher.monitor()];
    publisher.bind(&endpoint).unwrap();
    dealer.connect(&endpoint).unwrap();
    for monitor in &monitors {
        let cause = loop {
            match next(monitor).kind {
                EventKind::HandshakeFailed(cause) => break cause,
                EventKind::HandshakeSucceeded => panic!("they do not fit"),
                _ => {}
            }
        };
        assert!(matches!(cause, Cause::Protocol(_) | Cause::Peer), "{cause:?}");
        assert_eq!(name(&next(monitor).kind), "disconnected");
    }
    assert_eq!((dealer.stats().connections, publisher.stats().connections), (0, 0));
}

fn an_event_names_the_endpoint_the_address_and_the_peer(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    let endpoint = net.fresh();
    let (ours, theirs) = (push.monitor(), pull.monitor());
    pull.bind(&endpoint).unwrap();
    push.connect(&endpoint).unwrap();
    let connector = expect(&ours, &["connected", "up"]);
    let binder = expect(&theirs, &["listening", "accepted", "up"]);
    let address = endpoint.split_once("://").unwrap().1;
    for event in connector.iter().chain(&binder) {
        assert_eq!(&*event.endpoint, endpoint);
    }
    for event in &connector {
        assert_eq!(event.address.as_deref(), Some(address));
    }
    let peer = pull.peer(binder[2].peer.unwrap()).unwrap();
    assert_eq!(binder[2].address.as_deref(), Some(peer.address.as_str()));
    assert_eq!(push.peers()[0].id, connector[1].peer.unwrap());
}

fn disconnecting_is_seen_at_both_ends(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    let (ours, theirs) = (push.monitor(), pull.monitor());
    let endpoint = net.join(&pull, &[&push]);
    for monitor in [&ours, &theirs] {
        while !matches!(next(monitor).kind, EventKind::HandshakeSucceeded) {}
    }
    push.disconnect(&endpoint).unwrap();
    let event = next(&ours);
    assert!(matches!(event.kind, EventKind::Disconnected(Cause::Local)), "{event:?}");
    let event = next(&theirs);
    assert!(matches!(event.kind, EventKind::Disconnected(Cause::Peer)), "{event:?}");
}

fn unbinding_closes_the_listener(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let monitor = pull.monitor();
    let endpoint = net.fresh();
    pull.bind(&endpoint).unwrap();
    pull.unbind(&endpoint).unwrap();
    let events = expect(&monitor, &["listening", "closed"]);
    assert!(matches!(events[1].kind, EventKind::Closed(Cause::Local)), "{events:?}");
    assert_eq!(&*events[1].endpoint, endpoint);
}

fn a_second_peer_of_a_pair_is_refused_with_the_reason(net: &Net) {
    let [bound, first, second] = [(); 3].map(|()| Pair::in_context(&net.context));
    let monitor = bound.monitor();
    let endpoint = net.join(&bound, &[&first]);
    while !matches!(next(&monitor).kind, EventKind::HandshakeSucceeded) {}
    second.connect(&endpoint).unwrap();
    let events = expect(&monitor, &["accepted", "failed", "disconnected"]);
    let EventKind::HandshakeFailed(cause @ Cause::Refused(_)) = &events[1].kind else { panic!("{events:?}") };
    assert!(cause.to_string().contains("peer already"), "{cause}");
}

fn the_last_event_is_that_the_monitor_stopped(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let monitor = pull.monitor();
    pull.bind(net.fresh()).unwrap();
    let reader = thread::spawn(move || monitor.iter().map(|event| name(&event.kind)).collect::<Vec<_>>());
    drop(pull);
    let names = reader.join().unwrap();
    assert_eq!(names.first(), Some(&"listening"));
    assert_eq!(names.last(), Some(&"stopped"));
    assert_eq!(names.iter().filter(|name| **name == "stopped").count(), 1);
}

fn a_monitor_sees_what_comes_after_it_was_made(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let (first, second) = (net.fresh(), net.fresh());
    let before = pull.monitor();
    pull.bind(&first).unwrap();
    assert_eq!(&*next(&before).endpoint, first);
    drop(before);
    let monitor = pull.monitor();
    pull.bind(&second).unwrap();
    let event = next(&monitor);
    assert_eq!((name(&event.kind), &*event.endpoint), ("listening", second.as_str()));
}

fn each_monitor_of_a_socket_sees_all_of_its_events(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let monitors = [pull.monitor(), pull.monitor()];
    let endpoints = [(); 4].map(|()| net.fresh());
    for endpoint in &endpoints {
        pull.bind(endpoint).unwrap();
    }
    for monitor in &monitors {
        assert_eq!([(); 4].map(|()| next(monitor).endpoint.to_string()), endpoints);
    }
    assert!(monitors[0].try_recv().is_none() && monitors[1].try_recv().is_none());
}

fn an_unread_monitor_drops_the_oldest_events_and_counts_them(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let monitor = pull.monitor();
    // Each round is two events.
    for _ in 0..600 {
        let endpoint = net.fresh();
        pull.bind(&endpoint).unwrap();
        pull.unbind(&endpoint).unwrap();
    }
    until("all events are there", || pull.stats().events_lost == 1200 - 1024);
    let names: Vec<_> = std::iter::from_fn(|| monitor.try_recv()).map(|event| name(&event.kind)).collect();
    assert_eq!(names.len(), 1024);
    assert_eq!(names.last(), Some(&"closed"), "the newest are kept");
}

fn a_monitor_that_is_not_read_never_stalls_the_socket(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let _unread = pull.monitor();
    let endpoint = net.fresh();
    pull.bind(&endpoint).unwrap();
    for round in 0..400u32 {
        let push = Push::in_context(&net.context);
        push.connect(&endpoint).unwrap();
        push.send(round.to_le_bytes()).unwrap();
        assert_eq!(pull.recv_timeout(LONG).unwrap().first(), round.to_le_bytes());
    }
}

fn waiting_for_an_event_ends_with_its_time(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let monitor = pull.monitor();
    assert!(monitor.try_recv().is_none());
    let start = Instant::now();
    assert!(monitor.recv_timeout(Duration::from_millis(20)).is_none());
    assert!(start.elapsed() >= Duration::from_millis(20));
    pull.bind(net.fresh()).unwrap();
    assert!(monitor.recv_timeout(LONG).is_some());
    pull.close();
    let stopped = monitor.iter().last().unwrap();
    assert_eq!(name(&stopped.kind), "stopped");
    assert!(monitor.recv().is_none() && monitor.recv_timeout(LONG).is_none());
}

fn a_name_that_is_met_within_the_process_is_seen(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    let monitors = [push.monitor(), pull.monitor()];
    net.join(&pull, &[&push]);
    let mut names = Vec::new();
    while names.last() != Some(&"up") {
        names.push(name(&next(&monitors[1]).kind));
    }
    // Within the process there is nothing to accept.
    let wanted: &[_] = if net.is_stream() { &["listening", "accepted", "up"] } else { &["listening", "up"] };
    assert_eq!(names, wanted);
    while !matches!(next(&monitors[0]).kind, EventKind::HandshakeSucceeded) {}
    drop(push);
    while !matches!(next(&monitors[1]).kind, EventKind::Disconnected(_)) {}
}

#[test]
fn octets_that_are_no_greeting_fail_the_handshake_with_a_cause() {
    let net = Net::new("tcp");
    let pull = Pull::in_context(&net.context);
    let monitor = pull.monitor();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let mut peer = Raw::connect(endpoint.address());
    peer.write(
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nand more than a greeting has, so that it is no matter of length",
    );
    let events = expect(&monitor, &["listening", "accepted", "failed", "disconnected"]);
    assert!(matches!(events[2].kind, EventKind::HandshakeFailed(Cause::Protocol(_))), "{events:?}");
    assert_eq!(events[2].kind.number(), 0x2000);
    peer.read_to_end();
}

#[test]
fn a_connection_that_ends_during_the_handshake_fails_it() {
    let net = Net::new("tcp");
    let pull = Pull::in_context(&net.context);
    let monitor = pull.monitor();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    drop(Raw::connect(endpoint.address()));
    expect(&monitor, &["listening", "accepted", "failed", "disconnected"]);
}

#[test]
fn an_error_command_ends_the_endpoint_and_tells_the_reason() {
    let net = Net::new("tcp");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let push = Push::in_context(&net.context);
    let monitor = push.monitor();
    push.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let mut peer = Raw::accept(&listener);
    peer.greet(1);
    peer.write_frame(0x04, b"\x05ERROR\x0dnot today, no");
    let events = expect(&monitor, &["connected", "failed", "disconnected"]);
    let EventKind::HandshakeFailed(cause) = &events[1].kind else { unreachable!("expected just above") };
    assert!(cause.to_string().contains("not today"), "{cause}");
    assert_eq!(events[1].kind.number(), 0x4000);
    until("the endpoint is gone", || push.connected().is_empty());
}

#[test]
fn a_protocol_error_backs_off_and_tries_again() {
    let net = Net::new("tcp");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let push = Push::builder().context(&net.context).reconnect_interval(Duration::from_millis(1)).build().unwrap();
    let monitor = push.monitor();
    push.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let mut peer = Raw::accept(&listener);
    peer.write(&[0x55; 64]);
    expect(&monitor, &["connected", "failed", "disconnected", "retried"]);
    let mut peer = Raw::accept(&listener);
    peer.shake_hands(1, "PULL");
    expect(&monitor, &["connected", "up"]);
    push.send("hello").unwrap();
    assert_eq!(peer.read_frame(), (0, b"hello".to_vec()));
}

#[test]
fn event_numbers_are_those_of_libzmq() {
    let cause = Cause::Local;
    for (kind, number) in [
        (EventKind::Connected, 0x0001),
        (EventKind::ConnectDelayed, 0x0002),
        (EventKind::ConnectRetried(Duration::ZERO), 0x0004),
        (EventKind::Listening, 0x0008),
        (EventKind::BindFailed(cause.clone()), 0x0010),
        (EventKind::Accepted, 0x0020),
        (EventKind::AcceptFailed(cause.clone()), 0x0040),
        (EventKind::Closed(cause.clone()), 0x0080),
        (EventKind::Disconnected(cause.clone()), 0x0200),
        (EventKind::MonitorStopped, 0x0400),
        (EventKind::HandshakeFailed(cause), 0x0800),
        (EventKind::HandshakeSucceeded, 0x1000),
    ] {
        assert_eq!(kind.number(), number, "{kind:?}");
    }
}

fn a_listener_that_cannot_be_opened_is_an_error_of_the_call_and_an_event(net: &Net) {
    let (first, second) = (Rep::in_context(&net.context), Rep::in_context(&net.context));
    let endpoint = net.fresh();
    first.bind(&endpoint).unwrap();
    let monitor = second.monitor();
    assert!(matches!(second.bind(&endpoint), Err(Error::AddressInUse { .. })));
    let event = next(&monitor);
    assert_eq!(&*event.endpoint, endpoint);
    assert!(
        matches!(&event.kind, EventKind::BindFailed(Cause::System(why)) if why.kind() == io::ErrorKind::AddrInUse),
        "{event:?}"
    );
    second.close();
    assert!(matches!(next(&monitor).kind, EventKind::MonitorStopped));
}

#[test]
fn a_closing_subscriber_tells_its_end() {
    let net = Net::new("tcp");
    let (publisher, subscriber) = (Pub::in_context(&net.context), Sub::in_context(&net.context));
    let monitor = subscriber.monitor();
    net.join(&publisher, &[&subscriber]);
    while !matches!(next(&monitor).kind, EventKind::HandshakeSucceeded) {}
    drop(subscriber);
    let names: Vec<_> = monitor.iter().map(|event| name(&event.kind)).collect();
    assert_eq!(names, ["disconnected", "stopped"]);
}
