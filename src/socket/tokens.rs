//! The tokens a socket announces, by which its peers recognise it when it comes back: 16 random octets for each of its
//! endpoints.
//!
//! An endpoint that is bound or connected again gets the token it had before. A token is drawn, and not computed from
//! the endpoint's name, so that none tells anything of another, and two uses of one endpoint at the same time have two:
//! their peers would take one for the other's return.

use crate::engine::EndpointId;
use crate::protocol::Token;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use wiremesh_transports::sys::random_octets;

/// What an endpoint is to its socket: each has tokens of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Bound,
    Connected,
}

/// The tokens of a socket's endpoints.
#[derive(Default)]
pub(super) struct Tokens {
    /// Those of endpoints that the socket has.
    used: HashMap<EndpointId, Named>,
    /// Which of these has that token.
    by_token: HashMap<Token, EndpointId>,
    /// Those of endpoints that were closed, the last one behind, each with the endpoint that had it.
    left: VecDeque<(EndpointId, Named)>,
}

struct Named {
    role: Role,
    name: Arc<str>,
    token: Token,
}

/// So many closed endpoints are remembered; what is connected again later is not recognised.
const MOST_LEFT: usize = 256;

impl Tokens {
    /// The token of a new endpoint, and the closed one that had it before, whose connection may still be there.
    pub(super) fn take(&mut self, id: EndpointId, role: Role, name: &str) -> (Token, Option<EndpointId>) {
        let found = self.left.iter().position(|(_, left)| left.role == role && *left.name == *name);
        let (named, before) = match found.and_then(|place| self.left.remove(place)) {
            Some((before, named)) => (named, Some(before)),
            None => (Named { role, name: name.into(), token: Token(random_octets()) }, None),
        };
        let token = named.token;
        self.by_token.insert(token, id);
        self.used.insert(id, named);
        (token, before)
    }

    /// The token of an endpoint that the socket has.
    pub(super) fn of(&self, id: EndpointId) -> Option<Token> {
        self.used.get(&id).map(|named| named.token)
    }

    /// An endpoint was closed: the next one of that name gets its token.
    pub(super) fn leave(&mut self, id: EndpointId) {
        let Some(named) = self.used.remove(&id) else { return };
        self.by_token.remove(&named.token);
        self.left.push_back((id, named));
        if self.left.len() > MOST_LEFT {
            self.left.pop_front();
        }
    }

    /// Another token in the place of one that a closed endpoint still uses, for the endpoint that has that now, or gets
    /// it next.
    pub(super) fn replace(&mut self, token: Token) -> Token {
        let another = Token(random_octets());
        let left = self.left.iter_mut().map(|(_, named)| named).find(|left| left.token == token);
        let used = self.by_token.remove(&token).and_then(|id| {
            self.by_token.insert(another, id);
            self.used.get_mut(&id)
        });
        if let Some(named) = used.or(left) {
            named.token = another;
        }
        another
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "tcp://server:5555";

    fn id(number: u64) -> EndpointId {
        EndpointId(number)
    }

    #[test]
    fn an_endpoint_that_is_used_again_has_the_token_it_had() {
        let mut tokens = Tokens::default();
        let (token, before) = tokens.take(id(1), Role::Connected, NAME);
        assert!(before.is_none());
        tokens.leave(id(1));
        tokens.leave(id(1));
        assert!(tokens.take(id(2), Role::Connected, NAME) == (token, Some(id(1))));
    }

    #[test]
    fn no_two_uses_at_a_time_and_no_two_sockets_have_one_token() {
        let (mut tokens, mut others) = (Tokens::default(), Tokens::default());
        let mut seen = Vec::new();
        for tokens in [&mut tokens, &mut others] {
            for (number, role, name) in [
                (1, Role::Connected, NAME),
                (2, Role::Connected, NAME),
                (3, Role::Bound, NAME),
                (4, Role::Connected, "tcp://server:5556"),
            ] {
                seen.push(tokens.take(id(number), role, name).0);
            }
        }
        (0..seen.len()).for_each(|at| assert!(!seen[..at].contains(&seen[at])));
        // Of two that were closed each is used again once.
        tokens.leave(id(2));
        tokens.leave(id(1));
        let again = [5, 6, 7].map(|number| tokens.take(id(number), Role::Connected, NAME));
        assert!(again[..2] == [(seen[1], Some(id(2))), (seen[0], Some(id(1)))]);
        assert!(!seen.contains(&again[2].0) && again[2].1.is_none());
    }

    #[test]
    fn a_token_that_was_replaced_does_not_come_back() {
        let mut tokens = Tokens::default();
        let (first, _) = tokens.take(id(1), Role::Connected, NAME);
        let second = tokens.replace(first);
        tokens.leave(id(1));
        assert!(first != second && tokens.take(id(2), Role::Connected, NAME).0 == second);
        // Nor if the endpoint for which it is replaced was closed meanwhile.
        tokens.leave(id(2));
        let third = tokens.replace(second);
        assert!(third != second && tokens.take(id(3), Role::Connected, NAME).0 == third);
    }

    #[test]
    fn few_closed_endpoints_are_remembered() {
        let mut tokens = Tokens::default();
        for number in 0..10_000 {
            tokens.take(id(number), Role::Connected, &format!("tcp://server:{number}"));
            tokens.leave(id(number));
        }
        assert!(tokens.used.is_empty() && tokens.by_token.is_empty() && tokens.left.len() == MOST_LEFT);
    }
}
