//! NNG through a thin layer over its C API: `nng_send` from a buffer, `nng_recvmsg`. Buffers of 4,096 messages each
//! way.

mod socket;

use std::cell::RefCell;

use harness::{About, Check, Job, Outcome, Role, block_on, control, lanes, play};
use socket::{Kind, Socket};

fn main() -> std::process::ExitCode {
    harness::main(about, run)
}

fn about() -> About {
    About {
        version: socket::version(),
        settings: "one poller thread and two task threads (the least NNG allows); NNG_OPT_SENDBUF and NNG_OPT_RECVBUF 4096 for \
                   PUSH and PULL"
            .into(),
    }
}

fn run(job: &Job) -> Outcome {
    socket::start()?;
    match job.role {
        Role::Pull => {
            let socket = Socket::open(Kind::Pull)?;
            socket.bind(&job.endpoint)?;
            pull(job, &socket)
        }
        Role::Push => {
            let socket = Socket::open(Kind::Push)?;
            socket.connect(&job.endpoint)?;
            block_on(play::push(job, async |body| socket.send(body)))
        }
        Role::Both => {
            let (receiver, sender) = (Socket::open(Kind::Pull)?, Socket::open(Kind::Push)?);
            receiver.bind(&job.endpoint)?;
            sender.connect(&job.endpoint)?;
            let their_job = job.clone();
            std::thread::spawn(move || {
                block_on(play::stream(&their_job, 0, their_job.count, async |body| sender.send(body)))
                    .unwrap_or_else(|why| control::failed(&why.to_string()));
                block_on(control::stop());
            });
            pull(job, &receiver)
        }
        Role::Rep => {
            let socket = Socket::open(Kind::Rep)?;
            socket.bind(&job.endpoint)?;
            block_on(play::rep(job, async |check| {
                let request = socket.recv()?;
                check.message(request.bytes())?;
                socket.send(request.bytes())
            }))
        }
        Role::Req => {
            let socket = Socket::open(Kind::Req)?;
            socket.connect(&job.endpoint)?;
            block_on(play::req(job, async |body, check| {
                socket.send(body)?;
                check.message(socket.recv()?.bytes())
            }))
        }
        Role::PushMany => {
            let socket = Socket::open(Kind::Push)?;
            socket.bind(&job.endpoint)?;
            block_on(play::distribute(job, async |body| socket.send(body)))
        }
        Role::PullMany => pull_many(job),
        Role::Pub | Role::SubMany => {
            Err("its PUB drops messages when a queue is full and has no setting against it".into())
        }
        Role::About | Role::Router | Role::DealerMany | Role::IdleRouter | Role::IdleClients => {
            harness::unsupported(job)
        }
    }
}

fn pull(job: &Job, socket: &Socket) -> Outcome {
    block_on(play::pull(job, async |check| check.message(socket.recv()?.bytes())))
}

fn pull_many(job: &Job) -> Outcome {
    let check = &play::pull_many_check(job);
    let mut sockets = Vec::new();
    for _ in 0..job.peers {
        let socket = Socket::open(Kind::Pull)?;
        socket.connect(&job.endpoint)?;
        sockets.push(socket);
    }
    let listen = |(lane, socket)| -> lanes::Lane<'_> {
        let socket: &Socket = socket;
        Box::pin(play::listen(check, async move |check: &RefCell<Check>| {
            loop {
                if let Some(message) = socket.try_recv()? {
                    return check.borrow_mut().on(lane, message.bytes());
                }
                lanes::yield_now().await;
            }
        }))
    };
    let mut readers = sockets.iter().map(Socket::readable).collect::<Outcome<Vec<_>>>()?;
    lanes::run_polled(check, sockets.iter().enumerate().map(listen).collect(), |able| {
        socket::wait_readable(&mut readers, able)
    })?;
    block_on(play::report_receivers(check))
}
