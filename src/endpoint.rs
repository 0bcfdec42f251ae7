//! Where a socket binds or connects: `scheme://address`.

use crate::error::{Error, shortened};
use crate::event::Cause;
use std::fmt;
use std::str::FromStr;

/// An endpoint such as `tcp://127.0.0.1:5555`, `ipc:///run/service.sock` or `inproc://jobs`.
///
/// Parsing checks the form only; the transport of that scheme checks the address when a socket binds or connects.
///
/// # Examples
/// ```
/// let endpoint: wiremesh::Endpoint = "tcp://127.0.0.1:5555".parse()?;
/// assert_eq!((endpoint.scheme(), endpoint.address()), ("tcp", "127.0.0.1:5555"));
/// assert!("127.0.0.1:5555".parse::<wiremesh::Endpoint>().is_err());
/// # Ok::<(), wiremesh::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    text: String,
    scheme: usize,
}

/// What is known of an endpoint of a socket; see [`Socket::endpoints`](crate::Socket::endpoints). It prints as one
/// line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointInfo {
    /// The endpoint: as bound, wildcards resolved, or as given to `connect`.
    pub endpoint: String,
    /// Whether it listens, is connected, or tries to be.
    pub state: EndpointState,
    /// How many connections it has that messages can take now: any number where it listens, else one at most.
    pub connections: usize,
    /// Attempts to connect that have failed since the last connection. Where it listens: newcomers that were not
    /// accepted since the last one that was.
    pub attempts: u32,
    /// Why the last attempt failed, or the connection was lost; `None` while connected. Where it listens: why the last
    /// newcomer was not accepted; `None` once another one was.
    pub last_error: Option<Cause>,
    /// The address of that attempt, or newcomer, without scheme; `None` if it came to none, as when the name could not
    /// be looked up.
    pub address: Option<String>,
}

/// What an endpoint is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointState {
    /// Peers can connect to it.
    Listening,
    /// An attempt to connect is under way, or its name is looked up. Over inproc: nobody has bound the name yet.
    Connecting,
    /// The last attempt failed or the connection was lost, and the next attempt follows.
    Waiting,
    /// It has a connection that messages can take.
    Connected,
    /// Over inproc: its connection has ended, as when the socket that had bound the name was closed. inproc does not
    /// connect again by itself: a call of `connect` does, and replaces this endpoint.
    Ended,
}

impl fmt::Display for EndpointInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            EndpointState::Listening => "listening",
            EndpointState::Connecting => "connecting",
            EndpointState::Waiting => "waiting for the next attempt",
            EndpointState::Connected => "connected",
            EndpointState::Ended => "ended",
        };
        write!(f, "{}: {state}", self.endpoint)?;
        match (self.state, self.connections) {
            (EndpointState::Listening, 1) => f.write_str(", 1 connection")?,
            (EndpointState::Listening, count) => write!(f, ", {count} connections")?,
            _ => {}
        }
        match &self.last_error {
            Some(cause) if self.state == EndpointState::Listening => {
                let were = if self.attempts == 1 { "newcomer was" } else { "newcomers were" };
                write!(f, ", {} {were} not accepted, the last one: {cause}", self.attempts)
            }
            Some(cause) if self.attempts == 0 => write!(f, ", {cause}"),
            Some(cause) if self.attempts == 1 => write!(f, ", 1 failed attempt: {cause}"),
            Some(cause) => write!(f, ", {} failed attempts, the last one: {cause}", self.attempts),
            None => Ok(()),
        }
    }
}

impl Endpoint {
    /// The longest endpoint that is accepted, in octets.
    pub const MAX_LEN: usize = 4096;

    pub(crate) fn new(scheme: &str, address: &str) -> Endpoint {
        Endpoint { text: format!("{scheme}://{address}"), scheme: scheme.len() }
    }

    /// The part before `://`.
    pub fn scheme(&self) -> &str {
        self.text.get(..self.scheme).unwrap_or_default()
    }

