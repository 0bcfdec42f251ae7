//! The table on the screen, `report.md` and `report.json`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::Entry;
use super::cases::{Cell, Metric, Target};
use super::distance::{self, Distance, NEAR_BELOW_NANOS, Pairs};
use super::measure::PACED_TICK_MICROS;
use super::subjects::Subjects;

/// Collects the rows of a run.
pub(crate) struct Report {
    head: Vec<String>,
    rows: Vec<Row>,
    subjects: Value,
    pairs: usize,
    /// Of all measurements.
    distances: Vec<Distance>,
}

/// One subject's figure in one cell.
struct Row {
    case: &'static str,
    transport: &'static str,
    bytes: u64,
    peers: u64,
    rate: u64,
    threads: u64,
    subject: &'static str,
    metric: Metric,
    median: Option<f64>,
    /// Wiremesh's figure divided by the subject's, of each pair.
    pairs: Pairs,
    /// How far apart the cores were during each measurement of the subject.
    distances: Vec<Option<Distance>>,
    target: Option<Target>,
    failed: Option<String>,
}

impl Report {
    /// A report of `pairs` pairs per ratio.
    pub(crate) fn new(pairs: usize, seconds: f64, subjects: &Subjects) -> Report {
        let mut head = vec![
            machine(),
            format!(
                "{pairs} alternating pairs for each ratio; throughput measured over about {seconds} s a run; paced senders wake \
                 every {PACED_TICK_MICROS} us and send what is due; the calling threads of a round trip are kept on different cores"
            ),
            format!(
                "before and after each measurement two pinned threads bounce a cache line: below {NEAR_BELOW_NANOS} ns a round trip the cores \
                 are near; a pair counts for a ratio only if both of its measurements saw the same"
            ),
            other_load(),
        ];
        for subject in &subjects.0 {
            head.push(match &subject.program {
                Ok(_) => format!("{} {}: {}", subject.name, subject.version, subject.settings),
                Err(why) => format!("{}: not built: {why}", subject.name),
            });
        }
        let list = subjects.0.iter().map(|s| json!({"name": s.name, "version": s.version, "settings": s.settings}));
        Report { head, rows: Vec::new(), subjects: Value::Array(list.collect()), pairs, distances: Vec::new() }
    }

    /// Prints what is measured, where and with which settings.
    pub(crate) fn print_head(&self) {
        for line in &self.head {
            println!("{line}");
        }
        println!();
    }

    /// Adds and prints the rows of one cell.
    pub(crate) fn add(&mut self, cell: &Cell, entries: &[Entry]) {
        let reference = entries.iter().find(|entry| cell.is_reference(&entry.entrant));
        self.distances.extend(entries.iter().flat_map(|entry| entry.distances.iter().copied().flatten()));
        for (case, metric) in cell.metrics() {
            for entry in entries {
                let row = row(cell, case, metric, entry, reference);
                println!("{}", row.plain());
                self.rows.push(row);
            }
        }
    }

