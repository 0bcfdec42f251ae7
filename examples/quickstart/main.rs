//! Wiremesh in a few seconds: real processes that talk many-to-many over tcp, ipc and inproc.
//!
//! Four parts, one file each:
//!
//! * `mesh`: publishers and subscribers, every one connected with every other (PUB and SUB with topics);
//! * `service`: clients ask, servers with several workers answer (REQ, ROUTER, DEALER, REP);
//! * `words`: a ventilator, workers and a sink count the words of text files (PUSH and PULL);
//! * `balance`: one ROUTER gives jobs to whichever DEALER is idle.
//!
//! Each part starts processes (this program again, in a role), prints what was exchanged and how fast, and compares the
//! totals with a count made without wiremesh. The exit status is not zero if anything disagrees.
//!
//! Run it with `cargo run --release --example quickstart`. Files or folders whose words to count may be given behind
//! `--`; `--small` makes it shorter.

mod balance;
mod cast;
mod figures;
mod mesh;
mod role;
mod service;
mod texts;
mod words;

use cast::Cast;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

/// Errors are for people here; nothing looks into them.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How much is exchanged.
struct Size {
    /// Messages of each publisher.
    news: u64,
    /// Requests of each client.
    requests: u64,
    /// Jobs of each customer.
    jobs: u64,
}

const USUAL: Size = Size { news: 100_000, requests: 4_000, jobs: 5_000 };
const SMALL: Size = Size { news: 2_000, requests: 100, jobs: 200 };

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let outcome = match arguments.first().is_some_and(|first| first == role::FLAG) {
        true => role::play(arguments),
        false => {
            let before = arguments.len();
            arguments.retain(|argument| argument != "--small");
            run(if arguments.len() < before { SMALL } else { USUAL }, &arguments)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("process {}: {error}", std::process::id());
            ExitCode::FAILURE
        }
    }
}

/// Plays all parts, one after the other.
fn run(size: Size, paths: &[OsString]) -> Outcome {
    let start = Instant::now();
    println!("This is process {}. What follows is done by the processes it starts.", std::process::id());
    let mut cast = Cast::gather()?;
    let mut agreed = 0;
    println!(
        "\n1. A mesh: each of 3 publishers is heard over tcp by some, over ipc by others, and over inproc in its own process"
    );
    agreed += mesh::conduct(&mut cast, &size)?;
    println!(
        "\n2. A service: clients ask 2 servers over tcp, ipc or inproc; behind each server are workers, joined by inproc"
    );
    agreed += service::conduct(&mut cast, &size)?;
    println!(
        "\n3. A pipeline: pieces of text go out to counters over tcp and ipc, to their threads over inproc, and on to a sink"
    );
    agreed += words::conduct(&mut cast, paths)?;
    println!("\n4. Load balancing: workers over tcp and ipc get a job when they are idle; customers order over inproc");
    agreed += balance::conduct(&mut cast, &size)?;
    println!(
        "\nAll {agreed} totals agree with a count made without wiremesh. {} processes, {:.1} s.",
        cast.started(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
