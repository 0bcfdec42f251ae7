//! libzmq 4.3.5, used as its own performance programs use it: `zmq_send` from a buffer, `zmq_msg_recv` into one reused
//! message, defaults throughout. Many sockets of one thread are served with `zmq_poll`.

mod ffi;
mod socket;

use harness::play::Step;
use harness::{About, Job, Outcome, Role, block_on, control, lanes, play};
use socket::{Context, Message, Socket};

fn main() -> std::process::ExitCode {
    harness::main(about, run)
}

fn about() -> About {
    About {
        version: socket::version(),
        settings:
            "defaults, one I/O thread; zmq_send and zmq_msg_recv; zmq_poll where one thread serves many sockets; \
                   ZMQ_XPUB_NODROP for pub_fanout"
                .into(),
    }
}

fn run(job: &Job) -> Outcome {
    let context = Context::new(20_000)?;
    let open = |kind| configured(job, context, kind);
    match job.role {
        Role::Pull => {
            let socket = open(ffi::PULL)?;
            socket.bind(&job.endpoint)?;
            pull(job, &socket)
        }
        Role::Push => {
            let socket = open(ffi::PUSH)?;
            socket.connect(&job.endpoint)?;
            block_on(play::push(job, async |body| socket.send(body)))
        }
        Role::Both => {
            let (receiver, sender) = (open(ffi::PULL)?, open(ffi::PUSH)?);
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
            let socket = open(ffi::REP)?;
            socket.bind(&job.endpoint)?;
            let mut message = Message::new();
            block_on(play::rep(job, async |check| {
                socket.recv(&mut message)?;
                check.message(message.bytes())?;
                socket.send(message.bytes())
            }))
        }
        Role::Req => {
            let socket = open(ffi::REQ)?;
            socket.connect(&job.endpoint)?;
            let mut message = Message::new();
            block_on(play::req(job, async |body, check| {
                socket.send(body)?;
                socket.recv(&mut message)?;
                check.message(message.bytes())
            }))
        }
        Role::PushMany => {
            let socket = open(ffi::PUSH)?;
            socket.bind(&job.endpoint)?;
            block_on(play::distribute(job, async |body| socket.send(body)))
        }
        Role::Pub => {
            let socket = open(ffi::PUB)?;
            socket.set(ffi::XPUB_NODROP, 1)?;
            socket.bind(&job.endpoint)?;
            block_on(play::distribute(job, async |body| socket.send(body)))
        }
        Role::PullMany => receive_many(&many(job, context, ffi::PULL)?, play::pull_many_check(job)),
        Role::SubMany => {
            let sockets = many(job, context, ffi::SUB)?;
            sockets.iter().try_for_each(Socket::subscribe_all)?;
            receive_many(&sockets, play::sub_many_check(job))
        }
        Role::DealerMany => dealers(job, &many(job, context, ffi::DEALER)?),
        Role::Router | Role::IdleRouter => {
            harness::clock::raise_descriptor_limit();
            let socket = open(ffi::ROUTER)?;
            socket.bind(&job.endpoint)?;
            let (mut id, mut body) = (Message::new(), Message::new());
            let serve = async || {
                socket.recv(&mut id)?;
                socket.recv(&mut body)?;
                let bytes = body.bytes().len();
                socket.pass_on(&mut id, true)?;
                socket.pass_on(&mut body, false)?;
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

/// A socket with the settings of `mode`: `hwm=N` sets both marks, to see whether the defaults are the best.
fn configured(job: &Job, context: Context, kind: i32) -> Outcome<Socket> {
    let socket = context.socket(kind)?;
    if let Some(mark) = job.mode.strip_prefix("hwm") {
        let mark = mark.parse()?;
        socket.set(ffi::SNDHWM, mark)?;
        socket.set(ffi::RCVHWM, mark)?;
    }
    Ok(socket)
}

fn many(job: &Job, context: Context, kind: i32) -> Outcome<Vec<Socket>> {
    let connected = |_| {
        let socket = configured(job, context, kind)?;
        socket.connect(&job.endpoint)?;
        Ok(socket)
    };
    (0..job.peers).map(connected).collect()
}

fn pull(job: &Job, socket: &Socket) -> Outcome {
    let mut message = Message::new();
    block_on(play::pull(job, async |check| {
        socket.recv(&mut message)?;
        check.message(message.bytes())
    }))
}

fn receive_many(sockets: &[Socket], check: std::cell::RefCell<harness::Check>) -> Outcome {
    let check = &check;
    let listen = |(lane, socket)| -> lanes::Lane<'_> {
        Box::pin(async move {
            let mut message = Message::new();
            play::listen(check, async |check| receive_on(socket, lane, &mut message, check).await).await
        })
    };
    let listeners = sockets.iter().enumerate().map(listen).collect();
    let mut items = Vec::new();
    lanes::run_polled(check, listeners, |able| socket::wait_readable(sockets, &mut items, able))?;
    block_on(play::report_receivers(check))
}

fn dealers(job: &Job, sockets: &[Socket]) -> Outcome {
    let check = &play::dealer_many_check(job);
    let deal = |(lane, socket)| -> lanes::Lane<'_> {
        let socket: &Socket = socket;
        Box::pin(async move {
            let mut message = Message::new();
            let step = async |step: Step<'_>| match step {
                Step::Send(body) => socket.send(body),
                Step::Recv(check) => receive_on(socket, lane, &mut message, check).await,
            };
            play::dealer(job, check, step).await
        })
    };
    let dealers = sockets.iter().enumerate().map(deal).collect();
    let mut items = Vec::new();
    lanes::run_polled(check, dealers, |able| socket::wait_readable(sockets, &mut items, able))?;
    block_on(play::report_receivers(check))
}

/// Receives one message on socket number `lane`, letting the other sockets run while there is none.
async fn receive_on(
    socket: &Socket,
    lane: usize,
    message: &mut Message,
    check: &std::cell::RefCell<harness::Check>,
) -> Outcome {
    while !socket.try_recv(message)? {
        lanes::yield_now().await;
    }
    check.borrow_mut().on(lane, message.bytes())
}
