//! A sender that closes while its receiver stands still, and then reads slowly but steadily: everything arrives, in
//! order.

use crate::support::child::{self, Process};
use crate::support::{Over, PATIENCE, alone, eventually, is_full, times, within};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Context, Dealer, Message, Pull, Push, RecvError, Router};

const MESSAGES: u64 = 300_000;

#[test]
fn a_push_over_tcp_that_closes_on_a_pull_at_its_mark_loses_nothing() {
    push_and_close(Over::Tcp);
}

#[test]
fn a_push_over_ipc_that_closes_on_a_pull_at_its_mark_loses_nothing() {
    push_and_close(Over::Ipc);
}

fn push_and_close(over: Over) {
    let _turn = alone();
    for run in 0..times(50) {
        // Every other sender has no mark: it has closed, with everything queued, while the receiver still stands.
        let mark = if run % 2 == 0 { 0 } else { 16_384 };
        within(PATIENCE * 4, "a run", move || {
            let context = Context::new();
            let pull = Pull::in_context(&context);
            let endpoint = pull.bind(over.wildcard()).expect("bound");
            let mut push = Process::start("pusher", &[&endpoint, &MESSAGES, &mark]);
            stand_still(&pull, 16_384);
            if mark == 0 {
                assert_eq!(push.hear(), "closed", "it closes without waiting");
            }
            read_steadily(&pull, MESSAGES, run);
            push.finish();
            assert_eq!(pull.try_recv(), Err(RecvError::WouldBlock), "run {run}: nothing twice");
        });
    }
}

/// A receiver that asks for life signs talks back to the sender: that must not cost what the kernel still holds.
#[test]
fn a_push_that_closes_on_a_pull_with_heartbeats_loses_nothing() {
    let _turn = alone();
    for over in Over::STREAMS {
        for run in 0..times(10) {
            within(PATIENCE * 4, "a run", move || {
                let context = Context::new();
                let interval = Duration::from_millis(20);
                let pull = Pull::builder().context(&context).heartbeat_interval(interval).heartbeat_timeout(PATIENCE);
                let pull = pull.build().expect("good options");
                let endpoint = pull.bind(over.wildcard()).expect("bound");
                let mut push = Process::start("pusher", &[&endpoint, &MESSAGES, &0]);
                stand_still(&pull, 16_384);
                assert_eq!(push.hear(), "closed");
                read_steadily(&pull, MESSAGES, run);
                push.finish();
            });
        }
    }
}

/// The receiver may answer while it reads: a sender that is long closed has nothing to do with that.
#[test]
fn a_dealer_that_closes_on_a_router_that_talks_back_loses_nothing() {
    let _turn = alone();
    for over in Over::STREAMS {
        for run in 0..if is_full() { 10 } else { 1 } {
            within(PATIENCE * 4, "a run", move || talk_back(over, run));
        }
    }
}

fn talk_back(over: Over, run: usize) {
    let context = Context::new();
    // A small window: what the ROUTER does not read stays in the sender's kernel.
    let router = Router::builder().context(&context).receive_buffer(32usize << 10).build().expect("good options");
    let endpoint = router.bind(over.wildcard()).expect("bound");
    // So few that the sender's kernel has taken all of them when it closes.
    let messages = 40_000;
    let mut dealer = Process::start("dealer", &[&endpoint, &messages]);
    eventually(PATIENCE, "the ROUTER is at its mark", || router.stats().unread >= 16_384);
    assert_eq!(dealer.hear(), "closed");
    // Longer than a closed connection is willing to wait for its peer to say goodbye.
    let silence = Instant::now();
    eventually(PATIENCE, "it stands still", || silence.elapsed() >= Duration::from_millis(1500));
    for expected in 0..messages {
        let (id, message) = match router.recv_timeout(PATIENCE / 3) {
            Ok(received) => received,
            Err(error) => panic!("{over:?}, run {run}: {error} at message {expected} of {messages}"),
        };
        assert_eq!(number(&message), expected, "{over:?}, run {run}");
        if expected % 64 == 0 {
            router.send_to(&id, "thanks").expect("a ROUTER never waits");
        }
        pause_now_and_then(expected);
    }
    dealer.finish();
}

/// Waits until the receiver is at its mark, and 200 ms more.
fn stand_still(pull: &Pull, mark: u64) {
    eventually(PATIENCE, "the PULL is at its mark", || pull.stats().unread >= mark);
    let since = Instant::now();
    eventually(PATIENCE, "it stands still", || since.elapsed() >= Duration::from_millis(200));
}

fn read_steadily(pull: &Pull, messages: u64, run: usize) {
    for expected in 0..messages {
        let message = match pull.recv_timeout(PATIENCE) {
            Ok(message) => message,
            Err(error) => panic!("run {run}: {error} at message {expected} of {messages}; {:?}", pull.stats()),
        };
        assert_eq!(number(&message), expected, "run {run}: in order");
        assert_eq!(message.byte_len(), body(expected).len(), "run {run}: whole");
        pause_now_and_then(expected);
    }
}

/// About a quarter of a million messages a second at most.
fn pause_now_and_then(number: u64) {
    if number % 512 == 0 {
        thread::sleep(Duration::from_millis(2));
    }
}

/// A numbered body of one to two hundred octets.
fn body(number: u64) -> Vec<u8> {
    let mut body = vec![number as u8; 8 + (number % 193) as usize];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body
}

fn number(message: &Message) -> u64 {
    let bytes = message.first().first_chunk::<8>().expect("a numbered message");
    u64::from_le_bytes(*bytes)
}

/// Sends, closes and ends.
pub(crate) fn pusher(arguments: &[&str]) {
    let [endpoint, messages, mark] = arguments else { panic!("endpoint, messages, mark") };
    let (messages, mark): (u64, u32) = (messages.parse().expect("a number"), mark.parse().expect("a number"));
    let push = Push::builder().send_mark(mark).send_byte_mark(0u64).build().expect("good options");
    push.connect(endpoint).expect("a good endpoint");
    for number in 0..messages {
        push.send(body(number)).expect("accepted");
    }
    push.close();
    child::tell("closed");
}

/// As [`pusher`].
pub(crate) fn dealer(arguments: &[&str]) {
    let [endpoint, messages] = arguments else { panic!("endpoint, messages") };
    let messages: u64 = messages.parse().expect("a number");
    let dealer = Dealer::builder().send_mark(0u32).send_byte_mark(0u64).build().expect("good options");
    dealer.connect(endpoint).expect("a good endpoint");
    for number in 0..messages {
        dealer.send(body(number)).expect("accepted");
    }
    dealer.close();
    child::tell("closed");
}
