//! Sockets that were closed or dropped while their peer is down: what they hold, how long they live on, and what is
//! told of what they give up.

use crate::support::child::{self, Process};
use crate::support::measure::{self, Lateness, Stopwatch};
use crate::support::raw::Raw;
use crate::support::{Nobody, Over, PATIENCE, alone, eventually, within};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::transports::{AddressError, LinkOptions, Listener, Purpose, Stream, Tcp, Transport};
use wiremesh::{Context, EventKind, Monitor, Pull, Push, Setting};

/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(1500);

#[test]
fn three_thousand_jobs_for_a_refusing_endpoint_succeed_under_1024_descriptors() {
    do_jobs("refused");
}

#[test]
fn three_thousand_jobs_for_a_missing_ipc_file_succeed_under_1024_descriptors() {
    do_jobs("missing");
}

/// Each attempt hangs, and so holds a descriptor, until it makes way.
#[test]
fn three_thousand_jobs_for_an_endpoint_that_does_not_answer_succeed_under_1024_descriptors() {
    do_jobs("hanging");
}

#[test]
fn three_thousand_jobs_on_engine_threads_alone_succeed_under_1024_descriptors() {
    do_jobs("engine-only");
}

fn do_jobs(how: &str) {
    let _turn = alone();
    let mut child = Process::start("dropped", &[&how]);
    let report = child.hear_within(PATIENCE * 2);
    assert!(child.end_within(PATIENCE).success(), "{report}");
    assert!(report.starts_with("done"), "{report}");
}

/// A tcp endpoint whose backlog is full: the system does not answer those who connect.
struct Hanging {
    endpoint: String,
    _listener: socket2::Socket,
    _waiting: Vec<TcpStream>,
}

impl Hanging {
    fn new() -> Hanging {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        listener.listen(0).expect("it listens");
        let address = listener.local_addr().expect("bound").as_socket().expect("an address");
        let limit = Duration::from_millis(200);
        let waiting = std::iter::from_fn(|| TcpStream::connect_timeout(&address, limit).ok()).take(16).collect();
        Hanging { endpoint: format!("tcp://{address}"), _listener: listener, _waiting: waiting }
    }
}

/// A child that does the jobs, or measures.
pub(crate) fn role(arguments: &[&str]) {
    if matches!(arguments[0], "disconnected" | "closed" | "unbound") {
        return weigh(arguments[0]);
    }
    measure::limit_descriptors(1024);
    let (nobody, hanging) = (Nobody::new(), Hanging::new());
    let endpoint = match arguments[0] {
        "missing" => Over::Ipc.fixed(),
        "hanging" => hanging.endpoint.clone(),
        _ => nobody.endpoint.clone(),
    };
    let context = Context::builder().engine_only(arguments[0] == "engine-only").build();
    for job in 0..3000 {
        let push = Push::in_context(&context);
        let connected = push.connect(&endpoint).map_err(|error| error.to_string());
        let sent = connected.and_then(|_| push.send("a job").map_err(|error| error.to_string()));
        if let Err(error) = sent {
            child::tell(format!("job {job}: {error}"));
            return;
        }
    }
    // Each attempt holds one for a moment.
    if arguments[0] != "hanging" {
        eventually(PATIENCE, "the descriptors are free", || measure::descriptors("self") < 60);
    }
    let unsent = context.close(Duration::ZERO);
    assert_eq!(unsent.messages, 3000, "all are accounted for");
    child::tell("done");
}

/// Closed sockets without an attempt under way have nothing to give back, however often they are asked.
#[test]
fn a_call_that_finds_no_descriptor_fails_at_once_where_no_closed_socket_has_one() {
    fails_within(Duration::from_millis(500), "closed");
}

#[test]
fn nor_does_it_wait_for_sockets_that_are_open_on_engine_threads_alone() {
    fails_within(Duration::from_millis(500), "open");
}

