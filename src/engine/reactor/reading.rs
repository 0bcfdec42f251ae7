//! What a readable link does: how much a turn reads, where to, and what is handed on; when nobody receives any more,
//! what is thrown away. Where the rest of a message stays until more of it comes.

use super::holders::is_starved;
use super::{Loss, Reactor, Ready, Stint, token};
use crate::engine::link::{Origin, State};
use crate::engine::{Host, Incoming, spares};
use crate::event::{Cause, Event, EventKind};
use crate::protocol;
use crate::queue::READ_BUFFER;
use crate::slab::Key;
use bytes::{Bytes, BytesMut};
use mio::Interest;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wiremesh_transports::read_into;

impl Reactor {
    /// Reads and delivers until the stream would block, the receive mark is reached or the budget of this turn is used
    /// up.
    pub(super) fn read(&mut self, host: &dyn Host, key: Key, now: Instant, budget: usize, stint: &mut Stint) -> usize {
        let mut octets = 0;
        let mut buffer = spares::take_buffer();
        if let Some(link) = self.links.get_mut(key) {
            unpack(&mut link.input, &mut buffer);
        }
        let outcome = loop {
            let Some(link) = self.links.get_mut(key) else { break Ok(()) };
            if link.unfinished.octets() > 0 {
                link.starved = false;
                link.starved = link.is_ready() && is_starved(&mut self.favourite, host, key, link);
            }
            if !link.is_ready() || matches!(link.state, State::Settling(_)) {
                break Ok(());
            }
            if std::mem::take(&mut link.undigested) {
                buffer = std::mem::take(&mut link.input);
                let begun = Instant::now();
                let found = match self.digest(host, key, &mut buffer, now, stint) {
                    Ok(found) => found,
                    Err(loss) => break Err(loss),
                };
                self.count(host, key, now);
                let Some(link) = self.links.get_mut(key) else { break Ok(()) };
                set_aside(&mut link.input, &mut buffer);
                link.rests = found.sort.rest_after(begun.elapsed()).and_then(|rest| Instant::now().checked_add(rest));
                if link.undigested || link.rests.is_some() {
                    break Ok(());
                }
                continue;
            }
            let asked;
            let result = if let Some(slot) = link.machine.body_slot() {
                reuse_body(slot.buffer, slot.wanted);
                asked = slot.wanted.min(slot.buffer.capacity() - slot.buffer.len());
                read_into(&*link.stream, slot.buffer, asked)
            } else {
                buffer.clear();
                if link.input.len() > SMALL_REST {
                    buffer = std::mem::take(&mut link.input);
                } else if !link.input.is_empty() {
                    reserve(&mut buffer, READ_BUFFER);
                    buffer.extend_from_slice(&link.input);
                    link.input = BytesMut::new();
                }
                reserve(&mut buffer, READ_BUFFER);
                // Where large bodies follow each other, little of the next is read before it has a buffer of its own.
                let wanted = if link.large { LARGE_START } else { link.gulp.size() };
                asked = wanted.min(buffer.capacity() - buffer.len());
                read_into(&*link.stream, &mut buffer, asked)
            };
            let got = match result {
                Ok(got) => got,
                Err(error) => {
                    set_aside(&mut link.input, &mut buffer);
                    match error.kind() {
                        io::ErrorKind::WouldBlock => {
                            link.readable = link.stream.has_buffered();
                            link.read_wants_write = link.stream.wants().is_some_and(Interest::is_writable);
                            if !link.read_wants_write {
                                break Ok(());
                            }
                            let token = token(self.prefix, Ready::Link(key));
                            break link
                                .want_write(self.sources.registry(), token, true)
                                .map_err(|error| Loss::Link(error.into()));
                        }
                        io::ErrorKind::Interrupted => continue,
                        // The system resets a connection whose peer closes it with our greeting unread.
                        io::ErrorKind::ConnectionReset if link.machine.is_unheard() => {
                            break Err(Loss::Protocol(protocol::ProtocolError::ClosedUnheard { times: 1 }));
                        }
                        _ => break Err(Loss::Link(error.into())),
                    }
                }
            };
            octets += got;
            if got == 0 {
                break match link.machine.ended() {
                    Err(error) if !link.is_up() || !error.is_cut() => Err(Loss::Protocol(error)),
                    Ok(()) | Err(_) => Err(Loss::Link(Cause::Peer)),
                };
            }
            link.machine.traffic();
            let (measured, held) = (link.gulp.is_measured_by(got).then(Instant::now), link.machine.held());
            let mut found = match self.digest(host, key, &mut buffer, now, stint) {
                Ok(found) => found,
                Err(loss) => break Err(loss),
            };
            self.count(host, key, now);
            let Some(link) = self.links.get_mut(key) else { break Ok(()) };
            set_aside(&mut link.input, &mut buffer);
            if let Some(begun) = measured {
                let took = begun.elapsed();
                // What is held is part of a message, unless there was no time to look at it.
                let begun = if link.undigested { 0 } else { link.machine.held() };
                // What was read beside messages, whole or begun.
                let beside = (held + got).saturating_sub(begun + found.kept);
                link.gulp.note(took, got, beside);
                // What is part of a long message is no less than a message.
                if begun >= held + got / 2 {
                    found.sort = Sort::Messages;
                }
                link.rests = found.sort.rest_after(took).and_then(|rest| Instant::now().checked_add(rest));
                if link.rests.is_some() {
                    break Ok(());
                }
            }
            if link.undigested {
                break Ok(());
            }
            // A short read of a stream says that it is empty, and saves the read that would say so; not at its end,
            // which would then be waited for in vain.
            if got < asked && !link.ended && !link.stream.has_buffered() {
                link.readable = false;
                break Ok(());
            }
            if octets >= budget || stint.is_over() {
                break Ok(());
            }
        };
        if let Some(link) = self.links.get_mut(key) {
            pack(&mut link.input, &mut buffer);
            // One that came when all places were taken has to say first who it is.
            if !link.readable && link.spare.is_none() && link.machine.drained(now) {
                self.admit_unready(host, key, now);
            }
        }
        // What a connection that failed has left in it is nobody else's.
        buffer.clear();
        if buffer.capacity() <= 2 * READ_BUFFER {
            spares::keep_buffer(buffer, now);
        }
        host.port().see_to_spares();
        // What the machine answers goes out even if it is an ERROR, and the last word.
        self.converse(host, key, now);
        if let Err(loss) = outcome {
            self.lose(host, key, loss);
        }
        octets
    }

