//! Closing, lingering, flushing and shutting down: what returns when, what is still delivered, and what is counted as
//! lost.

#[macro_use]
mod common;

use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use common::{LONG, Net, until};
use wiremesh::{
    AnySocket, Context, Dealer, Error, Pair, Pub, Pull, Push, RecvError, Rep, Req, RequestError, Router, SendFailure,
    Setting, Socket, SocketKind, Sub,
};

over!([tcp ipc inproc]:
    close_ends_a_blocked_receive
    close_ends_a_blocked_send
    close_ends_a_blocked_request
    close_ends_every_other_wait
    shutdown_ends_every_blocked_call
    dropping_the_socket_is_closing_it
    every_call_after_close_says_closed
    the_iterator_ends_when_the_socket_is_closed
    closing_one_end_leaves_the_other_usable
    a_socket_keeps_its_context_alive
    what_was_accepted_is_delivered_after_close
    what_was_accepted_is_delivered_after_disconnect
    without_linger_what_waits_is_dropped_and_counted
    linger_ends_after_its_time
    linger_set_last_is_what_counts
    flush_returns_when_all_is_out
    flush_says_what_is_left_when_time_runs_out
    closing_the_context_says_what_was_not_sent
    closing_the_context_waits_for_what_can_be_sent
    a_context_that_is_closed_takes_no_sockets_into_use
    closing_twice_and_in_any_order_is_fine
);

over!([tcp ipc]:
    a_closed_socket_connects_later_to_deliver
    what_was_accepted_is_delivered_after_unbind
    dropping_the_context_waits_while_messages_move
    dropping_the_context_gives_up_without_progress
    a_program_that_sends_and_returns_from_main_loses_nothing
);

/// What the promise of 50 ms is held to: a machine that runs other tests besides may need several tries.
fn within_promise(mut took: impl FnMut() -> Duration) {
    let times: Vec<Duration> = (0..10)
        .map(|_| took())
        .scan(false, |done, took| {
            let before = *done;
            *done |= took < Duration::from_millis(50);
            (!before).then_some(took)
        })
        .collect();
    assert!(times.last() < Some(&Duration::from_millis(50)), "{times:?}");
}

/// Starts a call, ends it once it blocks, and says how long it took to return.
fn ended<T: Send>(socket: &Socket, end: impl FnOnce(), call: impl FnOnce() -> T + Send) -> (T, Duration) {
    let started = Barrier::new(2);
    thread::scope(|scope| {
        let caller = scope.spawn(|| {
            started.wait();
            let outcome = call();
            (outcome, Instant::now())
        });
        started.wait();
        // Whether the call already sleeps or is on its way there, it has to return.
        for _ in 0..1000 {
            std::hint::black_box(socket.stats());
        }
        let start = Instant::now();
        end();
        let (outcome, returned) = caller.join().unwrap();
        (outcome, returned.saturating_duration_since(start))
    })
}

fn close_ends_a_blocked_receive(net: &Net) {
    within_promise(|| {
        let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
        net.join(&pull, &[&push]);
        let (outcome, took) = ended(&pull, || pull.close(), || pull.recv());
        assert_eq!(outcome.unwrap_err(), RecvError::Closed);
        took
    });
}

fn close_ends_a_blocked_send(net: &Net) {
    within_promise(|| {
        let push = Push::builder().context(&net.context).send_mark(1u32).build().unwrap();
        push.connect(net.fresh()).unwrap();
        push.send("fills the queue").unwrap();
        let (outcome, took) = ended(&push, || push.close(), || push.send("waits"));
        let error = outcome.unwrap_err();
        assert_eq!((error.reason, error.message), (SendFailure::Closed, "waits".into()));
        took
    });
}

