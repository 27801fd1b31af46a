//! A package database: stanzas that print as one line of columns, or the line that is wrong.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| vast_envhash::fuzzing::dpkg_status(bytes));
