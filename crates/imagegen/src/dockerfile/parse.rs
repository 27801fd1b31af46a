//! Logical lines to instructions.

use super::instruction::{ArgDeclaration, Command, Healthcheck, Instruction, Run, Source, Transfer, TransferFlags};
use super::lines::{self, At, LogicalLine};
use super::problem::{KNOWN, Problem};
use super::{Dockerfile, Located, Stage, words};

pub(super) fn dockerfile(file: &str, text: &str) -> Result<Dockerfile, At> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let directives = lines::directives(text)?;
    let escape = directives.escape;
    let mut global_args = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    for line in lines::logical(text, escape)? {
        let at = line.first;
        let (word, rest) = split_word(&line.text);
        if word == "FROM" {
            let stage = from(rest, &line, escape).map_err(|problem| (at, problem))?;
            if let Some(name) = stage.name.as_ref().filter(|name| stages.iter().any(|s| s.name.as_ref() == Some(name)))
            {
                return Err((at, Problem::DuplicateStage(name.clone())));
            }
            stages.push(stage);
            continue;
        }
        let value = instruction(&word, rest, &line, escape).map_err(|problem| (at, problem))?;
        let located = |value| Located { line: at, last_line: line.last, text: line.text.clone(), value };
        match (stages.last_mut(), value) {
            (Some(stage), value) => stage.instructions.push(located(value)),
            (None, Instruction::Arg(args)) => {
                let Located { line, last_line, text, .. } = located(Instruction::Arg(Vec::new()));
                global_args.push(Located { line, last_line, text, value: args });
            }
            (None, _) => return Err((at, Problem::BeforeFrom(word))),
        }
    }
    if stages.is_empty() {
        return Err((text.lines().count().max(1), Problem::NoStage));
    }
    Ok(Dockerfile { file: file.to_owned(), syntax: directives.syntax, escape, global_args, stages })
}

/// The instruction's word in capitals, and what follows it.
fn split_word(text: &str) -> (String, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let upper = word.to_ascii_uppercase();
    // An unknown word is shown as it was written.
    (if KNOWN.contains(&upper.as_str()) { upper } else { word.to_owned() }, rest.trim())
}

fn instruction(word: &str, rest: &str, line: &LogicalLine, escape: char) -> Result<Instruction, Problem> {
    Ok(match word {
        "ARG" => Instruction::Arg(args(rest, escape)?),
        "ENV" => Instruction::Env(pairs("ENV", rest, escape)?),
        "LABEL" => Instruction::Label(pairs("LABEL", rest, escape)?),
        "COPY" => Instruction::Copy(transfer("COPY", rest, line, escape)?),
        "ADD" => Instruction::Add(transfer("ADD", rest, line, escape)?),
        "RUN" => run(rest, line, escape)?,
        "CMD" => Instruction::Cmd(command(rest)),
        "ENTRYPOINT" => Instruction::Entrypoint(command(rest)),
        "SHELL" => match words::json_array(rest) {
            Some(shell) if !shell.is_empty() => Instruction::Shell(shell),
            _ => return Err(operands("SHELL", "needs a JSON array, such as [\"/bin/bash\", \"-c\"]")),
        },
        "WORKDIR" => Instruction::Workdir(one("WORKDIR", rest)?),
        "USER" => Instruction::User(one("USER", rest)?),
        "EXPOSE" => Instruction::Expose(one("EXPOSE", rest)?),
        "VOLUME" => Instruction::Volume(volumes(rest)?),
        "STOPSIGNAL" => Instruction::Stopsignal(one("STOPSIGNAL", rest)?),
        "HEALTHCHECK" => Instruction::Healthcheck(healthcheck(rest, escape)?),
        "MAINTAINER" => Instruction::Maintainer(one("MAINTAINER", rest)?),
        "ONBUILD" => Instruction::Onbuild(one("ONBUILD", rest)?),
        other => return Err(Problem::UnknownInstruction(other.to_owned())),
    })
}

