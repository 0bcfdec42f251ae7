//! A seeded simulator: pairs of connections on virtual time, over streams that are chopped, delayed, cut, stalled and
//! corrupted.
//!
//! Each seed draws two socket kinds, their limits, what they send, how the streams behave and at most one fault, and
//! then checks: what arrives is what was sent, in order, whole; whatever lies before a fault arrives; without a fault
//! everything arrives and both ends close cleanly; a rule that is broken is noticed as that rule; a silent peer is
//! given up in time; nothing exceeds a limit, and no step is made without progress.
//!
//! `WIREMESH_SEEDS` says how many seeds run (2,000), `WIREMESH_SEED` runs one. A failing seed prints itself.

#[path = "simulation/link.rs"]
mod link;
#[path = "simulation/node.rs"]
mod node;
#[path = "simulation/random.rs"]
mod random;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use link::{Delivery, Fault, Link};
use node::{Action, Message, Node, Sight, frame};
use random::Random;
use wiremesh::SocketKind;
use wiremesh::protocol::{CommandName, Config, Heartbeat, ProtocolError, command};

/// Longer than any seed needs; a run that is not over by then hangs.
const PATIENCE: Duration = Duration::from_secs(600);
const HANDSHAKE: Duration = Duration::from_secs(30);
/// A link delivers at least this often while it has anything, and a whole message takes at most some 200 deliveries.
const GAP: Duration = Duration::from_millis(10);

#[test]
fn every_seed_keeps_order_atomicity_progress_and_limits() {
    if let Some(seed) = number("WIREMESH_SEED") {
        println!("seed {seed}: {}", run(seed));
        return;
    }
    let mut outcomes = BTreeMap::new();
    for seed in 0..number("WIREMESH_SEEDS").unwrap_or(2000) {
        let named = Named(seed);
        *outcomes.entry(run(seed)).or_insert(0u64) += 1;
        drop(named);
    }
    println!("{outcomes:#?}");
    if outcomes.values().sum::<u64>() >= 1000 {
        let expected = [
            "clean",
            "cut in the handshake",
            "cut in a message",
            "corrupted, noticed",
            "corrupted, not noticed",
            "stalled in the handshake",
            "stalled, noticed",
            "stalled, not noticed",
            "broken rule",
            "refused",
            "incompatible",
        ];
        for outcome in expected {
            assert!(outcomes.contains_key(outcome), "no seed led to {outcome:?}");
        }
    }
}

#[test]
fn a_seed_repeats_itself() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
}

/// Prints its seed when a check fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failing seed: run again with WIREMESH_SEED={}", self.0);
        }
    }
}

/// Two ends and the two directions between them; `links[0]` leads from `nodes[0]` to `nodes[1]`.
struct World {
    nodes: [Node; 2],
    links: [Link; 2],
    now: Instant,
    start: Instant,
    random: Random,
    /// When the last octet arrived at each end, before it was over.
    heard: [Instant; 2],
    /// When each end ran out of patience, if it did.
    gave_up: [Option<Instant>; 2],
}

