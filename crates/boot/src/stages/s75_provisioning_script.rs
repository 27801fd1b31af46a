//! Stage 75: `PROVISIONING_SCRIPT`, until it succeeded once.

use std::time::{Duration, Instant};

use crate::env_vars;
use crate::error::Error;
use crate::files;
use crate::script;
use crate::stage::{Boot, Verdict};
use crate::supervisor::{CONFIG, SOCKET, states};

const KEPT: &str = "/provisioning.sh";
/// What the script said.
pub const LOG: &str = "/var/log/portal/provisioning.log";

const COMPLETE: &str = "/.provisioning_complete";

/// The script failed on this boot.
pub const FAILED: &str = "/.provisioning_failed";

/// How long a script waits for Supervisor, which starts in less than a second on any machine that is not in trouble.
const SUPERVISOR_LIMIT: Duration = Duration::from_secs(10);

/// How long one question waits for its answer: a stop is not heard meanwhile.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// How often Supervisor is asked meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

const MANIFEST: &str = "/provisioning.yaml";

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    let manifest = manifest(boot);
    let also = |text: String| manifest.map_or(text.clone(), |note| format!("{text}; {note}"));
    let Some(address) = boot.env.non_empty(env_vars::PROVISIONING_SCRIPT) else {
        // A manifest alone asked for something that does not happen: that is giving up, not having nothing to do, and the sequence says so.
        return Ok(manifest.map_or(Verdict::skipped("no PROVISIONING_SCRIPT"), |note| Verdict::GaveUp(note.to_owned())));
    };
    if let Some(note) = manifest {
        boot.say(&format!("75-provisioning-script.sh: {note}"));
    }
    if boot.root.join(COMPLETE).exists() {
        return Ok(Verdict::Skipped(also("done on an earlier boot".to_owned())));
    }
    files::unmark(&boot.root.join(FAILED))?;
    let ran = script::obtain(boot, address, KEPT).and_then(|script| {
        await_supervisor(boot);
        boot.say(&format!("provisioning with {}", script.shown));
        script::run(boot, &script, Some(LOG))?;
        Ok(script.shown)
    });
    match ran {
        Ok(shown) => {
            files::mark(&boot.root.join(COMPLETE))?;
            Ok(Verdict::said(also(format!("ran {shown}"))))
        }
        // Neither done nor failed: the next boot runs it again.
        Err(Error::Cancelled) => Err(Error::Cancelled),
        Err(error) => {
            files::mark(&boot.root.join(FAILED))?;
            Err(error)
        }
    }
}

/// Scripts register their programs with `supervisorctl`, which fails while Supervisor is still starting.
fn await_supervisor(boot: &Boot<'_>) {
    let expected = boot.supervisor.pid().is_some() && boot.root.join(CONFIG).exists();
    let (socket, deadline) = (boot.root.join(SOCKET), Instant::now() + SUPERVISOR_LIMIT);
    while expected && states::pid(&socket, ANSWER_LIMIT).is_err() {
        if Instant::now() >= deadline {
            boot.say("Supervisor does not answer; provisioning goes on without it");
            return;
        }
        if boot.cancel.sleep(LOOK_AGAIN) {
            return;
        }
    }
}

