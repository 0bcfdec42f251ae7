//! The private Python environment with the one libzmq that interop is tested against.

use crate::process;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The release of pyzmq; its wheel carries libzmq 4.3.5.
const PYZMQ: &str = "27.1.0";
const LIBZMQ: &str = "4.3.5";

/// Makes the environment below `target` unless it is there already, and returns its interpreter.
///
/// # Errors
/// A sentence that says what is missing and how to install it.
pub(crate) fn environment(target: &Path) -> Result<PathBuf, String> {
    let place = target.join("interop-venv");
    let python = place.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if versions(&python).is_ok_and(|found| found == wanted()) {
        return Ok(python);
    }
    // What is left of an environment that does not work would only get in the way.
    if place.exists() {
        fs::remove_dir_all(&place).map_err(|error| format!("removing {}: {error}", place.display()))?;
    }
    process::output(Command::new("python3").arg("--version")).map_err(|why| format!("{why}\n{NO_PYTHON}"))?;
    process::output(Command::new("python3").args(["-m", "venv"]).arg(&place))
        .map_err(|why| format!("{why}\n{NO_VENV}"))?;
    let pyzmq = format!("pyzmq=={PYZMQ}");
    // From a wheel only: built from source it would be linked with whatever libzmq this machine has.
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", &pyzmq];
    process::output(Command::new(&python).args(install)).map_err(|why| {
        format!("{why}\npip could not install {pyzmq}, which brings libzmq for the interop tests; it needs a way to the Python package index. {WITHOUT}")
    })?;
    match versions(&python)? {
        found if found == wanted() => Ok(python),
        found => Err(format!("the interop environment has pyzmq and libzmq {found}; wanted are {}", wanted())),
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
    format!("{PYZMQ} {LIBZMQ}")
}

fn versions(python: &Path) -> Result<String, String> {
    let script = "import zmq; print(zmq.pyzmq_version(), zmq.zmq_version())";
    process::output(Command::new(python).args(["-c", script])).map(|text| text.trim().to_owned())
}
