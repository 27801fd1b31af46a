//! Instances that share a volume: two at once, a reboot of one, and a snapshot of it that becomes a third.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use vast_tests::container::{Container, Options};
use vast_tests::instance::{
    STOP_GRACE, environment_of, inside, options, stages, until_running, until_served, until_up,
};
use vast_tests::prepared::{Prepared, prepare};
use vast_tests::program;
use vast_tests::ssh::{self, Key};

const EVERY_PROGRAM: [&str; 5] = ["caddy", "cron", "hello", "instance_portal", "jupyter"];
const MOVES: [&str; 2] = ["35-sync-home-dirs.sh", "37-sync-environment.sh"];
const SSH_PORT: u16 = 22;

/// What templates and their users put into variables, as far as a shell could take it for something else.
const HOSTILE: [(&str, &str); 5] = [
    ("QUOTES", r#"it's "quoted" \ back\\slash"#),
    ("EXPANSIONS", "$HOME `id` $(id) ${PATH} %(ENV_HOME)s %s"),
    ("SEVERAL_LINES", "\n first\r\nsecond 'line'\n\n"),
    ("SPACES", " \t both ends \t "),
    ("EXTRA", "of the first boot"),
];

/// One instance of the fleet, which can be booted again and again.
struct Instance {
    id: &'static str,
    folder: PathBuf,
    options: Options,
    key: Key,
}

impl Instance {
    fn new(id: &'static str, above: &Path, volume: &Path) -> Self {
        let folder = above.join(id);
        fs::create_dir(&folder).unwrap();
        let key = Key::new(&folder, "key").unwrap();
        let label = format!("C.{id}");
        let mut options = options(&HOSTILE);
        options.environment.extend(
            [("CONTAINER_ID", id), ("VAST_CONTAINERLABEL", &label)]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        options.arguments.extend(["--sync-environment", "--sync-home"].map(str::to_owned));
        options.volumes = vec![(volume.to_owned(), "/workspace".to_owned())];
        options.prepare = key.install().unwrap()
            + "mkdir -p etc/vast_boot.d/first_boot\necho 'echo ran >>/first-boot' >etc/vast_boot.d/first_boot/10-note.sh\n";
        Self { id, folder, options, key }
    }

    fn boot(&self, prepared: &Prepared) -> Container {
        Container::boot(&prepared.hello, &self.folder, &self.options).unwrap()
    }

    /// Once it has booted, its home is a link that would lead out of the container while that is prepared.
    fn is_set_up(&mut self) {
        self.options.prepare.clear();
    }
}

fn stop(container: &mut Container) {
    container.signal(Signal::TERM).unwrap();
    let status = container.wait(STOP_GRACE).unwrap();
    assert_eq!(status.code(), Some(0), "{}", program::end_of(&container.console()));
}

/// Everything of an instance runs, its homes and its environment are on the volume, and its own key opens it.
fn assert_complete(container: &mut Container, instance: &Instance, env_id: &str) {
    until_served(container).unwrap();
    until_running(container, &EVERY_PROGRAM).unwrap();
    until_up(container).unwrap();
    let shared = format!("/workspace/.environment_sync/{env_id}");
    for (link, target) in [
        ("/venv/main", &*format!("{shared}/venv/main")),
        ("/root", "/workspace/home/root"),
        ("/home/user", "/workspace/home/user"),
    ] {
        assert_eq!(fs::read_link(container.path(link)).unwrap(), Path::new(target), "{}", instance.id);
    }
    let python = "import notebook, os, sys; print(sys.prefix, os.path.realpath(notebook.__file__))";
    let said = inside(container, "/venv/main/bin/python", &["-c", python]).unwrap();
    assert!(said.starts_with(&format!("/venv/main {shared}/venv/main/lib/")), "{said}");

    ssh::serve(container, SSH_PORT, &[]).unwrap();
    for (user, home) in [("root", "/workspace/home/root"), ("user", "/workspace/home/user")] {
        let said = ssh::log_in(container, SSH_PORT, &instance.key, user, "id -un; cd && pwd -P").unwrap().unwrap();
        assert_eq!(said, format!("{user}\n{home}"), "{}", instance.id);
    }
}

/// Both environments of the application: the one it was started with, and what its script made of it.
fn assert_variables(container: &Container, expected: &[(&str, &str)]) {
    for process in ["hello.sh", "app.py"] {
        let environment = environment_of(container, process).unwrap();
        let records: BTreeSet<&[u8]> = environment.split(|byte| *byte == 0).collect();
        for (name, value) in expected {
            let record = format!("{name}={value}");
            assert!(records.contains(record.as_bytes()), "{process}: {record:?}");
        }
    }
}

fn environment_file(container: &Container) -> String {
    fs::read_to_string(container.path("/etc/environment")).unwrap()
}

#[test]
fn two_instances_fill_a_volume_once_and_a_reboot_and_a_snapshot_find_all_of_it() {
    let prepared = prepare().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("volume");
    fs::create_dir(&volume).unwrap();
    // As stage 10 makes a workspace: `user` is of root's group.
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o775)).unwrap();
    let env_id = fs::read_to_string(prepared.hello.rootfs.join(".env_hash")).unwrap().trim().to_owned();
    let mut instances = ["4242", "4343"].map(|id| Instance::new(id, folder.path(), &volume));
    let mut containers = instances.each_ref().map(|instance| instance.boot(&prepared));

    for (container, instance) in containers.iter_mut().zip(&mut instances) {
        assert_complete(container, instance, &env_id);
        assert_variables(container, &HOSTILE);
        assert_eq!(fs::read_to_string(container.path("/first-boot")).unwrap(), "ran\n");
        instance.is_set_up();
    }
    // Exactly one of them copied, the environment and the homes alike, and signed for it.
    let marks = [volume.join("home/.synced"), volume.join(".environment_sync").join(&env_id).join(".synced")];
    let marked = marks.each_ref().map(|mark| fs::read_to_string(mark).unwrap());
    for (stage, mark) in MOVES.iter().zip(&marked) {
        let copied: Vec<&str> = containers
            .iter()
            .zip(&instances)
            .filter(|(container, instance)| {
                let (outcome, message) = stages(container).unwrap().remove(*stage).unwrap();
                assert_eq!(outcome, "done", "{}: {message}", instance.id);
                !message.ends_with(", found complete there")
            })
            .map(|(_, instance)| instance.id)
            .collect();
        assert_eq!(copied.len(), 1, "{stage}: {copied:?}");
        assert!(mark.contains(&format!("instance C.{}\n", copied[0])), "{stage}: {mark}");
    }
    // Keys stay where they are: what opens one instance does not open the other.
    let [first, second] = &mut containers;
    assert!(ssh::log_in(first, SSH_PORT, &instances[1].key, "user", "true").unwrap().is_err());

    // The user settles in.
    let settle = "echo mine >notes && cd /workspace && echo ours >shared";
    ssh::log_in(first, SSH_PORT, &instances[0].key, "user", settle).unwrap().unwrap();
    let written = environment_file(first);
    let edited = written.replace("EXTRA=\"of the first boot\"", "EXTRA='as the user has it'") + "MINE='kept'\n";
    assert!(written.starts_with("# Template controlled environment for C.4242\nPATH=") && edited.contains("user has"));
    fs::write(first.path("/etc/environment"), &edited).unwrap();

    // A reboot, under a template that changed meanwhile.
    stop(first);
    instances[0].options.environment.insert("EXTRA".to_owned(), "of the second boot".to_owned());
    *first = instances[0].boot(&prepared);
    assert_complete(first, &instances[0], &env_id);
    assert_eq!(environment_file(first), edited);
    assert_variables(first, &[&HOSTILE[..4], &[("EXTRA", "as the user has it"), ("MINE", "kept")]].concat());
    assert_eq!(fs::read_to_string(first.path("/first-boot")).unwrap(), "ran\n", "a first boot is the first alone");
    for stage in MOVES {
        let told = stages(first).unwrap().remove(stage).unwrap();
        assert_eq!(told, ("skipped".into(), "all is on the volume already".into()), "{stage}");
    }

    // A snapshot: the writable layer of the instance that was stopped, under a new number, on the same volume.
    stop(first);
    let mut moved = Instance {
        id: "5151",
        folder: folder.path().join("5151"),
        options: instances[0].options.clone(),
        key: Key::new(folder.path(), "stranger").unwrap(),
    };
    std::mem::swap(&mut moved.key, &mut instances[0].key);
    for (name, value) in [("CONTAINER_ID", "5151"), ("VAST_CONTAINERLABEL", "C.5151"), ("EXTRA", "of the snapshot")] {
        moved.options.environment.insert(name.to_owned(), value.to_owned());
    }
    fs::create_dir(&moved.folder).unwrap();
    program::run(Command::new("cp").arg("-a").arg(instances[0].folder.join("upper")).arg(&moved.folder)).unwrap();
    let mut third = moved.boot(&prepared);
    assert_complete(&mut third, &moved, &env_id);
    let environment = environment_file(&third);
    assert!(environment.starts_with("# Template controlled environment for C.5151\nPATH="), "{environment}");
    assert!(!environment.contains("MINE") && !environment.contains("4242"), "{environment}");
    assert_variables(&third, &[&HOSTILE[..4], &[("EXTRA", "of the snapshot")]].concat());
    assert_eq!(fs::read_to_string(volume.join("home/user/notes")).unwrap(), "mine\n");
    assert_eq!(fs::read_to_string(third.path("/workspace/shared")).unwrap(), "ours\n");
    assert_eq!(marks.map(|mark| fs::read_to_string(mark).unwrap()), marked, "nobody copied again");

    // The one that stayed up noticed nothing of all that.
    until_running(second, &EVERY_PROGRAM).unwrap();
    until_served(second).unwrap();
}
