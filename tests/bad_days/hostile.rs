//! Strangers send anything: random octets, almost the right ones, too little, too much. The process lives, its memory
//! stays in bounds, and a good client hardly notices.

use crate::support::child::{self, Process};
use crate::support::random::Random;
use crate::support::raw::{self, Raw};
use crate::support::{PATIENCE, alone, eventually, is_full, measure, median, percentile, times, within};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Context, Dealer, Router};

/// How much the server may grow.
const GROWTH: u64 = 80 << 20;
/// How much of the buffers that threads kept may stay with the allocator once they are freed.
const SPARE: u64 = 16 << 20;
/// The largest message the server takes: who serves strangers sets a limit.
const LARGEST: u64 = 16 << 20;
/// Round trips of one window of measurement.
const WINDOW: usize = 300;

#[test]
fn strangers_cannot_end_fill_or_stall_a_server() {
    let _turn = alone();
    within(PATIENCE * 20, "the attack", || {
        // What else the machine does may make a client late, and not early: a server that stalls it does so every time.
        let late: Vec<Lateness> = (0..3).map_while(|_| attack().err()).collect();
        assert!(late.len() < 3, "each time the client was late: {late:#?}");
    });
}

/// A client under attack whose 99th percentile was beyond what is allowed.
#[derive(Debug)]
#[expect(dead_code, reason = "it is printed")]
struct Lateness {
    percentile: Duration,
    allowed: Duration,
    windows: Vec<Window>,
}

/// Ten thousand strangers come to a server while a good client measures it; whether the client was late.
fn attack() -> Result<(), Lateness> {
    let mut server = Process::start("server", &[]);
    let endpoint = server.hear();
    let context = Context::new();
    // Both ends sleep while they wait, as the control does: one that looks for answers is quicker while it is quiet by
    // more than the control could tell us to allow for once processors are short, and no slower than this then.
    let client = Dealer::builder().context(&context).adaptive_spin(false).build().expect("good options");
    client.connect(&endpoint).expect("a good endpoint");
    let mut asked = 0;
    let mut control = control(&server.hear());
    let mut quiet: Vec<Window> = (0..9).map(|_| window(&client, &mut control, &mut asked)).collect();
    let (memory, descriptors) = (measure::resident(server.id()), measure::descriptors(server.id()));

    let mut attacker = Process::start("attacker", &[&endpoint, &times(10_000)]);
    let mut busy = Vec::new();
    let mut largest = memory;
    let mut report = None;
    while report.is_none() {
        busy.push(window(&client, &mut control, &mut asked));
        largest = largest.max(measure::resident(server.id()));
        report = attacker.try_hear(Duration::ZERO);
    }
    assert!(server.is_alive(), "the server lives");
    let report = report.expect("the attack is over");
    assert!(largest <= memory + GROWTH, "memory grew by {} MiB", (largest - memory) >> 20);
    // Newcomers are served, and nothing of the strangers is left once they are gone.
    let newcomer = Dealer::in_context(&context);
    newcomer.connect(&endpoint).expect("a good endpoint");
    newcomer.wait_for_peers(1, Duration::from_secs(5)).expect("a place for a good newcomer");
    drop(newcomer);
    attacker.finish();
    eventually(PATIENCE, "the strangers' descriptors are closed", || {
        measure::descriptors(server.id()) <= descriptors + 1
    });
    quiet.extend((0..9).map(|_| window(&client, &mut control, &mut asked)));
    drop(control);
    server.finish();

    // The best of the quiet windows: what disturbs one has nothing to do with the server either.
    let best = |which: fn(&Window) -> Duration| quiet.iter().map(which).min().expect("there are some");
    let middle = |which: fn(&Window) -> Duration| median(&busy.iter().map(which).collect::<Vec<_>>());
    let (quiet_client, busy_client) = (best(|window| window.client), middle(|window| window.client));
    let (quiet_control, busy_control) = (best(|window| window.control), middle(|window| window.control));
    println!(
        "{report}; 99th percentile {quiet_client:?} quiet, {busy_client:?} under attack in {} windows; of the control \
             {quiet_control:?} and {busy_control:?}; memory grew by {} KiB",
        busy.len(),
        (largest - memory) >> 10
    );
    // The attackers take processors whether there is a server or not, and who wakes among them waits for its turn. The
    // control suffers that as well, as it shares the processes, their priorities and the time, and nothing of wiremesh:
    // where it got worse, the client may get worse by as much again, and twice. A server that lets strangers go first
    // makes the client later and leaves the control as it is.
    let worsening = busy_control.as_secs_f64() / quiet_control.as_secs_f64();
    let allowed = quiet_client.mul_f64(2.0 * worsening.max(1.0));
    if busy_client <= allowed { Ok(()) } else { Err(Lateness { percentile: busy_client, allowed, windows: busy }) }
}

