//! A root that is changed at random, again and again: after every change all three ways agree.
//!
//! `PROPTEST_CASES=500` runs as many roots; a failure prints the shell code of every step.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use crate::fixture::stage;

/// Changes of one root.
const STEPS: usize = 12;

/// Roots in an ordinary run.
const CASES: u32 = 5;

/// Names of environments whose order by bytes, by the glob and by people differ.
const VENVS: [&str; 4] = ["main", "a", "a-b", "Z"];

/// A word of the shell that is these bytes, whatever they are.
fn word(text: &str) -> String {
    let escaped = text.bytes().fold(String::new(), |escaped, byte| escaped + &format!("\\x{byte:02x}"));
    format!("$'{escaped}'")
}

fn venv() -> impl Strategy<Value = &'static str> {
    select(&VENVS[..])
}

/// Text of a metadata file: header lines as they should not be.
fn metadata() -> impl Strategy<Value = String> {
    let line = select(vec![
        "Metadata-Version: 2.1",
        "Name: plain",
        "Name:",
        "name:\tlower",
        "NAME: \u{e9}t\u{e9} ",
        "Name: with: colon",
        "Version: 1.0",
        "Version:2 ",
        "version: 1!2.0+local",
        "Version: \u{2028}3",
        " continued",
        "\tby a tab",
        "        eight",
        "         nine",
        "   ",
        "",
        "no header",
        "From nobody",
        ": nameless",
        "Sp ace: x",
        "Summary: \u{1f40d}",
        "Name: \u{b}vertical",
        "Version: \u{1c}separator",
    ]);
    let end = select(vec!["\n", "\n", "\n", "\r\n", "\r", "\n\n"]);
    prop::collection::vec((line, end), 0..9)
        .prop_map(|lines| lines.into_iter().flat_map(|(line, end)| [line, end]).collect())
}

fn pth() -> impl Strategy<Value = String> {
    let line = select(vec![
        "/opt/one",
        "/opt/one/",
        "//opt/one",
        "/opt/./one",
        "/opt/two/../one",
        "../../../../../../opt/two",
        " /opt/two",
        "/opt/two \t",
        "# /opt/two",
        "/opt/missing",
        "/opt/one.egg",
        "./inner",
        "inner",
        ".",
        "/",
        "\u{feff}/opt/two",
        "/opt/one\u{2028}/opt/two",
        "import os",
        "import sys; sys.path.append('/opt/two')",
        "import site; site.addsitedir('/opt/one')",
        "import sys, types, os;x = 1",
        "importlib",
        "",
    ]);
    let end = select(vec!["\n", "\n", "\r\n", "\r", "\n\n"]);
    prop::collection::vec((line, end), 0..6)
        .prop_map(|lines| lines.into_iter().flat_map(|(line, end)| [line, end]).collect())
}

fn configuration() -> impl Strategy<Value = String> {
    let line = select(vec![
        "home = /usr/bin",
        "HOME=/usr/bin",
        "home = /opt/gone/bin",
        "home =",
        "include-system-site-packages = false",
        "include-system-site-packages = true",
        "Include-System-Site-Packages=TRUE ",
        "include-system-site-packages = yes",
        "version = 3.9.1",
        "no equals",
        "= nothing",
        "",
    ]);
    prop::collection::vec(line, 0..5).prop_map(|lines| lines.join("\n") + "\n")
}

fn release() -> impl Strategy<Value = String> {
    let line = select(vec![
        "VERSION_ID=\"12\"",
        "VERSION_ID=24.04",
        "VERSION_CODENAME=noble",
        "VERSION_CODENAME=\u{e9}",
        " VERSION_ID=1",
        "VERSION_IDS=2",
        "ID=debian",
        "VERSION_ID=",
        "VERSION_ID=3\r",
        "",
    ]);
    let end = select(vec!["\n", "\n", "\n", ""]);
    prop::collection::vec((line, end), 0..5)
        .prop_map(|lines| lines.into_iter().flat_map(|(line, end)| [line, end]).collect())
}

/// A package that dpkg accepts beside all others of this list: only `liba` is there for several architectures.
/// Gives what it takes the place of, and the code that prints its stanza.
fn stanza() -> impl Strategy<Value = (String, String)> {
    let package = select(vec![
        ("liba", "$native", "Multi-Arch: same\\n"),
        ("liba", "armhf", "Multi-Arch: same\\n"),
        ("liba", "m68k", "Multi-Arch: same\\nEssential: yes\\n"),
        ("libb", "armhf", "Multi-Arch: foreign\\n"),
        ("LibC", "all", "Conffiles:\\n /x 1\\n"),
        ("x-dev", "$native", "Multi-Arch: allowed\\n"),
        ("cuda-x", "m68k", ""),
        ("plain", "all", ""),
        ("dpkg", "$native", ""),
    ]);
    let status = select(vec![
        "install ok installed",
        "install ok installed",
        "hold ok installed",
        "deinstall ok installed",
        "install reinstreq installed",
        "install ok unpacked",
        "install ok half-configured",
        "purge ok not-installed",
    ]);
    let version = select(vec!["1", "0:1.0-1", "2:1.0", "1.0~rc1", "1+rocm6", "1.dev"]);
    (package, status, version).prop_map(|((name, architecture, fields), status, version)| {
        let part = format!("{name}-{}", if name == "liba" { architecture } else { "any" });
        (part, format!("package {name} '{status}' \"{architecture}\" {version} $'{fields}'"))
    })
}

