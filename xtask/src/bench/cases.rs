//! The cases, their cells (transport, length, number of peers), who takes part and what is asked of wiremesh.

/// Every subject, in the order of the tables. The rivals that count most stand beside wiremesh.
pub(crate) const SUBJECTS: [&str; 7] = ["libzmq", "wiremesh", "omq", "bare", "zeromq", "rzmq", "nng"];

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    PushPull,
    ReqRep,
    ReqRepSpin,
    RoundRobin,
    PubFanout,
    RouterDealer,
    FanIn,
    SharedSender,
    Paced,
    IdleMemory,
}

/// One line of the tables to be: a case with all its numbers.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) case: Case,
    pub(crate) transport: &'static str,
    pub(crate) bytes: u64,
    /// Sockets on the many-sided end; connections for idle memory.
    pub(crate) peers: u64,
    /// Messages a second, 0 = unlimited.
    pub(crate) rate: u64,
}

/// A subject in a cell, with settings beyond the cell's own.
#[derive(Clone, Debug)]
pub(crate) struct Entrant {
    pub(crate) subject: &'static str,
    pub(crate) threads: u64,
    pub(crate) spin_micros: u64,
}

/// A figure taken from a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    Throughput,
    Median,
    Percentile99,
    CpuPerMessage,
    ResidentPerConnection,
}

/// What the issue asks of wiremesh's figure divided by the other subject's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Case {
    /// Name on the command line and in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Case::PushPull => "push_pull",
            Case::ReqRep => "req_rep",
            Case::ReqRepSpin => "req_rep_spin",
            Case::RoundRobin => "round_robin",
            Case::PubFanout => "pub_fanout",
            Case::RouterDealer => "router_dealer",
            Case::FanIn => "fan_in",
            Case::SharedSender => "shared_sender",
            Case::Paced => "paced",
            Case::IdleMemory => "idle_memory",
        }
    }
}

impl Metric {
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Metric::Throughput => "msg/s",
            Metric::Median | Metric::Percentile99 => "us",
            Metric::CpuPerMessage => "ns/msg",
            Metric::ResidentPerConnection => "bytes/connection",
        }
    }

    /// Which statistic of the single messages the figure is, where it is one.
    pub(crate) fn statistic(self) -> Option<&'static str> {
        match self {
            Metric::Median => Some("median"),
            Metric::Percentile99 => Some("p99"),
            Metric::Throughput | Metric::CpuPerMessage | Metric::ResidentPerConnection => None,
        }
    }
}

impl Target {
    pub(crate) fn met(self, ratio: f64) -> bool {
        match self {
            Target::AtLeast(bound) => ratio >= bound,
            Target::AtMost(bound) => ratio <= bound,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::AtLeast(bound) => write!(f, ">= {bound}"),
            Target::AtMost(bound) => write!(f, "<= {bound}"),
        }
    }
}

impl Cell {
    fn new(case: Case, transport: &'static str, bytes: u64) -> Cell {
        Cell { case, transport, bytes, peers: 1, rate: 0 }
    }

    /// The figures reported, each under the case it belongs to.
    pub(crate) fn metrics(&self) -> Vec<(&'static str, Metric)> {
        let name = self.case.name();
        match self.case {
            Case::PushPull if self.is_cpu() => vec![(name, Metric::Throughput), ("cpu", Metric::CpuPerMessage)],
            Case::PushPull
            | Case::RoundRobin
            | Case::PubFanout
            | Case::RouterDealer
            | Case::FanIn
            | Case::SharedSender => vec![(name, Metric::Throughput)],
            Case::ReqRep | Case::ReqRepSpin => vec![(name, Metric::Median), (name, Metric::Percentile99)],
            Case::Paced => vec![(name, Metric::CpuPerMessage)],
            Case::IdleMemory => vec![(name, Metric::ResidentPerConnection)],
        }
    }

    /// The case `cpu` is the processor time of the 64 B push_pull over tcp.
    fn is_cpu(&self) -> bool {
        self.case == Case::PushPull && self.transport == "tcp" && self.bytes == 64
    }

    /// Who takes part.
    pub(crate) fn entrants(&self) -> Vec<Entrant> {
        let plain = |subject| Entrant { subject, threads: 1, spin_micros: 0 };
        let all_but =
            |absent: &[&str]| SUBJECTS.into_iter().filter(|name| !absent.contains(name)).map(plain).collect::<Vec<_>>();
        match self.case {
            Case::PushPull if self.transport == "inproc" => all_but(&["bare", "zeromq"]),
            Case::PushPull | Case::ReqRep => all_but(&[]),
            Case::RoundRobin | Case::PubFanout | Case::FanIn => all_but(&["bare"]),
            Case::RouterDealer => all_but(&["bare", "nng"]),
            Case::Paced => all_but(&["zeromq", "rzmq", "nng"]),
            Case::IdleMemory => vec![plain("libzmq"), plain("wiremesh")],
            Case::ReqRepSpin => vec![plain("bare"), Entrant { spin_micros: 1000, ..plain("wiremesh") }],
            Case::SharedSender => vec![plain("wiremesh"), Entrant { threads: 4, ..plain("wiremesh") }],
        }
    }

