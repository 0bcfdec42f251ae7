//! Sockets that share an engine thread: whatever one of them is busy with, the others get their turn.

use crate::support::child::{self, Process};
use crate::support::measure::{descriptors, hoard_descriptors, limit_descriptors};
use crate::support::raw::{Raw, command};
use crate::support::{Over, PATIENCE, alone, eventually, median};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{
    AnySocket, BudgetHalf, Context, Endpoint, EndpointInfo, EventKind, Frame, Message, Monitor, Pub, Pull, Push,
    Socket, SocketKind,
};

const ROUNDS: usize = 150;

/// Another socket of a context sends to a reader of its own.
struct Beside {
    push: Push,
    reader: Pull,
}

impl Beside {
    fn of(context: &Context) -> Beside {
        let reader = Pull::in_context(&Context::new());
        let push = Push::in_context(context);
        push.connect(reader.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
        push.wait_for_peers(1, PATIENCE).expect("it is there");
        Beside { push, reader }
    }

    /// How long a flush takes. A burst is not written by its sender, who then does not wait for it in a call of the
    /// socket: the engine flushes.
    fn flush(&self) -> Duration {
        thread::sleep(Duration::from_millis(1));
        for _ in 0..20 {
            self.push.send([0; 100]).expect("there is room");
        }
        let begin = Instant::now();
        for _ in 0..20 {
            self.reader.recv_timeout(PATIENCE).expect("it is written");
        }
        begin.elapsed()
    }
}

/// How long a flush of another socket of the flooded context takes.
fn flushes(context: &Context) -> Duration {
    let beside = Beside::of(context);
    let waits: Vec<_> = (0..ROUNDS).map(|_| beside.flush()).collect();
    median(&waits)
}

/// Sends what it is told to, again and again, as fast as it is read; reads nothing but the handshake.
pub(crate) fn flooder(arguments: &[&str]) {
    let mut peer = Raw::connect(arguments[0]).expect("it listens");
    let (kind, unit) = match arguments[1] {
        "pings" => ("PUSH", command(b"\x04PING\0\0")),
        "subscriptions" => ("SUB", [command(b"\x09SUBSCRIBEx"), command(b"\x06CANCELx")].concat()),
        _ => panic!("what?"),
    };
    peer.shake_hands(kind).expect("a handshake");
    let octets = unit.repeat((1 << 18) / unit.len());
    child::tell("begins");
    while peer.write_all(&octets).is_ok() {}
}

/// Burns a processor and does nothing else.
pub(crate) fn burner(_: &[&str]) {
    child::tell("begins");
    loop {
        std::hint::spin_loop();
    }
}

fn start(role: &str, arguments: &[&dyn ToString]) -> Vec<Process> {
    let mut processes: Vec<_> = (0..4).map(|_| Process::start(role, arguments)).collect();
    processes.iter_mut().for_each(|process| assert_eq!(process.hear(), "begins"));
    processes
}

/// Burns what is left of a processor when others have what they want, and so keeps it from falling asleep.
pub(crate) fn idler(arguments: &[&str]) {
    // SAFETY: takes and returns plain numbers.
    let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
    assert_eq!(set, 0, "whoever may run at all may run for less");
    burner(arguments);
}

/// Whether a socket's flush waits no more than three times as long beside four hostile processes as beside four that
/// compute.
fn is_fair(context: &Context, flooded: &Socket, endpoint: &Endpoint, flood: &str) -> bool {
    eventually(PATIENCE, "nothing is left of a flood before", || flooded.stats().connections == 0);
    // Who wakes on a processor that sleeps waits for that as well, and beside those that compute none does.
    let _awake = start("idler", &[]);
    let burners = start("burner", &[]);
    let beside_burners = flushes(context);
    drop(burners);
    let flooders = start("flooder", &[endpoint, &flood]);
    let beside_flooders = flushes(context);
    drop(flooders);
    println!("{flood}: a flush takes {beside_burners:?} beside burners, {beside_flooders:?} beside flooders");
    beside_flooders <= 3 * beside_burners
}

fn holds_for(context: &Context, flooded: &Socket, flood: &str) {
    let _turn = alone();
    let endpoint = flooded.bind("tcp://127.0.0.1:*").expect("bound");
    assert!((0..5).any(|_| is_fair(context, flooded, &endpoint, flood)), "a flood of {flood} keeps others waiting");
}

fn context(engine_only: bool) -> Context {
    Context::builder().engine_only(engine_only).drop_wait(Some(Duration::ZERO)).build()
}

#[test]
fn a_flood_of_pings_keeps_no_other_socket_waiting() {
    let context = context(false);
    holds_for(&context, &Pull::in_context(&context), "pings");
}

#[test]
fn nor_does_it_where_engine_threads_drive_alone() {
    let context = context(true);
    holds_for(&context, &Pull::in_context(&context), "pings");
}

#[test]
fn nor_does_a_flood_of_subscriptions() {
    let context = context(false);
    holds_for(&context, &Pub::in_context(&context), "subscriptions");
}

/// Each message goes to all of them, which is many writes.
#[test]
fn nor_does_a_flush_over_many_peers() {
    let _turn = alone();
    limit_descriptors(3 * MANY as u64);
    let context = context(false);
    let publisher = Pub::builder().context(&context).send_mark(0u32).build().expect("good options");
    let endpoint = publisher.bind(Over::Ipc.wildcard()).expect("bound");
    let _peers: Vec<Raw> = (0..MANY)
        .map(|_| {
            let mut peer = Raw::connect(endpoint.as_str()).expect("it listens");
            peer.shake_hands("SUB").expect("a handshake");
            peer.write_all(&command(b"\x09SUBSCRIBE")).expect("it fits");
            peer
        })
        .collect();
    publisher.wait_for_subscribers(MANY, PATIENCE).expect("they come");
    let is_fair = || {
        let alone = flushes(&context);
        let over = AtomicBool::new(false);
        let beside = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // One that nobody reads, and which waits for its turn in a queue.
                    publisher.send([0; 8]).expect("never waits");
                    thread::sleep(Duration::from_micros(500));
                }
            });
            let beside = flushes(&context);
            over.store(true, Ordering::Relaxed);
            beside
        });
        println!("a flush takes {alone:?} alone, {beside:?} beside one to {MANY} peers");
        beside <= alone + 2 * TURN
    };
    assert!((0..5).any(|_| is_fair()), "a flush over many peers keeps others waiting");
}

