//! The hash, component by component, for people.

use std::fmt::Write as _;

use vast_envhash::Inventory;

/// Renders every component with its hash and its inputs. The inputs are indented and as hashed, but for characters that a
/// terminal would act on: those are shown as escapes.
pub(super) fn render(inventory: &Inventory) -> String {
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", vast_envhash::printable(&line.to_string()));
    };
    line(format_args!("hash    {}  scheme {}", inventory.hash, inventory.scheme));
    let system = &inventory.system;
    line(format_args!("system  {}", system.hash));
    for fact in [&system.platform, &system.machine].into_iter().chain(&system.release) {
        line(format_args!("    {fact}"));
    }
    let apt = &inventory.apt;
    line(format_args!("apt     {}  {}", apt.hash, count(apt.packages.len(), "package")));
    for package in &apt.packages {
        line(format_args!("    {}", package.line()));
    }
    for venv in &inventory.venvs {
        let Some(python) = &venv.interpreter else {
            line(format_args!("venv    {}  {}: no executable bin/python", venv.hash, venv.name));
            continue;
        };
        let packages = count(venv.packages.len(), "distribution");
        line(format_args!("venv    {}  {}: Python {}, {packages}", venv.hash, venv.name, python.version));
        line(format_args!("    # {} (version stated by {})", python.path, python.stated_by));
        for package in &venv.packages {
            line(format_args!("    {}", package.line().replace('\n', "\n    ")));
        }
    }
    text
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use vast_envhash::{Apt, Distribution, Interpreter, Package, System, Venv};

    use super::*;

    #[test]
    fn every_input_is_shown_under_its_component() {
        let system = System::new("linux-x86_64".into(), "x86_64".into(), vec!["VERSION_ID=\"12\"".into()]);
        let apt = Apt::new(vec![Package { name: "libc6:amd64".into(), version: "2.36-9".into() }]);
        let python = Interpreter {
            path: "/usr/bin/python3.11".into(),
            version: "3.11.2".into(),
            stated_by: "`/usr/bin/python3.11`".into(),
        };
        let packages = ["uv", "torch"].map(|name| Distribution { name: Some(name.into()), version: Some("1".into()) });
        let venvs =
            vec![Venv::new("main".into(), Some(python), packages.to_vec()), Venv::new("off".into(), None, vec![])];
        insta::assert_snapshot!(render(&Inventory::new(system, apt, venvs, vec![])), @r#"
        hash    4d638bbfaf16  scheme 1
        system  0b8aa8344151
            linux-x86_64
            x86_64
            VERSION_ID="12"
        apt     27a249f7c2f5  1 package
            libc6:amd64=2.36-9
        venv    f34ae38de9ef  main: Python 3.11.2, 2 distributions
            # /usr/bin/python3.11 (version stated by `/usr/bin/python3.11`)
            torch==1
            uv==1
        venv    e3b0c44298fc  off: no executable bin/python
        "#);
    }
}
