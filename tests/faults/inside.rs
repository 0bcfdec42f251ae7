//! Sockets and contexts that end on a thread that is in the middle of what an engine does: in a transport of the
//! application.

use crate::support::{Nobody, PATIENCE, eventually, within};
use bytes::Bytes;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use wiremesh::transports::mio::{Interest, Registry, Token};
use wiremesh::transports::{AddressError, LinkOptions, Listener, Purpose, ReadBuf, Stream, Tcp, Transport};
use wiremesh::{Closer, Context, Pull, Push, RecvError, SendError};

/// Where in a transport something is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    Resolve,
    Connect,
    Accept,
    Write,
    Read,
    Shutdown,
    Drop,
}

type Deed = Box<dyn FnOnce() + Send>;

/// Tcp, but the first call at a place, by one thread or any, does something else as well, once it is given to it.
#[derive(Clone)]
struct Doing {
    at: At,
    by: Option<ThreadId>,
    deed: Arc<Mutex<Option<Receiver<Deed>>>>,
    took: Sender<Duration>,
}

impl Doing {
    /// In that context; what the call is to do, and how long that took.
    fn register(context: &Context, at: At) -> (Sender<Deed>, Receiver<Duration>) {
        Doing::register_for(context, at, None)
    }

    /// As [`register`](Doing::register), for calls by the thread that calls this.
    fn register_here(context: &Context, at: At) -> (Sender<Deed>, Receiver<Duration>) {
        Doing::register_for(context, at, Some(thread::current().id()))
    }

    fn register_for(context: &Context, at: At, by: Option<ThreadId>) -> (Sender<Deed>, Receiver<Duration>) {
        let ((give, deed), (took, times)) = (channel(), channel());
        let doing = Doing { at, by, deed: Arc::new(Mutex::new(Some(deed))), took };
        context.register_transport(Arc::new(doing)).expect("a new scheme");
        (give, times)
    }

    fn come_by(&self, at: At) {
        let is_meant = at == self.at && self.by.is_none_or(|by| by == thread::current().id());
        let deed = if is_meant { self.deed.lock().expect("no panic").take() } else { None };
        let Some(deed) = deed.and_then(|deed| deed.recv_timeout(PATIENCE).ok()) else { return };
        let begin = Instant::now();
        deed();
        let _ = self.took.send(begin.elapsed());
    }
}

impl Transport for Doing {
    fn scheme(&self) -> &str {
        "doing"
    }

    fn check(&self, address: &str, purpose: Purpose) -> Result<(), AddressError> {
        Tcp.check(address, purpose)
    }

    fn resolve(&self, address: &str, options: &LinkOptions) -> io::Result<Vec<String>> {
        self.come_by(At::Resolve);
        Tcp.resolve(address, options)
    }

    fn bind(&self, address: &str, options: &LinkOptions) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(Accepting { listener: Tcp.bind(address, options)?, doing: self.clone() }))
    }

    fn connect(&self, address: &str, options: &LinkOptions) -> io::Result<Box<dyn Stream>> {
        self.come_by(At::Connect);
        Ok(Box::new(Moving { stream: Tcp.connect(address, options)?, doing: self.clone() }))
    }
}

struct Accepting {
    listener: Box<dyn Listener>,
    doing: Doing,
}

impl fmt::Debug for Accepting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listener.fmt(f)
    }
}

impl Listener for Accepting {
    fn register(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.listener.register(registry, token, interest)
    }

    fn reregister(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.listener.reregister(registry, token, interest)
    }

    fn deregister(&self, registry: &Registry) -> io::Result<()> {
        self.listener.deregister(registry)
    }

    fn accept(&self) -> io::Result<Box<dyn Stream>> {
        let stream = self.listener.accept()?;
        self.doing.come_by(At::Accept);
        Ok(Box::new(Moving { stream, doing: self.doing.clone() }))
    }

    fn local_address(&self) -> String {
        self.listener.local_address()
    }

    fn close(self: Box<Self>) {
        self.listener.close();
    }
}

struct Moving {
    stream: Box<dyn Stream>,
    doing: Doing,
}

impl fmt::Debug for Moving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(f)
    }
}

impl Stream for Moving {
    fn register(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.stream.register(registry, token, interest)
    }

    fn reregister(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.stream.reregister(registry, token, interest)
    }

    fn deregister(&self, registry: &Registry) -> io::Result<()> {
        self.stream.deregister(registry)
    }

    fn read(&self, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        self.doing.come_by(At::Read);
        self.stream.read(buf)
    }

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.doing.come_by(At::Write);
        self.stream.write_vectored(bufs)
    }

    fn connected(&self) -> io::Result<bool> {
        self.stream.connected()
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.doing.come_by(At::Shutdown);
        self.stream.shutdown(how)
    }

    fn local_address(&self) -> String {
        self.stream.local_address()
    }

    fn peer_address(&self) -> String {
        self.stream.peer_address()
    }

    fn unsent(&self) -> usize {
        self.stream.unsent()
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        self.doing.come_by(At::Drop);
    }
}

