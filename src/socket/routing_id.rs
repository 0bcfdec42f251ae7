//! The name of a peer, and whom a ROUTER sends to.

use super::sending::Recipient;
use crate::message::convert::sealed::Part;
use crate::message::{Frame, IntoFrame};
use crate::options::IntoValue;
use crate::peer::PeerId;
use bytes::Bytes;
use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What a ROUTER knows a peer by: 1 to 255 octets, chosen by the peer, or generated (then five octets, the first zero).
/// Peers of other libraries may choose one that begins with zero as well; no peer gets one that is in use, unless the
/// option `handover` is on.
///
/// It can be the key of a map that is asked by `&[u8]`.
#[derive(Clone)]
pub struct RoutingId(Octets);

/// Short ones are kept in place: a clone, which comes with each message, touches nothing that is shared. A clone of a
/// long one copies nothing.
#[derive(Clone)]
enum Octets {
    Short([u8; SHORT], u8),
    Long(Arc<[u8]>),
}

/// As much as fits in the place of a `Vec`.
const SHORT: usize = 22;

impl RoutingId {
    pub(super) fn new(id: &[u8]) -> RoutingId {
        let mut short = [0; SHORT];
        match short.get_mut(..id.len()) {
            Some(place) => {
                place.copy_from_slice(id);
                RoutingId(Octets::Short(short, id.len() as u8))
            }
            None => RoutingId(Octets::Long(id.into())),
        }
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Octets::Short(octets, length) => octets.get(..usize::from(*length)).unwrap_or_default(),
            Octets::Long(octets) => octets,
        }
    }

    /// A copy of the octets.
    pub fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl AsRef<[u8]> for RoutingId {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Borrow<[u8]> for RoutingId {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl From<RoutingId> for Frame {
    fn from(id: RoutingId) -> Frame {
        Frame::from(id.as_bytes())
    }
}

impl From<&RoutingId> for Frame {
    fn from(id: &RoutingId) -> Frame {
        Frame::from(id.as_bytes())
    }
}

impl Part for RoutingId {}

impl IntoFrame for RoutingId {
    fn into_frame(self) -> Frame {
        self.into()
    }
}

impl Part for &RoutingId {}

/// One frame of several, as in the envelope that a broker passes on: `dealer.send((&id, "", body))`.
impl IntoFrame for &RoutingId {
    fn into_frame(self) -> Frame {
        self.into()
    }
}

impl From<RoutingId> for Bytes {
    fn from(id: RoutingId) -> Bytes {
        id.into_bytes()
    }
}

impl PartialEq for RoutingId {
    fn eq(&self, other: &RoutingId) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for RoutingId {}

impl PartialOrd for RoutingId {
    fn partial_cmp(&self, other: &RoutingId) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RoutingId {
    fn cmp(&self, other: &RoutingId) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for RoutingId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl IntoValue<Bytes> for RoutingId {
    fn into_value(self) -> Bytes {
        self.into_bytes()
    }
}

impl IntoValue<Bytes> for &RoutingId {
    fn into_value(self) -> Bytes {
        self.clone().into_bytes()
    }
}

macro_rules! equals_octets {
    ($(($($generics:tt)*) $other:ty),* $(,)?) => {$(
        impl $($generics)* PartialEq<$other> for RoutingId {
            fn eq(&self, other: &$other) -> bool {
                let other: &[u8] = other.as_ref();
                self.as_bytes() == other
            }
        }

        impl $($generics)* PartialEq<RoutingId> for $other {
            fn eq(&self, other: &RoutingId) -> bool {
                other == self
            }
        }
    )*};
}

equals_octets! {
    () [u8],
    () &[u8],
    (<const N: usize>) [u8; N],
    (<const N: usize>) &[u8; N],
    () Vec<u8>,
    () Bytes,
    () Frame,
    () str,
    () &str,
    () String,
}

macro_rules! from_octets {
    ($(($($generics:tt)*) $other:ty),* $(,)?) => {$(
        impl $($generics)* From<$other> for RoutingId {
            fn from(id: $other) -> RoutingId {
                RoutingId::new(id.as_ref())
            }
        }
    )*};
}

from_octets! {
    () &[u8],
    (<const N: usize>) [u8; N],
    (<const N: usize>) &[u8; N],
    () &str,
    () &String,
    () &RoutingId,
}

/// As text, where it is printable text; generated ids, and other octets, escaped.
impl fmt::Display for RoutingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(self.as_bytes()) {
            Ok(text) if !text.contains(char::is_control) => f.pad(text),
            Ok(_) | Err(_) => write!(f, "{}", self.as_bytes().escape_ascii()),
        }
    }
}

/// How an error names the id that no peer has. The caller may have passed any octets, so a long id is cut.
pub(super) fn named(id: &[u8]) -> Box<str> {
    const SHOWN: usize = 64;
    let escaped = id.get(..SHOWN).unwrap_or(id).escape_ascii();
    match id.len() {
        0 => "an empty one; routing ids have 1 to 255 octets".into(),
        1..=SHOWN => format!("`{escaped}`").into(),
        length @ ..=255 => format!("`{escaped}…`, {length} octets").into(),
        length => format!("`{escaped}…`, {length} octets; routing ids have 1 to 255").into(),
    }
}

/// Whom a ROUTER sends to: a routing id, given as whatever is octets, or a peer by the [`PeerId`] that its messages
/// carry.
#[diagnostic::on_unimplemented(
    message = "`{Self}` names no peer",
    label = "neither a routing id nor a `PeerId`",
    note = "a routing id is text, octets or a `RoutingId`, by reference or value; a `PeerId` is in the `Option` that `Message::peer` returns"
)]
pub trait Addressee: sealed::Sealed {
    #[doc(hidden)]
    fn recipient(&self) -> Address<'_>;
}

/// What an [`Addressee`] comes to.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Address<'a>(pub(super) Recipient<'a>);

impl fmt::Debug for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address")
    }
}

mod sealed {
    pub trait Sealed {}
}

impl<T: AsRef<[u8]> + ?Sized> sealed::Sealed for T {}

impl<T: AsRef<[u8]> + ?Sized> Addressee for T {
    fn recipient(&self) -> Address<'_> {
        Address(Recipient::RoutingId(self.as_ref()))
    }
}

impl sealed::Sealed for PeerId {}

/// A peer of another socket is nobody.
impl Addressee for PeerId {
    fn recipient(&self) -> Address<'_> {
        Address(Recipient::Peer(*self))
    }
}

impl fmt::Debug for RoutingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoutingId(b\"{}\")", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn ids_of_all_lengths_keep_their_octets_and_are_found_by_them() {
        let mut known = HashMap::new();
        for length in 0..=255usize {
            let octets = Bytes::from(vec![length as u8; length]);
            let id = RoutingId::new(&octets);
            assert_eq!((id.as_bytes(), id.clone().into_bytes()), (&octets[..], octets.clone()));
            assert_eq!(Frame::from(id.clone()).as_bytes(), octets);
            known.insert(id, length);
        }
        assert!((0..=255usize).all(|length| known.get(&vec![length as u8; length][..]) == Some(&length)));
    }
}
