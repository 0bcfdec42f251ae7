//! Options as socket calls.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Socket, TcpKeepalive};

use crate::options::LinkOptions;
use crate::socket::setup::{buffers_and_priority, named};

pub(super) fn before_connect(socket: &Socket, target: SocketAddr, options: &LinkOptions) -> io::Result<()> {
    bind_to_device(socket, options)?;
    congestion(socket, is_loopback(target), options)?;
    common(socket, options)
}

pub(super) fn before_listen(socket: &Socket, address: SocketAddr, options: &LinkOptions) -> io::Result<()> {
    if address.is_ipv6() {
        // The system-wide default differs between systems, and may be changed.
        socket.set_only_v6(false)?;
    }
    bind_to_device(socket, options)?;
    congestion(socket, is_loopback(address), options)?;
    common(socket, options)
}

/// An accepted socket inherits the device, and an unprivileged process must not set it twice. The rest is inherited on
/// some systems only.
pub(super) fn after_accept(socket: &Socket, peer: SocketAddr, options: &LinkOptions) -> io::Result<()> {
    let same_host =
        || socket.local_addr().is_ok_and(|ours| ours.as_socket().is_some_and(|ours| ours.ip() == peer.ip()));
    congestion(socket, is_loopback(peer) || same_host(), options)?;
    common(socket, options)
}

/// Between two processes of one host there is nothing to be congested, and an algorithm that paces what it sends (BBR)
/// costs a third of the throughput there. So such connections use the oldest algorithm, which every system has, unless
/// the user named one.
fn congestion(socket: &Socket, within_host: bool, options: &LinkOptions) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    match &options.congestion_control {
        Some(name) => named("tcp_congestion_control", name, socket.set_tcp_congestion(name.as_bytes()))?,
        // A system without it keeps what it has.
        None if within_host => drop(socket.set_tcp_congestion(UNPACED)),
        None => {}
    }
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    let _ = (socket, within_host, options);
    Ok(())
}

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
const UNPACED: &[u8] = if cfg!(target_os = "linux") { b"reno" } else { b"newreno" };

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn common(socket: &Socket, options: &LinkOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    keepalive(socket, options)?;
    // Linux derives the priority from the type of service, so that one comes first.
    type_of_service(socket, options)?;
    buffers_and_priority(socket, options)?;
    #[cfg(target_os = "linux")]
    if let Some(time) = options.busy_poll {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX).min(C_INT_MAX);
        named("busy_poll", time, socket.set_busy_poll(micros))?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(time) = options.max_retransmit {
        let whole = Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(LONGEST_MILLIS));
        named("tcp_max_retransmit", time, socket.set_tcp_user_timeout(Some(whole)))?;
    }
    Ok(())
}

fn keepalive(socket: &Socket, options: &LinkOptions) -> io::Result<()> {
    let Some(on) = options.keepalive else { return Ok(()) };
    named("tcp_keepalive", on, socket.set_keepalive(on))?;
    if !on {
        return Ok(());
    }
    if let Some(time) = options.keepalive_idle {
        let setting = TcpKeepalive::new().with_time(whole_seconds(time));
        named("tcp_keepalive_idle", time, socket.set_tcp_keepalive(&setting))?;
    }
    #[cfg(not(target_os = "openbsd"))]
    if let Some(time) = options.keepalive_interval {
        let setting = TcpKeepalive::new().with_interval(whole_seconds(time));
        named("tcp_keepalive_interval", time, socket.set_tcp_keepalive(&setting))?;
    }
    #[cfg(not(target_os = "openbsd"))]
    if let Some(count) = options.keepalive_count {
        let setting = TcpKeepalive::new().with_retries(count.min(C_INT_MAX));
        named("tcp_keepalive_count", count, socket.set_tcp_keepalive(&setting))?;
    }
    Ok(())
}

fn type_of_service(socket: &Socket, options: &LinkOptions) -> io::Result<()> {
    let Some(octet) = options.type_of_service else { return Ok(()) };
    let v4 = socket.set_tos_v4(octet.into());
    #[cfg(any(
        target_os = "linux",
        target_os = "android",
        target_os = "macos",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd",
    ))]
    if socket.local_addr()?.domain() == socket2::Domain::IPV6 {
        // Such a socket may carry IPv4 as well, on systems that let the IPv4 option be set on it.
        return named("type_of_service", octet, socket.set_tclass_v6(octet.into()));
    }
    named("type_of_service", octet, v4)
}

fn bind_to_device(socket: &Socket, options: &LinkOptions) -> io::Result<()> {
    let Some(device) = &options.bind_to_device else { return Ok(()) };
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let result = socket.bind_device(Some(device.as_bytes()));
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let result = {
        let _ = socket;
        Err(io::ErrorKind::Unsupported.into())
    };
    named("bind_to_device", device, result)
}

/// Rounded up, so that a fraction of a second does not become "at once".
fn whole_seconds(time: Duration) -> Duration {
    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    Duration::from_secs(seconds.clamp(1, i32::MAX as u64))
}

/// The kernel takes C integers; a larger number would turn negative.
#[cfg(not(target_os = "openbsd"))]
const C_INT_MAX: u32 = i32::MAX as u32;

