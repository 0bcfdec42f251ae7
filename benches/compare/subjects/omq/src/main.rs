//! omq-tokio at its best documented settings: a context with one I/O thread of its own and blocking sockets with the
//! throughput profile; for round trips the exclusive socket over tcp and the latency profile over ipc, which exclusive
//! sockets lack.

mod round_trip;

use std::cell::RefCell;

use harness::play::Step;
use harness::{About, Check, Job, Outcome, Role, block_on, control, lanes, play};
use omq_tokio::options::WorkloadProfile;
use omq_tokio::{Context, Error, Message, Options, Socket, SocketType, TrySendError, blocking};

fn main() -> std::process::ExitCode {
    harness::main(about, run)
}

fn about() -> About {
    About {
        version: "0.33.0".into(),
        settings: "own context, one I/O thread; throughput profile and blocking sockets; round trips: exclusive socket over \
                   tcp, latency profile over ipc; xpub_nodrop for pub_fanout; async sockets where one thread serves many"
            .into(),
    }
}

fn run(job: &Job) -> Outcome {
    let context = Context::new();
    let open = |kind| context.blocking_socket(kind, throughput());
    match job.role {
        Role::Pull => {
            let socket = open(SocketType::Pull);
            socket.bind(job.endpoint.as_str())?;
            pull(job, &socket)
        }
        Role::Push => {
            let socket = open(SocketType::Push);
            socket.connect(job.endpoint.as_str())?;
            block_on(play::push(job, async |body| send(&socket, body)))
        }
        Role::Both => {
            let (receiver, sender) = (open(SocketType::Pull), open(SocketType::Push));
            receiver.bind(job.endpoint.as_str())?;
            sender.connect(job.endpoint.as_str())?;
            let their_job = job.clone();
            std::thread::spawn(move || {
                block_on(play::stream(&their_job, 0, their_job.count, async |body| send(&sender, body)))
                    .unwrap_or_else(|why| control::failed(&why.to_string()));
                block_on(control::stop());
            });
            pull(job, &receiver)
        }
        Role::Rep => round_trip::rep(job, &context),
        Role::Req => round_trip::req(job, &context),
        Role::PushMany => {
            let socket = open(SocketType::Push);
            socket.bind(job.endpoint.as_str())?;
            block_on(play::distribute(job, async |body| send(&socket, body)))
        }
        Role::Pub => {
            let mut options = throughput();
            options.xpub_nodrop = true;
            let socket = context.blocking_socket(SocketType::Pub, options);
            socket.bind(job.endpoint.as_str())?;
            block_on(play::distribute(job, async |body| send(&socket, body)))
        }
        Role::PullMany => block_on(receive_many(job, &context, SocketType::Pull, play::pull_many_check(job))),
        Role::SubMany => block_on(receive_many(job, &context, SocketType::Sub, play::sub_many_check(job))),
        Role::DealerMany => block_on(dealers(job, &context)),
        Role::Router | Role::IdleRouter => {
            harness::clock::raise_descriptor_limit();
            let socket = open(SocketType::Router);
            socket.bind(job.endpoint.as_str())?;
            let serve = async || {
                let message = socket.recv()?;
                let bytes = message.part_slice(1).map_or(0, <[u8]>::len);
                socket.send(message)?;
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

fn throughput() -> Options {
    Options::default().workload_profile(WorkloadProfile::Throughput)
}

/// Sends as omq's own benches do: without waiting while there is room.
fn send(socket: &blocking::Socket, body: &[u8]) -> Outcome {
    match socket.try_send(Message::from_slice(body)) {
        Ok(()) => Ok(()),
        Err(TrySendError::Full(message)) => Ok(socket.send(message)?),
        Err(TrySendError::Closed) => Err("the socket is closed".into()),
        Err(TrySendError::Error(why)) => Err(why.into()),
    }
}

/// The body of a message of one frame.
fn body(message: &Message) -> &[u8] {
    message.part_slice(0).unwrap_or_default()
}

fn pull(job: &Job, socket: &blocking::Socket) -> Outcome {
    block_on(play::pull(job, async |check| check.message(body(&socket.recv()?))))
}

async fn connected(job: &Job, context: &Context, kind: SocketType) -> Outcome<Vec<Socket>> {
    let mut sockets = Vec::new();
    for _ in 0..job.peers {
        let socket = context.socket(kind, throughput());
        socket.connect(job.endpoint.as_str()).await?;
        if kind == SocketType::Sub {
            socket.subscribe("").await?;
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

async fn receive_many(job: &Job, context: &Context, kind: SocketType, check: RefCell<Check>) -> Outcome {
    let sockets = connected(job, context, kind).await?;
    let check = &check;
    let listen = |(lane, socket)| -> lanes::Lane<'_> {
        Box::pin(play::listen(check, async move |check| receive_on(socket, lane, check).await))
    };
    lanes::run(check, sockets.iter().enumerate().map(listen).collect()).await?;
    play::report_receivers(check).await
}

async fn dealers(job: &Job, context: &Context) -> Outcome {
    let sockets = connected(job, context, SocketType::Dealer).await?;
    let check = &play::dealer_many_check(job);
    let deal = |(lane, socket)| -> lanes::Lane<'_> {
        let socket: &Socket = socket;
        Box::pin(play::dealer(job, check, async move |step: Step<'_>| match step {
            Step::Send(body) => Ok(socket.send(Message::from_slice(body)).await?),
            Step::Recv(check) => receive_on(socket, lane, check).await,
        }))
    };
    lanes::run(check, sockets.iter().enumerate().map(deal).collect()).await?;
    play::report_receivers(check).await
}

async fn receive_on(socket: &Socket, lane: usize, check: &RefCell<Check>) -> Outcome {
    let message = match socket.try_recv() {
        Err(Error::WouldBlock) => socket.recv().await?,
        other => other?,
    };
    check.borrow_mut().on(lane, body(&message))
}
