//! `vast-portal token`: what opens the applications.

use vast_portal::auth::{Generated, token_file};
use vast_portal::env_vars;

use super::fail;
use super::instance::{Root, environment};
use crate::report::Exit;

/// Print the token that opens the applications, as in `http://<address>:<port>/?token=<token>`.
///
/// It is `OPEN_BUTTON_TOKEN`, else `WEB_PASSWORD`, else the random one that was made because neither is set.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    root: Root,
}

/// Runs the command.
#[must_use]
pub fn run(args: &Args) -> Exit {
    let env = environment();
    let set = |name| env.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    if let Some(token) = set(env_vars::OPEN_BUTTON_TOKEN).or_else(|| set(env_vars::WEB_PASSWORD)) {
        println!("{token}");
        return Exit::Success;
    }
    match Generated::load_or_create(&token_file(&args.root.root)) {
        Ok(token) => {
            println!("{}", token.reveal());
            Exit::Success
        }
        Err(error) => fail(&error),
    }
}
