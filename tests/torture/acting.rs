//! The threads that act: each carries out its steps in order, until all are to settle.

use crate::ledger::{LAST_TOPIC, Sent, TOPICS, topic};
use crate::message::{LONGEST, build, check};
use crate::part::{Alive, LATE, Part, Slot, lock, routing_id};
use crate::plan::{Act, Size, Step};
use crate::support::random::Random;
use std::sync::Barrier;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Message, RequestError, SendError, SendFailure, SocketKind};

/// How long a send waits before its thread looks whether all settle.
const GLANCE: Duration = Duration::from_millis(20);

pub(crate) fn act(part: &Part, actor: usize) {
    let mut chance = Random::new(part.plan.frame.seed << 8 ^ actor as u64 ^ 0x5eed);
    for step in part.plan.steps.iter().filter(|step| step.actor == actor) {
        if part.is_settling() {
            return;
        }
        part.log.line(format!("begin {}", step.line()));
        let done = Actor { part, actor: actor as u32, chance: &mut chance }.step(step);
        part.log.line(format!("end actor={actor} {:?} {done}", step.act));
    }
}

struct Actor<'a> {
    part: &'a Part,
    actor: u32,
    chance: &'a mut Random,
}

impl Actor<'_> {
    /// What came of it, in a word.
    fn step(&mut self, step: &Step) -> String {
        let pause = Duration::from_micros(step.pause);
        let slot = |socket: usize| self.part.slots[socket].as_ref();
        let Some(own) = slot(step.socket) else { return "elsewhere".to_owned() };
        match step.act {
            Act::Send => return self.send(step, own),
            Act::Request => return self.request(step, own),
            Act::Rest => self.rest(pause),
            Act::Hold => {
                own.holds.store(true, Ordering::SeqCst);
                self.rest(pause);
                own.holds.store(false, Ordering::SeqCst);
            }
            Act::Subscribe => return self.subscribe(step, own),
            Act::Toggle => return self.toggle(step, own),
            Act::Disconnect | Act::ConnectTwice => self.disconnect(step, own),
            Act::Rebind => {
                let (life, address) = (own.live(), self.part.address(step.target));
                // It may be bound late, and the socket closed.
                let _ = life.socket.unbind(&address);
                self.rest(pause);
                if !life.socket.is_closed() {
                    self.part.bind_again(&life, step.target);
                }
            }
            Act::Restart => {
                self.part.end_life(own);
                self.rest(pause);
                self.part.begin_life(own);
            }
            Act::RestartBoth => {
                let Some(other) = slot(step.target) else { return "elsewhere".to_owned() };
                let both = Barrier::new(2);
                thread::scope(|scope| {
                    for slot in [own, other] {
                        let (both, part) = (&both, self.part);
                        scope.spawn(move || {
                            both.wait();
                            part.end_life(slot);
                        });
                    }
                });
                self.rest(pause);
                self.part.begin_life(own);
                self.part.begin_life(other);
            }
            Act::Cut => {
                let cut = self.part.memory.cut(&format!("e{}", step.target), step.count == 1);
                return format!("{cut} links");
            }
            Act::Stall => {
                let name = format!("e{}", step.target);
                self.part.memory.stall(Some(&name), true);
                self.rest(pause);
                self.part.memory.stall(Some(&name), false);
            }
            // The first process does that where it has the others: `world.rs`.
            Act::Stop => {
                crate::world::stop(step.target, || self.rest(pause));
            }
        }
        String::new()
    }

    /// Rests, but no longer than until all settle.
    fn rest(&self, pause: Duration) {
        let end = Instant::now() + pause;
        while !self.part.is_settling() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(Duration::from_millis(5)));
        }
    }

    fn disconnect(&mut self, step: &Step, own: &Slot) {
        let endpoint = self.part.plan.links[step.target].endpoint;
        let (life, address) = (own.live(), self.part.address(endpoint));
        // It may be closed, or its inproc peer gone.
        let _ = life.socket.disconnect(&address);
        self.rest(Duration::from_micros(step.pause));
        let twice = 1 + usize::from(step.act == Act::ConnectTwice);
        let all = Barrier::new(twice);
        thread::scope(|scope| {
            for _ in 0..twice {
                scope.spawn(|| {
                    all.wait();
                    self.part.connect_one(&life, endpoint);
                });
            }
        });
    }

    fn subscribe(&mut self, step: &Step, own: &Slot) -> String {
        let life = own.live();
        for number in 0..step.count {
            if is_time_over(self.part, number)
                || life.socket.subscribe(topic(step.target as u32 + number as u32)).is_err()
            {
                break;
            }
        }
        // The last one tells whether all came through.
        format!("{:?}", life.socket.subscribe(topic(LAST_TOPIC)))
    }

    fn toggle(&mut self, step: &Step, own: &Slot) -> String {
        let life = own.live();
        for number in 0..step.count {
            if is_time_over(self.part, number) {
                return format!("after {number}");
            }
            let topic = topic(step.target as u32);
            if life.socket.subscribe(&topic).is_err() || life.socket.unsubscribe(&topic).is_err() {
                return "closed".to_owned();
            }
        }
        String::new()
    }

    fn send(&mut self, step: &Step, own: &Slot) -> String {
        let kind = self.part.kind(own.number);
        let (mut sent, mut refused) = (0u64, 0u64);
        for _ in 0..step.count {
            if self.part.is_settling() {
                break;
            }
            let to = match kind {
                SocketKind::Router => match self.some_peer(own.number) {
                    Some(peer) => Some(peer),
                    None => return "nobody to send to".to_owned(),
                },
                _ => None,
            };
            match self.send_one(own, step.size, to) {
                Ok(()) => sent += 1,
                Err(_) => refused += 1,
            }
            if step.pause > 0 {
                thread::sleep(Duration::from_micros(step.pause));
            }
        }
        format!("{sent} sent, {refused} refused")
    }

    /// A DEALER of that ROUTER, if any has a name.
    fn some_peer(&mut self, router: usize) -> Option<usize> {
        let peers = self.part.plan.peers(router).into_iter().map(|(peer, _)| peer);
        let named: Vec<usize> = peers.filter(|peer| self.part.plan.sockets[*peer].named).collect();
        (!named.is_empty()).then(|| named[self.chance.below(named.len())])
    }

    /// Sends one message, as long as it takes or until all settle.
    fn send_one(&mut self, own: &Slot, size: Size, to: Option<usize>) -> Result<(), SendFailure> {
        let publishes = self.part.kind(own.number).publishes();
        let number = if publishes { self.chance.below(TOPICS as usize) as u32 } else { 0 };
        let prefix = if publishes { topic(number) } else { String::new() };
        let (inline, frames) = self.shape(own.number, size);
        let way = self.chance.below(4);
        loop {
            let life = own.live();
            let id = life.next(self.actor);
            let message = build(id, prefix.as_bytes(), inline, &frames);
            let octets = message.byte_len() as u32;
            life.note(id, Sent { octets, topic: number, to: to.map(|to| to as u32), late: false });
            let Err(failure) = attempt(&life, message, to, way) else { return Ok(()) };
            life.strike(id);
            match failure {
                SendFailure::WouldBlock | SendFailure::TimedOut | SendFailure::Closed if !self.part.is_settling() => {
                    if failure != SendFailure::TimedOut {
                        thread::sleep(Duration::from_micros(200));
                    }
                }
                failure => return Err(failure),
            }
        }
    }

    /// Octets behind the header, and further frames.
    fn shape(&mut self, socket: usize, size: Size) -> (usize, Vec<usize>) {
        let chance = &mut *self.chance;
        match size {
            Size::Empty => (0, Vec::new()),
            Size::Tiny => (chance.below(65), if chance.below(4) == 0 { vec![0] } else { Vec::new() }),
            Size::Small => match chance.below(3) {
                0 => (chance.below(300), vec![chance.below(300), chance.below(1500)]),
                _ => (chance.below(2048), Vec::new()),
            },
            Size::Middle => {
                let edge = [8 << 10, 32 << 10, 64 << 10][chance.below(3)];
                let octets = (edge - 64 + chance.below(128)).saturating_sub(40);
                if chance.below(2) == 0 { (octets, Vec::new()) } else { (0, vec![octets]) }
            }
            Size::Large => (0, vec![100_000 + chance.below(900_000)]),
            Size::Huge => {
                let octets = (1 << 20) + chance.below(3 << 20);
                if chance.below(2) == 0 { (octets.min(LONGEST), Vec::new()) } else { (7, vec![octets, 3]) }
            }
            Size::Frames => {
                let count = [2, 10, 100, 999][chance.below(4)];
                let longest = [1, 40, 300][chance.below(3)];
                (chance.below(40), (0..count).map(|_| chance.below(longest)).collect())
            }
            Size::Any => {
                let drawn = [
                    Size::Empty,
                    Size::Tiny,
                    Size::Tiny,
                    Size::Small,
                    Size::Small,
                    Size::Middle,
                    Size::Frames,
                    Size::Large,
                ];
                let size = drawn[chance.below(drawn.len())];
                self.shape(socket, size)
            }
            Size::OverLimit => match chance.below(4) {
                0 => {
                    let peers = self.part.plan.peers(socket).into_iter();
                    let peers = peers.map(|(peer, _)| &self.part.plan.sockets[peer]);
                    let (octets, frames) =
                        peers.fold((0, 0), |most, peer| (most.0.max(peer.max_message), most.1.max(peer.max_frames)));
                    if frames > 0 && (octets == 0 || chance.below(2) == 0) {
                        (0, vec![1; frames as usize * 2])
                    } else {
                        (0, vec![(octets as usize * 2).clamp(100, LONGEST)])
                    }
                }
                _ => (chance.below(200), Vec::new()),
            },
        }
    }

    fn request(&mut self, step: &Step, own: &Slot) -> String {
        let mut outcomes = [0u64; 3];
        for _ in 0..step.count {
            if self.part.is_settling() {
                break;
            }
            let (inline, frames) = self.shape(own.number, step.size);
            let outcome = ask(own, &own.live(), self.actor, (inline, &frames), Duration::from_micros(step.pause));
            outcomes[outcome as usize] += 1;
        }
        format!("{} answered, {} not in time, {} refused", outcomes[0], outcomes[1], outcomes[2])
    }
}

