//! Peak memory of `vast-imagegen build` on one large layer, built and pushed to a registry.
//!
//! The promise is a bound that does not depend on the layer's size, so the data is larger than the bound by far and
//! hardly compresses: nothing may hold the layer, packed or not.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use vast_tests::registry::Registry;

use super::measure;
use crate::Verdict;
use crate::dist;
use crate::tools::{Group, Tools};
use crate::workspace::Workspace;

/// The promised bound, in bytes, whatever the layer's size.
const LIMIT_BYTES: u64 = 100_000_000;

/// The files of the layer.
const FILES: usize = 4;

/// What to build.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The layer's size
    #[arg(long, value_name = "MB", default_value_t = 1000)]
    megabytes: usize,
    /// Measure the binary of the development profile
    #[arg(long)]
    dev: bool,
    /// A `vast-imagegen` to measure instead of the one that is built for it
    #[arg(long, value_name = "FILE", conflicts_with = "dev")]
    binary: Option<PathBuf>,
    /// Further arguments of `vast-imagegen build`
    #[arg(last = true, value_name = "ARGUMENT")]
    build: Vec<String>,
}

/// Builds an image of one such layer and prints what it took.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Verdict> {
    Tools::of(workspace).ensure(&[Group::Services], &[])?;
    let kind = if args.dev { dist::Args::dev() } else { dist::Args::release() };
    let imagegen = match &args.binary {
        Some(binary) => binary.canonicalize()?,
        None => dist::binaries(workspace, &kind)?.join("vast-imagegen"),
    };
    // Under `target`, which is on a disk: `/tmp` may be memory.
    let parent = workspace.target("bench");
    fs::create_dir_all(&parent).with_context(|| format!("cannot create `{}`", parent.display()))?;
    let folder = tempfile::tempdir_in(&parent).with_context(|| format!("cannot work in `{}`", parent.display()))?;
    let (image, stored) = (folder.path().join("image"), folder.path().join("registry"));
    let registry = Registry::start(&stored)?;
    write_image(&image, args.megabytes * 1_000_000)?;

    let measured = measure::measure(
        Command::new(imagegen)
            .arg("build")
            .arg(&image)
            .arg("--to")
            .arg(format!("{}/bench:1", registry.host()))
            .args(["--engine", "native"])
            .args(&args.build),
    )?;
    let published = size(&stored)?;
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!("| layer | published | peak resident | wall | CPU |");
    println!("|--:|--:|--:|--:|--:|");
    println!(
        "| {} MB | {:.0} MB | {:.1} MB | {:.1} s | {:.1} s |",
        args.megabytes,
        megabytes(published),
        megabytes(measured.peak_resident_bytes),
        measured.wall.as_secs_f64(),
        measured.cpu.as_secs_f64(),
    );
    let fine = measured.peak_resident_bytes < LIMIT_BYTES;
    if !fine {
        eprintln!("more than {:.0} MB resident", megabytes(LIMIT_BYTES));
    }
    Ok(Verdict::when(fine))
}

/// An image's folder with `bytes` of data in a few files.
fn write_image(folder: &Path, bytes: usize) -> Result<()> {
    let data = folder.join("data");
    fs::create_dir_all(&data).with_context(|| format!("cannot create `{}`", data.display()))?;
    fs::write(folder.join("Dockerfile"), "FROM scratch\nCOPY data /data\n").context("cannot write the Dockerfile")?;
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for number in 0..FILES {
        let path = data.join(format!("part-{number}"));
        let share = bytes * (number + 1) / FILES - bytes * number / FILES;
        write_data(&path, share, &mut noise).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

/// Seven blocks of noise for each one of zeros: compressors work hard and gain little.
fn write_data(path: &Path, bytes: usize, noise: &mut Noise) -> std::io::Result<()> {
    const BLOCK: usize = 64 * 1024;
    let mut file = BufWriter::new(File::create(path)?);
    let mut block = vec![0_u8; BLOCK];
    for number in 0..bytes.div_ceil(BLOCK) {
        let length = BLOCK.min(bytes - number * BLOCK);
        if number % 8 == 7 {
            block.fill(0);
        } else {
            noise.fill(&mut block);
        }
        file.write_all(&block[..length])?;
    }
    file.flush()
}

/// A xorshift generator (Marsaglia, 2003): the same noise in every run.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, block: &mut [u8]) {
        for chunk in block.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// The bytes of all files below `folder`.
fn size(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.context("cannot list the published image")?;
        if entry.file_type().is_file() {
            total += entry.metadata().context("cannot list the published image")?.len();
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_has_the_size_asked_for_and_mostly_noise() {
        let folder = tempfile::tempdir().unwrap();
        write_image(folder.path(), 4_000_003).unwrap();
        assert_eq!(size(&folder.path().join("data")).unwrap(), 4_000_003);
        let part = fs::read(folder.path().join("data/part-0")).unwrap();
        let noise = part.chunks(64).filter(|chunk| chunk.iter().any(|byte| *byte != 0)).count();
        assert!((part.len() / 64 / 2..part.len() / 64).contains(&noise), "{noise} of {}", part.len() / 64);
    }
}
