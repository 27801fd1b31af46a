//! Instructions that change nothing but the configuration.

use std::collections::BTreeSet;

use super::config::Config;
use super::problem::BuildProblem;
use super::scope::Scope;
use crate::dockerfile::Instruction;

/// What a build has set itself, as opposed to what it inherited.
#[derive(Debug, Clone, Default)]
pub(super) struct Own {
    /// Labels, which no record replaces.
    pub labels: BTreeSet<String>,
    /// Whether this stage has a `CMD`, which a later `ENTRYPOINT` keeps.
    pub has_cmd: bool,
}

/// Carries out an instruction that changes nothing but the configuration.
pub(super) fn configure(
    instruction: &Instruction,
    config: &mut Config,
    scope: &Scope,
    own: &mut Own,
    escape: char,
) -> Result<(), BuildProblem> {
    // What an instruction sets is not visible in the instruction itself.
    let before = config.clone();
    let expand = |text: &str| scope.expand(text, &before, escape);
    match instruction {
        Instruction::Env(pairs) => {
            for (name, value) in pairs {
                config.set_env(&expand(name)?, &expand(value)?);
            }
        }
        Instruction::Label(pairs) => {
            for (key, value) in pairs {
                let key = expand(key)?;
                config.set_label(&key, &expand(value)?);
                own.labels.insert(key);
            }
        }
        Instruction::Cmd(command) => {
            config.set_cmd(command);
            own.has_cmd = true;
        }
        Instruction::Entrypoint(command) => config.set_entrypoint(command, own.has_cmd),
        Instruction::Shell(shell) => config.set_shell(shell),
        Instruction::User(user) => config.set_user(&expand(user)?),
        Instruction::Expose(ports) => {
            for word in expand(ports)?.split_whitespace() {
                for port in exposed(word)? {
                    config.expose(&port);
                }
            }
        }
        Instruction::Volume(paths) => {
            for path in paths {
                config.add_volume(&expand(path)?);
            }
        }
        Instruction::Stopsignal(signal) => {
            let value = expand(signal)?;
            if !is_signal(&value) {
                return Err(BuildProblem::Value { value, why: "is not a signal such as SIGTERM or 15" });
            }
            config.set_stop_signal(&value);
        }
        Instruction::Healthcheck(check) => config.set_healthcheck(check),
        Instruction::Maintainer(name) => config.set_author(name),
        Instruction::Onbuild(_) => {
            let text =
                "ONBUILD is refused: OCI images have no triggers, and what runs in other builds should stand there";
            return Err(BuildProblem::Refused(text.to_owned()));
        }
        Instruction::Arg(_)
        | Instruction::Copy(_)
        | Instruction::Add(_)
        | Instruction::Run(_)
        | Instruction::Workdir(_) => {}
    }
    Ok(())
}

/// `80`, `80/udp` or `8000-8010/tcp` as the configuration lists ports.
fn exposed(text: &str) -> Result<Vec<String>, BuildProblem> {
    let bad = || BuildProblem::Value { value: text.to_owned(), why: "is not a port such as 8080, 53/udp or 8000-8010" };
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(bad());
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
    if first > last {
        return Err(bad());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn is_signal(text: &str) -> bool {
    let number = text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    let name = text.strip_prefix("SIG").unwrap_or(text);
    number
        || name.len() >= 3
            && name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '+' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_or_ranges_with_a_protocol() {
        for (text, expected) in [
            ("80", Some(&["80/tcp"][..])),
            ("53/UDP", Some(&["53/udp"])),
            ("9000-9002/tcp", Some(&["9000/tcp", "9001/tcp", "9002/tcp"])),
            ("9-8", None),
            ("70000", None),
            ("80/http", None),
            ("", None),
        ] {
            let ports = exposed(text).ok();
            assert_eq!(ports, expected.map(|ports| ports.iter().map(ToString::to_string).collect()), "{text}");
        }
    }

    #[test]
    fn signals_are_names_or_numbers() {
        for (text, expected) in [
            ("SIGTERM", true),
            ("TERM", true),
            ("15", true),
            ("SIGRTMIN+3", true),
            ("0", false),
            ("99", false),
            ("never", false),
        ] {
            assert_eq!(is_signal(text), expected, "{text}");
        }
    }
}
