//! The grammar of ipc addresses.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use socket2::SockAddr;

use crate::address::AddressError;
use crate::contract::Purpose;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// `*`
    Fresh,
    /// `@name`, held without the `@`.
    Abstract(&'a str),
    Path(&'a str),
}

impl<'a> Name<'a> {
    pub(super) fn parse(address: &'a str, purpose: Purpose) -> Result<Self, AddressError> {
        let wrong = |problem: String| Err(AddressError::new(address, problem));
        if address.is_empty() {
            return wrong("the path is missing; give a path, @name or, to bind, *".to_owned());
        }
        if address == "*" {
            return match purpose {
                Purpose::Bind => Ok(Self::Fresh),
                Purpose::Connect => wrong("\"*\" can only be bound; to connect give the path it became".to_owned()),
            };
        }
        if address.len() >= PATH_SIZE {
            return wrong(format!("the path has {} bytes, at most {} are allowed", address.len(), PATH_SIZE - 1));
        }
        if address.contains('\0') {
            return wrong("a path must not contain a NUL character".to_owned());
        }
        match address.strip_prefix('@') {
            None => Ok(Self::Path(address)),
            Some("") => wrong("the name after '@' is missing".to_owned()),
            Some(_) if !ABSTRACT_NAMES => {
                wrong("this system has no abstract names; give a path (./@name for a file called @name)".to_owned())
            }
            Some(name) => Ok(Self::Abstract(name)),
        }
    }

    /// The address as the system takes it. `*` has none.
    pub(super) fn socket_address(&self) -> io::Result<SockAddr> {
        match self {
            Self::Fresh => Err(io::ErrorKind::InvalidInput.into()),
            Self::Abstract(name) => SockAddr::unix(OsStr::from_bytes(&[b"\0", name.as_bytes()].concat())),
            Self::Path(path) => SockAddr::unix(Path::new(path)),
        }
    }
}

/// Writes the name of a bound socket; empty if it has none.
pub(super) fn write(address: &SockAddr) -> String {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = address.as_abstract_namespace() {
        return format!("@{}", String::from_utf8_lossy(name));
    }
    address.as_pathname().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The room for a path, its terminator included.
pub(super) const PATH_SIZE: usize = size_of::<libc::sockaddr_un>() - std::mem::offset_of!(libc::sockaddr_un, sun_path);

const ABSTRACT_NAMES: bool = cfg!(any(target_os = "linux", target_os = "android"));
