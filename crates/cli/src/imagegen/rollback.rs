//! `vast-imagegen rollback`.

use std::sync::Arc;

use vast_imagegen::Error;
use vast_imagegen::reference::RegistryReference;
use vast_imagegen::registry::RegistryImage;
use vast_imagegen::rollback::{Options, rollback};

use super::session;
use super::transport::TransportArgs;
use crate::report::Exit;

/// The command line.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The tag: `docker://host/repo:tag`, or bare.
    tag: RegistryReference,
    /// Take the last rollback back, instead of going one step further.
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    transport: TransportArgs,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
    /// Say what the tag would name, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Rolls back.
pub(super) fn run(args: &Args) -> Result<Exit, Error> {
    let options = args.transport.options(&session::environment());
    let image = RegistryImage::new(Arc::clone(&options.registry), args.tag.clone());
    let wanted = Options { undo: args.undo, dry_run: args.dry_run, parallel: args.transport.parallel() };
    let outcome = session::publishing(&options, rollback(&image, wanted))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcome).unwrap_or_default());
    } else {
        let names = if outcome.done { "names" } else { "would name" };
        let again = if outcome.undone { " again" } else { "" };
        println!(
            "{} {names} {}{again}, before {} since {}",
            outcome.reference, outcome.to, outcome.from, outcome.since
        );
    }
    Ok(Exit::Success)
}
