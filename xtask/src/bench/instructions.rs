//! `--instructions`: instructions per message of the sending and of the receiving process, by callgrind.
//!
//! One of the two processes runs under callgrind, once with few and once with more messages; the difference divided by
//! the additional messages is what a message costs, start and handshake left out. All threads of the process count.

use std::path::Path;
use std::process::Command;

use super::cases::{Case, Cell, Entrant};
use super::measure;
use super::subjects::Subjects;

const FEW: u64 = 20_000;
const MORE: u64 = 120_000;

/// Prints the figures of every subject of this run.
pub(crate) fn run(subjects: &Subjects, root: &Path) -> Result<(), String> {
    let version = Command::new("valgrind").arg("--version").output();
    let version = version.map_err(|_| "valgrind is missing; install it (Debian: apt-get install valgrind)")?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    println!("instructions per message over tcp, user space, all threads of the process ({version})");
    let folder = root.join("target/bench");
    std::fs::create_dir_all(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    for subject in &subjects.0 {
        for bytes in [8, 1024] {
            for role in ["push", "pull"] {
                let cost = cost(subjects, subject.name, bytes, role, &folder);
                let (verb, cost) = (if role == "push" { "send" } else { "receive" }, cost.map(|c| format!("{c:.0}")));
                println!("{:<10} {bytes:>5} B {verb:<8} {}", subject.name, cost.unwrap_or_else(|why| why));
            }
        }
    }
    Ok(())
}

fn cost(subjects: &Subjects, name: &'static str, bytes: u64, role: &str, folder: &Path) -> Result<f64, String> {
    let cell = Cell { case: Case::PushPull, transport: "tcp", bytes, peers: 1, rate: 0 };
    let entrant = Entrant { subject: name, threads: 1, spin_micros: 0 };
    let few = measure::instructions(&cell, &entrant, subjects, FEW, role, folder)?;
    let more = measure::instructions(&cell, &entrant, subjects, MORE, role, folder)?;
    Ok((more as f64 - few as f64) / (MORE - FEW) as f64)
}
