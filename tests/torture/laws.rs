//! The laws: what must be true of the ledgers of all processes once everything has settled.

use crate::ledger::{Life, has_topic};
use crate::memory::Lost;
use crate::message::{Id, socket_of};
use crate::plan::{Act, Manner, Over, Plan, Step};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use wiremesh::SocketKind::{self, Pub, Rep, Req, Router, XPub};

/// A law that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Whether waiting longer may mend it.
    pub(crate) may_heal: bool,
    /// The law's name, and what is wrong.
    pub(crate) law: &'static str,
    pub(crate) what: String,
}

/// All that is known when a run has settled.
pub(crate) struct Outcome<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) lives: &'a [Life],
    pub(crate) lost: &'a [Lost],
    /// How late a thread has been that only sleeps.
    pub(crate) late: Duration,
}

impl Outcome<'_> {
    /// Whether a peer of that socket may have been given up although it was there: a process that gets no processor for
    /// as long as its peer may be silent is silent. The threads that matter may have been later than the one that was
    /// watched.
    fn may_be_silent(&self, socket: usize) -> bool {
        let beats = |at: usize| self.plan.sockets.get(at).map_or(0, |socket| socket.heartbeat);
        let peers = self.plan.peers(socket).into_iter().map(|(peer, _)| peer);
        peers.chain([socket]).map(beats).any(|beat| beat > 0 && self.late * 4 >= Duration::from_millis(beat))
    }

    fn may_lose(&self, sender: usize) -> bool {
        may_lose(self.plan, sender) || self.may_be_silent(sender)
    }
}

/// The laws that are broken.
pub(crate) fn broken(outcome: &Outcome<'_>) -> Vec<Broken> {
    let mut found = Vec::new();
    let index = Index::of(outcome);
    for life in outcome.lives {
        found.extend(life.wrong.iter().map(|what| hard("integrity", what.clone())));
        found.extend(balance(life));
        found.extend(reasons(outcome, life));
        found.extend(arrivals(outcome.plan, life, &index));
    }
    found.extend(once(&index, outcome.plan));
    for life in outcome.lives {
        found.extend(delivery(outcome, life, &index));
    }
    found.extend(publishing(outcome, &index));
    found
}

fn hard(law: &'static str, what: String) -> Broken {
    Broken { may_heal: false, law, what }
}

fn soft(law: &'static str, what: String) -> Broken {
    Broken { may_heal: true, law, what }
}

/// Who got what.
struct Index<'a> {
    senders: HashMap<u32, &'a Life>,
    /// The sockets' lives that got it.
    got: HashMap<Id, Vec<u32>>,
    lost: HashSet<Id>,
}