/// The 99th percentiles of round trips made by turns.
#[derive(Debug)]
struct Window {
    client: Duration,
    /// Of a bare connection between the same two processes.
    control: Duration,
}

/// Round trips of the good client, in order, and of the control.
fn window(client: &Dealer, control: &mut TcpStream, asked: &mut u64) -> Window {
    let (mut by_client, mut by_control) = (Vec::new(), Vec::new());
    for _ in 0..WINDOW {
        let question = asked.to_le_bytes();
        *asked += 1;
        let begin = Instant::now();
        client.send(question).expect("the server is there");
        let answer = client.recv_timeout(PATIENCE).expect("an answer");
        by_client.push(begin.elapsed());
        assert_eq!(answer, &question, "in order");
        let begin = Instant::now();
        let mut answer = [0; 8];
        control.write_all(&question).and_then(|()| control.read_exact(&mut answer)).expect("the echo is there");
        by_control.push(begin.elapsed());
        assert_eq!(answer, question);
    }
    Window { client: percentile(&by_client, 99), control: percentile(&by_control, 99) }
}

fn control(address: &str) -> TcpStream {
    let control = TcpStream::connect(address).expect("it listens");
    control.set_nodelay(true).expect("an option every system has");
    control
}

/// In the server: a thread that blocks in a bare read, and answers; says where.
fn bare_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.set_nodelay(true).expect("an option every system has");
        let mut question = [0; 8];
        while stream.read_exact(&mut question).and_then(|()| stream.write_all(&question)).is_ok() {}
    });
    address
}

/// Echoes until its parent hangs up. It takes messages up to [`LARGEST`], or, for `default`, with default options, or,
/// for a number, within a budget of so many octets.
pub(crate) fn server(arguments: &[&str]) {
    measure::limit_descriptors(1 << 20);
    let budget = match arguments {
        [] | ["default"] => None,
        [octets] => Some(octets.parse().expect("a number")),
        _ => panic!("default, or a budget"),
    };
    let context = match budget {
        Some(octets) => Context::builder().byte_budget(Some(octets)).build(),
        None => Context::new(),
    };
    let router = match arguments {
        [] => {
            let router = Router::builder().context(&context).max_message_size(LARGEST).adaptive_spin(false);
            router.build().expect("good options")
        }
        _ => Router::in_context(&context),
    };
    child::tell(router.bind("tcp://127.0.0.1:*").expect("bound"));
    child::tell(bare_echo());
    thread::spawn(move || {
        while let Ok((id, message)) = router.recv() {
            router.send_to(&id, message).expect("a ROUTER never waits");
        }
    });
    while child::listen().is_some() {}
}

/// What a stranger does.
type Attack = fn(&mut Raw, &mut Random) -> std::io::Result<()>;

