//! The traits a transport implements. The rules that hold for all of them stand in the crate documentation.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::time::Instant;

use mio::{Interest, Token};

use crate::address::AddressError;
use crate::options::LinkOptions;
use crate::sys::ReadBuf;

/// A scheme: what stands before `://` in an endpoint, and how to bind and connect what stands behind it.
///
/// Addresses are passed without the scheme: `127.0.0.1:5555`, not `tcp://127.0.0.1:5555`.
///
/// A transport may call the sockets and contexts that use it, unless it waits there for what its own call holds up:
/// [`resolve_now`](Self::resolve_now), [`connect`](Self::connect) and [`Listener::accept`] hold up the socket for which
/// they are called, and on an engine thread its other sockets; [`resolve`](Self::resolve) holds up those that look up
/// the same name. To close sockets there, or drop them and even the last handle of their context, waits for nothing: a
/// listener that is in an `accept` closes when that returns, and what `accept` returns is dropped.
pub trait Transport: Send + Sync {
    /// Returns the scheme's name, for example `tcp`. It never changes.
    fn scheme(&self) -> &str;

    /// Checks the form of an address, without any input or output.
    ///
    /// # Errors
    ///
    /// An [`AddressError`] that names the wrong part and says what is allowed. An address that passes may still fail
    /// to resolve, bind or connect.
    fn check(&self, address: &str, purpose: Purpose) -> Result<(), AddressError>;

    /// Turns an address to connect to into addresses that [`connect`](Self::connect) takes, best first.
    ///
    /// **May block** for as long as a name server takes, so it is never called on an engine thread. It is called again
    /// for every attempt, because names move. A source part (`src;`) is kept in each of the results.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the form is wrong, otherwise what the look-up said. The list
    /// is never empty.
    fn resolve(&self, address: &str, options: &LinkOptions) -> io::Result<Vec<String>>;

    /// The answer of [`resolve`](Self::resolve), if it takes no look-up: then no thread is needed for it. Never blocks.
    /// `None`, the default, has `resolve` called.
    fn resolve_now(&self, address: &str) -> Option<Vec<String>> {
        let _ = address;
        None
    }

    /// Binds an address and listens.
    ///
    /// Does not block, except to look up a name or an interface (and see the transport's own notes).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the form is wrong, [`AddrInUse`](io::ErrorKind::AddrInUse) if
    /// somebody else listens there, [`AlreadyExists`](io::ErrorKind::AlreadyExists) if something is there that is no
    /// socket, otherwise what the system said. Nothing is left behind.
    fn bind(&self, address: &str, options: &LinkOptions) -> io::Result<Box<dyn Listener>>;

    /// Starts to connect to one of the addresses that [`resolve`](Self::resolve) returned.
    ///
    /// Never blocks: the stream becomes writable when the attempt has ended, and [`Stream::connected`] tells how.
    ///
    /// # Errors
    ///
    /// Every error is a failed attempt, [`WouldBlock`](io::ErrorKind::WouldBlock) included (a Unix listener whose
    /// backlog is full says that): the caller may try again later.
    fn connect(&self, resolved: &str, options: &LinkOptions) -> io::Result<Box<dyn Stream>>;
}

/// What an address is wanted for; some forms are good for one purpose only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To listen on. Wildcards are allowed.
    Bind,
    /// To connect to. A source part is allowed.
    Connect,
}

/// A two-way stream of bytes between two ends, non-blocking and edge-triggered.
pub trait Stream: Send + Sync + fmt::Debug {
    /// Registers the stream with a poll.
    ///
    /// # Errors
    ///
    /// What the poll said; registering twice is an error.
    fn register(&self, registry: &mio::Registry, token: Token, interest: Interest) -> io::Result<()>;

    /// Changes token or interest. A direction that is ready at this moment is reported again.
    ///
    /// # Errors
    ///
    /// What the poll said; [`NotFound`](io::ErrorKind::NotFound) if it is not registered there.
    fn reregister(&self, registry: &mio::Registry, token: Token, interest: Interest) -> io::Result<()>;

    /// Takes the stream out of the poll. Must precede the drop wherever a duplicate of the descriptor may live on (in
    /// a forked child, say).
    ///
    /// # Errors
    ///
    /// What the poll said; [`NotFound`](io::ErrorKind::NotFound) if it is not registered there.
    fn deregister(&self, registry: &mio::Registry) -> io::Result<()>;

