//! What a run does: contexts, sockets, endpoints, links and the steps of the threads. It is made from a seed by
//! `themes.rs`, or read from a kept case, and is the same each time; only the threads' timing is not.

use crate::text::{record, words};
use wiremesh::SocketKind;

words! {
    /// What an endpoint goes over.
    Over { Tcp, Ipc, Inproc, Memory }
}

words! {
    /// How long messages are.
    Size {
        /// No octet behind the header.
        Empty,
        /// Up to 64 octets.
        Tiny,
        /// Up to 2 KiB.
        Small,
        /// Around the library's own thresholds: 8, 32 and 64 KiB.
        Middle,
        /// 100 KiB to 1 MiB.
        Large,
        /// 1 to 4 MiB.
        Huge,
        /// All of them, short ones most often.
        Any,
        /// 2 to 1,000 frames.
        Frames,
        /// Short ones, and now and then one above the receivers' `max_message`, or their `max_frames`.
        OverLimit,
    }
}

words! {
    /// What a thread does in a step.
    Act {
        /// Sends `count` messages, `pause` after each.
        Send,
        /// Asks `count` questions, each with a limit of `pause`.
        Request,
        /// Waits for `pause`.
        Rest,
        /// The socket's receivers stand still for `pause`.
        Hold,
        /// Subscribes to `count` topics from `target` on.
        Subscribe,
        /// Subscribes to one topic and takes it back, `count` times.
        Toggle,
        /// Takes the connecting endpoint of link `target` away for `pause`.
        Disconnect,
        /// As `Disconnect`, and two threads connect it again at once.
        ConnectTwice,
        /// Takes the binding endpoint `target` away for `pause`.
        Rebind,
        /// Closes the socket and opens another in its place after `pause`.
        Restart,
        /// Closes the socket and socket `target` at once, and opens both again.
        RestartBoth,
        /// Cuts all links at endpoint `target`, which is in memory.
        Cut,
        /// Holds back what is under way at endpoint `target` for `pause`.
        Stall,
        /// Stops process `target` for `pause`.
        Stop,
    }
}

words! {
    /// Who else comes to an endpoint: a peer made of octets.
    Manner {
        /// A well-behaved PUSH that sends a PING after each of its `count` messages.
        PingingPush,
        /// A PING after the other, `count` of them.
        PingFlood,
        /// Anything.
        Garbage,
        /// Connections that never say a word, `count` of them.
        Silent,
        /// A frame that announces more than there is memory for.
        HugeFrame,
        /// Half a message, and then nothing.
        HalfMessage,
        /// A libzmq peer of the opposite kind that sends, or takes, `count` messages.
        Libzmq,
    }
}

record! {
    /// What a whole run has of everything.
    Frame "plan" {
        seed: u64,
        /// Processes, the first one included.
        processes: usize,
        /// How long the steps may take, in milliseconds.
        time: u64,
        /// Of the transport in memory: the octets a direction holds, the most a call takes, the delay in microseconds.
        capacity: usize,
        chop: usize,
        delay: u64,
    }
}

record! {
    Context "context" {
        process: usize,
        threads: usize,
        engine_only: bool,
        /// In octets; 0 is the default.
        budget: u64,
    }
}

record! {
    Socket "socket" {
        kind: SocketKind,
        context: usize,
        /// Threads that receive, and how long each rests after a message, in microseconds.
        receivers: usize,
        pace: u64,
        /// Stands still until all settle.
        idle: bool,
        send_mark: u32,
        receive_mark: u32,
        /// 0 is the default, here and below.
        max_message: u64,
        max_frames: u32,
        buffers: usize,
        heartbeat: u64,
        half_open: u32,
        /// In milliseconds and one more; 0 is without limit.
        linger: u64,
        immediate: bool,
        conflate: bool,
        handover: bool,
        mandatory: bool,
        nodrop: bool,
        /// It announces a routing id, which is its number.
        named: bool,
        /// A ROUTER answers that many of a hundred messages; a REP takes so many milliseconds now and then.
        answers: u64,
    }
}

record! {
    Endpoint "endpoint" {
        socket: usize,
        over: Over,
        /// It is bound by a step `Rebind` and not before, so that peers wait for it.
        late: bool,
    }
}

record! {
    /// A socket that connects to an endpoint.
    Link "link" { socket: usize, endpoint: usize }
}

record! {
    Step "step" { actor: usize, act: Act, socket: usize, target: usize, count: u64, size: Size, pause: u64 }
}

record! {
    Stranger "stranger" { endpoint: usize, manner: Manner, count: u64, size: Size }
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) frame: Frame,
    pub(crate) contexts: Vec<Context>,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) links: Vec<Link>,
    pub(crate) steps: Vec<Step>,
    pub(crate) strangers: Vec<Stranger>,
}

