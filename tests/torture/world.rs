//! One run in a process of its own: it makes the other processes of the plan, lets all act, has all settle, and judges.

use crate::bystander::{Bystander, bound};
use crate::laws::{Outcome, broken, memory_bound};
use crate::ledger;
use crate::part::{Look, Part, Threads, lock};
use crate::plan::Plan;
use crate::support::child::{self, Process};
use crate::support::holds_within;
use crate::support::measure::{Lateness, holdings, peak_resident, processor_time};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Where all have settled and nothing moves for this long, nothing will.
const STILL: Duration = Duration::from_secs(8);
/// The longest that settling may take while something moves.
const SETTLING: Duration = Duration::from_secs(60);
/// Idle sockets use less of a processor than this share, in percent.
const IDLE: u32 = 25;

/// The process numbers of the others, by their place in the plan.
static OTHERS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Stops one of the other processes until `rest` returns.
pub(crate) fn stop(process: usize, rest: impl FnOnce()) {
    let Some(number) = process.checked_sub(1).and_then(|at| lock(&OTHERS).get(at).copied()) else { return };
    let signal = |signal| {
        // SAFETY: plain numbers; the process is our child and is waited for only when all is over.
        unsafe { libc::kill(number as i32, signal) };
    };
    signal(libc::SIGSTOP);
    rest();
    signal(libc::SIGCONT);
}

fn read_plan(path: &str) -> Plan {
    Plan::parse(&std::fs::read_to_string(path).expect("a plan")).expect("a good plan")
}

/// The role `world`: arguments are the file of the plan and a folder.
pub(crate) fn world(arguments: &[&str]) {
    let (plan, folder) = (read_plan(arguments[0]), PathBuf::from(arguments[1]));
    let lateness = Lateness::watch();
    let mut others = Others::start(&plan, arguments[0], &folder);
    let before = holdings();
    let mut wrong = Vec::new();
    let worst = run(plan, &folder, &mut others, &lateness, &mut wrong);
    wrong.extend(others.end());
    let mut after = holdings();
    let is_back = holds_within(Duration::from_secs(10), || {
        after = holdings();
        after.descriptors <= before.descriptors && after.threads <= before.threads
    });
    if !is_back {
        wrong.push(format!("leak: {after:?} at the end, {before:?} at the beginning"));
    }
    wrong.iter().for_each(|wrong| child::tell(format!("wrong {}", wrong.replace('\n', " "))));
    child::tell(format!("end {}", worst.as_micros()));
}

/// Runs the plan; the worst wait of a bystander.
fn run(plan: Plan, folder: &Path, others: &mut Others, lateness: &Lateness, wrong: &mut Vec<String>) -> Duration {
    let begin = Instant::now();
    let part = Part::new(plan, 0, folder);
    let mut bound_at = part.bind();
    bound_at.extend(others.bound());
    for (endpoint, address) in &bound_at {
        part.know(*endpoint, address);
        others.tell(&format!("endpoint {endpoint} {address}"));
    }
    part.connect();
    others.ask("connect");
    part.await_subscribers();
    others.ask("await");
    let bystanders: Vec<Bystander> = part.contexts.iter().flatten().map(Bystander::start).collect();
    others.ask("go");
    let threads = part.go();
    let end = Instant::now() + Duration::from_millis(part.plan.frame.time);
    while Instant::now() < end && part.look().busy + others.looks().busy > 0 {
        thread::sleep(Duration::from_millis(10));
    }
    part.settle();
    others.ask("settle");
    wrong.extend(settle(&part, others, folder, lateness));
    wrong.extend(memory(&part, others, folder));
    let worst = bystanders.iter().map(Bystander::worst).max().unwrap_or_default();
    let most = bound(lateness, begin);
    if worst > most {
        wrong.push(format!("bystander: it waited for {worst:?}, where {most:?} are allowed"));
    }
    if wrong.is_empty() {
        bystanders.iter().for_each(Bystander::rest);
        others.ask("rest");
        part.rest(true);
        wrong.extend(heat());
        wrong.extend(others.asks("heat").into_iter().filter(|answer| answer != "cool"));
        part.rest(false);
    } else {
        // What is broken cannot be closed in order, and has been told.
        give_up(wrong, worst);
    }
    part.end(threads, bystanders);
    wrong.append(&mut lock(&part.wrong));
    worst
}

/// No process has held more at a time than what was under way can take.
fn memory(part: &Part, others: &mut Others, folder: &Path) -> Vec<String> {
    // Before the ledgers come.
    let mut peaks = vec![peak_resident()];
    peaks.extend(others.asks("peak").iter().map(|answer| answer.parse::<u64>().expect("a number")));
    let mut lives = part.ledger();
    lives.extend(others.ledgers(folder));
    let mut found = Vec::new();
    for (process, peak) in peaks.into_iter().enumerate() {
        let most = memory_bound(&part.plan, &lives, process);
        child::tell(format!("held {} {}", peak >> 20, most >> 20));
        if peak > most {
            found.push(format!("memory: process {process} held {peak} octets, where {most} are allowed"));
        }
    }
    found
}

