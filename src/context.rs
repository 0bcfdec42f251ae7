//! A context: the engine threads, the inproc names and the transports that a group of sockets shares.

mod ending;

use crate::budget::{Budget, BudgetHalf};
use crate::engine::inside;
use crate::engine::thread::{Engine, EngineOptions};
use crate::error::Error;
use crate::event::Shortage;
use crate::peer::PeerId;
use crate::socket::core::Core;
use crate::stats::Unsent;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use wiremesh_transports::directory::Directory;
use wiremesh_transports::sys::{fork_generation, random_octets, watch_forks};
use wiremesh_transports::{Registry, Transport};

/// What a group of sockets shares: engine threads, inproc names, transports.
///
/// Sockets keep their context alive. Handles are cheap to clone. Sockets made without naming a context share the
/// default one, which lives as long as any of them.
///
/// # What happens when `main` returns
/// Closing a socket never blocks: what it has accepted is delivered in the background. Dropping the **last** handle of
/// a context (sockets count as handles) waits while that delivery moves on, and gives up after five seconds without
/// progress; [`ContextBuilder::drop_wait`] changes the time. So a program that sends and returns from `main` loses
/// nothing as long as its peers are there. On an engine thread, and on one that drives a socket or writes for it, as
/// within a call of a registered [`Transport`] or in the drop of a body's owner, the drop does not wait, as the delivery
/// waits for that call: another thread waits, and the end of the process does not wait for that one.
///
/// The end of the process, by a return from `main` or by `std::process::exit`, gives the shared context the same time
/// whoever still holds its handles: statics, or threads that run on, whose calls then return `Closed`. A context of
/// one's own gets it only by the drop of its last handle. A signal and `abort` give none. See the guide on [ending
/// well](crate::guide::ending_well).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use wiremesh::{Context, Pull, Push};
///
/// let context = Context::new();
/// let pull = Pull::in_context(&context);
/// let push = Push::in_context(&context);
/// pull.bind("inproc://jobs")?;
/// push.connect("inproc://jobs")?;
/// push.send("one")?;
/// assert_eq!(pull.recv()?, "one");
///
/// drop((push, pull));
/// let unsent = context.close(Duration::from_secs(1));
/// assert_eq!(unsent.messages, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Context {
    handle: Arc<Handle>,
}

/// What the handles share. Its drop is the last one's.
struct Handle {
    inner: Arc<Inner>,
}

/// What sockets and the engine see of a context.
pub(crate) struct Inner {
    pub(crate) engine: Arc<Engine>,
    pub(crate) directory: Directory<Weak<Core>, (Weak<Core>, PeerId)>,
    transports: Mutex<Registry>,
    sockets: Mutex<Sockets>,
    gone: Condvar,
    shut: AtomicBool,
    /// Another thread ends the context, because one that must not wait has been told to close it.
    ends_apart: AtomicBool,
    drop_wait: Option<Duration>,
    drop_wait_total: Option<Duration>,
    reports_unsent: AtomicBool,
    pub(crate) budget: Arc<Budget>,
    /// When sockets were told of a shortage last, in the half for sending and in the other.
    told: Mutex<(Option<Instant>, Option<Instant>)>,
    generation: u32,
    seed: AtomicU64,
}

#[derive(Default)]
struct Sockets {
    /// By the address of their core, which is unique while they live.
    live: HashMap<usize, Weak<Core>>,
    /// Messages dropped by sockets that are gone since the context was asked to close.
    unsent: Unsent,
}

impl Context {
    /// A context of its own with one engine thread.
    ///
    /// Nothing is started until a socket needs it.
    #[doc(alias = "zmq_ctx_new")]
    #[doc(alias = "zmq_init")]
    pub fn new() -> Context {
        Context::builder().build()
    }

