//! Whoever knows libzmq searches the documentation for its names: each is an alias of what stands for it here.

use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn libzmqs_names_of_kinds_events_and_errors_are_aliases() {
    let kinds = wiremesh::SocketKind::ALL.map(|kind| format!("ZMQ_{}", kind.name()));
    let events = [
        "LISTENING",
        "BIND_FAILED",
        "ACCEPTED",
        "ACCEPT_FAILED",
        "CONNECT_DELAYED",
        "CONNECTED",
        "CONNECT_RETRIED",
        "HANDSHAKE_SUCCEEDED",
        "HANDSHAKE_FAILED_NO_DETAIL",
        "HANDSHAKE_FAILED_PROTOCOL",
        "HANDSHAKE_FAILED_AUTH",
        "DISCONNECTED",
        "CLOSED",
        "MONITOR_STOPPED",
    ];
    let events = events.map(|event| format!("ZMQ_EVENT_{event}"));
    let errors = ["EAGAIN", "ETERM", "ENOTSOCK", "EFSM", "EHOSTUNREACH", "EADDRINUSE", "EINVAL", "EPROTONOSUPPORT"];
    expect(kinds.into_iter().chain(events).chain(errors.map(str::to_owned)));
}

#[test]
fn every_libzmq_name_in_the_guide_that_has_a_counterpart_is_an_alias() {
    let guide = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide/from_libzmq.md"));
    let table = guide.split("# Names").nth(1).and_then(|rest| rest.split("# Behaviour").next()).expect("the table");
    let named = table.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    let words = named.flat_map(|cell| cell.split(|c: char| !c.is_alphanumeric() && c != '_'));
    let names: BTreeSet<_> = words.filter(|word| word.starts_with("zmq_") || word.starts_with("ZMQ_")).collect();
    assert!(names.len() > 20, "{names:?}");
    expect(names.into_iter().map(str::to_owned));
}

#[test]
fn every_option_has_its_libzmq_name_as_an_alias_in_all_its_forms() {
    // The table unfolds into a field, a setting and a builder method, each with its own documentation.
    let table = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/options/table.rs"));
    assert_eq!(table.matches("#[doc(alias = $zmq)]").count(), 3);
    assert_eq!(table.matches(r#"". libzmq: `", $zmq, "`.""#).count(), 3);
    assert!(wiremesh::options::table().iter().filter(|row| row.zmq_name.starts_with("ZMQ_")).count() > 40);
}

/// `libzmq_names.txt` has what `zmq.h` of libzmq 4.3.5 declares, drafts included, without the switches and types of its
/// own build.
#[test]
fn every_name_of_libzmqs_header_leads_somewhere() {
    let names = include_str!("doc_aliases/libzmq_names.txt").lines().map(str::to_owned);
    assert!(names.clone().count() > 300);
    expect(names);
}

/// Expects each name to be an alias, by itself or as the libzmq name of an option.
fn expect(names: impl Iterator<Item = String>) {
    let mut aliases = BTreeSet::new();
    gather(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut aliases);
    aliases.extend(wiremesh::options::table().iter().map(|row| row.zmq_name.to_owned()));
    let missing: Vec<_> = names.filter(|name| !aliases.contains(name)).collect();
    assert!(missing.is_empty(), "no `doc(alias)` for {missing:?}");
}

fn gather(folder: &Path, aliases: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            gather(&path, aliases);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let source = read(&path);
            let found = source.split("doc(alias = \"").skip(1).filter_map(|rest| rest.split('"').next());
            aliases.extend(found.map(str::to_owned));
            let lists = source.split("doc(alias(").skip(1).filter_map(|rest| rest.split(')').next());
            aliases.extend(lists.flat_map(|list| list.split('"').skip(1).step_by(2)).map(str::to_owned));
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a text file")
}
