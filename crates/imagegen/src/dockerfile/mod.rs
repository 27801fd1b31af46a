//! Dockerfiles: text to stages of located instructions, without evaluating anything.
//!
//! Parsing is purely lexical, as in `BuildKit`'s front end: continuations, comments, here-documents, flags and the two
//! command forms are understood here, while variables stay as written. [`expand`](expand::expand) resolves them when
//! an instruction is carried out, because `ENV` values come from base images too.
//!
//! ```
//! use vast_imagegen::dockerfile::{Dockerfile, Instruction};
//!
//! let text = "ARG BASE=ubuntu\nFROM ${BASE} AS app\nCOPY --chmod=755 ./ROOT \\\n  /\n";
//! let file = Dockerfile::parse("Dockerfile", text)?;
//! assert_eq!(file.stages[0].image, "${BASE}");
//! let copy = &file.stages[0].instructions[0];
//! assert_eq!((copy.line, copy.last_line), (3, 4));
//! assert!(matches!(&copy.value, Instruction::Copy(transfer) if transfer.destination == "/"));
//! # Ok::<(), vast_imagegen::Error>(())
//! ```
//!
//! Source: the Dockerfile reference (docs.docker.com/reference/dockerfile) and, where it is silent, `BuildKit`'s parser.

pub mod expand;
mod instruction;
mod lines;
mod parse;
mod problem;
mod words;

use std::fmt;

pub use instruction::{
    ArgDeclaration, Command, Healthcheck, Heredoc, Instruction, Run, Source, Transfer, TransferFlags,
};
pub use problem::Problem;

use crate::Error;

/// A place in a Dockerfile, shown as `path:line`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    /// The file as the user would name it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Something found in the file, with the lines it spans and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// First line, from 1.
    pub line: usize,
    /// Last line, including continuations and here-documents.
    pub last_line: usize,
    /// The logical line: continuations joined, comments removed, without the bodies of here-documents.
    pub text: String,
    /// What was found.
    pub value: T,
}

/// A parsed Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The file as the user would name it, for messages.
    pub file: String,
    /// The `# syntax=` directive, if there is one.
    pub syntax: Option<String>,
    /// The character that escapes: `\`, or a backtick by `# escape=`.
    pub escape: char,
    /// `ARG` instructions before the first `FROM`.
    pub global_args: Vec<Located<Vec<ArgDeclaration>>>,
    /// The stages, in order; at least one.
    pub stages: Vec<Stage>,
}

/// One build stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The first line of its `FROM`.
    pub line: usize,
    /// The last line of its `FROM`, which is another one where it is continued.
    pub last_line: usize,
    /// The image as written, variables unexpanded.
    pub image: String,
    /// The value of `--platform`, unexpanded.
    pub platform: Option<String>,
    /// The name given by `AS`, in lower case.
    pub name: Option<String>,
    /// What follows its `FROM`.
    pub instructions: Vec<Located<Instruction>>,
}

impl Dockerfile {
    /// Parses `text`; `file` names it in messages.
    ///
    /// # Errors
    /// [`Error::Dockerfile`] with the file, the line and what is wrong there.
    pub fn parse(file: &str, text: &str) -> Result<Self, Error> {
        parse::dockerfile(file, text)
            .map_err(|(line, problem)| Error::Dockerfile { at: Location { file: file.to_owned(), line }, problem })
    }

    /// The place of `line` in this file.
    #[must_use]
    pub fn at(&self, line: usize) -> Location {
        Location { file: self.file.clone(), line }
    }

    /// The stage that `name` denotes among those before stage number `before`: by its name, or by its number.
    #[must_use]
    pub fn stage_before(&self, name: &str, before: usize) -> Option<usize> {
        let stages = &self.stages[..before.min(self.stages.len())];
        let named = stages.iter().rposition(|stage| stage.name.as_deref() == Some(&name.to_lowercase()));
        named.or_else(|| name.parse::<usize>().ok().filter(|&number| number < stages.len()))
    }
}

#[cfg(test)]
mod tests;
