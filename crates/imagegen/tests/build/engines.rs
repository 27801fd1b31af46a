//! buildah: what it is asked for, what it makes of it, and whether both engines mean the same.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use vast_imagegen::build::runner::{Invocation, Runner, System};
use vast_imagegen::build::{Build, Engine, NamedContext};
use vast_imagegen::reference::Reference;

use super::corpus::unpacked::facts;
use super::support::{Workplace, listing};

/// Records what it is asked to run and fails at once.
#[derive(Default)]
struct Recorder(Mutex<Vec<Invocation>>);

impl Runner for Recorder {
    fn run(&self, invocation: &Invocation, line: &mut dyn FnMut(&str)) -> io::Result<bool> {
        self.0.lock().unwrap().push(invocation.clone());
        line("no such thing");
        Ok(invocation.arguments.iter().any(|argument| argument == "info"))
    }
}

#[test]
fn buildah_gets_a_storage_of_the_builds_own_and_fetches_nothing() {
    let mut workplace = Workplace::new("FROM scratch\nCOPY Dockerfile /\nRUN make\n");
    let recorder = Arc::new(Recorder::default());
    workplace.runner = recorder.clone();
    let (said, _) = workplace.refusal(|options| options.engine = Engine::Auto);
    assert_eq!(said, "image/Dockerfile:3: `buildah pull` failed: no such thing");
    let invocations = recorder.0.lock().unwrap();
    let verbs: Vec<Vec<String>> = invocations
        .iter()
        .map(|invocation| invocation.arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect())
        .collect();
    let work = workplace.path("work").display().to_string();
    for arguments in &verbs {
        assert_eq!(arguments[0], "--root");
        assert!(arguments[1].starts_with(&work) && arguments[3].starts_with(&work), "{arguments:?}");
    }
    let pull: Vec<&str> = verbs[1][6..].iter().map(String::as_str).collect();
    let platform = vast_imagegen::platform::Platform::host().to_string();
    assert_eq!(pull, ["pull", "--quiet", "--platform", &platform, "oci:before:image"]);
}

#[test]
fn a_program_that_is_not_installed_is_named() {
    struct Missing;
    impl Runner for Missing {
        fn run(&self, _: &Invocation, _: &mut dyn FnMut(&str)) -> io::Result<bool> {
            Err(io::ErrorKind::NotFound.into())
        }
    }
    let mut workplace = Workplace::new("FROM scratch\nRUN make\n");
    workplace.runner = Arc::new(Missing);
    let (said, hint) = workplace.refusal(|options| options.engine = Engine::Buildah);
    assert!(said.starts_with("image/Dockerfile:2: cannot run `buildah`"), "{said}");
    assert_eq!(hint.as_deref(), Some("install buildah, or use another --engine"));
}

#[test]
fn the_engine_is_chosen_by_what_the_needed_stages_do() {
    for (dockerfile, expected) in [
        ("FROM scratch\nRUN set -e && env-hash > /.env_hash\n", Engine::Native),
        ("FROM scratch AS unused\nRUN make\nFROM scratch\n", Engine::Native),
        ("FROM scratch AS used\nRUN make\nFROM used\n", Engine::Buildah),
        ("FROM scratch\nADD https://example.org/x /\n", Engine::Buildah),
    ] {
        let mut options = Workplace::new(dockerfile).options();
        let workplace = Workplace::new(dockerfile);
        options.folder = workplace.path("image");
        options.dockerfile = workplace.path("image/Dockerfile");
        options.engine = Engine::Auto;
        assert_eq!(Build::plan(options).unwrap().engine(), expected, "{dockerfile}");
    }
}

/// A root file system with a shell: the one that runs the tests.
pub(super) fn with_shell(workplace: Workplace) -> Workplace {
    let root = workplace.path("image/shell");
    for (from, to) in [
        ("/bin/sh", "bin/sh"),
        ("/bin/cat", "bin/cat"),
        ("/bin/ln", "bin/ln"),
        ("/bin/rm", "bin/rm"),
        ("/bin/mkdir", "bin/mkdir"),
    ] {
        copy_program(Path::new(from), &root, to);
    }
    workplace
}

/// Copies a program and the libraries that it is linked with.
fn copy_program(program: &Path, root: &Path, to: &str) {
    let copy = |from: &Path, to: &Path| {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    copy(program, &root.join(to));
    let output = Command::new("ldd").arg(program).output().unwrap();
    for word in String::from_utf8(output.stdout).unwrap().split_whitespace().filter(|word| word.starts_with('/')) {
        copy(Path::new(word), &root.join(word.trim_start_matches('/')));
    }
}

/// buildah in a chroot, on a storage of its own, is for root.
pub(super) fn assert_root() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
}

