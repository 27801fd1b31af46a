//! `vast-sync environment` and `vast-sync home`, one instance at a time.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::command::{run, succeed, tool};
use crate::container::{
    Container, ID, Kind, assert_login_works, assert_moved, contents, give, interpreter, leftovers, resolve,
};
use crate::tree::listing;

#[test]
fn all_trees_move_and_the_second_run_is_quiet() {
    for kind in Kind::BOTH {
        let container = Container::new();
        let run = succeed(container.command(kind).arg("--json"));
        let done = run.event("done");
        assert_eq!(done["role"], "copied");
        assert!(done["trees"].as_array().unwrap().iter().all(|tree| tree["outcome"] == "linked"), "{done}");
        assert_moved(container.root(), kind, kind.name());
        assert_eq!(leftovers(&container.shared(kind)), [""; 0]);

        let before = listing(container.root());
        let again = succeed(&mut container.command(kind));
        assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("", ""));
        assert_eq!(listing(container.root()), before);
    }
}

#[test]
fn a_dry_run_says_what_would_happen_and_how_much_and_changes_nothing() {
    for kind in Kind::BOTH {
        let container = Container::new();
        let before = listing(container.root());
        let run = succeed(container.command(kind).arg("--dry-run"));
        for (path, to) in kind.trees() {
            let directory = kind.directory();
            assert!(run.stdout.contains(&format!("would copy `/{path}`: ")), "{run:?}");
            let link = format!("would replace `/{path}` by a link to `/workspace/{}/{to}`", directory.display());
            assert!(run.stdout.contains(&link), "{run:?}");
        }
        let plan = succeed(container.command(kind).args(["--dry-run", "--json"])).event("plan");
        assert_eq!(plan["volume"], "missing");
        assert!(plan["trees"][0]["entries"].as_u64().unwrap() > 1, "{plan}");
        assert_eq!(listing(container.root()), before);
        succeed(&mut container.command(kind));
        assert_eq!(succeed(container.command(kind).arg("--dry-run")).stdout, "");
    }
}

#[test]
fn a_second_instance_links_what_the_first_one_copied() {
    for kind in Kind::BOTH {
        let (first, second) = (Container::new(), Container::new());
        succeed(&mut first.command(kind));
        fs::remove_dir(second.path("workspace")).unwrap();
        fs::rename(first.path("workspace"), second.path("workspace")).unwrap();
        fs::write(second.path("root/.vast_containerlabel"), "C.2").unwrap();
        let run = succeed(second.command(kind).arg("--json"));
        assert_eq!(run.event("done")["role"], "none");
        assert_eq!(run.event("done")["entries"], 0);
        for (path, _) in kind.trees() {
            assert!(second.path(path).is_symlink(), "{path}");
        }
        if kind == Kind::Home {
            // Each instance has its own, by the same path.
            let label = resolve(second.root(), Path::new("/root/.vast_containerlabel"));
            assert_eq!(fs::read_to_string(label).unwrap(), "C.2");
            assert_login_works(second.root(), "the second instance");
        }
    }
}

#[test]
fn an_interpreter_that_does_not_run_on_the_volume_keeps_its_tree_in_the_container() {
    let container = Container::new();
    succeed(&mut container.command(Kind::Environment));
    let other = Container::new();
    fs::remove_dir(other.path("workspace")).unwrap();
    fs::rename(container.path("workspace"), other.path("workspace")).unwrap();
    // Another kind of machine, say.
    interpreter(&other.shared(Kind::Environment).join("venv/main/bin/python"), 126);
    let before = contents(&other.path("venv/main"));
    let run = run(other.command(Kind::Environment).arg("--json"));
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("`/venv/main` stays in the container"), "{run:?}");
    assert!(run.stderr.contains("exit status: 126"), "{run:?}");
    assert_eq!(contents(&other.path("venv/main")), before);
    // The others move all the same.
    assert!(other.path("venv/conda").is_symlink() && other.path(".uv").is_symlink());
}

