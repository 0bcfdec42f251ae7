//! Many sockets of one process, each served by a thread of its own that blocks in its library's receive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use crate::check::{self, Check, Order};
use crate::clock::Mark;
use crate::control;
use crate::play::{self, Step};
use crate::{Job, Outcome, block_on};

/// How one thread moves one message.
pub trait Line: Send + 'static {
    /// Receives a message and shows it to the check; waits for it if `wait`, else tells whether there was one.
    fn recv(&mut self, check: &mut Check, wait: bool) -> Outcome<bool>;

    /// Sends a message built from `body`, waiting for room.
    fn send(&mut self, body: &[u8]) -> Outcome;
}

/// Messages a thread takes before it adds them to the common count.
const BATCH: u64 = 256;

/// PULL sockets that share `count` messages.
pub fn pull_many(job: &Job, lines: Vec<impl Line>) -> Outcome {
    let silent = Arc::new(AtomicUsize::new(lines.len()));
    let total = Arc::new(AtomicU64::new(0));
    let (job, expected) = (job.clone(), job.count);
    run(lines, move |mut line| {
        let mut check = Check::part(&job, 1, Order::Rising, u64::MAX, &silent);
        loop {
            let before = check.received();
            line.recv(&mut check, true)?;
            while check.received() - before < BATCH && line.recv(&mut check, false)? {}
            let fresh = check.received() - before;
            if total.fetch_add(fresh, Ordering::Relaxed) + fresh >= expected
                || total.load(Ordering::Relaxed) >= expected
            {
                return Ok(Part {
                    messages: expected,
                    started: check.started(),
                    finished: Some(Mark::now()),
                    all: true,
                });
            }
        }
    })
}

/// SUB sockets that must each receive `count` messages.
pub fn sub_many(job: &Job, lines: Vec<impl Line>) -> Outcome {
    let silent = Arc::new(AtomicUsize::new(lines.len()));
    let job = job.clone();
    run(lines, move |mut line| {
        let mut check = Check::part(&job, 1, Order::Complete, job.count, &silent);
        while !check.complete() {
            line.recv(&mut check, true)?;
        }
        Ok(Part::of(&check))
    })
}

/// DEALER sockets with `window` messages outstanding each.
pub fn dealer_many(job: &Job, lines: Vec<impl Line>) -> Outcome {
    let job = job.clone();
    run(lines, move |mut line| {
        let check = Check::new(&job, 1, Order::Complete, play::per_dealer(&job));
        let check = std::cell::RefCell::new(check);
        block_on(play::dealer(&job, &check, async |step| match step {
            Step::Send(body) => line.send(body),
            Step::Recv(check) => line.recv(&mut check.borrow_mut(), true).map(drop),
        }))?;
        Ok(Part::of(&check.borrow()))
    })
}

/// What one thread has to report.
struct Part {
    messages: u64,
    started: Option<Mark>,
    finished: Option<Mark>,
    /// Speaks for all threads; the others may still wait for messages that will not come.
    all: bool,
}

impl Part {
    fn of(check: &Check) -> Part {
        Part { messages: check.received(), started: check.started(), finished: check.finished(), all: false }
    }
}

/// Starts a thread per line, adds their parts up and reports.
fn run<L: Line>(lines: Vec<L>, serve: impl Fn(L) -> Outcome<Part> + Send + Sync + 'static) -> Outcome {
    let serve = Arc::new(serve);
    let threads = lines.len();
    let (report, parts) = channel();
    for line in lines {
        let (serve, report) = (serve.clone(), report.clone());
        std::thread::spawn(move || {
            // The main thread has gone only when another thread spoke for this one.
            let _ = report.send(serve(line));
        });
    }
    let whole = collect(&parts, threads)?;
    control::result(&check::figures_between(whole.messages, whole.started, whole.finished));
    block_on(control::stop());
    Ok(())
}

fn collect(parts: &Receiver<Outcome<Part>>, threads: usize) -> Outcome<Part> {
    let mut whole = Part { messages: 0, started: None, finished: None, all: false };
    for _ in 0..threads {
        let part = parts.recv()??;
        whole.started = merged(whole.started, part.started, Mark::earlier);
        whole.finished = merged(whole.finished, part.finished, Mark::later);
        if part.all {
            whole.messages = part.messages;
            break;
        }
        whole.messages += part.messages;
    }
    Ok(whole)
}

fn merged(one: Option<Mark>, other: Option<Mark>, choose: impl Fn(Mark, Mark) -> Mark) -> Option<Mark> {
    match (one, other) {
        (Some(one), Some(other)) => Some(choose(one, other)),
        (one, other) => one.or(other),
    }
}
