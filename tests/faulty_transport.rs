//! A transport of somebody else that panics, or fails in ways that ours do not: what that costs the socket, and nobody
//! else.

mod support;

use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use support::measure::kept_waiting;
use support::{Blocked, Nobody, PATIENCE, eventually, raw};
use wiremesh::transports::mio::{Interest, Registry, Token};
use wiremesh::transports::{AddressError, LinkOptions, Listener, Purpose, ReadBuf, Stream, Tcp, Transport};
use wiremesh::{
    BudgetHalf, Cause, Context, Dealer, Error, Event, EventKind, Monitor, Pull, Push, RecvError, Router, SendFailure,
    XPub, XSub,
};

/// Calls return within this time once their socket has failed.
const SOON: Duration = Duration::from_millis(50);

/// What can go wrong, from the moment it is switched on.
#[derive(Debug, Default)]
struct Faults {
    resolve: AtomicBool,
    connect: AtomicBool,
    accept: AtomicBool,
    /// Not a panic: whoever is to be accepted is gone, whenever that is tried.
    aborted: AtomicBool,
    read: AtomicBool,
    write: AtomicBool,
    /// Not a panic: nothing can be written, though there is something to read, or nothing.
    unwritable: AtomicBool,
    /// Nor this: a write takes nothing, and says so.
    takes_nothing: AtomicBool,
    dropped: AtomicBool,
    /// Nor this: nothing can be written now.
    full: AtomicBool,
    /// Nor these: a read waits until the stream is writable, a write until something is read.
    read_wants_write: AtomicBool,
    write_wants_read: AtomicBool,
    /// Nor this: a write takes as long as somebody holds it.
    slow: Mutex<()>,
    writes: AtomicUsize,
    /// Nor these: the peer's system has not taken everything, and the stream wants to be told that a moment has come.
    unsent: AtomicBool,
    due: Mutex<Option<Instant>>,
    /// These panic again: what a sender's thread asks after a write.
    widen: AtomicBool,
    asked: AtomicBool,
    /// Not this: a connection is not up yet when it is asked first.
    pending: AtomicBool,
    /// Nor this: nobody answers who wants a connection.
    unanswered: AtomicBool,
    /// Nor these: a look-up takes as long as somebody holds it, and finds these addresses before the right one.
    slow_look_up: Mutex<()>,
    detours: Mutex<Vec<String>>,
}

impl Faults {
    fn trip(what: &AtomicBool) {
        assert!(!what.load(Ordering::SeqCst), "the transport's own mistake");
    }
}

fn switch_on(fault: &AtomicBool) {
    fault.store(true, Ordering::SeqCst);
}

fn switch_off(fault: &AtomicBool) {
    fault.store(false, Ordering::SeqCst);
}

/// `faulty://`, which is tcp with faults.
struct Faulty(Arc<Faults>);

#[derive(Debug)]
struct FaultyStream(Box<dyn Stream>, Arc<Faults>);

#[derive(Debug)]
struct FaultyListener(Box<dyn Listener>, Arc<Faults>);

impl Transport for Faulty {
    fn scheme(&self) -> &str {
        "faulty"
    }

    fn check(&self, address: &str, purpose: Purpose) -> Result<(), AddressError> {
        Tcp.check(address, purpose)
    }

    fn resolve(&self, address: &str, options: &LinkOptions) -> io::Result<Vec<String>> {
        Faults::trip(&self.0.resolve);
        drop(self.0.slow_look_up.lock().unwrap_or_else(PoisonError::into_inner));
        let mut addresses = self.0.detours.lock().unwrap_or_else(PoisonError::into_inner).clone();
        addresses.extend(Tcp.resolve(address, options)?);
        Ok(addresses)
    }

    fn bind(&self, address: &str, options: &LinkOptions) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(FaultyListener(Tcp.bind(address, options)?, Arc::clone(&self.0))))
    }

    fn connect(&self, resolved: &str, options: &LinkOptions) -> io::Result<Box<dyn Stream>> {
        Faults::trip(&self.0.connect);
        Ok(Box::new(FaultyStream(Tcp.connect(resolved, options)?, Arc::clone(&self.0))))
    }
}

impl Stream for FaultyStream {
    fn register(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.0.register(registry, token, interest)
    }

    fn reregister(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        if interest.is_writable() {
            switch_off(&self.1.read_wants_write);
        }
        // Who is full is not writable.
        let full = self.1.full.load(Ordering::SeqCst);
        self.0.reregister(registry, token, if full { Interest::READABLE } else { interest })
    }

