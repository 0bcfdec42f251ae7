//! The suite every byte transport has to pass: what of the contract can be seen from outside.
//!
//! Each check is a function that takes a [`Subject`] and panics, saying why, if the transport breaks the contract. The
//! macro [`conformance_tests!`](crate::conformance_tests) makes a test of each of them; a transport of your own needs
//! this crate with the feature `conformance` among its dev-dependencies, and
//!
//! ```
//! mod my_transport {
//!     use std::sync::Arc;
//!     use wiremesh_transports::conformance::Subject;
//!
//!     fn subject() -> Subject {
//!         Subject::new(Arc::new(wiremesh_transports::Tcp), || "127.0.0.1:*".to_owned()).refuses("nonsense")
//!     }
//!
//!     wiremesh_transports::conformance_tests!(subject());
//! }
//! ```
//!
//! The suite does not look for signals, leaked descriptors or what a forked child does; a transport with code of its
//! own for these needs tests of its own.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mio::{Events, Interest, Poll, Token};

use crate::contract::{Listener, Purpose, Stream, Transport};
use crate::options::LinkOptions;
use crate::read_into;

/// Makes a test of every check; the argument is an expression that makes a [`Subject`](crate::conformance::Subject).
#[macro_export]
macro_rules! conformance_tests {
    ($subject:expr) => {
        $crate::conformance_tests! { @each $subject;
            bytes_travel_both_ways
            buffers_are_written_in_order
            more_buffers_than_a_call_takes_are_written_in_order
            a_read_takes_no_more_than_it_may
            a_silent_stream_says_would_block
            a_full_stream_says_would_block_and_loses_nothing
            the_end_comes_after_the_last_byte
            the_end_comes_again
            bytes_of_a_dropped_stream_arrive_before_the_end
            a_stream_that_ended_one_way_carries_the_other
            a_stream_that_shut_down_reads_the_end
            writing_to_a_peer_that_has_gone_is_an_error
            connecting_to_nobody_is_reported
            addresses_name_both_ends
            the_peer_address_outlives_the_peer
            a_bound_address_can_be_connected_to_and_bound_again
            an_address_in_use_is_not_taken_over
            every_waiting_connection_is_accepted
            a_listener_without_connections_says_would_block
            a_listener_reports_each_arrival
            a_stream_reports_each_edge
            registering_again_changes_the_token_and_reports_again
            a_deregistered_stream_reports_nothing
            a_new_connection_is_reported_writable
            the_end_is_reported_readable
            two_threads_use_the_two_directions
            wrong_addresses_are_refused_everywhere
        }
    };
    (@each $subject:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                $crate::conformance::$check(&$subject);
            }
        )*
    };
}

/// A transport to be checked.
pub struct Subject {
    transport: Arc<dyn Transport>,
    fresh: Box<dyn Fn() -> String + Send + Sync>,
    options: LinkOptions,
    wrong: Vec<String>,
}

impl Subject {
    /// Names the transport and a way to get an address that can be bound at once, a different one or a wildcard each
    /// time.
    pub fn new(transport: Arc<dyn Transport>, fresh: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self { transport, fresh: Box::new(fresh), options: LinkOptions::default(), wrong: Vec::new() }
    }

    /// Adds an address whose form is wrong for binding as for connecting.
    #[must_use]
    pub fn refuses(mut self, address: &str) -> Self {
        self.wrong.push(address.to_owned());
        self
    }

    /// Sets the options of all links.
    #[must_use]
    pub fn options(mut self, options: LinkOptions) -> Self {
        self.options = options;
        self
    }

    fn listen(&self) -> Box<dyn Listener> {
        let address = (self.fresh)();
        self.transport.check(&address, Purpose::Bind).expect("a fresh address has a good form");
        self.bind(&address).expect("a fresh address can be bound")
    }

    fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        self.transport.bind(address, &self.options)
    }

    /// Starts to connect to the first address that takes it.
    fn connect(&self, address: &str) -> io::Result<Box<dyn Stream>> {
        self.transport.check(address, Purpose::Connect)?;
        let resolved = self.transport.resolve(address, &self.options)?;
        assert!(!resolved.is_empty(), "resolve returned no address for {address:?}");
        let mut outcome = Err(io::ErrorKind::NotFound.into());
        for candidate in resolved {
            outcome = self.transport.connect(&candidate, &self.options);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// A connection: the connecting end and the accepted one.
    fn marry(&self) -> (Box<dyn Stream>, Box<dyn Stream>) {
        let listener = self.listen();
        marry_at(self, &*listener)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("scheme", &self.transport.scheme()).field("options", &self.options).finish()
    }
}

/// Bytes written at either end come out at the other.
pub fn bytes_travel_both_ways(subject: &Subject) {
    let (client, server) = subject.marry();
    write_all(&*client, b"there");
    assert_eq!(read_exactly(&*server, 5), b"there");
    write_all(&*server, b"and back");
    assert_eq!(read_exactly(&*client, 8), b"and back");
}

/// A vectored write takes the buffers in the order given; empty ones do no harm.
pub fn buffers_are_written_in_order(subject: &Subject) {
    let (client, server) = subject.marry();
    let bufs: Vec<_> = [&b"one"[..], b"", b"two", b"", b"three"].into_iter().map(IoSlice::new).collect();
    let written = client.write_vectored(&bufs).expect("there is room");
    assert!((1..=11).contains(&written), "it took {written} of 11 bytes");
    assert_eq!(read_exactly(&*server, written), b"onetwothree".get(..written).expect("at most 11"));
    assert_eq!(client.write_vectored(&[]).expect("nothing to write"), 0);
}

/// A caller may pass any number of buffers.
pub fn more_buffers_than_a_call_takes_are_written_in_order(subject: &Subject) {
    let (client, server) = subject.marry();
    let data = pattern(0, 3 * 5000);
    let bufs: Vec<_> = data.chunks(3).map(IoSlice::new).collect();
    let written = client.write_vectored(&bufs).expect("there is room");
    assert!(written > 0);
    assert_eq!(read_exactly(&*server, written), data.get(..written).expect("no more than given"));
}

/// A read takes at most `max` bytes and at most what the buffer holds, never grows it, and leaves the rest.
pub fn a_read_takes_no_more_than_it_may(subject: &Subject) {
    let (client, server) = subject.marry();
    write_all(&*client, b"0123456789");
    wait_for(&*server, Interest::READABLE);
    let mut buffer = BytesMut::with_capacity(6);
    let room = buffer.capacity();
    let first = read_into(&*server, &mut buffer, 4).expect("bytes are there");
    assert!((1..=4).contains(&first));
    while buffer.len() < room.min(10) {
        let max = usize::MAX;
        patiently(&*server, Interest::READABLE, || read_into(&*server, &mut buffer, max)).expect("bytes are there");
    }
    assert_eq!(buffer.capacity(), room, "the buffer has grown");
    if buffer.len() == room {
        let full = read_into(&*server, &mut buffer, 10).expect_err("there is no room");
        assert_eq!(full.kind(), ErrorKind::InvalidInput);
    }
    let rest = read_exactly(&*server, 10 - buffer.len());
    assert_eq!([&buffer[..], &rest[..]].concat(), b"0123456789");
}

/// A read from a stream without bytes does not wait.
pub fn a_silent_stream_says_would_block(subject: &Subject) {
    let (client, server) = subject.marry();
    for stream in [&client, &server] {
        let error = read_into(&**stream, &mut BytesMut::with_capacity(8), 8).expect_err("nothing is there");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}

/// A write to a peer that does not read ends in `WouldBlock`; when it reads, room is reported and every byte arrives.
pub fn a_full_stream_says_would_block_and_loses_nothing(subject: &Subject) {
    let (client, server) = subject.marry();
    let data = pattern(1, 64 * 1024);
    let mut written = 0;
    let began = Instant::now();
    loop {
        let rest = data.get(written % data.len()..).expect("within the pattern");
        match client.write_vectored(&[IoSlice::new(rest)]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("writing failed: {error}"),
        }
        assert!(began.elapsed() < PATIENCE, "the stream takes bytes without end");
    }
    let expected: Vec<u8> = data.iter().copied().cycle().take(written).collect();
    let received = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_exactly(&*server, written));
        write_all(&*client, b"more");
        reader.join().expect("the reader succeeds")
    });
    assert!(received == expected, "the bytes have changed on the way");
    assert_eq!(read_exactly(&*server, 4), b"more");
}

