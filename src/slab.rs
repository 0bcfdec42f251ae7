//! Things in numbered places that are used again, where a stale number is told from a live one by its generation.

/// A growable table. A key is a place and the generation of its tenant.
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    len: usize,
}

struct Place<T> {
    generation: u32,
    tenant: Option<T>,
}

/// Where a tenant lives. A key of a tenant that is gone finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Slab<T> {
        Slab { places: Vec::new(), free: Vec::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, tenant: T) -> Key {
        self.insert_with(|_| tenant)
    }

    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, tenant: None });
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        let key = Key { index, generation: place.generation };
        place.tenant = Some(make(key));
        self.len += 1;
        key
    }

    /// As [`insert_with`](Slab::insert_with), under a generation that the caller gives, and gives nobody else at that
    /// place.
    pub(crate) fn insert_as(&mut self, generation: u32, make: impl FnOnce(Key) -> T) -> Key {
        let index = self.free.last().copied().unwrap_or(self.places.len() as u32);
        if let Some(place) = self.places.get_mut(index as usize) {
            place.generation = generation;
        } else {
            self.places.push(Place { generation, tenant: None });
            self.free.push(index);
        }
        self.insert_with(make)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(key.index as usize).filter(|place| place.generation == key.generation)?;
        let tenant = place.tenant.take()?;
        place.generation = place.generation.wrapping_add(1) & Key::GENERATIONS;
        self.free.push(key.index);
        self.len -= 1;
        Some(tenant)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let place = self.places.get(key.index as usize)?;
        if place.generation == key.generation { place.tenant.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation == key.generation { place.tenant.as_mut() } else { None }
    }

    /// Whoever lives at `index` now.
    #[inline(always)]
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.places.get_mut(index as usize)?.tenant.as_mut()
    }

    /// Whoever lives at `index` now.
    pub(crate) fn at(&self, index: u32) -> Option<&T> {
        self.places.get(index as usize)?.tenant.as_ref()
    }

    /// The key of whoever lives at `index` now.
    pub(crate) fn key_at(&self, index: u32) -> Option<Key> {
        let place = self.places.get(index as usize).filter(|place| place.tenant.is_some())?;
        Some(Key { index, generation: place.generation })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let key = Key { index: index as u32, generation: place.generation };
            place.tenant.as_ref().map(|tenant| (key, tenant))
        })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.places.iter_mut().enumerate().filter_map(|(index, place)| {
            let key = Key { index: index as u32, generation: place.generation };
            place.tenant.as_mut().map(|tenant| (key, tenant))
        })
    }

    pub(crate) fn into_tenants(self) -> impl Iterator<Item = T> {
        self.places.into_iter().filter_map(|place| place.tenant)
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }
}

impl Key {
    /// Generations wrap at 24 bits, so that a key fits a poll token beside its place.
    const GENERATIONS: u32 = 0xff_ffff;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(second.index, first.index);
        assert_eq!((slab.get(first), slab.get(second)), (None, Some(&"second")));
        assert_eq!(slab.remove(first), None);
        assert_eq!((slab.key_at(second.index), slab.key_at(1)), (Some(second), None));
        assert_eq!(slab.len(), 1);
        let third = slab.insert_as(70, |key| if key.generation == 70 { "third" } else { "?" });
        assert_eq!((third.index, third.generation, slab.get(third)), (1, 70, Some(&"third")));
        assert_eq!((slab.remove(third), slab.get(third)), (Some("third"), None));
        let fourth = slab.insert_as(1 << 31, |_| "fourth");
        assert_eq!((fourth.index, slab.get(fourth), slab.get(third)), (1, Some(&"fourth"), None));
    }
}
