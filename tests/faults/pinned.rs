//! Memory that is kept for something else than what is in it: a few messages that are kept of many, and what threads keep for their
//! next reads.

use crate::support::PATIENCE;
use crate::support::child::{self, Process};
use crate::support::measure::resident;
use std::ffi::OsStr;
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Context, Message, Pull, Push};

/// The octets of the messages that come in all.
const STREAM: usize = 100 << 20;
/// How much more memory may be in use in the end than at the start, far below that.
const GROWTH: u64 = 16 << 20;
/// One message of so many octets is kept.
const SPACING: usize = 100_000;

/// Receives messages over tcp, keeps a few, and says how much its memory has grown by that.
pub(crate) fn keeper(arguments: &[&str]) {
    let [size, frames]: [usize; 2] = [0, 1].map(|place| arguments[place].parse().expect("a number"));
    let keep: fn(Message) -> Message = match arguments[2] {
        "as-they-are" => |message| message,
        "detached" => Message::detach,
        "frame-by-frame" => |message| message.into_frames().map(wiremesh::Frame::detach).collect(),
        _ => panic!("keep how?"),
    };
    let context = Context::new();
    let pull = Pull::builder().context(&context).receive_mark(1000u32).build().expect("good options");
    let push = Push::builder().context(&context).send_mark(1000u32).build().expect("good options");
    push.connect(pull.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
    let (warm_up, count) = (STREAM / 10 / size / frames, STREAM / size / frames);
    let sender = thread::spawn(move || {
        let message: Message = (0..frames).map(|_| vec![7; size]).collect();
        for _ in 0..warm_up + count {
            push.send(&message).expect("accepted");
        }
    });
    for _ in 0..warm_up {
        pull.recv_timeout(PATIENCE).expect("a message");
    }
    let before = resident("self");
    let mut kept = Vec::new();
    for number in 0..count {
        let message = pull.recv_timeout(PATIENCE).expect("a message");
        if number % (SPACING / size / frames) == 0 {
            kept.push(keep(message));
        }
    }
    child::tell(resident("self").saturating_sub(before));
    assert!(kept.iter().all(|message| message.iter().all(|frame| frame == vec![7; size])));
    sender.join().expect("all was sent");
}

fn growth(size: usize, frames: usize, keep: &str) -> u64 {
    Process::start("keeper", &[&size, &frames, &keep]).hear().parse().expect("a number")
}

#[test]
fn short_messages_that_are_kept_do_not_hold_what_came_with_them() {
    for size in [100, 256] {
        let growth = growth(size, 1, "as-they-are");
        assert!(growth < GROWTH, "messages of {size} octets hold {growth} octets");
    }
}

#[test]
fn nor_do_those_of_several_short_frames() {
    let growth = growth(100, 3, "as-they-are");
    assert!(growth < GROWTH, "they hold {growth} octets");
}

#[test]
fn nor_do_longer_ones_that_are_detached() {
    for keep in ["detached", "frame-by-frame"] {
        let growth = growth(1000, 1, keep);
        assert!(growth < GROWTH, "{keep} they hold {growth} octets");
    }
    let growth = growth(1000, 2, "detached");
    assert!(growth < GROWTH, "of two frames they hold {growth} octets");
}

/// Receives large messages, and says when its memory is what it was before them.
pub(crate) fn once_large(arguments: &[&str]) {
    let context = Context::builder().engine_only(arguments[1] == "engine").build();
    let pull = Pull::in_context(&context);
    pull.connect(arguments[0]).expect("a good endpoint");
    assert_eq!(pull.recv_timeout(PATIENCE).expect("a small one"), "small");
    let before = in_use();
    child::tell("ready");
    for _ in 0..LARGE {
        assert_eq!(pull.recv_timeout(PATIENCE).expect("a large one").byte_len(), 2 << 20);
    }
    let begin = Instant::now();
    // Until then one that goes on receives small ones.
    let goes_on = arguments[1] == "goes on";
    while in_use() > before + (1 << 20) {
        assert!(begin.elapsed() < PATIENCE, "{} octets are still in use", in_use() - before);
        match goes_on {
            true => assert_eq!(pull.recv_timeout(PATIENCE).expect("a small one"), "small"),
            false => thread::sleep(Duration::from_millis(20)),
        }
    }
    child::tell("freed");
}

/// The octets of memory in use, without what the allocator keeps.
fn in_use() -> u64 {
    // SAFETY: takes and returns plain numbers.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
    resident("self")
}

fn frees_what_it_keeps(way: &str) {
    let push = Push::in_context(&Context::new());
    let endpoint = push.bind("tcp://127.0.0.1:*").expect("bound");
    // What is large is given back to the system as soon as it is freed. The allocator would keep up to four mebibytes of it for itself.
    let allocator = [("GLIBC_TUNABLES", OsStr::new("glibc.malloc.mmap_threshold=65536"))];
    let mut reader = Process::start_in("once-large", &[&endpoint, &way], &allocator);
    push.send("small").expect("accepted");
    assert_eq!(reader.hear(), "ready");
    for _ in 0..LARGE {
        push.send(vec![7; 2 << 20]).expect("accepted");
    }
    let freed = thread::spawn(move || reader.hear());
    while way == "goes on" && !freed.is_finished() {
        push.send("small").expect("accepted");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(freed.join().expect("it says so"), "freed");
}

#[test]
fn a_thread_that_received_large_messages_once_gives_their_memory_back_though_it_does_not_come_again() {
    frees_what_it_keeps("goes");
}

#[test]
fn so_does_one_that_goes_on_with_small_messages() {
    frees_what_it_keeps("goes on");
}

#[test]
fn so_does_an_engine_thread() {
    frees_what_it_keeps("engine");
}

/// How many large messages come.
const LARGE: usize = 20;
