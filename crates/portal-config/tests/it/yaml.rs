//! portal.yaml: the file as it is written, and as its user leaves it.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use vast_portal_config::yaml::{self, Loaded};
use vast_portal_config::{Application, PortMap};

use crate::{application, labels, publishing};

const TWO: &str = "\
applications:
  Instance Portal:
    hostname: localhost
    external_port: 1111
    internal_port: 11111
    open_path: /
    name: Instance Portal
  My App:
    hostname: localhost
    external_port: 17860
    internal_port: 7860
    open_path: /
    name: My App
";

fn two() -> Vec<Application> {
    vec![application("Instance Portal", 11111, 1111), application("My App", 7860, 17860)]
}

fn parse(text: &str) -> Loaded {
    yaml::parse(text.as_bytes(), &PortMap::default()).loaded
}

#[test]
fn the_file_has_the_shape_that_deployed_readers_know() {
    assert_eq!(yaml::render(&two()), TWO);
    assert_eq!(yaml::render(&[]), "applications: {}\n");
    assert_eq!(parse(TWO), Loaded::Applications(two()));
}

#[test]
fn labels_of_any_kind_are_quoted_as_little_as_needed() {
    let rendered = |label: &str| {
        let text = yaml::render(&[application(label, 1, 2)]);
        let (key, rest) = text.strip_prefix("applications:\n  ").unwrap().split_once("\n    hostname:").unwrap();
        let name = rest.split_once("name: ").unwrap().1;
        (key.to_owned(), name.trim_end_matches('\n').to_owned())
    };
    for (label, key, name) in [
        ("Wan2.1 API", "Wan2.1 API:", "Wan2.1 API"),
        ("Guacamole (VNC)", "Guacamole (VNC):", "Guacamole (VNC)"),
        ("#1 App", "'#1 App':", "'#1 App'"),
        ("Yes", "'Yes':", "'Yes'"),
        ("8080", "'8080':", "'8080'"),
        ("12:30", "'12:30':", "'12:30'"),
        ("a: b", "'a: b':", "'a: b'"),
        ("{x}", "'{x}':", "'{x}'"),
        ("<<", "'<<':", "'<<'"),
        ("日本語", "'日本語':", "'日本語'"),
        (r"C:\app", r"'C:\app':", r"'C:\app'"),
        ("it's", "\"it's\":", "\"it's\""),
        ("it's \"x\"", "\"it's \\\"x\\\"\":", "|-\n      it's \"x\""),
        ("a\u{1b}b\u{85}", "\"a\\x1bb\\x85\":", "\"a\\x1bb\\x85\""),
        ("x\u{2028}\u{feff}", "\"x\\u2028\\ufeff\":", "\"x\\u2028\\ufeff\""),
    ] {
        assert_eq!(rendered(label), (key.to_owned(), name.to_owned()));
    }
}

#[test]
fn a_label_too_long_for_a_short_key_reads_back() {
    let applications = vec![application(&"x'\"".repeat(700), 1, 2), application("after", 3, 4)];
    assert_eq!(parse(&yaml::render(&applications)), Loaded::Applications(applications));
}

#[test]
fn a_repeated_label_is_written_once_with_its_last_values() {
    let text = yaml::render(&[application("A", 1, 2), application("B", 3, 4), application("A", 5, 6)]);
    assert_eq!(parse(&text), Loaded::Applications(vec![application("A", 5, 6), application("B", 3, 4)]));
}

