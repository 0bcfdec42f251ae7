//! One end of a connection, ours or libzmq's, with the same verbs: so that a conversation is written once for both.

use super::body::{Body, from_hex};
use super::peer::Peer;
use std::cell::Cell;
use std::time::{Duration, Instant};
use wiremesh::{AnySocket, Builder, Context, EventKind, Message, Monitor, RecvError, SendFailure, SocketKind};

/// How long anything may take that has to happen. peer.py uses the same.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// What both ends can do. Whatever fails panics with what was expected.
pub(crate) trait End {
    fn kind(&self) -> SocketKind;
    fn bind(&self, endpoint: &str) -> String;
    fn connect(&self, endpoint: &str);
    fn subscribe(&self, topic: &str);
    fn unsubscribe(&self, topic: &str);
    fn send(&self, message: &[Body]);
    /// Sends to a peer whose routing id, the first frame, may not be known yet. Both routers are mandatory.
    fn send_when_known(&self, message: &[Body]);
    fn expect(&self, message: &[Body]);
    fn receive(&self) -> Vec<Vec<u8>>;
    /// Whether a message is there within a moment.
    fn has_message(&self) -> bool;
}

/// A socket of ours.
pub(crate) struct Ours {
    socket: AnySocket,
    /// A message that `has_message` found.
    found: Cell<Option<Message>>,
}

impl Ours {
    pub(crate) fn new(kind: SocketKind) -> Ours {
        Ours::with(kind, |builder| builder)
    }

    /// A socket in a context of its own with options.
    pub(crate) fn with(kind: SocketKind, options: impl FnOnce(Builder<AnySocket>) -> Builder<AnySocket>) -> Ours {
        Ours::within(&Context::new(), kind, options)
    }

    pub(crate) fn within(
        context: &Context,
        kind: SocketKind,
        options: impl FnOnce(Builder<AnySocket>) -> Builder<AnySocket>,
    ) -> Ours {
        let mut builder = AnySocket::builder(kind).context(context);
        if !matches!(kind, SocketKind::Pull | SocketKind::Sub) {
            builder = builder.send_timeout(LONG);
        }
        if !matches!(kind, SocketKind::Push | SocketKind::Pub) {
            builder = builder.receive_timeout(LONG);
        }
        Ours { socket: options(builder).build().expect("good options"), found: Cell::new(None) }
    }

    /// The socket itself. `Ours` has verbs of the same names.
    pub(crate) fn socket(&self) -> &AnySocket {
        &self.socket
    }

    fn next(&self) -> Result<Message, RecvError> {
        self.found.take().map_or_else(|| self.socket.recv(), Ok)
    }
}

impl std::ops::Deref for Ours {
    type Target = AnySocket;

    fn deref(&self) -> &AnySocket {
        &self.socket
    }
}

impl End for Ours {
    fn kind(&self) -> SocketKind {
        self.socket.kind()
    }

    fn bind(&self, endpoint: &str) -> String {
        self.socket.bind(endpoint).expect("bound").to_string()
    }

    fn connect(&self, endpoint: &str) {
        self.socket.connect(endpoint).expect("connecting");
    }

    fn subscribe(&self, topic: &str) {
        match self.kind() {
            SocketKind::XSub => self.send(&[Body::Given([b"\x01", topic.as_bytes()].concat())]),
            _ => self.socket.subscribe(topic).expect("subscribed"),
        }
    }

    fn unsubscribe(&self, topic: &str) {
        match self.kind() {
            SocketKind::XSub => self.send(&[Body::Given([b"\x00", topic.as_bytes()].concat())]),
            _ => assert!(self.socket.unsubscribe(topic).expect("unsubscribed")),
        }
    }

    #[track_caller]
    fn send(&self, message: &[Body]) {
        self.socket.send(to_message(message)).unwrap_or_else(|error| panic!("our {} sends: {error}", self.kind()));
    }

    #[track_caller]
    fn send_when_known(&self, message: &[Body]) {
        let mut waited = Duration::ZERO;
        while let Err(error) = self.socket.send(to_message(message)) {
            assert!(error.reason == SendFailure::Unroutable && waited < LONG, "our {} sends: {error}", self.kind());
            waited += pause();
        }
    }

    #[track_caller]
    fn expect(&self, message: &[Body]) {
        let found = self.next().unwrap_or_else(|error| panic!("our {} receives: {error}", self.kind()));
        let found: Vec<&[u8]> = found.iter().collect();
        let wanted: Vec<_> = message.iter().map(Body::octets).collect();
        let lengths = |frames: &[&[u8]]| frames.iter().map(|frame| frame.len()).collect::<Vec<_>>();
        let wanted: Vec<&[u8]> = wanted.iter().map(Vec::as_slice).collect();
        assert_eq!(lengths(&found), lengths(&wanted), "lengths of the frames our {} received", self.kind());
        for (number, (one, other)) in found.iter().zip(&wanted).enumerate() {
            let differing = one.iter().zip(*other).position(|(one, other)| one != other);
            assert_eq!(differing, None, "the first wrong octet of frame {number} our {} received", self.kind());
        }
    }

