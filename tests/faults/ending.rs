//! How a process ends, and what becomes of what it has sent, whoever still holds its sockets.

use crate::support::child::{self, Process};
use crate::support::{Nobody, Over, PATIENCE, alone, eventually, within};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use wiremesh::{Context, Pull, Push, RecvError};

const MESSAGES: u64 = 20_000;

/// Held by nobody who could drop it.
static STATIC: OnceLock<Push> = OnceLock::new();

#[test]
fn what_a_socket_in_a_static_has_sent_arrives_when_main_returns() {
    for over in Over::STREAMS {
        assert_eq!(arrivals(over, "static"), MESSAGES, "{over:?}");
    }
}

#[test]
fn what_was_sent_arrives_when_a_handler_of_ctrl_c_keeps_the_socket() {
    for how in ["handler", "closer"] {
        assert_eq!(arrivals(Over::Tcp, how), MESSAGES, "{how}");
    }
}

#[test]
fn what_was_sent_arrives_when_the_process_ends_by_exit() {
    for how in ["exit", "exit-elsewhere", "blocked-elsewhere"] {
        assert_eq!(arrivals(Over::Tcp, how), MESSAGES, "{how}");
    }
}

#[test]
fn what_was_sent_arrives_when_the_shared_context_was_shut_down_and_is_kept() {
    assert_eq!(arrivals(Over::Tcp, "shut-down"), MESSAGES);
}

#[test]
fn a_process_ends_within_its_patience_when_nobody_takes_what_was_sent() {
    let nobody = Nobody::new();
    let begin = Instant::now();
    let mut process = Process::start("ending", &[&nobody.endpoint, &"to-nobody"]);
    assert!(process.end_within(PATIENCE).success());
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(5), "it gave up after {took:?}");
}

#[test]
fn a_process_that_has_nothing_to_deliver_or_nobody_to_do_it_ends_at_once() {
    let _turn = alone();
    let nobody = Nobody::new();
    for how in ["silent", "exit-on-an-engine-thread", "exit-in-a-child"] {
        let begin = Instant::now();
        let mut process = Process::start("ending", &[&nobody.endpoint, &how]);
        let status = process.end_within(PATIENCE);
        let took = begin.elapsed();
        assert!(status.success(), "{how}: {status}");
        assert!(took < Duration::from_secs(4), "{how} took {took:?}");
    }
}

