//! How far apart two cores are: the time of a round trip of one cache line between them.
//!
//! Virtual machines are moved between physical cores, and figures of two threads that talk to each other differ up to
//! fivefold between cores that share a cache and cores that do not.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::clock::stay_on;

/// Round trips timed together, and how often: a few milliseconds in all, and a batch that was interrupted does not
/// count.
const TRIPS: u32 = 1000;
const BATCHES: u32 = 15;

/// The line that is bounced, alone in its memory.
#[repr(align(128))]
struct Line(AtomicU32);

/// Nanoseconds of a round trip between the first two cores, the median of several batches; nothing where there is one
/// core only.
pub fn round_trip_nanos() -> Option<f64> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return None;
    }
    let line = Line(AtomicU32::new(0));
    let rounds = TRIPS * BATCHES;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stay_on(1);
            for round in 0..rounds {
                wait_for(&line, 2 * round + 1);
                line.0.store(2 * round + 2, Ordering::Release);
            }
        });
        // On a thread of its own, as the caller is not to stay on its core.
        let asked = scope.spawn(|| {
            stay_on(0);
            let mut batches = Vec::new();
            for batch in 0..BATCHES {
                let started = Instant::now();
                for round in batch * TRIPS..(batch + 1) * TRIPS {
                    line.0.store(2 * round + 1, Ordering::Release);
                    wait_for(&line, 2 * round + 2);
                }
                batches.push(started.elapsed().as_secs_f64() * 1e9 / f64::from(TRIPS));
            }
            batches.sort_by(f64::total_cmp);
            batches[batches.len() / 2]
        });
        asked.join().ok()
    })
}

fn wait_for(line: &Line, value: u32) {
    while line.0.load(Ordering::Acquire) != value {
        spin_loop();
    }
}
