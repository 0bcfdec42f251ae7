//! The loops: one function per role, given closures that move one message through the library's public API.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::check::{self, Check, Order};
use crate::clock::{self, Mark};
use crate::control::{self, Figures};
use crate::{Job, Outcome};

/// PULL: receives `count` messages of `peers` senders and reports. `recv` takes one message and shows it to the check.
pub async fn pull(job: &Job, mut recv: impl AsyncFnMut(&mut Check) -> Outcome) -> Outcome {
    let senders = job.peers * usize::try_from(job.threads)?;
    let mut check = Check::new(job, senders, Order::Complete, job.count);
    control::bound();
    while !check.complete() {
        recv(&mut check).await?;
    }
    control::result(&check.figures());
    control::stop().await;
    Ok(())
}

/// PUSH: sends this sender's messages and reports its processor time once the driver says that all have arrived.
pub async fn push(job: &Job, send: impl AsyncFnMut(&[u8]) -> Outcome) -> Outcome {
    if job.hold {
        control::ready();
        control::go().await;
    }
    let start = Mark::now();
    stream(job, job.source, job.count, send).await?;
    report_sender(job, &start).await
}

/// Sends `count` messages numbered from 0 as sender `source`, each built in one reused buffer, paced if `rate` says so.
pub async fn stream(job: &Job, source: u64, count: u64, mut send: impl AsyncFnMut(&[u8]) -> Outcome) -> Outcome {
    let mut body = vec![check::FILLING; job.bytes];
    if job.rate == 0 {
        for number in 0..count {
            check::stamp(&mut body, source, number);
            send(&body).await?;
        }
        return Ok(());
    }
    let mut pacer = Pacer::new(job);
    for number in 0..count {
        check::stamp(&mut body, source, number);
        pacer.wait();
        send(&body).await?;
    }
    Ok(())
}

/// Waits for the driver's stop, then prints the processor time used since `start`.
pub async fn report_sender(job: &Job, start: &Mark) -> Outcome {
    control::stop().await;
    let end = Mark::now();
    let (messages, seconds, cpu) = (job.count, start.seconds_to(&end), start.cpu_to(&end));
    control::result(&Figures { messages, seconds, cpu, ..Figures::default() });
    Ok(())
}

/// A PUSH or PUB that binds: opens the way to all its peers with uncounted messages, then sends `count` counted ones.
pub async fn distribute(job: &Job, mut send: impl AsyncFnMut(&[u8]) -> Outcome) -> Outcome {
    let mut body = vec![check::FILLING; job.bytes];
    check::stamp_warm_up(&mut body);
    control::bound();
    while !control::may_go() {
        send(&body).await?;
        control::pause(Duration::from_millis(1)).await;
    }
    push(job, send).await
}

/// REP: echoes every request through `serve`, which receives one message, shows it to the check and sends it back.
pub async fn rep(job: &Job, mut serve: impl AsyncFnMut(&mut Check) -> Outcome) -> Outcome {
    let mut check = Check::new(job, 1, Order::Complete, job.warmup + job.count);
    job.core.into_iter().for_each(clock::stay_on);
    control::bound();
    let start = Mark::now();
    while !check.complete() {
        serve(&mut check).await?;
    }
    report_sender(job, &start).await
}

/// REQ: times `count` round trips. `ask` sends the body, receives one message and shows it to the check.
pub async fn req(job: &Job, mut ask: impl AsyncFnMut(&[u8], &mut Check) -> Outcome) -> Outcome {
    let mut body = vec![check::FILLING; job.bytes];
    let mut check = Check::new(job, 1, Order::Complete, job.warmup + job.count);
    job.core.into_iter().for_each(clock::stay_on);
    let mut trips: Vec<u64> = Vec::with_capacity(usize::try_from(job.count)?);
    let mut start = Mark::now();
    for number in 0..job.warmup + job.count {
        if number == job.warmup {
            start = Mark::now();
        }
        check::stamp(&mut body, 0, number);
        let sent = Instant::now();
        ask(&body, &mut check).await?;
        if number >= job.warmup {
            trips.push(u64::try_from(sent.elapsed().as_nanos())?);
        }
    }
    let end = Mark::now();
    trips.sort_unstable();
    control::result(&Figures {
        messages: job.count,
        seconds: start.seconds_to(&end),
        cpu: start.cpu_to(&end),
        p50: percentile(&trips, 0.50),
        p99: percentile(&trips, 0.99),
        ..Figures::default()
    });
    control::stop().await;
    Ok(())
}

/// The check of a process with many PULL sockets on one PUSH.
pub fn pull_many_check(job: &Job) -> RefCell<Check> {
    RefCell::new(Check::new(job, job.peers, Order::Rising, job.count))
}

