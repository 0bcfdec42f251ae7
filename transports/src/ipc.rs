//! The `ipc` transport: `ipc://path`, Unix stream sockets.

mod address;
mod claim;

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, SockRef};

use crate::address::AddressError;
use crate::contract::{Credentials, Listener, Purpose, Stream, Transport};
use crate::options::LinkOptions;
use crate::socket::setup::buffers_and_priority;
use crate::socket::{ListenerSocket, StreamSocket, move_bytes_through_socket, register_through_socket};
use crate::sys;
use address::Name;
use claim::SocketFile;

/// Unix stream sockets, between processes of one host.
///
/// # Addresses
///
/// * `path`: a file, absolute or relative to the working directory, shorter than the system's limit (108 bytes on
///   Linux);
/// * `@name`: a name in Linux's abstract namespace, which has no file and vanishes with its listener;
/// * `*`: to bind only: a file in a fresh folder that only this user may enter, under `TMPDIR` or else the system's
///   folder for temporary files. [`Listener::local_address`] tells the path, which can be bound again by its name.
///
/// # The socket file
///
/// * A live listener is never displaced: binding its path is [`AddrInUse`](io::ErrorKind::AddrInUse).
/// * A socket file that nobody listens on (its process was killed) is replaced.
/// * A file or directory that is not a socket is never removed, and neither is a socket in use that is not a stream
///   socket: binding its path is [`AlreadyExists`](io::ErrorKind::AlreadyExists).
/// * Closing the listener removes the file, and the fresh folder of `*`, if the file is still the one it made. Only
///   the process that bound it does so, never a forked child.
///
/// Whether a file is dead is found out by connecting to it, and between that and the removal another process might do
/// the same. Therefore binders take turns: [`bind`](Transport::bind) holds a lock (`flock`) on the folder, waiting for
/// it for a tenth of a second at most, and replaces nothing while somebody else holds it. No extra file is left
/// behind. A program that binds without this lock is only protected by the probe.
///
/// # Credentials
///
/// [`Stream::credentials`] tells user, group and (on Linux) process of the peer at the time it connected or began to
/// listen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ipc;

impl Transport for Ipc {
    fn scheme(&self) -> &str {
        "ipc"
    }

    fn check(&self, address: &str, purpose: Purpose) -> Result<(), AddressError> {
        Name::parse(address, purpose).map(drop)
    }

    fn resolve_now(&self, address: &str) -> Option<Vec<String>> {
        self.check(address, Purpose::Connect).is_ok().then(|| vec![address.to_owned()])
    }

    fn resolve(&self, address: &str, _options: &LinkOptions) -> io::Result<Vec<String>> {
        Name::parse(address, Purpose::Connect)?;
        Ok(vec![address.to_owned()])
    }

    fn bind(&self, address: &str, options: &LinkOptions) -> io::Result<Box<dyn Listener>> {
        let listen = |socket: &ListenerSocket| socket.listen(options.listen_backlog());
        let (socket, file, address) = match Name::parse(address, Purpose::Bind)? {
            Name::Abstract(name) => {
                let socket = new_listener(&Name::Abstract(name), options)?;
                listen(&socket)?;
                (socket, None, address.to_owned())
            }
            Name::Path(path) => {
                let folder = claim::FreshFolder::again(path)?;
                let new = || new_listener(&Name::Path(path), options);
                let (socket, mut file) = claim::bind_file(path, new, listen)?;
                if let Some(folder) = folder {
                    file.keep_folder(folder);
                }
                (socket, Some(file), address.to_owned())
            }
            Name::Fresh => {
                let folder = claim::FreshFolder::create(&std::env::temp_dir())?;
                let path = folder.socket_path()?;
                let new = || new_listener(&Name::Path(&path), options);
                let (socket, mut file) = claim::bind_file(&path, new, listen)?;
                file.keep_folder(folder);
                (socket, Some(file), path)
            }
        };
        Ok(Box::new(IpcListener { file, socket, address: address.into(), options: options.clone() }))
    }

