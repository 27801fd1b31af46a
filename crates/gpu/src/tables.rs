//! What NVIDIA documents about toolkits, drivers and devices (Linux `x86_64`), as data: a new toolkit is a new row.
//!
//! Sources: CUDA Toolkit Release Notes, table "CUDA Toolkit and Corresponding Driver Versions"; CUDA Compatibility guide, "Minor
//! Version Compatibility"; CUDA 13.0 release notes, "Deprecated Architectures".

use crate::version::{CudaVersion, DriverVersion};

/// A toolkit and the oldest driver that its release notes name for it.
const MINIMUM_DRIVERS: [(CudaVersion, DriverVersion); 14] = [
    (CudaVersion::new(11, 8), DriverVersion::new(520, 61, Some(5))),
    (CudaVersion::new(12, 0), DriverVersion::new(525, 60, Some(13))),
    (CudaVersion::new(12, 1), DriverVersion::new(530, 30, Some(2))),
    (CudaVersion::new(12, 2), DriverVersion::new(535, 54, Some(3))),
    (CudaVersion::new(12, 3), DriverVersion::new(545, 23, Some(6))),
    (CudaVersion::new(12, 4), DriverVersion::new(550, 54, Some(14))),
    (CudaVersion::new(12, 5), DriverVersion::new(555, 42, Some(2))),
    (CudaVersion::new(12, 6), DriverVersion::new(560, 28, Some(3))),
    (CudaVersion::new(12, 8), DriverVersion::new(570, 26, None)),
    (CudaVersion::new(12, 9), DriverVersion::new(575, 51, Some(3))),
    (CudaVersion::new(13, 0), DriverVersion::new(580, 65, Some(6))),
    (CudaVersion::new(13, 1), DriverVersion::new(590, 44, Some(1))),
    (CudaVersion::new(13, 2), DriverVersion::new(595, 45, Some(4))),
    (CudaVersion::new(13, 3), DriverVersion::new(610, 43, Some(2))),
];

/// A major version of CUDA and the driver branch from which all its toolkits run, some features aside.
const MINOR_VERSION_COMPATIBILITY: [(u32, u32); 3] = [(11, 450), (12, 525), (13, 580)];

/// A major version of CUDA and the lowest compute capability that it still builds for.
const LOWEST_CAPABILITIES: [(u32, (u32, u32)); 1] = [(13, (7, 5))];

/// A major compute capability and the first toolkit that builds for it: within one, code runs on every later minor.
///
/// Source: the release notes of these toolkits, and the CUDA C++ programming guide, "Binary Compatibility".
const FIRST_TOOLKITS: [(u32, CudaVersion); 4] = [
    (9, CudaVersion::new(11, 8)),
    (10, CudaVersion::new(12, 8)),
    (11, CudaVersion::new(13, 0)),
    (12, CudaVersion::new(12, 8)),
];

/// The CUDA versions that `PyTorch` publishes builds for.
///
/// Source: the index of `PyTorch`'s wheels, one folder `cu<version>` for each.
const TORCH_BACKENDS: [CudaVersion; 7] = [
    CudaVersion::new(11, 8),
    CudaVersion::new(12, 1),
    CudaVersion::new(12, 4),
    CudaVersion::new(12, 6),
    CudaVersion::new(12, 8),
    CudaVersion::new(12, 9),
    CudaVersion::new(13, 0),
];

/// `PyTorch`'s builds for this version and later ones leave out devices below that capability, to be smaller; those before it have them.
///
/// Source: the release notes of `PyTorch` 2.8, "Backwards Incompatible Changes".
const TORCH_LEAVES_OUT: (CudaVersion, (u32, u32)) = (CudaVersion::new(12, 8), (7, 0));

/// Why there is no build of `PyTorch` for these devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoBackend {
    /// There is none for so old a CUDA version, whatever the device.
    TooOld {
        /// The oldest version with builds.
        oldest: CudaVersion,
    },
    /// A device is newer than all that this CUDA version has builds of.
    NewDevice {
        /// The compute capability.
        device: (u32, u32),
        /// The first CUDA version with builds for it.
        first: CudaVersion,
    },
    /// No single build serves all of the devices.
    NoneForAll,
}

/// The newest CUDA version not above `newest` that `PyTorch` publishes builds for and that serves all of these devices.
///
/// Such a build brings its own libraries, so one of an older major version runs as well.
///
/// # Errors
/// Why there is none.
pub fn torch_backend(newest: CudaVersion, capabilities: &[(u32, u32)]) -> Result<CudaVersion, NoBackend> {
    let serves_all = |backend: &CudaVersion| capabilities.iter().all(|&device| torch_serves(*backend, device));
    if let Some(backend) = TORCH_BACKENDS.into_iter().filter(|one| *one <= newest && serves_all(one)).max() {
        return Ok(backend);
    }
    let oldest = TORCH_BACKENDS[0];
    if newest < oldest {
        return Err(NoBackend::TooOld { oldest });
    }
    // A device that no build up to `newest` has is missed by a later one, or not at all.
    let later = capabilities.iter().find_map(|&device| {
        let first = TORCH_BACKENDS.into_iter().find(|backend| torch_serves(*backend, device))?;
        (first > newest).then_some(NoBackend::NewDevice { device, first })
    });
    Err(later.unwrap_or(NoBackend::NoneForAll))
}

/// Whether `PyTorch`'s build for a CUDA version runs on a device.
fn torch_serves(backend: CudaVersion, device: (u32, u32)) -> bool {
    let (leaves_out_from, lowest) = TORCH_LEAVES_OUT;
    let is_new_enough = FIRST_TOOLKITS.iter().all(|&(major, first)| major != device.0 || backend >= first);
    is_new_enough && supports_capability(backend.major, device) && (backend < leaves_out_from || device >= lowest)
}

