//! `/etc/environment`: the template's variables for every shell, PAM and Supervisor program.
//!
//! Users edit the file, so it is written only when its first line does not name this instance: on the first boot, and when a snapshot
//! moved.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use vast_gpu::cuda;

use crate::env_vars;
use crate::environment::{Environment, is_identifier};
use crate::quote;

/// Where it is.
pub const PATH: &str = "/etc/environment";

/// The start of the first line, which deployed tools look for.
const HEADER: &str = "# Template controlled environment for C.";

/// Where the toolkit is, for programs: the one variable of the CUDA set-up that an earlier boot may have had no reason to write.
const CUDA_HOME: &str = "CUDA_HOME";

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
    for assignment in text.split(|&byte| byte == b'\n').filter_map(Assignment::parse) {
        match assignment.value {
            Some(value) => env.set(assignment.name, value),
            // The last one counts, so one before it does not.
            None => env.remove(assignment.name),
        }
    }
    env
}

/// The file's text with this boot's CUDA set-up in place of an earlier one's; None where it is there already.
///
/// Every line that sets a variable of the set-up is changed by itself. One that only a shell can tell the value of is the user's and stays:
/// it builds on what is there when it is sourced.
#[must_use]
pub fn renew_cuda(text: &[u8], plan: &cuda::Plan) -> Option<Vec<u8>> {
    let (mut renewed, mut has_home) = (Vec::with_capacity(text.len()), false);
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        let assignment = Assignment::parse(content);
        has_home |= assignment.as_ref().is_some_and(|assignment| assignment.name == CUDA_HOME);
        let Some((before, name, value)) = assignment.and_then(Assignment::into_text) else {
            renewed.extend_from_slice(line);
            continue;
        };
        let changes = plan.environment_after(&[(name.to_owned(), value)].into());
        if let Some(value) = changes.set.get(name) {
            renewed.extend_from_slice(before);
            renewed.extend_from_slice(&quote::assignment(name.as_ref(), value.as_ref()));
            renewed.extend_from_slice(&line[content.len()..]);
        } else if !changes.unset.contains(name) {
            renewed.extend_from_slice(line);
        }
    }
    // `PATH` without a line was taken out, and `LD_LIBRARY_PATH` is only ever changed.
    let missing = plan.environment_after(&BTreeMap::new()).set.remove(CUDA_HOME).filter(|_| !has_home);
    if let Some(home) = missing {
        // Behind the first line, and so before any that is too long for some readers.
        if !renewed.contains(&b'\n') {
            renewed.push(b'\n');
        }
        let at = renewed.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let mut line = quote::assignment(CUDA_HOME.as_ref(), home.as_ref());
        line.push(b'\n');
        renewed.splice(at..at, line);
    }
    (renewed != text).then_some(renewed)
}

/// A line that sets a variable.
struct Assignment<'a> {
    /// What stands before the name: `export`, white space.
    before: &'a [u8],
    name: &'a str,
    /// None where only a shell can tell.
    value: Option<OsString>,
}

impl<'a> Assignment<'a> {
    /// Reads a line without its end.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let body = line.strip_suffix(b"\r").unwrap_or(line);
        let rest = body.trim_ascii_start();
        let rest = rest.strip_prefix(b"export ").unwrap_or(rest).trim_ascii_start();
        let before = &body[..body.len() - rest.len()];
        let mut parts = rest.splitn(2, |&byte| byte == b'=');
        let (name, word) = (parts.next()?, parts.next()?);
        let name = OsStr::from_bytes(name).to_str().filter(|name| is_identifier(name.as_ref()))?;
        Some(Self { before, name, value: quote::read(word).map(OsString::from_vec) })
    }

    /// What stands before the name, the name, and its value if that is text.
    fn into_text(self) -> Option<(&'a [u8], &'a str, String)> {
        Some((self.before, self.name, self.value?.into_string().ok()?))
    }
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

    /// The file after a boot on which CUDA is this, if that changes it.
    fn renewed(choice: cuda::Choice, search_first: Option<&str>, text: &str) -> Option<String> {
        let plan = cuda::Plan {
            choice,
            changes: Vec::new(),
            ldconfig: false,
            search_first: search_first.map(Into::into),
            failure: None,
            messages: Vec::new(),
        };
        renew_cuda(text.as_bytes(), &plan).map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn the_cuda_set_up_is_renewed_line_by_line_and_the_rest_stays_as_it_was_written() {
        let native = cuda::Choice::Native("12.8".parse().unwrap());
        let compat = cuda::Choice::ForwardCompat("13.0".parse().unwrap());
        let first = "/usr/local/cuda-13.0/compat";
        for (choice, search_first, before, after) in [
            (
                native,
                None,
                "# C.7\nPATH=\"/bin\"\nLD_LIBRARY_PATH=\"/usr/local/cuda-13.0/compat:/x\"\nA='1'  # mine\n",
                Some(
                    "# C.7\nCUDA_HOME=\"/usr/local/cuda\"\nPATH=\"/usr/local/cuda/bin:/bin\"\nLD_LIBRARY_PATH=\"/x\"\nA='1'  # mine\n",
                ),
            ),
            (
                compat,
                Some(first),
                "# C.7\r\nCUDA_HOME=/usr/local/cuda\n  export LD_LIBRARY_PATH=/x",
                Some("# C.7\r\nCUDA_HOME=/usr/local/cuda\n  export LD_LIBRARY_PATH=\"/usr/local/cuda-13.0/compat:/x\""),
            ),
            // A line without anything left goes; one that a shell works out stays, and so does the user's own.
            (
                native,
                None,
                "# C.7\nCUDA_HOME=/opt/mine\nLD_LIBRARY_PATH=/usr/local/cuda/lib64\n",
                Some("# C.7\nCUDA_HOME=/opt/mine\n"),
            ),
            (native, None, "# C.7\nCUDA_HOME=$X\nPATH=\"$PATH:/mine\"\nLD_LIBRARY_PATH=$LD_LIBRARY_PATH:/x\n", None),
            (native, None, "# C.7", Some("# C.7\nCUDA_HOME=\"/usr/local/cuda\"\n")),
            (cuda::Choice::Keep, None, "# C.7\nPATH=/bin\nLD_LIBRARY_PATH=/usr/local/cuda/lib64\n", None),
            (
                cuda::Choice::Keep,
                None,
                "# C.7\nLD_LIBRARY_PATH=/usr/local/cuda-13.0/compat:/x\n",
                Some("# C.7\nLD_LIBRARY_PATH=\"/x\"\n"),
            ),
        ] {
            assert_eq!(renewed(choice, search_first, before).as_deref(), after, "{before}");
            if let Some(after) = after {
                assert_eq!(renewed(choice, search_first, after), None, "{after}");
            }
        }
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
