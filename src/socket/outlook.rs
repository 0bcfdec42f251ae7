//! What is known of each endpoint: whether it is connected, and if not, why not. Told by
//! [`Socket::endpoints`](crate::Socket::endpoints), and by the errors of calls that waited for a peer in vain.

use super::core::{Core, Endpoints, Forgotten};
use super::endpoints::INPROC;
use super::names::Names;
use super::sending::Wire;
use crate::endpoint::{EndpointInfo, EndpointState};
use crate::engine::{Course, EndpointId};
use crate::error::{Missing, shortened};
use crate::event::{Cause, Event, EventKind};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// How an endpoint has fared.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlook {
    waiting: bool,
    /// Where it listens: a peer was accepted once.
    has_come: bool,
    /// Attempts that have failed since the last connection, ours or, where it listens, those of newcomers.
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

impl Endpoints {
    /// An endpoint ends, and nobody asked for it. If it connects, why is kept for those who wait for a peer later.
    pub(super) fn give_up(&mut self, id: EndpointId, cause: Option<Cause>) -> Option<Forgotten> {
        let (connects, outlook) = (self.connected.contains(id), self.outlook.remove(&id).unwrap_or_default());
        let forgotten = self.forget(id)?;
        let (last_error, address) = outlook.last_error.unzip();
        if let Some(cause) = cause.or(last_error).filter(|_| connects) {
            self.given_up = Some(EndpointInfo {
                endpoint: forgotten.name.to_string(),
                state: EndpointState::Ended,
                connections: 0,
                attempts: outlook.attempts,
                last_error: Some(cause),
                address: address.flatten().map(|address| address.to_string()),
            });
        }
        Some(forgotten)
    }

    /// Forgets endpoints of that name that are of no use any more, of those in `left`, which have lost their peers.
    /// Those that are none any more are thrown out of it once they can be more than half of it.
    pub(super) fn forget_ended(&mut self, name: &str, left: &mut Names) {
        let ended: Vec<EndpointId> = left.named(name).collect();
        for id in ended {
            left.remove(id);
            self.forget(id);
        }
        if left.len() > 2 * self.connected.len() + FEW {
            left.retain(|id| self.connected.contains(id));
        }
    }
}

impl Core {
    /// What became of a connecting endpoint.
    pub(super) fn note_course(&self, id: EndpointId, course: Course<'_>) {
        let mut endpoints = self.lock_endpoints();
        if endpoints.connected.contains(id) {
            endpoints.outlook.entry(id).or_default().follow(course);
        }
    }

    /// Records what became of a newcomer at an endpoint that listens. Of one that connects its [`Course`] tells.
    pub(super) fn note_newcomer(&self, event: &Event) {
        let failed = match &event.kind {
            EventKind::HandshakeFailed(cause) | EventKind::AcceptFailed(cause) => Some(cause),
            EventKind::HandshakeSucceeded => None,
            _ => return,
        };
        let mut endpoints = self.lock_endpoints();
        let Endpoints { bound, outlook, .. } = &mut *endpoints;
        let Some(id) = bound.named(&event.endpoint).next() else { return };
        match failed {
            Some(cause) => {
                let address = event.address.as_ref().filter(|address| !address.is_empty());
                outlook.entry(id).or_default().follow(Course::Failed { cause, address });
            }
            None => drop(outlook.insert(id, Outlook { has_come: true, ..Outlook::default() })),
        }
    }

