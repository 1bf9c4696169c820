#![no_main]
//! See `src/egress.rs`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| koorde_fuzz::egress::run(bytes));
