//! Distribution metadata: fields without stray line ends, the same under every line end, and folding moves blanks alone.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| vast_envhash::fuzzing::metadata(bytes));
