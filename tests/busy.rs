//! inproc makes no system call while both sides are busy: two threads exchange messages under a filter that lets no
//! call through and tells of each.
//!
//! A thread that has lost its processor is not busy, and the other one, if it then waits for a lock of this thread, may
//! call the system. Each thread therefore notes when it stood still. A call with which a thread waits for a lock is
//! forgiven, and left out, if the other one stood still during that wait. Any other call ends the exchange.
#![cfg(target_os = "linux")]

mod support;

#[path = "busy/room.rs"]
mod room;

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use support::child::{self, Process};
use support::{PATIENCE, alone, eventually};
use wiremesh::{Context, Pull, Push, RecvError, SendFailure};

/// What an allocator asks of the system, and how its threads wait for each other, is its own affair: this one does
/// neither.
#[global_allocator]
static ROOM: room::Room = room::Room::new();

/// Messages exchanged under the filter, and before it, while buffers find their size.
const MESSAGES: usize = 200_000;
const WARM_UP: usize = 400_000;
/// More octets than an exchange takes.
const AHEAD: usize = 128 << 20;
/// As long as a thread that runs hardly ever needs for one step, and a fifth of what anybody waits before it calls the
/// system.
const STEP: Duration = Duration::from_micros(20);
/// Longer than a thread is without a processor as a rule.
const STANDSTILL: Duration = Duration::from_millis(50);

#[test]
fn role() {
    child::act(|name, arguments| match (name, arguments) {
        ("exchange", [way, size]) => exchange(Way::named(way), size.parse().expect("a number")),
        _ => unreachable!("an unknown role"),
    });
}

/// How the two threads exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// They try until it works.
    Try,
    /// They call what would block, when it will not.
    Block,
    /// The first, and then one thread makes a call.
    Betrayed,
}

impl Way {
    fn named(name: &str) -> Way {
        let all = [Way::Try, Way::Block, Way::Betrayed];
        all.into_iter().find(|way| way.to_string() == name).expect("a known way")
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The number of the system call that ended an exchange, if one did; `None` if the kernel does not let us know.
fn first_call(way: Way, size: usize) -> Option<Option<i64>> {
    let mut child = Process::start("exchange", &[&way, &size]);
    let outcome = child.hear();
    println!("{way}, {size} octets: {outcome}");
    match outcome.split_once(' ') {
        Some(("call", number)) => Some(Some(number.parse().expect("a number"))),
        Some(("refused", reason)) => {
            eprintln!("SKIPPED: no filter for system calls here ({reason}), so nothing is known about them");
            None
        }
        _ => Some(None),
    }
}

/// A call that belongs to the exchange is made in each; one exchange without shows that there is none. The machine may
/// take a processor away several times, each time for too short to be noted.
fn makes_no_call(way: Way) {
    let _turn = alone();
    for size in [8, 48] {
        let mut calls = Vec::new();
        while calls.len() < EXCHANGES {
            let Some(call) = first_call(way, size) else { return };
            let Some(call) = call else { break };
            calls.push(call);
        }
        assert!(
            calls.len() < EXCHANGES,
            "a system call in each exchange of {size} octets, by their numbers: {calls:?}"
        );
    }
}

/// How many exchanges may be disturbed, less one.
const EXCHANGES: usize = 4;

#[test]
fn inproc_makes_no_system_call_while_both_sides_try() {
    makes_no_call(Way::Try);
}

#[test]
fn inproc_makes_no_system_call_in_blocking_calls_that_need_not_block() {
    makes_no_call(Way::Block);
}

#[test]
fn one_planted_system_call_is_noticed() {
    let _turn = alone();
    for _ in 0..EXCHANGES {
        match first_call(Way::Betrayed, 8) {
            None | Some(Some(libc::SYS_getppid)) => return,
            // Disturbed before it came to that.
            Some(Some(_)) => {}
            Some(None) => panic!("a system call went unnoticed"),
        }
    }
    panic!("each exchange was disturbed");
}

/// The system call that ended the exchange.
static CALL: AtomicI64 = AtomicI64::new(NO_CALL);
const NO_CALL: i64 = -1;
/// How often a call was forgiven, and how many more calls these may lead to.
static FORGIVEN: AtomicU64 = AtomicU64::new(0);
static OWED: AtomicU64 = AtomicU64::new(0);
/// The steps of the two threads: a message, or a look in vain.
static STEPS: [Steps; 2] = [const { Steps::new() }; 2];

const SENDER: usize = 0;
const RECEIVER: usize = 1;

thread_local! {
    /// Which of the two this is.
    static ME: Cell<usize> = const { Cell::new(SENDER) };
}

/// When a thread did something, in nanoseconds of [`clock`]. On lines of their own: noting it disturbs nobody who does
/// not look.
#[repr(align(128))]
struct Steps {
    last: AtomicU64,
    /// The end of the last step that took longer than [`STEP`].
    stood_until: AtomicU64,
}

impl Steps {
    const fn new() -> Steps {
        Steps { last: AtomicU64::new(0), stood_until: AtomicU64::new(0) }
    }

    fn mine() -> &'static Steps {
        &STEPS[ME.get()]
    }

    fn others() -> &'static Steps {
        &STEPS[SENDER + RECEIVER - ME.get()]
    }

