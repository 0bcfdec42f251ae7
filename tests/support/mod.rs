//! Helpers for tests of public behaviour: waiting without fixed sleeps, endpoints without fixed ports, and whole
//! processes.
//!
//! | file | idea |
//! |---|---|
//! | `child.rs` | another process of the same test binary, in a role |
//! | `measure.rs` | what a process uses: memory, descriptors, threads, processor time |
//! | `random.rs` | a seeded generator |
//! | `raw.rs` | a peer made of bytes: what no well-behaved socket would send |
//!
//! A test binary that uses roles has a test `role` that calls [`child::act`]; see there.

#![allow(dead_code, reason = "each test binary uses its share of the helpers")]

pub(crate) mod child;
pub(crate) mod measure;
pub(crate) mod random;
pub(crate) mod raw;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough that only a hang reaches it, on however busy a machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Whether the large counts are asked for.
pub(crate) fn is_full() -> bool {
    std::env::var_os("WIREMESH_FULL").is_some_and(|value| value == "1")
}

/// How often to do something that is done `full` times in a full run: by default a tenth, at least once.
pub(crate) fn times(full: usize) -> usize {
    if is_full() { full } else { full.div_ceil(10) }
}

/// Tests that measure take turns; the others need not.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` and fails, instead of hanging, when it takes longer than `limit`.
pub(crate) fn within<T: Send + 'static>(limit: Duration, what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, outcome) = mpsc::channel();
    let name = thread::current().name().unwrap_or("test").to_owned();
    let worker = thread::Builder::new().name(name).spawn(move || {
        // Nobody listens any more once the time is over.
        let _ = done.send(work());
    });
    let worker = worker.expect("a thread");
    match outcome.recv_timeout(limit) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: not done after {limit:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match worker.join() {
            Ok(()) => unreachable!("it sends before it ends"),
            Err(panic) => std::panic::resume_unwind(panic),
        },
    }
}

/// Waits until `condition` holds and fails when that takes longer than `limit`.
pub(crate) fn eventually(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    assert!(holds_within(limit, &mut condition), "{what}: not within {limit:?}");
}

/// Whether `condition` comes to hold within `limit`.
pub(crate) fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The transports every pattern runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Tcp,
    Ipc,
    Inproc,
}

impl Over {
    pub(crate) const ALL: [Over; 3] = [Over::Tcp, Over::Ipc, Over::Inproc];
    /// Those that reach another process.
    pub(crate) const STREAMS: [Over; 2] = [Over::Tcp, Over::Ipc];

    /// Something to bind that nobody else binds; `bind` says what it became.
    pub(crate) fn wildcard(self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        match self {
            Over::Tcp => "tcp://127.0.0.1:*".to_owned(),
            Over::Ipc => "ipc://*".to_owned(),
            Over::Inproc => format!("inproc://test-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// As [`wildcard`](Over::wildcard), but what it becomes can be bound again once it is free: the folder of an
    /// `ipc://*` goes with it.
    pub(crate) fn fixed(self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        match self {
            Over::Ipc => {
                let name = format!("wiremesh-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
                format!("ipc://{}", std::env::temp_dir().join(name).display())
            }
            Over::Tcp | Over::Inproc => self.wildcard(),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Over::Tcp => "tcp",
            Over::Ipc => "ipc",
            Over::Inproc => "inproc",
        }
    }

    pub(crate) fn named(name: &str) -> Over {
        Over::ALL.into_iter().find(|over| over.name() == name).expect("a known transport")
    }
}

/// A tcp endpoint where nobody listens, and nobody can while this is there: its port is taken.
pub(crate) struct Nobody {
    pub(crate) endpoint: String,
    _port: socket2::Socket,
}

impl Nobody {
    pub(crate) fn new() -> Nobody {
        let port = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        port.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        let address = port.local_addr().expect("bound").as_socket().expect("an address");
        Nobody { endpoint: format!("tcp://{address}"), _port: port }
    }
}

/// The middle one.
pub(crate) fn median<T: Ord + Copy>(values: &[T]) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// The value that `percent` of all do not exceed.
pub(crate) fn percentile<T: Ord + Copy>(values: &[T], percent: usize) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

/// A thread of the test whose sleep can be seen from outside: how a test knows that a call blocks.
pub(crate) struct Blocked<T> {
    thread: Option<thread::JoinHandle<(T, Instant)>>,
    number: Arc<AtomicU64>,
}

impl<T: Send + 'static> Blocked<T> {
    /// Runs `call` on a thread of its own.
    pub(crate) fn start(call: impl FnOnce() -> T + Send + 'static) -> Blocked<T> {
        let number = Arc::new(AtomicU64::new(0));
        let thread = thread::spawn({
            let number = Arc::clone(&number);
            move || {
                number.store(measure::this_thread(), Ordering::SeqCst);
                (call(), Instant::now())
            }
        });
        Blocked { thread: Some(thread), number }
    }

    /// Waits until the thread sleeps in its call, or has ended it.
    pub(crate) fn settle(&self) {
        eventually(PATIENCE, "a call blocks", || {
            let number = self.number.load(Ordering::SeqCst);
            self.is_done() || (number != 0 && measure::is_asleep(number))
        });
    }

    /// The kernel's number of the thread, once it has [settled](Blocked::settle).
    pub(crate) fn thread_id(&self) -> u64 {
        self.number.load(Ordering::SeqCst)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.thread.as_ref().is_none_or(thread::JoinHandle::is_finished)
    }

    /// What the call came to, and when; `None` if it still blocks after `limit`.
    pub(crate) fn outcome(mut self, limit: Duration) -> Option<(T, Instant)> {
        if !holds_within(limit, || self.is_done()) {
            return None;
        }
        self.thread.take().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}
