//! Descriptors: none is leaked, none is inherited, and running out of them is an error like any other. These count or
//! limit the descriptors of the whole process, so they are one test in a process of its own.

#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "limits are set through the C library")]

use std::fs::{self, File};
use std::io::ErrorKind;

use wiremesh_transports::sys::Spare;
use wiremesh_transports::{LinkOptions, Listener, Registry, Stream};

#[test]
fn descriptors_are_neither_leaked_nor_inherited_nor_fatal() {
    no_descriptor_is_leaked();
    every_descriptor_is_closed_on_exec();
    running_out_is_reported_and_the_reserve_helps();
}

fn no_descriptor_is_leaked() {
    let before = count();
    for scheme in ["tcp", "ipc"] {
        for _ in 0..200 {
            let _trio = connection(scheme);
        }
        let transport = Registry::builtin().get(scheme).unwrap();
        let options = LinkOptions::default();
        let wrong = match scheme {
            "tcp" => ["", "192.0.2.1:0", "127.0.0.1:99999", "no-such-interface0:1"],
            _ => ["", "/no/such/folder/socket", "/dev/null", "@"],
        };
        for address in wrong {
            assert!(transport.bind(address, &options).is_err(), "{address}");
        }
        let gone = connection(scheme).0.local_address();
        for _ in 0..200 {
            drop(transport.connect(&gone, &options));
        }
    }
    assert_eq!(count(), before);
}

fn every_descriptor_is_closed_on_exec() {
    let inherited = || {
        let child = std::process::Command::new("ls").arg("/proc/self/fd").output().expect("there is an ls");
        child.stdout.iter().filter(|&&byte| byte == b'\n').count()
    };
    let before = inherited();
    let _open: Vec<_> = ["tcp", "ipc"].map(connection).into_iter().collect();
    let _spare = Spare::new().unwrap();
    assert_eq!(inherited(), before);
}

fn running_out_is_reported_and_the_reserve_helps() {
    for scheme in ["tcp", "ipc"] {
        let (listener, _first, _second) = connection(scheme);
        let transport = Registry::builtin().get(scheme).unwrap();
        let options = LinkOptions::default();
        let waiting = transport.connect(&listener.local_address(), &options).unwrap();
        while !waiting.connected().unwrap() {}
        let mut spare = Spare::new().unwrap();
        let hoard = exhaust();

        assert_eq!(listener.accept().unwrap_err().raw_os_error(), Some(libc::EMFILE));
        assert_eq!(
            transport.connect(&listener.local_address(), &options).unwrap_err().raw_os_error(),
            Some(libc::EMFILE)
        );
        let address = if scheme == "tcp" { "127.0.0.1:*" } else { "*" };
        assert_eq!(transport.bind(address, &options).unwrap_err().raw_os_error(), Some(libc::EMFILE));
        assert_eq!(Spare::new().unwrap_err().raw_os_error(), Some(libc::EMFILE));

        spare.turn_away(&*listener).unwrap();
        assert_eq!(spare.turn_away(&*listener).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(spare.release(), "the reserve was refilled");
        drop(hoard);
        let mut end = bytes::BytesMut::with_capacity(1);
        let outcome = loop {
            match wiremesh_transports::read_into(&*waiting, &mut end, 1) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                other => break other,
            }
        };
        assert_eq!(outcome.unwrap(), 0, "the peer that was turned away sees the end");
        assert!(transport.connect(&listener.local_address(), &options).is_ok());
    }
}

/// Opens files until there is no descriptor left.
fn exhaust() -> Vec<File> {
    // SAFETY: `limit` is a valid value and lives through the call.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_cur.min(256);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    let mut hoard = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => hoard.push(file),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                return hoard;
            }
        }
    }
}

fn count() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn connection(scheme: &str) -> (Box<dyn Listener>, Box<dyn Stream>, Box<dyn Stream>) {
    let transport = Registry::builtin().get(scheme).unwrap();
    let options = LinkOptions::default();
    let listener = transport.bind(if scheme == "tcp" { "127.0.0.1:*" } else { "*" }, &options).unwrap();
    let client = transport.connect(&listener.local_address(), &options).unwrap();
    loop {
        match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            other => return (listener, client, other.unwrap()),
        }
    }
}
