//! What the user typed, and what it means.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use vast_envhash::{Options, SCHEME, sbom};

/// Prints the environment hash: 12 hex digits that name the system libraries and Python packages of an image.
#[derive(Debug, Parser)]
#[command(name = "vast-envhash", version, args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Typed>,
    /// Another root than the running system; nothing from it is run
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The machine the root is for, such as `aarch64`; otherwise the root's own files tell
    #[arg(long, value_name = "NAME", requires = "root")]
    machine: Option<String>,
    /// The way the hash is made
    #[arg(long, value_name = "NUMBER", default_value_t = SCHEME, value_parser = clap::value_parser!(u32).range(1..=1))]
    scheme: u32,
    /// Show each component with its hash and everything that went into it
    #[arg(long, group = "output")]
    explain: bool,
    /// Print the whole inventory, or the outcome of a check, as JSON
    #[arg(long, conflicts_with_all = ["explain", "format"])]
    json: bool,
    /// Print the inventory as a bill of materials; its time is `SOURCE_DATE_EPOCH`, else now
    #[arg(long, value_name = "FORMAT", group = "output")]
    format: Option<Format>,
    /// Compare with a stored hash or inventory (`/.env_hash` of the root): exit 0 if equal, 1 if not
    #[arg(long, value_name = "FILE", num_args = 0..=1, group = "output")]
    #[allow(clippy::option_option, reason = "clap's shape for an option whose value may be left out")]
    check: Option<Option<PathBuf>>,
}

#[derive(Debug, Subcommand)]
enum Typed {
    /// Show what differs between two environments: exit 0 if nothing, 1 if something
    ///
    /// Each is an inventory (a JSON file, or a stored hash with one beside it), a root (a directory), or an image:
    /// `docker://host/repo:tag` (or bare), `oci:DIR[:tag]`, `oci-archive:FILE`, `docker-archive:FILE`.
    Diff {
        /// The earlier one
        before: String,
        /// The later one
        after: String,
        /// Print the changes as JSON
        #[arg(long)]
        json: bool,
    },
}

/// A format of a bill of materials.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// SPDX 2.3, JSON
    Spdx,
    /// `CycloneDX` 1.6, JSON
    #[value(name = "cyclonedx")]
    CycloneDx,
}

impl From<Format> for sbom::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Spdx => Self::Spdx,
            Format::CycloneDx => Self::CycloneDx,
        }
    }
}

/// What to do.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) command: Command,
}

#[derive(Debug)]
pub(super) enum Command {
    Take {
        source: Source,
        output: Output,
    },
    /// `None`: the file of the root itself.
    Check {
        source: Source,
        file: Option<PathBuf>,
        json: bool,
    },
    /// Each a path or an image reference.
    Diff {
        before: String,
        after: String,
        json: bool,
    },
}

/// The environment to look at.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) root: PathBuf,
    pub(super) options: Options,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Output {
    Hash,
    Explain,
    Json,
    Bill(sbom::Format),
}

impl Args {
    /// `home` is the home directory of the user who runs this, which counts for the running system.
    pub(super) fn plan(self, home: Option<PathBuf>) -> Plan {
        if let Some(Typed::Diff { before, after, json }) = self.command {
            return Plan { command: Command::Diff { before, after, json } };
        }
        let live = self.root.is_none();
        let options = Options { live, machine: self.machine, home: home.filter(|_| live) };
        let source = Source { root: self.root.unwrap_or_else(|| "/".into()), options };
        let command = if let Some(file) = self.check {
            Command::Check { source, file, json: self.json }
        } else {
            let output = match self.format {
                Some(format) => Output::Bill(format.into()),
                None if self.explain => Output::Explain,
                None if self.json => Output::Json,
                None => Output::Hash,
            };
            Command::Take { source, output }
        };
        Plan { command }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &[&str]) -> Plan {
        Args::try_parse_from([&["vast-envhash"], args].concat()).unwrap().plan(Some("/home/me".into()))
    }

    #[test]
    fn only_the_running_system_is_live_and_knows_the_users_home() {
        let Command::Take { source, .. } = plan(&[]).command else { panic!("not a hash") };
        assert!(source.options.live);
        assert_eq!(source.options.home, Some("/home/me".into()));
        let Command::Take { source, .. } = plan(&["--root", "/"]).command else { panic!("not a hash") };
        assert_eq!(source.options, Options::default());
    }

    #[test]
    fn check_without_a_file_means_the_one_of_the_root() {
        for (args, expected) in [
            (&["--check"][..], None),
            (&["--check", "--root", "/r"], None),
            (&["--check", "/f", "--root", "/r"], Some("/f")),
        ] {
            let Command::Check { file, .. } = plan(args).command else { panic!("not a check") };
            assert_eq!(file, expected.map(PathBuf::from));
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for args in [
            &["--json", "--explain"][..],
            &["--format", "spdx", "--json"],
            &["--format", "spdx", "--explain"],
            &["--format", "spdx", "--check"],
            &["--check", "--explain"],
            &["--format", "xml"],
            &["--scheme", "2"],
            &["--machine", "x"],
            &["diff", "a"],
            &["x"],
        ] {
            assert!(Args::try_parse_from([&["vast-envhash"], args].concat()).is_err(), "{args:?}");
        }
    }
}
