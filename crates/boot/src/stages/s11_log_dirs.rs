//! Stage 11: the directories and files that programs without privileges write their logs to.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use crate::error::Error;
use crate::files;
use crate::root::Root;
use crate::stage::{Boot, Verdict};
use crate::users::{self, User};

/// Where Supervisor's programs write what the portal shows.
const PORTAL_LOGS: &str = "/var/log/portal";

const LOGS: &str = "/var/log";
const SUPERVISOR_CONFIG: &str = "/etc/supervisor/supervisord.conf";
const SUPERVISOR_PROGRAMS: &str = "/etc/supervisor/conf.d";

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    let shared = share_portal_logs(&boot.root);
    let users = users::read(&boot.root)?;
    let mut unknown = Vec::new();
    for (program, name) in programs(&boot.root)? {
        // A program's name becomes a file name; one with a slash would leave the directory.
        let Some(user) = find(&users, &name).filter(|_| !program.contains('/')) else {
            unknown.push(format!("program {program} has the unknown user {name}"));
            continue;
        };
        let log = files::open_log(&boot.root.join(LOGS).join(format!("{program}.log")))?;
        let failed = |source| Error::Write { path: boot.root.join(LOGS), source };
        fchown(&log, Some(user.0), Some(user.1)).map_err(failed)?;
    }
    shared?;
    Ok(if unknown.is_empty() { Verdict::done() } else { Verdict::said(unknown.join("; ")) })
}

/// Every user may write there, and nobody may replace another's file. A link in its place is not followed.
fn share_portal_logs(root: &Root) -> Result<(), Error> {
    let path = root.join(PORTAL_LOGS);
    files::directory(&path)?;
    let opened = rustix::fs::open(&path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let shared = opened
        .map_err(Into::into)
        .and_then(|directory| fs::File::from(directory).set_permissions(Permissions::from_mode(0o1777)));
    shared.map_err(|source| Error::Write { path, source })
}

/// User and group of a `user=` value: a name, or a number.
fn find(users: &[User], wanted: &str) -> Option<(u32, u32)> {
    let number: Option<u32> = wanted.parse().ok();
    let user = users.iter().find(|user| user.name == wanted || Some(user.uid) == number);
    user.map(|user| (user.uid, user.gid)).or(number.map(|uid| (uid, 0)))
}

/// The `user=` of each program that has one and is not root.
fn programs(root: &Root) -> Result<BTreeMap<String, String>, Error> {
    let mut configs: Vec<PathBuf> = fs::read_dir(root.join(SUPERVISOR_PROGRAMS))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    configs.sort();
    configs.insert(0, root.join(SUPERVISOR_CONFIG));
    let mut programs = BTreeMap::new();
    for config in configs {
        if let Some(text) = files::read_optional(&config)? {
            programs.extend(users_of_programs(&String::from_utf8_lossy(&text)));
        }
    }
    Ok(programs)
}

/// Reads `user=` from the `[program:…]` sections of one file, as Supervisor's INI reader does: `;` after white space starts a comment.
fn users_of_programs(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut program = None;
    for line in text.lines() {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name) {
            program = section.strip_prefix("program:").map(|name| name.trim().to_owned());
        } else if let (Some(program), Some((key, value))) = (&program, line.split_once(['=', ':'])) {
            let value = value.split(" ;").next().unwrap_or(value).trim();
            if key.trim() == "user" && !value.is_empty() && value != "root" && value != "0" {
                found.push((program.clone(), value.to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::super::testing::Fake;
    use super::*;

    const CONFIG: &str = "[program:app]\ncommand=x\nuser=user ; not root\n[program:rooted]\nuser=root\n\
                          [program:plain]\ncommand=y\n[eventlistener:e]\nuser=user\n;user=user\n[program:number]\nuser = 1234\n";

    #[test]
    fn users_are_read_from_program_sections_alone() {
        let expected = [("app".to_owned(), "user".to_owned()), ("number".to_owned(), "1234".to_owned())];
        assert_eq!(users_of_programs(CONFIG), expected);
    }

    #[test]
    fn each_program_with_a_user_can_write_its_log() {
        let fake = Fake::new();
        fake.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nuser:x:1001:0::/home/user:/bin/bash\n");
        fake.write("/etc/supervisor/conf.d/a.conf", CONFIG);
        fake.write("/etc/supervisor/conf.d/ignored.txt", "[program:ignored]\nuser=user\n");
        fake.write("/etc/supervisor/supervisord.conf", "[program:main]\nuser=ghost\n");
        fake.write("/var/log/app.log", "kept\n");
        let verdict = fake.run(run, &[]).unwrap();
        assert_eq!(verdict, Verdict::said("program main has the unknown user ghost"));
        let owner = |path: &str| fs::metadata(fake.path(path)).map(|file| (file.uid(), file.gid())).ok();
        assert_eq!(owner("/var/log/app.log"), Some((1001, 0)));
        assert_eq!(fake.read("/var/log/app.log"), "kept\n");
        assert_eq!(owner("/var/log/number.log"), Some((1234, 0)));
        assert_eq!(
            [owner("/var/log/rooted.log"), owner("/var/log/ignored.log"), owner("/var/log/main.log")],
            [None; 3]
        );
        assert_eq!(fs::metadata(fake.path("/var/log/portal")).unwrap().mode() & 0o7777, 0o1777);
    }

    #[test]
    fn a_link_in_place_of_the_log_directory_is_not_opened_to_all() {
        let fake = Fake::new();
        fs::create_dir(fake.path("/precious")).unwrap();
        symlink(fake.path("/precious"), fake.path("/var/log/portal")).unwrap();
        assert!(fake.run(run, &[]).is_err());
        assert_ne!(fs::metadata(fake.path("/precious")).unwrap().mode() & 0o7777, 0o1777);
    }
}
