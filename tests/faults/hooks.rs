//! Bodies with an owner of the application's own, whose drop uses the socket that lets them go, and may panic: wherever
//! a socket does so, it goes on.

use crate::support::{Nobody, Over, PATIENCE, eventually, within};
use bytes::Bytes;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use wiremesh::{AnySocket, Context, Dealer, SocketKind};

/// Large enough to be queued as it is, and so many of them that a system takes not all.
const LARGE: usize = 1_000_000;
const MANY: usize = 40;

/// Beyond what is copied beside its header, and so short that the newest message gets memory of its own.
const MIDDLING: usize = 20_000;

/// What is sent.
struct Hook {
    octets: Vec<u8>,
    socket: Weak<AnySocket>,
    panics: bool,
    gone: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Hook {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.upgrade() {
            let _ = (socket.stats(), socket.peers(), socket.endpoints());
            // Whether it has room for this is all the same.
            let _ = socket.try_send("from a drop");
        }
        self.gone.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics, "on purpose");
    }
}

/// Makes bodies that use a socket when they go, and panic after that, and knows how many are gone.
struct Hooks {
    socket: Weak<AnySocket>,
    gone: Arc<AtomicUsize>,
}

impl Hooks {
    fn about(socket: &Arc<AnySocket>) -> Hooks {
        Hooks { socket: Arc::downgrade(socket), gone: Arc::default() }
    }

    fn body(&self, octets: usize) -> Bytes {
        let (socket, gone) = (Weak::clone(&self.socket), Arc::clone(&self.gone));
        Bytes::from_owner(Hook { octets: vec![7; octets], socket, panics: true, gone })
    }

    fn await_all(&self, count: usize) {
        await_all(&self.gone, count);
    }
}

/// Sends so many hooks that drop on the same socket, as far as there is room; returns how many are gone.
fn send_hooks(socket: &Arc<AnySocket>, count: usize) -> Arc<AtomicUsize> {
    let gone = Arc::new(AtomicUsize::new(0));
    for _ in 0..count {
        let (used, gone) = (Arc::downgrade(socket), Arc::clone(&gone));
        let _ = socket.try_send(Bytes::from_owner(Hook { octets: vec![7; LARGE], socket: used, panics: false, gone }));
    }
    gone
}

fn await_all(gone: &AtomicUsize, count: usize) {
    eventually(PATIENCE / 3, "every body is dropped", || gone.load(Ordering::SeqCst) == count);
}

/// Where nobody listens yet.
fn free_endpoint() -> String {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("tcp://{}", free.local_addr().expect("bound"))
}

/// Each with a deadline: what hangs fails.
fn over(transports: &[Over], what: &'static str, work: fn(Over, &Context)) {
    for &transport in transports {
        within(PATIENCE / 2, what, move || work(transport, &Context::new()));
    }
}

fn socket(kind: SocketKind, context: &Context) -> Arc<AnySocket> {
    let builder = AnySocket::builder(kind).context(context).linger(Duration::ZERO);
    Arc::new(builder.build().expect("a socket"))
}

/// A socket, and a peer of its kind that reads nothing.
fn pair(transport: Over, context: &Context) -> (Arc<AnySocket>, AnySocket) {
    let sender = socket(SocketKind::Dealer, context);
    let endpoint = sender.bind(transport.wildcard()).expect("bound");
    let peer = AnySocket::builder(SocketKind::Dealer).context(context).receive_mark(1u32).build().expect("a socket");
    peer.connect(&endpoint).expect("a good endpoint");
    sender.wait_for_peers(1, PATIENCE).expect("a peer");
    (sender, peer)
}

const REACHED: [Over; 2] = [Over::Tcp, Over::Inproc];

