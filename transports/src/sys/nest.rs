//! One poll inside another: the outer one wakes when something inside the inner one is ready.

use std::io;

use mio::Token;

/// Whether this system can nest polls. Where it is `false`, [`Nest::attach`] fails.
pub const NESTING: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// A poll's place inside another poll.
///
/// It is *armed* or *disarmed*. While it is armed the outer poll reports the token, readable, once per edge: when
/// something in the inner poll becomes ready, or at once on arming if something already is. While it is disarmed it
/// reports nothing. Any thread may arm and disarm at any time; two at once leave either state.
///
/// It holds the numbers of the two descriptors, not the descriptors. Both polls must outlive it, or at least not be
/// used through it once closed: then its calls fail, or concern whatever else got the number. Dropping it changes
/// nothing in the polls, because a drop in a forked child must not: the two processes share them. Call
/// [`detach`](Self::detach) before the inner poll closes, since a duplicate in a child would keep it alive in the
/// outer one.
#[derive(Debug)]
#[must_use = "a dropped nest stays attached; detach it"]
pub struct Nest {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    inside: linux::Inside,
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    never: std::convert::Infallible,
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Nest {
    /// Puts `inner` into `master` under a token, disarmed. Either may be a [`mio::Poll`] or a [`mio::Registry`].
    ///
    /// # Errors
    ///
    /// What `epoll_ctl` said: [`AlreadyExists`](io::ErrorKind::AlreadyExists) if it is in there already,
    /// `ELOOP` or `EINVAL` if the nesting would be circular or too deep.
    pub fn attach(
        master: &impl std::os::fd::AsRawFd,
        inner: &impl std::os::fd::AsRawFd,
        token: Token,
    ) -> io::Result<Self> {
        let inside = linux::Inside { master: master.as_raw_fd(), inner: inner.as_raw_fd(), token };
        inside.control(libc::EPOLL_CTL_ADD, linux::DISARMED)?;
        Ok(Self { inside })
    }

    /// Lets the outer poll report the token. If the inner poll is ready now, it reports at once.
    ///
    /// # Errors
    ///
    /// What `epoll_ctl` said; it cannot fail while both polls live and the nest is attached.
    pub fn arm(&self) -> io::Result<()> {
        self.inside.control(libc::EPOLL_CTL_MOD, linux::ARMED)
    }

    /// Stops the outer poll from reporting the token. A report that was not yet fetched is withdrawn.
    ///
    /// # Errors
    ///
    /// As for [`arm`](Self::arm).
    pub fn disarm(&self) -> io::Result<()> {
        self.inside.control(libc::EPOLL_CTL_MOD, linux::DISARMED)
    }

    /// Takes the inner poll out of the outer one.
    ///
    /// # Errors
    ///
    /// As for [`arm`](Self::arm).
    pub fn detach(self) -> io::Result<()> {
        self.inside.control(libc::EPOLL_CTL_DEL, linux::DISARMED)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use super::{Token, io};

    /// Edge-triggered, as mio registers its own sources: a ready inner poll must not spin the outer one.
    pub(super) const ARMED: u32 = (libc::EPOLLIN | libc::EPOLLET) as u32;
    pub(super) const DISARMED: u32 = 0;

    #[derive(Debug)]
    pub(super) struct Inside {
        pub(super) master: i32,
        pub(super) inner: i32,
        pub(super) token: Token,
    }

    impl Inside {
        pub(super) fn control(&self, operation: i32, events: u32) -> io::Result<()> {
            let mut event = libc::epoll_event { events, u64: self.token.0 as u64 };
            // SAFETY: `event` lives through the call and is only read; numbers that are no polls are an error, not
            // undefined behaviour.
            let result = unsafe { libc::epoll_ctl(self.master, operation, self.inner, &raw mut event) };
            if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Nest {
    /// Fails: this system cannot nest polls, as [`NESTING`] says.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported), always.
    pub fn attach<M, I>(_master: &M, _inner: &I, _token: Token) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this system cannot nest polls"))
    }

    /// Cannot be called here: there is no nest.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn arm(&self) -> io::Result<()> {
        match self.never {}
    }

    /// Cannot be called here: there is no nest.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn disarm(&self) -> io::Result<()> {
        match self.never {}
    }

    /// Cannot be called here: there is no nest.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn detach(self) -> io::Result<()> {
        match self.never {}
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll, Waker};

    use super::*;

    const INNER: Token = Token(7 << 40 | 3);

    struct Pair {
        master: Poll,
        inner: Poll,
        waker: Waker,
        nest: Nest,
    }

    fn nested() -> Pair {
        let master = Poll::new().unwrap();
        let inner = Poll::new().unwrap();
        let waker = Waker::new(inner.registry(), Token(0)).unwrap();
        let nest = Nest::attach(&master, inner.registry(), INNER).unwrap();
        Pair { master, inner, waker, nest }
    }

    /// The tokens the master reports within `millis`.
    fn reported(master: &mut Poll, millis: u64) -> Vec<Token> {
        let mut events = Events::with_capacity(8);
        master.poll(&mut events, Some(Duration::from_millis(millis))).unwrap();
        assert!(events.iter().all(|event| event.is_readable()));
        events.iter().map(|event| event.token()).collect()
    }

    fn drain(inner: &mut Poll) {
        inner.poll(&mut Events::with_capacity(8), Some(Duration::ZERO)).unwrap();
    }

    #[test]
    fn an_armed_inner_poll_wakes_the_outer_one() {
        let mut pair = nested();
        pair.nest.arm().unwrap();
        assert_eq!(reported(&mut pair.master, 0), []);
        let waker = pair.waker;
        let ringer = std::thread::spawn(move || waker.wake().map(|()| waker).unwrap());
        assert_eq!(reported(&mut pair.master, 10_000), [INNER]);
        ringer.join().unwrap();
    }

    #[test]
    fn a_disarmed_inner_poll_is_silent() {
        let mut pair = nested();
        pair.waker.wake().unwrap();
        assert_eq!(reported(&mut pair.master, 5), [], "attached disarmed");
        pair.nest.arm().unwrap();
        pair.nest.disarm().unwrap();
        assert_eq!(reported(&mut pair.master, 5), [], "the report was withdrawn");
    }

    #[test]
    fn arming_a_ready_inner_poll_reports_at_once_each_time() {
        let mut pair = nested();
        pair.waker.wake().unwrap();
        for _ in 0..3 {
            pair.nest.arm().unwrap();
            assert_eq!(reported(&mut pair.master, 10_000), [INNER]);
            pair.nest.disarm().unwrap();
        }
    }

    #[test]
    fn a_ready_inner_poll_is_reported_once_per_edge() {
        let mut pair = nested();
        pair.nest.arm().unwrap();
        pair.waker.wake().unwrap();
        assert_eq!(reported(&mut pair.master, 10_000), [INNER]);
        assert_eq!(reported(&mut pair.master, 5), [], "no new edge");
        drain(&mut pair.inner);
        pair.waker.wake().unwrap();
        assert_eq!(reported(&mut pair.master, 10_000), [INNER]);
    }

    #[test]
    fn a_detached_poll_can_be_attached_again() {
        let mut pair = nested();
        assert!(Nest::attach(&pair.master, &pair.inner, INNER).is_err(), "it is in there already");
        pair.nest.detach().unwrap();
        pair.waker.wake().unwrap();
        assert_eq!(reported(&mut pair.master, 5), []);
        let nest = Nest::attach(&pair.master, &pair.inner, Token(1)).unwrap();
        nest.arm().unwrap();
        assert_eq!(reported(&mut pair.master, 10_000), [Token(1)]);
        nest.detach().unwrap();
    }

    #[test]
    fn a_poll_does_not_fit_into_itself() {
        let poll = Poll::new().unwrap();
        assert!(Nest::attach(&poll, &poll, INNER).is_err());
    }
}
