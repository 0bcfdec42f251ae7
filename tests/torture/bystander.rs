//! A pair of sockets beside all others that only wants to be served: its worst wait is what the others cost it.

use crate::support::measure::Lateness;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use wiremesh::{Context, Dealer, Message, RecvError};

/// Two DEALERs that exchange one message after the other.
pub(crate) struct Bystander {
    ends: Arc<AtomicBool>,
    rests: Arc<AtomicBool>,
    worst: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

/// A round that takes longer is not waited for.
const LIMIT: Duration = Duration::from_secs(30);
/// Now and then a message is as long as this, so that it does not fit into what every socket has for itself.
const LONG: usize = 300_000;

impl Bystander {
    pub(crate) fn start(context: &Context) -> Bystander {
        let (ends, rests, worst) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (here, there) = (Dealer::in_context(context), Dealer::in_context(context));
        let endpoint = here.bind("tcp://127.0.0.1:*").expect("bound");
        there.connect(&endpoint).expect("a good endpoint");
        let echo = thread::spawn({
            let ends = Arc::clone(&ends);
            move || {
                while !ends.load(Ordering::SeqCst) {
                    match there.recv_timeout(Duration::from_millis(500)) {
                        // Its partner has given up on it if this takes too long.
                        Ok(message) => drop(there.send_timeout(message, LIMIT)),
                        Err(RecvError::TimedOut) => {}
                        Err(error) => panic!("the bystander's echo: {error}"),
                    }
                }
            }
        });
        let asks = thread::spawn({
            let (ends, rests, worst) = (Arc::clone(&ends), Arc::clone(&rests), Arc::clone(&worst));
            move || {
                here.wait_for_peers(1, LIMIT).expect("the bystander's other half");
                let mut round = 0;
                while !ends.load(Ordering::SeqCst) {
                    if !rests.load(Ordering::SeqCst) {
                        round += 1;
                        let octets = if round % 16 == 0 { LONG } else { 20 };
                        let waited = exchange(&here, octets);
                        worst.fetch_max(waited.as_micros() as u64, Ordering::SeqCst);
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            }
        });
        Bystander { ends, rests, worst, threads: vec![asks, echo] }
    }

    pub(crate) fn rest(&self) {
        self.rests.store(true, Ordering::SeqCst);
    }

    /// The longest that an exchange took.
    pub(crate) fn worst(&self) -> Duration {
        Duration::from_micros(self.worst.load(Ordering::SeqCst))
    }
}

/// How long a message there and back takes; what takes too long counts as its limit.
fn exchange(socket: &Dealer, octets: usize) -> Duration {
    let begin = Instant::now();
    if socket.send_timeout(Message::from(vec![7; octets]), LIMIT).is_ok() {
        while begin.elapsed() < LIMIT && socket.recv_timeout(LIMIT.saturating_sub(begin.elapsed())).is_err() {}
    }
    begin.elapsed()
}

/// What a bystander may wait where a thread that only sleeps was so late.
pub(crate) fn bound(lateness: &Lateness, since: Instant) -> Duration {
    Duration::from_secs(2) + lateness.since(since) * 20
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            if !thread::panicking() {
                ended.expect("the bystander's threads do not panic");
            }
        }
    }
}
