//! A process with real libzmq in it, told line by line what to do. peer.py lists the commands.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Longer than peer.py takes to give up by itself.
const LIMIT: Duration = Duration::from_secs(150);

/// The process. It is killed, by its own id, when this is dropped.
pub(crate) struct Peer {
    child: RefCell<Child>,
    input: RefCell<ChildStdin>,
    answers: Receiver<String>,
    killed: Cell<bool>,
    /// Where libzmq puts the socket files it makes up.
    _folder: Folder,
    /// What was said, for whoever has to find out what went wrong.
    transcript: RefCell<Vec<String>>,
}

impl Peer {
    /// Starts a peer; nothing where interop was turned off.
    pub(crate) fn start() -> Option<Peer> {
        if std::env::var_os("WIREMESH_NO_INTEROP").is_some_and(|value| value == "1") {
            eprintln!("SKIPPED: WIREMESH_NO_INTEROP=1, so nothing is tested against libzmq");
            return None;
        }
        let python = std::env::var_os("WIREMESH_PYTHON").unwrap_or_else(|| panic!("{NO_PYTHON}"));
        Some(Peer::of(python))
    }

    fn of(python: OsString) -> Peer {
        let folder = Folder::new();
        let mut child = Command::new(&python)
            .env("TMPDIR", folder.path())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/peer.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{python:?} cannot be started: {error}\n{NO_PYTHON}"));
        let input = child.stdin.take().expect("stdin is a pipe");
        let output = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let (sender, answers) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Peer {
            child: RefCell::new(child),
            input: RefCell::new(input),
            answers,
            killed: Cell::new(false),
            _folder: folder,
            transcript: RefCell::default(),
        }
    }

    /// Has a command carried out and returns the answer's values.
    #[track_caller]
    pub(crate) fn tell(&self, command: &str) -> String {
        self.begin(command);
        self.end()
    }

    /// Gives a command without waiting for its answer: [`end`](Peer::end) does.
    #[track_caller]
    pub(crate) fn begin(&self, command: &str) {
        self.transcript.borrow_mut().push(format!("> {}", shorten(command)));
        let mut input = self.input.borrow_mut();
        if let Err(error) = writeln!(input, "{command}").and_then(|()| input.flush()) {
            self.fail(&format!("it does not listen any more: {error}"));
        }
    }

    #[track_caller]
    pub(crate) fn end(&self) -> String {
        self.try_end().unwrap_or_else(|why| self.fail(&why))
    }

    /// Has a command carried out that may fail: the name of libzmq's error then.
    #[track_caller]
    pub(crate) fn attempt(&self, command: &str) -> Result<String, String> {
        self.begin(command);
        self.try_end()
    }

    #[track_caller]
    fn try_end(&self) -> Result<String, String> {
        let Ok(answer) = self.answers.recv_timeout(LIMIT) else {
            self.fail("it gave no answer, or died");
        };
        self.transcript.borrow_mut().push(format!("  {}", shorten(&answer)));
        match answer.split_once(' ').unwrap_or((&answer, "")) {
            ("ok", values) => Ok(values.to_owned()),
            (_, why) => Err(why.to_owned()),
        }
    }

    /// Ends the process the hard way, as the machine's failure would.
    pub(crate) fn kill(&self) {
        let mut child = self.child.borrow_mut();
        self.killed.set(true);
        // It may have died before.
        let _ = child.kill();
        let _ = child.wait();
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.killed.get()
    }

    /// Sends the process a signal, by the name that `kill` knows.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.borrow().id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -s {name} {id}");
    }

    #[track_caller]
    fn fail(&self, why: &str) -> ! {
        panic!("the libzmq peer: {why}\nwhat was said:\n{}", self.transcript.borrow().join("\n"));
    }
}

/// A folder that goes with its value. Its path is short, as a socket file's has to be.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wiremesh-interop-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap_or_else(|error| panic!("making {}: {error}", path.display()));
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

const NO_PYTHON: &str = "\
The interop tests need a Python with pyzmq, named by WIREMESH_PYTHON. `cargo xtask test --only interop` makes one and runs them; \
WIREMESH_NO_INTEROP=1 leaves them out.";

fn shorten(line: &str) -> String {
    const SHOWN: usize = 300;
    line.char_indices().nth(SHOWN).map_or_else(|| line.to_owned(), |(cut, _)| format!("{}…", &line[..cut]))
}
