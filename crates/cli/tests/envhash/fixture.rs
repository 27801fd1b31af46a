//! Roots with real interpreters, hashed three ways: by the program from outside, by the program inside, by the recipe inside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_vast-envhash");
pub(crate) const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../envhash/tests/recipe.sh");

/// Lays the root out in a mount namespace of its own, so that nothing outlives the test: the machine's `/usr` and
/// interpreters bound read-only, `/etc`, `/var`, `/venv` and the rest the test's own. After each step it prints what each
/// way gives, `error` for one that fails.
const STAGE: &str = r#"
set -euo pipefail
cd "$ROOT"
mkdir -p usr dev etc opt root tmp var/lib/dpkg/updates
for link in bin sbin lib lib64; do ln -s "usr/$link" "$link"; done
bind() { mount --bind "$1" "$2"; mount -o remount,bind,ro "$2"; }
bind /usr usr
mount --bind /dev dev
if [[ -d /root/.pyenv/versions ]]; then mkdir -p root/.pyenv/versions; bind /root/.pyenv/versions root/.pyenv/versions; fi
touch opt/vast-envhash opt/recipe.sh opt/uv
bind "$PROGRAM" opt/vast-envhash
bind "$RECIPE" opt/recipe.sh
if [[ -n $UV ]]; then bind "$UV" opt/uv; fi
printf 'root:x:0:0:root:/root:/bin/bash\n' > etc/passwd
cp /etc/os-release etc/
cp /var/lib/dpkg/status var/lib/dpkg/

inside() { chroot . /usr/bin/env -i HOME=/root PATH=/usr/bin:/bin LC_ALL=C.UTF-8 "$@"; }
for step in "$STEPS"/*; do
    inside /bin/bash -euo pipefail -c "$HELPERS"$'\n'"$(< "$step")" >&2
    offline=$("$PROGRAM" --root "$ROOT" 2> tmp/offline.err || echo error)
    live=$(inside /opt/vast-envhash 2> tmp/live.err || echo error)
    recipe=$(inside /opt/recipe.sh 2> tmp/recipe.err || echo error)
    echo "$offline $live $recipe"
    if [[ $offline != "$recipe" || $live != "$recipe" ]]; then
        # For the message of a failed comparison: what the two texts do not have in common.
        echo "step ${step##*/}:" >&2
        cat "$step" tmp/*.err >&2
        ("$PROGRAM" --root "$ROOT" --explain || true) | sed 's/^ *//' | sort > tmp/ours
        rm -f tmp/trace
        inside /usr/bin/env RECIPE_TRACE=/tmp/trace /opt/recipe.sh > /dev/null || true
        sort tmp/trace > tmp/theirs
        diff tmp/ours tmp/theirs >&2 || true
    fi
done
"$PROGRAM" --root "$ROOT" --json || echo null
"#;

/// For the setup of a root, which runs inside it.
const HELPERS: &str = r#"
site_of() { site=$(echo "$1"/lib/python3.*/site-packages); }
# make_venv NAME [OPTION…]: an environment by the standard library.
make_venv() { mkdir -p /venv; python3 -m venv --without-pip "/venv/$1" "${@:2}"; site_of "/venv/$1"; }
# make_uv NAME [OPTION…]: one by uv.
make_uv() { mkdir -p /venv; /opt/uv --quiet --offline --no-cache venv --no-python-downloads --python /usr/bin/python3 "/venv/$1" "${@:2}"; site_of "/venv/$1"; }
# make_conda NAME: what conda lays out, with the machine's own Python in it.
make_conda() {
    local python; python=$(basename "$(readlink -f /usr/bin/python3)")
    mkdir -p "/venv/$1/bin" "/venv/$1/lib/python3/dist-packages" "/venv/$1/conda-meta"
    cp "/usr/bin/$python" "/venv/$1/bin/"
    ln -s "$python" "/venv/$1/bin/python"
    ln -s "/usr/lib/$python" "/venv/$1/lib/$python"
    site=/venv/$1/lib/python3/dist-packages
}
# dist DIRECTORY NAME VERSION
dist() { mkdir -p "$1/$2-$3.dist-info"; printf 'Metadata-Version: 2.1\nName: %s\nVersion: %s\n\ntext\n' "$2" "$3" > "$1/$2-$3.dist-info/METADATA"; }
# info NAME FORMAT: a distribution whose metadata is what printf makes of FORMAT.
info() { mkdir -p "$site/$1.dist-info"; printf "$2" > "$site/$1.dist-info/METADATA"; }
# package NAME STATUS ARCHITECTURE VERSION FIELDS: a stanza of the package database.
package() { printf 'Package: %s\nStatus: %s\nPriority: optional\nSection: x\nMaintainer: x <x@example.com>\nArchitecture: %s\nVersion: %s\n%sDescription: x\n more\n\n' "$@"; }
native=$(dpkg --print-architecture)
"#;

