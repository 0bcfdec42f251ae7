//! A seeded mutator over the fuzz targets: plausible octets, damaged in the ways that have broken others.
//!
//! `WIREMESH_MUTATIONS` says how many inputs each target gets (100,000), `WIREMESH_MUTATION` runs one by its number. A
//! failing number prints itself. Every input may hold so much memory and no more; a third of those to whole connections
//! must get past the handshake, or the mutator would be knocking at the door only.

#[path = "simulation/random.rs"]
mod random;
#[path = "mutator/targets.rs"]
mod targets;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use random::Random;
use targets::handshake;
use wiremesh::SocketKind;
use wiremesh::protocol::command::{self, ping, pong};
use wiremesh::protocol::{cancel_command, greeting, subscribe_command, subscription};

#[test]
fn greetings_survive_mutation() {
    attack(targets::greeting, 2 << 20, |random| {
        let mut octets = corpus_greeting(random);
        mutate(&mut octets, random);
        octets
    });
}

#[test]
fn frames_survive_mutation() {
    attack(targets::frame, 3 << 20, |random| {
        let mut octets = stream(random);
        mutate(&mut octets, random);
        octets.insert(0, random.next() as u8);
        octets
    });
}

#[test]
fn commands_survive_mutation() {
    attack(targets::command, 1 << 20, |random| {
        let framed = corpus_command(random);
        let size = if framed[0] & 2 == 0 { 2 } else { 9 };
        let mut octets = framed[size..].to_vec();
        if random.chance(20) {
            // Metadata as such.
            octets.drain(..octets.len().min(6));
        }
        mutate(&mut octets, random);
        octets
    });
}

#[test]
fn connections_survive_mutation_and_a_third_get_past_the_handshake() {
    let (inputs, past) = attack(targets::connection, 4 << 20, |random| {
        let kind = random.below(SocketKind::ALL.len()) as u8;
        let mut octets = stream(random);
        let raw = random.chance(40);
        if raw {
            octets.splice(0..0, handshake(SocketKind::ALL[usize::from(kind)]));
        }
        mutate(&mut octets, random);
        octets.splice(0..0, [random.next() as u8, kind | u8::from(raw) << 7]);
        octets
    });
    println!("{past} of {inputs} inputs got past the handshake");
    assert!(past * 100 >= inputs * 30);
}

/// Gives a target its inputs; returns how many there were and how many got past the handshake.
fn attack(target: fn(&[u8]) -> bool, most_memory: usize, make: impl Fn(&mut Random) -> Vec<u8>) -> (u64, u64) {
    let one = number("WIREMESH_MUTATION");
    let range = one.map_or(0..number("WIREMESH_MUTATIONS").unwrap_or(100_000), |one| one..one + 1);
    let (inputs, mut past) = (range.end - range.start, 0);
    for number in range {
        let named = Named(number);
        let input = make(&mut Random::new(number));
        let base = HELD.with(Cell::get);
        MOST.with(|most| most.set(base));
        past += u64::from(target(&input));
        let held = MOST.with(Cell::get) - base;
        let bound = most_memory + 200 * input.len();
        assert!(held <= bound as isize, "{held} octets held for an input of {}", input.len());
        assert_eq!(HELD.with(Cell::get), base, "octets leaked");
        drop(named);
    }
    (inputs, past)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
}

/// Prints its number when a check fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failing input: run again with WIREMESH_MUTATION={}", self.0);
        }
    }
}

fn corpus_greeting(random: &mut Random) -> Vec<u8> {
    let mechanism = random.pick(&[b"NULL\0", b"PLAIN", b"CURVE", b"null\0"]);
    let mut name = [0; 20];
    name[..5].copy_from_slice(mechanism);
    let mut octets = greeting::write(name).to_vec();
    match random.below(8) {
        0 => octets[11] = 0,
        1 => octets[10] = random.next() as u8,
        2 => octets[1..9].copy_from_slice(&random.next().to_be_bytes()),
        // Version 1.0 and 2.0, and two strangers.
        3 => octets = b"\x01\0\x02\0A".to_vec(),
        4 => octets = b"\xFF\0\0\0\0\0\0\0\x01\x7F\x01\x05\0\x03abc".to_vec(),
        5 => octets = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".to_vec(),
        6 => octets = b"\x16\x03\x01\x02\0\x01\0\x01\xFC\x03\x03".to_vec(),
        _ => {}
    }
    octets
}

