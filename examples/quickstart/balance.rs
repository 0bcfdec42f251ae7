//! Part 4: jobs go to whoever is idle.
//!
//! One ROUTER serves customers (threads of its own process, over inproc) and worker processes (over tcp and ipc), all
//! of them DEALERs. A worker says when it is ready and gets one job at a time, so a quick one gets more of them. That
//! is load balancing by what the workers can do, where PUSH deals out in turn.

use crate::cast::Cast;
use crate::figures::{agree, grouped, rate, spread, times_from_bytes, times_to_bytes};
use crate::role::{Role, number, text};
use crate::{Outcome, Size};
use std::collections::{HashMap, VecDeque};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Context, Dealer, Message, Router, RoutingId};

const CUSTOMERS: usize = 2;
const WORKERS: usize = 4;
/// Jobs that a customer has under way at once.
const UNDER_WAY: u64 = 16;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn conduct(cast: &mut Cast, size: &Size) -> Outcome<usize> {
    let broker = cast.start("broker", 0, [WORKERS.to_string(), size.jobs.to_string()])?;
    let bound = cast.hear(&broker, "bound")?;
    let workers = (0..WORKERS)
        .map(|number| cast.start("worker", number, [text(bound.frame(number % 2))?]))
        .collect::<Outcome<Vec<_>>>()?;

    let report = cast.hear(&broker, "done")?;
    let took = Duration::from_nanos(number(report.frame(0))?);
    let mut times = times_from_bytes(report.frame(1).unwrap_or_default());
    let done = times.len() as u64;
    println!(
        "   {done} jobs in {took:.0?}, {}; from order to result: {}",
        rate(done, took, "jobs"),
        spread(&mut times)
    );
    cast.dismiss()?;
    let mut worked = 0;
    for (place, worker) in workers.iter().enumerate() {
        let did: u64 = number(cast.hear(worker, "did")?.frame(0))?;
        println!("   {worker}, whose jobs take {} µs and more, did {}", takes(place).as_micros(), grouped(did));
        worked += did;
    }
    cast.leave_stage()?;
    let ordered = CUSTOMERS as u64 * size.jobs;
    Ok(agree("right results received", done, ordered)? + agree("jobs done", worked, ordered)?)
}

/// The role of the broker: waits for the workers, then serves its customers.
pub(crate) fn share_out(role: &mut Role) -> Outcome {
    let (workers, jobs) = (role.number()?, role.number()?);
    let broker = Router::in_context(&role.context);
    let endpoints = role.bind(&broker, "jobs")?;
    broker.bind("inproc://jobs")?;
    role.report("bound", endpoints.iter().map(|endpoint| endpoint.as_str()))?;
    broker.wait_for_peers(usize::try_from(workers)?, PATIENCE)?;

    let start = Instant::now();
    let times = thread::scope(|threads| -> Outcome<Vec<Duration>> {
        let brokering = threads.spawn(|| serve_the_idle(&broker));
        let customers = [(); CUSTOMERS].map(|()| threads.spawn(|| order(&role.context, jobs)));
        let mut times = Vec::new();
        let mut outcome = Ok(());
        for customer in customers {
            match customer.join().map_err(|_| "a customer panicked")? {
                Ok(more) => times.extend(more),
                Err(error) => outcome = Err(error),
            }
        }
        broker.close();
        brokering.join().map_err(|_| "the broker panicked")??;
        outcome.map(|()| times)
    })?;
    let took = start.elapsed();
    role.report("done", [took.as_nanos().to_string().into_bytes(), times_to_bytes(&times)])?;
    role.wait_for_the_end()
}

/// Brings jobs and idle workers together, and results to customers, until the socket is closed.
fn serve_the_idle(broker: &Router) -> Outcome {
    let (mut idle, mut waiting) = (VecDeque::<RoutingId>::new(), VecDeque::<Message>::new());
    for received in broker {
        let (from, mut message) = received?;
        if message == "ready" {
            idle.push_back(from);
        } else if message.first() == b"result" {
            message.pop_front();
            let customer = message.pop_front().ok_or("a result names its customer")?;
            broker.send_to(customer, message)?;
            idle.push_back(from);
        } else {
            message.push_front(from);
            waiting.push_back(message);
        }
        while !idle.is_empty() && !waiting.is_empty() {
            if let (Some(worker), Some(job)) = (idle.pop_front(), waiting.pop_front()) {
                broker.send_to(worker, job)?;
            }
        }
    }
    Ok(())
}

/// One customer: orders jobs, several at once, checks the results, and says how long each took.
fn order(context: &Context, jobs: u64) -> Outcome<Vec<Duration>> {
    let customer = Dealer::in_context(context);
    customer.connect("inproc://jobs")?;
    let (mut under_way, mut ordered, mut times) = (HashMap::new(), 0, Vec::new());
    while times.len() < usize::try_from(jobs)? {
        while ordered < jobs && under_way.len() < UNDER_WAY as usize {
            ordered += 1;
            under_way.insert(ordered, Instant::now());
            customer.send(ordered.to_string())?;
        }
        let result = customer.recv_timeout(PATIENCE)?;
        let job: u64 = number(result.frame(0))?;
        let start = under_way.remove(&job).ok_or("a result for nothing ordered")?;
        times.push(start.elapsed());
        if number::<u64>(result.frame(1))? != digits(job) {
            return Err(format!("a wrong result for {job}: {result:?}").into());
        }
    }
    Ok(times)
}

/// The role of a worker: does one job at a time until the part is over.
pub(crate) fn work(role: &mut Role) -> Outcome {
    let worker = Dealer::builder().context(&role.context).routing_id(role.name.as_str()).build()?;
    let takes = takes(role.name.rsplit('-').next().unwrap_or_default().parse()?);
    worker.connect(role.text()?)?;
    worker.send("ready")?;
    let did = thread::scope(|threads| -> Outcome<u64> {
        let working = threads.spawn(|| do_jobs(&worker, takes));
        let over = role.wait_for_the_end();
        role.context.shutdown();
        over?;
        working.join().map_err(|_| "a worker panicked")?
    })?;
    role.report("did", [did.to_string()])
}

fn do_jobs(worker: &Dealer, takes: Duration) -> Outcome<u64> {
    let mut did = 0;
    for job in worker {
        let job = job?;
        let (customer, job) = (job.frame(0).unwrap_or_default(), number::<u64>(job.frame(1))?);
        thread::sleep(takes);
        let (job, result) = (job.to_string(), digits(job).to_string());
        worker.send([b"result", customer, job.as_bytes(), result.as_bytes()])?;
        did += 1;
    }
    Ok(did)
}

/// What is wanted of a job: the sum of its number's digits.
fn digits(mut job: u64) -> u64 {
    let mut sum = 0;
    while job > 0 {
        sum += job % 10;
        job /= 10;
    }
    sum
}

/// How slow a worker is, so that there is something to balance.
fn takes(worker: usize) -> Duration {
    Duration::from_micros(50) * (1 + 2 * worker as u32)
}