    /// Lets the machine read `input` and hands on what it finds. What there is no time for stays in it.
    fn digest(
        &mut self,
        host: &dyn Host,
        key: Key,
        input: &mut BytesMut,
        now: Instant,
        stint: &mut Stint,
    ) -> Result<Found, Loss> {
        let (mut found, mut answered) = (Found { sort: Sort::Nothing, kept: 0 }, 0);
        let keeps_wire = host.keeps_wire();
        for event in 1.. {
            let Some(link) = self.links.get_mut(key) else { return Ok(found) };
            if event % EVENTS == 0 && link.is_up() && stint.is_over() {
                (link.undigested, link.readable) = (!input.is_empty(), true);
                return Ok(found);
            }
            let event = link.machine.received(input, now).map_err(Loss::Protocol)?;
            let incoming = match event {
                None => return Ok(found),
                Some(protocol::Event::Ready(description)) => {
                    if let Origin::Listener(_) = link.origin {
                        if self.meets_itself(host, key, &description) {
                            let Some(link) = self.links.get_mut(key) else { return Ok(found) };
                            link.state = State::Settling(Box::new(description));
                            link.undigested = !input.is_empty();
                            return Ok(found);
                        }
                        self.admit(host, key, &description)?;
                    }
                    let Some(link) = self.links.get_mut(key) else { return Ok(found) };
                    // The first PING may be due, before anything that could keep the peer from reading it.
                    link.machine.handle_timeout(now).map_err(Loss::Protocol)?;
                    link.state = State::Settling(Box::new(description));
                    self.converse(host, key, now);
                    match self.links.get_mut(key) {
                        // Our part of the handshake must be written before messages flow; the rest of the input waits.
                        Some(link) if !link.is_up() => {
                            link.undigested = !input.is_empty();
                            return Ok(found);
                        }
                        Some(_) => continue,
                        None => return Ok(found),
                    }
                }
                Some(protocol::Event::Messages { wire, count }) => {
                    link.large = false;
                    Incoming::Messages(wire, count)
                }
                Some(protocol::Event::Message(pieces)) => {
                    link.large = pieces.iter().any(|piece| remember_body(piece, now));
                    Incoming::Message(pieces)
                }
                Some(protocol::Event::Subscribe(topic)) => Incoming::Subscribe(topic),
                Some(protocol::Event::Cancel(topic)) => Incoming::Cancel(topic),
                Some(protocol::Event::Answers) => {
                    // Whoever reads gets all its answers; whoever floods costs no write for each few of them.
                    if answered < MOST_ANSWERED {
                        answered += 1;
                        self.converse(host, key, now);
                    }
                    continue;
                }
                Some(protocol::Event::Oddity(error)) => {
                    let (endpoint, address) = (Arc::clone(&link.endpoint), Some(Arc::clone(&link.address)));
                    let kind = EventKind::Oddity(Cause::Protocol(error));
                    host.event(Event { kind, endpoint, address, peer: link.peer });
                    continue;
                }
            };
            let (sort, octets) = match &incoming {
                Incoming::Messages(wire, _) => (Sort::Messages, wire.len()),
                Incoming::Message(pieces) => (Sort::Messages, pieces.iter().map(Bytes::len).sum()),
                Incoming::Subscribe(_) | Incoming::Cancel(_) => (Sort::Commands, 0),
            };
            found.sort = found.sort.max(sort);
            if keeps_wire {
                found.kept += octets;
            }
            // The machine gives nothing else before it is ready.
            let (State::Up, Some(peer)) = (&link.state, link.peer) else { continue };
            let origin = link.origin;
            // Subscriptions prove nothing: a peer that never takes a message sends them at once.
            let proves = matches!(incoming, Incoming::Messages(..) | Incoming::Message(_));
            if link.unfinished.octets() > 0 {
                // What was counted here is whole now and counted where it waits.
                self.count(host, key, now);
            }
            host.deliver(peer, incoming);
            if let (Origin::Dialer(dialer), true) = (origin, proves) {
                if let Some(dialer) = self.dialers.get_mut(dialer) {
                    dialer.proved();
                }
            }
        }
        Ok(found)
    }

