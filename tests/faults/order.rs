//! Order across reconnects: what the receiver has not read of an old connection comes before what comes over the new
//! one. And connections that are accepted say READY only once their peer has a place.

use crate::support::measure::limit_descriptors;
use crate::support::raw::{Raw, command, frame, greeting, property, ready};
use crate::support::{Over, PATIENCE, alone, eventually, holds_within, is_full};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use wiremesh::{AnySocket, Context, Dealer, Endpoint, Event, EventKind, Message, Pull, Push, Router, SocketKind};

/// Passes octets on between two addresses, until it is cut.
pub(crate) struct Relay {
    address: SocketAddr,
    /// Both ends of each connection.
    links: Arc<Mutex<Vec<(TcpStream, TcpStream)>>>,
    /// Octets that have passed from whoever connected.
    passed: Arc<AtomicU64>,
}

impl Relay {
    pub(crate) fn to(endpoint: &str) -> Relay {
        let to: SocketAddr = endpoint.trim_start_matches("tcp://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, links) = (listener.local_addr().expect("bound"), Arc::new(Mutex::new(Vec::new())));
        let passed = Arc::new(AtomicU64::new(0));
        let relay = Relay { address, links: Arc::clone(&links), passed: Arc::clone(&passed) };
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(to) else { continue };
                let clone = |stream: &TcpStream| stream.try_clone().expect("a handle");
                let (mut near_out, mut far_in) = (clone(&near), clone(&far));
                let (mut near_in, mut far_out) = (clone(&near), clone(&far));
                // What has passed can be cut.
                links.lock().expect("no panic").push((near, far));
                let passed = Arc::clone(&passed);
                std::thread::spawn(move || {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(read @ 1..) = near_in.read(&mut buffer) {
                        far_out.write_all(&buffer[..read])?;
                        passed.fetch_add(read as u64, Ordering::SeqCst);
                    }
                    Ok::<(), io::Error>(())
                });
                std::thread::spawn(move || io::copy(&mut far_in, &mut near_out));
            }
        });
        relay
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Ends all connections, of which the far end sees the end behind all that was passed on, or, if `quietly`, nothing
    /// at all.
    pub(crate) fn cut(&self, quietly: bool) -> Vec<TcpStream> {
        let links = std::mem::take(&mut *self.links.lock().expect("no panic"));
        let end = |(near, far): (TcpStream, TcpStream)| {
            near.shutdown(Shutdown::Both).expect("open");
            if !quietly {
                far.shutdown(Shutdown::Write).expect("open");
            }
            far
        };
        links.into_iter().map(end).collect()
    }
}

pub(crate) fn number(message: &Message) -> u32 {
    let body = message.iter().last().expect("a frame");
    u32::from_be_bytes(body.get(..4).and_then(|octets| octets.try_into().ok()).expect("a number"))
}

/// A sender that connects through a relay sends five messages over each of four connections, before its receiver reads
/// any.
fn over_four_connections(sender: SocketKind, receiver: SocketKind, mark: u32, quietly: bool, size: usize) {
    let (context, other) = (Context::new(), Context::new());
    let receiver = AnySocket::builder(receiver).context(&other).receive_mark(mark).build().expect("good");
    let sender = AnySocket::builder(sender)
        .context(&context)
        .reconnect_interval(Duration::from_millis(10))
        .build()
        .expect("good");
    if receiver.kind() == SocketKind::Sub {
        receiver.subscribe("").expect("open");
    }
    let relay = Relay::to(receiver.bind("tcp://127.0.0.1:*").expect("bound").as_str());
    sender.connect(relay.endpoint()).expect("good");
    let mut kept = Vec::new();
    for round in 0..4_u32 {
        if round > 0 {
            kept.extend(relay.cut(quietly));
            eventually(PATIENCE, "the cut is seen and mended", || sender.stats().reconnects == u64::from(round));
        }
        meet(&sender);
        let before = relay.passed.load(Ordering::SeqCst);
        send_five(&sender, round, size);
        sender.flush(PATIENCE).expect("written");
        let all = before + 5 * size.max(4) as u64;
        eventually(PATIENCE, "it has passed", || relay.passed.load(Ordering::SeqCst) >= all);
        // What was written is with the receiver's system before the relay is cut.
        let before = |round: u32| u64::from((round + 1) * 5).min(u64::from(mark));
        eventually(PATIENCE, "it has arrived", || receiver.stats().unread >= before(round));
        std::thread::sleep(Duration::from_millis(5));
    }
    let numbers = receive_rounds(&receiver);
    assert_eq!(numbers, (0..20).collect::<Vec<_>>(), "{sender:?} to {receiver:?}, mark {mark}, quietly: {quietly}");
    assert!(receiver.stats().unread == 0 && sender.stats().dropped.total() == 0);
}

