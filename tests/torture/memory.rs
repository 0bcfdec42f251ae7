//! `mem://name`: a transport in memory that cuts, stalls, delays and chops, and knows which messages it swallowed.
//!
//! It reads along in what is written, so far as to know where messages end and what their ids are. A message whose last
//! octet a writer gave to it, and no reader took, is swallowed when the reader can take it no more.

use crate::message::{HEADER, Id, TOPIC, id_of};
use crate::support::random::Random;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::transports::mio::unix::SourceFd;
use wiremesh::transports::mio::{Interest, Registry, Token};
use wiremesh::transports::{AddressError, LinkOptions, Listener, Purpose, ReadBuf, Stream, Transport};

/// How all links of a world behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Octets that a direction of a link holds.
    pub(crate) capacity: usize,
    /// The most that one call takes or gives; 0 is no limit.
    pub(crate) chop: usize,
    /// How long octets are under way.
    pub(crate) delay: Duration,
}

/// The transport, and the hand that rules it.
#[derive(Clone)]
pub(crate) struct Memory(Arc<Hub>);

struct Hub {
    manner: Manner,
    seed: u64,
    listeners: Mutex<HashMap<String, Arc<Waiting>>>,
    links: Mutex<Vec<Weak<Link>>>,
    made: AtomicU64,
    lost: Arc<Mutex<Vec<Lost>>>,
    post: Arc<Post>,
}

/// A message that was written and never read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) id: Id,
    /// Whether the transport broke the link. Otherwise a reader went away from what was there.
    pub(crate) cut: bool,
}

impl Memory {
    pub(crate) fn new(manner: Manner, seed: u64) -> Memory {
        let post = Arc::new(Post::default());
        thread::Builder::new()
            .name("torture-post".to_owned())
            .spawn({
                let post = Arc::downgrade(&post);
                move || Post::deliver(&post)
            })
            .expect("a thread");
        Memory(Arc::new(Hub {
            manner,
            seed,
            listeners: Mutex::default(),
            links: Mutex::default(),
            made: AtomicU64::new(0),
            lost: Arc::default(),
            post,
        }))
    }

    /// Every message that it swallowed so far.
    pub(crate) fn lost(&self) -> Vec<Lost> {
        lock(&self.0.lost).clone()
    }

    /// Whether octets are under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.links(None).iter().all(|link| link.pipes.iter().all(|pipe| lock(pipe).held == 0))
    }

    /// Breaks every link of that name; `drains` lets readers have what was written. How many there were.
    pub(crate) fn cut(&self, name: &str, drains: bool) -> usize {
        let links = self.links(Some(name));
        links.iter().for_each(|link| link.cut(drains));
        links.len()
    }

    /// Holds back what is under way on the links of that name, or no longer.
    pub(crate) fn stall(&self, name: Option<&str>, stalled: bool) {
        for link in self.links(name) {
            link.pipes.iter().for_each(|pipe| lock(pipe).stalled = stalled);
            link.ring_both();
        }
    }

    fn links(&self, name: Option<&str>) -> Vec<Arc<Link>> {
        let mut links = lock(&self.0.links);
        links.retain(|link| link.strong_count() > 0);
        links.iter().filter_map(Weak::upgrade).filter(|link| name.is_none_or(|name| name == link.name)).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a poll look: an eventfd, each write to which is an edge in both directions.
#[derive(Debug)]
struct Bell(File);

impl Bell {
    fn new() -> io::Result<Bell> {
        // SAFETY: takes plain numbers and returns a descriptor or an error.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor has just been made and belongs to nobody else.
        Ok(Bell(unsafe { File::from_raw_fd(descriptor) }))
    }

    fn ring(&self) {
        // It counts to 2^64 before it would block.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// A ring is an edge for readers only, and says that a stream may be writable as well: so it is always registered
    /// for both.
    fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.0.as_raw_fd()), token, Interest::READABLE | Interest::WRITABLE)
    }

    fn reregister(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.reregister(&mut SourceFd(&self.0.as_raw_fd()), token, Interest::READABLE | Interest::WRITABLE)
    }

    fn deregister(&self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut SourceFd(&self.0.as_raw_fd()))
    }
}

/// Two ends, 0 the connecting one, and a pipe from each.
#[derive(Debug)]
struct Link {
    name: String,
    /// What that end writes.
    pipes: [Mutex<Pipe>; 2],
    bells: [Bell; 2],
    lost: Arc<Mutex<Vec<Lost>>>,
}