fn close_ends_a_blocked_request(net: &Net) {
    within_promise(|| {
        let (req, rep) = (Req::in_context(&net.context), Rep::in_context(&net.context));
        net.join(&rep, &[&req]);
        let (outcome, took) = ended(&req, || req.close(), || req.request("question", LONG));
        let error = outcome.unwrap_err();
        assert!(
            matches!(&error, RequestError::Receive(RecvError::Closed))
                || matches!(&error, RequestError::Send(error) if error.reason == SendFailure::Closed),
            "{error:?}"
        );
        took
    });
}

fn close_ends_every_other_wait(net: &Net) {
    within_promise(|| {
        let publisher = Pub::in_context(&net.context);
        publisher.bind(net.fresh()).unwrap();
        let (outcome, first) = ended(&publisher, || publisher.close(), || publisher.wait_for_peers(1, LONG));
        assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
        let publisher = Pub::in_context(&net.context);
        publisher.bind(net.fresh()).unwrap();
        let (outcome, second) = ended(&publisher, || publisher.close(), || publisher.wait_for_subscribers(1, LONG));
        assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
        let push = Push::in_context(&net.context);
        push.connect(net.fresh()).unwrap();
        push.send("nobody takes this").unwrap();
        let (outcome, third) = ended(&push, || push.close(), || push.flush(LONG));
        assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
        first.max(second).max(third)
    });
}

fn shutdown_ends_every_blocked_call(net: &Net) {
    within_promise(|| {
        let context = Context::builder().drop_wait(Some(Duration::ZERO)).build();
        let sockets = [Pull::in_context(&context), Pull::in_context(&context), Pull::in_context(&context)];
        let full = Push::builder().context(&context).send_mark(1u32).build().unwrap();
        for socket in &sockets {
            socket.bind(net.fresh()).unwrap();
        }
        full.connect(net.fresh()).unwrap();
        full.send("fills the queue").unwrap();
        thread::scope(|scope| {
            let receivers = sockets.each_ref().map(|socket| scope.spawn(|| (socket.recv(), Instant::now())));
            let sender = scope.spawn(|| (full.send("waits"), Instant::now()));
            for _ in 0..1000 {
                std::hint::black_box(full.stats());
            }
            let start = Instant::now();
            context.shutdown();
            let (outcome, mut last) = sender.join().unwrap();
            assert_eq!(outcome.unwrap_err().reason, SendFailure::Closed);
            for receiver in receivers {
                let (outcome, returned) = receiver.join().unwrap();
                assert_eq!(outcome.unwrap_err(), RecvError::Closed);
                last = last.max(returned);
            }
            last.saturating_duration_since(start)
        })
    });
}

fn dropping_the_socket_is_closing_it(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    let endpoint = net.join(&pull, &[&push]);
    let monitor = pull.monitor();
    drop(pull);
    until("the peer notices", || push.stats().connections == 0);
    assert!(monitor.iter().count() >= 1, "and the monitor comes to an end");
    let pull = Pull::in_context(&net.context);
    until("the address is free again", || pull.bind(&endpoint).is_ok());
}

fn every_call_after_close_says_closed(net: &Net) {
    for kind in SocketKind::ALL {
        let socket = AnySocket::in_context(kind, &net.context);
        let endpoint = net.fresh();
        socket.bind(&endpoint).unwrap();
        socket.close();
        assert!(socket.is_closed());
        if !matches!(kind, SocketKind::Pull | SocketKind::Sub) {
            assert_eq!(socket.send("x").unwrap_err().reason, SendFailure::Closed, "{kind}");
            assert_eq!(socket.try_send("x").unwrap_err().reason, SendFailure::Closed, "{kind}");
            assert_eq!(socket.send_timeout("x", LONG).unwrap_err().reason, SendFailure::Closed, "{kind}");
        }
        if !matches!(kind, SocketKind::Push | SocketKind::Pub) {
            assert_eq!(socket.recv().unwrap_err(), RecvError::Closed, "{kind}");
            assert_eq!(socket.try_recv().unwrap_err(), RecvError::Closed, "{kind}");
            assert_eq!(socket.recv_timeout(LONG).unwrap_err(), RecvError::Closed, "{kind}");
        }
        for outcome in [
            socket.bind(net.fresh()).map(drop),
            socket.connect(net.fresh()).map(drop),
            socket.unbind(&endpoint),
            socket.disconnect(&endpoint),
            socket.wait_for_peers(1, LONG),
            socket.flush(LONG),
            socket.set(Setting::SendMark(1)),
        ] {
            assert!(matches!(outcome, Err(Error::Closed)), "{kind}: {outcome:?}");
        }
    }
    let subscriber = Sub::in_context(&net.context);
    subscriber.close();
    assert!(matches!(subscriber.subscribe("x"), Err(Error::Closed)));
    assert!(matches!(subscriber.unsubscribe("x"), Err(Error::Closed)));
    let router = Router::in_context(&net.context);
    router.close();
    assert_eq!(router.send_to("x", "x").unwrap_err().reason, SendFailure::Closed);
}