/// Waits until somebody is there to receive.
fn meet(sender: &AnySocket) {
    sender.wait_for_peers(1, PATIENCE).expect("connected");
    if sender.kind() == SocketKind::Pub {
        sender.wait_for_subscribers(1, PATIENCE).expect("subscribed");
    }
}

fn send_five(sender: &AnySocket, round: u32, size: usize) {
    for message in 0..5_u32 {
        let mut body = (round * 5 + message).to_be_bytes().to_vec();
        body.resize(size.max(4), 0);
        sender.send(body).expect("accepted");
    }
}

/// The numbers of the messages of four rounds, as they come.
fn receive_rounds(receiver: &AnySocket) -> Vec<u32> {
    (0..20).map(|_| number(&receiver.recv_timeout(PATIENCE).expect("none is lost"))).collect()
}

#[test]
fn what_came_over_old_connections_is_read_before_what_comes_over_new_ones() {
    for (sender, receiver) in [
        (SocketKind::Push, SocketKind::Pull),
        (SocketKind::Dealer, SocketKind::Dealer),
        (SocketKind::Dealer, SocketKind::Router),
        (SocketKind::Pub, SocketKind::Sub),
    ] {
        over_four_connections(sender, receiver, 1000, false, 4);
    }
}

#[test]
fn so_it_is_where_the_receiver_stands_at_its_mark() {
    over_four_connections(SocketKind::Push, SocketKind::Pull, 1, false, 4);
    over_four_connections(SocketKind::Dealer, SocketKind::Router, 3, false, 2000);
}

#[test]
fn so_it_is_where_the_receiver_did_not_see_the_old_connections_end() {
    over_four_connections(SocketKind::Push, SocketKind::Pull, 1000, true, 4);
}

#[test]
fn a_router_knows_a_peer_that_has_come_back_by_its_id_before_it_saw_the_old_connection_end() {
    let (context, other) = (Context::new(), Context::new());
    let router = Router::builder().context(&other).mandatory(true).build().expect("good");
    let relay = Relay::to(router.bind("tcp://127.0.0.1:*").expect("bound").as_str());
    let dealer = Dealer::builder()
        .context(&context)
        .routing_id("D")
        .reconnect_interval(Duration::from_millis(10))
        .build()
        .expect("good");
    dealer.connect(relay.endpoint()).expect("good");
    dealer.send("before").expect("accepted");
    assert_eq!(router.recv_timeout(PATIENCE).expect("a message").1, "before");
    let _kept = relay.cut(true);
    eventually(PATIENCE, "it comes back", || dealer.stats().reconnects == 1);
    dealer.send("after").expect("accepted");
    let (id, message) = router.recv_timeout(PATIENCE).expect("a message");
    assert_eq!((id.as_ref(), message), (&b"D"[..], Message::from("after")));
    router.send_to("D", "answer").expect("routable");
    assert_eq!(dealer.recv_timeout(PATIENCE).expect("an answer"), "answer");
}

/// A READY with that token.
pub(crate) fn ready_with_token(kind: &str, token: u8) -> Vec<u8> {
    let mut value = vec![1, 0];
    value.extend_from_slice(&u64::MAX.to_be_bytes());
    value.extend_from_slice(&[token; 16]);
    let mut body = b"\x05READY".to_vec();
    property(&mut body, "Socket-Type", kind.as_bytes());
    property(&mut body, "X-Wiremesh", &value);
    command(&body)
}

pub(crate) fn greet(endpoint: &str, ready: &[u8]) -> Raw {
    let mut raw = Raw::connect(endpoint).expect("a listener");
    raw.write_all(&[&greeting()[..], ready].concat()).expect("open");
    raw
}

/// Reads a greeting and a READY; the body of this.
pub(crate) fn hear_ready(raw: &mut Raw) -> Vec<u8> {
    let mut theirs = [0; 66];
    raw.read_exact(&mut theirs).expect("a greeting and a header");
    let mut body = vec![0; theirs[65].into()];
    raw.read_exact(&mut body).expect("a READY");
    body
}

