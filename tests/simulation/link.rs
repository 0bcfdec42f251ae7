//! One direction of a simulated byte stream: chops, delays, cuts, corrupts or swallows what is written, on virtual
//! time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::random::Random;

/// What goes wrong with a stream, and after how many octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The stream ends here.
    Cut(u64),
    /// From here on octets vanish and the stream does not end.
    Stall(u64),
    /// The octet here is changed.
    Flip(u64),
    /// The octet here is lost.
    Drop(u64),
    /// Octets that nobody sent come before the one here.
    Insert(u64),
}

impl Fault {
    /// How many octets arrive as they were sent.
    pub(crate) fn intact(self) -> u64 {
        match self {
            Fault::None => u64::MAX,
            Fault::Cut(at) | Fault::Stall(at) | Fault::Flip(at) | Fault::Drop(at) | Fault::Insert(at) => at,
        }
    }

    /// Whether octets arrive that were not sent so.
    pub(crate) fn corrupts(self) -> bool {
        matches!(self, Fault::Flip(_) | Fault::Drop(_) | Fault::Insert(_))
    }
}

/// One direction.
pub(crate) struct Link {
    pub(crate) fault: Fault,
    /// How many octets arrive together at most; the link holds sixteen times as many.
    burst: usize,
    gap: Duration,
    queue: VecDeque<u8>,
    written: u64,
    closed: bool,
    /// The end was told, or swallowed.
    over: bool,
    due: Option<Instant>,
}

/// What a link hands over.
pub(crate) enum Delivery {
    Octets(Vec<u8>),
    End,
}

impl Link {
    pub(crate) fn new(burst: usize, gap: Duration, fault: Fault) -> Link {
        Link { fault, burst, gap, queue: VecDeque::new(), written: 0, closed: false, over: false, due: None }
    }

    /// Takes as much as there is room for; says how much.
    pub(crate) fn write(&mut self, octets: &[u8], now: Instant, random: &mut Random) -> usize {
        if self.closed {
            return octets.len();
        }
        let taken = octets.len().min((self.burst * 16).saturating_sub(self.queue.len()));
        for &octet in &octets[..taken] {
            match self.fault {
                Fault::Cut(at) if self.written == at => self.closed = true,
                Fault::Flip(at) if self.written == at => self.queue.push_back(octet ^ (1 << random.below(8))),
                Fault::Drop(at) if self.written == at => {}
                Fault::Insert(at) if self.written == at => {
                    let size = random.between(1, 9);
                    self.queue.extend(random.octets(size));
                    self.queue.push_back(octet);
                }
                Fault::Stall(at) if self.written >= at => {}
                _ if self.closed => {}
                _ => self.queue.push_back(octet),
            }
            self.written += 1;
        }
        self.schedule(now, random);
        taken
    }

    /// The writer is done.
    pub(crate) fn close(&mut self, now: Instant, random: &mut Random) {
        self.closed = true;
        self.schedule(now, random);
    }

    /// How many octets have been written, arrived or not.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.due.is_none()
    }

    /// When the next delivery is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What arrives now, if anything does.
    pub(crate) fn deliver(&mut self, now: Instant, random: &mut Random) -> Option<Delivery> {
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        self.due = None;
        if self.queue.is_empty() {
            // A swallowing link never tells the end.
            self.over = true;
            return Some(Delivery::End).filter(|_| self.closed && !matches!(self.fault, Fault::Stall(_)));
        }
        let size = random.between(self.burst.div_ceil(2), self.burst).min(self.queue.len());
        let octets = self.queue.drain(..size).collect();
        self.schedule(now, random);
        Some(Delivery::Octets(octets))
    }

    fn schedule(&mut self, now: Instant, random: &mut Random) {
        if self.due.is_none() && (self.closed && !self.over || !self.queue.is_empty()) {
            let gap = random.below(self.gap.as_micros() as usize + 1) as u64;
            self.due = Some(now + Duration::from_micros(gap));
        }
    }
}