#[test]
fn a_body_that_a_newer_one_replaces_may_use_the_socket_when_it_goes() {
    over(&REACHED, "conflate", |transport, context| {
        for (kind, other) in [(SocketKind::Dealer, SocketKind::Dealer), (SocketKind::Pub, SocketKind::Sub)] {
            let sender = AnySocket::builder(kind).context(context).conflate(true).linger(Duration::ZERO).build();
            let sender = Arc::new(sender.expect("a socket"));
            let peer = AnySocket::in_context(other, context);
            if other == SocketKind::Sub {
                peer.subscribe("").expect("a topic");
            }
            peer.connect(sender.bind(transport.wildcard()).expect("bound")).expect("a good endpoint");
            match other {
                SocketKind::Sub => sender.wait_for_subscribers(1, PATIENCE).expect("a subscriber"),
                _ => sender.wait_for_peers(1, PATIENCE).expect("a peer"),
            };
            let gone = send_hooks(&sender, MANY);
            sender.close();
            drop(peer);
            await_all(&gone, MANY);
        }
    });
}

#[test]
fn a_body_whose_peer_goes_may_use_the_socket_when_it_goes() {
    over(&REACHED, "a peer that goes", |transport, context| {
        let (sender, peer) = pair(transport, context);
        let gone = send_hooks(&sender, MANY);
        drop(peer);
        await_all(&gone, MANY);
        sender.stats();
    });
}

#[test]
fn a_body_for_which_the_linger_time_is_over_may_use_the_socket_when_it_goes() {
    over(&REACHED, "linger", |transport, context| {
        let (sender, peer) = pair(transport, context);
        let gone = send_hooks(&sender, MANY);
        sender.close();
        drop(peer);
        await_all(&gone, MANY);
        sender.stats();
    });
}

#[test]
fn a_body_whose_endpoint_is_disconnected_may_use_the_socket_when_it_goes() {
    over(&REACHED, "disconnect", |transport, context| {
        let nobody = Nobody::new();
        let endpoint = if transport == Over::Inproc { transport.wildcard() } else { nobody.endpoint.clone() };
        let sender = socket(SocketKind::Dealer, context);
        sender.connect(&endpoint).expect("a good endpoint");
        let gone = send_hooks(&sender, 5);
        sender.disconnect(&endpoint).expect("connected");
        await_all(&gone, 5);
        sender.stats();
    });
}

#[test]
fn a_body_that_is_too_large_for_the_peer_may_use_the_socket_when_it_goes() {
    over(&REACHED, "too large", |transport, context| {
        let endpoint = match transport {
            Over::Inproc => transport.wildcard(),
            Over::Tcp | Over::Ipc => free_endpoint(),
        };
        let sender = socket(SocketKind::Dealer, context);
        sender.connect(&endpoint).expect("a good endpoint");
        let gone = send_hooks(&sender, 5);
        let peer = Dealer::builder().context(context).max_message_size(1000u64).build().expect("a socket");
        peer.bind(&endpoint).expect("bound");
        await_all(&gone, 5);
        sender.stats();
    });
}

#[test]
fn a_body_that_a_publisher_drops_may_use_it_when_it_goes() {
    over(&REACHED, "a publisher at its mark", |transport, context| {
        let builder = AnySocket::builder(SocketKind::Pub).context(context).send_mark(3u32).linger(Duration::ZERO);
        let publisher = Arc::new(builder.build().expect("a socket"));
        let endpoint = publisher.bind(transport.wildcard()).expect("bound");
        let subscribe = || {
            let subscriber = AnySocket::builder(SocketKind::Sub).context(context).receive_mark(1u32);
            let subscriber = subscriber.build().expect("a socket");
            subscriber.subscribe("").expect("a topic");
            subscriber.connect(&endpoint).expect("a good endpoint");
            subscriber
        };
        let subscribers: Vec<AnySocket> = (0..3).map(|_| subscribe()).collect();
        publisher.wait_for_subscribers(3, PATIENCE).expect("subscribers");
        let gone = send_hooks(&publisher, MANY);
        drop(subscribers);
        await_all(&gone, MANY);
        publisher.stats();
    });
}

#[test]
fn a_body_that_is_unread_when_its_receiver_ends_may_use_that_when_it_goes() {
    over(&[Over::Inproc], "unread", |_, context| {
        for conflate in [false, true] {
            let builder = AnySocket::builder(SocketKind::Dealer).context(context).conflate(conflate);
            let (sender, receiver) =
                joined(AnySocket::in_context(SocketKind::Dealer, context), builder.build().expect("a socket"));
            let hooks = Hooks::about(&receiver);
            sender.send([hooks.body(LARGE), hooks.body(LARGE)]).expect("taken");
            // Fetches it.
            receiver.stats();
            receiver.close();
            drop(sender);
            hooks.await_all(2);
        }
    });
}

