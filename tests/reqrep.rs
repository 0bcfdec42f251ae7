//! REQ and REP (RFC 28): lockstep, envelopes, time limits and retries.

#[macro_use]
mod common;

use std::thread;
use std::time::Duration;

use common::{LONG, Net, until};
use wiremesh::{Dealer, Message, RecvError, Rep, Req, RequestError, Router, RoutingId, SendFailure};

over!([tcp ipc inproc]:
    a_request_gets_its_reply
    frames_of_requests_and_replies_are_kept
    a_second_request_before_the_reply_is_refused_and_handed_back
    a_receive_before_a_request_is_refused
    a_receive_before_the_last_request_is_answered_is_refused
    a_reply_without_a_request_is_refused_and_handed_back
    a_request_has_an_empty_frame_in_front
    a_correlated_request_has_a_number_in_front
    a_correlated_request_takes_the_reply_to_the_latest_one_only
    a_relaxed_req_may_ask_again
    a_relaxed_req_forgets_replies_that_came_before_it_asked_again
    a_reply_goes_back_through_the_whole_envelope
    a_request_without_a_delimiter_is_skipped_and_counted
    requests_go_to_each_server_in_turn
    requests_are_taken_from_each_client_in_turn
    a_reply_of_a_server_that_was_not_asked_is_skipped
    a_reply_without_a_delimiter_is_skipped
    a_req_without_a_server_waits
    a_reply_to_a_client_that_is_gone_is_dropped_and_counted
    an_unanswered_request_times_out_and_the_next_one_works
    a_late_reply_is_not_taken_for_that_of_the_next_request
    a_request_is_sent_again_until_it_is_answered
    retries_end
    threads_that_share_a_req_each_get_their_own_reply
    a_second_thread_sees_the_lockstep_of_the_first
    threads_that_share_a_rep_see_one_lockstep
);

over!([tcp ipc]:
    a_relaxed_req_survives_the_loss_of_its_server
    a_request_that_waits_for_its_server_is_answered_by_the_one_that_comes
);

fn a_request_gets_its_reply(net: &Net) {
    let (req, rep) = (Req::in_context(&net.context), Rep::in_context(&net.context));
    net.join(&rep, &[&req]);
    for number in 0..100u8 {
        req.send([number]).unwrap();
        assert_eq!(rep.recv_timeout(LONG).unwrap().first(), [number]);
        rep.send([number, number]).unwrap();
        assert_eq!(req.recv_timeout(LONG).unwrap().first(), [number, number]);
    }
}

fn frames_of_requests_and_replies_are_kept(net: &Net) {
    let (req, rep) = (Req::in_context(&net.context), Rep::in_context(&net.context));
    net.join(&req, &[&rep]);
    let question = Message::from_iter(["a", "", "b", ""]);
    let answer = Message::from_iter(["", "", "c"]);
    req.send(question.clone()).unwrap();
    assert_eq!(rep.recv_timeout(LONG).unwrap(), question);
    rep.send(answer.clone()).unwrap();
    assert_eq!(req.recv_timeout(LONG).unwrap(), answer);
}

fn a_second_request_before_the_reply_is_refused_and_handed_back(net: &Net) {
    let (req, rep) = (Req::in_context(&net.context), Rep::in_context(&net.context));
    net.join(&rep, &[&req]);
    req.send("first").unwrap();
    for error in [
        req.send("second").unwrap_err(),
        req.try_send("second").unwrap_err(),
        req.send_timeout("second", LONG).unwrap_err(),
    ] {
        assert!(matches!(error.reason, SendFailure::WrongState(_)), "{error}");
        assert_eq!(error.message, "second");
    }
    assert_eq!(rep.recv_timeout(LONG).unwrap(), "first");
    rep.send("reply").unwrap();
    assert_eq!(req.recv_timeout(LONG).unwrap(), "reply");
    req.send("third").unwrap();
    assert_eq!(rep.recv_timeout(LONG).unwrap(), "third");
}

fn a_receive_before_a_request_is_refused(net: &Net) {
    let (req, rep) = (Req::in_context(&net.context), Rep::in_context(&net.context));
    net.join(&rep, &[&req]);
    for error in [req.recv().unwrap_err(), req.try_recv().unwrap_err(), req.recv_timeout(LONG).unwrap_err()] {
        assert!(matches!(error, RecvError::WrongState(_)), "{error}");
    }
}

