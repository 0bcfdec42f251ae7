//! `cargo xtask peers`: wiremesh in conversation with other implementations, each pattern, either side binding.
//!
//! Whoever takes part is a program that plays the roles of `benches/compare/harness`: the subjects of the bench, and in
//! other languages those of `tests/peers`. Each receiver sees to it that all messages come whole and in order. Wiremesh
//! plays with each of its habits: it announces what it is in READY, or does not. The first conversation that fails ends
//! the run; a peer that cannot be fetched or built is reported as not proven.

mod others;

use crate::bench::process::Group;
use crate::bench::subjects;
use crate::process::Ended;
use crate::tally::Tally;
use crate::workspace::Workspace;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: cargo xtask peers [--only PEER,...] [--target-dir DIR]
  --only         of libzmq omq zeromq rzmq node jeromq
  --target-dir   where the programs are built (target/compare)

Each peer that can be had here meets wiremesh: every pattern, either side binding, announcing itself or not.";

/// What the command line asks for.
struct Options {
    only: Vec<String>,
    target_dir: PathBuf,
}

/// Another implementation.
struct Peer {
    name: &'static str,
    /// The setting of its own it needs.
    mode: &'static str,
    source: Source,
}

/// Where its program comes from.
#[derive(Clone, Copy)]
enum Source {
    /// A subject of the bench.
    Subject,
    /// Fetched or built by this function, below the target directory.
    Fetched(fn(&Workspace) -> Result<Program, String>),
}

const PEERS: [Peer; 6] = [
    Peer { name: "libzmq", mode: "", source: Source::Subject },
    Peer { name: "omq", mode: "", source: Source::Subject },
    Peer { name: "zeromq", mode: "lossy", source: Source::Subject },
    Peer { name: "rzmq", mode: "undelimited", source: Source::Subject },
    Peer { name: "node", mode: "", source: Source::Fetched(others::node) },
    Peer { name: "jeromq", mode: "", source: Source::Fetched(others::jeromq) },
];

/// A program that plays roles: what to start, and the words in front of those of the role.
#[derive(Clone)]
struct Program {
    path: PathBuf,
    words: Vec<String>,
    version: String,
}

/// The modes of `subject-wiremesh`, and what they are.
const HABITS: [(&str, &str); 3] = [("", "announcing"), ("plain", "not announcing"), ("libzmq", "with libzmq's habits")];

/// What two programs do together.
struct Pattern {
    name: &'static str,
    binder: &'static str,
    connector: &'static str,
    flow: Flow,
}

/// Who sends, and who is through first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// The connector sends and the binder receives.
    ToBinder,
    /// The binder sends once it is told that the connector has heard it.
    FromBinder,
    /// The connector asks, the binder answers.
    ThereAndBack,
}

const PATTERNS: [Pattern; 5] = [
    Pattern { name: "push_pull", binder: "pull", connector: "push", flow: Flow::ToBinder },
    Pattern { name: "pull_push", binder: "push_many", connector: "pull_many", flow: Flow::FromBinder },
    Pattern { name: "pub_sub", binder: "pub", connector: "sub_many", flow: Flow::FromBinder },
    Pattern { name: "req_rep", binder: "rep", connector: "req", flow: Flow::ThereAndBack },
    Pattern { name: "dealer_router", binder: "router", connector: "dealer_many", flow: Flow::ThereAndBack },
];

/// Octets of a message, and how many of them: with a short and a long header of the frame, and longer than one read.
const SIZES: [(usize, u32); 3] = [(64, 500), (300, 500), (70_000, 100)];
/// Messages a second of a publisher: slow enough for those that drop what they cannot deliver at once.
const RATE: u32 = 2000;
/// How long a conversation may take that takes a second at most.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs the conversations that `args`, the words after `peers`, ask for.
///
/// # Errors
/// Wrong options, or the first conversation that failed.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let workspace = Workspace::read()?;
    let Some(options) = parse(args, &workspace)? else {
        println!("{USAGE}");
        return Ok(());
    };
    let Ended { tally, failure } = meet(&workspace, &options)?;
    println!("{tally}");
    failure.map_or(Ok(()), Err)
}

/// The step of `cargo xtask test --full`.
///
/// # Errors
/// `subject-wiremesh` cannot be built.
pub(crate) fn all(workspace: &Workspace) -> Result<Ended, String> {
    meet(workspace, &Options { only: Vec::new(), target_dir: workspace.target.join("compare") })
}

/// Has all peers meet wiremesh. A conversation counts as a test.
fn meet(workspace: &Workspace, options: &Options) -> Result<Ended, String> {
    let wanted =
        PEERS.iter().filter(|peer| options.only.is_empty() || options.only.iter().any(|name| name == peer.name));
    let us = subject(workspace, options, "wiremesh")?;
    let mut tally = Tally::default();
    let mut unproven = Vec::new();
    for peer in wanted {
        let program = match peer.source {
            Source::Subject => subject(workspace, options, peer.name),
            Source::Fetched(fetch) => fetch(workspace),
        };
        let program = match program {
            Ok(program) => program,
            Err(why) => {
                println!("{:8} NOT PROVEN: {why}", peer.name);
                tally.skipped += 1;
                unproven.push(peer.name);
                continue;
            }
        };
        if let Err(why) = converse_all(&us, peer, &program, &mut tally) {
            tally.failed += 1;
            return Ok(Ended { tally, failure: Some(why) });
        }
    }
    if !unproven.is_empty() {
        println!("NOT PROVEN with: {}", unproven.join(", "));
    }
    Ok(Ended { tally, failure: None })
}

