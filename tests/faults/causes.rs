//! Attempts that failed without a word: every cause is told before the next attempt, kept with the endpoint and its
//! peer, and named by the calls that waited in vain.

use crate::support::{Nobody, Over, PATIENCE, eventually};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use wiremesh::transports::{AddressError, LinkOptions, Listener, Purpose, Stream, Transport};
use wiremesh::{
    Cause, Context, Dealer, EndpointState, Error, EventKind, Missing, Monitor, Pub, Pull, Push, Rep, Req, RequestError,
    Router, SendFailure, Socket, Sub,
};

/// No name of it can be looked up.
struct Unknown;

impl Transport for Unknown {
    fn scheme(&self) -> &str {
        "unknown"
    }

    fn check(&self, _: &str, _: Purpose) -> Result<(), AddressError> {
        Ok(())
    }

    fn resolve(&self, address: &str, _: &LinkOptions) -> io::Result<Vec<String>> {
        match address {
            "empty" => Ok(Vec::new()),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, format!("the host {address:?} was not found"))),
        }
    }

    fn bind(&self, _: &str, _: &LinkOptions) -> io::Result<Box<dyn Listener>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect(&self, _: &str, _: &LinkOptions) -> io::Result<Box<dyn Stream>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The causes told before each of the next three retries.
fn causes(monitor: &Monitor) -> Vec<String> {
    let (mut told, mut retries) = (Vec::new(), 0);
    let mut last = None;
    while retries < 3 {
        let event = monitor.recv_timeout(PATIENCE).expect("it tries again");
        match event.kind {
            EventKind::ConnectRetried(_) => {
                told.push(last.take().expect("a cause before the retry"));
                retries += 1;
            }
            EventKind::Closed(cause) | EventKind::HandshakeFailed(cause) => last = Some(cause.to_string()),
            _ => {}
        }
    }
    told
}

#[test]
fn every_failed_attempt_is_told_with_its_cause_before_the_retry() {
    let nobody = Nobody::new();
    let directory = std::env::temp_dir();
    for (endpoint, cause) in [
        (nobody.endpoint.clone(), "refused"),
        (Over::Ipc.fixed(), "No such file"),
        (format!("ipc://{}", directory.display()), ""),
        ("unknown://nowhere.invalid".to_owned(), "the host \"nowhere.invalid\" was not found"),
        ("unknown://empty".to_owned(), "the name has no address"),
        ("tcp://nosuchinterface0;127.0.0.1:1".to_owned(), "nosuchinterface0"),
    ] {
        let context = Context::new();
        context.register_transport(Arc::new(Unknown)).unwrap();
        let interval = Duration::from_millis(1);
        let push = Push::builder().context(&context).reconnect_interval(interval).reconnect_max(interval);
        let push = push.build().unwrap();
        let monitor = push.monitor();
        push.connect(&endpoint).unwrap();
        for told in causes(&monitor) {
            assert!(told.contains(cause), "{endpoint}: {told}");
        }
        let info = &push.endpoints()[0];
        assert!(info.attempts >= 3 && info.last_error.is_some(), "{info:?}");
        let peer = &push.peers()[0];
        assert!(!peer.connected && peer.attempts >= 3, "{peer:?}");
        assert!(peer.last_error.as_ref().is_some_and(|told| told.to_string().contains(cause)), "{peer:?}");
    }
}

/// A socket that has failed to reach anybody at least twice.
fn tried<S: std::ops::Deref<Target = Socket>>(socket: S, endpoint: &str) -> S {
    socket.connect(endpoint).unwrap();
    eventually(PATIENCE, "attempts fail", || socket.endpoints()[0].attempts >= 2);
    socket
}

fn is_named(text: &str, nobody: &Nobody) {
    let address = nobody.endpoint.strip_prefix("tcp://").unwrap();
    let (_, rest) = text.split_once(&format!("0 of 1 peers: connection refused by {address}, ")).expect(text);
    assert!(rest.contains(" attempts"), "{text}");
}

