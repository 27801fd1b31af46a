//! The strict reading: every problem, where it is, and how it is shown.

use vast_portal_config::{Field, PortalConfig, ProblemKind, StrictErrors};

use crate::publishing;

fn errors(value: &str) -> StrictErrors {
    PortalConfig::parse(value).expect_err(value)
}

/// Each problem as its entry number, the text under its span, and its kind.
fn problems(value: &str) -> Vec<(usize, String, ProblemKind)> {
    let problems = errors(value).problems;
    problems.into_iter().map(|problem| (problem.entry, value[problem.span].to_owned(), problem.kind)).collect()
}

#[test]
fn each_rule_is_told_at_its_place() {
    use ProblemKind as K;
    let text = str::to_owned;
    for (value, entry, under, kind) in [
        ("localhost:1:2:/", 1, "", K::MissingFields(vec![Field::Label])),
        ("localhost:1:2", 1, "", K::MissingFields(vec![Field::Path, Field::Label])),
        ("localhost:0:2:/:A", 1, "0", K::BadPort(Field::InternalPort, text("0"))),
        ("localhost:1:65536:/:A", 1, "65536", K::BadPort(Field::ExternalPort, text("65536"))),
        ("localhost:1:http:/:A", 1, "http", K::BadPort(Field::ExternalPort, text("http"))),
        ("localhost:1::/:A", 1, "", K::BadPort(Field::ExternalPort, text(""))),
        ("localhost:1:2:/:", 1, "", K::EmptyLabel),
        ("localhost:1:2:docs:A", 1, "docs", K::BadPath(text("docs"))),
        ("localhost:1:2::A", 1, "", K::BadPath(text(""))),
        ("localhost:1:1:/:A|localhost:2:2:/:A", 2, "A", K::DuplicateLabel { label: text("A"), first: 1 }),
        ("localhost:1:2:/:${NAME}", 1, "${NAME}", K::Unexpanded(text("${NAME}"))),
        ("localhost:${P:-80}:2:/:A", 1, "${P:-80}", K::Unexpanded(text("${P:-80}"))),
        ("localhost:1:2:/${A:-${B}}x:A", 1, "${A:-${B}}", K::Unexpanded(text("${A:-${B}}"))),
        ("10.0.0.7:1:2:/:A", 1, "10.0.0.7", K::HostNotLocal(text("10.0.0.7"))),
        ("0.0.0.0:1:2:/:A", 1, "0.0.0.0", K::HostNotLocal(text("0.0.0.0"))),
        (":1:2:/:A", 1, "", K::BadHost(text(""))),
        ("a b:1:2:/:A", 1, "a b", K::BadHost(text("a b"))),
        ("|localhost:1:2:/:A", 1, "", K::EmptyEntry),
        ("localhost:1:2:/:A|", 2, "", K::EmptyEntry),
        ("localhost:1:1:/:A||localhost:2:2:/:B", 2, "", K::EmptyEntry),
        (" ", 1, "", K::EmptyEntry),
        (" localhost:1:2:/:A", 1, " localhost", K::WhiteSpace(Field::Host)),
        ("localhost:1: 2:/:A", 1, " 2", K::WhiteSpace(Field::ExternalPort)),
        ("localhost:1:2:/:A |localhost:3:4:/:B", 1, "A ", K::WhiteSpace(Field::Label)),
        ("localhost:1:1:/:A\nlocalhost:2:2:/:B", 1, "\n", K::LineBreak),
        ("localhost:1:1:/:A\r\n", 1, "\r\n", K::LineBreak),
    ] {
        assert_eq!(problems(value), [(entry, under.to_owned(), kind)], "{value:?}");
    }
}

#[test]
fn every_problem_of_every_entry_is_told_at_once() {
    let kinds: Vec<_> = problems("example.org:x:0:docs:A|localhost:1:2:/:A|/etc")
        .into_iter()
        .map(|(entry, under, _)| (entry, under))
        .collect();
    let expected = [(1, "example.org"), (1, "x"), (1, "0"), (1, "docs"), (2, "A"), (3, "")];
    assert_eq!(kinds, expected.map(|(entry, under)| (entry, under.to_owned())));
}

