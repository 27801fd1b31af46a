//! Small Dockerfiles, built natively and by buildah itself, unpacked by umoci, and compared entry by entry and field by field.
//!
//! The cases are in `tests/corpus`, one file each. Where buildah and the Dockerfile reference say different things, the
//! reference wins; where this project deviates on purpose, the case says what there is instead and why, and fails when
//! that is no longer so.

mod buildah;
pub(crate) mod case;
mod chance;
mod generate;
mod layers;
mod overlays;
pub(crate) mod unpacked;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::json;
use vast_imagegen::build::NamedContext;

use self::buildah::Buildah;
use self::case::{Case, archive};
use self::unpacked::{Facts, facts, write_image};
use super::support::Workplace;

/// Cases that are built at once, each by a buildah with a storage of its own.
const WORKERS: usize = 2;

/// The image that cases build on as `FROM base`: small, and with everything that a later layer could get wrong.
fn base(directory: &Path) -> PathBuf {
    let layers = [
        "dir ./ 755 0:0\n\
         dir etc 755 0:0\n\
         file etc/passwd 644 0:0 root:x:0:0:root:/root:/bin/sh\n\
         dir root 700 0:0\n\
         dir tmp 1777 0:0\n\
         dir usr 755 0:0\n\
         dir usr/bin 755 0:0\n\
         xattr user.origin base\n\
         file usr/bin/tool 4755 0:0 tool\n\
         hard usr/bin/same 4755 0:0 usr/bin/tool\n\
         link bin 777 0:0 usr/bin\n\
         dir run 755 0:0\n\
         dir var 755 0:0\n\
         link var/run 777 0:0 /run\n\
         dir srv 755 7:8\n\
         dir srv/data 750 7:8\n\
         file srv/data/old 640 7:8 old\n\
         link srv/link 777 0:0 data\n\
         link srv/file-link 777 0:0 data/old\n\
         dir gone 755 0:0\n\
         file gone/x 644 0:0 x\n",
        "dir etc 755 0:0\n\
         file etc/passwd 644 0:0 root:x:0:0:root:/root:/bin/sh",
        "file .wh.gone 644 0:0\n",
    ];
    let users = "root:x:0:0:root:/root:/bin/sh\nuser:x:1001:1002::/home/user:/bin/sh\n";
    let groups = "root:x:0:\nvideo:x:44:user\nuser:x:1002:\n";
    let mut archives: Vec<Vec<u8>> = layers.iter().map(|lines| archive("the base", lines)).collect();
    archives[1] = {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in [("etc/passwd", users), ("etc/group", groups)] {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    };
    let config = json!({
        "Env": ["PATH=/usr/bin:/bin", "FROM_BASE=yes", "EMPTY="],
        "Cmd": ["/bin/tool"],
        "Labels": {"kept": "from base", "replaced": "old"},
        "ExposedPorts": {"22/tcp": {}},
        "WorkingDir": "/srv",
    });
    let layout = directory.join("base");
    // buildah counts layers by the history.
    let step = |number: usize| json!({"created": "2001-01-01T00:00:00Z", "created_by": format!("layer {number}")});
    let history: Vec<_> = (0..archives.len()).map(step).collect();
    write_image(&layout, &config, &archives, &json!({"history": history}));
    layout
}

/// Builds and compares one case; what is not as it should be.
fn check(case: &Case, base: &Path, buildah: &Buildah) -> Result<(), String> {
    let workplace = Workplace::new(&case.dockerfile);
    let folder = workplace.path("image");
    case.lay_out(&folder);
    let ours = workplace.build_as("ours", |options| {
        let base = format!("oci:{}:v1", base.display()).parse().unwrap();
        options.contexts.insert("base".to_owned(), NamedContext::Image(base));
        options.build_args.clone_from(&case.arguments);
    });
    let unpacked = |layout: &Path| facts(layout, &workplace.path("work"));
    let ours = match (ours, &case.refused) {
        (Ok(_), None) => unpacked(&workplace.path("ours")),
        (Ok(_), Some(said)) => return Err(format!("it was built, not refused with `{said}`")),
        (Err(error), Some(said)) if error.to_string().contains(said) => return Ok(()),
        (Err(error), _) => return Err(format!("it was refused: {error}: {:?}", std::error::Error::source(&error))),
    };
    let arguments: Vec<String> = case.arguments.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut dockerfile = folder.join("Dockerfile");
    if let Some(text) = &case.dockerfile_for_buildah {
        if buildah.build(&folder, &dockerfile, &arguments, &workplace.path("work")).is_ok() {
            return Err("buildah understands the original by now".to_owned());
        }
        dockerfile = workplace.path("Dockerfile.buildah");
        fs::write(&dockerfile, text).unwrap();
    }
    let theirs = buildah
        .build(&folder, &dockerfile, &arguments, &workplace.path(""))
        .map_err(|said| format!("buildah: {said}"))?;
    compare(&ours, &unpacked(&theirs), case)
}

/// What is not equal must be listed, and what is listed must not be equal.
fn compare(ours: &Facts, theirs: &Facts, case: &Case) -> Result<(), String> {
    let mut report = String::new();
    let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).chain(case.differences.keys()).collect();
    let none = "none".to_owned();
    for key in keys {
        let (ours, theirs) = (ours.get(key).unwrap_or(&none), theirs.get(key).unwrap_or(&none));
        match case.differences.get(key) {
            None if ours == theirs => {}
            None => writeln!(report, "{key}\n  ours:    {ours}\n  buildah: {theirs}").unwrap(),
            Some(listed) if ours != listed => {
                writeln!(report, "{key}\n  ours:    {ours}\n  listed:  {listed}").unwrap();
            }
            Some(_) if ours == theirs => writeln!(report, "{key} is listed as different and is not").unwrap(),
            Some(_) => {}
        }
    }
    if report.is_empty() { Ok(()) } else { Err(report) }
}

