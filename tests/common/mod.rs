//! What the tests of public behaviour share: a context of its own for each test, endpoints nobody else has, and the
//! stamp that makes one test per transport.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use wiremesh::{Context, Socket};

/// Longer than anything takes that happens at all.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Makes one test of each function for each transport: `over!([tcp ipc]: this that);`. In front may stand what makes a
/// [`Net`] of the name: `over!(make => [tcp]: this);`.
macro_rules! over {
    ($nets:tt: $($test:ident)*) => {
        over!(crate::common::Net::new => $nets: $($test)*);
    };
    ($make:path => $nets:tt: $($test:ident)*) => {
        $(over!(@one $make => $nets $test);)*
    };
    (@one $make:path => [$($net:ident)*] $test:ident) => {
        mod $test {
            $(#[test]
            fn $net() {
                $make(stringify!($net)).run(super::$test);
            })*
        }
    };
}

/// One transport, and the context a test's sockets live in.
pub(crate) struct Net {
    scheme: &'static str,
    pub(crate) context: Context,
}

impl Net {
    pub(crate) fn new(scheme: &'static str) -> Net {
        // What a test leaves undelivered on purpose is not waited for.
        let context = Context::builder().drop_wait(Some(Duration::from_millis(100))).build();
        Net::with(scheme, context)
    }

    pub(crate) fn with(scheme: &'static str, context: Context) -> Net {
        Net { scheme, context }
    }

    /// Runs a test. A wait that is never served ends with its time limit, perhaps even well: that is a failure too.
    pub(crate) fn run(self, test: impl FnOnce(&Net)) {
        let start = Instant::now();
        test(&self);
        drop(self);
        assert!(start.elapsed() < LONG, "something waited until its time was up");
    }

    /// Whether messages pass through the kernel.
    pub(crate) fn is_stream(&self) -> bool {
        self.scheme != "inproc"
    }

    /// An endpoint that nobody is bound to and nobody else will be.
    pub(crate) fn fresh(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        match self.scheme {
            "ipc" => {
                let path = std::env::temp_dir().join(format!("wiremesh-test-{process}-{number}"));
                format!("ipc://{}", path.display())
            }
            "inproc" => format!("inproc://{number}"),
            scheme => {
                // A loopback address of our own: no other test gets the port while it is free.
                let [_, high, low] = [0, number / 250, number % 250 + 1];
                let host = if cfg!(target_os = "linux") {
                    format!("127.{}.{}.{low}", 64 + process % 128, (process / 128 + high) % 256)
                } else {
                    "127.0.0.1".to_owned()
                };
                let port = TcpListener::bind((host.as_str(), 0)).unwrap().local_addr().unwrap().port();
                format!("{scheme}://{host}:{port}")
            }
        }
    }

    /// Binds one socket, connects the others to it, and waits until they have met.
    pub(crate) fn join(&self, binder: &Socket, connectors: &[&Socket]) -> String {
        let endpoint = self.fresh();
        // Within the process they have met when the call returns.
        let limit = if self.is_stream() { LONG } else { Duration::ZERO };
        let before = binder.stats().connections as usize;
        binder.bind(&endpoint).unwrap();
        for connector in connectors {
            let before = connector.stats().connections as usize;
            connector.connect(&endpoint).unwrap();
            connector.wait_for_peers(before + 1, limit).unwrap();
        }
        binder.wait_for_peers(before + connectors.len(), limit).unwrap();
        endpoint
    }
}

/// Waits for something that no call waits for, looking every millisecond.
#[allow(dead_code, reason = "not every test file waits for something of this sort")]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "it never happened that {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
