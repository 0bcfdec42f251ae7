//! What a newcomer's first programs met: loops that ended in silence, and addresses that were in use though they had
//! been given up.

use crate::support::child::{self, Process, none_starts};
use crate::support::{Blocked, Nobody, Over, PATIENCE};
use std::time::Duration;
use wiremesh::{AnySocket, Context, Pull, Push, RecvError, Rep, Req, Router, SocketKind};

const SHORT: Duration = Duration::from_millis(5);

#[test]
fn an_iterator_tells_each_timeout_and_goes_on() {
    let context = Context::new();
    let pull = Pull::builder().context(&context).receive_timeout(SHORT).build().expect("good options");
    let push = Push::in_context(&context);
    pull.bind("inproc://late").expect("bound");
    push.connect("inproc://late").expect("connected");
    let mut messages = pull.iter();
    assert_eq!(messages.next(), Some(Err(RecvError::TimedOut)));
    push.send("late").expect("accepted");
    assert_eq!(messages.next().expect("goes on").expect("a message"), "late");
    assert_eq!(messages.next(), Some(Err(RecvError::TimedOut)));
    pull.close();
    assert_eq!(messages.next(), None);
    assert_eq!(messages.next(), None);
}

#[test]
fn an_iterator_tells_that_the_pattern_allows_no_receive_and_goes_on_when_it_does() {
    let context = Context::new();
    let (req, rep) = (Req::in_context(&context), Rep::in_context(&context));
    rep.bind("inproc://lockstep").expect("bound");
    req.connect("inproc://lockstep").expect("connected");
    let mut questions = rep.iter();
    for round in ["first", "second"] {
        req.send(round).expect("accepted");
        assert_eq!(questions.next().expect("goes on").expect("a question"), round);
        assert!(matches!(questions.next(), Some(Err(RecvError::WrongState(_)))), "it has to answer first");
        rep.send(round).expect("accepted");
        assert_eq!(req.recv().expect("an answer"), round);
    }
}

#[test]
fn iterators_of_every_kind_end_with_the_socket_and_only_then() {
    let context = Context::new();
    let router = Router::builder().context(&context).receive_timeout(SHORT).build().expect("good options");
    let mut messages = (&router).into_iter();
    assert_eq!(messages.next(), Some(Err(RecvError::TimedOut)));
    for kind in SocketKind::ALL {
        let socket = AnySocket::in_context(kind, &context);
        if kind != SocketKind::Push && kind != SocketKind::Pub {
            socket.set(wiremesh::Setting::ReceiveTimeout(Some(SHORT))).expect("a good option");
            let first = socket.iter().next().expect("not over");
            assert!(matches!(first, Err(RecvError::TimedOut | RecvError::WrongState(_))), "{kind}: {first:?}");
        } else {
            let mut messages = socket.iter();
            assert!(matches!(messages.next(), Some(Err(RecvError::NotSupported { .. }))), "{kind}");
            assert_eq!(messages.next(), None, "{kind}: it never will");
        }
    }
    context.shutdown();
    assert_eq!(messages.next(), None);
}

#[test]
fn an_endpoint_can_be_bound_again_right_after_its_socket_was_closed_or_dropped_or_unbound() {
    type GiveUp = fn(Pull, &str);
    let ways: [(&str, GiveUp); 3] = [
        ("close", |pull, _| {
            pull.close();
            // The handle lives on elsewhere.
            std::mem::forget(pull);
        }),
        ("drop", |pull, _| drop(pull)),
        ("unbind", |pull, endpoint| {
            pull.unbind(endpoint).expect("it is bound there");
            std::mem::forget(pull);
        }),
    ];
    for over in Over::ALL {
        for (way, give_up) in ways {
            let _quiet = none_starts();
            let context = Context::new();
            let mut endpoint = over.fixed();
            for round in 0..50 {
                let pull = Pull::in_context(&context);
                endpoint = match pull.bind(&endpoint) {
                    Ok(bound) => bound.to_string(),
                    Err(error) => panic!("{way} over {over:?}, round {round}: {error}"),
                };
                if round % 2 == 1 {
                    // With connections that linger at that address.
                    let push = Push::in_context(&context);
                    push.connect(&endpoint).expect("connected");
                    push.wait_for_peers(1, PATIENCE).expect("it is there");
                }
                give_up(pull, &endpoint);
            }
        }
    }
}