/// Steps of many small acts look at the time now and then.
fn is_time_over(part: &Part, number: u64) -> bool {
    number % 64 == 0 && part.is_settling()
}

/// One of the ways there are to send a message.
fn attempt(life: &Alive, message: Message, to: Option<usize>, way: usize) -> Result<(), SendFailure> {
    let reason = |error: SendError| error.reason;
    let socket = &life.socket;
    match (to, way) {
        (Some(to), 0) => socket.try_send_to(routing_id(to), message).map_err(reason),
        (Some(to), _) => socket.send_to_timeout(routing_id(to), message, GLANCE).map_err(reason),
        (None, 0) => socket.try_send(message).map_err(reason),
        (None, 1) if !socket.kind().publishes() => {
            let room = socket.reserve_timeout(GLANCE).map_err(|error| error.reason)?;
            room.send(message).map_err(reason)
        }
        (None, _) => socket.send_timeout(message, GLANCE).map_err(reason),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Answered,
    Late,
    Refused,
}

/// Asks one question; an answer must be its own.
fn ask(slot: &Slot, life: &Alive, stream: u32, (inline, frames): (usize, &[usize]), limit: Duration) -> Asked {
    let id = life.next(stream);
    let message = build(id, b"", inline, frames);
    life.note(id, Sent { octets: message.byte_len() as u32, topic: 0, to: None, late: stream >= LATE });
    match life.socket.request(message, limit) {
        Ok(answer) => {
            match check(&answer, 0) {
                Ok((other, _)) if other == id => {}
                Ok((other, _)) => {
                    lock(&life.wrong).push(format!("REQ {}: asked {id:?} and got the answer to {other:?}", slot.number))
                }
                Err(why) => lock(&life.wrong).push(format!("REQ {}: the answer to {id:?}: {why}", slot.number)),
            }
            Asked::Answered
        }
        Err(RequestError::Send(_)) => Asked::Refused,
        Err(_) => Asked::Late,
    }
}

/// Asks when all has settled: now there must be an answer.
pub(crate) fn ask_late(part: &Part, slot: &Slot, life: &Alive) {
    if ask(slot, life, LATE, (0, &[]), Duration::from_secs(2)) == Asked::Answered {
        for (peer, _) in part.plan.peers(slot.number) {
            // Each of them may have given it; that all can is left to the questions before.
            part.hear_answer(slot, peer);
        }
    }
}
