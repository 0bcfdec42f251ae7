//! wiremesh with default options. `spin=` sets the option of that name, `threads=` shares one PUSH among that many
//! threads. With `mode=plain` a socket does not tell its peers that it is of this library, with `mode=libzmq` it has
//! the habits of that one.

mod many;

use harness::clock::Mark;
use harness::{About, Check, Job, Outcome, Role, block_on, control, play};
use wiremesh::{Builder, Face, Profile, Pub, Pull, Push, Rep, Req, Router};

fn main() -> std::process::ExitCode {
    harness::main(about, run)
}

fn about() -> About {
    About {
        version: version().into(),
        settings: "defaults, one engine thread; spin for req_rep_spin, nodrop for pub_fanout, a thread for each of many PULLs and SUBs, one for all DEALERs"
            .into(),
    }
}

/// The version in the library's manifest, which lies four folders above this crate's.
fn version() -> &'static str {
    let manifest = include_str!("../../../../../Cargo.toml");
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = "));
    line.map_or("unknown", |version| version.trim_matches('"'))
}

fn run(job: &Job) -> Outcome {
    match job.role {
        Role::Pull => {
            let socket = as_asked(job, Pull::builder())?;
            socket.bind(&job.endpoint)?;
            pull(job, &socket)
        }
        Role::Push => {
            let socket = as_asked(job, Push::builder())?;
            socket.connect(&job.endpoint)?;
            match job.threads {
                1 => block_on(play::push(job, async |body| Ok(socket.send(body)?))),
                _ => push_from_threads(job, &socket),
            }
        }
        Role::Both => {
            let (receiver, sender) = (Pull::new(), Push::new());
            receiver.bind(&job.endpoint)?;
            sender.connect(&job.endpoint)?;
            let their_job = job.clone();
            std::thread::spawn(move || {
                block_on(play::stream(&their_job, 0, their_job.count, async |body| Ok(sender.send(body)?)))
                    .unwrap_or_else(|why| control::failed(&why.to_string()));
                block_on(control::stop());
            });
            pull(job, &receiver)
        }
        Role::Rep => {
            let socket = as_asked(job, Rep::builder().spin(job.spin))?;
            socket.bind(&job.endpoint)?;
            block_on(play::rep(job, async |check| {
                let request = socket.recv()?;
                check.message(request.first())?;
                Ok(socket.send(request.first())?)
            }))
        }
        Role::Req => {
            let socket = as_asked(job, Req::builder().spin(job.spin))?;
            socket.connect(&job.endpoint)?;
            block_on(play::req(job, async |body, check| {
                socket.send(body)?;
                check.message(socket.recv()?.first())
            }))
        }
        Role::PushMany => {
            let socket = as_asked(job, Push::builder())?;
            socket.bind(&job.endpoint)?;
            block_on(play::distribute(job, async |body| Ok(socket.send(body)?)))
        }
        Role::Pub => {
            let socket = as_asked(job, Pub::builder().nodrop(true))?;
            socket.bind(&job.endpoint)?;
            block_on(play::distribute(job, async |body| Ok(socket.send(body)?)))
        }
        Role::PullMany => many::pulls(job),
        Role::SubMany => many::subs(job),
        Role::DealerMany => many::dealers(job),
        Role::Router | Role::IdleRouter => {
            harness::clock::raise_descriptor_limit();
            let socket = as_asked(job, Router::builder())?;
            socket.bind(&job.endpoint)?;
            let serve = async || {
                let (id, message) = socket.recv()?;
                let bytes = message.first().len();
                socket.send_to(&id, message)?;
                Ok(bytes)
            };
            match job.role {
                Role::IdleRouter => block_on(play::idle_router(job, serve)),
                _ => block_on(play::router(job, serve)),
            }
        }
        Role::About | Role::IdleClients => harness::unsupported(job),
    }
}

/// Builds a socket as `mode=` says.
fn as_asked<S: Face>(job: &Job, builder: Builder<S>) -> Outcome<S> {
    let builder = match job.mode.as_str() {
        "plain" => builder.announce(false),
        "libzmq" => builder.profile(Profile::Libzmq),
        _ => builder,
    };
    Ok(builder.build()?)
}

fn pull(job: &Job, socket: &Pull) -> Outcome {
    block_on(play::pull(job, async |check: &mut Check| check.message(socket.recv()?.first())))
}

/// Each thread sends its share as a source of its own.
fn push_from_threads(job: &Job, socket: &Push) -> Outcome {
    let start = Mark::now();
    let share = job.count / job.threads;
    let send = |source| block_on(play::stream(job, source, share, async |body| Ok(socket.send(body)?)));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..job.threads).map(|source| scope.spawn(move || send(source))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a sending thread panicked")?)
    })?;
    block_on(play::report_sender(job, &start))
}
