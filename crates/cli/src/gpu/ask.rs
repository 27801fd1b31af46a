//! `vast-gpu ask-driver`: one question to a driver's library, for the process that started this one.

use std::path::PathBuf;

use crate::report::Exit;

/// Ask a driver's library one question, at the risk of this process
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// `version` or `init`
    question: String,
    /// The library
    library: PathBuf,
}

/// Answers or says why not, on standard output: the asker hides what the library itself says on standard error.
pub(super) fn run(args: &Args) -> Exit {
    let answer = vast_gpu::driver::answer(&args.question, &args.library);
    let (Ok(text) | Err(text)) = &answer;
    println!("{text}");
    if answer.is_ok() { Exit::Success } else { Exit::CouldNot }
}
