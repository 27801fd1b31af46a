//! `/etc/environment` as the real binary writes and loads it: what was set comes back to the byte in every shell, each instance gets a
//! file of its own, and what a user changes stays.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::Command;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::process::{Pid, Signal, kill_process};

use super::harness::{Fake, OVERLAID_ROOT, Started, VAST_BOOT, wait_until};

type Variables = BTreeMap<OsString, OsString>;

/// Prepares the overlaid root for many boots, and keeps its namespaces. The last stage tells what the sequence has in its environment.
const KEEP: &str = r"
rm -rf etc/environment etc/vast_boot.d workspace
mkdir -p etc/vast_boot.d workspace
echo '/usr/bin/env -0 >/sequence' >etc/vast_boot.d/20-tell.sh
touch kept
exec chroot . sleep infinity
";

/// A root that can be booted again and again. Its namespaces end with it.
struct System {
    first: Pid,
    _keeper: Started,
    _fake: Fake,
}

impl System {
    fn new() -> Self {
        let fake = Fake::new();
        let namespaces = ["--mount", "--pid", "--uts", "--fork", "--mount-proc", "--kill-child", "sh", "-c"];
        let mut command = fake.command("unshare", namespaces);
        let keeper = Started::new(command.arg(format!("{OVERLAID_ROOT}{KEEP}")).env("HIDE", ""));
        let first = keeper.first_process();
        let system = Self { first, _keeper: keeper, _fake: fake };
        wait_until("the root is ready", || system.path("/kept").exists());
        system
    }

    fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first.as_raw_pid()))
    }

    /// A command in the namespaces, with an empty environment.
    fn command<S: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("/usr/bin/nsenter");
        command.args(["--target", &self.first.as_raw_pid().to_string(), "--mount", "--pid", "--uts", "--root", "--wd"]);
        command.args(["--", program]).args(arguments).env_clear();
        command
    }

    /// Boots stage 10 with these variables alone, and gives what the stages after it have.
    fn boot(&self, variables: &Variables, flags: &[&str]) -> Variables {
        let mut command = self.command(VAST_BOOT, ["run", "--only", "10,20"]);
        let output = command.args(flags).envs(variables).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(!said.contains("10-prep-env.sh: "), "{said}");
        records(&fs::read(self.path("/sequence")).unwrap())
    }

    /// The file.
    fn file(&self) -> Vec<u8> {
        fs::read(self.path("/etc/environment")).unwrap()
    }

    /// Its first line.
    fn first_line(&self) -> String {
        String::from_utf8_lossy(self.file().split(|byte| *byte == b'\n').next().unwrap()).into_owned()
    }

    /// Appends to the file, as a user does.
    fn append(&self, text: &str) {
        fs::write(self.path("/etc/environment"), [&*self.file(), text.as_bytes()].concat()).unwrap();
    }

    /// What a fresh shell has exported after sourcing the file, and that it said nothing.
    fn sourced(&self, shell: &str, locale: &str) -> Variables {
        let script = "set -a; . /etc/environment; exec /usr/bin/env -0";
        let output = self.command(shell, ["-euc", script]).env("LC_ALL", locale).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{shell}: {said}");
        records(&output.stdout)
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // `sleep` as process 1 takes no notice of a TERM.
        let _ = kill_process(self.first, Signal::KILL);
    }
}

/// `NAME=value` records ended by NUL.
fn records(bytes: &[u8]) -> Variables {
    let pairs = bytes.split(|byte| *byte == 0).filter_map(|record| {
        let cut = record.iter().position(|byte| *byte == b'=')?;
        Some((OsString::from_vec(record[..cut].to_vec()), OsString::from_vec(record[cut + 1..].to_vec())))
    });
    pairs.collect()
}

/// The value of a variable, as text.
fn value<'a>(variables: &'a Variables, name: &str) -> Option<&'a str> {
    variables.get(OsStr::new(name)).map(|value| value.to_str().unwrap())
}

fn variables(pairs: &[(&str, &str)]) -> Variables {
    pairs.iter().map(|&(name, value)| (name.into(), value.into())).collect()
}