#[test]
fn one_external_port_may_lead_to_one_target_only() {
    // The guide's order: position 3 is the external port.
    assert_eq!(
        problems("localhost:1:9:/:A|127.0.0.1:1:9:/x:B|localhost:2:9:/:C"),
        [(3, "9".to_owned(), ProblemKind::PortConflict { port: 9, target: "localhost:1".to_owned(), first: 1 })]
    );
    // Jupyter's pair is known: position 2 is the external port here.
    assert_eq!(
        problems("localhost:8080:18080:/:A|localhost:7000:8080:/:B")[0].2,
        ProblemKind::PortConflict { port: 8080, target: "localhost:18080".to_owned(), first: 1 }
    );
    // Direct links share a port with what is proxied on it.
    assert!(PortalConfig::parse("localhost:8080:18080:/:A|localhost:8080:8080:/terminals/1:B").is_ok());
}

#[test]
fn evidence_of_an_instance_decides_what_conflicts() {
    let value = "localhost:9000:9001:/:A|localhost:9000:9002:/:B";
    assert!(PortalConfig::parse(value).is_ok());
    let errors = PortalConfig::parse_on(value, &publishing(&[9000])).expect_err(value);
    assert_eq!(value[errors.problems[0].span.clone()], *"9000");
}

#[test]
fn text_that_only_looks_like_a_variable_is_text() {
    for label in ["$HOME", "Price ${ 5", "{x}", "a:b:c", "C++ (v2) #1", "日本語"] {
        let config = PortalConfig::parse(&format!("localhost:1:2:/:{label}")).expect(label);
        assert_eq!(config.entries[0].label, label);
    }
}

#[test]
fn an_empty_value_is_an_empty_configuration() {
    assert_eq!(PortalConfig::parse(""), Ok(PortalConfig::default()));
}

#[test]
fn problems_are_shown_with_their_entry_and_carets() {
    insta::assert_snapshot!(
        errors("localhost:1111:11111:/:Instance Portal|localhost:70000:17860:/:My App|0.0.0.0:8000:12345:docs:日本|日本:1:1"),
        @r"
    entry 2, bytes 49..54: internal port `70000` is not a number from 1 to 65535
      localhost:70000:17860:/:My App
                ^^^^^
    entry 3, bytes 70..77: host `0.0.0.0` is not local
      0.0.0.0:8000:12345:docs:日本
      ^^^^^^^
      hint: 0.0.0.0 is an address to listen on; the proxy connects to localhost
    entry 3, bytes 89..93: path `docs` does not start with `/`
      0.0.0.0:8000:12345:docs:日本
                         ^^^^
      hint: write `/` for the application's start page
    entry 4, bytes 101..107: `日本` is not a host name
      日本:1:1
      ^^^^
      hint: applications run on the instance: write localhost
    entry 4, bytes 111..111: the entry has no path and no label
      日本:1:1
              ^
      hint: an entry is host:port:port:path:label
    "
    );
}

#[test]
fn what_cannot_be_seen_is_shown_escaped_and_carets_stay_in_line() {
    insta::assert_snapshot!(errors("localhost:1:x:/:A\u{1b}[31m\nlocalhost:2:2:/:日本 \n"), @r"
    entry 1, bytes 12..13: external port `x` is not a number from 1 to 65535
      localhost:1:x:/:A\u{1b}[31m
                  ^
    entry 1, bytes 22..23: a line break where `|` should separate the entries
      localhost:1:x:/:A\u{1b}[31m\n
                                 ^^
    entry 2, bytes 39..46: white space around the label
      localhost:2:2:/:日本 
                      ^^^^^
    entry 2, bytes 46..47: a line break where `|` should separate the entries
      localhost:2:2:/:日本 \n
                           ^^
    ");
}

#[test]
fn an_empty_entry_is_shown_between_its_neighbours() {
    insta::assert_snapshot!(errors("|localhost:1:1:/:A||localhost:2:2:/:B|"), @r"
    entry 1, bytes 0..0: the entry is empty
      |localhost:1:1:/:A
      ^
      hint: remove the extra `|`
    entry 3, bytes 19..19: the entry is empty
      localhost:1:1:/:A||localhost:2:2:/:B
                        ^
      hint: remove the extra `|`
    entry 5, bytes 38..38: the entry is empty
      localhost:2:2:/:B|
                        ^
      hint: remove the extra `|`
    ");
}
