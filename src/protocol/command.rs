//! Command frames: how they are read and written, and the two forms in which a subscription travels.

use std::time::Duration;

use bytes::Bytes;

use super::error::{CommandName, ProtocolError};
use crate::message::wire;

/// A command as read off the wire. Slices share the memory of its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Ends a handshake; carries metadata.
    Ready(Bytes),
    /// Refuses the receiver, with a reason.
    Error(Bytes),
    /// Asks for a sign of life and announces how long silence may last at most.
    Ping {
        /// How long to wait for more before giving the sender up; zero is no promise.
        ttl: Duration,
        /// What to send back, 0 to 16 octets.
        context: Bytes,
    },
    /// Answers a PING.
    Pong,
    /// Asks a publisher for messages that start so.
    Subscribe(Bytes),
    /// Takes a subscription back.
    Cancel(Bytes),
    /// Any other; the name has letters only.
    Other(Bytes),
}

impl Command {
    /// Reads the body of a command frame.
    ///
    /// # Errors
    /// [`ProtocolError::MalformedCommand`].
    pub fn read(body: Bytes) -> Result<Command, ProtocolError> {
        let malformed = |command, fault| ProtocolError::MalformedCommand { command, fault };
        let Some((&size, rest)) = body.split_first() else {
            return Err(malformed(CommandName::Unknown, "it is empty"));
        };
        let Some((name, data)) = rest.split_at_checked(usize::from(size)) else {
            return Err(malformed(CommandName::Unknown, "its name is longer than itself"));
        };
        if name.is_empty() || !name.iter().all(u8::is_ascii_alphabetic) {
            return Err(malformed(CommandName::Unknown, "its name is not made of letters"));
        }
        match name {
            b"READY" => Ok(Command::Ready(body.slice_ref(data))),
            b"ERROR" => match data.split_first() {
                Some((&size, reason)) => match reason.get(..usize::from(size)) {
                    Some(reason) => Ok(Command::Error(body.slice_ref(reason))),
                    None => Err(malformed(CommandName::Error, "its reason is longer than itself")),
                },
                None => Err(malformed(CommandName::Error, "it has no reason")),
            },
            b"PING" => match *data {
                [high, low, ref context @ ..] => {
                    // What is longer than a context may be is cut, as libzmq does.
                    let context = context.get(..MAX_CONTEXT).unwrap_or(context);
                    let tenths = u64::from(u16::from_be_bytes([high, low]));
                    Ok(Command::Ping { ttl: Duration::from_millis(tenths * 100), context: body.slice_ref(context) })
                }
                _ => Err(malformed(CommandName::Ping, "it has no time to live")),
            },
            b"PONG" => Ok(Command::Pong),
            b"SUBSCRIBE" => Ok(Command::Subscribe(body.slice_ref(data))),
            b"CANCEL" => Ok(Command::Cancel(body.slice_ref(data))),
            _ => Ok(Command::Other(body.slice_ref(name))),
        }
    }
}

/// The READY frame with this metadata.
pub fn ready(metadata: &[u8]) -> Bytes {
    frame(wire::COMMAND, &[b"\x05READY", metadata])
}

/// The ERROR frame with this reason, cut to the 255 octets it may have.
pub fn error(reason: &str) -> Bytes {
    let cut = (0..=reason.len().min(255)).rev().find(|&cut| reason.is_char_boundary(cut)).unwrap_or(0);
    let reason = reason.as_bytes().get(..cut).unwrap_or_default();
    let size = u8::try_from(cut).unwrap_or(0);
    frame(wire::COMMAND, &[b"\x05ERROR", &[size], reason])
}

/// The PING frame with this time to live, told in whole tenths of a second and at most 65,535 of them.
pub fn ping(ttl: Duration) -> Bytes {
    let tenths = u16::try_from(ttl.as_millis() / 100).unwrap_or(u16::MAX);
    frame(wire::COMMAND, &[b"\x04PING", &tenths.to_be_bytes()])
}

/// The PONG frame that answers a PING with this context.
pub fn pong(context: &[u8]) -> Bytes {
    frame(wire::COMMAND, &[b"\x04PONG", context])
}

