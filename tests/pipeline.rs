//! PUSH and PULL (RFC 30): work is dealt out in turn, taken in in turn, and never lost to a full worker.

#[macro_use]
mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, io, thread};

use common::{LONG, Net, until};
use wiremesh::{AnySocket, Message, Pull, Push, RecvError, SendFailure, Setting, SocketKind};

over!([tcp ipc inproc]:
    work_goes_to_each_worker_in_turn
    the_frames_of_a_message_stay_together
    a_worker_that_joins_gets_its_share
    a_full_worker_is_passed_over_and_loses_nothing
    messages_are_taken_from_each_sender_in_turn
    messages_of_one_sender_stay_in_order
    a_push_without_a_worker_waits
    work_waits_for_a_worker_that_is_not_there_yet
    under_immediate_nothing_waits_for_a_worker_that_is_not_there
    a_sender_at_the_mark_would_block
    a_sender_at_the_mark_blocks_until_there_is_room
    raising_the_mark_makes_room_at_once
    a_mark_of_zero_is_no_limit
    the_byte_mark_admits_one_message_of_any_size
    a_conflating_push_keeps_the_newest_message
    a_conflating_pull_keeps_the_newest_message
    many_are_sent_and_received_in_one_call
    a_million_small_messages_arrive_in_order
    what_a_worker_has_received_stays_readable_when_its_sender_is_gone
);

over!([tcp ipc]:
    work_for_a_lost_worker_waits_for_its_return
    under_immediate_work_for_a_lost_worker_is_dropped_and_counted
);

over!([inproc]:
    the_marks_of_both_ends_add_up
    no_mark_at_either_end_is_no_limit
    a_raised_receive_mark_makes_room_at_once
    no_message_more_than_the_marks_of_both_ends_waits
    a_sender_goes_on_once_half_is_read
);

fn work_goes_to_each_worker_in_turn(net: &Net) {
    let push = Push::in_context(&net.context);
    let workers = [(); 3].map(|()| Pull::in_context(&net.context));
    net.join(&push, &[&workers[0], &workers[1], &workers[2]]);
    for number in 0..12u8 {
        push.send([number]).unwrap();
    }
    let mut firsts = Vec::new();
    for worker in &workers {
        let got: Vec<u8> = (0..4).map(|_| worker.recv_timeout(LONG).unwrap().first()[0]).collect();
        assert_eq!(got, [got[0], got[0] + 3, got[0] + 6, got[0] + 9]);
        firsts.push(got[0]);
    }
    firsts.sort_unstable();
    assert_eq!(firsts, [0, 1, 2]);
}

fn the_frames_of_a_message_stay_together(net: &Net) {
    let push = Push::in_context(&net.context);
    let workers = [(); 2].map(|()| Pull::in_context(&net.context));
    net.join(&push, &[&workers[0], &workers[1]]);
    for number in 0..10u8 {
        push.send(Message::from_iter([vec![number], vec![], vec![number; 300]])).unwrap();
    }
    for worker in &workers {
        for _ in 0..5 {
            let message = worker.recv_timeout(LONG).unwrap();
            let number = message.first()[0];
            assert_eq!(message, Message::from_iter([vec![number], vec![], vec![number; 300]]));
        }
    }
}

fn a_worker_that_joins_gets_its_share(net: &Net) {
    let push = Push::in_context(&net.context);
    let first = Pull::in_context(&net.context);
    let endpoint = net.join(&push, &[&first]);
    push.send("before").unwrap();
    let second = Pull::in_context(&net.context);
    second.connect(&endpoint).unwrap();
    push.wait_for_peers(2, LONG).unwrap();
    push.send_many(["one", "two"]).unwrap();
    assert_eq!(first.recv_timeout(LONG).unwrap(), "before");
    let got = [first.recv_timeout(LONG).unwrap(), second.recv_timeout(LONG).unwrap()];
    assert!(got.contains(&"one".into()) && got.contains(&"two".into()), "{got:?}");
}

