//! A path configuration file: every effect is in its text.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| vast_envhash::fuzzing::pth(bytes));
