//! A queue never holds more than its mark, and nobody who waits for room in it is forgotten.

use crate::credit::{Credit, DEPTH, Marks};
use crate::explore::{STUCK, breaks, holds};
use crate::parker::Parker;
use crate::sync::{Arc, Mutex};
use crate::waiters::{Interest, Waiters};
use loom::thread;

/// A queue's credit, or a weakened one.
trait Account: Default + Send + 'static {
    fn is_full(&self) -> bool;
    fn fill(&mut self, waiting: usize, mark: usize);
    fn deepen(&mut self, bytes: usize);
    fn pass_depth(&mut self);
    fn drain(&mut self, queued: Marks, marks: Marks, hungry: &mut bool) -> bool;
}

impl Account for Credit {
    fn is_full(&self) -> bool {
        self.is_full()
    }
    fn fill(&mut self, waiting: usize, mark: usize) {
        self.fill(waiting, mark);
    }
    fn deepen(&mut self, bytes: usize) {
        self.deepen(bytes);
    }
    fn pass_depth(&mut self) {
        if self.is_deep() {
            self.pass_depth();
        }
    }
    fn drain(&mut self, queued: Marks, marks: Marks, hungry: &mut bool) -> bool {
        self.drain(queued, marks, hungry)
    }
}

/// What the queue around the credit does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A sender says that it is hungry some time after it found no room.
    SaysSoLater,
    /// Only one of those who wait is told.
    TellsOne,
}

/// What is sent through the queue.
#[derive(Clone, Copy)]
struct Traffic {
    marks: Marks,
    /// How many messages each sender sends, and their size.
    each: usize,
    size: usize,
    /// How many the flusher takes at once.
    batch: usize,
}

/// A peer's queue as `socket/sending.rs` keeps it: all under one lock.
struct Queue<A> {
    side: Mutex<Side<A>>,
    waiters: Waiters,
    /// Rung when a message finds the queue empty.
    flusher: Parker,
    traffic: Traffic,
    fault: Fault,
}

struct Side<A> {
    credit: A,
    messages: usize,
    hungry: bool,
}

impl<A: Account> Queue<A> {
    fn offer(&self, waits: bool) -> bool {
        let Traffic { marks, size, .. } = self.traffic;
        let mut side = self.side.lock().expect("no panic");
        if !waits {
            side.credit.pass_depth();
        }
        if side.credit.is_full() || !marks.admit(side.messages * size, size) {
            if self.fault == Fault::SaysSoLater {
                drop(side);
                side = self.side.lock().expect("no panic");
            }
            side.hungry = true;
            return false;
        }
        side.messages += 1;
        let messages = side.messages;
        assert!(marks.messages == 0 || messages <= marks.messages, "above the mark");
        assert!(marks.bytes == 0 || messages * size <= marks.bytes.max(size), "above the mark");
        side.credit.fill(messages, marks.messages);
        side.credit.deepen(messages * size);
        drop(side);
        if messages == 1 {
            self.flusher.notify();
        }
        true
    }

    /// As `Core::wait` waits for room, apart from the driver's seat.
    fn send(&self) {
        let mut sent = self.offer(true);
        while !sent {
            self.waiters.wait(Interest::ROOM, None, || {
                sent = self.offer(true);
                sent
            });
            sent = sent || self.offer(true);
        }
    }

    fn flush(&self, mut left: usize) {
        while left > 0 {
            let Traffic { marks, size, batch, .. } = self.traffic;
            let mut guard = self.side.lock().expect("no panic");
            let side = &mut *guard;
            let taken = side.messages.min(batch);
            if taken == 0 {
                drop(guard);
                self.flusher.park(None);
                continue;
            }
            side.messages -= taken;
            left -= taken;
            let queued = Marks { messages: side.messages, bytes: side.messages * size };
            let room = side.credit.drain(queued, marks, &mut side.hungry);
            drop(guard);
            if room {
                let many = if self.fault == Fault::TellsOne { 1 } else { usize::MAX };
                self.waiters.notify(Interest::ROOM, many);
            }
        }
    }
}

fn run<A: Account>(senders: usize, traffic: Traffic, fault: Fault) {
    let side = Mutex::new(Side { credit: A::default(), messages: 0, hungry: false });
    let queue = Arc::new(Queue { side, waiters: Waiters::default(), flusher: Parker::new(), traffic, fault });
    let threads: Vec<_> = (0..senders)
        .map(|_| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || (0..queue.traffic.each).for_each(|_| queue.send()))
        })
        .collect();
    queue.flush(senders * traffic.each);
    for sender in threads {
        sender.join().expect("no panic");
    }
    assert!(queue.waiters.is_empty());
}

/// So many messages, no limit of octets.
fn by_number(mark: usize, each: usize, batch: usize) -> Traffic {
    Traffic { marks: Marks { messages: mark, bytes: 0 }, each, size: 1, batch }
}

/// Two messages of three octets each fit.
const BY_SIZE: Traffic = Traffic { marks: Marks { messages: 0, bytes: 6 }, each: 4, size: 3, batch: 1 };

/// A message alone is larger than the mark.
const TOO_LARGE: Traffic = Traffic { marks: Marks { messages: 8, bytes: 2 }, each: 3, size: 3, batch: 1 };

