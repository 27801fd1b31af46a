//! The applications' ports: does the application listen on its own, and does Caddy on the user's?

use std::collections::{BTreeMap, BTreeSet};

use vast_portal::caddy::Site;
use vast_portal_config::yaml::{self, Loaded};
use vast_portal_config::{Application, PortMap};

use super::{Area, Finding, Look, Severity, counted};
use crate::{env_vars, listeners};

/// What the kernel shows of Caddy.
const CADDY: &str = "caddy";

/// What it shows of the program that has a port until Caddy takes over.
const STATUS_PAGE: &str = "vast-boot";

/// What is known of the ports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The applications of `/etc/portal.yaml`, or why it tells none.
    pub applications: Applications,
    /// The ports that something listens on, and the programs that do where that can be seen; nothing without `/proc`.
    pub listening: Option<BTreeMap<u16, BTreeSet<String>>>,
    /// `SERVERLESS=true`: there is no portal.
    pub serverless: bool,
}

/// What `/etc/portal.yaml` tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Applications {
    /// There is no such file.
    Absent,
    /// These.
    Listed(Vec<Application>),
    /// Nothing, and why.
    Unreadable(String),
    /// No applications.
    #[default]
    None,
}

impl Facts {
    /// Whether there are no applications to reach.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !matches!(&self.applications, Applications::Listed(list) if !list.is_empty())
    }

    pub(super) fn summary(&self) -> String {
        match &self.applications {
            _ if self.serverless => "serverless: no portal".to_owned(),
            Applications::Listed(list) => {
                let proxied = vast_portal::caddy::plan(list).sites.len();
                format!("{}, {} behind Caddy", counted(list.len(), "application"), counted(proxied, "port"))
            }
            Applications::None => "no applications".to_owned(),
            Applications::Absent => "no portal.yaml".to_owned(),
            Applications::Unreadable(_) => "portal.yaml is not readable".to_owned(),
        }
    }
}

pub(super) fn gather(look: &Look<'_>) -> Facts {
    let path = yaml::path(look.root.path());
    let applications = match yaml::load(&path, &PortMap::from_env(&look.env.to_map())) {
        Ok(Loaded::Absent) => Applications::Absent,
        Ok(Loaded::Applications(list)) if list.is_empty() => Applications::None,
        Ok(Loaded::Applications(list)) => Applications::Listed(list),
        Ok(Loaded::LinesOnly(_)) => {
            Applications::Unreadable("a key is there twice, or fields without their key".to_owned())
        }
        Ok(Loaded::Bad { reason }) => Applications::Unreadable(reason),
        Err(error) => Applications::Unreadable(error.to_string()),
    };
    Facts {
        applications,
        listening: listeners::programs(&look.root.join("/proc")),
        serverless: look.env.is_true(env_vars::SERVERLESS),
    }
}

pub(super) fn diagnose(all: &super::Facts) -> Vec<Finding> {
    let facts = &all.ports;
    let tell = |severity, what: String, remedy: &str| Finding::new(Area::Ports, severity, what, remedy);
    let applications = match &facts.applications {
        _ if facts.serverless => return Vec::new(),
        Applications::None => return Vec::new(),
        Applications::Absent if all.boot.is_under_way() || all.boot.provisioning => return Vec::new(),
        Applications::Absent => {
            let remedy =
                "set PORTAL_CONFIG in the template, or `supervisorctl restart caddy`, which writes the file from it";
            return vec![tell(
                Severity::Warning,
                "there is no /etc/portal.yaml, so no application is offered".to_owned(),
                remedy,
            )];
        }
        Applications::Unreadable(reason) => {
            let remedy = "mend /etc/portal.yaml (`vast-portal config` shows how it is read), or remove it and `supervisorctl restart caddy`";
            let what = "/etc/portal.yaml cannot be used".to_owned();
            return vec![tell(Severity::Problem, what, remedy).because([reason.clone()])];
        }
        Applications::Listed(list) => list,
    };
    let Some(listening) = &facts.listening else {
        return vec![tell(
            Severity::Unknown,
            "there is no /proc to see ports in".to_owned(),
            "run this inside the instance",
        )];
    };
    let mut unserved = inside(all, applications, listening);
    let mut findings = taken(applications, listening);
    unserved.extend(outside(all, applications, listening));
    // While the instance is set up, applications wait; that is one thing to know, not a list of problems.
    if !unserved.is_empty() && (all.boot.is_under_way() || all.boot.provisioning) {
        let what = format!("{} not served yet: the applications wait", counted(unserved.len(), "port"));
        findings.push(tell(Severity::Note, what, "wait; `vast-boot status` shows how far the boot is"));
    } else {
        findings.extend(unserved);
    }
    findings
}

