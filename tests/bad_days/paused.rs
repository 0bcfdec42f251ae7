//! Peers that stand still without dying: they are dropped for or waited for as their pattern says, and nobody else
//! waits.

use crate::support::child::{self, Process};
use crate::support::measure::{Lateness, Stopwatch};
use crate::support::{Over, PATIENCE, alone, eventually, is_full, measure, within};
use std::time::{Duration, Instant};
use wiremesh::{Context, Pub, Push, RecvError, SendFailure, Sub};

fn pause() -> Duration {
    Duration::from_secs(if is_full() { 10 } else { 1 })
}

/// One of two workers is stopped: the other one goes on, and nothing is dropped.
#[test]
fn work_goes_to_those_who_work() {
    let _turn = alone();
    for over in Over::STREAMS {
        within(PATIENCE * 2, "the pause", move || {
            let context = Context::new();
            let push = Push::builder().context(&context).send_mark(100u32).send_buffer(16usize << 10);
            let push = push.build().expect("good options");
            let endpoint = push.bind(over.wildcard()).expect("bound");
            let mut workers: Vec<Process> = (0..2).map(|_| Process::start("worker", &[&endpoint])).collect();
            push.wait_for_peers(2, PATIENCE).expect("they come");
            workers[0].pause();
            let begin = Instant::now();
            let mut sent = 0u64;
            while begin.elapsed() < pause() {
                push.send_timeout(body(sent), Duration::from_secs(1)).expect("the other one has room");
                sent += 1;
            }
            // Both stand still: now there is no room, and it is said so.
            workers[1].pause();
            loop {
                match push.send_timeout(body(sent), Duration::from_millis(100)) {
                    Ok(()) => sent += 1,
                    Err(error) => {
                        assert_eq!(error.reason, SendFailure::TimedOut);
                        break;
                    }
                }
            }
            workers.iter().for_each(Process::resume);
            push.flush(PATIENCE).expect("they work again");
            let stats = push.stats();
            assert_eq!((stats.accepted, stats.written, stats.dropped.total()), (sent, sent, 0), "{stats:?}");
            push.close();
            let counts: Vec<u64> = workers
                .iter_mut()
                .map(|worker| {
                    let line = worker.hear();
                    line.parse().unwrap_or_else(|_| panic!("{line}"))
                })
                .collect();
            assert_eq!(counts.iter().sum::<u64>(), sent, "{over:?}: {counts:?}");
            assert!(counts[1] > counts[0], "{over:?}: {counts:?}");
            workers.into_iter().for_each(Process::finish);
        });
    }
}

fn body(number: u64) -> Vec<u8> {
    let mut body = vec![7; 1000];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body
}

/// Receives until the sender is gone, and says how many; each message must be newer than the one before.
pub(crate) fn worker(arguments: &[&str]) {
    let pull = wiremesh::Pull::builder().receive_mark(100u32).receive_buffer(16usize << 10);
    let pull = pull.build().expect("good options");
    pull.connect(arguments[0]).expect("a good endpoint");
    let (mut count, mut next) = (0u64, 0);
    let mut was_there = false;
    loop {
        match pull.recv_timeout(Duration::from_millis(20)) {
            Ok(message) => {
                let number = u64::from_le_bytes(*message.first().first_chunk::<8>().expect("a number"));
                assert!(number >= next, "{number} after {next}");
                next = number + 1;
                count += 1;
                was_there = true;
            }
            Err(RecvError::TimedOut) if was_there && pull.stats().connections == 0 => break,
            Err(RecvError::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
    }
    child::tell(count);
}

/// A stopped subscriber misses what its mark does not hold; the publisher neither waits nor grows, others miss nothing.
#[test]
fn a_stopped_subscriber_costs_a_publisher_its_mark_and_no_more() {
    let _turn = alone();
    for over in Over::STREAMS {
        // A process of its own, as it is its memory that is measured.
        let mut publisher = Process::start("publisher-of-a-stopped-sub", &[&over.name()]);
        let status = publisher.end_within(PATIENCE * 2);
        assert!(status.success(), "{over:?}: {status}");
    }
}

pub(crate) fn publisher_of_a_stopped_sub(arguments: &[&str]) {
    let over = Over::named(arguments[0]);
    let context = Context::new();
    let mark = 500;
    let publisher = Pub::builder().context(&context).send_mark(mark).send_buffer(16usize << 10);
    let publisher = publisher.build().expect("good options");
    let endpoint = publisher.bind(over.wildcard()).expect("bound");
    let mut stopped = Process::start("stopped-sub", &[&endpoint]);
    let sub = Sub::in_context(&context);
    sub.subscribe("").expect("subscribed");
    sub.connect(&endpoint).expect("a good endpoint");
    publisher.wait_for_subscribers(2, PATIENCE).expect("they come");
    let memory = measure::resident("self");
    stopped.pause();
    let (lateness, begin) = (Lateness::watch(), Instant::now());
    let (mut number, mut longest) = (0u64, Duration::ZERO);
    while begin.elapsed() < pause() {
        let watch = Stopwatch::start();
        publisher.send(body(number)).expect("never waits");
        longest = longest.max(watch.elapsed());
        let message = sub.recv_timeout(PATIENCE).expect("the other one misses nothing");
        assert_eq!(message.first()[..8], number.to_le_bytes(), "{over:?}");
        number += 1;
    }
    let late = lateness.since(begin);
    assert!(longest < Duration::from_millis(500) + late, "{over:?}: a send took {longest:?}, {late:?} late");
    let growth = measure::resident("self").saturating_sub(memory);
    assert!(growth < 32 << 20, "{over:?}: memory grew by {} KiB", growth >> 10);
    let stats = publisher.stats();
    assert!(stats.is_balanced() && stats.dropped.high_water_mark > 0, "{over:?}: {stats:?}");
    // Beyond the mark only what a flusher has in hand: 256 KiB and a piece.
    assert!(stats.queued <= u64::from(mark) + 400, "{over:?}: {stats:?}");
    stopped.resume();
    publisher.flush(PATIENCE).expect("it reads again");
    publisher.send("end").expect("never waits");
    let line = stopped.hear();
    let heard: u64 = line.parse().unwrap_or_else(|_| panic!("{line}"));
    eventually(PATIENCE, "the last is written", || publisher.stats().queued == 0);
    let stats = publisher.stats();
    assert_eq!(stats.written, number + 1 + heard + 1, "{over:?}: what was written is what was heard: {stats:?}");
    stopped.finish();
}

/// Hears until the end, and says how much before it; each message must be newer than the one before.
pub(crate) fn stopped_sub(arguments: &[&str]) {
    let sub = Sub::builder().receive_mark(500u32).receive_buffer(16usize << 10).build().expect("good options");
    sub.subscribe("").expect("subscribed");
    sub.connect(arguments[0]).expect("a good endpoint");
    let (mut count, mut next) = (0u64, 0);
    loop {
        let message = sub.recv_timeout(PATIENCE * 2).expect("an end");
        if message == "end" {
            break;
        }
        let number = u64::from_le_bytes(*message.first().first_chunk::<8>().expect("a number"));
        assert!(number >= next, "{number} after {next}");
        next = number + 1;
        count += 1;
    }
    child::tell(count);
}
