//! Binding and connecting: the forms of an endpoint, who may have it, and how it is given up.

#[macro_use]
mod common;

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::{LONG, Net, until};
use wiremesh::transports::{AddressError, LinkOptions, Listener, Purpose, Stream, Tcp, Transport};
use wiremesh::{
    AnySocket, Cause, Dealer, Error, EventKind, Pub, Pull, Push, Rep, Req, Router, SendFailure, Setting, SocketKind,
    Sub,
};

over!([tcp ipc inproc]:
    either_side_may_come_first
    either_kind_may_bind
    an_endpoint_in_use_is_an_error_that_names_it
    an_endpoint_is_free_again_after_unbind
    an_endpoint_is_free_again_after_close
    an_endpoint_the_socket_does_not_have_is_an_error_that_lists_those_it_has
    a_socket_lists_its_endpoints
    a_disconnected_endpoint_can_be_connected_again
    after_unbind_nobody_gets_in
    waiting_for_peers_says_how_many_there_are
    connecting_to_nobody_is_no_error
);

over!([tcp ipc]:
    what_a_wildcard_became_can_be_connected_to
    a_wildcard_endpoint_is_unbound_by_what_was_given_to_bind
    connecting_again_gives_some_kinds_one_connection_and_others_two
    unbind_closes_the_connections_accepted_there
    sockets_of_other_contexts_are_reached
);

fn either_side_may_come_first(net: &Net) {
    for binder_first in [true, false] {
        let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
        let endpoint = net.fresh();
        if binder_first {
            pull.bind(&endpoint).unwrap();
            push.connect(&endpoint).unwrap();
        } else {
            push.connect(&endpoint).unwrap();
            pull.bind(&endpoint).unwrap();
        }
        push.send("hello").unwrap();
        assert_eq!(pull.recv_timeout(LONG).unwrap(), "hello");
    }
}

fn either_kind_may_bind(net: &Net) {
    for (left, right) in [
        (SocketKind::Pair, SocketKind::Pair),
        (SocketKind::Pub, SocketKind::Sub),
        (SocketKind::XPub, SocketKind::XSub),
        (SocketKind::Pub, SocketKind::XSub),
        (SocketKind::XPub, SocketKind::Sub),
        (SocketKind::Req, SocketKind::Rep),
        (SocketKind::Req, SocketKind::Router),
        (SocketKind::Dealer, SocketKind::Rep),
        (SocketKind::Dealer, SocketKind::Router),
        (SocketKind::Dealer, SocketKind::Dealer),
        (SocketKind::Router, SocketKind::Router),
        (SocketKind::Push, SocketKind::Pull),
    ] {
        for (left, right) in [(left, right), (right, left)] {
            let (left, right) = (AnySocket::in_context(left, &net.context), AnySocket::in_context(right, &net.context));
            net.join(&left, &[&right]);
            assert_eq!(left.peers()[0].kind, Some(right.kind()));
            assert_eq!(right.peers()[0].kind, Some(left.kind()));
        }
    }
}

fn an_endpoint_in_use_is_an_error_that_names_it(net: &Net) {
    let (first, second) = (Pull::in_context(&net.context), Pull::in_context(&net.context));
    let endpoint = net.fresh();
    first.bind(&endpoint).unwrap();
    for socket in [&first, &second] {
        let error = socket.bind(&endpoint).unwrap_err();
        assert!(matches!(&error, Error::AddressInUse { endpoint: named } if *named == endpoint), "{error:?}");
    }
    assert!(second.bound().is_empty());
    // The one that has it still works.
    let push = Push::in_context(&net.context);
    push.connect(&endpoint).unwrap();
    push.send("hello").unwrap();
    assert_eq!(first.recv_timeout(LONG).unwrap(), "hello");
}

fn an_endpoint_is_free_again_after_unbind(net: &Net) {
    let (first, second) = (Pull::in_context(&net.context), Pull::in_context(&net.context));
    let endpoint = net.fresh();
    first.bind(&endpoint).unwrap();
    first.unbind(&endpoint).unwrap();
    until("it is free", || second.bind(&endpoint).is_ok());
    let push = Push::in_context(&net.context);
    push.connect(&endpoint).unwrap();
    push.send("hello").unwrap();
    assert_eq!(second.recv_timeout(LONG).unwrap(), "hello");
}