/// After `shutdown(Write)` the peer reads every byte and then the end.
pub fn the_end_comes_after_the_last_byte(subject: &Subject) {
    let (client, server) = subject.marry();
    let data = pattern(2, 10_000);
    write_all(&*client, &data);
    client.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(read_to_end(&*server), data);
}

/// The end of the stream is reported as often as it is asked for.
pub fn the_end_comes_again(subject: &Subject) {
    let (client, server) = subject.marry();
    drop(client);
    assert_eq!(read_to_end(&*server), b"");
    assert_eq!(read_to_end(&*server), b"");
}

/// Bytes written before a drop are delivered before the end.
pub fn bytes_of_a_dropped_stream_arrive_before_the_end(subject: &Subject) {
    let (client, server) = subject.marry();
    let data = pattern(3, 10_000);
    write_all(&*server, &data);
    drop(server);
    assert_eq!(read_to_end(&*client), data);
}

/// Ending one direction leaves the other as it is.
pub fn a_stream_that_ended_one_way_carries_the_other(subject: &Subject) {
    let (client, server) = subject.marry();
    client.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(read_to_end(&*server), b"");
    write_all(&*server, b"still here");
    assert_eq!(read_exactly(&*client, 10), b"still here");
}

/// After `shutdown(Both)` our own reads see the end, and writes fail.
pub fn a_stream_that_shut_down_reads_the_end(subject: &Subject) {
    let (client, _server) = subject.marry();
    client.shutdown(Shutdown::Both).expect("it is connected");
    assert_eq!(read_to_end(&*client), b"");
    let error = client.write_vectored(&[IoSlice::new(b"x")]).expect_err("it is shut down");
    assert_ne!(error.kind(), ErrorKind::WouldBlock);
}

/// Writes to a peer that has gone fail sooner or later.
pub fn writing_to_a_peer_that_has_gone_is_an_error(subject: &Subject) {
    let (client, server) = subject.marry();
    // Unread bytes make some systems reset instead of ending.
    write_all(&*client, b"unread");
    drop(server);
    let error = eventually("an error", || {
        client.write_vectored(&[IoSlice::new(b"anybody there?")]).err().filter(|e| e.kind() != ErrorKind::WouldBlock)
    });
    assert_ne!(error.kind(), ErrorKind::Interrupted);
}

/// An attempt to connect where nobody listens fails, at once or when asked.
pub fn connecting_to_nobody_is_reported(subject: &Subject) {
    let listener = subject.listen();
    let address = listener.local_address();
    listener.close();
    if let Ok(stream) = subject.connect(&address) {
        let outcome = eventually("the end of the attempt", || match stream.connected() {
            Ok(false) => None,
            outcome => Some(outcome),
        });
        outcome.expect_err("nobody listens there");
    }
}

/// Each end knows its own address and the other's, and they agree.
pub fn addresses_name_both_ends(subject: &Subject) {
    let listener = subject.listen();
    let (client, server) = marry_at(subject, &*listener);
    assert_eq!(server.local_address(), client.peer_address());
    assert_eq!(client.local_address(), server.peer_address());
    assert!(!server.local_address().is_empty(), "a listener's end has a name");
    subject.transport.check(&server.local_address(), Purpose::Connect).expect("an address can be used again");
}

/// The peer's address can be asked for when the peer has gone.
pub fn the_peer_address_outlives_the_peer(subject: &Subject) {
    let (client, server) = subject.marry();
    let before = (client.peer_address(), server.peer_address());
    write_all(&*client, b"unread");
    write_all(&*server, b"unread");
    drop(client);
    read_to_end_or_error(&*server);
    assert_eq!(server.peer_address(), before.1);

    let (client, server) = subject.marry();
    let before = client.peer_address();
    drop(server);
    read_to_end_or_error(&*client);
    assert_eq!(client.peer_address(), before);
}

