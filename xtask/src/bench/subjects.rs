//! Building the subjects' programs and asking them who they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// One subject and its program, or why there is none.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) program: Result<PathBuf, String>,
    pub(crate) version: String,
    pub(crate) settings: String,
    /// False for a program that only helps to measure others.
    pub(crate) takes_part: bool,
}

/// All subjects of this run.
pub(crate) struct Subjects(pub(crate) Vec<Subject>);

impl Subjects {
    /// The subject called `name`, if it is measured in this run.
    pub(crate) fn taking_part(&self, name: &str) -> Option<&Subject> {
        self.0.iter().find(|subject| subject.name == name && subject.takes_part)
    }

    /// The program of subject `name`.
    pub(crate) fn program(&self, name: &str) -> Result<&Path, String> {
        let subject =
            self.0.iter().find(|subject| subject.name == name).ok_or_else(|| format!("{name} takes no part"))?;
        subject.program.as_deref().map_err(|why| format!("not built: {why}"))
    }
}

/// Builds each of `names`, and the helper where one is needed, by itself.
pub(crate) fn build(
    root: &Path,
    target_dir: &Path,
    names: &[&'static str],
    helper: Option<&'static str>,
) -> Result<Subjects, String> {
    let manifest = root.join("benches/compare/Cargo.toml");
    if !manifest.is_file() {
        return Err(format!("{} is missing", manifest.display()));
    }
    let tools = if names.contains(&"nng") { cmake(target_dir) } else { None };
    let mut subjects = Vec::new();
    let helper = helper.filter(|helper| !names.contains(helper));
    for name in names.iter().copied().chain(helper) {
        eprintln!("building {name} ...");
        let program = build_one(&manifest, target_dir, name, tools.as_deref());
        if let Err(why) = &program {
            eprintln!("  {name} is not built: {why}");
        }
        let about = program.as_deref().map(ask).unwrap_or_default();
        subjects.push(Subject {
            name,
            program,
            version: about.0,
            settings: about.1,
            takes_part: names.contains(&name),
        });
    }
    Ok(Subjects(subjects))
}

fn build_one(manifest: &Path, target_dir: &Path, name: &str, tools: Option<&Path>) -> Result<PathBuf, String> {
    let package = format!("subject-{name}");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--release", "--quiet", "--package", &package, "--manifest-path"]).arg(manifest);
    command.arg("--target-dir").arg(target_dir);
    if let Some(tools) = tools {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(tools.to_path_buf()).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(all).map_err(|why| why.to_string())?);
    }
    let output = command.output().map_err(|why| why.to_string())?;
    if output.status.success() {
        return Ok(target_dir.join("release").join(package));
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let cause = text.lines().find(|line| line.starts_with("error")).or_else(|| text.lines().last());
    Err(cause.unwrap_or("cargo gave no reason").to_owned())
}

/// NNG is built with cmake. Where there is none, the Python package of the same name, which carries the program, is put
/// into a private environment below `target_dir`; where that fails too, NNG is reported as not built.
fn cmake(target_dir: &Path) -> Option<PathBuf> {
    if Command::new("cmake").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return None;
    }
    let environment = target_dir.join("tools");
    let bin = environment.join("bin");
    if !bin.join("cmake").is_file() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&environment).status().is_ok_and(|s| s.success());
        let pip = || Command::new(bin.join("pip")).args(["install", "--quiet", "cmake"]).status();
        if !made || !pip().is_ok_and(|status| status.success()) {
            return None;
        }
    }
    Some(bin)
}

/// Version and settings as the program states them.
fn ask(program: &Path) -> (String, String) {
    let Ok(output) = Command::new(program).arg("role=about").output() else { return Default::default() };
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("unknown").to_owned();
    (text("version"), text("settings"))
}
