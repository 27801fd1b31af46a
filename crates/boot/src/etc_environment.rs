//! `/etc/environment`: the template's variables for every shell, PAM and Supervisor program.
//!
//! Users edit the file, so it is written only when its first line does not name this instance: on the first boot, and when a snapshot
//! moved.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::env_vars;
use crate::environment::{Environment, is_identifier};
use crate::quote;

/// Where it is.
pub const PATH: &str = "/etc/environment";

/// The start of the first line, which deployed tools look for.
const HEADER: &str = "# Template controlled environment for C.";

/// Longer lines come last: Linux-PAM stops reading at a line that does not fit its buffer: 8192 bytes in
/// version 1.5, 1024 in older ones.
const LONG_LINE_BYTES: usize = 1000;

/// Whether `text` was written for this instance. An older image wrote the label with its prefix twice.
#[must_use]
pub fn belongs_to(text: &[u8], instance: &str) -> bool {
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    let Some(mut named) = line.strip_prefix(HEADER.as_bytes()) else { return false };
    while let Some(rest) = named.strip_prefix(b"C.") {
        named = rest;
    }
    named == instance.as_bytes()
}

/// The file's text for this environment.
///
/// ```
/// use vast_boot::{environment::Environment, etc_environment::render};
/// let env: Environment = [("PATH", "/bin"), ("HOME", "/root"), ("A", "1")].into_iter().collect();
/// assert_eq!(render(&env, "7"), b"# Template controlled environment for C.7\nPATH=\"/bin\"\nA=\"1\"\n");
/// ```
#[must_use]
pub fn render(env: &Environment, instance: &str) -> Vec<u8> {
    // PATH first, if its line is not itself too long for some: a reader that is interrupted has at least that.
    let path = env.get_os(env_vars::PATH).map(|path| (OsStr::new(env_vars::PATH), path));
    let others = env.iter().filter(|(name, _)| *name != env_vars::PATH && is_written(name));
    let mut lines: Vec<_> =
        path.into_iter().chain(others).map(|(name, value)| quote::assignment(name, value)).collect();
    lines.sort_by_key(|line| if line.len() > LONG_LINE_BYTES { line.len() } else { 0 });
    let mut text = format!("{HEADER}{instance}\n").into_bytes();
    for line in lines {
        text.extend_from_slice(&line);
        text.push(b'\n');
    }
    text
}

/// The plain assignments of the file's text, as a shell that sources it reads them. What only a shell can tell the value of is left out.
#[must_use]
pub fn plain(text: &[u8]) -> Environment {
    let mut env = Environment::new();
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        let line = line.strip_prefix(b"export ").unwrap_or(line).trim_ascii_start();
        let mut parts = line.splitn(2, |&byte| byte == b'=');
        let (Some(name), Some(word)) = (parts.next(), parts.next()) else { continue };
        let Some(name) = OsStr::from_bytes(name).to_str().filter(|name| is_identifier(name.as_ref())) else { continue };
        match quote::read(word) {
            Some(value) => env.set(name, OsString::from_vec(value)),
            // The last one counts, so one before it does not.
            None => env.remove(name),
        }
    }
    env
}

fn is_written(name: &OsStr) -> bool {
    let conda = name.as_bytes().windows(5).any(|window| window == b"CONDA");
    quote::is_assignable(name) && name != env_vars::HOME && name != "SHLVL" && !conda
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_belongs_to_the_instance_that_its_first_line_names() {
        for (text, expected) in [
            ("# Template controlled environment for C.7\nA=1", true),
            ("# Template controlled environment for C.C.7", true),
            ("# Template controlled environment for C.7\r\n", true),
            ("# Template controlled environment for C.77\n", false),
            ("# Template controlled environment for C.\n", false),
            ("A=1\n# Template controlled environment for C.7\n", false),
            ("", false),
        ] {
            assert_eq!(belongs_to(text.as_bytes(), "7"), expected, "{text:?}");
        }
        assert!(belongs_to(&render(&Environment::new(), ""), ""));
    }

    #[test]
    fn long_lines_come_last_and_the_shortest_of_them_first() {
        let (long, longer) = ("x".repeat(LONG_LINE_BYTES), "x".repeat(9000));
        let env: Environment = [("A", &*longer), ("B", &*long), ("C", "1"), ("PATH", "/bin")].into_iter().collect();
        let text = String::from_utf8(render(&env, "1")).unwrap();
        let names: Vec<_> = text.lines().skip(1).map(|line| line.split('=').next().unwrap()).collect();
        assert_eq!(names, ["PATH", "C", "B", "A"]);
    }

    #[test]
    fn what_belongs_to_a_shell_or_to_conda_is_left_out() {
        let names =
            ["HOME", "SHLVL", "CONDA_PREFIX", "_CONDA_EXE", "_", "UID", "PWD", "BASH_FUNC_x%%", "1X", "KEPT", "PATH"];
        let env: Environment = names.into_iter().map(|name| (name, "v")).collect();
        let text = String::from_utf8(render(&env, "1")).unwrap();
        let written: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(written, ["PATH=\"v\"", "KEPT=\"v\""]);
    }
}