    /// Throws away what the peer of a link that ends has sent, up to a budget, if it waits for that; whether the stream
    /// is over.
    pub(super) fn discard(&mut self, host: &dyn Host, key: Key) -> bool {
        let Some(link) = self.links.get_mut(key) else { return false };
        link.readable = false;
        if !link.throws_away(|peer| host.pending(peer)) {
            return false;
        }
        let mut buffer = spares::take_buffer();
        reserve(&mut buffer, READ_BUFFER);
        let mut octets = 0;
        let over = loop {
            buffer.clear();
            match read_into(&*link.stream, &mut buffer, READ_BUFFER) {
                Ok(0) => break true,
                Ok(got) => octets += got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
            link.readable = octets >= READ_BUDGET;
            if link.readable {
                break false;
            }
        };
        spares::keep_buffer(buffer, Instant::now());
        host.port().see_to_spares();
        over
    }
}

/// What was found in octets of a peer.
#[derive(Clone, Copy)]
struct Found {
    sort: Sort,
    /// The octets of messages that the socket keeps as they came, so that they take no time to speak of.
    kept: usize,
}

/// The best of what was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    /// Nothing for the socket, such as PINGs.
    Nothing,
    /// Subscriptions.
    Commands,
    Messages,
}

impl Sort {
    /// How long a link is not read after its octets took so long. Messages have their marks; a flood of anything else
    /// would take all of a processor, and is held back by its own kernel instead.
    fn rest_after(self, took: Duration) -> Option<Duration> {
        match self {
            Sort::Messages => None,
            Sort::Commands => (took >= Gulp::SHORT).then(|| took * 2),
            Sort::Nothing => (took >= Gulp::SHORT).then(|| took * 32),
        }
    }
}

/// How much is read from a link at once: less where what comes from it takes long to digest, so that a turn is not much
/// longer than its time.
///
/// Messages that are kept as they came are only counted, which takes less than 3 ns a frame. They are read in the
/// largest gulps whatever the clock says: where it shows more, the thread has lost its processor, or each instruction
/// is being watched.
#[derive(Debug)]
pub(crate) struct Gulp(usize);

impl Gulp {
    const LEAST: usize = 4 * 1024;
    /// What a new link starts with: nothing is known of its peer.
    const FIRST: usize = 64 * 1024;
    const MEASURED: usize = 16 * 1024;
    /// One that took longer is followed by smaller ones, …
    const LONG: Duration = Duration::from_micros(200);
    /// … and one that took less by larger ones.
    const SHORT: Duration = Duration::from_micros(60);

    pub(crate) const fn new() -> Gulp {
        Gulp(Gulp::FIRST)
    }

    fn size(&self) -> usize {
        self.0
    }

    /// Whether so many octets say how long a whole one takes. Small reads do not pay for the clock.
    fn is_measured_by(&self, got: usize) -> bool {
        got >= Gulp::MEASURED.min(self.0 / 2)
    }

