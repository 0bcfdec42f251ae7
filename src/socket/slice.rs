//! Work of very many steps under a gate is done in slices, so that others get the gate in between.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// One such slice.
pub(super) struct Slice {
    end: Instant,
    steps: usize,
    octets: usize,
}

impl Slice {
    /// How long it takes, about: a fraction of a turn.
    const LENGTH: Duration = Duration::from_micros(200);
    /// After how many steps, or octets they had to do with, the clock is looked at.
    const STEPS: usize = 16;
    const OCTETS: usize = 16 * 1024;
    /// More than a kilobyte, from where on blocks are large to glibc.
    const LARGE: usize = 4096;

    pub(super) fn begin() -> Slice {
        Slice { end: Instant::now() + Slice::LENGTH, steps: 0, octets: 0 }
    }

    /// Asks the allocator for a large block, after a slice that freed very many small ones and outside the gate. glibc
    /// keeps small blocks apart until a large one is freed or asked for, and then joins all of them in one go: after
    /// 150,000 topics that takes 20 ms, wherever it happens.
    pub(super) fn tidy_heap() {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(Slice::LARGE)));
    }

    /// A step is done, for a text of so many octets: says whether there is time for another one.
    pub(super) fn step(&mut self, octets: usize) -> ControlFlow<()> {
        (self.steps, self.octets) = (self.steps + 1, self.octets + octets);
        if self.steps < Slice::STEPS && self.octets < Slice::OCTETS {
            return ControlFlow::Continue(());
        }
        (self.steps, self.octets) = (0, 0);
        if Instant::now() >= self.end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
