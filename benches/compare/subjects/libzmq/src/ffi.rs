//! The few functions of libzmq's C API that the measurements need.

use std::ffi::{c_char, c_int, c_long, c_short, c_void};

/// libzmq's message: 64 bytes that only libzmq looks into.
#[repr(C, align(8))]
pub struct RawMessage(pub [u8; 64]);

/// One entry of `zmq_poll`.
#[repr(C)]
pub struct PollItem {
    pub socket: *mut c_void,
    pub fd: c_int,
    pub events: c_short,
    pub revents: c_short,
}

pub const PUB: c_int = 1;
pub const SUB: c_int = 2;
pub const REQ: c_int = 3;
pub const REP: c_int = 4;
pub const DEALER: c_int = 5;
pub const ROUTER: c_int = 6;
pub const PULL: c_int = 7;
pub const PUSH: c_int = 8;

pub const MAX_SOCKETS: c_int = 2;
pub const SUBSCRIBE: c_int = 6;
pub const LINGER: c_int = 17;
pub const SNDHWM: c_int = 23;
pub const RCVHWM: c_int = 24;
pub const XPUB_NODROP: c_int = 69;

pub const DONTWAIT: c_int = 1;
pub const SNDMORE: c_int = 2;
pub const POLLIN: c_short = 1;

unsafe extern "C" {
    pub fn zmq_version(major: *mut c_int, minor: *mut c_int, patch: *mut c_int);
    pub fn zmq_errno() -> c_int;
    pub fn zmq_strerror(errno: c_int) -> *const c_char;
    pub fn zmq_ctx_new() -> *mut c_void;
    pub fn zmq_ctx_set(context: *mut c_void, option: c_int, value: c_int) -> c_int;
    pub fn zmq_socket(context: *mut c_void, kind: c_int) -> *mut c_void;
    pub fn zmq_setsockopt(socket: *mut c_void, option: c_int, value: *const c_void, length: usize) -> c_int;
    pub fn zmq_bind(socket: *mut c_void, endpoint: *const c_char) -> c_int;
    pub fn zmq_connect(socket: *mut c_void, endpoint: *const c_char) -> c_int;
    pub fn zmq_send(socket: *mut c_void, data: *const c_void, length: usize, flags: c_int) -> c_int;
    pub fn zmq_msg_init(message: *mut RawMessage) -> c_int;
    pub fn zmq_msg_close(message: *mut RawMessage) -> c_int;
    pub fn zmq_msg_data(message: *mut RawMessage) -> *mut c_void;
    pub fn zmq_msg_size(message: *const RawMessage) -> usize;
    pub fn zmq_msg_recv(message: *mut RawMessage, socket: *mut c_void, flags: c_int) -> c_int;
    pub fn zmq_msg_send(message: *mut RawMessage, socket: *mut c_void, flags: c_int) -> c_int;
    pub fn zmq_poll(items: *mut PollItem, count: c_int, timeout: c_long) -> c_int;
}
