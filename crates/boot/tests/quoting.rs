//! `/etc/environment` gives back exact values in real shells, and ordinary ones in PAM's reader.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

use proptest::collection::vec;
use proptest::prelude::*;
use vast_boot::environment::Environment;
use vast_boot::etc_environment::render;

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

/// Linux-PAM's reader of `/etc/environment` (`_parse_env_file` in `modules/pam_env/pam_env.c`), line by line.
fn read_by_pam(file: &[u8]) -> Environment {
    let mut read = Environment::new();
    for line in file.split(|&byte| byte == b'\n') {
        let line = line.trim_ascii_start();
        let line = line.strip_prefix(b"export ").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let Some(cut) = line.iter().position(|&byte| byte == b'=') else { continue };
        let (name, value) = (&line[..cut], line[cut + 1..].trim_ascii_end());
        if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            continue;
        }
        let value = match value {
            [b'"' | b'\'', rest @ ..] => rest.strip_suffix(b"\"").or(rest.strip_suffix(b"'")).unwrap_or(rest),
            plain => plain,
        };
        read.set(OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec()));
    }
    read
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

    #[test]
    fn a_value_without_escapes_newlines_and_both_quotes_is_right_in_pam(
        value in prop_oneof!["[^'\\n\\x00]*", "[^\"$`\\\\\\n\\x00]*"]
    ) {
        let env: Environment = [("V", value.as_str())].into_iter().collect();
        let read = read_by_pam(&render(&env, "1"));
        prop_assert_eq!(read.get("V"), Some(value.as_str()));
    }
}
