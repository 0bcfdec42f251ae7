//! Transports whose code uses the sockets it works for, wherever it is called: none of it runs while a lock is held that
//! such a use takes.

use crate::support::raw::Raw;
use crate::support::{PATIENCE, eventually, within};
use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use wiremesh::transports::mio::{Interest, Registry, Token};
use wiremesh::transports::{
    AddressError, Credentials, LinkOptions, Listener, Purpose, ReadBuf, Stream, Tcp, Transport,
};
use wiremesh::{AnySocket, Context, RecvError, SocketKind};

/// `meddling://`, which is tcp; each call of it uses the sockets that it knows.
#[derive(Clone, Default)]
struct Meddling(Arc<Meddler>);

#[derive(Default)]
struct Meddler {
    sockets: Mutex<Vec<Weak<AnySocket>>>,
    /// How often the streams were asked what their peers' systems have not taken, and that there is something.
    asked: AtomicUsize,
    holds: AtomicBool,
    /// A read panics from now on.
    panics: AtomicBool,
}

thread_local! {
    static MEDDLES: Cell<bool> = const { Cell::new(false) };
}

impl Meddling {
    fn register(context: &Context) -> Meddling {
        let meddling = Meddling::default();
        context.register_transport(Arc::new(meddling.clone())).expect("a new scheme");
        meddling
    }

    /// A socket that is meddled with.
    fn socket(&self, kind: SocketKind, context: &Context) -> Arc<AnySocket> {
        let builder = AnySocket::builder(kind).context(context).reconnect_interval(Duration::from_millis(5));
        let socket = Arc::new(builder.reconnect_max(Duration::from_millis(20)).build().expect("a socket"));
        self.0.sockets.lock().expect("no panic").push(Arc::downgrade(&socket));
        socket
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }
}

impl Meddler {
    fn meddle(&self) {
        if MEDDLES.replace(true) {
            return;
        }
        let sockets = self.sockets.lock().expect("no panic").clone();
        for socket in sockets.iter().filter_map(Weak::upgrade) {
            let _ = (socket.stats(), socket.peers(), socket.endpoints(), socket.bound());
        }
        MEDDLES.set(false);
    }
}

impl Transport for Meddling {
    fn scheme(&self) -> &str {
        "meddling"
    }

    fn check(&self, address: &str, purpose: Purpose) -> Result<(), AddressError> {
        self.0.meddle();
        Tcp.check(address, purpose)
    }

    fn resolve(&self, address: &str, options: &LinkOptions) -> io::Result<Vec<String>> {
        self.0.meddle();
        Tcp.resolve(address, options)
    }

    fn resolve_now(&self, address: &str) -> Option<Vec<String>> {
        self.0.meddle();
        Tcp.resolve_now(address)
    }

    fn bind(&self, address: &str, options: &LinkOptions) -> io::Result<Box<dyn Listener>> {
        self.0.meddle();
        Ok(Box::new(Used(Tcp.bind(address, options)?, Arc::clone(&self.0))))
    }

    fn connect(&self, resolved: &str, options: &LinkOptions) -> io::Result<Box<dyn Stream>> {
        self.0.meddle();
        Ok(Box::new(Used(Tcp.connect(resolved, options)?, Arc::clone(&self.0))))
    }
}

/// A stream or listener that meddles.
struct Used<T: ?Sized>(Box<T>, Arc<Meddler>);

impl<T: fmt::Debug + ?Sized> fmt::Debug for Used<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: ?Sized> Used<T> {
    fn inner(&self) -> &T {
        self.1.meddle();
        &self.0
    }
}

impl<T: ?Sized> Drop for Used<T> {
    fn drop(&mut self) {
        self.1.meddle();
    }
}

impl Stream for Used<dyn Stream> {
    fn register(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.inner().register(registry, token, interest)
    }

    fn reregister(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.inner().reregister(registry, token, interest)
    }

    fn deregister(&self, registry: &Registry) -> io::Result<()> {
        self.inner().deregister(registry)
    }

    fn read(&self, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        assert!(!self.1.panics.load(Ordering::SeqCst), "on purpose");
        self.inner().read(buf)
    }

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner().write_vectored(bufs)
    }

    fn connected(&self) -> io::Result<bool> {
        self.inner().connected()
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.inner().shutdown(how)
    }

    fn local_address(&self) -> String {
        self.inner().local_address()
    }

    fn peer_address(&self) -> String {
        self.inner().peer_address()
    }

    fn credentials(&self) -> Option<Credentials> {
        self.inner().credentials()
    }

    fn unsent(&self) -> usize {
        self.1.asked.fetch_add(1, Ordering::SeqCst);
        self.inner().unsent() + usize::from(self.1.holds.load(Ordering::SeqCst))
    }

    fn widen(&self) {
        self.inner().widen();
    }

    fn is_unanswered(&self) -> bool {
        self.inner().is_unanswered()
    }

    fn has_buffered(&self) -> bool {
        self.inner().has_buffered()
    }

    fn wants(&self) -> Option<Interest> {
        self.inner().wants()
    }

    fn deadline(&self) -> Option<Instant> {
        self.inner().deadline()
    }

    fn on_deadline(&self, now: Instant) {
        self.inner().on_deadline(now);
    }
}

impl Listener for Used<dyn Listener> {
    fn register(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.inner().register(registry, token, interest)
    }

    fn reregister(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.inner().reregister(registry, token, interest)
    }

    fn deregister(&self, registry: &Registry) -> io::Result<()> {
        self.inner().deregister(registry)
    }

    fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(Used(self.inner().accept()?, Arc::clone(&self.1))))
    }

    fn local_address(&self) -> String {
        self.inner().local_address()
    }

    fn close(self: Box<Self>) {
        self.1.meddle();
    }
}

/// With a deadline: what hangs fails.
fn meddled_with(what: &'static str, work: fn(&Context, &Meddling)) {
    for engine_only in [false, true] {
        within(PATIENCE, what, move || {
            let context = Context::builder().engine_only(engine_only).report_unsent(false).build();
            let meddling = Meddling::register(&context);
            work(&context, &meddling);
        });
    }
}

#[test]
fn a_transport_may_use_its_sockets_while_peers_come_and_go_and_messages_pass() {
    meddled_with("messages", |context, meddling| {
        let server = meddling.socket(SocketKind::Dealer, context);
        let endpoint = server.bind("meddling://127.0.0.1:*").expect("bound");
        for octets in [1, 100_000] {
            let client = meddling.socket(SocketKind::Dealer, context);
            client.connect(&endpoint).expect("a good endpoint");
            client.wait_for_peers(1, PATIENCE).expect("a peer");
            for (from, to) in [(&client, &server), (&server, &client)].repeat(20) {
                from.send(vec![7; octets]).expect("room");
                assert_eq!(to.recv_timeout(PATIENCE).expect("a message"), vec![7; octets]);
            }
            client.disconnect(&endpoint).expect("connected");
        }
        server.unbind(&endpoint).expect("bound");
    });
}

/// A peer that is none of ours, of that kind.
fn foreign(listener: &TcpListener, kind: &str) -> Raw {
    let mut raw = Raw::accepted(listener.accept().expect("a connection").0);
    raw.shake_hands(kind).expect("a socket");
    raw
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("meddling://{}", listener.local_addr().expect("bound"));
    (listener, endpoint)
}

#[test]
fn a_transport_may_use_its_sockets_when_it_is_asked_what_of_a_long_message_is_not_taken() {
    meddled_with("a long message", |context, meddling| {
        let (listener, endpoint) = listen();
        let push = meddling.socket(SocketKind::Push, context);
        push.connect(&endpoint).expect("a good endpoint");
        let mut peer = foreign(&listener, "PULL");
        push.wait_for_peers(1, PATIENCE).expect("a peer");
        let reader = std::thread::spawn(move || peer.read_exact(&mut vec![0; 5_000_000]));
        let before = meddling.asked();
        (0..5).for_each(|_| push.send(vec![7; 1_000_000]).expect("room"));
        reader.join().expect("no panic").expect("all of it");
        assert!(meddling.asked() > before, "it is asked");
    });
}

#[test]
fn a_transport_may_use_its_sockets_while_a_subscription_is_looked_for_that_nobody_takes() {
    meddled_with("a search", |context, meddling| {
        let (listener, endpoint) = listen();
        let sub = meddling.socket(SocketKind::Sub, context);
        (0..20).for_each(|topic| sub.subscribe(format!("topic {topic}")).expect("a topic"));
        sub.connect(&endpoint).expect("a good endpoint");
        // Each ends once it is told of the first, and then one goes on.
        (0..2).for_each(|_| foreign(&listener, "PUB").read_exact(&mut [0; 2]).expect("a subscription"));
        let mut peer = foreign(&listener, "PUB");
        let before = meddling.asked();
        let read = std::thread::spawn(move || {
            let mut octets = Vec::new();
            let _ = peer.read_to_end(&mut octets);
        });
        eventually(PATIENCE, "it is asked", || meddling.asked() > before);
        sub.stats();
        sub.close();
        context.shutdown();
        read.join().expect("no panic");
    });
}

#[test]
fn a_transport_may_use_its_sockets_when_it_is_asked_whether_anything_moves() {
    meddled_with("an end", |context, meddling| {
        let (listener, endpoint) = listen();
        let push = meddling.socket(SocketKind::Push, context);
        push.connect(&endpoint).expect("a good endpoint");
        let peer = foreign(&listener, "PULL");
        push.wait_for_peers(1, PATIENCE).expect("a peer");
        meddling.0.holds.store(true, Ordering::SeqCst);
        push.send("the last words").expect("room");
        push.flush(PATIENCE).expect("written");
        push.close();
        let before = meddling.asked();
        eventually(PATIENCE, "it is asked", || meddling.asked() > before + 3);
        context.close(Duration::from_millis(100));
        drop(peer);
    });
}

#[test]
fn a_transport_may_use_its_sockets_when_its_streams_go_with_a_socket_that_has_failed() {
    meddled_with("a failure", |context, meddling| {
        let (listener, endpoint) = listen();
        let dealer = meddling.socket(SocketKind::Dealer, context);
        let beside = meddling.socket(SocketKind::Dealer, context);
        dealer.connect(&endpoint).expect("a good endpoint");
        let mut peer = foreign(&listener, "DEALER");
        dealer.wait_for_peers(1, PATIENCE).expect("a peer");
        meddling.0.panics.store(true, Ordering::SeqCst);
        drop(listener);
        peer.set_read_timeout(PATIENCE);
        io::Write::write_all(&mut peer, b"\0\x01x").expect("open");
        assert_eq!(dealer.recv(), Err(RecvError::Failed));
        assert!(peer.is_closed_within(PATIENCE), "its stream is gone");
        assert!(beside.stats().is_balanced() && dealer.stats().is_balanced());
    });
}