/// Ends the process at once, with what is wrong.
fn give_up(wrong: &[String], worst: Duration) -> ! {
    wrong.iter().for_each(|wrong| child::tell(format!("wrong {}", wrong.replace('\n', " "))));
    child::tell(format!("end {}", worst.as_micros()));
    std::process::exit(0);
}

/// A process whose sockets are idle uses hardly any processor time.
fn heat() -> Option<String> {
    const SPAN: Duration = Duration::from_millis(200);
    let mut least = u32::MAX;
    let is_cool = holds_within(Duration::from_secs(5), || {
        let (begin, before) = (Instant::now(), processor_time());
        thread::sleep(SPAN);
        let share = (processor_time() - before).as_micros() * 100 / begin.elapsed().as_micros().max(1);
        least = least.min(share as u32);
        least < IDLE
    });
    (!is_cool).then(|| format!("hot: idle sockets use {least} percent of a processor"))
}

/// Waits until the laws hold; those that do not come to hold.
fn settle(part: &Arc<Part>, others: &mut Others, folder: &Path, lateness: &Lateness) -> Vec<String> {
    let (begin, pairs) = (Instant::now(), Part::pairs(&part.plan));
    let (mut last, mut since) = (Look::default(), Instant::now());
    let (mut farewells, mut next) = (0, Instant::now());
    let mut quiet = None;
    loop {
        let look = part.look().with(others.looks());
        let unheard: BTreeSet<(usize, usize)> = pairs.difference(&look.heard).copied().collect();
        if look.busy == 0 && !unheard.is_empty() && Instant::now() >= next && farewells < 24 {
            part.farewell(&unheard);
            let words: Vec<String> = unheard.iter().map(|(from, to)| format!("{from}:{to}")).collect();
            others.ask(&format!("farewell {}", words.join(" ")));
            next = Instant::now() + Duration::from_millis(30) * (farewells + 1).min(40);
            farewells += 1;
        }
        if (look.moved, look.heard.len()) != (last.moved, last.heard.len()) {
            (since, quiet) = (Instant::now(), None);
        }
        last = look.clone();
        let is_over = since.elapsed() > STILL + lateness.since(since) * 5 || begin.elapsed() > SETTLING;
        let is_quiet = unheard.is_empty() && look.queued + look.unread + look.busy + look.strangers == 0;
        if is_quiet && quiet.is_none() {
            quiet = Some(Instant::now());
        }
        // Still for a moment: what the laws need is there, or comes while they are asked again.
        if is_over || (is_quiet && quiet.is_some_and(|quiet| quiet.elapsed() > Duration::from_millis(20))) {
            let mut found = stuck(&look, &unheard);
            let (laws, may_heal) = judge(part, others, folder, lateness.worst());
            found.extend(laws);
            if is_over || found.is_empty() || !may_heal {
                part.log.line(format!("settled in {:?}", begin.elapsed()));
                return found;
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn stuck(look: &Look, unheard: &BTreeSet<(usize, usize)>) -> Vec<String> {
    let mut found = Vec::new();
    if look.busy > 0 {
        found.push(format!("busy: {} threads have not ended their steps", look.busy));
    }
    if look.queued + look.unread > 0 {
        found.push(format!("queued: life:queued/unread{}", look.stuck));
    }
    if look.strangers > 0 {
        found.push(format!("strangers: {} are not done", look.strangers));
    }
    if !unheard.is_empty() {
        let some: Vec<_> = unheard.iter().take(10).collect();
        found.push(format!(
            "silence: {} of the pairs (sender, receiver) have nothing to say to each other: {some:?}",
            unheard.len()
        ));
    }
    found
}

/// The laws that are broken now, and whether all of them may come to hold.
fn judge(part: &Part, others: &mut Others, folder: &Path, late: Duration) -> (Vec<String>, bool) {
    let mut lives = part.ledger();
    lives.extend(others.ledgers(folder));
    let lost = part.memory.lost();
    let found = broken(&Outcome { plan: &part.plan, lives: &lives, lost: &lost, late });
    let may_heal = found.iter().all(|broken| broken.may_heal);
    (found.into_iter().map(|broken| format!("{}: {}", broken.law, broken.what)).collect(), may_heal)
}

impl Look {
    fn with(mut self, other: Look) -> Look {
        self.busy += other.busy;
        self.queued += other.queued;
        self.unread += other.unread;
        self.moved += other.moved;
        self.strangers += other.strangers;
        self.heard.extend(other.heard);
        self.stuck += &other.stuck;
        self
    }

    fn line(&self) -> String {
        let heard: Vec<String> = self.heard.iter().map(|(from, to)| format!("{from}:{to}")).collect();
        let numbers =
            [self.busy, self.queued, self.unread, self.moved, self.strangers].map(|number| number.to_string());
        format!("{}|{}|{}", numbers.join(" "), heard.join(" "), self.stuck)
    }

    fn parse(line: &str) -> Look {
        let mut fields = line.split('|');
        let mut field = || fields.next().expect("three fields");
        let numbers: Vec<u64> = field().split(' ').map(|number| number.parse().expect("a number")).collect();
        Look {
            busy: numbers[0],
            queued: numbers[1],
            unread: numbers[2],
            moved: numbers[3],
            strangers: numbers[4],
            heard: pairs_in(field()),
            stuck: field().to_owned(),
        }
    }
}

fn pairs_in(text: &str) -> BTreeSet<(usize, usize)> {
    let pair = |word: &str| {
        let (from, to) = word.split_once(':').expect("a pair");
        (from.parse().expect("a number"), to.parse().expect("a number"))
    };
    text.split(' ').filter(|word| !word.is_empty()).map(pair).collect()
}

/// The other processes of a run.
struct Others(Vec<Process>);

impl Others {
    fn start(plan: &Plan, file: &str, folder: &Path) -> Others {
        let start = |process: usize| Process::start("part", &[&file, &process, &folder.display()]);
        let others: Vec<Process> = (1..plan.frame.processes).map(start).collect();
        lock(&OTHERS).extend(others.iter().map(Process::id));
        Others(others)
    }

    fn tell(&mut self, line: &str) {
        self.0.iter_mut().for_each(|other| other.say(line));
    }

    /// What each answers.
    fn asks(&mut self, line: &str) -> Vec<String> {
        self.tell(line);
        self.0.iter_mut().map(Process::hear).collect()
    }

    fn ask(&mut self, line: &str) {
        for answer in self.asks(line) {
            assert_eq!(answer, "yes", "{line}");
        }
    }

    fn bound(&mut self) -> Vec<(usize, String)> {
        let mut bound = Vec::new();
        for answer in self.asks("bind") {
            bound.extend(answer.split(' ').filter(|word| !word.is_empty()).map(|word| {
                let (endpoint, address) = word.split_once('=').expect("an endpoint");
                (endpoint.parse().expect("a number"), address.to_owned())
            }));
        }
        bound
    }

    fn looks(&mut self) -> Look {
        self.asks("look").iter().map(|line| Look::parse(line)).fold(Look::default(), Look::with)
    }

    fn ledgers(&mut self, folder: &Path) -> Vec<ledger::Life> {
        let mut lives = Vec::new();
        for (at, other) in self.0.iter_mut().enumerate() {
            let file = folder.join(format!("ledger-{at}"));
            other.say(format!("ledger {}", file.display()));
            assert_eq!(other.hear(), "yes");
            lives.extend(ledger::read(&std::fs::read_to_string(file).expect("a ledger")).expect("a good ledger"));
        }
        lives
    }

    /// What was wrong there at the end.
    fn end(&mut self) -> Vec<String> {
        self.asks("end").into_iter().filter(|answer| answer != "yes").collect()
    }
}

/// The role `part`: arguments are the file of the plan, which process this is, and a folder.
pub(crate) fn part(arguments: &[&str]) {
    let before = holdings();
    let process = arguments[1].parse().expect("a number");
    let part = Part::new(read_plan(arguments[0]), process, Path::new(arguments[2]));
    let mut threads: Option<Threads> = None;
    while let Some(line) = child::listen() {
        let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match command {
            "bind" => {
                let bound: Vec<String> = part.bind().iter().map(|(at, address)| format!("{at}={address}")).collect();
                child::tell(bound.join(" "));
                continue;
            }
            "endpoint" => {
                let (endpoint, address) = rest.split_once(' ').expect("an endpoint");
                part.know(endpoint.parse().expect("a number"), address);
                continue;
            }
            "look" => {
                child::tell(part.look().line());
                continue;
            }
            "heat" => {
                child::tell(heat().unwrap_or_else(|| "cool".to_owned()));
                part.rest(false);
                continue;
            }
            "peak" => {
                child::tell(peak_resident().to_string());
                continue;
            }
            "connect" => part.connect(),
            "await" => part.await_subscribers(),
            "go" => threads = Some(part.go()),
            "settle" => part.settle(),
            "farewell" => part.farewell(&pairs_in(rest)),
            "ledger" => std::fs::write(rest, ledger::write(&part.ledger())).expect("a file"),
            "rest" => part.rest(true),
            "end" => {
                part.end(threads.take().expect("it went"), Vec::new());
                let mut wrong = std::mem::take(&mut *lock(&part.wrong));
                drop(part);
                if !holds_within(Duration::from_secs(10), || holdings().descriptors <= before.descriptors) {
                    wrong.push(format!("leak: {:?} at the end, {before:?} at the beginning", holdings()));
                }
                child::tell(if wrong.is_empty() { "yes".to_owned() } else { wrong.join("; ").replace('\n', " ") });
                return;
            }
            other => panic!("`{other}` is no command"),
        }
        child::tell("yes");
    }
}
