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
use wiremesh::{Context, Dealer, Pull, Push, Router, Socket};

over!([tcp ipc inproc]:
    a_flood_from_one_peer_keeps_no_other_waiting
    a_flood_of_requests_keeps_no_other_waiting
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
