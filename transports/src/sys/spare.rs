//! A descriptor in reserve, for the moment when there are no others.

use std::io;

use socket2::{Domain, Socket, Type};

use crate::contract::Listener;

/// Holds one descriptor back.
///
/// When a process has run out of descriptors, a connection that waits to be accepted cannot even be turned away: it
/// stays in the backlog and the peer hangs. Giving up the reserve makes room to accept it and close it at once.
#[derive(Debug)]
pub struct Spare {
    reserve: Option<Socket>,
}

impl Spare {
    /// Takes a descriptor into reserve.
    ///
    /// # Errors
    ///
    /// What the system said, for example that there are no descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { reserve: Some(reserve()?) })
    }

    /// Gives the reserve up, so that the next call that needs a descriptor may succeed. Returns whether there was one.
    pub fn release(&mut self) -> bool {
        self.reserve.take().is_some()
    }

    /// Takes a descriptor into reserve again; nothing happens if one is held.
    ///
    /// # Errors
    ///
    /// What the system said. The reserve stays empty, and this may be tried again later.
    pub fn refill(&mut self) -> io::Result<()> {
        if self.reserve.is_none() {
            self.reserve = Some(reserve()?);
        }
        Ok(())
    }

    /// Turns one waiting connection away with the help of the reserve.
    ///
    /// # Errors
    ///
    /// What [`Listener::accept`] said ([`WouldBlock`](io::ErrorKind::WouldBlock): none was waiting). That the reserve
    /// could not be refilled is no error here: the next call tries again.
    pub fn turn_away(&mut self, listener: &dyn Listener) -> io::Result<()> {
        self.release();
        let accepted = listener.accept().map(drop);
        // Another thread may have been quicker; then the reserve stays empty until the next call.
        let _ = self.refill();
        accepted
    }
}

/// A socket that is connected to nothing: the cheapest descriptor that needs no file system.
fn reserve() -> io::Result<Socket> {
    let domain = if cfg!(unix) { Domain::UNIX } else { Domain::IPV4 };
    Socket::new(domain, Type::DGRAM, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_given_up_once_and_refilled() {
        let mut spare = Spare::new().unwrap();
        assert!(spare.release());
        assert!(!spare.release());
        spare.refill().unwrap();
        spare.refill().unwrap();
        assert!(spare.release());
    }
}