impl Plan {
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![self.frame.line()];
        lines.extend(self.contexts.iter().map(Context::line));
        lines.extend(self.sockets.iter().map(Socket::line));
        lines.extend(self.endpoints.iter().map(Endpoint::line));
        lines.extend(self.links.iter().map(Link::line));
        lines.extend(self.steps.iter().map(Step::line));
        lines.extend(self.strangers.iter().map(Stranger::line));
        lines.join("\n") + "\n"
    }

    /// Reads what `text` wrote. Lines that are empty or begin with `#` are left out.
    pub(crate) fn parse(text: &str) -> Result<Plan, String> {
        let mut frame = Err("there is no line `plan`".to_owned());
        let mut plan = Plan::empty(0);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (label, fields) = line.split_once(' ').unwrap_or((line, ""));
            match label {
                Frame::LABEL => frame = Ok(Frame::parse(fields)?),
                Context::LABEL => plan.contexts.push(Context::parse(fields)?),
                Socket::LABEL => plan.sockets.push(Socket::parse(fields)?),
                Endpoint::LABEL => plan.endpoints.push(Endpoint::parse(fields)?),
                Link::LABEL => plan.links.push(Link::parse(fields)?),
                Step::LABEL => plan.steps.push(Step::parse(fields)?),
                Stranger::LABEL => plan.strangers.push(Stranger::parse(fields)?),
                other => return Err(format!("`{other}` begins no line of a plan")),
            }
        }
        plan.frame = frame?;
        plan.check().map(|()| plan)
    }

    pub(crate) fn empty(seed: u64) -> Plan {
        Plan {
            frame: Frame { seed, processes: 1, time: 1000, capacity: 64 << 10, chop: 0, delay: 0 },
            contexts: Vec::new(),
            sockets: Vec::new(),
            endpoints: Vec::new(),
            links: Vec::new(),
            steps: Vec::new(),
            strangers: Vec::new(),
        }
    }

    /// Whether all numbers name something, and every link can be.
    pub(crate) fn check(&self) -> Result<(), String> {
        let known = |what: &str, number: usize, count: usize| match number < count {
            true => Ok(()),
            false => Err(format!("there is no {what} {number}")),
        };
        self.contexts.iter().try_for_each(|context| known("process", context.process, self.frame.processes))?;
        self.sockets.iter().try_for_each(|socket| known("context", socket.context, self.contexts.len()))?;
        self.endpoints.iter().try_for_each(|endpoint| known("socket", endpoint.socket, self.sockets.len()))?;
        for link in &self.links {
            known("socket", link.socket, self.sockets.len())?;
            known("endpoint", link.endpoint, self.endpoints.len())?;
            let endpoint = &self.endpoints[link.endpoint];
            let (one, other) = (&self.sockets[link.socket], &self.sockets[endpoint.socket]);
            let near = match endpoint.over {
                Over::Inproc => one.context == other.context,
                Over::Memory => self.process_of(link.socket) == 0 && self.process_of(endpoint.socket) == 0,
                Over::Tcp | Over::Ipc => true,
            };
            if !near || !one.kind.accepts(other.kind) {
                return Err(format!("{} cannot be", link.line()));
            }
        }
        for step in &self.steps {
            known("socket", step.socket, self.sockets.len())?;
            match step.act {
                Act::Disconnect | Act::ConnectTwice => known("link", step.target, self.links.len())?,
                Act::Rebind | Act::Cut | Act::Stall => known("endpoint", step.target, self.endpoints.len())?,
                Act::RestartBoth => known("socket", step.target, self.sockets.len())?,
                Act::Stop => known("process", step.target, self.frame.processes)?,
                Act::Send | Act::Request | Act::Rest | Act::Hold | Act::Subscribe | Act::Toggle | Act::Restart => {}
            }
        }
        self.strangers.iter().try_for_each(|stranger| known("endpoint", stranger.endpoint, self.endpoints.len()))
    }

    pub(crate) fn process_of(&self, socket: usize) -> usize {
        self.contexts[self.sockets[socket].context].process
    }

    pub(crate) fn actors(&self) -> usize {
        self.steps.iter().map(|step| step.actor + 1).max().unwrap_or(0)
    }

    /// The other ends of a socket's links, each with the link's number.
    pub(crate) fn peers(&self, socket: usize) -> Vec<(usize, usize)> {
        let links = self.links.iter().enumerate();
        links
            .filter_map(|(number, link)| {
                let binder = self.endpoints[link.endpoint].socket;
                if link.socket == socket {
                    Some((binder, number))
                } else {
                    (binder == socket).then_some((link.socket, number))
                }
            })
            .collect()
    }

    /// Whether strangers of one of those manners come to an endpoint of that socket.
    pub(crate) fn is_visited(&self, socket: usize, manners: &[Manner]) -> bool {
        let mut strangers = self.strangers.iter().filter(|stranger| manners.contains(&stranger.manner));
        strangers.any(|stranger| self.endpoints[stranger.endpoint].socket == socket)
    }

    /// The steps that do this to that socket, or to that endpoint or link of it.
    pub(crate) fn is_done_to(&self, acts: &[Act], target: impl Fn(&Step) -> bool) -> bool {
        self.steps.iter().any(|step| acts.contains(&step.act) && target(step))
    }
}
