//! Stage 65: Supervisor.

use std::path::PathBuf;

use crate::error::Error;
use crate::files;
use crate::process::Invocation;
use crate::root::Root;
use crate::stage::{Boot, Verdict};
use crate::supervisor::{CONFIG, SOCKET, Supervisor};

/// Exists while the instance is being set up; applications wait for it to go.
pub const PROVISIONING: &str = "/.provisioning";

/// Where it is installed: by the distribution, by pip, or in the tools' own environment of an external image.
const PROGRAMS: [&str; 3] = ["/usr/bin/supervisord", "/usr/local/bin/supervisord", "/opt/sys-venv/bin/supervisord"];

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    let marked = files::mark(&boot.root.join(PROVISIONING));
    let invocation = Invocation::new(program(&boot.root), boot.env.clone())
        .argument("-n")
        .argument("-c")
        .argument(boot.root.join(CONFIG))
        .directory(&boot.directory);
    match boot.runner.start(&invocation) {
        Ok(process) => boot.supervisor = Supervisor::child(process, boot.root.join(SOCKET), &boot.cancel),
        Err(error) => {
            boot.supervisor = Supervisor::Failed;
            return Err(error);
        }
    }
    marked.map(|()| Verdict::done())
}

fn program(root: &Root) -> PathBuf {
    let installed = PROGRAMS.iter().map(|program| root.join(program)).find(|program| program.exists());
    installed.unwrap_or_else(|| root.join("/usr/bin/supervisord"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use rustix::process::Signal;

    use super::super::s95_supervisor_wait;
    use super::super::testing::Fake;
    use super::*;
    use crate::supervisor::End;

    /// A Supervisor that writes down what it got, and what it does on SIGTERM.
    fn fake(script: &str) -> Fake {
        let fake = Fake::new();
        let program =
            fake.write("/usr/bin/supervisord", &format!("#!/bin/sh\nprintf '%s ' \"$@\" >{{}}/args\n{script}\n"));
        let text = fs::read_to_string(&program).unwrap().replace("{}", &fake.path("/").display().to_string());
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        fake
    }

    #[test]
    fn supervisor_runs_while_the_instance_is_set_up_and_its_status_is_the_boots() {
        let fake = fake(
            "test -e $0/../../../.provisioning; while [ -e ${0%/usr*}/.provisioning ]; do sleep 0.01; done; exit 3",
        );
        fake.boot(&[], |boot| {
            run(boot).unwrap();
            assert!(fake.path(PROVISIONING).exists());
            assert!(s95_supervisor_wait::run(boot).is_err());
            assert!(
                matches!(boot.supervisor.wait(&boot.cancel), End::Itself(Some(status)) if status.code() == Some(3))
            );
        });
        assert!(!fake.path(PROVISIONING).exists());
        let arguments = fake.read("/args");
        assert!(arguments.starts_with(&format!("-n -c {}", fake.path(CONFIG).display())), "{arguments}");
    }

    #[test]
    fn a_stop_is_passed_on_at_once_and_a_clean_end_is_success() {
        let fake = fake(
            "trap 'echo stopped >${0%/usr*}/stopped; exit 0' TERM; touch ${0%/usr*}/ready; while :; do sleep 0.01; done",
        );
        fake.boot(&[], |boot| {
            run(boot).unwrap();
            while !fake.path("/ready").exists() {
                std::thread::yield_now();
            }
            boot.cancel.fire(Signal::TERM);
            assert!(matches!(s95_supervisor_wait::run(boot), Ok(Verdict::Done(_))));
        });
        assert_eq!(fake.read("/stopped"), "stopped\n");
    }

    #[test]
    fn a_stop_that_comes_before_supervisor_can_be_stopped_is_no_failure() {
        let fake = fake("touch ${0%/usr*}/ready; while :; do sleep 0.01; done");
        fake.boot(&[], |boot| {
            run(boot).unwrap();
            while !fake.path("/ready").exists() {
                std::thread::yield_now();
            }
            boot.cancel.fire(Signal::TERM);
            assert!(matches!(s95_supervisor_wait::run(boot), Ok(Verdict::Done(_))));
        });
    }

    #[test]
    fn a_supervisor_that_is_not_there_is_an_error_and_the_container_stays() {
        let fake = Fake::new();
        fake.boot(&[], |boot| {
            assert!(matches!(run(boot), Err(Error::Run { .. })));
            boot.cancel.fire(Signal::TERM);
            assert_eq!(boot.supervisor.wait(&boot.cancel), End::Stopped);
        });
    }
}
