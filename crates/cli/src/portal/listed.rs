//! `vast-portal listed`: may this application run? For supervisor scripts.

use std::time::Duration;

use vast_portal_config::listed::{Listed, listed, wait_for};
use vast_portal_config::yaml;

use super::PROGRAM;
use super::instance::Root;
use crate::report::Exit;

/// Tell whether /etc/portal.yaml lists an application: 0 yes, 1 no, 2 undecidable
///
/// Undecidable is a file that is absent, empty or no portal.yaml.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Part of an application's label, in any case, taken literally
    term: String,
    /// How long to wait for the file to have content
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
    #[command(flatten)]
    root: Root,
}

/// Runs the command.
#[must_use]
pub fn run(args: &Args) -> Exit {
    let path = yaml::path(&args.root.root);
    // When the time is up, the reading says what is the matter.
    let _ = wait_for(&path, Duration::from_secs(args.wait));
    match listed(&path, &args.term) {
        Listed::Yes => Exit::Success,
        Listed::No => Exit::No,
        Listed::Undecidable(reason) => {
            eprintln!("{PROGRAM}: {reason}");
            Exit::CouldNot
        }
    }
}