fn a_receive_before_the_last_request_is_answered_is_refused(net: &Net) {
    let (req, rep) = (Req::in_context(&net.context), Rep::in_context(&net.context));
    net.join(&rep, &[&req]);
    req.send("question").unwrap();
    rep.recv_timeout(LONG).unwrap();
    for error in [rep.recv().unwrap_err(), rep.try_recv().unwrap_err(), rep.recv_timeout(LONG).unwrap_err()] {
        assert!(matches!(error, RecvError::WrongState(_)), "{error}");
    }
    rep.send("answer").unwrap();
    assert_eq!(rep.try_recv().unwrap_err(), RecvError::WouldBlock);
}

fn a_reply_without_a_request_is_refused_and_handed_back(net: &Net) {
    let (req, rep) = (Req::in_context(&net.context), Rep::in_context(&net.context));
    net.join(&rep, &[&req]);
    let error = rep.send("answer").unwrap_err();
    assert!(matches!(error.reason, SendFailure::WrongState(_)), "{error}");
    assert_eq!(error.message, "answer");
    req.send("question").unwrap();
    rep.recv_timeout(LONG).unwrap();
    rep.send("answer").unwrap();
    assert!(matches!(rep.send("again").unwrap_err().reason, SendFailure::WrongState(_)));
}

fn a_request_has_an_empty_frame_in_front(net: &Net) {
    let (req, router) = (Req::in_context(&net.context), Router::in_context(&net.context));
    net.join(&router, &[&req]);
    req.send(Message::from_iter(["a", "b"])).unwrap();
    let (_, request) = router.recv_timeout(LONG).unwrap();
    assert_eq!(request, Message::from_iter(["", "a", "b"]));
}

fn a_correlated_request_has_a_number_in_front(net: &Net) {
    let req = Req::builder().context(&net.context).correlate(true).build().unwrap();
    let router = Router::in_context(&net.context);
    net.join(&router, &[&req]);
    let mut numbers = Vec::new();
    for _ in 0..3 {
        req.send("question").unwrap();
        let (id, request) = router.recv_timeout(LONG).unwrap();
        assert_eq!((request.len(), request.frame(1), request.frame(2)), (3, Some(&b""[..]), Some(&b"question"[..])));
        numbers.push(u32::from_ne_bytes(request.first().try_into().unwrap()));
        router.send_to(id, request).unwrap();
        assert_eq!(req.recv_timeout(LONG).unwrap(), "question");
    }
    assert_eq!(numbers, [numbers[0], numbers[0].wrapping_add(1), numbers[0].wrapping_add(2)]);
}

fn a_correlated_request_takes_the_reply_to_the_latest_one_only(net: &Net) {
    let req = Req::builder().context(&net.context).correlate(true).relaxed(true).build().unwrap();
    let router = Router::in_context(&net.context);
    net.join(&router, &[&req]);
    req.send("first").unwrap();
    req.send("second").unwrap();
    let (id, first) = router.recv_timeout(LONG).unwrap();
    let (_, second) = router.recv_timeout(LONG).unwrap();
    let mut foreign = second.clone();
    foreign.pop_front();
    foreign.push_front([0; 5]);
    for reply in [first, foreign, second] {
        router.send_to(&id, reply).unwrap();
    }
    assert_eq!(req.recv_timeout(LONG).unwrap(), "second");
    assert_eq!(req.stats().discarded, 2);
}

fn a_relaxed_req_may_ask_again(net: &Net) {
    let req = Req::builder().context(&net.context).relaxed(true).build().unwrap();
    let router = Router::in_context(&net.context);
    net.join(&router, &[&req]);
    req.send("first").unwrap();
    req.send("second").unwrap();
    assert_eq!(router.recv_timeout(LONG).unwrap().1, Message::from_iter(["", "first"]));
    let (id, second) = router.recv_timeout(LONG).unwrap();
    router.send_to(id, second).unwrap();
    assert_eq!(req.recv_timeout(LONG).unwrap(), "second");
}