fn an_endpoint_is_free_again_after_close(net: &Net) {
    let endpoint = net.fresh();
    for round in 0..5u8 {
        let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
        until("it is free", || pull.bind(&endpoint).is_ok());
        push.connect(&endpoint).unwrap();
        push.send([round]).unwrap();
        assert_eq!(pull.recv_timeout(LONG).unwrap().first(), [round]);
    }
}

fn an_endpoint_the_socket_does_not_have_is_an_error_that_lists_those_it_has(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let (bound, connected, other) = (net.fresh(), net.fresh(), net.fresh());
    pull.bind(&bound).unwrap();
    pull.connect(&connected).unwrap();
    for (outcome, known) in [(pull.unbind(&other), &bound), (pull.disconnect(&other), &connected)] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::NoSuchEndpoint { .. }), "{error:?}");
        assert!(error.to_string().contains(&other) && error.to_string().contains(known.as_str()), "{error}");
    }
    // Neither takes the place of the other.
    assert!(pull.disconnect(&bound).is_err());
    assert!(pull.unbind(&connected).is_err());
    pull.unbind(&bound).unwrap();
    pull.disconnect(&connected).unwrap();
    assert!(pull.unbind(&bound).is_err());
    assert!(pull.disconnect(&connected).is_err());
}

fn a_socket_lists_its_endpoints(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let endpoints: Vec<String> = (0..4).map(|_| net.fresh()).collect();
    let (bound, connected) = endpoints.split_at(2);
    for endpoint in bound {
        assert_eq!(pull.bind(endpoint).unwrap().as_str(), endpoint);
    }
    for endpoint in connected {
        assert_eq!(pull.connect(endpoint).unwrap().as_str(), endpoint);
    }
    assert_eq!(pull.bound(), bound);
    assert_eq!(pull.connected(), connected);
    pull.unbind(&bound[0]).unwrap();
    pull.disconnect(&connected[0]).unwrap();
    assert_eq!(pull.bound(), &bound[1..]);
    assert_eq!(pull.connected(), &connected[1..]);
}

fn a_disconnected_endpoint_can_be_connected_again(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    let endpoint = net.join(&pull, &[&push]);
    for round in 0..5u8 {
        push.send([round]).unwrap();
        assert_eq!(pull.recv_timeout(LONG).unwrap().first(), [round]);
        push.disconnect(&endpoint).unwrap();
        until("it is gone", || push.stats().connections == 0);
        push.connect(&endpoint).unwrap();
    }
}

fn after_unbind_nobody_gets_in(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let endpoint = net.fresh();
    pull.bind(&endpoint).unwrap();
    pull.unbind(&endpoint).unwrap();
    let push = Push::builder().context(&net.context).immediate(true).build().unwrap();
    let monitor = push.monitor();
    if net.is_stream() {
        until("the listener is closed", || {
            std::iter::from_fn(|| monitor.try_recv()).for_each(drop);
            push.connect(&endpoint).unwrap();
            let refused = loop {
                match monitor.recv_timeout(LONG).unwrap().kind {
                    EventKind::ConnectRetried(_) => break true,
                    EventKind::HandshakeSucceeded => break false,
                    _ => {}
                }
            };
            push.disconnect(&endpoint).unwrap();
            refused
        });
    } else {
        push.connect(&endpoint).unwrap();
    }
    assert_eq!(push.try_send("nobody").unwrap_err().reason, SendFailure::WouldBlock);
}

fn waiting_for_peers_says_how_many_there_are(net: &Net) {
    let (pull, push) = (Pull::in_context(&net.context), Push::in_context(&net.context));
    net.join(&pull, &[&push]);
    let error = pull.wait_for_peers(3, Duration::from_millis(10)).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(error.to_string().contains("1 of 3 peers"), "{error}");
    pull.wait_for_peers(0, Duration::ZERO).unwrap();
    pull.wait_for_peers(1, Duration::ZERO).unwrap();
}

