//! Closing, dropping and shutting down while other threads are blocked: every call returns `Closed` soon, nothing
//! hangs.

use crate::support::measure::{Lateness, Stopwatch};
use crate::support::random::Random;
use crate::support::{Blocked, Over, PATIENCE, alone, eventually, times, within};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{AnySocket, Context, Error, Message, RecvError, Req, RequestError, SendFailure, Setting, SocketKind};

/// What each blocked call has to return after a close, beside what the machine itself was late meanwhile.
pub(crate) const SOON: Duration = Duration::from_millis(50);
const RUNS: usize = 9;

/// How the end comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Shutdown,
    CloseContext,
}

const ENDS: [End; 3] = [End::Close, End::Shutdown, End::CloseContext];

/// What a blocked call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ended {
    Closed,
    Otherwise(String),
}

#[test]
fn calls_blocked_over_tcp_return_closed_within_50_ms() {
    all_kinds(Over::Tcp);
}

#[test]
fn calls_blocked_over_ipc_return_closed_within_50_ms() {
    all_kinds(Over::Ipc);
}

#[test]
fn calls_blocked_over_inproc_return_closed_within_50_ms() {
    all_kinds(Over::Inproc);
}

fn all_kinds(over: Over) {
    let _turn = alone();
    for kind in SocketKind::ALL {
        for crowded in [false, true] {
            for run in 0..RUNS.max(times(RUNS * 10)) {
                within(PATIENCE, "closing", move || close_under(kind, over, crowded, ENDS[run % ENDS.len()]));
            }
        }
    }
}

/// Blocks every call that can block, ends the socket, and expects each to return soon.
fn close_under(kind: SocketKind, over: Over, crowded: bool, end: End) {
    let context = Context::new();
    let (subject, _peer) = if crowded { full_pair(&context, kind, over) } else { (lonely(&context, kind, over), None) };
    let monitor = subject.monitor();
    let calls = block(&subject, crowded);
    assert!(!calls.is_empty(), "{kind}: nothing blocks");
    let watcher = Blocked::start(move || while monitor.recv().is_some() {});
    watcher.settle();
    for (name, call) in &calls {
        call.settle();
        assert!(!call.is_done(), "{kind} over {over:?}, its peer full: {crowded}: `{name}` does not block; {:?}", {
            subject.stats()
        });
    }
    let lateness = Lateness::watch();
    let watch = Stopwatch::start();
    match end {
        End::Close => subject.close(),
        End::Shutdown => context.shutdown(),
        // What is queued for a peer that does not read is given up at once.
        End::CloseContext => drop(context.close(Duration::ZERO)),
    }
    let took = watch.elapsed();
    // As long as the one who ends it is not let work, nobody can be told.
    let kept = watch.kept();
    let mut returned = Vec::new();
    if end != End::CloseContext {
        returned.push(("the end itself", took));
    }
    for (name, call) in calls {
        let Some(((outcome, waited), at)) = call.outcome(PATIENCE / 3) else {
            panic!("{kind} over {over:?}: `{name}` hangs after {end:?}");
        };
        assert_eq!(outcome, Ended::Closed, "{kind} over {over:?}: `{name}` after {end:?}");
        returned.push((name, at.saturating_duration_since(watch.begin).saturating_sub(kept + waited)));
    }
    let late = lateness.since(watch.begin);
    for (name, took) in returned {
        let case = if crowded { "its peer full" } else { "alone" };
        assert!(
            took <= SOON + late,
            "{kind} over {over:?}, {case}: `{name}` took {took:?} after {end:?}, {late:?} late"
        );
    }
    expect_closed(&subject);
    // The others of this context are not of interest: what they hold is given up.
    context.close(Duration::ZERO);
    assert!(watcher.outcome(PATIENCE / 3).is_some(), "{kind} over {over:?}: the monitor hangs after {end:?}");
}