/// A subscriber of that many topics, all of which the publisher knows.
fn crowded(publisher: &AnySocket, topics: usize) -> Raw {
    let mut peer = Raw::connect(publisher.bind("tcp://127.0.0.1:*").expect("bound").as_str()).expect("it listens");
    peer.shake_hands("SUB").expect("a handshake");
    want_all(&mut peer, topics);
    eventually(PATIENCE, "all of them", || count(publisher) == topics);
    peer
}

fn want_all(peer: &mut Raw, topics: usize) {
    for number in 0..topics {
        peer.write_all(&command(format!("\x09SUBSCRIBE{number:064}").as_bytes())).expect("it is read");
    }
}

fn count(publisher: &AnySocket) -> usize {
    publisher.topic_count().expect("a publisher")
}

/// Does something again and again while a subscriber with very many topics leaves.
fn departure(publisher: &AnySocket, topics: usize, once: impl FnMut() -> Duration) -> Looks {
    drop(crowded(publisher, topics));
    until(|| count(publisher) == 0, once)
}

/// What was done again and again while something went on.
struct Looks {
    count: u32,
    /// The longest that one took, and how long all of it went on.
    worst: Duration,
    whole: Duration,
}

/// Does something again and again until something is over.
fn until(mut is_over: impl FnMut() -> bool, mut once: impl FnMut() -> Duration) -> Looks {
    let (begin, mut worst, mut count) = (Instant::now(), Duration::ZERO, 0);
    while !is_over() {
        assert!(begin.elapsed() < PATIENCE, "it does not end");
        (worst, count) = (worst.max(once()), count + 1);
    }
    Looks { count, worst, whole: begin.elapsed() }
}

/// Whether in one of a few runs nothing took more than so small a part of the whole. What is one step keeps what is
/// beside it waiting as long as it takes itself. A run that was over before it was looked at as often says nothing.
fn is_in_steps(what: &str, part: u32, mut run: impl FnMut() -> Looks) {
    let mut is_fair = || {
        let Looks { count, worst, whole } = run();
        println!("{what} waits {worst:?} at most of {whole:?}, of {count} times");
        count >= part && worst <= whole / part
    };
    assert!((0..5).any(|_| is_fair()), "{what} waits for all of it");
}

