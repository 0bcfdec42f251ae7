//! Endpoints of a socket under their names. Several may have one name, and very many may be there, so that none is
//! looked for by a walk over all of them.

use crate::engine::EndpointId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A table of endpoints that finds each by its number and by its name.
#[derive(Default)]
pub(super) struct Names {
    by_id: BTreeMap<EndpointId, Arc<str>>,
    by_name: BTreeSet<(Arc<str>, EndpointId)>,
}

impl Names {
    pub(super) fn insert(&mut self, id: EndpointId, name: Arc<str>) {
        self.remove(id);
        self.by_name.insert((Arc::clone(&name), id));
        self.by_id.insert(id, name);
    }

    /// Takes an endpoint out; `None` if it was not there.
    pub(super) fn remove(&mut self, id: EndpointId) -> Option<Arc<str>> {
        let entry = (self.by_id.remove(&id)?, id);
        self.by_name.remove(&entry);
        Some(entry.0)
    }

    /// Keeps those endpoints for which `stays` says yes. Looks at all of them.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(EndpointId) -> bool) {
        self.by_id.retain(|id, _| stays(*id));
        self.by_name.retain(|(_, id)| self.by_id.contains_key(id));
    }

    pub(super) fn get(&self, id: EndpointId) -> Option<&Arc<str>> {
        self.by_id.get(&id)
    }

    pub(super) fn contains(&self, id: EndpointId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// The endpoints of that name, the earliest first.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = EndpointId> {
        let first = (Arc::from(name), EndpointId(0));
        let name = Arc::clone(&first.0);
        self.by_name.range(first..).take_while(move |(other, _)| *other == name).map(|(_, id)| *id)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    /// All endpoints, the earliest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (EndpointId, &Arc<str>)> {
        self.by_id.iter().map(|(id, name)| (*id, name))
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[(u64, &str)]) -> Names {
        let mut names = Names::default();
        of.iter().for_each(|(id, name)| names.insert(EndpointId(*id), Arc::from(*name)));
        names
    }

    fn named(names: &Names, name: &str) -> Vec<u64> {
        names.named(name).map(|id| id.0).collect()
    }

    #[test]
    fn endpoints_of_one_name_are_found_in_the_order_in_which_they_came() {
        let mut names = names(&[(3, "b"), (1, "b"), (2, "bb"), (4, "a")]);
        assert_eq!((named(&names, "b"), named(&names, "bb"), named(&names, "")), (vec![1, 3], vec![2], vec![]));
        assert_eq!(names.remove(EndpointId(1)).as_deref(), Some("b"));
        assert_eq!(names.remove(EndpointId(1)), None);
        assert_eq!(named(&names, "b"), [3]);
        assert!(names.has("a") && !names.has("c") && names.contains(EndpointId(2)));
        assert_eq!(names.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn what_is_not_retained_and_what_is_renamed_is_found_under_no_old_name() {
        let mut names = names(&[(1, "a"), (2, "a"), (3, "b")]);
        names.retain(|id| id.0 != 1);
        names.insert(EndpointId(3), Arc::from("c"));
        assert_eq!((named(&names, "a"), named(&names, "b"), named(&names, "c")), (vec![2], vec![], vec![3]));
        assert_eq!((names.len(), names.is_empty()), (2, false));
    }
}