    #[track_caller]
    fn receive(&self) -> Vec<Vec<u8>> {
        let found = self.next().unwrap_or_else(|error| panic!("our {} receives: {error}", self.kind()));
        found.iter().map(<[u8]>::to_vec).collect()
    }

    fn has_message(&self) -> bool {
        let found = self.found.take().or_else(|| self.socket.recv_timeout(MOMENT).ok());
        let any = found.is_some();
        self.found.set(found);
        any
    }
}

/// A socket of a libzmq peer.
pub(crate) struct Theirs<'a> {
    peer: &'a Peer,
    name: &'a str,
    kind: SocketKind,
}

impl<'a> Theirs<'a> {
    /// A socket that the peer knows by that name.
    pub(crate) fn new(peer: &'a Peer, name: &'a str, kind: SocketKind) -> Theirs<'a> {
        peer.tell(&format!("socket {name} {kind}"));
        Theirs { peer, name, kind }
    }

    /// Has a command carried out on this socket and returns the answer's values.
    #[track_caller]
    pub(crate) fn tell(&self, command: &str, rest: &str) -> String {
        self.peer.tell(&self.command(command, rest))
    }

    /// Leaves the socket alone until the peer ends: a proxy uses it.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }

    #[track_caller]
    pub(crate) fn attempt(&self, command: &str, rest: &str) -> Result<String, String> {
        self.peer.attempt(&self.command(command, rest))
    }

    /// Begins a command; `peer.end()` waits for it.
    #[track_caller]
    pub(crate) fn begin(&self, command: &str, rest: &str) {
        self.peer.begin(&self.command(command, rest));
    }

    #[track_caller]
    pub(crate) fn set(&self, option: &str, value: impl std::fmt::Display) {
        self.tell("set", &format!("{option} {value}"));
    }

    fn command(&self, command: &str, rest: &str) -> String {
        format!("{command} {} {rest}", self.name)
    }
}

impl End for Theirs<'_> {
    fn kind(&self) -> SocketKind {
        self.kind
    }

    #[track_caller]
    fn bind(&self, endpoint: &str) -> String {
        self.tell("bind", endpoint)
    }

    #[track_caller]
    fn connect(&self, endpoint: &str) {
        self.tell("connect", endpoint);
    }

    #[track_caller]
    fn subscribe(&self, topic: &str) {
        match self.kind {
            SocketKind::XSub => self.send(&[Body::Given([b"\x01", topic.as_bytes()].concat())]),
            _ => self.set("SUBSCRIBE", Body::from(topic)),
        }
    }

    #[track_caller]
    fn unsubscribe(&self, topic: &str) {
        match self.kind {
            SocketKind::XSub => self.send(&[Body::Given([b"\x00", topic.as_bytes()].concat())]),
            _ => self.set("UNSUBSCRIBE", Body::from(topic)),
        }
    }

    #[track_caller]
    fn send(&self, message: &[Body]) {
        self.tell("send", &words(message));
    }

    #[track_caller]
    fn send_when_known(&self, message: &[Body]) {
        let mut waited = Duration::ZERO;
        while let Err(why) = self.attempt("send", &words(message)) {
            assert!(why.starts_with("EHOSTUNREACH") && waited < LONG, "their {} sends: {why}", self.kind);
            waited += pause();
        }
    }

    #[track_caller]
    fn expect(&self, message: &[Body]) {
        self.tell("expect", &words(message));
    }

    #[track_caller]
    fn receive(&self) -> Vec<Vec<u8>> {
        self.tell("recv", "").split(' ').map(|word| from_hex(&word[1..])).collect()
    }

    fn has_message(&self) -> bool {
        self.tell("await", &MOMENT.as_millis().to_string()) == "1"
    }
}

impl Drop for Theirs<'_> {
    fn drop(&mut self) {
        // After a failure there is nothing to add to it.
        if !self.peer.is_killed() && !std::thread::panicking() {
            self.tell("close", "");
        }
    }
}

/// How long to look for a message that may as well not come.
const MOMENT: Duration = Duration::from_millis(20);

fn pause() -> Duration {
    const PAUSE: Duration = Duration::from_millis(5);
    std::thread::sleep(PAUSE);
    PAUSE
}

/// Waits for an event of a socket of ours.
#[track_caller]
pub(crate) fn expect_event(monitor: &Monitor, what: &str, wanted: impl Fn(&EventKind) -> bool) {
    let deadline = Instant::now() + LONG;
    let mut seen = Vec::new();
    while let Some(event) = monitor.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if wanted(&event.kind) {
            return;
        }
        seen.push(event.kind);
    }
    panic!("{what} was not reported; there were {seen:?}");
}

pub(crate) fn to_message(frames: &[Body]) -> Message {
    frames.iter().map(Body::octets).collect()
}

fn words(message: &[Body]) -> String {
    message.iter().map(Body::to_string).collect::<Vec<_>>().join(" ")
}