#[test]
fn a_subscriber_with_very_many_topics_that_leaves_does_not_keep_senders_waiting() {
    let _turn = alone();
    let context = context(false);
    for kind in [SocketKind::Pub, SocketKind::XPub] {
        is_in_steps(&format!("a sender of a {kind}"), 4, || {
            let publisher = AnySocket::in_context(kind, &context);
            departure(&publisher, 200_000, || {
                let before = Instant::now();
                publisher.send([b'x'; 8]).expect("never waits");
                before.elapsed()
            })
        });
    }
}

#[test]
fn nor_does_it_keep_other_sockets_waiting() {
    let _turn = alone();
    for engine_only in [false, true] {
        let context = context(engine_only);
        let beside = Beside::of(&context);
        for kind in [SocketKind::Pub, SocketKind::XPub] {
            is_in_steps(&format!("a socket beside a {kind}"), 4, || {
                let publisher = AnySocket::in_context(kind, &context);
                departure(&publisher, 200_000, || beside.flush())
            });
        }
    }
}

#[test]
fn a_subscriber_that_has_left_is_none_any_more_however_many_topics_it_leaves() {
    let _turn = alone();
    for kind in [SocketKind::Pub, SocketKind::XPub] {
        let context = context(false);
        let publisher = AnySocket::in_context(kind, &context);
        let monitor = publisher.monitor();
        let peer = crowded(&publisher, 50_000);
        drop(peer);
        while !matches!(monitor.recv_timeout(PATIENCE).expect("an event").kind, EventKind::Disconnected(_)) {}
        let topics: Vec<String> = (0..50_000).step_by(997).map(|number| format!("{number:064}")).collect();
        loop {
            let left = count(&publisher);
            assert!(publisher.wait_for_subscribers(1, Duration::ZERO).is_err());
            assert_eq!((publisher.stats().connections, publisher.peers().len()), (0, 0));
            for topic in &topics {
                publisher.send(topic.as_str()).expect("never waits");
            }
            let stats = publisher.stats();
            assert_eq!(stats.accepted, stats.dropped.unroutable, "nobody is sent anything");
            if left == 0 {
                break;
            }
        }
        // An XPUB has counted what its application has not seen.
        while publisher.recv_timeout(Duration::ZERO).is_ok() {}
        assert_eq!(context.bytes_held(BudgetHalf::Receiving), 0);
    }
}

#[test]
fn a_topic_that_somebody_else_wants_meanwhile_stays() {
    const TOPICS: usize = 50_000;
    let _turn = alone();
    let publisher = AnySocket::in_context(SocketKind::XPub, &context(false));
    let peer = crowded(&publisher, TOPICS);
    let mut other = Raw::connect(publisher.endpoints()[0].endpoint.as_str()).expect("it listens");
    other.shake_hands("SUB").expect("a handshake");
    publisher.wait_for_peers(2, PATIENCE).expect("both are there");
    drop(peer);
    let wanted: Vec<String> = (0..TOPICS).step_by(100).map(|number| format!("{number:064}")).collect();
    for topic in &wanted {
        other.write_all(&command(format!("\x09SUBSCRIBE{topic}").as_bytes())).expect("it is read");
    }
    for topic in &wanted {
        publisher.wait_for_subscribers_to(topic, 1, PATIENCE).expect("the other one");
    }
    eventually(PATIENCE, "all others are gone", || count(&publisher) == wanted.len());
    // Who follows what is shown knows the same, whatever the order in which they came and went.
    let mut known = BTreeSet::new();
    while let Ok(message) = publisher.recv_timeout(Duration::ZERO) {
        let topic = String::from_utf8(message.first()[1..].to_vec()).expect("letters");
        match message.first()[0] {
            1 => known.insert(topic),
            _ => known.remove(&topic),
        };
    }
    assert!(known.iter().eq(&wanted));
}

