//! The knobs of a link. Which socket calls they become is the transport's affair.

use std::time::Duration;

/// What a link is set up with. `None` leaves the system's default alone.
///
/// The options are applied before a connect or a listen and again on every accepted stream. Changing the struct later
/// changes later links only. Except where noted they concern `tcp`; the other transports ignore what has no meaning
/// for them. If the system refuses a value, the bind, connect or accept fails with an error that names the option.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkOptions {
    /// Whether the kernel probes a silent connection. Default: `None`, which is off on every common system.
    pub keepalive: Option<bool>,
    /// Silence before the first probe, in whole seconds, rounded up. Needs `keepalive: Some(true)`. Default: `None`
    /// (two hours on Linux).
    pub keepalive_idle: Option<Duration>,
    /// Time between probes, in whole seconds, rounded up. Needs `keepalive: Some(true)`. Ignored on OpenBSD, which has
    /// no such option. Default: `None` (75 s on Linux).
    pub keepalive_interval: Option<Duration>,
    /// Unanswered probes before the connection counts as lost. Needs `keepalive: Some(true)`. Ignored on OpenBSD.
    /// Default: `None` (9 on Linux).
    pub keepalive_count: Option<u32>,
    /// Size of the kernel's send buffer in bytes, on `tcp` and `ipc`. The kernel clamps it silently (Linux also doubles
    /// it), and on `tcp` setting it ends automatic sizing. Default: `None`.
    pub send_buffer: Option<usize>,
    /// Size of the kernel's receive buffer in bytes; otherwise as `send_buffer`. Default: `None`.
    pub receive_buffer: Option<usize>,
    /// The type-of-service octet (IPv4) or traffic class (IPv6) of outgoing packets. Default: `None`.
    pub type_of_service: Option<u8>,
    /// Queueing priority of outgoing packets (`SO_PRIORITY`, 0 to 6 without privilege), on `tcp` and `ipc`. Linux only,
    /// ignored elsewhere. Default: `None`.
    pub priority: Option<u32>,
    /// How long a read may busy-poll the network device (`SO_BUSY_POLL`), in whole microseconds. Linux only, ignored
    /// elsewhere; raising it may need a privilege. Default: `None`.
    pub busy_poll: Option<Duration>,
    /// Name of the one network device to use (`SO_BINDTODEVICE`). Linux only; elsewhere it is an error rather than
    /// ignored, because ignoring it would open the other devices. May need a privilege. Default: `None`.
    pub bind_to_device: Option<String>,
    /// How long written data may stay unacknowledged before the connection counts as lost (`TCP_USER_TIMEOUT`), in
    /// whole milliseconds. Linux only, ignored elsewhere. Default: `None` (about 15 minutes on Linux).
    pub max_retransmit: Option<Duration>,
    /// Name of the congestion control algorithm (`TCP_CONGESTION`), which the system must have and allow. Linux and
    /// FreeBSD only, ignored elsewhere. Default: `None`, the system's choice, except that connections within the host
    /// use one that does not pace what it sends (`reno`).
    pub congestion_control: Option<String>,
    /// How many connections may wait to be accepted, on `tcp` and `ipc`. Clamped to 1 … 65,535, and by the kernel to
    /// its own limit (`net.core.somaxconn` on Linux). Default: 1024.
    pub backlog: u32,
    /// Whether IPv6 is used beside IPv4. Default: `true`.
    ///
    /// If `true`, the host `*` binds one socket for both families (`[::]`) where the system has IPv6, else IPv4 alone,
    /// and names resolve to both. If `false`, `*` is `0.0.0.0`, names resolve to IPv4 alone and an IPv6 address is an
    /// error.
    pub ipv6: bool,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            keepalive: None,
            keepalive_idle: None,
            keepalive_interval: None,
            keepalive_count: None,
            send_buffer: None,
            receive_buffer: None,
            type_of_service: None,
            priority: None,
            busy_poll: None,
            bind_to_device: None,
            max_retransmit: None,
            congestion_control: None,
            backlog: 1024,
            ipv6: true,
        }
    }
}

impl LinkOptions {
    /// The backlog as `listen(2)` takes it.
    pub(crate) fn listen_backlog(&self) -> i32 {
        i32::try_from(self.backlog.clamp(1, MAX_BACKLOG)).unwrap_or(i32::MAX)
    }
}

/// Some kernels keep the backlog in 16 bits and would take a larger one for a small one.
const MAX_BACKLOG: u32 = 65_535;