    fn deregister(&self, registry: &Registry) -> io::Result<()> {
        self.0.deregister(registry)
    }

    fn read(&self, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        Faults::trip(&self.1.read);
        if self.1.read_wants_write.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = self.0.read(buf)?;
        switch_off(&self.1.write_wants_read);
        Ok(read)
    }

    fn wants(&self) -> Option<Interest> {
        if self.1.read_wants_write.load(Ordering::SeqCst) {
            return Some(Interest::WRITABLE);
        }
        self.1.write_wants_read.load(Ordering::SeqCst).then_some(Interest::READABLE)
    }

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        Faults::trip(&self.1.write);
        self.1.writes.fetch_add(1, Ordering::SeqCst);
        if self.1.full.load(Ordering::SeqCst) || self.1.write_wants_read.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        drop(self.1.slow.lock().unwrap_or_else(PoisonError::into_inner));
        if self.1.unwritable.load(Ordering::SeqCst) {
            return Err(io::Error::other("no buffers"));
        }
        if self.1.takes_nothing.load(Ordering::SeqCst) {
            return Ok(0);
        }
        self.0.write_vectored(bufs)
    }

    fn widen(&self) {
        Faults::trip(&self.1.widen);
    }

    fn unsent(&self) -> usize {
        Faults::trip(&self.1.asked);
        usize::from(self.1.unsent.load(Ordering::SeqCst))
    }

    fn deadline(&self) -> Option<Instant> {
        *self.1.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_deadline(&self, _: Instant) {
        *self.1.due.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn connected(&self) -> io::Result<bool> {
        let is_unanswered = self.1.unanswered.load(Ordering::SeqCst);
        if self.1.pending.swap(false, Ordering::SeqCst) || is_unanswered { Ok(false) } else { self.0.connected() }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.shutdown(how)
    }

    fn local_address(&self) -> String {
        self.0.local_address()
    }

    fn peer_address(&self) -> String {
        self.0.peer_address()
    }
}

impl Drop for FaultyStream {
    fn drop(&mut self) {
        if !thread::panicking() {
            Faults::trip(&self.1.dropped);
        }
    }
}

impl Listener for FaultyListener {
    fn register(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.0.register(registry, token, interest)
    }

    fn reregister(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.0.reregister(registry, token, interest)
    }

    fn deregister(&self, registry: &Registry) -> io::Result<()> {
        self.0.deregister(registry)
    }

    fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Faults::trip(&self.1.accept);
        if self.1.aborted.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(Box::new(FaultyStream(self.0.accept()?, Arc::clone(&self.1))))
    }

    fn local_address(&self) -> String {
        self.0.local_address()
    }

    fn close(self: Box<Self>) {
        self.0.close();
    }
}

/// A context with the faulty transport, its faults, and two sockets over tcp that go on whatever happens beside them.
struct Scene {
    context: Context,
    faults: Arc<Faults>,
    beside: (Push, Pull),
}

impl Scene {
    fn new(engine_only: bool) -> Scene {
        let context = Context::builder().engine_only(engine_only).drop_wait(Some(Duration::from_millis(100))).build();
        let faults = Arc::new(Faults::default());
        context.register_transport(Arc::new(Faulty(Arc::clone(&faults)))).expect("a free scheme");
        let beside = (Push::in_context(&context), Pull::in_context(&context));
        let endpoint = beside.1.bind("tcp://127.0.0.1:*").expect("bound");
        beside.0.connect(&endpoint).expect("a good endpoint");
        Scene { context, faults, beside }
    }

    /// A PUSH over tcp, in a context of its own, connected to a PULL over the faulty transport.
    fn pair(&self) -> (Push, Pull) {
        let (push, pull) = (Push::in_context(&Context::new()), Pull::in_context(&self.context));
        let endpoint = pull.bind("faulty://127.0.0.1:*").expect("bound");
        push.connect(endpoint.as_str().replace("faulty", "tcp")).expect("a good endpoint");
        push.wait_for_peers(1, PATIENCE).expect("a peer");
        pull.wait_for_peers(1, PATIENCE).expect("a peer");
        (push, pull)
    }

    #[track_caller]
    fn goes_on_beside(&self) {
        self.beside.0.send("still here").expect("accepted");
        assert_eq!(self.beside.1.recv_timeout(PATIENCE).expect("the engine lives"), "still here");
    }
}