/// Runs `cases` by a few workers and fails with all that is wrong.
fn run(cases: Vec<Case>) {
    assert!(rustix::process::geteuid().is_root(), "buildah in a chroot is for root");
    let directory = tempfile::tempdir().unwrap();
    let base = base(directory.path());
    let queue = Mutex::new(cases);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let buildah = Buildah::new(&base);
                loop {
                    let Some(case) = queue.lock().unwrap().pop() else { return };
                    if let Err(said) = check(&case, &base, &buildah) {
                        let ignored = case.files.iter().find(|(name, _)| name == ".dockerignore");
                        let ignored = ignored.map_or("", |(_, rules)| rules);
                        let text = format!("== {}\n{said}\n{}-- ignored\n{ignored}", case.name, case.dockerfile);
                        failures.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(failures.is_empty(), "{} cases:\n{}", failures.len(), failures.join("\n"));
}

/// The cases of a folder of this crate, in order.
fn read(folder: &str) -> Vec<Case> {
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    let mut cases: Vec<Case> = files
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            Case::parse(&name, &fs::read_to_string(&path).unwrap())
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

#[test]
fn every_case_of_the_corpus_is_as_buildah_makes_it_or_says_why_not() {
    let mut cases = read("tests/corpus");
    for case in &cases {
        assert!(!case.dockerfile.is_empty(), "{} has no Dockerfile", case.name);
    }
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    // One case alone, by its name, while working on it.
    if let Ok(wanted) = std::env::var("VAST_TEST_CASE") {
        cases.retain(|case| case.name.contains(&wanted));
    }
    run(cases);
}

#[test]
fn generated_dockerfiles_are_as_buildah_makes_them() {
    let seed = std::env::var("VAST_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let cases = generate::cases(seed.unwrap_or(generate::SEED));
    run(cases);
}