#[derive(Debug, Default)]
struct Pipe {
    /// When each may be read.
    data: VecDeque<(Instant, Vec<u8>)>,
    /// How much of the first is read.
    begun: usize,
    held: usize,
    read: u64,
    spy: Spy,
    stalled: bool,
    writer_gone: bool,
    /// Since then. Who writes does not know it until word of it has come back.
    reader_gone: Option<Instant>,
    broken: Option<Broken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// What was written can still be read.
    Drains,
    AtOnce,
}

impl Pipe {
    /// Nobody will read what is there.
    fn swallow(&mut self, cut: bool, lost: &Mutex<Vec<Lost>>) {
        lock(lost).extend(self.spy.ends.drain(..).filter_map(|(_, id)| id).map(|id| Lost { id, cut }));
        self.data.clear();
        (self.begun, self.held) = (0, 0);
    }
}

impl Link {
    fn cut(&self, drains: bool) {
        // Both at once: an end that finds one direction broken may go before the other one is.
        for mut pipe in self.pipes.each_ref().map(lock) {
            if pipe.broken.is_none() {
                pipe.broken = Some(if drains { Broken::Drains } else { Broken::AtOnce });
                if !drains {
                    pipe.swallow(true, &self.lost);
                }
            }
        }
        self.ring_both();
    }

    fn ring_both(&self) {
        self.bells.iter().for_each(Bell::ring);
    }
}

/// Rings when delayed octets arrive.
#[derive(Default)]
struct Post {
    due: Mutex<BinaryHeap<std::cmp::Reverse<(Instant, u64)>>>,
    whom: Mutex<HashMap<u64, (Weak<Link>, usize)>>,
    number: AtomicU64,
    more: Condvar,
}

impl Post {
    fn ring_at(&self, when: Instant, link: &Arc<Link>, side: usize) {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        lock(&self.whom).insert(number, (Arc::downgrade(link), side));
        lock(&self.due).push(std::cmp::Reverse((when, number)));
        self.more.notify_one();
    }

    fn deliver(post: &Weak<Post>) {
        while let Some(post) = post.upgrade() {
            let due = lock(&post.due);
            let wait = due
                .peek()
                .map_or(Duration::from_millis(500), |next| next.0.0.saturating_duration_since(Instant::now()));
            // Half a second at most, so that the thread ends with its world.
            let (mut due, _) = post
                .more
                .wait_timeout(due, wait.min(Duration::from_millis(500)))
                .unwrap_or_else(PoisonError::into_inner);
            while due.peek().is_some_and(|next| next.0.0 <= Instant::now()) {
                let number = due.pop().map_or(0, |next| next.0.1);
                if let Some((link, side)) = lock(&post.whom).remove(&number) {
                    if let Some(link) = link.upgrade() {
                        link.bells[side].ring();
                    }
                }
            }
        }
    }
}

/// Reads along: where messages end in the stream, and which they are.
#[derive(Debug, Default)]
struct Spy {
    written: u64,
    /// The ends of messages that are not read yet.
    ends: VecDeque<(u64, Option<Id>)>,
    header: Vec<u8>,
    /// Octets of the greeting seen, 64 at most.
    greeting: usize,
    /// Octets of a body to come, and whether its message ends with it.
    body: u64,
    last: bool,
    /// Whether the frame is a command, and the front of the message's first frame.
    command: bool,
    within: bool,
    front: Vec<u8>,
}

impl Spy {
    fn look(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let taken = self.step(octets);
            self.written += taken as u64;
            octets = &octets[taken..];
            if self.body == 0 && self.header.is_empty() && self.greeting == 64 && self.last {
                self.last = false;
                self.ends.push_back((self.written, id_of(&self.front)));
                self.front.clear();
                self.within = false;
            }
        }
    }

    fn step(&mut self, octets: &[u8]) -> usize {
        if self.greeting < 64 {
            let taken = octets.len().min(64 - self.greeting);
            self.greeting += taken;
            return taken;
        }
        if self.body > 0 {
            let taken = octets.len().min(usize::try_from(self.body).unwrap_or(usize::MAX));
            if !self.command && !self.within {
                let wanted = (TOPIC + HEADER).saturating_sub(self.front.len()).min(taken);
                self.front.extend_from_slice(&octets[..wanted]);
            }
            self.body -= taken as u64;
            self.end_frame();
            return taken;
        }
        self.header.push(octets[0]);
        let long = self.header[0] & 2 != 0;
        if self.header.len() == if long { 9 } else { 2 } {
            self.body = self.header[1..].iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet));
            self.command = self.header[0] & 4 != 0;
            self.last = !self.command && self.header[0] & 1 == 0;
            self.header.clear();
            self.end_frame();
        }
        1
    }

    fn end_frame(&mut self) {
        if self.body == 0 && !self.command && !self.last {
            self.within = true;
        }
    }
}