/// The attempts of closed sockets make way when they are asked, and begin again at once.
#[test]
fn a_call_that_finds_no_descriptor_fails_in_time_though_some_come_back() {
    fails_within(Duration::from_secs(1) + SLACK, "hanging");
}

fn fails_within(limit: Duration, what: &str) {
    let _turn = alone();
    let mut child = Process::start("short", &[&what]);
    let report = child.hear();
    assert!(child.end_within(PATIENCE).success(), "{report}");
    let took: u64 = report.parse().expect("milliseconds");
    println!("{what}: it fails after {took} ms");
    assert!(took < limit.as_millis() as u64, "it took {took} ms");
}

/// A child with many sockets and no descriptor left: says how many milliseconds it takes until it is told so.
pub(crate) fn short(arguments: &[&str]) {
    measure::limit_descriptors(4000);
    let how = arguments[0];
    let context = Context::builder().engine_only(how == "open").build();
    let (nobody, hanging) = (Nobody::new(), Hanging::new());
    let mut open = Vec::new();
    for _ in 0..500 {
        if how == "open" {
            let pull = Pull::in_context(&context);
            pull.bind("tcp://127.0.0.1:*").expect("a port");
            open.push(pull);
            continue;
        }
        let (endpoint, interval) = match how {
            "hanging" => (&hanging.endpoint, Duration::from_millis(1)),
            _ => (&nobody.endpoint, PATIENCE),
        };
        let push = Push::builder().context(&context).reconnect_interval(interval).reconnect_max(interval);
        let push = push.build().expect("good options");
        push.connect(endpoint).expect("a good endpoint");
        push.send("for nobody").expect("there is room");
    }
    if how == "closed" {
        eventually(PATIENCE, "each has moved in and waits", || measure::descriptors("self") < 100);
    }
    // What comes back is taken by others at once.
    let over = Arc::new(AtomicBool::new(false));
    let taker = thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let mut hoard = Vec::new();
            while !over.load(Ordering::SeqCst) {
                hoard.extend(std::fs::File::open("/dev/null"));
            }
        }
    });
    eventually(PATIENCE, "no descriptor is left", || std::fs::File::open("/dev/null").is_err());
    let pull = Pull::in_context(&context);
    let mut took = Duration::ZERO;
    eventually(PATIENCE, "a call finds none", || {
        let begin = Instant::now();
        let bound = pull.bind("tcp://127.0.0.1:*");
        took = begin.elapsed();
        bound.is_err_and(|error| error.to_string().contains("os error 24"))
    });
    over.store(true, Ordering::SeqCst);
    taker.join().expect("no panic");
    drop(open);
    child::tell(took.as_millis());
    context.close(Duration::ZERO);
}

/// All that a monitor of a closed socket tells until it ends.
fn told(monitor: Monitor) -> Vec<EventKind> {
    within(PATIENCE * 2, "the end of the monitor", move || monitor.iter().map(|event| event.kind).collect())
}

fn given_up(events: &[EventKind]) -> u64 {
    events.iter().map(|kind| if let EventKind::Unsent(unsent) = kind { unsent.messages } else { 0 }).sum()
}

#[test]
fn what_a_dropped_socket_gives_up_is_told_and_its_monitor_ends() {
    for over in Over::ALL {
        let context = Context::new();
        let push = Push::builder().context(&context).linger_patience(Duration::from_millis(200)).build().unwrap();
        let monitor = push.monitor();
        let nobody = Nobody::new();
        let endpoint = if over == Over::Tcp { nobody.endpoint.clone() } else { over.fixed() };
        push.connect(endpoint).unwrap();
        push.send_many(["x"; 10]).unwrap();
        drop(push);
        let events = told(monitor);
        assert_eq!(given_up(&events), 10, "{over:?}: {events:?}");
        assert!(matches!(events.last(), Some(EventKind::MonitorStopped)), "{over:?}: {events:?}");
        assert_eq!(context.close(Duration::ZERO).messages, 10, "{over:?}");
    }
}