#[test]
fn what_the_platform_publishes_is_proxied() {
    let Loaded::Applications(applications) = yaml::parse(TWO.as_bytes(), &publishing(&[17860])).loaded else {
        panic!("a good file")
    };
    assert_eq!(applications.iter().map(|app| app.proxied).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_users_spelling_is_understood() {
    let text = "# mine\napplications:\n  '123': {external_port: \"2\", internal_port: 1}\n  x:\n    internal_port: 3\n    external_port: 4\n    open_path: docs\n    extra: [1, 2]\n";
    let mut expected = vec![application("123", 1, 2), application("x", 3, 4)];
    expected[1].path = "/docs".to_owned();
    assert_eq!(parse(text), Loaded::Applications(expected));
}

#[test]
fn one_bad_application_costs_itself() {
    let text = TWO.replace("internal_port: 7860", "internal_port: seven");
    let reading = yaml::parse(text.as_bytes(), &PortMap::default());
    assert_eq!(reading.loaded, Loaded::Applications(vec![application("Instance Portal", 11111, 1111)]));
    assert_eq!(
        reading.warnings,
        ["application `My App` is left out: internal_port `seven` is not a number from 1 to 65535"]
    );
}

#[test]
fn commented_applications_are_off() {
    let text = TWO.replace("  My App:", "#  My App:");
    let text: String = text
        .lines()
        .enumerate()
        .map(|(number, line)| if number > 7 { format!("#{line}\n") } else { format!("{line}\n") })
        .collect();
    assert_eq!(parse(&text), Loaded::Applications(vec![application("Instance Portal", 11111, 1111)]));
    let all: String = TWO.lines().skip(1).fold("applications:\n".to_owned(), |text, line| text + "# " + line + "\n");
    assert_eq!(parse(&all), Loaded::Applications(vec![]));
}

#[test]
fn a_commented_key_line_leaves_a_file_for_reading_by_lines() {
    for torn in [
        TWO.replace("  My App:", "#  My App:"),
        TWO.replace("  My App:", "  # My App:"),
        TWO.replace("  Instance Portal:", "#  Instance Portal:"),
        TWO.replace("  Instance Portal:", "#Instance Portal:").replace("  My App:", "  #My App:"),
        format!("{TWO}{}", TWO.strip_prefix("applications:\n").unwrap()),
    ] {
        assert_eq!(parse(&torn), Loaded::LinesOnly(torn.clone()));
    }
}

#[test]
fn anything_else_is_bad() {
    for text in [
        "",
        "\n  \n",
        "# nothing\n",
        "applications",
        "[]",
        "applications: 3\n",
        "applications:\n  - a\n",
        "applications:\n  A: 3\n",
        "applications:\n  A:\n    hostname: localhost\n",
        "apps: {}\n",
        "applications: {A: {external_port: 1, inter",
        "applications:\n  A:\n    external_port: 1\n   internal_port: 2\n",
        "<html></html>",
        "\u{0}\u{0}\u{0}",
        "a: &a [*a]",
        "applications: {}\n---\napplications: {}\n",
    ] {
        assert!(matches!(parse(text), Loaded::Bad { .. }), "{text:?}: {:?}", parse(text));
    }
    assert!(matches!(yaml::parse(b"applications: \xff", &PortMap::default()).loaded, Loaded::Bad { .. }));
}

#[test]
fn wherever_a_file_is_cut_off_no_wrong_application_is_read() {
    for end in 0..TWO.len() {
        let text = &TWO[..end];
        match parse(text) {
            Loaded::Bad { .. } => {}
            // Cut where a whole file could end as well: behind all that is known of an application.
            Loaded::Applications(applications) => {
                assert_eq!(applications, two()[..applications.len()], "{text:?}");
                assert!(text.ends_with('\n') || !applications.is_empty(), "{text:?}");
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }
}

#[test]
fn an_alias_bomb_is_refused_quickly() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let previous = format!("*a{}", level - 1);
        writeln!(bomb, "a{level}: &a{level} [{}]", [previous.as_str(); 10].join(", ")).unwrap();
    }
    bomb += "applications: {A: {external_port: 1, internal_port: 2, extra: *a11}}\n";
    assert!(matches!(parse(&bomb), Loaded::Bad { .. }));
}

#[test]
fn a_new_file_is_readable_by_services_and_an_existing_one_keeps_its_mode_and_owner() {
    let root = tempfile::tempdir().unwrap();
    let path = yaml::path(root.path());
    yaml::write(&path, &two()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), TWO);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);

    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&path, Some(1001), Some(0)).unwrap();
    yaml::write(&path, &[]).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o640, 1001, 0));
    let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn links_stay_and_their_target_is_replaced() {
    let root = tempfile::tempdir().unwrap();
    let path = yaml::path(root.path());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::create_dir(root.path().join("data")).unwrap();
    symlink("../data/link", &path).unwrap();
    symlink("portal.yaml", root.path().join("data/link")).unwrap();
    // Twice: the target is missing at first.
    for applications in [two(), vec![application("A", 1, 2)]] {
        yaml::write(&path, &applications).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert!(fs::symlink_metadata(root.path().join("data/link")).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(root.path().join("data/portal.yaml")).unwrap(), yaml::render(&applications));
    }
    let before = fs::metadata(root.path().join("data")).unwrap().ino();
    assert_eq!(fs::read_dir(root.path().join("data")).unwrap().count(), 2, "{before}");
}

#[test]
fn a_loop_of_links_is_an_error_that_names_the_file() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("portal.yaml");
    symlink("portal.yaml", &path).unwrap();
    let error = yaml::write(&path, &two()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot publish `{}`", path.display()));
}

#[test]
fn an_unchanged_file_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("portal.yaml");
    yaml::write(&path, &two()).unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    yaml::write(&path, &two()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().ino(), before);
}

#[test]
fn a_reader_sees_the_old_file_or_the_new_one() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("portal.yaml");
    let many: Vec<_> = (1..400).map(|port| application(&format!("App {port}"), port, port + 1000)).collect();
    yaml::write(&path, &many).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..50 {
                yaml::write(&path, if round % 2 == 0 { &many[..1] } else { &many }).unwrap();
            }
        });
        while !writer.is_finished() {
            let loaded = yaml::load(&path, &PortMap::default()).unwrap();
            let Loaded::Applications(applications) = loaded else { panic!("a torn file: {loaded:?}") };
            assert!(matches!(labels(&applications).len(), 1 | 399));
        }
    });
}
