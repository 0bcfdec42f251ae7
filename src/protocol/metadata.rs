//! The properties inside READY (RFC 37): name, value, name, value. Written strictly, and read so that a property that
//! breaks a rule costs itself and not the connection. What a peer is and how it is addressed is never doubtful:
//! `Socket-Type` and `Identity` are checked. (libzmq lets programs choose ids that begin with a zero octet, as one in
//! 256 random ones does; we read them, and choose none.)

use super::announcement;
use bytes::{Buf, BufMut};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

/// The name of the property that names a socket's kind.
pub const SOCKET_TYPE: &str = "Socket-Type";
/// The name of the property that claims a routing id.
pub const IDENTITY: &str = "Identity";

/// Which rule a set of properties breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// A name or a value runs past the end.
    #[error("it ends within a property")]
    Truncated,
    /// A property has no name.
    #[error("a property has an empty name")]
    EmptyName,
    /// A name has other octets than letters, digits, `-`, `_`, `.` and `+`, or more than 255 of them.
    #[error("a property's name has characters that names may not have, or more than 255")]
    BadName,
    /// A value has more than 2^31-1 octets.
    #[error("a property's value has {octets} octets; 2147483647 are allowed")]
    ValueTooLong {
        /// How many it has or announces.
        octets: u64,
    },
    /// `Socket-Type` or `Identity` is there twice with different values, or an application announces one of the
    /// protocol's own properties.
    #[error("the property {0} is there twice")]
    Duplicate(&'static str),
    /// A routing id has more than 255 octets.
    #[error("the routing id has {octets} octets; 255 are allowed")]
    IdentityTooLong {
        /// How many it has.
        octets: usize,
    },
    /// A routing id starts with the zero octet that is reserved for generated ones.
    #[error("the routing id starts with a zero octet, which is reserved for generated ones")]
    IdentityReserved,
}

/// Properties that were read, each name once, in the form they have on the wire: a peer may send very many, and waits
/// with them for its place. They share no memory with what they were read from.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(Box<[u8]>);

impl Properties {
    /// Name and value of each, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (name, value) = split(&mut rest).ok()?;
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }

    /// The value of the property with this name; upper and lower case are the same.
    pub fn find(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl<'a> FromIterator<(&'a str, &'a [u8])> for Properties {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a [u8])>>(properties: I) -> Properties {
        let mut out = Vec::new();
        properties.into_iter().for_each(|(name, value)| write(&mut out, name, value));
        Properties(out.into())
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Reads the properties. Those whose names break the rules are passed over, and of several with one name the first
/// counts.
///
/// # Errors
/// The first rule that is broken about where properties begin and end, or about `Socket-Type` and `Identity`.
pub fn read(mut data: &[u8]) -> Result<Properties, MetadataError> {
    let mut kept = Vec::new();
    let mut first = BTreeMap::new();
    while !data.is_empty() {
        let (name, value) = split(&mut data)?;
        let Some(name) = std::str::from_utf8(name).ok().filter(|name| check_name(name.as_bytes()).is_ok()) else {
            continue;
        };
        if name.eq_ignore_ascii_case(IDENTITY) {
            check_identity_size(value)?;
        }
        match first.entry(name.to_ascii_lowercase()) {
            Entry::Vacant(place) => {
                place.insert(value);
                kept.push((name, value));
            }
            Entry::Occupied(first) => {
                let unique = [SOCKET_TYPE, IDENTITY].into_iter().find(|unique| name.eq_ignore_ascii_case(unique));
                if let Some(unique) = unique.filter(|_| *first.get() != value) {
                    return Err(MetadataError::Duplicate(unique));
                }
            }
        }
    }
    Ok(kept.into_iter().collect())
}

/// Takes the next property off the front: its name, whatever that is, and its value.
fn split<'a>(data: &mut &'a [u8]) -> Result<(&'a [u8], &'a [u8]), MetadataError> {
    let name = data.try_get_u8().map_err(|_| MetadataError::Truncated)?;
    let name = take(data, name.into())?;
    let size = data.try_get_u32().map_err(|_| MetadataError::Truncated)?;
    check_value(u64::from(size))?;
    Ok((name, take(data, usize::try_from(size).map_err(|_| MetadataError::Truncated)?)?))
}

