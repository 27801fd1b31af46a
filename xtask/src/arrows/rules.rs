//! The arrows and the decision: facts about the crates go in, findings come out.

use std::collections::BTreeSet;

/// What is known of one workspace member.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crate {
    /// The package name, such as `vast-portal-config`.
    pub(crate) name: String,
    /// Members of this workspace that its manifest lists as dependencies or build dependencies.
    pub(crate) dependencies: BTreeSet<String>,
    /// Members of this workspace that its manifest lists as development dependencies.
    pub(crate) dev_dependencies: BTreeSet<String>,
    /// Places in its sources that name another member.
    pub(crate) uses: Vec<Use>,
    /// Every package that ends up in a program which depends on this crate alone.
    pub(crate) linked: BTreeSet<String>,
}

/// A path into another member, found in the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    /// The package that the path starts at.
    pub(crate) package: String,
    /// The path's second segment; `None` where the crate is named alone.
    pub(crate) module: Option<String>,
    /// `file:line`.
    pub(crate) place: String,
}

/// A crate and the crates it may depend on.
struct Arrows {
    from: &'static str,
    to: &'static [Arrow],
}

/// One allowed direction.
struct Arrow {
    to: &'static str,
    /// The modules that the sources may name; empty: all.
    modules: &'static [&'static str],
}

const fn whole(to: &'static str) -> Arrow {
    Arrow { to, modules: &[] }
}

/// DESIGN, "Arrows". The end-to-end tests and this tool stand outside: they drive built programs, so that they cannot
/// reach behind what a user has.
const ARROWS: &[Arrows] = &[
    Arrows { from: "vast-portal-config", to: &[] },
    Arrows { from: "vast-gpu", to: &[] },
    Arrows { from: "vast-envhash", to: &[] },
    Arrows { from: "vast-sync", to: &[] },
    Arrows { from: "vast-portal", to: &[whole("vast-portal-config"), whole("vast-gpu")] },
    Arrows { from: "vast-imagegen", to: &[whole("vast-envhash"), whole("vast-portal-config")] },
    Arrows {
        from: "vast-boot",
        to: &[
            whole("vast-sync"),
            whole("vast-envhash"),
            whole("vast-gpu"),
            whole("vast-portal-config"),
            Arrow {
                to: "vast-portal",
                modules: &["auth", "caddy", "certificate", "env_vars", "logtee", "Error", "ICON"],
            },
        ],
    },
    Arrows {
        from: "vast-cli",
        to: &[
            whole("vast-portal-config"),
            whole("vast-gpu"),
            whole("vast-envhash"),
            whole("vast-sync"),
            whole("vast-boot"),
            whole("vast-portal"),
            whole("vast-imagegen"),
        ],
    },
    Arrows { from: TESTKIT, to: &[] },
    Arrows { from: "vast-tests", to: &[whole(TESTKIT)] },
    // The demo is an end-to-end run that waits for a person.
    Arrows { from: "xtask", to: &[whole("vast-tests")] },
];

/// The one crate that everything may use in its tests, and nothing outside them.
const TESTKIT: &str = "vast-testkit";

/// Packages that a crate must never bring into a program.
struct Ban {
    what: &'static str,
    packages: &'static [&'static str],
    crates: &'static [&'static str],
}

pub(crate) const REGISTRY_CLIENTS: &[&str] = &["oci-client", "oci-distribution"];
pub(crate) const ASYNC_RUNTIMES: &[&str] = &["tokio", "async-std", "smol", "async-executor"];

const BANS: &[Ban] = &[
    Ban {
        what: "a registry client",
        packages: REGISTRY_CLIENTS,
        crates: &["vast-boot", "vast-sync", "vast-envhash", "vast-gpu"],
    },
    Ban {
        what: "an async runtime",
        packages: ASYNC_RUNTIMES,
        crates: &["vast-portal-config", "vast-envhash", "vast-gpu"],
    },
];

/// Everything in `crates` that goes against the arrows, in their order.
pub(crate) fn findings(crates: &[Crate]) -> Vec<String> {
    let mut findings = Vec::new();
    for member in crates {
        match ARROWS.iter().find(|arrows| arrows.from == member.name) {
            Some(arrows) => {
                manifest(member, arrows.to, &mut findings);
                sources(member, arrows.to, &mut findings);
            }
            None => findings.push(format!("{}: no arrows are laid down for this crate", member.name)),
        }
        links(member, &mut findings);
    }
    findings
}

fn manifest(member: &Crate, allowed: &[Arrow], findings: &mut Vec<String>) {
    for to in &member.dependencies {
        if !allowed.iter().any(|arrow| arrow.to == to) {
            findings.push(format!("{}: depends on {to}, against the arrows", member.name));
        }
    }
    // A test may name again what the crate depends on anyway, to turn a feature on.
    let fine = |to: &String| to == TESTKIT || allowed.iter().any(|arrow| arrow.to == to);
    for to in member.dev_dependencies.iter().filter(|to| !fine(to)) {
        findings.push(format!("{}: its tests depend on {to}; they may on {TESTKIT} only", member.name));
    }
}

