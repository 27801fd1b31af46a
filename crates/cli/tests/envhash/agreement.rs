//! The hash is that of the recipe, whatever an image holds.

use std::process::Command;

use crate::fixture::{PROGRAM, RECIPE, agreed, all_agree, packages, stage};

#[test]
fn the_running_machine_has_the_recipes_hash() {
    let run = |program: &str| {
        let output = Command::new(program).env_remove("PYTHONPATH").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(PROGRAM), run(RECIPE));
}

#[test]
fn an_image_without_environments_agrees() {
    let inventory = agreed("rm -rf /venv");
    assert!(!inventory["apt"]["packages"].as_array().unwrap().is_empty());
    assert_eq!(inventory["venvs"].as_array().unwrap().len(), 0);
}

#[test]
fn metadata_of_every_form_counts() {
    let inventory = agreed(
        r#"
        make_venv main
        dist "$site" Demo.Pkg 1.0
        dist "$site" demo-pkg 1.0           # a duplicate by its normalised name
        mkdir "$site/legacy.egg-info" "$site/bare-1.dist-info" "$site/both-1.dist-info" "$site/UPPER-2.DIST-INFO"
        printf 'Name: legacy\nVersion: 0.1\n' > "$site/legacy.egg-info/PKG-INFO"
        printf 'Name: single\nVersion: 3\n' > "$site/single-3.egg-info"
        : > "$site/both-1.dist-info/METADATA"
        printf 'Name: both\nVersion: 1\n' > "$site/both-1.dist-info/PKG-INFO"
        printf 'Name: UPPER\nVersion: 2\n' > "$site/UPPER-2.DIST-INFO/METADATA"
        printf 'Name: renamed\nVersion: 9\n' > "$site/none.txt"
        ln -s nowhere "$site/dangling-1.egg-info"
        printf 'Version: 5\n' > "$site/nameless-5.egg-info"
        "#,
    );
    assert_eq!(
        packages(&inventory, 0),
        [
            "Demo.Pkg==1.0",
            "None==5",
            "None==None",
            "None==None",
            "UPPER==2",
            "both==1",
            "demo-pkg==1.0",
            "legacy==0.1",
            "single==3"
        ]
    );
}

#[test]
fn odd_metadata_text_is_read_as_python_reads_it() {
    let inventory = agreed(
        r#"
        make_venv main
        info() { mkdir -p "$site/$1.dist-info"; printf "$2" > "$site/$1.dist-info/METADATA"; }
        info crlf 'Name: crlf\r\nVersion: 1\r\n\r\nName: body\r\n'
        info folded 'Name: folded\nVersion: 1.0\n  more\n\tand more\nName: second\n'
        info wide 'Name: wide\n        continued\nVersion: 2\n'
        info empty 'Name:\n on the next line\nVersion:\n'
        info blanks 'Name: \t blanks \nVERSION:3\t\n'
        info broken 'Name: broken\nthis is no header\nVersion: 4\n'
        info envelope 'From nobody\nName: envelope\nVersion: 5\n'
        info unicode 'Name: \303\251t\303\251\nVersion: 6\nSummary: \342\200\250\n'
        info late '\nName: late\nVersion: 7\n'
        "#,
    );
    let lines = packages(&inventory, 0);
    assert!(lines.contains(&"crlf==1".to_owned()) && lines.contains(&"été==6".to_owned()), "{lines:?}");
    assert!(lines.contains(&"broken==None".to_owned()) && lines.contains(&"None==None".to_owned()), "{lines:?}");
}

