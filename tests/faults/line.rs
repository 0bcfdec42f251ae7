//! Uses of one endpoint in a row: an endpoint that is connected again while its last use still delivers waits for it,
//! with the token of that one or another.

use crate::order::{hear_ready, number, ready_with_token};
use crate::support::measure::Stopwatch;
use crate::support::raw::{Raw, greeting, long_header, ready};
use crate::support::{Over, PATIENCE, alone, eventually, holds_within};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use wiremesh::transports::{AddressError, LinkOptions, Listener, Purpose, Stream, Tcp, Transport};
use wiremesh::{Context, EndpointState, Event, EventKind, Monitor, PeerId, Pull, Push, Setting};

/// Accepts a connection of one of our ends and hears its READY; the connection, and the token it announces.
fn token_of_next(listener: &TcpListener, kind: &str) -> (Raw, [u8; 16]) {
    token_over(Raw::accepted(listener.accept().expect("a connection").0), kind)
}

fn token_over(mut raw: Raw, kind: &str) -> (Raw, [u8; 16]) {
    raw.write_all(&[&greeting()[..], &ready_with_token(kind, 9)].concat()).expect("open");
    let body = hear_ready(&mut raw);
    let name = body.windows(10).position(|octets| octets == b"X-Wiremesh").expect("one of ours");
    // The length of the value, version, flags, and the largest message come before.
    (raw, *body[name + 10 + 4 + 10..].first_chunk().expect("a token"))
}

/// A PUSH with a message of 32 MiB, of which its peer has read nothing, and the connection over which that goes.
struct Unread {
    old: Raw,
    token: [u8; 16],
    listener: TcpListener,
    endpoint: String,
    push: Push,
}

impl Unread {
    fn new() -> Unread {
        let push = Push::in_context(&Context::new());
        let (listener, endpoint) = listener();
        push.connect(&endpoint).expect("good");
        let (old, token) = token_of_next(&listener, "PULL");
        push.send(vec![1; LONG]).expect("accepted");
        Unread { old, token, listener, endpoint, push }
    }

    fn connect_again(&self) {
        self.push.disconnect(&self.endpoint).expect("connected");
        self.push.connect(&self.endpoint).expect("good");
    }

    /// Reads what was sent before.
    fn read_old(&mut self) {
        read_long(&mut self.old, LONG);
    }

    /// The token under which it is connected once more, over which that message comes.
    fn token_of(&self, message: &[u8]) -> [u8; 16] {
        let (mut new, token) = token_of_next(&self.listener, "PULL");
        assert_eq!(next_message(&mut new), message);
        token
    }
}

/// The next message, which is a short one.
fn next_message(raw: &mut Raw) -> Vec<u8> {
    let mut header = [0; 2];
    raw.read_exact(&mut header).expect("a message");
    assert_eq!(header[0], 0, "a short message");
    let mut body = vec![0; header[1].into()];
    raw.read_exact(&mut body).expect("a body");
    body
}

/// Reads a message of that many octets.
fn read_long(raw: &mut Raw, octets: usize) {
    let mut long = vec![0; 9 + octets];
    raw.read_exact(&mut long).expect("a long message");
    assert_eq!(long[..9], long_header(false, octets as u64));
}

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("tcp://{}", listener.local_addr().expect("bound"));
    (listener, endpoint)
}

#[test]
fn a_token_is_of_a_socket_and_an_endpoint_and_no_two_connections_at_a_time_have_one() {
    let context = Context::new();
    let (push, other) = (Push::in_context(&context), Push::in_context(&context));
    let ((first, endpoint), (second, elsewhere)) = (listener(), listener());
    let connect = |push: &Push, listener: &TcpListener, endpoint: &str| {
        push.connect(endpoint).expect("good");
        token_of_next(listener, "PULL")
    };
    let (_once, token) = connect(&push, &first, &endpoint);
    let others =
        [connect(&push, &first, &endpoint), connect(&push, &second, &elsewhere), connect(&other, &first, &endpoint)];
    for (other, what) in others.iter().zip(["connected twice at a time", "another endpoint", "another socket"]) {
        assert_ne!(other.1, token, "{what}");
    }
    push.disconnect(&endpoint).expect("connected");
    let (lost, its) = connect(&push, &first, &endpoint);
    assert_eq!(its, token, "it is connected again");
    drop(lost);
    assert_eq!(token_of_next(&first, "PULL").1, token, "it comes back");
}

