//! Looks names up off the engine thread: a name server that does not answer must keep no socket waiting, nor another
//! name.
//!
//! A look-up blocks its thread for as long as a server takes, and nothing can end it. So each name has a thread of its
//! own, however many sockets ask for it. Threads are bounded, and part of them is kept from names whose last look-up
//! was slow: those that are dead and asked for again and again never take the threads of names that are quick, or new.

use super::inside;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Helper threads, started when needed and gone when idle.
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
    /// Look-ups without a thread yet, those of slow names apart.
    quick: VecDeque<Job>,
    slow: VecDeque<Job>,
    /// Who waits for each name that is being looked up, or is to be.
    asked: HashMap<Name, Vec<Answer>>,
    /// Names whose last look-up was slow.
    known_slow: HashSet<Name>,
    /// How many look-ups of such names are under way.
    slow_busy: usize,
    threads: usize,
    idle: usize,
}

/// What is looked up: two that are equal have the same answer.
pub(crate) type Name = Arc<str>;
type Addresses = io::Result<Vec<String>>;
type Answer = Box<dyn FnOnce(Addresses) + Send>;
/// What a helper does.
type Work = Box<dyn FnOnce() + Send>;

struct Job {
    name: Name,
    look_up: Box<dyn FnOnce() -> Addresses + Send>,
}

/// More names than this at once wait for one another.
const THREADS: usize = 256;
/// So many of them at most look up names that were slow.
const SLOW_THREADS: usize = THREADS - 64;
/// A look-up that took so long was slow: a server that answers takes less.
const SLOW: Duration = Duration::from_secs(1);
/// So many names are remembered to be slow.
const KNOWN: usize = 4096;
/// A helper without work ends after this time.
const IDLE: Duration = Duration::from_secs(2);

impl Default for Resolver {
    fn default() -> Resolver {
        let start = |work| thread::Builder::new().name("wiremesh-resolve".to_owned()).spawn(work).map(drop);
        Resolver { shared: Arc::default(), start }
    }
}

impl Resolver {
    /// Looks a name up on a helper thread and hands the answer to `answer` there. If the name is being looked up, that
    /// answer is taken. If no thread can be had, the answer is that, here and at once.
    pub(crate) fn submit(
        &self,
        name: Name,
        look_up: impl FnOnce() -> Addresses + Send + 'static,
        answer: impl FnOnce(Addresses) + Send + 'static,
    ) {
        let mut state = self.shared.lock();
        if let Some(others) = state.asked.get_mut(&name) {
            others.push(Box::new(answer));
            return;
        }
        state.asked.insert(Arc::clone(&name), vec![Box::new(answer)]);
        let job = Job { name: Arc::clone(&name), look_up: Box::new(look_up) };
        let queue = if state.known_slow.contains(&name) { &mut state.slow } else { &mut state.quick };
        queue.push_back(job);
        if state.idle >= state.due() || state.threads >= THREADS {
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
            // It does not wait for the thread of another name, unless that has just taken it.
            let queued = state.quick.len() + state.slow.len();
            state.quick.retain(|job| job.name != name);
            state.slow.retain(|job| job.name != name);
            let refused = state.quick.len() + state.slow.len() < queued;
            let answers = if refused { state.asked.remove(&name) } else { None };
            drop(state);
            let text = format!("no thread to look the name up: {error}");
            give(answers.unwrap_or_default(), Err(io::Error::new(error.kind(), text)));
        }
    }
}

impl State {
    /// How many look-ups could go on if there were threads for them.
    fn due(&self) -> usize {
        self.quick.len() + self.slow.len().min(SLOW_THREADS.saturating_sub(self.slow_busy))
    }

    /// The next look-up, and whether its name was slow.
    fn next(&mut self) -> Option<(Job, bool)> {
        if let Some(job) = self.quick.pop_front() {
            return Some((job, false));
        }
        let job = if self.slow_busy < SLOW_THREADS { self.slow.pop_front() } else { None };
        self.slow_busy += usize::from(job.is_some());
        job.map(|job| (job, true))
    }

