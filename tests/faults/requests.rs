//! The answer to a question that was given up is never taken for the answer to the next one.

use crate::support::raw::{Raw, frame};
use crate::support::{Blocked, Over, PATIENCE, eventually, holds_within};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Context, Message, RecvError, Rep, Req, RequestError, Router, SendFailure};

/// Far more than an answer takes that comes, and how long to wait for one that does not.
const SHORT: Duration = Duration::from_millis(200);

/// A server that answers the first question only once it is told to, and all others at once, each with itself.
fn slow_once(rep: Rep) -> Sender<()> {
    let (go, told) = channel();
    thread::spawn(move || {
        let mut first = true;
        while let Ok(question) = rep.recv() {
            if std::mem::take(&mut first) && told.recv().is_err() {
                return;
            }
            if rep.send(question).is_err() {
                return;
            }
        }
    });
    go
}

#[test]
fn a_late_answer_of_a_rep_that_connected_is_not_taken_for_the_next() {
    for over in Over::ALL {
        for retries in [0, 1] {
            let context = Context::new();
            let (req, rep) = (Req::in_context(&context), Rep::in_context(&context));
            rep.connect(req.bind(over.wildcard()).unwrap().as_str()).unwrap();
            req.wait_for_peers(1, PATIENCE).unwrap();
            let go = slow_once(rep);
            let error = req.request_with_retries("first", SHORT, retries).unwrap_err();
            assert!(error.is_timed_out(), "{error}");
            go.send(()).unwrap();
            assert_eq!(req.request("second", PATIENCE).unwrap(), "second", "{over:?}");
            assert_eq!(req.request("third", PATIENCE).unwrap(), "third", "{over:?}");
        }
    }
}

#[test]
fn a_late_answer_of_a_rep_that_is_connected_to_is_not_taken_for_the_next() {
    for over in Over::ALL {
        let context = Context::new();
        let req = Req::builder().context(&context).routing_id("by name").build().unwrap();
        let rep = Rep::in_context(&context);
        req.connect(rep.bind(over.wildcard()).unwrap().as_str()).unwrap();
        let go = slow_once(rep);
        assert!(req.request("first", SHORT).unwrap_err().is_timed_out());
        go.send(()).unwrap();
        assert_eq!(req.request_with_retries("second", PATIENCE, 1).unwrap(), "second", "{over:?}");
        if over != Over::Inproc {
            assert_eq!(req.stats().reconnects, 0, "the connection need not be replaced");
        }
    }
}

#[test]
fn a_router_is_asked_in_three_frames_unless_the_req_correlates() {
    for over in Over::ALL {
        let context = Context::new();
        for correlate in [false, true] {
            let req = Req::builder().context(&context).routing_id("me").correlate(correlate).build().unwrap();
            let router = Router::in_context(&context);
            req.connect(router.bind(over.wildcard()).unwrap().as_str()).unwrap();
            let server = thread::spawn(move || {
                let (id, late) = router.recv_timeout(PATIENCE).unwrap();
                assert_eq!(late.len(), if correlate { 3 } else { 2 });
                let (_, request) = router.recv_timeout(PATIENCE).unwrap();
                if correlate {
                    router.send_to(&id, late).unwrap();
                }
                router.send_to(&id, request).unwrap();
                router
            });
            assert!(req.request("first", SHORT).unwrap_err().is_timed_out());
            assert_eq!(req.request("second", PATIENCE).unwrap(), "second", "{over:?}, correlate {correlate}");
            server.join().unwrap();
        }
    }
}

#[test]
fn an_answer_to_an_earlier_attempt_of_the_same_question_counts() {
    for over in Over::ALL {
        let context = Context::new();
        let (req, rep) = (Req::in_context(&context), Rep::in_context(&context));
        req.connect(rep.bind(over.wildcard()).unwrap().as_str()).unwrap();
        let server = thread::spawn(move || {
            let mut asked = 0;
            // Twice as slow as the client is patient, each time.
            while let Ok(question) = rep.recv_timeout(PATIENCE) {
                if question == "end" {
                    rep.send("end").unwrap();
                    return asked;
                }
                asked += 1;
                thread::sleep(2 * SHORT);
                rep.send(question).unwrap();
            }
            unreachable!("the end comes in time");
        });
        assert_eq!(req.request_with_retries("slow", SHORT, 20).unwrap(), "slow");
        assert_eq!(req.request("end", PATIENCE).unwrap(), "end");
        assert!(server.join().unwrap() <= 4);
    }
}

