//! Ten thousand times everything: threads, descriptors and socket files come back exactly, memory within 8 MiB.

use crate::support::child::{self, Process};
use crate::support::measure::{self, Holdings};
use crate::support::{Over, PATIENCE, alone, holds_within, times, within};
use std::path::PathBuf;
use std::time::Duration;
use wiremesh::{Context, Pull, Push, Rep, Req, Router, Sub, XPub};

/// How much memory may stay behind.
const GROWTH: u64 = 8 << 20;

#[test]
fn connections_over_tcp_leave_nothing_behind() {
    churn("connections", Over::Tcp);
}

#[test]
fn connections_over_ipc_leave_nothing_behind() {
    churn("connections", Over::Ipc);
}

#[test]
fn connections_over_inproc_leave_nothing_behind() {
    churn("connections", Over::Inproc);
}

#[test]
fn connections_that_nobody_receives_from_leave_nothing_behind() {
    churn("unread", Over::Tcp);
}

#[test]
fn contexts_over_tcp_leave_nothing_behind() {
    churn("contexts", Over::Tcp);
}

#[test]
fn contexts_over_ipc_leave_nothing_behind() {
    churn("contexts", Over::Ipc);
}

#[test]
fn contexts_over_inproc_leave_nothing_behind() {
    churn("contexts", Over::Inproc);
}

#[test]
fn connections_to_nobody_leave_nothing_behind() {
    churn("nobody", Over::Tcp);
}

/// A socket has a poll and a waker of its own, and beside them its connections and listeners.
#[test]
fn a_socket_costs_two_descriptors_and_none_where_engine_threads_drive() {
    let mut process = Process::start("churn", &[&"costs", &"tcp", &10]);
    assert_eq!(process.hear(), "connected 40, bound 30, inproc 0");
    assert_eq!(process.hear(), "connected 20, bound 10, inproc 0");
    process.finish();
}

/// Counts the descriptors that so many sockets of each sort take: with a connection, whose other end is here as well;
/// with a listener; within the process.
fn costs(sockets: usize) {
    for engine_only in [false, true] {
        let context = Context::builder().engine_only(engine_only).build();
        // The first socket starts the engine, and the first listener has it hold one back for the moment when they run
        // out.
        let hub = Pull::in_context(&context);
        let endpoint = hub.bind("tcp://127.0.0.1:*").expect("bound");
        hub.bind("inproc://hub").expect("bound");
        let connect = |endpoint: &str| {
            let push = Push::in_context(&context);
            push.connect(endpoint).expect("a good endpoint");
            push.wait_for_peers(1, PATIENCE).expect("a peer");
            push
        };
        // Who has accepted somebody has taken the listener over, and holds that one back.
        let _first = connect(endpoint.as_str());
        hub.wait_for_peers(1, PATIENCE).expect("it has come");
        let mut before = measure::descriptors("self");
        let mut cost = || {
            let now = measure::descriptors("self");
            now - std::mem::replace(&mut before, now)
        };
        let over_tcp: Vec<Push> = (0..sockets).map(|_| connect(endpoint.as_str())).collect();
        hub.wait_for_peers(sockets + 1, PATIENCE).expect("all of them");
        let connected = cost();
        let listeners: Vec<Pull> = (0..sockets).map(|_| Pull::in_context(&context)).collect();
        listeners.iter().for_each(|pull| drop(pull.bind("tcp://127.0.0.1:*").expect("bound")));
        let bound = cost();
        let within: Vec<Push> = (0..sockets).map(|_| connect("inproc://hub")).collect();
        child::tell(format!("connected {connected}, bound {bound}, inproc {}", cost()));
        drop((over_tcp, listeners, within));
    }
}

