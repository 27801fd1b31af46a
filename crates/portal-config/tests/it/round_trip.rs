//! What is written is what is read back.

use proptest::prelude::*;
use vast_portal_config::yaml::{self, Loaded};
use vast_portal_config::{Application, Entry, PortMap, PortalConfig};

/// Text near enough to the format to hit its rules, far enough to break them.
fn nearly() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        8 => "localhost|127\\.0\\.0\\.1|0\\.0\\.0\\.0|[1-9][0-9]{0,4}|/[a-z/]{0,4}|[A-Z][a-z ]{0,6}",
        2 => "[ \\t:|\\n\\r/${}0-9a-z\u{85}日\"'#-]{0,6}",
        1 => any::<String>(),
    ];
    let entry = prop::collection::vec(field, 1..7).prop_map(|fields| fields.join(":"));
    prop::collection::vec(entry, 0..4).prop_map(|entries| entries.join("|"))
}

/// Any label that the string can hold.
fn label() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[ -~]{1,12}", "[\"'\\\\:# \\[\\]{},&*!|>%@`?~-]{1,6}"]
        .prop_map(|label| label.replace(['|', '\n', '\r'], "/").replace("${", "$").trim().to_owned())
        .prop_filter("a label is not empty", |label| !label.is_empty())
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[ -~]{0,8}"]
        .prop_map(|path| format!("/{}", path.replace(['|', '\n', '\r', ':'], "/").replace("${", "$")).trim().to_owned())
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("localhost".to_owned()),
        "127\\.[0-9]{1,2}\\.[0-9]{1,2}\\.1".prop_map(|host| host.replace(".0", ".1"))
    ]
}

/// Valid configurations, without two claims on one external port.
fn config() -> impl Strategy<Value = PortalConfig> {
    let entry = (host(), 1..=u16::MAX, 1..=u16::MAX, path(), label()).prop_map(
        |(host, internal_port, external_port, path, label)| Entry { host, internal_port, external_port, path, label },
    );
    prop::collection::vec(entry, 0..6).prop_map(|mut entries| {
        let mut seen = std::collections::BTreeSet::new();
        entries.retain(|entry| seen.insert(entry.label.clone()));
        for (entry, port) in entries.iter_mut().zip(20_001..) {
            entry.external_port = if entry.external_port % 3 == 0 { entry.internal_port } else { port };
        }
        PortalConfig { entries }
    })
}

fn applications() -> impl Strategy<Value = Vec<Application>> {
    config().prop_map(|config| config.resolve(&PortMap::default()))
}

proptest! {
    #[test]
    fn every_valid_configuration_reads_back_from_its_text(config in config()) {
        let text = config.to_string();
        prop_assert_eq!(PortalConfig::parse(&text).map_err(|errors| errors.to_string()), Ok(config));
    }

    #[test]
    fn what_the_strict_reading_accepts_the_lenient_one_takes_as_it_is(text in nearly()) {
        if let Ok(config) = PortalConfig::parse(&text) {
            let lenient = PortalConfig::parse_lenient(&text);
            prop_assert_eq!(&lenient.config, &config);
            prop_assert!(lenient.warnings.is_empty(), "{:?}", lenient.warnings);
            prop_assert_eq!(PortalConfig::parse(&config.to_string()), Ok(config));
        }
    }

    #[test]
    fn the_lenient_reading_is_stable_and_repeats_itself(text in nearly()) {
        let first = PortalConfig::parse_lenient(&text).config;
        let second = PortalConfig::parse_lenient(&first.to_string());
        prop_assert_eq!(&second.config, &first);
        prop_assert!(second.warnings.is_empty(), "{:?}", second.warnings);
    }

    #[test]
    fn every_problem_points_into_the_value_and_is_shown(text in nearly()) {
        if let Err(errors) = PortalConfig::parse(&text) {
            prop_assert!(!errors.problems.is_empty());
            for problem in &errors.problems {
                prop_assert!(text.get(problem.span.clone()).is_some(), "{:?}", problem);
                let shown = errors.render(problem);
                prop_assert!(shown.lines().nth(2).is_some_and(|carets| carets.trim_start().starts_with('^')), "{}", shown);
                prop_assert!(!shown.replace('\n', "").contains(|c: char| c.is_control()), "{:?}", shown);
            }
        }
    }

    #[test]
    fn every_list_of_applications_reads_back_from_its_yaml(applications in applications()) {
        let text = yaml::render(&applications);
        let reading = yaml::parse(text.as_bytes(), &PortMap::default());
        prop_assert_eq!(reading.loaded, Loaded::Applications(applications), "{}", text);
        prop_assert!(reading.warnings.is_empty(), "{:?}", reading.warnings);
    }

    #[test]
    fn a_line_search_finds_every_printable_label(applications in applications()) {
        let text = yaml::render(&applications);
        for application in &applications {
            let label = &application.label;
            if label.chars().all(|c| (' '..='~').contains(&c)) {
                // `grep -iE "^[^#].*<label>"`, less the pattern language.
                let found = text.lines().any(|line| !line.starts_with('#') && line.get(1..).is_some_and(|line| line.contains(label.as_str())));
                prop_assert!(found, "{:?} in {}", label, text);
            }
        }
    }

    #[test]
    fn no_file_content_is_refused_with_a_panic(content in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = yaml::parse(&content, &PortMap::default());
    }
}
