//! What images have surprised readers with, each a case of its own.

use crate::fixture::{agreed, all_agree, packages};

macro_rules! cases {
    ($($name:ident: $setup:expr;)*) => {
        $(
            #[test]
            fn $name() {
                agreed($setup);
            }
        )*
    };
}

cases! {
    an_environment_by_the_standard_library_with_pip_and_setuptools:
        "mkdir /venv; python3 -m venv /venv/main";

    an_editable_install_by_setuptools:
        r#"
        mkdir /venv; python3 -m venv /venv/main
        mkdir -p /opt/demo/demo; touch /opt/demo/demo/__init__.py
        printf 'from setuptools import setup\nsetup(name="Demo.Pkg", version="1.2", packages=["demo"])\n' > /opt/demo/setup.py
        cd /opt/demo; /venv/main/bin/python setup.py --quiet develop --no-deps 2> /dev/null
        test -e /venv/main/lib/python3.*/site-packages/easy-install.pth
        "#;

    an_installed_egg_by_setuptools:
        r#"
        mkdir /venv; python3 -m venv /venv/main
        mkdir -p /opt/demo/demo; touch /opt/demo/demo/__init__.py
        printf 'from setuptools import setup\nsetup(name="demo", version="1.2", packages=["demo"], zip_safe=True)\n' > /opt/demo/setup.py
        cd /opt/demo; /venv/main/bin/python setup.py --quiet install 2> /dev/null
        ls /venv/main/lib/python3.*/site-packages/*.egg > /dev/null
        "#;

    the_environments_packages_that_are_in_the_user_site:
        r#"
        make_venv main --system-site-packages
        user=/root/.local/lib/${site#/venv/main/lib/}
        mkdir -p "$user"; dist "$user" user 2; dist "$site" user 2
        "#;

    pth_files_that_name_each_other:
        r#"
        make_venv main
        mkdir -p /opt/a /opt/b; dist /opt/a a 1; dist /opt/b b 1
        printf 'import site; site.addsitedir("/opt/a")\n' > "$site/one.pth"
        printf 'import site; site.addsitedir("/opt/b")\n' > /opt/a/two.pth
        printf '/opt/a\n' > /opt/b/three.pth
        "#;

    pth_files_with_blanks_comments_and_carriage_returns:
        r#"
        make_venv main
        mkdir -p /opt/a "/opt/with blank"; dist /opt/a a 1; dist "/opt/with blank" b 1
        printf '  \r\n# /opt/a\r\n/opt/a\r\n/opt/with blank \t\r\n' > "$site/a.pth"
        "#;

    a_pth_file_that_is_a_directory_a_link_or_dangling:
        r#"
        make_venv main
        mkdir -p /opt/a "$site/directory.pth"; dist /opt/a a 1
        printf '/opt/a\n' > /opt/real.pth
        ln -s /opt/real.pth "$site/linked.pth"
        ln -s /opt/none.pth "$site/dangling.pth"
        "#;

    a_relative_path_out_of_the_site_directory:
        r#"
        make_venv main
        mkdir -p /venv/main/extra; dist /venv/main/extra extra 1
        printf '../../../extra\n../../../../../../../../../venv/main/extra\n' > "$site/a.pth"
        "#;

    a_file_where_a_metadata_directory_is_expected:
        r#"
        make_venv main
        printf 'Name: a\nVersion: 1\n' > "$site/a-1.dist-info"
        mkdir -p "$site/b-1.dist-info/METADATA" "$site/b-1.dist-info/PKG-INFO" "$site/c.egg-info/PKG-INFO"
        "#;

    a_site_directory_that_is_a_file:
        r#"
        make_venv main
        rm -r "$site"; echo nothing > "$site"
        "#;

    a_site_directory_that_is_missing:
        r#"
        make_venv main
        rm -r "$site"
        "#;

    names_with_newlines_blanks_and_quotes:
        r#"
        make_venv main
        mkdir "$site/"$'new\nline-1.dist-info' "$site/"$'tab\t-1.dist-info'
        printf 'Name: new\nVersion: 1\n' > "$site/"$'new\nline-1.dist-info/METADATA'
        printf 'Name: a "quoted" $name\nVersion: 1\n' > "$site/"$'tab\t-1.dist-info/METADATA'
        make_venv $'odd\nname'; dist "$site" odd 1
        make_venv 'with blank'; dist "$site" blank 1
        make_venv '[glob]*'; dist "$site" glob 1
        make_venv '-option'; dist "$site" option 1
        "#;

    environments_sorted_by_bytes:
        r#"
        for name in b a B A 10 9 _ ~ é a.b a-b ab; do make_venv "$name"; dist "$site" "$name" 1; done
        "#;

    environments_without_a_python_that_runs:
        r"
        mkdir -p /venv/empty /venv/plain/bin /venv/directory/bin/python /venv/loop/bin /venv/file/bin
        touch /venv/plain/bin/python
        ln -s python /venv/loop/bin/python
        ln -s /nowhere/python /venv/file/bin/python
        touch /venv/not-a-directory
        ";

    an_environment_of_python3_alone:
        r#"
        make_venv main; dist "$site" a 1
        rm /venv/main/bin/python
        "#;

    an_interpreter_behind_a_chain_of_links:
        r#"
        make_venv main; dist "$site" a 1
        mkdir -p /opt/chain
        ln -s /usr/bin/python3 /opt/chain/three; ln -s three /opt/chain/two; ln -s ../../../opt/chain/two /opt/chain/one
        ln -sf /opt/chain/one /venv/main/bin/python
        "#;

    an_upgraded_interpreter_under_a_stale_configuration:
        r#"
        mkdir -p /opt/python/bin
        python=$(basename "$(readlink -f /usr/bin/python3)")
        ln -s "/usr/bin/$python" "/opt/python/bin/$python"; ln -s "$python" /opt/python/bin/python3
        mkdir /venv; /opt/python/bin/python3 -m venv --without-pip /venv/main; site_of /venv/main; dist "$site" a 1
        rm /opt/python/bin/python3; cp "/usr/bin/$python" /opt/python/bin/python3
        sed -i 's/^version.*/version = 3.9.1/' /venv/main/pyvenv.cfg
        "#;

    a_configuration_without_the_switch_includes_the_system:
        r#"
        make_venv main; dist "$site" a 1
        sed -i '/^include-system/d' /venv/main/pyvenv.cfg
        "#;

    a_configuration_beside_the_interpreter:
        r#"
        make_venv main; dist "$site" a 1
        mv /venv/main/pyvenv.cfg /venv/main/bin/
        "#;

    a_configuration_with_odd_lines:
        r#"
        make_venv main; dist "$site" a 1
        printf '\r\n=\nno equals\nINCLUDE-SYSTEM-SITE-PACKAGES =  False  \nhome=/usr/bin\r\nhome = /nowhere\n' > /venv/main/pyvenv.cfg
        "#;

    the_installations_own_egg_info_counts:
        "make_venv main --system-site-packages; dist /root x 1";

    distributions_in_the_working_directory_count:
        "make_venv main; dist / in-the-root 1; mkdir /egg-info; printf 'Name: bare\\nVersion: 1\\n' > /egg-info/PKG-INFO";

    every_state_of_a_package:
        r#"
        {
            package dpkg 'install ok installed' "$native" 1.21 ''
            for want in unknown install hold deinstall purge; do
                for status in not-installed config-files half-installed unpacked half-configured installed; do
                    fields=''
                    [[ $status != config-files ]] || fields=$'Config-Version: 1.0\n'
                    package "lib-$want-$status" "$want ok $status" "$native" 1.0 "$fields"
                done
            done
            package libtriggers 'install ok triggers-pending' "$native" 1 $'Triggers-Pending: x\n'
            package libawaited 'install ok triggers-awaited' "$native" 1 $'Triggers-Awaited: libtriggers\n'
            package libreinst 'install reinstreq installed' "$native" 1 ''
            package libhalf 'install reinstreq half-installed' "$native" 1 ''
        } > /var/lib/dpkg/status
        "#;

    foreign_architectures_and_multi_arch:
        r#"
        printf '%s\narmhf\ni386\n' "$native" > /var/lib/dpkg/arch
        {
            package dpkg 'install ok installed' "$native" 1.21 ''
            for architecture in "$native" all armhf i386 s390x; do
                [[ $architecture == all ]] || package libsame 'install ok installed' "$architecture" 1 $'Multi-Arch: same\n'
                package "liballowed-$architecture" 'install ok installed' "$architecture" 1 $'Multi-Arch: allowed\n'
                package "libforeign-$architecture" 'install ok installed' "$architecture" 1 $'Multi-Arch: foreign\n'
                package "libno-$architecture" 'install ok installed' "$architecture" 1 $'Multi-Arch: no\n'
            done
        } > /var/lib/dpkg/status
        "#;

    versions_of_every_form:
        r#"
        {
            package dpkg 'install ok installed' "$native" 1.21 ''
            n=0
            for version in 0:1.0 1:1.0-1 1.0~rc1 1.0+dfsg-1 1.0-1-2 00:1 12:1.0 1.0.dev 0; do n=$((n + 1)); package "lib$n" 'install ok installed' all "$version" ''; done
        } > /var/lib/dpkg/status
        "#;

    names_and_versions_longer_than_any_terminal:
        r#"
        long=$(printf 'x%.0s' {1..300})
        { package dpkg 'install ok installed' "$native" 1.21 ''; package "lib$long" 'install ok installed' all "1.$long" ''; package lib-short 'install ok installed' all 1 ''; } > /var/lib/dpkg/status
        "#;

    updates_that_an_interrupted_dpkg_left:
        r#"
        { package dpkg 'install ok installed' "$native" 1.21 ''; package liba 'install ok unpacked' "$native" 1 ''; package libb 'install ok installed' "$native" 1 ''; } > /var/lib/dpkg/status
        package liba 'install ok half-configured' "$native" 1 '' > /var/lib/dpkg/updates/0000
        package liba 'install ok installed' "$native" 2 '' > /var/lib/dpkg/updates/0001
        package libb 'deinstall ok config-files' "$native" 1 $'Config-Version: 1\n' > /var/lib/dpkg/updates/0002
        touch /var/lib/dpkg/updates/tmp.i
        "#;

    fields_that_are_folded_reordered_and_oddly_spelled:
        r#"
        { package dpkg 'install ok installed' "$native" 1.21 ''
          printf 'package:  LibUpper  \nversion:\t1\nARCHITECTURE: all\nStatus:   install   ok\tinstalled\nMaintainer: x\nDescription: x\n y\n .\n z: w\nConffiles:\n /etc/x 0123\n\n\n\n'
        } > /var/lib/dpkg/status
        "#;

    a_database_without_packages: ": > /var/lib/dpkg/status";

    no_database: "rm -r /var/lib/dpkg";

    only_packages_that_do_not_count:
        "package plain 'install ok installed' all 1 '' > /var/lib/dpkg/status";

    a_release_without_the_lines: "printf 'ID=x\\nVERSION=1\\n' > /etc/os-release";

    a_release_with_one_line_and_no_newline: "printf 'VERSION_CODENAME=x' > /etc/os-release";

    a_release_with_repeated_and_quoted_lines:
        "printf 'VERSION_ID=\"2\"\\nVERSION_ID=1\\nVERSION_CODENAME=\\nVERSION_ID=1\\r\\n VERSION_ID=3\\nXVERSION_ID=4\\n' > /etc/os-release";

    a_release_that_is_empty: ": > /etc/os-release";

    a_release_that_is_a_directory: "rm /etc/os-release; mkdir /etc/os-release";

    no_release: "rm /etc/os-release";

    an_os_release_with_names_of_other_languages:
        "printf 'NAME=\"\\303\\211t\\303\\251\"\\nVERSION_ID=\"\\303\\251\"\\n' > /etc/os-release";

    an_empty_directory_of_environments: "mkdir /venv";

    environments_that_are_a_file: "touch /venv";
}