fn corpus_command(random: &mut Random) -> Vec<u8> {
    let size = random.pick(&[0, 1, 10, 240, 246, 255, 256]);
    match random.below(9) {
        0 => handshake(random.pick(&SocketKind::ALL))[greeting::SIZE..].to_vec(),
        1 => command::ready(&random.octets(size)).to_vec(),
        2 => command::error("400").to_vec(),
        3 => ping(std::time::Duration::from_millis(random.below(7_000_000) as u64)).to_vec(),
        4 => b"\x04\x0A\x04PING\0\0LOL".to_vec(),
        5 => pong(&random.octets(random.clone().below(17))).to_vec(),
        6 => subscribe_command(&random.octets(size)).to_vec(),
        7 => cancel_command(&random.octets(size)).to_vec(),
        _ => b"\x04\x06\x04JOINA".to_vec(),
    }
}

/// Good traffic: messages with commands between them.
fn stream(random: &mut Random) -> Vec<u8> {
    let mut octets = Vec::new();
    for _ in 0..random.below(8) {
        if random.chance(25) {
            octets.extend(corpus_command(random).repeat(random.pick(&[1, 1, 1, 300])));
            continue;
        }
        if random.chance(10) {
            octets.extend_from_slice(&subscription(0, random.chance(50), b"topic"));
        }
        let frames = random.pick(&[1, 1, 1, 2, 3, 6]);
        for at in 0..frames {
            let size = random.pick(&[0, 1, 5, 8, 8, 17, 254, 255, 256, 300]);
            let size = if random.chance(1) { 70_000 } else { size };
            let more = u8::from(at + 1 < frames);
            match u8::try_from(size) {
                Ok(short) if random.chance(95) => octets.extend([more, short]),
                Ok(_) | Err(_) => {
                    octets.push(more | 2);
                    octets.extend((size as u64).to_be_bytes());
                }
            }
            octets.extend(std::iter::repeat_n(at as u8, size));
        }
    }
    octets
}

/// Damages octets in one to four places, or not at all.
fn mutate(octets: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.pick(&[0, 1, 1, 2, 4]) {
        if octets.is_empty() {
            octets.extend(random.octets(8));
        }
        // Early octets decide more.
        let reach = if random.chance(50) { octets.len().min(80) } else { octets.len() };
        let at = random.below(reach);
        match random.below(9) {
            0 => octets[at] ^= 1 << random.below(8),
            1 => octets[at] = random.next() as u8,
            2 => octets[at] = random.pick(&[0, 1, 2, 3, 4, 5, 6, 7, 0x7F, 0x80, 0xFE, 0xFF]),
            3 => octets.truncate(at),
            4 => {
                octets.remove(at);
            }
            5 => {
                let size = random.between(1, 8);
                octets.splice(at..at, random.octets(size));
            }
            6 => {
                let size = random.between(1, 20).min(octets.len() - at);
                let copy = octets[at..at + size].to_vec();
                octets.splice(at..at, copy);
            }
            7 => {
                let edge: u64 = random.pick(&[
                    0,
                    255,
                    256,
                    1 << 15,
                    1 << 16,
                    1 << 20,
                    1 << 30,
                    1 << 31,
                    1 << 32,
                    1 << 62,
                    1 << 63,
                    0,
                ]);
                let length = edge.wrapping_add(random.below(5) as u64).wrapping_sub(2);
                let header = [&[random.below(8) as u8 | 2][..], &length.to_be_bytes()].concat();
                if random.chance(50) {
                    octets.splice(at..at, header);
                } else {
                    octets.splice(at..(at + 9).min(octets.len()), header);
                }
            }
            _ => {
                let more = stream(random);
                octets.splice(at..at, more);
            }
        }
    }
}

/// The system's allocator, counting what each thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that is ending may free after its counters are gone.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every call goes to `System` with its arguments unchanged; counting touches nothing that is allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the promises that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the promises that `System` asks for, and the block came from it.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
