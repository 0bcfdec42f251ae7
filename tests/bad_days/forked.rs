//! A forked child holds copies of its parent's sockets: each call says `Forked`, and the parent notices nothing.

use crate::support::child::{self, Process};
use crate::support::{Over, PATIENCE, alone, eventually, is_full, within};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wiremesh::{AnySocket, Context, Error, EventKind, Pull, Push, RecvError, SendFailure, Setting, SocketKind};

#[test]
fn a_forked_child_can_do_nothing_with_its_parents_sockets_and_nothing_to_them() {
    let _turn = alone();
    for over in Over::STREAMS {
        let forks = if is_full() { 1000 } else { 30 };
        within(PATIENCE * 4, "the forks", move || {
            let context = Context::new();
            let pull = Pull::in_context(&context);
            let endpoint = pull.bind(over.wildcard()).expect("bound");
            let monitor = pull.monitor();
            let mut process = Process::start("forker", &[&endpoint, &forks]);
            let mut expected = 0u64;
            let last = loop {
                if let Some(line) = process.try_hear(Duration::ZERO) {
                    break line.parse::<u64>().unwrap_or_else(|_| panic!("{over:?}: {line}"));
                }
                match pull.recv_timeout(Duration::from_millis(5)) {
                    Ok(message) => {
                        assert_eq!(message, &expected.to_le_bytes(), "{over:?}: the stream goes on in order");
                        expected += 1;
                    }
                    Err(RecvError::TimedOut) => {}
                    Err(error) => panic!("{error}"),
                }
            };
            while expected < last {
                let message = pull.recv_timeout(PATIENCE).expect("all of it arrives");
                assert_eq!(message, &expected.to_le_bytes(), "{over:?}: the stream goes on in order");
                expected += 1;
            }
            // No child has touched the connection.
            let events: Vec<_> = std::iter::from_fn(|| monitor.try_recv()).collect();
            let lost = events.iter().find(|event| matches!(event.kind, EventKind::Disconnected(_)));
            assert!(lost.is_none(), "{over:?}: {lost:?}");
            assert_eq!(pull.recv_timeout(Duration::from_millis(20)), Err(RecvError::TimedOut), "{over:?}: and no more");
            println!("{over:?}: {forks} forks, {last} messages");
            process.finish();
        });
    }
}

/// Sends without pause, forks again and again meanwhile, and says how many messages it sent.
pub(crate) fn forker(arguments: &[&str]) {
    let [endpoint, forks] = arguments else { panic!("endpoint, forks") };
    let forks: u64 = forks.parse().expect("a number");
    let context = Context::new();
    let push = Push::in_context(&context);
    push.connect(endpoint).expect("a good endpoint");
    push.wait_for_peers(1, PATIENCE).expect("the PULL is there");
    // One of each kind, bound and with a file, to be used in the children.
    let others: Vec<AnySocket> = SocketKind::ALL.iter().map(|kind| AnySocket::in_context(*kind, &context)).collect();
    let bound: Vec<String> = others
        .iter()
        .flat_map(|socket| Over::ALL.map(|over| socket.bind(over.wildcard()).expect("bound").as_str().to_owned()))
        .collect();
    let busy = busy(&context);
    let mut number = 0u64;
    for fork in 0..forks {
        for _ in 0..200 {
            push.send(number.to_le_bytes()).expect("accepted");
            number += 1;
        }
        let how = fork % 3;
        // SAFETY: the child has this one thread. It uses the allocator, which the C library makes usable in a child,
        // and ends in one of three ways below without returning from here.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "fork");
        if child == 0 {
            let verdict =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| in_the_child(&push, &others, &busy, how)));
            let code = verdict.map_or(99, |problem| problem);
            if how == 1 {
                // Everything inherited is dropped here, in the child.
                drop((push, others, context));
            }
            // SAFETY: ends the process; nothing of the parent's is flushed or joined.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        let end = Instant::now() + PATIENCE;
        loop {
            // SAFETY: `status` lives through the call, and `child` is ours.
            let waited = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
            if waited == child {
                break;
            }
            if Instant::now() > end {
                // SAFETY: `child` is ours and has not been waited for.
                unsafe { libc::kill(child, libc::SIGKILL) };
                child::tell(format!("fork {fork} (way {how}): the child hangs"));
                return;
            }
            push.send(number.to_le_bytes()).expect("accepted");
            number += 1;
        }
        let fine = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
        if !fine {
            child::tell(format!("fork {fork} (way {how}): the child ended with {status:#x}"));
            return;
        }
        for endpoint in bound.iter().filter_map(|endpoint| endpoint.strip_prefix("ipc://")) {
            assert!(std::path::Path::new(endpoint).exists(), "a child has removed {endpoint}");
        }
    }
    push.flush(PATIENCE).expect("the PULL reads");
    assert!(push.stats().is_balanced() && push.stats().accepted == number);
    child::tell(number);
    // The parent of this process looks before the connection goes.
    child::listen();
}

/// Sockets that another thread asks all the time: whatever lock such a question takes may be held when a child is made.
fn busy(context: &Context) -> Arc<Vec<AnySocket>> {
    let make = |kind: &SocketKind| {
        let socket = AnySocket::in_context(*kind, context);
        socket.bind("tcp://127.0.0.1:*").expect("bound");
        socket
    };
    let sockets: Arc<Vec<AnySocket>> = Arc::new(SocketKind::ALL.iter().map(make).collect());
    let asked = Arc::clone(&sockets);
    std::thread::spawn(move || {
        loop {
            for socket in asked.iter() {
                drop((socket.options(), socket.bound(), socket.connected(), socket.peers(), socket.stats()));
                drop((socket.monitor(), format!("{socket:?} {:?}", socket.context()), Context::shared()));
            }
        }
    });
    sockets
}

