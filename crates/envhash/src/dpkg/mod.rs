//! What `dpkg -l` would print, read from the package database itself.
//!
//! The database is `/var/lib/dpkg/status`: stanzas of `Field: value` lines, separated by empty lines,
//!
//! ```text
//! Package: libc6
//! Status: install ok installed
//! Architecture: amd64
//! Multi-Arch: same
//! Version: 2.36-9+deb12u10
//! ```
//!
//! and `/var/lib/dpkg/updates/NNNN`: stanzas that an interrupted dpkg left behind and that replace those of the same
//! package (dpkg merges them on its next run, and reads them on every run).

mod stanza;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::error::Error;
use crate::inventory::Package;
use crate::root::{Root, is_absent};

pub(crate) use self::stanza::{Malformed, Stanza, parse};

const STATUS: &str = "/var/lib/dpkg/status";
const UPDATES: &str = "/var/lib/dpkg/updates";
const ARCH: &str = "/var/lib/dpkg/arch";

/// The package database of a root.
#[derive(Debug, Default)]
pub(crate) struct Database {
    /// By name and architecture: an instance that is stated again replaces the earlier one.
    stanzas: BTreeMap<(String, String), Stanza>,
    /// The first line of dpkg's list of architectures, which is its own; most systems have no such list.
    listed_architecture: Option<String>,
}

impl Database {
    /// Reads the database of a root; an empty one where there is none.
    pub(crate) fn read(root: &Root) -> Result<Self, Error> {
        let mut database = Self::default();
        let status = Path::new(STATUS);
        if let Some(text) = root.read_if_there(status)? {
            database.add_status(status, &text)?;
        }
        for update in updates(root)? {
            let text = root.read(&update).map_err(|error| Error::read(&update, error))?;
            database.add_update(&update, &text)?;
        }
        let list = root.read_if_there(Path::new(ARCH))?.unwrap_or_default();
        database.listed_architecture = String::from_utf8_lossy(&list)
            .lines()
            .next()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty());
        Ok(database)
    }

    /// Adds the status file itself.
    ///
    /// dpkg refuses one in which a package is there twice, for whatever architecture, unless both may be installed together.
    pub(crate) fn add_status(&mut self, path: &Path, text: &[u8]) -> Result<(), Error> {
        self.add(path, text, |database, stanza| {
            let others = database.present(&stanza.name);
            let conflict =
                others.filter(|other| !(stanza.coinstallable && other.coinstallable)).find(|_| stanza.present);
            conflict.map_or(Ok(()), |other| Err(twice(&stanza, other)))?;
            database.insert(stanza);
            Ok(())
        })
    }

    /// Adds what an interrupted dpkg noted since: it replaces the one instance that is there, of whatever architecture, unless
    /// both may be installed together.
    fn add_update(&mut self, path: &Path, text: &[u8]) -> Result<(), Error> {
        self.add(path, text, |database, stanza| {
            let mut others = database.present(&stanza.name);
            let replaced = match (others.next(), others.next()) {
                (Some(other), Some(_)) if !stanza.coinstallable => return Err(twice(&stanza, other)),
                (Some(other), None) if !(stanza.coinstallable && other.coinstallable) => {
                    Some((other.name.clone(), other.architecture.clone()))
                }
                _ => None,
            };
            drop(others);
            if let Some(key) = replaced {
                database.stanzas.remove(&key);
            }
            database.insert(stanza);
            Ok(())
        })
    }

    fn add(
        &mut self,
        path: &Path,
        text: &[u8],
        add: impl Fn(&mut Self, Stanza) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        let stanzas = parse(text);
        let added = stanzas.and_then(|stanzas| stanzas.into_iter().try_for_each(|stanza| add(self, stanza)));
        added.map_err(|Malformed { line, problem }| Error::Dpkg { path: path.to_path_buf(), line, problem })
    }

    fn insert(&mut self, stanza: Stanza) {
        self.stanzas.insert((stanza.name.clone(), stanza.architecture.clone()), stanza);
    }

    /// The instances of a package of which something is on the system.
    fn present(&self, name: &str) -> impl Iterator<Item = &Stanza> {
        let instances = self.stanzas.range((name.to_owned(), String::new())..);
        instances
            .map(|(_, stanza)| stanza)
            .take_while(move |stanza| stanza.name == name)
            .filter(|stanza| stanza.present)
    }

    /// dpkg's own architecture, as the database states it.
    pub(crate) fn architecture(&self) -> Option<&str> {
        let own = |name: &str| {
            self.stanzas
                .values()
                .find(|stanza| stanza.name == name && stanza.installed)
                .map(|stanza| &*stanza.architecture)
        };
        own("dpkg").or(self.listed_architecture.as_deref()).or_else(|| own("libc-bin")).filter(|name| *name != "all")
    }

    /// The upstream part of an installed package's version.
    pub(crate) fn upstream_version(&self, package: &str) -> Option<&str> {
        let stanza = self.stanzas.values().find(|stanza| stanza.name == package && stanza.installed)?;
        let version = stanza.version.split_once(':').map_or(&*stanza.version, |(_, rest)| rest);
        Some(version.rsplit_once('-').map_or(version, |(upstream, _)| upstream))
    }

    /// The packages of `dpkg -l` in state `ii`. `native` is dpkg's own architecture.
    pub(crate) fn installed(&self, native: &str) -> Vec<Package> {
        let listed = |stanza: &Stanza| Package { name: printed_name(stanza, native), version: stanza.version.clone() };
        self.stanzas.values().filter(|stanza| stanza.installed).map(listed).collect()
    }
}