#[test]
fn an_endpoint_whose_old_connection_delivers_nothing_is_connected_again_under_another_token() {
    let mut unread = Unread::new();
    unread.connect_again();
    unread.push.send("new").expect("accepted");
    assert_ne!(unread.token_of(b"new"), unread.token);
    // What was sent before is still delivered.
    unread.read_old();
}

#[test]
fn so_it_is_where_the_endpoint_was_connected_and_closed_once_more_in_between() {
    let mut unread = Unread::new();
    unread.connect_again();
    unread.push.disconnect(&unread.endpoint).expect("connected");
    eventually(PATIENCE, "it is gone before its turn has come", || unread.push.peers().len() == 1);
    unread.push.connect(&unread.endpoint).expect("good");
    assert_ne!(token_of_next(&unread.listener, "PULL").1, unread.token, "the old connection is there yet");
    unread.read_old();
}

/// Whether a connection comes within that time.
fn comes_within(listener: &TcpListener, limit: Duration) -> Option<Raw> {
    listener.set_nonblocking(true).expect("a socket");
    let mut came = None;
    holds_within(limit, || {
        came = listener.accept().ok();
        came.is_some()
    });
    listener.set_nonblocking(false).expect("a socket");
    came.map(|(stream, _)| {
        stream.set_nonblocking(false).expect("a socket");
        Raw::accepted(stream)
    })
}

#[test]
fn of_three_uses_of_an_endpoint_the_last_waits_for_the_second_also_where_both_have_waited_long_for_the_first() {
    let context = Context::new();
    let push = Push::in_context(&context);
    let (listener, endpoint) = listener();
    push.connect(&endpoint).expect("good");
    let (mut old, token) = token_of_next(&listener, "PULL");
    push.send(vec![1; LONG]).expect("accepted");
    for message in ["2nd", "3rd"] {
        push.disconnect(&endpoint).expect("connected");
        push.connect(&endpoint).expect("good");
        push.send(message).expect("accepted");
    }
    // The first one delivers nothing, and the second one begins. It cannot deliver anything yet.
    let second = comes_within(&listener, PATIENCE).expect("the second one begins");
    assert!(comes_within(&listener, Duration::from_millis(700)).is_none(), "the third one waits for the second one");
    let (mut second, its) = token_over(second, "PULL");
    assert_ne!(its, token, "the first connection is still there");
    assert_eq!(next_message(&mut second), b"2nd");
    let (mut third, its) = token_of_next(&listener, "PULL");
    assert_ne!(its, token, "the first connection is still there");
    assert_eq!(next_message(&mut third), b"3rd");
    // Else the context would wait for it.
    assert!(old.is_closed_within(PATIENCE));
}

#[test]
fn an_endpoint_whose_peer_turns_out_to_be_foreign_is_connected_again_at_once() {
    let context = Context::new();
    let push = Push::in_context(&context);
    let (listener, endpoint) = listener();
    push.connect(&endpoint).expect("good");
    push.send(vec![1; LONG]).expect("accepted");
    push.disconnect(&endpoint).expect("connected");
    push.connect(&endpoint).expect("good");
    push.send("new").expect("accepted");
    let mut old = comes_within(&listener, PATIENCE).expect("the first one");
    old.write_all(&[&greeting()[..], &ready("PULL")].concat()).expect("open");
    // It reads what was sent before, slowly, so that one that waited would wait for all of it.
    let (mut left, mut chunk) = (LONG, [0; 4096]);
    let mut new = loop {
        if let Some(new) = comes_within(&listener, Duration::from_millis(1)) {
            break new;
        }
        assert!(left > chunk.len(), "the second one waits for nothing");
        left -= old.read(&mut chunk).expect("more comes");
    };
    new.shake_hands("PULL").expect("open");
    assert_eq!(next_message(&mut new), b"new");
    // Else the context would wait for it.
    assert!(old.is_closed_within(PATIENCE));
}

