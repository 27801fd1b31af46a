//! The user's file wins over the template's string, and no work of the user is lost.

use std::fs;
use std::path::Path;

use vast_portal_config::yaml::{self, Source, effective, read_effective};

use crate::{application, env, labels};

const CONFIG: (&str, &str) = ("PORTAL_CONFIG", "localhost:1111:11111:/:Instance Portal|localhost:7860:17860:/:My App");

fn put(root: &Path, content: &str) {
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/portal.yaml"), content).unwrap();
}

fn get(root: &Path, name: &str) -> Option<String> {
    fs::read_to_string(root.join("etc").join(name)).ok()
}

#[test]
fn without_a_file_the_string_is_resolved_and_published() {
    let root = tempfile::tempdir().unwrap();
    let env = env(&[CONFIG, ("VAST_TCP_PORT_1111", "40000"), ("VAST_TCP_PORT_17860", "40001")]);
    let found = effective(root.path(), &env).unwrap();
    assert_eq!((found.source, &found.warnings[..]), (Source::Environment, &[][..]));
    let ports: Vec<_> =
        found.applications.iter().map(|app| (app.internal_port, app.external_port, app.proxied)).collect();
    assert_eq!(ports, [(11111, 1111, true), (7860, 17860, true)]);
    found.publish().unwrap();

    // From now on the file decides, and says the same.
    let again = effective(root.path(), &env).unwrap();
    assert_eq!((again.source, again.applications), (Source::File, found.applications));
}

#[test]
fn a_file_that_lists_applications_wins_and_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let text = format!("# mine\n{}", yaml::render(&[application("Mine", 1, 2)]));
    put(root.path(), &text);
    let found = effective(root.path(), &env(&[CONFIG])).unwrap();
    assert_eq!((labels(&found.applications), found.source), (vec!["Mine"], Source::File));
    found.publish().unwrap();
    assert_eq!(get(root.path(), "portal.yaml").unwrap(), text);
    assert_eq!(get(root.path(), "portal.yaml.bad"), None);
}

#[test]
fn an_unusable_file_is_kept_as_bad_and_written_anew() {
    for bad in ["", "applications:\n#  My App:\n#    hostname: x\n", "applications: {A: {exter", "<html>"] {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), bad);
        let found = effective(root.path(), &env(&[CONFIG])).unwrap();
        assert_eq!(found.source, Source::Environment, "{bad:?}");
        assert!(found.warnings[0].ends_with("counts as absent"), "{:?}", found.warnings);
        assert!(found.warnings[1].contains("portal.yaml.bad"), "{:?}", found.warnings);
        assert_eq!(get(root.path(), "portal.yaml.bad").as_deref(), Some(bad));
        found.publish().unwrap();
        assert_eq!(get(root.path(), "portal.yaml").unwrap(), yaml::render(&found.applications));
        assert_eq!(get(root.path(), "portal.yaml.bad").as_deref(), Some(bad));
    }
}

#[test]
fn an_unusable_file_is_not_touched_by_reading_alone() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "<html>");
    assert_eq!(read_effective(root.path(), &env(&[CONFIG])).unwrap().applications.len(), 2);
    assert_eq!(fs::read_dir(root.path().join("etc")).unwrap().count(), 1);
}

#[test]
fn nothing_to_publish_is_not_damage_at_the_next_boot() {
    let root = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let found = effective(root.path(), &env(&[])).unwrap();
        assert_eq!((found.applications.len(), found.warnings.len()), (0, 0), "{:?}", found.warnings);
        found.publish().unwrap();
        assert_eq!(get(root.path(), "portal.yaml").as_deref(), Some("applications: {}\n"));
        assert_eq!(get(root.path(), "portal.yaml.bad"), None);
    }
    // A later template has applications again.
    assert_eq!(effective(root.path(), &env(&[CONFIG])).unwrap().applications.len(), 2);
}

#[test]
fn a_file_with_a_commented_key_line_is_read_by_lines_and_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let edited = [application("Instance Portal", 11111, 1111), application("My App", 7861, 17861)];
    let text = yaml::render(&edited).replace("  My App:", "#  My App:");
    put(root.path(), &text);
    let found = effective(root.path(), &env(&[CONFIG])).unwrap();
    assert_eq!(found.source, Source::Lines);
    assert_eq!(found.applications, edited, "the user's ports, not the template's");
    assert_eq!(found.warnings.len(), 1, "{:?}", found.warnings);
    found.publish().unwrap();
    assert_eq!(get(root.path(), "portal.yaml").unwrap(), text);
    assert_eq!(get(root.path(), "portal.yaml.bad"), None);
}

#[test]
fn with_duplicate_keys_the_string_tells_the_ports_of_what_the_lines_name() {
    let root = tempfile::tempdir().unwrap();
    let one = yaml::render(&[application("My App", 7860, 17860)]);
    put(root.path(), &format!("{one}{}", one.strip_prefix("applications:\n").unwrap()));
    let found = effective(root.path(), &env(&[CONFIG])).unwrap();
    assert_eq!((found.source, labels(&found.applications)), (Source::Lines, vec!["My App"]));
}

#[test]
fn a_bad_entry_and_an_unknown_order_are_warnings() {
    let root = tempfile::tempdir().unwrap();
    let env = env(&[("PORTAL_CONFIG", "nonsense|localhost:1:2:/:A"), ("PORTAL_PORT_ORDER", "up")]);
    let found = effective(root.path(), &env).unwrap();
    assert_eq!(labels(&found.applications), ["A"]);
    assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
    assert!(found.warnings[0].contains("PORTAL_PORT_ORDER") && found.warnings[1].starts_with("PORTAL_CONFIG: entry 1"));
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_that_names_it() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc/portal.yaml")).unwrap();
    let error = effective(root.path(), &env(&[])).unwrap_err();
    assert!(error.to_string().starts_with("cannot read `"), "{error}");
}