/// The frame that asks a ZMTP 3.1 publisher for `topic`.
pub fn subscribe_command(topic: &[u8]) -> Bytes {
    frame(wire::COMMAND, &[b"\x09SUBSCRIBE", topic])
}

/// The frame that takes a subscription back from a ZMTP 3.1 publisher.
pub fn cancel_command(topic: &[u8]) -> Bytes {
    frame(wire::COMMAND, &[b"\x06CANCEL", topic])
}

/// The frame that subscribes to `topic` (or cancels it) at a peer that speaks ZMTP 3.`minor`: a command from 3.1 on, a
/// message of one octet and the topic before that. Topics too long for a command travel as messages too, which every
/// publisher accepts.
pub fn subscription(minor: u8, subscribe: bool, topic: &[u8]) -> Bytes {
    match (told_in_message(minor, topic), subscribe) {
        (None, true) => subscribe_command(topic),
        (None, false) => cancel_command(topic),
        (Some(_), _) => frame(0, &[&[u8::from(subscribe)], topic]),
    }
}

/// The octets of the message that tells a peer which speaks ZMTP 3.`minor` of a topic, and that counts against its
/// limit on messages; `None` if a command does.
pub fn told_in_message(minor: u8, topic: &[u8]) -> Option<usize> {
    (minor < 1 || topic.len() > MAX_TOPIC).then_some(1 + topic.len())
}

/// The octets of what tells a peer that speaks ZMTP 3.`minor` of a topic, without the header of its frame.
pub fn subscription_octets(minor: u8, topic: &[u8]) -> usize {
    told_in_message(minor, topic).unwrap_or(b"\x09SUBSCRIBE".len() + topic.len())
}

fn frame(flags: u8, parts: &[&[u8]]) -> Bytes {
    let body = parts.iter().map(|part| part.len()).sum();
    let (head, size) = wire::header(flags, body);
    let mut octets = Vec::with_capacity(size + body);
    octets.extend_from_slice(head.get(..size).unwrap_or_default());
    parts.iter().for_each(|part| octets.extend_from_slice(part));
    octets.into()
}

/// A PING's context has at most this many octets (RFC 37).
const MAX_CONTEXT: usize = 16;

/// The longest topic that is sent, and taken, inside a command. A command has to be whole before it can be understood,
/// so this is memory any peer can make us hold.
pub const MAX_TOPIC: usize = 1 << 20;