#[test]
fn what_was_sent_by_several_uses_of_an_endpoint_comes_in_order_however_late_its_peer_is_there() {
    let (context, other) = (Context::new(), Context::new());
    let push = Push::builder().context(&context).reconnect_max(Duration::from_millis(200)).build().expect("good");
    let monitor = push.monitor();
    let endpoint = Over::Ipc.fixed();
    push.connect(&endpoint).expect("good");
    for message in 1..=5_u32 {
        push.send(message.to_be_bytes().to_vec()).expect("accepted");
        push.disconnect(&endpoint).expect("connected");
        push.connect(&endpoint).expect("good");
    }
    push.send(6_u32.to_be_bytes().to_vec()).expect("accepted");
    // Longer than any of them waits for one that delivers nothing to a peer that is there.
    let (begin, mut tried) = (Instant::now(), Vec::new());
    while begin.elapsed() < Duration::from_secs(6) {
        let Some(event) = monitor.recv_timeout(Duration::from_millis(100)) else { continue };
        if matches!(event.kind, EventKind::Closed(_)) && !tried.contains(&event.peer) {
            tried.push(event.peer);
        }
    }
    assert_eq!(tried.len(), 1, "one at a time");
    let pull = Pull::in_context(&other);
    pull.bind(&endpoint).expect("free");
    let numbers: Vec<u32> = (0..6).map(|_| number(&pull.recv_timeout(PATIENCE).expect("none is lost"))).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn connecting_again_to_an_absent_peer_tries_at_once_and_tells_what_came_of_it() {
    let (context, other) = (Context::new(), Context::new());
    let push = Push::builder()
        .context(&context)
        .reconnect_interval(Duration::from_secs(600))
        .reconnect_max(Duration::from_secs(600))
        .build()
        .expect("good");
    let endpoint = Over::Ipc.fixed();
    push.connect(&endpoint).expect("good");
    push.send(1_u32.to_be_bytes().to_vec()).expect("accepted");
    let has_failed = || push.endpoints().first().is_some_and(|endpoint| endpoint.attempts > 0);
    eventually(PATIENCE, "nobody is there", has_failed);
    for message in 2..=3_u32 {
        push.disconnect(&endpoint).expect("connected");
        push.connect(&endpoint).expect("good");
        push.send(message.to_be_bytes().to_vec()).expect("accepted");
        eventually(PATIENCE, "why it is not connected is told", has_failed);
    }
    let pull = Pull::in_context(&other);
    pull.bind(&endpoint).expect("free");
    push.disconnect(&endpoint).expect("connected");
    push.connect(&endpoint).expect("good");
    for message in 1..=3 {
        assert_eq!(number(&pull.recv_timeout(PATIENCE).expect("none is lost")), message);
    }
}

/// An endpoint whose linger is that patience waits for its last use, whose linger is another one, and which delivers
/// something for longer.
fn waits_for_one_that_lingers(first: Option<Duration>) {
    let context = Context::new();
    let patience = Duration::from_secs(2);
    let push = Push::builder().context(&context).linger_patience(first).build().expect("good");
    let (listener, endpoint) = listener();
    push.connect(&endpoint).expect("good");
    let (mut old, _) = token_of_next(&listener, "PULL");
    push.send(vec![1; LONG]).expect("accepted");
    push.disconnect(&endpoint).expect("connected");
    push.set(Setting::LingerPatience(Some(patience))).expect("good");
    push.connect(&endpoint).expect("good");
    push.send("new").expect("accepted");
    push.disconnect(&endpoint).expect("connected");
    // What is read all the time lasts for three times the patience, and longer on a machine that is busy.
    let (begin, mut left, mut chunk) = (Instant::now(), 9 + LONG, vec![0; LONG / 4096]);
    while begin.elapsed() < 3 * patience && left > LONG / 2 {
        old.read_exact(&mut chunk).expect("more comes");
        left -= chunk.len();
        std::thread::sleep(Duration::from_millis(3));
    }
    old.read_exact(&mut vec![0; left]).expect("the rest");
    let new = comes_within(&listener, PATIENCE).expect("the second one begins");
    assert_eq!(next_message(&mut token_over(new, "PULL").0), b"new");
    assert_eq!(push.stats().dropped.total(), 0);
}

#[test]
fn an_endpoint_that_waits_for_its_last_use_is_not_given_up_as_long_as_that_delivers_something() {
    waits_for_one_that_lingers(Some(Duration::from_secs(2)));
}

#[test]
fn nor_is_it_where_its_last_use_has_all_the_time_it_wants() {
    waits_for_one_that_lingers(None);
}

#[test]
fn nor_is_it_where_its_last_use_has_much_more_time() {
    waits_for_one_that_lingers(Some(Duration::from_secs(600)));
}

#[test]
fn an_immediate_endpoint_that_ends_is_not_given_up_as_long_as_its_peer_takes_anything() {
    let patience = Duration::from_secs(2);
    let builder = Push::builder().context(&Context::new()).immediate(true).linger_patience(patience);
    let push = builder.build().expect("good");
    let (listener, endpoint) = listener();
    push.connect(&endpoint).expect("good");
    let (mut old, _) = token_of_next(&listener, "PULL");
    push.wait_for_peers(1, PATIENCE).expect("connected");
    push.send(vec![1; LONG]).expect("accepted");
    push.disconnect(&endpoint).expect("connected");
    let (begin, mut left, mut chunk) = (Instant::now(), 9 + LONG, vec![0; LONG / 4096]);
    while begin.elapsed() < 2 * patience && left > LONG / 2 {
        old.read_exact(&mut chunk).expect("more comes");
        left -= chunk.len();
        std::thread::sleep(Duration::from_millis(3));
    }
    old.read_exact(&mut vec![0; left]).expect("the rest");
    assert_eq!(push.stats().dropped.total(), 0);
}

/// A listener whose queue can be full, so that its system does not answer those who connect.
struct Hanging {
    listener: TcpListener,
    endpoint: String,
    waiting: Vec<TcpStream>,
}

impl Hanging {
    fn new() -> Hanging {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        listener.listen(0).expect("it listens");
        let listener = TcpListener::from(listener);
        let endpoint = format!("tcp://{}", listener.local_addr().expect("bound"));
        Hanging { listener, endpoint, waiting: Vec::new() }
    }

    fn fill(&mut self) {
        let (address, limit) = (self.listener.local_addr().expect("bound"), Duration::from_millis(200));
        self.waiting.extend(std::iter::from_fn(|| TcpStream::connect_timeout(&address, limit).ok()).take(16));
        assert!(self.waiting.len() < 16, "the queue is full");
    }

    fn empty(&mut self) {
        for _ in self.waiting.drain(..) {
            self.listener.accept().expect("one that waited");
        }
    }
}

/// The first event of a sort that the monitor tells of any peer but that one, up to the end of an attempt of that one.
fn begins_beside(monitor: &Monitor, first: Option<PeerId>) -> Option<Event> {
    loop {
        let event = monitor.recv_timeout(PATIENCE).expect("the attempt ends");
        match event.kind {
            EventKind::Closed(_) if event.peer == first => return None,
            EventKind::ConnectDelayed | EventKind::Connected if event.peer != first => return Some(event),
            _ => {}
        }
    }
}

#[test]
fn an_endpoint_waits_for_its_last_use_as_long_as_nobody_answers_the_attempt_of_that() {
    let context = Context::new();
    // Longer than it waits for one that delivers nothing to a peer that is there.
    let push = Push::builder().context(&context).connect_timeout(Duration::from_secs(8)).build().expect("good");
    let mut hanging = Hanging::new();
    push.connect(&hanging.endpoint).expect("good");
    let (old, token) = token_of_next(&hanging.listener, "PULL");
    push.wait_for_peers(1, PATIENCE).expect("it is there");
    let first = push.peers().first().map(|peer| peer.id);
    push.send(vec![1; LONG]).expect("accepted");
    push.disconnect(&hanging.endpoint).expect("connected");
    push.connect(&hanging.endpoint).expect("good");
    push.send("new").expect("accepted");
    let monitor = push.monitor();
    hanging.fill();
    drop(old);
    let beside = begins_beside(&monitor, first);
    assert!(beside.is_none(), "{beside:?}");
    hanging.empty();
    let (mut old, its) = token_of_next(&hanging.listener, "PULL");
    assert_eq!(its, token);
    read_long(&mut old, LONG);
    assert_eq!(next_message(&mut token_of_next(&hanging.listener, "PULL").0), b"new");
}

/// Names that are numeric addresses, and whose server can be silent.
struct Named {
    speaks: Mutex<bool>,
    changed: Condvar,
    asked: AtomicUsize,
}

impl Named {
    fn set(&self, speaks: bool) {
        *self.speaks.lock().expect("no panic") = speaks;
        self.changed.notify_all();
    }
}

/// The transport of such names.
struct ByName(Arc<Named>);

impl Transport for ByName {
    fn scheme(&self) -> &str {
        "named"
    }

    fn check(&self, address: &str, purpose: Purpose) -> Result<(), AddressError> {
        Tcp.check(address, purpose)
    }

    fn resolve(&self, address: &str, options: &LinkOptions) -> io::Result<Vec<String>> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let speaks = self.0.speaks.lock().expect("no panic");
        drop(self.0.changed.wait_while(speaks, |speaks| !*speaks).expect("no panic"));
        Tcp.resolve(address, options)
    }

    fn bind(&self, address: &str, options: &LinkOptions) -> io::Result<Box<dyn Listener>> {
        Tcp.bind(address, options)
    }

    fn connect(&self, resolved: &str, options: &LinkOptions) -> io::Result<Box<dyn Stream>> {
        Tcp.connect(resolved, options)
    }
}