#[track_caller]
fn expect(monitor: &Monitor, what: &str, wanted: impl Fn(&EventKind) -> bool) -> Event {
    let mut seen = Vec::new();
    while let Some(event) = monitor.recv_timeout(PATIENCE) {
        if wanted(&event.kind) {
            return event;
        }
        seen.push(event);
    }
    panic!("{what} was not told; there were {seen:?}");
}

/// What is true of a socket that has failed.
#[track_caller]
fn is_failed(pull: &Pull, monitor: &Monitor) {
    let event = expect(monitor, "the failure", |kind| matches!(kind, EventKind::Closed(Cause::Failed(_))));
    assert!(event.to_string().contains("the transport's own mistake"), "{event}");
    assert!(event.endpoint.starts_with("faulty://"), "{event}");
    expect(monitor, "the end", |kind| matches!(kind, EventKind::MonitorStopped));
    assert_eq!(pull.recv(), Err(RecvError::Failed));
    assert_eq!(pull.try_recv(), Err(RecvError::Failed));
    assert!(matches!(pull.bind("tcp://127.0.0.1:*"), Err(Error::Failed)));
    assert!(matches!(pull.wait_for_peers(1, PATIENCE), Err(Error::Failed)));
    // Its descriptors are closed: others may have its address.
    let endpoint = event.endpoint.replace("faulty", "tcp");
    let next = Pull::in_context(&Context::new());
    eventually(PATIENCE, "its address is free", || next.bind(&endpoint).is_ok());
}

#[test]
fn a_panic_on_an_engine_thread_fails_its_socket_alone() {
    for engine_only in [false, true] {
        let scene = Scene::new(engine_only);
        let (push, pull) = scene.pair();
        let (monitor, there) = (pull.monitor(), push.monitor());
        switch_on(&scene.faults.read);
        push.send("the last straw").expect("accepted");
        is_failed(&pull, &monitor);
        expect(&there, "the loss", |kind| matches!(kind, EventKind::Disconnected(_)));
        scene.goes_on_beside();
        drop(pull);
        assert_eq!(scene.context.close(PATIENCE).messages, 0, "nothing is waited for");
    }
}

#[test]
fn a_caller_blocked_in_a_socket_that_fails_returns_at_once() {
    for engine_only in [false, true] {
        let scene = Scene::new(engine_only);
        let (push, pull) = scene.pair();
        let (monitor, pull) = (pull.monitor(), Arc::new(pull));
        let receivers = [(); 3].map(|()| {
            let pull = Arc::clone(&pull);
            Blocked::start(move || {
                let before = kept_waiting();
                (pull.recv(), kept_waiting().saturating_sub(before))
            })
        });
        receivers.iter().for_each(Blocked::settle);
        switch_on(&scene.faults.read);
        push.send("the last straw").expect("accepted");
        expect(&monitor, "the failure", |kind| matches!(kind, EventKind::Closed(Cause::Failed(_))));
        let told = Instant::now();
        for receiver in receivers {
            let ((outcome, kept), at) = receiver.outcome(PATIENCE).expect("it returns");
            assert_eq!(outcome, Err(RecvError::Failed));
            // What others had of the processor meanwhile is not the library's.
            let late = at.saturating_duration_since(told);
            assert!(late < SOON + kept, "{late:?}, of which it was kept waiting {kept:?}");
        }
        scene.goes_on_beside();
    }
}

#[test]
fn a_listener_that_panics_fails_its_socket() {
    let scene = Scene::new(false);
    let pull = Pull::in_context(&scene.context);
    let monitor = pull.monitor();
    let endpoint = pull.bind("faulty://127.0.0.1:*").expect("bound");
    switch_on(&scene.faults.accept);
    let push = Push::in_context(&Context::new());
    push.connect(endpoint.as_str().replace("faulty", "tcp")).expect("a good endpoint");
    is_failed(&pull, &monitor);
    scene.goes_on_beside();
}

/// As where a firewall forbids each accept: the driver must not do nothing else, and say nothing of it.
#[test]
fn a_listener_whose_newcomers_are_always_gone_pauses_and_says_so() {
    let scene = Scene::new(false);
    let pull = Pull::in_context(&scene.context);
    let monitor = pull.monitor();
    let endpoint = pull.bind("faulty://127.0.0.1:*").expect("bound");
    switch_on(&scene.faults.aborted);
    let push = Push::in_context(&Context::new());
    push.connect(endpoint.as_str().replace("faulty", "tcp")).expect("a good endpoint");
    let is_told = |event: Event| matches!(event.kind, EventKind::AcceptFailed(_));
    eventually(PATIENCE, "it is told", || monitor.try_recv().is_some_and(is_told));
    switch_off(&scene.faults.aborted);
    push.send("after a pause").expect("accepted");
    assert_eq!(pull.recv_timeout(PATIENCE).expect("it is accepted"), "after a pause");
}

