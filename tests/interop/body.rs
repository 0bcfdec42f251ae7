//! The octets of a frame, in a form both sides can make without sending them to each other first.

use std::fmt;
use std::sync::LazyLock;

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// These octets.
    Given(Vec<u8>),
    /// So many made-up ones.
    MadeUp { size: usize, seed: usize },
}

impl Body {
    pub(crate) fn octets(&self) -> Vec<u8> {
        match self {
            Body::Given(octets) => octets.clone(),
            Body::MadeUp { size, seed } => {
                PATTERN.iter().copied().cycle().skip(seed % PATTERN.len()).take(*size).collect()
            }
        }
    }
}

/// The form in which peer.py reads it.
impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Given(octets) => write!(f, "={}", hex(octets)),
            Body::MadeUp { size, seed } => write!(f, "{size}/{seed}"),
        }
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Body {
        Body::Given(text.as_bytes().to_vec())
    }
}

impl From<&[u8]> for Body {
    fn from(octets: &[u8]) -> Body {
        Body::Given(octets.to_vec())
    }
}

/// A message of made-up frames of these sizes.
pub(crate) fn made_up(seed: usize, sizes: &[usize]) -> Vec<Body> {
    sizes.iter().enumerate().map(|(at, size)| Body::MadeUp { size: *size, seed: seed * 97 + at }).collect()
}

/// A message of given frames.
pub(crate) fn given<const N: usize>(frames: [&str; N]) -> Vec<Body> {
    frames.map(Body::from).to_vec()
}

/// Message `number` of a numbered stream, of `size` octets.
pub(crate) fn numbered(number: usize, size: usize) -> Vec<u8> {
    let mut octets = (number as u64).to_be_bytes().to_vec();
    let start = number % PATTERN.len();
    octets.extend(PATTERN.iter().cycle().skip(start).take(size - 8));
    octets
}

/// One-frame messages and several frames, at every edge of a length: the frame header's (255), the queue's (8 KiB), the
/// read buffer's (64 KiB), and well beyond.
pub(crate) fn assortment() -> Vec<Vec<Body>> {
    const SIZES: [&[usize]; 14] = [
        &[0],
        &[1],
        &[70],
        &[255],
        &[256],
        &[8 << 10],
        &[70 << 10],
        &[1 << 20],
        &[0, 0],
        &[1, 0, 255],
        &[256, 8 << 10, 70 << 10, 0],
        &[5, 1 << 20, 3],
        &[70 << 10, 70 << 10],
        &[1; 20],
    ];
    SIZES.iter().enumerate().map(|(seed, sizes)| made_up(seed, sizes)).collect()
}

pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex")).collect()
}

/// The octets that made-up bodies are cut from: the same as in peer.py.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1_u64;
    let next = || {
        state = (state * 1_103_515_245 + 12_345) & 0x7FFF_FFFF;
        (state >> 16) as u8
    };
    std::iter::repeat_with(next).take(65_521).collect()
});
