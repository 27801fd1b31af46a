//! Every way to make an environment, with every kind of content.
//!
//! The product of two lists: who lays environments out, and what installers leave in them. Each pair is a case of its own,
//! hashed three ways.

use crate::fixture::all_agree;

/// What installers leave behind, for an environment whose site directory is `$site`.
const CONTENTS: [(&str, &str); 16] = [
    ("nothing", ":"),
    ("wheels", "dist \"$site\" torch 2.9.1+cu128; dist \"$site\" numpy 2.3.4; dist \"$site\" Jinja2 3.1.6"),
    (
        "an egg-info directory",
        "mkdir \"$site/legacy.egg-info\"; printf 'Name: legacy\\nVersion: 0.1\\n' > \"$site/legacy.egg-info/PKG-INFO\"",
    ),
    ("an egg-info file", "printf 'Metadata-Version: 1.1\\nName: single\\nVersion: 3\\n' > \"$site/single-3.egg-info\""),
    (
        "an egg directory",
        "mkdir -p \"$site/old-1.0-py3.11.egg/EGG-INFO\"; printf 'Name: old\\nVersion: 1.0\\n' > \"$site/old-1.0-py3.11.egg/EGG-INFO/PKG-INFO\"; echo ./old-1.0-py3.11.egg > \"$site/easy-install.pth\"",
    ),
    (
        "a zipped egg",
        "python3 -c 'import sys, zipfile; z = zipfile.ZipFile(sys.argv[1], \"w\", zipfile.ZIP_DEFLATED); z.writestr(\"EGG-INFO/PKG-INFO\", \"Name: zipped\\nVersion: 2.0\\n\" + \"Keywords: x\\n\" * 50)' \"$site/zipped-2.0-py3.11.egg\"; echo ./zipped-2.0-py3.11.egg > \"$site/zipped.pth\"",
    ),
    (
        "directories added by .pth files",
        "mkdir -p /opt/case/deep; dist /opt/case added 1; dist /opt/case/deep deeper 2; printf '# comment\\n/opt/case\\n/opt/case/\\n/opt/case/deep\\n/opt/missing\\n' > \"$site/case.pth\"",
    ),
    (
        "a site directory added by code",
        "mkdir -p /opt/case; dist /opt/case added 1; printf 'import site; site.addsitedir(\"/opt/case\")\\n' > \"$site/case.pth\"",
    ),
    (
        "duplicates",
        "dist \"$site\" twice 1; dist \"$site\" twice 2; dist \"$site\" Twice 2; mkdir -p /opt/case; dist /opt/case twice 1; echo /opt/case > \"$site/case.pth\"",
    ),
    (
        "a name other than the file's",
        "dist \"$site\" file_name 1; sed -i 's/^Name: .*/Name: Other.Name/' \"$site/file_name-1.dist-info/METADATA\"",
    ),
    (
        "missing metadata",
        "mkdir \"$site/bare-1.0.dist-info\" \"$site/bare.egg-info\"; touch \"$site/bare-1.0.dist-info/RECORD\"",
    ),
    (
        "empty metadata",
        "mkdir \"$site/empty-1.0.dist-info\"; : > \"$site/empty-1.0.dist-info/METADATA\"; : > \"$site/file.egg-info\"",
    ),
    ("folded metadata", "info folded 'Name: folded\\n  name\\nVersion: 1.0\\n        eight\\n\\tand a tab\\n'"),
    (
        "names that are not ASCII",
        "info one 'Name: \\303\\251t\\303\\251\\nVersion: 1\\n'; info two 'Name: \\360\\237\\220\\215\\nVersion: 2\\n'; info three 'Name: \\357\\275\\201\\nVersion: 3\\n'",
    ),
    (
        "line ends of other systems",
        "info crlf 'Name: crlf\\r\\nVersion: 1\\r\\n\\r\\nName: body\\r\\n'; info cr 'Name: cr\\rVersion: 2\\r'",
    ),
    (
        "links",
        "mkdir -p /opt/case; dist /opt/case real 1; ln -s /opt/case/real-1.dist-info \"$site/real-1.dist-info\"; ln -s ../../../../../opt/case/real-1.dist-info \"$site/again.dist-info\"; ln -s /nowhere \"$site/gone-1.dist-info\"",
    ),
];

/// dpkg takes its time to list a whole machine's packages.
const SMALL_DATABASE: &str = "package dpkg 'install ok installed' \"$native\" 1.21 '' > /var/lib/dpkg/status";

/// Runs all contents in environments that `maker` lays out at `/venv/main`.
fn every_content(maker: &str) {
    let steps = CONTENTS.map(|(name, content)| {
        format!("# {name}\nrm -rf /venv /opt/case /opt/venvs; mkdir /venv\n{SMALL_DATABASE}\n{maker}\n{content}\n")
    });
    all_agree(&steps);
}

macro_rules! makers {
    ($($name:ident: $maker:expr;)*) => {
        $(
            #[test]
            fn $name() {
                every_content($maker);
            }
        )*
    };
}

makers! {
    venv: "make_venv main";
    venv_of_copies: "make_venv main --copies";
    venv_with_the_systems_packages: "make_venv main --system-site-packages";
    venv_behind_links: "make_venv main; mkdir /opt/venvs; mv /venv/main /opt/venvs/real; ln -s /opt/venvs/real /venv/main";
    venv_below_a_link: "make_venv main; mv /venv /opt/venvs; ln -s /opt/venvs /venv";
    venv_with_a_lib64_directory: "make_venv main; rm -f /venv/main/lib64; ln -s lib /venv/main/lib64";
    uv: "make_uv main";
    uv_with_the_systems_packages: "make_uv main --system-site-packages";
    uv_relocatable: "make_uv main --relocatable";
    conda: "make_conda main";
    stale_configuration: "make_venv main; sed -i -e 's/^version.*/version = 3.11.99/' -e 's|^home.*|home = /opt/gone/bin|' /venv/main/pyvenv.cfg; sed -i '/^executable\\|^command/d' /venv/main/pyvenv.cfg; mkdir -p /venv/main/lib/python3/dist-packages";
    no_configuration: "make_venv main; rm /venv/main/pyvenv.cfg";
}