/// What a listener says it is bound to can be connected to; after closing it can be bound again.
pub fn a_bound_address_can_be_connected_to_and_bound_again(subject: &Subject) {
    let listener = subject.listen();
    let address = listener.local_address();
    for _ in 0..3 {
        // An accepted connection that outlives its listener must not hold the address.
        let _pair = marry_at(subject, &*listener);
    }
    listener.close();
    let listener = subject.bind(&address).expect("a closed listener frees its address");
    assert_eq!(listener.local_address(), address);
    let (client, server) = marry_at(subject, &*listener);
    write_all(&*client, b"again");
    assert_eq!(read_exactly(&*server, 5), b"again");
}

/// A second bind of an address fails and leaves the first listener alone.
pub fn an_address_in_use_is_not_taken_over(subject: &Subject) {
    let listener = subject.listen();
    let error = subject.bind(&listener.local_address()).expect_err("somebody listens there");
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
    // The second bind may have looked whether somebody is there.
    while let Ok(stream) = listener.accept() {
        drop(stream);
    }
    let (client, server) = marry_at(subject, &*listener);
    write_all(&*client, b"mine");
    assert_eq!(read_exactly(&*server, 4), b"mine");
}

/// Connections wait until they are accepted.
pub fn every_waiting_connection_is_accepted(subject: &Subject) {
    let listener = subject.listen();
    let clients: Vec<_> = (0..20_u8)
        .map(|number| {
            let client = subject.connect(&listener.local_address()).expect("somebody listens");
            (number, client)
        })
        .collect();
    let servers: Vec<_> = clients.iter().map(|_| accept(&*listener)).collect();
    for (number, client) in &clients {
        finish_connecting(&**client);
        write_all(&**client, &[*number]);
    }
    let mut seen: Vec<u8> = servers.iter().flat_map(|server| read_exactly(&**server, 1)).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<u8>>());
}

/// An accept without a waiting connection does not wait.
pub fn a_listener_without_connections_says_would_block(subject: &Subject) {
    let listener = subject.listen();
    assert_eq!(listener.accept().expect_err("nobody has connected").kind(), ErrorKind::WouldBlock);
}

/// A registered listener is reported readable for each connection that arrives after the last `WouldBlock`.
pub fn a_listener_reports_each_arrival(subject: &Subject) {
    let listener = subject.listen();
    let mut watch = Watch::new();
    listener.register(watch.registry(), Token(1), Interest::READABLE).expect("it can be registered");
    for _ in 0..3 {
        let client = subject.connect(&listener.local_address()).expect("somebody listens");
        watch.expect(Token(1), Interest::READABLE);
        let server = accept(&*listener);
        while listener.accept().is_ok() {}
        finish_connecting(&*client);
        drop(server);
    }
    listener.reregister(watch.registry(), Token(2), Interest::READABLE).expect("it is registered");
    let _client = subject.connect(&listener.local_address()).expect("somebody listens");
    watch.expect(Token(2), Interest::READABLE);
    listener.deregister(watch.registry()).expect("it is registered");
    let _another = subject.connect(&listener.local_address()).expect("somebody listens");
    watch.expect_silence(subject);
}

