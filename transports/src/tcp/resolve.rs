//! From names to numbers: interfaces, zones and host names. The only part of `tcp` that may block.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};

use super::address::{Destination, Host, Place};
use crate::address::{AddressError, shortened};
use crate::options::LinkOptions;

/// The addresses to try when binding, best first.
pub(super) fn places(address: &str, place: &Place<'_>, options: &LinkOptions) -> io::Result<Vec<SocketAddr>> {
    let port = place.port;
    let mut found = match place.host {
        Host::Any if options.ipv6 => vec![any(port, true), any(port, false)],
        Host::Any => vec![any(port, false)],
        Host::V4(ip) => vec![SocketAddr::from((ip, port))],
        Host::V6(ip, zone) => vec![v6(address, ip, zone, port, options)?],
        Host::Name(name) => {
            let mut found = interface(name, port)?;
            // One is meant, not one of many.
            found.truncate(usize::from(!found.is_empty()));
            if found.is_empty() { host(name, port)? } else { found }
        }
    };
    if matches!(place.host, Host::Name(_)) {
        found.retain(|candidate| options.ipv6 || candidate.is_ipv4());
        // Peers that were told the name try IPv4 for certain and IPv6 perhaps.
        found.sort_by_key(SocketAddr::is_ipv6);
    }
    if found.is_empty() {
        return Err(nothing_usable(address));
    }
    Ok(found)
}

/// The addresses to try when connecting, best first, as text with the source in front.
pub(super) fn destinations(
    address: &str,
    destination: &Destination<'_>,
    options: &LinkOptions,
) -> io::Result<Vec<String>> {
    let port = destination.target.port;
    let mut targets = match destination.target.host {
        // The grammar has refused it as a target.
        Host::Any => Vec::new(),
        Host::V4(ip) => vec![SocketAddr::from((ip, port))],
        Host::V6(ip, zone) => vec![v6(address, ip, zone, port, options)?],
        Host::Name(name) => host(name, port)?,
    };
    targets.retain(|target| options.ipv6 || target.is_ipv4());
    let resolved = match &destination.source {
        None => unique(targets.into_iter().map(|target| target.to_string())),
        Some(source) => {
            let sources = sources(address, source, options)?;
            // Both ends must be of one family.
            let pair = |target: SocketAddr| {
                let source = sources.iter().find(|source| source.is_ipv4() == target.is_ipv4())?;
                Some(format!("{source};{target}"))
            };
            unique(targets.into_iter().filter_map(pair))
        }
    };
    if resolved.is_empty() { Err(nothing_usable(address)) } else { Ok(resolved) }
}

/// The addresses a source stands for. It is one of ours, so no name server is asked.
fn sources(address: &str, source: &Place<'_>, options: &LinkOptions) -> io::Result<Vec<SocketAddr>> {
    let port = source.port;
    match source.host {
        Host::Any => Ok(vec![any(port, false), any(port, true)]),
        Host::V4(ip) => Ok(vec![SocketAddr::from((ip, port))]),
        Host::V6(ip, zone) => Ok(vec![v6(address, ip, zone, port, options)?]),
        Host::Name(name) => {
            let found = interface(name, port)?;
            if found.is_empty() {
                let problem = format!("the source {name:?} is not an interface of this host that has an address");
                return Err(io::Error::new(io::ErrorKind::NotFound, AddressError::new(address, problem)));
            }
            Ok(found)
        }
    }
}

fn any(port: u16, ipv6: bool) -> SocketAddr {
    if ipv6 { (Ipv6Addr::UNSPECIFIED, port).into() } else { (Ipv4Addr::UNSPECIFIED, port).into() }
}

fn v6(address: &str, ip: Ipv6Addr, zone: Option<&str>, port: u16, options: &LinkOptions) -> io::Result<SocketAddr> {
    if !options.ipv6 {
        return Err(AddressError::new(address, "IPv6 is switched off; use an IPv4 address").into());
    }
    let scope = match zone {
        None => 0,
        Some(zone) => zone_number(zone).ok_or_else(|| {
            let problem = format!("the zone {:?} is not an interface of this host", shortened(zone));
            io::Error::new(io::ErrorKind::NotFound, AddressError::new(address, problem))
        })?,
    };
    Ok(SocketAddrV6::new(ip, port, 0, scope).into())
}

fn zone_number(zone: &str) -> Option<u32> {
    let number = zone.bytes().all(|c| c.is_ascii_digit()).then(|| zone.parse().ok()).flatten();
    #[cfg(unix)]
    let number = number.or_else(|| crate::sys::interface_index(zone));
    number
}

fn interface(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    #[cfg(unix)]
    {
        let mut found = crate::sys::interface_addresses(name)?;
        found.iter_mut().for_each(|address| address.set_port(port));
        Ok(found)
    }
    #[cfg(not(unix))]
    {
        let _ = (name, port);
        Ok(Vec::new())
    }
}

fn host(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match (name, port).to_socket_addrs() {
        Ok(found) => Ok(found.take(MAX_ADDRESSES).collect()),
        Err(error) => Err(io::Error::new(error.kind(), format!("the host {name:?} was not found: {error}"))),
    }
}

fn unique(addresses: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for address in addresses {
        if !seen.contains(&address) {
            seen.push(address);
        }
    }
    seen
}

/// What the system found wrong with an address to bind, if that is that it is none of this host.
pub(super) fn without_interface(address: SocketAddr, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            let ip = address.ip();
            let text = format!("no interface of this host has the address {ip}; \"*\" stands for all that it has");
            io::Error::new(error.kind(), text)
        }
        _ => error,
    }
}

fn nothing_usable(address: &str) -> io::Error {
    let problem =
        "it has no address of a family in use (is IPv6 switched off, or does the source have another family?)";
    io::Error::new(io::ErrorKind::AddrNotAvailable, AddressError::new(address, problem))
}

/// A name server may answer with any number of addresses; nobody tries more than these.
const MAX_ADDRESSES: usize = 64;
