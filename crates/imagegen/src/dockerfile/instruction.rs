//! What the instructions of a stage say.

/// An instruction after `FROM`. Text is as written: variables unexpanded, quotes in place where they matter for expansion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `ARG NAME[=default]…`
    Arg(Vec<ArgDeclaration>),
    /// `ENV NAME=value…` or the old `ENV NAME value`.
    Env(Vec<(String, String)>),
    /// `LABEL key=value…`
    Label(Vec<(String, String)>),
    /// `COPY [flags] source… destination`
    Copy(Transfer),
    /// `ADD [flags] source… destination`
    Add(Transfer),
    /// `RUN [flags] command`
    Run(Run),
    /// `CMD command`
    Cmd(Command),
    /// `ENTRYPOINT command`
    Entrypoint(Command),
    /// `SHELL ["program", "argument"…]`
    Shell(Vec<String>),
    /// `WORKDIR path`
    Workdir(String),
    /// `USER user[:group]`
    User(String),
    /// `EXPOSE port[/protocol]…`, as one unexpanded text.
    Expose(String),
    /// `VOLUME path…`
    Volume(Vec<String>),
    /// `STOPSIGNAL signal`
    Stopsignal(String),
    /// `HEALTHCHECK NONE` or `HEALTHCHECK [options] CMD command`
    Healthcheck(Healthcheck),
    /// `MAINTAINER name`, deprecated.
    Maintainer(String),
    /// `ONBUILD instruction`: the text after the word.
    Onbuild(String),
}

impl Instruction {
    /// The instruction's word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Arg(_) => "ARG",
            Self::Env(_) => "ENV",
            Self::Label(_) => "LABEL",
            Self::Copy(_) => "COPY",
            Self::Add(_) => "ADD",
            Self::Run(_) => "RUN",
            Self::Cmd(_) => "CMD",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Shell(_) => "SHELL",
            Self::Workdir(_) => "WORKDIR",
            Self::User(_) => "USER",
            Self::Expose(_) => "EXPOSE",
            Self::Volume(_) => "VOLUME",
            Self::Stopsignal(_) => "STOPSIGNAL",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
        }
    }
}

/// One name of an `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The variable.
    pub name: String,
    /// Its default, unexpanded; `None` where there is none, which differs from an empty one.
    pub default: Option<String>,
}

/// A command in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `["program", "argument"…]`, run as it is.
    Exec(Vec<String>),
    /// Text for the stage's shell.
    Shell(String),
}

/// A `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Flags such as `--mount=type=cache,target=/root/.cache`, as written.
    pub flags: Vec<String>,
    /// What is run, without the bodies of here-documents.
    pub command: Command,
    /// The here-documents that the command names, in order.
    pub heredocs: Vec<Heredoc>,
}

impl Run {
    /// The shell text that this instruction runs, or `None` for the exec form and for documents fed to a program.
    ///
    /// A `RUN` that consists of one here-document runs its body.
    #[must_use]
    pub fn script(&self) -> Option<&str> {
        match (&self.command, self.heredocs.as_slice()) {
            (Command::Shell(text), []) => Some(text),
            (Command::Shell(text), [only]) if text.trim_start().starts_with("<<") => {
                (text.split_whitespace().count() == 1).then_some(only.content.as_str())
            }
            _ => None,
        }
    }
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter; for `COPY`, the name of the file that it makes.
    pub name: String,
    /// Whether variables in it are expanded: the delimiter was not quoted.
    pub expand: bool,
    /// The body, every line with its newline; leading tabs removed after `<<-`.
    pub content: String,
}

/// A `COPY` or an `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The flags.
    pub flags: TransferFlags,
    /// What is copied; at least one.
    pub sources: Vec<Source>,
    /// Where to, unexpanded. A trailing slash means a directory.
    pub destination: String,
}

/// The flags of `COPY` and `ADD`, unexpanded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransferFlags {
    /// `--from`: a stage, a build context or an image.
    pub from: Option<String>,
    /// `--chown=user[:group]`
    pub chown: Option<String>,
    /// `--chmod`: octal, or symbolic as `chmod` takes it.
    pub chmod: Option<String>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`, each.
    pub exclude: Vec<String>,
    /// `--checksum` (ADD)
    pub checksum: Option<String>,
    /// `--keep-git-dir` (ADD)
    pub keep_git_dir: bool,
    /// `--unpack` (ADD); `None` where it was not said.
    pub unpack: Option<bool>,
}

/// A source of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path or pattern in the context, or for `ADD` a URL; unexpanded.
    Path(String),
    /// A file whose content is in the Dockerfile.
    Heredoc(Heredoc),
}

/// A `HEALTHCHECK`. Durations are in nanoseconds, as the image configuration holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`: switches an inherited check off.
    None,
    /// `CMD command` and its options.
    Check {
        /// What is run.
        command: Command,
        /// `--interval`
        interval_ns: Option<u64>,
        /// `--timeout`
        timeout_ns: Option<u64>,
        /// `--start-period`
        start_period_ns: Option<u64>,
        /// `--start-interval`
        start_interval_ns: Option<u64>,
        /// `--retries`
        retries: Option<u32>,
    },
}
