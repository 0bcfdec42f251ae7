//! Sockets: what they all do once ([`Socket`]), their typed faces with only the legal verbs, and [`AnySocket`] typed at
//! run time.

mod any;
mod buffer;
pub(crate) mod core;
mod depth;
mod draining;
mod endpoints;
mod faces;
mod flushing;
mod host;
mod inproc;
mod line;
mod long;
mod membership;
mod monitor;
mod names;
mod notices;
mod outlook;
mod patience;
mod received;
mod receiving;
mod remains;
mod request;
mod reservation;
mod routed;
mod routing_id;
mod seat;
mod sending;
mod slice;
mod tempo;
mod tokens;
mod topics;
#[cfg(feature = "tracing")]
mod trace;
mod untold;
mod upstream;

pub use any::AnySocket;
pub use buffer::RecvIntoError;
pub use faces::{Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Sub, XPub, XSub};
pub use monitor::{Events, Monitor};
pub use received::Received;
pub use request::RequestError;
pub use reservation::Reservation;
pub use routing_id::{Addressee, RoutingId};

use self::core::Core;
use crate::context::Context;
use crate::endpoint::{Endpoint, EndpointInfo};
use crate::error::Error;
use crate::kind::SocketKind;
use crate::options::{Options, Setting, default_options};
use crate::peer::{PeerId, PeerInfo};
use crate::stats::Stats;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// What every socket does, whatever its pattern. The typed sockets, such as [`Push`] or [`Sub`], and [`AnySocket`] all
/// dereference to it.
///
/// A socket is `Send + Sync`; every method takes `&self` and may be called from any thread. Dropping it closes it,
/// which never blocks; see [`Context`] for what happens to messages that are still queued.
#[doc(alias = "zmq_socket")]
pub struct Socket {
    core: Arc<Core>,
    /// Dropped after the core has been closed: the last handle waits for deliveries.
    context: Context,
}

impl Socket {
    fn open(kind: SocketKind, context: Context, options: Options) -> Socket {
        let core = Core::new(kind, Arc::clone(context.inner()), options);
        if context.is_closed() {
            core.close();
        }
        Socket { core, context }
    }

    /// The socket's kind.
    #[doc(alias = "ZMQ_TYPE")]
    pub fn kind(&self) -> SocketKind {
        self.core.kind
    }

    /// The socket's context.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Binds an endpoint: peers can connect to it when this returns. The result names what a wildcard became, so
    /// binding `tcp://127.0.0.1:*` yields `tcp://127.0.0.1:49152` or the like. A socket may have any number of
    /// endpoints.
    ///
    /// Forms: `tcp://host:port` with `*` for every address and `*` or `0` for a free port; `ipc://path`,
    /// `ipc://@abstract`, `ipc://*`; `inproc://name`.
    ///
    /// Blocks only to look up a host or interface name.
    ///
    /// # Errors
    /// [`Error::InvalidEndpoint`], [`Error::UnknownScheme`], [`Error::AddressInUse`], [`Error::System`];
    /// [those of every call](Error#those-of-every-call).
    #[doc(alias = "zmq_bind")]
    pub fn bind(&self, endpoint: impl AsRef<str>) -> Result<Endpoint, Error> {
        self.core.bind(endpoint.as_ref())
    }

    /// Connects to an endpoint. Returns at once: the connection is made in the background, made again whenever it is
    /// lost (over tcp and ipc), and messages sent meanwhile wait for it (unless the option `immediate` is on).
    ///
    /// Connecting DEALER, SUB, PUB or REQ again to the same endpoint does nothing; other kinds get one more connection.
    ///
    /// If the endpoint was disconnected before and has something left to deliver, the new connection waits for that, so
    /// that the receiver gets all of it in order. It waits as long as nobody is there. A peer of this library is waited
    /// for until it has taken everything, or nothing for five seconds. It does not wait for another peer, nor where the
    /// option `announce` is off. See the guide on [failures](crate::guide::failures).
    ///
    /// # Errors
    /// [`Error::InvalidEndpoint`], [`Error::UnknownScheme`], [`Error::System`]; [those of every
    /// call](Error#those-of-every-call). That nobody is there is not an error; a [`Monitor`] tells.
    #[doc(alias = "zmq_connect")]
    pub fn connect(&self, endpoint: impl AsRef<str>) -> Result<Endpoint, Error> {
        self.core.connect(endpoint.as_ref())
    }