/// Runs one seed; says what became of it.
fn run(seed: u64) -> &'static str {
    let mut world = World::new(seed);
    let compatible = world.nodes[0].config.kind.accepts(world.nodes[1].config.kind);
    while !world.is_over() {
        assert!(world.now < world.start + PATIENCE, "no progress");
        world.step();
    }
    if compatible { world.judge() } else { world.judge_incompatible() }
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let start = Instant::now();
        let burst = random.pick(&[1, 3, 20, 300, 5_000, 60_000]);
        // A message takes some hundred deliveries at most, so that a PING behind it is not late.
        let largest = (burst * 50).min(400_000);
        let ours = random.pick(&SocketKind::ALL);
        let fitting: Vec<_> = SocketKind::ALL.into_iter().filter(|&kind| ours.accepts(kind)).collect();
        let theirs = if random.chance(3) { random.pick(&SocketKind::ALL) } else { random.pick(&fitting) };
        let configs = [config(ours, largest, &mut random), config(theirs, largest, &mut random)];
        let mut scripts = [0, 1].map(|side| script(&configs[1 - side], largest, &mut random));
        let mut faults = [Fault::None; 2];
        let side = random.below(2);
        match random.below(10) {
            0..3 => {}
            3..7 => faults[side] = fault(&scripts[side], &mut random),
            7 | 8 => scripts[side].push_back(breach(&configs[1 - side], &mut random)),
            _ => {
                scripts[side].truncate(random.below(3));
                scripts[side].push_back(Action::Refuse("this routing id is taken"));
            }
        }
        let [left, right] = configs;
        let [first, second] = scripts;
        World {
            nodes: [Node::new(left, first, start), Node::new(right, second, start)],
            links: faults.map(|fault| Link::new(burst, GAP, fault)),
            now: start,
            start,
            random,
            heard: [start; 2],
            gave_up: [None; 2],
        }
    }

    /// One moment: everybody speaks, time moves to the next thing that happens, and it happens.
    fn step(&mut self) {
        for side in 0..2 {
            self.speak(side);
        }
        let due = self.links.iter().filter_map(Link::due);
        let timers = self.nodes.iter().filter(|node| !node.is_over()).filter_map(|node| node.connection.poll_timeout());
        let Some(next) = due.chain(timers).min() else {
            // Nothing will ever happen again: only a stalled stream without heartbeats may come to this.
            self.nodes.iter_mut().for_each(|node| node.ended = true);
            return;
        };
        self.now = self.now.max(next);
        for side in 0..2 {
            self.tick(side);
            self.listen(side);
        }
    }

    fn speak(&mut self, side: usize) {
        let peer = self.nodes[1 - side].config.clone();
        let (node, link) = (&mut self.nodes[side], &mut self.links[side]);
        loop {
            if node.unsent.is_empty() {
                node.speak(&peer, &mut self.random);
            }
            if node.unsent.is_empty() {
                if node.is_over() {
                    link.close(self.now, &mut self.random);
                }
                return;
            }
            let taken = link.write(&node.unsent, self.now, &mut self.random);
            if taken == 0 {
                return;
            }
            let _ = node.unsent.split_to(taken);
        }
    }

    fn tick(&mut self, side: usize) {
        let node = &mut self.nodes[side];
        if node.is_over() || node.connection.poll_timeout().is_none_or(|due| due > self.now) {
            return;
        }
        match node.connection.handle_timeout(self.now) {
            Ok(()) => {
                assert!(node.connection.poll_timeout().is_none_or(|due| due > self.now), "a timer that stays due")
            }
            Err(error) => {
                node.failure = Some(error);
                self.gave_up[side] = Some(self.now);
            }
        }
    }

    fn listen(&mut self, side: usize) {
        let node = &mut self.nodes[side];
        match self.links[1 - side].deliver(self.now, &mut self.random) {
            Some(Delivery::Octets(octets)) => {
                if !node.is_over() {
                    self.heard[side] = self.now;
                }
                node.hear(&octets, self.now, &mut self.random);
            }
            Some(Delivery::End) if !node.is_over() => match node.connection.ended() {
                Ok(()) => node.ended = true,
                Err(error) => node.failure = Some(error),
            },
            Some(Delivery::End) | None => {}
        }
    }

    fn is_over(&mut self) -> bool {
        let idle = self.links.iter().all(Link::is_idle) && self.nodes.iter().all(|node| node.unsent.is_empty());
        if self.nodes.iter().all(Node::is_over) {
            return idle;
        }
        let said =
            self.nodes.iter().all(|node| node.ready.is_some() && node.script.is_empty() && node.greeted.is_some());
        let stalled = self.links.iter().any(|link| matches!(link.fault, Fault::Stall(at) if at < link.written()));
        if idle && said && !stalled && self.nodes.iter().all(|node| node.failure.is_none() && !node.ended) {
            // All is said and heard: close, and let both ends find out.
            for (node, link) in self.nodes.iter().zip(&mut self.links) {
                assert!(node.breaks.is_none(), "a broken rule went unnoticed");
                link.close(self.now, &mut self.random);
            }
        }
        false
    }

    /// Holds what each end saw and how it ended against what its peer said.
    fn judge(&self) -> &'static str {
        let mut outcome = "clean";
        for side in 0..2 {
            if let Some(found) = self.judge_side(side) {
                outcome = found;
            }
        }
        outcome
    }

    fn judge_side(&self, side: usize) -> Option<&'static str> {
        let (node, peer) = (&self.nodes[side], &self.nodes[1 - side]);
        let link = &self.links[1 - side];
        let intact = link.fault.intact();
        let whole: Vec<&Sight> = peer.truth.iter().filter(|(end, _)| *end <= intact).map(|(_, sight)| sight).collect();
        let seen: Vec<&Sight> = node.seen.iter().collect();
        // Our own end may come before the peer has said all.
        let early = node.refused || self.links[side].fault != Fault::None || peer.failure.is_some() && !peer.refused;
        let certain = whole.len().min(seen.len());
        assert_eq!(seen[..certain], whole[..certain], "what came is not what was sent");
        if !early {
            assert_eq!(certain, whole.len(), "something sent before the fault did not come");
        }
        if !link.fault.corrupts() {
            assert!(seen.len() <= whole.len(), "more came than was sent");
        }
        if node.refused {
            return Some("refused");
        }
        let due = peer.breaks.as_ref().filter(|(end, _)| *end <= intact && !early);
        if let Some((_, error)) = due {
            assert_eq!(node.failure.as_ref(), Some(error), "the broken rule was taken for something else");
            return Some("broken rule");
        }
        if peer.refused && intact == u64::MAX && !early {
            let reason = "this routing id is taken".to_owned();
            assert_eq!(node.failure, Some(ProtocolError::Refused { reason }));
            return None;
        }
        match link.fault {
            Fault::None => {
                let closed = node.failure.is_none() || early || peer.breaks.is_some();
                assert!(closed, "a clean stream failed: {:?}", node.failure);
                None
            }
            _ if intact >= link.written() => None,
            Fault::Cut(at) => Some(self.judge_cut(side, at)),
            Fault::Stall(at) => Some(self.judge_stall(side, at)),
            Fault::Flip(_) | Fault::Drop(_) | Fault::Insert(_) => Some(match &node.failure {
                Some(failure) if failure.is_cut() => "corrupted, not noticed",
                None => "corrupted, not noticed",
                Some(_) => "corrupted, noticed",
            }),
        }
    }

    fn judge_cut(&self, side: usize, at: u64) -> &'static str {
        let (node, peer) = (&self.nodes[side], &self.nodes[1 - side]);
        if peer.greeted.is_none_or(|greeted| at < greeted) {
            let cut = Some(ProtocolError::HandshakeCut);
            assert!(node.failure == cut || node.failure == Some(ProtocolError::ClosedUnheard { times: 1 }));
            assert!(node.ready.is_none() && node.seen.is_empty());
            "cut in the handshake"
        } else if peer.boundaries.contains(&at) {
            assert_eq!(node.failure, None);
            "cut between messages"
        } else {
            // Commands within a message, and control octets put in one go, have boundaries of their own that may be
            // clean.
            assert!(matches!(node.failure, Some(ProtocolError::MessageCut) | None), "{:?}", node.failure);
            if node.failure.is_some() { "cut in a message" } else { "cut between messages" }
        }
    }

    fn judge_stall(&self, side: usize, at: u64) -> &'static str {
        let (node, peer) = (&self.nodes[side], &self.nodes[1 - side]);
        let gave_up = || self.gave_up[side].expect("its timer ended it");
        if peer.greeted.is_none_or(|greeted| at < greeted) {
            assert_eq!(node.failure, Some(ProtocolError::HandshakeTimeout { limit: HANDSHAKE }));
            assert_eq!(gave_up() - self.start, HANDSHAKE);
            return "stalled in the handshake";
        }
        match (node.config.heartbeat, &node.failure) {
            (Some(heartbeat), Some(ProtocolError::HeartbeatTimeout { .. })) => {
                // The PING after the last sign of life is due within the interval; its answer, within the timeout.
                let silence = gave_up() - self.heard[side];
                assert!(silence >= heartbeat.timeout, "given up too early");
                assert!(silence <= heartbeat.interval + heartbeat.timeout, "given up too late");
                "stalled, noticed"
            }
            (_, Some(ProtocolError::TtlExpired { limit })) => {
                // Nothing came after the PING that announced it.
                assert_eq!(gave_up() - self.heard[side], *limit);
                "stalled, noticed"
            }
            (None, None) => "stalled, not noticed",
            // The other end may notice first and close, which a stalled link does not tell.
            (_, failure) => {
                assert!(peer.failure.is_some(), "a stalled stream ended with {failure:?}");
                "stalled, not noticed"
            }
        }
    }

    fn judge_incompatible(&self) -> &'static str {
        for node in &self.nodes {
            assert!(node.ready.is_none() && node.seen.is_empty(), "ready with an incompatible peer");
        }
        if self.links.iter().all(|link| link.fault == Fault::None) {
            for node in &self.nodes {
                assert!(matches!(node.failure, Some(ProtocolError::IncompatibleSocket { .. })), "{:?}", node.failure);
            }
        }
        "incompatible"
    }
}

