//! A link that was stopped at its mark is read again once the application has caught up, although one read lands in
//! several steps and credit is given between them.

use crate::credit::Marks;
use crate::explore::{STUCK, breaks, holds};
use crate::intake::{Intake, ReadGate};
use crate::parker::Parker;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use loom::thread;

/// Where a link's pause lives, or a weakened way.
trait Stop: Default + Send + 'static {
    type Gate: Send + Sync + 'static;
    fn gate(&self) -> Arc<Self::Gate>;
    fn is_closed(gate: &Self::Gate) -> bool;
    /// A driver lands so many messages.
    fn land(&mut self, gate: &Self::Gate, messages: usize, mark: usize);
    /// The application has read so many; whether a driver is to be told.
    fn settle(&mut self, messages: usize, mark: usize) -> bool;
}

fn marks(messages: usize) -> Marks {
    Marks { messages, bytes: 0 }
}

impl Stop for Intake {
    type Gate = ReadGate;
    fn gate(&self) -> Arc<ReadGate> {
        Arc::clone(Intake::gate(self))
    }
    fn is_closed(gate: &ReadGate) -> bool {
        gate.is_closed()
    }
    fn land(&mut self, _: &ReadGate, messages: usize, mark: usize) {
        Intake::land(self, messages, 0, marks(mark), false);
    }
    fn settle(&mut self, messages: usize, mark: usize) -> bool {
        assert!(self.waiting().messages >= messages, "read before it landed");
        Intake::settle(self, messages, 0);
        self.reopen(marks(mark), false)
    }
}

/// One link: what one read brings lands one by one, as where commands stand between messages.
struct Link<S: Stop> {
    stop: Mutex<S>,
    gate: Arc<S::Gate>,
    driver: Parker,
    receiver: Parker,
    arrived: Mutex<usize>,
}

impl<S: Stop> Link<S> {
    fn drive(&self, reads: usize, each: usize, mark: usize) {
        for _ in 0..reads {
            while S::is_closed(&self.gate) {
                self.driver.park(None);
            }
            for _ in 0..each {
                self.stop.lock().expect("no panic").land(&self.gate, 1, mark);
                *self.arrived.lock().expect("no panic") += 1;
                self.receiver.notify();
            }
        }
    }

    fn receive(&self, mut left: usize, step: usize, mark: usize) {
        let mut taken = 0;
        while left > 0 {
            let there = std::mem::take(&mut *self.arrived.lock().expect("no panic"));
            if there == 0 {
                // The inbox is read: what was taken is told.
                self.credit(&mut taken, mark);
                self.receiver.park(None);
            }
            for _ in 0..there {
                (taken, left) = (taken + 1, left - 1);
                if taken >= step {
                    self.credit(&mut taken, mark);
                }
            }
        }
    }

    fn credit(&self, taken: &mut usize, mark: usize) {
        let open = *taken > 0 && self.stop.lock().expect("no panic").settle(std::mem::take(taken), mark);
        if open {
            self.driver.notify();
        }
    }
}

fn run<S: Stop>(reads: usize, each: usize, mark: usize) {
    let stop = S::default();
    let gate = stop.gate();
    let link = Arc::new(Link {
        stop: Mutex::new(stop),
        gate,
        driver: Parker::new(),
        receiver: Parker::new(),
        arrived: Mutex::new(0),
    });
    let driver = thread::spawn({
        let link = Arc::clone(&link);
        move || link.drive(reads, each, mark)
    });
    link.receive(reads * each, mark.div_ceil(2), mark);
    driver.join().expect("no panic");
}

#[test]
fn a_link_is_read_again_however_its_messages_and_the_credit_interleave() {
    holds("mark 2, three a read", 3, || run::<Intake>(2, 3, 2));
    holds("mark 1, two a read", 3, || run::<Intake>(2, 2, 1));
    holds("mark 4, five a read", 2, || run::<Intake>(2, 5, 4));
}

#[test]
fn a_pause_that_is_found_anew_at_each_landing_is_forgotten() {
    breaks("found anew", STUCK, 3, || run::<Weakened<FOUND_ANEW>>(2, 8, 6));
}

#[test]
fn a_link_that_is_told_before_the_gate_is_open_sleeps_on() {
    breaks("never opened", STUCK, 2, || run::<Weakened<NEVER_OPENED>>(2, 3, 2));
}

/// The pause with one thing done wrong.
#[derive(Default)]
struct Weakened<const FLAW: u8> {
    messages: usize,
    paused: bool,
    gate: Arc<AtomicFlag>,
}

/// The link's own copy of the fact.
struct AtomicFlag(AtomicBool);

impl Default for AtomicFlag {
    fn default() -> AtomicFlag {
        AtomicFlag(AtomicBool::new(false))
    }
}

/// The socket decides anew at each landing, while the link stays paused until it is told.
const FOUND_ANEW: u8 = 0;
/// The driver is told, and what it asks stays as it was.
const NEVER_OPENED: u8 = 1;

impl<const FLAW: u8> Stop for Weakened<FLAW> {
    type Gate = AtomicFlag;
    fn gate(&self) -> Arc<AtomicFlag> {
        Arc::clone(&self.gate)
    }
    fn is_closed(gate: &AtomicFlag) -> bool {
        gate.0.load(Ordering::Acquire)
    }
    fn land(&mut self, gate: &AtomicFlag, messages: usize, mark: usize) {
        self.messages += messages;
        let full = self.messages >= mark;
        self.paused = if FLAW == FOUND_ANEW { full } else { self.paused || full };
        if full {
            gate.0.store(true, Ordering::Release);
        }
    }
    fn settle(&mut self, messages: usize, mark: usize) -> bool {
        self.messages -= messages;
        let open = self.paused && self.messages <= mark / 2;
        self.paused &= !open;
        if open && FLAW != NEVER_OPENED {
            self.gate.0.store(false, Ordering::Release);
        }
        open
    }
}
