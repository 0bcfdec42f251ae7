//! Octets that nobody can guess and no other process has.

/// Sixteen random octets from the system, so that a forked child does not repeat its parent's.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn random_octets() -> [u8; 16] {
    let mut octets = [0; 16];
    // SAFETY: the pointer and the length describe `octets`, which the call only writes to. A request this short is not
    // cut.
    let got = unsafe { libc::getrandom(octets.as_mut_ptr().cast(), octets.len(), libc::GRND_NONBLOCK) };
    if usize::try_from(got).is_ok_and(|got| got == octets.len()) { octets } else { hashed_octets() }
}

/// Sixteen random octets from the system, so that a forked child does not repeat its parent's.
#[cfg(any(target_vendor = "apple", target_os = "freebsd", target_os = "openbsd", target_os = "netbsd"))]
pub fn random_octets() -> [u8; 16] {
    let mut octets = [0; 16];
    // SAFETY: the pointer and the length describe `octets`, which the call only writes to.
    let got = unsafe { libc::getentropy(octets.as_mut_ptr().cast(), octets.len()) };
    if got == 0 { octets } else { hashed_octets() }
}

/// Sixteen random octets.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "openbsd",
    target_os = "netbsd"
)))]
pub fn random_octets() -> [u8; 16] {
    hashed_octets()
}

/// The next best: hashes under the standard library's random keys, which a forked child shares and its process id tells
/// apart.
fn hashed_octets() -> [u8; 16] {
    use std::hash::BuildHasher;
    let keys = std::collections::hash_map::RandomState::new();
    let now = std::time::SystemTime::now();
    let half = |number: u8| keys.hash_one((number, std::process::id(), now));
    (u128::from(half(0)) << 64 | u128::from(half(1))).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_the_same() {
        for draw in [random_octets, hashed_octets] {
            let mut drawn: Vec<_> = (0..1000).map(|_| draw()).collect();
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn.len(), 1000);
        }
    }
}
