//! How large a message is, and how large one may be.

use crate::error::SendFailure;
use crate::event::Refusal;

/// The size of a message, or of the largest that somebody accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// The octets of all bodies together.
    pub(crate) octets: usize,
    pub(crate) frames: usize,
}

impl Size {
    /// As a limit: none.
    pub(crate) const UNLIMITED: Size = Size { octets: usize::MAX, frames: usize::MAX };

    /// A limit on messages as what they are compared with.
    pub(crate) fn limit(octets: Option<u64>, frames: Option<u32>) -> Size {
        Size {
            octets: octets.map_or(usize::MAX, |octets| usize::try_from(octets).unwrap_or(usize::MAX)),
            frames: frames.map_or(usize::MAX, |frames| usize::try_from(frames).unwrap_or(usize::MAX)),
        }
    }

    /// The size of a message of one frame.
    #[inline(always)]
    pub(crate) fn of_frame(octets: usize) -> Size {
        Size { octets, frames: 1 }
    }

    /// With an envelope of that size in front.
    pub(crate) fn behind(self, envelope: Size) -> Size {
        Size { octets: self.octets + envelope.octets, frames: self.frames + envelope.frames }
    }

    #[inline(always)]
    pub(crate) fn is_within(self, limit: Size) -> bool {
        // No limit keeps one frame out, so that most messages are compared once only.
        self.octets <= limit.octets && (self.frames == 1 || self.frames <= limit.frames)
    }

    /// Returns true if no message within so many octets of wire form exceeds this limit: a frame takes two of them at
    /// least.
    pub(crate) fn admits_all_of(self, wire: usize) -> bool {
        wire <= self.octets && wire / 2 <= self.frames
    }

    /// How a peer with this limit refuses a message of that size.
    pub(crate) fn refusal_of(self, size: Size) -> Refusal {
        if size.octets > self.octets {
            Refusal::Announced { limit: self.octets as u64 }
        } else {
            Refusal::TooManyFrames { frames: size.frames as u64, limit: self.frames as u64 }
        }
    }

    /// Why nobody accepts a message: its size as each would get it, and the limit each has. `None` if somebody does, or
    /// nobody is there.
    #[cold]
    pub(crate) fn refused_by_all(sizes_and_limits: impl Iterator<Item = (Size, Size)>) -> Option<SendFailure> {
        let (mut by_octets, mut by_frames) = (None, None);
        for (size, limit) in sizes_and_limits {
            if size.is_within(limit) {
                return None;
            }
            // Of several limits the one that comes nearest is told.
            if size.octets > limit.octets {
                by_octets = by_octets.max(Some((limit.octets, size.octets)));
            } else {
                by_frames = by_frames.max(Some((limit.frames, size.frames)));
            }
        }
        match (by_frames, by_octets) {
            (Some((limit, frames)), _) => {
                Some(SendFailure::TooManyFrames { frames: frames as u64, limit: limit as u64 })
            }
            (None, Some((limit, size))) => Some(SendFailure::TooLarge { size: size as u64, limit: limit as u64 }),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn size(octets: usize, frames: usize) -> Size {
        Size { octets, frames }
    }

    #[test]
    fn a_message_is_within_a_limit_if_it_has_neither_more_octets_nor_more_frames() {
        let limit = Size::limit(Some(10), Some(3));
        for (octets, frames, within) in
            [(0, 1, true), (10, 1, true), (10, 3, true), (11, 1, false), (10, 4, false), (11, 4, false)]
        {
            assert_eq!(size(octets, frames).is_within(limit), within, "{octets} octets, {frames} frames");
            assert!(size(octets, frames).is_within(Size::UNLIMITED));
        }
        assert_eq!(Size::limit(None, None), Size::UNLIMITED);
        assert!(limit.admits_all_of(7) && !limit.admits_all_of(8) && !Size::limit(Some(3), None).admits_all_of(4));
    }

    #[test]
    fn what_all_refuse_is_refused_by_the_limit_that_comes_nearest() {
        let refused =
            |message: Size, limits: &[Size]| Size::refused_by_all(limits.iter().map(|limit| (message, *limit)));
        let message = size(100, 5);
        assert_eq!(refused(message, &[]), None);
        assert_eq!(refused(message, &[size(9, 9), Size::UNLIMITED]), None);
        let by_octets = Some(SendFailure::TooLarge { size: 100, limit: 99 });
        assert_eq!(refused(message, &[size(9, 9), size(99, 1)]), by_octets);
        let by_frames = Some(SendFailure::TooManyFrames { frames: 5, limit: 4 });
        assert_eq!(refused(message, &[size(99, 9), size(100, 4), size(100, 1)]), by_frames);
        assert_eq!(size(99, 1).refusal_of(message), Refusal::Announced { limit: 99 });
        assert_eq!(size(100, 4).refusal_of(message), Refusal::TooManyFrames { frames: 5, limit: 4 });
    }
}
