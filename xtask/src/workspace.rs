//! Where things are and which tests there are, as cargo tells it.

use crate::process;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// The workspace this program belongs to.
pub(crate) struct Workspace {
    /// The checkout.
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
    /// The names of the root package's integration tests.
    pub(crate) tests: Vec<String>,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    /// Cargo cannot read the workspace.
    pub(crate) fn read() -> Result<Workspace, String> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let metadata = process::output(
            cargo().args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(PathBuf::from(manifest)),
        )?;
        let metadata: Value = serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;
        let path = |name: &str| {
            let value = metadata.get(name).and_then(Value::as_str);
            value.map(PathBuf::from).ok_or_else(|| format!("cargo metadata names no {name}"))
        };
        Ok(Workspace { root: path("workspace_root")?, target: path("target_directory")?, tests: tests(&metadata) })
    }
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn tests(metadata: &Value) -> Vec<String> {
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let packages = list(metadata, "packages");
    let library = packages.iter().filter(|package| package.get("name").is_some_and(|name| name == "wiremesh"));
    let targets = library.flat_map(|package| list(package, "targets"));
    let tests = targets.filter(|target| list(target, "kind").iter().any(|kind| kind == "test"));
    tests.filter_map(|target| target.get("name")?.as_str().map(str::to_owned)).collect()
}
