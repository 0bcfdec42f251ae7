//! Holds the import rule of ARCHITECTURE.md over every path in the sources, keeps the pure layers pure, and unsafe code
//! in its homes. A breach names its file and what it must not know.

#[path = "layers/paths.rs"]
mod paths;
#[path = "layers/rules.rs"]
mod rules;

use rules::{EXCEPTIONS, File, LAYERS, UNSAFE, imports, impurities, stray_unsafe};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

#[test]
fn imports_point_downwards_only() {
    let (breaches, _) = all_imports();
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn every_exception_is_still_needed() {
    let (_, used) = all_imports();
    let idle: Vec<_> =
        (0..EXCEPTIONS.len()).filter(|number| !used.contains(number)).map(|number| EXCEPTIONS[number]).collect();
    assert!(idle.is_empty(), "no longer needed: {idle:#?}");
}

#[test]
fn protocol_and_patterns_have_no_clock_lock_socket_thread_or_chance() {
    let found: Vec<_> = library().iter().flat_map(impurities).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn unsafe_code_stays_in_its_homes() {
    let mut files = library();
    files.extend(read("transports/src", "transports/src/"));
    let strays: Vec<_> = files.iter().filter(|file| stray_unsafe(file)).map(|file| &file.path).collect();
    assert!(strays.is_empty(), "unsafe outside {UNSAFE:?}: {strays:?}");
}

#[test]
fn the_table_of_layers_fits_itself() {
    // What a layer may know lies below it: so there is no circle.
    for (height, layer) in LAYERS.iter().enumerate() {
        for known in layer.may_know() {
            let below = LAYERS[..height].iter().any(|lower| lower.name == *known);
            assert!(below || *known == "transports", "{} knows {known}", layer.name);
        }
    }
}

#[test]
fn a_planted_import_is_found_in_every_form() {
    let planted = [
        ("protocol/connection.rs", "use crate::engine::port::Port;"),
        ("protocol/connection.rs", "use crate::{kind::SocketKind, engine::{self, port::Port as P}};"),
        ("protocol/connection.rs", "fn f() { crate::engine::wake() }"),
        ("protocol/connection.rs", "struct S<T: crate::socket::Face>(T);"),
        ("protocol/connection.rs", "use super::super::queue::Outbox;"),
        ("protocol/mod.rs", "use super::patterns;"),
        ("protocol/connection.rs", "mod inner { use super::super::super::engine::Port; }"),
        ("protocol/connection.rs", "mod tests { use crate::Socket; }"),
        ("protocol/connection.rs", "fn f(_: crate::Push) {}"),
        ("protocol/connection.rs", "macro_rules! m { () => { $crate::context::Context::new() } }"),
        ("protocol/connection.rs", "assert_eq!(crate::engine::COUNT, 1);"),
        ("protocol/connection.rs", "#[cfg(feature = \"x\")] pub(in crate::engine) fn f() {}"),
        ("protocol/connection.rs", "use wiremesh_transports::Stream;"),
        ("protocol/connection.rs", "use crate::*;"),
        ("protocol/connection.rs", "use crate as everything;"),
        ("protocol/mod.rs", "use super as everything;"),
        ("protocol/mod.rs", "use super::*;"),
        ("patterns/router.rs", "use crate::protocol::Connection;"),
        ("patterns/router.rs", "use crate::queue::outbox::Outbox;"),
        ("engine/port.rs", "use crate::socket::core::Core;"),
        ("engine/port.rs", "use crate::patterns::router::Routes;"),
        ("engine/port.rs", "use crate::options::Options;"),
        ("queue/outbox.rs", "use crate::protocol::command;"),
        ("message/mod.rs", "use crate::queue::chunk::Extent;"),
        ("kind.rs", "use crate::message::Frame;"),
        ("newcomer.rs", ""),
        ("protocol/connection.rs", "use crate::nowhere::Thing;"),
    ];
    for (path, source) in planted {
        let (breaches, _) = imports(&file(path, source), reexports());
        assert!(!breaches.is_empty(), "{path}: {source}");
    }
}

#[test]
fn what_is_allowed_or_no_code_is_not_found() {
    let fine = [
        ("protocol/connection.rs", "use super::decoder::Decoder; use crate::message::wire::{self, Header};"),
        ("protocol/mechanism/null.rs", "use super::super::error::ProtocolError; use crate::SocketKind;"),
        (
            "protocol/connection.rs",
            "//! See crate::engine::Port.\n/// [`crate::socket::Socket`]\nfn f() { \"crate::engine\"; }",
        ),
        ("protocol/connection.rs", "/* use crate::engine::Port; */ mod tests { use super::*; }"),
        (
            "socket/core.rs",
            "use crate::context::Inner; use crate::engine::port::Port; use crate::patterns::router::Routes;",
        ),
        ("engine/port.rs", "use wiremesh_transports::Stream; use crate::protocol::Connection; use super::Host;"),
        ("error.rs", "use crate::message::Message;"),
        ("lib.rs", "pub use socket::Socket; use crate::engine::thread::Engine;"),
    ];
    for (path, source) in fine {
        let (breaches, _) = imports(&file(path, source), reexports());
        assert!(breaches.is_empty(), "{path}: {breaches:?}");
    }
}

#[test]
fn planted_impurities_and_unsafe_code_are_found() {
    for source in [
        "use std::net::TcpStream;",
        "use std::{sync::{Arc, Mutex}, time::Duration};",
        "fn f() { std::thread::yield_now() }",
        "fn f() { let now = std::time::Instant::now(); }",
        "use std::time::Instant; fn f() -> Instant { Instant::now() }",
        "use std::time::SystemTime;",
        "use rand::random;",
        "fn f(since: Instant) -> Duration { since.elapsed() }",
    ] {
        assert!(!impurities(&file("patterns/balance.rs", source)).is_empty(), "{source}");
        assert!(impurities(&file("engine/port.rs", source)).is_empty(), "{source}");
    }
    let pure =
        "use std::{sync::Arc, time::{Duration, Instant}}; #[cfg(test)] mod tests { fn f() { super::Instant::now(); } }";
    assert_eq!(impurities(&file("protocol/heartbeat.rs", pure)), Vec::<String>::new());

    let source = "fn f() { unsafe { g() } }";
    assert!(stray_unsafe(&file("message/frame.rs", source)));
    assert!(!stray_unsafe(&file("queue/chunk.rs", source)));
    assert!(!stray_unsafe(&file("message/frame.rs", "#![deny(unsafe_code)] // unsafe { }")));
}

fn file(path: &str, source: &str) -> File {
    File { path: path.to_owned(), source: source.to_owned() }
}

fn library() -> Vec<File> {
    read("src", "")
}

/// The Rust files below a folder of the checkout, their paths behind `prefix`.
fn read(folder: &str, prefix: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let source = fs::read_to_string(&path).expect("a source file");
                let below: Vec<_> =
                    path.strip_prefix(&root).expect("below").iter().map(|part| part.to_string_lossy()).collect();
                files.push(File { path: format!("{prefix}{}", below.join("/")), source });
            }
        }
    }
    assert!(files.len() > 5, "the sources are where they are looked for");
    files
}

fn all_imports() -> (Vec<String>, BTreeSet<usize>) {
    let (mut breaches, mut used) = (Vec::new(), BTreeSet::new());
    for file in library() {
        let (more, exceptions) = imports(&file, reexports());
        breaches.extend(more);
        used.extend(exceptions);
    }
    (breaches, used)
}

/// Which module each name in the crate's root comes from: `pub use socket::Socket` says it of `Socket`.
fn reexports() -> impl Fn(&str) -> Option<String> {
    let source =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("the crate's root");
    // As paths that begin at the root, so that they are found.
    let source = source.replace("pub use ", "pub use crate::");
    let named: HashMap<_, _> = paths::paths(&[], &source)
        .into_iter()
        .filter_map(|path| Some((path.parts.last()?.clone(), path.parts.get(1)?.clone())))
        .collect();
    move |name| named.get(name).cloned()
}
