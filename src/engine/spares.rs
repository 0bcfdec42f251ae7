//! Memory that threads keep from one read to the next: the buffer they read into, and those of the large bodies they
//! read last. What has not been used for a second is freed by an engine thread, as the thread that kept it may never
//! come back.
//!
//! No lock is waited for here, so that a process that was forked at any moment does not either: whoever finds one taken
//! does without.

use bytes::{Bytes, BytesMut};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use std::time::{Duration, Instant};

/// What one thread keeps.
#[derive(Default)]
struct Shelf {
    buffer: BytesMut,
    buffer_used: Option<Instant>,
    bodies: VecDeque<Bytes>,
    bodies_used: Option<Instant>,
}

/// A thread's own shelf, and whether it is among all of them.
#[derive(Default)]
struct Own {
    shelf: Arc<Mutex<Shelf>>,
    listed: Cell<bool>,
}

thread_local! {
    static OWN: Own = Own::default();
}

/// Those of all threads that have read.
static SHELVES: Mutex<Vec<Weak<Mutex<Shelf>>>> = Mutex::new(Vec::new());

/// The buffer that this thread read into last, or an empty one.
pub(super) fn take_buffer() -> BytesMut {
    with_own(|shelf| std::mem::take(&mut shelf.buffer)).unwrap_or_default()
}

/// Keeps a buffer until this thread reads again.
pub(super) fn keep_buffer(buffer: BytesMut, now: Instant) {
    with_own(|shelf| (shelf.buffer, shelf.buffer_used) = (buffer, Some(now)));
}

/// Keeps the body that this thread has read until the application has let go of it and its buffer can be used again.
pub(super) fn keep_body(body: Bytes, now: Instant) {
    with_own(|shelf| shelf.keep_body(body, now));
}

/// The buffer of an earlier body that nobody else has any more, with room for so much and no more than twice that.
pub(super) fn take_body(room: usize) -> Option<BytesMut> {
    with_own(|shelf| shelf.take_body(room))?
}

/// Frees what no thread has used for so long. Says when to look again, if anything is left.
pub(super) fn free_unused(now: Instant, age: Duration) -> Option<Instant> {
    let Some(mut shelves) = try_lock(&SHELVES) else { return now.checked_add(AGE) };
    let mut next: Option<Instant> = None;
    shelves.retain(|shelf| {
        let Some(shelf) = shelf.upgrade() else { return false };
        let due = match try_lock(&shelf) {
            Some(mut shelf) => shelf.free_unused(now, age),
            // Its thread uses it at this moment.
            None => now.checked_add(AGE),
        };
        next = next.into_iter().chain(due).min();
        true
    });
    next
}

impl Shelf {
    fn keep_body(&mut self, body: Bytes, now: Instant) {
        self.bodies.truncate(KEPT_BODIES - 1);
        self.bodies.push_front(body);
        self.bodies_used = Some(now);
    }

    fn take_body(&mut self, room: usize) -> Option<BytesMut> {
        let is_near = |body: &Bytes| (room / 2..=room * 2).contains(&body.len());
        let place = self.bodies.iter().position(|body| is_near(body) && body.is_unique())?;
        let buffer = self.bodies.remove(place)?.try_into_mut().ok()?;
        // The body may have been shorter than its buffer.
        (room..=room * 2).contains(&buffer.capacity()).then_some(buffer)
    }

    /// Frees what has not been used for so long. Says when something else will have been unused for [`AGE`].
    fn free_unused(&mut self, now: Instant, age: Duration) -> Option<Instant> {
        let is_old = |used: Instant| now.saturating_duration_since(used) >= age;
        if self.buffer_used.is_some_and(is_old) {
            (self.buffer, self.buffer_used) = (BytesMut::new(), None);
        }
        if self.bodies_used.is_some_and(is_old) {
            (self.bodies, self.bodies_used) = (VecDeque::new(), None);
        }
        let used = self.buffer_used.into_iter().chain(self.bodies_used).min()?;
        used.checked_add(AGE)
    }
}

/// Does something with this thread's shelf, unless an engine thread looks at it at this moment, or the thread is about
/// to end.
#[inline]
fn with_own<T>(act: impl FnOnce(&mut Shelf) -> T) -> Option<T> {
    OWN.try_with(|own| {
        if !own.listed.get() {
            if let Some(mut shelves) = try_lock(&SHELVES) {
                shelves.push(Arc::downgrade(&own.shelf));
                own.listed.set(true);
            }
        }
        try_lock(&own.shelf).map(|mut shelf| act(&mut shelf))
    })
    .ok()?
}

#[inline]
fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// What has not been used for so long is freed.
pub(super) const AGE: Duration = Duration::from_secs(1);
/// So many bodies are remembered.
const KEPT_BODIES: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_lately_stays_and_the_rest_is_freed() {
        let begin = Instant::now();
        let later = begin + AGE / 2;
        let mut shelf = Shelf { buffer: BytesMut::with_capacity(1000), buffer_used: Some(later), ..Shelf::default() };
        shelf.keep_body(Bytes::from(vec![7; 1000]), begin);
        assert_eq!(shelf.free_unused(later, AGE), Some(begin + AGE));
        assert_eq!(shelf.free_unused(begin + AGE, AGE), Some(later + AGE));
        assert_eq!((shelf.bodies.len(), shelf.buffer.capacity()), (0, 1000));
        assert_eq!(shelf.free_unused(later + AGE, AGE), None);
        assert_eq!(shelf.buffer.capacity(), 0);
    }

    #[test]
    fn a_body_is_used_again_once_nobody_else_has_it() {
        let (mut shelf, now) = (Shelf::default(), Instant::now());
        let body = Bytes::from(vec![7; 1000]);
        shelf.keep_body(body.clone(), now);
        assert!(shelf.take_body(1000).is_none());
        drop(body);
        assert!(shelf.take_body(400).is_none(), "it is too large for that");
        assert!(shelf.take_body(900).is_some_and(|body| body.capacity() >= 1000));
        for _ in 0..10 {
            shelf.keep_body(Bytes::from(vec![7; 1000]), now);
        }
        assert_eq!(std::iter::from_fn(|| shelf.take_body(1000)).count(), KEPT_BODIES);
    }
}