#[test]
fn what_a_disconnected_endpoint_gives_up_is_told_with_its_name() {
    let push = Push::builder().context(&Context::new()).linger_patience(Duration::from_millis(100)).build().unwrap();
    let monitor = push.monitor();
    let nobody = Nobody::new();
    push.connect(&nobody.endpoint).unwrap();
    push.send_many(["x"; 10]).unwrap();
    push.disconnect(&nobody.endpoint).unwrap();
    let unsent = loop {
        let event = monitor.recv_timeout(PATIENCE).expect("it is told");
        if let EventKind::Unsent(unsent) = event.kind {
            assert_eq!(*event.endpoint, *nobody.endpoint);
            break unsent;
        }
    };
    assert_eq!(unsent.messages, 10);
    assert_eq!((push.stats().dropped.linger, push.stats().queued), (10, 0));
}

#[test]
fn a_peer_that_does_not_read_is_given_up_as_one_that_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let context = Context::new();
    let push = Push::builder().context(&context).linger_patience(Duration::from_millis(300)).build().unwrap();
    let monitor = push.monitor();
    push.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let mut raw = Raw::accepted(listener.accept().unwrap().0);
    raw.shake_hands("PULL").unwrap();
    push.wait_for_peers(1, PATIENCE).unwrap();
    push.send_many((0..64).map(|_| vec![0; 1 << 20])).unwrap();
    drop(push);
    let events = told(monitor);
    assert!((1..=64).contains(&given_up(&events)), "{events:?}");
    assert_eq!(context.close(Duration::ZERO).messages, given_up(&events));
}

#[test]
fn a_closed_socket_goes_on_as_long_as_its_peer_takes_anything() {
    const SIZE: usize = 24 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let context = Context::new();
    let patience = Duration::from_millis(500);
    let push = Push::builder().context(&context).linger_patience(patience).build().unwrap();
    push.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let mut raw = Raw::accepted(listener.accept().unwrap().0);
    raw.shake_hands("PULL").unwrap();
    push.wait_for_peers(1, PATIENCE).unwrap();
    push.send(vec![1; SIZE]).unwrap();
    drop(push);
    let begin = Instant::now();
    let (mut buffer, mut total) = (vec![0; 1 << 20], 0);
    while let Ok(got @ 1..) = raw.read(&mut buffer) {
        total += got;
        // The story is that of a slow reader.
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(total, SIZE + 9, "the whole message with its header after {:?}", begin.elapsed());
    assert_eq!(context.close(PATIENCE).messages, 0);
}

#[test]
fn what_a_dropped_socket_has_queued_is_delivered_when_its_peer_comes_back() {
    for engine_only in [false, true] {
        for over in Over::STREAMS {
            let context = Context::builder().engine_only(engine_only).build();
            let first = Pull::in_context(&Context::new());
            let endpoint = first.bind(over.fixed()).unwrap();
            let push = Push::builder().context(&context).reconnect_interval(Duration::from_millis(10)).build().unwrap();
            push.connect(&endpoint).unwrap();
            push.send("first").unwrap();
            assert_eq!(first.recv_timeout(PATIENCE).unwrap(), "first");
            drop(first);
            eventually(PATIENCE, "the peer is gone", || push.stats().connections == 0);
            push.send_many((0..100u32).map(|number| number.to_le_bytes())).unwrap();
            let before = measure::descriptors("self");
            drop(push);
            if !engine_only {
                eventually(PATIENCE, "its descriptors are free", || measure::descriptors("self") < before);
            }
            let second = Pull::in_context(&Context::new());
            eventually(PATIENCE, "the address is free", || second.bind(&endpoint).is_ok());
            for number in 0..100u32 {
                assert_eq!(second.recv_timeout(PATIENCE).unwrap(), number.to_le_bytes(), "{over:?}");
            }
            assert_eq!(context.close(PATIENCE).messages, 0, "{over:?}");
        }
    }
}

#[test]
fn a_total_linger_time_ends_although_messages_leave() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let context = Context::new();
    let linger = Duration::from_millis(300);
    let push = Push::builder().context(&context).linger(linger).build().unwrap();
    push.set(Setting::LingerPatience(None)).unwrap();
    let monitor = push.monitor();
    push.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let mut raw = Raw::accepted(listener.accept().unwrap().0);
    raw.shake_hands("PULL").unwrap();
    push.wait_for_peers(1, PATIENCE).unwrap();
    push.send_many((0..64).map(|_| vec![0; 1 << 20])).unwrap();
    let (lateness, watch) = (Lateness::watch(), Stopwatch::start());
    drop(push);
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(1..) = raw.read(&mut buffer) {
            thread::sleep(Duration::from_millis(10));
        }
    });
    let events = told(monitor);
    // The stopwatch leaves out the time for which this thread was kept from running.
    let (whole, took, late) = (watch.begin.elapsed(), watch.elapsed(), lateness.since(watch.begin));
    assert!(whole >= linger && took <= linger + SLACK + late, "took {took:?} of {whole:?}, {late:?} late");
    assert!(given_up(&events) > 0, "{events:?}");
    reader.join().unwrap();
}