/// The oldest driver that NVIDIA names for a toolkit. None where this table has no row.
#[must_use]
pub fn minimum_driver(toolkit: CudaVersion) -> Option<DriverVersion> {
    MINIMUM_DRIVERS.iter().find(|(version, _)| *version == toolkit).map(|&(_, driver)| driver)
}

/// The newest toolkit of this table that a driver fully supports. A driver newer than the table may support more.
#[must_use]
pub fn newest_toolkit(driver: DriverVersion) -> Option<CudaVersion> {
    MINIMUM_DRIVERS.iter().filter(|(_, minimum)| *minimum <= driver).map(|&(toolkit, _)| toolkit).max()
}

/// The first driver branch on which every toolkit of a major version runs, with limits.
#[must_use]
pub fn minor_version_compatible_from(major: u32) -> Option<u32> {
    MINOR_VERSION_COMPATIBILITY.iter().find(|(row, _)| *row == major).map(|&(_, branch)| branch)
}

/// Whether toolkits of a major version still build for devices of a compute capability.
#[must_use]
pub fn supports_capability(major: u32, capability: (u32, u32)) -> bool {
    // What one version dropped does not come back with a later one.
    LOWEST_CAPABILITIES.iter().filter(|(row, _)| *row <= major).all(|&(_, lowest)| capability >= lowest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order_and_drivers_grow_with_toolkits() {
        assert!(MINIMUM_DRIVERS.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
        for (toolkit, driver) in MINIMUM_DRIVERS {
            let branch = minor_version_compatible_from(toolkit.major).unwrap();
            assert!(branch <= driver.branch, "{toolkit}");
        }
    }

    /// Written down a second time, as NVIDIA prints them: a slip in the tables above shows.
    #[test]
    fn every_row_is_as_nvidia_documents_it() {
        let documented = [
            ("11.8", "520.61.05"),
            ("12.0", "525.60.13"),
            ("12.1", "530.30.02"),
            ("12.2", "535.54.03"),
            ("12.3", "545.23.06"),
            ("12.4", "550.54.14"),
            ("12.5", "555.42.02"),
            ("12.6", "560.28.03"),
            ("12.8", "570.26"),
            ("12.9", "575.51.03"),
            ("13.0", "580.65.06"),
            ("13.1", "590.44.01"),
            ("13.2", "595.45.04"),
            ("13.3", "610.43.02"),
        ];
        assert_eq!(MINIMUM_DRIVERS.len(), documented.len());
        for (toolkit, driver) in documented {
            let found = minimum_driver(toolkit.parse().unwrap()).map(|driver| driver.to_string());
            assert_eq!(found.as_deref(), Some(driver), "{toolkit}");
        }
        let branches = [10, 11, 12, 13, 14].map(minor_version_compatible_from);
        assert_eq!(branches, [None, Some(450), Some(525), Some(580), None]);
    }

    #[test]
    fn a_driver_supports_toolkits_up_to_its_own() {
        for (driver, expected) in [
            ("519.99", None),
            ("520.61.05", Some(CudaVersion::new(11, 8))),
            ("560.35.05", Some(CudaVersion::new(12, 6))),
            ("570.26", Some(CudaVersion::new(12, 8))),
            ("570.211.01", Some(CudaVersion::new(12, 8))),
            ("575.51.02", Some(CudaVersion::new(12, 8))),
            ("999.0", Some(CudaVersion::new(13, 3))),
        ] {
            assert_eq!(newest_toolkit(driver.parse().unwrap()), expected, "{driver}");
        }
        assert_eq!(minimum_driver(CudaVersion::new(12, 8)).map(|driver| driver.to_string()).as_deref(), Some("570.26"));
        assert_eq!(minimum_driver(CudaVersion::new(12, 7)), None);
    }

    #[test]
    fn the_torch_backend_is_one_that_is_published_and_serves_the_device() {
        let version = CudaVersion::new;
        for (newest, devices, expected) in [
            (version(12, 8), &[(9, 0)][..], Ok(version(12, 8))),
            (version(12, 5), &[(9, 0)], Ok(version(12, 4))),
            (version(13, 3), &[], Ok(version(13, 0))),
            (version(13, 0), &[(9, 0), (7, 0)], Ok(version(12, 9))),
            (version(13, 0), &[(9, 0), (6, 1)], Ok(version(12, 6))),
            (version(13, 0), &[(10, 3), (12, 1)], Ok(version(13, 0))),
            (version(11, 7), &[(8, 0)], Err(NoBackend::TooOld { oldest: version(11, 8) })),
            (version(12, 6), &[(9, 0), (12, 0)], Err(NoBackend::NewDevice { device: (12, 0), first: version(12, 8) })),
            (version(12, 9), &[(11, 0)], Err(NoBackend::NewDevice { device: (11, 0), first: version(13, 0) })),
            (version(13, 0), &[(6, 1), (12, 0)], Err(NoBackend::NoneForAll)),
        ] {
            assert_eq!(torch_backend(newest, devices), expected, "{newest} {devices:?}");
        }
    }

    #[test]
    fn cuda_13_dropped_devices_before_turing() {
        assert!(supports_capability(12, (5, 0)) && supports_capability(13, (7, 5)) && supports_capability(14, (9, 0)));
        assert!(!supports_capability(13, (7, 0)) && !supports_capability(14, (6, 1)));
    }
}