impl<'a> Index<'a> {
    fn of(outcome: &Outcome<'a>) -> Index<'a> {
        let mut got: HashMap<Id, Vec<u32>> = HashMap::new();
        for life in outcome.lives {
            for id in life.got.iter().flatten() {
                got.entry(*id).or_default().push(life.name);
            }
        }
        Index {
            senders: outcome.lives.iter().map(|life| (life.name, life)).collect(),
            got,
            lost: outcome.lost.iter().map(|lost| lost.id).collect(),
        }
    }
}

fn kind(plan: &Plan, socket: usize) -> Option<SocketKind> {
    plan.sockets.get(socket).map(|socket| socket.kind)
}

fn name(plan: &Plan, life: u32) -> String {
    let kind = kind(plan, socket_of(life)).map_or("stranger", SocketKind::name);
    format!("{kind} {}.{}", socket_of(life), life % 1000)
}

/// accepted = written + queued + dropped, and what `send` accepted is what is counted so.
fn balance(life: &Life) -> Option<Broken> {
    let counts = &life.counts;
    (counts.accepted != counts.written + counts.queued + counts.dropped)
        .then(|| hard("accounting", format!("life {}: {}", life.name, counts.line())))
}

/// Nothing is dropped for a reason that the options do not allow.
fn reasons(outcome: &Outcome<'_>, life: &Life) -> Vec<Broken> {
    let plan = outcome.plan;
    let Some(socket) = plan.sockets.get(life.socket()) else { return Vec::new() };
    let counts = &life.counts;
    let by_peer = matches!(socket.kind, Pub | XPub | Router | Rep);
    let waits = match socket.kind {
        Pub | XPub => socket.nodrop,
        Router => socket.mandatory,
        SocketKind::XSub | Rep => false,
        _ => true,
    };
    let is_disturbed = plan.steps.iter().any(|step| {
        !matches!(step.act, Act::Send | Act::Request | Act::Rest | Act::Hold | Act::Subscribe | Act::Toggle)
    }) || !plan.strangers.is_empty()
        || outcome.may_be_silent(life.socket());
    // Who asked and waited in vain asks anew over another connection.
    let asks = matches!(socket.kind, Req | Rep);
    let allowed = [
        ("high_water_mark", counts.high_water_mark, !waits),
        ("unroutable", counts.unroutable, by_peer),
        ("limit", counts.limit, !waits),
        ("conflate", counts.conflate, socket.conflate),
        ("linger", counts.linger, socket.linger > 0 || is_reopened(plan, life.socket())),
        ("disconnect", counts.disconnect, is_disturbed || asks),
    ];
    let wrong = allowed.into_iter().filter(|(_, count, allowed)| *count > 0 && !allowed);
    wrong
        .map(|(reason, count, _)| hard("reasons", format!("{}: {count} dropped, {reason}", name(plan, life.name))))
        .collect()
}

/// What a socket received was sent, to it, on a topic it has, and in order.
fn arrivals(plan: &Plan, life: &Life, index: &Index<'_>) -> Vec<Broken> {
    let mut found = Vec::new();
    let me = life.socket();
    for thread in &life.got {
        let mut last: HashMap<(u32, u32), u64> = HashMap::new();
        for id in thread {
            let sent =
                index.senders.get(&id.sender).and_then(|from| from.sent.get(id.stream as usize)?.get(id.seq as usize));
            let from = || format!("{} got {id:?} of {}", name(plan, life.name), name(plan, id.sender));
            match sent {
                None => found.push(soft("invention", format!("{}: it was not sent", from()))),
                Some(sent) if sent.to.is_some_and(|to| to as usize != me) => {
                    found.push(hard("routing", format!("{}: it was for {:?}", from(), sent.to)));
                }
                Some(sent) => {
                    let publishes = matches!(kind(plan, socket_of(id.sender)), Some(Pub | XPub));
                    let later = sent.topic == crate::ledger::LAST_TOPIC;
                    if publishes && !later && !has_topic(me, sent.topic) {
                        found.push(hard("topics", format!("{}: topic {} is not wanted", from(), sent.topic)));
                    }
                }
            }
            let before = last.insert((id.sender, id.stream), id.seq);
            if before.is_some_and(|before| before > id.seq) && promises_order(plan, socket_of(id.sender), me) {
                found.push(hard("order", format!("{}: after number {}", from(), before.unwrap_or_default())));
            }
        }
    }
    found.truncate(8);
    found
}

/// Order is promised between two sockets, also where the application takes a connection away and makes it again, but
/// not over inproc where there were two of them. A question that was not answered in time may come after the next one.
fn promises_order(plan: &Plan, sender: usize, receiver: usize) -> bool {
    if kind(plan, receiver) == Some(Rep) {
        return false;
    }
    let links = plan.peers(sender.min(plan.sockets.len())).into_iter().filter(|(peer, _)| *peer == receiver);
    let links: Vec<usize> = links.map(|(_, link)| link).collect();
    let is_inproc = |link: usize| plan.endpoints[plan.links[link].endpoint].over == Over::Inproc;
    let is_made_again = |step: &Step| links.contains(&step.target) && is_inproc(step.target);
    !plan.is_done_to(&[Act::ConnectTwice], is_made_again) && !is_reopened(plan, receiver)
}

/// No message comes twice: to one of many, or twice to one subscriber.
fn once(index: &Index<'_>, plan: &Plan) -> Vec<Broken> {
    let mut found = Vec::new();
    for (id, lives) in &index.got {
        let publishes = matches!(kind(plan, socket_of(id.sender)), Some(Pub | XPub));
        let mut lives: Vec<u32> =
            lives.iter().map(|life| if publishes { socket_of(*life) as u32 } else { 0 }).collect();
        let all = lives.len();
        lives.sort_unstable();
        lives.dedup();
        if lives.len() < all {
            let by = index.got[id].iter().map(|life| name(plan, *life)).collect::<Vec<_>>().join(", ");
            found.push(hard("once", format!("{id:?} of {} came to {by}", name(plan, id.sender))));
        }
    }
    found.truncate(8);
    found
}

/// Whether a socket is closed and another opened in its place.
fn is_reopened(plan: &Plan, socket: usize) -> bool {
    plan.is_done_to(&[Act::Restart], |step| step.socket == socket)
        || plan.is_done_to(&[Act::RestartBoth], |step| step.socket == socket || step.target == socket)
}

/// Whether messages of a socket may be lost uncounted, because their receiver goes away by will of the application.
pub(crate) fn may_lose(plan: &Plan, sender: usize) -> bool {
    let ends = plan.peers(sender).into_iter().any(|(receiver, link)| {
        let endpoint = plan.links[link].endpoint;
        let binder = plan.endpoints[endpoint].socket;
        let closed = is_reopened(plan, receiver);
        let disconnected = plan.links[link].socket == receiver
            && plan.is_done_to(&[Act::Disconnect, Act::ConnectTwice], |step| step.target == link);
        let unbound = binder == receiver
            && !plan.endpoints[endpoint].late
            && plan.is_done_to(&[Act::Rebind], |step| step.target == endpoint);
        // Who is connected over inproc to a socket that closes is connected anew, by hand.
        let parted = binder == sender && plan.endpoints[endpoint].over == Over::Inproc && is_reopened(plan, sender);
        // A newcomer that takes over a name disconnects whoever had it.
        let replaced = plan.sockets[receiver].handover && is_reopened(plan, sender);
        closed || disconnected || unbound || parted || replaced
    });
    let lingers = plan.sockets[sender].linger > 0 && is_reopened(plan, sender);
    ends || lingers || is_taken_by_strangers(plan, sender)
}

/// Strangers that shake hands are given what goes to any peer.
fn is_taken_by_strangers(plan: &Plan, sender: usize) -> bool {
    let gives = matches!(kind(plan, sender), Some(SocketKind::Push | SocketKind::Dealer | SocketKind::Pair));
    gives
        && plan.is_visited(
            sender,
            &[Manner::PingFlood, Manner::Garbage, Manner::HalfMessage, Manner::HugeFrame, Manner::Libzmq],
        )
}

/// Everything accepted is delivered, swallowed by the transport in memory, or counted as dropped, to the last message.
fn delivery(outcome: &Outcome<'_>, life: &Life, index: &Index<'_>) -> Option<Broken> {
    let plan = outcome.plan;
    let is_of_many = matches!(kind(plan, life.socket()), Some(Pub | XPub | Req | Rep));
    if is_of_many || kind(plan, life.socket()).is_some() && plan.sockets[life.socket()].conflate {
        return None;
    }
    let all = ids_of(life);
    let missing: Vec<Id> =
        all.iter().copied().filter(|id| !index.got.contains_key(id) && !index.lost.contains(id)).collect();
    let counts = &life.counts;
    let who = name(plan, life.name);
    if counts.accepted != all.len() as u64 && kind(plan, life.socket()).is_some() {
        return Some(soft("accepted", format!("{who}: `send` took {}, {}", all.len(), counts.line())));
    }
    let both = all.iter().filter(|id| index.lost.contains(id) && index.got.contains_key(id)).count();
    if both > 0 {
        return Some(hard("once", format!("{who}: {both} messages came and lay in the transport when it broke")));
    }
    let left = outcome.lost.iter().filter(|lost| !lost.cut && lost.id.sender == life.name).count();
    if left > 0 && !outcome.may_lose(life.socket().min(plan.sockets.len() - 1)) {
        return Some(hard("loss", format!("{who}: {left} messages lay in links that a peer closed and nobody cut")));
    }
    // A queue that does not move is told of by itself.
    let told = counts.dropped + counts.queued;
    let exact = kind(plan, life.socket()).is_none() || !outcome.may_lose(life.socket());
    let missed = missing.len() as u64;
    if missed < told && counts.queued == 0 {
        return Some(soft("overcount", format!("{who}: {told} are counted as dropped and {missed} are missing")));
    }
    (exact && missed > told).then(|| {
        let first: Vec<_> = missing.iter().take(6).map(|id| (id.stream, id.seq, sent(life, *id))).collect();
        soft(
            "loss",
            format!("{who}: {missed} of {} are missing, {told} are counted; {first:?}; {}", all.len(), counts.line()),
        )
    })
}

fn sent(life: &Life, id: Id) -> u32 {
    life.sent[id.stream as usize][id.seq as usize].octets
}

fn ids_of(life: &Life) -> Vec<Id> {
    let streams = life.sent.iter().enumerate();
    streams
        .flat_map(|(stream, sent)| {
            (0..sent.len()).map(move |seq| Id { sender: life.name, stream: stream as u32, seq: seq as u64 })
        })
        .collect()
}

/// What publishers wrote is what their subscribers got and what they discarded; and where nothing was dropped, each
/// subscriber got all.
fn publishing(outcome: &Outcome<'_>, index: &Index<'_>) -> Vec<Broken> {
    let plan = outcome.plan;
    let mut found = Vec::new();
    let publishers: Vec<usize> = (0..plan.sockets.len())
        .filter(|at| matches!(plan.sockets[*at].kind, Pub | XPub) && !plan.sockets[*at].conflate)
        .collect();
    for group in groups(plan, &publishers) {
        let lives = |sockets: &[usize]| -> Vec<&Life> {
            outcome.lives.iter().filter(|life| sockets.contains(&life.socket())).collect()
        };
        let mut subscribers: Vec<usize> = group.iter().flat_map(|at| plan.peers(*at)).map(|(peer, _)| peer).collect();
        subscribers.sort_unstable();
        subscribers.dedup();
        let takes = |publisher: &usize| outcome.may_lose(*publisher) || plan.is_visited(*publisher, &[Manner::Libzmq]);
        if group.iter().any(takes) || subscribers.iter().any(|at| plan.is_visited(*at, &[Manner::Garbage])) {
            continue;
        }
        let written: u64 = lives(&group).iter().map(|life| life.counts.written).sum();
        let read: u64 = lives(&subscribers)
            .iter()
            .map(|life| life.counts.received + life.counts.unread + life.counts.discarded)
            .sum();
        let swallowed = outcome.lost.iter().filter(|lost| group.contains(&socket_of(lost.id.sender))).count() as u64;
        if written != read + swallowed {
            let what = format!("sockets {group:?} wrote {written}, {read} came, {swallowed} were swallowed");
            found.push(soft("publishing", what));
        }
    }
    found.extend(publishers.iter().filter_map(|publisher| complete(outcome, index, *publisher)));
    found
}

/// Nothing was dropped and nobody disturbed: each subscriber got each message on its topics.
fn complete(outcome: &Outcome<'_>, index: &Index<'_>, publisher: usize) -> Option<Broken> {
    let plan = outcome.plan;
    let disturbs = [Act::Disconnect, Act::ConnectTwice, Act::Rebind, Act::Cut];
    let life = outcome.lives.iter().find(|life| life.socket() == publisher)?;
    let touched = plan.peers(publisher).iter().any(|(peer, link)| {
        let endpoint = plan.links[*link].endpoint;
        plan.steps.iter().filter(|step| disturbs.contains(&step.act)).any(|step| match step.act {
            Act::Rebind | Act::Cut => step.target == endpoint,
            Act::Disconnect | Act::ConnectTwice => step.target == *link,
            _ => false,
        }) || is_reopened(plan, *peer)
    });
    if touched || is_reopened(plan, publisher) || life.counts.dropped != life.counts.unroutable {
        return None;
    }
    for (peer, _) in plan.peers(publisher) {
        for id in ids_of(life) {
            let sent = life.sent[id.stream as usize][id.seq as usize];
            let got = index.got.get(&id).is_some_and(|lives| lives.iter().any(|life| socket_of(*life) == peer));
            if has_topic(peer, sent.topic) && !got {
                let what = format!(
                    "{} dropped nothing, and {peer} did not get {id:?}: {}",
                    name(plan, life.name),
                    life.counts.line()
                );
                return Some(soft("complete", what));
            }
        }
    }
    None
}

/// Publishers that share subscribers.
fn groups(plan: &Plan, publishers: &[usize]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(HashSet<usize>, Vec<usize>)> = Vec::new();
    for publisher in publishers {
        let mut peers: HashSet<usize> = plan.peers(*publisher).into_iter().map(|(peer, _)| peer).collect();
        let mut members = vec![*publisher];
        groups.retain(|(others, more)| {
            let apart = others.is_disjoint(&peers);
            if !apart {
                peers.extend(others);
                members.extend(more);
            }
            apart
        });
        groups.push((peers, members));
    }
    groups.into_iter().map(|(_, members)| members).collect()
}

/// What a process may hold at a time: for each of its contexts what its budget allows at worst, as
/// `ContextBuilder::byte_budget` says it, or what is sent to and from its sockets, whichever is less; and what the test
/// itself needs.
pub(crate) fn memory_bound(plan: &Plan, lives: &[Life], process: usize) -> u64 {
    let contexts = (0..plan.contexts.len()).filter(|at| plan.contexts[*at].process == process);
    let held: u64 = contexts.map(|context| under_way(plan, lives, context).min(at_worst(plan, lives, context))).sum();
    // All ledgers come together in the first process, where they are read and written as text.
    let noted = |life: &&Life| process == 0 || plan.process_of(life.socket()) == process;
    let known = lives.iter().filter(|life| life.socket() < plan.sockets.len());
    let notes: usize = known.filter(noted).map(entries).sum();
    ANYWAY + held + in_transport(plan, lives, process) + NOTE * notes as u64 + topics(plan, process)
}

/// What the test's own transport may hold: in each life of a socket what this sends, as far as a link takes it.
fn in_transport(plan: &Plan, lives: &[Life], process: usize) -> u64 {
    let over_memory = |socket: usize| {
        let mut links = plan.peers(socket).into_iter().map(|(_, link)| plan.links[link].endpoint);
        links.any(|endpoint| plan.endpoints[endpoint].over == Over::Memory)
    };
    let known = lives.iter().filter(|life| life.socket() < plan.sockets.len());
    let here = known.filter(|life| plan.process_of(life.socket()) == process && over_memory(life.socket()));
    here.map(|life| octets(life).sum::<u64>().min(plan.frame.capacity as u64)).sum()
}

/// What the sockets of a context may hold if its budget sets no limit: what is sent, at both ends, once for each that
/// may have it. Twice, because a receiver's buffer may hold a message while it grows.
fn under_way(plan: &Plan, lives: &[Life], context: usize) -> u64 {
    let is_here = |socket: usize| plan.sockets.get(socket).is_some_and(|socket| socket.context == context);
    let ends = |life: &Life| {
        let Some(kind) = kind(plan, life.socket()) else { return 1 };
        let peers = plan.peers(life.socket()).into_iter().filter(|(peer, _)| is_here(*peer)).count() as u64;
        u64::from(is_here(life.socket())) + if kind.publishes() { peers } else { peers.min(1) }
    };
    2 * lives.iter().map(|life| ends(life) * octets(life).sum::<u64>()).sum::<u64>()
}

/// What the budget of a context allows at worst.
fn at_worst(plan: &Plan, lives: &[Life], context: usize) -> u64 {
    const DEFAULT: u64 = 1 << 30;
    const SOCKET: u64 = (128 << 10) + (1 << 20);
    const CONNECTION: u64 = (24 << 10) + (256 << 10);
    let budget = match plan.contexts[context].budget {
        0 => DEFAULT,
        budget => budget,
    };
    let longest = lives.iter().flat_map(octets).max().unwrap_or(0);
    let sockets: Vec<usize> =
        (0..plan.sockets.len()).filter(|socket| plan.sockets[*socket].context == context).collect();
    let ends: usize = sockets.iter().map(|socket| plan.peers(*socket).len()).sum();
    // One of each that came and one that comes: a frame of a message of many takes more than its octets.
    budget / 4 * 5 + SOCKET * sockets.len() as u64 + (CONNECTION + 2 * longest) * ends as u64
}

fn octets(life: &Life) -> impl Iterator<Item = u64> + '_ {
    life.sent.iter().flatten().map(|sent| u64::from(sent.octets))
}