#[test]
fn processes_run_between_native_instructions() {
    assert_root();
    let workplace = with_shell(Workplace::new(
        "FROM scratch AS base\n\
         COPY shell /\n\
         FROM base\n\
         ARG WHO=world\n\
         ENV GREETING=hello\n\
         COPY f /etc/f\n\
         RUN set -e && \\\n    echo \"$GREETING $WHO\" > /etc/made && rm /etc/f\n\
         RUN <<EOF\n\
         cat /etc/made > /etc/document\n\
         EOF\n\
         SHELL [\"/bin/sh\", \"-e\", \"-c\"]\n\
         WORKDIR /srv/app\n\
         RUN cat <<END > made; ln -s made link\n\
         in $PWD, $0\n\
         END\n\
         COPY f /srv/app/f\n\
         RUN set -euo pipefail && env-hash > /.env_hash\n",
    ))
    .file("f", "f");
    let make = |name: &str| workplace.build_as(name, |options| options.engine = Engine::Auto).unwrap();
    let built = make("result");
    let listing = built.listing();
    assert_eq!(listing["/etc/made"], "644 0:0 file \"hello world\\n\"");
    assert_eq!(listing["/etc/document"], "644 0:0 file \"hello world\\n\"");
    assert_eq!(listing["/srv/app/made"], "644 0:0 file \"in /srv/app, /bin/sh\\n\"");
    assert_eq!(listing["/srv/app/link"], "777 0:0 -> made");
    assert_eq!(listing["/srv/app/f"], "644 0:0 file \"f\"");
    assert!(!listing.contains_key("/etc/f"), "deleted by a process");
    assert!(listing.contains_key("/.env_hash"));
    let config = built.config();
    assert_eq!(config["config"]["Shell"], serde_json::json!(["/bin/sh", "-e", "-c"]));
    assert!(config["config"].get("Labels").is_none_or(|labels| labels.get("io.buildah.version").is_none()));
    let history = config["history"].as_array().unwrap();
    let layers = history.iter().filter(|line| line["empty_layer"] != true).count();
    assert_eq!(layers, built.image().manifest.layers().len());
    assert_eq!(make("again").digest, built.digest, "deterministic commands give one digest");
}

