//! Writing to a peer that has gone raises no signal, even in a program that has not asked to be spared. Rust's runtime
//! asks for that on its own; a C program that uses this library does not. The disposition belongs to the whole
//! process, so this test has a process of its own.

#![cfg(unix)]
#![expect(unsafe_code, reason = "signal dispositions are set through the C library")]

use std::io::{ErrorKind, IoSlice};

use wiremesh_transports::{LinkOptions, Registry};

#[test]
fn no_write_raises_sigpipe() {
    // SAFETY: the default disposition runs no code of ours.
    assert_ne!(unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) }, libc::SIG_ERR);
    let options = LinkOptions::default();
    for (scheme, address) in [("tcp", "127.0.0.1:*"), ("ipc", "*")] {
        let transport = Registry::builtin().get(scheme).unwrap();
        let listener = transport.bind(address, &options).unwrap();
        let client = transport.connect(&listener.local_address(), &options).unwrap();
        let server = loop {
            match listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                other => break other.unwrap(),
            }
        };
        drop(server);
        let (one, two) = ([IoSlice::new(b"x")], [IoSlice::new(b"x"), IoSlice::new(b"y")]);
        let mut failures = 0;
        while failures < 1000 {
            for bufs in [&one[..], &two[..]] {
                match client.write_vectored(bufs) {
                    Err(error) => {
                        assert_ne!(error.kind(), ErrorKind::WouldBlock);
                        failures += 1;
                    }
                    Ok(_) => std::thread::yield_now(),
                }
            }
        }
    }
}
