//! The tasks, and how each program is called to do them.

use std::fmt;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::scene::Scene;

/// Work that several programs can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Task {
    /// A layer out of a folder, compressed with gzip.
    Gzip,
    /// The same with zstd.
    Zstd,
    /// An image from one registry to another.
    Copy,
    /// An image from one repository of a registry to another.
    Mount,
    /// An image from a registry to a layout on disk.
    Pull,
    /// Files added on top of a large image in a registry.
    Extend,
    /// The same on a small image of as many layers.
    ExtendSmall,
    /// Files added on top of a large image in a layout on disk.
    ExtendLayout,
    /// A large image in a registry on a mended base.
    Rebase,
    /// The same with a small image of as many layers.
    RebaseSmall,
}

/// A program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contender {
    /// Ours.
    Imagegen,
    /// `tar` into a compressor on all cores: `pigz`, or `zstd -T0`.
    Parallel,
    /// The same with the two digests that an image needs, of what goes into the compressor and of what comes out.
    Summed,
    /// `tar | gzip`.
    Gzip,
    Skopeo,
    Buildah,
    Umoci,
}

impl Task {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 10] = [
        Self::Gzip,
        Self::Zstd,
        Self::Copy,
        Self::Mount,
        Self::Pull,
        Self::Extend,
        Self::ExtendSmall,
        Self::ExtendLayout,
        Self::Rebase,
        Self::RebaseSmall,
    ];

    /// Who can do it, ours first.
    pub(crate) fn contenders(self) -> &'static [Contender] {
        match self {
            Self::Gzip => &[Contender::Imagegen, Contender::Parallel, Contender::Summed, Contender::Gzip],
            Self::Zstd => &[Contender::Imagegen, Contender::Parallel, Contender::Summed],
            Self::Copy | Self::Mount | Self::Pull => &[Contender::Imagegen, Contender::Skopeo],
            Self::Extend | Self::Rebase => &[Contender::Imagegen, Contender::Buildah],
            Self::ExtendSmall | Self::RebaseSmall => &[Contender::Imagegen],
            Self::ExtendLayout => &[Contender::Imagegen, Contender::Umoci],
        }
    }
}

impl Contender {
    /// The command that does the task. Whatever is written to this machine's disk is waited for.
    pub(crate) fn command(self, task: Task, number: u32, scene: &Scene) -> Command {
        let script = match self {
            Self::Imagegen => imagegen(task),
            Self::Parallel => tar_to(parallel(task)),
            Self::Summed => {
                let sum = |name: &str| format!("tee >(openssl dgst -sha256 > {name})");
                tar_to(&format!("{} | {} | {}", sum("diff-id"), parallel(task), sum("digest")))
            }
            Self::Gzip => tar_to("gzip"),
            Self::Skopeo => skopeo(task),
            Self::Buildah => buildah(task),
            // It changes a layout in place.
            Self::Umoci => "cp -r \"$LAYOUT\" out\n\
                umoci insert --image out:large --tag extended \"$OVERLAY\" / > log 2>&1\nsync -f out\n"
                .to_owned(),
        };
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &script]).current_dir(scene.work());
        command.env("IMAGEGEN", scene.binary()).env("REGISTRY", scene.registry()).env("OTHER", scene.other_registry());
        command.env("TREE", scene.tree()).env("FOLDER", scene.tree_folder()).env("APP", scene.app_folder());
        command.env("OVERLAY", scene.overlay()).env("LAYOUT", scene.layout()).env("RUN", number.to_string());
        command
    }
}

/// How large the layer is that came of it, where the task is to make one.
pub(crate) fn output_bytes(task: Task, scene: &Scene) -> Result<Option<u64>> {
    if !matches!(task, Task::Gzip | Task::Zstd) {
        return Ok(None);
    }
    let out = scene.work().join("out");
    if out.is_file() {
        return Ok(Some(out.metadata().context("cannot look at the archive")?.len()));
    }
    // The layer is by far the largest of the layout's blobs.
    let mut largest = 0;
    for blob in fs::read_dir(out.join("blobs/sha256")).context("cannot list the layout")? {
        largest = largest.max(blob.and_then(|blob| blob.metadata()).context("cannot list the layout")?.len());
    }
    Ok(Some(largest))
}