/// Names that a template may set and that are not to be in the file: no identifiers, of one process or one shell, or of conda.
const LEFT_OUT: [&str; 31] = [
    "1A",
    "A-B",
    "A.B",
    "A B",
    "\u{e9}",
    "BASH_FUNC_f%%",
    "HOME",
    "SHLVL",
    "CONDA_PREFIX",
    "_CE_CONDA",
    "MYCONDAS",
    "_",
    "UID",
    "EUID",
    "PPID",
    "SHELLOPTS",
    "BASHOPTS",
    "PWD",
    "OLDPWD",
    "IFS",
    "OPTIND",
    "RANDOM",
    "SECONDS",
    "LINENO",
    "PIPESTATUS",
    "BASH_ALIASES",
    "BASH_CMDS",
    "BASH_COMPAT",
    "BASH_XTRACEFD",
    "COMP_WORDBREAKS",
    "BASH_SUBSHELL",
];

/// Names that mean something to a shell or to others, and that are a template's all the same.
const KEPT: [&str; 20] = [
    "A",
    "a1",
    "__x",
    "MAIL",
    "CDPATH",
    "PS1",
    "PS4",
    "TERM",
    "HISTSIZE",
    "HISTFILE",
    "REPLY",
    "OPTARG",
    "TIMEFORMAT",
    "LANGUAGE",
    "HOSTNAME",
    "LINES",
    "PROMPT_COMMAND",
    "name",
    "value",
    "shell",
];

fn names() -> impl Strategy<Value = OsString> {
    prop_oneof![
        6 => "[A-Za-z_][A-Za-z0-9_]{0,12}_".prop_map(OsString::from),
        2 => prop::sample::select(KEPT.to_vec()).prop_map(OsString::from),
        2 => prop::sample::select(LEFT_OUT.to_vec()).prop_map(OsString::from),
    ]
}

