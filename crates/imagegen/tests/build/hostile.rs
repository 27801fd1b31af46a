//! Archives and base layers made to do harm: whatever they hold, nothing is written outside the build, and what they make of
//! themselves is bounded.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use vast_imagegen::build::{Limits, NamedContext, Options};
use vast_imagegen::digest::Digest;
use vast_imagegen::platform::Platform;

use super::corpus::unpacked::write_layout;
use super::support::Workplace;

/// A member of an archive as bytes: no builder's checks stand between a name and the archive.
fn member(name: &[u8], kind: u8, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = head(name, kind, content.len() as u64);
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    let mut bytes = summed(header);
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn head(name: &[u8], kind: u8, size: u64) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..107].copy_from_slice(b"0000644");
    header[108..115].copy_from_slice(b"0000000");
    header[116..123].copy_from_slice(b"0000000");
    header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    header[136..147].copy_from_slice(b"00000000000");
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    // Device numbers 8:0, a disk's, for the kinds that have them.
    header[329..336].copy_from_slice(b"0000010");
    header[337..344].copy_from_slice(b"0000000");
    header
}

fn summed(mut header: Vec<u8>) -> Vec<u8> {
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|&byte| u64::from(byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

/// A PAX header with these records.
fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let record = |(name, value): &(&str, &str)| {
        let rest = name.len() + value.len() + 3;
        let length = (1..10).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
        format!("{} {name}={value}\n", length.unwrap())
    };
    member(b"pax", b'x', "", records.iter().map(record).collect::<String>().as_bytes())
}

fn ended(mut archive: Vec<u8>) -> Vec<u8> {
    archive.extend([0; 1024]);
    archive
}

/// A base of this one layer.
fn below(workplace: &Workplace, layer: Vec<u8>) {
    let config = json!({
        "os": "linux",
        "architecture": Platform::host().architecture,
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]},
    });
    // As it is, packed or not: what its first bytes say counts.
    let layer = ("application/vnd.oci.image.layer.v1.tar+gzip".to_owned(), layer);
    write_layout(&workplace.path("below"), config.to_string().as_bytes(), &[layer]);
}

fn on_below(workplace: &Workplace, options: &mut Options) {
    let below = format!("oci:{}:v1", workplace.path("below").display()).parse().unwrap();
    options.contexts.insert("below".to_owned(), NamedContext::Image(below));
}

/// What becomes of `archive` as the source of an `ADD`, or as the layer of a base: the files of the image, or the refusal.
fn outcome(archive: &[u8], as_base: bool) -> Result<BTreeMap<String, String>, String> {
    let workplace = Workplace::new("FROM below\nADD a.tar /un/\n");
    fs::write(workplace.path("image/a.tar"), archive).unwrap();
    fs::write(workplace.path("victim"), "untouched").unwrap();
    let (layer, dockerfile) = if as_base {
        (archive.to_vec(), "FROM below\nCOPY Dockerfile /un/\n".to_owned())
    } else {
        (ended(Vec::new()), "FROM below\nADD a.tar /un/\n".to_owned())
    };
    let workplace = workplace.dockerfile(&dockerfile);
    below(&workplace, layer);
    let all = || {
        let mut found = everything(&workplace.path(""));
        found.retain(|path, _| !path.starts_with("result") && !path.starts_with("cache"));
        found
    };
    let before = all();
    let limits = Limits { archive_bytes: 64 << 20, layer_bytes: 64 << 20 };
    let built = workplace.build_as("result", |options| {
        on_below(&workplace, options);
        options.limits = limits;
    });
    assert_eq!(all(), before, "nothing else was written");
    match built {
        Ok(built) => Ok(built.listing()),
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            Err(text)
        }
    }
}

/// Every file below `root`, with its content.
fn everything(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                left.push(path);
                found.insert(name, Vec::new());
            } else if metadata.is_file() {
                found.insert(name, fs::read(&path).unwrap());
            } else {
                found.insert(name, b"special".to_vec());
            }
        }
    }
    found
}