/// Whoever announces the token of a connection that is there has that read on, past the mark, as it may be what is left
/// of one that is lost. No system holds so much of one as comes here.
#[test]
fn a_peer_that_sends_without_end_is_not_read_without_end_because_another_one_announces_its_token() {
    const MARK: u32 = 10;
    const MOST: usize = 128 << 20;
    let pull = Pull::builder().context(&Context::builder().byte_budget(None).build()).receive_mark(MARK);
    let pull = pull.build().expect("good options");
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    let mut first = greet(endpoint.as_str(), &ready_with_token("PUSH", 7));
    hear_ready(&mut first);
    first.set_write_timeout(Duration::from_secs(2));
    let flood = std::thread::spawn(move || {
        let part = frame(false, &vec![1; 60_000]).repeat(16);
        let mut taken = 0;
        while taken < 2 * MOST && first.write_all(&part).is_ok() {
            taken += part.len();
        }
        (taken, first)
    });
    eventually(PATIENCE, "it is at the mark", || pull.stats().unread >= u64::from(MARK));
    let mut second = greet(endpoint.as_str(), &ready_with_token("PUSH", 7));
    hear_ready(&mut second);
    let (taken, _first) = flood.join().expect("no panic");
    assert!(taken < MOST, "{taken} octets are taken of one that nobody reads");
    // What the first one has sent comes all the same, and so does what the second one sends.
    second.write_all(&frame(false, b"second")).expect("it is connected");
    let message = |_| pull.recv_timeout(PATIENCE).expect("a message").byte_len();
    assert!((0..).map(message).take(taken / 60_000 + 1).any(|octets| octets == 6));
}

#[test]
fn two_peers_with_one_token_that_are_both_there_are_two_peers() {
    let pull = Pull::in_context(&Context::new());
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    let mut first = greet(endpoint.as_str(), &ready_with_token("PUSH", 7));
    hear_ready(&mut first);
    let mut second = greet(endpoint.as_str(), &ready_with_token("PUSH", 7));
    // The first is asked, and answers.
    let mut ping = [0; 9];
    first.read_exact(&mut ping).expect("a question");
    assert_eq!(&ping, b"\x04\x07\x04PING\x00\x00");
    first.write_all(&command(b"\x04PONG")).expect("open");
    hear_ready(&mut second);
    for raw in [&mut first, &mut second] {
        raw.write_all(&frame(false, b"message")).expect("open");
        assert_eq!(pull.recv_timeout(PATIENCE).expect("a message"), "message");
    }
    assert_eq!(pull.stats().connections, 2);
}

#[test]
fn a_peer_that_comes_again_and_again_before_its_old_connection_is_done_takes_one_place() {
    let pull = Pull::in_context(&Context::new());
    let monitor = pull.monitor();
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    let mut first = greet(endpoint.as_str(), &ready_with_token("PUSH", 7));
    hear_ready(&mut first);
    first.write_all(&frame(false, b"first")).expect("open");
    let mut others: Vec<Raw> = (0..20).map(|_| greet(endpoint.as_str(), &ready_with_token("PUSH", 7))).collect();
    let mut last = others.pop().expect("twenty");
    hear_ready(&mut last);
    last.write_all(&frame(false, b"last")).expect("open");
    for wanted in ["first", "last"] {
        assert_eq!(pull.recv_timeout(PATIENCE).expect("a message"), wanted);
    }
    assert!(first.is_closed_within(PATIENCE) && others.iter_mut().all(|raw| raw.is_closed_within(PATIENCE)));
    assert_eq!(pull.stats().connections, 1);
    drop(last);
    eventually(PATIENCE, "all are gone", || pull.stats().connections == 0);
    drop(monitor);
}

#[test]
fn what_came_over_a_connection_of_an_endpoint_that_was_closed_is_read_before_what_comes_over_the_next_one() {
    let dealer = Dealer::in_context(&Context::new());
    let endpoint = dealer.bind("tcp://127.0.0.1:*").expect("bound");
    let mut first = greet(endpoint.as_str(), &ready_with_token("DEALER", 7));
    hear_ready(&mut first);
    first.write_all(&[frame(false, b"1st"), frame(false, b"2nd")].concat()).expect("open");
    eventually(PATIENCE, "they have come", || dealer.stats().unread == 2);
    // It reads nothing: all is written, and its system has not taken all.
    (0..4).for_each(|_| dealer.send(vec![0; 100_000]).expect("accepted"));
    dealer.flush(PATIENCE).expect("written");
    dealer.unbind(&endpoint).expect("bound");
    dealer.bind(&endpoint).expect("free");
    assert_eq!(dealer.stats().connections, 1, "the first one is there");
    let mut second = greet(endpoint.as_str(), &ready_with_token("DEALER", 7));
    hear_ready(&mut second);
    second.write_all(&frame(false, b"3rd")).expect("open");
    eventually(PATIENCE, "it has come", || dealer.stats().unread == 3);
    for wanted in ["1st", "2nd", "3rd"] {
        assert_eq!(dealer.recv_timeout(PATIENCE).expect("a message"), wanted);
    }
}

