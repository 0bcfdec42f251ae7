//! Thin owners around NNG's sockets and messages. Sockets live until the process ends.

use std::ffi::{CStr, CString, c_int};
use std::ptr::null_mut;

use harness::Outcome;
use nng_sys as nng;

/// Messages buffered in each direction.
const BUFFERED: c_int = 4096;

/// Starts NNG with as few threads as it takes.
pub fn start() -> Outcome {
    let params = nng::nng_init_params {
        num_task_threads: 2,
        max_task_threads: 2,
        num_expire_threads: 1,
        max_expire_threads: 1,
        num_poller_threads: 1,
        max_poller_threads: 1,
        num_resolver_threads: 1,
        malloc_fn: None,
        calloc_fn: None,
        free_fn: None,
    };
    // SAFETY: the parameters are read during the call.
    let code = unsafe { nng::nng_init(&params) };
    if code == nng::nng_err::NNG_OK { Ok(()) } else { Err(error(code)) }
}

/// The library's version.
pub fn version() -> String {
    // SAFETY: a static string.
    unsafe { CStr::from_ptr(nng::nng_version()) }.to_string_lossy().into_owned()
}

/// The protocols measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Push,
    Pull,
    Req,
    Rep,
}

/// An NNG socket; NNG allows any thread to use it.
pub struct Socket(nng::nng_socket);

impl Socket {
    /// Opens a socket that takes messages of any length.
    pub fn open(kind: Kind) -> Outcome<Socket> {
        let mut raw = nng::nng_socket::default();
        // SAFETY: `raw` is writable.
        checked(unsafe {
            match kind {
                Kind::Push => nng::nng_push0_open(&mut raw),
                Kind::Pull => nng::nng_pull0_open(&mut raw),
                Kind::Req => nng::nng_req0_open(&mut raw),
                Kind::Rep => nng::nng_rep0_open(&mut raw),
            }
        })?;
        // SAFETY: an open socket and terminated names.
        unsafe {
            checked(nng::nng_socket_set_size(raw, nng::NNG_OPT_RECVMAXSZ.as_ptr().cast(), 0))?;
            match kind {
                Kind::Push => checked(nng::nng_socket_set_int(raw, nng::NNG_OPT_SENDBUF.as_ptr().cast(), BUFFERED))?,
                // Not every version lets PULL buffer; where it does not, its own depth holds.
                Kind::Pull => drop(nng::nng_socket_set_int(raw, nng::NNG_OPT_RECVBUF.as_ptr().cast(), BUFFERED)),
                Kind::Req | Kind::Rep => {}
            }
        }
        Ok(Socket(raw))
    }

    /// Listens.
    pub fn bind(&self, endpoint: &str) -> Outcome {
        let endpoint = CString::new(endpoint)?;
        // SAFETY: an open socket and a terminated string.
        checked(unsafe { nng::nng_listen(self.0, endpoint.as_ptr(), null_mut(), 0) })
    }

    /// Dials and waits until connected.
    pub fn connect(&self, endpoint: &str) -> Outcome {
        let endpoint = CString::new(endpoint)?;
        // SAFETY: an open socket and a terminated string.
        checked(unsafe { nng::nng_dial(self.0, endpoint.as_ptr(), null_mut(), 0) })
    }

    /// Sends a message copied from `body`.
    pub fn send(&self, body: &[u8]) -> Outcome {
        // SAFETY: `body` is read during the call.
        checked(unsafe { nng::nng_send(self.0, body.as_ptr().cast(), body.len(), 0) })
    }

    /// Receives one message.
    pub fn recv(&self) -> Outcome<Message> {
        let mut raw = null_mut();
        // SAFETY: `raw` is writable; on success it is a message that is ours.
        checked(unsafe { nng::nng_recvmsg(self.0, &mut raw, 0) })?;
        Ok(Message(raw))
    }

    /// Receives one message if there is one.
    pub fn try_recv(&self) -> Outcome<Option<Message>> {
        let mut raw = null_mut();
        // SAFETY: as in `recv`.
        let code = unsafe { nng::nng_recvmsg(self.0, &mut raw, c_int::try_from(nng::NNG_FLAG_NONBLOCK)?) };
        if nng::nng_err(code.try_into()?) == nng::nng_err::NNG_EAGAIN {
            return Ok(None);
        }
        checked(code)?;
        Ok(Some(Message(raw)))
    }

    /// What to poll for messages.
    pub fn readable(&self) -> Outcome<libc::pollfd> {
        let mut fd = 0;
        // SAFETY: `fd` is writable.
        checked(unsafe { nng::nng_socket_get_recv_poll_fd(self.0, &mut fd) })?;
        Ok(libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
    }
}

/// A received message.
pub struct Message(*mut nng::nng_msg);

impl Message {
    /// The message's bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: NNG keeps `len` readable bytes at `body` while the message lives unchanged.
        unsafe {
            match nng::nng_msg_body(self.0) {
                body if body.is_null() => &[],
                body => std::slice::from_raw_parts(body.cast(), nng::nng_msg_len(self.0)),
            }
        }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: ours, and freed once.
        unsafe { nng::nng_msg_free(self.0) };
    }
}

/// Sleeps until some sockets have messages and sets their flags.
pub fn wait_readable(readers: &mut [libc::pollfd], able: &mut [bool]) -> Outcome {
    // SAFETY: `readers` is an array of that many entries.
    if unsafe { libc::poll(readers.as_mut_ptr(), readers.len() as libc::nfds_t, -1) } < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    for (able, reader) in able.iter_mut().zip(readers) {
        *able |= reader.revents != 0;
    }
    Ok(())
}

fn checked(code: c_int) -> Outcome {
    match code {
        0 => Ok(()),
        code => Err(error(nng::nng_err(code.try_into()?))),
    }
}

fn error(code: nng::nng_err) -> harness::Failure {
    // SAFETY: a static string for every code.
    unsafe { CStr::from_ptr(nng::nng_strerror(code)) }.to_string_lossy().into_owned().into()
}
