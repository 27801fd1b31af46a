use super::*;
use std::fs;
use std::os::unix::fs::symlink;

fn shared(root: &Path) -> Shared {
    // Nobody is dead, and no counter moves, within a test.
    let timing = Timing { lease: Duration::from_hours(1), ..Timing::default() };
    Shared { parent: root.join("above"), name: "id".to_owned(), sign: "venv", timing, instance: "C.1".to_owned() }
}

fn hold(shared: &Shared, cancel: &Cancel) -> Hold {
    match shared.acquire(&mut || Ok(()), &crate::Silent, cancel).unwrap() {
        Acquired::Held(hold, _) => hold,
        Acquired::Finished => panic!("nobody has finished it"),
    }
}

#[test]
fn what_is_there_is_read_for_what_it_is() {
    type Make = fn(&Path);
    let there = Reading { exists: true, ..Reading::default() };
    let opaque = Some(Syncing::Opaque);
    let cases: [(&str, Make, Reading); 9] = [
        ("nothing", |_| {}, Reading::default()),
        ("an empty directory", |path| fs::create_dir(path).unwrap(), there.clone()),
        ("a file", |path| fs::write(path, "").unwrap(), Reading { foreign: true, ..there.clone() }),
        ("a dangling link", |path| symlink("x", path).unwrap(), Reading { foreign: true, ..there.clone() }),
        ("an empty sign", |path| fs::create_dir_all(path.join("venv")).unwrap(), there.clone()),
        (
            "a finished tree without marks",
            |path| fs::create_dir_all(path.join("venv/main")).unwrap(),
            Reading { populated: true, ..there.clone() },
        ),
        (
            "something else",
            |path| fs::create_dir_all(path.join("photos")).unwrap(),
            Reading { foreign: true, ..there.clone() },
        ),
        (
            "an older image's mark",
            |path| {
                fs::create_dir(path).unwrap();
                fs::write(path.join(SYNCING), "").unwrap();
            },
            Reading { syncing: opaque.clone(), ..there.clone() },
        ),
        (
            "a mark that is a directory, takeovers, and completeness",
            |path| {
                for name in [SYNCING, ".takeover.2", ".takeover.11", ".takeover.x", SYNCED] {
                    fs::create_dir_all(path.join(name)).unwrap();
                }
            },
            Reading { syncing: opaque, synced: true, takeover: Some(11), ..there },
        ),
    ];
    for (what, make, reading) in cases {
        let root = tempfile::tempdir().unwrap();
        let shared = shared(root.path());
        fs::create_dir(&shared.parent).unwrap();
        make(&shared.path());
        assert_eq!(shared.read().unwrap(), reading, "{what}");
    }
}

#[test]
fn a_directory_that_appears_while_it_is_looked_for_is_nothing_foreign() {
    let root = tempfile::tempdir().unwrap();
    let shared = shared(root.path());
    let prepared = shared.parent.join("prepared");
    fs::create_dir_all(&prepared).unwrap();
    std::thread::scope(|scope| {
        let claims = scope.spawn(|| {
            for _ in 0..20_000 {
                fs::rename(&prepared, shared.path()).unwrap();
                fs::rename(shared.path(), &prepared).unwrap();
            }
        });
        while !claims.is_finished() {
            assert!(!shared.read().unwrap().foreign);
        }
    });
}

#[test]
fn of_two_claims_one_holds_and_the_other_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (shared, cancel) = (shared(root.path()), Cancel::new());
    let held = hold(&shared, &cancel);
    assert!(shared.claim(&cancel).unwrap().is_none());
    assert_eq!(shared.claims(), [""; 0]);
    held.check().unwrap();
    held.finish("").unwrap();
    assert!(shared.read().unwrap().synced);
    assert_eq!(fs::read_dir(shared.path()).unwrap().count(), 1, "the mark of completeness alone");
}

#[test]
fn a_refusal_counts_only_while_nobody_else_has_the_directory() {
    let root = tempfile::tempdir().unwrap();
    let (shared, cancel) = (shared(root.path()), Cancel::new());
    let refusal = || Err(Error::Foreign { path: "/venv/main".into() });
    let refused = shared.acquire(&mut { refusal }, &crate::Silent, &cancel);
    assert!(matches!(refused, Err(Error::Foreign { path }) if path == Path::new("/venv/main")));
    let mut filled_meanwhile = || {
        hold(&shared, &cancel).finish("")?;
        refusal()
    };
    assert!(matches!(shared.acquire(&mut filled_meanwhile, &crate::Silent, &cancel), Ok(Acquired::Finished)));
}

#[test]
fn what_is_dropped_or_cancelled_is_free_at_once() {
    let root = tempfile::tempdir().unwrap();
    let shared = shared(root.path());
    drop(hold(&shared, &Cancel::new()));
    let cancel = Cancel::new();
    let held = hold(&shared, &cancel);
    fs::write(shared.path().join(held.staging().unwrap()).join("file"), "half").unwrap();
    cancel.fire();
    assert!(matches!(held.publish(Path::new("file"), Path::new("file")), Err(Error::Lost { .. })));
    let next = hold(&shared, &Cancel::new());
    drop(held);
    next.check().unwrap();
    assert!(!shared.path().join("file").exists());
}

#[test]
fn an_owner_that_lost_can_neither_publish_nor_release_nor_finish() {
    let root = tempfile::tempdir().unwrap();
    let (shared, cancel) = (shared(root.path()), Cancel::new());
    let lost = hold(&shared, &cancel);
    fs::write(shared.path().join(lost.staging().unwrap()).join("file"), "half").unwrap();
    let seen = shared.read().unwrap();
    let Some(Syncing::Lease(lease)) = &seen.syncing else { panic!("{seen:?}") };
    let taker = shared.take_over(&seen, lease.generation, &cancel).unwrap().unwrap();
    assert!(matches!(lost.publish(Path::new("file"), Path::new("file")), Err(Error::Lost { .. })));
    assert!(matches!(lost.finish(""), Err(Error::Lost { .. })));
    taker.check().unwrap();
    let Some(Syncing::Lease(lease)) = shared.read().unwrap().syncing else { panic!("it is held") };
    assert_eq!((lease.generation, lease.released), (2, false));
    assert!(!shared.path().join(SYNCED).exists() && !shared.path().join("file").exists());
}

#[test]
fn nobody_takes_over_from_an_owner_that_has_moved_since_it_was_seen() {
    let root = tempfile::tempdir().unwrap();
    let (shared, cancel) = (shared(root.path()), Cancel::new());
    let held = hold(&shared, &cancel);
    let mut seen = shared.read().unwrap();
    if let Some(Syncing::Lease(lease)) = &mut seen.syncing {
        lease.counter = 1_000_000;
    }
    assert!(shared.take_over(&seen, 1, &cancel).unwrap().is_none());
    held.check().unwrap();
    assert_eq!(shared.read().unwrap().takeover, None, "it has withdrawn");
}