/// A DEALER with a peer of that token, which has read nothing of what was written to it; it does not all fit into its
/// system.
fn unread_dealer(token: u8) -> (Dealer, Endpoint, Raw) {
    unread(Dealer::in_context(&Context::new()), token)
}

fn unread(dealer: Dealer, token: u8) -> (Dealer, Endpoint, Raw) {
    let endpoint = dealer.bind("tcp://127.0.0.1:*").expect("bound");
    let mut peer = connect_narrow(&endpoint);
    peer.write_all(&[greeting().to_vec(), ready_with_token("DEALER", token)].concat()).expect("open");
    hear_ready(&mut peer);
    (0..UNREAD).for_each(|_| dealer.send(vec![0; 100_000]).expect("accepted"));
    dealer.flush(PATIENCE).expect("written");
    (dealer, endpoint, peer)
}

/// A connection whose system takes little that is not read.
fn connect_narrow(endpoint: &Endpoint) -> Raw {
    let address: SocketAddr = endpoint.as_str().trim_start_matches("tcp://").parse().expect("an address");
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(64 * 1024).expect("a size");
    socket.connect(&address.into()).expect("a listener");
    Raw::accepted(socket.into())
}

const UNREAD: usize = 10;
const UNREAD_OCTETS: usize = UNREAD * (9 + 100_000);

/// The peer sends something to a connection that is not read any more, and a newcomer gets its READY.
fn goes_in_beside(peer: &mut Raw, newcomer: &mut Raw, ready: &[u8]) {
    peer.write_all(&frame(false, b"late")).expect("open");
    newcomer.write_all(ready).expect("open");
    let mut header = [0; 2];
    newcomer.read_exact(&mut header).expect("a READY");
    newcomer.read_exact(&mut vec![0; header[1].into()]).expect("its body");
}

/// So it is, and the peer reads all that was written to it.
fn stays_beside(mut peer: Raw, mut newcomer: Raw, ready: &[u8]) {
    goes_in_beside(&mut peer, &mut newcomer, ready);
    peer.read_exact(&mut vec![0; UNREAD_OCTETS]).expect("all that was written before");
}

/// A connection that drains, its endpoint having been bound anew, beside a newcomer of its token.
fn beside_a_newcomer(dealer: Dealer) -> (Dealer, Raw, Raw) {
    let (dealer, endpoint, mut first) = unread(dealer, 7);
    dealer.unbind(&endpoint).expect("bound");
    dealer.bind(&endpoint).expect("free");
    let mut newcomer = knock(&endpoint);
    assert_eq!(dealer.stats().connections, 1, "the first one is there");
    goes_in_beside(&mut first, &mut newcomer, &ready_with_token("DEALER", 7));
    (dealer, first, newcomer)
}

/// Connects and hears the greeting. What was asked of the socket before is done then.
fn knock(endpoint: &Endpoint) -> Raw {
    let mut raw = Raw::connect(endpoint.as_str()).expect("a listener");
    raw.write_all(&greeting()).expect("open");
    raw.read_exact(&mut [0; 64]).expect("a greeting");
    raw
}

#[test]
fn a_clone_of_a_peer_whose_endpoint_was_closed_takes_nothing_of_what_was_sent_to_that() {
    let (dealer, endpoint, first) = unread_dealer(7);
    dealer.unbind(&endpoint).expect("bound");
    dealer.bind(&endpoint).expect("free");
    let newcomer = knock(&endpoint);
    assert_eq!(dealer.stats().connections, 1, "the first one is there");
    stays_beside(first, newcomer, &ready_with_token("DEALER", 7));
}