    /// Which entrant the ratios refer to: wiremesh as the case is about it.
    pub(crate) fn is_reference(&self, entrant: &Entrant) -> bool {
        entrant.subject == "wiremesh" && (self.case != Case::SharedSender || entrant.threads == 4)
    }

    /// What wiremesh's figure divided by that of `entrant` should be.
    pub(crate) fn target(&self, metric: Metric, entrant: &Entrant) -> Option<Target> {
        use Target::{AtLeast, AtMost};
        let beside = |libzmq, omq| match entrant.subject {
            "libzmq" => Some(AtLeast(libzmq)),
            "omq" => Some(AtLeast(omq)),
            _ => None,
        };
        let below = |libzmq, omq| match entrant.subject {
            "libzmq" => Some(AtMost(libzmq)),
            "omq" => Some(AtMost(omq)),
            _ => None,
        };
        match (self.case, metric) {
            (Case::PushPull, Metric::CpuPerMessage) => below(0.4, 0.6),
            (Case::PushPull, _) => match (self.transport, self.bytes, entrant.subject) {
                ("inproc", ..) => beside(2.5, 1.2),
                (_, 1_048_576, "bare") => Some(AtLeast(0.8)),
                (_, 0..=256, _) => beside(3.5, 2.0),
                (_, 257..=1024, _) => beside(3.0, 1.4),
                (_, 1025..=16384, _) => beside(2.0, 1.1),
                _ => beside(1.2, 1.05),
            },
            (Case::ReqRep, _) => match (entrant.subject, metric) {
                ("bare", Metric::Median) => Some(AtMost(1.10)),
                _ => below(0.8, 1.0),
            },
            (Case::ReqRepSpin, Metric::Median) => (entrant.subject == "bare").then_some(AtMost(0.2)),
            (Case::ReqRepSpin, _) => None,
            (Case::RoundRobin | Case::PubFanout, _) => beside(3.0, 1.5),
            (Case::RouterDealer | Case::FanIn, _) => beside(2.5, 1.5),
            (Case::SharedSender, _) => (entrant.threads == 1).then_some(AtLeast(0.5)),
            (Case::Paced, _) => below(0.6, 0.8),
            (Case::IdleMemory, _) => (entrant.subject == "libzmq").then_some(AtMost(0.2)),
        }
    }

    /// Whether `filter`, CASE[/TRANSPORT[/BYTES]], names this cell.
    fn matches(&self, filter: &str) -> bool {
        let mut parts = filter.split('/');
        let case = parts.next().unwrap_or_default();
        self.metrics().iter().any(|(name, _)| *name == case)
            && parts.next().is_none_or(|transport| transport == self.transport)
            && parts.next().is_none_or(|bytes| bytes.parse() == Ok(self.bytes))
    }
}

/// The cells that the command line asks for.
pub(crate) fn select(quick: bool, only: &[String]) -> Result<Vec<Cell>, String> {
    let cells = all();
    if let Some(unknown) = only.iter().find(|filter| !cells.iter().any(|cell| cell.matches(filter))) {
        return Err(format!("--only {unknown}: there is no such case"));
    }
    let quickly = |cell: &Cell| {
        cell.transport == "tcp" && matches!((cell.case, cell.bytes), (Case::PushPull, 64 | 1024) | (Case::ReqRep, 8))
    };
    let chosen = |cell: &Cell| match only.is_empty() {
        true => !quick || quickly(cell),
        false => only.iter().any(|filter| cell.matches(filter)),
    };
    Ok(cells.into_iter().filter(chosen).collect())
}

fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for transport in ["tcp", "ipc"] {
        for bytes in [8, 64, 256, 1024, 16384, 131_072, 1_048_576] {
            cells.push(Cell::new(Case::PushPull, transport, bytes));
        }
    }
    for bytes in [8, 1024] {
        cells.push(Cell::new(Case::PushPull, "inproc", bytes));
    }
    for transport in ["tcp", "ipc"] {
        for bytes in [8, 1024] {
            cells.push(Cell::new(Case::ReqRep, transport, bytes));
        }
    }
    for transport in ["tcp", "ipc"] {
        cells.push(Cell::new(Case::ReqRepSpin, transport, 8));
    }
    let tcp = |case, peers| Cell { peers, ..Cell::new(case, "tcp", 64) };
    cells.push(tcp(Case::RoundRobin, 4));
    cells.push(tcp(Case::RoundRobin, 16));
    cells.push(tcp(Case::PubFanout, 64));
    cells.push(tcp(Case::RouterDealer, 16));
    cells.push(tcp(Case::FanIn, 8));
    cells.push(tcp(Case::SharedSender, 1));
    cells.push(Cell { rate: 50_000, ..tcp(Case::Paced, 1) });
    cells.push(Cell { rate: 200_000, ..tcp(Case::Paced, 1) });
    cells.push(tcp(Case::IdleMemory, 5000));
    cells
}
