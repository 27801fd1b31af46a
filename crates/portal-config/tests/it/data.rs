//! Values seen in public use, read both ways; what each means is written down in `portal_configs.expected`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use vast_portal_config::{Entry, PortMap, PortalConfig};

const VALUES: &str = include_str!("../data/portal_configs.txt");
const EXPECTED: &str = include_str!("../data/portal_configs.expected");

/// The expectations as one text per line of the data.
fn expectations() -> BTreeMap<usize, String> {
    let mut sections: BTreeMap<usize, String> = BTreeMap::new();
    let mut number = 0;
    for line in EXPECTED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(next) => number = next.parse().unwrap(),
            None => writeln!(sections.entry(number).or_default(), "{line}").unwrap(),
        }
    }
    sections
}

fn both_readings(value: &str) -> String {
    let mut text = String::new();
    match PortalConfig::parse(value) {
        Ok(_) => text.push_str("strict ok\n"),
        Err(errors) => {
            for problem in &errors.problems {
                let (entry, span, kind) = (problem.entry, &problem.span, &problem.kind);
                writeln!(text, "strict entry {entry}, bytes {}..{}: {kind}", span.start, span.end).unwrap();
            }
        }
    }
    let reading = PortalConfig::parse_lenient(value);
    for Entry { host, internal_port, external_port, path, label } in &reading.config.entries {
        writeln!(text, "entry {host} {internal_port} {external_port} {path} {label}").unwrap();
    }
    for warning in &reading.warnings {
        writeln!(text, "warn {warning}").unwrap();
    }
    text
}

#[test]
fn values_in_public_use_read_as_written_down() {
    let mut expected = expectations();
    for (index, value) in VALUES.lines().enumerate() {
        let number = index + 1;
        let expected = expected.remove(&number).unwrap_or_else(|| panic!("line {number} has no expectation"));
        assert_eq!(both_readings(value), expected, "line {number}: {value}");
    }
    assert!(expected.is_empty(), "expectations without a line: {:?}", expected.keys());
}

#[test]
fn on_a_host_that_publishes_either_position_every_application_is_proxied_to_the_other() {
    for value in VALUES.lines() {
        let config = PortalConfig::parse_lenient(value).config;
        for entry in config.entries.iter().filter(|entry| entry.internal_port != entry.external_port) {
            let one = PortalConfig { entries: vec![entry.clone()] };
            for (published, other) in
                [(entry.internal_port, entry.external_port), (entry.external_port, entry.internal_port)]
            {
                let env = BTreeMap::from([(format!("VAST_TCP_PORT_{published}"), "40000".to_owned())]);
                let application = &one.resolve(&PortMap::from_env(&env))[0];
                assert_eq!((application.external_port, application.internal_port), (published, other), "{entry}");
                assert!(application.proxied, "{entry}");
            }
        }
    }
}