fn a_relaxed_req_forgets_replies_that_came_before_it_asked_again(net: &Net) {
    let req = Req::builder().context(&net.context).relaxed(true).build().unwrap();
    let router = Router::in_context(&net.context);
    net.join(&router, &[&req]);
    req.send("first").unwrap();
    let (id, first) = router.recv_timeout(LONG).unwrap();
    router.send_to(&id, first).unwrap();
    until("the reply has arrived", || !net.is_stream() || req.stats().unread == 1);
    req.send("second").unwrap();
    let (_, second) = router.recv_timeout(LONG).unwrap();
    router.send_to(&id, second).unwrap();
    assert_eq!(req.recv_timeout(LONG).unwrap(), "second");
}

fn a_reply_goes_back_through_the_whole_envelope(net: &Net) {
    let (dealer, rep) = (Dealer::in_context(&net.context), Rep::in_context(&net.context));
    net.join(&rep, &[&dealer]);
    dealer.send(Message::from_iter(["hop 1", "hop 2", "", "question", "more"])).unwrap();
    assert_eq!(rep.recv_timeout(LONG).unwrap(), Message::from_iter(["question", "more"]));
    rep.send(Message::from_iter(["answer", "more"])).unwrap();
    assert_eq!(dealer.recv_timeout(LONG).unwrap(), Message::from_iter(["hop 1", "hop 2", "", "answer", "more"]));
}

fn a_request_without_a_delimiter_is_skipped_and_counted(net: &Net) {
    let (dealer, rep) = (Dealer::in_context(&net.context), Rep::in_context(&net.context));
    net.join(&rep, &[&dealer]);
    dealer.send("no envelope").unwrap();
    dealer.send(Message::from_iter(["no", "delimiter"])).unwrap();
    dealer.send(Message::from_iter(["", "good"])).unwrap();
    assert_eq!(rep.recv_timeout(LONG).unwrap(), "good");
    let stats = rep.stats();
    assert_eq!((stats.received, stats.discarded), (1, 2));
}

fn requests_go_to_each_server_in_turn(net: &Net) {
    let req = Req::in_context(&net.context);
    let servers = [(); 2].map(|()| Rep::in_context(&net.context));
    net.join(&req, &[&servers[0], &servers[1]]);
    let mut served = [0; 2];
    for _ in 0..6 {
        req.send("question").unwrap();
        until("one of them has the question", || {
            servers.iter().enumerate().any(|(index, server)| {
                let got = server.try_recv().is_ok();
                if got {
                    served[index] += 1;
                    server.send("answer").unwrap();
                }
                got
            })
        });
        assert_eq!(req.recv_timeout(LONG).unwrap(), "answer");
        assert!(i32::abs(served[0] - served[1]) <= 1, "{served:?}");
    }
}

fn requests_are_taken_from_each_client_in_turn(net: &Net) {
    let rep = Rep::in_context(&net.context);
    let clients = [(); 2].map(|()| Dealer::in_context(&net.context));
    net.join(&rep, &[&clients[0], &clients[1]]);
    for (client, name) in clients.iter().zip(["left", "right"]) {
        client.send_many((0..10).map(|_| Message::from_iter(["", name]))).unwrap();
    }
    until("all have arrived", || !net.is_stream() || rep.stats().unread == 20);
    let mut last = Message::new();
    for _ in 0..20 {
        let request = rep.recv_timeout(LONG).unwrap();
        assert_ne!(request, last, "the same client was served twice in a row");
        rep.send("answer").unwrap();
        last = request;
    }
}

fn a_reply_of_a_server_that_was_not_asked_is_skipped(net: &Net) {
    let req = Req::builder().context(&net.context).routing_id("client").build().unwrap();
    let servers = [(); 2].map(|()| Router::in_context(&net.context));
    for server in &servers {
        net.join(server, &[&req]);
    }
    req.send("question").unwrap();
    let mut asked = None;
    until("one has the question", || {
        asked = servers.iter().position(|server| server.try_recv().is_ok());
        asked.is_some()
    });
    let asked = asked.unwrap();
    servers[1 - asked].send_to("client", Message::from_iter(["", "unasked"])).unwrap();
    until("the false reply has arrived", || !net.is_stream() || req.stats().unread == 1);
    servers[asked].send_to("client", Message::from_iter(["", "answer"])).unwrap();
    assert_eq!(req.recv_timeout(LONG).unwrap(), "answer");
}