#[test]
fn nor_does_one_that_came_before_the_endpoint_was_closed() {
    // How long the first one may take to answer.
    const ANSWER: Duration = Duration::from_secs(1);
    for _ in 0..20 {
        let (dealer, endpoint, first) = unread_dealer(7);
        let other = dealer.bind("tcp://127.0.0.1:*").expect("bound");
        let mut clone = knock(&other);
        let begin = Instant::now();
        clone.write_all(&ready_with_token("DEALER", 7)).expect("open");
        // It waits now until the first one has answered whether it is still there.
        knock(&other);
        dealer.unbind(&endpoint).expect("bound");
        let third = dealer.bind("tcp://127.0.0.1:*").expect("bound");
        knock(&third);
        // On a machine that is so busy that all this took longer the first one may be gone, as it has not answered.
        if begin.elapsed() < ANSWER {
            stays_beside(first, clone, &[]);
            return;
        }
    }
    panic!("the machine is too busy");
}

/// Reads all that was written to a peer, for twice that time, and does something before the last of it. The peer sends
/// as well: whoever closes a connection without having read that destroys what is still to be delivered.
fn read_for_long(mut peer: Raw, patience: Duration, before_last: impl FnOnce()) {
    let (begin, mut left, mut chunk) = (Instant::now(), UNREAD_OCTETS, [0; 4096]);
    while begin.elapsed() < 2 * patience && left > UNREAD_OCTETS / 4 {
        peer.read_exact(&mut chunk).expect("more comes");
        left -= chunk.len();
        // It fails once the peer's system has everything.
        let _ = peer.write_all(&frame(false, b"late"));
        std::thread::sleep(patience / 75);
    }
    before_last();
    peer.read_exact(&mut vec![0; left]).expect("the rest");
}

#[test]
fn a_connection_beside_which_a_newcomer_of_its_token_is_goes_on_as_long_as_its_peer_takes_anything() {
    let patience = Duration::from_secs(1);
    let dealer = Dealer::builder().context(&Context::new()).linger_patience(patience).build().expect("good");
    let (_dealer, first, _newcomer) = beside_a_newcomer(dealer);
    read_for_long(first, patience, || {});
}

#[test]
fn a_context_that_is_dropped_waits_for_such_a_connection_as_long_as_its_peer_takes_anything() {
    let patience = Duration::from_secs(1);
    let context = Context::builder().drop_wait(Some(patience)).build();
    let dealer = Dealer::builder().context(&context).linger_patience(None).build().expect("good");
    let (dealer, first, _newcomer) = beside_a_newcomer(dealer);
    let is_read = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            drop((dealer, context));
            assert!(is_read.load(Ordering::SeqCst), "it has waited");
        });
        read_for_long(first, patience, || is_read.store(true, Ordering::SeqCst));
    });
}

// ----- endpoints that are used again -----

/// Two ends, the second of which connects.
struct Ends {
    bound: AnySocket,
    connected: AnySocket,
    endpoint: String,
}

impl Ends {
    fn new(bound: SocketKind, connected: SocketKind, immediate: bool, mark: u32) -> Ends {
        Ends::at("tcp://127.0.0.1:*", [bound, connected], immediate, mark)
    }

    fn inproc(bound: SocketKind, connected: SocketKind) -> Ends {
        Ends::at("inproc://name", [bound, connected], false, 1000)
    }

    fn at(endpoint: &str, [bound, connected]: [SocketKind; 2], immediate: bool, mark: u32) -> Ends {
        let (context, other) = (Context::new(), Context::new());
        let other = if endpoint.starts_with("inproc:") { &context } else { &other };
        let socket = |kind: SocketKind, context: &Context| {
            let builder = AnySocket::builder(kind)
                .context(context)
                .reconnect_interval(Duration::from_millis(5))
                .reconnect_max(Duration::from_millis(50));
            let receives = !matches!(kind, SocketKind::Push | SocketKind::Pub);
            let builder = if receives { builder.receive_mark(mark) } else { builder };
            let socket = if immediate && kind == connected { builder.immediate(true) } else { builder };
            let socket = socket.build().expect("good");
            if kind == SocketKind::Sub {
                socket.subscribe("").expect("open");
            }
            socket
        };
        let (bound, connected) = (socket(bound, &context), socket(connected, other));
        let endpoint = bound.bind(endpoint).expect("bound").to_string();
        connected.connect(&endpoint).expect("good");
        Ends { bound, connected, endpoint }
    }

    fn connect_again(&self) {
        self.connected.disconnect(&self.endpoint).expect("connected");
        self.connected.connect(&self.endpoint).expect("good");
    }

