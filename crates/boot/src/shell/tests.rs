use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

use super::*;
use crate::cancel::Cancel;
use crate::console::Silent;
use crate::flags::Flags;
use crate::process::SystemRunner;

/// Sources `text` with `env` plus a search path.
fn sourced(text: &str, env: &[(&str, &str)], limit: Option<Duration>) -> Sourced {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("50-stage.sh");
    fs::write(&file, text).unwrap();
    let mut environment: Environment = env.iter().copied().collect();
    environment.set_default("PATH", std::env::var_os("PATH").unwrap());
    let mut variables: Vec<_> =
        Flags::default().shell_variables().iter().map(|(name, value)| (*name, value.to_string())).collect();
    variables.push(("supervisord_pid", String::new()));
    let request = Request {
        output: Output::Console,
        file: &file,
        env: &environment,
        variables: &variables,
        directory: scratch.path(),
        scratch: scratch.path(),
        limit,
    };
    let sourced = source(&request, &SystemRunner::new(Cancel::new(), Arc::new(Silent))).unwrap();
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "the scratch space is cleaned up");
    sourced
}

fn code(sourced: &Sourced) -> Option<i32> {
    match sourced.ended {
        Wait::Ended(status) => status.code(),
        _ => None,
    }
}

/// The stage's exit code and the value it left in `X`.
fn x_after(text: &str) -> (Option<i32>, Option<String>) {
    let sourced = sourced(text, &[], None);
    let x = sourced.left.as_ref().and_then(|left| left.env.get("X").map(str::to_owned));
    (code(&sourced), x)
}

#[test]
fn what_a_stage_exports_counts_however_it_ends() {
    for (text, expected_code, expected_x) in [
        ("export X=1", 0, "1"),
        ("X=1", 0, ""),
        ("export X=1; return 3; export X=2", 3, "1"),
        ("export X=1; exit 4; export X=2", 4, "1"),
        ("set -e; export X=1; false; export X=2", 1, "1"),
        ("set -eu; export X=1; : $nope; export X=2", 1, "1"),
        ("export X=1; : ${nope:?missing}", 127, "1"),
        ("f() { exit 5; }; export X=1; f", 5, "1"),
        ("export X=1; if then", 2, ""),
        ("export X=1; set -euo pipefail; X=2; false | true", 1, "2"),
        ("set -a; X=1; exit", 0, "1"),
        ("set -C; export X=1", 0, "1"),
        ("set -f; IFS=x; export X=axb", 0, "axb"),
        // In POSIX mode `trap` is the shell's own: what its handler exports is lost, what was exported before is not.
        ("set -o posix; export X=1; trap 'export X=2' EXIT", 0, "1"),
        ("declare -x X=1; kill -TERM $$; sleep 10; X=2", -1, "1"),
        ("export X=1; export X; unset X", 0, ""),
        ("set -n; export X=1", 0, ""),
    ] {
        let (code, x) = x_after(text);
        assert_eq!(code.unwrap_or(-1), expected_code, "{text}");
        assert_eq!(x.unwrap_or_default(), expected_x, "{text}");
    }
}

#[test]
fn a_stage_that_redefines_functions_does_not_lose_its_exports() {
    let text = "for name in env printf test cd source exit set local echo shift return; do eval \"$name() { :; }\"; done; export X=1";
    assert_eq!(x_after(text).1.as_deref(), Some("1"));
    let (code, x) = x_after("exit() { export X=2; builtin exit 9; }; export X=1; exit 3");
    assert_eq!((code, x.as_deref()), (Some(9), Some("2")));
}

#[test]
fn the_stages_own_exit_handler_runs_once_sees_the_status_and_counts() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().display();
    for (text, expected_code, expected_x, expected_log) in [
        ("trap 'export X=h' EXIT; X=1", 0, "h", "h:0\n"),
        ("trap 'export X=h' 0; exit 3", 3, "h", "h:3\n"),
        ("trap -- 'export X=h' EXIT TERM; return 2", 2, "h", "h:2\n"),
        ("set -e; trap 'export X=h' EXIT; false", 1, "h", "h:1\n"),
        ("trap 'export X=h; exit 7' EXIT; exit 3", 7, "h", "h:3\n"),
        ("trap 'export X=h; exit' EXIT; exit 3", 3, "h", "h:3\n"),
        ("trap 'exit 7' EXIT; trap - EXIT; export X=1; exit 3", 3, "1", ""),
        ("trap 'exit 7' EXIT; trap EXIT; export X=1", 0, "1", ""),
        ("trap 'export X=a' EXIT; old=$(trap -p EXIT); eval \"$old\"; exit 1", 1, "a", "h:1\n"),
        ("(trap 'X=sub' EXIT); export X=1", 0, "1", ""),
        ("trap 'export X=h' EXIT; (exit 5); [ $? = 5 ] && export Y=1", 0, "h", "h:0\n"),
        ("builtin trap 'export X=h' EXIT; export X=1", 0, "1", "h:0\n"),
    ] {
        fs::write(log.path(), "").unwrap();
        // Each handler first says that it ran, and with which status.
        let logged = text.replace("'export X", &format!("'echo h:$? >>{path}; export X"));
        let (code, x) = x_after(&logged);
        assert_eq!(code, Some(expected_code), "{text}");
        assert_eq!(x.as_deref().unwrap_or_default(), expected_x, "{text}");
        assert_eq!(fs::read_to_string(log.path()).unwrap(), expected_log, "{text}");
    }
}

