//! The engine threads: each drives the reactors that no caller drives, through one poll in which theirs are nested.

use super::Host;
use super::contain::contain;
use super::inside;
use super::lease::{Check, NEVER};
use super::port::{Command, Turn};
use super::reactor::PREFIX_SHIFT;
use super::resolver::Resolver;
use super::shortage::{Promise, Returns, is_shortage};
use super::spares;
use crate::slab::{Key, Slab};
use mio::{Events, Poll, Registry, Token, Waker};
use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wiremesh_transports::sys::{NESTING, Nest, set_thread_affinity, thread_number};
use wiremesh_transports::{Listener, Spare};

/// How engine threads are set up.
#[derive(Clone, Debug)]
pub(crate) struct EngineOptions {
    pub(crate) threads: usize,
    pub(crate) name: String,
    pub(crate) affinity: Vec<usize>,
    /// Callers never drive: what platforms without nested polls do, and a test of it elsewhere.
    pub(crate) engine_only: bool,
}

impl EngineOptions {
    /// Keeps the calling thread, one of the engine's, on the processors it may run on.
    fn bind_thread(&self) -> io::Result<()> {
        if self.affinity.is_empty() {
            return Ok(());
        }
        set_thread_affinity(&self.affinity)
            .map_err(|error| io::Error::new(error.kind(), format!("thread_affinity {:?}: {error}", self.affinity)))
    }
}

/// The engine of a context.
pub(crate) struct Engine {
    options: EngineOptions,
    base: Instant,
    hosts: Mutex<Slab<Arc<dyn Host>>>,
    started: Mutex<bool>,
    workers: OnceLock<Vec<Worker>>,
    resolver: Resolver,
    /// Kept for the moment when descriptors run out.
    reserve: Mutex<Option<Spare>>,
    /// What closed sockets are about to give back.
    returns: Arc<Returns>,
    /// The first thread looks at what threads keep for their next reads, or has been asked to.
    sees_to_spares: AtomicBool,
    /// The process ends: the first thread is to close all sockets, once.
    process_ends: AtomicBool,
}

/// What others see of one engine thread.
struct Worker {
    registry: Arc<Registry>,
    waker: Waker,
    /// Somebody calls for it whom it has not seen yet: a turn ends with the step it is at. Only what wakes a reactor's
    /// poll in the very moment in which the thread comes back from its own may wait for a whole turn.
    called: AtomicBool,
    inbox: Mutex<Inbox>,
    /// Its [`thread_number`]; 0 before it runs.
    thread: AtomicU64,
    handle: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Inbox {
    /// Sockets somebody called for.
    calls: Vec<usize>,
    /// Sockets whose seat is leased to a caller.
    leased: Vec<usize>,
    stop: bool,
    /// The thread has been woken and has not looked yet.
    rung: bool,
}

const WAKER: Token = Token(usize::MAX);

impl Engine {
    pub(crate) fn new(options: EngineOptions) -> Arc<Engine> {
        Arc::new(Engine {
            options,
            base: Instant::now(),
            hosts: Mutex::new(Slab::new()),
            started: Mutex::new(false),
            workers: OnceLock::new(),
            resolver: Resolver::default(),
            reserve: Mutex::new(None),
            returns: Arc::default(),
            sees_to_spares: AtomicBool::new(false),
            process_ends: AtomicBool::new(false),
        })
    }

    /// Whether reactors have polls of their own that callers may drive.
    pub(crate) fn nests(&self) -> bool {
        NESTING && !self.options.engine_only
    }

    /// How many threads it has, or will have once it is started.
    pub(crate) fn threads(&self) -> usize {
        self.options.threads.max(1)
    }

