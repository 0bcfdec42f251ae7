//! Signals and descriptors of the surrounding program: none of them is the library's to break.

use crate::support::child::{self, Process};
use crate::support::measure::{Lateness, Stopwatch};
use crate::support::raw::Raw;
use crate::support::{Over, PATIENCE, alone, eventually, within};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Context, Dealer, Pull, Push, RecvError, Router};

/// A host program may have left SIGPIPE at its default, which is death.
#[test]
fn a_peer_that_is_gone_raises_no_sigpipe() {
    let _turn = alone();
    for over in Over::STREAMS {
        let mut child = Process::start("sigpipe", &[&over.name()]);
        assert_eq!(child.hear(), "alive", "{over:?}");
        child.finish();
    }
}

pub(crate) fn sigpipe(arguments: &[&str]) {
    // SAFETY: sets the disposition of a signal to its default; no handler is involved.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let context = Context::new();
    let push = Push::in_context(&context);
    let endpoint = push.bind(Over::named(arguments[0]).wildcard()).expect("bound");
    for round in 0..50 {
        let mut raw = Raw::connect(endpoint.as_str()).expect("accepted");
        raw.shake_hands("PULL").expect("a socket");
        eventually(PATIENCE, "it is a peer", || push.stats().connections > 0);
        let begin = Instant::now();
        let mut raw = Some(raw);
        while push.stats().connections > 0 {
            // No room and no peer are what is expected in the end.
            let _ = push.try_send(vec![0; 1000 + round]);
            if begin.elapsed() > Duration::from_millis(1) {
                raw = None;
            }
            assert!(begin.elapsed() < PATIENCE, "the loss is noticed");
        }
        drop(raw);
    }
    child::tell("alive");
}

static ALARMS: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_alarm(_: libc::c_int) {
    ALARMS.fetch_add(1, Ordering::Relaxed);
}

/// Handlers that interrupt system calls a thousand times a second.
#[test]
fn calls_that_wait_survive_a_storm_of_signals() {
    let _turn = alone();
    let mut child = Process::start("alarms", &[]);
    let report = child.hear();
    let alarms: u64 = report.parse().unwrap_or_else(|_| panic!("{report}"));
    assert!(alarms > 100, "{alarms} signals");
    child.finish();
}

pub(crate) fn alarms(_: &[&str]) {
    let context = Context::new();
    let router = Router::in_context(&context);
    let endpoint = router.bind("tcp://127.0.0.1:*").expect("bound");
    let dealer = Dealer::in_context(&context);
    dealer.connect(&endpoint).expect("a good endpoint");
    dealer.wait_for_peers(1, PATIENCE).expect("the ROUTER is there");
    // SAFETY: the handler does one atomic addition. All zeroes is a valid `sigaction`: no flags, so that calls are
    // interrupted and not restarted. Both structures live through their calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_alarm as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()), 0);
        let millisecond = libc::timeval { tv_sec: 0, tv_usec: 1000 };
        let timer = libc::itimerval { it_interval: millisecond, it_value: millisecond };
        assert_eq!(libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()), 0);
    }
    let echo = thread::spawn(move || {
        while let Ok((id, message)) = router.recv() {
            router.send_to(&id, message).expect("a ROUTER never waits");
        }
    });
    let begin = Instant::now();
    let mut round = 0u64;
    while begin.elapsed() < Duration::from_millis(500) {
        dealer.send(round.to_le_bytes()).expect("accepted");
        assert_eq!(dealer.recv_timeout(PATIENCE).expect("an answer"), &round.to_le_bytes());
        round += 1;
    }
    // A wait is as long as it was meant to be, whatever interrupts it.
    let pull = Pull::in_context(&context);
    waits_as_long_as_it_should(|wait| dealer.recv_timeout(wait).map(drop));
    waits_as_long_as_it_should(|wait| pull.recv_timeout(wait).map(drop));
    child::tell(ALARMS.load(Ordering::Relaxed));
    drop(echo);
    // The ROUTER's thread still holds it; the process ends as a whole.
    std::process::exit(0);
}

fn waits_as_long_as_it_should(call: impl FnOnce(Duration) -> Result<(), RecvError>) {
    let wait = Duration::from_millis(300);
    let (lateness, watch) = (Lateness::watch(), Stopwatch::start());
    assert_eq!(call(wait), Err(RecvError::TimedOut));
    let (waited, took, late) = (watch.begin.elapsed(), watch.elapsed(), lateness.since(watch.begin));
    assert!(waited >= wait, "{waited:?}");
    assert!(took < wait * 3 + late, "{took:?}, {late:?} late");
}

/// What this program starts gets none of our descriptors.
#[test]
fn no_descriptor_outlives_an_exec() {
    let _turn = alone();
    within(PATIENCE, "a program", || {
        let list = || {
            let output = Command::new("ls").args(["-l", "/proc/self/fd"]).output().expect("a program");
            String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains("->")).count()
        };
        let before = list();
        let context = Context::new();
        let pull = Pull::in_context(&context);
        let push = Push::in_context(&context);
        for over in Over::STREAMS {
            push.connect(pull.bind(over.wildcard()).expect("bound")).expect("a good endpoint");
        }
        pull.wait_for_peers(2, PATIENCE).expect("both are there");
        assert_eq!(list(), before);
    });
}
