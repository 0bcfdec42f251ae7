//! Calls within the end of a thread: its thread-locals go one after the other, and those of the library may be gone
//! when one of the application's uses a socket.

use crate::support::child::{self, Process};
use crate::support::{Over, PATIENCE};
use std::cell::RefCell;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use wiremesh::{Context, Dealer, Pull, Push, RecvError, Rep, Req, SendFailure};

/// Does something when it goes.
struct Late(Option<Box<dyn FnOnce()>>);

impl Drop for Late {
    fn drop(&mut self) {
        if let Some(deed) = self.0.take() {
            deed();
        }
    }
}

thread_local! {
    static LATE: RefCell<Late> = const { RefCell::new(Late(None)) };
}

/// What `deed` comes to when a thread ends that waited in calls of sockets before, over inproc and over tcp.
fn late<T: Send + 'static>(deed: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = channel();
    let ends = thread::spawn(move || {
        // Made first, it goes last.
        LATE.with_borrow_mut(|late| late.0 = Some(Box::new(move || drop(tell.send(deed())))));
        let pull = Pull::in_context(&Context::new());
        assert_eq!(pull.recv_timeout(SHORT), Err(RecvError::TimedOut));
        pull.bind("tcp://127.0.0.1:*").expect("a port");
        assert_eq!(pull.recv_timeout(SHORT), Err(RecvError::TimedOut));
    });
    ends.join().expect("no panic");
    told.recv_timeout(PATIENCE).expect("it is done")
}

const SHORT: Duration = Duration::from_millis(1);

#[test]
fn sockets_are_used_within_the_end_of_a_thread_as_anywhere_else() {
    let mut child = Process::start("late", &[]);
    let done = std::iter::from_fn(|| child.try_hear(PATIENCE)).take_while(|line| line != "done").collect::<Vec<_>>();
    // A panic within the end of a thread ends the process.
    let status = child.end_within(PATIENCE);
    assert!(status.success(), "{status} after {done:?}");
    assert_eq!(done, ["receive", "send", "Tcp", "Ipc", "Inproc", "wait for peers", "close"]);
}

pub(crate) fn role() {
    late(|| {
        let pull = Pull::in_context(&Context::new());
        assert_eq!(pull.recv_timeout(SHORT), Err(RecvError::TimedOut));
    });
    child::tell("receive");
    late(|| {
        let push = Push::in_context(&Context::new());
        assert_eq!(push.send_timeout("x", SHORT).expect_err("no peer").reason, SendFailure::TimedOut);
    });
    child::tell("send");
    for over in Over::ALL {
        late(move || {
            let context = Context::new();
            let (req, rep) = (Req::in_context(&context), Rep::in_context(&context));
            req.connect(rep.bind(over.wildcard()).expect("bound")).expect("a good endpoint");
            let answers = thread::spawn(move || {
                let request = rep.recv_timeout(PATIENCE).expect("a request");
                rep.send(request).expect("its sender waits");
            });
            assert_eq!(req.request(vec![1; 100_000], PATIENCE).expect("an answer").byte_len(), 100_000);
            answers.join().expect("no panic");
        });
        child::tell(format!("{over:?}"));
    }
    late(|| {
        let dealer = Dealer::in_context(&Context::new());
        assert!(dealer.wait_for_peers(1, SHORT).is_err());
    });
    child::tell("wait for peers");
    late(|| {
        let context = Context::new();
        let (push, pull) = (Push::in_context(&context), Pull::in_context(&Context::new()));
        push.connect(pull.bind("tcp://127.0.0.1:*").expect("bound")).expect("a good endpoint");
        push.send("x").expect("there is room");
        assert_eq!(context.close(PATIENCE).messages, 0);
        assert_eq!(pull.recv_timeout(PATIENCE).expect("it is delivered"), "x");
    });
    child::tell("close");
    child::tell("done");
}
