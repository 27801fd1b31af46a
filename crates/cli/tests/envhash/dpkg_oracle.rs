//! Package databases made of random lines, beside the real dpkg: what it refuses is refused, what it lists is listed.

use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use crate::command_line::{run, text, write, write_program};

/// Databases in an ordinary run; `PROPTEST_CASES=2000` tries as many.
const CASES: u32 = 120;

/// Lines of a stanza, most of them as they should be.
fn line() -> impl Strategy<Value = &'static str> {
    select(vec![
        "Status: install ok installed",
        "Status: install ok installed",
        "Status: install ok installed",
        "Status: Hold OK Installed",
        "Status: purge ok not-installed",
        "Status: install ok unpacked",
        "Status: install reinstreq installed",
        "Status: install ok bogus",
        "Status: install bogus installed",
        "Status: install ok",
        "Version: 1.0-1",
        "Version: 1.0-1",
        "version:\t0:2",
        "Version: 1:2",
        "Version: 1:",
        "Version: 1 2",
        "Version: 1-",
        "Version: 3000000000:1",
        "Architecture: amd64",
        "Architecture: all",
        "Architecture: i386",
        "Multi-Arch: same",
        "Multi-Arch : foreign",
        "Multi-Arch: bogus",
        "Essential: yes",
        "Description: x",
        "Homepage: x\n continued\n .",
        "Homepage: x\n ",
        "no colon",
        ": no name",
    ])
}

fn stanza() -> impl Strategy<Value = String> {
    let name = select(vec!["liba", "LibB", "libc-dev", "cuda", "plain", "-bad", "a b", "liba:amd64"]);
    (name, prop::collection::vec(line(), 2..6))
        .prop_map(|(name, lines)| format!("Package: {name}\nMaintainer: x\n{}\n\n", lines.join("\n")))
}

/// What `dpkg -l` prints in state `ii`, as far as it counts; `None` where it refuses the database.
fn listed(admin: &Path) -> Option<Vec<String>> {
    let output = Command::new("dpkg").arg("--admindir").arg(admin).arg("-l").env("COLUMNS", "999").output().unwrap();
    // It ends so as well where there is nothing to list, and then says nothing about a file.
    if text(&output.stderr).contains("error: parsing") {
        return None;
    }
    let columns = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        format!("{}={}", columns.next().unwrap(), columns.next().unwrap())
    };
    let lines = text(&output.stdout).lines().filter(|line| line.starts_with("ii")).map(columns);
    let counts = |line: &String| {
        line.starts_with("lib") || line.ends_with("dev") || line.contains("cuda") || line.contains("rocm")
    };
    let mut lines: Vec<String> = lines.filter(counts).collect();
    lines.sort_unstable();
    Some(lines)
}

fn ours(root: &Path) -> Option<Vec<String>> {
    let output = run(&["--root", root.to_str().unwrap(), "--machine", "x86_64", "--json"]);
    if output.status.code() != Some(0) {
        assert!(output.stdout.is_empty() && text(&output.stderr).contains("/var/lib/dpkg/status"), "{output:?}");
        return None;
    }
    let inventory: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let field = |package: &serde_json::Value, name: &str| package[name].as_str().unwrap().to_owned();
    let packages = inventory["apt"]["packages"].as_array().unwrap();
    Some(packages.iter().map(|package| format!("{}={}", field(package, "name"), field(package, "version"))).collect())
}

#[test]
fn any_database_is_listed_or_refused_as_dpkg_does_it() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let config = Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    let (root, admin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in ["updates", "info"] {
        fs::create_dir(admin.path().join(folder)).unwrap();
    }
    write(admin.path(), "available", "");
    write(admin.path(), "arch", "amd64\ni386\n");
    write(root.path(), "var/lib/dpkg/arch", "amd64\ni386\n");
    write_program(root.path(), "usr/bin/dpkg");
    let databases = prop::collection::vec(stanza(), 1..4);
    let outcome = TestRunner::new(config).run(&databases, |stanzas| {
        let status = stanzas.concat();
        write(admin.path(), "status", &status);
        write(root.path(), "var/lib/dpkg/status", &status);
        prop_assert_eq!(ours(root.path()), listed(admin.path()), "{}", status);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
