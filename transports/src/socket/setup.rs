//! Options that more than one transport has.

use std::fmt::Debug;
use std::io;

use socket2::Socket;

use crate::options::LinkOptions;

/// Sets the sizes of the kernel's buffers and the priority of packets.
pub(crate) fn buffers_and_priority(socket: &Socket, options: &LinkOptions) -> io::Result<()> {
    if let Some(size) = options.send_buffer {
        named("send_buffer", size, socket.set_send_buffer_size(clamp(size)))?;
    }
    if let Some(size) = options.receive_buffer {
        named("receive_buffer", size, socket.set_recv_buffer_size(clamp(size)))?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(priority) = options.priority {
        named("priority", priority, socket.set_priority(priority))?;
    }
    Ok(())
}

/// Adds to a refusal which option and value it concerns.
pub(crate) fn named(option: &str, value: impl Debug, result: io::Result<()>) -> io::Result<()> {
    result.map_err(|error| {
        io::Error::new(error.kind(), format!("the system refused the option {option} = {value:?}: {error}"))
    })
}

/// The kernel takes a C integer and clamps it further; a larger number would turn negative.
fn clamp(size: usize) -> usize {
    size.min(i32::MAX as usize)
}
