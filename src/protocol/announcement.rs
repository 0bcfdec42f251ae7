//! What our ends tell each other beyond the RFC: one property of READY, `X-Wiremesh`. Peers that do not know it ignore
//! it, as the RFC asks; peers that do not send it are treated by the RFC alone.
//!
//! | octets | |
//! |---|---|
//! | 1 | version, 2; a later one only adds octets behind, as this one did to version 1, which ends with the token |
//! | 1 | flags: bit 0 says that life signs are given; the others are zero and ignored |
//! | 8 | the largest message accepted, in octets, big endian; all bits set: no limit |
//! | 16 | the token |
//! | 4 | the largest number of frames accepted in one message, big endian; all bits set: no limit, as in version 1 |

use bytes::{Buf, BufMut};
use std::fmt;

/// The name of the property.
pub(super) const NAME: &str = "X-Wiremesh";

/// What one of our ends tells about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The largest message it accepts, in octets of all frames together; `None` is no limit.
    pub max_message: Option<u64>,
    /// The most frames of one message it accepts; `None` is no limit.
    pub max_frames: Option<u32>,
    /// By what it is recognised when it comes back.
    pub token: Token,
    /// Whether it gives signs of life unasked while it does not read, so that its silence means that it is gone.
    pub life_signs: bool,
}

/// Names a socket and one of its endpoints: an end that connects again announces the same. It is no secret between the
/// two ends and no proof of anything, but nobody else's business: `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub [u8; 16]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Announcement {
    /// The value of the property.
    pub fn write(&self) -> [u8; SIZE] {
        let mut octets = [0; SIZE];
        let mut rest = &mut octets[..];
        rest.put_u8(VERSION);
        rest.put_u8(if self.life_signs { LIFE_SIGNS } else { 0 });
        rest.put_u64(self.max_message.unwrap_or(u64::MAX));
        rest.put_slice(&self.token.0);
        rest.put_u32(self.max_frames.unwrap_or(u32::MAX));
        octets
    }

    /// Reads the value of the property; `None` where it is none of ours, which is not held against the peer.
    pub fn read(mut value: &[u8]) -> Option<Announcement> {
        let version = value.try_get_u8().ok()?;
        let size = match version {
            0 => return None,
            1 => SIZE_1,
            _ => SIZE,
        };
        if value.len() < size - 1 {
            return None;
        }
        let life_signs = value.get_u8() & LIFE_SIGNS != 0;
        let max_message = Some(value.get_u64()).filter(|&octets| octets != u64::MAX);
        let token = Token(*value.first_chunk()?);
        value.advance(token.0.len());
        let max_frames = if version == 1 { None } else { Some(value.get_u32()).filter(|&frames| frames != u32::MAX) };
        Some(Announcement { max_message, max_frames, token, life_signs })
    }
}

/// The octets of version 1, and of ours.
const SIZE_1: usize = 26;
pub(super) const SIZE: usize = 30;
const VERSION: u8 = 2;
const LIFE_SIGNS: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Token = Token(*b"sixteen octets!!");

    #[test]
    fn the_property_is_the_test_vector() {
        let ours =
            Announcement { max_message: Some(1 << 20), max_frames: Some(1 << 16), token: TOKEN, life_signs: true };
        assert_eq!(&ours.write(), b"\x02\x01\0\0\0\0\0\x10\0\0sixteen octets!!\0\x01\0\0");
        let ours = Announcement { max_message: None, max_frames: None, token: TOKEN, life_signs: false };
        assert_eq!(&ours.write(), b"\x02\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFFsixteen octets!!\xFF\xFF\xFF\xFF");
    }

    #[test]
    fn what_is_written_reads_back_and_what_follows_is_ignored() {
        let limits = [None, Some(0), Some(1 << 30), Some(u64::MAX - 1)];
        for (max_message, max_frames) in limits.into_iter().zip([Some(u32::MAX - 1), None, Some(1), Some(0)]) {
            for life_signs in [true, false] {
                let ours = Announcement { max_message, max_frames, token: TOKEN, life_signs };
                let mut value = ours.write().to_vec();
                assert_eq!(Announcement::read(&value), Some(ours));
                (value[0], value[1]) = (200, value[1] | 0xFE);
                value.extend_from_slice(b"more of a later version");
                assert_eq!(Announcement::read(&value), Some(ours));
            }
        }
    }

    #[test]
    fn version_1_tells_of_no_limit_on_frames() {
        let mut value = *b"\x01\x01\0\0\0\0\0\x10\0\0sixteen octets!!more";
        let ours = Announcement { max_message: Some(1 << 20), max_frames: None, token: TOKEN, life_signs: true };
        for size in SIZE_1..=SIZE {
            assert_eq!(Announcement::read(&value[..size]), Some(ours));
        }
        value[0] = VERSION;
        let more = Some(u32::from_be_bytes(*b"more"));
        assert_eq!(Announcement::read(&value), Some(Announcement { max_frames: more, ..ours }));
    }

    #[test]
    fn what_is_none_of_ours_is_left_alone() {
        let value = Announcement { max_message: None, max_frames: None, token: TOKEN, life_signs: true }.write();
        for cut in 0..SIZE {
            assert_eq!(Announcement::read(&value[..cut]), None);
        }
        for cut in 0..SIZE_1 {
            assert_eq!(Announcement::read(&[&[1], &value[1..]].concat()[..cut]), None);
        }
        let mut version_0 = value;
        version_0[0] = 0;
        assert_eq!(Announcement::read(&version_0), None);
    }

    #[test]
    fn a_token_is_not_shown() {
        assert_eq!(format!("{TOKEN:?}"), "Token(..)");
    }
}
