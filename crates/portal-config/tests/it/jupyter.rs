//! Who runs Jupyter, and what that makes of the entries.

use std::fs;

use vast_portal_config::PortalConfig;
use vast_portal_config::jupyter::{LaunchMode, apply_rules};

use crate::env;

#[test]
fn the_launch_file_tells_the_mode() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(LaunchMode::detect(root.path()).unwrap(), LaunchMode::Entrypoint);
    fs::write(root.path().join(".launch"), "exec sshd").unwrap();
    assert_eq!(LaunchMode::detect(root.path()).unwrap(), LaunchMode::Ssh);
    fs::write(root.path().join(".launch"), b"\xff JupyTER lab").unwrap();
    assert_eq!(LaunchMode::detect(root.path()).unwrap(), LaunchMode::PlatformJupyter);
    fs::remove_file(root.path().join(".launch")).unwrap();
    fs::create_dir(root.path().join(".launch")).unwrap();
    assert!(LaunchMode::detect(root.path()).is_err());
}

#[test]
fn the_rules_apply_in_their_order() {
    const APP: &str = "localhost:7860:17860:/:My App";
    const JUPYTER: &str = "localhost:7860:17860:/:My App|localhost:8080:18080:/:Jupyter|localhost:8080:8080:/terminals/1:Jupyter Terminal";
    const DIRECT: &str =
        "localhost:7860:17860:/:My App|localhost:8080:8080:/:Jupyter|localhost:8080:8080:/terminals/1:Jupyter Terminal";
    const REVERSED: &str = "localhost:18080:8080:/:Jupyter";
    use LaunchMode::{Entrypoint, PlatformJupyter, Ssh};
    let port = ("VAST_TCP_PORT_8080", "40123");
    let overridden = ("JUPYTER_OVERRIDE", "true");
    for (name, mode, variables, value, expected) in [
        ("nothing published", Entrypoint, &[][..], JUPYTER, APP),
        ("nothing published, override", Ssh, &[overridden], JUPYTER, APP),
        ("nothing published, platform", PlatformJupyter, &[], JUPYTER, APP),
        ("ssh", Ssh, &[port], JUPYTER, APP),
        ("ssh, override", Ssh, &[port, overridden], JUPYTER, JUPYTER),
        ("ssh never adds", Ssh, &[port, overridden], APP, APP),
        ("entrypoint keeps", Entrypoint, &[port], JUPYTER, JUPYTER),
        ("entrypoint adds", Entrypoint, &[port], APP, JUPYTER),
        ("entrypoint does not add unasked", Entrypoint, &[port, ("FORCE_JUPYTER", "false")], APP, APP),
        ("entrypoint adds when forced", Entrypoint, &[port, ("FORCE_JUPYTER", "true")], APP, JUPYTER),
        (
            "any entry that names it is enough",
            Entrypoint,
            &[port],
            "localhost:1:2:/JUPYTER:Lab",
            "localhost:1:2:/JUPYTER:Lab",
        ),
        ("platform", PlatformJupyter, &[port], JUPYTER, DIRECT),
        ("platform, guide's order", PlatformJupyter, &[port], REVERSED, "localhost:8080:8080:/:Jupyter"),
        ("platform, override", PlatformJupyter, &[port, overridden], JUPYTER, JUPYTER),
        ("platform never adds", PlatformJupyter, &[port], APP, APP),
        ("empty is not published", Entrypoint, &[("VAST_TCP_PORT_8080", "")], JUPYTER, APP),
    ] {
        let config = PortalConfig::parse_lenient(value).config;
        assert_eq!(apply_rules(&config, mode, &env(variables)).to_string(), expected, "{name}");
    }
}