/// What waits for nothing is done by then, on a busy machine as well.
const AT_ONCE: Duration = Duration::from_secs(1);

fn is_done_at_once(times: &Receiver<Duration>, what: &str) {
    let took = times.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what} does not return"));
    assert!(took < AT_ONCE, "{what} took {took:?}");
}

/// A socket with a message that nobody takes: the drop of the last handle of its context waits for that.
fn waiting(context: &Context, nobody: &str) -> Push {
    let push = Push::in_context(context);
    push.connect(nobody).expect("good");
    push.send("for nobody").expect("there is room");
    push
}

/// The last handle of a context goes in a call of a transport at that place. The context ends all the same.
fn last_handle_goes(at: At) {
    let nobody = Nobody::new();
    let context = Context::builder().report_unsent(false).drop_wait(Some(2 * AT_ONCE)).build();
    let (give, times) = Doing::register(&context, at);
    let pull = Pull::in_context(&context);
    let bound = pull.bind("doing://127.0.0.1:*").expect("a port");
    let push = waiting(&context, &nobody.endpoint);
    let (_, port) = bound.address().rsplit_once(':').expect("a port");
    push.connect(format!("doing://localhost:{port}")).expect("good");
    let body = Arc::new(());
    let kept = Arc::downgrade(&body);
    push.send(Bytes::from_owner(Owner(vec![1; 100_000], body))).expect("there is room");
    push.send("more").expect("there is room");
    if at == At::Shutdown || at == At::Drop {
        let left = Push::in_context(&context);
        left.connect(format!("doing://localhost:{port}")).expect("good");
        eventually(PATIENCE, "it is connected", || left.stats().connections == 1);
        left.close();
    }
    give.send(Box::new(move || drop((push, pull, context)))).expect("it waits");
    is_done_at_once(&times, "the drop");
    eventually(PATIENCE, "all that was in the context is gone", || kept.strong_count() == 0);
}

