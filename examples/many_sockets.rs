//! Receiving from many sockets at once.
//!
//! Shows: one socket may have many endpoints of mixed transports, which is all that most programs need; a thread for
//! each socket, with a channel where the messages meet; and turns of `try_recv` in a loop that has other work too.
//!
//! Run it with `cargo run --example many_sockets`.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Context, Message, Pub, Pull, Push, RecvError, Sub};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let context = Context::new();
    let (tasks, news) = (Pull::in_context(&context), Sub::in_context(&context));
    let (near, far) = (Push::in_context(&context), Push::in_context(&context));
    let publisher = Pub::in_context(&context);

    near.connect(tasks.bind("inproc://tasks")?)?;
    far.connect(tasks.bind("tcp://127.0.0.1:*")?)?;
    news.subscribe("")?;
    news.connect(publisher.bind("tcp://127.0.0.1:*")?)?;
    publisher.wait_for_subscribers(1, Duration::from_secs(5))?;

    let send_some = || {
        near.send("a task from nearby").and(far.send("a task from afar")).expect("both are connected");
        publisher.send("some news").expect("a publisher never waits");
    };

    send_some();
    let (heard, inbox) = mpsc::channel();
    thread::scope(|threads| {
        threads.spawn(|| tasks.iter().take(2).for_each(|task| heard.send(task).expect("the inbox is open")));
        threads.spawn(|| news.iter().take(1).for_each(|item| heard.send(item).expect("the inbox is open")));
        let received = inbox.iter().take(3).collect::<Result<_, _>>();
        check("one thread per socket", received.expect("nobody closes the sockets"));
    });

    send_some();
    let mut received = Vec::new();
    let patience = Instant::now() + Duration::from_secs(5);
    while received.len() < 3 && Instant::now() < patience {
        for message in [tasks.try_recv(), news.try_recv()] {
            match message {
                Ok(message) => received.push(message),
                Err(RecvError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(error.into()),
            }
        }
    }
    check("taking turns", received);
    Ok(())
}

fn check(how: &str, mut messages: Vec<Message>) {
    messages.sort_by(|left, right| left.first().cmp(right.first()));
    println!("{how}: {messages:?}");
    assert_eq!(messages, ["a task from afar", "a task from nearby", "some news"]);
}
