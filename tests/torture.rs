//! The torture test: random topologies, random acts, and laws that must hold when all has settled. Single scenarios
//! find what somebody has thought of; this finds the rest.
//!
//! From a seed comes a plan (`themes.rs`): one to four groups of sockets, each with a theme, in contexts and processes
//! they share. A process of its own runs it (`world.rs`), starts the others, lets the threads act (`acting.rs`,
//! `receiving.rs`, `strangers.rs`), and then has all settle: cuts and pauses end, everybody reads, and every sender
//! says farewell to each of its peers until it is heard. Then the laws are asked.
//!
//! | law | what must be true |
//! |---|---|
//! | integrity, routing, topics, invention | what comes was sent, octet by octet and frame by frame, to this peer, on a topic it has |
//! | once, order | no message comes twice; those of one thread come in their order, across reconnects too |
//! | loss, overcount, publishing, complete | what was accepted and did not come is counted as dropped, to the last message, or was swallowed by the transport in memory when that was cut |
//! | accounting, accepted, reasons | accepted = written + queued + dropped, and nothing is dropped for a reason the options do not allow |
//! | queued, silence, busy, strangers | nothing stays queued or unread, every pair of peers hears of each other, every call returns |
//! | bystander | a pair of sockets in each context, which wants little, is served throughout |
//! | memory | no process has held more at a time than its budgets allow, or than what was sent, a copy for each that may have it |
//! | budget, leak, hot | budgets, descriptors and threads are back where they were, and idle sockets use no processor |
//!
//! Where the application closes, disconnects or unbinds the receiver, what was on its way may be lost
//! (`laws::may_lose`). How much that is over real kernels is not judged.
//!
//! # Use
//!
//! ```text
//! cargo test --test torture                                 40 s of seeds from 1, and the kept cases
//! WIREMESH_TORTURE_SEED=77 WIREMESH_TORTURE_COUNT=1 …       one seed
//! WIREMESH_TORTURE_SECONDS=600 …                            longer; WIREMESH_FULL=1 takes an hour, from a seed of the clock
//! WIREMESH_TORTURE_COLLECT=1 …                              goes on after failures, and tells of each world
//! WIREMESH_TORTURE_EVENTS=1 …                               the logs hold what the monitors of the sockets tell
//! WIREMESH_TORTURE_THEME=Cuts …                             one theme only; its seeds are others
//! WIREMESH_TORTURE_REPLAY=target/torture/77-order/plan.txt  runs a kept plan 100 times (WIREMESH_TORTURE_TIMES), tells how often it fails
//! WIREMESH_PYTHON=…                                         with peers of libzmq
//! ```
//!
//! A run that fails leaves its plan, the laws it broke and the log of every act under `target/torture`. As threads make
//! seeds irreproducible, a replay says how often it fails again. A plan is text: cut it down by hand, and keep it in
//! `tests/torture/cases`, where the second test runs it.
//!
//! # What it found by itself
//!
//! On the tree before the faults of issue 6 were mended, by number in the issue:
//!
//! | fault | seen as | with |
//! |---|---|---|
//! | 1: a paused link that nobody resumes | `strangers`: PINGs between messages | theme PingingPeers, seed 11; `cases/pinging-peers.txt` |
//! | 1: the same at an XPUB | `queued`, `silence`: thousands of subscriptions | theme ManyTopics, seed 4; `cases/many-topics.txt` |
//! | 2 (a): the budget as a trap | `queued`, `silence`: 20 subscribers that read on get nothing | seeds 22, 50 and 58; `cases/late-subscribers.txt` |
//! | 2 (c): those who hold much stop those who hold little | `bystander`: 3.4 s for 300 kB | seeds 9 and 11; `cases/long-messages-beside.txt` |
//! | 2 (d): inproc ends that close at once | `context`: 256 KiB of 2 MiB do not come back | seeds 16 and 12; `cases/both-close.txt` |
//! | 3: a message the peer will not take | `queued` behind it; `loss` of those around it, counted as written | seeds 6, 10 and 48; `cases/over-limit.txt` |
//! | 5: eviction after our READY | `loss`: messages in links that a peer closed and nobody cut | theme ComeBack |
//! | 7: order across reconnects | `order` | seeds 45, 67 and 69; `cases/cuts.txt` |
//! | 8 (e): two threads connect one SUB | `once`: eleven times | seeds 4, 14 and 33; `cases/connected-twice.txt` |
//! | 10: heartbeats and a peer at its mark | `reasons`: accepted messages dropped | seed 23; `cases/beats-at-mark.txt` |
//! | 18: an XPUB nobody receives from | `silence`: its last subscription is not applied | seeds 24, 42 and 59; `cases/unread-xpub.txt` |
//! | 28: another question's answer | `integrity` | seeds 52 and 62; `cases/late-answers.txt` |
//!
//! While they were mended it found that a reservation whose message is refused for its size kept its place for ever
//! (theme OverLimit), that every second sign of life waited for the one after it, so that a peer at its mark was taken
//! for dead (`cases/stopped.txt`), and that a publisher with `nodrop` dropped a message for its later subscribers where
//! the first used the budget up (`cases/nodrop-at-budget.txt`).

mod support;

#[path = "torture/acting.rs"]
mod acting;
#[path = "torture/budget.rs"]
mod budget;
#[path = "torture/bystander.rs"]
mod bystander;
#[path = "torture/laws.rs"]
mod laws;
#[path = "torture/ledger.rs"]
mod ledger;
#[path = "torture/libzmq.rs"]
mod libzmq;
#[path = "torture/maker.rs"]
mod maker;
#[path = "torture/memory.rs"]
mod memory;
#[path = "torture/message.rs"]
mod message;
#[path = "torture/part.rs"]
mod part;
#[path = "torture/plan.rs"]
mod plan;
#[path = "torture/receiving.rs"]
mod receiving;
#[path = "torture/replay.rs"]
mod replay;
#[path = "torture/strangers.rs"]
mod strangers;
#[path = "torture/text.rs"]
mod text;
#[path = "torture/themes.rs"]
mod themes;
#[path = "torture/world.rs"]
mod world;

