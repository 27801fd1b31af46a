//! `vast-imagegen verify`.

use std::sync::Arc;

use vast_imagegen::Error;
use vast_imagegen::platform::Platform;
use vast_imagegen::reference::Reference;
use vast_imagegen::source::ImageSource;
use vast_imagegen::transport::open_source;
use vast_imagegen::verify::{self, Options, Verdict};

use super::session;
use super::transport::TransportArgs;
use crate::report::Exit;

/// The command line.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: `docker://host/repo:tag` (or bare), `oci:DIR[:tag]`, `oci-archive:FILE`, `docker-archive:FILE`.
    image: Reference,
    /// Read the layers as well: their digests, diff ids, headers, and the environment hash.
    #[arg(long)]
    deep: bool,
    /// Verify this platform's image alone.
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    #[command(flatten)]
    transport: TransportArgs,
    /// Print the verdict as JSON.
    #[arg(long)]
    json: bool,
}

/// Verifies; the answer is no if anything is wrong.
pub(super) fn run(args: &Args) -> Result<Exit, Error> {
    let transports = args.transport.options(&session::environment());
    let options = Options { deep: args.deep, platform: args.platform.clone(), parallel: args.transport.parallel() };
    let verdict = session::block_on(async {
        let source: Arc<dyn ImageSource> = Arc::from(open_source(&args.image, &transports).await?);
        verify::verify(&source, &options).await
    })?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&verdict).unwrap_or_default());
    } else {
        print(&verdict);
    }
    Ok(if verdict.is_good() { Exit::Success } else { Exit::No })
}

fn print(verdict: &Verdict) {
    let platforms: Vec<String> = verdict.platforms.iter().map(Platform::to_string).collect();
    println!("{}\n{}  {}", verdict.reference, verdict.digest, platforms.join(", "));
    for finding in &verdict.findings {
        match &finding.platform {
            Some(platform) => println!("wrong: {platform}: {}: {}", finding.check, finding.message),
            None => println!("wrong: {}: {}", finding.check, finding.message),
        }
    }
    let depth = if verdict.deep { "read" } else { "looked up" };
    match verdict.findings.len() {
        0 => println!("good: {} layers {depth}", verdict.layers),
        found => println!("{found} wrong; {} layers {depth}", verdict.layers),
    }
}