    /// A context with other settings.
    #[doc(alias("zmq_ctx_set", "zmq_ctx_set_ext", "zmq_ctx_get", "zmq_ctx_get_ext"))]
    pub fn builder() -> ContextBuilder {
        ContextBuilder {
            options: EngineOptions {
                threads: 1,
                name: "wiremesh".to_owned(),
                affinity: Vec::new(),
                engine_only: false,
            },
            drop_wait: Some(Duration::from_secs(5)),
            drop_wait_total: None,
            reports_unsent: true,
            byte_budget: Some(1 << 30),
        }
    }

    /// The context of sockets that name none. It is made when first needed and goes with its last user, or with the
    /// process. So keep the handle for as long as what was done to it is to last, such as a transport that was
    /// registered: without a user the next call makes another.
    pub fn shared() -> Context {
        ending::shared()
    }

    /// Adds a transport, so that endpoints with its scheme can be bound and connected.
    ///
    /// # Errors
    /// [`Error::System`] when the scheme is not a scheme, is taken, or is `inproc`; [`Error::Forked`].
    pub fn register_transport(&self, transport: Arc<dyn Transport>) -> Result<(), Error> {
        if self.handle.inner.is_forked() {
            return Err(Error::Forked);
        }
        let scheme = transport.scheme().to_owned();
        self.handle.inner.lock_transports().register(transport).map_err(|error| {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, error.problem().to_owned());
            Error::System { action: "registering the transport", subject: scheme, source }
        })
    }

    /// Closes every socket of the context: blocked calls return within 50 ms with `Closed`, and so do later ones. What
    /// was accepted is still delivered in the background, within each socket's linger time. Does not block.
    #[doc(alias = "zmq_ctx_shutdown")]
    pub fn shutdown(&self) {
        let inner = &self.handle.inner;
        if inner.is_forked() || inner.shut.swap(true, Ordering::AcqRel) {
            return;
        }
        inner.close_all();
    }

    /// Shuts the context down and waits until everything accepted is delivered, at most `deadline`; then gives up and
    /// says what was not. Giving up takes two seconds more at most, in which connections that cannot be closed in order
    /// are broken off; see the guide on the [life cycle](crate::guide::life_cycle).
    ///
    /// On an engine thread, and on one that drives a socket or writes for it, as within a call of a registered
    /// [`Transport`] or in the drop of a body's owner, this does not wait, because what it would wait for waits for that
    /// call: the rest happens in the background, in the time of the first such call, and what is returned is what was
    /// not delivered at that moment.
    #[doc(alias = "zmq_ctx_term")]
    #[doc(alias = "zmq_term")]
    #[doc(alias = "zmq_ctx_destroy")]
    pub fn close(&self, deadline: Duration) -> Unsent {
        let inner = &self.handle.inner;
        self.shutdown();
        if inner.is_forked() {
            return Unsent::default();
        }
        if inside::is_inside() {
            let unsent = inner.unsent(&inner.live());
            if !inner.ends_apart.swap(true, Ordering::Relaxed) {
                inner.end_apart(move |inner| {
                    let _ = inner.close(deadline);
                });
            }
            return unsent;
        }
        inner.close(deadline)
    }

    /// Whether a line on standard error says how many messages were given up for whom, where the drop of the last
    /// handle, or the end of the process, has waited in vain; see [`ContextBuilder::report_unsent`]. What is said to
    /// the shared context holds for the process.
    ///
    /// # Examples
    /// ```
    /// wiremesh::Context::shared().report_unsent(false);
    /// ```
    pub fn report_unsent(&self, yes: bool) {
        ending::set_report(&self.handle.inner, yes);
    }

    /// Whether the context has been shut down.
    pub fn is_closed(&self) -> bool {
        self.handle.inner.shut.load(Ordering::Acquire)
    }

    /// How many octets of a half of the context's [`byte_budget`](ContextBuilder::byte_budget) are taken: what its
    /// sockets hold, beyond the 64 KiB that each may hold without being counted, and of the receiving half the memory
    /// that received messages share as well, as said there.
    ///
    /// # Examples
    /// ```
    /// use wiremesh::{BudgetHalf, Context};
    /// assert_eq!(Context::new().bytes_held(BudgetHalf::Sending), 0);
    /// ```
    pub fn bytes_held(&self, half: BudgetHalf) -> u64 {
        self.handle.inner.budget.used(half)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.handle.inner
    }
}