/// A registered stream is reported readable each time bytes arrive after a `WouldBlock`.
pub fn a_stream_reports_each_edge(subject: &Subject) {
    let (client, server) = subject.marry();
    let mut watch = Watch::new();
    server.register(watch.registry(), Token(7), Interest::READABLE).expect("it can be registered");
    for _ in 0..3 {
        write_all(&*client, b"edge");
        watch.expect(Token(7), Interest::READABLE);
        assert_eq!(read_exactly(&*server, 4), b"edge");
        let error = read_into(&*server, &mut BytesMut::with_capacity(8), 8).expect_err("nothing more is there");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}

/// `reregister` takes a new token and interest, and reports a direction that is ready already.
pub fn registering_again_changes_the_token_and_reports_again(subject: &Subject) {
    let (client, server) = subject.marry();
    let mut watch = Watch::new();
    server.register(watch.registry(), Token(1), Interest::READABLE).expect("it can be registered");
    write_all(&*client, b"x");
    watch.expect(Token(1), Interest::READABLE);
    server.reregister(watch.registry(), Token(2), Interest::READABLE).expect("it is registered");
    watch.expect(Token(2), Interest::READABLE);
    let both = Interest::READABLE | Interest::WRITABLE;
    server.reregister(watch.registry(), Token(3), both).expect("it is registered");
    watch.expect(Token(3), Interest::WRITABLE);
}

/// `deregister` ends the reports, and the stream can be registered elsewhere.
pub fn a_deregistered_stream_reports_nothing(subject: &Subject) {
    let (client, server) = subject.marry();
    let mut watch = Watch::new();
    server.register(watch.registry(), Token(1), Interest::READABLE).expect("it can be registered");
    server.deregister(watch.registry()).expect("it is registered");
    write_all(&*client, b"x");
    watch.expect_silence(subject);
    let mut other = Watch::new();
    server.register(other.registry(), Token(9), Interest::READABLE).expect("it can be registered elsewhere");
    other.expect(Token(9), Interest::READABLE);
}

/// A stream that is connecting becomes writable, and then it is connected and stays so.
pub fn a_new_connection_is_reported_writable(subject: &Subject) {
    let listener = subject.listen();
    let client = subject.connect(&listener.local_address()).expect("somebody listens");
    let mut watch = Watch::new();
    client.register(watch.registry(), Token(4), Interest::WRITABLE).expect("it can be registered");
    watch.expect(Token(4), Interest::WRITABLE);
    let _server = accept(&*listener);
    assert!(eventually("a connection", || client.connected().map(|done| done.then_some(done)).transpose()).is_ok());
    assert!(matches!(client.connected(), Ok(true)));
}

/// The end of the stream is an edge too.
pub fn the_end_is_reported_readable(subject: &Subject) {
    let (client, server) = subject.marry();
    let mut watch = Watch::new();
    client.register(watch.registry(), Token(5), Interest::READABLE).expect("it can be registered");
    drop(server);
    watch.expect(Token(5), Interest::READABLE);
    assert_eq!(read_to_end(&*client), b"");
}

/// One thread writes while another reads, on the same stream.
pub fn two_threads_use_the_two_directions(subject: &Subject) {
    let (client, server) = subject.marry();
    let (there, back) = (pattern(5, 3 << 20), pattern(6, 3 << 20));
    std::thread::scope(|scope| {
        for (stream, outgoing, incoming) in [(&*client, &there, &back), (&*server, &back, &there)] {
            scope.spawn(move || write_all(stream, outgoing));
            scope.spawn(move || assert!(read_exactly(stream, incoming.len()) == *incoming, "bytes have changed"));
        }
    });
}

/// An address of a wrong form is refused by `check`, `bind`, `resolve` and `connect`, with the same kind of error.
pub fn wrong_addresses_are_refused_everywhere(subject: &Subject) {
    let options = &subject.options;
    for wrong in &subject.wrong {
        for purpose in [Purpose::Bind, Purpose::Connect] {
            let error = subject.transport.check(wrong, purpose).expect_err("the form is wrong");
            assert!(!error.problem().is_empty());
        }
        let errors = [
            subject.transport.bind(wrong, options).expect_err("bind refuses it"),
            subject.transport.resolve(wrong, options).expect_err("resolve refuses it"),
            subject.transport.connect(wrong, options).expect_err("connect refuses it"),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{wrong:?}: {error}");
        }
    }
}

/// A poll that expects events.
struct Watch {
    poll: Poll,
}

impl Watch {
    fn new() -> Self {
        Self { poll: Poll::new().expect("there are descriptors left") }
    }

    fn registry(&self) -> &mio::Registry {
        self.poll.registry()
    }

    /// Waits for an event of this token and kind; a stray one of the same source is no fault.
    fn expect(&mut self, token: Token, interest: Interest) {
        let mut events = Events::with_capacity(16);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let patience = deadline.saturating_duration_since(Instant::now());
            assert!(!patience.is_zero(), "no {interest:?} event for {token:?} has come");
            match self.poll.poll(&mut events, Some(patience)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => other.expect("the poll works"),
            }
            let fits = |event: &mio::event::Event| {
                event.token() == token
                    && (!interest.is_readable() || event.is_readable())
                    && (!interest.is_writable() || event.is_writable())
            };
            if events.iter().any(fits) {
                return;
            }
        }
    }

    /// Expects no event of what has happened before: one of a stream that something happens to now is the first.
    fn expect_silence(&mut self, subject: &Subject) {
        const LATER: Token = Token(1 << 10);
        let (client, server) = subject.marry();
        server.register(self.registry(), LATER, Interest::READABLE).expect("it can be registered");
        write_all(&*client, b"later");
        let mut events = Events::with_capacity(16);
        let deadline = Instant::now() + PATIENCE;
        while events.is_empty() {
            let patience = deadline.saturating_duration_since(Instant::now());
            assert!(!patience.is_zero(), "not even the later event has come");
            match self.poll.poll(&mut events, Some(patience)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => other.expect("the poll works"),
            }
        }
        assert!(events.iter().all(|event| event.token() == LATER), "unexpected: {events:?}");
    }
}

