//! Real environments: one that `uv` made, with a compiled package and console scripts, and one made as conda does, with an
//! interpreter of its own. They are in the image, so the lower layer of a container's overlay has them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{run, tool};

/// Lays out an image and two containers of it that share a volume, in a mount namespace of its own: everything is on a
/// tmpfs that goes with it. The machine's own root is below the image, for its interpreter and libraries.
const STAGE: &str = r#"
set -euo pipefail
mount -t tmpfs -o size=2g tmpfs "$STAGE"
cd "$STAGE"
mkdir image root volume
up() { # LOWER UPPER
    mkdir -p "$2" "$2.work"
    mount -t overlay -o "lowerdir=$1,upperdir=$2,workdir=$2.work,redirect_dir=off" overlay root
    mkdir -p root/proc root/dev root/workspace
    mount --rbind /proc root/proc; mount --rbind /dev root/dev
}
down() { umount -R -l root; }
inside() { chroot root /usr/bin/env -i HOME=/root PATH=/usr/local/bin:/usr/bin:/bin LC_ALL=C.UTF-8 ENV_ID=real "$@"; }
base=$("$TOOLS/venv/bin/python" -c 'import sys; print(sys._base_executable)')
version=$("$base" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
prefix=$("$base" -c 'import sys; print(sys.base_prefix)')

up / image
mkdir -p root/opt/test root/venv
cp "$TOOLS/venv/bin/uv" "$PROGRAM" root/opt/test/
cp -r "$TOOLS/wheels" root/opt/test/wheels
inside /opt/test/uv venv --quiet --offline --no-cache --python "$base" /venv/main
inside /opt/test/uv pip install --quiet --offline --no-cache --no-index --find-links /opt/test/wheels --python /venv/main numpy
conda=root/venv/conda
mkdir -p "$conda/conda-meta" "$conda/bin" "$conda/lib"
touch "$conda/conda-meta/history"
cp -L "$base" "$conda/bin/$version"
ln -s "$version" "$conda/bin/python"
tar -C "$prefix/lib" --exclude=test --exclude=site-packages --exclude=dist-packages --exclude=__pycache__ --exclude='config-*' --exclude='*.a' -cf - "$version" | tar -C "$conda/lib" -xf -
find "$prefix/lib" -maxdepth 1 -name "lib$version*.so*" -exec cp -a {} "$conda/lib/" \;
mkdir -p "$conda/lib/$version/site-packages"
echo 'value = 42' > "$conda/lib/$version/site-packages/packaged.py"
printf '#!/venv/conda/bin/python\nimport packaged, sys\nprint("script", packaged.value, sys.prefix)\n' > "$conda/bin/script"
chmod 755 "$conda/bin/script"
down
rm -rf image/proc image/dev

use() {
    inside /venv/main/bin/python -c 'import numpy, sys; a = numpy.arange(9.0).reshape(3, 3); print("main", int((a @ a).trace()), sys.prefix, numpy.__file__.startswith("/venv/main/"))'
    inside /venv/main/bin/numpy-config --version
    inside /venv/main/bin/f2py -v
    inside /venv/conda/bin/python -c 'import ssl, sqlite3, packaged, sys; print("conda", packaged.value, sys.prefix)'
    inside /venv/conda/bin/script
    inside /opt/test/uv pip list --quiet --offline --no-cache --python /venv/main
}
for container in first second; do
    up image:/ "$container"
    mount --bind volume root/workspace
    use > "$OUT/$container.before"
    inside /opt/test/vast-sync environment --json > "$OUT/$container.json"
    readlink root/venv/main root/venv/conda > "$OUT/$container.links"
    use > "$OUT/$container.after"
    # What is installed from now on is on the volume, for both.
    if [ "$container" = first ]; then
        inside /venv/main/bin/python -c 'import site; open(site.getsitepackages()[0] + "/added.py", "w").write("value = 7")'
    else
        inside /venv/main/bin/python -c 'import added; print("added", added.value)' > $OUT/second.added
        inside /opt/test/vast-sync environment --undo
        use > $OUT/second.undone
        stat -c %F root/venv/main > $OUT/second.kind
    fi
    down
done
"#;

/// The folder with the tools that `cargo xtask test` has installed.
fn tools() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_vast-sync"));
    let found = program.ancestors().map(|above| above.join("tools")).find(|tools| tools.join("venv/bin/uv").exists());
    found.expect("uv in target/tools: `cargo xtask test --only tests` installs it")
}

#[test]
fn environments_of_uv_and_conda_run_before_and_after_on_the_volume_and_brought_back() {
    let (stage, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "bash", "-c", STAGE]);
    shell.env("STAGE", stage.path()).env("OUT", out.path()).env("TOOLS", tools());
    shell.env("PROGRAM", env!("CARGO_BIN_EXE_vast-sync"));
    let done = run(&mut shell);
    assert_eq!(done.code, Some(0), "{done:#?}");
    let read = |name: &str| std::fs::read_to_string(out.path().join(name)).unwrap();
    let before = read("first.before");
    for text in ["main 180", "/venv/main True", "conda 42 /venv/conda", "script 42 /venv/conda", "numpy"] {
        assert!(before.contains(text), "{text}: {before}");
    }
    for name in ["first.after", "second.before", "second.after", "second.undone"] {
        assert_eq!(read(name), before, "{name}");
    }
    let links = "/workspace/.environment_sync/real/venv/main\n/workspace/.environment_sync/real/venv/conda\n";
    assert_eq!((read("first.links").as_str(), read("second.links").as_str()), (links, links));
    assert!(read("first.json").contains("\"role\":\"copied\""), "{}", read("first.json"));
    assert!(read("second.json").contains("\"role\":\"none\""), "{}", read("second.json"));
    assert_eq!(read("second.added"), "added 7\n");
    assert_eq!(read("second.kind"), "directory\n");
    // Nothing of it is left mounted here.
    assert!(!tool("cat", ["/proc/self/mountinfo"]).contains(stage.path().to_str().unwrap()));
}
