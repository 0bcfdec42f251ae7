//! rzmq on tokio: this thread runs the caller, one worker the library's actors. `mode=ring` uses its io_uring backend
//! with one ring worker over tcp, `mode=cork` that with TCP_CORK; with one connection both were slower than plain
//! tokio. `mode=undelimited` keeps its DEALER from putting an empty frame in front of each message, and its ROUTER from
//! expecting one, as no other implementation does.

use std::cell::RefCell;

use bytes_of::{message, whole};
use harness::play::Step;
use harness::{About, Check, Job, Outcome, Role, control, lanes, play};
use rzmq::socket::{AUTO_DELIMITER, IO_URING_SESSION_ENABLED, SUBSCRIBE, TCP_CORK, XPUB_NODROP};
use rzmq::uring::{UringConfig, initialize_uring_backend};
use rzmq::{Context, Socket, SocketType};
use tokio::runtime::{Builder, Runtime};

mod bytes_of;

fn main() -> std::process::ExitCode {
    harness::main(about, run)
}

fn about() -> About {
    About {
        version: "0.5.28".into(),
        settings: "tokio runtime with one worker beside the caller's thread (its io_uring backend was slower with one \
                   connection); XPUB_NODROP for pub_fanout"
            .into(),
    }
}

fn run(job: &Job) -> Outcome {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let outcome = runtime.block_on(async {
        if ring(job) {
            initialize_uring_backend(UringConfig { num_workers: 1, ..UringConfig::default() })?;
        }
        play_role(job, &runtime, &Context::new()?).await
    });
    // Its actors may still wait for peers that have gone; the measurement is over.
    runtime.shutdown_background();
    outcome
}

fn ring(job: &Job) -> bool {
    job.transport == "tcp" && (job.mode == "ring" || job.mode == "cork")
}

async fn open(job: &Job, context: &Context, kind: SocketType) -> Outcome<Socket> {
    let socket = context.socket(kind)?;
    if ring(job) {
        socket.set_option(IO_URING_SESSION_ENABLED, 1i32).await?;
        if job.mode == "cork" {
            socket.set_option(TCP_CORK, 1i32).await?;
        }
    }
    if job.mode == "undelimited" && matches!(kind, SocketType::Dealer | SocketType::Router) {
        socket.set_option(AUTO_DELIMITER, 0i32).await?;
    }
    Ok(socket)
}

async fn play_role(job: &Job, runtime: &Runtime, context: &Context) -> Outcome {
    match job.role {
        Role::Pull => {
            let socket = bound(job, context, SocketType::Pull).await?;
            pull(job, &socket).await
        }
        Role::Push => {
            let socket = connected(job, context, SocketType::Push).await?;
            play::push(job, async |body| Ok(socket.send(message(body)).await?)).await
        }
        Role::Both => {
            let receiver = bound(job, context, SocketType::Pull).await?;
            let sender = connected(job, context, SocketType::Push).await?;
            let (their_job, handle) = (job.clone(), runtime.handle().clone());
            std::thread::spawn(move || {
                handle
                    .block_on(async {
                        let send = async |body: &[u8]| Ok(sender.send(message(body)).await?);
                        play::stream(&their_job, 0, their_job.count, send).await
                    })
                    .unwrap_or_else(|why| control::failed(&why.to_string()));
                handle.block_on(control::stop());
            });
            pull(job, &receiver).await
        }
        Role::Rep => {
            let socket = bound(job, context, SocketType::Rep).await?;
            play::rep(job, async |check| {
                let request = socket.recv().await?;
                check.message(whole(&request))?;
                Ok(socket.send(message(whole(&request))).await?)
            })
            .await
        }
        Role::Req => {
            let socket = connected(job, context, SocketType::Req).await?;
            play::req(job, async |request, check| {
                socket.send(message(request)).await?;
                check.message(whole(&socket.recv().await?))
            })
            .await
        }
        Role::PushMany => {
            let socket = bound(job, context, SocketType::Push).await?;
            play::distribute(job, async |body| Ok(socket.send(message(body)).await?)).await
        }
        Role::Pub => {
            let socket = open(job, context, SocketType::Pub).await?;
            socket.set_option(XPUB_NODROP, 1i32).await?;
            socket.bind(&job.endpoint).await?;
            play::distribute(job, async |body| Ok(socket.send(message(body)).await?)).await
        }
        Role::PullMany => receive_many(job, context, SocketType::Pull, &play::pull_many_check(job)).await,
        Role::SubMany => receive_many(job, context, SocketType::Sub, &play::sub_many_check(job)).await,
        Role::Router => {
            let socket = bound(job, context, SocketType::Router).await?;
            play::router(job, async || {
                let frames = socket.recv_multipart().await?;
                let bytes = frames.last().map_or(0, |frame| whole(frame).len());
                socket.send_multipart(frames).await?;
                Ok(bytes)
            })
            .await
        }
        Role::DealerMany => dealers(job, context).await,
        Role::About | Role::IdleRouter | Role::IdleClients => harness::unsupported(job),
    }
}

async fn bound(job: &Job, context: &Context, kind: SocketType) -> Outcome<Socket> {
    let socket = open(job, context, kind).await?;
    socket.bind(&job.endpoint).await?;
    Ok(socket)
}

async fn connected(job: &Job, context: &Context, kind: SocketType) -> Outcome<Socket> {
    let socket = open(job, context, kind).await?;
    socket.connect(&job.endpoint).await?;
    Ok(socket)
}

async fn pull(job: &Job, socket: &Socket) -> Outcome {
    play::pull(job, async |check| check.message(whole(&socket.recv().await?))).await
}

async fn receive_many(job: &Job, context: &Context, kind: SocketType, check: &RefCell<Check>) -> Outcome {
    let mut listeners: Vec<lanes::Lane<'_>> = Vec::new();
    for lane in 0..job.peers {
        let socket = connected(job, context, kind).await?;
        if kind == SocketType::Sub {
            socket.set_option(SUBSCRIBE, "").await?;
        }
        listeners.push(Box::pin(async move {
            play::listen(check, async |check: &RefCell<Check>| receive_on(&socket, lane, check).await).await
        }));
    }
    lanes::run(check, listeners).await?;
    play::report_receivers(check).await
}

async fn dealers(job: &Job, context: &Context) -> Outcome {
    let check = &play::dealer_many_check(job);
    let mut dealers: Vec<lanes::Lane<'_>> = Vec::new();
    for lane in 0..job.peers {
        let socket = connected(job, context, SocketType::Dealer).await?;
        dealers.push(Box::pin(async move {
            play::dealer(job, check, async |step: Step<'_>| match step {
                Step::Send(body) => Ok(socket.send(message(body)).await?),
                Step::Recv(check) => receive_on(&socket, lane, check).await,
            })
            .await
        }));
    }
    lanes::run(check, dealers).await?;
    play::report_receivers(check).await
}

async fn receive_on(socket: &Socket, lane: usize, check: &RefCell<Check>) -> Outcome {
    let message = socket.recv().await?;
    check.borrow_mut().on(lane, whole(&message))
}
