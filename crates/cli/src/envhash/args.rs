//! What the user typed, and what it means.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use vast_envhash::{Options, SCHEME};

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
    /// Print the whole inventory as JSON
    #[arg(long, group = "output")]
    json: bool,
    /// Compare with a stored hash or inventory (`/.env_hash` of the root): exit 0 if equal, 1 if not
    #[arg(long, value_name = "FILE", num_args = 0..=1, group = "output")]
    #[allow(clippy::option_option, reason = "clap's shape for an option whose value may be left out")]
    check: Option<Option<PathBuf>>,
}

#[derive(Debug, Subcommand)]
enum Typed {
    /// Show what differs between two inventories (JSON files) or roots (directories): exit 0 if nothing, 1 if something
    Diff {
        /// The earlier one
        before: PathBuf,
        /// The later one
        after: PathBuf,
    },
}

/// What to do.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) command: Command,
}

#[derive(Debug)]
pub(super) enum Command {
    Take { source: Source, output: Output },
    Check { source: Source, file: PathBuf },
    Diff { before: PathBuf, after: PathBuf },
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
}

impl Args {
    /// `home` is the home directory of the user who runs this, which counts for the running system.
    pub(super) fn plan(self, home: Option<PathBuf>) -> Plan {
        if let Some(Typed::Diff { before, after }) = self.command {
            return Plan { command: Command::Diff { before, after } };
        }
        let live = self.root.is_none();
        let options = Options { live, machine: self.machine, home: home.filter(|_| live) };
        let source = Source { root: self.root.unwrap_or_else(|| "/".into()), options };
        let command = match self.check {
            Some(file) => {
                let file = file.unwrap_or_else(|| source.root.join(".env_hash"));
                Command::Check { source, file }
            }
            None if self.explain => Command::Take { source, output: Output::Explain },
            None if self.json => Command::Take { source, output: Output::Json },
            None => Command::Take { source, output: Output::Hash },
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
            (&["--check"][..], "/.env_hash"),
            (&["--check", "--root", "/r"], "/r/.env_hash"),
            (&["--check", "/f", "--root", "/r"], "/f"),
        ] {
            let Command::Check { file, .. } = plan(args).command else { panic!("not a check") };
            assert_eq!(file, PathBuf::from(expected));
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for args in [&["--json", "--explain"][..], &["--scheme", "2"], &["--machine", "x"], &["diff", "a"], &["x"]] {
            assert!(Args::try_parse_from([&["vast-envhash"], args].concat()).is_err(), "{args:?}");
        }
    }
}
