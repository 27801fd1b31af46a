//! `vast-portal serve`: the web application and the access decisions.

use std::net::SocketAddr;
use vast_portal::web::{Options, serve};

use super::fail;
use super::instance::{Root, environment};
use crate::report::Exit;

/// Serve the Instance Portal, and tell Caddy who may pass.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Listen on this address. Caddy is what faces the network.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:11111")]
    listen: SocketAddr,

    #[command(flatten)]
    root: Root,
}

/// Runs the command.
#[must_use]
pub fn run(args: &Args) -> Exit {
    let options = Options { listen: args.listen, root: args.root.root.clone(), env: environment() };
    match serve(options, |address| println!("The Instance Portal listens on http://{address}")) {
        Ok(()) => Exit::Success,
        Err(error) => fail(&error),
    }
}