fn a_full_worker_is_passed_over_and_loses_nothing(net: &Net) {
    const COUNT: u32 = 2000;
    let push = Push::builder().context(&net.context).send_mark(4u32).build().unwrap();
    let stuck = Pull::builder().context(&net.context).receive_mark(4u32).build().unwrap();
    let busy = Pull::in_context(&net.context);
    net.join(&push, &[&stuck, &busy]);
    let share = AtomicU64::new(u64::MAX);
    let mut numbers = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut numbers = Vec::new();
            while (numbers.len() as u64) < share.load(Ordering::SeqCst) {
                match busy.recv_timeout(Duration::from_millis(10)) {
                    Ok(message) => numbers.push(number_of(&message)),
                    Err(error) => assert_eq!(error, RecvError::TimedOut),
                }
            }
            numbers
        });
        for number in 0..COUNT {
            let mut body = vec![0; 8192];
            body[..4].copy_from_slice(&number.to_le_bytes());
            push.send_timeout(body, LONG).unwrap();
        }
        // Everything that was not for the one that stands still has gone by it.
        let accepted: Vec<u64> = push.peers().iter().map(|peer| peer.stats.accepted).collect();
        assert_eq!(accepted.iter().sum::<u64>(), COUNT.into());
        assert!(accepted.iter().any(|accepted| *accepted < u64::from(COUNT) / 2), "{accepted:?}");
        share.store(*accepted.iter().max().unwrap(), Ordering::SeqCst);
        reader.join().unwrap()
    });
    while numbers.len() < COUNT as usize {
        numbers.push(number_of(&stuck.recv_timeout(LONG).unwrap()));
    }
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..COUNT));
    assert_eq!(stuck.try_recv().unwrap_err(), RecvError::WouldBlock);
}

fn messages_are_taken_from_each_sender_in_turn(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let pushes = [(); 3].map(|()| Push::in_context(&net.context));
    net.join(&pull, &[&pushes[0], &pushes[1], &pushes[2]]);
    for (sender, push) in pushes.iter().enumerate() {
        for number in 0..50u8 {
            push.send(Message::from_iter([[sender as u8], [number]])).unwrap();
        }
    }
    until("all have arrived", || !net.is_stream() || pull.stats().unread == 150);
    let mut next = [0u8; 3];
    for _ in 0..150 {
        let message = pull.recv_timeout(LONG).unwrap();
        let sender = usize::from(message.first()[0]);
        assert_eq!(message.frame(1), Some(&[next[sender]][..]));
        next[sender] += 1;
        let ahead = next.iter().max().unwrap() - next.iter().min().unwrap();
        assert!(ahead <= 1, "one sender is {ahead} messages ahead: {next:?}");
    }
}

fn messages_of_one_sender_stay_in_order(net: &Net) {
    let push = Push::in_context(&net.context);
    let pull = Pull::in_context(&net.context);
    net.join(&pull, &[&push]);
    // Sizes on both sides of every threshold: inline, copied, kept as pieces, read into a buffer of their own.
    let sizes = [0, 1, 70, 71, 255, 256, 8191, 8192, 8193, 65_535, 65_536, 65_537, 300_000];
    let sender = thread::spawn(move || {
        for round in 0..20u8 {
            for size in sizes {
                push.send(Message::from_iter([vec![round], vec![round; size]])).unwrap();
            }
        }
        push
    });
    for round in 0..20u8 {
        for size in sizes {
            let message = pull.recv_timeout(LONG).unwrap();
            assert_eq!(message.first(), [round]);
            let body = message.frame(1).unwrap();
            assert_eq!(body.len(), size);
            assert!(body.iter().all(|octet| *octet == round));
        }
    }
    sender.join().unwrap();
}

fn a_push_without_a_worker_waits(net: &Net) {
    let push = Push::in_context(&net.context);
    push.bind(net.fresh()).unwrap();
    let error = push.try_send("work").unwrap_err();
    assert_eq!(error.reason, SendFailure::WouldBlock);
    assert_eq!(error.message, "work");
    let error = push.send_timeout("work", Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.reason, SendFailure::TimedOut);
    assert_eq!(error.message, "work");
    assert_eq!(push.stats().accepted, 0);
}

fn work_waits_for_a_worker_that_is_not_there_yet(net: &Net) {
    let push = Push::in_context(&net.context);
    let endpoint = net.fresh();
    push.connect(&endpoint).unwrap();
    push.send_many(["one", "two", "three"]).unwrap();
    let pull = Pull::in_context(&net.context);
    pull.bind(&endpoint).unwrap();
    for wanted in ["one", "two", "three"] {
        assert_eq!(pull.recv_timeout(LONG).unwrap(), wanted);
    }
}

fn under_immediate_nothing_waits_for_a_worker_that_is_not_there(net: &Net) {
    let push = Push::builder().context(&net.context).immediate(true).build().unwrap();
    let endpoint = net.fresh();
    push.connect(&endpoint).unwrap();
    assert_eq!(push.try_send("too early").unwrap_err().reason, SendFailure::WouldBlock);
    let pull = Pull::in_context(&net.context);
    pull.bind(&endpoint).unwrap();
    push.send_timeout("in time", LONG).unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "in time");
}

