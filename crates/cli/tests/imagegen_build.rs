//! `vast-imagegen build`, the binary: exit codes, what is printed where, and that failures leave nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use vast_testkit::image::ImageBuilder;
use vast_testkit::registry::{Access, Behaviour, Fault, Kind, Registry};

/// A folder to build, a registry to publish to, and places of the binary's own for everything else.
struct Bench {
    directory: TempDir,
    registry: Registry,
}

impl Bench {
    fn new(dockerfile: &str) -> Self {
        let bench = Self { directory: tempfile::tempdir().unwrap(), registry: Registry::start() };
        for folder in ["image", "tmp", "cache"] {
            fs::create_dir(bench.path(folder)).unwrap();
        }
        bench.file("Dockerfile", dockerfile)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(self, name: &str, content: &str) -> Self {
        let path = self.path("image").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TMPDIR", self.path("tmp"))
            .env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    fn build(&self, arguments: &[&str]) -> Output {
        self.run(self.command(env!("CARGO_BIN_EXE_vast-imagegen")), arguments)
    }

    fn run(&self, mut command: Command, arguments: &[&str]) -> Output {
        let to = self.registry.reference("team/app:v1");
        let output = command.args(["build", "image", "--to", &to]).args(arguments).output().unwrap();
        assert_eq!(fs::read_dir(self.path("tmp")).unwrap().count(), 0, "nothing temporary is left");
        output
    }

    /// The last line on standard error of a build that must fail with exit code 2, having published nothing.
    fn refusal(&self, arguments: &[&str]) -> String {
        self.refused(&self.build(arguments))
    }

    fn refused(&self, output: &Output) -> String {
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(text(&output.stdout), "");
        assert_eq!(self.registry.tags("team/app"), [""; 0], "nothing is tagged");
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("vast-imagegen: ")).collect();
        assert_eq!(errors.len(), 1, "one message: {said}");
        errors[0].to_owned()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_build_ends_with_its_reference_and_digest() {
    let bench = Bench::new("FROM scratch\nCOPY ./ROOT /\n").file("ROOT/etc/x", "x");
    let output = bench.build(&[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let digest = bench.registry.tag("team/app", "v1").unwrap();
    let to = bench.registry.reference("team/app:v1");
    assert_eq!(text(&output.stdout), format!("docker://{to}@{digest}\n"));
    assert!(text(&output.stderr).contains("COPY ./ROOT /\n"), "progress goes to standard error");
    let again = bench.build(&["--json"]);
    let document: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(document["digest"], digest.as_str());
    assert_eq!(document["engine"], "native");
    assert_eq!(document["images"][0]["layers"].as_array().unwrap().len(), 1);
}

#[test]
fn a_dry_run_shows_the_steps_and_publishes_nothing() {
    let bench = Bench::new("FROM scratch AS unused\nFROM scratch\nCOPY a b\nRUN make\n");
    let output = bench.build(&["--dry-run"]);
    assert!(output.status.success());
    let to = bench.registry.reference("team/app:v1");
    assert_eq!(
        text(&output.stdout),
        format!("engine: buildah\nFROM scratch\nCOPY a b\nRUN make\npublish: docker://{to}\n")
    );
    assert_eq!(bench.registry.log(), [], "no request was made");
}

#[test]
fn bad_input_is_one_message_with_its_place_and_leaves_nothing() {
    for (dockerfile, arguments, expected) in [
        ("FROM scratch\n\nCOPPY a b\n", &[][..], "vast-imagegen: image/Dockerfile:3: unknown instruction `COPPY`"),
        (
            "FROM scratch\nRUN apt-get update\n",
            &["--engine", "native"],
            "vast-imagegen: image/Dockerfile:2: the native engine cannot run `apt-get update`: it starts no process",
        ),
        (
            "FROM scratch\nLABEL a=b\nCOPY ./ROOT /\n",
            &[],
            "vast-imagegen: image/Dockerfile:3: `./ROOT` does not exist in the build context `image`",
        ),
        (
            "FROM scratch\nCOPY out /x\n",
            &[],
            "vast-imagegen: image/Dockerfile:2: `out` leads out of the build context `image`: `image/out` points to `/etc/passwd`",
        ),
        (
            "FROM scratch\nCOPY links /\n",
            &[],
            "vast-imagegen: image/Dockerfile:2: `links/etc/evil` points to `../../../../etc/passwd`, which climbs above the root of the image",
        ),
        (
            "FROM scratch\nCOPY pipes /\n",
            &[],
            "vast-imagegen: image/Dockerfile:2: `pipes/p` is a named pipe, which cannot be copied into an image",
        ),
        (
            "FROM scratch\n",
            &["--build-context", "x=/none"],
            "vast-imagegen: cannot build `image`: build context `x`: `/none` is not a directory",
        ),
        (
            "FROM scratch\n",
            &["--file", "none"],
            "vast-imagegen: cannot read `none`: No such file or directory (os error 2)",
        ),
    ] {
        let bench = Bench::new(dockerfile);
        let image = bench.path("image");
        symlink("/etc/passwd", image.join("out")).unwrap();
        fs::create_dir_all(image.join("links/etc")).unwrap();
        fs::create_dir(image.join("pipes")).unwrap();
        symlink("../../../../etc/passwd", image.join("links/etc/evil")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            image.join("pipes/p"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert_eq!(bench.refusal(arguments), expected);
    }
}

#[test]
fn a_base_that_cannot_be_had_is_one_message_with_its_line_and_reference() {
    let bases = Registry::start();
    bases.push("team/base", "arm", &ImageBuilder::new().platform("linux/arm64").file("a", b"1").build());
    bases.push("team/base", "cut", &ImageBuilder::new().file("a", b"1").build());
    bases.fault(Fault::new("GET", "/manifests/cut", Kind::Cut));
    let gone = Registry::start().reference("team/base:v1");
    let access = Access::Basic { user: "user".to_owned(), password: "secret".to_owned() };
    let private = Registry::start_with(Behaviour { access, ..Behaviour::default() });
    let digest = format!("team/base@sha256:{}", "0".repeat(64));
    for (base, expected) in [
        (bases.reference("team/base:v9"), "no tag v9"),
        (bases.reference(&digest), "no manifest"),
        (bases.reference("team/base:arm"), "linux/arm64"),
        (bases.reference("team/base:cut"), "was cut, 2 times"),
        (gone, "cannot be reached"),
        (private.reference("team/base:v1"), "asks for credentials"),
    ] {
        for engine in ["native", "buildah"] {
            let bench = Bench::new("ARG BASE\nFROM ${BASE}\nCOPY Dockerfile /\n");
            let argument = format!("BASE={base}");
            let arguments =
                ["--build-arg", &argument, "--platform", "linux/amd64", "--attempts", "2", "--engine", engine];
            let said = bench.refusal(&arguments);
            let place = "vast-imagegen: image/Dockerfile:2: ";
            assert!(said.starts_with(place) && said.contains(&base) && said.contains(expected), "{engine}: {said}");
        }
    }
}

#[test]
fn a_target_that_fails_is_one_message_with_its_reference_and_has_no_tag() {
    for kind in [Kind::Status(500), Kind::CutUpload(50), Kind::Status(403)] {
        let bench = Bench::new("FROM scratch\nCOPY Dockerfile /\n");
        bench.registry.fault(Fault::new("PUT", "/blobs/uploads/", kind));
        let said = bench.refusal(&["--attempts", "2"]);
        assert!(said.contains(&bench.registry.reference("team/app:v1")), "{said}");
        assert_eq!(bench.registry.open_uploads(), 0);
    }
}

#[test]
fn a_target_that_cannot_be_reached_is_what_could_not_be_written_to() {
    let bench = Bench::new("FROM scratch\nCOPY Dockerfile /\n");
    let gone = Registry::start().reference("team/app:v1");
    let output = bench
        .command(env!("CARGO_BIN_EXE_vast-imagegen"))
        .args(["build", "image", "--to", &gone, "--attempts", "1"])
        .output()
        .unwrap();
    let said = bench.refused(&output);
    assert!(
        said.contains(&format!("cannot write to `docker://{gone}`")) && said.contains("cannot be reached"),
        "{said}"
    );
}

#[test]
fn a_saved_archive_is_a_base_and_a_cut_one_is_refused() {
    let bench = Bench::new("ARG BASE\nFROM ${BASE}\nCOPY Dockerfile /\n");
    bench.registry.push("team/base", "v1", &ImageBuilder::new().platform("linux/amd64").file("a", b"1").build());
    let archive = bench.path("base.tar");
    let saved = bench
        .command("skopeo")
        .args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"])
        .arg(format!("docker://{}", bench.registry.reference("team/base:v1")))
        .arg(format!("docker-archive:{}:team/base:v1", archive.display()))
        .output()
        .unwrap();
    assert!(saved.status.success(), "{}", text(&saved.stderr));
    let argument = format!("BASE=docker-archive:{}", archive.display());
    let output = bench.build(&["--build-arg", &argument, "--platform", "linux/amd64", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["images"][0]["layers"].as_array().unwrap().len(), 2, "the base's and ours");

    let bench = Bench::new("ARG BASE\nFROM ${BASE}\nCOPY Dockerfile /\n");
    fs::write(bench.path("base.tar"), &fs::read(&archive).unwrap()[..1500]).unwrap();
    let said = bench.refusal(&["--build-arg", "BASE=docker-archive:base.tar"]);
    assert!(said.starts_with("vast-imagegen: image/Dockerfile:2: ") && said.contains("base.tar"), "{said}");
}

#[test]
fn an_unreadable_file_is_named() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let bench = Bench::new("FROM scratch\nCOPY ./ROOT /\n").file("ROOT/etc/secret", "x");
    // Root reads everything: the binary runs as somebody else, who may use all but this file.
    let readable = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for folder in ["", "image", "image/ROOT", "image/ROOT/etc"] {
        readable(&bench.path(folder), 0o755);
    }
    for folder in ["tmp", "cache"] {
        readable(&bench.path(folder), 0o777);
    }
    readable(&bench.path("image/ROOT/etc/secret"), 0o600);
    // The binary may lie where only root gets to.
    let binary = bench.path("vast-imagegen");
    fs::copy(env!("CARGO_BIN_EXE_vast-imagegen"), &binary).unwrap();
    let mut command = bench.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
    let said = bench.refused(&bench.run(command, &[]));
    assert!(
        said.starts_with("vast-imagegen: image/Dockerfile:2: cannot read `image/ROOT/etc/secret`: Permission denied"),
        "{said}"
    );
}

#[test]
fn the_folders_definition_gives_arguments_version_and_title() {
    let base = ImageBuilder::new().file("etc/base", b"base").build();
    let bench = Bench::new("ARG BASE=none\nFROM ${BASE}\nARG APP_REF\nLABEL ref=$APP_REF\n");
    bench.registry.push("team/base", "v1", &base);
    let definition = format!(
        "name = \"app\"\nlabel = \"App\"\nclass = \"derivative\"\nparent = \"base\"\nref-arg = \"APP_REF\"\n\
         [matrix]\nBASE = [\"{}/team/base:v1\", \"other\"]\nAPP_REF = [\"v1.2\"]\n",
        bench.registry.host()
    );
    let bench = bench.file("image.toml", &definition);
    let labels = |arguments: &[&str]| {
        let output = bench.build(arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let manifest: serde_json::Value =
            serde_json::from_slice(&bench.registry.manifest("team/app", "v1").unwrap()).unwrap();
        let digest = manifest["config"]["digest"].as_str().unwrap().to_owned();
        let config: serde_json::Value =
            serde_json::from_slice(&bench.registry.blob("team/app", &digest).unwrap()).unwrap();
        config["config"]["Labels"].clone()
    };
    let defaults = labels(&[]);
    assert_eq!(defaults["ref"], "v1.2");
    assert_eq!(defaults["org.opencontainers.image.version"], "v1.2");
    assert_eq!(defaults["org.opencontainers.image.title"], "App");
    assert_eq!(defaults["org.opencontainers.image.base.digest"], base.digest());
    assert!(defaults.get("org.opencontainers.image.revision").is_none());
    let given = labels(&["--build-arg", "APP_REF=v2", "--revision", "abc"]);
    assert_eq!(given["ref"], "v2");
    assert_eq!(given["org.opencontainers.image.version"], "v2");
    assert_eq!(given["org.opencontainers.image.revision"], "abc");
}

#[test]
fn a_bad_definition_or_epoch_is_named() {
    let bench = Bench::new("FROM scratch\n").file("image.toml", "name = \"app\"\nlabl = \"App\"\n");
    let said = bench.refusal(&[]);
    assert!(said.starts_with("vast-imagegen: cannot use `image/image.toml`: line 2: unknown field `labl`"), "{said}");
    let bench = Bench::new("FROM scratch\n");
    let mut command = bench.command(env!("CARGO_BIN_EXE_vast-imagegen"));
    command.env("SOURCE_DATE_EPOCH", "yesterday");
    let said = bench.refused(&bench.run(command, &[]));
    assert_eq!(
        said,
        "vast-imagegen: cannot build `image`: SOURCE_DATE_EPOCH is `yesterday`, which is no number of seconds since 1970"
    );
}

#[test]
fn the_base_images_folder_is_a_context_without_being_named() {
    let bench = Bench::new("FROM scratch\n");
    let tree = bench.path("tree/images");
    for folder in ["base/ROOT/etc", "external/app"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    fs::write(tree.join("base/Dockerfile"), "FROM scratch\n").unwrap();
    fs::write(tree.join("base/ROOT/etc/shared"), "shared").unwrap();
    fs::write(tree.join("external/app/Dockerfile"), "FROM scratch\nCOPY --from=base_image_source /ROOT /\n").unwrap();
    let to = bench.registry.reference("team/app:v1");
    let mut command = bench.command(env!("CARGO_BIN_EXE_vast-imagegen"));
    let output = command.args(["build", "tree/images/external/app", "--to", &to]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn only_a_layer_that_stays_on_its_disk_is_flushed_before_it_is_published() {
    // Random, so that it is as large when it is compressed: more than is flushed at once.
    let noise =
        std::iter::successors(Some(1_u64), |last| Some(last.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1)));
    let noise: Vec<u8> = noise.take(18 << 20).map(|number| number.to_le_bytes()[7]).collect();
    let bench = Bench::new("FROM scratch\nCOPY noise /\n");
    fs::write(bench.path("image/noise"), noise).unwrap();
    let flushes = |command: &[&str], to: &str| {
        let log = bench.path("calls");
        let mut strace = bench.command("strace");
        // What is published in a layout is made durable by `fsync`.
        strace.args(["-f", "-qq", "-e", "trace=fdatasync", "-o"]).arg(&log).arg(env!("CARGO_BIN_EXE_vast-imagegen"));
        strace.args(command).args(["--compression", "zstd", "--to", to]);
        let output = strace.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        fs::read_to_string(log).unwrap().matches("fdatasync(").count()
    };
    let (build, extend) = (["build", "image"], ["extend", "oci:out:v1", "--overlay", "image"]);
    for (number, command) in [&build[..], &extend[..]].into_iter().enumerate() {
        assert_ne!(flushes(command, &format!("oci:out:v{}", number + 1)), 0, "{command:?}");
        assert_eq!(flushes(command, &bench.registry.reference("team/app:v1")), 0, "{command:?}");
    }
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    assert_eq!(flushes(&build, &format!("oci:{}/out:v1", elsewhere.path().display())), 0, "another disk");
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let bench = Bench::new("FROM scratch\n");
    let output = bench.build(&["--engine", "magic"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("`magic` is not an engine"), "{}", text(&output.stderr));
}

#[test]
fn an_interrupted_build_leaves_nothing() {
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;

    // A registry that never answers holds the build where it can be interrupted.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("{}/team/base:v1", silent.local_addr().unwrap());
    let bench = Bench::new(&format!("FROM {base}\nCOPY Dockerfile /\n"));
    let to = bench.registry.reference("team/app:v1");
    let mut command = bench.command(env!("CARGO_BIN_EXE_vast-imagegen"));
    command.args(["build", "image", "--to", &to]).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("FROM docker://"));
    silent.accept().unwrap();
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert_eq!(lines.next().unwrap().unwrap(), "vast-imagegen: the work was interrupted");
    assert_eq!(fs::read_dir(bench.path("tmp")).unwrap().count(), 0, "nothing temporary is left");
}

#[test]
fn an_interrupted_process_is_ended_and_leaves_nothing() {
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;

    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let bench = Bench::new("FROM scratch\nCOPY shell /\nRUN echo has begun; sleep 1000\n");
    let root = bench.path("image/shell");
    let copy = |from: &Path| {
        let to = root.join(from.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    copy(Path::new("/bin/sh"));
    copy(Path::new("/bin/sleep"));
    let linked = Command::new("ldd").arg("/bin/sh").output().unwrap();
    text(&linked.stdout).split_whitespace().filter(|word| word.starts_with('/')).for_each(|word| copy(Path::new(word)));
    let to = bench.registry.reference("team/app:v1");
    let mut command = bench.command(env!("CARGO_BIN_EXE_vast-imagegen"));
    command.args(["build", "image", "--to", &to]).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.trim() == "has begun"));
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert!(lines.any(|line| line == "vast-imagegen: the work was interrupted"));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&bench.path("tmp").display().to_string()), "nothing stays mounted");
    assert_eq!(fs::read_dir(bench.path("tmp")).unwrap().count(), 0, "nothing temporary is left");
    assert_eq!(bench.registry.tags("team/app"), [""; 0]);
}