#[test]
fn a_connect_that_panics_fails_its_socket() {
    let scene = Scene::new(false);
    let push = Push::in_context(&scene.context);
    let monitor = push.monitor();
    switch_on(&scene.faults.connect);
    push.connect("faulty://127.0.0.1:9").expect("a good endpoint");
    expect(&monitor, "the failure", |kind| matches!(kind, EventKind::Closed(Cause::Failed(_))));
    expect(&monitor, "the end", |kind| matches!(kind, EventKind::MonitorStopped));
    let error = push.send("x").expect_err("it has failed");
    assert_eq!((error.reason, error.message), (SendFailure::Failed, "x".into()));
    assert!(push.connected().is_empty());
    scene.goes_on_beside();
}

#[test]
fn a_panic_in_a_sender_s_own_write_fails_the_socket_and_is_not_the_sender_s() {
    for length in [1, 100_000] {
        a_write_panics(&vec![b'x'; length]);
    }
}

fn a_write_panics(body: &[u8]) {
    let scene = Scene::new(false);
    let (_pull, push) = over_faulty(&scene);
    switch_on(&scene.faults.write);
    // Accepted, as it would have been had the write come later.
    push.send(body).expect("accepted");
    fails_and_balances(&push);
    scene.goes_on_beside();
}

/// The application sends on a stream that is full, which its system is asked to widen.
#[test]
fn a_panic_where_a_sender_s_own_write_blocks_fails_the_socket_and_is_not_the_sender_s() {
    let scene = Scene::new(false);
    let (_pull, push) = over_faulty(&scene);
    switch_on(&scene.faults.full);
    switch_on(&scene.faults.widen);
    push.send(&[b'x'; 1000][..]).expect("accepted");
    fails_and_balances(&push);
    scene.goes_on_beside();
}

/// A long message to a peer that is none of ours is kept until that peer's system has it.
#[test]
fn a_panic_after_a_sender_s_own_write_fails_the_socket_and_is_not_the_sender_s() {
    for borrowed in [false, true] {
        let scene = Scene::new(false);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let push = Push::in_context(&scene.context);
        push.connect(format!("faulty://{}", listener.local_addr().expect("bound"))).expect("a good endpoint");
        let mut peer = raw::Raw::accepted(listener.accept().expect("it comes").0);
        peer.shake_hands("PULL").expect("a socket");
        push.wait_for_peers(1, PATIENCE).expect("a peer");
        switch_on(&scene.faults.asked);
        let reader = thread::spawn(move || peer.is_closed_within(PATIENCE));
        let body = vec![b'x'; 2_000_000];
        if borrowed { push.send(&body[..]) } else { push.send(body) }.expect("accepted");
        fails_and_balances(&push);
        assert!(reader.join().expect("no panic"), "its stream is closed");
        scene.goes_on_beside();
    }
}

/// A PULL in a context of its own, and a PUSH that is connected to it over the faulty transport.
fn over_faulty(scene: &Scene) -> (Pull, Push) {
    let (pull, push) = (Pull::in_context(&Context::new()), Push::in_context(&scene.context));
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    push.connect(endpoint.as_str().replace("tcp", "faulty")).expect("a good endpoint");
    push.wait_for_peers(1, PATIENCE).expect("a peer");
    (pull, push)
}

#[track_caller]
fn fails_and_balances(push: &Push) {
    eventually(PATIENCE, "later sends say so", || {
        push.try_send("y").is_err_and(|error| error.reason == SendFailure::Failed)
    });
    let stats = push.stats();
    let dropped = stats.dropped.linger + stats.dropped.disconnect;
    assert_eq!(stats.accepted, stats.written + stats.queued + dropped, "{stats:?}");
}

#[test]
fn streams_that_panic_in_their_drop_as_well_change_nothing() {
    let scene = Scene::new(false);
    let (push, pull) = scene.pair();
    let more = [(); 3].map(|()| Push::in_context(&Context::new()));
    let endpoint = pull.bound()[0].replace("faulty", "tcp");
    for push in &more {
        push.connect(&endpoint).expect("a good endpoint");
    }
    pull.wait_for_peers(4, PATIENCE).expect("peers");
    let monitor = pull.monitor();
    switch_on(&scene.faults.read);
    switch_on(&scene.faults.dropped);
    push.send("the last straw").expect("accepted");
    is_failed(&pull, &monitor);
    scene.goes_on_beside();
}

