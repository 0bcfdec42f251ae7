//! Texts that said nothing, said it twice, or said what is not so.

use crate::support::child::Process;
use crate::support::{Nobody, Over, PATIENCE, eventually};
use std::error::Error as _;
use std::path::Path;
use std::time::Duration;
use wiremesh::{
    AnySocket, Cause, Context, Dealer, EndpointState, Error, Event, EventKind, Pair, Pub, Pull, Push, RecvError,
    RecvIntoError, Rep, Req, RequestError, SendFailure, Setting, SocketKind, Sub, XPub,
};

#[test]
fn an_ipc_path_that_is_no_socket_is_not_said_to_be_in_use() {
    let folder = std::env::temp_dir().join(format!("wiremesh-texts-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder");
    let file = folder.join("file");
    std::fs::write(&file, "precious").expect("a file");
    let link = folder.join("link");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    let context = Context::new();
    let pull = Pull::in_context(&context);
    for (path, what) in [(&folder, "a directory"), (&file, "a file"), (&link, "a symbolic link")] {
        let error = pull.bind(format!("ipc://{}", path.display())).expect_err("it is no socket");
        let text = error.to_string();
        assert!(matches!(error, Error::System { .. }), "{error:?}");
        assert!(text.contains(what) && !text.contains("in use") && text.contains("left alone"), "{text}");
    }
    let socket = format!("ipc://{}", folder.join("socket").display());
    let other = Pull::in_context(&context);
    other.bind(&socket).expect("bound");
    assert!(matches!(pull.bind(&socket), Err(Error::AddressInUse { .. })), "that one is");
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "precious");
    drop((pull, other, context));
    std::fs::remove_dir_all(&folder).expect("it is ours");
}

