//! zmq.rs (`zeromq`) on a tokio runtime of one thread, which was quicker and cheaper than `mode=multi`: this thread for
//! the caller and one worker for the library's tasks. `mode=lossy` has its PUB and SUB for whoever publishes at a rate
//! at which it drops nothing.

use std::cell::RefCell;

use harness::play::Step;
use harness::{About, Check, Job, Outcome, Role, lanes, play};
use tokio::runtime::{Builder, Runtime};
use zeromq::{
    DealerSocket, PubSocket, PullSocket, PushSocket, RepSocket, ReqSocket, RouterSocket, Socket, SocketRecv,
    SocketSend, SubSocket, ZmqMessage,
};

fn main() -> std::process::ExitCode {
    harness::main(about, run)
}

fn about() -> About {
    About {
        version: "0.7.0".into(),
        settings: "defaults; everything on one tokio thread (a worker beside the caller's thread was slower)".into(),
    }
}

fn run(job: &Job) -> Outcome {
    runtime(job)?.block_on(play_role(job))
}

fn runtime(job: &Job) -> std::io::Result<Runtime> {
    match job.mode.as_str() {
        "multi" => Builder::new_multi_thread().worker_threads(1).enable_all().build(),
        _ => Builder::new_current_thread().enable_all().build(),
    }
}

async fn play_role(job: &Job) -> Outcome {
    match job.role {
        Role::Pull => {
            let mut socket = PullSocket::new();
            socket.bind(&job.endpoint).await?;
            play::pull(job, async |check| check.message(body(&socket.recv().await?))).await
        }
        Role::Push => {
            let mut socket = PushSocket::new();
            socket.connect(&job.endpoint).await?;
            play::push(job, async |body| Ok(socket.send(message(body)).await?)).await
        }
        Role::Rep => {
            let mut socket = RepSocket::new();
            socket.bind(&job.endpoint).await?;
            play::rep(job, async |check| {
                let request = socket.recv().await?;
                check.message(body(&request))?;
                Ok(socket.send(message(body(&request))).await?)
            })
            .await
        }
        Role::Req => {
            let mut socket = ReqSocket::new();
            socket.connect(&job.endpoint).await?;
            play::req(job, async |request, check| {
                socket.send(message(request)).await?;
                check.message(body(&socket.recv().await?))
            })
            .await
        }
        Role::PushMany => {
            let mut socket = PushSocket::new();
            socket.bind(&job.endpoint).await?;
            play::distribute(job, async |body| send_when_connected(&mut socket, body).await).await
        }
        Role::PullMany => pull_many(job).await,
        Role::Router => {
            let mut socket = RouterSocket::new();
            socket.bind(&job.endpoint).await?;
            play::router(job, async || {
                let request = socket.recv().await?;
                let bytes = request.get(1).map_or(0, |frame| frame.len());
                socket.send(request).await?;
                Ok(bytes)
            })
            .await
        }
        Role::DealerMany => dealers(job).await,
        Role::Pub if lossy(job) => {
            let mut socket = PubSocket::new();
            socket.bind(&job.endpoint).await?;
            play::distribute(job, async |body| Ok(socket.send(message(body)).await?)).await
        }
        Role::SubMany if lossy(job) => sub_many(job).await,
        Role::Pub | Role::SubMany => {
            Err("its PUB drops messages when a subscriber's queue is full and has no setting against it".into())
        }
        Role::About | Role::Both | Role::IdleRouter | Role::IdleClients => harness::unsupported(job),
    }
}

fn lossy(job: &Job) -> bool {
    job.mode == "lossy"
}

fn message(body: &[u8]) -> ZmqMessage {
    ZmqMessage::from(body.to_vec())
}

fn body(message: &ZmqMessage) -> &[u8] {
    message.get(0).map_or(&[], |frame| frame)
}

/// Its PUSH refuses to send while there is no peer.
async fn send_when_connected(socket: &mut PushSocket, body: &[u8]) -> Outcome {
    loop {
        match socket.send(message(body)).await {
            Err(zeromq::ZmqError::ReturnToSender { .. }) => {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await
            }
            other => return Ok(other?),
        }
    }
}

async fn pull_many(job: &Job) -> Outcome {
    let check = &play::pull_many_check(job);
    let mut listeners: Vec<lanes::Lane<'_>> = Vec::new();
    for lane in 0..job.peers {
        let mut socket = PullSocket::new();
        socket.connect(&job.endpoint).await?;
        listeners.push(Box::pin(async move {
            play::listen(check, async |check: &RefCell<Check>| {
                let message = socket.recv().await?;
                check.borrow_mut().on(lane, body(&message))
            })
            .await
        }));
    }
    lanes::run(check, listeners).await?;
    play::report_receivers(check).await
}

async fn sub_many(job: &Job) -> Outcome {
    let check = &play::sub_many_check(job);
    let mut listeners: Vec<lanes::Lane<'_>> = Vec::new();
    for lane in 0..job.peers {
        let mut socket = SubSocket::new();
        socket.connect(&job.endpoint).await?;
        socket.subscribe("").await?;
        listeners.push(Box::pin(async move {
            play::listen(check, async |check: &RefCell<Check>| {
                let message = socket.recv().await?;
                check.borrow_mut().on(lane, body(&message))
            })
            .await
        }));
    }
    lanes::run(check, listeners).await?;
    play::report_receivers(check).await
}

async fn dealers(job: &Job) -> Outcome {
    let check = &play::dealer_many_check(job);
    let mut dealers: Vec<lanes::Lane<'_>> = Vec::new();
    for lane in 0..job.peers {
        let mut socket = DealerSocket::new();
        socket.connect(&job.endpoint).await?;
        dealers.push(Box::pin(async move {
            play::dealer(job, check, async |step: Step<'_>| match step {
                Step::Send(body) => Ok(socket.send(message(body)).await?),
                Step::Recv(check) => {
                    let message = socket.recv().await?;
                    check.borrow_mut().on(lane, body(&message))
                }
            })
            .await
        }));
    }
    lanes::run(check, dealers).await?;
    play::report_receivers(check).await
}
