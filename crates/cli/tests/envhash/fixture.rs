//! Roots with real interpreters, hashed three ways: by the program from outside, by the program inside, by the recipe inside.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_vast-envhash");
pub(crate) const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../envhash/tests/recipe.sh");

/// Lays the root out in a mount namespace of its own, so that nothing outlives the test: the machine's `/usr` and
/// interpreters bound read-only, `/etc`, `/var`, `/venv` and the rest the test's own. Prints what each way gives.
const STAGE: &str = r#"
set -euo pipefail
cd "$ROOT"
mkdir -p usr dev etc opt root tmp var/lib/dpkg/updates
for link in bin sbin lib lib64; do ln -s "usr/$link" "$link"; done
bind() { mount --bind "$1" "$2"; mount -o remount,bind,ro "$2"; }
bind /usr usr
mount --bind /dev dev
if [[ -d /root/.pyenv/versions ]]; then mkdir -p root/.pyenv/versions; bind /root/.pyenv/versions root/.pyenv/versions; fi
touch opt/vast-envhash opt/recipe.sh
bind "$PROGRAM" opt/vast-envhash
bind "$RECIPE" opt/recipe.sh
printf 'root:x:0:0:root:/root:/bin/bash\n' > etc/passwd
cp /etc/os-release etc/
cp /var/lib/dpkg/status var/lib/dpkg/

inside() { chroot . /usr/bin/env -i HOME=/root PATH=/usr/bin:/bin LC_ALL=C.UTF-8 "$@"; }
inside /bin/bash -euo pipefail -c "$HELPERS"$'\n'"$SETUP" >&2
echo "offline $("$PROGRAM" --root "$ROOT")"
echo "live $(inside /opt/vast-envhash)"
echo "recipe $(inside /opt/recipe.sh)"
"$PROGRAM" --root "$ROOT" --json
# For the message of a failed comparison: what the two texts do not have in common.
"$PROGRAM" --root "$ROOT" --explain | sed 's/^ *//' | sort > tmp/ours
inside /usr/bin/env RECIPE_TRACE=/tmp/trace /opt/recipe.sh > /dev/null
sort tmp/trace > tmp/theirs
diff tmp/ours tmp/theirs >&2 || true
"#;

/// For the setup of a root, which runs inside it.
const HELPERS: &str = r#"
make_venv() { mkdir -p /venv; python3 -m venv --without-pip "/venv/$1" "${@:2}"; site=$(echo "/venv/$1"/lib/python3.*/site-packages); }
# dist DIRECTORY NAME VERSION
dist() { mkdir -p "$1/$2-$3.dist-info"; printf 'Metadata-Version: 2.1\nName: %s\nVersion: %s\n\ntext\n' "$2" "$3" > "$1/$2-$3.dist-info/METADATA"; }
"#;

/// What the three ways gave.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) offline: String,
    pub(crate) live: String,
    pub(crate) recipe: String,
    /// The inventory, taken from outside.
    pub(crate) inventory: Value,
    /// What the explanation and the recipe's texts do not have in common.
    pub(crate) difference: String,
}

/// Hashes a root that the shell code `setup` completes.
pub(crate) fn stage(setup: &str) -> Outcome {
    let root = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-c", STAGE])
        .env("ROOT", root.path())
        .env("PROGRAM", PROGRAM)
        .env("RECIPE", Path::new(RECIPE).canonicalize().unwrap())
        .env("HELPERS", HELPERS)
        .env("SETUP", setup)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut lines = text.splitn(4, '\n');
    let mut value =
        |key: &str| lines.next().and_then(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned();
    let (offline, live, recipe) = (value("offline"), value("live"), value("recipe"));
    let inventory = serde_json::from_str(lines.next().unwrap()).unwrap();
    Outcome { offline, live, recipe, inventory, difference: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// Hashes a root and expects all three ways to agree; gives the inventory.
pub(crate) fn agreed(setup: &str) -> Value {
    let outcome = stage(setup);
    assert_eq!(outcome.recipe.len(), 12, "{}", outcome.difference);
    assert_eq!(outcome.offline, outcome.recipe, "from outside:\n{}", outcome.difference);
    assert_eq!(outcome.live, outcome.recipe, "inside:\n{}", outcome.difference);
    outcome.inventory
}

/// `Name==Version` of the environment at `index`.
pub(crate) fn packages(inventory: &Value, index: usize) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("None").to_owned();
    let packages = inventory["venvs"][index]["packages"].as_array().unwrap();
    packages.iter().map(|package| format!("{}=={}", text(&package["name"]), text(&package["version"]))).collect()
}
