//! Long messages, which their sender writes itself as long as the peer takes them quickly: whole, once and in order,
//! whatever happens to the peer, the connection or the socket meanwhile.

#[macro_use]
mod common;
#[path = "common/raw.rs"]
mod raw;

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::{LONG, Net, until};
use raw::Raw;
use wiremesh::{Context, Dealer, Frame, Message, Pull, Push, SendFailure, Stats};

over!([tcp ipc inproc]:
    long_and_short_messages_in_any_form_arrive_in_order
    a_slow_worker_does_not_hold_up_a_quick_one
    the_law_holds_at_every_moment
    without_adaptive_spin_nothing_but_time_changes
    a_peer_that_stands_still_is_sent_to_up_to_the_mark
    threads_that_share_a_socket_keep_their_own_order
    dealers_that_both_send_and_do_not_receive_get_done
    a_close_under_a_long_send_delivers_what_was_accepted
);

over!(crate::driven_by_the_engine_alone => [tcp ipc]:
    engine_threads_alone_bring_them_as_well
);

const MIB: usize = 1 << 20;

fn driven_by_the_engine_alone(scheme: &'static str) -> Net {
    Net::with(scheme, Context::builder().engine_only(true).build())
}

/// A body of that length that tells its number and whether a part of it is elsewhere.
fn body(number: u64, length: usize) -> Vec<u8> {
    let mut body: Vec<u8> = (0..length).map(|place| (place / 4096) as u8 ^ number as u8).collect();
    body[..8].copy_from_slice(&number.to_le_bytes());
    body
}

fn obeys_the_law(stats: &Stats) -> bool {
    stats.accepted == stats.written + stats.queued + stats.dropped.total()
}

fn long_and_short_messages_in_any_form_arrive_in_order(net: &Net) {
    const LENGTHS: [usize; 9] = [8, 32 * 1024, 32 * 1024 + 1, 64 * 1024, 200_000, MIB, 100, 3 * MIB + 7, 65 * 1024];
    let (pull, push) = (Pull::in_context(&net.context), Push::in_context(&net.context));
    net.join(&pull, &[&push]);
    let count = 180;
    let length = |number: u64| LENGTHS[number as usize % LENGTHS.len()];
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..count {
                let body = body(number, length(number));
                match number / 9 % 5 {
                    0 => push.send(&body[..]).unwrap(),
                    1 => push.send(body).unwrap(),
                    2 => push.send_timeout(&body, LONG).unwrap(),
                    3 => push.send([&body[..], b"tail"].into_iter().map(Frame::from).collect::<Message>()).unwrap(),
                    _ => {
                        while let Err(refused) = push.try_send(&body[..]) {
                            assert_eq!(refused.reason, SendFailure::WouldBlock);
                            thread::yield_now();
                        }
                    }
                }
            }
        });
        for number in 0..count {
            let message = pull.recv_timeout(LONG).unwrap();
            assert_eq!(message.len(), if number / 9 % 5 == 3 { 2 } else { 1 });
            assert!(message.iter().next().unwrap()[..] == body(number, length(number))[..], "message {number}");
        }
    });
    assert_eq!(push.stats().written, count);
    assert!(obeys_the_law(&push.stats()));
}

fn engine_threads_alone_bring_them_as_well(net: &Net) {
    long_and_short_messages_in_any_form_arrive_in_order(net);
}

fn a_peer_that_stands_still_is_sent_to_up_to_the_mark(net: &Net) {
    let pull = Pull::builder().context(&net.context).receive_mark(2u32).build().unwrap();
    let push = Push::builder().context(&net.context).send_mark(20u32).build().unwrap();
    net.join(&pull, &[&push]);
    // Nobody receives: what fits below the marks is taken all the same, and no more.
    let mut sent = 0;
    while push.send_timeout(body(sent, MIB), Duration::from_millis(300)).is_ok() {
        sent += 1;
        assert!(sent < 60, "the marks do not hold");
    }
    assert!(sent >= 20, "{sent} below a mark of 20");
    assert!(obeys_the_law(&push.stats()));
    for number in 0..sent {
        assert!(pull.recv_timeout(LONG).unwrap() == body(number, MIB)[..], "message {number}");
    }
    // It is trusted again.
    for number in 0..100 {
        push.send(body(number, MIB)).unwrap();
        assert!(pull.recv_timeout(LONG).unwrap() == body(number, MIB)[..], "message {number}");
    }
}