fn config(kind: SocketKind, largest: usize, random: &mut Random) -> Config {
    let mut config = Config::new(kind);
    config.handshake_timeout = Some(HANDSHAKE);
    config.max_message = random.pick(&[u64::MAX, largest as u64 + 1, (largest as u64 / 2).max(20)]);
    config.max_frames = random.pick(&[65_536, 20, 6]);
    config.large_body = random.pick(&[64 * 1024, 1000, 10, 0]);
    if random.chance(40) {
        let interval = Duration::from_millis(random.between(100, 2000) as u64);
        config.heartbeat = Some(Heartbeat { interval, timeout: Duration::from_secs(6), ttl: Duration::from_secs(20) });
    }
    if random.chance(30) {
        let size = random.between(1, 255);
        config.identity = random.octets(size).into();
        if config.validate().is_err() {
            config.identity = Bytes::from_static(b"identity");
        }
    }
    for number in 0..random.pick(&[0, 0, 1, 5]) {
        let size = random.below(100);
        config.properties.push((format!("X-Property-{number}"), random.octets(size).into()));
    }
    config
}

/// What an application sends to a peer with these limits, keeping within them.
fn script(peer: &Config, largest: usize, random: &mut Random) -> VecDeque<Action> {
    let most = usize::try_from(peer.max_message).unwrap_or(usize::MAX).min(largest);
    let mut script = VecDeque::new();
    for _ in 0..random.pick(&[0, 1, 10, 60]) {
        let action = match random.below(12) {
            0 => Action::Noise,
            1 if peer.kind.publishes() => Action::Subscribe(topic(largest, random)),
            2 if peer.kind.publishes() => Action::Cancel(topic(largest, random)),
            _ => Action::Send(message(peer, most, random), random.chance(10)),
        };
        // Runs of equal messages take a path of their own.
        let times = if matches!(action, Action::Send(..)) { random.pick(&[1, 1, 1, 8]) } else { 1 };
        script.extend(std::iter::repeat_n(action, times));
    }
    script
}