#[test]
fn a_late_answer_of_a_router_that_was_asked_beside_a_rep_is_not_taken_for_the_next() {
    for over in Over::ALL {
        let context = Context::new();
        let (req, rep, router) = (Req::in_context(&context), Rep::in_context(&context), Router::in_context(&context));
        req.connect(rep.bind(over.wildcard()).unwrap().as_str()).unwrap();
        req.connect(router.bind(over.wildcard()).unwrap().as_str()).unwrap();
        req.wait_for_peers(2, PATIENCE).unwrap();
        let (asked, was_asked) = channel();
        thread::spawn(move || {
            while let Ok(mut question) = rep.recv() {
                // The first question is answered once the other server has it too.
                if question == "first" && was_asked.recv().is_err() {
                    return;
                }
                question.push_back("rep");
                rep.send(question).unwrap();
            }
        });
        let (go, told) = channel::<()>();
        thread::spawn(move || {
            while let Ok((id, mut question)) = router.recv() {
                if question.frame(1) == Some(b"first") {
                    asked.send(()).unwrap();
                    if told.recv().is_err() {
                        return;
                    }
                }
                question.push_back("router");
                router.send_to(id, question).unwrap();
            }
        });
        // They are asked in turn: the next one is the REP.
        while req.request("who?", PATIENCE).unwrap().frame(1) != Some(b"router") {}
        let answer = req.request_with_retries("first", Duration::from_secs(1), 1).unwrap();
        assert_eq!(answer.frame(1), Some(&b"rep"[..]));
        // They go on in turn, but over inproc, where the other server is a newcomer now. It answers the first question
        // only when the third is asked.
        let answer = req.request_with_retries("second", Duration::from_secs(1), 9).unwrap();
        assert_eq!(answer.first(), b"second", "{over:?}");
        let accepted = req.stats().accepted;
        let answer = thread::scope(|scope| {
            scope.spawn(|| {
                eventually(PATIENCE, "the third question is asked", || req.stats().accepted > accepted);
                go.send(()).unwrap();
            });
            req.request_with_retries("third", Duration::from_secs(1), 9).unwrap()
        });
        assert_eq!(answer.first(), b"third", "{over:?}");
        assert_eq!(req.request("fourth", PATIENCE).unwrap().first(), b"fourth", "{over:?}");
    }
}

#[test]
fn an_answer_without_the_number_is_an_error_at_once() {
    // A REP that does not send back what stands before the delimiter.
    for answer in [&["", "yes"][..], &["yes"], &["someone", "", "yes"]] {
        let req = Req::in_context(&Context::new());
        let endpoint = req.bind("tcp://127.0.0.1:*").unwrap();
        let mut raw = Raw::connect(endpoint.as_str()).unwrap();
        raw.shake_hands("REP").unwrap();
        let server = thread::spawn(move || {
            for _ in 0..2 {
                // Number, delimiter, question.
                raw.read_exact(&mut [0; 6 + 2 + 5]).unwrap();
                let last = answer.len() - 1;
                for (at, part) in answer.iter().enumerate() {
                    raw.write_all(&frame(at < last, part.as_bytes())).unwrap();
                }
            }
            raw
        });
        for question in ["a?bc", "d?ef"] {
            let start = Instant::now();
            let error = req.request_with_retries(question, PATIENCE, 3).unwrap_err();
            assert!(matches!(error, RequestError::Unnumbered) && !error.is_timed_out(), "{answer:?}: {error}");
            assert!(start.elapsed() < PATIENCE / 2);
        }
        server.join().unwrap();
        assert!(matches!(req.recv_timeout(SHORT).unwrap_err(), RecvError::WrongState(_)), "it may ask again");
    }
}

#[test]
fn a_rep_drops_the_reply_of_a_counted_request_whose_connection_is_gone() {
    let context = Context::new();
    for numbered in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let rep = Rep::builder().context(&context).reconnect_interval(Duration::from_millis(1)).build().unwrap();
        rep.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
        let ask = |question: &str| {
            let mut raw = Raw::accepted(listener.accept().unwrap().0);
            raw.shake_hands("REQ").unwrap();
            if numbered {
                raw.write_all(&frame(true, b"1234")).unwrap();
            }
            raw.write_all(&[frame(true, b""), frame(false, question.as_bytes())].concat()).unwrap();
            assert_eq!(rep.recv_timeout(PATIENCE).unwrap(), question);
            raw
        };
        drop(ask("first"));
        eventually(PATIENCE, "the connection is gone", || rep.stats().connections == 0);
        rep.send("answer").unwrap();
        let stats = rep.stats();
        assert_eq!((stats.accepted, stats.dropped.disconnect), (1, u64::from(numbered)));
        if numbered {
            let mut raw = ask("second");
            rep.send("better").unwrap();
            let mut reply = [0; 6 + 2 + 8];
            raw.read_exact(&mut reply).unwrap();
            assert_eq!(reply[..], [frame(true, b"1234"), frame(true, b""), frame(false, b"better")].concat());
        } else {
            let mut raw = Raw::accepted(listener.accept().unwrap().0);
            raw.shake_hands("REQ").unwrap();
            let mut reply = [0; 2 + 8];
            raw.read_exact(&mut reply).unwrap();
            assert_eq!(reply[..], [frame(true, b""), frame(false, b"answer")].concat());
        }
    }
}