fn threads_that_share_a_socket_keep_their_own_order(net: &Net) {
    const EACH: u64 = 60;
    let (pull, push) = (Pull::in_context(&net.context), Push::in_context(&net.context));
    net.join(&pull, &[&push]);
    thread::scope(|scope| {
        for sender in 0..4 {
            let push = &push;
            scope.spawn(move || {
                for number in 0..EACH {
                    push.send(body(sender << 32 | number, 300_000)).unwrap();
                }
            });
        }
        let mut next = [0; 4];
        for _ in 0..4 * EACH {
            let message = pull.recv_timeout(LONG).unwrap();
            let number = u64::from_le_bytes(message.first()[..8].try_into().unwrap());
            assert!(message == body(number, 300_000)[..]);
            let next = &mut next[(number >> 32) as usize];
            assert_eq!(number & 0xffff_ffff, *next);
            *next += 1;
        }
    });
    assert!(obeys_the_law(&push.stats()));
}

fn dealers_that_both_send_and_do_not_receive_get_done(net: &Net) {
    let (here, there) = (Dealer::in_context(&net.context), Dealer::in_context(&net.context));
    net.join(&here, &[&there]);
    thread::scope(|scope| {
        for dealer in [&here, &there] {
            scope.spawn(move || (0..30).for_each(|number| dealer.send(body(number, MIB)).unwrap()));
        }
    });
    for dealer in [&here, &there] {
        for number in 0..30 {
            assert!(dealer.recv_timeout(LONG).unwrap() == body(number, MIB)[..], "message {number}");
        }
    }
}

