//! `vast-imagegen environment`.

use std::sync::Arc;

use vast_imagegen::Error;
use vast_imagegen::environment::inventory;
use vast_imagegen::platform::Platform;
use vast_imagegen::reference::Reference;
use vast_imagegen::source::ImageSource;
use vast_imagegen::transport::open_source;

use super::session;
use super::transport::TransportArgs;
use crate::report::Exit;

/// The command line.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: `docker://host/repo:tag` (or bare), `oci:DIR[:tag]`, `oci-archive:FILE`, `docker-archive:FILE`.
    image: Reference,
    /// The platform whose image is read; otherwise this machine's.
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    #[command(flatten)]
    transport: TransportArgs,
}

/// Prints what `vast-envhash --json` prints inside the image.
pub(super) fn run(args: &Args) -> Result<Exit, Error> {
    let options = args.transport.options(&session::environment());
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let inventory = session::block_on(async {
        let source: Arc<dyn ImageSource> = open_source(&args.image, &options).await?.into();
        inventory(&source, &platform).await
    })?;
    for note in &inventory.notes {
        eprintln!("{}: warning: {note}", super::PROGRAM);
    }
    println!("{}", serde_json::to_string_pretty(&inventory).unwrap_or_default());
    Ok(Exit::Success)
}