#[test]
fn an_ipc_path_with_a_socket_for_datagrams_is_said_to_have_no_stream_socket() {
    let folder = std::env::temp_dir().join(format!("wiremesh-texts-datagrams-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder");
    let path = folder.join("datagrams");
    let datagrams = std::os::unix::net::UnixDatagram::bind(&path).expect("a socket");
    let endpoint = format!("ipc://{}", path.display());
    let context = Context::builder().drop_wait(Some(Duration::ZERO)).build();
    let error = Pull::in_context(&context).bind(&endpoint).expect_err("it is somebody else's");
    let text = error.to_string();
    assert!(matches!(error, Error::System { .. }), "{error:?}");
    assert!(text.contains("not a stream socket") && text.contains("left alone") && !text.contains("in use"), "{text}");
    let push = Push::in_context(&context);
    push.connect(&endpoint).expect("a good endpoint");
    eventually(PATIENCE, "connecting has failed", || {
        push.endpoints().iter().any(|endpoint| endpoint.last_error.is_some())
    });
    let text = push.wait_for_peers(1, Duration::from_millis(1)).expect_err("nobody can be there").to_string();
    assert!(text.contains("not a stream socket") && !text.contains("Protocol"), "{text}");
    assert!(path.exists(), "it is left alone");
    drop((push, context, datagrams));
    std::fs::remove_dir_all(&folder).expect("it is ours");
}

#[test]
fn a_send_that_does_not_wait_says_that_there_is_no_endpoint_and_what_makes_one() {
    let context = Context::builder().drop_wait(Some(Duration::ZERO)).build();
    for kind in [SocketKind::Push, SocketKind::Dealer, SocketKind::Pair, SocketKind::Req] {
        let socket = AnySocket::in_context(kind, &context);
        let texts = || {
            let unsent = socket.try_send("x").expect_err("there is no peer").to_string();
            [unsent, socket.try_reserve().expect_err("nor room").to_string()]
        };
        for text in texts() {
            assert!(text.contains("the socket has no endpoint"), "{kind}: {text}");
            assert!(text.contains("`bind` or `connect`") && !text.contains("has room"), "{kind}: {text}");
        }
        socket.bind("tcp://127.0.0.1:*").expect("bound");
        for text in texts() {
            assert!(
                text.contains("no peer has room now, or there is none") && !text.contains("endpoint"),
                "{kind}: {text}"
            );
        }
    }
}

#[test]
fn addresses_that_many_try_first_are_refused_with_what_helps() {
    let context = Context::new();
    let pull = Pull::in_context(&context);
    let refused = |endpoint: &str| pull.bind(endpoint).expect_err("it is no endpoint of ours").to_string();
    for endpoint in ["tcp://*", "tcp://127.0.0.1", "tcp://5555"] {
        let text = refused(endpoint);
        assert!(text.contains("the port is missing") && text.contains("binds a free one"), "{text}");
    }
    let text = refused("ipc://~/wiremesh.sock");
    assert!(text.contains("only a shell takes \"~\" for the home folder"), "{text}");
    // An address that the RFC keeps for documentation is none of this host.
    let error = pull.bind("tcp://192.0.2.1:5555").expect_err("it is none of ours");
    let text = error.to_string();
    assert!(text.contains("no interface of this host has the address 192.0.2.1; \"*\" stands for all"), "{text}");
    assert!(matches!(error, Error::System { source, .. } if source.kind() == std::io::ErrorKind::AddrNotAvailable));
}

#[test]
fn a_routing_id_that_is_in_use_is_named_where_another_peer_is_to_get_it() {
    let context = Context::builder().drop_wait(Some(Duration::ZERO)).build();
    let router = wiremesh::Router::in_context(&context);
    router.connect_as("tcp://127.0.0.1:1", "worker").expect("nobody has to be there");
    let text = router.connect_as("tcp://127.0.0.1:2", "worker").expect_err("it is in use").to_string();
    assert!(text.ends_with("the routing id is in use: `worker`"), "{text}");
}

#[test]
fn an_ipc_path_in_a_folder_that_is_missing_is_told_with_the_folder_and_what_helps() {
    let folder = std::env::temp_dir().join(format!("wiremesh-no-folder-{}", std::process::id()));
    let pull = Pull::in_context(&Context::new());
    let monitor = pull.monitor();
    let endpoint = format!("ipc://{}", folder.join("socket").display());
    let error = pull.bind(&endpoint).expect_err("no such folder");
    let told = format!("binding `{endpoint}` failed: there is no folder {folder:?}; make it first");
    assert_eq!(error.to_string(), told);
    assert!(matches!(error, Error::System { source, .. } if source.kind() == std::io::ErrorKind::NotFound));
    assert!(monitor.recv().expect("an event").to_string().contains("there is no folder"));
    std::fs::create_dir(&folder).expect("it helps");
    pull.bind(&endpoint).expect("bound");
    drop(pull);
    std::fs::remove_dir_all(&folder).expect("it is ours");
}

/// What a program prints that goes through the causes of an error.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[test]
fn no_error_says_its_cause_twice() {
    let context = Context::new();
    let (req, rep) = (Req::in_context(&context), Rep::in_context(&context));
    rep.bind("inproc://silent").expect("bound");
    req.connect("inproc://silent").expect("connected");
    let unanswered = req.request("anybody?", Duration::from_millis(1)).expect_err("nobody answers");
    assert!(matches!(unanswered, RequestError::Receive(RecvError::TimedOut)));
    let pull = Pull::in_context(&context);
    let nothing = pull.try_recv_into(&mut []).expect_err("nothing is there");
    assert!(matches!(nothing, RecvIntoError::Receive(_)));
    let unsent = Push::in_context(&context).try_send("x").expect_err("nobody is there");
    assert_eq!(unsent.reason, SendFailure::WouldBlock);
    let refused = pull.bind("ipc:///no/such/folder/at/all").expect_err("no such folder");
    assert!(refused.source().is_none(), "it stands in the text");
    let not_text = wiremesh::Message::from([0xff]).to_str().expect_err("no text");
    let unsent_request = Req::in_context(&context).request("x", Duration::ZERO).expect_err("nobody is there");
    let io = std::io::Error::from(pull.try_recv().expect_err("nothing is there"));
    let errors: [&(dyn std::error::Error + 'static); 7] =
        [&unanswered, &nothing, &unsent, &refused, &not_text, &unsent_request, &io];
    for error in errors {
        let text = chain(error);
        let parts: Vec<&str> = text.split(": ").collect();
        for (place, part) in parts.iter().enumerate() {
            assert!(!parts[..place].contains(part), "{text:?} says {part:?} twice");
        }
    }
}

#[test]
fn errors_name_options_as_they_are_called() {
    let context = Context::new();
    let pull = Pull::builder().context(&context).tcp_congestion_control("no-such").build().expect("a name");
    let error = pull.bind("tcp://127.0.0.1:*").expect_err("no such algorithm").to_string();
    assert!(error.contains("tcp_congestion_control"), "{error}");
    // Whatever option a transport names in an error is one.
    let known: Vec<&str> = wiremesh::options::table().iter().map(|row| row.name).collect();
    for file in ["tcp/setup.rs", "socket/setup.rs"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("transports/src").join(file);
        let source = std::fs::read_to_string(path).expect("it is readable");
        for named in source.split("named(\"").skip(1) {
            let name = named.split('"').next().unwrap_or_default();
            assert!(known.contains(&name), "{file} says `{name}`");
        }
    }
}

#[test]
fn a_value_that_is_too_long_is_not_repeated() {
    let context = Context::new();
    let error = Dealer::builder().routing_id("x".repeat(300)).build().expect_err("too long").to_string();
    assert!(error.len() < 160 && error.contains("300 octets") && error.contains("up to 255 octets"), "{error}");
    let dealer = Dealer::in_context(&context);
    let error = dealer.set(Setting::routing_id(vec![b'y'; 100_000])).expect_err("too long").to_string();
    assert!(error.len() < 160 && error.contains("100000 octets"), "{error}");
    let metadata = vec![("X-".to_owned() + &"n".repeat(500), bytes::Bytes::from_static(b"v"))];
    let error = dealer.set(Setting::Metadata(metadata)).expect_err("too long").to_string();
    assert!(error.len() < 300 && !error.contains(&"n".repeat(100)), "{error}");
}

#[test]
fn a_long_endpoint_is_not_repeated_in_full() {
    let context = Context::builder().drop_wait(Some(Duration::ZERO)).build();
    let (push, other) = (Push::in_context(&context), Push::in_context(&context));
    let name = |letter: &str| format!("inproc://{}", letter.repeat(4000));
    let brief = Duration::from_millis(1);
    push.connect(name("c")).expect("nobody is bound yet");
    other.bind(name("b")).expect("bound");
    let digits = "1".repeat(4000);
    for text in [
        push.connect(name("too long")).expect_err("too long").to_string(),
        push.connect(format!("tcp://{digits}:1")).expect_err("no address").to_string(),
        push.connect(format!("tcp://host:{digits}")).expect_err("no port").to_string(),
        push.connect(format!("tcp://[{digits}]:1")).expect_err("no address").to_string(),
        push.connect(format!("tcp://[::1]{digits}")).expect_err("no port").to_string(),
        push.connect(format!("ipc://{digits}")).expect_err("too long a path").to_string(),
        push.connect(format!("udp://{digits}")).expect_err("no such scheme").to_string(),
        push.bind(name("b")).expect_err("it is taken").to_string(),
        push.unbind(name("c")).expect_err("it is not bound").to_string(),
        push.disconnect("inproc://d").expect_err("it is not connected").to_string(),
        push.wait_for_peers(1, brief).expect_err("nobody is bound").to_string(),
        other.wait_for_peers(1, brief).expect_err("nobody connects").to_string(),
    ] {
        assert!(text.contains('…') && text.len() < 400, "{text}");
    }
    let error = push.bind(name("b")).expect_err("it is taken");
    assert!(matches!(error, Error::AddressInUse { endpoint } if endpoint == name("b")), "a program gets all of it");
}

#[test]
fn what_cannot_be_seen_in_an_endpoint_is_told_escaped() {
    let push = Push::in_context(&Context::new());
    for (endpoint, shown) in [
        ("tcp://127.0.0.1:5555\n", "`tcp://127.0.0.1:5555\\n`"),
        ("ipc://a\0b", "`ipc://a\\u{0}b`"),
        ("udp://\u{1b}[31m", "`udp://\\u{1b}[31m`"),
    ] {
        let text = push.connect(endpoint).expect_err("it is none").to_string();
        assert!(text.contains(shown) && !text.contains(char::is_control), "{text:?}");
        let text = push.disconnect(endpoint).expect_err("it is not connected").to_string();
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}

#[test]
fn an_endpoint_a_socket_does_not_have_is_told_in_words() {
    let context = Context::new();
    let pull = Pull::in_context(&context);
    let error = pull.unbind("tcp://127.0.0.1:1").expect_err("it is not bound").to_string();
    assert_eq!(error, "the socket is not bound to `tcp://127.0.0.1:1`; it has none");
    let error = pull.disconnect("inproc://x").expect_err("it is not connected").to_string();
    assert_eq!(error, "the socket is not connected to `inproc://x`; it has none");
    pull.bind("inproc://here").expect("bound");
    let error = pull.unbind("inproc://there").expect_err("it is not bound").to_string();
    assert_eq!(error, "the socket is not bound to `inproc://there`; it has inproc://here");
}

#[test]
fn who_unbinds_what_is_connected_or_disconnects_what_is_bound_is_told_the_other_call() {
    let pull = Pull::in_context(&Context::new());
    let bound = pull.bind("tcp://127.0.0.1:*").expect("bound");
    pull.connect("tcp://127.0.0.1:1").expect("nobody has to be there");
    let text = pull.unbind("tcp://127.0.0.1:1").expect_err("it is connected").to_string();
    assert!(text.ends_with("it is connected to that one: call `disconnect`"), "{text}");
    let text = pull.disconnect(&bound).expect_err("it is bound").to_string();
    assert!(text.ends_with("it is bound to that one: call `unbind`"), "{text}");
    let text = pull.unbind("tcp://127.0.0.1:2").expect_err("it is neither").to_string();
    assert!(!text.contains("call"), "{text}");
}

#[test]
fn events_have_no_empty_parts() {
    let context = Context::new();
    for over in Over::ALL {
        let (push, pull) = (Push::in_context(&context), Pull::in_context(&context));
        let monitors = [push.monitor(), pull.monitor()];
        let endpoint = pull.bind(over.wildcard()).expect("bound");
        push.connect(&endpoint).expect("connected");
        pull.wait_for_peers(1, PATIENCE).expect("it comes");
        drop((push, pull));
        for event in monitors.iter().flat_map(wiremesh::Monitor::iter) {
            let text = event.to_string();
            assert!(!text.contains("()") && !text.starts_with(':') && !text.ends_with(": "), "{text:?}");
        }
    }
}

#[test]
fn who_connects_to_a_kind_that_does_not_fit_is_told_which_and_tries_again() {
    let context = Context::new();
    for over in Over::STREAMS {
        let (publisher, push) = (Pub::in_context(&context), Push::in_context(&context));
        let monitors = [publisher.monitor(), push.monitor()];
        let endpoint = publisher.bind(over.wildcard()).expect("bound");
        push.connect(&endpoint).expect("connected");
        for monitor in &monitors {
            let failed = |event: &Event| matches!(event.kind, EventKind::HandshakeFailed(_));
            let event = monitor.iter().find(failed).expect("the monitor is told").to_string();
            assert!(event.contains("PUB") && event.contains("PUSH"), "{over:?}: {event}");
        }
        // As the guide says.
        let again = |event: &Event| matches!(event.kind, EventKind::ConnectRetried(_));
        assert!(monitors[1].iter().any(|event| again(&event)));
    }
    let guide = include_str!("../../src/guide/failures.md");
    let row = guide.lines().find(|line| line.starts_with("| a peer of a kind that does not fit")).expect("a row");
    assert!(row.contains("tries again"), "{row}");
}

#[test]
fn over_inproc_a_kind_that_does_not_fit_is_an_error_that_names_both() {
    let context = Context::new();
    let (publisher, push) = (Pub::in_context(&context), Push::in_context(&context));
    let monitor = publisher.monitor();
    publisher.bind("inproc://news").expect("bound");
    let error = push.connect("inproc://news").expect_err("it does not fit").to_string();
    assert!(error.contains("PUSH") && error.contains("PUB"), "{error}");
    let event = monitor.iter().nth(1).expect("the monitor is told").to_string();
    assert!(event.contains("PUSH") && event.contains("PUB"), "{event}");
}

#[test]
fn a_publisher_waits_for_those_who_want_a_topic() {
    let context = Context::new();
    for over in Over::ALL {
        let publisher = Pub::in_context(&context);
        let endpoint = publisher.bind(over.wildcard()).expect("bound");
        let subscribers = ["weather.rome", "weather.", "sports."].map(|topic| {
            let subscriber = Sub::in_context(&context);
            subscriber.subscribe("other").expect("accepted");
            subscriber.connect(&endpoint).expect("connected");
            (subscriber, topic)
        });
        publisher.wait_for_subscribers(3, PATIENCE).expect("they want something");
        let error = publisher.wait_for_subscribers_to("weather.rome.today", 1, Duration::from_millis(1));
        let error = error.expect_err("nobody wants that").to_string();
        assert!(error.contains("0 of 1") && error.contains("weather.rome.today"), "{error}");
        let waiting = std::thread::spawn(move || {
            publisher.wait_for_subscribers_to("weather.rome.today", 2, PATIENCE).expect("two want it");
            publisher.wait_for_subscribers_to("sports.", 1, PATIENCE).expect("one wants it");
            publisher.send("weather.rome.today: sunny").expect("a publisher never waits");
            publisher
        });
        for (subscriber, topic) in &subscribers {
            subscriber.subscribe(topic).expect("accepted");
        }
        let publisher = waiting.join().expect("no panic");
        for (subscriber, _) in &subscribers[..2] {
            assert_eq!(subscriber.recv_timeout(PATIENCE).expect("it comes"), "weather.rome.today: sunny");
        }
        assert!(publisher.wait_for_subscribers_to("weather.rome", 3, Duration::ZERO).is_err());
    }
}

#[test]
fn a_publisher_that_waits_in_vain_is_told_of_peers_that_have_not_subscribed() {
    let context = Context::new();
    let publisher = Pub::in_context(&context);
    let endpoint = publisher.bind("tcp://127.0.0.1:*").expect("bound");
    let [silent, other] = [(); 2].map(|()| Sub::in_context(&context));
    silent.connect(&endpoint).expect("connected");
    publisher.wait_for_peers(1, PATIENCE).expect("it comes");
    let brief = Duration::from_millis(1);
    let text = publisher.wait_for_subscribers(1, brief).expect_err("it has not subscribed").to_string();
    assert!(
        text.ends_with("0 of 1 subscribers are there; 1 peer is connected and has not subscribed to that"),
        "{text}"
    );
    other.subscribe("sports.").expect("accepted");
    other.connect(&endpoint).expect("connected");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it has subscribed");
    let text = publisher.wait_for_subscribers_to("weather.", 1, brief).expect_err("nobody wants that").to_string();
    assert!(text.ends_with("2 peers are connected and have not subscribed to that"), "{text}");
    let text = publisher.wait_for_subscribers_to("sports.", 3, brief).expect_err("one of two wants it").to_string();
    assert!(text.contains("1 of 3") && text.ends_with("1 peer is connected and has not subscribed to that"), "{text}");
}

#[test]
fn a_process_that_ends_with_messages_for_nobody_says_so_in_one_line() {
    let nobody = Nobody::new();
    let endpoint = nobody.endpoint.as_str();
    let [ended, dropped, quiet, silent, quiet_from_the_start] = std::thread::scope(|threads| {
        let hows = ["to-nobody", "dropped-to-nobody", "quiet-to-nobody", "silent", "quiet-before-the-first-socket"];
        let running = hows.map(|how| threads.spawn(move || last_words(endpoint, how)));
        running.map(|process| process.join().expect("no panic"))
    });
    for said in [ended, dropped] {
        let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("wiremesh: ")).collect();
        assert_eq!(lines.len(), 1, "{said}");
        assert!(lines[0].contains("gave up 3 messages") && lines[0].contains(endpoint), "{said}");
    }
    for said in [quiet, silent, quiet_from_the_start] {
        assert!(!said.contains("wiremesh: "), "{said}");
    }
}

/// What a process writes to standard error that ends in that way.
fn last_words(endpoint: &str, how: &str) -> String {
    let file = std::env::temp_dir().join(format!("wiremesh-last-words-{}-{how}", std::process::id()));
    let mut process = Process::start("last-words", &[&endpoint, &how, &file.display()]);
    assert!(process.end_within(PATIENCE).success());
    let said = std::fs::read_to_string(&file).expect("it was written");
    std::fs::remove_file(&file).expect("it is ours");
    said
}

/// Ends with messages for nobody, and with its standard error in a file.
pub(crate) fn role(arguments: &[&str]) {
    use std::os::fd::AsRawFd;
    let [endpoint, how, file] = arguments else { panic!("endpoint, how, file") };
    let file = std::fs::File::create(file).expect("a file");
    // SAFETY: plain numbers of descriptors that are open.
    assert!(unsafe { libc::dup2(file.as_raw_fd(), libc::STDERR_FILENO) } >= 0);
    let context = match *how {
        "dropped-to-nobody" => Context::builder().drop_wait(Some(Duration::from_millis(100))).build(),
        _ => Context::shared(),
    };
    context.report_unsent(!how.starts_with("quiet-"));
    // Where nothing uses the shared context it ends, and the next one is another.
    let context = if *how == "quiet-before-the-first-socket" {
        drop(context);
        Context::shared()
    } else {
        context
    };
    let push = Push::in_context(&context);
    push.connect(endpoint).expect("a good endpoint");
    for number in 0..if *how == "silent" { 0 } else { 3 } {
        push.send([number; 100]).expect("accepted");
    }
    if *how != "dropped-to-nobody" {
        std::mem::forget(push);
        std::mem::forget(context);
    }
}

#[test]
fn a_second_pair_learns_why_it_is_refused_and_gets_in_once_the_first_is_gone() {
    let context = Context::new();
    let (first, second, here) = (Pair::in_context(&context), Pair::in_context(&context), Pair::in_context(&context));
    let endpoint = here.bind("tcp://127.0.0.1:*").expect("bound");
    first.connect(&endpoint).expect("connected");
    here.wait_for_peers(1, PATIENCE).expect("it comes");
    let monitor = second.monitor();
    second.connect(&endpoint).expect("connected");
    let mut told = String::new();
    eventually(PATIENCE, "the second PAIR is told", || {
        told = std::iter::from_fn(|| monitor.try_recv()).map(|event| event.to_string()).collect();
        told.contains("PAIR")
    });
    assert!(told.contains("has a peer already"), "{told}");
    second.send("patient").expect("accepted");
    drop(first);
    assert_eq!(here.recv_timeout(PATIENCE).expect("it gets in"), "patient");
}

#[test]
fn a_peer_whose_routing_id_is_taken_learns_it_and_gets_in_once_it_is_free() {
    let context = Context::new();
    let router = wiremesh::Router::in_context(&context);
    let endpoint = router.bind("tcp://127.0.0.1:*").expect("bound");
    let [first, second] =
        [(); 2].map(|()| Dealer::builder().context(&context).routing_id("same").build().expect("good"));
    first.connect(&endpoint).expect("connected");
    router.wait_for_peers(1, PATIENCE).expect("it comes");
    let monitor = second.monitor();
    second.connect(&endpoint).expect("connected");
    let refused = |event: &Event| event.to_string().contains("the routing id is in use");
    assert!(monitor.iter().any(|event| refused(&event)));
    assert!(monitor.iter().any(|event| matches!(event.kind, EventKind::ConnectRetried(_))));
    second.send("patient").expect("accepted");
    drop(first);
    let (id, message) = router.recv_timeout(PATIENCE).expect("it gets in");
    assert!(id == *b"same" && message == "patient");
}

#[test]
fn an_inproc_endpoint_whose_binder_has_closed_says_so_and_not_that_nobody_is_bound() {
    let context = Context::builder().drop_wait(Some(Duration::ZERO)).build();
    let (push, first, second) = (Push::in_context(&context), Pull::in_context(&context), Pull::in_context(&context));
    first.bind("inproc://g").expect("bound");
    push.connect("inproc://g").expect("connected");
    drop(first);
    second.bind("inproc://g").expect("bound again");
    let brief = Duration::from_millis(5);
    for text in [
        push.send_timeout("x", brief).expect_err("it does not connect again").to_string(),
        push.wait_for_peers(1, brief).expect_err("nor here").to_string(),
    ] {
        assert!(text.contains("0 of 1 peers: the binder of inproc://g has closed"), "{text}");
        assert!(text.contains("call `connect`") && !text.contains("nobody has bound"), "{text}");
    }
    let info = &push.endpoints()[0];
    assert!(info.state == EndpointState::Ended && matches!(info.last_error, Some(Cause::Peer)), "{info:?}");
    assert_eq!(info.to_string(), "inproc://g: ended, closed by the peer");
    push.connect("inproc://g").expect("connected");
    push.send("x").expect("accepted");
    assert_eq!(second.recv_timeout(PATIENCE).expect("it comes"), "x");
    let states: Vec<EndpointState> = push.endpoints().iter().map(|info| info.state).collect();
    assert_eq!(states, [EndpointState::Connected], "the one that had ended is replaced");
}

#[test]
fn an_endpoint_that_was_given_up_is_named_with_its_cause() {
    let context = Context::builder().drop_wait(Some(Duration::ZERO)).build();
    let brief = Duration::from_millis(5);
    let said = |push: &Push| {
        let unsent = push.send_timeout("x", brief).expect_err("there is no peer").to_string();
        let missing = push.wait_for_peers(1, brief).expect_err("nor here").to_string();
        assert!(unsent.contains("the socket has no endpoint; "), "{unsent}");
        assert!(missing.contains("0 of 1 peers: the socket has no endpoint; "), "{missing}");
        unsent + &missing
    };
    let (push, rep) = (Push::in_context(&context), Rep::in_context(&context));
    push.connect("inproc://later").expect("nobody is bound yet");
    rep.bind("inproc://later").expect("bound");
    let text = said(&push);
    assert_eq!(text.matches("`inproc://later` was given up: the socket bound there is a REP, ").count(), 2, "{text}");

    let nobody = Nobody::new();
    let push = Push::builder().context(&context).reconnect_interval(None).build().expect("good options");
    let monitor = push.monitor();
    push.connect(&nobody.endpoint).expect("a good endpoint");
    eventually(PATIENCE, "it is given up", || push.endpoints().is_empty());
    let text = said(&push);
    let given_up = format!("`{}` was given up: connection refused by ", nobody.endpoint);
    assert_eq!(text.matches(&given_up).count(), 2, "{text}");
    push.close();
    let closed = monitor.iter().filter(|event| matches!(&event.kind, EventKind::Closed(Cause::System(_)))).count();
    assert_eq!(closed, 1, "the refusal is told once");
}

#[test]
fn no_time_for_a_handshake_is_no_limit() {
    let context = Context::new();
    let pull = Pull::builder().context(&context).handshake_timeout(Duration::ZERO).build().expect("good options");
    let push = Push::builder().context(&context).handshake_timeout(Duration::ZERO).build().expect("good options");
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    push.connect(&endpoint).expect("connected");
    push.send("x").expect("accepted");
    assert_eq!(pull.recv_timeout(PATIENCE).expect("it comes"), "x");
}

#[test]
fn a_budget_of_nothing_is_no_limit() {
    let context = Context::builder().byte_budget(Some(0)).drop_wait(Some(Duration::ZERO)).build();
    let (push, pull) = (Push::in_context(&context), Pull::in_context(&context));
    pull.bind("inproc://unlimited").expect("bound");
    push.connect("inproc://unlimited").expect("connected");
    for _ in 0..16 {
        push.try_send(vec![0; 64 * 1024]).expect("there is room");
    }
}

#[test]
fn a_send_that_the_budget_stops_names_the_budget() {
    let context = Context::builder().byte_budget(Some(1 << 20)).drop_wait(Some(Duration::ZERO)).build();
    let (push, pull) = (Push::in_context(&context), Pull::in_context(&context));
    pull.bind("inproc://budget").expect("bound");
    push.connect("inproc://budget").expect("connected");
    let unsent = (0..64).find_map(|_| push.try_send(vec![0; 64 * 1024]).err()).expect("the budget is used up");
    assert_eq!(unsent.reason, SendFailure::WouldBlock);
    let late = push.send_timeout("x", Duration::from_millis(5)).expect_err("nobody receives");
    assert_eq!(late.reason, SendFailure::TimedOut);
    for text in [unsent.to_string(), late.to_string()] {
        assert!(text.contains("the sending half of the context's `byte_budget` is used up"), "{text}");
        assert!(!text.contains("high-water mark"), "{text}");
    }
}

#[test]
fn a_monitor_does_not_hear_what_was_over_before_it_was_made() {
    let context = Context::new();
    for over in Over::ALL {
        for _ in 0..20 {
            let pull = Pull::in_context(&context);
            pull.bind(over.fixed()).expect("bound");
            let monitor = pull.monitor();
            pull.close();
            let told: Vec<String> = monitor.iter().map(|event| event.to_string()).collect();
            assert!(!told.iter().any(|event| event.contains("listening")), "{told:?}");
        }
    }
}

#[test]
fn a_req_that_asks_too_early_is_told_what_helps() {
    let context = Context::new();
    let (req, rep) = (Req::in_context(&context), Rep::in_context(&context));
    rep.bind("inproc://mute").expect("bound");
    req.connect("inproc://mute").expect("connected");
    req.send("anybody?").expect("accepted");
    let brief = Duration::from_millis(5);
    assert!(matches!(req.recv_timeout(brief), Err(RecvError::TimedOut)));
    let error = |outcome: Result<wiremesh::Message, RequestError>| outcome.expect_err("it waits").to_string();
    for text in [
        req.send("again").expect_err("it waits").to_string(),
        error(req.request("again", brief)),
        error(req.request_with_retries("again", brief, 1)),
        req.try_reserve().expect_err("it waits").to_string(),
    ] {
        assert!(text.contains("receive it") && text.contains("the option `relaxed`"), "{text}");
    }
}

#[test]
fn what_a_kind_does_not_do_is_told_with_the_kind() {
    let context = Context::new();
    let [dealer, pull] = [SocketKind::Dealer, SocketKind::Pull].map(|kind| AnySocket::in_context(kind, &context));
    let asked = dealer.request("x", Duration::ZERO).expect_err("a DEALER").to_string();
    assert!(asked.contains("DEALER sockets do not send requests"), "{asked}");
    let sent = dealer.send_to("C", "x").expect_err("a DEALER").to_string();
    assert!(sent.contains("DEALER sockets do not send by routing id"), "{sent}");
    let sent = pull.send("x").expect_err("a PULL").to_string();
    assert!(sent.contains("PULL sockets do not send"), "{sent}");
}

#[test]
fn so_is_what_does_not_receive_or_reserve_and_nothing_is_said_twice() {
    let context = Context::new();
    let [push, router, pull, publisher] = [SocketKind::Push, SocketKind::Router, SocketKind::Pull, SocketKind::Pub]
        .map(|kind| AnySocket::in_context(kind, &context));
    let said = [
        (push.recv().expect_err("a PUSH").to_string(), "PUSH sockets do not receive"),
        (push.recv_many(1).expect_err("a PUSH").to_string(), "PUSH sockets do not receive"),
        (publisher.recv_into(&mut []).expect_err("a PUB").to_string(), "PUB sockets do not receive"),
        (router.recv_into(&mut []).expect_err("a ROUTER").to_string(), "ROUTER sockets do not receive into a buffer"),
        (
            router.reserve().expect_err("a ROUTER").to_string(),
            "ROUTER sockets do not reserve room without a routing id",
        ),
        (push.reserve_to("x").expect_err("a PUSH").to_string(), "PUSH sockets do not reserve room by routing id"),
        (pull.reserve().expect_err("a PULL").to_string(), "PULL sockets do not reserve room"),
        (pull.send("x").expect_err("a PULL").to_string(), "PULL sockets do not send"),
    ];
    for (text, wanted) in said {
        assert!(text.contains(wanted), "{text}");
        assert_eq!(text.matches("sockets").count(), 1, "{text}");
    }
}

#[test]
fn a_message_that_is_longer_than_the_buffer_is_told_with_both_lengths() {
    let context = Context::new();
    for over in Over::ALL {
        let (push, pull) = (Push::in_context(&context), Pull::in_context(&context));
        push.connect(pull.bind(over.wildcard()).expect("bound")).expect("connected");
        for length in [17, 1000, 100_000] {
            push.send(vec![7; length]).expect("accepted");
            let error = pull.recv_into_timeout(&mut [0; 8], PATIENCE).expect_err("it is longer");
            let told = format!("the message has {length} octets, and the buffer 8; `into_message` returns it");
            assert_eq!(error.to_string(), told);
            assert!(error.into_message().is_some_and(|message| message.byte_len() == length));
        }
    }
}

#[test]
fn a_message_of_several_frames_that_does_not_fit_a_buffer_is_told_to_be_in_the_error() {
    let context = Context::new();
    let (push, pull) = (Push::in_context(&context), Pull::in_context(&context));
    push.connect(pull.bind("inproc://frames").expect("bound")).expect("connected");
    push.send(["two", "frames"]).expect("accepted");
    let error = pull.recv_into_timeout(&mut [0; 8], PATIENCE).expect_err("one buffer does not keep them apart");
    assert!(error.to_string().contains("`into_message` returns it"), "{error}");
    assert!(error.into_message().is_some_and(|message| message.len() == 2));
}

#[test]
fn an_id_that_nobody_has_is_named() {
    let context = Context::new();
    let router = wiremesh::Router::builder().context(&context).mandatory(true).build().expect("good options");
    let error = router.send_to(b"C\n", "x").expect_err("nobody is there").to_string();
    assert!(error.contains("`C\\n`"), "{error}");
}

#[test]
fn an_id_that_nobody_has_is_named_however_it_was_given() {
    let context = Context::new();
    let router = wiremesh::Router::builder().context(&context).mandatory(true).build().expect("good options");
    let any = AnySocket::builder(SocketKind::Router).context(&context).mandatory(true).build().expect("good options");
    let mut many = [("gone", "x")].into_iter();
    let dealer = Dealer::builder().context(&context).routing_id("gone").build().expect("a good id");
    dealer.connect(router.bind("inproc://router").expect("bound")).expect("connected");
    let room = router.reserve_to("gone").expect("it is there");
    drop(dealer);
    eventually(PATIENCE, "the peer is gone", || router.stats().connections == 0);
    for error in [
        room.send("x").expect_err("nobody is there"),
        router.try_send_to("gone", "x").expect_err("nobody is there"),
        router.send_many(many.by_ref()).expect_err("nobody is there"),
        any.send_to("gone", "x").expect_err("nobody is there"),
        any.send(["gone", "x"]).expect_err("nobody is there"),
    ] {
        assert_eq!(error.reason, SendFailure::Unroutable);
        assert_eq!(error.missing.as_deref(), Some("`gone`"), "{error}");
    }
}

#[test]
fn a_reservation_that_fails_says_what_is_missing_as_a_send_does() {
    let context = Context::builder().byte_budget(Some(1 << 20)).drop_wait(Some(Duration::ZERO)).build();
    let router = wiremesh::Router::builder().context(&context).mandatory(true).build().expect("good options");
    let any = AnySocket::builder(SocketKind::Router).context(&context).mandatory(true).build().expect("good options");
    for error in [
        router.reserve_to("gone").expect_err("nobody is there"),
        router.try_reserve_to("gone").expect_err("nobody is there"),
        any.reserve_to("gone").expect_err("nobody is there"),
    ] {
        assert_eq!(error.to_string(), "no room was reserved: no peer has that routing id (`gone`)");
    }
    let (push, nobody) = (Push::in_context(&context), Nobody::new());
    let error = push.reserve_timeout(Duration::from_millis(1)).expect_err("no endpoint").to_string();
    assert!(error.contains("the socket has no endpoint"), "{error}");
    push.connect(&nobody.endpoint).expect("a good endpoint");
    push.send(vec![0; 1 << 20]).expect("one message is always let in");
    let error = push.try_reserve().expect_err("the budget is used up").to_string();
    assert!(error.contains("the sending half of the context's `byte_budget` is used up"), "{error}");
}

#[test]
fn a_peer_of_another_socket_is_not_said_to_have_an_empty_id() {
    let context = Context::new();
    let [near, far] = ["near", "far"].map(|name| {
        let router = wiremesh::Router::builder().context(&context).mandatory(true).build().expect("good options");
        router.bind(format!("inproc://{name}")).expect("bound");
        router
    });
    let dealer = Dealer::in_context(&context);
    dealer.connect("inproc://far").expect("connected");
    dealer.send("here").expect("accepted");
    let stranger = far.recv_timeout(PATIENCE).expect("it comes").1.peer().expect("it has one");
    assert_eq!(near.reserve_to(stranger).expect_err("a stranger").missing, None);
    let text = near.send_to(stranger, "x").expect_err("a stranger").to_string();
    assert!(text.ends_with("the peer of that `PeerId` is gone, or is one of another socket"), "{text}");
}

#[test]
fn an_id_that_cannot_be_one_is_not_repeated_and_the_error_says_what_ids_are() {
    let context = Context::new();
    let router = wiremesh::Router::builder().context(&context).mandatory(true).build().expect("good options");
    for (id, length) in [(vec![], "empty"), (vec![0xff; 256], "256 octets"), (vec![b'y'; 100_000], "100000 octets")] {
        let error = router.send_to(&id, "x").expect_err("nobody is there").to_string();
        assert!(error.contains(length) && error.contains("1 to 255") && error.len() < 400, "{error}");
    }
    // Whoever has one that is long, but good, is told its length.
    let error = router.send_to(vec![b'y'; 255], "x").expect_err("nobody is there").to_string();
    assert!(error.contains("255 octets") && !error.contains("1 to 255") && error.len() < 400, "{error}");
}

#[test]
fn an_endpoint_says_one_failed_attempt_and_two_failed_attempts() {
    let (context, nobody) = (Context::new(), Nobody::new());
    let push = Push::in_context(&context);
    push.connect(&nobody.endpoint).expect("a good endpoint");
    eventually(PATIENCE, "an attempt fails", || push.endpoints().iter().any(|info| info.attempts > 0));
    let mut info = push.endpoints().remove(0);
    for (attempts, wanted) in [(1, ", 1 failed attempt: "), (2, ", 2 failed attempts, the last one: ")] {
        info.attempts = attempts;
        assert!(info.to_string().contains(wanted), "{info}");
    }
}

#[test]
fn an_endpoint_that_listens_says_how_many_are_connected_and_who_was_not_accepted() {
    let context = Context::new();
    let (pair, first, second) = (Pair::in_context(&context), Pair::in_context(&context), Pair::in_context(&context));
    let endpoint = pair.bind("tcp://127.0.0.1:*").expect("bound");
    let said = || pair.endpoints()[0].to_string();
    assert_eq!(said(), format!("{endpoint}: listening, 0 connections"));
    first.connect(&endpoint).expect("connected");
    pair.wait_for_peers(1, PATIENCE).expect("it comes");
    eventually(PATIENCE, "the connection is listed", || said() == format!("{endpoint}: listening, 1 connection"));
    second.connect(&endpoint).expect("connected");
    eventually(PATIENCE, "the second one is refused", || said().contains(" not accepted, the last one: "));
    let text = said();
    assert!(
        text.contains("listening, 1 connection, ") && text.contains("newcomer") && !text.contains("attempt"),
        "{text}"
    );
}

#[test]
fn where_nobody_is_there_an_error_does_not_say_that_nobody_had_room() {
    let (context, nobody) = (Context::builder().drop_wait(Some(Duration::ZERO)).build(), Nobody::new());
    let brief = Duration::from_millis(5);
    let req = Req::in_context(&context);
    req.connect(&nobody.endpoint).expect("a good endpoint");
    let push = Push::builder().context(&context).send_mark(1u32).build().expect("good options");
    push.connect(&nobody.endpoint).expect("a good endpoint");
    push.send("x").expect("room for one");
    for text in [
        req.request("x", brief).expect_err("nobody is there").to_string(),
        push.send_timeout("x", brief).expect_err("the mark is reached").to_string(),
        push.reserve_timeout(brief).expect_err("the mark is reached").to_string(),
    ] {
        assert!(text.contains("no peer was there in time (0 of 1 peers: ") && !text.contains("room in"), "{text}");
    }
    let pull = Pull::in_context(&context);
    pull.bind("inproc://full").expect("bound");
    let push = Push::builder().context(&context).send_mark(1u32).build().expect("good options");
    push.connect("inproc://full").expect("connected");
    while push.try_send("x").is_ok() {}
    let text = push.send_timeout("x", brief).expect_err("the marks are reached").to_string();
    assert!(text.contains("no peer had room in time"), "{text}");
}

#[test]
fn a_request_that_was_not_sent_says_so_once() {
    let error = Req::in_context(&Context::new()).request("x", Duration::ZERO).expect_err("nobody is there");
    assert_eq!(error.to_string().matches("not sent").count(), 1, "{error}");
}

#[test]
fn one_message_is_still_queued_and_two_are() {
    let (context, nobody) = (Context::builder().drop_wait(Some(Duration::ZERO)).build(), Nobody::new());
    let push = Push::in_context(&context);
    push.connect(&nobody.endpoint).expect("a good endpoint");
    for text in
        ["1 message (3 octets on the wire) is still queued", "2 messages (6 octets on the wire) are still queued"]
    {
        push.send("x").expect("accepted");
        let error = push.flush(Duration::ZERO).expect_err("nobody is there").to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn a_scheme_that_is_taken_is_not_called_an_endpoint() {
    let transport = std::sync::Arc::new(wiremesh::transports::Tcp);
    let error = Context::new().register_transport(transport).expect_err("it is there").to_string();
    assert!(error.contains("`tcp`") && error.contains("already has a transport"), "{error}");
    assert!(!error.contains("endpoint") && !error.contains("address"), "{error}");
}

#[test]
fn a_scheme_in_capitals_is_told_that_schemes_are_in_lower_case() {
    let push = Push::in_context(&Context::new());
    let error = push.connect("TCP://127.0.0.1:1").expect_err("no such scheme").to_string();
    assert!(error.contains("lower case"), "{error}");
    let error = push.connect("udp://127.0.0.1:1").expect_err("no such scheme").to_string();
    assert!(!error.contains("lower case"), "{error}");
}

#[test]
fn what_a_peer_said_is_told_without_escapes_and_times_without_fractions() {
    let theirs = "SUB\n".to_owned();
    let error = wiremesh::protocol::ProtocolError::IncompatibleSocket { ours: SocketKind::Pull, theirs }.to_string();
    assert_eq!(error, "a PULL socket cannot talk to a SUB\u{fffd} socket");
    let error = wiremesh::protocol::ProtocolError::Refused { reason: "we want \"X\"".to_owned() }.to_string();
    assert_eq!(error, "the peer refused the connection: we want \"X\"");
    for (time, shown) in [(546_152_240, "546ms"), (1_200_000_001, "1.2s"), (7_000, "7µs")] {
        let retried = EventKind::ConnectRetried(Duration::from_nanos(time)).to_string();
        assert_eq!(retried, format!("next attempt in {shown}"));
    }
}

#[test]
fn nobody_asks_for_signs_of_life_more_than_a_thousand_times_a_second() {
    let builder = || Pull::builder().context(&Context::new());
    let error = builder().heartbeat_interval(Duration::from_nanos(1)).build().expect_err("too often").to_string();
    assert!(error.contains("heartbeat_interval") && error.contains("1 ms"), "{error}");
    assert!(builder().heartbeat_interval(Duration::from_millis(1)).build().is_ok());
    assert!(builder().heartbeat_interval(Duration::ZERO).build().is_ok());
}

#[test]
fn what_only_a_manual_xpub_does_is_named_with_the_option_and_when_to_set_it() {
    let xpub = XPub::in_context(&Context::new());
    for text in [xpub.subscribe_last("a").unwrap_err().to_string(), xpub.unsubscribe_last("a").unwrap_err().to_string()]
    {
        assert!(text.contains("option `manual`") && text.contains("`subscribe_last`"), "{text}");
        assert!(text.contains("builder"), "{text}");
    }
}

#[test]
fn who_names_peers_with_another_kind_is_told_what_it_called() {
    for kind in [SocketKind::Dealer, SocketKind::XPub] {
        let socket = AnySocket::in_context(kind, &Context::new());
        let error = socket.connect_as("inproc://anywhere", "id").unwrap_err();
        assert!(matches!(error, Error::NotSupported { kind: theirs, .. } if theirs == kind), "{error:?}");
        assert_eq!(error.to_string(), format!("{kind} sockets do not give their peers routing ids"));
    }
}

#[test]
fn a_refusal_that_passes_is_not_an_order_to_the_reader() {
    let pull = Pull::in_context(&Context::new());
    let sub = Sub::builder().context(&Context::new()).reconnect_interval(Duration::from_millis(5)).build().unwrap();
    sub.connect(pull.bind("tcp://127.0.0.1:*").unwrap()).unwrap();
    eventually(PATIENCE, "it is refused", || sub.endpoints()[0].attempts > 0);
    let text = sub.wait_for_peers(1, Duration::from_millis(1)).unwrap_err().to_string();
    let told = "the peer refused the connection for now: a PULL socket cannot talk to a SUB socket";
    assert!(text.contains(told) && !text.contains("try again"), "{text}");
}
