//! Uses of one endpoint in a row: who waits for whom, and which token they announce.
//!
//! Endpoints of one name and token connect one after the other, so that their peer reads what each has sent before what
//! the next one sends, and never sees two connections with one token. When one of them has its turn is the reactor's
//! affair.

use super::reactor::Lingering;
use crate::protocol::Token;
use crate::slab::{Key, Slab};
use std::collections::HashMap;

/// The lines of a reactor. Each of its dialers has a place in one, most of them alone. No step takes longer in a longer
/// line.
pub(crate) struct Lines {
    lines: Slab<Line>,
    places: HashMap<Key, Place>,
    /// The line of each token.
    by_token: HashMap<Token, Key>,
}

struct Line {
    /// What each of them announces from its turn on; `None` as long as none of them announces anything.
    token: Option<Token>,
    /// Whose turn it is.
    first: Key,
    /// The one that the application has.
    last: Key,
    /// How long the second one waits. Not limited as long as nobody is at the address of the first: to begin then would
    /// change the order and deliver nothing sooner.
    patience: Option<Lingering>,
}

/// Where a dialer stands.
#[derive(Clone, Copy)]
struct Place {
    line: Key,
    before: Option<Key>,
    next: Option<Key>,
}

impl Lines {
    pub(crate) fn new() -> Lines {
        Lines { lines: Slab::new(), places: HashMap::new(), by_token: HashMap::new() }
    }

    /// Gives a dialer the last place in another one's line, or a line of its own.
    pub(crate) fn join(&mut self, dialer: Key, token: Option<Token>, behind: Option<Key>) {
        let key = match behind.and_then(|behind| self.places.get(&behind)).map(|place| place.line) {
            Some(key) => key,
            None => self.lines.insert(Line { token, first: dialer, last: dialer, patience: None }),
        };
        let Some(line) = self.lines.get_mut(key) else { return };
        let before = Some(std::mem::replace(&mut line.last, dialer)).filter(|before| *before != dialer);
        line.token = line.token.or(token);
        self.by_token.extend(line.token.map(|token| (token, key)));
        if let Some(before) = before.and_then(|before| self.places.get_mut(&before)) {
            before.next = Some(dialer);
        }
        self.places.insert(dialer, Place { line: key, before, next: None });
    }

    /// A dialer is gone. Returns the one that stood behind it.
    pub(crate) fn leave(&mut self, dialer: Key) -> Option<Key> {
        let Place { line: key, before, next } = self.places.remove(&dialer)?;
        if let Some(before) = before.and_then(|before| self.places.get_mut(&before)) {
            before.next = next;
        }
        if let Some(next) = next.and_then(|next| self.places.get_mut(&next)) {
            next.before = before;
        }
        let line = self.lines.get_mut(key)?;
        match (before, next) {
            (None, None) => {
                if let Some(token) = line.token {
                    self.by_token.remove(&token);
                }
                self.lines.remove(key);
            }
            // Whoever is second now begins to wait.
            (None, Some(next)) => (line.first, line.patience) = (next, None),
            (Some(before), None) => {
                line.last = before;
                line.patience.take_if(|_| before == line.first);
            }
            (Some(_), Some(_)) => {}
        }
        next
    }

    /// The second one of a dialer's line begins beside the first: so both are there at a time, and have a token each.
    /// The first one keeps its own, in a line of its own; all others get another one in its place.
    pub(crate) fn part_from_first(&mut self, dialer: Key, another: impl FnOnce(Token) -> Token) {
        let Some(key) = self.places.get(&dialer).map(|place| place.line) else { return };
        let Some((first, token)) = self.lines.get(key).map(|line| (line.first, line.token)) else { return };
        if self.next(first).is_none() {
            return;
        }
        self.leave(first);
        if let Some(line) = self.lines.get_mut(key) {
            line.token = token.map(another);
            self.by_token.extend(line.token.map(|token| (token, key)));
        }
        self.join(first, token, None);
    }

    /// The last one of the line with that token.
    pub(crate) fn last_with(&self, token: Token) -> Option<Key> {
        self.lines.get(*self.by_token.get(&token)?).map(|line| line.last)
    }

    /// The first one of a dialer's line, which is itself if it waits for nobody.
    pub(crate) fn first(&self, dialer: Key) -> Option<Key> {
        self.line(dialer).map(|line| line.first)
    }

    /// The last one of a dialer's line, which is itself if nobody waits for it.
    pub(crate) fn last(&self, dialer: Key) -> Option<Key> {
        self.line(dialer).map(|line| line.last)
    }

    /// The one that a dialer waits for.
    pub(crate) fn before(&self, dialer: Key) -> Option<Key> {
        self.places.get(&dialer)?.before
    }

    /// The one that waits for a dialer.
    pub(crate) fn next(&self, dialer: Key) -> Option<Key> {
        self.places.get(&dialer)?.next
    }

