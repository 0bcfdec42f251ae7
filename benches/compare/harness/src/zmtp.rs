//! Just enough ZMTP 3.0 to be one of thousands of idle DEALER connections without costing a descriptor or a thread
//! more.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::{Job, Outcome, check, control};

/// Opens `peers` connections, sends and receives one message on each, and keeps them open until the driver's stop.
pub fn idle_clients(job: &Job) -> Outcome {
    crate::clock::raise_descriptor_limit();
    let address = job.endpoint.strip_prefix("tcp://").ok_or("idle connections are measured over tcp")?;
    let mut body = vec![check::FILLING; job.bytes];
    let mut connections = Vec::with_capacity(job.peers);
    for number in 0..job.peers {
        check::stamp(&mut body, 0, number as u64);
        connections.push(exchange_one(address, &body).map_err(|why| format!("connection {number}: {why}"))?);
    }
    control::ready();
    crate::block_on(control::stop());
    Ok(())
}

/// Shakes hands, sends `body`, receives it back.
fn exchange_one(address: &str, body: &[u8]) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(&hello())?;
    let mut greeting = [0; 64];
    stream.read_exact(&mut greeting)?;
    read_frame(&mut stream)?;
    let mut frame = Vec::with_capacity(body.len() + 9);
    frame.extend(frame_header(0, body.len()));
    frame.extend(body);
    stream.write_all(&frame)?;
    if read_frame(&mut stream)? != body {
        return Err("the echo differs from what was sent".into());
    }
    Ok(stream)
}

/// Greeting of ZMTP 3.0 with the NULL mechanism, followed by a DEALER's READY.
fn hello() -> Vec<u8> {
    let mut bytes = vec![0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0x7F, 3, 0];
    bytes.extend(b"NULL");
    bytes.resize(64, 0);
    let mut ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00".to_vec();
    bytes.extend(frame_header(4, ready.len()));
    bytes.append(&mut ready);
    bytes
}

fn frame_header(flags: u8, length: usize) -> Vec<u8> {
    match u8::try_from(length) {
        Ok(short) => vec![flags, short],
        Err(_) => [&[flags | 2][..], &(length as u64).to_be_bytes()].concat(),
    }
}

/// The body of the next frame, command or message.
fn read_frame(stream: &mut TcpStream) -> Outcome<Vec<u8>> {
    let mut flags = [0];
    stream.read_exact(&mut flags)?;
    let length = if flags[0] & 2 == 0 {
        let mut short = [0];
        stream.read_exact(&mut short)?;
        u64::from(short[0])
    } else {
        let mut long = [0; 8];
        stream.read_exact(&mut long)?;
        u64::from_be_bytes(long)
    };
    if length > 1 << 24 {
        return Err(format!("a frame of {length} bytes").into());
    }
    let mut body = vec![0; usize::try_from(length)?];
    stream.read_exact(&mut body)?;
    Ok(body)
}
