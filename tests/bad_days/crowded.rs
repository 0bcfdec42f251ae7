//! Others take all processors.

use crate::support::{PATIENCE, alone, median, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Context, Pull, Push};

/// Less than anybody keeps a processor for whom it is taken from by the clock alone.
const GIVEN_UP: Duration = Duration::from_millis(1);
const ROUNDS: usize = 60;

/// Whoever wakes up comes before those who compute, if it does not give its turn away. So a burst is not much later
/// than a message. Programs beside this one make single comparisons worthless; a turn given away costs as much in each
/// of them.
#[test]
fn a_burst_is_written_at_once_where_others_compute_on_all_processors() {
    let _turn = alone();
    within(PATIENCE, "the bursts", || {
        let over = Arc::new(AtomicBool::new(false));
        let others = thread::available_parallelism().map_or(1, usize::from);
        let others: Vec<_> = (0..others)
            .map(|_| {
                let over = Arc::clone(&over);
                thread::spawn(move || while !over.load(Ordering::Relaxed) {})
            })
            .collect();
        let (push, pull) = (Push::in_context(&Context::new()), Pull::in_context(&Context::new()));
        push.connect(pull.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
        let exchange = |messages: usize| {
            // Until both sides are at rest.
            thread::sleep(Duration::from_millis(2));
            let begin = Instant::now();
            for _ in 0..messages {
                push.send("x").expect("there is room");
            }
            for _ in 0..messages {
                pull.recv().expect("it comes");
            }
            begin.elapsed()
        };
        let compared = || {
            // In turn, so that whatever else goes on meets both.
            let (messages, bursts): (Vec<_>, Vec<_>) = (0..ROUNDS).map(|_| (exchange(1), exchange(20))).unzip();
            let (message, burst) = (median(&messages), median(&bursts));
            println!("{message:?} for a message, {burst:?} for a burst");
            burst <= message + GIVEN_UP
        };
        let is_at_once = (0..5).any(|_| compared());
        over.store(true, Ordering::Relaxed);
        for other in others {
            other.join().expect("no panic");
        }
        assert!(is_at_once, "a burst is later than a message");
    });
}
