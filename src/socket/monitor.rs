//! Watching a socket: a bounded ring of events that the engine never waits for.

use crate::event::Event;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use wiremesh_transports::sys::fork_generation;

/// How many events are kept for a monitor that is not read; older ones are dropped and counted.
const KEPT: usize = 1024;

/// Where a socket's events go.
#[derive(Default)]
pub(super) struct Feed {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    change: Condvar,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    monitors: usize,
    lost: u64,
    stopped: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Monitors end with their socket, however that ends.
impl Drop for Feed {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Feed {
    pub(super) fn push(&self, event: Event) {
        let mut state = self.shared.lock();
        if state.monitors == 0 || state.stopped {
            return;
        }
        if state.events.len() >= KEPT {
            state.events.pop_front();
            state.lost += 1;
        }
        state.events.push_back(event);
        drop(state);
        self.shared.change.notify_one();
    }

    pub(super) fn stop(&self) {
        self.shared.lock().stopped = true;
        self.shared.change.notify_all();
    }

    pub(super) fn lost(&self) -> u64 {
        self.shared.lock().lost
    }

    /// In a forked child (`stillborn`) the monitor has nothing to tell.
    pub(super) fn monitor(&self, stillborn: bool) -> Monitor {
        let shared = if stillborn { Arc::default() } else { Arc::clone(&self.shared) };
        {
            let mut state = shared.lock();
            state.monitors += 1;
            state.stopped |= stillborn;
        }
        Monitor { shared, generation: fork_generation() }
    }
}

/// The events of one socket, from when the monitor was made.
///
/// At most 1,024 events wait to be read; then the oldest are dropped and counted in
/// [`Stats::events_lost`](crate::Stats::events_lost). Several monitors of one socket share its events: each is told to one of
/// them. In a forked child a monitor of its parent has none.
///
/// # The end
/// The last event of a closed socket is [`MonitorStopped`](crate::EventKind::MonitorStopped): it comes once the socket is done
/// with its connections, which after a close may take as long as it lingers. [`recv`](Monitor::recv) returns `None` only after
/// that. The other two return `None` as well when nothing has come yet; [`is_stopped`](Monitor::is_stopped) tells which it is.
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
    shared: Arc<Shared>,
    /// The process it was made in: see [`fork_generation`].
    generation: u32,
}

impl Monitor {
    /// The next event, waiting for one; `None` once the socket is closed and all events are read, and at once in a forked child.
    pub fn recv(&self) -> Option<Event> {
        self.next(None)
    }

    /// The next event, waiting at most `limit`. `None` when none came in time, and at once when none is to come any more; see
    /// [`is_stopped`](Monitor::is_stopped).
    pub fn recv_timeout(&self, limit: Duration) -> Option<Event> {
        self.next(Instant::now().checked_add(limit))
    }

    /// The next event, if one is there. `None` when nothing has come yet, or nothing is to come any more; see
    /// [`is_stopped`](Monitor::is_stopped).
    pub fn try_recv(&self) -> Option<Event> {
        if self.is_forked() {
            return None;
        }
        self.shared.lock().events.pop_front()
    }

    /// Whether all is told: the socket is closed, done with its connections, and all events are read. A `None` meant the end then,
    /// else that nothing had come yet. Always true in a forked child.
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
            let state = self.shared.lock();
            state.stopped && state.events.is_empty()
        }
    }

    /// The events in order, until the socket is closed and all are read: waits for each as [`recv`](Monitor::recv) does.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        std::iter::from_fn(|| self.recv())
    }

    fn is_forked(&self) -> bool {
        fork_generation() != self.generation
    }

    fn next(&self, deadline: Option<Instant>) -> Option<Event> {
        if self.is_forked() {
            return None;
        }
        let mut state = self.shared.lock();
        loop {
            if let Some(event) = state.events.pop_front() {
                return Some(event);
            }
            if state.stopped {
                return None;
            }
            state = match deadline {
                None => self.shared.change.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.checked_duration_since(Instant::now())?;
                    self.shared.change.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if self.is_forked() {
            return;
        }
        let mut state = self.shared.lock();
        state.monitors -= 1;
        if state.monitors == 0 {
            state.events.clear();
        }
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
    fn a_monitor_of_a_closed_socket_is_stopped_from_the_start() {
        let pull = Pull::new();
        pull.close();
        assert!(pull.monitor().is_stopped());
    }
}
