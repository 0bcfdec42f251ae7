//! What closing delivers and how long it takes: every linger time against every state a connection can be in.

use crate::support::measure::{Lateness, Stopwatch};
use crate::support::raw::Raw;
use crate::support::{Blocked, Nobody, Over, PATIENCE, alone, eventually, times, within};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Context, EventKind, Message, Pull, Push, RecvError};

/// What the other side of a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    /// Nobody listens.
    Nobody,
    /// Somebody accepts and says nothing.
    Mute,
    /// A peer that shakes hands and never reads.
    Stalled,
    /// A peer that receives.
    Reader,
}

const SITUATIONS: [There; 4] = [There::Nobody, There::Mute, There::Stalled, There::Reader];
const DEADLINE: Duration = Duration::from_millis(300);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(700);
const MESSAGES: u64 = 64;

#[test]
fn every_linger_time_ends_in_time_whatever_the_peer_does() {
    let _turn = alone();
    let lingers = [Some(Duration::ZERO), Some(Duration::from_millis(1)), Some(Duration::from_millis(100)), None];
    let lateness = Arc::new(Lateness::watch());
    let cells: Vec<_> = Over::STREAMS
        .into_iter()
        .flat_map(|over| SITUATIONS.map(|there| (over, there)))
        .flat_map(|(over, there)| lingers.map(|linger| (over, there, linger)))
        .map(|(over, there, linger)| {
            let lateness = Arc::clone(&lateness);
            let cell = move || close_in_time(over, there, linger, &lateness);
            let cell = move || within(PATIENCE, "closing a context", cell);
            (format!("{over:?}, {there:?}, {linger:?}"), thread::spawn(cell))
        })
        .collect();
    for (name, cell) in cells {
        assert!(cell.join().is_ok(), "{name}");
    }
}

/// The deadline is kept although so many timers are stale by then that they are cleared up while the close looks at a
/// connection that drains.
#[test]
fn the_linger_time_ends_after_a_crowd_has_come_and_gone() {
    let _turn = alone();
    within(PATIENCE, "the close", || {
        let linger = Duration::from_millis(500);
        let push = Push::builder().context(&Context::new()).linger(linger).send_mark(16u32);
        let push = push.build().expect("good options");
        let monitor = push.monitor();
        let endpoint = push.bind("tcp://127.0.0.1:*").expect("bound");
        let join = |count| {
            let mut raw = Raw::connect(endpoint.as_str()).expect("accepted");
            raw.shake_hands("PULL").expect("a socket");
            push.wait_for_peers(count, PATIENCE).expect("it is accepted");
            raw
        };
        let body = vec![7; 100_000];
        let _still = join(1);
        while push.send_timeout(&body[..], Duration::from_millis(100)).is_ok() {}
        // The kernel takes what this one is sent, and the peer does not.
        let drains = join(2);
        for _ in 0..5 {
            push.send_timeout(&body[..], PATIENCE).expect("there is room");
        }
        let written = || push.peers().iter().any(|peer| peer.stats.written == 5 && peer.stats.queued == 0);
        eventually(PATIENCE, "the kernel has it", written);
        drop((3..203).map(join).collect::<Vec<_>>());
        eventually(PATIENCE, "the crowd is gone", || push.stats().connections == 2);
        let (lateness, watch) = (Lateness::watch(), Stopwatch::start());
        push.close();
        let next = || monitor.recv_timeout(PATIENCE).expect("an event").kind;
        while !matches!(next(), EventKind::Closed(_)) {}
        drop(drains);
        while !matches!(next(), EventKind::MonitorStopped) {}
        let (took, late) = (watch.elapsed(), lateness.since(watch.begin));
        assert!(took <= linger + SLACK + late, "took {took:?}, {late:?} late");
    });
}

