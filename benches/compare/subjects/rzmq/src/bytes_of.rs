//! Bytes to rzmq's messages and back.

use rzmq::Msg;

/// A message copied from `body`.
pub fn message(body: &[u8]) -> Msg {
    Msg::from_vec(body.to_vec())
}

/// The bytes of a message of one frame.
pub fn whole(message: &Msg) -> &[u8] {
    message.data().unwrap_or_default()
}