#[test]
fn what_was_moved_can_be_brought_back() {
    for kind in Kind::BOTH {
        let container = Container::new();
        let before = contents(&container.path(kind.trees()[0].0));
        succeed(&mut container.command(kind));
        let restored = succeed(container.command(kind).args(["--undo", "--json"])).event("done")["restored"].clone();
        assert_eq!(restored.as_array().unwrap().len(), kind.trees().len());
        for (path, _) in kind.trees() {
            assert!(container.path(path).symlink_metadata().unwrap().is_dir(), "{path}");
        }
        if kind == Kind::Environment {
            assert_eq!(contents(&container.path(kind.trees()[0].0)), before);
        } else {
            assert_login_works(container.root(), "brought back");
        }
        // And moved again, keys and all.
        succeed(&mut container.command(kind));
        assert_moved(container.root(), kind, "again");
    }
}

#[test]
fn an_older_images_finished_tree_is_accepted_and_marked() {
    for kind in Kind::BOTH {
        let container = Container::new();
        succeed(&mut container.command(kind));
        let other = Container::new();
        fs::remove_dir(other.path("workspace")).unwrap();
        fs::rename(container.path("workspace"), other.path("workspace")).unwrap();
        fs::remove_file(other.shared(kind).join(".synced")).unwrap();
        succeed(&mut other.command(kind));
        assert!(other.shared(kind).join(".synced").exists());
        for (path, _) in kind.trees() {
            assert!(other.path(path).is_symlink(), "{path}");
        }
    }
}

#[test]
fn an_older_images_mark_is_waited_for_until_the_bound_and_nothing_is_linked() {
    for kind in Kind::BOTH {
        let container = Container::new();
        let shared = container.shared(kind);
        fs::create_dir_all(shared.join(kind.trees()[0].1)).unwrap();
        fs::write(shared.join(kind.trees()[0].1).join("partial"), "").unwrap();
        fs::write(shared.join(".syncing"), "").unwrap();
        let before = listing(container.root());
        // Many leases long.
        let run = run(container.command(kind).args(["--wait", "1"]));
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains("is not complete after 1 s"), "{run:?}");
        assert!(run.stderr.contains("hint: if no instance is filling it any more, remove"), "{run:?}");
        assert_eq!(listing(container.root()), before);
    }
}

#[test]
fn a_directory_that_is_not_ours_is_refused_at_once() {
    let container = Container::new();
    fs::create_dir_all(container.path("workspace/home/photos")).unwrap();
    let before = listing(container.root());
    let run = run(&mut container.command(Kind::Home));
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("hint: rename `"), "{run:?}");
    assert_eq!(listing(container.root()), before);
}

#[test]
fn a_link_to_a_volume_that_is_not_there_is_said() {
    for kind in Kind::BOTH {
        let container = Container::new();
        succeed(&mut container.command(kind));
        fs::rename(container.path("workspace"), container.path("elsewhere")).unwrap();
        fs::create_dir(container.path("workspace")).unwrap();
        let run = run(&mut container.command(kind));
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains("which is not there"), "{run:?}");
        if kind == Kind::Environment {
            assert_eq!(fs::read_dir(container.path("workspace")).unwrap().count(), 0);
        }
    }
}

#[test]
fn the_id_is_a_single_name() {
    let container = Container::new();
    for id in ["../up", "a/b", ".hidden", "", "x y"] {
        let run = run(container.command(Kind::Environment).arg("--id").arg(id));
        assert_eq!(run.code, Some(2), "{id}: {run:?}");
        assert!(run.stderr.contains("is no id of an environment"), "{run:?}");
    }
    succeed(container.command(Kind::Environment).env("ENV_ID", "of-the-variable"));
    assert!(container.path("workspace/.environment_sync/of-the-variable/.synced").exists());
    fs::remove_file(container.path(".env_hash")).unwrap();
    let run = run(&mut container.command(Kind::Environment));
    assert!(run.stderr.contains("has no id") && run.stderr.contains("hint: run `env-hash > /.env_hash`"), "{run:?}");
}