#[test]
fn so_it_is_as_long_as_nobody_answers_a_look_up_of_its_name() {
    let names = Arc::new(Named { speaks: Mutex::new(true), changed: Condvar::new(), asked: AtomicUsize::new(0) });
    let context = Context::new();
    context.register_transport(Arc::new(ByName(Arc::clone(&names)))).expect("a new scheme");
    let push = Push::in_context(&context);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("named://{}", listener.local_addr().expect("bound"));
    push.connect(&endpoint).expect("good");
    let (old, token) = token_of_next(&listener, "PULL");
    push.send(vec![1; LONG]).expect("accepted");
    push.disconnect(&endpoint).expect("connected");
    push.connect(&endpoint).expect("good");
    push.send("new").expect("accepted");
    names.set(false);
    drop(old);
    eventually(PATIENCE, "the first one looks its name up again", || names.asked.load(Ordering::SeqCst) == 2);
    // Longer than it waits for one that delivers nothing to a peer that is there.
    let is_waiting = || push.endpoints().iter().all(|endpoint| endpoint.state == EndpointState::Waiting);
    let begins = holds_within(Duration::from_secs(7), || !is_waiting());
    names.set(true);
    assert!(!begins, "the second one waits");
    let (mut old, its) = token_of_next(&listener, "PULL");
    assert_eq!(its, token);
    read_long(&mut old, LONG);
    assert_eq!(next_message(&mut token_of_next(&listener, "PULL").0), b"new");
}