fn a_sender_at_the_mark_would_block(net: &Net) {
    let push = Push::builder().context(&net.context).send_mark(5u32).build().unwrap();
    let endpoint = net.fresh();
    push.connect(&endpoint).unwrap();
    for number in 0..5u8 {
        push.try_send([number]).unwrap();
    }
    let error = push.try_send("one too many").unwrap_err();
    assert_eq!(error.reason, SendFailure::WouldBlock);
    assert_eq!(error.message, "one too many");
    let error = push.send_timeout("one too many", Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.reason, SendFailure::TimedOut);
    let stats = push.stats();
    assert_eq!((stats.accepted, stats.queued), (5, 5));
}

fn a_sender_at_the_mark_blocks_until_there_is_room(net: &Net) {
    let push = Push::builder().context(&net.context).send_mark(5u32).build().unwrap();
    let endpoint = net.fresh();
    push.connect(&endpoint).unwrap();
    let push = &push;
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let sender = scope.spawn(move || {
            tell.send(fs::read_link("/proc/thread-self")).unwrap();
            for number in 0..1000u32 {
                push.send(number.to_le_bytes()).unwrap();
            }
        });
        let thread = told.recv().unwrap();
        until("the sender sleeps at its mark", || push.stats().accepted == 5 && is_asleep(&thread));
        assert!(push.stats().accepted == 5 && !sender.is_finished());
        let pull = Pull::builder().context(&net.context).receive_mark(3u32).build().unwrap();
        pull.bind(&endpoint).unwrap();
        for number in 0..1000 {
            assert_eq!(number_of(&pull.recv_timeout(LONG).unwrap()), number);
        }
        sender.join().unwrap();
    });
}