    fn last(&self) -> u64 {
        self.last.load(Ordering::SeqCst)
    }
}

fn step() {
    let (steps, now) = (Steps::mine(), clock());
    if now - steps.last.load(Ordering::Relaxed) > STEP.as_nanos() as u64 {
        steps.stood_until.store(now, Ordering::Relaxed);
    }
    steps.last.store(now, Ordering::Release);
}

/// Nanoseconds since this was first called; after that it makes no system call.
fn clock() -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// How far the two threads are.
#[derive(Default)]
struct Progress {
    sent: AtomicUsize,
    received: AtomicUsize,
    filtered: AtomicUsize,
    done: AtomicUsize,
}

/// In a child: a sender and a receiver, each on a thread of its own, and this one, which says how it ended and ends it
/// all. The two can do neither any more.
fn exchange(way: Way, size: usize) {
    ROOM.furnish(AHEAD);
    let context = Context::new();
    let (push, pull) = (Push::in_context(&context), Pull::in_context(&context));
    pull.bind("inproc://busy").expect("a free name");
    push.connect("inproc://busy").expect("it is bound");
    report_calls();
    clock();
    let progress = Arc::new(Progress::default());
    let sender = Arc::clone(&progress);
    thread::spawn(move || {
        ME.set(SENDER);
        let body = vec![7; size];
        send(&push, &body, way, &sender, WARM_UP);
        await_filter(&sender);
        send(&push, &body, way, &sender, WARM_UP + MESSAGES);
        end(&sender);
    });
    let receiver = Arc::clone(&progress);
    thread::spawn(move || {
        ME.set(RECEIVER);
        receive(&pull, size, way, &receiver, WARM_UP);
        await_filter(&receiver);
        receive(&pull, size, way, &receiver, WARM_UP + MESSAGES);
        if way == Way::Betrayed {
            // SAFETY: takes nothing and cannot fail.
            unsafe { libc::getppid() };
        }
        end(&receiver);
    });
    eventually(PATIENCE, "the exchange", || {
        // Both processors are taken: looking takes one away.
        thread::sleep(Duration::from_millis(100));
        progress.done.load(Ordering::SeqCst) == 2 || CALL.load(Ordering::SeqCst) != NO_CALL
    });
    match CALL.load(Ordering::SeqCst) {
        NO_CALL => child::tell(format!("quiet, {} calls forgiven", FORGIVEN.load(Ordering::SeqCst))),
        number => child::tell(format!("call {number}")),
    }
    // SAFETY: ends the process here and now.
    unsafe { libc::_exit(0) };
}

fn send(push: &Push, body: &[u8], way: Way, progress: &Progress, until: usize) {
    for number in progress.sent.load(Ordering::SeqCst)..until {
        step();
        match way {
            Way::Try | Way::Betrayed => {
                while let Err(error) = push.try_send(body) {
                    assert_eq!(error.reason, SendFailure::WouldBlock);
                    step();
                }
            }
            Way::Block => {
                // Half of the mark: there is room.
                while number - progress.received.load(Ordering::SeqCst) >= 8_000 {
                    step();
                }
                push.send(body).expect("there is room");
            }
        }
        progress.sent.store(number + 1, Ordering::SeqCst);
    }
}

