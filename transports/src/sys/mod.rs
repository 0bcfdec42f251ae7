//! The few things that need `unsafe`, each behind a safe type: the only home of unsafe code in this crate.
//!
//! * [`ReadBuf`] and [`read_into`]: reading into memory that nobody has zeroed;
//! * [`Nest`]: one poll inside another;
//! * [`sleep_precisely`]: a sleep in a poll that is shorter than a millisecond;
//! * [`Parker`]: putting one thread to sleep, with signals reported;
//! * [`watch_forks`] and [`fork_generation`]: noticing that this process is a forked child; [`PerProcess`]: not sharing
//!   a global with it;
//! * [`at_exit`], [`thread_number`] and [`write_to_stderr`]: the end of the process;
//! * [`random_octets`], [`set_thread_affinity`], [`Spare`], and on Unix [`receive`].

#![expect(unsafe_code, reason = "this module is where the crate keeps its unsafe code")]

mod affinity;
mod exit;
mod fork;
mod nest;
mod parker;
mod per_process;
mod random;
mod read_buf;
mod sleep;
mod spare;
#[cfg(unix)]
mod unix;

pub use affinity::set_thread_affinity;
pub use exit::{at_exit, thread_number, write_to_stderr};
pub use fork::{fork_generation, watch_forks};
pub use nest::{NESTING, Nest};
pub use parker::{Parked, Parker};
pub use per_process::PerProcess;
pub use random::random_octets;
pub use read_buf::{ReadBuf, read_into};
pub use sleep::sleep_precisely;
pub use spare::Spare;
#[cfg(unix)]
pub use unix::receive;
#[cfg(unix)]
pub(crate) use unix::{
    FolderLock, FolderLocking, interface_addresses, interface_index, is_unanswered, peer_credentials, rename_if_free,
    unacknowledged, user,
};
