//! `vast-logtee`.

use std::process::ExitCode;

fn main() -> ExitCode {
    vast_cli::logtee::run()
}
