//! One measurement: which processes play it, in which order they are started, and what their figures mean.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::cases::{Case, Cell, Entrant, Metric};
use super::process::Group;
use super::subjects::Subjects;

/// What one measurement gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    throughput: f64,
    median: f64,
    percentile99: f64,
    cpu_nanos: f64,
    resident: f64,
    seconds: f64,
}

impl Sample {
    /// The figure of `metric`.
    pub(crate) fn get(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Throughput => self.throughput,
            Metric::Median => self.median,
            Metric::Percentile99 => self.percentile99,
            Metric::CpuPerMessage => self.cpu_nanos,
            Metric::ResidentPerConnection => self.resident,
        }
    }
}

const ROUND_TRIPS: u64 = 5000;
const WARM_UP_TRIPS: u64 = 500;
/// Where the scheduler puts the threads of a paced pair changes within the first half second.
const PACED_SECONDS: u64 = 2;

/// A paced sender wakes once a millisecond and sends what is due. Sleeping before every single message would cost more
/// processor time than any subject spends on the message itself.
pub(crate) const PACED_TICK_MICROS: u64 = 1000;

/// Finds how many messages take about `seconds`; this also warms files and caches up.
pub(crate) fn calibrate(cell: &Cell, entrant: &Entrant, subjects: &Subjects, seconds: f64) -> Result<u64, String> {
    match cell.case {
        Case::ReqRep | Case::ReqRepSpin => return Ok(ROUND_TRIPS),
        Case::Paced => return Ok(cell.rate * PACED_SECONDS),
        Case::IdleMemory => return Ok(cell.peers),
        Case::PushPull | Case::RoundRobin | Case::PubFanout | Case::RouterDealer | Case::FanIn | Case::SharedSender => {
        }
    }
    let receivers = if cell.case == Case::PubFanout { cell.peers } else { 1 };
    let mut count = (20_000_000 / (cell.bytes + 200) / receivers).max(200);
    for _ in 0..6 {
        let taken =
            once(cell, entrant, subjects, count).or_else(|_| once(cell, entrant, subjects, count))?.seconds.max(1e-6);
        let wanted = (count as f64 * seconds / taken) as u64;
        if taken > seconds / 5.0 {
            return Ok(wanted.max(200));
        }
        count = wanted.clamp(count * 2, count * 12);
    }
    Ok(count)
}

/// Runs one measurement of `count` messages.
pub(crate) fn once(cell: &Cell, entrant: &Entrant, subjects: &Subjects, count: u64) -> Result<Sample, String> {
    let program = subjects.program(entrant.subject)?;
    let endpoint = Endpoint::new(cell.transport)?;
    let job = Job { cell, entrant, endpoint: &endpoint.name };
    // `count` of the whole measurement is a multiple of what its parts need.
    let parts = match cell.case {
        Case::RouterDealer | Case::FanIn => cell.peers,
        Case::SharedSender => 4,
        _ => 1,
    };
    let count = (count / parts).max(1) * parts;
    let figures = match cell.case {
        Case::PushPull if cell.transport == "inproc" => {
            let mut group = Group::new(LIMIT);
            let both = group.start(program, &job.args("both", count))?;
            let result = group.wait_for(both, "messages")?;
            group.release(both);
            Figures { timed: result, other: Value::Null }
        }
        Case::PushPull | Case::Paced | Case::SharedSender => {
            job.pair(program, ("pull", count), ("push", count), Timed::Binder)?
        }
        Case::ReqRep | Case::ReqRepSpin => job.pair(program, ("rep", count), ("req", count), Timed::Connector)?,
        Case::RouterDealer => job.pair(program, ("router", count), ("dealer_many", count), Timed::Connector)?,
        Case::RoundRobin => job.distribute(program, "push_many", "pull_many", count)?,
        Case::PubFanout => job.distribute(program, "pub", "sub_many", count)?,
        Case::FanIn => job.fan_in(program, count)?,
        Case::IdleMemory => job.idle(program, subjects.program("bare")?)?,
    };
    figures.sample(cell, count)
}

