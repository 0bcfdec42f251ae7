//! Peers that close the connection after our greeting without having sent an octet. Port scans and health checks do
//! that once. A peer that does it twice in a row probably speaks only ZMTP 1.0 or 2.0, and the event says so.

/// How often in a row the same host closed a connection of one endpoint without having sent an octet.
#[derive(Default)]
pub(crate) struct Unheard {
    host: String,
    times: u32,
}

impl Unheard {
    /// A peer at `address` closed without a word; returns how often in a row.
    pub(crate) fn note(&mut self, address: &str) -> u32 {
        let host = host(address);
        if self.host != host {
            *self = Unheard { host: host.to_owned(), times: 0 };
        }
        self.times = self.times.saturating_add(1);
        self.times
    }

    /// A peer at `address` spoke.
    pub(crate) fn forget(&mut self, address: &str) {
        if self.host == host(address) {
            self.times = 0;
        }
    }
}

/// An address without its port: each connection of a peer comes from another one.
fn host(address: &str) -> &str {
    match address.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        Some(_) | None => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_of_one_host_whatever_its_ports_and_ends_when_it_speaks() {
        let mut unheard = Unheard::default();
        assert_eq!(unheard.note("tcp://127.0.0.1:4000"), 1);
        assert_eq!(unheard.note("tcp://127.0.0.1:4001"), 2);
        assert_eq!(unheard.note("tcp://127.0.0.2:4001"), 1);
        assert_eq!(unheard.note("tcp://127.0.0.1:4002"), 1);
        unheard.forget("tcp://127.0.0.2:4003");
        assert_eq!(unheard.note("tcp://127.0.0.1:4004"), 2);
        unheard.forget("tcp://127.0.0.1:4005");
        assert_eq!(unheard.note("tcp://127.0.0.1:4006"), 1);
        assert_eq!((unheard.note("/tmp/socket"), unheard.note("/tmp/socket")), (1, 2));
    }
}