#[test]
fn the_drop_of_a_context_ends_after_its_total_time() {
    let nobody = Nobody::new();
    let total = Duration::from_millis(200);
    let context = Context::builder().drop_wait(None).drop_wait_total(Some(total)).build();
    let push = Push::in_context(&context);
    push.connect(&nobody.endpoint).unwrap();
    push.send("for nobody").unwrap();
    drop(context);
    let (lateness, watch) = (Lateness::watch(), Stopwatch::start());
    drop(push);
    // The stopwatch leaves out the time for which this thread was kept from running.
    let (whole, took, late) = (watch.begin.elapsed(), watch.elapsed(), lateness.since(watch.begin));
    assert!(whole >= total && took <= total + SLACK + late, "took {took:?} of {whole:?}, {late:?} late");
}

/// A transport of which an attempt takes as long as this one stands still: until so long after the end has begun.
struct Standing {
    end: Mutex<Option<Instant>>,
    begun: AtomicBool,
}

impl Standing {
    /// Longer than those have that are told to give up.
    const TIME: Duration = Duration::from_millis(2500);
}

impl Transport for Standing {
    fn scheme(&self) -> &str {
        "standing"
    }

    fn check(&self, address: &str, purpose: Purpose) -> Result<(), AddressError> {
        Tcp.check(address, purpose)
    }

    fn resolve(&self, address: &str, options: &LinkOptions) -> io::Result<Vec<String>> {
        Tcp.resolve(address, options)
    }

    fn bind(&self, address: &str, options: &LinkOptions) -> io::Result<Box<dyn Listener>> {
        Tcp.bind(address, options)
    }