fn a_reply_without_a_delimiter_is_skipped(net: &Net) {
    let req = Req::builder().context(&net.context).routing_id("client").build().unwrap();
    let router = Router::in_context(&net.context);
    net.join(&router, &[&req]);
    req.send("question").unwrap();
    router.recv_timeout(LONG).unwrap();
    router.send_to("client", "bare").unwrap();
    router.send_to("client", Message::from_iter(["x", "marked"])).unwrap();
    router.send_to("client", Message::from_iter(["", "good"])).unwrap();
    assert_eq!(req.recv_timeout(LONG).unwrap(), "good");
}

fn a_req_without_a_server_waits(net: &Net) {
    let req = Req::in_context(&net.context);
    let endpoint = net.fresh();
    req.bind(&endpoint).unwrap();
    assert_eq!(req.try_send("question").unwrap_err().reason, SendFailure::WouldBlock);
    assert_eq!(req.send_timeout("question", Duration::from_millis(20)).unwrap_err().reason, SendFailure::TimedOut);
    let rep = Rep::in_context(&net.context);
    rep.connect(&endpoint).unwrap();
    req.send_timeout("question", LONG).unwrap();
    assert_eq!(rep.recv_timeout(LONG).unwrap(), "question");
}

fn a_reply_to_a_client_that_is_gone_is_dropped_and_counted(net: &Net) {
    let (req, rep) = (Req::in_context(&net.context), Rep::in_context(&net.context));
    let endpoint = net.join(&rep, &[&req]);
    req.send("question").unwrap();
    assert_eq!(rep.recv_timeout(LONG).unwrap(), "question");
    drop(req);
    until("the client is gone", || rep.stats().connections == 0);
    rep.send("answer").unwrap();
    let stats = rep.stats();
    assert_eq!((stats.accepted, stats.dropped.disconnect), (1, 1));
    let req = Req::in_context(&net.context);
    req.connect(&endpoint).unwrap();
    req.send("next").unwrap();
    assert_eq!(rep.recv_timeout(LONG).unwrap(), "next");
}

fn an_unanswered_request_times_out_and_the_next_one_works(net: &Net) {
    let (req, router) = (Req::in_context(&net.context), Router::in_context(&net.context));
    net.join(&router, &[&req]);
    let error = req.request("lost", Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, RequestError::Receive(RecvError::TimedOut)), "{error:?}");
    let server = thread::spawn(move || {
        loop {
            let (id, request) = router.recv_timeout(LONG).unwrap();
            if request.frame(1) == Some(b"kept") {
                router.send_to(id, request).unwrap();
                return router;
            }
        }
    });
    assert_eq!(req.request("kept", LONG).unwrap(), "kept");
    server.join().unwrap();
}

fn a_late_reply_is_not_taken_for_that_of_the_next_request(net: &Net) {
    let (req, router) = (Req::in_context(&net.context), Router::in_context(&net.context));
    net.join(&router, &[&req]);
    let server = thread::spawn(move || {
        let mut early: Option<(RoutingId, Message)> = None;
        loop {
            let (id, request) = router.recv_timeout(LONG).unwrap();
            if let Some((id, request)) = early.take() {
                router.send_to(id, request).unwrap();
            }
            if request.frame(1) == Some(b"second") {
                router.send_to(id, request).unwrap();
                return router;
            }
            early = Some((id, request));
        }
    });
    req.request("first", Duration::from_millis(50)).unwrap_err();
    assert_eq!(req.request("second", LONG).unwrap(), "second");
    server.join().unwrap();
}

fn a_request_is_sent_again_until_it_is_answered(net: &Net) {
    let (req, router) = (Req::in_context(&net.context), Router::in_context(&net.context));
    net.join(&router, &[&req]);
    let server = thread::spawn(move || {
        // The first two are lost; whatever comes from then on is answered.
        for _ in 0..2 {
            router.recv_timeout(LONG).unwrap();
        }
        let mut answered = 0;
        while let Ok((id, request)) = router.recv_timeout(LONG) {
            if request.frame(1) == Some(b"end") {
                return answered;
            }
            router.send_to(id, request).unwrap();
            answered += 1;
        }
        unreachable!("the end comes in time");
    });
    assert_eq!(req.request_with_retries("question", Duration::from_millis(200), 50).unwrap(), "question");
    req.send("end").unwrap();
    assert!(server.join().unwrap() >= 1);
}

