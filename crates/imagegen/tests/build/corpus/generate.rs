//! Dockerfiles drawn by lot from a grammar of what is valid: words with variables, copies, ignore files.
//!
//! Several draws share a Dockerfile, because a build costs more than what is in it: a label for each word, a stage for each
//! series of copies, all of them collected into the last stage.

use std::fmt::Write as _;
use std::path::Path;

use super::case::Case;
use super::chance::Chance;

/// What is drawn where nothing else is asked for.
pub(crate) const SEED: u64 = 20;

const WORD_FILES: usize = 4;
const WORDS: usize = 40;
const COPY_FILES: usize = 6;
const STAGES: usize = 8;
const IGNORE_FILES: usize = 12;

type Make = fn(&mut Chance) -> Case;

/// All that is drawn from one seed.
pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let chance = &mut Chance::new(seed);
    let mut cases = Vec::new();
    let kinds: [(&str, usize, Make); 3] =
        [("words", WORD_FILES, words), ("copies", COPY_FILES, copies), ("ignored", IGNORE_FILES, ignored)];
    for (kind, count, make) in kinds {
        for number in 0..count {
            let mut case = make(chance);
            case.name = format!("{kind} {number} (VAST_TEST_SEED={seed})");
            cases.push(case);
        }
    }
    cases
}

const NAMES: [&str; 6] = ["ALPHA", "BETA", "BLANK", "UNSET", "FROM_BASE", "QUOTED"];

fn words(chance: &mut Chance) -> Case {
    let mut dockerfile =
        "FROM base\nARG ALPHA=alpha\nARG BLANK=\nENV BETA=\"b e t a\" QUOTED=\"it's \\\"so\\\"\"\n".to_owned();
    for number in 0..WORDS {
        let word = word(chance, 2, true);
        writeln!(dockerfile, "LABEL l{number}=x{word}.").unwrap();
    }
    Case { dockerfile, ..Case::default() }
}

/// A word of up to four pieces; `depth` is how deep variables may nest.
fn word(chance: &mut Chance, depth: usize, quotes: bool) -> String {
    let mut out = String::new();
    for _ in 0..=chance.below(4) {
        let name = chance.of(&NAMES);
        match chance.below(if quotes { 9 } else { 6 }) {
            0 | 1 => out.push_str(chance.of(&["a", "b-c", "/d.e", ":f", "_", "{", "%", "#"])),
            2 => write!(out, "${name}/").unwrap(),
            3 => write!(out, "${{{name}}}").unwrap(),
            4 | 5 if depth > 0 => {
                let modifier = chance.of(&[":-", ":+"]);
                let inner = word(chance, depth - 1, false).replace(['{', '}'], "");
                let inner = if inner.contains('$') { format!("${{{name}}}") } else { inner };
                write!(out, "${{{name}{modifier}{inner}}}").unwrap();
            }
            6 => {
                let inside =
                    chance.of(&["two words", "$ALPHA x", "\\$ALPHA", "\\\"q\\\"", "a\\\\b", "\\n", "${BETA:-x y}", ""]);
                write!(out, "\"{inside}\"").unwrap();
            }
            7 => {
                let inside = chance.of(&["two words", "$ALPHA", "\\$A\\n", "\"q\"", "${BETA}", ""]);
                write!(out, "'{inside}'").unwrap();
            }
            8 => out.push_str(chance.of(&["\\$ALPHA", "\\ ", "\\\\", "\\\"", "\\'", "\\n"])),
            _ => out.push('z'),
        }
    }
    out
}

/// The context that is copied from: name and whether it is a directory.
const CONTEXT: [&str; 12] = [
    "a.txt",
    "b.txt",
    "run.sh",
    "d/a.txt",
    "d/b.md",
    "d/sub/c.txt",
    "d/sub/deep/x",
    "d/e/y",
    "e/a.txt",
    "e/new",
    "e/sub/c.txt",
    "f.md",
];

/// Sources that are files.
const FILES: [&str; 6] = ["a.txt b.txt", "*.txt", "?.txt run.sh", "d/*.txt e/new", "*.md", "e/[^s]*w"];

fn context() -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = CONTEXT
        .iter()
        .map(|path| {
            (
                if Path::new(path).extension().is_some_and(|suffix| suffix == "sh") {
                    format!("{path} 755")
                } else {
                    (*path).to_owned()
                },
                format!("{path}\n"),
            )
        })
        .collect();
    files.push(("d/link -> a.txt".to_owned(), String::new()));
    files.push(("e/out -> /etc/passwd".to_owned(), String::new()));
    files.push(("d/empty/".to_owned(), String::new()));
    files
}