fn receive(pull: &Pull, size: usize, way: Way, progress: &Progress, until: usize) {
    for number in progress.received.load(Ordering::SeqCst)..until {
        step();
        let message = match way {
            Way::Try | Way::Betrayed => loop {
                match pull.try_recv() {
                    Ok(message) => break message,
                    Err(error) => assert_eq!(error, RecvError::WouldBlock),
                }
                step();
            },
            Way::Block => {
                // There is something.
                while progress.sent.load(Ordering::SeqCst) == number {
                    step();
                }
                pull.recv().expect("it was sent")
            }
        };
        assert_eq!(message.byte_len(), size);
        progress.received.store(number + 1, Ordering::SeqCst);
    }
}

/// Begins the part in which this thread may make no call, together with the other thread.
fn await_filter(progress: &Progress) {
    if let Err(error) = forbid_calls() {
        child::tell(format!("refused {error}"));
        // SAFETY: ends the process here and now.
        unsafe { libc::_exit(0) };
    }
    progress.filtered.fetch_add(1, Ordering::SeqCst);
    while progress.filtered.load(Ordering::SeqCst) < 2 {
        std::hint::spin_loop();
    }
}

/// The end of a thread is a system call too: it waits for the end of the process.
fn end(progress: &Progress) -> ! {
    progress.done.fetch_add(1, Ordering::SeqCst);
    loop {
        step();
    }
}

/// From here on the kernel answers each system call of the calling thread with SIGSYS, and the call's number; but for
/// the one with which a handler ends.
fn forbid_calls() -> std::io::Result<()> {
    // Load the number (the first word of what the filter sees), keep the 16 bits that reach the handler, and trap with
    // them.
    let instruction = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let unless_return = libc::sock_filter { jf: 1, ..instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, RETURN) };
    let mut filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        unless_return,
        instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, libc::SECCOMP_RET_DATA),
        instruction(libc::BPF_ALU | libc::BPF_OR | libc::BPF_K, libc::SECCOMP_RET_TRAP),
        instruction(libc::BPF_RET | libc::BPF_A, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: plain numbers; then a program that lives through the call, which copies it. The filter is this thread's
    // alone.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

const RETURN: u32 = libc::SYS_rt_sigreturn as u32;

/// Whether a call under the filter is forgiven: the other thread stood still, and may have held what this one waits
/// for.
fn is_forgiven(call: i64) -> bool {
    if ![libc::SYS_sched_yield, libc::SYS_futex, libc::SYS_clock_nanosleep].contains(&call) {
        return false;
    }
    if !other_stood_still() {
        // A futex that was waited for is woken by whoever had it next, and that is all that is left of it.
        let owed = |owed: u64| owed.checked_sub(1);
        return call == libc::SYS_futex && OWED.fetch_update(Ordering::SeqCst, Ordering::SeqCst, owed).is_ok();
    }
    if call == libc::SYS_futex {
        OWED.fetch_add(2, Ordering::SeqCst);
    }
    true
}

/// Whether the other thread stood still since the last step of this one. If it does so now, its next step is awaited,
/// as the call would have done; for a while only, as the two may wait for each other.
fn other_stood_still() -> bool {
    let (since, begin, other) = (Steps::mine().last(), clock(), Steps::others());
    let last = other.last();
    while other.last() == last && clock() - begin < STANDSTILL.as_nanos() as u64 {}
    other.last() == last || other.stood_until.load(Ordering::SeqCst) > since
}

/// Lets SIGSYS tell of a call, and keep the thread, which can do nothing else any more, unless the call is forgiven.
fn report_calls() {
    extern "C" fn on_call(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel gives the handler a filled structure. A filter's sixteen bits stand in `si_errno`.
        let call = unsafe { (*info).si_errno }.into();
        if is_forgiven(call) {
            FORGIVEN.fetch_add(1, Ordering::SeqCst);
            return;
        }
        // Only the first is of interest.
        let _ = CALL.compare_exchange(NO_CALL, call, Ordering::SeqCst, Ordering::SeqCst);
        loop {
            std::hint::spin_loop();
        }
    }
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_call;
    // SAFETY: all zeroes is a valid `sigaction`, which is plain numbers.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    (action.sa_sigaction, action.sa_flags) = (handler as usize, libc::SA_SIGINFO);
    // SAFETY: the handler has the signature that SA_SIGINFO asks for, and touches atomics, cells of its thread and the
    // clock alone.
    let result = unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) };
    assert_eq!(result, 0, "a handler for SIGSYS");
}
