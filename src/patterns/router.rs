//! Routing ids (RFC 28): which peer has which. Ids the application chose come from the peers; for the others one is
//! generated, five octets of which the first is zero.

use bytes::Bytes;
use std::collections::HashMap;

/// The routing ids of a ROUTER. A keyed hash, because peers choose the ids.
#[derive(Debug)]
pub(crate) struct Routes {
    by_id: HashMap<Bytes, u32>,
    counter: u32,
}

/// What happened to a claimed id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The newcomer has it.
    Granted(Bytes),
    /// The newcomer has it, and this peer had it before.
    TakenFrom(u32, Bytes),
    /// Somebody has it, and keeps it.
    Refused,
}

impl Routes {
    /// No routes; generated ids count on from `seed`.
    pub(crate) fn new(seed: u32) -> Routes {
        Routes { by_id: HashMap::new(), counter: seed }
    }

    /// Gives `peer` the id it claims, or a generated one if it claims none. It never takes an id from itself.
    pub(crate) fn claim(&mut self, peer: u32, id: &Bytes, handover: bool) -> Claim {
        if id.is_empty() {
            let id = self.generate();
            self.by_id.insert(id.clone(), peer);
            return Claim::Granted(id);
        }
        match self.by_id.get(id).copied() {
            Some(holder) if holder != peer && !handover => Claim::Refused,
            holder => {
                self.by_id.insert(id.clone(), peer);
                match holder.filter(|holder| *holder != peer) {
                    Some(holder) => Claim::TakenFrom(holder, id.clone()),
                    None => Claim::Granted(id.clone()),
                }
            }
        }
    }

    pub(crate) fn release(&mut self, peer: u32, id: &Bytes) {
        if self.by_id.get(id) == Some(&peer) {
            self.by_id.remove(id);
        }
    }

    pub(crate) fn find(&self, id: &[u8]) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    /// An id nobody has; a peer that claims ids in advance only makes this skip them.
    fn generate(&mut self) -> Bytes {
        loop {
            self.counter = self.counter.wrapping_add(1);
            let [a, b, c, d] = self.counter.to_be_bytes();
            let id = [0, a, b, c, d];
            if !self.by_id.contains_key(&id[..]) {
                return Bytes::copy_from_slice(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_id_is_refused_unless_handover_is_on() {
        let mut routes = Routes::new(7);
        let id = Bytes::from_static(b"a");
        assert_eq!(routes.claim(1, &id, false), Claim::Granted(id.clone()));
        assert_eq!(routes.claim(1, &id, false), Claim::Granted(id.clone()));
        assert_eq!(routes.claim(2, &id, false), Claim::Refused);
        assert_eq!(routes.claim(2, &id, true), Claim::TakenFrom(1, id.clone()));
        routes.release(1, &id);
        assert_eq!(routes.find(b"a"), Some(2));
        routes.release(2, &id);
        assert_eq!(routes.find(b"a"), None);
    }

    #[test]
    fn generated_ids_avoid_those_in_use() {
        let mut routes = Routes::new(0);
        let squatted = Bytes::from_static(&[0, 0, 0, 0, 1]);
        assert_eq!(routes.claim(1, &squatted, false), Claim::Granted(squatted));
        assert_eq!(routes.claim(2, &Bytes::new(), false), Claim::Granted(Bytes::from_static(&[0, 0, 0, 0, 2])));
    }
}