/// One change, as shell code that succeeds whatever is there.
fn mutation() -> impl Strategy<Value = String> {
    let at = |venv: &str, code: &str| {
        format!("[[ ! -d /venv/{venv} ]] || {{ site_of /venv/{venv}; mkdir -p \"$site\"; {code}; }}")
    };
    let make = select(vec!["make_venv", "make_venv", "make_uv", "make_conda"]);
    let options = select(vec!["", "", "--system-site-packages"]);
    let name = || select(vec!["demo", "Demo.Pkg", "demo_pkg", "\u{e9}", "a b"]);
    let version = || select(vec!["1", "2.0", "1!3"]);
    let suffix = select(vec![".dist-info", ".egg-info", ".DIST-INFO", ".egg/EGG-INFO", ".other"]);
    let file = select(vec!["METADATA", "PKG-INFO", "RECORD"]);
    prop_oneof![
        3 => (venv(), make, options).prop_map(|(venv, make, options)| {
            let options = if make == "make_conda" { "" } else { options };
            format!("rm -rf /venv/{venv}; {make} {venv} {options}")
        }),
        1 => venv().prop_map(|venv| format!("rm -rf /venv/{venv}")),
        1 => (venv(), venv()).prop_map(|(from, to)| format!("[[ ! -d /venv/{from} || -e /venv/{to} ]] || mv -T /venv/{from} /venv/{to} 2> /dev/null || true")),
        1 => (venv(), venv()).prop_map(|(from, to)| format!("[[ -e /venv/{to} ]] || {{ mkdir -p /venv; ln -sfn /venv/{from} /venv/{to}; }}")),
        1 => (venv(), select(vec!["chmod a-x", "chmod a+x", "rm -f"])).prop_map(|(venv, change)| {
            format!("[[ ! -f /venv/{venv}/bin/python || $(readlink -f /venv/{venv}/bin/python) != /venv/* ]] || {change} /venv/{venv}/bin/python")
        }),
        3 => (venv(), name(), version()).prop_map(move |(venv, name, version)| at(venv, &format!("dist \"$site\" {} {}", word(name), word(version)))),
        5 => (venv(), name(), suffix, file, metadata()).prop_map(move |(venv, name, suffix, file, text)| {
            let place = format!("\"$site/\"{}{suffix}", word(name));
            at(venv, &format!("rm -rf {place}; mkdir -p {place}; printf %s {} > {place}/{file}", word(&text)))
        }),
        2 => (venv(), name(), metadata()).prop_map(move |(venv, name, text)| {
            let place = format!("\"$site/\"{}.egg-info", word(name));
            at(venv, &format!("rm -rf {place}; printf %s {} > {place}", word(&text)))
        }),
        1 => (venv(), name()).prop_map(move |(venv, name)| at(venv, &format!("rm -rf \"$site/\"{}*", word(name)))),
        3 => (venv(), select(vec!["a.pth", "b.pth", ".hidden.pth"]), pth()).prop_map(move |(venv, file, text)| {
            let others = "mkdir -p /opt/one /opt/two/x \"$site/inner\"; dist /opt/one one 1; dist /opt/two two 2; dist \"$site/inner\" inner 3; ln -sfn /opt/one /opt/one.egg";
            at(venv, &format!("{others}; printf %s {} > \"$site/{file}\"", word(&text)))
        }),
        2 => (venv(), configuration()).prop_map(|(venv, text)| {
            format!("[[ ! -d /venv/{venv} || -d /venv/{venv}/conda-meta ]] || printf %s {} > /venv/{venv}/pyvenv.cfg", word(&text))
        }),
        // dpkg refuses most packages where they are stated twice.
        3 => stanza().prop_map(|(part, stanza)| {
            format!("{stanza} > /opt/parts/{part}; cat /opt/parts/* > /var/lib/dpkg/status")
        }),
        1 => (select(vec!["0000", "0001", "0007"]), stanza()).prop_map(|(file, (_, stanza))| format!("{stanza} > /var/lib/dpkg/updates/{file}")),
        1 => Just("printf '%s\\narmhf\\n' \"$native\" > /var/lib/dpkg/arch".to_owned()),
        2 => release().prop_map(|text| format!("printf %s {} > /etc/os-release", word(&text))),
    ]
}

/// A small database and one environment, so that the first change already has something to meet.
const START: &str = r#"
mkdir /opt/parts
package dpkg 'install ok installed' "$native" 1.21 '' > /opt/parts/dpkg-any
cat /opt/parts/* > /var/lib/dpkg/status
make_venv main
dist "$site" first 1
"#;

#[test]
fn a_root_that_changes_at_random_agrees_after_every_change() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    // A failure is a dozen processes to try again: enough to find the step, not to try for hours.
    let config = Config { cases, max_shrink_iters: 60, failure_persistence: None, ..Config::default() };
    let steps = prop::collection::vec(mutation(), STEPS);
    let outcome = TestRunner::new(config).run(&steps, |mutations| {
        let steps: Vec<String> = std::iter::once(START.to_owned()).chain(mutations).collect();
        let staged = stage(&steps);
        for (number, outcome) in staged.outcomes.iter().enumerate() {
            let agree = outcome.offline == outcome.recipe && outcome.live == outcome.recipe;
            prop_assert!(agree, "step {}: {:?}\n{}", number, outcome, staged.difference);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
