//! A client that does not hang when its server does: requests with a time limit and retries (the lazy-pirate pattern).
//!
//! Shows: a server that swallows the first request and answers the next; that the client's socket is good for another
//! request after it gave up; and what the error says when nobody ever answers.
//!
//! Run it with `cargo run --example lazy_pirate`.

use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Rep, Req, Router};

const PATIENCE: Duration = Duration::from_millis(200);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A ROUTER, because a REP has to answer each request before it can receive another.
    let server = Router::new();
    let endpoint = server.bind("tcp://127.0.0.1:*")?;
    let client = Req::new();
    client.connect(&endpoint)?;

    thread::scope(|threads| {
        let serving = threads.spawn(|| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            let (_, swallowed) = server.recv()?;
            println!("server: swallows {swallowed:?}");
            let (id, request) = server.recv()?;
            println!("server: answers {request:?}");
            // The request still has its envelope, so sending it back is an answer.
            Ok(server.send_to(id, request)?)
        });
        let answer = client.request_with_retries("are you there?", PATIENCE, 3)?;
        println!("client: heard {answer:?}");
        assert_eq!(answer, "are you there?");
        serving.join().expect("the server does not panic").map_err(|error| error.to_string())?;
        Ok::<(), Box<dyn std::error::Error>>(())
    })?;
    drop(server);

    let start = Instant::now();
    let error = client.request_with_retries("and now?", PATIENCE, 1).expect_err("nobody is there");
    println!("client: gave up after {} ms: {error}", start.elapsed().as_millis());
    assert!(error.is_timed_out());

    // Another server takes over at the same address; the client needs no care.
    let successor = Rep::new();
    successor.bind(&endpoint)?;
    thread::scope(|threads| {
        threads.spawn(|| successor.recv().map(|request| successor.send(request).expect("it was just asked")));
        assert_eq!(client.request("hello again", Duration::from_secs(10))?, "hello again");
        println!("client: heard from the successor");
        Ok(())
    })
}
