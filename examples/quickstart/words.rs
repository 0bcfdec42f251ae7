//! Part 3: a pipeline counts the words of real text files.
//!
//! A ventilator cuts the texts into pieces and pushes them to counter processes, which pass them on to threads of
//! theirs over inproc; each thread pushes what it counted to the sink. The sink's table has to be the one counted in
//! one go.

use crate::Outcome;
use crate::cast::Cast;
use crate::figures::{agree, grouped, listed, rate};
use crate::role::{Role, number, text};
use crate::texts::{self, Words};
use std::ffi::OsString;
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Context, Pull, Push};

const COUNTERS: usize = 3;
const THREADS: usize = 2;
/// Octets of text in a piece.
const PIECE: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn conduct(cast: &mut Cast, paths: &[OsString]) -> Outcome<usize> {
    let sink = cast.start("sink", 0, [""; 0])?;
    let sinks = cast.hear(&sink, "bound")?;
    let ventilator = cast.start("ventilator", 0, [&COUNTERS.to_string(), text(sinks.frame(0))?])?;
    let ventilators = cast.hear(&ventilator, "bound")?;
    // Read once: a file that changes meanwhile would not be counted alike.
    let texts = texts::gather(paths)?;
    for text in &texts {
        cast.tell(&ventilator, text)?;
    }
    cast.tell(&ventilator, ["that", "is", "all"])?;
    let mut counters = Vec::new();
    for number in 0..COUNTERS {
        // In by one transport, out by the other.
        let (from, to) = (ventilators.frame(number % 2), sinks.frame((number + 1) % 2));
        counters.push(cast.start("counter", number, [text(from)?, text(to)?])?);
    }

    let table = cast.hear(&sink, "counted")?;
    let (pieces, took) = (number(table.frame(0))?, Duration::from_nanos(number(table.frame(1))?));
    let exchanged = table_from_bytes(table.frame(2).unwrap_or_default())?;
    cast.dismiss()?;
    for counter in &counters {
        println!("   the threads of {counter} counted {} pieces", listed(&cast.hear(counter, "counted")?));
    }
    cast.leave_stage()?;

    let mut counted = Words::new();
    texts.iter().for_each(|text| texts::count(text, &mut counted));
    let total = counted.values().sum();
    println!(
        "   {} files of {} octets in {} pieces took {took:.0?}, {}, {}",
        grouped(texts.len() as u64),
        grouped(texts.iter().map(|text| text.len() as u64).sum()),
        grouped(pieces),
        rate(pieces, took, "pieces"),
        rate(total, took, "words")
    );
    let mut often: Vec<_> = exchanged.iter().filter(|(word, _)| word.len() > 3).collect();
    often.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
    let often = often.iter().take(5).map(|(word, times)| format!("{} {times}", String::from_utf8_lossy(word)));
    println!("   the commonest words of four letters and more: {}", often.collect::<Vec<_>>().join(", "));
    let agreed = agree("words", exchanged.values().sum(), total)?
        + agree("different words", exchanged.len() as u64, counted.len() as u64)?;
    match exchanged == counted {
        true => Ok(agreed),
        false => Err("the totals agree, but the tables of words do not".into()),
    }
}

/// The role of the ventilator: hears the texts, pushes pieces of them to the counters, and tells the sink how many
/// there are.
pub(crate) fn ventilate(role: &mut Role) -> Outcome {
    let (counters, sink) = (role.number()?, role.text()?);
    let (ventilator, to_sink) = (Push::in_context(&role.context), Push::in_context(&role.context));
    let endpoints = role.bind(&ventilator, "texts")?;
    role.report("bound", endpoints.iter().map(|endpoint| endpoint.as_str()))?;
    let mut texts = Vec::new();
    loop {
        match role.hear()? {
            text if text.len() == 1 => texts.push(text),
            _ => break,
        }
    }
    to_sink.connect(sink)?;
    // Else the first counter would get all that fits its queue before the others are there.
    ventilator.wait_for_peers(usize::try_from(counters)?, PATIENCE)?;
    to_sink.send("start")?;
    let sent = ventilator.send_many(texts.iter().flat_map(|text| texts::pieces(text.first(), PIECE)))?;
    to_sink.send(["end", &sent.to_string()])?;
    role.wait_for_the_end()
}

