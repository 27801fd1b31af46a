//! `cargo xtask bench`: measurements whose figures stand in `docs/benchmarks.md`.

mod boot;
mod envhash;
mod imagegen;
mod imagegen_memory;
mod measure;
mod namespace;
mod sync;

use anyhow::Result;

use crate::Verdict;
use crate::workspace::Workspace;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, clap::Subcommand)]
enum Bench {
    /// `vast-boot` with nothing to do beside the same checks in shell, its memory while it waits, and its size
    Boot(boot::Args),
    /// `vast-envhash` beside the recipe, on a real environment
    Envhash(envhash::Args),
    /// Building, copying, extending and rebasing images beside the public tools
    Imagegen(imagegen::Args),
    /// Peak memory of a native build of one large layer
    ImagegenMemory(imagegen_memory::Args),
    /// `vast-sync copy` beside other copiers, on a real environment
    Sync(sync::Args),
}

/// Measures and prints the figures; the answer is no when a promised limit is exceeded.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Verdict> {
    match &args.bench {
        Bench::Boot(args) => boot::run(workspace, args),
        Bench::Envhash(args) => envhash::run(workspace, args),
        Bench::Imagegen(args) => imagegen::run(workspace, args),
        Bench::ImagegenMemory(args) => imagegen_memory::run(workspace, args),
        Bench::Sync(args) => sync::run(workspace, args),
    }
}