    /// Writes the files and says where they are.
    pub(crate) fn finish(&self, folder: &Path, taken: Duration) -> Result<(), String> {
        std::fs::create_dir_all(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|why| format!("{}: {why}", path.display()))
        };
        write("report.md", self.markdown(taken))?;
        write("report.json", format!("{:#}\n", self.json(taken)))?;
        let asked: Vec<_> = self.rows.iter().filter_map(Row::met).collect();
        let met = asked.iter().filter(|met| **met).count();
        println!();
        if let Some(line) = distance::summary(&self.distances) {
            println!("{line}");
        }
        println!("{met} of {} targets met, in {:.1} minutes", asked.len(), taken.as_secs_f64() / 60.0);
        println!("written: {0}/report.md, {0}/report.json", folder.display());
        Ok(())
    }

    fn markdown(&self, taken: Duration) -> String {
        let mut text = String::from("# wiremesh beside its rivals\n\n");
        for line in &self.head {
            let _ = writeln!(text, "- {line}");
        }
        if let Some(line) = distance::summary(&self.distances) {
            let _ = writeln!(text, "- {line}");
        }
        let _ = writeln!(text, "- the whole run took {:.1} minutes", taken.as_secs_f64() / 60.0);
        text.push_str(
            "\nA ratio is wiremesh's figure divided by the subject's, the median over the pairs that saw the same distance of the cores. Units: msg/s (more is better), us \
             round trip, ns of processor time per message in both processes, resident bytes per connection (less is better).\n",
        );
        let mut case = "";
        for row in &self.rows {
            if row.case != case {
                case = row.case;
                let _ = write!(
                    text,
                    "\n## {case}\n\n| what | subject | median | wiremesh / subject | target | met | pairs |\n"
                );
                text.push_str("|---|---|---:|---:|---|---|---|\n");
            }
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} |",
                row.what(),
                row.who(),
                row.figure(),
                row.pairs.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
                row.target.map(|target| target.to_string()).unwrap_or_default(),
                row.met().map(|met| if met { "yes" } else { "no" }).unwrap_or_default(),
                row.pairs,
            );
        }
        text
    }

    fn json(&self, taken: Duration) -> Value {
        let rows: Vec<_> = self.rows.iter().map(|row| row.json(self.pairs)).collect();
        json!({
            "rows": rows,
            "subjects": self.subjects,
            "machine": machine(),
            "minutes": taken.as_secs_f64() / 60.0,
            "meaning": "ratio_to_wiremesh is the subject's figure divided by wiremesh's, wiremesh_ratio the inverse, which the \
                        targets are about; both are medians over the pairs that saw the same distance of the cores; distances are nanoseconds \
                        of a cache line's round trip between the cores before and after each measurement",
        })
    }
}

fn row(cell: &Cell, case: &'static str, metric: Metric, entry: &Entry, reference: Option<&Entry>) -> Row {
    let values: Vec<f64> = entry.samples.iter().map(|sample| sample.get(metric)).collect();
    let usable = entry.failed.is_none();
    let pairs = reference.filter(|reference| usable && reference.failed.is_none()).map(|reference| {
        let ours = reference.samples.iter().map(|sample| sample.get(metric)).zip(reference.cores());
        Pairs::new(ours.zip(values.iter().copied().zip(entry.cores())))
    });
    let is_reference = reference.is_some_and(|reference| std::ptr::eq(reference, entry));
    Row {
        case,
        transport: cell.transport,
        bytes: cell.bytes,
        peers: cell.peers,
        rate: cell.rate,
        threads: entry.entrant.threads,
        subject: entry.entrant.subject,
        metric,
        median: usable.then(|| median(values)).flatten(),
        pairs: pairs.unwrap_or_default(),
        distances: entry.distances.clone(),
        target: cell.target(metric, &entry.entrant).filter(|_| !is_reference),
        failed: entry.failed.clone(),
    }
}

impl Row {
    /// Whether the target is met, where there is one and a figure to hold against it.
    fn met(&self) -> Option<bool> {
        Some(self.target?.met(self.pairs.ratio()?))
    }

    /// Transport, length and what else tells this cell from the others of its case.
    fn what(&self) -> String {
        let mut text = format!("{} {} B", self.transport, self.bytes);
        if self.peers > 1 {
            let _ = write!(text, ", {} peers", self.peers);
        }
        if self.rate > 0 {
            let _ = write!(text, ", {}/s", self.rate);
        }
        if let Some(statistic) = self.metric.statistic() {
            let _ = write!(text, ", {statistic}");
        }
        text
    }

    fn who(&self) -> String {
        match (self.case, self.threads) {
            ("shared_sender", 1) => format!("{}, 1 thread", self.subject),
            ("shared_sender", threads) => format!("{}, {threads} threads", self.subject),
            _ => self.subject.to_owned(),
        }
    }

    fn figure(&self) -> String {
        match (&self.failed, self.median) {
            (Some(why), _) if why.starts_with("not built") => why.clone(),
            (Some(why), _) => format!("failed: {why}"),
            (None, Some(median)) => format!("{} {}", short(median), self.metric.unit()),
            (None, None) => String::new(),
        }
    }

