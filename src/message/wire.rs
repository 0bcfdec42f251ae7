//! How one frame is written in ZMTP 2.0 and 3.x (RFC 23 and 37): flags octet, size, body. Shared by the queue, which
//! keeps messages in this form, and by the protocol, which checks it. Nothing here allocates or trusts a length.

/// Another frame of the same message follows.
pub(crate) const MORE: u8 = 0x01;
/// The size field has eight octets instead of one.
pub(crate) const LONG: u8 = 0x02;
/// The body is a command, not part of a message.
pub(crate) const COMMAND: u8 = 0x04;

/// The largest header: flags and an eight-octet size.
pub(crate) const MAX_HEADER: usize = 9;
/// Octets of the header of a body of at most 255 octets.
pub(crate) const SHORT_HEADER: usize = 2;

/// The head of a frame as read off the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The flags octet as received, reserved bits included.
    pub flags: u8,
    /// How many octets the flags and the size take: 2 or 9.
    pub size: usize,
    /// How many octets of body follow, as announced and not yet believed.
    pub body: u64,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` while too few octets are there.
    #[inline(always)]
    pub(crate) fn read(bytes: &[u8]) -> Option<Header> {
        match *bytes {
            [flags, short, ..] if flags & LONG == 0 => Some(Header { flags, size: 2, body: u64::from(short) }),
            [flags, a, b, c, d, e, f, g, h, ..] => {
                Some(Header { flags, size: 9, body: u64::from_be_bytes([a, b, c, d, e, f, g, h]) })
            }
            _ => None,
        }
    }

    /// Whether another frame of the message follows.
    #[inline(always)]
    pub(crate) fn more(self) -> bool {
        self.flags & MORE != 0
    }

    /// Whether the body is a command.
    #[inline(always)]
    pub(crate) fn command(self) -> bool {
        self.flags & COMMAND != 0
    }
}

/// The header of a frame with `body` octets, and how many octets of the array it takes. `flags` carries MORE or
/// COMMAND; LONG is set here, exactly when the body exceeds 255 octets.
#[inline(always)]
pub(crate) fn header(flags: u8, body: usize) -> ([u8; MAX_HEADER], usize) {
    let mut octets = [0; MAX_HEADER];
    match u8::try_from(body) {
        Ok(short) => {
            octets[0] = flags;
            octets[1] = short;
            (octets, SHORT_HEADER)
        }
        Err(_) => {
            octets[0] = flags | LONG;
            octets[1..].copy_from_slice(&(body as u64).to_be_bytes());
            (octets, MAX_HEADER)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_header_reads_back() {
        for body in [0, 1, 254, 255, 256, 257, 65_535, 65_536, usize::MAX >> 1] {
            for flags in [0, MORE, COMMAND] {
                let (octets, size) = header(flags, body);
                let read = Header::read(&octets[..size]).expect("whole header");
                assert_eq!((read.size, read.body, read.flags & !LONG), (size, body as u64, flags));
                assert_eq!(read.flags & LONG != 0, body > 255);
            }
        }
    }

    #[test]
    fn a_cut_header_asks_for_more() {
        let (octets, size) = header(0, 300);
        for cut in 0..size {
            assert_eq!(Header::read(&octets[..cut]), None);
        }
        assert_eq!(Header::read(&[0]), None);
    }

    #[test]
    fn a_long_header_may_carry_a_small_size() {
        let read = Header::read(&[LONG, 0, 0, 0, 0, 0, 0, 0, 3]).expect("whole header");
        assert_eq!((read.size, read.body), (9, 3));
    }
}
