//! No descriptors: the call concerned says so, everything else goes on, listeners pause instead of spinning, and once
//! there are descriptors again all is well within a second.

use crate::support::child::{self, Process};
use crate::support::measure::{Lateness, Stopwatch};
use crate::support::raw::Raw;
use crate::support::{PATIENCE, alone, eventually, is_full, measure, within};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Context, Dealer, Error, EventKind, Pull, Push, RecvError, Router};

const EMFILE: i32 = 24;
/// How long until all is well again.
const RECOVERY: Duration = Duration::from_secs(1);

#[test]
fn every_limit_of_descriptors_ends_in_errors_and_not_in_panics() {
    let _turn = alone();
    let step = if is_full() { 1 } else { 3 };
    let mut working = Vec::new();
    for limit in (3..=64u64).step_by(step).chain([64]) {
        let mut child = Process::start("starved", &[&limit]);
        let report = child.hear();
        let status = child.end_within(PATIENCE);
        assert!(status.success(), "{limit} descriptors: {status}; {report}");
        if report == "everything works" {
            working.push(limit);
        }
    }
    println!("everything works from {:?} descriptors on", working.first());
    assert!(working.contains(&64), "64 descriptors are enough for three pairs");
    let first = working[0];
    assert!(
        (first..=64).step_by(step).all(|limit| working.contains(&limit) || limit % step as u64 != first % step as u64)
    );
}

/// Makes sockets of all sorts under a limit, then without it.
pub(crate) fn starved(arguments: &[&str]) {
    let limit: u64 = arguments[0].parse().expect("a number");
    let former = measure::limit_descriptors(limit);
    let context = Context::new();
    let mut failures = 0;
    // Sockets that talk within the process need no descriptor at all.
    let (left, right) = (Push::in_context(&context), Pull::in_context(&context));
    left.connect("inproc://free").expect("no descriptor");
    right.bind("inproc://free").expect("no descriptor");
    left.send("x").expect("no descriptor");
    assert_eq!(right.recv_timeout(PATIENCE).expect("no descriptor"), "x");

    let pull = Pull::in_context(&context);
    let push = Push::builder().context(&context).reconnect_interval(Duration::from_millis(20));
    let push = push.reconnect_max(Duration::from_millis(200)).build().expect("good options");
    let monitors = [push.monitor(), pull.monitor()];
    for wildcard in ["tcp://127.0.0.1:*", "ipc://*"] {
        if let Err(error) = pull.bind(wildcard).and_then(|endpoint| push.connect(&endpoint)) {
            expect_emfile(&error);
            failures += 1;
            continue;
        }
        push.send_timeout("hello", PATIENCE).expect("what waits for a connection needs no descriptor");
        let mut has_come = false;
        let mut is_short = false;
        eventually(PATIENCE, "it comes, or its endpoints say why not", || {
            has_come = pull.recv_timeout(Duration::from_millis(10)).is_ok_and(|message| message == "hello");
            is_short |= monitors.iter().flat_map(|monitor| monitor.try_recv()).any(|event| is_failure(&event.kind));
            has_come || is_short
        });
        failures += u32::from(!has_come);
    }
    let other = Context::new();
    let lonely = Pull::in_context(&other);
    if let Err(error) = lonely.bind("tcp://127.0.0.1:*") {
        expect_emfile(&error);
        failures += 1;
    }
    assert!(push.stats().is_balanced());
    measure::limit_descriptors(former);

    // The same context and the same sockets work now.
    let (lateness, watch) = (Lateness::watch(), Stopwatch::start());
    let fresh = (Push::in_context(&context), Pull::in_context(&context));
    for wildcard in ["tcp://127.0.0.1:*", "ipc://*"] {
        let endpoint = fresh.1.bind(wildcard).expect("descriptors are there again");
        fresh.0.connect(&endpoint).expect("descriptors are there again");
        fresh.0.send("again").expect("accepted");
        assert_eq!(fresh.1.recv_timeout(PATIENCE).expect("it works"), "again");
    }
    lonely.bind("tcp://127.0.0.1:*").expect("descriptors are there again");
    // What was sent under the limit was kept for whoever comes.
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("descriptors are there again");
    push.connect(&endpoint).expect("descriptors are there again");
    push.flush(PATIENCE).expect("nothing is stuck");
    let (took, late) = (watch.elapsed(), lateness.since(watch.begin));
    assert!(took <= RECOVERY + late, "it took {took:?}, {late:?} late");
    child::tell(if failures == 0 { "everything works".to_owned() } else { format!("{failures} failures") });
}

fn is_failure(kind: &EventKind) -> bool {
    matches!(kind, EventKind::AcceptFailed(_) | EventKind::ConnectRetried(_))
}