/// Bound, and nobody there.
fn lonely(context: &Context, kind: SocketKind, over: Over) -> Arc<AnySocket> {
    let subject = AnySocket::in_context(kind, context);
    subject.bind(over.wildcard()).expect("bound");
    Arc::new(subject)
}

/// Connected to a peer that does not receive; what can be sent has been, until nothing more fits.
fn full_pair(context: &Context, kind: SocketKind, over: Over) -> (Arc<AnySocket>, Option<AnySocket>) {
    let make = |kind: SocketKind| {
        let settings = [
            Setting::SendMark(1),
            Setting::ReceiveMark(1),
            Setting::SendBuffer(Some(16 << 10)),
            Setting::ReceiveBuffer(Some(16 << 10)),
            Setting::Nodrop(true),
            Setting::Mandatory(true),
            Setting::RoutingId("peer".into()),
        ];
        let fitting = settings.into_iter().filter(|setting| setting.row().kinds.contains(&kind));
        let builder = fitting.fold(AnySocket::builder(kind).context(context), |builder, setting| builder.set(setting));
        builder.build().expect("good options")
    };
    let (mine, theirs) = (make(kind), make(counterpart(kind)));
    if theirs.kind().subscribes() {
        theirs.subscribe("").expect("a subscriber");
    }
    let endpoint = mine.bind(over.wildcard()).expect("bound");
    theirs.connect(&endpoint).expect("a good endpoint");
    mine.wait_for_peers(1, PATIENCE).expect("the peer comes");
    if mine.kind().publishes() {
        mine.wait_for_subscribers(1, PATIENCE).expect("it subscribes");
    }
    match kind {
        // In lockstep: one request, and no answer.
        SocketKind::Req => mine.send("question").expect("a peer is there"),
        SocketKind::Push
        | SocketKind::Pair
        | SocketKind::Dealer
        | SocketKind::Router
        | SocketKind::Pub
        | SocketKind::XPub => fill(&mine),
        SocketKind::Sub | SocketKind::Rep | SocketKind::Pull | SocketKind::XSub => {}
    }
    (Arc::new(mine), Some(theirs))
}

/// Sends until nothing fits any more, and goes on not to fit.
fn fill(socket: &AnySocket) {
    let mut refused = 0;
    while refused < 3 {
        match socket.send_timeout(load(socket.kind()), Duration::from_millis(5)) {
            Ok(()) => refused = 0,
            Err(error) if error.reason == SendFailure::TimedOut => refused += 1,
            Err(error) => panic!("{}: {error}", socket.kind()),
        }
    }
}

/// A message large enough to fill a stream soon.
fn load(kind: SocketKind) -> Message {
    let body = vec![7; 64 << 10];
    if kind == SocketKind::Router { Message::from_iter([b"peer".to_vec(), body]) } else { Message::from(body) }
}

fn counterpart(kind: SocketKind) -> SocketKind {
    match kind {
        SocketKind::Pair => SocketKind::Pair,
        SocketKind::Pub => SocketKind::Sub,
        SocketKind::Sub => SocketKind::Pub,
        SocketKind::Req => SocketKind::Rep,
        SocketKind::Rep => SocketKind::Req,
        SocketKind::Dealer => SocketKind::Router,
        SocketKind::Router => SocketKind::Dealer,
        SocketKind::Pull => SocketKind::Push,
        SocketKind::Push => SocketKind::Pull,
        SocketKind::XPub => SocketKind::XSub,
        SocketKind::XSub => SocketKind::XPub,
    }
}