#[test]
fn look_ups_that_panic_are_look_ups_that_failed() {
    let scene = Scene::new(false);
    let pull = Pull::in_context(&Context::new());
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound").as_str().replace("tcp", "faulty");
    let push = Push::builder().context(&scene.context).reconnect_interval(Duration::from_millis(1));
    let push = push.reconnect_max(Duration::from_millis(5)).build().expect("good options");
    let monitor = push.monitor();
    switch_on(&scene.faults.resolve);
    push.connect(&endpoint).expect("a good endpoint");
    // More of them than the resolver has threads.
    for _ in 0..10 {
        expect(&monitor, "the next attempt", |kind| matches!(kind, EventKind::ConnectRetried(_)));
    }
    switch_off(&scene.faults.resolve);
    push.send("found").expect("accepted");
    assert_eq!(pull.recv_timeout(PATIENCE).expect("it goes on"), "found");
}

/// Reading says nothing of it: the connection must not stay, with messages that nobody writes any more.
#[test]
fn a_stream_that_cannot_be_written_any_more_is_given_up() {
    let scene = Scene::new(false);
    let router = Router::in_context(&Context::new());
    let dealer = Dealer::builder().context(&scene.context).reconnect_interval(Duration::from_millis(1));
    let dealer = dealer.routing_id("d").build().expect("good options");
    let endpoint = router.bind("tcp://127.0.0.1:*").expect("bound");
    dealer.connect(endpoint.as_str().replace("tcp", "faulty")).expect("a good endpoint");
    dealer.wait_for_peers(1, PATIENCE).expect("a peer");
    let monitor = dealer.monitor();
    switch_on(&scene.faults.unwritable);
    dealer.send("not yet").expect("accepted");
    expect(&monitor, "the loss", |kind| matches!(kind, EventKind::Disconnected(Cause::System(_))));
    switch_off(&scene.faults.unwritable);
    let (_, message) = router.recv_timeout(PATIENCE).expect("over the next connection");
    assert_eq!(message, "not yet");
}

/// Its handshake is there and ours cannot be written: waiting for that must not turn in circles, nor last for ever.
#[test]
fn a_handshake_that_cannot_be_written_waits_quietly_and_times_out() {
    let scene = Scene::new(false);
    let pull = Pull::builder().context(&scene.context).handshake_timeout(Duration::from_millis(200));
    let pull = pull.build().expect("good options");
    let monitor = pull.monitor();
    let endpoint = pull.bind("faulty://127.0.0.1:*").expect("bound");
    switch_on(&scene.faults.full);
    let mut peer = TcpStream::connect(endpoint.address()).expect("it listens");
    peer.write_all(&[&raw::greeting()[..], &raw::ready("PUSH")].concat()).expect("it fits the buffers");
    peer.shutdown(Shutdown::Write).expect("it is connected");
    let failed =
        |kind: &EventKind| matches!(kind, EventKind::HandshakeFailed(Cause::Protocol(error)) if error.is_timeout());
    expect(&monitor, "the end of its time", failed);
    let writes = scene.faults.writes.load(Ordering::SeqCst);
    assert!(writes < 20, "{writes} attempts");
}

/// To try again for ever would keep the engine thread from everybody.
#[test]
fn a_stream_that_takes_nothing_of_a_handshake_or_fails_at_it_is_given_up() {
    for (engine_only, fails) in [(false, false), (false, true), (true, false), (true, true)] {
        let scene = Scene::new(engine_only);
        let pull = Pull::in_context(&scene.context);
        let monitor = pull.monitor();
        let endpoint = pull.bind("faulty://127.0.0.1:*").expect("bound");
        switch_on(if fails { &scene.faults.unwritable } else { &scene.faults.takes_nothing });
        let _peer = TcpStream::connect(endpoint.address()).expect("it listens");
        expect(&monitor, "the loss", |kind| matches!(kind, EventKind::HandshakeFailed(Cause::System(_))));
        scene.goes_on_beside();
        let push = Push::in_context(&scene.context);
        let monitor = push.monitor();
        push.connect(&endpoint).expect("a good endpoint");
        expect(&monitor, "the loss", |kind| matches!(kind, EventKind::HandshakeFailed(Cause::System(_))));
        scene.goes_on_beside();
    }
}

