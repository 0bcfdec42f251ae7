//! `cargo publish --dry-run` of both crates, always of the tree as it stands.

use crate::process::{self, Ended};
use crate::workspace::{Workspace, cargo};
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

const TRANSPORTS: [&str; 2] = ["--package", "wiremesh-transports"];

/// Packs both crates and builds each from its package alone.
///
/// Cargo unpacks the packed `wiremesh-transports` into its own home, under a name made of the target directory and the
/// version, and believes what it finds there from an earlier run. So each content has a target directory of its own.
///
/// # Errors
/// Cargo cannot be started, cannot pack `wiremesh-transports`, or the package cannot be read.
pub(crate) fn verify(workspace: &Workspace, limit: Duration) -> Result<Ended, String> {
    let home = workspace.target.join("publish");
    let _ = fs::remove_dir_all(&home);
    let mut pack = cargo();
    pack.args(["package", "--no-verify", "--allow-dirty"]).args(TRANSPORTS).arg("--target-dir").arg(&home);
    process::output(pack.current_dir(&workspace.root))?;
    let target = home.join(format!("{:016x}", digest(&home.join("package"))?));
    let mut publish = cargo();
    publish.args(["publish", "--dry-run", "--allow-dirty", "--package", "wiremesh"]).args(TRANSPORTS);
    process::run(publish.arg("--target-dir").arg(target).current_dir(&workspace.root), limit)
}

/// A digest of the one package in a directory.
fn digest(directory: &std::path::Path) -> Result<u64, String> {
    let said = |error: std::io::Error| format!("reading {}: {error}", directory.display());
    let mut hasher = DefaultHasher::new();
    for entry in fs::read_dir(directory).map_err(said)? {
        let path = entry.map_err(said)?.path();
        if path.extension().is_some_and(|extension| extension == "crate") {
            hasher.write(&fs::read(path).map_err(said)?);
        }
    }
    Ok(hasher.finish())
}