/// What pip, setuptools and uv install is known to the letter: nothing about it is left to be asked.
#[test]
fn environments_of_the_usual_installers_are_certain() {
    let inventory = agreed("mkdir /venv; python3 -m venv /venv/a; make_uv b");
    assert!(packages(&inventory, 0).iter().any(|line| line.starts_with("setuptools==")), "{inventory}");
    assert_eq!(inventory["notes"], serde_json::Value::Null);
}

#[test]
fn the_order_of_environments_matters() {
    let setup = |first: &str, second: &str| {
        format!(
            "rm -rf /venv; make_venv {first}; dist \"$site\" one 1; make_venv {second}; dist \"$site\" two 2; \
             # the same two contents under swapped names"
        )
    };
    let staged = crate::fixture::stage(&[setup("a", "b"), setup("b", "a")]);
    let [ab, ba] = &staged.outcomes[..] else { panic!("{staged:?}") };
    assert_eq!((&ab.offline, &ba.offline), (&ab.recipe, &ba.recipe), "{}", staged.difference);
    assert_ne!(ab.recipe, ba.recipe);
}

/// A build backend in the project itself, so that real installers make a real editable install without any index.
const BACKEND: &str = r#"
mkdir -p /opt/demo/demo; touch /opt/demo/demo/__init__.py
cat > /opt/demo/pyproject.toml << 'END'
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "Demo.Pkg"
version = "1.2"
END
cat > /opt/demo/backend.py << 'END'
import base64, hashlib, os, zipfile