fn expect_emfile(error: &Error) {
    match error {
        Error::System { source, .. } => assert_eq!(source.raw_os_error(), Some(EMFILE), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_listener_without_descriptors_pauses_and_recovers() {
    let _turn = alone();
    within(PATIENCE * 2, "the shortage", || {
        let mut server = Process::start("crowded", &[&64]);
        let endpoint = server.hear();
        let context = Context::new();
        let client = Dealer::in_context(&context);
        client.connect(&endpoint).expect("a good endpoint");
        echo(&client, PATIENCE);

        // Under load: the descriptors run out while the good client talks.
        let crowd = thread::spawn({
            let endpoint = endpoint.clone();
            move || -> Vec<Raw> { (0..200).filter_map(|_| Raw::connect(&endpoint).ok()).collect() }
        });
        for _ in 0..500 {
            echo(&client, PATIENCE);
        }
        let crowd = crowd.join().expect("no panic");
        server.say("shortage");
        let report = server.hear();
        let (failed, error) = report.split_once(' ').expect("a number and an error");
        assert!(error.contains("os error 24"), "the call concerned says so: {error}");
        assert!(failed.parse::<u64>().expect("a number") > 0, "the monitor tells of it");
        for _ in 0..500 {
            echo(&client, PATIENCE);
        }

        server.say("rest");
        let report = server.hear();
        let (busy, pauses) = report.split_once(' ').expect("processor time and events");
        let (busy, pauses): (u128, u64) = (busy.parse().expect("a number"), pauses.parse().expect("a number"));
        println!("processor time {busy} ms in two seconds, {pauses} failed accepts");
        assert!(busy < 100, "{busy} ms of processor time in two seconds: more than 5 % of a core");
        assert!(pauses <= 100, "{pauses} failed accepts in two seconds");

        // A newcomer waits until there are descriptors, and not much longer.
        let newcomer = Dealer::builder().context(&context).reconnect_interval(Duration::from_millis(50));
        let newcomer = newcomer.reconnect_max(Duration::from_millis(50)).build().expect("good options");
        newcomer.connect(&endpoint).expect("a good endpoint");
        let (lateness, watch) = (Lateness::watch(), Stopwatch::start());
        drop(crowd);
        echo(&newcomer, PATIENCE);
        let (took, late) = (watch.elapsed(), lateness.since(watch.begin));
        println!("a newcomer is served {took:?} after the crowd has gone");
        assert!(took <= RECOVERY + late, "{took:?}, {late:?} late");
        echo(&client, PATIENCE);
        server.say("bind");
        assert_eq!(server.hear(), "bound");
        server.finish();
    });
}

fn echo(client: &Dealer, limit: Duration) {
    client.send("hello").expect("accepted");
    assert_eq!(client.recv_timeout(limit).expect("an answer"), "hello");
}

/// A server with few descriptors.
pub(crate) fn crowded(arguments: &[&str]) {
    let limit = arguments[0].parse().expect("a number");
    measure::limit_descriptors(limit);
    let context = Context::new();
    let router = Router::in_context(&context);
    let monitor = router.monitor();
    child::tell(router.bind("tcp://127.0.0.1:*").expect("bound"));
    thread::spawn(move || {
        while let Ok((id, message)) = router.recv() {
            router.send_to(&id, message).expect("a ROUTER never waits");
        }
    });
    let failed =
        || std::iter::from_fn(|| monitor.try_recv()).filter(|e| matches!(e.kind, EventKind::AcceptFailed(_))).count();
    while let Some(line) = child::listen() {
        let other = Pull::in_context(&context);
        match line.as_str() {
            "shortage" => {
                let mut count = 0;
                eventually(PATIENCE, "the listener runs out of descriptors", || {
                    count += failed();
                    count > 0
                });
                let mut error = String::new();
                // A paused listener keeps one in reserve for a moment; in the end there is none.
                eventually(PATIENCE, "no descriptor is left", || match other.bind("ipc://*") {
                    Ok(endpoint) => other.unbind(&endpoint).is_err(),
                    Err(failure) => {
                        error = failure.to_string();
                        true
                    }
                });
                child::tell(format!("{count} {error}"));
            }
            "rest" => {
                failed();
                let (begin, before) = (Instant::now(), measure::processor_time());
                // Two seconds in which nobody asks for anything: the measure itself.
                thread::sleep(Duration::from_secs(2));
                assert!(begin.elapsed() < Duration::from_secs(4), "the machine stood still");
                let busy = measure::processor_time() - before;
                child::tell(format!("{} {}", busy.as_millis(), failed()));
            }
            _ => {
                other.bind("tcp://127.0.0.1:*").expect("descriptors are there again");
                child::tell("bound");
            }
        }
    }
}

/// Connecting is what runs out of descriptors: it goes on trying, and arrives.
#[test]
fn a_connection_without_a_descriptor_is_tried_again() {
    let _turn = alone();
    within(PATIENCE, "the shortage", || {
        let context = Context::new();
        let pull = Pull::in_context(&context);
        let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
        let mut child = Process::start("caller", &[&endpoint]);
        assert_eq!(child.hear(), "refused");
        assert_eq!(pull.recv_timeout(Duration::from_millis(50)), Err(RecvError::TimedOut));
        let (lateness, watch) = (Lateness::watch(), Stopwatch::start());
        child.say("go on");
        assert_eq!(pull.recv_timeout(PATIENCE).expect("it arrives"), "kept");
        let (took, late) = (watch.elapsed(), lateness.since(watch.begin));
        assert!(took <= RECOVERY + late, "{took:?}, {late:?} late");
        child.finish();
    });
}

/// Opens a socket, uses up all descriptors, connects, and lets go when told.
pub(crate) fn caller(arguments: &[&str]) {
    measure::limit_descriptors(40);
    let push = Push::builder().reconnect_interval(Duration::from_millis(50)).reconnect_max(Duration::from_millis(200));
    let push = push.build().expect("good options");
    let monitor = push.monitor();
    // The socket has its poll before there is a shortage.
    push.bind("tcp://127.0.0.1:*").expect("bound");
    let hoard = measure::hoard_descriptors();
    push.connect(arguments[0]).expect("the shortage shows later");
    push.send("kept").expect("accepted");
    loop {
        let event = monitor.recv_timeout(PATIENCE).expect("an attempt fails");
        if matches!(event.kind, EventKind::ConnectRetried(_)) {
            break;
        }
    }
    child::tell("refused");
    child::listen();
    drop(hoard);
    push.flush(PATIENCE).expect("it arrives");
    child::listen();
}
