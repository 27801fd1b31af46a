//! The compressions that a layer may have.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use zstd::zstd_safe::CParameter;

use super::gzip::ParallelGzip;

/// The level at which zlib-rs makes what zlib, and so `gzip` and `pigz`, make at their default of 6: its own 6 is faster but
/// 2.7 % larger, its 7 within 2 % (1.1 GB of libraries and Python), its 8 twice as slow.
const GZIP_LEVEL: u32 = 7;
/// zstd's default.
const ZSTD_LEVEL: i32 = 3;
/// Tables of half the size that the level has: they stay in a processor's own cache. Layers are 0.2 to 0.8 % larger (binaries,
/// Python), in 4 to 8 % less time.
const ZSTD_LONG_TABLE_LOG: u32 = 16;
const ZSTD_SHORT_TABLE_LOG: u32 = 15;
/// Input per zstd job. Fixed, so that the frame does not depend on the machine. Each job begins with reading again what came
/// before it: with half of this, that costs a tenth of the time and makes layers 1 % larger.
const ZSTD_JOB_BYTES: u32 = 4 * 1024 * 1024;
/// Each holds 13 MB. Three compress more than one thread can read and hash.
const ZSTD_MAX_THREADS: usize = 3;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Understood everywhere.
    #[default]
    Gzip,
    /// Smaller and faster; needs Docker 23, containerd 1.5 or Podman 3 to pull.
    Zstd,
}

impl Compression {
    /// The media type of a layer compressed so (OCI image spec, "Media Types").
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            other => Err(format!("`{other}` is not a compression: use gzip or zstd")),
        }
    }
}

/// A writer that compresses into `W`.
pub(super) enum Compressor<W: Write> {
    Gzip(ParallelGzip<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    pub(super) fn new(inner: W, compression: Compression, threads: usize) -> io::Result<Self> {
        Ok(match compression {
            Compression::Gzip => Self::Gzip(ParallelGzip::new(inner, GZIP_LEVEL, threads)?),
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(inner, ZSTD_LEVEL)?;
                // At least one worker: zstd's frames are the same for any number of them, but not for none.
                #[allow(clippy::cast_possible_truncation, reason = "at most ZSTD_MAX_THREADS")]
                encoder.multithread(threads.clamp(1, ZSTD_MAX_THREADS) as u32)?;
                encoder.set_parameter(CParameter::JobSize(ZSTD_JOB_BYTES))?;
                encoder.set_parameter(CParameter::HashLog(ZSTD_LONG_TABLE_LOG))?;
                encoder.set_parameter(CParameter::ChainLog(ZSTD_SHORT_TABLE_LOG))?;
                // What is stored under its digest needs no checksum beside it.
                encoder.include_checksum(false)?;
                Self::Zstd(encoder)
            }
        })
    }

    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Gzip(gzip) => gzip.finish(),
            Self::Zstd(zstd) => zstd.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(gzip) => gzip.write(data),
            Self::Zstd(zstd) => zstd.write(data),
        }
    }

    /// Does nothing: a flush would leave its mark in the output.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zstd_frames_do_not_depend_on_threads_or_chunks() {
        let data: Vec<u8> = (0..9_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 27) as u8).collect();
        let packed = |threads, chunk: usize| {
            let mut writer = Compressor::new(Vec::new(), Compression::Zstd, threads).unwrap();
            for chunk in data.chunks(chunk) {
                writer.write_all(chunk).unwrap();
            }
            writer.finish().unwrap()
        };
        let one = packed(1, data.len());
        assert!(packed(2, 4096) == one);
        assert!(packed(5, 1_000_003) == one);
        assert!(zstd::decode_all(&one[..]).unwrap() == data);
    }
}
