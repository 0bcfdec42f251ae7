//! Many sockets of one process, served by one thread.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::{Check, Outcome};

/// One socket's loop.
pub type Lane<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// Runs all lanes of an asynchronous library together until the check is complete.
pub async fn run(check: &RefCell<Check>, lanes: Vec<Lane<'_>>) -> Outcome {
    let mut lanes: FuturesUnordered<_> = lanes.into_iter().collect();
    while let Some(outcome) = lanes.next().await {
        outcome?;
        if check.borrow().complete() {
            break;
        }
    }
    Ok(())
}

/// Runs all lanes of a library without futures until the check is complete.
///
/// A lane waits with [`yield_now`] when its socket has nothing for it. When all of them wait, `wait` sleeps until some
/// sockets can go on and sets their flags.
pub fn run_polled(
    check: &RefCell<Check>,
    mut lanes: Vec<Lane<'_>>,
    mut wait: impl FnMut(&mut [bool]) -> Outcome,
) -> Outcome {
    let mut able = vec![true; lanes.len()];
    let mut done = vec![false; lanes.len()];
    let mut cx = Context::from_waker(Waker::noop());
    while !check.borrow().complete() && done.contains(&false) {
        for ((lane, able), done) in lanes.iter_mut().zip(&mut able).zip(&mut done) {
            if !std::mem::take(able) || *done {
                continue;
            }
            if let Poll::Ready(outcome) = lane.as_mut().poll(&mut cx) {
                outcome?;
                *done = true;
            }
        }
        if !check.borrow().complete() {
            wait(&mut able)?;
        }
    }
    Ok(())
}

/// Gives the other lanes a turn.
pub async fn yield_now() {
    let mut first = true;
    std::future::poll_fn(|_| match std::mem::replace(&mut first, false) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    })
    .await;
}
