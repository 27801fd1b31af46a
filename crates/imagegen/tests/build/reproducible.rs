//! One input, one digest.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use vast_imagegen::layer::Compression;

use super::support::Workplace;

fn workplace() -> Workplace {
    let big = (0..200_000).map(|number: u32| number.to_string()).collect::<Vec<_>>().join("\n");
    Workplace::new("FROM scratch\nCOPY ./ROOT /\nWORKDIR /opt/app\nRUN env-hash > /.env_hash\nCMD [\"/x\"]\n")
        .file("ROOT/etc/b", "b")
        .file("ROOT/etc/a", "a")
        .file("ROOT/big", &big)
        .program("ROOT/opt/x.sh")
        .link("ROOT/etc/link", "a")
}

#[test]
fn place_umask_times_and_threads_do_not_change_the_digest() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let build = |workplace: &Workplace, threads| {
            workplace
                .build_as("result", |options| {
                    options.threads = threads;
                    options.compression = compression;
                })
                .unwrap()
                .digest
        };
        let one = build(&workplace(), 1);
        assert_eq!(build(&workplace(), 2), one);
        let private = workplace();
        for (path, mode) in
            [("ROOT/etc", 0o700), ("ROOT/etc/a", 0o600), ("ROOT/etc/b", 0o666), ("ROOT/opt/x.sh", 0o700)]
        {
            fs::set_permissions(private.path("image").join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        let file = fs::File::open(private.path("image/ROOT/etc/a")).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(build(&private, 7), one);
    }
}

#[test]
fn content_modes_and_epoch_do() {
    let digest = |workplace: Workplace, epoch: i64| {
        workplace.build_as("result", |options| options.epoch = epoch).unwrap().digest
    };
    let one = digest(workplace(), 1000);
    assert_ne!(digest(workplace().file("ROOT/etc/a", "A"), 1000), one);
    assert_ne!(digest(workplace().program("ROOT/etc/b"), 1000), one);
    assert_ne!(digest(workplace(), 1001), one);
}

#[test]
fn layers_have_one_diff_id_whatever_their_compression() {
    let ids = |compression| {
        let workplace = workplace();
        let built = workplace.build_as("result", |options| options.compression = compression).unwrap();
        built.config()["rootfs"]["diff_ids"].clone()
    };
    assert_eq!(ids(Compression::Gzip), ids(Compression::Zstd));
}