#[test]
fn a_request_waits_for_its_server_within_its_time() {
    let context = Context::new();
    let req = Req::in_context(&context);
    // Somebody listens there and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    req.connect(format!("tcp://{}", silent.local_addr().unwrap())).unwrap();
    let start = Instant::now();
    let error = req.request("anybody?", SHORT).unwrap_err();
    assert!(start.elapsed() >= SHORT);
    assert!(error.is_timed_out(), "{error}");
    match error {
        RequestError::Send(error) => {
            assert_eq!((error.reason, error.message), (SendFailure::TimedOut, Message::from("anybody?")));
        }
        other => panic!("{other:?}: nobody was asked"),
    }
    assert_eq!(req.stats().accepted, 0);
    let (req, rep) = (Req::in_context(&context), Rep::in_context(&context));
    let endpoint = Over::Tcp.fixed();
    let bound = rep.bind(&endpoint).unwrap();
    req.connect(bound.as_str()).unwrap();
    let go = slow_once(rep);
    go.send(()).unwrap();
    assert_eq!(req.request_with_retries("somebody?", PATIENCE, 0).unwrap(), "somebody?");
}

/// The connection to a ROUTER is replaced by us after each attempt that was not answered. Nobody was lost by that, so
/// the next attempt need not wait as after an outage.
#[test]
fn attempts_over_a_connection_that_we_replaced_follow_each_other_within_their_patience() {
    const PATIENCE_OF_ONE: Duration = Duration::from_millis(200);
    for round in 0..8 {
        let context = Context::new();
        let (server, client) = (Router::in_context(&context), Req::in_context(&context));
        client.connect(server.bind("tcp://127.0.0.1:*").unwrap()).unwrap();
        let serving = thread::spawn(move || {
            server.recv_timeout(PATIENCE).expect("the first attempt");
            let (id, question) = server.recv_timeout(PATIENCE).expect("the second attempt");
            server.send_to(id, question).expect("it is there");
            server
        });
        let answer = client.request_with_retries("are you there?", PATIENCE_OF_ONE, 3);
        assert_eq!(answer.unwrap_or_else(|error| panic!("round {round}: {error}")), "are you there?");
        serving.join().unwrap();
    }
}

#[test]
fn a_request_in_a_forked_child_fails_at_once_though_a_thread_of_the_parent_is_asking() {
    let context = Context::new();
    let (req, rep) = (Req::in_context(&context), Rep::in_context(&context));
    req.connect(rep.bind("tcp://127.0.0.1:*").unwrap()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| req.request("a long question", PATIENCE));
        assert_eq!(rep.recv_timeout(PATIENCE).unwrap(), "a long question");
        // SAFETY: the child has this one thread, makes one call and ends without returning from here.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "fork");
        if child == 0 {
            let outcome = req.request("x", PATIENCE);
            let is_refused = matches!(outcome, Err(RequestError::Send(error)) if error.reason == SendFailure::Forked);
            // SAFETY: ends the process; nothing of the parent's is flushed or joined.
            unsafe { libc::_exit(i32::from(!is_refused)) };
        }
        let (mut status, mut ended) = (0, false);
        // SAFETY: `status` lives through the call, and `child` is ours.
        let has_ended = || unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == child;
        if !holds_within(PATIENCE / 2, has_ended) {
            // SAFETY: `child` is ours and has not been waited for.
            unsafe { libc::kill(child, libc::SIGKILL) };
        } else {
            ended = true;
        }
        rep.send("an answer").unwrap();
        assert!(ended, "the child hangs");
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status:#x}");
    });
}

// ----- threads that share a REQ -----