/// Applications that do not listen on their own port.
fn inside(
    all: &super::Facts,
    applications: &[Application],
    listening: &BTreeMap<u16, BTreeSet<String>>,
) -> Vec<Finding> {
    let mut missing: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for application in applications.iter().filter(|application| is_here(&application.host)) {
        if !listening.contains_key(&application.internal_port) {
            missing.entry(application.internal_port).or_default().push(&application.label);
        }
    }
    let finding = |(port, labels): (u16, Vec<&str>)| {
        let what = format!("nothing listens on port {port} ({})", labels.join(", "));
        let remedy = format!(
            "`supervisorctl status` shows whether its program runs, /var/log/portal/<program>.log why not; if it listens elsewhere, mend the port in /etc/portal.yaml; if it is not wanted, remove it there ({port})"
        );
        let bad = all.supervisor.programs.iter().flatten().filter(|program| program.state.state != "RUNNING");
        let states: Vec<String> =
            bad.map(|program| format!("{} is {}", program.state.name, program.state.state)).collect();
        Finding::new(Area::Ports, Severity::Problem, what, remedy).because(states)
    };
    missing.into_iter().map(finding).collect()
}

/// Ports of the user that nobody serves.
fn outside(
    all: &super::Facts,
    applications: &[Application],
    listening: &BTreeMap<u16, BTreeSet<String>>,
) -> Vec<Finding> {
    let sites = vast_portal::caddy::plan(applications).sites;
    let ours = |owners: &BTreeSet<String>| owners.contains(STATUS_PAGE) && !owners.contains(CADDY);
    let unserved = sites.iter().filter(|site| listening.get(&site.port).is_none_or(ours));
    let finding = |site: &Site| {
        let what = if listening.contains_key(&site.port) {
            format!("Caddy has not taken port {} ({}) over from the boot's status page", site.port, site.label)
        } else {
            format!("Caddy does not listen on port {} ({})", site.port, site.label)
        };
        let state = all.supervisor.program(CADDY).map(|caddy| format!("caddy is {}", caddy.state.state));
        let remedy = "`supervisorctl restart caddy`; /var/log/portal/caddy.log says what keeps it";
        Finding::new(Area::Ports, Severity::Problem, what, remedy).because(state)
    };
    unserved.map(finding).collect()
}

/// Ports of the user that Caddy cannot have, and applications that it does not proxy.
fn taken(applications: &[Application], listening: &BTreeMap<u16, BTreeSet<String>>) -> Vec<Finding> {
    let plan = vast_portal::caddy::plan(applications);
    let mut findings = Vec::new();
    for site in &plan.sites {
        let Some(owners) = listening.get(&site.port).filter(|owners| !owners.is_empty()) else { continue };
        if owners.contains(CADDY) || owners.contains(STATUS_PAGE) {
            continue;
        }
        let other = owners.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let what = format!("port {} ({}) is taken by {other}, so Caddy cannot have it", site.port, site.label);
        let remedy = format!(
            "have {other} listen on another port (/etc/portal.yaml expects the application on 127.0.0.1:{}), then `supervisorctl restart caddy`",
            site.upstream_port
        );
        findings.push(Finding::new(Area::Ports, Severity::Problem, what, remedy));
    }
    let left = plan.left.iter().map(|left| {
        let remedy = "give it a port of its own in /etc/portal.yaml, then `supervisorctl restart caddy`";
        Finding::new(Area::Ports, Severity::Warning, left.to_string(), remedy)
    });
    findings.extend(left);
    findings
}

/// Whether an application's host is this container.
fn is_here(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_are_not_this_container() {
        for (host, here) in [
            ("localhost", true),
            ("127.0.0.2", true),
            ("[::1]", true),
            ("0.0.0.0", true),
            ("db", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_here(host), here, "{host}");
        }
    }
}
