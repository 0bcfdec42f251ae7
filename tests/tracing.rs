//! With the feature `tracing` what a monitor sees is told through the crate of that name as well.
#![cfg(feature = "tracing")]

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use wiremesh::{Context, Pull, Push};

/// Keeps the events as lines of text.
struct Keeper(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").expect("a string takes everything");
    }
}

impl Subscriber for Keeper {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{} {} ", event.metadata().level(), event.metadata().target()));
        event.record(&mut line);
        self.0.lock().expect("nobody panics with it").push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn the_life_of_connections_is_told_and_messages_are_not() {
    const LONG: Duration = Duration::from_secs(20);
    let lines = Arc::new(Mutex::new(Vec::new()));
    // Engine threads tell as well, so it is for the whole process.
    tracing::subscriber::set_global_default(Keeper(Arc::clone(&lines))).expect("the only one");
    let context = Context::new();
    let (push, pull) = (Push::in_context(&context), Pull::in_context(&context));
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    push.connect(&endpoint).expect("a good endpoint");
    for socket in [&push as &wiremesh::Socket, &pull] {
        socket.wait_for_peers(1, LONG).expect("a peer");
    }
    let all = || lines.lock().expect("nobody panics with it").clone();
    // A peer counts before the event is told.
    until("both tell of the handshake", &lines, &|| {
        all().iter().filter(|line| line.contains("HandshakeSucceeded")).count() == 2
    });
    let told = all();
    let life = |line: &&String| line.starts_with("INFO wiremesh") || line.starts_with("DEBUG wiremesh");
    for kind in ["Listening", "Accepted", "Connected", "HandshakeSucceeded"] {
        let of_kind = |line: &&String| {
            line.starts_with("INFO ") && line.contains(&format!("kind={kind} ")) && line.contains(endpoint.as_str())
        };
        assert!(told.iter().any(|line| of_kind(&line)), "no {kind} in {told:#?}");
    }
    assert!(told.iter().all(|line| life(&line)), "{told:#?}");
    for number in 0..1000u32 {
        push.send(number.to_le_bytes()).expect("accepted");
        pull.recv_timeout(LONG).expect("a message");
    }
    assert_eq!(all(), told, "nothing on the way of a message");
    causes_are_warned_of_once_until_they_change(&lines);
}

fn causes_are_warned_of_once_until_they_change(lines: &Mutex<Vec<String>>) {
    let about = |endpoint: &str, level: &str, text: &str| {
        let lines = lines.lock().expect("nobody panics with it");
        let fits = |line: &&String| line.starts_with(level) && line.contains(endpoint) && line.contains(text);
        lines.iter().filter(fits).count()
    };
    let until = |what: &str, condition: &dyn Fn() -> bool| until(what, lines, condition);
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = port.local_addr().expect("bound");
    let endpoint = format!("tcp://{address}");
    drop(port);
    let interval = Duration::from_millis(2);
    let push = Push::builder().context(&Context::new()).reconnect_interval(interval).reconnect_max(interval);
    let push = push.linger(Duration::ZERO).build().expect("good options");
    push.connect(&endpoint).expect("a good endpoint");
    until("it is refused again and again", &|| about(&endpoint, "DEBUG ", "refused") >= 3);
    assert_eq!(about(&endpoint, "WARN ", "refused"), 1);
    assert!(about(&endpoint, "WARN ", "an attempt to connect failed") == 1, "{:#?}", lines.lock());
    // Another cause at the same place: somebody accepts and hangs up.
    let listener = std::net::TcpListener::bind(address).expect("nobody has taken it");
    for _ in 0..8 {
        drop(listener.accept().expect("it comes again"));
    }
    until("the change is told", &|| about(&endpoint, "WARN ", "HandshakeFailed") >= 1);
    drop(listener);
    until("and the change back", &|| about(&endpoint, "WARN ", "refused") == 2);
    // After the second time the cause is that the peer is probably old.
    assert!(about(&endpoint, "WARN ", "HandshakeFailed") <= 3 && about(&endpoint, "DEBUG ", "HandshakeFailed") >= 1);
}

fn until(what: &str, lines: &Mutex<Vec<String>>, condition: &dyn Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}: {:#?}", lines.lock());
        std::thread::sleep(Duration::from_millis(1));
    }
}