fn a_close_under_a_long_send_delivers_what_was_accepted(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let push = Arc::new(Push::in_context(&net.context));
    net.join(&pull, &[&push]);
    let sent = Arc::new(AtomicU64::new(0));
    let sender = thread::spawn({
        let (push, sent) = (Arc::clone(&push), Arc::clone(&sent));
        move || {
            while push.send(body(sent.load(Ordering::SeqCst), 2 * MIB)).is_ok() {
                sent.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    until("a few are sent", || sent.load(Ordering::SeqCst) >= 3);
    push.close();
    sender.join().unwrap();
    for number in 0..sent.load(Ordering::SeqCst) {
        assert!(pull.recv_timeout(LONG).unwrap() == body(number, 2 * MIB)[..], "message {number}");
    }
    assert!(pull.recv_timeout(Duration::from_millis(20)).is_err(), "what was refused has not gone out");
}

fn a_slow_worker_does_not_hold_up_a_quick_one(net: &Net) {
    let [slow, quick] = [(); 2].map(|()| Pull::builder().context(&net.context).receive_mark(1u32).build().unwrap());
    let push = Push::builder().context(&net.context).send_mark(4u32).build().unwrap();
    net.join(&slow, &[&push]);
    net.join(&quick, &[&push]);
    let done = thread::scope(|scope| {
        let sender = scope.spawn(|| (0..100).for_each(|number| push.send(body(number, MIB)).unwrap()));
        // The slow one receives nothing until all the rest is through.
        let mut done = Vec::new();
        while !sender.is_finished() {
            if let Ok(message) = quick.recv_timeout(Duration::from_millis(5)) {
                done.push(u64::from_le_bytes(message.first()[..8].try_into().unwrap()));
            }
        }
        done
    });
    assert!(done.len() > 70 && done.is_sorted(), "{done:?}");
    assert!(obeys_the_law(&push.stats()));
}

fn the_law_holds_at_every_moment(net: &Net) {
    let (pull, push) = (Pull::in_context(&net.context), Push::in_context(&net.context));
    net.join(&pull, &[&push]);
    thread::scope(|scope| {
        let push = &push;
        let senders = [8, 40_000, MIB].map(|length| {
            scope.spawn(move || {
                for number in 0..(40 * MIB / (length + 100_000)) as u64 {
                    push.send(body(number, length)).unwrap();
                    push.send(body(number, length)).unwrap();
                }
            })
        });
        let receiver = scope.spawn(|| while pull.recv_timeout(LONG).unwrap() != "done" {});
        while !senders.iter().all(|sender| sender.is_finished()) {
            let stats = push.stats();
            assert!(obeys_the_law(&stats), "{stats:?}");
        }
        push.send("done").unwrap();
        receiver.join().unwrap();
    });
    push.flush(LONG).unwrap();
    let stats = push.stats();
    assert_eq!((stats.queued, stats.written, stats.accepted), (0, stats.accepted, pull.stats().received));
}

fn without_adaptive_spin_nothing_but_time_changes(net: &Net) {
    let [left, right] = [(); 2].map(|()| Dealer::builder().context(&net.context).adaptive_spin(false).build().unwrap());
    net.join(&left, &[&right]);
    thread::scope(|scope| {
        scope.spawn(|| (0..300).for_each(|_| right.send(right.recv_timeout(LONG).unwrap()).unwrap()));
        for number in 0..300 {
            let body = body(number, [8, 100, MIB][number as usize % 3]);
            left.send(&body).unwrap();
            assert!(left.recv_timeout(LONG).unwrap() == body[..], "message {number}");
        }
    });
}

/// Reads the header of a message of one long frame.
fn read_header(raw: &mut Raw, length: usize) {
    let mut header = [0; 9];
    raw.0.read_exact(&mut header).unwrap();
    assert_eq!((header[0], &header[1..]), (0x02, &(length as u64).to_be_bytes()[..]));
}

/// The peer's end of a connection over which a long message has begun to come.
fn begun(listener: &TcpListener) -> Raw {
    let mut raw = Raw::accept(listener);
    raw.shake_hands(1, "PULL");
    read_header(&mut raw, 4 * MIB);
    raw
}

#[test]
fn a_long_message_that_a_lost_connection_cuts_goes_out_again_whole_and_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let push = Push::builder().reconnect_interval(Duration::from_millis(5)).build().unwrap();
    push.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            push.wait_for_peers(1, LONG).unwrap();
            push.send(body(7, 4 * MIB)).unwrap();
        });
        drop(begun(&listener));
        let mut raw = begun(&listener);
        push.close();
        assert!(raw.read_to_end() == body(7, 4 * MIB));
    });
    until("it is written", || push.stats().written == 1);
    assert!(obeys_the_law(&push.stats()));
}

#[test]
fn a_long_message_to_a_peer_that_goes_is_counted_as_dropped() {
    let push = Push::new();
    let endpoint = push.bind("tcp://127.0.0.1:*").unwrap();
    let mut raw = Raw::connect(endpoint.as_str().strip_prefix("tcp://").unwrap());
    raw.shake_hands(1, "PULL");
    push.wait_for_peers(1, LONG).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| push.send(body(7, 16 * MIB)).unwrap());
        read_header(&mut raw, 16 * MIB);
        drop(raw);
    });
    until("it is dropped", || push.stats().dropped.disconnect == 1);
    let stats = push.stats();
    assert!(stats.written == 0 && stats.accepted == 1 && obeys_the_law(&stats), "{stats:?}");
}

#[test]
fn a_flush_ends_when_the_peer_goes_that_a_long_message_is_written_to() {
    let push = Push::new();
    let endpoint = push.bind("tcp://127.0.0.1:*").unwrap();
    for round in 0..20 {
        let mut raw = Raw::connect(endpoint.as_str().strip_prefix("tcp://").unwrap());
        raw.shake_hands(1, "PULL");
        push.wait_for_peers(1, LONG).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| push.send(body(round, 16 * MIB)).unwrap());
            read_header(&mut raw, 16 * MIB);
            let flush = scope.spawn(|| push.flush(LONG));
            drop(raw);
            flush.join().unwrap().unwrap();
        });
        until("the peer is gone", || push.stats().connections == 0);
    }
    assert_eq!(push.stats().dropped.disconnect, 20);
}