/// One end of a link.
#[derive(Debug)]
struct End {
    link: Arc<Link>,
    side: usize,
    manner: Manner,
    chance: Mutex<Random>,
    post: Weak<Post>,
}

impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Post")
    }
}

impl End {
    fn bit_of(&self, most: usize) -> usize {
        match self.manner.chop {
            0 => most,
            chop => most.min(1 + lock(&self.chance).below(chop)),
        }
    }

    fn ring_other(&self) {
        self.link.bells[1 - self.side].ring();
    }
}

impl Stream for End {
    fn register(&self, registry: &Registry, token: Token, _: Interest) -> io::Result<()> {
        self.link.bells[self.side].register(registry, token)
    }

    fn reregister(&self, registry: &Registry, token: Token, _: Interest) -> io::Result<()> {
        self.link.bells[self.side].reregister(registry, token)
    }

    fn deregister(&self, registry: &Registry) -> io::Result<()> {
        self.link.bells[self.side].deregister(registry)
    }

    fn read(&self, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        let mut pipe = lock(&self.link.pipes[1 - self.side]);
        if pipe.broken == Some(Broken::AtOnce) || (pipe.broken.is_some() && pipe.held == 0) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if pipe.held == 0 && pipe.writer_gone {
            return Ok(0);
        }
        let now = Instant::now();
        if pipe.stalled || pipe.data.front().is_none_or(|(due, _)| *due > now) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let was_full = pipe.held >= self.manner.capacity;
        let most = self.bit_of(buf.remaining());
        let mut taken = 0;
        while taken < most {
            let begun = pipe.begun;
            let Some((_, octets)) = pipe.data.front().filter(|(due, _)| *due <= now) else { break };
            let rest = &octets[begun..];
            let count = rest.len().min(most - taken);
            buf.put_slice(&rest[..count]);
            taken += count;
            if count == rest.len() {
                pipe.data.pop_front();
                pipe.begun = 0;
            } else {
                pipe.begun += count;
            }
        }
        pipe.held -= taken;
        pipe.read += taken as u64;
        while pipe.spy.ends.front().is_some_and(|(end, _)| *end <= pipe.read) {
            pipe.spy.ends.pop_front();
        }
        drop(pipe);
        if was_full {
            self.ring_other();
        }
        Ok(taken)
    }

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut pipe = lock(&self.link.pipes[self.side]);
        let is_known = pipe.reader_gone.is_some_and(|since| since.elapsed() >= 2 * self.manner.delay);
        if pipe.broken.is_some() || is_known || pipe.writer_gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = self.manner.capacity.saturating_sub(pipe.held);
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        let most = self.bit_of(total.min(room));
        let mut octets = Vec::with_capacity(most);
        for buf in bufs {
            let count = buf.len().min(most - octets.len());
            octets.extend_from_slice(&buf[..count]);
        }
        pipe.spy.look(&octets);
        if pipe.reader_gone.is_some() {
            pipe.swallow(false, &self.link.lost);
            return Ok(most);
        }
        pipe.held += octets.len();
        let due = Instant::now() + self.manner.delay;
        let stalled = pipe.stalled;
        pipe.data.push_back((due, octets));
        drop(pipe);
        match self.post.upgrade().filter(|_| !self.manner.delay.is_zero()) {
            Some(post) => post.ring_at(due, &self.link, 1 - self.side),
            None if stalled => {}
            None => self.ring_other(),
        }
        Ok(most)
    }

    /// What is left by a call that took less than was there, and the end behind it: no ring will come for that.
    fn has_buffered(&self) -> bool {
        let pipe = lock(&self.link.pipes[1 - self.side]);
        match pipe.data.front() {
            _ if pipe.broken == Some(Broken::AtOnce) => true,
            Some((due, _)) => !pipe.stalled && *due <= Instant::now(),
            None => pipe.writer_gone || pipe.broken.is_some(),
        }
    }

    fn connected(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how != Shutdown::Read {
            lock(&self.link.pipes[self.side]).writer_gone = true;
            self.ring_other();
        }
        Ok(())
    }

    fn local_address(&self) -> String {
        self.link.name.clone()
    }

    fn peer_address(&self) -> String {
        self.link.name.clone()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        lock(&self.link.pipes[self.side]).writer_gone = true;
        let mut pipe = lock(&self.link.pipes[1 - self.side]);
        pipe.reader_gone = Some(Instant::now());
        let cut = pipe.broken.is_some();
        pipe.swallow(cut, &self.link.lost);
        drop(pipe);
        self.ring_other();
    }
}

