//! Which value a variable has at an instruction.

use std::collections::BTreeMap;

use super::config::Config;
use super::problem::BuildProblem;
use crate::dockerfile::expand::{ExpandError, expand, expand_heredoc};
use crate::dockerfile::{ArgDeclaration, Dockerfile};
use crate::platform::Platform;

/// The arguments declared before the first `FROM`, and those that every build has.
#[derive(Debug, Clone, Default)]
pub(super) struct Globals {
    declared: BTreeMap<String, String>,
    platform: BTreeMap<&'static str, String>,
}

impl Globals {
    /// Evaluates the global arguments of `dockerfile` for `platform`. What cannot be evaluated is named with its line.
    pub(super) fn new(
        dockerfile: &Dockerfile,
        given: &BTreeMap<String, String>,
        platform: &Platform,
    ) -> Result<Self, (usize, ExpandError)> {
        let mut globals = Self { declared: BTreeMap::new(), platform: platform_args(platform) };
        for located in &dockerfile.global_args {
            for argument in &located.value {
                let value = match (given.get(&argument.name), &argument.default) {
                    (Some(value), _) => Some(value.clone()),
                    (None, Some(default)) => {
                        let lookup = |name: &str| globals.get(name);
                        Some(expand(default, &lookup, dockerfile.escape).map_err(|error| (located.line, error))?)
                    }
                    (None, None) => None,
                };
                if let Some(value) = value {
                    globals.declared.insert(argument.name.clone(), value);
                }
            }
        }
        Ok(globals)
    }

    /// The value of a name in a `FROM`.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.declared.get(name).or_else(|| self.platform.get(name)).cloned()
    }
}

/// The variables of a stage: its arguments; `ENV` goes before them.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    args: BTreeMap<String, String>,
}

impl Scope {
    /// Carries out an `ARG`.
    pub(super) fn declare(
        &mut self,
        arguments: &[ArgDeclaration],
        given: &BTreeMap<String, String>,
        globals: &Globals,
        config: &Config,
        escape: char,
    ) -> Result<(), ExpandError> {
        for argument in arguments {
            let value = match (given.get(&argument.name), &argument.default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => Some(self.expand(default, config, escape)?),
                (None, None) => globals.get(&argument.name),
            };
            if let Some(value) = value {
                self.args.insert(argument.name.clone(), value);
            }
        }
        Ok(())
    }

    /// The declared arguments that have a value, by name.
    pub(super) fn arguments(&self) -> impl Iterator<Item = (&str, &str)> {
        self.args.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Evaluates a word.
    pub(super) fn expand(&self, word: &str, config: &Config, escape: char) -> Result<String, ExpandError> {
        expand(word, &|name| self.lookup(name, config), escape)
    }

    /// Evaluates the body of a here-document.
    pub(super) fn expand_body(&self, body: &str, config: &Config, escape: char) -> Result<String, BuildProblem> {
        Ok(expand_heredoc(body, &|name| self.lookup(name, config), escape)?)
    }

    fn lookup(&self, name: &str, config: &Config) -> Option<String> {
        config.env(name).or_else(|| self.args.get(name).cloned())
    }
}

/// The arguments that `docker buildx` defines, as if built on the target itself.
fn platform_args(target: &Platform) -> BTreeMap<&'static str, String> {
    let host = Platform::host();
    let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
    BTreeMap::from([
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", variant(target)),
        ("BUILDPLATFORM", host.to_string()),
        ("BUILDOS", host.os.clone()),
        ("BUILDARCH", host.architecture.clone()),
        ("BUILDVARIANT", variant(&host)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::Instruction;

    /// The value that `$X` has at the end of the only stage.
    fn value(text: &str, given: &[(&str, &str)]) -> String {
        let dockerfile = Dockerfile::parse("Dockerfile", text).unwrap();
        let given: BTreeMap<String, String> =
            given.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let platform: Platform = "linux/arm64".parse().unwrap();
        let globals = Globals::new(&dockerfile, &given, &platform).unwrap();
        let mut scope = Scope::default();
        let mut config = Config::scratch(&platform);
        for instruction in &dockerfile.stages[0].instructions {
            match &instruction.value {
                Instruction::Arg(arguments) => {
                    scope.declare(arguments, &given, &globals, &config, '\\').unwrap();
                }
                Instruction::Env(pairs) => {
                    for (name, value) in pairs {
                        let value = scope.expand(value, &config, '\\').unwrap();
                        config.set_env(name, &value);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        scope.expand("$X", &config, '\\').unwrap()
    }

    #[test]
    fn a_stage_sees_a_global_argument_only_if_it_declares_it() {
        for (text, given, expected) in [
            ("ARG X=g\nFROM a", &[][..], ""),
            ("ARG X=g\nFROM a\nARG X", &[], "g"),
            ("ARG X=g\nFROM a\nARG X=own", &[], "own"),
            ("ARG X=g\nFROM a\nARG X=own", &[("X", "given")], "given"),
            ("ARG X=g\nFROM a\nARG X", &[("X", "given")], "given"),
            ("FROM a\nARG X", &[("X", "given")], "given"),
            ("FROM a\nENV Y=1", &[("X", "given")], ""),
            ("FROM a\nARG X=arg\nENV X=env", &[("X", "given")], "env"),
            ("FROM a\nENV X=env\nARG X=arg", &[], "env"),
            ("ARG A=1\nARG X=${A}2\nFROM a\nARG X", &[], "12"),
            ("FROM a\nARG A=1\nARG X=${A}2", &[], "12"),
            ("FROM a\nARG TARGETARCH\nARG X=$TARGETARCH", &[], "arm64"),
            ("FROM a\nARG X=$TARGETARCH", &[], ""),
        ] {
            assert_eq!(value(text, given), expected, "{text:?} {given:?}");
        }
    }
}
