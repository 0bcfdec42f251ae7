//! The conformance suite, once per built-in transport, for different addresses and options.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wiremesh_transports::conformance::Subject;
use wiremesh_transports::{LinkOptions, Tcp};

fn tcp(fresh: impl Fn() -> String + Send + Sync + 'static) -> Subject {
    Subject::new(Arc::new(Tcp), fresh)
        .refuses("")
        .refuses("nohost")
        .refuses("127.0.0.1:65536")
        .refuses("::1:80")
        .refuses("[::1:80")
}

/// A loopback address nobody else has, so that no other test gets a port that has just become free.
fn own_loopback() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let host = NEXT.fetch_add(1, Ordering::Relaxed) % 250 + 1;
    if cfg!(target_os = "linux") { format!("127.76.1.{host}:*") } else { "127.0.0.1:*".to_owned() }
}

/// Every option a process without privileges may set.
fn many_options() -> LinkOptions {
    let mut options = LinkOptions::default();
    options.keepalive = Some(true);
    options.keepalive_idle = Some(Duration::from_millis(1500));
    options.keepalive_interval = Some(Duration::from_secs(2));
    options.keepalive_count = Some(3);
    options.send_buffer = Some(8 * 1024);
    options.receive_buffer = Some(8 * 1024);
    options.type_of_service = Some(0x10);
    options.priority = Some(4);
    options.max_retransmit = Some(Duration::from_secs(10));
    options.backlog = 64;
    options
}

mod tcp_over_ipv4 {
    wiremesh_transports::conformance_tests!(super::tcp(super::own_loopback));
}

mod tcp_on_every_interface {
    wiremesh_transports::conformance_tests!(super::tcp(|| "*:0".to_owned()));
}

mod tcp_with_many_options {
    wiremesh_transports::conformance_tests!(super::tcp(super::own_loopback).options(super::many_options()));
}

#[cfg(unix)]
mod unix {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use wiremesh_transports::Ipc;
    use wiremesh_transports::conformance::Subject;

    use super::many_options;

    static NEXT: AtomicU32 = AtomicU32::new(0);

    fn ipc(fresh: impl Fn() -> String + Send + Sync + 'static) -> Subject {
        Subject::new(Arc::new(Ipc), fresh).refuses("").refuses(&"x".repeat(108)).refuses("a\0b")
    }

    fn ipc_in_a_folder() -> Subject {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        ipc(move || folder.path().join(unique()).to_str().expect("the path is text").to_owned())
    }

    fn unique() -> String {
        format!("wiremesh-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    mod ipc_by_path {
        wiremesh_transports::conformance_tests!(super::ipc_in_a_folder());
    }

    mod ipc_with_many_options {
        wiremesh_transports::conformance_tests!(super::ipc_in_a_folder().options(super::many_options()));
    }

    #[cfg(target_os = "linux")]
    mod ipc_by_abstract_name {
        wiremesh_transports::conformance_tests!(super::ipc(|| format!("@{}", super::unique())));
    }
}
