//! A directory inside one process that pairs a binder and a connector by name, whichever comes first.
//!
//! It moves no bytes and knows nothing of what it pairs: it is a table behind a lock. The socket layer builds `inproc`
//! on it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::address::AddressError;

/// Names and who waits behind them. `B` stands for a binder and is cloned for every connector; `C` for a connector.
///
/// No step looks at all names or at all connectors that wait. Closures passed to the methods run under the directory's
/// lock and must not call it again. Values are dropped by the caller, never under the lock.
pub struct Directory<B, C> {
    table: Mutex<Table<B, C>>,
    max_waiting: usize,
}

struct Table<B, C> {
    places: HashMap<String, Place<B, C>>,
    /// How many connectors wait in all places together.
    waiting: usize,
    /// How many have been told to wait.
    tickets: u64,
}

enum Place<B, C> {
    Bound(B),
    /// Never empty.
    Waiting(BTreeMap<Ticket, C>),
}

/// By which a connector that waits is taken back. No two of a directory are the same; those behind came later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// How a connector fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meeting<B, C> {
    /// The name is bound: here is the binder, and the connector back.
    Found(B, C),
    /// Nobody has bound the name yet; the connector waits and will be handed to whoever does.
    Queued(Ticket),
    /// Too many connectors wait already; here it is back.
    Full(C),
}

/// The name is bound already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name is already bound in this context")]
pub struct NameTaken;

/// The longest name [`check_name`] lets pass, in bytes.
pub const MAX_NAME: usize = 4096;

/// The number of waiting connectors of a [`Directory::new`].
pub const MAX_WAITING: usize = 1 << 20;

/// Checks a name: any text of 1 to [`MAX_NAME`] bytes.
///
/// # Errors
///
/// Says what is wrong with the name. [`Directory`] itself takes any name.
pub fn check_name(name: &str) -> Result<(), AddressError> {
    if name.is_empty() {
        return Err(AddressError::new(name, "the name is empty; give any text"));
    }
    if name.len() > MAX_NAME {
        let problem = format!("the name has {} bytes, at most {MAX_NAME} are allowed", name.len());
        return Err(AddressError::new(name, problem));
    }
    Ok(())
}

impl<B: Clone, C> Directory<B, C> {
    /// Makes an empty directory that lets [`MAX_WAITING`] connectors wait.
    pub fn new() -> Self {
        Self::with_max_waiting(MAX_WAITING)
    }

    /// Makes an empty directory that lets at most `max_waiting` connectors wait.
    pub fn with_max_waiting(max_waiting: usize) -> Self {
        Self { table: Mutex::new(Table { places: HashMap::new(), waiting: 0, tickets: 0 }), max_waiting }
    }

    /// Binds a name and returns the connectors that have been waiting for it, in the order they came.
    ///
    /// # Errors
    ///
    /// [`NameTaken`] if somebody has bound it; `binder` is dropped.
    pub fn bind(&self, name: &str, binder: B) -> Result<Vec<C>, NameTaken> {
        let mut table = self.lock();
        if let Some(Place::Bound(_)) = table.places.get(name) {
            // The lock goes first: the binder's drop is foreign code.
            drop(table);
            drop(binder);
            return Err(NameTaken);
        }
        match table.places.insert(name.to_owned(), Place::Bound(binder)) {
            Some(Place::Waiting(waiting)) => {
                table.waiting -= waiting.len();
                Ok(waiting.into_values().collect())
            }
            Some(Place::Bound(_)) | None => Ok(Vec::new()),
        }
    }

    /// Finds the binder of a name or lets the connector wait for one.
    pub fn connect(&self, name: &str, connector: C) -> Meeting<B, C> {
        let mut table = self.lock();
        let full = table.waiting >= self.max_waiting;
        let ticket = Ticket(table.tickets);
        match table.places.get_mut(name) {
            Some(Place::Bound(binder)) => return Meeting::Found(binder.clone(), connector),
            Some(Place::Waiting(_)) | None if full => return Meeting::Full(connector),
            Some(Place::Waiting(waiting)) => drop(waiting.insert(ticket, connector)),
            None => drop(table.places.insert(name.to_owned(), Place::Waiting([(ticket, connector)].into()))),
        }
        table.waiting += 1;
        table.tickets += 1;
        Meeting::Queued(ticket)
    }

    /// Frees a name and returns its binder; `None` if nobody has bound it. Connectors that found it keep what they
    /// found.
    pub fn unbind(&self, name: &str) -> Option<B> {
        self.unbind_if(name, |_| true)
    }

    /// Frees a name if its binder is the one meant.
    pub fn unbind_if(&self, name: &str, meant: impl FnOnce(&B) -> bool) -> Option<B> {
        let mut table = self.lock();
        match table.places.get(name) {
            Some(Place::Bound(binder)) if meant(binder) => {}
            Some(Place::Bound(_) | Place::Waiting(_)) | None => return None,
        }
        match table.places.remove(name) {
            Some(Place::Bound(binder)) => Some(binder),
            Some(Place::Waiting(_)) | None => None,
        }
    }

    /// Returns the binder of a name.
    pub fn find(&self, name: &str) -> Option<B> {
        match self.lock().places.get(name) {
            Some(Place::Bound(binder)) => Some(binder.clone()),
            Some(Place::Waiting(_)) | None => None,
        }
    }

    /// Takes back a connector that waits for a name; `None` if it waits no longer.
    pub fn take_back(&self, name: &str, ticket: Ticket) -> Option<C> {
        let mut table = self.lock();
        let Some(Place::Waiting(waiting)) = table.places.get_mut(name) else { return None };
        let taken = waiting.remove(&ticket)?;
        if waiting.is_empty() {
            table.places.remove(name);
        }
        table.waiting -= 1;
        Some(taken)
    }