struct Owner<T>(Vec<u8>, #[allow(dead_code, reason = "it is dropped")] T);

impl<T> AsRef<[u8]> for Owner<T> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[test]
fn the_last_handle_of_a_context_that_goes_within_a_look_up_is_not_waited_for() {
    last_handle_goes(At::Resolve);
}

#[test]
fn the_last_handle_of_a_context_that_goes_within_accept_is_not_waited_for() {
    last_handle_goes(At::Accept);
}

#[test]
fn the_last_handle_of_a_context_that_goes_within_a_write_is_not_waited_for() {
    last_handle_goes(At::Write);
}

#[test]
fn the_last_handle_of_a_context_that_goes_within_a_read_is_not_waited_for() {
    last_handle_goes(At::Read);
}

#[test]
fn the_last_handle_of_a_context_that_goes_within_a_shutdown_is_not_waited_for() {
    last_handle_goes(At::Shutdown);
}

#[test]
fn the_last_handle_of_a_context_that_goes_within_the_drop_of_a_stream_is_not_waited_for() {
    last_handle_goes(At::Drop);
}

/// What is done within a call of a socket's transport to its context, or to the socket.
const ENDS: [fn(&Context, &Closer); 2] = [
    |context, _| {
        context.close(Duration::from_secs(60));
    },
    |_, closer| closer.close(),
];

/// A thread sends, and its own write ends the socket: the message that it writes arrives, and all are accounted for.
fn ends_within_its_write(send: fn(&Push) -> Result<(), SendError>) {
    within(2 * PATIENCE, "a send", move || {
        for end in ENDS {
            let (context, other) = (Context::builder().report_unsent(false).build(), Context::new());
            let (give, times) = Doing::register_here(&context, At::Write);
            let (push, pull) = (Push::in_context(&context), Pull::in_context(&other));
            let bound = pull.bind("tcp://127.0.0.1:*").expect("a port");
            push.connect(format!("doing://{}", bound.address())).expect("good");
            eventually(PATIENCE, "it is connected", || push.stats().connections == 1);
            let (theirs, closer) = (context.clone(), push.closer());
            give.send(Box::new(move || end(&theirs, &closer))).expect("it waits");
            // Another thread may write what is sent in a burst.
            let mut sent = 0;
            while send(&push).is_ok() {
                sent += 1;
            }
            is_done_at_once(&times, "the call");
            (0..sent).for_each(|_| drop(pull.recv_timeout(PATIENCE).expect("it arrives")));
            eventually(PATIENCE, "all is written", || push.stats().written == sent);
            assert!(push.stats().is_balanced() && push.stats().accepted == sent, "{}", push.stats());
        }
    });
}

#[test]
fn a_socket_that_ends_within_its_own_write_of_a_short_message_waits_for_nothing_and_sends_it() {
    ends_within_its_write(|push| {
        thread::yield_now();
        push.send("a few octets")
    });
}

#[test]
fn so_does_one_that_writes_a_long_message_which_is_borrowed() {
    ends_within_its_write(|push| push.send(&[7; 40_000][..]));
}

#[test]
fn so_does_one_that_writes_a_long_message_which_is_shared() {
    ends_within_its_write(|push| push.send(vec![7; 40_000]));
}

#[test]
fn a_receive_whose_own_read_ends_its_socket_returns() {
    for end in ENDS {
        within(2 * PATIENCE, "a receive", move || {
            let (context, other) = (Context::new(), Context::new());
            let (give, times) = Doing::register_here(&context, At::Read);
            let (push, pull) = (Push::in_context(&other), Pull::in_context(&context));
            let bound = push.bind("tcp://127.0.0.1:*").expect("a port");
            pull.connect(format!("doing://{}", bound.address())).expect("good");
            eventually(PATIENCE, "it is connected", || pull.stats().connections == 1);
            let (theirs, closer) = (context.clone(), pull.closer());
            give.send(Box::new(move || end(&theirs, &closer))).expect("it waits");
            // What comes while nobody receives is read by another thread.
            let sender = thread::spawn(move || while push.send_timeout("more", AT_ONCE).is_ok() {});
            let end = loop {
                if let Err(end) = pull.recv() {
                    break end;
                }
            };
            assert_eq!(end, RecvError::Closed);
            is_done_at_once(&times, "the call");
            other.close(Duration::ZERO);
            sender.join().expect("no panic");
        });
    }
}

#[test]
fn what_was_sent_arrives_though_the_last_handle_goes_within_connect() {
    let context = Context::new();
    let (give, times) = Doing::register(&context, At::Connect);
    let pull = Pull::in_context(&Context::new());
    let bound = pull.bind("tcp://127.0.0.1:*").expect("a port");
    let push = Push::in_context(&context);
    push.connect(format!("doing://{}", bound.address())).expect("good");
    push.send("the last words").expect("there is room");
    give.send(Box::new(move || drop((push, context)))).expect("it waits");
    is_done_at_once(&times, "the drop");
    assert_eq!(pull.recv_timeout(PATIENCE).expect("it is delivered"), "the last words");
}

#[test]
fn a_listener_is_closed_within_its_own_accept_by_unbind() {
    let context = Context::new();
    let (give, times) = Doing::register(&context, At::Accept);
    let pull = Arc::new(Pull::in_context(&context));
    let bound = pull.bind("doing://127.0.0.1:*").expect("a port");
    let push = Push::in_context(&context);
    push.connect(format!("tcp://{}", bound.address())).expect("good");
    let (theirs, endpoint) = (Arc::clone(&pull), bound.to_string());
    give.send(Box::new(move || theirs.unbind(&endpoint).expect("bound"))).expect("it waits");
    is_done_at_once(&times, "the call");
    eventually(PATIENCE, "the address is free", || pull.bind(bound.as_str()).is_ok());
    push.send("once more").expect("there is room");
    assert_eq!(pull.recv_timeout(PATIENCE).expect("it comes back"), "once more");
}

#[test]
fn a_context_that_is_closed_within_connect_says_what_waits_and_waits_for_nothing() {
    let nobody = Nobody::new();
    let context = Context::new();
    let (give, times) = Doing::register(&context, At::Connect);
    let push = waiting(&context, &nobody.endpoint);
    push.connect("doing://127.0.0.1:1").expect("good");
    let (tell, told) = channel();
    let theirs = context.clone();
    let close = move || tell.send(theirs.close(Duration::from_secs(60)).messages).expect("the test waits");
    give.send(Box::new(close)).expect("it waits");
    is_done_at_once(&times, "the call");
    assert_eq!(told.recv_timeout(PATIENCE).expect("it was told"), 1);
}

#[test]
fn two_listeners_are_closed_each_within_the_accept_of_the_other() {
    let sides: [_; 2] = std::array::from_fn(|_| {
        let context = Context::new();
        let (give, times) = Doing::register(&context, At::Accept);
        let pull = Arc::new(Pull::in_context(&context));
        let bound = pull.bind("doing://127.0.0.1:*").expect("a port");
        (context, give, times, pull, bound)
    });
    let meeting = Arc::new(Barrier::new(2));
    for ((_, give, ..), (.., theirs, bound)) in sides.iter().zip(sides.iter().rev()) {
        let (theirs, bound, meeting) = (Arc::clone(theirs), bound.clone(), Arc::clone(&meeting));
        let deed = move || {
            meeting.wait();
            theirs.unbind(&bound).expect("bound");
        };
        give.send(Box::new(deed)).expect("it waits");
    }
    let push = Push::in_context(&Context::new());
    sides.iter().for_each(|(.., bound)| drop(push.connect(format!("tcp://{}", bound.address())).expect("good")));
    for (_, _, times, pull, bound) in &sides {
        is_done_at_once(times, "the call");
        eventually(PATIENCE, "the address is free", || pull.bind(bound.as_str()).is_ok());
    }
}