fn connecting_to_nobody_is_no_error(net: &Net) {
    for kind in SocketKind::ALL {
        let socket = AnySocket::in_context(kind, &net.context);
        socket.connect(net.fresh()).unwrap();
        assert_eq!(socket.stats().connections, 0);
    }
}

fn what_a_wildcard_became_can_be_connected_to(net: &Net) {
    let wildcards: &[&str] = if net.fresh().starts_with("tcp") {
        &["tcp://127.0.0.1:*", "tcp://127.0.0.1:0", "tcp://*:*", "tcp://*:0", "tcp://0.0.0.0:*", "tcp://localhost:*"]
    } else {
        &["ipc://*"]
    };
    for wildcard in wildcards {
        let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
        let endpoint = pull.bind(wildcard).unwrap();
        assert!(!endpoint.as_str().ends_with([':', '*']) && !endpoint.as_str().ends_with(":0"), "{endpoint}");
        assert_eq!(pull.bound(), [endpoint.as_str()]);
        push.connect(&endpoint).unwrap();
        push.send("hello").unwrap();
        assert_eq!(pull.recv_timeout(LONG).unwrap(), "hello");
        pull.unbind(endpoint).unwrap();
    }
}

fn a_wildcard_endpoint_is_unbound_by_what_was_given_to_bind(net: &Net) {
    let pull = Pull::in_context(&net.context);
    if net.fresh().starts_with("ipc") {
        pull.bind("ipc://*").unwrap();
        pull.unbind("ipc://*").unwrap();
    } else {
        let endpoint = pull.bind("tcp://*:*").unwrap();
        let port = endpoint.as_str().rsplit(':').next().unwrap();
        pull.unbind(format!("tcp://*:{port}")).unwrap();
        pull.bind("tcp://*:*").unwrap();
        pull.unbind("tcp://*:*").unwrap();
        pull.bind("tcp://127.0.0.1:*").unwrap();
        pull.unbind("tcp://127.0.0.1:*").unwrap();
        pull.bind("tcp://localhost:0").unwrap();
        pull.unbind("tcp://localhost:0").unwrap();
    }
    assert!(pull.bound().is_empty());
}

fn connecting_again_gives_some_kinds_one_connection_and_others_two(net: &Net) {
    for (kind, peer, connections) in [
        (SocketKind::Dealer, SocketKind::Router, 1),
        (SocketKind::Sub, SocketKind::Pub, 1),
        (SocketKind::Pub, SocketKind::Sub, 1),
        (SocketKind::Req, SocketKind::Rep, 1),
        (SocketKind::Push, SocketKind::Pull, 2),
        (SocketKind::Pull, SocketKind::Push, 2),
        (SocketKind::Rep, SocketKind::Req, 2),
    ] {
        let (binder, connector) =
            (AnySocket::in_context(peer, &net.context), AnySocket::in_context(kind, &net.context));
        let endpoint = net.join(&binder, &[&connector]);
        connector.connect(&endpoint).unwrap();
        assert_eq!(connector.connected().len(), connections, "{kind}");
        binder.wait_for_peers(connections, LONG).unwrap();
    }
}

fn unbind_closes_the_connections_accepted_there(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let pushes = [Push::in_context(&net.context), Push::in_context(&net.context)];
    let endpoints = [net.join(&pull, &[&pushes[0]]), net.join(&pull, &[&pushes[1]])];
    pull.unbind(&endpoints[0]).unwrap();
    until("its connection is closed", || pull.stats().connections == 1 && pushes[0].stats().connections == 0);
    pushes[1].send("still there").unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "still there");
}

fn sockets_of_other_contexts_are_reached(net: &Net) {
    let (push, pull) = (Push::in_context(&wiremesh::Context::new()), Pull::in_context(&net.context));
    net.join(&pull, &[&push]);
    push.send("hello").unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "hello");
}

