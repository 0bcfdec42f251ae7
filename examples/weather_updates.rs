//! A weather station publishes, listeners hear what they subscribed to: PUB and SUB.
//!
//! Shows: topics are prefixes of the message; a publisher that waits for its subscribers loses nothing on them, so
//! nobody sleeps before the first publish; one publisher serves several listeners.
//!
//! Run it with `cargo run --example weather_updates`.

use std::time::Duration;
use wiremesh::{Endpoint, Pub, RecvError, Sub};

/// Place and degrees, as the station measured them.
const MEASURED: [(&str, i32); 6] = [("rome", 24), ("oslo", 3), ("rome", 26), ("lima", 19), ("oslo", 5), ("rome", 25)];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let station = Pub::new();
    let endpoint = station.bind("tcp://127.0.0.1:*")?;

    let rome = listener("weather.rome", &endpoint)?;
    let everywhere = listener("weather.", &endpoint)?;
    station.wait_for_subscribers(2, Duration::from_secs(5))?;

    for (place, degrees) in MEASURED {
        station.send(format!("weather.{place} {degrees}"))?;
    }
    station.send("sports: nobody listens to this")?;

    let heard = average(&rome, 3)?;
    println!("Rome: {heard} degrees on average");
    assert_eq!(heard, (24 + 26 + 25) / 3);

    let heard = average(&everywhere, MEASURED.len())?;
    println!("everywhere: {heard} degrees on average");
    assert_eq!(heard, 17);

    assert_eq!(everywhere.try_recv().unwrap_err(), RecvError::WouldBlock, "nobody asked for sports");
    Ok(())
}

/// Subscribes before it connects: then the subscription is the first thing the station hears of it.
fn listener(topic: &str, endpoint: &Endpoint) -> Result<Sub, wiremesh::Error> {
    let listener = Sub::new();
    listener.subscribe(topic)?;
    listener.connect(endpoint)?;
    Ok(listener)
}

fn average(listener: &Sub, messages: usize) -> Result<i32, Box<dyn std::error::Error>> {
    let mut sum = 0;
    for _ in 0..messages {
        let update = listener.recv_timeout(Duration::from_secs(5))?;
        sum += update.to_str()?.rsplit(' ').next().ok_or("an update ends in degrees")?.parse::<i32>()?;
    }
    Ok(sum / i32::try_from(messages)?)
}