fn the_iterator_ends_when_the_socket_is_closed(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    net.join(&pull, &[&push]);
    push.send_many(["a", "b", "c"]).unwrap();
    let heard = thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let pull = &pull;
        let listener = scope.spawn(move || pull.iter().inspect(|_| tell.send(()).unwrap()).count());
        for _ in 0..3 {
            told.recv_timeout(LONG).unwrap();
        }
        pull.close();
        listener.join().unwrap()
    });
    assert_eq!(heard, 3);
}

fn closing_one_end_leaves_the_other_usable(net: &Net) {
    let dealer = Dealer::in_context(&net.context);
    let others = [(); 2].map(|()| Dealer::in_context(&net.context));
    net.join(&dealer, &[&others[0], &others[1]]);
    others[0].send("last words").unwrap();
    others[0].close();
    until("it is gone", || dealer.stats().connections == 1);
    assert_eq!(dealer.recv_timeout(LONG).unwrap(), "last words");
    for _ in 0..3 {
        dealer.send("hello").unwrap();
        assert_eq!(others[1].recv_timeout(LONG).unwrap(), "hello");
    }
}

fn a_socket_keeps_its_context_alive(net: &Net) {
    let (left, right) = {
        let context = Context::new();
        (Pair::in_context(&context), Pair::in_context(&context))
    };
    net.join(&left, &[&right]);
    left.send("still here").unwrap();
    assert_eq!(right.recv_timeout(LONG).unwrap(), "still here");
    assert!(!left.context().is_closed());
}

fn what_was_accepted_is_delivered_after_close(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    net.join(&pull, &[&push]);
    let sent = push.send_many((0..5000u32).map(|number| [number.to_le_bytes(); 100].concat())).unwrap();
    push.close();
    for number in 0..sent as u32 {
        assert_eq!(pull.recv_timeout(LONG).unwrap().first()[..4], number.to_le_bytes());
    }
    assert_eq!(push.stats().dropped.total(), 0);
}

fn what_was_accepted_is_delivered_after_disconnect(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    let endpoint = net.join(&pull, &[&push]);
    let sent = push.send_many((0..5000u32).map(|number| [number.to_le_bytes(); 100].concat())).unwrap();
    push.disconnect(&endpoint).unwrap();
    assert!(push.connected().is_empty());
    for number in 0..sent as u32 {
        assert_eq!(pull.recv_timeout(LONG).unwrap().first()[..4], number.to_le_bytes());
    }
    until("the connection is closed", || push.stats().connections == 0 && pull.stats().connections == 0);
    assert_eq!(push.stats().dropped.total(), 0);
    assert_eq!(push.try_send("nobody").unwrap_err().reason, SendFailure::WouldBlock);
}

