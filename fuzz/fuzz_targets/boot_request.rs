//! Any bytes are read as a request of the status page without a panic, and what is complete stays within its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vast_boot::status_page::{Reading, read_request};

fuzz_target!(|bytes: &[u8]| {
    if let Reading::Complete(request) = read_request(bytes) {
        assert!(request.uri.starts_with('/'));
        assert!(request.body.len() <= 8 * 1024);
        let _ = (request.path(), request.accepts("text/html"));
    }
});
