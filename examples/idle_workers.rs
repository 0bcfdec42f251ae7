//! Work goes to whoever is idle: workers ask for it, and a quick one gets more than a slow one.
//!
//! Shows: why not PUSH. PUSH deals out in turn without looking who is busy, and queues for each peer in advance. Here
//! each worker is a DEALER that says "ready" when it is, and a ROUTER answers each "ready" with one task.
//!
//! Run it with `cargo run --example idle_workers`.

use std::thread;
use std::time::Duration;
use wiremesh::{Context, Dealer, Router};

const TASKS: u32 = 200;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Error> {
    let context = Context::new();
    let boss = Router::in_context(&context);
    let endpoint = boss.bind("tcp://127.0.0.1:*")?;
    let paces = [1, 4].map(Duration::from_millis);
    thread::scope(|threads| {
        let (context, endpoint) = (&context, endpoint.as_str());
        let workers = paces.map(|pace| threads.spawn(move || work(context, endpoint, pace)));
        for task in 0..TASKS {
            let (idle, _ready) = boss.recv()?;
            boss.send_to(idle, task.to_le_bytes())?;
        }
        // Who asks once more hears that it is over.
        for _ in &paces {
            let (idle, _ready) = boss.recv()?;
            boss.send_to(idle, "")?;
        }
        let [quick, slow] = workers.map(|worker| worker.join().expect("a worker does not panic"));
        let (quick, slow) = (quick?, slow?);
        println!("the quick worker did {quick} tasks, the slow one {slow}");
        assert_eq!(quick + slow, TASKS);
        assert!(quick > slow, "whoever is idle gets the work");
        Ok(())
    })
}

/// Asks for tasks until there are no more, and says how many there were.
fn work(context: &Context, boss: &str, pace: Duration) -> Result<u32, Error> {
    let worker = Dealer::in_context(context);
    worker.connect(boss)?;
    let mut did = 0;
    loop {
        worker.send("ready")?;
        if worker.recv()? == "" {
            return Ok(did);
        }
        thread::sleep(pace);
        did += 1;
    }
}
