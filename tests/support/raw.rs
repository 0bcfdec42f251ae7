//! A peer made of bytes (ZMTP 3.1, RFC 37): what no well-behaved socket would send.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Reads and writes with a time limit, so that no test hangs in it.
pub(crate) struct Raw {
    stream: Link,
}

enum Link {
    Tcp(TcpStream),
    Unix(UnixStream),
}

const LIMIT: Duration = Duration::from_secs(10);

impl Raw {
    /// Connects to `tcp://…` or `ipc://…`.
    pub(crate) fn connect(endpoint: &str) -> io::Result<Raw> {
        let stream = match endpoint.split_once("://") {
            Some(("tcp", address)) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(LIMIT))?;
                stream.set_write_timeout(Some(LIMIT))?;
                Link::Tcp(stream)
            }
            Some(("ipc", path)) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(LIMIT))?;
                stream.set_write_timeout(Some(LIMIT))?;
                Link::Unix(stream)
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        Ok(Raw { stream })
    }

    /// The other side of an accepted tcp connection.
    pub(crate) fn accepted(stream: TcpStream) -> Raw {
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_write_timeout(Some(LIMIT)).expect("a limit");
        Raw { stream: Link::Tcp(stream) }
    }

    /// As [`accepted`](Raw::accepted), of a Unix socket.
    pub(crate) fn accepted_unix(stream: UnixStream) -> Raw {
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_write_timeout(Some(LIMIT)).expect("a limit");
        Raw { stream: Link::Unix(stream) }
    }

    /// Does the NULL handshake as a socket of that kind.
    pub(crate) fn shake_hands(&mut self, kind: &str) -> io::Result<()> {
        self.write_all(&greeting())?;
        let mut theirs = [0; 64];
        self.read_exact(&mut theirs)?;
        self.write_all(&ready(kind))?;
        let mut header = [0; 2];
        self.read_exact(&mut header)?;
        let mut body = vec![0; header[1].into()];
        self.read_exact(&mut body)
    }

    /// Whether the other side closes, within `limit`; what it sends before is thrown away.
    pub(crate) fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.set_read_timeout(limit);
        let mut rest = [0; 4096];
        loop {
            match self.read(&mut rest) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            }
        }
    }

    pub(crate) fn set_read_timeout(&self, limit: Duration) {
        let set = match &self.stream {
            Link::Tcp(stream) => stream.set_read_timeout(Some(limit)),
            Link::Unix(stream) => stream.set_read_timeout(Some(limit)),
        };
        set.expect("a limit that is not zero");
    }

    pub(crate) fn set_write_timeout(&self, limit: Duration) {
        let set = match &self.stream {
            Link::Tcp(stream) => stream.set_write_timeout(Some(limit)),
            Link::Unix(stream) => stream.set_write_timeout(Some(limit)),
        };
        set.expect("a limit that is not zero");
    }
}

impl Read for Raw {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Link::Tcp(stream) => stream.read(buffer),
            Link::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Raw {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Link::Tcp(stream) => stream.write(bytes),
            Link::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A greeting of version 3.1 with the NULL mechanism.
pub(crate) fn greeting() -> [u8; 64] {
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[11] = 1;
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

/// A READY command of a socket of that kind.
pub(crate) fn ready(kind: &str) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    property(&mut body, "Socket-Type", kind.as_bytes());
    command(&body)
}

/// Appends a metadata property.
pub(crate) fn property(body: &mut Vec<u8>, name: &str, value: &[u8]) {
    body.push(name.len() as u8);
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(&(value.len() as u32).to_be_bytes());
    body.extend_from_slice(value);
}

/// A short command frame.
pub(crate) fn command(body: &[u8]) -> Vec<u8> {
    let mut frame = vec![4, body.len() as u8];
    frame.extend_from_slice(body);
    frame
}

/// The header of a message frame in its long form, whatever follows.
pub(crate) fn long_header(more: bool, length: u64) -> [u8; 9] {
    let mut header = [0; 9];
    header[0] = 2 | u8::from(more);
    header[1..].copy_from_slice(&length.to_be_bytes());
    header
}

/// A message frame.
pub(crate) fn frame(more: bool, body: &[u8]) -> Vec<u8> {
    let mut frame = if body.len() < 256 {
        vec![u8::from(more), body.len() as u8]
    } else {
        long_header(more, body.len() as u64).to_vec()
    };
    frame.extend_from_slice(body);
    frame
}
