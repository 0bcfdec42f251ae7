//! See `wiremesh_fuzz::command`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wiremesh_fuzz::command(data));