    /// Returns how many connectors wait for a binder.
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    fn lock(&self) -> MutexGuard<'_, Table<B, C>> {
        // The table is whole between statements; only a foreign closure or clone can panic in here.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Clone, C> Default for Directory<B, C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B, C> fmt::Debug for Directory<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Directory").field("names", &table.places.len()).field("waiting", &table.waiting).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has a connector wait for a name that nobody has bound.
    fn wait<B: Clone>(directory: &Directory<B, i32>, name: &str, connector: i32) -> Ticket {
        match directory.connect(name, connector) {
            Meeting::Queued(ticket) => ticket,
            Meeting::Found(..) | Meeting::Full(_) => panic!("connector {connector} does not wait for {name}"),
        }
    }

    #[test]
    fn a_connector_that_comes_second_finds_the_binder() {
        let directory = Directory::new();
        assert_eq!(directory.bind("a", 'B'), Ok(vec![]));
        assert_eq!(directory.connect("a", 1), Meeting::Found('B', 1));
        assert_eq!(directory.connect("a", 2), Meeting::Found('B', 2));
        assert_eq!(directory.waiting(), 0);
    }

    #[test]
    fn connectors_that_come_first_are_handed_to_the_binder_in_order() {
        let directory = Directory::new();
        wait(&directory, "a", 1);
        wait(&directory, "b", 2);
        wait(&directory, "a", 3);
        assert_eq!(directory.bind("a", 'B'), Ok(vec![1, 3]));
        assert_eq!(directory.waiting(), 1);
        assert_eq!(directory.connect("a", 4), Meeting::Found('B', 4));
    }

    #[test]
    fn a_name_is_bound_once() {
        let directory = Directory::<_, ()>::new();
        directory.bind("a", 1).unwrap();
        assert_eq!(directory.bind("a", 2), Err(NameTaken));
        assert_eq!(directory.find("a"), Some(1));
    }

    #[test]
    fn an_unbound_name_is_free_again() {
        let directory = Directory::new();
        directory.bind("a", 'A').unwrap();
        assert_eq!(directory.unbind_if("a", |&binder| binder == 'X'), None);
        assert_eq!(directory.unbind("a"), Some('A'));
        assert_eq!(directory.unbind("a"), None);
        wait(&directory, "a", 1);
        assert_eq!(directory.unbind("a"), None, "a waiting connector is no binding");
        assert_eq!(directory.bind("a", 'B'), Ok(vec![1]));
    }

    #[test]
    fn a_full_directory_gives_the_connector_back() {
        let directory = Directory::with_max_waiting(2);
        wait(&directory, "a", 1);
        wait(&directory, "b", 2);
        assert_eq!(directory.connect("a", 3), Meeting::Full(3));
        assert_eq!(directory.connect("c", 3), Meeting::Full(3));
        directory.bind("a", 'B').unwrap();
        assert_eq!(directory.connect("a", 3), Meeting::Found('B', 3));
        wait(&directory, "c", 4);
    }

    #[test]
    fn one_that_waits_is_taken_back_by_its_ticket_and_the_others_keep_their_order() {
        let directory = Directory::new();
        let tickets: Vec<Ticket> = (0..5).map(|connector| wait(&directory, "a", connector)).collect();
        assert_eq!(directory.take_back("b", tickets[2]), None, "it waits for another name");
        assert_eq!(directory.take_back("a", tickets[2]), Some(2));
        assert_eq!(directory.take_back("a", tickets[2]), None, "it waits no longer");
        assert_eq!(directory.waiting(), 4);
        assert_eq!(directory.bind("a", 'B'), Ok(vec![0, 1, 3, 4]));
        assert_eq!(directory.take_back("a", tickets[0]), None, "it is bound");
        directory.unbind("a");
        wait(&directory, "a", 6);
        assert_eq!(directory.take_back("a", tickets[0]), None, "another one waits now");
        let last = wait(&directory, "c", 9);
        assert_eq!(directory.take_back("c", last), Some(9));
        assert_eq!((directory.waiting(), directory.bind("c", 'C')), (1, Ok(Vec::new())));
    }

    #[test]
    fn a_panicking_closure_leaves_the_directory_usable() {
        let directory = Directory::<_, ()>::new();
        directory.bind("a", 1).unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            directory.unbind_if("a", |_| panic!("on purpose"))
        }));
        assert!(panicked.is_err());
        assert_eq!(directory.unbind("a"), Some(1));
    }

    #[test]
    fn every_connector_of_a_race_meets_the_binder_once() {
        let directory = Directory::new();
        let met = std::thread::scope(|scope| {
            let connectors: Vec<_> = (0..4)
                .map(|thread| {
                    let directory = &directory;
                    scope.spawn(move || {
                        (0..1000)
                            .filter(|n| !matches!(directory.connect("a", thread * 1000 + n), Meeting::Queued(_)))
                            .count()
                    })
                })
                .collect();
            let handed = scope.spawn(|| directory.bind("a", ()).unwrap().len()).join().unwrap();
            handed + connectors.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(met, 4000);
        assert_eq!(directory.waiting(), 0);
    }

    #[test]
    fn names_have_bounds() {
        assert!(check_name("any text, with/slashes and ünïcode").is_ok());
        assert!(check_name(&"x".repeat(MAX_NAME)).is_ok());
        assert!(check_name("").unwrap_err().problem().contains("empty"));
        let error = check_name(&"x".repeat(MAX_NAME + 1)).unwrap_err();
        assert!(error.problem().contains("4097") && error.to_string().len() < 200, "{error}");
    }
}
