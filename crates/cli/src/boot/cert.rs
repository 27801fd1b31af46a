//! `vast-boot cert check`, and `cert-usable`.

use std::process::ExitCode;

use vast_boot::certificate;
use vast_boot::root::Root;
use vast_portal::certificate::Pair;

use crate::report::Exit;

/// The exit code of a pair that is served although its end has passed.
const EXPIRED: u8 = 3;

pub(super) fn check(root: &Root) -> ExitCode {
    match certificate::check(root) {
        Pair::Usable => {
            println!("usable");
            Exit::Success.into()
        }
        Pair::Expired => {
            println!("expired");
            ExitCode::from(EXPIRED)
        }
        Pair::Unusable(reason) => {
            println!("unusable: {reason}");
            Exit::No.into()
        }
    }
}
