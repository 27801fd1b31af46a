//! The buildah engine: runs what the [native engine](super) leaves, on top of what that has built so far.
//!
//! Only processes are buildah's part. Copying, configuration and records stay native, so that an overlay means the same
//! whether or not its Dockerfile also runs something (buildah's own `COPY` would replace `/bin`, a link on every current
//! distribution, by a directory). For each run of consecutive instructions:
//!
//! 1. the stage so far is written as an OCI layout and pulled from there into a storage of this build's own, so buildah
//!    fetches nothing itself and nothing global is touched;
//! 2. `buildah bud --isolation chroot` carries the instructions out;
//! 3. the result comes back as an OCI layout. It must begin with the layers that went in; its new layers are
//!    [normalised](super::normalize) and compressed as the native engine does.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::OnceCell;

use super::command::{Outcome, absolute, execute, file};
use super::config::Config;
use super::normalize;
use super::output::{BuiltImage, Records};
use super::overlay::Stamp;
use super::problem::BuildProblem;
use super::runner::{EngineError, Invocation, Runner};
use super::scope::Scope;
use super::stack::{LayerBlob, StackLayer, layers_of};
use super::{Context, NamedContext};
use crate::Error;
use crate::dockerfile::{Command, Instruction, Located, Run};
use crate::layer::LayerFile;
use crate::layout::LayoutSink;
use crate::platform::Platform;
use crate::publish::{DEFAULT_PARALLEL, publish};
use crate::reference::{FileReference, Reference};

const PROGRAM: &str = "buildah";

/// buildah with a storage of its own in the build's directory.
pub(super) struct Buildah<'a> {
    runner: &'a Arc<dyn Runner>,
    directory: PathBuf,
    /// Chosen at the first use: overlays cannot lie on overlays, as in a container; there, whole copies have to do.
    driver: OnceCell<&'static str>,
}

/// What a stage amounts to when instructions are handed over.
pub(super) struct State<'a> {
    pub platform: &'a Platform,
    pub config: &'a Config,
    pub layers: &'a [StackLayer],
    pub scope: &'a Scope,
}

impl<'a> Buildah<'a> {
    /// Uses `work` for everything.
    pub(super) fn new(runner: &'a Arc<dyn Runner>, work: &Path) -> Self {
        Self { runner, directory: work.join(PROGRAM), driver: OnceCell::new() }
    }

    /// Carries `instructions` out on `state`; the layers that they made, in order.
    pub(super) async fn run(
        &self,
        context: &Context<'_>,
        state: &State<'_>,
        instructions: &[Located<Instruction>],
    ) -> Result<Vec<LayerFile>, (usize, BuildProblem)> {
        let first = instructions.first().map_or(1, |instruction| instruction.line);
        let here = |error: Error| (first, BuildProblem::Image(Box::new(error)));
        for instruction in instructions {
            refuse_foreign_mounts(context, instruction).map_err(|problem| (instruction.line, problem))?;
        }
        // One directory for each hand-over: what is left of one must not be taken for the result of another.
        let work = tempfile::Builder::new().prefix("run-").tempdir_in(context.work);
        let work = work.map_err(file("create", context.work)).map_err(here)?;
        let identity = self.import(context, state, work.path()).await.map_err(here)?;
        let dockerfile = work.path().join("Dockerfile");
        let text = dockerfile_of(&identity, state, instructions, context.dockerfile.escape);
        fs::write(&dockerfile, text).map_err(file("write", &dockerfile)).map_err(here)?;
        let identity_file = work.path().join("image-id");
        let bud = self.bud(context, state, &dockerfile, &identity_file).await.map_err(here)?;
        let outcome = execute(self.runner, context.progress, bud, Noted::line).await.map_err(here)?;
        if !outcome.succeeded {
            let before = 1 + state.scope.arguments().count();
            let failed = outcome.noted.step.and_then(|step| instructions.get(step.checked_sub(before + 1)?));
            return Err((failed.map_or(first, |instruction| instruction.line), problem(&outcome.lines)));
        }
        let built = fs::read_to_string(&identity_file).map_err(file("read", &identity_file)).map_err(here)?;
        self.export(context, state, built.trim(), work.path()).await.map_err(here)
    }

