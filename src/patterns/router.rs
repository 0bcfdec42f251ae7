//! Routing ids (RFC 28): which peer has which. Ids the application chose come from the peers; for the others one is
//! generated, five octets of which the first is zero.

use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// The routing ids of a ROUTER.
#[derive(Debug)]
pub(crate) struct Routes {
    /// Those that peers chose. A keyed hash, because they could choose them to fall together.
    chosen: HashMap<Bytes, u32>,
    /// Those made here, by their number, which needs no such hash.
    generated: HashMap<u32, u32, BuildHasherDefault<Scatter>>,
    counter: u32,
    awaiting: Awaiting,
}

/// Peers that have a generated id because another has the one they announced.
#[derive(Debug, Default)]
struct Awaiting {
    /// By the id and the turn in which they came.
    peers: BTreeMap<(Bytes, u64), u32>,
    /// Where each is found there.
    turns: HashMap<u32, (Bytes, u64)>,
    next: u64,
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
        Routes { chosen: HashMap::new(), generated: HashMap::default(), counter: seed, awaiting: Awaiting::default() }
    }

    /// Gives `peer` the id it claims, or a generated one if it claims none. It never takes an id from itself.
    pub(crate) fn claim(&mut self, peer: u32, id: &Bytes, handover: bool) -> Claim {
        if id.is_empty() {
            return Claim::Granted(self.generate(peer));
        }
        match self.find(id) {
            Some(holder) if holder != peer && !handover => Claim::Refused,
            holder => {
                // One that was generated and is claimed by name is a name from now on.
                if let Some(number) = number(id) {
                    self.generated.remove(&number);
                }
                self.chosen.insert(id.clone(), peer);
                match holder.filter(|holder| *holder != peer) {
                    Some(holder) => Claim::TakenFrom(holder, id.clone()),
                    None => Claim::Granted(id.clone()),
                }
            }
        }
    }

    /// That peer is to have the id once it is free, unless it [goes](Routes::release) before.
    pub(crate) fn await_id(&mut self, peer: u32, id: &Bytes) {
        self.awaiting.insert(peer, id);
    }

    /// The earliest peer that awaits an id, if that is free. It awaits it no more.
    pub(crate) fn heir_of(&mut self, id: &Bytes) -> Option<u32> {
        if self.awaiting.peers.is_empty() || self.find(id).is_some() {
            return None;
        }
        self.awaiting.take_first(id)
    }

    /// Takes its id from a peer, which awaits no other one from then on.
    pub(crate) fn release(&mut self, peer: u32, id: &Bytes) {
        self.awaiting.remove(peer);
        if let Some(number) = number(id).filter(|number| self.generated.get(number) == Some(&peer)) {
            self.generated.remove(&number);
        } else if self.chosen.get(id) == Some(&peer) {
            self.chosen.remove(id);
        }
    }

    #[inline]
    pub(crate) fn find(&self, id: &[u8]) -> Option<u32> {
        let generated = number(id).and_then(|number| self.generated.get(&number));
        generated.or_else(|| self.chosen.get(id)).copied()
    }

    /// Returns true if a peer has that id and did not choose it. Such an id is not handed over: generated ids count up,
    /// so that a peer could take one after the other.
    pub(crate) fn is_generated(&self, id: &[u8]) -> bool {
        number(id).is_some_and(|number| self.generated.contains_key(&number))
    }

    /// Gives `peer` an id nobody has; a peer that claims ids in advance only makes this skip them.
    fn generate(&mut self, peer: u32) -> Bytes {
        loop {
            self.counter = self.counter.wrapping_add(1);
            let [a, b, c, d] = self.counter.to_be_bytes();
            let id = [0, a, b, c, d];
            if self.find(&id).is_none() {
                self.generated.insert(self.counter, peer);
                return Bytes::copy_from_slice(&id);
            }
        }
    }
}

impl Awaiting {
    fn insert(&mut self, peer: u32, id: &Bytes) {
        self.remove(peer);
        let turn = (id.clone(), self.next);
        self.next += 1;
        self.peers.insert(turn.clone(), peer);
        self.turns.insert(peer, turn);
    }

    fn remove(&mut self, peer: u32) {
        if let Some(turn) = self.turns.remove(&peer) {
            self.peers.remove(&turn);
        }
    }

