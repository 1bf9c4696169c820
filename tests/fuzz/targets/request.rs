#![no_main]
//! See `src/request.rs`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| koorde_fuzz::request::run(bytes));
