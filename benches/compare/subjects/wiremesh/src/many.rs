//! Many sockets of one process: a thread for each, blocked in `recv`.

use harness::threads::{self, Line};
use harness::{Check, Job, Outcome};
use wiremesh::{Dealer, Message, Pull, RecvError, Sub};

pub fn pulls(job: &Job) -> Outcome {
    let sockets = (0..job.peers).map(|_| {
        let socket = Pull::new();
        socket.connect(&job.endpoint)?;
        Ok(PullLine(socket))
    });
    threads::pull_many(job, sockets.collect::<Outcome<Vec<_>>>()?)
}

pub fn subs(job: &Job) -> Outcome {
    let sockets = (0..job.peers).map(|_| {
        let socket = Sub::new();
        socket.subscribe(b"")?;
        socket.connect(&job.endpoint)?;
        Ok(SubLine(socket))
    });
    threads::sub_many(job, sockets.collect::<Outcome<Vec<_>>>()?)
}

pub fn dealers(job: &Job) -> Outcome {
    let sockets = (0..job.peers).map(|_| {
        let socket = Dealer::new();
        socket.connect(&job.endpoint)?;
        Ok(DealerLine(socket))
    });
    threads::dealer_many(job, sockets.collect::<Outcome<Vec<_>>>()?)
}

struct PullLine(Pull);
struct SubLine(Sub);
struct DealerLine(Dealer);

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

impl Line for DealerLine {
    fn recv(&mut self, check: &mut Check, wait: bool) -> Outcome<bool> {
        show(if wait { self.0.recv() } else { self.0.try_recv() }, check)
    }

    fn send(&mut self, body: &[u8]) -> Outcome {
        Ok(self.0.send(body)?)
    }
}

fn show(received: Result<Message, RecvError>, check: &mut Check) -> Outcome<bool> {
    match received {
        Ok(message) => check.on(0, message.as_bytes()).map(|()| true),
        Err(RecvError::WouldBlock) => Ok(false),
        Err(why) => Err(why.into()),
    }
}