/// Whether the thread with that folder in `/proc` sleeps in a system call; where there is no such folder, it may.
fn is_asleep(folder: &io::Result<PathBuf>) -> bool {
    let Ok(folder) = folder else { return true };
    // The state follows the name, which stands in parentheses.
    let stat = fs::read_to_string(Path::new("/proc").join(folder).join("stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.starts_with('S')
}

fn raising_the_mark_makes_room_at_once(net: &Net) {
    let push = Push::builder().context(&net.context).send_mark(5u32).build().unwrap();
    push.connect(net.fresh()).unwrap();
    while push.try_send("x").is_ok() {}
    push.set(Setting::SendMark(8)).unwrap();
    for _ in 0..3 {
        push.try_send("x").unwrap();
    }
    assert_eq!(push.try_send("x").unwrap_err().reason, SendFailure::WouldBlock);
    let waiting = thread::scope(|scope| {
        let waiting = scope.spawn(|| push.send_timeout("x", LONG));
        push.set(Setting::SendMark(0)).unwrap();
        waiting.join().unwrap()
    });
    waiting.unwrap();
    assert_eq!(push.stats().queued, 9);
}

fn a_mark_of_zero_is_no_limit(net: &Net) {
    let push = Push::builder().context(&net.context).send_mark(0u32).send_byte_mark(0u64).build().unwrap();
    push.connect(net.fresh()).unwrap();
    for _ in 0..50_000 {
        push.try_send("x").unwrap();
    }
    assert_eq!(push.stats().queued, 50_000);
}

fn the_byte_mark_admits_one_message_of_any_size(net: &Net) {
    let push = Push::builder().context(&net.context).send_byte_mark(1000u64).build().unwrap();
    push.connect(net.fresh()).unwrap();
    push.try_send(vec![1; 5000]).unwrap();
    assert_eq!(push.try_send("x").unwrap_err().reason, SendFailure::WouldBlock);
}

fn a_conflating_push_keeps_the_newest_message(net: &Net) {
    let push = Push::builder().context(&net.context).conflate(true).build().unwrap();
    let endpoint = net.fresh();
    push.connect(&endpoint).unwrap();
    for number in 0..10u8 {
        push.send([number]).unwrap();
    }
    let pull = Pull::in_context(&net.context);
    pull.bind(&endpoint).unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap().first(), [9]);
    until("all is written", || push.stats().queued == 0);
    let stats = push.stats();
    assert_eq!((stats.accepted, stats.written, stats.dropped.conflate), (10, 1, 9));
}

fn a_conflating_pull_keeps_the_newest_message(net: &Net) {
    let push = Push::in_context(&net.context);
    let pull = Pull::builder().context(&net.context).conflate(true).build().unwrap();
    net.join(&pull, &[&push]);
    for number in 0..100u8 {
        push.send([number]).unwrap();
    }
    until("all have arrived", || !net.is_stream() || pull.peers()[0].stats.received == 100);
    assert_eq!(pull.recv_timeout(LONG).unwrap().first(), [99]);
    assert_eq!(pull.try_recv().unwrap_err(), RecvError::WouldBlock);
    assert_eq!(pull.stats().unread, 0, "what it replaced does not wait");
}

fn many_are_sent_and_received_in_one_call(net: &Net) {
    let push = Push::in_context(&net.context);
    let pull = Pull::in_context(&net.context);
    net.join(&pull, &[&push]);
    assert_eq!(push.send_many((0..1000u32).map(u32::to_le_bytes)).unwrap(), 1000);
    let mut numbers = Vec::new();
    while numbers.len() < 1000 {
        let messages = pull.recv_many(64).unwrap();
        assert!((1..=64).contains(&messages.len()));
        numbers.extend(messages.iter().map(number_of));
    }
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    assert!(pull.recv_many(0).unwrap().is_empty());
}

fn a_million_small_messages_arrive_in_order(net: &Net) {
    const COUNT: u32 = 1_000_000;
    let push = Push::in_context(&net.context);
    let pull = Pull::in_context(&net.context);
    net.join(&pull, &[&push]);
    let sender = thread::spawn(move || {
        for number in 0..COUNT {
            push.send(number.to_le_bytes()).unwrap();
        }
        push
    });
    for number in 0..COUNT {
        assert_eq!(number_of(&pull.recv_timeout(LONG).unwrap()), number);
    }
    let push = sender.join().unwrap();
    // What is received may not be counted as written yet: the writer does that when its call returns.
    push.flush(LONG).unwrap();
    let stats = push.stats();
    assert_eq!((stats.accepted, stats.written, stats.dropped.total()), (COUNT.into(), COUNT.into(), 0));
    assert_eq!(pull.stats().received, COUNT.into());
}

fn what_a_worker_has_received_stays_readable_when_its_sender_is_gone(net: &Net) {
    let push = Push::in_context(&net.context);
    let pull = Pull::in_context(&net.context);
    net.join(&pull, &[&push]);
    push.send_many((0..100u32).map(u32::to_le_bytes)).unwrap();
    drop(push);
    until("the sender is gone", || pull.stats().connections == 0);
    for number in 0..100 {
        assert_eq!(number_of(&pull.recv_timeout(LONG).unwrap()), number);
    }
    assert_eq!(pull.try_recv().unwrap_err(), RecvError::WouldBlock);
}

fn work_for_a_lost_worker_waits_for_its_return(net: &Net) {
    let push = Push::in_context(&net.context);
    let pull = Pull::in_context(&net.context);
    let endpoint = net.join(&pull, &[&push]);
    push.send("before").unwrap();
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "before");
    drop(pull);
    until("the loss is noticed", || push.stats().connections == 0);
    push.send_many(["one", "two"]).unwrap();
    let pull = Pull::in_context(&net.context);
    until("the address is free again", || pull.bind(&endpoint).is_ok());
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "one");
    assert_eq!(pull.recv_timeout(LONG).unwrap(), "two");
    assert_eq!(push.stats().reconnects, 1);
}

fn under_immediate_work_for_a_lost_worker_is_dropped_and_counted(net: &Net) {
    let push = Push::builder().context(&net.context).immediate(true).build().unwrap();
    let pull = Pull::builder().context(&net.context).receive_mark(1u32).build().unwrap();
    net.join(&pull, &[&push]);
    while push.try_send(vec![0; 100_000]).is_ok() {}
    drop(pull);
    until("the loss is noticed", || push.stats().connections == 0);
    let stats = push.stats();
    assert_eq!(stats.queued, 0, "{stats:?}");
    assert!(stats.dropped.disconnect > 0 && stats.is_balanced(), "{stats:?}");
    assert_eq!(push.try_send("nobody").unwrap_err().reason, SendFailure::WouldBlock);
}

fn the_marks_of_both_ends_add_up(net: &Net) {
    let push = Push::builder().context(&net.context).send_mark(4u32).build().unwrap();
    let pull = Pull::builder().context(&net.context).receive_mark(6u32).build().unwrap();
    let endpoint = net.fresh();
    push.connect(&endpoint).unwrap();
    assert_eq!(room(&push), 4, "before the other end is there its own mark holds");
    pull.bind(&endpoint).unwrap();
    assert_eq!(room(&push), 6);
}

