//! Which text files there are, and what a word is. Knows nothing of wiremesh: the plain count is made with this alone.

use crate::Outcome;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// How often each word occurs.
pub(crate) type Words = BTreeMap<Vec<u8>, u64>;

/// The contents of the files at the given paths, and of all files in the folders there; without paths the repository's
/// own text files, or some that this program carries in itself.
pub(crate) fn gather(paths: &[OsString]) -> Outcome<Vec<Vec<u8>>> {
    let given = !paths.is_empty();
    let mut files = Vec::new();
    if given {
        for path in paths {
            list(Path::new(path), &|_| true, &mut files)?;
        }
    } else {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        for part in ["README.md", "ARCHITECTURE.md", "MEASUREMENTS.md", "src", "transports/src", "examples", "tests"] {
            // The repository may have moved since, or never have been here.
            let _ = list(&repository.join(part), &is_text, &mut files);
        }
    }
    let texts = files.iter().map(|path| read(path)).collect::<Outcome<Vec<_>>>()?;
    Ok(if texts.is_empty() && !given { carried() } else { texts })
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(path).map_err(|error| format!("reading {}: {error}", path.display()).into())
}

/// Lists a file, or all files in a folder.
fn list(path: &Path, wanted: &impl Fn(&Path) -> bool, files: &mut Vec<PathBuf>) -> Outcome {
    let about = |error| format!("{}: {error}", path.display());
    let kind = std::fs::metadata(path).map_err(about)?;
    if kind.is_file() && wanted(path) {
        files.push(path.to_owned());
    } else if kind.is_dir() {
        let entries = std::fs::read_dir(path).map_err(about)?;
        let mut inside = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        inside.sort();
        for path in inside.iter().filter(|path| !path.is_symlink()) {
            list(path, wanted, files)?;
        }
    }
    Ok(())
}

fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md" || extension == "rs")
}

/// For a program that has left its repository behind.
fn carried() -> Vec<Vec<u8>> {
    [
        include_str!("../../README.md"),
        include_str!("main.rs"),
        include_str!("texts.rs"),
        include_str!("../hello_world.rs"),
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// The words of a text: runs of letters and digits. Octets that are not ASCII count as letters, which keeps UTF-8
/// whole.
pub(crate) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|octet| octet.is_ascii() && !octet.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
}

/// Counts them.
pub(crate) fn count(text: &[u8], counted: &mut Words) {
    for word in words(text) {
        match counted.get_mut(word) {
            Some(times) => *times += 1,
            None => drop(counted.insert(word.to_vec(), 1)),
        }
    }
}

/// Cuts a text into pieces of about that size, between lines.
pub(crate) fn pieces(mut text: &[u8], size: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let rest = text.get(size..).unwrap_or_default();
        let cut = rest.iter().position(|octet| *octet == b'\n').map_or(text.len(), |place| size + place + 1);
        let (piece, left) = text.split_at(cut);
        text = left;
        (!piece.is_empty()).then_some(piece)
    })
}