/// Every call of that socket that waits now, two threads each where that is a different matter.
fn block(subject: &Arc<AnySocket>, crowded: bool) -> Vec<(&'static str, Blocked<(Ended, Duration)>)> {
    let kind = subject.kind();
    let mut calls = Vec::new();
    let mut add = |name, call: fn(&AnySocket) -> Ended| {
        let subject = Arc::clone(subject);
        calls.push((
            name,
            Blocked::start(move || {
                let watch = Stopwatch::start();
                (call(&subject), watch.kept())
            }),
        ));
    };
    add("wait_for_peers", |socket| ended(socket.wait_for_peers(9, PATIENCE)));
    if kind.publishes() {
        add("wait_for_subscribers", |socket| ended(socket.wait_for_subscribers(9, PATIENCE)));
    }
    let receives = match kind {
        SocketKind::Push | SocketKind::Pub => false,
        // It has to ask first, and that it can do only if somebody is there.
        SocketKind::Req => crowded,
        // It has received the subscription and nothing since.
        SocketKind::XPub => {
            while subject.try_recv().is_ok() {}
            true
        }
        _ => true,
    };
    for _ in 0..if receives { 2 } else { 0 } {
        add("recv", |socket| match socket.recv() {
            Err(RecvError::Closed) => Ended::Closed,
            other => Ended::Otherwise(format!("{other:?}")),
        });
    }
    let sends = match kind {
        SocketKind::Push | SocketKind::Pair | SocketKind::Dealer => true,
        SocketKind::Req => !crowded,
        SocketKind::Router | SocketKind::Pub | SocketKind::XPub => crowded,
        SocketKind::Sub | SocketKind::XSub | SocketKind::Rep | SocketKind::Pull => false,
    };
    for _ in 0..if sends { 2 } else { 0 } {
        // A full tcp connection takes a little more now and then, when one of the kernel's timers fires.
        add("send", |socket| {
            loop {
                match socket.send(load(socket.kind())) {
                    Ok(()) => {}
                    Err(error) if error.reason == SendFailure::Closed => return Ended::Closed,
                    Err(error) => return Ended::Otherwise(error.to_string()),
                }
            }
        });
    }
    if sends && crowded {
        add("flush", |socket| ended(socket.flush(PATIENCE)));
    }
    calls
}

fn ended(outcome: Result<(), Error>) -> Ended {
    match outcome {
        Err(Error::Closed) => Ended::Closed,
        other => Ended::Otherwise(format!("{other:?}")),
    }
}

/// Later calls say `Closed` at once, whatever the kind.
fn expect_closed(socket: &AnySocket) {
    let kind = socket.kind();
    assert!(socket.is_closed(), "{kind}");
    assert!(matches!(socket.bind("tcp://127.0.0.1:*"), Err(Error::Closed)), "{kind}");
    assert!(matches!(socket.connect("tcp://127.0.0.1:9"), Err(Error::Closed)), "{kind}");
    assert!(matches!(socket.wait_for_peers(1, PATIENCE), Err(Error::Closed)), "{kind}");
    assert!(matches!(socket.flush(PATIENCE), Err(Error::Closed)), "{kind}");
    let received = socket.recv();
    assert!(matches!(received, Err(RecvError::Closed | RecvError::NotSupported { .. })), "{kind}: {received:?}");
    let error = socket.send(load(kind)).expect_err("closed");
    assert!(matches!(error.reason, SendFailure::Closed | SendFailure::NotSupported { .. }), "{kind}: {error}");
    assert_eq!(error.message, load(kind), "{kind}: the message comes back");
}

