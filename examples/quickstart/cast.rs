//! The processes: starts this program again in a role, hears what each reports, and sees to it that all of them end.
//!
//! They report over wiremesh as well: each has a DEALER that bears the process's name, and this end is a ROUTER.

use crate::{Outcome, role};
use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Endpoint, IntoMessage, Message, RecvError, Router};

/// How long any single report may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the whole program may take.
const ENOUGH: Duration = Duration::from_secs(180);

/// All processes this one has started.
pub(crate) struct Cast {
    desk: Router,
    address: Endpoint,
    /// Reports that nobody has asked for yet, by the name of who sent them.
    reports: HashMap<String, VecDeque<Message>>,
    running: Arc<Running>,
    started: usize,
    /// Dropped with the cast, which ends the watchdog.
    _watched: mpsc::Sender<()>,
}

/// What has to be taken away at the end, whichever end it is.
struct Running {
    children: Mutex<Vec<(String, Child)>>,
    /// Where the socket files are.
    folder: PathBuf,
}

impl Cast {
    /// Opens the desk at which processes report, and starts the watchdog.
    pub(crate) fn gather() -> Outcome<Cast> {
        let running = Arc::new(Running { children: Mutex::default(), folder: new_folder()? });
        // Rather an error than a word that is lost.
        let desk = Router::builder().mandatory(true).build()?;
        let address = desk.bind("tcp://127.0.0.1:*")?;
        let watched = watch(Arc::clone(&running));
        Ok(Cast { desk, address, reports: HashMap::new(), running, started: 0, _watched: watched })
    }

    /// Starts a process in a role, waits until it is there, and returns its name.
    pub(crate) fn start<A: AsRef<OsStr>>(
        &mut self,
        role: &str,
        number: usize,
        arguments: impl IntoIterator<Item = A>,
    ) -> Outcome<String> {
        let name = format!("{role}-{number}");
        let child = Command::new(std::env::current_exe()?)
            .args([role::FLAG, role, &name, self.address.as_str()])
            .arg(&self.running.folder)
            .args(arguments)
            // A process whose standard input ends knows that this one is gone.
            .stdin(Stdio::piped())
            .spawn()?;
        println!("   {name} is process {}", child.id());
        self.running.lock().push((name.clone(), child));
        self.started += 1;
        // Now the desk knows it by its name.
        self.hear(&name, "here")?;
        Ok(name)
    }

    /// Waits for the next report of a process, which has to begin with `word`; returns what follows it.
    pub(crate) fn hear(&mut self, name: &str, word: &str) -> Outcome<Message> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(mut report) = self.reports.get_mut(name).and_then(VecDeque::pop_front) {
                return match report.pop_front() {
                    Some(first) if first == word => Ok(report),
                    _ => Err(format!("{name} was to report `{word}`, but said {report:?}").into()),
                };
            }
            match self.desk.recv_timeout(Duration::from_millis(100)) {
                Ok((from, report)) => {
                    let from = String::from_utf8_lossy(from.as_bytes()).into_owned();
                    self.reports.entry(from).or_default().push_back(report);
                }
                Err(RecvError::TimedOut) => self.running.nobody_failed()?,
                Err(error) => return Err(error.into()),
            }
            if Instant::now() > deadline {
                return Err(format!("{name} did not report `{word}` in {PATIENCE:?}").into());
            }
        }
    }

    /// Tells a process something.
    pub(crate) fn tell(&self, name: &str, message: impl IntoMessage) -> Outcome {
        Ok(self.desk.send_to(name, message)?)
    }

    /// Tells every process that its part is over.
    pub(crate) fn dismiss(&self) -> Outcome {
        for (name, _) in self.running.lock().iter() {
            self.tell(name, "stop")?;
        }
        Ok(())
    }

    /// Waits until every process has ended well, as they do when they are dismissed.
    pub(crate) fn leave_stage(&mut self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        let mut children = std::mem::take(&mut *self.running.lock());
        while let Some((name, child)) = children.last_mut() {
            match child.try_wait()? {
                Some(status) if status.success() => drop(children.pop()),
                Some(status) => return Err(format!("{name} failed: {status}").into()),
                None if Instant::now() > deadline => {
                    let late = format!("{name} did not end in {PATIENCE:?}");
                    self.running.lock().extend(children);
                    return Err(late.into());
                }
                None => thread::sleep(Duration::from_millis(2)),
            }
        }
        Ok(())
    }

    /// How many processes there have been.
    pub(crate) fn started(&self) -> usize {
        self.started
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        self.running.clear_away();
    }
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, Vec<(String, Child)>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nobody_failed(&self) -> Outcome {
        for (name, child) in self.lock().iter_mut() {
            if let Some(status) = child.try_wait()?.filter(|status| !status.success()) {
                return Err(format!("{name} failed: {status}").into());
            }
        }
        Ok(())
    }

    /// Ends and reaps what still runs, and removes the socket files.
    fn clear_away(&self) {
        for (_, child) in self.lock().iter_mut() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A folder that was not there before.
fn new_folder() -> Outcome<PathBuf> {
    for attempt in 0..100 {
        let folder = std::env::temp_dir().join(format!("wiremesh-{}-{attempt}", std::process::id()));
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => return Ok(made.map(|()| folder)?),
        }
    }
    Err(format!("{} is full of leftovers", std::env::temp_dir().display()).into())
}

/// Ends everything when it takes too long, whatever hangs.
fn watch(running: Arc<Running>) -> mpsc::Sender<()> {
    let (alive, watched) = mpsc::channel::<()>();
    thread::spawn(move || {
        if watched.recv_timeout(ENOUGH) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("not done after {ENOUGH:?}; giving up");
            running.clear_away();
            std::process::exit(1);
        }
    });
    alive
}
