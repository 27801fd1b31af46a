//! `vast-portal config`: what a `PORTAL_CONFIG` value means here.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;
use vast_portal_config::yaml::read_effective;
use vast_portal_config::{Application, Error, PortMap, PortalConfig, StrictErrors, env_vars};

use super::PROGRAM;
use super::instance::{Root, environment};
use crate::report::{self, Exit};
use crate::table;

/// Show the applications, with every port for what it is on this instance
///
/// Reads VALUE, else the environment variable `PORTAL_CONFIG`, else /etc/portal.yaml. Which port is the external one follows from
/// the `VAST_TCP_PORT_…` of the environment.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tell every problem, and exit with 1 if there is one
    #[arg(long)]
    strict: bool,
    /// Print JSON: applications, warnings and errors
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    root: Root,
    /// A `PORTAL_CONFIG` value: host:port:port:path:label entries, separated by `|`
    value: Option<String>,
}

/// What was read, as `--json` prints it.
#[derive(Debug, Default, Serialize)]
struct Shown {
    applications: Vec<Application>,
    warnings: Vec<String>,
    errors: Vec<Problem>,
}

/// One problem of the strict reading. Those of a file have no place.
#[derive(Debug, Serialize)]
struct Problem {
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<usize>,
    /// Bytes of the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    span: Option<Range<usize>>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    /// With the entry and carets, for people.
    #[serde(skip)]
    shown: String,
}

/// Runs the command.
#[must_use]
pub fn run(args: &Args) -> Exit {
    let env = environment();
    let value = args.value.as_ref().or_else(|| env.get(env_vars::PORTAL_CONFIG).filter(|value| !value.is_empty()));
    let shown = match value {
        Some(value) => from_value(value, &PortMap::from_env(&env)),
        None => match from_file(args, &env) {
            Ok(shown) => shown,
            Err(error) => return report::fail(PROGRAM, &error, error.hint().as_deref()),
        },
    };
    if args.json {
        match serde_json::to_string(&shown) {
            Ok(json) => println!("{json}"),
            Err(error) => return report::fail(PROGRAM, &error, None),
        }
    } else {
        print(&shown, args.strict);
    }
    if args.strict && !shown.errors.is_empty() { Exit::No } else { Exit::Success }
}

fn from_value(value: &str, ports: &PortMap) -> Shown {
    let reading = PortalConfig::parse_lenient(value);
    let mut warnings: Vec<String> = ports.unknown_order().iter().map(ToString::to_string).collect();
    warnings.extend(reading.warnings.iter().map(ToString::to_string));
    let errors = PortalConfig::parse_on(value, ports).err().map(|errors| problems(&errors)).unwrap_or_default();
    Shown { applications: reading.config.resolve(ports), warnings, errors }
}

fn problems(errors: &StrictErrors) -> Vec<Problem> {
    let told = errors.problems.iter().map(|problem| Problem {
        entry: Some(problem.entry),
        span: Some(problem.span.clone()),
        message: problem.kind.to_string(),
        hint: problem.kind.hint(),
        shown: errors.render(problem),
    });
    told.collect()
}

/// The file's applications. What is wrong with a file is wrong in either reading.
fn from_file(args: &Args, env: &BTreeMap<String, String>) -> Result<Shown, Error> {
    let effective = read_effective(&args.root.root, env)?;
    let errors = effective.warnings.iter().map(|warning| Problem {
        entry: None,
        span: None,
        message: warning.clone(),
        hint: None,
        shown: warning.clone(),
    });
    Ok(Shown { errors: errors.collect(), applications: effective.applications, warnings: effective.warnings })
}

fn print(shown: &Shown, strict: bool) {
    for line in table(&shown.applications) {
        println!("{line}");
    }
    if strict {
        for problem in &shown.errors {
            eprintln!("{PROGRAM}: error: {}", problem.shown);
        }
    } else {
        for warning in &shown.warnings {
            eprintln!("{PROGRAM}: warning: {warning}");
        }
    }
}

fn table(applications: &[Application]) -> Vec<String> {
    let heads = ["LABEL", "HOST", "INTERNAL", "EXTERNAL", "PROXIED", "PATH"].map(str::to_owned);
    let rows = applications.iter().map(|application| {
        let Application { label, host, internal_port, external_port, path, proxied } = application;
        let proxied = if *proxied { "yes" } else { "no" };
        [label, host, &internal_port.to_string(), &external_port.to_string(), proxied, path].map(str::to_owned)
    });
    table::lines(std::iter::once(heads).chain(rows))
}
