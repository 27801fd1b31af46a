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

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::error::Error;
use crate::inventory::Package;
use crate::root::{Root, is_absent};

const STATUS: &str = "/var/lib/dpkg/status";
const UPDATES: &str = "/var/lib/dpkg/updates";
const ARCH: &str = "/var/lib/dpkg/arch";

/// One stanza, with what the listing needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stanza {
    /// The package, in lower case, as dpkg keeps it.
    pub(crate) name: String,
    pub(crate) architecture: String,
    /// As dpkg prints it; empty for a package that has none.
    pub(crate) version: String,
    /// `Multi-Arch: same`: instances of several architectures can be installed together.
    pub(crate) coinstallable: bool,
    /// Wanted and installed: the `ii` of `dpkg -l`.
    pub(crate) installed: bool,
    /// Something of the package is on the system, if only its configuration.
    pub(crate) present: bool,
    /// Where it starts, counted from 1.
    pub(crate) line: usize,
}

/// What is wrong with a database, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) problem: String,
}

/// The stanzas of a status file, in file order.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<Stanza>, Malformed> {
    if text.last().is_some_and(|last| *last != b'\n') {
        // dpkg takes such a file for a cut one too, wherever it ends.
        let line = memchr::memchr_iter(b'\n', text).count() + 1;
        return Err(Malformed { line, problem: "the file ends in the middle of a line".into() });
    }
    let mut stanzas = Vec::new();
    let mut current: Option<(usize, Stanza)> = None;
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        if line.is_empty() {
            stanzas.extend(current.take().map(finish).transpose()?);
            continue;
        }
        let (_, stanza) = current.get_or_insert_with(|| (number, Stanza::default()));
        if matches!(line[0], b' ' | b'\t') {
            // A further line of a field; none of ours has any.
            continue;
        }
        let colon = memchr::memchr(b':', line)
            .filter(|colon| *colon > 0)
            .ok_or_else(|| Malformed { line: number, problem: "no field name followed by a colon".into() })?;
        let (field, value) = (&line[..colon], &line[colon + 1..]);
        read_field(stanza, field, value).map_err(|problem| Malformed { line: number, problem })?;
    }
    stanzas.extend(current.take().map(finish).transpose()?);
    Ok(stanzas)
}

fn finish((line, stanza): (usize, Stanza)) -> Result<Stanza, Malformed> {
    if stanza.name.is_empty() {
        return Err(Malformed { line, problem: "a stanza without `Package`".into() });
    }
    if stanza.installed && stanza.version.is_empty() {
        return Err(Malformed { line, problem: format!("`{}` is installed and has no `Version`", stanza.name) });
    }
    Ok(Stanza { line, ..stanza })
}

fn read_field(stanza: &mut Stanza, field: &[u8], value: &[u8]) -> Result<(), String> {
    // Nine of ten lines belong to fields that do not matter here: no allocation for those.
    if field.eq_ignore_ascii_case(b"Package") {
        stanza.name = text(value)?.to_ascii_lowercase();
    } else if field.eq_ignore_ascii_case(b"Architecture") {
        text(value)?.clone_into(&mut stanza.architecture);
    } else if field.eq_ignore_ascii_case(b"Multi-Arch") {
        stanza.coinstallable = text(value)?.eq_ignore_ascii_case("same");
    } else if field.eq_ignore_ascii_case(b"Version") {
        stanza.version = printed_version(text(value)?)?;
    } else if field.eq_ignore_ascii_case(b"Status") {
        let words: Vec<_> = text(value)?.split_ascii_whitespace().collect();
        let [want, _, status] = words[..] else { return Err("`Status` has not three words".into()) };
        stanza.installed = want.eq_ignore_ascii_case("install") && status.eq_ignore_ascii_case("installed");
        stanza.present = !status.eq_ignore_ascii_case("not-installed");
    }
    Ok(())
}

fn text(value: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(value.trim_ascii()).map_err(|_| "a value that is not UTF-8".into())
}

