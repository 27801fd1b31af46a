//! `vast-imagegen diff`.

mod paint;
mod sections;
mod summary;

use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use vast_boot::redact::{Redactor, is_secret};
use vast_imagegen::Error;
use vast_imagegen::diff::{
    Difference, Options, PathPattern, PlatformDifference, Reading, Redaction, Sections, Setting, Want, diff,
};
use vast_imagegen::platform::Platform;
use vast_imagegen::reference::Reference;
use vast_imagegen::source::ImageSource;
use vast_imagegen::transport::open_source;

use self::paint::{heading, platforms};
use super::text::size;
use super::transport::TransportArgs;
use super::{session, stamp};
use crate::report::Exit;

/// The command line.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags are booleans")]
pub(super) struct Args {
    /// The image as it was: `docker://host/repo:tag` (or bare), `oci:DIR[:tag]`, `oci-archive:FILE`, `docker-archive:FILE`.
    #[arg(value_name = "A")]
    before: Reference,
    /// The image as it is.
    #[arg(value_name = "B")]
    after: Reference,
    /// Compare this platform alone. [default: every platform that both have]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Compare only these: layers, files, packages, configuration. Without files and packages no record and no layer is read.
    #[arg(long, value_name = "SECTION", value_delimiter = ',')]
    only: Vec<Section>,
    /// Of the files only those that GLOB matches: `/etc/**` from the root, `*.py` wherever they are, `/opt/app` with all below.
    /// May be repeated.
    #[arg(long, value_name = "GLOB")]
    path: Vec<PathPattern>,
    /// Count times of files as differences.
    #[arg(long)]
    times: bool,
    /// Read the layers instead of believing what is recorded about them. Tells the versions of all Debian packages.
    #[arg(long)]
    deep: bool,
    /// Print the summary alone.
    #[arg(long, conflicts_with = "all")]
    stat: bool,
    /// List every path and package: nothing is folded or left out.
    #[arg(long)]
    all: bool,
    /// Where indexes of layers are kept. [default: `$XDG_CACHE_HOME/vast-imagegen`]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    #[command(flatten)]
    transport: TransportArgs,
    /// Print all differences as JSON.
    #[arg(long)]
    json: bool,
}

/// What can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Section {
    Layers,
    Files,
    Packages,
    Configuration,
}

/// Compares; the answer is no if anything differs.
pub(super) fn run(args: &Args) -> Result<Exit, Error> {
    let env = session::environment();
    let transports = args.transport.options(&env);
    let options = Options {
        platform: args.platform.clone(),
        sections: sections(&args.only),
        deep: args.deep,
        times: args.times,
        paths: args.path.clone(),
        redaction: Redaction { is_secret, scrub: |text| Redactor::default().scrub(text) },
        cache: args.cache_dir.clone().or_else(|| stamp::cache(&env)),
        work: std::env::temp_dir(),
    };
    let difference = session::block_on(async {
        let before: Arc<dyn ImageSource> = open_source(&args.before, &transports).await?.into();
        let after: Arc<dyn ImageSource> = open_source(&args.after, &transports).await?.into();
        diff(&before, &after, &options, &|reading| tell(reading, args.deep)).await
    })?;
    print(&if args.json {
        serde_json::to_string_pretty(&difference).unwrap_or_default() + "\n"
    } else {
        text(&difference, args.all, args.stat)
    })?;
    Ok(if difference.equal {
        Exit::Success
    } else if difference.differs() {
        Exit::No
    } else {
        Exit::CouldNot
    })
}

fn sections(only: &[Section]) -> Sections {
    if only.is_empty() {
        return Sections::ALL;
    }
    let has = |section| only.contains(&section);
    Sections {
        layers: has(Section::Layers),
        files: has(Section::Files),
        packages: has(Section::Packages),
        configuration: has(Section::Configuration),
    }
}

/// Says that layers are going to be read, which takes time and traffic.
fn tell(reading: &Reading, deep: bool) {
    let Reading { reference, want, layers, bytes } = reading;
    let (program, bytes) = (super::PROGRAM, size(*bytes));
    match want {
        Want::Indexes => {
            let why = if deep { "" } else { " without a path index" };
            let s = if *layers == 1 { "" } else { "s" };
            eprintln!("{program}: reading {layers} layer{s} of {reference}{why} ({bytes})");
        }
        Want::Environment => {
            eprintln!("{program}: reading the layers of {reference} that hold its environment (at most {bytes})");
        }
    }
}

/// Says how to look at what a command changed; to people alone.
pub(super) fn suggest(before: &Reference, after: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{} diff {before} {after}  # tells what that changed", super::PROGRAM);
    }
}

/// Prints a text, its colours only where they are wanted.
fn print(text: &str) -> Result<(), Error> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader such as `head` that has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(|source| Error::File { action: "write to", path: "/dev/stdout".into(), source }),
    }
}

/// A section about a platform, with everything or with what weighs most; none where nothing differs.
type Part = fn(&PlatformDifference, bool) -> Option<String>;

/// The difference for people: what was compared, a summary, and the sections. What is the same for several platforms is told
/// once.
fn text(difference: &Difference, all: bool, stat: bool) -> String {
    let (before, after) = (&difference.before, &difference.after);
    if before.digest == after.digest {
        return format!("{} and {} are the same image, {}\n", before.reference, after.reference, before.digest);
    }
    let mut text = format!("{}  {}\n{}  {}\n", before.reference, before.digest, after.reference, after.digest);
    let compared: Vec<&PlatformDifference> =
        difference.platforms.iter().filter(|platform| platform.before != platform.after).collect();
    text.push_str(&summary::platforms(difference));
    text.push('\n');
    for (title, part) in summary::PARTS {
        for (group, line) in grouped(&compared, part) {
            let _ = writeln!(text, "{}: {line}", of(title, &group, &compared));
        }
    }
    if difference.equal {
        text.push_str("nothing that was compared differs\n");
    } else if !difference.differs() {
        text.push_str("nothing differs of what could be compared\n");
    }
    if stat {
        return text;
    }
    if !difference.annotations.is_empty() {
        let settings: Vec<&Setting> = difference.annotations.iter().collect();
        let _ = write!(text, "\n{}\n{}", heading("Annotations of the index"), sections::settings(&settings));
    }
    let parts: [(&str, Part); 4] = [
        ("Packages", sections::packages),
        ("Configuration", |platform, _| sections::configuration(platform)),
        ("Files", sections::files),
        ("Layers", |platform, _| sections::layers(platform)),
    ];
    for (title, part) in parts {
        for (group, lines) in grouped(&compared, |platform| part(platform, all)) {
            let _ = write!(text, "\n{}\n{lines}", heading(&of(title, &group, &compared)));
        }
    }
    text
}

/// A title, with the platforms that it is about where it is not about all.
fn of(title: &str, group: &[&Platform], compared: &[&PlatformDifference]) -> String {
    if group.len() == compared.len() { title.to_owned() } else { format!("{title} ({})", platforms(group)) }
}

/// What is told about each platform, once for those of which the same is told.
fn grouped<'a>(
    compared: &[&'a PlatformDifference],
    tell: impl Fn(&PlatformDifference) -> Option<String>,
) -> Vec<(Vec<&'a Platform>, String)> {
    let mut groups: Vec<(Vec<&Platform>, String)> = Vec::new();
    for platform in compared {
        let Some(told) = tell(platform) else { continue };
        match groups.iter_mut().find(|(_, text)| *text == told) {
            Some((group, _)) => group.push(&platform.platform),
            None => groups.push((vec![&platform.platform], told)),
        }
    }
    groups
}

#[cfg(test)]
mod tests;
