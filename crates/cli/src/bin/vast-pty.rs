//! `vast-pty`.

use std::process::ExitCode;

fn main() -> ExitCode {
    vast_cli::pty::run()
}