    /// The part after `://`.
    pub fn address(&self) -> &str {
        self.text.get(self.scheme + 3..).unwrap_or_default()
    }

    /// The port of a tcp endpoint; `None` for one that names none (`*`), and for other schemes.
    ///
    /// # Examples
    /// ```
    /// let pull = wiremesh::Pull::new();
    /// let endpoint = pull.bind("tcp://127.0.0.1:*")?; // `bind` says what the wildcard became
    /// assert!(endpoint.port().is_some_and(|port| port > 0));
    /// # Ok::<(), wiremesh::Error>(())
    /// ```
    pub fn port(&self) -> Option<u16> {
        if self.scheme() != "tcp" {
            return None;
        }
        let (_, port) = self.address().rsplit_once(':')?;
        port.parse().ok()
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Endpoint, Error> {
        // The text may be of any length.
        let invalid =
            |reason: &str| Error::InvalidEndpoint { endpoint: shortened(text).into_owned(), reason: reason.to_owned() };
        if text.len() > Endpoint::MAX_LEN {
            return Err(invalid("it is longer than 4096 octets"));
        }
        let Some((scheme, address)) = text.split_once("://") else {
            return Err(invalid("it has no `://`; write it as `tcp://host:port`, `ipc://path` or `inproc://name`"));
        };
        if scheme.is_empty() || !scheme.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c)) {
            return Err(invalid("the scheme before `://` may have letters, digits, `+`, `-` and `.` only"));
        }
        if address.is_empty() {
            return Err(invalid(
                "nothing follows `://`; write it as `tcp://host:port`, `ipc://path` or `inproc://name`",
            ));
        }
        if text.contains('\0') {
            return Err(invalid("it contains a NUL octet"));
        }
        Ok(Endpoint { text: text.to_owned(), scheme: scheme.len() })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl AsRef<str> for Endpoint {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = Error;

    fn try_from(text: &str) -> Result<Endpoint, Error> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> String {
        endpoint.text
    }
}

macro_rules! equals_text {
    ($($text:ty),*) => {$(
        impl PartialEq<$text> for Endpoint {
            fn eq(&self, other: &$text) -> bool {
                let other: &str = other.as_ref();
                self.text == other
            }
        }

        impl PartialEq<Endpoint> for $text {
            fn eq(&self, other: &Endpoint) -> bool {
                other == self
            }
        }
    )*};
}

equals_text!(str, &str, String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_endpoint_keeps_its_text() {
        for text in ["tcp://*:*", "ipc:///tmp/a b", "ipc://@x", "inproc://a://b", "my-scheme.1+x://y"] {
            let endpoint: Endpoint = text.parse().expect("good");
            assert_eq!(endpoint.to_string(), text);
        }
    }

    #[test]
    fn only_tcp_endpoints_have_a_port() {
        for (text, port) in [
            ("tcp://127.0.0.1:5555", Some(5555)),
            ("tcp://[::1]:80", Some(80)),
            ("tcp://eth0:0;server.example:65535", Some(65535)),
            ("tcp://*:*", None),
            ("tcp://server:65536", None),
            ("tcp://server", None),
            ("ipc:///tmp/a:80", None),
            ("inproc://a:80", None),
        ] {
            assert_eq!(text.parse::<Endpoint>().expect("good").port(), port, "{text}");
        }
    }

    #[test]
    fn a_bad_endpoint_is_named_with_what_is_wrong() {
        for (text, reason) in [
            ("", "no `://`"),
            ("tcp:/x", "no `://`"),
            ("://x", "scheme"),
            ("t cp://x", "scheme"),
            ("tcp://", "nothing follows"),
            ("ipc://a\0b", "NUL"),
        ] {
            let error = text.parse::<Endpoint>().expect_err("bad").to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!("x".repeat(5000).parse::<Endpoint>().expect_err("bad").to_string().len() < 600);
    }
}
