#![no_main]
//! See `src/purge.rs`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| koorde_fuzz::purge::run(bytes));