/// The connections nobody has accepted yet.
#[derive(Debug)]
struct Waiting {
    ends: Mutex<VecDeque<End>>,
    bell: Bell,
}

struct Door {
    name: String,
    waiting: Arc<Waiting>,
    hub: Weak<Hub>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Listener for Door {
    fn register(&self, registry: &Registry, token: Token, _: Interest) -> io::Result<()> {
        self.waiting.bell.register(registry, token)
    }

    fn reregister(&self, registry: &Registry, token: Token, _: Interest) -> io::Result<()> {
        self.waiting.bell.reregister(registry, token)
    }

    fn deregister(&self, registry: &Registry) -> io::Result<()> {
        self.waiting.bell.deregister(registry)
    }

    fn accept(&self) -> io::Result<Box<dyn Stream>> {
        let end = lock(&self.waiting.ends).pop_front();
        end.map_or_else(|| Err(io::ErrorKind::WouldBlock.into()), |end| Ok(Box::new(end) as Box<dyn Stream>))
    }

    fn local_address(&self) -> String {
        self.name.clone()
    }

    fn close(self: Box<Self>) {}
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            let mut listeners = lock(&hub.listeners);
            if listeners.get(&self.name).is_some_and(|waiting| Arc::ptr_eq(waiting, &self.waiting)) {
                listeners.remove(&self.name);
            }
        }
        // Connections that nobody accepted are reset.
        for end in lock(&self.waiting.ends).drain(..) {
            end.link.cut(false);
        }
    }
}

impl Transport for Memory {
    fn scheme(&self) -> &str {
        "mem"
    }

    fn check(&self, address: &str, _: Purpose) -> Result<(), AddressError> {
        if address.is_empty() { Err(AddressError::new(address, "a name is wanted")) } else { Ok(()) }
    }

    fn resolve(&self, address: &str, _: &LinkOptions) -> io::Result<Vec<String>> {
        Ok(vec![address.to_owned()])
    }

    fn resolve_now(&self, address: &str) -> Option<Vec<String>> {
        Some(vec![address.to_owned()])
    }

    fn bind(&self, address: &str, _: &LinkOptions) -> io::Result<Box<dyn Listener>> {
        let mut listeners = lock(&self.0.listeners);
        if listeners.contains_key(address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let waiting = Arc::new(Waiting { ends: Mutex::default(), bell: Bell::new()? });
        listeners.insert(address.to_owned(), Arc::clone(&waiting));
        Ok(Box::new(Door { name: address.to_owned(), waiting, hub: Arc::downgrade(&self.0) }))
    }

    fn connect(&self, resolved: &str, _: &LinkOptions) -> io::Result<Box<dyn Stream>> {
        let hub = &self.0;
        let listeners = lock(&hub.listeners);
        let waiting = listeners.get(resolved).ok_or(io::ErrorKind::ConnectionRefused)?;
        let link = Arc::new(Link {
            name: resolved.to_owned(),
            pipes: Default::default(),
            bells: [Bell::new()?, Bell::new()?],
            lost: Arc::clone(&hub.lost),
        });
        lock(&hub.links).push(Arc::downgrade(&link));
        let end = |side| End {
            link: Arc::clone(&link),
            side,
            manner: hub.manner,
            chance: Mutex::new(Random::new(hub.seed ^ hub.made.fetch_add(1, Ordering::Relaxed) << 8)),
            post: Arc::downgrade(&hub.post),
        };
        lock(&waiting.ends).push_back(end(1));
        waiting.bell.ring();
        Ok(Box::new(end(0)))
    }
}
