//! Binding and connecting, and undoing it.

use super::core::{Core, Endpoints, Forgotten};
use super::membership::IfTaken;
use super::names::Names;
use super::routing_id::named;
use super::sending::{About, SendSide};
use super::tokens::Role;
use crate::endpoint::Endpoint;
use crate::engine::contain::contain;
use crate::engine::listener::SharedListener;
use crate::engine::port::Command;
use crate::engine::{EndpointId, Host, Settings};
use crate::error::{Error, shortened};
use crate::event::{Event, EventKind};
use crate::kind::SocketKind;
use crate::options::{Options, ReconnectStop, Setting};
use crate::peer::PeerId;
use crate::protocol::{Announcement, Config, Heartbeat, Token};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use wiremesh_transports::{LinkOptions, Listener, Purpose, Transport};

/// The scheme of links between sockets of one context.
pub(super) const INPROC: &str = "inproc";

impl Core {
    /// Binds an endpoint and says what it became.
    pub(super) fn bind(self: &Arc<Core>, text: &str) -> Result<Endpoint, Error> {
        let bound = self.try_bind(text);
        let refused = match &bound {
            Err(Error::AddressInUse { .. }) => Some(io::ErrorKind::AddrInUse.into()),
            Err(Error::System { source, .. }) => Some(match source.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(source.kind(), source.to_string()),
            }),
            Ok(_) | Err(_) => None,
        };
        if let Some(why) = refused {
            let kind = EventKind::BindFailed(why.into());
            self.event(Event { kind, endpoint: text.into(), address: None, peer: None });
        }
        bound
    }

    fn try_bind(self: &Arc<Core>, text: &str) -> Result<Endpoint, Error> {
        self.check_usable()?;
        let endpoint: Endpoint = text.parse()?;
        if endpoint.scheme() == INPROC {
            return self.bind_inproc(endpoint);
        }
        let transport = self.transport(&endpoint, Purpose::Bind)?;
        let options = self.lock_options().clone();
        let link = link_options(&options);
        let bound = self.port.with_descriptors(|| transport.bind(endpoint.address(), &link));
        let listener = bound.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => Error::AddressInUse { endpoint: text.to_owned() },
            _ => Error::System { action: "binding", subject: text.to_owned(), source },
        })?;
        self.listen(endpoint.scheme(), Some(text), listener, &options)
    }

    /// Takes over a listener that is bound already.
    pub(super) fn adopt(
        self: &Arc<Core>,
        scheme: &str,
        listener: io::Result<Box<dyn Listener>>,
    ) -> Result<Endpoint, Error> {
        self.check_usable()?;
        let failed = |source| Error::System { action: "adopting", subject: format!("a {scheme} listener"), source };
        let options = self.lock_options().clone();
        self.listen(scheme, None, listener.map_err(failed)?, &options)
    }

    fn listen(
        self: &Arc<Core>,
        scheme: &str,
        given: Option<&str>,
        listener: Box<dyn Listener>,
        options: &Options,
    ) -> Result<Endpoint, Error> {
        let bound = Endpoint::new(scheme, &listener.local_address());
        self.open_port(bound.as_str())?;
        let listener = SharedListener::new(listener);
        let (id, token) = {
            let mut endpoints = self.lock_endpoints();
            let id = endpoints.allot();
            let (token, _) = endpoints.tokens.take(id, Role::Bound, bound.as_str());
            endpoints.bound.insert(id, bound.as_str().into());
            endpoints.listeners.insert(id, Arc::clone(&listener));
            if let Some(given) = given {
                endpoints.given.insert(id, given.into());
            }
            (id, token)
        };
        // Peers may come from now on: a monitor that is made after this call hears of them, and not of this.
        let kind = EventKind::Listening;
        self.event(Event { kind, endpoint: bound.as_str().into(), address: None, peer: None });
        let settings = Arc::new(settings(self.kind, options, token));
        self.port.submit(Command::Listen { id, endpoint: bound.as_str().into(), listener, settings });
        self.end_if_closed()?;
        Ok(bound)
    }

    /// Connects to an endpoint; the connection is made, and kept, in the background. The peer is known by the routing
    /// id that was set for the next one, if any.
    pub(super) fn connect(self: &Arc<Core>, text: &str) -> Result<Endpoint, Error> {
        self.connect_under(text, None)
    }

    /// As [`connect`](Core::connect), for a ROUTER that gives the peer a routing id.
    pub(super) fn connect_as(self: &Arc<Core>, text: &str, id: &[u8]) -> Result<Endpoint, Error> {
        self.check()?;
        let id = Bytes::copy_from_slice(id);
        let setting = Setting::ConnectRoutingId(id.clone());
        if setting.row().check_kind(self.kind).is_err() {
            return Err(Error::NotSupported { kind: self.kind, operation: "give their peers routing ids" });
        }
        setting.check()?;
        self.connect_under(text, Some(id))
    }

    fn connect_under(self: &Arc<Core>, text: &str, given: Option<Bytes>) -> Result<Endpoint, Error> {
        self.check_usable()?;
        let endpoint: Endpoint = text.parse()?;
        if endpoint.scheme() == INPROC {
            return self.connect_inproc(endpoint, given);
        }
        let transport = self.transport(&endpoint, Purpose::Connect)?;
        self.open_port(text)?;
        let name: Arc<str> = text.into();
        let (id, token, before) = {
            let mut endpoints = self.lock_endpoints();
            if self.connects_once() && endpoints.connected.has(text) {
                return Ok(endpoint);
            }
            let id = endpoints.allot();
            endpoints.connected.insert(id, Arc::clone(&name));
            let (token, before) = endpoints.tokens.take(id, Role::Connected, text);
            (id, token, before)
        };
        let settings = Arc::new(settings(self.kind, &self.lock_options(), token));
        // A peer that does not know us by a token need not see the previous connection end first.
        let before = before.filter(|_| settings.protocol.announcement.is_some());
        let (immediate, assigned_id) = self.next_routing_id(given);
        if immediate && !assigned_id.is_empty() {
            self.lock_endpoints().assigned.insert(id, assigned_id.clone());
        }
        let made = if immediate { Ok(None) } else { self.make_peer(id, &name, assigned_id.clone()).map(Some) };
        let peer = match made {
            Ok(peer) => peer,
            Err(reason) => {
                self.endpoint_ended(id);
                let reason = format!("{reason}: {}", named(&assigned_id));
                return Err(Error::InvalidEndpoint { endpoint: text.to_owned(), reason });
            }
        };
        let address: Arc<str> = endpoint.address().into();
        self.port.submit(Command::Dial { id, endpoint: name, address, transport, settings, peer, before });
        self.end_if_closed()?;
        Ok(endpoint)
    }

    /// Returns true for kinds of which a second connection to the same endpoint would only double what arrives, or
    /// whose turn it is.
    pub(super) fn connects_once(&self) -> bool {
        matches!(self.kind, SocketKind::Dealer | SocketKind::Sub | SocketKind::Pub | SocketKind::Req)
    }

    /// Whether a new endpoint is `immediate`, and by which routing id its peer is known: the one given, or the
    /// option's, which is for one endpoint.
    pub(super) fn next_routing_id(&self, given: Option<Bytes>) -> (bool, Bytes) {
        let mut options = self.lock_options();
        let assigned = given.unwrap_or_else(|| std::mem::take(&mut options.connect_routing_id));
        (options.immediate, assigned)
    }

    /// A close that came while an endpoint was being made has not seen it.
    fn end_if_closed(&self) -> Result<(), Error> {
        if self.is_closed() {
            self.close_listeners();
            self.cut_linger();
        }
        self.check()
    }

    /// A peer whose outbox fills before there is a connection.
    fn make_peer(&self, id: EndpointId, name: &Arc<str>, assigned_id: Bytes) -> Result<PeerId, &'static str> {
        let mut side = self.lock_send();
        let peer = side.insert(About::new(id, Arc::clone(name), assigned_id.clone()), Role::Connected);
        // A ROUTER cannot address a peer whose id it does not know: it waits for the peer to say it, unless it assigns
        // one itself. A PUB learns of subscriptions later in any case.
        let waits = self.kind == SocketKind::Router && assigned_id.is_empty();
        if !waits {
            if let Err(reason) = self.place(&mut side, peer, &assigned_id, IfTaken::Refuse) {
                side.condemn(peer);
                return Err(reason);
            }
        }
        drop(side);
        self.waiters.notify(crate::engine::waiters::Interest::ROOM, usize::MAX);
        Ok(peer)
    }

    /// Stops listening at an endpoint and closes the connections accepted there, within the linger time.
    pub(super) fn unbind(&self, text: &str) -> Result<(), Error> {
        self.undo(text, Role::Bound, |endpoints| &endpoints.bound)
    }

    /// Closes the connections to an endpoint, within the linger time, and makes no further ones.
    pub(super) fn disconnect(&self, text: &str) -> Result<(), Error> {
        self.undo(text, Role::Connected, |endpoints| &endpoints.connected)
    }

    fn undo(&self, text: &str, role: Role, list: impl Fn(&Endpoints) -> &Names) -> Result<(), Error> {
        self.check()?;
        let endpoint: Endpoint = text.parse()?;
        let (id, Forgotten { listener, ticket, .. }) = {
            let mut endpoints = self.lock_endpoints();
            let found = find(&endpoints, list(&endpoints), text);
            let Some((id, forgotten)) = found.and_then(|id| Some((id, endpoints.forget(id)?))) else {
                let known: Vec<_> = list(&endpoints).iter().map(|(_, known)| shortened(known)).take(8).collect();
                let mut known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                known += other_way(&endpoints, text);
                let verb = match role {
                    Role::Bound => "bound to",
                    Role::Connected => "connected to",
                };
                return Err(Error::NoSuchEndpoint { endpoint: text.to_owned(), verb, known });
            };
            (id, forgotten)
        };
        listener.iter().for_each(|listener| self.close_listener(listener));
        if endpoint.scheme() == INPROC {
            self.undo_inproc(&endpoint, id, role, ticket);
            return Ok(());
        }
        let peers = self.lock_send().peers_of(id, role);
        self.retire(&peers);
        self.port.submit(Command::End { scope: Some(id), linger: self.linger() });
        Ok(())
    }

    /// Closes all listeners of a socket that closes.
    pub(super) fn close_listeners(&self) {
        let listeners = std::mem::take(&mut self.lock_endpoints().listeners);
        listeners.values().for_each(|listener| self.close_listener(listener));
    }

    /// Closes a listener at once, so that its address can be bound again when the call returns.
    fn close_listener(&self, listener: &SharedListener) {
        if let Err(panic) = contain(|| listener.close(None)) {
            self.port.submit(Command::Fail(panic));
        }
    }

    /// The peers of an endpoint that ends get nothing new; what waits for them is still delivered.
    pub(super) fn retire(&self, peers: &[PeerId]) {
        for &peer in peers {
            let has_topics = {
                let mut side = self.lock_send();
                if let Some(peer) = side.peer_mut(peer) {
                    peer.retired = true;
                }
                self.unplace(&mut side, peer)
            };
            if has_topics {
                self.withdraw_all(peer);
            }
        }
        self.reveal();
    }

    fn open_port(&self, text: &str) -> Result<(), Error> {
        let host: Arc<dyn Host> = self.me.upgrade().ok_or(Error::Closed)?;
        self.port.open(&host).map_err(|source| Error::System {
            action: "starting the engine for",
            subject: text.to_owned(),
            source,
        })
    }

    /// Calls that make something need the context as well.
    fn check_usable(&self) -> Result<(), Error> {
        self.check()?;
        if self.context.is_shut() { Err(Error::Closed) } else { Ok(()) }
    }

    fn transport(&self, endpoint: &Endpoint, purpose: Purpose) -> Result<Arc<dyn Transport>, Error> {
        let transports = self.context.lock_transports();
        let Some(transport) = transports.get(endpoint.scheme()) else {
            let known: Vec<&str> = transports.schemes().chain([INPROC]).collect();
            let lower = endpoint.scheme().to_ascii_lowercase();
            let hint = if known.contains(&lower.as_str()) { ", all in lower case" } else { "" };
            return Err(Error::UnknownScheme { endpoint: endpoint.to_string(), known: known.join(", ") + hint });
        };
        drop(transports);
        transport.check(endpoint.address(), purpose).map_err(|error| Error::InvalidEndpoint {
            endpoint: endpoint.to_string(),
            reason: error.problem().to_owned(),
        })?;
        Ok(transport)
    }
}

