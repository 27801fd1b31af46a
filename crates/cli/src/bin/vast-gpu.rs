//! `vast-gpu`.

use std::process::ExitCode;

fn main() -> ExitCode {
    vast_cli::gpu::run()
}
