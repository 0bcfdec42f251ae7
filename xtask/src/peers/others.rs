//! Peers in other languages: fetched from their registries, pinned, into folders of their own below `target/peers`.

use super::Program;
use crate::process;
use crate::workspace::Workspace;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The npm package `zeromq`: libzmq as node has it. Its release and that of each package it needs stand in the lock
/// file, with checksums.
pub(super) fn node(workspace: &Workspace) -> Result<Program, String> {
    let folder = workspace.target.join("peers/node");
    for name in ["package.json", "package-lock.json", "peer.js"] {
        copy(&workspace.root.join("tests/peers/node").join(name), &folder.join(name))?;
    }
    process::output(Command::new("node").arg("--version")).map_err(|why| format!("{why}; it needs node and npm"))?;
    // Without scripts: they would build what the package has prebuilt.
    let install = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"];
    process::output(Command::new("npm").args(install).current_dir(&folder))?;
    let program = Program {
        path: PathBuf::from("node"),
        words: vec![folder.join("peer.js").display().to_string()],
        version: String::new(),
    };
    Ok(Program { version: version(&program)?, ..program })
}

/// JeroMQ, as the Python package in `tests/peers/jeromq/requirements.txt` carries it, with its checksum.
pub(super) fn jeromq(workspace: &Workspace) -> Result<Program, String> {
    let (source, folder) = (workspace.root.join("tests/peers/jeromq"), workspace.target.join("peers/jeromq"));
    process::output(Command::new("javac").arg("-version")).map_err(|why| format!("{why}; it needs a JDK"))?;
    // Packages of an earlier run may be others.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    let download = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"];
    let pinned = ["--only-binary", ":all:", "--require-hashes", "--requirement", "requirements.txt", "--dest"];
    process::output(Command::new("python3").args(download).args(pinned).arg(&folder).current_dir(&source))?;
    let wheel = find(&folder, "whl")?;
    process::output(Command::new("python3").args(["-m", "zipfile", "--extract"]).arg(wheel).arg(&folder))?;
    let jar = find(&folder, "jjava.jar")?;
    let mut compile = Command::new("javac");
    process::output(compile.arg("-cp").arg(&jar).arg("-d").arg(&folder).arg(source.join("Peer.java")))?;
    let classes = std::env::join_paths([&jar, &folder]).map_err(|why| why.to_string())?;
    let classes = classes.to_string_lossy();
    let words = ["-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp", &classes, "Peer"].map(str::to_owned).to_vec();
    let program = Program { path: PathBuf::from("java"), words, version: String::new() };
    Ok(Program { version: version(&program)?, ..program })
}

/// The file below `folder` whose name ends so.
fn find(folder: &Path, end: &str) -> Result<PathBuf, String> {
    let list = |folder: &Path| fs::read_dir(folder).map_err(|why| format!("{}: {why}", folder.display()));
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in list(&folder)?.filter_map(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(end)) {
                return Ok(path);
            }
        }
    }
    Err(format!("no file in {} ends with {end}", folder.display()))
}

/// What a program says of itself.
fn version(program: &Program) -> Result<String, String> {
    let said = process::output(Command::new(&program.path).args(&program.words).arg("role=about"))?;
    let said: serde_json::Value = serde_json::from_str(&said).map_err(|why| format!("{said}: {why}"))?;
    let version = said.get("version").and_then(serde_json::Value::as_str);
    version.map(str::to_owned).ok_or_else(|| format!("no version in {said}"))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let folder = to.parent().ok_or("a path without a folder")?;
    let copied = fs::create_dir_all(folder).and_then(|()| fs::copy(from, to));
    copied.map(drop).map_err(|why| format!("{} to {}: {why}", from.display(), to.display()))
}
