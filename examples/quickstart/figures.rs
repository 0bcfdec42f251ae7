//! Comparing and printing.

use crate::Outcome;
use std::time::Duration;
use wiremesh::Message;

/// Compares a total with the one counted without wiremesh, and says that they agree. Returns 1, the number of totals
/// compared.
pub(crate) fn agree(what: &str, exchanged: u64, counted: u64) -> Outcome<usize> {
    if exchanged != counted {
        let (exchanged, counted) = (grouped(exchanged), grouped(counted));
        return Err(format!("{what}: {exchanged} over wiremesh, but {counted} counted without it").into());
    }
    println!("   {what}: {}, as counted without wiremesh", grouped(exchanged));
    Ok(1)
}

/// So many in such a time, as a rate.
pub(crate) fn rate(count: u64, took: Duration, unit: &str) -> String {
    let rate = count as f64 / took.as_secs_f64().max(1e-9);
    format!("{} {unit}/s", grouped(rate as u64))
}

/// Median and 99th percentile of round-trip times, which get sorted.
pub(crate) fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default().as_secs_f64() * 1e6;
    format!("median {:.1} µs, 99th percentile {:.1} µs", at(50), at(99))
}

/// A number with commas.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A message of numbers as text.
pub(crate) fn listed(message: &Message) -> String {
    message.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(" and ")
}

/// Round-trip times as octets, to be sent.
pub(crate) fn times_to_bytes(times: &[Duration]) -> Vec<u8> {
    times.iter().flat_map(|time| u32::try_from(time.as_nanos()).unwrap_or(u32::MAX).to_le_bytes()).collect()
}

/// And back.
pub(crate) fn times_from_bytes(octets: &[u8]) -> Vec<Duration> {
    octets
        .chunks_exact(4)
        .filter_map(|time| time.try_into().ok())
        .map(|time| Duration::from_nanos(u32::from_le_bytes(time).into()))
        .collect()
}
