//! Bodies with an owner of the application's own, whose drop uses the socket they were sent on: wherever a socket lets
//! such a body go without having sent it, it goes on.

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

/// What is sent.
struct Hook {
    octets: Vec<u8>,
    socket: Weak<AnySocket>,
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
    }
}

/// Sends so many hooks that drop on the same socket, as far as there is room; returns how many are gone, and how many
/// there are.
fn send_hooks(socket: &Arc<AnySocket>, count: usize) -> Arc<AtomicUsize> {
    send_hooks_about(socket, socket, count)
}

fn send_hooks_about(sender: &AnySocket, used: &Arc<AnySocket>, count: usize) -> Arc<AtomicUsize> {
    let gone = Arc::new(AtomicUsize::new(0));
    for _ in 0..count {
        let hook = Hook { octets: vec![7; LARGE], socket: Arc::downgrade(used), gone: Arc::clone(&gone) };
        let _ = sender.try_send(Bytes::from_owner(hook));
    }
    gone
}

fn await_all(gone: &AtomicUsize, count: usize) {
    eventually(PATIENCE / 3, "every body is dropped", || gone.load(Ordering::SeqCst) == count);
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
            Over::Tcp | Over::Ipc => {
                let free = TcpListener::bind("127.0.0.1:0").expect("a port");
                format!("tcp://{}", free.local_addr().expect("bound"))
            }
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
    over(&[Over::Inproc], "unread", |transport, context| {
        let (sender, receiver) = (socket(SocketKind::Dealer, context), socket(SocketKind::Dealer, context));
        let endpoint = sender.bind(transport.wildcard()).expect("bound");
        receiver.connect(&endpoint).expect("a good endpoint");
        let gone = send_hooks_about(&sender, &receiver, 20);
        receiver.recv_timeout(PATIENCE).expect("the first");
        receiver.close();
        drop(sender);
        drop(receiver);
        await_all(&gone, 20);
    });
}
