//! Registries that speak HTTPS, and how little of it one on this machine needs.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use vast_testkit::authority::Authority;
use vast_testkit::registry::Distribution;

const IMAGEGEN: &str = env!("CARGO_BIN_EXE_vast-imagegen");

/// A name that is not this machine's, so that plain HTTP is out of the question, for an address that is.
const NAME: &str = "registry.test";

fn folder(root: &Path) -> String {
    fs::create_dir(root.join("folder")).unwrap();
    fs::write(root.join("folder/Dockerfile"), "FROM scratch\nCOPY file /\n").unwrap();
    fs::write(root.join("folder/file"), "text").unwrap();
    root.join("folder").to_str().unwrap().to_owned()
}

/// Runs the program where [`NAME`] leads to this machine.
fn imagegen(root: &Path, arguments: &[&str], certificates: &Path) -> Output {
    let hosts = root.join("hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost {NAME}\n")).unwrap();
    Command::new("unshare")
        .args(["--mount", "sh", "-ec", "mount --bind \"$HOSTS\" /etc/hosts; exec \"$@\"", "sh", IMAGEGEN])
        .args(arguments)
        .env("HOSTS", hosts)
        .env("SSL_CERT_FILE", certificates)
        .env("SSL_CERT_DIR", root.join("none"))
        .output()
        .unwrap()
}

#[test]
fn a_registry_is_trusted_that_the_system_trusts_and_no_other() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let made = Command::new("openssl")
        .args(["req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-subj", &format!("/CN={NAME}"), "-addext", &format!("subjectAltName=DNS:{NAME}"), "-keyout"])
        .arg(at("key.pem"))
        .arg("-out")
        .arg(at("request.pem"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let authority = Authority::new();
    fs::write(at("certificate.pem"), authority.sign(&fs::read(at("request.pem")).unwrap())).unwrap();
    fs::write(at("trusted.pem"), authority.certificate()).unwrap();
    fs::write(at("stranger.pem"), Authority::new().certificate()).unwrap();
    let registry = Distribution::start_https(&at("certificate.pem"), &at("key.pem"));
    let port = registry.host().split(':').nth(1).unwrap().to_owned();

    let folder = folder(root.path());
    let build = |repository: &str, certificates: &str| {
        let to = format!("{NAME}:{port}/{repository}:1");
        imagegen(root.path(), &["build", &folder, "--engine", "native", "--to", &to], &at(certificates))
    };
    let trusted = build("trusted", "trusted.pem");
    assert!(trusted.status.success(), "{trusted:?}");
    assert!(registry.tags("trusted").contains(&"1".to_owned()));
    for certificates in ["stranger.pem", "absent.pem"] {
        let refused = build("refused", certificates);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("certificate"), "{certificates}: {said}");
    }
    assert_eq!(registry.tags("refused"), [""; 0]);
}

#[test]
fn a_registry_on_this_machine_costs_no_look_at_the_systems_certificates() {
    let root = tempfile::tempdir().unwrap();
    let registry = Distribution::start();
    // Whoever reads it waits for a writer that never comes.
    let fifo = root.path().join("certificates");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_cmd::Command::new(IMAGEGEN)
        .args(["build", &folder(root.path()), "--engine", "native", "--to", &registry.reference("app:1")])
        .env("SSL_CERT_FILE", &fifo)
        .timeout(Duration::from_mins(1))
        .assert()
        .success();
    assert!(registry.tags("app").contains(&"1".to_owned()));
}