use plan::Plan;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::{alone, child, is_full};
use text::Word;
use themes::Theme;

/// Not a test: what the child processes of the others do.
#[test]
fn role() {
    child::act(|name, arguments| match name {
        "world" => world::world(arguments),
        "part" => world::part(arguments),
        _ => panic!("there is no role `{name}`"),
    });
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

#[test]
fn the_laws_hold_whatever_random_worlds_do() {
    let _turn = alone();
    if let Some(file) = std::env::var_os("WIREMESH_TORTURE_REPLAY") {
        let times = number("WIREMESH_TORTURE_TIMES").unwrap_or(100) as usize;
        let (failed, laws) = replay::replay(Path::new(&file), times);
        println!("{}: {failed} of {times} runs failed ({laws})", Path::new(&file).display());
        assert_eq!(failed, 0, "of {times} runs: {laws}");
        return;
    }
    let first = number("WIREMESH_TORTURE_SEED").unwrap_or_else(|| if is_full() { clock() } else { 1 });
    let seconds = number("WIREMESH_TORTURE_SECONDS").unwrap_or(if is_full() { 3600 } else { 40 });
    let count = number("WIREMESH_TORTURE_COUNT").unwrap_or(u64::MAX);
    println!("seeds from {first} (WIREMESH_TORTURE_SEED), for {seconds} s (WIREMESH_TORTURE_SECONDS)");
    let search =
        Search { first, count, end: Instant::now() + Duration::from_secs(seconds), ..Search::default_at_once() };
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| search.work());
        }
    });
    search.tell();
}

/// So many worlds at a time.
const WORKERS: usize = 2;

fn clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    since.as_millis() as u64
}

struct Search {
    first: u64,
    count: u64,
    end: Instant,
    next: AtomicU64,
    fails: AtomicBool,
    /// Goes on after a failure, to collect them.
    collects: bool,
    /// All groups have this one theme.
    theme: Option<Theme>,
    worst: Mutex<(Duration, u64)>,
    failures: Mutex<Vec<String>>,
}

impl Search {
    fn default_at_once() -> Search {
        Search {
            first: 0,
            count: 0,
            end: Instant::now(),
            next: AtomicU64::new(0),
            fails: AtomicBool::new(false),
            collects: std::env::var_os("WIREMESH_TORTURE_COLLECT").is_some(),
            theme: std::env::var("WIREMESH_TORTURE_THEME").ok().map(|name| Theme::read(&name).expect("a theme")),
            worst: Mutex::new((Duration::ZERO, 0)),
            failures: Mutex::default(),
        }
    }

    fn work(&self) {
        while Instant::now() < self.end && (self.collects || !self.fails.load(Ordering::SeqCst)) {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            if number >= self.count {
                return;
            }
            self.run(self.first + number);
        }
    }

    fn run(&self, seed: u64) {
        let (made, _) = themes::plan(seed, self.theme);
        let verdict = replay::run(&made);
        let mut worst = self.worst.lock().expect("no panic");
        *worst = (*worst).max((verdict.worst, seed));
        drop(worst);
        if self.collects {
            let (law, took, worst, held) = (verdict.law(), verdict.took, verdict.worst, verdict.held.join(", "));
            println!("seed {seed}: {law} in {took:?}, bystander {worst:?}, MiB held {held}");
        }
        if !verdict.is_good() {
            self.fails.store(true, Ordering::SeqCst);
            let place = replay::keep(&made, &verdict);
            self.failures.lock().expect("no panic").push(failure(seed, &place, &verdict.wrong));
        }
    }

    fn tell(&self) {
        let (worst, seed) = *self.worst.lock().expect("no panic");
        let runs = self.next.load(Ordering::SeqCst).min(self.count);
        println!(
            "{runs} worlds of the seeds from {} to {}; the bystanders' worst wait was {worst:?}, with seed {seed}",
            self.first,
            self.first + runs
        );
        let failures = self.failures.lock().expect("no panic");
        assert!(failures.is_empty(), "{} worlds broke a law:\n{}", failures.len(), failures.join("\n"));
    }
}

fn failure(seed: u64, place: &Path, wrong: &[String]) -> String {
    format!(
        "seed {seed}: {}\n  kept in {}; how often it fails again: WIREMESH_TORTURE_REPLAY={} cargo test --test torture laws_hold",
        wrong.join("\n  "),
        place.display(),
        place.join("plan.txt").display()
    )
}

/// The cases that were found once and are kept.
fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture/cases");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("the cases").flatten().map(|entry| entry.path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    cases.sort();
    cases
}

#[test]
fn the_laws_hold_in_every_kept_case() {
    let _turn = alone();
    let cases = Mutex::new(cases());
    let failures = Mutex::new(Vec::new());
    let work = || {
        while let Some(case) = part::lock(&cases).pop() {
            let text = std::fs::read_to_string(&case).expect("a case");
            let plan = Plan::parse(&text).unwrap_or_else(|why| panic!("{}: {why}", case.display()));
            let verdict = replay::run(&plan);
            if !verdict.is_good() {
                let place = replay::keep(&plan, &verdict);
                part::lock(&failures).push(format!(
                    "{}: {}",
                    case.display(),
                    failure(plan.frame.seed, &place, &verdict.wrong)
                ));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().expect("no panic");
    assert!(failures.is_empty(), "{} cases broke a law:\n{}", failures.len(), failures.join("\n"));
}