#[test]
fn what_processes_delete_and_replace_is_what_buildah_and_umoci_make_of_it() {
    assert_root();
    let mut workplace = with_shell(Workplace::new(
        "FROM scratch AS base\n\
         COPY shell /\n\
         FROM base\n\
         COPY t /t\n\
         RUN cd /t && rm -r to-file && echo file > to-file && rm -r to-link && ln -s other to-link && rm from-file && \\\n\
             mkdir from-file && echo in > from-file/in && rm from-link && mkdir from-link && echo in > from-link/in && \\\n\
             rm -r anew && mkdir anew && echo in > anew/in && rm -r gone emptied/x\n\
         COPY t/other /t/later\n\
         RUN cd /t && rm to-file && mkdir to-file && rm -r from-file later && ln -s /bin/sh from-file\n",
    ));
    for path in
        ["to-file/x", "to-link/x", "from-file", "other/x", "anew/x", "anew/deep/y", "gone/x", "emptied/x", "kept/x"]
    {
        workplace = workplace.file(&format!("t/{path}"), path);
    }
    let workplace = workplace.link("t/from-link", "other");
    for directory in
        ["t", "t/anew", "t/anew/deep", "t/kept", "t/other", "t/to-file", "t/to-link", "t/gone", "t/emptied"]
    {
        let path = workplace.path("image").join(directory);
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    workplace.build_as("ours", |options| options.engine = Engine::Buildah).unwrap();
    plain_buildah(&workplace);
    let below = |layout: &str| {
        let mut facts = facts(&workplace.path(layout), &workplace.path("work"));
        facts.retain(|path, _| path.starts_with("/t"));
        facts
    };
    let ours = below("ours");
    assert_eq!(ours, below("theirs"));
    assert_eq!(ours["/t/from-file"], "link 777 0:0 /bin/sh");
    assert_eq!(ours["/t/anew/in"], "file 644 0:0 \"in\\n\"");
    for gone in ["/t/anew/x", "/t/anew/deep", "/t/gone", "/t/emptied/x", "/t/later", "/t/to-file/x", "/t/from-file/in"]
    {
        assert!(!ours.contains_key(gone), "{gone}");
    }
}

/// Runs programs, and makes a file when one of them has said something.
struct Witness {
    system: System,
    said: &'static str,
    file: PathBuf,
}

impl Runner for Witness {
    fn run(&self, invocation: &Invocation, line: &mut dyn FnMut(&str)) -> io::Result<bool> {
        self.system.run(invocation, &mut |text| {
            line(text);
            if text == self.said {
                fs::write(&self.file, "").unwrap();
            }
        })
    }

    fn end_all(&self) {
        self.system.end_all();
    }
}

#[test]
fn a_failing_command_is_named_by_its_line() {
    assert_root();
    // buildah may end with a command before it has passed on what that said last: so this one waits until it is heard.
    let mut workplace = with_shell(Workplace::new(
        "FROM scratch\nCOPY shell /\nARG A=1\nRUN echo fine\n\
         RUN --mount=type=bind,from=heard,target=/heard \\\n  echo this is why >&2; until [ -e /heard/it ]; do :; done; exit 3\n",
    ));
    let heard = workplace.path("heard");
    fs::create_dir(&heard).unwrap();
    workplace.runner = Arc::new(Witness { system: System::default(), said: "this is why", file: heard.join("it") });
    let (said, _) = workplace.refusal(|options| {
        options.engine = Engine::Auto;
        options.contexts.insert("heard".to_owned(), NamedContext::Directory(heard));
    });
    assert!(said.starts_with("image/Dockerfile:5: the command failed: "), "{said}");
    assert!(said.ends_with("exit status 3 (this is why)"), "{said}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&workplace.path("work").display().to_string()), "nothing stays mounted");
}

/// Builds with buildah itself, untouched, for comparison.
fn plain_buildah(workplace: &Workplace) -> Reference {
    let run = |arguments: &[&str]| {
        let output = Command::new("buildah")
            .args(["--root", "s/root", "--runroot", "s/run", "--storage-driver", "vfs"])
            .args(arguments)
            .current_dir(workplace.path(""))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(&["bud", "--isolation", "chroot", "--quiet", "--tag", "compared", "image"]);
    run(&["push", "--quiet", "compared", "oci:theirs:v1"]);
    format!("oci:{}:v1", workplace.path("theirs").display()).parse().unwrap()
}

#[test]
fn copying_means_what_it_means_to_buildah() {
    assert_root();
    for dockerfile in [
        "FROM scratch\nCOPY d /to\n",
        "FROM scratch\nCOPY d/ /to/\n",
        "FROM scratch\nCOPY f /to\nCOPY f /dir/\nCOPY f g /both/\n",
        "FROM scratch\nCOPY d/*.txt /texts/\nCOPY d/sub* /subs/\n",
        "FROM scratch\nWORKDIR /work\nCOPY f .\nCOPY d sub\nCOPY f deep/er/\n",
        "FROM scratch\nCOPY . /all/\n",
        "FROM scratch\nCOPY --chown=7:8 d /owned\nCOPY --chmod=600 f /private\n",
        "FROM scratch AS a\nCOPY d /x\nCOPY f /x/f\nFROM scratch\nCOPY --from=a /x /y\nCOPY --from=a /x/f /z\n",
        "FROM scratch\nCOPY d /to\nCOPY e /to\n",
        "FROM scratch\nCOPY [\"f\", \"/with space/\"]\nARG D=/by/arg\nCOPY f ${D}/\n",
        "FROM scratch\nADD a.tar /un\n",
    ] {
        let workplace = Workplace::new(dockerfile)
            .file("f", "f")
            .file("g", "g")
            .file("d/a.txt", "a")
            .file("d/b.md", "b")
            .file("d/sub/c.txt", "c")
            .file("e/a.txt", "other")
            .file("ignored/x", "x")
            .file("ignored/kept", "k")
            .program("d/run.sh")
            .link("d/link", "a.txt")
            .file(".dockerignore", "ignored/*\n!ignored/kept\n*.tar\n!a.tar\n");
        let mut archive = tar::Builder::new(fs::File::create(workplace.path("image/a.tar")).unwrap());
        let mut header = tar::Header::new_ustar();
        header.set_size(2);
        header.set_mode(0o644);
        archive.append_data(&mut header, "in/archive", &b"hi"[..]).unwrap();
        archive.finish().unwrap();
        // Only the modes that a checkout has: what a umask adds means nothing to us and something to buildah.
        for directory in ["", "d", "d/sub", "e", "ignored"] {
            let path = workplace.path("image").join(directory);
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        fs::set_permissions(workplace.path("image/a.tar"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .unwrap();
        let theirs = listing(&plain_buildah(&workplace));
        assert_eq!(workplace.build().listing(), theirs, "{dockerfile}");
    }
}
