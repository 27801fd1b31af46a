//! Stage 48: what each venv has installed, kept where a lost instance can be rebuilt from it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use vast_envhash::{Options, Venv};

use crate::env_vars;
use crate::environment::Environment;
use crate::error::Error;
use crate::files;
use crate::root::Root;
use crate::stage::{Boot, Verdict};

/// Below the workspace.
const DIRECTORY: &str = ".venv-backups";

/// How many freezes of each venv are kept.
const DEFAULT_COUNT: usize = 48;

/// The name of the instance's directory when the platform gave it no number.
const NO_INSTANCE: &str = "local";

/// A freeze that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The venv's name.
    pub venv: String,
    /// The file, on this machine.
    pub file: PathBuf,
}

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    if count(&boot.env)? == 0 {
        return Ok(Verdict::skipped("VENV_BACKUP_COUNT is 0"));
    }
    Ok(match back_up(&boot.root, &boot.env)?.len() {
        0 => Verdict::skipped("no venv"),
        1 => Verdict::said("backed up 1 venv"),
        count => Verdict::said(format!("backed up {count} venvs")),
    })
}

/// Writes a freeze of every venv and removes the oldest ones beyond the count.
///
/// # Errors
/// When the environments cannot be read or the workspace cannot be written.
pub fn back_up(root: &Root, env: &Environment) -> Result<Vec<Backup>, Error> {
    let count = count(env)?;
    if count == 0 || !root.join("/venv").is_dir() {
        return Ok(Vec::new());
    }
    let options = Options { live: root.is_live(), ..Options::default() };
    let inventory = vast_envhash::hash(root.path(), &options)?;
    let instance = Some(env.instance()).filter(|instance| !instance.is_empty() && !instance.contains('/'));
    let directory = root.join(env.workspace()).join(DIRECTORY).join(instance.unwrap_or(NO_INSTANCE));
    let time = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let mut backups = Vec::new();
    for venv in inventory.venvs.iter().filter(|venv| venv.interpreter.is_some()) {
        files::directory(&directory)?;
        let name = format!("venv-{}-{time}.txt", venv.name);
        let file = directory.join(&name);
        files::publish(&file, freeze(venv).as_bytes(), 0o664)?;
        link(&directory, &format!("venv-{}-latest.txt", venv.name), &name)?;
        prune(&directory, &venv.name, count)?;
        backups.push(Backup { venv: venv.name.clone(), file });
    }
    Ok(backups)
}

fn count(env: &Environment) -> Result<usize, Error> {
    let name = env_vars::VENV_BACKUP_COUNT;
    let parsed = env.non_empty(name).map(str::parse).transpose();
    Ok(parsed.map_err(|_| Error::Variable { name, expected: "a number of backups" })?.unwrap_or(DEFAULT_COUNT))
}

/// One `name==version` a line, as `pip install -r` reads it; what has no name cannot be installed.
fn freeze(venv: &Venv) -> String {
    let named = venv.packages.iter().filter(|package| package.name.is_some() && package.version.is_some());
    named.map(|package| package.line() + "\n").collect()
}

/// Points the link at the newest file. A volume without links keeps the files all the same.
fn link(directory: &Path, link: &str, target: &str) -> Result<(), Error> {
    let link = directory.join(link);
    let staged = directory.join(format!(".{target}.link"));
    let linked = std::os::unix::fs::symlink(target, &staged).and_then(|()| fs::rename(&staged, &link));
    match linked {
        Err(source)
            if !matches!(
                source.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
                Some(rustix::io::Errno::PERM | rustix::io::Errno::OPNOTSUPP)
            ) =>
        {
            Err(Error::Write { path: link, source })
        }
        _ => Ok(()),
    }
}

/// Removes the oldest freezes of one venv; their names sort by time.
fn prune(directory: &Path, venv: &str, count: usize) -> Result<(), Error> {
    let failed = |source: io::Error| Error::Write { path: directory.to_owned(), source };
    let mut freezes: Vec<String> = fs::read_dir(directory)
        .map_err(failed)?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_freeze(name, venv))
        .collect();
    freezes.sort_unstable();
    let surplus = freezes.len().saturating_sub(count);
    freezes.iter().take(surplus).try_for_each(|name| fs::remove_file(directory.join(name))).map_err(failed)
}

