//! A transport of one's own: the scheme `loud://`, which is tcp that says what it does.
//!
//! Shows: a [`Transport`] checks, resolves, binds and connects addresses; registered in a context, every socket there
//! can use its scheme. One with streams of its own also implements [`Stream`] and [`Listener`]; `wiremesh_transports`
//! holds the contract, and a conformance suite to stamp into its tests.
//!
//! Run it with `cargo run --example custom_transport`.

use std::io;
use std::sync::Arc;
use wiremesh::transports::{AddressError, LinkOptions, Listener, Purpose, Stream, Tcp, Transport};
use wiremesh::{Context, Pull, Push};

struct Loud(Tcp);

impl Transport for Loud {
    fn scheme(&self) -> &str {
        "loud"
    }

    fn check(&self, address: &str, purpose: Purpose) -> Result<(), AddressError> {
        self.0.check(address, purpose)
    }

    fn resolve(&self, address: &str, options: &LinkOptions) -> io::Result<Vec<String>> {
        let found = self.0.resolve(address, options)?;
        println!("LOOKED UP {address}: {found:?}");
        Ok(found)
    }

    fn bind(&self, address: &str, options: &LinkOptions) -> io::Result<Box<dyn Listener>> {
        let listener = self.0.bind(address, options)?;
        println!("LISTENING AT {}", listener.local_address());
        Ok(listener)
    }

    fn connect(&self, resolved: &str, options: &LinkOptions) -> io::Result<Box<dyn Stream>> {
        println!("CONNECTING TO {resolved}");
        self.0.connect(resolved, options)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let context = Context::new();
    context.register_transport(Arc::new(Loud(Tcp)))?;

    let (push, pull) = (Push::in_context(&context), Pull::in_context(&context));
    let endpoint = pull.bind("loud://127.0.0.1:*")?;
    assert_eq!(endpoint.scheme(), "loud");
    push.connect(&endpoint)?;
    push.send("psst")?;
    assert_eq!(pull.recv()?, "psst");
    println!("received over {endpoint}");

    let unknown = Pull::new().bind("loud://127.0.0.1:*").expect_err("another context does not know the scheme");
    println!("elsewhere: {unknown}");
    Ok(())
}
