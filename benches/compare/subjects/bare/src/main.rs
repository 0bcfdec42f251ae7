//! The bare socket: blocking loops over `std::net` and Unix sockets, no framing.
//!
//! Throughput: one write per payload above 64 KiB, else writes of 64 KiB; the reader reuses one buffer of 1 MiB. Round
//! trip: blocking ping-pong. Paced: one write per message. It also plays the idle connections of the memory
//! measurement.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use harness::check::{self, Check};
use harness::clock::Mark;
use harness::control::{self, Figures};
use harness::{About, Job, Outcome, Role, block_on, play};

const SMALL_WRITE: usize = 64 * 1024;
const READ_BUFFER: usize = 1024 * 1024;

fn main() -> std::process::ExitCode {
    harness::main(about, run)
}

fn about() -> About {
    About {
        version: "std".into(),
        settings: "blocking calls, TCP_NODELAY, 64 KiB writes below 64 KiB payloads, one 1 MiB read buffer".into(),
    }
}

fn run(job: &Job) -> Outcome {
    match job.role {
        Role::Pull => read_all(job),
        Role::Push => write_all(job),
        Role::Rep => answer(job),
        Role::Req => ask(job),
        Role::IdleClients => harness::zmtp::idle_clients(job),
        _ => harness::unsupported(job),
    }
}

/// A stream of either transport.
trait Link: Read + Write {}
impl<T: Read + Write> Link for T {}

fn accept(job: &Job) -> Outcome<Box<dyn Link>> {
    if let Some(address) = job.endpoint.strip_prefix("tcp://") {
        let listener = TcpListener::bind(address)?;
        control::bound();
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        return Ok(Box::new(stream));
    }
    let path = job.endpoint.strip_prefix("ipc://").ok_or("the bare socket knows tcp and ipc")?;
    let listener = UnixListener::bind(path)?;
    control::bound();
    Ok(Box::new(listener.accept()?.0))
}

fn connect(job: &Job) -> Outcome<Box<dyn Link>> {
    if let Some(address) = job.endpoint.strip_prefix("tcp://") {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        return Ok(Box::new(stream));
    }
    let path = job.endpoint.strip_prefix("ipc://").ok_or("the bare socket knows tcp and ipc")?;
    Ok(Box::new(UnixStream::connect(path)?))
}

/// Reads `count * bytes` bytes.
fn read_all(job: &Job) -> Outcome {
    let mut link = accept(job)?;
    let total = job.count * job.bytes as u64;
    let mut buffer = vec![0; READ_BUFFER];
    let mut read = link.read(&mut buffer)? as u64;
    let started = Mark::now();
    while read < total {
        match link.read(&mut buffer)? {
            0 => return Err(format!("the stream ended after {read} of {total} bytes").into()),
            more => read += more as u64,
        }
    }
    let finished = Mark::now();
    let (seconds, cpu) = (started.seconds_to(&finished), started.cpu_to(&finished));
    control::result(&Figures { messages: job.count, seconds, cpu, ..Figures::default() });
    block_on(control::stop());
    Ok(())
}

/// Writes `count * bytes` bytes.
fn write_all(job: &Job) -> Outcome {
    let mut link = connect(job)?;
    let start = Mark::now();
    if job.rate > 0 || job.bytes > SMALL_WRITE {
        block_on(play::stream(job, 0, job.count, async |body| Ok(link.write_all(body)?)))?;
    } else {
        let buffer = vec![0x55; SMALL_WRITE];
        let mut left = job.count * job.bytes as u64;
        while left > 0 {
            let now = left.min(SMALL_WRITE as u64);
            link.write_all(&buffer[..usize::try_from(now)?])?;
            left -= now;
        }
    }
    block_on(play::report_sender(job, &start))
}

fn answer(job: &Job) -> Outcome {
    let mut link: Option<Box<dyn Link>> = None;
    let mut buffer = vec![0; job.bytes];
    // The listener announces itself, so that `play::rep` must not: it would come before anybody may connect.
    let mut check = Check::new(job, 1, check::Order::Complete, job.warmup + job.count);
    job.core.into_iter().for_each(harness::clock::stay_on);
    let start = Mark::now();
    while !check.complete() {
        let link = match &mut link {
            Some(link) => link,
            None => link.insert(accept(job)?),
        };
        link.read_exact(&mut buffer)?;
        check.message(&buffer)?;
        link.write_all(&buffer)?;
    }
    block_on(play::report_sender(job, &start))
}

fn ask(job: &Job) -> Outcome {
    let mut link = connect(job)?;
    let mut buffer = vec![0; job.bytes];
    block_on(play::req(job, async |body, check| {
        link.write_all(body)?;
        link.read_exact(&mut buffer)?;
        check.message(&buffer)
    }))
}
