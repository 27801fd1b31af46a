//! What the strict reading finds, and where.

use std::fmt;
use std::ops::Range;

use crate::render;

/// The five fields of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// Position 1.
    Host,
    /// Position 2: internal in the guide's order.
    InternalPort,
    /// Position 3: external in the guide's order.
    ExternalPort,
    /// Position 4.
    Path,
    /// Position 5, and everything after it.
    Label,
}

impl Field {
    /// All fields in the order of the string.
    pub const ALL: [Self; 5] = [Self::Host, Self::InternalPort, Self::ExternalPort, Self::Path, Self::Label];
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::InternalPort => "internal port",
            Self::ExternalPort => "external port",
            Self::Path => "path",
            Self::Label => "label",
        })
    }
}

/// One thing wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The entry, counted from 1, empty ones included.
    pub entry: usize,
    /// Bytes of the value. Empty where something is missing: then it is the place where it should stand.
    pub span: Range<usize>,
    /// What is wrong.
    pub kind: ProblemKind,
}

/// What can be wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemKind {
    /// Nothing between two separators.
    #[error("the entry is empty")]
    EmptyEntry,
    /// A line break separates entries; only the lenient reading takes it for `|`.
    #[error("a line break where `|` should separate the entries")]
    LineBreak,
    /// White space around a field, which deployed readers keep.
    #[error("white space around the {0}")]
    WhiteSpace(Field),
    /// Fewer than four colons.
    #[error("the entry has no {}", list(.0))]
    MissingFields(Vec<Field>),
    /// A shell variable that nobody expanded.
    #[error("unexpanded variable `{0}`")]
    Unexpanded(String),
    /// No characters that a host name has.
    #[error("`{0}` is not a host name")]
    BadHost(String),
    /// The host is another machine, or no destination at all.
    #[error("host `{0}` is not local")]
    HostNotLocal(String),
    /// Not a number from 1 to 65535.
    #[error("{0} `{1}` is not a number from 1 to 65535")]
    BadPort(Field, String),
    /// The path does not start with `/`.
    #[error("path `{0}` does not start with `/`")]
    BadPath(String),
    /// Nothing to show on the tab or to ask for.
    #[error("the label is empty")]
    EmptyLabel,
    /// An earlier entry has the label.
    #[error("label `{label}` is already that of entry {first}")]
    DuplicateLabel {
        /// The label.
        label: String,
        /// The entry that has it.
        first: usize,
    },
    /// An earlier entry is proxied on the same external port, to another target.
    #[error("external port {port} already leads to {target} (entry {first})")]
    PortConflict {
        /// The external port.
        port: u16,
        /// Where it leads: `host:port`.
        target: String,
        /// The entry that has it.
        first: usize,
    },
}

impl ProblemKind {
    /// What the author of the value can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::EmptyEntry => Some("remove the extra `|`"),
            Self::MissingFields(_) => Some("an entry is host:port:port:path:label"),
            Self::Unexpanded(_) => Some("the platform does not expand variables here: write the value"),
            Self::HostNotLocal(host) if host == "0.0.0.0" => {
                Some("0.0.0.0 is an address to listen on; the proxy connects to localhost")
            }
            Self::HostNotLocal(_) | Self::BadHost(_) => Some("applications run on the instance: write localhost"),
            Self::BadPath(_) => Some("write `/` for the application's start page"),
            Self::DuplicateLabel { .. } => Some("at boot the later entry would replace the earlier one"),
            _ => None,
        }
    }
}

fn list(fields: &[Field]) -> String {
    let names: Vec<String> = fields.iter().map(Field::to_string).collect();
    match names.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and no {last}", others.join(", no ")),
    }
}

/// Every problem of a value. Its `Display` shows them all, each with a caret line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrictErrors {
    /// The value as it was given; the spans refer to it.
    pub value: String,
    /// In the order of the value; never empty.
    pub problems: Vec<Problem>,
}

impl StrictErrors {
    /// One problem with its entry and a caret line under the place, several lines without a final line break.
    #[must_use]
    pub fn render(&self, problem: &Problem) -> String {
        render::problem(&self.value, problem)
    }
}

impl fmt::Display for StrictErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.render(problem))?;
        }
        Ok(())
    }
}

impl std::error::Error for StrictErrors {}