    fn connect(&self, resolved: &str, options: &LinkOptions) -> io::Result<Box<dyn Stream>> {
        let target = Name::parse(resolved, Purpose::Connect)?.socket_address()?;
        let prepare = |socket: &socket2::Socket| buffers_and_priority(socket, options);
        let socket = StreamSocket::connect(Domain::UNIX, &target, prepare)
            .map_err(|error| claim::without_socket(resolved, error))?;
        Ok(Box::new(IpcStream::new(socket, End::Connecting, resolved.into(), options)))
    }
}

/// Takes over a Unix stream listener that is already bound, for example one inherited from a service manager.
///
/// It is made non-blocking and close-on-exec. Its socket file stays when it closes: whoever made it removes it.
/// Accepted streams get the default [`LinkOptions`].
///
/// # Errors
///
/// What the system said.
pub fn adopt_unix(listener: UnixListener) -> io::Result<Box<dyn Listener>> {
    let socket = ListenerSocket::adopt(listener)?;
    let address = address::write(&socket.socket().local_addr()?);
    Ok(Box::new(IpcListener { file: None, socket, address: address.into(), options: LinkOptions::default() }))
}

#[derive(Debug)]
struct IpcListener {
    /// Dropped before the socket: as long as the socket lives, nobody else's file can have our inode number.
    #[expect(dead_code, reason = "held for its drop")]
    file: Option<SocketFile>,
    socket: ListenerSocket,
    address: Arc<str>,
    options: LinkOptions,
}

impl Listener for IpcListener {
    register_through_socket!();

    fn accept(&self) -> io::Result<Box<dyn Stream>> {
        let (socket, _) = self.socket.accept(|socket, _| buffers_and_priority(socket, &self.options))?;
        Ok(Box::new(IpcStream::new(socket, End::Accepted, Arc::clone(&self.address), &self.options)))
    }

    fn local_address(&self) -> String {
        self.address.to_string()
    }

    fn close(self: Box<Self>) {}
}

#[derive(Debug)]
struct IpcStream {
    socket: StreamSocket,
    end: End,
    /// The listener's address, the only one of the two ends that has a name.
    address: Arc<str>,
    /// Whether the send buffer is as the options or [`widen`](Stream::widen) have made it.
    is_settled: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Connecting,
    Accepted,
}

impl Stream for IpcStream {
    register_through_socket!();
    move_bytes_through_socket!();

    fn connected(&self) -> io::Result<bool> {
        self.socket.connected()
    }

    fn local_address(&self) -> String {
        self.name_of(End::Accepted)
    }

    fn peer_address(&self) -> String {
        self.name_of(End::Connecting)
    }

    /// What the peer has not read yet: a libzmq that is paused takes our close for an error and throws that away.
    fn unsent(&self) -> usize {
        self.socket.unacknowledged()
    }

    /// Asks for the size that the send buffer has, which Linux doubles, within twice `net.core.wmem_max`: the two ends
    /// then wait for each other once for every 340 KiB instead of 170. Where the system's default is above that limit
    /// the buffer shrinks to it.
    fn widen(&self) {
        if self.is_settled.swap(true, Ordering::Relaxed) {
            return;
        }
        let fd = self.socket.as_fd();
        let socket = SockRef::from(&fd);
        // Without it the stream is slower and no more.
        let _ = socket.send_buffer_size().and_then(|size| socket.set_send_buffer_size(size));
    }

    fn credentials(&self) -> Option<Credentials> {
        sys::peer_credentials(self.socket.as_fd())
    }
}

impl IpcStream {
    fn new(socket: StreamSocket, end: End, address: Arc<str>, options: &LinkOptions) -> IpcStream {
        IpcStream { socket, end, address, is_settled: AtomicBool::new(options.send_buffer.is_some()) }
    }

    /// The listener's address if we are the given end, else nothing.
    fn name_of(&self, end: End) -> String {
        if self.end == end { self.address.to_string() } else { String::new() }
    }
}

fn new_listener(name: &Name<'_>, options: &LinkOptions) -> io::Result<ListenerSocket> {
    ListenerSocket::bind(Domain::UNIX, &name.socket_address()?, |socket| buffers_and_priority(socket, options))
}