const ATTACKS: [(&str, Attack); 16] = [
    ("random octets", |raw, random| {
        let size = random.below(4096);
        raw.write_all(&random.bytes(size))
    }),
    ("silence", |_, _| Ok(())),
    ("another protocol", |raw, random| {
        let openers: [&[u8]; 5] = [
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        ];
        raw.write_all(openers[random.below(openers.len())])
    }),
    ("a greeting with one octet wrong", |raw, random| {
        let mut greeting = raw::greeting();
        greeting[random.below(64)] ^= 1 << random.below(8);
        raw.write_all(&greeting)?;
        raw.write_all(&raw::ready("DEALER"))
    }),
    ("a greeting and random octets", |raw, random| {
        raw.write_all(&raw::greeting())?;
        let size = random.below(4096);
        raw.write_all(&random.bytes(size))
    }),
    ("the wrong kind", |raw, _| {
        raw.write_all(&raw::greeting())?;
        raw.write_all(&raw::ready("SUB"))
    }),
    ("a READY with lengths that lie", |raw, random| {
        raw.write_all(&raw::greeting())?;
        let mut ready = raw::ready("DEALER");
        let place = 8 + random.below(ready.len() - 8);
        ready[place] ^= 0xff;
        raw.write_all(&ready)
    }),
    ("an unknown mechanism", |raw, _| {
        let mut greeting = raw::greeting();
        greeting[12..17].copy_from_slice(b"CURVE");
        raw.write_all(&greeting)?;
        raw.write_all(&raw::command(b"\x05HELLO"))
    }),
    ("a handshake command of 2^62 octets", |raw, _| {
        raw.write_all(&raw::greeting())?;
        let mut header = raw::long_header(false, 1 << 62);
        header[0] = 6;
        raw.write_all(&header)?;
        raw.write_all(b"\x05READY")
    }),
    ("one octet and then another", |raw, random| {
        for octet in raw::greeting() {
            raw.write_all(&[octet])?;
            if random.below(4) == 0 {
                thread::yield_now();
            }
        }
        Ok(())
    }),
    ("a frame of 2^62 octets", |raw, _| {
        raw.shake_hands("DEALER")?;
        raw.write_all(&raw::long_header(false, 1 << 62))?;
        raw.write_all(&[0; 1000])
    }),
    ("a frame of 2^63 octets and more", |raw, random| {
        raw.shake_hands("DEALER")?;
        raw.write_all(&raw::long_header(false, u64::MAX - random.below(16) as u64))?;
        raw.write_all(&[0; 1000])
    }),
    ("a frame just within the limit that never comes", |raw, _| {
        raw.shake_hands("DEALER")?;
        raw.write_all(&raw::long_header(false, LARGEST - 16))?;
        raw.write_all(&[0; 1000])
    }),
    ("a message, and octets that are none", |raw, random| {
        raw.shake_hands("DEALER")?;
        raw.write_all(&raw::frame(false, b"hello"))?;
        let size = random.below(4096);
        raw.write_all(&random.bytes(size))
    }),
    ("commands nobody knows, and short PINGs", |raw, random| {
        raw.shake_hands("DEALER")?;
        for _ in 0..100 {
            raw.write_all(&raw::command(b"\x07UNKNOWN"))?;
            raw.write_all(&raw::command(&b"\x04PING\x00\x0a0123456789"[..5 + random.below(8)]))?;
        }
        Ok(())
    }),
    ("a flood of PINGs whose answers are not read", |raw, _| {
        raw.shake_hands("DEALER")?;
        let ping = raw::command(b"\x04PING\x00\x0a0123456789abcdef");
        let flood = ping.repeat(2000);
        raw.set_write_timeout(Duration::from_millis(20));
        raw.write_all(&flood)
    }),
];

/// Some attack as long as they can: how many at a time.
const ENDLESS: usize = 2;
const SLOW: usize = 100;

/// Connects again and again and does each of the attacks in turn, at a steady pace.
pub(crate) fn attacker(arguments: &[&str]) {
    let [endpoint, connections] = arguments else { panic!("endpoint, connections") };
    measure::limit_descriptors(1 << 20);
    let connections: usize = connections.parse().expect("a number");
    let over = Arc::new(AtomicBool::new(false));
    let refused = Arc::new(AtomicUsize::new(0));
    let slow = slow_loris(endpoint, &over);
    let endless: Vec<_> = (0..ENDLESS).map(|number| endless_more(endpoint, number, &over, &refused)).collect();
    let mut random = Random::new(5);
    let mut held = Vec::new();
    let begin = Instant::now();
    // A thousand connections take two seconds or so: the good client measures the server and not the attacker's
    // processor.
    let pace = Duration::from_millis(2);
    let mut failed = 0;
    for number in 0..connections {
        let (_, attack) = ATTACKS[number % ATTACKS.len()];
        match Raw::connect(endpoint) {
            Ok(mut raw) => {
                // The server may close at any moment, and should.
                let _ = attack(&mut raw, &mut random);
                held.push(raw);
            }
            Err(_) => failed += 1,
        }
        // Two thousand stay: more than may be half open. The rest goes in any order.
        if held.len() > 2000 {
            held.swap_remove(random.below(held.len()));
        }
        let due = pace * (number as u32 + 1);
        thread::sleep(due.saturating_sub(begin.elapsed()));
    }
    eventually(PATIENCE * 4, "endless messages are refused", || refused.load(Ordering::SeqCst) > 0);
    over.store(true, Ordering::SeqCst);
    let octets = slow.join().expect("no panic");
    endless.into_iter().for_each(|thread| thread.join().expect("no panic"));
    child::tell(format!(
        "{connections} connections, {failed} not accepted, {octets} slow octets, {} endless messages refused",
        refused.load(Ordering::SeqCst)
    ));
    while child::listen().is_some() {}
}