#[test]
fn an_attempt_of_an_endpoint_that_would_make_no_other_one_goes_on_when_the_endpoint_is_connected_again() {
    let context = Context::new();
    let push = Push::builder().context(&context).reconnect_interval(None).build().expect("good");
    let mut hanging = Hanging::new();
    hanging.fill();
    push.connect(&hanging.endpoint).expect("good");
    push.send("1st").expect("accepted");
    let begin = Instant::now();
    // Longer than an attempt goes on that another one can take the place of.
    eventually(PATIENCE, "it is an old attempt", || {
        push.disconnect(&hanging.endpoint).expect("connected");
        push.connect(&hanging.endpoint).expect("good");
        begin.elapsed() > Duration::from_millis(1500)
    });
    push.send("2nd").expect("accepted");
    hanging.empty();
    for message in [b"1st", b"2nd"] {
        assert_eq!(next_message(&mut token_of_next(&hanging.listener, "PULL").0), message);
    }
    assert_eq!(push.stats().dropped.total(), 0);
}

/// How long the calls take that use an endpoint so many times in a row, of which each has a message to deliver.
fn time_of_row(push: &Push, endpoint: &str, uses: u32) -> Duration {
    let watch = Stopwatch::start();
    for use_ in 0..uses {
        push.connect(endpoint).expect("good");
        push.send(use_.to_be_bytes().to_vec()).expect("accepted");
        push.disconnect(endpoint).expect("connected");
    }
    watch.elapsed()
}

/// Returns true if a row that is four times as long takes less than nine times as long. Where each use walked along the
/// row it would take sixteen times as long.
fn is_linear(mut time_of_row: impl FnMut(u32) -> Duration) -> bool {
    const USES: u32 = 5_000;
    let (few, many) = (time_of_row(USES), time_of_row(4 * USES));
    println!("{USES} uses take {few:?}, four times as many {many:?}");
    many < 9 * few
}

#[test]
fn a_use_of_an_absent_endpoint_takes_no_longer_in_a_long_row() {
    let _turn = alone();
    let is_linear_once = |_| {
        is_linear(|uses| {
            let context = Context::builder().drop_wait(Some(Duration::ZERO)).build();
            let push = Push::in_context(&context);
            time_of_row(&push, &Over::Ipc.fixed(), uses)
        })
    };
    assert!((0..5).any(is_linear_once));
}

