//! Looks names up off the engine thread: a name server that does not answer must not keep any socket waiting.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A few helper threads, started when needed and gone when idle.
#[derive(Clone)]
pub(crate) struct Resolver {
    shared: Arc<Shared>,
    start: fn(Work) -> io::Result<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

/// A look-up, told whether there is a thread for it.
type Job = Box<dyn FnOnce(io::Result<()>) + Send>;
/// What a helper does.
type Work = Box<dyn FnOnce() + Send>;

/// More look-ups than this at once wait for one another.
const THREADS: usize = 4;
/// A helper without work ends after this time.
const IDLE: Duration = Duration::from_secs(2);

impl Default for Resolver {
    fn default() -> Resolver {
        let start = |work| thread::Builder::new().name("wiremesh-resolve".to_owned()).spawn(work).map(drop);
        Resolver { shared: Arc::default(), start }
    }
}

impl Resolver {
    /// Runs `job` on a helper thread. If none can be had it is told so here, at once, and must not look anything up then.
    pub(crate) fn submit(&self, job: impl FnOnce(io::Result<()>) + Send + 'static) {
        let mut state = self.shared.lock();
        state.jobs.push_back(Box::new(job));
        if state.idle >= state.jobs.len() || state.threads >= THREADS {
            drop(state);
            self.shared.work.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = Arc::clone(&self.shared);
        if let Err(error) = (self.start)(Box::new(move || shared.work())) {
            let mut state = self.shared.lock();
            state.threads -= 1;
            // Those that relied on this helper have nobody either.
            let orphans = if state.threads == 0 { std::mem::take(&mut state.jobs) } else { VecDeque::new() };
            drop(state);
            for job in orphans {
                job(Err(io::Error::new(error.kind(), format!("no thread to look the name up: {error}"))));
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            while let Some(job) = state.jobs.pop_front() {
                drop(state);
                job(Ok(()));
                state = self.lock();
            }
            state.idle += 1;
            let (woken, timeout) = self.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn every_job_is_run_even_when_there_are_more_than_threads() {
        let resolver = Resolver::default();
        let (done, results) = mpsc::channel();
        for job in 0..3 * THREADS {
            let done = done.clone();
            resolver.submit(move |ready| {
                ready.expect("there are threads");
                done.send(job).expect("the test waits");
            });
        }
        let mut seen: Vec<usize> = results.iter().take(3 * THREADS).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..3 * THREADS).collect::<Vec<_>>());
    }

    #[test]
    fn a_job_for_which_there_is_no_thread_is_told_so() {
        let resolver = Resolver { shared: Arc::default(), start: |_| Err(io::Error::from(io::ErrorKind::WouldBlock)) };
        for _ in 0..2 * THREADS {
            let (done, results) = mpsc::channel();
            resolver.submit(move |ready| done.send(ready.map_err(|error| error.kind())).expect("the test waits"));
            assert_eq!(results.try_recv(), Ok(Err(io::ErrorKind::WouldBlock)));
        }
    }
}