/// Handshakes of an octet now and then, on many connections at once.
fn slow_loris(endpoint: &str, over: &Arc<AtomicBool>) -> thread::JoinHandle<usize> {
    let (endpoint, over) = (endpoint.to_owned(), Arc::clone(over));
    thread::spawn(move || {
        let mut peers: Vec<(Raw, usize)> =
            (0..SLOW).filter_map(|_| Raw::connect(&endpoint).ok()).map(|raw| (raw, 0)).collect();
        let handshake: Vec<u8> = raw::greeting().into_iter().chain(raw::ready("DEALER")).collect();
        let mut octets = 0;
        while !over.load(Ordering::SeqCst) {
            for (raw, at) in &mut peers {
                let octet = handshake[*at % handshake.len()];
                match raw.write_all(&[octet]) {
                    Ok(()) => *at += 1,
                    // Evicted or timed out: knock again.
                    Err(_) => {
                        if let Ok(fresh) = Raw::connect(&endpoint) {
                            (*raw, *at) = (fresh, 0);
                        }
                    }
                }
                octets += 1;
            }
            thread::sleep(Duration::from_millis(50));
        }
        octets
    })
}

/// Messages whose last frame never comes; one kind has small frames, the other large ones.
fn endless_more(
    endpoint: &str,
    number: usize,
    over: &Arc<AtomicBool>,
    refused: &Arc<AtomicUsize>,
) -> thread::JoinHandle<()> {
    let (endpoint, over, refused) = (endpoint.to_owned(), Arc::clone(over), Arc::clone(refused));
    thread::spawn(move || {
        let frame = if number % 2 == 0 { raw::frame(true, b"x") } else { raw::frame(true, &[7; 8192]) };
        let bulk = frame.repeat((32 << 10) / frame.len());
        while !over.load(Ordering::SeqCst) {
            let Ok(mut raw) = Raw::connect(&endpoint) else { continue };
            if raw.shake_hands("DEALER").is_err() {
                continue;
            }
            while raw.write_all(&bulk).is_ok() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                thread::sleep(Duration::from_millis(1));
            }
            refused.fetch_add(1, Ordering::SeqCst);
        }
    })
}