#[test]
fn what_is_no_environment_and_what_the_user_linked_is_left_alone() {
    let container = Container::new();
    fs::remove_dir_all(container.path(".uv")).unwrap();
    symlink("/somewhere", container.path(".uv")).unwrap();
    fs::remove_dir_all(container.path("home/user")).unwrap();
    symlink("/workspace/mine", container.path("home/user")).unwrap();
    succeed(&mut container.command(Kind::Environment));
    succeed(&mut container.command(Kind::Home));
    assert_eq!(fs::read_link(container.path(".uv")).unwrap(), Path::new("/somewhere"));
    assert_eq!(fs::read_link(container.path("home/user")).unwrap(), Path::new("/workspace/mine"));
    assert!(container.path("venv/data").symlink_metadata().unwrap().is_dir(), "no interpreter, no environment");
    assert!(!container.path("workspace/.environment_sync").join(ID).join("uv").exists());
}

#[test]
fn a_tree_that_the_volume_was_filled_without_stays_in_the_container() {
    let container = Container::new();
    succeed(&mut container.command(Kind::Home));
    fs::create_dir(container.path("home/late")).unwrap();
    let run = succeed(&mut container.command(Kind::Home));
    assert_eq!(run.stdout, "`/home/late` stays in the container: the volume was filled without it\n");
    assert!(container.path("home/late").symlink_metadata().unwrap().is_dir());
}

#[test]
fn keys_that_an_older_image_left_on_the_volume_do_not_decide_who_gets_in() {
    let first = Container::new();
    succeed(&mut first.command(Kind::Home));
    let second = Container::new();
    fs::remove_dir(second.path("workspace")).unwrap();
    fs::rename(first.path("workspace"), second.path("workspace")).unwrap();
    let home = second.shared(Kind::Home).join("root");
    fs::remove_file(home.join(".ssh")).unwrap();
    fs::create_dir(home.join(".ssh")).unwrap();
    fs::write(home.join(".ssh/authorized_keys"), "somebody else's\n").unwrap();
    succeed(&mut second.command(Kind::Home));
    assert_login_works(second.root(), "keys on the volume");
    assert_eq!(fs::read_to_string(home.join(".ssh.volume.1/authorized_keys")).unwrap(), "somebody else's\n");
}

#[test]
fn a_home_whose_keys_are_elsewhere_stays_in_the_container() {
    let container = Container::new();
    fs::rename(container.path("home/user/.ssh"), container.path("home/user/keys")).unwrap();
    symlink("keys", container.path("home/user/.ssh")).unwrap();
    let run = run(&mut container.command(Kind::Home));
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("home/user/.ssh` is not a directory"), "{run:?}");
    assert_login_works_at(&container, "home/user/.ssh/authorized_keys");
    assert!(container.path("root").is_symlink(), "the other home moves");
}

#[track_caller]
fn assert_login_works_at(container: &Container, path: &str) {
    assert_eq!(fs::read_to_string(container.path(path)).unwrap(), "authorized_keys of home/user\n");
}

#[test]
fn a_user_without_keys_gets_a_place_for_them() {
    let container = Container::new();
    fs::create_dir(container.path("home/other")).unwrap();
    give(&container.path("home/other"), 1002);
    succeed(&mut container.command(Kind::Home));
    let kept = container.path("home_ssh/other/.ssh");
    let listed = tool("stat", ["-c", "%a %u", kept.to_str().unwrap()]);
    assert_eq!(listed.trim(), "700 1002");
}

#[test]
fn progress_and_errors_are_events_when_asked_for() {
    let container = Container::new();
    let run = succeed(container.command(Kind::Environment).arg("--json"));
    assert!(run.event("start")["entries"].as_u64().unwrap() > 20, "{run:?}");
    assert_eq!(run.stderr, "");
}