#[test]
fn a_request_that_waits_for_that_of_another_thread_keeps_its_time_limit() {
    for retries in [0, 2] {
        let context = Context::new();
        let (req, rep) = (Req::in_context(&context), Rep::in_context(&context));
        req.connect(rep.bind("tcp://127.0.0.1:*").unwrap()).unwrap();
        thread::scope(|scope| {
            let first = scope.spawn(|| req.request("a long question", PATIENCE));
            assert_eq!(rep.recv_timeout(PATIENCE).unwrap(), "a long question");
            let start = Instant::now();
            let error = req.request_with_retries("a short one", SHORT, retries).unwrap_err();
            let (took, limit) = (start.elapsed(), SHORT * (retries + 1));
            assert!(took >= limit && took < PATIENCE / 2, "{took:?} with {retries} retries");
            assert!(error.is_timed_out(), "{error}");
            assert_eq!(
                error.to_string(),
                "the request was not sent: another request of this socket was under way all the time"
            );
            match error {
                RequestError::Send(error) => assert_eq!(error.message, "a short one"),
                other => panic!("{other:?}: nobody was asked"),
            }
            rep.send("an answer").unwrap();
            assert_eq!(first.join().unwrap().unwrap(), "an answer", "it was not disturbed");
        });
        assert_eq!(req.stats().accepted, 1);
    }
}

#[test]
fn threads_that_share_a_req_ask_in_the_order_in_which_they_came() {
    let context = Context::new();
    let (req, rep) = (Arc::new(Req::in_context(&context)), Rep::in_context(&context));
    req.connect(rep.bind("tcp://127.0.0.1:*").unwrap()).unwrap();
    let ask = |number: usize| {
        let req = Arc::clone(&req);
        Blocked::start(move || req.request(number.to_string(), PATIENCE).unwrap())
    };
    let mut calls = vec![ask(0)];
    let question = rep.recv_timeout(PATIENCE).unwrap();
    for number in 1..5 {
        // It stands in the line before the next one comes.
        calls.push(ask(number));
        calls[number].settle();
    }
    rep.send(question).unwrap();
    for number in 1..5 {
        let question = rep.recv_timeout(PATIENCE).unwrap();
        assert_eq!(question, number.to_string().as_str());
        rep.send(question).unwrap();
    }
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(call.outcome(PATIENCE).expect("an answer").0, number.to_string().as_str());
    }
}

#[test]
fn a_request_that_waits_for_its_turn_ends_with_the_socket() {
    let context = Context::new();
    let (req, rep) = (Arc::new(Req::in_context(&context)), Rep::in_context(&context));
    req.connect(rep.bind("tcp://127.0.0.1:*").unwrap()).unwrap();
    let calls = [(); 3].map(|()| {
        let req = Arc::clone(&req);
        Blocked::start(move || req.request("a long question", PATIENCE * 10))
    });
    calls.iter().for_each(Blocked::settle);
    req.close();
    for call in calls {
        let (outcome, _) = call.outcome(PATIENCE).expect("it ends");
        assert!(outcome.is_err_and(|error| !error.is_timed_out()));
    }
}

/// A REQ that a ROUTER of the same process knows as `me`, and how many messages there may be on the way to it.
fn req_at_router(context: &Context) -> (Req, Router, u64) {
    let req = Req::builder().context(context).routing_id("me").relaxed(true).correlate(true).receive_mark(100u32);
    let (req, router) = (req.build().unwrap(), Router::builder().context(context).send_mark(100u32).build().unwrap());
    req.connect(router.bind(Over::Inproc.wildcard()).unwrap()).unwrap();
    (req, router, 200)
}

#[test]
fn a_question_throws_away_all_that_was_there_and_counts_it() {
    let (req, router, _) = req_at_router(&Context::new());
    router.send_to("me", ["", "fetched"]).unwrap();
    assert_eq!(req.stats().unread, 1);
    router.send_to("me", ["", "not fetched"]).unwrap();
    req.send("question").unwrap();
    assert_eq!((req.stats().discarded, req.stats().unread), (2, 0));
    let (id, question) = router.recv_timeout(PATIENCE).unwrap();
    router.send_to(id, question).unwrap();
    assert_eq!(req.recv_timeout(PATIENCE).unwrap(), "question");
}

#[test]
fn a_question_is_asked_however_much_comes_meanwhile() {
    const ENOUGH: u64 = 200_000;
    let (req, router, room) = req_at_router(&Context::new());
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    let _ = router.try_send_to("me", ["", "unasked"]);
                }
            });
        }
        let (mut discarded, mut most) = (0, 0);
        // What was on the way when it began, and what has come since while that was thrown away.
        while discarded < ENOUGH && most <= 2 * room {
            let _ = req.try_send("question");
            let now = req.stats().discarded;
            (discarded, most) = (now, most.max(now - discarded));
        }
        is_done.store(true, Ordering::Relaxed);
        assert!(most <= 2 * room, "one question threw away {most} messages");
    });
}
