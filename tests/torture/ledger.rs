//! What each life of a socket sent and received, as it comes from the threads and, as text, from other processes.

use crate::message::Id;
use crate::plan::Plan;
use crate::text::record;
use wiremesh::Stats;

/// A message that `send` accepted; its number is its place in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) octets: u32,
    pub(crate) topic: u32,
    /// The socket it was for, of a ROUTER.
    pub(crate) to: Option<u32>,
    /// It was sent when all had settled.
    pub(crate) late: bool,
}

record! {
    /// The counters of a socket's life when all is over.
    Counts "counts" {
        accepted: u64,
        written: u64,
        queued: u64,
        high_water_mark: u64,
        disconnect: u64,
        unroutable: u64,
        linger: u64,
        conflate: u64,
        limit: u64,
        /// Of all reasons, those that are not named above included.
        dropped: u64,
        received: u64,
        unread: u64,
        discarded: u64,
    }
}

impl Counts {
    pub(crate) fn of(stats: &Stats) -> Counts {
        Counts {
            accepted: stats.accepted,
            written: stats.written,
            queued: stats.queued,
            high_water_mark: stats.dropped.high_water_mark,
            disconnect: stats.dropped.disconnect,
            unroutable: stats.dropped.unroutable,
            linger: stats.dropped.linger,
            conflate: stats.dropped.conflate,
            limit: stats.dropped.limit,
            dropped: stats.dropped.total(),
            received: stats.received,
            unread: stats.unread,
            discarded: stats.discarded,
        }
    }
}

/// What one life of a socket did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// As [`message::sender`](crate::message::sender) names it.
    pub(crate) name: u32,
    /// By stream.
    pub(crate) sent: Vec<Vec<Sent>>,
    /// By receiving thread, in the order of arrival.
    pub(crate) got: Vec<Vec<Id>>,
    /// What was wrong on the spot: damaged messages, answers to other questions.
    pub(crate) wrong: Vec<String>,
    pub(crate) counts: Counts,
}

impl Life {
    pub(crate) fn socket(&self) -> usize {
        crate::message::socket_of(self.name)
    }

    fn lines(&self, text: &mut String) {
        *text += &format!("life {}\n{}\n", self.name, self.counts.line());
        for stream in &self.sent {
            text.push_str("sent");
            for sent in stream {
                let to = sent.to.map_or(u32::MAX, |to| to);
                *text += &format!(" {}:{}:{to}:{}", sent.octets, sent.topic, u8::from(sent.late));
            }
            text.push('\n');
        }
        for thread in &self.got {
            text.push_str("got");
            for id in thread {
                *text += &format!(" {}:{}:{}", id.sender, id.stream, id.seq);
            }
            text.push('\n');
        }
        for wrong in &self.wrong {
            *text += &format!("wrong {}\n", wrong.replace('\n', " "));
        }
    }
}

pub(crate) fn write(lives: &[Life]) -> String {
    let mut text = String::new();
    lives.iter().for_each(|life| life.lines(&mut text));
    text
}

/// Reads what `write` wrote.
pub(crate) fn read(text: &str) -> Result<Vec<Life>, String> {
    let mut lives: Vec<Life> = Vec::new();
    for line in text.lines() {
        let (label, rest) = line.split_once(' ').unwrap_or((line, ""));
        if label == "life" {
            let name = rest.parse().map_err(|_| format!("`{rest}` is no life"))?;
            let counts = Counts::of(&Stats::default());
            lives.push(Life { name, sent: Vec::new(), got: Vec::new(), wrong: Vec::new(), counts });
            continue;
        }
        let life = lives.last_mut().ok_or("a line before the first life")?;
        let words = rest.split(' ').filter(|word| !word.is_empty()).map(|word| {
            word.split(':')
                .map(|number| number.parse::<u64>().map_err(|_| format!("`{word}`")))
                .collect::<Result<Vec<_>, _>>()
        });
        match label {
            "counts" => life.counts = Counts::parse(rest)?,
            "wrong" => life.wrong.push(rest.to_owned()),
            "sent" => {
                let sent = |fields: Vec<u64>| Sent {
                    octets: fields[0] as u32,
                    topic: fields[1] as u32,
                    to: (fields[2] != u64::from(u32::MAX)).then_some(fields[2] as u32),
                    late: fields[3] != 0,
                };
                life.sent.push(words.map(|fields| fields.map(sent)).collect::<Result<_, _>>()?);
            }
            "got" => {
                let id = |fields: Vec<u64>| Id { sender: fields[0] as u32, stream: fields[1] as u32, seq: fields[2] };
                life.got.push(words.map(|fields| fields.map(id)).collect::<Result<_, _>>()?);
            }
            other => return Err(format!("`{other}` is no line of a ledger")),
        }
    }
    Ok(lives)
}

/// The topics a subscriber always has.
pub(crate) fn topics_of(socket: usize) -> Vec<String> {
    match socket % 3 {
        0 => vec![String::new()],
        _ => vec![topic(0), topic(1 + socket as u32 % 4)],
    }
}

pub(crate) fn topic(number: u32) -> String {
    format!("t{number}.")
}

/// The topics publishers send on are 0 to this.
pub(crate) const TOPICS: u32 = 6;
/// The topic that a subscriber of thousands has as its last one.
pub(crate) const LAST_TOPIC: u32 = 8;

/// Whether that subscriber has that topic from its beginning on.
pub(crate) fn has_topic(socket: usize, number: u32) -> bool {
    topics_of(socket).iter().any(|prefix| topic(number).starts_with(prefix.as_str()))
}

/// Whether a plan has that subscriber subscribe to thousands of topics, of which the last one is [`LAST_TOPIC`].
pub(crate) fn subscribes_later(plan: &Plan, socket: usize) -> bool {
    plan.is_done_to(&[crate::plan::Act::Subscribe], |step| step.socket == socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let sent = Sent { octets: 7, topic: 3, to: None, late: false };
        let counts = Counts { accepted: 3, written: 2, dropped: 1, limit: 1, ..Counts::of(&Stats::default()) };
        let life = Life {
            name: 2001,
            sent: vec![vec![sent, Sent { to: Some(4), late: true, ..sent }], Vec::new()],
            got: vec![vec![Id { sender: 1000, stream: 1, seq: 9 }]],
            wrong: vec!["this and that".to_owned()],
            counts,
        };
        let lives = vec![life.clone(), Life { name: 5000, got: Vec::new(), ..life }];
        assert_eq!(read(&write(&lives)), Ok(lives));
    }
}
