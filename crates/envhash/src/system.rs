//! The platform and the distribution release of a root.

use std::path::Path;

use crate::elf;
use crate::error::Error;
use crate::inventory::{System, unquoted};
use crate::root::Root;

const OS_RELEASE: &str = "/etc/os-release";

/// Programs of which every distribution has one; the header of the first that is found tells the architecture.
const WITNESSES: [&str; 5] = ["/bin/sh", "/usr/bin/dpkg", "/bin/ls", "/usr/bin/env", "/bin/busybox"];

/// The lines of an `os-release` file that count, in file order.
///
/// # Errors
/// Where a line that counts is not UTF-8.
pub(crate) fn release_lines(os_release: &[u8]) -> Result<Vec<String>, std::str::Utf8Error> {
    os_release
        .split(|byte| *byte == b'\n')
        .filter(|line| line.starts_with(b"VERSION_ID=") || line.starts_with(b"VERSION_CODENAME="))
        .map(|line| std::str::from_utf8(line).map(str::to_owned))
        .collect()
}

/// Reads the system component. `machine` is `platform.machine()` of the root.
pub(crate) fn read(root: &Root, machine: String) -> Result<System, Error> {
    let path = Path::new(OS_RELEASE);
    let text = root.read_if_there(path)?.unwrap_or_default();
    if text.contains(&0) {
        // grep takes it for no text and prints a remark in the place of the lines.
        return Err(Error::read(path, std::io::Error::new(std::io::ErrorKind::InvalidData, "it holds a NUL byte")));
    }
    let release = release_lines(&text).map_err(|error| Error::not_utf8(path, error))?;
    // CPython's `sysconfig.get_platform()` on Linux: the machine with what a file name cannot hold replaced.
    let platform = format!("linux-{}", machine.replace(' ', "_").replace('/', "-"));
    let distribution = distribution(&text);
    Ok(System { distribution, ..System::new(platform, machine, release) })
}

/// The `ID` of an `os-release` file; `None` where it is missing or no plain word.
fn distribution(os_release: &[u8]) -> Option<String> {
    let line = os_release.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"ID="))?;
    let id = unquoted(std::str::from_utf8(line).ok()?);
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (!id.is_empty() && id.chars().all(plain)).then(|| id.to_owned())
}

/// The machine of the running kernel, as Python's `platform.machine()` gives it.
pub(crate) fn running_machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// The machine that a Debian architecture runs on, as its kernel names it.
pub(crate) fn machine_of_architecture(architecture: &str) -> Option<&'static str> {
    Some(match architecture {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "i386" => "i686",
        "armhf" | "armel" => "armv7l",
        "ppc64el" => "ppc64le",
        "s390x" => "s390x",
        "riscv64" => "riscv64",
        "loong64" => "loongarch64",
        _ => return None,
    })
}

/// The Debian architecture of a machine; the reverse of [`machine_of_architecture`].
pub(crate) fn architecture_of_machine(machine: &str) -> Option<&'static str> {
    ["amd64", "arm64", "i386", "armhf", "ppc64el", "s390x", "riscv64", "loong64"]
        .into_iter()
        .find(|architecture| machine_of_architecture(architecture) == Some(machine))
}

/// The machine that a root's own programs are built for.
pub(crate) fn machine_of_programs(root: &Root) -> Option<&'static str> {
    WITNESSES.iter().find_map(|path| {
        let (file, _) = root.open_regular(Path::new(path)).ok()?;
        elf::machine(&file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_lines_are_whole_lines_with_the_two_keys() {
        let table: &[(&[u8], &[&str])] = &[
            (b"", &[]),
            (b"ID=debian\n", &[]),
            (b"VERSION_ID=\"12\"", &["VERSION_ID=\"12\""]),
            (b"VERSION_ID=1\nVERSION_CODENAME=x\nVERSION=1\n", &["VERSION_ID=1", "VERSION_CODENAME=x"]),
            (b" VERSION_ID=1\n#VERSION_ID=2\nXVERSION_ID=3\nVERSION_IDX=4\n", &[]),
            (b"VERSION_ID=1\r\n", &["VERSION_ID=1\r"]),
            (b"NAME=\xff\nVERSION_ID=\n", &["VERSION_ID="]),
        ];
        for (text, lines) in table {
            assert_eq!(release_lines(text).unwrap(), *lines, "{}", text.escape_ascii());
        }
        assert!(release_lines(b"VERSION_ID=\xff").is_err());
    }

    #[test]
    fn the_distribution_is_a_plain_word_or_unknown() {
        let table: &[(&[u8], Option<&str>)] = &[
            (b"NAME=x\nID=debian\n", Some("debian")),
            (b"ID=\"opensuse-leap\"\r\n", Some("opensuse-leap")),
            (b"ID='rocky'", Some("rocky")),
            (b"VERSION_ID=1\n", None),
            (b"ID=\n", None),
            (b"ID=two words\n", None),
            (b"ID=\xff\n", None),
        ];
        for (text, expected) in table {
            assert_eq!(distribution(text).as_deref(), *expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn architectures_and_machines_map_both_ways() {
        for (architecture, machine) in [("amd64", "x86_64"), ("arm64", "aarch64"), ("riscv64", "riscv64")] {
            assert_eq!(machine_of_architecture(architecture), Some(machine));
            assert_eq!(architecture_of_machine(machine), Some(architecture));
        }
        assert_eq!(machine_of_architecture("m68k"), None);
    }
}