fn marry_at(subject: &Subject, listener: &dyn Listener) -> (Box<dyn Stream>, Box<dyn Stream>) {
    let client = subject.connect(&listener.local_address()).expect("somebody listens");
    let server = accept(listener);
    finish_connecting(&*client);
    (client, server)
}

fn accept(listener: &dyn Listener) -> Box<dyn Stream> {
    eventually("a connection to accept", || match listener.accept() {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => None,
        other => Some(other.expect("accepting works")),
    })
}

fn finish_connecting(stream: &dyn Stream) {
    eventually("the end of the attempt to connect", || stream.connected().expect("somebody listens").then_some(()));
}

fn write_all(stream: &dyn Stream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let count = patiently(stream, Interest::WRITABLE, || stream.write_vectored(&[IoSlice::new(bytes)]))
            .expect("the peer is there");
        bytes = bytes.get(count..).expect("no more is taken than given");
    }
}

fn read_exactly(stream: &dyn Stream, count: usize) -> Vec<u8> {
    let mut buffer = BytesMut::with_capacity(count);
    while buffer.len() < count {
        let missing = count - buffer.len();
        let read = patiently(stream, Interest::READABLE, || read_into(stream, &mut buffer, missing));
        assert_ne!(read.expect("the peer is there"), 0, "the stream has ended {missing} bytes too soon");
    }
    buffer.to_vec()
}

fn read_to_end(stream: &dyn Stream) -> Vec<u8> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(4096);
        if patiently(stream, Interest::READABLE, || read_into(stream, &mut buffer, 4096)).expect("an orderly end") == 0
        {
            return buffer.to_vec();
        }
    }
}

fn read_to_end_or_error(stream: &dyn Stream) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(4096);
        match patiently(stream, Interest::READABLE, || read_into(stream, &mut buffer, 4096)) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Repeats a call that would block whenever the stream is ready again.
fn patiently<T>(stream: &dyn Stream, interest: Interest, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(Instant::now() < deadline, "the stream is not ready in time ({interest:?})");
                std::thread::yield_now();
            }
            other => return other,
        }
        if let Some(deadline) = stream.deadline().filter(|&deadline| deadline <= Instant::now()) {
            stream.on_deadline(deadline);
        }
    }
}

/// Waits until the poll reports the stream.
fn wait_for(stream: &dyn Stream, interest: Interest) {
    if interest.is_readable() && stream.has_buffered() {
        return;
    }
    let mut watch = Watch::new();
    stream.register(watch.registry(), Token(0), interest).expect("it can be registered");
    watch.expect(Token(0), interest);
    stream.deregister(watch.registry()).expect("it is registered");
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} has not come in time");
        std::thread::yield_now();
    }
}

/// Bytes in which a shift or a swap shows.
fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Long enough for a busy machine, short enough for a test.
const PATIENCE: Duration = Duration::from_secs(20);
