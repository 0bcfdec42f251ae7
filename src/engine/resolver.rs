//! Looks names up off the engine thread: a name server that does not answer must not keep any socket waiting.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A few helper threads, started when needed and gone when idle.
#[derive(Clone, Default)]
pub(crate) struct Resolver(Arc<Shared>);

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

type Job = Box<dyn FnOnce() + Send>;

/// More look-ups than this at once wait for one another.
const THREADS: usize = 4;
/// A helper without work ends after this time.
const IDLE: Duration = Duration::from_secs(2);

impl Resolver {
    /// Runs `job` on a helper thread. When no thread can be had, it runs here: late is better than never.
    pub(crate) fn submit(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.jobs.push_back(Box::new(job));
        if state.idle >= state.jobs.len() || state.threads >= THREADS {
            drop(state);
            self.0.work.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = Arc::clone(&self.0);
        let spawned = std::thread::Builder::new().name("wiremesh-resolve".to_owned()).spawn(move || shared.work());
        if spawned.is_err() {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.threads -= 1;
            let orphan = if state.threads == 0 { state.jobs.pop_front() } else { None };
            drop(state);
            if let Some(job) = orphan {
                job();
            }
        }
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
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
            resolver.submit(move || done.send(job).expect("the test waits"));
        }
        let mut seen: Vec<usize> = results.iter().take(3 * THREADS).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..3 * THREADS).collect::<Vec<_>>());
    }
}