fn twice(stanza: &Stanza, other: &Stanza) -> Malformed {
    let problem = format!("`{}` is there twice, for {} and {}", stanza.name, other.architecture, stanza.architecture);
    Malformed { line: stanza.line, problem }
}

/// A name as dpkg prints it: with the architecture where the name alone could mean several instances, or a foreign one.
fn printed_name(stanza: &Stanza, native: &str) -> String {
    let architecture = stanza.architecture.as_str();
    let own = architecture.is_empty() || architecture == "all" || architecture == native;
    if stanza.coinstallable || !own { format!("{}:{architecture}", stanza.name) } else { stanza.name.clone() }
}

/// Whether the recipe finds a `dpkg` to ask: without one no package counts, whatever its database says.
pub(crate) fn is_installed(root: &Root) -> bool {
    const PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    PATH.iter()
        .any(|directory| root.stat(&Path::new(directory).join("dpkg")).is_ok_and(|stat| stat.st_mode & 0o111 != 0))
}

/// Whether a package counts: libraries, development files, CUDA and `ROCm`.
pub(crate) fn counts(package: &Package) -> bool {
    let line = package.line();
    line.starts_with("lib") || line.ends_with("dev") || line.contains("cuda") || line.contains("rocm")
}

/// The update files, in the order in which dpkg reads them: those whose names are digits, all of one length.
fn updates(root: &Root) -> Result<Vec<std::path::PathBuf>, Error> {
    let directory = Path::new(UPDATES);
    let mut names = match root.list(directory) {
        Ok(names) => names,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(Error::read(directory, error)),
    };
    names.retain(|name| name.as_bytes().iter().all(u8::is_ascii_digit));
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0].len() != pair[1].len()) {
        let problem = "its files have names of several lengths, which dpkg refuses".to_owned();
        return Err(Error::Dpkg { path: directory.to_path_buf(), line: 0, problem });
    }
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(status: &str, extra: &str) -> String {
        format!("Package: libx\nStatus: {status}\nArchitecture: amd64\nVersion: 1-2\n{extra}\n")
    }

    fn listing(text: &str) -> Vec<String> {
        let mut database = Database::default();
        database.add_status(Path::new(STATUS), text.as_bytes()).unwrap();
        lines(&database)
    }

    fn lines(database: &Database) -> Vec<String> {
        database.installed("amd64").iter().map(Package::line).collect()
    }

    #[test]
    fn only_the_state_ii_is_listed() {
        for status in ["install ok installed", "install reinstreq installed", "Install OK Installed"] {
            assert_eq!(listing(&stanza(status, "")), ["libx=1-2"], "{status}");
        }
        for status in
            ["hold ok installed", "deinstall ok config-files", "install ok unpacked", "install ok half-configured"]
        {
            assert_eq!(listing(&stanza(status, "")), [""; 0], "{status}");
        }
    }

    #[test]
    fn the_architecture_is_printed_where_dpkg_prints_it() {
        let table = [
            ("Architecture: amd64\n", "p"),
            ("Architecture: all\n", "p"),
            ("Architecture: i386\n", "p:i386"),
            ("Architecture: amd64\nMulti-Arch: same\n", "p:amd64"),
            ("Architecture: amd64\nMulti-Arch: foreign\n", "p"),
            ("Architecture: amd64\nMulti-Arch: allowed\n", "p"),
        ];
        for (fields, name) in table {
            let text = format!("Package: p\nStatus: install ok installed\nVersion: 1\n{fields}");
            assert_eq!(listing(&text), [format!("{name}=1")], "{fields}");
        }
    }

    #[test]
    fn a_later_stanza_replaces_the_earlier_one_of_the_same_instance() {
        let same = "Multi-Arch: same\n";
        let other = stanza("install ok installed", same).replace("amd64", "i386");
        let again = stanza("deinstall ok config-files", same);
        assert_eq!(listing(&(stanza("install ok installed", same) + &other + &again)), ["libx:i386=1-2"]);
    }

    fn owned(lines: Option<&[&str]>) -> Option<Vec<String>> {
        lines.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect())
    }

    const II: &str = "install ok installed";
    const NONE: &str = "purge ok not-installed";
    const SAME: &str = "Multi-Arch: same\n";

    /// A stanza of `libx`, version 1-2 on amd64 and 3 on i386.
    fn instance((status, fields, architecture): (&str, &str, &str)) -> String {
        let text = stanza(status, fields).replace("amd64", architecture);
        if architecture == "i386" { text.replace("1-2", "3") } else { text }
    }

    /// As dpkg 1.21 was seen to decide.
    #[test]
    fn a_package_is_there_twice_only_where_both_instances_allow_it() {
        let table = [
            ((II, "", "amd64"), (II, "", "amd64"), None),
            ((II, "", "amd64"), (II, "", "i386"), None),
            ((II, "", "amd64"), (II, SAME, "i386"), None),
            ((II, SAME, "amd64"), (II, "", "i386"), None),
            ((II, SAME, "amd64"), (II, "", "amd64"), None),
            (("hold ok installed", "", "amd64"), (II, "", "i386"), None),
            ((II, SAME, "amd64"), (II, SAME, "i386"), Some(&["libx:amd64=1-2", "libx:i386=3"][..])),
            ((II, SAME, "amd64"), (II, SAME, "amd64"), Some(&["libx:amd64=1-2"])),
            ((II, "", "amd64"), (NONE, "", "i386"), Some(&["libx=1-2"])),
            ((II, "", "amd64"), (NONE, "", "amd64"), Some(&[])),
            ((NONE, "", "amd64"), (II, SAME, "i386"), Some(&["libx:i386=3"])),
            (("install ok unpacked", SAME, "amd64"), (II, SAME, "i386"), Some(&["libx:i386=3"])),
        ];
        for (first, second, expected) in table {
            let mut database = Database::default();
            let text = instance(first) + &instance(second);
            let lines = database.add_status(Path::new(STATUS), text.as_bytes()).map(|()| lines(&database)).ok();
            assert_eq!(lines, owned(expected), "{text}");
        }
        let text = instance((II, "", "amd64")) + &instance((II, "", "i386"));
        let error = Database::default().add_status(Path::new(STATUS), text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "`/var/lib/dpkg/status` line 6: `libx` is there twice, for amd64 and i386");
    }

    /// As dpkg 1.21 was seen to decide.
    #[test]
    fn an_update_replaces_the_one_instance_that_is_there() {
        let table = [
            (&[(II, "", "amd64")][..], (II, "", "i386"), Some(&["libx:i386=3"][..])),
            (&[(II, "", "amd64")], (II, SAME, "i386"), Some(&["libx:i386=3"])),
            (&[(II, SAME, "amd64")], (II, "", "i386"), Some(&["libx:i386=3"])),
            (&[(II, SAME, "amd64")], (II, SAME, "i386"), Some(&["libx:amd64=1-2", "libx:i386=3"])),
            (&[(II, SAME, "amd64"), (II, SAME, "i386")], (II, "", "i386"), None),
            (&[(II, SAME, "amd64"), (II, SAME, "i386")], (NONE, "", "i386"), None),
            (&[(II, SAME, "amd64"), (II, SAME, "i386")], (NONE, SAME, "i386"), Some(&["libx:amd64=1-2"])),
            (&[(II, "", "amd64")], (NONE, "", "i386"), Some(&[])),
            (&[(NONE, "", "amd64")], (II, "", "i386"), Some(&["libx:i386=3"])),
        ];
        for (before, update, expected) in table {
            let mut database = Database::default();
            let text: String = before.iter().map(|stanza| instance(*stanza)).collect();
            database.add_status(Path::new(STATUS), text.as_bytes()).unwrap();
            let lines =
                database.add_update(Path::new("0000"), instance(update).as_bytes()).map(|()| lines(&database)).ok();
            assert_eq!(lines, owned(expected), "{text}{}", instance(update));
        }
    }

    #[test]
    fn what_counts_is_decided_on_name_and_version() {
        let table = [
            ("libc6", "1", true),
            ("zlib1g", "1", false),
            ("zlib1g-dev", "1", false),
            ("tool", "1.0.dev", true),
            ("cuda-toolkit", "1", true),
            ("tool", "1+cuda12", true),
            ("rocm-core", "1", true),
            ("bash", "5", false),
        ];
        for (name, version, kept) in table {
            assert_eq!(counts(&Package { name: name.into(), version: version.into() }), kept, "{name}={version}");
        }
    }

    #[test]
    fn the_upstream_version_has_neither_epoch_nor_revision() {
        let mut database = Database::default();
        let text = "Package: python3.11-minimal\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:3.11.2-6+deb12u6\n";
        database.add_status(Path::new(STATUS), text.as_bytes()).unwrap();
        assert_eq!(database.upstream_version("python3.11-minimal"), Some("3.11.2"));
        assert_eq!(database.upstream_version("python3.12-minimal"), None);
    }
}