impl SendSide {
    /// The peers of an endpoint that get what is sent.
    pub(super) fn peers_of(&self, endpoint: EndpointId, role: Role) -> Vec<PeerId> {
        match role {
            Role::Connected => self.dialed.get(&endpoint).copied().into_iter().collect(),
            Role::Bound => {
                let all = self.accepted.range((endpoint, PeerId::FIRST)..).take_while(|(id, _)| *id == endpoint);
                all.map(|(_, peer)| *peer).collect()
            }
        }
    }
}

/// The engine's share of the options, as they are now, for an endpoint with that token.
fn settings(kind: SocketKind, options: &Options, token: Token) -> Settings {
    let mut protocol = protocol_config(kind, options);
    if options.announce && options.profile.announces() {
        protocol.announcement = Some(Announcement {
            max_message: Some(protocol.max_message).filter(|&limit| limit != u64::MAX),
            max_frames: Some(protocol.max_frames).filter(|&limit| limit != u32::MAX),
            token,
            life_signs: true,
        });
    }
    Settings {
        link: link_options(options),
        protocol: Arc::new(protocol),
        reconnect_interval: options.reconnect_interval,
        reconnect_max: options.reconnect_max,
        connect_timeout: options.connect_timeout,
        stop_on_refused: matches!(options.reconnect_stop, ReconnectStop::Refused | ReconnectStop::Either),
        stop_on_handshake_failure: matches!(
            options.reconnect_stop,
            ReconnectStop::HandshakeFailed | ReconnectStop::Either
        ),
        half_open: options.half_open_limit as usize,
        max_connections: match options.max_connections {
            0 => usize::MAX,
            most => most as usize,
        },
    }
}