/// Runs a story in a process of its own, whose temporary files are its own as well, and compares before and after.
fn churn(story: &str, over: Over) {
    let _turn = alone();
    let folder = Folder::new(&format!("{story}-{}", over.name()));
    let rounds = times(10_000);
    let arguments: [&dyn ToString; 3] = [&story, &over.name(), &rounds];
    let mut process = Process::start_in("churn", &arguments, &[("TMPDIR", folder.0.as_os_str())]);
    let report = process.hear_within(PATIENCE + Duration::from_millis(5 * rounds as u64));
    assert!(report.starts_with("clean"), "{story} over {over:?}, {rounds} rounds: {report}");
    println!("{story} over {over:?}, {rounds} rounds: {report}");
    process.finish();
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("churn-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Does a story in rounds and reports what is left behind.
pub(crate) fn role(arguments: &[&str]) {
    let [name, over, rounds] = arguments else { panic!("story, transport, rounds") };
    let (over, rounds): (Over, usize) = (Over::named(over), rounds.parse().expect("a number"));
    if *name == "costs" {
        return costs(rounds);
    }
    // Allocators and tables reach their size first; what counts is what grows after that.
    let warm_up = (rounds / 4).clamp(100, 1000);
    let mut story: Box<dyn FnMut(usize)> = match *name {
        "connections" => connections(over),
        "unread" => unread(over),
        "contexts" => Box::new(move |round| one_context(over, round)),
        "nobody" => nobody(),
        _ => panic!("there is no story `{name}`"),
    };
    (0..warm_up).for_each(&mut story);
    let (before, memory) = (settled(None), measure::resident("self"));
    (0..rounds).for_each(&mut story);
    let (after, grown) = (settled(Some(before)), measure::resident("self").saturating_sub(memory));
    drop(story);
    let idle = *name != "nobody" || holds_within(Duration::from_secs(10), || measure::resolvers() == 0);
    let verdict = if after == before && grown <= GROWTH && idle { "clean" } else { "not clean" };
    child::tell(format!("{verdict}: {before:?}, then {after:?}; memory grew by {} KiB", grown >> 10));
}

/// What this process holds once it has come to rest: the last connections take a moment to go.
fn settled(expected: Option<Holdings>) -> Holdings {
    if let Some(expected) = expected {
        // The look that finds it is the one that counts: an attempt that is just being given up may still begin another
        // one.
        let mut last = measure::holdings();
        holds_within(Duration::from_secs(5), || {
            last = measure::holdings();
            last == expected
        });
        return last;
    }
    let mut last = measure::holdings();
    let mut same = 0;
    holds_within(Duration::from_secs(5), || {
        let now = measure::holdings();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same > 100
    });
    last
}

/// Connect, one message, disconnect.
fn connections(over: Over) -> Box<dyn FnMut(usize)> {
    let context = Context::new();
    let pull = Pull::in_context(&context);
    let push = Push::in_context(&context);
    let endpoint = pull.bind(over.wildcard()).expect("bound");
    Box::new(move |round| {
        push.connect(&endpoint).expect("a good endpoint");
        push.send(round.to_le_bytes()).expect("accepted");
        assert_eq!(pull.recv_timeout(PATIENCE).expect("it was accepted"), &round.to_le_bytes());
        push.disconnect(&endpoint).expect("connected");
    })
}

/// Sockets that come and go at a ROUTER that never receives, and at an XPUB that reads who subscribes: neither makes
/// the engine grow.
fn unread(over: Over) -> Box<dyn FnMut(usize)> {
    let context = Context::new();
    let idle = (Router::in_context(&context), XPub::in_context(&context));
    let endpoints = (idle.0.bind(over.wildcard()).expect("bound"), idle.1.bind(over.wildcard()).expect("bound"));
    Box::new(move |_| {
        // Both live as long as this closure does.
        let (_router, xpub) = &idle;
        while xpub.try_recv().is_ok() {}
        let visitor = Router::in_context(&context);
        visitor.connect(&endpoints.0).expect("a good endpoint");
        let listener = Sub::in_context(&context);
        listener.subscribe("topic").expect("open");
        listener.connect(&endpoints.1).expect("a good endpoint");
        visitor.wait_for_peers(1, PATIENCE).expect("it is accepted");
        listener.wait_for_peers(1, PATIENCE).expect("it is accepted");
    })
}

/// A context with a pair of sockets, a request and its answer.
fn one_context(over: Over, round: usize) {
    let context = Context::new();
    let rep = Rep::in_context(&context);
    let req = Req::in_context(&context);
    let endpoint = rep.bind(over.wildcard()).expect("bound");
    req.connect(&endpoint).expect("a good endpoint");
    req.send(round.to_le_bytes()).expect("accepted");
    rep.send(rep.recv_timeout(PATIENCE).expect("the question")).expect("it was asked");
    assert_eq!(req.recv_timeout(PATIENCE).expect("the answer"), &round.to_le_bytes());
    // Every other one is closed in so many words, the others are dropped.
    if round % 2 == 0 {
        drop((rep, req));
        context.close(PATIENCE);
    }
}

/// Attempts that fail: names that are not there, ports that refuse, files that are not.
fn nobody() -> Box<dyn FnMut(usize)> {
    let context = Context::new();
    let push = Push::builder().context(&context).reconnect_interval(Duration::from_millis(1));
    let push = push.build().expect("good options");
    let monitor = push.monitor();
    Box::new(move |round| {
        let endpoint = match round % 3 {
            0 => "tcp://127.0.0.1:1",
            1 => "ipc:///no/such/folder/socket",
            _ => "tcp://127.0.0.1:2",
        };
        push.connect(endpoint).expect("nobody there is no error");
        // An attempt fails before it is given up.
        within_events(&monitor);
        push.disconnect(endpoint).expect("connected");
    })
}

fn within_events(monitor: &wiremesh::Monitor) {
    loop {
        let event = monitor.recv_timeout(PATIENCE).expect("the attempt fails");
        if matches!(event.kind, wiremesh::EventKind::ConnectRetried(_)) {
            return;
        }
    }
}

/// The same sockets, bound and unbound: endpoints and their files go at once.
#[test]
fn endpoints_come_and_go_with_their_files() {
    let _turn = alone();
    within(PATIENCE * 2, "binding", || {
        let context = Context::new();
        let pull = Pull::in_context(&context);
        for round in 0..times(1000) {
            for over in Over::STREAMS {
                let endpoint = pull.bind(over.wildcard()).expect("bound");
                let path = endpoint.as_str().strip_prefix("ipc://").map(PathBuf::from);
                assert!(path.as_ref().is_none_or(|path| path.exists()), "round {round}: {endpoint}");
                pull.unbind(&endpoint).expect("bound");
                let gone = || path.as_ref().is_none_or(|path| !path.exists());
                assert!(holds_within(PATIENCE, gone), "round {round}: the file of {endpoint} stays");
                // The name is free again.
                let again = if over == Over::Tcp { endpoint.as_str().to_owned() } else { over.wildcard() };
                let mut bound = None;
                assert!(holds_within(PATIENCE, || {
                    bound = pull.bind(&again).ok();
                    bound.is_some()
                }));
                pull.unbind(bound.expect("bound")).expect("bound");
            }
        }
        assert!(pull.bound().is_empty());
    });
}