    fn bind_again(&self) {
        self.bound.unbind(&self.endpoint).expect("bound");
        self.bound.bind(&self.endpoint).expect("free");
    }
}

/// Sends five messages in each of four rounds, and has something done in between; the receiver reads when all of them
/// are sent, or, if they are long, meanwhile.
fn in_four_rounds(sender: &AnySocket, receiver: &AnySocket, size: usize, between: impl Fn() + Sync) {
    let send = || {
        for round in 0..4_u32 {
            if round > 0 {
                between();
            }
            meet(sender);
            send_five(sender, round, size);
        }
    };
    std::thread::scope(|scope| {
        let sends = scope.spawn(send);
        if size <= 4 {
            sends.join().expect("all is sent");
        }
        let numbers = receive_rounds(receiver);
        assert_eq!(numbers, (0..20).collect::<Vec<_>>(), "{sender:?} to {receiver:?}, {size} octets");
    });
}

/// Whether the end that connects is `immediate`, the receive mark, and the size of messages.
const WAYS: [(bool, u32, usize); 4] = [(false, 1000, 4), (true, 1000, 4), (false, 1, 300_000), (true, 1, 300_000)];

#[test]
fn what_was_sent_before_a_disconnect_comes_before_what_is_sent_when_the_endpoint_is_connected_again() {
    for (sender, receiver) in [
        (SocketKind::Push, SocketKind::Pull),
        (SocketKind::Dealer, SocketKind::Router),
        (SocketKind::Pub, SocketKind::Sub),
    ] {
        for (immediate, mark, size) in WAYS {
            let ends = Ends::new(receiver, sender, immediate && sender != SocketKind::Pub, mark);
            in_four_rounds(&ends.connected, &ends.bound, size, || ends.connect_again());
        }
    }
}

#[test]
fn what_was_sent_before_an_unbind_comes_before_what_is_sent_when_the_endpoint_is_bound_again() {
    for (sender, receiver) in [
        (SocketKind::Push, SocketKind::Pull),
        (SocketKind::Dealer, SocketKind::Dealer),
        (SocketKind::Pub, SocketKind::Sub),
    ] {
        for (immediate, mark, size) in WAYS {
            let ends = Ends::new(sender, receiver, immediate, mark);
            in_four_rounds(&ends.bound, &ends.connected, size, || ends.bind_again());
        }
    }
}

#[test]
fn what_was_read_before_a_disconnect_comes_before_what_comes_when_the_endpoint_is_connected_again() {
    for (sender, receiver) in [
        (SocketKind::Push, SocketKind::Pull),
        (SocketKind::Dealer, SocketKind::Dealer),
        (SocketKind::Pub, SocketKind::Sub),
    ] {
        for immediate in [false, true] {
            let ends = Ends::new(sender, receiver, immediate, 1000);
            let connect_again = || {
                let sent = ends.bound.stats().accepted;
                eventually(PATIENCE, "it has come", || ends.connected.stats().unread == sent);
                let monitor = ends.bound.monitor();
                ends.connect_again();
                let is_new = |event: &Event| matches!(event.kind, EventKind::HandshakeSucceeded);
                eventually(PATIENCE, "it is back", || monitor.try_recv().as_ref().is_some_and(is_new));
            };
            in_four_rounds(&ends.bound, &ends.connected, 4, connect_again);
        }
    }
}

#[test]
fn over_inproc_what_was_sent_before_a_disconnect_comes_before_what_is_sent_when_the_endpoint_is_connected_again() {
    for (sender, receiver) in [
        (SocketKind::Push, SocketKind::Pull),
        (SocketKind::Dealer, SocketKind::Router),
        (SocketKind::Pub, SocketKind::Sub),
        (SocketKind::Pair, SocketKind::Pair),
    ] {
        let ends = Ends::inproc(receiver, sender);
        in_four_rounds(&ends.connected, &ends.bound, 4, || ends.connect_again());
    }
}

#[test]
fn over_inproc_what_came_before_a_disconnect_comes_before_what_comes_when_the_endpoint_is_connected_again() {
    for (sender, receiver) in [
        (SocketKind::Push, SocketKind::Pull),
        (SocketKind::Dealer, SocketKind::Dealer),
        (SocketKind::Pub, SocketKind::Sub),
    ] {
        let ends = Ends::inproc(sender, receiver);
        in_four_rounds(&ends.bound, &ends.connected, 4, || ends.connect_again());
    }
}

