//! Running plans, each in a process of its own, and keeping those that fail.

use crate::plan::Plan;
use crate::support::child::Process;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A run that says nothing for so long hangs.
const HANGS: Duration = Duration::from_secs(150);

/// What came of a run.
pub(crate) struct Verdict {
    /// The laws that were broken, in words.
    pub(crate) wrong: Vec<String>,
    /// The longest that a bystander waited.
    pub(crate) worst: Duration,
    pub(crate) took: Duration,
    /// What each process held at most and might have held, in MiB.
    pub(crate) held: Vec<String>,
    folder: PathBuf,
}

impl Verdict {
    pub(crate) fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }

    /// The first law broken, in a word.
    pub(crate) fn law(&self) -> &str {
        self.wrong.first().map_or("none", |wrong| wrong.split(':').next().unwrap_or(wrong))
    }
}

impl Drop for Verdict {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Runs a plan once.
pub(crate) fn run(plan: &Plan) -> Verdict {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // Its path is short, as that of a socket file has to be.
    let name = format!("wm-torture-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("plan.txt");
    fs::write(&file, plan.text()).expect("a file");
    let begin = Instant::now();
    let mut world =
        Process::start_in("world", &[&file.display(), &folder.display()], &[("TMPDIR", folder.as_os_str())]);
    let mut verdict =
        Verdict { wrong: Vec::new(), worst: Duration::ZERO, took: Duration::ZERO, held: Vec::new(), folder };
    loop {
        let left = HANGS.saturating_sub(begin.elapsed());
        match world.try_hear(left).as_deref().map(|line| line.split_once(' ').unwrap_or((line, ""))) {
            Some(("held", what)) => verdict.held.push(what.replace(' ', " of ")),
            Some(("wrong", what)) => verdict.wrong.push(what.to_owned()),
            Some(("end", worst)) => {
                verdict.worst = Duration::from_micros(worst.parse().unwrap_or(0));
                break;
            }
            Some(_) => {}
            None if world.is_alive() => {
                verdict.wrong.push(format!("hang: the process says nothing after {:?}", begin.elapsed()));
                break;
            }
            None => {
                verdict.wrong.push("died: the process ended before it was done; its last words stand above".to_owned());
                break;
            }
        }
    }
    verdict.took = begin.elapsed();
    verdict
}

/// Puts plan, logs and verdict of a failed run where they can be found; the folder.
pub(crate) fn keep(plan: &Plan, verdict: &Verdict) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().map_or_else(PathBuf::new, Path::to_owned);
    let place = target.join("torture").join(format!("{}-{}", plan.frame.seed, verdict.law()));
    fs::create_dir_all(&place).expect("a folder");
    for entry in fs::read_dir(&verdict.folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("log-") {
            fs::copy(entry.path(), place.join(name)).expect("a copy");
        }
    }
    let comment: String = verdict.wrong.iter().map(|wrong| format!("# {wrong}\n")).collect();
    fs::write(place.join("plan.txt"), comment + &plan.text()).expect("a file");
    place
}

/// Runs a kept plan again and again; how often it failed, and by which laws. The logs of the last run that failed are
/// kept.
pub(crate) fn replay(file: &Path, times: usize) -> (usize, String) {
    let plan = Plan::parse(&fs::read_to_string(file).expect("a file")).expect("a good plan");
    let mut failures = Vec::new();
    for _ in 0..times {
        let verdict = run(&plan);
        if !verdict.is_good() {
            failures.push(verdict.law().to_owned());
            println!("{}\n  kept in {}", verdict.wrong.join("\n"), keep(&plan, &verdict).display());
        }
    }
    let count = failures.len();
    failures.sort();
    failures.dedup();
    (count, failures.join(", "))
}
