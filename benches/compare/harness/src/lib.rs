//! What every subject of the comparison shares, so that timing and checking are said once.
//!
//! A subject is a program that plays one *role* of one measurement: it opens its library's sockets as [`Job`] says and
//! hands closures that send or receive one message to the loops of [`play`]. The loops build every message from a
//! caller's buffer, check every message received by length and sequence number, and print the figures.
//!
//! The loops are async so that asynchronous libraries are not slowed by a blocking call per message; blocking libraries
//! pass closures that never wait and run the same loops under [`block_on`].
//!
//! Command line: `key=value` words, see [`Job`]. Standard output: one JSON object a line, see [`control`]. Standard
//! input: the driver's words `go` and, by closing it, `stop`.

pub mod check;
pub mod clock;
pub mod control;
pub mod distance;
pub mod executor;
pub mod job;
pub mod lanes;
pub mod play;
pub mod threads;
pub mod zmtp;

pub use check::Check;
pub use executor::block_on;
pub use job::{About, Job, Role};

/// Why a measurement failed, in words for the report.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What every step of a measurement returns.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Reads the command line, plays the role it names and reports a failure in the driver's form.
///
/// The word `role=distance` alone asks every subject how far apart the cores are; it is no role of a measurement.
///
/// `about` is asked when the role is `about`: the driver prints the versions and settings found there.
pub fn main(about: impl FnOnce() -> About, run: impl FnOnce(&Job) -> Outcome) -> std::process::ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words == ["role=distance"] {
        return match distance::round_trip_nanos() {
            Some(nanos) => {
                control::distance(nanos);
                std::process::ExitCode::SUCCESS
            }
            None => {
                control::failed("there is one core only");
                std::process::ExitCode::FAILURE
            }
        };
    }
    let outcome = Job::from_args(words.into_iter()).and_then(|job| match job.role {
        Role::About => {
            control::about(&about());
            Ok(())
        }
        _ => {
            control::listen();
            run(&job)
        }
    });
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(why) => {
            control::failed(&why.to_string());
            std::process::ExitCode::FAILURE
        }
    }
}

/// The failure of a subject that was asked for a role its library cannot play.
pub fn unsupported(job: &Job) -> Outcome {
    Err(format!("{:?} over {} is not supported by this library", job.role, job.transport).into())
}
