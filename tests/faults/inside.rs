//! Sockets and contexts that end on a thread that is in the middle of what an engine does: in a transport of the
//! application.

use crate::support::{Nobody, PATIENCE, eventually};
use bytes::Bytes;
use std::fmt;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};
use wiremesh::transports::mio::{Interest, Registry, Token};
use wiremesh::transports::{AddressError, LinkOptions, Listener, Purpose, Stream, Tcp, Transport};
use wiremesh::{Context, Pull, Push};

/// Where in a transport something is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    Resolve,
    Connect,
    Accept,
}

type Deed = Box<dyn FnOnce() + Send>;

/// Tcp, but the first call at a place does something else as well, once it is given to it.
#[derive(Clone)]
struct Doing {
    at: At,
    deed: Arc<Mutex<Option<Receiver<Deed>>>>,
    took: Sender<Duration>,
}

impl Doing {
    /// In that context; what the call is to do, and how long that took.
    fn register(context: &Context, at: At) -> (Sender<Deed>, Receiver<Duration>) {
        let ((give, deed), (took, times)) = (channel(), channel());
        let doing = Doing { at, deed: Arc::new(Mutex::new(Some(deed))), took };
        context.register_transport(Arc::new(doing)).expect("a new scheme");
        (give, times)
    }

    fn come_by(&self, at: At) {
        let deed = if at == self.at { self.deed.lock().expect("no panic").take() } else { None };
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
        Tcp.connect(address, options)
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
        Ok(stream)
    }

    fn local_address(&self) -> String {
        self.listener.local_address()
    }

    fn close(self: Box<Self>) {
        self.listener.close();
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
