//! What is known of each endpoint: whether it is connected, and if not, why not. Told by [`Socket::endpoints`](crate::Socket::endpoints),
//! and by the errors of calls that waited for a peer in vain.

use super::core::Core;
use super::sending::Wire;
use crate::endpoint::{EndpointInfo, EndpointState};
use crate::engine::{Course, EndpointId};
use crate::event::Cause;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// How a connecting endpoint has fared.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlook {
    waiting: bool,
    /// Attempts that have failed since the last connection.
    attempts: u32,
    last_error: Option<(Cause, Option<Arc<str>>)>,
}

impl Outlook {
    fn follow(&mut self, course: Course<'_>) {
        match course {
            Course::Trying => self.waiting = false,
            Course::Failed { cause, address } => {
                self.attempts = self.attempts.saturating_add(1);
                self.last_error = Some((cause.clone(), address.cloned()));
            }
            Course::Lost { cause } => self.last_error = Some((cause.clone(), None)),
            Course::Waiting => self.waiting = true,
            Course::Up => *self = Outlook::default(),
        }
    }
}

impl Core {
    /// What became of a connecting endpoint.
    pub(super) fn note_course(&self, id: EndpointId, course: Course<'_>) {
        let mut endpoints = self.lock_endpoints();
        if endpoints.connected.contains_key(&id) {
            endpoints.outlook.entry(id).or_default().follow(course);
        }
    }

    /// All endpoints, those that it listens at first, each with what is known of it.
    pub(super) fn endpoint_infos(&self) -> Vec<EndpointInfo> {
        if self.is_forked() {
            return Vec::new();
        }
        let mut connections: BTreeMap<EndpointId, usize> = BTreeMap::new();
        for (_, peer) in self.lock_send().peers.iter().filter(|(_, peer)| !matches!(peer.wire, Wire::None)) {
            *connections.entry(peer.about.endpoint_id).or_default() += 1;
        }
        let count = |id: &EndpointId| connections.get(id).copied().unwrap_or(0);
        let endpoints = self.lock_endpoints();
        let bound = endpoints.bound.iter().map(|(id, endpoint)| EndpointInfo {
            endpoint: endpoint.clone(),
            state: EndpointState::Listening,
            connections: count(id),
            attempts: 0,
            last_error: None,
            address: None,
        });
        let connected = endpoints.connected.iter().map(|(id, endpoint)| {
            let outlook = endpoints.outlook.get(id).cloned().unwrap_or_default();
            let (last_error, address) = outlook.last_error.unzip();
            EndpointInfo {
                endpoint: endpoint.clone(),
                state: match count(id) {
                    0 if outlook.waiting => EndpointState::Waiting,
                    0 => EndpointState::Connecting,
                    _ => EndpointState::Connected,
                },
                connections: count(id),
                attempts: outlook.attempts,
                last_error,
                address: address.flatten().map(|address| address.to_string()),
            }
        });
        bound.chain(connected).collect()
    }

    /// How many attempts to reach a peer have failed, and why the last one did.
    pub(super) fn last_error_of(&self, id: EndpointId) -> (u32, Option<Cause>) {
        let endpoints = self.lock_endpoints();
        let outlook = endpoints.outlook.get(&id);
        outlook.map_or((0, None), |outlook| (outlook.attempts, outlook.last_error.clone().map(|(cause, _)| cause)))
    }

