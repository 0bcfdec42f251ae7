//! A peer that floods takes its share and no more: each connection is read up to a budget, and messages are received in
//! turn.

#[macro_use]
mod common;
#[path = "common/raw.rs"]
mod raw;

use std::io::Write;
use std::thread;
use std::time::Duration;

use common::{LONG, Net};
use raw::Raw;
use wiremesh::{Context, Dealer, Pull, Push, Router, SendFailure, Socket};

over!([tcp ipc inproc]:
    a_flood_from_one_peer_keeps_no_other_waiting
    a_flood_of_requests_keeps_no_other_waiting
);

over!([inproc]:
    what_comes_meanwhile_does_not_keep_a_call_that_takes_many
);

over!(crate::driven_by_the_engine_alone => [tcp ipc]:
    nor_where_engine_threads_drive
);

fn driven_by_the_engine_alone(scheme: &'static str) -> Net {
    Net::with(scheme, Context::builder().engine_only(true).build())
}

/// What may come of a flood before a message that is in the kernel: what is unread below the mark, and what a few turns
/// read. A peer that is starved waits until the flood ebbs.
const SHARE: usize = 100_000;

/// Closes a socket, also where a test fails, so that threads which use it end.
struct Closing<'a>(&'a Socket);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn a_flood_from_one_peer_keeps_no_other_waiting(net: &Net) {
    let pull = Pull::in_context(&net.context);
    let [flooding, other] = [(); 2].map(|()| Push::in_context(&net.context));
    net.join(&pull, &[&flooding, &other]);
    thread::scope(|scope| {
        scope.spawn(|| while flooding.send([1; 64]).is_ok() {});
        let _closed = Closing(&flooding);
        // Until it flows.
        while pull.recv_timeout(LONG).unwrap() != [1; 64] {}
        for round in 0..20u32 {
            other.send(round.to_le_bytes()).unwrap();
            if net.is_stream() {
                other.flush(LONG).unwrap();
            }
            let before = (0..SHARE).take_while(|_| {
                // Slower than the flood, so that it never ebbs.
                (0..20).for_each(|_| std::hint::spin_loop());
                pull.recv_timeout(LONG).unwrap().first().len() == 64
            });
            let before = before.count();
            assert!(before < SHARE, "round {round}: {before} others came first");
        }
    });
}

fn nor_where_engine_threads_drive(net: &Net) {
    a_flood_from_one_peer_keeps_no_other_waiting(net);
}

fn a_flood_of_requests_keeps_no_other_waiting(net: &Net) {
    let router = Router::in_context(&net.context);
    let [flooding, other] = [(); 2].map(|()| Dealer::in_context(&net.context));
    net.join(&router, &[&flooding, &other]);
    thread::scope(|scope| {
        // The answers are not what this is about: who does not read them misses some.
        scope.spawn(|| while flooding.send([1; 64]).is_ok() {});
        scope.spawn(|| {
            while let Ok((id, message)) = router.recv() {
                if router.send_to(&id, message).is_err() {
                    break;
                }
            }
        });
        let _closed = [Closing(&flooding), Closing(&router)];
        for round in 0..200u32 {
            other.send(round.to_le_bytes()).unwrap();
            assert_eq!(other.recv_timeout(LONG).unwrap().first(), round.to_le_bytes());
        }
    });
}

/// The kernel always has more of the flood than a visit reads: nobody is ever told that it has ended, and nobody needs
/// to look.
#[test]
fn a_flood_that_never_ebbs_keeps_no_other_waiting() {
    let context = Context::builder().drop_wait(Some(Duration::ZERO)).build();
    let (pull, other) = (Pull::in_context(&context), Push::in_context(&Context::new()));
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    other.connect(&endpoint).unwrap();
    other.wait_for_peers(1, LONG).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut raw = Raw::connect(endpoint.as_str().strip_prefix("tcp://").unwrap());
            raw.shake_hands(1, "PUSH");
            let frames = [&[0, 64][..], &[1; 64]].concat().repeat(16 * 1024);
            while raw.0.write_all(&frames).is_ok() {}
        });
        let _closed = Closing(&pull);
        // Until a caller that keeps coming back has the seat.
        for _ in 0..200_000 {
            assert_eq!(pull.recv_timeout(LONG).unwrap(), [1; 64]);
        }
        for round in 0..20u32 {
            other.send(round.to_le_bytes()).unwrap();
            other.flush(LONG).unwrap();
            let before = (0..SHARE).take_while(|_| pull.recv_timeout(LONG).unwrap().first().len() == 64).count();
            assert!(before < SHARE, "round {round}: {before} others came first");
        }
    });
}

/// What one call takes at most before it looks how much there is, and what there can be then.
const FIRST_PART: usize = 4096;
const MARK: u32 = 1000;

/// Has three DEALERs flood a socket, and asks it again and again for all that is there.
fn take_many(net: &Net, socket: &Socket, mut recv_many: impl FnMut() -> usize) {
    let floods = [(); 3].map(|()| Dealer::builder().context(&net.context).send_mark(MARK).build().unwrap());
    net.join(socket, &[&floods[0], &floods[1], &floods[2]]);
    thread::scope(|scope| {
        for flood in &floods {
            scope.spawn(
                move || while !flood.try_send([1; 8]).is_err_and(|error| error.reason == SendFailure::Closed) {},
            );
        }
        let _closed = floods.each_ref().map(|flood| Closing(flood));
        for _ in 0..200 {
            let taken = recv_many();
            assert!(taken <= FIRST_PART + floods.len() * 2 * MARK as usize, "one call took {taken} messages");
        }
    });
}

fn what_comes_meanwhile_does_not_keep_a_call_that_takes_many(net: &Net) {
    let dealer = Dealer::builder().context(&net.context).receive_mark(MARK).build().unwrap();
    take_many(net, &dealer, || dealer.recv_many(usize::MAX).unwrap().len());
    let router = Router::builder().context(&net.context).receive_mark(MARK).build().unwrap();
    take_many(net, &router, || router.recv_many(usize::MAX).unwrap().len());
}