#[test]
fn a_sender_at_the_mark_goes_on_when_half_of_it_is_free() {
    holds("mark 4, one by one", 3, || run::<Credit>(1, by_number(4, 6, 1), Fault::None));
}

#[test]
fn a_mark_of_one_lets_one_after_the_other_through() {
    holds("mark 1", 3, || run::<Credit>(1, by_number(1, 3, 1), Fault::None));
}

#[test]
fn a_batch_that_frees_more_than_half_at_once_is_announced() {
    holds("mark 2, two at once", 3, || run::<Credit>(1, by_number(2, 4, 2), Fault::None));
}

#[test]
fn two_senders_at_the_mark_both_go_on() {
    holds("mark 2, two senders", 3, || run::<Credit>(2, by_number(2, 2, 2), Fault::None));
    holds("mark 1, two senders", 2, || run::<Credit>(2, by_number(1, 2, 1), Fault::None));
}

#[test]
fn a_mark_in_octets_holds_and_frees_as_well() {
    holds("mark in octets", 3, || run::<Credit>(1, BY_SIZE, Fault::None));
}

#[test]
fn a_message_larger_than_the_mark_waits_for_an_empty_queue() {
    holds("larger than the mark", 3, || run::<Credit>(1, TOO_LARGE, Fault::None));
}

/// No mark, but two messages are so much that senders wait.
const DEEP: Traffic = Traffic { marks: Marks { messages: 0, bytes: 0 }, each: 4, size: DEPTH / 2, batch: 1 };

#[test]
fn a_sender_that_waits_because_the_queue_is_deep_goes_on_when_half_of_that_is_taken() {
    holds("deep", 3, || run::<Credit>(1, DEEP, Fault::None));
    holds("deep, two senders", 2, || run::<Credit>(2, Traffic { each: 2, ..DEEP }, Fault::None));
}

#[test]
fn a_sender_that_does_not_wait_for_a_deep_queue_forgets_nobody_who_does() {
    holds("one passes", 3, || {
        let side = Mutex::new(Side { credit: Credit::default(), messages: 0, hungry: false });
        let (waiters, flusher) = (Waiters::default(), Parker::new());
        let queue = Arc::new(Queue { side, waiters, flusher, traffic: DEEP, fault: Fault::None });
        let sender = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || (0..3).for_each(|_| queue.send()))
        };
        assert!(queue.offer(false), "there is no mark");
        queue.flush(4);
        sender.join().expect("no panic");
    });
}

#[test]
fn forgetting_who_waits_for_a_deep_queue_leaves_a_sender_asleep() {
    breaks("forgets", STUCK, 3, || {
        run::<Weakened<FORGETS>>(1, Traffic { each: 6, size: DEPTH / 4, ..DEEP }, Fault::None)
    });
}

#[test]
fn full_only_above_the_mark_is_noticed() {
    breaks("full too late", "above the mark", 3, || run::<Weakened<FULL_TOO_LATE>>(1, by_number(2, 4, 1), Fault::None));
}

#[test]
fn announcing_at_exactly_half_leaves_a_sender_asleep() {
    breaks("exactly half", STUCK, 3, || run::<Weakened<EXACTLY_HALF>>(1, by_number(2, 4, 2), Fault::None));
}

#[test]
fn forgetting_the_hungry_before_there_is_room_leaves_a_sender_asleep() {
    breaks("forgets", STUCK, 3, || run::<Weakened<FORGETS>>(1, by_number(4, 6, 1), Fault::None));
}

#[test]
fn saying_later_that_one_is_hungry_leaves_a_sender_asleep() {
    breaks("says so later", STUCK, 3, || run::<Credit>(2, by_number(1, 2, 1), Fault::SaysSoLater));
}

#[test]
fn telling_one_of_two_leaves_the_other_asleep() {
    breaks("tells one", STUCK, 3, || run::<Credit>(2, by_number(2, 2, 2), Fault::TellsOne));
}

/// The credit with one thing done wrong.
#[derive(Default)]
struct Weakened<const FLAW: u8> {
    full: bool,
}

const FULL_TOO_LATE: u8 = 0;
const EXACTLY_HALF: u8 = 1;
const FORGETS: u8 = 2;

impl<const FLAW: u8> Account for Weakened<FLAW> {
    fn is_full(&self) -> bool {
        self.full
    }

    fn fill(&mut self, waiting: usize, mark: usize) {
        self.full = mark != 0 && if FLAW == FULL_TOO_LATE { waiting > mark } else { waiting >= mark };
    }

    fn deepen(&mut self, bytes: usize) {
        self.full |= bytes >= DEPTH;
    }

    fn pass_depth(&mut self) {
        self.full = false;
    }

    fn drain(&mut self, queued: Marks, marks: Marks, hungry: &mut bool) -> bool {
        let half = marks.messages / 2;
        let free = if FLAW == EXACTLY_HALF { queued.messages == half } else { queued.messages <= half };
        if free {
            self.full = false;
        }
        if FLAW == FORGETS {
            return std::mem::take(hungry) && free;
        }
        free && std::mem::take(hungry)
    }
}
