//! What peers that are gone have left unread.

use crate::support::raw::{Raw, frame};
use crate::support::{Over, PATIENCE, eventually};
use std::io::Write;
use std::time::Duration;
use wiremesh::{BudgetHalf, Context, Dealer, Pull, Push, RecvError, Router};

/// How many visitors come, and what each takes at least while the message it has left is unread.
const VISITORS: u64 = 300;
const LEAST: u64 = 700;
/// What a socket may hold without being counted.
const FREE: u64 = 64 << 10;

#[test]
fn peers_that_come_leave_an_octet_and_go_count_with_what_they_take() {
    let context = Context::new();
    let pull = Pull::in_context(&context);
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    for _ in 0..VISITORS {
        let mut visitor = Raw::connect(endpoint.as_str()).expect("somebody is there");
        visitor.shake_hands("PUSH").expect("it is let in");
        visitor.write_all(&frame(false, b"x")).expect("written");
    }
    eventually(PATIENCE, "all have come and gone", || {
        pull.stats().unread == VISITORS && pull.stats().connections == 0 && pull.peers().is_empty()
    });
    let held = context.bytes_held(BudgetHalf::Receiving);
    assert!(held + FREE >= VISITORS * LEAST, "{held} octets are held for {VISITORS} visitors");
    (0..VISITORS).for_each(|_| assert_eq!(pull.recv_timeout(PATIENCE).expect("what a visitor has left"), "x"));
    assert_eq!(pull.try_recv(), Err(RecvError::WouldBlock));
    assert_eq!(context.bytes_held(BudgetHalf::Receiving), 0);
}

#[test]
fn so_do_sockets_of_this_library_that_are_dropped() {
    for over in Over::ALL {
        let context = Context::new();
        let router = Router::in_context(&context);
        let endpoint = router.bind(over.wildcard()).expect("bound");
        for number in 0..VISITORS {
            let dealer = Dealer::builder().context(&context).routing_id(format!("visitor {number}")).build().unwrap();
            dealer.connect(&endpoint).expect("a good endpoint");
            dealer.send("x").expect("accepted");
        }
        eventually(PATIENCE, "all have come and gone", || {
            router.stats().unread == VISITORS && router.stats().connections == 0
        });
        let held = context.bytes_held(BudgetHalf::Receiving);
        assert!(held + FREE >= VISITORS * LEAST, "{over:?}: {held} octets are held for {VISITORS} visitors");
        (0..VISITORS).for_each(|_| assert_eq!(router.recv_timeout(PATIENCE).expect("what one has left").1, "x"));
        assert_eq!(router.try_recv(), Err(RecvError::WouldBlock));
        assert_eq!(context.bytes_held(BudgetHalf::Receiving), 0);
    }
}

#[test]
fn so_do_peers_of_whom_the_newest_message_is_kept() {
    let (context, others) = (Context::new(), Context::new());
    let pull = Pull::builder().context(&context).conflate(true).build().expect("good options");
    let endpoint = pull.bind("tcp://127.0.0.1:*").expect("bound");
    for _ in 0..VISITORS {
        let push = Push::in_context(&others);
        push.connect(&endpoint).expect("a good endpoint");
        push.send_many(["old", "new"]).expect("accepted");
        push.flush(PATIENCE).expect("written");
    }
    eventually(PATIENCE, "all have come and gone", || pull.stats().connections == 0 && pull.peers().is_empty());
    let held = context.bytes_held(BudgetHalf::Receiving);
    assert!(held + FREE >= VISITORS * LEAST, "{held} octets are held for {VISITORS} visitors");
    while pull.try_recv().is_ok() {}
    assert_eq!(context.bytes_held(BudgetHalf::Receiving), 0);
}

#[test]
fn what_came_from_a_peer_is_known_after_the_close_of_a_socket_that_has_not_read_all_of_it() {
    for over in Over::ALL {
        let context = Context::builder().drop_wait(Some(Duration::ZERO)).build();
        let (push, pull) = (Push::in_context(&context), Pull::in_context(&context));
        push.connect(pull.bind(over.wildcard()).expect("bound")).expect("a good endpoint");
        for body in ["read", "left", "left"] {
            push.send(body).expect("there is room");
        }
        let message = pull.recv_timeout(PATIENCE).expect("the first message");
        let peer = message.peer().expect("it came from a peer");
        eventually(PATIENCE, "all have come", || pull.stats().unread == 2);
        let counts = || {
            let stats = pull.peer(peer).expect("it is here, or was lately").stats;
            (stats.received, stats.received_bytes)
        };
        let before = counts();
        let monitor = pull.monitor();
        pull.closer().close();
        eventually(PATIENCE, "the socket is done", || {
            while monitor.try_recv().is_some() {}
            monitor.is_stopped()
        });
        assert_eq!((counts(), before.0), (before, 3), "{over:?}");
    }
}