fn close_in_time(over: Over, there: There, linger: Option<Duration>, lateness: &Lateness) {
    let case = format!("{over:?}, {there:?}, linger {linger:?}");
    let other = Other::start(over, there);
    let context = Context::new();
    // Large enough that no kernel holds them all.
    let size = if there == There::Stalled { 1 << 20 } else { 1000 };
    let push = Push::builder().context(&context).linger(linger).send_mark(0u32).send_byte_mark(0u64);
    let push = push.build().expect("good options");
    push.connect(&other.endpoint).expect("a good endpoint");
    if matches!(there, There::Stalled | There::Reader) {
        push.wait_for_peers(1, PATIENCE).expect("the peer comes");
    }
    for number in 0..MESSAGES {
        push.send(body(number, size)).expect("accepted");
    }
    let watch = Stopwatch::start();
    push.close();
    let (took, late) = (watch.elapsed(), lateness.since(watch.begin));
    assert!(took <= Duration::from_millis(100) + late, "{case}: close blocks for {took:?}, {late:?} late");
    drop(push);
    let unsent = context.close(DEADLINE);
    let (took, late) = (watch.elapsed(), lateness.since(watch.begin));
    let allowed = linger.map_or(DEADLINE, |linger| linger.min(DEADLINE)) + SLACK;
    assert!(took <= allowed + late, "{case}: took {took:?} of {allowed:?}, {late:?} late");
    match there {
        There::Nobody | There::Mute => assert_eq!(unsent.messages, MESSAGES, "{case}: {unsent:?}"),
        There::Stalled => assert!((1..=MESSAGES).contains(&unsent.messages), "{case}: {unsent:?}"),
        There::Reader => {
            if linger.is_none() {
                assert_eq!(unsent.messages, 0, "{case}: {unsent:?}");
            }
        }
    }
    if linger.is_none() && matches!(there, There::Nobody | There::Mute) {
        assert!(unsent.bytes >= MESSAGES * size as u64, "{case}: {unsent:?}");
    }
    if let Some(received) = &other.received {
        let received = received.recv_timeout(PATIENCE).expect("the reader ends");
        assert_eq!(received, MESSAGES - unsent.messages, "{case}: what is not unsent arrives, {unsent:?}");
    }
}

/// Whoever is at the other end of a cell.
struct Other {
    endpoint: String,
    /// How many messages the reader had when its peer was gone.
    received: Option<Receiver<u64>>,
    /// Keeps a port from being given to somebody who does listen.
    _nobody: Option<Nobody>,
    _end: Sender<()>,
    path: Option<PathBuf>,
}

impl Other {
    fn start(over: Over, there: There) -> Other {
        let (end, ended) = channel();
        if (over, there) == (Over::Tcp, There::Nobody) {
            let nobody = Nobody::new();
            let endpoint = nobody.endpoint.clone();
            return Other { endpoint, received: None, _nobody: Some(nobody), _end: end, path: None };
        }
        let (path, listener, endpoint) = match over {
            Over::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
                let endpoint = format!("tcp://{}", listener.local_addr().expect("bound"));
                (None, Plain::Tcp(listener), endpoint)
            }
            Over::Ipc => {
                use std::sync::atomic::{AtomicU32, Ordering};
                static NEXT: AtomicU32 = AtomicU32::new(0);
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let path = std::env::temp_dir().join(format!("linger-{}-{number}", std::process::id()));
                let endpoint = format!("ipc://{}", path.display());
                (Some(path.clone()), Plain::Unix(UnixListener::bind(path).expect("a free name")), endpoint)
            }
            Over::Inproc => unreachable!("inproc has no stream"),
        };
        let mut received = None;
        match there {
            There::Nobody => {
                drop(listener);
                path.iter().for_each(|path| std::fs::remove_file(path).expect("ours"));
            }
            There::Mute | There::Stalled => {
                thread::spawn(move || {
                    let mut stream = listener.accept();
                    if there == There::Stalled {
                        stream.shake_hands("PULL").expect("a socket");
                    }
                    // Holds the connection until the cell is done.
                    let _ = ended.recv();
                });
            }
            There::Reader => {
                let (sender, receiver) = channel();
                received = Some(receiver);
                let context = Context::new();
                let pull = Pull::in_context(&context);
                let monitor = pull.monitor();
                let bound = match listener {
                    Plain::Tcp(listener) => pull.adopt_tcp(listener),
                    Plain::Unix(listener) => pull.adopt_unix(listener),
                };
                bound.expect("adopted");
                thread::spawn(move || {
                    let mut count = 0;
                    let mut gone = false;
                    loop {
                        gone |= std::iter::from_fn(|| monitor.try_recv()).any(|event| is_loss(&event.kind));
                        match pull.recv_timeout(Duration::from_millis(10)) {
                            Ok(message) => {
                                assert_eq!(number(&message), count, "in order");
                                count += 1;
                            }
                            Err(RecvError::TimedOut) if gone => break,
                            Err(RecvError::TimedOut) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                    let _ = sender.send(count);
                });
            }
        }
        Other { endpoint, received, _nobody: None, _end: end, path }
    }
}

fn is_loss(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Disconnected(_))
}

