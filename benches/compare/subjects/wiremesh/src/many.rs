//! Many sockets of one thread, with a `Poller` to sleep on.

use std::cell::RefCell;

use harness::play::Step;
use harness::{Check, Job, Outcome, block_on, lanes, play};
use wiremesh::{Dealer, Message, Poller, Pull, RecvError, Sub};

/// What the three receiving kinds have in common here.
trait Receive: wiremesh::Pollable {
    fn try_recv(&self) -> Result<Message, RecvError>;
}

impl Receive for Pull {
    fn try_recv(&self) -> Result<Message, RecvError> {
        Pull::try_recv(self)
    }
}

impl Receive for Sub {
    fn try_recv(&self) -> Result<Message, RecvError> {
        Sub::try_recv(self)
    }
}

impl Receive for Dealer {
    fn try_recv(&self) -> Result<Message, RecvError> {
        Dealer::try_recv(self)
    }
}

pub fn pulls(job: &Job) -> Outcome {
    let sockets: Vec<Pull> = (0..job.peers).map(|_| Pull::new()).collect();
    sockets.iter().try_for_each(|socket| socket.connect(&job.endpoint).map(drop))?;
    receive(&sockets, &play::pull_many_check(job))
}

pub fn subs(job: &Job) -> Outcome {
    let sockets: Vec<Sub> = (0..job.peers).map(|_| Sub::new()).collect();
    for socket in &sockets {
        socket.subscribe(b"")?;
        socket.connect(&job.endpoint)?;
    }
    receive(&sockets, &play::sub_many_check(job))
}

pub fn dealers(job: &Job) -> Outcome {
    let sockets: Vec<Dealer> = (0..job.peers).map(|_| Dealer::new()).collect();
    sockets.iter().try_for_each(|socket| socket.connect(&job.endpoint).map(drop))?;
    let check = &play::dealer_many_check(job);
    let deal = |(lane, socket)| -> lanes::Lane<'_> {
        let socket: &Dealer = socket;
        Box::pin(play::dealer(job, check, async move |step: Step<'_>| match step {
            Step::Send(body) => Ok(socket.send(body)?),
            Step::Recv(check) => receive_on(socket, lane, check).await,
        }))
    };
    run(&sockets, check, sockets.iter().enumerate().map(deal).collect())
}

fn receive<S: Receive>(sockets: &[S], check: &RefCell<Check>) -> Outcome {
    let listen = |(lane, socket)| -> lanes::Lane<'_> {
        Box::pin(play::listen(check, async move |check: &RefCell<Check>| receive_on(socket, lane, check).await))
    };
    run(sockets, check, sockets.iter().enumerate().map(listen).collect())
}

/// Receives one message on socket number `lane`, letting the other sockets run while there is none.
async fn receive_on(socket: &impl Receive, lane: usize, check: &RefCell<Check>) -> Outcome {
    loop {
        match socket.try_recv() {
            Ok(message) => return check.borrow_mut().on(lane, message.as_bytes()),
            Err(RecvError::WouldBlock) => lanes::yield_now().await,
            Err(why) => return Err(why.into()),
        }
    }
}

/// Runs the lanes, sleeping in a poller while no socket has anything.
fn run<S: Receive>(sockets: &[S], check: &RefCell<Check>, lanes: Vec<lanes::Lane<'_>>) -> Outcome {
    let mut poller = Poller::new()?;
    for (lane, socket) in sockets.iter().enumerate() {
        poller.add(socket, lane)?;
    }
    lanes::run_polled(check, lanes, |able| {
        for lane in poller.wait(None)? {
            able[lane] = true;
        }
        Ok(())
    })?;
    block_on(play::report_receivers(check))
}
