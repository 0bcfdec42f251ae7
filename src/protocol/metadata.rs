//! The properties inside READY (RFC 37): name, value, name, value. Written strictly, and read so that a property that
//! breaks a rule costs itself and not the connection. What a peer is and how it is addressed is never doubtful:
//! `Socket-Type` and `Identity` are checked. (libzmq lets programs choose ids that begin with a zero octet, as one in
//! 256 random ones does; we read them, and choose none.)

use super::announcement;
use bytes::{Buf, BufMut, Bytes};
use std::collections::BTreeMap;

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

/// Reads the properties, sharing the memory of `data`. Those whose names break the rules are passed over, and of
/// several with one name the first counts.
///
/// # Errors
/// The first rule that is broken about where properties begin and end, or about `Socket-Type` and `Identity`.
pub fn read(mut data: Bytes) -> Result<Vec<(String, Bytes)>, MetadataError> {
    let mut properties: Vec<(String, Bytes)> = Vec::new();
    let mut places = BTreeMap::new();
    while data.has_remaining() {
        let size = data.get_u8();
        if data.remaining() < usize::from(size) {
            return Err(MetadataError::Truncated);
        }
        let name = data.split_to(usize::from(size));
        let size = data.try_get_u32().map_err(|_| MetadataError::Truncated)?;
        check_value(u64::from(size))?;
        let size = usize::try_from(size).map_err(|_| MetadataError::Truncated)?;
        if data.remaining() < size {
            return Err(MetadataError::Truncated);
        }
        let value = data.split_to(size);
        let Some(name) = std::str::from_utf8(&name).ok().filter(|name| check_name(name.as_bytes()).is_ok()) else {
            continue;
        };
        if name.eq_ignore_ascii_case(IDENTITY) {
            check_identity_size(&value)?;
        }
        let known = *places.entry(name.to_ascii_lowercase()).or_insert(properties.len());
        match properties.get(known) {
            None => properties.push((name.to_owned(), value)),
            Some((_, first)) => {
                let unique = [SOCKET_TYPE, IDENTITY].into_iter().find(|unique| name.eq_ignore_ascii_case(unique));
                if let Some(unique) = unique.filter(|_| *first != value) {
                    return Err(MetadataError::Duplicate(unique));
                }
            }
        }
    }
    Ok(properties)
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

/// The value of the first property with this name; upper and lower case are the same.
pub fn find<'a>(properties: &'a [(String, Bytes)], name: &str) -> Option<&'a Bytes> {
    properties.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
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
        read(Bytes::copy_from_slice(data)).expect_err("a broken rule")
    }

    #[test]
    fn what_is_written_reads_back_in_order() {
        let longest = "n".repeat(255);
        let properties: [(&str, &[u8]); 4] =
            [("Socket-Type", b"DEALER"), ("Identity", b""), (&longest, b"x"), ("A.b_c+9", &[0; 999])];
        let read = read(written(&properties).into()).expect("well formed");
        let read: Vec<_> = read.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
        assert_eq!(read, properties);
        assert_eq!(super::read(Bytes::new()), Ok(Vec::new()));
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
            let read = read(Bytes::copy_from_slice(&[1, octet, 0, 0, 0, 0])).expect("passed over at worst");
            assert_eq!(read.len(), usize::from(good), "octet {octet}");
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
        let same = read(written(&[("Socket-Type", b"PUB"), ("socket-type", b"PUB")]).into());
        assert_eq!(same, Ok(vec![("Socket-Type".to_owned(), "PUB".into())]));
    }

    #[test]
    fn the_first_of_several_with_one_name_counts() {
        let read = read(written(&[("X-a", b"1"), ("X-b", b"2"), ("x-A", b"3")]).into());
        assert_eq!(read, Ok(vec![("X-a".to_owned(), "1".into()), ("X-b".to_owned(), "2".into())]));
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
        let read = read(data.into()).expect("taken");
        assert_eq!(read, [("Socket-Type".to_owned(), "PUSH".into()), ("X-good".to_owned(), "kept".into())]);
    }

    #[test]
    fn a_routing_id_has_at_most_255_octets_and_ours_no_leading_zero() {
        assert!(read(written(&[("Identity", &[1; 255])]).into()).is_ok());
        assert_eq!(fault(&written(&[("Identity", &[1; 256])])), MetadataError::IdentityTooLong { octets: 256 });
        assert!(read(written(&[("IDENTITY", b"\0abcd")]).into()).is_ok());
        assert_eq!(check_identity(b"\0abcd"), Err(MetadataError::IdentityReserved));
        assert!(read(written(&[("Identity", b"a\0")]).into()).is_ok());
    }

    #[test]
    fn as_many_properties_are_read_as_there_are() {
        let names: Vec<String> = (0..5000).map(|number| format!("X-{number}")).collect();
        let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        assert_eq!(read(written(&many).into()).expect("taken").len(), 5000);
    }

    #[test]
    fn applications_may_not_announce_the_protocols_own_names() {
        assert_eq!(check_application(b"X-a", 3), Ok(()));
        assert_eq!(check_application(b"identity", 3), Err(MetadataError::Duplicate(IDENTITY)));
        assert_eq!(check_application(b"x-wiremesh", 3), Err(MetadataError::Duplicate("X-Wiremesh")));
        assert_eq!(check_application(b"", 3), Err(MetadataError::EmptyName));
    }
}