/// The role of a counter: hands pieces to its threads until the part is over.
pub(crate) fn count(role: &mut Role) -> Outcome {
    let (ventilator, sink) = (role.text()?, role.text()?);
    let (pieces, to_threads) = (Pull::in_context(&role.context), Push::in_context(&role.context));
    let to_sink = Push::in_context(&role.context);
    to_threads.bind("inproc://pieces")?;
    to_sink.connect(sink)?;
    let counted = thread::scope(|threads| -> Outcome<Vec<String>> {
        let hands = [(); THREADS].map(|()| threads.spawn(|| count_pieces(&role.context, &to_sink)));
        threads.spawn(|| to_threads.send_many(pieces.iter().map_while(Result::ok)));
        // Whatever happens, the threads are let go.
        let over = to_threads.wait_for_peers(THREADS, PATIENCE).map_err(Into::into).and_then(|()| {
            pieces.connect(ventilator)?;
            role.wait_for_the_end()
        });
        role.context.shutdown();
        over?;
        hands.into_iter().map(|hand| Ok(hand.join().map_err(|_| "a thread panicked")??.to_string())).collect()
    })?;
    role.report("counted", counted)
}

/// One thread of a counter. All of them share the socket to the sink.
fn count_pieces(context: &Context, to_sink: &Push) -> Outcome<u64> {
    let pieces = Pull::in_context(context);
    pieces.connect("inproc://pieces")?;
    let mut done = 0;
    for piece in &pieces {
        let mut counted = Words::new();
        texts::count(piece?.first(), &mut counted);
        to_sink.send([b"piece", &table_to_bytes(&counted)[..]])?;
        done += 1;
    }
    Ok(done)
}

/// The role of the sink: adds up what comes until all pieces are in.
pub(crate) fn collect(role: &mut Role) -> Outcome {
    let sink = Pull::in_context(&role.context);
    let endpoints = role.bind(&sink, "sink")?;
    role.report("bound", endpoints.iter().map(|endpoint| endpoint.as_str()))?;
    let (mut counted, mut pieces, mut expected, mut start) = (Words::new(), 0_u64, None, None);
    while expected.is_none_or(|expected| pieces < expected) {
        let message = sink.recv_timeout(PATIENCE)?;
        match message.first() {
            b"start" => start = Some(Instant::now()),
            b"end" => expected = Some(number(message.frame(1))?),
            b"piece" => {
                pieces += 1;
                for (word, times) in table_from_bytes(message.frame(1).unwrap_or_default())? {
                    *counted.entry(word).or_default() += times;
                }
            }
            other => return Err(format!("the sink has no use for {other:?}").into()),
        }
    }
    let took = start.map_or(Duration::ZERO, |start: Instant| start.elapsed());
    let figures = [pieces.to_string(), took.as_nanos().to_string()].map(String::into_bytes);
    role.report("counted", figures.into_iter().chain([table_to_bytes(&counted)]))?;
    role.wait_for_the_end()
}

/// A table as lines of a word and a number.
fn table_to_bytes(words: &Words) -> Vec<u8> {
    words.iter().flat_map(|(word, times)| [&word[..], format!(" {times}\n").as_bytes()].concat()).collect()
}

fn table_from_bytes(octets: &[u8]) -> Outcome<Words> {
    let lines = octets.split(|octet| *octet == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let mut columns = line.split(|octet| *octet == b' ');
            let word = columns.next().unwrap_or_default().to_vec();
            Ok((word, number(columns.next())?))
        })
        .collect()
}
