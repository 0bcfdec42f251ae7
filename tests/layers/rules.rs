//! The rules: who may name whom, what is kept out of the pure layers, and where `unsafe` may stand.

use super::paths::{has_keyword, paths};
use std::collections::BTreeSet;

/// The layers, from the bottom up. Files of one layer know each other and what is listed; nothing else.
pub(crate) const LAYERS: [Layer; 10] = [
    Layer {
        name: "vocabulary",
        modules: &["budget", "endpoint", "error", "event", "kind", "peer", "profile", "slab", "stats", "sync"],
        may_know: &[],
    },
    Layer { name: "message", modules: &["message"], may_know: &["vocabulary"] },
    Layer { name: "queue", modules: &["queue"], may_know: &["message", "vocabulary"] },
    Layer { name: "protocol", modules: &["protocol"], may_know: &["message", "vocabulary"] },
    Layer { name: "patterns", modules: &["patterns"], may_know: &["message", "vocabulary"] },
    Layer { name: "options", modules: &["options"], may_know: &["protocol", "message", "vocabulary"] },
    Layer {
        name: "engine",
        modules: &["engine"],
        may_know: &["protocol", "queue", "message", "vocabulary", "transports"],
    },
    Layer {
        name: "socket",
        modules: &["socket", "context"],
        may_know: &["patterns", "engine", "options", "protocol", "queue", "message", "vocabulary", "transports"],
    },
    Layer { name: "guide", modules: &["guide"], may_know: &[] },
    Layer {
        name: "lib",
        modules: &[""],
        may_know: &[
            "socket",
            "patterns",
            "engine",
            "options",
            "protocol",
            "queue",
            "message",
            "vocabulary",
            "transports",
        ],
    },
];

/// Modules of one level and the levels below that they may name.
pub(crate) struct Layer {
    pub(crate) name: &'static str,
    modules: &'static [&'static str],
    may_know: &'static [&'static str],
}

impl Layer {
    pub(crate) fn may_know(&self) -> &'static [&'static str] {
        self.may_know
    }
}

/// What goes upwards all the same: a file, a path, and why.
pub(crate) const EXCEPTIONS: [(&str, &str, &str); 5] = [
    ("error.rs", "crate::message::Message", "a send that fails hands the message back, so its error holds it"),
    (
        "event.rs",
        "crate::protocol::ProtocolError",
        "the cause of a lost connection is the protocol's own error, not its text",
    ),
    (
        "peer.rs",
        "wiremesh_transports::Credentials",
        "what the kernel says about an ipc peer, in the transports' own type",
    ),
    (
        "options/table.rs",
        "crate::Builder",
        "the table unfolds into the builder's setters: one row is all an option needs",
    ),
    ("options/table.rs", "crate::socket::Face", "the bound on the builder whose setters the table unfolds into"),
];

/// What must not occur in `protocol/` and `patterns/`: sockets, clocks, threads, locks and randomness come in as
/// arguments.
const IMPURE: [&[&str]; 14] = [
    &["std", "net"],
    &["std", "os"],
    &["std", "fs"],
    &["std", "thread"],
    &["std", "sync", "Mutex"],
    &["std", "sync", "RwLock"],
    &["std", "sync", "Condvar"],
    &["std", "sync", "mpsc"],
    &["std", "time", "SystemTime"],
    &["std", "collections", "hash_map", "RandomState"],
    &["rand"],
    &["mio"],
    &["socket2"],
    &["libc"],
];

/// Where `unsafe` may stand: below `src/` of the library, and below `transports/src/`.
pub(crate) const UNSAFE: [&str; 5] =
    ["message/storage.rs", "queue/append.rs", "queue/chunk.rs", "queue/gate.rs", "transports/src/sys/"];

/// A file of the library: its path below `src/`, and what it says.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) source: String,
}

impl File {
    /// `engine/port.rs` is the module `engine::port`, `engine/mod.rs` is `engine`, `lib.rs` the crate itself.
    fn module(&self) -> Vec<String> {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').filter(|part| *part != "lib").map(str::to_owned).collect()
    }

    fn layer(&self) -> Option<&'static Layer> {
        layer_of(self.module().first().map_or("", String::as_str))
    }
}

fn layer_of(module: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| layer.modules.contains(&module))
}

/// Every breach of the import rule, and the exceptions that were needed. `reexported` says which module a name in the
/// crate's root comes from.
pub(crate) fn imports(file: &File, reexported: impl Fn(&str) -> Option<String>) -> (Vec<String>, BTreeSet<usize>) {
    let Some(layer) = file.layer() else {
        return (
            vec![format!("src/{}: no layer has this module; add it to one in tests/layers/rules.rs", file.path)],
            BTreeSet::new(),
        );
    };
    let (mut breaches, mut used) = (Vec::new(), BTreeSet::new());
    for path in paths(&file.module(), &file.source) {
        let target = match path.parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["wiremesh_transports", ..] => Some("transports"),
            // The root itself, as in `use crate as wiremesh`, or a name it re-exports.
            ["crate"] => Some("lib"),
            ["crate", name, ..] => {
                let module = layer_of(name).map_or_else(|| reexported(name), |_| Some(name.to_owned()));
                module.and_then(|module| layer_of(&module)).map(|layer| layer.name)
            }
            _ => continue,
        };
        let written = path.parts.join("::");
        let exception =
            EXCEPTIONS.iter().position(|(place, allowed, _)| *place == file.path && written.starts_with(allowed));
        match (target, exception) {
            (Some(target), _) if target == layer.name || layer.may_know.contains(&target) => {}
            (_, Some(exception)) => drop(used.insert(exception)),
            (Some(target), None) => {
                breaches.push(format!("src/{}: {written}: {} must not know {target}", file.path, layer.name))
            }
            (None, None) => breaches.push(format!("src/{}: {written}: nobody knows where that is", file.path)),
        }
    }
    (breaches, used)
}

/// Every clock, lock, socket, thread or random number in a file of the pure layers.
pub(crate) fn impurities(file: &File) -> Vec<String> {
    if !file.layer().is_some_and(|layer| ["protocol", "patterns"].contains(&layer.name)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for path in paths(&file.module(), &file.source).iter().filter(|path| !path.in_tests) {
        let parts: Vec<_> = path.parts.iter().map(String::as_str).collect();
        let parts = if parts.first() == Some(&"core") { [&["std"], &parts[1..]].concat() } else { parts };
        let banned = IMPURE.iter().any(|banned| parts.starts_with(banned));
        let clock = parts.ends_with(&["Instant", "now"]);
        if banned || clock {
            found.push(format!("src/{}: {}: it has to come in as an argument", file.path, path.parts.join("::")));
        }
    }
    if !file.path.ends_with("tests.rs")
        && file.source.split("#[cfg(test)]").next().is_some_and(|code| code.contains(".elapsed()"))
    {
        found.push(format!("src/{}: `elapsed` reads the clock", file.path));
    }
    found
}

/// Whether a file that is no home of unsafe code has some. `path` is below `src/`, or begins with `transports/`.
pub(crate) fn stray_unsafe(file: &File) -> bool {
    has_keyword(&file.source, "unsafe") && !UNSAFE.iter().any(|home| file.path.starts_with(home))
}
