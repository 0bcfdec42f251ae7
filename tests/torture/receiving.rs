//! The threads that receive: in every way there is, quickly or slowly, and all that there is once all settle. They keep
//! some short messages, as an application may that puts them into a table, which must not keep more memory than they
//! need.

use crate::ledger::Sent;
use crate::message::{build, check};
use crate::part::{ANSWERS, Alive, Part, lock, routing_id};
use crate::plan::Manner;
use crate::support::random::Random;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use wiremesh::{Message, RecvError, RecvIntoError, SocketKind};

pub(crate) fn receive(part: &Part, number: usize, thread: usize) {
    let Some(slot) = &part.slots[number] else { return };
    let row = &part.plan.sockets[number];
    let mut chance = Random::new(part.plan.frame.seed << 16 ^ (number * 8 + thread) as u64);
    let mut buffer = vec![0; 200];
    let mut kept = Vec::new();
    while !part.is_ending() {
        let stands = row.idle || slot.holds.load(Ordering::SeqCst);
        if stands && !part.is_settling() {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        let life = slot.live();
        match some_messages(part, &life, &mut chance, &mut buffer) {
            Ok(messages) => {
                for message in messages {
                    if message.byte_len() <= SHORT && kept.len() < MOST_KEPT {
                        kept.push(message.clone());
                    }
                    take(part, &life, thread, message, &mut chance);
                }
            }
            Err(RecvError::TimedOut | RecvError::WouldBlock) => {}
            Err(RecvError::Closed) => thread::sleep(Duration::from_micros(500)),
            Err(error) => {
                lock(&life.wrong).push(format!("receiving on socket {number}: {error}"));
                return;
            }
        }
        if row.pace > 0 && !part.is_settling() {
            thread::sleep(Duration::from_micros(row.pace));
        }
    }
}

/// Messages up to so many octets are kept, and so many of them.
const SHORT: usize = 256;
const MOST_KEPT: usize = 4000;

/// Receives in one of the ways there are.
fn some_messages(part: &Part, life: &Alive, chance: &mut Random, buffer: &mut [u8]) -> Result<Vec<Message>, RecvError> {
    let (socket, limit) = (&life.socket, part.receive_limit());
    let kind = socket.kind();
    let one = |message| vec![message];
    match chance.below(8) {
        0 => match socket.try_recv() {
            Err(RecvError::WouldBlock) => socket.recv_timeout(limit).map(one),
            outcome => outcome.map(one),
        },
        1 if !matches!(kind, SocketKind::Rep | SocketKind::Router) => match socket.recv_into_timeout(buffer, limit) {
            Ok(octets) => Ok(vec![Message::from(buffer[..octets].to_vec())]),
            Err(RecvIntoError::TooLong { message, .. } | RecvIntoError::SeveralFrames(message)) => Ok(vec![message]),
            Err(RecvIntoError::Receive(error)) => Err(error),
            Err(other) => panic!("{other}"),
        },
        2 if kind != SocketKind::Rep => {
            let first = socket.recv_timeout(limit)?;
            let mut messages = vec![first];
            while messages.len() < 16 {
                match socket.try_recv() {
                    Ok(message) => messages.push(message),
                    Err(_) => break,
                }
            }
            Ok(messages)
        }
        _ => socket.recv_timeout(limit).map(one),
    }
}

fn take(part: &Part, life: &Alive, thread: usize, message: Message, chance: &mut Random) {
    let kind = life.socket.kind();
    if kind == SocketKind::XPub {
        // Subscriptions, which are no messages of ours.
        return;
    }
    let skip = usize::from(kind == SocketKind::Router);
    let most = part.plan.sockets[crate::message::socket_of(life.name)].max_frames as usize;
    let frames = message.len() - skip;
    if most > 0 && frames > most {
        lock(&life.wrong).push(format!("{kind} {}: {frames} frames came, and {most} are allowed", life.name));
    }
    match check(&message, skip) {
        Ok((id, topic)) => {
            lock(&life.got)[thread].push(id);
            part.hear(life, id, &topic);
            match kind {
                SocketKind::Router => answer_by_name(part, life, thread, id.sender, chance),
                SocketKind::Rep => answer(part, life, message, chance),
                _ => {}
            }
        }
        // A stranger's garbage may look like a message, with which nothing is wrong.
        Err(_) if part.plan.is_visited(crate::message::socket_of(life.name), &[Manner::Garbage]) => {}
        Err(why) => lock(&life.wrong).push(format!("{kind} {}: {why}", life.name)),
    }
}

/// A REP gives the question back, now and then after a while.
fn answer(part: &Part, life: &Alive, question: Message, chance: &mut Random) {
    let slow = part.plan.sockets[crate::message::socket_of(life.name)].answers;
    if slow > 0 && chance.below(20) == 0 && !part.is_settling() {
        thread::sleep(Duration::from_millis(slow));
    }
    // Whoever asked may be gone, or the REP closed.
    let _ = life.socket.send(question);
}

/// A ROUTER sends a message of its own to whoever sent it one.
fn answer_by_name(part: &Part, life: &Alive, thread: usize, sender: u32, chance: &mut Random) {
    let (me, to) = (crate::message::socket_of(life.name), crate::message::socket_of(sender));
    let is_named = part.plan.sockets.get(to).is_some_and(|socket| socket.named);
    if !is_named || part.is_settling() || chance.below(100) as u64 >= part.plan.sockets[me].answers {
        return;
    }
    let stream = ANSWERS + thread as u32;
    let id = life.next(stream);
    let message = build(id, b"", chance.below(100), &[]);
    life.note(id, Sent { octets: message.byte_len() as u32, topic: 0, to: Some(to as u32), late: false });
    if life.socket.try_send_to(routing_id(to), message).is_err() {
        life.strike(id);
    }
}
