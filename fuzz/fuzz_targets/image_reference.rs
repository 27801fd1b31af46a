//! Whatever is accepted as an image reference has a full form that means the same; what is not is refused with a reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vast_imagegen::reference::Reference;

fuzz_target!(|text: &str| match text.parse::<Reference>() {
    Ok(reference) => assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference)),
    Err(error) => assert!(!error.to_string().is_empty()),
});