/// A version as dpkg prints it: the epoch is a number, left out where it is zero and nothing else holds a colon.
fn printed_version(version: &str) -> Result<String, String> {
    let Some((epoch, rest)) = version.split_once(':') else { return Ok(version.to_owned()) };
    let epoch: u32 =
        epoch.trim_start_matches('+').parse().map_err(|_| format!("`{version}` has no number for an epoch"))?;
    Ok(if epoch == 0 && !rest.contains(':') { rest.to_owned() } else { format!("{epoch}:{rest}") })
}

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
        let Some(text) = root.read_if_there(status)? else { return Ok(database) };
        database.add(status, &text)?;
        for update in updates(root)? {
            let text = root.read(&update).map_err(|error| Error::read(&update, error))?;
            database.add(&update, &text)?;
        }
        let list = root.read_if_there(Path::new(ARCH))?.unwrap_or_default();
        database.listed_architecture = String::from_utf8_lossy(&list)
            .lines()
            .next()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty());
        Ok(database)
    }

    pub(crate) fn add(&mut self, path: &Path, text: &[u8]) -> Result<(), Error> {
        let failed = |Malformed { line, problem }| Error::Dpkg { path: path.to_path_buf(), line, problem };
        for stanza in parse(text).map_err(failed)? {
            self.fits(&stanza).map_err(failed)?;
            self.stanzas.insert((stanza.name.clone(), stanza.architecture.clone()), stanza);
        }
        Ok(())
    }

    /// dpkg refuses a database in which one package is there for several architectures, unless all of them allow it.
    fn fits(&self, stanza: &Stanza) -> Result<(), Malformed> {
        let instances = self.stanzas.range((stanza.name.clone(), String::new())..);
        let mut others = instances
            .take_while(|((name, _), _)| *name == stanza.name)
            .filter(|((_, architecture), other)| *architecture != stanza.architecture && other.present);
        let conflict = others.find(|(_, other)| !(stanza.coinstallable && other.coinstallable));
        match conflict.filter(|_| stanza.present) {
            Some(((name, architecture), _)) => {
                let problem = format!("`{name}` is there for {} and for {architecture}", stanza.architecture);
                Err(Malformed { line: stanza.line, problem })
            }
            None => Ok(()),
        }
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

/// A name as dpkg prints it: with the architecture where the name alone could mean several instances, or a foreign one.
fn printed_name(stanza: &Stanza, native: &str) -> String {
    let architecture = stanza.architecture.as_str();
    let own = architecture.is_empty() || architecture == "all" || architecture == native;
    if stanza.coinstallable || !own { format!("{}:{architecture}", stanza.name) } else { stanza.name.clone() }
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
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stanza(status: &str, extra: &str) -> String {
        format!("Package: libx\nStatus: {status}\nArchitecture: amd64\nVersion: 1-2\n{extra}\n")
    }

    fn listing(text: &str) -> Vec<String> {
        let mut database = Database::default();
        database.add(Path::new(STATUS), text.as_bytes()).unwrap();
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
    fn versions_are_printed_as_dpkg_prints_them() {
        let table =
            [("1.0", "1.0"), ("0:1.0-1", "1.0-1"), ("1:1.0-1", "1:1.0-1"), ("01:2", "1:2"), ("0:1:2-3", "0:1:2-3")];
        for (written, printed) in table {
            assert_eq!(printed_version(written).as_deref(), Ok(printed), "{written}");
        }
        assert!(printed_version("x:1").is_err());
    }

    #[test]
    fn a_later_stanza_replaces_the_earlier_one_of_the_same_instance() {
        let same = "Multi-Arch: same\n";
        let other = stanza("install ok installed", same).replace("amd64", "i386");
        let again = stanza("deinstall ok config-files", same);
        assert_eq!(listing(&(stanza("install ok installed", same) + &other + &again)), ["libx:i386=1-2"]);
    }

    /// As dpkg 1.21 was seen to decide.
    #[test]
    fn instances_that_cannot_be_installed_together_are_refused_as_dpkg_refuses_them() {
        let (ii, none, same) = ("install ok installed", "purge ok not-installed", "Multi-Arch: same\n");
        let table = [
            (ii, "", ii, "", false),
            (ii, "", ii, same, false),
            (ii, same, ii, "", false),
            (ii, same, ii, same, true),
            (ii, "", none, "", true),
            (none, "", ii, same, true),
            ("hold ok installed", "", ii, "", false),
            ("install ok unpacked", same, ii, same, true),
        ];
        for (first, first_fields, second, second_fields, accepted) in table {
            let text = stanza(first, first_fields) + &stanza(second, second_fields).replace("amd64", "i386");
            let result = Database::default().add(Path::new(STATUS), text.as_bytes());
            assert_eq!(result.is_ok(), accepted, "{text}");
        }
        let text = stanza(ii, "") + &stanza(ii, "").replace("amd64", "i386");
        let error = Database::default().add(Path::new(STATUS), text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "`/var/lib/dpkg/status` line 6: `libx` is there for i386 and for amd64");
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
    fn malformed_databases_are_refused_with_the_line() {
        let table = [
            ("Package: a\nnonsense\n", 2),
            ("Package: a\n\nStatus: install ok installed\n", 3),
            ("Package: a\nStatus: installed\n", 2),
            ("Package: a\nStatus: install ok installed\n", 1),
            (": a\n", 1),
            ("Package: a\nVersion: 1", 2),
        ];
        for (text, line) in table {
            assert_eq!(parse(text.as_bytes()).unwrap_err().line, line, "{text:?}");
        }
    }

    #[test]
    fn the_upstream_version_has_neither_epoch_nor_revision() {
        let mut database = Database::default();
        let text = "Package: python3.11-minimal\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:3.11.2-6+deb12u6\n";
        database.add(Path::new(STATUS), text.as_bytes()).unwrap();
        assert_eq!(database.upstream_version("python3.11-minimal"), Some("3.11.2"));
        assert_eq!(database.upstream_version("python3.12-minimal"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&text);
        }

        #[test]
        fn stanzas_survive_any_order_of_fields_and_any_other_field(
            name in "[a-z][a-z0-9+.-]{1,20}", version in "[0-9][0-9a-z.+~]{0,10}", rotation in 0usize..6, continuation in "[ -~]{0,30}",
        ) {
            let mut fields = [
                format!("Package: {name}"), format!("VERSION:  {version} "), "Status: install ok installed".to_owned(),
                "architecture: amd64".to_owned(), format!("Description: x\n {continuation}\n ."), "Multi-Arch:same".to_owned(),
            ];
            fields.rotate_left(rotation);
            let parsed = parse((fields.join("\n") + "\n\n\n").as_bytes()).unwrap();
            prop_assert_eq!(parsed, vec![Stanza {
                name, architecture: "amd64".into(), version, coinstallable: true, installed: true, present: true, line: 1,
            }]);
        }
    }
}
