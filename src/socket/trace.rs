//! What monitors see, told through the crate `tracing`: causes at WARN, once until they change, what is repeated at
//! DEBUG, the life of endpoints and connections at INFO.

use crate::event::{Cause, Event, EventKind};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::{debug, info, warn};

/// The last cause told of each endpoint and, where it connects, of each of its addresses.
#[derive(Default)]
pub(super) struct Told(Mutex<HashMap<Subject, String>>);

type Subject = (Arc<str>, Option<Arc<str>>);

/// So many are remembered; then all are told again.
const REMEMBERED: usize = 1024;

impl Told {
    /// Whether a cause is another than the last one at that place.
    fn is_news(&self, event: &Event, listens: bool, cause: &Cause) -> bool {
        // A cause that counts how often it was met is the same cause.
        let text: String = cause.to_string().chars().filter(|letter| !letter.is_ascii_digit()).collect();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= REMEMBERED {
            told.clear();
        }
        // Whoever comes to a listener has an address of its own, which says nothing.
        let address = if listens { None } else { event.address.clone() };
        told.insert((Arc::clone(&event.endpoint), address), text.clone()) != Some(text)
    }

    fn forget(&self, endpoint: &Arc<str>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _), _| of != endpoint);
    }

    /// Tells an event. `listens` says whether an endpoint of that name is bound.
    pub(super) fn tell(&self, event: &Event, listens: impl FnOnce() -> bool) {
        let (endpoint, address, peer) = (&*event.endpoint, event.address.as_deref(), event.peer);
        macro_rules! life {
            ($kind:literal, $text:literal $(, $field:ident = $value:expr)*) => {
                info!(kind = %$kind, endpoint, address, ?peer, $($field = $value,)* $text)
            };
        }
        macro_rules! cause {
            ($kind:literal, $text:literal, $cause:expr) => {
                if self.is_news(event, listens(), $cause) {
                    warn!(kind = %$kind, endpoint, address, ?peer, cause = %$cause, $text)
                } else {
                    debug!(kind = %$kind, endpoint, address, ?peer, cause = %$cause, $text)
                }
            };
        }
        match &event.kind {
            EventKind::Listening => life!("Listening", "listening"),
            EventKind::BindFailed(cause) => cause!("BindFailed", "could not bind", cause),
            EventKind::Accepted => life!("Accepted", "a connection was accepted"),
            EventKind::AcceptFailed(cause) => cause!("AcceptFailed", "a connection could not be accepted", cause),
            EventKind::ConnectDelayed => {
                debug!(kind = %"ConnectDelayed", endpoint, address, ?peer, "connecting");
            }
            EventKind::Connected => life!("Connected", "the transport has connected"),
            EventKind::ConnectRetried(wait) => {
                debug!(kind = %"ConnectRetried", endpoint, ?wait, ?peer, "the next attempt follows");
            }
            EventKind::HandshakeSucceeded => {
                if !listens() {
                    self.forget(&event.endpoint);
                }
                life!("HandshakeSucceeded", "a peer is there");
            }
            EventKind::HandshakeFailed(cause) => cause!("HandshakeFailed", "the handshake failed", cause),
            EventKind::Oddity(cause) => cause!("Oddity", "a peer did something odd that does no harm", cause),
            EventKind::Disconnected(cause @ (Cause::Peer | Cause::Local)) => {
                life!("Disconnected", "a connection has ended", cause = tracing::field::display(cause));
            }
            EventKind::Disconnected(cause) => cause!("Disconnected", "a connection was lost", cause),
            EventKind::Closed(Cause::Local) => life!("Closed", "an endpoint was closed"),
            EventKind::Closed(cause) => cause!("Closed", "an attempt to connect failed", cause),
            EventKind::Unsent(unsent) => {
                let (messages, bytes) = (unsent.messages, unsent.bytes);
                warn!(kind = %"Unsent", endpoint, messages, bytes, "messages of a closed socket or endpoint were given up");
            }
            EventKind::GivenUp { octets, refusal } => {
                warn!(kind = %"GivenUp", endpoint, address, ?peer, octets, %refusal, "a message was given up");
            }
            EventKind::SubscriptionsGivenUp { count, octets, refusal } => {
                warn!(
                    kind = %"SubscriptionsGivenUp", endpoint, address, ?peer, count, octets, %refusal,
                    "subscriptions were given up"
                );
            }
            EventKind::BudgetReached(shortage) => {
                warn!(kind = %"BudgetReached", %shortage, "the context's byte budget is used up")
            }
            EventKind::MonitorStopped => life!("MonitorStopped", "a socket has ended"),
        }
    }
}