#[test]
fn one_socket_has_endpoints_of_every_transport() {
    let nets = ["tcp", "ipc"].map(Net::new);
    let context = &nets[0].context;
    let pull = Pull::in_context(context);
    let endpoints = [nets[0].fresh(), nets[0].fresh(), nets[1].fresh(), "inproc://one".into(), "inproc://two".into()];
    for endpoint in &endpoints {
        pull.bind(endpoint).unwrap();
    }
    let mut pushes = Vec::new();
    for endpoint in &endpoints {
        let push = Push::in_context(context);
        push.connect(endpoint).unwrap();
        pushes.push(push);
    }
    // And connects as well as it binds.
    for endpoint in [nets[0].fresh(), nets[1].fresh(), "inproc://three".into()] {
        let push = Push::in_context(context);
        push.bind(&endpoint).unwrap();
        pull.connect(&endpoint).unwrap();
        pushes.push(push);
    }
    pull.wait_for_peers(8, LONG).unwrap();
    for (number, push) in pushes.iter().enumerate() {
        push.send([number as u8]).unwrap();
    }
    let mut got: Vec<u8> = (0..8).map(|_| pull.recv_timeout(LONG).unwrap().first()[0]).collect();
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn one_sender_reaches_peers_of_every_transport_in_turn() {
    let nets = ["tcp", "ipc"].map(Net::new);
    let context = &nets[0].context;
    let push = Push::in_context(context);
    let pulls = [(); 3].map(|()| Pull::in_context(context));
    for (pull, endpoint) in pulls.iter().zip([nets[0].fresh(), nets[1].fresh(), "inproc://x".into()]) {
        pull.bind(&endpoint).unwrap();
        push.connect(&endpoint).unwrap();
    }
    push.wait_for_peers(3, LONG).unwrap();
    push.send_many((0..9u8).map(|number| [number])).unwrap();
    for pull in &pulls {
        let got: Vec<u8> = (0..3).map(|_| pull.recv_timeout(LONG).unwrap().first()[0]).collect();
        assert_eq!(got, [got[0], got[0] + 3, got[0] + 6]);
    }
}

#[test]
fn a_wrong_endpoint_is_an_error_that_says_what_is_wrong() {
    let socket = Pull::new();
    let too_long = format!("ipc://{}", "x".repeat(300));
    let far_too_long = format!("tcp://{}", "x".repeat(100_000));
    for (endpoint, bind, connect) in [
        ("", "`://`", "`://`"),
        ("127.0.0.1:5555", "`://`", "`://`"),
        ("tcp://", "nothing follows", "nothing follows"),
        ("tcp://127.0.0.1", "port", "port"),
        ("tcp://127.0.0.1:port", "port", "port"),
        ("tcp://127.0.0.1:65536", "65535", "65535"),
        ("tcp://127.0.0.1:-1", "port", "port"),
        ("tcp://:5555", "host", "host"),
        ("tcp://::1:5555", "brackets", "brackets"),
        ("tcp://[::1:5555", "']'", "']'"),
        ("tcp://1.2.3:5555", "IPv4", "IPv4"),
        ("ipc://@", "missing", "missing"),
        (&too_long, "107", "107"),
        (&far_too_long, "4096", "4096"),
    ] {
        for (outcome, reason) in [(socket.bind(endpoint), bind), (socket.connect(endpoint), connect)] {
            let error = outcome.unwrap_err();
            assert!(matches!(error, Error::InvalidEndpoint { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(reason), "{text}");
            assert!(text.len() < 1500, "an error does not repeat everything it was given");
        }
    }
    for (endpoint, reason) in [
        ("tcp://*:5555", "only be bound"),
        ("tcp://127.0.0.1:*", "only be bound"),
        ("tcp://127.0.0.1:0", "only be bound"),
        ("ipc://*", "only be bound"),
    ] {
        let error = socket.connect(endpoint).unwrap_err();
        assert!(error.to_string().contains(reason) && error.to_string().contains(endpoint), "{error}");
    }
    let error = socket.bind("tcp://127.0.0.1;127.0.0.1:5555").unwrap_err();
    assert!(error.to_string().contains("connect"), "{error}");
    assert!(socket.bound().is_empty() && socket.connected().is_empty());
}

#[test]
fn an_unknown_scheme_is_an_error_that_lists_the_known_ones() {
    let socket = Pull::new();
    for outcome in [socket.bind("carrier-pigeon://loft"), socket.connect("carrier-pigeon://loft")] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::UnknownScheme { .. }), "{error:?}");
        for part in ["carrier-pigeon", "tcp", "ipc", "inproc"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

#[test]
fn what_the_system_refuses_is_an_error_that_names_it() {
    let socket = Pull::new();
    // An address of a documentation network, which no interface has.
    for endpoint in ["tcp://203.0.113.7:5555", "ipc:///no/such/folder/socket"] {
        let error = socket.bind(endpoint).unwrap_err();
        assert!(matches!(error, Error::System { .. }), "{error:?}");
        assert!(error.to_string().contains(endpoint), "{error}");
    }
}

#[test]
fn ipv6_addresses_stand_in_brackets() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        eprintln!("SKIPPED: no IPv6 here ({error}), so nothing is known about its addresses");
        return;
    }
    let (push, pull) = (Push::new(), Pull::new());
    let endpoint = pull.bind("tcp://[::1]:*").unwrap();
    assert!(endpoint.as_str().starts_with("tcp://[::1]:"), "{endpoint}");
    push.connect(&endpoint).unwrap();
    push.send("hello").unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "hello");
}