/// What to say about a declarative description, when there is one.
fn manifest(boot: &Boot<'_>) -> Option<&'static str> {
    if boot.env.non_empty(env_vars::PROVISIONING_MANIFEST).is_some() {
        Some("PROVISIONING_MANIFEST is set, but this version does not run manifests")
    } else if boot.root.join(MANIFEST).exists() {
        Some("/provisioning.yaml is there, but this version does not run manifests")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use sha2::{Digest, Sha256};
    use vast_testkit::web::{Answer, Server};

    use super::super::testing::Fake;
    use super::*;

    /// A server that answers with this, and an address on it with a secret.
    fn serve(status: &str, body: &str) -> (Server, String) {
        let server = Server::sequence(vec![Answer::new(status, "", body)]);
        let url = server.url("/p.sh?token=secret-in-query");
        (server, url)
    }

    fn provision(fake: &Fake, address: &str) -> Result<Verdict, Error> {
        fake.run(run, &[("PROVISIONING_SCRIPT", address), ("WHO", "boot")])
    }

    fn markers(fake: &Fake) -> [bool; 2] {
        [COMPLETE, FAILED].map(|marker| fake.path(marker).exists())
    }

    #[test]
    fn a_script_runs_by_its_first_line_once_it_succeeded() {
        let fake = Fake::new();
        let (_server, url) =
            serve("200 OK", "#!/bin/sh\r\necho \"hello $WHO from $0\"\r\ntest -z \"$BASH_VERSION\"\r\n");
        let verdict = provision(&fake, &url).unwrap();
        let Verdict::Done(Some(message)) = verdict else { panic!("{verdict:?}") };
        assert!(!message.contains("secret-in-query"), "{message}");
        assert_eq!(fake.read(LOG), format!("hello boot from {}\n", fake.path(KEPT).display()));
        assert_eq!(markers(&fake), [true, false]);
        assert_eq!(provision(&fake, &url).unwrap(), Verdict::skipped("done on an earlier boot"));
    }

    #[test]
    fn a_failure_is_marked_and_the_next_boot_tries_again() {
        let fake = Fake::new();
        let (_server, url) = serve("200 OK", "echo to both; echo error >&2; exit 4");
        let error = provision(&fake, &url).unwrap_err();
        assert!(error.to_string().ends_with("` exited with 4"), "{error}");
        assert_eq!(fake.read(LOG), "to both\nerror\n");
        assert_eq!(markers(&fake), [false, true]);
        let (_server, url) = serve("200 OK", "true");
        provision(&fake, &url).unwrap();
        assert_eq!(markers(&fake), [true, false]);
    }

    #[test]
    fn what_is_no_script_or_not_the_promised_one_is_never_run() {
        let digest = hex::encode(Sha256::digest("touch ran"));
        for (status, body, fragment, reason) in [
            ("200 OK", "<!DOCTYPE html>", String::new(), "it is an HTML page"),
            ("404 Not Found", "touch ran", String::new(), "the server answered 404"),
            ("200 OK", "touch ran; true", format!("#sha256={digest}"), "its SHA-256 is "),
            ("200 OK", "touch ran", "#sha256=12".to_owned(), "the checksum after"),
        ] {
            let fake = Fake::new();
            let (_server, url) = serve(status, body);
            let address = format!("{url}{fragment}");
            let error = provision(&fake, &address).unwrap_err();
            assert!(error.chain().contains(reason), "{}", error.chain());
            assert!(!error.chain().contains("secret-in-query"), "{}", error.chain());
            assert_eq!(markers(&fake), [false, true]);
            assert!(!fake.path("/ran").exists());
        }
        let fake = Fake::new();
        let error = provision(&fake, "/no/such/file.sh").unwrap_err();
        assert!(error.chain().contains("the file cannot be read: No such file"), "{}", error.chain());
        let (_server, url) = serve("200 OK", "touch ran");
        provision(&fake, &format!("{url}#sha256={digest}")).unwrap();
        assert!(fake.path("/ran").exists());
    }

    #[test]
    fn a_local_script_stays_where_it_is_when_it_can_run_there() {
        let fake = Fake::new();
        let path = fake.write("/workspace/p.sh", "#!/bin/sh\necho $0\n");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        provision(&fake, "/workspace/p.sh").unwrap();
        assert_eq!(fake.read(LOG), format!("{}\n", path.display()));
        assert!(!fake.path(KEPT).exists());
    }

    #[test]
    fn an_interpreter_that_is_missing_is_a_failure_with_a_hint() {
        let fake = Fake::new();
        let (_server, url) = serve("200 OK", "#!/no/such/interpreter\n");
        let error = provision(&fake, &url).unwrap_err();
        assert!(error.hint().unwrap().contains("interpreter"));
        assert_eq!(markers(&fake), [false, true]);
    }

    #[test]
    fn a_stop_leaves_no_marker() {
        let fake = Fake::new();
        fake.write("/p.sh", "sleep 600");
        fake.boot(&[("PROVISIONING_SCRIPT", "/p.sh")], |boot| {
            boot.cancel.fire(rustix::process::Signal::TERM);
            assert!(matches!(run(boot), Err(Error::Cancelled)));
        });
        assert_eq!(markers(&fake), [false, false]);
    }

    #[test]
    fn a_stop_is_heard_while_supervisor_does_not_answer() {
        let fake = Fake::new();
        fake.write("/p.sh", "sleep 600");
        fake.write(CONFIG, "");
        fs::create_dir_all(fake.path(SOCKET).parent().unwrap()).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(fake.path(SOCKET)).unwrap();
        fake.boot(&[("PROVISIONING_SCRIPT", "/p.sh")], |boot| {
            boot.supervisor = crate::supervisor::Supervisor::Foreign(rustix::process::getpid());
            let cancel = boot.cancel.clone();
            // It takes the question, and that is all.
            let asked = std::thread::spawn(move || {
                let taken = socket.accept();
                cancel.fire(rustix::process::Signal::TERM);
                (socket, taken)
            });
            assert!(matches!(run(boot), Err(Error::Cancelled)));
            drop(asked.join().unwrap());
        });
        assert!(!fake.said().contains("does not answer"), "it was waited for to the end: {}", fake.said());
        assert_eq!(markers(&fake), [false, false]);
    }

    #[test]
    fn a_manifest_is_said_and_recorded() {
        let fake = Fake::new();
        fake.write("/provisioning.yaml", "");
        assert!(matches!(fake.run(run, &[]).unwrap(), Verdict::GaveUp(_)));
        fake.write("/p.sh", "true");
        let verdict = fake.run(run, &[("PROVISIONING_MANIFEST", "x"), ("PROVISIONING_SCRIPT", "/p.sh")]).unwrap();
        assert!(matches!(verdict, Verdict::Done(Some(message)) if message.contains("PROVISIONING_MANIFEST")));
        assert!(fake.said().contains("does not run manifests"));
        assert_eq!(Fake::new().run(run, &[]).unwrap(), Verdict::skipped("no PROVISIONING_SCRIPT"));
    }
}