/// Who is slow to shake hands is shown out at the limit, however busy it looks.
#[test]
fn a_handshake_has_one_deadline_however_it_trickles() {
    let _turn = alone();
    within(PATIENCE, "a slow handshake", || {
        let context = Context::new();
        let limit = Duration::from_millis(300);
        let router = Router::builder().context(&context).handshake_timeout(limit).build().expect("good options");
        let endpoint = router.bind("tcp://127.0.0.1:*").expect("bound");
        let mut raw = Raw::connect(endpoint.as_str()).expect("accepted");
        let begin = Instant::now();
        for octet in raw::greeting().into_iter().chain(raw::ready("DEALER")).cycle() {
            if raw.write_all(&[octet]).is_err() || begin.elapsed() > limit * 4 {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let took = begin.elapsed();
        assert!(took >= limit - Duration::from_millis(20) && took <= limit * 3, "closed after {took:?}");
        let mut rest = Vec::new();
        // Whatever the server had to say, it has closed.
        let _ = raw.read_to_end(&mut rest);
        assert_eq!(router.stats().connections, 0);
    });
}

/// The other way round: a server that answers with nonsense is tried again, and found once it is a real one.
#[test]
fn a_server_that_speaks_nonsense_is_tried_again() {
    let _turn = alone();
    within(PATIENCE, "the nonsense", || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let context = Context::new();
        let interval = Duration::from_millis(20);
        let dealer = Dealer::builder().context(&context).reconnect_interval(interval).reconnect_max(interval * 4);
        let dealer = dealer.build().expect("good options");
        dealer.connect(format!("tcp://{address}")).expect("a good endpoint");
        dealer.send("hello").expect("accepted");
        let nonsense: [Vec<u8>; 5] = [
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            vec![0xff; 64],
            Vec::new(),
            [&raw::greeting()[..], &raw::ready("PUB")].concat(),
            [&raw::greeting()[..], &raw::long_header(false, 1 << 62)].concat(),
        ];
        for nonsense in &nonsense {
            let (mut stream, _) = listener.accept().expect("it comes again");
            // It may have closed before it has heard everything.
            let _ = stream.write_all(nonsense);
        }
        let router = Router::in_context(&context);
        router.adopt_tcp(listener).expect("adopted");
        let (_, message) = router.recv_timeout(PATIENCE / 2).expect("what was sent is kept");
        assert_eq!(message, "hello");
    });
}

/// Half-open connections are limited; who is evicted is a stranger as a rule, and a good client comes in among them.
#[test]
fn a_flood_of_half_open_connections_keeps_nobody_out() {
    let _turn = alone();
    within(PATIENCE * 4, "the flood", || {
        let mut server = Process::start("server", &[]);
        let endpoint = server.hear();
        measure::limit_descriptors(1 << 20);
        let memory = measure::resident(server.id());
        let mut held: Vec<Raw> = Vec::new();
        let context = Context::new();
        for round in 0..times(50) {
            held.extend((0..500).map_while(|_| Raw::connect(&endpoint).ok()));
            let begin = Instant::now();
            let client = Dealer::builder().context(&context).reconnect_interval(Duration::from_millis(10));
            let client = client.build().expect("good options");
            client.connect(&endpoint).expect("a good endpoint");
            client.send("hello").expect("accepted");
            let answer = client.recv_timeout(Duration::from_secs(5));
            assert!(answer.is_ok(), "round {round}: {answer:?} after {:?}", begin.elapsed());
            if held.len() > 5000 {
                held.drain(..500);
            }
        }
        let half_open = measure::descriptors(server.id());
        assert!(half_open <= 1024 + 100, "{half_open} descriptors: half-open connections are limited");
        let growth = measure::resident(server.id()).saturating_sub(memory);
        assert!(growth <= 16 << 20, "memory grew by {} KiB", growth >> 10);
        drop(held);
        server.finish();
    });
}

/// With default options, which allow a gibibyte and a frame for each 64 octets of it.
#[test]
fn endless_small_frames_are_refused_at_the_default_limit() {
    let _turn = alone();
    within(PATIENCE * 2, "the frames", || {
        let mut server = Process::start("server", &[&"default"]);
        let endpoint = server.hear();
        let memory = measure::resident(server.id());
        let growth = |server: &Process| measure::resident(server.id()).saturating_sub(memory);
        // The last two fill the default message limit with octets. What one of them leaves to the allocator serves the
        // next: a leak would add up.
        for body in [&b""[..], b"x", &[7; 100], &[7; 100]] {
            let bulk = raw::frame(true, body).repeat(10_000);
            let mut raw = Raw::connect(&endpoint).expect("accepted");
            raw.shake_hands("DEALER").expect("a socket");
            // The smallest ones take 80 MB: half of that is the largest message, and the system's buffers hold less than
            // the other half.
            let taken = (0..4000).take_while(|_| raw.write_all(&bulk).is_ok()).count();
            assert!(taken < 4000, "forty million frames are not taken");
            println!("{} octets a frame: {taken} times 10,000 taken", body.len());
            let largest = growth(&server);
            let allowed = if body.len() < 100 { 0 } else { 1 << 30 };
            assert!(largest <= allowed + GROWTH, "memory grew by {} MiB", largest >> 20);
            // Another thread, which cannot use what this one keeps, may read the next connection.
            eventually(PATIENCE, "buffers that nobody uses are freed", || {
                growth(&server) <= largest.saturating_sub(SPARE).max(SPARE)
            });
        }
        server.finish();
    });
}

/// Announced octets cost nothing until they come.
#[test]
fn announced_lengths_cost_nothing() {
    let _turn = alone();
    within(PATIENCE * 2, "the announcements", || {
        let mut server = Process::start("server", &[]);
        let endpoint = server.hear();
        let memory = measure::resident(server.id());
        let announcers: Vec<Raw> = (0..if is_full() { 1000 } else { 200 })
            .map(|_| {
                let mut raw = Raw::connect(&endpoint).expect("accepted");
                raw.shake_hands("DEALER").expect("a socket");
                raw.write_all(&raw::long_header(false, LARGEST - 16)).expect("it is read");
                raw.write_all(&[7; 100]).expect("it is read");
                raw
            })
            .collect();
        // One who comes after them is served after them.
        let client = Dealer::new();
        client.connect(&endpoint).expect("a good endpoint");
        client.send("hello").expect("accepted");
        client.recv_timeout(PATIENCE).expect("an answer");
        let growth = measure::resident(server.id()).saturating_sub(memory);
        assert!(growth <= 16 << 20, "{} announcements: memory grew by {} KiB", announcers.len(), growth >> 10);
        server.finish();
    });
}