/// A socket that was connected over inproc to one that is bound, and that one.
fn joined(connector: AnySocket, binder: AnySocket) -> (Arc<AnySocket>, Arc<AnySocket>) {
    let endpoint = binder.bind(Over::Inproc.wildcard()).expect("bound");
    connector.connect(endpoint).expect("a good endpoint");
    (Arc::new(connector), Arc::new(binder))
}

fn receives(socket: &AnySocket, wanted: &str) {
    assert_eq!(socket.recv_timeout(PATIENCE / 3).expect("a message"), wanted);
}

#[test]
fn a_body_that_a_newer_one_replaces_at_its_receiver_may_use_that_when_it_goes() {
    over(&[Over::Inproc], "conflate", |_, context| {
        for (from, to) in [(SocketKind::Dealer, SocketKind::Dealer), (SocketKind::Push, SocketKind::Pull)] {
            for octets in [LARGE, MIDDLING] {
                let receiver = AnySocket::builder(to).context(context).conflate(true).build().expect("a socket");
                let (receiver, sender) = joined(receiver, AnySocket::in_context(from, context));
                let hooks = Hooks::about(&receiver);
                let send = || sender.send([hooks.body(octets), hooks.body(octets)]).expect("there is room");
                (0..2).for_each(|_| send());
                // Fetches both, and then, for the last time, what has come since.
                receiver.stats();
                send();
                sender.send("last").expect("there is room");
                receiver.disconnect(&receiver.connected()[0]).expect("connected");
                receives(&receiver, "last");
                hooks.await_all(6);
            }
        }
    });
}

#[test]
fn a_body_that_a_subscriber_refuses_may_use_it_when_it_goes() {
    over(&[Over::Inproc], "a filter", |_, context| {
        let builder = AnySocket::builder(SocketKind::Sub).context(context);
        let subscriber = builder.build().expect("a socket");
        let (subscriber, publisher) = joined(subscriber, AnySocket::in_context(SocketKind::Pub, context));
        let hooks = Hooks::about(&subscriber);
        for round in 0..2 {
            subscriber.subscribe("").expect("a topic");
            publisher.wait_for_subscribers(1, PATIENCE).expect("a subscriber");
            publisher.send(hooks.body(LARGE)).expect("taken");
            publisher.send([hooks.body(LARGE), hooks.body(MIDDLING)]).expect("taken");
            publisher.send("wanted").expect("taken");
            subscriber.unsubscribe("").expect("a topic");
            subscriber.subscribe("wanted").expect("a topic");
            match round {
                0 => receives(&subscriber, "wanted"),
                _ => assert_eq!(subscriber.recv_many(10).expect("messages"), ["wanted"]),
            }
        }
        hooks.await_all(6);
    });
}

#[test]
fn a_body_of_what_is_no_reply_may_use_the_socket_when_it_goes() {
    over(&[Over::Inproc], "replies", |_, context| {
        let asking = AnySocket::builder(SocketKind::Req).context(context).correlate(true).build().expect("a socket");
        let (asking, server) = joined(asking, AnySocket::in_context(SocketKind::Router, context));
        asking.send("question").expect("a peer");
        let request = server.recv_timeout(PATIENCE).expect("the question");
        let [id, number] = [0, 1].map(|place| Bytes::copy_from_slice(&request[place]));
        let hooks = Hooks::about(&asking);
        let (body, nothing) = (|| hooks.body(LARGE), Bytes::new);
        for reply in [
            // No number, another number, no number of that length, no delimiter.
            vec![nothing(), body()],
            vec![Bytes::from_static(b"else"), nothing(), body(), body()],
            vec![body(), nothing(), body()],
            vec![number.clone(), body(), body()],
            vec![number, nothing(), Bytes::from_static(b"answer")],
        ] {
            server.send([vec![id.clone()], reply].concat()).expect("taken");
        }
        receives(&asking, "answer");
        hooks.await_all(7);
    });
}

