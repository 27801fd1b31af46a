//! The script that deployed `ENTRYPOINT` lines name.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::harness::{Fake, VAST_BOOT};

#[test]
fn the_entrypoint_is_executable_and_hands_everything_to_vast_boot() {
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/base/ROOT/opt/instance-tools/bin/entrypoint.sh");
    assert_eq!(fs::metadata(&script).unwrap().permissions().mode() & 0o777, 0o755);
    let fake = Fake::new();
    fake.stage("20-a.sh", "echo $sync_environment >$OUT/ran");
    // The script names the place in the container; here the binary lies in a copy of that place.
    let bin = fake.path("/opt/instance-tools/bin");
    fs::create_dir_all(&bin).unwrap();
    symlink(VAST_BOOT, bin.join("vast-boot")).unwrap();
    let text = fs::read_to_string(&script).unwrap().replace("/opt/instance-tools/bin", bin.to_str().unwrap());
    let entrypoint = fake.write("/opt/instance-tools/bin/entrypoint.sh", &text);
    let root = fake.root();
    let arguments =
        ["--sync-environment".as_ref(), "--only".as_ref(), "20".as_ref(), "--root".as_ref(), root.as_os_str()];
    let output = fake.command(entrypoint.to_str().unwrap(), arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fake.read_out("ran"), "true\n");
}
