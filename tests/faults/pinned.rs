//! Memory that is kept for something else than what is in it: a few messages that are kept of many, and what threads
//! keep for their next reads.

use crate::support::child::{self, Process};
use crate::support::measure::resident;
use crate::support::random::Random;
use crate::support::{Over, PATIENCE, eventually, within};
use std::ffi::OsStr;
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{BudgetHalf, Context, EventKind, Message, Pub, Pull, Push, Sub, XPub, XSub};

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

// ----- longer ones -----

/// The budget of those that keep longer messages as they are. What these pin may be an eighth of it.
const BUDGET: u64 = 64 << 20;
const PINNED: u64 = BUDGET / 8;

/// Sockets of a context with that budget, and of another one where there is no need for the same.
fn pipe(over: Over, budget: u64) -> (Context, Push, Pull) {
    let (context, other) = (Context::builder().byte_budget(Some(budget)).build(), Context::new());
    let pull = Pull::builder().context(&context).receive_mark(1000u32).build().expect("good options");
    let push = Push::builder().context(if over == Over::Inproc { &context } else { &other });
    let push = push.send_mark(1000u32).build().expect("good options");
    push.connect(pull.bind(over.wildcard()).expect("bound")).expect("a good endpoint");
    (context, push, pull)
}

/// The body of a message of 300 to 1000 octets.
fn body(number: usize) -> Vec<u8> {
    vec![number as u8; 300 + number * 7919 % 701]
}

/// Receives so many octets in messages of 300 to 1000, keeps one in five hundred of them, and says how much its memory
/// has grown by that.
pub(crate) fn sparse_keeper(arguments: &[&str]) {
    let (over, stream): (_, usize) = (Over::named(arguments[0]), arguments[1].parse().expect("a number"));
    let (context, push, pull) = pipe(over, BUDGET);
    let (warm_up, count) = (10_000, stream / 650);
    let sender = thread::spawn(move || {
        let bodies: Vec<Vec<u8>> = (0..701).map(body).collect();
        for number in 0..warm_up + count {
            push.send(&bodies[number % bodies.len()][..]).expect("accepted");
        }
    });
    for _ in 0..warm_up {
        pull.recv_timeout(PATIENCE).expect("a message");
    }
    let (before, mut most) = (resident("self"), 0);
    let mut kept = Vec::new();
    for number in warm_up..warm_up + count {
        let message = pull.recv_timeout(PATIENCE).expect("a message");
        if number % 500 == 0 {
            kept.push((number, message));
            most = most.max(context.bytes_held(BudgetHalf::Receiving));
        }
    }
    child::tell(resident("self").saturating_sub(before));
    child::tell(most);
    assert!(kept.iter().all(|(number, message)| *message == body(*number % 701)));
    sender.join().expect("all was sent");
}

/// How much memory a process needs to keep a few messages of 2 GB, and how much it says it holds at most.
fn sparse(over: Over) -> [u64; 2] {
    let mut keeper = Process::start("sparse-keeper", &[&over.name(), &2_000_000_000_usize]);
    [(); 2].map(|()| keeper.hear_within(PATIENCE * 4).parse().expect("a number"))
}

#[test]
fn a_program_that_keeps_one_message_in_five_hundred_of_two_gigabytes_holds_its_share_of_the_budget_at_most() {
    for over in Over::ALL {
        let [growth, held] = sparse(over);
        println!("{over:?}: {growth} octets more, {held} held at most");
        // What it keeps is 6150 messages. Beside what they pin there are those that wait.
        assert!(growth < PINNED + (16 << 20), "{over:?}: they hold {growth} octets");
        assert!(held <= PINNED + (2 << 20), "{over:?}: {held} octets are counted");
    }
}

#[test]
fn what_kept_messages_pin_is_counted_until_the_last_of_them_is_gone() {
    for over in Over::ALL {
        let (context, push, pull) = pipe(over, BUDGET);
        let sender = thread::spawn(move || {
            (0..20_000).for_each(|number| push.send(body(number)).expect("accepted"));
            push
        });
        let mut kept = Vec::new();
        for number in 0..20_000 {
            let message = pull.recv_timeout(PATIENCE).expect("a message");
            if number % 100 == 0 {
                kept.push(message);
            }
        }
        let push = sender.join().expect("all was sent");
        let held = context.bytes_held(BudgetHalf::Receiving);
        assert!((1 << 20..=PINNED + (1 << 20)).contains(&held), "{over:?}: {held} octets are counted");
        // Sockets that are gone do not take with them what their messages hold.
        drop((push, pull));
        let held = context.bytes_held(BudgetHalf::Receiving);
        assert!(held > 1 << 20, "{over:?}: {held} octets are counted");
        kept.clear();
        eventually(PATIENCE, "nothing is held", || context.bytes_held(BudgetHalf::Receiving) == 0);
    }
}