#[test]
fn a_body_of_a_reply_that_came_too_late_may_use_the_socket_when_it_goes() {
    over(&[Over::Inproc], "late replies", |_, context| {
        let asking = AnySocket::builder(SocketKind::Req).context(context).build().expect("a socket");
        let (asking, server) = joined(asking, AnySocket::in_context(SocketKind::Router, context));
        let hooks = Hooks::about(&asking);
        asking.send("question").expect("a peer");
        let request = server.recv_timeout(PATIENCE).expect("the question");
        let reply = |bodies: [Bytes; 2]| {
            let head = [Bytes::copy_from_slice(&request[0]), Bytes::new()];
            server.send([head, bodies].concat()).expect("taken");
        };
        reply(["the", "answer"].map(Bytes::from));
        reply([hooks.body(LARGE), hooks.body(LARGE)]);
        assert_eq!(asking.recv_timeout(PATIENCE).expect("the answer"), ["the", "answer"]);
        // A drop asks before it.
        asking.send("another").expect_err("a question is open");
        hooks.await_all(2);
    });
}

#[test]
fn a_body_of_what_is_no_request_may_use_the_socket_when_it_goes() {
    over(&[Over::Inproc], "requests", |_, context| {
        let [asking, server] = [SocketKind::Dealer, SocketKind::Rep].map(|kind| AnySocket::in_context(kind, context));
        let (asking, server) = joined(asking, server);
        let hooks = Hooks::about(&server);
        asking.send(hooks.body(LARGE)).expect("taken");
        asking.send([hooks.body(LARGE), hooks.body(LARGE)]).expect("taken");
        asking.send([hooks.body(LARGE), Bytes::new()]).expect("taken");
        asking.send(["", "question"]).expect("taken");
        receives(&server, "question");
        hooks.await_all(4);
    });
}

#[test]
fn what_stood_before_a_request_may_use_the_socket_when_its_peer_is_gone_by_the_reply() {
    over(&[Over::Inproc], "envelopes", |_, context| {
        let [asking, server] = [SocketKind::Dealer, SocketKind::Rep].map(|kind| AnySocket::in_context(kind, context));
        let (asking, server) = joined(asking, server);
        let hooks = Hooks::about(&server);
        asking.send([hooks.body(LARGE), hooks.body(LARGE), Bytes::new(), Bytes::from("question")]).expect("taken");
        receives(&server, "question");
        drop(asking);
        server.send("answer").expect("taken");
        hooks.await_all(2);
    });
}

#[test]
fn what_stood_before_a_request_that_nobody_answers_goes_when_the_socket_is_closed() {
    over(&[Over::Inproc], "an end", |_, context| {
        let [asking, server] = [SocketKind::Dealer, SocketKind::Rep].map(|kind| AnySocket::in_context(kind, context));
        let (asking, server) = joined(asking, server);
        let hooks = Hooks::about(&server);
        asking.send([hooks.body(LARGE), hooks.body(LARGE), Bytes::new(), Bytes::from("question")]).expect("taken");
        receives(&server, "question");
        server.close();
        hooks.await_all(2);
    });
}

#[test]
fn a_body_that_panics_when_it_goes_fails_nothing_where_it_is_written() {
    over(&[Over::Tcp], "written", |_, context| {
        let endpoint = free_endpoint();
        let sender = socket(SocketKind::Push, context);
        sender.connect(&endpoint).expect("a good endpoint");
        let hooks = Hooks::about(&sender);
        for _ in 0..3 {
            sender.try_send([hooks.body(MIDDLING), hooks.body(LARGE)]).expect("there is room");
        }
        let receiver = AnySocket::in_context(SocketKind::Pull, &Context::new());
        receiver.bind(&endpoint).expect("bound");
        hooks.await_all(6);
        sender.send("last").expect("there is room");
        // Between these come those that the drops have sent.
        let mut sizes = Vec::new();
        loop {
            let message = receiver.recv_timeout(PATIENCE / 3).expect("a message");
            sizes.extend((message.len() > 1).then(|| message.byte_len()));
            if message == "last" {
                break;
            }
        }
        assert_eq!(sizes, [MIDDLING + LARGE; 3]);
    });
}