fn no_mark_at_either_end_is_no_limit(net: &Net) {
    for (send_mark, receive_mark) in [(0u32, 5u32), (5, 0)] {
        let push = Push::builder().context(&net.context).send_mark(send_mark).build().unwrap();
        let pull = Pull::builder().context(&net.context).receive_mark(receive_mark).build().unwrap();
        net.join(&pull, &[&push]);
        for _ in 0..10_000 {
            push.try_send("x").unwrap();
        }
    }
}

fn a_raised_receive_mark_makes_room_at_once(net: &Net) {
    let push = Push::builder().context(&net.context).send_mark(4u32).build().unwrap();
    let pull = Pull::builder().context(&net.context).receive_mark(4u32).build().unwrap();
    net.join(&pull, &[&push]);
    assert_eq!(room(&push), 8);
    pull.set(Setting::ReceiveMark(10)).unwrap();
    assert_eq!(room(&push), 6);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| push.send_timeout("x", LONG));
        pull.set(Setting::ReceiveMark(0)).unwrap();
        waiting.join().unwrap().unwrap();
    });
}

/// Whichever end comes first, and whatever had been queued before they met.
fn no_message_more_than_the_marks_of_both_ends_waits(net: &Net) {
    for (send_mark, receive_mark) in (1..5).flat_map(|send| (1..5).map(move |receive| (send, receive))) {
        for early in [false, true] {
            let push = Push::builder().context(&net.context).send_mark(send_mark).build().unwrap();
            let pull = Pull::builder().context(&net.context).receive_mark(receive_mark).build().unwrap();
            let endpoint = net.fresh();
            let mut waiting = 0;
            if early {
                push.connect(&endpoint).unwrap();
                waiting = room(&push);
                pull.bind(&endpoint).unwrap();
            } else {
                pull.bind(&endpoint).unwrap();
                push.connect(&endpoint).unwrap();
            }
            let most = (send_mark + receive_mark) as usize;
            waiting += room(&push);
            assert_eq!(waiting, most, "{send_mark} and {receive_mark}, early {early}");
            for take in (1..=most).cycle().take(3 * most) {
                for _ in 0..take.min(waiting) {
                    pull.try_recv().unwrap();
                    waiting -= 1;
                }
                waiting += room(&push);
                assert!(waiting <= most, "{waiting} with {send_mark} and {receive_mark}, early {early}");
            }
        }
    }
}

fn a_sender_goes_on_once_half_is_read(net: &Net) {
    let push = Push::builder().context(&net.context).send_mark(4u32).build().unwrap();
    let pull = Pull::builder().context(&net.context).receive_mark(4u32).build().unwrap();
    net.join(&pull, &[&push]);
    assert_eq!(room(&push), 8);
    for _ in 0..3 {
        pull.try_recv().unwrap();
        assert_eq!(push.try_send("x").unwrap_err().reason, SendFailure::WouldBlock);
    }
    pull.try_recv().unwrap();
    assert_eq!(room(&push), 4);
}

#[test]
fn a_pull_does_not_send_and_a_push_does_not_receive() {
    let pull = AnySocket::new(SocketKind::Pull);
    let error = pull.send("no").unwrap_err();
    let reason = SendFailure::NotSupported { kind: SocketKind::Pull, operation: "send" };
    assert_eq!((error.reason, error.message), (reason, "no".into()));
    let push = AnySocket::new(SocketKind::Push);
    let reason = RecvError::NotSupported { kind: SocketKind::Push, operation: "receive" };
    assert_eq!(push.recv().unwrap_err(), reason);
    assert_eq!(push.recv_timeout(LONG).unwrap_err(), reason);
    assert!(push.subscribe("x").is_err());
}

#[test]
fn every_worker_of_a_large_crew_gets_the_same_share() {
    let net = Net::new("tcp");
    let push = Push::in_context(&net.context);
    let workers: Vec<Pull> = (0..16).map(|_| Pull::in_context(&net.context)).collect();
    let sockets: Vec<&wiremesh::Socket> = workers.iter().map(|worker| &**worker).collect();
    net.join(&push, &sockets);
    push.send_many((0..1600u32).map(u32::to_le_bytes)).unwrap();
    let shares: HashMap<_, _> = push.peers().iter().map(|peer| (peer.id, peer.stats.accepted)).collect();
    assert!(shares.len() == 16 && shares.values().all(|share| *share == 100), "{shares:?}");
    for worker in &workers {
        for _ in 0..100 {
            worker.recv_timeout(LONG).unwrap();
        }
    }
}

/// How many messages are accepted until a sender would block.
fn room(push: &Push) -> usize {
    std::iter::from_fn(|| push.try_send("x").ok()).count()
}

fn number_of(message: &Message) -> u32 {
    u32::from_le_bytes(message.first()[..4].try_into().unwrap())
}