/// Runs a push_pull with the process of `role` under callgrind and returns the instructions it executed.
pub(crate) fn instructions(
    cell: &Cell,
    entrant: &Entrant,
    subjects: &Subjects,
    count: u64,
    role: &str,
    folder: &Path,
) -> Result<u64, String> {
    let program = subjects.program(entrant.subject)?;
    let endpoint = Endpoint::new(cell.transport)?;
    let job = Job { cell, entrant, endpoint: &endpoint.name };
    let out = folder.join("callgrind.out");
    let mut group = Group::new(CALLGRIND_LIMIT);
    let start = |group: &mut Group, this: &str| match this == role {
        false => group.start(program, &job.args(this, count)),
        true => {
            let mut args = vec!["--tool=callgrind".to_owned(), format!("--callgrind-out-file={}", out.display())];
            args.push(program.display().to_string());
            args.extend(job.args(this, count));
            group.start(Path::new("valgrind"), &args)
        }
    };
    let pull = start(&mut group, "pull")?;
    group.wait_for(pull, "bound")?;
    let push = start(&mut group, "push")?;
    finish(&mut group, pull, push)?;
    group.wait_for_end(if role == "pull" { pull } else { push })?;
    let text = std::fs::read_to_string(&out).map_err(|why| format!("{}: {why}", out.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")));
    let total = total.and_then(|total| total.split_whitespace().next()).and_then(|number| number.parse().ok());
    total.ok_or_else(|| "callgrind wrote no total".into())
}

/// How long a measurement of about a second may take before it counts as hung.
const LIMIT: Duration = Duration::from_secs(12);
const CALLGRIND_LIMIT: Duration = Duration::from_secs(120);
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// Whose clock counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Timed {
    Binder,
    Connector,
}

struct Figures {
    timed: Value,
    other: Value,
}

impl Figures {
    fn sample(&self, cell: &Cell, count: u64) -> Result<Sample, String> {
        let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        let seconds = number(&self.timed, "seconds");
        let messages = number(&self.timed, "messages");
        if seconds <= 0.0 && cell.case != Case::IdleMemory {
            return Err("the measurement took no time".into());
        }
        Ok(Sample {
            throughput: messages / seconds,
            median: number(&self.timed, "p50"),
            percentile99: number(&self.timed, "p99"),
            cpu_nanos: (number(&self.timed, "cpu") + number(&self.other, "cpu")) * 1e9 / count as f64,
            resident: number(&self.timed, "resident"),
            seconds,
        })
    }
}

/// The common arguments of the processes of one measurement.
struct Job<'a> {
    cell: &'a Cell,
    entrant: &'a Entrant,
    endpoint: &'a str,
}

