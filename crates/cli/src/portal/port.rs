//! `vast-portal port`: one port, for scripts.

use vast_portal_config::yaml::read_effective;

use super::PROGRAM;
use super::instance::{Root, environment};
use crate::report::{self, Exit};

/// Print the port that an application listens on
///
/// The applications are those of /etc/portal.yaml, or of the environment variable `PORTAL_CONFIG` while there is no such file.
/// Exits with 1 if none has the label.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The application's whole label
    label: String,
    /// Print the port that is reached from outside instead, as the container knows it
    #[arg(long)]
    external: bool,
    #[command(flatten)]
    root: Root,
}

/// Runs the command.
#[must_use]
pub fn run(args: &Args) -> Exit {
    let effective = match read_effective(&args.root.root, &environment()) {
        Ok(effective) => effective,
        Err(error) => return report::fail(PROGRAM, &error, error.hint().as_deref()),
    };
    let Some(found) = effective.applications.iter().find(|application| application.label == args.label) else {
        for warning in &effective.warnings {
            eprintln!("{PROGRAM}: warning: {warning}");
        }
        let labels: Vec<String> =
            effective.applications.iter().map(|app| format!("`{}`", app.label.escape_debug())).collect();
        let known =
            if labels.is_empty() { "there is none".to_owned() } else { format!("there are {}", labels.join(", ")) };
        eprintln!("{PROGRAM}: no application is labelled `{}`: {known}", args.label.escape_debug());
        return Exit::No;
    };
    println!("{}", if args.external { found.external_port } else { found.internal_port });
    Exit::Success
}