#[test]
fn directories_added_by_pth_files_count() {
    let inventory = agreed(
        r#"
        make_venv main
        mkdir -p /opt/editable /opt/nested /opt/literal "$site/old-1.0-py3.egg/EGG-INFO" "$site/sub"
        dist /opt/editable editable 1; dist /opt/nested nested 2; dist /opt/literal literal 3; dist "$site/sub" sub 4
        printf 'Name: old\nVersion: 1.0\n' > "$site/old-1.0-py3.egg/EGG-INFO/PKG-INFO"
        python3 - "$site/zipped-2.0-py3.egg" << 'END'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("EGG-INFO/PKG-INFO", "Name: zipped\nVersion: 2.0\n" + "Keywords: x\n" * 100)
    archive.writestr("zipped/__init__.py", "")
END
        printf '%s\n' 'import sys; sys.__plen = len(sys.path)' ./old-1.0-py3.egg ./zipped-2.0-py3.egg /opt/missing > "$site/easy-install.pth"
        printf '# comment\n\n  \n/opt/editable  \n/opt/editable/\n../site-packages/sub\n' > "$site/a.pth"
        printf 'import site; site.addsitedir("/opt/nested")\n' > "$site/b.pth"
        printf 'import sys; sys.path.append("/opt/literal")\n' > "$site/c.pth"
        mkdir "$site/_distutils_hack"; touch "$site/_distutils_hack/__init__.py"
        printf "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local') == 'local'; enabled and __import__('_distutils_hack'); \n" > "$site/distutils-precedence.pth"
        printf '/opt/nested/deep\n' > /opt/nested/z.pth
        mkdir /opt/nested/deep; dist /opt/nested/deep deep 5
        "#,
    );
    assert_eq!(
        packages(&inventory, 0),
        ["deep==5", "editable==1", "literal==3", "literal==3", "nested==2", "old==1.0", "sub==4", "zipped==2.0"]
    );
    assert_eq!(inventory["notes"], serde_json::Value::Null);
}