fn take<'a>(data: &mut &'a [u8], octets: usize) -> Result<&'a [u8], MetadataError> {
    let (taken, rest) = data.split_at_checked(octets).ok_or(MetadataError::Truncated)?;
    *data = rest;
    Ok(taken)
}

/// Writes one property, or nothing if it breaks a rule: what we send is well formed whatever we were given.
pub fn write(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    let (Ok(name_size), Ok(value_size)) = (u8::try_from(name.len()), u32::try_from(value.len())) else { return };
    if check_name(name.as_bytes()).is_ok() && check_value(u64::from(value_size)).is_ok() {
        out.put_u8(name_size);
        out.put_slice(name.as_bytes());
        out.put_u32(value_size);
        out.put_slice(value);
    }
}

/// Checks that one of our sockets may claim that routing id.
///
/// # Errors
/// It is too long or starts with a zero octet.
pub fn check_identity(identity: &[u8]) -> Result<(), MetadataError> {
    check_identity_size(identity)?;
    if identity.first() == Some(&0) {
        return Err(MetadataError::IdentityReserved);
    }
    Ok(())
}

fn check_identity_size(identity: &[u8]) -> Result<(), MetadataError> {
    if identity.len() > 255 { Err(MetadataError::IdentityTooLong { octets: identity.len() }) } else { Ok(()) }
}

/// Checks that an application may announce a property of its own under this name with a value this long.
///
/// # Errors
/// The name or the value breaks a rule, or the name is one of the protocol's own.
pub fn check_application(name: &[u8], value: usize) -> Result<(), MetadataError> {
    check_name(name)?;
    check_value(value as u64)?;
    match [SOCKET_TYPE, IDENTITY, announcement::NAME].into_iter().find(|own| own.as_bytes().eq_ignore_ascii_case(name))
    {
        Some(own) => Err(MetadataError::Duplicate(own)),
        None => Ok(()),
    }
}

fn check_name(name: &[u8]) -> Result<(), MetadataError> {
    match name {
        [] => Err(MetadataError::EmptyName),
        _ if name.len() > 255 => Err(MetadataError::BadName),
        _ if name.iter().all(|octet| octet.is_ascii_alphanumeric() || b"-_.+".contains(octet)) => Ok(()),
        _ => Err(MetadataError::BadName),
    }
}

