//! The grammar of tcp addresses. Nothing is looked up here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::address::{AddressError, shortened};

/// One end: a host and a port. Port 0 stands for "any".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) host: Host<'a>,
    pub(super) port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Host<'a> {
    /// `*`
    Any,
    V4(Ipv4Addr),
    V6(Ipv6Addr, Option<&'a str>),
    /// An interface or a host.
    Name(&'a str),
}

/// What to connect to, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Destination<'a> {
    pub(super) source: Option<Place<'a>>,
    pub(super) target: Place<'a>,
}

impl<'a> Place<'a> {
    /// Parses an address to bind.
    pub(super) fn parse(address: &'a str) -> Result<Self, AddressError> {
        let parse = || {
            if address.contains(';') {
                return Err("a source (before ';') is for connecting; bind host:port".to_owned());
            }
            let (host, port) = split(address)?;
            let port = port.ok_or_else(|| MISSING_PORT.to_owned())?;
            Ok(Self { host: parse_host(host)?, port: parse_port_or_any(port)? })
        };
        parse().map_err(|problem| AddressError::new(address, problem))
    }
}

impl<'a> Destination<'a> {
    /// Parses an address to connect to.
    pub(super) fn parse(address: &'a str) -> Result<Self, AddressError> {
        let parse = || {
            let (source, target) = match address.rsplit_once(';') {
                Some((source, target)) => (Some(parse_source(source)?), target),
                None => (None, address),
            };
            Ok(Self { source, target: parse_target(target)? })
        };
        parse().map_err(|problem: String| AddressError::new(address, problem))
    }
}

/// Parses what `resolve` writes: `[source;]target`, both numeric.
pub(super) fn parse_resolved(address: &str) -> Result<(Option<SocketAddr>, SocketAddr), AddressError> {
    let numeric = |text: &str| {
        text.parse::<SocketAddr>().map_err(|_| {
            let text = shortened(text);
            AddressError::new(address, format!("{text:?} is not a resolved address; 127.0.0.1:5555 or [::1]:5555 is"))
        })
    };
    match address.rsplit_once(';') {
        Some((source, target)) => Ok((Some(numeric(source)?), numeric(target)?)),
        None => Ok((None, numeric(address)?)),
    }
}

/// Writes an address; an IPv4 address inside IPv6 is written as what it is.
pub(super) fn write(address: SocketAddr) -> String {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, address.port())).to_string(),
        // Not rebuilt from the parts: it may have a zone.
        IpAddr::V6(_) => address.to_string(),
    }
}

fn parse_source(text: &str) -> Result<Place<'_>, String> {
    let (host, port) = split(text)?;
    let port = port.map_or(Ok(0), parse_port_or_any)?;
    Ok(Place { host: parse_host(host)?, port })
}

fn parse_target(text: &str) -> Result<Place<'_>, String> {
    let (host, port) = split(text)?;
    let port = port.ok_or_else(|| MISSING_PORT.to_owned())?;
    if port == "*" {
        return Err("port \"*\" can only be bound; to connect give a port of 1 to 65535".to_owned());
    }
    let place = Place { host: parse_host(host)?, port: parse_port(port)? };
    if place.host == Host::Any {
        return Err("host \"*\" can only be bound; to connect give a host".to_owned());
    }
    if place.port == 0 {
        return Err("port 0 can only be bound; to connect give a port of 1 to 65535".to_owned());
    }
    Ok(place)
}

/// Splits at the colon before the port. The brackets stay with the host.
fn split(text: &str) -> Result<(&str, Option<&str>), String> {
    if text.starts_with('[') {
        let Some(end) = text.find(']') else { return Err("the closing ']' of the IPv6 address is missing".to_owned()) };
        let (host, rest) = text.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(format!("{:?} follows the ']'; only a colon and the port may", shortened(rest))),
        };
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => {
            Err("there is more than one colon; write an IPv6 address in brackets, as in [::1]:5555".to_owned())
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

fn parse_host(text: &str) -> Result<Host<'_>, String> {
    if text == "*" {
        return Ok(Host::Any);
    }
    if let Some(inside) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return parse_v6(inside);
    }
    if let Ok(ip) = text.parse() {
        return Ok(Host::V4(ip));
    }
    if text.is_empty() {
        return Err(format!("the host is missing; {HOSTS}"));
    }
    // The resolver would read some of these as addresses in ways nobody expects today.
    if text.bytes().all(|c| c.is_ascii_digit() || c == b'.') {
        return Err(format!("{:?} is not an IPv4 address, which is four numbers of 0 to 255", shortened(text)));
    }
    if let Some(bad) = text.chars().find(|&c| !c.is_ascii_graphic() || NOT_IN_NAMES.contains(c)) {
        return Err(format!("{bad:?} cannot stand in a host; {HOSTS}"));
    }
    if text.len() > MAX_NAME {
        return Err(format!("the host name has {} characters, at most {MAX_NAME} are allowed", text.len()));
    }
    Ok(Host::Name(text))
}

fn parse_v6(text: &str) -> Result<Host<'_>, String> {
    let (ip, zone) = match text.split_once('%') {
        Some((ip, zone)) => (ip, Some(zone)),
        None => (text, None),
    };
    let Ok(ip) = ip.parse() else {
        return Err(format!("{:?} in the brackets is not an IPv6 address", shortened(ip)));
    };
    if zone.is_some_and(|zone| zone.is_empty() || !zone.bytes().all(|c| c.is_ascii_graphic() && c != b'%')) {
        return Err("the zone after '%' must be the name or number of an interface".to_owned());
    }
    Ok(Host::V6(ip, zone))
}

fn parse_port_or_any(text: &str) -> Result<u16, String> {
    if text == "*" { Ok(0) } else { parse_port(text) }
}

fn parse_port(text: &str) -> Result<u16, String> {
    // The standard parser also takes a plus sign.
    let decimal = text.len() <= 5 && text.bytes().all(|c| c.is_ascii_digit());
    match text.parse() {
        Ok(port) if decimal => Ok(port),
        Ok(_) | Err(_) => Err(format!("port {:?} is not a decimal number of 0 to 65535", shortened(text))),
    }
}

const MISSING_PORT: &str = "the port is missing; write host:port, where \"*\" as the port binds a free one";

const HOSTS: &str =
    "a host is an IPv4 address, an IPv6 address in brackets, the name of an interface or host, or \"*\" to bind";

/// Characters with a meaning of their own in addresses, here or in other schemes.
const NOT_IN_NAMES: &str = "*;[]/\\?#%,\"'<>{}|^`";

/// The longest name DNS has, in text form.
const MAX_NAME: usize = 253;
