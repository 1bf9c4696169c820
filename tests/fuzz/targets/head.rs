#![no_main]
//! See `src/head.rs`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| koorde_fuzz::head::run(bytes));
