//! What the messages of the torture test carry: who sent them, their place in the sender's stream, and a checksum, so
//! that loss, duplication, reordering and corruption can be told apart.
//!
//! The first frame is `topic header inline-body`; the topic is empty or `t…​.`. Each further frame is a stretch of a
//! known pattern that begins where the checksum and the frame's number say, so that every octet and every frame
//! boundary is checked.

use bytes::Bytes;
use std::sync::LazyLock;
use wiremesh::Message;

/// One message of the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    /// A life of a socket: [`sender`].
    pub(crate) sender: u32,
    /// One thread that sends: order is promised within it.
    pub(crate) stream: u32,
    /// Counted from 0 in each stream.
    pub(crate) seq: u64,
}

/// The name of a socket's life as a sender.
pub(crate) fn sender(socket: usize, life: usize) -> u32 {
    (socket * 1000 + life) as u32
}

/// The socket of a sender.
pub(crate) fn socket_of(sender: u32) -> usize {
    sender as usize / 1000
}

const MAGIC: [u8; 4] = [0xc1, b'T', b'R', b'T'];
/// The octets of a header.
pub(crate) const HEADER: usize = 40;
/// No topic is longer, its full stop included.
pub(crate) const TOPIC: usize = 12;

/// Bodies are cut from this. Its period is a prime, so that no power of two lines up with it.
static PATTERN: LazyLock<&'static [u8]> = LazyLock::new(|| {
    let mut state = 1u64;
    let mut octets = Vec::with_capacity(PERIOD + LONGEST);
    for _ in 0..PERIOD {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        octets.push((state >> 56) as u8);
    }
    while octets.len() < PERIOD + LONGEST {
        let more = (PERIOD + LONGEST - octets.len()).min(PERIOD);
        octets.extend_from_within(..more);
    }
    octets.leak()
});
const PERIOD: usize = 65_521;
/// The longest frame.
pub(crate) const LONGEST: usize = 4 << 20;

fn stretch(check: u64, frame: usize, length: usize) -> &'static [u8] {
    let start = (check.wrapping_add(frame as u64 * 7919) % PERIOD as u64) as usize;
    &PATTERN[start..start + length]
}

fn checksum(id: Id, frames: u32, octets: u64) -> u64 {
    [id.sender.into(), id.stream.into(), id.seq, frames.into(), octets].into_iter().fold(
        0x9e37_79b9,
        |sum: u64, number| {
            let mixed = (sum ^ number).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^ mixed >> 29
        },
    )
}

/// The message with that id: `inline` octets behind the header, then frames of those lengths.
pub(crate) fn build(id: Id, topic: &[u8], inline: usize, frames: &[usize]) -> Message {
    let octets = (inline + frames.iter().sum::<usize>()) as u64;
    let check = checksum(id, frames.len() as u32, octets);
    let mut first = Vec::with_capacity(topic.len() + HEADER + inline);
    first.extend_from_slice(topic);
    first.extend_from_slice(&MAGIC);
    first.extend_from_slice(&id.sender.to_be_bytes());
    first.extend_from_slice(&id.stream.to_be_bytes());
    first.extend_from_slice(&id.seq.to_be_bytes());
    first.extend_from_slice(&(frames.len() as u32).to_be_bytes());
    first.extend_from_slice(&octets.to_be_bytes());
    first.extend_from_slice(&check.to_be_bytes());
    first.extend_from_slice(stretch(check, 0, inline));
    let mut message = Message::single(Bytes::from(first));
    for (number, length) in frames.iter().enumerate() {
        message.push_back(Bytes::from_static(stretch(check, number + 1, *length)));
    }
    message
}

/// The topic and the header at the front of a first frame.
fn header(first: &[u8]) -> Option<(&[u8], Id, u32, u64, u64)> {
    let topic = match first.first()? {
        b't' => first.iter().take(TOPIC).position(|octet| *octet == b'.')? + 1,
        _ => 0,
    };
    let header = first.get(topic..topic + HEADER)?;
    let number =
        |at: usize, length: usize| header[at..at + length].iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet));
    let id = Id { sender: number(4, 4) as u32, stream: number(8, 4) as u32, seq: number(12, 8) };
    (header[..4] == MAGIC).then(|| (&first[..topic], id, number(20, 4) as u32, number(24, 8), number(32, 8)))
}

/// The id in a first frame of which only the front is known.
pub(crate) fn id_of(front: &[u8]) -> Option<Id> {
    let (_, id, frames, octets, check) = header(front)?;
    (check == checksum(id, frames, octets)).then_some(id)
}

/// A received message after `skip` frames of an envelope: who it is and its topic, or what is wrong with it.
pub(crate) fn check(message: &Message, skip: usize) -> Result<(Id, Vec<u8>), String> {
    let frames: Vec<&[u8]> = message.iter().skip(skip).collect();
    let lengths = || frames.iter().map(|frame| frame.len()).take(20).collect::<Vec<_>>();
    let Some((topic, id, count, octets, check)) = frames.first().and_then(|first| header(first)) else {
        return Err(format!("no header in {} frames of {:?} octets", frames.len(), lengths()));
    };
    if check != checksum(id, count, octets) {
        return Err(format!("{id:?}: the header is damaged"));
    }
    let inline = &frames[0][topic.len() + HEADER..];
    let bodies = || std::iter::once(inline).chain(frames[1..].iter().copied());
    let total: usize = bodies().map(<[u8]>::len).sum();
    if frames.len() - 1 != count as usize || total as u64 != octets {
        let found = frames.len() - 1;
        return Err(format!("{id:?}: {total} octets in {found} frames {:?}, sent were {octets} in {count}", lengths()));
    }
    match bodies().enumerate().find(|(number, body)| *body != stretch(check, *number, body.len())) {
        Some((number, _)) => Err(format!("{id:?}: frame {number} has other octets than were sent")),
        None => Ok((id, topic.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Id = Id { sender: 3001, stream: 2, seq: 77 };

    #[test]
    fn what_is_built_is_read() {
        for (topic, inline, frames) in [(&b""[..], 0, &[][..]), (b"t12.", 5, &[0, 7, 0]), (b"t0.", 100_000, &[1; 1000])]
        {
            let message = build(ID, topic, inline, frames);
            assert_eq!(check(&message, 0), Ok((ID, topic.to_vec())));
            assert_eq!(id_of(&message.frame(0).expect("a frame")[..topic.len() + HEADER]), Some(ID));
        }
    }

    #[test]
    fn what_is_damaged_is_noticed() {
        let good: Vec<Vec<u8>> = build(ID, b"t1.", 9, &[5, 6]).iter().map(<[u8]>::to_vec).collect();
        let noticed = |frames: Vec<Vec<u8>>| check(&frames.into_iter().collect(), 0).is_err();
        for frame in 0..good.len() {
            for octet in 0..good[frame].len() {
                // Another topic is another message; the laws of topics look at it.
                if frame > 0 || octet > 2 {
                    let mut bad = good.clone();
                    bad[frame][octet] ^= 1;
                    assert!(noticed(bad), "octet {octet} of frame {frame}");
                }
            }
        }
        assert!(noticed(good[..2].to_vec()));
        assert!(noticed([good.clone(), vec![Vec::new()]].concat()));
        assert!(noticed(vec![good[0].clone(), good[1][..4].to_vec(), [&good[1][4..], &good[2]].concat()]));
    }
}