impl Drop for Other {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

enum Plain {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Plain {
    fn accept(&self) -> Raw {
        match self {
            Plain::Tcp(listener) => Raw::accepted(listener.accept().expect("a connection").0),
            Plain::Unix(listener) => Raw::accepted_unix(listener.accept().expect("a connection").0),
        }
    }
}

/// The drop of the last handle gives up on a peer that is not there …
#[test]
fn dropping_the_last_handle_gives_up_when_nothing_moves() {
    let _turn = alone();
    for there in [There::Nobody, There::Mute, There::Stalled] {
        let other = Other::start(Over::Tcp, there);
        let patience = Duration::from_millis(200);
        let context = Context::builder().drop_wait(Some(patience)).build();
        let push = Push::builder().context(&context).send_byte_mark(0u64).build().expect("good options");
        push.connect(&other.endpoint).expect("a good endpoint");
        for number in 0..MESSAGES {
            push.send(body(number, 1 << 20)).expect("accepted");
        }
        drop(context);
        let (lateness, watch) = (Lateness::watch(), Stopwatch::start());
        drop(push);
        let (waited, took, late) = (watch.begin.elapsed(), watch.elapsed(), lateness.since(watch.begin));
        assert!(waited >= patience, "{there:?}: {waited:?}");
        assert!(took <= patience * 2 + SLACK + late, "{there:?}: {took:?}, {late:?} late");
    }
}

/// … and does not give up while data moves, even if no message gets done for long.
#[test]
fn dropping_the_last_handle_waits_for_a_large_message_that_is_read_slowly() {
    let _turn = alone();
    const SIZE: usize = 48 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("tcp://{}", listener.local_addr().expect("bound"));
    let reader = thread::spawn(move || {
        let mut raw = Raw::accepted(listener.accept().expect("a connection").0);
        raw.shake_hands("PULL").expect("a socket");
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0;
        loop {
            match raw.read(&mut buffer) {
                Ok(0) | Err(_) => return total,
                Ok(got) => total += got,
            }
            // The story is that of a slow reader: the whole takes three times the patience or so.
            thread::sleep(Duration::from_millis(25));
        }
    });
    let context = Context::builder().drop_wait(Some(Duration::from_millis(400))).build();
    let push = Push::in_context(&context);
    push.connect(&endpoint).expect("a good endpoint");
    push.send(vec![1; SIZE]).expect("accepted");
    drop(context);
    drop(push);
    assert_eq!(reader.join().expect("no panic"), SIZE + 9, "the whole message with its header");
}

#[test]
fn inproc_peers_in_every_state_let_a_context_close() {
    let _turn = alone();
    for linger in [Some(Duration::ZERO), Some(Duration::from_millis(100)), None] {
        for bound in [false, true] {
            let context = Context::new();
            let push = Push::builder().context(&context).linger(linger).build().expect("good options");
            let pull = Pull::in_context(&context);
            push.connect("inproc://somewhere").expect("either side first");
            if bound {
                pull.bind("inproc://somewhere").expect("bound");
            }
            for number in 0..MESSAGES {
                push.send(body(number, 100)).expect("accepted");
            }
            drop(push);
            let (lateness, watch) = (Lateness::watch(), Stopwatch::start());
            let unsent = context.close(DEADLINE);
            let (took, late) = (watch.elapsed(), lateness.since(watch.begin));
            assert!(took <= DEADLINE + SLACK + late, "{linger:?}, bound {bound}: {took:?}, {late:?} late");
            if !bound {
                assert_eq!(unsent.messages, MESSAGES, "{linger:?}: {unsent:?}");
            }
        }
    }
}

#[test]
fn what_an_inproc_sender_leaves_behind_is_still_received() {
    for rounds in 0..100 {
        let context = Context::new();
        let pull = Pull::in_context(&context);
        let push = Push::in_context(&context);
        pull.bind("inproc://somewhere").expect("bound");
        push.connect("inproc://somewhere").expect("bound before");
        for number in 0..MESSAGES {
            push.send(body(number, 100)).expect("accepted");
        }
        drop(push);
        for expected in 0..MESSAGES {
            let message = pull.recv_timeout(PATIENCE).expect("it was accepted");
            assert_eq!(number(&message), expected, "round {rounds}");
        }
    }
}

/// Ten thousand connects to names that nobody binds are plain data: they cost the close nothing.
#[test]
fn thousands_of_unbound_inproc_names_do_not_delay_a_close() {
    let _turn = alone();
    within(PATIENCE, "closing", || {
        let context = Context::new();
        let dealers: Vec<Push> = (0..1000).map(|_| Push::in_context(&context)).collect();
        for (number, push) in dealers.iter().enumerate() {
            for part in 0..10 {
                push.connect(format!("inproc://nobody-{number}-{part}")).expect("either side first");
            }
        }
        let begin = Instant::now();
        context.close(Duration::ZERO);
        assert!(begin.elapsed() <= Duration::from_secs(5), "{:?}", begin.elapsed());
    });
}

#[test]
fn flush_is_told_when_the_receiver_has_taken_everything() {
    let _turn = alone();
    for over in Over::ALL {
        let context = Context::new();
        let pull = Pull::in_context(&context);
        let push = Push::in_context(&context);
        let endpoint = pull.bind(over.wildcard()).expect("bound");
        push.connect(&endpoint).expect("a good endpoint");
        for number in 0..MESSAGES {
            push.send(body(number, 100)).expect("accepted");
        }
        let flush = Blocked::start(move || {
            let watch = Stopwatch::start();
            (push.flush(PATIENCE), watch.kept())
        });
        flush.settle();
        for _ in 0..MESSAGES {
            pull.recv_timeout(PATIENCE).expect("it was accepted");
        }
        let (lateness, begin) = (Lateness::watch(), Instant::now());
        let ((outcome, kept), at) = flush.outcome(PATIENCE * 2).expect("it returns");
        outcome.expect("the PULL has everything");
        let (took, late) = (at.saturating_duration_since(begin).saturating_sub(kept), lateness.since(begin));
        assert!(took <= SLACK + late, "{over:?}: told after {took:?}, {late:?} late");
    }
}

/// The flushing thread may be asleep as the driver when the sending thread writes the last message itself.
#[test]
fn flush_is_told_of_what_another_thread_writes() {
    let _turn = alone();
    let context = Context::new();
    let pull = Pull::in_context(&context);
    let push = Arc::new(Push::in_context(&context));
    push.connect(pull.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
    push.wait_for_peers(1, PATIENCE).expect("the PULL is there");
    let rounds = times(20_000);
    let reader = thread::spawn(move || (0..rounds).for_each(|_| drop(pull.recv().expect("it was accepted"))));
    let barrier = Arc::new(Barrier::new(2));
    let sender = thread::spawn({
        let (push, barrier) = (Arc::clone(&push), Arc::clone(&barrier));
        move || {
            for _ in 0..rounds {
                barrier.wait();
                push.send([0; 4000]).expect("accepted");
                barrier.wait();
            }
        }
    });
    for round in 0..rounds {
        barrier.wait();
        let begin = Instant::now();
        push.flush(PATIENCE).expect("the PULL reads");
        assert!(begin.elapsed() <= Duration::from_secs(5), "round {round}: {:?}", begin.elapsed());
        barrier.wait();
    }
    sender.join().expect("no panic");
    reader.join().expect("no panic");
}

#[test]
fn flush_returns_when_everything_is_in_the_kernel_and_says_what_is_not() {
    let _turn = alone();
    let context = Context::new();
    let push = Push::in_context(&context);
    let other = Other::start(Over::Tcp, There::Reader);
    push.connect(&other.endpoint).expect("a good endpoint");
    for number in 0..MESSAGES {
        push.send(body(number, 1000)).expect("accepted");
    }
    push.flush(PATIENCE).expect("the peer reads");
    assert_eq!((push.stats().written, push.stats().queued), (MESSAGES, 0));
    drop(other);

    let nobody = Push::in_context(&context);
    let other = Other::start(Over::Tcp, There::Nobody);
    nobody.connect(&other.endpoint).expect("a good endpoint");
    nobody.send("one").expect("accepted");
    let error = nobody.flush(Duration::from_millis(20)).expect_err("nobody is there").to_string();
    assert!(error.contains("1 message"), "{error}");
    eventually(PATIENCE, "the law holds", || nobody.stats().is_balanced());
    nobody.close();
    context.close(Duration::ZERO);
}

fn body(number: u64, size: usize) -> Vec<u8> {
    let mut body = vec![number as u8; size];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body
}

fn number(message: &Message) -> u64 {
    u64::from_le_bytes(*message.first().first_chunk::<8>().expect("a numbered message"))
}
