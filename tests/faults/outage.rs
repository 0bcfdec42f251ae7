//! A server that was gone for a second: its clients are back soon, and do not come all at once.
//!
//! When a client comes is told twice. By the waits that it announces, exactly, as a machine that is slow makes all of them later. And by
//! the server, which loses none of them on the way, allowing for how late this machine wakes a thread that sleeps.

use crate::support::measure::{Lateness, limit_descriptors};
use crate::support::{PATIENCE, alone, is_full};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Context, EventKind, Monitor, Pub, Sub};

const CLIENTS: usize = 1000;
const OUTAGE: Duration = Duration::from_secs(1);
/// No more than `CROWD` clients may come within this time.
const WINDOW: Duration = Duration::from_millis(100);
const CROWD: usize = CLIENTS / 5;
/// By when half of them are back, and by when all.
const HALF: Duration = Duration::from_millis(500);
const ALL: Duration = Duration::from_millis(1500);

/// A client of the server, and what it tells.
struct Client {
    sub: Sub,
    monitor: Monitor,
}

impl Client {
    fn new(context: &Context, endpoint: &str) -> Client {
        let sub = Sub::in_context(context);
        sub.subscribe("").expect("open");
        let monitor = sub.monitor();
        sub.connect(endpoint).expect("good");
        Client { sub, monitor }
    }

    /// The waits before its attempts, in all, since this was asked last.
    fn waits(&self) -> Duration {
        let told = std::iter::from_fn(|| self.monitor.try_recv());
        let waits = told.filter_map(|event| match event.kind {
            EventKind::ConnectRetried(wait) => Some(wait),
            _ => None,
        });
        waits.sum()
    }
}

/// When clients are due, in order, in microseconds after their server was back; before that, where the machine was late.
fn judge(mut due: Vec<i64>) {
    due.sort_unstable();
    let micros = |time: Duration| time.as_micros() as i64;
    let within = |first: usize| due[first..].partition_point(|other| *other < due[first] + micros(WINDOW));
    let crowd = (0..CLIENTS).map(within).max().unwrap_or(0);
    let (half, all) = (due[CLIENTS / 2], due[CLIENTS - 1]);
    println!("half are due after {half} µs, all after {all} µs, at most {crowd} within {WINDOW:?}");
    assert!(half <= micros(HALF), "half of them are due after {half} µs");
    assert!(all <= micros(ALL), "all of them are due after {all} µs");
    assert!(crowd <= CROWD, "{crowd} are due within {WINDOW:?}");
}

/// A publisher goes and comes back at the same address, again and again: after each return its subscribers have been heard by it and have
/// heard of it, so that the next loss is the first of its kind for them.
#[test]
fn a_thousand_clients_of_a_server_that_was_gone_for_a_second_are_back_soon_and_not_all_at_once() {
    let _turn = alone();
    limit_descriptors(u64::MAX);
    let contexts = [(); 4].map(|()| Context::new());
    let mut server = Pub::in_context(&Context::new());
    let endpoint = server.bind("tcp://127.0.0.1:*").expect("bound");
    let clients: Vec<Client> =
        (0..CLIENTS).map(|number| Client::new(&contexts[number % contexts.len()], endpoint.as_str())).collect();
    for round in 0..if is_full() { 10 } else { 2_u32 } {
        server.wait_for_subscribers(CLIENTS, PATIENCE).expect("all of them");
        server.send(round.to_be_bytes().to_vec()).expect("accepted");
        for client in &clients {
            assert_eq!(client.sub.recv_timeout(PATIENCE).expect("a message"), &round.to_be_bytes()[..]);
            client.waits();
        }
        let gone = Instant::now();
        server.close();
        server = Pub::in_context(&Context::new());
        let monitor = server.monitor();
        thread::sleep(OUTAGE.saturating_sub(gone.elapsed()));
        server.bind(&endpoint).expect("its address is free");
        // No attempt can have failed later.
        let outage = gone.elapsed();
        let (back, lateness) = (Instant::now(), Lateness::watch());
        let mut ready = Vec::new();
        while ready.len() < CLIENTS {
            let event = monitor.recv_timeout(PATIENCE);
            let event = event.unwrap_or_else(|| panic!("{} of {CLIENTS} are back: {:?}", ready.len(), server.stats()));
            match event.kind {
                EventKind::HandshakeSucceeded => ready.push(back.elapsed()),
                EventKind::AcceptFailed(_) | EventKind::HandshakeFailed(_) | EventKind::Disconnected(_) => {
                    panic!("a client was kept away: {event}")
                }
                _ => {}
            }
        }
        let (half, all, late) = (ready[CLIENTS / 2], ready[CLIENTS - 1], lateness.worst());
        println!("half are back after {half:?}, all after {all:?}; a sleeper was {late:?} late");
        assert!(half <= HALF + late, "half of them are back after {half:?}; a sleeper was {late:?} late");
        assert!(all <= ALL + late, "all of them are back after {all:?}; a sleeper was {late:?} late");
        let due = clients.iter().map(|client| client.waits().as_micros() as i64 - outage.as_micros() as i64);
        judge(due.collect());
    }
}