#[test]
fn a_subscriber_that_is_back_before_its_topics_are_gone_is_heard() {
    let _turn = alone();
    let context = context(false);
    for kind in [SocketKind::Pub, SocketKind::XPub] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let accept = || {
            let mut peer = Raw::accepted(listener.accept().expect("it connects").0);
            peer.shake_hands("SUB").expect("a handshake");
            peer
        };
        let publisher = AnySocket::builder(kind).context(&context).reconnect_interval(Duration::from_millis(1));
        let publisher = publisher.build().expect("good options");
        publisher.connect(format!("tcp://{}", listener.local_addr().expect("bound"))).expect("a good endpoint");
        let mut peer = accept();
        want_all(&mut peer, 100_000);
        eventually(PATIENCE, "all of them", || count(&publisher) == 100_000);
        drop(peer);
        let mut peer = accept();
        for topic in ["back", "and here"] {
            peer.write_all(&command(format!("\x09SUBSCRIBE{topic}").as_bytes())).expect("it is read");
        }
        for topic in ["back", "and here"] {
            publisher.wait_for_subscribers_to(topic, 1, PATIENCE).expect("it is heard");
        }
        assert_eq!(count(&publisher), 2);
        publisher.send("back again").expect("never waits");
        let mut message = [0; 12];
        peer.read_exact(&mut message).expect("it comes");
        assert_eq!(message, *b"\x00\x0aback again");
    }
}

#[test]
fn a_publisher_that_closes_while_a_subscriber_leaves_holds_nothing_any_more() {
    let _turn = alone();
    for kind in [SocketKind::Pub, SocketKind::XPub] {
        let context = context(false);
        let publisher = AnySocket::in_context(kind, &context);
        let monitor = publisher.monitor();
        drop(crowded(&publisher, 50_000));
        while !matches!(monitor.recv_timeout(PATIENCE).expect("an event").kind, EventKind::Disconnected(_)) {}
        drop(publisher);
        eventually(PATIENCE, "nothing is held", || context.bytes_held(BudgetHalf::Receiving) == 0);
        while monitor.recv_timeout(PATIENCE).is_some() {}
        assert!(monitor.is_stopped(), "the socket is done");
    }
}

/// Peers of a socket that has very many of them.
fn crowd(socket: &AnySocket, kind: &str) -> Vec<Raw> {
    let endpoint = socket.bind(Over::Ipc.wildcard()).expect("bound");
    let peers: Vec<Raw> = (0..MANY)
        .map(|_| {
            let mut peer = Raw::connect(endpoint.as_str()).expect("it listens");
            peer.shake_hands(kind).expect("a handshake");
            peer
        })
        .collect();
    socket.wait_for_peers(MANY, PATIENCE).expect("they come");
    peers
}

/// Whether a socket is closed and nothing is left of it.
fn is_done(monitor: &Monitor) -> bool {
    while monitor.try_recv().is_some() {}
    monitor.is_stopped()
}

#[test]
fn a_socket_with_very_many_peers_that_closes_keeps_no_other_waiting() {
    let _turn = alone();
    limit_descriptors(3 * MANY as u64);
    for engine_only in [false, true] {
        let context = context(engine_only);
        let beside = Beside::of(&context);
        is_in_steps("a socket beside one that closes", 4, || {
            let socket = AnySocket::in_context(SocketKind::Pull, &context);
            let monitor = socket.monitor();
            let _peers = crowd(&socket, "PUSH");
            drop(socket);
            until(|| is_done(&monitor), || beside.flush())
        });
    }
}

#[test]
fn nor_does_an_endpoint_with_very_many_peers_that_is_closed() {
    let _turn = alone();
    limit_descriptors(3 * MANY as u64);
    let context = context(false);
    let beside = Beside::of(&context);
    is_in_steps("a socket beside an endpoint that closes", 4, || {
        let socket = AnySocket::in_context(SocketKind::Pull, &context);
        let _peers = crowd(&socket, "PUSH");
        socket.unbind(&socket.endpoints()[0].endpoint).expect("bound");
        until(|| socket.stats().connections == 0, || beside.flush())
    });
}