#[test]
fn what_would_leave_the_root_or_is_no_sound_archive_is_refused() {
    let long_name = "n".repeat(200_000);
    let long = |size: usize| [head_of_long(size), b"d/".repeat(size / 2), vec![0; 512 - size % 512]].concat();
    let many_headers: Vec<u8> =
        (0..40).flat_map(|number| pax(&[(&format!("SCHILY.xattr.user.a{number}"), &"x".repeat(60_000))])).collect();
    for (about, archive, said) in [
        ("a name that climbs", member(b"../victim", b'0', "", b"evil"), "climbs out of the root"),
        ("a name that climbs later", member(b"a/b/../../../victim", b'0', "", b"evil"), "climbs out of the root"),
        ("a directory that climbs", member(b"..", b'5', "", b""), "climbs out of the root"),
        (
            "a long name that climbs",
            [pax(&[("path", "x/../../victim")]), member(b"x", b'0', "", b"evil")].concat(),
            "climbs",
        ),
        ("a hard link out", member(b"h", b'1', "../../../../etc/passwd", b""), "climbs out of the root"),
        (
            "a hard link to what is outside",
            member(b"h", b'1', "/etc/passwd", b""),
            "hard link to something that is not there",
        ),
        (
            "a hard link through a link",
            [member(b"l", b'2', "/etc", b""), member(b"h", b'1', "l/passwd", b"")].concat(),
            "hard link to something that is not there",
        ),
        (
            "a file below a file",
            [member(b"f", b'0', "", b"f"), member(b"f/x", b'0', "", b"x")].concat(),
            "no directory",
        ),
        (
            "a file through links in a circle",
            [member(b"a", b'2', "b", b""), member(b"b", b'2', "a", b""), member(b"a/x", b'0', "", b"x")].concat(),
            "no directory",
        ),
        ("a root that is a link", member(b"./", b'2', "/etc", b""), "would replace the root"),
        ("a name with a NUL", [pax(&[("path", "a\0b")]), member(b"x", b'0', "", b"")].concat(), "NUL in its name"),
        ("a name longer than any", [pax(&[("path", &long_name)]), member(b"x", b'0', "", b"")].concat(), "longer name"),
        ("a GNU name longer than any", [long(9000), member(b"x", b'0', "", b"")].concat(), "longer name"),
        ("a name of a gigabyte", summed(head(b"x", b'L', 1 << 30)), "more than 1048576 bytes in the name"),
        (
            "attributes without end",
            [many_headers, member(b"x", b'0', "", b"")].concat(),
            "more than 1048576 bytes in the name",
        ),
        ("a sparse file of GNU's", summed(head(b"s", b'S', 0)), "a sparse file"),
        (
            "a sparse file of PAX",
            [pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "999999999999")]), member(b"s", b'0', "", b"")]
                .concat(),
            "a sparse file",
        ),
        (
            "a size beyond the bound",
            [pax(&[("size", "99999999999999")]), member(b"x", b'0', "", b"")].concat(),
            "more than 67108864 bytes when",
        ),
        (
            "a size beyond all numbers",
            [pax(&[("size", "99999999999999999999")]), member(b"x", b'0', "", b"")].concat(),
            "malformed",
        ),
        ("a file that is cut", member(b"f", b'0', "", &[7; 4000])[..1500].to_vec(), "ends inside a file"),
        ("a kind that nobody knows", member(b"f", b'Z', "", b""), "of a kind that tar does not define"),
    ] {
        // A first entry that is sound: what begins otherwise is no archive for ADD, and copied.
        let archive = [member(b"first", b'0', "", b"1"), archive].concat();
        let archive = if about == "a file that is cut" { archive } else { ended(archive) };
        for as_base in [false, true] {
            let refusal = outcome(&archive, as_base).expect_err(about);
            assert!(refusal.contains(said), "{about}, base: {as_base}: {refusal}");
        }
    }
}

fn head_of_long(size: usize) -> Vec<u8> {
    summed(head(b"././@LongLink", b'L', size as u64))
}

#[test]
fn what_stays_inside_is_taken_as_the_kernel_would_with_the_image_as_its_root() {
    for (about, archive, expected) in [
        ("an absolute name", member(b"/etc/evil", b'0', "", b"x"), &[("etc/evil", "644 0:0 file \"x\"")][..]),
        (
            "through a link out",
            [member(b"out", b'2', "../../../../etc", b""), member(b"out/evil", b'0', "", b"x")].concat(),
            &[("out", "644 0:0 -> ../../../../etc"), ("etc/evil", "644 0:0 file \"x\"")],
        ),
        (
            "of two entries of a name the last",
            [member(b"f", b'0', "", b"1"), member(b"f", b'2', "/etc/passwd", b""), member(b"f", b'0', "", b"3")]
                .concat(),
            &[("f", "644 0:0 file \"3\"")],
        ),
        (
            "a link over a directory, then below it",
            [member(b"d", b'5', "", b""), member(b"d", b'2', "/etc", b""), member(b"d/evil", b'0', "", b"x")].concat(),
            &[("d", "644 0:0 -> /etc"), ("etc/evil", "644 0:0 file \"x\"")],
        ),
        ("a device", member(b"disk", b'4', "", b""), &[("disk", "644 0:0 Device { block: true, major: 8, minor: 0 }")]),
    ] {
        for as_base in [false, true] {
            let listing = outcome(&ended(archive.clone()), as_base).unwrap_or_else(|said| panic!("{about}: {said}"));
            for (path, line) in expected {
                let path = if as_base { format!("/{path}") } else { format!("/un/{path}") };
                assert_eq!(
                    listing.get(&path).map(String::as_str),
                    Some(*line),
                    "{about}, base: {as_base}: {listing:#?}"
                );
            }
        }
    }
}

