//! `vast-portal`.

use std::process::ExitCode;

fn main() -> ExitCode {
    vast_cli::portal::run()
}