    /// Brings the stage into the storage; its identity there.
    async fn import(&self, context: &Context<'_>, state: &State<'_>, work: &Path) -> Result<String, Error> {
        let layout = FileReference { path: work.join("before"), name: Some("image".to_owned()), digest: None };
        let image = BuiltImage::assemble(
            state.platform.clone(),
            state.config.without_shell(),
            state.layers.to_vec(),
            &Records::default(),
            &Stamp::of(context.options),
        )?;
        publish(&image.publication(), &LayoutSink::new(&layout)?, DEFAULT_PARALLEL, &()).await?;
        // buildah names what it pulls after the path, and its names have no capitals: it must be a relative one.
        let pull = self.invocation(context).await?.current_dir(work).args(["pull", "--quiet", "--platform"]);
        let pull = pull.arg(state.platform.to_string()).arg("oci:before:image");
        let output = self.succeed(context, "pull", pull).await?;
        // The storage has the layers now; a base may have many gigabytes.
        fs::remove_dir_all(&layout.path).map_err(file("remove", &layout.path))?;
        let identity = output.into_iter().rev().find(|line| is_identity(line));
        identity.ok_or_else(|| bad_result("it did not say what it pulled".to_owned()))
    }

    async fn bud(
        &self,
        context: &Context<'_>,
        state: &State<'_>,
        dockerfile: &Path,
        identity_file: &Path,
    ) -> Result<Invocation, Error> {
        let options = context.options;
        let mut bud = self
            .invocation(context)
            .await?
            .args(["bud", "--isolation", "chroot", "--format", "oci", "--identity-label=false"])
            .args(["--pull-never", "--layers", "--force-rm", "--platform"])
            .arg(state.platform.to_string())
            .arg("--iidfile")
            .arg(identity_file)
            .arg("--file")
            .arg(dockerfile);
        for (name, value) in state.scope.arguments() {
            bud = bud.arg("--build-arg").arg(format!("{name}={value}"));
        }
        for (name, named) in &options.contexts {
            if let NamedContext::Directory(path) = named {
                let mut argument = OsString::from(format!("{name}="));
                argument.push(absolute(path)?);
                bud = bud.arg("--build-context").arg(argument);
            }
        }
        if let Some(ignore) = ignore_file(options) {
            bud = bud.arg("--ignorefile").arg(ignore);
        }
        Ok(bud.arg(absolute(&options.folder)?))
    }

    /// Takes the new layers of image `identity` out of the storage, normalised.
    async fn export(
        &self,
        context: &Context<'_>,
        state: &State<'_>,
        identity: &str,
        work: &Path,
    ) -> Result<Vec<LayerFile>, Error> {
        let layout = FileReference { path: work.join("after"), name: Some("image".to_owned()), digest: None };
        // Blobs of these names make buildah leave out the layers that went in; without them it would write them all again.
        let blobs = layout.path.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(file("create", &blobs))?;
        for layer in state.layers {
            let placeholder = blobs.join(layer.diff_id.hex());
            fs::write(&placeholder, b"").map_err(file("create", &placeholder))?;
        }
        let reference = Reference::OciLayout(layout);
        let push = self.invocation(context).await?.current_dir(work).args(["push", "--quiet", "--disable-compression"]);
        let push = push.args(["--format", "oci", identity, "oci:after:image"]);
        self.succeed(context, "push", push).await?;

        let source = context.images.open(&reference).await?;
        let image = source.image(state.platform).await?;
        let layers = layers_of(&image, &LayerBlob::Source(Arc::clone(&source)), &reference)?;
        let kept = state.layers.len();
        if layers.len() < kept || layers.iter().zip(state.layers).any(|(a, b)| a.diff_id != b.diff_id) {
            return Err(bad_result("it does not begin with the layers that it was built on".to_owned()));
        }
        let mut new = Vec::new();
        for layer in &layers[kept..] {
            new.push(normalize::anew(layer, context).await?);
        }
        Ok(new)
    }

    async fn invocation(&self, context: &Context<'_>) -> Result<Invocation, Error> {
        let with = |driver: &'static str| {
            let storage = self.directory.join(driver);
            Invocation::new(PROGRAM)
                .arg("--root")
                .arg(storage.join("root"))
                .arg("--runroot")
                .arg(storage.join("run"))
                .args(["--storage-driver", driver])
        };
        let choose = async || {
            let outcome = self.execute(context, with("overlay").arg("info")).await?;
            Ok::<_, Error>(if outcome.succeeded { "overlay" } else { "vfs" })
        };
        self.driver.get_or_try_init(choose).await.map(|driver| with(driver))
    }

    async fn succeed(&self, context: &Context<'_>, verb: &str, invocation: Invocation) -> Result<Vec<String>, Error> {
        let outcome = self.execute(context, invocation).await?;
        if outcome.succeeded {
            return Ok(outcome.lines);
        }
        let (program, verb) = (PROGRAM.to_owned(), verb.to_owned());
        Err(EngineError::Failed { program, verb, output: outcome.lines }.into())
    }

    async fn execute(&self, context: &Context<'_>, invocation: Invocation) -> Result<Outcome<()>, Error> {
        execute(self.runner, context.progress, invocation, |(), _| false).await
    }
}

/// What is remembered of a build's output.
#[derive(Default)]
struct Noted {
    /// The number of the last step that began.
    step: Option<usize>,
}

