//! `vast-sync`.

use std::process::ExitCode;

fn main() -> ExitCode {
    vast_cli::sync::run()
}