fn what_was_accepted_is_delivered_after_unbind(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    let endpoint = net.join(&push, &[&pull]);
    let sent = push.send_many((0..5000u32).map(|number| [number.to_le_bytes(); 100].concat())).unwrap();
    push.unbind(&endpoint).unwrap();
    for number in 0..sent as u32 {
        assert_eq!(pull.recv_timeout(LONG).unwrap().first()[..4], number.to_le_bytes());
    }
    until("the connection is closed", || push.stats().connections == 0);
}

fn without_linger_what_waits_is_dropped_and_counted(net: &Net) {
    let push = Push::builder().context(&net.context).linger(Duration::ZERO).build().unwrap();
    push.connect(net.fresh()).unwrap();
    push.send_many(["x"; 10]).unwrap();
    push.close();
    until("they are given up", || push.stats().queued == 0);
    let stats = push.stats();
    assert_eq!((stats.accepted, stats.written, stats.dropped.linger), (10, 0, 10), "{stats:?}");
}

fn linger_ends_after_its_time(net: &Net) {
    let push = Push::builder().context(&net.context).linger(Duration::from_millis(100)).build().unwrap();
    push.connect(net.fresh()).unwrap();
    push.send_many(["x"; 10]).unwrap();
    let start = Instant::now();
    push.close();
    until("they are given up", || push.stats().dropped.linger == 10);
    assert!(!net.is_stream() || start.elapsed() >= Duration::from_millis(100));
}

fn linger_set_last_is_what_counts(net: &Net) {
    let push = Push::in_context(&net.context);
    push.connect(net.fresh()).unwrap();
    push.send_many(["x"; 10]).unwrap();
    push.set(Setting::Linger(Some(Duration::ZERO))).unwrap();
    push.close();
    until("they are given up", || push.stats().dropped.linger == 10);
}

fn flush_returns_when_all_is_out(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    net.join(&pull, &[&push]);
    push.flush(LONG).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2000 {
                pull.recv_timeout(LONG).unwrap();
            }
        });
        push.send_many((0..2000).map(|_| vec![1; 5000])).unwrap();
        push.flush(LONG).unwrap();
        let stats = push.stats();
        assert_eq!((stats.queued, stats.written), (0, 2000), "{stats:?}");
    });
}

fn flush_says_what_is_left_when_time_runs_out(net: &Net) {
    let push = Push::in_context(&net.context);
    push.connect(net.fresh()).unwrap();
    push.send_many(["12345"; 3]).unwrap();
    let error = push.flush(Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(error.to_string().contains("3 messages"), "{error}");
}

fn closing_the_context_says_what_was_not_sent(net: &Net) {
    let context = Context::new();
    let pushes = [Push::in_context(&context), Push::in_context(&context)];
    for push in &pushes {
        push.connect(net.fresh()).unwrap();
        push.send_many([vec![0; 1000], vec![0; 1000]]).unwrap();
    }
    let unsent = context.close(Duration::from_millis(50));
    assert_eq!(unsent.messages, 4, "{unsent:?}");
    assert!((4000..4100).contains(&unsent.bytes), "{unsent:?}");
    assert!(context.is_closed());
}

fn closing_the_context_waits_for_what_can_be_sent(net: &Net) {
    let pull = Pull::in_context(&net.context);
    // Sockets of one process meet within a context only.
    let context = if net.is_stream() { Context::new() } else { net.context.clone() };
    let push = Push::in_context(&context);
    net.join(&pull, &[&push]);
    push.send_many((0..2000u32).map(u32::to_le_bytes)).unwrap();
    if !net.is_stream() {
        // Closing the context closes the receiver too: what it holds is not unsent.
        pull.recv_timeout(LONG).unwrap();
        assert_eq!(context.close(LONG).messages, 0);
        return;
    }
    let unsent = context.close(LONG);
    assert_eq!((unsent.messages, unsent.bytes), (0, 0));
    for number in 0..2000u32 {
        assert_eq!(pull.recv_timeout(LONG).unwrap().first(), number.to_le_bytes());
    }
}

fn a_context_that_is_closed_takes_no_sockets_into_use(net: &Net) {
    let context = Context::new();
    context.shutdown();
    let push = Push::in_context(&context);
    assert!(push.is_closed());
    assert!(matches!(push.bind(net.fresh()), Err(Error::Closed)));
    assert_eq!(push.send("x").unwrap_err().reason, SendFailure::Closed);
}

fn closing_twice_and_in_any_order_is_fine(net: &Net) {
    for order in 0..4 {
        let context = Context::builder().drop_wait(Some(Duration::from_millis(100))).build();
        let (left, right) = (Pair::in_context(&context), Pair::in_context(&context));
        net.join(&left, &[&right]);
        left.send("unread").unwrap();
        match order {
            0 => {
                left.close();
                left.close();
                context.shutdown();
                context.shutdown();
            }
            1 => {
                drop(context);
                drop(right);
                left.close();
            }
            2 => {
                context.close(LONG);
                context.close(LONG);
                right.close();
            }
            _ => {
                right.close();
                left.close();
                drop((left, right));
                assert_eq!(context.close(LONG).messages, 0);
            }
        }
    }
}

fn a_closed_socket_connects_later_to_deliver(net: &Net) {
    let push = Push::in_context(&net.context);
    let endpoint = net.fresh();
    push.connect(&endpoint).unwrap();
    push.send_many(["one", "two"]).unwrap();
    drop(push);
    let pull = Pull::in_context(&net.context);
    pull.bind(&endpoint).unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "one");
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "two");
}