    pub(crate) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Starts the threads, once.
    ///
    /// # Errors
    /// What the system said: no descriptors, no threads.
    pub(crate) fn start(self: &Arc<Engine>) -> io::Result<()> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if *started {
            return Ok(());
        }
        let mut workers = Vec::new();
        let mut polls = Vec::new();
        for _ in 0..self.threads() {
            let poll = Poll::new()?;
            workers.push(Worker::new(&poll)?);
            polls.push(poll);
        }
        let mut handles = Vec::new();
        let (go, ready) = mpsc::channel::<()>();
        let ready = Arc::new(Mutex::new(ready));
        let (tell, bound) = mpsc::channel();
        for (index, poll) in polls.into_iter().enumerate() {
            let (engine, ready, tell) = (Arc::clone(self), Arc::clone(&ready), tell.clone());
            let name = format!("{}-{index}", self.options.name);
            let spawned = std::thread::Builder::new().name(name).spawn(move || {
                let _ = tell.send(engine.options.bind_thread());
                drop(tell);
                // An error means that another thread could not be started, and the engine is not either.
                let released = ready.lock().unwrap_or_else(PoisonError::into_inner).recv().is_ok();
                if released {
                    Loop::new(engine, index, poll).run();
                }
            });
            handles.push(spawned?);
        }
        drop(tell);
        bound.iter().collect::<io::Result<()>>()?;
        for (worker, handle) in workers.iter().zip(handles) {
            *worker.handle.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
        }
        let count = workers.len();
        // The threads find themselves in there, so they are released after it.
        let _ = self.workers.set(workers);
        for _ in 0..count {
            let _ = go.send(());
        }
        *started = true;
        Ok(())
    }

    /// Has an engine thread close all sockets because the process ends; `false` if there is no thread, or this is one
    /// of them. Takes no lock, as the calling thread may hold any.
    pub(crate) fn process_ends(&self) -> bool {
        let Some(workers) = self.workers.get() else { return false };
        let here = thread_number();
        if workers.iter().any(|worker| worker.thread.load(Ordering::SeqCst) == here) {
            return false;
        }
        self.process_ends.store(true, Ordering::SeqCst);
        workers.first().is_some_and(|worker| worker.waker.wake().is_ok())
    }

    fn close_sockets(&self) {
        let hosts: Vec<Arc<dyn Host>> = self.hosts().iter().map(|(_, host)| Arc::clone(host)).collect();
        // None of them is to see another go.
        hosts.iter().for_each(|host| host.bar());
        for host in hosts {
            // A panic, as of a transport, keeps no other socket from being closed.
            let _ = contain(|| host.close());
        }
    }

    /// Stops the threads and waits for them. Sockets that are still adopted are let go.
    pub(crate) fn stop(&self) {
        for worker in self.workers.get().into_iter().flatten() {
            worker.lock().stop = true;
            let _ = worker.waker.wake();
        }
        for worker in self.workers.get().into_iter().flatten() {
            let handle = worker.handle.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(handle) = handle.filter(|handle| handle.thread().id() != std::thread::current().id()) {
                // A panic of the engine has been seen to where it happened.
                let _ = handle.join();
            }
        }
        let hosts = std::mem::replace(&mut *self.hosts(), Slab::new());
        drop(hosts);
        // No thread of this engine looks any more, and others may have no reason to. What a thread still uses it takes
        // anew.
        spares::free_unused(Instant::now(), Duration::ZERO);
    }

    /// Takes a socket in and gives it a number, which names the thread that is to drive it: one of those whose bits
    /// `affinity` has, if any, in turn.
    pub(crate) fn adopt(&self, host: Arc<dyn Host>, affinity: u64) -> usize {
        let key = self.hosts().insert(host);
        number(key, choose(key.index as usize, self.threads(), affinity))
    }

    /// Lets a socket go.
    pub(crate) fn release(&self, number: usize) {
        let host = self.hosts().remove(key(number));
        drop(host);
    }

    pub(crate) fn host(&self, number: usize) -> Option<Arc<dyn Host>> {
        self.hosts().get(key(number)).map(Arc::clone)
    }

    /// Nests a reactor's poll in that of the thread that is to drive it.
    pub(crate) fn nest(&self, poll: &Poll, number: usize) -> io::Result<Nest> {
        let worker = self.worker(number).ok_or(io::ErrorKind::NotConnected)?;
        let nest = Nest::attach(&worker.registry, poll, Token(number & PLACE))?;
        nest.arm()?;
        Ok(nest)
    }

    /// Sees to it that there is a descriptor in reserve, one for all listeners.
    pub(crate) fn hold_reserve(&self) {
        let mut reserve = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
        // Without one nobody is turned away while descriptors are short: they wait in the backlog. It is tried again
        // then.
        let _ = match &mut *reserve {
            Some(spare) => spare.refill(),
            None => Spare::new().map(|spare| *reserve = Some(spare)),
        };
    }

