//! The steps, in the order in which they run.

use std::num::NonZero;
use std::process::Command;
use std::thread;

use anyhow::Result;

use super::counts::{self, Counts};
use super::{Context, shell, sizes};
use crate::dist::Scope;
use crate::tools::{Group, Tool};
use crate::{Verdict, arrows, dist, generate, process};

/// One check, or one run of tests.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) groups: &'static [Group],
    pub(crate) tools: &'static [Tool],
    pub(crate) run: fn(&Context<'_>) -> Result<Counts>,
}

const fn step(name: &'static str, about: &'static str, run: fn(&Context<'_>) -> Result<Counts>) -> Step {
    Step { name, about, groups: &[], tools: &[], run }
}

impl Step {
    const fn needs(self, groups: &'static [Group], tools: &'static [Tool]) -> Self {
        Self { groups, tools, ..self }
    }
}

/// The step that compiles everything.
pub(crate) const TESTS: &str = "tests";

/// The step that compiles everything again, as it is shipped.
pub(crate) const DIST: &str = "dist";

/// Cheap checks first: what a person fixes in seconds is known in seconds.
pub(crate) const STEPS: &[Step] = &[
    step("format", "the sources are formatted", format),
    step("sizes", "no source file is too long to review", |context| gate(sizes::check(context.workspace))),
    step("arrows", "crates depend on each other along the arrows only", arrows),
    step("shellcheck", "shell scripts pass shellcheck", |context| gate(shell::check(context.workspace)))
        .needs(&[Group::Lint], &[]),
    step("licences", "licences, bans and sources of the dependencies", licences).needs(&[], &[Tool::Deny]),
    step("clippy", "no warnings from the compiler and clippy", clippy),
    step("fuzz", "the fuzz targets, a workspace of their own, compile without warnings", fuzz)
        .needs(&[Group::Compilers], &[]),
    step("docs", "the documentation builds without warnings", docs),
    step(TESTS, "unit and integration tests", tests)
        .needs(&[Group::Services, Group::Volumes], &[Tool::Nextest, Tool::Uv]),
    step("doctests", "the examples of the documentation", doctests),
    step("generated", "generated reference pages are fresh", generated),
    step(DIST, "release binaries need nothing newer than glibc 2.28", release)
        .needs(&[Group::Binutils], &[Tool::Zigbuild]),
    step("end-to-end", "the built binaries on real services", end_to_end)
        .needs(&[Group::Services, Group::Binutils], &[Tool::Nextest]),
];

fn gate(fine: Result<bool>) -> Result<Counts> {
    Ok(Counts::gate(fine?))
}

fn verdict(verdict: Result<Verdict>) -> Result<Counts> {
    Ok(Counts::gate(verdict? == Verdict::Yes))
}

fn cargo(context: &Context<'_>, arguments: &[&str]) -> Result<Counts> {
    gate(process::succeeds(context.workspace.cargo().args(arguments)))
}

fn format(context: &Context<'_>) -> Result<Counts> {
    cargo(context, &["fmt", "--all", "--check"])
}

fn arrows(context: &Context<'_>) -> Result<Counts> {
    verdict(arrows::run(context.workspace, &arrows::Args {}))
}

fn licences(context: &Context<'_>) -> Result<Counts> {
    let mut command = tool(context, Tool::Deny)?;
    // Crates in several versions are for a person to look at now and then, and would hide the errors.
    command.args(["--log-level=warn", "check", "--hide-inclusion-graph", "--allow=duplicate"]);
    gate(process::succeeds(command.args(["licenses", "bans", "sources"])))
}

fn clippy(context: &Context<'_>) -> Result<Counts> {
    cargo(context, &["clippy", "--workspace", "--all-targets", "--", "--deny=warnings"])
}

/// The target folder is that of the workspace: what is compiled alike is compiled once.
fn fuzz(context: &Context<'_>) -> Result<Counts> {
    let package = ["--manifest-path", "fuzz/Cargo.toml"];
    let target = context.workspace.target("");
    let format = process::succeeds(context.workspace.cargo().arg("fmt").args(package).arg("--check"))?;
    let mut clippy = context.workspace.cargo();
    clippy.arg("clippy").args(package).arg("--target-dir").arg(target).args(["--", "--deny=warnings"]);
    Ok(Counts::gate(format && process::succeeds(&mut clippy)?))
}

fn docs(context: &Context<'_>) -> Result<Counts> {
    let mut command = context.workspace.cargo();
    command.env("RUSTDOCFLAGS", "--deny=warnings").args(["doc", "--workspace", "--no-deps"]);
    gate(process::succeeds(&mut command))
}

/// Tests wait for a lease to run out, a program to give up, an answer that comes late: so this many at a time for each
/// processor.
const TESTS_PER_PROCESSOR: usize = 2;

fn tests(context: &Context<'_>) -> Result<Counts> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = format!("--test-threads={}", processors * TESTS_PER_PROCESSOR);
    nextest(context, &["--workspace", "--filterset=not package(vast-tests)", &threads])
}

fn doctests(context: &Context<'_>) -> Result<Counts> {
    counts::cargo_test(context.workspace.cargo().args(["test", "--doc", "--workspace", "--no-fail-fast"]))
}

fn generated(context: &Context<'_>) -> Result<Counts> {
    verdict(generate::run(context.workspace, &generate::Args { check: true, scope: context.scope }))
}

fn release(context: &Context<'_>) -> Result<Counts> {
    verdict(dist::run(context.workspace, &dist::Args::release()))
}

/// Runs on the binaries of the development profile: stripped, they are what the tests expect in `target/dist-dev/bin`.
fn end_to_end(context: &Context<'_>) -> Result<Counts> {
    dist::run(context.workspace, &dist::Args::dev().within(context.scope))?;
    match context.scope {
        Scope::Binaries => nextest(context, &["--package=vast-tests"]),
        Scope::Workspace => nextest(context, &["--workspace", "--filterset=package(vast-tests)"]),
    }
}

fn nextest(context: &Context<'_>, arguments: &[&str]) -> Result<Counts> {
    let junit = context.workspace.target("nextest/default/junit.xml");
    let mut command = tool(context, Tool::Nextest)?;
    // A check changes nothing: no file beside a snapshot that differs.
    command.env("INSTA_UPDATE", "no").args(["nextest", "run"]).args(arguments);
    counts::nextest(&mut command, &junit)
}

fn tool(context: &Context<'_>, tool: Tool) -> Result<Command> {
    let mut command = context.tools.command(tool)?;
    command.current_dir(context.workspace.root());
    Ok(command)
}
