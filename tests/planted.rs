//! Do the tests see? Plants the defects of `planted/defects.txt` one at a time in a copy of the sources and expects the named test to
//! fail. That takes minutes, so it runs on demand: `cargo test --test planted -- --ignored --nocapture`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A change to one file, and the test that must notice it.
struct Defect<'a> {
    name: &'a str,
    file: &'a str,
    test: &'a str,
    find: &'a str,
    put: &'a str,
}

#[test]
fn every_planted_defect_has_its_place_in_the_sources() {
    let defects = defects();
    assert!(defects.len() >= 10, "{} defects", defects.len());
    for defect in defects {
        defect.plant(&source(defect.file));
    }
}

#[test]
#[ignore = "builds the library a dozen times"]
fn every_planted_defect_is_found() {
    let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted");
    copy(Path::new(env!("CARGO_MANIFEST_DIR")), &tree);
    let defects = defects();
    let mut tests: Vec<_> = defects.iter().map(|defect| defect.test).collect();
    tests.sort_unstable();
    tests.dedup();
    for test in tests {
        let output = run(&tree, test);
        assert!(output.status.success(), "without a defect, {test:?} must pass:\n{}", text(&output));
    }
    for defect in defects {
        let good = source(defect.file);
        let place = tree.join(defect.file);
        fs::write(&place, defect.plant(&good)).unwrap();
        let output = run(&tree, defect.test);
        fs::write(&place, good).unwrap();
        let noticed = text(&output).contains("test result: FAILED");
        assert!(noticed, "{:?} was not noticed by {:?}:\n{}", defect.name, defect.test, text(&output));
        println!("found: {} ({})", defect.name, defect.test);
    }
}

impl Defect<'_> {
    fn plant(&self, good: &str) -> String {
        assert_eq!(
            good.matches(self.find).count(),
            1,
            "{:?}: {:?} must be in {} once",
            self.name,
            self.find,
            self.file
        );
        good.replace(self.find, self.put)
    }
}

fn defects() -> Vec<Defect<'static>> {
    let blocks = include_str!("planted/defects.txt").split("\n\n").filter(|block| block.contains("defect: "));
    let read = |block: &'static str| {
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_else(|| panic!("no {name:?} in {block:?}"))
        };
        Defect {
            name: field("defect"),
            file: field("file"),
            test: field("test"),
            find: field("find"),
            put: field("put"),
        }
    };
    blocks.map(read).collect()
}

fn source(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// Runs a test in the copy, with counts that suffice to find what is planted.
fn run(tree: &Path, test: &str) -> Output {
    Command::new(env!("CARGO"))
        .current_dir(tree)
        .args(["test", "--quiet", "--target-dir"])
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted-build"))
        .args(test.split(' '))
        .env("WIREMESH_SEEDS", "500")
        .env("WIREMESH_MUTATIONS", "20000")
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Copies the sources, leaving out what is built and what is not ours. Files that are the same stay untouched, so that a second run
/// has less to build.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let target = to.join(name);
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                copy(&path, &target);
            }
        } else if fs::read(&target).ok() != fs::read(&path).ok() {
            fs::copy(&path, &target).unwrap();
        }
    }
}
