//! Makes mutants of the shipped files for the models: `loom/mutants.txt` says which line becomes which. A line that is
//! not there, or there twice, fails the build, so that a mutant goes with the code it weakens.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

/// The files, and the folder of each.
const FILES: [(&str, &str); 3] = [("signal", "engine/"), ("lease", "engine/"), ("budget", "")];

fn main() {
    // The tests that stand in a shipped file are not for the models.
    println!("cargo::rustc-cfg=modelled");
    println!("cargo::rustc-check-cfg=cfg(modelled)");
    println!("cargo::rerun-if-changed=loom/mutants.txt");
    let shipped = FILES.map(|(file, folder)| {
        let path = format!("../../src/{folder}{file}.rs");
        println!("cargo::rerun-if-changed={path}");
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    });
    let list = fs::read_to_string("loom/mutants.txt").expect("the list of mutants");
    let mut out = String::new();
    for block in list.split("\n== ").skip(1) {
        let (title, changes) = block.split_once('\n').expect("a title");
        let (name, file) = title.split_once(" in ").expect("the name of a mutant and of a file");
        let mut parts = changes.split("--- ").skip(1);
        let mut texts = shipped.clone();
        let place = FILES.iter().position(|(known, _)| *known == file).unwrap_or_else(|| panic!("{name}: which file?"));
        while let (Some(old), Some(new)) = (parts.next(), parts.next()) {
            let old = old.strip_prefix("this\n").expect("`--- this`, then `--- becomes`");
            let new = new.strip_prefix("becomes\n").expect("`--- this`, then `--- becomes`");
            assert_eq!(
                texts[place].matches(old).count(),
                1,
                "{name}: in {file}.rs these lines are not there once:\n{old}"
            );
            texts[place] = texts[place].replace(old, new);
        }
        writeln!(out, "pub(crate) mod {name} {{\nuse crate::sync;").expect("memory");
        for ((file, _), text) in FILES.iter().zip(texts) {
            writeln!(out, "#[allow(dead_code, unused, unreachable_pub)]\npub(crate) mod {file} {{\n{text}\n}}")
                .expect("memory");
        }
        writeln!(out, "crate::seat::lease!(crate::mutants::{name}::lease);\n}}").expect("memory");
    }
    let folder = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&folder).join("mutants.rs"), out).expect("the folder of a build");
}