    fn plain(&self) -> String {
        let ratio = self.pairs.ratio().map(|ratio| format!("{ratio:>8.2}")).unwrap_or_else(|| " ".repeat(8));
        let target = match (self.target, self.met()) {
            (Some(target), Some(true)) => format!("  {target}"),
            (Some(target), Some(false)) => format!("  {target}  SHORT"),
            (Some(target), None) => format!("  {target}  ?"),
            (None, _) => String::new(),
        };
        let (what, who, figure) = (self.what(), self.who(), self.figure());
        format!("{:<14} {what:<24} {who:<20} {figure:>18} {ratio}{target}  {}", self.case, self.pairs)
    }

    fn json(&self, pairs: usize) -> Value {
        let ratio = self.pairs.ratio();
        let (near, far, mixed) = self.pairs.counts();
        let distances = self.distances.iter().flatten().map(|distance| json!([distance.before, distance.after]));
        let mut row = json!({
            "case": self.case,
            "transport": self.transport,
            "bytes": self.bytes,
            "subject": self.subject,
            "unit": self.metric.unit(),
            "median": self.median,
            "ratio_to_wiremesh": ratio.map(|ratio| 1.0 / ratio),
            "wiremesh_ratio": ratio,
            "pairs": pairs,
            "pairs_near": near,
            "pairs_far": far,
            "pairs_mixed": mixed,
            "distances": distances.collect::<Vec<_>>(),
        });
        let mut set = |key: &str, value: Value| {
            if let Some(fields) = row.as_object_mut() {
                fields.insert(key.to_owned(), value);
            }
        };
        if let Some((near, far)) = self.pairs.apart() {
            set("wiremesh_ratio_near", near.into());
            set("wiremesh_ratio_far", far.into());
        }
        if self.peers > 1 {
            set("peers", self.peers.into());
        }
        if self.rate > 0 {
            set("rate", self.rate.into());
        }
        if self.case == "shared_sender" {
            set("threads", self.threads.into());
        }
        if let Some(statistic) = self.metric.statistic() {
            set("statistic", statistic.into());
        }
        if let Some(target) = self.target {
            set("target", target.to_string().into());
            set("met", self.met().into());
        }
        if let Some(why) = &self.failed {
            set("failed", why.as_str().into());
        }
        row
    }
}

/// The median, of the two middle values the mean.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some((upper + lower) / 2.0)
}

/// Three significant digits with a unit of thousands.
fn short(value: f64) -> String {
    let (scaled, suffix) = match value {
        v if v >= 1e6 => (v / 1e6, " M"),
        v if v >= 1e4 => (v / 1e3, " k"),
        v => (v, ""),
    };
    match scaled {
        v if v >= 100.0 => format!("{v:.0}{suffix}"),
        v if v >= 10.0 => format!("{v:.1}{suffix}"),
        v => format!("{v:.2}{suffix}"),
    }
}

/// Processor, number of cores, memory and kernel of this machine.
fn machine() -> String {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = file("/proc/sys/kernel/osrelease");
    let memory = field(&file("/proc/meminfo"), "MemTotal");
    format!(
        "{}, {cores} cores, {memory} of memory, {} {}",
        field(&file("/proc/cpuinfo"), "model name"),
        std::env::consts::OS,
        kernel.trim()
    )
}

/// How busy the machine was before anything was measured; what else runs spoils the figures.
fn other_load() -> String {
    let ticks = || {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let fields: Vec<f64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        let idle = fields.get(3).copied().unwrap_or(0.0);
        (fields.iter().sum::<f64>(), idle)
    };
    let before = ticks();
    std::thread::sleep(Duration::from_secs(1));
    let after = ticks();
    let total = (after.0 - before.0).max(1.0);
    let busy = 100.0 * (1.0 - (after.1 - before.1) / total);
    let verdict = if busy > 10.0 { "; do not trust the figures" } else { "" };
    format!("other programs kept {busy:.0} % of the cores busy at the start{verdict}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_values_is_the_mean_of_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn figures_keep_three_digits() {
        assert_eq!(short(5_870_000.0), "5.87 M");
        assert_eq!(short(143_000.0), "143 k");
        assert_eq!(short(76.94), "76.9");
        assert_eq!(short(2.345), "2.35");
    }
}
