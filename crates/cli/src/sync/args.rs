//! The command line of `vast-sync`.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use vast_sync::environment::Timing;
use vast_sync::stock::gc;
use vast_sync::{Error, copy, env_vars, environment, home, workspace};

use crate::instance::Root;

/// Crash-safe copies onto volumes that several instances share.
#[derive(Debug, Parser)]
#[command(name = "vast-sync", version)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Publish the image's items in the workspace, unless something of their names is there.
    Workspace(WorkspaceArgs),
    /// Move the environments to the volume, once for all instances, and leave links.
    Environment(EnvironmentArgs),
    /// Move the home directories to the volume, once for all instances, and leave links.
    Home(HomeArgs),
    /// Copy a tree faithfully; it gets its name when it is complete.
    Copy(CopyArgs),
    /// Remove what nobody needs from the volume: environments that are not kept, and what the dead left behind.
    Gc(GcArgs),
    /// List what was installed into an old environment and is not in a new one, and install it there if asked to.
    Migrate(MigrateArgs),
    /// Show what is in place, what is on the volume and by whom, who is at work, and what was left behind.
    Status(StatusArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct Places {
    /// The image's directory of items.
    #[arg(long, value_name = "DIR", default_value = "/opt/workspace-internal")]
    source: PathBuf,
    /// Where they are published [default: $WORKSPACE, or /workspace].
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct WorkspaceArgs {
    #[command(flatten)]
    pub(super) places: Places,
    /// How long to wait for an item that another instance is copying, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    lock_wait: u64,
    #[command(flatten)]
    pub(super) manner: MannerArgs,
}

/// What moving environments and moving homes have in common.
#[derive(Debug, clap::Args)]
pub(super) struct MoveArgs {
    #[command(flatten)]
    pub(super) root: Root,
    /// The directory on the volume, seen from the root [default: $WORKSPACE, or /workspace].
    #[arg(long, value_name = "DIR")]
    pub(super) workspace: Option<PathBuf>,
    /// How long to wait for the instance that copies, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
    wait: Duration,
    /// For tests: how long an instance that copies may be silent, in seconds. The same for all instances.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, hide = true)]
    lease: Duration,
    /// Bring back into the container what was moved: each link is replaced by a copy. The volume stays as it is.
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) undo: bool,
    #[command(flatten)]
    pub(super) manner: MannerArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct EnvironmentArgs {
    /// The id of the environment [default: `$ENV_ID`, or the content of `/.env_hash`].
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    pub(super) common: MoveArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct HomeArgs {
    #[command(flatten)]
    pub(super) common: MoveArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct GcArgs {
    #[command(flatten)]
    root: Root,
    /// The directory on the volume, seen from the root [default: $WORKSPACE, or /workspace].
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// An environment that stays, besides the container's own; may be repeated.
    #[arg(long, value_name = "ID")]
    keep: Vec<String>,
    /// Remove it; without this, only say what would be removed.
    #[arg(long)]
    pub(super) apply: bool,
    /// Print a JSON document.
    #[arg(long)]
    pub(super) json: bool,
    /// For tests: how long an instance that copies may be silent, in seconds. The same for all instances.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, hide = true)]
    lease: Duration,
}

#[derive(Debug, clap::Args)]
pub(super) struct CopyArgs {
    /// What to copy. A link is copied, not followed.
    #[arg(value_name = "SRC")]
    from: PathBuf,
    /// Where to: a path that is not there, or an empty directory.
    #[arg(value_name = "DST")]
    to: PathBuf,
    /// Add what is missing to a directory that is there; what it has stays as it is.
    #[arg(long)]
    merge: bool,
    /// Have the source disappear: renamed where that is possible, else removed when the copy is complete and durable.
    #[arg(long = "move", conflicts_with = "merge")]
    remove_source: bool,
    /// Compare the copy with its source before it is published; `checksum` compares every byte.
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "facts")]
    verify: Option<Verify>,
    #[command(flatten)]
    pub(super) manner: MannerArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct MigrateArgs {
    /// The id of the environment that the image had before.
    pub(super) old: String,
    /// The id of the environment that it has now.
    pub(super) new: String,
    #[command(flatten)]
    root: Root,
    /// The directory on the volume, seen from the root [default: $WORKSPACE, or /workspace].
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Install what is missing into the new environment, with uv.
    #[arg(long)]
    pub(super) install: bool,
    /// Print a JSON document.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    root: Root,
    #[command(flatten)]
    pub(super) places: Places,
    /// Print a JSON document.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct MannerArgs {
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print events as JSON, one a line.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Verify {
    /// Names, kinds, sizes, owners, permissions, attributes, times.
    Facts,
    /// All that and the content.
    Checksum,
}

impl Places {
    /// What they mean, given the value of `$WORKSPACE`.
    fn options(&self, variable: Option<OsString>) -> workspace::Options {
        let variable = variable.filter(|value| !value.is_empty()).map(PathBuf::from);
        let workspace = self.workspace.clone().or(variable).unwrap_or_else(|| PathBuf::from("/workspace"));
        workspace::Options::new(&self.source, workspace)
    }
}

impl StatusArgs {
    /// What they mean, in paths of this machine.
    pub(super) fn options(&self) -> workspace::Options {
        let options = self.places.options(env::var_os(env_vars::WORKSPACE));
        let root = &self.root.root;
        workspace::Options::new(on_host(root, &options.source), on_host(root, &options.workspace))
    }

    pub(super) fn root(&self) -> &Path {
        &self.root.root
    }

    /// `$WORKSPACE` as a path of the container.
    pub(super) fn container_workspace(&self) -> PathBuf {
        workspace(self.places.workspace.as_deref())
    }

    /// The id of the container's environment, if it has one.
    pub(super) fn own_environment(&self) -> Option<environment::Id> {
        environment::Id::find(env::var(env_vars::ENV_ID).ok().as_deref(), self.root()).ok()
    }
}

impl MigrateArgs {
    /// `$WORKSPACE` as a path of this machine.
    pub(super) fn host_workspace(&self) -> PathBuf {
        on_host(&self.root.root, &workspace(self.workspace.as_deref()))
    }
}

impl WorkspaceArgs {
    pub(super) fn options(&self) -> workspace::Options {
        let mut options = self.places.options(env::var_os(env_vars::WORKSPACE));
        options.lock_wait = Duration::from_secs(self.lock_wait);
        options
    }
}

impl MoveArgs {
    fn timing(&self) -> Timing {
        Timing { lease: self.lease, bound: self.wait }
    }
}

impl EnvironmentArgs {
    /// What they mean.
    ///
    /// # Errors
    /// When there is no id, or none that can be one.
    pub(super) fn options(&self) -> Result<environment::Options, Error> {
        let root = &self.common.root.root;
        let id = match &self.id {
            Some(id) => id.parse()?,
            None => environment::Id::find(env::var(env_vars::ENV_ID).ok().as_deref(), root)?,
        };
        let mut options = environment::Options::new(root, workspace(self.common.workspace.as_deref()), id);
        options.instance = instance();
        options.timing = self.common.timing();
        Ok(options)
    }
}

impl HomeArgs {
    /// What they mean.
    pub(super) fn options(&self) -> home::Options {
        let mut options = home::Options::new(&self.common.root.root, workspace(self.common.workspace.as_deref()));
        options.instance = instance();
        options.timing = self.common.timing();
        options
    }
}

impl GcArgs {
    /// What they mean. The container's own environment is kept, and each that a link of the container leads into.
    ///
    /// # Errors
    /// When what is to be kept can be no id.
    pub(super) fn options(&self) -> Result<gc::Options, Error> {
        let mut keep = self.keep.iter().map(|id| Ok(id.parse()?)).collect::<Result<Vec<_>, Error>>()?;
        match environment::Id::find(env::var(env_vars::ENV_ID).ok().as_deref(), &self.root.root) {
            Ok(own) => keep.push(own),
            Err(Error::NoId { .. }) => {}
            Err(error) => return Err(error),
        }
        keep.extend(linked_environments(&self.root.root));
        let workspace = on_host(&self.root.root, &workspace(self.workspace.as_deref()));
        Ok(gc::Options { workspace, keep, timing: Timing { lease: self.lease, ..Timing::default() } })
    }
}

/// The environments that links of the container lead into.
fn linked_environments(root: &Path) -> Vec<environment::Id> {
    let venvs = std::fs::read_dir(root.join("venv")).into_iter().flatten().flatten().map(|entry| entry.path());
    let links = venvs.chain([root.join(".uv"), root.join("opt/nvm")]).filter_map(|path| std::fs::read_link(path).ok());
    links.filter_map(|target| environment_of(&target)).collect()
}

/// `0123abcd` of `/workspace/.environment_sync/0123abcd/venv/main`.
fn environment_of(target: &Path) -> Option<environment::Id> {
    let mut parts = target.components().skip_while(|part| part.as_os_str() != environment::DIRECTORY);
    parts.nth(1)?.as_os_str().to_str()?.parse().ok()
}

/// Where a path of the container is on this machine.
pub(super) fn on_host(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// `$WORKSPACE` as a path of the container.
pub(super) fn workspace(argument: Option<&Path>) -> PathBuf {
    let variable = env::var_os(env_vars::WORKSPACE).filter(|value| !value.is_empty()).map(PathBuf::from);
    let workspace = argument.map(Path::to_owned).or(variable).unwrap_or_else(|| PathBuf::from("/workspace"));
    Path::new("/").join(workspace)
}

/// What people call this instance: `C.12345`.
fn instance() -> String {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let number = variable(env_vars::CONTAINER_ID).map(|number| format!("C.{number}"));
    number.or_else(|| variable(env_vars::VAST_CONTAINERLABEL)).unwrap_or_default()
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl CopyArgs {
    pub(super) fn options(&self) -> copy::Options {
        let mut options = copy::Options::new(&self.from, &self.to);
        options.merge = self.merge;
        options.remove_source = self.remove_source;
        options.verify = self.verify.map(|verify| match verify {
            Verify::Facts => copy::Depth::Facts,
            Verify::Checksum => copy::Depth::Content,
        });
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(workspace: Option<&str>) -> Places {
        Places { source: PathBuf::from("/opt/workspace-internal"), workspace: workspace.map(PathBuf::from) }
    }

    #[test]
    fn the_workspace_is_the_argument_or_the_variable_or_the_default() {
        for (argument, variable, workspace) in [
            (Some("/a"), Some("/b"), "/a"),
            (None, Some("/b"), "/b"),
            (None, Some(""), "/workspace"),
            (None, None, "/workspace"),
        ] {
            let options = places(argument).options(variable.map(OsString::from));
            assert_eq!(options.workspace, PathBuf::from(workspace), "{argument:?} {variable:?}");
        }
    }

    #[test]
    fn a_link_into_an_environment_names_it() {
        let id = |target: &str| environment_of(Path::new(target)).map(|id| id.as_str().to_owned());
        assert_eq!(id("/workspace/.environment_sync/0123abcd/venv/main").as_deref(), Some("0123abcd"));
        assert_eq!((id("/workspace/venv/main"), id("/workspace/.environment_sync")), (None, None));
    }

    #[test]
    fn verify_takes_a_value_only_with_an_equals_sign() {
        let parse = |args: &[&str]| match Args::try_parse_from([&["vast-sync", "copy"], args].concat()).unwrap().command
        {
            Command::Copy(args) => args.options().verify,
            other => panic!("{other:?}"),
        };
        assert_eq!(parse(&["a", "b"]), None);
        assert_eq!(parse(&["--verify", "a", "b"]), Some(copy::Depth::Facts));
        assert_eq!(parse(&["--verify=checksum", "a", "b"]), Some(copy::Depth::Content));
    }
}