/// Whether `name` reads `venv-<venv>-YYYYMMDD-HHMMSS.txt`.
fn is_freeze(name: &str, venv: &str) -> bool {
    let rest =
        name.strip_prefix("venv-").and_then(|rest| rest.strip_prefix(venv)).and_then(|rest| rest.strip_prefix('-'));
    let Some((date, time)) = rest.and_then(|rest| rest.strip_suffix(".txt")).and_then(|time| time.split_once('-'))
    else {
        return false;
    };
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(date, 8) && digits(time, 6)
}

#[cfg(test)]
mod tests {
    use vast_envhash::{Distribution, Interpreter};

    use super::super::testing::Fake;
    use super::*;

    /// A venv as the `venv` module lays it out, of the running interpreter.
    fn venv(fake: &Fake, name: &str, packages: &[(&str, &str)]) {
        let python = fs::canonicalize("/usr/bin/python3").unwrap();
        let binary = python.file_name().unwrap().to_str().unwrap().to_owned();
        let version = binary.strip_prefix("python").unwrap();
        fs::create_dir_all(fake.path("/usr/bin")).unwrap();
        if !fake.path("/usr/bin").join(&binary).exists() {
            fs::copy(&python, fake.path("/usr/bin").join(&binary)).unwrap();
        }
        fake.write(&format!("/usr/lib/python{version}/os.py"), "");
        fake.write(
            &format!("/venv/{name}/pyvenv.cfg"),
            &format!("home = /usr/bin\ninclude-system-site-packages = false\nversion = {version}.2\n"),
        );
        fs::create_dir_all(fake.path(&format!("/venv/{name}/bin"))).unwrap();
        std::os::unix::fs::symlink(format!("/usr/bin/{binary}"), fake.path(&format!("/venv/{name}/bin/python")))
            .unwrap();
        for (package, package_version) in packages {
            let path = format!(
                "/venv/{name}/lib/python{version}/site-packages/{package}-{package_version}.dist-info/METADATA"
            );
            fake.write(&path, &format!("Metadata-Version: 2.1\nName: {package}\nVersion: {package_version}\n\n"));
        }
    }

    #[test]
    fn a_freeze_names_what_can_be_installed() {
        let text = |value: &str| Some(value.to_owned());
        let packages = vec![
            Distribution { name: text("b"), version: text("1") },
            Distribution { name: text("a"), version: text("2+cu128") },
            Distribution { name: None, version: text("3") },
        ];
        let python = Interpreter { path: "/p".into(), version: "3.12.1".into(), stated_by: String::new() };
        assert_eq!(freeze(&Venv::new("main".into(), Some(python), packages)), "a==2+cu128\nb==1\n");
    }

    #[test]
    fn each_venv_is_backed_up_under_its_instance_with_a_link_to_the_newest() {
        let fake = Fake::new();
        venv(&fake, "main", &[("torch", "2.9.1"), ("numpy", "2.0.0")]);
        venv(&fake, "tools", &[]);
        assert_eq!(fake.run(run, &[("CONTAINER_ID", "7")]).unwrap(), Verdict::said("backed up 2 venvs"));
        let directory = "/workspace/.venv-backups/7";
        assert_eq!(fake.read(&format!("{directory}/venv-main-latest.txt")), "numpy==2.0.0\ntorch==2.9.1\n");
        let target = fs::read_link(fake.path(directory).join("venv-main-latest.txt")).unwrap();
        assert!(is_freeze(target.to_str().unwrap(), "main"), "{}", target.display());
    }

    #[test]
    fn only_the_newest_freezes_of_a_venv_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let names = |venv: &'static str| (0..5).map(move |day| format!("venv-{venv}-2026010{day}-000000.txt"));
        for name in names("a").chain(names("a-b")).chain(["venv-a-notes.txt".to_owned()]) {
            fs::write(directory.path().join(name), "").unwrap();
        }
        prune(directory.path(), "a", 2).unwrap();
        let mut left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let expected: Vec<String> =
            names("a").skip(3).chain(names("a-b")).chain(["venv-a-notes.txt".to_owned()]).collect();
        assert_eq!(left, expected);
    }

    #[test]
    fn the_count_turns_it_off_and_must_be_a_number() {
        let fake = Fake::new();
        venv(&fake, "main", &[]);
        assert!(matches!(fake.run(run, &[("VENV_BACKUP_COUNT", "0")]).unwrap(), Verdict::Skipped(_)));
        assert!(matches!(fake.run(run, &[("VENV_BACKUP_COUNT", "many")]), Err(Error::Variable { .. })));
        assert!(!fake.path("/workspace/.venv-backups").exists());
        assert!(matches!(Fake::new().run(run, &[]).unwrap(), Verdict::Skipped(_)));
    }
}