/// As for [`Socket`](crate::Socket).
impl std::panic::UnwindSafe for Context {}

impl std::panic::RefUnwindSafe for Context {}

/// The same as [`Context::new`].
impl Default for Context {
    fn default() -> Context {
        Context::new()
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = &self.handle.inner;
        let sockets = if inner.is_forked() { 0 } else { inner.lock_sockets().live.len() };
        f.debug_struct("Context").field("sockets", &sockets).field("closed", &self.is_closed()).finish()
    }
}

/// How long after sockets were told of a shortage they are told of another of the same half.
const TOLD_AGAIN: Duration = Duration::from_secs(1);
/// How long sockets that were told to give up may take to do so.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Drop for Handle {
    fn drop(&mut self) {
        let inner = &self.inner;
        if inner.is_forked() {
            // The child of a fork only closes descriptors, which happens by itself.
            return;
        }
        inner.shut.store(true, Ordering::Release);
        inner.close_all();
        if inside::is_inside() {
            inner.end_apart(Inner::end);
        } else {
            inner.end();
        }
    }
}

impl Inner {
    /// Ends the context on a thread of its own, because this one, in code of the application, would wait for what only
    /// it can deliver. If no thread can be had, nobody can wait, and what is not delivered is given up.
    fn end_apart(self: &Arc<Inner>, end: impl FnOnce(&Inner) + Send + 'static) {
        let ends = Arc::clone(self);
        let spawned = std::thread::Builder::new().name("wiremesh-end".to_owned()).spawn(move || end(&ends));
        if spawned.is_err() {
            self.report();
            self.engine.stop();
        }
    }

    /// Waits as long as what was sent moves on, then gives up what is left of it.
    fn end(&self) {
        self.await_progress();
        self.report();
        self.give_up();
    }

    /// Waits until everything accepted is delivered, at most `deadline`, and gives up what is left of it.
    fn close(&self, deadline: Duration) -> Unsent {
        self.await_sockets(Instant::now().checked_add(deadline));
        let left = self.give_up();
        self.unsent(&left)
    }

    fn report(&self) {
        ending::report(self, self.live().iter().flat_map(|core| core.undelivered()));
    }

