//! Watching a socket: a bounded ring of events that the engine never waits for.

use crate::event::Event;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use wiremesh_transports::sys::fork_generation;

/// How many events are kept for a monitor that is not read; older ones are dropped and counted.
const KEPT: usize = 1024;

/// Where a socket's events go: to every monitor, each of which has a ring of its own.
#[derive(Default)]
pub(super) struct Feed {
    monitors: Mutex<Monitors>,
    /// Events that any of them has lost.
    lost: Arc<AtomicU64>,
}

#[derive(Default)]
struct Monitors {
    rings: Vec<Weak<Ring>>,
    stopped: bool,
}

/// What waits to be read by one monitor.
#[derive(Default)]
struct Ring {
    state: Mutex<State>,
    change: Condvar,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    lost: u64,
    stopped: bool,
}

impl Ring {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event; says how many others that cost.
    fn push(&self, event: Event) -> u64 {
        let mut state = self.lock();
        let before = state.lost;
        if state.events.len() >= KEPT {
            state.events.pop_front();
            state.lost += 1;
        }
        state.events.push_back(event);
        let lost = state.lost - before;
        drop(state);
        self.change.notify_one();
        lost
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.change.notify_all();
    }
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, Monitors> {
        self.monitors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, event: Event) {
        let mut monitors = self.lock();
        if monitors.rings.is_empty() || monitors.stopped {
            return;
        }
        monitors.rings.retain(|ring| {
            let Some(ring) = ring.upgrade() else { return false };
            self.lost.fetch_add(ring.push(event.clone()), Ordering::Relaxed);
            true
        });
    }

    pub(super) fn stop(&self) {
        let mut monitors = self.lock();
        monitors.stopped = true;
        monitors.rings.drain(..).filter_map(|ring| ring.upgrade()).for_each(|ring| ring.stop());
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// In a forked child (`stillborn`) the monitor has nothing to tell.
    pub(super) fn monitor(&self, stillborn: bool) -> Monitor {
        let ring = Arc::new(Ring::default());
        if stillborn {
            ring.stop();
        } else {
            let mut monitors = self.lock();
            match monitors.stopped {
                true => ring.stop(),
                false => monitors.rings.push(Arc::downgrade(&ring)),
            }
        }
        Monitor { ring, generation: fork_generation() }
    }
}

/// Monitors end with their socket, however that ends.
impl Drop for Feed {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The events of one socket, from when the monitor was made.
///
/// Every monitor is told every event from the moment it is made. At most 1,024 events wait in it to be read; then the
/// oldest are dropped and counted, by [`Monitor::lost`] and for all monitors of a socket together in
/// [`Stats::events_lost`](crate::Stats::events_lost). In a forked child a monitor of its parent has none. A monitor
/// whose [`iter`](Monitor::iter) or `recv` several threads share tells each event to one of them.
///
/// # The end
/// The last event of a closed socket is [`MonitorStopped`](crate::EventKind::MonitorStopped): it comes once the socket
/// is done with its connections, which after a close may take as long as it lingers. [`recv`](Monitor::recv) returns
/// `None` only after that. The other two return `None` as well when nothing has come yet;
/// [`is_stopped`](Monitor::is_stopped) tells which it is.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use wiremesh::{EventKind, Pull};
///
/// let pull = Pull::new();
/// let monitor = pull.monitor();
/// pull.bind("tcp://127.0.0.1:*")?;
/// let event = monitor.recv_timeout(Duration::from_secs(5)).expect("an event");
/// assert!(matches!(event.kind, EventKind::Listening));
/// # Ok::<(), wiremesh::Error>(())
/// ```
pub struct Monitor {
    ring: Arc<Ring>,
    /// The process it was made in: see [`fork_generation`].
    generation: u32,
}

impl Monitor {
    /// The next event, waiting for one; `None` once the socket is closed and all events are read, and at once in a
    /// forked child.
    pub fn recv(&self) -> Option<Event> {
        self.next(None)
    }

    /// The next event, waiting at most `limit`. `None` when none came in time, and at once when none is to come any
    /// more; see [`is_stopped`](Monitor::is_stopped).
    pub fn recv_timeout(&self, limit: Duration) -> Option<Event> {
        self.next(Instant::now().checked_add(limit))
    }

    /// The next event, if one is there. `None` when nothing has come yet, or nothing is to come any more; see
    /// [`is_stopped`](Monitor::is_stopped).
    pub fn try_recv(&self) -> Option<Event> {
        if self.is_forked() {
            return None;
        }
        self.ring.lock().events.pop_front()
    }