#[test]
#[cfg(target_os = "linux")]
fn an_interface_name_stands_for_its_address() {
    let (push, pull) = (Push::new(), Pull::new());
    let endpoint = pull.bind("tcp://lo:*").unwrap();
    assert!(endpoint.as_str().starts_with("tcp://127.0.0.1:"), "{endpoint}");
    push.connect(&endpoint).unwrap();
    push.send("hello").unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "hello");
}

#[test]
fn a_name_is_looked_up() {
    let pull = Pull::new();
    // `localhost` may be ::1 first; only 127.0.0.1 listens.
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let port = endpoint.as_str().rsplit(':').next().unwrap();
    let push = Push::new();
    push.connect(format!("tcp://localhost:{port}")).unwrap();
    push.send("hello").unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "hello");
}

/// tcp, where a name is a list of addresses.
struct Names;

impl Transport for Names {
    fn scheme(&self) -> &str {
        "names"
    }

    fn check(&self, _: &str, _: Purpose) -> Result<(), AddressError> {
        Ok(())
    }

    fn resolve(&self, address: &str, _: &LinkOptions) -> io::Result<Vec<String>> {
        Ok(address.split(',').map(str::to_owned).collect())
    }

    fn bind(&self, address: &str, options: &LinkOptions) -> io::Result<Box<dyn Listener>> {
        Tcp.bind(address, options)
    }

    fn connect(&self, resolved: &str, options: &LinkOptions) -> io::Result<Box<dyn Stream>> {
        Tcp.connect(resolved, options)
    }
}