#[test]
fn calls_that_wait_for_a_peer_in_vain_say_what_keeps_it_away() {
    let (nobody, brief, interval) = (Nobody::new(), Duration::from_millis(20), Duration::from_millis(1));
    let context = Context::builder().drop_wait(Some(Duration::ZERO)).build();
    let push = Push::builder().context(&context).immediate(true).reconnect_interval(interval).build().unwrap();
    let push = tried(push, &nobody.endpoint);
    let error = push.wait_for_peers(1, brief).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }));
    is_named(&error.to_string(), &nobody);
    is_named(&push.send_timeout("x", brief).unwrap_err().to_string(), &nobody);

    let req = Req::builder().context(&context).reconnect_interval(interval).build().unwrap();
    let req = tried(req, &nobody.endpoint);
    let error = req.request("x", brief).unwrap_err();
    assert!(error.is_timed_out());
    is_named(&error.to_string(), &nobody);

    let dealer = Dealer::builder().context(&context).send_mark(1u32).reconnect_interval(interval).build().unwrap();
    let dealer = tried(dealer, &nobody.endpoint);
    dealer.send("x").unwrap();
    is_named(&dealer.send_timeout("x", brief).unwrap_err().to_string(), &nobody);

    let publisher = Pub::in_context(&context);
    publisher.bind("tcp://127.0.0.1:*").unwrap();
    let text = publisher.wait_for_peers(1, brief).unwrap_err().to_string();
    assert!(text.contains("0 of 1 peers: nobody has connected to tcp://127.0.0.1:"), "{text}");
    let text = publisher.wait_for_subscribers(1, brief).unwrap_err().to_string();
    assert!(text.contains("nobody has connected"), "{text}");

    let lonely = Push::in_context(&context);
    let text = lonely.send_timeout("x", brief).unwrap_err().to_string();
    assert!(text.contains("the socket has no endpoint"), "{text}");
    let text = lonely.wait_for_peers(1, brief).unwrap_err().to_string();
    assert!(text.contains("0 of 1 peers: the socket has no endpoint"), "{text}");
    lonely.connect("inproc://unbound").unwrap();
    let text = lonely.wait_for_peers(1, brief).unwrap_err().to_string();
    assert!(text.contains("nobody has bound inproc://unbound"), "{text}");
}

#[test]
fn endpoints_are_listed_with_their_state() {
    for over in Over::ALL {
        let (context, other) = (Context::new(), Context::new());
        let other = if over == Over::Inproc { &context } else { &other };
        let pull = Pull::in_context(other);
        let endpoint = pull.bind(over.fixed()).unwrap();
        let push = Push::builder().context(&context).reconnect_interval(Duration::from_millis(5)).build().unwrap();
        push.connect(&endpoint).unwrap();
        push.wait_for_peers(1, PATIENCE).unwrap();
        pull.wait_for_peers(1, PATIENCE).unwrap();
        let state = |socket: &Socket| socket.endpoints()[0].state;
        assert_eq!((state(&push), state(&pull)), (EndpointState::Connected, EndpointState::Listening), "{over:?}");
        assert_eq!((push.endpoints()[0].connections, pull.endpoints()[0].connections), (1, 1));
        assert_eq!(push.endpoints()[0].endpoint, endpoint.as_str());
        drop(pull);
        eventually(PATIENCE, "it is not connected any more", || state(&push) != EndpointState::Connected);
        assert_eq!(push.connected(), [endpoint.as_str()], "it is an endpoint all the same");
        if over == Over::Inproc {
            continue;
        }
        eventually(PATIENCE, "the cause is known", || push.endpoints()[0].last_error.is_some());
        let again = Pull::in_context(other);
        eventually(PATIENCE, "the address is free", || again.bind(&endpoint).is_ok());
        eventually(PATIENCE, "it is connected again", || state(&push) == EndpointState::Connected);
        assert!(push.endpoints()[0].last_error.is_none() && push.endpoints()[0].attempts == 0);
        push.disconnect(&endpoint).unwrap();
        assert!(push.endpoints().is_empty());
    }
}

#[test]
fn a_handshake_that_fails_is_an_attempt_that_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let push = Push::builder().context(&Context::new()).reconnect_interval(Duration::from_millis(1)).build().unwrap();
    push.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    (0..3).for_each(|_| drop(listener.accept().unwrap()));
    eventually(PATIENCE, "they are counted", || push.endpoints()[0].attempts >= 2);
    let text = push.wait_for_peers(1, Duration::from_millis(1)).unwrap_err().to_string();
    assert!(text.contains("0 of 1 peers: ") && text.contains("127.0.0.1:"), "{text}");
    assert!(!matches!(push.endpoints()[0].last_error, None | Some(Cause::Local)));
}

