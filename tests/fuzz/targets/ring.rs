#![no_main]
//! See `src/ring.rs`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| koorde_fuzz::ring::run(bytes));
