//! Do the tests see? Plants the defects of `tests/planted/defects.txt` one at a time in a copy of the sources and
//! expects the named test to fail. That takes minutes.

use crate::process::Ended;
use crate::tally::Tally;
use crate::workspace::{Workspace, cargo};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the defects are described, below the checkout.
const LIST: &str = "tests/planted/defects.txt";

/// A change to one file, and the test that must notice it.
struct Defect<'a> {
    name: &'a str,
    file: &'a str,
    test: &'a str,
    find: &'a str,
    put: &'a str,
}

/// Plants each defect whose block has one of the `words` in it, or all if there are none; one that is noticed counts as
/// a passed test.
///
/// # Errors
/// Files that cannot be read or written, or a list that does not fit the sources.
pub(crate) fn run(workspace: &Workspace, words: &[String]) -> Result<Ended, String> {
    let tree = workspace.target.join("planted/tree");
    copy(&workspace.root, &tree).map_err(|error| format!("copying to {}: {error}", tree.display()))?;
    let list = read(&workspace.root.join(LIST))?;
    let mut defects = defects(&list)?;
    defects.retain(|defect| words.is_empty() || words.iter().any(|word| defect.has(word)));
    let mut tests: Vec<_> = defects.iter().map(|defect| defect.test).collect();
    tests.sort_unstable();
    tests.dedup();
    for test in tests {
        println!("without a defect: {test}");
        let said = cargo_test(workspace, &tree, test)?;
        if !said.well {
            return Ok(failed(Tally::default(), format!("without a defect, `{test}` must pass:\n{}", said.text)));
        }
    }
    let (mut tally, mut missed) = (Tally::default(), Vec::new());
    for defect in defects {
        let place = tree.join(defect.file);
        let good = read(&workspace.root.join(defect.file))?;
        let write = |text: &str| fs::write(&place, text).map_err(|error| format!("{}: {error}", place.display()));
        write(&defect.plant(&good)?)?;
        let said = cargo_test(workspace, &tree, defect.test);
        write(&good)?;
        let said = said?;
        if !said.text.contains("test result: FAILED") {
            println!("not found: {} ({})\n{}", defect.name, defect.test, said.text);
            missed.push(format!("{} was not noticed by `{}`", defect.name, defect.test));
            tally.failed += 1;
            continue;
        }
        println!("found: {} ({})", defect.name, defect.test);
        tally.passed += 1;
    }
    Ok(Ended { tally, failure: (!missed.is_empty()).then(|| missed.join("\n")) })
}

fn failed(mut tally: Tally, why: String) -> Ended {
    tally.failed += 1;
    Ended { tally, failure: Some(why) }
}

impl Defect<'_> {
    fn has(&self, word: &str) -> bool {
        [self.name, self.file, self.test].iter().any(|text| text.contains(word))
    }

    /// The file with the defect in it.
    fn plant(&self, good: &str) -> Result<String, String> {
        match good.matches(self.find).count() {
            1 => Ok(good.replace(self.find, self.put)),
            count => Err(format!("{}: {:?} is in {} {count} times, not once", self.name, self.find, self.file)),
        }
    }
}

fn defects(list: &str) -> Result<Vec<Defect<'_>>, String> {
    list.split("\n\n").filter(|block| block.contains("defect: ")).map(defect).collect()
}

fn defect(block: &str) -> Result<Defect<'_>, String> {
    let field = |name: &str| {
        let mut lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        match (lines.next(), lines.next()) {
            (Some(line), None) => Ok(line),
            (None, _) => Err(format!("{LIST}: no {name:?} in {block:?}")),
            (Some(_), Some(_)) => {
                Err(format!("{LIST}: two lines {name:?} in {block:?}, between which an empty one is missing"))
            }
        }
    };
    Ok(Defect {
        name: field("defect")?,
        file: field("file")?,
        test: field("test")?,
        find: field("find")?,
        put: field("put")?,
    })
}

/// What a `cargo test` printed, and whether it ended well.
struct Said {
    well: bool,
    text: String,
}

/// Runs a test in the copy, with counts that suffice to find what is planted.
fn cargo_test(workspace: &Workspace, tree: &Path, test: &str) -> Result<Said, String> {
    let output = cargo()
        .current_dir(tree)
        .args(["test", "--quiet", "--target-dir"])
        .arg(workspace.target.join("planted/build"))
        .args(test.split(' '))
        .env("WIREMESH_SEEDS", "500")
        .env("WIREMESH_MUTATIONS", "20000")
        .env_remove("RUST_BACKTRACE")
        .output()
        .map_err(|error| format!("`cargo test {test}` cannot be started: {error}"))?;
    let text = [output.stdout, output.stderr].map(|part| String::from_utf8_lossy(&part).into_owned()).concat();
    Ok(Said { well: output.status.success(), text })
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Copies the sources, leaving out what is built and what is not ours. Files that are the same stay untouched, so that
/// a second run has less to build.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path: PathBuf = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let target = to.join(name);
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                copy(&path, &target)?;
            }
        } else if fs::read(&target).ok() != fs::read(&path).ok() {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_planted_defect_has_its_place_in_the_sources() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let list = read(&root.join(LIST)).unwrap();
        let defects = defects(&list).unwrap();
        assert!(defects.len() >= 10, "{} defects", defects.len());
        for defect in defects {
            defect.plant(&read(&root.join(defect.file)).unwrap()).unwrap();
        }
    }

    #[test]
    fn a_block_that_lacks_a_line_or_does_not_fit_is_an_error() {
        let lacking = defects("defect: a\nfile: b\nfind: c\nput: d").err().unwrap();
        assert!(lacking.contains("\"test\""), "{lacking}");
        let joined = "defect: a\nfile: b\ntest: t\nfind: c\nput: d\n".repeat(2);
        let joined = defects(&joined).err().unwrap();
        assert!(joined.contains("two lines \"defect\""), "{joined}");
        let list = "defect: a\nfile: b\ntest: t\nfind: c\nput: d";
        let defect = &defects(list).unwrap()[0];
        assert_eq!(defect.plant("abc").unwrap(), "abd");
        assert!(defect.plant("cc").unwrap_err().contains("2 times"));
        assert!(defect.plant("").is_err());
    }
}