/// The longest command body taken after the handshake: SUBSCRIBE with the longest topic.
pub const MAX_COMMAND: usize = 10 + MAX_TOPIC;

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes the header off a frame that must be whole.
    fn body(frame: &Bytes) -> Bytes {
        let header = wire::Header::read(frame).expect("a header");
        assert_eq!(header.body, (frame.len() - header.size) as u64);
        assert_eq!(header.flags & wire::LONG != 0, header.body > 255);
        frame.slice(header.size..)
    }

    #[test]
    fn commands_are_the_test_vectors() {
        assert_eq!(subscribe_command(b"A").as_ref(), b"\x04\x0B\x09SUBSCRIBEA");
        assert_eq!(cancel_command(b"A").as_ref(), b"\x04\x08\x06CANCELA");
        assert_eq!(ping(Duration::ZERO).as_ref(), b"\x04\x07\x04PING\0\0");
        assert_eq!(pong(b"LOL").as_ref(), b"\x04\x08\x04PONGLOL");
        assert_eq!(error("400").as_ref(), b"\x04\x0A\x05ERROR\x03400");
        assert_eq!(
            ready(b"\x0BSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x01X").as_ref(),
            b"\x04\x2A\x05READY\x0BSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x01X"
        );
    }

    #[test]
    fn commands_read_back() {
        let read = |frame: Bytes| Command::read(body(&frame)).expect("well formed");
        assert_eq!(read(ready(b"meta")), Command::Ready("meta".into()));
        assert_eq!(read(error("400")), Command::Error("400".into()));
        assert_eq!(read(error("")), Command::Error(Bytes::new()));
        assert_eq!(read(pong(b"")), Command::Pong);
        assert_eq!(read(subscribe_command(b"")), Command::Subscribe(Bytes::new()));
        assert_eq!(read(cancel_command(b"topic")), Command::Cancel("topic".into()));
        let lol = Command::Ping { ttl: Duration::ZERO, context: "LOL".into() };
        assert_eq!(read(Bytes::from_static(b"\x04\x0A\x04PING\0\0LOL")), lol);
        assert_eq!(read(Bytes::from_static(b"\x04\x06\x04JOINA")), Command::Other("JOIN".into()));
    }

    #[test]
    fn every_time_to_live_is_read_in_full() {
        for tenths in 0..=u16::MAX {
            let [high, low] = tenths.to_be_bytes();
            let ttl = Duration::from_millis(u64::from(tenths) * 100);
            let body = Bytes::copy_from_slice(&[4, b'P', b'I', b'N', b'G', high, low]);
            assert_eq!(Command::read(body), Ok(Command::Ping { ttl, context: Bytes::new() }));
            assert_eq!(&ping(ttl)[7..], [high, low]);
        }
        assert_eq!(&ping(Duration::MAX)[7..], [0xFF, 0xFF]);
        assert_eq!(&ping(Duration::from_millis(1999))[7..], [0, 19]);
    }

    #[test]
    fn a_ping_has_seven_octets_or_more_of_which_23_count() {
        for size in 5..=40 {
            let mut body = b"\x04PING".to_vec();
            body.resize(size, 0xCC);
            match Command::read(body.into()) {
                Ok(Command::Ping { context, .. }) => {
                    assert!(size >= 7);
                    assert_eq!(context, vec![0xCC; (size - 7).min(16)]);
                }
                Ok(other) => panic!("{other:?}"),
                Err(fault) => {
                    assert!(size < 7);
                    assert!(matches!(fault, ProtocolError::MalformedCommand { command: CommandName::Ping, .. }));
                }
            }
        }
    }

    #[test]
    fn malformed_commands_are_refused() {
        let bad: [&[u8]; 9] =
            [b"", b"\0", b"\0READY", b"\x01", b"\x06READY", b"\xFFPING", b"\x05PI NG", b"\x04PIN\0", b"\x05ERROR"];
        for body in bad {
            let fault = Command::read(Bytes::copy_from_slice(body)).expect_err("malformed");
            assert!(matches!(fault, ProtocolError::MalformedCommand { .. }), "{body:?}: {fault}");
        }
        assert!(Command::read(Bytes::from_static(b"\x05ERROR\x04400")).is_err());
    }

    #[test]
    fn both_forms_of_a_subscription_set_long_by_the_whole_body() {
        for size in 0..=600 {
            let topic = vec![b't'; size];
            for subscribe in [true, false] {
                let old = body(&subscription(0, subscribe, &topic));
                assert_eq!(old.split_first(), Some((&u8::from(subscribe), topic.as_slice())));
                let new = Command::read(body(&subscription(1, subscribe, &topic))).expect("well formed");
                let topic = Bytes::from(topic.clone());
                assert_eq!(new, if subscribe { Command::Subscribe(topic) } else { Command::Cancel(topic) });
            }
        }
        assert_eq!(subscription(0, true, b"A").as_ref(), b"\0\x02\x01A");
        assert_eq!(subscription(0, false, b"A").as_ref(), b"\0\x02\0A");
    }

    #[test]
    fn a_topic_too_long_for_a_command_travels_as_a_message() {
        let longest = subscription(1, true, &vec![b't'; MAX_TOPIC]);
        assert_eq!((longest[0], body(&longest).len()), (wire::COMMAND | wire::LONG, MAX_COMMAND));
        let longer = subscription(1, true, &vec![b't'; MAX_TOPIC + 1]);
        assert_eq!((longer[0], body(&longer).len()), (wire::LONG, MAX_TOPIC + 2));
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let reason = "é".repeat(200);
        match Command::read(body(&error(&reason))) {
            Ok(Command::Error(cut)) => assert_eq!(cut, "é".repeat(127)),
            other => panic!("{other:?}"),
        }
    }
}
