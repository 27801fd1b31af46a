//! `cuda-driver-version`: the command of that name, which scripts of deployed images call.

use std::path::Path;

use clap::Parser;
use vast_gpu::cuda::Maximum;
use vast_gpu::driver::LOADERS_CHOICE;
use vast_gpu::env_vars::VAST_CUDA_MAX_OVERRIDE;
use vast_gpu::runner::Runner;

use super::{end, facts, runner};
use crate::instance::{Root, environment};
use crate::report::Exit;

/// The name that this command is called by.
pub(super) const NAME: &str = "cuda-driver-version";

/// Print the newest CUDA version that programs of this container can use, such as 12.8
///
/// Exits with 1 where there is no NVIDIA driver, and with 2 where its version is unknown.
#[derive(Debug, Parser)]
#[command(name = NAME, version)]
pub(super) struct Args {
    /// Of the driver itself, even where forward compatibility stands before it
    #[arg(long)]
    native: bool,
    /// Say on standard error which library answered
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    root: Root,
}

pub(super) fn run(args: &Args) -> Exit {
    end(try_run(args))
}

fn try_run(args: &Args) -> Result<Exit, Exit> {
    let facts = facts(&args.root.root, &environment())?;
    let Some(driver) = facts.driver else {
        eprintln!("{NAME}: there is no NVIDIA driver");
        return Ok(Exit::No);
    };
    let version = match driver.maximum {
        // What programs get is what the loader finds for them.
        Maximum::Driver(_) if !args.native => runner()?
            .driver_version(Path::new(LOADERS_CHOICE))
            .map(|answer| (answer.version, answer.library.display().to_string())),
        Maximum::Driver(version) => {
            Ok((version, driver.library.map_or_else(String::new, |library| library.display().to_string())))
        }
        Maximum::Override(version) => Ok((version, VAST_CUDA_MAX_OVERRIDE.to_owned())),
        Maximum::Unknown(reason) => Err(reason),
    };
    match version {
        Ok((version, said_by)) => {
            println!("{version}");
            if args.verbose {
                eprintln!("{NAME}: says {said_by}");
            }
            Ok(Exit::Success)
        }
        Err(reason) => {
            eprintln!("{NAME}: {reason}");
            Ok(Exit::CouldNot)
        }
    }
}