/// What the three ways gave after one step.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) offline: String,
    pub(crate) live: String,
    pub(crate) recipe: String,
}

/// What came of a root.
#[derive(Debug)]
pub(crate) struct Staged {
    /// One for each step.
    pub(crate) outcomes: Vec<Outcome>,
    /// The inventory after the last step, taken from outside.
    pub(crate) inventory: Value,
    /// What the explanations and the recipe's texts do not have in common.
    pub(crate) difference: String,
}

/// Hashes a root after each of the steps, which are shell code that runs inside it.
pub(crate) fn stage(steps: &[impl AsRef<str>]) -> Staged {
    let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (number, step) in steps.iter().enumerate() {
        fs::write(folder.path().join(format!("{number:04}")), step.as_ref()).unwrap();
    }
    let wants_uv = steps.iter().any(|step| step.as_ref().contains("uv"));
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-c", STAGE])
        .env("ROOT", root.path())
        .env("PROGRAM", PROGRAM)
        .env("RECIPE", Path::new(RECIPE).canonicalize().unwrap())
        .env("UV", if wants_uv { uv() } else { PathBuf::new() })
        .env("HELPERS", HELPERS)
        .env("STEPS", folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let difference = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{difference}");
    let mut lines = text.splitn(steps.len() + 1, '\n');
    let outcomes = lines.by_ref().take(steps.len()).map(|line| {
        let [offline, live, recipe] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}\n{difference}") };
        Outcome { offline: offline.into(), live: live.into(), recipe: recipe.into() }
    });
    let outcomes = outcomes.collect();
    Staged { outcomes, inventory: serde_json::from_str(lines.next().unwrap()).unwrap(), difference }
}

/// uv, which `cargo xtask test` installs into the folder of the built programs.
fn uv() -> PathBuf {
    let target = Path::new(PROGRAM).ancestors().nth(2).unwrap();
    let uv = target.join("tools/venv/bin/uv");
    assert!(uv.is_file(), "`{}` is missing; `cargo xtask test --only tests` installs it", uv.display());
    uv
}

/// Hashes a root after each step and expects all three ways to agree each time; gives the inventory after the last one.
pub(crate) fn all_agree(steps: &[impl AsRef<str>]) -> Value {
    let staged = stage(steps);
    for (number, outcome) in staged.outcomes.iter().enumerate() {
        assert_eq!(outcome.recipe.len(), 12, "step {number}: {outcome:?}\n{}", staged.difference);
        assert_eq!(outcome.offline, outcome.recipe, "step {number} from outside:\n{}", staged.difference);
        assert_eq!(outcome.live, outcome.recipe, "step {number} inside:\n{}", staged.difference);
    }
    staged.inventory
}

/// Hashes a root that the shell code `setup` completes, and expects all three ways to agree; gives the inventory.
pub(crate) fn agreed(setup: &str) -> Value {
    all_agree(&[setup])
}

/// `Name==Version` of the environment at `index`.
pub(crate) fn packages(inventory: &Value, index: usize) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("None").to_owned();
    let packages = inventory["venvs"][index]["packages"].as_array().unwrap();
    packages.iter().map(|package| format!("{}=={}", text(&package["name"]), text(&package["version"]))).collect()
}