    /// All endpoints, those that it listens at first, each with what is known of it.
    pub(super) fn endpoint_infos(&self) -> Vec<EndpointInfo> {
        if self.is_forked() {
            return Vec::new();
        }
        let mut connections: BTreeMap<EndpointId, usize> = BTreeMap::new();
        // An inproc endpoint and its peer come under one gate, so that an endpoint without is one whose peer has gone.
        let side = self.lock_send();
        for (_, peer) in side.peers.iter() {
            *connections.entry(peer.about.endpoint_id).or_default() += usize::from(!matches!(peer.wire, Wire::None));
        }
        let endpoints = self.lock_endpoints();
        drop(side);
        let count = |id: EndpointId| connections.get(&id).copied().unwrap_or(0);
        let has_ended = |id: EndpointId, endpoint: &str| is_inproc(endpoint) && !connections.contains_key(&id);
        let bound = endpoints.bound.iter().map(|(id, endpoint)| {
            let outlook = endpoints.outlook.get(&id).cloned().unwrap_or_default();
            let (last_error, address) = outlook.last_error.unzip();
            EndpointInfo {
                endpoint: endpoint.to_string(),
                state: EndpointState::Listening,
                connections: count(id),
                attempts: outlook.attempts,
                last_error,
                address: address.flatten().map(|address| address.to_string()),
            }
        });
        let connected = endpoints.connected.iter().map(|(id, endpoint)| {
            // A peer is attached a moment before it is told that the connection is up, and that ends what is known of
            // failures.
            let outlook = endpoints.outlook.get(&id).filter(|_| count(id) == 0).cloned().unwrap_or_default();
            let (last_error, address) = outlook.last_error.unzip();
            EndpointInfo {
                endpoint: endpoint.to_string(),
                state: match count(id) {
                    0 if has_ended(id, endpoint) => EndpointState::Ended,
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
        if connecting.is_empty() {
            reasons.extend(self.lock_endpoints().given_up.as_ref().map(why_given_up));
        }
        if let (true, Some(endpoint)) = (connecting.is_empty(), listening.first()) {
            reasons.push(why_nobody_came(endpoint, self.has_come_to(endpoint)));
        }
        let more = reasons.len().saturating_sub(NAMED);
        reasons.truncate(NAMED);
        if more > 0 {
            reasons.push(format!("{more} more"));
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    fn has_come_to(&self, listening: &EndpointInfo) -> bool {
        let endpoints = self.lock_endpoints();
        let mut ids = endpoints.bound.named(&listening.endpoint);
        ids.any(|id| endpoints.outlook.get(&id).is_some_and(|outlook| outlook.has_come))
    }

    /// Why a send found no room: a budget that is used up, or missing peers if it waited for them, or if nobody can
    /// come as there is no endpoint. `None` where peers are there, and full.
    pub(super) fn why_no_room(&self, waited: bool) -> Option<Missing> {
        let used_up = "the sending half of the context's `byte_budget` is used up";
        let missing = if waited || self.has_no_endpoint() { self.why_no_peer() } else { None };
        match (missing, self.queued.is_stopped()) {
            (missing, false) => missing,
            (None, true) => Some(Missing::new(used_up)),
            (Some(missing), true) => Some(missing.and(used_up)),
        }
    }

    fn has_no_endpoint(&self) -> bool {
        let endpoints = self.lock_endpoints();
        endpoints.bound.is_empty() && endpoints.connected.is_empty()
    }

    /// The same as [`why_missing`](Core::why_missing) for a send that found no peer in time, with how many there are.
    /// `None` where peers are there, and full.
    pub(super) fn why_no_peer(&self) -> Option<Missing> {
        let endpoints = self.endpoint_infos();
        let connecting = endpoints.iter().filter(|endpoint| endpoint.state != EndpointState::Listening).count();
        let there = self.connections();
        let missing = endpoints.is_empty() || endpoints.iter().any(|endpoint| endpoint.connections == 0);
        let why = if missing { self.why_missing()? } else { return None };
        Some(Missing::peers(there, connecting.max(there).max(1), &why))
    }
}

/// So few endpoints that are none any more are not worth a look.
const FEW: usize = 64;

/// So many different reasons are named.
const NAMED: usize = 3;

fn is_inproc(endpoint: &str) -> bool {
    endpoint.split_once("://").is_some_and(|(scheme, _)| scheme == INPROC)
}

/// Why an endpoint is one no more that nobody took back.
fn why_given_up(endpoint: &EndpointInfo) -> String {
    let why = match &endpoint.last_error {
        Some(Cause::Refused(why)) if is_inproc(&endpoint.endpoint) => why.to_string(),
        Some(_) | None => why_not(endpoint),
    };
    format!("`{}` was given up: {why}", shortened(&endpoint.endpoint))
}

/// Why an endpoint that listens has no connection.
fn why_nobody_came(endpoint: &EndpointInfo, has_come: bool) -> String {
    let EndpointInfo { last_error, address, attempts, .. } = endpoint;
    let endpoint = shortened(&endpoint.endpoint);
    let Some(cause) = last_error else {
        return if has_come {
            format!("nobody is connected to {endpoint} any more")
        } else {
            format!("nobody has connected to {endpoint}")
        };
    };
    let from = address.as_ref().map(|address| format!(" ({address})")).unwrap_or_default();
    let attempts = if *attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
    format!("no peer was accepted at {endpoint}: {cause}{from}, {attempts}")
}

/// Why a connecting endpoint has no connection.
fn why_not(endpoint: &EndpointInfo) -> String {
    let name = shortened(&endpoint.endpoint);
    let at = endpoint.address.as_deref().unwrap_or_else(|| {
        endpoint.endpoint.split_once("://").map_or(endpoint.endpoint.as_str(), |(_, address)| address)
    });
    let at = shortened(at);
    if endpoint.state == EndpointState::Ended && is_inproc(&endpoint.endpoint) {
        let why = match &endpoint.last_error {
            None | Some(Cause::Peer) => format!("the binder of {name} has closed"),
            Some(cause) => format!("{name}: {cause}"),
        };
        return format!("{why}; inproc does not connect again by itself: call `connect`");
    }
    let Some(cause) = &endpoint.last_error else {
        return if is_inproc(&endpoint.endpoint) {
            format!("nobody has bound {name}")
        } else {
            format!("no answer from {at} yet")
        };
    };
    let what = match cause {
        Cause::System(error) => match error.kind() {
            // With a text of its own it says more.
            io::ErrorKind::ConnectionRefused if error.get_ref().is_none() => format!("connection refused by {at}"),
            io::ErrorKind::TimedOut if endpoint.address.is_some() => format!("no answer from {at}"),
            io::ErrorKind::NotFound if error.raw_os_error().is_some() => format!("there is no {at}"),
            _ if endpoint.address.is_some() => format!("{at}: {error}"),
            _ => format!("{name}: {error}"),
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
