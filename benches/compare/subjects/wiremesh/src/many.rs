//! Many sockets of one process.

use harness::play::{self, Step};
use harness::threads::{self, Line};
use harness::{Check, Job, Outcome, block_on, lanes};
use wiremesh::{Dealer, Message, Pull, RecvError, Sub};

use crate::as_asked;

pub fn pulls(job: &Job) -> Outcome {
    let sockets = (0..job.peers).map(|_| {
        let socket = as_asked(job, Pull::builder())?;
        socket.connect(&job.endpoint)?;
        Ok(PullLine(socket))
    });
    threads::pull_many(job, sockets.collect::<Outcome<Vec<_>>>()?)
}

pub fn subs(job: &Job) -> Outcome {
    let sockets = (0..job.peers).map(|_| {
        let socket = as_asked(job, Sub::builder())?;
        socket.subscribe(b"")?;
        socket.connect(&job.endpoint)?;
        Ok(SubLine(socket))
    });
    threads::sub_many(job, sockets.collect::<Outcome<Vec<_>>>()?)
}

/// One thread serves them in turn: it waits for the first message of each, and takes what else is there.
pub fn dealers(job: &Job) -> Outcome {
    let sockets = (0..job.peers).map(|_| {
        let socket = as_asked(job, Dealer::builder())?;
        socket.connect(&job.endpoint)?;
        Ok(socket)
    });
    let sockets = sockets.collect::<Outcome<Vec<_>>>()?;
    let check = &play::dealer_many_check(job);
    let deal = |(lane, socket)| -> lanes::Lane<'_> {
        let socket: &Dealer = socket;
        Box::pin(async move {
            let step = async |step: Step<'_>| match step {
                Step::Send(body) => Ok(socket.send(body)?),
                Step::Recv(check) => {
                    let message = match socket.try_recv() {
                        Err(RecvError::WouldBlock) => {
                            lanes::yield_now().await;
                            socket.recv()
                        }
                        received => received,
                    };
                    check.borrow_mut().on(lane, message?.first())
                }
            };
            play::dealer(job, check, step).await
        })
    };
    let lanes = sockets.iter().enumerate().map(deal).collect();
    lanes::run_polled(check, lanes, |able| {
        able.fill(true);
        Ok(())
    })?;
    block_on(play::report_receivers(check))
}

struct PullLine(Pull);
struct SubLine(Sub);

impl Line for PullLine {
    fn recv(&mut self, check: &mut Check, wait: bool) -> Outcome<bool> {
        show(if wait { self.0.recv() } else { self.0.try_recv() }, check)
    }

    fn send(&mut self, _: &[u8]) -> Outcome {
        Err("a PULL does not send".into())
    }
}

impl Line for SubLine {
    fn recv(&mut self, check: &mut Check, wait: bool) -> Outcome<bool> {
        show(if wait { self.0.recv() } else { self.0.try_recv() }, check)
    }

    fn send(&mut self, _: &[u8]) -> Outcome {
        Err("a SUB does not send".into())
    }
}

fn show(received: Result<Message, RecvError>, check: &mut Check) -> Outcome<bool> {
    match received {
        Ok(message) => check.on(0, message.first()).map(|()| true),
        Err(RecvError::WouldBlock) => Ok(false),
        Err(why) => Err(why.into()),
    }
}