    /// The earliest peer that awaits an id, which it does no more.
    fn take_first(&mut self, id: &Bytes) -> Option<u32> {
        let (_, peer) = self.peers.range((id.clone(), 0)..).next().filter(|((awaited, _), _)| awaited == id)?;
        let peer = *peer;
        self.remove(peer);
        Some(peer)
    }
}

/// The number in an id of the generated form.
#[inline]
fn number(id: &[u8]) -> Option<u32> {
    match *id {
        [0, a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    }
}

/// Spreads numbers that count up over a table.
#[derive(Debug, Default)]
pub(crate) struct Scatter(u64);

impl Hasher for Scatter {
    fn write(&mut self, octets: &[u8]) {
        octets.iter().for_each(|octet| self.write_u32(u32::from(*octet)));
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        // An odd number near the golden section of the range.
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    #[inline]
    fn finish(&self) -> u64 {
        // The low bits choose the place in the table, and the product's high ones are the mixed ones.
        self.0.rotate_left(32)
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

    #[test]
    fn a_generated_id_that_is_claimed_by_name_belongs_to_whoever_claims_it() {
        let mut routes = Routes::new(7);
        let Claim::Granted(id) = routes.claim(1, &Bytes::new(), false) else { panic!("one is generated") };
        assert_eq!(routes.find(&id), Some(1));
        assert_eq!(routes.claim(2, &id, false), Claim::Refused);
        assert_eq!(routes.claim(2, &id, true), Claim::TakenFrom(1, id.clone()));
        routes.release(1, &id);
        assert_eq!(routes.find(&id), Some(2));
        routes.release(2, &id);
        assert_eq!(routes.find(&id), None);
    }

    fn granted(routes: &mut Routes, peer: u32, id: &Bytes) -> Bytes {
        match routes.claim(peer, id, false) {
            Claim::Granted(id) => id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whoever_awaits_an_id_gets_it_in_turn_once_it_is_free() {
        let mut routes = Routes::new(7);
        let ids = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        for (peer, id) in ids.iter().enumerate() {
            granted(&mut routes, peer as u32, id);
        }
        let given: Vec<Bytes> = (10..16).map(|peer| granted(&mut routes, peer, &Bytes::new())).collect();
        for peer in 10..16 {
            routes.await_id(peer, &ids[peer as usize % 2]);
        }
        assert_eq!(routes.heir_of(&ids[0]), None, "it is not free");
        routes.release(0, &ids[0]);
        routes.release(1, &ids[1]);
        routes.release(10, &given[0]);
        assert_eq!([0, 0, 1].map(|id| routes.heir_of(&ids[id])), [Some(12), Some(14), Some(11)]);
        assert_eq!(routes.heir_of(&ids[0]), None, "nobody is left");
        assert_eq!([1, 1, 1].map(|id| routes.heir_of(&ids[id])), [Some(13), Some(15), None]);
    }

    #[test]
    fn a_peer_that_goes_takes_no_longer_where_many_await_an_id() {
        let time = |peers: u32| {
            let (mut routes, wanted) = (Routes::new(7), Bytes::from_static(b"wanted"));
            granted(&mut routes, peers, &wanted);
            let given: Vec<Bytes> = (0..peers).map(|peer| granted(&mut routes, peer, &Bytes::new())).collect();
            (0..peers).for_each(|peer| routes.await_id(peer, &wanted));
            let begin = std::time::Instant::now();
            for (peer, id) in given.iter().enumerate() {
                routes.release(peer as u32, id);
                assert_eq!(routes.heir_of(id), None);
            }
            begin.elapsed()
        };
        let least = |peers| (0..5).map(|_| time(peers)).min();
        assert!(least(16_000) < least(4_000).map(|few| 9 * few), "four times as many take nine times as long");
    }

    #[test]
    fn generated_ids_are_found_and_released_among_many() {
        let mut routes = Routes::new(u32::MAX - 500);
        let ids: Vec<Bytes> = (0..1000)
            .map(|peer| match routes.claim(peer, &Bytes::new(), false) {
                Claim::Granted(id) => id,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!((0..1000).all(|peer| routes.find(&ids[peer as usize]) == Some(peer)));
        (0..1000).step_by(2).for_each(|peer| routes.release(peer, &ids[peer as usize]));
        assert!((0..1000).all(|peer| routes.find(&ids[peer as usize]) == (peer % 2 == 1).then_some(peer)));
        (0..1000).for_each(|peer| routes.release(peer, &ids[peer as usize]));
        assert!(routes.generated.is_empty() && routes.chosen.is_empty());
    }
}
