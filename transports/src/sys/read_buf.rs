//! Reading into memory that nobody has zeroed.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;

use bytes::BytesMut;

use crate::contract::Stream;

/// A stretch of memory to read into, and how far it is filled.
///
/// The front part is *filled*; behind it a part may be initialised but not filled; the rest is uninitialised. A
/// transport appends bytes with [`put_slice`](Self::put_slice), or asks for writable memory with
/// [`initialize_unfilled`](Self::initialize_unfilled) and [`advance`](Self::advance)s over what it wrote. On Unix
/// [`sys::receive`](crate::sys::receive) lets the kernel fill it without zeroing.
pub struct ReadBuf<'a> {
    // Invariant: `filled <= initialized <= memory.len()`, and the first `initialized` bytes of `memory` are
    // initialised. Only this file and `unix.rs` beside it can break it, and both keep it.
    memory: &'a mut [MaybeUninit<u8>],
    filled: usize,
    initialized: usize,
}

impl<'a> ReadBuf<'a> {
    /// Makes an empty buffer over memory that may be uninitialised.
    pub fn uninit(memory: &'a mut [MaybeUninit<u8>]) -> Self {
        Self { memory, filled: 0, initialized: 0 }
    }

    /// Makes an empty buffer over initialised memory.
    pub fn new(memory: &'a mut [u8]) -> Self {
        let initialized = memory.len();
        let memory: *mut [u8] = memory;
        // SAFETY: the pointer comes from a unique reference that lives for 'a, and `MaybeUninit<u8>` has the layout of
        // `u8`. The caller sees the memory as `[u8]` again afterwards, and no method of this type lets anybody store
        // an uninitialised byte in it: the slice never leaves this module except to `recv`, which writes real bytes.
        let memory = unsafe { &mut *(memory as *mut [MaybeUninit<u8>]) };
        Self { memory, filled: 0, initialized }
    }

    /// Appends bytes, as many as fit, and returns how many that were.
    pub fn put_slice(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.remaining());
        for (to, from) in self.unfilled().iter_mut().zip(bytes) {
            to.write(*from);
        }
        // SAFETY: the loop has just written the first `count` bytes of the unfilled part.
        unsafe { self.assume_filled(count) };
        count
    }

    /// Returns the part that is not filled, with zeroes where nobody has written before. Each byte is zeroed at most
    /// once, however often this is called.
    pub fn initialize_unfilled(&mut self) -> &mut [u8] {
        let (filled, initialized) = (self.filled, self.initialized);
        if let Some(rest) = self.memory.get_mut(initialized..) {
            rest.fill(MaybeUninit::new(0));
        }
        self.initialized = self.memory.len();
        let unfilled: *mut [MaybeUninit<u8>] = self.memory.get_mut(filled..).unwrap_or_default();
        // SAFETY: the pointer comes from a unique reference whose borrow is that of `self`, `MaybeUninit<u8>` has the
        // layout of `u8`, and every byte is initialised: before `initialized` by the invariant, behind it by the fill.
        unsafe { &mut *(unfilled as *mut [u8]) }
    }

    /// Counts `count` more bytes as filled, after they were written through
    /// [`initialize_unfilled`](Self::initialize_unfilled). At most what is initialised can be counted; returns how many
    /// were.
    pub fn advance(&mut self, count: usize) -> usize {
        let count = count.min(self.initialized - self.filled);
        self.filled += count;
        count
    }

    /// Returns the bytes filled so far.
    pub fn filled(&self) -> &[u8] {
        let filled: *const [MaybeUninit<u8>] = self.memory.get(..self.filled).unwrap_or_default();
        // SAFETY: the pointer comes from a shared reference whose borrow is that of `self`, `MaybeUninit<u8>` has the
        // layout of `u8`, and these bytes are initialised by the invariant.
        unsafe { &*(filled as *const [u8]) }
    }

    /// Returns how many bytes fit in all.
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Returns how many more bytes fit.
    pub fn remaining(&self) -> usize {
        self.memory.len() - self.filled
    }

    /// The part that is not filled. Whoever gets this must not store uninitialised bytes in it, hence not public.
    pub(super) fn unfilled(&mut self) -> &mut [MaybeUninit<u8>] {
        self.memory.get_mut(self.filled..).unwrap_or_default()
    }

    /// Counts `count` more bytes as filled.
    ///
    /// # Safety
    ///
    /// The first `count` bytes of [`unfilled`](Self::unfilled) must exist and be initialised.
    pub(super) unsafe fn assume_filled(&mut self, count: usize) {
        debug_assert!(count <= self.remaining());
        self.filled += count;
        self.initialized = self.initialized.max(self.filled);
    }
}