/// What shells care about, text of any kind, and bytes that are none; now and then as much as the kernel takes for one variable.
fn values() -> impl Strategy<Value = OsString> {
    let piece = prop_oneof![
        4 => "[ -~]{0,6}".prop_map(String::into_bytes),
        4 => prop::sample::select(vec![
            "'", "\"", "$", "`", "\\", "\n", "\n\n", "\\\n", "\r", "\r\n", "!", "#", "~", "$(id)", "${PATH}", "`id`", "\\n", "%s", "'\\''",
            "\nPATH=/evil\n", " ", "\t", "$'x'", "*", ";", "&", "\u{e9}", "\u{1f600}", "-n", "\\c", "\\0101", "\u{1b}[0m",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(1_u8..=255, 0..4),
    ];
    let text = vec(piece, 0..6).prop_map(|pieces| pieces.concat());
    // 128 KiB with its name and its end.
    let huge = text.clone().prop_map(|text| text.repeat(100_000 / text.len().max(1)));
    prop_oneof![30 => text, 1 => huge].prop_map(OsString::from_vec)
}

fn is_written(name: &OsStr) -> bool {
    LEFT_OUT.iter().all(|left_out| *left_out != name)
}

/// Without the prompts, which bash drops, or takes from nobody as root, when it starts for a stage.
fn seen_by_stages(set: &Variables) -> Variables {
    set.iter()
        .filter(|(name, _)| *name != "PS1" && *name != "PS4")
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// That all of `expected` that belongs into the file is in `found`, to the byte, and nothing that does not.
fn compare(found: &Variables, expected: &Variables, context: &str) -> Result<(), TestCaseError> {
    for (name, value) in expected.iter().filter(|(name, _)| is_written(name)) {
        prop_assert_eq!(
            found.get(name).map(|value| value.as_bytes()),
            Some(value.as_bytes()),
            "{:?} {}",
            name,
            context
        );
    }
    Ok(())
}

#[test]
fn every_value_comes_back_to_the_byte_in_bash_in_dash_and_in_the_next_boot() {
    let system = System::new();
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    let cases = (btree_map(names(), values(), 1..40), prop::sample::select(vec!["C", "C.UTF-8"]));
    let instance = Cell::new(0);
    let checked = TestRunner::new(config).run(&cases, |(mut set, locale)| {
        instance.set(instance.get() + 1);
        // What stage 10 itself needs or makes.
        let fixed = [
            ("PATH", "/usr/sbin:/usr/bin:/bin"),
            ("WORKSPACE", "/workspace"),
            ("HF_HOME", "/h h"),
            ("DATA_DIRECTORY", "/d"),
        ];
        set.extend(variables(&fixed));
        set.insert("CONTAINER_ID".into(), instance.get().to_string().into());
        compare(&system.boot(&set, &[]), &seen_by_stages(&set), "in the sequence")?;
        let file = system.file();
        for shell in ["bash", "dash"] {
            let found = system.sourced(shell, locale);
            compare(&found, &set, shell)?;
            for name in
                found.keys().filter(|name| !["LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"].iter().any(|own| own == name))
            {
                prop_assert!(set.contains_key(name) && is_written(name), "{:?} came from nowhere in {}", name, shell);
            }
        }
        // The template changes all of its values, and the file stays what it is.
        let changed: Variables = set
            .iter()
            .map(|(name, value)| {
                (
                    name.clone(),
                    if fixed.iter().any(|(fixed, _)| fixed == name) || name == "CONTAINER_ID" {
                        value.clone()
                    } else {
                        "changed".into()
                    },
                )
            })
            .collect();
        compare(&system.boot(&changed, &[]), &seen_by_stages(&set), "in the next boot")?;
        prop_assert_eq!(system.file(), file);
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn each_instance_has_a_file_of_its_own_and_a_users_changes_stay_in_it() {
    const HEADER: &str = "# Template controlled environment for C.";
    let system = System::new();
    let boot = |instance: &[(&str, &str)], set_to: &str| {
        let mut set = variables(&[&[("PATH", "/usr/bin:/bin"), ("A", set_to)][..], instance].concat());
        set.insert("BYTES".into(), OsString::from_vec(b"\xff\xe9".to_vec()));
        let left = system.boot(&set, &[]);
        assert_eq!(left.get(OsStr::new("BYTES")), set.get(OsStr::new("BYTES")));
        value(&left, "A").unwrap().to_owned()
    };
    assert_eq!(boot(&[("CONTAINER_ID", "7")], "first"), "first");
    assert_eq!(system.first_line(), format!("{HEADER}7"));
    let written = system.file();

    // The user changes a value, adds one and takes one away, with an editor that leaves the line ends of Windows.
    let edited = String::from_utf8_lossy(&written).replace("A=\"first\"", "A='the user''s'").replace('\u{fffd}', "x")
        + "MINE=\"new\"\r\n";
    fs::write(system.path("/etc/environment"), edited.replace("HF_HOME", "#HF_HOME").replace("BYTES", "#BYTES"))
        .unwrap();
    let edited = system.file();
    for _ in 0..2 {
        assert_eq!(boot(&[("CONTAINER_ID", "7")], "second"), "the users");
        assert_eq!(system.file(), edited);
        assert_eq!(value(&system.boot(&variables(&[("CONTAINER_ID", "7")]), &[]), "MINE"), Some("new"));
    }
    // The same instance, named the other way.
    assert_eq!(boot(&[("VAST_CONTAINERLABEL", "C.7")], "third"), "the users");

    // A snapshot that runs as another instance has the template's values, and nothing of the first one's.
    for (instance, number) in [
        (&[("CONTAINER_ID", "8")][..], "8"),
        (&[("VAST_CONTAINERLABEL", "C.9")], "9"),
        (&[("CONTAINER_ID", ""), ("VAST_CONTAINERLABEL", "C.10")], "10"),
        (&[("CONTAINER_ID", "77"), ("VAST_CONTAINERLABEL", "C.7")], "77"),
        (&[], ""),
    ] {
        assert_eq!(boot(instance, "moved"), "moved");
        assert_eq!(system.first_line(), format!("{HEADER}{number}"));
        assert!(!String::from_utf8_lossy(&system.file()).contains("MINE"));
    }

    // A first line that names nobody is that of no instance.
    for broken in [
        &b"MINE=1\n"[..],
        b"",
        b"# Template controlled environment\n",
        b"\n# Template controlled environment for C.7\n",
    ] {
        fs::write(system.path("/etc/environment"), [broken, &edited].concat()).unwrap();
        assert_eq!(boot(&[("CONTAINER_ID", "8")], "again"), "again");
        assert_eq!(system.first_line(), format!("{HEADER}8"));
    }
}

#[test]
fn a_file_that_is_not_to_be_loaded_is_written_all_the_same() {
    let system = System::new();
    let set = |set_to: &str| variables(&[("CONTAINER_ID", "7"), ("A", set_to)]);
    let told = |left: &Variables| ["A", "MINE", "DOTENV"].map(|name| value(left, name).map(str::to_owned));
    let some = |text: &str| Some(text.to_owned());
    let flag = ["--no-export-env"];
    assert_eq!(told(&system.boot(&set("first"), &flag)), [some("first"), None, None]);
    system.append("MINE=1\nDOTENV=0\n");
    fs::write(system.path("/workspace/.env"), "DOTENV=1\n").unwrap();
    assert_eq!(told(&system.boot(&set("second"), &flag)), [some("second"), None, None]);
    assert_eq!(told(&system.sourced("dash", "C")), [some("first"), some("1"), some("0")]);
    // Without the flag both files count, the workspace's last.
    assert_eq!(told(&system.boot(&set("second"), &[])), [some("first"), some("1"), some("1")]);
}

#[test]
fn the_limits_of_thread_pools_stand_once_in_the_file_and_cost_no_value() {
    let fake = Fake::new();
    // A container that sees 64 CPUs, with a quota of 4 and few processes.
    for (path, text) in [
        ("/proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-63\n"),
        ("/proc/self/cgroup", "0::/\n"),
        ("/sys/fs/cgroup/cgroup.controllers", "cpu pids\n"),
        ("/sys/fs/cgroup/cpu.max", "400000 100000\n"),
        ("/sys/fs/cgroup/pids.max", "500\n"),
    ] {
        fake.write(path, text);
    }
    fake.stage("20-tell.sh", "/usr/bin/env -0 >$OUT/sequence");
    let bytes = OsString::from_vec(b"\xff 'x' $y\n".to_vec());
    let boot = |instance: &str| {
        let root = fake.root();
        let mut command = fake.command(VAST_BOOT, ["run", "--only", "10,12,20", "--root", root.to_str().unwrap()]);
        command.env("CONTAINER_ID", instance).env("BYTES", &bytes);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        for stage in ["10-prep-env.sh", "12-cpu-thread-limits.sh"] {
            assert_eq!(fake.recorded(stage).0, "done", "{}", String::from_utf8_lossy(&output.stdout));
        }
        let found = records(&fs::read(fake.out("sequence")).unwrap());
        assert_eq!(found.get(OsStr::new("BYTES")), Some(&bytes));
        value(&found, "OMP_NUM_THREADS").unwrap().to_owned()
    };
    let file = || fs::read(fake.path("/etc/environment")).unwrap();
    let blocks = || file().windows(26).filter(|window| *window == b"VAST_CPU_THREAD_CAPS_BEGIN").count();
    assert_eq!((boot("7"), blocks()), ("4".to_owned(), 1));
    let written = file();
    assert_eq!((boot("7"), file() == written), ("4".to_owned(), true));
    // Moved to another instance, and there given a value of the user's own.
    assert_eq!((boot("8"), blocks()), ("4".to_owned(), 1));
    fs::write(fake.path("/etc/environment"), [&*file(), b"OMP_NUM_THREADS=9\n"].concat()).unwrap();
    assert_eq!((boot("8"), blocks()), ("9".to_owned(), 1));
    assert!(file().starts_with(b"# Template controlled environment for C.8\nPATH="));
    let sourced = Command::new("dash")
        .args(["-c", "set -a; . \"$1\"; exec /usr/bin/env -0", "dash"])
        .arg(fake.path("/etc/environment"))
        .env_clear()
        .output();
    let sourced = records(&sourced.unwrap().stdout);
    assert_eq!((sourced.get(OsStr::new("BYTES")), value(&sourced, "OMP_NUM_THREADS")), (Some(&bytes), Some("9")));
}
