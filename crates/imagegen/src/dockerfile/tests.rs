use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Dockerfile {
    Dockerfile::parse("Dockerfile", text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn only(instruction: &str) -> Instruction {
    parse(&format!("FROM scratch\n{instruction}\n")).stages.remove(0).instructions.remove(0).value
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_guides_external_dockerfile_parses() {
    let file = parse(include_str!("testdata/external.Dockerfile"));
    assert_eq!(file.global_args.len(), 2);
    assert_eq!(
        file.stages.iter().map(|stage| stage.name.as_deref()).collect::<Vec<_>>(),
        [Some("vast_base_image"), Some("vllm_build")]
    );
    let words: Vec<_> = file.stages[1].instructions.iter().map(|i| i.value.word()).collect();
    assert_eq!(words.iter().filter(|&&word| word == "COPY").count(), 5);
    assert_eq!(words.last(), Some(&"CMD"));
    assert_eq!(file.stage_before("VAST_BASE_IMAGE", 1), Some(0));
    assert_eq!(file.stage_before("0", 1), Some(0));
    assert_eq!(file.stage_before("1", 1), None, "a stage sees only those before it");
}

#[test]
fn every_instruction_is_understood() {
    let exec = |words: &[&str]| Command::Exec(words.iter().map(|&w| w.to_owned()).collect());
    for (text, expected) in [
        ("env A=1 B=\"x y\" C=$A", Instruction::Env(pairs(&[("A", "1"), ("B", "\"x y\""), ("C", "$A")]))),
        ("ENV OLD form of $A", Instruction::Env(pairs(&[("OLD", "form of $A")]))),
        ("LABEL a.b=\"c=d\"", Instruction::Label(pairs(&[("a.b", "\"c=d\"")]))),
        (
            "ARG A B= C=d",
            Instruction::Arg(
                [("A", None), ("B", Some("")), ("C", Some("d"))]
                    .map(|(name, default)| ArgDeclaration {
                        name: name.to_owned(),
                        default: default.map(str::to_owned),
                    })
                    .to_vec(),
            ),
        ),
        ("CMD []", Instruction::Cmd(exec(&[]))),
        ("CMD [\"a\", \"b c\"]", Instruction::Cmd(exec(&["a", "b c"]))),
        ("CMD ['a']", Instruction::Cmd(Command::Shell("['a']".into()))),
        ("ENTRYPOINT top -b", Instruction::Entrypoint(Command::Shell("top -b".into()))),
        ("SHELL [\"/bin/bash\", \"-c\"]", Instruction::Shell(vec!["/bin/bash".into(), "-c".into()])),
        ("WORKDIR /a b", Instruction::Workdir("/a b".into())),
        ("USER 1001:0", Instruction::User("1001:0".into())),
        ("EXPOSE 80 53/udp", Instruction::Expose("80 53/udp".into())),
        ("VOLUME [\"/a b\"]", Instruction::Volume(vec!["/a b".into()])),
        ("VOLUME /a /b", Instruction::Volume(vec!["/a".into(), "/b".into()])),
        ("STOPSIGNAL SIGTERM", Instruction::Stopsignal("SIGTERM".into())),
        ("HEALTHCHECK NONE", Instruction::Healthcheck(Healthcheck::None)),
        (
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f /",
            Instruction::Healthcheck(Healthcheck::Check {
                command: Command::Shell("curl -f /".into()),
                interval_ns: Some(90_000_000_000),
                timeout_ns: None,
                start_period_ns: None,
                start_interval_ns: None,
                retries: Some(3),
            }),
        ),
        ("MAINTAINER me", Instruction::Maintainer("me".into())),
        ("ONBUILD RUN x", Instruction::Onbuild("RUN x".into())),
    ] {
        assert_eq!(only(text), expected, "{text}");
    }
}

#[test]
fn transfers_keep_flags_sources_and_destination_apart() {
    let Instruction::Copy(copy) =
        only("COPY --from=build --chown=1001:0 --chmod=755 --link --exclude=*.md --exclude=x a b* /to/")
    else {
        panic!()
    };
    assert_eq!(copy.flags.from.as_deref(), Some("build"));
    assert_eq!((copy.flags.chown.as_deref(), copy.flags.chmod.as_deref()), (Some("1001:0"), Some("755")));
    assert!(copy.flags.link);
    assert_eq!(copy.flags.exclude, ["*.md", "x"]);
    assert_eq!(copy.sources, [Source::Path("a".into()), Source::Path("b*".into())]);
    assert_eq!(copy.destination, "/to/");

    let Instruction::Copy(copy) = only("COPY [\"a b\", \"/c d/\"]") else { panic!() };
    assert_eq!((copy.sources, copy.destination.as_str()), (vec![Source::Path("a b".into())], "/c d/"));

    let Instruction::Copy(copy) = only("COPY <<one <<\"two\" f /to/\n$x\none\n$y\ntwo") else { panic!() };
    let names: Vec<_> = copy
        .sources
        .iter()
        .map(|source| match source {
            Source::Heredoc(heredoc) => format!("{}:{}:{}", heredoc.name, heredoc.expand, heredoc.content),
            Source::Path(path) => path.clone(),
        })
        .collect();
    assert_eq!(names, ["one:true:$x\n", "two:false:$y\n", "f"]);
}

#[test]
fn the_script_of_a_run_is_found_in_each_form() {
    let script = |text: &str| match only(text) {
        Instruction::Run(run) => run.script().map(str::to_owned),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        script("RUN set -e && \\\n  env-hash > /.env_hash").as_deref(),
        Some("set -e &&   env-hash > /.env_hash")
    );
    assert_eq!(script("RUN <<EOF\na\nb\nEOF").as_deref(), Some("a\nb\n"));
    assert_eq!(script("RUN cat <<EOF\na\nEOF"), None);
    assert_eq!(script("RUN [\"a\"]"), None);
    let Instruction::Run(run) = only("RUN --mount=type=cache,target=/c --network=none make") else { panic!() };
    assert_eq!(run.flags, ["--mount=type=cache,target=/c", "--network=none"]);
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (text, expected) in [
        ("", "Dockerfile:1: there is no FROM instruction"),
        ("ARG A\n", "Dockerfile:1: there is no FROM instruction"),
        ("ENV A=b\nFROM x", "Dockerfile:1: `ENV` before the first FROM: only ARG may stand there"),
        ("FROM x\n\n# c\nCOPPY a b", "Dockerfile:4: unknown instruction `COPPY`"),
        ("FROM x as a\nFROM y AS A", "Dockerfile:2: stage `a` is defined twice"),
        ("FROM x AS 1a", "Dockerfile:1: `1a` cannot name a stage"),
        ("FROM x y", "Dockerfile:1: FROM needs an image"),
        ("FROM --flag=1 x", "Dockerfile:1: FROM has no flag `--flag=1`"),
        ("FROM x\nCOPY a", "Dockerfile:2: COPY needs a source and a destination"),
        ("FROM x\nCOPY --chwon=1 a b", "Dockerfile:2: COPY has no flag `--chwon=1`"),
        ("FROM x\nADD --from=x a b", "Dockerfile:2: ADD has no flag `--from=x`"),
        ("FROM x\nCOPY --link=maybe a b", "Dockerfile:2: `--link=maybe` needs true or false"),
        ("FROM x\nENV A", "Dockerfile:2: ENV needs name=value"),
        ("FROM x\nENV A=1 B", "Dockerfile:2: ENV needs name=value"),
        ("FROM x\nENV A=\"1", "Dockerfile:2: a quotation beginning with \" is never closed"),
        ("FROM x\nSHELL bash", "Dockerfile:2: SHELL needs a JSON array"),
        ("FROM x\nRUN \\\n", "Dockerfile:2: RUN needs a command"),
        ("FROM x\nRUN <<E\nx", "Dockerfile:2: here-document `E` is never closed"),
        ("FROM x\nHEALTHCHECK --interval=soon CMD x", "Dockerfile:2: `--interval=soon` needs a duration"),
        ("FROM x\nARG a$b", "Dockerfile:2: `a$b` cannot be the name of a variable"),
    ] {
        let said = Dockerfile::parse("Dockerfile", text).unwrap_err().to_string();
        assert!(said.starts_with(expected), "{text:?}: {said}");
    }
    let hint = Dockerfile::parse("Dockerfile", "FROM x\nCOPPY a b").unwrap_err().hint().unwrap();
    assert!(hint.starts_with("did you mean `COPY`? The instructions are ADD, ARG"), "{hint}");
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "(FROM|RUN|COPY|ADD|ENV|ARG|HEALTHCHECK|#| |\\\\|\n|<<|E|\"|'|=|--|\\[|\\]|é|\\$|\\{|`){0,60}") {
        let _ = Dockerfile::parse("Dockerfile", &text);
    }

    #[test]
    fn any_text_after_from_is_parsed_or_refused(text in "\\PC{0,80}") {
        let _ = Dockerfile::parse("Dockerfile", &format!("FROM scratch\n{text}"));
    }

    #[test]
    fn lines_point_into_the_file(blank in 0..5_usize, continued in 0..5_usize) {
        let text = format!("FROM x\n{}ENV A=1 {}\n", "\n".repeat(blank), "\\\n  B=2 ".repeat(continued));
        let file = parse(&text);
        let env = &file.stages[0].instructions[0];
        prop_assert_eq!((env.line, env.last_line), (2 + blank, 2 + blank + continued));
    }
}