impl fmt::Debug for ReadBuf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadBuf").field("filled", &self.filled).field("capacity", &self.capacity()).finish()
    }
}

/// Reads from a stream into the spare capacity of `buf`, behind what it holds, and returns how many bytes were added;
/// `Ok(0)` is the end of the stream.
///
/// At most `max` bytes are read, and at most what fits: the buffer never grows, and nothing is zeroed.
///
/// # Errors
///
/// What [`Stream::read`] said, and [`InvalidInput`](io::ErrorKind::InvalidInput) if there is no room to read into,
/// because `Ok(0)` would look like the end. A stream that breaks its contract is reported as
/// [`Other`](io::ErrorKind::Other); `buf` is then as before.
pub fn read_into(stream: &dyn Stream, buf: &mut BytesMut, max: usize) -> io::Result<usize> {
    let before = buf.len();
    let spare = buf.spare_capacity_mut();
    let room = spare.len().min(max);
    if room == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no room to read into"));
    }
    let spare = spare.get_mut(..room).unwrap_or_default();
    let start = spare.as_ptr().cast::<u8>();
    let mut read_buf = ReadBuf::uninit(spare);
    let reported = stream.read(&mut read_buf)?;
    let filled = read_buf.filled();
    // A stream is foreign code: it may have put another `ReadBuf` in place of ours, or return any number.
    if filled.as_ptr() != start || filled.len() > room || filled.len() != reported {
        return Err(io::Error::other("the transport returned a number of bytes other than it had read"));
    }
    let after = before + filled.len();
    // SAFETY: `filled` starts where our spare capacity starts and is no longer than it. Memory that is borrowed for
    // `read_buf` cannot at the same time belong to another `ReadBuf` of that address, so these are our bytes, and by
    // the invariant of `ReadBuf` they are initialised.
    unsafe { buf.set_len(after) };
    Ok(after - before)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::net::Shutdown;

    use mio::{Interest, Token};

    use super::*;

    #[test]
    fn bytes_are_appended_as_far_as_they_fit() {
        let mut memory = [MaybeUninit::uninit(); 5];
        let mut buf = ReadBuf::uninit(&mut memory);
        assert_eq!((buf.capacity(), buf.remaining(), buf.filled()), (5, 5, &b""[..]));
        assert_eq!(buf.put_slice(b"abc"), 3);
        assert_eq!(buf.put_slice(b"defg"), 2);
        assert_eq!(buf.put_slice(b"h"), 0);
        assert_eq!((buf.remaining(), buf.filled()), (0, &b"abcde"[..]));
    }

    #[test]
    fn only_initialised_bytes_can_be_counted() {
        let mut memory = [MaybeUninit::uninit(); 8];
        let mut buf = ReadBuf::uninit(&mut memory);
        assert_eq!(buf.advance(1), 0, "nothing is initialised");
        buf.put_slice(b"ab");
        assert_eq!(buf.advance(1), 0);
        assert_eq!(buf.initialize_unfilled(), [0; 6]);
        assert_eq!(buf.advance(2), 2);
        assert_eq!(buf.advance(usize::MAX), 4);
        assert_eq!(buf.filled(), b"ab\0\0\0\0\0\0");
    }

    #[test]
    fn memory_is_zeroed_once() {
        let mut memory = [MaybeUninit::uninit(); 4];
        let mut buf = ReadBuf::uninit(&mut memory);
        buf.initialize_unfilled().copy_from_slice(b"wxyz");
        assert_eq!(buf.initialize_unfilled(), b"wxyz");
        buf.put_slice(b"a");
        assert_eq!(buf.initialize_unfilled(), b"xyz");
    }

    #[test]
    fn initialised_memory_is_taken_as_it_is() {
        let mut memory = *b"1234";
        let mut buf = ReadBuf::new(&mut memory);
        assert_eq!(buf.filled(), b"");
        assert_eq!(buf.initialize_unfilled(), b"1234");
        buf.advance(1);
        buf.put_slice(b"X");
        assert_eq!(buf.filled(), b"1X");
        assert_eq!(memory, *b"1X34");
    }

    #[test]
    fn a_buffer_without_room_is_harmless() {
        let mut buf = ReadBuf::uninit(&mut []);
        assert_eq!(buf.put_slice(b"x"), 0);
        assert!(buf.initialize_unfilled().is_empty());
        assert_eq!(buf.advance(1), 0);
        assert_eq!(buf.filled(), b"");
    }

    /// A stream whose read is a closure.
    struct Fake<F>(F);

    impl<F> fmt::Debug for Fake<F> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Fake")
        }
    }

    impl<F: Fn(&mut ReadBuf<'_>) -> io::Result<usize> + Send + Sync> Stream for Fake<F> {
        fn register(&self, _: &mio::Registry, _: Token, _: Interest) -> io::Result<()> {
            Ok(())
        }

        fn reregister(&self, _: &mio::Registry, _: Token, _: Interest) -> io::Result<()> {
            Ok(())
        }

        fn deregister(&self, _: &mio::Registry) -> io::Result<()> {
            Ok(())
        }

        fn read(&self, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
            (self.0)(buf)
        }

        fn write_vectored(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
            Ok(0)
        }

        fn connected(&self) -> io::Result<bool> {
            Ok(true)
        }

        fn shutdown(&self, _: Shutdown) -> io::Result<()> {
            Ok(())
        }

        fn local_address(&self) -> String {
            String::new()
        }

        fn peer_address(&self) -> String {
            String::new()
        }
    }

    fn read(max: usize, read: impl Fn(&mut ReadBuf<'_>) -> io::Result<usize> + Send + Sync) -> io::Result<BytesMut> {
        let mut buf = BytesMut::with_capacity(64);
        buf.extend_from_slice(b"old");
        let capacity = buf.capacity();
        let result = read_into(&Fake(read), &mut buf, max);
        assert_eq!(buf.capacity(), capacity);
        match result {
            Ok(count) => assert_eq!(buf.len(), 3 + count),
            Err(_) => assert_eq!(buf, "old"),
        }
        result.map(|_| buf)
    }

    #[test]
    fn bytes_are_read_behind_what_is_there() {
        assert_eq!(read(100, |buf| Ok(buf.put_slice(b" and new"))).unwrap(), "old and new");
        assert_eq!(read(100, |_| Ok(0)).unwrap(), "old");
    }

    #[test]
    fn no_more_than_max_is_read() {
        assert_eq!(read(4, |buf| Ok(buf.put_slice(b" and new"))).unwrap(), "old and");
        let spare = read(usize::MAX, |buf| Ok(buf.put_slice(&[b'x'; 1000]))).unwrap();
        assert_eq!(spare.len(), spare.capacity());
    }

    #[test]
    fn an_error_of_the_stream_changes_nothing() {
        let error = read(9, |buf| {
            buf.put_slice(b"lost");
            Err(io::ErrorKind::WouldBlock.into())
        });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn no_room_is_an_error_and_not_the_end() {
        assert_eq!(read(0, |_| Ok(0)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let mut full = BytesMut::new();
        let error = read_into(&Fake(|_: &mut ReadBuf<'_>| Ok(0)), &mut full, 10).unwrap_err();
        assert_eq!((error.kind(), full.capacity()), (io::ErrorKind::InvalidInput, 0));
    }

    #[test]
    fn a_stream_that_lies_about_the_number_is_found_out() {
        for lie in [0, 1, 3, 64, usize::MAX] {
            let error = read(64, |buf| {
                buf.put_slice(b"ab");
                Ok(lie)
            });
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::Other, "{lie}");
        }
    }

    #[test]
    fn a_stream_that_swaps_the_buffer_is_found_out() {
        let error = read(64, |buf| {
            let foreign: &'static mut [u8] = Box::leak(Box::new(*b"foreign"));
            let mut foreign = ReadBuf::new(foreign);
            let count = foreign.advance(7);
            *buf = foreign;
            Ok(count)
        });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::Other);
    }
}
