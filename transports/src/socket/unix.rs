//! The bare descriptor.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Token};
use socket2::{Domain, SockAddr, Socket, Type};

use super::retry;
use crate::sys::{self, ReadBuf};

/// A stream socket, non-blocking and close-on-exec.
#[derive(Debug)]
pub(crate) struct StreamSocket(Socket);

/// A listening socket, non-blocking and close-on-exec.
#[derive(Debug)]
pub(crate) struct ListenerSocket(Socket);

impl StreamSocket {
    /// Takes a new socket, lets `prepare` set it up, and starts to connect it.
    pub(crate) fn connect(
        domain: Domain,
        target: &SockAddr,
        prepare: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> io::Result<Self> {
        let socket = new_socket(domain)?;
        prepare(&socket)?;
        match socket.connect(target) {
            // Interrupted or not, the attempt goes on in the background.
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => Err(error),
            Ok(()) | Err(_) => Ok(Self(socket)),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SockAddr> {
        self.0.local_addr()
    }

    pub(crate) fn register(&self, registry: &mio::Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).register(registry, token, interest)
    }

    pub(crate) fn reregister(&self, registry: &mio::Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(registry, token, interest)
    }

    pub(crate) fn deregister(&self, registry: &mio::Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(registry)
    }

    pub(crate) fn read(&self, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        sys::receive(self.0.as_fd(), buf)
    }

    pub(crate) fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match bufs {
            // `send` copies less into the kernel than `sendmsg` does.
            [one] => retry(|| self.0.send_with_flags(one, SEND_FLAGS)),
            _ => {
                let bufs = bufs.get(..MAX_BUFFERS).unwrap_or(bufs);
                retry(|| self.0.send_vectored_with_flags(bufs, SEND_FLAGS))
            }
        }
    }

    /// How many written bytes the peer's system has not acknowledged.
    pub(crate) fn unacknowledged(&self) -> usize {
        sys::unacknowledged(self.0.as_fd())
    }

    /// Tells whether a tcp peer's system has not answered what it was sent again.
    pub(crate) fn is_unanswered(&self) -> bool {
        sys::is_unanswered(self.0.as_fd())
    }

    /// Tells whether the attempt to connect has succeeded.
    pub(crate) fn connected(&self) -> io::Result<bool> {
        if let Some(error) = self.0.take_error()? {
            return Err(error);
        }
        match self.0.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::EINPROGRESS)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.shutdown(how)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl ListenerSocket {
    /// Takes a new socket, lets `prepare` set it up, and binds it. It does not listen yet.
    pub(crate) fn bind(
        domain: Domain,
        address: &SockAddr,
        prepare: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> io::Result<Self> {
        let socket = new_socket(domain)?;
        prepare(&socket)?;
        socket.bind(address)?;
        Ok(Self(socket))
    }

    /// Takes over a socket that somebody else has bound and made to listen.
    pub(crate) fn adopt(socket: impl Into<Socket>) -> io::Result<Self> {
        let socket = socket.into();
        socket.set_nonblocking(true)?;
        socket.set_cloexec(true)?;
        Ok(Self(socket))
    }

    pub(crate) fn listen(&self, backlog: i32) -> io::Result<()> {
        self.0.listen(backlog)
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.0
    }

    pub(crate) fn register(&self, registry: &mio::Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).register(registry, token, interest)
    }

    pub(crate) fn reregister(&self, registry: &mio::Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(registry, token, interest)
    }

    pub(crate) fn deregister(&self, registry: &mio::Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(registry)
    }

    /// Accepts a connection and lets `prepare` set it up. A connection that has gone before it is set up counts as
    /// aborted. So does one whose network error Linux reports through the accept, or that a firewall forbids. What is
    /// refused on a connection that stands would be refused on all others as well, and is an error of the listener.
    pub(crate) fn accept(
        &self,
        prepare: impl FnOnce(&Socket, &SockAddr) -> io::Result<()>,
    ) -> io::Result<(StreamSocket, SockAddr)> {
        let (socket, peer) = retry(|| accept(&self.0)).map_err(|error| match error.raw_os_error() {
            Some(number) if OF_THE_CONNECTION.contains(&number) => aborted(&error),
            Some(_) | None => error,
        })?;
        prepare(&socket, &peer).map_err(|error| if socket.peer_addr().is_ok() { error } else { aborted(&error) })?;
        Ok((StreamSocket(socket), peer))
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn new_socket(domain: Domain) -> io::Result<Socket> {
    Socket::new_raw(domain, Type::STREAM.nonblocking().cloexec(), None)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn accept(socket: &Socket) -> io::Result<(Socket, SockAddr)> {
    socket.accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn new_socket(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn accept(socket: &Socket) -> io::Result<(Socket, SockAddr)> {
    let (accepted, peer) = socket.accept()?;
    accepted.set_nonblocking(true)?;
    Ok((accepted, peer))
}

fn aborted(error: &io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, format!("a waiting connection was lost: {error}"))
}

/// What `accept` may report of the connection rather than of the listener.
const OF_THE_CONNECTION: &[i32] = &[
    libc::EPERM,
    libc::EPROTO,
    libc::ENOPROTOOPT,
    libc::ENETDOWN,
    libc::ENETUNREACH,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    libc::ENONET,
];

/// No signal when the peer has gone. Apple's systems have no such flag; socket2 sets an option on the socket there.
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT;

/// `IOV_MAX` of every system in use. With more the call fails instead of taking what it can.
const MAX_BUFFERS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddr, TcpStream};

    fn listener() -> (ListenerSocket, SocketAddr) {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = ListenerSocket::bind(Domain::IPV4, &any.into(), |_| Ok(())).unwrap();
        listener.listen(8).unwrap();
        let address = listener.socket().local_addr().unwrap().as_socket().unwrap();
        (listener, address)
    }

    fn accept_refusing(listener: &ListenerSocket) -> io::ErrorKind {
        loop {
            let accepted = listener.accept(|_, _| Err(io::Error::new(io::ErrorKind::PermissionDenied, "no right")));
            match accepted.map(drop).unwrap_err().kind() {
                io::ErrorKind::WouldBlock => std::thread::yield_now(),
                kind => return kind,
            }
        }
    }

    #[test]
    fn an_option_that_is_refused_on_a_connection_that_stands_is_no_fault_of_the_connection() {
        let (listener, address) = listener();
        let _client = TcpStream::connect(address).unwrap();
        assert_eq!(accept_refusing(&listener), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_connection_that_is_reset_before_it_is_set_up_counts_as_aborted() {
        let (listener, address) = listener();
        let client = Socket::from(TcpStream::connect(address).unwrap());
        client.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(accept_refusing(&listener), io::ErrorKind::ConnectionAborted);
    }
}
