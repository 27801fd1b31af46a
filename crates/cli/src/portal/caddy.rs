//! `vast-portal caddy`: /etc/portal.yaml and /etc/Caddyfile.

use std::path::{Path, PathBuf};

use vast_portal::caddy::{Published, Settings, caddyfile, plan, publish, render};
use vast_portal_config::yaml::{Effective, effective, read_effective};

use super::instance::{Root, environment};
use super::{PROGRAM, fail};
use crate::report::{self, Exit};

/// Where the image family keeps its Caddy; else the one in `PATH`.
const CADDY: &str = "/opt/portal-aio/caddy_manager/caddy";

/// Settle the applications in /etc/portal.yaml and write the Caddyfile that serves them.
///
/// The new Caddyfile takes the old one's place only if Caddy accepts it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    root: Root,

    /// Print the Caddyfile; write nothing.
    #[arg(long)]
    dry_run: bool,

    /// The Caddy that has to accept the file [default: the image's, else the one in PATH].
    #[arg(long, value_name = "PROGRAM")]
    caddy: Option<PathBuf>,
}

/// Runs the command.
#[must_use]
pub fn run(args: &Args) -> Exit {
    let env = environment();
    let read = if args.dry_run { read_effective } else { effective };
    let effective: Effective = match read(&args.root.root, &env) {
        Ok(effective) => effective,
        Err(error) => return report::fail(PROGRAM, &error, error.hint().as_deref()),
    };
    let settings = Settings::from_env(&env, &args.root.root);
    for warning in &effective.warnings {
        eprintln!("{PROGRAM}: {warning}");
    }
    settings.warnings.iter().for_each(|warning| eprintln!("{PROGRAM}: {warning}"));
    plan(&effective.applications).left.iter().for_each(|left| eprintln!("{PROGRAM}: {left}"));
    if args.dry_run {
        print!("{}", render(&effective.applications, &settings));
        return Exit::Success;
    }
    // Applications wait for portal.yaml, so it comes first: a Caddyfile that is refused does not hold them up.
    if let Err(error) = effective.publish() {
        return report::fail(PROGRAM, &error, error.hint().as_deref());
    }
    let caddy = args.caddy.clone().unwrap_or_else(installed_caddy);
    match publish(&effective.applications, &settings, &args.root.root, &caddy) {
        Ok(published) => {
            match published {
                Published::Complete => {}
                Published::WithoutRedirect => {
                    eprintln!("{PROGRAM}: this Caddy does not redirect plain HTTP to HTTPS on the same port");
                }
                Published::WithoutHttps(said) => {
                    eprintln!("{PROGRAM}: HTTPS is off, because this Caddy does not take the certificate: {said}");
                }
            }
            let sites = plan(&effective.applications).sites.len();
            println!("{}: {sites} ports proxied", caddyfile(&args.root.root).display());
            Exit::Success
        }
        Err(error) => fail(&error),
    }
}

fn installed_caddy() -> PathBuf {
    if Path::new(CADDY).exists() { PathBuf::from(CADDY) } else { PathBuf::from("caddy") }
}
