//! A forked child that drops what it inherited does the parent no harm. Forking a process with other test threads in
//! it is delicate, so this test has a process of its own.

#![cfg(unix)]
#![expect(unsafe_code, reason = "forking goes through the C library")]

use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use mio::{Events, Interest, Poll, Token};
use wiremesh_transports::{Ipc, LinkOptions, Transport, read_into};

#[test]
fn a_child_that_drops_everything_leaves_the_parent_whole() {
    let options = LinkOptions::default();
    let listener = Ipc.bind("*", &options).unwrap();
    let path = listener.local_address();
    let client = Ipc.connect(&path, &options).unwrap();
    let server = listener.accept().unwrap();
    let mut poll = Poll::new().unwrap();
    server.register(poll.registry(), Token(1), Interest::READABLE).unwrap();
    listener.register(poll.registry(), Token(2), Interest::READABLE).unwrap();

    // SAFETY: no other thread holds a lock the child needs: the test harness only waits for us.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop((listener, client, server));
        // SAFETY: `_exit` ends the child at once.
        unsafe { libc::_exit(0) };
    }
    assert!(child > 0);
    let mut status = 0;
    // SAFETY: `status` is a live integer and `child` is our own child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);

    assert!(Path::new(&path).exists(), "the child has removed the parent's file");
    client.write_vectored(&[IoSlice::new(b"still here")]).unwrap();
    let mut events = Events::with_capacity(4);
    poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
    assert!(events.iter().any(|event| event.token() == Token(1)), "the child has deafened the parent");
    let mut buffer = BytesMut::with_capacity(16);
    assert_eq!(read_into(&*server, &mut buffer, 16).unwrap(), 10);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    Ipc.connect(&path, &options).unwrap();
    listener.accept().unwrap();
    drop(listener);
    assert!(!Path::new(&path).exists());
}