#[test]
fn a_stream_that_takes_nothing_of_what_is_said_last_is_closed_all_the_same() {
    let scene = Scene::new(false);
    let pull = Pull::in_context(&scene.context);
    let monitor = pull.monitor();
    let endpoint = pull.bind("faulty://127.0.0.1:*").expect("bound");
    switch_on(&scene.faults.full);
    let mut peer = TcpStream::connect(endpoint.address()).expect("it listens");
    expect(&monitor, "the newcomer", |kind| matches!(kind, EventKind::Accepted));
    switch_on(&scene.faults.takes_nothing);
    switch_off(&scene.faults.full);
    peer.write_all(b"not the greeting of anybody who speaks this protocol: it is refused").expect("it is connected");
    expect(&monitor, "the end", |kind| matches!(kind, EventKind::HandshakeFailed(_)));
    scene.goes_on_beside();
}

#[test]
fn a_stream_that_takes_nothing_of_a_message_is_given_up() {
    let scene = Scene::new(false);
    let (push, pull) = (Push::in_context(&scene.context), Pull::in_context(&Context::new()));
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    push.connect(endpoint.as_str().replace("tcp", "faulty")).expect("a good endpoint");
    push.wait_for_peers(1, PATIENCE).expect("a peer");
    let monitor = push.monitor();
    switch_on(&scene.faults.takes_nothing);
    push.send("short").expect("there is room");
    push.send(vec![7; 100_000]).expect("there is room");
    expect(&monitor, "the loss", |kind| matches!(kind, EventKind::Disconnected(Cause::System(_))));
    switch_off(&scene.faults.takes_nothing);
    assert_eq!(pull.recv_timeout(PATIENCE).expect("over the next connection"), "short");
    assert_eq!(pull.recv_timeout(PATIENCE).expect("over the next connection").byte_len(), 100_000);
}

/// A connection that only waits until everything is taken still does what its stream asks for.
#[test]
fn a_stream_s_deadline_is_kept_while_its_socket_closes() {
    let scene = Scene::new(false);
    let (_push, pull) = scene.pair();
    let monitor = pull.monitor();
    switch_on(&scene.faults.unsent);
    *scene.faults.due.lock().expect("nobody panics with it") = Some(Instant::now());
    pull.close();
    expect(&monitor, "the end", |kind| matches!(kind, EventKind::MonitorStopped));
    scene.goes_on_beside();
}

/// The last write of a closing socket ends on the thread of its sender, where nobody drives.
#[test]
fn a_socket_closed_under_a_slow_write_is_done_when_the_write_is() {
    let scene = Scene::new(false);
    let push = Arc::new(Push::in_context(&scene.context));
    let endpoint = push.bind("faulty://127.0.0.1:*").expect("bound").as_str().replace("faulty", "tcp");
    let pull = Pull::in_context(&Context::new());
    pull.connect(&endpoint).expect("a good endpoint");
    push.wait_for_peers(1, PATIENCE).expect("a peer");
    let (monitor, there) = (push.monitor(), pull.monitor());
    let slow = scene.faults.slow.lock().expect("nobody panics with it");
    let before = scene.faults.writes.load(Ordering::SeqCst);
    let sender = thread::spawn({
        let push = Arc::clone(&push);
        move || push.send("the last words")
    });
    eventually(PATIENCE, "the write has begun", || scene.faults.writes.load(Ordering::SeqCst) > before);
    push.close();
    expect(&monitor, "the close", |kind| matches!(kind, EventKind::Closed(Cause::Local)));
    drop(slow);
    assert!(sender.join().expect("no panic").is_ok());
    assert_eq!(pull.recv_timeout(PATIENCE).expect("it was accepted"), "the last words");
    expect(&there, "the loss", |kind| matches!(kind, EventKind::Disconnected(_)));
    expect(&monitor, "the end", |kind| matches!(kind, EventKind::MonitorStopped));
}