/// About 24 days, for the same reason.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LONGEST_MILLIS: u64 = i32::MAX as u64;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use socket2::{Domain, Type};

    use super::*;

    /// An address of documentation: no connection is made to it.
    const FAR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 9);

    fn many_options() -> LinkOptions {
        LinkOptions {
            keepalive: Some(true),
            keepalive_idle: Some(Duration::from_millis(1001)),
            keepalive_interval: Some(Duration::ZERO),
            keepalive_count: Some(7),
            send_buffer: Some(20_000),
            receive_buffer: Some(30_000),
            type_of_service: Some(0x28),
            priority: Some(5),
            max_retransmit: Some(Duration::from_micros(1_234_567)),
            ..LinkOptions::default()
        }
    }

    fn expect_many_options(socket: &Socket) {
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(2));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(1));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 7);
        // Linux doubles the sizes, for its own bookkeeping.
        assert_eq!(socket.send_buffer_size().unwrap(), 40_000);
        assert_eq!(socket.recv_buffer_size().unwrap(), 60_000);
        assert_eq!(socket.tos_v4().unwrap(), 0x28);
        assert_eq!(socket.priority().unwrap(), 5);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(1234)));
    }

    #[test]
    fn every_option_reaches_both_ends() {
        let options = many_options();
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        before_listen(&listener, address, &options).unwrap();
        expect_many_options(&listener);
        listener.bind(&address.into()).unwrap();
        listener.listen(1).unwrap();

        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        before_connect(&client, address, &options).unwrap();
        expect_many_options(&client);
        client.connect(&listener.local_addr().unwrap()).unwrap();

        let (server, _) = listener.accept().unwrap();
        after_accept(&server, client.local_addr().unwrap().as_socket().unwrap(), &options).unwrap();
        expect_many_options(&server);
    }

    #[test]
    fn without_options_only_the_delay_is_switched_off() {
        let (plain, set_up) = (
            Socket::new(Domain::IPV4, Type::STREAM, None).unwrap(),
            Socket::new(Domain::IPV4, Type::STREAM, None).unwrap(),
        );
        before_connect(&set_up, FAR, &LinkOptions::default()).unwrap();
        assert!(set_up.tcp_nodelay().unwrap());
        assert_eq!(set_up.keepalive().unwrap(), plain.keepalive().unwrap());
        assert_eq!(set_up.send_buffer_size().unwrap(), plain.send_buffer_size().unwrap());
        assert_eq!(set_up.tcp_user_timeout().unwrap(), None);
    }

    #[test]
    fn connections_within_the_host_are_not_paced_unless_the_user_says_so() {
        let algorithm = |target: SocketAddr, options: &LinkOptions| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            before_connect(&socket, target, options).unwrap();
            let name = socket.tcp_congestion().unwrap();
            String::from_utf8(name.into_iter().take_while(|octet| *octet != 0).collect()).unwrap()
        };
        let system = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap();
        let (near, by_default) = (SocketAddr::from(([127, 0, 0, 1], 9)), LinkOptions::default());
        assert_eq!(algorithm(near, &by_default), "reno");
        assert_eq!(algorithm(FAR, &by_default), system.trim());
        let named = LinkOptions { congestion_control: Some(system.trim().to_owned()), ..by_default };
        assert_eq!(algorithm(near, &named), system.trim());
        let unknown = LinkOptions { congestion_control: Some("no-such".to_owned()), ..LinkOptions::default() };
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert!(before_connect(&socket, near, &unknown).unwrap_err().to_string().contains("tcp_congestion_control"));
    }

    #[test]
    fn keepalive_times_count_only_if_it_is_on() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let before = socket.tcp_keepalive_retries().unwrap();
        let options = LinkOptions { keepalive: Some(false), ..many_options() };
        before_connect(&socket, FAR, &options).unwrap();
        assert!(!socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), before);
    }

    #[test]
    fn the_largest_values_are_clamped_or_refused_but_never_wrap() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let options = LinkOptions {
            send_buffer: Some(usize::MAX),
            receive_buffer: Some(usize::MAX),
            max_retransmit: Some(Duration::MAX),
            ..LinkOptions::default()
        };
        before_connect(&socket, FAR, &options).unwrap();
        assert!(socket.send_buffer_size().unwrap() >= 40_000);
        let options = LinkOptions {
            keepalive: Some(true),
            keepalive_idle: Some(Duration::MAX),
            keepalive_count: Some(u32::MAX),
            ..LinkOptions::default()
        };
        assert!(before_connect(&socket, FAR, &options).unwrap_err().to_string().contains("keepalive_idle"));
    }

    #[test]
    fn the_traffic_class_is_set_on_ipv6() {
        let Ok(socket) = Socket::new(Domain::IPV6, Type::STREAM, None) else { return };
        let options = LinkOptions { type_of_service: Some(0x28), ..LinkOptions::default() };
        before_connect(&socket, FAR, &options).unwrap();
        assert_eq!(socket.tclass_v6().unwrap(), 0x28);
        assert_eq!(socket.tos_v4().unwrap(), 0x28);
    }
}
