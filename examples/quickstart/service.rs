//! Part 2: clients ask, servers answer.
//!
//! A server is a ROUTER in front, bound to tcp, ipc and inproc, and workers behind a DEALER, joined by inproc. Each
//! client is connected with all servers over one transport and its requests go to them in turn; one more client is a
//! thread inside each server's process. Nobody knows the answers before they are asked for, but everybody can check
//! them.

use crate::cast::Cast;
use crate::figures::{agree, listed, spread, times_from_bytes, times_to_bytes};
use crate::role::{Role, number, text};
use crate::{Outcome, Size};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::{Context, Dealer, Rep, Req, Router};

const SERVERS: usize = 2;
const CLIENTS: usize = 4;
const WORKERS: usize = 2;
const TRANSPORTS: [&str; 3] = ["tcp", "ipc", "inproc"];
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn conduct(cast: &mut Cast, size: &Size) -> Outcome<usize> {
    let requests = size.requests.to_string();
    let servers = (0..SERVERS).map(|number| cast.start("server", number, [&requests])).collect::<Outcome<Vec<_>>>()?;
    let mut endpoints = [const { Vec::new() }; 2];
    for server in &servers {
        let bound = cast.hear(server, "bound")?;
        for (list, endpoint) in endpoints.iter_mut().zip(bound.iter()) {
            list.push(text(Some(endpoint))?.to_owned());
        }
    }
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let over = client % endpoints.len();
        let arguments = std::iter::once(&requests).chain(&endpoints[over]);
        clients.push((cast.start("client", client, arguments)?, over));
    }
    clients.extend(servers.iter().map(|server| (server.clone(), 2)));

    // One of each transport alone, then all at once.
    let mut answered = 0;
    for (over, transport) in TRANSPORTS.into_iter().enumerate() {
        let alone = clients.iter().find(|client| client.1 == over).into_iter();
        let times = &mut time(cast, alone)?[over];
        println!("   round trips over {transport}, one client alone: {}", spread(times));
        answered += times.len();
    }
    for (transport, times) in TRANSPORTS.into_iter().zip(&mut time(cast, clients.iter())?) {
        println!("   round trips over {transport}, {} clients at once: {}", clients.len(), spread(times));
        answered += times.len();
    }

    cast.dismiss()?;
    let mut served = 0;
    for server in &servers {
        let report = cast.hear(server, "served")?;
        println!("   the workers of {server} answered {} requests", listed(&report));
        for share in report.iter() {
            served += number::<u64>(Some(share))?;
        }
    }
    cast.leave_stage()?;
    let asked = (TRANSPORTS.len() + clients.len()) as u64 * size.requests;
    Ok(agree("right answers received", answered as u64, asked)? + agree("requests served", served, asked)?)
}

/// Has clients ask all at once; how long it took, by transport.
fn time<'c>(
    cast: &mut Cast,
    clients: impl Iterator<Item = &'c (String, usize)> + Clone,
) -> Outcome<[Vec<Duration>; TRANSPORTS.len()]> {
    for (client, _) in clients.clone() {
        cast.tell(client, "ask")?;
    }
    let mut times = [const { Vec::new() }; TRANSPORTS.len()];
    for (client, over) in clients {
        times[*over].extend(times_from_bytes(cast.hear(client, "answered")?.first()));
    }
    Ok(times)
}

/// The role of a server, with one client inside.
pub(crate) fn serve(role: &mut Role) -> Outcome {
    let requests = role.number()?;
    let (front, back) = (Router::in_context(&role.context), Dealer::in_context(&role.context));
    let endpoints = role.bind(&front, "service")?;
    front.bind("inproc://service")?;
    back.bind("inproc://workers")?;

    let served = thread::scope(|threads| -> Outcome<Vec<String>> {
        let workers = [(); WORKERS].map(|()| threads.spawn(|| answer_all(&role.context)));
        threads.spawn(|| forward(&front, &back));
        threads.spawn(|| back_again(&back, &front));
        // Whatever happens, the threads are let go.
        let asked = back.wait_for_peers(WORKERS, PATIENCE).map_err(Into::into).and_then(|()| {
            role.report("bound", endpoints.iter().map(|endpoint| endpoint.as_str()))?;
            ask_when_told(role, requests, ["inproc://service"])
        });
        role.context.shutdown();
        asked?;
        workers.into_iter().map(|worker| Ok(worker.join().map_err(|_| "a worker panicked")??.to_string())).collect()
    })?;
    role.report("served", served)
}

/// Questions go to the workers in turn, each behind the routing id of who asked.
fn forward(front: &Router, back: &Dealer) {
    while let Ok((client, mut question)) = front.recv() {
        question.push_front(client);
        if back.send(question).is_err() {
            return;
        }
    }
}

/// Answers go to who asked.
fn back_again(back: &Dealer, front: &Router) {
    while let Ok(mut answer) = back.recv() {
        let Some(client) = answer.pop_front() else { continue };
        if front.send_to(client, answer).is_err() {
            return;
        }
    }
}

/// One worker: answers until the context is shut down, and says how often.
fn answer_all(context: &Context) -> Outcome<u64> {
    let worker = Rep::in_context(context);
    worker.connect("inproc://workers")?;
    let mut answered = 0;
    for question in &worker {
        worker.send(answer(number(Some(question?.first()))?).to_string())?;
        answered += 1;
    }
    Ok(answered)
}

/// The role of a client.
pub(crate) fn ask(role: &mut Role) -> Outcome {
    let requests = role.number()?;
    let servers = role.rest().into_iter().map(|server| server.into_string().unwrap_or_default()).collect::<Vec<_>>();
    ask_when_told(role, requests, &servers)
}

/// Asks so many times whenever told to, until the part is over; reports how long each answer took.
fn ask_when_told(role: &Role, requests: u64, servers: impl IntoIterator<Item = impl AsRef<str>>) -> Outcome {
    let client = Req::in_context(&role.context);
    for server in servers {
        client.connect(server)?;
    }
    client.wait_for_peers(client.connected().len(), PATIENCE)?;
    while role.hear()? == "ask" {
        let times = (1..=requests).map(|question| ask_one(&client, question)).collect::<Outcome<Vec<_>>>()?;
        role.report("answered", [times_to_bytes(&times)])?;
    }
    Ok(())
}

/// Asks, checks the answer, and says how long it took.
fn ask_one(client: &Req, question: u64) -> Outcome<Duration> {
    let start = Instant::now();
    let heard = client.request(question.to_string(), PATIENCE)?;
    let took = start.elapsed();
    match number::<u64>(Some(heard.first()))? {
        right if right == answer(question) => Ok(took),
        wrong => Err(format!("{wrong} is not the answer to {question}").into()),
    }
}

/// What the service knows: after how many steps a number comes down to 1, halved when it is even, tripled plus one when
/// odd.
fn answer(mut number: u64) -> u64 {
    let mut steps = 0;
    while number > 1 {
        number = if number % 2 == 0 { number / 2 } else { 3 * number + 1 };
        steps += 1;
    }
    steps
}
