//! Versions of CUDA and of the NVIDIA driver, compared by component: 13.10 is newer than 13.9.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a version like {example}")]
pub struct BadVersion {
    text: String,
    example: &'static str,
}

/// A CUDA version: of a toolkit, or the newest that a driver supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CudaVersion {
    /// Toolkits of one major version run on drivers of that major version.
    pub major: u32,
    /// Counts up within the major version, beyond 9.
    pub minor: u32,
}

impl CudaVersion {
    /// The version `major.minor`.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// The version that `cuDriverGetVersion` means by a number: 1000 × major + 10 × minor. None for 0 and below.
    ///
    /// Source: CUDA Driver API, "Version Management".
    #[must_use]
    pub fn from_driver_number(number: i32) -> Option<Self> {
        let number = u32::try_from(number).ok().filter(|&number| number >= 1000)?;
        Some(Self { major: number / 1000, minor: number % 1000 / 10 })
    }

    /// The name of `PyTorch`'s backend for this toolkit, such as `cu128`.
    #[must_use]
    pub fn torch_backend(self) -> String {
        format!("cu{}{}", self.major, self.minor)
    }
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for CudaVersion {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadVersion { text: text.to_owned(), example: "12.8" };
        match components(text).as_deref() {
            Some(&[major, minor]) => Ok(Self { major, minor }),
            _ => Err(bad()),
        }
    }
}

impl Serialize for CudaVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A version of the NVIDIA driver for Linux, such as 570.26 or 535.54.03.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DriverVersion {
    /// The branch.
    pub branch: u32,
    /// The release within the branch.
    pub release: u32,
    /// The build, where there is one. None comes before all builds.
    pub build: Option<u32>,
}

impl DriverVersion {
    /// The version `branch.release` or `branch.release.build`.
    #[must_use]
    pub const fn new(branch: u32, release: u32, build: Option<u32>) -> Self {
        Self { branch, release, build }
    }
}

impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.branch, self.release)?;
        self.build.map_or(Ok(()), |build| write!(f, ".{build:02}"))
    }
}

impl FromStr for DriverVersion {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match components(text).as_deref() {
            Some(&[branch, release]) => Ok(Self::new(branch, release, None)),
            Some(&[branch, release, build]) => Ok(Self::new(branch, release, Some(build))),
            _ => Err(BadVersion { text: text.to_owned(), example: "570.26" }),
        }
    }
}

impl Serialize for DriverVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The numbers between the dots. None if there is anything else.
fn components(text: &str) -> Option<Vec<u32>> {
    text.split('.')
        .map(|part| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cuda(text: &str) -> CudaVersion {
        text.parse().unwrap()
    }

    fn driver(text: &str) -> DriverVersion {
        text.parse().unwrap()
    }

    #[test]
    fn versions_compare_by_component() {
        assert!(cuda("13.10") > cuda("13.9"));
        assert!(cuda("9.2") < cuda("10.0"));
        assert!(driver("570.133.20") > driver("570.26"));
        assert!(driver("570.26") < driver("570.26.01"));
        assert!(driver("1000.01") > driver("999.99"));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "12", "12.", ".8", "12.8.1", "12.x", "+12.8", "12.-8", " 12.8", "99999999999.1"] {
            assert!(text.parse::<CudaVersion>().is_err(), "{text:?}");
        }
        for text in ["", "570", "570.26.1.2", "N/A", "570.26-beta"] {
            assert!(text.parse::<DriverVersion>().is_err(), "{text:?}");
        }
        assert_eq!("auto".parse::<CudaVersion>().unwrap_err().to_string(), "`auto` is not a version like 12.8");
    }

    #[test]
    fn the_drivers_number_is_a_version() {
        for (number, expected) in
            [(12080, Some("12.8")), (13000, Some("13.0")), (13100, Some("13.10")), (0, None), (-1, None), (999, None)]
        {
            assert_eq!(CudaVersion::from_driver_number(number), expected.map(cuda), "{number}");
        }
    }

    #[test]
    fn driver_versions_keep_their_zeros() {
        for text in ["520.61.05", "570.26", "535.54.03", "418.226.00", "570.133.20"] {
            assert_eq!(driver(text).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn every_version_reads_back(major: u32, minor: u32, build: Option<u32>) {
            let version = CudaVersion::new(major, minor);
            prop_assert_eq!(version.to_string().parse(), Ok(version));
            let version = DriverVersion::new(major, minor, build);
            prop_assert_eq!(version.to_string().parse(), Ok(version));
        }
    }
}