/// The endpoint of a list that a caller means: by its name, by what was given to `bind`, or by a port at every address.
fn find(endpoints: &Endpoints, list: &Names, text: &str) -> Option<EndpointId> {
    let as_given = || endpoints.given.named(text).find(|id| list.contains(*id));
    let at_any = || every_address(text).iter().filter_map(|known| list.named(known).next()).min();
    list.named(text).next().or_else(as_given).or_else(at_any)
}

/// What helps a caller that has taken `unbind` for `disconnect`, or the reverse.
fn other_way(endpoints: &Endpoints, text: &str) -> &'static str {
    // What is asked for is in one of the two lists at most, as it was not found in that of the call.
    if endpoints.connected.has(text) {
        "; it is connected to that one: call `disconnect`"
    } else if endpoints.bound.has(text) {
        "; it is bound to that one: call `unbind`"
    } else {
        ""
    }
}

/// What an endpoint may be bound to where `text` means every address at a port, as `tcp://*:5555` does for
/// `tcp://[::]:5555`.
fn every_address(text: &str) -> Vec<String> {
    let Some((scheme, port)) = text.split_once("://*:") else { return Vec::new() };
    vec![format!("{scheme}://[::]:{port}"), format!("{scheme}://0.0.0.0:{port}")]
}

fn link_options(options: &Options) -> LinkOptions {
    let mut link = LinkOptions::default();
    link.keepalive = options.tcp_keepalive;
    link.keepalive_idle = options.tcp_keepalive_idle;
    link.keepalive_interval = options.tcp_keepalive_interval;
    link.keepalive_count = options.tcp_keepalive_count;
    link.send_buffer = options.send_buffer;
    link.receive_buffer = options.receive_buffer;
    link.type_of_service = options.type_of_service;
    link.priority = options.priority;
    link.busy_poll = options.busy_poll;
    link.bind_to_device = options.bind_to_device.clone();
    link.max_retransmit = options.tcp_max_retransmit;
    link.congestion_control = options.tcp_congestion_control.clone();
    link.backlog = options.backlog;
    link.ipv6 = options.ipv6;
    link
}