#[test]
fn over_inproc_so_it_is_where_the_name_is_bound_again_in_between() {
    let ends = Ends::inproc(SocketKind::Push, SocketKind::Pull);
    in_four_rounds(&ends.bound, &ends.connected, 4, || {
        ends.bind_again();
        ends.connect_again();
    });
}

/// One thread sends, while another one closes the endpoint and connects it again all the time.
#[test]
fn over_inproc_what_is_sent_while_an_endpoint_is_connected_again_is_not_lost_and_stays_in_order() {
    const MESSAGES: u32 = 100_000;
    let ends = Ends::inproc(SocketKind::Pull, SocketKind::Push);
    std::thread::scope(|scope| {
        let sends = scope.spawn(|| {
            for message in 0..MESSAGES {
                ends.connected.send_timeout(message.to_be_bytes().to_vec(), PATIENCE).expect("accepted");
            }
        });
        let receives = scope.spawn(|| {
            for message in 0..MESSAGES {
                let came = ends.bound.recv_timeout(PATIENCE).expect("none is lost");
                assert_eq!(number(&came), message);
            }
        });
        while !sends.is_finished() && !receives.is_finished() {
            ends.connect_again();
        }
        receives.join().expect("all is received");
    });
}

// ----- the right moment to say READY -----

#[test]
fn an_accepted_connection_of_any_kind_keeps_its_ready_until_its_peer_is_ready() {
    let context = Context::new();
    for (kind, peer) in [
        (SocketKind::Pull, "PUSH"),
        (SocketKind::Push, "PULL"),
        (SocketKind::Dealer, "DEALER"),
        (SocketKind::Router, "DEALER"),
        (SocketKind::Pub, "SUB"),
        (SocketKind::Rep, "REQ"),
        (SocketKind::Pair, "PAIR"),
    ] {
        let socket = AnySocket::in_context(kind, &context);
        let endpoint = socket.bind("tcp://127.0.0.1:*").expect("bound");
        let mut theirs = [0; 64];
        let mut raw = loop {
            let mut raw = Raw::connect(endpoint.as_str()).expect("a listener");
            raw.read_exact(&mut theirs).expect("a greeting");
            let begin = Instant::now();
            raw.write_all(&greeting()).expect("open");
            raw.set_read_timeout(Duration::from_millis(30));
            if raw.read(&mut [0; 1]).is_err() {
                break raw;
            }
            // It waits no longer, and we have not looked in time.
            assert!(begin.elapsed() >= Duration::from_millis(300), "{kind} says READY first");
        };
        raw.write_all(&ready(peer)).expect("open");
        raw.set_read_timeout(PATIENCE);
        let mut start = [0; 8];
        raw.read_exact(&mut start).expect("a READY");
        assert_eq!(&start[2..], b"\x05READY", "{kind}");
        // One that waits for our READY gets it all the same, a little later.
        let mut waits = Raw::connect(endpoint.as_str()).expect("a listener");
        waits.write_all(&greeting()).expect("open");
        waits.read_exact(&mut theirs).expect("a greeting");
        if kind != SocketKind::Pair {
            waits.read_exact(&mut start).expect("a READY");
            assert_eq!(&start[2..], b"\x05READY", "{kind}");
        }
    }
}

/// Clients with a message each meet a server that has places for few unfinished handshakes; all of them arrive.
fn come_back_together(client: SocketKind, server: SocketKind) {
    let (context, other) = (Context::new(), Context::new());
    let count = if is_full() { 3000 } else { 150 };
    let server =
        AnySocket::builder(server).context(&other).half_open_limit(4_u32).receive_mark(0_u32).build().expect("good");
    let bound = server.bind("tcp://127.0.0.1:*").expect("bound");
    let clients: Vec<AnySocket> = (0..count)
        .map(|number: u32| {
            let socket = AnySocket::builder(client)
                .context(&context)
                .reconnect_interval(Duration::from_millis(5))
                .reconnect_max(Duration::from_millis(50))
                .build()
                .expect("good");
            socket.connect(&bound).expect("good");
            for part in 0..5 {
                socket.send((number * 5 + part).to_be_bytes().to_vec()).expect("accepted");
            }
            socket
        })
        .collect();
    let mut seen = vec![false; count as usize * 5];
    for _ in 0..count * 5 {
        let message = server.recv_timeout(PATIENCE).expect("none is lost");
        assert!(!std::mem::replace(&mut seen[number(&message) as usize], true), "none comes twice");
    }
    drop(clients);
}