fn retries_end(net: &Net) {
    let (req, router) = (Req::in_context(&net.context), Router::in_context(&net.context));
    net.join(&router, &[&req]);
    let error = req.request_with_retries("question", Duration::from_millis(20), 3).unwrap_err();
    // The last attempt may not have found a connection yet: each is replaced before the next.
    assert!(
        matches!(&error, RequestError::Receive(RecvError::TimedOut))
            || matches!(&error, RequestError::Send(error) if error.reason == SendFailure::TimedOut),
        "{error:?}"
    );
}

fn threads_that_share_a_req_each_get_their_own_reply(net: &Net) {
    let (req, rep) = (Req::in_context(&net.context), Rep::in_context(&net.context));
    net.join(&rep, &[&req]);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..400 {
                let question = rep.recv_timeout(LONG).unwrap();
                rep.send(question).unwrap();
            }
        });
        for asker in 0..4u8 {
            let req = &req;
            scope.spawn(move || {
                for number in 0..100u8 {
                    assert_eq!(req.request([asker, number], LONG).unwrap(), &[asker, number]);
                }
            });
        }
    });
    assert_eq!(req.stats().discarded, 0);
}

fn a_second_thread_sees_the_lockstep_of_the_first(net: &Net) {
    let (req, rep) = (Req::in_context(&net.context), Rep::in_context(&net.context));
    net.join(&rep, &[&req]);
    req.send("question").unwrap();
    thread::scope(|scope| {
        let second = scope.spawn(|| req.send("another").unwrap_err());
        assert!(matches!(second.join().unwrap().reason, SendFailure::WrongState(_)));
        let receiver = scope.spawn(|| req.recv_timeout(LONG));
        rep.recv_timeout(LONG).unwrap();
        rep.send("answer").unwrap();
        assert_eq!(receiver.join().unwrap().unwrap(), "answer");
    });
    assert!(matches!(req.recv().unwrap_err(), RecvError::WrongState(_)));
}

fn threads_that_share_a_rep_see_one_lockstep(net: &Net) {
    let (req, rep) = (Req::in_context(&net.context), Rep::in_context(&net.context));
    net.join(&rep, &[&req]);
    req.send("question").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| rep.recv_timeout(LONG).unwrap()).join().unwrap();
        let error = scope.spawn(|| rep.recv().unwrap_err()).join().unwrap();
        assert!(matches!(error, RecvError::WrongState(_)), "{error}");
        scope.spawn(|| rep.send("answer").unwrap()).join().unwrap();
    });
    assert_eq!(req.recv_timeout(LONG).unwrap(), "answer");
}

fn a_relaxed_req_survives_the_loss_of_its_server(net: &Net) {
    let req = Req::builder().context(&net.context).relaxed(true).build().unwrap();
    let rep = Rep::in_context(&net.context);
    let endpoint = net.join(&rep, &[&req]);
    req.send("lost").unwrap();
    assert_eq!(rep.recv_timeout(LONG).unwrap(), "lost");
    drop(rep);
    until("the loss is noticed", || req.stats().connections == 0);
    let rep = Rep::in_context(&net.context);
    until("the address is free again", || rep.bind(&endpoint).is_ok());
    req.send("kept").unwrap();
    assert_eq!(rep.recv_timeout(LONG).unwrap(), "kept");
    rep.send("answer").unwrap();
    assert_eq!(req.recv_timeout(LONG).unwrap(), "answer");
}

fn a_request_that_waits_for_its_server_is_answered_by_the_one_that_comes(net: &Net) {
    let req = Req::in_context(&net.context);
    let endpoint = net.fresh();
    req.connect(&endpoint).unwrap();
    req.send("early").unwrap();
    let rep = Rep::in_context(&net.context);
    rep.bind(&endpoint).unwrap();
    assert_eq!(rep.recv_timeout(LONG).unwrap(), "early");
    rep.send("answer").unwrap();
    assert_eq!(req.recv_timeout(LONG).unwrap(), "answer");
}
