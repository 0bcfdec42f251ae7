//! A non-blocking socket with a contract's worth of methods: what `tcp` and `ipc` share.
//!
//! On Unix it is the bare descriptor, used through `&self` without a lock. Elsewhere mio wants its own type and `&mut`
//! to register it, so there it stands behind a lock.

#[cfg(not(unix))]
mod other;
pub(crate) mod setup;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub(crate) use other::{ListenerSocket, StreamSocket};
#[cfg(unix)]
pub(crate) use unix::{ListenerSocket, StreamSocket};

/// Passes the poll methods of a contract on to the field `socket`.
macro_rules! register_through_socket {
    () => {
        fn register(
            &self,
            registry: &mio::Registry,
            token: mio::Token,
            interest: mio::Interest,
        ) -> std::io::Result<()> {
            self.socket.register(registry, token, interest)
        }

        fn reregister(
            &self,
            registry: &mio::Registry,
            token: mio::Token,
            interest: mio::Interest,
        ) -> std::io::Result<()> {
            self.socket.reregister(registry, token, interest)
        }

        fn deregister(&self, registry: &mio::Registry) -> std::io::Result<()> {
            self.socket.deregister(registry)
        }
    };
}
pub(crate) use register_through_socket;

/// Passes the byte methods of a stream on to the field `socket`.
macro_rules! move_bytes_through_socket {
    () => {
        fn read(&self, buf: &mut crate::sys::ReadBuf<'_>) -> std::io::Result<usize> {
            self.socket.read(buf)
        }

        fn write_vectored(&self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
            self.socket.write_vectored(bufs)
        }

        fn shutdown(&self, how: std::net::Shutdown) -> std::io::Result<()> {
            self.socket.shutdown(how)
        }
    };
}
pub(crate) use move_bytes_through_socket;

/// Repeats a call for as long as signals interrupt it.
pub(crate) fn retry<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