fn copies(chance: &mut Chance) -> Case {
    let mut dockerfile = String::new();
    let mut last = "FROM scratch\n".to_owned();
    for stage in 0..STAGES {
        writeln!(dockerfile, "FROM base AS s{stage}\nARG NAME=named").unwrap();
        for number in 0..=chance.below(3) {
            if chance.once_in(3) {
                writeln!(
                    dockerfile,
                    "WORKDIR {}",
                    chance.of(&["/work", "sub", "./x/..", "/srv/data", "$NAME", "/a//b/"])
                )
                .unwrap();
            }
            let destination = destination(chance, number);
            writeln!(dockerfile, "COPY {}{} {destination}", flags(chance), sources(chance, &destination)).unwrap();
            if destination.ends_with('/') && chance.once_in(2) {
                // Files alone: a directory that is there keeps its owner and mode here, and gets new ones from buildah.
                let files = chance.of(&FILES);
                writeln!(dockerfile, "COPY {}{files} {destination}", flags(chance)).unwrap();
            }
        }
        writeln!(last, "COPY --from=s{stage} / /s{stage}/").unwrap();
    }
    // BuildKit writes the working directory of `scratch` down, buildah leaves it out.
    let differences = [("WorkingDir".to_owned(), "\"/\"".to_owned())].into();
    Case { dockerfile: dockerfile + &last, files: context(), differences, ..Case::default() }
}

fn destination(chance: &mut Chance, number: usize) -> String {
    let shape = chance.of(&[
        "/t#",
        "/t#/",
        "t#/",
        "./t#",
        "../t#/",
        "/t#/deep/er/",
        "/x/../t#/.",
        "/$NAME/t#/",
        "t#/${UNSET:-in}",
    ]);
    shape.replace('#', &number.to_string())
}

fn flags(chance: &mut Chance) -> &'static str {
    chance.of(&[
        "",
        "",
        "",
        "",
        "--chown=7:8 ",
        "--chown=user ",
        "--chown=9:video ",
        "--chmod=640 ",
        "--chmod=0755 --chown=3:4 ",
    ])
}

/// Sources that fit: one file may be named anew, anything else needs a directory, which a slash at the end says (`/.` does
/// not).
fn sources(chance: &mut Chance, destination: &str) -> &'static str {
    let single = ["a.txt", "./run.sh", "d/sub/../b.md", "d", "d/", "./d/.", "e/sub", "d/sub/deep", "d/link", "*.md"];
    let several =
        ["a.txt b.txt", "d e", "*.txt", "d/*", "d/*.txt e/new", "d/s* f.md", "?.txt run.sh", "[a-d]*", "e/[^s]*w"];
    if destination.ends_with('/') {
        if chance.once_in(2) { chance.of(&several) } else { chance.of(&single) }
    } else {
        chance.of(&single)
    }
}

fn ignored(chance: &mut Chance) -> Case {
    let rules = [
        "*",
        "**",
        "d",
        "d/",
        "/e",
        "*.txt",
        "**/*.txt",
        "*/a.txt",
        "d/*",
        "d/**",
        "**/sub",
        "d/sub/deep",
        "?.md",
        "[a-c]*",
        "e/n?w",
        "d/**/x",
        "**/c.txt",
        "d/../e",
        "# comment",
        "",
        "  f.md ",
        "d/l*",
        "**/e*",
    ];
    let mut lines = String::new();
    for _ in 0..=chance.below(6) {
        let negation = if chance.once_in(3) { "!" } else { "" };
        let rule = chance.of(&rules);
        // After `!`, buildah knows neither a slash at the beginning nor `..`, and does not look for stars in what is left out.
        let unknown = ["..", "**/", "*/"].iter().any(|part| rule.contains(part));
        let plain = !rule.is_empty() && !rule.starts_with(['#', '/', ' ']) && !unknown;
        let negation = if plain { negation } else { "" };
        writeln!(lines, "{negation}{rule}").unwrap();
    }
    let mut files = context();
    files.push((".dockerignore".to_owned(), lines));
    Case { dockerfile: "FROM base\nCOPY . /all\n".to_owned(), files, ..Case::default() }
}