impl Job<'_> {
    fn args(&self, role: &str, count: u64) -> Vec<String> {
        let (cell, entrant, endpoint) = (self.cell, self.entrant, self.endpoint);
        let mut args = vec![
            format!("role={role}"),
            format!("transport={}", cell.transport),
            format!("endpoint={endpoint}"),
            format!("bytes={}", cell.bytes),
            format!("count={count}"),
            format!("peers={}", cell.peers),
            format!("threads={}", entrant.threads),
            format!("spin={}", entrant.spin_micros),
        ];
        if matches!(cell.case, Case::ReqRep | Case::ReqRepSpin) {
            args.push(format!("warmup={WARM_UP_TRIPS}"));
            // The calling threads stay on different cores: left alone, the scheduler sometimes puts both ends on one core, where
            // a round trip costs a twentieth, and no two figures could be compared.
            args.push(format!("core={}", if role == "req" { 1 } else { 0 }));
        }
        if role == "push" {
            args.push(format!("rate={}", cell.rate));
            args.push(format!("tick={PACED_TICK_MICROS}"));
        }
        args
    }

    /// One process binds, one connects; the timed one finishes first, then the other may.
    fn pair(
        &self,
        program: &Path,
        binder: (&str, u64),
        connector: (&str, u64),
        timed: Timed,
    ) -> Result<Figures, String> {
        let mut group = Group::new(LIMIT);
        let first = group.start(program, &self.args(binder.0, binder.1))?;
        group.wait_for(first, "bound")?;
        let second = group.start(program, &self.args(connector.0, connector.1))?;
        let (timed, other) = if timed == Timed::Binder { (first, second) } else { (second, first) };
        finish(&mut group, timed, other)
    }

    /// The sender binds, the receiving process connects all its sockets and says when each has heard something.
    fn distribute(&self, program: &Path, sender: &str, receiver: &str, count: u64) -> Result<Figures, String> {
        let mut group = Group::new(LIMIT);
        let sender = group.start(program, &self.args(sender, count))?;
        group.wait_for(sender, "bound")?;
        let receiver = group.start(program, &self.args(receiver, count))?;
        group.wait_for(receiver, "ready")?;
        group.tell(sender, "go")?;
        finish(&mut group, receiver, sender)
    }

    /// One PULL process, as many PUSH processes as the cell has peers.
    fn fan_in(&self, program: &Path, count: u64) -> Result<Figures, String> {
        let mut group = Group::new(LIMIT);
        let pull = group.start(program, &self.args("pull", count))?;
        group.wait_for(pull, "bound")?;
        let mut pushers = Vec::new();
        for source in 0..self.cell.peers {
            let mut args = self.args("push", count / self.cell.peers);
            args.extend([format!("source={source}"), "hold=1".to_owned()]);
            let pusher = group.start(program, &args)?;
            group.wait_for(pusher, "ready")?;
            pushers.push(pusher);
        }
        for pusher in &pushers {
            group.tell(*pusher, "go")?;
        }
        let timed = group.wait_for(pull, "messages")?;
        let mut cpu = 0.0;
        for pusher in pushers {
            group.release(pusher);
            let figures = group.wait_for(pusher, "messages")?;
            cpu += figures.get("cpu").and_then(Value::as_f64).unwrap_or(0.0);
        }
        Ok(Figures { timed, other: serde_json::json!({ "cpu": cpu }) })
    }

    /// The binding process belongs to the subject; the connections are bare ones, so that they cost the same for all.
    fn idle(&self, program: &Path, bare: &Path) -> Result<Figures, String> {
        let mut group = Group::new(IDLE_LIMIT);
        let router = group.start(program, &self.args("idle_router", self.cell.peers))?;
        group.wait_for(router, "bound")?;
        let clients = group.start(bare, &self.args("idle_clients", self.cell.peers))?;
        group.wait_for(clients, "ready")?;
        let timed = group.wait_for(router, "messages")?;
        group.release(clients);
        group.release(router);
        Ok(Figures { timed, other: Value::Null })
    }
}

fn finish(group: &mut Group, timed: usize, other: usize) -> Result<Figures, String> {
    let result = group.wait_for(timed, "messages")?;
    group.release(other);
    let other = group.wait_for(other, "messages")?;
    group.release(timed);
    Ok(Figures { timed: result, other })
}

/// An address nobody uses, and the socket file it may leave behind.
struct Endpoint {
    name: String,
    file: Option<PathBuf>,
}

impl Endpoint {
    fn new(transport: &str) -> Result<Endpoint, String> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        match transport {
            "tcp" => {
                // The port is free now and will be taken again within milliseconds; a collision fails one run, which is
                // then repeated.
                let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|why| why.to_string())?;
                let address = listener.local_addr().map_err(|why| why.to_string())?;
                Ok(Endpoint { name: format!("tcp://{address}"), file: None })
            }
            "ipc" => {
                let file = std::env::temp_dir().join(format!("wiremesh-bench-{}-{number}", std::process::id()));
                Ok(Endpoint { name: format!("ipc://{}", file.display()), file: Some(file) })
            }
            _ => Ok(Endpoint { name: format!("{transport}://bench"), file: None }),
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // Most subjects remove their file themselves.
            let _ = std::fs::remove_file(file);
        }
    }
}