#[test]
fn who_waits_for_peers_that_were_all_refused_learns_why() {
    let brief = Duration::from_millis(1);
    let pull = Pull::in_context(&Context::new());
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let sub = Sub::builder().context(&Context::new()).reconnect_interval(Duration::from_millis(5)).build().unwrap();
    sub.connect(&endpoint).unwrap();
    eventually(PATIENCE, "refusals are counted", || pull.endpoints()[0].attempts >= 2);
    let info = &pull.endpoints()[0];
    assert_eq!(info.state, EndpointState::Listening);
    assert!(info.to_string().contains("a PULL socket cannot talk to a SUB socket"), "{info}");
    let text = pull.wait_for_peers(1, brief).unwrap_err().to_string();
    let (_, why) = text.split_once("0 of 1 peers: ").expect(&text);
    assert!(why.contains(&format!("no peer was accepted at {endpoint}")), "{text}");
    assert!(why.contains("a PULL socket cannot talk to a SUB socket") && why.contains(" attempts"), "{text}");

    let push = Push::in_context(&Context::new());
    push.connect(&endpoint).unwrap();
    drop(sub);
    eventually(PATIENCE, "a success is the last that is known", || {
        pull.endpoints()[0].last_error.is_none() && pull.endpoints()[0].attempts == 0
    });
    drop(push);
    eventually(PATIENCE, "it is gone", || pull.endpoints()[0].connections == 0);
    let text = pull.wait_for_peers(1, brief).unwrap_err().to_string();
    assert!(text.contains("nobody is connected to tcp://127.0.0.1:") && text.ends_with(" any more"), "{text}");
}

#[test]
fn a_flush_in_vain_says_what_keeps_the_peer_away() {
    let (nobody, brief, interval) = (Nobody::new(), Duration::from_millis(20), Duration::from_millis(1));
    let context = Context::builder().drop_wait(Some(Duration::ZERO)).build();
    let push = Push::builder().context(&context).reconnect_interval(interval).build().unwrap();
    let push = tried(push, &nobody.endpoint);
    push.send("x").unwrap();
    let text = push.flush(brief).unwrap_err().to_string();
    assert!(text.contains("1 message (3 octets on the wire) is still queued"), "{text}");
    is_named(&text, &nobody);
}

#[test]
fn a_request_whose_server_went_away_says_so() {
    // It was sent, also where a later attempt was not.
    for (over, retries) in [(Over::Tcp, 0), (Over::Ipc, 1)] {
        let rep = Rep::in_context(&Context::new());
        let endpoint = rep.bind(over.wildcard()).unwrap();
        let req = Req::builder().context(&Context::new()).reconnect_interval(Duration::from_millis(5)).build().unwrap();
        req.connect(&endpoint).unwrap();
        req.wait_for_peers(1, PATIENCE).unwrap();
        let server = std::thread::spawn(move || assert_eq!(rep.recv_timeout(PATIENCE).unwrap(), "anybody?"));
        let error = req.request_with_retries("anybody?", Duration::from_secs(2), retries).unwrap_err();
        server.join().unwrap();
        assert!(matches!(error, RequestError::ServerGone(_)) && error.is_timed_out(), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("no reply in time: 0 of 1 peers: "), "{text}");
        assert!(text.contains(endpoint.address()), "{text}");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
    }
}

#[test]
fn an_ipc_path_that_is_no_socket_is_said_to_be_none() {
    let folder = std::env::temp_dir().join(format!("wiremesh-causes-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("a file");
    std::fs::write(&file, "text").unwrap();
    for (path, what) in [(&file, "a file"), (&folder, "a directory")] {
        let push = tried(Push::in_context(&Context::new()), &format!("ipc://{}", path.display()));
        let error = push.wait_for_peers(1, Duration::from_millis(1)).unwrap_err().to_string();
        assert!(error.contains(&format!("there is {what} that is not a socket")), "{error}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// An id may look like what is said of missing peers.
#[test]
fn whether_nobody_was_there_is_known_without_reading_what_is_said_of_it() {
    let brief = Duration::from_millis(1);
    let context = Context::builder().byte_budget(Some(1 << 20)).drop_wait(Some(Duration::ZERO)).build();
    let (push, nobody) = (Push::in_context(&context), Nobody::new());
    let alone = push.send_timeout("x", brief).unwrap_err();
    assert!(alone.missing.as_ref().is_some_and(Missing::is_every_peer), "{alone}");
    assert!(alone.to_string().starts_with("message not sent: no peer was there in time (0 of 1 peers: "), "{alone}");
    let reserved = push.reserve_timeout(brief).unwrap_err();
    assert_eq!(reserved.missing, alone.missing);

    push.connect(&nobody.endpoint).unwrap();
    push.send(vec![0; 1 << 20]).unwrap();
    let full = push.try_send("x").unwrap_err();
    assert!(full.missing.as_ref().is_some_and(|missing| !missing.is_every_peer()), "{full}");
    let both = push.send_timeout("x", brief).unwrap_err();
    let missing = both.missing.as_ref().unwrap();
    assert!(
        missing.is_every_peer() && missing.ends_with("; the sending half of the context's `byte_budget` is used up")
    );

    let router = Router::builder().context(&context).mandatory(true).build().unwrap();
    let unroutable = router.send_to("0 of 1", "x").unwrap_err();
    assert_eq!(unroutable.reason, SendFailure::Unroutable);
    assert!(unroutable.missing.is_some_and(|missing| !missing.is_every_peer() && missing.to_string() == "`0 of 1`"));
}
