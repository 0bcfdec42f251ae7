//! Routing policy only: which peer is next, is this send legal now, who subscribed, who has that routing id. No
//! sockets, no protocol, no queues: peers are numbers here, and whether one has room is asked of the caller.

pub(crate) mod balance;
pub(crate) mod reqrep;
pub(crate) mod router;
pub mod subscriptions;
