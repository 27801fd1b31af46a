//! What can be wrong with a Dockerfile's text.

/// The instructions that exist, in the order in which messages list them.
pub(super) const KNOWN: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// What is wrong at one line of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The first word is no instruction.
    #[error("unknown instruction `{0}`")]
    UnknownInstruction(String),
    /// An instruction before `FROM` that is not `ARG`.
    #[error("`{0}` before the first FROM: only ARG may stand there")]
    BeforeFrom(String),
    /// No `FROM` at all.
    #[error("there is no FROM instruction")]
    NoStage,
    /// Two stages of one name.
    #[error("stage `{0}` is defined twice")]
    DuplicateStage(String),
    /// A stage's name that cannot be one.
    #[error("`{0}` cannot name a stage: use letters, digits, `.`, `_` and `-`, beginning with a letter")]
    StageName(String),
    /// Wrong operands.
    #[error("{instruction} {expected}")]
    Operands {
        /// The instruction.
        instruction: &'static str,
        /// What it needs.
        expected: &'static str,
    },
    /// A flag that the instruction does not have.
    #[error("{instruction} has no flag `{flag}`")]
    UnknownFlag {
        /// The instruction.
        instruction: &'static str,
        /// The flag as written.
        flag: String,
    },
    /// A flag's value that cannot be used.
    #[error("`{flag}` needs {expected}")]
    FlagValue {
        /// The flag as written.
        flag: String,
        /// What it needs.
        expected: &'static str,
    },
    /// A here-document without its end.
    #[error("here-document `{0}` is never closed")]
    OpenHeredoc(String),
    /// A quotation without its end.
    #[error("a quotation beginning with {0} is never closed")]
    OpenQuote(char),
    /// A parser directive with an impossible value.
    #[error("parser directive `{name}` cannot be `{value}`")]
    Directive {
        /// `escape` or `syntax`.
        name: String,
        /// Its value.
        value: String,
    },
    /// A name that no variable can have.
    #[error("`{0}` cannot be the name of a variable")]
    VariableName(String),
    /// A variable's use that cannot be evaluated.
    #[error(transparent)]
    Expansion(#[from] super::expand::ExpandError),
}

impl Problem {
    /// What to write instead, where that can be told.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownInstruction(word) => {
                let upper = word.to_uppercase();
                let near = KNOWN.iter().find(|known| distance(known, &upper) <= 2);
                let known = KNOWN.join(", ");
                Some(near.map_or_else(
                    || format!("the instructions are {known}"),
                    |near| format!("did you mean `{near}`? The instructions are {known}"),
                ))
            }
            Self::BeforeFrom(_) | Self::NoStage => Some("begin with `FROM image`, after any ARG it needs".to_owned()),
            _ => None,
        }
    }
}

/// The number of single-letter edits between two words (Levenshtein, transposition counting as one).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}