/// Nobody is there to deliver to, and none of them is waited for.
#[test]
fn nor_does_a_socket_that_gives_very_many_peers_up() {
    let _turn = alone();
    let context = context(false);
    let beside = Beside::of(&context);
    is_in_steps("a socket beside one that gives up", 4, || {
        let push = AnySocket::builder(SocketKind::Push).context(&context);
        let push = push.linger(Duration::ZERO).reconnect_interval(PATIENCE).build().expect("good options");
        let monitor = push.monitor();
        let absent = push.bind(Over::Ipc.wildcard()).expect("bound");
        push.unbind(&absent).expect("bound");
        for number in 0..4 * MANY {
            push.connect(format!("{absent}-{number}")).expect("a good endpoint");
        }
        for number in 0..4 * MANY {
            push.send(number.to_string()).expect("there is room");
        }
        let is_tried = |endpoint: &EndpointInfo| endpoint.attempts > 0;
        eventually(PATIENCE, "all have been tried", || push.endpoints().iter().all(is_tried));
        // What is left of a socket goes with its last handle.
        push.close();
        let mut given_up = 0;
        let is_over = || {
            while let Some(event) = monitor.try_recv() {
                if let EventKind::Unsent(unsent) = event.kind {
                    given_up += unsent.messages;
                }
            }
            monitor.is_stopped()
        };
        let waited = until(is_over, || beside.flush());
        assert_eq!(given_up, 4 * MANY as u64, "all is told");
        waited
    });
}

/// A socket whose attempts all hang makes way for one that needs a descriptor.
#[test]
fn nor_do_attempts_that_make_way_while_descriptors_are_short() {
    let _turn = alone();
    let mut child = Process::start("way-maker", &[]);
    let report = child.hear_within(PATIENCE * 2);
    assert_eq!(report, "done");
    assert!(child.end_within(PATIENCE).success());
}

/// A process of its own, as its descriptors run out.
pub(crate) fn way_maker(_: &[&str]) {
    limit_descriptors(3 * MANY as u64);
    is_in_steps("a socket beside one whose attempts make way", 4, || {
        // Of those whose sockets live with engine threads.
        let context = context(true);
        let beside = Beside::of(&context);
        // The system takes connections, and nobody says a word.
        let mute = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        mute.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        mute.listen(4096).expect("it listens");
        let address = mute.local_addr().expect("bound").as_socket().expect("an address");
        let push = AnySocket::builder(SocketKind::Push).context(&context).reconnect_interval(PATIENCE);
        let push = push.build().expect("good options");
        let before = descriptors("self");
        for number in 0..MANY {
            push.connect(format!("tcp://{address}")).expect("a good endpoint");
            push.send(number.to_string()).expect("there is room");
        }
        let many = || descriptors("self") >= before + MANY * 9 / 10;
        eventually(PATIENCE, "most are connected", many);
        push.close();
        let made_way = AtomicBool::new(false);
        let waited = thread::scope(|scope| {
            scope.spawn(|| {
                let ample = limit_descriptors(descriptors("self") as u64 + 8);
                let rest = hoard_descriptors();
                let bound = Pull::in_context(&context).bind("tcp://127.0.0.1:*");
                limit_descriptors(ample);
                drop(rest);
                made_way.store(true, Ordering::Relaxed);
                bound.expect("there is a descriptor again");
            });
            until(|| made_way.load(Ordering::Relaxed), || beside.flush())
        });
        // Whoever asked has what it needs once the first of them is gone, or with the last.
        eventually(PATIENCE, "they make way", || descriptors("self") < before + MANY / 2);
        assert_eq!(context.close(Duration::ZERO).messages, MANY as u64, "all are accounted for");
        waited
    });
    child::tell("done");
}

/// What takes a while to be let go.
struct Slow([u8; 10_000]);

impl AsRef<[u8]> for Slow {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        take_a_while();
    }
}

fn take_a_while() {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_micros(50) {
        std::hint::spin_loop();
    }
}

#[test]
fn nor_does_a_closed_socket_that_leaves_very_much_unread() {
    let _turn = alone();
    let context = context(false);
    let beside = Beside::of(&context);
    is_in_steps("a socket beside one that leaves much unread", 4, || {
        let pull = Pull::builder().context(&context).receive_mark(0u32).build().expect("good options");
        pull.bind("tcp://127.0.0.1:*").expect("bound");
        pull.bind("inproc://unread").expect("bound");
        let push = Push::builder().context(&context).send_mark(0u32).build().expect("good options");
        push.connect("inproc://unread").expect("bound");
        for _ in 0..2000 {
            push.send(Bytes::from_owner(Slow([0; 10_000]))).expect("there is room");
        }
        push.close();
        eventually(PATIENCE, "they are handed over", || pull.stats().unread == 2000);
        let monitor = pull.monitor();
        drop(pull);
        until(|| is_done(&monitor), || beside.flush())
    });
}