def build_editable(directory, config_settings=None, metadata_directory=None):
    name = "demo_pkg-1.2-py3-none-any.whl"
    files = {
        "__editable__.demo_pkg-1.2.pth": "/opt/demo\n",
        "demo_pkg-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: Demo.Pkg\nVersion: 1.2\n",
        "demo_pkg-1.2.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        "%s,sha256=%s,%d\n" % (path, base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode(), len(text))
        for path, text in files.items()
    )
    files["demo_pkg-1.2.dist-info/RECORD"] = record + "demo_pkg-1.2.dist-info/RECORD,,\n"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return name

build_wheel = build_editable
END
"#;

#[test]
fn editable_installs_by_uv_and_pip_agree() {
    let uv = format!(
        "{BACKEND}\nmake_uv main; mkdir -p /tmp; dist /opt/demo in-the-sources 0\n\
         /opt/uv --quiet --offline --no-cache pip install --python /venv/main/bin/python --no-deps --no-build-isolation --editable /opt/demo"
    );
    let pip = format!(
        "{BACKEND}\nrm -rf /venv; mkdir /venv; python3 -m venv /venv/main\n\
         /venv/main/bin/python -m pip install --quiet --no-index --no-deps --no-build-isolation --editable /opt/demo"
    );
    let inventory = all_agree(&[uv, pip]);
    let packages = packages(&inventory, 0);
    assert!(
        packages.contains(&"Demo.Pkg==1.2".into()) && packages.contains(&"in-the-sources==0".into()),
        "{packages:?}"
    );
}
