//! A thin owner around a libzmq socket. Contexts and sockets live until the process ends.

use std::ffi::{CStr, CString, c_int, c_void};

use harness::Outcome;

use crate::ffi;

/// A libzmq context with its one I/O thread.
#[derive(Clone, Copy)]
pub struct Context(*mut c_void);

// SAFETY: libzmq documents contexts as thread safe.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Makes a context that allows `sockets` sockets.
    pub fn new(sockets: c_int) -> Outcome<Context> {
        // SAFETY: a new context is configured before its first socket; null is checked.
        let context = unsafe { ffi::zmq_ctx_new() };
        if context.is_null() {
            return Err(last_error());
        }
        // SAFETY: `context` is live.
        checked(unsafe { ffi::zmq_ctx_set(context, ffi::MAX_SOCKETS, sockets) })?;
        Ok(Context(context))
    }

    /// Opens a socket of type `kind`. Linger is 0: the driver lets a process end only when all has arrived.
    pub fn socket(self, kind: c_int) -> Outcome<Socket> {
        // SAFETY: the context is never terminated.
        let raw = unsafe { ffi::zmq_socket(self.0, kind) };
        if raw.is_null() {
            return Err(last_error());
        }
        let socket = Socket(raw);
        socket.set(ffi::LINGER, 0)?;
        Ok(socket)
    }
}

/// A socket used by one thread at a time.
pub struct Socket(*mut c_void);

// SAFETY: libzmq allows a socket to move between threads with a full fence, which handing over ownership is.
unsafe impl Send for Socket {}

impl Socket {
    /// Sets an integer option.
    pub fn set(&self, option: c_int, value: c_int) -> Outcome {
        // SAFETY: the value is a live int of the length given.
        checked(unsafe { ffi::zmq_setsockopt(self.0, option, (&raw const value).cast(), size_of::<c_int>()) })
    }

    /// Subscribes to everything.
    pub fn subscribe_all(&self) -> Outcome {
        // SAFETY: a null value of length 0 is the empty prefix.
        checked(unsafe { ffi::zmq_setsockopt(self.0, ffi::SUBSCRIBE, std::ptr::null(), 0) })
    }

    /// Binds.
    pub fn bind(&self, endpoint: &str) -> Outcome {
        let endpoint = CString::new(endpoint)?;
        // SAFETY: a live socket and a terminated string.
        checked(unsafe { ffi::zmq_bind(self.0, endpoint.as_ptr()) })
    }

    /// Connects.
    pub fn connect(&self, endpoint: &str) -> Outcome {
        let endpoint = CString::new(endpoint)?;
        // SAFETY: a live socket and a terminated string.
        checked(unsafe { ffi::zmq_connect(self.0, endpoint.as_ptr()) })
    }

    /// Sends a message copied from `body`, waiting for room.
    #[inline]
    pub fn send(&self, body: &[u8]) -> Outcome {
        // SAFETY: `body` is live for the call, which copies it.
        checked(unsafe { ffi::zmq_send(self.0, body.as_ptr().cast(), body.len(), 0) })
    }

    /// Receives one frame into `message`, waiting for it.
    #[inline]
    pub fn recv(&self, message: &mut Message) -> Outcome {
        // SAFETY: `message` is initialised.
        checked(unsafe { ffi::zmq_msg_recv(&mut message.0, self.0, 0) })
    }

    /// Receives one frame if there is one.
    #[inline]
    pub fn try_recv(&self, message: &mut Message) -> Outcome<bool> {
        // SAFETY: `message` is initialised.
        match unsafe { ffi::zmq_msg_recv(&mut message.0, self.0, ffi::DONTWAIT) } {
            // SAFETY: reads this thread's error number.
            -1 if unsafe { ffi::zmq_errno() } == libc::EAGAIN => Ok(false),
            -1 => Err(last_error()),
            _ => Ok(true),
        }
    }

    /// Sends `message` on, leaving it empty; `more` frames may follow.
    #[inline]
    pub fn pass_on(&self, message: &mut Message, more: bool) -> Outcome {
        let flags = if more { ffi::SNDMORE } else { 0 };
        // SAFETY: `message` is initialised and stays so.
        checked(unsafe { ffi::zmq_msg_send(&mut message.0, self.0, flags) })
    }
}

/// A frame owned by libzmq.
pub struct Message(ffi::RawMessage);

impl Message {
    /// An empty frame.
    pub fn new() -> Message {
        let mut raw = ffi::RawMessage([0; 64]);
        // SAFETY: `raw` is 64 writable bytes; the call cannot fail.
        unsafe { ffi::zmq_msg_init(&mut raw) };
        Message(raw)
    }

    /// The frame's bytes.
    #[inline]
    pub fn bytes(&mut self) -> &[u8] {
        // SAFETY: libzmq keeps `size` readable bytes at `data` until the message changes, which needs `&mut self`.
        unsafe {
            let length = ffi::zmq_msg_size(&self.0);
            match ffi::zmq_msg_data(&mut self.0) {
                data if data.is_null() => &[],
                data => std::slice::from_raw_parts(data.cast(), length),
            }
        }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: initialised in `new` and by every receive.
        unsafe { ffi::zmq_msg_close(&mut self.0) };
    }
}

/// Sleeps until some of `sockets` can be received from and sets their flags.
pub fn wait_readable(sockets: &[Socket], items: &mut Vec<ffi::PollItem>, able: &mut [bool]) -> Outcome {
    if items.is_empty() {
        let watched = sockets.iter();
        items.extend(watched.map(|s| ffi::PollItem { socket: s.0, fd: 0, events: ffi::POLLIN, revents: 0 }));
    }
    // SAFETY: `items` describes live sockets used by this thread alone.
    checked(unsafe { ffi::zmq_poll(items.as_mut_ptr(), c_int::try_from(items.len())?, -1) })?;
    for (able, item) in able.iter_mut().zip(items) {
        *able |= item.revents != 0;
    }
    Ok(())
}

/// The library's version.
pub fn version() -> String {
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: three writable ints.
    unsafe { ffi::zmq_version(&mut major, &mut minor, &mut patch) };
    format!("{major}.{minor}.{patch}")
}

#[inline]
fn checked(code: c_int) -> Outcome {
    if code == -1 {
        return Err(last_error());
    }
    Ok(())
}

#[cold]
fn last_error() -> harness::Failure {
    // SAFETY: zmq_strerror returns a string that lives as long as the program or until the next call on this thread.
    let text = unsafe { CStr::from_ptr(ffi::zmq_strerror(ffi::zmq_errno())) };
    text.to_string_lossy().into_owned().into()
}
