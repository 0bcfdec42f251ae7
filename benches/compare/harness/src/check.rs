//! Every message received is checked here: length, order, none missing, none twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock::Mark;
use crate::control::{self, Figures};
use crate::{Job, Outcome};

/// Sequence number of a message that only finds out whether the way is open. It is not counted.
pub const WARM_UP: u64 = u64::MAX;

/// What every byte behind the sequence number is.
pub const FILLING: u8 = 0x55;

/// The upper bits of a sequence number say which sender counted it.
const SOURCE_SHIFT: u32 = 48;

/// Writes the sequence number of message `number` of sender `source` into the first eight bytes of `body`.
#[inline]
pub fn stamp(body: &mut [u8], source: u64, number: u64) {
    if let Some(head) = body.first_chunk_mut::<8>() {
        *head = ((source << SOURCE_SHIFT) | number).to_le_bytes();
    }
}

/// Marks `body` as a message that is not counted.
pub fn stamp_warm_up(body: &mut [u8]) {
    if let Some(head) = body.first_chunk_mut::<8>() {
        *head = WARM_UP.to_le_bytes();
    }
}

/// How the numbers on one lane must follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Each is one more than the last: the lane sees everything.
    Complete,
    /// Each is greater than the last: other lanes see the rest, and the total tells whether any is missing.
    Rising,
}

/// Counts and checks the messages of one process. The first message starts its clock, the last one stops it.
#[derive(Debug)]
pub struct Check {
    bytes: usize,
    whole: bool,
    order: Order,
    expected: u64,
    received: u64,
    next: Vec<u64>,
    heard: Vec<bool>,
    silent: Arc<AtomicUsize>,
    started: Option<Mark>,
    finished: Option<Mark>,
}

impl Check {
    /// Expects `expected` messages of `job.bytes` in all on `lanes` lanes.
    pub fn new(job: &Job, lanes: usize, order: Order, expected: u64) -> Check {
        Check::part(job, lanes, order, expected, &Arc::new(AtomicUsize::new(lanes)))
    }

    /// The share of one thread in a check of several: `silent` counts the lanes of all of them that heard nothing yet.
    pub fn part(job: &Job, lanes: usize, order: Order, expected: u64, silent: &Arc<AtomicUsize>) -> Check {
        let (next, heard, silent) = (vec![0; lanes], vec![false; lanes], silent.clone());
        let (bytes, whole) = (job.bytes, job.whole);
        Check { bytes, whole, order, expected, received: 0, next, heard, silent, started: None, finished: None }
    }

    /// Takes a message whose lane is told by its sender's number.
    #[inline]
    pub fn message(&mut self, body: &[u8]) -> Outcome {
        let lane = body.get(6..8).map_or(0, |top| usize::from(top[0]) | usize::from(top[1]) << 8);
        self.on(lane, body)
    }

    /// Takes a message that arrived on socket number `lane`.
    #[inline]
    pub fn on(&mut self, lane: usize, body: &[u8]) -> Outcome {
        let Some(head) = body.first_chunk::<8>().filter(|_| body.len() == self.bytes) else {
            return Err(format!("a message of {} bytes instead of {}", body.len(), self.bytes).into());
        };
        if self.whole && body.iter().skip(head.len()).any(|byte| *byte != FILLING) {
            return Err("a message with other bytes than were sent".into());
        }
        let stamped = u64::from_le_bytes(*head);
        if stamped == WARM_UP {
            self.warm_up(lane);
            return Ok(());
        }
        let number = stamped & ((1 << SOURCE_SHIFT) - 1);
        let Some(next) = self.next.get_mut(lane) else {
            return Err(format!("a message from sender {lane}, which does not exist").into());
        };
        let in_order = match self.order {
            Order::Complete => number == *next,
            Order::Rising => number >= *next,
        };
        if !in_order {
            return Err(format!("message {number} on lane {lane} where {next} was due").into());
        }
        *next = number + 1;
        if self.received == 0 {
            self.started = Some(Mark::now());
        }
        self.received += 1;
        if self.received == self.expected {
            self.finished = Some(Mark::now());
        }
        Ok(())
    }

    /// Notes that the way to `lane` is open; tells the driver when all are.
    fn warm_up(&mut self, lane: usize) {
        if let Some(heard) = self.heard.get_mut(lane).filter(|heard| !**heard) {
            *heard = true;
            if self.silent.fetch_sub(1, Ordering::Relaxed) == 1 {
                control::ready();
            }
        }
    }

    /// Whether every expected message is here.
    #[inline]
    pub fn complete(&self) -> bool {
        self.received >= self.expected
    }

    /// Messages counted so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// When the first message came.
    pub fn started(&self) -> Option<Mark> {
        self.started
    }

    /// When the last expected message came.
    pub fn finished(&self) -> Option<Mark> {
        self.finished
    }

    /// Wall and processor time between the first and the last message.
    pub fn figures(&self) -> Figures {
        figures_between(self.received, self.started, self.finished)
    }
}

/// The figures of `messages` received between two readings of the clocks.
pub fn figures_between(messages: u64, started: Option<Mark>, finished: Option<Mark>) -> Figures {
    let (Some(started), Some(finished)) = (started, finished) else {
        return Figures::default();
    };
    let (seconds, cpu) = (started.seconds_to(&finished), started.cpu_to(&finished));
    Figures { messages, seconds, cpu, ..Figures::default() }
}
