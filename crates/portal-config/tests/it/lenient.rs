//! The lenient reading: what it forgives, what it drops, what it says.

use vast_portal_config::{PortalConfig, Warning};

fn read(value: &str) -> (String, Vec<String>) {
    let reading = PortalConfig::parse_lenient(value);
    (reading.config.to_string(), reading.warnings.iter().map(ToString::to_string).collect())
}

#[test]
fn white_space_line_breaks_and_empty_entries_are_forgiven_silently() {
    let canonical = "localhost:1:2:/:A b|localhost:3:4:/x:C";
    for value in [
        " localhost : 1: 2 :/ : A b |localhost:3:4:/x:C",
        "\nlocalhost:1:2:/:A b\r\nlocalhost:3:4:/x:C\n",
        "|localhost:1:2:/:A b|||localhost:3:4:/x:C|",
        "localhost:1:2:/:A b\rlocalhost:3:4:/x:C",
        "localhost:0001:2:/:A b|\u{a0}localhost:3:4:/x:C",
    ] {
        assert_eq!(read(value), (canonical.to_owned(), vec![]), "{value:?}");
    }
}

#[test]
fn a_bad_entry_costs_itself_and_one_warning() {
    for bad in [
        "localhost:7860:17860:/",
        "localhost:0:17860:/:X",
        "localhost:7860:http:/:X",
        "localhost:+7860:17860:/:X",
        "localhost:7860:17860:/:",
        "localhost:${P}:17860:/:X",
        ":7860:17860:/:X",
        "a{b}:7860:17860:/:X",
        "a b:x:y:/:",
        "garbage",
    ] {
        let (config, warnings) = read(&format!("localhost:1:2:/:A|{bad}|localhost:3:4:/:C"));
        assert_eq!(config, "localhost:1:2:/:A|localhost:3:4:/:C", "{bad}");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with(&format!("entry 2 `{bad}` is left out: ")), "{}", warnings[0]);
    }
}

#[test]
fn one_warning_names_all_reasons() {
    let (_, warnings) = read("localhost:1:2:/:A|a b:x:0:/:");
    assert_eq!(
        warnings,
        ["entry 2 `a b:x:0:/:` is left out: `a b` is not a host name; \
          internal port `x` is not a number from 1 to 65535; \
          external port `0` is not a number from 1 to 65535; the label is empty"]
    );
}

#[test]
fn an_application_is_not_lost_for_its_path_or_host() {
    assert_eq!(
        read("localhost:1:2:docs:A|0.0.0.0:3:4::B"),
        (
            "localhost:1:2:/docs:A|0.0.0.0:3:4:/:B".to_owned(),
            vec![
                "entry 1 `localhost:1:2:docs:A` is read with the path `/docs`".to_owned(),
                "entry 2 `0.0.0.0:3:4::B` is read with the path `/`".to_owned(),
            ]
        )
    );
}

#[test]
fn a_later_entry_with_the_same_label_replaces_the_values_in_place() {
    assert_eq!(
        read("localhost:1:2:/:A|localhost:3:4:/:B|localhost:5:6:/x:A"),
        ("localhost:5:6:/x:A|localhost:3:4:/:B".to_owned(), vec![])
    );
}

#[test]
fn an_entirely_unusable_value_says_so_and_an_empty_one_does_not() {
    let reading = PortalConfig::parse_lenient("/portal-config.yaml");
    assert!(reading.config.entries.is_empty());
    assert_eq!(reading.warnings.last(), Some(&Warning::NothingUsable));
    for empty in ["", "|", " \n | "] {
        assert_eq!(read(empty), (String::new(), vec![]), "{empty:?}");
    }
}