    /// A look-up is done; who waited for it.
    fn finish(&mut self, name: &Name, was_slow: bool, took: Duration) -> Vec<Answer> {
        self.slow_busy -= usize::from(was_slow);
        if took < SLOW {
            self.known_slow.remove(name);
        } else if self.known_slow.len() < KNOWN {
            self.known_slow.insert(Arc::clone(name));
        }
        self.asked.remove(name).unwrap_or_default()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        // A socket that ends may wait for the name that is looked up here.
        inside::enter();
        let mut state = self.lock();
        loop {
            while let Some((job, slow)) = state.next() {
                drop(state);
                let begin = Instant::now();
                let addresses = (job.look_up)();
                let answers = self.lock().finish(&job.name, slow, begin.elapsed());
                give(answers, addresses);
                state = self.lock();
            }
            state.idle += 1;
            let (woken, timeout) = self.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.due() == 0 {
                state.threads -= 1;
                return;
            }
        }
    }
}

/// Hands an answer to all who wait for it.
fn give(answers: Vec<Answer>, addresses: Addresses) {
    for answer in answers {
        answer(match &addresses {
            Ok(addresses) => Ok(addresses.clone()),
            Err(error) => Err(match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            }),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn name(number: usize) -> Name {
        number.to_string().into()
    }

    #[test]
    fn every_name_is_looked_up_even_when_there_are_more_than_threads() {
        let resolver = Resolver::default();
        let (done, results) = mpsc::channel();
        for number in 0..3 * THREADS {
            let done = done.clone();
            let answer =
                move |addresses: Addresses| done.send(addresses.expect("there are threads")).expect("the test waits");
            resolver.submit(name(number), move || Ok(vec![number.to_string()]), answer);
        }
        let mut seen: Vec<usize> =
            results.iter().take(3 * THREADS).map(|addresses| addresses[0].parse().expect("a number")).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..3 * THREADS).collect::<Vec<_>>());
        assert!(resolver.shared.lock().threads <= THREADS);
    }

    #[test]
    fn a_name_for_which_there_is_no_thread_is_told_so() {
        let resolver = Resolver { shared: Arc::default(), start: |_| Err(io::Error::from(io::ErrorKind::WouldBlock)) };
        for number in 0..10 {
            let (done, results) = mpsc::channel();
            let answer = move |addresses: Addresses| {
                done.send(addresses.map_err(|error| error.kind())).expect("the test waits");
            };
            resolver.submit(name(number), || Ok(Vec::new()), answer);
            assert_eq!(results.try_recv(), Ok(Err(io::ErrorKind::WouldBlock)));
        }
    }

    #[test]
    fn a_name_is_looked_up_once_for_all_who_ask_meanwhile() {
        let resolver = Resolver::default();
        let (go, wait) = mpsc::channel::<()>();
        let (done, results) = mpsc::channel();
        let mut wait = Some(wait);
        for _ in 0..100 {
            let (wait, done) = (wait.take(), done.clone());
            let look_up = move || {
                let wait = wait.ok_or(io::ErrorKind::AlreadyExists)?;
                let _ = wait.recv();
                Ok(vec!["there".to_owned()])
            };
            resolver.submit(name(7), look_up, move |addresses| done.send(addresses.is_ok()).expect("the test waits"));
        }
        assert_eq!(resolver.shared.lock().threads, 1);
        go.send(()).expect("it waits");
        assert_eq!(results.iter().take(100).filter(|good| *good).count(), 100);
    }

    #[test]
    fn names_known_to_be_slow_leave_threads_to_others() {
        let mut state = State::default();
        let add = |state: &mut State, number: usize, slow: bool| {
            let job = Job { name: name(number), look_up: Box::new(|| Ok(Vec::new())) };
            if slow { state.slow.push_back(job) } else { state.quick.push_back(job) }
        };
        (0..2 * THREADS).for_each(|number| add(&mut state, number, true));
        let taken = std::iter::from_fn(|| state.next()).count();
        assert_eq!((taken, state.due()), (SLOW_THREADS, 0));
        add(&mut state, 0, false);
        assert!(state.due() == 1 && state.next().is_some_and(|(_, slow)| !slow));
        state.finish(&name(1), true, SLOW);
        assert!(state.known_slow.contains(&name(1)) && state.due() == 1, "the next slow one has its turn");
        state.finish(&name(1), true, Duration::ZERO);
        assert!(state.known_slow.is_empty());
    }
}
