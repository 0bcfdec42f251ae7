//! A peer made by hand: ZMTP octets over a plain tcp stream.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::common::LONG;

pub(crate) struct Raw(pub(crate) TcpStream);

#[allow(dead_code, reason = "not every test file uses all of it")]
impl Raw {
    /// Connects to an address without its scheme.
    pub(crate) fn connect(address: &str) -> Raw {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Raw(stream)
    }

    /// Accepts the next connection.
    pub(crate) fn accept(listener: &TcpListener) -> Raw {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Raw(stream)
    }

    /// The greeting of ZMTP 3 with NULL, both ways.
    pub(crate) fn greet(&mut self, minor: u8) {
        let mut greeting = [0; 64];
        greeting[0] = 0xff;
        greeting[9] = 0x7f;
        greeting[10] = 3;
        greeting[11] = minor;
        greeting[12..16].copy_from_slice(b"NULL");
        self.write(&greeting);
        self.0.read_exact(&mut greeting).unwrap();
    }

    /// Greeting and READY, both ways.
    pub(crate) fn shake_hands(&mut self, minor: u8, kind: &str) {
        self.greet(minor);
        let mut ready = b"\x05READY\x0bSocket-Type".to_vec();
        ready.extend_from_slice(&(kind.len() as u32).to_be_bytes());
        ready.extend_from_slice(kind.as_bytes());
        self.write_frame(0x04, &ready);
        let (flags, body) = self.read_frame();
        assert!(flags == 0x04 && body.starts_with(b"\x05READY"), "{flags} {body:?}");
    }

    pub(crate) fn write(&mut self, octets: &[u8]) {
        self.0.write_all(octets).unwrap();
    }

    /// Writes a frame of fewer than 256 octets.
    pub(crate) fn write_frame(&mut self, flags: u8, body: &[u8]) {
        let mut frame = vec![flags, body.len() as u8];
        frame.extend_from_slice(body);
        self.write(&frame);
    }

    /// Reads what comes until the other end closes.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut octets = Vec::new();
        // A reset is an end as well.
        let _ = self.0.read_to_end(&mut octets);
        octets
    }

    /// Reads a frame of fewer than 256 octets: its flags and its body.
    pub(crate) fn read_frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let mut body = vec![0; head[1].into()];
        self.0.read_exact(&mut body).unwrap();
        (head[0], body)
    }
}
