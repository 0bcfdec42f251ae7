//! Plans as text: a record is a line of a name and its fields, `socket kind=PUSH context=0 …`, so that a kept case can
//! be read and cut down by hand.

use wiremesh::SocketKind;

/// A value that stands in a line without spaces.
pub(crate) trait Word: Sized {
    fn word(&self) -> String;
    fn read(text: &str) -> Option<Self>;
}

macro_rules! plain_words {
    ($($type:ty),*) => {
        $(impl Word for $type {
            fn word(&self) -> String {
                self.to_string()
            }

            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        })*
    };
}

plain_words!(bool, u32, u64, usize);

impl Word for SocketKind {
    fn word(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<SocketKind> {
        SocketKind::ALL.into_iter().find(|kind| kind.to_string() == text)
    }
}

/// An enum of names.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$doc])* $variant),* }

        impl $crate::text::Word for $name {
            fn word(&self) -> String {
                format!("{self:?}")
            }

            fn read(text: &str) -> Option<Self> {
                match text {
                    $(stringify!($variant) => Some($name::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

/// A struct that is a line of text.
macro_rules! record {
    ($(#[$about:meta])* $name:ident $label:literal { $($(#[$doc:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct $name { $($(#[$doc])* pub(crate) $field: $type),* }

        impl $name {
            #[allow(dead_code, reason = "a record that no plan has is read by itself")]
            pub(crate) const LABEL: &'static str = $label;

            pub(crate) fn line(&self) -> String {
                let mut line = String::from($label);
                $(line += &format!(concat!(" ", stringify!($field), "={}"), $crate::text::Word::word(&self.$field));)*
                line
            }

            /// Reads what `line` wrote, without its label.
            pub(crate) fn parse(fields: &str) -> Result<Self, String> {
                Ok($name { $($field: $crate::text::field(fields, stringify!($field))?),* })
            }
        }
    };
}

pub(crate) use {record, words};

/// The field with that name.
pub(crate) fn field<T: Word>(fields: &str, name: &str) -> Result<T, String> {
    let found = fields.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let text = found.ok_or_else(|| format!("`{name}` is missing in `{fields}`"))?;
    T::read(text).ok_or_else(|| format!("`{text}` cannot be a value of `{name}`"))
}