    /// Stops listening at an endpoint, given as to `bind` or as returned by it, and closes the connections accepted
    /// there once what is queued for them is written, within the linger time. An inproc binder keeps its peers.
    ///
    /// # Errors
    /// [`Error::NoSuchEndpoint`] lists what the socket is bound to; [`Error::InvalidEndpoint`];
    /// [those of every call](Error#those-of-every-call).
    #[doc(alias = "zmq_unbind")]
    pub fn unbind(&self, endpoint: impl AsRef<str>) -> Result<(), Error> {
        self.core.unbind(endpoint.as_ref())
    }

    /// Closes the connection to an endpoint once what is queued for it is written, within the linger time. If the
    /// endpoint is connected again meanwhile, that waits for it; see [`connect`](Socket::connect). Over inproc the
    /// binder has what was queued when this returns; if nobody has bound the name, it is dropped and counted.
    ///
    /// # Errors
    /// [`Error::NoSuchEndpoint`] lists what the socket is connected to; [`Error::InvalidEndpoint`];
    /// [those of every call](Error#those-of-every-call).
    #[doc(alias = "zmq_disconnect")]
    pub fn disconnect(&self, endpoint: impl AsRef<str>) -> Result<(), Error> {
        self.core.disconnect(endpoint.as_ref())
    }

    /// Takes over a tcp listener that is bound already, for example one handed down by a service manager. It is made
    /// non-blocking and close-on-exec.
    ///
    /// The options of a link do not apply to it, nor to what it accepts: `tcp_keepalive` with `tcp_keepalive_idle`,
    /// `tcp_keepalive_interval` and `tcp_keepalive_count`, `tcp_max_retransmit`, `tcp_congestion_control`,
    /// `send_buffer`, `receive_buffer`, `type_of_service`, `priority`, `busy_poll`, `bind_to_device`, `backlog`,
    /// `ipv6`. Set them on the listener before; what an accepted connection inherits of it is the system's affair.
    /// `TCP_NODELAY` is on all the same, and all other options apply, such as the marks, `half_open_limit`,
    /// `handshake_timeout` and the heartbeat.
    ///
    /// # Errors
    /// [`Error::System`]; [those of every call](Error#those-of-every-call). The listener is closed then.
    #[doc(alias = "ZMQ_USE_FD")]
    pub fn adopt_tcp(&self, listener: std::net::TcpListener) -> Result<Endpoint, Error> {
        self.core.adopt("tcp", wiremesh_transports::adopt_tcp(listener))
    }

    /// Takes over a Unix listener that is bound already. Its socket file stays when the socket is closed.
    ///
    /// As with [`adopt_tcp`](Socket::adopt_tcp) the options of a link do not apply to it: here these are `send_buffer`,
    /// `receive_buffer`, `priority` and `backlog`.
    ///
    /// # Errors
    /// [`Error::System`]; [those of every call](Error#those-of-every-call). The listener is closed then.
    #[cfg(unix)]
    pub fn adopt_unix(&self, listener: std::os::unix::net::UnixListener) -> Result<Endpoint, Error> {
        self.core.adopt("ipc", wiremesh_transports::adopt_unix(listener))
    }

    /// The endpoints it is bound to, wildcards resolved. None in a forked child.
    #[doc(alias = "ZMQ_LAST_ENDPOINT")]
    pub fn bound(&self) -> Vec<String> {
        self.core.list_endpoints(|endpoints| &endpoints.bound)
    }

    /// All its endpoints, those it listens at first: whether each is connected, and if not, how often that was tried
    /// and what the last attempt came to. None in a forked child.
    ///
    /// # Examples
    /// ```
    /// use wiremesh::{EndpointState, Push};
    ///
    /// let push = Push::new();
    /// push.connect("tcp://127.0.0.1:1")?; // nobody is there
    /// while push.endpoints()[0].attempts == 0 {
    ///     std::thread::sleep(std::time::Duration::from_millis(1));
    /// }
    /// assert_ne!(push.endpoints()[0].state, EndpointState::Connected);
    /// println!("{}", push.endpoints()[0]);
    /// # Ok::<(), wiremesh::Error>(())
    /// ```
    pub fn endpoints(&self) -> Vec<EndpointInfo> {
        self.core.endpoint_infos()
    }