/// Nobody receives from a PUB: the thread that finds that nobody takes what is sent upstream takes it.
#[test]
fn a_thread_that_tells_a_publisher_of_the_same_process_something_does_not_wait_for_all_that_others_send() {
    const MESSAGES: u32 = 6000;
    let _turn = alone();
    // It takes longer to be taken apart than to be sent.
    let message: Message = (0..1000).map(|_| Frame::from("frame")).collect();
    is_in_steps("a thread that tells a publisher", 2, || {
        let context = context(false);
        let publisher = Pub::in_context(&context);
        publisher.bind("inproc://upstream").expect("bound");
        let subscriber = AnySocket::builder(SocketKind::XSub).context(&context).send_mark(0u32);
        let subscriber = subscriber.build().expect("good options");
        (0..30_000).for_each(|number| subscriber.subscribe(number.to_string()).expect("wanted"));
        let begin = Instant::now();
        let worst = thread::scope(|scope| {
            scope.spawn(|| {
                // Until it is connected nobody gets them.
                let mut left = MESSAGES;
                while left > 0 {
                    subscriber.send(message.clone()).expect("there is room");
                    left -= u32::from(publisher.topic_count() > 0);
                }
            });
            subscriber.connect("inproc://upstream").expect("bound");
            begin.elapsed()
        });
        eventually(PATIENCE, "all is taken", || subscriber.stats().queued == 0);
        Looks { count: MESSAGES, worst, whole: begin.elapsed() }
    });
}

const SUBSCRIPTION: usize = 2 + b"\x09SUBSCRIBE".len() + 64;

/// A publisher made of bytes, to which that socket connects: it reads so many octets after the handshake.
fn told(listener: &TcpListener, octets: usize) -> Vec<u8> {
    let mut peer = Raw::accepted(listener.accept().expect("it connects").0);
    peer.shake_hands("XPUB").expect("a handshake");
    let mut all = vec![0; octets];
    peer.read_exact(&mut all).expect("all of it");
    all
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("tcp://{}", listener.local_addr().expect("bound"));
    (listener, endpoint)
}

#[test]
fn a_subscriber_with_very_many_topics_that_connects_keeps_no_other_socket_waiting() {
    const TOPICS: usize = 300_000;
    let _turn = alone();
    for engine_only in [false, true] {
        let context = context(engine_only);
        let beside = Beside::of(&context);
        let subscriber = AnySocket::in_context(SocketKind::Sub, &context);
        (0..TOPICS).for_each(|number| subscriber.subscribe(format!("{number:064}")).expect("wanted"));
        is_in_steps("a socket beside a SUB", 4, || {
            let (listener, endpoint) = listen();
            thread::scope(|scope| {
                let reader = scope.spawn(|| told(&listener, TOPICS * SUBSCRIPTION));
                subscriber.connect(&endpoint).expect("a good endpoint");
                let waited = until(|| reader.is_finished(), || beside.flush());
                let told = reader.join().expect("no panic");
                let topics = told.chunks(SUBSCRIPTION).map(|command| &command[SUBSCRIPTION - 64..]);
                let distinct: BTreeSet<&[u8]> = topics.collect();
                assert_eq!(distinct.len(), TOPICS, "each is told once");
                waited
            })
        });
    }
}

/// A frame that a peer was sent: its flags and its body.
fn read_frame(peer: &mut impl Read) -> (u8, Vec<u8>) {
    let mut header = [0; 2];
    peer.read_exact(&mut header).expect("a header");
    let mut body = vec![0; header[1].into()];
    peer.read_exact(&mut body).expect("a body");
    (header[0], body)
}

/// Reads what a subscriber says, up to a message `over`: the topics that are wanted then. Nothing is said that is said
/// already, and what a message names is wanted when it comes.
fn follow(mut peer: impl Read) -> BTreeSet<String> {
    let mut wanted = BTreeSet::new();
    loop {
        let (flags, body) = read_frame(&mut peer);
        let text = |from: usize| String::from_utf8(body[from..].to_vec()).expect("letters");
        match flags {
            4 if body.starts_with(b"\x09SUBSCRIBE") => assert!(wanted.insert(text(10)), "{} again", text(10)),
            4 if body.starts_with(b"\x06CANCEL") => assert!(wanted.remove(&text(7)), "{} is not wanted", text(7)),
            0 if body == b"over" => return wanted,
            0 => assert!(wanted.contains(&text(0)), "{} came before its subscription", text(0)),
            _ => panic!("a frame with the flags {flags}"),
        }
    }
}

