//! A ventilator deals out tasks, workers do them, a sink collects the results: PUSH and PULL, twice.
//!
//! Shows: tasks go to the workers in turn, results come in fairly from all of them; nothing is dropped, a full peer
//! makes the sender wait. Here the three parts are threads joined by inproc; with `tcp://…` they are processes.
//!
//! Run it with `cargo run --example task_pipeline`.

use std::time::Duration;
use wiremesh::{Context, Pull, Push};

const TASKS: u64 = 10_000;
const WORKERS: usize = 3;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Error> {
    let context = Context::new();
    let ventilator = Push::in_context(&context);
    let sink = Pull::in_context(&context);
    ventilator.bind("inproc://tasks")?;
    sink.bind("inproc://results")?;

    std::thread::scope(|threads| {
        let workers: Vec<_> = (0..WORKERS).map(|_| threads.spawn(|| work(&context))).collect();
        // Else the first to come might do them all.
        ventilator.wait_for_peers(WORKERS, Duration::from_secs(5))?;
        threads.spawn(|| ventilator.send_many((1..=TASKS).map(|task| task.to_string())));

        let mut sum = 0;
        for _ in 0..TASKS {
            sum += sink.recv()?.to_str()?.parse::<u64>()?;
        }
        // Every blocked call of every socket in the context returns.
        context.shutdown();

        for (number, worker) in workers.into_iter().enumerate() {
            println!("worker {number} did {} tasks", worker.join().expect("a worker does not panic")?);
        }
        println!("the squares from 1 to {TASKS} make {sum}");
        assert_eq!(sum, TASKS * (TASKS + 1) * (2 * TASKS + 1) / 6);
        Ok(())
    })
}

/// Squares numbers until the context is shut down, and says how many.
fn work(context: &Context) -> Result<usize, Error> {
    let (tasks, results) = (Pull::in_context(context), Push::in_context(context));
    results.connect("inproc://results")?;
    tasks.connect("inproc://tasks")?;
    let mut done = 0;
    for task in &tasks {
        let number: u64 = task?.to_str()?.parse()?;
        results.send((number * number).to_string())?;
        done += 1;
    }
    Ok(done)
}
