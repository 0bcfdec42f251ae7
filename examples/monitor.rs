//! Watching the life of connections: a monitor tells what happens to a socket's endpoints, and why.
//!
//! Shows: a client that is there before its server, a handshake, a server that goes away and comes back, and the
//! counters of the client, which kept what could not be sent meanwhile.
//!
//! Run it with `cargo run --example monitor`.

use std::time::Duration;
use wiremesh::{EventKind, Monitor, Pull, Push};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A port that is free now, for a server that starts later.
    let endpoint = Pull::new().bind("tcp://127.0.0.1:*")?;

    let client = Push::builder().reconnect_interval(Duration::from_millis(10)).build()?;
    let events = client.monitor();
    client.connect(&endpoint)?;
    client.send("first")?;
    wait_for(&events, |event| matches!(event, EventKind::ConnectRetried(_)));

    let server = Pull::new();
    server.bind(&endpoint)?;
    wait_for(&events, |event| matches!(event, EventKind::HandshakeSucceeded));
    assert_eq!(server.recv()?, "first");

    drop(server);
    wait_for(&events, |event| matches!(event, EventKind::Disconnected(_)));
    client.send("second")?;

    let server = Pull::new();
    server.bind(&endpoint)?;
    assert_eq!(server.recv()?, "second");

    client.flush(Duration::from_secs(5))?;
    let stats = client.stats();
    println!("written {} messages, connected again {} times", stats.written, stats.reconnects);
    assert_eq!((stats.written, stats.dropped.total()), (2, 0));

    client.close();
    wait_for(&events, |event| matches!(event, EventKind::MonitorStopped));
    Ok(())
}

/// Prints events until the wanted one has come.
fn wait_for(events: &Monitor, wanted: impl Fn(&EventKind) -> bool) {
    while let Some(event) = events.recv_timeout(Duration::from_secs(5)) {
        println!("{event}");
        if wanted(&event.kind) {
            return;
        }
    }
    panic!("the event did not come");
}