fn dropping_the_context_waits_while_messages_move(net: &Net) {
    const COUNT: u32 = 3000;
    let pull = Pull::builder().context(&net.context).receive_mark(1u32).receive_buffer(4096usize).build().unwrap();
    let endpoint = net.fresh();
    pull.bind(&endpoint).unwrap();
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let context = Context::builder().drop_wait(Some(Duration::from_secs(2))).build();
            let push = Push::builder().context(&context).send_buffer(4096usize).build().unwrap();
            push.connect(&endpoint).unwrap();
            for number in 0..COUNT {
                let mut body = vec![0; 2000];
                body[..4].copy_from_slice(&number.to_le_bytes());
                push.send(body).unwrap();
            }
        });
        for number in 0..COUNT {
            assert_eq!(pull.recv_timeout(LONG).unwrap().first()[..4], number.to_le_bytes());
        }
        sender.join().unwrap();
    });
}

fn dropping_the_context_gives_up_without_progress(net: &Net) {
    let context = Context::builder().drop_wait(Some(Duration::from_millis(100))).build();
    let push = Push::in_context(&context);
    push.connect(net.fresh()).unwrap();
    push.send("nobody takes this").unwrap();
    let start = Instant::now();
    drop((push, context));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(100) && took < LONG, "{took:?}");
}

/// Where the child of the test below sends to.
const CHILD: &str = "WIREMESH_TEST_CHILD";

fn a_program_that_sends_and_returns_from_main_loses_nothing(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let endpoint = net.fresh();
    pull.bind(&endpoint).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_child_that_sends_and_returns"])
        .env(CHILD, &endpoint)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    for number in 0..10_000u32 {
        assert_eq!(pull.recv_timeout(LONG).unwrap().first(), number.to_le_bytes());
    }
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_child_that_sends_and_returns() {
    // Does nothing unless it is run by the test above.
    let Ok(endpoint) = std::env::var(CHILD) else { return };
    let push = Push::new();
    push.connect(endpoint).unwrap();
    push.send_many((0..10_000u32).map(u32::to_le_bytes)).unwrap();
}

#[test]
fn sockets_that_name_no_context_share_one() {
    let (left, right) = (Pair::new(), Pair::new());
    left.bind("inproc://sockets_that_name_no_context_share_one").unwrap();
    right.connect("inproc://sockets_that_name_no_context_share_one").unwrap();
    left.send("hello").unwrap();
    assert_eq!(right.recv_timeout(LONG).unwrap(), "hello");
}