fn operands(instruction: &'static str, expected: &'static str) -> Problem {
    Problem::Operands { instruction, expected }
}

fn one(instruction: &'static str, rest: &str) -> Result<String, Problem> {
    if rest.is_empty() { Err(operands(instruction, "needs an operand")) } else { Ok(rest.to_owned()) }
}

fn from(rest: &str, line: &LogicalLine, escape: char) -> Result<Stage, Problem> {
    let (flags, rest) = words::flags(rest, escape);
    let mut platform = None;
    for flag in flags {
        match flag.split_once('=') {
            Some(("--platform", value)) => platform = Some(value.to_owned()),
            _ => return Err(Problem::UnknownFlag { instruction: "FROM", flag }),
        }
    }
    let words = words::split(rest, escape)?;
    let (image, name) = match words.as_slice() {
        [image] => (image, None),
        [image, r#as, name] if r#as.eq_ignore_ascii_case("as") => (image, Some(name.to_lowercase())),
        _ => return Err(operands("FROM", "needs an image, or an image, AS and a name")),
    };
    if let Some(name) = name.as_ref().filter(|name| !is_stage_name(name)) {
        return Err(Problem::StageName(name.clone()));
    }
    Ok(Stage { line: line.first, last_line: line.last, image: image.clone(), platform, name, instructions: Vec::new() })
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
}

fn args(rest: &str, escape: char) -> Result<Vec<ArgDeclaration>, Problem> {
    let words = words::split(rest, escape)?;
    if words.is_empty() {
        return Err(operands("ARG", "needs NAME or NAME=default"));
    }
    let declaration = |word: &String| {
        let (name, default) =
            word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value.to_owned())));
        Ok(ArgDeclaration { name: variable_name(name)?, default })
    };
    words.iter().map(declaration).collect()
}

fn variable_name(name: &str) -> Result<String, Problem> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.is_empty() && name.chars().all(fits) {
        Ok(name.to_owned())
    } else {
        Err(Problem::VariableName(name.to_owned()))
    }
}

/// `key=value…`, or the old form `key value to the end of the line`, which its first word without `=` tells.
fn pairs(instruction: &'static str, rest: &str, escape: char) -> Result<Vec<(String, String)>, Problem> {
    let expected = "needs name=value";
    let first = words::first(rest, escape).ok_or_else(|| operands(instruction, expected))?;
    if !first.contains('=') {
        let value = rest[first.len()..].trim_start();
        return if value.is_empty() {
            Err(operands(instruction, expected))
        } else {
            Ok(vec![(first.to_owned(), value.to_owned())])
        };
    }
    let pair = |word: String| match word.split_once('=') {
        Some(("", _)) | None => Err(operands(instruction, expected)),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
    };
    words::split(rest, escape)?.into_iter().map(pair).collect()
}

fn command(rest: &str) -> Command {
    words::json_array(rest).map_or_else(|| Command::Shell(rest.to_owned()), Command::Exec)
}

fn run(rest: &str, line: &LogicalLine, escape: char) -> Result<Instruction, Problem> {
    let (flags, rest) = words::flags(rest, escape);
    if rest.is_empty() {
        return Err(operands("RUN", "needs a command"));
    }
    let known = ["--mount=", "--network=", "--security=", "--device="];
    if let Some(flag) = flags.iter().find(|flag| !known.iter().any(|known| flag.starts_with(known))) {
        return Err(Problem::UnknownFlag { instruction: "RUN", flag: flag.clone() });
    }
    Ok(Instruction::Run(Run { flags, command: command(rest), heredocs: line.heredocs.clone() }))
}