/// A gzip file of `start` and `megabytes` of zeros, as many members: `gzip` joins them just so.
fn bomb(start: &[u8], megabytes: usize) -> Vec<u8> {
    let packed = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    [packed(start), packed(&vec![0; 16 << 20]).repeat(megabytes / 16)].concat()
}

fn peak_memory_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

#[test]
fn ten_gigabytes_of_zeros_are_refused_without_disk_or_memory() {
    const TEN_GIB: u64 = 10 << 30;
    let mebibytes = 10 * 1024;
    // In a file, after the end of the archive, and as a header that is skipped.
    let size = pax(&[("size", &TEN_GIB.to_string())]);
    let file = bomb(&[size, member(b"zeros", b'0', "", b"")].concat(), mebibytes);
    let trailing = bomb(&ended(member(b"f", b'0', "", b"f")), mebibytes);
    assert!(file.len() < 12 << 20, "ten megabytes are enough for it");
    for bomb in [file, trailing] {
        for as_base in [false, true] {
            let said = outcome(&bomb, as_base).unwrap_err();
            assert!(said.ends_with("it holds more than 67108864 bytes when it is unpacked"), "{said}");
        }
    }
    let peak = peak_memory_bytes();
    assert!(peak < 300 << 20, "{peak} bytes");
}

#[test]
fn the_bound_of_an_archive_can_be_moved_and_is_named() {
    let archive = ended(member(b"f", b'0', "", &[1; 5000]));
    let build = |limit: u64| {
        let workplace = Workplace::new("FROM scratch\nADD a.tar /un/\n");
        fs::write(workplace.path("image/a.tar"), &archive).unwrap();
        workplace
            .build_as("result", |options| options.limits.archive_bytes = limit)
            .map(|built| built.listing().len())
            .map_err(|error| (error.to_string(), error.hint()))
    };
    assert_eq!(build(archive.len() as u64), Ok(2));
    let (said, hint) = build(4999).unwrap_err();
    assert!(said.ends_with("a.tar` cannot be unpacked"), "{said}");
    assert_eq!(hint.as_deref(), Some("if that is right, allow it with --max-archive SIZE"));
}

#[test]
fn the_bound_of_a_layer_can_be_moved_and_is_named() {
    let layer = ended(member(b"f", b'0', "", &[1; 5000]));
    let build = |limit: u64| {
        let workplace = Workplace::new("FROM below\nCOPY Dockerfile /un/\n");
        below(&workplace, layer.clone());
        let built = workplace.build_as("result", |options| {
            on_below(&workplace, options);
            options.limits.layer_bytes = limit;
        });
        built.map(|built| built.listing().len()).map_err(|error| error.hint())
    };
    assert_eq!(build(layer.len() as u64), Ok(3));
    assert_eq!(build(4999), Err(Some("if that is right, allow it with --max-layer SIZE".to_owned())));
}

#[test]
fn a_saved_image_that_is_a_bomb_is_refused() {
    // Zeros are no entries: the archive is empty, and says so.
    let workplace = Workplace::new("FROM below\n");
    let path = workplace.path("below.tar.gz");
    fs::write(&path, bomb(&ended(member(b"f", b'0', "", b"f")), 64)).unwrap();
    let (said, _) = workplace.refusal(|options| {
        let below = format!("oci-archive:{}", path.display()).parse().unwrap();
        options.contexts.insert("below".to_owned(), NamedContext::Image(below));
    });
    assert!(said.contains("there is no OCI layout"), "{said}");
    let names: Vec<u8> = (0..100)
        .flat_map(|number| {
            [
                pax(&[("SCHILY.xattr.user.x", &"x".repeat(1_000_000))]),
                member(format!("{number}").as_bytes(), b'0', "", b""),
            ]
            .concat()
        })
        .collect();
    fs::write(&path, ended(names)).unwrap();
    let (said, _) = workplace.refusal(|options| {
        let below = format!("docker-archive:{}", path.display()).parse().unwrap();
        options.contexts.insert("below".to_owned(), NamedContext::Image(below));
    });
    assert!(said.contains("more than 67108864 bytes of names"), "{said}");
}