fn topic(largest: usize, random: &mut Random) -> Vec<u8> {
    let size = random.pick(&[0, 1, 20, 245, 246, 255, 256, 300]).min(largest);
    random.octets(size)
}

fn message(peer: &Config, most: usize, random: &mut Random) -> Message {
    let frames = random.pick(&[1, 1, 1, 2, 3, 6]).min(peer.max_frames as usize);
    let mut left = most;
    (0..frames)
        .map(|_| {
            let size = random.pick(&[0, 1, 8, 8, 30, 254, 255, 256, 300, most / 4, most]).min(left);
            left -= size;
            random.octets(size)
        })
        .collect()
}

/// A fault somewhere in what this script will make of a stream, the handshake included.
fn fault(script: &VecDeque<Action>, random: &mut Random) -> Fault {
    let traffic: usize = script
        .iter()
        .map(|action| match action {
            Action::Send(message, _) => message.iter().map(|body| body.len() + 3).sum(),
            Action::Subscribe(topic) | Action::Cancel(topic) => topic.len() + 12,
            Action::Noise | Action::Break(..) | Action::Refuse(_) => 12,
        })
        .sum();
    let at = if random.chance(20) { random.below(110) } else { 90 + random.below(traffic + 20) } as u64;
    match random.below(6) {
        0 | 1 => Fault::Cut(at),
        2 => Fault::Stall(at),
        3 => Fault::Flip(at),
        4 => Fault::Drop(at),
        _ => Fault::Insert(at),
    }
}

/// Octets that break a rule of the protocol or a limit of the peer.
fn breach(peer: &Config, random: &mut Random) -> Action {
    let long = |flags: u8, size: u64| [&[flags | 2][..], &size.to_be_bytes()].concat();
    let malformed = |command, fault| ProtocolError::MalformedCommand { command, fault };
    let limit = peer.max_message.min(i64::MAX as u64);
    let (octets, error) = match random.below(7) {
        0 => (long(0, limit + 1), ProtocolError::MessageTooLarge { announced: limit + 1, limit }),
        1 => (long(1, u64::MAX), ProtocolError::MessageTooLarge { announced: u64::MAX, limit }),
        2 if limit < 1 << 20 => {
            let whole = [frame(1, &vec![0; limit as usize]), frame(0, b"!")].concat();
            (whole, ProtocolError::MessageTooLarge { announced: limit + 1, limit })
        }
        3 if peer.max_frames < 100 => {
            let many = frame(1, b"").repeat(peer.max_frames as usize + 1);
            (many, ProtocolError::TooManyFrames { limit: peer.max_frames })
        }
        4 => (frame(5, b"\x04PONG"), malformed(CommandName::Unknown, "its frame says that more follow")),
        5 => {
            let (announced, limit) = (command::MAX_COMMAND as u64 + 1, command::MAX_COMMAND as u64);
            (long(4, announced), ProtocolError::CommandTooLarge { announced, limit })
        }
        _ => (frame(4, b"\x04PING\0"), malformed(CommandName::Ping, "it has no time to live")),
    };
    Action::Break(octets, error)
}
