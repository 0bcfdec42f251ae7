//! The end of the process: a return from `main` and `exit` drop no handle that a static or another thread holds. So an
//! exit handler gives the shared context the time that the drop of its last handle gives it.
//!
//! The handler runs on whichever thread ends the process, and that thread may hold any lock and has lost its
//! thread-locals. So it closes nothing by itself: an engine thread does. The handler takes locks only where it need not
//! wait for them, and sleeps between its looks.

use super::{Context, Handle, Inner};
use crate::engine::contain::contain;
use crate::error::shortened;
use crate::stats::Unsent;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::{Duration, Instant};
use wiremesh_transports::sys::{PerProcess, at_exit, write_to_stderr};

/// The shared contexts of this process. A forked child begins with none.
static SHARED: PerProcess<Mutex<Shared>> = PerProcess::new();

#[derive(Default)]
struct Shared {
    current: Weak<Handle>,
    /// All that may have something to deliver: the current one, and those that were shut down before it.
    all: Vec<Weak<Inner>>,
    /// Nothing is told of what is given up.
    is_quiet: bool,
}

/// The context of sockets that name none.
pub(super) fn shared() -> Context {
    // Not a `OnceLock`: a child that is forked while a thread of its parent is within that would wait for the thread.
    static HAS_HANDLER: AtomicBool = AtomicBool::new(false);
    let mut shared = SHARED.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = shared.current.upgrade().filter(|handle| !handle.inner.shut.load(Ordering::Acquire)) {
        return Context { handle };
    }
    // Where it cannot be had, only the drop of the last handle waits.
    if !HAS_HANDLER.load(Ordering::Acquire) {
        // Called twice, it does nothing the second time.
        let _ = at_exit(process_ends);
        HAS_HANDLER.store(true, Ordering::Release);
    }
    let context = Context::new();
    context.inner().reports_unsent.store(!shared.is_quiet, Ordering::Relaxed);
    shared.current = Arc::downgrade(&context.handle);
    shared.all.retain(|context| context.strong_count() > 0);
    shared.all.push(Arc::downgrade(context.inner()));
    context
}

/// Has it told, or not, what the context gives up at its end. What is said to a shared context holds for those after
/// it, because one that no socket uses ends at once, and a program says this first of all.
pub(super) fn set_report(inner: &Arc<Inner>, yes: bool) {
    inner.reports_unsent.store(yes, Ordering::Relaxed);
    let Some(shared) = SHARED.peek() else { return };
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.all.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(inner))) {
        shared.is_quiet = !yes;
    }
}

extern "C" fn process_ends() {
    // Nothing may leave the handler by a panic, which would abort the process.
    let _ = contain(|| {
        let Some(contexts) = shared_contexts() else { return };
        let mut waits: Vec<Wait> = contexts.into_iter().filter_map(Wait::begin).collect();
        let mut pause = SHORTEST_PAUSE;
        loop {
            waits.retain_mut(Wait::goes_on);
            if waits.is_empty() {
                return;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    });
}

/// How long the handler sleeps between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);
/// How long the handler tries to get the list of shared contexts, which others hold for moments.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);

/// The shared contexts that live. `None` in a forked child that has none of its own, and on the second call.
fn shared_contexts() -> Option<Vec<Arc<Inner>>> {
    static BEGUN: PerProcess<AtomicBool> = PerProcess::new();
    let shared = SHARED.peek()?;
    if BEGUN.get(AtomicBool::default).swap(true, Ordering::AcqRel) {
        return None;
    }
    let end = Instant::now() + LOCK_PATIENCE;
    loop {
        if let Some(shared) = try_lock(shared) {
            return Some(shared.all.iter().filter_map(Weak::upgrade).collect());
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(SHORTEST_PAUSE);
    }
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// The handler's wait for one context.
struct Wait {
    inner: Arc<Inner>,
    /// What was last seen of its progress, and when that changed last.
    progress: u64,
    since: Instant,
    begun: Instant,
    is_done: bool,
}

impl Wait {
    /// Has the context closed. `None` where no engine thread could do it, and so nothing can be on its way to another
    /// process.
    fn begin(inner: Arc<Inner>) -> Option<Wait> {
        inner.shut.store(true, Ordering::Release);
        let closes = inner.engine.process_ends();
        let begun = Instant::now();
        closes.then(|| Wait { inner, progress: 0, since: begun, begun, is_done: false })
    }

    /// Looks once; `false` when everything is delivered, or nothing has moved for too long.
    fn goes_on(&mut self) -> bool {
        let goes_on = self.may_wait();
        if !goes_on && !self.is_done {
            self.report();
        }
        goes_on
    }

    fn may_wait(&mut self) -> bool {
        if let Some(progress) = self.look() {
            match progress {
                None => {
                    self.is_done = true;
                    return false;
                }
                Some(progress) if progress != self.progress => {
                    self.progress = progress;
                    self.since = Instant::now();
                }
                Some(_) => {}
            }
        }
        self.inner.drop_wait.is_none_or(|patience| self.since.elapsed() < patience)
            && self.inner.drop_wait_total.is_none_or(|total| self.begun.elapsed() < total)
    }

    /// Says what is given up, as far as no lock hides it.
    fn report(&self) {
        let Some(sockets) = try_lock(&self.inner.sockets) else { return };
        let cores: Vec<_> = sockets.live.values().filter_map(Weak::upgrade).collect();
        drop(sockets);
        report(&self.inner, cores.iter().filter_map(|core| core.try_undelivered()).flatten());
        cores.into_iter().for_each(std::mem::forget);
    }

    /// How far the deliveries have come: `Some(None)` if they are done, `None` if a lock is held.
    fn look(&self) -> Option<Option<u64>> {
        let cores: Vec<_> = try_lock(&self.inner.sockets)?.live.values().filter_map(Weak::upgrade).collect();
        let mut sum = 0u64;
        let mut seen = true;
        let delivering = cores.iter().filter(|core| core.is_on_wire()).count();
        for core in cores {
            match core.try_progress() {
                Some(progress) => sum = sum.wrapping_add(progress),
                None => seen = false,
            }
            // The last reference would drop a socket here, with all that its owner has put into it.
            std::mem::forget(core);
        }
        match (delivering, seen) {
            (0, _) => Some(None),
            (_, true) => Some(Some(sum)),
            (_, false) => None,
        }
    }
}

/// Tells standard error in one line what is given up, and for whom, unless that is switched off or there is nothing.
pub(super) fn report(inner: &Inner, undelivered: impl Iterator<Item = (Arc<str>, Unsent)>) {
    if !inner.reports_unsent.load(Ordering::Relaxed) {
        return;
    }
    let mut total = Unsent::default();
    let mut by_endpoint: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    for (endpoint, unsent) in undelivered {
        total.add(unsent);
        *by_endpoint.entry(endpoint).or_default() += unsent.messages;
    }
    if total.messages == 0 {
        return;
    }
    let mut line = format!("wiremesh: gave up {total} that nobody took in time, for ");
    let more = by_endpoint.len().saturating_sub(NAMED);
    for (place, (endpoint, messages)) in by_endpoint.into_iter().take(NAMED).enumerate() {
        // An endpoint is a caller's text: nothing in it may begin a line of its own.
        let endpoint = shortened(&endpoint);
        line += &format!("{}{endpoint} ({messages})", if place == 0 { "" } else { ", " });
    }
    if more > 0 {
        line += &format!(" and {more} others");
    }
    line.push('\n');
    write_to_stderr(&line);
}

/// How many endpoints the line names.
const NAMED: usize = 4;
