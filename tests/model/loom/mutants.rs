//! The shipped lease and hand-over word with a line changed, made by `build.rs` from `mutants.txt`, each a module of
//! its own.

include!(concat!(env!("OUT_DIR"), "/mutants.rs"));
