//! A zip archive on the search path: no size or offset in it is trusted.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| vast_envhash::fuzzing::archive(bytes));