    /// What a dialer announces from its turn on.
    pub(crate) fn token(&self, dialer: Key) -> Option<Token> {
        self.line(dialer)?.token
    }

    /// How long the second one of a dialer's line waits.
    pub(crate) fn patience(&mut self, dialer: Key) -> Option<&mut Option<Lingering>> {
        let key = self.places.get(&dialer)?.line;
        self.lines.get_mut(key).map(|line| &mut line.patience)
    }

    fn line(&self, dialer: Key) -> Option<&Line> {
        self.lines.get(self.places.get(&dialer)?.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::reactor::Linger;
    use std::time::{Duration, Instant};

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    fn token(number: u8) -> Token {
        Token([number; 16])
    }

    /// Those numbers in one line.
    fn in_line(numbers: std::ops::Range<u32>) -> Lines {
        let mut lines = Lines::new();
        numbers.for_each(|number| {
            let behind = lines.last_with(token(1));
            lines.join(key(number), Some(token(1)), behind);
        });
        lines
    }

    /// The line of a dialer, as one finds it from the front, and from the back.
    fn order(lines: &Lines, dialer: u32) -> Vec<u32> {
        let first = lines.first(key(dialer));
        let found: Vec<_> = std::iter::successors(first, |dialer| lines.next(*dialer)).collect();
        let last = lines.last(key(dialer));
        let mut back: Vec<_> = std::iter::successors(last, |dialer| lines.before(*dialer)).collect();
        back.reverse();
        assert_eq!(found, back);
        found.into_iter().map(|key| key.index).collect()
    }

    #[test]
    fn whoever_comes_stands_last_and_whoever_goes_leaves_no_gap() {
        let mut lines = in_line(0..5);
        assert_eq!(order(&lines, 3), [0, 1, 2, 3, 4]);
        for (gone, behind, left) in
            [(2, Some(3), vec![0, 1, 3, 4]), (4, None, vec![0, 1, 3]), (0, Some(1), vec![1, 3]), (3, None, vec![1])]
        {
            assert_eq!(lines.leave(key(gone)), behind.map(key));
            assert_eq!(order(&lines, 1), left);
            assert_eq!(lines.last_with(token(1)), left.last().copied().map(key));
        }
        assert_eq!(lines.leave(key(1)), None);
        assert_eq!((lines.lines.len(), lines.places.len(), lines.by_token.len()), (0, 0, 0));
    }

    #[test]
    fn one_that_begins_beside_the_first_takes_all_behind_it_along_to_another_token() {
        let mut lines = in_line(0..4);
        lines.part_from_first(key(1), |before| {
            assert!(before == token(1));
            token(2)
        });
        assert_eq!((order(&lines, 0), order(&lines, 3)), (vec![0], vec![1, 2, 3]));
        assert!(lines.token(key(0)) == Some(token(1)) && (1..4).all(|at| lines.token(key(at)) == Some(token(2))));
        assert_eq!((lines.last_with(token(1)), lines.last_with(token(2))), (Some(key(0)), Some(key(3))));
        // Nobody waits for the first one any more.
        lines.part_from_first(key(0), |_| token(3));
        assert!(lines.token(key(0)) == Some(token(1)) && lines.last_with(token(3)).is_none());
        for at in 0..4 {
            lines.leave(key(at));
        }
        assert_eq!((lines.lines.len(), lines.places.len(), lines.by_token.len()), (0, 0, 0));
    }

    #[test]
    fn a_line_has_the_token_of_the_first_that_announces_one() {
        let mut lines = Lines::new();
        lines.join(key(0), None, None);
        lines.join(key(1), Some(token(1)), Some(key(0)));
        lines.join(key(2), Some(token(2)), Some(key(0)));
        assert_eq!(order(&lines, 0), [0, 1, 2]);
        assert!(lines.token(key(2)) == Some(token(1)) && lines.last_with(token(2)).is_none());
        lines.part_from_first(key(1), |_| token(3));
        assert!(lines.token(key(0)) == Some(token(1)) && lines.token(key(2)) == Some(token(3)));
    }

    #[test]
    fn the_patience_is_of_whoever_is_second_and_begins_anew_with_another_first() {
        let begins = |lines: &mut Lines| {
            let patience = lines.patience(key(0)).expect("it has a place");
            *patience = Some(Lingering::new(Linger::Patience(Duration::from_secs(5)), Instant::now()));
        };
        let runs = |lines: &mut Lines, dialer| lines.patience(key(dialer)).expect("it has a place").is_some();
        let mut lines = in_line(0..4);
        begins(&mut lines);
        lines.leave(key(1));
        assert!(runs(&mut lines, 2), "it has been waited for the first one so long");
        lines.leave(key(3));
        assert!(runs(&mut lines, 2));
        lines.leave(key(2));
        assert!(!runs(&mut lines, 0), "nobody waits");
        let mut lines = in_line(0..4);
        begins(&mut lines);
        lines.leave(key(0));
        assert!(!runs(&mut lines, 1));
    }
}