#[test]
fn clients_that_come_all_at_once_lose_nothing_to_the_bound_on_unfinished_handshakes() {
    for (client, server) in [
        (SocketKind::Push, SocketKind::Pull),
        (SocketKind::Dealer, SocketKind::Dealer),
        (SocketKind::Dealer, SocketKind::Router),
    ] {
        come_back_together(client, server);
    }
}

/// Clients that all connect before the server takes the first of them would throw each other out before any is through.
#[test]
fn clients_that_come_all_at_once_do_not_evict_one_another_before_they_had_time() {
    const CLIENTS: usize = 400;
    let (context, other) = (Context::new(), Context::new());
    let pull = Pull::builder().context(&other).half_open_limit(4_u32).build().expect("good");
    let monitor = pull.monitor();
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    let pushes: Vec<Push> = (0..CLIENTS)
        .map(|_| {
            let push = Push::builder()
                .context(&context)
                .reconnect_interval(Duration::from_millis(5))
                .reconnect_max(Duration::from_millis(50))
                .build()
                .expect("good");
            push.connect(&endpoint).expect("good");
            push.send("message").expect("accepted");
            push
        })
        .collect();
    let (mut accepted, mut came) = (0, 0);
    while came < CLIENTS {
        pull.recv_timeout(PATIENCE).expect("none is lost");
        came += 1;
        let events = std::iter::from_fn(|| monitor.try_recv());
        accepted += events.filter(|event| matches!(event.kind, EventKind::Accepted)).count();
    }
    assert!(accepted <= CLIENTS * 3 / 2, "{accepted} connections of {CLIENTS} clients");
    drop(pushes);
}

/// Its end looks at one connection after the other, over many turns.
#[test]
fn a_socket_that_closes_lets_nobody_in_any_more() {
    const PEERS: usize = 700;
    const NEWCOMERS: usize = 100;
    let _turn = alone();
    limit_descriptors(4 * (PEERS + NEWCOMERS) as u64);
    let pull = Pull::in_context(&Context::new());
    let endpoint = pull.bind(Over::Ipc.wildcard()).expect("bound");
    let _peers: Vec<Raw> = (0..PEERS)
        .map(|_| {
            let mut peer = Raw::connect(endpoint.as_str()).expect("a listener");
            peer.shake_hands("PUSH").expect("a handshake");
            peer
        })
        .collect();
    pull.wait_for_peers(PEERS, PATIENCE).expect("all are there");
    let mut newcomers: Vec<Raw> = (0..NEWCOMERS).map(|_| knock(&endpoint)).collect();
    let monitor = pull.monitor();
    let came = std::thread::scope(|scope| {
        let events = scope.spawn(|| {
            let events = std::iter::from_fn(|| monitor.recv_timeout(PATIENCE));
            events.filter(|event| matches!(event.kind, EventKind::HandshakeSucceeded)).count()
        });
        pull.close();
        for newcomer in &mut newcomers {
            // Some are closed already.
            let _ = newcomer.write_all(&[ready("PUSH"), frame(false, b"message")].concat());
        }
        events.join().expect("no panic")
    });
    assert_eq!((came, monitor.is_stopped(), monitor.lost()), (0, true, 0));
    assert!(newcomers.iter_mut().all(|newcomer| newcomer.is_closed_within(PATIENCE)));
}

#[test]
fn a_peer_that_is_ready_is_not_evicted_and_one_that_is_not_is() {
    let pull = Pull::builder().context(&Context::new()).half_open_limit(1_u32).build().expect("good");
    let monitor = pull.monitor();
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    // They got our READY because they waited for it, and never say theirs: each goes when the next one comes.
    let mut silent: Vec<Raw> = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::connect(endpoint.as_str()).expect("a listener");
        raw.write_all(&greeting()).expect("open");
        let mut theirs = [0; 66];
        raw.read_exact(&mut theirs).expect("a greeting, and a READY after a while");
        silent.push(raw);
    }
    let push = Push::in_context(&Context::new());
    push.connect(&endpoint).expect("good");
    push.send("message").expect("accepted");
    assert_eq!(pull.recv_timeout(PATIENCE).expect("a message"), "message");
    let evicted = std::iter::from_fn(|| monitor.try_recv())
        .filter(|event| matches!(event.kind, EventKind::HandshakeFailed(_)))
        .count();
    assert_eq!(evicted, 3, "nobody can keep the places");
    assert!(holds_within(PATIENCE, || pull.stats().connections == 1));
}
