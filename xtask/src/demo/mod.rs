//! `cargo xtask demo`: the main job on real parts, from nothing to a page in the browser.

mod steps;
mod visit;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use vast_tests::container::{Container, Options};
use vast_tests::images::{Builder, INSTANCE_TOOLS, Unpacked, unpack};
use vast_tests::registry::Registry;
use vast_tests::stand_in;

use self::steps::Steps;
use crate::tools::{Group, Tools};
use crate::workspace::Workspace;
use crate::{Verdict, dist};

/// Where the demo's ports are published: the platform's ports of the portal, Jupyter and `hello`.
const PORTS: [(u16, &str); 3] = [(1111, "Instance Portal"), (7860, "Hello"), (8080, "Jupyter")];

/// Arguments of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Stop again once everything answered, instead of waiting for Ctrl-C
    #[arg(long)]
    once: bool,
    /// Use the binaries of the development profile, which build faster
    #[arg(long)]
    dev: bool,
}

/// Builds, publishes, reads back and boots `hello`, and shows where it answers.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Verdict> {
    let mut steps = Steps::default();
    steps.run("install what is missing", || Tools::of(workspace).ensure(&[Group::Services], &[]))?;
    let binaries = steps.run("compile the binaries", || compile(workspace, args.dev))?;
    steps.mark_ready();

    let target = workspace.target("demo");
    let builder = Builder { binaries, cache: target.join("cache") };
    let root = steps.run("make a Debian root filesystem", || stand_in::folder(&workspace.target("e2e")))?;
    let registry = steps.run("start a registry", || Registry::start(&target.join("registry")))?;
    let hello = publish(&mut steps, &builder, &registry, &root)?;
    let image = steps.run("read back with skopeo, unpack with umoci", || {
        let folder = fresh(&target.join("hello"))?;
        unpack(&hello, &folder)
    })?;
    let token = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned();
    ensure_ports_are_free()?;
    let mut container = steps.run("boot it", || boot(&image, &target, &token))?;
    steps.run("wait for the portal and the application", || visit::until_answered(&mut container, &token))?;
    steps.print_summary();
    print_addresses(&token, &container);

    if !args.once {
        wait_for_interrupt()?;
    }
    container.signal(Signal::TERM)?;
    let status = container.wait(Duration::from_secs(10)).context("the container did not stop in time")?;
    ensure!(status.success(), "the container ended with {status}");
    println!("stopped, exit code 0");
    Ok(Verdict::Yes)
}

/// Builds and pushes the three images, verifies the last one, and returns its reference.
fn publish(steps: &mut Steps, builder: &Builder, registry: &Registry, root: &Path) -> Result<String> {
    let host = registry.host();
    let stand_in = steps.run("build and push the stand-in for ubuntu:24.04", || builder.stand_in(root, &host))?;
    let base = steps.run("build and push images/base", || builder.base(&host, &stand_in))?;
    let hello = steps.run("build and push images/derivative/hello", || builder.hello(&host, &base))?;
    steps.run("verify what was published", || {
        let mut command = std::process::Command::new(builder.binary("vast-imagegen"));
        vast_tests::program::run(command.args(["verify", "--deep", &hello.reference]))
    })?;
    println!("    {}@{}", hello.reference, hello.digest);
    Ok(hello.reference)
}

fn compile(workspace: &Workspace, dev: bool) -> Result<PathBuf> {
    let kind = if dev { dist::Args::dev() } else { dist::Args::release() };
    let folder = dist::binaries(workspace, &kind)?;
    for name in INSTANCE_TOOLS {
        ensure!(folder.join(name).exists(), "{} was not built", folder.join(name).display());
    }
    Ok(folder)
}

fn fresh(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder)?;
    Ok(folder.to_owned())
}

fn ensure_ports_are_free() -> Result<()> {
    for (port, label) in PORTS {
        std::net::TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port))
            .with_context(|| format!("port {port} ({label}) is taken on this machine; stop what listens there"))?;
    }
    Ok(())
}

fn boot(image: &Unpacked, target: &Path, token: &str) -> Result<Container> {
    let folder = fresh(&target.join("container"))?;
    let published = PORTS.map(|(port, _)| (format!("VAST_TCP_PORT_{port}"), port.to_string()));
    let others = [("CONTAINER_ID", "4242"), ("VAST_CONTAINERLABEL", "C.4242"), ("OPEN_BUTTON_TOKEN", token)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = Options {
        environment: published.into_iter().chain(others).collect(),
        arguments: vec!["--no-cert-gen".to_owned()],
        host_network: true,
        ..Options::default()
    };
    Container::boot(image, &folder, &options)
}

fn print_addresses(token: &str, container: &Container) {
    println!();
    for (port, label) in PORTS {
        println!("  {label:<16} http://127.0.0.1:{port}/?token={token}");
    }
    let init = container.init().as_raw_nonzero();
    println!("  {:<16} nsenter --all --target {init} --root --wd bash\n", "a shell inside");
}

fn wait_for_interrupt() -> Result<()> {
    println!("Ctrl-C stops it.");
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM])?;
    signals.forever().next();
    println!("\nstopping");
    Ok(())
}