fn volumes(rest: &str) -> Result<Vec<String>, Problem> {
    let volumes =
        words::json_array(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    if volumes.is_empty() || volumes.iter().any(|volume| volume.trim().is_empty()) {
        return Err(operands("VOLUME", "needs paths"));
    }
    Ok(volumes)
}

fn transfer(instruction: &'static str, rest: &str, line: &LogicalLine, escape: char) -> Result<Transfer, Problem> {
    let (given, rest) = words::flags(rest, escape);
    let flags = transfer_flags(instruction, given)?;
    let mut paths =
        words::json_array(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let destination = paths.pop().filter(|_| !paths.is_empty());
    let destination = destination.ok_or_else(|| operands(instruction, "needs a source and a destination"))?;
    let mut heredocs = line.heredocs.iter();
    let mut source = |path: String| match heredocs.as_slice() {
        [_, ..] if lines::is_heredoc(&path) => heredocs.next().cloned().map_or(Source::Path(path), Source::Heredoc),
        _ => Source::Path(path),
    };
    let sources: Vec<Source> = paths.into_iter().map(&mut source).collect();
    Ok(Transfer { flags, sources, destination })
}

fn transfer_flags(instruction: &'static str, given: Vec<String>) -> Result<TransferFlags, Problem> {
    let mut flags = TransferFlags::default();
    let add = instruction == "ADD";
    for flag in given {
        let (name, value) =
            flag.split_once('=').map_or((flag.as_str(), None), |(name, value)| (name, Some(value.to_owned())));
        let text = || {
            let problem = || Problem::FlagValue { flag: flag.clone(), expected: "a value" };
            value.clone().filter(|value| !value.is_empty()).ok_or_else(problem)
        };
        let switch = || match value.as_deref() {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(_) => Err(Problem::FlagValue { flag: flag.clone(), expected: "true or false" }),
        };
        match name {
            "--from" if !add => flags.from = Some(text()?),
            "--chown" => flags.chown = Some(text()?),
            "--chmod" => flags.chmod = Some(text()?),
            "--link" => flags.link = switch()?,
            "--parents" if !add => flags.parents = switch()?,
            "--exclude" => flags.exclude.push(text()?),
            "--checksum" if add => flags.checksum = Some(text()?),
            "--keep-git-dir" if add => flags.keep_git_dir = switch()?,
            "--unpack" if add => flags.unpack = Some(switch()?),
            _ => return Err(Problem::UnknownFlag { instruction, flag }),
        }
    }
    Ok(flags)
}

fn healthcheck(rest: &str, escape: char) -> Result<Healthcheck, Problem> {
    let (flags, rest) = words::flags(rest, escape);
    let (kind, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if kind.eq_ignore_ascii_case("none") && rest.is_empty() && flags.is_empty() {
        return Ok(Healthcheck::None);
    }
    if !kind.eq_ignore_ascii_case("cmd") || rest.trim().is_empty() {
        return Err(operands("HEALTHCHECK", "needs NONE, or CMD and a command"));
    }
    let (mut interval, mut timeout, mut start_period, mut start_interval, mut retries) = (None, None, None, None, None);
    for flag in flags {
        let (name, value) = flag.split_once('=').unwrap_or((&flag, ""));
        let expected = "a duration such as 30s or 1m30s";
        let duration =
            || duration_ns(value).ok_or_else(|| Problem::FlagValue { flag: flag.clone(), expected }).map(Some);
        match name {
            "--interval" => interval = duration()?,
            "--timeout" => timeout = duration()?,
            "--start-period" => start_period = duration()?,
            "--start-interval" => start_interval = duration()?,
            "--retries" => {
                let problem = |_| Problem::FlagValue { flag: flag.clone(), expected: "a number" };
                retries = Some(value.parse().map_err(problem)?);
            }
            _ => return Err(Problem::UnknownFlag { instruction: "HEALTHCHECK", flag }),
        }
    }
    Ok(Healthcheck::Check {
        command: command(rest.trim()),
        interval_ns: interval,
        timeout_ns: timeout,
        start_period_ns: start_period,
        start_interval_ns: start_interval,
        retries,
    })
}

/// Go's duration text: numbers with units, such as `1m30s` or `1.5h`.
fn duration_ns(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let unit = match &rest[digits..unit_end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[unit_end..];
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded just before, never negative")]
    let nanoseconds = (!text.is_empty() && total < 9e18).then_some(total as u64);
    nanoseconds
}