#[test]
fn other_traps_are_the_shells_own() {
    let (_, x) = x_after("trap 'export X=usr1' USR1; kill -USR1 $$; trap - USR1; trap -p USR1");
    assert_eq!(x.as_deref(), Some("usr1"));
    assert_eq!(x_after("trap 'export X=debugged' DEBUG; :").1.as_deref(), Some("debugged"));
}

#[test]
fn values_come_back_exactly() {
    let value = "first\nsecond=2\n\n  spaced \"quoted\" $HOME `id` \\ 'x'\t\u{1f600}\n";
    let sourced = sourced(
        "export COPY=$GIVEN; export GIVEN; arr=(1 2); declare -ax EXPORTED_ARRAY=(a b); export FUNCTION; f() { :; }; export -f f",
        &[("GIVEN", value)],
        None,
    );
    let left = sourced.left.unwrap();
    assert_eq!(left.env.get("COPY"), Some(value));
    assert_eq!(left.env.get("GIVEN"), Some(value));
    for absent in ["arr", "EXPORTED_ARRAY", "_", "PWD", "SHLVL", "OLDPWD", "__vast_boot_record", "propagate_user_keys"]
    {
        assert_eq!(left.env.get(absent), None, "{absent}");
    }
    assert!(left.env.get("BASH_FUNC_f%%").is_some(), "an exported function reaches later shells");
}

#[test]
fn the_variables_of_deployed_stages_are_seen_changed_and_not_exported() {
    let text = "export SEEN=\"$propagate_user_keys $export_env $generate_tls_cert $activate_python_environment $sync_environment \
                $sync_home_to_workspace $update_portal $update_vast_cli [$supervisord_pid] $#\"
                export EXPORTED=$(env | grep -c -e sync_ -e supervisord)
                generate_tls_cert=false";
    let left = sourced(text, &[], None).left.unwrap();
    assert_eq!(left.env.get("SEEN"), Some("true true true true false false true true [] 0"));
    assert_eq!(left.env.get("EXPORTED"), Some("0"));
    assert!(left.variables.contains(&("generate_tls_cert".to_owned(), "false".to_owned())));
    assert_eq!(left.variables.len(), 9);
}

#[test]
fn carriage_returns_umask_and_posix_mode_do_no_harm() {
    let crlf = sourced("export X=1\r\nif true; then\r\n  export Y=2\r\nfi\r\n", &[], None).left.unwrap();
    assert_eq!((crlf.env.get("X"), crlf.env.get("Y")), (Some("1"), Some("2")));
    assert_eq!(x_after("export X=$(umask)").1.as_deref(), Some("0002"));
    let posix = sourced("export X=1; exit 3", &[("POSIXLY_CORRECT", "y")], None);
    assert_eq!(code(&posix), Some(3));
    let left = posix.left.unwrap();
    assert_eq!((left.env.get("X"), left.env.get("POSIXLY_CORRECT")), (Some("1"), Some("y")));
}

#[test]
fn a_stage_beyond_its_limit_is_ended_with_what_it_started_and_keeps_its_exports() {
    let pid_file = tempfile::NamedTempFile::new().unwrap();
    let text = format!("export X=1; (trap '' TERM; sleep 600) & echo $! >{}; wait", pid_file.path().display());
    let sourced = sourced(&text, &[], Some(Duration::from_millis(300)));
    assert_eq!(sourced.ended, Wait::TimedOut);
    assert_eq!(sourced.left.unwrap().env.get("X"), Some("1"));
    let pid = fs::read_to_string(pid_file.path()).unwrap();
    // Killed, it is there until it has had a processor once more.
    let state = || fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    while !(state().is_empty() || state().contains(") Z ")) {
        std::thread::yield_now();
    }
}

#[test]
fn a_shell_that_is_replaced_or_killed_leaves_nothing_and_is_told_apart() {
    let replaced = sourced("export X=1; exec true", &[], None);
    assert_eq!((code(&replaced), replaced.left), (Some(0), None));
    let killed = sourced("export X=1; kill -KILL $$", &[], None);
    assert!(matches!(killed.ended, Wait::Ended(status) if status.signal() == Some(9)));
    assert_eq!(killed.left, None);
}

#[test]
fn a_record_that_was_cut_short_is_no_record() {
    let before = Environment::new();
    for cut in [&b""[..], b"a=1\0", b"a=1\0\0X=1\0"] {
        assert_eq!(parse_record(cut, &before), None, "{cut:?}");
    }
    let whole = parse_record(b"a=1\0\0X=1\0\0", &before).unwrap();
    assert_eq!(whole.env.get("X"), Some("1"));
    assert_eq!(whole.variables, [("a".to_owned(), "1".to_owned())]);
}