    /// The endpoints given to `connect`, whether a connection is up or not: [`endpoints`](Socket::endpoints) tells
    /// that. None in a forked child.
    pub fn connected(&self) -> Vec<String> {
        self.core.list_endpoints(|endpoints| &endpoints.connected)
    }

    /// Waits until at least `count` peers are connected and past their handshake, at most `timeout`.
    ///
    /// # Errors
    /// [`Error::TimedOut`] says how many there are, and what keeps the others away; [those of every
    /// call](Error#those-of-every-call).
    pub fn wait_for_peers(&self, count: usize, timeout: Duration) -> Result<(), Error> {
        self.core.wait_for("peers", timeout, || self.core.connections(), count)
    }

    /// Waits until everything accepted so far is in the kernel, or in the hands of an inproc receiver, at most
    /// `timeout`.
    ///
    /// # Errors
    /// [`Error::TimedOut`] says what is left; [those of every call](Error#those-of-every-call).
    pub fn flush(&self, timeout: Duration) -> Result<(), Error> {
        self.core.flush_all(timeout)
    }

    /// Closes the socket. Never blocks: blocked calls return within 50 ms with `Closed`, later ones at once, and what
    /// was accepted is delivered in the background within the linger time. Dropping the socket does the same.
    #[doc(alias = "zmq_close")]
    pub fn close(&self) {
        self.core.close();
    }

    /// A handle that can close the socket and does not keep it: for handlers that outlive their program's use of it, as
    /// that of Ctrl-C.
    ///
    /// A handler that holds the socket itself would keep it, and its context, until the process ends.
    ///
    /// # Examples
    /// ```
    /// use wiremesh::{Pull, RecvError};
    ///
    /// let jobs = Pull::new();
    /// jobs.bind("tcp://127.0.0.1:*")?;
    /// let closer = jobs.closer();
    /// // With the crate `ctrlc` this is `ctrlc::set_handler(move || closer.close())`.
    /// let handler = std::thread::spawn(move || closer.close());
    /// assert_eq!(jobs.recv(), Err(RecvError::Closed));
    /// # handler.join().unwrap();
    /// # Ok::<(), wiremesh::Error>(())
    /// ```
    pub fn closer(&self) -> Closer {
        Closer { core: Arc::downgrade(&self.core) }
    }

    /// Whether the socket or its context has been closed.
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    /// Changes an option while the socket works. What it takes effect on stands in the option's row of the
    /// [table](crate::options::table).
    ///
    /// # Errors
    /// [`Error::Option`] when the value is not allowed, the option means nothing to this kind of socket, or it cannot
    /// change any more; [those of every call](Error#those-of-every-call).
    #[doc(alias = "zmq_setsockopt")]
    pub fn set(&self, setting: Setting) -> Result<(), Error> {
        self.core.set(setting)
    }

    /// The options as they are now; in a forked child the defaults.
    #[doc(alias = "zmq_getsockopt")]
    pub fn options(&self) -> Options {
        self.core.options()
    }

    /// What is known of a peer; of one that is gone, as long as it is among the last 256. Nothing in a forked child.
    #[doc(alias = "zmq_msg_gets")]
    pub fn peer(&self, peer: PeerId) -> Option<PeerInfo> {
        self.core.peer_info(peer)
    }

    /// What is known of all peers, those of connecting endpoints that are not connected included. Nothing in a forked
    /// child.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.core.peer_ids().into_iter().filter_map(|peer| self.core.peer_info(peer)).collect()
    }

    /// The socket's counters. They are consistent: the accounting law holds in every snapshot. All zero in a forked
    /// child.
    #[doc(alias("ZMQ_EVENT_PIPES_STATS", "zmq_socket_monitor_pipes_stats"))]
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Watches the socket from now on. A monitor made in a forked child has nothing to tell.
    #[doc(alias("zmq_socket_monitor", "zmq_socket_monitor_versioned"))]
    pub fn monitor(&self) -> Monitor {
        self.core.feed.monitor(self.core.is_forked())
    }
}

/// Closes a socket from elsewhere without keeping it: see [`Socket::closer`].
///
/// It works on any thread, and so in handlers that have one, such as those of the crates `ctrlc` and `signal-hook`'s
/// iterator. It is **not async-signal-safe**: a handler installed with `sigaction` must not call it, but tell a thread,
/// for example through a pipe.
#[derive(Clone)]
pub struct Closer {
    core: Weak<Core>,
}

