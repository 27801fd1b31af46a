//! A boot of a real `/`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::harness::Fake;
use super::system::{Setup, System};

#[test]
fn a_real_system_boots_with_supervisor_and_stops_cleanly() {
    let fake = Fake::new();
    let system = System::boot(&fake, &Setup::default());
    let inside = |path: &str| system.inside(path);
    let environment = fs::read_to_string(inside("/etc/environment")).unwrap();
    assert!(environment.starts_with("# Template controlled environment for C.42\nPATH="), "{environment}");
    assert!(environment.contains("PORTAL_CONFIG=\"localhost:1111:11111:/:Instance Portal\""), "{environment}");
    let bashrc = fs::read_to_string(inside("/root/.bashrc")).unwrap();
    assert!(bashrc.contains("### Entrypoint setup ###") && bashrc.contains("### End entrypoint setup ###"));
    assert!(inside("/first-boot-ran").exists() && inside("/.first_boot_complete").exists());
    assert!(inside("/etc/instance.crt").exists());
    system.until("the marker is gone", || !inside("/.provisioning").exists());
    system.assert_nothing_failed();
    system.stop();
}

/// Homes and something of an environment, without what this machine has there.
const HOMES: &str = r"
mkdir -p root/.ssh home/user opt/nvm/versions
chmod 700 root root/.ssh
echo 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 key' >root/.ssh/authorized_keys
echo started >root/onstart.sh
chown 1001:0 home/user
grep -q ^user: etc/passwd || echo 'user:x:1001:0::/home/user:/bin/bash' >>etc/passwd
echo real >.env_hash
";

#[test]
fn homes_and_environments_of_a_real_system_move_and_the_stages_after_find_them_there() {
    let fake = Fake::new();
    let system = System::boot(
        &fake,
        &Setup { hide: "root home", prepare: HOMES, flags: "--sync-home --sync-environment", ..Setup::default() },
    );
    system.assert_nothing_failed();
    for (path, target) in [
        ("/root", "/workspace/home/root"),
        ("/home/user", "/workspace/home/user"),
        ("/opt/nvm", "/workspace/.environment_sync/real/nvm"),
        ("/workspace/home/root/.ssh", "/home_ssh/root/.ssh"),
        ("/workspace/home/user/.ssh", "/home_ssh/user/.ssh"),
        ("/workspace/home/root/onstart.sh", "/onstart.sh"),
    ] {
        assert_eq!(fs::read_link(system.inside(path)).unwrap(), Path::new(target), "{path}");
    }
    // Stage 45 wrote through the link, and stage 46 into the place that stays in the container.
    for home in ["root", "user"] {
        let bashrc = fs::read_to_string(system.inside(&format!("/workspace/home/{home}/.bashrc"))).unwrap();
        assert!(bashrc.contains("### Entrypoint setup ###"), "{home}: {bashrc}");
        let keys = fs::metadata(system.inside(&format!("/home_ssh/{home}/.ssh/authorized_keys"))).unwrap();
        assert_eq!((keys.mode() & 0o777, keys.uid()), (0o600, if home == "root" { 0 } else { 1001 }), "{home}");
    }
    assert_eq!(fs::read_to_string(system.inside("/onstart.sh")).unwrap(), "started\n");
    let mark = fs::read_to_string(system.inside("/workspace/home/.synced")).unwrap();
    assert!(mark.contains("instance C.42\n"), "{mark}");
    system.stop();
}