/// What a frame takes beside its body, and how many frames are allowed in any message.
const FRAME: u64 = 64;
const FEW_FRAMES: u32 = 1 << 18;

/// The most frames that a message may have. They take memory that their octets do not tell of.
pub(super) fn accepted_frames(options: &Options) -> u32 {
    let most = match options.max_message_size {
        0 => u32::MAX,
        octets => u32::try_from(octets / FRAME).unwrap_or(u32::MAX).max(FEW_FRAMES),
    };
    options.max_message_frames.min(most)
}

pub(super) fn protocol_config(kind: SocketKind, options: &Options) -> Config {
    let mut config = Config::new(kind);
    config.identity = options.routing_id.clone();
    config.properties = options.metadata.clone();
    config.profile = options.profile;
    config.max_message = if options.max_message_size == 0 { u64::MAX } else { options.max_message_size };
    config.max_frames = accepted_frames(options);
    config.handshake_timeout = options.handshake_timeout.filter(|limit| !limit.is_zero());
    if !options.heartbeat_interval.is_zero() {
        config.heartbeat = Some(Heartbeat {
            interval: options.heartbeat_interval,
            timeout: options.heartbeat_timeout.unwrap_or(options.heartbeat_interval),
            ttl: options.heartbeat_ttl,
        });
    }
    config
}
