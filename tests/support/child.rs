//! Another process of the same test binary, in a role.
//!
//! The binary has a test `role`, which does nothing in an ordinary run and plays the role it is told in a child:
//!
//! ```text
//! #[test]
//! fn role() {
//!     child::act(|name, arguments| match name {
//!         "echo" => echo(arguments),
//!         _ => unreachable!("an unknown role"),
//!     });
//! }
//! ```
//!
//! Parent and child talk in lines: the child's begin with a mark, so that the test harness's own do not matter. A child
//! ends with its parent, however that ends.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const ROLE: &str = "WIREMESH_ROLE";
const ARGUMENTS: &str = "WIREMESH_ROLE_ARGUMENTS";
const MARK: &str = "@ ";

/// While this is held no child is started. Between its fork and its exec a child has the descriptors of this process,
/// so that an address that was given up a moment ago is in use for a moment more.
pub(crate) fn none_starts() -> MutexGuard<'static, ()> {
    static STARTS: Mutex<()> = Mutex::new(());
    STARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plays the role this process was started in, if any.
pub(crate) fn act(play: impl FnOnce(&str, &[&str])) {
    let Ok(name) = std::env::var(ROLE) else { return };
    // SAFETY: asks for a signal at the parent's end; takes and returns plain numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let arguments = std::env::var(ARGUMENTS).unwrap_or_default();
    let arguments: Vec<&str> = arguments.split('\n').filter(|argument| !argument.is_empty()).collect();
    play(&name, &arguments);
}

/// In a child: says a line to the parent.
pub(crate) fn tell(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    // A parent that is gone takes this process along.
    let _ = writeln!(out, "\n{MARK}{line}");
    let _ = out.flush();
}

/// In a child: the next line of the parent; `None` when it has no more.
pub(crate) fn listen() -> Option<String> {
    let mut line = String::new();
    let got = std::io::stdin().lock().read_line(&mut line).unwrap_or(0);
    (got > 0).then(|| line.trim_end().to_owned())
}

/// A child process. It is killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    role: String,
}

impl Process {
    /// Starts this test binary in that role.
    pub(crate) fn start(role: &str, arguments: &[&dyn ToString]) -> Process {
        Process::start_in(role, arguments, &[])
    }

    /// As [`start`](Process::start), with environment variables of its own.
    pub(crate) fn start_in(role: &str, arguments: &[&dyn ToString], environment: &[(&str, &OsStr)]) -> Process {
        let arguments: Vec<String> = arguments.iter().map(|argument| argument.to_string()).collect();
        let starts = none_starts();
        let mut child = Command::new(std::env::current_exe().expect("a test binary"))
            .args(["--exact", "role", "--nocapture", "--test-threads=1"])
            .envs(environment.iter().copied())
            .env(ROLE, role)
            .env(ARGUMENTS, arguments.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        drop(starts);
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix(MARK) {
                    if sender.send(line.to_owned()).is_err() {
                        return;
                    }
                }
            }
        });
        Process { stdin: child.stdin.take(), child, lines, role: role.to_owned() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Says a line to the child.
    pub(crate) fn say(&mut self, line: impl std::fmt::Display) {
        let stdin = self.stdin.as_mut().expect("not hung up");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("the child listens");
    }

    /// Lets the child know that nothing more will be said.
    pub(crate) fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// The next line of the child.
    pub(crate) fn hear(&mut self) -> String {
        self.hear_within(super::PATIENCE)
    }

    /// The next line of the child, which may take long.
    pub(crate) fn hear_within(&mut self, limit: Duration) -> String {
        match self.lines.recv_timeout(limit) {
            Ok(line) => line,
            Err(_) => panic!("the child `{}` said nothing; it ended with {:?}", self.role, self.child.try_wait()),
        }
    }

    /// The next line, if there is one by then.
    pub(crate) fn try_hear(&mut self, limit: Duration) -> Option<String> {
        self.lines.recv_timeout(limit).ok()
    }

    /// All further lines of a child that has ended, or soon will.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        let end = Instant::now() + super::PATIENCE;
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => return rest,
                Err(RecvTimeoutError::Timeout) => panic!("the child `{}` does not end", self.role),
            }
        }
    }

    /// SIGKILL, at once; nothing of the child runs after this.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGSTOP: the process is there and does nothing.
    pub(crate) fn pause(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: i32) {
        // SAFETY: plain numbers; the child has not been waited for, so the number is still its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Whether it has not ended.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the child to end by itself.
    pub(crate) fn end_within(&mut self, limit: Duration) -> ExitStatus {
        self.stdin = None;
        let child = &mut self.child;
        let mut status = None;
        super::eventually(limit, &format!("the child `{}` ends", self.role), || {
            status = child.try_wait().expect("our child");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Waits for the child to end by itself and fails if it failed.
    pub(crate) fn finish(mut self) {
        let status = self.end_within(super::PATIENCE);
        assert!(status.success(), "the child `{}` ended with {status}", self.role);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
