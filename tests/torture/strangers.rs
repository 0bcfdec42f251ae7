//! Peers made of octets, hostile ones and a well-behaved one, and peers of libzmq.

use crate::ledger::{Counts, Life, Sent};
use crate::libzmq;
use crate::message::{Id, build, sender};
use crate::part::{Part, lock};
use crate::plan::{Manner, Stranger};
use crate::support::random::Random;
use crate::support::raw::{Raw, command, frame, long_header};
use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;
use wiremesh::{SocketKind, Stats};

/// Strangers are named like sockets from this number on.
pub(crate) const FIRST: usize = 900;

/// Visits an endpoint until what it came for is done, or all settle.
pub(crate) fn visit(part: &Part, number: usize, stranger: &Stranger) {
    part.log.line(format!("begin {}", stranger.line()));
    let outcome = match stranger.manner {
        Manner::PingingPush => push(part, number, stranger),
        Manner::PingFlood => flood(part, stranger),
        Manner::Garbage => garbage(part, stranger),
        Manner::Silent => silent(part, stranger),
        Manner::HugeFrame => huge(part, stranger),
        Manner::HalfMessage => half(part, stranger),
        Manner::Libzmq => libzmq::visit(part, number, stranger),
    };
    part.log.line(format!("end {}: {outcome:?}", stranger.line()));
}

/// The kind that a binder takes as a peer.
pub(crate) fn opposite(kind: SocketKind) -> SocketKind {
    match kind {
        SocketKind::Push => SocketKind::Pull,
        SocketKind::Pull => SocketKind::Push,
        SocketKind::Pub | SocketKind::XPub => SocketKind::Sub,
        SocketKind::Sub | SocketKind::XSub => SocketKind::Pub,
        SocketKind::Req => SocketKind::Rep,
        SocketKind::Rep => SocketKind::Req,
        SocketKind::Router | SocketKind::Dealer => SocketKind::Dealer,
        SocketKind::Pair => SocketKind::Pair,
    }
}

fn connect(part: &Part, stranger: &Stranger) -> io::Result<Raw> {
    Raw::connect(&part.address(stranger.endpoint))
}

fn shake_hands(part: &Part, stranger: &Stranger) -> io::Result<Raw> {
    let mut raw = connect(part, stranger)?;
    let binder = part.kind(part.plan.endpoints[stranger.endpoint].socket);
    raw.shake_hands(opposite(binder).name())?;
    Ok(raw)
}

/// Rests until all settle, or the time is over.
fn linger(part: &Part, most: Duration) {
    let begin = std::time::Instant::now();
    while !part.is_settling() && begin.elapsed() < most {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends messages, each with a PING behind it, and reads what comes back, as any sane peer does.
fn push(part: &Part, number: usize, stranger: &Stranger) -> io::Result<()> {
    let mut raw = shake_hands(part, stranger)?;
    raw.set_write_timeout(Duration::from_millis(20));
    raw.set_read_timeout(Duration::from_millis(1));
    let name = sender(FIRST + number, 0);
    let mut chance = Random::new(number as u64);
    let mut sent = Vec::new();
    let mut octets = Vec::new();
    for seq in 0..stranger.count {
        let message = build(Id { sender: name, stream: 0, seq }, b"", chance.below(60), &[]);
        octets.extend_from_slice(&frame(false, message.iter().next().unwrap_or_default()));
        octets.extend_from_slice(&command(b"\x04PING\0\0x"));
        sent.push(Sent { octets: message.byte_len() as u32, topic: 0, to: None, late: false });
    }
    // Noted before it is sent: what never leaves is missed then, as it should be.
    let counts = Counts::of(&Stats::default());
    lock(&part.strangers).push(Life { name, sent: vec![sent], got: Vec::new(), wrong: Vec::new(), counts });
    let mut answers = [0; 4096];
    let mut written = 0;
    while written < octets.len() && !part.is_ending() {
        let batch = &octets[written..(written + 4000).min(octets.len())];
        match raw.write(batch) {
            Ok(count) => written += count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        if written % 16_000 < 4000 {
            // Nothing may be there.
            let _ = raw.read(&mut answers);
        }
    }
    // It stays, so that no message is lost with its connection.
    while !part.is_ending() && part.strangers_left.load(std::sync::atomic::Ordering::SeqCst) > 0 {
        if raw.read(&mut answers).is_ok_and(|count| count == 0) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if has_arrived(part, name, stranger.count) {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether so many messages of a sender have been received.
fn has_arrived(part: &Part, name: u32, count: u64) -> bool {
    part.is_settling() && {
        let lives = part.ledger();
        lives.iter().flat_map(|life| life.got.iter().flatten()).filter(|id| id.sender == name).count() as u64 >= count
    }
}

/// PINGs as fast as they go.
fn flood(part: &Part, stranger: &Stranger) -> io::Result<()> {
    let mut raw = shake_hands(part, stranger)?;
    raw.set_write_timeout(Duration::from_millis(50));
    raw.set_read_timeout(Duration::from_millis(1));
    let pings = command(b"\x04PING\0\0flood").repeat(100);
    let mut answers = [0; 65_536];
    for _ in 0..stranger.count / 100 {
        if part.is_settling() {
            break;
        }
        // It does not care what becomes of them.
        let _ = raw.write(&pings);
        let _ = raw.read(&mut answers);
    }
    Ok(())
}

fn garbage(part: &Part, stranger: &Stranger) -> io::Result<()> {
    let mut chance = Random::new(stranger.count);
    for round in 0..stranger.count {
        if part.is_settling() {
            break;
        }
        let octets = 1 + chance.below(3000);
        // Half of them behind a good handshake.
        let mut raw = if round % 2 == 0 { connect(part, stranger)? } else { shake_hands(part, stranger)? };
        raw.set_read_timeout(Duration::from_millis(5));
        // It may be closed at any octet.
        let _ = raw.write_all(&chance.bytes(octets));
        let _ = raw.read(&mut [0; 100]);
    }
    Ok(())
}

fn silent(part: &Part, stranger: &Stranger) -> io::Result<()> {
    let all = (0..stranger.count).map(|_| connect(part, stranger)).collect::<io::Result<Vec<_>>>()?;
    linger(part, Duration::from_secs(5));
    drop(all);
    Ok(())
}

fn huge(part: &Part, stranger: &Stranger) -> io::Result<()> {
    let mut raw = shake_hands(part, stranger)?;
    raw.write_all(&long_header(false, u64::MAX / 2))?;
    let _ = raw.write_all(&[7; 5000]);
    linger(part, Duration::from_millis(300));
    Ok(())
}

fn half(part: &Part, stranger: &Stranger) -> io::Result<()> {
    let mut raw = shake_hands(part, stranger)?;
    raw.write_all(&frame(true, b"a beginning"))?;
    raw.write_all(&long_header(false, 300_000))?;
    raw.set_write_timeout(Duration::from_millis(200));
    let _ = raw.write_all(&vec![1; 150_000]);
    linger(part, Duration::from_secs(5));
    Ok(())
}
