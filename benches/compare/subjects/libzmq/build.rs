//! Builds libzmq from the sources that `zeromq-src` carries, optimised as cargo's release profile asks.

fn main() {
    zeromq_src::Build::new().build();
}
