//! The peers of one prefix. Nearly always one, often a few dozen, sometimes ten thousand.

use super::tree::Value;
use std::collections::BTreeMap;

/// Above this many peers a prefix keeps them in a B-tree: inserting into a sorted vector would cost more than the
/// topic.
const MOST_IN_A_VECTOR: usize = 256;

/// Peer → the place of this prefix in that peer's own list.
#[derive(Debug, Default)]
pub(super) enum Members {
    #[default]
    None,
    One(Member),
    Several(Box<Several>),
}

/// One peer of a prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    peer: u32,
    place: u32,
}

/// At least two peers, in the order of their numbers.
#[derive(Debug)]
pub(super) enum Several {
    Few(Vec<Member>),
    Many(BTreeMap<u32, u32>),
}

impl Members {
    /// Adds a peer and returns whether it is new here; the place of a peer that is not new stays as it was.
    pub(super) fn insert(&mut self, peer: u32, place: u32) -> bool {
        let member = Member { peer, place };
        match self {
            Members::None => *self = Members::One(member),
            Members::One(other) if other.peer == peer => return false,
            Members::One(other) => {
                let mut pair = vec![*other, member];
                pair.sort_unstable_by_key(|member| member.peer);
                *self = Members::Several(Box::new(Several::Few(pair)));
            }
            Members::Several(several) => return several.insert(member),
        }
        true
    }

    /// Takes a peer out and returns the place it had.
    pub(super) fn remove(&mut self, peer: u32) -> Option<u32> {
        match self {
            Members::None => None,
            Members::One(member) => {
                let place = (member.peer == peer).then_some(member.place)?;
                *self = Members::None;
                Some(place)
            }
            Members::Several(several) => {
                let place = several.remove(peer)?;
                if let Some(left) = several.only() {
                    *self = Members::One(left);
                }
                Some(place)
            }
        }
    }

    /// Notes that this prefix has another place in the list of `peer` now.
    pub(super) fn set_place(&mut self, peer: u32, place: u32) {
        let known = match self {
            Members::None => None,
            Members::One(member) => (member.peer == peer).then_some(&mut member.place),
            Members::Several(several) => several.place_mut(peer),
        };
        if let Some(known) = known {
            *known = place;
        }
    }

    /// Appends every peer to `out`.
    #[inline(always)]
    pub(super) fn append_to(&self, out: &mut Vec<u32>) {
        match self {
            Members::None => {}
            Members::One(member) => out.push(member.peer),
            Members::Several(several) => several.append_to(out),
        }
    }

    /// Calls `visit` with each peer and its place.
    pub(super) fn each(&self, mut visit: impl FnMut(u32, u32)) {
        match self {
            Members::None => {}
            Members::One(member) => visit(member.peer, member.place),
            Members::Several(several) => match &**several {
                Several::Few(list) => list.iter().for_each(|member| visit(member.peer, member.place)),
                Several::Many(map) => map.iter().for_each(|(&peer, &place)| visit(peer, place)),
            },
        }
    }
}

impl Value for Members {
    #[inline(always)]
    fn is_vacant(&self) -> bool {
        match self {
            Members::None => true,
            Members::One(_) | Members::Several(_) => false,
        }
    }
}

impl Several {
    fn insert(&mut self, member: Member) -> bool {
        match self {
            Several::Few(list) => {
                let Err(at) = find(list, member.peer) else { return false };
                list.insert(at, member);
                if list.len() > MOST_IN_A_VECTOR {
                    *self = Several::Many(list.iter().map(|member| (member.peer, member.place)).collect());
                }
                true
            }
            Several::Many(map) => {
                let before = map.len();
                map.entry(member.peer).or_insert(member.place);
                map.len() > before
            }
        }
    }

    fn remove(&mut self, peer: u32) -> Option<u32> {
        match self {
            Several::Few(list) => {
                let place = list.remove(find(list, peer).ok()?).place;
                if list.len() < list.capacity() / 4 {
                    list.shrink_to(list.len() * 2);
                }
                Some(place)
            }
            Several::Many(map) => {
                let place = map.remove(&peer)?;
                if map.len() <= MOST_IN_A_VECTOR / 2 {
                    *self = Several::Few(map.iter().map(|(&peer, &place)| Member { peer, place }).collect());
                }
                Some(place)
            }
        }
    }

    fn place_mut(&mut self, peer: u32) -> Option<&mut u32> {
        match self {
            Several::Few(list) => {
                let at = find(list, peer).ok()?;
                list.get_mut(at).map(|member| &mut member.place)
            }
            Several::Many(map) => map.get_mut(&peer),
        }
    }

    fn only(&self) -> Option<Member> {
        match self {
            Several::Few(list) => match **list {
                [member] => Some(member),
                _ => None,
            },
            Several::Many(_) => None,
        }
    }

    fn append_to(&self, out: &mut Vec<u32>) {
        match self {
            Several::Few(list) => out.extend(list.iter().map(|member| member.peer)),
            Several::Many(map) => out.extend(map.keys()),
        }
    }
}

fn find(list: &[Member], peer: u32) -> Result<usize, usize> {
    list.binary_search_by_key(&peer, |member| member.peer)
}
