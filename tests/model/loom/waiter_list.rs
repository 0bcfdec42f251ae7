//! Nobody on the waiter list sleeps while what it waits for is there.

use crate::explore::{STUCK, breaks, holds};
use crate::parker::{Parked, Parker};
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, fence};
use crate::unordered::waiters as unfenced;
use crate::waiters::{self, Interest, Waiters};
use loom::thread;
use std::collections::VecDeque;
use std::time::Instant;

/// The waiter list for messages, or a weakened one.
trait List: Default + Send + Sync + 'static {
    fn wait(&self, deadline: Option<Instant>, ready: impl FnOnce() -> bool) -> Parked;
    fn notify(&self, many: usize);
}

macro_rules! list {
    ($waiters:ident) => {
        impl List for $waiters::Waiters {
            fn wait(&self, deadline: Option<Instant>, ready: impl FnOnce() -> bool) -> Parked {
                self.wait($waiters::Interest::MESSAGE, deadline, ready)
            }
            fn notify(&self, many: usize) {
                self.notify($waiters::Interest::MESSAGE, many);
            }
        }
    };
}

list!(waiters);
list!(unfenced);

/// A socket with messages to be taken. Only the list orders what is looked at against what is published.
#[derive(Default)]
struct Socket<L> {
    messages: AtomicUsize,
    list: L,
}

impl<L: List> Socket<L> {
    fn deliver(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.list.notify(1);
    }

    fn take(&self) -> bool {
        let take = |messages: usize| messages.checked_sub(1);
        self.messages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn receive(&self) {
        while !self.take() {
            self.list.wait(None, || self.messages.load(Ordering::Relaxed) > 0);
        }
    }
}

/// One waits, one message comes.
fn one_for_one<L: List>() {
    let socket = Arc::new(Socket::<L>::default());
    let sender = thread::spawn({
        let socket = Arc::clone(&socket);
        move || socket.deliver()
    });
    socket.receive();
    sender.join().expect("no panic");
}

/// Two wait, two messages come.
fn two_for_two<L: List>() {
    let socket = Arc::new(Socket::<L>::default());
    let others = [
        thread::spawn({
            let socket = Arc::clone(&socket);
            move || socket.receive()
        }),
        thread::spawn({
            let socket = Arc::clone(&socket);
            move || (0..2).for_each(|_| socket.deliver())
        }),
    ];
    socket.receive();
    for other in others {
        other.join().expect("no panic");
    }
}

/// Two wait, one message comes, and one of the two gives up at its deadline without another look.
fn one_gives_up<L: List>() {
    let socket = Arc::new(Socket::<L>::default());
    let others = [
        thread::spawn({
            let socket = Arc::clone(&socket);
            move || {
                if socket.list.wait(Some(Instant::now()), || false) == Parked::Notified {
                    // It was told in time, and is not interested any more: it is the one to tell the other.
                    socket.list.notify(1);
                }
            }
        }),
        thread::spawn({
            let socket = Arc::clone(&socket);
            move || socket.deliver()
        }),
    ];
    socket.receive();
    for other in others {
        other.join().expect("no panic");
    }
}

#[test]
fn a_message_wakes_the_one_that_waits() {
    holds("one for one", 3, one_for_one::<Waiters>);
}

#[test]
fn two_messages_wake_the_two_that_wait() {
    holds("two for two", 2, two_for_two::<Waiters>);
}

#[test]
fn a_waiter_that_gives_up_passes_its_notification_on() {
    holds("one gives up", 3, one_gives_up::<Waiters>);
}

#[test]
fn a_notification_of_something_else_wakes_nobody() {
    holds("something else", 3, || {
        let list = Arc::new(Waiters::default());
        let other = thread::spawn({
            let list = Arc::clone(&list);
            move || list.notify(Interest::ROOM, 9)
        });
        assert_eq!(list.wait(Interest::MESSAGE, Some(Instant::now()), || false), Parked::TimedOut);
        assert!(list.is_empty());
        other.join().expect("no panic");
    });
}

#[test]
fn without_fences_a_wake_is_lost() {
    breaks("no fences", STUCK, 3, one_for_one::<unfenced::Waiters>);
}

#[test]
fn looking_before_going_on_the_list_loses_a_wake() {
    breaks("looks too early", STUCK, 3, one_for_one::<Weakened<LOOKS_TOO_EARLY>>);
}

#[test]
fn notifying_before_publishing_loses_a_wake() {
    breaks("tells too early", STUCK, 3, || {
        let socket = Arc::new(Socket::<Waiters>::default());
        let sender = thread::spawn({
            let socket = Arc::clone(&socket);
            move || {
                List::notify(&socket.list, 1);
                socket.messages.fetch_add(1, Ordering::Relaxed);
            }
        });
        socket.receive();
        sender.join().expect("no panic");
    });
}

#[test]
fn a_waiter_that_keeps_its_notification_leaves_another_asleep() {
    breaks("keeps it", STUCK, 3, one_gives_up::<Weakened<KEEPS_ITS_NOTIFICATION>>);
}

/// The list with one thing done wrong.
#[derive(Default)]
struct Weakened<const FLAW: u8> {
    list: Mutex<VecDeque<Arc<Parker>>>,
    count: AtomicUsize,
}

const LOOKS_TOO_EARLY: u8 = 0;
const KEEPS_ITS_NOTIFICATION: u8 = 1;

impl<const FLAW: u8> List for Weakened<FLAW> {
    fn wait(&self, deadline: Option<Instant>, ready: impl FnOnce() -> bool) -> Parked {
        let mut ready = Some(ready);
        if FLAW == LOOKS_TOO_EARLY && ready.take().is_some_and(|ready| ready()) {
            return Parked::Notified;
        }
        let parker = Arc::new(Parker::new());
        {
            let mut list = self.list.lock().expect("no panic");
            list.push_back(Arc::clone(&parker));
            self.count.store(list.len(), Ordering::SeqCst);
            fence(Ordering::SeqCst);
        }
        let there = ready.is_some_and(|ready| ready());
        let parked = if there { Parked::Notified } else { parker.park(deadline) };
        let mut list = self.list.lock().expect("no panic");
        let before = list.len();
        list.retain(|waiting| !Arc::ptr_eq(waiting, &parker));
        self.count.store(list.len(), Ordering::SeqCst);
        let served = list.len() == before;
        drop(list);
        if FLAW != KEEPS_ITS_NOTIFICATION && served && parked != Parked::Notified {
            self.notify(1);
        }
        parked
    }

    fn notify(&self, many: usize) {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let woken: Vec<_> = {
            let mut list = self.list.lock().expect("no panic");
            let many = many.min(list.len());
            let woken = list.drain(..many).collect();
            self.count.store(list.len(), Ordering::SeqCst);
            woken
        };
        for parker in woken {
            parker.notify();
        }
    }
}
