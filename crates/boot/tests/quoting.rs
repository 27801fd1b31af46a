//! `/etc/environment` gives back exact values in real shells, and ordinary ones in PAM's reader.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

use proptest::collection::vec;
use proptest::prelude::*;
use vast_boot::environment::Environment;
use vast_boot::etc_environment::{plain, render};

/// What a fresh `shell` has exported after sourcing the file.
fn sourced(shell: &str, locale: &str, file: &[u8]) -> Environment {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("environment");
    std::fs::write(&path, file).unwrap();
    let output = Command::new(shell)
        .args(["-euc", "set -a; . \"$1\"; exec /usr/bin/env -0", shell])
        .arg(&path)
        .env_clear()
        .env("LC_ALL", locale)
        .output()
        .unwrap();
    assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
    Environment::from_nul_separated(&output.stdout)
}

/// What Linux-PAM's own module reads from the file.
fn read_by_pam(file: &[u8]) -> Environment {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("environment");
    std::fs::write(&path, file).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pam_env.py");
    let output = Command::new("python3").arg(script).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Environment::from_nul_separated(&output.stdout)
}

/// Values made of what shells care about, and of any bytes.
fn values() -> impl Strategy<Value = Vec<OsString>> {
    let piece = prop_oneof![
        4 => "[ -~]{0,6}".prop_map(String::into_bytes),
        4 => prop::sample::select(vec![
            "'", "\"", "$", "`", "\\", "\n", "\n\n", "\\\n", "!", "#", "~", "$(id)", "${PATH}", "`id`", "\\n", "%s", "\r\n", "'\\''",
            "A=1", "\nPATH=/evil\n", " ", "\t", "$'x'", "*", ";", "&", "é", "\u{1f600}", "-n", "\\c", "\\0101",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(1_u8..=255, 0..4),
    ];
    vec(vec(piece, 0..6).prop_map(|pieces| OsString::from_vec(pieces.concat())), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn every_value_comes_back_exactly_in_bash_and_in_dash(values in values(), locale in prop::sample::select(vec!["C", "C.UTF-8"])) {
        let env: Environment = values.iter().enumerate().map(|(number, value)| (format!("V{number}").into(), value.clone())).collect();
        let file = render(&env, "1");
        for shell in ["bash", "dash"] {
            let read = sourced(shell, locale, &file);
            for (name, value) in env.iter() {
                let found = read.get_os(name.to_str().unwrap()).map(OsStrExt::as_bytes);
                prop_assert_eq!(found, Some(value.as_bytes()), "{} in {}", name.display(), shell);
            }
        }
    }

}

/// Lines as people write them, with what a shell works out and what it does not.
fn words() -> impl Strategy<Value = Vec<String>> {
    let pieces = vec![
        "'", "\"", "\\", "$", "`", "a", "B", " ", "\t", "#", "~", ";", "&", "|", "(", ")", "<", ">", "=", "!", "*",
        "[", "{a,b}", "é", ":", "\r", "'a b'", "\"a b\"", "\"\\$\"", "\"it's\"", "\\'",
    ];
    vec(vec(prop::sample::select(pieces), 0..6).prop_map(|pieces| pieces.concat()), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// What only a shell can tell are values with a newline, of all that we write.
    #[test]
    fn what_is_written_is_read_back_without_a_shell(values in values()) {
        let env: Environment = values.iter().enumerate().map(|(number, value)| (format!("V{number}").into(), value.clone())).collect();
        let read = plain(&render(&env, "1"));
        for (name, value) in env.iter() {
            let expected = Some(value).filter(|value| !value.as_bytes().contains(&b'\n'));
            prop_assert_eq!(read.get_os(name.to_str().unwrap()), expected, "{}", name.display());
        }
    }

    /// If one of them were misread, those behind it would show it as well: an open quote, a command.
    #[test]
    fn what_is_read_without_a_shell_is_what_a_shell_reads(words in words(), locale in prop::sample::select(vec!["C", "C.UTF-8"])) {
        let lines = words.iter().enumerate().map(|(number, word)| (format!("V{number}"), word));
        let lines = lines.filter(|(name, word)| plain(format!("{name}={word}").as_bytes()).get_os(name).is_some());
        // Stage 10 mends line ends before it sources.
        let lines: Vec<_> = lines.map(|(name, word)| format!("{name}={}\n", word.trim_end_matches('\r'))).collect();
        let text = lines.concat();
        let env = plain(text.as_bytes());
        for shell in ["bash", "dash"] {
            let read = sourced(shell, locale, text.as_bytes());
            for (name, value) in env.iter() {
                prop_assert_eq!(read.get_os(name.to_str().unwrap()), Some(value), "{} in {} of {}", name.display(), shell, &text);
            }
        }
    }
}

proptest! {
    // Each case starts an interpreter.
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn no_value_shows_pam_another_variable(values in values()) {
        let mut env: Environment =
            values.iter().enumerate().map(|(number, value)| (format!("V{number}").into(), value.clone())).collect();
        env.set("PATH", "/usr/bin:/bin");
        let read = read_by_pam(&render(&env, "1"));
        prop_assert_eq!(read.get("PATH"), Some("/usr/bin:/bin"));
        for (name, _) in read.iter() {
            prop_assert!(env.get_os(name.to_str().unwrap()).is_some(), "{} came from nowhere", name.display());
        }
    }

    /// Linux-PAM 1.5 takes a `#` for the start of a comment, wherever it stands.
    #[test]
    fn values_without_escapes_newlines_number_signs_and_both_quotes_are_right_in_pam(
        values in vec(prop_oneof!["[^'#\\n\\x00]*", "[^\"$`#\\\\\\n\\x00]*"], 1..20)
    ) {
        let env: Environment =
            values.iter().enumerate().map(|(number, value)| (OsString::from(format!("V{number}")), OsString::from(value))).collect();
        let read = read_by_pam(&render(&env, "1"));
        for (name, value) in env.iter() {
            prop_assert_eq!(read.get_os(name.to_str().unwrap()), Some(value), "{}", name.display());
        }
    }
}

#[test]
fn a_value_that_pam_has_no_room_for_costs_no_other() {
    let huge = "x".repeat(100_000);
    let env: Environment =
        [("A_HUGE", huge.as_str()), ("A_LONG", &huge[..4000]), ("PATH", "/bin"), ("Z", "1")].into_iter().collect();
    let read = read_by_pam(&render(&env, "1"));
    assert_eq!([read.get("PATH"), read.get("Z"), read.get("A_LONG")], [Some("/bin"), Some("1"), Some(&huge[..4000])]);
}
