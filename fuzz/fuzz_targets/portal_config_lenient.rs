//! Any `PORTAL_CONFIG` reads without a panic, twice alike, and as the strict reading has it where that accepts it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vast_portal_config::PortalConfig;

fuzz_target!(|value: &str| {
    let lenient = PortalConfig::parse_lenient(value);
    let again = PortalConfig::parse_lenient(&lenient.config.to_string());
    assert_eq!(again.config, lenient.config);
    assert!(again.warnings.is_empty());
    match PortalConfig::parse(value) {
        Ok(config) => assert_eq!(config, lenient.config),
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
});