fn imagegen(task: Task) -> String {
    let build = |compression: &str| {
        format!(
            "\"$IMAGEGEN\" build \"$FOLDER\" --engine native --compression {compression} --to oci:out:1 > log 2>&1\nsync -f out\n"
        )
    };
    let extend = |image: &str| {
        format!(
            "\"$IMAGEGEN\" extend \"$REGISTRY/{image}:1\" --overlay \"$OVERLAY\" --to \"$REGISTRY/ours-{image}-$RUN:1\" > log 2>&1\n"
        )
    };
    let rebase = |image: &str, base: &str| {
        format!(
            "\"$IMAGEGEN\" rebase \"$REGISTRY/{image}:1\" --from \"$REGISTRY/{base}:1\" --onto \"$REGISTRY/{base}:2\" \
             --to \"$REGISTRY/ours-{image}-rebased-$RUN:1\" > log 2>&1\n"
        )
    };
    match task {
        Task::Gzip => build("gzip"),
        Task::Zstd => build("zstd"),
        Task::Copy => "\"$IMAGEGEN\" copy \"$REGISTRY/large:1\" \"$OTHER/ours-$RUN:1\" > log 2>&1\n".to_owned(),
        Task::Mount => {
            "\"$IMAGEGEN\" copy \"$REGISTRY/large:1\" \"$REGISTRY/ours-mounted-$RUN:1\" > log 2>&1\n".to_owned()
        }
        Task::Pull => "\"$IMAGEGEN\" copy \"$REGISTRY/large:1\" oci:out:1 > log 2>&1\nsync -f out\n".to_owned(),
        Task::Extend => extend("large"),
        Task::ExtendSmall => extend("small"),
        Task::ExtendLayout => "cp -r \"$LAYOUT\" out\n\
            \"$IMAGEGEN\" extend oci:out:large --overlay \"$OVERLAY\" --to oci:out:extended > log 2>&1\nsync -f out\n"
            .to_owned(),
        Task::Rebase => rebase("large", "large-base"),
        Task::RebaseSmall => rebase("small", "small-base"),
    }
}

fn parallel(task: Task) -> &'static str {
    if task == Task::Zstd { "zstd -q -T0" } else { "pigz" }
}

fn tar_to(compressor: &str) -> String {
    format!("tar -C \"$TREE\" --sort=name -cf - . | {compressor} > out\nsync -f out\n")
}

/// skopeo keeps a note of which repositories of a registry have a blob, and has it mounted from there. Within one registry it
/// may use that of an earlier run; into another registry it has none, as a CI machine that starts empty.
fn skopeo(task: Task) -> String {
    let copy = "skopeo copy --quiet --src-tls-verify=false --dest-tls-verify=false \"docker://$REGISTRY/large:1\"";
    match task {
        Task::Pull => format!("{copy} oci:out:1 > log 2>&1\nsync -f out\n"),
        Task::Mount => format!("{copy} \"docker://$REGISTRY/skopeo-mounted-$RUN:1\" > log 2>&1\n"),
        _ => format!(
            "unshare --mount bash -euc 'mkdir -p /var/lib/containers/cache\nmount -t tmpfs tmpfs /var/lib/containers/cache\n\
             {copy} \"docker://$OTHER/skopeo-$RUN:1\" > log 2>&1'\n"
        ),
    }
}

/// With a storage of its own, since a CI machine starts with an empty one.
fn buildah(task: Task) -> String {
    let begin = "b() { buildah --root \"$PWD/storage\" --runroot \"$PWD/run\" --storage-driver overlay \"$@\"; }\n\
                 export BUILDAH_ISOLATION=chroot\n";
    let work = if task == Task::Rebase {
        "b bud --quiet --tls-verify=false --format oci --tag done --build-arg \"BASE=$REGISTRY/large-base:2\" \"$APP\" > log 2>&1\n"
    } else {
        "c=$(b from --quiet --tls-verify=false \"docker://$REGISTRY/large:1\" 2> log)\n\
         b copy --quiet \"$c\" \"$OVERLAY\" / > log 2>&1\nb commit --quiet --format oci \"$c\" done > log 2>&1\n"
    };
    let push = "b push --quiet --tls-verify=false done \"docker://$REGISTRY/buildah-$RUN:1\" > log 2>&1\n";
    format!("{begin}{work}{push}")
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "build a layer, gzip",
            Self::Zstd => "build a layer, zstd",
            Self::Copy => "copy, registry to registry",
            Self::Mount => "copy, within a registry",
            Self::Pull => "copy, registry to layout",
            Self::Extend => "extend, in a registry",
            Self::ExtendSmall => "extend, a small image",
            Self::ExtendLayout => "extend, in a layout",
            Self::Rebase => "rebase, in a registry",
            Self::RebaseSmall => "rebase, a small image",
        })
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Imagegen => "`vast-imagegen`",
            Self::Parallel => "`tar` to `pigz` or `zstd -T0`",
            Self::Summed => "the same with two SHA-256",
            Self::Gzip => "`tar` to `gzip`",
            Self::Skopeo => "`skopeo copy`",
            Self::Buildah => "`buildah`",
            Self::Umoci => "`umoci insert`",
        })
    }
}
