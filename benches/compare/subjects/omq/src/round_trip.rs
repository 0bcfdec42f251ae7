//! Round trips: `mode=exclusive` (the default over tcp), `mode=latency` (the default over ipc) or `mode=default`.

use harness::{Job, Outcome, block_on, play};
use omq_tokio::exclusive;
use omq_tokio::options::WorkloadProfile;
use omq_tokio::{Context, Message, Options, SocketType};

use crate::body;

pub fn rep(job: &Job, context: &Context) -> Outcome {
    if exclusive(job) {
        return runtime()?.block_on(async {
            let (mut socket, _) =
                exclusive::Socket::bind(SocketType::Rep, job.endpoint.as_str(), Default::default()).await?;
            play::rep(job, async |check| {
                let request = socket.recv().await?;
                check.message(body(&request))?;
                Ok(socket.send(&Message::from_slice(body(&request))).await?)
            })
            .await
        });
    }
    let socket = context.blocking_socket(SocketType::Rep, options(job));
    socket.bind(job.endpoint.as_str())?;
    block_on(play::rep(job, async |check| {
        let request = socket.recv()?;
        check.message(body(&request))?;
        Ok(socket.send(Message::from_slice(body(&request)))?)
    }))
}

pub fn req(job: &Job, context: &Context) -> Outcome {
    if exclusive(job) {
        return runtime()?.block_on(async {
            let mut socket =
                exclusive::Socket::connect(SocketType::Req, job.endpoint.as_str(), Default::default()).await?;
            play::req(job, async |request, check| {
                socket.send(&Message::from_slice(request)).await?;
                check.message(body(&socket.recv().await?))
            })
            .await
        });
    }
    let socket = context.blocking_socket(SocketType::Req, options(job));
    socket.connect(job.endpoint.as_str())?;
    block_on(play::req(job, async |request, check| {
        socket.send(Message::from_slice(request))?;
        check.message(body(&socket.recv()?))
    }))
}

fn exclusive(job: &Job) -> bool {
    job.mode == "exclusive" || (job.mode.is_empty() && job.transport == "tcp")
}

fn options(job: &Job) -> Options {
    match job.mode.as_str() {
        "default" => Options::default(),
        _ => Options::default().workload_profile(WorkloadProfile::Latency),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