#[test]
fn a_program_that_keeps_all_it_receives_is_never_stopped_and_nobody_is_told_of_a_shortage() {
    within(PATIENCE * 2, "the messages", || {
        for over in Over::ALL {
            let (context, push, pull) = pipe(over, 8 << 20);
            let monitor = pull.monitor();
            let sender = thread::spawn(move || {
                (0..100_000).for_each(|number| push.send(body(number)).expect("accepted"));
                push
            });
            let kept: Vec<Message> = (0..100_000).map(|_| pull.recv_timeout(PATIENCE).expect("a message")).collect();
            let push = sender.join().expect("all was sent");
            assert!(kept.iter().enumerate().all(|(number, message)| *message == body(number)), "{over:?}");
            let held = context.bytes_held(BudgetHalf::Receiving);
            assert!(held <= 1 << 20, "{over:?}: {held} octets are counted");
            let told = std::iter::from_fn(|| monitor.try_recv());
            assert_eq!(told.filter(|event| matches!(event.kind, EventKind::BudgetReached(_))).count(), 0, "{over:?}");
            drop((kept, pull, push));
            eventually(PATIENCE, "nothing is held", || context.bytes_held(BudgetHalf::Receiving) == 0);
        }
    });
}

/// What waits, and what messages that are kept pin, are no more than the half together.
#[test]
fn what_kept_messages_pin_is_taken_from_what_may_wait_and_leaves_a_receiver_room() {
    const HALF: u64 = 8 << 20;
    within(PATIENCE * 2, "the messages", || {
        let (context, push, pull) = pipe(Over::Tcp, 2 * HALF);
        let keep = |every: usize| -> Vec<Message> {
            let sending = (0..20_000).map(body);
            thread::scope(|scope| {
                scope.spawn(|| sending.for_each(|body| push.send(body).expect("accepted")));
                let received = (0..20_000).map(|_| pull.recv_timeout(PATIENCE).expect("a message"));
                received.enumerate().filter(|(number, _)| number % every == 0).map(|(_, message)| message).collect()
            })
        };
        // As much as may be pinned.
        let mut kept = keep(100);
        let held = || context.bytes_held(BudgetHalf::Receiving);
        assert!((HALF / 8..=HALF / 4 + (1 << 20)).contains(&held()), "{} octets are counted", held());
        // Another socket that nobody reads takes all there is.
        let outside = Context::builder().drop_wait(Some(Duration::ZERO)).report_unsent(false).build();
        let flood = Push::builder().context(&outside).send_mark(0u32).build().expect("good options");
        let unread = Pull::builder().context(&context).receive_mark(0u32).build().expect("good options");
        let monitor = unread.monitor();
        flood.connect(unread.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
        (0..3 * HALF / 1000).for_each(|_| flood.send(vec![7; 1000]).expect("accepted"));
        let is_shortage = |kind: &EventKind| matches!(kind, EventKind::BudgetReached(_));
        while !is_shortage(&monitor.recv_timeout(PATIENCE).expect("the half is used up").kind) {}
        assert!(held() <= HALF + (1 << 20), "{} octets are counted", held());
        // Whoever keeps messages goes on meanwhile, and so does whoever does not.
        kept.extend(keep(100));
        kept.extend(keep(usize::MAX));
        assert!(held() <= HALF + (1 << 20), "{} octets are counted", held());
        drop((kept, unread, flood));
        eventually(PATIENCE, "nothing is held", || context.bytes_held(BudgetHalf::Receiving) == 0);
    });
}

/// Receives messages of 2 MiB and of 128 KiB in turn, keeps the shorter ones, and says how much its memory has grown by
/// that.
pub(crate) fn large_keeper(_: &[&str]) {
    let (_context, push, pull) = pipe(Over::Tcp, BUDGET);
    let sizes = || (0..200).map(|number| if number % 2 == 0 { 2 << 20 } else { 128 << 10 });
    let sender = thread::spawn(move || sizes().for_each(|size| push.send(vec![7; size]).expect("accepted")));
    let (mut before, mut kept) = (0, Vec::new());
    for (number, size) in sizes().enumerate() {
        let message = pull.recv_timeout(PATIENCE).expect("a message");
        assert_eq!(message.byte_len(), size);
        if number == 20 {
            before = resident("self");
        }
        if size < 1 << 20 {
            kept.push(message);
        }
    }
    child::tell(resident("self").saturating_sub(before));
    sender.join().expect("all was sent");
}

#[test]
fn a_large_message_that_is_kept_does_not_hold_the_buffer_of_a_much_larger_one() {
    // 90 of 128 KiB, and a few of the larger ones.
    let growth: u64 = Process::start("large-keeper", &[]).hear().parse().expect("a number");
    assert!(growth < 40 << 20, "they hold {growth} octets");
}

/// The two ends of a pipe.
type Receive = Box<dyn Fn() -> Message>;
type Sends = Box<dyn Fn(Vec<u8>) + Send>;

/// Keeps a message now and then of a conflated socket, or of what an XSUB sends an XPUB, and says how much its memory
/// has grown by that.
pub(crate) fn newest_keeper(arguments: &[&str]) {
    let (context, other) = (Context::new(), Context::new());
    let (receive, send): (Receive, Sends) = match arguments[0] {
        "conflated" => {
            let publisher =
                Pub::builder().context(&other).nodrop(true).send_mark(500u32).build().expect("good options");
            let sub = Sub::builder().context(&context).conflate(true).build().expect("good options");
            sub.subscribe("").expect("open");
            sub.connect(publisher.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
            publisher.wait_for_subscribers(1, PATIENCE).expect("it is there");
            let receive = move || sub.recv_timeout(PATIENCE).expect("a message");
            (Box::new(receive), Box::new(move |body| publisher.send(body).expect("accepted")))
        }
        _ => {
            let xpub = XPub::builder().context(&context).receive_mark(1000u32).build().expect("good options");
            // An XSUB does not linger by itself, and what it sent last may still wait when it is dropped.
            let xsub = XSub::builder().context(&other).linger(PATIENCE).build().expect("good options");
            xsub.connect(xpub.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
            xsub.wait_for_peers(1, PATIENCE).expect("it is there");
            let receive = move || xpub.recv_timeout(PATIENCE).expect("a message");
            let send = move |body: Vec<u8>| {
                while xsub.stats().queued > 500 {
                    thread::yield_now();
                }
                xsub.send(body).expect("accepted");
            };
            (Box::new(receive), Box::new(send))
        }
    };
    let sender = thread::spawn(move || {
        (0..200_000).for_each(|number| send(vec![7; 300 + number % 600]));
        send(b"end".to_vec());
    });
    // A conflated one misses most of them.
    let (mut random, one_of) = (Random::new(1), if arguments[0] == "conflated" { 4 } else { 250 });
    let (mut before, mut kept) = (0, Vec::new());
    for received in 0.. {
        let message = receive();
        if message == "end" {
            break;
        }
        if received == 100 {
            before = resident("self");
        }
        if kept.len() < 800 && random.below(one_of) == 0 {
            kept.push(message);
        }
    }
    child::tell(resident("self").saturating_sub(before));
    sender.join().expect("all was sent");
}

#[test]
fn the_newest_message_of_a_conflated_socket_holds_nothing_but_itself() {
    let growth: u64 = Process::start("newest-keeper", &[&"conflated"]).hear().parse().expect("a number");
    assert!(growth < GROWTH, "they hold {growth} octets");
}

#[test]
fn nor_does_what_an_xsub_sends_hold_more() {
    let growth: u64 = Process::start("newest-keeper", &[&"upstream"]).hear().parse().expect("a number");
    assert!(growth < GROWTH, "they hold {growth} octets");
}

#[test]
fn the_newest_message_of_a_conflated_peer_counts_until_it_is_received_or_replaced() {
    for over in Over::ALL {
        let (context, other) = (Context::new(), Context::new());
        let pull = Pull::builder().context(&context).conflate(true).build().expect("good options");
        let push = Push::in_context(if over == Over::Inproc { &context } else { &other });
        push.connect(pull.bind(over.wildcard()).expect("bound")).expect("a good endpoint");
        let held = || context.bytes_held(BudgetHalf::Receiving) + context.bytes_held(BudgetHalf::Sending);
        push.send(vec![1; 3 << 20]).expect("accepted");
        eventually(PATIENCE, "it is counted", || held() > 2 << 20);
        push.send(vec![2; 1 << 20]).expect("accepted");
        eventually(PATIENCE, "it is replaced", || pull.stats().received_bytes > 4 << 20 && held() < 2 << 20);
        assert!(held() > 900_000, "{over:?}: {}", held());
        assert_eq!(pull.recv_timeout(PATIENCE).expect("the newest"), vec![2; 1 << 20]);
        eventually(PATIENCE, "nothing is held", || held() == 0);
    }
}

// ----- what threads keep -----

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
    // What is large is given back to the system as soon as it is freed. The allocator would keep up to four mebibytes
    // of it for itself.
    let allocator = [("GLIBC_TUNABLES", OsStr::new("glibc.malloc.mmap_threshold=65536"))];
    let mut reader = Process::start_in("once-large", &[&endpoint, &way], &allocator);
    push.send("small").expect("accepted");
    assert_eq!(reader.hear(), "ready");
    for _ in 0..LARGE {
        push.send(vec![7; 2 << 20]).expect("accepted");
    }
    let freed = thread::spawn(move || reader.hear());
    while way == "goes on" && !freed.is_finished() {
        // It may have gone by now.
        let _ = push.try_send("small");
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