    /// Why fewer than `wanted` peers are there, as text that follows a colon; `None` where nothing is known.
    pub(super) fn why_missing(&self) -> Option<String> {
        let endpoints = self.endpoint_infos();
        let mut reasons: Vec<String> = Vec::new();
        let missing = endpoints.iter().filter(|endpoint| endpoint.connections == 0);
        let (listening, connecting): (Vec<_>, Vec<_>) =
            missing.partition(|endpoint| endpoint.state == EndpointState::Listening);
        for reason in connecting.iter().map(|endpoint| why_not(endpoint)) {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        if endpoints.is_empty() {
            reasons.push("the socket has no endpoint".to_owned());
        }
        if let (true, Some(endpoint)) = (connecting.is_empty(), listening.first()) {
            reasons.push(format!("nobody has connected to {}", endpoint.endpoint));
        }
        let more = reasons.len().saturating_sub(NAMED);
        reasons.truncate(NAMED);
        if more > 0 {
            reasons.push(format!("{more} more"));
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// The same for a send that found no peer in time, with how many there are. `None` where peers are there, and full.
    pub(super) fn why_no_peer(&self) -> Option<Box<str>> {
        let endpoints = self.endpoint_infos();
        let connecting = endpoints.iter().filter(|endpoint| endpoint.state != EndpointState::Listening).count();
        let there = self.connections();
        let missing = endpoints.is_empty() || endpoints.iter().any(|endpoint| endpoint.connections == 0);
        let why = if missing { self.why_missing()? } else { return None };
        Some(format!("{there} of {} peers: {why}", connecting.max(there).max(1)).into())
    }
}

/// So many different reasons are named.
const NAMED: usize = 3;

/// Why a connecting endpoint has no connection.
fn why_not(endpoint: &EndpointInfo) -> String {
    let at = endpoint.address.as_deref().unwrap_or_else(|| {
        endpoint.endpoint.split_once("://").map_or(endpoint.endpoint.as_str(), |(_, address)| address)
    });
    let Some(cause) = &endpoint.last_error else {
        return if endpoint.endpoint.starts_with("inproc://") {
            format!("nobody has bound {}", endpoint.endpoint)
        } else {
            format!("no answer from {at} yet")
        };
    };
    let what = match cause {
        Cause::System(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => format!("connection refused by {at}"),
            io::ErrorKind::TimedOut if endpoint.address.is_some() => format!("no answer from {at}"),
            io::ErrorKind::NotFound if error.raw_os_error().is_some() => format!("there is no {at}"),
            _ if endpoint.address.is_some() => format!("{at}: {error}"),
            _ => format!("{}: {error}", endpoint.endpoint),
        },
        Cause::Peer => format!("connection closed by {at}"),
        cause => format!("{at}: {cause}"),
    };
    match endpoint.attempts {
        0 => what,
        1 => format!("{what}, 1 attempt"),
        attempts => format!("{what}, {attempts} attempts"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_until_a_connection_is_up_and_the_last_cause_is_kept() {
        let mut outlook = Outlook::default();
        let address: Arc<str> = "127.0.0.1:1".into();
        for _ in 0..14 {
            outlook.follow(Course::Trying);
            let cause = io::Error::from(io::ErrorKind::ConnectionRefused).into();
            outlook.follow(Course::Failed { cause: &cause, address: Some(&address) });
            outlook.follow(Course::Waiting);
        }
        assert!(outlook.waiting);
        let (last_error, address) = outlook.last_error.clone().unzip();
        let mut info = EndpointInfo {
            endpoint: "tcp://127.0.0.1:1".to_owned(),
            state: EndpointState::Waiting,
            connections: 0,
            attempts: outlook.attempts,
            last_error,
            address: address.flatten().map(|address| address.to_string()),
        };
        assert_eq!(why_not(&info), "connection refused by 127.0.0.1:1, 14 attempts");
        info.last_error = Some(io::Error::other("the host \"x\" was not found").into());
        (info.address, info.attempts) = (None, 1);
        assert_eq!(why_not(&info), "tcp://127.0.0.1:1: the host \"x\" was not found, 1 attempt");
        outlook.follow(Course::Up);
        assert!(outlook.attempts == 0 && outlook.last_error.is_none() && !outlook.waiting);
        outlook.follow(Course::Lost { cause: &Cause::Peer });
        assert!(outlook.attempts == 0 && outlook.last_error.is_some());
    }
}
