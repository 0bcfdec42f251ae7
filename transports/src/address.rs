//! What is wrong with an address, said so that the caller can mend it.

use std::borrow::Cow;
use std::io;

/// Says which address cannot be used, and what would be allowed in its place.
///
/// It converts into an [`io::Error`] of kind [`InvalidInput`](io::ErrorKind::InvalidInput) that carries it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad address {:?}: {problem}", shortened(.address))]
pub struct AddressError {
    address: String,
    problem: String,
}

impl AddressError {
    /// Makes the error for `address`; `problem` names the part that is wrong and what is allowed there.
    pub fn new(address: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { address: address.into(), problem: problem.into() }
    }

    /// Returns the address as the caller gave it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns what is wrong with it.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl From<AddressError> for io::Error {
    fn from(error: AddressError) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

/// How an error names an address, or a part of one, whatever its length.
pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    const SHOWN: usize = 128;
    match text.char_indices().nth(SHOWN).and_then(|(cut, _)| text.get(..cut)) {
        Some(shown) => format!("{shown}…").into(),
        None => text.into(),
    }
}