    /// Whether all is told: the socket is closed, done with its connections, and all events are read. A `None` meant
    /// the end then, else that nothing had come yet. Always true in a forked child.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use wiremesh::Pull;
    ///
    /// let pull = Pull::new();
    /// let monitor = pull.monitor();
    /// assert!(monitor.try_recv().is_none() && !monitor.is_stopped(), "nothing has happened yet");
    /// drop(pull);
    /// while let Some(event) = monitor.recv_timeout(Duration::from_secs(5)) {
    ///     println!("{event}");
    /// }
    /// assert!(monitor.is_stopped());
    /// ```
    pub fn is_stopped(&self) -> bool {
        self.is_forked() || {
            let state = self.ring.lock();
            state.stopped && state.events.is_empty()
        }
    }

    /// The events in order, until the socket is closed and all are read: waits for each as [`recv`](Monitor::recv)
    /// does.
    pub fn iter(&self) -> Events<'_> {
        Events(self)
    }

    /// How many events it has dropped because it was not read. 0 in a forked child.
    pub fn lost(&self) -> u64 {
        if self.is_forked() { 0 } else { self.ring.lock().lost }
    }

    fn is_forked(&self) -> bool {
        fork_generation() != self.generation
    }

    fn next(&self, deadline: Option<Instant>) -> Option<Event> {
        if self.is_forked() {
            return None;
        }
        let mut state = self.ring.lock();
        loop {
            if let Some(event) = state.events.pop_front() {
                return Some(event);
            }
            if state.stopped {
                return None;
            }
            state = match deadline {
                None => self.ring.change.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.checked_duration_since(Instant::now())?;
                    self.ring.change.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// The events of a [`Monitor`]: see [`iter`](Monitor::iter).
#[derive(Debug)]
#[must_use = "an iterator waits for nothing until it is asked"]
pub struct Events<'a>(&'a Monitor);

impl Iterator for Events<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.0.recv()
    }
}

impl<'a> IntoIterator for &'a Monitor {
    type Item = Event;
    type IntoIter = Events<'a>;

    fn into_iter(self) -> Events<'a> {
        self.iter()
    }
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::{EventKind, Pull};
    use std::time::Duration;

    #[test]
    fn a_monitor_that_has_nothing_to_tell_yet_is_not_stopped() {
        let pull = Pull::new();
        let monitor = pull.monitor();
        assert!(monitor.try_recv().is_none() && !monitor.is_stopped());
        assert!(monitor.recv_timeout(Duration::from_millis(1)).is_none() && !monitor.is_stopped());
    }

    #[test]
    fn a_monitor_is_stopped_once_the_socket_is_closed_and_all_is_read() {
        let pull = Pull::new();
        let monitor = pull.monitor();
        pull.close();
        let event = monitor.recv().expect("the last event");
        assert!(matches!(event.kind, EventKind::MonitorStopped));
        assert!(monitor.recv().is_none() && monitor.is_stopped());
        assert!(monitor.try_recv().is_none() && monitor.recv_timeout(Duration::MAX).is_none());
    }

    #[test]
    fn an_event_that_is_not_read_yet_keeps_a_monitor_going() {
        let pull = Pull::new();
        let monitor = pull.monitor();
        drop(pull);
        assert!(!monitor.is_stopped(), "the last event is there");
        while monitor.recv().is_some() {}
        assert!(monitor.is_stopped());
    }

    #[test]
    fn each_monitor_is_told_every_event_and_loses_its_own() {
        let pull = Pull::new();
        let (read, unread) = (pull.monitor(), pull.monitor());
        let late = {
            for _ in 0..1500 {
                pull.core.feed.push(event());
                assert!(matches!(read.try_recv().map(|event| event.kind), Some(EventKind::Listening)));
            }
            pull.monitor()
        };
        pull.core.feed.push(event());
        assert_eq!((read.lost(), unread.lost(), late.lost()), (0, 477, 0));
        assert_eq!(pull.stats().events_lost, 477);
        let count = |monitor: &crate::Monitor| std::iter::from_fn(|| monitor.try_recv()).count();
        assert_eq!((count(&read), count(&unread), count(&late)), (1, 1024, 1));
        drop((unread, late));
        pull.core.feed.push(event());
        assert_eq!((count(&read), pull.stats().events_lost), (1, 477));
        pull.close();
        assert!(read.recv().is_some_and(|event| matches!(event.kind, EventKind::MonitorStopped)));
    }

    fn event() -> crate::Event {
        crate::Event { kind: EventKind::Listening, endpoint: "x://y".into(), address: None, peer: None }
    }

    #[test]
    fn a_monitor_of_a_closed_socket_is_stopped_from_the_start() {
        let pull = Pull::new();
        pull.close();
        assert!(pull.monitor().is_stopped());
    }
}
