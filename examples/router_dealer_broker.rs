//! A broker between clients and services that do not know each other: ROUTER in front, DEALER behind.
//!
//! Shows: ROUTER tells which client asked, and DEALER carries that along as the first frame, so the answer finds its
//! way back; sockets may be shared, so each direction has a thread of its own and nobody has to poll.
//!
//! Run it with `cargo run --example router_dealer_broker`.

use std::thread;
use std::time::Duration;
use wiremesh::{Context, Dealer, Rep, Req, Router};

const CLIENTS: usize = 4;
const QUESTIONS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let context = Context::new();
    let (front, back) = (Router::in_context(&context), Dealer::in_context(&context));
    let (for_clients, for_services) = (front.bind("tcp://127.0.0.1:*")?, back.bind("tcp://127.0.0.1:*")?);
    let services = [Rep::in_context(&context), Rep::in_context(&context)];
    for service in &services {
        service.connect(&for_services)?;
    }
    back.wait_for_peers(services.len(), PATIENCE)?;

    // A service sends its questions back, and says how many.
    let echo = |service: Rep| std::iter::from_fn(|| service.send(service.recv().ok()?).ok()).count();
    thread::scope(|threads| {
        threads.spawn(|| {
            while let Ok((client, mut question)) = front.recv() {
                question.push_front(client);
                back.send(question).expect("services are there");
            }
        });
        threads.spawn(|| {
            while let Ok(mut answer) = back.recv() {
                let client = answer.pop_front().expect("a service keeps the envelope");
                front.send_to(client, answer).expect("a router drops what it cannot send");
            }
        });
        let serving = services.map(|service| threads.spawn(move || echo(service)));
        let clients = [(); CLIENTS].map(|()| threads.spawn(|| ask(&Req::in_context(&context), for_clients.as_ref())));

        let had: usize = clients.map(|client| client.join().expect("a client does not panic")).iter().sum();
        context.shutdown();
        let gave = serving.map(|service| service.join().expect("a service does not panic"));
        println!("{CLIENTS} clients had {had} answers; the services gave {gave:?}");
        assert_eq!((had, gave.iter().sum()), (CLIENTS * QUESTIONS, CLIENTS * QUESTIONS));
    });
    Ok(())
}

/// Says how many answers were right.
fn ask(client: &Req, endpoint: &str) -> usize {
    client.connect(endpoint).expect("the endpoint is good");
    let right = |question: &String| client.request(question, PATIENCE).is_ok_and(|answer| answer == *question);
    (0..QUESTIONS).map(|number| format!("question {number}")).filter(right).count()
}
