//! See `wiremesh_fuzz::greeting`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wiremesh_fuzz::greeting(data));
