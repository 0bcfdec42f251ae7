//! A server that was gone for a second: its clients are back soon, and do not come all at once.
//!
//! When a client comes is told twice. By the waits that it announces, exactly, as a machine that is slow makes all of
//! them later. And by the server, which loses none of them on the way, in one of a few outages, and allowing for how
//! late this machine wakes a thread that sleeps.

use crate::support::measure::{Lateness, limit_descriptors};
use crate::support::{PATIENCE, alone, is_full};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Context, Endpoint, EventKind, Monitor, Pub, Sub};

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

/// When clients are due, in order, in microseconds after their server was back; before that, where the machine was
/// late.
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

/// A publisher that goes and comes back at the same address, again and again: after each return its subscribers have
/// been heard by it and have heard of it, so that the next loss is the first of its kind for them.
struct Outages {
    server: Pub,
    endpoint: Endpoint,
    clients: Vec<Client>,
    count: u32,
}

impl Outages {
    fn new(contexts: &[Context]) -> Outages {
        let server = Pub::in_context(&Context::new());
        let endpoint = server.bind("tcp://127.0.0.1:*").expect("bound");
        let client = |number: usize| Client::new(&contexts[number % contexts.len()], endpoint.as_str());
        let clients = (0..CLIENTS).map(client).collect();
        Outages { server, endpoint, clients, count: 0 }
    }

    /// The next one. None of the clients is lost on the way, and all are due when they are to be. Returns true if the
    /// server saw that as well: a machine that has other things to do may let it see half of them too late, or be gone
    /// for longer.
    fn is_seen_in_time(&mut self) -> bool {
        self.server.wait_for_subscribers(CLIENTS, PATIENCE).expect("all of them");
        self.count += 1;
        let message = self.count.to_be_bytes();
        self.server.send(message.to_vec()).expect("accepted");
        for client in &self.clients {
            assert_eq!(client.sub.recv_timeout(PATIENCE).expect("a message"), &message[..]);
            client.waits();
        }
        let gone = Instant::now();
        self.server.close();
        self.server = Pub::in_context(&Context::new());
        let monitor = self.server.monitor();
        thread::sleep(OUTAGE.saturating_sub(gone.elapsed()));
        self.server.bind(&self.endpoint).expect("its address is free");
        // No attempt can have failed later.
        let outage = gone.elapsed();
        let (back, lateness) = (Instant::now(), Lateness::watch());
        let mut ready = Vec::new();
        while ready.len() < CLIENTS {
            let event = monitor.recv_timeout(PATIENCE);
            let event =
                event.unwrap_or_else(|| panic!("{} of {CLIENTS} are back: {:?}", ready.len(), self.server.stats()));
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
        let due = self.clients.iter().map(|client| client.waits().as_micros() as i64 - outage.as_micros() as i64);
        let due = due.collect();
        if outage > OUTAGE + WINDOW {
            println!("the server was gone for {outage:?}, which says nothing of an outage of {OUTAGE:?}");
            return false;
        }
        judge(due);
        half <= HALF + late && all <= ALL + late
    }
}

#[test]
fn a_thousand_clients_of_a_server_that_was_gone_for_a_second_are_back_soon_and_not_all_at_once() {
    let _turn = alone();
    limit_descriptors(u64::MAX);
    let contexts = [(); 4].map(|()| Context::new());
    let mut outages = Outages::new(&contexts);
    for _ in 0..if is_full() { 10 } else { 2 } {
        assert!((0..8).any(|_| outages.is_seen_in_time()), "half of them are back late");
    }
}
