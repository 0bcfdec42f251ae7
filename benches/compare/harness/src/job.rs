//! The command line every subject understands.

use std::time::Duration;

use crate::Outcome;

/// What a process does in a measurement. The first of each pair binds, the second connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Prints version and settings.
    About,
    /// PULL: binds and receives `count` messages from `peers` processes.
    Pull,
    /// PUSH: connects and sends `count` messages, from `threads` threads, at `rate` a second if given.
    Push,
    /// PULL and PUSH in this process, two threads, over inproc.
    Both,
    /// REP: binds and echoes `warmup + count` requests.
    Rep,
    /// REQ: connects and times `count` round trips after `warmup` of them.
    Req,
    /// PUSH: binds and spreads `count` messages over `peers` PULL sockets.
    PushMany,
    /// `peers` PULL sockets in this process, all connected to one PUSH.
    PullMany,
    /// PUB: binds and publishes `count` messages to `peers` SUB sockets, dropping none.
    Pub,
    /// `peers` SUB sockets in this process, all connected to one PUB.
    SubMany,
    /// ROUTER: binds and echoes `count` messages.
    Router,
    /// `peers` DEALER sockets in this process with `window` messages outstanding each; `count` in all.
    DealerMany,
    /// ROUTER: binds, echoes one message for each of `peers` connections and reports its resident memory.
    IdleRouter,
    /// `peers` bare connections speaking just enough ZMTP to send one message and receive one each.
    IdleClients,
}

/// One process of one measurement.
#[derive(Clone, Debug)]
pub struct Job {
    /// `role=`: what to do.
    pub role: Role,
    /// `transport=`: `tcp`, `ipc` or `inproc`.
    pub transport: String,
    /// `endpoint=`: where to bind or connect; the driver chose it, nothing is left to the library.
    pub endpoint: String,
    /// `bytes=`: length of every message.
    pub bytes: usize,
    /// `count=`: how many messages; each role says of what.
    pub count: u64,
    /// `warmup=`: round trips before the clock starts.
    pub warmup: u64,
    /// `peers=`: how many peers or sockets.
    pub peers: usize,
    /// `window=`: messages outstanding for each DEALER.
    pub window: u64,
    /// `threads=`: sending threads on one socket.
    pub threads: u64,
    /// `source=`: number of this sender, put into the upper 16 bits of the sequence.
    pub source: u64,
    /// `rate=`: messages a second, 0 = as fast as possible.
    pub rate: u64,
    /// `tick=`: microseconds between the wake-ups of a paced sender, 0 = one wake-up per message.
    pub tick: Duration,
    /// `spin=`: microseconds of spinning before sleeping, for the libraries that offer it.
    pub spin: Duration,
    /// `core=`: the core on which a REQ's or REP's calling thread stays; the library's own threads stay free.
    pub core: Option<usize>,
    /// `hold=`: 1 makes a connected PUSH wait for the driver's `go`, so that many of them start together.
    pub hold: bool,
    /// `whole=`: 1 looks at every byte of each message instead of its first eight. It takes time, so no measurement does.
    pub whole: bool,
    /// `mode=`: a library's own setting to compare; empty = its best.
    pub mode: String,
}

/// What a subject says of itself in the report.
#[derive(Clone, Debug)]
pub struct About {
    /// Version of the library.
    pub version: String,
    /// The settings in use where they differ from the defaults.
    pub settings: String,
}

impl Job {
    /// Parses `key=value` words. Unknown keys and values are failures that name them.
    pub fn from_args(args: impl Iterator<Item = String>) -> Outcome<Job> {
        let mut job = Job {
            role: Role::About,
            transport: "tcp".into(),
            endpoint: String::new(),
            bytes: 64,
            count: 1000,
            warmup: 0,
            peers: 1,
            window: 64,
            threads: 1,
            source: 0,
            rate: 0,
            tick: Duration::ZERO,
            spin: Duration::ZERO,
            core: None,
            hold: false,
            whole: false,
            mode: String::new(),
        };
        for word in args {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("'{word}' is not of the form key=value"))?;
            match key {
                "role" => job.role = role(value)?,
                "transport" => job.transport = value.into(),
                "endpoint" => job.endpoint = value.into(),
                "mode" => job.mode = value.into(),
                "core" => job.core = Some(number(key, value)?),
                "hold" => job.hold = value == "1",
                "whole" => job.whole = value == "1",
                "bytes" => job.bytes = number(key, value)?,
                "count" => job.count = number(key, value)?,
                "warmup" => job.warmup = number(key, value)?,
                "peers" => job.peers = number(key, value)?,
                "window" => job.window = number(key, value)?,
                "threads" => job.threads = number(key, value)?,
                "source" => job.source = number(key, value)?,
                "rate" => job.rate = number(key, value)?,
                "tick" => job.tick = Duration::from_micros(number(key, value)?),
                "spin" => job.spin = Duration::from_micros(number(key, value)?),
                _ => return Err(format!("unknown key '{key}'").into()),
            }
        }
        if job.bytes < 8 {
            return Err("a message needs 8 bytes for its sequence number".into());
        }
        Ok(job)
    }
}

fn role(value: &str) -> Outcome<Role> {
    Ok(match value {
        "about" => Role::About,
        "pull" => Role::Pull,
        "push" => Role::Push,
        "both" => Role::Both,
        "rep" => Role::Rep,
        "req" => Role::Req,
        "push_many" => Role::PushMany,
        "pull_many" => Role::PullMany,
        "pub" => Role::Pub,
        "sub_many" => Role::SubMany,
        "router" => Role::Router,
        "dealer_many" => Role::DealerMany,
        "idle_router" => Role::IdleRouter,
        "idle_clients" => Role::IdleClients,
        _ => return Err(format!("unknown role '{value}'").into()),
    })
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Outcome<T> {
    value.parse().map_err(|_| format!("{key}={value} is not a number").into())
}
