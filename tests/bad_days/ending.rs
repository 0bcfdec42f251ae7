//! How a process may end, and what becomes of what it has sent.

use crate::support::child::{self, Process};
use crate::support::{Over, PATIENCE, alone, within};
use std::time::Duration;
use wiremesh::{Context, Event, EventKind, Message, Pull, Push, RecvError};

const MESSAGES: u64 = 10_000;

#[test]
fn what_main_has_sent_before_it_returns_is_delivered() {
    let _turn = alone();
    for over in Over::STREAMS {
        for how in ["return", "return-early", "unwind", "own-context"] {
            assert_eq!(count(over, how).0, MESSAGES, "{how} over {over:?}");
        }
    }
}

/// `abort` runs nothing: what is not written yet is lost, and what arrives is in order and whole.
#[test]
fn what_is_not_written_at_an_abort_is_lost_and_nothing_else() {
    let _turn = alone();
    for over in Over::STREAMS {
        let (arrived, written) = count(over, "abort");
        println!("abort over {over:?}: {arrived} of {MESSAGES} arrive, {written} were written");
        assert!(arrived >= written, "abort over {over:?}: {arrived} of {written} written messages arrive");
    }
}

/// `exit` runs no destructors, nor does a return from `main` drop what another thread holds.
#[test]
fn what_was_sent_before_an_exit_is_delivered_in_the_shared_context_and_by_hand() {
    let _turn = alone();
    for over in Over::STREAMS {
        for how in ["exit", "held-elsewhere", "flush-and-exit", "close-and-exit"] {
            assert_eq!(count(over, how).0, MESSAGES, "{how} over {over:?}");
        }
    }
}

/// How many messages of a process that ends in that way arrive, which must be in order and whole, and how many it last
/// knew to be written.
fn count(over: Over, how: &'static str) -> (u64, u64) {
    within(PATIENCE * 2, how, move || {
        let context = Context::new();
        let pull = Pull::in_context(&context);
        let monitor = pull.monitor();
        let endpoint = pull.bind(over.wildcard()).expect("bound");
        let mut sender = Process::start("ending", &[&endpoint, &how]);
        let mut next = 0;
        let mut is_gone = false;
        // Until its connection is gone and a look after that finds nothing.
        loop {
            match pull.recv_timeout(Duration::from_millis(20)) {
                Ok(message) => {
                    assert_eq!(number(&message), next, "{how} over {over:?}: in order");
                    assert!(message == body(next), "{how} over {over:?}: message {next} is whole");
                    next += 1;
                }
                Err(RecvError::TimedOut) if is_gone => break,
                Err(RecvError::TimedOut) => {
                    let is_loss = |event: Event| matches!(event.kind, EventKind::Disconnected(_));
                    is_gone = std::iter::from_fn(|| monitor.try_recv()).any(is_loss);
                }
                Err(error) => panic!("{error}"),
            }
        }
        (next, sender.hear().parse().expect("a number"))
    })
}

/// A message of 8 to 207 octets.
fn body(number: u64) -> Vec<u8> {
    let mut body = vec![number as u8; 8 + (number % 200) as usize];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body
}

fn number(message: &Message) -> u64 {
    u64::from_le_bytes(*message.first().first_chunk::<8>().expect("a numbered message"))
}

/// Sends and ends.
pub(crate) fn role(arguments: &[&str]) {
    let [endpoint, how] = arguments else { panic!("endpoint, how") };
    let context = if *how == "own-context" || *how == "close-and-exit" { Context::new() } else { Context::shared() };
    let push = Push::in_context(&context);
    push.connect(endpoint).expect("a good endpoint");
    if matches!(*how, "exit" | "abort" | "held-elsewhere") {
        // Else it would be over before it has begun.
        push.wait_for_peers(1, PATIENCE).expect("the PULL is there");
    }
    for number in 0..MESSAGES {
        push.send(body(number)).expect("accepted");
    }
    child::tell(push.stats().written);
    match *how {
        "return" | "own-context" => {}
        // The context's other handle goes first; the socket is the last.
        "return-early" => drop(context),
        "unwind" => {
            // What a panic in `main` does: everything is dropped on the way out.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                let _mine = (push, context);
                std::panic::resume_unwind(Box::new("on purpose"));
            }));
            assert!(outcome.is_err());
        }
        "held-elsewhere" => {
            std::thread::spawn(move || {
                let _mine = (push, context);
                loop {
                    std::thread::park();
                }
            });
        }
        "exit" => std::process::exit(0),
        "abort" => std::process::abort(),
        "flush-and-exit" => {
            push.flush(PATIENCE).expect("the PULL reads");
            std::process::exit(0);
        }
        _ => {
            let unsent = context.close(PATIENCE);
            assert_eq!(unsent.messages, 0);
            std::process::exit(0);
        }
    }
}
