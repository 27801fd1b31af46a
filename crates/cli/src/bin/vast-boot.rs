//! `vast-boot`.

use std::process::ExitCode;

fn main() -> ExitCode {
    vast_cli::boot::run()
}