    /// Reads what is there, at most what fits, and returns how many bytes were added to `buf`.
    ///
    /// `Ok(0)` is the end of the stream, provided that `buf` had room. Bytes that arrived before the end are returned
    /// before it. Use [`read_into`](crate::read_into) unless the buffer is your own.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing is there; any other error ends the stream.
    fn read(&self, buf: &mut ReadBuf<'_>) -> io::Result<usize>;

    /// Writes bytes from the buffers, in order, and returns how many were taken; it may be fewer than given. Never
    /// raises a signal.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing could be taken now; any other error ends the stream.
    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Tells how an attempt to connect stands; asked after the first writable event. `Ok(false)` means "still
    /// pending: wait for the next event".
    ///
    /// # Errors
    ///
    /// Why the attempt failed. That is final: drop the stream.
    fn connected(&self) -> io::Result<bool>;

    /// Ends one direction or both. Bytes already written are still delivered.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) if there is no connection any more, which callers may ignore.
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;

    /// Returns our end as an address without scheme (`127.0.0.1:5555`, `[::1]:5`, `/tmp/x.sock`, `@abstract`); empty
    /// if it has no name.
    fn local_address(&self) -> String;

    /// Returns the other end likewise; empty if it has no name. It stays the same after the peer has gone.
    fn peer_address(&self) -> String;

    /// Returns who the peer is, if the system vouches for it (`ipc` does). `None` by default.
    fn credentials(&self) -> Option<Credentials> {
        None
    }

    /// Returns how many written bytes have not reached the peer's system yet and would be lost if the stream were
    /// dropped now and the peer wrote to it: what a careful close waits for. 0 by default, for transports where a close
    /// loses nothing.
    fn unsent(&self) -> usize {
        0
    }

    /// Told that messages of more than a few octets wait because a write blocked: the transport may have its system
    /// buffer more, so that the two ends wait less often for each other. Called again and again. Does nothing by
    /// default.
    fn widen(&self) {}

    /// Tells whether the system has sent something again, or asked whether the peer's window is still closed, and
    /// nothing of the peer's system has come since. An answer may be on its way. `false` by default, for transports
    /// that cannot tell.
    fn is_unanswered(&self) -> bool {
        false
    }

    /// Tells whether [`read`](Self::read) would return bytes that the transport already holds inside, or the end of the
    /// stream or an error behind them, for which no readiness event will come. `false` by default. It is asked after a
    /// read that filled less than its buffer, which is taken to say that nothing more is there; an event that is
    /// `is_read_closed` announces the end as well.
    fn has_buffered(&self) -> bool {
        false
    }

    /// Returns the interest the transport needs now, if it differs from the direction the caller works in (a TLS read
    /// may have to write first). `None`, the default, means "what the caller wants". Asked after every call that
    /// returned `WouldBlock`.
    fn wants(&self) -> Option<Interest> {
        None
    }

    /// Returns when [`on_deadline`](Self::on_deadline) wants to be called. `None` by default.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Told that the deadline has passed. Does nothing by default.
    fn on_deadline(&self, now: Instant) {
        let _ = now;
    }
}

/// Accepts streams at an address.
///
/// Dropping it closes it and takes away what `bind` made (an `ipc` socket file, if it is still ours); in a forked child
/// it only closes its descriptor.
pub trait Listener: Send + fmt::Debug {
    /// Registers the listener with a poll.
    ///
    /// # Errors
    ///
    /// As for [`Stream::register`].
    fn register(&self, registry: &mio::Registry, token: Token, interest: Interest) -> io::Result<()>;

    /// Changes token or interest; waiting connections are reported again.
    ///
    /// # Errors
    ///
    /// As for [`Stream::reregister`].
    fn reregister(&self, registry: &mio::Registry, token: Token, interest: Interest) -> io::Result<()>;

    /// Takes the listener out of the poll; see [`Stream::deregister`].
    ///
    /// # Errors
    ///
    /// As for [`Stream::deregister`].
    fn deregister(&self, registry: &mio::Registry) -> io::Result<()>;

    /// Takes the next waiting connection. It is connected, non-blocking, close-on-exec, and has the options of the
    /// listener.
    ///
    /// # Errors
    ///
    /// * [`WouldBlock`](io::ErrorKind::WouldBlock): none is waiting.
    /// * [`ConnectionAborted`](io::ErrorKind::ConnectionAborted): one was waiting but is gone; go on accepting.
    /// * Anything else is the system's own error, its number readable with
    ///   [`raw_os_error`](io::Error::raw_os_error). When descriptors run out (`EMFILE`, `ENFILE`) the connection is
    ///   still waiting and no new event will come for it; see [`sys::Spare`](crate::sys::Spare).
    fn accept(&self) -> io::Result<Box<dyn Stream>>;

    /// Returns the address it listens on without scheme, wildcards and ports filled in. A peer on the same host can
    /// connect to it.
    fn local_address(&self) -> String;

    /// Closes the listener; the same as dropping it. Connections that nobody accepted are reset.
    fn close(self: Box<Self>);
}

/// A socket for datagrams, the sibling of [`Stream`]: whole packets, no order, no connection.
///
/// No transport of this crate has one yet.
pub trait Datagram: Send + Sync + fmt::Debug {
    /// Registers the socket with a poll.
    ///
    /// # Errors
    ///
    /// As for [`Stream::register`].
    fn register(&self, registry: &mio::Registry, token: Token, interest: Interest) -> io::Result<()>;

    /// Changes token or interest.
    ///
    /// # Errors
    ///
    /// As for [`Stream::reregister`].
    fn reregister(&self, registry: &mio::Registry, token: Token, interest: Interest) -> io::Result<()>;

    /// Takes the socket out of the poll.
    ///
    /// # Errors
    ///
    /// As for [`Stream::deregister`].
    fn deregister(&self, registry: &mio::Registry) -> io::Result<()>;

    /// Sends the buffers as one datagram, to `peer` or, without one, to where the socket is connected.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room now; other errors concern this datagram alone.
    fn send_to(&self, bufs: &[IoSlice<'_>], peer: Option<&str>) -> io::Result<()>;

    /// Receives one datagram and returns where it came from. What does not fit into `buf` is lost; the returned flag
    /// says so.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if none is there.
    fn recv_from(&self, buf: &mut ReadBuf<'_>) -> io::Result<(String, bool)>;

    /// Returns our address without scheme.
    fn local_address(&self) -> String;
}

/// Who the process at the other end was when it connected or began to listen, as the kernel vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id; `None` where the system does not tell. A number may be reused once that process has ended.
    pub pid: Option<u32>,
}
