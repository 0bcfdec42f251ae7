//! The fuzz targets for libFuzzer. What they do stands in `tests/mutator/targets.rs`, which the stable seeded mutator runs as well.

#[expect(dead_code, reason = "the tests that share it use all of it")]
#[path = "../../tests/simulation/random.rs"]
mod random;
#[path = "../../tests/mutator/targets.rs"]
mod targets;

/// Octets as the start of a stream.
pub fn greeting(data: &[u8]) {
    targets::greeting(data);
}

/// Octets as the traffic after a handshake.
pub fn frame(data: &[u8]) {
    targets::frame(data);
}

/// Octets as the body of a command, and as metadata.
pub fn command(data: &[u8]) {
    targets::command(data);
}

/// Octets as all that a peer sends.
pub fn connection(data: &[u8]) {
    targets::connection(data);
}
