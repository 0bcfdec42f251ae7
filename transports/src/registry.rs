//! Which transport serves which scheme.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::address::AddressError;
use crate::contract::Transport;

/// The known transports, by scheme.
#[derive(Clone, Default)]
pub struct Registry {
    transports: BTreeMap<String, Arc<dyn Transport>>,
}

impl Registry {
    /// Makes a registry that knows nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Makes a registry with the transports of this crate: `tcp` and, on Unix, `ipc`.
    pub fn builtin() -> Self {
        let mut registry = Self::empty();
        registry.insert(Arc::new(crate::tcp::Tcp));
        #[cfg(unix)]
        registry.insert(Arc::new(crate::ipc::Ipc));
        registry
    }

    /// Adds a transport under the scheme it names.
    ///
    /// # Errors
    ///
    /// If the scheme is no scheme (a lower-case letter, then lower-case letters, digits, `+`, `-` or `.`, at most 32
    /// characters), if it is taken, or if it is `inproc`, which is not a byte transport.
    pub fn register(&mut self, transport: Arc<dyn Transport>) -> Result<(), AddressError> {
        let scheme = transport.scheme();
        check_scheme(scheme)?;
        if self.transports.contains_key(scheme) {
            return Err(AddressError::new(scheme, "this scheme already has a transport; choose another name"));
        }
        self.insert(transport);
        Ok(())
    }

    /// Returns the transport of a scheme.
    pub fn get(&self, scheme: &str) -> Option<Arc<dyn Transport>> {
        self.transports.get(scheme).cloned()
    }

    /// Lists the known schemes in alphabetical order.
    pub fn schemes(&self) -> impl Iterator<Item = &str> {
        self.transports.keys().map(String::as_str)
    }

    fn insert(&mut self, transport: Arc<dyn Transport>) {
        self.transports.insert(transport.scheme().to_owned(), transport);
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.transports.keys()).finish()
    }
}

fn check_scheme(scheme: &str) -> Result<(), AddressError> {
    let starts_well = scheme.starts_with(|c: char| c.is_ascii_lowercase());
    let goes_on_well =
        scheme.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'+' | b'-' | b'.'));
    if !starts_well || !goes_on_well || scheme.len() > MAX_SCHEME {
        let rule = format!(
            "a scheme is a lower-case letter, then lower-case letters, digits, '+', '-' or '.', at most {MAX_SCHEME}"
        );
        return Err(AddressError::new(scheme, rule));
    }
    if scheme == "inproc" {
        return Err(AddressError::new(scheme, "inproc is served without a transport; choose another name"));
    }
    Ok(())
}

/// Longer than any scheme in use, short enough for an error message.
const MAX_SCHEME: usize = 32;

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::{LinkOptions, Listener, Purpose, Stream};

    struct Named(&'static str);

    impl Transport for Named {
        fn scheme(&self) -> &str {
            self.0
        }

        fn check(&self, _: &str, _: Purpose) -> Result<(), AddressError> {
            Ok(())
        }

        fn resolve(&self, _: &str, _: &LinkOptions) -> io::Result<Vec<String>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn bind(&self, _: &str, _: &LinkOptions) -> io::Result<Box<dyn Listener>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn connect(&self, _: &str, _: &LinkOptions) -> io::Result<Box<dyn Stream>> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    #[test]
    fn the_builtin_schemes_are_there() {
        let registry = Registry::builtin();
        assert!(registry.get("tcp").is_some());
        assert!(registry.get("inproc").is_none());
        #[cfg(unix)]
        assert_eq!(registry.schemes().collect::<Vec<_>>(), ["ipc", "tcp"]);
    }

    #[test]
    fn a_third_party_scheme_can_be_added_once() {
        let mut registry = Registry::builtin();
        registry.register(Arc::new(Named("serial+usb"))).unwrap();
        assert_eq!(registry.get("serial+usb").unwrap().scheme(), "serial+usb");
        assert!(registry.register(Arc::new(Named("serial+usb"))).unwrap_err().problem().contains("already"));
    }

    #[test]
    fn a_bad_scheme_is_refused() {
        let mut registry = Registry::builtin();
        for bad in ["", "Tcp", "1st", "a b", "tcp://", "inproc", "tcp", "abcdefghijklmnopqrstuvwxyz0123456"] {
            let error = registry.register(Arc::new(Named(bad))).unwrap_err();
            assert_eq!(error.address(), bad);
        }
    }
}
