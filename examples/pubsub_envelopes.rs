//! Topics in a frame of their own: a publisher that wraps its messages in envelopes.
//!
//! Shows: a message has one or more frames and arrives whole; subscriptions look at the first frame alone, so the body
//! can be anything and needs no parsing to be filtered.
//!
//! Run it with `cargo run --example pubsub_envelopes`.

use std::time::Duration;
use wiremesh::{Context, Message, Pub, Sub};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let context = Context::new();
    let publisher = Pub::in_context(&context);
    let subscriber = Sub::in_context(&context);
    publisher.bind("inproc://news")?;
    subscriber.subscribe("B")?;
    subscriber.connect("inproc://news")?;
    publisher.wait_for_subscribers(1, Duration::from_secs(5))?;

    for number in 1..=3 {
        // An array is a message of several frames; `push_back` builds one step by step.
        publisher.send(["A", "nobody wants this"])?;
        let mut wanted = Message::from("B");
        wanted.push_back("sender 7");
        wanted.push_back(format!("number {number}"));
        publisher.send(wanted)?;
    }

    for number in 1..=3 {
        let mut message = subscriber.recv_timeout(Duration::from_secs(5))?;
        println!("{} frames: {message:?}", message.len());
        let topic = message.pop_front().ok_or("an envelope has several frames")?;
        assert_eq!(topic, "B");
        // What is left is still a message.
        assert_eq!(message, Message::from(["sender 7", &format!("number {number}")]));
    }
    println!("only the topic B arrived");
    Ok(())
}
