#![no_main]
//! See `src/review.rs`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| koorde_fuzz::review::run(bytes));
