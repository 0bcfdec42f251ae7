//! Runs one program of a step: shows what it prints, counts its tests, ends it when it takes too long.

use crate::tally::Tally;
use std::io::{BufRead, BufReader, IsTerminal};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What a program left behind.
pub(crate) struct Ended {
    /// Its tests.
    pub(crate) tally: Tally,
    /// Why it counts as failed, if it does.
    pub(crate) failure: Option<String>,
}

/// Runs a program to its end or, when that does not come within `limit`, ends it.
///
/// # Errors
/// The program cannot be started.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<Ended, String> {
    let deadline = Instant::now() + limit;
    let name = command.get_program().to_string_lossy().into_owned();
    let alone = !std::io::stdin().is_terminal();
    if alone {
        own_group(command);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("`{name}` cannot be started: {error}"))?;
    let (sender, tallies) = channel();
    let output = child.stdout.take().expect("stdout is a pipe");
    let reader = thread::spawn(move || pass_on(BufReader::new(output), &sender));
    let mut tally = Tally::default();
    loop {
        match tallies.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(more) => tally += more,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                end(&mut child, alone);
                return Ok(Ended { tally, failure: Some(format!("`{name}` was ended after {} s", limit.as_secs())) });
            }
        }
    }
    let status = child.wait().map_err(|error| format!("waiting for `{name}`: {error}"))?;
    reader.join().map_err(|_| format!("reading from `{name}` failed"))?;
    let failure = (!status.success()).then(|| format!("`{name}` ended with {status}"));
    Ok(Ended { tally, failure })
}

/// Runs a program for its output.
///
/// # Errors
/// The program cannot be started or fails; the text is what it said.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("`{name}`: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = [output.stdout, output.stderr].concat();
        Err(format!("`{name}` ended with {}: {}", output.status, String::from_utf8_lossy(&said).trim()))
    }
}

/// Prints what comes and reports the result lines among it. A line need not be UTF-8: tests may print anything.
fn pass_on(mut from: impl BufRead, to: &Sender<Tally>) {
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|size| size > 0) {
        let text = String::from_utf8_lossy(&line);
        print!("{text}");
        if let Some(tally) = Tally::of_line(&text) {
            // The receiver is gone when the program has been ended.
            let _ = to.send(tally);
        }
        line.clear();
    }
}

/// Lets the program and what it starts be ended together. Not at a terminal, where Ctrl-C has to reach them all.
fn own_group(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
}

fn end(child: &mut Child, alone: bool) {
    if alone && cfg!(unix) {
        let group = format!("-{}", child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
    }
    let _ = child.kill();
    let _ = child.wait();
}