fn check_value(octets: u64) -> Result<(), MetadataError> {
    if octets > 0x7FFF_FFFF { Err(MetadataError::ValueTooLong { octets }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(properties: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in properties {
            write(&mut out, name, value);
        }
        out
    }

    fn fault(data: &[u8]) -> MetadataError {
        read(data).expect_err("a broken rule")
    }

    /// What is read from it.
    fn kept(data: &[u8]) -> Vec<(String, Vec<u8>)> {
        let read = read(data).expect("taken");
        read.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn owned(properties: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
        properties.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_owned())).collect()
    }

    #[test]
    fn what_is_written_reads_back_in_order() {
        let longest = "n".repeat(255);
        let properties: [(&str, &[u8]); 4] =
            [("Socket-Type", b"DEALER"), ("Identity", b""), (&longest, b"x"), ("A.b_c+9", &[0; 999])];
        let read = read(&written(&properties)).expect("well formed");
        assert_eq!(read.iter().collect::<Vec<_>>(), properties);
        assert_eq!(super::read(&[]), Ok(Properties::default()));
    }

    #[test]
    fn what_breaks_a_rule_is_not_written() {
        let too_long = "n".repeat(256);
        assert!(written(&[("", b"x"), (&too_long, b"x"), ("a b", b"x"), ("ä", b"x")]).is_empty());
    }

    #[test]
    fn every_cut_within_a_property_is_noticed() {
        let data = written(&[("Socket-Type", b"DEALER")]);
        for cut in 1..data.len() {
            assert_eq!(fault(&data[..cut]), MetadataError::Truncated, "cut at {cut}");
        }
        assert_eq!(fault(&[7]), MetadataError::Truncated);
    }

    #[test]
    fn names_have_letters_digits_and_four_signs() {
        for octet in 0..=u8::MAX {
            let good = octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.' | b'+');
            let read = read(&[1, octet, 0, 0, 0, 0]).expect("passed over at worst");
            assert_eq!(read.iter().count(), usize::from(good), "octet {octet}");
            assert_eq!(check_name(&[octet]).is_ok(), good, "octet {octet}");
        }
    }

    #[test]
    fn values_beyond_31_bits_are_refused_before_they_are_looked_for() {
        assert_eq!(fault(&[1, b'a', 0x80, 0, 0, 0]), MetadataError::ValueTooLong { octets: 1 << 31 });
        assert_eq!(fault(&[1, b'a', 0xFF, 0xFF, 0xFF, 0xFF]), MetadataError::ValueTooLong { octets: (1 << 32) - 1 });
        assert_eq!(fault(&[1, b'a', 0x7F, 0xFF, 0xFF, 0xFF]), MetadataError::Truncated);
    }

    #[test]
    fn the_two_known_names_say_one_thing_whatever_their_case() {
        let fault_of = |properties: &[(&str, &[u8])]| fault(&written(properties));
        let types: [(&str, &[u8]); 2] = [("Socket-Type", b"PUB"), ("SOCKET-TYPE", b"XPUB")];
        assert_eq!(fault_of(&types), MetadataError::Duplicate(SOCKET_TYPE));
        let ids: [(&str, &[u8]); 3] = [("identity", b""), ("X-a", b""), ("Identity", b"b")];
        assert_eq!(fault_of(&ids), MetadataError::Duplicate(IDENTITY));
        let same = kept(&written(&[("Socket-Type", b"PUB"), ("socket-type", b"PUB")]));
        assert_eq!(same, owned(&[("Socket-Type", "PUB")]));
    }

    #[test]
    fn the_first_of_several_with_one_name_counts() {
        let kept = kept(&written(&[("X-a", b"1"), ("X-b", b"2"), ("x-A", b"3")]));
        assert_eq!(kept, owned(&[("X-a", "1"), ("X-b", "2")]));
    }

    #[test]
    fn names_that_break_the_rules_cost_only_themselves() {
        let mut data = written(&[("Socket-Type", b"PUSH")]);
        for name in [&b"X-my key"[..], "X-\u{e4}".as_bytes(), b"", b"\0", &[0xFF; 255]] {
            data.push(name.len() as u8);
            data.extend_from_slice(name);
            data.extend_from_slice(b"\0\0\0\x05value");
        }
        data.extend(written(&[("X-good", b"kept")]));
        assert_eq!(kept(&data), owned(&[("Socket-Type", "PUSH"), ("X-good", "kept")]));
    }

    #[test]
    fn a_routing_id_has_at_most_255_octets_and_ours_no_leading_zero() {
        assert!(read(&written(&[("Identity", &[1; 255])])).is_ok());
        assert_eq!(fault(&written(&[("Identity", &[1; 256])])), MetadataError::IdentityTooLong { octets: 256 });
        assert!(read(&written(&[("IDENTITY", b"\0abcd")])).is_ok());
        assert_eq!(check_identity(b"\0abcd"), Err(MetadataError::IdentityReserved));
        assert!(read(&written(&[("Identity", b"a\0")])).is_ok());
    }

    #[test]
    fn as_many_properties_are_read_as_there_are() {
        let names: Vec<String> = (0..5000).map(|number| format!("X-{number}")).collect();
        let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        assert_eq!(read(&written(&many)).expect("taken").iter().count(), 5000);
    }

    #[test]
    fn what_is_kept_takes_no_more_memory_than_it_took_on_the_wire() {
        let names: Vec<String> = (0..5000).map(|number| format!("{number}")).collect();
        let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        let data = written(&many);
        assert_eq!(read(&data).expect("taken").0.len(), data.len());
        let odd = [&b"\x03a b\0\0\xFF\xFF"[..], &[7; 0xFFFF]].concat();
        assert_eq!(read(&odd).expect("passed over").0.len(), 0);
    }

    #[test]
    fn applications_may_not_announce_the_protocols_own_names() {
        assert_eq!(check_application(b"X-a", 3), Ok(()));
        assert_eq!(check_application(b"identity", 3), Err(MetadataError::Duplicate(IDENTITY)));
        assert_eq!(check_application(b"x-wiremesh", 3), Err(MetadataError::Duplicate("X-Wiremesh")));
        assert_eq!(check_application(b"", 3), Err(MetadataError::EmptyName));
    }
}