impl Closer {
    /// Closes the socket as [`Socket::close`] does, if it is still there. Never blocks.
    pub fn close(&self) {
        if let Some(core) = self.core.upgrade() {
            core.close();
        }
    }

    /// Whether the socket or its context has been closed, or the socket is gone.
    pub fn is_closed(&self) -> bool {
        self.core.upgrade().is_none_or(|core| core.is_closed())
    }
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closer").field("closed", &self.is_closed()).finish()
    }
}

/// Panics of the code that runs for a socket are contained, and no lock of it is left in a state that others could not
/// go on from.
impl std::panic::UnwindSafe for Core {}

impl std::panic::RefUnwindSafe for Core {}

impl Drop for Socket {
    fn drop(&mut self) {
        self.core.close();
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("kind", &self.kind())
            .field("bound", &self.bound())
            .field("connected", &self.connected())
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// What a [`Builder`] can build: the typed sockets and [`AnySocket`].
pub trait Face: sealed::Sealed {
    #[doc(hidden)]
    type Choice;

    #[doc(hidden)]
    fn kind_of(choice: &Self::Choice) -> SocketKind;

    #[doc(hidden)]
    fn from_socket(socket: Socket) -> Self;
}

mod sealed {
    pub trait Sealed {}
}

/// Makes a socket with options set before its first endpoint.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use wiremesh::Push;
///
/// let push = Push::builder().send_mark(100).send_timeout(Duration::from_secs(1)).build()?;
/// assert_eq!(push.options().send_mark, 100);
/// assert!(Push::builder().half_open_limit(0).build().is_err());
/// # Ok::<(), wiremesh::Error>(())
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct Builder<S: Face> {
    choice: S::Choice,
    context: Option<Context>,
    options: Options,
    wrong: Option<Error>,
    face: PhantomData<fn() -> S>,
}

impl<S: Face> Builder<S> {
    pub(crate) fn new(choice: S::Choice) -> Builder<S> {
        let mut options = default_options();
        // A subscriber has nothing of value to deliver after its close.
        if S::kind_of(&choice).subscribes() {
            options.linger = Some(Duration::ZERO);
        }
        Builder { choice, context: None, options, wrong: None, face: PhantomData }
    }

    /// The context the socket belongs to. Default: the shared one.
    pub fn context(mut self, context: &Context) -> Builder<S> {
        self.context = Some(context.clone());
        self
    }

    /// Sets an option by its [`Setting`].
    pub fn set(mut self, setting: Setting) -> Builder<S> {
        let fits = setting.row().check_kind(S::kind_of(&self.choice));
        match fits.and_then(|()| setting.check()) {
            Ok(()) => setting.apply(&mut self.options),
            Err(error) => self.wrong = self.wrong.or(Some(error)),
        }
        self
    }

    /// Makes the socket.
    ///
    /// # Errors
    /// [`Error::Option`] for the first option whose value is not allowed, or which means nothing to this kind of
    /// socket.
    pub fn build(self) -> Result<S, Error> {
        match self.wrong {
            Some(error) => Err(error),
            None => {
                let config = endpoints::protocol_config(S::kind_of(&self.choice), &self.options);
                if let Err(error) = config.validate() {
                    return Err(Error::Option { option: "metadata", reason: error.to_string() });
                }
                let context = self.context.unwrap_or_else(Context::shared);
                let threads = context.inner().engine.threads();
                if self.options.affinity != 0 && !(0..threads.min(64)).any(|bit| self.options.affinity >> bit & 1 != 0)
                {
                    let reason =
                        format!("{:#b} names no engine thread: the context has {threads}", self.options.affinity);
                    return Err(Error::Option { option: "affinity", reason });
                }
                Ok(Builder { context: Some(context), ..self }.open())
            }
        }
    }

    /// Makes a socket whose options are known to be good.
    fn open(self) -> S {
        let kind = S::kind_of(&self.choice);
        S::from_socket(Socket::open(kind, self.context.unwrap_or_else(Context::shared), self.options))
    }
}

impl<S: Face> fmt::Debug for Builder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("kind", &S::kind_of(&self.choice)).field("options", &self.options).finish()
    }
}
