//! `vast-imagegen`.

use std::process::ExitCode;

fn main() -> ExitCode {
    vast_cli::imagegen::run()
}