#[test]
fn what_a_wildcard_became_can_be_bound_again_though_its_folder_went_with_it() {
    for over in Over::STREAMS {
        let context = Context::new();
        let pull = Pull::in_context(&context);
        let endpoint = pull.bind(over.wildcard()).expect("bound");
        for _ in 0..3 {
            pull.unbind(&endpoint).expect("it is bound there");
            assert_eq!(pull.bind(&endpoint).expect("it is free").as_str(), endpoint.as_str());
        }
        let push = Push::in_context(&context);
        push.connect(&endpoint).expect("connected");
        push.send("hello").expect("accepted");
        assert_eq!(pull.recv_timeout(PATIENCE).expect("it is reached"), "hello");
        drop(pull);
        let Some(path) = endpoint.as_str().strip_prefix("ipc://") else { continue };
        let folder = std::path::Path::new(path).parent().expect("a folder");
        assert!(!folder.exists(), "nothing is left behind");
    }
}

#[test]
fn an_endpoint_can_be_bound_again_while_another_thread_sits_in_a_call_of_the_socket() {
    for over in Over::STREAMS {
        let _quiet = none_starts();
        let context = Context::new();
        let pull = std::sync::Arc::new(Pull::in_context(&context));
        let endpoint = pull.bind(over.fixed()).expect("bound").to_string();
        let receiver = Blocked::start({
            let pull = std::sync::Arc::clone(&pull);
            move || pull.recv()
        });
        receiver.settle();
        pull.unbind(&endpoint).expect("it is bound there");
        let next = Pull::in_context(&context);
        next.bind(&endpoint).expect("it was given up");
        next.close();
        pull.bind(&endpoint).expect("it was given up");
        pull.close();
        assert!(receiver.outcome(PATIENCE).is_some());
        Pull::in_context(&context).bind(&endpoint).expect("it was given up");
    }
}

#[test]
fn an_endpoint_can_be_bound_again_where_engine_threads_always_drive_and_in_another_process() {
    let context = Context::builder().engine_only(true).build();
    for over in Over::STREAMS {
        let quiet = none_starts();
        let mut endpoint = over.fixed();
        for _ in 0..10 {
            let pull = Pull::in_context(&context);
            endpoint = pull.bind(&endpoint).expect("it was given up").to_string();
        }
        let pull = Pull::in_context(&context);
        pull.bind(&endpoint).expect("it was given up");
        pull.close();
        drop(quiet);
        Process::start("rebinder", &[&endpoint]).finish();
    }
}

/// Binds an address that was given up a moment ago.
pub(crate) fn rebinder(arguments: &[&str]) {
    let pull = Pull::new();
    if let Err(error) = pull.bind(arguments[0]) {
        panic!("{error}");
    }
    child::tell("bound");
}

/// What cannot be sent now may be possible for a later attempt.
#[test]
fn a_request_with_retries_also_tries_again_when_its_send_times_out() {
    let context = Context::new();
    let rep = Rep::in_context(&context);
    let endpoint = rep.bind("tcp://127.0.0.1:*").expect("bound").to_string();
    rep.unbind(&endpoint).expect("it is bound there");
    let req = Req::builder().context(&context).immediate(true).build().expect("good options");
    req.connect(&endpoint).expect("a good endpoint");
    let server = std::thread::spawn(move || {
        // Not before the first attempts have had nobody to send to.
        std::thread::sleep(Duration::from_millis(100));
        rep.bind(&endpoint).expect("it was given up");
        let question = rep.recv_timeout(PATIENCE).expect("a question");
        rep.send(question).expect("accepted");
    });
    let answer = req.request_with_retries("anybody?", Duration::from_millis(50), 200);
    assert_eq!(answer.expect("an answer in time"), "anybody?");
    server.join().expect("no panic");
}

#[test]
fn a_request_with_retries_to_nobody_says_that_it_was_not_sent_after_all_of_them() {
    let nobody = Nobody::new();
    let context = Context::new();
    let req = Req::builder().context(&context).immediate(true).build().expect("good options");
    req.connect(&nobody.endpoint).expect("a good endpoint");
    let begin = std::time::Instant::now();
    let error = req.request_with_retries("anybody?", Duration::from_millis(20), 3).expect_err("nobody is there");
    assert!(begin.elapsed() >= Duration::from_millis(80), "four attempts of 20 ms each: {error}");
    assert!(matches!(error, wiremesh::RequestError::Send(_)), "{error}");
}

#[test]
fn a_request_of_a_socket_of_any_kind_tries_again_until_somebody_is_bound() {
    let context = Context::new();
    let req = AnySocket::builder(SocketKind::Req).context(&context).immediate(true).build().expect("good options");
    let endpoint = Over::Inproc.fixed();
    req.connect(&endpoint).expect("a good endpoint");
    let server = std::thread::spawn({
        let context = context.clone();
        move || {
            std::thread::sleep(Duration::from_millis(60));
            let rep = Rep::in_context(&context);
            rep.bind(&endpoint).expect("bound");
            rep.recv_timeout(PATIENCE).map(|question| rep.send(question))
        }
    });
    let answer = req.request_with_retries("late?", Duration::from_millis(20), 500);
    assert_eq!(answer.expect("an answer in time"), "late?");
    assert!(server.join().expect("no panic").is_ok());
}
