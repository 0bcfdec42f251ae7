//! Peers of real libzmq, where `WIREMESH_PYTHON` names a Python with pyzmq: they send messages as ours are, or take
//! some.

use crate::ledger::{Counts, Life, Sent};
use crate::message::{Id, build, sender};
use crate::part::{Part, lock};
use crate::plan::Stranger;
use crate::strangers::{FIRST, opposite};
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use wiremesh::{SocketKind, Stats};

/// Connects a socket of the opposite kind, sends and receives, and closes it in order.
pub(crate) fn visit(part: &Part, number: usize, stranger: &Stranger) -> io::Result<()> {
    let Some(python) = std::env::var_os("WIREMESH_PYTHON") else {
        return Err(io::Error::other("no WIREMESH_PYTHON"));
    };
    let kind = opposite(part.kind(part.plan.endpoints[stranger.endpoint].socket));
    let child = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torture/peer.py"))
        .args([kind.name(), &part.address(stranger.endpoint)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut child = Ended(child);
    let name = sender(FIRST + number, 0);
    let sends = matches!(kind, SocketKind::Push | SocketKind::Dealer);
    let mut input = child.0.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut output = BufReader::new(child.0.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
    let mut sent = Vec::new();
    for seq in 0..if sends { stranger.count } else { 0 } {
        let message =
            build(Id { sender: name, stream: 0, seq }, b"", (seq % 300) as usize, &[3, 0, (seq % 2000) as usize]);
        let frames: Vec<String> = message.iter().map(hex).collect();
        writeln!(input, "{}", frames.join(" "))?;
        sent.push(Sent { octets: message.byte_len() as u32, topic: 0, to: None, late: false });
    }
    let counts = Counts::of(&Stats::default());
    lock(&part.strangers).push(Life { name, sent: vec![sent], got: Vec::new(), wrong: Vec::new(), counts });
    writeln!(input, "end")?;
    // It answers when all is handed to the system.
    let mut line = String::new();
    output.read_line(&mut line)?;
    if line.trim() == "ok" { Ok(()) } else { Err(io::Error::other(line)) }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::from("="), |text, octet| text + &format!("{octet:02x}"))
}

/// A process that goes with its value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
