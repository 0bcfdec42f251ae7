//! A server that was gone for a second: its clients are back soon, and do not come all at once.

use crate::support::measure::limit_descriptors;
use crate::support::{PATIENCE, alone, is_full};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use wiremesh::{Context, Event, EventKind, Pub, Sub};

const CLIENTS: usize = 1000;
const OUTAGE: Duration = Duration::from_secs(1);
/// No more than `CROWD` clients may come within this time.
const WINDOW: Duration = Duration::from_millis(100);
const CROWD: usize = CLIENTS / 5;
/// By when half of them are back, and by when all.
const HALF: Duration = Duration::from_millis(500);
const ALL: Duration = Duration::from_millis(1500);

/// How late a thread of this process was that wanted to run once a millisecond: what the machine adds to any time that is measured here.
struct Lateness {
    done: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Lateness {
    fn measure() -> Lateness {
        const STEP: Duration = Duration::from_millis(1);
        let done = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let done = Arc::clone(&done);
            move || {
                let mut worst = Duration::ZERO;
                while !done.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    thread::sleep(STEP);
                    worst = worst.max(begin.elapsed() - STEP);
                }
                worst
            }
        });
        Lateness { done, thread }
    }

    fn worst(self) -> Duration {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only sleeps")
    }
}

/// When clients of a server were back, in order, from when it was.
struct Comeback {
    accepted: Vec<Duration>,
    ready: Vec<Duration>,
    late: Duration,
}

impl Comeback {
    /// Waits for all clients, by what the server is told.
    fn seen_by(server: &Pub, begin: Instant, mut next: impl FnMut() -> Option<Event>) -> Comeback {
        let lateness = Lateness::measure();
        let (mut accepted, mut ready) = (Vec::new(), Vec::new());
        while ready.len() < CLIENTS {
            let event = next().unwrap_or_else(|| panic!("{} of {CLIENTS} are back: {:?}", ready.len(), server.stats()));
            match event.kind {
                EventKind::Accepted => accepted.push(begin.elapsed()),
                EventKind::HandshakeSucceeded => ready.push(begin.elapsed()),
                _ => {}
            }
        }
        Comeback { accepted, ready, late: lateness.worst() }
    }

    /// The most that came within that time.
    fn crowd(&self, window: Duration) -> usize {
        let within =
            |(first, at): (usize, &Duration)| self.accepted[first..].partition_point(|other| *other < *at + window);
        self.accepted.iter().enumerate().map(within).max().unwrap_or(0)
    }

    fn judge(&self) {
        let Comeback { ready, late, .. } = self;
        let (half, all) = (ready[CLIENTS / 2], ready[CLIENTS - 1]);
        let crowd = self.crowd(WINDOW);
        println!(
            "half after {half:?}, all after {all:?}, at most {crowd} within {WINDOW:?}; the machine was {late:?} late"
        );
        assert!(half <= HALF + *late, "half of them are back after {half:?}; the machine was {late:?} late");
        assert!(all <= ALL + *late, "all of them are back after {all:?}; the machine was {late:?} late");
        // Those that were due while the machine stood still come together afterwards.
        let due = WINDOW + *late;
        let allowed = CROWD as f64 * due.as_secs_f64() / WINDOW.as_secs_f64();
        assert!(crowd as f64 <= allowed, "{crowd} came within {WINDOW:?}; the machine was {late:?} late");
    }
}

/// A publisher goes and comes back at the same address, again and again: after each return its subscribers have been heard by it and have
/// heard of it, so that the next loss is the first of its kind for them.
#[test]
fn a_thousand_clients_of_a_server_that_was_gone_for_a_second_are_back_soon_and_not_all_at_once() {
    let _turn = alone();
    limit_descriptors(u64::MAX);
    let contexts = [(); 4].map(|()| Context::new());
    let subs: Vec<Sub> = (0..CLIENTS)
        .map(|number| {
            let sub = Sub::in_context(&contexts[number % contexts.len()]);
            sub.subscribe("").expect("open");
            sub
        })
        .collect();
    let mut server = Pub::in_context(&Context::new());
    let endpoint = server.bind("tcp://127.0.0.1:*").expect("bound");
    subs.iter().for_each(|sub| drop(sub.connect(&endpoint).expect("good")));
    for round in 0..if is_full() { 10 } else { 2_u32 } {
        server.wait_for_subscribers(CLIENTS, PATIENCE).expect("all of them");
        server.send(round.to_be_bytes().to_vec()).expect("accepted");
        for sub in &subs {
            assert_eq!(sub.recv_timeout(PATIENCE).expect("a message"), &round.to_be_bytes()[..]);
        }
        server.close();
        let gone = Instant::now();
        server = Pub::in_context(&Context::new());
        let monitor = server.monitor();
        thread::sleep(OUTAGE.saturating_sub(gone.elapsed()));
        server.bind(&endpoint).expect("its address is free");
        let begin = Instant::now();
        Comeback::seen_by(&server, begin, || monitor.recv_timeout(PATIENCE)).judge();
    }
}