    fn connect(&self, _: &str, _: &LinkOptions) -> io::Result<Box<dyn Stream>> {
        self.begun.store(true, Ordering::SeqCst);
        let is_over = || self.end.lock().unwrap().is_some_and(|end| end.elapsed() >= Standing::TIME);
        eventually(PATIENCE, "the end begins", is_over);
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

#[test]
fn what_sockets_have_that_cannot_give_it_up_in_time_is_counted_at_the_end_of_their_context() {
    let (context, nobody) = (Context::new(), Nobody::new());
    let standing = Arc::new(Standing { end: Mutex::new(None), begun: AtomicBool::new(false) });
    context.register_transport(Arc::clone(&standing) as Arc<dyn Transport>).unwrap();
    let sockets = ["standing://127.0.0.1:1", &nobody.endpoint, &nobody.endpoint].map(|endpoint| {
        let push = Push::in_context(&context);
        push.connect(endpoint).unwrap();
        push.send_many(["x"; 10]).unwrap();
        push
    });
    eventually(PATIENCE, "the engine thread stands still", || standing.begun.load(Ordering::SeqCst));
    // Sockets that are dropped are held by the engine alone.
    drop(sockets);
    *standing.end.lock().unwrap() = Some(Instant::now());
    assert_eq!(context.close(Duration::ZERO).messages, 30);
}

/// The defaults: half a minute, so only in a full run.
#[test]
fn a_socket_that_was_dropped_while_its_peer_is_down_is_gone_after_half_a_minute() {
    if !crate::support::is_full() {
        return;
    }
    let context = Context::new();
    let push = Push::in_context(&context);
    let monitor = push.monitor();
    let nobody = Nobody::new();
    push.connect(&nobody.endpoint).unwrap();
    push.send("for nobody").unwrap();
    let begin = Instant::now();
    drop(push);
    assert_eq!(given_up(&told(monitor)), 1);
    let took = begin.elapsed();
    assert!((Duration::from_secs(30)..Duration::from_secs(45)).contains(&took), "{took:?}");
}

#[test]
fn two_thousand_dead_endpoints_cost_no_more_after_disconnect_than_before() {
    is_no_heavier("disconnected");
}

#[test]
fn a_closed_socket_with_two_thousand_dead_endpoints_costs_no_more_than_an_open_one() {
    is_no_heavier("closed");
}

#[test]
fn three_hundred_unbound_endpoints_whose_peers_do_not_read_cost_nearly_nothing() {
    is_no_heavier("unbound");
}

/// A process of its own, as other tests of this one use processor time as well.
fn is_no_heavier(how: &str) {
    let _turn = alone();
    let mut child = Process::start("dropped", &[&how]);
    let report = child.hear_within(PATIENCE * 2);
    let loads: Vec<f64> = report.split(' ').map(|load| load.parse().expect(&report)).collect();
    let [before, after] = loads[..] else { panic!("{report}") };
    assert!(after < before * 2.0 + 0.08, "{before:.3} of a core before, {after:.3} after");
}

/// The processor time of this process, as a share of a core.
fn load() -> f64 {
    let (begin, before) = (Instant::now(), measure::processor_time());
    thread::sleep(Duration::from_millis(700));
    (measure::processor_time() - before).as_secs_f64() / begin.elapsed().as_secs_f64()
}

/// A child that measures.
fn weigh(how: &str) {
    let (context, nobody) = (Context::new(), Nobody::new());
    let push = Push::builder().context(&context).reconnect_max(Duration::from_secs(2)).send_byte_mark(0u64);
    let push = push.build().unwrap();
    let mut peers = Vec::new();
    let (before, after) = if how == "unbound" {
        let bound: Vec<_> = (0..300).map(|_| push.bind("tcp://127.0.0.1:*").unwrap()).collect();
        for endpoint in &bound {
            let mut raw = Raw::connect(endpoint.as_str()).unwrap();
            raw.shake_hands("PULL").unwrap();
            peers.push(raw);
        }
        push.wait_for_peers(peers.len(), PATIENCE).unwrap();
        // More than a kernel holds for each.
        push.send_many((0..300).map(|_| vec![0; 6 << 20])).unwrap();
        let before = load();
        bound.iter().for_each(|endpoint| push.unbind(endpoint).unwrap());
        (before, load())
    } else {
        for _ in 0..2000 {
            push.connect(&nobody.endpoint).unwrap();
        }
        push.send_many(["x"; 2000]).unwrap();
        let before = load();
        if how == "closed" {
            push.close();
        } else {
            (0..2000).for_each(|_| push.disconnect(&nobody.endpoint).unwrap());
        }
        (before, load())
    };
    child::tell(format!("{before} {after}"));
    push.close();
    context.close(Duration::ZERO);
}
