#![no_main]
//! See `src/wire.rs`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| koorde_fuzz::wire::run(bytes));