#[test]
fn the_law_holds_for_what_is_sent_upstream_while_a_peer_goes() {
    let scene = Scene::new(false);
    let xsub = Arc::new(XSub::in_context(&scene.context));
    let endpoint = xsub.bind("faulty://127.0.0.1:*").expect("bound");
    let xpub = XPub::in_context(&Context::new());
    xpub.connect(endpoint.as_str().replace("faulty", "tcp")).expect("a good endpoint");
    xsub.wait_for_peers(1, PATIENCE).expect("a peer");
    eventually(PATIENCE, "the handshake is written", || xpub.stats().connections == 1);
    let slow = scene.faults.slow.lock().expect("nobody panics with it");
    let sender = Arc::clone(&xsub);
    let writer = thread::spawn(move || sender.send("\x02first"));
    eventually(PATIENCE, "it is being written", || xsub.stats().accepted == 1);
    drop(xpub);
    eventually(PATIENCE, "the loss", || xsub.stats().connections == 0);
    for _ in 0..5 {
        xsub.send("\x02lost").expect("accepted");
    }
    drop(slow);
    writer.join().expect("no panic").expect("accepted");
    eventually(PATIENCE, "the first is settled", || xsub.stats().queued == 0);
    let stats = xsub.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!(stats.dropped.unroutable, 5, "{stats:?}");
}

#[test]
fn what_a_failed_socket_held_leaves_the_budget() {
    let context = Context::builder().byte_budget(Some(4 << 20)).build();
    let faults = Arc::new(Faults::default());
    context.register_transport(Arc::new(Faulty(Arc::clone(&faults)))).expect("a free scheme");
    let router = Router::in_context(&context);
    let endpoint = router.bind("faulty://127.0.0.1:*").expect("bound");
    let plain = endpoint.as_str().replace("faulty", "tcp");
    let mut stranger = raw::Raw::connect(&plain).expect("accepted");
    stranger.shake_hands("DEALER").expect("a socket");
    stranger.set_write_timeout(Duration::from_millis(100));
    let part = raw::frame(true, &[7; 8192]).repeat(8);
    // Who is no longer read stops.
    let _ = (0..96).try_for_each(|_| stranger.write_all(&part));
    let held = || context.bytes_held(BudgetHalf::Receiving);
    eventually(PATIENCE, "an unfinished message fills the budget", || held() > 2 << 20);
    switch_on(&faults.accept);
    let _second = raw::Raw::connect(&plain);
    eventually(PATIENCE, "the failure", || router.try_recv().is_err_and(|error| error == RecvError::Failed));
    eventually(PATIENCE, "the budget is free again", || held() == 0);
}

#[test]
fn a_read_that_wants_the_stream_writable_is_tried_when_it_is() {
    for engine_only in [false, true] {
        let scene = Scene::new(engine_only);
        let (push, pull) = scene.pair();
        push.send("before").expect("room");
        assert_eq!(pull.recv_timeout(PATIENCE).expect("a plain read"), "before");
        switch_on(&scene.faults.read_wants_write);
        push.send("after").expect("room");
        assert_eq!(pull.recv_timeout(PATIENCE).expect("the read was tried again"), "after");
    }
}

#[test]
fn a_write_that_wants_the_stream_readable_is_tried_when_it_is_and_not_before() {
    for engine_only in [false, true] {
        let scene = Scene::new(engine_only);
        let far = Context::new();
        let (here, there) = (Dealer::in_context(&scene.context), Dealer::in_context(&far));
        let endpoint = there.bind("tcp://127.0.0.1:*").expect("bound");
        here.connect(endpoint.to_string().replace("tcp:", "faulty:")).expect("a good endpoint");
        there.send("go on").expect("room");
        assert_eq!(here.recv_timeout(PATIENCE).expect("the way is open"), "go on");
        switch_on(&scene.faults.write_wants_read);
        let before = scene.faults.writes.load(Ordering::SeqCst);
        here.send("held").expect("room");
        assert!(there.recv_timeout(Duration::from_millis(50)).is_err(), "the stream takes nothing");
        let tries = scene.faults.writes.load(Ordering::SeqCst) - before;
        assert!(tries < 10, "{tries} tries: nobody said that it would take more");
        there.send("read this").expect("room");
        assert_eq!(there.recv_timeout(PATIENCE).expect("the write was tried again"), "held");
        assert_eq!(here.recv_timeout(PATIENCE).expect("it was read"), "read this");
    }
}

#[test]
fn an_attempt_that_takes_a_moment_is_told_before_it_succeeds() {
    let scene = Scene::new(false);
    let pull = Pull::in_context(&Context::new());
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    let push = Push::in_context(&scene.context);
    let monitor = push.monitor();
    switch_on(&scene.faults.pending);
    push.connect(endpoint.as_str().replace("tcp", "faulty")).expect("a good endpoint");
    let kinds: Vec<EventKind> = (0..3).map(|_| monitor.recv_timeout(PATIENCE).expect("an event").kind).collect();
    assert!(
        matches!(kinds[..], [EventKind::ConnectDelayed, EventKind::Connected, EventKind::HandshakeSucceeded]),
        "{kinds:?}"
    );
}