/// The check of a process with many SUB sockets on one PUB: each must see everything.
pub fn sub_many_check(job: &Job) -> RefCell<Check> {
    RefCell::new(Check::new(job, job.peers, Order::Complete, job.count * job.peers as u64))
}

/// The check of a process with many DEALER sockets on one ROUTER: each must see all its own messages come back.
pub fn dealer_many_check(job: &Job) -> RefCell<Check> {
    RefCell::new(Check::new(job, job.peers, Order::Complete, per_dealer(job) * job.peers as u64))
}

/// One PULL or SUB of many: receives for ever; its runner stops it when the check is complete.
pub async fn listen(check: &RefCell<Check>, mut recv: impl AsyncFnMut(&RefCell<Check>) -> Outcome) -> Outcome {
    while !check.borrow().complete() {
        recv(check).await?;
    }
    Ok(())
}

/// What a DEALER shall do next.
pub enum Step<'a> {
    /// Send a message built from this buffer.
    Send(&'a [u8]),
    /// Receive one message and show it to this check.
    Recv(&'a RefCell<Check>),
}

/// One DEALER of many: keeps `window` messages outstanding until all its messages came back.
pub async fn dealer(job: &Job, check: &RefCell<Check>, mut step: impl AsyncFnMut(Step<'_>) -> Outcome) -> Outcome {
    let mut body = vec![check::FILLING; job.bytes];
    let total = per_dealer(job);
    let ahead = job.window.min(total);
    for number in 0..ahead {
        check::stamp(&mut body, 0, number);
        step(Step::Send(&body)).await?;
    }
    for number in 0..total {
        step(Step::Recv(check)).await?;
        if number + ahead < total {
            check::stamp(&mut body, 0, number + ahead);
            step(Step::Send(&body)).await?;
        }
    }
    Ok(())
}

/// Prints the figures of a process with many receiving sockets and waits for the driver's stop.
pub async fn report_receivers(check: &RefCell<Check>) -> Outcome {
    control::result(&check.borrow().figures());
    control::stop().await;
    Ok(())
}

/// ROUTER: echoes `count` messages through `serve`, which receives one message and sends it back to its sender,
/// returning the length of its body.
pub async fn router(job: &Job, mut serve: impl AsyncFnMut() -> Outcome<usize>) -> Outcome {
    control::bound();
    let start = Mark::now();
    for _ in 0..per_dealer(job) * job.peers as u64 {
        let bytes = serve().await?;
        if bytes != job.bytes {
            return Err(format!("a message of {bytes} bytes instead of {}", job.bytes).into());
        }
    }
    report_sender(job, &start).await
}

/// ROUTER with idle connections: echoes one message of each, then reports the resident bytes each one cost.
pub async fn idle_router(job: &Job, mut serve: impl AsyncFnMut() -> Outcome<usize>) -> Outcome {
    control::bound();
    serve().await?;
    let before = clock::resident_bytes();
    for _ in 1..job.peers {
        serve().await?;
    }
    control::pause(Duration::from_millis(300)).await;
    let after = clock::resident_bytes();
    let connections = job.peers.saturating_sub(1).max(1);
    control::result(&Figures {
        messages: job.peers as u64,
        resident: (after as f64 - before as f64) / connections as f64,
        ..Figures::default()
    });
    control::stop().await;
    Ok(())
}

/// How many messages each DEALER sends so that all send the same number and `count` in all, rounded down.
pub fn per_dealer(job: &Job) -> u64 {
    (job.count / job.peers.max(1) as u64).max(1)
}

fn percentile(sorted: &[u64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * part).round() as usize;
    sorted.get(at).map_or(0.0, |nanos| *nanos as f64 / 1000.0)
}

/// Sleeps until the next message is due; after a late wake-up everything due goes out at once. With a tick it sleeps to
/// the end of the tick, and all messages due by then go out together.
struct Pacer {
    start: Instant,
    rate: u64,
    tick: Duration,
    sent: u64,
    due_now: u64,
}

impl Pacer {
    fn new(job: &Job) -> Pacer {
        clock::sharpen_sleep();
        Pacer { start: Instant::now(), rate: job.rate, tick: job.tick, sent: 0, due_now: 0 }
    }

    /// Returns when the next message may be sent.
    fn wait(&mut self) {
        while self.sent >= self.due_now {
            let next = Duration::from_nanos(self.sent * 1_000_000_000 / self.rate).max(self.tick);
            let elapsed = self.start.elapsed();
            if next > elapsed {
                std::thread::sleep((next - elapsed).max(self.tick));
            }
            let nanos = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.due_now = (nanos / 1000).saturating_mul(self.rate) / 1_000_000 + 1;
        }
        self.sent += 1;
    }
}
