//! Runs the examples as a reader would, and looks at what they print and how they end.
//!
//! Cargo builds them beside the tests. When this file is tested alone it does not: then they are built here, unless
//! they are newer than what they are made of.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Once, mpsc};
use std::time::{Duration, SystemTime};

/// How long an example may take: a second or two, on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(120);

/// How an example ended, and what it printed.
struct Ended {
    status: ExitStatus,
    printed: String,
}

impl Ended {
    fn well(self) -> Ended {
        assert!(self.status.success(), "{}\n{}", self.status, self.printed);
        self
    }

    fn saying(self, words: &str) -> Ended {
        assert!(self.printed.contains(words), "it does not say {words:?}:\n{}", self.printed);
        self
    }
}

#[test]
fn hello_world_is_answered() {
    run("hello_world", &[]).well().saying("\"Good night\" was answered with \"Good night World\"");
}

#[test]
fn weather_updates_arrive_by_topic() {
    run("weather_updates", &[]).well().saying("Rome: 25 degrees").saying("everywhere: 17 degrees");
}

#[test]
fn a_task_pipeline_does_every_task_once() {
    run("task_pipeline", &[]).well().saying("make 333383335000");
}

#[test]
fn work_goes_to_whoever_is_idle() {
    run("idle_workers", &[]).well().saying("the quick worker did");
}

#[test]
fn a_broker_brings_clients_and_services_together() {
    run("router_dealer_broker", &[]).well().saying("4 clients had 400 answers");
}

#[test]
fn envelopes_are_filtered_by_their_first_frame() {
    run("pubsub_envelopes", &[]).well().saying("only the topic B arrived");
}

#[test]
fn many_sockets_are_received_from_at_once() {
    run("many_sockets", &[]).well().saying("one thread per socket").saying("taking turns");
}

#[test]
fn a_monitor_tells_of_a_reconnect() {
    run("monitor", &[])
        .well()
        .saying("handshake succeeded")
        .saying("connected again 1 times")
        .saying("monitor stopped");
}

#[test]
fn a_transport_of_ones_own_carries_messages() {
    run("custom_transport", &[]).well().saying("CONNECTING TO 127.0.0.1").saying("received over loud://127.0.0.1");
}

#[test]
fn a_lazy_pirate_survives_its_server() {
    run("lazy_pirate", &[]).well().saying("client: gave up").saying("client: heard from the successor");
}

#[test]
fn the_quickstart_agrees_with_a_plain_count() {
    run("quickstart", &["--small"]).well().saying("All 12 totals agree").saying("worker-3 is process");
}

#[test]
fn the_quickstart_counts_the_words_of_a_given_file() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    run("quickstart", &["--small", file]).well().saying("1 files of").saying("All 12 totals agree");
}

#[test]
fn the_quickstart_fails_when_a_part_does() {
    let ended = run("quickstart", &["--small", "/no/such/file"]);
    assert!(!ended.status.success());
    ended.saying("/no/such/file");
}

#[test]
fn every_example_is_run_here_and_is_short() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for entry in std::fs::read_dir(folder).expect("there are examples") {
        let path = entry.expect("it is readable").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("names are text").to_owned();
        assert!(include_str!("examples.rs").contains(&format!("run(\"{name}\"")), "{name} is not run");
        if path.is_file() {
            let lines = std::fs::read_to_string(&path).expect("it is text").lines().count();
            assert!(lines < 60, "{name} has {lines} lines");
        }
    }
}

/// Whoever tries the library must not wait for what only its tests need: that lives in packages of its own, such as
/// `tests/model`.
#[test]
fn the_quickstart_builds_fewer_than_fifteen_crates_of_others() {
    // Cargo may build the dev-dependencies of a package for its examples.
    let words = ["tree", "--offline", "--package", "wiremesh", "--edges", "normal,build,dev", "--prefix", "none"];
    let output = Command::new(env!("CARGO")).args(words).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.expect("cargo runs");
    let tree = String::from_utf8_lossy(&output.stdout);
    let named = tree.lines().filter_map(|line| line.split(' ').next());
    let others: BTreeSet<_> = named.filter(|name| !name.is_empty() && !name.starts_with("wiremesh")).collect();
    assert!(others.contains("mio"), "{tree}{}", String::from_utf8_lossy(&output.stderr));
    assert!(others.len() < 15, "{} crates: {others:?}", others.len());
}

/// Runs an example to its end.
fn run(name: &str, arguments: &[&str]) -> Ended {
    let mut child = Command::new(example(name))
        .args(arguments)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
    let (done, waited) = mpsc::channel();
    read_to_end(child.stdout.take().expect("it is piped"), done.clone());
    read_to_end(child.stderr.take().expect("it is piped"), done);
    let mut printed = String::new();
    // Both end when the example and everything it started have ended.
    for _ in 0..2 {
        match waited.recv_timeout(LIMIT) {
            Ok(text) => printed.push_str(&text),
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{name} did not end in {LIMIT:?}");
            }
        }
    }
    Ended { status: child.wait().expect("it can be waited for"), printed }
}

fn read_to_end(mut from: impl Read + Send + 'static, done: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        let mut octets = Vec::new();
        let _ = from.read_to_end(&mut octets);
        // Nobody listens any more if the example took too long.
        let _ = done.send(String::from_utf8_lossy(&octets).into_owned());
    });
}

/// Where cargo put the example: `target/debug/examples` for a test in `target/debug/deps`.
fn example(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    let tests = std::env::current_exe().expect("a test knows itself");
    let profile = tests.ancestors().nth(2).expect("a test lies in deps");
    let path = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = [root.join("src"), root.join("transports/src"), root.join("examples").join(name)];
    let single = root.join("examples").join(format!("{name}.rs"));
    let newest_source = sources.iter().filter_map(|folder| newest(folder)).chain(changed(&single)).max();
    if changed(&path) < newest_source {
        BUILT.call_once(|| build(profile));
    }
    path
}

/// When a file was changed last.
fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|file| file.modified()).ok()
}

/// When something in that folder was changed last.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter_map(|path| if path.is_dir() { newest(&path) } else { changed(&path) }).max()
}

/// Builds all examples into the folder of that profile.
fn build(folder: &Path) {
    let profile = match folder.file_name().and_then(|name| name.to_str()).expect("profiles have names") {
        "debug" => "dev",
        other => other,
    };
    let target = folder.parent().expect("profiles lie in the target folder");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--examples", "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(status.is_ok_and(|status| status.success()), "the examples do not build");
}