impl Noted {
    fn line(&mut self, line: &str) -> bool {
        self.step = step_number(line).or(self.step);
        // Every build has the platform's arguments; hardly any uses them.
        !line.starts_with("[Warning] one or more build args were not consumed")
    }
}

/// The number in `STEP 3/4: RUN make`.
fn step_number(line: &str) -> Option<usize> {
    line.strip_prefix("STEP ")?.split_once('/')?.0.parse().ok()
}

impl Drop for Buildah<'_> {
    /// Ends what an interrupted build left running and unmounts what that left, so that the directory can be removed.
    fn drop(&mut self) {
        self.runner.end_all();
        let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return };
        let place = |line: &str| line.split(' ').nth(4).map(PathBuf::from);
        let mut ours: Vec<PathBuf> =
            mounts.lines().filter_map(place).filter(|place| place.starts_with(&self.directory)).collect();
        ours.sort();
        for place in ours.iter().rev() {
            // What cannot be unmounted is not ours to force.
            let _ = rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// The instructions as a Dockerfile of their own, on the image `identity`.
///
/// Shell forms are written out with the stage's shell: the format that buildah stores has no place for one. Here-documents
/// are part of the shell's text, as `BuildKit` passes them, so versions that do not know them do as well.
fn dockerfile_of(identity: &str, state: &State<'_>, instructions: &[Located<Instruction>], escape: char) -> String {
    let mut lines = vec![format!("# escape={escape}"), format!("FROM {identity}")];
    lines.extend(state.scope.arguments().map(|(name, _)| format!("ARG {name}")));
    lines.extend(instructions.iter().map(|instruction| match &instruction.value {
        Instruction::Run(run) => written_out(run, state.config.shell()),
        _ => instruction.text.clone(),
    }));
    lines.join("\n") + "\n"
}

fn written_out(run: &Run, mut shell: Vec<String>) -> String {
    let flags = run.flags.iter().flat_map(|flag| [flag.as_str(), " "]).collect::<String>();
    let script = match (run.script(), &run.command) {
        (_, Command::Exec(words)) => return format!("RUN {flags}{}", json(words)),
        (Some(script), _) => script.to_owned(),
        (None, Command::Shell(command)) => {
            let bodies = run.heredocs.iter().map(|heredoc| format!("{}{}\n", heredoc.content, heredoc.name));
            std::iter::once(format!("{command}\n")).chain(bodies).collect()
        }
    };
    if shell.is_empty() {
        shell = vec!["/bin/sh".to_owned(), "-c".to_owned()];
    }
    shell.push(script);
    format!("RUN {flags}{}", json(&shell))
}

fn json(words: &[String]) -> String {
    serde_json::Value::from(words.to_vec()).to_string()
}

/// `RUN --mount=from=…` reaches directories of `--build-context` only: stages are not in buildah's storage.
fn refuse_foreign_mounts(context: &Context<'_>, instruction: &Located<Instruction>) -> Result<(), BuildProblem> {
    let Instruction::Run(run) = &instruction.value else { return Ok(()) };
    for flag in &run.flags {
        let Some(from) = flag.split([',', '=']).skip_while(|part| *part != "from").nth(1) else { continue };
        if !matches!(context.options.contexts.get(from), Some(NamedContext::Directory(_))) {
            let text = format!("`{flag}` mounts from `{from}`, which is no directory given with --build-context");
            return Err(BuildProblem::Refused(text));
        }
    }
    Ok(())
}

/// How a step failed, and what it said last.
fn problem(output: &[String]) -> BuildProblem {
    // `Error: building at STEP "RUN make": while running runtime: exit status 2`
    let error = output.iter().rev().find(|line| line.contains("building at STEP"));
    let status = error.and_then(|line| line.rsplit_once("\": ")).map_or("it failed", |(_, status)| status);
    let noise = ["STEP ", "subprocess exited", "Error: ", "COMMIT", "time=\"", "[Warning]"];
    let is_said = |line: &&String| !line.trim().is_empty() && !noise.iter().any(|noise| line.starts_with(noise));
    let said = output.iter().rev().find(is_said).map_or("it printed nothing", |line| line.trim());
    BuildProblem::Process { status: status.to_owned(), said: said.to_owned() }
}

fn bad_result(why: String) -> Error {
    EngineError::BadResult { program: PROGRAM.to_owned(), why }.into()
}

fn is_identity(line: &str) -> bool {
    line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The ignore file, which buildah would look for beside the Dockerfile that it is given.
fn ignore_file(options: &super::Options) -> Option<PathBuf> {
    let mut own = options.dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    [PathBuf::from(own), options.folder.join(".dockerignore")].into_iter().find(|path| path.is_file())
}