    /// Turns away whoever waits at a listener, with the descriptor in reserve.
    pub(crate) fn turn_away(&self, listener: &dyn Listener) {
        if let Some(spare) = &mut *self.reserve.lock().unwrap_or_else(PoisonError::into_inner) {
            // Whether it could be turned away or not: accepting goes on after a pause.
            let _ = spare.turn_away(listener);
        }
    }

    /// Where a reactor without a poll of its own registers its sources.
    pub(crate) fn registry(&self, number: usize) -> io::Result<(Arc<Registry>, usize)> {
        let worker = self.worker(number).ok_or(io::ErrorKind::NotConnected)?;
        let index = key(number).index as usize;
        if index >= 1 << (usize::BITS - 1 - PREFIX_SHIFT) {
            return Err(io::Error::other("too many sockets for one engine"));
        }
        Ok((Arc::clone(&worker.registry), SOURCE | index << PREFIX_SHIFT))
    }

    /// A closed socket is about to give descriptors back.
    pub(crate) fn promise(&self) -> Promise {
        Promise::new(&self.returns)
    }

    /// Makes something that needs descriptors. Where they have run out it waits, for a second at most, for those that
    /// closed sockets are about to give back; if there are none, attempts that such sockets have under way make way.
    pub(crate) fn with_descriptors<T>(&self, mut make: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut until = None;
        loop {
            let seen = self.returns.count();
            match make() {
                Err(error) if is_shortage(&error) => {
                    let until = *until.get_or_insert_with(|| Instant::now() + SHORTAGE);
                    if !self.returns.are_promised() {
                        self.ask_for_way();
                    }
                    if !self.returns.await_one(seen, until) {
                        // Others may have let some go.
                        return make();
                    }
                }
                outcome => return outcome,
            }
        }
    }

    fn ask_for_way(&self) {
        let lodgers: Vec<_> = (self.hosts().iter())
            .filter(|(_, host)| host.port().lives_with_engine())
            .map(|(_, host)| (Arc::clone(host), self.promise()))
            .collect();
        for (host, promise) in lodgers {
            host.port().submit(Command::MakeWay(promise));
        }
    }

    /// Whether somebody calls for the thread of that socket.
    pub(crate) fn called(&self, number: usize) -> Option<&AtomicBool> {
        self.worker(number).map(|worker| &worker.called)
    }

    /// The poll of a reactor that nobody else drives is about to be woken: it is the thread of that socket that is
    /// called for.
    pub(crate) fn note_call(&self, number: usize) {
        if let Some(worker) = self.worker(number) {
            worker.called.store(true, Ordering::Relaxed);
        }
    }

    /// Asks the thread of that socket to give it a turn.
    pub(crate) fn call(&self, number: usize) {
        if let Some(worker) = self.worker(number) {
            worker.call(number);
        }
    }

    /// Asks the thread of that socket to look now and then whether a caller still comes back to it.
    pub(crate) fn watch(&self, number: usize) {
        let Some(worker) = self.worker(number) else { return };
        worker.lock().leased.push(number);
        // Called again when the time comes: the thread must know that there is something to look after.
        self.call(number);
    }

    /// Asks the first thread to free what threads keep for their next reads, when they have not used it for a while.
    #[inline]
    pub(crate) fn see_to_spares(&self) {
        if !self.sees_to_spares.load(Ordering::SeqCst) {
            self.ask_for_spares();
        }
    }

    #[cold]
    fn ask_for_spares(&self) {
        let first = self.workers.get().and_then(|workers| workers.first());
        if let Some(first) = first.filter(|_| !self.sees_to_spares.swap(true, Ordering::SeqCst)) {
            let _ = first.waker.wake();
        }
    }

    /// A moment as nanoseconds since the engine was made.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_nanos()).unwrap_or(NEVER - 1)
    }

    /// The moment that is so many nanoseconds after the engine was made; `None` for [`NEVER`].
    pub(crate) fn instant(&self, nanos: u64) -> Option<Instant> {
        if nanos == NEVER { None } else { self.base.checked_add(Duration::from_nanos(nanos)) }
    }

    fn worker(&self, number: usize) -> Option<&Worker> {
        self.workers.get()?.get(thread(number))
    }

    fn hosts(&self) -> MutexGuard<'_, Slab<Arc<dyn Host>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which of so many threads a socket gets: those whose bits `affinity` has, if any, take turns. Those from the 65th on