#[test]
fn every_address_of_a_name_is_tried() {
    let net = Net::new("tcp");
    net.context.register_transport(Arc::new(Names)).unwrap();
    for place in 0..3 {
        let addresses = [(); 3].map(|()| net.fresh().strip_prefix("tcp://").unwrap().to_owned());
        let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
        pull.bind(format!("tcp://{}", addresses[place])).unwrap();
        // Within one round: there is no second one.
        push.set(Setting::ReconnectInterval(None)).unwrap();
        push.connect(format!("names://{}", addresses.join(","))).unwrap();
        push.send("hello").unwrap();
        assert_eq!(pull.recv_timeout(LONG).unwrap(), "hello");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_source_address_is_where_the_connection_comes_from() {
    let pull = Pull::new();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    for source in ["127.0.0.9", "127.0.0.9:0", "127.0.0.9:*"] {
        let push = Push::new();
        push.connect(format!("tcp://{source};{}", endpoint.address())).unwrap();
        push.send("hello").unwrap();
        let message = pull.recv_timeout(LONG).unwrap();
        let sender = pull.peer(message.peer().unwrap()).unwrap();
        assert!(sender.address.starts_with("127.0.0.9:"), "{}", sender.address);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_abstract_ipc_name_needs_no_file() {
    let (push, pull) = (Push::new(), Pull::new());
    let name = format!("ipc://@wiremesh-test-abstract-{}", std::process::id());
    assert_eq!(pull.bind(&name).unwrap().as_str(), name);
    push.connect(&name).unwrap();
    push.send("hello").unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "hello");
}

/// A path nobody else has.
#[cfg(unix)]
fn path() -> PathBuf {
    PathBuf::from(Net::new("ipc").fresh().strip_prefix("ipc://").unwrap())
}

#[test]
#[cfg(unix)]
fn our_socket_file_is_removed_on_close_and_on_unbind() {
    let path = path();
    let endpoint = format!("ipc://{}", path.display());
    for unbind in [true, false] {
        let pull = Pull::new();
        pull.bind(&endpoint).unwrap();
        assert!(path.exists());
        if unbind {
            pull.unbind(&endpoint).unwrap();
        } else {
            drop(pull);
        }
        until("the file is gone", || !path.exists());
    }
}

#[test]
#[cfg(unix)]
fn a_dead_socket_file_is_replaced_and_any_other_file_is_left_alone() {
    let path = path();
    let endpoint = format!("ipc://{}", path.display());
    // Dropping a listener of the standard library leaves its file.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let pull = Pull::new();
    pull.bind(&endpoint).unwrap();
    pull.unbind(&endpoint).unwrap();
    until("the file is gone", || !path.exists());
    std::fs::write(&path, "precious").unwrap();
    let error = pull.bind(&endpoint).unwrap_err();
    assert!(matches!(error, Error::System { .. }), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    std::fs::remove_file(&path).unwrap();
}

#[test]
#[cfg(unix)]
fn a_live_listener_of_somebody_else_is_not_stolen() {
    let path = path();
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let pull = Pull::new();
    assert!(matches!(pull.bind(format!("ipc://{}", path.display())), Err(Error::AddressInUse { .. })));
    assert!(path.exists());
    drop(listener);
    std::fs::remove_file(&path).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = pull.bind(format!("tcp://{}", listener.local_addr().unwrap())).unwrap_err();
    assert!(matches!(error, Error::AddressInUse { .. }), "{error:?}");
}

#[test]
fn a_tcp_listener_that_is_bound_already_is_adopted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (push, pull) = (Push::new(), Pull::new());
    let endpoint = pull.adopt_tcp(listener).unwrap();
    assert_eq!(endpoint.as_str(), format!("tcp://{address}"));
    assert_eq!(pull.bound(), [endpoint.as_str()]);
    push.connect(&endpoint).unwrap();
    push.send("hello").unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "hello");
    pull.unbind(&endpoint).unwrap();
    until("it is closed", || TcpListener::bind(address).is_ok());
}

#[test]
#[cfg(unix)]
fn a_unix_listener_that_is_bound_already_is_adopted_and_its_file_stays() {
    let path = path();
    let (push, pull) = (Push::new(), Pull::new());
    let endpoint = pull.adopt_unix(std::os::unix::net::UnixListener::bind(&path).unwrap()).unwrap();
    assert_eq!(endpoint.as_str(), format!("ipc://{}", path.display()));
    push.connect(&endpoint).unwrap();
    push.send("hello").unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "hello");
    pull.unbind(&endpoint).unwrap();
    until("it is closed", || std::os::unix::net::UnixStream::connect(&path).is_err());
    assert!(path.exists());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_connector_to_an_inproc_binder_of_the_wrong_kind_is_refused() {
    let net = Net::new("inproc");
    let push = Push::in_context(&net.context);
    let endpoint = net.fresh();
    push.bind(&endpoint).unwrap();
    let publisher = Pub::in_context(&net.context);
    let error = publisher.connect(&endpoint).unwrap_err();
    assert!(matches!(error, Error::InvalidEndpoint { .. }), "{error:?}");
    assert!(error.to_string().contains("kind"), "{error}");
    assert!(publisher.connected().is_empty());
    assert_eq!((push.stats().connections, publisher.stats().connections), (0, 0));
}

#[test]
fn an_inproc_connector_that_waited_for_the_wrong_kind_is_told_by_an_event() {
    let net = Net::new("inproc");
    let (sub, push, pull) =
        (Sub::in_context(&net.context), Push::in_context(&net.context), Pull::in_context(&net.context));
    let endpoint = net.fresh();
    let monitor = sub.monitor();
    sub.connect(&endpoint).unwrap();
    push.connect(&endpoint).unwrap();
    pull.bind(&endpoint).unwrap();
    let event = monitor.recv_timeout(LONG).unwrap();
    assert!(matches!(event.kind, EventKind::HandshakeFailed(Cause::Refused(_))), "{event:?}");
    push.send("the right kind").unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "the right kind");
    assert_eq!(pull.stats().connections, 1);
}

#[test]
fn an_inproc_name_belongs_to_its_context() {
    let nets = [Net::new("inproc"), Net::new("inproc")];
    let pulls = nets.each_ref().map(|net| Pull::in_context(&net.context));
    for pull in &pulls {
        pull.bind("inproc://same").unwrap();
    }
    for (number, net) in nets.iter().enumerate() {
        let push = Push::in_context(&net.context);
        push.connect("inproc://same").unwrap();
        push.send([number as u8]).unwrap();
        assert_eq!(pulls[number].recv_timeout(LONG).unwrap().first(), [number as u8]);
    }
}

#[test]
fn an_inproc_binder_keeps_its_peers_when_it_unbinds() {
    let net = Net::new("inproc");
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    let endpoint = net.join(&pull, &[&push]);
    pull.unbind(&endpoint).unwrap();
    push.send("hello").unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "hello");
}

