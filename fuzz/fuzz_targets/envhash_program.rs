//! A program: no size or offset in it is trusted.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| vast_envhash::fuzzing::program(bytes));
