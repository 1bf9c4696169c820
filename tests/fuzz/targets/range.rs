#![no_main]
//! See `src/range.rs`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| koorde_fuzz::range::run(bytes));
