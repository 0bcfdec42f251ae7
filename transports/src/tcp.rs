//! The `tcp` transport: `tcp://host:port`.

mod address;
mod resolve;
mod setup;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, SockAddr, Socket};

use crate::address::AddressError;
use crate::contract::{Listener, Purpose, Stream, Transport};
use crate::options::LinkOptions;
use crate::socket::{ListenerSocket, StreamSocket, move_bytes_through_socket, register_through_socket};
use address::{Destination, Host, Place};

/// TCP over IPv4 and IPv6.
///
/// # Addresses
///
/// `host:port` with a strictly decimal port of 0 to 65535.
///
/// * To bind, the host is an IPv4 address, an IPv6 address in brackets (`[::1]`, with a zone `[fe80::1%eth0]`), `*` for
///   every interface, the name of an interface, or a host name; port `0` or `*` lets the system choose. An interface
///   name binds the interface's first address, IPv4 first; so does a host name.
/// * To connect, the host is an address or a host name and the port is not 0. In front may stand a source,
///   `src;host:port` or `src:port;host:port`, where `src` is an address, `*` or the name of an interface.
///
/// Addresses `0.0.0.0` and `[::]` connect to this host.
///
/// # Behaviour
///
/// `TCP_NODELAY` is on at both ends. A listener reuses an address whose former connections linger (`SO_REUSEADDR`), so
/// that a server can restart; a live listener is never displaced. [`bind`](Transport::bind) blocks while it looks up a
/// host name, and at no other time. A connection that meets itself (possible when the port connected to is in the range
/// of outgoing ports) counts as refused.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Transport for Tcp {
    fn scheme(&self) -> &str {
        "tcp"
    }

    fn check(&self, address: &str, purpose: Purpose) -> Result<(), AddressError> {
        match purpose {
            Purpose::Bind => Place::parse(address).map(drop),
            Purpose::Connect => Destination::parse(address).map(drop),
        }
    }

    fn resolve_now(&self, address: &str) -> Option<Vec<String>> {
        let literal = address.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0);
        literal.then(|| vec![address.to_owned()])
    }

    fn resolve(&self, address: &str, options: &LinkOptions) -> io::Result<Vec<String>> {
        resolve::destinations(address, &Destination::parse(address)?, options)
    }

    fn bind(&self, address: &str, options: &LinkOptions) -> io::Result<Box<dyn Listener>> {
        let place = Place::parse(address)?;
        let mut failure = None;
        for candidate in resolve::places(address, &place, options)? {
            match bind_one(candidate, options) {
                Ok(socket) => return Ok(Box::new(TcpListener { socket, options: options.clone() })),
                // The wildcard goes on to IPv4 only where there is no IPv6: any other failure is the answer.
                Err(error) if place.host == Host::Any && !lacks_ipv6(&error) => return Err(error),
                Err(error) => failure = failure.or_else(|| Some(resolve::without_interface(candidate, error))),
            }
        }
        Err(failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
    }

    fn connect(&self, resolved: &str, options: &LinkOptions) -> io::Result<Box<dyn Stream>> {
        let (source, target) = address::parse_resolved(resolved)?;
        if target.is_ipv6() && !options.ipv6 {
            return Err(AddressError::new(resolved, "IPv6 is switched off; use an IPv4 address").into());
        }
        let target = reachable(target);
        let socket = StreamSocket::connect(Domain::for_address(target), &target.into(), |socket| {
            setup::before_connect(socket, target, options)?;
            match source {
                Some(source) => {
                    if source.port() != 0 {
                        // One source port may serve connections to several targets, and one that has just closed.
                        reuse_address(socket)?;
                    }
                    socket.bind(&source.into())
                }
                None => Ok(()),
            }
        })?;
        Ok(Box::new(TcpStream { socket, peer: target }))
    }
}

/// Takes over a TCP listener that is already bound, for example one inherited from a service manager.
///
/// It is made non-blocking and close-on-exec. Accepted streams get the default [`LinkOptions`].
///
/// # Errors
///
/// What the system said.
pub fn adopt_tcp(listener: std::net::TcpListener) -> io::Result<Box<dyn Listener>> {
    Ok(Box::new(TcpListener { socket: ListenerSocket::adopt(listener)?, options: LinkOptions::default() }))
}

#[derive(Debug)]
struct TcpListener {
    socket: ListenerSocket,
    options: LinkOptions,
}

impl Listener for TcpListener {
    register_through_socket!();

    fn accept(&self) -> io::Result<Box<dyn Stream>> {
        // The address comes with the accept, and asking later would fail once the peer has gone.
        let address = |peer: &SockAddr| peer.as_socket().unwrap_or(NOWHERE);
        let (socket, peer) =
            self.socket.accept(|socket, peer| setup::after_accept(socket, address(peer), &self.options))?;
        let peer = address(&peer);
        Ok(Box::new(TcpStream { socket, peer }))
    }

    fn local_address(&self) -> String {
        written(self.socket.socket().local_addr())
    }

    fn close(self: Box<Self>) {}
}

#[derive(Debug)]
struct TcpStream {
    socket: StreamSocket,
    peer: SocketAddr,
}

impl Stream for TcpStream {
    register_through_socket!();
    move_bytes_through_socket!();

    fn connected(&self) -> io::Result<bool> {
        let connected = self.socket.connected()?;
        // The zone is left out: the system has none for an address that needs none, whatever was written.
        let met = |ours: SocketAddr| ours.ip() == self.peer.ip() && ours.port() == self.peer.port();
        if connected && self.socket.local_addr().ok().and_then(|ours| ours.as_socket()).is_some_and(met) {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the connection met itself"));
        }
        Ok(connected)
    }

    #[cfg(unix)]
    fn unsent(&self) -> usize {
        self.socket.unacknowledged()
    }

    #[cfg(unix)]
    fn is_unanswered(&self) -> bool {
        self.socket.is_unanswered()
    }

    fn local_address(&self) -> String {
        written(self.socket.local_addr())
    }

    fn peer_address(&self) -> String {
        address::write(self.peer)
    }
}

fn bind_one(address: SocketAddr, options: &LinkOptions) -> io::Result<ListenerSocket> {
    let chosen_by_the_system = address.port() == 0;
    let listener = ListenerSocket::bind(Domain::for_address(address), &address.into(), |socket| {
        setup::before_listen(socket, address, options)?;
        // A socket that may share its port could be given one that is not its own alone.
        if chosen_by_the_system { Ok(()) } else { reuse_address(socket) }
    })?;
    if chosen_by_the_system {
        // Now it has a port, and whoever binds that port after us must find that we agreed to share.
        reuse_address(listener.socket())?;
    }
    listener.listen(options.listen_backlog())?;
    Ok(listener)
}

/// Lets a listener bind a port at which only former connections linger. On Windows the option means another thing,
/// that a live listener may be displaced, and lingering connections are no hindrance.
fn reuse_address(socket: &Socket) -> io::Result<()> {
    if cfg!(windows) { Ok(()) } else { socket.set_reuse_address(true) }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    #[cfg(unix)]
    let unknown_family = error.raw_os_error() == Some(libc::EAFNOSUPPORT);
    #[cfg(not(unix))]
    let unknown_family = error.kind() == io::ErrorKind::Unsupported;
    unknown_family || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// The wildcard as a target means this host. Some systems know that by themselves.
fn reachable(mut target: SocketAddr) -> SocketAddr {
    match target.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => target.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => target.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    target
}

fn written(address: io::Result<SockAddr>) -> String {
    address.ok().and_then(|address| address.as_socket()).map(address::write).unwrap_or_default()
}

/// Stands for an address that the system did not tell.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