    /// Has sockets that are not done give up, and ends the engine; those that did not give up in time.
    fn give_up(&self) -> Vec<Arc<Core>> {
        for core in self.live() {
            core.cut_linger();
        }
        self.await_sockets(Some(Instant::now() + LAST_WORDS));
        let left = self.live();
        self.engine.stop();
        left
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether this is a copy in a forked child, where a lock may be held by a thread that does not exist there.
    pub(crate) fn is_forked(&self) -> bool {
        fork_generation() != self.generation
    }

    /// A number for generated routing ids and request numbers; it need not be unpredictable.
    pub(crate) fn random(&self) -> u32 {
        let step = self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        (step.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) as u32
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }

    pub(crate) fn lock_transports(&self) -> MutexGuard<'_, Registry> {
        self.transports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_sockets(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn register(&self, core: &Arc<Core>) {
        if self.is_forked() {
            return;
        }
        self.lock_sockets().live.insert(Arc::as_ptr(core) as usize, Arc::downgrade(core));
    }

    /// A closed socket is done.
    pub(crate) fn finished(&self, core: &Core) {
        let unsent = core.unsent();
        let mut sockets = self.lock_sockets();
        if sockets.live.remove(&(std::ptr::from_ref(core) as usize)).is_some() {
            sockets.unsent.messages += unsent.messages;
            sockets.unsent.bytes += unsent.bytes;
        }
        drop(sockets);
        self.gone.notify_all();
    }

    /// What was given up, once no engine thread drives any more. Of these sockets some may not be done: what they have
    /// is given up too.
    fn unsent(&self, left: &[Arc<Core>]) -> Unsent {
        let (mut unsent, left): (Unsent, Vec<&Arc<Core>>) = {
            let sockets = self.lock_sockets();
            let is_live = |core: &&Arc<Core>| sockets.live.contains_key(&(Arc::as_ptr(core) as usize));
            (sockets.unsent, left.iter().filter(is_live).collect())
        };
        for core in left {
            unsent.add(core.unsent());
            core.undelivered().into_iter().for_each(|(_, waits)| unsent.add(waits));
        }
        unsent
    }

    fn live(&self) -> Vec<Arc<Core>> {
        self.lock_sockets().live.values().filter_map(Weak::upgrade).collect()
    }

    /// If a shortage in the budget has ended, the sockets that were stopped go on. Called after something may have
    /// ended one; the caller may hold a socket's reader gate, and no other lock of a socket.
    #[inline(always)]
    pub(crate) fn attend(&self) {
        if self.budget.take_ended() {
            self.go_on();
        }
    }

    #[cold]
    fn go_on(&self) {
        for core in self.live() {
            core.go_on();
        }
    }

    /// If a shortage in the budget has begun, all sockets are told. Called with no lock of a socket held, as a listener
    /// may call that socket.
    #[inline(always)]
    pub(crate) fn tell_shortages(&self) {
        let begun = self.budget.take_begun();
        if begun != [None, None] {
            begun.into_iter().flatten().for_each(|half| self.tell_shortage(half));
        }
    }

    #[cold]
    fn tell_shortage(&self, half: BudgetHalf) {
        {
            let now = Instant::now();
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let told = match half {
                BudgetHalf::Sending => &mut told.0,
                BudgetHalf::Receiving => &mut told.1,
            };
            // Where one message after another uses up a half, each is no news.
            if told.is_some_and(|told| now.saturating_duration_since(told) < TOLD_AGAIN) {
                if self.budget.is_short(half) {
                    self.budget.put_off(half);
                }
                return;
            }
            *told = Some(now);
        }
        let cores = self.live();
        let Some(largest) = cores.iter().max_by_key(|core| core.held_of(half)) else { return };
        let (octets, kind, endpoint) = (largest.held_of(half), largest.kind, largest.first_endpoint());
        for core in &cores {
            let (limit, own, endpoint) = (self.budget.limit(half), core.held_of(half), Arc::clone(&endpoint));
            core.tell_shortage(Shortage { half, limit, own, largest: octets, kind, endpoint });
        }
    }

    fn close_all(&self) {
        let cores = self.live();
        for core in &cores {
            core.bar();
        }
        for core in &cores {
            core.close();
        }
    }

    /// Waits until all sockets are done, or the deadline.
    fn await_sockets(&self, deadline: Option<Instant>) {
        let mut sockets = self.lock_sockets();
        while !sockets.live.is_empty() {
            let Some(deadline) = deadline else {
                sockets = self.gone.wait(sockets).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return;
            };
            sockets = self.gone.wait_timeout(sockets, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits while lingering sockets get something written.
    fn await_progress(&self) {
        let mut end = self.drop_wait_total.and_then(|total| Instant::now().checked_add(total));
        let Some(patience) = self.drop_wait else {
            self.await_sockets(end);
            return;
        };
        let mut written = 0;
        let mut since = Instant::now();
        loop {
            let step = patience.min(Duration::from_millis(50)).max(Duration::from_millis(1));
            let due = Instant::now() + step;
            self.await_sockets(Some(due));
            if Instant::now().saturating_duration_since(due) >= STOPPED {
                // The process was stopped, and nothing can have moved: that does not count.
                since = Instant::now();
                end = end.map(|end| end.max(since + STOPPED));
            }
            let cores = self.live();
            if cores.is_empty() {
                return;
            }
            let now_written: u64 = cores.iter().fold(0, |sum, core| sum.wrapping_add(core.progress()));
            if now_written != written {
                written = now_written;
                since = Instant::now();
            }
            if since.elapsed() >= patience || end.is_some_and(|end| end <= Instant::now()) {
                return;
            }
        }
    }
}

/// A wait that ends so much too late says that the process was stopped.
const STOPPED: Duration = Duration::from_millis(250);

/// Settings of a context.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct ContextBuilder {
    options: EngineOptions,
    drop_wait: Option<Duration>,
    drop_wait_total: Option<Duration>,
    reports_unsent: bool,
    byte_budget: Option<u64>,
}

impl ContextBuilder {
    /// How many engine threads drive what no caller drives. Default: 1. 0 is taken as 1, and more than 256 as 256. The
    /// option `affinity` of a socket can name the first 64. (libzmq: `ZMQ_IO_THREADS`.)
    #[doc(alias = "ZMQ_IO_THREADS")]
    pub fn engine_threads(mut self, threads: usize) -> ContextBuilder {
        self.options.threads = threads.clamp(1, 256);
        self
    }

    /// What the engine threads are called; a number follows. Default: `wiremesh`. (libzmq: `ZMQ_THREAD_NAME_PREFIX`.)
    #[doc(alias = "ZMQ_THREAD_NAME_PREFIX")]
    pub fn thread_name(mut self, name: impl Into<String>) -> ContextBuilder {
        self.options.name = name.into().replace('\0', "");
        self
    }

    /// The processors the engine threads may run on, by number. Default: all. (libzmq: `ZMQ_THREAD_AFFINITY_CPU_ADD`.)
    ///
    /// Where none of them exists, or the system cannot keep threads on processors, the first `bind` or `connect` of the
    /// context that needs an engine fails with [`Error::System`](crate::Error::System), which names them. Of several,
    /// those that do not exist are left out, but numbers beyond what the system's set can hold, 1,023 on Linux, fail as
    /// well.
    #[doc(alias = "ZMQ_THREAD_AFFINITY_CPU_ADD")]
    #[doc(alias = "ZMQ_THREAD_AFFINITY_CPU_REMOVE")]
    pub fn thread_affinity(mut self, processors: impl IntoIterator<Item = usize>) -> ContextBuilder {
        self.options.affinity = processors.into_iter().collect();
        self
    }

    /// How long the drop of the last handle waits without seeing progress before it gives up on what is queued; `None`
    /// waits for ever. Default: 5 s.
    #[doc(alias = "ZMQ_BLOCKY")]
    pub fn drop_wait(mut self, patience: Option<Duration>) -> ContextBuilder {
        self.drop_wait = patience;
        self
    }

    /// Whether a line on standard error says how many messages were given up for whom, where the drop of the last
    /// handle, or the end of the process, has waited in vain. Default: true. [`Context::report_unsent`] changes it
    /// later, as for the shared context.
    pub fn report_unsent(mut self, yes: bool) -> ContextBuilder {
        self.reports_unsent = yes;
        self
    }

    /// How long the drop of the last handle waits in all, whatever moves; `None` sets no limit beside
    /// [`drop_wait`](Self::drop_wait). Default: none.
    pub fn drop_wait_total(mut self, total: Option<Duration>) -> ContextBuilder {
        self.drop_wait_total = total;
        self
    }

    /// How many octets all sockets of the context may hold together; `None` sets no limit. Default: 1 GiB.
    ///
    /// One half is for what waits to be sent, or is being written, the other for what has been received and not read,
    /// and for messages that have not wholly arrived. Of that other half the topics and the metadata of peers may have
    /// half, because they stay as long as the peers do: beyond it further subscriptions are refused and counted, and a
    /// newcomer with metadata is turned away and may come back; 64 KiB for each socket always have room. Each topic of
    /// a peer counts as 96 octets and its own, each property as 72 and its own. What one socket of the process has sent
    /// another over inproc counts as sent until it is read. What a peer that is gone has left unread counts with 1 KiB
    /// beside it. A change of subscriptions that an XPUB has not shown yet counts as 200 octets and its topic, and
    /// where that socket is stopped, changes are merged as at its receive mark. One that a SUB or XSUB has not sent
    /// counts with what it takes in memory: some 100 octets and its topic, or 550 where messages come before and after
    /// it. Each socket may hold 64 KiB of either half without being counted.
    ///
    /// A received frame of more than 256 octets shares the memory that was read at once, 256 KiB as a rule, and so may
    /// hold all of it for as long as the application keeps it. Such memory counts in the receiving half from its first
    /// message on until the last of them is gone (so what is unread of it counts twice): what sockets may hold of that
    /// half is so much less. It may be a quarter of the half, so that three quarters are left whatever an application
    /// keeps; once there is as much, further frames are copied instead, until some of it is free. The copies belong to
    /// the application and do not count. A frame of more than 64 KiB of which a read brought the beginning alone, as
    /// with any that is longer than a read, lies in memory of its own, holds nothing else, and does not count either.
    ///
    /// `None` is no limit, and so is `Some(0)`.
    ///
    /// When a half is used up, sockets that hold much of it are stopped until a quarter of what they may hold is free
    /// again: for a peer for whom something waits, no second message is queued, and `send` waits, or drops and counts,
    /// as at the mark; a peer of whom a message waits to be read is not read, nor one that is within a long message,
    /// but for one of these for each socket. Sockets that hold little go on, up to their part of another quarter. So a
    /// socket that is read or written is never stopped for good by others. If unfinished messages have more than half
    /// of the receiving half, connections whose message stands still, or nearly so, are closed with
    /// [`Cause::Limit`](crate::Cause::Limit). Monitors are told that a half is used up, and who holds most
    /// ([`BudgetReached`](crate::EventKind::BudgetReached)).
    ///
    /// At worst the sockets of the context, and received messages, so hold, in octets: 11/8 of the budget; for each
    /// socket 128 KiB, and 1 MiB of buffers that are kept to be filled again; for each connection 24 KiB, what one read
    /// brings (256 KiB), 64 KiB that messages share which the application kept before it was first found to keep some,
    /// one message in each direction, of whatever size is allowed (with `conflate` the newest that was received, which
    /// counts), and, where it sends to others than ours, as many octets as the system's send buffer holds. A
    /// [`Reservation`](crate::Reservation) may add its message.
    pub fn byte_budget(mut self, octets: Option<u64>) -> ContextBuilder {
        self.byte_budget = octets;
        self
    }

    /// Has engine threads drive always, never the calling thread, as on platforms without nested polls. Slower; meant
    /// for testing that way of working. Default: false.
    pub fn engine_only(mut self, yes: bool) -> ContextBuilder {
        self.options.engine_only = yes;
        self
    }

    /// Makes the context. Threads start when the first endpoint needs them.
    pub fn build(self) -> Context {
        // Without the watch a forked child is not noticed; that is no reason to refuse service.
        let _ = watch_forks();
        let seed = u128::from_ne_bytes(random_octets()) as u64;
        Context {
            handle: Arc::new(Handle {
                inner: Arc::new(Inner {
                    engine: Engine::new(self.options),
                    directory: Directory::new(),
                    transports: Mutex::new(Registry::builtin()),
                    sockets: Mutex::new(Sockets::default()),
                    gone: Condvar::new(),
                    shut: AtomicBool::new(false),
                    ends_apart: AtomicBool::new(false),
                    drop_wait: self.drop_wait,
                    drop_wait_total: self.drop_wait_total,
                    reports_unsent: AtomicBool::new(self.reports_unsent),
                    budget: Budget::new(self.byte_budget),
                    told: Mutex::new((None, None)),
                    generation: fork_generation(),
                    seed: AtomicU64::new(seed),
                }),
            }),
        }
    }
}
