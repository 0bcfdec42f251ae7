//! What becomes of messages while a stream holds them up: with a third party's transport, whose streams take the
//! handshake and then no message.

use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpListener};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::raw::Raw;
use crate::support::{PATIENCE, alone, eventually};
use mio::{Interest, Registry, Token};
use wiremesh::transports::sys::ReadBuf;
use wiremesh::transports::{AddressError, LinkOptions, Listener, Purpose, Stream, Tcp, Transport};
use wiremesh::{Context, Dealer, EventKind, Push};

/// tcp, but messages are not written.
struct Held(Arc<Dam>);

#[derive(Debug, Default)]
struct Dam {
    state: Mutex<State>,
    change: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// A write of messages says that the stream is full.
    #[default]
    Full,
    /// A write of messages keeps its thread until the state is another.
    Keeping,
    /// A thread is being kept.
    Kept,
}

impl Dam {
    fn set(&self, state: State) {
        *self.state.lock().unwrap() = state;
        self.change.notify_all();
    }

    fn wait_for(&self, wanted: State) {
        let state = self.state.lock().unwrap();
        let (_state, limit) = self.change.wait_timeout_while(state, PATIENCE, |state| *state != wanted).unwrap();
        assert!(!limit.timed_out(), "{wanted:?}");
    }
}

impl Transport for Held {
    fn scheme(&self) -> &str {
        "held"
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

    fn connect(&self, resolved: &str, options: &LinkOptions) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(HeldStream(Tcp.connect(resolved, options)?, Arc::clone(&self.0))))
    }
}

#[derive(Debug)]
struct HeldStream(Box<dyn Stream>, Arc<Dam>);

impl Stream for HeldStream {
    fn register(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.0.register(registry, token, interest)
    }

    fn reregister(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.0.reregister(registry, token, interest)
    }

    fn deregister(&self, registry: &Registry) -> io::Result<()> {
        self.0.deregister(registry)
    }

    fn read(&self, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        self.0.read(buf)
    }

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        // A greeting begins with 0xff, a command with 4 or 6.
        if bufs.first().and_then(|slice| slice.first()).is_none_or(|flags| *flags > 3) {
            return self.0.write_vectored(bufs);
        }
        let mut state = self.1.state.lock().unwrap();
        if *state == State::Keeping {
            *state = State::Kept;
            self.1.change.notify_all();
            let _state = self.1.change.wait_while(state, |state| *state == State::Kept).unwrap();
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn connected(&self) -> io::Result<bool> {
        self.0.connected()
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

fn context(dam: &Arc<Dam>) -> Context {
    let context = Context::builder().drop_wait(Some(Duration::from_millis(100))).build();
    context.register_transport(Arc::new(Held(Arc::clone(dam)))).unwrap();
    context
}

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("held://{}", listener.local_addr().unwrap());
    (listener, endpoint)
}

/// The next connection, past its handshake.
fn accept(listener: &TcpListener, kind: &str) -> Raw {
    let mut peer = Raw::accepted(listener.accept().unwrap().0);
    peer.shake_hands(kind).unwrap();
    peer
}

#[test]
fn what_a_thread_is_writing_when_the_linger_time_ends_is_unsent_and_counted_so() {
    let _turn = alone();
    let dam = Arc::new(Dam::default());
    dam.set(State::Keeping);
    let context = context(&dam);
    let (listener, endpoint) = listener();
    let push = Push::in_context(&context);
    push.connect(endpoint).unwrap();
    let _peer = accept(&listener, "PULL");
    push.wait_for_peers(1, PATIENCE).unwrap();
    let monitor = push.monitor();
    // The socket has been quiet: the sender writes itself.
    thread::sleep(Duration::from_millis(1));
    thread::scope(|scope| {
        scope.spawn(|| push.send("never written").unwrap());
        dam.wait_for(State::Kept);
        let closing = scope.spawn(|| context.close(Duration::ZERO));
        while !matches!(monitor.recv().unwrap().kind, EventKind::MonitorStopped) {}
        // The socket has given everything up, but for what the sender has in hand.
        dam.set(State::Full);
        let unsent = closing.join().unwrap();
        assert_eq!((unsent.messages, unsent.bytes), (1, 15));
    });
    let stats = push.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!((stats.dropped.linger, stats.dropped.total(), stats.queued), (1, 1, 0));
}

#[test]
fn what_a_thread_is_writing_when_an_endpoint_gives_up_is_lost_to_linger() {
    let _turn = alone();
    let dam = Arc::new(Dam::default());
    dam.set(State::Keeping);
    let context = context(&dam);
    let (listener, endpoint) = listener();
    let push = Push::builder().context(&context).linger(Duration::ZERO).build().unwrap();
    push.connect(&endpoint).unwrap();
    let _peer = accept(&listener, "PULL");
    push.wait_for_peers(1, PATIENCE).unwrap();
    thread::sleep(Duration::from_millis(1));
    thread::scope(|scope| {
        scope.spawn(|| push.send("never written").unwrap());
        dam.wait_for(State::Kept);
        push.disconnect(&endpoint).unwrap();
        eventually(PATIENCE, "the connection is gone", || push.stats().connections == 0);
        dam.set(State::Full);
    });
    eventually(PATIENCE, "it is settled", || push.stats().queued == 0);
    let stats = push.stats();
    assert_eq!((stats.dropped.linger, stats.dropped.total()), (1, 1), "{stats:?}");
}

#[test]
fn a_greeting_that_was_not_written_waits_for_the_next_connection_and_does_not_pile_up() {
    let _turn = alone();
    let dam = Arc::new(Dam::default());
    let context = context(&dam);
    let (listener, endpoint) = listener();
    let dealer = Dealer::builder().context(&context).hello_message("hello").probe_router(true);
    let dealer = dealer.reconnect_interval(Duration::from_millis(1)).reconnect_max(Duration::from_millis(1));
    let dealer = dealer.build().unwrap();
    dealer.connect(&endpoint).unwrap();
    dealer.send("message").unwrap();
    for _ in 0..5 {
        let peer = accept(&listener, "ROUTER");
        dealer.wait_for_peers(1, PATIENCE).unwrap();
        drop(peer);
        eventually(PATIENCE, "the loss is noticed", || dealer.stats().connections == 0);
    }
    let stats = dealer.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    // The greeting, the probe, the message.
    assert_eq!((stats.queued, stats.dropped.total()), (3, 0), "{stats:?}");
}