fn sources(member: &Crate, allowed: &[Arrow], findings: &mut Vec<String>) {
    for used in &member.uses {
        // The crate's own name is how its binaries and examples reach it.
        if used.package == member.name || used.package == TESTKIT {
            continue;
        }
        let Some(arrow) = allowed.iter().find(|arrow| arrow.to == used.package) else {
            findings.push(format!("{}: {} uses {}, against the arrows", used.place, member.name, used.package));
            continue;
        };
        if arrow.modules.is_empty() {
            continue;
        }
        let named = used.module.as_deref().unwrap_or("the crate as a whole");
        if !arrow.modules.contains(&named) {
            findings.push(format!(
                "{}: {} uses {named} of {}; it may use {} only",
                used.place,
                member.name,
                used.package,
                arrow.modules.join(", ")
            ));
        }
    }
}

fn links(member: &Crate, findings: &mut Vec<String>) {
    for ban in BANS.iter().filter(|ban| ban.crates.contains(&member.name.as_str())) {
        for package in ban.packages.iter().filter(|package| member.linked.contains(**package)) {
            findings.push(format!("{}: links {package}, {}", member.name, ban.what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str) -> Crate {
        Crate { name: name.to_owned(), ..Crate::default() }
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn used(package: &str, module: Option<&str>) -> Vec<Use> {
        vec![Use { package: package.to_owned(), module: module.map(str::to_owned), place: "lib.rs:7".to_owned() }]
    }

    #[test]
    fn the_design_itself_has_no_findings() {
        let crates: Vec<Crate> = ARROWS
            .iter()
            .map(|arrows| Crate {
                dependencies: arrows.to.iter().map(|arrow| arrow.to.to_owned()).collect(),
                dev_dependencies: set(&[TESTKIT]),
                ..member(arrows.from)
            })
            .collect();
        assert_eq!(findings(&crates), Vec::<String>::new());
    }

    #[test]
    fn every_dependency_that_is_not_an_arrow_is_a_finding() {
        for arrows in ARROWS {
            for other in ARROWS.iter().map(|arrows| arrows.from) {
                let allowed = arrows.to.iter().any(|arrow| arrow.to == other);
                let subject = Crate { dependencies: set(&[other]), ..member(arrows.from) };
                assert_eq!(findings(&[subject]).is_empty(), allowed, "{} -> {other}", arrows.from);
            }
        }
    }

    #[test]
    fn tests_may_depend_on_the_testkit_and_along_the_arrows_only() {
        let subject = Crate { dev_dependencies: set(&[TESTKIT, "vast-sync"]), ..member("vast-gpu") };
        assert_eq!(findings(&[subject]), ["vast-gpu: its tests depend on vast-sync; they may on vast-testkit only"]);
        let along = Crate { dev_dependencies: set(&["vast-sync"]), ..member("vast-boot") };
        assert_eq!(findings(&[along]), Vec::<String>::new());
    }

    #[test]
    fn a_path_in_the_sources_against_the_arrows_is_a_finding() {
        let subject = Crate { uses: used("vast-imagegen", Some("digest")), ..member("vast-gpu") };
        assert_eq!(findings(&[subject]), ["lib.rs:7: vast-gpu uses vast-imagegen, against the arrows"]);
        let own = Crate { uses: used("vast-gpu", Some("cuda")), ..member("vast-gpu") };
        assert_eq!(findings(&[own]), Vec::<String>::new());
    }

    #[test]
    fn boot_uses_what_it_shares_with_the_portal_and_no_more() {
        let with = |module| findings(&[Crate { uses: used("vast-portal", module), ..member("vast-boot") }]);
        assert_eq!(with(Some("caddy")), Vec::<String>::new());
        assert_eq!(
            with(Some("server")),
            [
                "lib.rs:7: vast-boot uses server of vast-portal; it may use auth, caddy, certificate, env_vars, logtee, Error, ICON only"
            ]
        );
        assert_eq!(with(None).len(), 1);
    }

    #[test]
    fn a_banned_package_in_the_graph_is_a_finding() {
        for (name, package, banned) in [
            ("vast-boot", "oci-client", true),
            ("vast-sync", "oci-distribution", true),
            ("vast-imagegen", "oci-client", false),
            ("vast-envhash", "tokio", true),
            ("vast-portal-config", "smol", true),
            ("vast-boot", "tokio", false),
        ] {
            let subject = Crate { linked: set(&["serde", package]), ..member(name) };
            assert_eq!(!findings(&[subject]).is_empty(), banned, "{name} with {package}");
        }
    }

    #[test]
    fn a_crate_without_arrows_is_a_finding() {
        assert_eq!(findings(&[member("vast-utils")]), ["vast-utils: no arrows are laid down for this crate"]);
    }
}