/// The questions that have no way to say `Forked` answer that there is nothing.
fn know_nothing(sockets: &[AnySocket]) -> bool {
    let defaults = Context::new();
    sockets.iter().all(|socket| {
        let monitor = socket.monitor();
        socket.bound().is_empty()
            && socket.connected().is_empty()
            && socket.peers().is_empty()
            && socket.stats() == wiremesh::Stats::default()
            && socket.options().send_mark == AnySocket::in_context(socket.kind(), &defaults).options().send_mark
            && monitor.try_recv().is_none()
            && monitor.recv().is_none()
            && format!("{socket:?} {:?}", socket.context()).contains("bound: []")
    })
}

/// Every call says `Forked`; 0 if so, else a number that names the call.
fn in_the_child(push: &Push, others: &[AnySocket], busy: &[AnySocket], how: u64) -> i32 {
    let forked = |outcome: Result<(), Error>| matches!(outcome, Err(Error::Forked));
    let refuses_to_send = |socket: &AnySocket| match socket.send_timeout("x", Duration::from_secs(1)) {
        Err(error) => matches!(error.reason, SendFailure::Forked | SendFailure::NotSupported { .. }),
        Ok(()) => false,
    };
    let refuses_to_receive = |socket: &AnySocket| {
        let received = socket.recv_timeout(Duration::from_secs(1));
        matches!(received, Err(RecvError::Forked | RecvError::NotSupported { .. }))
    };
    let reserved = push.reserve().is_err_and(|error| error == SendFailure::Forked);
    if !push.send("x").is_err_and(|error| error.reason == SendFailure::Forked) || !reserved {
        return 1;
    }
    for socket in others {
        let checks = [
            (2, refuses_to_send(socket)),
            (3, refuses_to_receive(socket)),
            (4, forked(socket.bind("tcp://127.0.0.1:*").map(|_| ()))),
            (5, forked(socket.connect("tcp://127.0.0.1:9").map(|_| ()))),
            (6, forked(socket.wait_for_peers(1, Duration::from_secs(1)))),
            (7, forked(socket.flush(Duration::from_secs(1)))),
            (8, forked(socket.set(Setting::SendMark(1)))),
            (9, forked(socket.unbind("tcp://127.0.0.1:9"))),
            (10, forked(socket.disconnect("tcp://127.0.0.1:9"))),
            (11, socket.kind().subscribes() == forked(socket.subscribe("x"))),
        ];
        if let Some((problem, _)) = checks.iter().find(|(_, fine)| !fine) {
            return *problem;
        }
    }
    if !know_nothing(others) || !know_nothing(busy) {
        return 12;
    }
    // A socket made here in the parent's context is no better.
    if !forked(AnySocket::in_context(SocketKind::Pull, push.context()).bind("tcp://127.0.0.1:*").map(|_| ())) {
        return 13;
    }
    if Context::shared().is_closed() {
        return 14;
    }
    if how == 2 {
        // A close of what is inherited concerns the child alone.
        others.iter().for_each(|socket| socket.close());
        push.context().shutdown();
        push.context().close(Duration::from_secs(1));
    }
    if how == 0 && !own_context_works() {
        return 20;
    }
    0
}

/// A child may have a context of its own, engine and all.
fn own_context_works() -> bool {
    let context = Context::new();
    let (pull, push) = (Pull::in_context(&context), Push::in_context(&context));
    let Ok(endpoint) = pull.bind("tcp://127.0.0.1:*") else { return false };
    if push.connect(&endpoint).is_err() || push.send("from the child").is_err() {
        return false;
    }
    pull.recv_timeout(PATIENCE).is_ok_and(|message| message == "from the child")
}

/// Sockets that name no context: the child gets a shared context of its own.
#[test]
fn the_shared_context_of_a_child_is_its_own() {
    let _turn = alone();
    let mut process = Process::start("shared-forker", &[]);
    assert_eq!(process.hear(), "fine");
    process.finish();
}

pub(crate) fn shared_forker(_: &[&str]) {
    let pull = Pull::new();
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    let push = Push::new();
    push.connect(&endpoint).expect("a good endpoint");
    push.send("before").expect("accepted");
    // SAFETY: as in `forker`: one thread, which ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let fine = std::panic::catch_unwind(|| {
            let (mine, theirs) = (Pull::new(), Push::new());
            let endpoint = mine.bind("ipc://*").expect("bound");
            theirs.connect(&endpoint).expect("a good endpoint");
            theirs.send("child").expect("accepted");
            mine.recv_timeout(PATIENCE).is_ok_and(|message| message == "child")
        });
        // SAFETY: ends the process.
        unsafe { libc::_exit(if fine.is_ok_and(|fine| fine) { 0 } else { 1 }) };
    }
    let mut status = -1;
    eventually(PATIENCE, "the child ends", || {
        // SAFETY: `status` lives through the call, and `child` is ours.
        unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) == child }
    });
    assert_eq!(pull.recv_timeout(PATIENCE).expect("it was accepted"), "before");
    push.send("after").expect("accepted");
    assert_eq!(pull.recv_timeout(PATIENCE).expect("it was accepted"), "after");
    child::tell(if status == 0 { "fine".to_owned() } else { format!("the child ended with {status:#x}") });
}