#[test]
fn a_request_that_waits_returns_closed_and_so_do_those_that_wait_for_their_turn() {
    let _turn = alone();
    for over in Over::ALL {
        for (answered, end) in [(false, End::Close), (true, End::Close), (false, End::Shutdown), (true, End::Shutdown)]
        {
            let context = Context::new();
            let req = Arc::new(Req::in_context(&context));
            let rep = AnySocket::in_context(SocketKind::Rep, &context);
            let endpoint = over.wildcard();
            if answered {
                // Somebody takes the question and has no answer.
                let endpoint = rep.bind(&endpoint).expect("bound");
                req.connect(&endpoint).expect("a good endpoint");
            } else {
                req.bind(&endpoint).expect("bound");
            }
            let calls: Vec<_> = (0..3)
                .map(|_| {
                    let req = Arc::clone(&req);
                    Blocked::start(move || {
                        let watch = Stopwatch::start();
                        (req.request("question", PATIENCE * 2), watch.kept())
                    })
                })
                .collect();
            for call in &calls {
                call.settle();
            }
            let lateness = Lateness::watch();
            let watch = Stopwatch::start();
            match end {
                End::Close => req.close(),
                End::Shutdown | End::CloseContext => context.shutdown(),
            }
            let kept = watch.kept();
            let mut slowest = Duration::ZERO;
            for call in calls {
                let ((outcome, waited), at) = call.outcome(PATIENCE / 3).expect("it returns");
                match outcome {
                    Err(RequestError::Send(error)) => assert_eq!(error.reason, SendFailure::Closed),
                    Err(RequestError::Receive(error)) => assert_eq!(error, RecvError::Closed),
                    other => panic!("{over:?}, {end:?}: {other:?}"),
                }
                slowest = slowest.max(at.saturating_duration_since(watch.begin).saturating_sub(kept + waited));
            }
            let late = lateness.since(watch.begin);
            assert!(slowest <= SOON + late, "{over:?}, {end:?}: {slowest:?}, {late:?} late");
        }
    }
}

/// Peers go first, handles go first, the context goes first: whatever the order, nothing panics, and every call returns
/// as soon as its socket or its context is closed.
#[test]
fn sockets_contexts_and_peers_may_go_in_any_order() {
    let _turn = alone();
    for seed in 0..times(1000) as u64 {
        within(PATIENCE, &format!("seed {seed}"), move || any_order(seed));
    }
}

/// One of the things that go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    DropPeer,
    Close,
    Shutdown,
    DropContext,
    DropSubject,
}

fn any_order(seed: u64) {
    let mut random = Random::new(seed);
    let kind = SocketKind::ALL[random.below(SocketKind::ALL.len())];
    let over = Over::ALL[random.below(Over::ALL.len())];
    let context = Context::builder().drop_wait(Some(Duration::from_millis(20))).build();
    let (subject, mut peer) = full_pair(&context, kind, over);
    let calls = block(&subject, true);
    for (_, call) in &calls {
        call.settle();
    }
    let mut subject = Some(subject);
    let mut context = Some(context);
    let mut steps = [Step::DropPeer, Step::Close, Step::Shutdown, Step::DropContext, Step::DropSubject];
    for place in (1..steps.len()).rev() {
        steps.swap(place, random.below(place + 1));
    }
    let place = |wanted| steps.iter().position(|step| *step == wanted).expect("one of them");
    let lateness = Lateness::watch();
    // Since when the calls are to return, and how long whoever tells them was not let work.
    let mut end = None;
    for step in steps {
        let watch = Stopwatch::start();
        let mut ends = false;
        match step {
            Step::DropPeer => drop(peer.take()),
            Step::Close => {
                subject.as_ref().expect("not dropped before").close();
                ends = true;
            }
            Step::Shutdown => {
                ends = context.as_ref().inspect(|context| context.shutdown()).is_some();
            }
            Step::DropContext => context = None,
            // If nobody has closed it, the blocked calls keep it.
            Step::DropSubject if place(Step::Close) < place(Step::DropSubject) => subject = None,
            Step::DropSubject => {}
        }
        if ends && end.is_none() {
            end = Some((watch.begin, watch.kept(), place(Step::DropPeer) < place(step)));
        }
        if random.below(2) == 0 {
            thread::yield_now();
        }
    }
    let (begin, kept, lonely) = end.expect("it is closed in any case");
    let returned: Vec<_> = calls
        .into_iter()
        .map(|(name, call)| {
            let Some(((outcome, waited), at)) = call.outcome(PATIENCE / 3) else {
                panic!("seed {seed}: {kind} over {over:?}: `{name}` hangs after {steps:?}");
            };
            let is_told = lonely && is_told_that_its_peer_is_gone(name, kind, &outcome);
            assert!(
                outcome == Ended::Closed || is_told,
                "seed {seed}: {kind} over {over:?}: `{name}` after {steps:?}: {outcome:?}"
            );
            (name, at.saturating_duration_since(begin).saturating_sub(kept + waited))
        })
        .collect();
    let late = lateness.since(begin);
    for (name, took) in returned {
        assert!(
            took <= SOON + late,
            "seed {seed}: {kind} over {over:?}: `{name}` took {took:?} after {steps:?}, {late:?} late"
        );
    }
}