#[test]
fn code_in_a_pth_file_that_hides_its_path_is_asked_about_live_and_noted_offline() {
    let staged = stage(&[r#"
        make_venv main
        mkdir -p /opt/hidden; dist /opt/hidden hidden 1
        printf 'import sys; sys.path.append("/opt/" + "hidden")\n' > "$site/x.pth"
        "#]);
    let outcome = &staged.outcomes[0];
    assert_eq!(outcome.live, outcome.recipe);
    assert_ne!(outcome.offline, outcome.recipe);
    assert!(staged.inventory["notes"][0].as_str().unwrap().contains("x.pth"), "{}", staged.inventory["notes"]);
}

/// Whatever code a `.pth` file holds: live, the interpreter says what it did; offline, what it may have done is noted.
#[test]
fn code_that_fails_or_hides_what_it_adds_is_never_taken_for_harmless() {
    let codes = [
        "import _no_such_module\n/opt/x\n",
        "import sys; 1/0\n/opt/x\n",
        "import sys as s; s.path.append('/opt/x')\n",
        "import _side\n",
        "site.addsitedir('/opt/x')\nimport os; site.addsitedir('/opt/x')\n/opt/x\n",
        "import sys; sys.path.insert(01, '/opt/x')\n",
    ];
    let mut steps: Vec<String> = codes
        .iter()
        .map(|code| {
            format!(
                "rm -rf /venv /opt/x; make_venv main; mkdir /opt/x; dist /opt/x x 1; \
                 printf 'import sys; sys.path.append(\"/opt/x\")\\n' > \"$site/_side.py\"; printf %s \"{code}\" > \"$site/a.pth\""
            )
        })
        .collect();
    steps.push(
        "rm -rf /venv /opt/x; make_venv main; mkdir /opt/x; dist /opt/x x 1; \
         printf 'import sys; sys.path.append(\"/opt/x\")\\n' > \"$site/sitecustomize.py\""
            .into(),
    );
    for step in steps {
        let staged = stage(&[&step]);
        let outcome = &staged.outcomes[0];
        assert_eq!(outcome.live, outcome.recipe, "{}", staged.difference);
        let noted = staged.inventory["notes"].is_array();
        assert!(noted || outcome.offline == outcome.recipe, "{step}\n{}", staged.difference);
    }
}

#[test]
fn what_is_added_twice_by_site_itself_counts_twice() {
    all_agree(&[
        "make_venv main; mkdir /opt/x; dist /opt/x x 1; printf 'import site; site.addsitedir(\"/opt/x\")\\n/opt/x\\n' > \"$site/a.pth\"",
        "site_of /venv/main; printf 'import sys; sys.path.append(\"/opt/x\")\\nimport site; site.addsitedir(\"/opt/x\")\\n/opt/x/\\n' > \"$site/a.pth\"",
    ]);
}

/// An interpreter older than 3.11 states its version nowhere in itself: records of another installation must not count.
#[test]
fn an_older_interpreter_is_not_taken_for_what_its_stale_configuration_names() {
    let steps: Vec<String> = (8..=10)
        .map(|minor| {
            format!(
                r#"
                python=$(ls -d /root/.pyenv/versions/3.{minor}.*/bin/python3.{minor} 2> /dev/null | tail -1) || true
                python=${{python:-/usr/bin/python3}}
                release=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
                rm -rf /venv /opt/old; mkdir -p /venv "/opt/old/bin" "/opt/old/lib/python$release" "/opt/old/include/python$release"
                "$python" -m venv --without-pip /venv/linked; site_of /venv/linked; dist "$site" a 1
                touch "/opt/old/lib/python$release/os.py"; cp "$python" "/opt/old/bin/python$release"
                printf '#define PY_VERSION "%s.99"
' "$release" > "/opt/old/include/python$release/patchlevel.h"
                [[ $release == 3.11 ]] || sed -i 's|^home.*|home = /opt/old/bin|' /venv/linked/pyvenv.cfg
                "#
            )
        })
        .collect();
    all_agree(&steps);
}

#[test]
fn the_systems_packages_join_where_the_environment_includes_them() {
    let inventory = agreed(
        r#"
        make_venv main --system-site-packages
        dist "$site" own 1
        user=/root/.local/lib/${site#/venv/main/lib/}
        mkdir -p "$user"; dist "$user" user 2
        make_venv strict
        dist "$site" own 1
        "#,
    );
    let (open, strict) = (packages(&inventory, 0), packages(&inventory, 1));
    assert!(open.contains(&"own==1".into()) && open.contains(&"user==2".into()), "{open:?}");
    // Debian's own packages, such as python3-apt's.
    assert!(open.len() > 2, "{open:?}");
    assert_eq!(strict, ["own==1"]);
}

#[test]
fn environments_are_taken_in_the_order_of_the_glob() {
    let inventory = agreed(
        r#"
        make_venv a; dist "$site" x 1
        make_venv a-b; dist "$site" x 2
        make_venv .hidden; dist "$site" x 3
        make_venv real; dist "$site" x 4
        mkdir /opt/envs; mv /venv/real /opt/envs/real; ln -s /opt/envs/real /venv/linked; ln -s /opt/missing /venv/dangling
        touch /venv/file
        mkdir -p /venv/empty /venv/noexec/bin /venv/broken/bin /venv/directory/bin/python
        cp /usr/bin/env /venv/noexec/bin/python; chmod 644 /venv/noexec/bin/python
        ln -s /usr/bin/python-is-gone /venv/broken/bin/python
        "#,
    );
    let names: Vec<_> =
        inventory["venvs"].as_array().unwrap().iter().map(|venv| venv["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a-b", "a", "broken", "directory", "empty", "linked", "noexec"]);
    assert!(inventory["venvs"][2]["interpreter"].is_null() && inventory["venvs"][5]["interpreter"].is_object());
}

#[test]
fn conda_environments_agree() {
    let inventory = agreed(
        r#"
        python=$(basename "$(readlink -f /usr/bin/python3)")
        mkdir -p /venv/conda/bin /venv/conda/lib /venv/conda/conda-meta
        cp "/usr/bin/$python" /venv/conda/bin/
        ln -s "$python" /venv/conda/bin/python
        ln -s "/usr/lib/$python" "/venv/conda/lib/$python"
        mkdir -p /venv/conda/lib/python3/dist-packages /root/.local/lib/$python/site-packages
        dist /venv/conda/lib/python3/dist-packages conda-dist 1
        dist /root/.local/lib/$python/site-packages user 2
        printf '{"name": "python", "version": "3.0.0"}\n' > /venv/conda/conda-meta/python-3.0.0-0.json
        "#,
    );
    assert_eq!(packages(&inventory, 0), ["conda-dist==1", "user==2"]);
}

#[test]
fn an_environment_that_is_a_link_to_the_systems_python_agrees() {
    let inventory = agreed("mkdir -p /venv/system/bin; ln -s ../../../usr/bin/python3 /venv/system/bin/python");
    assert!(packages(&inventory, 0).len() > 2);
}

#[test]
fn a_stale_pyvenv_cfg_does_not_decide_the_version() {
    let inventory = agreed(
        r"
        make_venv main
        sed -i 's/^version.*/version = 3.11.99/' /venv/main/pyvenv.cfg
        make_venv lost
        sed -i 's|^home.*|home = /opt/gone/bin|' /venv/lost/pyvenv.cfg
        mkdir -p /venv/main/lib/python3/dist-packages
        dist /venv/main/lib/python3/dist-packages debian-style 1
        dist / in-the-working-directory 1
        ",
    );
    assert_eq!(packages(&inventory, 1), ["debian-style==1", "in-the-working-directory==1"]);
}

/// Every CPython of this machine from 3.8 on; the system's own is always among them.
#[test]
fn every_interpreter_on_this_machine_agrees() {
    let inventory = agreed(
        r#"
        for python in /root/.pyenv/versions/3.*/bin/python /usr/bin/python3; do
            "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2> /dev/null || continue
            name=$("$python" -c 'import sys; print("py%d.%d" % sys.version_info[:2])')$(echo "$python" | cksum | cut -c 1-3)
            "$python" -m venv --without-pip "/venv/$name"
            "$python" -m venv --without-pip --system-site-packages "/venv/$name-open"
            for site in "/venv/$name"/lib/python3.*/site-packages; do
                dist "$site" one 1
                mkdir "$site/folded.egg-info" "$site/.hidden"
                printf 'Name: folded\nVersion: 1\n  2\n        3\n' > "$site/folded.egg-info/PKG-INFO"
                printf '\357\273\277/opt/marked\n' > "$site/marked.pth"
                printf '/opt/dotted\n' > "$site/.dotted.pth"
                printf '/opt/first\342\200\250/opt/second\n' > "$site/separated.pth"
            done
        done
        mkdir -p /opt/marked /opt/dotted /opt/first /opt/second
        for name in marked dotted first second; do dist /opt/$name $name 1; done
        "#,
    );
    assert!(inventory["venvs"].as_array().unwrap().len() >= 2);
}

/// An environment whose interpreter is exchanged for each other one of this machine.
#[test]
fn an_interpreter_that_was_exchanged_agrees() {
    let steps: Vec<String> = (8..=14)
        .map(|minor| {
            format!(
                r#"
                python=$(ls -d /root/.pyenv/versions/3.{minor}.*/bin/python 2> /dev/null | tail -1) || true
                [[ -d /venv/main ]] || {{ make_venv main; dist "$site" kept 1; }}
                ln -sfn "${{python:-/usr/bin/python3}}" /venv/main/bin/python
                # One of the system's release finds the system's library, which may not fit it: then it does not run.
                /venv/main/bin/python -c 'import importlib.metadata' 2> /dev/null || ln -sfn /usr/bin/python3 /venv/main/bin/python
                "#
            )
        })
        .collect();
    all_agree(&steps);
}

#[test]
fn debian_packages_are_listed_as_dpkg_lists_them() {
    let inventory = agreed(
        r#"
        architecture=$(dpkg --print-architecture)
        package() { printf 'Package: %s\nStatus: %s\nPriority: optional\nSection: x\nMaintainer: x <x@example.com>\nArchitecture: %s\nVersion: %s\n%sDescription: x\n more\n\n' "$@"; }
        {
            package libplain 'install ok installed' "$architecture" 1.0-1 ''
            package libsame 'install ok installed' "$architecture" 2:1.0 $'Multi-Arch: same\n'
            package libforeign 'install ok installed' m68k 0:1.0 ''
            package libheld 'hold ok installed' "$architecture" 1 ''
            package libgone 'deinstall ok config-files' "$architecture" 1 ''
            package libhalf 'install ok half-configured' "$architecture" 1 ''
            package libbad 'install reinstreq installed' "$architecture" 1 ''
            package libupdated 'install ok installed' "$architecture" 1 ''
            package tool 'install ok installed' all 1+cuda12.4 ''
            package plain 'install ok installed' all 1 ''
            package x-dev 'install ok installed' all 1 ''
            package y 'install ok installed' all 1.dev ''
            package dpkg 'install ok installed' "$architecture" 1.21 ''
        } > /var/lib/dpkg/status
        package libupdated 'install ok installed' "$architecture" 2 '' > /var/lib/dpkg/updates/0000
        printf 'ID=test\nPRETTY_NAME="VERSION_ID="\n' > /etc/os-release
        "#,
    );
    let lines = inventory["apt"]["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| format!("{}={}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap()));
    let lines: Vec<_> = lines.collect();
    let architecture = lines[3].strip_prefix("libsame:").and_then(|rest| rest.strip_suffix("=2:1.0")).unwrap();
    assert_eq!(
        lines,
        [
            "libbad=1",
            "libforeign:m68k=1.0",
            "libplain=1.0-1",
            &format!("libsame:{architecture}=2:1.0"),
            "libupdated=2",
            "tool=1+cuda12.4",
            "y=1.dev"
        ]
    );
    assert_eq!(inventory["system"]["release"], serde_json::json!([]));
}

#[test]
fn an_image_without_dpkg_or_os_release_agrees() {
    let inventory = agreed("rm -rf /var/lib/dpkg /etc/os-release; ln -s /opt/nowhere /etc/os-release");
    assert_eq!(inventory["apt"]["hash"], "e3b0c44298fc");
}
