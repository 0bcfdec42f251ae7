//! What a connection takes that has spoken once and is quiet: most of the connections of a server are.

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::TcpStream;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::Router;

#[expect(dead_code, unused_macros, reason = "of what the tests share this one needs the time limit")]
mod common;
#[path = "common/raw.rs"]
mod raw;
use raw::Raw;

/// The system's allocator, counting the octets that the process holds: an engine thread accepts what a caller frees.
struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call goes to `System` with its arguments unchanged; counting touches nothing that is allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: the caller's promises are those `System` asks for, and the block came from it.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Opens a connection, over which one message goes both ways.
fn exchange(router: &Router, address: &str) -> TcpStream {
    let mut client = Raw::connect(address);
    client.shake_hands(0, "DEALER");
    client.write_frame(0, &[7; 64]);
    let (id, message) = router.recv_timeout(common::LONG).expect("what the client sent");
    router.send_to(&id, message).expect("the client is there");
    assert_eq!(client.read_frame(), (0, vec![7; 64]));
    client.0
}

/// What is held once nobody gives anything back any more.
fn settled() -> isize {
    let (mut held, mut since, begin) = (LIVE.load(Relaxed), Instant::now(), Instant::now());
    while since.elapsed() < Duration::from_millis(1500) {
        assert!(begin.elapsed() < common::LONG, "what is held goes on changing");
        thread::sleep(Duration::from_millis(20));
        let now = LIVE.load(Relaxed);
        if now != held {
            (held, since) = (now, Instant::now());
        }
    }
    held
}

#[test]
fn a_quiet_connection_takes_less_than_two_and_a_half_kibibytes() {
    // Tables double: what they grow by from one power of two to the next is what the connections between take.
    const CONNECTIONS: usize = 128;
    let router = Router::new();
    let bound = router.bind("tcp://127.0.0.1:*").expect("a free port").to_string();
    let address = bound.strip_prefix("tcp://").expect("a tcp endpoint");
    let mut clients = Vec::with_capacity(2 * CONNECTIONS);
    clients.extend((0..CONNECTIONS).map(|_| exchange(&router, address)));
    let before = settled();
    clients.extend((0..CONNECTIONS).map(|_| exchange(&router, address)));
    let each = (settled() - before) as usize / CONNECTIONS;
    println!("{each} octets a connection");
    assert!(each < 2560, "{each} octets a connection");
}
