//! What cannot be built, and how that is said. Every refusal is checked to publish nothing and to leave nothing behind.

use vast_imagegen::build::NamedContext;

use super::support::Workplace;

#[test]
fn every_refusal_names_file_line_and_reason() {
    for (dockerfile, expected) in [
        ("FROM scratch\nCOPPY a b\n", "image/Dockerfile:2: unknown instruction `COPPY`"),
        ("FROM scratch\nRUN make\n", "image/Dockerfile:2: the native engine cannot run `make`: it starts no process"),
        (
            "FROM scratch\nADD https://example.org/x /x\n",
            "image/Dockerfile:2: the native engine cannot fetch `https://example.org/x`",
        ),
        ("FROM scratch\n\nCOPY ./ROOT /\n", "image/Dockerfile:3: `./ROOT` does not exist in the build context `image`"),
        (
            "FROM scratch\nCOPY --from=extra nope /\n",
            "image/Dockerfile:2: `nope` does not exist in the build context `extra`",
        ),
        (
            "FROM scratch AS a\nCOPY f /\nFROM a\nCOPY --from=a g /\n",
            "image/Dockerfile:4: `g` does not exist in stage `a`",
        ),
        (
            "FROM scratch\nCOPY out /x\n",
            "image/Dockerfile:2: `out` leads out of the build context `image`: `image/out` points to `/etc/passwd`",
        ),
        (
            "FROM scratch\nCOPY links /\n",
            "image/Dockerfile:2: `links/etc/evil` points to `../../../../etc/passwd`, which climbs above the root of the image",
        ),
        ("FROM scratch\nCOPY ../secret /\n", "image/Dockerfile:2: `../secret` lies outside the build context"),
        ("FROM ${NOTHING}\n", "image/Dockerfile:1: `${NOTHING}` is empty: give the argument a value with --build-arg"),
        ("FROM UPPER:case\n", "image/Dockerfile:1: `UPPER:case` is not an image reference"),
        ("FROM oci:/no/such/layout\n", "image/Dockerfile:1: "),
        ("FROM scratch\nENV A=${B\n", "image/Dockerfile:2: `${B` is never closed"),
        ("FROM scratch\nENV A=\"${B:?say B}\"\n", "image/Dockerfile:2: variable `B` has no value: say B"),
        ("FROM scratch\nONBUILD COPY a /\n", "image/Dockerfile:2: ONBUILD is refused"),
        ("FROM scratch\nSTOPSIGNAL never\n", "image/Dockerfile:2: `never` is not a signal"),
        ("FROM scratch\nEXPOSE http\n", "image/Dockerfile:2: `http` is not a port"),
        ("FROM scratch\nCOPY --chmod=9 f /\n", "image/Dockerfile:2: `--chmod=9`: it is neither octal digits"),
        ("FROM scratch\nCOPY --chown=: f /\n", "image/Dockerfile:2: `--chown=:`: it is not of the form user[:group]"),
        ("FROM scratch\nCOPY f f /x\n", "image/Dockerfile:2: several files cannot be copied to `/x`"),
        ("FROM --platform=nowhere scratch\n", "image/Dockerfile:1: `nowhere` is not a platform"),
        (
            "FROM scratch\nADD evil.tar /\n",
            "image/Dockerfile:2: `image/evil.tar` cannot be unpacked: its entry `../up` climbs out of the root",
        ),
        ("FROM scratch\nADD marks.tar /\n", "image/Dockerfile:2: `marks.tar/.wh.etc` is named like a deletion mark"),
        ("FROM scratch\nADD a.tar.xz /\n", "image/Dockerfile:2: `image/a.tar.xz` is compressed with bzip2 or xz"),
    ] {
        let workplace = Workplace::new(dockerfile)
            .file("f", "f")
            .file("a.tar.xz", "\u{fffd}")
            .link("out", "/etc/passwd")
            .link("links/etc/evil", "../../../../etc/passwd");
        std::fs::write(workplace.path("image/a.tar.xz"), b"\xfd7zXZ\0...").unwrap();
        for (name, entry) in [("evil.tar", "../up"), ("marks.tar", ".wh.etc")] {
            let mut archive = tar::Builder::new(std::fs::File::create(workplace.path("image").join(name)).unwrap());
            let mut header = tar::Header::new_ustar();
            // The builder's own checks would refuse the name.
            header.as_mut_bytes()[..entry.len()].copy_from_slice(entry.as_bytes());
            header.set_size(0);
            header.set_mode(0o644);
            header.set_cksum();
            archive.append(&header, &[][..]).unwrap();
            archive.finish().unwrap();
        }
        let extra = workplace.path("extra");
        std::fs::create_dir(&extra).unwrap();
        let (said, _) = workplace.refusal(|options| {
            options.contexts.insert("extra".into(), NamedContext::Directory(extra));
        });
        assert!(said.starts_with(expected), "{dockerfile:?}: {said}");
    }
}

#[test]
fn files_that_no_layer_can_hold_are_named() {
    let workplace = Workplace::new("FROM scratch\nCOPY ROOT /\n").file("ROOT/etc/f", "f");
    let _socket = std::os::unix::net::UnixListener::bind(workplace.path("image/ROOT/etc/s")).unwrap();
    let (said, _) = workplace.refusal(|_| ());
    assert_eq!(said, "image/Dockerfile:2: `ROOT/etc/s` is a socket, which cannot be copied into an image");
}

#[test]
fn requests_that_make_no_sense_are_refused_before_any_work() {
    let workplace = Workplace::new("FROM scratch\n");
    let missing = workplace.path("none");
    let (said, _) = workplace.refusal(|options| options.folder = missing);
    assert_eq!(said, "cannot build `none`: it is not a directory");
    let missing = workplace.path("image/Dockerfile.none");
    let (said, _) = workplace.refusal(|options| options.dockerfile = missing);
    assert!(said.starts_with("cannot read `image/Dockerfile.none`: No such file"), "{said}");
    let (said, _) = workplace.refusal(|options| options.target = Some("nope".into()));
    assert_eq!(said, "cannot build `image`: `image/Dockerfile` has no stage `nope`");
    let (said, _) = workplace.refusal(|options| options.platforms.clear());
    assert_eq!(said, "cannot build `image`: no platform was chosen");
}

#[test]
fn a_damaged_base_layer_stops_the_build() {
    let registry = vast_testkit::registry::Registry::start();
    let image = vast_testkit::image::ImageBuilder::new().file("a", b"a").build();
    registry.push("team/base", "v1", &image);
    registry.corrupt_blob(&vast_testkit::image::digest(&image.layers[0]), &vast_testkit::image::gzip(b"other"));
    let dockerfile = format!("FROM {}/team/base:v1\nCOPY Dockerfile /\n", registry.host());
    let (said, _) = Workplace::new(&dockerfile).refusal(|_| ());
    assert!(said.starts_with("image/Dockerfile:2: "), "{said}");
    assert!(said.contains("team/base:v1"), "{said}");
}
