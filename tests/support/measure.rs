//! What a process uses, read from `/proc`: resident memory, descriptors, threads, processor time.

use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What must come back to where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) descriptors: usize,
    /// Without those that look names up: they go by themselves when idle for two seconds.
    pub(crate) threads: usize,
    /// Socket files among the temporary files, and the folders they stand in. Give the process a folder of its own.
    pub(crate) socket_files: usize,
}

/// What this process holds now.
pub(crate) fn holdings() -> Holdings {
    Holdings {
        descriptors: descriptors("self"),
        threads: threads("self") - resolvers(),
        socket_files: temporary_files(),
    }
}

/// Open descriptors of a process.
pub(crate) fn descriptors(process: impl ToString) -> usize {
    // Listing the folder takes a descriptor of its own when it is our own folder.
    let process = process.to_string();
    let own = usize::from(process == "self");
    // Where there is none left to list the folder with, they are many.
    fs::read_dir(format!("/proc/{process}/fd")).map_or(usize::MAX, |listed| listed.count() - own)
}

/// Threads of a process.
pub(crate) fn threads(process: impl ToString) -> usize {
    fs::read_dir(format!("/proc/{}/task", process.to_string())).map_or(0, Iterator::count)
}

/// Threads of this process that look names up.
pub(crate) fn resolvers() -> usize {
    let names = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    // The kernel keeps fifteen letters of a name.
    names
        .filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|n| n.trim() == "wiremesh-resolv"))
        .count()
}

/// Octets of a process that are in memory now.
pub(crate) fn resident(process: impl ToString) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/statm", process.to_string())).unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * page_size()
}

/// The most octets that this process has had in memory at a time; 0 where the system does not tell.
pub(crate) fn peak_resident() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Everything in the folder for temporary files, where `ipc://*` makes its own; only differences mean something.
fn temporary_files() -> usize {
    fn count(folder: &std::path::Path) -> usize {
        let Ok(entries) = fs::read_dir(folder) else { return 0 };
        entries.flatten().map(|entry| 1 + count(&entry.path())).sum()
    }
    count(&std::env::temp_dir())
}

/// Processor time this process has used, user and system.
pub(crate) fn processor_time() -> Duration {
    // SAFETY: all zeroes is a valid `rusage`, which is plain numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` lives through the call, which fills it.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    assert_eq!(result, 0, "getrusage");
    let time = |value: libc::timeval| Duration::new(value.tv_sec as u64, value.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// The kernel's number of the calling thread.
pub(crate) fn this_thread() -> u64 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() as u64 }
}

/// How long the calling thread has been able to run and was not let, because others did.
pub(crate) fn kept_waiting() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').nth(1).and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// Measures how long the calling thread takes for something, without the time in which it was able to run and was not
/// let.
pub(crate) struct Stopwatch {
    pub(crate) begin: Instant,
    kept: Duration,
}

impl Stopwatch {
    pub(crate) fn start() -> Stopwatch {
        let kept = kept_waiting();
        Stopwatch { begin: Instant::now(), kept }
    }

    /// How long the thread was kept waiting since the start.
    pub(crate) fn kept(&self) -> Duration {
        kept_waiting().saturating_sub(self.kept)
    }

    /// How long the thread has taken since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        let elapsed = self.begin.elapsed();
        elapsed.saturating_sub(self.kept())
    }
}

/// How much too late the system wakes whoever sleeps, as a thread finds that sleeps a millisecond again and again.
pub(crate) struct Lateness {
    naps: Arc<Naps>,
    sleeper: Option<JoinHandle<()>>,
}

struct Naps {
    is_over: AtomicBool,
    /// When each began to be late, and for how long it was, the present one last.
    late: Mutex<Vec<(Instant, Duration)>>,
}

const NAP: Duration = Duration::from_millis(1);

impl Lateness {
    pub(crate) fn watch() -> Lateness {
        let first = (Instant::now() + NAP, Duration::ZERO);
        let naps = Arc::new(Naps { is_over: AtomicBool::new(false), late: Mutex::new(vec![first]) });
        let sleeper = thread::spawn({
            let naps = Arc::clone(&naps);
            move || {
                while !naps.is_over.load(Ordering::SeqCst) {
                    thread::sleep(NAP);
                    let mut late = naps.late.lock().expect("no panic");
                    let (due, length) = late.last_mut().expect("the first one");
                    *length = due.elapsed();
                    late.push((Instant::now() + NAP, Duration::ZERO));
                }
            }
        });
        Lateness { naps, sleeper: Some(sleeper) }
    }

    /// The worst of all.
    pub(crate) fn worst(&self) -> Duration {
        let late = self.naps.late.lock().expect("no panic");
        late.iter().map(|(_, length)| *length).max().unwrap_or_default()
    }

    /// The worst since then.
    pub(crate) fn since(&self, begin: Instant) -> Duration {
        let mut late = self.naps.late.lock().expect("no panic");
        let (due, length) = late.last_mut().expect("the first one");
        *length = due.elapsed();
        late.iter().filter(|(due, length)| *due + *length >= begin).map(|(_, length)| *length).max().unwrap_or_default()
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.naps.is_over.store(true, Ordering::SeqCst);
        // A panic there has been seen here already.
        let _ = self.sleeper.take().map(JoinHandle::join);
    }
}

/// Whether a thread of this process sleeps in a system call.
pub(crate) fn is_asleep(thread: u64) -> bool {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
    // The state follows the name, which stands in parentheses.
    text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
}

/// Sets how many descriptors this process may have; the former limit.
pub(crate) fn limit_descriptors(limit: u64) -> u64 {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limits` lives through both calls; the first fills it, the second reads it.
    let (got, set, before) = unsafe {
        let got = libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits);
        let before = limits.rlim_cur;
        limits.rlim_cur = limit.min(limits.rlim_max);
        (got, libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits), before)
    };
    assert_eq!((got, set), (0, 0), "the limit of descriptors cannot be changed");
    before
}

/// Opens files until the process has no descriptor left. A call in another thread may hold one for a moment, as
/// `accept` does while it finds that nobody waits: so there is none left once none has come back for a while.
pub(crate) fn hoard_descriptors() -> Vec<File> {
    const WHILE: Duration = Duration::from_millis(50);
    let mut hoard = Vec::new();
    let mut latest = Instant::now();
    while latest.elapsed() < WHILE {
        match File::open("/dev/null") {
            Ok(file) => {
                hoard.push(file);
                latest = Instant::now();
            }
            Err(_) => thread::yield_now(),
        }
    }
    hoard
}

fn page_size() -> u64 {
    // SAFETY: takes a constant and returns a number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 }
}