/// have no bit, and drive sockets that leave the choice open.
fn choose(turn: usize, threads: usize, affinity: u64) -> usize {
    let allowed = |thread: &usize| *thread < 64 && affinity >> *thread & 1 != 0;
    match turn.checked_rem((0..threads).filter(allowed).count()) {
        Some(turn) => (0..threads).filter(allowed).nth(turn).unwrap_or(0),
        None => turn % threads.max(1),
    }
}

impl Worker {
    fn new(poll: &Poll) -> io::Result<Worker> {
        Ok(Worker {
            registry: Arc::new(poll.registry().try_clone()?),
            waker: Waker::new(poll.registry(), WAKER)?,
            called: AtomicBool::new(false),
            inbox: Mutex::new(Inbox::default()),
            thread: AtomicU64::new(0),
            handle: Mutex::new(None),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the thread to a socket, and wakes it, unless that was done.
    fn call(&self, number: usize) {
        let mut inbox = self.lock();
        if !inbox.calls.contains(&number) {
            inbox.calls.push(number);
        }
        let wake = !std::mem::replace(&mut inbox.rung, true);
        self.called.store(true, Ordering::Relaxed);
        drop(inbox);
        if wake {
            let _ = self.waker.wake();
        }
    }

    /// The sockets called for; `None` when the thread is to end. The sockets whose seats are leased are added to
    /// `leased`.
    fn take_calls(&self, leased: &mut BTreeSet<usize>) -> Option<Vec<usize>> {
        let mut inbox = self.lock();
        // A call through the inbox is made under its lock: either it is among those taken here, or it sets the flag
        // again.
        self.called.store(false, Ordering::Relaxed);
        inbox.rung = false;
        leased.extend(inbox.leased.drain(..));
        if inbox.stop { None } else { Some(std::mem::take(&mut inbox.calls)) }
    }
}

/// What one thread runs.
struct Loop {
    engine: Arc<Engine>,
    index: usize,
    poll: Poll,
    /// Sockets that are due whatever happens.
    deadlines: BTreeSet<(Instant, usize)>,
    /// The deadline each socket has in there, by the place in the engine's table.
    known: Vec<Option<Instant>>,
    /// Sockets that asked for another turn.
    again: BTreeSet<usize>,
    /// The last of them that got it.
    served: usize,
    /// Sockets of which the present events are noted.
    noted: BTreeSet<usize>,
    /// Sockets whose seats are leased to callers, and when they were last looked at.
    leased: BTreeSet<usize>,
    looked: Instant,
    /// A moment before the poll was last asked.
    polled: Instant,
    /// When this thread looks at what threads keep for their next reads.
    spares_due: Option<Instant>,
}

/// How often leases are checked: as long as a seat may be left alone by a caller that was expected back.
const ROUND: Duration = Duration::from_millis(1);

impl Loop {
    fn new(engine: Arc<Engine>, index: usize, poll: Poll) -> Loop {
        Loop {
            engine,
            index,
            poll,
            deadlines: BTreeSet::new(),
            known: Vec::new(),
            again: BTreeSet::new(),
            served: 0,
            noted: BTreeSet::new(),
            leased: BTreeSet::new(),
            looked: Instant::now(),
            polled: Instant::now(),
            spares_due: None,
        }
    }

    fn run(mut self) {
        inside::enter();
        let mut events = Events::with_capacity(1024);
        if let Some(worker) = self.worker() {
            worker.thread.store(thread_number(), Ordering::SeqCst);
        }
        loop {
            let timeout = if self.again.is_empty() {
                self.deadlines.first().map(|(at, _)| at.saturating_duration_since(Instant::now()))
            } else {
                Some(Duration::ZERO)
            };
            let timeout = if self.leased.is_empty() { timeout } else { Some(timeout.map_or(ROUND, |t| t.min(ROUND))) };
            self.polled = Instant::now();
            let timeout = self.see_to_spares().map_or(timeout, |wait| Some(timeout.map_or(wait, |t| t.min(wait))));
            // Only a signal makes it fail, and then there are no events.
            if self.poll.poll(&mut events, timeout).is_err() {
                continue;
            }
            // Right after the poll, so that nobody who has called by now waits for the turns of those whose events come
            // with this look.
            let Some(calls) = self.take_calls() else { return };
            if self.index == 0 && self.engine.process_ends.swap(false, Ordering::SeqCst) {
                self.engine.close_sockets();
            }
            for number in calls {
                self.serve(number);
            }
            for event in &events {
                match event.token() {
                    WAKER => {}
                    Token(token) if token & SOURCE == 0 => self.serve(token | self.index << THREAD_SHIFT),
                    // The token of a stream or listener names the socket in its upper part.
                    Token(token) => self.note((token & !SOURCE) >> PREFIX_SHIFT, event),
                }
            }
            for number in std::mem::take(&mut self.noted) {
                self.serve(number);
            }
            self.serve_next_again();
            self.expire();
            self.check_leases();
        }
    }

    /// Gives a socket that something happened to its turn. One that has more to do than a turn allows waits until it is
    /// due: it would come before those that do not.
    fn serve(&mut self, number: usize) {
        if !self.again.contains(&number) {
            self.turn(number);
        }
    }

    /// Frees what threads keep for their next reads and have not used for a while; says how soon that is to be looked
    /// at again, if there is anything and this thread is the one that looks.
    fn see_to_spares(&mut self) -> Option<Duration> {
        if self.index > 0 || !self.engine.sees_to_spares.load(Ordering::SeqCst) {
            return None;
        }
        let due = self.spares_due.get_or_insert(self.polled + spares::AGE);
        if *due <= self.polled {
            self.spares_due = spares::free_unused(self.polled, spares::AGE).or_else(|| {
                // Whoever keeps something from now on asks for this thread; what was kept before is seen in a second
                // look.
                self.engine.sees_to_spares.store(false, Ordering::SeqCst);
                let more = spares::free_unused(self.polled, spares::AGE)?;
                self.engine.sees_to_spares.store(true, Ordering::SeqCst);
                Some(more)
            });
        }
        self.spares_due.map(|due| due.saturating_duration_since(self.polled))
    }

    /// One of those that asked for another turn gets it, in the order of their numbers. Between two of them the poll is
    /// asked, so that a socket with little to do waits for one turn of another at most.
    fn serve_next_again(&mut self) {
        let after = self.again.range(self.served + 1..).next().or_else(|| self.again.first());
        if let Some(number) = after.copied() {
            self.served = number;
            self.again.remove(&number);
            self.turn(number);
        }
    }

    /// Where sockets have no polls of their own: an event of a source of one of them, which gets its turn when all
    /// events are noted.
    fn note(&mut self, place: usize, event: &mio::event::Event) {
        let Some(number) = self.number_at(place) else { return };
        if let Some(host) = self.engine.host(number) {
            host.port().note(event);
            self.noted.insert(number);
        }
    }

    fn check_leases(&mut self) {
        if self.leased.is_empty() || self.looked.elapsed() < ROUND {
            return;
        }
        self.looked = Instant::now();
        for number in std::mem::take(&mut self.leased) {
            let Some(host) = self.engine.host(number) else { continue };
            match host.port().check_lease(&*host) {
                Check::Again => {
                    self.leased.insert(number);
                }
                Check::Over => {}
                Check::TakeOver => self.turn(number),
            }
        }
    }

    fn worker(&self) -> Option<&Worker> {
        self.engine.workers.get()?.get(self.index)
    }

    /// The sockets called for; `None` when the thread is to end.
    fn take_calls(&mut self) -> Option<Vec<usize>> {
        let worker = self.engine.workers.get()?.get(self.index)?;
        worker.take_calls(&mut self.leased)
    }

    fn number_at(&self, place: usize) -> Option<usize> {
        let key = self.engine.hosts().key_at(u32::try_from(place).ok()?)?;
        Some(number(key, self.index))
    }

    fn turn(&mut self, number: usize) {
        let Some(host) = self.engine.host(number) else {
            self.forget(number);
            return;
        };
        match host.port().engine_turn(&*host, self.polled) {
            Turn::Idle(deadline) => self.schedule(number, deadline),
            Turn::Again(deadline) => {
                self.schedule(number, deadline);
                self.again.insert(number);
            }
            Turn::Leased { deadline, again } => {
                self.schedule(number, deadline);
                self.leased.insert(number);
                if again {
                    self.again.insert(number);
                }
            }
        }
    }

    fn schedule(&mut self, number: usize, deadline: Option<Instant>) {
        let place = key(number).index as usize;
        if self.known.len() <= place {
            self.known.resize(place + 1, None);
        }
        let known = std::mem::replace(&mut self.known[place], deadline);
        if known == deadline {
            return;
        }
        if let Some(known) = known {
            self.deadlines.retain_one(known, place);
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, number));
        }
    }

    /// The socket of that number is gone, and its place may be another's by now.
    fn forget(&mut self, number: usize) {
        let Some(known) = self.known.get_mut(key(number).index as usize) else { return };
        if known.is_some_and(|at| self.deadlines.remove(&(at, number))) {
            *known = None;
        }
    }

    fn expire(&mut self) {
        if self.deadlines.is_empty() {
            return;
        }
        // Collected first: a socket whose next deadline has passed as well waits until the others had their turn.
        // And only what was due when the poll was asked: what happened before is known by now.
        let mut due = Vec::new();
        while let Some(&(_, number)) = self.deadlines.first().filter(|(at, _)| *at <= self.polled) {
            self.deadlines.pop_first();
            if let Some(known) = self.known.get_mut(key(number).index as usize) {
                *known = None;
            }
            due.push(number);
        }
        for number in due {
            self.serve(number);
        }
    }
}

/// Removal by place, whatever generation the entry was made under.
trait RetainOne {
    fn retain_one(&mut self, at: Instant, place: usize);
}

impl RetainOne for BTreeSet<(Instant, usize)> {
    fn retain_one(&mut self, at: Instant, place: usize) {
        let entry = self.range((at, 0)..=(at, usize::MAX)).find(|(_, number)| key(*number).index as usize == place);
        if let Some(entry) = entry.copied() {
            self.remove(&entry);
        }
    }
}

/// A socket's number holds its place and generation, so that an event for one that is gone reaches nobody else, and
/// above them, as a generation has 24 bits, the thread that drives it.
fn number(key: Key, thread: usize) -> usize {
    thread << THREAD_SHIFT | (key.generation as usize) << 32 | key.index as usize
}

fn key(number: usize) -> Key {
    Key { index: number as u32, generation: (number >> 32) as u32 & 0xff_ffff }
}

fn thread(number: usize) -> usize {
    number >> THREAD_SHIFT
}

const THREAD_SHIFT: u32 = 56;
/// What of a number is left where the thread is known: the token of a reactor's own poll.
const PLACE: usize = (1 << THREAD_SHIFT) - 1;
/// Marks the token of a stream or listener that is registered with the thread's poll itself.
const SOURCE: usize = 1 << (usize::BITS - 1);
/// How long whoever needs descriptors waits for those of closed sockets.
const SHORTAGE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_of_the_affinity_stands_for_one_of_the_first_64_threads() {
        let chosen = |threads, affinity| (0..1000).map(|turn| choose(turn, threads, affinity)).collect::<BTreeSet<_>>();
        assert_eq!(chosen(256, 1 << 63), [63].into());
        assert_eq!(chosen(256, 5), [0, 2].into());
        assert_eq!(chosen(256, u64::MAX), (0..64).collect(), "the others have no bit");
        assert_eq!(chosen(256, 0), (0..256).collect(), "no bit leaves the choice open");
        assert_eq!(chosen(3, 6), [1, 2].into());
    }

    #[test]
    fn who_calls_is_known_until_the_thread_has_taken_the_call() {
        let worker = Worker::new(&Poll::new().expect("a poll")).expect("a waker");
        let is_called = || worker.called.load(Ordering::Relaxed);
        for _ in 0..2 {
            assert!(!is_called());
            for number in [7, 8, 7] {
                worker.call(number);
                assert!(is_called());
            }
            assert_eq!(worker.take_calls(&mut BTreeSet::new()), Some(vec![7, 8]));
        }
    }

    #[test]
    fn a_late_call_for_a_socket_that_is_gone_leaves_the_deadline_of_the_one_in_its_place() {
        let options = EngineOptions { threads: 1, name: String::new(), affinity: Vec::new(), engine_only: false };
        let mut thread = Loop::new(Engine::new(options), 0, Poll::new().expect("a poll"));
        let [gone, here] = [1, 2].map(|generation| number(Key { index: 0, generation }, 0));
        let at = Instant::now() + Duration::from_secs(1);
        thread.schedule(here, Some(at));
        thread.turn(gone);
        assert_eq!(thread.deadlines, [(at, here)].into());
        thread.turn(here);
        assert!(thread.deadlines.is_empty(), "it is gone as well");
    }
}