/// Every pattern with one peer, a line for each.
fn converse_all(us: &Program, peer: &Peer, them: &Program, tally: &mut Tally) -> Result<(), String> {
    for pattern in &PATTERNS {
        let begin = Instant::now();
        let before = tally.passed;
        for (habit, what) in HABITS {
            for we_bind in [true, false] {
                for (bytes, count) in SIZES {
                    let (ours, theirs) = ((us, habit), (them, peer.mode));
                    let (binder, connector) = if we_bind { (ours, theirs) } else { (theirs, ours) };
                    let talk = Talk { pattern, bytes, count };
                    if let Err(why) = talk.run(binder, connector) {
                        let alone = talk
                            .run(theirs, theirs)
                            .map_or_else(|why| format!("fails too: {why}"), |()| "is good".into());
                        return Err(format!(
                            "{} {} {}: {count} messages of {bytes} bytes, we {what}, {} binding: {why} (the same between two of theirs {alone})",
                            peer.name,
                            them.version,
                            pattern.name,
                            if we_bind { "we" } else { "they" },
                        ));
                    }
                    tally.passed += 1;
                }
            }
        }
        println!(
            "{:8} {:10} {:14} {} conversations, all messages whole and in order, {:.1} s",
            peer.name,
            them.version,
            pattern.name,
            tally.passed - before,
            begin.elapsed().as_secs_f64(),
        );
    }
    Ok(())
}

/// One conversation.
struct Talk<'a> {
    pattern: &'a Pattern,
    bytes: usize,
    count: u32,
}

/// A program, and the mode it plays in.
type Player<'a> = (&'a Program, &'a str);

impl Talk<'_> {
    fn run(&self, binder: Player<'_>, connector: Player<'_>) -> Result<(), String> {
        let endpoint = endpoint()?;
        let mut group = Group::new(LIMIT);
        let first = self.start(&mut group, binder, self.pattern.binder, &endpoint)?;
        group.wait_for(first, "bound")?;
        let second = self.start(&mut group, connector, self.pattern.connector, &endpoint)?;
        if self.pattern.flow == Flow::FromBinder {
            group.wait_for(second, "ready")?;
            group.tell(first, "go")?;
        }
        let (sooner, later) = if self.pattern.flow == Flow::ToBinder { (first, second) } else { (second, first) };
        for member in [sooner, later] {
            if member == later {
                group.release(later);
            }
            let said = group.wait_for(member, "messages")?;
            if said.get("messages").and_then(serde_json::Value::as_u64) != Some(self.count.into()) {
                return Err(format!("{said} instead of {} messages", self.count));
            }
        }
        group.release(sooner);
        Ok(())
    }

    fn start(&self, group: &mut Group, player: Player<'_>, role: &str, endpoint: &str) -> Result<usize, String> {
        let (program, mode) = player;
        let mut words = program.words.clone();
        words.extend([
            format!("role={role}"),
            format!("endpoint={endpoint}"),
            format!("bytes={}", self.bytes),
            format!("count={}", self.count),
            format!("mode={mode}"),
            "window=16".to_owned(),
            "whole=1".to_owned(),
        ]);
        if role == "pub" {
            words.push(format!("rate={RATE}"));
        }
        group.start(&program.path, &words)
    }
}

/// A tcp endpoint that nobody else binds meanwhile: on Linux it has a loopback address of its own, from which no
/// connection goes out.
fn endpoint() -> Result<String, String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    let host = match cfg!(target_os = "linux") {
        true => format!("127.{}.{}.{}", 64 + process % 128, (process / 128 + number / 250) % 256, number % 250 + 1),
        false => "127.0.0.1".to_owned(),
    };
    let free = TcpListener::bind((host.as_str(), 0)).and_then(|listener| listener.local_addr());
    free.map(|address| format!("tcp://{address}")).map_err(|why| format!("no free port: {why}"))
}

/// Builds a subject of the bench.
fn subject(workspace: &Workspace, options: &Options, name: &'static str) -> Result<Program, String> {
    let built = subjects::build(&workspace.root, &options.target_dir, &[name], None)?;
    let subject = built.0.into_iter().next().ok_or("no subject was built")?;
    Ok(Program { path: subject.program?, words: Vec::new(), version: subject.version })
}

/// Reads the command line; nothing when it asks for help.
fn parse(args: &[String], workspace: &Workspace) -> Result<Option<Options>, String> {
    let mut options = Options { only: Vec::new(), target_dir: workspace.target.join("compare") };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n{USAGE}"));
        match word.as_str() {
            "--only" => options.only.extend(value()?.split(',').map(str::to_owned)),
            "--target-dir" => options.target_dir = Path::new(value()?).to_path_buf(),
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("unknown option '{word}'\n{USAGE}")),
        }
    }
    match options.only.iter().find(|name| PEERS.iter().all(|peer| peer.name != **name)) {
        Some(unknown) => Err(format!("--only: no peer '{unknown}'\n{USAGE}")),
        None => Ok(Some(options)),
    }
}