/// Whether a call ended as it may where the only peer goes first: it has nothing left to wait for, or learns that
/// nobody is there.
fn is_told_that_its_peer_is_gone(call: &str, kind: SocketKind, outcome: &Ended) -> bool {
    let Ended::Otherwise(outcome) = outcome else { return false };
    match (call, kind) {
        ("flush", _) => outcome == "Ok(())",
        ("send", SocketKind::Router) => outcome.contains(&SendFailure::Unroutable.to_string()),
        // The subscription goes with its peer.
        ("recv", SocketKind::XPub) => *outcome == format!("{:?}", Ok::<_, RecvError>(Message::from(b"\0"))),
        _ => false,
    }
}

/// Threads that call anything while others close everything see results or `Closed`.
#[test]
fn a_storm_of_calls_survives_a_storm_of_closes() {
    let _turn = alone();
    for seed in 0..times(500) as u64 {
        within(PATIENCE, &format!("seed {seed}"), move || storm(seed));
    }
}

fn storm(seed: u64) {
    let over = Over::ALL[seed as usize % 3];
    let context = Context::builder().drop_wait(Some(Duration::from_millis(20))).build();
    let kinds = [SocketKind::Dealer, SocketKind::Router, SocketKind::Pair, SocketKind::Pub, SocketKind::Sub];
    let subjects: Vec<Arc<AnySocket>> =
        kinds.iter().map(|kind| Arc::new(AnySocket::in_context(*kind, &context))).collect();
    let endpoints = [over.wildcard(), over.wildcard()].map(|wildcard| wildcard.replace(":*", ":0"));
    let dealer_at = subjects[1].bind(&endpoints[0]).expect("bound");
    let sub_at = subjects[3].bind(&endpoints[1]).expect("bound");
    let callers: Vec<_> = (0..6)
        .map(|number| {
            let (subjects, dealer_at, sub_at) = (subjects.clone(), dealer_at.clone(), sub_at.clone());
            thread::spawn(move || {
                let mut random = Random::new(seed << 8 | number);
                for _ in 0..200 {
                    let socket = &subjects[random.below(subjects.len())];
                    let briefly = Duration::from_millis(random.below(3) as u64);
                    // Errors are what this is about; that nothing panics or hangs is what is tested.
                    match random.below(12) {
                        0 => drop(socket.connect(if random.below(2) == 0 { &dealer_at } else { &sub_at })),
                        1 => drop(socket.disconnect(&dealer_at)),
                        2 => drop(socket.subscribe("")),
                        3 => drop(socket.wait_for_peers(1, briefly)),
                        4 => drop(socket.flush(briefly)),
                        5 => drop(socket.bind(over.wildcard())),
                        6 => assert!(socket.stats().is_balanced()),
                        7 => drop(socket.peers()),
                        8 | 9 => drop(socket.send_timeout("anything", briefly)),
                        _ => drop(socket.recv_timeout(briefly)),
                    }
                }
            })
        })
        .collect();
    let mut random = Random::new(!seed);
    let pause = Instant::now() + Duration::from_micros(random.below(5000) as u64);
    eventually(PATIENCE, "a moment passes", || Instant::now() >= pause);
    if random.below(2) == 0 {
        subjects[random.below(subjects.len())].close();
    }
    if random.below(2) == 0 {
        context.shutdown();
    } else {
        context.close(Duration::from_millis(1));
    }
    drop(context);
    for caller in callers {
        caller.join().expect("no panic");
    }
}
