//! Any portal.yaml reads without a panic, and what was read from it is read again from what is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vast_portal_config::PortMap;
use vast_portal_config::yaml::{Loaded, parse, render};

fuzz_target!(|content: &[u8]| {
    let ports = PortMap::default();
    if let Loaded::Applications(applications) = parse(content, &ports).loaded {
        let again = parse(render(&applications).as_bytes(), &ports);
        assert_eq!(again.loaded, Loaded::Applications(applications));
        assert!(again.warnings.is_empty());
    }
});
