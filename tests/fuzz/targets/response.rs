#![no_main]
//! See `src/response.rs`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| koorde_fuzz::response::run(bytes));