#[test]
fn what_an_xsub_wants_and_sends_while_a_new_peer_is_told_of_very_many_topics_comes_in_its_order_behind_them() {
    let _turn = alone();
    let context = context(false);
    let (subscriber, mut wanted) = wants_many(SocketKind::XSub, &context);
    let (listener, endpoint) = listen();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut peer = Raw::accepted(listener.accept().expect("it connects").0);
            peer.shake_hands("XPUB").expect("a handshake");
            follow(BufReader::new(peer))
        });
        subscriber.connect(&endpoint).expect("a good endpoint");
        subscriber.wait_for_peers(1, PATIENCE).expect("it is there");
        change_all(&subscriber, &mut wanted, 300);
        subscriber.send("over").expect("there is room");
        assert!(reader.join().expect("no panic") == wanted);
    });
}

#[test]
fn so_does_what_changes_while_a_publisher_of_the_same_process_is_told() {
    let _turn = alone();
    let context = context(false);
    let (subscriber, mut wanted) = wants_many(SocketKind::XSub, &context);
    let publisher = AnySocket::builder(SocketKind::XPub).context(&context).receive_mark(0u32);
    let publisher = publisher.send_mark(0u32).build().expect("good options");
    publisher.bind("inproc://turns").expect("bound");
    thread::scope(|scope| {
        scope.spawn(|| subscriber.connect("inproc://turns").expect("bound"));
        subscriber.wait_for_peers(1, PATIENCE).expect("it is there");
        change_all(&subscriber, &mut wanted, 300);
        subscriber.send("over").expect("there is room");
    });
    let mut known = BTreeSet::new();
    loop {
        let message = publisher.recv_timeout(PATIENCE).expect("more comes");
        let text = |from: usize| String::from_utf8(message.first()[from..].to_vec()).expect("letters");
        match message.first()[0] {
            1 => assert!(known.insert(text(1)), "{} again", text(1)),
            0 => assert!(known.remove(&text(1)), "{} is not wanted", text(1)),
            _ if message.first() == b"over" => break,
            _ => assert!(known.contains(&text(0)), "{} came before its subscription", text(0)),
        }
    }
    assert!(known == wanted);
    assert_eq!(count(&publisher), wanted.len());
}

/// A subscriber that wants very many topics.
fn wants_many(kind: SocketKind, context: &Context) -> (AnySocket, BTreeSet<String>) {
    let subscriber = AnySocket::builder(kind).context(context).send_mark(0u32).build().expect("good options");
    let wanted: BTreeSet<String> = (0..200_000).map(|number| format!("{number:06}")).collect();
    wanted.iter().for_each(|topic| subscriber.subscribe(topic).expect("wanted"));
    (subscriber, wanted)
}

/// So many times: wants something new and says so in a message, or no more, and wants something no more that it has
/// long wanted.
fn change_all(subscriber: &AnySocket, wanted: &mut BTreeSet<String>, times: usize) {
    for number in 0..times {
        // Some come before the others in the order of their octets, some among them, and some behind.
        let new = format!("{}-{number}", ["#", "1", "199999", "a"][number % 4]);
        subscriber.subscribe(&new).expect("wanted");
        subscriber.send(new.as_str()).expect("there is room");
        if number % 3 == 0 {
            wanted.insert(new);
        } else {
            assert!(subscriber.unsubscribe(&new).expect("wanted"));
        }
        let old = format!("{:06}", 650 * number);
        assert!(subscriber.unsubscribe(&old).expect("wanted"));
        if number % 2 == 0 {
            subscriber.subscribe(&old).expect("wanted");
        } else {
            wanted.remove(&old);
        }
    }
}

/// What a turn of another socket may take, which other programs can make the rule.
const TURN: Duration = Duration::from_millis(1);
/// How many peers one socket has to write to.
const MANY: usize = 3000;
