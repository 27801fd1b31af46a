//! `vast-envhash`.

use std::process::ExitCode;

fn main() -> ExitCode {
    vast_cli::envhash::run()
}
