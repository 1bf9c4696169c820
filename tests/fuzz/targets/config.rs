#![no_main]
//! See `src/config.rs`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| koorde_fuzz::config::run(bytes));
