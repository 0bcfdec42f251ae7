//! The greeting of ZMTP 3.x (RFC 37): 64 octets each way, before anything else.
//!
//! We send ours at once and whole. That gives up speaking to ZMTP 1.0 and 2.0 peers, which would need the first ten
//! octets to look like one of their frames and the rest to wait.

use super::error::ProtocolError;

/// How many octets a greeting has.
pub const SIZE: usize = 64;

/// What a peer's greeting says that matters to us. Padding, filler and the as-server octet are ignored: libzmq fills
/// the first with a length and never sets the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The minor version both sides speak: 0 with a 3.0 peer, else 1.
    pub minor: u8,
    /// The mechanism's name, padded with zero octets.
    pub mechanism: [u8; 20],
}

impl Greeting {
    /// Reads the greeting at the start of `bytes`: `None` while it is good so far and not all there.
    ///
    /// # Errors
    /// [`ProtocolError::OldVersion`] as soon as the octets at hand show that this is not ZMTP 3.x.
    pub fn read(bytes: &[u8]) -> Result<Option<Greeting>, ProtocolError> {
        if bytes.first().is_some_and(|&first| first != 0xFF) || bytes.get(9).is_some_and(|&last| last & 1 == 0) {
            return Err(ProtocolError::OldVersion { revision: None });
        }
        if let Some(&revision) = bytes.get(10).filter(|&&revision| revision < 3) {
            return Err(ProtocolError::OldVersion { revision: Some(revision) });
        }
        let Some(greeting) = bytes.first_chunk::<SIZE>() else { return Ok(None) };
        let [_, _, _, _, _, _, _, _, _, _, major, minor, rest @ ..] = greeting;
        let mechanism = rest.first_chunk().copied().unwrap_or_default();
        // A version beyond ours includes all of ours.
        let minor = if *major == 3 { (*minor).min(1) } else { 1 };
        Ok(Some(Greeting { minor, mechanism }))
    }
}

/// Our greeting for a mechanism.
pub fn write(mechanism: [u8; 20]) -> [u8; SIZE] {
    let mut octets = [0; SIZE];
    let [first, _, _, _, _, _, _, _, padding, last, major, minor, rest @ ..] = &mut octets;
    // libzmq's padding is the length of its routing id plus one; 1 reads as "no routing id" to the oldest peers.
    (*first, *padding, *last, *major, *minor) = (0xFF, 1, 0x7F, 3, 1);
    for (octet, letter) in rest.iter_mut().zip(mechanism) {
        *octet = letter;
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    const NULL: [u8; 20] = *b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

    #[test]
    fn ours_is_the_test_vector() {
        let mut expected = vec![0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3, 1, b'N', b'U', b'L', b'L'];
        expected.resize(SIZE, 0);
        assert_eq!(write(NULL).as_slice(), expected);
    }

    #[test]
    fn ours_reads_back_once_it_is_all_there() {
        let octets = write(NULL);
        for cut in 0..SIZE {
            assert_eq!(Greeting::read(&octets[..cut]), Ok(None));
        }
        assert_eq!(Greeting::read(&octets), Ok(Some(Greeting { minor: 1, mechanism: NULL })));
    }

    #[test]
    fn padding_filler_and_as_server_do_not_matter() {
        let mut octets = write(NULL);
        for at in (1..9).chain(32..SIZE) {
            octets[at] = 0xA5;
        }
        octets[9] = 0x01;
        assert_eq!(Greeting::read(&octets), Ok(Some(Greeting { minor: 1, mechanism: NULL })));
    }

    #[test]
    fn every_version_from_3_0_up_is_accepted() {
        for major in 3..=255 {
            for minor in 0..=255 {
                let mut octets = write(NULL);
                (octets[10], octets[11]) = (major, minor);
                let spoken = u8::from(major > 3 || minor > 0);
                assert_eq!(Greeting::read(&octets), Ok(Some(Greeting { minor: spoken, mechanism: NULL })));
            }
        }
    }

    #[test]
    fn older_versions_are_refused_at_the_first_octet_that_tells() {
        assert_eq!(Greeting::read(&[0x01, 0x00]), Err(ProtocolError::OldVersion { revision: None }));
        assert_eq!(Greeting::read(b"GET / HTTP/1.1"), Err(ProtocolError::OldVersion { revision: None }));
        let mut octets = write(NULL);
        octets[9] = 0x7E;
        assert_eq!(Greeting::read(&octets[..9]), Ok(None));
        assert_eq!(Greeting::read(&octets[..10]), Err(ProtocolError::OldVersion { revision: None }));
        for revision in 0..3 {
            let mut octets = write(NULL);
            octets[10] = revision;
            assert_eq!(Greeting::read(&octets[..10]), Ok(None));
            assert_eq!(Greeting::read(&octets[..11]), Err(ProtocolError::OldVersion { revision: Some(revision) }));
        }
    }
}
