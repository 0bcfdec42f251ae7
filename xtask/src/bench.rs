//! `cargo xtask bench`: wiremesh beside its rivals and the bare socket.
//!
//! Builds the programs of `benches/compare` one by one, runs them in alternating order, prints a table and writes
//! `target/bench/report.md` and `target/bench/report.json`. A rival that does not build, hangs or loses messages is
//! reported and does not stop the rest.

mod cases;
mod distance;
mod instructions;
mod measure;
pub(crate) mod process;
mod report;
pub(crate) mod subjects;

use std::path::{Path, PathBuf};

use cases::{Case, Cell, Entrant};
use distance::{Cores, Distance};
use measure::Sample;
use subjects::Subjects;

const USAGE: &str = "\
usage: cargo xtask bench [--quick] [--only CASE[/TRANSPORT[/BYTES]],...] [--subjects NAME,...] [--pairs N] [--seconds S]
                         [--instructions] [--target-dir DIR]
  --quick          64 B and 1 KiB push_pull, 8 B req_rep, tcp; wiremesh, libzmq, omq; 3 pairs
  --only           cases to run: push_pull req_rep req_rep_spin round_robin pub_fanout router_dealer fan_in
                   shared_sender paced cpu idle_memory
  --subjects       of wiremesh libzmq omq zeromq rzmq nng bare
  --pairs          alternating pairs for each ratio (9; 3 with --quick)
  --seconds        length of one throughput measurement (0.6)
  --instructions   instructions per message, by callgrind, instead of times
  --target-dir     where the programs are built (target/compare)";

/// What the command line asks for.
struct Options {
    quick: bool,
    only: Vec<String>,
    subjects: Vec<String>,
    pairs: usize,
    seconds: f64,
    instructions: bool,
    target_dir: PathBuf,
}

/// Runs the bench as `args`, the words after `bench`, ask.
///
/// # Errors
/// Wrong options, or a report that cannot be written. A subject that fails is no error of the bench.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let root = root();
    let Some(options) = parse(args, &root)? else {
        println!("{USAGE}");
        return Ok(());
    };
    let started = std::time::Instant::now();
    let cells = cases::select(options.quick, &options.only)?;
    let wanted = wanted(&options, &cells)?;
    let helper = cells.iter().any(|cell| cell.case == Case::IdleMemory) && !options.instructions;
    let subjects = subjects::build(&root, &options.target_dir, &wanted, helper.then_some("bare"))?;
    if options.instructions {
        return instructions::run(&subjects, &root);
    }
    let mut report = report::Report::new(options.pairs, options.seconds, &subjects);
    report.print_head();
    for cell in &cells {
        report.add(cell, &run_cell(cell, &options, &subjects));
    }
    report.finish(&root.join("target/bench"), started.elapsed())
}

/// The subjects that the chosen cells need and the command line allows.
fn wanted(options: &Options, cells: &[Cell]) -> Result<Vec<&'static str>, String> {
    if let Some(unknown) = options.subjects.iter().find(|name| !cases::SUBJECTS.contains(&name.as_str())) {
        return Err(format!("--subjects: no subject '{unknown}'; there are {}", cases::SUBJECTS.join(", ")));
    }
    if options.instructions && options.subjects.is_empty() {
        return Ok(vec!["wiremesh"]);
    }
    let allowed = |name: &&'static str| match options.subjects.is_empty() {
        true => !options.quick || ["wiremesh", "libzmq", "omq"].contains(name),
        false => options.subjects.iter().any(|wanted| wanted == name),
    };
    let plays = |name: &str| cells.iter().any(|cell| cell.entrants().iter().any(|entrant| entrant.subject == name));
    let needed = |name: &&'static str| options.instructions || plays(name);
    Ok(cases::SUBJECTS.into_iter().filter(allowed).filter(needed).collect())
}

/// Results of one entrant in one cell.
struct Entry {
    /// Who, with which extra settings.
    entrant: Entrant,
    /// One sample per round.
    samples: Vec<Sample>,
    /// How far apart the cores were during each; nothing where nobody could tell.
    distances: Vec<Option<Distance>>,
    /// Why it has no place, if it has none.
    failed: Option<String>,
}

impl Entry {
    /// Where the cores were during each sample.
    fn cores(&self) -> impl Iterator<Item = Cores> {
        self.distances.iter().map(|distance| Cores::during(*distance))
    }
}

/// Measures all entrants of a cell in alternating order.
fn run_cell(cell: &Cell, options: &Options, subjects: &Subjects) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut counts = Vec::new();
    for entrant in cell.entrants() {
        let Some(subject) = subjects.taking_part(entrant.subject) else { continue };
        let count = match &subject.program {
            Ok(_) => measure::calibrate(cell, &entrant, subjects, options.seconds),
            Err(why) => Err(format!("not built: {why}")),
        };
        let (count, failed) = match count {
            Ok(count) => (count, None),
            Err(why) => (0, Some(why)),
        };
        counts.push(count);
        entries.push(Entry { entrant, samples: Vec::new(), distances: Vec::new(), failed });
    }
    let gauge = subjects.0.iter().find_map(|subject| subject.program.as_deref().ok());
    let distance = || gauge.and_then(distance::measure);
    // What was seen after one measurement was seen before the next.
    let mut before = distance();
    for round in 0..options.pairs {
        let mut order: Vec<usize> = (0..entries.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let (Some(entry), Some(count)) = (entries.get_mut(index), counts.get(index)) else { continue };
            if entry.failed.is_some() {
                continue;
            }
            let first = measure::once(cell, &entry.entrant, subjects, *count);
            let sample = first.or_else(|_| measure::once(cell, &entry.entrant, subjects, *count));
            let after = distance();
            match sample {
                Ok(sample) => {
                    entry.samples.push(sample);
                    entry.distances.push(before.zip(after).map(|(before, after)| Distance { before, after }));
                }
                Err(why) => entry.failed = Some(why),
            }
            before = after;
        }
    }
    entries
}

/// Reads the command line; nothing when it asks for help.
fn parse(args: &[String], root: &Path) -> Result<Option<Options>, String> {
    let mut options = Options {
        quick: false,
        only: Vec::new(),
        subjects: Vec::new(),
        pairs: 0,
        seconds: 0.6,
        instructions: false,
        target_dir: root.join("target/compare"),
    };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n{USAGE}"));
        let list = |text: &String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        match word.as_str() {
            "--quick" => options.quick = true,
            "--instructions" => options.instructions = true,
            "--only" => options.only.extend(list(value()?)),
            "--subjects" => options.subjects.extend(list(value()?)),
            "--pairs" => options.pairs = value()?.parse().map_err(|_| "--pairs needs a number")?,
            "--seconds" => options.seconds = value()?.parse().map_err(|_| "--seconds needs a number")?,
            "--target-dir" => options.target_dir = PathBuf::from(value()?),
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("unknown option '{word}'\n{USAGE}")),
        }
    }
    if options.pairs == 0 {
        options.pairs = if options.quick { 3 } else { 9 };
    }
    Ok(Some(options))
}

/// The checkout's root: the folder above the manifest that cargo runs us from.
fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().unwrap_or(&manifest).to_path_buf()
}