#[test]
fn nor_does_one_of_an_endpoint_whose_first_use_still_delivers() {
    let _turn = alone();
    let is_linear_once = |_| {
        is_linear(|uses| {
            let context = Context::builder().drop_wait(Some(Duration::ZERO)).build();
            let push = Push::in_context(&context);
            let (listener, endpoint) = listener();
            push.connect(&endpoint).expect("good");
            let _unread = token_of_next(&listener, "PULL");
            push.send(vec![1; LONG]).expect("accepted");
            push.disconnect(&endpoint).expect("connected");
            time_of_row(&push, &endpoint, uses)
        })
    };
    assert!((0..5).any(is_linear_once));
}

/// The peers that attempts were made for, until so many have failed, or those of so many peers.
fn tried(monitor: &Monitor, attempts: usize, peers: usize) -> usize {
    let (mut tried, mut failed) = (BTreeSet::new(), 0);
    while failed < attempts && tried.len() < peers {
        let event = monitor.recv_timeout(PATIENCE).expect("attempts go on");
        if matches!(event.kind, EventKind::Closed(_)) {
            failed += 1;
            tried.insert(event.peer);
        }
    }
    tried.len()
}

#[test]
fn an_endpoint_waits_for_an_absent_last_use_whatever_options_say_how_its_connections_behave() {
    let (context, other) = (Context::new(), Context::new());
    let interval = Duration::from_millis(100);
    let builder = Push::builder().context(&context).reconnect_interval(interval).reconnect_max(interval);
    let push = builder.build().expect("good");
    let endpoint = Over::Ipc.fixed();
    push.connect(&endpoint).expect("good");
    let settings = [Setting::SendBuffer(Some(100_000)), Setting::TcpKeepalive(Some(true)), Setting::Priority(Some(1))];
    for (message, setting) in (1..).zip(settings) {
        push.send(u32::to_be_bytes(message).to_vec()).expect("accepted");
        push.disconnect(&endpoint).expect("connected");
        push.set(setting).expect("good");
        push.connect(&endpoint).expect("good");
    }
    push.send(4_u32.to_be_bytes().to_vec()).expect("accepted");
    // Longer than any of them waits for one that delivers nothing to a peer that is there.
    assert_eq!(tried(&push.monitor(), 70, 2), 1, "one at a time");
    let pull = Pull::in_context(&other);
    pull.bind(&endpoint).expect("free");
    let numbers: Vec<u32> = (0..4).map(|_| number(&pull.recv_timeout(PATIENCE).expect("none is lost"))).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

#[test]
fn an_endpoint_that_takes_another_way_than_its_absent_last_use_begins_beside_it_also_if_it_was_third_in_the_row() {
    begins_by_another_way(Setting::BindToDevice(Some("lo".to_owned())));
}

#[test]
fn packets_of_another_type_of_service_may_take_another_way() {
    begins_by_another_way(Setting::TypeOfService(Some(0x28)));
}

/// The third use of an endpoint, with that setting, begins while nobody answers the second one.
fn begins_by_another_way(setting: Setting) {
    let context = Context::builder().drop_wait(Some(Duration::ZERO)).build();
    let interval = Duration::from_millis(100);
    let builder = Push::builder().context(&context).linger_patience(None);
    let push = builder.reconnect_interval(interval).reconnect_max(interval).build().expect("good");
    let endpoint = Over::Ipc.fixed();
    let path = endpoint.trim_start_matches("ipc://");
    let listener = UnixListener::bind(path).expect("free");
    push.connect(&endpoint).expect("good");
    let (mut old, _) = token_over(Raw::accepted_unix(listener.accept().expect("a connection").0), "PULL");
    push.send(vec![1; LONG]).expect("accepted");
    push.disconnect(&endpoint).expect("connected");
    push.connect(&endpoint).expect("good");
    push.send("2nd").expect("accepted");
    push.disconnect(&endpoint).expect("connected");
    push.set(setting).expect("good");
    push.connect(&endpoint).expect("good");
    push.send("3rd").expect("accepted");
    // The first one goes, and nobody answers the second one.
    drop(listener);
    std::fs::remove_file(path).expect("it is there");
    let monitor = push.monitor();
    read_long(&mut old, LONG);
    assert_eq!(tried(&monitor, 200, 2), 2, "the third one begins");
}

const LONG: usize = 32 << 20;