/// How many messages of a process that ends in that way arrive, which must be whole and in order.
fn arrivals(over: Over, how: &'static str) -> u64 {
    within(PATIENCE * 2, how, move || {
        let context = Context::new();
        let pull = Pull::in_context(&context);
        let endpoint = pull.bind(over.wildcard()).expect("bound");
        let mut sender = Process::start("ending", &[&endpoint, &how]);
        sender.hear();
        if how == "handler" || how == "closer" {
            sender.say("Ctrl-C");
        }
        let mut next = 0;
        loop {
            match pull.recv_timeout(Duration::from_millis(20)) {
                Ok(message) => {
                    let is_whole = message.first() == body(next);
                    assert!(is_whole, "{how} over {over:?}: message {next} is whole and in order");
                    next += 1;
                    if next % 1000 == 0 {
                        // The receiver takes its time, so that most of it is still with the sender when that ends.
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                Err(RecvError::TimedOut) if !sender.is_alive() && pull.stats().connections == 0 => return next,
                Err(RecvError::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
        }
    })
}

/// A message of 1,000 octets, so that the kernel's buffers hold few of them.
fn body(number: u64) -> Vec<u8> {
    let mut body = vec![number as u8; 1000];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body
}

/// Sends and ends.
pub(crate) fn role(arguments: &[&str]) {
    let [endpoint, how] = arguments else { panic!("endpoint, how") };
    let push = Push::builder().send_mark(0).build().expect("good options");
    push.connect(endpoint).expect("a good endpoint");
    let messages = match *how {
        "silent" => 0,
        "to-nobody" | "exit-on-an-engine-thread" | "exit-in-a-child" => 3,
        _ => MESSAGES,
    };
    for number in 0..messages {
        push.send(body(number)).expect("accepted");
    }
    child::tell("sent");
    match *how {
        "static" | "silent" | "to-nobody" => assert!(STATIC.set(push).is_ok()),
        "exit" => std::process::exit(0),
        "exit-elsewhere" => {
            let push = Arc::new(push);
            let kept = Arc::clone(&push);
            let ends = std::thread::spawn(move || {
                let _kept = kept;
                std::process::exit(0);
            });
            let _ = ends.join();
        }
        "blocked-elsewhere" => {
            let pull = Pull::new();
            pull.bind("tcp://127.0.0.1:*").expect("bound");
            std::thread::spawn(move || {
                let _ = pull.recv();
                loop {
                    std::thread::park();
                }
            });
            std::process::exit(0);
        }
        "shut-down" => {
            Context::shared().shutdown();
            assert!(STATIC.set(push).is_ok());
            assert!(!Context::shared().is_closed(), "another shared context takes its place");
        }
        "handler" => {
            let push = Arc::new(push);
            let kept = Arc::clone(&push);
            on_ctrl_c(move || kept.close());
            eventually(PATIENCE, "the handler closes the socket", || push.is_closed());
        }
        "closer" => {
            let closer = push.closer();
            on_ctrl_c(move || closer.close());
            eventually(PATIENCE, "the handler closes the socket", || push.is_closed());
        }
        "exit-on-an-engine-thread" => exits::on_an_engine_thread(&push),
        "exit-in-a-child" => exit_in_a_child(),
        _ => unreachable!("an unknown way to end"),
    }
}

/// What the crate `ctrlc` does: a thread that keeps the handler and runs it at each signal, here at a line.
fn on_ctrl_c(handler: impl Fn() + Send + 'static) {
    std::thread::spawn(move || {
        if child::listen().is_some() {
            handler();
        }
        loop {
            std::thread::park();
        }
    });
}

fn exit_in_a_child() -> ! {
    let begin = Instant::now();
    // SAFETY: the child makes no call but `exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends the child, with its exit handlers.
        unsafe { libc::exit(0) };
    }
    let mut status = 0;
    // SAFETY: `status` is a live integer and `child` is our own child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    let in_order = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
    let at_once = begin.elapsed() < Duration::from_secs(3);
    // SAFETY: ends the parent without its exit handlers, which would wait.
    unsafe { libc::_exit(i32::from(!(in_order && at_once))) };
}

/// A registered transport whose code runs on an engine thread, and ends the process there.
mod exits {
    use std::io;
    use std::sync::Arc;
    use wiremesh::Push;
    use wiremesh::transports::{AddressError, LinkOptions, Listener, Purpose, Stream, Transport};

    struct Exits;

    impl Transport for Exits {
        fn scheme(&self) -> &str {
            "exits"
        }

        fn check(&self, _: &str, _: Purpose) -> Result<(), AddressError> {
            Ok(())
        }

        fn resolve(&self, address: &str, _: &LinkOptions) -> io::Result<Vec<String>> {
            Ok(vec![address.to_owned()])
        }

        fn resolve_now(&self, address: &str) -> Option<Vec<String>> {
            Some(vec![address.to_owned()])
        }

        fn bind(&self, _: &str, _: &LinkOptions) -> io::Result<Box<dyn Listener>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn connect(&self, _: &str, _: &LinkOptions) -> io::Result<Box<dyn Stream>> {
            std::process::exit(0);
        }
    }

    pub(super) fn on_an_engine_thread(push: &Push) -> ! {
        push.context().register_transport(Arc::new(Exits)).expect("a new scheme");
        let other = Push::new();
        other.connect("exits://now").expect("a good endpoint");
        loop {
            std::thread::park();
        }
    }
}
