//! Every option of a socket, said once: the table below makes the fields, the setters, the documentation and the list
//! that is tested against libzmq's names, numbers and defaults.

mod table;

pub(crate) use table::default_options;
pub use table::{Options, ReconnectStop, RouterNotify, Setting};

use crate::error::Error;
use crate::kind::SocketKind;
use bytes::Bytes;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// What a builder method, and the function of the same name of [`Setting`], takes for an option of type `T`: the value
/// itself, the inside of an `Option`, for octets any text, slice or array, for a name any text, and for properties an
/// array or a map of names and values, or a list by reference.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no value for an option of type `{T}`",
    label = "not what this option takes",
    note = "an option takes its value, the inside of an `Option`, text or octets by reference or value; see the option's unit and range",
    note = "a time: `Duration::from_millis(100)`; a number that was read as text: `text.parse::<u32>()?`",
    note = "properties: an array or a map of names and values, or a list by reference"
)]
pub trait IntoValue<T> {
    /// The option's value.
    fn into_value(self) -> T;
}

impl<T> IntoValue<T> for T {
    fn into_value(self) -> T {
        self
    }
}

macro_rules! into_value {
    ($($from:ty => $to:ty: $make:expr;)*) => {$(
        impl IntoValue<$to> for $from {
            fn into_value(self) -> $to {
                let make: fn($from) -> $to = $make;
                make(self)
            }
        }
    )*};
}

into_value! {
    std::time::Duration => Option<std::time::Duration>: Some;
    u8 => Option<u8>: Some;
    u32 => Option<u32>: Some;
    usize => Option<usize>: Some;
    bool => Option<bool>: Some;
    &str => Option<String>: |name| Some(name.to_owned());
    &String => Option<String>: |name| Some(name.clone());
    String => Option<String>: Some;
    Cow<'_, str> => Option<String>: |name| Some(name.into_owned());
    &String => Bytes: |text| Bytes::copy_from_slice(text.as_bytes());
    &Vec<u8> => Bytes: |octets| Bytes::copy_from_slice(octets);
    &Bytes => Bytes: Bytes::clone;
    &str => Bytes: |text| Bytes::copy_from_slice(text.as_bytes());
    &[u8] => Bytes: Bytes::copy_from_slice;
    String => Bytes: Bytes::from;
    Vec<u8> => Bytes: Bytes::from;
    Cow<'_, str> => Bytes: |text| Bytes::from(text.into_owned());
    Cow<'_, [u8]> => Bytes: |octets| Bytes::from(octets.into_owned());
}

impl<const N: usize> IntoValue<Bytes> for [u8; N] {
    fn into_value(self) -> Bytes {
        Bytes::copy_from_slice(&self)
    }
}

impl<const N: usize> IntoValue<Bytes> for &[u8; N] {
    fn into_value(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

/// Names and values, as properties to announce.
fn properties<K: Into<String>, V: IntoValue<Bytes>>(pairs: impl IntoIterator<Item = (K, V)>) -> Vec<(String, Bytes)> {
    pairs.into_iter().map(|(name, value)| (name.into(), value.into_value())).collect()
}

impl<K: Into<String>, V: IntoValue<Bytes>, const N: usize> IntoValue<Vec<(String, Bytes)>> for [(K, V); N] {
    fn into_value(self) -> Vec<(String, Bytes)> {
        properties(self)
    }
}

impl<K: AsRef<str>, V: AsRef<[u8]>> IntoValue<Vec<(String, Bytes)>> for &[(K, V)] {
    fn into_value(self) -> Vec<(String, Bytes)> {
        properties(self.iter().map(|(name, value)| (name.as_ref(), value.as_ref())))
    }
}

impl<K: AsRef<str>, V: AsRef<[u8]>> IntoValue<Vec<(String, Bytes)>> for &Vec<(K, V)> {
    fn into_value(self) -> Vec<(String, Bytes)> {
        self.as_slice().into_value()
    }
}

/// One of each name, as a map has them.
impl<K: Into<String>, V: IntoValue<Bytes>> IntoValue<Vec<(String, Bytes)>> for BTreeMap<K, V> {
    fn into_value(self) -> Vec<(String, Bytes)> {
        properties(self)
    }
}

impl<K: Into<String>, V: IntoValue<Bytes>, S> IntoValue<Vec<(String, Bytes)>> for HashMap<K, V, S> {
    fn into_value(self) -> Vec<(String, Bytes)> {
        properties(self)
    }
}

// The list of `String` and `Bytes` is the option's own type. Further lists by value would leave the type of
// `"12".into()` in one open.
impl IntoValue<Vec<(String, Bytes)>> for Vec<(&str, &str)> {
    fn into_value(self) -> Vec<(String, Bytes)> {
        properties(self)
    }
}

/// One row of the table of options.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct OptionRow {
    /// The option's name here, also that of its builder method.
    pub name: &'static str,
    /// The name in libzmq, or `""` where libzmq has none.
    pub zmq_name: &'static str,
    /// The number in libzmq, or 0 where libzmq has none.
    pub zmq_number: u16,
    /// The unit of the value.
    pub unit: &'static str,
    /// Which values are allowed.
    pub range: &'static str,
    /// The default, as text.
    pub default: &'static str,
    /// When a change takes effect.
    pub effect: Effect,
    /// Which kinds of socket it means something to.
    pub kinds: &'static [SocketKind],
}

/// When a change of an option takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// At once, on live connections too.
    Live,
    /// For endpoints bound or connected after the change.
    NewEndpoints,
    /// Never: it is fixed when the socket is made, and only the builder sets it.
    WhenMade,
}

impl OptionRow {
    /// Says that the option means nothing to a socket of that kind, if so.
    pub(crate) fn check_kind(&self, kind: SocketKind) -> Result<(), Error> {
        if self.kinds.contains(&kind) {
            return Ok(());
        }
        let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        let reason = format!("it means nothing to a {kind}; it is for {}", kinds.join(", "));
        Err(Error::Option { option: self.name, reason })
    }
}

/// The table: all options in the order of their groups.
pub fn table() -> &'static [OptionRow] {
    table::ROWS
}
