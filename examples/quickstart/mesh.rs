//! Part 1: publishers and subscribers, every one connected with every other, over all three transports.
//!
//! A publisher is bound to tcp, ipc and inproc at once. Subscribers connect to all publishers, each over one transport,
//! and a thread inside each publisher's process listens over inproc. Topics are prefixes: `eu.` hears `eu.weather` too.

use crate::cast::Cast;
use crate::figures::{agree, grouped, rate};
use crate::role::{Role, number, text};
use crate::{Outcome, Size};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use wiremesh::{Message, Pub, Sub};

const PUBLISHERS: usize = 3;
const TOPICS: [&str; 4] = ["eu.weather", "eu.traffic", "us.weather", "us.traffic"];
/// What the subscriber processes want; the empty prefix is everything.
const WANTED: [&str; 3] = ["eu.", "us.weather", ""];
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn conduct(cast: &mut Cast, size: &Size) -> Outcome<usize> {
    let publishers = (0..PUBLISHERS)
        .map(|number| cast.start("publisher", number, [WANTED.len().to_string(), size.news.to_string()]))
        .collect::<Outcome<Vec<_>>>()?;
    // One list of endpoints for each transport.
    let mut endpoints = [const { Vec::new() }; 2];
    for publisher in &publishers {
        let bound = cast.hear(publisher, "bound")?;
        for (list, endpoint) in endpoints.iter_mut().zip(bound.iter()) {
            list.push(text(Some(endpoint))?.to_owned());
        }
    }
    let mut subscribers = Vec::new();
    for (number, wanted) in WANTED.into_iter().enumerate() {
        let over = &endpoints[number % endpoints.len()];
        let arguments = std::iter::once(wanted).chain(over.iter().map(String::as_str));
        subscribers.push((cast.start("subscriber", number, arguments)?, wanted));
    }

    let mut agreed = 0;
    for (subscriber, wanted) in subscribers {
        let what = format!("{subscriber} heard of {}", if wanted.is_empty() { "everything" } else { wanted });
        agreed += compare(&what, &cast.hear(&subscriber, "heard")?, PUBLISHERS as u64 * published(size.news, wanted))?;
    }
    for publisher in publishers {
        let what = format!("inside {publisher} was heard");
        agreed += compare(&what, &cast.hear(&publisher, "heard")?, published(size.news, ""))?;
    }
    cast.dismiss()?;
    cast.leave_stage()?;
    Ok(agreed)
}

fn compare(what: &str, report: &Message, counted: u64) -> Outcome<usize> {
    let mut frames = report.iter();
    let messages: u64 = number(frames.next())?;
    let took = Duration::from_nanos(number(frames.next())?);
    println!("   {what}: {} in {took:.0?}, {}", grouped(messages), rate(messages, took, "messages"));
    agree("      messages", messages, counted)
}

/// The topic of the message with that number.
fn topic(number: u64) -> &'static str {
    TOPICS[(number % TOPICS.len() as u64) as usize]
}

/// How many of a publisher's messages have a topic that begins so.
fn published(messages: u64, prefix: &str) -> u64 {
    (0..messages).filter(|number| topic(*number).starts_with(prefix)).count() as u64
}

/// The role of a publisher: all its messages, then a last one on every topic.
pub(crate) fn publish(role: &mut Role) -> Outcome {
    let (subscribers, messages) = (role.number()?, role.number()?);
    // Rather wait for a slow subscriber than drop what it missed: the totals are to agree.
    let publisher = Pub::builder().context(&role.context).nodrop(true).build()?;
    let endpoints = role.bind(&publisher, "news")?;
    publisher.bind("inproc://news")?;

    let inside = Sub::in_context(&role.context);
    inside.subscribe("")?;
    inside.connect("inproc://news")?;
    let listener = std::thread::spawn(move || listen(&inside, TOPICS.len()));

    role.report("bound", endpoints.iter().map(|endpoint| endpoint.as_str()))?;
    publisher.wait_for_subscribers(usize::try_from(subscribers)? + 1, PATIENCE)?;
    for number in 0..messages {
        publisher.send([topic(number), &role.name, &number.to_string()])?;
    }
    for topic in TOPICS {
        publisher.send([topic, &role.name, "end"])?;
    }

    let heard = listener.join().map_err(|_| "the listener inside panicked")??;
    role.report("heard", heard)?;
    role.wait_for_the_end()
}

/// The role of a subscriber.
pub(crate) fn subscribe(role: &mut Role) -> Outcome {
    let wanted = role.text()?;
    let subscriber = Sub::in_context(&role.context);
    subscriber.subscribe(&wanted)?;
    let publishers = role.rest();
    for publisher in &publishers {
        subscriber.connect(publisher.to_str().ok_or("an endpoint is text")?)?;
    }
    let topics = TOPICS.iter().filter(|topic| topic.starts_with(&wanted)).count();
    role.report("heard", listen(&subscriber, topics * publishers.len())?)?;
    role.wait_for_the_end()
}

/// Listens until that many topics have ended; the number of messages, and the nanoseconds from the first to the last.
/// On each topic a publisher's messages have to come in order, with none missing.
fn listen(subscriber: &Sub, topics: usize) -> Outcome<[String; 2]> {
    // What number comes next, by publisher and topic.
    let mut expected: HashMap<Vec<u8>, [u64; TOPICS.len()]> = HashMap::new();
    let (mut messages, mut ended, mut start) = (0_u64, 0, None);
    while ended < topics {
        let news = subscriber.recv_timeout(PATIENCE)?;
        start.get_or_insert_with(Instant::now);
        let mut frames = news.iter();
        let (topic, publisher, serial) = (frames.next(), frames.next(), frames.next());
        if serial == Some(b"end") {
            ended += 1;
            continue;
        }
        let serial: u64 = number(serial)?;
        let topic = TOPICS.iter().position(|known| topic == Some(known.as_bytes())).ok_or("news of no topic")?;
        let publisher = publisher.unwrap_or_default();
        if !expected.contains_key(publisher) {
            expected.insert(publisher.to_vec(), [0, 1, 2, 3]);
        }
        if let Some(next) = expected.get_mut(publisher).map(|next| &mut next[topic]) {
            if serial != *next {
                return Err(format!("number {serial} came where {next} was due").into());
            }
            *next += TOPICS.len() as u64;
        }
        messages += 1;
    }
    let took = start.map_or(Duration::ZERO, |start| start.elapsed());
    Ok([messages.to_string(), took.as_nanos().to_string()])
}
