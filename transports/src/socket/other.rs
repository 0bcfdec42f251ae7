//! mio's own socket types behind a lock.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mio::event::Source as _;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::retry;
use crate::sys::ReadBuf;

/// A stream socket, non-blocking.
#[derive(Debug)]
pub(crate) struct StreamSocket(Mutex<TcpStream>);

/// A listening socket, non-blocking.
#[derive(Debug)]
pub(crate) struct ListenerSocket {
    bound: Socket,
    listener: Mutex<Option<TcpListener>>,
}

impl StreamSocket {
    pub(crate) fn connect(
        domain: Domain,
        target: &SockAddr,
        prepare: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> io::Result<Self> {
        let socket = new_socket(domain)?;
        prepare(&socket)?;
        match socket.connect(target) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(Self(Mutex::new(TcpStream::from_std(socket.into())))),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SockAddr> {
        SockRef::from(&*self.lock()).local_addr()
    }

    pub(crate) fn register(&self, registry: &mio::Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.lock().register(registry, token, interest)
    }

    pub(crate) fn reregister(&self, registry: &mio::Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.lock().reregister(registry, token, interest)
    }

    pub(crate) fn deregister(&self, registry: &mio::Registry) -> io::Result<()> {
        self.lock().deregister(registry)
    }

    pub(crate) fn read(&self, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        let count = retry(|| self.lock().read(buf.initialize_unfilled()))?;
        Ok(buf.advance(count))
    }

    pub(crate) fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        retry(|| self.lock().write_vectored(bufs))
    }

    pub(crate) fn connected(&self) -> io::Result<bool> {
        let stream = self.lock();
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.lock().shutdown(how)
    }

    fn lock(&self) -> MutexGuard<'_, TcpStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ListenerSocket {
    pub(crate) fn bind(
        domain: Domain,
        address: &SockAddr,
        prepare: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> io::Result<Self> {
        let socket = new_socket(domain)?;
        prepare(&socket)?;
        socket.bind(address)?;
        Ok(Self { bound: socket, listener: Mutex::new(None) })
    }

    pub(crate) fn adopt(socket: impl Into<Socket>) -> io::Result<Self> {
        let bound = socket.into();
        bound.set_nonblocking(true)?;
        let listener = TcpListener::from_std(bound.try_clone()?.into());
        Ok(Self { bound, listener: Mutex::new(Some(listener)) })
    }

    pub(crate) fn listen(&self, backlog: i32) -> io::Result<()> {
        self.bound.listen(backlog)?;
        *self.lock() = Some(TcpListener::from_std(self.bound.try_clone()?.into()));
        Ok(())
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.bound
    }

    pub(crate) fn register(&self, registry: &mio::Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.with(|listener| listener.register(registry, token, interest))
    }

    pub(crate) fn reregister(&self, registry: &mio::Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.with(|listener| listener.reregister(registry, token, interest))
    }

    pub(crate) fn deregister(&self, registry: &mio::Registry) -> io::Result<()> {
        self.with(|listener| listener.deregister(registry))
    }

    pub(crate) fn accept(
        &self,
        prepare: impl FnOnce(&Socket, &SockAddr) -> io::Result<()>,
    ) -> io::Result<(StreamSocket, SockAddr)> {
        let (stream, peer) = retry(|| self.with(|listener| listener.accept()))?;
        let peer = peer.into();
        prepare(&SockRef::from(&stream), &peer).map_err(|error| match stream.peer_addr() {
            // What is refused on a connection that stands would be refused on all others as well.
            Ok(_) => error,
            Err(_) => {
                io::Error::new(io::ErrorKind::ConnectionAborted, format!("a waiting connection was lost: {error}"))
            }
        })?;
        Ok((StreamSocket(Mutex::new(stream)), peer))
    }

    fn with<T>(&self, call: impl FnOnce(&mut TcpListener) -> io::Result<T>) -> io::Result<T> {
        match self.lock().as_mut() {
            Some(listener) => call(listener),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<TcpListener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_socket(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