#[test]
fn several_connectors_wait_for_one_inproc_name() {
    let net = Net::new("inproc");
    let endpoint = net.fresh();
    let dealers: Vec<Dealer> = (0..10).map(|_| Dealer::in_context(&net.context)).collect();
    for (number, dealer) in dealers.iter().enumerate() {
        dealer.connect(&endpoint).unwrap();
        dealer.send([number as u8]).unwrap();
    }
    // One gives up before.
    dealers[3].disconnect(&endpoint).unwrap();
    let router = Router::in_context(&net.context);
    router.bind(&endpoint).unwrap();
    let mut got: Vec<u8> = (0..9).map(|_| router.recv_timeout(LONG).unwrap().1.first()[0]).collect();
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    assert_eq!(router.stats().connections, 9);
}

#[test]
fn a_socket_may_connect_to_itself_within_the_process() {
    let net = Net::new("inproc");
    let dealer = Dealer::in_context(&net.context);
    let endpoint = net.fresh();
    dealer.bind(&endpoint).unwrap();
    dealer.connect(&endpoint).unwrap();
    dealer.send("to myself").unwrap();
    assert_eq!(dealer.recv_timeout(LONG).unwrap(), "to myself");
}

#[test]
fn a_request_crosses_from_one_endpoint_to_another() {
    // Every transport on both sides of a REP that binds two endpoints at once.
    let nets = ["tcp", "ipc"].map(Net::new);
    let rep = Rep::in_context(&nets[0].context);
    let endpoints = nets.each_ref().map(Net::fresh);
    for endpoint in &endpoints {
        rep.bind(endpoint).unwrap();
    }
    for endpoint in &endpoints {
        let req = Req::new();
        req.connect(endpoint).unwrap();
        req.send("question").unwrap();
        let question = rep.recv_timeout(LONG).unwrap();
        assert_eq!(rep.peer(question.peer().unwrap()).unwrap().endpoint, *endpoint);
        rep.send("answer").unwrap();
        assert_eq!(req.recv_timeout(LONG).unwrap(), "answer");
    }
}
