//! The question of every supervisor script.

use std::fs;
use std::time::Duration;

use vast_portal_config::listed::{Listed, listed, wait_for};
use vast_portal_config::yaml;

use crate::application;

#[test]
fn a_term_is_found_in_labels_in_any_case_and_literally() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("portal.yaml");
    let labels = ["Instance Portal", "C++ (v2)", "it's \"x\"", "Ünïcode"];
    yaml::write(&path, &labels.map(|label| application(label, 1, 2))).unwrap();
    for (term, expected) in [
        ("Instance Portal", Listed::Yes),
        ("instance portal", Listed::Yes),
        ("PORTAL", Listed::Yes),
        ("c++ (V2)", Listed::Yes),
        ("it's \"X\"", Listed::Yes),
        ("üNÏCODE", Listed::Yes),
        ("Inst.nce", Listed::No),
        (".*", Listed::No),
        ("C+", Listed::Yes),
        ("localhost", Listed::No),
        ("hostname", Listed::No),
        ("applications", Listed::No),
    ] {
        assert_eq!(listed(&path, term), expected, "{term}");
    }
}

#[test]
fn a_key_or_a_name_is_enough() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("portal.yaml");
    fs::write(&path, yaml::render(&[application("Old", 1, 2)]).replace("name: Old", "name: New")).unwrap();
    assert_eq!((listed(&path, "old"), listed(&path, "new")), (Listed::Yes, Listed::Yes));
}

#[test]
fn commented_applications_are_not_listed() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("portal.yaml");
    for text in ["applications: {}\n", "applications:\n#  My App:\n#    name: My App\n"] {
        fs::write(&path, text).unwrap();
        assert_eq!(listed(&path, "My App"), Listed::No, "{text}");
    }
}

#[test]
fn a_torn_file_is_read_by_lines() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("portal.yaml");
    let apps = ["Instance Portal", "My App", "it's \"x\""].map(|label| application(label, 1, 2));
    let text = yaml::render(&apps).replace("  My App:", "#  My App:") + "#  Gone:\n  # Too\n";
    fs::write(&path, text).unwrap();
    for (term, expected) in [
        ("instance portal", Listed::Yes),
        // Its name still stands in an uncommented line, as for deployed scripts.
        ("my app", Listed::Yes),
        ("it's \"x\"", Listed::Yes),
        ("gone", Listed::No),
        ("too", Listed::No),
    ] {
        assert_eq!(listed(&path, term), expected, "{term}");
    }
}

#[test]
fn no_file_and_no_yaml_are_undecidable() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("portal.yaml");
    assert!(matches!(listed(&path, "A"), Listed::Undecidable(reason) if reason.contains("portal.yaml")));
    for text in ["", "applications: {A: {", "A\n"] {
        fs::write(&path, text).unwrap();
        assert!(matches!(listed(&path, "A"), Listed::Undecidable(_)), "{text:?}");
    }
}

#[test]
fn waiting_ends_when_the_file_has_content() {
    let root = tempfile::tempdir().unwrap();
    let path = yaml::path(root.path());
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "").unwrap();
    assert!(!wait_for(&path, Duration::ZERO), "empty is not there yet");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wait_for(&path, Duration::from_mins(10)));
        yaml::write(&path, &[application("A", 1, 2)]).unwrap();
        assert!(waiter.join().unwrap());
    });
}

#[test]
fn waiting_needs_no_directory() {
    let root = tempfile::tempdir().unwrap();
    let path = yaml::path(root.path());
    assert!(!wait_for(&path, Duration::from_millis(1)));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wait_for(&path, Duration::from_mins(10)));
        yaml::write(&path, &[]).unwrap();
        assert!(waiter.join().unwrap());
    });
}
