//! `vast-imagegen rebase`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use serde_json::json;
use vast_imagegen::Error;
use vast_imagegen::build::Stamp;
use vast_imagegen::layer::Compression;
use vast_imagegen::publish::{attach_only, publish};
use vast_imagegen::rebase::{AT_ONCE, Kind, Options, Rebased, Rebasing};
use vast_imagegen::reference::Reference;
use vast_imagegen::transport::{TransportOptions, open_sink};

use super::transport::TransportArgs;
use super::{progress, published, session, stamp};
use crate::report::{Exit, with_causes};

/// The command line.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image that is to get another base.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    image: Option<Reference>,
    /// The new base.
    #[arg(long, value_name = "NEWBASE")]
    onto: Reference,
    /// The old base. [default: what the image records]
    #[arg(long, value_name = "OLDBASE")]
    from: Option<Reference>,
    /// Where the result goes: `docker://host/repo:tag` (or bare), `oci:DIR[:tag]` or `oci-archive:FILE`.
    #[arg(long, value_name = "REF", required_unless_present_any = ["all", "check"], conflicts_with = "all")]
    to: Option<Reference>,
    /// Rebase every image that FILE lists, one a line: the image, and where its result goes if not to the same name.
    #[arg(long, value_name = "FILE")]
    all: Option<PathBuf>,
    /// Conflicts that do not stand in the way: path, environment, configuration. The image's own side is kept.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    allow: Vec<Kind>,
    /// Print which images can take the new base, and why the others cannot; publish nothing.
    #[arg(long, alias = "dry-run")]
    check: bool,
    /// How a new layer is compressed (only a changed environment hash makes one): gzip or zstd.
    #[arg(long, default_value = "gzip")]
    compression: Compression,
    /// Where indexes of layers are kept. [default: `$XDG_CACHE_HOME/vast-imagegen`]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    #[command(flatten)]
    transport: TransportArgs,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
}

/// One image of the command, and what became of it.
struct Row {
    image: Reference,
    target: Reference,
    rebased: Result<Rebased, Error>,
}

/// Decides about every image, prints the table, and publishes those that can take the base.
pub(super) fn run(args: &Args) -> Result<Exit, Error> {
    let env = session::environment();
    let request = |reason| Error::Request { folder: PathBuf::from("."), reason };
    let wanted = wanted(args)?;
    let options = Options {
        onto: args.onto.clone(),
        from: args.from.clone(),
        allow: args.allow.iter().copied().collect(),
        compression: args.compression,
        stamp: Stamp { epoch: stamp::epoch(&env).map_err(request)?, ..Stamp::default() },
        cache: args.cache_dir.clone().or_else(|| stamp::cache(&env)),
        work: std::env::temp_dir(),
    };
    let transports = args.transport.options(&env);
    session::publishing(&transports, async {
        let rebasing = Rebasing::new(&options, &transports).await?;
        let rebased = match wanted.as_slice() {
            // With one image there is no table to put a failure into.
            [(image, _)] if args.all.is_none() => vec![Ok(rebasing.rebase(image).await?)],
            many => rebasing.rebase_all(&many.iter().map(|(image, _)| image.clone()).collect::<Vec<_>>()).await,
        };
        let mut rows: Vec<Row> =
            wanted.into_iter().zip(rebased).map(|((image, target), rebased)| Row { image, target, rebased }).collect();
        if !args.json {
            print(args, &rows);
        }
        if !args.check {
            publish_rows(args, &mut rows, &transports).await?;
        }
        if args.json {
            let images: Vec<_> = rows.iter().map(as_json).collect();
            println!("{}", json!({"onto": args.onto.to_string(), "images": images}));
        }
        keep(args, &rebasing, &transports).await;
        Ok(if rows.iter().any(|row| row.rebased.is_err()) {
            Exit::CouldNot
        } else if rows.iter().all(Row::is_possible) {
            Exit::Success
        } else {
            Exit::No
        })
    })
}

/// The images and where they go.
fn wanted(args: &Args) -> Result<Vec<(Reference, Reference)>, Error> {
    if let Some(image) = &args.image {
        return Ok(vec![(image.clone(), args.to.clone().unwrap_or_else(|| image.clone()))]);
    }
    let path = args.all.clone().unwrap_or_default();
    let text =
        std::fs::read_to_string(&path).map_err(|source| Error::File { action: "read", path: path.clone(), source })?;
    parse_list(&text, &path)
}

/// `IMAGE [TARGET]` a line, with `#` comments. Two images for one name would be a race for it.
fn parse_list(text: &str, path: &Path) -> Result<Vec<(Reference, Reference)>, Error> {
    let mut list: Vec<(Reference, Reference)> = Vec::new();
    let mut lines = HashMap::new();
    for (number, line) in text.lines().enumerate().map(|(number, line)| (number + 1, line)) {
        let bad = |reason| Error::Request { folder: path.to_owned(), reason };
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let (image, target): (Reference, Reference) = match words.as_slice() {
            [] => continue,
            [image] => (image.parse()?, image.parse()?),
            [image, target] => (image.parse()?, target.parse()?),
            _ => return Err(bad(format!("line {number} is not of the form IMAGE [TARGET]"))),
        };
        if let Some(earlier) = lines.insert(target.to_string(), number) {
            return Err(bad(format!("line {number} has the target of line {earlier}, {target}")));
        }
        list.push((image, target));
    }
    Ok(list)
}