fn entries(life: &Life) -> usize {
    life.sent.iter().map(Vec::len).sum::<usize>() + life.got.iter().map(Vec::len).sum::<usize>()
}

/// What thousands of topics take at both ends, which do not count with what they take beyond their octets.
fn topics(plan: &Plan, process: usize) -> u64 {
    let steps = plan.steps.iter().filter(|step| step.act == Act::Subscribe && plan.process_of(step.socket) == process);
    TOPIC * steps.map(|step| step.count).sum::<u64>()
}

/// What a process of the test has anyway.
const ANYWAY: u64 = 40 << 20;
/// What a message takes in the ledgers, and a topic at a subscriber and its publishers.
const NOTE: u64 = 150;
const TOPIC: u64 = 2000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Counts, Sent};
    use wiremesh::Stats;

    const PLAN: &str = "\
plan seed=1 processes=1 time=1 capacity=1 chop=0 delay=0
context process=0 threads=1 engine_only=false budget=0
socket kind=KIND context=0 receivers=1 pace=0 idle=false send_mark=1 receive_mark=1 max_message=0 max_frames=0 buffers=0 heartbeat=0 half_open=0 \
linger=0 immediate=false conflate=false handover=false mandatory=false nodrop=false named=false answers=0
socket kind=PEER context=0 receivers=1 pace=0 idle=false send_mark=1 receive_mark=1 max_message=0 max_frames=0 buffers=0 heartbeat=0 half_open=0 \
linger=0 immediate=false conflate=false handover=false mandatory=false nodrop=false named=false answers=0
endpoint socket=0 over=Memory late=false
link socket=1 endpoint=0
";

    /// Socket 0 sends three messages to socket 1, which gets them.
    fn good(kind: &str, peer: &str) -> (Plan, Vec<Life>) {
        let plan = Plan::parse(&PLAN.replace("KIND", kind).replace("PEER", peer)).expect("a plan");
        let none = Counts::of(&Stats::default());
        let sent = Sent { octets: 1, topic: 0, to: None, late: false };
        let ids = (0..3).map(|seq| Id { sender: 0, stream: 0, seq }).collect();
        let sender = Life {
            name: 0,
            sent: vec![vec![sent; 3]],
            got: Vec::new(),
            wrong: Vec::new(),
            counts: Counts { accepted: 3, written: 3, ..none.clone() },
        };
        let receiver = Life {
            name: 1000,
            sent: Vec::new(),
            got: vec![ids],
            wrong: Vec::new(),
            counts: Counts { received: 3, ..none },
        };
        (plan, vec![sender, receiver])
    }

    fn laws(plan: &Plan, lives: &[Life], lost: &[Lost]) -> Vec<&'static str> {
        let late = Duration::ZERO;
        broken(&Outcome { plan, lives, lost, late }).into_iter().map(|broken| broken.law).collect()
    }

    #[test]
    fn a_peer_that_beats_may_be_given_up_on_a_machine_that_is_late_and_on_no_other() {
        let (mut plan, mut lives) = good("PUSH", "PULL");
        let counts = &mut lives[0].counts;
        (counts.written, counts.dropped, counts.disconnect) = (2, 1, 1);
        lives[1].got[0].remove(1);
        for (heartbeat, late, breaks) in [(0, 50, true), (100, 5, true), (100, 50, false)] {
            plan.sockets[1].heartbeat = heartbeat;
            let late = Duration::from_millis(late);
            let found = broken(&Outcome { plan: &plan, lives: &lives, lost: &[], late });
            assert_eq!(!found.is_empty(), breaks, "beats every {heartbeat} ms, {late:?} late: {found:?}");
        }
    }

    #[test]
    fn a_process_may_hold_what_its_budgets_allow_or_what_is_sent_whichever_is_less() {
        let (mut plan, mut lives) = good("PUSH", "PULL");
        let bound = |plan: &Plan, lives: &[Life]| memory_bound(plan, lives, 0) >> 20;
        assert_eq!(bound(&plan, &lives), ANYWAY >> 20);
        lives[0].sent[0] = vec![Sent { octets: 1 << 20, topic: 0, to: None, late: false }; 100];
        assert_eq!(bound(&plan, &lives), (ANYWAY >> 20) + 400, "once at each end, and twice while a buffer grows");
        plan.contexts[0].budget = 8 << 20;
        let ours = bound(&plan, &lives) - (ANYWAY >> 20);
        assert!((10..20).contains(&ours), "{ours}");
        assert_eq!(memory_bound(&plan, &lives, 1), ANYWAY, "another process holds nothing of it");
        let before = bound(&plan, &lives);
        plan.endpoints[0].over = Over::Memory;
        plan.frame.capacity = 1 << 20;
        assert_eq!(bound(&plan, &lives), before + 1, "the transport holds as much as a link takes");
    }

    #[test]
    fn a_good_run_breaks_no_law() {
        for (kind, peer) in [("PUSH", "PULL"), ("DEALER", "DEALER"), ("PUB", "SUB"), ("XPUB", "SUB"), ("PAIR", "PAIR")]
        {
            let (plan, lives) = good(kind, peer);
            assert!(laws(&plan, &lives, &[]).is_empty(), "{kind}");
        }
    }

    #[test]
    fn each_kind_of_fault_breaks_its_law() {
        let breaks = |kind: &str, peer: &str, law: &str, fault: &dyn Fn(&mut Vec<Life>)| {
            let (plan, mut lives) = good(kind, peer);
            fault(&mut lives);
            assert!(
                laws(&plan, &lives, &[]).contains(&law),
                "{kind}: {law} is not noticed: {:?}",
                laws(&plan, &lives, &[])
            );
        };
        for (kind, peer) in [("PUSH", "PULL"), ("DEALER", "DEALER"), ("PUB", "SUB"), ("PAIR", "PAIR")] {
            breaks(kind, peer, "order", &|lives| lives[1].got[0].swap(0, 2));
            breaks(kind, peer, "once", &|lives| {
                let first = lives[1].got[0][0];
                lives[1].got.push(vec![first]);
            });
            breaks(kind, peer, "invention", &|lives| lives[1].got[0].push(Id { sender: 0, stream: 0, seq: 3 }));
            breaks(kind, peer, "accounting", &|lives| lives[0].counts.queued = 1);
            breaks(kind, peer, "integrity", &|lives| lives[1].wrong.push("an octet".to_owned()));
            breaks(kind, peer, "reasons", &|lives| {
                (lives[0].counts.written, lives[0].counts.dropped, lives[0].counts.linger) = (2, 1, 1)
            });
        }
        for (kind, peer) in [("PUSH", "PULL"), ("PAIR", "PAIR")] {
            breaks(kind, peer, "loss", &|lives| lives[1].got[0].retain(|id| id.seq != 1));
            breaks(kind, peer, "accepted", &|lives| (lives[0].counts.accepted, lives[0].counts.written) = (4, 4));
            breaks(kind, peer, "overcount", &|lives| (lives[0].counts.written, lives[0].counts.dropped) = (2, 1));
        }
        breaks("PUB", "SUB", "complete", &|lives| lives[1].got[0].retain(|id| id.seq != 1));
        breaks("PUB", "SUB", "publishing", &|lives| lives[1].counts.received = 2);
        breaks("PUB", "SUB", "topics", &|lives| lives[0].sent[0][1].topic = 5);
        breaks("DEALER", "ROUTER", "routing", &|lives| lives[0].sent[0][1].to = Some(7));
    }

    #[test]
    fn what_the_transport_swallowed_is_no_loss_but_must_not_come_as_well() {
        let (plan, mut lives) = good("PUSH", "PULL");
        let id = lives[1].got[0].remove(1);
        assert!(laws(&plan, &lives, &[Lost { id, cut: true }]).is_empty());
        assert_eq!(laws(&plan, &lives, &[Lost { id, cut: false }]), ["loss"]);
        lives[1].got[0].insert(1, id);
        assert_eq!(laws(&plan, &lives, &[Lost { id, cut: true }]), ["once"]);
    }

    #[test]
    fn who_closes_a_receiver_may_lose_and_who_closes_a_sender_may_not() {
        let restart =
            |socket: usize| format!("step actor=0 act=Restart socket={socket} target=0 count=0 size=Empty pause=0\n");
        for (socket, may) in [(0, false), (1, true)] {
            let text = PLAN.replace("KIND", "PUSH").replace("PEER", "PULL") + &restart(socket);
            assert_eq!(may_lose(&Plan::parse(&text).expect("a plan"), 0), may, "socket {socket}");
        }
    }
}