/// An attempt is given up after half a minute.
const SOONER_THAN_IT_TIMES_OUT: Duration = Duration::from_secs(10);

#[test]
fn connecting_again_does_not_wait_for_an_old_attempt_that_nobody_has_answered() {
    let scene = Scene::new(false);
    let pull = Pull::in_context(&Context::new());
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    let push = Push::in_context(&scene.context);
    let monitor = push.monitor();
    let endpoint = endpoint.as_str().replace("tcp", "faulty");
    switch_on(&scene.faults.unanswered);
    push.connect(&endpoint).expect("a good endpoint");
    push.send("1st").expect("accepted");
    expect(&monitor, "an attempt", |kind| matches!(kind, EventKind::ConnectDelayed));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(1200) {
        assert!(
            monitor
                .recv_timeout(Duration::from_millis(100))
                .is_none_or(|event| !matches!(event.kind, EventKind::Connected))
        );
    }
    // That attempt is not told any more.
    switch_off(&scene.faults.unanswered);
    push.disconnect(&endpoint).expect("connected");
    push.connect(&endpoint).expect("a good endpoint");
    push.send("2nd").expect("accepted");
    for wanted in ["1st", "2nd"] {
        assert_eq!(pull.recv_timeout(SOONER_THAN_IT_TIMES_OUT).expect("a message"), wanted);
    }
}

#[test]
fn a_look_up_that_takes_long_keeps_nobody_else_waiting() {
    for engine_only in [false, true] {
        let scene = Scene::new(engine_only);
        let pull = Pull::in_context(&scene.context);
        let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
        let slow = scene.faults.slow_look_up.lock().expect("nobody panics with it");
        // More of them than look names up at once.
        let pushes = [(); 10].map(|()| {
            let push = Push::in_context(&scene.context);
            push.connect(endpoint.as_str().replace("tcp", "faulty")).expect("a good endpoint");
            push
        });
        let quick = Push::in_context(&scene.context);
        quick.connect(&endpoint).expect("a good endpoint");
        for _ in 0..100 {
            quick.send("past them").expect("accepted");
            assert_eq!(pull.recv_timeout(PATIENCE).expect("a message"), "past them");
            scene.goes_on_beside();
        }
        assert_eq!(pull.stats().connections, 1);
        drop(slow);
        for push in &pushes {
            push.wait_for_peers(1, PATIENCE).expect("its turn has come");
        }
    }
}

#[test]
fn all_addresses_of_a_name_are_tried() {
    let scene = Scene::new(false);
    let pull = Pull::in_context(&Context::new());
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound").as_str().replace("tcp", "faulty");
    // Nobody is at the first two, as their ports were free a moment ago and are bound to no listener.
    let taken = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
    let detours = taken.map(|listener| listener.local_addr().expect("bound").to_string());
    scene.faults.detours.lock().expect("nobody panics with it").extend(detours);
    // It has one attempt, in which all are tried.
    let push = Push::builder().context(&scene.context).reconnect_interval(None).build().expect("good options");
    push.connect(&endpoint).expect("a good endpoint");
    push.wait_for_peers(1, PATIENCE).expect("the last address is the right one");
}

/// A look-up may find very many, and then each attempt fails at once. They take neither a stack nor a turn.
#[test]
fn however_many_addresses_a_name_has_all_are_tried_and_nobody_else_waits() {
    for engine_only in [false, true] {
        let scene = Scene::new(engine_only);
        let pull = Pull::in_context(&Context::new());
        let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound").as_str().replace("tcp", "faulty");
        let nobody = Nobody::new();
        let detour = nobody.endpoint.replace("tcp://", "");
        scene.faults.detours.lock().expect("nobody panics with it").extend(vec![detour; MANY_ADDRESSES]);
        let push = Push::builder().context(&scene.context).reconnect_interval(None).build().expect("good options");
        push.connect(&endpoint).expect("a good endpoint");
        let mut rounds = 0;
        eventually(PATIENCE, "the last address is the right one", || {
            scene.goes_on_beside();
            rounds += 1;
            push.stats().connections == 1
        });
        assert!(rounds > 1, "others have their turns between two attempts");
    }
}

const MANY_ADDRESSES: usize = 20_000;
