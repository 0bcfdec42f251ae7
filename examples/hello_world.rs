//! A client asks, a server answers: REQ and REP, the smallest of all conversations.
//!
//! Shows: binding a free port and learning which one it became, whole exchanges with [`Req::request`], which has its
//! own time limit, and that a server's loop ends when its socket is closed.
//!
//! Run it with `cargo run --example hello_world`.

use std::time::Duration;
use wiremesh::{Rep, Req};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Rep::new();
    let endpoint = server.bind("tcp://127.0.0.1:*")?;
    println!("server: at {endpoint}");

    std::thread::scope(|threads| {
        let serving = threads.spawn(|| serve(&server));
        let asked = ask(endpoint.as_ref());
        // Ends the server's loop: a blocked `recv` returns `Closed`.
        server.close();
        println!("server: answered {} questions", serving.join().expect("the server does not panic"));
        asked
    })
}

/// Answers until the socket is closed, and says how often.
fn serve(server: &Rep) -> usize {
    let mut answered = 0;
    while let Ok(question) = server.recv() {
        let text = question.to_str().unwrap_or("something that is not text");
        println!("server: asked {text:?}");
        if server.send(format!("{text} World")).is_err() {
            break;
        }
        answered += 1;
    }
    answered
}

fn ask(endpoint: &str) -> Result<(), Box<dyn std::error::Error>> {
    let client = Req::new();
    client.connect(endpoint)?;
    for greeting in ["Hello", "Good morning", "Good night"] {
        let answer = client.request(greeting, Duration::from_secs(5))?;
        println!("client: {greeting:?} was answered with {:?}", answer.to_str()?);
        assert_eq!(answer, format!("{greeting} World"));
    }
    Ok(())
}
