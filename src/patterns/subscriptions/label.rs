//! The piece of text on one edge of the [tree](super::tree): inside the node when short, one exact allocation when
//! long.

/// How many octets of text stay inside the node. With the length and the tag this fills the 24 octets that the boxed
/// form needs anyway.
const INLINE: usize = 22;

/// The longest text on one edge; longer topics become a chain of nodes. Without this bound a peer that owns a topic of
/// 16 MiB could make us copy all of it, again and again, by subscribing to and cancelling a one-octet prefix of it.
pub(super) const LONGEST: usize = 4096;

/// The text on one edge.
#[derive(Debug)]
pub(super) enum Label {
    Inline { len: u8, octets: [u8; INLINE] },
    Boxed(Box<[u8]>),
}

impl Label {
    /// Copies `text`.
    pub(super) fn new(text: &[u8]) -> Label {
        Label::joined(text, &[])
    }

    /// Copies `head` and `tail`, one after the other.
    pub(super) fn joined(head: &[u8], tail: &[u8]) -> Label {
        let len = head.len() + tail.len();
        match u8::try_from(len) {
            Ok(short) if len <= INLINE => {
                let mut octets = [0; INLINE];
                octets[..head.len()].copy_from_slice(head);
                octets[head.len()..len].copy_from_slice(tail);
                Label::Inline { len: short, octets }
            }
            _ => Label::Boxed([head, tail].concat().into_boxed_slice()),
        }
    }

    /// The text.
    #[inline(always)]
    pub(super) fn text(&self) -> &[u8] {
        match self {
            Label::Inline { len, octets } => &octets[..usize::from(*len)],
            Label::Boxed(text) => text,
        }
    }
}

impl Default for Label {
    fn default() -> Label {
        Label::Inline { len: 0, octets: [0; INLINE] }
    }
}