    /// Digesting one of `got` octets took so long; `beside` of them were no messages that are kept as they came.
    fn note(&mut self, took: Duration, got: usize, beside: usize) {
        if took < Gulp::SHORT || beside <= got / 8 {
            self.0 = (self.0 * 2).min(READ_BUFFER);
        } else if took > Gulp::LONG {
            self.0 = (self.0 / 4).max(Gulp::LEAST);
        }
    }
}

/// Remembers the buffer of a large body until the application has let go of it; whether it is one.
fn remember_body(body: &Bytes, now: Instant) -> bool {
    let large = REUSED_BODIES.contains(&body.len());
    if large {
        spares::keep_body(body.clone(), now);
    }
    large
}

/// Gives a large body that has just begun the buffer of an earlier one: fresh memory costs more than what is read into
/// it. One of more than twice its size would be pinned by it if the application keeps the message.
fn reuse_body(buffer: &mut BytesMut, wanted: usize) {
    let room = buffer.len() + wanted;
    if buffer.capacity() >= room || buffer.len() > READ_BUFFER || !REUSED_BODIES.contains(&room) {
        return;
    }
    if let Some(mut free) = spares::take_body(room) {
        free.clear();
        free.extend_from_slice(buffer);
        *buffer = free;
    }
}

/// Makes room without letting the buffer grow beyond twice its size for ever.
fn reserve(buffer: &mut BytesMut, octets: usize) {
    if buffer.capacity() - buffer.len() < octets / 4 {
        buffer.reserve(octets);
    }
}

/// Puts the rest of a message aside until more of it arrives.
fn set_aside(input: &mut BytesMut, buffer: &mut BytesMut) {
    if buffer.is_empty() {
        return;
    }
    if buffer.len() <= SMALL_REST {
        input.extend_from_slice(buffer);
        buffer.clear();
    } else {
        *input = std::mem::take(buffer);
    }
}

/// A rest that was copied to size goes back into a read buffer, to grow there.
fn unpack(input: &mut BytesMut, buffer: &mut BytesMut) {
    if (SMALL_REST + 1..=MIDDLING_REST).contains(&input.len()) {
        buffer.clear();
        reserve(buffer, READ_BUFFER);
        buffer.extend_from_slice(input);
        *input = std::mem::take(buffer);
    }
}

/// Copies a rest that fills little of its read buffer, which goes back to the driver.
fn pack(input: &mut BytesMut, buffer: &mut BytesMut) {
    if (SMALL_REST + 1..=MIDDLING_REST).contains(&input.len()) {
        let rest = BytesMut::from(&input[..]);
        *buffer = std::mem::replace(input, rest);
    }
}

/// How often one read is interrupted to write the answers to as many PINGs as may wait.
const MOST_ANSWERED: u32 = 16;
/// How many octets one turn reads from one connection, so that a busy peer does not starve the others.
pub(super) const READ_BUDGET: usize = 1024 * 1024;
/// After so many events of one link it is asked whether the turn is over.
const EVENTS: u32 = 32;
/// A rest of a message up to this size is put aside by copying; a longer one keeps its buffer.
const SMALL_REST: usize = 16 * 1024;
/// A rest up to this size does not keep its buffer while nothing comes.
const MIDDLING_REST: usize = READ_BUFFER / 2;
/// How much is read at once where a large body is about to begin.
const LARGE_START: usize = 16 * 1024;
/// Bodies of such lengths leave their buffers to later ones.
const REUSED_BODIES: RangeInclusive<usize> = 128 * 1024..=2 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_read_in_small_gulps_until_it_does_not() {
        let mut gulp = Gulp::new();
        (0..10).for_each(|_| gulp.note(Gulp::SHORT / 2, 100, 100));
        assert_eq!(gulp.size(), READ_BUFFER);
        assert!(gulp.is_measured_by(READ_BUFFER / 2) && !gulp.is_measured_by(64));
        (0..10).for_each(|_| gulp.note(Gulp::LONG * 2, 100, 100));
        assert_eq!(gulp.size(), Gulp::LEAST);
        gulp.note(Gulp::LONG, 100, 100);
        assert_eq!(gulp.size(), Gulp::LEAST);
        (0..10).for_each(|_| gulp.note(Duration::ZERO, 100, 100));
        assert_eq!(gulp.size(), READ_BUFFER);
    }

    #[test]
    fn messages_that_are_only_kept_are_read_in_large_gulps_whatever_the_clock_says() {
        let mut gulp = Gulp::new();
        (0..10).for_each(|_| gulp.note(Gulp::LONG * 2, 100, 10));
        assert_eq!(gulp.size(), READ_BUFFER);
        gulp.note(Gulp::LONG * 2, 100, 50);
        assert_eq!(gulp.size(), READ_BUFFER / 4);
    }
}