/// Attaches what had to be read from layers to where it was read, and says so.
async fn keep(args: &Args, rebasing: &Rebasing<'_>, transports: &TransportOptions) {
    for found in rebasing.found().await {
        eprintln!("{}: layers of {} had to be read for want of records", super::PROGRAM, found.reference);
        let Ok(reference @ Reference::Registry(_)) = found.reference.parse::<Reference>() else { continue };
        if args.check {
            continue;
        }
        let attached = async { attach_only(&found.publication(), &*open_sink(&reference, transports).await?).await };
        match attached.await {
            Ok(()) => eprintln!("{}: the records are attached to it now", super::PROGRAM),
            Err(error) => {
                let why = with_causes(&error);
                eprintln!("{}: warning: the records cannot be attached to it: {why}", super::PROGRAM);
            }
        }
    }
}

impl Row {
    fn is_possible(&self) -> bool {
        self.rebased.as_ref().is_ok_and(|rebased| rebased.outcomes.iter().all(|outcome| outcome.possible))
    }
}

/// Publishes what was rebased, a few images at once. One failure stops nothing but what it is about: it takes the row's place.
///
/// # Errors
/// The failure of the only image.
async fn publish_rows(args: &Args, rows: &mut [Row], transports: &TransportOptions) -> Result<(), Error> {
    let publishing = rows.iter().enumerate().map(|(number, row)| {
        let published: Pin<Box<dyn Future<Output = _> + '_>> = Box::pin(publish_row(args, row, transports));
        published.map(move |result| (number, result))
    });
    // In the order in which they are done: what moved a name is told even if another image never ends.
    let mut results = stream::iter(publishing.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    let mut failed = Vec::new();
    while let Some((number, result)) = results.next().await {
        let row = &rows[number];
        match result {
            Ok(Some(name)) if !args.json => {
                println!("{name}");
                // Under the same name there is nothing left that names what it was.
                if args.all.is_none() && row.target.to_string() != row.image.to_string() {
                    super::diff::suggest(&row.image, &name.to_string());
                }
            }
            Ok(_) => {}
            Err(error) if args.all.is_none() => return Err(error),
            Err(error) => {
                eprintln!("{}: {} is not published: {}", super::PROGRAM, row.target, with_causes(&error));
                if let Some(hint) = error.hint() {
                    eprintln!("  hint: {hint}");
                }
                failed.push((number, error));
            }
        }
    }
    drop(results);
    for (number, error) in failed {
        rows[number].rebased = Err(error);
    }
    Ok(())
}

/// The name under which an image was published; `None` where there was nothing to publish.
async fn publish_row(args: &Args, row: &Row, transports: &TransportOptions) -> Result<Option<Reference>, Error> {
    let Ok(Rebased { built: Some(built), .. }) = &row.rebased else { return Ok(None) };
    let sink = open_sink(&row.target, transports).await?;
    // The bars of several images would draw over each other.
    let progress = if args.all.is_none() { progress::progress() } else { progress::lines_of(&row.target) };
    let published = publish(&built.publication(), &*sink, args.transport.parallel(), &*progress).await?;
    published::warn(&published, &row.target);
    Ok(Some(row.target.pinned(built.digest())))
}

/// The table: which images can take the new base, and why the others cannot.
fn print(args: &Args, rows: &[Row]) {
    let width = rows.iter().map(|row| row.image.to_string().len()).max().unwrap_or_default();
    for row in rows {
        let image = row.image.to_string();
        match &row.rebased {
            Err(error) => println!("{image:width$}  {:12}  failed   {}", "-", with_causes(error)),
            Ok(rebased) => {
                for outcome in &rebased.outcomes {
                    let verdict = match (outcome.current, outcome.possible) {
                        (true, _) => "current",
                        (false, true) => "possible",
                        (false, false) => "refused",
                    };
                    println!("{image:width$}  {:12}  {verdict}", outcome.platform.to_string());
                    for conflict in &outcome.conflicts {
                        let allowed = if args.allow.contains(&conflict.kind()) { " (allowed)" } else { "" };
                        println!("    {conflict}{allowed}");
                    }
                }
            }
        }
    }
}

fn as_json(row: &Row) -> serde_json::Value {
    match &row.rebased {
        Err(error) => json!({
            "image": row.image.to_string(),
            "target": row.target.to_string(),
            "error": with_causes(error),
        }),
        Ok(rebased) => json!({
            "image": row.image.to_string(),
            "target": row.target.to_string(),
            "possible": row.is_possible(),
            "digest": rebased.built.as_ref().map(vast_imagegen::build::Built::digest),
            "platforms": rebased.outcomes.iter().map(|outcome| json!({
                "platform": outcome.platform.to_string(),
                "current": outcome.current,
                "possible": outcome.possible,
                "conflicts": outcome.conflicts,
            })).collect::<Vec<_>>(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_each_target_once() {
        let list = |text: &str| parse_list(text, Path::new("images")).map_err(|error| with_causes(&error));
        assert_eq!(list("# all\nr.io/a:1\n\nr.io/b:1 r.io/b:2 # moved\n").unwrap().len(), 2);
        let said = list("r.io/a:1\n\nr.io/b:1 docker://r.io/a:1\n").unwrap_err();
        assert!(said.contains("line 3 has the target of line 1, docker://r.io/a:1"), "{said}");
        let said = list("r.io/a:1 r.io/b:1 r.io/c:1").unwrap_err();
        assert!(said.contains("line 1 is not of the form IMAGE [TARGET]"), "{said}");
    }
}
